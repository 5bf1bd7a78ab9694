//! `holdfast dev`: a whole cluster in one process, to try things out.
//!
//! The nodes are those of `serve`, on fixed ports, and the cluster is formed over their own API, as anybody would form one.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use futures_util::future::{join_all, select_all};
use holdfast_api::cluster::{BootstrapRequest, ClusterView, Phase};

use crate::cli::banner::{self, Data, Place};
use crate::cli::membership::{Cluster, Goal};
use crate::cli::{StopSignal, output};
use crate::config::{FoundingArgs, LogFormat, NodeConfig, RaftArgs, ServeArgs};
use crate::exit::{Ending, Fatal};
use crate::node::{ListenError, Listeners, Node};
use crate::telemetry;

/// From the ports of one node to those of the next.
const PORTS_PER_NODE: u16 = 10;
/// The most nodes that there can be, for the directories to look at.
const NODES_MAX: u16 = 5;
/// How long the nodes may take until all of them serve; elections on a loaded machine.
const SERVING_PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two looks at the nodes.
const LOOK_PERIOD: Duration = Duration::from_millis(50);

/// The flags of `holdfast dev`.
#[derive(Debug, Clone, Args)]
pub(super) struct DevArgs {
    /// How many nodes: 1, 3 or 5
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = node_count)]
    nodes: u16,
    /// Where the data is kept, to go on with it at the next start [default: a temporary directory]
    #[arg(long, value_name = "PATH")]
    data_dir: Option<PathBuf>,
    /// The API's port of the first node; +1 replication, +2 gossip, +3 health and metrics; the next node's are 10 higher
    #[arg(long, value_name = "PORT", default_value_t = 7700, value_parser = clap::value_parser!(u16).range(1..=65_492))]
    base_port: u16,
    /// What to log: error, warn, info, debug or trace, or a filter such as warn,holdfast=debug
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    log_level: String,
}

fn node_count(text: &str) -> Result<u16, &'static str> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        "5" => Ok(NODES_MAX),
        _ => Err("1, 3 or 5; an even number survives no more failures than one node less"),
    }
}

/// Runs the cluster until it is told to stop.
///
/// # Errors
/// [`Fatal`] when a node cannot start or cannot go on; all nodes are stopped then.
pub(super) async fn run(args: DevArgs) -> Result<(), Fatal> {
    let mut stop = StopSignal::catch()?;
    let home = Home::choose(args.data_dir.as_deref())?;
    let configs: Vec<NodeConfig> =
        (0..args.nodes).map(|index| node_config(&args, home.path(), index)).collect::<Result<_, _>>()?;
    telemetry::start(&args.log_level, LogFormat::Text);
    refuse_left_out_nodes(home.path(), args.nodes)?;
    let mut nodes = start_all(&configs).await?;
    let outcome = tokio::select! {
        () = stop.received() => Ok(()),
        fatal = any_failed(&nodes) => Err(fatal),
        Err(fatal) = serve(&configs, &home) => Err(fatal),
    };
    join_all(nodes.iter_mut().map(Node::end)).await;
    drop(nodes);
    home.leave();
    outcome
}

/// Where the data is.
enum Home {
    Kept(PathBuf),
    Temporary(tempfile::TempDir),
}

impl Home {
    fn choose(given: Option<&Path>) -> Result<Self, Fatal> {
        let failed = |error: std::io::Error| {
            Fatal::new(Ending::DataUnwritable, format!("cannot use a data directory: {error}"))
        };
        match given {
            Some(path) => std::path::absolute(path).map(Self::Kept).map_err(failed),
            None => tempfile::Builder::new()
                .prefix("holdfast-dev-")
                .tempdir()
                .map(Self::Temporary)
                .map_err(failed),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(dir) => dir.path(),
        }
    }

