//! Lists: filtered, paged, and pinned where history allows it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::fixture::{Door, Fixture};
use super::wire::ask;

/// All pages of a list with `limit` items each; checks that none is longer.
async fn pages(door: &Door, list: &str, query: &str, limit: usize) -> Vec<Value> {
    let mut pages: Vec<Value> = Vec::new();
    loop {
        let mut target = format!("{list}?limit={limit}&{query}");
        if let Some(last) = pages.last() {
            let Some(cursor) = last["next_cursor"].as_str() else { return pages };
            target.push_str(&format!("&cursor={}", cursor.replace('/', "%2F")));
        }
        let page = door.send(ask("GET", target)).await.expect(200).value();
        assert!(page["items"].as_array().is_some_and(|items| items.len() <= limit), "{page}");
        pages.push(page);
        assert!(pages.len() < 1_000, "a list that does not end");
    }
}

fn names(pages: &[Value], member: &str) -> Vec<String> {
    let items = pages.iter().flat_map(|page| page["items"].as_array().expect("items"));
    items.map(|item| item[member].as_str().expect("a name").to_owned()).collect()
}

#[tokio::test]
async fn the_pages_of_a_config_list_are_all_of_one_revision() {
    let fixture = Fixture::shared().await;
    for door in fixture.both().await {
        let config = "/v1/namespaces/default/config";
        let prefix = format!("paged/{}/", door.via);
        for name in ["a", "b", "c", "d", "e"] {
            door.send(ask("PUT", format!("{config}/{prefix}{name}")).body(name)).await.expect(201);
        }
        let beside = format!("{config}/paged/{}x", door.via);
        door.send(ask("PUT", beside).body("beside the prefix")).await.expect(201);
        let first =
            door.send(ask("GET", format!("{config}?prefix={prefix}&limit=2&values=true"))).await.expect(200);
        let first = first.value();
        let cursor = first["next_cursor"].as_str().expect("more pages").replace('/', "%2F");
        // What happens between two pages is not in the second.
        door.send(ask("PUT", format!("{config}/{prefix}c")).body("changed")).await.expect(200);
        door.send(ask("DELETE", format!("{config}/{prefix}d"))).await.expect(204);
        door.send(ask("PUT", format!("{config}/{prefix}bb")).body("new")).await.expect(201);
        let rest = format!("{config}?prefix={prefix}&values=true&cursor={cursor}");
        let rest = door.send(ask("GET", rest)).await.expect(200).value();
        assert_eq!(rest["revision"], first["revision"]);
        let pinned = [first, rest];
        let expected: Vec<String> = ["a", "b", "c", "d", "e"].map(|name| format!("{prefix}{name}")).into();
        assert_eq!(names(&pinned, "key"), expected);
        assert_eq!(names(&pinned, "value"), ["a", "b", "c", "d", "e"]);

        let now = pages(&door, config, &format!("prefix={prefix}"), 1).await;
        let expected: Vec<String> = ["a", "b", "bb", "c", "e"].map(|name| format!("{prefix}{name}")).into();
        assert_eq!(names(&now, "key"), expected);
        let items: Vec<&Value> =
            now.iter().flat_map(|page| page["items"].as_array().expect("items")).collect();
        assert!(
            items.iter().all(|item| item["value"].is_null() && item["value_base64"].is_null()),
            "{items:?}"
        );
        let changed = items[3];
        assert_eq!(
            (&changed["version"], &changed["content_type"]),
            (&json!(2), &json!("application/octet-stream"))
        );
        assert!(changed["create_revision"].as_u64() < changed["mod_revision"].as_u64(), "{changed}");
    }
}

