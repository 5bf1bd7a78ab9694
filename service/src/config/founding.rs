//! What a cluster keeps of its past, for the node that founds it. From then on it is a replicated setting: what a node of an
//! existing cluster is started with here changes nothing.

use clap::Args;
use holdfast_core::domain::Settings;
use serde::Deserialize;

use crate::config::ConfigError;

/// The longest retention, in milliseconds: ten years.
const RETENTION_MS_MAX: u64 = 315_360_000_000;
/// The most bytes of superseded versions: 1 TiB.
const HISTORY_BYTES_MAX: u64 = 1 << 40;
/// The most changes of locks and sessions that are kept.
const EVENTS_MAX: u64 = 10_000_000;
/// The most versions of one key that its number keeps.
const HISTORY_VERSIONS_MAX: u64 = 10_000;

/// The flags.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct FoundingArgs {
    /// Versions of a config key that are kept whatever their age; counts only on the node that founds the cluster
    /// [default: 100]
    #[arg(long = "found-history-versions", env = "HOLDFAST_FOUND_HISTORY_VERSIONS", value_name = "N")]
    history_versions: Option<u64>,
    /// How long other superseded versions are kept, in milliseconds; counts only on the node that founds the cluster
    /// [default: 604800000, 7 days]
    #[arg(long = "found-history-ms", env = "HOLDFAST_FOUND_HISTORY_MS", value_name = "MS")]
    history_ms: Option<u64>,
    /// Bytes of all superseded versions, beyond which the oldest go first; counts only on the node that founds the cluster
    /// [default: 1073741824, 1 GiB]
    #[arg(long = "found-history-bytes", env = "HOLDFAST_FOUND_HISTORY_BYTES", value_name = "BYTES")]
    history_bytes: Option<u64>,
    /// Changes of locks and sessions that are kept for watches; counts only on the node that founds the cluster
    /// [default: 100000]
    #[arg(long = "found-events", env = "HOLDFAST_FOUND_EVENTS", value_name = "N")]
    events: Option<u64>,
    /// How long they are kept, in milliseconds; counts only on the node that founds the cluster [default: 3600000, 1 hour]
    #[arg(long = "found-events-ms", env = "HOLDFAST_FOUND_EVENTS_MS", value_name = "MS")]
    events_ms: Option<u64>,
}

/// The same in the file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct FoundingFile {
    history_versions: Option<u64>,
    history_ms: Option<u64>,
    history_bytes: Option<u64>,
    events: Option<u64>,
    events_ms: Option<u64>,
}

/// The replicated settings with which this node founds a cluster.
///
/// # Errors
/// [`ConfigError`] names the flag.
pub(super) fn resolve(args: FoundingArgs, file: FoundingFile) -> Result<Settings, ConfigError> {
    let mut settings = Settings::default();
    for (field, given, max, setting) in [
        (
            "found-history-versions",
            args.history_versions.or(file.history_versions),
            HISTORY_VERSIONS_MAX,
            &mut settings.history_versions,
        ),
        ("found-history-ms", args.history_ms.or(file.history_ms), RETENTION_MS_MAX, &mut settings.history_ms),
        (
            "found-history-bytes",
            args.history_bytes.or(file.history_bytes),
            HISTORY_BYTES_MAX,
            &mut settings.history_bytes_max,
        ),
        ("found-events", args.events.or(file.events), EVENTS_MAX, &mut settings.events_max),
        ("found-events-ms", args.events_ms.or(file.events_ms), RETENTION_MS_MAX, &mut settings.events_ms),
    ] {
        let Some(given) = given else { continue };
        if given < 1 || max < given {
            return Err(ConfigError::invalid(field, given, format!("it must be from 1 to {max}")));
        }
        *setting = given;
    }
    Ok(settings)
}
