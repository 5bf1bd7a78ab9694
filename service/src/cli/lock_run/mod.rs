//! `holdfast lock run` and `holdfast elect run`: a command that runs only while this process holds a lock or leads.
//!
//! ```text
//!   take ── waits in the queue ──▶ hold ── starts the guard, renews, passes signals on ──▶ let go, exit code
//!                                    │ socket: link
//!                                  guard ── timing: when to end the command
//!                                    │ gate
//!                                  step ── becomes the command, in a process group of its own
//! ```
//!
//! What must never happen is that the command runs on after the service could have given the lock to somebody else. Main
//! alone cannot see to that, because it may be stopped or killed: see [`guard`].

mod group;
mod guard;
mod hold;
mod link;
mod signals;
mod step;
mod take;
mod terminal;
mod timing;
mod waiting;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use holdfast_api::claims::{ClaimMode, ContestKind};
use holdfast_api::client::{Lost, Session};
use holdfast_core::LockName;

use crate::cli::lock_run::hold::{Held, HeldEnd};
use crate::cli::lock_run::signals::{Relayed, Signals};
use crate::cli::lock_run::timing::Timing;
use crate::cli::target::Target;
use crate::cli::{duration, output};
use crate::exit::{Ending, Fatal};

pub(super) use step::run_hidden;

/// How long letting go may take, while somebody waits for the exit code.
const RELEASE_PATIENCE: Duration = Duration::from_secs(5);
/// The same after the lock was lost, when there is probably nobody to answer.
const LOST_RELEASE_PATIENCE: Duration = Duration::from_secs(1);

/// The exit codes, for the help.
const EXIT_CODES: &str = "\
Exit codes:
  the command's own, or 128 + N when signal N ended it; else
  2    the command line is wrong
  120  not granted within --wait
  121  lost: the command was ended
  122  no answer from the cluster, or it has no majority
  123  not allowed
  125  something else went wrong, and the command did not run or was ended
  126  the command cannot be executed
  127  the command was not found
  128 + N  signal N came while waiting";

/// What the help says after the flags.
pub(super) fn notes(examples: &str) -> String {
    format!("Examples:\n{examples}\n\n{EXIT_CODES}")
}

/// The flags of `lock run` and `elect run`.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Its name
    #[arg(value_name = "NAME", value_parser = name)]
    name: String,
    /// How long it stays taken when this process is lost: a dead holder blocks the next one for so long
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = duration::parse)]
    ttl: Duration,
    /// How long to wait for it: a time, 0 to try only once, or `forever`
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = wait)]
    wait: Wait,
    /// How long the command may take to end after TERM [default: 5s, or a third of --ttl if less]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    kill_after: Option<Duration>,
    /// What other people see beside it while it is held, and while this waits for it
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    /// The command and its arguments; no shell reads them
    #[arg(value_name = "CMD", last = true, required = true, num_args = 1..)]
    command: Vec<OsString>,
}

/// How `lock run` shares its lock.
#[derive(Debug, Default, Args)]
pub(super) struct ShareArgs {
    /// Hold it together with others that hold it shared, and never while one holds it alone
    #[arg(long)]
    shared: bool,
    /// Take it as a semaphore: so many of its permits
    #[arg(long, value_name = "N", requires = "of", conflicts_with = "shared")]
    permits: Option<u32>,
    /// How many permits it has, the same for everybody who takes some
    #[arg(long, value_name = "N", conflicts_with = "shared")]
    of: Option<u32>,
}

impl ShareArgs {
    const fn mode(&self) -> Option<ClaimMode> {
        match (self.shared, self.of) {
            (true, _) => Some(ClaimMode::Shared),
            (false, Some(_)) => Some(ClaimMode::Permits),
            (false, None) => None,
        }
    }
}

fn name(text: &str) -> Result<String, String> {
    LockName::new(text.to_owned()).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// How long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// Not longer than this; not at all when it is zero.
    For(Duration),
    /// As long as it takes.
    Forever,
}

fn wait(text: &str) -> Result<Wait, duration::DurationError> {
    match text {
        "0" => Ok(Wait::For(Duration::ZERO)),
        "forever" => Ok(Wait::Forever),
        time => duration::parse(time).map(Wait::For),
    }
}

/// The environment variable in which the command finds the name of what is held.
const fn name_variable(contest: ContestKind) -> &'static str {
    match contest {
        ContestKind::Lock => "HOLDFAST_LOCK",
        ContestKind::Election => "HOLDFAST_ELECTION",
    }
}

/// The command that shows who has it.
const fn look_command(contest: ContestKind) -> &'static str {
    match contest {
        ContestKind::Lock => "holdfast lock get",
        ContestKind::Election => "holdfast elect leader",
    }
}

/// How a run ends, if not with the exit code of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    /// Somebody else has it.
    NotAcquired,
    /// It was lost and the command was ended.
    Lost,
    /// The cluster did not answer, or could not.
    Unreachable,
    /// This caller may not.
    Denied,
    /// Anything else.
    Failed,
    /// The command exists and cannot be executed.
    NotExecutable,
    /// The command does not exist.
    NotFound,
    /// A signal came before there was a command to pass it on to.
    Signalled(Relayed),
}

impl Exit {
    fn code(self) -> u8 {
        match self {
            Self::NotAcquired => 120,
            Self::Lost => 121,
            Self::Unreachable => 122,
            Self::Denied => 123,
            Self::Failed => 125,
            Self::NotExecutable => 126,
            Self::NotFound => 127,
            Self::Signalled(relayed) => {
                128_u8.saturating_add(u8::try_from(relayed.raw().as_raw()).unwrap_or(u8::MAX))
            }
        }
    }
}

