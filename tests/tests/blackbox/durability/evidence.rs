//! What was acknowledged, and the search for it on every node.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use holdfast_api::claims::ClaimView;
use holdfast_api::client::Client;
use holdfast_api::config::ConfigItem;
use holdfast_api::query::{Consistency, ListQuery, ReadQuery};
use tokio::task::JoinSet;

use crate::durability::load::NAMESPACE;

/// Reads of one node that are under way at the same time.
const READS_AT_ONCE: usize = 16;
/// The largest page of a list.
const PAGE: u32 = 1_000;
/// Errors that a report shows.
const ERRORS_SHOWN: usize = 5;

/// An acknowledged write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) revision: u64,
}

/// An acknowledged grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) lock: String,
    pub(super) claim: String,
    pub(super) token: u64,
    /// When the claim was first asked for.
    pub(super) asked: Instant,
    /// When the grant was answered.
    pub(super) told: Instant,
    /// When the release was about to be sent: the lock certainly was held from `told` until then.
    pub(super) released: Instant,
}

/// Everything that clients saw.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    pub(super) writes: Vec<Write>,
    pub(super) grants: Vec<Grant>,
    /// Calls that ended without a success, in words.
    pub(super) errors: Vec<String>,
    /// Acknowledged writes by the node that took the request, where the client was bound to one.
    pub(super) taken_by: BTreeMap<String, usize>,
    /// Acknowledged writes by client.
    pub(super) writes_by_worker: Vec<u32>,
}

impl Evidence {
    /// Notes an acknowledged write of client `worker`.
    pub(super) fn acknowledge_write(&mut self, worker: u32, write: Write, node: Option<String>) {
        self.writes.push(write);
        if let Some(node) = node {
            *self.taken_by.entry(node).or_default() += 1;
        }
        let worker = usize::try_from(worker).unwrap_or(usize::MAX);
        if self.writes_by_worker.len() <= worker {
            self.writes_by_worker.resize(worker + 1, 0);
        }
        self.writes_by_worker[worker] += 1;
    }

    /// The last few errors.
    pub(super) fn last_errors(&self) -> Vec<String> {
        self.errors.iter().rev().take(ERRORS_SHOWN).cloned().collect()
    }

    /// Fails unless every one of `nodes` nodes took a fair part of the requests.
    pub(super) fn came_through_all_nodes(&self, nodes: usize) -> Result<()> {
        let share = self.writes.len() / nodes / 3;
        let fair = self.taken_by.values().filter(|taken| share <= **taken).count();
        ensure!(fair == nodes, "requests were taken by {:?}", self.taken_by);
        Ok(())
    }

    /// Tokens are unique, grow in real time, equal no write's revision, and no two holds of a lock overlap.
    pub(super) fn check_tokens(&self) -> Result<()> {
        let mut by_revision = BTreeMap::new();
        for write in &self.writes {
            if let Some(other) = by_revision.insert(write.revision, format!("{write:?}")) {
                bail!("one revision for {other} and {write:?}");
            }
        }
        for grant in &self.grants {
            if let Some(other) = by_revision.insert(grant.token, format!("{grant:?}")) {
                bail!("one revision for {other} and {grant:?}");
            }
        }
        self.check_order()?;
        self.check_holds()
    }

    /// A grant whose request was sent after another one was answered has the greater token.
    fn check_order(&self) -> Result<()> {
        let mut told: Vec<&Grant> = self.grants.iter().collect();
        told.sort_by_key(|grant| grant.told);
        let mut asked = told.clone();
        asked.sort_by_key(|grant| grant.asked);
        let mut told = told.into_iter().peekable();
        let mut highest: Option<&Grant> = None;
        for grant in asked {
            while let Some(earlier) = told.next_if(|earlier| earlier.told < grant.asked) {
                highest = highest.filter(|highest| earlier.token < highest.token).or(Some(earlier));
            }
            if let Some(highest) = highest {
                ensure!(highest.token < grant.token, "{grant:?} came after {highest:?}");
            }
        }
        Ok(())
    }

