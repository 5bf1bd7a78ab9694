//! openraft's own suite, and what it does not cover: durability, group commit, streams and reopening.

mod suite;

use super::{LogStore, READ_BYTES_MAX};
use crate::raft::types::{Entry, LeaderId, LogId, Payload, ProposalBytes, TypeConfig, Vote};
use crate::storage::log_db::LogDb;
use crate::storage::testing::copy_dir;
use futures_util::{FutureExt, StreamExt};
use holdfast_core::NodeId;
use openraft::RaftLogReader;
use openraft::alias::OneshotReceiverOf;
use openraft::storage::{IOFlushed, LeaderBoundedStreamError, LogState, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::Mutex;

struct Fixture {
    dir: TempDir,
    store: LogStore,
}

fn fixture() -> Fixture {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("log");
    LogDb::create(&path).unwrap();
    Fixture { store: LogStore::open(&path).unwrap(), dir }
}

fn leader(term: u64) -> LeaderId {
    LeaderId { term, node_id: NodeId::new(1).unwrap() }
}

fn leading(term: u64) -> Vote {
    Vote { leader_id: leader(term), committed: true }
}

fn entry(term: u64, index: u64, payload: Vec<u8>) -> Entry {
    Entry { log_id: LogId::new(leader(term), index), payload: Payload::Normal(ProposalBytes(payload.into())) }
}

fn flushed() -> (IOFlushed<TypeConfig>, OneshotReceiverOf<TypeConfig, io::Result<()>>) {
    let (sender, receiver) = TypeConfig::oneshot();
    (IOFlushed::signal(sender), receiver)
}

async fn append(store: &mut LogStore, entries: Vec<Entry>) {
    let (callback, done) = flushed();
    store.append(entries, callback).await.unwrap();
    done.await.unwrap().unwrap();
}

/// Keeps the sync thread busy until the returned sender is used or dropped.
async fn hold_sync_thread(store: &LogStore) -> std::sync::mpsc::Sender<()> {
    let (release, released) = std::sync::mpsc::channel();
    let (held, holding) = tokio::sync::oneshot::channel();
    let hold = move |_| {
        held.send(()).unwrap();
        released.recv().unwrap();
    };
    store.db.sync(Box::new(hold));
    holding.await.unwrap();
    release
}

fn crashed(fixture: &Fixture) -> (PathBuf, LogStore) {
    let copy = fixture.dir.path().join("crashed");
    copy_dir(fixture.store.db.path(), &copy);
    let store = LogStore::open(&copy).unwrap();
    (copy, store)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_concurrent_appenders_share_few_syncs() {
    const APPENDERS: u64 = 64;
    const ROUNDS: u64 = 10;

    let fixture = fixture();
    let next = Arc::new(Mutex::new((fixture.store.clone(), 0)));
    for _ in 0..ROUNDS {
        let held = hold_sync_thread(&fixture.store).await;
        let mut appenders = Vec::new();
        let (appended, mut all_appended) = tokio::sync::mpsc::channel::<()>(1);
        for _ in 0..APPENDERS {
            let (next, appended) = (Arc::clone(&next), appended.clone());
            appenders.push(tokio::spawn(async move {
                let (callback, done) = flushed();
                let mut guard = next.lock().await;
                let (store, index) = &mut *guard;
                store.append([entry(1, *index, vec![1; 100])], callback).await.unwrap();
                *index += 1;
                drop(guard);
                drop(appended);
                done.await.unwrap().unwrap();
            }));
        }
        drop(appended);
        assert_eq!(all_appended.recv().await, None);
        held.send(()).unwrap();
        for appender in appenders {
            appender.await.unwrap();
        }
    }
    let stats = fixture.store.stats();
    assert_eq!(stats.appends(), APPENDERS * ROUNDS);
    let per_sync = stats.appends() / stats.syncs();
    assert!(10 <= per_sync, "{per_sync} appends per sync");
    assert_eq!(*fixture.store.flushed().borrow(), Some(APPENDERS * ROUNDS - 1));
}

#[tokio::test]
async fn a_crash_keeps_every_append_that_was_called_back_and_every_vote() {
    let mut fixture = fixture();
    append(&mut fixture.store, vec![entry(1, 0, b"synced".to_vec())]).await;
    fixture.store.save_vote(&leading(3)).await.unwrap();
    let held = hold_sync_thread(&fixture.store).await;
    let (callback, done) = flushed();
    fixture.store.append([entry(1, 1, b"unsynced".to_vec())], callback).await.unwrap();
    assert_eq!(fixture.store.try_get_log_entries(0..9).await.unwrap().len(), 2, "readable at once");

    let (_copy, mut crashed) = crashed(&fixture);
    assert_eq!(crashed.try_get_log_entries(..).await.unwrap(), [entry(1, 0, b"synced".to_vec())]);
    assert_eq!(crashed.read_vote().await.unwrap(), Some(leading(3)));
    held.send(()).unwrap();
    done.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_vote_is_not_answered_before_it_is_synced() {
    let mut fixture = fixture();
    let held = hold_sync_thread(&fixture.store).await;
    let mut saving_store = fixture.store.clone();
    let vote = leading(7);
    let mut saving = Box::pin(saving_store.save_vote(&vote));
    assert!((&mut saving).now_or_never().is_none());
    let (copy, mut crashed) = crashed(&fixture);
    assert_eq!(crashed.read_vote().await.unwrap(), None);
    drop(crashed);
    std::fs::remove_dir_all(copy).unwrap();
    held.send(()).unwrap();
    saving.await.unwrap();
    let (_copy, mut crashed) = self::crashed(&fixture);
    assert_eq!(crashed.read_vote().await.unwrap(), Some(leading(7)));
    assert_eq!(fixture.store.read_vote().await.unwrap(), Some(leading(7)));
}

#[tokio::test]
async fn waiting_for_a_sync_makes_a_truncation_durable() {
    let mut fixture = fixture();
    append(&mut fixture.store, (0..3).map(|index| entry(1, index, vec![])).collect()).await;
    fixture.store.truncate_after(Some(LogId::new(leader(1), 0))).await.unwrap();
    assert_eq!(*fixture.store.flushed().borrow(), Some(0));
    fixture.store.wait_synced().await.unwrap();
    let (_copy, mut crashed) = crashed(&fixture);
    assert_eq!(crashed.try_get_log_entries(..).await.unwrap(), [entry(1, 0, vec![])]);
}

#[tokio::test]
async fn everything_saved_is_there_after_a_restart() {
    let Fixture { dir, mut store } = fixture();
    append(&mut store, (0..5).map(|index| entry(2, index, vec![9])).collect()).await;
    let log_id = |index| LogId::new(leader(2), index);
    store.save_committed(None).await.unwrap();
    store.save_committed(Some(log_id(3))).await.unwrap();
    store.purge(log_id(1)).await.unwrap();
    store.save_vote(&leading(2)).await.unwrap();
    drop(store);
    let mut store = LogStore::open(&dir.path().join("log")).unwrap();
    let state = LogState { last_purged_log_id: Some(log_id(1)), last_log_id: Some(log_id(4)) };
    assert_eq!(store.get_log_state().await.unwrap(), state);
    assert_eq!(store.read_committed().await.unwrap(), Some(log_id(3)));
    assert_eq!(store.read_vote().await.unwrap(), Some(leading(2)));
    assert_eq!(*store.flushed().borrow(), Some(4), "what was recovered is durable");
    assert_eq!(store.try_get_log_entries(..).await.unwrap().len(), 3);
}

#[tokio::test]
async fn an_append_with_a_hole_in_it_is_refused_whole() {
    let mut fixture = fixture();
    let (callback, done) = flushed();
    let entries = [entry(1, 0, vec![]), entry(1, 2, vec![])];
    let error = fixture.store.append(entries, callback).await.unwrap_err();
    assert!(error.to_string().ends_with("append of entry 2 where 1 is next"), "{error}");
    assert!(done.await.unwrap().is_err());
    assert_eq!(fixture.store.try_get_log_entries(..).await.unwrap(), []);
}

#[tokio::test]
async fn streams_read_a_long_log_in_bounded_pieces() {
    let mut fixture = fixture();
    let entries: Vec<_> = (0..5).map(|index| entry(1, index, vec![1; READ_BYTES_MAX / 2])).collect();
    append(&mut fixture.store, entries.clone()).await;
    fixture.store.save_vote(&leading(1)).await.unwrap();
    assert_eq!(fixture.store.limited_get_log_entries(0, 5).await.unwrap(), entries[..2]);
    let all = fixture.store.entries_stream(0..9).await.map(Result::unwrap).collect::<Vec<_>>().await;
    assert_eq!(all, entries);
    let some = fixture.store.leader_bounded_stream(leader(1), 1..=3).await.map(Result::unwrap);
    assert_eq!(some.collect::<Vec<_>>().await, entries[1..4]);
}

#[tokio::test]
async fn a_leaders_stream_ends_when_another_leads() {
    let mut fixture = fixture();
    let entries: Vec<_> = (0..4).map(|index| entry(1, index, vec![1; READ_BYTES_MAX])).collect();
    append(&mut fixture.store, entries.clone()).await;
    let mut none = Box::pin(fixture.store.leader_bounded_stream(leader(1), 0..4).await);
    assert!(
        matches!(none.next().await, Some(Err(LeaderBoundedStreamError::LeaderChanged(_)))),
        "no vote at all"
    );
    assert!(none.next().await.is_none());
    drop(none);

    fixture.store.save_vote(&leading(1)).await.unwrap();
    let mut store = fixture.store.clone();
    let mut stream = Box::pin(store.leader_bounded_stream(leader(1), 0..4).await);
    assert_eq!(stream.next().await.unwrap().unwrap(), entries[0]);
    fixture.store.save_vote(&leading(2)).await.unwrap();
    assert!(matches!(stream.next().await, Some(Err(LeaderBoundedStreamError::LeaderChanged(_)))));
    assert!(stream.next().await.is_none());
}

#[test]
fn a_future_of_the_log_store_fits_any_worker() {
    fn check<T: Send>(_: impl Future<Output = T> + Send) {}
    let Fixture { dir: _dir, mut store } = fixture();
    check(store.wait_synced());
    check(store.save_vote(&leading(1)));
}
