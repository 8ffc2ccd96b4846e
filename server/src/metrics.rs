//! Counters and gauges under etcd's names, in Prometheus' text format.
//!
//! Everything exists from the start, at zero: dashboards compute with the difference of two counters, and alerts must
//! not wait for the first error. Counting is one atomic addition; formatting happens when somebody asks.
//!
//! docs/compat.md has a row for each of etcd's metrics. Names of our own begin with `cairn_`.

use core::time::Duration;
use std::sync::Arc;

use cairn_engine::MemberId;
use cairn_engine::api::Code;
use cairn_io::driver::PeerCounters as LinkCounters;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder, exponential_buckets,
};

use crate::grpc::method::{METHODS, Method};
use crate::peer_metrics::PeerMetrics;

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// One of each for every method, in the order of the table.
    grpc: Vec<MethodCounters>,
    /// Whether a leader is known.
    pub has_leader: IntGauge,
    /// Whether this member leads.
    pub is_leader: IntGauge,
    /// Whether this member only learns.
    pub is_learner: IntGauge,
    /// How often the leader changed.
    pub leader_changes: IntCounter,
    /// Entries committed; a gauge, as in etcd.
    pub proposals_committed: IntGauge,
    /// Entries applied; a gauge, as in etcd.
    pub proposals_applied: IntGauge,
    /// Requests that wait for the log.
    pub proposals_pending: IntGauge,
    /// Bytes of the store: allocated, and in use.
    pub db_bytes: [IntGauge; 2],
    /// The revision of the store.
    pub revision: IntGauge,
    /// The compact revision.
    pub compact_revision: IntGauge,
    /// How often users or roles were changed.
    pub auth_revision: IntGauge,
    /// Keys.
    pub keys: IntGauge,
    /// Durable writes to the log.
    pub wal_fsync: Histogram,
    /// Bytes written to the log; a gauge, as in etcd.
    pub wal_bytes: IntGauge,
    /// The version that all members have at least.
    cluster_version: IntGaugeVec,
    /// What goes on between this member and each other one.
    peers: PeerCounters,
    /// Leases that ended.
    pub leases_expired: IntCounter,
    /// Health checks that succeeded.
    pub health_success: IntCounter,
    /// Health checks that failed.
    pub health_failures: IntCounter,
    /// Connections of clients.
    pub connections: IntGauge,
    /// Turns that an executor missed and was woken for.
    pub stalls: IntGauge,
    /// The longest of these.
    pub stall_longest_us: IntGauge,
}

#[derive(Debug)]
struct MethodCounters {
    started: IntCounter,
    received: IntCounter,
    sent: IntCounter,
    /// In the order of the codes' numbers.
    handled: Vec<IntCounter>,
}

/// What goes on between this member and each other one; the label is the other's id. A family without a peer has no
/// line: there is no peer whose number would be zero.
#[derive(Debug)]
struct PeerCounters {
    snapshot_send_inflights: IntGaugeVec,
    snapshot_send_success: IntCounterVec,
    snapshot_send_failures: IntCounterVec,
    snapshot_receive_success: IntCounterVec,
}

impl PeerCounters {
    fn new(made: &Maker<'_>) -> Self {
        Self {
            snapshot_send_inflights: made.gauges(
                "etcd_network_snapshot_send_inflights_total",
                "Snapshots that are being sent.",
                "To",
            ),
            snapshot_send_success: made.counters(
                "etcd_network_snapshot_send_success",
                "Snapshots that were sent.",
                "To",
            ),
            snapshot_send_failures: made.counters(
                "etcd_network_snapshot_send_failures",
                "Snapshots that could not be sent.",
                "To",
            ),
            snapshot_receive_success: made.counters(
                "etcd_network_snapshot_receive_success",
                "Snapshots that were received.",
                "From",
            ),
        }
    }
}

/// Facts that do not change while the server runs.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The version that clients see.
    pub version: String,
    /// This member, in hexadecimal.
    pub member: String,
    /// The quota in bytes; zero: none.
    pub quota_bytes: i64,
    /// Which runtime drives the cores.
    pub runtime: String,
    /// The numbers of links to other members.
    pub peers: Arc<LinkCounters>,
}

