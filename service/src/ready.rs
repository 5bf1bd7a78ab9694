//! Whether this node should get requests, and if not, why: for `/readyz` and for the phase in `GET /v1/cluster`.

use std::time::Duration;

use holdfast_api::cluster::Phase;
use holdfast_core::NodeId;

use crate::drain::Drain;
use crate::raft::{Handle, Role, Status};

/// A follower that lacks more entries than this is not caught up.
const LAG_MAX: u64 = 1_000;

/// What a node knows of its place in the cluster.
pub(crate) struct Sight<'a> {
    status: &'a Status,
    leader_silence: Option<Duration>,
    /// A leader that a majority, or a follower that its leader, did not speak to for longer does not serve.
    silence_max: Duration,
}

impl<'a> Sight<'a> {
    /// The sight of a node at one moment; `election_ms_max` is the lease of a leader.
    pub(crate) fn new(handle: &Handle, status: &'a Status, election_ms_max: u64) -> Self {
        // Two leases: one may pass in an election that goes well.
        let silence_max = Duration::from_millis(2 * election_ms_max);
        Self { status, leader_silence: handle.leader_silence(), silence_max }
    }

    /// Where the node stands.
    pub(crate) fn phase(&self) -> Phase {
        let status = self.status;
        if status.membership.members.is_empty() {
            return Phase::Waiting;
        }
        if !status.membership.members.contains_key(&status.node) && status.membership.committed {
            return Phase::Removed;
        }
        let quorum_is_silent =
            status.quorum_ack_ms().is_none_or(|ms| self.silence_max < Duration::from_millis(ms));
        match (status.role, self.leader()) {
            (Role::Leader, _) if status.leading.is_none() => Phase::Synchronizing,
            (Role::Leader, _) if quorum_is_silent => Phase::NoQuorum,
            (Role::Leader, _) => Phase::Serving,
            (Role::Follower | Role::Learner, Some(_)) if LAG_MAX < self.lag() => Phase::Synchronizing,
            (Role::Follower | Role::Learner, Some(_)) => Phase::Serving,
            (Role::Follower | Role::Learner | Role::Candidate | Role::Idle, _) => Phase::Electing,
        }
    }

    /// The leader that this node is, or follows and still hears: the consensus remembers a dead one until it knows another.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let heard = self.leader_silence.is_some_and(|silence| silence <= self.silence_max);
        self.status.leader.filter(|leader| *leader == self.status.node || heard)
    }

    fn lag(&self) -> u64 {
        let known = self.status.committed_index.max(self.status.last_log_index).unwrap_or(0);
        known.saturating_sub(self.status.applied_index.unwrap_or(0))
    }

    /// Why the node should get no requests; nothing when it should.
    pub(crate) fn unready(&self, drain: &Drain) -> Vec<String> {
        let mut reasons = Vec::new();
        if drain.is_leaving() {
            reasons.push("the node is shutting down".to_owned());
        }
        if let Some(fatal) = &self.status.fatal {
            reasons.push(format!("the consensus stopped: {fatal}"));
        }
        match self.phase() {
            Phase::Serving => {}
            Phase::Waiting => reasons.push("the node belongs to no cluster yet".to_owned()),
            Phase::Electing => reasons.push("the node hears no leader".to_owned()),
            Phase::Synchronizing => reasons.push("the node has not applied what is committed".to_owned()),
            Phase::NoQuorum => reasons.push("no majority answers the leader".to_owned()),
            Phase::Removed => reasons.push("the node was removed from the cluster".to_owned()),
        }
        reasons
    }
}
