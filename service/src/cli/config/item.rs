//! One item at a time: get, put and rm; and the list of all.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use holdfast_api::client::{ClientError, WriteCondition, WriteOptions};
use holdfast_api::config::{ConfigItem, ConfigList, ETag, InvalidWriteGuard, WriteGuard};
use holdfast_api::query::{ListQuery, ReadQuery};
use holdfast_api::{ErrorCode, Problem};
use holdfast_core::limits;
use serde::Serialize;

use crate::cli::config::value;
use crate::cli::output::{self, Format};
use crate::cli::pages;
use crate::cli::target::Target;
use crate::exit::{Ending, Fatal};

/// The flags of `holdfast config get`.
#[derive(Debug, Args)]
pub(super) struct GetArgs {
    /// The key
    #[arg(value_name = "KEY")]
    key: String,
    /// The value as it was at this revision
    #[arg(long, value_name = "REV")]
    at: Option<u64>,
}

/// The flags of `holdfast config put`.
#[derive(Debug, Args)]
pub(super) struct PutArgs {
    /// The key
    #[arg(value_name = "KEY")]
    key: String,
    #[command(flatten)]
    value: ValueArgs,
    /// The media type of the value [default: by the extension of FILE or KEY, else plain text or bytes]
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Only if the key exists with this revision
    #[arg(long, value_name = "REV", conflicts_with = "create")]
    if_match: Option<u64>,
    /// Only if the key does not exist
    #[arg(long)]
    create: bool,
    #[command(flatten)]
    guard: GuardArg,
    /// Delete the key when this session ends
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Who manages the key, for people to see
    #[arg(long, value_name = "TEXT")]
    managed_by: Option<String>,
}

/// Where the value comes from.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct ValueArgs {
    /// The value itself, or - to read it from standard input
    #[arg(value_name = "VALUE", allow_negative_numbers = true)]
    value: Option<String>,
    /// A file that has the value
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// A flag of every write.
#[derive(Debug, Args)]
pub(super) struct GuardArg {
    /// Only while the lock (or election=NAME) is held with this fencing token
    #[arg(long, value_name = "lock=NAME,token=N", value_parser = guard)]
    guard: Option<WriteGuard>,
}

impl GuardArg {
    /// The guard, if there is one.
    pub(super) fn into_guard(self) -> Option<WriteGuard> {
        self.guard
    }
}

/// On a command line the parts are joined by a comma, which needs no quotes.
fn guard(text: &str) -> Result<WriteGuard, InvalidWriteGuard> {
    let guard = text.rsplit_once(',').map(|(contest, token)| format!("{contest};{token}").parse().ok());
    guard.flatten().ok_or_else(|| InvalidWriteGuard(text.to_owned()))
}

/// The flags of `holdfast config rm`.
#[derive(Debug, Args)]
pub(super) struct RemoveArgs {
    /// The key
    #[arg(value_name = "KEY")]
    key: String,
    /// Only if the key exists with this revision
    #[arg(long, value_name = "REV")]
    if_match: Option<u64>,
    #[command(flatten)]
    guard: GuardArg,
}

/// The flags of `holdfast config list`.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Only keys that begin with this
    #[arg(value_name = "PREFIX")]
    prefix: Option<String>,
    /// With the values
    #[arg(long)]
    values: bool,
    /// The list as it was at this revision
    #[arg(long, value_name = "REV")]
    at: Option<u64>,
}

/// `holdfast config get`.
pub(super) async fn get(args: GetArgs, target: &Target) -> Result<(), Fatal> {
    let GetArgs { key, at } = args;
    let failed = |error: ClientError| target.failed(&format!("read {}", place(target, &key)), &error);
    if target.output == Format::Table {
        let query = ReadQuery { at_revision: at, ..ReadQuery::default() };
        let answer = target.client().get_config(&target.namespace, &key, &query).await;
        return output::bytes(&answer.map_err(failed)?.value.bytes);
    }
    let item = find(target, &key, at).await.map_err(failed)?;
    let missing = || failed(Problem::new(ErrorCode::KeyNotFound, format!("no value at {key}")).into());
    output::answer(target.output, &item.ok_or_else(missing)?, |_| Ok(()))
}

