//! Numbers about links, for metrics. Written by core 0, read by any core.
//!
//! There is a fixed number of places, each for one member; a place becomes free when its member has no link any more.
//! Whoever reads while that happens may see a number of before: these are metrics.

use core::sync::atomic::{AtomicU64, Ordering};

use cairn_engine::MemberId;

/// Links that are counted; etcd's advice is seven members.
const LINKS_MAX: usize = 64;
/// Upper bounds of [`RoundTrips::counts`]: 0.1 ms, doubled fifteen times. etcd's.
const BUCKETS: usize = 16;
const FIRST_BUCKET_NS: u64 = 100_000;

/// The numbers of all links.
#[derive(Debug)]
pub struct PeerCounters {
    places: [Place; LINKS_MAX],
    /// Connections refused and frames refused before anybody was known, see [`PeerCounters::strangers`].
    strangers: AtomicU64,
}

#[derive(Debug, Default)]
struct Place {
    /// Whose, 0: nobody's.
    member: AtomicU64,
    counters: [AtomicU64; COUNTERS],
    round_trips: [AtomicU64; BUCKETS + 1],
    round_trips_ns: AtomicU64,
}

/// What is counted about a link; [`PeerFigures`] says more.
#[derive(Clone, Copy, Debug)]
pub(super) enum Counter {
    SentBytes,
    ReceivedBytes,
    SendFailures,
    ReceiveFailures,
    Connections,
    Disconnections,
}

const COUNTERS: usize = 6;

impl Counter {
    const fn place(self) -> usize {
        match self {
            Self::SentBytes => 0,
            Self::ReceivedBytes => 1,
            Self::SendFailures => 2,
            Self::ReceiveFailures => 3,
            Self::Connections => 4,
            Self::Disconnections => 5,
        }
    }
}

/// The numbers of one link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerFigures {
    /// With whom.
    pub member: MemberId,
    /// Whether there is a connection for messages: `etcd_network_active_peers`.
    pub is_active: bool,
    /// `etcd_network_peer_sent_bytes_total`.
    pub sent_bytes: u64,
    /// `etcd_network_peer_received_bytes_total`.
    pub received_bytes: u64,
    /// Messages that were dropped for want of a connection or of room: `etcd_network_peer_sent_failures_total`.
    pub send_failures: u64,
    /// Connections that ended because of what came on them: `etcd_network_peer_received_failures_total`.
    pub receive_failures: u64,
    /// Connections for messages that ended: `etcd_network_disconnected_peers_total`.
    pub disconnections: u64,
    /// `etcd_network_peer_round_trip_time_seconds`.
    pub round_trips: RoundTrips,
}

/// A histogram of round trips.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoundTrips {
    /// How many took at most 0.1 ms · 2ⁿ and more than the one before; the last: longer than all.
    pub counts: [u64; BUCKETS + 1],
    /// How long all of them took together.
    pub sum_ns: u64,
}

impl Default for PeerCounters {
    fn default() -> Self {
        Self { places: core::array::from_fn(|_| Place::default()), strangers: AtomicU64::new(0) }
    }
}

impl PeerCounters {
    /// The numbers of all links, in no order.
    pub fn figures(&self) -> Vec<PeerFigures> {
        self.places.iter().filter_map(Place::figures).collect()
    }

    /// Connections that were refused or ended before their other end was known to be of this cluster.
    pub fn strangers(&self) -> u64 {
        self.strangers.load(Ordering::Relaxed)
    }

    pub(super) fn count_stranger(&self) {
        self.strangers.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes a place for a member; `None` if there is none, and then the link is not counted.
    pub(super) fn take(&self, member: MemberId) -> Option<usize> {
        let free =
            self.places.iter().position(|place| place.member.load(Ordering::Relaxed) == 0)?;
        let place = &self.places[free];
        let numbers = place.counters.iter().chain(&place.round_trips);
        numbers
            .chain([&place.round_trips_ns])
            .for_each(|number| number.store(0, Ordering::Relaxed));
        place.member.store(member.0, Ordering::Relaxed);
        Some(free)
    }

    pub(super) fn free(&self, place: usize) {
        self.places[place].member.store(0, Ordering::Relaxed);
    }

    pub(super) fn add(&self, place: usize, counter: Counter, count: u64) {
        self.places[place].counters[counter.place()].fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn round_trip(&self, place: usize, took_ns: u64) {
        let place = &self.places[place];
        let bounds = (0..BUCKETS).map(|bucket| FIRST_BUCKET_NS << bucket);
        let bucket = bounds.take_while(|bound| took_ns > *bound).count();
        place.round_trips[bucket].fetch_add(1, Ordering::Relaxed);
        place.round_trips_ns.fetch_add(took_ns, Ordering::Relaxed);
    }
}

impl Place {
    fn figures(&self) -> Option<PeerFigures> {
        let member = MemberId(self.member.load(Ordering::Relaxed));
        let counter = |counter: Counter| self.counters[counter.place()].load(Ordering::Relaxed);
        let disconnections = counter(Counter::Disconnections);
        member.is_some().then(|| PeerFigures {
            member,
            is_active: counter(Counter::Connections) > disconnections,
            sent_bytes: counter(Counter::SentBytes),
            received_bytes: counter(Counter::ReceivedBytes),
            send_failures: counter(Counter::SendFailures),
            receive_failures: counter(Counter::ReceiveFailures),
            disconnections,
            round_trips: RoundTrips {
                counts: self.round_trips.each_ref().map(|count| count.load(Ordering::Relaxed)),
                sum_ns: self.round_trips_ns.load(Ordering::Relaxed),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_counted_for_its_member_alone() {
        let counters = PeerCounters::default();
        let (one, two) = (counters.take(MemberId(1)).unwrap(), counters.take(MemberId(2)).unwrap());
        counters.add(one, Counter::SentBytes, 10);
        counters.add(one, Counter::Connections, 1);
        counters.add(two, Counter::Disconnections, 0);
        let figures = counters.figures();
        assert_eq!(figures.len(), 2);
        assert_eq!((figures[0].sent_bytes, figures[0].is_active), (10, true));
        assert_eq!((figures[1].sent_bytes, figures[1].is_active), (0, false));
        counters.free(one);
        assert_eq!(counters.take(MemberId(3)), Some(one));
        assert_eq!(counters.figures()[0].sent_bytes, 0);
    }

    #[test]
    fn a_round_trip_is_counted_in_its_bucket() {
        let counters = PeerCounters::default();
        let place = counters.take(MemberId(1)).unwrap();
        for took in [0, 100_000, 100_001, 200_000, u64::MAX / 2] {
            counters.round_trip(place, took);
        }
        let counts = counters.figures()[0].round_trips.counts;
        assert_eq!((counts[0], counts[1], counts[16]), (2, 2, 1));
    }
}
