//! Records as the trees on disk hold them: docs/format.md, "The trees".
//!
//! K and D have a key's newest record without the key, and without the value if it is long; R has everything but the
//! revision, which is its key there.

use alloc::vec::Vec;

use prost::encoding::{decode_varint, encode_varint};

use super::record::{Chain, Parts};
use super::{Record, Revision};
use crate::convert::{to_u64, to_usize};
use crate::ids::LeaseId;

/// A longer value stands in R only: with it, the key's own tree would be as large as the history.
pub const VALUE_IN_KEYS_MAX: usize = 128;

/// What optional fields there are.
const LEASE: u8 = 1;
const PREV: u8 = 2;
const JUMP: u8 = 4;
const VALUE: u8 = 8;
const TOMBSTONE: u8 = 16;

/// What K and D say of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Version {
    /// All of it.
    Whole(Record),
    /// Its value is in R, under this revision.
    Elsewhere(Revision),
}

/// A revision as a key of R: twelve bytes in the order of revisions. What is before the first counts as zero.
pub fn history_key(revision: Revision) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&u64::try_from(revision.main).unwrap_or(0).to_be_bytes());
    key[8..].copy_from_slice(&revision.sub.to_be_bytes());
    key
}

/// Reads what [`history_key`] wrote; `None` if it did not write that.
pub fn revision_of(key: &[u8]) -> Option<Revision> {
    let (main, sub) = key.split_first_chunk::<8>()?;
    let main = i64::try_from(u64::from_be_bytes(*main)).ok()?;
    Some(Revision { main, sub: u32::from_be_bytes(sub.try_into().ok()?) })
}

/// Appends a record as K or D holds it.
pub fn encode_version(record: &Record, out: &mut Vec<u8>) {
    let in_place = record.value().len() <= VALUE_IN_KEYS_MAX;
    out.push(optional(record) | if in_place { VALUE } else { 0 });
    let revision = record.revision();
    encode_varint(revision.main.cast_unsigned(), out);
    encode_varint(u64::from(revision.sub), out);
    encode_numbers(record, out);
    if in_place {
        out.extend_from_slice(record.value());
    }
}

/// Reads what [`encode_version`] wrote; `None` if it did not write that.
pub fn decode_version(key: &[u8], mut cell: &[u8]) -> Option<Version> {
    let (flags, rest) = cell.split_first()?;
    cell = rest;
    let revision = Revision {
        main: i64::try_from(decode_varint(&mut cell).ok()?).ok()?,
        sub: u32::try_from(decode_varint(&mut cell).ok()?).ok()?,
    };
    let numbers = decode_numbers(*flags, revision, &mut cell)?;
    if flags & VALUE != 0 {
        return Some(Version::Whole(numbers.record(revision, key, cell)));
    }
    cell.is_empty().then_some(Version::Elsewhere(revision))
}

/// Appends a record as R holds it.
pub fn encode_record(record: &Record, out: &mut Vec<u8>) {
    let tombstone = if record.is_tombstone() { TOMBSTONE } else { 0 };
    out.push(optional(record) | VALUE | tombstone);
    encode_varint(to_u64(record.key().len()), out);
    out.extend_from_slice(record.key());
    encode_numbers(record, out);
    out.extend_from_slice(record.value());
}

/// Reads what [`encode_record`] wrote; `None` if it did not write that.
pub fn decode_record(revision: Revision, mut cell: &[u8]) -> Option<Record> {
    let (flags, rest) = cell.split_first()?;
    cell = rest;
    let key_bytes = to_usize(decode_varint(&mut cell).ok()?);
    let (key, rest) = cell.split_at_checked(key_bytes).filter(|(key, _)| !key.is_empty())?;
    cell = rest;
    let numbers = decode_numbers(*flags, revision, &mut cell)?;
    let is_tombstone = flags & TOMBSTONE != 0;
    let agrees = is_tombstone == (numbers.version == 0) && (!is_tombstone || cell.is_empty());
    (flags & VALUE != 0 && agrees).then(|| numbers.record(revision, key, cell))
}

/// The numbers of a record that both forms have.
struct Numbers {
    create_revision: i64,
    version: i64,
    lease: LeaseId,
    chain: Chain,
}

impl Numbers {
    fn record(&self, revision: Revision, key: &[u8], value: &[u8]) -> Record {
        let Self { create_revision, version, lease, chain } = *self;
        Record::new(&Parts { revision, key, value, create_revision, version, lease, chain })
    }
}

fn optional(record: &Record) -> u8 {
    let chain = record.chain();
    (if record.lease().is_some() { LEASE } else { 0 })
        | (if chain.prev > Revision::ZERO { PREV } else { 0 })
        | (if chain.jump > Revision::ZERO { JUMP } else { 0 })
}

