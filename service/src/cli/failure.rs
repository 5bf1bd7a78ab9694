//! The one place that says what a failed call means: its exit code, and what to do about it.

use std::error::Error;

use holdfast_api::client::{AttemptError, ClientError};
use holdfast_api::{Applied, ErrorCode, Problem};

use crate::cli::duration;
use crate::cli::output::printable;
use crate::exit::Ending;

/// The exit codes of client commands, for the help.
pub(super) fn exit_codes() -> String {
    let mut text = "Exit codes:\n  0  done\n".to_owned();
    for ending in Ending::OF_CLIENT_COMMANDS {
        text.push_str(&format!("  {}  {}\n", ending.code(), meaning(ending)));
    }
    text.push_str(
        "\n`lock run` and `elect run` end with the exit code of the command that they run, or with 120 to 127;\n\
         `dev` and `serve` have codes of their own, and say on standard error why they end.",
    );
    text
}

/// What an exit code tells a script. Only client commands end in these ways.
const fn meaning(ending: Ending) -> &'static str {
    match ending {
        Ending::Refused => {
            "the answer is no (`config diff` found differences), or refused for another reason"
        }
        Ending::Usage => "the command line is wrong",
        Ending::NotFound => "not found, or gone",
        Ending::Conflict => "in conflict with what is there, or the condition does not hold",
        Ending::Unavailable => "no answer, not in time, or nobody knows whether it was done",
        Ending::Denied => "not allowed",
        Ending::Held => "somebody else holds the lock",
        Ending::ReaderGone
        | Ending::DataInUse
        | Ending::DataUnwritable
        | Ending::DataForeign
        | Ending::DataNewer
        | Ending::DataOlder
        | Ending::DataDamaged
        | Ending::AddressInUse
        | Ending::StorageFailed
        | Ending::ConsensusStopped => "",
    }
}

/// How a client command ends after this.
pub(super) fn ending(error: &ClientError) -> Ending {
    match error {
        ClientError::Problem(problem) => ending_of(problem.code()),
        // What answers is not this service, so the service was not reached.
        ClientError::OutcomeUnknown { .. }
        | ClientError::Unreachable { .. }
        | ClientError::Protocol { .. } => Ending::Unavailable,
        ClientError::InvalidRequest(_) => Ending::Usage,
    }
}

/// How a client command ends that was refused with this code.
const fn ending_of(code: ErrorCode) -> Ending {
    match code {
        ErrorCode::InvalidJson
        | ErrorCode::InvalidField
        | ErrorCode::InvalidName
        | ErrorCode::InvalidHeader
        | ErrorCode::OutOfRange => Ending::Usage,
        ErrorCode::Unauthenticated | ErrorCode::Forbidden => Ending::Denied,
        ErrorCode::NamespaceNotFound
        | ErrorCode::SessionNotFound
        | ErrorCode::ClaimNotFound
        | ErrorCode::KeyNotFound
        | ErrorCode::MemberNotFound
        | ErrorCode::ClaimEnded
        | ErrorCode::SessionExpired => Ending::NotFound,
        ErrorCode::LockHeld => Ending::Held,
        ErrorCode::SessionExists
        | ErrorCode::ClaimConflict
        | ErrorCode::LockModeConflict
        | ErrorCode::WouldDeadlock
        | ErrorCode::NamespaceNotEmpty
        | ErrorCode::IdempotencyInFlight
        | ErrorCode::IdempotencyKeyReused
        | ErrorCode::AlreadyBootstrapped
        | ErrorCode::ChangeInFlight
        | ErrorCode::NotCaughtUp
        | ErrorCode::WouldLoseQuorum
        | ErrorCode::LastVoter
        | ErrorCode::RevisionMismatch
        | ErrorCode::StaleToken
        | ErrorCode::TokenMismatch
        | ErrorCode::MembershipChanged => Ending::Conflict,
        ErrorCode::WaitTimeout
        | ErrorCode::QueueFull
        | ErrorCode::Overloaded
        | ErrorCode::NoLeader
        | ErrorCode::ShuttingDown
        | ErrorCode::NotBootstrapped
        | ErrorCode::RevisionNotReached
        | ErrorCode::OutcomeUnknown
        | ErrorCode::DiskReserve => Ending::Unavailable,
        // A revision that cannot be read is not an absent key: a script must be able to tell the two apart.
        ErrorCode::FutureRevision
        | ErrorCode::RevisionCompacted
        | ErrorCode::HistoryChanged
        | ErrorCode::TooLarge
        | ErrorCode::RouteNotFound
        | ErrorCode::MethodNotAllowed
        | ErrorCode::UnsupportedMediaType => Ending::Refused,
    }
}

/// What happened, with what the service told beside its message.
pub(super) fn account(error: &ClientError) -> String {
    let mut text = error.to_string();
    match error {
        ClientError::Problem(problem) => {
            text.push_str(&holders(problem));
            if problem.applied == Applied::Unknown {
                text.push_str("\n  beware: an earlier attempt of the same request may have been carried out");
            }
        }
        ClientError::OutcomeUnknown { last, .. } | ClientError::Unreachable { last, .. } => {
            text.push_str(&root_cause(last).map(|cause| format!(": {cause}")).unwrap_or_default());
        }
        ClientError::Protocol { .. } | ClientError::InvalidRequest(_) => {}
    }
    text
}

/// What is at the bottom of a failed attempt, such as "Connection refused".
fn root_cause(attempt: &AttemptError) -> Option<String> {
    // The attempt's own source is part of its message.
    let mut cause = attempt.source()?.source()?;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Some(cause.to_string())
}

