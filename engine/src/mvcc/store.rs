//! Changing the key space: one request at a time, each under its own revision.

use alloc::vec::Vec;
use core::ops::Deref;

use super::compact::Sweep;
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

    /// Puts a record where it belongs in all three trees.
    fn insert(&mut self, record: Record) {
        let view = &mut self.view;
        view.bytes += record.bytes();
        view.history.insert(ByRevision::from(record.clone()));
        if record.is_tombstone() {
            view.keys.remove(record.key());
            view.graves.insert(ByKey(record));
        } else {
            // Few keys were deleted before: look before paying for a removal.
            if !view.graves.is_empty() {
                view.graves.remove(record.key());
            }
            view.keys.insert(ByKey(record));
        }
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
        self.store.insert(record);
        Some(())
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
        let view = &self.store.view;
        let before = view.get(key).cloned();
        let (create_revision, version) = match &before {
            Some(before) => (before.create_revision(), before.version() + 1),
            None => (revision.main, 1),
        };
        let chain = self.chain_of(key, before.as_ref());
        let parts = Parts { revision, key, value, create_revision, version, lease, chain };
        self.write(Record::new(&parts), before.clone());
        before
    }

    /// Deletes the keys of an interval, in order, and returns what they were.
    pub fn delete_range(&mut self, range: &KeyRange) -> Vec<Record> {
        let found: Vec<Record> = self.store.view.current(range).cloned().collect();
        for before in &found {
            let parts = Parts {
                revision: self.next_revision(),
                key: before.key(),
                value: &[],
                create_revision: 0,
                version: 0,
                lease: LeaseId::NONE,
                chain: self.chain_of(before.key(), Some(before)),
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

    /// Where the next version of a key stands. What lies below the compact revision counts as gone, whether it
    /// was swept or not: members sweep at their own pace and still write the same bytes.
    fn chain_of(&self, key: &[u8], before: Option<&Record>) -> Chain {
        let view = &self.store.view;
        let stays = |revision: Revision| revision.main >= view.compacted;
        let grave =
            || view.graves.get(key).map(|item| &item.0).filter(|grave| stays(grave.revision()));
        before.or_else(grave).map_or_else(Chain::default, |newest| {
            Chain::after(newest, |jump| view.record(jump).filter(|_| stays(jump)).cloned())
        })
    }

    fn write(&mut self, record: Record, before: Option<Record>) {
        self.store.view.revision = record.revision().main;
        self.store.insert(record.clone());
        self.changes.push(Change { record, before });
    }
}
