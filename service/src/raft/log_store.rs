//! openraft's log storage over [`LogDb`].
//!
//! What is awaited and what is not follows openraft's rules for the order of IO: an append returns when its entries can
//! be read and calls back when they are durable; a vote is durable, with everything written before it, when
//! `save_vote` returns; the committed position, truncations and purges are only ordered. Whoever needs those durable
//! awaits [`LogStore::wait_synced`].

use crate::raft::codec::{self, Encoded};
use crate::raft::types::{Entry, LeaderId, LogId, TypeConfig, Vote};
use crate::storage::latch::{Latch, StorageError};
use crate::storage::log_db::{LogDb, LogOpenError, MetaRow, entry_key};
use crate::storage::log_sync::{FlushCallback, SyncStats};
use crate::storage::record::RecordError;
use bytes::Bytes;
use futures_util::{Stream, stream};
use openraft::errors::LeaderChanged;
use openraft::storage::{
    IOFlushed, LeaderBoundedStreamError, LeaderBoundedStreamResult, LogState, RaftLogStorage,
};
use openraft::{OptionalSend, RaftLogReader};
use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{oneshot, watch};

/// One read for replication or apply holds no more than this and one entry: a request's entry is at most 2 MiB itself.
const READ_BYTES_MAX: usize = 2 << 20;

/// The log of this node. Clones share it; each is also a reader.
#[derive(Clone)]
pub(crate) struct LogStore {
    db: Arc<LogDb>,
}

impl LogStore {
    /// Opens the log in `path` and reads everything in it once.
    ///
    /// # Errors
    /// [`LogOpenError`], which names what is damaged.
    pub(crate) fn open(path: &Path) -> Result<Self, LogOpenError> {
        let store = Self { db: Arc::new(LogDb::open(path, codec::ENTRY)?) };
        let damaged = |source: RecordError| StorageError::Record { path: path.to_owned(), source };
        store.meta::<Vote>(MetaRow::Vote)?.map_err(damaged)?;
        for row in [MetaRow::Committed, MetaRow::Purged] {
            store.meta::<LogId>(row)?.map_err(damaged)?;
        }
        Ok(store)
    }

    /// The first failure of the log's database, for ever.
    pub(crate) fn latch(&self) -> &Latch {
        self.db.latch()
    }

    /// The last entry that is durable here. An entry may be applied only when it is at or below this.
    pub(crate) fn flushed(&self) -> watch::Receiver<Option<u64>> {
        self.db.flushed()
    }

    /// Counters of the sync thread.
    pub(crate) fn stats(&self) -> Arc<SyncStats> {
        self.db.stats()
    }

    /// Returns when everything written so far is durable: a state must not be swapped in before the truncations that
    /// precede it are, or a crash could leave entries in the log that contradict the state.
    ///
    /// # Errors
    /// When the database has failed.
    pub(crate) async fn wait_synced(&self) -> Result<(), StorageError> {
        let (done, synced) = callback();
        self.db.sync(done);
        synced.await.unwrap_or_else(|_| Err(self.stopped()))
    }

    /// A callback that is dropped uncalled can only mean that the sync thread is gone.
    fn stopped(&self) -> StorageError {
        self.latch()
            .check()
            .err()
            .unwrap_or_else(|| StorageError::Stopped { path: self.db.path().to_owned() })
    }

    fn meta<T: Encoded>(&self, row: MetaRow) -> Result<Result<Option<T>, RecordError>, StorageError> {
        let record = self.db.meta(row)?;
        Ok(record.map(|record| codec::decode(row.key(), &record)).transpose())
    }

    fn read_meta<T: Encoded>(&self, row: MetaRow) -> io::Result<Option<T>> {
        self.meta(row)?.map_err(io::Error::other)
    }

    fn entries(&self, start: u64, end: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let rows = self.db.read(start, end, bytes_max)?;
        let entries =
            rows.into_iter().map(|(index, row)| codec::decode_entry(&entry_key(index), index, &row));
        entries.collect::<Result<_, _>>().map_err(io::Error::other)
    }

    /// For whom this node voted last.
    pub(super) fn vote(&self) -> io::Result<Option<Vote>> {
        self.read_meta(MetaRow::Vote)
    }