/// A key as messages name it.
pub(super) fn place(target: &Target, key: &str) -> String {
    format!("key {} of namespace {}", output::printable(key), target.namespace)
}

/// An item with everything that is known of it. The call that reads a value tells only a part.
pub(super) async fn find(
    target: &Target,
    key: &str,
    at: Option<u64>,
) -> Result<Option<ConfigItem>, ClientError> {
    // No key with this prefix comes before the key itself.
    let query = ListQuery {
        prefix: Some(key.to_owned()),
        limit: Some(1),
        values: true,
        at_revision: at,
        ..ListQuery::default()
    };
    let list = target.client().list_config(&target.namespace, &query).await?.value;
    Ok(list.items.into_iter().find(|item| item.key == key))
}

/// What a write answers to programs.
#[derive(Debug, Serialize)]
struct Written<'a> {
    key: &'a str,
    mod_revision: u64,
    created: bool,
}

/// Tells what a write did.
pub(super) fn tell_written(
    target: &Target,
    key: &str,
    mod_revision: u64,
    created: bool,
) -> Result<(), Fatal> {
    let written = Written { key, mod_revision, created };
    output::answer(target.output, &written, |written| {
        let verb = if written.created { "created" } else { "written" };
        output::line(&format!("{} is {verb} at revision {}", output::printable(key), written.mod_revision))
    })
}

/// `holdfast config put`.
pub(super) async fn put(args: PutArgs, target: &Target) -> Result<(), Fatal> {
    let PutArgs { key, value, content_type, if_match, create, guard, session, managed_by } = args;
    let bytes = read_value(&value)?;
    let condition = match (if_match, create) {
        (Some(revision), _) => WriteCondition::Revision(ETag(revision)),
        (None, true) => WriteCondition::Absent,
        (None, false) => WriteCondition::None,
    };
    let file = value.file.as_deref().and_then(Path::to_str);
    let content_type = content_type
        .unwrap_or_else(|| value::media_type(file.into_iter().chain([key.as_str()]), &bytes).to_owned());
    let options =
        WriteOptions { condition, guard: guard.into_guard(), managed_by, session, ..WriteOptions::default() };
    let answer = target.client().put_config(&target.namespace, &key, bytes, &content_type, &options).await;
    let written =
        answer.map_err(|error| target.failed(&format!("write {}", place(target, &key)), &error))?.value;
    tell_written(target, &key, written.mod_revision, written.created)
}

fn read_value(args: &ValueArgs) -> Result<Vec<u8>, Fatal> {
    match args {
        ValueArgs { file: Some(file), .. } if file.as_os_str() == "-" => read_limited(std::io::stdin(), "-"),
        ValueArgs { file: Some(path), .. } => {
            let name = path.display().to_string();
            let file = std::fs::File::open(path).map_err(|error| cannot_read(&name, &error))?;
            read_limited(file, &name)
        }
        ValueArgs { value: Some(value), .. } if value == "-" => read_limited(std::io::stdin(), "-"),
        ValueArgs { value: Some(value), .. } => Ok(value.clone().into_bytes()),
        ValueArgs { value: None, file: None } => Ok(Vec::new()),
    }
}

/// Reads no more than the service takes.
fn read_limited(source: impl Read, name: &str) -> Result<Vec<u8>, Fatal> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(limits::VALUE_BYTES_MAX).unwrap_or(u64::MAX);
    source.take(limit + 1).read_to_end(&mut bytes).map_err(|error| cannot_read(name, &error))?;
    if limits::VALUE_BYTES_MAX < bytes.len() {
        let reason = format!("a value has at most {limit} bytes, {name} has more");
        return Err(Fatal::new(Ending::Usage, reason));
    }
    Ok(bytes)
}

