//! The past of a key: its versions, what differs between two of them, and the way back to one.

use serde_json::{Value, json};

use super::fixture::{Door, Fixture};
use super::wire::{Ask, Reply, ask};

const NAMESPACE: &str = "/v1/namespaces/default";

/// A key of this test and node, with its routes.
struct Key(String);

impl Key {
    fn new(name: &str, door: &Door) -> Self {
        Self(format!("{name}/{}", door.via))
    }

    fn config(&self) -> String {
        format!("{NAMESPACE}/config/{}", self.0)
    }

    fn history(&self) -> String {
        format!("{NAMESPACE}/history/{}", self.0)
    }

    fn diff(&self, from: u64, to: u64) -> Ask {
        ask("GET", format!("{NAMESPACE}/diff/{}?from={from}&to={to}", self.0))
    }

    fn rollback(&self, to: u64) -> Ask {
        let target = format!("{NAMESPACE}/rollback/{}", self.0);
        ask("POST", target).json(&json!({ "to_revision": to }))
    }

    /// Writes a value; gives its revision.
    async fn put(&self, door: &Door, value: impl Into<Vec<u8>>) -> u64 {
        let put = ask("PUT", self.config()).header("Content-Type", "text/plain").body(value);
        let reply = door.send(put).await;
        assert!([200, 201].contains(&reply.status), "{}", reply.shown());
        reply.etag()
    }
}

fn versions(reply: &Reply) -> Vec<Value> {
    reply.value()["versions"].as_array().expect("versions").clone()
}

fn revisions(versions: &[Value]) -> Vec<u64> {
    versions.iter().map(|version| version["mod_revision"].as_u64().expect("a revision")).collect()
}

