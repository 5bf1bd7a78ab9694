//! Fail-over and replay.

use std::time::Duration;

use crate::{
    Applied, ErrorCode, Problem,
    claims::ClaimRequest,
    client::{
        Answer, Client, ClientError, ConfigWritten, IdempotencyKey, WriteCondition, WriteOptions,
        tests::{
            client, held, json, problem, refusing,
            scripted::{Response, Server, Step},
        },
    },
    config::{ETag, WriteGuard},
    namespaces::NamespaceView,
    query::ReadQuery,
};

const SHORT: Duration = Duration::from_millis(60);

fn written() -> Response {
    Response::new(201).header("ETag", "\"9\"").header("Revision", "9").header("Served-By", "n1")
}

fn namespace() -> Response {
    json(200, &NamespaceView { name: "default".to_owned(), create_revision: 1 })
}

fn no_leader(retry_after_ms: u64) -> Response {
    problem(Problem::new(ErrorCode::NoLeader, "electing").with_retry_after_ms(retry_after_ms))
}

fn unknown(replayable: bool) -> Response {
    problem(Problem::new(ErrorCode::OutcomeUnknown, "the leader went away").with_replayable(replayable))
}

fn options(idempotency_key: IdempotencyKey) -> WriteOptions {
    WriteOptions { idempotency_key, ..WriteOptions::default() }
}

async fn put(client: &Client, key: IdempotencyKey) -> Result<Answer<ConfigWritten>, ClientError> {
    client.put_config("default", "app/a", "value", "text/plain", &options(key)).await
}

#[tokio::test]
async fn an_endpoint_that_refuses_the_connection_is_passed_over() {
    let server = Server::start([Step::Answer(namespace())]).await;
    let (_socket, refusing) = refusing();
    let client = Client::new([refusing, server.address()]).unwrap();
    let answer = client.get_namespace("default", &ReadQuery::default()).await.unwrap();
    assert_eq!(answer.value.name, "default");
    assert_eq!(server.lines(), ["GET /v1/namespaces/default"]);
}

#[tokio::test]
async fn calls_stay_with_the_endpoint_that_answered_last() {
    let leaving = problem(Problem::new(ErrorCode::ShuttingDown, "going").with_retry_after_ms(60_000));
    let first = Server::start([Step::Answer(leaving)]).await;
    let second = Server::start([Step::Answer(namespace()), Step::Answer(namespace())]).await;
    let client = client(&[&first, &second]);
    for _ in 0..2 {
        client.get_namespace("default", &ReadQuery::default()).await.unwrap();
    }
    assert_eq!((first.seen().len(), second.seen().len()), (1, 2));
    assert_eq!(second.seen()[0].connection, second.seen()[1].connection, "the connection is reused");
}

#[tokio::test]
async fn a_call_ends_as_unreachable_when_no_endpoint_listens() {
    let (_socket, refusing) = refusing();
    let client = Client::builder([refusing]).deadline(SHORT).build().unwrap();
    let error = put(&client, IdempotencyKey::Random).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { attempts: 1.., .. }), "{error}");
    assert_eq!((error.applied(), error.is_retryable()), (Applied::No, true));
}

#[tokio::test]
async fn a_503_is_tried_again_with_the_same_key_and_each_call_has_its_own() {
    let server =
        Server::start([Step::Answer(no_leader(1)), Step::Answer(written()), Step::Answer(written())]).await;
    let client = client(&[&server]);
    let answer = put(&client, IdempotencyKey::Random).await.unwrap();
    assert_eq!(answer.value, ConfigWritten { mod_revision: 9, created: true });
    assert_eq!((answer.revision, answer.served_by.as_deref(), answer.status), (Some(9), Some("n1"), 201));
    put(&client, IdempotencyKey::Random).await.unwrap();
    let seen = server.seen();
    assert_eq!(seen[0].content(), seen[1].content());
    assert_eq!(seen[0].headers["idempotency-key"].len(), 32);
    assert_ne!(seen[1].headers["idempotency-key"], seen[2].headers["idempotency-key"]);
}

