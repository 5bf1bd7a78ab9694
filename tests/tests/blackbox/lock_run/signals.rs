//! Signals go through to the command.

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tokio::process::Command;

use crate::lock_run::program::{Running, one_node};

const RELAYED: [(&str, Signal); 7] = [
    ("HUP", Signal::HUP),
    ("INT", Signal::INT),
    ("QUIT", Signal::QUIT),
    ("USR1", Signal::USR1),
    ("USR2", Signal::USR2),
    ("WINCH", Signal::WINCH),
    ("TERM", Signal::TERM),
];

/// Says which signals it gets; TERM ends it.
const LISTENER: &str = "for name in HUP INT QUIT USR1 USR2 WINCH; do trap \"echo got $name\" $name; done; \
    trap 'echo got TERM; exit 42' TERM; echo up; while :; do sleep 0.05 & wait $!; done";

/// Whether this test, and so everything that it starts, ignores a signal. A shell cannot trap such a one either.
fn is_ignored_here(signal: Signal) -> Result<bool> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).context("no mask")?;
    Ok(u64::from_str_radix(mask.trim(), 16)? >> (signal.as_raw() - 1) & 1 == 1)
}

#[tokio::test]
async fn each_signal_reaches_the_command_and_its_answer_is_its_own() -> Result<()> {
    let (_cluster, program) = one_node().await?;
    let mut run = program.start(["signals", "--", "sh", "-c", LISTENER])?;
    ensure!(run.line().await? == "up");
    for (name, signal) in RELAYED {
        if is_ignored_here(signal)? {
            // Whoever runs these tests in the background of a shell: only these three can be like that.
            ensure!(["HUP", "INT", "QUIT"].contains(&name), "{name} is ignored");
            continue;
        }
        run.signal(signal)?;
        let line = run.line().await?;
        ensure!(line == format!("got {name}"), "{name}: {line}");
    }
    ensure!(run.exit_code().await? == 42, "the command decided how to end");
    Ok(())
}

#[tokio::test]
async fn a_signal_reaches_what_the_command_has_started_too() -> Result<()> {
    let (_cluster, program) = one_node().await?;
    // The outer one listens before the inner one says that it is up.
    let script = "trap 'wait; echo outer; exit 5' USR1; \
                  sh -c 'trap \"echo inner; exit\" USR1; echo up; while :; do sleep 0.05 & wait $!; done' & wait";
    let mut run = program.start(["tree", "--", "sh", "-c", script])?;
    ensure!(run.line().await? == "up");
    run.signal(Signal::USR1)?;
    ensure!(run.line().await? == "inner");
    ensure!(run.line().await? == "outer");
    ensure!(run.exit_code().await? == 5);
    Ok(())
}

#[tokio::test]
async fn a_signal_that_the_caller_ignores_is_ignored_all_the_way_down() -> Result<()> {
    let (_cluster, program) = one_node().await?;
    // As `nohup` does it.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$@\"", "sh"]).arg(program.path());
    command.args(["lock", "run", "nohup", "--", "sh", "-c", LISTENER]);
    command.env("HOLDFAST_ENDPOINT", program.endpoints()).kill_on_drop(true);
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    command.stderr(std::process::Stdio::piped());
    let mut run = Running::start(command)?;
    ensure!(run.line().await? == "up");
    run.signal(Signal::HUP)?;
    run.signal(Signal::USR1)?;
    let line = run.line().await?;
    ensure!(line == "got USR1", "{line}");
    run.signal(Signal::TERM)?;
    ensure!(run.line().await? == "got TERM");
    ensure!(run.exit_code().await? == 42);
    Ok(())
}
