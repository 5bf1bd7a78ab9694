//! First starts, identities and refusals; and each place where a crash can interrupt a first start or a swap.

use super::{CURRENT_STATE, DataDir, Expected, FIRST_START, IDENTITY, IDENTITY_RECORD, Identity, OpenError};
use crate::storage::record::HEADER_LEN;
use crate::storage::state_db::StateDb;
use crate::storage::testing::copy_dir;
use holdfast_core::NodeId;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn open(root: &Path) -> Result<DataDir, OpenError> {
    DataDir::open(root, "node-0", &Expected::default())
}

fn root() -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("data");
    (dir, root)
}

/// A data directory that was used and closed, whose state holds one row.
fn used() -> (TempDir, PathBuf, Identity) {
    let (dir, root) = root();
    let data = open(&root).unwrap();
    write_state(&data.current_state_dir().unwrap(), "first");
    (dir, root, data.identity())
}

fn write_state(path: &Path, value: &str) {
    let state = StateDb::open(path).unwrap();
    state.write([("value", Some(value))]).unwrap();
    state.flush().unwrap();
}

fn state_of(data: &DataDir) -> Option<Vec<u8>> {
    StateDb::open(&data.current_state_dir().unwrap()).unwrap().get(b"value").unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

const COMPLETE: [&str; 6] = ["CURRENT_STATE", "LOCK", "identity", "log", "snapshots", "state"];

#[test]
fn an_empty_directory_becomes_a_new_node_and_stays_it() {
    let (_dir, root) = root();
    let identity = open(&root).unwrap().identity();
    assert_eq!(
        identity,
        Identity { node_id: identity.node_id, name: "node-0".into(), cluster_id: None, founder: false }
    );
    assert_eq!(names(&root), COMPLETE);
    assert_eq!(open(&root).unwrap().identity(), identity);
}

#[test]
fn every_new_node_has_an_id_of_its_own() {
    let (_first, first) = root();
    let (_second, second) = root();
    assert_ne!(open(&first).unwrap().identity().node_id, open(&second).unwrap().identity().node_id);
}

#[test]
fn a_directory_in_use_is_refused() {
    let (_dir, root) = root();
    let data = open(&root).unwrap();
    let error = open(&root).unwrap_err();
    assert_eq!(error.to_string(), format!("data directory {} is in use by another process", root.display()));
    drop(data);
    open(&root).unwrap();
}

#[test]
fn a_cluster_id_is_set_once_and_refuses_another() {
    let (_dir, root) = root();
    let data = open(&root).unwrap();
    let red = Expected { cluster_id: Some("red".into()) };
    data.join_cluster("red").unwrap();
    data.join_cluster("red").unwrap();
    assert!(matches!(data.join_cluster("blue"), Err(OpenError::AnotherCluster { .. })));
    drop(data);
    let data = DataDir::open(&root, "node-0", &red).unwrap();
    assert_eq!(data.identity().cluster_id.as_deref(), Some("red"));
    drop(data);
    let blue = Expected { cluster_id: Some("blue".into()) };
    let error = DataDir::open(&root, "node-0", &blue).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("data directory {} belongs to cluster red, not to blue", root.display())
    );
}

#[test]
fn a_directory_that_belongs_to_no_cluster_may_join_the_expected_one() {
    let (_dir, root, _) = used();
    let red = Expected { cluster_id: Some("red".into()) };
    assert_eq!(DataDir::open(&root, "node-0", &red).unwrap().identity().cluster_id, None);
}

#[test]
fn another_nodes_directory_is_refused_and_says_whose_it_is() {
    let (_dir, root, identity) = used();
    let error = DataDir::open(&root, "node-1", &Expected::default()).unwrap_err();
    let OpenError::AnotherNode { node, found, expected, .. } = error else { panic!("{error}") };
    assert_eq!((node, &*found, &*expected), (identity.node_id, "node-0", "node-1"));
}

