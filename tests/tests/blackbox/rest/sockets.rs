//! What a socket may bring: bodies that are too large, bodies that never come, heads that never end, garbage.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::fixture::Fixture;
use super::wire::{Ask, Reply, ask, connect, exchange, read_reply};

const VALUE_BYTES_MAX: usize = 1 << 20;
const JSON_BYTES_MAX: usize = 64 << 10;

/// Sends the head only and waits for the answer.
async fn answer_to_head(api: SocketAddr, request: &Ask) -> Reply {
    let mut stream = connect(api).await;
    stream.write_all(&request.head()).await.expect("the head goes out");
    read_reply(&mut stream)
        .await
        .unwrap_or_else(|error| panic!("{} {}: {error}", request.method, request.target))
}

/// Sends chunks until the answer comes or the server closes; gives the answer and the bytes that went out before.
async fn answer_to_chunks(api: SocketAddr, request: &Ask, bytes_max: usize) -> (Reply, usize) {
    let (mut read, mut write) = connect(api).await.into_split();
    write.write_all(&request.head()).await.expect("the head goes out");
    let chunk = [b"4000\r\n".as_slice(), &[b'x'; 0x4000], b"\r\n"].concat();
    let sender = tokio::spawn(async move {
        let mut sent = 0;
        while sent < bytes_max && write.write_all(&chunk).await.is_ok() {
            sent += 0x4000;
        }
        // Dropping the half would end the body; the answer must not depend on that.
        (write, sent)
    });
    let mut bytes = Vec::new();
    let wait = async {
        while read.read_buf(&mut bytes).await.is_ok_and(|count| 0 < count) {
            if bytes.ends_with(b"}") {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("an answer before the body's end");
    let (_, sent) = sender.await.expect("the sender ends");
    let text = String::from_utf8(bytes).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let headers = head.split("\r\n").skip(1).filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    (Reply { status, headers, body: body.as_bytes().to_vec() }, sent)
}

#[tokio::test]
async fn a_body_that_says_it_is_too_large_is_refused_before_it_comes() {
    let fixture = Fixture::alone().await;
    for door in fixture.both().await {
        let before = door.revision().await;
        let value = format!("/v1/namespaces/default/config/large-{}", door.via);
        for (method, target, bytes_max) in [
            ("PUT", value.as_str(), VALUE_BYTES_MAX),
            ("PUT", "/v1/sessions/large", JSON_BYTES_MAX),
            ("PUT", "/v1/namespaces/default/locks/large/claims/a", JSON_BYTES_MAX),
            ("PUT", "/v1/namespaces/large", JSON_BYTES_MAX),
            ("POST", "/v1/cluster/members", JSON_BYTES_MAX),
            ("POST", "/v1/sessions/large/keepalive", 0),
        ] {
            for length in [(bytes_max + 1).to_string(), (1_u64 << 40).to_string()] {
                let request = ask(method, target).header("Content-Type", "application/json");
                let request = request.header("Content-Length", length);
                let answer = answer_to_head(door.api(), &request).await;
                door.check_headers(&answer);
                answer.refused(413, "too-large");
                let expecting = answer_to_head(door.api(), &request.header("Expect", "100-continue")).await;
                expecting.refused(413, "too-large");
            }
        }
        assert_eq!(door.revision().await, before);
    }
}

#[tokio::test]
async fn a_body_without_a_length_is_cut_off_at_its_limit() {
    let fixture = Fixture::alone().await;
    for door in fixture.both().await {
        let before = door.revision().await;
        let value = format!("/v1/namespaces/default/config/chunked-{}", door.via);
        for (target, bytes_max) in [(value.as_str(), VALUE_BYTES_MAX), ("/v1/sessions/large", JSON_BYTES_MAX)]
        {
            let request = ask("PUT", target).header("Content-Type", "application/json");
            let request = request.header("Transfer-Encoding", "chunked");
            let (answer, sent) = answer_to_chunks(door.api(), &request, 64 << 20).await;
            answer.refused(413, "too-large");
            // Socket buffers hold some megabytes; the node read no more than its limit.
            assert!(sent < bytes_max + (16 << 20), "{sent} bytes were taken");
        }
        assert_eq!(door.revision().await, before);
        let whole = ask("PUT", &value)
            .header("Transfer-Encoding", "chunked")
            .body("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
        door.send(whole).await.expect(201);
        assert_eq!(door.send(ask("GET", &value)).await.text(), "abcde");
        door.send(ask("DELETE", &value)).await.expect(204);
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_changes_nothing() {
    let fixture = Fixture::alone().await;
    for door in fixture.both().await {
        let before = door.revision().await;
        let key = format!("/v1/namespaces/default/config/broken-{}", door.via);
        for request in [
            ask("PUT", &key).header("Content-Length", "10").body("12345"),
            ask("PUT", &key).header("Transfer-Encoding", "chunked").body("5\r\n12345\r\n"),
            ask("PUT", &key).header("Transfer-Encoding", "chunked").body("5\r\n12345\r\nzz\r\n"),
        ] {
            let mut stream = connect(door.api()).await;
            stream.write_all(&request.bytes()).await.expect("it goes out");
            stream.shutdown().await.expect("the sending side closes");
            if let Ok(answer) = read_reply(&mut stream).await {
                assert!((400..500).contains(&answer.status), "{}", answer.shown());
            }
        }
        door.send(ask("GET", &key)).await.refused(404, "key-not-found");
        assert_eq!(door.revision().await, before);
    }
}

#[tokio::test]
async fn a_head_that_comes_too_slowly_is_cut_off() {
    let fixture = Fixture::shared().await;
    let doors = fixture.doors().await;
    let cut = async |address: SocketAddr| {
        let mut stream = connect(address).await;
        let began = Instant::now();
        let (mut read, mut write) = stream.split();
        let drip = async {
            // One byte now and then keeps the socket busy, and must not keep the request alive.
            for byte in
                b"GET /v1/cluster HTTP/1.1\r\nX-Slow: ".iter().chain(std::iter::repeat_n(&b'x', 1_000))
            {
                if write.write_all(&[*byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        let mut rest = Vec::new();
        tokio::select! {
            () = drip => {}
            // An end or a reset: either way the server let go.
            _ = read.read_to_end(&mut rest) => {}
        }
        (began.elapsed(), rest)
    };
    let (api, follower, ops) =
        tokio::join!(cut(doors[0].addresses.api), cut(doors[1].addresses.api), cut(doors[0].addresses.ops));
    for (elapsed, rest) in [api, follower, ops] {
        let seconds = elapsed.as_secs_f64();
        assert!((4.0..12.0).contains(&seconds), "cut after {seconds} s, 5 are documented");
        assert!(!rest.starts_with(b"HTTP/1.1 2"), "{:?}", String::from_utf8_lossy(&rest));
    }
}

#[tokio::test]
async fn garbage_on_any_port_hurts_nobody() {
    let fixture = Fixture::alone().await;
    let long_line = [b"GET /".as_slice(), &vec![b'a'; 200 << 10], b" HTTP/1.1\r\n\r\n"].concat();
    let many_headers =
        [b"GET / HTTP/1.1\r\n".to_vec(), b"a: b\r\n".repeat(10_000), b"\r\n".to_vec()].concat();
    let garbage: Vec<Vec<u8>> = vec![
        b"\0\0\0\0".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"\xff".repeat(100_000),
        b"GET\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"GET /v1/cluster HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n".to_vec(),
        b"GET /v1/cluster HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_vec(),
        b"GET /v1/sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
        b"GET /v1/cluster HTTP/1.1\r\nbad header\r\n\r\n".to_vec(),
        b"\x7f\xff\xff\xff".repeat(64),
        (0..=255).collect(),
        long_line,
        many_headers,
    ];
    for door in fixture.doors().await {
        let before = door.revision().await;
        for address in [door.addresses.api, door.addresses.ops, door.addresses.peer] {
            for bytes in &garbage {
                let mut stream = connect(address).await;
                // The other side may close in the middle.
                let _ = stream.write_all(bytes).await;
                let _ = stream.shutdown().await;
                let mut answer = Vec::new();
                let read = stream.read_to_end(&mut answer);
                // An end or a reset, but not silence.
                let ended = tokio::time::timeout(Duration::from_secs(20), read).await;
                assert!(
                    ended.is_ok(),
                    "{address} keeps {:?} open",
                    String::from_utf8_lossy(&bytes[..bytes.len().min(40)])
                );
                assert!(!answer.starts_with(b"HTTP/1.1 5"), "{:?}", String::from_utf8_lossy(&answer));
            }
        }
        assert_eq!(door.revision().await, before);
        exchange(door.addresses.ops, &ask("GET", "/livez").bytes()).await.expect("it lives");
    }
    fixture.assert_healthy().await;
}
