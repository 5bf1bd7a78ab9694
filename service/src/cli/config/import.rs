//! `holdfast config import`: what an export has and the namespace has not.
//!
//! ```text
//!   read all, check all ──▶ compare with what is there ──▶ plan ──▶ write, each only if nobody wrote it meanwhile
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use futures_util::StreamExt;
use holdfast_api::client::{ClientError, TxnOptions, WriteCondition, WriteOptions};
use holdfast_api::config::{
    CompareOp, ConfigItem, ETag, RevisionTarget, TxnCompare, TxnOp, TxnPut, TxnRequest,
};
use holdfast_api::query::ListQuery;
use holdfast_api::{ErrorCode, Problem};
use http::HeaderValue;
use serde::Serialize;

use crate::cli::config::archive::Archive;
use crate::cli::config::export::shown;
use crate::cli::config::item::{cannot_read, list_all, place};
use crate::cli::output::{self, printable};
use crate::cli::target::Target;
use crate::exit::{Ending, Fatal};

/// How many writes are under way at a time.
const WRITES_AT_A_TIME: usize = 16;

/// The flags of `holdfast config import`.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// The export, or - to read it from standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Delete the keys under the exported prefix that the file does not have
    #[arg(long)]
    prune: bool,
    /// What becomes of keys that belonged to a session
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Ephemeral::Skip)]
    ephemeral: Ephemeral,
}

/// What becomes of keys that belonged to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Ephemeral {
    /// They are left out
    Skip,
    /// They are written as permanent keys
    Permanent,
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Create(ConfigItem),
    /// With the revision that is there.
    Update(ConfigItem, u64),
    Delete {
        key: String,
        revision: u64,
    },
}

impl Step {
    fn key(&self) -> &str {
        match self {
            Self::Create(item) | Self::Update(item, _) => &item.key,
            Self::Delete { key, .. } => key,
        }
    }
}

/// What an import does.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    steps: Vec<Step>,
    unchanged: u64,
    /// Keys of sessions that the file has.
    skipped: Vec<String>,
    /// Keys of live sessions that the file has not.
    spared: Vec<String>,
}

/// What an import did, or would do.
#[derive(Debug, Serialize)]
struct Report {
    dry_run: bool,
    created: Vec<String>,
    updated: Vec<String>,
    deleted: Vec<String>,
    unchanged: u64,
    skipped: Vec<String>,
}

/// `holdfast config import`.
pub(super) async fn import(args: ImportArgs, target: &Target) -> Result<(), Fatal> {
    let ImportArgs { file, dry_run, prune, ephemeral } = args;
    let Archive { header, items } = read(&file)?;
    let prefix = (!header.prefix.is_empty()).then(|| header.prefix.clone());
    let query = ListQuery { prefix, values: true, ..ListQuery::default() };
    let present = list_all(target, &query).await?;
    let plan = plan(items, present.items, prune, ephemeral);
    for key in &plan.skipped {
        output::complaint(&format!("left out: {} belonged to a session", printable(key)));
    }
    for key in &plan.spared {
        output::complaint(&format!("not deleted: {} belongs to a session that lives", printable(key)));
    }
    let report = report(&plan, dry_run);
    if dry_run {
        let lines: Vec<String> = plan.steps.iter().map(told).collect();
        return output::answer(target.output, &report, |report| {
            lines.iter().try_for_each(|line| output::line(line))?;
            output::line(&summary(report))
        });
    }
    carry_out(target, plan.steps).await?;
    output::answer(target.output, &report, |report| output::line(&summary(report)))
}

fn read(file: &Path) -> Result<Archive, Fatal> {
    let name = file.display().to_string();
    let archive = if name == "-" {
        Archive::read(std::io::stdin().lock())
    } else {
        Archive::read(BufReader::new(File::open(file).map_err(|error| cannot_read(&name, &error))?))
    };
    archive.map_err(|error| {
        let name = if name == "-" { "standard input" } else { &name };
        Fatal::new(Ending::Usage, format!("cannot import {name}: {error}\n  nothing is written"))
    })
}

