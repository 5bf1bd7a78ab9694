//! `holdfast cluster`: forms a cluster of running nodes, shows it and changes its members, over the client alone.

use clap::{Args, Subcommand};
use holdfast_api::cluster::{
    BootstrapRequest, ClusterView, MemberRole, MemberView, MembershipView, NodeId, Phase, PromoteRequest,
    TransferRequest,
};

use crate::cli::membership::{Cluster, Goal};
use crate::cli::output::{self, Format};
use crate::cli::progress::Progress;
use crate::cli::target::Target;
use crate::exit::{Ending, Fatal};

/// The flags of `holdfast cluster`.
#[derive(Debug, Args)]
pub(super) struct ClusterArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Begin a new cluster, with the node at --endpoint as its only member
    ///
    /// Done once in a cluster's life, on one node. The other nodes join by
    /// `holdfast cluster add`.
    #[command(
        verbatim_doc_comment,
        after_help = "Example:
  holdfast cluster bootstrap --endpoint 10.0.0.1:7700"
    )]
    Bootstrap {
        /// The id that the new cluster is to have [default: one that the node draws]
        #[arg(long, value_name = "ID")]
        cluster_id: Option<String>,
    },
    /// Show the cluster: who leads, who belongs to it, and how they do
    #[command(after_help = "Examples:
  holdfast cluster status
  holdfast cluster status --endpoint 10.0.0.1:7700,10.0.0.2:7700 -o json")]
    Status,
    /// Add a node that waits to join, as a learner that copies the log and does not vote yet
    #[command(after_help = "Example:
  holdfast cluster add --wait 10.0.0.2:7700")]
    Add {
        /// The API of the node that waits; it is asked for its id and its addresses
        #[arg(value_name = "NODE_API_URL")]
        node: String,
        /// Wait until the node has caught up, and let it vote
        #[arg(long)]
        wait: bool,
    },
    /// Let a learner that has caught up vote
    #[command(after_help = "Example:
  holdfast cluster promote n2")]
    Promote {
        /// The learner
        #[arg(value_name = "ID|NAME")]
        member: String,
    },
    /// Remove a member for ever: its id is never admitted again
    #[command(after_help = "Example:
  holdfast cluster remove n2")]
    Remove {
        /// The member
        #[arg(value_name = "ID|NAME")]
        member: String,
    },
    /// Hand the leadership to another voter
    #[command(after_help = "Examples:
  holdfast cluster transfer
  holdfast cluster transfer --to n2")]
    Transfer {
        /// The voter that is to lead [default: the one that the leader finds best]
        #[arg(long, value_name = "ID|NAME")]
        to: Option<String>,
    },
}

/// Runs the command.
///
/// # Errors
/// [`Fatal`] says what failed, where, and what to do.
pub(super) async fn run(args: ClusterArgs, target: Target) -> Result<(), Fatal> {
    let ClusterArgs { command } = args;
    if matches!(command, Command::Bootstrap { .. }) && target.endpoint_count != 1 {
        return Err(Fatal::new(
            Ending::Usage,
            "a cluster begins with one node: give `bootstrap` one --endpoint, and `add` the other nodes",
        ));
    }
    let output = target.output;
    let cluster = Cluster::behind(target.into_endpoints());
    match command {
        Command::Bootstrap { cluster_id } => bootstrap(&cluster, cluster_id, output).await,
        Command::Status => status(&cluster, output).await,
        Command::Add { node, wait } => add(&cluster, &node, wait, output).await,
        Command::Promote { member } => promote(&cluster, &member, output).await,
        Command::Remove { member } => remove(&cluster, &member, output).await,
        Command::Transfer { to } => transfer(&cluster, to.as_deref(), output).await,
    }
}

async fn bootstrap(cluster: &Cluster, cluster_id: Option<String>, output: Format) -> Result<(), Fatal> {
    let view = cluster.view().await?;
    let request = BootstrapRequest { node_id: view.node_id, cluster_id };
    let founded = cluster.client().bootstrap(&request).await;
    let founded = founded.map_err(|error| cluster.failed("begin a cluster", &error))?.value;
    output::answer(output, &founded, |founded| {
        output::line(&format!(
            "cluster {} begins with {} ({})",
            founded.cluster_id, view.name, founded.node_id
        ))
    })
}

async fn status(cluster: &Cluster, output: Format) -> Result<(), Fatal> {
    let view = cluster.view_with_health().await?;
    output::answer(output, &view, show_status)
}

