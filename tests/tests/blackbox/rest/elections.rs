//! Elections: exclusive locks in a name space of their own.

use serde_json::{Value, json};

use super::fixture::{Door, Fixture};
use super::wire::ask;

const NAMESPACE: &str = "/v1/namespaces/default";

fn election(name: &str, door: &Door) -> String {
    format!("{NAMESPACE}/elections/{name}%2F{}", door.via)
}

#[tokio::test]
async fn candidates_lead_one_after_the_other() {
    let fixture = Fixture::shared().await;
    let [follower, leader] = fixture.both().await;
    for (door, other_door) in [(&follower, &leader), (&leader, &follower)] {
        let election = election("campaign", door);
        let name = format!("campaign/{}", door.via);
        let free =
            json!({ "namespace": "default", "name": name, "leader": null, "queue": [], "last_token": 0 });
        assert_eq!(door.send(ask("GET", &election)).await.expect(200).value(), free);

        let session = format!("candidates-{}", door.via);
        door.session(&session).await;
        let candidate = |id: &str| format!("{election}/candidates/{id}");
        let body = json!({ "session": session, "label": "a label" });
        let led = door.send(ask("PUT", candidate("a")).json(&body)).await.expect(201).value();
        assert_eq!((&led["state"], &led["claim"]), (&json!("held"), &json!("a")));
        let replayed = other_door.send(ask("PUT", candidate("a")).json(&body)).await.expect(200).value();
        assert_eq!(replayed["fencing_token"], led["fencing_token"]);
        let busy = door.send(ask("PUT", candidate("b")).json(&body)).await.refused(409, "lock-held");
        assert_eq!(busy["holders"][0]["claim"], "a");
        let waits = json!({ "ttl_ms": 600_000, "keep_waiting": true });
        let queued = door.send(ask("PUT", candidate("b")).json(&waits)).await.expect(202).value();
        assert_eq!((&queued["state"], &queued["position"]), (&json!("queued"), &json!(1)));

        let view = other_door.send(ask("GET", &election)).await.expect(200).value();
        assert_eq!((&view["name"], &view["last_token"]), (&json!(name), &led["fencing_token"]));
        let shown = &view["leader"];
        assert_eq!(
            (&shown["claim"], &shown["session"], &shown["label"]),
            (&json!("a"), &json!(session), &json!("a label"))
        );
        assert_eq!(shown["fencing_token"], led["fencing_token"]);
        assert_eq!((&view["queue"][0]["claim"], &view["queue"][0]["position"]), (&json!("b"), &json!(1)));

        door.send(ask("DELETE", candidate("a"))).await.expect(204);
        let next = other_door.send(ask("GET", candidate("b"))).await.expect(200).value();
        assert_eq!(next["state"], "held");
        assert!(led["fencing_token"].as_u64() < next["fencing_token"].as_u64(), "{next}");
        let over = door.send(ask("GET", candidate("a"))).await.expect(200).value();
        assert_eq!((&over["state"], &over["reason"]), (&json!("released"), &json!("released")));
        door.send(ask("PUT", candidate("a")).json(&body)).await.refused(410, "claim-ended");
        door.send(ask("GET", candidate("never"))).await.refused(404, "claim-not-found");
        let short = json!({ "session": session, "wait_ms": 50 });
        door.send(ask("PUT", candidate("c")).json(&short)).await.refused(408, "wait-timeout");
        door.send(ask("DELETE", candidate("b"))).await.expect(204);
        door.send(ask("DELETE", format!("/v1/sessions/{session}"))).await.expect(204);
        assert_eq!(door.send(ask("GET", &election)).await.expect(200).value()["leader"], Value::Null);
    }
}

