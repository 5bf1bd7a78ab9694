//! What the client library lets a holder believe, while the whole cluster stands still.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use holdfast_api::client::{Client, Lost};
use holdfast_tests::harness::Cluster;
use serde_json::json;

use crate::contract::api::Api;
use crate::contract::trial::{Verdict, kept};

const TTL: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_guard_is_lost_before_anybody_else_is_granted_its_lock() -> Result<()> {
    kept(lost_in_time).await
}

async fn lost_in_time(cluster: &mut Cluster) -> Verdict {
    let client = Client::new(cluster.endpoints()).context("build a client")?;
    let guard = client.lock("default", "l").ttl(TTL).acquire().await.context("take the lock")?;
    // Longer than the TTL: keepalives carry it.
    tokio::time::sleep(TTL + Duration::from_millis(500)).await;
    ensure_that(guard.is_held() && guard.remaining() <= TTL, "a kept guard is held")?;
    let rival = {
        let api = Api::of(cluster, 0)?;
        let body = json!({ "ttl_ms": 60_000, "wait_ms": 30_000 });
        tokio::spawn(async move {
            let granted = api.put_claim("l", "rival", &body).await;
            (Instant::now(), granted)
        })
    };
    Api::of(cluster, 0)?.wait_queued("l", 1).await?;

    for index in 0..cluster.nodes().len() {
        cluster.node_mut(index).pause()?;
    }
    let paused = Instant::now();
    let left = guard.remaining();
    ensure_that(guard.is_held() && left <= TTL, "a pause alone loses nothing")?;
    let lost = tokio::time::timeout(TTL * 2, guard.lost()).await;
    let lost_at = Instant::now();
    let (is_held, remaining) = (guard.is_held(), guard.remaining());
    for index in 0..cluster.nodes().len() {
        cluster.node_mut(index).resume()?;
    }
    ensure_that(lost == Ok(Lost::LeaseRanOut), "the lease ran out")?;
    ensure_that(!is_held && remaining.is_zero(), "a lost guard is not held")?;
    let lasted = lost_at - paused;
    ensure_that(lasted <= TTL, "the guard is believed for a TTL at most")?;
    ensure_that(left <= lasted + Duration::from_millis(50), "the guard is believed for all of its time")?;

    let (granted_at, granted) = rival.await.context("the rival panicked")?;
    let token = granted?.expect(201)?.token()?;
    ensure_that(lost_at < granted_at, "the guard is lost before the rival is granted")?;
    ensure_that(guard.fencing_token() < token, "the rival's token is larger")?;
    ensure_that(!guard.is_held(), "a lost guard never comes back")?;
    Ok(())
}

fn ensure_that(holds: bool, what: &str) -> Result<()> {
    ensure!(holds, "it is not so that {what}");
    Ok(())
}
