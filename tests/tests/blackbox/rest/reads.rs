//! How fresh a read is: confirmed, at a revision, at least at a revision, or as it is.

use super::fixture::Fixture;
use super::wire::ask;

const CONFIG: &str = "/v1/namespaces/default/config";

#[tokio::test]
async fn every_version_of_a_key_is_read_at_its_revision() {
    let fixture = Fixture::shared().await;
    for door in fixture.both().await {
        let key = format!("{CONFIG}/versions-{}", door.via);
        let before = door.revision().await;
        let mut versions = Vec::new();
        for value in ["one", "two", "three"] {
            let written = door.send(ask("PUT", &key).body(value)).await;
            versions.push((written.etag(), value));
        }
        let deleted = door.send(ask("DELETE", &key)).await.expect(204).revision();
        let reborn = door.send(ask("PUT", &key).body("four")).await.expect(201).etag();
        let at = |revision: u64| ask("GET", format!("{key}?at_revision={revision}"));
        for (revision, value) in &versions {
            let read = door.send(at(*revision)).await.expect(200);
            assert_eq!((read.text().as_str(), read.etag()), (*value, *revision));
            assert!(reborn <= read.revision(), "the header tells the store's revision");
        }
        let between = door.send(at(deleted - 1)).await.expect(200);
        assert_eq!(between.text(), "three");
        for absent in [0, before, versions[0].0 - 1, deleted] {
            door.send(at(absent)).await.refused(404, "key-not-found");
        }
        assert_eq!(door.send(at(reborn)).await.expect(200).text(), "four");
    }
}

#[tokio::test]
async fn a_revision_that_does_not_exist_yet_cannot_be_read() {
    let fixture = Fixture::alone().await;
    for door in fixture.both().await {
        let key = format!("{CONFIG}/future-{}", door.via);
        let revision = door.send(ask("PUT", &key).body("x")).await.revision();
        for future in [revision + 1, 1 << 53, u64::MAX] {
            for query in ["", "&consistency=stale"] {
                let read = ask("GET", format!("{key}?at_revision={future}{query}"));
                door.send(read).await.refused(400, "future-revision");
            }
        }
        door.send(ask("GET", format!("{key}?at_revision={revision}"))).await.expect(200);
    }
}

#[tokio::test]
async fn every_node_reads_what_was_written_once_it_is_told_the_revision() {
    let fixture = Fixture::shared().await;
    let doors = fixture.doors().await;
    let key = format!("{CONFIG}/read-your-writes");
    for round in 0..20 {
        for writer in &doors {
            let value = format!("{round} by a {}", writer.via);
            let written = writer.send(ask("PUT", &key).body(value.as_str())).await.revision();
            for reader in &doors {
                let local =
                    reader.send(ask("GET", format!("{key}?min_revision={written}"))).await.expect(200);
                assert_eq!(local.text(), value);
                assert!(written <= local.revision());
                assert_eq!(local.header("Served-By"), Some(reader.node_id()), "min_revision reads locally");
                let confirmed = reader.send(ask("GET", &key)).await.expect(200);
                assert_eq!(confirmed.text(), value);
                assert_eq!(confirmed.header("Served-By"), Some(doors[0].node_id()), "the leader confirms");
                let both = format!("{key}?min_revision={written}&consistency=stale");
                assert_eq!(reader.send(ask("GET", both)).await.expect(200).text(), value);
                let stale = reader.send(ask("GET", format!("{key}?consistency=stale"))).await.expect(200);
                assert_eq!(stale.text(), value, "it had applied that before");
                assert_eq!(stale.header("Served-By"), Some(reader.node_id()));
            }
        }
    }
}

#[tokio::test]
async fn a_revision_that_is_not_reached_is_certainly_not_answered() {
    let fixture = Fixture::shared().await;
    let doors = fixture.doors().await;
    let far = (1_u64 << 53) - 1;
    for path in ["config/never", "config", "locks", "locks/never", "locks/never/claims/never"] {
        let target = format!("/v1/namespaces/default/{path}?min_revision={far}");
        let began = std::time::Instant::now();
        let answers = tokio::join!(doors[0].send(ask("GET", &target)), doors[1].send(ask("GET", &target)));
        for answer in [answers.0, answers.1] {
            let problem = answer.refused(503, "revision-not-reached");
            assert_eq!(problem["retryable"], true, "{problem}");
            assert!(answer.header("Retry-After").is_some(), "{}", answer.shown());
        }
        let waited = began.elapsed().as_secs_f64();
        assert!((4.5..15.0).contains(&waited), "waited {waited} s, 5 are documented");
    }
}
