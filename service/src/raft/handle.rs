//! The rest of the program's view of the consensus: propose, read, look. No type of the consensus library leaves here.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use holdfast_core::domain::{Applied, Command, Fault, LEVEL, Proposal, ReplayKey, View};
use holdfast_core::{LeaderId, LogTime, limits};
use openraft::errors::{ClientWriteError, LinearizableReadError, RaftError};
use openraft::raft::linearizable_read::LinearizerOption;
use tokio::sync::{Semaphore, watch};

use crate::raft::applied::AppliedMark;
use crate::raft::rounds::Rounds;
use crate::raft::status::Status;
use crate::raft::types::{ProposalBytes, Response};
use crate::raft::{HoldfastRaft, StateReader};
use crate::storage::state_db::StateHandle;

/// Proposals in flight on one node. Beyond that, more waiting does not make anything faster.
const IN_FLIGHT_MAX: usize = 4_096;
/// Proposals in flight beyond that, for what frees something: under overload releases must still get through.
const IN_FLIGHT_RESERVE: usize = 1_024;
/// How long a proposal may take before its outcome is called unknown.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a read waits for the round that confirms the leader.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a read waits for the revision that it asks for.
const REVISION_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a proposal has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProposeError {
    /// It was never handed to the log: certainly not applied.
    #[error("this node does not lead")]
    NotLeading,
    /// It was never handed to the log: certainly not applied.
    #[error("too many proposals are in flight")]
    Overloaded,
    /// It was never handed to the log: certainly not applied.
    #[error("an entry of {bytes} bytes is larger than {bytes_max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// It may or may not be applied, now or later.
    #[error("{reason}")]
    Unknown {
        /// What happened.
        reason: String,
    },
}

/// Why a read could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReadError {
    /// Only the leader answers for the cluster.
    #[error("this node does not lead")]
    NotLeading,
    /// No majority confirmed the leader in time.
    #[error("no majority confirmed the leader in time")]
    NoQuorum,
    /// The revision did not come in time.
    #[error("revision {wanted} was not reached, this node is at {revision}")]
    NotReached {
        /// What was asked for.
        wanted: u64,
        /// Where this node is.
        revision: u64,
    },
    /// The state cannot be read; the node is about to end.
    #[error("{reason}")]
    Failed {
        /// What the storage said.
        reason: String,
    },
}

impl From<Fault> for ReadError {
    fn from(fault: Fault) -> Self {
        Self::Failed { reason: fault.to_string() }
    }
}

/// Whether a command only ends things. It goes before new work when there is too much of it.
fn frees_something(command: &Command) -> bool {
    match command {
        Command::EndSession { .. }
        | Command::Release { .. }
        | Command::ForceRelease { .. }
        | Command::CancelWait(_)
        | Command::Expire(_)
        | Command::Tick
        | Command::Compact(_)
        | Command::Found { .. } => true,
        Command::CreateNamespace { .. }
        | Command::DeleteNamespace { .. }
        | Command::CreateSession { .. }
        | Command::Acquire(_)
        | Command::PutConfig(_)
        | Command::DeleteConfig(_)
        | Command::RollbackConfig(_)
        | Command::Txn(_)
        | Command::AcquireSet(_)
        | Command::Proclaim(_) => false,
    }
}

/// One round that confirms that this node leads; the index of what was committed when it began.
pub(super) async fn confirm(raft: &HoldfastRaft) -> Result<u64, ReadError> {
    let option = LinearizerOption::new(Some(Duration::ZERO), true).with_wait_timeout(READ_TIMEOUT);
    match raft.get_read_linearizer(option).await {
        Ok(linearizer) => Ok(linearizer.read_log_id().log_id().index),
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_))) => Err(ReadError::NotLeading),
        Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => Err(ReadError::NoQuorum),
        Err(RaftError::Fatal(fatal)) => Err(ReadError::Failed { reason: fatal.to_string() }),
    }
}

