//! `holdfast config export`: all items under a prefix, read at one revision.

use std::io::IsTerminal;

use clap::Args;
use holdfast_api::query::ListQuery;

use crate::cli::config::archive::{self, Header};
use crate::cli::config::item::list_all;
use crate::cli::output;
use crate::cli::progress::Progress;
use crate::cli::target::Target;
use crate::exit::Fatal;

/// The flags of `holdfast config export`.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// Only keys that begin with this
    #[arg(value_name = "PREFIX")]
    prefix: Option<String>,
    /// What was there at this revision
    #[arg(long, value_name = "REV")]
    at: Option<u64>,
}

/// `holdfast config export`.
pub(super) async fn export(args: ExportArgs, target: &Target) -> Result<(), Fatal> {
    let ExportArgs { prefix, at } = args;
    let namespace = &target.namespace;
    // Counted first: the header says how much follows, and people see how much is left.
    let mut query = ListQuery { prefix, at_revision: at, ..ListQuery::default() };
    let counted = list_all(target, &query).await?;
    let whole = counted.items.len() as u64;
    let prefix = query.prefix.as_deref().unwrap_or_default();
    let header = Header::new(namespace, counted.revision, prefix, whole);
    output::bytes(archive::line(&header).as_bytes())?;
    let mut progress = shown();
    query = ListQuery { values: true, at_revision: Some(counted.revision), ..query };
    let mut written = 0;
    while written < whole {
        let page = target.client().list_config(namespace, &query).await;
        let what = format!("export the keys of namespace {namespace}");
        let page = page.map_err(|error| target.failed(&what, &error))?.value;
        let text: String = page.items.iter().map(archive::line).collect();
        output::bytes(text.as_bytes())?;
        written += page.items.len() as u64;
        if let Some(progress) = &mut progress {
            progress.tell(&format!("{written} of {whole} keys"), Some(whole.saturating_sub(written)));
        }
        let Some(cursor) = page.next_cursor else { break };
        query = ListQuery { cursor: Some(cursor), at_revision: None, ..query };
    }
    Ok(())
}

/// How far it is, for people only: in a script's output it would be noise.
pub(super) fn shown() -> Option<Progress> {
    std::io::stderr().is_terminal().then(Progress::start)
}
