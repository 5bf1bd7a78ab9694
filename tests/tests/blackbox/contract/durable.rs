//! L1 and L2: what kills must not undo. A vote that was given, a token that was handed out.

use std::time::Duration;

use anyhow::{Context, Result};
use holdfast_tests::harness::{Cluster, Seen, Tally, Workload, WorkloadOptions, poll};
use holdfast_tests::history::{Ledger, Rule, check_contract};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::contract::api::{Api, SETTLE_LIMIT};
use crate::contract::trial::{Failure, Verdict, breach, caught, kept, vacuous};

/// A session that outlives the restarts of a trial.
const LONG_TTL_MS: u64 = 60_000;
/// Longer than a seeded server holds its fsync back.
const QUIET: Duration = Duration::from_secs(1);
/// A node that starts answers within this.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// Kills of all nodes right after a grant.
const KILLS: u32 = 2;
/// Grants that the contest for one lock must at least see.
const GRANTS_MIN: usize = 40;

#[tokio::test]
async fn l1_a_lock_has_one_holder_and_a_vote_is_given_once() -> Result<()> {
    kept(l1).await
}

#[tokio::test]
async fn l1_a_vote_that_is_not_fsynced_is_caught() -> Result<()> {
    caught("vote-not-fsynced", l1).await
}

/// One holder rests on one leader in a term, and that on votes that are never forgotten.
async fn l1(cluster: &mut Cluster) -> Verdict {
    votes_survive(cluster).await?;
    one_holder_at_a_time(cluster).await
}

/// Kills all nodes and starts each one alone, where nobody can tell it the term: it must remember its own.
async fn votes_survive(cluster: &mut Cluster) -> Verdict {
    let mut promised = Vec::new();
    for index in 0..cluster.nodes().len() {
        // An acknowledged write in this term: every node has stored its vote by then or will report a lower term.
        Api::of(cluster, index)?.put_config("term", "seen", &[]).await?;
        promised.push(term(cluster, index).await?);
    }
    if promised.contains(&0) {
        return Err(vacuous(format!("there was no election: terms {promised:?}")));
    }
    cluster.kill_all()?;
    for (index, promised) in promised.iter().enumerate() {
        cluster.node_mut(index).start()?;
        // Its very first answer counts: a term that goes back for a moment is a vote that is forgotten for a moment.
        let mut remembered = None;
        let answered = poll("the node to answer", ANSWER_LIMIT, async || {
            remembered = term(cluster, index).await.ok();
            if remembered.is_none() { Seen::NotYet(String::new()) } else { Seen::Ready(()) }
        });
        answered.await?;
        let remembered = remembered.context("an answer")?;
        if remembered < *promised {
            let name = cluster.nodes()[index].name();
            return Err(breach(format!("{name} was in term {promised} and woke up in term {remembered}")));
        }
        cluster.node_mut(index).kill()?;
    }
    cluster.start_all()?;
    Ok(cluster.wait_serving().await?)
}

async fn term(cluster: &Cluster, index: usize) -> Result<u64> {
    cluster.status(index).await?.term.context("a node without a term")
}

/// Clients contend for one lock through all nodes while its leader is killed.
async fn one_holder_at_a_time(cluster: &mut Cluster) -> Verdict {
    let options = WorkloadOptions {
        config_clients: 0,
        lock_clients: 4,
        locks: 1,
        rounds: 30,
        wait_ms_max: 1_000,
        ..WorkloadOptions::default()
    };
    let workload = Workload::new(options, cluster.endpoints());
    let stop = CancellationToken::new();
    let kill = async {
        let recorder = workload.recorder();
        let begun = poll("the contest to begin", SETTLE_LIMIT, async || match recorder.telling() {
            count if 60 < count => Seen::Ready(()),
            count => Seen::NotYet(format!("{count} operations")),
        });
        begun.await?;
        let leader = cluster.wait_leader().await?;
        cluster.node_mut(leader).restart()?;
        anyhow::Ok(())
    };
    let (history, killed) = tokio::join!(workload.run(&stop), kill);
    killed?;
    let history = history?;
    let grants = Tally::of(&history).grants;
    if grants < GRANTS_MIN {
        return Err(vacuous(format!("only {grants} grants")));
    }
    let violations = check_contract(&history, &Ledger::default());
    match violations.into_iter().find(|found| matches!(found.rule, Rule::L1 | Rule::L2)) {
        Some(found) => Err(breach(format!("{:?}: {}", found.rule, found.why))),
        None => Ok(()),
    }
}

#[tokio::test]
async fn l2_tokens_increase_and_survive_the_loss_of_all_nodes() -> Result<()> {
    kept(l2).await
}

#[tokio::test]
async fn l2_an_answer_before_the_fsync_is_caught() -> Result<()> {
    caught("answer-before-fsync", l2).await
}

/// Kills all nodes in the moment of a grant's answer: the grant is remembered, and later tokens are larger.
async fn l2(cluster: &mut Cluster) -> Verdict {
    let mut last_token = 0;
    for round in 0..KILLS {
        let leader = cluster.wait_leader().await?;
        let api = Api::of(cluster, leader)?;
        let (claim, next) = (format!("claim-{round}"), format!("next-{round}"));
        let by_own_session = json!({ "ttl_ms": LONG_TTL_MS });
        // The fsync of an earlier entry would carry the grant along: the grant has to be the only one under way.
        tokio::time::sleep(QUIET).await;
        let token = api.put_claim("l", &claim, &by_own_session).await?.expect(201)?.token()?;
        cluster.kill_all()?;
        increased(&mut last_token, token)?;
        cluster.start_all()?;
        cluster.wait_serving().await?;
        for api in Api::of_all(cluster)? {
            let seen = api.claim("l", &claim).await?;
            if seen.status == 404 || seen.text("state") != "held" || seen.token()? != token {
                return Err(breach(format!("grant {token} was answered and then became {seen:?}")));
            }
        }
        let api = Api::of(cluster, 0)?;
        api.release("l", &claim).await?;
        let token = api.put_claim("l", &next, &by_own_session).await?.expect(201)?.token()?;
        increased(&mut last_token, token)?;
        api.release("l", &next).await?;
    }
    Ok(())
}

fn increased(last: &mut u64, token: u64) -> Result<(), Failure> {
    if token <= *last {
        return Err(breach(format!("token {token} was handed out after {last}")));
    }
    *last = token;
    Ok(())
}
