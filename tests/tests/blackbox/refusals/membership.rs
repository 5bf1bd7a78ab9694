//! Steps of a cluster's life that are refused because they are not safe, or not what the caller thinks.

use std::net::SocketAddr;
use std::time::Duration;

use holdfast_tests::harness::{Cluster, NodeOptions, Seen, poll};
use serde_json::{Value, json};

use crate::rest::wire::{Ask, Reply, ask, exchange};

struct Nodes {
    cluster: Cluster,
}

impl Nodes {
    async fn waiting(count: usize) -> Self {
        let cluster = Cluster::launch(count, &NodeOptions::default()).await;
        Self { cluster: cluster.unwrap_or_else(|error| panic!("{error:#}")) }
    }

    fn api(&self, index: usize) -> SocketAddr {
        self.cluster.nodes()[index].addresses().api
    }

    async fn send(&self, index: usize, request: Ask) -> Reply {
        exchange(self.api(index), &request.bytes())
            .await
            .unwrap_or_else(|error| panic!("{} {}: {error}", request.method, request.target))
    }

    async fn view(&self, index: usize) -> Value {
        self.send(index, ask("GET", "/v1/cluster")).await.expect(200).value()
    }

    async fn id(&self, index: usize) -> String {
        self.view(index).await["node_id"].as_str().expect("an id").to_owned()
    }

    async fn membership(&self, index: usize) -> String {
        self.view(index).await["membership_log_id"].as_str().expect("a membership").to_owned()
    }

    async fn bootstrap(&self, index: usize, cluster_id: &str) -> Reply {
        let body = json!({ "node_id": self.id(index).await, "cluster_id": cluster_id });
        self.send(index, ask("POST", "/v1/cluster/bootstrap").json(&body)).await
    }

    /// The request that adds a node as it presents itself.
    async fn add(&self, index: usize, expected: &str) -> Ask {
        let own = self.view(index).await["self"].clone();
        let body = json!({
            "id": own["id"], "name": own["name"], "api": own["api"], "peer": own["peer"], "gossip": own["gossip"],
            "role": "voter", "expected_membership_log_id": expected,
        });
        ask("POST", "/v1/cluster/members").json(&body)
    }
}

fn promote(id: &str, expected: &str) -> Ask {
    let body = json!({ "expected_membership_log_id": expected });
    ask("POST", format!("/v1/cluster/members/{id}/promote")).json(&body)
}

fn remove(id: &str, expected: &str) -> Ask {
    ask("DELETE", format!("/v1/cluster/members/{id}?expected_membership_log_id={expected}"))
}

