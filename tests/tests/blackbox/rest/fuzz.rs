//! Random requests, seeded: no node dies, hangs, or answers what the API does not have.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::fixture::{Door, Fixture};
use super::wire::{Ask, NoReply, Reply, ask};

const SEED: u64 = 0x0001_dfa5;
/// Requests in all; fewer prove little.
const REQUESTS: usize = 3_000;
/// The end of it on a slow machine.
const TIME_MAX: Duration = Duration::from_secs(12);
/// Requests that must have been made by then.
const REQUESTS_MIN: usize = 600;
const SENDERS: u64 = 6;

const METHODS: [&str; 8] = ["GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "X", "put"];
const SEGMENTS: [&str; 32] = [
    "v1",
    "namespaces",
    "default",
    "locks",
    "claims",
    "config",
    "sessions",
    "keepalive",
    "history",
    "diff",
    "rollback",
    "txn",
    "elections",
    "candidates",
    "cluster",
    "members",
    "promote",
    "force-release",
    "transfer-leader",
    "errors",
    "lock-held",
    "a",
    "b",
    "c-7",
    "x%2Fy",
    "%FF",
    "%00",
    "..",
    "%2e",
    "",
    "%",
    "0000000000000001",
];
const ROUTES: [&str; 18] = [
    "/v1/namespaces/a",
    "/v1/sessions",
    "/v1/sessions/a",
    "/v1/sessions/a/keepalive",
    "/v1/namespaces/default/locks/a",
    "/v1/namespaces/default/locks/a/claims",
    "/v1/namespaces/default/locks/a/claims/b",
    "/v1/namespaces/default/locks/a/force-release",
    "/v1/namespaces/default/config",
    "/v1/namespaces/default/config/a/b",
    "/v1/namespaces/default/history/a/b",
    "/v1/namespaces/default/diff/a/b",
    "/v1/namespaces/default/rollback/a/b",
    "/v1/namespaces/default/txn",
    "/v1/namespaces/default/elections/a",
    "/v1/namespaces/default/elections/a/candidates",
    "/v1/namespaces/default/elections/a/candidates/b",
    "/v1/cluster",
];
const QUERIES: [&str; 15] = [
    "",
    "at_revision=1",
    "at_revision=18446744073709551615",
    "min_revision=1",
    "consistency=stale",
    "limit=1&cursor=1.a",
    "prefix=%FF",
    "values=true",
    "session=a",
    "from=1",
    "from=1&to=18446744073709551615",
    "from=3&to=2&consistency=stale",
    "limit=1&cursor=7",
    "cursor=%00",
    "&&=&",
];
const HEADERS: [(&str, &str); 16] = [
    ("If-Match", "\"1\""),
    ("If-Match", "\"18446744073709551615\""),
    ("If-None-Match", "*"),
    ("If-None-Match", "W/\"3\""),
    ("Holdfast-Guard", "lock=a; token=1"),
    ("Holdfast-Guard", "lock=;"),
    ("Holdfast-Guard", "election=a; token=1"),
    ("Holdfast-Managed-By", "m"),
    ("Holdfast-Managed-By", "\t"),
    ("Idempotency-Key", "k"),
    ("Idempotency-Key", ""),
    ("Content-Type", "application/json"),
    ("Content-Type", "text/plain"),
    ("Request-Id", "r"),
    ("Authorization", "Bearer x"),
    ("Accept", "*/*"),
];
const JSON: [&str; 18] = [
    "{}",
    "[]",
    "null",
    "{\"ttl_ms\":1000}",
    "{\"ttl_ms\":1000,\"wait_ms\":50}",
    "{\"session\":\"a\"}",
    "{\"session\":\"a\",\"keep_waiting\":true}",
    "{\"fencing_token\":18446744073709551615,\"reason\":\"\"}",
    "{\"ttl_ms\":1e400}",
    "{\"ttl_ms\":-0}",
    "{\"labels\":{\"a\":\"b\"}}",
    "{\"node_id\":\"0000000000000001\"}",
    "{\"to_revision\":1}",
    "{\"to_revision\":18446744073709551615}",
    "{\"success\":[{\"put\":{\"key\":\"a/b\",\"value\":\"x\"}},{\"get\":{\"key\":\"a\"}}]}",
    "{\"success\":[{\"put\":{\"key\":\"a/b\",\"value_base64\":\"/w==\",\"session\":\"a\"}}]}",
    "{\"compare\":[{\"key\":\"a/b\",\"target\":\"version\",\"op\":\">\",\"value\":0}],\"success\":[{\"delete\":{\"key\":\"a/b\"}}]}",
    "{\"compare\":[{\"lock\":\"a\",\"token\":1}],\"failure\":[{\"get\":{\"key\":\"a/b\"}}]}",
];

fn pick<'a>(rng: &mut StdRng, from: &[&'a str]) -> &'a str {
    from.choose(rng).copied().expect("the tables are not empty")
}

