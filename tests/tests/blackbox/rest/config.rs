//! Config items: written, read, compared, guarded, deleted.

use serde_json::json;

use super::fixture::{Door, Fixture};
use super::wire::ask;

const CONFIG: &str = "/v1/namespaces/default/config";
const VALUE_BYTES_MAX: usize = 1 << 20;

fn key(name: &str, door: &Door) -> String {
    format!("{CONFIG}/{name}/{}", door.via)
}

#[tokio::test]
async fn a_value_is_created_replaced_read_and_deleted() {
    let fixture = Fixture::shared().await;
    let [follower, leader] = fixture.both().await;
    for (door, other_door) in [(&follower, &leader), (&leader, &follower)] {
        let key = key("life", door);
        door.send(ask("GET", &key)).await.refused(404, "key-not-found");
        let created =
            door.send(ask("PUT", &key).header("Content-Type", "text/plain; charset=utf-8").body("one"));
        let created = created.await.expect(201);
        assert_eq!(created.etag(), created.revision());
        let read = other_door.send(ask("GET", &key)).await.expect(200);
        assert_eq!((read.text().as_str(), read.etag()), ("one", created.etag()));
        assert_eq!(read.header("Content-Type"), Some("text/plain; charset=utf-8"));

        let replaced =
            door.send(ask("PUT", &key).header("Content-Type", "application/json").body("{not json"));
        let replaced = replaced.await.expect(200);
        assert!(created.etag() < replaced.etag());
        let read = other_door.send(ask("GET", &key)).await.expect(200);
        assert_eq!((read.text().as_str(), read.etag()), ("{not json", replaced.etag()));
        assert_eq!(read.header("Content-Type"), Some("application/json"));

        for (tags, status) in [
            (format!("\"{}\"", replaced.etag()), 304),
            (format!("W/\"{}\"", replaced.etag()), 304),
            (format!("\"1\", \"{}\"", replaced.etag()), 304),
            ("*".to_owned(), 304),
            (format!("\"{}\"", created.etag()), 200),
        ] {
            let seen =
                door.send(ask("GET", &key).header("If-None-Match", tags.as_str())).await.expect(status);
            assert_eq!(seen.etag(), replaced.etag(), "{tags}");
            assert_eq!(seen.body.is_empty(), status == 304, "{tags}");
        }

        let deleted = door.send(ask("DELETE", &key)).await.expect(204);
        assert!(replaced.etag() < deleted.revision());
        other_door.send(ask("GET", &key)).await.refused(404, "key-not-found");
        let gone = ask("GET", &key).header("If-None-Match", format!("\"{}\"", replaced.etag()));
        other_door.send(gone).await.refused(404, "key-not-found");
        let reborn = door.send(ask("PUT", &key).body("two")).await.expect(201);
        assert!(deleted.revision() < reborn.etag());
    }
}

#[tokio::test]
async fn a_value_without_a_media_type_is_bytes_and_so_is_what_curl_calls_a_form() {
    let fixture = Fixture::shared().await;
    for door in fixture.both().await {
        let key = key("typeless", &door);
        for media_type in [None, Some("application/x-www-form-urlencoded"), Some("")] {
            let put = ask("PUT", &key).body("a=b");
            let put = match media_type {
                None => put,
                Some(media_type) => put.header("Content-Type", media_type),
            };
            door.send(put).await;
            let read = door.send(ask("GET", &key)).await.expect(200);
            assert_eq!(read.header("Content-Type"), Some("application/octet-stream"), "{media_type:?}");
            assert_eq!(read.text(), "a=b");
        }
        let own = ask("PUT", &key).header("Content-Type", "application/vnd.example+yaml").body("a: b");
        door.send(own).await.expect(200);
        let read = door.send(ask("GET", &key)).await.expect(200);
        assert_eq!(read.header("Content-Type"), Some("application/vnd.example+yaml"));
    }
}

#[tokio::test]
async fn a_write_happens_only_at_the_revision_that_it_names() {
    let fixture = Fixture::shared().await;
    for door in fixture.both().await {
        let key = key("cas", &door);
        let mismatch = door.send(ask("PUT", &key).header("If-Match", "\"7\"").body("x")).await;
        assert_eq!(mismatch.refused(412, "revision-mismatch")["revision"], 0);
        let mismatch = door.send(ask("PUT", &key).header("If-Match", "*").body("x")).await;
        assert_eq!(mismatch.refused(412, "revision-mismatch")["revision"], 0);
        let first =
            door.send(ask("PUT", &key).header("If-None-Match", "*").body("1")).await.expect(201).etag();
        let mismatch = door.send(ask("PUT", &key).header("If-None-Match", "*").body("2")).await;
        assert_eq!(mismatch.refused(412, "revision-mismatch")["revision"], first);
        let at = |revision: u64| format!("\"{revision}\"");
        let second =
            door.send(ask("PUT", &key).header("If-Match", at(first)).body("2")).await.expect(200).etag();
        for stale in [at(first), at(second + 1), at(0), at(u64::MAX)] {
            for method in ["PUT", "DELETE"] {
                let refused = door.send(ask(method, &key).header("If-Match", stale.as_str())).await;
                assert_eq!(refused.refused(412, "revision-mismatch")["revision"], second, "{method} {stale}");
            }
        }
        let third = door.send(ask("PUT", &key).header("If-Match", "*").body("3")).await.expect(200).etag();
        assert_eq!(door.send(ask("GET", &key)).await.text(), "3");
        door.send(ask("DELETE", &key).header("If-Match", at(third))).await.expect(204);
        for condition in ["*".to_owned(), at(third)] {
            let refused = door.send(ask("DELETE", &key).header("If-Match", condition)).await;
            assert_eq!(refused.refused(412, "revision-mismatch")["revision"], 0);
        }
    }
}

