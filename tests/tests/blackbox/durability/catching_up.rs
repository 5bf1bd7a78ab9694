//! A follower that was away: it catches up from the log or by a snapshot, and is then equal to the others.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_api::claims::ClaimRequest;
use holdfast_api::client::{Client, WriteOptions};
use holdfast_api::config::ConfigItem;
use holdfast_api::locks::LockView;
use holdfast_api::query::{Consistency, ListQuery, ReadQuery};
use holdfast_api::sessions::{SessionRequest, SessionView};
use holdfast_tests::harness::{Cluster, Metrics, NodeOptions, Seen, poll, serial};

use crate::durability::evidence::list_all;
use crate::durability::load::NAMESPACE;

/// Entries between two snapshots and entries kept below one, for a log that soon ends.
const SHORT_LOG: [&str; 4] = ["--raft-snapshot-entries", "200", "--raft-keep-entries", "50"];
/// Writes while the follower is away: several purges of the short log, which go by the thousand, and little for the
/// usual one.
const WRITES_AWAY: u32 = 2_000;
/// Rounds of such writes until the log must have been purged beyond what the follower has.
const ROUNDS_MAX: u32 = 8;
/// Keys that are written; each is overwritten and some are deleted.
const KEYS: u32 = 100;
/// Writes that are under way at the same time.
const WRITERS: u32 = 10;
/// Longer than the scenario.
const SESSION_TTL_MS: u64 = 600_000;
const CATCH_UP_LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_was_away_for_less_than_the_log_keeps_catches_up_without_a_snapshot() -> Result<()> {
    let _turn = serial().await;
    let mut cluster = Cluster::start(3).await?;
    let result = away(&mut cluster, LogKeeps::WhatItLacks).await;
    let installed = result.map_err(|error| cluster.explain(error))?;
    ensure!(installed < 0.5, "{installed} snapshots were installed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_was_away_for_longer_than_the_log_keeps_is_sent_a_snapshot() -> Result<()> {
    let _turn = serial().await;
    let args = SHORT_LOG.map(str::to_owned).to_vec();
    let mut cluster = Cluster::start_with(3, &NodeOptions { args, env: Vec::new() }).await?;
    let result = away(&mut cluster, LogKeeps::TooLittle).await;
    let installed = result.map_err(|error| cluster.explain(error))?;
    ensure!(0.5 < installed, "no snapshot was installed");
    Ok(())
}

/// Whether the leader's log still has what the follower lacks when it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LogKeeps {
    WhatItLacks,
    TooLittle,
}