fn plan(items: Vec<ConfigItem>, present: Vec<ConfigItem>, prune: bool, ephemeral: Ephemeral) -> Plan {
    let mut present: BTreeMap<String, ConfigItem> =
        present.into_iter().map(|item| (item.key.clone(), item)).collect();
    let mut plan = Plan::default();
    for mut item in items {
        // A key that is in the file is never pruned, whatever becomes of it.
        let there = present.remove(&item.key);
        if item.session.is_some() && ephemeral == Ephemeral::Skip {
            plan.skipped.push(item.key);
            continue;
        }
        item.session = None;
        match there {
            None => plan.steps.push(Step::Create(item)),
            Some(there) if is_same(&item, &there) => plan.unchanged += 1,
            Some(there) => plan.steps.push(Step::Update(item, there.mod_revision)),
        }
    }
    if prune {
        for (key, item) in present {
            if item.session.is_some() {
                plan.spared.push(key);
            } else {
                plan.steps.push(Step::Delete { key, revision: item.mod_revision });
            }
        }
    }
    plan
}

/// Whether a write would change nothing but revisions.
fn is_same(item: &ConfigItem, there: &ConfigItem) -> bool {
    let ConfigItem { key, value, content_type, session, managed_by, .. } = there;
    item.key == *key
        && item.value == *value
        && item.content_type == *content_type
        && item.session == *session
        && item.managed_by == *managed_by
}

fn report(plan: &Plan, dry_run: bool) -> Report {
    let keys = |wanted: fn(&Step) -> bool| {
        plan.steps.iter().filter(|step| wanted(step)).map(|step| step.key().to_owned()).collect()
    };
    Report {
        dry_run,
        created: keys(|step| matches!(step, Step::Create(_))),
        updated: keys(|step| matches!(step, Step::Update(..))),
        deleted: keys(|step| matches!(step, Step::Delete { .. })),
        unchanged: plan.unchanged,
        skipped: plan.skipped.clone(),
    }
}

fn told(step: &Step) -> String {
    let verb = match step {
        Step::Create(_) => "create",
        Step::Update(..) => "update",
        Step::Delete { .. } => "delete",
    };
    format!("{verb}  {}", printable(step.key()))
}

fn summary(report: &Report) -> String {
    let Report { dry_run, created, updated, deleted, unchanged, skipped } = report;
    let mut text = if *dry_run { "nothing is written: " } else { "" }.to_owned();
    text.push_str(&format!(
        "{} created, {} updated, {} deleted, {unchanged} unchanged",
        created.len(),
        updated.len(),
        deleted.len()
    ));
    if !skipped.is_empty() {
        text.push_str(&format!(", {} left out", skipped.len()));
    }
    text
}

/// Carries the steps out. The first failure ends it; what was written by then stays.
async fn carry_out(target: &Target, steps: Vec<Step>) -> Result<(), Fatal> {
    let whole = steps.len();
    let mut progress = shown();
    let mut done = 0_usize;
    let mut writes = futures_util::stream::iter(steps)
        .map(|step| async move {
            let key = step.key().to_owned();
            let outcome = write(target, step).await;
            (key, outcome)
        })
        .buffer_unordered(WRITES_AT_A_TIME);
    while let Some((key, outcome)) = writes.next().await {
        if let Err(error) = outcome {
            let what = format!("import {}", place(target, &key));
            let mut fatal = target.failed(&what, &error);
            fatal.reason.push_str(&format!(
                "\n  {done} of {whole} keys are written; the same import again writes what is left"
            ));
            return Err(fatal);
        }
        done += 1;
        if let Some(progress) = &mut progress {
            progress.tell(&format!("{done} of {whole} keys"), Some((whole - done) as u64));
        }
    }
    Ok(())
}

/// One write. It carries an idempotency key of its own, so that a lost answer does not make two of it.
async fn write(target: &Target, step: Step) -> Result<(), ClientError> {
    let namespace = &target.namespace;
    let (item, revision) = match step {
        Step::Create(item) => (item, 0),
        Step::Update(item, revision) => (item, revision),
        Step::Delete { key, revision } => {
            let condition = WriteCondition::Revision(ETag(revision));
            let options = WriteOptions { condition, ..WriteOptions::default() };
            target.client().delete_config(namespace, &key, &options).await?;
            return Ok(());
        }
    };
    let as_header = |text: &str| HeaderValue::from_str(text).is_ok();
    if !as_header(&item.content_type) || item.managed_by.as_deref().is_some_and(|by| !as_header(by)) {
        return write_by_txn(target, item, revision).await;
    }
    let ConfigItem { key, value, content_type, managed_by, .. } = item;
    let condition =
        if revision == 0 { WriteCondition::Absent } else { WriteCondition::Revision(ETag(revision)) };
    let options = WriteOptions { condition, managed_by, ..WriteOptions::default() };
    let value = value.unwrap_or_default();
    target.client().put_config(namespace, &key, value, &content_type, &options).await?;
    Ok(())
}