#[tokio::test]
async fn the_versions_of_a_key_are_told_newest_first() {
    let fixture = Fixture::shared().await;
    let [follower, leader] = fixture.both().await;
    for (door, other_door) in [(&follower, &leader), (&leader, &follower)] {
        let key = Key::new("past", door);
        let mut expected = vec![key.put(door, "one").await, key.put(door, &b"\xff\x00"[..]).await];
        let managed = ask("PUT", key.config()).header("Holdfast-Managed-By", "a controller").body("three");
        expected.push(door.send(managed).await.expect(200).etag());
        expected.push(door.send(ask("DELETE", key.config())).await.expect(204).revision());
        expected.push(key.put(door, "again").await);
        expected.reverse();

        let told = other_door.send(ask("GET", key.history())).await.expect(200);
        let body = told.value();
        assert_eq!((&body["key"], &body["revision"]), (&json!(key.0), &json!(told.revision())));
        assert_eq!(body.get("next_cursor"), None, "{body}");
        let told = versions(&told);
        assert_eq!(revisions(&told), expected);
        let numbers: Vec<_> = told.iter().map(|version| &version["version"]).collect();
        assert_eq!(numbers, [&json!(1), &Value::Null, &json!(3), &json!(2), &json!(1)]);
        let deleted = json!({ "deleted": true, "mod_revision": expected[1], "age_ms": told[1]["age_ms"], "expired": false });
        assert_eq!(told[1], deleted);
        assert_eq!((&told[0]["value"], &told[0]["create_revision"]), (&json!("again"), &json!(expected[0])));
        assert_eq!((&told[2]["managed_by"], told[0].get("managed_by")), (&json!("a controller"), None));
        assert_eq!((&told[3]["value_base64"], told[3].get("value")), (&json!("/wA="), None));
        assert_eq!((&told[4]["content_type"], &told[4]["key"]), (&json!("text/plain"), &json!(key.0)));
        let ages: Vec<u64> = told.iter().map(|version| version["age_ms"].as_u64().expect("an age")).collect();
        assert!(ages.is_sorted(), "{ages:?}");

        // In pages, and read from any node that is new enough.
        let mut paged = Vec::new();
        let mut cursor = String::new();
        loop {
            let target = format!("{}?limit=2&min_revision={}{cursor}", key.history(), expected[0]);
            let page = other_door.send(ask("GET", target)).await.expect(200);
            let part = versions(&page);
            assert!(part.len() <= 2);
            paged.extend(part);
            let Some(next) = page.value()["next_cursor"].as_str().map(str::to_owned) else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(revisions(&paged), expected);
    }
}

#[tokio::test]
async fn a_key_without_a_past_and_a_bad_question_are_refused() {
    let fixture = Fixture::alone().await;
    for door in fixture.both().await {
        let never = Key::new("never-written", &door);
        door.send(ask("GET", never.history())).await.refused(404, "key-not-found");
        let nowhere = ask("GET", "/v1/namespaces/nowhere/history/a");
        door.send(nowhere).await.refused(404, "namespace-not-found");
        for query in ["limit=x", "cursor=a", "cursor=1.a", "cursor=-1", "prefix=a", "at_revision=1"] {
            let target = format!("{}?{query}", never.history());
            door.send(ask("GET", target)).await.refused(400, "invalid-field");
        }
        for query in ["limit=0", "limit=1001"] {
            let target = format!("{}?{query}", never.history());
            door.send(ask("GET", target)).await.refused(422, "out-of-range");
        }
        for query in ["", "?from=x", "?to=1", "?from=1&limit=1"] {
            let target = format!("{NAMESPACE}/diff/a{query}");
            door.send(ask("GET", target)).await.refused(400, "invalid-field");
        }
    }
}

#[tokio::test]
async fn two_versions_are_compared_line_by_line() {
    let fixture = Fixture::shared().await;
    let [follower, leader] = fixture.both().await;
    for (door, other_door) in [(&follower, &leader), (&leader, &follower)] {
        let key = Key::new("compared", door);
        let before = door.revision().await;
        let old = key.put(door, "1\n2\n3\n4\nfive\n6\n7\n8\n9\n").await;
        let new = key.put(door, "1\n2\n3\n4\n5\n6\n7\n8\n9\n").await;
        let diff = other_door.send(key.diff(old, new)).await.expect(200).value();
        let name = &key.0;
        let unified = format!(
            "--- {name}@{old}\n+++ {name}@{new}\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-five\n+5\n 6\n 7\n 8\n"
        );
        assert_eq!(diff["unified"], unified);
        assert_eq!((&diff["key"], &diff["from"], &diff["to"]), (&json!(name), &json!(old), &json!(new)));
        assert_eq!(diff["equal"], false);
        assert_ne!(diff["from_sha256"], diff["to_sha256"]);
        assert_eq!(diff["to_sha256"].as_str().map(str::len), Some(64), "{diff}");

        // Between two writes the key has what the earlier one wrote; without an end the newest value counts.
        let now = ask("GET", format!("{NAMESPACE}/diff/{name}?from={new}"));
        let now = other_door.send(now).await.expect(200);
        assert_eq!((&now.value()["equal"], &now.value()["unified"]), (&json!(true), &json!("")));
        assert_eq!(now.value()["to"], now.revision());
        let backwards = door.send(key.diff(new, old)).await.expect(200).value();
        assert!(
            backwards["unified"].as_str().is_some_and(|text| text.contains("-5\n+five\n")),
            "{backwards}"
        );

        let made = door.send(key.diff(before, old)).await.expect(200).value();
        assert_eq!((&made["from_sha256"], &made["equal"]), (&Value::Null, &json!(false)));
        assert!(made["unified"].as_str().is_some_and(|text| text.contains("@@ -0,0 +1,9 @@")), "{made}");
        let deleted = door.send(ask("DELETE", key.config())).await.expect(204).revision();
        let removed = door.send(key.diff(old, deleted)).await.expect(200).value();
        assert_eq!((&removed["to_sha256"], &removed["equal"]), (&Value::Null, &json!(false)));
        door.send(key.diff(before, deleted)).await.refused(404, "key-not-found");
        let future = door.send(key.diff(old, (1 << 53) - 1)).await.refused(400, "future-revision");
        assert!(deleted <= future["revision"].as_u64().expect("a revision"), "{future}");
    }
}

#[tokio::test]
async fn what_is_no_text_or_too_large_is_told_apart_by_its_digest() {
    let fixture = Fixture::shared().await;
    for door in fixture.both().await {
        let key = Key::new("no-text", &door);
        let text = key.put(&door, "text").await;
        let bytes = key.put(&door, &b"\xff"[..]).await;
        let large = key.put(&door, "x\n".repeat(140_000)).await;
        let again = key.put(&door, "x\n".repeat(140_000)).await;
        for (from, to, equal) in
            [(text, bytes, false), (bytes, text, false), (text, large, false), (large, again, true)]
        {
            let diff = door.send(key.diff(from, to)).await.expect(200).value();
            assert_eq!((&diff["unified"], &diff["equal"]), (&Value::Null, &json!(equal)), "{from} {to}");
            assert_eq!(diff["from_sha256"] == diff["to_sha256"], equal, "{diff}");
        }
    }
}

#[tokio::test]
async fn a_key_is_rolled_back_to_a_version_and_that_is_a_new_version() {
    let fixture = Fixture::shared().await;
    let [follower, leader] = fixture.both().await;
    for (door, other_door) in [(&follower, &leader), (&leader, &follower)] {
        let key = Key::new("rolled-back", door);
        let before = door.revision().await;
        let old = door.send(ask("PUT", key.config()).header("Content-Type", "text/old").body("old"));
        let old = old.await.expect(201).etag();
        let new = key.put(door, "new").await;

        let rolled = door.send(key.rollback(old).header("Holdfast-Managed-By", "me")).await.expect(200);
        let expected =
            json!({ "key": key.0, "create_revision": old, "mod_revision": rolled.etag(), "version": 3 });
        assert_eq!(rolled.value(), expected);
        assert!(new < rolled.etag() && rolled.etag() <= rolled.revision());
        let read = other_door.send(ask("GET", key.config())).await.expect(200);
        assert_eq!((read.text().as_str(), read.header("Content-Type")), ("old", Some("text/old")));
        let told = versions(&other_door.send(ask("GET", key.history())).await.expect(200));
        assert_eq!((&told[0]["managed_by"], told[1].get("managed_by")), (&json!("me"), None));

        let mismatch = key.rollback(new).header("If-Match", format!("\"{new}\""));
        let mismatch = door.send(mismatch).await.refused(412, "revision-mismatch");
        assert_eq!(mismatch["revision"], rolled.etag());
        let absent = key.rollback(new).header("If-None-Match", "*");
        door.send(absent).await.refused(412, "revision-mismatch");
        let matching = key.rollback(new).header("If-Match", format!("\"{}\"", rolled.etag()));
        door.send(matching).await.expect(200);
        assert_eq!(door.send(ask("GET", key.config())).await.expect(200).text(), "new");
        let guarded = key.rollback(old).header("Holdfast-Guard", "lock=nobodys; token=1");
        door.send(guarded).await.refused(412, "stale-token");

        let deleted = door.send(ask("DELETE", key.config())).await.expect(204).revision();
        for never in [before, deleted] {
            door.send(key.rollback(never)).await.refused(404, "key-not-found");
        }
        door.send(key.rollback((1 << 53) - 1)).await.refused(400, "future-revision");
        let reborn = door.send(key.rollback(new)).await.expect(200);
        assert_eq!(
            (&reborn.value()["version"], &reborn.value()["create_revision"]),
            (&json!(1), &json!(reborn.etag()))
        );
        assert_eq!(other_door.send(ask("GET", key.config())).await.expect(200).text(), "new");
        let nowhere = ask("POST", "/v1/namespaces/nowhere/rollback/a").json(&json!({ "to_revision": 1 }));
        door.send(nowhere).await.refused(404, "namespace-not-found");
    }
}

#[tokio::test]
async fn a_replayed_rollback_answers_as_the_first_and_changes_nothing() {
    let fixture = Fixture::shared().await;
    let [follower, leader] = fixture.both().await;
    for (door, other_door) in [(&follower, &leader), (&leader, &follower)] {
        let key = Key::new("rolled-back-once", door);
        let old = key.put(door, "old").await;
        key.put(door, "new").await;
        let keyed = || key.rollback(old).header("Idempotency-Key", "roll");
        let first = door.send(keyed()).await.expect(200);
        let newest = key.put(door, "newest").await;
        let again = other_door.send(keyed()).await.expect(200);
        assert_eq!((again.etag(), again.body), (first.etag(), first.body));
        let read = door.send(ask("GET", key.config())).await.expect(200);
        assert_eq!((read.text().as_str(), read.etag()), ("newest", newest));
        for other in [
            key.rollback(newest),
            key.rollback(old).header("Holdfast-Managed-By", "another"),
            key.rollback(old).header("If-Match", "*"),
        ] {
            door.send(other.header("Idempotency-Key", "roll")).await.refused(422, "idempotency-key-reused");
        }
    }
}

#[tokio::test]
async fn a_list_is_read_at_any_revision_that_is_kept() {
    let fixture = Fixture::shared().await;
    for door in fixture.both().await {
        let key = Key::new("listed-then", &door);
        let first = key.put(&door, "one").await;
        let second = key.put(&door, "two").await;
        let deleted = door.send(ask("DELETE", key.config())).await.expect(204).revision();
        for (at, values) in
            [(first - 1, vec![]), (first, vec!["one"]), (second, vec!["two"]), (deleted, vec![])]
        {
            let target = format!("{NAMESPACE}/config?prefix={}&values=true&at_revision={at}", key.0);
            let list = door.send(ask("GET", target)).await.expect(200).value();
            let items = list["items"].as_array().expect("items");
            let seen: Vec<_> = items.iter().map(|item| item["value"].as_str().expect("a value")).collect();
            assert_eq!((seen, &list["revision"]), (values, &json!(at)));
        }
        let future = format!("{NAMESPACE}/config?at_revision={}", (1_u64 << 53) - 1);
        door.send(ask("GET", future)).await.refused(400, "future-revision");
    }
}
