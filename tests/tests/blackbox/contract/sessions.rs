//! L3, L4 and L5: what a session's life means for its locks.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use holdfast_tests::harness::{Cluster, Seen, poll};
use tokio::task::JoinSet;

use crate::contract::api::{Api, Reply, SETTLE_LIMIT};
use crate::contract::trial::{Verdict, breach, caught, kept, vacuous};

/// The shortest TTL that the service grants.
const SHORT_TTL_MS: u64 = 1_000;
const LONG_TTL_MS: u64 = 60_000;
/// Pauses of the leader before its silence about keepalives is believed.
const PAUSES: u32 = 3;
/// Keepalives that wait in a paused leader's buffers.
const BURIED_KEEPALIVES: usize = 8;
/// For how long sessions are renewed under a leadership that came back: longer than the seeded server holds an
/// expiry back.
const RENEWED_FOR: Duration = Duration::from_millis(3_500);
/// How much earlier than a TTL after its sending a keepalive may be found not to have counted: nothing but the
/// steps between two looks at a clock.
const CLOCK_SLACK: Duration = Duration::from_millis(20);

#[tokio::test]
async fn l3_a_grant_needs_a_live_session() -> Result<()> {
    kept(l3).await
}

#[tokio::test]
async fn l3_a_dropped_session_check_is_caught() -> Result<()> {
    caught("session-check-dropped", l3).await
}

/// Neither a try nor a place in a queue gives a lock to a session that ended.
async fn l3(cluster: &mut Cluster) -> Verdict {
    let apis = Api::of_all(cluster)?;
    apis[0].open_session("keeper", LONG_TTL_MS).await?;
    apis[0].try_lock("busy", "kept", "keeper").await?.expect(201)?;
    for (session, ttl_ms) in [("ended", LONG_TTL_MS), ("expired", SHORT_TTL_MS)] {
        apis[1].open_session(session, ttl_ms).await?;
        apis[1].join_queue("busy", session, session).await?;
    }
    apis[2].end_session("ended").await?;
    wait_ended(&apis[2], "expired").await?;
    for (api, session) in apis.iter().zip(["ended", "expired"]) {
        let answer = api.try_lock("free", session, session).await?;
        if answer.status != 410 || answer.code() != "session-expired" {
            return Err(breach(format!("session {session} is over and was answered {answer:?}")));
        }
    }
    let unseen = apis[0].try_lock("free", "unseen", "unseen").await?;
    if unseen.status != 404 {
        return Err(breach(format!("a session that never was was answered {unseen:?}")));
    }
    apis[0].release("busy", "kept").await?;
    for lock in ["busy", "free"] {
        let holders = apis[1].holders(lock).await?;
        if !holders.is_empty() {
            return Err(breach(format!("{holders:?} hold {lock} without a session")));
        }
    }
    apis[2].try_lock("busy", "after", "keeper").await?.expect(201)?;
    Ok(())
}

async fn wait_ended(api: &Api, session: &str) -> Result<()> {
    poll("the session to end", SETTLE_LIMIT, async || match api.session(session).await {
        Ok(answer) if answer.status == 410 => Seen::Ready(()),
        other => Seen::NotYet(format!("{other:?}")),
    })
    .await
}

#[tokio::test]
async fn l4_an_acknowledged_keepalive_keeps_a_session_for_its_ttl() -> Result<()> {
    kept(l4).await
}

#[tokio::test]
async fn l4_a_keepalive_answered_from_memory_is_caught() -> Result<()> {
    caught("keepalive-from-memory", l4).await
}

/// A keepalive that a leader reads after others took over and ended the session is not acknowledged.
async fn l4(cluster: &mut Cluster) -> Verdict {
    lives_its_ttl(cluster).await?;
    for round in 0..PAUSES {
        paused_leader_promises_nothing(cluster, round).await?;
    }
    Ok(())
}

