//! The order of everything: the log of all changes by revision, put together from what all watchers saw.
//!
//! The store numbers its changes, so the order in which they took effect need not be searched for. What is there at a
//! revision follows from the log, and every answer names the revision that it shows.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::history::{Batch, Entry, Event, Guard, History, Revision, Span};

/// All changes.
#[derive(Debug, Default)]
pub(super) struct Log {
    revisions: BTreeMap<Revision, Vec<Event>>,
    /// The versions of each key, by revision; nothing is a deletion.
    keys: BTreeMap<Bytes, BTreeMap<Revision, Option<Entry>>>,
    /// Revisions about which two watchers were told different things: the slot of the second.
    disputed: Vec<(Revision, usize)>,
}

impl Log {
    /// What the watchers of a history saw.
    pub(super) fn new(history: &History) -> Self {
        let mut log = Self::default();
        for watched in &history.watched {
            for (revision, events) in revisions(&watched.batches) {
                match log.revisions.get(&revision) {
                    None => {
                        log.revisions.insert(revision, events);
                    }
                    Some(known) if same(known, &events) => {}
                    // Half of the events of a revision is found elsewhere; the longer half is the better guess.
                    Some(known) => {
                        log.disputed.push((revision, watched.slot));
                        if known.len() < events.len() {
                            log.revisions.insert(revision, events);
                        }
                    }
                }
            }
        }
        for (revision, events) in &log.revisions {
            for event in events {
                let state = (!event.deleted).then(|| event.entry.clone());
                log.keys.entry(event.entry.key.clone()).or_default().insert(*revision, state);
            }
        }
        log
    }

    /// All revisions with their events.
    pub(super) fn revisions(&self) -> &BTreeMap<Revision, Vec<Event>> {
        &self.revisions
    }

    /// Where watchers disagreed.
    pub(super) fn disputed(&self) -> &[(Revision, usize)] {
        &self.disputed
    }

    /// What a key was at a revision.
    pub(super) fn at(&self, key: &Bytes, revision: Revision) -> Option<&Entry> {
        self.keys.get(key)?.range(..=revision).next_back()?.1.as_ref()
    }

    /// What was there at a revision, in the order of keys.
    pub(super) fn range(&self, span: &Span, revision: Revision) -> Vec<&Entry> {
        match span {
            Span::Key(key) => self.at(key, revision).into_iter().collect(),
            Span::Prefix(prefix) => {
                let within = self.keys.range(prefix.clone()..span.range_end());
                within.filter_map(|(key, _)| self.at(key, revision)).collect()
            }
        }
    }

    /// Whether a guard held at a revision.
    pub(super) fn holds(&self, guard: &Guard, revision: Revision) -> bool {
        match guard {
            Guard::Value(key, value) => {
                self.at(key, revision).is_some_and(|entry| entry.value == *value)
            }
            Guard::Modified(key, modified) => {
                self.at(key, revision).map_or(0, |entry| entry.modified) == *modified
            }
        }
    }
}

/// The events by revision, whatever the answers in which they came.
fn revisions(batches: &[Batch]) -> BTreeMap<Revision, Vec<Event>> {
    let mut found: BTreeMap<Revision, Vec<Event>> = BTreeMap::new();
    for event in batches.iter().flat_map(|batch| &batch.events) {
        let events = found.entry(event.entry.modified).or_default();
        // One that is told twice is a fault of its own.
        if !events.iter().any(|known| known.entry.key == event.entry.key) {
            events.push(event.clone());
        }
    }
    found
}

/// Whether two watchers were told the same of a revision: what a key was before is judged for each alone.
fn same(one: &[Event], other: &[Event]) -> bool {
    let told = |event: &Event| (event.deleted, event.entry.clone());
    one.len() == other.len() && one.iter().map(told).eq(other.iter().map(told))
}
