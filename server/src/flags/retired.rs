//! Flags of earlier etcds that are still in manifests, and those that nobody looks at.

use crate::flags::table::{
    Flag,
    Treatment::{Ignored, Refused, Replaced, WithoutEffect},
    flag,
};
use crate::flags::value::Kind::{Anything, Bool, Choice, Duration, Signed, Text, Unsigned};

/// Not shown by `--help`.
#[rustfmt::skip] // A table reads as a table.
pub(super) static RETIRED: [Flag; 55] = [
    // Names of experiments that have left the laboratory.
    flag("experimental-bootstrap-defrag-threshold-megabytes", Unsigned, "0", Replaced(&[("bootstrap-defrag-threshold-megabytes", "{}")]), ""),
    flag("experimental-compact-hash-check-time", Duration, "1m", Replaced(&[("compact-hash-check-time", "{}")]), ""),
    flag("experimental-compaction-batch-limit", Signed, "1000", Replaced(&[("compaction-batch-limit", "{}")]), ""),
    flag("experimental-compaction-sleep-interval", Duration, "10ms", Replaced(&[("compaction-sleep-interval", "{}")]), ""),
    flag("experimental-corrupt-check-time", Duration, "0s", Replaced(&[("corrupt-check-time", "{}")]), ""),
    flag("experimental-distributed-tracing-address", Text, "localhost:4317", Replaced(&[("distributed-tracing-address", "{}")]), ""),
    flag("experimental-distributed-tracing-instance-id", Text, "", Replaced(&[("distributed-tracing-instance-id", "{}")]), ""),
    flag("experimental-distributed-tracing-sampling-rate", Signed, "0", Replaced(&[("distributed-tracing-sampling-rate", "{}")]), ""),
    flag("experimental-distributed-tracing-service-name", Text, "etcd", Replaced(&[("distributed-tracing-service-name", "{}")]), ""),
    flag("experimental-downgrade-check-time", Duration, "5s", Replaced(&[("downgrade-check-time", "{}")]), ""),
    flag("experimental-enable-distributed-tracing", Bool, "false", Replaced(&[("enable-distributed-tracing", "{}")]), ""),
    flag("experimental-max-learners", Unsigned, "1", Replaced(&[("max-learners", "{}")]), ""),
    flag("experimental-memory-mlock", Bool, "false", Replaced(&[("memory-mlock", "{}")]), ""),
    flag("experimental-peer-skip-client-san-verification", Bool, "false", Replaced(&[("peer-skip-client-san-verification", "{}")]), ""),
    flag("experimental-snapshot-catch-up-entries", Unsigned, "5000", Replaced(&[("snapshot-catchup-entries", "{}")]), ""),
    flag("experimental-snapshot-catchup-entries", Unsigned, "5000", Replaced(&[("snapshot-catchup-entries", "{}")]), ""),
    flag("experimental-warning-apply-duration", Duration, "100ms", Replaced(&[("warning-apply-duration", "{}")]), ""),
    flag("experimental-warning-unary-request-duration", Duration, "300ms", Replaced(&[("warning-unary-request-duration", "{}")]), ""),
    flag("experimental-watch-progress-notify-interval", Duration, "10m", Replaced(&[("watch-progress-notify-interval", "{}")]), ""),
    // Those that have become gates.
    flag("experimental-compact-hash-check-enabled", Bool, "false", Replaced(&[("feature-gates", "CompactHashCheck={}")]), ""),
    flag("experimental-enable-lease-checkpoint", Bool, "false", Replaced(&[("feature-gates", "LeaseCheckpoint={}")]), ""),
    flag("experimental-enable-lease-checkpoint-persist", Bool, "false", Replaced(&[("feature-gates", "LeaseCheckpointPersist={}")]), ""),
    flag("experimental-initial-corrupt-check", Bool, "false", Replaced(&[("feature-gates", "InitialCorruptCheck={}")]), ""),
    flag("experimental-set-member-localaddr", Bool, "false", Replaced(&[("feature-gates", "SetMemberLocalAddr={}")]), ""),
    flag("experimental-stop-grpc-service-on-defrag", Bool, "false", Replaced(&[("feature-gates", "StopGRPCServiceOnDefrag={}")]), ""),
    flag("experimental-txn-mode-write-with-shared-buffer", Bool, "true", Replaced(&[("feature-gates", "TxnModeWriteWithSharedBuffer={}")]), ""),
    // With these, certificates were demanded without saying so.
    flag("ca-file", Text, "", Replaced(&[("trusted-ca-file", "{}"), ("client-cert-auth", "true")]), ""),
    flag("peer-ca-file", Text, "", Replaced(&[("peer-trusted-ca-file", "{}"), ("peer-client-cert-auth", "true")]), ""),
    // What is gone.
    flag("experimental-backend-bbolt-freelist-type", Text, "", WithoutEffect("the storage is not bbolt"), ""),
    flag("experimental-enable-v2v3", Text, "", WithoutEffect("the v2 API has a store of its own"), ""),
    flag("max-snapshots", Unsigned, "5", WithoutEffect("only snapshots that are needed are kept"), ""),
    flag("v2-deprecation", Text, "not-yet", WithoutEffect("the v2 API is on or off, see --enable-v2"), ""),
    flag("discovery", Text, "", Refused("members are not looked for; name them with --initial-cluster"), ""),
    flag("discovery-proxy", Text, "", WithoutEffect("members are not looked for"), ""),
    flag("proxy", Choice(&["off", "readonly", "on"]), "off", Refused("this is a member of a cluster and no proxy for one"), ""),
    flag("proxy-failure-wait", Unsigned, "5000", WithoutEffect(NO_PROXY), ""),
    flag("proxy-refresh-interval", Unsigned, "30000", WithoutEffect(NO_PROXY), ""),
    flag("proxy-dial-timeout", Unsigned, "1000", WithoutEffect(NO_PROXY), ""),
    flag("proxy-write-timeout", Unsigned, "5000", WithoutEffect(NO_PROXY), ""),
    flag("proxy-read-timeout", Unsigned, "0", WithoutEffect(NO_PROXY), ""),
    // What etcd takes and forgets.
    flag("cluster-active-size", Anything, "", Ignored, ""),
    flag("cluster-remove-delay", Anything, "", Ignored, ""),
    flag("cluster-sync-interval", Anything, "", Ignored, ""),
    flag("config", Anything, "", Ignored, ""),
    flag("force", Anything, "", Ignored, ""),
    flag("max-result-buffer", Anything, "", Ignored, ""),
    flag("max-retry-attempts", Anything, "", Ignored, ""),
    flag("peer-heartbeat-interval", Anything, "", Ignored, ""),
    flag("peer-election-timeout", Anything, "", Ignored, ""),
    flag("retry-interval", Anything, "", Ignored, ""),
    flag("snapshot", Anything, "", Ignored, ""),
    flag("v", Anything, "", Ignored, ""),
    flag("vv", Anything, "", Ignored, ""),
    flag("test.coverprofile", Anything, "", Ignored, ""),
    flag("test.outputdir", Anything, "", Ignored, ""),
];

const NO_PROXY: &str = "this is no proxy";
