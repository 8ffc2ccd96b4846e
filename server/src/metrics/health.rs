//! Health checks, by their names.

use prometheus::{IntCounterVec, IntGaugeVec};

use super::Maker;

/// What came of checks.
#[derive(Debug)]
pub(super) struct Checks {
    last: IntGaugeVec,
    total: IntCounterVec,
}

impl Checks {
    pub(super) fn new(made: &Maker<'_>) -> Self {
        Self {
            last: made.gauges_of(
                "etcd_server_healthcheck",
                "Whether a check of /livez or /readyz succeeded when it was made last.",
                &["type", "name"],
            ),
            total: made.vector(
                "etcd_server_healthchecks_total",
                "Checks of /livez and /readyz.",
                &["type", "name", "status"],
            ),
        }
    }

    pub(super) fn done(&self, kind: &str, name: &str, is_well: bool) {
        self.last.with_label_values(&[kind, name]).set(i64::from(is_well));
        let status = if is_well { "success" } else { "error" };
        self.total.with_label_values(&[kind, name, status]).inc();
    }
}
