//! Watches: how many there are, and what they are told.

use cairn_engine::watch::Response;
use prometheus::{IntCounter, IntGauge};

use super::Maker;

/// All of that.
#[derive(Debug)]
pub(super) struct Watches {
    streams: IntGauge,
    watchers: IntGauge,
    events: IntCounter,
}

impl Watches {
    pub(super) fn new(made: &Maker<'_>) -> Self {
        Self {
            streams: made.gauge("etcd_debugging_mvcc_watch_stream_total", "Streams of watches."),
            watchers: made.gauge("etcd_debugging_mvcc_watcher_total", "Watchers."),
            events: made
                .counter("etcd_debugging_mvcc_events_total", "Events that watchers were told."),
        }
    }

    pub(super) fn begin(&self) -> Watching<'_> {
        self.streams.inc();
        Watching { watches: self, watchers: 0 }
    }
}

/// A stream of watches that is counted, with its watchers.
#[derive(Debug)]
pub(crate) struct Watching<'a> {
    watches: &'a Watches,
    watchers: i64,
}

impl Watching<'_> {
    /// Counts what a response tells.
    pub(crate) fn tell(&mut self, response: &Response) {
        // One that could not be made is created and canceled in one.
        let change = i64::from(response.created) - i64::from(response.canceled);
        self.watchers += change;
        self.watches.watchers.add(change);
        let events = u64::try_from(response.events.len()).expect("64 bits");
        self.watches.events.inc_by(events);
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.watches.watchers.sub(self.watchers);
        self.watches.streams.dec();
    }
}
