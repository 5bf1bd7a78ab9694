//! What becomes of a claim that waits, that comes too late, or that meets a lock delay.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use holdfast_tests::harness::{Cluster, Seen, poll};
use serde_json::json;

use crate::contract::api::{Api, Reply, SETTLE_LIMIT};
use crate::contract::trial::{Verdict, kept, kept_by};

const TTL_MS: u64 = 60_000;
const SHORT_TTL_MS: u64 = 1_000;
const LONG_WAIT: Duration = Duration::from_secs(30);

/// One node with a holder of the lock `l`.
async fn held(cluster: &Cluster, holder_ttl_ms: u64) -> Result<(Api, u64)> {
    let api = Api::of(cluster, 0)?;
    api.open_session("holder", holder_ttl_ms).await?;
    api.open_session("waiter", TTL_MS).await?;
    let token = api.try_lock("l", "held", "holder").await?.expect(201)?.token()?;
    Ok((api, token))
}

/// Starts a wait for `l` and returns once it is in the queue.
async fn queued(api: &Api, claim: &'static str) -> Result<tokio::task::JoinHandle<Result<Reply>>> {
    let waiting = api.clone();
    let wait = tokio::spawn(async move { waiting.wait_for("l", claim, "waiter", LONG_WAIT).await });
    api.wait_queued("l", 1).await?;
    Ok(wait)
}

#[tokio::test]
async fn a_waiting_claim_is_granted_when_the_lock_is_released() -> Result<()> {
    kept_by(1, async |cluster| {
        let (api, token) = held(cluster, TTL_MS).await?;
        let wait = queued(&api, "next").await?;
        api.release("l", "held").await?;
        let granted = wait.await.context("the wait panicked")??.expect(201)?;
        Ok(larger(&granted, token)?)
    })
    .await
}

#[tokio::test]
async fn a_waiting_claim_is_granted_when_the_holders_session_expires() -> Result<()> {
    kept_by(1, async |cluster| {
        let begun = Instant::now();
        let (api, token) = held(cluster, SHORT_TTL_MS).await?;
        let granted = queued(&api, "next").await?.await.context("the wait panicked")??.expect(201)?;
        let waited = begun.elapsed();
        let lost = api.claim("l", "held").await?.expect(200);
        // The claim's tombstone may go with its session; if it is there, it says why.
        if let Ok(lost) = lost {
            assert_eq!((lost.text("state"), lost.text("reason")), ("lost", "expired"));
        }
        assert!(Duration::from_millis(SHORT_TTL_MS) <= waited, "granted after {waited:?}");
        Ok(larger(&granted, token)?)
    })
    .await
}

fn larger(granted: &Reply, before: u64) -> Result<()> {
    let token = granted.token()?;
    ensure!(before < token, "token {token} followed {before}");
    Ok(())
}

