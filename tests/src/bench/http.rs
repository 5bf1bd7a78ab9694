//! One HTTP/1.1 connection that is kept open: the least that a client of the REST API needs.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

/// A connection to one node. A request that fails closes it; the next one opens another.
#[derive(Debug)]
pub(super) struct Connection {
    address: SocketAddr,
    host: http::HeaderValue,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    sender: SendRequest<Full<Bytes>>,
    _task: AbortOnDropHandle<()>,
}

impl Connection {
    /// A connection that is opened by its first request.
    pub(super) fn new(address: SocketAddr) -> Result<Self> {
        let host = http::HeaderValue::from_str(&address.to_string())?;
        Ok(Self { address, host, open: None })
    }

    /// Sends a request and reads the whole answer.
    pub(super) async fn call(
        &mut self,
        method: Method,
        path: &str,
        json: bool,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes)> {
        let answer = self.send(method, path, json, body).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await;
        if body.is_err() {
            self.open = None;
        }
        Ok((status, body.context("read the answer")?.to_bytes()))
    }

    /// Sends a request and leaves the body of the answer to be read.
    pub(super) async fn send(
        &mut self,
        method: Method,
        path: &str,
        json: bool,
        body: Bytes,
    ) -> Result<Response<Incoming>> {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, self.host.clone());
        if json {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(body))?;
        let open = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(connect(self.address).await?),
        };
        let answer = async {
            open.sender.ready().await?;
            open.sender.send_request(request).await
        };
        let answer = answer.await;
        if answer.is_err() {
            self.open = None;
        }
        answer.with_context(|| format!("send a request to {}", self.address))
    }
}

async fn connect(address: SocketAddr) -> Result<Open> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("connect to {address}"))?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // How a connection ends is told to whoever waits for an answer on it.
    let task = tokio::spawn(async { drop(connection.await) });
    Ok(Open { sender, _task: AbortOnDropHandle::new(task) })
}
