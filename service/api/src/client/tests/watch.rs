//! Watches: what they give out when connections break, and where they go on.

use std::time::Duration;

use serde_json::json;
use tokio::sync::oneshot;

use crate::claims::ClaimMode;
use crate::{
    ErrorCode, Problem,
    claims::EndReason,
    client::{
        AttemptError, Client, ClientError, ProtocolError, StreamFault, Watch, WatchError, WatchItem, Watched,
        tests::{
            client, problem, refusing,
            scripted::{Piece, Response, Seen, Server, Step, StreamEnd},
            soon,
        },
    },
    query::{EventsQuery, Initial, WatchQuery},
    watch::{Change, EventId, LockChange, SessionChange},
};

/// Longer than a busy machine needs to send a frame, short enough to wait for.
const SILENCE: Duration = Duration::from_secs(1);

fn change(revision: u64) -> String {
    let data =
        json!({"revision": revision, "changes": [{"op": "delete", "key": "a", "mod_revision": revision}]});
    format!("id: ab-{revision}\nevent: change\ndata: {data}\n\n")
}

fn progress(revision: u64) -> String {
    format!("id: ab-{revision}\nevent: progress\ndata: {{\"revision\":{revision}}}\n\n")
}

fn error(problem: &Problem) -> String {
    format!("event: error\ndata: {}\n\n", serde_json::to_string(problem).unwrap())
}

fn state(revision: u64, keys: &[&str], more: bool) -> String {
    let items = keys.iter().map(|key| {
        json!({"key": key, "value": "v", "content_type": "text/plain", "create_revision": 1, "mod_revision": 1, "version": 1})
    });
    let data = json!({"revision": revision, "items": items.collect::<Vec<_>>(), "more": more});
    let id = if more { String::new() } else { format!("id: ab-{revision}\n") };
    format!("{id}event: state\ndata: {data}\n\n")
}

fn stream(text: impl AsRef<str>, end: StreamEnd) -> Step {
    Step::Stream(vec![Piece::text(text.as_ref())], end)
}

fn position(revision: u64) -> EventId {
    EventId { history_id: 0xab, revision }
}

fn watch_of(client: &Client) -> Watch<Change> {
    client.watch_config("default", &WatchQuery { prefix: vec!["a/".to_owned()], ..WatchQuery::default() })
}

/// An item in short: `change 5`, `progress 5`, `state 5 a,b`.
fn short(item: &WatchItem<Change>) -> String {
    match item {
        WatchItem::State(state) => {
            assert!(!state.more, "a state is given out whole");
            let keys: Vec<&str> = state.items.iter().map(|item| item.key.as_str()).collect();
            format!("state {} {}", state.revision, keys.join(","))
        }
        WatchItem::Change(event) => format!("change {}", event.revision),
        WatchItem::Progress(progress) => format!("progress {}", progress.revision),
    }
}

async fn items(watch: &mut Watch<Change>, count: usize) -> Vec<String> {
    let mut items = Vec::new();
    for _ in 0..count {
        items.push(short(&soon(watch.next()).await.unwrap()));
    }
    items
}

fn asked_after(seen: &Seen) -> Option<&str> {
    seen.headers.get("last-event-id").map(String::as_str)
}

#[tokio::test]
async fn events_come_in_order_and_a_state_comes_whole() {
    let text = [state(4, &["a", "b"], true), state(4, &["c"], false), change(5), progress(7)].concat();
    let server = Server::start([stream(text, StreamEnd::Stay)]).await;
    let query = WatchQuery { initial: Some(Initial::State), ..WatchQuery::default() };
    let mut watch = client(&[&server]).watch_config("default", &query);
    assert_eq!(items(&mut watch, 3).await, ["state 4 a,b,c", "change 5", "progress 7"]);
    assert_eq!(watch.position(), Some(position(7)));
    let seen = &server.seen()[0];
    assert_eq!(seen.line(), "GET /v1/namespaces/default/watch?initial=state");
    assert_eq!((seen.headers["accept"].as_str(), asked_after(seen)), ("text/event-stream", None));
}

