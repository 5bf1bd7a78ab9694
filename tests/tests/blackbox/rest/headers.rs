//! The headers of every answer, and the request id that leads from an answer to the log.

use std::time::Duration;

use holdfast_tests::harness::{Seen, poll};
use serde_json::Value;

use super::fixture::Fixture;
use super::wire::{ask, exchange};

#[tokio::test]
async fn a_given_request_id_comes_back_and_is_in_the_log_of_every_node_it_passed() {
    let fixture = Fixture::shared().await;
    let [follower, leader] = fixture.both().await;
    for (door, lines) in [(&follower, 2), (&leader, 1)] {
        for (method, path, status) in [
            ("PUT", "config/traced", 200..=201),
            ("GET", "config/traced", 200..=200),
            ("PUT", "locks", 405..=405),
        ] {
            let id = format!("trace-{}-{method}-{}", door.via, path.replace('/', "."));
            let target = format!("/v1/namespaces/default/{path}");
            let answer = door.send(ask(method, target).header("Request-Id", id.as_str()).body("x")).await;
            assert!(status.contains(&answer.status), "{}", answer.shown());
            assert_eq!(answer.header("Request-Id"), Some(id.as_str()));
            let lines = if answer.status == 405 { 1 } else { lines };
            let logged = poll("the request in the logs", Duration::from_secs(10), async || {
                let logs = fixture.logs();
                let found: Vec<String> = logs
                    .iter()
                    .flat_map(|log| log.lines())
                    .filter(|line| line.contains(&id))
                    .map(str::to_owned)
                    .collect();
                if lines <= found.len() { Seen::Ready(found) } else { Seen::NotYet(format!("{found:?}")) }
            });
            let logged = logged.await.unwrap_or_else(|error| panic!("{error:#}"));
            for line in logged {
                let line: Value =
                    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                let text = line.to_string();
                assert!(text.contains(&id), "{line}");
                assert!(text.contains(door.node_id()) || text.contains(leader.node_id()), "no node: {line}");
            }
        }
    }
}

#[tokio::test]
async fn every_request_gets_an_id_of_its_own_and_an_unusable_one_is_replaced() {
    let fixture = Fixture::shared().await;
    for door in fixture.both().await {
        let mut ids = Vec::new();
        for _ in 0..5 {
            let answer = door.send(ask("GET", "/v1/cluster")).await.expect(200);
            ids.push(answer.header("Request-Id").expect("an id").to_owned());
        }
        let long = "x".repeat(129);
        for bad in ["", "two words", long.as_str()] {
            let answer = door.send(ask("GET", "/nowhere").header("Request-Id", bad)).await;
            answer.refused(404, "route-not-found");
            ids.push(answer.header("Request-Id").expect("an id").to_owned());
            assert_ne!(ids.last().map(String::as_str), Some(bad));
        }
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count, "{ids:?}");
        let longest = "x".repeat(128);
        let answer = door.send(ask("GET", "/v1/cluster").header("Request-Id", longest.as_str())).await;
        assert_eq!(answer.header("Request-Id"), Some(longest.as_str()));
    }
}

#[tokio::test]
async fn every_error_code_has_a_page_on_every_node() {
    let fixture = Fixture::shared().await;
    let codes = "invalid-json invalid-field invalid-name invalid-header future-revision unauthenticated forbidden \
        namespace-not-found session-not-found claim-not-found key-not-found member-not-found route-not-found \
        method-not-allowed too-large unsupported-media-type wait-timeout session-exists claim-conflict lock-held \
        lock-mode-conflict would-deadlock namespace-not-empty idempotency-in-flight already-bootstrapped \
        change-in-flight not-caught-up would-lose-quorum last-voter claim-ended session-expired \
        revision-compacted history-changed revision-mismatch stale-token token-mismatch membership-changed \
        out-of-range idempotency-key-reused queue-full overloaded no-leader shutting-down not-bootstrapped \
        revision-not-reached outcome-unknown disk-reserve";
    for door in fixture.both().await {
        for code in codes.split_whitespace() {
            let page = door.send(ask("GET", format!("/errors/{code}"))).await.expect(200);
            assert!(page.text().starts_with(&format!("# {code}\n")), "{}", page.shown());
            assert_eq!(page.header("Content-Type"), Some("text/markdown; charset=utf-8"));
            let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
            let page =
                door.send(ask("GET", format!("/errors/{code}")).header("Accept", browser)).await.expect(200);
            assert_eq!(page.header("Content-Type"), Some("text/html; charset=utf-8"));
            assert!(page.text().contains(&format!("<h1>{code}</h1>")), "{}", page.shown());
            let file = door
                .send(ask("GET", format!("/errors/{code}.md")).header("Accept", browser))
                .await
                .expect(200);
            assert!(file.text().starts_with(&format!("# {code}\n")), "{}", file.shown());
        }
        let list = door.send(ask("GET", "/errors/")).await.expect(200);
        let listed = list.text().lines().filter(|line| line.starts_with("- [")).count();
        assert_eq!(listed, codes.split_whitespace().count(), "{}", list.shown());
        let moved = door.send(ask("GET", "/errors")).await.expect(308);
        assert_eq!(moved.header("Location"), Some("/errors/"));
        door.send(ask("GET", "/errors/no-such-code")).await.refused(404, "route-not-found");
    }
}

#[tokio::test]
async fn every_node_tells_its_health_and_its_metrics() {
    let fixture = Fixture::shared().await;
    for door in fixture.doors().await {
        for (path, body) in [("/livez", "ok\n"), ("/readyz", "ok\n")] {
            let answer = exchange(door.addresses.ops, &ask("GET", path).bytes()).await.expect("an answer");
            assert_eq!((answer.status, answer.text().as_str()), (200, body), "{path}");
        }
        let metrics = exchange(door.addresses.ops, &ask("GET", "/metrics").bytes()).await.expect("an answer");
        assert_eq!(metrics.status, 200);
        assert!(metrics.text().ends_with("# EOF\n"), "{}", metrics.shown());
        let missing =
            exchange(door.addresses.ops, &ask("GET", "/v1/cluster").bytes()).await.expect("an answer");
        assert_eq!(missing.status, 404, "the API is not on the ops port");
    }
}

#[tokio::test]
async fn the_cluster_is_the_same_from_everywhere() {
    let fixture = Fixture::shared().await;
    let doors = fixture.doors().await;
    for door in &doors {
        let view = door.send(ask("GET", "/v1/cluster")).await.expect(200).value();
        assert_eq!(view["node_id"], door.node_id());
        assert_eq!((&view["phase"], &view["policy"]), (&Value::from("serving"), &Value::from("open")));
        assert_eq!(view["leader"], doors[0].node_id());
        assert_eq!(view["self"]["api"], door.api().to_string());
        let members = view["members"].as_array().expect("members");
        assert_eq!(members.len(), 3);
        assert!(members.iter().all(|member| member["role"] == "voter"), "{view}");
        assert_eq!(view["removed"], serde_json::json!([]));
        if door.via == "leader" {
            assert!(members.iter().all(|member| member["health"] == "ok"), "{view}");
            assert!(members.iter().all(|member| member["lag"].is_u64()), "{view}");
        }
    }
}
