//! Keys that a session owns: they end with it.

use std::time::Duration;

use holdfast_tests::harness::{Seen, poll};
use serde_json::{Value, json};

use super::fixture::{Door, Fixture};
use super::wire::ask;

const NAMESPACE: &str = "/v1/namespaces/default";

async fn item(door: &Door, key: &str) -> Value {
    let list = door.send(ask("GET", format!("{NAMESPACE}/config?prefix={key}&values=true"))).await;
    list.expect(200).value()["items"][0].clone()
}

async fn owned_keys(door: &Door, session: &str) -> Value {
    door.send(ask("GET", format!("/v1/sessions/{session}"))).await.expect(200).value()["keys"].clone()
}

#[tokio::test]
async fn a_key_of_a_session_ends_with_it() {
    let fixture = Fixture::shared().await;
    let [follower, leader] = fixture.both().await;
    for (door, other_door) in [(&follower, &leader), (&leader, &follower)] {
        let session = format!("owner-{}", door.via);
        door.session(&session).await;
        let key = format!("owned/{}", door.via);
        let target = format!("{NAMESPACE}/config/{key}");
        door.send(ask("PUT", format!("{target}?session={session}")).body("x")).await.expect(201);
        assert_eq!(item(other_door, &key).await["session"], session);
        assert_eq!(owned_keys(other_door, &session).await, 1);
        let claim = format!("{NAMESPACE}/locks/{session}/claims/a");
        door.send(ask("PUT", claim).json(&json!({ "session": session }))).await.expect(201);
        assert_eq!(owned_keys(door, &session).await, 1, "a claim is no key");

        let ended = door.send(ask("DELETE", format!("/v1/sessions/{session}"))).await.expect(204).revision();
        other_door.send(ask("GET", &target)).await.refused(404, "key-not-found");
        let past = ask("GET", format!("{NAMESPACE}/history/{key}"));
        let past = other_door.send(past).await.expect(200).value();
        let first = &past["versions"][0];
        assert_eq!(
            (&first["deleted"], &first["expired"], &first["mod_revision"]),
            (&json!(true), &json!(true), &json!(ended))
        );
        assert_eq!(past["versions"][1]["session"], session);

        let late = ask("PUT", format!("{target}?session={session}")).body("late");
        door.send(late).await.refused(410, "session-expired");
        let never = ask("PUT", format!("{target}?session=never-{}", door.via)).body("x");
        door.send(never).await.refused(404, "session-not-found");
        door.send(ask("PUT", format!("{target}?session=no%20good")).body("x"))
            .await
            .refused(400, "invalid-name");
        door.send(ask("PUT", format!("{target}?session=")).body("x")).await.refused(400, "invalid-name");
        door.send(ask("GET", &target)).await.refused(404, "key-not-found");
    }
}

#[tokio::test]
async fn every_write_says_anew_who_owns_and_who_manages_a_key() {
    let fixture = Fixture::shared().await;
    for door in fixture.both().await {
        let sessions = ["one", "two"].map(|name| format!("moves-{}-{name}", door.via));
        for session in &sessions {
            door.session(session).await;
        }
        let key = format!("moves/{}", door.via);
        let target = format!("{NAMESPACE}/config/{key}");
        let owned = |session: &str| ask("PUT", format!("{target}?session={session}")).body("x");
        door.send(owned(&sessions[0]).header("Holdfast-Managed-By", "  a manager ")).await.expect(201);
        let first = item(&door, &key).await;
        assert_eq!((&first["session"], &first["managed_by"]), (&json!(sessions[0]), &json!("a manager")));
        door.send(owned(&sessions[1])).await.expect(200);
        let second = item(&door, &key).await;
        assert_eq!((&second["session"], second.get("managed_by")), (&json!(sessions[1]), None));
        for (session, keys) in sessions.iter().zip([0, 1]) {
            assert_eq!(owned_keys(&door, session).await, keys, "{session}");
        }
        door.send(ask("DELETE", format!("/v1/sessions/{}", sessions[0]))).await.expect(204);
        assert_eq!(item(&door, &key).await["session"], json!(sessions[1]));
        door.send(ask("PUT", &target).body("stays")).await.expect(200);
        assert_eq!(owned_keys(&door, &sessions[1]).await, 0);
        door.send(ask("DELETE", format!("/v1/sessions/{}", sessions[1]))).await.expect(204);
        let stays = item(&door, &key).await;
        assert_eq!((&stays["value"], stays.get("session")), (&json!("stays"), None));
        let long = "m".repeat(257);
        for manager in [long.as_str(), "ö"] {
            let bad = ask("PUT", &target).header("Holdfast-Managed-By", manager).body("x");
            door.send(bad).await.refused(400, "invalid-header");
        }
    }
}

#[tokio::test]
async fn a_session_that_is_not_kept_alive_takes_its_keys_along() {
    let fixture = Fixture::shared().await;
    for door in fixture.both().await {
        let session = format!("silent-{}", door.via);
        let body = json!({ "ttl_ms": 1_000 });
        door.send(ask("PUT", format!("/v1/sessions/{session}")).json(&body)).await.expect(201);
        let key = format!("{NAMESPACE}/config/silent/{}", door.via);
        let written = json!({ "success": [{ "put": { "key": format!("silent/{}", door.via), "value": "x", "session": session } }] });
        door.send(ask("POST", format!("{NAMESPACE}/txn")).json(&written)).await.expect(200);
        let gone = poll("the key to go", Duration::from_secs(20), async || {
            let reply = door.send(ask("GET", &key)).await;
            if reply.status == 404 { Seen::Ready(()) } else { Seen::NotYet(reply.shown()) }
        });
        gone.await.unwrap_or_else(|error| panic!("{error:#}"));
        door.send(ask("GET", format!("/v1/sessions/{session}"))).await.refused(410, "session-expired");
    }
}

#[tokio::test]
async fn a_session_owns_so_many_keys_and_no_more() {
    const OWNED_MAX: usize = 4_096;
    const AT_A_TIME: usize = 128;
    let fixture = Fixture::shared().await;
    let [_, leader] = fixture.both().await;
    let namespace = "/v1/namespaces/many-owned";
    leader.send(ask("PUT", namespace)).await.expect(201);
    leader.session("owner-of-many").await;
    let put =
        |n: usize| json!({ "put": { "key": format!("k/{n}"), "value": "", "session": "owner-of-many" } });
    let txn = |ops: Vec<Value>| ask("POST", format!("{namespace}/txn")).json(&json!({ "success": ops }));
    for first in (0..OWNED_MAX).step_by(AT_A_TIME) {
        leader.send(txn((first..first + AT_A_TIME).map(put).collect())).await.expect(200);
    }
    assert_eq!(owned_keys(&leader, "owner-of-many").await, OWNED_MAX);
    let one_more =
        leader.send(ask("PUT", format!("{namespace}/config/more?session=owner-of-many")).body("x")).await;
    assert!(one_more.refused(429, "overloaded")["retry_after_ms"].is_u64());
    leader.send(txn(vec![put(0), put(OWNED_MAX)])).await.refused(429, "overloaded");
    // What it owns already it may write again.
    leader.send(txn(vec![put(0)])).await.expect(200);
    leader.send(ask("DELETE", namespace)).await.refused(409, "namespace-not-empty");
    leader.send(ask("DELETE", "/v1/sessions/owner-of-many")).await.expect(204);
    leader.send(ask("DELETE", namespace)).await.expect(204);
}
