//! L6 and L7: the order of a lock's queue, and how far a release reaches.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use holdfast_tests::harness::Cluster;

use crate::contract::api::Api;
use crate::contract::trial::{Verdict, breach, caught, kept};

const TTL_MS: u64 = 60_000;
/// A wait that only a grant or the claim's end can cut short within a test.
const LONG_WAIT: Duration = Duration::from_secs(30);
/// How soon a waiter is told that its session has ended: far below its wait.
const TOLD_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test]
async fn l6_waiters_are_granted_in_the_order_of_the_log() -> Result<()> {
    kept(l6).await
}

#[tokio::test]
async fn l6_a_queue_in_another_order_is_caught() -> Result<()> {
    caught("fifo-by-arrival", l6).await
}

/// Claims that queued through different nodes are granted one by one in their order, less the one whose session ends.
async fn l6(cluster: &mut Cluster) -> Verdict {
    let apis = Api::of_all(cluster)?;
    apis[0].open_session("owner", TTL_MS).await?;
    apis[0].open_session("leaver", TTL_MS).await?;
    apis[0].try_lock("l", "first", "owner").await?.expect(201)?;
    let mut expected = vec!["first".to_owned()];
    for (api, number) in apis.iter().cycle().zip(0..4) {
        let claim = format!("w{number}");
        api.open_session(&claim, TTL_MS).await?;
        api.join_queue("l", &claim, &claim).await?;
        expected.push(claim);
    }
    waiter_is_told_of_its_sessions_end(&apis).await?;
    let queue = apis[2].queue("l").await?;
    if queue != expected[1..] {
        return Err(breach(format!("joined as {:?}, listed as {queue:?}", &expected[1..])));
    }
    let mut last_token = 0;
    for (number, claim) in expected.iter().enumerate() {
        let holders = apis[number % apis.len()].holders("l").await?;
        if holders != [claim.clone()] {
            return Err(breach(format!("{claim} was next in {expected:?}, granted was {holders:?}")));
        }
        let token = apis[0].claim("l", claim).await?.expect(200)?.token()?;
        if token <= last_token {
            return Err(breach(format!("{claim} got token {token} after {last_token}")));
        }
        last_token = token;
        apis[(number + 1) % apis.len()].release("l", claim).await?;
    }
    Ok(())
}

/// A waiter in the middle of the queue whose session ends is answered at once and leaves the queue.
async fn waiter_is_told_of_its_sessions_end(apis: &[Api]) -> Verdict {
    let api = apis[1].clone();
    let wait = tokio::spawn(async move { api.wait_for("l", "leaving", "leaver", LONG_WAIT).await });
    apis[0].wait_queued("l", 5).await?;
    apis[2].open_session("behind", TTL_MS).await?;
    apis[2].join_queue("l", "behind", "behind").await?;
    let ended = Instant::now();
    apis[2].end_session("leaver").await?;
    let told = wait.await.context("the wait panicked")??;
    if told.status != 410 || TOLD_WITHIN < ended.elapsed() {
        return Err(breach(format!(
            "a waiter without a session was told {told:?} after {:?}",
            ended.elapsed()
        )));
    }
    let queue = apis[0].queue("l").await?;
    if queue.contains(&"leaving".to_owned()) || !queue.contains(&"behind".to_owned()) {
        return Err(breach(format!("the queue after a session's end: {queue:?}")));
    }
    apis[0].release("l", "behind").await?;
    Ok(())
}

#[tokio::test]
async fn l7_a_release_ends_its_own_claim_only() -> Result<()> {
    kept(l7).await
}

#[tokio::test]
async fn l7_a_release_by_lock_name_is_caught() -> Result<()> {
    caught("release-by-lock-name", l7).await
}

/// Deleting a claim that waits, that ended or that never was leaves the holder alone.
async fn l7(cluster: &mut Cluster) -> Verdict {
    let apis = Api::of_all(cluster)?;
    apis[0].open_session("owner", TTL_MS).await?;
    let former = apis[0].try_lock("l", "former", "owner").await?.expect(201)?.token()?;
    apis[0].release("l", "former").await?;
    let token = apis[0].try_lock("l", "holder", "owner").await?.expect(201)?.token()?;
    apis[1].open_session("waiter", TTL_MS).await?;
    apis[1].join_queue("l", "waiting", "waiter").await?;
    for (api, other) in apis.iter().zip(["never-seen", "former", "waiting"]) {
        api.release("l", other).await?;
        let holder = api.claim("l", "holder").await?;
        if holder.text("state") != "held" || holder.token()? != token {
            return Err(breach(format!("releasing {other} left the holder as {holder:?}")));
        }
    }
    let forced = apis[0].force_release("l", former).await?;
    if forced.status != 412 || apis[2].holders("l").await? != ["holder"] {
        return Err(breach(format!("the former holder's token released the lock: {forced:?}")));
    }
    apis[1].release("l", "holder").await?;
    if !apis[2].holders("l").await?.is_empty() {
        return Err(breach("its own release did not end the claim"));
    }
    Ok(())
}
