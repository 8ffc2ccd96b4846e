//! Changing the key space: one request at a time, each under its own revision.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;
use core::ops::Deref;

use super::base::Base;
use super::compact::Sweep;
use super::layer::{Layer, Name, Over};
use super::record::{ByKey, ByRevision, Chain, Parts};
use super::{Record, Revision, View};
use crate::api::KeyRange;
use crate::ids::LeaseId;

/// The owner of the key space: the only one who changes it.
#[derive(Clone, Debug, Default)]
pub struct Store {
    pub(super) view: View,
    pub(super) sweep: Option<Sweep>,
}

/// One change that a request made, and what it replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What is now: a put, or a tombstone.
    pub record: Record,
    /// What was just before, if the key existed.
    pub before: Option<Record>,
}

/// A request at work. Reads through it see what it has written.
#[derive(Debug)]
pub struct Write<'a> {
    store: &'a mut Store,
    changes: Vec<Change>,
}

impl Deref for Store {
    type Target = View;

    fn deref(&self) -> &View {
        &self.view
    }
}

impl Store {
    /// A handle on the key space as it is now.
    pub fn view(&self) -> View {
        self.view.clone()
    }

    /// Begins a request. If it changes nothing, it leaves no trace.
    pub fn begin(&mut self) -> Write<'_> {
        Write { store: self, changes: Vec::new() }
    }

    /// Puts a record where it belongs. `newest` is what there is of its key, dead or alive, wherever it is.
    fn insert(&mut self, record: Record, newest: Option<&Record>) {
        let view = &mut self.view;
        view.bytes += record.bytes();
        let over = view.over();
        let top = &mut view.top;
        let lease = newest.map_or(LeaseId::NONE, Record::lease);
        if lease != record.lease() {
            top.attach(lease, record.key(), false, over);
            top.attach(record.lease(), record.key(), true, over);
        }
        // What this layer says of a key already, says what is below, too.
        if over == Over::Something
            && let Some(below) = newest.filter(|below| top.get(below.key()).is_none())
        {
            let name = Name(Arc::from(below.key()));
            if below.is_tombstone() {
                top.opened.insert(name);
            } else {
                top.shadows.insert(name);
            }
        }
        top.history.insert(ByRevision::from(record.clone()));
        if record.is_tombstone() {
            top.keys.remove(record.key());
            top.graves.insert(ByKey(record));
        } else {
            // Few keys were deleted before: look before paying for a removal.
            if !top.graves.is_empty() {
                top.graves.remove(record.key());
            }
            top.keys.insert(ByKey(record));
        }
    }

    /// Begins a checkpoint: what has changed since the one before, which stays as it is from now on. What changes
    /// later lies over it.
    ///
    /// # Panics
    /// If one was begun and neither ended nor given up.
    pub fn freeze(&mut self) -> Arc<Layer> {
        assert!(self.view.frozen.is_none(), "one checkpoint is made at a time");
        let frozen = Arc::new(mem::take(&mut self.view.top));
        self.view.frozen = Some(Arc::clone(&frozen));
        frozen
    }

    /// Ends a checkpoint: what was frozen is in `base` now.
    ///
    /// # Panics
    /// If none was begun.
    pub fn rebase(&mut self, base: Arc<Base>) {
        assert!(self.view.frozen.take().is_some(), "a checkpoint was begun");
        self.view.base = Some(base);
    }

    /// A key space that stands at a checkpoint, whose records take `bytes`.
    pub fn on(base: Arc<Base>, sweep: Option<Sweep>, bytes: u64) -> Self {
        let facts = base.meta().facts;
        let (revision, compacted) = (facts.revision, facts.compacted);
        let view = View { base: Some(base), revision, compacted, bytes, ..View::default() };
        Self { view, sweep }
    }
}

/// A key space on its way out of its history.
#[derive(Debug, Default)]
pub struct Restore {
    store: Store,
    last: Revision,
}

