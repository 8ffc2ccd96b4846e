//! A layer as changes of the trees on disk: what a checkpoint merges, in its order, a slice at a time.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Bound;

use super::cell::{encode_record, encode_version, history_key};
use super::layer::{Attachment, Layer, Name};
use super::record::{ByKey, ByRevision};
use super::{Record, Revision};
use crate::cow::{CowTree, Item};
use crate::storage::TreeId;
use crate::storage::checkpoint::Change;
use crate::storage::merge::Op;

/// The changes of a layer, tree by tree and by key.
#[derive(Debug)]
pub struct Batch {
    layer: Arc<Layer>,
    next: Next,
}

/// A change that owns its bytes; without a value, the key is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// The tree.
    pub tree: TreeId,
    /// The key.
    pub key: Vec<u8>,
    /// Its new value.
    pub value: Option<Vec<u8>>,
}

/// Where the next slice begins.
#[derive(Debug)]
enum Next {
    Keys(Option<Arc<[u8]>>),
    Graves(Option<Arc<[u8]>>),
    Swept(Option<Revision>),
    History(Option<Revision>),
    Leased(Option<(u64, Arc<[u8]>)>),
    Nothing,
}

impl Owned {
    /// The change as a checkpoint takes it.
    pub fn as_change(&self) -> Change<'_> {
        let op = self.value.as_ref().map_or(Op::Delete, |value| Op::Put(value));
        Change { tree: self.tree, key: &self.key, op }
    }
}

impl Batch {
    /// All changes of a layer that was frozen.
    pub fn new(layer: Arc<Layer>) -> Self {
        Self { layer, next: Next::Keys(None) }
    }

    /// The changes that come of the next `entries_max` entries of the layer, which may be none; `None` if there are
    /// no more entries.
    pub fn slice(&mut self, entries_max: usize) -> Option<Vec<Owned>> {
        let layer = &self.layer;
        let changes;
        (changes, self.next) = match &self.next {
            Next::Keys(after) => {
                let bounds = (after_of(after.as_deref()), Bound::Unbounded);
                let entries: Vec<&Record> = layer.entries(bounds).take(entries_max).collect();
                let last = last_of(&entries, entries_max, |record| Arc::from(record.key()));
                let changes = entries.into_iter().filter_map(|record| key_change(layer, record));
                let next = last.map_or(Next::Graves(None), |last| Next::Keys(Some(last)));
                (changes.collect(), next)
            }
            Next::Graves(after) => {
                let after = after_of(after.as_deref());
                let (changes, last) = grave_changes(layer, after, entries_max);
                (changes, last.map_or(Next::Swept(None), |last| Next::Graves(Some(last))))
            }
            Next::Swept(after) => {
                let entries = slice(&layer.swept, after.as_ref(), entries_max);
                let last = last_of(&entries, entries_max, |revision| **revision);
                let tree = TreeId::History;
                let gone = |revision: &Revision| history_key(*revision).to_vec();
                let changes =
                    entries.into_iter().map(|it| Owned { tree, key: gone(it), value: None });
                let next = last.map_or(Next::History(None), |last| Next::Swept(Some(last)));
                (changes.collect(), next)
            }
            Next::History(after) => {
                let entries = slice(&layer.history, after.as_ref(), entries_max);
                let last = last_of(&entries, entries_max, |item| item.record.revision());
                let changes = entries.into_iter().map(history_change).collect();
                (changes, last.map_or(Next::Leased(None), |last| Next::History(Some(last))))
            }
            Next::Leased(after) => {
                let entries = slice(&layer.leased, after.as_ref(), entries_max);
                let last = last_of(&entries, entries_max, |item| Item::key(*item).clone());
                let changes = entries.into_iter().map(lease_change).collect();
                (changes, last.map_or(Next::Nothing, |last| Next::Leased(Some(last))))
            }
            Next::Nothing => return None,
        };
        Some(changes)
    }
}

/// A key that exists gets its version; one that does not any more is deleted, if it was there.
fn key_change(layer: &Layer, record: &Record) -> Option<Owned> {
    let key = record.key().to_vec();
    if !record.is_tombstone() {
        let mut value = Vec::new();
        encode_version(record, &mut value);
        return Some(Owned { tree: TreeId::Keys, key, value: Some(value) });
    }
    let was_there = layer.shadows.get(&key).is_some();
    was_there.then_some(Owned { tree: TreeId::Keys, key, value: None })
}

/// A grave gets its tombstone, unless that was swept since; one that was opened is no more. Of a key that is both, the
/// grave is the newer.
fn grave_changes(
    layer: &Layer,
    after: Bound<&[u8]>,
    entries_max: usize,
) -> (Vec<Owned>, Option<Arc<[u8]>>) {
    let bounds = (after, Bound::Unbounded);
    let mut graves = layer.graves.range(bounds).peekable();
    let mut opened = layer.opened.range(bounds).peekable();
    let mut changes = Vec::new();
    let mut last = None;
    for _ in 0..entries_max {
        let at = match (graves.peek(), opened.peek()) {
            (Some(ByKey(grave)), Some(Name(key))) => grave.key().min(key),
            (Some(ByKey(grave)), None) => grave.key(),
            (None, Some(Name(key))) => key,
            (None, None) => return (changes, None),
        };
        last = Some(Arc::from(at));
        let key = at.to_vec();
        let was_opened = opened.next_if(|name| *name.0 == *key).is_some();
        let grave = graves.next_if(|item| item.0.key() == key);
        let tombstone =
            grave.map(|item| &item.0).filter(|it| layer.history.get(&it.revision()).is_some());
        if let Some(tombstone) = tombstone {
            let mut value = Vec::new();
            encode_version(tombstone, &mut value);
            changes.push(Owned { tree: TreeId::Graves, key, value: Some(value) });
        } else if was_opened {
            changes.push(Owned { tree: TreeId::Graves, key, value: None });
        }
    }
    (changes, last)
}

fn history_change(item: &ByRevision) -> Owned {
    let mut value = Vec::new();
    encode_record(&item.record, &mut value);
    let key = history_key(item.record.revision()).to_vec();
    Owned { tree: TreeId::History, key, value: Some(value) }
}

fn lease_change(attachment: &Attachment) -> Owned {
    let mut key = attachment.lease().0.to_be_bytes().to_vec();
    key.extend_from_slice(attachment.key());
    let value = attachment.attached.then(Vec::new);
    Owned { tree: TreeId::Leased, key, value }
}

fn after_of<K: ?Sized>(after: Option<&K>) -> Bound<&K> {
    after.map_or(Bound::Unbounded, Bound::Excluded)
}

fn slice<'a, T: Item>(
    tree: &'a CowTree<T>,
    after: Option<&T::Key>,
    entries_max: usize,
) -> Vec<&'a T> {
    tree.range((after_of(after), Bound::Unbounded)).take(entries_max).collect()
}

/// Where a slice ended, if it is full: there may be more.
fn last_of<T, K>(entries: &[T], entries_max: usize, key: impl Fn(&T) -> K) -> Option<K> {
    if entries.len() < entries_max { None } else { entries.last().map(key) }
}
