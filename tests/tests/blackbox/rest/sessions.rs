//! Sessions: created, replayed, kept alive, ended, expired.

use std::time::Duration;

use holdfast_tests::harness::{Seen, poll};
use serde_json::{Value, json};

use super::fixture::Fixture;
use super::wire::ask;

const LOCKS: &str = "/v1/namespaces/default/locks";

#[tokio::test]
async fn a_session_is_created_found_again_and_ended_with_all_it_owns() {
    let fixture = Fixture::shared().await;
    for door in fixture.both().await {
        let id = format!("life-{}", door.via);
        let session = format!("/v1/sessions/{id}");
        door.send(ask("GET", &session)).await.refused(404, "session-not-found");
        door.send(ask("POST", format!("{session}/keepalive"))).await.refused(404, "session-not-found");

        let body =
            json!({ "ttl_ms": 600_000, "name": "a test", "labels": { "pod": "p-1" }, "lock_delay_ms": 7 });
        let created = door.send(ask("PUT", &session).json(&body)).await.expect(201);
        let view = created.value();
        for member in ["ttl_ms", "name", "labels", "lock_delay_ms"] {
            assert_eq!(view[member], body[member], "{view}");
        }
        assert_eq!((&view["id"], &view["claims"]), (&json!(id), &json!([])));
        assert_eq!(view["create_revision"], created.revision());
        let again = door.send(ask("PUT", &session).json(&body)).await.expect(200).value();
        assert_eq!(again["create_revision"], view["create_revision"]);
        let other = json!({ "ttl_ms": 600_000 });
        door.send(ask("PUT", &session).json(&other)).await.refused(409, "session-exists");

        let held = format!("{LOCKS}/life-{}/claims/a", door.via);
        let token = door.send(ask("PUT", &held).json(&json!({ "session": id }))).await.expect(201).value()
            ["fencing_token"]
            .clone();
        let busy = format!("{LOCKS}/busy-{}/claims/holder", door.via);
        door.send(ask("PUT", &busy).json(&json!({ "ttl_ms": 600_000 }))).await.expect(201);
        let blocked = format!("{LOCKS}/busy-{}/claims/b", door.via);
        let waiting = json!({ "session": id, "keep_waiting": true });
        door.send(ask("PUT", &blocked).json(&waiting)).await.expect(202);
        let mut claims = vec![
            json!({ "namespace": "default", "lock": format!("life-{}", door.via), "claim": "a", "state": "held", "fencing_token": token }),
            json!({ "namespace": "default", "lock": format!("busy-{}", door.via), "claim": "b", "state": "queued" }),
        ];
        let sorted = |view: &Value| {
            let mut claims = view["claims"].as_array().expect("claims").clone();
            claims.sort_by_key(|claim| claim["claim"].to_string());
            claims
        };
        claims.sort_by_key(|claim| claim["claim"].to_string());
        let kept = door.send(ask("POST", format!("{session}/keepalive"))).await.expect(200).value();
        assert_eq!(sorted(&kept), claims);
        assert_eq!(kept["ttl_ms"], 600_000);
        let remaining = kept["remaining_ms"].as_u64().expect("remaining_ms");
        assert!((590_000..=600_000).contains(&remaining), "{kept}");
        assert_eq!(sorted(&door.send(ask("GET", &session)).await.expect(200).value()), claims);
        let listed = door.send(ask("GET", format!("/v1/sessions?prefix={id}"))).await.expect(200).value();
        assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{listed}");
        assert_eq!(sorted(&listed["items"][0]), claims);

        for _ in 0..2 {
            assert!(door.send(ask("DELETE", &session)).await.expect(204).body.is_empty());
        }
        for request in [
            ask("PUT", &session).json(&body),
            ask("GET", &session),
            ask("POST", format!("{session}/keepalive")),
        ] {
            assert_eq!(door.send(request).await.refused(410, "session-expired")["reason"], "released");
        }
        let lock = door.send(ask("GET", format!("{LOCKS}/life-{}", door.via))).await.expect(200).value();
        assert_eq!((&lock["holders"], &lock["queue"]), (&json!([]), &json!([])));
    }
}

#[tokio::test]
async fn a_session_deleted_before_it_was_seen_never_begins() {
    let fixture = Fixture::shared().await;
    for door in fixture.both().await {
        let session = format!("/v1/sessions/unseen-{}", door.via);
        door.send(ask("DELETE", &session)).await.expect(204);
        let refusal = door.send(ask("PUT", &session).json(&json!({}))).await;
        assert_eq!(refusal.refused(410, "session-expired")["reason"], "deleted-unseen");
    }
}

