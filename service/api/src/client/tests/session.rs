//! Sessions that keep themselves alive.

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;

use crate::{
    ErrorCode, Problem,
    client::{
        Lost, ManualClock, Session,
        tests::{
            TTL, USABLE, client_on, json, keepalive_view, problem,
            scripted::{Response, Server, Step},
            session_view, soon,
        },
    },
};

fn created() -> Step {
    Step::Answer(json(201, &session_view("s")))
}

fn renewed() -> Step {
    Step::Answer(json(200, &keepalive_view(Vec::new())))
}

async fn start(clock: &Arc<ManualClock>, servers: &[&Server]) -> Session {
    client_on(clock, servers).session(TTL).id("s").name("worker").start().await.unwrap()
}

#[tokio::test]
async fn a_session_is_kept_alive_beyond_its_ttl() {
    let clock = Arc::new(ManualClock::default());
    let server = Server::start([created(), renewed(), renewed(), renewed(), renewed(), renewed()]).await;
    let session = start(&clock, &[&server]).await;
    for keepalives in 1..=5 {
        clock.advance(TTL / 3);
        server.wait_for(1 + keepalives).await;
        assert!(session.is_live());
    }
    let seen = server.seen();
    assert_eq!(seen[0].line(), "PUT /v1/sessions/s");
    assert_eq!(seen[0].json(), serde_json::json!({"ttl_ms": 10_000, "name": "worker"}));
    assert!(seen[1..].iter().all(|seen| seen.line() == "POST /v1/sessions/s/keepalive"));
}

#[tokio::test]
async fn a_lease_counts_from_when_the_put_was_sent() {
    let clock = Arc::new(ManualClock::default());
    let (answer, told) = oneshot::channel();
    let server = Server::start([Step::AnswerWhen(told, json(201, &session_view("s")))]).await;
    let servers = [&server];
    let (session, ()) = tokio::join!(start(&clock, &servers), async {
        server.wait_for(1).await;
        clock.advance(Duration::from_secs(2));
        answer.send(()).unwrap();
    });
    assert_eq!(session.remaining(), USABLE - Duration::from_secs(2));
}

#[tokio::test]
async fn a_lease_counts_from_when_the_keepalive_was_sent() {
    let clock = Arc::new(ManualClock::default());
    let (answer, told) = oneshot::channel();
    let server =
        Server::start([created(), Step::AnswerWhen(told, json(200, &keepalive_view(Vec::new())))]).await;
    let session = start(&clock, &[&server]).await;
    clock.advance(Duration::from_secs(1));
    let (renewed, ()) = tokio::join!(session.renew(), async {
        server.wait_for(2).await;
        clock.advance(Duration::from_secs(2));
        answer.send(()).unwrap();
    });
    renewed.unwrap();
    assert_eq!(session.remaining(), USABLE - Duration::from_secs(2));
}

#[tokio::test]
async fn a_replayed_session_gets_its_lease_from_a_keepalive() {
    let clock = Arc::new(ManualClock::default());
    let server = Server::start([
        Step::Close,
        Step::Answer(json(200, &session_view("s"))),
        Step::Answer(json(200, &keepalive_view(Vec::new()))),
    ])
    .await;
    let session = start(&clock, &[&server]).await;
    assert_eq!(server.lines()[2], "POST /v1/sessions/s/keepalive");
    assert_eq!(session.remaining(), USABLE);
}

#[tokio::test]
async fn a_keepalive_that_finds_the_session_gone_fires_lost() {
    for code in [ErrorCode::SessionExpired, ErrorCode::SessionNotFound] {
        let clock = Arc::new(ManualClock::default());
        let server = Server::start([created(), Step::Answer(problem(Problem::new(code, "gone")))]).await;
        let session = start(&clock, &[&server]).await;
        let lost = session.lost();
        clock.advance(TTL / 3);
        assert_eq!(soon(lost).await, Lost::SessionEnded);
        assert!(!session.is_live());
    }
}

#[tokio::test]
async fn a_keepalive_tries_other_endpoints_while_there_is_lease_left() {
    let clock = Arc::new(ManualClock::default());
    let first = Server::start([created(), Step::Close]).await;
    let second = Server::start([renewed(), renewed()]).await;
    let session = start(&clock, &[&first, &second]).await;
    clock.advance(TTL / 3);
    second.wait_for(1).await;
    clock.advance(TTL / 3);
    second.wait_for(2).await;
    assert_eq!(session.remaining(), USABLE - TTL / 3, "the first keepalive of the second endpoint counts");
}

#[tokio::test]
async fn a_lease_ends_by_itself_while_a_keepalive_hangs() {
    let clock = Arc::new(ManualClock::default());
    let server = Server::start([created(), Step::Hang]).await;
    let session = start(&clock, &[&server]).await;
    clock.advance(TTL / 3);
    server.wait_for(2).await;
    clock.advance(USABLE - TTL / 3);
    assert!(!session.is_live());
    assert_eq!(soon(session.lost()).await, Lost::LeaseRanOut);
}

#[tokio::test]
async fn a_refused_keepalive_that_says_nothing_of_the_session_does_not_end_it() {
    let clock = Arc::new(ManualClock::default());
    let refused = Step::Answer(problem(Problem::new(ErrorCode::Forbidden, "not now")));
    let server = Server::start([created(), refused, renewed(), renewed()]).await;
    let session = start(&clock, &[&server]).await;
    for keepalives in 1..=2 {
        clock.advance(TTL / 3);
        server.wait_for(1 + keepalives).await;
    }
    session.renew().await.unwrap();
    assert_eq!(session.remaining(), USABLE);
}

#[tokio::test]
async fn ending_a_session_is_repeated_until_it_is_certain() {
    let clock = Arc::new(ManualClock::default());
    let server = Server::start([created(), Step::Close, Step::Answer(Response::new(204))]).await;
    let session = start(&clock, &[&server]).await;
    let lost = session.lost();
    session.end().await.unwrap();
    assert_eq!(soon(lost).await, Lost::GivenUp);
    assert_eq!(server.lines()[1..], ["DELETE /v1/sessions/s", "DELETE /v1/sessions/s"]);
}
