//! Transactions: conditions, and one of two lists of operations as a whole.

use serde_json::{Value, json};

use super::fixture::{Door, Fixture};
use super::wire::{Ask, ask};

const NAMESPACE: &str = "/v1/namespaces/default";

fn txn(body: &Value) -> Ask {
    ask("POST", format!("{NAMESPACE}/txn")).json(body)
}

fn config(key: &str) -> String {
    format!("{NAMESPACE}/config/{key}")
}

async fn put(door: &Door, key: &str, value: &str) -> u64 {
    let reply = door.send(ask("PUT", config(key)).header("Content-Type", "text/plain").body(value)).await;
    assert!([200, 201].contains(&reply.status), "{}", reply.shown());
    reply.etag()
}

#[tokio::test]
async fn all_writes_of_a_transaction_share_one_revision() {
    let fixture = Fixture::shared().await;
    let [follower, leader] = fixture.both().await;
    for (door, other_door) in [(&follower, &leader), (&leader, &follower)] {
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| format!("txn/{}/{name}", door.via));
        let (was_b, was_c) = (put(door, &b, "b1").await, put(door, &c, "c1").await);
        let body = json!({ "success": [
            { "put": { "key": a, "value": "ä", "content_type": "text/x", "managed_by": "mé" } },
            { "put": { "key": b, "value_base64": "/wA=" } },
            { "delete": { "key": c } },
            { "get": { "key": d } },
        ] });
        let done = door.send(txn(&body)).await.expect(200);
        let revision = done.value()["revision"].as_u64().expect("a revision");
        assert!(was_c < revision && revision <= done.revision());
        let expected = json!({ "succeeded": true, "revision": revision, "results": [
            { "put": { "key": a, "create_revision": revision, "mod_revision": revision, "version": 1 } },
            { "put": { "key": b, "create_revision": was_b, "mod_revision": revision, "version": 2 } },
            { "delete": { "key": c, "deleted": true } },
            { "get": { "key": d, "item": null } },
        ] });
        assert_eq!(done.value(), expected);
        let read = other_door.send(ask("GET", config(&a))).await.expect(200);
        assert_eq!(
            (read.text().as_str(), read.etag(), read.header("Content-Type")),
            ("ä", revision, Some("text/x"))
        );
        let read = other_door.send(ask("GET", config(&b))).await.expect(200);
        assert_eq!((read.body.as_slice(), read.etag()), (&b"\xff\x00"[..], revision));
        assert_eq!(read.header("Content-Type"), Some("application/octet-stream"));
        other_door.send(ask("GET", config(&c))).await.refused(404, "key-not-found");

        // A read sees what was there before the transaction, with its owner and all.
        let body = json!({ "success": [
            { "get": { "key": a } }, { "get": { "key": b } }, { "delete": { "key": c } },
        ] });
        let looked = other_door.send(txn(&body)).await.expect(200).value();
        let item = json!({ "key": a, "value": "ä", "content_type": "text/x", "create_revision": revision,
            "mod_revision": revision, "version": 1, "managed_by": "mé" });
        assert_eq!(looked["results"][0], json!({ "get": { "key": a, "item": item } }));
        assert_eq!(looked["results"][1]["get"]["item"]["value_base64"], "/wA=");
        assert_eq!(looked["results"][2], json!({ "delete": { "key": c, "deleted": false } }));
    }
}

#[tokio::test]
async fn a_transaction_that_writes_nothing_takes_no_revision() {
    let fixture = Fixture::alone().await;
    for door in fixture.both().await {
        let before = door.revision().await;
        let key = format!("txn-idle/{}", door.via);
        for body in [
            json!({}),
            json!({ "success": [{ "get": { "key": key } }, { "delete": { "key": "txn-idle/none" } }] }),
            json!({ "compare": [{ "key": key, "target": "exists", "op": "=", "value": true }],
                "success": [{ "put": { "key": key, "value": "x" } }] }),
        ] {
            let done = door.send(txn(&body)).await.expect(200);
            assert_eq!((&done.value()["revision"], done.revision()), (&json!(before), before), "{body}");
        }
        assert_eq!(door.revision().await, before);
    }
}