fn encode_numbers(record: &Record, out: &mut Vec<u8>) {
    let (main, chain) = (record.revision().main, record.chain());
    let back = |to: Revision, out: &mut Vec<u8>| {
        encode_varint((main - to.main).cast_unsigned(), out);
        encode_varint(u64::from(to.sub), out);
    };
    // A tombstone creates nothing.
    let created = if record.is_tombstone() { main } else { record.create_revision() };
    encode_varint((main - created).cast_unsigned(), out);
    encode_varint(record.version().cast_unsigned(), out);
    encode_varint(chain.ordinal, out);
    if record.lease().is_some() {
        out.extend_from_slice(&record.lease().0.to_le_bytes());
    }
    if chain.prev > Revision::ZERO {
        back(chain.prev, out);
    }
    if chain.jump > Revision::ZERO {
        back(chain.jump, out);
        encode_varint(chain.ordinal - chain.jump_ordinal, out);
    }
}

fn decode_numbers(flags: u8, at: Revision, cell: &mut &[u8]) -> Option<Numbers> {
    let number = |cell: &mut &[u8]| i64::try_from(decode_varint(cell).ok()?).ok();
    let back = |cell: &mut &[u8]| {
        let main = at.main.checked_sub(number(cell)?).filter(|main| *main > 0)?;
        let to = Revision { main, sub: u32::try_from(number(cell)?).ok()? };
        (to < at).then_some(to)
    };
    let created = at.main.checked_sub(number(cell)?).filter(|created| *created > 0)?;
    let version = number(cell)?;
    let ordinal = decode_varint(cell).ok()?;
    let mut lease = LeaseId::NONE;
    if flags & LEASE != 0 {
        let (bytes, rest) = cell.split_first_chunk::<8>()?;
        lease = LeaseId(i64::from_le_bytes(*bytes));
        *cell = rest;
    }
    let mut chain = Chain { ordinal, ..Chain::default() };
    if flags & PREV != 0 {
        chain.prev = back(cell)?;
    }
    if flags & JUMP != 0 {
        chain.jump = back(cell).filter(|jump| *jump <= chain.prev)?;
        chain.jump_ordinal = ordinal.checked_sub(decode_varint(cell).ok()?)?;
    }
    let create_revision = if version == 0 { 0 } else { created };
    Some(Numbers { create_revision, version, lease, chain })
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn records() -> Vec<Record> {
        let revision = Revision { main: 300, sub: 2 };
        let chain = Chain {
            ordinal: 9,
            jump_ordinal: 3,
            prev: Revision { main: 300, sub: 1 },
            jump: Revision { main: 12, sub: 3 },
        };
        let long = vec![7; VALUE_IN_KEYS_MAX + 1];
        let put = Parts {
            revision,
            key: b"a",
            value: b"the value",
            create_revision: 7,
            version: 150,
            lease: LeaseId(-5),
            chain,
        };
        let first = Chain::default();
        let tombstone =
            Parts { value: b"", create_revision: 0, version: 0, lease: LeaseId::NONE, ..put };
        [
            put,
            Parts { value: &long, ..put },
            Parts { lease: LeaseId::NONE, ..put },
            Parts { chain: first, create_revision: 300, version: 1, value: b"", ..put },
            Parts { chain: Chain { jump: Revision::ZERO, jump_ordinal: 0, ..chain }, ..put },
            tombstone,
            Parts { chain: first, ..tombstone },
        ]
        .iter()
        .map(Record::new)
        .collect()
    }

    #[test]
    fn a_record_comes_back_from_history() {
        for record in records() {
            let mut cell = Vec::new();
            encode_record(&record, &mut cell);
            assert_eq!(decode_record(record.revision(), &cell), Some(record));
        }
    }

    #[test]
    fn a_version_comes_back_unless_its_value_is_long() {
        for record in records() {
            let mut cell = Vec::new();
            encode_version(&record, &mut cell);
            let expected = if record.value().len() > VALUE_IN_KEYS_MAX {
                Version::Elsewhere(record.revision())
            } else {
                Version::Whole(record.clone())
            };
            assert_eq!(decode_version(record.key(), &cell), Some(expected));
        }
    }

    /// Whatever a page says, nothing worse comes of it than `None`.
    #[test]
    fn cells_cut_anywhere_are_refused_or_say_something_else() {
        for record in records() {
            let (mut version, mut whole) = (Vec::new(), Vec::new());
            encode_version(&record, &mut version);
            encode_record(&record, &mut whole);
            for end in 0..version.len() {
                let cut = decode_version(record.key(), &version[..end]);
                assert_ne!(cut, Some(Version::Whole(record.clone())));
            }
            for end in 0..whole.len() {
                assert_ne!(decode_record(record.revision(), &whole[..end]), Some(record.clone()));
            }
        }
    }

    #[test]
    fn keys_of_history_are_in_the_order_of_revisions() {
        let revisions = [(1, 0), (1, 1), (255, u32::MAX), (256, 0), (i64::MAX, 3)];
        let keys = revisions.map(|(main, sub)| history_key(Revision { main, sub }));
        assert!(keys.is_sorted());
        for (key, (main, sub)) in keys.iter().zip(revisions) {
            assert_eq!(revision_of(key), Some(Revision { main, sub }));
        }
        assert_eq!(revision_of(&[0xff; 12]), None);
        assert_eq!(revision_of(b"short"), None);
    }
}