/// Without any harm: keepalives carry a session far beyond its TTL, and it ends no earlier than one TTL after the last.
async fn lives_its_ttl(cluster: &Cluster) -> Verdict {
    let api = Api::of(cluster, cluster.wait_leader().await?)?;
    api.open_session("plain", SHORT_TTL_MS).await?;
    let mut renewed = Instant::now();
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(SHORT_TTL_MS / 2)).await;
        renewed = Instant::now();
        let answer = api.keepalive("plain").await?;
        if answer.status != 200 {
            return Err(breach(format!("a session renewed in time was answered {answer:?}")));
        }
    }
    stays_for_its_ttl(&api, "plain", renewed, SHORT_TTL_MS).await
}

/// A session whose acknowledged keepalive was sent at `renewed` is not found ended before its TTL has passed.
async fn stays_for_its_ttl(api: &Api, session: &str, renewed: Instant, ttl_ms: u64) -> Verdict {
    let ended = poll("the session to end", SETTLE_LIMIT, async || match api.session(session).await {
        Ok(answer) if answer.status == 410 => Seen::Ready(renewed.elapsed()),
        other => Seen::NotYet(format!("{other:?}")),
    });
    let lived = ended.await?;
    if lived + CLOCK_SLACK < Duration::from_millis(ttl_ms) {
        return Err(breach(format!("{session} ended {lived:?} after a keepalive, its TTL is {ttl_ms} ms")));
    }
    Ok(())
}

async fn paused_leader_promises_nothing(cluster: &mut Cluster, round: u32) -> Verdict {
    let leader = cluster.wait_leader().await?;
    let old = Api::of(cluster, leader)?;
    let sessions: Vec<String> = (0..BURIED_KEEPALIVES).map(|one| format!("buried-{round}-{one}")).collect();
    for session in &sessions {
        old.open_session(session, SHORT_TTL_MS).await?;
    }
    cluster.node_mut(leader).pause()?;
    let judged = keepalives_of_the_dead(cluster, leader, &sessions).await;
    cluster.wait_serving().await?;
    judged
}

/// Sends keepalives to the paused leader, waits until the others ended the sessions, and lets it go on.
async fn keepalives_of_the_dead(cluster: &mut Cluster, paused: usize, sessions: &[String]) -> Verdict {
    let mut keepalives = JoinSet::new();
    for session in sessions {
        // A client each, and so a connection each: they are read side by side.
        let (api, session) = (Api::of(cluster, paused)?, session.clone());
        keepalives.spawn(async move { api.keepalive(&session).await });
    }
    let successor = wait_leader_but(cluster, paused).await;
    let ended = match &successor {
        Ok(successor) => {
            let api = Api::of(cluster, *successor)?;
            let mut ended = Ok(());
            for session in sessions {
                ended = ended.and(wait_ended(&api, session).await);
            }
            ended
        }
        Err(_) => Ok(()),
    };
    cluster.node_mut(paused).resume()?;
    successor?;
    ended?;
    let mut answers = Vec::new();
    while let Some(answer) = keepalives.join_next().await {
        answers.push(answer.context("a keepalive panicked")??);
    }
    if let Some(promise) = answers.iter().find(|answer| answer.status == 200) {
        return Err(breach(format!("a deposed leader renewed a session that had ended: {promise:?}")));
    }
    let told = answers.iter().filter(|answer| answer.status == 410).count();
    if told == 0 {
        return Err(vacuous(format!("no keepalive got a definite answer: {answers:?}")));
    }
    Ok(())
}

async fn wait_leader_but(cluster: &Cluster, index: usize) -> Result<usize> {
    let others: Vec<usize> = (0..cluster.nodes().len()).filter(|other| *other != index).collect();
    poll("another leader", SETTLE_LIMIT, async || {
        let mut seen = Vec::new();
        for other in &others {
            match cluster.status(*other).await {
                Ok(status) if status.phase == "serving" && status.leader == Some(status.this.id.clone()) => {
                    return Seen::Ready(*other);
                }
                status => seen.push(format!("{status:?}")),
            }
        }
        Seen::NotYet(seen.join("; "))
    })
    .await
}

