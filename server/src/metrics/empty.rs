//! What etcd measures and nothing here can: the names are there, so that no panel says "no data", no rule fails, and no
//! list of names is short of one.

use super::Maker;

const COUNTERS: [(&str, &str); 6] = [
    ("etcd_server_slow_apply_total", "Always 0: applying waits for nothing."),
    ("etcd_server_slow_read_indexes_total", "Always 0: reads are asked again without being slow."),
    ("etcd_debugging_mvcc_db_compaction_keys_total", "Always 0: no file is compacted."),
    ("etcd_debugging_store_expires_total", "Always 0: there is no v2 store."),
    ("etcd_debugging_store_watch_requests_total", "Always 0: there is no v2 store."),
    ("etcd_grpc_proxy_events_coalescing_total", "Always 0: this is no proxy."),
];

const GAUGES: [(&str, &str); 11] = [
    (
        "etcd_server_snapshot_apply_in_progress_total",
        "Always 0: a snapshot of the leader's replaces the state at once.",
    ),
    ("etcd_debugging_mvcc_db_compaction_last", "Always 0: no file is compacted."),
    ("etcd_debugging_mvcc_pending_events_total", "Always 0: a watcher has a cursor, no queue."),
    (
        "etcd_debugging_mvcc_slow_watcher_total",
        "Always 0: a watcher that is behind is not counted.",
    ),
    ("etcd_debugging_store_watchers", "Always 0: there is no v2 store."),
    ("etcd_disk_defrag_inflight", "Always 0: there is nothing to defragment."),
    ("etcd_grpc_proxy_cache_hits_total", "Always 0: this is no proxy."),
    ("etcd_grpc_proxy_cache_misses_total", "Always 0: this is no proxy."),
    ("etcd_grpc_proxy_cache_keys_total", "Always 0: this is no proxy."),
    ("etcd_grpc_proxy_watchers_coalescing_total", "Always 0: this is no proxy."),
    ("etcd_mvcc_db_open_read_transactions", "Always 0: readers hold no transaction."),
];

/// With the upper bound of the first bucket, and how many there are; each next one is twice as wide.
const TIMES: [(&str, &str, (f64, usize)); 15] = [
    (
        "etcd_disk_backend_commit_duration_seconds",
        "Always empty: what is committed is in the log, see etcd_disk_wal_fsync_duration_seconds.",
        (0.001, 14),
    ),
    (
        "etcd_disk_backend_defrag_duration_seconds",
        "Always empty: there is nothing to defragment.",
        (0.1, 13),
    ),
    ("etcd_disk_backend_snapshot_duration_seconds", EMPTY_SNAPSHOT, (0.01, 17)),
    ("etcd_snap_db_fsync_duration_seconds", EMPTY_SNAPSHOT, (0.001, 14)),
    ("etcd_snap_db_save_total_duration_seconds", EMPTY_SNAPSHOT, (0.1, 10)),
    ("etcd_snap_fsync_duration_seconds", EMPTY_SNAPSHOT, (0.001, 14)),
    ("etcd_debugging_snap_save_marshalling_duration_seconds", EMPTY_SNAPSHOT, (0.001, 14)),
    ("etcd_debugging_disk_backend_commit_rebalance_duration_seconds", EMPTY_BBOLT, (0.001, 14)),
    ("etcd_debugging_disk_backend_commit_spill_duration_seconds", EMPTY_BBOLT, (0.001, 14)),
    ("etcd_debugging_disk_backend_commit_write_duration_seconds", EMPTY_BBOLT, (0.001, 14)),
    ("etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds", EMPTY_BBOLT, (1.0, 13)),
    ("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds", EMPTY_BBOLT, (100.0, 14)),
    ("etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds", EMPTY_BBOLT, (0.5, 14)),
    ("etcd_mvcc_hash_duration_seconds", EMPTY_HASH, (0.01, 15)),
    ("etcd_mvcc_hash_rev_duration_seconds", EMPTY_HASH, (0.01, 15)),
];

const EMPTY_SNAPSHOT: &str =
    "Always empty: see etcd_debugging_snap_save_total_duration_seconds for what a snapshot takes.";
const EMPTY_BBOLT: &str = "Always empty: the storage is not bbolt.";
const EMPTY_HASH: &str =
    "Always empty: see etcd_server_request_duration_seconds for what Hash and HashKV take.";

/// Makes all of them.
pub(super) fn register(made: &Maker<'_>) {
    for (name, help) in COUNTERS {
        made.counter(name, help);
    }
    for (name, help) in GAUGES {
        made.gauge(name, help);
    }
    for (name, help, buckets) in TIMES {
        made.histogram(name, help, buckets);
    }
}
