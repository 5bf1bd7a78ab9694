//! The log: one subscriber for the process, on standard error. A healthy node is quiet.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::config::LogFormat;

/// What the libraries below say only matters when they fail: openraft reports every election step at info.
const QUIET_BELOW: &str = "openraft=error,hyper=warn,reqwest=warn";

/// Whether standard error is a terminal of somebody who has not asked for plain text (<https://no-color.org>).
fn shows_colours() -> bool {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !plain && std::io::IsTerminal::is_terminal(&std::io::stderr())
}

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
        LogFormat::Text => builder.with_ansi(shows_colours()).try_init(),
    };
    // Tests start several nodes in one process; the first subscriber serves them all.
    drop(outcome);
}
