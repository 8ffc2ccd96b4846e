//! Reading what etcd wrote: its snapshots, and the data directory of a member that was stopped.
//!
//! ```text
//!  snapshot, member/snap/db ── file ──► pages ── cursor ──► entries of buckets ── state, history ──► StateMachine
//!                                                     └──── status ──► hash, revision, keys         │
//!  member/wal ── log ──► records ── tail ──► entries behind it, and who voted ── command ── apply ──┘
//! ```
//!
//! Nothing is believed: any bytes give an error that names the page or the entry, or a state that holds together. A
//! walk goes through a file in order and keeps one page for each level of a tree; keys must ascend strictly from leaf
//! to leaf, so that no cycle and no page that is used twice is walked for long.
//!
//! | file | what |
//! |---|---|
//! | file.rs | bbolt's file: its two metas, pages, buckets by name |
//! | cursor.rs | the entries of a bucket, in order |
//! | status.rs | what `snapshot status` says of a file |
//! | state.rs | leases, alarms, users and numbers out of their buckets |
//! | history.rs | the key space out of its bucket |
//! | log.rs | etcd's write-ahead log, record by record |
//! | tail.rs | the entries that the file has not seen, and whether they were committed |
//! | command.rs | what such an entry means here |
//!
//! (bbolt v1.5, etcd v3.7 `storage/schema`, `storage/mvcc/kvstore.go`, `storage/wal`.)
//!
//! # Limits
//!
//! The keys of etcd's v2 API are not looked for. What `etcdutl --bump-revision` marks its revision with, an entry
//! without a key that no client can read, is left out: the revision stays, but `HashKV` does not count the mark.

mod command;
mod cursor;
mod file;
mod history;
mod log;
mod state;
mod status;
mod tail;

#[cfg(test)]
mod tests;

use alloc::string::String;
use core::fmt;

use bytes::Bytes;

pub use file::File;
pub use log::{LogReader, Segment};
pub use state::{Bump, Imported, import};
pub use status::{Status, status};
pub use tail::{Extent, Replayed, Tail, replay};

/// Bytes that can be read anywhere.
pub trait ReadAt {
    /// How many there are.
    fn bytes_len(&self) -> u64;

    /// Reads exactly `len` bytes at `offset`, which lie within [`ReadAt::bytes_len`].
    ///
    /// # Errors
    /// If the medium fails.
    fn read_at(&mut self, offset: u64, len: usize) -> Result<Bytes, Unreadable>;
}

/// The medium failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable(pub String);

impl ReadAt for Bytes {
    fn bytes_len(&self) -> u64 {
        crate::convert::to_u64(self.len())
    }

    fn read_at(&mut self, offset: u64, len: usize) -> Result<Bytes, Unreadable> {
        let offset = crate::convert::to_usize(offset);
        Ok(self.slice(offset..offset + len))
    }
}

/// Why something that etcd should have written cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The medium failed.
    Unreadable(Unreadable),
    /// This is no file of bbolt's, or not all of it.
    NoFile(&'static str),
    /// A page is not as bbolt writes it.
    Page {
        /// Its number.
        page: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// An entry of a bucket is not as etcd writes it.
    Entry {
        /// The bucket.
        bucket: &'static str,
        /// The key, as far as it can be shown.
        key: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A record of the log is damaged, and not because its writing was interrupted.
    Record {
        /// The file.
        segment: String,
        /// Where it begins.
        offset: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// An entry of the log cannot follow the one before, or cannot be understood.
    Log {
        /// Its index.
        index: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// Whether entries were committed is for other members to say.
    NotAlone {
        /// How many members there are.
        members: usize,
    },
    /// File and log do not agree who the members are.
    MembersUnclear,
}

impl From<Unreadable> for Refused {
    fn from(unreadable: Unreadable) -> Self {
        Self::Unreadable(unreadable)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(Unreadable(why)) => write!(f, "cannot read it: {why}"),
            Self::NoFile(why) => write!(f, "this is no database of etcd's: {why}"),
            Self::Page { page, why } => write!(f, "page {page} is damaged: {why}"),
            Self::Entry { bucket, key, why } => {
                write!(f, "entry {key} of bucket {bucket:?} is damaged: {why}")
            }
            Self::Record { segment, offset, why } => {
                write!(f, "{segment} is damaged at offset {offset}: {why}")
            }
            Self::Log { index, why } => write!(f, "entry {index} of etcd's log: {why}"),
            Self::NotAlone { members } => write!(
                f,
                "it is of a cluster of {members} members, and what the others have cannot be known here: start etcd \
                 once more, take a snapshot with 'etcdctl snapshot save', and give it to every member with \
                 'cairn snapshot restore'"
            ),
            Self::MembersUnclear => write!(
                f,
                "its database and its log do not agree who the members are: start etcd once more, take a snapshot \
                 with 'etcdctl snapshot save', and use 'cairn snapshot restore'"
            ),
        }
    }
}

impl core::error::Error for Refused {}