pub(super) fn cannot_read(name: &str, error: &std::io::Error) -> Fatal {
    let name = if name == "-" { "standard input" } else { name };
    Fatal::new(Ending::Usage, format!("cannot read {name}: {error}"))
}

/// `holdfast config rm`.
pub(super) async fn remove(args: RemoveArgs, target: &Target) -> Result<(), Fatal> {
    let RemoveArgs { key, if_match, guard } = args;
    let condition =
        if_match.map_or(WriteCondition::None, |revision| WriteCondition::Revision(ETag(revision)));
    let options = WriteOptions { condition, guard: guard.into_guard(), ..WriteOptions::default() };
    let deleted = target.client().delete_config(&target.namespace, &key, &options).await;
    deleted.map_err(|error| target.failed(&format!("delete {}", place(target, &key)), &error))?;
    output::done(target.output, &format!("{} is deleted", output::printable(&key)))
}

/// All items that a query asks for, at one revision.
pub(super) async fn list_all(target: &Target, wanted: &ListQuery) -> Result<ConfigList, Fatal> {
    let namespace = &target.namespace;
    pages::all(wanted.prefix.clone(), async |query| {
        // A cursor brings the revision of the first page with it.
        let at_revision = if query.cursor.is_none() { wanted.at_revision } else { None };
        let query = ListQuery { values: wanted.values, at_revision, ..query };
        let page = target.client().list_config(namespace, &query).await;
        let what = format!("list the keys of namespace {namespace}");
        Ok(page.map_err(|error| target.failed(&what, &error))?.value)
    })
    .await
}

/// `holdfast config list`.
pub(super) async fn list(args: ListArgs, target: &Target) -> Result<(), Fatal> {
    let ListArgs { prefix, values, at } = args;
    let query = ListQuery { prefix, values, at_revision: at, ..ListQuery::default() };
    let list = list_all(target, &query).await?;
    output::answer(target.output, &list, |list: &ConfigList| {
        let headings = ["KEY", "REVISION", "VERSION", "TYPE", "OWNER", "VALUE"];
        let columns = if values { headings.len() } else { headings.len() - 1 };
        let rows: Vec<Vec<String>> = list.items.iter().map(|item| row(item, columns)).collect();
        output::table(&headings[..columns], &rows)
    })
}

fn row(item: &ConfigItem, columns: usize) -> Vec<String> {
    let mut row = vec![
        item.key.clone(),
        item.mod_revision.to_string(),
        item.version.to_string(),
        item.content_type.clone(),
        owner(item),
        value::preview(item.value.as_deref().unwrap_or_default()),
    ];
    row.truncate(columns);
    row
}

/// Who manages an item, or whose end deletes it.
pub(super) fn owner(item: &ConfigItem) -> String {
    match (&item.managed_by, &item.session) {
        (None, None) => "-".to_owned(),
        (Some(manager), None) => manager.clone(),
        (None, Some(session)) => format!("session {session}"),
        (Some(manager), Some(session)) => format!("{manager}, session {session}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_is_written_with_a_comma() {
        assert_eq!(guard("lock=jobs/a,token=42"), Ok(WriteGuard::lock("jobs/a", 42)));
        assert_eq!(guard("election=a,token=42"), Ok(WriteGuard::election("a", 42)));
        for bad in ["", "lock=a", "lock=a;token=1", "token=1,lock=a", "lock=a,token=x"] {
            assert_eq!(guard(bad), Err(InvalidWriteGuard(bad.to_owned())));
        }
    }

    #[test]
    fn a_value_larger_than_the_service_takes_is_refused_before_it_is_sent() {
        let most = vec![0; limits::VALUE_BYTES_MAX];
        assert_eq!(read_limited(most.as_slice(), "f").unwrap().len(), most.len());
        let more = vec![0; limits::VALUE_BYTES_MAX + 1];
        assert_eq!(read_limited(more.as_slice(), "f").unwrap_err().ending, Ending::Usage);
    }
}
