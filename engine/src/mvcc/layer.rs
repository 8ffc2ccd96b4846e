//! What has changed since a checkpoint began: a part of the key space that lies in memory, over what is below it.
//!
//! A layer over nothing is the whole key space. One over a checkpoint holds only what is not in that yet, and hides
//! what it replaces: a key that is written here hides the same key below, a tombstone here hides the key that it
//! deleted.
//!
//! What a layer says of a key counts, and what is below does not matter any more. So a tombstone that was swept stays
//! for as long as there is a key below for it to hide.

use alloc::sync::Arc;
use core::iter::Peekable;
use core::ops::Bound;

use super::record::{ByKey, ByRevision};
use super::{Record, Revision};
use crate::cow::{self, CowTree};
use crate::ids::LeaseId;

/// The changes since some moment. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    /// K: the keys that were written and exist.
    pub(super) keys: CowTree<ByKey>,
    /// D: the keys that were deleted, while history shows them or there is something below to hide.
    pub(super) graves: CowTree<ByKey>,
    /// R: what was written.
    pub(super) history: CowTree<ByRevision>,
    /// The keys that exist below, and of which this layer says something else. Not counted twice, then.
    pub(super) shadows: CowTree<Name>,
    /// What was swept of the history below.
    pub(super) swept: CowTree<Revision>,
    /// The graves below that are none any more: their keys were written again, or their tombstones swept.
    pub(super) opened: CowTree<Name>,
    /// L: what changed of which keys hang on which leases.
    pub(super) leased: CowTree<Attachment>,
}

/// A key, and nothing else.
#[derive(Clone, Debug)]
pub struct Name(pub Arc<[u8]>);

/// Whether a key hangs on a lease.
#[derive(Clone, Debug)]
pub struct Attachment {
    at: (u64, Arc<[u8]>),
    /// Whether it does now.
    pub attached: bool,
}

impl Layer {
    /// What the layer says of a key: its newest record, a tombstone if it is no more. `None`: look below.
    pub(super) fn get(&self, key: &[u8]) -> Option<&Record> {
        let found = self.keys.get(key).or_else(|| self.graves.get(key));
        found.map(|item| &item.0)
    }

    /// What it says of the keys within bounds, in order.
    pub(super) fn entries(&self, bounds: (Bound<&[u8]>, Bound<&[u8]>)) -> Entries<'_> {
        Entries {
            keys: self.keys.range(bounds).peekable(),
            graves: self.graves.range(bounds).peekable(),
        }
    }

    /// What was written here from a revision on, in order.
    pub(super) fn history_from(&self, from: Revision) -> impl Iterator<Item = Record> {
        self.history.range(from..).map(|item| item.record.clone())
    }

    /// Whether a record from below was swept.
    pub(super) fn has_swept(&self, record: &Record) -> bool {
        !self.swept.is_empty() && self.swept.get(&record.revision()).is_some()
    }

    /// Notes that a key was attached to a lease, or is no longer; over nothing what is not attached need not be known.
    pub(super) fn attach(&mut self, lease: LeaseId, key: &[u8], attached: bool, over: Over) {
        if !lease.is_some() {
            return;
        }
        let at = (lease.0.cast_unsigned(), Arc::from(key));
        if attached || over == Over::Something {
            self.leased.insert(Attachment { at, attached });
        } else {
            self.leased.remove(&at);
        }
    }

    /// Checks M2, and the trees themselves. O(n).
    ///
    /// # Panics
    /// If an invariant is broken; the message says which.
    pub(super) fn check(&self) {
        self.keys.check();
        self.graves.check();
        self.history.check();
        self.shadows.check();
        self.swept.check();
        self.opened.check();
        self.leased.check();
        for ByKey(record) in self.keys.iter() {
            assert!(!record.is_tombstone(), "a key of K exists");
            assert!(self.graves.get(record.key()).is_none(), "a key is not in K and in D (M2)");
        }
        for ByKey(record) in self.graves.iter() {
            assert!(record.is_tombstone(), "a key of D does not exist");
            let is_there = self.history.get(&record.revision()).is_some();
            let hides = self.shadows.get(record.key()).is_some();
            assert!(is_there || hides, "D is in R (M3), or hides something");
        }
        for name in self.shadows.iter() {
            assert!(self.get(&name.0).is_some(), "a shadow is of what is said here (M6)");
        }
    }
}

/// Whether there is anything below a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// No: what the layer does not have is not there.
    Nothing,
    /// A checkpoint, or another layer.
    Something,
}

/// Walks what a layer says of keys; made by [`Layer::entries`].
#[derive(Debug)]
pub struct Entries<'a> {
    keys: Peekable<cow::Iter<'a, ByKey>>,
    graves: Peekable<cow::Iter<'a, ByKey>>,
}

impl<'a> Iterator for Entries<'a> {
    type Item = &'a Record;

    fn next(&mut self) -> Option<&'a Record> {
        let next = match (self.keys.peek(), self.graves.peek()) {
            (Some(key), Some(grave)) if grave.0.key() < key.0.key() => self.graves.next(),
            (None, _) => self.graves.next(),
            (Some(_), _) => self.keys.next(),
        };
        next.map(|item| &item.0)
    }
}

impl Attachment {
    /// The lease.
    pub fn lease(&self) -> LeaseId {
        LeaseId(self.at.0.cast_signed())
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        &self.at.1
    }
}

impl cow::Item for Name {
    type Key = [u8];
    type Separator = Arc<[u8]>;

    fn key(&self) -> &[u8] {
        &self.0
    }

    fn separator(left: &[u8], right: &[u8]) -> Self::Separator {
        cow::shortest_separator(left, right).into()
    }
}

impl cow::Item for Revision {
    type Key = Self;
    type Separator = Self;

    fn key(&self) -> &Self {
        self
    }

    fn separator(_left: &Self, right: &Self) -> Self {
        *right
    }
}

impl cow::Item for Attachment {
    type Key = (u64, Arc<[u8]>);
    type Separator = (u64, Arc<[u8]>);

    fn key(&self) -> &Self::Key {
        &self.at
    }

    fn separator(_left: &Self::Key, right: &Self::Key) -> Self::Separator {
        right.clone()
    }
}
