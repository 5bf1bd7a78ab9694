//! The cluster: what it looks like, and the steps that change it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use holdfast_api::cluster::{
    AccessPolicy, AddMemberRequest, BootstrapRequest, BootstrapView, ClusterView, Health, JoinRole,
    MemberRole, MemberView, MembershipView, NodeId as ApiNodeId, NodeView, PromoteRequest, TransferRequest,
    TransferView,
};
use holdfast_api::{ErrorCode, Problem};
use holdfast_core::membership::{CAUGHT_UP_LAG_MAX, LIVE_ACK_MS_MAX, StepRefusal};
use holdfast_core::{Member, NodeId};
use http::StatusCode;

use crate::auth::{Policy, Resource, Verb};
use crate::http::App;
use crate::http::dispatch::{Call, dispatch};
use crate::http::error::{self, ApiError};
use crate::http::read;
use crate::http::request::{self, Context, invalid_field};
use crate::http::respond;
use crate::raft::{MembershipError, Status};
use crate::storage::data_dir::OpenError;

/// How long bootstrapping may take: one election and one entry.
const BOOTSTRAP_PATIENCE: Duration = Duration::from_secs(10);
/// The longest cluster id: a UUID or a name.
const CLUSTER_ID_BYTES_MAX: usize = 64;

fn api_id(node: NodeId) -> ApiNodeId {
    ApiNodeId(node.as_u64())
}

fn node_id(id: ApiNodeId, pointer: &str) -> Result<NodeId, ApiError> {
    NodeId::new(id.0).map_err(|invalid| invalid_field(pointer, invalid.to_string()))
}

/// `GET /v1/cluster`: this node's view, also while it waits or has no quorum.
pub(crate) async fn status(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let (context, _) = Context::without_query(request)?;
    app.authorize(&context, Verb::Read, &[Resource::Cluster])?;
    let status = app.raft.status();
    let removed = app.raft.look(|view| view.removed_nodes()).map_err(error::from_read)?;
    let applied = app.raft.applied();
    let sight = app.sight(&status);
    let config = &app.config;
    let [old, new] = match status.membership.voter_sets.as_slice() {
        [old, new] => [old.clone(), new.clone()],
        _ => Default::default(),
    };
    let ids = |nodes: std::collections::BTreeSet<NodeId>| nodes.into_iter().map(api_id).collect::<Vec<_>>();
    let view = ClusterView {
        cluster_id: app.data.cluster_id(),
        node_id: api_id(app.node_id),
        name: config.name.clone(),
        leader: sight.leader().map(api_id),
        term: status.term,
        phase: sight.phase(),
        revision: applied.revision.as_u64(),
        applied_index: applied.index.unwrap_or(0),
        membership_log_id: status.membership.log_id.clone(),
        members: members(&status),
        this_node: NodeView {
            id: api_id(app.node_id),
            name: config.name.clone(),
            api: config.api_advertised.clone(),
            peer: config.peer_advertised.clone(),
            gossip: config.gossip_advertised.clone(),
            ops: config.ops_advertised.clone(),
        },
        policy: match app.policy {
            Policy::Open => AccessPolicy::Open,
        },
        joint: status.membership.is_joint().then(|| [ids(old), ids(new)]),
        removed: removed.into_iter().map(api_id).collect(),
        quorum_ack_ms: status.quorum_ack_ms(),
        snapshot_progress: None,
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
    };
    Ok(respond::json(StatusCode::OK, &view, applied.revision))
}

fn members(status: &Status) -> Vec<MemberView> {
    let leads = status.leading.is_some();
    let last = status.last_log_index.unwrap_or(0);
    let member = |(node, member): (&NodeId, &Member)| {
        let own = *node == status.node;
        let matched = if own { Some(last) } else { status.matched.get(node).copied().flatten() };
        let last_ack_ms = if own { Some(0) } else { status.last_ack_ms(*node) };
        let lag = last.saturating_sub(matched.unwrap_or(0));
        let health = match last_ack_ms {
            Some(ms) if ms <= LIVE_ACK_MS_MAX && lag <= CAUGHT_UP_LAG_MAX => Health::Ok,
            Some(ms) if ms <= LIVE_ACK_MS_MAX => Health::Lagging,
            Some(_) | None => Health::Unreachable,
        };
        MemberView {
            id: api_id(*node),
            name: member.name.clone(),
            role: if status.membership.is_voter(*node) { MemberRole::Voter } else { MemberRole::Learner },
            api: member.api.clone(),
            peer: member.peer.clone(),
            gossip: member.gossip.clone(),
            matched_index: if leads { matched } else { None },
            lag: leads.then_some(lag),
            health: leads.then_some(health),
            last_ack_ms: if leads { last_ack_ms } else { None },
            version: None,
        }
    };
    status.membership.members.iter().map(member).collect()
}

