//! Claims: tried, waited for, replayed, released, lost.

use serde_json::{Value, json};

use super::fixture::{Door, Fixture};
use super::wire::{Reply, ask};

fn lock(name: &str, door: &Door) -> String {
    format!("/v1/namespaces/default/locks/{name}-{}", door.via)
}

async fn put(door: &Door, claim: &str, body: &Value) -> Reply {
    door.send(ask("PUT", claim).json(body)).await
}

async fn get(door: &Door, claim: &str) -> Value {
    door.send(ask("GET", claim)).await.expect(200).value()
}

#[tokio::test]
async fn a_free_lock_is_granted_and_a_replay_has_the_same_token() {
    let fixture = Fixture::shared().await;
    let [follower, leader] = fixture.both().await;
    for (door, other_door) in [(&follower, &leader), (&leader, &follower)] {
        let session = format!("free-{}", door.via);
        door.session(&session).await;
        let claim = format!("{}/claims/a", lock("free", door));
        door.send(ask("GET", &claim)).await.refused(404, "claim-not-found");
        let body = json!({ "session": session, "mode": "exclusive", "permits": 1, "label": "the first" });
        let granted = put(door, &claim, &body).await.expect(201);
        let held = granted.value();
        let token = held["fencing_token"].as_u64().expect("a token");
        assert_eq!(token, granted.revision());
        for (member, expected) in [
            ("state", json!("held")),
            ("claim", json!("a")),
            ("session", json!(session)),
            ("label", json!("the first")),
        ] {
            assert_eq!(held[member], expected, "{held}");
        }
        assert!((1..=3_600_000).contains(&held["remaining_ms"].as_u64().expect("remaining_ms")), "{held}");

        let replayed = put(other_door, &claim, &body).await.expect(200).value();
        assert_eq!(replayed["fencing_token"], token);
        assert_eq!(get(other_door, &claim).await["fencing_token"], token);
        assert_eq!(get(door, &format!("{claim}?consistency=stale")).await["state"], "held");

        let conflict = json!({ "session": session, "mode": "exclusive", "ttl_ms": 1_000 });
        door.send(ask("PUT", &claim).json(&conflict)).await.refused(400, "invalid-field");
        let conflict = json!({ "ttl_ms": 60_000 });
        door.send(ask("PUT", &claim).json(&conflict)).await.refused(409, "claim-conflict");

        // A refused try leaves nothing, so its id may be tried again.
        let rival = format!("{}/claims/rival", lock("free", door));
        let rival_body = json!({ "ttl_ms": 60_000 });
        for _ in 0..2 {
            let refused = put(door, &rival, &rival_body).await.refused(409, "lock-held");
            let [holder] = refused["holders"].as_array().expect("holders").as_slice() else {
                panic!("one holder expected: {refused}");
            };
            assert_eq!((&holder["claim"], &holder["session"]), (&json!("a"), &json!(session)));
            assert_eq!((&holder["fencing_token"], &holder["label"]), (&json!(token), &json!("the first")));
            assert!(holder["held_ms"].is_u64(), "{holder}");
        }
        door.send(ask("GET", &rival)).await.refused(404, "claim-not-found");

        for _ in 0..2 {
            door.send(ask("DELETE", &claim)).await.expect(204);
        }
        let released =
            json!({ "state": "released", "claim": "a", "reason": "released", "fencing_token": token });
        assert_eq!(get(door, &claim).await, released);
        let ended = put(door, &claim, &body).await.refused(410, "claim-ended");
        assert_eq!((&ended["reason"], &ended["fencing_token"]), (&json!("released"), &json!(token)));
        let next = put(door, &rival, &rival_body).await.expect(201).value();
        assert!(token < next["fencing_token"].as_u64().expect("a token"), "{next}");
        assert_eq!(next["session"], format!("c-{}", next["fencing_token"]));
        door.send(ask("DELETE", &rival)).await.expect(204);
        // The session that the claim made ended with it.
        let session = format!("/v1/sessions/{}", next["session"].as_str().expect("a session"));
        assert_eq!(
            door.send(ask("GET", session)).await.refused(410, "session-expired")["reason"],
            "released"
        );
    }
}

