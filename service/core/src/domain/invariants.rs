//! What is true of every state between two entries, executable. Tests run it after each entry, and a full scan of a node's
//! tables can run it too.

mod config;
mod locks;
mod sessions;
mod state;
mod totals;

use std::fmt;

use crate::domain::Tables;
use state::State;

/// A truth about the state. Its number is stable: reports and commits name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Invariant {
    /// Every row opens and its key decodes.
    RowsReadable = 1,
    /// The holders of a lock together take no more than there is: one exclusive one, or shared ones, or permits.
    WithinUnits = 2,
    /// Only a live session holds or queues.
    OwnerLive = 3,
    /// No token is larger than the store's revision.
    TokenWithinRevision = 4,
    /// A claim that holds has its holder row, a claim that waits its queue row.
    ClaimHasPlace = 5,
    /// A holder or queue row names a live claim that stands exactly there, so a claim is in one place.
    PlaceHasClaim = 6,
    /// A live claim is in the index of its session.
    ClaimIsOwned = 7,
    /// The index of a session's claims names live claims of that session.
    OwnedIsClaim = 8,
    /// A session counts what it owns, and never more than it may.
    OwnedCounted = 9,
    /// A claim that made its session and that session name each other.
    OwnSession = 10,
    /// A claim's id is live or remembered as ended, never both.
    ClaimOnce = 11,
    /// A session's id is live or remembered as ended, never both.
    SessionOnce = 12,
    /// Nobody waits who could be let in: the head of a queue does not fit, or is a part of a set that must wait elsewhere.
    NoneWaitsForFree = 13,
    /// A lock is closed exactly while its delay is among the running ones.
    DelayIndexed = 14,
    /// A lock's last token is at least each of its holders' tokens.
    LastToken = 15,
    /// No two grants share a token, those of ended claims included.
    TokenUnique = 16,
    /// A lock counts its holders, what they take, and its waits.
    LockCounted = 17,
    /// A lock is marked idle exactly while nobody holds or waits and no delay runs.
    IdleMarked = 18,
    /// A key's head is its newest version, and a key whose newest version is a delete has none.
    HeadIsNewest = 19,
    /// The versions of a key count from 1 since its creation; only what is dropped is missing, at the beginning.
    VersionChain = 20,
    /// The counters of the store equal what the tables hold.
    StoreCounted = 21,
    /// The counters of a namespace equal what it holds.
    NamespaceCounted = 22,
    /// The index by age has exactly what ages: tombstones that no live session keeps, and idle locks.
    AgeIndexed = 23,
    /// The index of a session's tombstones has exactly those that it keeps.
    SessionTombstonesIndexed = 24,
    /// Idempotency records and their index by age name each other.
    ReplayIndexed = 25,
    /// A reserved id belongs to the session that a claim made at that revision, and to nothing else.
    ReservedId = 26,
    /// No row has a revision above the store's.
    RevisionWithinStore = 27,
    /// No row has a time after the clock.
    TimeWithinClock = 28,
    /// Keys, claims and lock delays are of a namespace that exists; only what is over outlives it.
    NamespaceExists = 29,
    /// The bounds of the settings hold.
    WithinSettings = 30,
    /// The default namespace exists in a founded store, and nothing in one that is not.
    Founded = 31,
    /// What a version superseded is noted at its revision, exactly for the versions that are kept.
    SupersededIndexed = 32,
    /// Exactly what only its age keeps is prunable: the last version before each delete, and of a key that exists the
    /// versions before its window.
    PrunableIndexed = 33,
    /// Every kept version above the compacted revision is a change that can be watched, and every such change has a version.
    ChangesIndexed = 34,
    /// A key that a session owns is in the index of that session, which lives, and the other way round.
    KeyIsOwned = 35,
    /// No change of locks and sessions is kept from before what was dropped.
    EventsKept = 36,
    /// All claims of a lock are of the kind that it is used as.
    KindKept = 37,
    /// A lock set has a part for each of its locks, which stand as it does, and a part has its set.
    SetWhole = 38,
    /// Only an election that somebody leads has a value, and it is of that leadership.
    ValueOfLeader = 39,
}

impl Invariant {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 39] = [
        Self::RowsReadable,
        Self::WithinUnits,
        Self::OwnerLive,
        Self::TokenWithinRevision,
        Self::ClaimHasPlace,
        Self::PlaceHasClaim,
        Self::ClaimIsOwned,
        Self::OwnedIsClaim,
        Self::OwnedCounted,
        Self::OwnSession,
        Self::ClaimOnce,
        Self::SessionOnce,
        Self::NoneWaitsForFree,
        Self::DelayIndexed,
        Self::LastToken,
        Self::TokenUnique,
        Self::LockCounted,
        Self::IdleMarked,
        Self::HeadIsNewest,
        Self::VersionChain,
        Self::StoreCounted,
        Self::NamespaceCounted,
        Self::AgeIndexed,
        Self::SessionTombstonesIndexed,
        Self::ReplayIndexed,
        Self::ReservedId,
        Self::RevisionWithinStore,
        Self::TimeWithinClock,
        Self::NamespaceExists,
        Self::WithinSettings,
        Self::Founded,
        Self::SupersededIndexed,
        Self::PrunableIndexed,
        Self::ChangesIndexed,
        Self::KeyIsOwned,
        Self::EventsKept,
        Self::KindKept,
        Self::SetWhole,
        Self::ValueOfLeader,
    ];

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

/// A truth that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// Where and how, for people.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant {} ({:?}): {}", self.invariant.number(), self.invariant, self.detail)
    }
}

/// Everything that is wrong with a state; nothing when it is sound. Reads all tables, so it is for tests and slow scans.
#[must_use]
pub fn check(tables: &impl Tables) -> Vec<Violation> {
    let mut findings = Findings::default();
    let state = State::read(tables, &mut findings);
    locks::check(&state, &mut findings);
    sessions::check(&state, &mut findings);
    config::check(&state, &mut findings);
    totals::check(&state, &mut findings);
    findings.0
}

/// What was found to be wrong.
#[derive(Debug, Default)]
struct Findings(Vec<Violation>);

impl Findings {
    /// Notes a violation unless `holds`.
    fn expect(&mut self, holds: bool, invariant: Invariant, detail: impl FnOnce() -> String) {
        if !holds {
            self.0.push(Violation { invariant, detail: detail() });
        }
    }
}