#[tokio::test]
async fn every_condition_decides_between_the_lists() {
    let fixture = Fixture::shared().await;
    for door in fixture.both().await {
        let key = format!("compared-in-txn/{}", door.via);
        let created = put(&door, &key, "a").await;
        let changed = put(&door, &key, "m").await;
        let absent = format!("{key}/absent");
        let of = |key: &str, target: &str, op: &str, value: Value| json!({ "key": key, "target": target, "op": op, "value": value });
        let mut cases = Vec::new();
        for (target, number) in [("mod_revision", changed), ("create_revision", created), ("version", 2)] {
            for (op, given, holds) in [
                ("=", number, true),
                ("=", number + 1, false),
                ("!=", number, false),
                ("!=", number + 1, true),
                ("<", number, false),
                ("<", number + 1, true),
                (">", number, false),
                (">", number - 1, true),
            ] {
                cases.push((of(&key, target, op, json!(given)), holds));
            }
            cases.push((of(&absent, target, "=", json!(0)), true));
            cases.push((of(&absent, target, ">", json!(0)), false));
        }
        for (op, given, holds) in [
            ("=", "m", true),
            ("=", "mm", false),
            ("!=", "m", false),
            ("<", "mm", true),
            ("<", "a", false),
            (">", "a", true),
            (">", "m", false),
        ] {
            cases.push((of(&key, "value", op, json!(given)), holds));
            // An absent key has no value, whatever it is compared with.
            cases.push((of(&absent, "value", op, json!(given)), false));
        }
        cases.push((json!({ "key": key, "target": "value", "op": "<", "value_base64": "/w==" }), true));
        for (name, exists) in [(&key, true), (&absent, false)] {
            cases.push((of(name, "exists", "=", json!(true)), exists));
            cases.push((of(name, "exists", "=", json!(false)), !exists));
            cases.push((of(name, "exists", "!=", json!(true)), !exists));
        }
        for (compare, holds) in &cases {
            let body = json!({ "compare": [compare], "success": [{ "get": { "key": key } }], "failure": [] });
            let done = door.send(txn(&body)).await.expect(200).value();
            assert_eq!(done["succeeded"], *holds, "{compare}");
            assert_eq!(done["results"].as_array().map(Vec::len), Some(usize::from(*holds)), "{compare}");
        }
        // All must hold.
        let holding: Vec<&Value> =
            cases.iter().filter(|(_, holds)| *holds).map(|(compare, _)| compare).collect();
        let done = door.send(txn(&json!({ "compare": holding }))).await.expect(200).value();
        assert_eq!(done["succeeded"], true);
        let failing = cases.iter().find(|(_, holds)| !holds).map(|(compare, _)| compare);
        let mut one_fails = holding;
        one_fails.extend(failing);
        let body =
            json!({ "compare": one_fails, "failure": [{ "put": { "key": key, "value": "failure" } }] });
        assert_eq!(door.send(txn(&body)).await.expect(200).value()["succeeded"], false);
        assert_eq!(door.send(ask("GET", config(&key))).await.expect(200).text(), "failure");
    }
}

#[tokio::test]
async fn a_transaction_depends_on_locks_and_elections_by_their_tokens() {
    let fixture = Fixture::shared().await;
    for door in fixture.both().await {
        let name = format!("txn-fence-{}", door.via);
        let lock = format!("{NAMESPACE}/locks/{name}/claims/a");
        let own = json!({ "ttl_ms": 600_000 });
        let held = door.send(ask("PUT", &lock).json(&own)).await.expect(201).value();
        let token = held["fencing_token"].as_u64().expect("a token");
        let compared = |claim: Value, token: u64| {
            let mut condition = json!({ "lock": name, "token": token });
            if !claim.is_null() {
                condition["claim"] = claim;
            }
            txn(&json!({ "compare": [condition] }))
        };
        for (claim, token, holds) in [
            (Value::Null, token, true),
            (json!("a"), token, true),
            (json!("b"), token, false),
            (Value::Null, token + 1, false),
            (Value::Null, 0, false),
        ] {
            let done = door.send(compared(claim.clone(), token)).await.expect(200).value();
            assert_eq!(done["succeeded"], holds, "{claim} {token}");
        }
        let put =
            json!({ "success": [{ "put": { "key": format!("txn-fence/{}", door.via), "value": "x" } }] });
        let guarded = |guard: String| txn(&put).header("Holdfast-Guard", guard);
        door.send(guarded(format!("lock={name}; token={token}"))).await.expect(200);
        let refused = door.send(guarded(format!("lock={name}; token={}", token + 1))).await;
        assert_eq!(refused.refused(412, "stale-token")["fencing_token"], token);
        // The election of that name is another thing.
        door.send(guarded(format!("election={name}; token={token}"))).await.refused(412, "stale-token");
        let candidate = format!("{NAMESPACE}/elections/{name}/candidates/a");
        let led = door.send(ask("PUT", &candidate).json(&own)).await.expect(201).value();
        door.send(guarded(format!("election={name}; token={}", led["fencing_token"]))).await.expect(200);
        door.send(ask("DELETE", &lock)).await.expect(204);
        door.send(ask("DELETE", &candidate)).await.expect(204);
        door.send(guarded(format!("lock={name}; token={token}"))).await.refused(412, "stale-token");
        let done = door.send(compared(Value::Null, token)).await.expect(200).value();
        assert_eq!(done["succeeded"], false);
    }
}