#[tokio::test]
async fn a_wait_ends_with_the_grant_or_with_its_time() {
    let fixture = Fixture::shared().await;
    for door in fixture.both().await {
        let lock = lock("wait", &door);
        let first = format!("{lock}/claims/first");
        let own = json!({ "ttl_ms": 600_000 });
        let token = put(&door, &first, &own).await.expect(201).value()["fencing_token"].as_u64();

        let late = format!("{lock}/claims/late");
        let short = json!({ "ttl_ms": 600_000, "wait_ms": 200 });
        put(&door, &late, &short).await.refused(408, "wait-timeout");
        assert_eq!(
            get(&door, &late).await,
            json!({ "state": "lost", "claim": "late", "reason": "timed-out" })
        );
        assert_eq!(put(&door, &late, &short).await.refused(410, "claim-ended")["reason"], "timed-out");

        let queued = format!("{lock}/claims/queued");
        let keep = json!({ "ttl_ms": 600_000, "wait_ms": 100, "keep_waiting": true, "label": "patient" });
        let mut seen = put(&door, &queued, &keep).await.expect(202).value();
        for _ in 0..2 {
            assert_eq!((&seen["state"], &seen["position"]), (&json!("queued"), &json!(1)), "{seen}");
            assert_eq!(seen["holders"][0]["claim"], "first", "{seen}");
            assert_eq!(seen["label"], "patient", "{seen}");
            seen = put(&door, &queued, &keep).await.expect(202).value();
        }
        assert_eq!(get(&door, &queued).await["position"], 1);

        let leaver = format!("{lock}/claims/leaver");
        let keep_at_once = json!({ "ttl_ms": 600_000, "keep_waiting": true });
        assert_eq!(put(&door, &leaver, &keep_at_once).await.expect(202).value()["position"], 2);
        for _ in 0..2 {
            door.send(ask("DELETE", &leaver)).await.expect(204);
        }
        assert_eq!(
            get(&door, &leaver).await,
            json!({ "state": "released", "claim": "leaver", "reason": "left-queue" })
        );
        assert_eq!(
            put(&door, &leaver, &keep_at_once).await.refused(410, "claim-ended")["reason"],
            "left-queue"
        );

        let last = format!("{lock}/claims/last");
        let long = json!({ "ttl_ms": 600_000, "wait_ms": 20_000 });
        let (granted, ()) = tokio::join!(put(&door, &last, &long), async {
            // Once the last one waits, both before it go.
            while door.send(ask("GET", &lock)).await.value()["queue"].as_array().map_or(0, Vec::len) < 2 {}
            door.send(ask("DELETE", &first)).await.expect(204);
            let second = get(&door, &queued).await;
            assert_eq!(second["state"], "held", "{second}");
            assert!(token < second["fencing_token"].as_u64(), "{second}");
            door.send(ask("DELETE", &queued)).await.expect(204);
        });
        let granted = granted.expect(201).value();
        assert!(token < granted["fencing_token"].as_u64(), "{granted}");
        door.send(ask("DELETE", &last)).await.expect(204);
    }
}

#[tokio::test]
async fn a_claim_needs_a_live_session_and_an_id_that_was_never_deleted() {
    let fixture = Fixture::shared().await;
    for door in fixture.both().await {
        let lock = lock("needs", &door);
        let unknown = json!({ "session": format!("never-{}", door.via) });
        put(&door, &format!("{lock}/claims/a"), &unknown).await.refused(404, "session-not-found");
        let session = format!("needs-{}", door.via);
        door.session(&session).await;
        door.send(ask("DELETE", format!("/v1/sessions/{session}"))).await.expect(204);
        let ended = put(&door, &format!("{lock}/claims/a"), &json!({ "session": session })).await;
        assert_eq!(ended.refused(410, "session-expired")["reason"], "released");

        let unseen = format!("{lock}/claims/unseen");
        door.send(ask("DELETE", &unseen)).await.expect(204);
        let refused = put(&door, &unseen, &json!({ "ttl_ms": 60_000 })).await.refused(410, "claim-ended");
        assert_eq!((&refused["reason"], &refused["fencing_token"]), (&json!("deleted-unseen"), &Value::Null));
        assert_eq!(get(&door, &unseen).await["reason"], "deleted-unseen");
        assert_eq!(door.send(ask("GET", &lock)).await.value()["holders"], json!([]));
    }
}

#[tokio::test]
async fn a_posted_claim_has_a_location_and_its_key_names_it_on_every_node() {
    let fixture = Fixture::shared().await;
    let [follower, leader] = fixture.both().await;
    for (door, other_door) in [(&follower, &leader), (&leader, &follower)] {
        let claims = format!("{}/claims", lock("posted", door));
        let body = json!({ "ttl_ms": 600_000 });
        let key = format!("posted-claim-{}", door.via);
        let keyed = ask("POST", &claims).header("Idempotency-Key", key.as_str());
        let made = door.send(keyed.clone().json(&body)).await.expect(201);
        let location = made.header("Location").expect("a location").to_owned();
        assert_eq!(location, format!("{claims}/{}", made.value()["claim"].as_str().expect("a claim")));
        let token = made.value()["fencing_token"].clone();
        assert_eq!(get(door, &location).await["fencing_token"], token);
        let again = other_door.send(keyed.clone().json(&body)).await.expect(200);
        assert_eq!(again.header("Location"), Some(location.as_str()));
        assert_eq!(again.value()["fencing_token"], token);
        let other = json!({ "ttl_ms": 500_000 });
        let reused = other_door.send(keyed.json(&other)).await;
        reused.refused(422, "idempotency-key-reused");

        let held = door.send(ask("POST", &claims).json(&body)).await;
        held.refused(409, "lock-held");
        for refused in [&reused, &held] {
            assert_eq!(refused.header("Location"), None, "nothing was made");
        }
        let waiting = json!({ "ttl_ms": 600_000, "keep_waiting": true });
        let queued = door.send(ask("POST", &claims).json(&waiting)).await.expect(202);
        let queued_at = queued.header("Location").expect("a location");
        door.send(ask("DELETE", &location)).await.expect(204);
        assert_eq!(get(door, queued_at).await["state"], "held");
        door.send(ask("DELETE", queued_at)).await.expect(204);
        let fresh = door.send(ask("POST", &claims).json(&body)).await.expect(201);
        assert_ne!(fresh.header("Location"), Some(location.as_str()));
        door.send(ask("DELETE", fresh.header("Location").expect("a location"))).await.expect(204);
    }
}