#[test]
fn only_the_founder_of_a_cluster_may_go_on_founding_it() {
    let (_dir, founder) = root();
    let data = open(&founder).unwrap();
    data.found_cluster("red").unwrap();
    data.found_cluster("red").unwrap();
    data.join_cluster("red").unwrap();
    assert!(matches!(data.found_cluster("blue"), Err(OpenError::AnotherCluster { .. })));
    drop(data);
    open(&founder).unwrap().found_cluster("red").unwrap();
    let (_dir, member) = root();
    let data = open(&member).unwrap();
    data.join_cluster("red").unwrap();
    assert!(matches!(data.found_cluster("red"), Err(OpenError::AnotherCluster { .. })));
}

#[test]
fn a_newer_directory_is_refused_by_name() {
    let (_dir, root, _) = used();
    let newer = super::Kind { version: 4, ..IDENTITY_RECORD };
    fs::write(root.join(IDENTITY), newer.seal(IDENTITY.as_bytes(), |out| out.push(0))).unwrap();
    let error = open(&root).unwrap_err();
    let reason = "data directory format 4 is newer than 3, the newest this build reads";
    assert_eq!(error.to_string(), format!("{}: {reason}", root.join(IDENTITY).display()));
}

#[test]
fn a_directory_from_before_the_first_release_is_refused_by_name_and_kept() {
    let (_dir, root, _) = used();
    let intact = fs::read(root.join(IDENTITY)).unwrap();
    let older = super::Kind { version: 2, ..IDENTITY_RECORD };
    let payload = &intact[HEADER_LEN..];
    let older = older.seal(IDENTITY.as_bytes(), |out| out.extend_from_slice(payload));
    fs::write(root.join(IDENTITY), &older).unwrap();
    let error = open(&root).unwrap_err();
    assert!(matches!(&error, OpenError::Older { found: 2, .. }), "{error}");
    let text = error.to_string();
    let place = root.join(IDENTITY).display().to_string();
    assert!(text.starts_with(&format!("{place}: data directory format 2 is older than 3")), "{text}");
    assert_eq!(fs::read(root.join(IDENTITY)).unwrap(), older);
    // It is the version alone that is refused.
    fs::write(root.join(IDENTITY), intact).unwrap();
    open(&root).unwrap();
}

#[test]
fn every_flipped_bit_of_identity_and_pointer_is_damage() {
    let (_dir, root, _) = used();
    for name in [IDENTITY, CURRENT_STATE] {
        let intact = fs::read(root.join(name)).unwrap();
        for bit in 0..intact.len() * 8 {
            let mut flipped = intact.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(root.join(name), flipped).unwrap();
            let error = open(&root).unwrap_err();
            assert!(
                matches!(&error, OpenError::Damaged { path, .. } if *path == root.join(name)),
                "{name} {bit}: {error}"
            );
        }
        fs::write(root.join(name), intact).unwrap();
    }
    open(&root).unwrap();
}

#[test]
fn golden_bytes_of_the_identity() {
    let identity = Identity {
        node_id: NodeId::new(5).unwrap(),
        name: "n".into(),
        cluster_id: Some("c".into()),
        founder: true,
    };
    let (_dir, root) = root();
    fs::create_dir(&root).unwrap();
    super::write_identity(&root, &identity).unwrap();
    assert_eq!(super::read_identity(&root).unwrap(), identity);
    let bytes = fs::read(root.join(IDENTITY)).unwrap();
    assert_eq!(bytes[0], 3);
    assert_eq!(bytes[5..], [5, 1, b'n', 1, 1, b'c', 1]);
    super::write_pointer(&root, "0000000000000001").unwrap();
    let bytes = fs::read(root.join(CURRENT_STATE)).unwrap();
    assert_eq!((bytes[0], &bytes[5..]), (1, b"0000000000000001".as_slice()));
}

#[test]
fn what_a_used_directory_lacks_is_not_made_up_for() {
    for name in ["log", "snapshots", "state", CURRENT_STATE, IDENTITY] {
        let (_dir, root, _) = used();
        let path = root.join(name);
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap()
        } else {
            fs::remove_file(&path).unwrap()
        }
        let error = open(&root).unwrap_err();
        assert!(
            matches!(&error, OpenError::Missing { path } if path.starts_with(root.join(name))),
            "{name}: {error}"
        );
    }
}

