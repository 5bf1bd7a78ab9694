//! How a rule is put to the test: on the real binary it must hold, on one with a seeded bug its breach must be seen.

use anyhow::{Result, anyhow, bail};
use holdfast_tests::harness::{Binary, Cluster, NodeOptions, serial};

/// The environment variable by which a seeded binary is told which bug to put back.
const SEEDED_BUG_ENV: &str = "HOLDFAST_SEEDED_BUG";

/// Why a rule did not come out as kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The service broke the rule.
    #[error("the rule is broken: {0}")]
    Breach(String),
    /// The trial itself could not be carried out, or would have proved nothing.
    #[error("the trial failed: {0:#}")]
    Trial(#[from] anyhow::Error),
}

/// What a trial comes to.
pub(super) type Verdict = Result<(), Failure>;

/// A breach of the rule under trial.
pub(super) fn breach(why: impl Into<String>) -> Failure {
    Failure::Breach(why.into())
}

/// A trial that proved nothing.
pub(super) fn vacuous(why: impl Into<String>) -> Failure {
    Failure::Trial(anyhow!(why.into()))
}

/// The rule holds on the real binary, on a cluster of three.
pub(super) async fn kept(rule: impl AsyncFnOnce(&mut Cluster) -> Verdict) -> Result<()> {
    kept_by(3, rule).await
}

/// The rule holds on the real binary, on a cluster of `count`.
pub(super) async fn kept_by(count: usize, rule: impl AsyncFnOnce(&mut Cluster) -> Verdict) -> Result<()> {
    let _turn = serial().await;
    let mut cluster = Cluster::start_binary(&Binary::locate()?, count, &NodeOptions::default()).await?;
    rule(&mut cluster).await.map_err(|failure| cluster.explain(failure.into()))
}

/// The rule is seen to be broken when this bug is put back in all of three nodes.
pub(super) async fn caught(bug: &str, rule: impl AsyncFnOnce(&mut Cluster) -> Verdict) -> Result<()> {
    let _turn = serial().await;
    let options = NodeOptions { args: vec![], env: vec![(SEEDED_BUG_ENV.to_owned(), bug.to_owned())] };
    let mut cluster = Cluster::start_binary(&Binary::locate_seeded()?, 3, &options).await?;
    match rule(&mut cluster).await {
        Err(Failure::Breach(_)) => Ok(()),
        Err(Failure::Trial(error)) => Err(cluster.explain(error.context(format!("{bug} was not judged")))),
        Ok(()) => bail!("{bug} was not noticed"),
    }
}
