//! The signals that are passed on to the command.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use rustix::process::Signal as RawSignal;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A signal that whoever sends it to `holdfast` means for the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Relayed {
    /// The terminal is gone, or: read your configuration again.
    Hup,
    /// Ctrl-C.
    Int,
    /// Ctrl-\.
    Quit,
    /// End.
    Term,
    /// What the command takes it for.
    Usr1,
    /// What the command takes it for.
    Usr2,
    /// The terminal has another size.
    Winch,
    /// Ctrl-Z.
    Tstp,
}

impl Relayed {
    /// All of them.
    pub(super) const ALL: [Self; 8] =
        [Self::Hup, Self::Int, Self::Quit, Self::Term, Self::Usr1, Self::Usr2, Self::Winch, Self::Tstp];

    /// The signal itself.
    pub(super) const fn raw(self) -> RawSignal {
        match self {
            Self::Hup => RawSignal::HUP,
            Self::Int => RawSignal::INT,
            Self::Quit => RawSignal::QUIT,
            Self::Term => RawSignal::TERM,
            Self::Usr1 => RawSignal::USR1,
            Self::Usr2 => RawSignal::USR2,
            Self::Winch => RawSignal::WINCH,
            Self::Tstp => RawSignal::TSTP,
        }
    }

    /// Whether it asks a program that does nothing else to end.
    pub(super) const fn asks_to_end(self) -> bool {
        match self {
            Self::Hup | Self::Int | Self::Quit | Self::Term => true,
            Self::Usr1 | Self::Usr2 | Self::Winch | Self::Tstp => false,
        }
    }
}

/// The signals, caught. From the making on they no longer do to this process what they would.
#[derive(Debug)]
pub(super) struct Signals {
    caught: Vec<(Relayed, Signal)>,
}

impl Signals {
    /// Catches them, except those that this process was told to ignore: `nohup` and shells that start something in the
    /// background rely on that, and what is ignored here is also ignored by the command.
    ///
    /// # Errors
    /// When a signal cannot be caught.
    pub(super) fn catch() -> io::Result<Self> {
        let ignored = ignored_signals();
        let mut caught = Vec::with_capacity(Relayed::ALL.len());
        for relayed in Relayed::ALL {
            let number = relayed.raw().as_raw();
            if ignored >> (number - 1) & 1 == 0 {
                caught.push((relayed, signal(SignalKind::from_raw(number))?));
            }
        }
        Ok(Self { caught })
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Relayed {
        poll_fn(|context| {
            for (relayed, stream) in &mut self.caught {
                if stream.poll_recv(context).is_ready() {
                    return Poll::Ready(*relayed);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// The signals that this process ignores, bit n-1 for signal n; none where that cannot be read.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    mask_of(&status, "SigIgn:").unwrap_or(0)
}

fn mask_of(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ignored_signals_are_read_from_the_status_of_the_process() {
        let status = "Name:\tx\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0\n";
        assert_eq!(mask_of(status, "SigIgn:"), Some(0x1001));
        assert_eq!(mask_of("Name:\tx\n", "SigIgn:"), None);
    }

    #[test]
    fn every_signal_has_a_number_of_its_own() {
        let mut numbers: Vec<i32> = Relayed::ALL.iter().map(|relayed| relayed.raw().as_raw()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), Relayed::ALL.len());
    }
}
