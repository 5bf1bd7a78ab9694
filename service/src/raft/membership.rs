//! Carries out one permitted membership step at a time, and finishes what a crash left half done.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use holdfast_core::membership::{Members, Step, StepRefusal, best_successor, permit};
use holdfast_core::{Member, NodeId};
use openraft::ChangeMembers;
use openraft::errors::{ChangeMembershipError, ClientWriteError, InitializeError, RaftError};
use openraft::raft::Precondition;

use crate::raft::handle::Handle;
use crate::raft::status::{Role, Status};
use crate::raft::types::{LogId, TypeConfig};

/// How long a change may take before its outcome is called unknown: two entries and a slow disk.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a transfer may take: the successor needs one election.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a half-done change may stand before it counts as left behind by a crash.
const JOINT_PATIENCE: Duration = Duration::from_secs(2);

/// Why a membership step did not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MembershipError {
    /// This node does not lead: certainly nothing happened.
    #[error("this node does not lead")]
    NotLeading,
    /// The caller saw another membership.
    #[error("the membership is {actual}, the request expects {expected}")]
    Changed {
        /// What the caller saw.
        expected: String,
        /// What there is.
        actual: String,
    },
    /// It is not safe now.
    #[error("{0}")]
    Refused(#[from] StepRefusal),
    /// The node is a member with other addresses, and those never change.
    #[error("node {0} is a member with another name or other addresses")]
    OtherAddress(NodeId),
    /// It may or may not happen.
    #[error("{reason}")]
    Unknown {
        /// What happened.
        reason: String,
    },
}

