//! Reading history for watchers that are behind, a slice at a time.
//!
//! A slice begins at the cursor of whoever waits longest and goes over a bounded piece of history, once, for
//! all who wait as long and whose cursors lie in it. Then it is the turn of the others: so neither does one who is
//! very far behind hold up those who are nearly there, nor the other way round. Whoever reaches the end is live.

use alloc::vec::Vec;
use core::ops::Range;

use super::arena::Slot;
use super::hub::{Hub, overtaken};
use super::publish::Hit;
use super::watcher::{Position, Wait, Watcher};
use crate::convert::to_usize;
use crate::mvcc::{Record, Revision, View};

/// Records that a slice looks at, more only to finish a revision. Bounds the revisions of a response, too, as
/// etcd does (`storage/mvcc/watcher_group.go`), and takes some 0.2 ms.
const SLICE_RECORDS_MAX: usize = 1000;

/// As many revisions, so that every cursor in the window is likely to be reached.
const SLICE_REVISIONS_MAX: i64 = 1000;

/// Watchers that a slice serves, or finds that it cannot serve.
const SLICE_WATCHERS_MAX: usize = 1000;

/// Events that a slice finds, more only to finish a revision. They cost more than records.
const SLICE_HITS_MAX: usize = 4000;

/// A catching-up watcher's response has at most this part of its stream's credit, more only to finish a
/// revision: with half of the credit for catching up, four watchers do so side by side.
const RESPONSES_PER_CREDIT: usize = 8;

/// A piece of history, and what those who are served want of it.
struct Slice<'a> {
    view: &'a View,
    /// The records that anybody wants.
    found: Vec<Found>,
    /// By watcher, then in order of revision.
    hits: Vec<Hit>,
    /// The revision that was not looked at any more.
    end: i64,
}

/// A record, and what was before it, once somebody wanted to know.
struct Found {
    record: Record,
    before: Option<Option<Record>>,
}

impl Hub {
    /// Serves one slice.
    pub(super) fn catch_up(&mut self, view: &View) {
        let mut serving = self.gather(view);
        let Some(&(from, _)) = serving.first() else { return };
        let mut slice = self.scan(view, from);
        serving.sort_unstable_by_key(|(_, slot)| *slot);
        let hits = core::mem::take(&mut slice.hits);
        let mut rest = hits.as_slice();
        for (next, slot) in serving {
            let count = rest.iter().take_while(|hit| hit.0 == slot).count();
            let (hits, others) = rest.split_at(count);
            rest = others;
            self.serve(slot, next, hits, &mut slice);
        }
        assert!(rest.is_empty(), "only who is served was looked for");
    }

    /// Takes those who are served next out of the queue, with their cursors, in the order of these.
    fn gather(&mut self, view: &View) -> Vec<(i64, Slot<Watcher>)> {
        let mut serving = Vec::new();
        let mut window: Option<(u32, Range<i64>)> = None;
        for _ in 0..SLICE_WATCHERS_MAX {
            let Some(&(turn, next, slot)) = self.due.first() else { break };
            let fits =
                |(this, cursors): &(u32, Range<i64>)| *this == turn && cursors.contains(&next);
            if !window.as_ref().is_none_or(fits) {
                break;
            }
            let Watcher { id, stream, .. } = self.watchers[slot];
            if next < view.compacted() {
                let told = overtaken(id, view);
                self.end(slot);
                self.send(stream, told);
                continue;
            }
            self.due.pop_first();
            if !self.has_room_to_catch_up(stream) {
                self.wait(slot, next, turn);
                continue;
            }
            self.watchers[slot].position = Position::Behind { next, turn, wait: Wait::Serving };
            serving.push((next, slot));
            self.turn = turn;
            window.get_or_insert_with(|| (turn, next..next.saturating_add(SLICE_REVISIONS_MAX)));
        }
        serving
    }

