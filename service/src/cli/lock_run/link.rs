//! What main and guard say to each other over one socket: a line of JSON each. Its end says that the other one is gone.
//!
//! The socket is the guard's standard input, because that is the one descriptor that a program can be given without
//! `unsafe`; the real standard input goes through the socket, and from the guard to the command in the same way.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, send, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};

use crate::cli::lock_run::signals::Relayed;

/// What main tells the guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "kebab-case")]
pub(super) enum Order {
    /// The command may begin.
    Go {
        /// The process group that the terminal goes back to, if the command has it.
        terminal_home: Option<i32>,
    },
    /// The lease was renewed.
    Lease {
        /// When it ends, in milliseconds of `CLOCK_BOOTTIME`.
        end_ms: u64,
    },
    /// The command is to get this signal.
    Signal {
        /// Which.
        signal: Relayed,
    },
    /// The stopped command goes on.
    Continue {
        /// The process group that the terminal goes back to, if the command has it.
        terminal_home: Option<i32>,
    },
    /// The lock is lost: the command must not live on.
    Kill,
}

/// What the guard tells main.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "kebab-case")]
pub(super) enum Report {
    /// The command waits to begin.
    Started {
        /// Its process id, which is also that of its process group.
        pid: i32,
    },
    /// The command could not be started.
    Failed {
        /// Why.
        reason: String,
    },
    /// The command was stopped.
    Stopped {
        /// By this signal.
        signal: i32,
    },
    /// The lease is nearly over: the command was told to end.
    Ending,
    /// The command is dead.
    Ended {
        /// Its exit code, or 128 + n when signal n ended it.
        code: u8,
        /// Whether the guard ended it.
        forced: bool,
        /// Whether nothing of its process group is left.
        group_gone: bool,
    },
}

/// One end of the socket.
#[derive(Debug)]
pub(super) struct Link {
    lines: Lines<BufReader<tokio::net::UnixStream>>,
    writer: UnixStream,
}

impl Link {
    /// Takes the socket over. Needs a runtime.
    ///
    /// # Errors
    /// When the socket cannot be set up.
    pub(super) fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let writer = socket.try_clone()?;
        let reader = tokio::net::UnixStream::from_std(socket)?;
        Ok(Self { lines: BufReader::new(reader).lines(), writer })
    }

    /// The next message; none when the other side is gone or talks nonsense. Can be dropped without a loss.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Option<T> {
        let line = self.lines.next_line().await.ok().flatten()?;
        serde_json::from_str(&line).ok()
    }

    /// Sends a message, and never waits: the other side may be stopped. The few messages of a run fit into the socket's
    /// buffer; one that does not, or that nobody reads any more, is lost, and the end of the socket tells the rest.
    pub(super) fn tell(&self, message: &impl Serialize) {
        let mut line = serde_json::to_vec(message).expect("messages hold only plain data");
        line.push(b'\n');
        let _: rustix::io::Result<usize> =
            send(&self.writer, &line, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }
}

/// Sends a descriptor with one byte.
///
/// # Errors
/// When the socket does not take it.
pub(super) fn send_descriptor(socket: &UnixStream, descriptor: impl AsFd) -> io::Result<()> {
    let descriptors = [descriptor.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    sendmsg(socket, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Waits for one byte with a descriptor.
///
/// # Errors
/// When the other side is gone or sends something else.
pub(super) fn receive_descriptor(socket: impl AsFd) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        RecvAncillaryMessage::ScmCredentials(_) | _ => None,
    });
    descriptor.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, SeekFrom, Write};

    use super::*;

    #[tokio::test]
    async fn messages_arrive_in_order_and_the_end_of_one_side_is_seen_by_the_other() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let ours = Link::new(ours).unwrap();
        let mut theirs = Link::new(theirs).unwrap();
        let orders = [
            Order::Lease { end_ms: 1 },
            Order::Signal { signal: Relayed::Term },
            Order::Go { terminal_home: Some(7) },
            Order::Kill,
        ];
        for order in &orders {
            ours.tell(order);
        }
        drop(ours);
        for order in orders {
            assert_eq!(theirs.next().await, Some(order));
        }
        assert_eq!(theirs.next::<Order>().await, None);
        theirs.tell(&Report::Ending);
    }

    #[test]
    fn a_descriptor_arrives_as_the_same_open_file() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        send_descriptor(&ours, &file).unwrap();
        let mut received = std::fs::File::from(receive_descriptor(&theirs).unwrap());
        file.write_all(b"text").unwrap();
        received.seek(SeekFrom::Start(1)).unwrap();
        let mut rest = String::new();
        file.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "ext", "both share one position");
    }

    #[test]
    fn without_a_descriptor_there_is_an_error() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(ours);
        assert_eq!(receive_descriptor(&theirs).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