#[tokio::test]
async fn a_connection_that_breaks_within_a_frame_is_taken_up_after_the_last_whole_one() {
    let whole = change(6);
    for cut in 1..whole.len() {
        let text = change(5) + &whole[..cut];
        let first = Server::start([stream(text, StreamEnd::Break)]).await;
        let second = Server::start([stream([change(6), change(7)].concat(), StreamEnd::Stay)]).await;
        let query = WatchQuery {
            prefix: vec!["a/".to_owned(), "b/".to_owned()],
            from_revision: Some(5),
            ..WatchQuery::default()
        };
        let mut watch = client(&[&first, &second]).watch_config("default", &query);
        assert_eq!(items(&mut watch, 3).await, ["change 5", "change 6", "change 7"], "cut at {cut}");
        assert_eq!(
            first.lines(),
            ["GET /v1/namespaces/default/watch?prefix=a%2F&prefix=b%2F&from_revision=5"]
        );
        assert_eq!(second.lines(), ["GET /v1/namespaces/default/watch?prefix=a%2F&prefix=b%2F"]);
        assert_eq!(asked_after(&second.seen()[0]), Some("ab-5"));
    }
}

#[tokio::test]
async fn what_comes_again_after_a_reconnect_is_given_out_once() {
    let again = [progress(4), change(4), change(5), progress(5), change(6)].concat();
    let server = Server::start([
        stream([change(4), change(5)].concat(), StreamEnd::Finish),
        stream(again, StreamEnd::Stay),
    ])
    .await;
    let mut watch = watch_of(&client(&[&server]));
    assert_eq!(items(&mut watch, 4).await, ["change 4", "change 5", "progress 5", "change 6"]);
}

#[tokio::test]
async fn half_a_state_is_asked_for_again() {
    let server = Server::start([
        stream(state(4, &["a"], true), StreamEnd::Break),
        stream([state(9, &["b"], true), state(9, &["c"], false)].concat(), StreamEnd::Stay),
    ])
    .await;
    let query = WatchQuery { initial: Some(Initial::State), ..WatchQuery::default() };
    let mut watch = client(&[&server]).watch_config("default", &query);
    assert_eq!(items(&mut watch, 1).await, ["state 9 b,c"]);
    let seen = server.seen();
    assert_eq!(seen[0].line(), seen[1].line());
    assert_eq!(asked_after(&seen[1]), None);
}

#[tokio::test]
async fn a_stream_that_the_service_ends_for_now_goes_on_elsewhere() {
    let leaving =
        Problem::new(ErrorCode::ShuttingDown, "going").with_resume(position(5)).with_retry_after_ms(60_000);
    let first = Server::start([stream(change(5) + &error(&leaving), StreamEnd::Finish)]).await;
    let second = Server::start([stream(change(6), StreamEnd::Stay)]).await;
    let mut watch = watch_of(&client(&[&first, &second]));
    assert_eq!(items(&mut watch, 2).await, ["change 5", "change 6"]);
    assert_eq!(asked_after(&second.seen()[0]), Some("ab-5"));
}

#[tokio::test]
async fn a_slow_reader_is_told_where_to_go_on() {
    let slow = Problem::new(ErrorCode::Overloaded, "slow reader").with_resume(position(7));
    let server = Server::start([
        stream(error(&slow), StreamEnd::Finish),
        stream(change(8), StreamEnd::Break),
        stream(error(&slow), StreamEnd::Finish),
        stream(change(9), StreamEnd::Stay),
    ])
    .await;
    let mut watch = watch_of(&client(&[&server]));
    assert_eq!(items(&mut watch, 2).await, ["change 8", "change 9"]);
    let seen = server.seen();
    let asked: Vec<_> = seen.iter().map(asked_after).collect();
    assert_eq!(asked, [None, Some("ab-7"), Some("ab-8"), Some("ab-8")], "a position never goes back");
}

#[tokio::test]
async fn a_position_within_a_state_is_not_believed() {
    let slow = Problem::new(ErrorCode::Overloaded, "slow reader").with_resume(position(4));
    let server = Server::start([
        stream(state(4, &["a"], true) + &error(&slow), StreamEnd::Finish),
        stream(state(5, &["a"], false), StreamEnd::Stay),
    ])
    .await;
    let query = WatchQuery { initial: Some(Initial::State), ..WatchQuery::default() };
    let mut watch = client(&[&server]).watch_config("default", &query);
    assert_eq!(items(&mut watch, 1).await, ["state 5 a"]);
    assert_eq!(asked_after(&server.seen()[1]), None);
}