#[test]
fn a_directory_of_something_else_is_left_alone() {
    let (_dir, root) = root();
    fs::create_dir_all(&root).unwrap();
    fs::write(root.join("letters"), "dear").unwrap();
    assert!(matches!(open(&root), Err(OpenError::NotOurs { path }) if path == root.join("letters")));
    assert_eq!(fs::read(root.join("letters")).unwrap(), b"dear");
    fs::remove_file(root.join("letters")).unwrap();
    fs::create_dir(root.join("lost+found")).unwrap();
    open(&root).unwrap();
}

#[test]
fn a_path_that_cannot_be_written_is_named() {
    let (_dir, root) = root();
    fs::write(&root, "a file").unwrap();
    assert!(matches!(open(&root), Err(OpenError::Unwritable { path, .. }) if path == root));
}

#[test]
fn a_first_start_that_a_crash_interrupted_begins_again() {
    let (dir, root, before) = used();
    // From the first file on, in the order they are made; the marker goes last.
    let made = ["log", "state", "snapshots", CURRENT_STATE, IDENTITY];
    for count in 0..=made.len() {
        let crashed = dir.path().join(format!("crashed-{count}"));
        fs::create_dir(&crashed).unwrap();
        fs::write(crashed.join(FIRST_START), []).unwrap();
        for name in &made[..count] {
            let (from, to) = (root.join(name), crashed.join(name));
            if from.is_dir() {
                copy_dir(&from, &to);
            } else {
                fs::copy(&from, &to).unwrap();
            }
        }
        let data = open(&crashed).unwrap();
        assert_ne!(data.identity().node_id, before.node_id, "after {count}");
        assert_eq!(state_of(&data), None, "after {count}");
        assert_eq!(names(&crashed), COMPLETE, "after {count}");
    }
    let crashed = dir.path().join("before the marker");
    fs::create_dir(&crashed).unwrap();
    fs::write(crashed.join("FIRST_START.tmp"), []).unwrap();
    open(&crashed).unwrap();
    assert_eq!(names(&crashed), COMPLETE);
}

#[test]
fn a_swap_interrupted_before_its_rename_leaves_the_old_state() {
    let (_dir, root, identity) = used();
    let data = open(&root).unwrap();
    let unused = data.unused_state_dir().unwrap();
    StateDb::create(&unused).unwrap();
    write_state(&unused, "second");
    fs::write(root.join("CURRENT_STATE.tmp"), "half").unwrap();
    drop(data);
    let data = open(&root).unwrap();
    assert_eq!((state_of(&data).unwrap(), data.identity()), (b"first".to_vec(), identity));
    assert!(!unused.exists());
    assert_eq!(names(&root), COMPLETE);
}

#[test]
fn a_swap_interrupted_after_its_rename_leaves_the_new_state() {
    let (_dir, root, _) = used();
    let data = open(&root).unwrap();
    let old = data.current_state_dir().unwrap();
    let unused = data.unused_state_dir().unwrap();
    StateDb::create(&unused).unwrap();
    write_state(&unused, "second");
    data.switch_state(&unused).unwrap();
    assert!(old.exists(), "readers may still have it");
    drop(data);
    let data = open(&root).unwrap();
    assert_eq!(data.current_state_dir().unwrap(), unused);
    assert_eq!(state_of(&data).unwrap(), b"second");
    assert!(!old.exists());
    assert_ne!(data.unused_state_dir().unwrap(), unused);
}

#[test]
fn half_a_state_and_half_a_snapshot_are_removed() {
    let (_dir, root, _) = used();
    let half_state = root.join("state/0000000000000007");
    let half_snapshot = root.join("snapshots/0000000000000003.tmp");
    let snapshot = root.join("snapshots/0000000000000002");
    for dir in [&half_state, &half_snapshot, &snapshot] {
        fs::create_dir(dir).unwrap();
        fs::write(dir.join("000001.sst"), "half").unwrap();
    }
    let data = open(&root).unwrap();
    assert!(!half_state.exists() && !half_snapshot.exists() && snapshot.exists());
    assert_eq!(state_of(&data).unwrap(), b"first");
}
