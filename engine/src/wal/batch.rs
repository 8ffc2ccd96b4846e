//! The batch: what one write makes durable. A header of 128 bytes, the records, zeros up to the next block.
//!
//! The header alone decides whether a batch belongs at its place: it repeats the number and the salt of its
//! segment (W3), its own [`Lsn`] (W1) and the checksum of the header before it (W2). The payload's checksum
//! is seeded with the lsn, so that a payload moved to another place does not pass.

use alloc::vec::Vec;

use super::{BLOCK_BYTES, Fields, Lsn, SegmentSeq, to_blocks};
use crate::convert::{to_u64, to_usize};
use crate::ids::MemberId;
use crate::raft::{HardState, Index, Term};

/// Length of a batch header.
pub const HEADER_BYTES: usize = 128;

const MAGIC: u32 = u32::from_le_bytes(*b"CBAT");
/// Where the checksummed part of the header begins.
const CHECKED_FROM: usize = 8;

const _: () = assert!(HEADER_BYTES < BLOCK_BYTES, "the header of a batch is never torn in itself");

/// What the header of a batch says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchHeader {
    /// Where the batch starts.
    pub lsn: Lsn,
    /// Everything below this was durable when the batch was sealed (W4).
    pub promise: Lsn,
    /// Length of the records.
    pub payload_bytes: u32,
    /// Number of records.
    pub records: u16,
    /// Checksum of the header before this one (W2).
    pub prev_header_crc: u32,
    /// Checksum of the records.
    pub payload_crc: u32,
    /// Index of the first entry; if there is none, one beyond the last index of the log.
    pub first_index: Index,
    /// Index of the last entry; if there is none, the last index of the log.
    pub last_index: Index,
    /// Term of the entry before the first.
    pub prev_term: Term,
    /// Term of the last entry.
    pub last_term: Term,
    /// Term, vote and commit index at the time (W5).
    pub hard_state: HardState,
    /// The segment that the batch was written to.
    pub segment: SegmentSeq,
    /// The salt of that segment (W3).
    pub salt: u64,
}

impl BatchHeader {
    /// Length of the batch on the medium, in whole blocks.
    pub fn batch_bytes(&self) -> u64 {
        to_u64(to_blocks(HEADER_BYTES + to_usize(u64::from(self.payload_bytes))))
    }

    /// Where the next batch starts.
    pub fn end(&self) -> Lsn {
        self.lsn.advance(self.batch_bytes())
    }

    /// Appends the header and returns its checksum, which the next header repeats.
    pub fn encode(&self, out: &mut Vec<u8>) -> u32 {
        let start = out.len();
        out.extend_from_slice(&MAGIC.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.lsn.0.to_le_bytes());
        out.extend_from_slice(&self.promise.0.to_le_bytes());
        out.extend_from_slice(&self.payload_bytes.to_le_bytes());
        out.extend_from_slice(&self.records.to_le_bytes());
        out.extend_from_slice(&[0; 2]); // flags, none yet
        out.extend_from_slice(&self.prev_header_crc.to_le_bytes());
        out.extend_from_slice(&self.payload_crc.to_le_bytes());
        out.extend_from_slice(&self.first_index.0.to_le_bytes());
        out.extend_from_slice(&self.last_index.0.to_le_bytes());
        out.extend_from_slice(&self.prev_term.0.to_le_bytes());
        out.extend_from_slice(&self.last_term.0.to_le_bytes());
        out.extend_from_slice(&self.hard_state.term.0.to_le_bytes());
        out.extend_from_slice(&self.hard_state.vote.0.to_le_bytes());
        out.extend_from_slice(&self.hard_state.commit.0.to_le_bytes());
        out.extend_from_slice(&self.segment.0.to_le_bytes());
        out.extend_from_slice(&self.salt.to_le_bytes());
        out.resize(start + HEADER_BYTES, 0);
        let crc = crc32fast::hash(&out[start + CHECKED_FROM..]);
        out[start + 4..start + CHECKED_FROM].copy_from_slice(&crc.to_le_bytes());
        crc
    }

    /// Reads a header and its checksum; `None` if these bytes are no header.
    pub fn decode(bytes: &[u8]) -> Option<(Self, u32)> {
        let header = bytes.get(..HEADER_BYTES)?;
        let mut fields = Fields::new(header);
        let (magic, crc) = (fields.u32(), fields.u32());
        if magic != MAGIC || crc != crc32fast::hash(&header[CHECKED_FROM..]) {
            return None;
        }
        let lsn = Lsn(fields.u64());
        let promise = Lsn(fields.u64());
        let payload_bytes = fields.u32();
        let records = fields.u16();
        let _flags = fields.u16();
        let header = Self {
            lsn,
            promise,
            payload_bytes,
            records,
            prev_header_crc: fields.u32(),
            payload_crc: fields.u32(),
            first_index: Index(fields.u64()),
            last_index: Index(fields.u64()),
            prev_term: Term(fields.u64()),
            last_term: Term(fields.u64()),
            hard_state: HardState {
                term: Term(fields.u64()),
                vote: MemberId(fields.u64()),
                commit: Index(fields.u64()),
            },
            segment: SegmentSeq(fields.u64()),
            salt: fields.u64(),
        };
        Some((header, crc))
    }
}

/// Checksum of the records of the batch at `lsn`.
pub fn payload_checksum(lsn: Lsn, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&lsn.0.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> BatchHeader {
        BatchHeader {
            lsn: Lsn(8192),
            promise: Lsn(4096),
            payload_bytes: 4000,
            records: 3,
            prev_header_crc: 1,
            payload_crc: 2,
            first_index: Index(10),
            last_index: Index(12),
            prev_term: Term(4),
            last_term: Term(5),
            hard_state: HardState { term: Term(5), vote: MemberId(6), commit: Index(9) },
            segment: SegmentSeq(2),
            salt: 77,
        }
    }

    #[test]
    fn what_was_encoded_is_decoded_and_ends_on_a_block() {
        let mut bytes = Vec::new();
        let crc = header().encode(&mut bytes);
        assert_eq!(bytes.len(), HEADER_BYTES);
        assert_eq!(BatchHeader::decode(&bytes), Some((header(), crc)));
        assert_eq!(header().end(), Lsn(8192 + 8192), "4128 bytes need two blocks");
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let mut bytes = Vec::new();
        header().encode(&mut bytes);
        for bit in 0..HEADER_BYTES * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(BatchHeader::decode(&damaged), None, "bit {bit}");
        }
    }
}
