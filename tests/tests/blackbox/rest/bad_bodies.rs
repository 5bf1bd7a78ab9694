//! Bodies that are refused, each with the reason and the place, and nothing is changed by any of them.

use serde_json::{Value, json};

use super::fixture::Fixture;
use super::wire::{Ask, ask};

const LOCK: &str = "/v1/namespaces/default/locks/bad";

fn json_requests() -> Vec<(&'static str, String)> {
    vec![
        ("PUT", "/v1/sessions/bad".to_owned()),
        ("POST", "/v1/sessions".to_owned()),
        ("PUT", format!("{LOCK}/claims/bad")),
        ("POST", format!("{LOCK}/claims")),
        ("POST", format!("{LOCK}/force-release")),
        ("PUT", "/v1/namespaces/default/elections/bad/candidates/bad".to_owned()),
        ("POST", "/v1/namespaces/default/elections/bad/candidates".to_owned()),
        ("POST", "/v1/namespaces/default/rollback/bad".to_owned()),
        ("POST", "/v1/namespaces/default/txn".to_owned()),
        ("PUT", "/v1/namespaces/bad".to_owned()),
        ("POST", "/v1/cluster/bootstrap".to_owned()),
        ("POST", "/v1/cluster/members".to_owned()),
        ("POST", "/v1/cluster/transfer-leader".to_owned()),
    ]
}

#[tokio::test]
async fn a_body_that_is_not_json_is_refused_everywhere() {
    let fixture = Fixture::alone().await;
    for door in fixture.both().await {
        let before = door.revision().await;
        for (method, target) in json_requests() {
            let deep = "[".repeat(30_000);
            for text in ["{", "{\"ttl_ms\":}", "nul", "{} {}", "{}x", "\u{feff}{}", "'", deep.as_str()] {
                let answer = door.send(ask(method, &target).json_text(text)).await;
                let problem = answer.value();
                // What follows a complete value, and depth, may be found before or after the types are wrong.
                let code = problem["code"].as_str().unwrap_or_default().to_owned();
                assert!(["invalid-json", "invalid-field"].contains(&code.as_str()), "{text:.20}: {problem}");
                answer.refused(400, &code);
            }
            let invalid_utf8 = door.send(ask(method, &target).json_text(&b"{\"\xff\":1}"[..])).await;
            assert_eq!(invalid_utf8.status, 400, "{}", invalid_utf8.shown());
            for text in ["{", "{\"", "nul", "'"] {
                door.send(ask(method, &target).json_text(text)).await.refused(400, "invalid-json");
            }
        }
        assert_eq!(door.revision().await, before);
    }
    fixture.assert_healthy().await;
}

#[tokio::test]
async fn an_unknown_field_is_named() {
    let fixture = Fixture::alone().await;
    for door in fixture.both().await {
        let before = door.revision().await;
        for (method, target) in json_requests() {
            let problem = door.send(ask(method, &target).json(&json!({ "sesion": 1 }))).await;
            let problem = problem.refused(400, "invalid-field");
            assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("sesion")), "{problem}");
        }
        assert_eq!(door.revision().await, before);
    }
}

