//! Values of rows: sealed with a format byte and a checksum over table, key and payload, so that neither a damaged row
//! nor one that stands in a wrong place is ever taken for state.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::domain::key::KeyRange;
use crate::domain::{Fault, Row, Table, Tables};

/// The format that this build writes, and the newest that it reads.
pub const FORMAT: u8 = 1;

/// The format byte and the checksum.
const HEADER_BYTES: usize = 5;

/// The bytes of a record at its place: format, CRC-32C (little-endian), postcard payload.
pub(crate) fn seal<R: Serialize>(table: Table, key: &[u8], record: &R) -> Vec<u8> {
    let header = vec![FORMAT, 0, 0, 0, 0];
    let mut bytes = postcard::to_extend(record, header).expect("a record holds only plain data");
    let checksum = checksum(table, key, FORMAT, &bytes[HEADER_BYTES..]);
    bytes[1..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The record of these bytes, which were read at `key` of `table`.
pub(crate) fn open<R: DeserializeOwned>(table: Table, key: &[u8], bytes: &[u8]) -> Result<R, Fault> {
    let damaged = |what| Fault::damaged(table, key, what);
    let (format, rest) = bytes.split_first().ok_or_else(|| damaged("it is empty"))?;
    if FORMAT < *format {
        return Err(Fault::NewerFormat { table, found: *format, known: FORMAT });
    }
    let (stored, payload) = rest.split_first_chunk::<4>().ok_or_else(|| damaged("it is too short"))?;
    if u32::from_le_bytes(*stored) != checksum(table, key, *format, payload) {
        return Err(damaged("its checksum is wrong"));
    }
    match postcard::take_from_bytes(payload) {
        Ok((record, [])) => Ok(record),
        Ok((_, _)) => Err(damaged("bytes are left over")),
        Err(_) => Err(damaged("it does not decode")),
    }
}

fn checksum(table: Table, key: &[u8], format: u8, payload: &[u8]) -> u32 {
    let checksum = crc32c::crc32c(&[table.number()]);
    let checksum = crc32c::crc32c_append(checksum, key);
    let checksum = crc32c::crc32c_append(checksum, &[format]);
    crc32c::crc32c_append(checksum, payload)
}

/// The record at a place, if there is one.
pub(crate) fn read<R: DeserializeOwned>(
    tables: &impl Tables,
    table: Table,
    key: &[u8],
) -> Result<Option<R>, Fault> {
    tables.get(table, key)?.map(|bytes| open(table, key, &bytes)).transpose()
}

/// The first rows of a range.
pub(crate) fn rows(
    tables: &impl Tables,
    table: Table,
    range: &KeyRange,
    limit: usize,
) -> Result<Vec<Row>, Fault> {
    tables.range(table, range.from(), range.to(), limit)
}

impl Fault {
    /// A row that cannot be what was written.
    pub(crate) fn damaged(table: Table, key: &[u8], what: &'static str) -> Self {
        Self::Damaged { table, key: key.escape_ascii().to_string(), what }
    }
}

#[cfg(test)]
mod tests {
    use super::{FORMAT, open, seal};
    use crate::domain::{Fault, Table};

    const KEY: &[u8] = b"default";

    #[test]
    fn a_record_opens_where_it_was_sealed_and_nowhere_else() {
        let bytes = seal(Table::Lock, KEY, &(7_u64, "text".to_owned()));
        assert_eq!(open::<(u64, String)>(Table::Lock, KEY, &bytes).unwrap(), (7, "text".to_owned()));
        assert!(open::<(u64, String)>(Table::Claim, KEY, &bytes).is_err());
        assert!(open::<(u64, String)>(Table::Lock, b"other", &bytes).is_err());
    }

    #[test]
    fn every_single_bit_error_is_noticed() {
        let sealed = seal(Table::Lock, KEY, &(7_u64, "text".to_owned()));
        for at in 0..sealed.len() * 8 {
            let mut bytes = sealed.clone();
            bytes[at / 8] ^= 1 << (at % 8);
            assert!(open::<(u64, String)>(Table::Lock, KEY, &bytes).is_err(), "bit {at}");
        }
        for length in 0..sealed.len() {
            assert!(open::<(u64, String)>(Table::Lock, KEY, &sealed[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn damage_names_the_row() {
        let mut bytes = seal(Table::Lock, b"a\0b", &7_u64);
        *bytes.last_mut().unwrap() ^= 1;
        let fault = open::<u64>(Table::Lock, b"a\0b", &bytes).unwrap_err();
        assert_eq!(fault.to_string(), "row a\\x00b of table Lock is damaged: its checksum is wrong");
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let mut bytes = seal(Table::Lock, KEY, &7_u64);
        bytes[0] = FORMAT + 1;
        let fault = open::<u64>(Table::Lock, KEY, &bytes).unwrap_err();
        assert_eq!(fault, Fault::NewerFormat { table: Table::Lock, found: FORMAT + 1, known: FORMAT });
    }

    #[test]
    fn a_record_of_another_shape_is_damage() {
        let bytes = seal(Table::Lock, KEY, &(7_u64, 8_u64));
        let fault = open::<u64>(Table::Lock, KEY, &bytes).unwrap_err();
        assert_eq!(fault, Fault::damaged(Table::Lock, KEY, "bytes are left over"));
    }
}
