//! Calls on the past of config items, transactions and elections: what goes out and what comes back.

use serde_json::json;

use crate::{
    claims::{ClaimRequest, ClaimView},
    client::{
        ClientError, IdempotencyKey, InvalidRequest, TxnOptions, WriteCondition, WriteOptions,
        tests::{
            client, held, json,
            scripted::{Response, Server, Step},
            soon,
        },
    },
    config::{
        ConfigDiff, ConfigHistory, ConfigWrite, ETag, RollbackRequest, TxnAnswer, TxnKey, TxnOp, TxnRequest,
        WriteGuard,
    },
    elections::ElectionView,
    query::{DiffQuery, HistoryQuery, ReadQuery},
};

#[tokio::test]
async fn history_and_diff_are_asked_for_at_the_key() {
    let history =
        ConfigHistory { key: "a/b c".to_owned(), versions: Vec::new(), revision: 9, next_cursor: None };
    let diff = ConfigDiff {
        key: "a/b c".to_owned(),
        from: 3,
        to: 9,
        equal: true,
        unified: Some(String::new()),
        from_sha256: None,
        to_sha256: None,
    };
    let server = Server::start([Step::Answer(json(200, &history)), Step::Answer(json(200, &diff))]).await;
    let client = client(&[&server]);
    let query = HistoryQuery { limit: Some(2), ..HistoryQuery::default() };
    assert_eq!(client.config_history("default", "a/b c", &query).await.unwrap().value, history);
    let query = DiffQuery { from: 3, to: None, consistency: None, min_revision: None };
    assert_eq!(client.diff_config("default", "a/b c", &query).await.unwrap().value, diff);
    assert_eq!(
        server.lines(),
        [
            "GET /v1/namespaces/default/history/a/b%20c?limit=2",
            "GET /v1/namespaces/default/diff/a/b%20c?from=3"
        ]
    );
}

#[tokio::test]
async fn a_rollback_is_a_guarded_write_that_replays() {
    let write = ConfigWrite { key: "a".to_owned(), create_revision: 1, mod_revision: 9, version: 3 };
    let server = Server::start([Step::Close, Step::Answer(json(200, &write))]).await;
    let options = WriteOptions {
        condition: WriteCondition::Revision(ETag(8)),
        guard: Some(WriteGuard::election("leader", 7)),
        managed_by: Some("git".to_owned()),
        ..WriteOptions::default()
    };
    let client = client(&[&server]);
    let request = RollbackRequest { to_revision: 3 };
    let answer = client.rollback_config("default", "a", &request, &options).await.unwrap();
    assert_eq!(answer.value, write);
    let seen = server.seen();
    assert_eq!(seen[0].content(), seen[1].content());
    assert_eq!(seen[1].line(), "POST /v1/namespaces/default/rollback/a");
    assert_eq!(seen[1].json(), json!({"to_revision": 3}));
    let header = |name: &str| seen[1].headers[name].as_str();
    assert_eq!(header("if-match"), "\"8\"");
    assert_eq!(header("holdfast-guard"), "election=leader; token=7");
    assert_eq!(header("holdfast-managed-by"), "git");
    assert_eq!(header("idempotency-key").len(), 32);
}

#[tokio::test]
async fn a_transaction_replays_under_the_callers_key() {
    let answer = TxnAnswer { succeeded: false, revision: 9, results: Vec::new() };
    let server = Server::start([Step::Close, Step::Answer(json(200, &answer))]).await;
    let request =
        TxnRequest { success: vec![TxnOp::Delete(TxnKey { key: "a".to_owned() })], ..TxnRequest::default() };
    let options = TxnOptions {
        guard: Some(WriteGuard::lock("jobs", 7)),
        idempotency_key: IdempotencyKey::Given("mine".to_owned()),
    };
    let value = client(&[&server]).txn("default", &request, &options).await.unwrap().value;
    assert_eq!(value, answer);
    let seen = server.seen();
    assert_eq!(seen[0].content(), seen[1].content());
    assert_eq!(seen[1].line(), "POST /v1/namespaces/default/txn");
    assert_eq!(seen[1].json(), json!({"success": [{"delete": {"key": "a"}}]}));
    assert_eq!(seen[1].headers["idempotency-key"], "mine");
    assert_eq!(seen[1].headers["holdfast-guard"], "lock=jobs; token=7");
}

#[tokio::test]
async fn only_a_put_gives_an_item_to_a_session() {
    let written = Response::new(201).header("ETag", "\"9\"");
    let server = Server::start([Step::Answer(written)]).await;
    let client = client(&[&server]);
    let options = WriteOptions { session: Some("s:1".to_owned()), ..WriteOptions::default() };
    client.put_config("default", "a", "v", "text/plain", &options).await.unwrap();
    let refused = |error: ClientError| {
        let session = matches!(error, ClientError::InvalidRequest(InvalidRequest::Session));
        assert!(session, "{error}");
    };
    refused(client.delete_config("default", "a", &options).await.unwrap_err());
    let request = RollbackRequest { to_revision: 3 };
    refused(client.rollback_config("default", "a", &request, &options).await.unwrap_err());
    assert_eq!(server.lines(), ["PUT /v1/namespaces/default/config/a?session=s:1"]);
}

#[tokio::test]
async fn candidates_are_claims_at_another_place() {
    let claim = held("me", "s-1");
    let view = ElectionView {
        namespace: "default".to_owned(),
        name: "a/b".to_owned(),
        leader: None,
        published: None,
        queue: Vec::new(),
        last_token: 0,
        delay_remaining_ms: None,
    };
    let server = Server::start([
        Step::Answer(json(201, &claim)),
        Step::Answer(json(201, &claim)),
        Step::Answer(json(200, &claim)),
        Step::Answer(json(200, &view)),
        Step::Answer(Response::new(204)),
    ])
    .await;
    let client = client(&[&server]);
    let (request, query) = (ClaimRequest::default(), ReadQuery::default());
    assert_eq!(client.put_candidate("default", "a/b", "me", &request).await.unwrap().value, claim);
    assert_eq!(client.post_candidate("default", "a/b", &request).await.unwrap().value, claim);
    assert!(matches!(
        client.get_candidate("default", "a/b", "me", &query).await.unwrap().value,
        ClaimView::Held(_)
    ));
    assert_eq!(client.get_election("default", "a/b", &query).await.unwrap().value, view);
    client.delete_candidate("default", "a/b", "me").await.unwrap();
    let place = "/v1/namespaces/default/elections/a%2Fb";
    assert_eq!(
        server.lines(),
        [
            format!("PUT {place}/candidates/me"),
            format!("POST {place}/candidates"),
            format!("GET {place}/candidates/me"),
            format!("GET {place}"),
            format!("DELETE {place}/candidates/me"),
        ]
    );
}

#[tokio::test]
async fn a_leader_holds_its_election_as_a_lock_is_held() {
    let server =
        Server::start([Step::Answer(json(201, &held("me", "c-42"))), Step::Answer(Response::new(204))]).await;
    let guard = soon(client(&[&server]).campaign("default", "a").claim("me").acquire()).await.unwrap();
    assert!(guard.is_held());
    soon(guard.release()).await.unwrap();
    let place = "/v1/namespaces/default/elections/a/candidates/me";
    assert_eq!(server.lines(), [format!("PUT {place}"), format!("DELETE {place}")]);
}
