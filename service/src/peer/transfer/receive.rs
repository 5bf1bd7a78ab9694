//! The receiver of files.

use crate::peer::frame::{Frame, FrameError, FrameReader, FrameType, FrameWriter, Link};
use crate::peer::limits::{CHUNK_BYTES, FAILURE_LINGER, TRANSFER_WORKING_EVERY};
use crate::peer::service::PeerService;
use crate::peer::transfer::{Begin, FileSpec, InvalidFiles, decode_file_end, encode_failure};
use holdfast_core::NodeId;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

/// How a transfer failed, seen by the receiver.
#[derive(Debug, thiserror::Error)]
pub(in crate::peer) enum ReceiveError {
    #[error("{0}")]
    Broken(#[from] FrameError),
    #[error("{0}")]
    InvalidFiles(#[from] InvalidFiles),
    #[error("{0}")]
    Rejected(String),
    #[error("the node is stopping, or the sender connected again")]
    Stopped,
    #[error("create the directory of the transfer: {0}")]
    CreateDir(io::Error),
    #[error("write file {name:?}: {cause}")]
    WriteFile { name: String, cause: io::Error },
    #[error("fsync the directory of the transfer: {0}")]
    SyncDir(io::Error),
    #[error("file {name:?} has more bytes than announced")]
    FileTooLong { name: String },
    #[error("file {name:?} ends {missing} bytes early")]
    FileTooShort { name: String, missing: u64 },
    #[error("file {name:?} has checksum {found:08x} and should have {expected:08x}")]
    FileChecksum { name: String, found: u32, expected: u32 },
}

/// Receives one transfer. When it fails, nothing is left and the sender was told if that was possible.
///
/// # Errors
/// See [`ReceiveError`].
pub(in crate::peer) async fn receive<P, S>(
    service: &P,
    from: NodeId,
    link: &mut Link<S>,
    idle_max: Duration,
    stop: &CancellationToken,
) -> Result<(), ReceiveError>
where
    P: PeerService,
    S: AsyncRead + AsyncWrite,
{
    let received = receive_and_install(service, from, link, idle_max, stop).await;
    if let Err(error) = &received {
        tell(link, error).await;
    }
    received
}

async fn receive_and_install<P, S>(
    service: &P,
    from: NodeId,
    link: &mut Link<S>,
    idle_max: Duration,
    stop: &CancellationToken,
) -> Result<(), ReceiveError>
where
    P: PeerService,
    S: AsyncRead + AsyncWrite,
{
    let begin = stop.run_until_cancelled(read_begin(&mut link.reader, idle_max)).await;
    let Begin { header, files } = begin.ok_or(ReceiveError::Stopped)??;
    let begun = working(&mut link.writer, service.snapshot_begin(from, &header, &files)).await;
    let dir = begun.map_err(ReceiveError::Rejected)?;
    let received = stop.run_until_cancelled(receive_files(link, &files, &dir, idle_max)).await;
    if let Err(error) = received.unwrap_or(Err(ReceiveError::Stopped)) {
        service.snapshot_abort(&dir).await;
        return Err(error);
    }
    // Not interrupted by anything: half an installation would be worse than one that nobody waits for.
    let answer = working(&mut link.writer, service.snapshot_finish(from, &header, &dir)).await;
    link.writer.write(FrameType::TransferAnswer, 0, &[], &answer).await?;
    link.writer.flush().await?;
    Ok(())
}

async fn read_begin<R: AsyncRead + Unpin>(
    reader: &mut FrameReader<R>,
    idle_max: Duration,
) -> Result<Begin, ReceiveError> {
    let frame = next(reader, idle_max).await?;
    if frame.kind != FrameType::TransferBegin {
        return Err(FrameError::Unexpected { kind: frame.kind.code() }.into());
    }
    let begin = Begin::decode(frame.payload)?;
    begin.check()?;
    Ok(begin)
}

async fn receive_files<S>(
    link: &mut Link<S>,
    files: &[FileSpec],
    dir: &Path,
    idle_max: Duration,
) -> Result<(), ReceiveError>
where
    S: AsyncRead + AsyncWrite,
{
    tokio::fs::create_dir(dir).await.map_err(ReceiveError::CreateDir)?;
    link.writer.write(FrameType::TransferReady, 0, &[], &[]).await?;
    link.writer.flush().await?;
    for spec in files {
        receive_file(&mut link.reader, spec, dir, idle_max).await?;
    }
    let frame = next(&mut link.reader, idle_max).await?;
    if frame.kind != FrameType::TransferFinish {
        return Err(FrameError::Unexpected { kind: frame.kind.code() }.into());
    }
    let opened = File::open(dir).await.map_err(ReceiveError::SyncDir)?;
    opened.sync_all().await.map_err(ReceiveError::SyncDir)
}

async fn receive_file<R: AsyncRead + Unpin>(
    reader: &mut FrameReader<R>,
    spec: &FileSpec,
    dir: &Path,
    idle_max: Duration,
) -> Result<(), ReceiveError> {
    let name = || spec.name.clone();
    let failed = |cause| ReceiveError::WriteFile { name: name(), cause };
    let mut file = File::create_new(dir.join(&spec.name)).await.map_err(failed)?;
    let mut missing = spec.bytes;
    let mut found = 0;
    loop {
        let frame = next(reader, idle_max).await?;
        if frame.kind == FrameType::TransferFileEnd {
            let expected = decode_file_end(&frame.payload)?;
            if 0 < missing {
                return Err(ReceiveError::FileTooShort { name: name(), missing });
            }
            if found != expected {
                return Err(ReceiveError::FileChecksum { name: name(), found, expected });
            }
            break;
        }
        if frame.kind != FrameType::TransferChunk
            || frame.payload.is_empty()
            || CHUNK_BYTES < frame.payload.len()
        {
            return Err(FrameError::Unexpected { kind: frame.kind.code() }.into());
        }
        missing = missing
            .checked_sub(frame.payload.len() as u64)
            .ok_or_else(|| ReceiveError::FileTooLong { name: name() })?;
        found = crc32c::crc32c_append(found, &frame.payload);
        file.write_all(&frame.payload).await.map_err(failed)?;
    }
    // The flush reports a write that failed in the background; the fsync alone would not.
    file.flush().await.map_err(failed)?;
    file.sync_all().await.map_err(failed)
}

async fn next<R: AsyncRead + Unpin>(
    reader: &mut FrameReader<R>,
    idle_max: Duration,
) -> Result<Frame, FrameError> {
    let next = tokio::time::timeout(idle_max, reader.next()).await;
    next.map_err(|_| FrameError::Silent { after: idle_max })?
}

/// Runs `work` to its end and tells the sender every few seconds that it is still running.
async fn working<W: AsyncWrite + Unpin, F: Future>(writer: &mut FrameWriter<W>, work: F) -> F::Output {
    let mut work = pin!(work);
    let mut listened_to = true;
    loop {
        let Ok(done) = tokio::time::timeout(TRANSFER_WORKING_EVERY, &mut work).await else {
            listened_to = listened_to && say_working(writer).await.is_ok();
            continue;
        };
        return done;
    }
}

async fn say_working<W: AsyncWrite + Unpin>(writer: &mut FrameWriter<W>) -> Result<(), FrameError> {
    writer.write(FrameType::TransferWorking, 0, &[], &[]).await?;
    writer.flush().await
}

/// Tells the sender why, as far as it listens, and reads until it has noticed.
async fn tell<S: AsyncRead + AsyncWrite>(link: &mut Link<S>, error: &ReceiveError) {
    let failure = encode_failure(&error.to_string());
    let told = link.writer.write(FrameType::TransferFailed, 0, &[], &failure).await;
    if told.is_ok() && link.writer.finish().await.is_ok() {
        // Whether it noticed or not, the connection closes.
        let _ = tokio::time::timeout(FAILURE_LINGER, link.reader.drain()).await;
    }
}
