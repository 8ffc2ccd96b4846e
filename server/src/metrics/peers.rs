//! Numbers about links to other members, under etcd's names: read off the links' own counters when somebody asks.
//!
//! A family without a peer has no line, as in etcd: there is no peer whose number would be zero.

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

use cairn_io::driver::{PeerCounters, PeerFigures};
use prometheus::core::{Collector, Desc};
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

/// The links, for a registry.
pub(crate) struct PeerMetrics {
    counters: Arc<PeerCounters>,
    /// This member, in hexadecimal.
    local: String,
    families: Vec<Desc>,
}

/// One family.
struct Family {
    name: &'static str,
    help: &'static str,
    labels: Labels,
    value: Value,
}

/// Which members a line names.
#[derive(Clone, Copy)]
enum Labels {
    To,
    From,
    LocalAndRemote,
}

/// What it says.
#[derive(Clone, Copy)]
enum Value {
    Counter(fn(&PeerFigures) -> u64),
    Gauge(fn(&PeerFigures) -> u64),
    RoundTrips,
}

const FAMILIES: [Family; 8] = [
    Family {
        name: "etcd_network_peer_sent_bytes_total",
        help: "Bytes sent to peers.",
        labels: Labels::To,
        value: Value::Counter(|figures| figures.sent_bytes),
    },
    Family {
        name: "etcd_network_peer_received_bytes_total",
        help: "Bytes received from peers.",
        labels: Labels::From,
        value: Value::Counter(|figures| figures.received_bytes),
    },
    Family {
        name: "etcd_network_peer_sent_failures_total",
        help: "Messages to peers that were dropped, for want of a connection or of room.",
        labels: Labels::To,
        value: Value::Counter(|figures| figures.send_failures),
    },
    Family {
        name: "etcd_network_peer_received_failures_total",
        help: "Connections that ended because of what a peer sent.",
        labels: Labels::From,
        value: Value::Counter(|figures| figures.receive_failures),
    },
    Family {
        name: "etcd_network_disconnected_peers_total",
        help: "Connections to peers that ended.",
        labels: Labels::LocalAndRemote,
        value: Value::Counter(|figures| figures.disconnections),
    },
    Family {
        name: "etcd_network_active_peers",
        help: "Whether there is a connection to a peer.",
        labels: Labels::LocalAndRemote,
        value: Value::Gauge(|figures| u64::from(figures.is_active)),
    },
    Family {
        name: "etcd_network_known_peers",
        help: "Peers that are known.",
        labels: Labels::LocalAndRemote,
        value: Value::Gauge(|_| 1),
    },
    Family {
        name: "etcd_network_peer_round_trip_time_seconds",
        help: "How long a peer takes to answer a ping.",
        labels: Labels::To,
        value: Value::RoundTrips,
    },
];

/// Name, kind and help of each family, for docs/compat.md.
#[cfg(test)]
pub(crate) fn rows() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    FAMILIES.iter().map(|family| {
        let kind = match family.value {
            Value::Counter(_) => "counter",
            Value::Gauge(_) => "gauge",
            Value::RoundTrips => "histogram",
        };
        (family.name, kind, family.help)
    })
}

impl PeerMetrics {
    pub(crate) fn new(counters: Arc<PeerCounters>, local: String) -> Self {
        let desc = |family: &Family| {
            let labels = family.labels.names().iter().map(|name| (*name).to_owned()).collect();
            Desc::new(family.name.to_owned(), family.help.to_owned(), labels, [].into())
                .expect("a well-formed name")
        };
        Self { counters, local, families: FAMILIES.iter().map(desc).collect() }
    }

    fn family(&self, family: &Family, figures: &[PeerFigures]) -> MetricFamily {
        let mut said = MetricFamily::default();
        said.set_name(family.name.to_owned());
        said.set_help(family.help.to_owned());
        said.set_field_type(match family.value {
            Value::Counter(_) => MetricType::COUNTER,
            Value::Gauge(_) => MetricType::GAUGE,
            Value::RoundTrips => MetricType::HISTOGRAM,
        });
        let lines = figures.iter().map(|figures| {
            let mut line = Metric::from_label(self.labels(family.labels, figures));
            match family.value {
                Value::Counter(value) => {
                    let mut counter = Counter::default();
                    counter.set_value(to_float(value(figures)));
                    line.set_counter(counter);
                }
                Value::Gauge(value) => {
                    let mut gauge = Gauge::default();
                    gauge.set_value(to_float(value(figures)));
                    line.set_gauge(gauge);
                }
                Value::RoundTrips => line.set_histogram(round_trips(figures)),
            }
            line
        });
        said.set_metric(lines.collect());
        said
    }

    fn labels(&self, labels: Labels, figures: &PeerFigures) -> Vec<LabelPair> {
        let remote = figures.member.to_string();
        let values = match labels {
            Labels::To | Labels::From => vec![remote],
            Labels::LocalAndRemote => vec![self.local.clone(), remote],
        };
        let pair = |(name, value): (&&str, String)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value(value);
            pair
        };
        labels.names().iter().zip(values).map(pair).collect()
    }
}

impl Labels {
    const fn names(self) -> &'static [&'static str] {
        match self {
            Self::To => &["To"],
            Self::From => &["From"],
            Self::LocalAndRemote => &["Local", "Remote"],
        }
    }
}

impl Collector for PeerMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.families.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut figures = self.counters.figures();
        figures.sort_by_key(|figures| figures.member);
        FAMILIES.iter().map(|family| self.family(family, &figures)).collect()
    }
}

impl fmt::Debug for PeerMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerMetrics").field("local", &self.local).finish_non_exhaustive()
    }
}

/// The histogram in the form of Prometheus: each bucket holds those below it, too.
fn round_trips(figures: &PeerFigures) -> Histogram {
    let (mut below, mut bound_ns) = (0, FIRST_BUCKET_NS);
    let (_, bounded) = figures.round_trips.counts.split_last().expect("a last one");
    let mut buckets = Vec::with_capacity(bounded.len());
    for count in bounded {
        below += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(seconds(bound_ns));
        bucket.set_cumulative_count(below);
        buckets.push(bucket);
        bound_ns *= 2;
    }
    let mut histogram = Histogram::default();
    histogram.set_sample_count(figures.round_trips.counts.iter().sum());
    histogram.set_sample_sum(seconds(figures.round_trips.sum_ns));
    histogram.set_bucket(buckets);
    histogram
}

/// The upper bound of the first bucket, see [`cairn_io::driver::RoundTrips`].
const FIRST_BUCKET_NS: u64 = 100_000;

fn seconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64()
}

#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "Prometheus counts in floats, exactly up to 2^53"
)]
pub(super) fn to_float(number: u64) -> f64 {
    number as f64
}