/// Who holds the lock that was asked for.
fn holders(problem: &Problem) -> String {
    let mut text = String::new();
    for holder in problem.holders.iter().flatten() {
        text.push_str(&format!(
            "\n  held by {}, for {}, token {}",
            printable(holder.known_as()),
            duration::brief(holder.held_ms),
            holder.fencing_token
        ));
    }
    text
}

/// What to do about it, where there is more to say than the message does.
pub(super) fn advice(error: &ClientError) -> Option<&'static str> {
    match error {
        ClientError::Problem(problem) => advice_on(problem.code()),
        ClientError::Unreachable { .. } => Some(
            "check that the node runs and that this is the address of its API; --endpoint or HOLDFAST_ENDPOINT names it",
        ),
        ClientError::OutcomeUnknown { .. } => {
            Some("it may have happened or may still happen: look first, before you try again")
        }
        ClientError::Protocol { .. } => Some("check that this is the API of a Holdfast node"),
        ClientError::InvalidRequest(_) => None,
    }
}

const fn advice_on(code: ErrorCode) -> Option<&'static str> {
    Some(match code {
        ErrorCode::NamespaceNotFound => {
            "`holdfast namespace list` shows the namespaces, `holdfast namespace create NAME` makes one; -n or \
             HOLDFAST_NAMESPACE names it"
        }
        ErrorCode::SessionNotFound | ErrorCode::SessionExpired => {
            "`holdfast session list` shows the sessions that live"
        }
        ErrorCode::KeyNotFound => "`holdfast config list` shows the keys",
        ErrorCode::MemberNotFound => "`holdfast cluster status` lists the members",
        ErrorCode::NamespaceNotEmpty => "delete its keys and end its claims first",
        ErrorCode::LockHeld => "`holdfast lock get NAME` shows who holds it and who waits",
        ErrorCode::TokenMismatch => "`holdfast lock get NAME` shows the token that holds it, if any does",
        ErrorCode::RevisionMismatch => "read it again, and decide anew",
        ErrorCode::AlreadyBootstrapped => {
            "`holdfast cluster add` makes other nodes join that cluster; a new cluster needs a node with an empty data \
             directory"
        }
        ErrorCode::ChangeInFlight => "wait a moment and try again; only one change happens at a time",
        ErrorCode::MembershipChanged => {
            "look at `holdfast cluster status`, and try again if the change is still wanted"
        }
        ErrorCode::NotCaughtUp => {
            "wait until `holdfast cluster status` shows the member healthy and with a small lag"
        }
        ErrorCode::WouldLoseQuorum => {
            "bring back the members that do not answer, or remove those first; `holdfast cluster status` names them"
        }
        ErrorCode::LastVoter => "add and promote another node first",
        ErrorCode::NoLeader => {
            "a majority of the voters must run and reach one another; `holdfast cluster status` shows what one node sees"
        }
        ErrorCode::NotBootstrapped => {
            "`holdfast cluster bootstrap` begins a cluster, `holdfast cluster add` makes the node join one"
        }
        ErrorCode::OutcomeUnknown => {
            "it may have happened or may still happen: look first, before you try again"
        }
        ErrorCode::RouteNotFound | ErrorCode::MethodNotAllowed => {
            "the node may be older than this program: compare `holdfast --version` with what runs there"
        }
        ErrorCode::InvalidJson
        | ErrorCode::InvalidField
        | ErrorCode::InvalidName
        | ErrorCode::InvalidHeader
        | ErrorCode::FutureRevision
        | ErrorCode::Unauthenticated
        | ErrorCode::Forbidden
        | ErrorCode::ClaimNotFound
        | ErrorCode::WaitTimeout
        | ErrorCode::SessionExists
        | ErrorCode::ClaimConflict
        | ErrorCode::LockModeConflict
        | ErrorCode::WouldDeadlock
        | ErrorCode::IdempotencyInFlight
        | ErrorCode::ClaimEnded
        | ErrorCode::RevisionCompacted
        | ErrorCode::HistoryChanged
        | ErrorCode::TooLarge
        | ErrorCode::StaleToken
        | ErrorCode::UnsupportedMediaType
        | ErrorCode::OutOfRange
        | ErrorCode::IdempotencyKeyReused
        | ErrorCode::QueueFull
        | ErrorCode::Overloaded
        | ErrorCode::ShuttingDown
        | ErrorCode::RevisionNotReached
        | ErrorCode::DiskReserve => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_ends_with_a_documented_exit_code() {
        let text = exit_codes();
        for code in ErrorCode::ALL {
            let exit_code = ending(&Problem::new(code, "x").into()).code();
            assert!((1..=7).contains(&exit_code), "{code}: {exit_code}");
            assert!(text.contains(&format!("\n  {exit_code}  ")), "{code}: {text}");
        }
        assert!(!text.contains("  \n"), "an exit code without a meaning: {text}");
    }

    #[test]
    fn a_held_lock_is_told_apart_from_an_absent_thing_and_a_broken_condition() {
        let exit_code = |code| ending(&Problem::new(code, "x").into()).code();
        assert_eq!(exit_code(ErrorCode::LockHeld), 7);
        assert_eq!(exit_code(ErrorCode::KeyNotFound), 3);
        assert_eq!(exit_code(ErrorCode::RevisionMismatch), 4);
        assert_eq!(exit_code(ErrorCode::NoLeader), 5);
        assert_eq!(exit_code(ErrorCode::Forbidden), 6);
        assert_eq!(exit_code(ErrorCode::InvalidName), 2);
    }
}
