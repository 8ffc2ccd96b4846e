//! The header of a segment file: two equal blocks in front of the batches.
//!
//! The header is written together with the first batch, in one write. If that write is torn, neither copy
//! may be whole: the segment then counts as never used, because nothing in it was acknowledged.

use alloc::vec::Vec;

use super::{BLOCK_BYTES, Fields, Lsn, SegmentSeq};
use crate::ids::{ClusterId, MemberId};

/// Bytes before the first batch: two copies of the header.
pub const HEADER_BYTES: usize = 2 * BLOCK_BYTES;

const MAGIC: [u8; 8] = *b"CAIRNWAL";
/// The format this code writes and reads; a new minor version only adds what older code may ignore.
const FORMAT: (u16, u16) = (1, 0);
/// Length of the fields, checksums excluded.
const FIELDS_BYTES: usize = 100;

/// What the header of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Which segment this is.
    pub seq: SegmentSeq,
    /// Repeated by each batch, drawn anew for each use of the file (W3).
    pub salt: u64,
    /// The cluster that the log belongs to.
    pub cluster: ClusterId,
    /// The member that the log belongs to.
    pub member: MemberId,
    /// Where this segment begins, which is where the one before it logically ends.
    pub base: Lsn,
    /// Checksum of the last batch header before this segment; zero at the beginning of the log (W2).
    pub prev_header_crc: u32,
    /// Bytes that the file has for headers and batches.
    pub capacity: u64,
}

/// What two header blocks turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// At least one copy is whole.
    Used(SegmentHeader),
    /// Neither copy is whole: never used, torn at its first write, or damaged.
    Blank,
    /// Whole, but written by a version whose format this code does not know.
    Unknown {
        /// Its format version.
        major: u16,
        /// Its feature bits that whoever opens it must know.
        features: u32,
    },
}

