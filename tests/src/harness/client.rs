//! One recorded call over plain HTTP, and what its answer proves.
//!
//! The status law decides: 2xx applied, 4xx and 503 certainly not applied, anything else unknown. A connection
//! that could not be established carried nothing; one that broke later may have carried everything.

use anyhow::Result;
use reqwest::{Client, Method, RequestBuilder, StatusCode, header};
use serde::Deserialize;
use serde_json::json;

use crate::harness::recorder::Recorder;
use crate::history::{
    Answer, Call, ClaimName, ClientId, Condition, HeldClaim, LockName, Outcome, Refusal, ValueId,
};

/// The namespace of all workloads.
const NAMESPACE_URL: &str = "/v1/namespaces/default";

/// An answer that the API does not allow.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// A 2xx without what the call must be answered with.
    #[error("{call:?} was answered {status}, which is not understood: {body}")]
    NotUnderstood {
        /// The call.
        call: Box<Call>,
        /// The HTTP status.
        status: StatusCode,
        /// The body.
        body: String,
    },
    /// A 4xx or 503 that says it was applied, or may have been.
    #[error("{call:?} was refused with {status}, but not as unapplied: {body}")]
    RefusalMayBeApplied {
        /// The call.
        call: Box<Call>,
        /// The HTTP status.
        status: StatusCode,
        /// The body.
        body: String,
    },
}

/// Sends calls and records them.
#[derive(Clone, Debug)]
pub struct CallClient {
    http: Client,
    recorder: Recorder,
    id: ClientId,
}

struct Reply {
    status: StatusCode,
    etag: Option<u64>,
    body: String,
}

enum Transmission {
    Answered(Reply),
    NotConnected,
    Lost,
}

#[derive(Deserialize)]
struct Problem {
    code: String,
    applied: String,
}

#[derive(Deserialize)]
struct HeldBody {
    fencing_token: u64,
}

#[derive(Deserialize)]
struct LockBody {
    holders: Vec<HolderBody>,
}

#[derive(Deserialize)]
struct HolderBody {
    claim: String,
    fencing_token: u64,
}

impl CallClient {
    /// A client called `id`; `http` bounds how long a call may take.
    pub fn new(http: Client, recorder: Recorder, id: ClientId) -> Self {
        Self { http, recorder, id }
    }

    /// Sends `call` to one node and records it with its outcome.
    pub async fn send(&self, api_url: &str, call: Call) -> Result<Outcome, CallError> {
        let request = request(&self.http, api_url, &call);
        let invoked_ns = self.recorder.now_ns();
        let sent = transmit(request).await;
        let at_ns = self.recorder.now_ns();
        let outcome = outcome(&call, sent, at_ns);
        // An answer that breaks the API proves nothing about the effect.
        let recorded = outcome.as_ref().map_or(Outcome::Unknown, Clone::clone);
        self.recorder.record(self.id, invoked_ns, call, recorded);
        outcome
    }
}

fn request(http: &Client, api_url: &str, call: &Call) -> RequestBuilder {
    let url = |path: String| format!("{api_url}{path}");
    let claim_url =
        |lock: &LockName, claim: &ClaimName| url(format!("{NAMESPACE_URL}/locks/{lock}/claims/{claim}"));
    match call {
        Call::Read { key } => http.get(url(format!("{NAMESPACE_URL}/config/{key}"))),
        Call::Write { key, value, condition, guard } => {
            let request = http.put(url(format!("{NAMESPACE_URL}/config/{key}")));
            let request = conditional(request, *condition)
                .header(header::CONTENT_TYPE, "text/plain")
                .body(value.0.to_string());
            match guard {
                Some(guard) => {
                    request.header("Holdfast-Guard", format!("lock={}; token={}", guard.lock, guard.token))
                }
                None => request,
            }
        }
        Call::Delete { key, condition } => {
            conditional(http.delete(url(format!("{NAMESPACE_URL}/config/{key}"))), *condition)
        }
        Call::OpenSession { session, ttl_ms } => {
            http.put(url(format!("/v1/sessions/{session}"))).json(&json!({ "ttl_ms": ttl_ms }))
        }
        Call::KeepAlive { session } => {
            http.request(Method::POST, url(format!("/v1/sessions/{session}/keepalive")))
        }
        Call::EndSession { session } => http.delete(url(format!("/v1/sessions/{session}"))),
        Call::Acquire { lock, claim, session, wait_ms } => {
            let body = json!({ "session": session, "mode": "exclusive", "wait_ms": wait_ms });
            http.put(claim_url(lock, claim)).json(&body)
        }
        Call::Release { lock, claim } => http.delete(claim_url(lock, claim)),
        Call::LookAtLock { lock } => http.get(url(format!("{NAMESPACE_URL}/locks/{lock}"))),
    }
}