#[tokio::test]
async fn a_node_that_cannot_serve_at_the_moment_is_passed_over() {
    let electing = Problem::new(ErrorCode::NoLeader, "electing").with_retry_after_ms(1);
    let server = Server::start([
        Step::Answer(problem(electing.clone())),
        Step::Answer(Response::new(502)),
        stream(change(5), StreamEnd::Break),
        Step::Answer(problem(electing)),
        stream(change(6), StreamEnd::Stay),
    ])
    .await;
    let (_socket, refusing) = refusing();
    let mut watch = watch_of(&Client::new([refusing, server.address()]).unwrap());
    assert_eq!(items(&mut watch, 2).await, ["change 5", "change 6"]);
}

/// What a watch ends with that is refused with this problem, at once and within the stream.
async fn ends_with(refusal: &Problem) -> [WatchError; 2] {
    let at_once = Server::start([Step::Answer(problem(refusal.clone()))]).await;
    let within = Server::start([stream(change(5) + &error(refusal), StreamEnd::Finish)]).await;
    let mut watch = watch_of(&client(&[&within]));
    assert_eq!(items(&mut watch, 1).await, ["change 5"]);
    [soon(watch_of(&client(&[&at_once])).next()).await.unwrap_err(), soon(watch.next()).await.unwrap_err()]
}

#[tokio::test]
async fn compacted_revisions_are_for_the_caller() {
    let compacted = Problem::new(ErrorCode::RevisionCompacted, "gone").with_revision(42);
    for error in ends_with(&compacted).await {
        assert!(matches!(&error, WatchError::Compacted(problem) if problem.revision == Some(42)), "{error}");
        assert_eq!(error.code(), Some(ErrorCode::RevisionCompacted));
    }
}

#[tokio::test]
async fn another_history_is_for_the_caller() {
    for error in ends_with(&Problem::new(ErrorCode::HistoryChanged, "restored")).await {
        assert!(matches!(error, WatchError::HistoryChanged(_)), "{error}");
    }
    let text = change(5) + &change(6).replace("ab-6", "ac-6");
    let server = Server::start([stream(text, StreamEnd::Stay)]).await;
    let mut watch = watch_of(&client(&[&server]));
    assert_eq!(items(&mut watch, 1).await, ["change 5"]);
    let error = soon(watch.next()).await.unwrap_err();
    assert!(matches!(error, WatchError::HistoryChanged(_)), "{error}");
}

#[tokio::test]
async fn what_is_gone_is_for_the_caller() {
    for code in [ErrorCode::NamespaceNotFound, ErrorCode::SessionNotFound, ErrorCode::SessionExpired] {
        for error in ends_with(&Problem::new(code, "gone")).await {
            assert!(matches!(&error, WatchError::Gone(problem) if problem.code() == code), "{error}");
        }
    }
}

#[tokio::test]
async fn a_refused_request_is_for_the_caller() {
    for error in ends_with(&Problem::new(ErrorCode::FutureRevision, "not yet")).await {
        assert!(matches!(error, WatchError::Failed(ClientError::Problem(_))), "{error}");
        assert_eq!(error.code(), Some(ErrorCode::FutureRevision));
    }
}

#[tokio::test]
async fn a_watch_can_go_on_after_an_error_and_after_an_earlier_watch() {
    let missing = problem(Problem::new(ErrorCode::NamespaceNotFound, "gone"));
    let server = Server::start([Step::Answer(missing), stream(change(8), StreamEnd::Stay)]).await;
    let query = WatchQuery { from_revision: Some(3), ..WatchQuery::default() };
    let mut watch = client(&[&server]).watch_config("default", &query).after(position(7));
    assert!(matches!(soon(watch.next()).await, Err(WatchError::Gone(_))));
    assert_eq!(items(&mut watch, 1).await, ["change 8"]);
    for seen in server.seen() {
        assert_eq!(
            (seen.line().as_str(), asked_after(&seen)),
            ("GET /v1/namespaces/default/watch", Some("ab-7"))
        );
    }
}

