//! The key space as it stands at one moment, for reading on any core.

use alloc::vec::Vec;

use super::record::{ByKey, ByRevision};
use super::{Record, Revision};
use crate::api::{Error, KeyRange};
use crate::cow::CowTree;

/// The key space at one moment. Cloning shares it and costs the same at any size.
#[derive(Clone, Debug)]
pub struct View {
    /// K: the keys that exist.
    pub(super) keys: CowTree<ByKey>,
    /// D: the keys that existed, while history shows them.
    pub(super) graves: CowTree<ByKey>,
    /// R: history.
    pub(super) history: CowTree<ByRevision>,
    pub(super) revision: i64,
    pub(super) compacted: i64,
    /// Memory of all records, roughly.
    pub(super) bytes: u64,
}

impl Default for View {
    /// A fresh store: revision 1, nothing compacted.
    fn default() -> Self {
        Self {
            keys: CowTree::new(),
            graves: CowTree::new(),
            history: CowTree::new(),
            revision: 1,
            compacted: NEVER_COMPACTED,
            bytes: 0,
        }
    }
}

/// The compact revision of a store that was never compacted.
pub const NEVER_COMPACTED: i64 = -1;

impl View {
    /// The revision of the latest change; 1 for a fresh store.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The revision of the latest compaction; −1 if there was none.
    pub fn compacted(&self) -> i64 {
        self.compacted
    }

    /// How many keys exist.
    pub fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// Memory of all records, roughly, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The revision that a request for `revision` reads at: 0 and below mean the latest.
    ///
    /// # Errors
    /// If that lies in the future or was compacted. The compact revision itself can be read.
    pub fn readable(&self, revision: i64) -> Result<i64, Error> {
        if revision > self.revision {
            return Err(Error::FutureRev);
        }
        if revision <= 0 {
            return Ok(self.revision);
        }
        if revision < self.compacted {
            return Err(Error::Compacted);
        }
        Ok(revision)
    }

    /// The newest record of a key that exists. O(log n).
    pub fn get(&self, key: &[u8]) -> Option<&Record> {
        self.keys.get(key).map(|item| &item.0)
    }

    /// The keys of an interval that exist now, in order.
    pub fn current(&self, range: &KeyRange) -> impl Iterator<Item = &Record> {
        self.keys.range(range.bounds()).map(|item| &item.0)
    }

    /// How many keys of an interval exist now. O(log n).
    pub fn count(&self, range: &KeyRange) -> usize {
        self.keys.count(range.bounds())
    }

    /// The keys of an interval that existed at `revision`, in order, as they were.
    ///
    /// Costs O(log versions) for each key that changed since.
    pub fn at(&self, revision: i64, range: &KeyRange) -> impl Iterator<Item = Record> {
        let mut keys = self.keys.range(range.bounds()).map(|item| &item.0).peekable();
        let mut graves = self.graves.range(range.bounds()).map(|item| &item.0).peekable();
        core::iter::from_fn(move || {
            loop {
                let newest = match (keys.peek(), graves.peek()) {
                    (Some(key), Some(grave)) if grave.key() < key.key() => graves.next(),
                    (None, _) => graves.next(),
                    (Some(_), _) => keys.next(),
                }?;
                if let Some(version) = self.version_at(newest, revision) {
                    return Some(version);
                }
            }
        })
    }

    /// What `newest`, a record of K or D, was at `revision`; `None` if the key did not exist.
    fn version_at(&self, newest: &Record, revision: i64) -> Option<Record> {
        let mut record = newest.clone();
        while record.revision().main > revision {
            let chain = record.chain();
            // Records above `revision`, which is not compacted, are never removed (M4): a jump cannot dangle.
            let step = if chain.jump.main > revision { chain.jump } else { chain.prev };
            record = self.record(step)?.clone();
        }
        (!record.is_tombstone()).then_some(record)
    }

    /// The record of a change, if history still has it. O(log n).
    pub fn record(&self, revision: Revision) -> Option<&Record> {
        self.history.get(&revision).map(|item| &item.record)
    }

    /// What the key of `record` was before the request that made it, as a watcher may see it: `None` if the
    /// key did not exist, or if that moment was compacted.
    pub fn before(&self, record: &Record) -> Option<Record> {
        let main = record.revision().main;
        // Dead records may wait to be swept: a client must not see how far the sweep is.
        (main > self.compacted).then(|| self.version_at(record, main - 1)).flatten()
    }

    /// History from `from` on, in order.
    pub fn history_from(&self, from: Revision) -> impl Iterator<Item = &Record> {
        self.history.range(from..).map(|item| &item.record)
    }

    /// All that the trees hold, for snapshots: keys, graves and history follow from history alone.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.history.iter().map(|item| &item.record)
    }

    /// Checks M2, M3 and the chains. O(n log n).
    ///
    /// # Panics
    /// If an invariant is broken; the message says which.
    pub fn check(&self) {
        self.keys.check();
        self.graves.check();
        self.history.check();
        for ByKey(record) in self.keys.iter() {
            assert!(!record.is_tombstone(), "a key of K exists");
            assert!(self.graves.get(record.key()).is_none(), "a key is not in K and in D (M2)");
            assert_eq!(self.record(record.revision()), Some(record), "K is in R (M3)");
        }
        for ByKey(record) in self.graves.iter() {
            assert!(record.is_tombstone(), "a key of D does not exist");
            assert_eq!(self.record(record.revision()), Some(record), "D is in R (M3)");
        }
        let mut bytes = 0;
        for record in self.records() {
            let chain = record.chain();
            assert!(chain.prev < record.revision(), "a chain goes back");
            assert!(chain.jump <= chain.prev, "a jump goes back at least as far");
            bytes += record.bytes();
        }
        assert_eq!(bytes, self.bytes, "the bytes are counted");
    }

    /// The records of one request's changes, in order.
    pub fn changes_of(&self, main: i64) -> Vec<Record> {
        let (first, end) = (Revision::first_of(main), Revision::first_of(main + 1));
        self.history.range(first..end).map(|item| item.record.clone()).collect()
    }
}
