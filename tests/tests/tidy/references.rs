//! Nothing refers to what a reader cannot open: a document that is not in the repository, a folder of somebody's
//! machine, or the private names of a place where the code was written.

use crate::repository::SourceFile;
use std::collections::BTreeSet;

/// This file holds what it forbids.
const OWN_PATH: &str = "tests/tests/tidy/references.rs";

/// Where a person's or a build machine's files are.
const PRIVATE_FOLDERS: &[&str] = &["/work/", "/home/", "/root/"];

/// [`digest`]s of two neighbouring words, in small letters: the list must not publish what it keeps out.
pub(crate) const PRIVATE_NAMES: &[u64] = &[
    0x0968_61cf_ec10_33e1,
    0x0c91_c64e_1f87_a116,
    0x3580_2514_32c1_0b11,
    0x5a9b_87df_e667_ea9f,
    0xbdec_7f1f_6a0d_81e2,
    0xcb58_ac80_3f9f_adbd,
];

/// Every reference that leads out of the repository.
pub(crate) fn violations(files: &[SourceFile], private_names: &[u64]) -> Vec<String> {
    let tracked: BTreeSet<&str> = files.iter().map(|file| file_name(&file.path)).collect();
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.path != OWN_PATH) {
        for (number, line) in (1..).zip(file.text.lines()) {
            let documents = documents(line).filter(|document| !tracked.contains(file_name(document)));
            let folders = PRIVATE_FOLDERS.iter().copied().filter(|folder| names_folder(line, folder));
            let names = private_pairs(line, private_names);
            let references = documents.chain(folders).map(str::to_owned).chain(names);
            found.extend(references.map(|reference| format!("{}:{number}: names {reference}", file.path)));
        }
    }
    found
}

/// The Markdown documents that a line names. One with an address is on the web, not here.
fn documents(line: &str) -> impl Iterator<Item = &str> {
    let words = line.split(|c: char| !(c.is_alphanumeric() || "/._-:{}*".contains(c)));
    let words = words.filter(|word| !word.contains("://")).map(|word| word.trim_end_matches(['.', ':']));
    words.filter(|word| word.strip_suffix(".md").is_some_and(|stem| stem.ends_with(char::is_alphanumeric)))
}

/// Whether a path that begins with this folder is named; `a/work/b` is another path.
fn names_folder(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && !"._-/}$*".contains(c))
    })
}

fn private_pairs(line: &str, private_names: &[u64]) -> Vec<String> {
    let lower = line.to_lowercase();
    let words: Vec<&str> =
        lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let pairs = words.windows(2).map(|pair| pair.join(" "));
    pairs.filter(|pair| private_names.contains(&digest(pair))).collect()
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// FNV-1a, 64 bits.
fn digest(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::violations;
    use crate::repository::SourceFile;

    /// "example garden".
    const PRIVATE: &[u64] = &[0xf253_d524_61ef_bd56];

    fn check(text: &str) -> Vec<String> {
        violations(&[SourceFile::new("README.md", ""), SourceFile::new("a/lib.rs", text)], PRIVATE)
    }

    #[test]
    fn a_document_that_is_not_tracked_is_caught() {
        assert_eq!(check("// see notes/plan.md."), ["a/lib.rs:1: names notes/plan.md"]);
        assert_eq!(check("see README.md, https://example.org/plan.md and *.md"), Vec::<String>::new());
    }

    #[test]
    fn a_folder_of_a_machine_is_caught() {
        assert_eq!(check("\n`/work/x`"), ["a/lib.rs:2: names /work/"]);
        assert_eq!(check("cd /home/me").len(), 1);
        assert_eq!(check("https://example.org/work/x ./work/ $HOME/home/"), Vec::<String>::new());
    }

    #[test]
    fn a_private_name_is_caught_however_it_is_joined() {
        for text in ["the Example Garden", "example-garden", "x/example/garden/y"] {
            assert_eq!(check(text), ["a/lib.rs:1: names example garden"], "{text}");
        }
        assert_eq!(check("example of a garden"), Vec::<String>::new());
    }
}