impl SegmentHeader {
    /// Appends both copies, [`HEADER_BYTES`] in all.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT.0.to_le_bytes());
        out.extend_from_slice(&FORMAT.1.to_le_bytes());
        // Feature bits: incompatible (a reader must know them), read-only compatible, compatible.
        out.extend_from_slice(&[0; 12]);
        let block = u32::try_from(BLOCK_BYTES).expect("a block is small");
        out.extend_from_slice(&block.to_le_bytes());
        out.extend_from_slice(&self.prev_header_crc.to_le_bytes());
        out.extend_from_slice(&self.seq.0.to_le_bytes());
        out.extend_from_slice(&self.salt.to_le_bytes());
        out.extend_from_slice(&self.cluster.0.to_le_bytes());
        out.extend_from_slice(&self.member.0.to_le_bytes());
        out.extend_from_slice(&self.base.0.to_le_bytes());
        out.extend_from_slice(&self.capacity.to_le_bytes());
        out.resize(start + FIELDS_BYTES, 0);
        let fields = &out[start..];
        let (crc32, crc32c) = (crc32fast::hash(fields), crc32c::crc32c(fields));
        out.extend_from_slice(&crc32.to_le_bytes());
        out.extend_from_slice(&crc32c.to_le_bytes());
        out.resize(start + BLOCK_BYTES, 0);
        out.extend_from_within(start..start + BLOCK_BYTES);
    }

    /// Reads the first whole copy of the two in the segment of this number. One of another number is what a recycled
    /// file held before: its first write in this use was torn.
    ///
    /// # Panics
    /// If `bytes` is not [`HEADER_BYTES`] long.
    pub fn decode(bytes: &[u8], seq: SegmentSeq) -> Decoded {
        assert_eq!(bytes.len(), HEADER_BYTES, "both header blocks");
        let (first, second) = bytes.split_at(BLOCK_BYTES);
        match Self::decode_copy(first, seq) {
            Decoded::Blank => Self::decode_copy(second, seq),
            decoded @ (Decoded::Used(_) | Decoded::Unknown { .. }) => decoded,
        }
    }

    fn decode_copy(block: &[u8], seq: SegmentSeq) -> Decoded {
        let (fields, rest) = block.split_at(FIELDS_BYTES);
        let mut sums = Fields::new(rest);
        if sums.u32() != crc32fast::hash(fields) || sums.u32() != crc32c::crc32c(fields) {
            return Decoded::Blank;
        }
        let mut fields = Fields::new(fields);
        if fields.array() != MAGIC {
            return Decoded::Blank;
        }
        let (major, _minor, incompat) = (fields.u16(), fields.u16(), fields.u32());
        let (ro_compat, _compat, _block) = (fields.u32(), fields.u32(), fields.u32());
        // Nobody opens a log to read only, so what must not be written to must not be opened.
        let unknown = incompat | ro_compat;
        if major != FORMAT.0 || unknown != 0 {
            return Decoded::Unknown { major, features: unknown };
        }
        let header = Self {
            prev_header_crc: fields.u32(),
            seq: SegmentSeq(fields.u64()),
            salt: fields.u64(),
            cluster: ClusterId(fields.u64()),
            member: MemberId(fields.u64()),
            base: Lsn(fields.u64()),
            capacity: fields.u64(),
        };
        if header.seq == seq { Decoded::Used(header) } else { Decoded::Blank }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            seq: SegmentSeq(7),
            salt: 0x1122_3344_5566_7788,
            cluster: ClusterId(1),
            member: MemberId(2),
            base: Lsn(8192),
            prev_header_crc: 0xdead_beef,
            capacity: 1 << 26,
        }
    }

    fn encoded() -> Vec<u8> {
        let mut bytes = Vec::new();
        header().encode(&mut bytes);
        bytes
    }

    #[test]
    fn either_copy_is_enough() {
        let bytes = encoded();
        assert_eq!(bytes.len(), HEADER_BYTES);
        assert_eq!(SegmentHeader::decode(&bytes, header().seq), Decoded::Used(header()));
        for copy in 0..2 {
            let mut damaged = bytes.clone();
            damaged[copy * BLOCK_BYTES + 40] ^= 1;
            assert_eq!(SegmentHeader::decode(&damaged, header().seq), Decoded::Used(header()));
        }
    }

    #[test]
    fn any_flipped_bit_of_the_fields_blanks_a_copy() {
        let bytes = encoded();
        for bit in 0..(FIELDS_BYTES + 8) * 8 {
            let mut damaged = bytes.clone();
            for copy in 0..2 {
                damaged[copy * BLOCK_BYTES + bit / 8] ^= 1 << (bit % 8);
            }
            assert_eq!(SegmentHeader::decode(&damaged, header().seq), Decoded::Blank, "bit {bit}");
        }
    }

    #[test]
    fn what_the_file_was_before_is_not_its_header() {
        let mut bytes = encoded();
        assert_eq!(SegmentHeader::decode(&bytes, SegmentSeq(8)), Decoded::Blank);
        let next = SegmentHeader { seq: SegmentSeq(8), ..header() };
        bytes.truncate(BLOCK_BYTES);
        next.encode(&mut bytes);
        bytes.truncate(HEADER_BYTES);
        assert_eq!(SegmentHeader::decode(&bytes, SegmentSeq(8)), Decoded::Used(next));
    }

    #[test]
    fn an_unknown_feature_is_named_unless_it_is_compatible() {
        let with_feature = |offset: usize| {
            let mut bytes = encoded();
            for copy in 0..2 {
                let at = copy * BLOCK_BYTES;
                bytes[at + offset] = 4;
                let sums = at + FIELDS_BYTES;
                let crc32 = crc32fast::hash(&bytes[at..sums]);
                let crc32c = crc32c::crc32c(&bytes[at..sums]);
                bytes[sums..sums + 4].copy_from_slice(&crc32.to_le_bytes());
                bytes[sums + 4..sums + 8].copy_from_slice(&crc32c.to_le_bytes());
            }
            SegmentHeader::decode(&bytes, header().seq)
        };
        let (incompatible, read_only_compatible, compatible) = (12, 16, 20);
        let unknown = Decoded::Unknown { major: 1, features: 4 };
        assert_eq!(with_feature(incompatible), unknown);
        assert_eq!(with_feature(read_only_compatible), unknown);
        assert_eq!(with_feature(compatible), Decoded::Used(header()));
    }
}