/// A write whose manager or media type no header can carry, because it is not ASCII.
async fn write_by_txn(target: &Target, item: ConfigItem, revision: u64) -> Result<(), ClientError> {
    let ConfigItem { key, value, content_type, managed_by, .. } = item;
    let (target_of, op) = (RevisionTarget::ModRevision, CompareOp::Equal);
    let compare = TxnCompare::Revision { key: key.clone(), target: target_of, op, value: revision };
    let put = TxnPut {
        key: key.clone(),
        value: value.unwrap_or_default(),
        content_type: Some(content_type),
        session: None,
        managed_by,
    };
    let request = TxnRequest { compare: vec![compare], success: vec![TxnOp::Put(put)], failure: Vec::new() };
    let answer = target.client().txn(&target.namespace, &request, &TxnOptions::default()).await?;
    if answer.value.succeeded {
        return Ok(());
    }
    let detail = format!("{key} was written meanwhile");
    Err(Problem::new(ErrorCode::RevisionMismatch, detail).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(key: &str, value: &str) -> ConfigItem {
        ConfigItem {
            key: key.to_owned(),
            value: Some(value.as_bytes().to_vec()),
            content_type: "text/plain".to_owned(),
            create_revision: 3,
            mod_revision: 9,
            version: 4,
            session: None,
            managed_by: None,
        }
    }

    fn owned(key: &str) -> ConfigItem {
        ConfigItem { session: Some("s".to_owned()), ..item(key, "v") }
    }

    #[test]
    fn only_what_differs_is_written_and_revisions_do_not_count() {
        let there = |key: &str, value: &str| ConfigItem {
            create_revision: 1,
            mod_revision: 2,
            version: 1,
            ..item(key, value)
        };
        let managed = ConfigItem { managed_by: Some("git".to_owned()), ..item("managed", "v") };
        let typed = ConfigItem { content_type: "text/html".to_owned(), ..item("typed", "v") };
        let items = vec![
            item("changed", "new"),
            managed.clone(),
            item("new", "v"),
            item("same", "v"),
            item("taken", "v"),
            typed.clone(),
        ];
        let present = vec![
            there("changed", "old"),
            there("managed", "v"),
            there("other", "v"),
            there("same", "v"),
            ConfigItem { mod_revision: 2, ..owned("taken") },
            there("typed", "v"),
        ];
        let expected = Plan {
            steps: vec![
                Step::Update(item("changed", "new"), 2),
                Step::Update(managed, 2),
                Step::Create(item("new", "v")),
                Step::Update(item("taken", "v"), 2),
                Step::Update(typed, 2),
            ],
            unchanged: 1,
            ..Plan::default()
        };
        assert_eq!(plan(items, present, false, Ephemeral::Skip), expected);
    }

    #[test]
    fn pruning_spares_what_the_file_has_and_what_a_session_owns() {
        let items = vec![item("a", "v"), owned("mine")];
        let present = vec![item("a", "v"), item("extra", "v"), item("mine", "v"), owned("theirs")];
        let expected = Plan {
            steps: vec![Step::Delete { key: "extra".to_owned(), revision: 9 }],
            unchanged: 1,
            skipped: vec!["mine".to_owned()],
            spared: vec!["theirs".to_owned()],
        };
        assert_eq!(plan(items, present, true, Ephemeral::Skip), expected);
    }

    #[test]
    fn keys_of_sessions_are_made_permanent_only_when_asked() {
        let plan = plan(vec![owned("mine")], Vec::new(), false, Ephemeral::Permanent);
        assert_eq!(plan.steps, [Step::Create(item("mine", "v"))]);
        assert_eq!(plan.skipped, Vec::<String>::new());
        let report = report(&plan, true);
        assert_eq!(summary(&report), "nothing is written: 1 created, 0 updated, 0 deleted, 0 unchanged");
    }
}