#[tokio::test]
async fn deleting_what_is_absent_takes_no_revision() {
    let fixture = Fixture::alone().await;
    for door in fixture.both().await {
        let key = key("absent", &door);
        let before = door.revision().await;
        for _ in 0..3 {
            let deleted = door.send(ask("DELETE", &key)).await.expect(204);
            assert_eq!(deleted.revision(), before);
        }
        door.send(ask("DELETE", &key).header("If-Match", "\"1\"")).await.refused(412, "revision-mismatch");
        assert_eq!(door.revision().await, before);
    }
}

#[tokio::test]
async fn a_guarded_write_needs_the_token_that_holds_the_lock() {
    let fixture = Fixture::shared().await;
    for door in fixture.both().await {
        let key = key("guarded", &door);
        let lock = format!("guarded/{}", door.via);
        let claims = format!("/v1/namespaces/default/locks/guarded%2F{}/claims", door.via);
        let guard = |token: u64| format!("lock={lock}; token={token}");
        let own = json!({ "ttl_ms": 600_000 });
        let put = |guard: String| ask("PUT", &key).header("Holdfast-Guard", guard).body("x");
        door.send(put(guard(1))).await.refused(412, "stale-token");

        let held = door.send(ask("PUT", format!("{claims}/a")).json(&own)).await.expect(201).value();
        let first = held["fencing_token"].as_u64().expect("a token");
        door.send(put(guard(first))).await.expect(201);
        door.send(put(format!("lock={lock};token={first}"))).await.expect(200);
        let refused = door.send(put(guard(first + 1))).await.refused(412, "stale-token");
        assert_eq!(refused["fencing_token"], first, "the token that holds the lock");
        door.send(ask("DELETE", format!("{claims}/a"))).await.expect(204);
        // The last token of a free lock matches nothing.
        door.send(put(guard(first))).await.refused(412, "stale-token");
        let held = door.send(ask("PUT", format!("{claims}/b")).json(&own)).await.expect(201).value();
        let second = held["fencing_token"].as_u64().expect("a token");
        for method in ["PUT", "DELETE"] {
            let stale = ask(method, &key).header("Holdfast-Guard", guard(first));
            door.send(stale).await.refused(412, "stale-token");
        }
        // The lock of another namespace is another lock.
        let elsewhere = format!("/v1/namespaces/guarded-{}", door.via);
        door.send(ask("PUT", &elsewhere)).await.expect(201);
        let foreign = ask("PUT", format!("{elsewhere}/config/a")).header("Holdfast-Guard", guard(second));
        door.send(foreign.body("x")).await.refused(412, "stale-token");
        let both = put(guard(second)).header("If-Match", "\"1\"");
        door.send(both).await.refused(412, "revision-mismatch");
        door.send(ask("DELETE", &key).header("Holdfast-Guard", guard(second))).await.expect(204);
        door.send(ask("DELETE", format!("{claims}/b"))).await.expect(204);
    }
}

#[tokio::test]
async fn a_value_is_any_bytes_up_to_one_mebibyte() {
    let fixture = Fixture::shared().await;
    for door in fixture.both().await {
        let key = key("bytes", &door);
        let all: Vec<u8> = (0..=255).collect();
        let mut largest = vec![0xa5; VALUE_BYTES_MAX];
        for value in [Vec::new(), all, largest.clone()] {
            door.send(ask("PUT", &key).body(value.clone())).await;
            let read = door.send(ask("GET", &key)).await.expect(200);
            assert!(read.body == value, "{} bytes came back as {}", value.len(), read.body.len());
        }
        largest.push(0);
        door.send(ask("PUT", &key).body(largest)).await.refused(413, "too-large");
        assert_eq!(door.send(ask("GET", &key)).await.body.len(), VALUE_BYTES_MAX);
        door.send(ask("DELETE", &key)).await.expect(204);
    }
}

#[tokio::test]
async fn keys_are_paths_of_any_text() {
    let fixture = Fixture::shared().await;
    for door in fixture.both().await {
        for (sent, name) in [
            ("a%2Fb/c", "a/b/c"),
            ("%C3%B6%20%3F%23%25+&=", "ö ?#%+&="),
            ("...", "..."),
            (".a/..b", ".a/..b"),
            ("a:b;c@d,e'f(g)*", "a:b;c@d,e'f(g)*"),
            ("%F0%9F%94%92", "🔒"),
        ] {
            let target = format!("{CONFIG}/odd/{}/{sent}", door.via);
            door.send(ask("PUT", &target).body(name)).await.expect(201);
            assert_eq!(door.send(ask("GET", &target)).await.expect(200).text(), name);
            let prefix = format!("{CONFIG}?prefix=odd/{}/", door.via);
            let listed = door.send(ask("GET", prefix)).await.expect(200).value();
            assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{listed}");
            assert_eq!(listed["items"][0]["key"], format!("odd/{}/{name}", door.via));
            door.send(ask("DELETE", &target)).await.expect(204);
        }
        let longest = format!("{CONFIG}/{}", "k".repeat(1_024));
        door.send(ask("PUT", &longest).body("x")).await;
        assert_eq!(door.send(ask("GET", &longest)).await.expect(200).text(), "x");
    }
}
