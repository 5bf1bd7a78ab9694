//! The sender of files.

use crate::peer::frame::{FrameError, FrameReader, FrameType, FrameWriter, Link};
use crate::peer::limits::{CHUNK_BYTES, FAILURE_LINGER};
use crate::peer::transfer::{Begin, FileSpec, TransferError, decode_failure, encode_file_end};
use bytes::{Bytes, BytesMut};
use std::path::PathBuf;
use std::time::Duration;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

/// A file to send, with the size that is announced.
#[derive(Debug)]
pub(in crate::peer) struct SourceFile {
    spec: FileSpec,
    path: PathBuf,
}

/// Takes the sizes of files (name there, path here).
///
/// # Errors
/// `ReadFile` for a file that is not there.
pub(in crate::peer) async fn measure(
    files: Vec<(String, PathBuf)>,
) -> Result<Vec<SourceFile>, TransferError> {
    let mut measured = Vec::with_capacity(files.len());
    for (name, path) in files {
        match tokio::fs::metadata(&path).await {
            Ok(metadata) => {
                measured.push(SourceFile { spec: FileSpec { name, bytes: metadata.len() }, path });
            }
            Err(cause) => return Err(TransferError::ReadFile { name, cause }),
        }
    }
    Ok(measured)
}

/// Sends `files` over a fresh link and waits for the receiver's answer. `idle_max` is how long nothing may
/// move.
///
/// # Errors
/// See [`TransferError`].
pub(in crate::peer) async fn send<S>(
    mut link: Link<S>,
    header: &Bytes,
    files: &[SourceFile],
    idle_max: Duration,
) -> Result<Bytes, TransferError>
where
    S: AsyncRead + AsyncWrite,
{
    let specs = files.iter().map(|file| file.spec.clone()).collect();
    let begin = Begin { header: header.clone(), files: specs };
    begin.check()?;
    link.writer.write(FrameType::TransferBegin, 0, &[], &begin.encode()).await?;
    link.writer.flush().await?;
    if let Heard::Answer(_) = hear_within(&mut link.reader, idle_max).await? {
        return Err(FrameError::Unexpected { kind: FrameType::TransferAnswer.code() }.into());
    }
    // The receiver may give up while files are on the way: listen meanwhile, without a limit, because it has
    // nothing to say.
    let written = tokio::select! {
        written = write_files(&mut link.writer, files) => written,
        heard = hear(&mut link.reader) => return unexpected_while_writing(heard?),
    };
    match written {
        Ok(()) => {}
        // The receiver's reason, if it is on its way, says more than a broken connection.
        Err(TransferError::Broken(error)) => {
            let reason = tokio::time::timeout(FAILURE_LINGER, hear(&mut link.reader)).await;
            return match reason {
                Ok(Err(TransferError::Refused(why))) => Err(TransferError::Refused(why)),
                Ok(_) | Err(_) => Err(error.into()),
            };
        }
        Err(error) => return Err(error),
    }
    match hear_within(&mut link.reader, idle_max).await? {
        Heard::Answer(answer) => Ok(answer),
        Heard::Ready => Err(FrameError::Unexpected { kind: FrameType::TransferReady.code() }.into()),
    }
}

fn unexpected_while_writing(heard: Heard) -> Result<Bytes, TransferError> {
    let kind = match heard {
        Heard::Ready => FrameType::TransferReady,
        Heard::Answer(_) => FrameType::TransferAnswer,
    };
    Err(FrameError::Unexpected { kind: kind.code() }.into())
}

async fn write_files<W: AsyncWrite + Unpin>(
    writer: &mut FrameWriter<W>,
    files: &[SourceFile],
) -> Result<(), TransferError> {
    let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
    for file in files {
        write_file(writer, file, &mut chunk).await?;
    }
    writer.write(FrameType::TransferFinish, 0, &[], &[]).await?;
    writer.flush().await?;
    Ok(())
}

async fn write_file<W: AsyncWrite + Unpin>(
    writer: &mut FrameWriter<W>,
    source: &SourceFile,
    chunk: &mut BytesMut,
) -> Result<(), TransferError> {
    let name = &source.spec.name;
    let failed = |cause| TransferError::ReadFile { name: name.clone(), cause };
    // What was appended since the announcement is not part of the transfer.
    let mut file = File::open(&source.path).await.map_err(failed)?.take(source.spec.bytes);
    let mut crc = 0;
    while 0 < file.limit() {
        chunk.clear();
        let whole = CHUNK_BYTES.min(usize::try_from(file.limit()).unwrap_or(usize::MAX));
        while chunk.len() < whole {
            let mut rest = (&mut file).take((whole - chunk.len()) as u64);
            if rest.read_buf(chunk).await.map_err(failed)? == 0 {
                return Err(TransferError::FileShrank { name: name.clone() });
            }
        }
        crc = crc32c::crc32c_append(crc, chunk);
        writer.write(FrameType::TransferChunk, 0, &[], chunk).await?;
    }
    writer.write(FrameType::TransferFileEnd, 0, &[], &encode_file_end(crc)).await?;
    Ok(())
}

/// What a receiver says, apart from failures and signs of life.
enum Heard {
    Ready,
    Answer(Bytes),
}

/// Waits for the receiver's word, with `idle_max` between its signs of life.
async fn hear_within<R: AsyncRead + Unpin>(
    reader: &mut FrameReader<R>,
    idle_max: Duration,
) -> Result<Heard, TransferError> {
    loop {
        let heard = tokio::time::timeout(idle_max, hear_any(reader)).await;
        if let Some(heard) = heard.map_err(|_| FrameError::Silent { after: idle_max })?? {
            return Ok(heard);
        }
    }
}

async fn hear<R: AsyncRead + Unpin>(reader: &mut FrameReader<R>) -> Result<Heard, TransferError> {
    loop {
        if let Some(heard) = hear_any(reader).await? {
            return Ok(heard);
        }
    }
}

/// One frame; nothing for a sign of life.
async fn hear_any<R: AsyncRead + Unpin>(reader: &mut FrameReader<R>) -> Result<Option<Heard>, TransferError> {
    let frame = reader.next().await?;
    match frame.kind {
        FrameType::TransferWorking => Ok(None),
        FrameType::TransferReady => Ok(Some(Heard::Ready)),
        FrameType::TransferAnswer => Ok(Some(Heard::Answer(frame.payload))),
        FrameType::TransferFailed => Err(TransferError::Refused(decode_failure(frame.payload)?)),
        FrameType::Hello
        | FrameType::HelloAck
        | FrameType::HelloRefused
        | FrameType::Request
        | FrameType::Response
        | FrameType::TransferBegin
        | FrameType::TransferChunk
        | FrameType::TransferFileEnd
        | FrameType::TransferFinish => Err(FrameError::Unexpected { kind: frame.kind.code() }.into()),
    }
}
