//! One node's settings.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use holdfast_core::domain::Settings;

use crate::config::{FileConfig, LogFormat, RaftConfig, ServeArgs, founding};

/// Why a configuration is refused; the process exits with 2.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("--config {path}: {error}", path = path.display())]
    FileUnreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: String,
    },
    /// The file is not a configuration.
    #[error("--config {path}: {error}", path = path.display())]
    FileMalformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        error: String,
    },
    /// A value is not usable.
    #[error("--{field} {value}: {why}")]
    Invalid {
        /// The flag's name.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is wrong.
        why: String,
    },
}

impl ConfigError {
    /// A value that is not usable.
    pub(super) fn invalid(field: &'static str, value: impl ToString, why: impl Into<String>) -> Self {
        Self::Invalid { field, value: value.to_string(), why: why.into() }
    }
}

/// The validated settings of one node.
#[derive(Debug, Clone)]
pub(crate) struct NodeConfig {
    /// A label for people.
    pub(crate) name: String,
    /// The data directory.
    pub(crate) data_dir: PathBuf,
    /// The cluster that the data directory must belong to, if it belongs to one.
    pub(crate) cluster_id: Option<String>,
    /// Where the API listens.
    pub(crate) api_addr: SocketAddr,
    /// Where peers connect.
    pub(crate) peer_addr: SocketAddr,
    /// Where health checks and metrics listen.
    pub(crate) ops_addr: SocketAddr,
    /// The API's address as others reach it.
    pub(crate) api_advertised: String,
    /// The peer port's address as others reach it.
    pub(crate) peer_advertised: String,
    /// The gossip address as others reach it.
    pub(crate) gossip_advertised: String,
    /// The ops port's address as others reach it.
    pub(crate) ops_advertised: String,
    /// Timing of the consensus.
    pub(crate) raft: RaftConfig,
    /// The settings of a cluster that this node founds.
    pub(crate) founding: Settings,
    /// How often the leader looks for what is to be compacted.
    pub(crate) compaction_period: Duration,
    /// What to log.
    pub(crate) log_level: String,
    /// How.
    pub(crate) log_format: LogFormat,
}

/// The longest name and host: a DNS name (RFC 1035).
const HOST_BYTES_MAX: usize = 253;
/// A look costs two reads; more often than this nothing would be gained.
const COMPACTION_PERIOD_MS_MIN: u64 = 100;
const COMPACTION_PERIOD_MS_DEFAULT: u64 = 60_000;
/// A day: bounds by size must not wait longer.
const COMPACTION_PERIOD_MS_MAX: u64 = 86_400_000;

impl NodeConfig {
    /// The settings of flags, environment and file together.
    ///
    /// # Errors
    /// [`ConfigError`] names the field.
    pub(crate) fn resolve(args: ServeArgs) -> Result<Self, ConfigError> {
        let file = match &args.config {
            Some(path) => FileConfig::read(path)?,
            None => FileConfig::default(),
        };
        let host = args.advertise_host.or(file.advertise_host);
        if let Some(host) = &host {
            check_host("advertise-host", host)?;
        }
        let address = |field, flag: Option<String>, file: Option<String>, default: &str| {
            let text = flag.or(file).unwrap_or_else(|| default.to_owned());
            listen_address(field, &text)
        };
        let api_addr = address("api-addr", args.api_addr, file.api_addr, "127.0.0.1:7700")?;
        let peer_addr = address("peer-addr", args.peer_addr, file.peer_addr, "127.0.0.1:7701")?;
        let gossip_addr = address("gossip-addr", args.gossip_addr, file.gossip_addr, "127.0.0.1:7702")?;
        let ops_addr = address("ops-addr", args.ops_addr, file.ops_addr, "127.0.0.1:7703")?;
        let advertised = |field: &'static str, addr: SocketAddr| advertise(field, host.as_deref(), addr);
        let name = args.name.or(file.name).unwrap_or_else(host_name);
        check_host("name", &name)?;
        Ok(Self {
            api_advertised: advertised("api-addr", api_addr)?,
            peer_advertised: advertised("peer-addr", peer_addr)?,
            gossip_advertised: advertised("gossip-addr", gossip_addr)?,
            ops_advertised: advertised("ops-addr", ops_addr)?,
            name,
            data_dir: args
                .data_dir
                .or_else(|| file.data_dir.map(PathBuf::from))
                .unwrap_or_else(|| PathBuf::from("holdfast-data")),
            cluster_id: args.cluster_id.or(file.cluster_id),
            api_addr,
            peer_addr,
            ops_addr,
            raft: RaftConfig::resolve(args.raft, file.raft.unwrap_or_default())?,
            founding: founding::resolve(args.founding, file.found.unwrap_or_default())?,
            compaction_period: compaction_period(args.compaction_period_ms.or(file.compaction_period_ms))?,
            log_level: log_level(args.log_level.or(file.log_level))?,
            log_format: args.log_format.or(file.log_format).unwrap_or(LogFormat::Text),
        })
    }
}

fn invalid(field: &'static str, value: &str, why: impl Into<String>) -> ConfigError {
    ConfigError::invalid(field, value, why)
}

fn listen_address(field: &'static str, text: &str) -> Result<SocketAddr, ConfigError> {
    let mut addresses = text
        .to_socket_addrs()
        .map_err(|error| invalid(field, text, format!("not a host:port to listen on: {error}")))?;
    addresses.next().ok_or_else(|| invalid(field, text, "the host has no address"))
}