    fn check_holds(&self) -> Result<()> {
        let mut by_lock: BTreeMap<&str, Vec<&Grant>> = BTreeMap::new();
        for grant in &self.grants {
            by_lock.entry(&grant.lock).or_default().push(grant);
        }
        for holds in by_lock.values_mut() {
            holds.sort_by_key(|grant| grant.told);
            for pair in holds.windows(2) {
                ensure!(pair[0].released < pair[1].told, "{:?} and {:?} held at once", pair[0], pair[1]);
                ensure!(pair[0].token < pair[1].token, "{:?} before {:?}", pair[0], pair[1]);
            }
        }
        Ok(())
    }

    /// The highest acknowledged revision.
    fn highest_revision(&self) -> u64 {
        let writes = self.writes.iter().map(|write| write.revision);
        writes.chain(self.grants.iter().map(|grant| grant.token)).max().unwrap_or_default()
    }

    /// Looks for every acknowledged revision on every node, in that node's own state.
    pub(super) async fn find_on_every_node(&self, endpoints: &[String]) -> Result<()> {
        for endpoint in endpoints {
            let found = self.find_on(endpoint).await;
            found.with_context(|| format!("read what was acknowledged from {endpoint}"))?;
        }
        Ok(())
    }

    async fn find_on(&self, endpoint: &str) -> Result<()> {
        let client = Client::new([endpoint])?;
        let (consistency, min_revision) = (Some(Consistency::Stale), Some(self.highest_revision()));
        let query = ReadQuery { consistency, min_revision, ..ReadQuery::default() };
        let items =
            list_all(&client, ListQuery { consistency, min_revision, ..ListQuery::default() }).await?;
        let mut reads: Vec<Sought> = Vec::new();
        for write in &self.writes {
            match items.get(&write.key) {
                None => bail!("{write:?} is gone"),
                Some(item) if item.mod_revision == write.revision => {
                    let value = item.value.as_deref();
                    ensure!(value == Some(write.value.as_bytes()), "{write:?} reads as {item:?}");
                }
                // Overwritten, so it has to be in the history.
                Some(item) => {
                    ensure!(write.revision < item.mod_revision, "{write:?} reads as the older {item:?}");
                    reads.push(Sought::Write(write.clone()));
                }
            }
        }
        reads.extend(self.grants.iter().cloned().map(Sought::Grant));
        let mut tasks = JoinSet::new();
        for chunk in reads.chunks(reads.len().div_ceil(READS_AT_ONCE).max(1)) {
            tasks.spawn(find_all(client.clone(), chunk.to_vec(), query.clone()));
        }
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        Ok(())
    }
}

/// Something acknowledged that takes a read of its own.
#[derive(Clone, Debug)]
enum Sought {
    Write(Write),
    Grant(Grant),
}

async fn find_all(client: Client, sought: Vec<Sought>, query: ReadQuery) -> Result<()> {
    for one in sought {
        match &one {
            Sought::Write(write) => {
                let query = ReadQuery { at_revision: Some(write.revision), ..query.clone() };
                let read = client.get_config(NAMESPACE, &write.key, &query).await;
                let read = read.with_context(|| format!("read {write:?}"))?.value;
                let same = read.mod_revision == write.revision && read.bytes == write.value.as_bytes();
                ensure!(same, "{write:?} reads as {read:?}");
            }
            Sought::Grant(grant) => {
                let read = client.get_claim(NAMESPACE, &grant.lock, &grant.claim, &query).await;
                let read = read.with_context(|| format!("read {grant:?}"))?.value;
                let token = match &read {
                    ClaimView::Held(held) => Some(held.fencing_token),
                    ClaimView::Released(ended) | ClaimView::Lost(ended) => ended.fencing_token,
                    ClaimView::Queued(_) => None,
                };
                ensure!(token == Some(grant.token), "{grant:?} reads as {read:?}");
            }
        }
    }
    Ok(())
}

/// All config items of one revision, by key.
pub(super) async fn list_all(client: &Client, first: ListQuery) -> Result<BTreeMap<String, ConfigItem>> {
    let mut query = ListQuery { values: true, limit: Some(PAGE), ..first };
    let mut items = BTreeMap::new();
    loop {
        let page = client.list_config(NAMESPACE, &query).await.context("list config")?.value;
        items.extend(page.items.into_iter().map(|item| (item.key.clone(), item)));
        match page.next_cursor {
            Some(cursor) => query.cursor = Some(cursor),
            None => return Ok(items),
        }
    }
}
