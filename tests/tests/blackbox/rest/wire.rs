//! HTTP/1.1 as bytes: a request goes out exactly as it is written here, a client library would correct it.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// No request of these tests may take longer, waits included: then it hangs.
const HANG_LIMIT: Duration = Duration::from_secs(30);

/// A request in the making.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Option<Vec<u8>>,
}

/// A request with this method and target, both sent as they are.
pub(crate) fn ask(method: &str, target: impl Into<String>) -> Ask {
    Ask { method: method.to_owned(), target: target.into(), headers: Vec::new(), body: None }
}

impl Ask {
    /// Adds a header line, also a second one of the same name.
    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Sets the body without saying what it is.
    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Sets a body that says it is JSON, whatever it is.
    pub(crate) fn json_text(self, text: impl Into<Vec<u8>>) -> Self {
        self.header("Content-Type", "application/json").body(text)
    }

    /// Sets a JSON body.
    pub(crate) fn json(self, value: &Value) -> Self {
        self.json_text(value.to_string())
    }

    /// The head, up to and with the empty line.
    pub(crate) fn head(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        let names_host = self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
        if !names_host {
            head.push_str("Host: holdfast.test\r\n");
        }
        head.push_str("Connection: close\r\n");
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let framed = self.headers.iter().any(|(name, _)| {
            name.eq_ignore_ascii_case("content-length") || name.eq_ignore_ascii_case("transfer-encoding")
        });
        if let (Some(body), false) = (&self.body, framed) {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    /// The whole request.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// The header's value, if it is there; fails when it is there twice.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} is there twice: {self:?}");
        value
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub(crate) fn value(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.shown()))
    }

    /// The `Revision` header.
    pub(crate) fn revision(&self) -> u64 {
        let text = self.header("Revision").unwrap_or_else(|| panic!("no Revision in {}", self.shown()));
        text.parse().unwrap_or_else(|_| panic!("Revision {text:?}"))
    }

    /// The revision in the entity tag.
    pub(crate) fn etag(&self) -> u64 {
        let tag = self.header("ETag").unwrap_or_else(|| panic!("no ETag in {}", self.shown()));
        let digits = tag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        digits.and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("ETag {tag:?}"))
    }

    /// Fails unless the status is this one.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.shown());
        self
    }

    /// The body of a refusal: a problem document of this status and code that says that nothing was applied.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{code} expected: {}", self.shown());
        assert_eq!(self.header("Content-Type"), Some("application/problem+json"), "{}", self.shown());
        let problem = self.value();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["type"], format!("/errors/{code}"), "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        assert_eq!(problem["applied"], "no", "{problem}");
        assert!(problem["retryable"].is_boolean(), "{problem}");
        for member in ["title", "detail"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {problem}");
        }
        problem
    }

    /// Status, headers and the beginning of the body, for a message.
    pub(crate) fn shown(&self) -> String {
        let body: String = self.text().chars().take(600).collect();
        format!("{} {:?} {body}", self.status, self.headers)
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoReply {
    /// The connection was closed without a whole answer.
    #[error("closed after {0:?}")]
    Closed(String),
    /// Nothing came in time.
    #[error("no answer within {HANG_LIMIT:?}")]
    Hangs,
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Connects.
pub(crate) async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap_or_else(|error| panic!("connect to {address}: {error}"))
}

/// Sends bytes on a connection of their own and reads one answer.
pub(crate) async fn exchange(address: SocketAddr, bytes: &[u8]) -> Result<Reply, NoReply> {
    let mut stream = TcpStream::connect(address).await?;
    // A server that refuses early may close its side while we still write: the answer counts, not the write.
    let _ = tokio::time::timeout(HANG_LIMIT, stream.write_all(bytes)).await.map_err(|_| NoReply::Hangs)?;
    read_reply(&mut stream).await
}

/// Reads one final answer; interim ones (1xx) are skipped.
pub(crate) async fn read_reply(stream: &mut TcpStream) -> Result<Reply, NoReply> {
    tokio::time::timeout(HANG_LIMIT, read_on(stream)).await.unwrap_or(Err(NoReply::Hangs))
}

async fn read_on(stream: &mut TcpStream) -> Result<Reply, NoReply> {
    let mut bytes = Vec::new();
    loop {
        while let Some((reply, length, used)) = parse_head(&bytes) {
            if (100..200).contains(&reply.status) {
                bytes.drain(..used);
                continue;
            }
            if used + length <= bytes.len() {
                return Ok(Reply { body: bytes[used..used + length].to_vec(), ..reply });
            }
            break;
        }
        let read = stream.read_buf(&mut bytes).await;
        match read {
            Ok(0) | Err(_) => return Err(NoReply::Closed(String::from_utf8_lossy(&bytes).into_owned())),
            Ok(_) => {}
        }
    }
}

/// The head of an answer, the length of its body and where that begins.
fn parse_head(bytes: &[u8]) -> Option<(Reply, usize, usize)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).unwrap_or_else(|_| panic!("a head that is not text"));
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first.split(' ').nth(1).and_then(|text| text.parse().ok());
    let status = status.unwrap_or_else(|| panic!("not a status line: {first:?}"));
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(':').unwrap_or_else(|| panic!("not a header: {line:?}")))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let reply = Reply { status, headers, body: Vec::new() };
    assert_eq!(reply.header("Transfer-Encoding"), None, "answers have a length");
    let bodiless = status < 200 || status == 204 || status == 304;
    let length = reply.header("Content-Length").map_or(0, |text| text.parse().expect("a length"));
    Some((reply, if bodiless { 0 } else { length }, end + 4))
}
