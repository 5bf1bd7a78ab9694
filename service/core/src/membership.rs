//! Whether one step of a membership change is safe now. Pure: the caller says what the leader sees.
//!
//! One change at a time, from one committed membership to the next, and never one that the voters who answer could not
//! carry (Ongaro, "Consensus: Bridging Theory and Practice", chapter 4).

use std::collections::{BTreeMap, BTreeSet};

use crate::NodeId;

/// A learner is caught up when it lacks at most this many entries: less than a second of a busy log.
pub const CAUGHT_UP_LAG_MAX: u64 = 1_000;
/// A member that has not answered for this long does not count as live: three heartbeats of the slowest setting, and more.
pub const LIVE_ACK_MS_MAX: u64 = 3_000;

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Adds a node that copies the log and does not vote.
    AddLearner(NodeId),
    /// Lets a learner vote.
    Promote(NodeId),
    /// Removes a member for ever.
    Remove(NodeId),
    /// Hands the leadership to a voter.
    Transfer(NodeId),
}

/// What the leader sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    /// The leader.
    pub leader: NodeId,
    /// The sets of voters: one, or two while a change is under way.
    pub voter_sets: Vec<BTreeSet<NodeId>>,
    /// Everybody, learners included.
    pub nodes: BTreeSet<NodeId>,
    /// Whether the membership's entry is committed.
    pub committed: bool,
    /// Ids that were removed.
    pub removed: BTreeSet<NodeId>,
    /// The last index of the leader's log.
    pub last_index: u64,
    /// The last index that each member has.
    pub matched: BTreeMap<NodeId, u64>,
    /// Milliseconds since each member answered.
    pub last_ack_ms: BTreeMap<NodeId, u64>,
}

/// Why a step is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepRefusal {
    /// Another change is not finished.
    #[error("another membership change is not finished")]
    ChangeInFlight,
    /// The node is no member.
    #[error("node {0} is not a member")]
    NotMember(NodeId),
    /// The id was removed and is refused for ever.
    #[error("node {0} was removed; a node that comes back is a new one with a new id and an empty disk")]
    Removed(NodeId),
    /// The node does not vote.
    #[error("node {0} does not vote")]
    NotVoter(NodeId),
    /// The node lacks too much of the log, or does not answer.
    #[error(
        "node {node} lacks {lag} entries, at most {CAUGHT_UP_LAG_MAX} are allowed, or has not answered lately"
    )]
    NotCaughtUp {
        /// The node.
        node: NodeId,
        /// What it lacks.
        lag: u64,
    },
    /// The voters after the step could not commit anything.
    #[error("after the step {live} of {voters} voters would answer, {needed} are needed")]
    WouldLoseQuorum {
        /// Voters that answer.
        live: usize,
        /// Voters after the step.
        voters: usize,
        /// A majority of them.
        needed: usize,
    },
    /// The only voter stays.
    #[error("the last voter cannot be removed")]
    LastVoter,
}

/// Whether the step is safe now. A step that changes nothing is permitted.
///
/// # Errors
/// [`StepRefusal`] says why it is not.
pub fn permit(step: Step, members: &Members) -> Result<(), StepRefusal> {
    let [voters] = members.voter_sets.as_slice() else { return Err(StepRefusal::ChangeInFlight) };
    if !members.committed {
        return Err(StepRefusal::ChangeInFlight);
    }
    match step {
        Step::AddLearner(node) if members.removed.contains(&node) => Err(StepRefusal::Removed(node)),
        Step::AddLearner(_) => Ok(()),
        Step::Promote(node) => {
            member(node, members)?;
            if voters.contains(&node) {
                return Ok(());
            }
            caught_up(node, members)?;
            let after = voters.iter().copied().chain([node]).collect();
            keeps_quorum(&after, members)
        }
        Step::Remove(node) => {
            member(node, members)?;
            if !voters.contains(&node) {
                return Ok(());
            }
            let after: BTreeSet<NodeId> = voters.iter().copied().filter(|voter| *voter != node).collect();
            if after.is_empty() {
                return Err(StepRefusal::LastVoter);
            }
            keeps_quorum(&after, members)
        }
        Step::Transfer(node) => {
            member(node, members)?;
            if !voters.contains(&node) {
                return Err(StepRefusal::NotVoter(node));
            }
            caught_up(node, members)
        }
    }
}

fn member(node: NodeId, members: &Members) -> Result<(), StepRefusal> {
    if members.nodes.contains(&node) { Ok(()) } else { Err(StepRefusal::NotMember(node)) }
}

fn is_live(node: NodeId, members: &Members) -> bool {
    node == members.leader || members.last_ack_ms.get(&node).is_some_and(|ms| *ms <= LIVE_ACK_MS_MAX)
}

fn caught_up(node: NodeId, members: &Members) -> Result<(), StepRefusal> {
    let matched = if node == members.leader {
        members.last_index
    } else {
        members.matched.get(&node).copied().unwrap_or(0)
    };
    let lag = members.last_index.saturating_sub(matched);
    if lag <= CAUGHT_UP_LAG_MAX && is_live(node, members) {
        Ok(())
    } else {
        Err(StepRefusal::NotCaughtUp { node, lag })
    }
}

