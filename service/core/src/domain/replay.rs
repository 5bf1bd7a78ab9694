//! Idempotency records: the first answer of a keyed request, kept to be given again.

use serde::{Deserialize, Serialize};

use crate::LogTime;
use crate::domain::entry::Entry;
use crate::domain::key::{KeyRange, KeyReader};
use crate::domain::machine::Oldest;
use crate::domain::{Fault, Outcome, Rejection, ReplayKey, Table, Tables, key, record};
use crate::limits::{DROPPED_PER_ENTRY_MAX, REPLAY_ANSWER_BYTES_MAX};

/// A request that was answered, under its scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Replay {
    /// What the request asked.
    pub(crate) fingerprint: [u8; 32],
    /// When it was answered.
    pub(crate) time: LogTime,
    /// Its place in the index by age.
    pub(crate) sequence: u64,
    /// What it was answered, encoded; none when that was too large to keep.
    pub(crate) answer: Option<Vec<u8>>,
}

/// A row of the index by age.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReplayAge {
    /// The record's key.
    pub(crate) scope: [u8; 32],
    /// When it was answered.
    pub(crate) time: LogTime,
}

impl Replay {
    pub(crate) fn answer_bytes(&self) -> u64 {
        self.answer.as_ref().map_or(0, |answer| answer.len() as u64)
    }
}

impl<T: Tables> Entry<'_, '_, T> {
    /// The answer of a request that was answered before; none when it is to run.
    pub(crate) fn replayed(&self, replay: &ReplayKey) -> Result<Option<Outcome>, Fault> {
        #[cfg(feature = "seeded-bugs")]
        if self.bugs.replay_reevaluated {
            return Ok(None);
        }
        let key = key::replay(&replay.scope);
        let Some(stored) = self.rows.read::<Replay>(Table::Replay, &key)? else {
            return Ok(None);
        };
        if self.meta.settings.replay_ms <= self.meta.time.ms_since(stored.time) {
            return Ok(None);
        }
        if stored.fingerprint != replay.fingerprint {
            return Ok(Some(Err(Rejection::ReplayKeyReused)));
        }
        let Some(answer) = stored.answer else {
            return Ok(Some(Err(Rejection::ReplayAnswerNotKept)));
        };
        let damaged = |_| Fault::damaged(Table::Replay, &key, "its answer does not decode");
        postcard::from_bytes(&answer).map(Some).map_err(damaged)
    }

    /// Keeps the answer of a request that ran, in the place of one of the same scope that is too old.
    pub(crate) fn remember(&mut self, replay: &ReplayKey, outcome: &Outcome) -> Result<(), Fault> {
        self.forget(&replay.scope)?;
        let answer = postcard::to_stdvec(outcome).expect("an outcome holds only plain data");
        let kept = answer.len() <= REPLAY_ANSWER_BYTES_MAX;
        let (time, sequence) = (self.meta.time, self.meta.counters.replay_next);
        let stored =
            Replay { fingerprint: replay.fingerprint, time, sequence, answer: kept.then_some(answer) };
        let counters = &mut self.meta.counters;
        counters.replay_next += 1;
        counters.replay_records += 1;
        counters.replay_bytes += stored.answer_bytes();
        self.rows.put(Table::Replay, key::replay(&replay.scope), &stored);
        self.rows.put(Table::ReplayAge, key::replay_age(sequence), &ReplayAge { scope: replay.scope, time });
        self.oldest.replay = self.oldest.replay.min(time);
        Ok(())
    }

    fn forget(&mut self, scope: &[u8; 32]) -> Result<(), Fault> {
        let key = key::replay(scope);
        if let Some(stored) = self.rows.read::<Replay>(Table::Replay, &key)? {
            self.rows.delete(Table::Replay, key);
            self.rows.delete(Table::ReplayAge, key::replay_age(stored.sequence));
            self.meta.counters.replay_records -= 1;
            self.meta.counters.replay_bytes -= stored.answer_bytes();
        }
        Ok(())
    }

    /// Drops the oldest records while there are too many, they are too large or too old.
    pub(crate) fn drop_replays(&mut self) -> Result<(), Fault> {
        for _ in 0..DROPPED_PER_ENTRY_MAX {
            if !self.is_replay_droppable(self.oldest.replay) {
                break;
            }
            let row = record::rows(self.rows, Table::ReplayAge, &KeyRange::all(), 1)?.pop();
            let Some((key, value)) = row else {
                self.oldest.replay = Oldest::NEVER;
                break;
            };
            KeyReader::new(Table::ReplayAge, &key).number()?;
            let oldest: ReplayAge = record::open(Table::ReplayAge, &key, &value)?;
            self.oldest.replay = oldest.time;
            if self.is_replay_droppable(oldest.time) {
                self.forget(&oldest.scope)?;
            }
        }
        Ok(())
    }

    fn is_replay_droppable(&self, time: LogTime) -> bool {
        let (settings, counters) = (&self.meta.settings, &self.meta.counters);
        let too_many = settings.replay_records_max < counters.replay_records
            || settings.replay_bytes_max < counters.replay_bytes;
        0 < counters.replay_records && (too_many || settings.replay_ms <= self.meta.time.ms_since(time))
    }
}