/// The node ends.
pub(super) fn stopped() -> ReadError {
    ReadError::Failed { reason: "the consensus has stopped".to_owned() }
}

/// The consensus of one node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(super) raft: HoldfastRaft,
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    state: StateHandle,
    status: watch::Receiver<Arc<Status>>,
    applied: watch::Receiver<AppliedMark>,
    in_flight: Semaphore,
    reserve: Semaphore,
    clock: Mutex<Option<ClockBase>>,
    rounds: Rounds,
    /// When a leader last sent something to this node.
    leader_heard: Mutex<Option<Instant>>,
}

/// The reading of the replicated clock when a leadership began to serve: the leader adds its own monotonic time.
#[derive(Debug, Clone, Copy)]
struct ClockBase {
    leader: LeaderId,
    time: LogTime,
    at: Instant,
}

impl Handle {
    /// The handle of a running consensus.
    pub(super) fn new(
        raft: HoldfastRaft,
        state: StateHandle,
        status: watch::Receiver<Arc<Status>>,
        applied: watch::Receiver<AppliedMark>,
        rounds: Rounds,
    ) -> Self {
        let (in_flight, reserve) = (Semaphore::new(IN_FLIGHT_MAX), Semaphore::new(IN_FLIGHT_RESERVE));
        Self {
            raft,
            inner: Arc::new(Inner {
                state,
                status,
                applied,
                in_flight,
                reserve,
                clock: Mutex::default(),
                rounds,
                leader_heard: Mutex::default(),
            }),
        }
    }

    /// The cluster as this node knows it.
    pub(crate) fn status(&self) -> Arc<Status> {
        self.inner.status.borrow().clone()
    }

    /// The cluster as this node knows it, and its changes.
    pub(crate) fn watch_status(&self) -> watch::Receiver<Arc<Status>> {
        self.inner.status.clone()
    }