fn show_status(view: &ClusterView) -> Result<(), Fatal> {
    let leader = match view.leader {
        Some(leader) => {
            let name =
                view.members.iter().find(|member| member.id == leader).map_or("?", |member| &member.name);
            format!("{name} ({leader})")
        }
        None => "none known".to_owned(),
    };
    output::line(&format!("cluster   {}", view.cluster_id.as_deref().unwrap_or("none")))?;
    output::line(&format!("phase     {}, as {} ({}) says", word(&view.phase), view.name, view.node_id))?;
    output::line(&format!("leader    {leader}"))?;
    output::line(&format!("term      {}", view.term))?;
    output::line(&format!("revision  {}\n", view.revision))?;
    if view.members.is_empty() {
        return output::line(
            "This node waits: `holdfast cluster bootstrap` begins a cluster with it, and `holdfast cluster add`\n\
             makes it join one.",
        );
    }
    show_members(&view.members, view.leader)?;
    if view.phase == Phase::Electing || view.phase == Phase::NoQuorum {
        output::line("\nNothing can be written: no leader has a majority of the voters behind it.")?;
    }
    if view.joint.is_some() {
        output::line("\nA membership change is half done; the leader finishes it.")?;
    }
    Ok(())
}

fn show_members(members: &[MemberView], leader: Option<NodeId>) -> Result<(), Fatal> {
    let unknown = || "-".to_owned();
    let row = |member: &MemberView| {
        let role = if Some(member.id) == leader { "leader".to_owned() } else { word(&member.role) };
        vec![
            member.id.to_string(),
            member.name.clone(),
            role,
            member.health.as_ref().map_or_else(unknown, word),
            member.lag.map_or_else(unknown, |lag| lag.to_string()),
            member.api.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = members.iter().map(row).collect();
    output::table(&["ID", "NAME", "ROLE", "HEALTH", "LAG", "ADDRESS"], &rows)
}

/// A word of the API as the API spells it.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => "?".to_owned(),
    }
}

async fn add(cluster: &Cluster, node: &str, wait: bool, output: Format) -> Result<(), Fatal> {
    let what = format!("add the node at {node}");
    let (ours, _) = cluster.membership(&what).await?;
    let theirs = Cluster::at(&[node.to_owned()])?.view().await?;
    if theirs.cluster_id.is_some() && theirs.cluster_id != ours.cluster_id {
        let why = format!(
            "{} ({}) belongs to cluster {} already",
            theirs.name,
            theirs.node_id,
            theirs.cluster_id.as_deref().unwrap_or("none")
        );
        return Err(cluster.refused(
            Ending::Conflict,
            &what,
            &why,
            "start it on an empty data directory, then add it",
        ));
    }
    let goal = if wait { Goal::Voter } else { Goal::Learner };
    let mut progress = Progress::start();
    let membership = cluster
        .join(&theirs.this_node, goal, |joining| progress.tell(&joining.to_string(), joining.lag))
        .await?;
    drop(progress);
    let role = membership.members.iter().find(|member| member.id == theirs.node_id).map(|member| member.role);
    let done = match role {
        Some(MemberRole::Voter) => format!("{} ({}) votes", theirs.name, theirs.node_id),
        Some(MemberRole::Learner | MemberRole::Observer) | None => format!(
            "{} ({}) is a learner; `holdfast cluster promote {}` lets it vote once it has caught up",
            theirs.name, theirs.node_id, theirs.name
        ),
    };
    show_change(&done, &membership, output)
}

async fn promote(cluster: &Cluster, named: &str, output: Format) -> Result<(), Fatal> {
    let what = format!("promote {named}");
    let (view, expected_membership_log_id) = cluster.membership(&what).await?;
    let member = cluster.member(&view, &what, named)?;
    let changed =
        cluster.client().promote_member(member.id, &PromoteRequest { expected_membership_log_id }).await;
    let changed = changed.map_err(|error| cluster.failed(&what, &error))?.value;
    show_change(&format!("{} ({}) votes", member.name, member.id), &changed, output)
}

async fn remove(cluster: &Cluster, named: &str, output: Format) -> Result<(), Fatal> {
    let what = format!("remove {named}");
    let (view, expected) = cluster.membership(&what).await?;
    let member = cluster.member(&view, &what, named)?;
    let changed = cluster.client().remove_member(member.id, &expected).await;
    let changed = changed.map_err(|error| cluster.failed(&what, &error))?.value;
    let done = format!("{} ({}) is removed, for ever; stop its process", member.name, member.id);
    show_change(&done, &changed, output)
}

async fn transfer(cluster: &Cluster, to: Option<&str>, output: Format) -> Result<(), Fatal> {
    let what =
        to.map_or_else(|| "hand the leadership over".to_owned(), |to| format!("hand the leadership to {to}"));
    let (view, _) = cluster.membership(&what).await?;
    let to = to.map(|named| cluster.member(&view, &what, named)).transpose()?.map(|member| member.id);
    let handed = cluster.client().transfer_leader(&TransferRequest { to }).await;
    let handed = handed.map_err(|error| cluster.failed(&what, &error))?.value;
    output::answer(output, &handed, |handed| {
        let name = view.members.iter().find(|member| member.id == handed.leader).map_or("?", |m| &m.name);
        output::line(&format!("{name} ({}) leads in term {}", handed.leader, handed.term))
    })
}

fn show_change(done: &str, membership: &MembershipView, output: Format) -> Result<(), Fatal> {
    output::answer(output, membership, |_| output::line(done))
}