fn random_request(rng: &mut StdRng) -> Ask {
    let mut target = if rng.random_bool(0.7) {
        pick(rng, &ROUTES).to_owned()
    } else {
        let segments = rng.random_range(0..9);
        (0..segments).map(|_| format!("/{}", pick(rng, &SEGMENTS))).collect::<String>()
    };
    if target.is_empty() {
        target.push('/');
    }
    if rng.random_bool(0.3) {
        target.push('?');
        target.push_str(pick(rng, &QUERIES));
    }
    let mut request = ask(pick(rng, &METHODS), target);
    let mut has_type = false;
    for _ in 0..rng.random_range(0..4) {
        let (name, value) = HEADERS.choose(rng).copied().expect("the table is not empty");
        has_type = has_type || name == "Content-Type";
        request = request.header(name, value);
    }
    if rng.random_bool(0.6) {
        let mut body = pick(rng, &JSON).as_bytes().to_vec();
        if rng.random_bool(0.3) {
            let at = rng.random_range(0..body.len());
            body[at] = rng.random();
        }
        if !has_type {
            request = request.header("Content-Type", "application/json");
        }
        request = request.body(body);
    }
    request
}

/// Fails unless the answer is one that the API has.
fn check(request: &Ask, reply: &Reply, door: &Door) {
    let shown = || format!("{request:?}: {}", reply.shown());
    door.check_headers(reply);
    match reply.status {
        200 | 201 | 202 | 204 | 304 => {}
        400..=499 => {
            let code = reply.value()["code"].as_str().unwrap_or_else(|| panic!("{}", shown())).to_owned();
            reply.refused(reply.status, &code);
        }
        503 | 504 => {
            let code = reply.value()["code"].as_str().unwrap_or_default().to_owned();
            let documented =
                ["no-leader", "revision-not-reached", "outcome-unknown"].contains(&code.as_str());
            assert!(documented, "{}", shown());
        }
        _ => panic!("{}", shown()),
    }
}

async fn sender(doors: Vec<Door>, seed: u64, deadline: Instant) -> usize {
    let mut rng = StdRng::seed_from_u64(seed);
    for made in 0..REQUESTS / usize::try_from(SENDERS).expect("a small number") {
        if deadline <= Instant::now() {
            return made;
        }
        let door = doors.choose(&mut rng).expect("there are nodes");
        let request = random_request(&mut rng);
        run(door, &request).await;
    }
    REQUESTS / usize::try_from(SENDERS).expect("a small number")
}

async fn run(door: &Door, request: &Ask) {
    match door.try_send(request).await {
        Ok(reply) => check(request, &reply, door),
        // What is not HTTP is closed without an answer.
        Err(NoReply::Closed(got)) => assert!(got.is_empty(), "{request:?}: {got:?}"),
        Err(error) => panic!("{request:?}: {error}"),
    }
}

/// Ends all sessions, because what expires later would move the revision under the next test.
async fn end_sessions(door: &Door) {
    loop {
        let list = door.send(ask("GET", "/v1/sessions")).await.expect(200).value();
        let ids = list["items"].as_array().expect("items");
        if ids.is_empty() {
            return;
        }
        for id in ids {
            let session = format!("/v1/sessions/{}", id["id"].as_str().expect("an id"));
            door.send(ask("DELETE", session)).await.expect(204);
        }
    }
}

#[tokio::test]
async fn random_requests_get_answers_that_the_api_has() {
    let fixture = Fixture::alone().await;
    let doors = fixture.doors().await;
    let deadline = Instant::now() + TIME_MAX;
    let mut senders = tokio::task::JoinSet::new();
    for index in 0..SENDERS {
        senders.spawn(sender(doors.clone(), SEED + index, deadline));
    }
    let made: usize = senders.join_all().await.into_iter().sum();
    assert!(REQUESTS_MIN <= made, "only {made} requests were made");
    end_sessions(&doors[0]).await;
    fixture.assert_healthy().await;
}
