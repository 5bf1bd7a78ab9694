//! The bytes of version 1, pinned; round trips; and what damage looks like.

use crate::raft::codec::{Encoded, decode, decode_append, decode_entry, encode, encode_append, encode_entry};
use crate::raft::types::{
    AppendEntriesRequest, AppendEntriesResponse, Entry, LeaderId, LogId, Membership, Payload, ProposalBytes,
    SnapshotMeta, SnapshotResponse, StoredMembership, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, Vote, VoteRequest, VoteResponse,
};
use crate::storage::record::RecordError;
use bytes::Bytes;
use holdfast_core::{Member, NodeId};
use openraft::raft::{StreamAppendError, TransferLeaderError};
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::fmt::Write as _;

const GOLDEN: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/raft_codec.hex"));

fn node(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

fn leader(term: u64, id: u64) -> LeaderId {
    LeaderId { term, node_id: node(id) }
}

fn log_id(term: u64, id: u64, index: u64) -> LogId {
    LogId::new(leader(term, id), index)
}

fn vote(term: u64, id: u64, committed: bool) -> Vote {
    Vote { leader_id: leader(term, id), committed }
}

fn member(name: &str) -> Member {
    Member {
        name: name.to_owned(),
        api: format!("{name}:7700"),
        peer: format!("{name}:7701"),
        gossip: format!("{name}:7702"),
    }
}

fn joint_membership() -> Membership {
    let configs = vec![BTreeSet::from([node(1)]), BTreeSet::from([node(1), node(2)])];
    let nodes =
        BTreeMap::from([(node(1), member("a")), (node(2), member("b")), (node(3), member("observer"))]);
    Membership::new(configs, nodes).unwrap()
}

fn stored_membership() -> StoredMembership {
    StoredMembership::new(Some(log_id(2, 1, 9)), joint_membership())
}

fn entries() -> [Entry; 3] {
    [
        Entry { log_id: log_id(3, 1, 7), payload: Payload::Blank },
        Entry { log_id: log_id(3, 1, 8), payload: Payload::Normal(ProposalBytes("proposal".into())) },
        Entry { log_id: log_id(3, 1, 9), payload: Payload::Membership(joint_membership()) },
    ]
}

fn append_request() -> AppendEntriesRequest {
    AppendEntriesRequest {
        vote: vote(3, 1, true),
        prev_log_id: Some(log_id(2, 1, 6)),
        entries: entries().into(),
        leader_commit: Some(log_id(2, 1, 5)),
    }
}

fn joined(chunks: &[Bytes]) -> Bytes {
    chunks.concat().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// Checks that `value` is the golden file's bytes of that name and reads back as itself, and that no damage passes.
fn check<T: Encoded + Debug + PartialEq>(name: &str, value: &T) {
    let record = encode(b"", value);
    check_golden(name, &record);
    assert_eq!(&decode::<T>(b"", &record).unwrap(), value, "{name}");
    check_damage(name, &record, |damaged| decode::<T>(b"", damaged).map(drop));
}

fn check_golden(name: &str, record: &[u8]) {
    let golden = GOLDEN.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
    assert_eq!(golden, Some(&*hex(record)), "{name}");
}

fn check_damage(name: &str, record: &Bytes, read: impl Fn(&Bytes) -> Result<(), RecordError>) {
    for bit in 0..record.len() * 8 {
        let mut flipped = record.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(read(&flipped.into()), Err(RecordError::Damaged { .. })), "{name}: bit {bit}");
    }
    for len in 0..record.len() {
        assert!(
            matches!(read(&record.slice(..len)), Err(RecordError::Damaged { .. })),
            "{name}: cut to {len}"
        );
    }
}

#[test]
fn stored_types_keep_their_bytes() {
    check("log_id", &log_id(1, 2, 3));
    check("vote_candidate", &vote(4, 5, false));
    check("vote_leader", &vote(4, 5, true));
    check("membership_joint", &joint_membership());
    check("membership_none", &Membership::default());
    check("stored_membership", &stored_membership());
    check("stored_membership_none", &StoredMembership::default());
    check(
        "snapshot_meta",
        &SnapshotMeta { last_log_id: Some(log_id(3, 1, 10)), last_membership: stored_membership() },
    );
    check("snapshot_meta_none", &SnapshotMeta::default());
}

#[test]
fn messages_keep_their_bytes() {
    check("append_success", &AppendEntriesResponse::Success);
    check("append_partial", &AppendEntriesResponse::PartialSuccess(Some(log_id(1, 2, 3))));
    check("append_conflict", &AppendEntriesResponse::Conflict);
    check("append_higher_vote", &AppendEntriesResponse::HigherVote(vote(4, 5, true)));
    check::<StreamAppendResult>("stream_matched", &Ok(Some(log_id(1, 2, 3))));
    check::<StreamAppendResult>("stream_conflict", &Err(StreamAppendError::Conflict(log_id(1, 2, 3))));
    check::<StreamAppendResult>("stream_higher_vote", &Err(StreamAppendError::HigherVote(vote(4, 5, true))));
    let mut request = VoteRequest::new(vote(4, 5, false), Some(log_id(1, 2, 3)));
    check("vote_request", &request);
    request.leadership_transfer = true;
    check("vote_request_transfer", &request);
    check("vote_response", &VoteResponse::new(vote(4, 5, false), Some(log_id(1, 2, 3)), true));
    check("transfer_request", &TransferLeaderRequest::new(vote(4, 5, true), node(6), Some(log_id(1, 2, 3))));
    check::<TransferLeaderResponse>("transfer_accepted", &Ok(()));
    let changed = TransferLeaderError::VoteChanged { expected: vote(4, 5, true), actual: vote(6, 7, true) };
    check::<TransferLeaderResponse>("transfer_vote_changed", &Err(changed));
    let not_flushed = TransferLeaderError::LogNotFlushed { expected: Some(log_id(1, 2, 3)), actual: None };
    check::<TransferLeaderResponse>("transfer_not_flushed", &Err(not_flushed));
    check("snapshot_response", &SnapshotResponse::new(vote(4, 5, true)));
}

#[test]
fn log_rows_keep_their_bytes_and_name_their_index_when_damaged() {
    for (name, entry) in ["entry_blank", "entry_normal", "entry_membership"].iter().zip(entries()) {
        let index = entry.log_id.index;
        let row = encode_entry(b"row", &entry);
        check_golden(name, &row);
        assert_eq!(decode_entry(b"row", index, &row).unwrap(), entry);
        check_damage(name, &row, |damaged| decode_entry(b"row", index, damaged).map(drop));
        assert_eq!(
            decode_entry(b"another", index, &row).unwrap_err().to_string(),
            format!("log entry {index} is damaged")
        );
        let misplaced = decode_entry(b"row", 100, &row).unwrap_err();
        assert_eq!(misplaced, RecordError::Damaged { what: "log entry", index: Some(100) });
    }
}

#[test]
fn an_append_request_keeps_its_bytes_and_copies_no_proposal() {
    let request = append_request();
    let chunks = encode_append(&request);
    let Payload::Normal(ProposalBytes(proposal)) = &request.entries[1].payload else { panic!("a proposal") };
    assert_eq!(chunks[1].as_ptr(), proposal.as_ptr(), "the chunk is the proposal itself");

    let frame = joined(&chunks);
    check_golden("append_request", &frame);
    let read = decode_append(&frame).unwrap();
    check_same(&read, &request);
    let Payload::Normal(ProposalBytes(proposal)) = &read.entries[1].payload else { panic!("a proposal") };
    assert!(frame.as_ptr_range().contains(&proposal.as_ptr()), "the proposal is a slice of the frame");
    check_damage("append_request", &frame, |damaged| decode_append(damaged).map(drop));

    let heartbeat = AppendEntriesRequest {
        vote: vote(3, 1, true),
        prev_log_id: None,
        entries: vec![],
        leader_commit: None,
    };
    let frame = joined(&encode_append(&heartbeat));
    check_golden("append_heartbeat", &frame);
    check_same(&decode_append(&frame).unwrap(), &heartbeat);
}

fn check_same(read: &AppendEntriesRequest, written: &AppendEntriesRequest) {
    assert_eq!(read.vote, written.vote);
    assert_eq!(read.prev_log_id, written.prev_log_id);
    assert_eq!(read.entries, written.entries);
    assert_eq!(read.leader_commit, written.leader_commit);
}

#[test]
fn the_leadership_before_the_first_election_has_no_node() {
    let before = LogId::new(LeaderId { term: 0, node_id: NodeId::default() }, 0);
    assert_eq!(decode::<LogId>(b"", &encode(b"", &before)).unwrap(), before);
}

#[test]
fn a_payload_with_a_byte_too_many_is_damage() {
    let record: Bytes = LogId::KIND
        .seal(b"", |out| {
            log_id(1, 2, 3).write(out);
            out.push(0);
        })
        .into();
    assert_eq!(decode::<LogId>(b"", &record), Err(RecordError::Damaged { what: "log id", index: None }));
}

fn any_node() -> impl Strategy<Value = NodeId> {
    (1..=NodeId::MAX.as_u64()).prop_map(node)
}

fn any_log_id() -> impl Strategy<Value = LogId> {
    (any::<u64>(), any_node(), any::<u64>())
        .prop_map(|(term, node_id, index)| LogId::new(LeaderId { term, node_id }, index))
}

fn any_member() -> impl Strategy<Value = Member> {
    (".*", ".*", ".*", ".*").prop_map(|(name, api, peer, gossip)| Member { name, api, peer, gossip })
}

fn any_membership() -> impl Strategy<Value = Membership> {
    let nodes = proptest::collection::btree_map(any_node(), any_member(), 1..5);
    (nodes, any::<[u8; 2]>(), 1_usize..=2).prop_map(|(nodes, picks, configs)| {
        let voters = |pick: u8| {
            let chosen = nodes.keys().enumerate().filter(|(at, _)| *at == 0 || pick & (1 << at) != 0);
            chosen.map(|(_, id)| *id).collect::<BTreeSet<_>>()
        };
        let configs = picks.iter().take(configs).map(|pick| voters(*pick)).collect();
        Membership::new(configs, nodes).unwrap()
    })
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let payload = prop_oneof![
        Just(Payload::Blank),
        any::<Vec<u8>>().prop_map(|bytes| Payload::Normal(ProposalBytes(bytes.into()))),
        any_membership().prop_map(Payload::Membership),
    ];
    (any_log_id(), payload).prop_map(|(log_id, payload)| Entry { log_id, payload })
}

proptest! {
    #[test]
    fn every_append_request_reads_back(
        entries in proptest::collection::vec(any_entry(), 0..6),
        prev_log_id in proptest::option::of(any_log_id()),
        leader_commit in proptest::option::of(any_log_id()),
        leader in any_log_id(),
        committed: bool,
    ) {
        let vote = Vote { leader_id: leader.leader_id, committed };
        let request = AppendEntriesRequest { vote, prev_log_id, entries, leader_commit };
        check_same(&decode_append(&joined(&encode_append(&request))).unwrap(), &request);
        for entry in &request.entries {
            let row = encode_entry(b"k", entry);
            assert_eq!(&decode_entry(b"k", entry.log_id.index, &row).unwrap(), entry);
        }
    }

    #[test]
    fn every_snapshot_meta_reads_back(
        last_log_id in proptest::option::of(any_log_id()),
        set_by in proptest::option::of(any_log_id()),
        membership in any_membership(),
    ) {
        let meta = SnapshotMeta { last_log_id, last_membership: StoredMembership::new(set_by, membership) };
        assert_eq!(decode::<SnapshotMeta>(b"", &encode(b"", &meta)).unwrap(), meta);
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes: Vec<u8>) {
        // A valid envelope around random bytes, so that the payload's reader is reached.
        let wrap = |kind: crate::storage::record::Kind| Bytes::from(kind.seal(b"", |out| out.extend_from_slice(&bytes)));
        drop(decode::<SnapshotMeta>(b"", &wrap(SnapshotMeta::KIND)));
        drop(decode::<VoteRequest>(b"", &wrap(VoteRequest::KIND)));
        drop(decode_append(&wrap(super::APPEND_REQUEST)));
        drop(decode_entry(b"", 1, &wrap(super::ENTRY)));
    }
}
