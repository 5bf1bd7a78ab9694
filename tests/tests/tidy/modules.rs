//! Which files the compiler reads: every Rust file is reached from a crate root by `mod` lines, and every `mod`
//! line leads to a tracked file. A file that nobody compiles looks like code and is none.

use crate::repository::SourceFile;
use crate::tokens::{Token, tokens};
use std::collections::{BTreeMap, BTreeSet};

/// Rust files that no crate contains, and modules whose file is not tracked.
pub(crate) fn violations(files: &[SourceFile], crate_roots: &[String]) -> Vec<String> {
    let texts: BTreeMap<&str, &str> = files
        .iter()
        .filter(|file| file.is_rust())
        .map(|file| (file.path.as_str(), file.text.as_str()))
        .collect();
    let mut found = Vec::new();
    let mut reached = BTreeSet::new();
    let mut waiting: Vec<(String, String)> =
        crate_roots.iter().map(|root| (root.clone(), parent(root).to_owned())).collect();
    while let Some((path, folder)) = waiting.pop() {
        let Some(text) = texts.get(path.as_str()) else {
            found.push(format!("{path}: a crate root that is not tracked"));
            continue;
        };
        if !reached.insert(path.clone()) {
            continue;
        }
        let tokens = tokens(text);
        if tokens.windows(3).any(|three| texts_are(three, ["#", "[", "path"])) {
            found.push(format!("{path}: #[path]: a module's file has the module's name"));
        }
        for module in declared_modules(&tokens) {
            let stem = format!("{folder}/{module}");
            let candidates = [format!("{stem}.rs"), format!("{stem}/mod.rs")];
            match candidates.into_iter().find(|candidate| texts.contains_key(candidate.as_str())) {
                Some(file) => waiting.push((file, stem)),
                None => found.push(format!("{path}: mod {module}: its file is not tracked")),
            }
        }
    }
    let orphans = texts.keys().filter(|path| !reached.contains(**path));
    found.extend(orphans.map(|path| format!("{path}: no crate contains this file")));
    found
}

/// Rust files that do not open with what they own.
pub(crate) fn undocumented(files: &[SourceFile]) -> Vec<String> {
    let silent = files.iter().filter(|file| file.is_rust() && !file.text.trim_start().starts_with("//!"));
    silent.map(|file| format!("{}: does not open with `//!`", file.path)).collect()
}

/// The modules in files of their own that a source declares, each as a path below the source's folder:
/// `mod a { mod b; }` is `a/b`.
fn declared_modules(tokens: &[Token<'_>]) -> Vec<String> {
    let mut declared = Vec::new();
    // One entry per open brace: the name of the inline module that it opens, if it does.
    let mut braces: Vec<Option<&str>> = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match token.text {
            "{" => {
                let opens_module = at >= 2 && tokens[at - 2].text == "mod";
                braces.push(opens_module.then(|| tokens[at - 1].text));
            }
            "}" => drop(braces.pop()),
            "mod" if tokens.get(at + 2).is_some_and(|end| end.text == ";") => {
                let mut segments: Vec<&str> = braces.iter().flatten().copied().collect();
                segments.push(tokens[at + 1].text);
                declared.push(segments.join("/"));
            }
            _ => {}
        }
    }
    declared
}

fn texts_are(tokens: &[Token<'_>], expected: [&str; 3]) -> bool {
    tokens.iter().map(|token| token.text).eq(expected)
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or(".", |(folder, _)| folder)
}

#[cfg(test)]
mod tests {
    use super::{undocumented, violations};
    use crate::repository::SourceFile;

    fn check(files: &[(&str, &str)], roots: &[&str]) -> Vec<String> {
        let files: Vec<_> = files.iter().map(|(path, text)| SourceFile::new(path, text)).collect();
        let roots: Vec<_> = roots.iter().map(|root| (*root).to_owned()).collect();
        violations(&files, &roots)
    }

    #[test]
    fn modules_are_found_beside_below_and_inside_others() {
        let files = [
            ("a/src/lib.rs", "mod b;\n#[cfg(test)]\nmod c;\npub(crate) mod d { fn f() {} mod e; }"),
            ("a/src/b.rs", "mod deep;"),
            ("a/src/b/deep.rs", ""),
            ("a/src/c/mod.rs", "mod low;"),
            ("a/src/c/low.rs", ""),
            ("a/src/d/e.rs", ""),
            ("a/tests/it/main.rs", "mod x;"),
            ("a/tests/it/x.rs", ""),
            ("a/README.md", ""),
        ];
        assert_eq!(check(&files, &["a/src/lib.rs", "a/tests/it/main.rs"]), Vec::<String>::new());
    }

    #[test]
    fn a_file_that_no_crate_contains_is_an_orphan() {
        let files = [("a/src/lib.rs", "// mod b;\nconst S: &str = \"mod b;\";"), ("a/src/b.rs", "")];
        assert_eq!(check(&files, &["a/src/lib.rs"]), ["a/src/b.rs: no crate contains this file"]);
    }

    #[test]
    fn a_module_without_a_tracked_file_is_caught() {
        let files = [("a/src/lib.rs", "mod b;")];
        assert_eq!(check(&files, &["a/src/lib.rs"]), ["a/src/lib.rs: mod b: its file is not tracked"]);
        assert_eq!(check(&[], &["a/src/lib.rs"]), ["a/src/lib.rs: a crate root that is not tracked"]);
    }

    #[test]
    fn a_path_attribute_is_caught() {
        let files = [("a/src/lib.rs", "#[path = \"c.rs\"]\nmod b;"), ("a/src/b.rs", "")];
        assert_eq!(check(&files, &["a/src/lib.rs"]).len(), 1);
    }

    #[test]
    fn a_file_without_module_docs_is_caught() {
        let files =
            [SourceFile::new("a.rs", "use b;\n//! late"), SourceFile::new("b.rs", "\n//! What it owns.\n")];
        assert_eq!(undocumented(&files), ["a.rs: does not open with `//!`"]);
    }
}
