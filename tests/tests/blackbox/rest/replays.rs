//! `Idempotency-Key`: a replay answers what the first request was answered, whatever happened since.

use serde_json::json;

use super::fixture::Fixture;
use super::wire::{Ask, Reply, ask};

const CONFIG: &str = "/v1/namespaces/default/config";

fn keyed(request: Ask, key: &str) -> Ask {
    request.header("Idempotency-Key", key)
}

/// What a replay must repeat.
fn answer(reply: &Reply) -> (u16, Option<&str>, Vec<u8>) {
    (reply.status, reply.header("ETag"), reply.body.clone())
}

#[tokio::test]
async fn a_replayed_config_write_answers_as_the_first_and_changes_nothing() {
    let fixture = Fixture::shared().await;
    let [follower, leader] = fixture.both().await;
    for (door, other_door) in [(&follower, &leader), (&leader, &follower)] {
        let key = format!("{CONFIG}/replayed-{}", door.via);
        let (create, delete) = (format!("create-{}", door.via), format!("delete-{}", door.via));
        let put = || keyed(ask("PUT", &key).body("one"), &create);
        let first = door.send(put()).await.expect(201);
        assert_eq!(answer(&other_door.send(put()).await), answer(&first));
        let changed = door.send(ask("PUT", &key).body("two")).await.expect(200).etag();
        assert_eq!(answer(&other_door.send(put()).await), answer(&first));
        assert_eq!(door.send(ask("GET", &key)).await.text(), "two");

        let remove = || keyed(ask("DELETE", &key), &delete);
        let deleted = door.send(remove()).await.expect(204);
        let reborn = door.send(ask("PUT", &key).body("three")).await.expect(201).etag();
        assert_eq!(answer(&other_door.send(remove()).await), answer(&deleted));
        assert_eq!(answer(&door.send(put()).await), answer(&first));
        let read = door.send(ask("GET", &key)).await;
        assert_eq!((read.text().as_str(), read.etag()), ("three", reborn));
        assert!(first.etag() < changed && changed < reborn);

        for other in [
            ask("PUT", &key).body("another value"),
            ask("PUT", &key).body("one").header("If-None-Match", "*"),
            ask("PUT", &key).body("one").header("Content-Type", "text/plain"),
            ask("PUT", &key).body("one").header("Holdfast-Guard", "lock=a; token=1"),
        ] {
            door.send(keyed(other, &create)).await.refused(422, "idempotency-key-reused");
        }
        door.send(keyed(ask("DELETE", &key).header("If-Match", "*"), &delete))
            .await
            .refused(422, "idempotency-key-reused");
        assert_eq!(door.send(ask("GET", &key)).await.etag(), reborn);
        // The same key elsewhere is another key.
        let elsewhere = format!("{CONFIG}/replayed-elsewhere-{}", door.via);
        door.send(keyed(ask("PUT", elsewhere).body("one"), &create)).await.expect(201);
    }
}

#[tokio::test]
async fn a_refusal_is_replayed_too() {
    let fixture = Fixture::shared().await;
    for door in fixture.both().await {
        let key = format!("{CONFIG}/refused-{}", door.via);
        let id = format!("refused-{}", door.via);
        let put = || keyed(ask("PUT", &key).header("If-Match", "*").body("x"), &id);
        door.send(put()).await.refused(412, "revision-mismatch");
        door.send(ask("PUT", &key).body("there now")).await.expect(201);
        door.send(put()).await.refused(412, "revision-mismatch");
        assert_eq!(door.send(ask("GET", &key)).await.text(), "there now");
    }
}

#[tokio::test]
async fn namespaces_and_forced_releases_are_replayed() {
    let fixture = Fixture::shared().await;
    let [follower, leader] = fixture.both().await;
    for (door, other_door) in [(&follower, &leader), (&leader, &follower)] {
        let namespace = format!("/v1/namespaces/replayed-{}", door.via);
        let (create, delete) = (format!("ns-create-{}", door.via), format!("ns-delete-{}", door.via));
        let created = door.send(keyed(ask("PUT", &namespace), &create)).await.expect(201);
        assert_eq!(answer(&other_door.send(keyed(ask("PUT", &namespace), &create)).await), answer(&created));
        door.send(keyed(ask("DELETE", &namespace), &delete)).await.expect(204);
        other_door.send(keyed(ask("DELETE", &namespace), &delete)).await.expect(204);
        assert_eq!(answer(&door.send(keyed(ask("PUT", &namespace), &create)).await), answer(&created));
        door.send(ask("GET", &namespace)).await.refused(404, "namespace-not-found");

        let lock = format!("/v1/namespaces/default/locks/replayed-{}", door.via);
        let own = json!({ "ttl_ms": 600_000 });
        let held = door.send(ask("PUT", format!("{lock}/claims/a")).json(&own)).await.expect(201).value();
        let force = |reason: &str| {
            let body = json!({ "fencing_token": held["fencing_token"], "reason": reason });
            keyed(ask("POST", format!("{lock}/force-release")).json(&body), "forced")
        };
        let forced = door.send(force("a test")).await.expect(200);
        let next = door.send(ask("PUT", format!("{lock}/claims/b")).json(&own)).await.expect(201);
        assert_eq!(answer(&other_door.send(force("a test")).await), answer(&forced));
        door.send(force("another reason")).await.refused(422, "idempotency-key-reused");
        let still = door.send(ask("GET", format!("{lock}/claims/b"))).await.value();
        assert_eq!(still["fencing_token"], next.value()["fencing_token"]);
        door.send(ask("DELETE", format!("{lock}/claims/b"))).await.expect(204);
    }
}

#[tokio::test]
async fn concurrent_requests_with_one_key_have_one_effect() {
    let fixture = Fixture::shared().await;
    let doors = fixture.doors().await;
    for round in 0..10 {
        let request = keyed(ask("PUT", format!("{CONFIG}/once")).body("x"), &format!("once-{round}"));
        let sends = |index: usize| doors[index].send(request.clone());
        let (a, b, c, d) = tokio::join!(sends(0), sends(1), sends(2), sends(1));
        let answers: Vec<_> =
            [&a, &b, &c, &d].into_iter().map(|reply| (reply.status, reply.etag())).collect();
        assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
        let listed = doors[0].send(ask("GET", "/v1/namespaces/default/config?prefix=once")).await.value();
        assert_eq!(listed["items"][0]["version"], round + 1);
    }
}
