//! What is done to keys and leases, as the engine counts it: read off its tally when somebody asks.

use core::sync::atomic::{AtomicU64, Ordering};
#[expect(clippy::disallowed_types, reason = "a scrape on one core may meet one on another")]
use std::sync::{Arc, Mutex};

use cairn_engine::replica::Tally;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, Metric, MetricFamily, MetricType};

use super::peers::to_float;

/// The newest numbers.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Of the engine. Whoever collects on another core holds it, too, for as long as a copy takes.
    #[expect(clippy::disallowed_types, reason = "a scrape on one core may meet one on another")]
    tally: Mutex<Tally>,
    /// Reads of clients, which the log never sees.
    ranges: AtomicU64,
}

impl Work {
    /// Counts a read of a client's.
    pub(super) fn count_range(&self) {
        self.ranges.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes the engine's numbers.
    pub(super) fn set(&self, tally: Tally) {
        *self.tally.lock().expect("nothing panics while it holds this") = tally;
    }

    fn tally(&self) -> Tally {
        let mut tally = *self.tally.lock().expect("nothing panics while it holds this");
        tally.ranges += self.ranges.load(Ordering::Relaxed);
        tally
    }
}

/// One family.
struct Family {
    name: &'static str,
    help: &'static str,
    value: Value,
}

enum Value {
    Counter(fn(&Tally) -> u64),
    Gauge(fn(&Tally) -> u64),
    Ttls,
}

const FAMILIES: [Family; 9] = [
    Family {
        name: "etcd_mvcc_put_total",
        help: "Puts, those in transactions included.",
        value: Value::Counter(|tally| tally.puts),
    },
    Family {
        name: "etcd_mvcc_delete_total",
        help: "Deletions, those in transactions and of leases that ended included.",
        value: Value::Counter(|tally| tally.deletes),
    },
    Family {
        name: "etcd_mvcc_range_total",
        help: "Ranges, those in transactions that write included.",
        value: Value::Counter(|tally| tally.ranges),
    },
    Family {
        name: "etcd_mvcc_txn_total",
        help: "Requests with more than one of these.",
        value: Value::Counter(|tally| tally.txns),
    },
    Family {
        name: "etcd_debugging_mvcc_total_put_size_in_bytes",
        help: "Bytes of keys and values that were put.",
        value: Value::Gauge(|tally| tally.put_bytes),
    },
    Family {
        name: "etcd_debugging_lease_granted_total",
        help: "Leases that were granted.",
        value: Value::Counter(|tally| tally.leases_granted),
    },
    Family {
        name: "etcd_debugging_lease_revoked_total",
        help: "Leases that were revoked or expired.",
        value: Value::Counter(|tally| tally.leases_revoked),
    },
    Family {
        name: "etcd_debugging_lease_renewed_total",
        help: "Renewals of leases; in etcd, those of a leader.",
        value: Value::Counter(|tally| tally.leases_renewed),
    },
    Family {
        name: "etcd_debugging_lease_ttl_total",
        help: "Leases by the seconds that they were granted.",
        value: Value::Ttls,
    },
];

/// [`Work`] for a registry.
pub(super) struct WorkCollector {
    work: Arc<Work>,
    families: Vec<Desc>,
}

impl WorkCollector {
    pub(super) fn new(work: Arc<Work>) -> Self {
        let desc = |family: &Family| {
            Desc::new(family.name.to_owned(), family.help.to_owned(), Vec::new(), [].into())
                .expect("a well-formed name")
        };
        Self { work, families: FAMILIES.iter().map(desc).collect() }
    }
}

impl Collector for WorkCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.families.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let tally = self.work.tally();
        FAMILIES.iter().map(|family| to_family(family, &tally)).collect()
    }
}

fn to_family(family: &Family, tally: &Tally) -> MetricFamily {
    let mut line = Metric::default();
    let kind = match family.value {
        Value::Counter(value) => {
            let mut counter = Counter::default();
            counter.set_value(to_float(value(tally)));
            line.set_counter(counter);
            MetricType::COUNTER
        }
        Value::Gauge(value) => {
            let mut gauge = Gauge::default();
            gauge.set_value(to_float(value(tally)));
            line.set_gauge(gauge);
            MetricType::GAUGE
        }
        Value::Ttls => {
            line.set_histogram(ttls(tally));
            MetricType::HISTOGRAM
        }
    };
    let mut said = MetricFamily::default();
    said.set_name(family.name.to_owned());
    said.set_help(family.help.to_owned());
    said.set_field_type(kind);
    said.set_metric(vec![line]);
    said
}

/// The leases in the form of Prometheus: each bucket holds those below it, too.
fn ttls(tally: &Tally) -> Histogram {
    let (mut below, mut bound) = (0, 1);
    let (_, bounded) = tally.lease_ttls.split_last().expect("a last one");
    let mut buckets = Vec::with_capacity(bounded.len());
    for count in bounded {
        below += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(to_float(bound));
        bucket.set_cumulative_count(below);
        buckets.push(bucket);
        bound *= 2;
    }
    let mut histogram = Histogram::default();
    histogram.set_sample_count(tally.lease_ttls.iter().sum());
    histogram.set_sample_sum(to_float(tally.lease_ttl_sum));
    histogram.set_bucket(buckets);
    histogram
}