#[tokio::test]
async fn a_503_until_the_deadline_is_a_refusal_that_changed_nothing() {
    let server = Server::start([Step::Answer(no_leader(60_000))]).await;
    let error = put(&client(&[&server]), IdempotencyKey::Without).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::NoLeader));
    assert_eq!((error.applied(), error.is_retryable()), (Applied::No, true));
    assert_eq!(server.seen().len(), 1, "the deadline comes before the time that the service asked for");
}

#[tokio::test]
async fn retry_after_counts_in_seconds_when_the_problem_does_not_say_it_closer() {
    let response = problem(Problem::new(ErrorCode::Overloaded, "busy")).header("Retry-After", "60");
    let server = Server::start([Step::Answer(response)]).await;
    let error = put(&client(&[&server]), IdempotencyKey::Random).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::Overloaded));
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_with_the_identical_request() {
    let first = Server::start([Step::Close]).await;
    let second = Server::start([Step::Answer(written())]).await;
    put(&client(&[&first, &second]), IdempotencyKey::Random).await.unwrap();
    assert_eq!(first.seen()[0].content(), second.seen()[0].content());
    assert_eq!(first.seen().len(), 1);
}

#[tokio::test]
async fn an_endpoint_that_hangs_is_left_for_another_one() {
    let first = Server::start([Step::Hang]).await;
    let second = Server::start([Step::Answer(written())]).await;
    let client = client(&[&first, &second]).with_attempt_timeout(SHORT);
    put(&client, IdempotencyKey::Given("mine".to_owned())).await.unwrap();
    assert_eq!(first.seen()[0].content(), second.seen()[0].content());
    assert_eq!(second.seen()[0].headers["idempotency-key"], "mine");
}

#[tokio::test]
async fn a_504_is_asked_again_when_the_request_replays() {
    let server = Server::start([Step::Answer(unknown(true)), Step::Answer(written())]).await;
    put(&client(&[&server]), IdempotencyKey::Random).await.unwrap();
    assert_eq!(server.seen()[0].content(), server.seen()[1].content());
}

