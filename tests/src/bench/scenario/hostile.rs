//! Writes while others hold connections open, send their requests byte by byte, or send what is no HTTP.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::bench::closed_loop::{Window, drive, run, spent};
use crate::bench::figures::{Figure, Run};
use crate::bench::options::{Options, Target};
use crate::bench::scenario::requests::{Mix, Requests};
use crate::bench::scenario::{KEYS, load, value};
use crate::bench::system::System;

/// Who writes.
const WRITERS: usize = 64;
/// Connections that send nothing.
const SILENT: usize = 5_000;
/// Connections that send a byte now and then.
const SLOW: usize = 500;
const SLOW_PAUSE: Duration = Duration::from_millis(500);
/// Connections that send rubbish, again and again.
const RUDE: usize = 8;
const RUDE_PAUSE: Duration = Duration::from_millis(20);
/// What the server may take to accept all of them.
const OPEN_LIMIT: Duration = Duration::from_secs(30);

const SLOW_HEAD: &[u8] =
    b"PUT /v1/namespaces/default/config/slow HTTP/1.1\r\nHost: slow\r\nContent-Length: 1000000\r\n\r\n";
const RUBBISH: [&[u8]; 5] = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET / HTTP/9.9\r\n\r\n",
    b"PUT /v1/namespaces/default/config/x HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    b"GET \x00\x01\x02 HTTP/1.1\r\n\r\n",
    b"POST /v1/namespaces/default/txn HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
];

/// Measures the writes alone, and again beside the others.
pub(super) async fn measure(system: &System, options: &Options) -> Result<Vec<Run>> {
    load(system, KEYS, 4).await?;
    let leader = system.address(system.leader().await?);
    let alone = writes(system, options, "put, 64 clients alone").await?;
    let others = tokio::time::timeout(OPEN_LIMIT, annoy(leader)).await.context("open all connections")??;
    let mut beside = writes(system, options, "put, 64 clients beside hostile ones").await?;
    drop(others);
    if let (Some(before), Some(after)) = (alone.figure(Figure::P99Ms), beside.figure(Figure::P99Ms)) {
        beside.figures.push((Figure::P99Growth, after / before));
    }
    Ok(vec![alone, beside])
}

async fn writes(system: &System, options: &Options, case: &str) -> Result<Run> {
    let clients = system.clients(WRITERS, Target::Leader).await?;
    let window = Window::after(options.warmup(), options.measured());
    let work = Requests { mix: Mix::Put, value: Bytes::copy_from_slice(value().as_bytes()) };
    let (tally, spent) = tokio::try_join!(drive(clients, window, work), spent(system, window))?;
    Ok(run(case.to_owned(), system, window, tally, &spent))
}

/// Opens the connections of the others; they go on until the value is dropped.
async fn annoy(server: SocketAddr) -> Result<JoinSet<()>> {
    let mut others = JoinSet::new();
    for _ in 0..SILENT {
        let stream = TcpStream::connect(server).await?;
        others.spawn(stay_silent(server, stream));
    }
    for _ in 0..SLOW {
        others.spawn(send_slowly(server));
    }
    for number in 0..RUDE {
        others.spawn(send_rubbish(server, number));
    }
    Ok(others)
}

/// Keeps a connection open without a word, and opens another when the server has had enough.
async fn stay_silent(server: SocketAddr, mut stream: TcpStream) {
    loop {
        wait_closed(&mut stream).await;
        match TcpStream::connect(server).await {
            Ok(another) => stream = another,
            Err(_) => return,
        }
    }
}

async fn send_slowly(server: SocketAddr) {
    loop {
        let Ok(mut stream) = TcpStream::connect(server).await else { return };
        for byte in SLOW_HEAD {
            if stream.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(SLOW_PAUSE).await;
        }
    }
}

async fn send_rubbish(server: SocketAddr, mut number: usize) {
    loop {
        let Ok(mut stream) = TcpStream::connect(server).await else { return };
        // What becomes of it is the server's business.
        let _ = stream.write_all(RUBBISH[number % RUBBISH.len()]).await;
        let _ = tokio::time::timeout(SLOW_PAUSE, wait_closed(&mut stream)).await;
        number += 1;
        tokio::time::sleep(RUDE_PAUSE).await;
    }
}

async fn wait_closed(stream: &mut TcpStream) {
    let mut taken = [0; 512];
    while stream.read(&mut taken).await.is_ok_and(|bytes| bytes != 0) {}
}
