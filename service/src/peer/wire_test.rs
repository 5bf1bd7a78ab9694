//! Golden bytes of everything on a peer connection, and what damage does to it. A difference here is a new
//! protocol version.

use crate::peer::frame::{FrameError, FrameReader, FrameType, FrameWriter};
use crate::peer::handshake::{self, VERSIONS};
use crate::peer::test_support::{hello, id};
use crate::peer::transfer::{Begin, FileSpec};
use crate::peer::{Channel, Hello, Refusal};
use bytes::Bytes;
use std::fmt::Write;
use std::time::Duration;

async fn encoded(kind: FrameType, id: u64, prefix: &[u8], payload: &[u8]) -> Vec<u8> {
    let (near, mut far) = tokio::io::duplex(64 << 10);
    let mut writer = FrameWriter::new(near, Duration::from_secs(5));
    writer.write(kind, id, prefix, payload).await.unwrap();
    writer.finish().await.unwrap();
    let mut bytes = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut far, &mut bytes).await.unwrap();
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

async fn check(kind: FrameType, id: u64, prefix: &[u8], payload: &[u8], golden: &str) {
    let bytes = encoded(kind, id, prefix, payload).await;
    assert_eq!(hex(&bytes), golden.replace([' ', '\n'], ""), "{kind:?}");
    let frame = FrameReader::new(&bytes[..]).next().await.unwrap();
    assert_eq!((frame.kind, frame.id), (kind, id));
    assert_eq!(frame.payload, [prefix, payload].concat());
}

#[tokio::test]
async fn calls_have_golden_bytes() {
    check(
        FrameType::Request,
        0x0102_0304_0506_0708,
        &[7],
        b"abc",
        "00000012 0104 0102030405060708 7890a09c 07616263",
    )
    .await;
    check(FrameType::Response, 9, &[], b"", "0000000e 0105 0000000000000009 3e504dba").await;
}

#[tokio::test]
async fn handshakes_have_golden_bytes() {
    let hello = hello(id(0x1111), id(0x2222), Channel::Control);
    let golden = "00000037 0101 0000000000000000 539fb651 48465052 01 01 0000000000001111 0000000000002222 02
        0009 636c75737465722d61 0005 302e312e30";
    check(FrameType::Hello, 0, &[], &hello.encode(&VERSIONS), golden).await;
    check(FrameType::HelloAck, 0, &[], &[1], "0000000f 0102 0000000000000000 bd63da88 01").await;
    let refusals = [
        (
            Refusal::WrongNode { actual: id(0x3333) },
            "00000017 0103 0000000000000000 b2670398 010000000000003333",
        ),
        (
            Refusal::WrongCluster { actual: "cluster-b".to_owned() },
            "0000001a 0103 0000000000000000 fbd095a5 020009636c75737465722d62",
        ),
        (Refusal::UnsupportedVersion { min: 2, max: 3 }, "00000011 0103 0000000000000000 61b948a6 030203"),
        (Refusal::Removed, "0000000f 0103 0000000000000000 43c4b531 04"),
        (Refusal::NotAccepting, "0000000f 0103 0000000000000000 b1af3632 05"),
        (Refusal::Busy, "0000000f 0103 0000000000000000 a2ffc5c6 06"),
    ];
    for (refusal, golden) in refusals {
        check(FrameType::HelloRefused, 0, &[], &refusal.encode(), golden).await;
        assert_eq!(Refusal::decode(refusal.encode()).unwrap(), refusal);
    }
}

#[tokio::test]
async fn transfers_have_golden_bytes() {
    let files = vec![
        FileSpec { name: "CURRENT".to_owned(), bytes: 16 },
        FileSpec { name: "000007.sst".to_owned(), bytes: 1 << 32 },
    ];
    let begin = Begin { header: Bytes::from_static(b"meta"), files };
    let golden = "0000003f 0106 0000000000000000 0721f25c 00000004 6d657461 00000002
        0007 43555252454e54 0000000000000010 000a 3030303030372e737374 0000000100000000";
    check(FrameType::TransferBegin, 0, &[], &begin.encode(), golden).await;
    assert_eq!(Begin::decode(begin.encode()).unwrap(), begin);
    check(FrameType::TransferReady, 0, &[], &[], "0000000e 0107 0000000000000000 ab734c17").await;
    check(
        FrameType::TransferChunk,
        0,
        &[],
        b"123456789",
        "00000017 0108 0000000000000000 2353388a 313233343536373839",
    )
    .await;
    let end = crate::peer::transfer::encode_file_end(crc32c::crc32c(b"123456789"));
    check(FrameType::TransferFileEnd, 0, &[], &end, "00000012 0109 0000000000000000 6a43078d e3069283").await;
    check(FrameType::TransferFinish, 0, &[], &[], "0000000e 010a 0000000000000000 39f1aafb").await;
    check(FrameType::TransferWorking, 0, &[], &[], "0000000e 010b 0000000000000000 cdcf7cb3").await;
    check(FrameType::TransferAnswer, 0, &[], b"ok", "00000010 010c 0000000000000000 159d1311 6f6b").await;
    check(
        FrameType::TransferFailed,
        0,
        &[],
        &crate::peer::transfer::encode_failure("full"),
        "00000014 010d 0000000000000000 5ca4343a 000466756c6c",
    )
    .await;
}

