//! What `holdfast --version` says: the version, and the newest format of everything that this program reads.

use std::sync::LazyLock;

use holdfast_core::domain::{PROPOSAL_FORMAT, ROW_FORMAT};

use crate::cli::config::EXPORT_VERSION;
use crate::peer::PROTOCOL_VERSION;
use crate::raft::LOG_ENTRY_RECORD;
use crate::storage::data_dir::IDENTITY_RECORD;
use crate::storage::snapshot_store::MANIFEST_RECORD;

/// The version, and a line for each format.
pub(super) fn version_and_formats() -> &'static str {
    // The command line borrows it for as long as the process lives.
    static TEXT: LazyLock<String> = LazyLock::new(text);
    &TEXT
}

fn text() -> String {
    let formats = [
        ("data directory", u64::from(IDENTITY_RECORD.version)),
        ("state rows", u64::from(ROW_FORMAT)),
        ("log entries", u64::from(LOG_ENTRY_RECORD.version)),
        ("proposals", u64::from(PROPOSAL_FORMAT)),
        ("snapshots", u64::from(MANIFEST_RECORD.version)),
        ("peer protocol", u64::from(PROTOCOL_VERSION)),
        ("config exports", EXPORT_VERSION),
    ];
    let version = env!("CARGO_PKG_VERSION");
    let lines = formats.map(|(what, newest)| format!("\n  {what:<16}{newest}"));
    format!("{version}\nnewest format that it reads, of each kind:{}", lines.concat())
}

#[cfg(test)]
mod tests {
    use super::version_and_formats;

    #[test]
    fn the_version_comes_first_and_every_format_has_a_line() {
        let text = version_and_formats();
        assert!(text.starts_with(env!("CARGO_PKG_VERSION")), "{text}");
        for what in [
            "data directory",
            "state rows",
            "log entries",
            "proposals",
            "snapshots",
            "peer protocol",
            "config exports",
        ] {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(what));
            assert!(line.is_some_and(|rest| rest.trim().parse::<u8>().is_ok()), "{what}: {text}");
        }
    }
}
