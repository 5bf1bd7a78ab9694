//! A cluster as the command line works with it: over the client alone, with errors that a person can act on.

use std::fmt;
use std::time::{Duration, Instant};

use holdfast_api::ErrorCode;
use holdfast_api::client::{Client, ClientError};
use holdfast_api::cluster::{
    AddMemberRequest, ClusterView, JoinRole, MemberRole, MemberView, MembershipView, NodeId, NodeView,
    PromoteRequest,
};

use crate::cli::target::Endpoints;
use crate::exit::{Ending, Fatal};

/// How long a look may take before it is given up.
const LOOK_DEADLINE: Duration = Duration::from_secs(5);
/// How long the leader itself is asked; without its view there is still that of the node that answered.
const LEADER_DEADLINE: Duration = Duration::from_secs(2);
/// Pause between two looks at a node that is catching up.
const JOIN_LOOK_PERIOD: Duration = Duration::from_millis(50);
/// How long nothing may change while a node joins.
const JOIN_PATIENCE: Duration = Duration::from_secs(60);

/// What a joining node is to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// A member that copies the log.
    Learner,
    /// A member that votes.
    Voter,
}

/// How far a node is that joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Joining {
    name: String,
    is_member: bool,
    /// How many entries of the log it has still to copy, if the leader said.
    pub(super) lag: Option<u64>,
}

impl Joining {
    fn of(node: &NodeView, member: Option<&MemberView>) -> Self {
        let name = node.name.clone();
        Self { name, is_member: member.is_some(), lag: member.and_then(|member| member.lag) }
    }
}

impl fmt::Display for Joining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, is_member, lag } = self;
        match lag {
            _ if !is_member => write!(f, "{name}: added as a learner"),
            Some(lag) => write!(f, "{name}: learner, {lag} entries behind"),
            None => write!(f, "{name}: learner"),
        }
    }
}

/// A cluster behind some endpoints.
#[derive(Debug)]
pub(super) struct Cluster {
    endpoints: Endpoints,
}

impl Cluster {
    /// The cluster behind these endpoints; nothing is sent yet.
    ///
    /// # Errors
    /// As [`Endpoints::at`].
    pub(super) fn at(endpoints: &[String]) -> Result<Self, Fatal> {
        Endpoints::at(endpoints).map(Self::behind)
    }

    /// The cluster behind these endpoints.
    pub(super) const fn behind(endpoints: Endpoints) -> Self {
        Self { endpoints }
    }

    /// The client, for calls of which there is no more to say.
    pub(super) const fn client(&self) -> &Client {
        self.endpoints.client()
    }

    /// As [`Endpoints::failed`].
    pub(super) fn failed(&self, what: &str, error: &ClientError) -> Fatal {
        self.endpoints.failed(what, error)
    }

    /// As [`Endpoints::refused`].
    pub(super) fn refused(&self, ending: Ending, what: &str, why: &str, advice: &str) -> Fatal {
        self.endpoints.refused(ending, what, why, advice)
    }

    /// The cluster as the endpoint that answers sees it.
    ///
    /// # Errors
    /// [`Fatal`] when none answers.
    pub(super) async fn view(&self) -> Result<ClusterView, Fatal> {
        let answer = self.client().with_deadline(LOOK_DEADLINE).cluster().await;
        Ok(answer.map_err(|error| self.failed("look at the cluster", &error))?.value)
    }

    /// The same, with the members as the leader sees them if it can be asked: only it knows how they do.
    ///
    /// # Errors
    /// As [`Cluster::view`].
    pub(super) async fn view_with_health(&self) -> Result<ClusterView, Fatal> {
        let mut view = self.view().await?;
        if let Some(led) = leader_view(&view).await {
            view.members = led.members;
            view.membership_log_id = led.membership_log_id;
            view.joint = led.joint;
            view.removed = led.removed;
        }
        Ok(view)
    }

    /// The membership that a change starts from, as the server compares it.
    ///
    /// # Errors
    /// [`Fatal`] when there is no cluster yet.
    pub(super) async fn membership(&self, what: &str) -> Result<(ClusterView, String), Fatal> {
        let view = self.view_with_health().await?;
        match view.membership_log_id.clone() {
            Some(expected) => Ok((view, expected)),
            None => Err(self.refused(
                Ending::Unavailable,
                what,
                &format!("node {} ({}) belongs to no cluster yet", view.name, view.node_id),
                "`holdfast cluster bootstrap` begins a cluster; to use one that exists, name one of its members by --endpoint",
            )),
        }
    }