/// `POST /v1/cluster/bootstrap`: make this node the first member of a new cluster.
pub(crate) async fn bootstrap(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let (context, body) = Context::without_query(request)?;
    app.authorize(&context, Verb::Administer, &[Resource::Cluster])?;
    let (BootstrapRequest { node_id: named, cluster_id }, _) = request::json(&context, body).await?;
    if node_id(named, "/node_id")? != app.node_id {
        return Err(invalid_field(
            "/node_id",
            format!("this node is {}; read it from GET /v1/cluster first", app.node_id),
        ));
    }
    let cluster_id = match (cluster_id, app.data.cluster_id()) {
        (Some(id), _) => checked_cluster_id(id)?,
        (None, Some(known)) => return Err(already(&known)),
        (None, None) => format!("{:032x}", rand::random::<u128>()),
    };
    let data = Arc::clone(&app.data);
    let stored = tokio::task::spawn_blocking({
        let cluster_id = cluster_id.clone();
        move || data.found_cluster(&cluster_id)
    });
    match stored.await {
        Ok(Ok(())) => {}
        Ok(Err(OpenError::AnotherCluster { found, .. })) => return Err(already(&found)),
        Ok(Err(failure)) => return Err(error::outcome_unknown(failure.to_string(), true)),
        Err(failure) => return Err(error::outcome_unknown(failure.to_string(), true)),
    }
    app.peers.join_cluster(&cluster_id).map_err(|found| already(&found))?;
    let fresh = app.raft.status().membership.members.is_empty();
    app.raft.initialize(own_member(&app)).await.map_err(|failure| membership_problem(failure, true))?;
    wait_founded(&app).await?;
    let status = app.raft.status();
    let view = BootstrapView {
        cluster_id,
        node_id: api_id(app.node_id),
        membership_log_id: status.membership.log_id.clone().unwrap_or_default(),
    };
    let code = if fresh { StatusCode::CREATED } else { StatusCode::OK };
    Ok(respond::json(code, &view, app.raft.applied().revision))
}

fn already(cluster: &str) -> ApiError {
    ApiError::new(
        ErrorCode::AlreadyBootstrapped,
        format!("this node belongs to cluster {cluster}; nothing was changed"),
    )
}

fn checked_cluster_id(id: String) -> Result<String, ApiError> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if id.is_empty() || CLUSTER_ID_BYTES_MAX < id.len() || !id.chars().all(fine) {
        let why = format!("a cluster id has 1 to {CLUSTER_ID_BYTES_MAX} letters, digits, '-', '_' and '.'");
        return Err(invalid_field("/cluster_id", why));
    }
    Ok(id)
}

fn own_member(app: &App) -> Member {
    Member {
        name: app.config.name.clone(),
        api: app.config.api_advertised.clone(),
        peer: app.config.peer_advertised.clone(),
        gossip: app.config.gossip_advertised.clone(),
    }
}

/// Waits until the first entry of the store is applied.
async fn wait_founded(app: &App) -> Result<(), ApiError> {
    match tokio::time::timeout(BOOTSTRAP_PATIENCE, app.raft.wait_revision(1)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => {
            Err(error::outcome_unknown("the cluster was begun but does not serve yet", true))
        }
    }
}

/// `POST /v1/cluster/members`: add a waiting node as a learner.
pub(crate) async fn add(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let (context, body) = Context::without_query(request)?;
    app.authorize(&context, Verb::Administer, &[Resource::Cluster])?;
    let (request, sent) = request::json::<AddMemberRequest>(&context, body).await?;
    let AddMemberRequest { id, name, api, peer, gossip, role, expected_membership_log_id } = request;
    match role {
        JoinRole::Voter => {}
        JoinRole::Observer => {
            return Err(invalid_field("/role", "this version has no observers, only voters"));
        }
    }
    let id = node_id(id, "/id")?;
    for (pointer, address) in [("/api", &api), ("/peer", &peer), ("/gossip", &gossip)] {
        check_address(pointer, address)?;
    }
    let member = Member { name: request::short_text("/name", name, 253)?, api, peer, gossip };
    change(&app, &context, sent, || async {
        app.raft.add_learner(id, member.clone(), &expected_membership_log_id).await
    })
    .await
}