/// The address that others use: the advertised host, else the one to listen on, which must then be a reachable one.
fn advertise(field: &'static str, host: Option<&str>, addr: SocketAddr) -> Result<String, ConfigError> {
    match host {
        Some(host) if host.contains(':') => Ok(format!("[{host}]:{}", addr.port())),
        Some(host) => Ok(format!("{host}:{}", addr.port())),
        None if addr.ip().is_unspecified() => Err(invalid(
            field,
            &addr.to_string(),
            "others cannot reach this address: say by --advertise-host which host they use",
        )),
        None => Ok(addr.to_string()),
    }
}

fn check_host(field: &'static str, text: &str) -> Result<(), ConfigError> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if text.is_empty() || HOST_BYTES_MAX < text.len() || !text.chars().all(fine) {
        return Err(invalid(
            field,
            text,
            format!("1 to {HOST_BYTES_MAX} of letters, digits, '.', '-', '_' and ':'"),
        ));
    }
    Ok(())
}

fn compaction_period(ms: Option<u64>) -> Result<Duration, ConfigError> {
    let ms = ms.unwrap_or(COMPACTION_PERIOD_MS_DEFAULT);
    if (COMPACTION_PERIOD_MS_MIN..=COMPACTION_PERIOD_MS_MAX).contains(&ms) {
        return Ok(Duration::from_millis(ms));
    }
    let why = format!("it must be from {COMPACTION_PERIOD_MS_MIN} to {COMPACTION_PERIOD_MS_MAX}");
    Err(ConfigError::invalid("compaction-period-ms", ms, why))
}

fn log_level(text: Option<String>) -> Result<String, ConfigError> {
    let text = text.unwrap_or_else(|| "info".to_owned());
    match text.parse::<tracing_subscriber::EnvFilter>() {
        Ok(_) => Ok(text),
        Err(error) => Err(invalid("log-level", &text, error.to_string())),
    }
}

/// The host's name, as a default label.
fn host_name() -> String {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy().into_owned();
    if name.is_empty() { "holdfast".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::{ConfigError, Duration, NodeConfig, ServeArgs, Settings};
    use clap::Parser;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        serve: ServeArgs,
    }

    fn resolve(flags: &[&str]) -> Result<NodeConfig, ConfigError> {
        let args = std::iter::once(&"holdfast").chain(flags);
        NodeConfig::resolve(Flags::try_parse_from(args).expect("the flags parse").serve)
    }

    #[test]
    fn defaults_are_the_documented_ports_on_loopback() {
        let config = resolve(&["--name", "n1"]).unwrap();
        assert_eq!(config.api_advertised, "127.0.0.1:7700");
        assert_eq!(config.peer_advertised, "127.0.0.1:7701");
        assert_eq!(config.gossip_advertised, "127.0.0.1:7702");
        assert_eq!(config.ops_addr.port(), 7703);
    }

    #[test]
    fn a_wildcard_address_needs_an_advertised_host() {
        let error = resolve(&["--name", "n1", "--api-addr", "0.0.0.0:7700"]).unwrap_err().to_string();
        assert!(
            error.starts_with("--api-addr 0.0.0.0:7700: ") && error.contains("--advertise-host"),
            "{error}"
        );
        let config =
            resolve(&["--name", "n1", "--api-addr", "0.0.0.0:7700", "--advertise-host", "db-0.db"]).unwrap();
        assert_eq!(config.api_advertised, "db-0.db:7700");
    }

    #[test]
    fn a_bad_value_names_its_field() {
        for (flags, field) in [
            (["--peer-addr", "nonsense"], "--peer-addr nonsense"),
            (["--name", "a b"], "--name a b"),
            (["--log-level", "info,=="], "--log-level info,=="),
        ] {
            let error = resolve(&flags).unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        }
    }

    #[test]
    fn what_a_founded_cluster_keeps_comes_from_flags_and_file_within_its_ranges() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("holdfast.yaml");
        let text = "found:\n  history-versions: 3\n  events: 7\n  events-ms: 8\ncompaction-period-ms: 1000\n";
        std::fs::write(&path, text).unwrap();
        let file = path.to_str().unwrap();
        let flags =
            ["--name", "n1", "--config", file, "--found-history-versions", "2", "--found-history-ms", "5"];
        let config = resolve(&[&flags[..], &["--found-history-bytes", "6"]].concat()).unwrap();
        assert_eq!(config.compaction_period, Duration::from_secs(1));
        let kept = Settings {
            history_versions: 2,
            history_ms: 5,
            history_bytes_max: 6,
            events_max: 7,
            events_ms: 8,
            ..Settings::default()
        };
        assert_eq!(config.founding, kept);
        assert_eq!(resolve(&["--name", "n1"]).unwrap().founding, Settings::default());
        for (flag, value) in [
            ("--found-history-versions", "0"),
            ("--found-history-versions", "10001"),
            ("--found-history-ms", "0"),
            ("--found-history-bytes", "0"),
            ("--found-events", "10000001"),
            ("--found-events-ms", "0"),
            ("--compaction-period-ms", "99"),
            ("--compaction-period-ms", "86400001"),
        ] {
            let error = resolve(&["--name", "n1", flag, value]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{flag} {value}: it must be from ")), "{error}");
        }
    }

    #[test]
    fn the_file_is_below_the_flags_and_refuses_unknown_fields() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("holdfast.yaml");
        std::fs::write(&path, "name: from-file\napi-addr: 127.0.0.1:9\n").unwrap();
        let file = path.to_str().unwrap();
        let config = resolve(&["--config", file, "--api-addr", "127.0.0.1:10"]).unwrap();
        assert_eq!((config.name.as_str(), config.api_addr.port()), ("from-file", 10));
        std::fs::write(&path, "nmae: x\n").unwrap();
        let error = resolve(&["--config", file]).unwrap_err().to_string();
        assert!(error.contains("nmae") && error.contains(file), "{error}");
    }
}
