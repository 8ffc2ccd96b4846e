//! Which watchers a changed key concerns: single keys in an ordered map, intervals in [`Intervals`].
//!
//! Watchers of the same keys share an entry, which has two lists of them: those that are handed changes as they
//! are published, and those that are behind. So a change costs nothing for watchers of other keys, and a crowd
//! that is behind does not slow down what is live.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::ops::Bound;

use bytes::Bytes;

use super::arena::Slot;
use super::intervals::{Intervals, Node};
use super::watcher::Watcher;
use crate::api::KeyRange;
use crate::rng::Rng;

/// All that is watched.
#[derive(Debug)]
pub(super) struct Index {
    keys: BTreeMap<Key, Lists>,
    ranges: Intervals<Lists>,
}

/// A key, in its entry and in the watchers that must find it again. Shared, because memory per idle watcher
/// counts and keys are most of it; nobody changes it.
type Key = Arc<[u8]>;

/// Where in the index a watcher hangs.
#[derive(Debug)]
pub(super) enum Place {
    /// At a single key.
    Key(Key),
    /// At an interval.
    Range(Slot<Node<Lists>>),
}

/// The first watchers of an entry's two lists.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lists {
    /// Watchers that are handed what is published.
    pub(super) live: Option<Slot<Watcher>>,
    /// Watchers that read history.
    pub(super) behind: Option<Slot<Watcher>>,
}

impl Index {
    /// Nothing is watched.
    pub(super) const fn new(rng: Rng) -> Self {
        Self { keys: BTreeMap::new(), ranges: Intervals::new(rng) }
    }

    /// The place of an interval. Whoever asks hangs a watcher there, and calls [`Index::leave`] in the end.
    pub(super) fn enter(&mut self, range: &KeyRange) -> Place {
        let Some(key) = range.as_single() else {
            let end = match range.bounds().1 {
                Bound::Excluded(end) => Some(end),
                Bound::Unbounded => None,
                Bound::Included(_) => unreachable!("only a single key includes its end"),
            };
            return Place::Range(self.ranges.find_or_insert(range.start(), end));
        };
        if let Some((key, _)) = self.keys.get_key_value(key) {
            return Place::Key(Arc::clone(key));
        }
        let key = Arc::from(key);
        self.keys.insert(Arc::clone(&key), Lists::default());
        Place::Key(key)
    }

    /// The interval of a place.
    pub(super) fn range(&self, place: &Place) -> KeyRange {
        match place {
            Place::Key(key) => KeyRange::single(Bytes::copy_from_slice(key)),
            Place::Range(slot) => {
                let (start, end) = self.ranges.interval(*slot);
                let end = Bytes::copy_from_slice(end.unwrap_or(&[0]));
                KeyRange::new(Bytes::copy_from_slice(start), end)
            }
        }
    }

    /// The lists of a place.
    pub(super) fn lists_mut(&mut self, place: &Place) -> &mut Lists {
        match place {
            Place::Key(key) => self.keys.get_mut(key).expect("a place lasts while it is used"),
            Place::Range(slot) => self.ranges.value_mut(*slot),
        }
    }

    /// Drops a place if no watcher hangs there any more.
    pub(super) fn leave(&mut self, place: &Place) {
        if !self.lists_mut(place).is_empty() {
            return;
        }
        match place {
            Place::Key(key) => drop(self.keys.remove(key)),
            Place::Range(slot) => drop(self.ranges.remove(*slot)),
        }
    }

    /// Visits the lists of every place that holds `key`. Costs O(log n) comparisons, and as much again for each
    /// interval found, at most.
    pub(super) fn stab(&self, key: &[u8], visit: &mut impl FnMut(&Lists)) {
        if let Some(lists) = self.keys.get(key) {
            visit(lists);
        }
        self.ranges.stab(key, visit);
    }

    /// Checks the structure. O(n log n).
    ///
    /// # Panics
    /// If it is broken.
    pub(super) fn check(&self, lists_of: &mut impl FnMut(&Lists)) {
        self.ranges.check();
        self.keys.values().for_each(&mut *lists_of);
        self.ranges.values().for_each(lists_of);
    }
}

impl Lists {
    /// Whether nobody hangs here.
    pub(super) const fn is_empty(&self) -> bool {
        self.live.is_none() && self.behind.is_none()
    }
}
