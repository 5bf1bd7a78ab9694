//! What a node does with its peers' connections, requests and files.

use crate::peer::handshake::{CallChannel, Hello, Refusal};
use crate::peer::transfer::FileSpec;
use bytes::Bytes;
use holdfast_core::NodeId;
use std::path::{Path, PathBuf};

/// The receiving half of a node. Implementations write the methods as plain `async fn`.
pub(crate) trait PeerService: Send + Sync + 'static {
    /// Decides on a new connection, before anything else from it is read. A node that waits for its cluster
    /// takes only its own id as `hello.to` and stores the cluster id durably before it returns; a removed id
    /// is refused for ever.
    fn admit(&self, hello: &Hello) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// Answers one request. What `kind` and `payload` mean is between the two services, and so is the answer
    /// to a kind that is not known. A future may be dropped when its connection ends. An answer is at most
    /// [`CALL_BYTES_MAX`](crate::peer::limits::CALL_BYTES_MAX) long.
    ///
    /// Order: the futures of one connection are polled for the first time in the order in which the peer sent
    /// the requests, on both channels; then they run concurrently. A handler keeps the order by handing its
    /// request on before or at its first `await`: to a queue without bound, or to a fair one such as tokio's
    /// channels, where the first poll takes the place in line.
    fn handle(
        &self,
        from: NodeId,
        channel: CallChannel,
        kind: u8,
        payload: Bytes,
    ) -> impl Future<Output = Bytes> + Send;

    /// Decides on a transfer and names the directory for its files. The directory must not exist, its parent
    /// must: the transport creates it. The names and sizes in `files` are checked already. The error goes to
    /// the sender as text.
    fn snapshot_begin(
        &self,
        from: NodeId,
        header: &Bytes,
        files: &[FileSpec],
    ) -> impl Future<Output = Result<PathBuf, String>> + Send;

    /// Takes over a directory that holds exactly the announced files, verified and fsynced together with the
    /// directory itself (its entry in the parent is not). The answer goes back to the sender. Runs to its end
    /// even when the connection breaks meanwhile.
    fn snapshot_finish(&self, from: NodeId, header: &Bytes, dir: &Path)
    -> impl Future<Output = Bytes> + Send;

    /// Removes what a failed transfer left, if anything. Not called when the process ends in the middle: the
    /// service also removes leftovers when it starts.
    fn snapshot_abort(&self, dir: &Path) -> impl Future<Output = ()> + Send;
}
