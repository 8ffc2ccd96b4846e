//! etcd's write-ahead log, record by record.
//!
//! ```text
//! frame    0  8 low 56 bits: bytes of the record; top bit: padded; three bits below it: bytes of padding
//!          8  … record, padded so that frames begin at multiples of eight
//! record   1 kind (varint)   2 crc (varint)   3 data (bytes)                       walpb.Record
//! ```
//!
//! The checksum is CRC-32C over the data of all records so far. A record of its own kind begins each file with what
//! it was. A file is made larger than it is and filled with zeros: a frame of zero bytes is its end.
//!
//! As in etcd, a record of the last file that is cut off, or has a sector of zeros where its checksum wants something,
//! was never finished, and the log ends before it. Any other damage is damage.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use bytes::{Buf as _, Bytes};
use prost::Message;

use super::{ReadAt, Refused};
use crate::convert::to_usize;

/// A file of the log.
pub struct Segment {
    /// What it is called, for whoever has to look at it.
    pub name: String,
    /// The first index that may be in it.
    pub index: u64,
    /// What is in it.
    pub source: Box<dyn ReadAt>,
}

/// A log that is read from front to back.
#[derive(Debug)]
pub struct LogReader {
    segments: Vec<Segment>,
    /// Which segment is read, and where.
    at: usize,
    offset: u64,
    crc: u32,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// Whose log it is.
    Metadata(Bytes),
    Entry(Bytes),
    HardState(Bytes),
    /// A snapshot was saved.
    Snapshot(Bytes),
}

/// `walpb.Record`.
#[derive(Clone, PartialEq, Message)]
struct Frame {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(uint32, tag = "2")]
    crc: u32,
    #[prost(bytes = "bytes", tag = "3")]
    data: Bytes,
}

const METADATA: i64 = 1;
const ENTRY: i64 = 2;
const HARD_STATE: i64 = 3;
const CRC: i64 = 4;
const SNAPSHOT: i64 = 5;

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment").field("name", &self.name).finish_non_exhaustive()
    }
}

impl LogReader {
    /// Reads the files that may hold entries above `after`, out of all, in their order.
    pub fn new(mut segments: Vec<Segment>, after: u64) -> Self {
        // Each file repeats what matters of those before.
        let begins_late_enough = |segment: &Segment| segment.index <= after.saturating_add(1);
        if let Some(first) = segments.iter().rposition(begins_late_enough) {
            segments.drain(..first);
        }
        Self { segments, at: 0, offset: 0, crc: 0 }
    }

    /// Whether nothing was written before what is read.
    pub(super) fn is_from_the_beginning(&self) -> bool {
        self.segments.first().is_none_or(|segment| segment.index == 0)
    }

    /// The next record; `None` at the end of the log.
    pub(super) fn next(&mut self) -> Result<Option<Record>, Refused> {
        loop {
            let Some(frame) = self.frame()? else { return Ok(None) };
            let Frame { kind, data, .. } = frame;
            return Ok(Some(match kind {
                METADATA => Record::Metadata(data),
                ENTRY => Record::Entry(data),
                HARD_STATE => Record::HardState(data),
                SNAPSHOT => Record::Snapshot(data),
                CRC => continue,
                _ => return Err(self.damaged("it is of a kind that this version does not know")),
            }));
        }
    }

