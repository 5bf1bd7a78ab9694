//! The tables of bounds in the guarantees page say what the source says: every value is that of the constant or flag
//! that its row names, and no limit is left out.

use crate::repository::SourceFile;

/// The page.
const PAGE: &str = "docs/guarantees.md";
/// Where its tables begin.
const HEADING: &str = "## Bounds";

/// A bound as the page or the source gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    Count(u64),
    Bytes(u64),
    Milliseconds(u64),
}

/// A row of a table.
struct Row<'a> {
    line: usize,
    value: &'a str,
    /// The constants and flags that set it.
    set_by: Vec<&'a str>,
}

/// A constant with a number.
struct Constant<'a> {
    file: &'a SourceFile,
    name: &'a str,
    duration: bool,
    expression: &'a str,
}

/// Every row that differs from the source, and every constant of a `limits.rs` without a row.
pub(crate) fn violations(files: &[SourceFile]) -> Vec<String> {
    let Some(page) = files.iter().find(|file| file.path == PAGE) else {
        return vec![format!("{PAGE}: is missing")];
    };
    let constants: Vec<Constant<'_>> =
        files.iter().filter(|file| file.is_rust()).flat_map(constants).collect();
    let rows = rows(&page.text);
    let mut found = Vec::new();
    for row in &rows {
        for place in &row.set_by {
            if let Err(why) = check(row, place, &constants, files) {
                found.push(format!("{PAGE}:{}: {place}: {why}", row.line));
            }
        }
    }
    let limits = constants.iter().filter(|constant| constant.file.path.ends_with("/limits.rs"));
    let left_out = limits
        .filter(|constant| !rows.iter().flat_map(|row| &row.set_by).any(|place| names(place, constant)));
    found.extend(left_out.map(|c| format!("{}: {} has no row in {PAGE}", c.file.path, c.name)));
    found
}

/// The rows below the heading that have four cells, the lines between heading and body left out.
fn rows(page: &str) -> Vec<Row<'_>> {
    let lines = (1..).zip(page.lines()).skip_while(|(_, line)| *line != HEADING);
    let cells = lines.filter_map(|(line, text)| {
        let row = text.strip_prefix('|')?.strip_suffix('|')?;
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        match cells.as_slice() {
            [_, value, set_by, _] if !value.starts_with("--") && *value != "value" => {
                Some((line, *value, *set_by))
            }
            _ => None,
        }
    });
    cells.map(|(line, value, set_by)| Row { line, value, set_by: places(set_by) }).collect()
}

/// The constants and flags among the code spans of a cell.
fn places(cell: &str) -> Vec<&str> {
    let spans = cell.split('`').skip(1).step_by(2);
    let is_constant = |span: &str| {
        span.rsplit_once("::")
            .is_some_and(|(_, name)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
    };
    spans.filter(|span| is_constant(span) || span.starts_with("--")).collect()
}

fn check(row: &Row<'_>, place: &str, constants: &[Constant<'_>], files: &[SourceFile]) -> Result<(), String> {
    let told = told(row.value).ok_or_else(|| format!("{:?} is not a number with a unit", row.value))?;
    let set = match place.strip_prefix("--") {
        Some(flag) => default_of(flag, files),
        None => {
            let named: Vec<&Constant<'_>> = constants.iter().filter(|c| names(place, c)).collect();
            match named.as_slice() {
                [one] => bound_of(one, constants),
                [] => return Err("there is no such constant".to_owned()),
                [..] => return Err("there are several such constants".to_owned()),
            }
        }
    };
    match set {
        Some(set) if set == told => Ok(()),
        Some(set) => Err(format!("the page says {told:?}, the source {set:?}")),
        None => Err("its value cannot be read".to_owned()),
    }
}

/// A number with an optional unit, such as `4,096`, `1 MiB` or `24 h`.
fn told(text: &str) -> Option<Bound> {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let number: u64 = number.replace(',', "").parse().ok()?;
    Some(match unit {
        "" => Bound::Count(number),
        "bytes" => Bound::Bytes(number),
        "KiB" => Bound::Bytes(number << 10),
        "MiB" => Bound::Bytes(number << 20),
        "GiB" => Bound::Bytes(number << 30),
        "ms" => Bound::Milliseconds(number),
        "s" => Bound::Milliseconds(number * 1_000),
        "min" => Bound::Milliseconds(number * 60_000),
        "h" => Bound::Milliseconds(number * 3_600_000),
        "days" => Bound::Milliseconds(number * 86_400_000),
        _ => return None,
    })
}

/// The constants of a file, each on a line of its own.
fn constants(file: &SourceFile) -> impl Iterator<Item = Constant<'_>> {
    file.text.lines().filter_map(move |line| {
        let (before, rest) = line.trim_start().split_once("const ")?;
        if !(before.is_empty() || before.starts_with("pub")) {
            return None;
        }
        let (name, rest) = rest.split_once(": ")?;
        let (of_type, rest) = rest.split_once(" = ")?;
        let expression = rest.strip_suffix(';')?;
        let duration = of_type.ends_with("Duration");
        let number = matches!(of_type, "u8" | "u16" | "u32" | "u64" | "usize");
        (duration || number).then_some(Constant { file, name, duration, expression })
    })
}

/// Whether a path such as `core::limits::KEY_BYTES_MAX` names this constant: it ends the path of its module.
fn names(place: &str, constant: &Constant<'_>) -> bool {
    let Some((module, name)) = place.rsplit_once("::") else { return false };
    let path = constant.file.path.trim_end_matches(".rs").replace("/src/", "/");
    let path = path.trim_end_matches("/mod").trim_end_matches("/lib").replace('/', "::");
    name == constant.name && format!("::{path}").ends_with(&format!("::{module}"))
}

