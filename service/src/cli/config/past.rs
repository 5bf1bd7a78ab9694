//! What a key was: history and diff; and the way back, rollback.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Args;
use holdfast_api::client::{WriteCondition, WriteOptions};
use holdfast_api::config::{ConfigDiff, ConfigHistory, ConfigVersion, ETag, RollbackRequest};
use holdfast_api::query::{DiffQuery, HistoryQuery};
use holdfast_core::limits;

use crate::cli::config::item::{GuardArg, owner, place};
use crate::cli::config::value;
use crate::cli::target::Target;
use crate::cli::{duration, output};
use crate::exit::{Ending, Fatal};

/// The flags of `holdfast config history`.
#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// The key
    #[arg(value_name = "KEY")]
    key: String,
    /// Only so many of the newest versions
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

/// The flags of `holdfast config diff`.
#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// The key
    #[arg(value_name = "KEY")]
    key: String,
    /// The value as it was at this revision
    #[arg(value_name = "FROM")]
    from: u64,
    /// And at this one [default: the newest]
    #[arg(value_name = "TO")]
    to: Option<u64>,
}

/// The flags of `holdfast config rollback`.
#[derive(Debug, Args)]
pub(super) struct RollbackArgs {
    /// The key
    #[arg(value_name = "KEY")]
    key: String,
    /// The revision whose value is written again
    #[arg(long, value_name = "REV")]
    to: u64,
    /// Only if the key exists with this revision
    #[arg(long, value_name = "REV")]
    if_match: Option<u64>,
    #[command(flatten)]
    guard: GuardArg,
    /// Who manages the key, for people to see
    #[arg(long, value_name = "TEXT")]
    managed_by: Option<String>,
}

/// `holdfast config history`.
pub(super) async fn history(args: HistoryArgs, target: &Target) -> Result<(), Fatal> {
    let HistoryArgs { key, limit } = args;
    let wanted = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let page_limit = limit.map(|limit| limit.min(u32::try_from(limits::PAGE_ROWS_MAX).unwrap_or(u32::MAX)));
    let mut query = HistoryQuery { limit: page_limit, ..HistoryQuery::default() };
    let mut whole: Option<ConfigHistory> = None;
    loop {
        let page = target.client().config_history(&target.namespace, &key, &query).await;
        let what = format!("look at the history of {}", place(target, &key));
        let mut page = page.map_err(|error| target.failed(&what, &error))?.value;
        query.cursor = page.next_cursor.take();
        match &mut whole {
            None => whole = Some(page),
            Some(whole) => whole.versions.append(&mut page.versions),
        }
        if let Some(whole) = &mut whole
            && (query.cursor.is_none() || wanted <= whole.versions.len())
        {
            whole.versions.truncate(wanted);
            return output::answer(target.output, whole, show_history);
        }
    }
}

fn show_history(history: &ConfigHistory) -> Result<(), Fatal> {
    let row = |version: &ConfigVersion| {
        let (what, owner, value) = match version {
            ConfigVersion::Deleted(deleted) => {
                let how = if deleted.expired { "expired" } else { "deleted" };
                (how.to_owned(), "-".to_owned(), String::new())
            }
            ConfigVersion::Written(written) => {
                let item = &written.item;
                let value = value::preview(item.value.as_deref().unwrap_or_default());
                (item.version.to_string(), owner(item), value)
            }
        };
        vec![version.mod_revision().to_string(), duration::brief(version.age_ms()), what, owner, value]
    };
    let rows: Vec<Vec<String>> = history.versions.iter().map(row).collect();
    output::table(&["REVISION", "AGE", "VERSION", "OWNER", "VALUE"], &rows)
}

/// `holdfast config diff`. The exit code is 1 when the two differ.
pub(super) async fn diff(args: DiffArgs, target: &Target) -> Result<ExitCode, Fatal> {
    let DiffArgs { key, from, to } = args;
    let query = DiffQuery { from, to, consistency: None, min_revision: None };
    let diff = target.client().diff_config(&target.namespace, &key, &query).await;
    let what = format!("compare versions of {}", place(target, &key));
    let diff = diff.map_err(|error| target.failed(&what, &error))?.value;
    output::answer(target.output, &diff, |diff: &ConfigDiff| output::bytes(diff_text(diff).as_bytes()))?;
    Ok(if diff.equal { ExitCode::SUCCESS } else { ExitCode::from(Ending::Refused.code()) })
}

