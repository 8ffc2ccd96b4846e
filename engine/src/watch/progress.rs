//! Telling watchers how far the key space is, though none of their keys changed (G6).
//!
//! Nothing has to be waited for: a live watcher's events up to `revision` are in the outbox already (W1), and
//! the notification goes in behind them.

use core::time::Duration;

use super::Response;
use super::arena::Slot;
use super::hub::{Hub, NO_WATCHER};
use super::stream::Stream;
use super::watcher::{Position, Watcher};
use crate::time::Time;

/// The shortest time between two notifications (etcd api/v3rpc/watch.go, minWatchProgressInterval).
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// A tick comes up to a tenth of the interval late, so that watchers created together are not told together.
const JITTER_PART: u32 = 10;

/// Streams that one call looks at.
const TICKS_MAX: usize = 64;

impl Hub {
    /// Answers a request for progress, for all watchers of a stream; does not if any of them was not handed
    /// everything or has not begun yet, or if there are none.
    pub(super) fn tell_progress(&mut self, stream: Slot<Stream>) {
        let mut watchers = self.streams[stream].watchers.values().peekable();
        if watchers.peek().is_none()
            || !watchers.all(|slot| self.watchers[*slot].is_live_at(self.revision))
        {
            return;
        }
        let (watch_id, revision) = (NO_WATCHER, self.revision);
        self.send(stream, Response { watch_id, revision, ..Response::default() });
    }

    /// Has a stream tell progress now and then, if it does not yet.
    pub(super) fn start_ticking(&mut self, stream: Slot<Stream>) {
        if self.streams[stream].tick.is_none() {
            let time = self.next_tick();
            self.streams[stream].tick = Some(time);
            self.ticks.insert((time, stream));
        }
    }

    /// Tells the revision to the idle watchers of every stream whose time has come.
    pub(super) fn tick(&mut self) {
        for _ in 0..TICKS_MAX {
            let Some(&(time, stream)) = self.ticks.first() else { return };
            if time > self.now {
                return;
            }
            self.ticks.pop_first();
            self.streams[stream].tick = None;
            if self.tell_idle_watchers(stream) {
                self.start_ticking(stream);
            }
        }
    }

    /// Whether any watcher of the stream wants to be told.
    fn tell_idle_watchers(&mut self, stream: Slot<Stream>) -> bool {
        let revision = self.revision;
        let mut wanted = false;
        let mut last = i64::MIN;
        while let Some((&watch_id, &slot)) = self.streams[stream].watchers.range(last..).next() {
            // Nobody asked for it: it is not worth going beyond the credit.
            let has_room = self.has_room(stream);
            let watcher = &mut self.watchers[slot];
            if watcher.wishes.progress() {
                wanted = true;
                let idle = core::mem::replace(&mut watcher.quiet, true);
                if idle && watcher.is_live_at(revision) && has_room {
                    self.send(stream, Response { watch_id, revision, ..Response::default() });
                }
            }
            let Some(following) = watch_id.checked_add(1) else { break };
            last = following;
        }
        wanted
    }

    fn next_tick(&mut self) -> Time {
        let interval = self.limits.watch_progress_interval.max(INTERVAL_MIN);
        let jitter_max = u64::try_from((interval / JITTER_PART).as_nanos()).unwrap_or(u64::MAX);
        self.now + interval + Duration::from_nanos(self.rng.below(jitter_max))
    }
}

impl Watcher {
    /// Whether it was handed all of its events up to `revision`, and its start is not above that.
    fn is_live_at(&self, revision: i64) -> bool {
        match self.position {
            Position::Live { from } => from <= revision,
            Position::Behind { .. } => false,
        }
    }
}