fn conditional(request: RequestBuilder, condition: Condition) -> RequestBuilder {
    match condition {
        Condition::Always => request,
        Condition::Absent => request.header(header::IF_NONE_MATCH, "*"),
        Condition::Revision(revision) => request.header(header::IF_MATCH, format!("\"{revision}\"")),
    }
}

async fn transmit(request: RequestBuilder) -> Transmission {
    let answer = match request.send().await {
        Ok(answer) => answer,
        Err(error) if error.is_connect() => return Transmission::NotConnected,
        Err(_) => return Transmission::Lost,
    };
    let status = answer.status();
    let etag = answer.headers().get(header::ETAG).and_then(|etag| etag.to_str().ok());
    let etag = etag.and_then(|etag| etag.trim_matches('"').parse().ok());
    match answer.text().await {
        Ok(body) => Transmission::Answered(Reply { status, etag, body }),
        Err(_) => Transmission::Lost,
    }
}

fn outcome(call: &Call, sent: Transmission, at_ns: u64) -> Result<Outcome, CallError> {
    let reply = match sent {
        Transmission::Answered(reply) => reply,
        Transmission::NotConnected => {
            let refusal = Refusal::NotServed { problem: "not-connected".to_owned() };
            return Ok(Outcome::Refused { at_ns, refusal });
        }
        Transmission::Lost => return Ok(Outcome::Unknown),
    };
    if reply.status.is_success() {
        return match answer(call, &reply) {
            Some(answer) => Ok(Outcome::Ok { at_ns, answer }),
            None => Err(not_understood(call, reply)),
        };
    }
    if !reply.status.is_client_error() && reply.status != StatusCode::SERVICE_UNAVAILABLE {
        return Ok(Outcome::Unknown);
    }
    let Ok(problem) = serde_json::from_str::<Problem>(&reply.body) else {
        return Err(not_understood(call, reply));
    };
    if problem.applied != "no" {
        let Reply { status, body, .. } = reply;
        return Err(CallError::RefusalMayBeApplied { call: Box::new(call.clone()), status, body });
    }
    if matches!(call, Call::Read { .. }) && problem.code == "key-not-found" {
        return Ok(Outcome::Ok { at_ns, answer: Answer::NoItem });
    }
    let refusal = match problem.code.as_str() {
        "revision-mismatch" => Refusal::RevisionMismatch,
        "stale-token" => Refusal::StaleToken,
        "lock-held" => Refusal::LockHeld,
        "wait-timeout" => Refusal::WaitTimeout,
        "claim-ended" => Refusal::ClaimEnded,
        "session-expired" => Refusal::SessionExpired,
        _ => Refusal::NotServed { problem: problem.code },
    };
    Ok(Outcome::Refused { at_ns, refusal })
}

fn not_understood(call: &Call, reply: Reply) -> CallError {
    let Reply { status, body, .. } = reply;
    CallError::NotUnderstood { call: Box::new(call.clone()), status, body }
}