fn diff_text(diff: &ConfigDiff) -> String {
    if diff.equal {
        return String::new();
    }
    let Some(unified) = &diff.unified else {
        let side = |revision: u64, sha256: &Option<String>| match sha256 {
            Some(sha256) => format!("at {revision}: sha256 {sha256}\n"),
            None => format!("at {revision}: no value\n"),
        };
        let sides = side(diff.from, &diff.from_sha256) + &side(diff.to, &diff.to_sha256);
        return format!("the values differ, and are not text that could be compared\n{sides}");
    };
    // Others write the values: on a terminal they must not drive it, in a file they stay as they are.
    let terminal = std::io::stdout().is_terminal();
    let plain = std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty())
        || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if terminal { for_terminal(unified, !plain) } else { unified.clone() }
}

fn for_terminal(unified: &str, colored: bool) -> String {
    let mut text = String::new();
    for line in unified.split_inclusive('\n') {
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
        let safe: Vec<String> = line.split('\t').map(output::printable).collect();
        let safe = safe.join("\t");
        let color = match safe.as_bytes() {
            _ if !colored => None,
            [b'-', b'-', b'-', b' ', ..] | [b'+', b'+', b'+', b' ', ..] => Some("1"),
            [b'@', ..] => Some("36"),
            [b'-', ..] => Some("31"),
            [b'+', ..] => Some("32"),
            _ => None,
        };
        match color {
            Some(color) => text.push_str(&format!("\x1b[{color}m{safe}\x1b[0m{end}")),
            None => text.push_str(&(safe + end)),
        }
    }
    text
}

/// `holdfast config rollback`.
pub(super) async fn rollback(args: RollbackArgs, target: &Target) -> Result<(), Fatal> {
    let RollbackArgs { key, to, if_match, guard, managed_by } = args;
    let condition =
        if_match.map_or(WriteCondition::None, |revision| WriteCondition::Revision(ETag(revision)));
    let options =
        WriteOptions { condition, guard: guard.into_guard(), managed_by, ..WriteOptions::default() };
    let request = RollbackRequest { to_revision: to };
    let written = target.client().rollback_config(&target.namespace, &key, &request, &options).await;
    let what = format!("roll back {}", place(target, &key));
    let written = written.map_err(|error| target.failed(&what, &error))?.value;
    output::answer(target.output, &written, |written| {
        let key = output::printable(&written.key);
        output::line(&format!(
            "{key} has the value of revision {to} again, at revision {}",
            written.mod_revision
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &str = "--- a\n+++ b\n@@ -1 +1 @@\n-x\ty\x1b[2J\n+z\n same";

    #[test]
    fn a_difference_is_colored_and_cannot_drive_the_terminal() {
        let colored = "\x1b[1m--- a\x1b[0m\n\x1b[1m+++ b\x1b[0m\n\x1b[36m@@ -1 +1 @@\x1b[0m\n\
            \x1b[31m-x\ty\\u{1b}[2J\x1b[0m\n\x1b[32m+z\x1b[0m\n same";
        assert_eq!(for_terminal(UNIFIED, true), colored);
        assert_eq!(for_terminal(UNIFIED, false), UNIFIED.replace('\x1b', "\\u{1b}"));
    }

    #[test]
    fn values_that_cannot_be_compared_are_told_by_their_digests() {
        let diff = ConfigDiff {
            key: "a".to_owned(),
            from: 3,
            to: 9,
            equal: false,
            unified: None,
            from_sha256: None,
            to_sha256: Some("ab".to_owned()),
        };
        let expected = "the values differ, and are not text that could be compared\n\
            at 3: no value\nat 9: sha256 ab\n";
        assert_eq!(diff_text(&diff), expected);
        assert_eq!(diff_text(&ConfigDiff { equal: true, ..diff }), "");
    }
}
