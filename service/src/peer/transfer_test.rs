//! Transfers of files between two nodes.

use crate::peer::frame::{FrameError, FrameType, Link};
use crate::peer::handshake::put_text;
use crate::peer::limits::{CHUNK_BYTES, TRANSFER_FILES_MAX};
use crate::peer::test_support::{Seen, TestNode, TestService, greeted, hello, id, pool, receive, send};
use crate::peer::transfer::{self, Begin, InvalidFiles, ReceiveError, encode_file_end};
use crate::peer::{Channel, FileSpec, Refusal, TransferError};
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// Frames that a sender by hand sends: types and payloads.
type Frames<'a> = &'a [(FrameType, &'a [u8])];

/// Files of every interesting size, with bytes that differ from chunk to chunk.
fn sample() -> BTreeMap<String, Vec<u8>> {
    let sizes = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 77];
    let content =
        |bytes| (0..bytes).map(|n| u8::try_from((n ^ (n >> 8) ^ (n >> 16)) % 256).unwrap()).collect();
    sizes.into_iter().enumerate().map(|(n, bytes)| (format!("00000{n}.sst"), content(bytes))).collect()
}

fn on_disk(files: &BTreeMap<String, Vec<u8>>) -> (TempDir, Vec<(String, PathBuf)>) {
    let dir = TempDir::new().unwrap();
    let sources = files.iter().map(|(name, content)| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        (name.clone(), path)
    });
    let sources = sources.collect();
    (dir, sources)
}

async fn send_files(
    node: &TestNode,
    header: &'static str,
    sources: Vec<(String, PathBuf)>,
) -> Result<Bytes, TransferError> {
    let (pool, _) = pool(id(1));
    let peer = pool.peer(id(2), &node.address.to_string());
    let sent = peer.send_files(header.into(), sources, &CancellationToken::new()).await;
    pool.close().await;
    sent
}

async fn assert_a_whole_transfer_works(node: &TestNode) {
    let files = sample();
    let (_dir, sources) = on_disk(&files);
    assert_eq!(send_files(node, "whole", sources).await.unwrap(), "installed whole");
    assert_eq!(node.service.installed(), files);
    assert_eq!(node.service.leftovers(), Vec::<PathBuf>::new());
}

/// A sender by hand that has announced `files` and been told to go on.
async fn begun(node: &TestNode, header: &'static str, files: &[(&str, u64)]) -> Link<TcpStream> {
    let mut link = greeted(node.address, &hello(id(1), id(2), Channel::Snapshot)).await;
    let files =
        files.iter().map(|(name, bytes)| FileSpec { name: (*name).to_owned(), bytes: *bytes }).collect();
    send(&mut link, FrameType::TransferBegin, &Begin { header: header.into(), files }.encode()).await;
    assert_eq!(receive(&mut link).await.kind, FrameType::TransferReady);
    link
}

async fn failure(link: &mut Link<TcpStream>) -> String {
    let frame = receive(link).await;
    assert_eq!(frame.kind, FrameType::TransferFailed, "{frame:?}");
    String::from_utf8(frame.payload[2..].to_vec()).unwrap()
}

#[tokio::test]
async fn files_of_every_size_arrive_whole_and_are_installed() {
    let node = TestNode::start(id(2)).await;
    assert_a_whole_transfer_works(&node).await;
    assert_eq!(*node.service.seen.borrow(), Seen { begun: 1, finishing: 1, installed: 1, aborted: 0 });
    assert!(node.metrics.channel(Channel::Snapshot).bytes_in() > 6 << 20);
    node.stop().await;
}

#[tokio::test]
async fn a_transfer_without_files_is_installed_too() {
    let node = TestNode::start(id(2)).await;
    assert_eq!(send_files(&node, "empty", vec![]).await.unwrap(), "installed empty");
    node.stop().await;
}