#[tokio::test]
async fn a_waiting_node_serves_nothing_and_is_bootstrapped_once() {
    let nodes = Nodes::waiting(1).await;
    let view = nodes.view(0).await;
    assert_eq!(
        (&view["phase"], &view["cluster_id"], &view["members"]),
        (&json!("waiting"), &Value::Null, &json!([]))
    );
    for request in [
        ask("GET", "/v1/namespaces/default/config/a"),
        ask("PUT", "/v1/namespaces/default/config/a").body("x"),
        ask("PUT", "/v1/sessions/a"),
        ask("POST", "/v1/sessions/a/keepalive"),
        ask("GET", "/v1/namespaces/default/locks/a"),
        promote("00000000000000ab", "1-00000000000000ab-1"),
    ] {
        let shown = format!("{} {}", request.method, request.target);
        let answer = nodes.send(0, request).await;
        assert_eq!(answer.status, 503, "{shown}: {}", answer.shown());
        answer.refused(503, "not-bootstrapped");
        assert!(answer.header("Retry-After").is_some(), "{}", answer.shown());
    }

    let bootstrap = |body: Value| nodes.send(0, ask("POST", "/v1/cluster/bootstrap").json(&body));
    let wrong = json!({ "node_id": "00000000000000ab", "cluster_id": "first" });
    let problem = bootstrap(wrong).await.refused(400, "invalid-field");
    assert_eq!(problem["pointer"], "/node_id");
    let id = nodes.id(0).await;
    for (bad, pointer) in [
        (json!({ "node_id": "ab" }), "/node_id"),
        (json!({ "node_id": 7 }), "/node_id"),
        (json!({ "node_id": id.to_uppercase() + "0" }), "/node_id"),
        (json!({ "node_id": id, "cluster_id": "" }), "/cluster_id"),
        (json!({ "node_id": id, "cluster_id": "a b" }), "/cluster_id"),
        (json!({ "node_id": id, "cluster_id": "x".repeat(65) }), "/cluster_id"),
    ] {
        let problem = bootstrap(bad.clone()).await.refused(400, "invalid-field");
        assert_eq!(problem["pointer"], pointer, "{bad}: {problem}");
    }
    assert_eq!(nodes.view(0).await["phase"], "waiting");

    let made = nodes.bootstrap(0, "first").await.expect(201).value();
    assert_eq!((&made["cluster_id"], &made["node_id"]), (&json!("first"), &json!(id)));
    let again = nodes.bootstrap(0, "first").await.expect(200).value();
    assert_eq!((&again["cluster_id"], &again["node_id"]), (&json!("first"), &json!(id)));
    nodes.bootstrap(0, "second").await.refused(409, "already-bootstrapped");
    bootstrap(json!({ "node_id": id })).await.refused(409, "already-bootstrapped");
    nodes.cluster.wait_node_serving(0).await.unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(nodes.view(0).await["cluster_id"], "first");
}