fn check_address(pointer: &str, address: &str) -> Result<(), ApiError> {
    let valid = address.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && host.len() <= 253 && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    let graphic = address.bytes().all(|b| b.is_ascii_graphic());
    if valid && graphic {
        Ok(())
    } else {
        Err(invalid_field(pointer, format!("{address:?} is not a host:port")))
    }
}

/// `POST /v1/cluster/members/{id}/promote`: let a caught-up learner vote.
pub(crate) async fn promote(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let (context, body) = Context::without_query(request)?;
    app.authorize(&context, Verb::Administer, &[Resource::Cluster])?;
    let id = path_id(&id)?;
    let (PromoteRequest { expected_membership_log_id }, sent) = request::json(&context, body).await?;
    change(&app, &context, sent, || async { app.raft.promote(id, &expected_membership_log_id).await }).await
}

/// The query of a removal.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RemoveQuery {
    expected_membership_log_id: String,
}

/// `DELETE /v1/cluster/members/{id}`: remove a member for ever.
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let (context, _) = Context::split(request);
    app.authorize(&context, Verb::Administer, &[Resource::Cluster])?;
    let id = path_id(&id)?;
    let RemoveQuery { expected_membership_log_id } = read::query(&context)?;
    change(&app, &context, Bytes::new(), || async { app.raft.remove(id, &expected_membership_log_id).await })
        .await
}

fn path_id(id: &str) -> Result<NodeId, ApiError> {
    id.parse().map_err(|invalid: holdfast_core::InvalidNodeId| {
        ApiError::new(ErrorCode::InvalidName, format!("{id:?}: {invalid}"))
    })
}

async fn change<F, Fut>(app: &App, context: &Context, sent: Bytes, step: F) -> Result<Response, ApiError>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<(), MembershipError>>,
{
    let same_body = |_| sent.clone();
    // The expected membership makes a repeated step harmless: it happens at most once.
    dispatch(app, Call::same(context, &same_body, false), || async {
        step().await.map_err(|failure| membership_problem(failure, false))?;
        let status = app.raft.status();
        let view = MembershipView {
            membership_log_id: status.membership.log_id.clone().unwrap_or_default(),
            members: members(&status),
        };
        Ok(respond::json(StatusCode::OK, &view, app.raft.applied().revision))
    })
    .await
}

/// `POST /v1/cluster/transfer-leader`: hand the leadership over.
pub(crate) async fn transfer(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let (context, body) = Context::without_query(request)?;
    app.authorize(&context, Verb::Administer, &[Resource::Cluster])?;
    let (TransferRequest { to }, sent) = request::json(&context, body).await?;
    let to = to.map(|to| node_id(to, "/to")).transpose()?;
    let same_body = |_| sent.clone();
    dispatch(&app, Call::same(&context, &same_body, false), || async {
        let status = app.raft.transfer(to).await.map_err(|failure| membership_problem(failure, false))?;
        let leader = status.leader.unwrap_or(app.node_id);
        Ok(respond::json(
            StatusCode::OK,
            &TransferView { leader: api_id(leader), term: status.term },
            app.raft.applied().revision,
        ))
    })
    .await
}

fn membership_problem(failure: MembershipError, replayable: bool) -> ApiError {
    let detail = failure.to_string();
    match failure {
        MembershipError::NotLeading => error::no_leader("this node does not lead; nothing was changed"),
        MembershipError::Changed { actual, .. } => {
            Problem::new(ErrorCode::MembershipChanged, detail).with_membership_log_id(actual).into()
        }
        MembershipError::OtherAddress(_) => ApiError::new(ErrorCode::MembershipChanged, detail),
        MembershipError::Unknown { reason } => error::outcome_unknown(reason, replayable),
        MembershipError::Refused(refusal) => ApiError::new(refusal_code(&refusal), detail),
    }
}

fn refusal_code(refusal: &StepRefusal) -> ErrorCode {
    match refusal {
        StepRefusal::ChangeInFlight => ErrorCode::ChangeInFlight,
        StepRefusal::NotMember(_) => ErrorCode::MemberNotFound,
        StepRefusal::Removed(_) => ErrorCode::MembershipChanged,
        StepRefusal::NotVoter(_) | StepRefusal::NotCaughtUp { .. } => ErrorCode::NotCaughtUp,
        StepRefusal::WouldLoseQuorum { .. } => ErrorCode::WouldLoseQuorum,
        StepRefusal::LastVoter => ErrorCode::LastVoter,
    }
}
