//! Locks taken, held, lost and released.

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;

use crate::{
    Applied, ErrorCode, Problem,
    client::{
        ClientError, Lost, ManualClock,
        tests::{
            TTL, USABLE, client_on, held, json, keepalive_view, listed, problem,
            scripted::{Response, Server, Step},
            session_view, soon,
        },
    },
};

const WAIT: Duration = Duration::from_secs(3);

fn granted(status: u16) -> Step {
    Step::Answer(json(status, &held("mine", "c-42")))
}

fn renewed() -> Step {
    Step::Answer(json(200, &keepalive_view(vec![listed("mine")])))
}

fn gone() -> Step {
    Step::Answer(Response::new(204))
}

const PUT: &str = "PUT /v1/namespaces/default/locks/jobs%2Fa/claims/mine";
const DELETE: &str = "DELETE /v1/namespaces/default/locks/jobs%2Fa/claims/mine";
const KEEPALIVE: &str = "POST /v1/sessions/c-42/keepalive";

struct Bench {
    clock: Arc<ManualClock>,
    server: Server,
}

impl Bench {
    async fn new(script: impl IntoIterator<Item = Step>) -> Self {
        Self { clock: Arc::new(ManualClock::default()), server: Server::start(script).await }
    }

    fn request(&self) -> crate::client::LockRequest {
        client_on(&self.clock, &[&self.server]).lock("default", "jobs/a").claim("mine").ttl(TTL)
    }
}

#[tokio::test]
async fn a_lock_that_was_not_waited_for_counts_from_when_the_put_was_sent() {
    let (answer, told) = oneshot::channel();
    let bench = Bench::new([Step::AnswerWhen(told, json(201, &held("mine", "c-42")))]).await;
    let (guard, ()) = tokio::join!(bench.request().label("nightly").acquire(), async {
        bench.server.wait_for(1).await;
        bench.clock.advance(Duration::from_secs(2));
        answer.send(()).unwrap();
    });
    let guard = guard.unwrap();
    assert_eq!(guard.remaining(), USABLE - Duration::from_secs(2));
    assert_eq!((guard.fencing_token(), guard.claim(), guard.session()), (42, "mine", "c-42"));
    assert_eq!(bench.server.lines(), [PUT]);
    assert_eq!(bench.server.seen()[0].json(), serde_json::json!({"ttl_ms": 10_000, "label": "nightly"}));
}

#[tokio::test]
async fn after_a_wait_a_keepalive_comes_before_the_guard() {
    let bench = Bench::new([granted(201), renewed()]).await;
    let guard = bench.request().wait(WAIT).acquire().await.unwrap();
    assert!(guard.is_held());
    assert_eq!(guard.remaining(), USABLE);
    assert_eq!(bench.server.lines(), [PUT, KEEPALIVE]);
    assert_eq!(bench.server.seen()[0].json(), serde_json::json!({"ttl_ms": 10_000, "wait_ms": 3_000}));
}

#[tokio::test]
async fn a_waiting_put_is_sent_again_to_another_endpoint() {
    let clock = Arc::new(ManualClock::default());
    let first = Server::start([Step::Close]).await;
    let second = Server::start([granted(200), renewed()]).await;
    let client = client_on(&clock, &[&first, &second]);
    let guard = client.lock("default", "jobs/a").claim("mine").ttl(TTL).wait(WAIT).acquire().await.unwrap();
    assert_eq!(guard.fencing_token(), 42);
    assert_eq!(first.seen()[0].content(), second.seen()[0].content());
    assert_eq!(second.lines(), [PUT, KEEPALIVE]);
}

#[tokio::test]
async fn a_claim_that_ended_before_the_keepalive_is_not_handed_out() {
    let bench =
        Bench::new([granted(201), Step::Answer(json(200, &keepalive_view(Vec::new()))), gone()]).await;
    let error = bench.request().wait(WAIT).acquire().await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::ClaimEnded));
    assert_eq!(bench.server.lines(), [PUT, KEEPALIVE, DELETE]);
}

#[tokio::test]
async fn a_refused_try_needs_no_clean_up() {
    let bench = Bench::new([Step::Answer(problem(Problem::new(ErrorCode::LockHeld, "held")))]).await;
    let error = bench.request().acquire().await.unwrap_err();
    assert_eq!((error.code(), error.applied()), (Some(ErrorCode::LockHeld), Applied::No));
    assert_eq!(bench.server.lines(), [PUT]);
}

#[tokio::test]
async fn a_refusal_that_leaves_an_earlier_attempt_open_is_cleaned_up() {
    let refused = Step::Answer(problem(Problem::new(ErrorCode::LockHeld, "held")));
    let bench = Bench::new([Step::Close, refused, gone()]).await;
    let error = bench.request().acquire().await.unwrap_err();
    assert_eq!((error.code(), error.applied()), (Some(ErrorCode::LockHeld), Applied::Unknown));
    assert_eq!(bench.server.lines(), [PUT, PUT, DELETE]);
}