#[tokio::test]
async fn a_membership_step_names_what_it_changes_and_never_loses_the_quorum() {
    let mut nodes = Nodes::waiting(3).await;
    nodes.bootstrap(0, "stepwise").await.expect(201);
    nodes.cluster.wait_node_serving(0).await.unwrap_or_else(|error| panic!("{error:#}"));
    let first = nodes.membership(0).await;
    let ids = [nodes.id(0).await, nodes.id(1).await, nodes.id(2).await];
    let nobody = "00000000000000ab";

    nodes.send(0, remove(&ids[0], &first)).await.refused(409, "last-voter");
    nodes.send(0, promote(nobody, &first)).await.refused(404, "member-not-found");
    nodes.send(0, remove(nobody, &first)).await.refused(404, "member-not-found");
    nodes.send(0, promote("nobody", &first)).await.refused(400, "invalid-name");
    nodes.send(0, ask("DELETE", format!("/v1/cluster/members/{nobody}"))).await.refused(400, "invalid-field");
    for stale in ["", "1", "1-00000000000000ab-1", "99-00000000000000ab-99"] {
        for request in [nodes.add(1, stale).await, promote(&ids[0], stale), remove(&ids[0], stale)] {
            let is_noop = request.target.ends_with("/promote");
            let answer = nodes.send(0, request).await;
            if is_noop {
                // It is a voter already: nothing to change, whatever was seen.
                answer.expect(200);
            } else {
                let problem = answer.refused(412, "membership-changed");
                assert_eq!(problem["membership_log_id"], first, "{problem}");
            }
        }
    }
    assert_eq!(nodes.membership(0).await, first, "refused steps changed the membership");

    // A member that does not answer: it is added, and never promoted.
    let absent = json!({
        "id": nobody, "name": "absent", "api": "127.0.0.1:1", "peer": "127.0.0.1:1", "gossip": "127.0.0.1:1",
        "role": "voter", "expected_membership_log_id": first,
    });
    for (member, bad) in
        [("api", "nowhere"), ("peer", "a:0"), ("gossip", ":1"), ("id", "ab"), ("role", "king")]
    {
        let mut body = absent.clone();
        body[member] = json!(bad);
        let problem = nodes.send(0, ask("POST", "/v1/cluster/members").json(&body)).await;
        assert_eq!(problem.refused(400, "invalid-field")["pointer"], format!("/{member}"));
    }
    nodes.send(0, ask("POST", "/v1/cluster/members").json(&absent)).await.expect(200);
    let second = nodes.membership(0).await;
    assert_ne!(first, second);
    nodes.send(0, promote(nobody, &first)).await.refused(412, "membership-changed");
    // The membership counts as changed once its entry is known to be committed, a moment after the answer.
    let refused = poll("the change to be finished", Duration::from_secs(5), async || {
        let answer = nodes.send(0, promote(nobody, &second)).await;
        match answer.value()["code"].as_str() {
            Some("change-in-flight") => Seen::NotYet(answer.shown()),
            _ => Seen::Ready(answer),
        }
    });
    refused.await.unwrap_or_else(|error| panic!("{error:#}")).refused(409, "not-caught-up");
    let mut moved = absent.clone();
    moved["peer"] = json!("127.0.0.1:2");
    moved["expected_membership_log_id"] = json!(second);
    nodes.send(0, ask("POST", "/v1/cluster/members").json(&moved)).await.refused(412, "membership-changed");
    nodes.send(0, remove(nobody, &second)).await.expect(200);

    // A removed id is refused for ever.
    let mut back = absent.clone();
    back["expected_membership_log_id"] = json!(nodes.membership(0).await);
    nodes.send(0, ask("POST", "/v1/cluster/members").json(&back)).await.refused(412, "membership-changed");
    assert_eq!(nodes.view(0).await["removed"], json!([nobody]));

    for index in [1, 2] {
        nodes.cluster.add_voter(index).await.unwrap_or_else(|error| panic!("{error:#}"));
    }
    nodes.cluster.wait_serving().await.unwrap_or_else(|error| panic!("{error:#}"));
    nodes.bootstrap(1, "stepwise").await.refused(409, "already-bootstrapped");
    nodes.bootstrap(1, "another").await.refused(409, "already-bootstrapped");
    assert_eq!(nodes.view(1).await["cluster_id"], "stepwise");

    let leader = nodes.cluster.wait_leader().await.unwrap_or_else(|error| panic!("{error:#}"));
    let others: Vec<usize> = (0..3).filter(|index| *index != leader).collect();
    let [down, up] = others.as_slice() else { panic!("two followers expected: {others:?}") };
    nodes.cluster.node_mut(*down).kill().unwrap_or_else(|error| panic!("{error:#}"));
    // The leader must have noticed: until then the silent one counts as live.
    let noticed = poll("the leader to notice", Duration::from_secs(20), async || {
        let view = nodes.view(leader).await;
        let member =
            view["members"].as_array().expect("members").iter().find(|member| member["id"] == ids[*down]);
        let health = member.map(|member| member["health"].clone()).unwrap_or_default();
        if health == "unreachable" { Seen::Ready(()) } else { Seen::NotYet(health.to_string()) }
    });
    noticed.await.unwrap_or_else(|error| panic!("{error:#}"));
    let before = nodes.membership(leader).await;
    nodes.send(leader, remove(&ids[*up], &before)).await.refused(409, "would-lose-quorum");
    let transfer = |to: &str| ask("POST", "/v1/cluster/transfer-leader").json(&json!({ "to": to }));
    nodes.send(leader, transfer(&ids[*down])).await.refused(409, "not-caught-up");
    nodes.send(leader, transfer(nobody)).await.refused(404, "member-not-found");
    assert_eq!(nodes.membership(leader).await, before);
    // The one that is down may go: the two that are left are enough.
    nodes.send(*up, remove(&ids[*down], &before)).await.expect(200);
    let view = nodes.view(leader).await;
    assert_eq!(view["removed"], json!(sorted(&[nobody, ids[*down].as_str()])), "{view}");
    assert_eq!(view["members"].as_array().map(Vec::len), Some(2), "{view}");
}

fn sorted(ids: &[&str]) -> Vec<String> {
    let mut ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
    ids.sort_unstable();
    ids
}
