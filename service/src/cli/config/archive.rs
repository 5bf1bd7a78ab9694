//! What an export is: a header and one item a line, each a JSON document, in the order of keys.
//!
//! ```text
//!   {"format":"holdfast-config","version":1,"namespace":"default","revision":812,"prefix":"app/","items":2}
//!   {"key":"app/color","value":"blue","content_type":"text/plain","create_revision":7,"mod_revision":7,"version":1}
//!   {"key":"app/icon","value_base64":"iVBORw==","content_type":"image/png","create_revision":9, …}
//! ```
//!
//! The header counts the items, so that a file that lost its end is not taken for a smaller one.

use std::io::BufRead;

use holdfast_api::config::ConfigItem;
use holdfast_core::{ConfigKey, limits};
use serde::{Deserialize, Serialize};

/// What the header calls the format.
const FORMAT: &str = "holdfast-config";
/// The version that is written, and the only one that is read.
pub(crate) const VERSION: u64 = 1;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    format: String,
    version: u64,
    /// Where the items come from.
    pub(super) namespace: String,
    /// The revision at which they were read.
    pub(super) revision: u64,
    /// What their keys begin with.
    pub(super) prefix: String,
    /// How many follow.
    pub(super) items: u64,
}

impl Header {
    pub(super) fn new(namespace: &str, revision: u64, prefix: &str, items: u64) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            namespace: namespace.to_owned(),
            revision,
            prefix: prefix.to_owned(),
            items,
        }
    }
}

/// A line of an export, with its line end.
pub(super) fn line(document: &impl Serialize) -> String {
    serde_json::to_string(document).expect("views hold only plain data") + "\n"
}

/// An export, checked whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Archive {
    pub(super) header: Header,
    pub(super) items: Vec<ConfigItem>,
}

/// Why a file is not an export, and where.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {fault}")]
pub(super) struct ArchiveError {
    line: usize,
    fault: Fault,
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    #[error("an export begins with a header; this is none")]
    NoHeader,
    #[error("the export has version {0}, this program reads version {VERSION}")]
    Version(u64),
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("the item has no value")]
    NoValue,
    #[error("{0}")]
    Key(#[from] holdfast_core::InvalidName),
    #[error("the key does not begin with the prefix {0:?} of the header")]
    OutsidePrefix(String),
    #[error("the key comes after {0:?}, but keys are in their order and each comes once")]
    Order(String),
    #[error("the value has more than {} bytes", limits::VALUE_BYTES_MAX)]
    ValueTooLarge,
    #[error("the content type has more than {} bytes", limits::CONTENT_TYPE_BYTES_MAX)]
    ContentTypeTooLong,
    #[error("the manager has more than {} bytes", limits::LABEL_BYTES_MAX)]
    ManagerTooLong,
    #[error("the header counts {expected} items, there are {found}: the file is not whole")]
    Count { expected: u64, found: u64 },
}

/// What tells an export of any version from something else.
#[derive(Deserialize)]
struct Marker {
    format: String,
    version: u64,
}

impl Archive {
    /// Reads and checks an export to its end.
    ///
    /// # Errors
    /// [`ArchiveError`] names the first line that is wrong.
    pub(super) fn read(source: impl BufRead) -> Result<Self, ArchiveError> {
        let at = |line: usize| move |fault: Fault| ArchiveError { line, fault };
        let mut lines = source.lines().enumerate().map(|(index, line)| {
            let number = index + 1;
            line.map(|text| (number, text)).map_err(|error| at(number)(error.into()))
        });
        let Some((number, first)) = lines.next().transpose()? else { return Err(at(1)(Fault::NoHeader)) };
        let header = read_header(&first).map_err(at(number))?;
        let mut items: Vec<ConfigItem> = Vec::new();
        let mut end = number;
        for line in lines {
            let (number, text) = line?;
            let before = items.last().map(|item| item.key.as_str());
            let item = read_item(&text, &header, before).map_err(at(number))?;
            items.push(item);
            end = number;
        }
        let found = items.len() as u64;
        if found != header.items {
            return Err(at(end)(Fault::Count { expected: header.items, found }));
        }
        Ok(Self { header, items })
    }
}

fn read_header(text: &str) -> Result<Header, Fault> {
    let marker: Marker = serde_json::from_str(text).map_err(|_| Fault::NoHeader)?;
    if marker.format != FORMAT {
        return Err(Fault::NoHeader);
    }
    if marker.version != VERSION {
        return Err(Fault::Version(marker.version));
    }
    Ok(serde_json::from_str(text)?)
}

