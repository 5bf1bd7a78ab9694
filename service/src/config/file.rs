//! The configuration file: YAML, the same names as the flags, unknown fields refused.

use std::path::Path;

use serde::Deserialize;

use crate::config::{ConfigError, FoundingFile, LogFormat, RaftFile};

/// What a file may set; a flag or an environment variable wins over it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct FileConfig {
    /// As `--name`.
    pub(crate) name: Option<String>,
    /// As `--data-dir`.
    pub(crate) data_dir: Option<String>,
    /// As `--api-addr`.
    pub(crate) api_addr: Option<String>,
    /// As `--peer-addr`.
    pub(crate) peer_addr: Option<String>,
    /// As `--gossip-addr`.
    pub(crate) gossip_addr: Option<String>,
    /// As `--ops-addr`.
    pub(crate) ops_addr: Option<String>,
    /// As `--advertise-host`.
    pub(crate) advertise_host: Option<String>,
    /// As `--cluster-id`.
    pub(crate) cluster_id: Option<String>,
    /// As the flags that begin with `--raft-`, without that beginning.
    pub(crate) raft: Option<RaftFile>,
    /// As the flags that begin with `--found-`, without that beginning.
    pub(crate) found: Option<FoundingFile>,
    /// As `--compaction-period-ms`.
    pub(crate) compaction_period_ms: Option<u64>,
    /// As `--log-level`.
    pub(crate) log_level: Option<String>,
    /// As `--log-format`.
    pub(crate) log_format: Option<LogFormat>,
}

impl FileConfig {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError`] when the file cannot be read or is not of this form, with line and column.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::FileUnreadable {
            path: path.to_owned(),
            error: error.to_string(),
        })?;
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_yaml::from_str(&text)
            .map_err(|error| ConfigError::FileMalformed { path: path.to_owned(), error: error.to_string() })
    }
}