#[tokio::test]
async fn a_transfer_that_the_service_does_not_want_fails_with_its_words() {
    let node = TestNode::start(id(2)).await;
    let refused = send_files(&node, "refuse", vec![]).await;
    assert!(matches!(&refused, Err(TransferError::Refused(why)) if why == "the disk is full"), "{refused:?}");
    assert_eq!(node.service.leftovers(), Vec::<PathBuf>::new());
    node.stop().await;
}

#[tokio::test]
async fn a_transfer_to_a_node_that_refuses_the_handshake_is_unreachable() {
    let node = TestNode::start(id(2)).await;
    *node.service.refuse.lock().unwrap() = Some(Refusal::Removed);
    let refused = send_files(&node, "x", vec![]).await;
    assert!(matches!(refused, Err(TransferError::Unreachable(_))), "{refused:?}");
    node.stop().await;
}

#[tokio::test]
async fn a_transfer_cut_in_the_middle_leaves_nothing_and_the_next_one_works() {
    let node = TestNode::start(id(2)).await;
    let mut link = begun(&node, "cut", &[("a", 10), ("b", 10)]).await;
    send(&mut link, FrameType::TransferChunk, b"0123456789").await;
    send(&mut link, FrameType::TransferFileEnd, &encode_file_end(crc32c::crc32c(b"0123456789"))).await;
    send(&mut link, FrameType::TransferChunk, b"01234").await;
    drop(link);
    node.service.until(|seen| seen.aborted == 1).await;
    assert_eq!(node.service.leftovers(), Vec::<PathBuf>::new());
    assert_a_whole_transfer_works(&node).await;
    node.stop().await;
}