/// A run that ends without the command's exit code, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
struct Failure {
    exit: Exit,
    /// What happened and what to do.
    reason: String,
}

impl Failure {
    fn new(exit: Exit, reason: impl Into<String>) -> Self {
        Self { exit, reason: reason.into() }
    }
}

/// One run.
#[derive(Debug)]
struct Run<'a> {
    target: &'a Target,
    contest: ContestKind,
    name: String,
    timing: Timing,
    wait: Wait,
    label: Option<String>,
    share: ShareArgs,
    command: Vec<OsString>,
}

impl Run<'_> {
    /// How to see who has it.
    fn look_advice(&self) -> String {
        format!("`{} {}` shows who has it", look_command(self.contest), self.name)
    }

    /// What is taken, for messages.
    fn what(&self) -> String {
        format!("{} {}", self.contest, self.name)
    }
}

/// Runs the command while this process has the lock or leads.
///
/// # Errors
/// [`Fatal`] when the flags do not go together. Everything else is told here and by the exit code.
pub(super) async fn run(
    args: RunArgs,
    share: ShareArgs,
    contest: ContestKind,
    target: &Target,
) -> Result<ExitCode, Fatal> {
    let RunArgs { name, ttl, wait, kill_after, label, command } = args;
    let timing =
        Timing::new(ttl, kill_after).map_err(|error| Fatal::new(Ending::Usage, error.to_string()))?;
    let run = Run { target, contest, name, timing, wait, label, share, command };
    let code = match Box::pin(carry_out(&run)).await {
        Ok(code) => code,
        Err(failure) => {
            say(&failure.reason);
            failure.exit.code()
        }
    };
    Ok(ExitCode::from(code))
}

/// Tells the person at the terminal, between the lines of the command.
fn say(text: &str) {
    output::complaint(&format!("holdfast: {text}"));
}

async fn carry_out(run: &Run<'_>) -> Result<u8, Failure> {
    let mut signals = Signals::catch()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot catch signals: {error}")))?;
    let (session, guard) = Box::pin(take::take(run, &mut signals)).await?;
    let held = Held { run, guard: &guard, session: session.id() };
    let end = Box::pin(held.run_command(&mut signals)).await;
    let outcome = conclude(run, &end);
    if end.nothing_runs() {
        let_go(run, session, outcome.is_ok()).await;
    } else {
        say(&format!(
            "a process of the command does not die, so {} is not released; it is free in {} at the latest",
            run.what(),
            brief(run.timing.ttl())
        ));
    }
    outcome
}

/// What the end of the command means.
fn conclude(run: &Run<'_>, end: &HeldEnd) -> Result<u8, Failure> {
    let what = run.what();
    match end {
        HeldEnd::Command { code, .. } => Ok(*code),
        HeldEnd::Forced { lost, .. } => {
            let (why, advice) = match lost {
                Some(Lost::SessionEnded) => ("somebody ended its session", run.look_advice()),
                Some(Lost::ClaimEnded) => ("somebody took it away", run.look_advice()),
                Some(Lost::LeaseRanOut | Lost::GivenUp) | None => (
                    "no renewal was answered in time, or this process was stopped for too long",
                    "`holdfast cluster status` shows whether the cluster has a majority".to_owned(),
                ),
            };
            let reason = format!("lost {what}: {why}; the command was ended\n  next:  {advice}");
            Err(Failure::new(Exit::Lost, reason))
        }
        HeldEnd::GuardDied { .. } => Err(Failure::new(
            Exit::Failed,
            format!(
                "the guard process of {what} died, and the command with it; `holdfast` itself is unharmed"
            ),
        )),
        HeldEnd::NotStarted { reason } => {
            Err(Failure::new(Exit::Failed, format!("cannot start the command: {reason}")))
        }
    }
}

/// Ends the session, and by that the claim: nobody has to wait for the TTL.
async fn let_go(run: &Run<'_>, session: Session, held_to_the_end: bool) {
    let patience = if held_to_the_end { RELEASE_PATIENCE } else { LOST_RELEASE_PATIENCE };
    let released = tokio::time::timeout(patience, Box::pin(session.end())).await;
    if held_to_the_end && !matches!(released, Ok(Ok(()))) {
        say(&format!(
            "the release of {} was not answered; it is free in {} at the latest",
            run.what(),
            brief(run.timing.ttl())
        ));
    }
}

fn brief(time: Duration) -> String {
    duration::brief(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_a_time_or_zero_or_forever() {
        assert_eq!(wait("0"), Ok(Wait::For(Duration::ZERO)));
        assert_eq!(wait("0s"), Ok(Wait::For(Duration::ZERO)));
        assert_eq!(wait("30s"), Ok(Wait::For(Duration::from_secs(30))));
        assert_eq!(wait("forever"), Ok(Wait::Forever));
        assert_eq!(wait("30"), Err(duration::DurationError::UnitMissing("30".to_owned())));
        assert_eq!(wait("ever"), Err(duration::DurationError::Malformed));
    }

    #[test]
    fn every_exit_code_is_in_the_help() {
        let exits = [
            Exit::NotAcquired,
            Exit::Lost,
            Exit::Unreachable,
            Exit::Denied,
            Exit::Failed,
            Exit::NotExecutable,
            Exit::NotFound,
        ];
        for exit in exits {
            assert!(EXIT_CODES.contains(&format!("\n  {}  ", exit.code())), "{exit:?}");
        }
        assert_eq!(Exit::Signalled(Relayed::Term).code(), 143);
    }
}