fn bound_of(constant: &Constant<'_>, constants: &[Constant<'_>]) -> Option<Bound> {
    let number = evaluate(constant.expression, constant.file, constants)?;
    let words: Vec<&str> = constant.name.split('_').collect();
    Some(if constant.duration || words.contains(&"MS") {
        Bound::Milliseconds(number)
    } else if words.contains(&"BYTES") {
        Bound::Bytes(number)
    } else {
        Bound::Count(number)
    })
}

/// The value of what limits are written as; milliseconds for a duration.
fn evaluate(expression: &str, file: &SourceFile, constants: &[Constant<'_>]) -> Option<u64> {
    let expression = expression.trim();
    for (operator, apply) in [
        (" - ", u64::checked_sub as fn(u64, u64) -> Option<u64>),
        (" << ", |a, b| a.checked_shl(u32::try_from(b).ok()?)),
        (" * ", u64::checked_mul),
    ] {
        if let Some((left, right)) = expression.split_once(operator) {
            return apply(evaluate(left, file, constants)?, evaluate(right, file, constants)?);
        }
    }
    if let Some((function, argument)) = expression.strip_suffix(')').and_then(|call| call.split_once('(')) {
        let number = evaluate(argument, file, constants)?;
        return match function.rsplit("::").next()? {
            "from_secs" => number.checked_mul(1_000),
            "from_millis" => Some(number),
            _ => None,
        };
    }
    expression.replace('_', "").parse().ok().or_else(|| {
        let same = constants.iter().find(|c| c.name == expression && c.file.path == file.path)?;
        evaluate(same.expression, file, constants)
    })
}

/// The default that a flag's help names.
fn default_of(flag: &str, files: &[SourceFile]) -> Option<Bound> {
    let attribute = format!("long = \"{flag}\"");
    files.iter().filter(|file| file.is_rust() && file.path != "tests/tests/tidy/bounds.rs").find_map(|file| {
        let (before, _) = file.text.split_once(&attribute)?;
        let (_, default) = before.lines().rev().nth(1)?.split_once("[default: ")?;
        let number = default.strip_suffix(']')?.parse().ok()?;
        let milliseconds = flag.split('-').any(|word| word == "ms");
        Some(if milliseconds { Bound::Milliseconds(number) } else { Bound::Count(number) })
    })
}

#[cfg(test)]
mod tests {
    use super::violations;
    use crate::repository::SourceFile;

    const LIMITS: &str = "pub const FRAME_BYTES_MAX: usize = 8 << 20;\n\
        pub(crate) const CALL_BYTES_MAX: usize = FRAME_BYTES_MAX - 64;\n\
        pub const TTL_MS_MAX: u64 = 3_600_000;\n\
        pub(super) const STALL: std::time::Duration = Duration::from_secs(10);\n\
        pub const KINDS: [u8; 2] = [1, 2];\n";
    const FLAGS: &str =
        "    /// Between heartbeats [default: 100]\n    #[arg(long = \"beat-ms\", env = \"B\")]\n";

    fn check(rows: &str) -> Vec<String> {
        let page = format!(
            "| a | 1 | `x::NOT_HERE` | |\n## Bounds\n| bound | value | set by | at |\n|---|---|---|---|\n{rows}"
        );
        violations(&[
            SourceFile::new("docs/guarantees.md", &page),
            SourceFile::new("service/src/peer/limits.rs", LIMITS),
            SourceFile::new("service/src/args.rs", FLAGS),
        ])
    }

    const ALL: &str = "| a | 8 MiB | `peer::limits::FRAME_BYTES_MAX` | closed |\n\
        | b | 8,388,544 bytes | `peer::limits::CALL_BYTES_MAX` | |\n\
        | c | 1 h | setting `ttl`: `limits::TTL_MS_MAX` | |\n\
        | d | 10 s | `limits::STALL` | |\n\
        | e | 100 ms | `--beat-ms` | |\n\
        | f | as long as it takes | | |\n";

    #[test]
    fn a_page_that_says_what_the_source_says_is_fine() {
        assert_eq!(check(ALL), Vec::<String>::new());
    }

    #[test]
    fn a_value_that_differs_is_caught() {
        for (right, wrong) in [
            ("8 MiB", "8 KiB"),
            ("544 bytes", "545 bytes"),
            ("1 h", "60 s"),
            ("10 s", "10"),
            ("100 ms", "101 ms"),
        ] {
            assert_eq!(check(&ALL.replace(right, wrong)).len(), 1, "{wrong}");
        }
        assert_eq!(check(&ALL.replace("10 s", "ten seconds")).len(), 1);
    }

    #[test]
    fn a_constant_or_flag_that_is_not_there_is_caught() {
        assert_eq!(check(&format!("{ALL}| g | 1 s | `limits::GONE` | |\n")).len(), 1);
        assert_eq!(check(&format!("{ALL}| g | 1 s | `other::STALL` | |\n")).len(), 1);
        assert_eq!(check(&format!("{ALL}| g | 1 s | `--no-such-flag` | |\n")).len(), 1);
    }

    #[test]
    fn a_limit_without_a_row_is_caught() {
        let without = ALL.replace("`limits::STALL`", "");
        assert_eq!(check(&without), ["service/src/peer/limits.rs: STALL has no row in docs/guarantees.md"]);
    }
}