#[tokio::test]
async fn a_wait_that_is_over_ends_its_claim() -> Result<()> {
    kept_by(1, async |cluster| {
        let (api, _) = held(cluster, TTL_MS).await?;
        let over = api.wait_for("l", "next", "waiter", Duration::from_millis(200)).await?.expect(408)?;
        assert_eq!(over.code(), "wait-timeout");
        let again = api.wait_for("l", "next", "waiter", LONG_WAIT).await?.expect(410)?;
        assert_eq!((again.code(), again.text("reason")), ("claim-ended", "timed-out"));
        assert_eq!(api.queue("l").await?, Vec::<String>::new());
        api.release("l", "held").await?;
        assert_eq!(api.holders("l").await?, Vec::<String>::new(), "the lock went to a claim that had ended");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_claim_that_keeps_waiting_is_granted_later() -> Result<()> {
    kept_by(1, async |cluster| {
        let (api, token) = held(cluster, TTL_MS).await?;
        let body = json!({ "session": "waiter", "wait_ms": 100, "keep_waiting": true });
        let queued = api.put_claim("l", "next", &body).await?.expect(202)?;
        assert_eq!((queued.text("state"), &queued.body["position"]), ("queued", &json!(1)));
        assert_eq!(queued.body["holders"][0]["claim"], "held");
        api.release("l", "held").await?;
        let granted = api.claim("l", "next").await?.expect(200)?;
        assert_eq!(granted.text("state"), "held");
        larger(&granted, token)?;
        let replayed = api.put_claim("l", "next", &body).await?.expect(200)?;
        assert_eq!(replayed.token()?, granted.token()?);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_put_that_comes_after_its_delete_takes_nothing() -> Result<()> {
    kept(async |cluster| {
        let apis = Api::of_all(cluster)?;
        apis[0].open_session("owner", TTL_MS).await?;
        apis[0].release("l", "late").await?;
        for api in &apis {
            let late = api.try_lock("l", "late", "owner").await?.expect(410)?;
            assert_eq!((late.code(), late.text("reason")), ("claim-ended", "deleted-unseen"));
        }
        assert_eq!(apis[1].holders("l").await?, Vec::<String>::new());
        apis[2].try_lock("l", "in-time", "owner").await?.expect(201)?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_lock_that_was_lost_stays_free_for_its_delay() -> Result<()> {
    const DELAY: Duration = Duration::from_millis(1_500);
    kept_by(1, async |cluster| {
        let api = Api::of(cluster, 0)?;
        let delay_ms = u64::try_from(DELAY.as_millis()).context("a short delay")?;
        api.put_session("holder", &json!({ "ttl_ms": SHORT_TTL_MS, "lock_delay_ms": delay_ms })).await?;
        api.open_session("waiter", TTL_MS).await?;
        let token = api.try_lock("l", "held", "holder").await?.expect(201)?.token()?;
        let refused = poll("the holder to be lost", SETTLE_LIMIT, async || {
            match api.try_lock("l", "next", "waiter").await {
                Ok(answer) if answer.body["delay_remaining_ms"].as_u64().is_some_and(|ms| 0 < ms) => {
                    Seen::Ready(answer)
                }
                other => Seen::NotYet(format!("{other:?}")),
            }
        });
        let refused = refused.await?.expect(409)?;
        assert_eq!(refused.code(), "lock-held");
        let seen = Instant::now();
        assert_eq!(api.holders("l").await?, Vec::<String>::new());
        let left_ms = refused.body["delay_remaining_ms"].as_u64().context("a delay")?;
        let granted = api.wait_for("l", "next", "waiter", LONG_WAIT).await?.expect(201)?;
        let waited = seen.elapsed();
        // The replicated clock moves in the leader's own steps; it never runs ahead of real time.
        let slack = Duration::from_millis(50);
        assert!(
            Duration::from_millis(left_ms) <= waited + slack,
            "{left_ms} ms left, granted after {waited:?}"
        );
        Ok(larger(&granted, token)?)
    })
    .await
}

#[tokio::test]
async fn a_waiting_put_outlives_the_leader_and_keeps_its_place() -> Result<()> {
    kept(survives_the_leader).await
}

/// One request, over a connection to a node that stays, waits through the death of the leader.
async fn survives_the_leader(cluster: &mut Cluster) -> Verdict {
    let leader = cluster.wait_leader().await?;
    let (at, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let (api, witness) = (Api::of(cluster, at)?, Api::of(cluster, other)?);
    api.open_session("holder", TTL_MS).await?;
    api.open_session("waiter", TTL_MS).await?;
    let token = api.try_lock("l", "held", "holder").await?.expect(201)?.token()?;
    let wait = queued(&api, "first").await?;
    witness.open_session("second", TTL_MS).await?;
    witness.join_queue("l", "second", "second").await?;
    cluster.node_mut(leader).kill()?;
    let successor = cluster.wait_leader().await?;
    assert_ne!(successor, leader);
    assert!(!wait.is_finished(), "the wait ended with the leader");
    assert_eq!(witness.queue("l").await?, ["first", "second"]);
    witness.release("l", "held").await?;
    let granted = wait.await.context("the wait panicked")??;
    // 201 from the request that waited; 200 if it was sent again after the grant. Neither is an error.
    assert!(matches!(granted.status, 200 | 201), "{granted:?}");
    larger(&granted, token)?;
    assert_eq!(witness.queue("l").await?, ["second"]);
    Ok(())
}