    /// A leader sent something.
    pub(super) fn hear_leader(&self) {
        *self.inner.leader_heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// How long no leader sent anything to this node. The consensus itself remembers a leader that is dead until it knows
    /// another one.
    pub(crate) fn leader_silence(&self) -> Option<Duration> {
        let heard = *self.inner.leader_heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.map(|at| at.elapsed())
    }

    /// What this node has applied.
    pub(crate) fn applied(&self) -> AppliedMark {
        *self.inner.applied.borrow()
    }

    /// Proposals that have no outcome yet.
    pub(crate) fn proposals_pending(&self) -> usize {
        let free = self.inner.in_flight.available_permits() + self.inner.reserve.available_permits();
        IN_FLIGHT_MAX + IN_FLIGHT_RESERVE - free
    }

    /// The leader's reading of the replicated clock: never a wall clock, and the same base for a whole leadership.
    fn time_of(&self, leader: LeaderId) -> LogTime {
        let mut base = self.inner.clock.lock().unwrap_or_else(PoisonError::into_inner);
        let current = match *base {
            Some(current) if current.leader == leader => current,
            Some(_) | None => {
                *base.insert(ClockBase { leader, time: self.applied().time, at: Instant::now() })
            }
        };
        let elapsed_ms = u64::try_from(current.at.elapsed().as_millis()).unwrap_or(u64::MAX);
        current.time.after_ms(elapsed_ms)
    }

    /// The replicated clock as this node reads it: moving while it leads, at the last applied entry otherwise.
    pub(crate) fn log_time(&self) -> LogTime {
        match self.status().leading {
            Some(leader) => self.time_of(leader),
            None => self.applied().time,
        }
    }

    /// Puts a command into the log and waits until it is durable on a majority and applied here.
    ///
    /// # Errors
    /// [`ProposeError`] tells whether the command can still happen.
    pub(crate) async fn propose(
        &self,
        command: Command,
        replay: Option<ReplayKey>,
    ) -> Result<Applied, ProposeError> {
        let Some(leader) = self.inner.status.borrow().leading else { return Err(ProposeError::NotLeading) };
        let permit = self.inner.in_flight.try_acquire().or_else(|full| {
            if frees_something(&command) { self.inner.reserve.try_acquire() } else { Err(full) }
        });
        let Ok(permit) = permit else { return Err(ProposeError::Overloaded) };
        let proposal = Proposal { level: LEVEL, time: self.time_of(leader), replay, command };
        let bytes = proposal.encode();
        if limits::ENTRY_BYTES_MAX < bytes.len() {
            return Err(ProposeError::TooLarge { bytes: bytes.len(), bytes_max: limits::ENTRY_BYTES_MAX });
        }
        let written =
            tokio::time::timeout(PROPOSE_TIMEOUT, self.raft.client_write(ProposalBytes(bytes))).await;
        drop(permit);
        let unknown = |reason: String| ProposeError::Unknown { reason };
        match written {
            Err(_) => Err(unknown("no answer from a majority in time".to_owned())),
            Ok(Ok(answer)) => match answer.data {
                Response::Applied(applied) => Ok(*applied),
                Response::Nothing => Err(unknown("the entry was applied without an answer".to_owned())),
            },
            // Only this very error says that nothing was appended; every other one leaves it open.
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => {
                Err(ProposeError::NotLeading)
            }
            Ok(Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)))) => {
                Err(unknown("another leader took over before a majority had the entry".to_owned()))
            }
            Ok(Err(error)) => Err(unknown(error.to_string())),
        }
    }

    /// Waits until a majority has confirmed, in a round that began after this call, that this node leads, and until
    /// everything committed by then is applied here. Rounds are shared by all reads that wait.
    ///
    /// # Errors
    /// [`ReadError`] when this node does not lead or cannot reach a majority.
    pub(crate) async fn confirm_leadership(&self) -> Result<(), ReadError> {
        if self.inner.status.borrow().leading.is_none() {
            return Err(ReadError::NotLeading);
        }
        let confirmed = async {
            let committed = self.inner.rounds.confirm().await?;
            let mut applied = self.inner.applied.clone();
            let reached = applied.wait_for(|mark| Some(committed) <= mark.index).await;
            reached.map(drop).map_err(|_| stopped())
        };
        tokio::time::timeout(READ_TIMEOUT, confirmed).await.unwrap_or(Err(ReadError::NoQuorum))
    }

    /// Waits until this node has applied a revision.
    ///
    /// # Errors
    /// [`ReadError::NotReached`] when it does not come in time.
    pub(crate) async fn wait_revision(&self, wanted: u64) -> Result<(), ReadError> {
        let mut applied = self.inner.applied.clone();
        let reached = applied.wait_for(|mark| wanted <= mark.revision.as_u64());
        match tokio::time::timeout(REVISION_TIMEOUT, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => {
                Err(ReadError::NotReached { wanted, revision: self.applied().revision.as_u64() })
            }
        }
    }

    /// Stops the consensus: nothing is proposed, voted or applied any more.
    pub(crate) async fn shutdown(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "the consensus ended badly");
        }
    }

    /// The first failure of the state's database: the node must end, whatever it could still do.
    pub(crate) fn storage_failure(&self) -> Option<String> {
        self.inner.state.current().latch().error().map(ToString::to_string)
    }

    /// Makes the state durable, so that the next start has less to apply again.
    pub(crate) async fn flush(&self) {
        let state = self.inner.state.current();
        match tokio::task::spawn_blocking(move || state.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the state was not flushed; the next start applies the log again")
            }
            Err(error) => {
                tracing::warn!(%error, "the state was not flushed; the next start applies the log again")
            }
        }
    }

    /// Looks at this node's state at one moment. `look` must not wait for anything.
    ///
    /// # Errors
    /// [`ReadError::Failed`] when the storage cannot answer.
    pub(crate) fn look<T>(
        &self,
        look: impl FnOnce(&View<'_, StateReader<'_>>) -> Result<T, Fault>,
    ) -> Result<T, ReadError> {
        let state = self.inner.state.current();
        Ok(state.read(|rows| look(&View::new(&StateReader::new(rows))))?)
    }
}
