//! Paths, queries, headers and methods that are refused, and nothing is changed by any of them.

use serde_json::json;

use super::fixture::{Door, Fixture};
use super::wire::{Ask, ask};

const NAMESPACE: &str = "/v1/namespaces/default";

/// Sends what must be refused, and fails if the store's revision moved.
async fn refused(door: &Door, request: Ask, status: u16, code: &str) {
    let before = door.revision().await;
    let shown = format!("{} {} {:?}", request.method, request.target, request.headers);
    let answer = door.send(request).await;
    assert_eq!(answer.status, status, "{shown}: {}", answer.shown());
    answer.refused(status, code);
    assert_eq!(door.revision().await, before, "{shown}");
}

fn claim_body() -> serde_json::Value {
    json!({ "ttl_ms": 60_000 })
}

#[tokio::test]
async fn a_bad_name_is_refused_wherever_it_stands() {
    let fixture = Fixture::alone().await;
    let long_id = "x".repeat(129);
    let long_label = "x".repeat(64);
    let ids =
        ["%20", "a%20b", "-a", ".a", "_a", "a%2Fb", "a%00", "%C3%B6", "a'b", "..", "%2E", "%2e%2e", &long_id];
    let labels = ["A", "a_b", "-a", "a-", "a.b", "%C3%B6", "a%00", "a%2Fb", "..", &long_label];
    for door in fixture.both().await {
        for id in ids {
            let session = format!("/v1/sessions/{id}");
            for method in ["PUT", "GET", "DELETE"] {
                refused(&door, ask(method, &session), 400, "invalid-name").await;
            }
            refused(&door, ask("POST", format!("{session}/keepalive")), 400, "invalid-name").await;
            for claims in ["locks/bad/claims", "elections/bad/candidates"] {
                let claim = format!("{NAMESPACE}/{claims}/{id}");
                refused(&door, ask("PUT", &claim).json(&claim_body()), 400, "invalid-name").await;
                refused(&door, ask("GET", &claim), 400, "invalid-name").await;
                refused(&door, ask("DELETE", &claim), 400, "invalid-name").await;
            }
        }
        for label in labels {
            let namespace = format!("/v1/namespaces/{label}");
            for method in ["PUT", "GET", "DELETE"] {
                refused(&door, ask(method, &namespace), 400, "invalid-name").await;
            }
            refused(&door, ask("GET", format!("{namespace}/config")), 400, "invalid-name").await;
            refused(&door, ask("PUT", format!("{namespace}/config/a")).body("x"), 400, "invalid-name").await;
            for place in ["locks/a", "elections/a", "history/a", "diff/a?from=1"] {
                refused(&door, ask("GET", format!("{namespace}/{place}")), 400, "invalid-name").await;
            }
            refused(&door, ask("POST", format!("{namespace}/txn")).json(&json!({})), 400, "invalid-name")
                .await;
        }
        for reserved in [
            "/v1/sessions/c-1".to_owned(),
            format!("{NAMESPACE}/locks/bad/claims/c-1"),
            format!("{NAMESPACE}/elections/bad/candidates/c-1"),
        ] {
            refused(&door, ask("PUT", reserved).json(&claim_body()), 400, "invalid-name").await;
        }
    }
}

