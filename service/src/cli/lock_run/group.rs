//! The process group of the command: it and everything that it starts, except what leaves the group on purpose.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

/// How long killed processes are waited for. Only one that hangs in the kernel takes longer.
const GONE_PATIENCE: Duration = Duration::from_secs(2);
/// Pause between two looks at them.
const GONE_LOOK_PERIOD: Duration = Duration::from_millis(2);

/// A process group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Group(Pid);

impl Group {
    /// The group that this process leads.
    pub(super) const fn led_by(leader: Pid) -> Self {
        Self(leader)
    }

    /// Its id, which is the process id of its leader.
    pub(super) const fn id(self) -> Pid {
        self.0
    }

    /// Sends a signal to all of it.
    pub(super) fn signal(self, signal: Signal) {
        // It fails when nobody is left, and when all have become another user's: neither can be helped here.
        let _: rustix::io::Result<()> = kill_process_group(self.0, signal);
    }

    /// Kills what is left of it and waits until that is gone; false when something still lives after a while.
    pub(super) async fn kill_and_wait(self) -> bool {
        let gone = async {
            loop {
                self.signal(Signal::KILL);
                if !self.is_alive() {
                    return;
                }
                tokio::time::sleep(GONE_LOOK_PERIOD).await;
            }
        };
        tokio::time::timeout(GONE_PATIENCE, gone).await.is_ok()
    }

    /// Whether any process in it still runs. A zombie does not: it only waits to be collected. What cannot be looked at
    /// counts as alive.
    fn is_alive(self) -> bool {
        let Ok(entries) = std::fs::read_dir("/proc") else { return true };
        let id = self.0.as_raw_nonzero().get();
        entries.flatten().any(|entry| {
            let is_process = entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit);
            // A process that has gone meanwhile has no status any more.
            is_process
                && std::fs::read_to_string(entry.path().join("stat")).is_ok_and(|stat| runs_in(&stat, id))
        })
    }
}

/// Whether this line of `/proc/<pid>/stat` is of a running process in that group.
fn runs_in(stat: &str, group: i32) -> bool {
    // The name, in parentheses, may itself have spaces and parentheses.
    let Some((_, rest)) = stat.rsplit_once(") ") else { return false };
    let mut fields = rest.split(' ');
    let (state, _parent, its_group) = (fields.next(), fields.next(), fields.next());
    let dead = matches!(state, Some("Z" | "X" | "x"));
    !dead && its_group.and_then(|group| group.parse().ok()) == Some(group)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_runs_in_its_group_unless_it_is_a_zombie() {
        assert!(runs_in("12 (a) b) S 1 77 77 0 -1", 77));
        assert!(!runs_in("12 (a) b) S 1 77 77 0 -1", 7));
        assert!(!runs_in("12 (sh) Z 1 77 77 0 -1", 77));
        assert!(!runs_in("", 77));
    }

    #[tokio::test]
    async fn a_killed_group_is_gone_with_all_its_members() {
        let mut shell = Command::new("sh");
        shell.args(["-c", "sleep 1000 & echo started; wait"]).process_group(0).stdout(Stdio::piped());
        let mut child = shell.spawn().unwrap();
        let group = Group::led_by(Pid::from_child(&child));
        let mut line = String::new();
        let out = child.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
        assert!(group.is_alive());
        assert!(group.kill_and_wait().await);
        assert!(!group.is_alive(), "the leader, which nobody has collected, is a zombie");
        child.wait().unwrap();
    }
}
