//! What values look like to people: their media type by name, and a line that shows them in a table.

use std::path::Path;

use crate::cli::output::printable;

/// The longest line that stands for a value.
const PREVIEW_CHARS_MAX: usize = 60;

/// Media types by the extension of a file or a key.
const MEDIA_TYPES: [(&str, &str); 10] = [
    ("json", "application/json"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("toml", "application/toml"),
    ("xml", "application/xml"),
    ("html", "text/html"),
    ("csv", "text/csv"),
    ("md", "text/markdown"),
    ("png", "image/png"),
    ("pem", "application/x-pem-file"),
];

/// What is after the last dot of a name's last segment.
pub(super) fn extension(name: &str) -> Option<&str> {
    Path::new(name).extension().and_then(|extension| extension.to_str())
}

/// The media type of a value that nobody named one for: by the extension of its file or of its key, else text or bytes.
pub(super) fn media_type<'a>(names: impl IntoIterator<Item = &'a str>, value: &[u8]) -> &'static str {
    let known = |extension: &str| MEDIA_TYPES.iter().find(|(known, _)| extension.eq_ignore_ascii_case(known));
    let by_name = names.into_iter().find_map(|name| extension(name).and_then(known));
    match by_name {
        Some((_, media_type)) => media_type,
        None if std::str::from_utf8(value).is_ok() => "text/plain; charset=utf-8",
        None => "application/octet-stream",
    }
}

/// A value in one short line.
pub(super) fn preview(value: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(value) else { return format!("({} bytes)", value.len()) };
    let mut lines = text.lines();
    let first = printable(lines.next().unwrap_or_default());
    if lines.next().is_none() && first.chars().count() <= PREVIEW_CHARS_MAX {
        return first;
    }
    let begin: String = first.chars().take(PREVIEW_CHARS_MAX - 1).collect();
    format!("{begin}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_follows_the_file_before_the_key_and_the_bytes_last() {
        assert_eq!(media_type(["a/settings.JSON"], b"x"), "application/json");
        assert_eq!(media_type(["new.yml", "app/settings.json"], b"x"), "application/yaml");
        assert_eq!(media_type(["new", "app/settings.json"], b"x"), "application/json");
        assert_eq!(media_type(["app.json/color"], b"blue"), "text/plain; charset=utf-8");
        assert_eq!(media_type(["app/.json"], b"blue"), "text/plain; charset=utf-8");
        assert_eq!(media_type(["app/key"], &[0xff]), "application/octet-stream");
    }

    #[test]
    fn a_preview_is_one_short_line_that_cannot_drive_the_terminal() {
        assert_eq!(preview(b"blue"), "blue");
        assert_eq!(preview(b"blue\n"), "blue");
        assert_eq!(preview(b"a\nb"), "a…");
        assert_eq!(preview(b""), "");
        assert_eq!(preview(&[0xff, 0]), "(2 bytes)");
        assert_eq!(preview(b"a\x1b[2J"), "a\\u{1b}[2J");
        assert_eq!(preview("ö".repeat(61).as_bytes()), format!("{}…", "ö".repeat(59)));
    }
}