#[tokio::test]
async fn a_candidate_whose_id_the_server_chooses_is_told_where_it_is() {
    let fixture = Fixture::shared().await;
    let [follower, leader] = fixture.both().await;
    for (door, other_door) in [(&follower, &leader), (&leader, &follower)] {
        let candidates = format!("{}/candidates", election("chosen", door));
        let request = |ttl_ms: u64| {
            let request = ask("POST", &candidates).json(&json!({ "ttl_ms": ttl_ms }));
            request.header("Idempotency-Key", format!("candidate-{}", door.via))
        };
        let created = door.send(request(600_000)).await.expect(201);
        let location = created.header("Location").expect("a location").to_owned();
        assert!(location.starts_with(&format!("{candidates}/")), "{location}");
        let found = other_door.send(ask("GET", &location)).await.expect(200).value();
        assert_eq!((&found["state"], &found["claim"]), (&json!("held"), &created.value()["claim"]));
        assert_eq!(other_door.send(request(600_000)).await.header("Location"), Some(location.as_str()));
        door.send(request(500_000)).await.refused(422, "idempotency-key-reused");
        door.send(ask("DELETE", location)).await.expect(204);
    }
}

#[tokio::test]
async fn an_election_and_a_lock_of_one_name_are_two_things_and_look_alike_nowhere() {
    let fixture = Fixture::shared().await;
    for door in fixture.both().await {
        let name = format!("twins/{}", door.via);
        let session = format!("twins-{}", door.via);
        door.session(&session).await;
        let body = json!({ "session": session });
        let lock = format!("{NAMESPACE}/locks/twins%2F{}", door.via);
        let led = ask("PUT", format!("{}/candidates/a", election("twins", &door))).json(&body);
        let led = door.send(led).await.expect(201).value();
        let unused = door.send(ask("GET", &lock)).await.expect(200).value();
        assert_eq!((&unused["holders"], &unused["last_token"]), (&json!([]), &json!(0)));
        let held = door.send(ask("PUT", format!("{lock}/claims/a")).json(&body)).await.expect(201).value();
        assert_ne!(held["fencing_token"], led["fencing_token"]);

        let claims = json!([
            { "namespace": "default", "election": name, "claim": "a", "state": "held", "fencing_token": led["fencing_token"] },
            { "namespace": "default", "lock": name, "claim": "a", "state": "held", "fencing_token": held["fencing_token"] },
        ]);
        let seen = door.send(ask("GET", format!("/v1/sessions/{session}"))).await.expect(200).value();
        assert_eq!(seen["claims"], claims);
        let kept =
            door.send(ask("POST", format!("/v1/sessions/{session}/keepalive"))).await.expect(200).value();
        assert_eq!(kept["claims"], claims);
        let listed =
            door.send(ask("GET", format!("/v1/sessions?prefix={session}"))).await.expect(200).value();
        assert_eq!(listed["items"][0]["claims"], claims);

        for prefix in ["", "twins", "!", "!twins", "%21t"] {
            let locks = door.send(ask("GET", format!("{NAMESPACE}/locks?prefix={prefix}"))).await.expect(200);
            let locks = locks.value();
            let items = locks["items"].as_array().expect("items");
            assert!(
                items.iter().all(|lock| !lock["name"].as_str().expect("a name").contains('!')),
                "{locks}"
            );
            let twins = items.iter().filter(|lock| lock["name"] == name).count();
            assert_eq!(twins, usize::from(!prefix.starts_with(['!', '%'])), "{prefix}: {locks}");
        }
        for place in
            ["locks/!twins", "elections/!twins", "locks/%21twins/claims/a", "elections/%21twins/candidates/a"]
        {
            door.send(ask("GET", format!("{NAMESPACE}/{place}"))).await.refused(400, "invalid-name");
        }
        door.send(ask("GET", "/v1/namespaces/nowhere/elections/a")).await.refused(404, "namespace-not-found");
        door.send(ask("DELETE", format!("/v1/sessions/{session}"))).await.expect(204);
    }
}