    /// The next entries of a stream that ends where the log ends.
    fn next_entries(&self, range: &mut (u64, u64)) -> io::Result<VecDeque<Entry>> {
        let entries = self.entries(range.0, range.1, READ_BYTES_MAX)?;
        if let Some(last) = entries.last() {
            range.0 = last.log_id.index.saturating_add(1);
        }
        Ok(entries.into())
    }

    /// [`Self::next_entries`] while `leader` leads; the vote must be the same after the read, because another leader may
    /// have truncated the log in between.
    fn next_entries_of(
        &self,
        leader: &LeaderId,
        range: &mut (u64, u64),
    ) -> Result<VecDeque<Entry>, LeaderBoundedStreamError<TypeConfig>> {
        let check = || {
            let vote = self.vote()?;
            match vote {
                Some(vote) if vote.committed && vote.leader_id == *leader => Ok(()),
                Some(_) | None => Err(LeaderBoundedStreamError::from(LeaderChanged::new(*leader, vote))),
            }
        };
        check()?;
        let entries = self.next_entries(range)?;
        check()?;
        Ok(entries)
    }
}

fn callback() -> (FlushCallback, oneshot::Receiver<Result<(), StorageError>>) {
    let (done, synced) = oneshot::channel();
    let call = move |result| {
        // The one who waited may be gone, for instance at shutdown.
        drop(done.send(result));
    };
    (Box::new(call), synced)
}

/// `start..end`, the end exclusive.
fn bounds_of(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

/// A stream of single items from a source of chunks. It ends with the first empty chunk, or after the first error.
fn one_by_one<E: Send>(
    next: impl FnMut() -> Result<VecDeque<Entry>, E> + Send,
) -> impl Stream<Item = Result<Entry, E>> + Send {
    stream::unfold((Some(next), VecDeque::new()), |(mut next, mut ready)| async move {
        if ready.is_empty() {
            match next.as_mut().map(|next| next()) {
                Some(Ok(chunk)) => ready = chunk,
                Some(Err(error)) => return Some((Err(error), (None, ready))),
                None => return None,
            }
        }
        ready.pop_front().map(|entry| (Ok(entry), (next, ready)))
    })
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let (start, end) = bounds_of(&range);
        self.entries(start, end, usize::MAX)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.vote()
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.entries(start, end, READ_BYTES_MAX)
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let store = self.clone();
        let mut range = bounds_of(&range);
        one_by_one(move || store.next_entries(&mut range))
    }

    async fn leader_bounded_stream<RB>(
        &mut self,
        leader: LeaderId,
        range: RB,
    ) -> impl Stream<Item = LeaderBoundedStreamResult<TypeConfig>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let store = self.clone();
        let mut range = bounds_of(&range);
        one_by_one(move || store.next_entries_of(&leader, &mut range))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let last_purged_log_id = self.read_meta(MetaRow::Purged)?;
        let last_log_id = match self.db.bounds().last {
            None => last_purged_log_id,
            Some(last) => self.entries(last, last + 1, 0)?.pop().map(|entry| entry.log_id),
        };
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let (done, synced) = callback();
        self.db.save_vote(&codec::encode(MetaRow::Vote.key(), vote), done);
        Ok(synced.await.unwrap_or_else(|_| Err(self.stopped()))?)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        // openraft only ever moves it forward; there is nothing to save before the first.
        let Some(committed) = committed else { return Ok(()) };
        Ok(self.db.put_meta(MetaRow::Committed, &codec::encode(MetaRow::Committed.key(), &committed))?)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        self.read_meta(MetaRow::Committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let done: FlushCallback = Box::new(|result| callback.io_completed(result.map_err(io::Error::from)));
        let mut first = None;
        let mut rows: Vec<Bytes> = Vec::new();
        for (expected, entry) in (0_u64..).zip(entries) {
            let index = entry.log_id.index;
            let first = *first.get_or_insert(index);
            if index != first.saturating_add(expected) {
                let error = self.db.not_next(first.saturating_add(expected), index);
                done(Err(error.clone()));
                return Err(error.into());
            }
            rows.push(codec::encode_entry(&entry_key(index), &entry));
        }
        match first {
            Some(first) => self.db.append(first, rows, done)?,
            None => self.db.sync(done),
        }
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        Ok(self.db.truncate_after(last_log_id.map(|log_id| log_id.index))?)
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        Ok(self.db.purge(log_id.index, &codec::encode(MetaRow::Purged.key(), &log_id))?)
    }
}

#[cfg(test)]
mod log_store_test;
