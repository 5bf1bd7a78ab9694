//! Namespaces: created, found again, deleted when empty.

use serde_json::json;

use super::fixture::Fixture;
use super::wire::ask;

#[tokio::test]
async fn a_namespace_is_created_found_again_and_deleted_once_it_is_empty() {
    let fixture = Fixture::shared().await;
    for door in fixture.both().await {
        let namespace = format!("/v1/namespaces/ns-{}", door.via);
        door.send(ask("GET", &namespace)).await.refused(404, "namespace-not-found");
        let created = door.send(ask("PUT", &namespace)).await.expect(201);
        let view = json!({ "name": format!("ns-{}", door.via), "create_revision": created.revision() });
        assert_eq!(created.value(), view);
        assert_eq!(created.header("Content-Type"), Some("application/json"));
        let again = door.send(ask("PUT", &namespace).json(&json!({}))).await.expect(200);
        assert_eq!(again.value(), view);
        assert_eq!(door.send(ask("GET", &namespace)).await.expect(200).value(), view);
        let listed = door.send(ask("GET", "/v1/namespaces")).await.expect(200).value();
        let items = listed["items"].as_array().expect("items");
        assert!(items.contains(&view) && items.iter().any(|item| item["name"] == "default"), "{listed}");

        let key = format!("{namespace}/config/a");
        door.send(ask("PUT", &key).body("1")).await.expect(201);
        door.send(ask("DELETE", &namespace)).await.refused(409, "namespace-not-empty");
        door.send(ask("DELETE", &key)).await.expect(204);

        let claim = format!("{namespace}/locks/l/claims/a");
        door.send(ask("PUT", &claim).json(&json!({ "ttl_ms": 60_000 }))).await.expect(201);
        door.send(ask("DELETE", &namespace)).await.refused(409, "namespace-not-empty");
        door.send(ask("DELETE", &claim)).await.expect(204);

        let gone = door.send(ask("DELETE", &namespace)).await.expect(204);
        assert!(gone.body.is_empty() && created.revision() < gone.revision(), "{}", gone.shown());
        door.send(ask("DELETE", &namespace)).await.refused(404, "namespace-not-found");
        door.send(ask("GET", &namespace)).await.refused(404, "namespace-not-found");
        door.send(ask("PUT", &key).body("1")).await.refused(404, "namespace-not-found");
        door.send(ask("GET", format!("{namespace}/config"))).await.refused(404, "namespace-not-found");
        door.send(ask("GET", format!("{namespace}/locks"))).await.refused(404, "namespace-not-found");
        door.send(ask("GET", format!("{namespace}/locks/l"))).await.refused(404, "namespace-not-found");
        door.send(ask("GET", &claim)).await.refused(404, "namespace-not-found");
        door.send(ask("DELETE", &claim)).await.refused(404, "namespace-not-found");
        door.send(ask("PUT", &claim).json(&json!({ "ttl_ms": 60_000 })))
            .await
            .refused(404, "namespace-not-found");

        // A namespace of the same name is another one: the key's history is not its own.
        let reborn = door.send(ask("PUT", &namespace)).await.expect(201);
        assert!(gone.revision() < reborn.revision());
        door.send(ask("GET", format!("{key}?at_revision={}", reborn.revision())))
            .await
            .refused(404, "key-not-found");
        door.send(ask("GET", format!("{key}?at_revision={}", created.revision() + 1)))
            .await
            .refused(404, "key-not-found");
        // The id of the claim stays used up.
        let ended = door.send(ask("PUT", &claim).json(&json!({ "ttl_ms": 60_000 }))).await;
        assert_eq!(ended.refused(410, "claim-ended")["reason"], "released");
    }
}

#[tokio::test]
async fn the_default_namespace_stays() {
    let fixture = Fixture::shared().await;
    for door in fixture.both().await {
        door.send(ask("GET", "/v1/namespaces/default")).await.expect(200);
        door.send(ask("PUT", "/v1/namespaces/default")).await.expect(200);
        door.send(ask("DELETE", "/v1/namespaces/default")).await.refused(409, "namespace-not-empty");
    }
}
