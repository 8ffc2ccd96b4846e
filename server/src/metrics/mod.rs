//! Counters and gauges under etcd's names, in Prometheus' text format.
//!
//! Everything exists from the start, at zero: dashboards compute with the difference of two counters, and alerts must
//! not wait for the first error. Counting is one atomic addition; formatting happens when somebody asks.
//!
//! docs/compat.md has a row for each of etcd's metrics. Names of our own begin with `cairn_`.

mod calls;
mod empty;
mod health;
pub(crate) mod peers;
mod watches;
mod work;

use core::time::Duration;
use std::sync::Arc;

use cairn_engine::MemberId;
use cairn_engine::api::Code;
use cairn_engine::replica::Tally;
use cairn_io::driver::PeerCounters as LinkCounters;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder, exponential_buckets,
};

use self::calls::Calls;
use self::health::Checks;
use self::peers::PeerMetrics;
use self::watches::Watches;
pub(crate) use self::watches::Watching;
use self::work::{Work, WorkCollector};
use crate::budget::Budget;
use crate::config::MetricsLevel;
use crate::config::gates::FeatureGates;
use crate::grpc::method::Method;
use crate::spans;

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    calls: Calls,
    checks: Checks,
    work: Arc<Work>,
    watches: Watches,
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
    /// Durable writes to the log, under both names that etcd has for the halves of one.
    pub wal_fsync: Histogram,
    wal_write: Histogram,
    /// Bytes written to the log; a gauge, as in etcd.
    pub wal_bytes: IntGauge,
    /// The version that all members have at least.
    cluster_version: IntGaugeVec,
    /// What goes on between this member and each other one.
    peers: PeerCounters,
    /// Leases that ended.
    pub leases_expired: IntCounter,
    /// Heartbeats that were late, as far as a stalled disk says so.
    pub heartbeats_late: IntCounter,
    /// Snapshots of this member's state to its own disk.
    pub snapshot_saved: Histogram,
    /// Descriptors: in use, and how many may be.
    pub descriptors: [IntGauge; 2],
    /// How often this was asked for.
    pub scrapes: IntCounterVec,
    /// Health checks that succeeded.
    pub health_success: IntCounter,
    /// Health checks that failed.
    pub health_failures: IntCounter,
    /// Connections of clients.
    pub connections: IntGauge,
    /// Connections of clients that were closed at once: there were too many.
    pub connections_refused: IntCounter,
    /// Times that a client was refused because it had too much of something, in the order of [`Budget::ALL`].
    pub refusals: [IntCounter; 5],
    /// Spans of calls, for who collects them.
    pub spans: spans::Counters,
    /// Turns that an executor missed and was woken for.
    pub stalls: IntGauge,
    /// The longest of these.
    pub stall_longest_us: IntGauge,
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
    /// How much is measured.
    pub level: MetricsLevel,
    /// Which features are on.
    pub features: FeatureGates,
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
        made.fact("etcd_server_go_version", "There is no Go.", "server_go_version", "none");
        made.fact("etcd_server_id", "The member's id in hexadecimal.", "server_id", &facts.member);
        made.fact("cairn_runtime", "Which runtime drives the cores.", "runtime", &facts.runtime);
        made.fact(
            "cairn_version",
            "Which version of Cairn is running.",
            "version",
            crate::version::CAIRN_VERSION,
        );
        let features = made.gauges_of(
            "etcd_server_feature_enabled",
            "Whether a feature gate is on.",
            &["name", "stage"],
        );
        for (name, stage, is_on) in facts.features.shown() {
            features.with_label_values(&[name, stage]).set(i64::from(is_on));
        }
        empty::register(&made);
        let work = Arc::new(Work::default());
        let collector = Box::new(WorkCollector::new(Arc::clone(&work)));
        registry.register(collector).expect("names of its own");
        made.gauge("etcd_server_quota_backend_bytes", "The quota in bytes.").set(facts.quota_bytes);
        let refusals = made.counters(
            "cairn_client_refusals_total",
            "Times that a client was refused because it had too much of something.",
            "budget",
        );
        Self {
            calls: Calls::new(&made, facts.level),
            checks: Checks::new(&made),
            work,
            watches: Watches::new(&made),
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
            wal_write: made.histogram(
                "etcd_disk_wal_write_duration_seconds",
                "The same: to write and to sync are one.",
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
            heartbeats_late: made.counter(
                "etcd_server_heartbeat_send_failures_total",
                "Times that this member led and its disk was stalled for longer than an election timeout.",
            ),
            snapshot_saved: made.histogram(
                "etcd_debugging_snap_save_total_duration_seconds",
                "How long a snapshot of the state takes to be on disk.",
                (0.001, 14),
            ),
            descriptors: [
                made.gauge("os_fd_used", "Descriptors in use."),
                made.gauge("os_fd_limit", "Descriptors that may be."),
            ],
            scrapes: {
                let name = "promhttp_metric_handler_requests_in_flight";
                made.gauge(name, "Scrapes under way: this one.").set(1);
                made.counters(
                "promhttp_metric_handler_requests_total",
                "Times that metrics were asked for.",
                "code",
            )
            },
            health_success: made
                .counter("etcd_server_health_success", "Health checks that succeeded."),
            health_failures: made
                .counter("etcd_server_health_failures", "Health checks that failed."),
            connections: made.gauge("cairn_connections", "Connections of clients."),
            connections_refused: made.counter(
                "cairn_connections_refused_total",
                "Connections of clients that were closed at once: there were too many.",
            ),
            refusals: Budget::ALL.map(|budget| refusals.with_label_values(&[budget.name()])),
            spans: spans::Counters {
                exported: made.counter(
                    "cairn_spans_exported_total",
                    "Spans that have arrived at a collector.",
                ),
                dropped: made.counter(
                    "cairn_spans_dropped_total",
                    "Spans that were lost: there was no room, or no collector.",
                ),
            },
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
        self.calls.started(method);
    }

    /// Counts a message of a client, and its bytes.
    pub fn received(&self, method: Method, bytes: usize) {
        self.calls.received(method, bytes);
    }

    /// Counts a message to a client, and its bytes.
    pub fn sent(&self, method: Method, bytes: usize) {
        self.calls.sent(method, bytes);
    }

    /// Counts a call that ended after so long.
    pub fn handled(&self, method: Method, code: Code, took: Duration) {
        self.calls.handled(method, code, took);
        if matches!(method, Method::Range | Method::RangeStream) && code == Code::Ok {
            self.work.count_range();
        }
    }

    /// Counts a call by the version that its client says it speaks.
    pub fn asked_by(&self, method: Method, version: &str) {
        self.calls.asked_by(method, version);
    }

    /// Takes what the engine has counted.
    pub fn set_tally(&self, tally: Tally) {
        self.work.set(tally);
    }

    /// Counts a stream of watches while it lasts.
    pub(crate) fn watching(&self) -> Watching<'_> {
        self.watches.begin()
    }

    /// Counts a learner that was not promoted.
    pub fn promote_failed(&self, reason: &str) {
        self.calls.promote_failed(reason);
    }

    /// Counts a check of `livez` or `readyz`.
    pub fn checked(&self, kind: &str, name: &str, is_well: bool) {
        self.checks.done(kind, name, is_well);
    }

    /// Notes a durable write to the log.
    pub fn log_written(&self, bytes: u64, took: Duration) {
        self.wal_fsync.observe(took.as_secs_f64());
        self.wal_write.observe(took.as_secs_f64());
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
        self.gauges_of(name, help, &[label])
    }

    /// A counter for each value of a label.
    fn counters(&self, name: &str, help: &str, label: &str) -> IntCounterVec {
        self.vector(name, help, &[label])
    }

    /// A histogram whose buckets double, from a first one on.
    fn histogram(&self, name: &str, help: &str, (first, count): (f64, usize)) -> Histogram {
        let options = HistogramOpts::new(name, help).buckets(doubling(first, count));
        let histogram = Histogram::with_opts(options).expect("a well-formed name");
        self.0.register(Box::new(histogram.clone())).expect("a name of its own");
        histogram
    }

    /// A counter for each value of several labels.
    fn vector(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        let vector = IntCounterVec::new(Opts::new(name, help), labels).expect("a well-formed name");
        self.0.register(Box::new(vector.clone())).expect("a name of its own");
        vector
    }

    /// A gauge for each value of several labels.
    fn gauges_of(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        let gauges = IntGaugeVec::new(Opts::new(name, help), labels).expect("a well-formed name");
        self.0.register(Box::new(gauges.clone())).expect("a name of its own");
        gauges
    }

    /// A histogram for each value of several labels.
    fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: Vec<f64>,
    ) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(buckets);
        let histograms = HistogramVec::new(options, labels).expect("a well-formed name");
        self.0.register(Box::new(histograms.clone())).expect("a name of its own");
        histograms
    }
}

/// Upper bounds of buckets that double, from a first one on.
fn doubling(first: f64, count: usize) -> Vec<f64> {
    exponential_buckets(first, 2.0, count).expect("positive")
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
            level: MetricsLevel::Extensive,
            features: FeatureGates::new(&[]),
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
        metrics.handled(Method::Put, Code::NotFound, Duration::from_millis(3));
        metrics.handled(Method::Put, Code::Unavailable, Duration::from_secs(7));
        metrics.received(Method::Put, 10);
        let text = metrics.to_text();
        let line = r#"grpc_server_handled_total{grpc_code="NotFound",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1"#;
        assert!(text.contains(line));
        for line in [
            "etcd_server_proposals_failed_total 1",
            "etcd_network_client_grpc_received_bytes_total 10",
            r#"etcd_server_request_duration_seconds_count{success="false",type="Put"} 2"#,
            r#"grpc_server_handling_seconds_count{grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 2"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }
}
