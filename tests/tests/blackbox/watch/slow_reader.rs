//! A reader that does not keep up: it is let go with where to resume, and writers do not notice.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use holdfast_tests::harness::{Metrics, SentEvent};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::watch::node::{Nodes, SOON, data, id_of};

const WATCH: &str = "/v1/namespaces/default/watch";
/// Bytes of one value.
const VALUE_BYTES: usize = 64 << 10;
/// Writes with and without the slow reader: together far more than the sockets and the queue hold.
const WRITES: usize = 200;
/// What the reader takes at a time while it is slow, and how long it pauses then.
const SIP_BYTES: usize = 4 << 10;
const SIP_PAUSE: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_is_let_go_with_where_to_resume_and_costs_writers_nothing() -> Result<()> {
    let nodes = Nodes::start(1, &[]).await?;
    let (_, without) = write(&nodes).await?;
    let address = nodes.cluster.nodes()[0].addresses().api;
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let reader = tokio::spawn(read_slowly(connect(address).await?, stopped));
    let (written, with) = write(&nodes).await?;
    // On a slow machine the reader has come to the end by now.
    let _ = stop.send(());
    let sent = reader.await??;
    // It is let go when it comes back for more, which the sockets' buffers may put off until it hurries.
    let (events, cut) = (events(&sent)?, cuts(&nodes).await?);

    let (last, changes) = events.split_last().context("no events")?;
    let problem = data(last, "error")?;
    ensure!(problem["code"] == "overloaded" && last.id.is_none(), "the stream ends with {last:?}");
    let mut seen = Vec::new();
    for event in changes.iter().filter(|event| event.kind == "change") {
        seen.push(id_of(event)?.revision);
    }
    ensure!(!seen.is_empty() && seen.len() < written.len(), "{} of {} were told", seen.len(), written.len());
    ensure!(seen == written[..seen.len()], "a gap: {seen:?} of {written:?}");
    let resume = problem["resume"].as_str().context("it cannot resume")?;
    ensure!(
        changes.last().and_then(|event| event.id.as_deref()) == Some(resume),
        "{resume} is not the last one"
    );
    let mut resumed = nodes.open_after(0, WATCH, Some(resume)).await?;
    for revision in &written[seen.len()..] {
        ensure!(id_of(&resumed.next_telling(SOON).await?)?.revision == *revision, "{revision} is missing");
    }

    ensure!((cut - 1.0).abs() < 0.5, "{cut} slow readers were let go");
    // Not through `println!`, which the test runner keeps to itself.
    writeln!(
        std::io::stdout(),
        "slow reader: {WRITES} writes of {VALUE_BYTES} bytes took {} µs in the median without it and {} µs with it, {} µs and \
         {} µs at worst; it was told {} of them before it was let go, and the rest when it resumed",
        without.median.as_micros(),
        with.median.as_micros(),
        without.worst.as_micros(),
        with.worst.as_micros(),
        seen.len(),
    )?;
    // A bound on what would be wrong, not on what is good: the machine may be busy.
    ensure!(with.median < 5 * without.median + Duration::from_millis(50), "{with:?}, without {without:?}");
    Ok(())
}

/// How long writes took.
#[derive(Debug)]
struct Latency {
    median: Duration,
    worst: Duration,
}

/// Writes large values one after another: their revisions.
async fn write(nodes: &Nodes) -> Result<(Vec<u64>, Latency)> {
    let (mut revisions, mut took) = (Vec::new(), Vec::new());
    for number in 0..WRITES {
        let began = Instant::now();
        revisions.push(nodes.put(&format!("large/{}", number % 8), vec![b'x'; VALUE_BYTES]).await?);
        took.push(began.elapsed());
    }
    took.sort_unstable();
    Ok((revisions, Latency { median: took[WRITES / 2], worst: took[WRITES - 1] }))
}

async fn cuts(nodes: &Nodes) -> Result<f64> {
    let metrics = Metrics::scrape(nodes.cluster.http(), &nodes.cluster.nodes()[0].ops_url()).await?;
    metrics.value("holdfast_watch_ends", &[("reason", "slow_reader")]).context("no such metric")
}

/// A connection that takes little ahead, with its request sent.
async fn connect(address: SocketAddr) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(16 << 10)?;
    let mut stream = socket.connect(address).await?;
    let request = format!("GET {WATCH} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    Ok(stream)
}

/// Takes sips until it is told to hurry, and then everything: all that it was sent.
async fn read_slowly(
    mut stream: TcpStream,
    mut hurry: tokio::sync::oneshot::Receiver<()>,
) -> Result<Vec<u8>> {
    let mut sent = Vec::new();
    let mut sip = vec![0; SIP_BYTES];
    while tokio::time::timeout(SIP_PAUSE, &mut hurry).await.is_err() {
        match stream.read(&mut sip).await? {
            0 => return Ok(sent),
            bytes => sent.extend_from_slice(&sip[..bytes]),
        }
    }
    tokio::time::timeout(SOON, stream.read_to_end(&mut sent)).await.context("the stream does not end")??;
    Ok(sent)
}

/// The events of an answer in chunks (RFC 9112 §7.1).
fn events(sent: &[u8]) -> Result<Vec<SentEvent>> {
    let head = sent.windows(4).position(|bytes| bytes == b"\r\n\r\n").context("no head")?;
    let mut rest = &sent[head + 4..];
    let mut text = Vec::new();
    loop {
        let line = rest.windows(2).position(|bytes| bytes == b"\r\n").context("no length of a chunk")?;
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..line])?, 16)?;
        if length == 0 {
            break;
        }
        let begin = line + 2;
        text.extend_from_slice(rest.get(begin..begin + length).context("a chunk is cut off")?);
        rest = &rest[begin + length + 2..];
    }
    let text = String::from_utf8(text)?;
    let events = text.split("\n\n").filter(|lines| !lines.is_empty());
    let events = events.map(|lines| SentEvent::of_lines(lines).map(Option::into_iter));
    Ok(events.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

#[test]
fn the_events_of_an_answer_are_read_across_its_chunks() -> Result<()> {
    let sent = b"HTTP/1.1 200 OK\r\n\r\n7\r\nretry: \r\n3\r\n1\n\n\r\n1b\r\nevent: progress\ndata: {\"a\"\r\n6\r\n:1}\n\n\n\r\n0\r\n\r\n";
    let found = events(sent).err();
    ensure!(found.is_some(), "a chunk of the wrong length is taken");
    let sent = b"HTTP/1.1 200 OK\r\n\r\n7\r\nretry: \r\n3\r\n1\n\n\r\n1a\r\nevent: progress\ndata: {\"a\"\r\n5\r\n:1}\n\n\r\n0\r\n\r\n";
    let found = events(sent)?;
    ensure!(found.len() == 1 && found[0].parse::<Value>()?["a"] == 1, "{found:?}");
    Ok(())
}
