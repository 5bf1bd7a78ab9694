//! Values of rows: sealed with a format byte and a checksum over table, key and payload, so that neither a damaged row
//! nor one that stands in a wrong place is ever taken for state.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::domain::key::KeyRange;
use crate::domain::{Fault, Row, Table, Tables};

/// The format that this build writes, and the newest that it reads.
pub(crate) const FORMAT: u8 = 1;

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