#[tokio::test]
async fn listed_values_are_text_or_base64_and_never_both() {
    let fixture = Fixture::shared().await;
    for door in fixture.both().await {
        let config = "/v1/namespaces/default/config";
        let prefix = format!("encoded/{}/", door.via);
        let put = |name: &str, body: &[u8]| ask("PUT", format!("{config}/{prefix}{name}")).body(body);
        for (name, body) in [("bytes", &b"\xff\x00"[..]), ("empty", b""), ("text", "ö\n".as_bytes())] {
            door.send(put(name, body).header("Content-Type", "text/x")).await.expect(201);
        }
        let listed = door.send(ask("GET", format!("{config}?prefix={prefix}&values=true"))).await.expect(200);
        let listed = listed.value();
        let encoded: Vec<_> = listed["items"].as_array().expect("items").iter().collect();
        let seen: Vec<_> = encoded.iter().map(|item| (item.get("value"), item.get("value_base64"))).collect();
        let [bytes, empty, text] = [json!("/wA="), json!(""), json!("ö\n")];
        assert_eq!(seen, [(None, Some(&bytes)), (Some(&empty), None), (Some(&text), None)], "{listed}");
        assert!(encoded.iter().all(|item| item["content_type"] == "text/x"), "{listed}");
    }
}

#[tokio::test]
async fn a_page_of_values_is_bounded_in_bytes() {
    let fixture = Fixture::shared().await;
    let [follower, _] = fixture.both().await;
    let config = "/v1/namespaces/default/config";
    for name in ["a", "b", "c", "d", "e", "f"] {
        let value = vec![b'v'; 1 << 20];
        follower.send(ask("PUT", format!("{config}/heavy/{name}")).body(value)).await.expect(201);
    }
    let pages = pages(&follower, config, "prefix=heavy/&values=true", 1_000).await;
    assert!(1 < pages.len(), "6 MiB came in one page");
    let keys: Vec<String> = ["a", "b", "c", "d", "e", "f"].map(|name| format!("heavy/{name}")).into();
    assert_eq!(names(&pages, "key"), keys);
    let revisions: BTreeSet<String> = pages.iter().map(|page| page["revision"].to_string()).collect();
    assert_eq!(revisions.len(), 1);
    for name in ["a", "b", "c", "d", "e", "f"] {
        follower.send(ask("DELETE", format!("{config}/heavy/{name}"))).await.expect(204);
    }
}

#[tokio::test]
async fn locks_sessions_and_namespaces_are_listed_in_pages() {
    let fixture = Fixture::shared().await;
    for door in fixture.both().await {
        let prefix = format!("listed-{}", door.via);
        let mut expected = Vec::new();
        for index in 0..5 {
            let name = format!("{prefix}-{index}");
            door.session(&name).await;
            let claim = format!("/v1/namespaces/default/locks/{name}%2Fx/claims/a");
            door.send(ask("PUT", claim).json(&json!({ "session": name }))).await.expect(201);
            door.send(ask("PUT", format!("/v1/namespaces/{name}"))).await.expect(201);
            expected.push(name);
        }
        let query = format!("prefix={prefix}");
        for limit in [1, 2, 5, 1_000] {
            let found = pages(&door, "/v1/sessions", &query, limit).await;
            assert_eq!(names(&found, "id"), expected, "sessions by {limit}");
            let found = pages(&door, "/v1/namespaces", &query, limit).await;
            assert_eq!(names(&found, "name"), expected, "namespaces by {limit}");
            let found = pages(&door, "/v1/namespaces/default/locks", &query, limit).await;
            let locks: Vec<String> = expected.iter().map(|name| format!("{name}/x")).collect();
            assert_eq!(names(&found, "name"), locks, "locks by {limit}");
            let items: Vec<&Value> =
                found.iter().flat_map(|page| page["items"].as_array().expect("items")).collect();
            assert!(items.iter().all(|lock| lock["holders"][0]["claim"] == "a"), "{items:?}");
        }
        let none = door.send(ask("GET", "/v1/sessions?prefix=nobody-")).await.expect(200).value();
        assert_eq!(none["items"], json!([]));
        for name in expected {
            door.send(ask("DELETE", format!("/v1/sessions/{name}"))).await.expect(204);
            door.send(ask("DELETE", format!("/v1/namespaces/{name}"))).await.expect(204);
        }
    }
}
