//! Names that say nothing. What has no better name than these has no place of its own.

use crate::repository::SourceFile;
use crate::tokens::tokens;

/// Never a name, nor the last word of one.
const EMPTY_WORDS: &[&str] =
    &["util", "utils", "helper", "helpers", "common", "misc", "manager", "managers", "stuff"];

/// Never a whole name; as a last word they can mean something.
const EMPTY_NAMES: &[&str] = &["types", "handler2", "lib2"];

/// Files that may have such a name, each with its reason.
const EXCEPTIONS: &[(&str, &str)] =
    &[("service/src/raft/types.rs", "it declares the type configuration that openraft is generic over")];

/// Files, folders of sources and inline modules whose name says nothing.
pub(crate) fn violations(files: &[SourceFile]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        if !EXCEPTIONS.iter().any(|(path, _)| *path == file.path) {
            let segments = file.path.trim_end_matches(".rs").split('/');
            found.extend(
                segments.filter(|name| says_nothing(name)).map(|name| format!("{}: {name}", file.path)),
            );
        }
        let tokens = tokens(&file.text);
        for three in tokens.windows(3) {
            // A module in a file of its own is judged by that file's path.
            if three[0].text == "mod" && three[2].text == "{" && says_nothing(three[1].text) {
                found.push(format!("{}:{}: mod {}", file.path, three[1].line, three[1].text));
            }
        }
    }
    found
}

fn says_nothing(name: &str) -> bool {
    let last_word = name.rsplit(['_', '-']).next().unwrap_or(name);
    EMPTY_NAMES.contains(&name) || EMPTY_WORDS.contains(&last_word)
}

#[cfg(test)]
mod tests {
    use super::violations;
    use crate::repository::SourceFile;

    #[test]
    fn files_folders_and_modules_without_a_meaning_are_caught() {
        for path in
            ["service/src/utils.rs", "tests/tests/common/mod.rs", "a/src/lock_manager.rs", "a/src/types.rs"]
        {
            assert_eq!(violations(&[SourceFile::new(path, "")]).len(), 1, "{path}");
        }
        let inline = SourceFile::new("a/src/lib.rs", "mod test_helpers { }");
        assert_eq!(violations(&[inline]), ["a/src/lib.rs:1: mod test_helpers"]);
    }

    #[test]
    fn names_of_the_field_pass() {
        for path in
            ["service/src/raft/types.rs", "a/src/content_types.rs", "a/src/lock.rs", "docs/common/notes.txt"]
        {
            assert_eq!(violations(&[SourceFile::new(path, "mod tests { }")]), Vec::<String>::new(), "{path}");
        }
    }
}