#[tokio::test]
async fn a_bad_lock_name_or_key_is_refused() {
    let fixture = Fixture::alone().await;
    let long_segment = "x".repeat(129);
    let long_name = format!("{0}%2F{0}", "x".repeat(128));
    let locks = [
        "a%2F",
        "%2Fa",
        "a%2F%2Fb",
        "a%20b",
        "a%00b",
        "..",
        "a%2F..%2Fb",
        "%C3%B6",
        &long_segment,
        &long_name,
    ];
    let long_key = "k".repeat(1_025);
    let keys = [
        "a//b",
        "a/",
        "a%2F",
        "/a",
        "%2Fa",
        "a%2F%2Fb",
        "a/../b",
        "a/%2E%2E/b",
        "..",
        "%2e",
        "a/.",
        "./a",
        "a%00b",
        "a%0Ab",
        "a%7Fb",
        "a%C2%85b",
        &long_key,
    ];
    for door in fixture.both().await {
        for lock in locks {
            let election = format!("{NAMESPACE}/elections/{lock}");
            refused(&door, ask("GET", &election), 400, "invalid-name").await;
            let candidate = ask("PUT", format!("{election}/candidates/a")).json(&claim_body());
            refused(&door, candidate, 400, "invalid-name").await;
            let lock = format!("{NAMESPACE}/locks/{lock}");
            refused(&door, ask("GET", &lock), 400, "invalid-name").await;
            refused(&door, ask("PUT", format!("{lock}/claims/a")).json(&claim_body()), 400, "invalid-name")
                .await;
            let force = json!({ "fencing_token": 1, "reason": "x" });
            refused(&door, ask("POST", format!("{lock}/force-release")).json(&force), 400, "invalid-name")
                .await;
        }
        for key in keys {
            refused(&door, ask("GET", format!("{NAMESPACE}/history/{key}")), 400, "invalid-name").await;
            refused(&door, ask("GET", format!("{NAMESPACE}/diff/{key}?from=1")), 400, "invalid-name").await;
            let rollback =
                ask("POST", format!("{NAMESPACE}/rollback/{key}")).json(&json!({ "to_revision": 1 }));
            refused(&door, rollback, 400, "invalid-name").await;
            let key = format!("{NAMESPACE}/config/{key}");
            refused(&door, ask("PUT", &key).body("x"), 400, "invalid-name").await;
            refused(&door, ask("GET", &key), 400, "invalid-name").await;
            refused(&door, ask("DELETE", &key), 400, "invalid-name").await;
        }
    }
}

#[tokio::test]
async fn a_path_that_is_no_text_is_a_bad_name() {
    let fixture = Fixture::alone().await;
    for door in fixture.both().await {
        for path in [
            "/v1/sessions/%FF".to_owned(),
            "/v1/namespaces/%C3".to_owned(),
            format!("{NAMESPACE}/locks/a%ED%A0%80"),
            format!("{NAMESPACE}/locks/a/claims/%C0%AF"),
            format!("{NAMESPACE}/config/a/%FF/b"),
        ] {
            refused(&door, ask("GET", &path), 400, "invalid-name").await;
            if !path.contains("/locks/a%") {
                refused(&door, ask("PUT", &path), 400, "invalid-name").await;
            }
        }
        for path in ["/v1/sessions/a%", "/v1/sessions/a%2", "/v1/sessions/a%zz"] {
            refused(&door, ask("GET", path), 400, "invalid-name").await;
        }
    }
}