#[tokio::test]
async fn a_replayed_transaction_answers_as_the_first_and_changes_nothing() {
    let fixture = Fixture::shared().await;
    let [follower, leader] = fixture.both().await;
    for (door, other_door) in [(&follower, &leader), (&leader, &follower)] {
        let key = format!("txn-once/{}", door.via);
        let absent = json!({ "key": key, "target": "exists", "op": "=", "value": false });
        let body = json!({ "compare": [absent], "success": [{ "put": { "key": key, "value": "1" } }],
            "failure": [{ "delete": { "key": key } }] });
        let id = format!("txn-once-{}", door.via);
        let keyed = |request: Ask| request.header("Idempotency-Key", id.as_str());
        let first = door.send(keyed(txn(&body))).await.expect(200);
        assert_eq!(first.value()["succeeded"], true);
        for door in [other_door, door] {
            let again = door.send(keyed(txn(&body))).await.expect(200);
            assert_eq!(again.body, first.body);
        }
        assert_eq!(door.send(ask("GET", config(&key))).await.expect(200).text(), "1");
        for other in [
            txn(&json!({ "success": [{ "put": { "key": key, "value": "2" } }] })),
            txn(&body).header("Holdfast-Guard", "lock=a; token=1"),
        ] {
            door.send(keyed(other)).await.refused(422, "idempotency-key-reused");
        }
        let stale = || {
            let request = txn(&body).header("Holdfast-Guard", "lock=nobodys; token=1");
            request.header("Idempotency-Key", format!("{id}-stale"))
        };
        door.send(stale()).await.refused(412, "stale-token");
        other_door.send(stale()).await.refused(412, "stale-token");
    }
}

/// A list of so many reads of different keys.
fn reads(count: usize) -> Vec<Value> {
    (0..count).map(|n| json!({ "get": { "key": format!("txn-many/{n}") } })).collect()
}