    fn frame(&mut self) -> Result<Option<Frame>, Refused> {
        loop {
            let is_last = self.at + 1 >= self.segments.len();
            let Some(segment) = self.segments.get_mut(self.at) else { return Ok(None) };
            let left = segment.source.bytes_len() - self.offset;
            let head = if left < FRAME_BYTES {
                0
            } else {
                segment.source.read_at(self.offset, to_usize(FRAME_BYTES))?.get_u64_le()
            };
            if head == 0 {
                (self.at, self.offset) = (self.at + 1, 0);
                continue;
            }
            let record_bytes = head & LENGTH;
            let padding = if head & PADDED == 0 { 0 } else { (head >> 56) & 7 };
            if record_bytes + padding > left - FRAME_BYTES {
                if is_last {
                    return Ok(None);
                }
                return Err(self.damaged("it is longer than its file"));
            }
            if record_bytes > RECORD_BYTES_MAX {
                return Err(self.damaged("it is longer than any request"));
            }
            let start = self.offset + FRAME_BYTES;
            let bytes = segment.source.read_at(start, to_usize(record_bytes + padding))?;
            let whole = self.check(bytes.slice(..to_usize(record_bytes)));
            return match whole {
                Some(frame) => {
                    self.offset = start + record_bytes + padding;
                    Ok(Some(frame))
                }
                None if is_last && has_blank_sector(start, &bytes) => Ok(None),
                None => Err(self.damaged("its checksum is wrong")),
            };
        }
    }

    /// Reads a record, if its checksum continues those before.
    fn check(&mut self, bytes: Bytes) -> Option<Frame> {
        let frame = Frame::decode(bytes).ok()?;
        if frame.kind == CRC {
            // Zero at the beginning of the log, or of what is left of it.
            if self.crc != 0 && self.crc != frame.crc {
                return None;
            }
            self.crc = frame.crc;
            return Some(frame);
        }
        let crc = crc32c::crc32c_append(self.crc, &frame.data);
        (crc == frame.crc).then(|| {
            self.crc = crc;
            frame
        })
    }

    fn damaged(&self, why: &'static str) -> Refused {
        let segment = self.segments.get(self.at).map(|segment| segment.name.clone());
        Refused::Record { segment: segment.unwrap_or_default(), offset: self.offset, why }
    }
}

/// Whether a sector of the file that is touched by these bytes has only zeros of them: it was never written.
fn has_blank_sector(start: u64, mut bytes: &[u8]) -> bool {
    let mut sector_bytes = SECTOR_BYTES - to_usize(start) % SECTOR_BYTES;
    while !bytes.is_empty() {
        let (sector, rest) = bytes.split_at(sector_bytes.min(bytes.len()));
        if sector.iter().all(|byte| *byte == 0) {
            return true;
        }
        (bytes, sector_bytes) = (rest, SECTOR_BYTES);
    }
    false
}

const FRAME_BYTES: u64 = 8;
const LENGTH: u64 = (1 << 56) - 1;
const PADDED: u64 = 1 << 63;
const SECTOR_BYTES: usize = 512;
const RECORD_BYTES_MAX: u64 = 1 << 30;

const _: () = assert!(RECORD_BYTES_MAX < LENGTH);

/// Bytes of a record in a log, for whoever makes one.
#[cfg(test)]
pub(super) fn encode(kind: Record, crc: &mut u32, out: &mut Vec<u8>) {
    let (kind, data) = match kind {
        Record::Metadata(data) => (METADATA, data),
        Record::Entry(data) => (ENTRY, data),
        Record::HardState(data) => (HARD_STATE, data),
        Record::Snapshot(data) => (SNAPSHOT, data),
    };
    *crc = crc32c::crc32c_append(*crc, &data);
    put(Frame { kind, crc: *crc, data }, out);
}

/// Bytes that begin a file.
#[cfg(test)]
pub(super) fn encode_crc(crc: u32, out: &mut Vec<u8>) {
    put(Frame { kind: CRC, crc, data: Bytes::new() }, out);
}

#[cfg(test)]
fn put(frame: Frame, out: &mut Vec<u8>) {
    let bytes = frame.encode_to_vec();
    let padding = bytes.len().next_multiple_of(8) - bytes.len();
    let flags = if padding == 0 { 0 } else { (0x80 | crate::convert::to_u64(padding)) << 56 };
    out.extend_from_slice(&(crate::convert::to_u64(bytes.len()) | flags).to_le_bytes());
    out.extend_from_slice(&bytes);
    out.resize(out.len() + padding, 0);
}