#[tokio::test]
async fn an_unknown_route_and_a_wrong_method_say_what_there_is() {
    let fixture = Fixture::alone().await;
    for door in fixture.both().await {
        for path in [
            "/",
            "/v1",
            "/v1/",
            "/v2/sessions",
            "/v1/sessions/",
            "/v1/sessions/a/b",
            "/v1/namespaces/",
            "//v1/cluster",
            "/v1/namespaces/default/",
            "/v1/namespaces/default/locks/",
            "/v1/namespaces/default/lock-bundles/a",
            "/v1/namespaces/default/locks/a/claims/",
            "/v1/namespaces/default/locks/a/candidates",
            "/v1/namespaces/default/elections",
            "/v1/namespaces/default/elections/a/claims",
            "/v1/namespaces/default/elections/a/force-release",
            "/v1/namespaces/default/history",
            "/v1/namespaces/default/history/",
            "/v1/namespaces/default/txn/a",
            "/v1/cluster/",
            "/v1/cluster/nowhere",
            "/livez",
            "/metrics",
            "/%2e%2e",
        ] {
            for method in ["GET", "PUT", "BREW"] {
                refused(&door, ask(method, path), 404, "route-not-found").await;
            }
        }
        for (path, allowed) in [
            ("/v1/sessions", "GET POST"),
            ("/v1/sessions/a", "GET PUT DELETE"),
            ("/v1/sessions/a/keepalive", "POST"),
            ("/v1/namespaces", "GET"),
            ("/v1/namespaces/a", "GET PUT DELETE"),
            ("/v1/namespaces/default/locks", "GET"),
            ("/v1/namespaces/default/locks/a", "GET"),
            ("/v1/namespaces/default/locks/a/force-release", "POST"),
            ("/v1/namespaces/default/locks/a/claims", "POST"),
            ("/v1/namespaces/default/locks/a/claims/a", "GET PUT DELETE"),
            ("/v1/namespaces/default/config", "GET"),
            ("/v1/namespaces/default/config/a", "GET PUT DELETE"),
            ("/v1/namespaces/default/history/a", "GET"),
            ("/v1/namespaces/default/diff/a", "GET"),
            ("/v1/namespaces/default/rollback/a", "POST"),
            ("/v1/namespaces/default/txn", "POST"),
            ("/v1/namespaces/default/elections/a", "GET"),
            ("/v1/namespaces/default/elections/a/candidates", "POST"),
            ("/v1/namespaces/default/elections/a/candidates/a", "GET PUT DELETE"),
            ("/v1/cluster", "GET"),
            ("/v1/cluster/bootstrap", "POST"),
            ("/v1/cluster/members", "POST"),
            ("/v1/cluster/members/00000000000000ab", "DELETE"),
            ("/v1/cluster/members/00000000000000ab/promote", "POST"),
            ("/v1/cluster/transfer-leader", "POST"),
            ("/errors/lock-held", "GET"),
        ] {
            let allowed: Vec<&str> = allowed.split(' ').collect();
            for method in ["GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "BREW"] {
                if allowed.contains(&method) {
                    continue;
                }
                let before = door.revision().await;
                let answer = door.send(ask(method, path)).await;
                let problem = answer.refused(405, "method-not-allowed");
                let detail = problem["detail"].as_str().unwrap_or_default();
                assert!(allowed.iter().all(|method| detail.contains(method)), "{problem}");
                let mut told: Vec<&str> =
                    answer.header("Allow").unwrap_or_default().split(',').map(str::trim).collect();
                told.retain(|method| *method != "HEAD");
                told.sort_unstable();
                let mut expected = allowed.clone();
                expected.sort_unstable();
                assert_eq!(told, expected, "{method} {path}");
                assert_eq!(door.revision().await, before);
            }
        }
    }
}

