//! Locks as seen from outside, and the administrator's way to end a hold.

use serde_json::{Value, json};

use super::fixture::Fixture;
use super::wire::ask;

const LOCKS: &str = "/v1/namespaces/default/locks";

#[tokio::test]
async fn a_lock_that_nobody_used_is_free() {
    let fixture = Fixture::shared().await;
    for door in fixture.both().await {
        for query in ["", "?consistency=stale", "?consistency=linearizable", "?min_revision=1"] {
            let seen = door.send(ask("GET", format!("{LOCKS}/unused{query}"))).await.expect(200).value();
            assert_eq!(seen["holders"], json!([]), "{seen}");
            assert_eq!(seen["queue"], json!([]), "{seen}");
            assert_eq!(seen["last_token"], 0, "{seen}");
        }
    }
}

#[tokio::test]
async fn a_lock_shows_who_holds_it_and_who_waits() {
    let fixture = Fixture::shared().await;
    let [follower, leader] = fixture.both().await;
    for (door, other_door) in [(&follower, &leader), (&leader, &follower)] {
        let lock = format!("{LOCKS}/shown%2F{}", door.via);
        let session = format!("shown-{}", door.via);
        let named = json!({ "ttl_ms": 600_000, "name": "a worker" });
        door.send(ask("PUT", format!("/v1/sessions/{session}")).json(&named)).await.expect(201);
        let body = json!({ "session": session, "label": "mine" });
        let held = door.send(ask("PUT", format!("{lock}/claims/a")).json(&body)).await.expect(201).value();
        let waits = json!({ "ttl_ms": 600_000, "keep_waiting": true, "label": "next" });
        for claim in ["b", "c"] {
            door.send(ask("PUT", format!("{lock}/claims/{claim}")).json(&waits)).await.expect(202);
        }
        let seen = other_door.send(ask("GET", &lock)).await.expect(200).value();
        assert_eq!(
            (&seen["name"], &seen["mode"]),
            (&json!(format!("shown/{}", door.via)), &json!("exclusive"))
        );
        assert_eq!(seen["last_token"], held["fencing_token"]);
        assert_eq!(seen["holders"].as_array().map(Vec::len), Some(1), "{seen}");
        let holder = &seen["holders"][0];
        assert_eq!(
            (&holder["claim"], &holder["session"], &holder["session_name"], &holder["label"]),
            (&json!("a"), &json!(session), &json!("a worker"), &json!("mine"))
        );
        assert_eq!(holder["fencing_token"], held["fencing_token"]);
        let queue = seen["queue"].as_array().expect("a queue");
        let places: Vec<_> = queue.iter().map(|waiter| (&waiter["claim"], &waiter["position"])).collect();
        assert_eq!(places, [(&json!("b"), &json!(1)), (&json!("c"), &json!(2))], "{seen}");
        assert!(
            queue.iter().all(|waiter| waiter["waiting_ms"].is_u64() && waiter["label"] == "next"),
            "{seen}"
        );

        for claim in ["b", "c"] {
            door.send(ask("DELETE", format!("{lock}/claims/{claim}"))).await.expect(204);
        }
        door.send(ask("DELETE", format!("/v1/sessions/{session}"))).await.expect(204);
        let free = other_door.send(ask("GET", &lock)).await.expect(200).value();
        assert_eq!((&free["holders"], &free["queue"]), (&json!([]), &json!([])));
        assert_eq!(free["last_token"], held["fencing_token"], "nobody was let in at the session's end");
    }
}

#[tokio::test]
async fn a_forced_release_needs_the_token_of_the_hold() {
    let fixture = Fixture::shared().await;
    for door in fixture.both().await {
        let lock = format!("{LOCKS}/forced-{}", door.via);
        let force = |token: u64| {
            let body = json!({ "fencing_token": token, "reason": "its pod is gone" });
            ask("POST", format!("{lock}/force-release")).json(&body)
        };
        door.send(force(1)).await.refused(412, "token-mismatch");
        let claim = format!("{lock}/claims/a");
        let own = json!({ "ttl_ms": 600_000 });
        let held = door.send(ask("PUT", &claim).json(&own)).await.expect(201).value();
        let token = held["fencing_token"].as_u64().expect("a token");
        let heir = format!("{lock}/claims/heir");
        door.send(ask("PUT", &heir).json(&json!({ "ttl_ms": 600_000, "keep_waiting": true })))
            .await
            .expect(202);
        for wrong in [0, token - 1, token + 1, u64::MAX] {
            door.send(force(wrong)).await.refused(412, "token-mismatch");
        }
        assert_eq!(door.send(ask("GET", &claim)).await.value()["state"], "held");

        let forced = door.send(force(token)).await.expect(200);
        let expected = json!({
            "claim": "a", "session": held["session"], "fencing_token": token, "revision": forced.value()["revision"],
        });
        assert_eq!(forced.value(), expected);
        let lost = json!({ "state": "lost", "claim": "a", "reason": "forced", "fencing_token": token });
        assert_eq!(door.send(ask("GET", &claim)).await.expect(200).value(), lost);
        let refused = door.send(ask("PUT", &claim).json(&own)).await.refused(410, "claim-ended");
        assert_eq!(refused["reason"], "forced");
        let next = door.send(ask("GET", &heir)).await.expect(200).value();
        assert_eq!(next["state"], "held");
        assert!(Some(token) < next["fencing_token"].as_u64(), "{next}");
        door.send(force(token)).await.refused(412, "token-mismatch");
        door.send(ask("DELETE", &heir)).await.expect(204);
    }
}

#[tokio::test]
async fn a_lock_delay_keeps_a_lost_lock_closed() {
    let fixture = Fixture::shared().await;
    for door in fixture.both().await {
        let lock = format!("{LOCKS}/delayed-{}", door.via);
        let session = format!("delayed-{}", door.via);
        let body = json!({ "ttl_ms": 600_000, "lock_delay_ms": 2_000 });
        door.send(ask("PUT", format!("/v1/sessions/{session}")).json(&body)).await.expect(201);
        let held = ask("PUT", format!("{lock}/claims/a")).json(&json!({ "session": session }));
        let token = door.send(held).await.expect(201).value()["fencing_token"].clone();
        let force = json!({ "fencing_token": token, "reason": "a test" });
        door.send(ask("POST", format!("{lock}/force-release")).json(&force)).await.expect(200);
        let try_it = ask("PUT", format!("{lock}/claims/b")).json(&json!({ "ttl_ms": 600_000 }));
        let refused = door.send(try_it).await.refused(409, "lock-held");
        let left = refused["delay_remaining_ms"].as_u64().unwrap_or_else(|| panic!("{refused}"));
        assert!((1..=2_000).contains(&left), "{refused}");
        let seen = door.send(ask("GET", &lock)).await.expect(200).value();
        assert!((1..=2_000).contains(&seen["delay_remaining_ms"].as_u64().unwrap_or_default()), "{seen}");
        let wait = json!({ "ttl_ms": 600_000, "wait_ms": 20_000 });
        let began = std::time::Instant::now();
        let granted = door.send(ask("PUT", format!("{lock}/claims/c")).json(&wait)).await.expect(201).value();
        assert!(began.elapsed().as_millis() < 10_000, "the end of the delay grants the lock");
        assert!(token.as_u64() < granted["fencing_token"].as_u64());
        assert_eq!(door.send(ask("GET", &lock)).await.value()["delay_remaining_ms"], Value::Null);
        door.send(ask("DELETE", format!("{lock}/claims/c"))).await.expect(204);
    }
}
