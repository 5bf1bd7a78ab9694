//! Every hard bound of the store, with its reason. What may differ between clusters is in `Settings` instead.

/// A DNS label (RFC 1123), so that a namespace can carry a Kubernetes namespace's name.
pub const NAMESPACE_BYTES_MAX: usize = 63;
/// A session or claim id: a UUID, a pod name with a suffix or a host name fits; keys stay short.
pub const ID_BYTES_MAX: usize = 128;
/// A lock name with its slashes: two full segments.
pub const LOCK_NAME_BYTES_MAX: usize = 256;
/// A config key: long enough for any path, short enough for an index.
pub const KEY_BYTES_MAX: usize = 1_024;
/// A config value: one value must not stall the log. Kubernetes' ConfigMap has the same bound.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// A content type of a value.
pub const CONTENT_TYPE_BYTES_MAX: usize = 256;
/// One request's entry in the log, encoded; the log reader sends at most this much at a time.
pub const ENTRY_BYTES_MAX: usize = 2 << 20;
/// A session name or a claim label: shown to people.
pub const LABEL_BYTES_MAX: usize = 256;
/// Labels of one session: enough for pod, node, job and a few of one's own.
pub const SESSION_LABELS_MAX: usize = 32;
/// The reason of a forced release: a sentence or two for the audit.
pub const REASON_BYTES_MAX: usize = 1_024;
/// The shortest time to live: below it a single election would cost a lease its whole length.
pub const TTL_MS_MIN: u64 = 1_000;
/// The longest time to live: a crashed holder must free its locks within a working hour.
pub const TTL_MS_MAX: u64 = 3_600_000;
/// The time to live of a session that names none.
pub const TTL_MS_DEFAULT: u64 = 15_000;
/// The longest lock delay, as long as the longest time to live.
pub const LOCK_DELAY_MS_MAX: u64 = 3_600_000;
/// The longest wait of one claim.
pub const WAIT_MS_MAX: u64 = 3_600_000;
/// Claims and ephemeral keys of one session: everything goes in the one entry that ends it, so it is bounded.
pub const SESSION_OWNED_MAX: u64 = 4_096;
/// Sessions that one `Expire` entry may name: one entry's apply stays far below a heartbeat.
pub const EXPIRE_SESSIONS_MAX: usize = 200;
/// Owned things that one `Expire` entry may end, for the same reason.
pub const EXPIRE_OWNED_MAX: u64 = 10_000;
/// Waits that one `Expire` entry may name: with the longest names it stays well below `ENTRY_BYTES_MAX`.
pub const EXPIRE_WAITS_MAX: usize = 2_000;
/// Due lock delays that one entry processes; the next entry goes on where it stopped.
pub const DUE_DELAYS_PER_ENTRY_MAX: usize = 256;
/// Old tombstones, idempotency records and idle locks that one entry drops, each: apply stays short, and ten times faster
/// than one entry can add them.
pub const DROPPED_PER_ENTRY_MAX: usize = 64;
/// The largest stored answer of an idempotency record, encoded.
pub const REPLAY_ANSWER_BYTES_MAX: usize = 64 << 10;
/// Rows of one page of a list: a page never exceeds a few megabytes without values.
pub const PAGE_ROWS_MAX: usize = 1_000;
/// Bytes of values in one page of a list with values.
pub const PAGE_VALUE_BYTES_MAX: usize = 4 << 20;
/// Who manages a config key: a controller's name with the name of its object.
pub const MANAGED_BY_BYTES_MAX: usize = 256;
/// Conditions of one transaction, and operations of each of its lists, as etcd bounds them.
pub const TXN_OPS_MAX: usize = 128;
/// Bytes of the values that one transaction answers: it is kept by every node until the leader has answered.
pub const TXN_ANSWER_BYTES_MAX: usize = 4 << 20;
/// Rows that one slice of a compaction drops: its apply stays far below a heartbeat.
pub const COMPACT_ROWS_MAX: u64 = 10_000;
/// Rows that one read for a watch looks at: other reads get their turn.
pub const WATCH_ROWS_MAX: usize = 1_000;
/// Bytes of values that one read for a watch returns, beyond the first revision.
pub const WATCH_BYTES_MAX: usize = 1 << 20;
/// Locks of one set: all of them are granted in one entry, and each look at the set looks at all.
pub const LOCK_SET_MAX: u64 = 64;
/// Permits of a semaphore.
pub const PERMITS_MAX: u64 = 1_000_000;
/// The value that the leader of an election publishes: its address and a few facts. Every change of it is kept with the
/// changes of locks for those who watch.
pub const ELECTION_VALUE_BYTES_MAX: usize = 4 << 10;
/// Claims that one look for a deadlock visits. A claim whose look would need more is let in: its apply stays short.
pub const DEADLOCK_VISITED_MAX: u64 = 10_000;
/// Waits named in the refusal of a deadlock.
pub const STUCK_SHOWN_MAX: usize = 16;
/// Holders named in a refusal: the first ones are enough for a person.
pub const HOLDERS_SHOWN_MAX: usize = 16;
/// Namespaces of a store: each is a name and no more, but lists and checks walk them.
pub const NAMESPACES_MAX: u64 = 10_000;

/// Sessions of a store at the start; each costs memory on the leader for its deadline.
pub const SESSIONS_MAX_DEFAULT: u64 = 100_000;
/// Held and queued claims of one lock at the start: a position in a longer queue helps nobody.
pub const QUEUE_MAX_DEFAULT: u64 = 10_000;
/// How long ended claims and sessions are remembered, in replicated milliseconds: 24 h.
pub const TOMBSTONE_MS_DEFAULT: u64 = 86_400_000;
/// A tombstone younger than this is never dropped: no request is held or forwarded for longer than half of it.
pub const TOMBSTONE_MS_MIN: u64 = 60_000;
/// Tombstones of the store: about 1 GiB.
pub const TOMBSTONES_MAX_DEFAULT: u64 = 4_000_000;
/// Tombstones of one live explicit session's claims.
pub const SESSION_TOMBSTONES_MAX_DEFAULT: u64 = 10_000;
/// How long an idempotency record answers: 24 h.
pub const REPLAY_MS_DEFAULT: u64 = 86_400_000;
/// Idempotency records of the store.
pub const REPLAY_RECORDS_MAX_DEFAULT: u64 = 1_000_000;
/// Bytes of all stored answers together.
pub const REPLAY_BYTES_MAX_DEFAULT: u64 = 256 << 20;
/// Versions of a config key that are kept whatever their age.
pub const HISTORY_VERSIONS_DEFAULT: u64 = 100;
/// How long every superseded version is kept: 7 days.
pub const HISTORY_MS_DEFAULT: u64 = 604_800_000;
/// Bytes of all superseded versions together.
pub const HISTORY_BYTES_MAX_DEFAULT: u64 = 1 << 30;
/// Changes of locks and sessions that are kept for those who watch.
pub const EVENTS_MAX_DEFAULT: u64 = 100_000;
/// How long they are kept: 1 h.
pub const EVENTS_MS_DEFAULT: u64 = 3_600_000;