#[tokio::test]
async fn a_silent_connection_is_given_up_even_if_something_keeps_it_open() {
    let silent = vec![Piece::text(change(5)), Piece::text(": still here\n\n: still here")];
    let first = Server::start([Step::Stream(silent, StreamEnd::Stay)]).await;
    let second = Server::start([stream(change(6), StreamEnd::Stay)]).await;
    let client = Client::builder([first.address(), second.address()]).silence_limit(SILENCE).build().unwrap();
    let mut watch = watch_of(&client);
    assert_eq!(items(&mut watch, 2).await, ["change 5", "change 6"]);
    first.wait_until_left(1).await;
}

#[tokio::test]
async fn what_has_come_is_given_out_however_late_the_caller_asks() {
    let (go_on, wait) = oneshot::channel();
    let pieces = vec![Piece::text(change(5)), Piece::Wait(wait), Piece::text(change(6))];
    let server = Server::start([Step::Stream(pieces, StreamEnd::Stay)]).await;
    let client = Client::builder([server.address()]).silence_limit(SILENCE).build().unwrap();
    let mut watch = watch_of(&client);
    assert_eq!(items(&mut watch, 1).await, ["change 5"]);
    go_on.send(()).unwrap();
    tokio::time::sleep(SILENCE * 5 / 4).await;
    assert_eq!(items(&mut watch, 1).await, ["change 6"]);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn before_the_first_item_the_deadline_ends_a_watch() {
    let (_socket, refusing) = refusing();
    let client = Client::builder([refusing]).deadline(Duration::from_millis(60)).build().unwrap();
    let mut watch = watch_of(&client);
    for _ in 0..2 {
        let error = soon(watch.next()).await.unwrap_err();
        let unreachable = matches!(error, WatchError::Failed(ClientError::Unreachable { attempts: 1.., .. }));
        assert!(unreachable, "{error}");
    }
}

#[tokio::test]
async fn after_the_first_item_a_watch_waits_for_as_long_as_it_takes_and_says_why() {
    let server = Server::start([stream(change(5), StreamEnd::Break)]).await;
    let client = Client::builder([server.address()]).deadline(Duration::from_millis(1)).build().unwrap();
    let mut watch = watch_of(&client);
    assert_eq!(items(&mut watch, 1).await, ["change 5"]);
    assert!(watch.trouble().is_none());
    tokio::select! {
        item = watch.next() => panic!("{item:?}"),
        _ = server.wait_for(4) => {}
    }
    assert!(matches!(watch.trouble(), Some(AttemptError::NoAnswer(_))), "{:?}", watch.trouble());
}

#[tokio::test]
async fn a_dropped_wait_loses_nothing() {
    let (go_on, wait) = oneshot::channel();
    let text = change(6);
    let (begin, rest) = text.split_at(20);
    let pieces =
        vec![Piece::text(change(5) + begin), Piece::Wait(wait), Piece::text(rest), Piece::text(change(7))];
    let server = Server::start([Step::Stream(pieces, StreamEnd::Stay)]).await;
    let mut watch = watch_of(&client(&[&server]));
    assert_eq!(items(&mut watch, 1).await, ["change 5"]);
    assert!(tokio::time::timeout(Duration::from_millis(20), watch.next()).await.is_err());
    go_on.send(()).unwrap();
    assert_eq!(items(&mut watch, 2).await, ["change 6", "change 7"]);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn dropping_a_watch_closes_its_connection() {
    let server = Server::start([stream(change(5), StreamEnd::Stay)]).await;
    let mut watch = watch_of(&client(&[&server]));
    assert_eq!(items(&mut watch, 1).await, ["change 5"]);
    drop(watch);
    server.wait_until_left(1).await;
}

#[tokio::test]
async fn a_revision_before_the_first_one_wanted_is_left_out() {
    let server = Server::start([stream([progress(5), change(6), change(9)].concat(), StreamEnd::Stay)]).await;
    let query = WatchQuery { from_revision: Some(9), ..WatchQuery::default() };
    let mut watch = client(&[&server]).watch_config("default", &query);
    assert_eq!(items(&mut watch, 2).await, ["progress 5", "change 9"]);
}

async fn fault(text: &str, initial: Option<Initial>) -> ProtocolError {
    let server = Server::start([stream(text, StreamEnd::Stay)]).await;
    let query = WatchQuery { initial, ..WatchQuery::default() };
    let error = soon(client(&[&server]).watch_config("default", &query).next()).await.unwrap_err();
    let WatchError::Failed(ClientError::Protocol { status: 200, detail }) = error else { panic!("{error}") };
    detail
}

#[tokio::test]
async fn a_stream_that_is_not_of_this_api_ends_the_watch() {
    let is = |expected: StreamFault, found: ProtocolError| {
        assert!(matches!(&found, ProtocolError::Stream(fault) if *fault == expected), "{found}");
    };
    is(StreamFault::UnknownEvent, fault("event: hello\ndata: 1\n\n", None).await);
    is(StreamFault::Id, fault(&change(5).replace("ab-5", "ab-6"), None).await);
    is(StreamFault::Id, fault(&change(5).replace("id: ab-5\n", ""), None).await);
    is(StreamFault::State, fault(&state(5, &["a"], false), None).await);
    is(StreamFault::State, fault(&change(5), Some(Initial::State)).await);
    let moved = state(5, &["a"], true) + &state(6, &["b"], false);
    is(StreamFault::State, fault(&moved, Some(Initial::State)).await);
    let data = fault("id: ab-5\nevent: change\ndata: {}\n\n", None).await;
    assert!(matches!(data, ProtocolError::Body(_)), "{data}");
    let page = Response::new(200).header("Content-Type", "text/html").body("<html>");
    let server = Server::start([Step::Answer(page)]).await;
    let error = soon(watch_of(&client(&[&server])).next()).await.unwrap_err();
    let header = ProtocolError::Header("Content-Type").to_string();
    assert!(error.to_string().contains(&header), "{error}");
}

fn event<C: Watched>(item: WatchItem<C>) -> Vec<C> {
    let WatchItem::Change(event) = item else { panic!("{item:?}") };
    event.changes
}

#[tokio::test]
async fn locks_and_elections_are_watched_in_the_same_way() {
    let data = json!({"revision": 5, "changes": [{"op": "queued", "claim": "c", "session": "s"}]});
    let text = format!("id: ab-5\nevent: change\ndata: {data}\n\n");
    let server = Server::start([stream(&text, StreamEnd::Finish), stream(&text, StreamEnd::Finish)]).await;
    let client = client(&[&server]);
    let query = EventsQuery { from_revision: Some(5), ..EventsQuery::default() };
    let queued = LockChange::Queued {
        claim: "c".to_owned(),
        session: "s".to_owned(),
        mode: ClaimMode::Exclusive,
        permits: None,
    };
    let mut lock = client.watch_lock("default", "jobs/a", &query);
    assert_eq!(event(soon(lock.next()).await.unwrap()), std::slice::from_ref(&queued));
    let mut election = client.watch_election("default", "jobs/a", &query);
    assert_eq!(event(soon(election.next()).await.unwrap()), [queued]);
    let place = |kind: &str| format!("GET /v1/namespaces/default/{kind}/jobs%2Fa/events?from_revision=5");
    assert_eq!(server.lines(), [place("locks"), place("elections")]);
}

#[tokio::test]
async fn the_watch_of_a_session_ends_with_it() {
    let data =
        json!({"revision": 5, "changes": [{"op": "session-ended", "session": "s", "reason": "expired"}]});
    let server =
        Server::start([stream(format!("id: ab-5\nevent: change\ndata: {data}\n\n"), StreamEnd::Finish)])
            .await;
    let mut watch = client(&[&server]).watch_session("s", &EventsQuery::default());
    let ended = SessionChange::SessionEnded { session: "s".to_owned(), reason: EndReason::Expired };
    assert_eq!(event(soon(watch.next()).await.unwrap()), [ended]);
    for _ in 0..2 {
        assert!(matches!(soon(watch.next()).await, Err(WatchError::Ended)));
    }
    assert_eq!(server.lines(), ["GET /v1/sessions/s/events"]);
}