#[tokio::test]
async fn a_transaction_that_is_not_understood_is_refused_where_it_is_wrong() {
    let fixture = Fixture::alone().await;
    let put = |more: Value| {
        let mut put = json!({ "key": "bad", "value": "x" });
        put.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        json!({ "success": [{ "get": { "key": "a" } }, { "put": put }] })
    };
    let compare = |condition: Value| json!({ "compare": [condition] });
    let number = |value: Value| json!({ "key": "a", "target": "version", "op": "=", "value": value });
    let conditions = vec![number(json!(1)); 129];
    let long = "x".repeat(257);
    let cases = vec![
        (put(json!({ "key": "a//b" })), "/success/1/put/key", 400, "invalid-name"),
        (put(json!({ "key": 7 })), "/success/1/put/key", 400, "invalid-field"),
        (put(json!({ "key": "a" })), "/success/1/put/key", 400, "invalid-field"),
        (put(json!({ "value_base64": "YQ==" })), "/success/1/put", 400, "invalid-field"),
        (
            put(json!({ "value": null, "value_base64": "*" })),
            "/success/1/put/value_base64",
            400,
            "invalid-field",
        ),
        (put(json!({ "value": null })), "/success/1/put", 400, "invalid-field"),
        (put(json!({ "content_type": "a\nb" })), "/success/1/put/content_type", 400, "invalid-field"),
        (put(json!({ "content_type": long })), "/success/1/put/content_type", 400, "invalid-field"),
        (put(json!({ "session": "no good" })), "/success/1/put/session", 400, "invalid-name"),
        (put(json!({ "managed_by": long })), "/success/1/put/managed_by", 400, "invalid-field"),
        (put(json!({ "managed_by": "a\u{0}" })), "/success/1/put/managed_by", 400, "invalid-field"),
        (put(json!({ "value": "x".repeat((1 << 20) + 1) })), "/success/1/put/value", 413, "too-large"),
        (json!({ "failure": [{ "delete": { "key": ".." } }] }), "/failure/0/delete/key", 400, "invalid-name"),
        (json!({ "failure": [{ "get": { "key": "" } }] }), "/failure/0/get/key", 400, "invalid-name"),
        (
            json!({ "success": [{ "delete": { "key": "a" } }, { "delete": { "key": "a" } }] }),
            "/success/1/delete/key",
            400,
            "invalid-field",
        ),
        (compare(number(json!("1"))), "/compare/0", 400, "invalid-field"),
        (
            compare(json!({ "key": "a", "target": "verson", "op": "=", "value": 1 })),
            "/compare/0/target",
            400,
            "invalid-field",
        ),
        (
            compare(json!({ "key": "a", "target": "version", "op": "==", "value": 1 })),
            "/compare/0/op",
            400,
            "invalid-field",
        ),
        (
            compare(json!({ "key": "a b\u{0}", "target": "version", "op": "=", "value": 1 })),
            "/compare/0/key",
            400,
            "invalid-name",
        ),
        (compare(json!({ "lock": "a b", "token": 1 })), "/compare/0/lock", 400, "invalid-name"),
        (compare(json!({ "lock": "!a", "token": 1 })), "/compare/0/lock", 400, "invalid-name"),
        (compare(json!({ "lock": "a", "token": 1, "claim": "-" })), "/compare/0/claim", 400, "invalid-name"),
        (compare(json!({ "lock": "a", "token": -1 })), "/compare/0/token", 400, "invalid-field"),
        (json!({ "compare": conditions }), "/compare", 422, "out-of-range"),
        (json!({ "success": reads(129) }), "/success", 422, "out-of-range"),
        (json!({ "failure": reads(129) }), "/failure", 422, "out-of-range"),
        (json!({ "success": {} }), "/success", 400, "invalid-field"),
    ];
    for door in fixture.both().await {
        let before = door.revision().await;
        for (body, pointer, status, code) in &cases {
            let problem = door.send(txn(body)).await.refused(*status, code);
            let shown: String = body.to_string().chars().take(200).collect();
            assert_eq!(problem["pointer"], *pointer, "{shown}: {problem}");
        }
        let nowhere = ask("POST", "/v1/namespaces/nowhere/txn").json(&json!({}));
        door.send(nowhere).await.refused(404, "namespace-not-found");
        let owned = put(json!({ "session": "nobodys" }));
        door.send(txn(&owned)).await.refused(404, "session-not-found");
        // The same key in both lists is fine: only one of them is done.
        let body = json!({ "success": reads(128), "failure": reads(128) });
        let done = door.send(txn(&body)).await.expect(200).value();
        assert_eq!(done["results"].as_array().map(Vec::len), Some(128));
        assert_eq!(door.revision().await, before);
    }
    fixture.assert_healthy().await;
}

#[tokio::test]
async fn a_transaction_is_bounded_in_what_it_carries_and_in_what_it_answers() {
    let fixture = Fixture::shared().await;
    for door in fixture.both().await {
        let keys: Vec<String> = (0..5).map(|n| format!("txn-heavy/{}/{n}", door.via)).collect();
        let value = "v".repeat(1_000_000);
        let put = |key: &String| json!({ "put": { "key": key, "value": value } });
        // Two large values fit into an entry, three do not; the body is allowed for either.
        let two: Vec<Value> = keys[..2].iter().map(put).collect();
        door.send(txn(&json!({ "success": two }))).await.expect(200);
        let refused = json!({ "success": [put(&keys[0]), put(&keys[1])], "failure": [put(&keys[2])] });
        let refused = door.send(txn(&refused)).await.refused(413, "too-large");
        assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("bytes")), "{refused}");
        door.send(txn(&json!({ "success": [put(&keys[2]), put(&keys[3])] }))).await.expect(200);
        door.send(txn(&json!({ "success": [put(&keys[4])] }))).await.expect(200);
        let get = |key: &String| json!({ "get": { "key": key } });
        let four: Vec<Value> = keys[..4].iter().map(get).collect();
        let got = door.send(txn(&json!({ "success": four }))).await.expect(200).value();
        assert_eq!(got["results"][3]["get"]["item"]["value"].as_str().map(str::len), Some(value.len()));
        let five: Vec<Value> = keys.iter().map(get).collect();
        door.send(txn(&json!({ "success": five }))).await.refused(413, "too-large");
        let all: Vec<Value> = keys.iter().map(|key| json!({ "delete": { "key": key } })).collect();
        door.send(txn(&json!({ "success": all }))).await.expect(200);
        let huge = ask("POST", format!("{NAMESPACE}/txn")).json_text(vec![b' '; 4 << 20]);
        door.send(huge).await.refused(413, "too-large");
    }
}