    /// Goes over history from a revision on and finds what those who are served want of it.
    fn scan<'a>(&self, view: &'a View, from: i64) -> Slice<'a> {
        let (mut found, mut hits) = (Vec::new(), Vec::new());
        let mut end = self.revision + 1;
        let (mut main, mut scanned) = (from, 0);
        for record in view.history_from(Revision::first_of(from)) {
            let revision = record.revision();
            if revision.main > main {
                if scanned >= SLICE_RECORDS_MAX || hits.len() >= SLICE_HITS_MAX {
                    end = revision.main;
                    break;
                }
                main = revision.main;
            }
            scanned += 1;
            let place = u32::try_from(found.len()).expect("no more than fit in memory");
            let hits_before = hits.len();
            self.index.stab(record.key(), &mut |lists| {
                let behind = self.watchers.list(lists.behind);
                let owed = behind.filter(|(_, watcher)| watcher.is_served(&record));
                hits.extend(owed.map(|(slot, _)| (slot, place)));
            });
            if hits.len() > hits_before {
                found.push(Found { record, before: None });
            }
        }
        hits.sort_unstable();
        Slice { view, found, hits, end }
    }

    /// Queues what a slice found for a watcher, as far as there is room, and moves its cursor (W2).
    fn serve(&mut self, slot: Slot<Watcher>, next: i64, hits: &[Hit], slice: &mut Slice<'_>) {
        let reached = if next < slice.end { self.queue(slot, hits, slice) } else { next };
        assert!(reached >= next, "a cursor goes on (G1)");
        if reached > self.revision {
            return self.go_live(slot);
        }
        let Position::Behind { turn, .. } = self.watchers[slot].position else {
            unreachable!("who is served is behind");
        };
        // Who got nothing, because others of its stream took the room, comes before them next time.
        let turn = if reached > next { self.turn.saturating_add(1) } else { turn };
        self.wait(slot, reached, turn);
    }

    /// Queues a watcher's hits as responses of bounded size, none of which splits a revision (G4), while there
    /// is room; returns what the watcher is owed next.
    fn queue(&mut self, slot: Slot<Watcher>, hits: &[Hit], slice: &mut Slice<'_>) -> i64 {
        let response_bytes = self.limits.watch_credit_bytes / RESPONSES_PER_CREDIT;
        let Watcher { stream, wishes, .. } = self.watchers[slot];
        let mut hits = hits.iter().map(|hit| to_usize(u64::from(hit.1))).peekable();
        while let Some(&first) = hits.peek() {
            let mut main = slice.found[first].record.revision().main;
            if !self.has_room_to_catch_up(stream) {
                return main;
            }
            let (mut events, mut bytes) = (Vec::new(), 0);
            while let Some(&place) = hits.peek() {
                let Found { record, before } = &mut slice.found[place];
                if record.revision().main > main && bytes >= response_bytes {
                    break;
                }
                main = record.revision().main;
                let before = || before.get_or_insert_with(|| slice.view.before(record)).clone();
                let event = wishes.event(record, before);
                bytes += event.encoded_len();
                events.push(event);
                hits.next();
            }
            self.send_events(slot, events);
        }
        slice.end
    }

    /// Hands a watcher what is published from now on.
    fn go_live(&mut self, slot: Slot<Watcher>) {
        let lists = self.index.lists_mut(&self.watchers[slot].place);
        self.watchers.unlink(&mut lists.behind, slot);
        self.watchers.link(&mut lists.live, slot);
        self.watchers[slot].position = Position::Live { from: 0 };
    }
}

impl Watcher {
    /// Whether this watcher is being served and owed a change of one of its keys.
    fn is_served(&self, record: &Record) -> bool {
        match self.position {
            Position::Behind { next, wait: Wait::Serving, .. } => {
                next <= record.revision().main && self.wishes.want(record)
            }
            Position::Live { .. } | Position::Behind { wait: Wait::Due | Wait::Parked, .. } => {
                false
            }
        }
    }
}