#[tokio::test]
async fn a_504_that_the_service_calls_not_replayable_ends_the_call() {
    let server = Server::start([Step::Answer(unknown(false))]).await;
    let error = put(&client(&[&server]), IdempotencyKey::Random).await.unwrap_err();
    assert!(matches!(error, ClientError::OutcomeUnknown { attempts: 1, .. }), "{error}");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_write_without_a_key_is_never_repeated_after_a_lost_answer() {
    for step in [Step::Close, Step::Answer(unknown(true)), Step::Answer(Response::new(502))] {
        let first = Server::start([step]).await;
        let second = Server::start([Step::Answer(written())]).await;
        let error = put(&client(&[&first, &second]), IdempotencyKey::Without).await.unwrap_err();
        assert!(matches!(error, ClientError::OutcomeUnknown { attempts: 1, .. }), "{error}");
        assert_eq!((error.applied(), error.is_retryable()), (Applied::Unknown, false));
        assert_eq!((first.seen().len(), second.seen().len()), (1, 0));
        assert!(!first.seen()[0].headers.contains_key("idempotency-key"));
    }
}

#[tokio::test]
async fn a_write_without_a_key_is_tried_again_after_a_503() {
    let server = Server::start([Step::Answer(no_leader(1)), Step::Answer(written())]).await;
    put(&client(&[&server]), IdempotencyKey::Without).await.unwrap();
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_503_of_a_proxy_proves_nothing() {
    let proxy = Response::new(503).body("upstream reset");
    let server = Server::start([Step::Answer(proxy), Step::Answer(written())]).await;
    let error = put(&client(&[&server]), IdempotencyKey::Without).await.unwrap_err();
    assert!(matches!(error, ClientError::OutcomeUnknown { attempts: 1, .. }), "{error}");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_503_after_a_lost_answer_leaves_the_outcome_unknown() {
    let server = Server::start([Step::Close, Step::Answer(no_leader(60_000))]).await;
    let error = put(&client(&[&server]), IdempotencyKey::Random).await.unwrap_err();
    assert!(matches!(error, ClientError::OutcomeUnknown { attempts: 2, .. }), "{error}");
}

#[tokio::test]
async fn a_lost_read_is_no_unknown_outcome() {
    let server = Server::start([Step::Hang]).await;
    let client = client(&[&server]).with_deadline(SHORT);
    let error = client.get_namespace("default", &ReadQuery::default()).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_key_that_is_still_in_flight_is_waited_for() {
    let in_flight = problem(Problem::new(ErrorCode::IdempotencyInFlight, "wait").with_retry_after_ms(1));
    let server = Server::start([Step::Close, Step::Answer(in_flight), Step::Answer(written())]).await;
    put(&client(&[&server]), IdempotencyKey::Random).await.unwrap();
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn a_keyed_refusal_after_a_lost_answer_is_the_first_answer() {
    let mismatch = problem(Problem::new(ErrorCode::RevisionMismatch, "other").with_revision(3));
    let server = Server::start([Step::Close, Step::Answer(mismatch)]).await;
    let error = put(&client(&[&server]), IdempotencyKey::Random).await.unwrap_err();
    assert_eq!((error.code(), error.applied()), (Some(ErrorCode::RevisionMismatch), Applied::No));
}

#[tokio::test]
async fn a_refused_claim_after_a_lost_answer_says_that_the_first_attempt_is_open() {
    let lock_held = Problem::new(ErrorCode::LockHeld, "held");
    let server = Server::start([Step::Close, Step::Answer(problem(lock_held.clone()))]).await;
    let request = ClaimRequest { session: Some("s".to_owned()), ..ClaimRequest::default() };
    let error = client(&[&server]).put_claim("default", "a", "mine", &request).await.unwrap_err();
    assert_eq!((error.code(), error.applied()), (Some(ErrorCode::LockHeld), Applied::Unknown));

    let server = Server::start([Step::Answer(problem(lock_held))]).await;
    let error = client(&[&server]).put_claim("default", "a", "mine", &request).await.unwrap_err();
    assert_eq!((error.code(), error.applied()), (Some(ErrorCode::LockHeld), Applied::No));
}

#[tokio::test]
async fn an_answer_that_is_not_of_this_api_is_named_as_such() {
    let server = Server::start([
        Step::Answer(Response::new(404).body("not here")),
        Step::Answer(Response::new(200).body("<html>")),
    ])
    .await;
    let client = client(&[&server]);
    let error = client.get_namespace("default", &ReadQuery::default()).await.unwrap_err();
    assert!(matches!(error, ClientError::Protocol { status: 404, .. }), "{error}");
    assert_eq!(error.applied(), Applied::Unknown);
    let error = client.put_namespace("default").await.unwrap_err();
    assert!(matches!(error, ClientError::Protocol { status: 200, .. }), "{error}");
    assert_eq!(error.applied(), Applied::Yes);
}

#[tokio::test]
async fn a_name_that_would_reach_another_resource_is_not_sent() {
    let server = Server::start([]).await;
    let client = client(&[&server]);
    for key in ["..", "a/../b", "a//b", "", "%2e%2e/x/."] {
        let error = client.delete_config("default", key, &WriteOptions::default()).await.unwrap_err();
        assert!(matches!(error, ClientError::InvalidRequest(_)), "{key:?}: {error}");
        assert_eq!(error.applied(), Applied::No);
    }
    assert!(client.put_namespace("..").await.is_err());
    assert_eq!(server.seen(), []);
}

#[tokio::test]
async fn conditions_and_guards_of_a_write_become_headers() {
    let server = Server::start([
        Step::Answer(written()),
        Step::Answer(Response::new(204)),
        Step::Answer(Response::new(204)),
    ])
    .await;
    let client = client(&[&server]);
    let guarded = WriteOptions {
        condition: WriteCondition::Revision(ETag(8)),
        guard: Some(WriteGuard::lock("jobs/a", 7)),
        managed_by: Some("git".to_owned()),
        idempotency_key: IdempotencyKey::Random,
        ..WriteOptions::default()
    };
    client.put_config("default", "app/a b", vec![0_u8, 255], "image/png", &guarded).await.unwrap();
    for condition in [WriteCondition::Absent, WriteCondition::Present] {
        let options = WriteOptions { condition, ..WriteOptions::default() };
        client.delete_config("default", "app/a", &options).await.unwrap();
    }
    let seen = server.seen();
    assert_eq!(seen[0].line(), "PUT /v1/namespaces/default/config/app/a%20b");
    assert_eq!(seen[0].body, [0, 255]);
    for (name, value) in [
        ("if-match", "\"8\""),
        ("holdfast-guard", "lock=jobs/a; token=7"),
        ("holdfast-managed-by", "git"),
        ("content-type", "image/png"),
    ] {
        assert_eq!(seen[0].headers[name], value);
    }
    assert_eq!(seen[1].headers["if-none-match"], "*");
    assert_eq!(seen[2].headers["if-match"], "*");
}

#[tokio::test]
async fn a_value_is_read_with_its_type_and_revision_unless_it_is_unchanged() {
    let value = Response::new(200).header("ETag", "\"9\"").header("Content-Type", "text/plain").body("abc");
    let server =
        Server::start([Step::Answer(value), Step::Answer(Response::new(304).header("ETag", "\"9\""))]).await;
    let client = client(&[&server]);
    let read = ReadQuery { min_revision: Some(9), ..ReadQuery::default() };
    let value = client.get_config("default", "app/a", &read).await.unwrap().value;
    assert_eq!((value.bytes.as_ref(), value.content_type.as_deref()), (&b"abc"[..], Some("text/plain")));
    assert_eq!(value.mod_revision, 9);
    let unchanged = client
        .get_config_if_changed("default", "app/a", ETag(value.mod_revision), &ReadQuery::default())
        .await
        .unwrap();
    assert_eq!(unchanged.value, None);
    let seen = server.seen();
    assert_eq!(seen[0].path, "/v1/namespaces/default/config/app/a?min_revision=9");
    assert_eq!(seen[1].headers["if-none-match"], "\"9\"");
}

#[tokio::test]
async fn a_waiting_claim_gets_its_waiting_time_on_top_of_every_limit() {
    let (answer, told) = tokio::sync::oneshot::channel();
    let server = Server::start([Step::AnswerWhen(told, json(201, &held("mine", "s")))]).await;
    let client = client(&[&server]).with_attempt_timeout(SHORT).with_deadline(SHORT);
    let request = ClaimRequest { wait_ms: 60_000, ..ClaimRequest::default() };
    let claim = tokio::spawn(async move { client.put_claim("default", "a", "mine", &request).await });
    server.wait_for(1).await;
    tokio::time::sleep(SHORT * 3).await;
    answer.send(()).unwrap();
    assert_eq!(claim.await.unwrap().unwrap().value, held("mine", "s"));
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn endpoints_are_hosts_and_ports_and_nothing_more() {
    for good in ["127.0.0.1:7700", "http://localhost:7700", "http://[::1]:7700/"] {
        assert!(Client::new([good]).is_ok(), "{good}");
    }
    for bad in ["", "https://localhost:7700", "http://localhost/api", "http://user@localhost", "localhost:x"]
    {
        assert!(Client::new([bad]).is_err(), "{bad}");
    }
    assert!(Client::new(Vec::<String>::new()).is_err());
}