    fn data(&self) -> Data<'_> {
        match self {
            Self::Kept(path) => Data::Kept(path),
            Self::Temporary(dir) => Data::Temporary(dir.path()),
        }
    }

    fn leave(self) {
        match self {
            Self::Kept(_) => {}
            Self::Temporary(dir) => {
                let path = dir.path().to_owned();
                if let Err(error) = dir.close() {
                    output::complaint(&format!("{} could not be removed: {error}", path.display()));
                }
            }
        }
    }
}

fn node_name(index: u16) -> String {
    format!("n{}", index + 1)
}

fn node_config(args: &DevArgs, home: &Path, index: u16) -> Result<NodeConfig, Fatal> {
    let name = node_name(index);
    let first = args.base_port + PORTS_PER_NODE * index;
    let address = |offset: u16| Some(format!("127.0.0.1:{}", first + offset));
    let flags = ServeArgs {
        data_dir: Some(home.join(&name)),
        name: Some(name),
        api_addr: address(0),
        peer_addr: address(1),
        gossip_addr: address(2),
        ops_addr: address(3),
        advertise_host: None,
        cluster_id: None,
        config: None,
        log_level: Some(args.log_level.clone()),
        log_format: None,
        compaction_period_ms: None,
        raft: RaftArgs::default(),
        founding: FoundingArgs::default(),
    };
    NodeConfig::resolve(flags).map_err(|error| Fatal::new(Ending::Usage, error.to_string()))
}

/// A cluster of which some nodes are left out may have no majority, and would seem to hang.
fn refuse_left_out_nodes(home: &Path, nodes: u16) -> Result<(), Fatal> {
    let left_out = (nodes..NODES_MAX).rev().find(|index| home.join(node_name(*index)).exists());
    let Some(last) = left_out else { return Ok(()) };
    // The counts are odd, and the first node of a pair is made with the second.
    let count = (last + 1) | 1;
    Err(Fatal::new(
        Ending::Usage,
        format!(
            "{} holds the data of {count} nodes: start it with --nodes {count}, or use another directory",
            home.display()
        ),
    ))
}

/// Starts all nodes or none.
async fn start_all(configs: &[NodeConfig]) -> Result<Vec<Node>, Fatal> {
    let mut listeners = Vec::with_capacity(configs.len());
    for config in configs {
        listeners.push(Listeners::bind(config).await.map_err(|error| port_taken(config, &error))?);
    }
    let mut nodes = Vec::with_capacity(configs.len());
    for (config, listeners) in configs.iter().zip(listeners) {
        match Node::start_on(listeners, config.clone()).await {
            Ok(node) => nodes.push(node),
            Err(fatal) => {
                for node in nodes.iter_mut().rev() {
                    node.end().await;
                }
                return Err(Fatal::new(fatal.ending, format!("node {}: {}", config.name, fatal.reason)));
            }
        }
    }
    Ok(nodes)
}

fn port_taken(config: &NodeConfig, error: &ListenError) -> Fatal {
    let ListenError { field: _, address, source } = error;
    let port = address.port();
    let advice = if source.kind() == std::io::ErrorKind::AddrInUse {
        format!("another process uses it: `ss -ltnp 'sport = :{port}'` names it; stop it, then start again")
    } else {
        "the system does not allow it".to_owned()
    };
    Fatal::new(
        Ending::AddressInUse,
        format!(
            "port {port} of node {} cannot be used: {source}; {advice}. Nothing was written",
            config.name
        ),
    )
}

async fn any_failed(nodes: &[Node]) -> Fatal {
    select_all(nodes.iter().map(|node| Box::pin(node.failed()))).await.0
}

/// Forms the cluster, says so, and stays until the process is told to stop.
async fn serve(configs: &[NodeConfig], home: &Home) -> Result<std::convert::Infallible, Fatal> {
    form(configs, home.path()).await?;
    let view = wait_serving(configs).await?;
    let places: Vec<Place> = configs
        .iter()
        .map(|config| Place {
            name: config.name.clone(),
            api: format!("http://{}", config.api_advertised),
            ops: format!("http://{}", config.ops_advertised),
            leads: view.members.iter().any(|m| m.name == config.name && Some(m.id) == view.leader),
        })
        .collect();
    let banner = banner::banner(view.cluster_id.as_deref().unwrap_or("none"), &places, home.data());
    // The cluster serves whether or not somebody reads where.
    let _ = output::line(&banner);
    std::future::pending().await
}

