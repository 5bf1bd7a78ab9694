//! Evidence that must not be taken for a violation, and what the recordings cannot show.

use crate::history::{
    Answer, Call, ClaimName, ClientId, End, EndCause, Grant, History, Ledger, LockName, Operation, Outcome,
    Refusal, Rule, SessionEnd, SessionName, Wait, check_contract,
};

const MS: u64 = 1_000_000;

fn operation(invoked_ms: u64, call: Call, outcome: Outcome) -> Operation {
    Operation { client: ClientId(1), invoked_ns: invoked_ms * MS, call, outcome }
}

fn ok(at_ms: u64, answer: Answer) -> Outcome {
    Outcome::Ok { at_ns: at_ms * MS, answer }
}

fn rules(operations: Vec<Operation>, ledger: &Ledger) -> Vec<Rule> {
    check_contract(&History { operations }, ledger).into_iter().map(|violation| violation.rule).collect()
}

fn session() -> SessionName {
    SessionName::new("s")
}

fn grant(claim: &str, token: u64, enqueued_revision: u64, ended: Option<(u64, EndCause)>) -> Grant {
    Grant {
        lock: LockName::new("l"),
        claim: ClaimName::new(claim),
        session: SessionName::new(format!("of-{claim}")),
        token,
        enqueued_revision,
        ended: ended.map(|(revision, cause)| End { revision, cause }),
    }
}

#[test]
fn a_deleted_session_may_be_over_before_its_ttl() {
    let expired = Outcome::Refused { at_ns: 9 * MS, refusal: Refusal::SessionExpired };
    let open =
        operation(0, Call::OpenSession { session: session(), ttl_ms: 1_000 }, ok(1, Answer::SessionOpen));
    let renewal = operation(8, Call::KeepAlive { session: session() }, expired);
    let deletion = operation(5, Call::EndSession { session: session() }, Outcome::Unknown);
    let with_deletion = vec![open.clone(), deletion, renewal.clone()];
    assert_eq!(rules(with_deletion, &Ledger::default()), []);
    assert_eq!(rules(vec![open, renewal], &Ledger::default()), [Rule::L4]);
}

#[test]
fn a_renewal_counts_only_when_it_was_answered() {
    let at = |outcome: Outcome| {
        let expired = Outcome::Refused { at_ns: 150 * MS, refusal: Refusal::SessionExpired };
        let operations = vec![
            operation(0, Call::OpenSession { session: session(), ttl_ms: 100 }, ok(1, Answer::SessionOpen)),
            operation(90, Call::KeepAlive { session: session() }, outcome),
            operation(149, Call::KeepAlive { session: session() }, expired),
        ];
        rules(operations, &Ledger::default())
    };
    assert_eq!(at(Outcome::Unknown), []);
    assert_eq!(at(ok(91, Answer::Renewed)), [Rule::L4]);
}

#[test]
fn a_claim_that_left_the_queue_is_not_overtaken() {
    let released = |claim: &str| EndCause::Released { claim: ClaimName::new(claim) };
    let grants = vec![grant("a", 10, 10, Some((20, released("a")))), grant("c", 21, 12, None)];
    let wait = |left_revision| Wait {
        lock: LockName::new("l"),
        claim: ClaimName::new("b"),
        enqueued_revision: 11,
        left_revision,
    };
    let ledger = |left| Ledger { grants: grants.clone(), waits: vec![wait(left)], session_ends: vec![] };
    assert_eq!(rules(vec![], &ledger(Some(15))), []);
    assert_eq!(rules(vec![], &ledger(Some(30))), [Rule::L6]);
    assert_eq!(rules(vec![], &ledger(None)), [Rule::L6]);
}

#[test]
fn an_expired_claim_ends_with_its_session_and_then_the_lock_moves_on() {
    let ledger = |session_end: u64, next: u64| Ledger {
        grants: vec![grant("a", 10, 10, Some((15, EndCause::Expired))), grant("b", next, 11, None)],
        waits: vec![],
        session_ends: vec![SessionEnd { session: SessionName::new("of-a"), revision: session_end }],
    };
    assert_eq!(rules(vec![], &ledger(15, 16)), []);
    assert_eq!(rules(vec![], &ledger(17, 16)), [Rule::L5]);
    assert_eq!(rules(vec![], &ledger(15, 14)), [Rule::L1]);
}

#[test]
fn a_claim_is_granted_once_in_the_ledger() {
    let grants = vec![grant("a", 10, 10, Some((15, EndCause::Forced))), grant("a", 16, 11, None)];
    let ledger = Ledger { grants, ..Ledger::default() };
    assert_eq!(rules(vec![], &ledger), [Rule::L8]);
}
