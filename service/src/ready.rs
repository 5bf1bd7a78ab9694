//! Whether this node should get requests, and if not, why: for `/readyz` and for the phase in `GET /v1/cluster`.

use holdfast_api::cluster::Phase;

use crate::drain::Drain;
use crate::raft::{Role, Status};

/// A leader whose last acknowledgement by a majority is older than this does not serve: the longest lease and a round.
const QUORUM_ACK_MS_MAX: u64 = 1_500;
/// A follower that lacks more entries than this is not caught up.
const LAG_MAX: u64 = 1_000;

/// Where the node stands.
pub(crate) fn phase(status: &Status) -> Phase {
    if status.membership.members.is_empty() {
        return Phase::Waiting;
    }
    if !status.membership.members.contains_key(&status.node) && status.membership.committed {
        return Phase::Removed;
    }
    match (status.role, status.leader) {
        (Role::Leader, _) if status.leading.is_none() => Phase::Synchronizing,
        (Role::Leader, _) if status.quorum_ack_ms().is_none_or(|ms| QUORUM_ACK_MS_MAX < ms) => {
            Phase::NoQuorum
        }
        (Role::Leader, _) => Phase::Serving,
        (Role::Follower | Role::Learner, Some(_)) if LAG_MAX < lag(status) => Phase::Synchronizing,
        (Role::Follower | Role::Learner, Some(_)) => Phase::Serving,
        (Role::Follower | Role::Learner | Role::Candidate | Role::Idle, _) => Phase::Electing,
    }
}

fn lag(status: &Status) -> u64 {
    let known = status.committed_index.max(status.last_log_index).unwrap_or(0);
    known.saturating_sub(status.applied_index.unwrap_or(0))
}

/// Why the node should get no requests; nothing when it should.
pub(crate) fn reasons(status: &Status, drain: &Drain) -> Vec<String> {
    let mut reasons = Vec::new();
    if drain.is_leaving() {
        reasons.push("the node is shutting down".to_owned());
    }
    if let Some(fatal) = &status.fatal {
        reasons.push(format!("the consensus stopped: {fatal}"));
    }
    match phase(status) {
        Phase::Serving => {}
        Phase::Waiting => reasons.push("the node belongs to no cluster yet".to_owned()),
        Phase::Electing => reasons.push("the node knows no leader".to_owned()),
        Phase::Synchronizing => reasons.push("the node has not applied what is committed".to_owned()),
        Phase::NoQuorum => reasons.push("no majority answers the leader".to_owned()),
        Phase::Removed => reasons.push("the node was removed from the cluster".to_owned()),
    }
    reasons
}