/// Takes a follower away while the others work, waits until it is equal to them, then makes the cluster depend on
/// it. The snapshots that it installed.
async fn away(cluster: &mut Cluster, log_keeps: LogKeeps) -> Result<f64> {
    let leader = cluster.wait_leader().await?;
    let (follower, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let endpoints = cluster.endpoints();
    let client = Client::new(&endpoints)?;
    write(&client, "before", KEYS).await?;
    hold_locks(&client, "before").await?;

    let last_index = raft_metric(cluster, follower, "last_log_index").await?;
    cluster.node_mut(follower).kill()?;
    for round in 1.. {
        write(&client, "away", WRITES_AWAY).await?;
        // The log is purged in the background and by the thousand.
        let purged = raft_metric(cluster, leader, "purged_index").await?;
        if log_keeps == LogKeeps::WhatItLacks || last_index < purged {
            break;
        }
        ensure!(round < ROUNDS_MAX, "the log goes back to {purged}, the follower ends at {last_index}");
    }
    hold_locks(&client, "away").await?;
    end_session(&client, "before").await?;
    cluster.node_mut(follower).start()?;

    let last = last_revision(&client).await?;
    let applied = wait_applied(cluster, follower, leader).await;
    applied.context("catch up")?;
    let mut states = Vec::new();
    for endpoint in &endpoints {
        states.push(state(endpoint, last).await.with_context(|| format!("read the state of {endpoint}"))?);
    }
    ensure!(50 < states[leader].items.len(), "only {} items", states[leader].items.len());
    ensure!(
        states[leader].locks.len() == 1 && states[leader].sessions.len() == 2,
        "{:?}",
        states[leader].locks
    );
    for state in &states {
        ensure!(*state == states[leader], "the states differ:\n{state:?}\n{:?}", states[leader]);
    }
    let installed = raft_metric(cluster, follower, "snapshots_installed").await?;

    // With one of the others gone nothing is acknowledged without the node that was away.
    cluster.wait_serving().await?;
    cluster.node_mut(other).kill()?;
    write(&client, "after", KEYS).await?;
    let item = client.get_config(NAMESPACE, "after/0", &ReadQuery::default()).await?;
    ensure!(!item.value.bytes.is_empty(), "an empty value");
    Ok(installed)
}

/// Writes `count` values to keys below `prefix`, and deletes each tenth key of the first round.
async fn write(client: &Client, prefix: &str, count: u32) -> Result<()> {
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (client, prefix) = (client.clone(), prefix.to_owned());
        writers.spawn(async move {
            let options = WriteOptions::default();
            for number in (writer..count).step_by(10) {
                let key = format!("{prefix}/{}", number % KEYS);
                let value = format!("{prefix}-{number}");
                client.put_config(NAMESPACE, &key, value, "text/plain", &options).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended??;
    }
    for number in (5..KEYS).step_by(10) {
        client.delete_config(NAMESPACE, &format!("{prefix}/{number}"), &WriteOptions::default()).await?;
    }
    Ok(())
}

/// Two sessions: the first holds a lock, or waits behind its holder, and the second waits behind both.
async fn hold_locks(client: &Client, name: &str) -> Result<()> {
    let request = SessionRequest {
        ttl_ms: Some(SESSION_TTL_MS),
        name: Some(format!("name of {name}")),
        ..SessionRequest::default()
    };
    client.put_session(name, &request).await?;
    let queued = ClaimRequest {
        session: Some(name.to_owned()),
        keep_waiting: true,
        wait_ms: 1,
        ..ClaimRequest::default()
    };
    client.put_claim(NAMESPACE, "lock", name, &queued).await?;
    let second = format!("{name}-2");
    client.put_session(&second, &request).await?;
    let queued = ClaimRequest { session: Some(second.clone()), ..queued };
    client.put_claim(NAMESPACE, "lock", &second, &queued).await?;
    Ok(())
}

/// Ends both sessions of [`hold_locks`], so that the lock moves on.
async fn end_session(client: &Client, name: &str) -> Result<()> {
    client.delete_session(name).await?;
    client.delete_session(&format!("{name}-2")).await?;
    Ok(())
}

async fn raft_metric(cluster: &Cluster, node: usize, name: &str) -> Result<f64> {
    let metrics = Metrics::scrape(cluster.http(), &cluster.nodes()[node].ops_url()).await?;
    metrics.value(&format!("holdfast_raft_{name}"), &[]).with_context(|| format!("no metric {name}"))
}

async fn last_revision(client: &Client) -> Result<u64> {
    let list = client.list_config(NAMESPACE, &ListQuery::default()).await?;
    Ok(list.value.revision)
}

async fn wait_applied(cluster: &Cluster, node: usize, leader: usize) -> Result<()> {
    let goal = cluster.status(leader).await?.applied_index;
    poll("the node to have applied what the leader has", CATCH_UP_LIMIT, async || {
        match cluster.status(node).await {
            Ok(status) if goal <= status.applied_index && status.phase == "serving" => Seen::Ready(()),
            Ok(status) => Seen::NotYet(format!("{status:?}, goal {goal:?}")),
            Err(error) => Seen::NotYet(format!("{error:#}")),
        }
    })
    .await
}

/// What a node has, without what only the leader knows and what moves with time.
#[derive(Debug, PartialEq)]
struct State {
    items: Vec<ConfigItem>,
    locks: Vec<LockView>,
    sessions: Vec<SessionView>,
}

async fn state(endpoint: &str, revision: u64) -> Result<State> {
    let client = Client::new([endpoint])?;
    let query = ListQuery {
        consistency: Some(Consistency::Stale),
        min_revision: Some(revision),
        ..ListQuery::default()
    };
    let items = list_all(&client, query.clone()).await?.into_values().collect();
    let mut locks = client.list_locks(NAMESPACE, &query).await.context("list locks")?.value.items;
    for lock in &mut locks {
        lock.holders.iter_mut().for_each(|holder| holder.held_ms = 0);
        lock.queue.iter_mut().for_each(|queued| queued.waiting_ms = 0);
    }
    let mut sessions = client.list_sessions(&query).await.context("list sessions")?.value.items;
    sessions.iter_mut().for_each(|session| session.remaining_ms = None);
    Ok(State { items, locks, sessions })
}
