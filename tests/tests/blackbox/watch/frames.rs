//! What the events of a watch on config keys look like.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use holdfast_api::watch::{Change, ChangeEvent, Progress, StateEvent};
use reqwest::Method;
use serde_json::json;

use crate::watch::node::{Body, Nodes, SOON, beginning, data, id_of};

const WATCH: &str = "/v1/namespaces/default/watch";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_revision_is_one_event_with_all_its_changes_in_the_order_of_keys() -> Result<()> {
    let nodes = Nodes::start(1, &[]).await?;
    let before = nodes.put("a/x", "old").await?;
    let mut stream = nodes.open(&format!("{WATCH}?prefix=a/")).await?;
    ensure!(stream.header("cache-control") == Some("no-store"), "it may be cached");
    let began = beginning(&mut stream).await?;
    ensure!(began.revision == before, "it begins at {began}, not at {before}");

    nodes.put("b/x", "of another prefix").await?;
    let put = nodes.put("a/x", "a line\nand \"another\"").await?;
    let event = stream.next_telling(SOON).await?;
    ensure!(id_of(&event)?.history_id == began.history_id && id_of(&event)?.revision == put, "{event:?}");
    let expected = json!({"revision": put, "changes": [{
        "op": "put", "key": "a/x", "value": "a line\nand \"another\"", "content_type": "text/plain",
        "create_revision": before, "mod_revision": put, "version": 2,
    }]});
    ensure!(data(&event, "change")? == expected, "{event:?}");

    let bytes = nodes.put("a/y", vec![0xff, 0]).await?;
    let event = stream.next_telling(SOON).await?;
    let change = &data(&event, "change")?["changes"][0];
    ensure!(change["value_base64"] == "/wA=" && change["mod_revision"] == bytes, "{event:?}");

    let ops = json!({"success": [
        {"put": {"key": "a/z", "value": "new"}}, {"put": {"key": "b/z", "value": "new"}}, {"delete": {"key": "a/x"}},
    ]});
    let txn = nodes.done(Method::POST, "/v1/namespaces/default/txn", ops).await?;
    let event = stream.next_telling(SOON).await?;
    let ChangeEvent { revision, changes } = event.parse::<ChangeEvent<Change>>()?;
    let told: Vec<_> = changes.iter().map(|change| (change.op(), change.key())).collect();
    ensure!(revision == txn && told == [("delete", "a/x"), ("put", "a/z")], "{event:?}");
    ensure!(
        data(&event, "change")?["changes"][0] == json!({"op": "delete", "key": "a/x", "mod_revision": txn})
    );

    nodes.done(Method::PUT, "/v1/sessions/s", json!({"ttl_ms": 60_000})).await?;
    let owned = "/v1/namespaces/default/config/a/s?session=s";
    nodes.done(Method::PUT, owned, Body::Bytes(b"here".to_vec())).await?;
    let event = stream.next_telling(SOON).await?;
    ensure!(data(&event, "change")?["changes"][0]["session"] == "s", "{event:?}");
    let ended = nodes.done(Method::DELETE, "/v1/sessions/s", ()).await?;
    let event = stream.next_telling(SOON).await?;
    let expire = json!({"op": "expire", "key": "a/s", "mod_revision": ended});
    ensure!(data(&event, "change")?["changes"] == json!([expire]), "{event:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_comes_first_in_parts_and_then_what_changed_since() -> Result<()> {
    let nodes = Nodes::start(1, &[]).await?;
    // More than one part.
    for batch in 0..6 {
        let puts: Vec<_> =
            (0..100).map(|n| json!({"put": {"key": format!("a/{batch}{n:02}"), "value": "v"}})).collect();
        nodes.done(Method::POST, "/v1/namespaces/default/txn", json!({"success": puts})).await?;
    }
    let last = nodes.put("c", "v").await?;
    nodes.put("b", "not watched").await?;
    let path = format!("{WATCH}?initial=state&prefix=c&prefix=a/&prefix=a/1");
    let mut stream = nodes.open(&path).await?;
    let (mut keys, mut parts) = (Vec::new(), 0);
    let revision = loop {
        let event = stream.next_within(SOON).await?;
        let StateEvent { revision, items, more } = event.parse()?;
        ensure!(event.kind == "state" && event.id.is_some() != more, "{event:?}");
        ensure!(items.iter().all(|item| item.value.as_deref() == Some(b"v")), "{event:?}");
        keys.extend(items.into_iter().map(|item| item.key));
        parts += 1;
        if !more {
            break revision;
        }
    };
    let mut expected: Vec<String> = (0..600).map(|n| format!("a/{n:03}")).collect();
    expected.push("c".to_owned());
    ensure!(keys == expected && 2 < parts && last <= revision, "{parts} parts at {revision}: {keys:?}");
    let put = nodes.put("a/000", "changed").await?;
    let event = stream.next_telling(SOON).await?;
    ensure!(id_of(&event)?.revision == put && event.kind == "change", "{event:?}");

    let mut empty = nodes.open(&format!("{WATCH}?initial=state&prefix=nothing/")).await?;
    let event = empty.next_within(SOON).await?;
    ensure!(data(&event, "state")? == json!({"revision": put, "items": [], "more": false}), "{event:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_resumes_after_the_last_event_that_its_reader_has() -> Result<()> {
    let nodes = Nodes::start(1, &[]).await?;
    let mut stream = nodes.open(WATCH).await?;
    beginning(&mut stream).await?;
    nodes.put("a", "1").await?;
    let event = stream.next_telling(SOON).await?;
    let id = event.id.unwrap_or_default();
    drop(stream);
    let missed = [nodes.put("a", "2").await?, nodes.put("b", "1").await?];
    // The id wins over what else the request says.
    for path in [WATCH.to_owned(), format!("{WATCH}?from_revision=1"), format!("{WATCH}?initial=state")] {
        let mut stream = nodes.open_after(0, &path, Some(&id)).await?;
        ensure!(beginning(&mut stream).await?.to_string() == id, "{path} does not begin at {id}");
        for revision in missed {
            let event = stream.next_telling(SOON).await?;
            ensure!(id_of(&event)?.revision == revision && event.kind == "change", "{path}: {event:?}");
        }
    }
    let mut stream = nodes.open(&format!("{WATCH}?from_revision={}", missed[1])).await?;
    let event = stream.next_telling(SOON).await?;
    ensure!(id_of(&event)?.revision == missed[1], "from_revision is not the first one: {event:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_stream_says_each_second_how_far_it_is() -> Result<()> {
    let nodes = Nodes::start(1, &[]).await?;
    let mut stream = nodes.open(&format!("{WATCH}?prefix=a/")).await?;
    let began = beginning(&mut stream).await?;
    let asked = Instant::now();
    let passed = nodes.put("b", "of another prefix").await?;
    for _ in 0..3 {
        let event = stream.next_within(SOON).await?;
        let Progress { revision } = event.parse()?;
        ensure!(event.kind == "progress" && id_of(&event)?.revision == revision, "{event:?}");
        ensure!(revision == passed && began.revision < revision, "{event:?}");
    }
    let took = asked.elapsed();
    ensure!(Duration::from_millis(2_500) < took, "three events of progress in {took:?}");
    Ok(())
}