#[tokio::test]
async fn a_queued_answer_to_a_guard_is_refused_and_the_place_is_left() {
    let queued = serde_json::json!({
        "state": "queued", "claim": "mine", "session": "s", "position": 1, "holders": [],
    });
    let bench = Bench::new([Step::Answer(json(202, &queued)), gone()]).await;
    let error = bench.request().wait(WAIT).acquire().await.unwrap_err();
    assert!(matches!(error, ClientError::Protocol { status: 202, .. }), "{error}");
    assert_eq!(bench.server.lines(), [PUT, DELETE]);
}

#[tokio::test]
async fn a_release_is_repeated_until_it_is_certain() {
    let unknown = Problem::new(ErrorCode::OutcomeUnknown, "lost").with_replayable(true);
    let bench = Bench::new([granted(201), Step::Close, Step::Answer(problem(unknown)), gone()]).await;
    let guard = bench.request().acquire().await.unwrap();
    let lost = guard.lost();
    guard.release().await.unwrap();
    assert_eq!(soon(lost).await, Lost::GivenUp);
    assert_eq!(bench.server.lines(), [PUT, DELETE, DELETE, DELETE]);
}

#[tokio::test]
async fn a_lock_taken_away_by_force_fires_lost_with_the_next_keepalive() {
    let bench =
        Bench::new([granted(201), renewed(), Step::Answer(json(200, &keepalive_view(Vec::new())))]).await;
    let guard = bench.request().acquire().await.unwrap();
    let lost = guard.lost();
    bench.clock.advance(TTL / 3);
    bench.server.wait_for(2).await;
    assert!(guard.is_held());
    bench.clock.advance(TTL / 3);
    assert_eq!(soon(lost).await, Lost::ClaimEnded);
    assert!(!guard.is_held());
}

#[tokio::test]
async fn a_guard_is_lost_when_its_lease_runs_out() {
    let bench = Bench::new([granted(201), Step::Hang]).await;
    let guard = bench.request().acquire().await.unwrap();
    bench.clock.advance(USABLE);
    assert!(!guard.is_held());
    assert_eq!(soon(guard.lost()).await, Lost::LeaseRanOut);
}

async fn given_session(bench: &Bench) -> crate::client::Session {
    client_on(&bench.clock, &[&bench.server]).session(TTL).id("s").start().await.unwrap()
}

fn session_created() -> Step {
    Step::Answer(json(201, &session_view("s")))
}

#[tokio::test]
async fn a_guard_of_a_given_session_lives_on_its_lease() {
    let bench =
        Bench::new([session_created(), Step::Answer(json(201, &held("mine", "s"))), gone(), gone()]).await;
    let session = given_session(&bench).await;
    bench.clock.advance(Duration::from_secs(1));
    let guard = bench.request().session(&session).acquire().await.unwrap();
    assert_eq!(guard.remaining(), session.remaining());
    assert_eq!(bench.server.seen()[1].json(), serde_json::json!({"session": "s"}));
    guard.release().await.unwrap();
    assert!(session.is_live());
    let guard_lines = &bench.server.lines()[1..];
    assert_eq!(guard_lines, [PUT, DELETE]);
}

#[tokio::test]
async fn a_dropped_guard_of_a_given_session_is_released_by_that_session() {
    let bench = Bench::new([
        session_created(),
        Step::Answer(json(201, &held("mine", "s"))),
        Step::Close,
        gone(),
        Step::Answer(json(200, &keepalive_view(Vec::new()))),
    ])
    .await;
    let session = given_session(&bench).await;
    drop(bench.request().session(&session).acquire().await.unwrap());
    bench.server.wait_for(4).await;
    assert_eq!(bench.server.lines()[1..], [PUT, DELETE, DELETE]);
    assert!(session.is_live());
}

#[tokio::test]
async fn a_wait_that_is_given_up_is_taken_out_of_the_queue() {
    let bench = Bench::new([session_created(), Step::Hang, gone()]).await;
    let session = given_session(&bench).await;
    tokio::select! {
        _ = bench.request().session(&session).wait(WAIT).acquire() => unreachable!("nobody answers"),
        _ = bench.server.wait_for(2) => {}
    }
    bench.server.wait_for(3).await;
    assert_eq!(bench.server.lines()[1..], [PUT, DELETE]);
}

#[tokio::test]
async fn a_dropped_guard_of_its_own_session_stops_its_keepalives() {
    let bench = Bench::new([granted(201), renewed()]).await;
    let guard = bench.request().acquire().await.unwrap();
    let lost = guard.lost();
    drop(guard);
    // The lease outlives the guard only in this future; without keepalives it runs out.
    bench.clock.advance(USABLE);
    assert_eq!(soon(lost).await, Lost::LeaseRanOut);
    assert_eq!(bench.server.lines(), [PUT]);
}
