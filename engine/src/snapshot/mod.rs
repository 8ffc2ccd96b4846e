//! A copy of the replicated state as a stream of chunks: for the disk, so that the log can be cut, and for peers
//! that are too far behind.
//!
//! ```text
//! chunk: u32 length of the body │ u32 crc of section, sequence and body │ u8 section │ u32 sequence │ body
//! ```
//!
//! Sections come in the order of [`Section`]; each chunk names its place in the sequence, so that a missing,
//! doubled or moved chunk is noticed. The last chunk counts what was before it: without it a file is torn. All
//! numbers are little-endian. docs/format.md is the law for every byte.
//!
//! The state is read from handles that do not change ([`View`](crate::mvcc::View)), a slice at a time, while
//! the member goes on.

pub mod etcd;
pub mod reader;
pub mod writer;

use crate::ids::MemberId;
use crate::raft::{Index, Term};
use crate::wal::Lsn;

pub use reader::{Reader, SnapshotError};
pub use writer::SnapshotWriter;

/// What a snapshot covers, and where the log goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The last index whose effect is in the snapshot.
    pub index: Index,
    /// Its term.
    pub term: Term,
    /// A place in the log at or before every later entry; where a segment begins.
    pub log_start: Lsn,
    /// The log was durable up to here.
    pub log_promise: Lsn,
    /// The member's term, and its vote in it: if the log lost its end, at least these are not forgotten.
    pub vote: (Term, MemberId),
    /// A leader sent it: the log from before it does not lead up to it, and restarts behind it.
    pub restarts: bool,
}

/// The parts of a snapshot, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Section {
    Header,
    /// History, in order of revision; keys, graves and attachments follow from it.
    Records,
    Leases,
    Alarms,
    /// The members, and the digest.
    Cluster,
    /// Users and roles.
    Auth,
    End,
}

impl Section {
    const fn to_byte(self) -> u8 {
        match self {
            Self::Header => 1,
            Self::Records => 2,
            Self::Leases => 3,
            Self::Alarms => 4,
            Self::Cluster => 5,
            Self::Auth => 6,
            Self::End => 9,
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Header),
            2 => Some(Self::Records),
            3 => Some(Self::Leases),
            4 => Some(Self::Alarms),
            5 => Some(Self::Cluster),
            6 => Some(Self::Auth),
            9 => Some(Self::End),
            _ => None,
        }
    }
}

const MAGIC: [u8; 8] = *b"CAIRNSNP";
/// The format that this code writes. It reads those before, too.
const FORMAT: u16 = 3;
/// Knew nothing of users and roles.
const FORMAT_WITHOUT_AUTH: u16 = 2;
/// Nor of members and votes.
const FORMAT_WITHOUT_MEMBERS: u16 = 1;
/// What an item of the section of users and roles is.
const AUTH_NUMBERS: u8 = 0;
const AUTH_ROLE: u8 = 1;
const AUTH_USER: u8 = 2;
/// Bytes before the body of a chunk.
const CHUNK_HEADER_BYTES: usize = 13;
/// No chunk's body is larger, unless a single record is.
const CHUNK_BYTES_GOAL: usize = 256 << 10;
/// No reader accepts a larger body: requests are limited far below.
const CHUNK_BYTES_MAX: usize = 1 << 30;

/// Stands for the compact revision where no sweep is under way; 0 is one that can be swept up to.
const NO_SWEEP: i64 = -1;

fn chunk_checksum(section: u8, sequence: u32, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[section]);
    hasher.update(&sequence.to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
mod tests;