fn answer(call: &Call, reply: &Reply) -> Option<Answer> {
    match call {
        Call::Read { .. } => {
            let value = ValueId(reply.body.parse().ok()?);
            Some(Answer::Item { value, mod_revision: reply.etag? })
        }
        Call::Write { .. } => Some(Answer::Written { mod_revision: reply.etag? }),
        Call::Delete { .. } => Some(Answer::Deleted),
        Call::OpenSession { .. } => Some(Answer::SessionOpen),
        Call::KeepAlive { .. } => Some(Answer::Renewed),
        Call::EndSession { .. } => Some(Answer::SessionEnded),
        Call::Acquire { .. } => {
            // 202 would be a claim that still queues, which no call here asks for.
            let held = matches!(reply.status, StatusCode::CREATED | StatusCode::OK);
            let body: HeldBody = serde_json::from_str(&reply.body).ok().filter(|_| held)?;
            Some(Answer::Held { token: body.fencing_token })
        }
        Call::Release { .. } => Some(Answer::Released),
        Call::LookAtLock { .. } => {
            let body: LockBody = serde_json::from_str(&reply.body).ok()?;
            let holders = body
                .holders
                .into_iter()
                .map(|holder| HeldClaim { claim: ClaimName::new(holder.claim), token: holder.fencing_token });
            Some(Answer::Lock { holders: holders.collect() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Guard, Key, SessionName};

    fn reply(status: u16, body: &str) -> Transmission {
        let status = StatusCode::from_u16(status).unwrap();
        Transmission::Answered(Reply { status, etag: Some(7), body: body.to_owned() })
    }

    fn write() -> Call {
        let guard = Guard { lock: LockName::new("l"), token: 5 };
        let condition = Condition::Revision(3);
        Call::Write { key: Key::new("k"), value: ValueId(9), condition, guard: Some(guard) }
    }

    fn problem(code: &str) -> String {
        json!({ "code": code, "applied": "no" }).to_string()
    }

    #[test]
    fn the_status_law_decides_what_is_known() {
        let refused = |refusal| Outcome::Refused { at_ns: 1, refusal };
        let ok = Outcome::Ok { at_ns: 1, answer: Answer::Written { mod_revision: 7 } };
        let not_served = |problem: &str| refused(Refusal::NotServed { problem: problem.to_owned() });
        for (sent, expected) in [
            (reply(200, ""), ok),
            (reply(412, &problem("revision-mismatch")), refused(Refusal::RevisionMismatch)),
            (reply(412, &problem("stale-token")), refused(Refusal::StaleToken)),
            (reply(503, &problem("no-leader")), not_served("no-leader")),
            (reply(429, &problem("overloaded")), not_served("overloaded")),
            (reply(504, &problem("outcome-unknown")), Outcome::Unknown),
            (reply(500, ""), Outcome::Unknown),
            (Transmission::Lost, Outcome::Unknown),
            (Transmission::NotConnected, not_served("not-connected")),
        ] {
            assert_eq!(outcome(&write(), sent, 1).unwrap(), expected);
        }
    }

    #[test]
    fn an_absent_key_is_an_answer_to_a_read() {
        let read = Call::Read { key: Key::new("k") };
        let found = outcome(&read, reply(404, &problem("key-not-found")), 1).unwrap();
        assert_eq!(found, Outcome::Ok { at_ns: 1, answer: Answer::NoItem });
    }

    #[test]
    fn answers_outside_the_api_are_errors() {
        let maybe = json!({ "code": "revision-mismatch", "applied": "unknown" }).to_string();
        assert!(matches!(
            outcome(&write(), reply(412, &maybe), 1),
            Err(CallError::RefusalMayBeApplied { .. })
        ));
        assert!(matches!(outcome(&write(), reply(409, "oops"), 1), Err(CallError::NotUnderstood { .. })));
        let read = Call::Read { key: Key::new("k") };
        assert!(matches!(outcome(&read, reply(200, "no number"), 1), Err(CallError::NotUnderstood { .. })));
        let (lock, claim) = (LockName::new("l"), ClaimName::new("c"));
        let acquire = Call::Acquire { lock, claim, session: SessionName::new("s"), wait_ms: 0 };
        let queued = reply(202, r#"{"fencing_token":4}"#);
        assert!(matches!(outcome(&acquire, queued, 1), Err(CallError::NotUnderstood { .. })));
    }

    #[test]
    fn a_guarded_cas_is_sent_with_its_headers() {
        let request = request(&Client::new(), "http://127.0.0.1:1", &write()).build().unwrap();
        assert_eq!(request.method(), Method::PUT);
        assert_eq!(request.url().path(), "/v1/namespaces/default/config/k");
        assert_eq!(request.headers()["if-match"], "\"3\"");
        assert_eq!(request.headers()["holdfast-guard"], "lock=l; token=5");
    }
}
