//! The end of a node's log, for the message of a failed test.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Bytes read from the end of a log.
const TAIL_BYTES_MAX: u64 = 64 * 1024;

/// The last `lines` lines of the file, or what prevented reading them.
pub(crate) fn log_tail(path: &Path, lines: usize) -> String {
    match read_tail(path) {
        Ok(text) => {
            let all: Vec<&str> = text.lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        }
        Err(error) => format!("(read {}: {error})", path.display()),
    }
}

fn read_tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let skipped = length.saturating_sub(TAIL_BYTES_MAX);
    file.seek(SeekFrom::Start(skipped))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    if skipped == 0 {
        return Ok(text);
    }
    // The first line was cut somewhere; a part of it would mislead.
    Ok(text.split_once('\n').map_or(String::new(), |(_, rest)| rest.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_last_whole_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.log");
        std::fs::write(&path, "one\ntwo\nthree\n").unwrap();
        assert_eq!(log_tail(&path, 2), "two\nthree");
        assert_eq!(log_tail(&path, 9), "one\ntwo\nthree");
        let line = "x".repeat(40_000);
        std::fs::write(&path, format!("{line}\n{line}\nlast\n")).unwrap();
        assert_eq!(log_tail(&path, 9), format!("{line}\nlast"));
    }

    #[test]
    fn a_missing_log_says_so() {
        assert!(log_tail(Path::new("/nonexistent/node.log"), 5).starts_with("(read /nonexistent/node.log"));
    }
}