impl Metrics {
    /// All counters, at zero.
    pub fn new(facts: &Facts) -> Self {
        let registry = Registry::new();
        let process = Box::new(ProcessCollector::for_self());
        registry.register(process).expect("the first of its names");
        let peers = PeerMetrics::new(Arc::clone(&facts.peers), facts.member.clone());
        registry.register(Box::new(peers)).expect("names of its own");
        let made = Maker(&registry);
        made.fact(
            "etcd_server_version",
            "Which version is running.",
            "server_version",
            &facts.version,
        );
        made.fact("etcd_server_id", "The member's id in hexadecimal.", "server_id", &facts.member);
        made.fact("cairn_runtime", "Which runtime drives the cores.", "runtime", &facts.runtime);
        made.gauge("etcd_server_quota_backend_bytes", "The quota in bytes.").set(facts.quota_bytes);
        Self {
            grpc: made.grpc(),
            has_leader: made.gauge("etcd_server_has_leader", "Whether a leader is known."),
            is_leader: made.gauge("etcd_server_is_leader", "Whether this member leads."),
            is_learner: made.gauge("etcd_server_is_learner", "Whether this member only learns."),
            leader_changes: made
                .counter("etcd_server_leader_changes_seen_total", "How often the leader changed."),
            proposals_committed: made
                .gauge("etcd_server_proposals_committed_total", "Proposals committed."),
            proposals_applied: made
                .gauge("etcd_server_proposals_applied_total", "Proposals applied."),
            proposals_pending: made.gauge("etcd_server_proposals_pending", "Proposals under way."),
            db_bytes: [
                made.gauge("etcd_mvcc_db_total_size_in_bytes", "Bytes of the store, allocated."),
                made.gauge(
                    "etcd_mvcc_db_total_size_in_use_in_bytes",
                    "Bytes of the store, in use.",
                ),
            ],
            revision: made.gauge("etcd_debugging_mvcc_current_revision", "The current revision."),
            auth_revision: made
                .gauge("etcd_debugging_auth_revision", "The current revision of auth store."),
            compact_revision: made.gauge(
                "etcd_debugging_mvcc_compact_revision",
                "The revision of the last compaction.",
            ),
            keys: made.gauge("etcd_debugging_mvcc_keys_total", "Keys that exist."),
            wal_fsync: made.histogram(
                "etcd_disk_wal_fsync_duration_seconds",
                "How long a durable write to the log takes.",
                (0.001, 14),
            ),
            wal_bytes: made.gauge("etcd_disk_wal_write_bytes_total", "Bytes written to the log."),
            cluster_version: made.gauges(
                "etcd_cluster_version",
                "The version that all members have at least.",
                "cluster_version",
            ),
            peers: PeerCounters::new(&made),
            leases_expired: made
                .counter("etcd_debugging_server_lease_expired_total", "Leases that expired."),
            health_success: made
                .counter("etcd_server_health_success", "Health checks that succeeded."),
            health_failures: made
                .counter("etcd_server_health_failures", "Health checks that failed."),
            connections: made.gauge("cairn_connections", "Connections of clients."),
            stalls: made
                .gauge("cairn_runtime_stalls_total", "Stalls of an executor that were ended."),
            stall_longest_us: made.gauge(
                "cairn_runtime_stall_longest_microseconds",
                "The longest stall of an executor.",
            ),
            registry,
        }
    }

    /// Counts a call that begins.
    pub fn started(&self, method: Method) {
        self.grpc[method.place()].started.inc();
    }

    /// Counts a message of a client.
    pub fn received(&self, method: Method) {
        self.grpc[method.place()].received.inc();
    }

    /// Counts a message to a client.
    pub fn sent(&self, method: Method) {
        self.grpc[method.place()].sent.inc();
    }

    /// Counts a call that ends.
    pub fn handled(&self, method: Method, code: Code) {
        self.grpc[method.place()].handled[usize::from(code.number())].inc();
    }

