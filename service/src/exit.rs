//! How the process ends: each refusal to start and each fatal end has its own exit code and says why, once, in a form
//! that people and Kubernetes read.

use std::io::Write;
use std::process::ExitCode;

/// Where Kubernetes looks for a container's last words.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// Why the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// A flag or the configuration is wrong.
    Usage,
    /// Whoever read the output has gone away: there is nothing left to do, and nothing to say.
    ReaderGone,
    /// The cluster refused the request for a reason that none of the next ones names, or the answer is "no".
    Refused,
    /// What was asked for does not exist, or no longer.
    NotFound,
    /// What is there does not go together with the request, or its condition does not hold.
    Conflict,
    /// No answer, not in time, or none that says whether the request was carried out.
    Unavailable,
    /// The caller may not do this.
    Denied,
    /// Somebody else holds the lock.
    Held,
    /// The data directory is in use by another process.
    DataInUse,
    /// The data directory cannot be written. The data in it is untouched.
    DataUnwritable,
    /// The data directory belongs to something else: another cluster, or no node.
    DataForeign,
    /// The data directory is written in a newer format.
    DataNewer,
    /// The data directory is written in a format that is too old.
    DataOlder,
    /// The data is damaged.
    DataDamaged,
    /// An address cannot be listened on.
    AddressInUse,
    /// The log or the state could not be written while running.
    StorageFailed,
    /// The consensus stopped for good.
    ConsensusStopped,
}

impl Ending {
    /// How a client command can fail, in the order of the exit codes.
    pub(crate) const OF_CLIENT_COMMANDS: [Self; 7] = [
        Self::Refused,
        Self::Usage,
        Self::NotFound,
        Self::Conflict,
        Self::Unavailable,
        Self::Denied,
        Self::Held,
    ];

    /// The exit code.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::ReaderGone => 0,
            Self::Refused => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Conflict => 4,
            Self::Unavailable => 5,
            Self::Denied => 6,
            Self::Held => 7,
            Self::DataInUse => 10,
            Self::DataUnwritable => 11,
            Self::DataForeign => 12,
            Self::DataNewer => 13,
            Self::DataOlder => 16,
            Self::DataDamaged => 14,
            Self::AddressInUse => 15,
            Self::StorageFailed => 20,
            Self::ConsensusStopped => 21,
        }
    }

    /// A stable name for machines.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::ReaderGone => "reader-gone",
            Self::Refused => "refused",
            Self::NotFound => "not-found",
            Self::Conflict => "conflict",
            Self::Unavailable => "unavailable",
            Self::Denied => "denied",
            Self::Held => "held",
            Self::DataInUse => "data-in-use",
            Self::DataUnwritable => "data-unwritable",
            Self::DataForeign => "data-foreign",
            Self::DataNewer => "data-newer",
            Self::DataOlder => "data-older",
            Self::DataDamaged => "data-damaged",
            Self::AddressInUse => "address-in-use",
            Self::StorageFailed => "storage-failed",
            Self::ConsensusStopped => "consensus-stopped",
        }
    }
}

/// A fatal end with its reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct Fatal {
    /// Which kind of end.
    pub(crate) ending: Ending,
    /// Why, with paths and what to do.
    pub(crate) reason: String,
}

impl Fatal {
    /// A fatal end.
    pub(crate) fn new(ending: Ending, reason: impl Into<String>) -> Self {
        Self { ending, reason: reason.into() }
    }

    /// Says why on standard error, as a JSON line for nodes also to the termination log, and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        let line = serde_json::json!({
            "level": "FATAL",
            "ending": self.ending.name(),
            "exit_code": self.ending.code(),
            "message": self.reason,
        });
        // Standard error may be closed; there is nobody left to tell then.
        let _ = writeln!(std::io::stderr(), "{line}");
        if let Ok(mut file) = std::fs::OpenOptions::new().append(true).open(TERMINATION_LOG) {
            let _ = writeln!(file, "{line}");
        }
        ExitCode::from(self.ending.code())
    }
}
