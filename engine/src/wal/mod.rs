//! The write-ahead log: the only durable truth about recent writes.
//!
//! # The idea
//!
//! The log is one endless sequence of bytes, addressed by [`Lsn`], cut into *segment* files. What the
//! member wants durable gathers in memory; whenever no write is in flight, all of it becomes one
//! [*batch*](batch): a header, the records, zeros up to the next block. A batch is the unit of writing, of
//! syncing and of checking. No block is written twice in the life of a segment, so the medium never holds
//! half of an old and half of a new batch in one place.
//!
//! ```text
//!  segment 7                              segment 8
//! ┌────────┬────────┬───────┬─────────┬───────┐ ┌────────┬────────┬───────┬────
//! │ header │ header │ batch │  batch  │ batch │ │ header │ header │ batch │ …
//! └────────┴────────┴───────┴─────────┴───────┘ └────────┴────────┴───────┴────
//!                   ^ base lsn of 7                               ^ base lsn of 8
//! ```
//!
//! # Torn tail or corruption?
//!
//! After a crash the last batch may be missing or half there: it was never acknowledged, so it is cut.
//! Damage further up is another matter: acknowledged entries are gone. The two are told apart by a
//! *promise* that every batch header carries: "everything below this [`Lsn`] was durable when I was
//! written". [`mod@recover`] is the decision table.
//!
//! # Invariants
//!
//! - W1 A batch starts at a multiple of [`BLOCK_BYTES`] and its [`Lsn`] is its place in the log.
//! - W2 Each header names the checksum of the header before it: batches form one chain across segments.
//! - W3 Each header repeats the number and the salt of its segment, drawn anew for each use of the file: what
//!   a recycled file held before never looks valid.
//! - W4 `promise ≤ lsn` in every header, and promises never decrease along the chain.
//! - W5 Each header carries the whole [`HardState`](crate::raft::HardState): losing a batch never loses a vote.
//! - W6 An entry lies in one batch, a batch in one segment.
//!
//! # Limits
//!
//! Damage in the last acknowledged batch looks like a torn tail until a later header vouches for it; an idle
//! log writes such a header after [`IDLE_MARK`]. docs/format.md is the law for every byte.

use core::fmt;
use core::time::Duration;

pub mod batch;
pub mod record;
pub mod recover;
pub mod scan;
pub mod segment;
pub mod writer;

#[cfg(test)]
mod tests;

pub use recover::{RecoverError, Recovered, recover};
pub use scan::LogSource;
pub use writer::{LogWrite, Writer};

/// A place in the log, in bytes since its beginning; a batch is named by where it starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The place `bytes` further on.
    #[must_use]
    pub const fn advance(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Counts segments from one; part of the file name. Never reused, unlike the file itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentSeq(pub u64);

impl SegmentSeq {
    /// The one after this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for SegmentSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The unit of writing: direct I/O asks for it, and no two batches share one.
pub const BLOCK_BYTES: usize = 4096;

/// A batch stops taking entries beyond this; a larger entry has a batch of its own.
///
/// Reason: large enough that the cost of a sync vanishes (64 KiB would do), small enough that a follower or
/// a tool can hold one in memory without thought.
pub const BATCH_BYTES_MAX: usize = 1 << 20;

/// How long the log rests before it vouches for its last batch with an empty one.
///
/// Reason: rot inside this window cannot be told from a torn tail; 5 ms is far above the time of a write, so
/// a busy log never pays for it.
pub const IDLE_MARK: Duration = Duration::from_millis(5);

/// Rounds up to whole blocks.
const fn to_blocks(bytes: usize) -> usize {
    bytes.div_ceil(BLOCK_BYTES) * BLOCK_BYTES
}

/// Reads the little-endian numbers of a fixed layout, one after another.
///
/// # Panics
/// If the layout is longer than the bytes: a mistake of this module, not of its input.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let array = self.bytes[self.at..self.at + N].try_into().expect("a slice of length N");
        self.at += N;
        array
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }
}
