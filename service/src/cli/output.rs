//! What commands print: the only place that writes to standard output and standard error.
//!
//! Data goes to standard output, everything else to standard error. Standard output that cannot take the data is an
//! error, such as a full disk; a reader that has gone away (`holdfast … | head`) ends the command without a complaint.

use std::io::{ErrorKind, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::exit::{Ending, Fatal};

/// The form of a command's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A table for people.
    Table,
    /// JSON, with the names of the REST API.
    Json,
    /// The same as YAML.
    Yaml,
}

/// Prints bytes as they are.
///
/// # Errors
/// [`Fatal`] when standard output does not take them.
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), Fatal> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| {
        if error.kind() == ErrorKind::BrokenPipe {
            Fatal::new(Ending::ReaderGone, "nobody reads the output any more")
        } else {
            Fatal::new(Ending::Refused, format!("cannot write the output: {error}"))
        }
    })
}

/// Prints a line.
///
/// # Errors
/// As [`bytes()`].
pub(crate) fn line(text: &str) -> Result<(), Fatal> {
    bytes(format!("{text}\n").as_bytes())
}

/// Prints a command's one answer: for people as `table` does it, or as a document.
///
/// # Errors
/// As [`bytes()`].
pub(crate) fn answer<T: Serialize>(
    format: Format,
    value: &T,
    table: impl FnOnce(&T) -> Result<(), Fatal>,
) -> Result<(), Fatal> {
    match format {
        Format::Table => table(value),
        Format::Json => line(&pretty_json(value)),
        Format::Yaml => bytes(yaml(value).as_bytes()),
    }
}

/// Tells people that something is done which the API answers with nothing.
///
/// # Errors
/// As [`bytes()`].
pub(crate) fn done(format: Format, text: &str) -> Result<(), Fatal> {
    match format {
        Format::Table => line(text),
        Format::Json | Format::Yaml => Ok(()),
    }
}

/// Prints one of many answers that come one after the other: a line for people, a line of JSON, or a YAML document that
/// its `---` separates from the one before.
///
/// # Errors
/// As [`bytes()`].
pub(crate) fn event<T: Serialize>(
    format: Format,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<(), Fatal> {
    match format {
        Format::Table => line(&text(value)),
        Format::Json => line(&serde_json::to_string(value).expect("views hold only plain data")),
        Format::Yaml => bytes(format!("---\n{}", yaml(value)).as_bytes()),
    }
}

fn pretty_json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("views hold only plain data")
}

fn yaml(value: &impl Serialize) -> String {
    serde_yaml::to_string(value).expect("views hold only plain data")
}

/// Prints rows under their headings, each column as wide as its widest cell.
///
/// # Errors
/// As [`bytes()`].
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> Result<(), Fatal> {
    bytes(table_text(headings, rows).as_bytes())
}

fn table_text(headings: &[&str], rows: &[Vec<String>]) -> String {
    let headings = headings.iter().map(|heading| (*heading).to_owned()).collect();
    let rows = rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect());
    let rows: Vec<Vec<String>> = std::iter::once(headings).chain(rows).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Text that somebody else chose, safe for a terminal: control characters are written out.
pub(crate) fn printable(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}

/// Prints to standard error.
pub(crate) fn complaint(text: &str) {
    // There is nobody left to tell when standard error is closed.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_end_with_text() {
        let rows = [["a", "1"], ["longer", ""]].map(|row| row.map(ToOwned::to_owned).to_vec());
        assert_eq!(table_text(&["NAME", "N"], &rows), "NAME    N\na       1\nlonger\n");
    }

    #[test]
    fn a_label_cannot_drive_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
        assert_eq!(printable("größe"), "größe");
    }
}