    /// The member that a person names, by id or by a name that only one member has.
    ///
    /// # Errors
    /// [`Fatal`] lists the members when none or several fit.
    pub(super) fn member<'a>(
        &self,
        view: &'a ClusterView,
        what: &str,
        named: &str,
    ) -> Result<&'a MemberView, Fatal> {
        let by_id =
            named.parse::<NodeId>().ok().and_then(|id| view.members.iter().find(|member| member.id == id));
        let mut by_name = view.members.iter().filter(|member| member.name == named);
        let members = || {
            let each = view.members.iter().map(|member| format!("{} ({})", member.name, member.id));
            each.collect::<Vec<_>>().join(", ")
        };
        match (by_id, by_name.next(), by_name.next()) {
            (Some(member), _, _) | (None, Some(member), None) => Ok(member),
            (None, None, _) => Err(self.refused(
                Ending::NotFound,
                what,
                &format!("no member has the id or the name {named}"),
                &format!("name one of the members: {}", members()),
            )),
            (None, Some(_), Some(_)) => Err(self.refused(
                Ending::Usage,
                what,
                &format!("several members are named {named}"),
                &format!("say which by its id: {}", members()),
            )),
        }
    }

    /// Makes a node a member, step by step, and tells how far it is. A node that is one already stays one.
    ///
    /// # Errors
    /// [`Fatal`] when a step is refused for good, or when nothing changes for long.
    pub(super) async fn join(
        &self,
        node: &NodeView,
        goal: Goal,
        mut tell: impl FnMut(&Joining),
    ) -> Result<MembershipView, Fatal> {
        let what = format!("add {} ({}, {})", node.name, node.id, node.api);
        let mut seen = None;
        let mut seen_at = Instant::now();
        loop {
            let (view, expected) = self.membership(&what).await?;
            if view.removed.contains(&node.id) {
                return Err(self.refused(
                    Ending::Conflict,
                    &what,
                    "it was removed from this cluster, for ever",
                    "start it on an empty data directory, as a new node",
                ));
            }
            let member = view.members.iter().find(|member| member.id == node.id);
            let settled = view.joint.is_none();
            let step = match member {
                Some(MemberView { role: MemberRole::Voter | MemberRole::Observer, .. }) if settled => None,
                Some(_) if goal == Goal::Learner => None,
                Some(member) if member.role == MemberRole::Learner => {
                    let request = PromoteRequest { expected_membership_log_id: expected.clone() };
                    Some(self.client().promote_member(node.id, &request).await)
                }
                // A change that is half done finishes by itself.
                Some(_) => Some(Err(change_in_flight())),
                None => Some(self.client().add_member(&join_request(node, expected.clone())).await),
            };
            match step {
                None => return Ok(MembershipView { membership_log_id: expected, members: view.members }),
                Some(Ok(_)) => {}
                Some(Err(error)) if goal == Goal::Voter && passes(&error) => {}
                Some(Err(error)) => return Err(self.failed(&what, &error)),
            }
            let now = Joining::of(node, member);
            if seen.as_ref() != Some(&now) {
                tell(&now);
                (seen, seen_at) = (Some(now), Instant::now());
            } else if JOIN_PATIENCE <= seen_at.elapsed() {
                let why = format!("nothing has changed for {} s: {now}", JOIN_PATIENCE.as_secs());
                let advice = "look at that node's log: it must reach the leader's peer address, and the leader its own; \
                              the same command goes on where this one ended";
                return Err(self.refused(Ending::Unavailable, &what, &why, advice));
            }
            tokio::time::sleep(JOIN_LOOK_PERIOD).await;
        }
    }
}

/// The leader's own view, if it is another node than the one that answered and can be reached from here.
async fn leader_view(view: &ClusterView) -> Option<ClusterView> {
    let leader = view.leader.filter(|leader| *leader != view.node_id)?;
    let member = view.members.iter().find(|member| member.id == leader)?;
    let client = Client::builder([&member.api]).deadline(LEADER_DEADLINE).build().ok()?;
    let led = client.cluster().await.ok()?.value;
    (led.cluster_id == view.cluster_id && led.leader == Some(led.node_id)).then_some(led)
}

fn join_request(node: &NodeView, expected_membership_log_id: String) -> AddMemberRequest {
    AddMemberRequest {
        id: node.id,
        name: node.name.clone(),
        api: node.api.clone(),
        peer: node.peer.clone(),
        gossip: node.gossip.clone(),
        role: JoinRole::Voter,
        expected_membership_log_id,
    }
}

/// Whether another look may find the step done or possible.
fn passes(error: &ClientError) -> bool {
    let passing = [ErrorCode::ChangeInFlight, ErrorCode::NotCaughtUp, ErrorCode::MembershipChanged];
    error.code().is_some_and(|code| passing.contains(&code))
}

fn change_in_flight() -> ClientError {
    holdfast_api::Problem::new(ErrorCode::ChangeInFlight, "another membership change is not finished").into()
}
