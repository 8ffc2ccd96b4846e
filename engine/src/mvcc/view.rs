//! The key space as it stands at one moment, for reading on any core.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::iter::Peekable;
use core::ops::Bound;

use super::base::{self, Base};
use super::layer::{Entries, Layer, Over};
use super::record::ByKey;
use super::{Record, Revision};
use crate::api::{Error, KeyRange};
use crate::cow;
use crate::storage::Damage;

/// The key space at one moment. Cloning shares it and costs the same at any size.
///
/// What is newer hides what is older: `top` is what changed last, `frozen` what a checkpoint is being made of, if one
/// is, and `base` the newest checkpoint, if there is any.
#[derive(Clone, Debug)]
pub struct View {
    pub(super) top: Layer,
    pub(super) frozen: Option<Arc<Layer>>,
    pub(super) base: Option<Arc<Base>>,
    pub(super) revision: i64,
    pub(super) compacted: i64,
    /// Memory of all records, roughly.
    pub(super) bytes: u64,
}

impl Default for View {
    /// A fresh store: revision 1, nothing compacted.
    fn default() -> Self {
        Self {
            top: Layer::default(),
            frozen: None,
            base: None,
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

    /// How many keys exist. O(log n).
    pub fn key_count(&self) -> usize {
        self.count_within((Bound::Unbounded, Bound::Unbounded))
    }

    /// What of the checkpoint below turned out to be damaged. Whatever was read is worth nothing then, and must not be
    /// given out (see [`base`]).
    pub fn damage(&self) -> Option<Damage> {
        self.base.as_ref()?.damage()
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
    pub fn get(&self, key: &[u8]) -> Option<Record> {
        if self.over() == Over::Nothing {
            return self.top.keys.get(key).map(|item| item.0.clone());
        }
        let found = self.layers().find_map(|layer| layer.get(key));
        let below = || self.base.as_ref()?.key(key);
        found.cloned().or_else(below).filter(|record| !record.is_tombstone())
    }

    /// The newest record of a key, a tombstone if it exists no more and one is still there. O(log n).
    pub(super) fn newest(&self, key: &[u8]) -> Option<Record> {
        let found = self.layers().find_map(|layer| layer.get(key));
        found.cloned().or_else(|| self.below(key))
    }

    /// What a checkpoint says of a key.
    fn below(&self, key: &[u8]) -> Option<Record> {
        let base = self.base.as_ref()?;
        base.key(key).or_else(|| base.grave(key))
    }

    /// What there is of a key below the uppermost layer.
    pub(super) fn under_top(&self, key: &[u8]) -> Option<Record> {
        let frozen = self.frozen.as_ref().and_then(|layer| layer.get(key));
        frozen.cloned().or_else(|| self.below(key))
    }

    /// The keys of an interval that exist now, in order.
    pub fn current(&self, range: &KeyRange) -> impl Iterator<Item = Record> {
        match self.over() {
            Over::Nothing => Current::Plain(self.top.keys.range(range.bounds())),
            Over::Something => Current::Merged(Box::new(self.merged(range, false))),
        }
    }

    /// How many keys of an interval exist now. O(log n).
    pub fn count(&self, range: &KeyRange) -> usize {
        self.count_within(range.bounds())
    }

    fn count_within(&self, bounds: (Bound<&[u8]>, Bound<&[u8]>)) -> usize {
        let below = self.base.as_ref().map_or(0, |base| base.count(bounds));
        // From below: what a layer says of a key that exists below counts instead of that.
        self.layers().rev().fold(below, |count, layer| {
            (count + layer.keys.count(bounds)).saturating_sub(layer.shadows.count(bounds))
        })
    }

    /// The keys of an interval that existed at `revision`, in order, as they were.
    ///
    /// Costs O(log versions) for each key that changed since.
    pub fn at(&self, revision: i64, range: &KeyRange) -> impl Iterator<Item = Record> {
        self.merged(range, true).filter_map(move |newest| self.version_at(&newest, revision))
    }

    /// What there is below the uppermost layer.
    pub(super) fn over(&self) -> Over {
        if self.frozen.is_none() && self.base.is_none() { Over::Nothing } else { Over::Something }
    }

    /// The layers, the newest first.
    fn layers(&self) -> impl DoubleEndedIterator<Item = &Layer> {
        core::iter::once(&self.top).chain(self.frozen.as_deref())
    }

    /// The newest records of the keys of an interval; those of graves of the checkpoint only if they are wanted.
    fn merged(&self, range: &KeyRange, with_graves: bool) -> Merged<'_> {
        let bounds = range.bounds();
        Merged {
            top: self.top.entries(bounds).peekable(),
            frozen: self.frozen.as_ref().map(|layer| layer.entries(bounds).peekable()),
            base: self.base.as_ref().map(|base| base.entries(bounds, with_graves).peekable()),
        }
    }

    /// What `newest`, a record of K or D, was at `revision`; `None` if the key did not exist.
    fn version_at(&self, newest: &Record, revision: i64) -> Option<Record> {
        let mut record = newest.clone();
        while record.revision().main > revision {
            let chain = record.chain();
            // Records above `revision`, which is not compacted, are never removed (M4): a jump cannot dangle.
            let step = if chain.jump.main > revision { chain.jump } else { chain.prev };
            record = self.record(step)?;
        }
        (!record.is_tombstone()).then_some(record)
    }

    /// The record of a change, if history still has it. O(log n).
    pub fn record(&self, revision: Revision) -> Option<Record> {
        for layer in self.layers() {
            if let Some(item) = layer.history.get(&revision) {
                return Some(item.record.clone());
            }
            if layer.swept.get(&revision).is_some() {
                return None;
            }
        }
        self.base.as_ref()?.record(revision)
    }

    /// What the key of `record` was before the request that made it, as a watcher may see it: `None` if the
    /// key did not exist, or if that moment was compacted.
    pub fn before(&self, record: &Record) -> Option<Record> {
        let main = record.revision().main;
        // Dead records may wait to be swept: a client must not see how far the sweep is.
        (main > self.compacted).then(|| self.version_at(record, main - 1)).flatten()
    }

    /// History from `from` on, in order.
    pub fn history_from(&self, from: Revision) -> impl Iterator<Item = Record> {
        // Each part is older than all of the next.
        let frozen = self.frozen.as_deref();
        let base = self.base.iter().flat_map(move |base| base.history(from));
        let base = base.filter(move |it| !frozen.is_some_and(|layer| layer.has_swept(it)));
        let frozen = frozen.into_iter().flat_map(move |layer| layer.history_from(from));
        let below = base.chain(frozen).filter(|it| !self.top.has_swept(it));
        below.chain(self.top.history_from(from))
    }

    /// All that the trees hold, for snapshots: keys, graves and history follow from history alone.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        self.history_from(Revision::ZERO)
    }

    /// Checks M2, M3, M6 and the chains. O(n log n).
    ///
    /// # Panics
    /// If an invariant is broken; the message says which.
    pub fn check(&self) {
        let everything = KeyRange::prefix(bytes::Bytes::new());
        self.records().for_each(drop);
        self.merged(&everything, true).for_each(drop);
        if self.damage().is_some() {
            return; // Of what cannot be read nothing is known.
        }
        for layer in self.layers() {
            layer.check();
        }
        for ByKey(record) in self.layers().flat_map(|layer| layer.keys.iter()) {
            assert!(self.is_below_or_in_history(record), "K is in R (M3)");
        }
        for name in self.top.shadows.iter() {
            let below = self.under_top(&name.0);
            assert!(below.is_some_and(|it| !it.is_tombstone()), "a shadow is of a key below (M6)");
        }
        for ByKey(record) in self.top.keys.iter().chain(self.top.graves.iter()) {
            let below = self.under_top(record.key()).is_some_and(|it| !it.is_tombstone());
            let is_shadow = self.top.shadows.get(record.key()).is_some();
            assert_eq!(below, is_shadow, "what hides a key below is a shadow (M6)");
        }
        assert_eq!(self.current(&everything).count(), self.key_count(), "keys are counted (M6)");
        let mut bytes = 0;
        for record in self.records() {
            let chain = record.chain();
            assert!(chain.prev < record.revision(), "a chain goes back");
            assert!(chain.jump <= chain.prev, "a jump goes back at least as far");
            bytes += record.bytes();
        }
        assert_eq!(bytes, self.bytes, "the bytes are counted");
    }

    /// Whether history has a record of K; the frozen layer's may have been replaced and swept since.
    fn is_below_or_in_history(&self, record: &Record) -> bool {
        self.record(record.revision()).is_some_and(|found| found == *record)
            || self.top.get(record.key()).is_some_and(|newer| newer != record)
    }

    /// The records of one request's changes, in order.
    pub fn changes_of(&self, main: i64) -> Vec<Record> {
        let end = Revision::first_of(main + 1);
        let from = self.history_from(Revision::first_of(main));
        from.take_while(|record| record.revision() < end).collect()
    }
}

/// The keys that exist, where there is nothing to merge and where there is.
enum Current<'a> {
    Plain(cow::Iter<'a, ByKey>),
    Merged(Box<Merged<'a>>),
}

impl Iterator for Current<'_> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        match self {
            Self::Plain(keys) => keys.next().map(|item| item.0.clone()),
            Self::Merged(merged) => merged.find(|record| !record.is_tombstone()),
        }
    }
}

/// What all parts say of keys, in order; what is newer hides what is older.
struct Merged<'a> {
    top: Peekable<Entries<'a>>,
    frozen: Option<Peekable<Entries<'a>>>,
    base: Option<Peekable<base::Entries<'a>>>,
}

impl Iterator for Merged<'_> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        let Self { top, frozen, base } = self;
        let in_top = top.peek().map(|record| record.key());
        let in_frozen = frozen.as_mut().and_then(|it| it.peek()).map(|record| record.key());
        let in_base = base.as_mut().and_then(|it| it.peek()).map(Record::key);
        let least = [in_top, in_frozen, in_base].into_iter().flatten().min()?;
        let [in_top, in_frozen, in_base] =
            [in_top, in_frozen, in_base].map(|key| key == Some(least));
        // All who are at this key go on; the newest of them says what it is.
        let base = if in_base { base.as_mut().and_then(Iterator::next) } else { None };
        let frozen = if in_frozen { frozen.as_mut().and_then(Iterator::next) } else { None };
        let top = if in_top { top.next() } else { None };
        top.or(frozen).cloned().or(base)
    }
}
