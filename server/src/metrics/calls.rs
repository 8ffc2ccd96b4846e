//! Calls of clients: how many, how they ended, how long they took, how many bytes they were.

use core::time::Duration;
use std::sync::OnceLock;

use cairn_engine::api::Code;
use prometheus::{DEFAULT_BUCKETS, Histogram, HistogramVec, IntCounter, IntCounterVec};

use super::Maker;
use crate::config::MetricsLevel;
use crate::grpc::method::{Kind, METHODS, Method};

/// All of that.
#[derive(Debug)]
pub(super) struct Calls {
    /// One of each for every method, in the order of the table.
    methods: Vec<Counters>,
    durations: HistogramVec,
    received_bytes: IntCounter,
    sent_bytes: IntCounter,
    proposals_failed: IntCounter,
    reads_failed: IntCounter,
    /// By kind and the version that a client says it speaks.
    asked_by: IntCounterVec,
    promoted: IntCounter,
    not_promoted: IntCounterVec,
}

#[derive(Debug)]
struct Counters {
    started: IntCounter,
    received: IntCounter,
    sent: IntCounter,
    /// In the order of the codes' numbers.
    handled: Vec<IntCounter>,
    /// With `--metrics extensive`.
    handling: Option<Histogram>,
    /// Of calls that ended well, and of those that did not; made when there is one.
    durations: [OnceLock<Histogram>; 2],
}

impl Calls {
    pub(super) fn new(made: &Maker<'_>, level: MetricsLevel) -> Self {
        let labels = ["grpc_type", "grpc_service", "grpc_method"];
        let with_code = ["grpc_type", "grpc_service", "grpc_method", "grpc_code"];
        let started = made.vector("grpc_server_started_total", "Calls that began.", &labels);
        let received =
            made.vector("grpc_server_msg_received_total", "Messages of clients.", &labels);
        let sent = made.vector("grpc_server_msg_sent_total", "Messages to clients.", &labels);
        let handled = made.vector("grpc_server_handled_total", "Calls that ended.", &with_code);
        let handling = (level == MetricsLevel::Extensive).then(|| {
            let help = "How long calls take, with --metrics extensive.";
            let buckets = DEFAULT_BUCKETS.to_vec();
            made.histograms("grpc_server_handling_seconds", help, &labels, buckets)
        });
        let counters = |row: &crate::grpc::method::Row| {
            let labels = [row.kind.name(), row.service, row.name];
            let [kind, service, name] = labels;
            let handled =
                |code: &Code| handled.with_label_values(&[kind, service, name, code.name()]);
            Counters {
                started: started.with_label_values(&labels),
                received: received.with_label_values(&labels),
                sent: sent.with_label_values(&labels),
                handled: Code::ALL.iter().map(handled).collect(),
                handling: handling.as_ref().map(|handling| handling.with_label_values(&labels)),
                durations: Default::default(),
            }
        };
        Self {
            methods: METHODS.iter().map(counters).collect(),
            durations: made.histograms(
                "etcd_server_request_duration_seconds",
                "How long unary calls take, by their names.",
                &["type", "success"],
                super::doubling(0.001, 14),
            ),
            received_bytes: made.counter(
                "etcd_network_client_grpc_received_bytes_total",
                "Bytes of messages of clients.",
            ),
            sent_bytes: made.counter(
                "etcd_network_client_grpc_sent_bytes_total",
                "Bytes of messages to clients.",
            ),
            proposals_failed: made.counter(
                "etcd_server_proposals_failed_total",
                "Writes of clients that the cluster did not take: no leader, or no answer in time.",
            ),
            reads_failed: made.counter(
                "etcd_server_read_indexes_failed_total",
                "Reads of clients that failed for the same reasons.",
            ),
            asked_by: made.vector(
                "etcd_server_client_requests_total",
                "Calls by the version that clients say they speak.",
                &["type", "client_api_version"],
            ),
            promoted: made.counter(
                "etcd_server_learner_promote_successes",
                "Learners that were promoted by this member.",
            ),
            not_promoted: made.counters(
                "etcd_server_learner_promote_failures",
                "Learners that were not, by reason.",
                "Reason",
            ),
        }
    }

    pub(super) fn started(&self, method: Method) {
        self.methods[method.place()].started.inc();
    }

    pub(super) fn asked_by(&self, method: Method, version: &str) {
        let kind = if method.row().kind == Kind::Unary { "unary" } else { "stream" };
        // Each other label is a line for ever, so only what is a version of this API becomes one.
        let minor = version.strip_prefix("3.").unwrap_or_default();
        let is_version =
            matches!(minor.len(), 1 | 2) && minor.bytes().all(|byte| byte.is_ascii_digit());
        let version = if is_version { version } else { "unknown" };
        self.asked_by.with_label_values(&[kind, version]).inc();
    }

    pub(super) fn received(&self, method: Method, bytes: usize) {
        self.methods[method.place()].received.inc();
        self.received_bytes.inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    pub(super) fn sent(&self, method: Method, bytes: usize) {
        self.methods[method.place()].sent.inc();
        self.sent_bytes.inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// Counts a call that ended after so long.
    pub(super) fn handled(&self, method: Method, code: Code, took: Duration) {
        let counters = &self.methods[method.place()];
        counters.handled[usize::from(code.number())].inc();
        let seconds = took.as_secs_f64();
        if let Some(handling) = &counters.handling {
            handling.observe(seconds);
        }
        if method.row().kind == Kind::Unary {
            let is_well = code == Code::Ok;
            let durations = counters.durations[usize::from(is_well)].get_or_init(|| {
                let success = if is_well { "true" } else { "false" };
                self.durations.with_label_values(&[method.row().name, success])
            });
            durations.observe(seconds);
        }
        match (method, code) {
            (Method::Range, Code::Unavailable) => self.reads_failed.inc(),
            (method, Code::Unavailable) if is_proposal(method) => self.proposals_failed.inc(),
            (Method::MemberPromote, Code::Ok) => self.promoted.inc(),
            _ => {}
        }
    }

    pub(super) fn promote_failed(&self, reason: &str) {
        self.not_promoted.with_label_values(&[reason]).inc();
    }
}

/// Whether a call is for the log.
fn is_proposal(method: Method) -> bool {
    matches!(
        method,
        Method::Put
            | Method::DeleteRange
            | Method::Txn
            | Method::Compact
            | Method::LeaseGrant
            | Method::LeaseRevoke
            | Method::Alarm
    )
}
