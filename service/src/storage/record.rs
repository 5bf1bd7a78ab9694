//! The envelope of everything we write to a disk or a wire: version byte, checksum, payload.
//!
//! ```text
//! +---------+----------------------+---------+
//! | version | CRC-32C (LE, 4 bytes)| payload |
//! +---------+----------------------+---------+
//! ```
//!
//! The checksum covers the row's key (on disk), the version and the payload: a row that is intact but lies under
//! another key is damaged too. The envelope itself never changes, so that any build can tell a newer record from a
//! damaged one.

use bytes::Bytes;

/// The bytes before the payload.
pub(crate) const HEADER_LEN: usize = 5;

/// Why a record cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordError {
    /// Written by a newer build.
    #[error("{what} format {found} is newer than {known}, the newest this build reads")]
    Newer {
        /// The kind of record.
        what: &'static str,
        /// Its version.
        found: u8,
        /// The newest version known here.
        known: u8,
    },
    /// The checksum does not match, or the payload is not what its version prescribes.
    #[error("{what}{} is damaged", At(*index))]
    Damaged {
        /// The kind of record.
        what: &'static str,
        /// The log index, for what belongs to one entry.
        index: Option<u64>,
    },
}

struct At(Option<u64>);

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(index) => write!(f, " {index}"),
            None => Ok(()),
        }
    }
}

/// A kind of record: its name for messages and the newest version this build writes and reads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    /// What a message calls it, such as "log entry".
    pub(crate) what: &'static str,
    /// From 1.
    pub(crate) version: u8,
}

impl Kind {
    /// The envelope around a payload that `write` appends. `key` is the row's key, or empty on a wire.
    pub(crate) fn seal(self, key: &[u8], write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut record = vec![0; HEADER_LEN];
        write(&mut record);
        self.seal_in_place(key, &mut record, &[]);
        record
    }

    /// Fills the envelope's header into `head`, whose first [`HEADER_LEN`] bytes are reserved for it. The record is
    /// `head` followed by the `bodies`, which are not copied.
    pub(crate) fn seal_in_place(self, key: &[u8], head: &mut [u8], bodies: &[Bytes]) {
        let mut crc = checksum_start(key, self.version);
        crc = crc32c::crc32c_append(crc, &head[HEADER_LEN..]);
        for body in bodies {
            crc = crc32c::crc32c_append(crc, body);
        }
        head[0] = self.version;
        head[1..HEADER_LEN].copy_from_slice(&crc.to_le_bytes());
    }

    /// The payload of a record, which shares the record's memory.
    ///
    /// # Errors
    /// [`RecordError::Damaged`] when the checksum does not match, [`RecordError::Newer`] when it does and the version is
    /// above this build's.
    pub(crate) fn open(self, key: &[u8], record: &Bytes) -> Result<Bytes, RecordError> {
        self.check(key, record)?;
        Ok(record.slice(HEADER_LEN..))
    }

    /// [`Self::open`] with the version, where older ones are not all alike.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn open_any(self, key: &[u8], record: &Bytes) -> Result<(u8, Bytes), RecordError> {
        let payload = self.open(key, record)?;
        Ok((record[0], payload))
    }

    /// [`Self::open`] without the payload.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn check(self, key: &[u8], record: &[u8]) -> Result<(), RecordError> {
        let Some((header, payload)) = record.split_first_chunk::<HEADER_LEN>() else {
            return Err(self.damaged(None));
        };
        let [version, stored @ ..] = *header;
        let actual = crc32c::crc32c_append(checksum_start(key, version), payload);
        if u32::from_le_bytes(stored) != actual || version == 0 {
            return Err(self.damaged(None));
        }
        if self.version < version {
            return Err(RecordError::Newer { what: self.what, found: version, known: self.version });
        }
        Ok(())
    }

    /// This kind of record, damaged.
    pub(crate) fn damaged(self, index: Option<u64>) -> RecordError {
        RecordError::Damaged { what: self.what, index }
    }
}

fn checksum_start(key: &[u8], version: u8) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), &[version])
}

#[cfg(test)]
mod tests {
    use super::{Kind, RecordError};
    use bytes::Bytes;

    const OLD: Kind = Kind { what: "log entry", version: 1 };
    const NEW: Kind = Kind { what: "log entry", version: 2 };

    fn sealed(kind: Kind) -> Bytes {
        kind.seal(b"key", |out| out.extend_from_slice(b"payload")).into()
    }

    #[test]
    fn a_newer_record_is_refused_by_name() {
        let error = OLD.open(b"key", &sealed(NEW)).unwrap_err();
        assert_eq!(error.to_string(), "log entry format 2 is newer than 1, the newest this build reads");
        assert_eq!(NEW.open(b"key", &sealed(OLD)).unwrap(), "payload");
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_damage() {
        let record = sealed(OLD);
        for bit in 0..record.len() * 8 {
            let mut flipped = record.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let damaged = RecordError::Damaged { what: "log entry", index: None };
            assert_eq!(OLD.open(b"key", &flipped.into()), Err(damaged), "bit {bit}");
        }
        for len in 0..record.len() {
            assert!(OLD.check(b"key", &record[..len]).is_err(), "cut to {len}");
        }
    }

    #[test]
    fn a_record_under_another_key_is_damage() {
        assert!(OLD.open(b"kez", &sealed(OLD)).is_err());
    }
}