#[tokio::test]
async fn every_flipped_bit_of_a_frame_is_noticed() {
    let bytes = encoded(FrameType::Request, 77, &[3], b"a lock was granted").await;
    for position in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[position] ^= 1 << bit;
            let read = FrameReader::new(&damaged[..]).next().await;
            assert!(read.is_err(), "bit {bit} of byte {position} went unnoticed: {read:?}");
        }
    }
}

#[tokio::test]
async fn a_stream_cut_anywhere_inside_a_frame_is_truncated() {
    let bytes = encoded(FrameType::Response, 1, &[], b"answer").await;
    for end in 1..bytes.len() {
        let read = FrameReader::new(&bytes[..end]).next().await;
        assert!(matches!(read, Err(FrameError::Truncated)), "cut at {end}: {read:?}");
    }
    assert!(matches!(FrameReader::new(&bytes[..0]).next().await, Err(FrameError::Closed)));
}

#[tokio::test]
async fn a_newer_version_is_refused_by_name_before_its_checksum() {
    let mut bytes = encoded(FrameType::Request, 1, &[1], b"x").await;
    bytes[4] = 2;
    let error = FrameReader::new(&bytes[..]).next().await.unwrap_err();
    assert_eq!(error.to_string(), "peer protocol version 2 is newer than 1, the newest this node speaks");
    bytes[4] = 0;
    let error = FrameReader::new(&bytes[..]).next().await.unwrap_err();
    assert!(matches!(error, FrameError::NoSuchVersion { version: 0 }), "{error}");
}

#[tokio::test]
async fn an_intact_frame_of_an_unknown_type_is_refused() {
    let mut bytes = encoded(FrameType::Request, 1, &[], b"x").await;
    bytes[5] = 200;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..14]), &bytes[18..]);
    bytes[14..18].copy_from_slice(&crc.to_be_bytes());
    let read = FrameReader::new(&bytes[..]).next().await;
    assert!(matches!(read, Err(FrameError::NoSuchType { code: 200 })), "{read:?}");
}

#[tokio::test]
async fn absurd_lengths_are_refused_from_the_first_four_bytes() {
    let too_long = FrameReader::new(&[0xff; 4][..]).next().await;
    assert!(matches!(too_long, Err(FrameError::TooLong { .. })), "{too_long:?}");
    let too_short = FrameReader::new(&[0, 0, 0, 13][..]).next().await;
    assert!(matches!(too_short, Err(FrameError::TooShort { bytes: 13 })), "{too_short:?}");
}

#[tokio::test]
async fn a_hello_reads_back_and_later_additions_are_ignored() {
    let said = hello(id(1), id(2), Channel::Snapshot);
    let longer = [&said.encode(&VERSIONS)[..], b"later fields"].concat();
    assert_eq!(heard(&longer).await.unwrap().unwrap(), said);
}

#[tokio::test]
async fn a_hello_without_a_common_version_is_refused_in_words() {
    let newer = hello(id(1), id(2), Channel::Append).encode(&(2..=5));
    assert_eq!(heard(&newer).await.unwrap(), Err(Refusal::UnsupportedVersion { min: 1, max: 1 }));
    let wider = hello(id(1), id(2), Channel::Append).encode(&(1..=5));
    assert!(heard(&wider).await.unwrap().is_ok());
}

#[tokio::test]
async fn a_hello_cut_anywhere_does_not_read() {
    let whole = hello(id(1), id(2), Channel::Append).encode(&VERSIONS);
    for end in 0..whole.len() {
        assert!(heard(&whole[..end]).await.is_err(), "cut at {end}");
    }
}

async fn heard(payload: &[u8]) -> Result<Result<Hello, Refusal>, FrameError> {
    let (near, far) = tokio::io::duplex(64 << 10);
    let mut dialer = crate::peer::frame::Link::new(near, Duration::from_secs(5));
    dialer.writer.write(FrameType::Hello, 0, &[], payload).await.unwrap();
    dialer.writer.flush().await.unwrap();
    handshake::read_hello(&mut crate::peer::frame::Link::new(far, Duration::from_secs(5))).await
}