impl Handle {
    /// Makes this node the only member of a new cluster. Harmless when it is a member already.
    ///
    /// # Errors
    /// [`MembershipError::Unknown`] when the consensus failed.
    pub(crate) async fn initialize(&self, member: Member) -> Result<(), MembershipError> {
        let members = BTreeMap::from([(self.status().node, member)]);
        match self.raft.initialize(members).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(MembershipError::Unknown { reason: error.to_string() }),
        }
    }

    /// Adds a node as a learner. Adding the same one again changes nothing.
    ///
    /// # Errors
    /// [`MembershipError`]; nothing has changed unless it is `Unknown`.
    pub(crate) async fn add_learner(
        &self,
        id: NodeId,
        member: Member,
        expected: &str,
    ) -> Result<(), MembershipError> {
        let status = self.leading()?;
        if let Some(known) = status.membership.members.get(&id) {
            return if *known == member { Ok(()) } else { Err(MembershipError::OtherAddress(id)) };
        }
        let change = ChangeMembers::AddNodes(BTreeMap::from([(id, member)]));
        self.change(Step::AddLearner(id), change, expected, &status).await
    }

    /// Lets a caught-up learner vote. Promoting a voter changes nothing.
    ///
    /// # Errors
    /// As [`Handle::add_learner`].
    pub(crate) async fn promote(&self, id: NodeId, expected: &str) -> Result<(), MembershipError> {
        let status = self.leading()?;
        if !status.membership.is_joint() && status.membership.is_voter(id) {
            return Ok(());
        }
        self.change(Step::Promote(id), ChangeMembers::AddVoterIds(BTreeSet::from([id])), expected, &status)
            .await
    }

    /// Removes a member for ever. A leader that is to go hands over first and leaves the removal to its successor.
    ///
    /// # Errors
    /// As [`Handle::add_learner`]; `NotLeading` after the leadership was handed over.
    pub(crate) async fn remove(&self, id: NodeId, expected: &str) -> Result<(), MembershipError> {
        let status = self.leading()?;
        let ids = BTreeSet::from([id]);
        let change = if status.membership.is_voter(id) {
            ChangeMembers::RemoveVoters(ids)
        } else {
            ChangeMembers::RemoveNodes(ids)
        };
        if id == status.node {
            self.check(Step::Remove(id), expected, &status)?;
            self.transfer(None).await?;
            return Err(MembershipError::NotLeading);
        }
        self.change(Step::Remove(id), change, expected, &status).await
    }

    /// Hands the leadership to a voter, the best one when none is named, and waits until it leads.
    ///
    /// # Errors
    /// [`MembershipError::Refused`] when the voter is not fit; `Unknown` when it did not take over in time.
    pub(crate) async fn transfer(&self, to: Option<NodeId>) -> Result<Status, MembershipError> {
        let status = self.leading()?;
        let members = self.members(&status);
        let to =
            match to {
                Some(to) => {
                    permit(Step::Transfer(to), &members)?;
                    to
                }
                None => best_successor(&members)
                    .ok_or(StepRefusal::NotCaughtUp { node: status.node, lag: 0 })
                    .or_else(|refusal| {
                        if 1 < status.membership.voters().len() { Err(refusal) } else { Ok(status.node) }
                    })?,
            };
        if to == status.node {
            return Ok(Status::clone(&status));
        }
        let unknown = |reason: String| MembershipError::Unknown { reason };
        self.raft.trigger().transfer_leader(to).await.map_err(|fatal| unknown(fatal.to_string()))?;
        let mut watch = self.watch_status();
        let taken_over =
            watch.wait_for(|now| status.term < now.term && now.leader.is_some_and(|l| l != status.node));
        match tokio::time::timeout(TRANSFER_TIMEOUT, taken_over).await {
            Ok(Ok(now)) => Ok(Status::clone(&now)),
            Ok(Err(_)) | Err(_) => Err(unknown(format!("node {to} did not take over in time"))),
        }
    }

    fn leading(&self) -> Result<std::sync::Arc<Status>, MembershipError> {
        let status = self.status();
        if status.leading.is_some() { Ok(status) } else { Err(MembershipError::NotLeading) }
    }

    /// What the rules want to know.
    pub(crate) fn members(&self, status: &Status) -> Members {
        let removed = self.look(|view| view.removed_nodes()).unwrap_or_default().into_iter().collect();
        Members {
            leader: status.node,
            voter_sets: status.membership.voter_sets.clone(),
            nodes: status.membership.members.keys().copied().collect(),
            committed: status.membership.committed,
            removed,
            last_index: status.last_log_index.unwrap_or(0),
            matched: status.matched.iter().map(|(node, index)| (*node, index.unwrap_or(0))).collect(),
            last_ack_ms: status
                .last_acked
                .keys()
                .filter_map(|node| Some((*node, status.last_ack_ms(*node)?)))
                .collect(),
        }
    }

    fn check(&self, step: Step, expected: &str, status: &Status) -> Result<LogId, MembershipError> {
        let changed = || MembershipError::Changed {
            expected: expected.to_owned(),
            actual: status.membership.log_id.clone().unwrap_or_default(),
        };
        if status.membership.log_id.as_deref() != Some(expected) {
            return Err(changed());
        }
        permit(step, &self.members(status))?;
        parse_log_id(expected).ok_or_else(changed)
    }

    async fn change(
        &self,
        step: Step,
        change: ChangeMembers<NodeId, Member>,
        expected: &str,
        status: &Status,
    ) -> Result<(), MembershipError> {
        let expected_id = self.check(step, expected, status)?;
        let preconditions = [Precondition::LastMembershipLogId { last_membership_log_id: Some(expected_id) }];
        let changing = self.raft.change_membership_if(change, false, preconditions);
        let unknown = |reason: String| MembershipError::Unknown { reason };
        match tokio::time::timeout(CHANGE_TIMEOUT, changing).await {
            Err(_) => Err(unknown("no answer from a majority in time".to_owned())),
            Ok(Ok(changed)) => {
                // The next step may follow at once: it must not find this one unfinished.
                let done = log_id_text(&changed.log_id);
                let mut watch = self.watch_status();
                let seen = watch.wait_for(|now| {
                    now.membership.committed && now.membership.log_id.as_ref() == Some(&done)
                });
                // Committed it is either way; only the sight of it may lag.
                let _ = tokio::time::timeout(JOINT_PATIENCE, seen).await;
                Ok(())
            }
            Ok(Err(RaftError::APIError(error))) => Err(match error {
                ClientWriteError::ForwardToLeader(_) => MembershipError::NotLeading,
                ClientWriteError::PreconditionFailed(_) => MembershipError::Changed {
                    expected: expected.to_owned(),
                    actual: self.status().membership.log_id.clone().unwrap_or_default(),
                },
                ClientWriteError::ChangeMembershipError(
                    ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_),
                ) => StepRefusal::ChangeInFlight.into(),
                ClientWriteError::LogEntryDiscarded(_) | ClientWriteError::ChangeMembershipError(_) => {
                    unknown(error.to_string())
                }
            }),
            Ok(Err(RaftError::Fatal(fatal))) => Err(unknown(fatal.to_string())),
        }
    }

    /// Finishes a change whose leader died between its two entries. Runs for the life of the node.
    pub(crate) async fn finish_left_changes(self) {
        let mut watch = self.watch_status();
        let half_done = |status: &Status| {
            status.role == Role::Leader
                && status.leading.is_some()
                && status.membership.is_joint()
                && status.membership.committed
        };
        loop {
            let Ok(found) =
                watch.wait_for(|now| half_done(now)).await.map(|now| now.membership.log_id.clone())
            else {
                return;
            };
            // A change that this node carries out itself is done before this.
            tokio::time::sleep(JOINT_PATIENCE).await;
            let now = self.status();
            if !half_done(&now) || now.membership.log_id != found {
                continue;
            }
            let Some(id) = found.as_deref().and_then(parse_log_id) else { continue };
            let preconditions =
                [Precondition::<TypeConfig>::LastMembershipLogId { last_membership_log_id: Some(id) }];
            let finish = ChangeMembers::AddVoterIds(BTreeSet::new());
            match self.raft.change_membership_if(finish, false, preconditions).await {
                Ok(_) => {
                    tracing::info!(membership = found, "finished a membership change that was left half done")
                }
                Err(error) => {
                    tracing::warn!(%error, "a membership change is half done and cannot be finished yet")
                }
            }
        }
    }
}

/// A log id as clients compare it.
pub(super) fn log_id_text(id: &LogId) -> String {
    let leader = id.committed_leader_id();
    format!("{}-{}-{}", leader.term, leader.node_id, id.index())
}

/// The log id of such a text.
fn parse_log_id(text: &str) -> Option<LogId> {
    let mut parts = text.splitn(3, '-');
    let (term, node, index) = (parts.next()?, parts.next()?, parts.next()?);
    Some(super::types::log_id(term.parse().ok()?, node.parse().ok()?, index.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{log_id_text, parse_log_id};

    #[test]
    fn a_membership_log_id_reads_back_from_its_text() {
        let text = "7-00000000000000ab-42";
        assert_eq!(log_id_text(&parse_log_id(text).unwrap()), text);
        for bad in ["", "7", "7-ab-42", "7-00000000000000ab-", "x-00000000000000ab-1"] {
            assert_eq!(parse_log_id(bad), None, "{bad}");
        }
    }
}
