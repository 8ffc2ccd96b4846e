//! One watcher: what it wants, and how far it is.

use super::Event;
use super::arena::{Arena, Slot};
use super::index::Place;
use super::stream::Stream;
use crate::api::etcdserverpb::WatchCreateRequest;
use crate::api::etcdserverpb::watch_create_request::FilterType;
use crate::mvcc::Record;

/// A watcher. There may be millions, nearly all of them idle: what a stream can hold for all of its watchers is
/// not here.
#[derive(Debug)]
pub(super) struct Watcher {
    /// Its name on its stream.
    pub(super) id: i64,
    /// Its stream.
    pub(super) stream: Slot<Stream>,
    /// How far it is.
    pub(super) position: Position,
    /// Where it hangs in the index: on the list that `position` says.
    pub(super) place: Place,
    /// What it wants.
    pub(super) wishes: Wishes,
    /// Nothing was sent to it since its stream's last tick.
    pub(super) quiet: bool,
    /// The one before it on that list.
    previous: Option<Slot<Self>>,
    /// The one behind it on that list.
    next: Option<Slot<Self>>,
}

const _: () = assert!(size_of::<Watcher>() <= 56, "idle watchers are many");

/// How far a watcher is.
///
/// ```text
///                       no room in its stream
///        ┌──► Live ───────────────────────────────┐       created with a start in the past
///        │                                        │         │
///        │ reached the end                        ▼         ▼
///        │                                      Parked ◄── Due      (and all of them end when they are
///  Behind: Serving ◄──────────────────────┐       │         │        canceled; Due also when it is its
///        │             its turn           │       └────────►│        turn and its revision was compacted)
///        └──── there is more ────────► Due, or Parked       │
///                                         ▲     room again  │
///                                         └─────────────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// It was handed everything; it is handed what is published, but for revisions below `from`. That is zero
    /// unless it asked to begin in what then was the future.
    Live {
        /// The first revision that it may be handed.
        from: i64,
    },
    /// It reads history.
    Behind {
        /// The next revision that it is owed.
        next: i64,
        /// Who waits since an earlier turn is served first.
        turn: u32,
        /// What it waits for.
        wait: Wait,
    },
}

/// What a watcher that is behind waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Its turn.
    Due,
    /// Room in its stream.
    Parked,
    /// Nothing: it is being served, which ends within the same call.
    Serving,
}

/// What a watcher wants, as flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wishes(u8);

impl Wishes {
    const NO_PUT: u8 = 1;
    const NO_DELETE: u8 = 1 << 1;
    const PREV_KV: u8 = 1 << 2;
    const FRAGMENT: u8 = 1 << 3;
    const PROGRESS: u8 = 1 << 4;

    /// Large responses may be cut into parts.
    pub(super) const fn fragments(self) -> bool {
        self.has(Self::FRAGMENT)
    }

    /// It wants to be told the revision now and then.
    pub(super) const fn progress(self) -> bool {
        self.has(Self::PROGRESS)
    }

    /// Whether its filters let a change pass.
    pub(super) fn want(self, record: &Record) -> bool {
        !self.has(if record.is_tombstone() { Self::NO_DELETE } else { Self::NO_PUT })
    }

    /// A change as it wants to see it. `before` says what the key was before the request; it is asked only if
    /// that is to be shown: a put that creates the key has nothing before it, even where the same request
    /// deleted the key first (etcd api/v3rpc/watch.go).
    pub(super) fn event(self, record: &Record, before: impl FnOnce() -> Option<Record>) -> Event {
        let creates = record.create_revision() == record.revision().main;
        let prev = if self.has(Self::PREV_KV) && !creates { before() } else { None };
        Event { record: record.clone(), prev }
    }

    const fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }
}

impl From<&WatchCreateRequest> for Wishes {
    fn from(request: &WatchCreateRequest) -> Self {
        // Filters of later versions are let pass, as in etcd.
        let filtered = |filter: FilterType| request.filters.contains(&i32::from(filter));
        let flags = [
            (filtered(FilterType::Noput), Self::NO_PUT),
            (filtered(FilterType::Nodelete), Self::NO_DELETE),
            (request.prev_kv, Self::PREV_KV),
            (request.fragment, Self::FRAGMENT),
            (request.progress_notify, Self::PROGRESS),
        ];
        Self(flags.into_iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum())
    }
}

impl Watcher {
    /// A watcher that hangs on no list yet.
    pub(super) const fn new(
        id: i64,
        stream: Slot<Stream>,
        position: Position,
        place: Place,
        wishes: Wishes,
    ) -> Self {
        Self { id, stream, position, place, wishes, quiet: true, previous: None, next: None }
    }
}

/// The lists that watchers hang on.
impl Arena<Watcher> {
    /// Hangs a watcher in front of a list.
    pub(super) fn link(&mut self, first: &mut Option<Slot<Watcher>>, slot: Slot<Watcher>) {
        if let Some(second) = *first {
            self[second].previous = Some(slot);
        }
        self[slot].next = *first;
        *first = Some(slot);
    }

    /// Takes a watcher off the list that it hangs on.
    pub(super) fn unlink(&mut self, first: &mut Option<Slot<Watcher>>, slot: Slot<Watcher>) {
        let (previous, next) = (self[slot].previous.take(), self[slot].next.take());
        if let Some(next) = next {
            self[next].previous = previous;
        }
        match previous {
            Some(previous) => self[previous].next = next,
            None => {
                assert_eq!(*first, Some(slot), "who has none before it is the first of its list");
                *first = next;
            }
        }
    }

    /// The watchers of a list.
    pub(super) fn list(
        &self,
        first: Option<Slot<Watcher>>,
    ) -> impl Iterator<Item = (Slot<Watcher>, &Watcher)> {
        let with_watcher = |slot| (slot, &self[slot]);
        core::iter::successors(first.map(with_watcher), move |(_, watcher)| {
            watcher.next.map(with_watcher)
        })
    }
}
