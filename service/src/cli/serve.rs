//! `holdfast serve`: one node until it is told to stop.

use crate::cli::StopSignal;
use crate::config::{NodeConfig, ServeArgs};
use crate::exit::{Ending, Fatal};
use crate::node::Node;
use crate::telemetry;

/// Runs a node.
///
/// # Errors
/// [`Fatal`] when it cannot start or cannot go on.
pub(super) async fn run(args: ServeArgs) -> Result<(), Fatal> {
    let config = NodeConfig::resolve(args).map_err(|error| Fatal::new(Ending::Usage, error.to_string()))?;
    telemetry::start(&config.log_level, config.log_format);
    let (name, api) = (config.name.clone(), config.api_advertised.clone());
    let mut stop = StopSignal::catch()?;
    let mut node = Node::start(config).await?;
    let identity = node.app().data.identity();
    tracing::warn!("no access control is configured: everybody who reaches this node may do everything");
    tracing::info!(
        node = %identity.node_id,
        name,
        api,
        cluster_id = identity.cluster_id.as_deref().unwrap_or("none"),
        version = env!("CARGO_PKG_VERSION"),
        "the node runs"
    );
    let failed = tokio::select! {
        () = stop.received() => None,
        fatal = node.failed() => Some(fatal),
    };
    match failed {
        None => {
            tracing::info!("stopping");
            node.stop().await;
            tracing::info!("stopped");
            Ok(())
        }
        Some(fatal) => {
            node.end().await;
            Err(fatal)
        }
    }
}
