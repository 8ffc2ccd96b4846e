//! One watch stream: the names of its watchers, and how much of it is under way.

use alloc::collections::{BTreeMap, BTreeSet};

use super::arena::Slot;
use super::watcher::Watcher;
use crate::api::Error;
use crate::ids::{ConnectionId, StreamId};
use crate::time::Time;

/// A stream.
///
/// How full it is decides who may queue something for it:
///
/// ```text
/// bytes under way   0 ─────── credit / 2 ─────── credit
/// catching up       ──────────►
/// live events       ────────────────────────────►
/// answers           ──────────────────────────────────► always
/// ```
///
/// The last response that begins within a bound may end beyond it: else one that is larger than the bound would
/// never be sent. Catching up leaves one half to live events, so that a watcher far behind does not push the
/// others of its stream behind, too.
///
/// The streams of a connection share a credit of their own in the same way. A stream that has nothing under way may
/// always send one response: so none waits for what others do not read, and whoever waits hears of it when its own
/// responses leave.
#[derive(Debug)]
pub(super) struct Stream {
    /// Its name.
    pub(super) id: StreamId,
    /// Whose it is.
    pub(super) connection: ConnectionId,
    /// Its watchers by name.
    pub(super) watchers: BTreeMap<i64, Slot<Watcher>>,
    /// The name that the next watcher gets which has none, or later.
    next_id: i64,
    /// What its responses that have not left yet take.
    under_way_bytes: usize,
    /// Those behind that wait for room.
    pub(super) parked: BTreeSet<Slot<Watcher>>,
    /// When its idle watchers are told the revision; `None`: none of them wants to know.
    pub(super) tick: Option<Time>,
}

impl Stream {
    /// A stream without watchers.
    pub(super) const fn new(id: StreamId, connection: ConnectionId) -> Self {
        Self {
            id,
            connection,
            watchers: BTreeMap::new(),
            next_id: 0,
            under_way_bytes: 0,
            parked: BTreeSet::new(),
            tick: None,
        }
    }

    /// The name of a new watcher: the one that the client chose, or, if that is zero, the next free one.
    ///
    /// # Errors
    /// If the chosen one is taken.
    pub(super) fn choose_id(&mut self, chosen: i64) -> Result<i64, Error> {
        if chosen != 0 {
            let taken = self.watchers.contains_key(&chosen);
            return if taken { Err(Error::WatcherDuplicateId) } else { Ok(chosen) };
        }
        // Never one that was free for a while: answers about its last owner may be under way.
        while self.watchers.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        Ok(self.next_id - 1)
    }

    /// Takes credit for what was queued.
    pub(super) const fn take(&mut self, bytes: usize) {
        self.under_way_bytes += bytes;
    }

    /// Gives back the credit of what has left.
    pub(super) fn give_back(&mut self, bytes: usize) {
        assert!(bytes <= self.under_way_bytes, "what leaves was queued before");
        self.under_way_bytes -= bytes;
    }

    /// What its responses that have not left yet take.
    pub(super) const fn under_way_bytes(&self) -> usize {
        self.under_way_bytes
    }
}
