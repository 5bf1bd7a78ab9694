//! A TCP proxy that can be cut like a network: nothing passes any more, and no connection is closed.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A proxy in front of one address.
#[derive(Debug)]
pub(super) struct Proxy {
    address: SocketAddr,
    cut: watch::Sender<bool>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Passes everything on to `target` until it is cut.
    pub(super) async fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen for the proxy")?;
        let address = listener.local_addr()?;
        let cut = watch::Sender::new(false);
        let state = cut.subscribe();
        let accepting = tokio::spawn(async move {
            // Dropped with this task, and with them their connections.
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(connection(client, target, state.clone()));
            }
        });
        Ok(Self { address, cut, accepting })
    }

    /// Its address, as an endpoint.
    pub(super) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From here on nothing passes. Connections stay open, and further ones are accepted and lead nowhere.
    pub(super) fn cut(&self) {
        self.cut.send_replace(true);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn connection(client: TcpStream, target: SocketAddr, cut: watch::Receiver<bool>) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::join!(pass(from_client, to_server, cut.clone()), pass(from_server, to_client, cut));
}

/// Passes bytes on in one direction until one side closes. When the network is cut, never ends.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut cut: watch::Receiver<bool>) {
    let mut bytes = vec![0; 16 << 10];
    loop {
        let read = tokio::select! {
            biased;
            // The guard of the state must not outlive the look: this task moves between threads.
            () = async { drop(cut.wait_for(|cut| *cut).await) } => None,
            read = from.read(&mut bytes) => Some(read),
        };
        let Some(read) = read else { return std::future::pending().await };
        match read {
            Ok(0) | Err(_) => break,
            Ok(count) => {
                if to.write_all(&bytes[..count]).await.is_err() {
                    break;
                }
            }
        }
    }
    // The other side has gone away; it may have done so before this.
    let _ = to.shutdown().await;
}