#[tokio::test]
async fn wrong_lengths_checksums_and_frames_are_refused_and_leave_nothing() {
    let node = TestNode::start(id(2)).await;
    let crc = encode_file_end(crc32c::crc32c(b"01234"));
    let oversized = vec![0; CHUNK_BYTES + 1];
    let cases: [(Frames<'_>, &str); 7] = [
        (&[(FrameType::TransferChunk, b"012345")], "file \"a\" has more bytes than announced"),
        (
            &[(FrameType::TransferChunk, b"01"), (FrameType::TransferFileEnd, &crc)],
            "file \"a\" ends 3 bytes early",
        ),
        (
            &[(FrameType::TransferChunk, b"01235"), (FrameType::TransferFileEnd, &crc)],
            "file \"a\" has checksum 9dce9e9b and should have 6fa51d98",
        ),
        (&[(FrameType::TransferFinish, b"")], "a frame of type 10 has no place here"),
        (&[(FrameType::TransferChunk, b"")], "a frame of type 8 has no place here"),
        (&[(FrameType::TransferChunk, &oversized)], "a frame of type 8 has no place here"),
        (
            &[(FrameType::TransferChunk, b"01234"), (FrameType::TransferFileEnd, b"1")],
            "the end of a file does not read",
        ),
    ];
    for (n, (frames, why)) in cases.into_iter().enumerate() {
        let mut link = begun(&node, "bad", &[("a", 5)]).await;
        for (kind, payload) in frames {
            send(&mut link, *kind, payload).await;
        }
        assert_eq!(failure(&mut link).await, why);
        drop(link);
        node.service.until(|seen| seen.aborted == n + 1).await;
        assert_eq!(node.service.leftovers(), Vec::<PathBuf>::new());
    }
    assert_a_whole_transfer_works(&node).await;
    node.stop().await;
}

#[tokio::test]
async fn names_that_leave_the_directory_are_refused_by_the_receiver() {
    let node = TestNode::start(id(2)).await;
    for name in ["", ".", "..", "../x", "/etc/passwd", "a/b", "a\0b", "a b", "ä", &"x".repeat(256)] {
        let mut payload = BytesMut::new();
        payload.put_u32(0);
        payload.put_u32(1);
        put_text(&mut payload, name, 1_000);
        payload.put_u64(1);
        let mut link = greeted(node.address, &hello(id(1), id(2), Channel::Snapshot)).await;
        send(&mut link, FrameType::TransferBegin, &payload).await;
        let why = failure(&mut link).await;
        let refused = why.ends_with("is not a name for a file of a transfer")
            || why == "the beginning of a transfer does not read";
        assert!(refused, "{name:?}: {why}");
    }
    assert_eq!(node.service.seen.borrow().begun, 0);
    node.stop().await;
}

#[test]
fn lists_of_files_are_bounded_on_both_sides() {
    let spec = |name: &str, bytes| FileSpec { name: name.to_owned(), bytes };
    let check = |files: Vec<FileSpec>| Begin { header: Bytes::new(), files }.check();
    let many = |count| (0..count).map(|n| spec(&n.to_string(), 0)).collect::<Vec<_>>();
    assert_eq!(check(vec![spec("CURRENT", 16), spec("MANIFEST-000004", 1 << 39)]), Ok(()));
    assert_eq!(check(many(TRANSFER_FILES_MAX)), Ok(()));
    let count = TRANSFER_FILES_MAX + 1;
    assert_eq!(check(many(count)), Err(InvalidFiles::TooMany { count }));
    assert_eq!(check(vec![spec("a", u64::MAX), spec("b", u64::MAX)]), Err(InvalidFiles::TooLarge));
    let name = "a".to_owned();
    assert_eq!(check(vec![spec("a", 1), spec("a", 2)]), Err(InvalidFiles::Duplicate { name }));
    let header = Bytes::from(vec![0; (1 << 20) + 1]);
    let long = Begin { header, files: vec![] }.check();
    assert_eq!(long, Err(InvalidFiles::HeaderTooLarge { bytes: (1 << 20) + 1 }));
    let longest = Begin { header: Bytes::new(), files: vec![spec(&"x".repeat(255), 1); TRANSFER_FILES_MAX] };
    assert!(longest.encode().len() + (1 << 20) < crate::peer::CALL_BYTES_MAX, "the list fits a frame");
}

#[tokio::test]
async fn a_cancelled_transfer_ends_at_once_and_leaves_nothing() {
    let node = TestNode::start(id(2)).await;
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("sparse");
    std::fs::File::create(&path).unwrap().set_len(1 << 38).unwrap();
    let (pool, _) = pool(id(1));
    let peer = pool.peer(id(2), &node.address.to_string());
    let cancel = CancellationToken::new();
    let sending = peer.send_files("large".into(), vec![("sparse".to_owned(), path)], &cancel);
    let cancelling = async {
        node.service.until(|seen| seen.begun == 1).await;
        let second = peer.send_files("second".into(), vec![], &CancellationToken::new()).await;
        assert!(matches!(second, Err(TransferError::InProgress)), "{second:?}");
        cancel.cancel();
    };
    let (sent, ()) = tokio::join!(sending, cancelling);
    assert!(matches!(sent, Err(TransferError::Cancelled)), "{sent:?}");
    node.service.until(|seen| seen.aborted == 1).await;
    assert_eq!(node.service.leftovers(), Vec::<PathBuf>::new());
    pool.close().await;
    node.stop().await;
}

#[tokio::test]
async fn a_receiver_that_shuts_down_removes_what_it_has_and_says_so() {
    let node = TestNode::start(id(2)).await;
    let mut link = begun(&node, "x", &[("a", 5)]).await;
    send(&mut link, FrameType::TransferChunk, b"012").await;
    node.begin_shutdown();
    assert_eq!(failure(&mut link).await, "the node is stopping, or the sender connected again");
    drop(link);
    let service = node.stop().await;
    assert_eq!(service.leftovers(), Vec::<PathBuf>::new());
    assert_eq!(service.seen.borrow().aborted, 1);
}

#[tokio::test]
async fn an_installation_runs_to_its_end_when_the_sender_is_gone() {
    let node = TestNode::start(id(2)).await;
    let mut link = begun(&node, "gated", &[]).await;
    send(&mut link, FrameType::TransferFinish, &[]).await;
    node.service.until(|seen| seen.finishing == 1).await;
    drop(link);
    let again = send_files(&node, "again", vec![]).await;
    assert!(matches!(again, Err(TransferError::Unreachable(_))), "a second installation began: {again:?}");
    node.service.gate.add_permits(1);
    node.service.until(|seen| seen.installed == 1).await;
    node.stop().await;
}

#[tokio::test]
async fn sources_that_are_missing_or_shrink_fail_the_transfer_by_name() {
    let node = TestNode::start(id(2)).await;
    let missing = send_files(&node, "x", vec![("a".to_owned(), "/nonexistent/a".into())]).await;
    assert!(matches!(&missing, Err(TransferError::ReadFile { name, .. }) if name == "a"), "{missing:?}");

    let (dir, sources) = on_disk(&BTreeMap::from([("a".to_owned(), vec![1; 100])]));
    let measured = transfer::measure(sources).await.unwrap();
    std::fs::write(dir.path().join("a"), [1; 50]).unwrap();
    let link = greeted(node.address, &hello(id(1), id(2), Channel::Snapshot)).await;
    let shrank = transfer::send(link, &Bytes::new(), &measured, Duration::from_secs(30)).await;
    assert!(matches!(&shrank, Err(TransferError::FileShrank { name }) if name == "a"), "{shrank:?}");
    node.service.until(|seen| seen.aborted == 1).await;
    assert_eq!(node.service.leftovers(), Vec::<PathBuf>::new());
    node.stop().await;
}

#[tokio::test]
async fn a_transfer_that_stands_still_is_given_up_on_both_sides() {
    let idle = Duration::from_millis(100);
    let (near, _mute) = tokio::io::duplex(1 << 10);
    let silent = transfer::send(Link::new(near, idle), &Bytes::new(), &[], idle).await;
    assert!(matches!(silent, Err(TransferError::Broken(FrameError::Silent { .. }))), "{silent:?}");

    let service = TestService::new(id(2));
    let (near, far) = tokio::io::duplex(1 << 10);
    let mut link = Link::new(far, idle);
    let mut sender = Link::new(near, idle);
    let begin = Begin { header: Bytes::new(), files: vec![FileSpec { name: "a".to_owned(), bytes: 1 }] };
    sender.writer.write(FrameType::TransferBegin, 0, &[], &begin.encode()).await.unwrap();
    sender.writer.flush().await.unwrap();
    let stop = CancellationToken::new();
    let given_up = transfer::receive(&service, id(1), &mut link, idle, &stop).await;
    assert!(matches!(given_up, Err(ReceiveError::Broken(FrameError::Silent { .. }))), "{given_up:?}");
    assert_eq!(service.seen.borrow().aborted, 1);
    assert_eq!(service.leftovers(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn signs_of_life_keep_a_slow_installation_going() {
    // Three pauses after the first word: together longer than the sender waits for one.
    let idle = Duration::from_secs(2);
    let (near, far) = tokio::io::duplex(1 << 10);
    let receiving = async {
        let mut link = Link::new(far, idle);
        link.opened(&std::sync::Arc::default());
        let ready = [FrameType::TransferReady, FrameType::TransferWorking, FrameType::TransferWorking];
        for kind in ready {
            tokio::time::sleep(idle * 4 / 10).await;
            link.writer.write(kind, 0, &[], &[]).await.unwrap();
            link.writer.flush().await.unwrap();
        }
        tokio::time::sleep(idle * 4 / 10).await;
        link.writer.write(FrameType::TransferAnswer, 0, &[], b"done").await.unwrap();
        link.writer.flush().await.unwrap();
        link
    };
    let header = Bytes::new();
    let sending = transfer::send(Link::new(near, idle), &header, &[], idle);
    let (sent, link) = tokio::join!(sending, receiving);
    assert_eq!(sent.unwrap(), "done");
    drop(link);
}