#[tokio::test]
async fn a_write_is_guarded_by_the_leadership_of_an_election() {
    let fixture = Fixture::shared().await;
    for door in fixture.both().await {
        let candidate = format!("{}/candidates/a", election("guards", &door));
        let key = format!("{NAMESPACE}/config/guarded-by-election/{}", door.via);
        let led = ask("PUT", &candidate).json(&json!({ "ttl_ms": 600_000 }));
        let token = door.send(led).await.expect(201).value()["fencing_token"].as_u64().expect("a token");
        let guarded = |method: &str, kind: &str, token: u64| {
            let guard = format!("{kind}=guards/{}; token={token}", door.via);
            ask(method, &key).header("Holdfast-Guard", guard).body("x")
        };
        door.send(guarded("PUT", "election", token)).await.expect(201);
        door.send(guarded("PUT", "lock", token)).await.refused(412, "stale-token");
        let stale = door.send(guarded("PUT", "election", token + 1)).await.refused(412, "stale-token");
        assert_eq!(stale["fencing_token"], token);
        door.send(guarded("PUT", "leader", token)).await.refused(400, "invalid-header");
        door.send(ask("DELETE", &candidate)).await.expect(204);
        door.send(guarded("DELETE", "election", token)).await.refused(412, "stale-token");
        door.send(ask("DELETE", &key)).await.expect(204);
    }
}

#[tokio::test]
async fn only_who_leads_publishes_a_value_and_it_goes_with_the_leader() {
    let fixture = Fixture::shared().await;
    let [follower, leader] = fixture.both().await;
    for (door, other_door) in [(&follower, &leader), (&leader, &follower)] {
        let election = election("value", door);
        let name = format!("value/{}", door.via);
        let own = json!({ "ttl_ms": 600_000 });
        let led =
            door.send(ask("PUT", format!("{election}/candidates/a")).json(&own)).await.expect(201).value();
        let token = led["fencing_token"].as_u64().expect("a token");
        let value = format!("{election}/value");
        let publish = |token: u64, value_bytes: &[u8]| {
            let guard = format!("election={name}; token={token}");
            ask("PUT", &value).header("Holdfast-Guard", guard).body(value_bytes)
        };
        let view = other_door.send(ask("GET", &election)).await.expect(200).value();
        assert_eq!(view.get("published"), None);
        let written = door.send(publish(token, b"10.0.0.7:80").header("Content-Type", "text/plain")).await;
        let revision = written.expect(204).revision();
        let view = other_door.send(ask("GET", &election)).await.expect(200).value();
        let published = json!({ "value": "10.0.0.7:80", "content_type": "text/plain", "revision": revision });
        assert_eq!(view["published"], published);
        door.send(publish(token, &[0xff, 0])).await.expect(204);
        let view = other_door.send(ask("GET", &election)).await.expect(200).value();
        assert_eq!(view["published"]["value_base64"], "/wA=");

        door.send(publish(token - 1, b"x")).await.refused(412, "stale-token");
        door.send(ask("PUT", &value).body("x")).await.refused(412, "stale-token");
        let lock =
            ask("PUT", &value).header("Holdfast-Guard", format!("lock={name}; token={token}")).body("x");
        door.send(lock).await.refused(400, "invalid-header");
        door.send(publish(token, &[b'x'; 4_097])).await.refused(413, "too-large");
        let shown = other_door.send(ask("GET", &election)).await.expect(200).value();
        assert_eq!(shown["published"], view["published"]);

        let waits = json!({ "ttl_ms": 600_000, "keep_waiting": true });
        door.send(ask("PUT", format!("{election}/candidates/b")).json(&waits)).await.expect(202);
        door.send(ask("DELETE", format!("{election}/candidates/a"))).await.expect(204);
        let next = other_door.send(ask("GET", &election)).await.expect(200).value();
        assert_eq!((&next["leader"]["claim"], next.get("published")), (&json!("b"), None));
        door.send(publish(token, b"late")).await.refused(412, "stale-token");
        door.send(ask("DELETE", format!("{election}/candidates/b"))).await.expect(204);
    }
}