#[tokio::test]
async fn an_empty_body_asks_for_the_documented_defaults() {
    let fixture = Fixture::shared().await;
    for door in fixture.both().await {
        let session = format!("/v1/sessions/defaults-{}", door.via);
        let view = door.send(ask("PUT", &session)).await.expect(201).value();
        assert_eq!((&view["ttl_ms"], &view["lock_delay_ms"]), (&json!(15_000), &json!(0)));
        door.send(ask("PUT", &session).json(&json!({ "ttl_ms": 15_000 }))).await.expect(200);
        door.send(ask("DELETE", &session)).await.expect(204);
    }
}

#[tokio::test]
async fn a_posted_session_has_a_location_and_its_key_names_it_on_every_node() {
    let fixture = Fixture::shared().await;
    let [follower, leader] = fixture.both().await;
    let body = json!({ "ttl_ms": 60_000 });
    for door in [&follower, &leader] {
        let first = door.send(ask("POST", "/v1/sessions").json(&body)).await.expect(201);
        let location = first.header("Location").expect("a location").to_owned();
        assert_eq!(location, format!("/v1/sessions/{}", first.value()["id"].as_str().expect("an id")));
        door.send(ask("GET", &location)).await.expect(200);
        let second = door.send(ask("POST", "/v1/sessions").json(&body)).await.expect(201);
        assert_ne!(second.header("Location"), Some(location.as_str()));
        for made in [&location, second.header("Location").expect("a location")] {
            door.send(ask("DELETE", made)).await.expect(204);
        }
    }
    let keyed = ask("POST", "/v1/sessions").header("Idempotency-Key", "posted-session").json(&body);
    let first = follower.send(keyed.clone()).await.expect(201);
    let again = leader.send(keyed).await.expect(201);
    assert_eq!(first.header("Location"), again.header("Location"));
    assert_eq!(first.value()["create_revision"], again.value()["create_revision"]);
    let other = ask("POST", "/v1/sessions").header("Idempotency-Key", "posted-session");
    let other = other.json(&json!({ "ttl_ms": 61_000 }));
    for door in [&follower, &leader] {
        let refused = door.send(other.clone()).await;
        refused.refused(422, "idempotency-key-reused");
        assert_eq!(refused.header("Location"), None, "nothing was made");
    }
    follower.send(ask("DELETE", first.header("Location").expect("a location"))).await.expect(204);
}

#[tokio::test]
async fn a_session_that_is_not_kept_alive_expires_and_its_claims_are_lost() {
    let fixture = Fixture::shared().await;
    let [follower, leader] = fixture.both().await;
    for door in [&follower, &leader] {
        let id = format!("mortal-{}", door.via);
        door.send(ask("PUT", format!("/v1/sessions/{id}")).json(&json!({ "ttl_ms": 1_000 })))
            .await
            .expect(201);
        let claim = format!("{LOCKS}/mortal-{}/claims/a", door.via);
        let body = json!({ "session": id });
        let held = door.send(ask("PUT", &claim).json(&body)).await.expect(201).value();
        let own = format!("{LOCKS}/mortal-own-{}/claims/a", door.via);
        let own_held =
            door.send(ask("PUT", &own).json(&json!({ "ttl_ms": 1_000 }))).await.expect(201).value();
        let waiter = format!("{LOCKS}/mortal-own-{}/claims/heir", door.via);
        let wait = json!({ "ttl_ms": 600_000, "wait_ms": 20_000 });
        let heir = door.send(ask("PUT", &waiter).json(&wait)).await.expect(201).value();
        assert!(own_held["fencing_token"].as_u64() < heir["fencing_token"].as_u64(), "{heir}");

        let ended = poll("the session to expire", Duration::from_secs(10), async || {
            let answer = door.send(ask("GET", format!("/v1/sessions/{id}"))).await;
            if answer.status == 410 { Seen::Ready(answer) } else { Seen::NotYet(answer.shown()) }
        });
        let ended = ended.await.expect("a session without keepalives ends");
        assert_eq!(ended.refused(410, "session-expired")["reason"], "expired");
        let lost = |claim: &str, held: &Value| json!({ "state": "lost", "claim": claim, "reason": "expired", "fencing_token": held["fencing_token"] });
        assert_eq!(door.send(ask("GET", &own)).await.expect(200).value(), lost("a", &own_held));
        assert_eq!(door.send(ask("GET", &claim)).await.expect(200).value(), lost("a", &held));
        let refused = door.send(ask("PUT", &claim).json(&body)).await.refused(410, "claim-ended");
        assert_eq!(
            (&refused["reason"], &refused["fencing_token"]),
            (&json!("expired"), &held["fencing_token"])
        );
        let late = format!("{LOCKS}/mortal-{}/claims/late", door.via);
        let refused = door.send(ask("PUT", &late).json(&body)).await.refused(410, "session-expired");
        assert_eq!(refused["reason"], "expired");
    }
}