#[tokio::test]
async fn a_wrong_field_is_pointed_at() {
    let fixture = Fixture::alone().await;
    let [follower, leader] = fixture.both().await;
    let claim = || ask("PUT", format!("{LOCK}/claims/bad"));
    let session = || ask("PUT", "/v1/sessions/bad");
    let rollback = || ask("POST", "/v1/namespaces/default/rollback/bad");
    let candidate = || ask("PUT", "/v1/namespaces/default/elections/bad/candidates/bad");
    let force = || ask("POST", format!("{LOCK}/force-release"));
    let labels: serde_json::Map<String, Value> = (0..33).map(|n| (format!("l{n}"), json!("v"))).collect();
    let long = "x".repeat(257);
    let set = || ask("PUT", "/v1/namespaces/default/lock-sets/bad");
    let too_many_locks: Vec<_> = (0..65).map(|n| json!({ "name": format!("l{n}") })).collect();
    let cases: Vec<(Ask, Value, &str, u16, &str)> = vec![
        (session(), json!({ "ttl_ms": "15s" }), "/ttl_ms", 400, "invalid-field"),
        (session(), json!({ "ttl_ms": -1 }), "/ttl_ms", 400, "invalid-field"),
        (session(), json!({ "ttl_ms": 1.5 }), "/ttl_ms", 400, "invalid-field"),
        (session(), json!({ "name": 7 }), "/name", 400, "invalid-field"),
        (session(), json!({ "name": long }), "/name", 400, "invalid-field"),
        (session(), json!({ "name": "a\u{0}b" }), "/name", 400, "invalid-field"),
        (session(), json!({ "labels": [] }), "/labels", 400, "invalid-field"),
        (session(), json!({ "labels": { "a/b~c": 1 } }), "/labels/a~1b~0c", 400, "invalid-field"),
        (session(), json!({ "labels": { "": "v" } }), "/labels", 400, "invalid-field"),
        (session(), json!({ "labels": labels }), "/labels", 400, "invalid-field"),
        (session(), json!({ "ttl_ms": 999 }), "/ttl_ms", 422, "out-of-range"),
        (session(), json!({ "ttl_ms": 0 }), "/ttl_ms", 422, "out-of-range"),
        (session(), json!({ "ttl_ms": 3_600_001 }), "/ttl_ms", 422, "out-of-range"),
        (session(), json!({ "ttl_ms": u64::MAX }), "/ttl_ms", 422, "out-of-range"),
        (session(), json!({ "lock_delay_ms": 3_600_001 }), "/lock_delay_ms", 422, "out-of-range"),
        (claim(), json!({}), "/session", 400, "invalid-field"),
        (claim(), json!({ "session": "a", "ttl_ms": 1_000 }), "/ttl_ms", 400, "invalid-field"),
        (claim(), json!({ "session": 7 }), "/session", 400, "invalid-field"),
        (claim(), json!({ "ttl_ms": 999 }), "/ttl_ms", 422, "out-of-range"),
        (claim(), json!({ "ttl_ms": 3_600_001 }), "/ttl_ms", 422, "out-of-range"),
        (claim(), json!({ "ttl_ms": 1_000, "wait_ms": 3_600_001 }), "/wait_ms", 422, "out-of-range"),
        (claim(), json!({ "ttl_ms": 1_000, "wait_ms": -1 }), "/wait_ms", 400, "invalid-field"),
        (claim(), json!({ "ttl_ms": 1_000, "keep_waiting": "yes" }), "/keep_waiting", 400, "invalid-field"),
        (claim(), json!({ "ttl_ms": 1_000, "mode": "exclusiv" }), "/mode", 400, "invalid-field"),
        (claim(), json!({ "ttl_ms": 1_000, "permits": 2 }), "/permits", 400, "invalid-field"),
        (claim(), json!({ "ttl_ms": 1_000, "permits": -2 }), "/permits", 400, "invalid-field"),
        (claim(), json!({ "ttl_ms": 1_000, "of": 2 }), "/of", 400, "invalid-field"),
        (
            claim(),
            json!({ "ttl_ms": 1_000, "mode": "shared", "permits": 2 }),
            "/permits",
            400,
            "invalid-field",
        ),
        (claim(), json!({ "ttl_ms": 1_000, "mode": "permits" }), "/of", 400, "invalid-field"),
        (claim(), json!({ "ttl_ms": 1_000, "mode": "permits", "of": 0 }), "/of", 422, "out-of-range"),
        (claim(), json!({ "ttl_ms": 1_000, "mode": "permits", "of": 1_000_001 }), "/of", 422, "out-of-range"),
        (
            claim(),
            json!({ "ttl_ms": 1_000, "mode": "permits", "permits": 3, "of": 2 }),
            "/permits",
            422,
            "out-of-range",
        ),
        (
            claim(),
            json!({ "ttl_ms": 1_000, "mode": "permits", "permits": 0, "of": 2 }),
            "/permits",
            422,
            "out-of-range",
        ),
        (set(), json!({ "session": "bad", "locks": [] }), "/locks", 422, "out-of-range"),
        (set(), json!({ "session": "bad", "locks": too_many_locks }), "/locks", 422, "out-of-range"),
        (set(), json!({ "session": "bad", "locks": [{}] }), "/locks/0", 400, "invalid-field"),
        (
            set(),
            json!({ "session": "bad", "locks": [{ "name": "a" }, { "name": "a" }] }),
            "/locks/1/name",
            400,
            "invalid-field",
        ),
        (
            set(),
            json!({ "session": "bad", "locks": [{ "name": "a", "mode": "permits" }] }),
            "/locks/0/of",
            400,
            "invalid-field",
        ),
        (set(), json!({ "locks": [{ "name": "a" }] }), "", 400, "invalid-field"),
        (claim(), json!({ "ttl_ms": 1_000, "label": long }), "/label", 400, "invalid-field"),
        (rollback(), json!({ "to_revision": "1" }), "/to_revision", 400, "invalid-field"),
        (rollback(), json!({ "to_revision": -1 }), "/to_revision", 400, "invalid-field"),
        (candidate(), json!({ "ttl_ms": 999 }), "/ttl_ms", 422, "out-of-range"),
        (candidate(), json!({ "ttl_ms": 1_000, "mode": "shared" }), "/mode", 400, "invalid-field"),
        (force(), json!({ "fencing_token": "1", "reason": "x" }), "/fencing_token", 400, "invalid-field"),
        (
            force(),
            json!({ "fencing_token": 1, "reason": "x".repeat(1_025) }),
            "/reason",
            400,
            "invalid-field",
        ),
    ];
    for door in [&follower, &leader] {
        for (request, body, pointer, status, code) in &cases {
            let before = door.revision().await;
            let problem = door.send(request.clone().json(body)).await.refused(*status, code);
            assert_eq!(problem["pointer"], *pointer, "{body}: {problem}");
            assert_eq!(door.revision().await, before, "{body}");
        }
        for missing in ["fencing_token", "reason"] {
            let mut body = json!({ "fencing_token": 1, "reason": "x" });
            body.as_object_mut().expect("an object").remove(missing);
            let problem = door.send(force().json(&body)).await.refused(400, "invalid-field");
            assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(missing)), "{problem}");
        }
        for not_object in [json!(null), json!([]), json!("x"), json!(7), json!(true)] {
            door.send(session().json(&not_object)).await.refused(400, "invalid-field");
        }
        let twice = session().json_text("{\"ttl_ms\":1000,\"ttl_ms\":2000}");
        door.send(twice).await.refused(400, "invalid-field");
        let named = claim().json(&json!({ "session": "no good" }));
        door.send(named).await.refused(400, "invalid-name");
        door.send(ask("GET", "/v1/sessions/bad")).await.refused(404, "session-not-found");
        door.send(ask("GET", format!("{LOCK}/claims/bad"))).await.refused(404, "claim-not-found");
    }
}
