//! Snapshots made, sent, received and installed; and that no damaged byte of one is ever used.

use super::{Incoming, KEPT, MANIFEST, Manifest, Snapshot, SnapshotError, SnapshotFile, SnapshotStore};
use crate::storage::data_dir::{DataDir, Expected};
use crate::storage::state_db::{StateDb, StateHandle, StateView};
use bytes::Bytes;
use std::fs;
use std::sync::Arc;
use tempfile::TempDir;

struct Node {
    _dir: TempDir,
    data: DataDir,
    state: StateHandle,
    store: SnapshotStore,
}

fn node() -> Node {
    let dir = TempDir::new().unwrap();
    let data = DataDir::open(&dir.path().join("data"), "node-0", &Expected::default()).unwrap();
    let state = StateHandle::new(StateDb::open(&data.current_state_dir().unwrap()).unwrap());
    let (store, errors) = SnapshotStore::open(&data.snapshots_dir()).unwrap();
    assert!(errors.is_empty());
    Node { _dir: dir, data, state, store }
}

impl Node {
    fn write(&self, value: &str) {
        self.state.current().write([("value", Some(value))]).unwrap();
    }

    fn value(&self) -> String {
        value_of(&self.state.current())
    }

    fn build(&self) -> Arc<Snapshot> {
        self.store.build(&self.state.current(), describe).unwrap()
    }

    fn numbers(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.data.snapshots_dir())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort_unstable();
        names
    }
}

fn value_of(state: &StateDb) -> String {
    String::from_utf8(state.get(b"value").unwrap().unwrap()).unwrap()
}

/// The metadata of these snapshots is the value in them.
fn describe(view: &StateView<'_>) -> Result<Bytes, super::StorageError> {
    Ok(view.get(b"value")?.unwrap_or_default().into())
}

fn send(snapshot: &Snapshot, incoming: &Incoming) {
    fs::create_dir(incoming.files_dir()).unwrap();
    for file in incoming.files() {
        fs::copy(snapshot.file_path(file), incoming.files_dir().join(&file.name)).unwrap();
    }
}

#[test]
fn a_snapshot_is_of_one_moment_and_describes_itself() {
    let node = node();
    node.write("before");
    let snapshot = node.store.build(&node.state.current(), |view| {
        node.write("after");
        describe(view)
    });
    let snapshot = snapshot.unwrap();
    assert_eq!((snapshot.meta(), &*node.value()), (&Bytes::from("before"), "after"));
    snapshot.verify().unwrap();
    assert_eq!(snapshot.size(), snapshot.files().iter().map(|file| file.size).sum::<u64>());
    let (reopened, errors) = SnapshotStore::open(&node.data.snapshots_dir()).unwrap();
    assert!(errors.is_empty());
    assert_eq!(reopened.newest().unwrap().meta(), "before");
    assert_eq!(reopened.newest_valid().0.unwrap().manifest(), snapshot.manifest());
}

#[test]
fn the_newest_two_snapshots_are_kept_and_any_in_use() {
    let node = node();
    let mut snapshots = Vec::new();
    for number in 0..4 {
        node.write(&number.to_string());
        snapshots.push(node.build());
    }
    let in_use = snapshots.remove(0);
    drop(snapshots);
    assert_eq!(node.numbers(), ["0000000000000001", "0000000000000003", "0000000000000004"]);
    in_use.verify().unwrap();
    drop(in_use);
    assert_eq!(node.numbers().len(), KEPT);
    assert_eq!(node.store.newest().unwrap().meta(), "3");
}

#[test]
fn a_snapshot_that_cannot_be_described_leaves_nothing() {
    let node = node();
    let failed = |_: &StateView<'_>| Err(super::StorageError::Stopped { path: "state".into() });
    assert!(node.store.build(&node.state.current(), failed).is_err());
    assert_eq!(node.numbers(), [""; 0]);
    assert!(node.store.newest().is_none());
}

#[test]
fn a_received_snapshot_is_installed_durably_and_serves_others() {
    let (leader, follower) = (node(), node());
    leader.write("leader's");
    follower.write("follower's");
    let sent = leader.build();
    let incoming = follower.store.receive(sent.manifest().clone()).unwrap();
    assert_eq!(incoming.meta(), "leader's");
    send(&sent, &incoming);
    let received = follower.store.accept(incoming).unwrap();
    assert_eq!(received.manifest(), sent.manifest());

    let reader = follower.state.current();
    let old = reader.path().to_owned();
    let state = SnapshotStore::install(&received, &follower.data).unwrap();
    assert_eq!(state.path(), follower.data.current_state_dir().unwrap(), "the pointer is switched");
    follower.state.replace(state);
    assert_eq!((&*follower.value(), &*value_of(&reader)), ("leader's", "follower's"));
    drop(reader);
    assert!(!old.exists());

    follower.write("later");
    follower.state.current().flush().unwrap();
    received.verify().unwrap();
    let third = node();
    let incoming = third.store.receive(received.manifest().clone()).unwrap();
    send(&received, &incoming);
    let received = third.store.accept(incoming).unwrap();
    third.state.replace(SnapshotStore::install(&received, &third.data).unwrap());
    assert_eq!(third.value(), "leader's");
}

