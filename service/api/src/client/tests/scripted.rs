//! An HTTP/1.1 server that does, request after request, what a script says, and remembers what it was sent.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};

use crate::client::tests::PATIENCE;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::{oneshot, watch},
    task::{JoinHandle, JoinSet},
};

/// What the server does with one request, after it has read it whole.
pub(super) enum Step {
    Answer(Response),
    /// Answers when the other end of the channel is told to.
    AnswerWhen(oneshot::Receiver<()>, Response),
    /// Closes the connection without an answer.
    Close,
    /// Never answers.
    Hang,
    /// Answers with a stream of events.
    Stream(Vec<Piece>, StreamEnd),
}

/// A part of a stream, sent by itself.
pub(super) enum Piece {
    Bytes(Vec<u8>),
    /// Waits until the other end of the channel is told.
    Wait(oneshot::Receiver<()>),
}

impl Piece {
    pub(super) fn text(text: impl Into<Vec<u8>>) -> Self {
        Self::Bytes(text.into())
    }
}

/// What comes after the last piece of a stream.
#[derive(Clone, Copy)]
pub(super) enum StreamEnd {
    /// The end of the body.
    Finish,
    /// The connection is closed within the body.
    Break,
    /// Nothing more, until the client closes the connection.
    Stay,
}

#[derive(Clone)]
pub(super) struct Response {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Response {
    pub(super) fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    fn encode(&self) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} Scripted\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !matches!(self.status, 204 | 304) {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// A request as it came in. Header names are in lower case; `host` is left out, because it names the endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
    pub(super) connection: usize,
}

impl Seen {
    pub(super) fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Everything but the connection that it came by.
    pub(super) fn content(&self) -> (String, &BTreeMap<String, String>, &[u8]) {
        (self.line(), &self.headers, &self.body)
    }
}

pub(super) struct Server {
    address: String,
    seen: watch::Sender<Vec<Seen>>,
    /// How many streams that stay were closed by the client.
    left: watch::Sender<usize>,
    task: JoinHandle<()>,
}

impl Server {
    /// Listens on a free port. A request beyond the script is closed without an answer, and is seen.
    pub(super) async fn start(script: impl IntoIterator<Item = Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let script = Arc::new(Mutex::new(script.into_iter().collect::<VecDeque<_>>()));
        let (seen, left) = (watch::Sender::new(Vec::new()), watch::Sender::new(0));
        let task = tokio::spawn(accept(listener, script, seen.clone(), left.clone()));
        Self { address, seen, left, task }
    }

    pub(super) fn address(&self) -> String {
        self.address.clone()
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.seen().iter().map(Seen::line).collect()
    }

    /// Waits until so many requests have come in.
    pub(super) async fn wait_for(&self, count: usize) -> Vec<Seen> {
        let mut seen = self.seen.subscribe();
        let enough = seen.wait_for(|seen| count <= seen.len());
        let waited = tokio::time::timeout(PATIENCE, enough).await;
        waited
            .unwrap_or_else(|_| panic!("{count} requests expected, seen: {:?}", self.lines()))
            .unwrap()
            .clone()
    }

    /// Waits until the client has closed so many streams that stay.
    pub(super) async fn wait_until_left(&self, count: usize) {
        let mut left = self.left.subscribe();
        let waited = tokio::time::timeout(PATIENCE, left.wait_for(|left| count <= *left)).await;
        waited.unwrap_or_else(|_| panic!("the client must close its stream")).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    script: Arc<Mutex<VecDeque<Step>>>,
    seen: watch::Sender<Vec<Seen>>,
    left: watch::Sender<usize>,
) {
    let mut connections = JoinSet::new();
    for number in 0.. {
        let (stream, _) = listener.accept().await.unwrap();
        connections.spawn(serve(stream, number, Arc::clone(&script), seen.clone(), left.clone()));
    }
}

async fn serve(
    stream: TcpStream,
    connection: usize,
    script: Arc<Mutex<VecDeque<Step>>>,
    seen: watch::Sender<Vec<Seen>>,
    left: watch::Sender<usize>,
) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream, connection).await {
        // The step is taken before the request is shown, so that what a test does next cannot change it.
        let step = script.lock().unwrap().pop_front();
        seen.send_modify(|seen| seen.push(request));
        let response = match step {
            Some(Step::Answer(response)) => response,
            Some(Step::AnswerWhen(told, response)) => {
                told.await.unwrap();
                response
            }
            Some(Step::Hang) => std::future::pending().await,
            Some(Step::Stream(pieces, end)) => {
                if send_stream(&mut stream, pieces, end).await.is_none() {
                    return;
                }
                match end {
                    StreamEnd::Finish => continue,
                    StreamEnd::Break => return,
                    StreamEnd::Stay => {
                        if matches!(stream.read(&mut [0]).await, Ok(0) | Err(_)) {
                            left.send_modify(|left| *left += 1);
                        }
                        return;
                    }
                }
            }
            Some(Step::Close) | None => return,
        };
        if stream.write_all(&response.encode()).await.is_err() {
            return;
        }
    }
}

/// Sends a stream; none when the client has closed the connection.
async fn send_stream(stream: &mut BufReader<TcpStream>, pieces: Vec<Piece>, end: StreamEnd) -> Option<()> {
    let head =
        "HTTP/1.1 200 Scripted\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.ok()?;
    for piece in pieces {
        match piece {
            Piece::Wait(told) => told.await.ok()?,
            Piece::Bytes(bytes) => {
                let chunk = [format!("{:x}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"].concat();
                stream.write_all(&chunk).await.ok()?;
            }
        }
    }
    if matches!(end, StreamEnd::Finish) {
        stream.write_all(b"0\r\n\r\n").await.ok()?;
    }
    Some(())
}

/// The next request, or `None` when the client has closed the connection.
async fn read_request(stream: &mut BufReader<TcpStream>, connection: usize) -> Option<Seen> {
    let line = read_line(stream).await?;
    let mut parts = line.split(' ');
    let (method, path) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let line = read_line(stream).await?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    headers.remove("host");
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Seen { method, path, headers, body, connection })
}

async fn read_line(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    let read = stream.read_line(&mut line).await.ok()?;
    (read != 0).then(|| line.trim_end().to_owned())
}