    /// Notes a durable write to the log.
    pub fn log_written(&self, bytes: u64, took: Duration) {
        self.wal_fsync.observe(took.as_secs_f64());
        self.wal_bytes.add(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// The members agreed on a version, as `X.Y`.
    pub fn set_cluster_version(&self, version: &str) {
        self.cluster_version.reset();
        self.cluster_version.with_label_values(&[version]).set(1);
    }

    /// A peer is being sent a snapshot.
    pub fn snapshot_sending(&self, peer: MemberId) {
        self.peers.snapshot_send_inflights.with_label_values(&[&*peer.to_string()]).set(1);
    }

    /// A peer has a snapshot, or cannot be brought one.
    pub fn snapshot_sent(&self, peer: MemberId, arrived: bool) {
        let (peer, peers) = (peer.to_string(), &self.peers);
        peers.snapshot_send_inflights.with_label_values(&[&*peer]).set(0);
        let outcome =
            if arrived { &peers.snapshot_send_success } else { &peers.snapshot_send_failures };
        outcome.with_label_values(&[&*peer]).inc();
    }

    /// A snapshot of the leader's has replaced this member's state.
    pub fn snapshot_received(&self, from: MemberId) {
        self.peers.snapshot_receive_success.with_label_values(&[&*from.to_string()]).inc();
    }

    /// Everything as text.
    pub fn to_text(&self) -> String {
        let families = self.registry.gather();
        TextEncoder::new().encode_to_string(&families).expect("names are well-formed")
    }
}

/// Makes metrics that exist from the start.
struct Maker<'a>(&'a Registry);

impl Maker<'_> {
    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        let gauge = IntGauge::new(name, help).expect("a well-formed name");
        self.0.register(Box::new(gauge.clone())).expect("a name of its own");
        gauge
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        let counter = IntCounter::new(name, help).expect("a well-formed name");
        self.0.register(Box::new(counter.clone())).expect("a name of its own");
        counter
    }

    /// A gauge that is always 1 and says something in its label.
    fn fact(&self, name: &str, help: &str, label: &str, value: &str) {
        self.gauges(name, help, label).with_label_values(&[value]).set(1);
    }

    /// A gauge for each value of a label.
    fn gauges(&self, name: &str, help: &str, label: &str) -> IntGaugeVec {
        let gauges = IntGaugeVec::new(Opts::new(name, help), &[label]).expect("a well-formed name");
        self.0.register(Box::new(gauges.clone())).expect("a name of its own");
        gauges
    }

    /// A counter for each value of a label.
    fn counters(&self, name: &str, help: &str, label: &str) -> IntCounterVec {
        let counters =
            IntCounterVec::new(Opts::new(name, help), &[label]).expect("a well-formed name");
        self.0.register(Box::new(counters.clone())).expect("a name of its own");
        counters
    }

    /// A histogram whose buckets double, from a first one on.
    fn histogram(&self, name: &str, help: &str, (first, count): (f64, usize)) -> Histogram {
        let buckets = exponential_buckets(first, 2.0, count).expect("positive");
        let options = HistogramOpts::new(name, help).buckets(buckets);
        let histogram = Histogram::with_opts(options).expect("a well-formed name");
        self.0.register(Box::new(histogram.clone())).expect("a name of its own");
        histogram
    }

    fn grpc(&self) -> Vec<MethodCounters> {
        let vector = |name: &str, help: &str, labels: &[&str]| {
            let vector =
                IntCounterVec::new(Opts::new(name, help), labels).expect("a well-formed name");
            self.0.register(Box::new(vector.clone())).expect("a name of its own");
            vector
        };
        let labels = ["grpc_type", "grpc_service", "grpc_method"];
        let with_code = ["grpc_type", "grpc_service", "grpc_method", "grpc_code"];
        let started = vector("grpc_server_started_total", "Calls that began.", &labels);
        let received = vector("grpc_server_msg_received_total", "Messages of clients.", &labels);
        let sent = vector("grpc_server_msg_sent_total", "Messages to clients.", &labels);
        let handled = vector("grpc_server_handled_total", "Calls that ended.", &with_code);
        METHODS
            .iter()
            .map(|row| {
                let labels = [row.kind.name(), row.service, row.name];
                let [kind, service, name] = labels;
                let handled =
                    |code: &Code| handled.with_label_values(&[kind, service, name, code.name()]);
                MethodCounters {
                    started: started.with_label_values(&labels),
                    received: received.with_label_values(&labels),
                    sent: sent.with_label_values(&labels),
                    handled: Code::ALL.iter().map(handled).collect(),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> Metrics {
        Metrics::new(&Facts {
            version: "3.7.0".to_owned(),
            member: "8e9e05c52164694d".to_owned(),
            quota_bytes: 2_147_483_648,
            runtime: "glommio".to_owned(),
            peers: Arc::default(),
        })
    }

    #[test]
    fn every_method_and_code_exists_at_zero() {
        let text = metrics().to_text();
        for line in [
            r#"grpc_server_started_total{grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"} 0"#,
            r#"grpc_server_handled_total{grpc_code="DataLoss",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 0"#,
            r#"etcd_server_version{server_version="3.7.0"} 1"#,
            "etcd_server_has_leader 0",
            r#"etcd_disk_wal_fsync_duration_seconds_bucket{le="0.001"} 0"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn there_is_one_cluster_version() {
        let metrics = metrics();
        let line =
            |version: &str| format!("etcd_cluster_version{{cluster_version=\"{version}\"}} 1");
        metrics.set_cluster_version("3.6");
        metrics.set_cluster_version("3.7");
        let text = metrics.to_text();
        assert!(text.contains(&line("3.7")) && !text.contains(&line("3.6")));
    }

    #[test]
    fn calls_are_counted_by_method_and_code() {
        let metrics = metrics();
        metrics.started(Method::Put);
        metrics.handled(Method::Put, Code::NotFound);
        let text = metrics.to_text();
        let line = r#"grpc_server_handled_total{grpc_code="NotFound",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1"#;
        assert!(text.contains(line));
    }
}
