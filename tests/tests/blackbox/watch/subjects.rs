//! Streams about locks, elections and sessions.

use anyhow::{Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use crate::watch::node::{Nodes, SOON, beginning, code, data, id_of};

const LOCK: &str = "/v1/namespaces/default/locks/jobs%2Fa";
const ELECTION: &str = "/v1/namespaces/default/elections/jobs%2Fa";

async fn sessions(nodes: &Nodes, ids: &[&str]) -> Result<()> {
    for id in ids {
        nodes.done(Method::PUT, &format!("/v1/sessions/{id}"), json!({"ttl_ms": 60_000})).await?;
    }
    Ok(())
}

/// Makes a claim that may wait: the revision after it.
async fn claim(nodes: &Nodes, place: &str, id: &str, session: &str) -> Result<u64> {
    let body = json!({"session": session, "wait_ms": 1, "keep_waiting": true});
    nodes.done(Method::PUT, &format!("{place}/{id}"), body).await
}

fn op(event: &Value) -> Value {
    event["changes"][0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_and_an_election_tell_who_waits_who_is_granted_and_who_ends() -> Result<()> {
    let nodes = Nodes::start(1, &[]).await?;
    sessions(&nodes, &["s1", "s2"]).await?;
    // The two have one name and nothing else in common.
    let mut quiet = nodes.open("/v1/namespaces/default/locks/jobs/events").await?;
    beginning(&mut quiet).await?;
    for (place, claims) in [(LOCK, format!("{LOCK}/claims")), (ELECTION, format!("{ELECTION}/candidates"))] {
        let mut stream = nodes.open(&format!("{place}/events?initial=state")).await?;
        let event = stream.next_within(SOON).await?;
        let state = data(&event, "state")?;
        let nobody = json!([]);
        ensure!(state["lock"]["name"] == "jobs/a" && state["lock"]["holders"] == nobody, "{event:?}");
        ensure!(id_of(&event)?.revision == state["revision"], "{event:?}");

        let token = claim(&nodes, &claims, "c1", "s1").await?;
        let event = stream.next_telling(SOON).await?;
        let granted = json!({"op": "granted", "claim": "c1", "session": "s1", "mode": "exclusive", "fencing_token": token});
        ensure!(op(&data(&event, "change")?) == granted, "{event:?}");
        claim(&nodes, &claims, "c2", "s2").await?;
        let event = stream.next_telling(SOON).await?;
        ensure!(
            op(&data(&event, "change")?)
                == json!({"op": "queued", "claim": "c2", "session": "s2", "mode": "exclusive"})
        );

        nodes.done(Method::DELETE, &format!("{claims}/c1"), ()).await?;
        let event = stream.next_telling(SOON).await?;
        let ended = json!({"op": "ended", "claim": "c1", "session": "s1", "reason": "released", "fencing_token": token});
        ensure!(op(&data(&event, "change")?) == ended, "{event:?}");
        let event = stream.next_telling(SOON).await?;
        let next = op(&data(&event, "change")?);
        ensure!(next["op"] == "granted" && next["claim"] == "c2", "{event:?}");
        ensure!(next["fencing_token"] == id_of(&event)?.revision, "{event:?}");

        let mut past = nodes.open(&format!("{place}/events?from_revision={token}")).await?;
        let ops: Vec<String> = {
            let mut ops = Vec::new();
            for _ in 0..4 {
                let event = past.next_telling(SOON).await?;
                ops.push(op(&data(&event, "change")?)["op"].as_str().unwrap_or_default().to_owned());
            }
            ops
        };
        ensure!(ops == ["granted", "queued", "ended", "granted"], "{place}: {ops:?}");
        nodes.done(Method::DELETE, &format!("{claims}/c2"), ()).await?;
    }
    let event = quiet.next_within(SOON).await?;
    ensure!(event.kind == "progress", "a stream about another lock: {event:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_tells_of_its_claims_and_its_stream_ends_with_it() -> Result<()> {
    let nodes = Nodes::start(1, &[]).await?;
    sessions(&nodes, &["s1", "s2"]).await?;
    let mut stream = nodes.open("/v1/sessions/s2/events?initial=state").await?;
    let event = stream.next_within(SOON).await?;
    let state = data(&event, "state")?;
    ensure!(state["session"]["id"] == "s2" && state["session"]["claims"] == json!([]), "{event:?}");
    let claims = format!("{LOCK}/claims");
    claim(&nodes, &claims, "c1", "s1").await?;
    claim(&nodes, &claims, "c2", "s2").await?;
    nodes.done(Method::DELETE, "/v1/sessions/s1", ()).await?;
    let ended = nodes.done(Method::DELETE, "/v1/sessions/s2", ()).await?;
    let mut told = Vec::new();
    let mut last = String::new();
    while let Some(event) = stream.next().await? {
        if event.kind == "change" {
            told.extend(data(&event, "change")?["changes"].as_array().cloned().unwrap_or_default());
        }
        last = event.id.unwrap_or_default();
    }
    let token = told.get(1).map(|granted| granted["fencing_token"].clone()).unwrap_or_default();
    let place = |op: &str| json!({"op": op, "namespace": "default", "lock": "jobs/a", "claim": "c2"});
    let mut granted = place("granted");
    granted["fencing_token"] = token.clone();
    let mut released = place("ended");
    released["fencing_token"] = token;
    released["reason"] = "released".into();
    let over = json!({"op": "session-ended", "session": "s2", "reason": "released"});
    ensure!(told == [place("queued"), granted, released, over], "{told:?}");
    ensure!(last.ends_with(&format!("-{ended}")), "{last} is not the end at {ended}");

    // Who has seen the end is told that it is over; who has not is told the rest.
    for (path, id) in [("/v1/sessions/s2/events", None), ("/v1/sessions/s2/events", Some(last.as_str()))] {
        let refused = nodes.refused(path, id).await?;
        ensure!(code(&refused) == (410, "session-expired"), "{id:?}: {refused:?}");
    }
    let mut rest = nodes.open(&format!("/v1/sessions/s2/events?from_revision={ended}")).await?;
    let event = rest.next_telling(SOON).await?;
    ensure!(event.data.contains("session-ended"), "{event:?}");
    ensure!(rest.next().await?.is_none(), "more after the end");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_a_claim_made_is_told_of_from_its_beginning() -> Result<()> {
    let nodes = Nodes::start(1, &[]).await?;
    let made = nodes.send(Method::PUT, &format!("{LOCK}/claims/c"), json!({"ttl_ms": 60_000})).await?;
    let session =
        serde_json::from_str::<Value>(&made.body)?["session"].as_str().unwrap_or_default().to_owned();
    let path = format!("/v1/sessions/{session}/events?from_revision={}", made.revision);
    let mut stream = nodes.open(&path).await?;
    let event = stream.next_telling(SOON).await?;
    let changes = data(&event, "change")?["changes"].clone();
    ensure!(changes[0] == json!({"op": "created", "session": session, "ttl_ms": 60_000}), "{event:?}");
    ensure!(changes[1]["op"] == "granted" && changes[1]["claim"] == "c", "{event:?}");
    Ok(())
}
