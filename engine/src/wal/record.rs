//! The records inside a batch: `varint length, u8 type, body`.
//!
//! The length covers type and body. A type with the top bit set may be skipped by a reader that does not
//! know it; any other unknown type makes the batch unreadable, because what it said is needed.

use alloc::vec::Vec;

use bytes::{Buf, Bytes};
use prost::encoding::{decode_varint, encode_varint, encoded_len_varint};

use crate::convert::{to_u64, to_usize};
use crate::raft::{Entry, EntryKind, Index, Term};

/// A record as read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The next entry of the Raft log. It replaces what the log held at its index and above.
    Entry(Entry),
    /// The log restarts behind a snapshot that replaced the whole state.
    Restart {
        /// Last index that the snapshot covers.
        index: Index,
        /// Its term.
        term: Term,
    },
}

const ENTRY: u8 = 1;
const RESTART: u8 = 2;
const SKIPPABLE: u8 = 0x80;

/// Why a payload with a correct checksum could not be read: it was written by other code, or by a mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A length or number runs over the end.
    Truncated,
    /// A record type that this code does not know and must not skip.
    UnknownType(u8),
    /// An entry kind that this code does not know.
    UnknownKind(u8),
    /// The checksum of an entry's data does not match, although that of the batch did.
    EntryChecksum(Index),
}

/// Bytes that [`encode_entry`] will append.
pub fn entry_bytes(entry: &Entry) -> usize {
    let body = entry_body_bytes(entry);
    encoded_len_varint(to_u64(body)) + body
}

fn entry_body_bytes(entry: &Entry) -> usize {
    // type, term, kind, checksum, data
    1 + encoded_len_varint(entry.term.0) + 1 + 4 + entry.data.len()
}

/// Appends an entry. Its index is not written: the batch header counts.
pub fn encode_entry(entry: &Entry, out: &mut Vec<u8>) {
    encode_varint(to_u64(entry_body_bytes(entry)), out);
    out.push(ENTRY);
    encode_varint(entry.term.0, out);
    out.push(entry.kind.to_byte());
    out.extend_from_slice(&entry.crc.to_le_bytes());
    out.extend_from_slice(&entry.data);
}

/// Appends a [`Record::Restart`].
pub fn encode_restart(index: Index, term: Term, out: &mut Vec<u8>) {
    out.push(17);
    out.push(RESTART);
    out.extend_from_slice(&index.0.to_le_bytes());
    out.extend_from_slice(&term.0.to_le_bytes());
}

/// Reads all records of a payload; the first entry has index `first`. Entries share the payload's memory.
///
/// # Errors
/// If the payload is not a sequence of known records.
pub fn decode(mut payload: Bytes, first: Index) -> Result<Vec<Record>, Malformed> {
    let mut records = Vec::new();
    let mut index = first;
    while payload.has_remaining() {
        let length = decode_varint(&mut payload).map_err(|_| Malformed::Truncated)?;
        if length == 0 || length > to_u64(payload.len()) {
            return Err(Malformed::Truncated);
        }
        let mut body = payload.split_to(to_usize(length));
        match body.get_u8() {
            ENTRY => {
                records.push(Record::Entry(decode_entry(body, index)?));
                index = index.next();
            }
            RESTART if body.len() == 16 => records.push(Record::Restart {
                index: Index(body.get_u64_le()),
                term: Term(body.get_u64_le()),
            }),
            RESTART => return Err(Malformed::Truncated),
            skipped if skipped & SKIPPABLE != 0 => {}
            unknown => return Err(Malformed::UnknownType(unknown)),
        }
    }
    Ok(records)
}

fn decode_entry(mut body: Bytes, index: Index) -> Result<Entry, Malformed> {
    let term = Term(decode_varint(&mut body).map_err(|_| Malformed::Truncated)?);
    if body.len() < 5 {
        return Err(Malformed::Truncated);
    }
    let kind = body.get_u8();
    let kind = EntryKind::from_byte(kind).ok_or(Malformed::UnknownKind(kind))?;
    let crc = body.get_u32_le();
    let entry = Entry { index, term, kind, crc, data: body };
    if entry.crc != Entry::checksum(kind, &entry.data) {
        return Err(Malformed::EntryChecksum(index));
    }
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, data: &'static [u8]) -> Entry {
        Entry::new(Index(index), Term(3), EntryKind::Command, Bytes::from_static(data))
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        let mut out = Vec::new();
        encode_entry(&entry(5, b"five"), &mut out);
        assert_eq!(out.len(), entry_bytes(&entry(5, b"five")));
        encode_restart(Index(40), Term(2), &mut out);
        encode_entry(&entry(6, b""), &mut out);
        assert_eq!(
            decode(Bytes::from(out), Index(5)),
            Ok(alloc::vec![
                Record::Entry(entry(5, b"five")),
                Record::Restart { index: Index(40), term: Term(2) },
                Record::Entry(entry(6, b"")),
            ])
        );
    }

    #[test]
    fn an_unknown_record_is_skipped_only_if_it_says_so() {
        assert_eq!(decode(Bytes::from_static(&[2, 0x85, 1]), Index(1)), Ok(Vec::new()));
        assert_eq!(
            decode(Bytes::from_static(&[2, 0x05, 1]), Index(1)),
            Err(Malformed::UnknownType(5))
        );
    }

    #[test]
    fn a_length_beyond_the_end_is_refused() {
        for payload in [&[0u8][..], &[5, ENTRY], &[0x80], &[2, ENTRY, 3], &[3, RESTART, 0, 0]] {
            assert_eq!(
                decode(Bytes::copy_from_slice(payload), Index(1)),
                Err(Malformed::Truncated)
            );
        }
    }

    #[test]
    fn a_changed_byte_of_an_entry_is_noticed_without_the_batch_checksum() {
        let mut out = Vec::new();
        encode_entry(&entry(5, b"five"), &mut out);
        let last = out.len() - 1;
        out[last] ^= 1;
        assert_eq!(decode(Bytes::from(out), Index(5)), Err(Malformed::EntryChecksum(Index(5))));
    }
}