#[test]
fn the_installed_state_is_there_after_a_crash() {
    let node = node();
    node.write("snapshot");
    let snapshot = node.build();
    node.write("later");
    let state = SnapshotStore::install(&snapshot, &node.data).unwrap();
    let Node { _dir, data, state: old, store } = node;
    let root = data.root().to_owned();
    drop((state, old, store, data, snapshot));
    let data = DataDir::open(&root, "node-0", &Expected::default()).unwrap();
    let state = StateDb::open(&data.current_state_dir().unwrap()).unwrap();
    assert_eq!(value_of(&state), "snapshot");
}

#[test]
fn no_damaged_byte_of_any_file_is_installed() {
    let node = node();
    node.write("value");
    let snapshot = node.build();
    let before = node.data.current_state_dir().unwrap();
    let mut paths: Vec<_> = snapshot.files().iter().map(|file| snapshot.file_path(file)).collect();
    paths.push(snapshot.path().join(MANIFEST));
    for path in paths {
        let intact = fs::read(&path).unwrap();
        for offset in 0..intact.len() {
            let mut flipped = intact.clone();
            flipped[offset] ^= 1 << (offset % 8);
            fs::write(&path, flipped).unwrap();
            assert!(snapshot.verify().is_err(), "{} at {offset}", path.display());
        }
        let longer = [&*intact, b"x"].concat();
        for damaged in [&longer[..], &intact[..intact.len().saturating_sub(1)]] {
            fs::write(&path, damaged).unwrap();
            let refused = snapshot.verify().is_err();
            assert_eq!(refused, damaged != intact, "{} of {} bytes", path.display(), damaged.len());
        }
        fs::write(&path, longer).unwrap();
        assert!(SnapshotStore::install(&snapshot, &node.data).is_err(), "{}", path.display());
        assert!(node.store.newest_valid().0.is_none());
        fs::remove_file(&path).unwrap();
        assert!(snapshot.verify().is_err(), "{} removed", path.display());
        fs::write(&path, intact).unwrap();
        snapshot.verify().unwrap();
    }
    fs::write(snapshot.path().join("db/999999.sst"), "not in the manifest").unwrap();
    assert!(
        matches!(snapshot.verify(), Err(SnapshotError::Damaged { path }) if path.ends_with("999999.sst"))
    );
    assert_eq!(node.data.current_state_dir().unwrap(), before);
    assert_eq!(fs::read_dir(before.parent().unwrap()).unwrap().count(), 1, "no half state is left");
}

#[test]
fn a_damaged_snapshot_is_passed_over_for_an_older_one_and_goes_when_there_are_enough() {
    let node = node();
    node.write("old");
    node.build();
    node.write("new");
    let newest = node.build();
    let file = newest.file_path(&newest.files()[0]);
    fs::write(file, "x").unwrap();
    let (valid, errors) = node.store.newest_valid();
    assert_eq!((valid.unwrap().meta(), errors.len()), (&Bytes::from("old"), 1));

    fs::write(newest.path().join(MANIFEST), "x").unwrap();
    drop(newest);
    let (store, errors) = SnapshotStore::open(&node.data.snapshots_dir()).unwrap();
    assert_eq!(errors.len(), 1);
    assert_eq!(store.newest().unwrap().meta(), "old");
    store.build(&node.state.current(), describe).unwrap();
    store.build(&node.state.current(), describe).unwrap();
    assert_eq!(node.numbers(), ["0000000000000003", "0000000000000004"]);
}

#[test]
fn a_transfer_that_is_incomplete_or_wrong_is_not_accepted() {
    let (leader, follower) = (node(), node());
    leader.write("value");
    let sent = leader.build();
    let incoming = follower.store.receive(sent.manifest().clone()).unwrap();
    assert!(follower.store.accept(incoming).is_err(), "nothing was sent");

    let incoming = follower.store.receive(sent.manifest().clone()).unwrap();
    send(&sent, &incoming);
    let largest = incoming.files().iter().max_by_key(|file| file.size).unwrap();
    let short = incoming.files_dir().join(&largest.name);
    fs::write(&short, b"").unwrap();
    assert!(follower.store.accept(incoming).is_err(), "a file is cut short");
    assert_eq!(follower.numbers(), [""; 0], "what is not accepted goes");
}

#[test]
fn a_manifest_whose_names_lead_out_of_the_directory_is_refused() {
    let node = node();
    let manifest = |names: &[&str]| {
        let file = |name: &&str| SnapshotFile { name: (*name).to_owned(), size: 1, crc: 0 };
        Manifest { meta: vec![], files: names.iter().map(file).collect() }.encode()
    };
    for names in [&["../x"][..], &["/x"], &[".."], &[""], &["a/b"], &["b", "a"], &["a", "a"]] {
        let refused = node.store.receive(manifest(names));
        assert!(matches!(refused, Err(SnapshotError::Manifest { .. })), "{names:?}");
    }
    node.store.receive(manifest(&["000001.sst", "CURRENT"])).unwrap();
}

#[test]
fn golden_bytes_of_the_manifest() {
    let file = SnapshotFile { name: "a.sst".into(), size: 300, crc: 5 };
    let manifest = Manifest { meta: b"meta".to_vec(), files: vec![file] };
    let record = manifest.encode();
    assert_eq!(record[0], 1);
    assert_eq!(record[5..], *b"\x04meta\x01\x05a.sst\xac\x02\x05");
    assert_eq!(Manifest::decode(&record).unwrap(), manifest);
}
