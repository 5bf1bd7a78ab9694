//! The log: one subscriber for the process, on standard error. A healthy node is quiet.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::config::LogFormat;

/// What the libraries below say only matters when they fail: openraft reports every election step at info.
const QUIET_BELOW: &str = "openraft=error,hyper=warn,reqwest=warn";

/// Starts logging. A second call in one process changes nothing.
pub(crate) fn start(level: &str, format: LogFormat) {
    let filter = EnvFilter::new(format!("{QUIET_BELOW},{level}"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::NONE)
        .with_target(false);
    let outcome = match format {
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
    };
    // Tests start several nodes in one process; the first subscriber serves them all.
    drop(outcome);
}
