//! What differs between two values of a key, for people. It never takes long: what is too large or too different is not
//! compared line by line.

use std::time::{Duration, Instant};

use bytes::Bytes;
use holdfast_api::config::ConfigDiff;
use holdfast_core::Revision;
use sha2::{Digest, Sha256};

/// The largest text that is compared line by line: config that people read is far smaller.
const TEXT_BYTES_MAX: usize = 256 << 10;
/// How long a comparison may take: a request must not keep a processor.
const PATIENCE: Duration = Duration::from_millis(200);
/// Equal lines shown around what differs.
const CONTEXT_LINES: usize = 3;

/// One side of a comparison.
#[derive(Debug, Clone)]
pub(crate) struct Side {
    /// The revision that was asked for.
    pub(crate) at: Revision,
    /// What the key had then; none when it did not exist.
    pub(crate) value: Option<Bytes>,
}

impl Side {
    fn text(&self) -> Option<&str> {
        let bytes = self.value.as_deref().unwrap_or_default();
        if TEXT_BYTES_MAX < bytes.len() { None } else { std::str::from_utf8(bytes).ok() }
    }

    fn sha256(&self) -> Option<String> {
        let value = self.value.as_ref()?;
        Some(Sha256::digest(value).iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// The difference from one side to the other.
pub(crate) fn compare(key: String, from: &Side, to: &Side) -> ConfigDiff {
    ConfigDiff {
        from: from.at.as_u64(),
        to: to.at.as_u64(),
        equal: from.value == to.value,
        unified: unified(&key, from, to),
        from_sha256: from.sha256(),
        to_sha256: to.sha256(),
        key,
    }
}

/// The difference in unified form; empty between equal texts.
fn unified(key: &str, from: &Side, to: &Side) -> Option<String> {
    let (old, new) = (from.text()?, to.text()?);
    let began = Instant::now();
    let diff = similar::TextDiff::configure().deadline(began + PATIENCE).diff_lines(old, new);
    if PATIENCE <= began.elapsed() {
        // From there on it is only an approximation.
        return None;
    }
    let header = |side: &Side| format!("{key}@{}", side.at);
    Some(diff.unified_diff().context_radius(CONTEXT_LINES).header(&header(from), &header(to)).to_string())
}

#[cfg(test)]
mod tests {
    use super::{Side, TEXT_BYTES_MAX, compare};
    use bytes::Bytes;
    use holdfast_api::config::ConfigDiff;
    use holdfast_core::Revision;

    fn side(at: u64, value: Option<&[u8]>) -> Side {
        Side { at: Revision::new(at), value: value.map(Bytes::copy_from_slice) }
    }

    fn compared(from: Option<&[u8]>, to: Option<&[u8]>) -> ConfigDiff {
        compare("app/log".to_owned(), &side(3, from), &side(7, to))
    }

    #[test]
    fn what_differs_is_shown_in_its_surroundings_with_key_and_revision() {
        let lines = |changed: &str| format!("1\n2\n3\n4\n{changed}\n6\n7\n8\n9\n").into_bytes();
        let diff = compared(Some(&lines("five")), Some(&lines("5")));
        let expected = "--- app/log@3\n+++ app/log@7\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-five\n+5\n 6\n 7\n 8\n";
        assert_eq!(diff.unified.as_deref(), Some(expected));
        assert!(!diff.equal);
        assert_ne!(diff.from_sha256, diff.to_sha256);
    }

    #[test]
    fn equal_texts_have_an_empty_difference() {
        let diff = compared(Some(b"a\n"), Some(b"a\n"));
        assert_eq!((diff.equal, diff.unified.as_deref()), (true, Some("")));
        let sha256 = "87428fc522803d31065e7bce3cf03fe475096631e5e07bbd7a0fde60c4cf25c7";
        assert_eq!((diff.from_sha256.as_deref(), diff.to_sha256.as_deref()), (Some(sha256), Some(sha256)));
    }

    #[test]
    fn a_key_that_did_not_exist_is_an_empty_text_but_not_an_equal_value() {
        let diff = compared(None, Some(b"a"));
        let expected = "--- app/log@3\n+++ app/log@7\n@@ -0,0 +1 @@\n+a\n\\ No newline at end of file\n";
        assert_eq!((diff.unified.as_deref(), diff.from_sha256), (Some(expected), None));
        let diff = compared(Some(b""), None);
        assert_eq!((diff.equal, diff.unified.as_deref(), diff.to_sha256), (false, Some(""), None));
    }

    #[test]
    fn what_is_no_text_or_too_large_is_told_apart_by_its_digest_only() {
        let large = vec![b'a'; TEXT_BYTES_MAX + 1];
        for (from, to) in [(&b"\xff"[..], &b"a"[..]), (b"a", b"\xff"), (b"a", &large), (&large, b"a")] {
            let diff = compared(Some(from), Some(to));
            assert_eq!((diff.equal, diff.unified), (false, None));
            assert_ne!(diff.from_sha256, diff.to_sha256);
        }
        assert!(compared(Some(&large[1..]), Some(b"a")).unified.is_some());
    }

    #[test]
    fn texts_that_would_take_long_are_given_up_in_time() {
        // Lines that all differ, in an order that shares nothing: the worst case of the algorithm.
        let lines =
            |from: u32| (0..40_000).map(|n| format!("{:x}\n", from + n * 7_919 % 65_521)).collect::<String>();
        let began = std::time::Instant::now();
        let diff = compared(Some(lines(0).as_bytes()), Some(lines(1_000_000).as_bytes()));
        // Whether it was given up depends on the machine; that it ends does not.
        assert!(!diff.equal);
        assert!(began.elapsed() < std::time::Duration::from_secs(10));
    }
}