fn read_item(text: &str, header: &Header, before: Option<&str>) -> Result<ConfigItem, Fault> {
    let item: ConfigItem = serde_json::from_str(text)?;
    let key = ConfigKey::new(item.key.clone())?;
    if !key.as_str().starts_with(&header.prefix) {
        return Err(Fault::OutsidePrefix(header.prefix.clone()));
    }
    if let Some(before) = before
        && item.key.as_str() <= before
    {
        return Err(Fault::Order(before.to_owned()));
    }
    let value_bytes = item.value.as_ref().ok_or(Fault::NoValue)?.len();
    if limits::VALUE_BYTES_MAX < value_bytes {
        return Err(Fault::ValueTooLarge);
    }
    if limits::CONTENT_TYPE_BYTES_MAX < item.content_type.len() {
        return Err(Fault::ContentTypeTooLong);
    }
    if item.managed_by.as_ref().is_some_and(|manager| limits::LABEL_BYTES_MAX < manager.len()) {
        return Err(Fault::ManagerTooLong);
    }
    Ok(item)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(key: &str, value: &[u8]) -> ConfigItem {
        ConfigItem {
            key: key.to_owned(),
            value: Some(value.to_vec()),
            content_type: "text/plain".to_owned(),
            create_revision: 1,
            mod_revision: 2,
            version: 2,
            session: None,
            managed_by: None,
        }
    }

    fn text(header: &Header, items: &[ConfigItem]) -> String {
        items.iter().fold(line(header), |text, item| text + &line(item))
    }

    fn refusal(text: &str) -> String {
        Archive::read(text.as_bytes()).unwrap_err().to_string()
    }

    fn header(items: u64) -> Header {
        Header::new("default", 812, "app/", items)
    }

    #[test]
    fn what_is_written_reads_back() {
        let owned = ConfigItem {
            session: Some("s".to_owned()),
            managed_by: Some("git".to_owned()),
            ..item("app/b", &[0xff, 0])
        };
        let items = vec![item("app/a", b"two\nlines"), owned];
        let text = text(&header(2), &items);
        assert_eq!(text.lines().count(), 3);
        assert_eq!(Archive::read(text.as_bytes()).unwrap(), Archive { header: header(2), items });
    }

    #[test]
    fn only_an_export_of_this_version_is_read() {
        for other in ["", "hello\n", "{}\n", "{\"format\":\"x\",\"version\":1}\n"] {
            assert_eq!(refusal(other), "line 1: an export begins with a header; this is none", "{other}");
        }
        let newer = line(&Header { version: 2, ..header(0) });
        assert_eq!(refusal(&newer), "line 1: the export has version 2, this program reads version 1");
    }

    #[test]
    fn a_malformed_line_is_told_by_its_number() {
        let good = text(&header(2), &[item("app/a", b"")]);
        for bad in ["", "{", "{}", "[]", "{\"key\":\"app/b\"}"] {
            let refusal = refusal(&format!("{good}{bad}\n"));
            assert!(refusal.starts_with("line 3: "), "{bad}: {refusal}");
        }
        let after = |next: ConfigItem| refusal(&(good.clone() + &line(&next)));
        assert!(after(item("app/a", b"")).contains("each comes once"));
        assert!(after(item("other/a", b"")).contains("does not begin with the prefix \"app/\""));
        assert!(after(item("app//b", b"")).starts_with("line 3: "));
        assert!(after(ConfigItem { value: None, ..item("app/b", b"") }).contains("no value"));
        assert!(
            after(item("app/b", &vec![0; limits::VALUE_BYTES_MAX + 1])).contains("more than 1048576 bytes")
        );
        let long = "x".repeat(257);
        let manager = ConfigItem { managed_by: Some(long.clone()), ..item("app/b", b"") };
        assert!(after(manager).contains("the manager has more than 256 bytes"));
        assert!(after(ConfigItem { content_type: long, ..item("app/b", b"") }).contains("the content type"));
    }

    #[test]
    fn a_file_that_lost_its_end_is_not_taken_for_a_smaller_one() {
        let whole = text(&header(2), &[item("app/a", b"1"), item("app/b", b"2")]);
        for cut in 0..whole.len() - 1 {
            assert!(Archive::read(&whole.as_bytes()[..cut]).is_err(), "cut at {cut}");
        }
    }
}