#[tokio::test]
async fn l5_only_the_present_leadership_ends_a_session() -> Result<()> {
    kept(l5).await
}

#[tokio::test]
async fn l5_an_expiry_without_the_leader_check_is_caught() -> Result<()> {
    caught("expiry-without-leader-check", l5).await
}

/// A leader hands over and takes over again. What its first leadership held against a session counts no more: a
/// keepalive that the second one acknowledged keeps the session for a TTL. What did end is free before it is granted anew.
///
/// The seeded server holds an expiry back for 3 s between deciding and proposing it, as a stalled process might, so that
/// it reaches the log under the second leadership. There it must be void, because it carries the first one's id.
async fn l5(cluster: &mut Cluster) -> Verdict {
    let leader = cluster.wait_leader().await?;
    let (api, home) = (Api::of(cluster, leader)?, cluster.status(leader).await?.this.id);
    let ttls_ms = [SHORT_TTL_MS, 2_000, 2_500, 3_000];
    let session = |ttl_ms: u64| format!("s{ttl_ms}");
    for ttl_ms in ttls_ms {
        api.open_session(&session(ttl_ms), ttl_ms).await?;
        api.try_lock(&session(ttl_ms), "held", &session(ttl_ms)).await?.expect(201)?;
    }
    // The first session is due by now; in a correct server it ends, in the seeded one its end is on the way.
    tokio::time::sleep(Duration::from_millis(SHORT_TTL_MS + 200)).await;
    let away = (leader + 1) % cluster.nodes().len();
    let away_id = cluster.status(away).await?.this.id;
    api.transfer_to(&away_id).await?;
    wait_leads(cluster, away).await?;
    Api::of(cluster, away)?.transfer_to(&home).await?;
    wait_leads(cluster, leader).await?;
    let mut living = Vec::new();
    for ttl_ms in ttls_ms {
        let renewed = Instant::now();
        let answer = api.keepalive(&session(ttl_ms)).await?;
        match answer.status {
            200 => living.push((ttl_ms, renewed)),
            410 => regranted_after_the_end(&api, &session(ttl_ms), &answer).await?,
            _ => return Err(vacuous(format!("a keepalive was answered {answer:?}"))),
        }
    }
    if living.is_empty() {
        return Err(vacuous("no session outlived the changes of leader"));
    }
    let until = Instant::now() + RENEWED_FOR;
    while Instant::now() < until {
        for (ttl_ms, renewed) in &mut living {
            let sent = Instant::now();
            let answer = api.keepalive(&session(*ttl_ms)).await?;
            let since = renewed.elapsed();
            match answer.status {
                200 => *renewed = sent,
                // The test itself was too slow: the session ran out by right.
                _ if Duration::from_millis(*ttl_ms) <= since => {
                    return Err(vacuous(format!("no keepalive for {since:?}")));
                }
                _ => {
                    let why = format!("session of {ttl_ms} ms, {since:?} after a keepalive: {answer:?}");
                    return Err(breach(why));
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// The lock of a session that ended is free, and goes to others only with a larger token.
async fn regranted_after_the_end(api: &Api, lock: &str, ended: &Reply) -> Verdict {
    let before = api.lock(lock).await?;
    if !before.body["holders"].as_array().is_some_and(Vec::is_empty) {
        return Err(breach(format!("the session is over ({ended:?}) and its lock is {before:?}")));
    }
    let next = api.put_claim(lock, "next", &serde_json::json!({ "ttl_ms": LONG_TTL_MS })).await?;
    let token = next.expect(201)?.token()?;
    if Some(token) <= before.body["last_token"].as_u64() {
        return Err(breach(format!("token {token} followed {before:?}")));
    }
    Ok(())
}

async fn wait_leads(cluster: &Cluster, index: usize) -> Result<()> {
    poll("the node to lead", SETTLE_LIMIT, async || match cluster.status(index).await {
        Ok(status) if status.phase == "serving" && status.leader == Some(status.this.id.clone()) => {
            Seen::Ready(())
        }
        other => Seen::NotYet(format!("{other:?}")),
    })
    .await
}
