//! Handing changes to live watchers as they are published, one response per revision.

use alloc::vec::Vec;
use core::mem;

use super::arena::Slot;
use super::hub::{Hub, main_of};
use super::watcher::{Position, Watcher};
use super::{Event, Response};
use crate::convert::to_usize;
use crate::mvcc::{Change, Record};
use crate::state_machine::Changes;

/// A watcher, and the place of a change that concerns it.
pub(super) type Hit = (Slot<Watcher>, u32);

impl Hub {
    /// Hands out the changes of the revisions that follow, a revision at a time.
    pub(super) fn hand_out(&mut self, changes: &[Changes]) {
        let mut hits = Vec::new();
        for changes in changes {
            let main = main_of(changes);
            assert_eq!(main, self.revision + 1, "revisions follow each other (M1)");
            self.revision = main;
            self.find(changes, &mut hits);
            for hits in hits.chunk_by(|a, b| a.0 == b.0) {
                self.hand_over(changes, hits);
            }
        }
    }

    /// Finds the live watchers of a revision's changes, by watcher and then in order.
    fn find(&self, changes: &[Change], hits: &mut Vec<Hit>) {
        hits.clear();
        for (place, change) in (0..).zip(changes) {
            self.index.stab(change.record.key(), &mut |lists| {
                hits.extend(self.watchers.list(lists.live).map(|(slot, _)| (slot, place)));
            });
        }
        // A watcher is found once for each change.
        if changes.len() > 1 {
            hits.sort_unstable();
        }
    }

    /// Queues one watcher's share of a revision, or notes that it is owed (W1, W2).
    fn hand_over(&mut self, changes: &[Change], hits: &[Hit]) {
        let slot = hits[0].0;
        let watcher = &self.watchers[slot];
        let Position::Live { from } = watcher.position else {
            unreachable!("who hangs on a live list is live (W3)");
        };
        if self.revision < from {
            return;
        }
        let wishes = watcher.wishes;
        let change_of = |hit: &Hit| &changes[to_usize(u64::from(hit.1))];
        let wanted = hits.iter().map(change_of).filter(|change| wishes.want(&change.record));
        if wanted.clone().next().is_none() {
            return;
        }
        if !self.has_room(watcher.stream) {
            return self.fall_behind(slot, self.revision);
        }
        let event_of = |change: &Change| {
            wishes.event(&change.record, || before_request(change, changes).cloned())
        };
        let events = wanted.map(event_of).collect();
        self.send_events(slot, events);
    }

    /// Queues events of one watcher as one response, or in parts if it takes parts and they are large.
    pub(super) fn send_events(&mut self, slot: Slot<Watcher>, events: Vec<Event>) {
        assert!(!events.is_empty(), "a response without events would be a progress notification");
        let watcher = &mut self.watchers[slot];
        watcher.quiet = false;
        let (stream, cuts) = (watcher.stream, watcher.wishes.fragments());
        let mut part = Response {
            watch_id: watcher.id,
            revision: self.revision,
            events,
            ..Response::default()
        };
        let part_bytes = self.limits.watch_fragment_bytes;
        if !cuts || part.encoded_len() < part_bytes {
            return self.send(stream, part);
        }
        let bare = Response { fragment: true, events: Vec::new(), ..part.clone() };
        let bare_bytes = bare.encoded_len();
        let mut bytes = bare_bytes;
        for event in mem::take(&mut part.events) {
            let event_bytes = event.encoded_len();
            // A part has one event at least (etcd api/v3rpc/watch.go, sendFragments).
            if !part.events.is_empty() && bytes + event_bytes >= part_bytes {
                part.fragment = true;
                self.send(stream, mem::replace(&mut part, Response { ..bare.clone() }));
                bytes = bare_bytes;
            }
            bytes += event_bytes;
            part.events.push(event);
        }
        part.fragment = false;
        self.send(stream, part);
    }

    /// Goes on at a revision without having seen what led there: every watcher that it may concern falls behind.
    /// O(watchers).
    pub(super) fn skip_to(&mut self, revision: i64) {
        let missed = self.revision + 1;
        self.revision = revision;
        let owed = |(slot, watcher): (Slot<Watcher>, &Watcher)| match watcher.position {
            Position::Live { from } if from <= revision => Some((slot, from.max(missed))),
            Position::Live { .. } | Position::Behind { .. } => None,
        };
        let owed: Vec<_> = self.watchers.iter().filter_map(owed).collect();
        for (slot, next) in owed {
            self.fall_behind(slot, next);
        }
    }
}

/// What a key was before the request that made `changes`, of which `change` is one.
fn before_request<'a>(change: &'a Change, changes: &'a [Change]) -> Option<&'a Record> {
    let main = change.record.revision().main;
    let before = change.before.as_ref()?;
    if before.revision().main < main {
        return Some(before);
    }
    // The request had changed the key already: the first of these changes knows.
    let first = changes.iter().find(|other| other.record.key() == change.record.key());
    first.and_then(|first| first.before.as_ref())
}