async fn views(configs: &[NodeConfig]) -> Result<Vec<ClusterView>, Fatal> {
    let mut views = Vec::with_capacity(configs.len());
    for config in configs {
        views.push(Cluster::at(std::slice::from_ref(&config.api_advertised))?.view().await?);
    }
    Ok(views)
}

/// Makes all nodes voters of one cluster. On data of an earlier run this only looks, and finishes what was cut off.
async fn form(configs: &[NodeConfig], home: &Path) -> Result<(), Fatal> {
    let views = views(configs).await?;
    refuse_mixed_data(&views, home)?;
    let mut members: Vec<String> =
        views.iter().filter(|view| !view.members.is_empty()).map(|view| view.this_node.api.clone()).collect();
    if members.is_empty() {
        let first = &views[0];
        let founder = Cluster::at(std::slice::from_ref(&first.this_node.api))?;
        let request = BootstrapRequest { node_id: first.node_id, cluster_id: first.cluster_id.clone() };
        let founded = founder.client().bootstrap(&request).await;
        founded.map_err(|error| founder.failed("begin the cluster", &error))?;
        members.push(first.this_node.api.clone());
    }
    let cluster = Cluster::at(&members)?;
    for view in &views {
        cluster.join(&view.this_node, Goal::Voter, |step| tracing::info!("{step}")).await?;
    }
    Ok(())
}

/// Refuses directories that were not made together, or for other ports: their nodes would never find one another.
fn refuse_mixed_data(views: &[ClusterView], home: &Path) -> Result<(), Fatal> {
    let home = home.display();
    let foreign = |why: String| Err(Fatal::new(Ending::DataForeign, why));
    let mut clusters: Vec<&str> = views.iter().filter_map(|view| view.cluster_id.as_deref()).collect();
    clusters.dedup();
    if let [one, other, ..] = clusters.as_slice() {
        return foreign(format!(
            "{home} holds nodes of different clusters, {one} and {other}: use another directory"
        ));
    }
    for member in views.iter().flat_map(|view| &view.members) {
        let by_id = views.iter().find(|view| view.node_id == member.id);
        let by_address = views.iter().find(|view| view.this_node.api == member.api);
        match (by_id, by_address) {
            (Some(node), _) if node.this_node.api != member.api => {
                let port =
                    views.iter().flat_map(|view| &view.members).find(|member| member.name == node_name(0));
                let port = port.and_then(|first| first.api.rsplit(':').next()).unwrap_or("?");
                return foreign(format!(
                    "the cluster in {home} keeps its ports: start it with --base-port {port}, or use another directory"
                ));
            }
            (None, Some(node)) => {
                return foreign(format!(
                    "the data of node {} in {home} is not what the cluster there knows: use another directory",
                    node.name
                ));
            }
            (Some(_) | None, _) => {}
        }
    }
    Ok(())
}

/// Waits until all nodes serve under one leader.
async fn wait_serving(configs: &[NodeConfig]) -> Result<ClusterView, Fatal> {
    let deadline = Instant::now() + SERVING_PATIENCE;
    loop {
        let mut views = views(configs).await?;
        let leader = views[0].leader;
        if views.iter().all(|view| view.phase == Phase::Serving && view.leader == leader) {
            return Ok(views.swap_remove(0));
        }
        if deadline <= Instant::now() {
            let phases: Vec<String> =
                views.iter().map(|view| format!("{}: {:?}", view.name, view.phase)).collect();
            return Err(Fatal::new(
                Ending::ConsensusStopped,
                format!(
                    "the nodes did not agree on a leader within {} s ({}); --log-level info says more",
                    SERVING_PATIENCE.as_secs(),
                    phases.join(", ")
                ),
            ));
        }
        tokio::time::sleep(LOOK_PERIOD).await;
    }
}
