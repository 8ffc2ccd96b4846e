//! Reads the log back, batch by batch, from whatever the medium still holds.
//!
//! This file knows how to find things; what they mean is decided in [`recover`](mod@super::recover).

use alloc::vec::Vec;

use bytes::Bytes;

use super::batch::{self, BatchHeader};
use super::record::{self, Malformed, Record};
use super::segment::{self, Decoded, SegmentHeader};
use super::{BLOCK_BYTES, Lsn, SegmentSeq};
use crate::convert::{to_u64, to_usize};

/// A segment file as the directory lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentFile {
    /// Its number, from its name.
    pub seq: SegmentSeq,
    /// Its length.
    pub bytes: u64,
}

/// The medium refused to give back these bytes, or the file ends before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// Where the log is read from: a directory in production, a simulated disk elsewhere.
///
/// Reading happens at start only and may block.
pub trait LogSource {
    /// The segment files that exist, ascending by number.
    fn segments(&mut self) -> Vec<SegmentFile>;

    /// Reads `len` bytes at `offset`, both multiples of [`BLOCK_BYTES`].
    ///
    /// # Errors
    /// If the medium fails anywhere in the range. The caller then asks again for smaller parts.
    fn read(&mut self, seq: SegmentSeq, offset: u64, len: usize) -> Result<Bytes, Unreadable>;
}

/// A segment file and what its header says.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// The file.
    pub file: SegmentFile,
    /// Its header.
    pub header: Decoded,
}

/// A batch that is whole and in its place.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Its header.
    pub header: BatchHeader,
    /// The header's checksum, which the next header repeats.
    pub header_crc: u32,
    /// Its records.
    pub records: Result<Vec<Record>, Malformed>,
}

/// Lists all segment files with their headers.
pub fn segments(source: &mut dyn LogSource) -> Vec<Segment> {
    let files = source.segments();
    assert!(files.windows(2).all(|pair| pair[0].seq < pair[1].seq), "segments ascend by number");
    files
        .into_iter()
        .map(|file| {
            let header = read_in_parts(source, file, 0, segment::HEADER_BYTES);
            Segment { file, header: SegmentHeader::decode(&header, file.seq) }
        })
        .collect()
}

/// Reads the blocks of a range one by one, zeros in place of those that cannot be read.
fn read_in_parts(
    source: &mut dyn LogSource,
    file: SegmentFile,
    offset: u64,
    len: usize,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        match source.read(file.seq, offset + to_u64(bytes.len()), BLOCK_BYTES) {
            Ok(block) => bytes.extend_from_slice(&block),
            Err(Unreadable) => bytes.resize(bytes.len() + BLOCK_BYTES, 0),
        }
    }
    bytes
}

/// Reads the batches of one segment through a window of a mebibyte.
pub struct SegmentReader<'a> {
    source: &'a mut dyn LogSource,
    file: SegmentFile,
    salt: Option<u64>,
    base: Lsn,
    window: Bytes,
    window_at: u64,
}

impl core::fmt::Debug for SegmentReader<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SegmentReader").field("file", &self.file).field("base", &self.base).finish()
    }
}

const WINDOW_BYTES: usize = 1 << 20;

impl<'a> SegmentReader<'a> {
    /// Reads `file`, whose first batch is at `base`. Batches of another `salt` are passed over; `None` where
    /// the header that would tell the salt is damaged.
    pub fn new(
        source: &'a mut dyn LogSource,
        file: SegmentFile,
        salt: Option<u64>,
        base: Lsn,
    ) -> Self {
        Self { source, file, salt, base, window: Bytes::new(), window_at: 0 }
    }

    /// What the segment is read from.
    pub fn source(&mut self) -> &mut dyn LogSource {
        self.source
    }

    /// Where in the file `lsn` lies.
    pub fn offset(&self, lsn: Lsn) -> u64 {
        to_u64(segment::HEADER_BYTES) + (lsn.0 - self.base.0)
    }

    /// The batch at `lsn`, if a whole one stands there that follows the header with checksum `prev`.
    pub fn batch(&mut self, lsn: Lsn, prev: u32) -> Option<Batch> {
        let (header, header_crc) = self.header(lsn)?;
        if header.prev_header_crc != prev {
            return None;
        }
        let len = to_usize(header.batch_bytes());
        let bytes = self.read(self.offset(lsn), len)?;
        let payload_end = batch::HEADER_BYTES + to_usize(u64::from(header.payload_bytes));
        let payload = bytes.slice(batch::HEADER_BYTES..payload_end);
        if batch::payload_checksum(lsn, &payload) != header.payload_crc {
            return None;
        }
        let records = record::decode(payload, header.first_index);
        Some(Batch { header, header_crc, records })
    }

    /// The header at `lsn`, if one stands there that was written there in this life of the file.
    pub fn header(&mut self, lsn: Lsn) -> Option<(BatchHeader, u32)> {
        let block = self.read(self.offset(lsn), BLOCK_BYTES)?;
        let (header, crc) = BatchHeader::decode(&block)?;
        let in_place = header.lsn == lsn && header.segment == self.file.seq;
        (in_place && self.salt.is_none_or(|salt| salt == header.salt)).then_some((header, crc))
    }

    /// All headers that stand at their place beyond `lsn`, whatever lies between them.
    pub fn headers_beyond(&mut self, lsn: Lsn) -> Vec<BatchHeader> {
        let mut found = Vec::new();
        let mut at = lsn.advance(to_u64(BLOCK_BYTES));
        while self.offset(at) + to_u64(BLOCK_BYTES) <= self.file.bytes {
            if let Some((header, _)) = self.header(at) {
                found.push(header);
            }
            at = at.advance(to_u64(BLOCK_BYTES));
        }
        found
    }

    /// Bytes of the file, through the window; `None` beyond the end or where the medium fails.
    fn read(&mut self, offset: u64, len: usize) -> Option<Bytes> {
        if offset.checked_add(to_u64(len))? > self.file.bytes {
            return None;
        }
        let window_end = self.window_at + to_u64(self.window.len());
        if offset < self.window_at || offset + to_u64(len) > window_end {
            let rest = to_usize(self.file.bytes - offset) / BLOCK_BYTES * BLOCK_BYTES;
            let wanted = WINDOW_BYTES.max(len).min(rest);
            // A window with a bad block in it is read again without the luxury.
            self.window = self
                .source
                .read(self.file.seq, offset, wanted)
                .or_else(|Unreadable| self.source.read(self.file.seq, offset, len))
                .ok()?;
            self.window_at = offset;
        }
        let start = to_usize(offset - self.window_at);
        Some(self.window.slice(start..start + len))
    }
}