fn keeps_quorum(voters: &BTreeSet<NodeId>, members: &Members) -> Result<(), StepRefusal> {
    let live = voters.iter().filter(|voter| is_live(**voter, members)).count();
    let needed = voters.len() / 2 + 1;
    if needed <= live {
        Ok(())
    } else {
        Err(StepRefusal::WouldLoseQuorum { live, voters: voters.len(), needed })
    }
}

/// The voter to hand the leadership to: live, caught up, with the most of the log; none when there is no such.
#[must_use]
pub fn best_successor(members: &Members) -> Option<NodeId> {
    let candidates = members.voter_sets.iter().flatten().copied().filter(|node| *node != members.leader);
    candidates
        .filter(|node| permit(Step::Transfer(*node), members).is_ok())
        .max_by_key(|node| (members.matched.get(node).copied().unwrap_or(0), *node))
}

#[cfg(test)]
mod tests {
    use super::{Members, Step, StepRefusal, best_successor, permit};
    use crate::NodeId;
    use std::collections::BTreeSet;

    fn id(n: u64) -> NodeId {
        NodeId::new(n).unwrap()
    }

    /// Leader 1, voters 1 to `voters`, everybody live and caught up.
    fn cluster(voters: u64, learners: u64) -> Members {
        let voter_ids: BTreeSet<NodeId> = (1..=voters).map(id).collect();
        let nodes: BTreeSet<NodeId> = (1..=voters + learners).map(id).collect();
        Members {
            leader: id(1),
            voter_sets: vec![voter_ids],
            matched: nodes.iter().map(|node| (*node, 5_000)).collect(),
            last_ack_ms: nodes.iter().map(|node| (*node, 50)).collect(),
            nodes,
            committed: true,
            removed: BTreeSet::new(),
            last_index: 5_000,
        }
    }

    #[test]
    fn nothing_is_permitted_while_a_change_is_under_way() {
        let mut joint = cluster(3, 1);
        joint.voter_sets.push(BTreeSet::from([id(1)]));
        let mut uncommitted = cluster(3, 1);
        uncommitted.committed = false;
        for members in [joint, uncommitted] {
            for step in
                [Step::AddLearner(id(9)), Step::Promote(id(4)), Step::Remove(id(2)), Step::Transfer(id(2))]
            {
                assert_eq!(permit(step, &members), Err(StepRefusal::ChangeInFlight));
            }
        }
    }

    #[test]
    fn a_learner_is_promoted_only_when_it_has_the_log_and_answers() {
        let mut members = cluster(2, 1);
        assert_eq!(permit(Step::Promote(id(3)), &members), Ok(()));
        members.matched.insert(id(3), 3_999);
        assert_eq!(
            permit(Step::Promote(id(3)), &members),
            Err(StepRefusal::NotCaughtUp { node: id(3), lag: 1_001 })
        );
        members.matched.insert(id(3), 5_000);
        members.last_ack_ms.insert(id(3), 3_001);
        assert_eq!(
            permit(Step::Promote(id(3)), &members),
            Err(StepRefusal::NotCaughtUp { node: id(3), lag: 0 })
        );
        assert_eq!(permit(Step::Promote(id(8)), &members), Err(StepRefusal::NotMember(id(8))));
    }

    #[test]
    fn a_removal_that_the_remaining_voters_could_not_carry_is_refused() {
        let mut members = cluster(3, 0);
        members.last_ack_ms.insert(id(3), 60_000);
        assert_eq!(permit(Step::Remove(id(3)), &members), Ok(()), "the dead one may go");
        let refusal = StepRefusal::WouldLoseQuorum { live: 1, voters: 2, needed: 2 };
        assert_eq!(permit(Step::Remove(id(2)), &members), Err(refusal), "a live one may not");
        assert_eq!(permit(Step::Remove(id(1)), &cluster(1, 1)), Err(StepRefusal::LastVoter));
        assert_eq!(permit(Step::Remove(id(2)), &cluster(1, 1)), Ok(()), "a learner may");
    }

    #[test]
    fn a_removed_id_never_comes_back() {
        let mut members = cluster(1, 0);
        members.removed.insert(id(7));
        assert_eq!(permit(Step::AddLearner(id(7)), &members), Err(StepRefusal::Removed(id(7))));
    }

    #[test]
    fn the_successor_is_the_live_voter_with_the_longest_log() {
        let mut members = cluster(4, 1);
        members.matched.insert(id(2), 4_990);
        members.matched.insert(id(4), 4_000);
        members.last_ack_ms.insert(id(3), 10_000);
        assert_eq!(best_successor(&members), Some(id(2)));
        assert_eq!(permit(Step::Transfer(id(5)), &members), Err(StepRefusal::NotVoter(id(5))));
        assert_eq!(best_successor(&cluster(1, 3)), None);
    }
}