impl Restore {
    /// Expects the history of a key space that stands at these revisions.
    pub fn new(revision: i64, compacted: i64) -> Self {
        let mut restore = Self::default();
        restore.store.view.revision = revision;
        restore.store.view.compacted = compacted;
        restore
    }

    /// Takes the next record that [`View::history_from`] gave; `None` if it cannot come next.
    pub fn push(&mut self, record: Record) -> Option<()> {
        let revision = record.revision();
        if revision <= self.last || revision.main > self.store.view.revision {
            return None;
        }
        self.last = revision;
        let is_first = record.chain().prev == Revision::ZERO;
        let newest = if is_first { None } else { self.store.view.newest(record.key()) };
        self.store.insert(record, newest.as_ref());
        Some(())
    }

    /// Where a version of this key stands that comes next, for a history that was written without chains.
    pub fn next_chain(&self, key: &[u8]) -> Chain {
        let view = &self.store.view;
        view.newest(key)
            .map_or_else(Chain::default, |newest| Chain::after(&newest, |jump| view.record(jump)))
    }

    /// The key space, once the last record was taken.
    pub fn finish(self) -> Store {
        self.store
    }
}

impl Write<'_> {
    /// The key space with what was written so far.
    pub fn view(&self) -> &View {
        &self.store.view
    }

    /// The revision that readers see now: the new one as soon as something was written.
    pub fn revision(&self) -> i64 {
        self.store.view.revision
    }

    /// Writes a key and returns what it was before.
    pub fn put(&mut self, key: &[u8], value: &[u8], lease: LeaseId) -> Option<Record> {
        let revision = self.next_revision();
        let newest = self.store.view.newest(key);
        let before = newest.as_ref().filter(|newest| !newest.is_tombstone()).cloned();
        let (create_revision, version) = match &before {
            Some(before) => (before.create_revision(), before.version() + 1),
            None => (revision.main, 1),
        };
        let chain = self.chain_after(newest.as_ref());
        let parts = Parts { revision, key, value, create_revision, version, lease, chain };
        self.write(Record::new(&parts), newest);
        before
    }

    /// Deletes the keys of an interval, in order, and returns what they were.
    pub fn delete_range(&mut self, range: &KeyRange) -> Vec<Record> {
        let found: Vec<Record> = self.store.view.current(range).collect();
        for before in &found {
            let parts = Parts {
                revision: self.next_revision(),
                key: before.key(),
                value: &[],
                create_revision: 0,
                version: 0,
                lease: LeaseId::NONE,
                chain: self.chain_after(Some(before)),
            };
            self.write(Record::new(&parts), Some(before.clone()));
        }
        found
    }

    /// Ends the request: its changes, in order, none if it changed nothing.
    pub fn finish(self) -> Vec<Change> {
        self.changes
    }

    /// The revision of the next change (M1).
    fn next_revision(&self) -> Revision {
        let main = self.store.view.revision + i64::from(self.changes.is_empty());
        let sub = u32::try_from(self.changes.len()).expect("requests are limited");
        Revision { main, sub }
    }

    /// Where the version after the newest one of a key stands. What lies below the compact revision counts as gone,
    /// whether it was swept or not: members sweep at their own pace and still write the same bytes.
    fn chain_after(&self, newest: Option<&Record>) -> Chain {
        let view = &self.store.view;
        let stays = |revision: Revision| revision.main >= view.compacted;
        let newest = newest.filter(|it| !it.is_tombstone() || stays(it.revision()));
        newest.map_or_else(Chain::default, |newest| {
            Chain::after(newest, |jump| view.record(jump).filter(|_| stays(jump)))
        })
    }

    fn write(&mut self, record: Record, newest: Option<Record>) {
        self.store.view.revision = record.revision().main;
        self.store.insert(record.clone(), newest.as_ref());
        let before = newest.filter(|newest| !newest.is_tombstone());
        self.changes.push(Change { record, before });
    }
}