#[tokio::test]
async fn a_query_that_is_not_understood_is_refused() {
    let fixture = Fixture::alone().await;
    for door in fixture.both().await {
        door.send(ask("PUT", format!("{NAMESPACE}/config/queried")).body("x")).await;
        let reads =
            ["config/queried", "locks/a", "locks/a/claims/a", "elections/a", "elections/a/candidates/a"];
        for read in reads {
            for query in
                ["at_revison=1", "consistency=strong", "min_revision=x", "min_revision=-1", "limit=1"]
            {
                let target = format!("{NAMESPACE}/{read}?{query}");
                refused(&door, ask("GET", target), 400, "invalid-field").await;
            }
        }
        for read in &reads[1..] {
            refused(&door, ask("GET", format!("{NAMESPACE}/{read}?at_revision=1")), 400, "invalid-field")
                .await;
        }
        let lists = [
            "/v1/sessions",
            "/v1/namespaces",
            "/v1/namespaces/default/locks",
            "/v1/namespaces/default/config",
        ];
        for list in lists {
            for query in [
                "limt=1",
                "limit=x",
                "values=maybe",
                "cursor=x",
                "cursor=1.",
                "cursor=99999999999999999999.a",
            ] {
                refused(&door, ask("GET", format!("{list}?{query}")), 400, "invalid-field").await;
            }
            for query in ["limit=0", "limit=1001"] {
                refused(&door, ask("GET", format!("{list}?{query}")), 422, "out-of-range").await;
            }
        }
        for list in &lists[..3] {
            refused(&door, ask("GET", format!("{list}?at_revision=1")), 400, "invalid-field").await;
        }
        let future = format!("{NAMESPACE}/config?cursor={}.a", (1_u64 << 53) - 1);
        refused(&door, ask("GET", future), 400, "future-revision").await;
        for (method, target) in [
            ("PUT", format!("{NAMESPACE}/config/queried?sesion=a")),
            ("DELETE", format!("{NAMESPACE}/config/queried?x=1")),
            ("PUT", "/v1/sessions/queried?ttl_ms=1000".to_owned()),
            ("DELETE", "/v1/sessions/queried?x=1".to_owned()),
            ("POST", "/v1/sessions?ttl_ms=1000".to_owned()),
            ("POST", "/v1/sessions/queried/keepalive?x=1".to_owned()),
            ("PUT", "/v1/namespaces/queried?x=1".to_owned()),
            ("DELETE", "/v1/namespaces/queried?x=1".to_owned()),
            ("PUT", format!("{NAMESPACE}/locks/queried/claims/a?ttl_ms=60000")),
            ("DELETE", format!("{NAMESPACE}/locks/queried/claims/a?x=1")),
            ("POST", format!("{NAMESPACE}/rollback/queried?to_revision=1")),
            ("POST", format!("{NAMESPACE}/txn?x=1")),
            ("PUT", format!("{NAMESPACE}/elections/queried/candidates/a?x=1")),
            ("GET", "/v1/cluster?x=1".to_owned()),
        ] {
            let request = ask(method, &target);
            let request =
                if target.contains("/claims/a?ttl") { request.json(&claim_body()) } else { request };
            refused(&door, request, 400, "invalid-field").await;
        }
    }
}

#[tokio::test]
async fn a_header_that_is_not_understood_is_refused() {
    let fixture = Fixture::alone().await;
    let long_key = "k".repeat(257);
    for door in fixture.both().await {
        let key = format!("{NAMESPACE}/config/headed-{}", door.via);
        let put = || ask("PUT", &key).body("x");
        for (name, value) in [
            ("If-Match", "7"),
            ("If-Match", "W/\"7\""),
            ("If-Match", "\"7\", \"8\""),
            ("If-Match", "\"x\""),
            ("If-Match", ""),
            ("If-None-Match", "\"7\""),
            ("If-None-Match", ""),
            ("Holdfast-Guard", "lock=a"),
            ("Holdfast-Guard", "token=1; lock=a"),
            ("Holdfast-Guard", "lock=a; token=-1"),
            ("Holdfast-Guard", "lock=a; token=1; lock=b"),
            ("Holdfast-Guard", ""),
            ("Idempotency-Key", ""),
            ("Idempotency-Key", "\"\""),
            ("Idempotency-Key", &long_key),
        ] {
            refused(&door, put().header(name, value), 400, "invalid-header").await;
        }
        refused(&door, put().header("Holdfast-Guard", "lock=a b; token=1"), 400, "invalid-name").await;
        let long_type = format!("text/{}", "x".repeat(256));
        refused(&door, put().header("Content-Type", long_type), 400, "invalid-header").await;
        let both = put().header("If-Match", "\"1\"").header("If-None-Match", "*");
        refused(&door, both, 400, "invalid-header").await;
        refused(&door, put().header("Holdfast-Guard", "election=a b; token=1"), 400, "invalid-name").await;
        for name in ["If-Match", "Holdfast-Guard", "Holdfast-Managed-By", "Idempotency-Key", "Content-Type"] {
            let value = match name {
                "If-Match" => "*",
                "Holdfast-Guard" => "lock=a; token=1",
                _ => "text/plain",
            };
            refused(&door, put().header(name, value).header(name, value), 400, "invalid-header").await;
        }
        door.send(ask("GET", &key)).await.refused(404, "key-not-found");
    }
}
