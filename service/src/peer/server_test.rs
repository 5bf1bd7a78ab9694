//! What a served node does with strangers, garbage and crowds.

use crate::peer::frame::{FrameType, HEADER_BYTES, header};
use crate::peer::handshake::VERSIONS;
use crate::peer::limits::{CONNECTIONS_PER_REMOTE_MAX, HANDSHAKE_TIMEOUT};
use crate::peer::test_support::{ECHO, NEVER, PATIENCE, TestNode, greeted, hello, id, pool, receive, send};
use crate::peer::{CallChannel, Channel, Refusal, RefusalReason};
use bytes::Bytes;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Sends raw bytes and returns what comes back until the node closes, which it must.
async fn answer_to(node: &TestNode, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    let mut answer = Vec::new();
    // The node may close, even reset, before it has read everything.
    let exchange = async {
        let _ = stream.write_all(bytes).await;
        let _ = stream.read_to_end(&mut answer).await;
    };
    tokio::time::timeout(PATIENCE, exchange).await.expect("the node closes the connection");
    answer
}

async fn assert_serves(node: &TestNode) {
    let (pool, _) = pool(id(1));
    let peer = pool.peer(id(2), &node.address.to_string());
    let echo = peer.call(CallChannel::Control, ECHO, Bytes::from_static(b"still here"), PATIENCE).await;
    assert_eq!(echo.unwrap(), "still here");
    pool.close().await;
}

fn framed(kind: FrameType, payload: &[u8]) -> Vec<u8> {
    [&header(kind, 0, &[], payload).unwrap()[..], payload].concat()
}

#[tokio::test]
async fn garbage_closes_the_connection_and_nothing_else() {
    let node = TestNode::start(id(2)).await;
    let good = hello(id(1), id(2), Channel::Append).encode(&VERSIONS);
    let mut bad_magic = good.to_vec();
    bad_magic[0] ^= 0xff;
    let mut bad_crc = framed(FrameType::Hello, &good);
    bad_crc[HEADER_BYTES] ^= 1;
    let mut newer = framed(FrameType::Hello, &good);
    newer[4] = 2;
    let garbage = [
        b"GET / HTTP/1.1\r\nHost: holdfast\r\n\r\n".to_vec(),
        vec![0xff; 64],
        vec![0; 64],
        (8_u32 << 20).to_be_bytes().to_vec(),
        framed(FrameType::Hello, &bad_magic),
        framed(FrameType::Request, b"\x01before the hello"),
        framed(FrameType::Hello, &[]),
        bad_crc,
        newer,
    ];
    for bytes in garbage {
        assert_eq!(answer_to(&node, &bytes).await, b"", "{bytes:?}");
    }
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    for _ in 0..200 {
        let mut bytes = vec![0; random.random_range(18..2_000)];
        random.fill(&mut bytes[..]);
        assert_eq!(answer_to(&node, &bytes).await, b"");
    }
    assert!(node.service.admitted.lock().unwrap().is_empty());
    assert_serves(&node).await;
    node.stop().await;
}

#[tokio::test]
async fn damage_after_the_handshake_closes_the_connection() {
    let node = TestNode::start(id(2)).await;
    let open = framed(FrameType::Hello, &hello(id(1), id(2), Channel::Append).encode(&VERSIONS));
    let ack = framed(FrameType::HelloAck, &[1]);
    let request = framed(FrameType::Request, b"\x01payload");
    for position in HEADER_BYTES - 4..request.len() {
        let mut damaged = request.clone();
        damaged[position] ^= 0x10;
        let answer = answer_to(&node, &[&open[..], &damaged].concat()).await;
        assert_eq!(answer, ack, "a request damaged at {position} was answered");
    }
    let out_of_place = [
        framed(FrameType::Request, b""),
        framed(FrameType::Response, b"x"),
        framed(FrameType::TransferBegin, b""),
    ];
    for frame in out_of_place {
        assert_eq!(answer_to(&node, &[&open[..], &frame].concat()).await, ack);
    }
    assert_serves(&node).await;
    node.stop().await;
}

#[tokio::test]
async fn a_hello_of_a_later_protocol_is_refused_with_the_versions_spoken_here() {
    let node = TestNode::start(id(2)).await;
    let later = hello(id(1), id(2), Channel::Append).encode(&(2..=9));
    let answer = answer_to(&node, &framed(FrameType::Hello, &later)).await;
    let refusal = Refusal::UnsupportedVersion { min: 1, max: 1 };
    assert_eq!(answer, framed(FrameType::HelloRefused, &refusal.encode()));
    assert_eq!(node.metrics.refused_here(RefusalReason::UnsupportedVersion), 1);
    node.stop().await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let node = TestNode::start(id(2)).await;
    let begun = tokio::time::Instant::now();
    assert_eq!(answer_to(&node, &[]).await, b"");
    assert!(HANDSHAKE_TIMEOUT <= begun.elapsed());
    node.stop().await;
}

#[tokio::test]
async fn connections_from_one_address_are_bounded() {
    let node = TestNode::start(id(2)).await;
    let mut held = Vec::new();
    for n in 0..CONNECTIONS_PER_REMOTE_MAX {
        let from = id(100 + u64::try_from(n).unwrap());
        held.push(greeted(node.address, &hello(from, id(2), Channel::Control)).await);
    }
    assert_eq!(answer_to(&node, &[]).await, b"");
    held.clear();
    // The places come back as the node notices the ends.
    let served = tokio::time::timeout(PATIENCE, async {
        let (pool, _) = pool(id(1));
        let peer = pool.peer(id(2), &node.address.to_string());
        while peer.call(CallChannel::Control, ECHO, Bytes::new(), PATIENCE).await.is_err() {
            tokio::task::yield_now().await;
        }
        pool.close().await;
    });
    served.await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn a_peer_that_connects_again_replaces_its_earlier_connection() {
    let node = TestNode::start(id(2)).await;
    let mut first = greeted(node.address, &hello(id(1), id(2), Channel::Append)).await;
    send(&mut first, FrameType::Request, &[NEVER]).await;
    let mut other = greeted(node.address, &hello(id(1), id(2), Channel::Control)).await;
    let mut second = greeted(node.address, &hello(id(1), id(2), Channel::Append)).await;
    assert!(tokio::time::timeout(PATIENCE, first.reader.next()).await.unwrap().is_err());
    for link in [&mut second, &mut other] {
        send(link, FrameType::Request, &[ECHO, 42]).await;
        assert_eq!(receive(link).await.payload[..], [42]);
    }
    node.stop().await;
}

#[tokio::test]
async fn shutdown_ends_open_connections_and_unfinished_handshakes() {
    let node = TestNode::start(id(2)).await;
    let mut open = greeted(node.address, &hello(id(1), id(2), Channel::Append)).await;
    send(&mut open, FrameType::Request, &[NEVER]).await;
    let silent = TcpStream::connect(node.address).await.unwrap();
    let idle_transfer = greeted(node.address, &hello(id(1), id(2), Channel::Snapshot)).await;
    node.stop().await;
    assert!(tokio::time::timeout(PATIENCE, open.reader.next()).await.unwrap().is_err());
    drop((silent, idle_transfer));
}
