//! What messages are made of, for the JSON gateway.
//!
//! @generated from `engine/proto` by `cargo xtask proto`.

use super::descriptor::{Enum, Field, Kind, Message};

static ALARM_MEMBER: Message = Message(&[
    Field::one(1, "memberID", "memberID", Kind::Uint64),
    Field::one(2, "alarm", "alarm", Kind::Enum(&ALARM_TYPE)),
]);

static ALARM_REQUEST: Message = Message(&[
    Field::one(1, "action", "action", Kind::Enum(&ALARM_REQUEST_ALARM_ACTION)),
    Field::one(2, "memberID", "memberID", Kind::Uint64),
    Field::one(3, "alarm", "alarm", Kind::Enum(&ALARM_TYPE)),
]);

static ALARM_REQUEST_ALARM_ACTION: Enum = Enum(&[("GET", 0), ("ACTIVATE", 1), ("DEACTIVATE", 2)]);

static ALARM_RESPONSE: Message = Message(&[
    Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER)),
    Field::many(2, "alarms", "alarms", Kind::Message(&ALARM_MEMBER)),
]);

static ALARM_TYPE: Enum = Enum(&[("NONE", 0), ("NOSPACE", 1), ("CORRUPT", 2)]);

static AUTHENTICATE_REQUEST: Message = Message(&[
    Field::one(1, "name", "name", Kind::String),
    Field::one(2, "password", "password", Kind::String),
]);

static AUTHENTICATE_RESPONSE: Message = Message(&[
    Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER)),
    Field::one(2, "token", "token", Kind::String),
]);

static AUTH_DISABLE_REQUEST: Message = Message(&[]);

static AUTH_DISABLE_RESPONSE: Message =
    Message(&[Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER))]);

static AUTH_ENABLE_REQUEST: Message = Message(&[]);

static AUTH_ENABLE_RESPONSE: Message =
    Message(&[Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER))]);

static AUTH_ROLE_ADD_REQUEST: Message = Message(&[Field::one(1, "name", "name", Kind::String)]);

static AUTH_ROLE_ADD_RESPONSE: Message =
    Message(&[Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER))]);

static AUTH_ROLE_DELETE_REQUEST: Message = Message(&[Field::one(1, "role", "role", Kind::String)]);

static AUTH_ROLE_DELETE_RESPONSE: Message =
    Message(&[Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER))]);

static AUTH_ROLE_GET_REQUEST: Message = Message(&[Field::one(1, "role", "role", Kind::String)]);

static AUTH_ROLE_GET_RESPONSE: Message = Message(&[
    Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER)),
    Field::many(2, "perm", "perm", Kind::Message(&PERMISSION)),
]);

static AUTH_ROLE_GRANT_PERMISSION_REQUEST: Message = Message(&[
    Field::one(1, "name", "name", Kind::String),
    Field::one(2, "perm", "perm", Kind::Message(&PERMISSION)),
]);

static AUTH_ROLE_GRANT_PERMISSION_RESPONSE: Message =
    Message(&[Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER))]);

static AUTH_ROLE_LIST_REQUEST: Message = Message(&[]);

static AUTH_ROLE_LIST_RESPONSE: Message = Message(&[
    Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER)),
    Field::many(2, "roles", "roles", Kind::String),
]);

static AUTH_ROLE_REVOKE_PERMISSION_REQUEST: Message = Message(&[
    Field::one(1, "role", "role", Kind::String),
    Field::one(2, "key", "key", Kind::Bytes),
    Field::one(3, "range_end", "rangeEnd", Kind::Bytes),
]);

static AUTH_ROLE_REVOKE_PERMISSION_RESPONSE: Message =
    Message(&[Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER))]);

static AUTH_STATUS_REQUEST: Message = Message(&[]);

static AUTH_STATUS_RESPONSE: Message = Message(&[
    Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER)),
    Field::one(2, "enabled", "enabled", Kind::Bool),
    Field::one(3, "authRevision", "authRevision", Kind::Uint64),
]);

static AUTH_USER_ADD_REQUEST: Message = Message(&[
    Field::one(1, "name", "name", Kind::String),
    Field::one(2, "password", "password", Kind::String),
    Field::one(3, "options", "options", Kind::Message(&USER_ADD_OPTIONS)),
    Field::one(4, "hashedPassword", "hashedPassword", Kind::String),
]);

static AUTH_USER_ADD_RESPONSE: Message =
    Message(&[Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER))]);

static AUTH_USER_CHANGE_PASSWORD_REQUEST: Message = Message(&[
    Field::one(1, "name", "name", Kind::String),
    Field::one(2, "password", "password", Kind::String),
    Field::one(3, "hashedPassword", "hashedPassword", Kind::String),
]);

static AUTH_USER_CHANGE_PASSWORD_RESPONSE: Message =
    Message(&[Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER))]);

static AUTH_USER_DELETE_REQUEST: Message = Message(&[Field::one(1, "name", "name", Kind::String)]);

static AUTH_USER_DELETE_RESPONSE: Message =
    Message(&[Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER))]);

static AUTH_USER_GET_REQUEST: Message = Message(&[Field::one(1, "name", "name", Kind::String)]);

static AUTH_USER_GET_RESPONSE: Message = Message(&[
    Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER)),
    Field::many(2, "roles", "roles", Kind::String),
]);

static AUTH_USER_GRANT_ROLE_REQUEST: Message = Message(&[
    Field::one(1, "user", "user", Kind::String),
    Field::one(2, "role", "role", Kind::String),
]);

static AUTH_USER_GRANT_ROLE_RESPONSE: Message =
    Message(&[Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER))]);

static AUTH_USER_LIST_REQUEST: Message = Message(&[]);

static AUTH_USER_LIST_RESPONSE: Message = Message(&[
    Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER)),
    Field::many(2, "users", "users", Kind::String),
]);

static AUTH_USER_REVOKE_ROLE_REQUEST: Message = Message(&[
    Field::one(1, "name", "name", Kind::String),
    Field::one(2, "role", "role", Kind::String),
]);

static AUTH_USER_REVOKE_ROLE_RESPONSE: Message =
    Message(&[Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER))]);

static CAMPAIGN_REQUEST: Message = Message(&[
    Field::one(1, "name", "name", Kind::Bytes),
    Field::one(2, "lease", "lease", Kind::Int64),
    Field::one(3, "value", "value", Kind::Bytes),
]);

static CAMPAIGN_RESPONSE: Message = Message(&[
    Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER)),
    Field::one(2, "leader", "leader", Kind::Message(&LEADER_KEY)),
]);

static COMPACTION_REQUEST: Message = Message(&[
    Field::one(1, "revision", "revision", Kind::Int64),
    Field::one(2, "physical", "physical", Kind::Bool),
]);

static COMPACTION_RESPONSE: Message =
    Message(&[Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER))]);

static COMPARE: Message = Message(&[
    Field::one(1, "result", "result", Kind::Enum(&COMPARE_COMPARE_RESULT)),
    Field::one(2, "target", "target", Kind::Enum(&COMPARE_COMPARE_TARGET)),
    Field::one(3, "key", "key", Kind::Bytes),
    Field::one(4, "version", "version", Kind::Int64),
    Field::one(5, "create_revision", "createRevision", Kind::Int64),
    Field::one(6, "mod_revision", "modRevision", Kind::Int64),
    Field::one(7, "value", "value", Kind::Bytes),
    Field::one(8, "lease", "lease", Kind::Int64),
    Field::one(64, "range_end", "rangeEnd", Kind::Bytes),
]);

static COMPARE_COMPARE_RESULT: Enum =
    Enum(&[("EQUAL", 0), ("GREATER", 1), ("LESS", 2), ("NOT_EQUAL", 3)]);

static COMPARE_COMPARE_TARGET: Enum =
    Enum(&[("VERSION", 0), ("CREATE", 1), ("MOD", 2), ("VALUE", 3), ("LEASE", 4)]);

static DEFRAGMENT_REQUEST: Message = Message(&[]);

static DEFRAGMENT_RESPONSE: Message =
    Message(&[Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER))]);

static DELETE_RANGE_REQUEST: Message = Message(&[
    Field::one(1, "key", "key", Kind::Bytes),
    Field::one(2, "range_end", "rangeEnd", Kind::Bytes),
    Field::one(3, "prev_kv", "prevKv", Kind::Bool),
]);

static DELETE_RANGE_RESPONSE: Message = Message(&[
    Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER)),
    Field::one(2, "deleted", "deleted", Kind::Int64),
    Field::many(3, "prev_kvs", "prevKvs", Kind::Message(&KEY_VALUE)),
]);

static DOWNGRADE_INFO: Message = Message(&[
    Field::one(1, "enabled", "enabled", Kind::Bool),
    Field::one(2, "targetVersion", "targetVersion", Kind::String),
]);

static DOWNGRADE_REQUEST: Message = Message(&[
    Field::one(1, "action", "action", Kind::Enum(&DOWNGRADE_REQUEST_DOWNGRADE_ACTION)),
    Field::one(2, "version", "version", Kind::String),
]);

static DOWNGRADE_REQUEST_DOWNGRADE_ACTION: Enum =
    Enum(&[("VALIDATE", 0), ("ENABLE", 1), ("CANCEL", 2)]);

static DOWNGRADE_RESPONSE: Message = Message(&[
    Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER)),
    Field::one(2, "version", "version", Kind::String),
]);

static EVENT: Message = Message(&[
    Field::one(1, "type", "type", Kind::Enum(&EVENT_EVENT_TYPE)),
    Field::one(2, "kv", "kv", Kind::Message(&KEY_VALUE)),
    Field::one(3, "prev_kv", "prevKv", Kind::Message(&KEY_VALUE)),
]);

static EVENT_EVENT_TYPE: Enum = Enum(&[("PUT", 0), ("DELETE", 1)]);

static HASH_KVREQUEST: Message = Message(&[Field::one(1, "revision", "revision", Kind::Int64)]);

static HASH_KVRESPONSE: Message = Message(&[
    Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER)),
    Field::one(2, "hash", "hash", Kind::Uint32),
    Field::one(3, "compact_revision", "compactRevision", Kind::Int64),
    Field::one(4, "hash_revision", "hashRevision", Kind::Int64),
]);

static HASH_REQUEST: Message = Message(&[]);

static HASH_RESPONSE: Message = Message(&[
    Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER)),
    Field::one(2, "hash", "hash", Kind::Uint32),
]);

static KEY_VALUE: Message = Message(&[
    Field::one(1, "key", "key", Kind::Bytes),
    Field::one(2, "create_revision", "createRevision", Kind::Int64),
    Field::one(3, "mod_revision", "modRevision", Kind::Int64),
    Field::one(4, "version", "version", Kind::Int64),
    Field::one(5, "value", "value", Kind::Bytes),
    Field::one(6, "lease", "lease", Kind::Int64),
]);

static LEADER_KEY: Message = Message(&[
    Field::one(1, "name", "name", Kind::Bytes),
    Field::one(2, "key", "key", Kind::Bytes),
    Field::one(3, "rev", "rev", Kind::Int64),
    Field::one(4, "lease", "lease", Kind::Int64),
]);

static LEADER_REQUEST: Message = Message(&[Field::one(1, "name", "name", Kind::Bytes)]);

static LEADER_RESPONSE: Message = Message(&[
    Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER)),
    Field::one(2, "kv", "kv", Kind::Message(&KEY_VALUE)),
]);

static LEASE_GRANT_REQUEST: Message =
    Message(&[Field::one(1, "TTL", "TTL", Kind::Int64), Field::one(2, "ID", "ID", Kind::Int64)]);

static LEASE_GRANT_RESPONSE: Message = Message(&[
    Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER)),
    Field::one(2, "ID", "ID", Kind::Int64),
    Field::one(3, "TTL", "TTL", Kind::Int64),
    Field::one(4, "error", "error", Kind::String),
]);

static LEASE_KEEP_ALIVE_REQUEST: Message = Message(&[Field::one(1, "ID", "ID", Kind::Int64)]);

static LEASE_KEEP_ALIVE_RESPONSE: Message = Message(&[
    Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER)),
    Field::one(2, "ID", "ID", Kind::Int64),
    Field::one(3, "TTL", "TTL", Kind::Int64),
]);

static LEASE_LEASES_REQUEST: Message = Message(&[]);

static LEASE_LEASES_RESPONSE: Message = Message(&[
    Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER)),
    Field::many(2, "leases", "leases", Kind::Message(&LEASE_STATUS)),
]);

static LEASE_REVOKE_REQUEST: Message = Message(&[Field::one(1, "ID", "ID", Kind::Int64)]);

static LEASE_REVOKE_RESPONSE: Message =
    Message(&[Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER))]);

static LEASE_STATUS: Message = Message(&[Field::one(1, "ID", "ID", Kind::Int64)]);

static LEASE_TIME_TO_LIVE_REQUEST: Message =
    Message(&[Field::one(1, "ID", "ID", Kind::Int64), Field::one(2, "keys", "keys", Kind::Bool)]);

static LEASE_TIME_TO_LIVE_RESPONSE: Message = Message(&[
    Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER)),
    Field::one(2, "ID", "ID", Kind::Int64),
    Field::one(3, "TTL", "TTL", Kind::Int64),
    Field::one(4, "grantedTTL", "grantedTTL", Kind::Int64),
    Field::many(5, "keys", "keys", Kind::Bytes),
]);

static LOCK_REQUEST: Message = Message(&[
    Field::one(1, "name", "name", Kind::Bytes),
    Field::one(2, "lease", "lease", Kind::Int64),
]);

static LOCK_RESPONSE: Message = Message(&[
    Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER)),
    Field::one(2, "key", "key", Kind::Bytes),
]);

static MEMBER: Message = Message(&[
    Field::one(1, "ID", "ID", Kind::Uint64),
    Field::one(2, "name", "name", Kind::String),
    Field::many(3, "peerURLs", "peerURLs", Kind::String),
    Field::many(4, "clientURLs", "clientURLs", Kind::String),
    Field::one(5, "isLearner", "isLearner", Kind::Bool),
]);

static MEMBER_ADD_REQUEST: Message = Message(&[
    Field::many(1, "peerURLs", "peerURLs", Kind::String),
    Field::one(2, "isLearner", "isLearner", Kind::Bool),
]);

static MEMBER_ADD_RESPONSE: Message = Message(&[
    Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER)),
    Field::one(2, "member", "member", Kind::Message(&MEMBER)),
    Field::many(3, "members", "members", Kind::Message(&MEMBER)),
]);

static MEMBER_LIST_REQUEST: Message =
    Message(&[Field::one(1, "linearizable", "linearizable", Kind::Bool)]);

static MEMBER_LIST_RESPONSE: Message = Message(&[
    Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER)),
    Field::many(2, "members", "members", Kind::Message(&MEMBER)),
]);

static MEMBER_PROMOTE_REQUEST: Message = Message(&[Field::one(1, "ID", "ID", Kind::Uint64)]);

static MEMBER_PROMOTE_RESPONSE: Message = Message(&[
    Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER)),
    Field::many(2, "members", "members", Kind::Message(&MEMBER)),
]);

static MEMBER_REMOVE_REQUEST: Message = Message(&[Field::one(1, "ID", "ID", Kind::Uint64)]);

static MEMBER_REMOVE_RESPONSE: Message = Message(&[
    Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER)),
    Field::many(2, "members", "members", Kind::Message(&MEMBER)),
]);

static MEMBER_UPDATE_REQUEST: Message = Message(&[
    Field::one(1, "ID", "ID", Kind::Uint64),
    Field::many(2, "peerURLs", "peerURLs", Kind::String),
]);

static MEMBER_UPDATE_RESPONSE: Message = Message(&[
    Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER)),
    Field::many(2, "members", "members", Kind::Message(&MEMBER)),
]);

static MOVE_LEADER_REQUEST: Message =
    Message(&[Field::one(1, "targetID", "targetID", Kind::Uint64)]);

static MOVE_LEADER_RESPONSE: Message =
    Message(&[Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER))]);

static PERMISSION: Message = Message(&[
    Field::one(1, "permType", "permType", Kind::Enum(&PERMISSION_TYPE)),
    Field::one(2, "key", "key", Kind::Bytes),
    Field::one(3, "range_end", "rangeEnd", Kind::Bytes),
]);

static PERMISSION_TYPE: Enum = Enum(&[("READ", 0), ("WRITE", 1), ("READWRITE", 2)]);

static PROCLAIM_REQUEST: Message = Message(&[
    Field::one(1, "leader", "leader", Kind::Message(&LEADER_KEY)),
    Field::one(2, "value", "value", Kind::Bytes),
]);

static PROCLAIM_RESPONSE: Message =
    Message(&[Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER))]);

static PUT_REQUEST: Message = Message(&[
    Field::one(1, "key", "key", Kind::Bytes),
    Field::one(2, "value", "value", Kind::Bytes),
    Field::one(3, "lease", "lease", Kind::Int64),
    Field::one(4, "prev_kv", "prevKv", Kind::Bool),
    Field::one(5, "ignore_value", "ignoreValue", Kind::Bool),
    Field::one(6, "ignore_lease", "ignoreLease", Kind::Bool),
]);

static PUT_RESPONSE: Message = Message(&[
    Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER)),
    Field::one(2, "prev_kv", "prevKv", Kind::Message(&KEY_VALUE)),
]);

static RANGE_REQUEST: Message = Message(&[
    Field::one(1, "key", "key", Kind::Bytes),
    Field::one(2, "range_end", "rangeEnd", Kind::Bytes),
    Field::one(3, "limit", "limit", Kind::Int64),
    Field::one(4, "revision", "revision", Kind::Int64),
    Field::one(5, "sort_order", "sortOrder", Kind::Enum(&RANGE_REQUEST_SORT_ORDER)),
    Field::one(6, "sort_target", "sortTarget", Kind::Enum(&RANGE_REQUEST_SORT_TARGET)),
    Field::one(7, "serializable", "serializable", Kind::Bool),
    Field::one(8, "keys_only", "keysOnly", Kind::Bool),
    Field::one(9, "count_only", "countOnly", Kind::Bool),
    Field::one(10, "min_mod_revision", "minModRevision", Kind::Int64),
    Field::one(11, "max_mod_revision", "maxModRevision", Kind::Int64),
    Field::one(12, "min_create_revision", "minCreateRevision", Kind::Int64),
    Field::one(13, "max_create_revision", "maxCreateRevision", Kind::Int64),
]);

static RANGE_REQUEST_SORT_ORDER: Enum = Enum(&[("NONE", 0), ("ASCEND", 1), ("DESCEND", 2)]);

static RANGE_REQUEST_SORT_TARGET: Enum =
    Enum(&[("KEY", 0), ("VERSION", 1), ("CREATE", 2), ("MOD", 3), ("VALUE", 4)]);

static RANGE_RESPONSE: Message = Message(&[
    Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER)),
    Field::many(2, "kvs", "kvs", Kind::Message(&KEY_VALUE)),
    Field::one(3, "more", "more", Kind::Bool),
    Field::one(4, "count", "count", Kind::Int64),
]);

static RANGE_STREAM_RESPONSE: Message =
    Message(&[Field::one(1, "range_response", "rangeResponse", Kind::Message(&RANGE_RESPONSE))]);

static REQUEST_OP: Message = Message(&[
    Field::one(1, "request_range", "requestRange", Kind::Message(&RANGE_REQUEST)),
    Field::one(2, "request_put", "requestPut", Kind::Message(&PUT_REQUEST)),
    Field::one(
        3,
        "request_delete_range",
        "requestDeleteRange",
        Kind::Message(&DELETE_RANGE_REQUEST),
    ),
    Field::one(4, "request_txn", "requestTxn", Kind::Message(&TXN_REQUEST)),
]);

static RESIGN_REQUEST: Message =
    Message(&[Field::one(1, "leader", "leader", Kind::Message(&LEADER_KEY))]);

static RESIGN_RESPONSE: Message =
    Message(&[Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER))]);

static RESPONSE_HEADER: Message = Message(&[
    Field::one(1, "cluster_id", "clusterId", Kind::Uint64),
    Field::one(2, "member_id", "memberId", Kind::Uint64),
    Field::one(3, "revision", "revision", Kind::Int64),
    Field::one(4, "raft_term", "raftTerm", Kind::Uint64),
]);

static RESPONSE_OP: Message = Message(&[
    Field::one(1, "response_range", "responseRange", Kind::Message(&RANGE_RESPONSE)),
    Field::one(2, "response_put", "responsePut", Kind::Message(&PUT_RESPONSE)),
    Field::one(
        3,
        "response_delete_range",
        "responseDeleteRange",
        Kind::Message(&DELETE_RANGE_RESPONSE),
    ),
    Field::one(4, "response_txn", "responseTxn", Kind::Message(&TXN_RESPONSE)),
]);

static SNAPSHOT_REQUEST: Message = Message(&[]);

static SNAPSHOT_RESPONSE: Message = Message(&[
    Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER)),
    Field::one(2, "remaining_bytes", "remainingBytes", Kind::Uint64),
    Field::one(3, "blob", "blob", Kind::Bytes),
    Field::one(4, "version", "version", Kind::String),
]);

static STATUS_REQUEST: Message = Message(&[]);

static STATUS_RESPONSE: Message = Message(&[
    Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER)),
    Field::one(2, "version", "version", Kind::String),
    Field::one(3, "dbSize", "dbSize", Kind::Int64),
    Field::one(4, "leader", "leader", Kind::Uint64),
    Field::one(5, "raftIndex", "raftIndex", Kind::Uint64),
    Field::one(6, "raftTerm", "raftTerm", Kind::Uint64),
    Field::one(7, "raftAppliedIndex", "raftAppliedIndex", Kind::Uint64),
    Field::many(8, "errors", "errors", Kind::String),
    Field::one(9, "dbSizeInUse", "dbSizeInUse", Kind::Int64),
    Field::one(10, "isLearner", "isLearner", Kind::Bool),
    Field::one(11, "storageVersion", "storageVersion", Kind::String),
    Field::one(12, "dbSizeQuota", "dbSizeQuota", Kind::Int64),
    Field::one(13, "downgradeInfo", "downgradeInfo", Kind::Message(&DOWNGRADE_INFO)),
]);

static TXN_REQUEST: Message = Message(&[
    Field::many(1, "compare", "compare", Kind::Message(&COMPARE)),
    Field::many(2, "success", "success", Kind::Message(&REQUEST_OP)),
    Field::many(3, "failure", "failure", Kind::Message(&REQUEST_OP)),
]);

static TXN_RESPONSE: Message = Message(&[
    Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER)),
    Field::one(2, "succeeded", "succeeded", Kind::Bool),
    Field::many(3, "responses", "responses", Kind::Message(&RESPONSE_OP)),
]);

static UNLOCK_REQUEST: Message = Message(&[Field::one(1, "key", "key", Kind::Bytes)]);

static UNLOCK_RESPONSE: Message =
    Message(&[Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER))]);

static USER_ADD_OPTIONS: Message =
    Message(&[Field::one(1, "no_password", "noPassword", Kind::Bool)]);

static WATCH_CANCEL_REQUEST: Message =
    Message(&[Field::one(1, "watch_id", "watchId", Kind::Int64)]);

static WATCH_CREATE_REQUEST: Message = Message(&[
    Field::one(1, "key", "key", Kind::Bytes),
    Field::one(2, "range_end", "rangeEnd", Kind::Bytes),
    Field::one(3, "start_revision", "startRevision", Kind::Int64),
    Field::one(4, "progress_notify", "progressNotify", Kind::Bool),
    Field::many(5, "filters", "filters", Kind::Enum(&WATCH_CREATE_REQUEST_FILTER_TYPE)),
    Field::one(6, "prev_kv", "prevKv", Kind::Bool),
    Field::one(7, "watch_id", "watchId", Kind::Int64),
    Field::one(8, "fragment", "fragment", Kind::Bool),
]);

static WATCH_CREATE_REQUEST_FILTER_TYPE: Enum = Enum(&[("NOPUT", 0), ("NODELETE", 1)]);

static WATCH_PROGRESS_REQUEST: Message = Message(&[]);

static WATCH_REQUEST: Message = Message(&[
    Field::one(1, "create_request", "createRequest", Kind::Message(&WATCH_CREATE_REQUEST)),
    Field::one(2, "cancel_request", "cancelRequest", Kind::Message(&WATCH_CANCEL_REQUEST)),
    Field::one(3, "progress_request", "progressRequest", Kind::Message(&WATCH_PROGRESS_REQUEST)),
]);

static WATCH_RESPONSE: Message = Message(&[
    Field::one(1, "header", "header", Kind::Message(&RESPONSE_HEADER)),
    Field::one(2, "watch_id", "watchId", Kind::Int64),
    Field::one(3, "created", "created", Kind::Bool),
    Field::one(4, "canceled", "canceled", Kind::Bool),
    Field::one(5, "compact_revision", "compactRevision", Kind::Int64),
    Field::one(6, "cancel_reason", "cancelReason", Kind::String),
    Field::one(7, "fragment", "fragment", Kind::Bool),
    Field::many(11, "events", "events", Kind::Message(&EVENT)),
]);

/// Methods with what they take and give.
pub static METHODS: &[(&str, &Message, &Message)] = &[
    ("etcdserverpb.KV/Range", &RANGE_REQUEST, &RANGE_RESPONSE),
    ("etcdserverpb.KV/RangeStream", &RANGE_REQUEST, &RANGE_STREAM_RESPONSE),
    ("etcdserverpb.KV/Put", &PUT_REQUEST, &PUT_RESPONSE),
    ("etcdserverpb.KV/DeleteRange", &DELETE_RANGE_REQUEST, &DELETE_RANGE_RESPONSE),
    ("etcdserverpb.KV/Txn", &TXN_REQUEST, &TXN_RESPONSE),
    ("etcdserverpb.KV/Compact", &COMPACTION_REQUEST, &COMPACTION_RESPONSE),
    ("etcdserverpb.Watch/Watch", &WATCH_REQUEST, &WATCH_RESPONSE),
    ("etcdserverpb.Lease/LeaseGrant", &LEASE_GRANT_REQUEST, &LEASE_GRANT_RESPONSE),
    ("etcdserverpb.Lease/LeaseRevoke", &LEASE_REVOKE_REQUEST, &LEASE_REVOKE_RESPONSE),
    ("etcdserverpb.Lease/LeaseKeepAlive", &LEASE_KEEP_ALIVE_REQUEST, &LEASE_KEEP_ALIVE_RESPONSE),
    (
        "etcdserverpb.Lease/LeaseTimeToLive",
        &LEASE_TIME_TO_LIVE_REQUEST,
        &LEASE_TIME_TO_LIVE_RESPONSE,
    ),
    ("etcdserverpb.Lease/LeaseLeases", &LEASE_LEASES_REQUEST, &LEASE_LEASES_RESPONSE),
    ("etcdserverpb.Cluster/MemberAdd", &MEMBER_ADD_REQUEST, &MEMBER_ADD_RESPONSE),
    ("etcdserverpb.Cluster/MemberRemove", &MEMBER_REMOVE_REQUEST, &MEMBER_REMOVE_RESPONSE),
    ("etcdserverpb.Cluster/MemberUpdate", &MEMBER_UPDATE_REQUEST, &MEMBER_UPDATE_RESPONSE),
    ("etcdserverpb.Cluster/MemberList", &MEMBER_LIST_REQUEST, &MEMBER_LIST_RESPONSE),
    ("etcdserverpb.Cluster/MemberPromote", &MEMBER_PROMOTE_REQUEST, &MEMBER_PROMOTE_RESPONSE),
    ("etcdserverpb.Maintenance/Alarm", &ALARM_REQUEST, &ALARM_RESPONSE),
    ("etcdserverpb.Maintenance/Status", &STATUS_REQUEST, &STATUS_RESPONSE),
    ("etcdserverpb.Maintenance/Defragment", &DEFRAGMENT_REQUEST, &DEFRAGMENT_RESPONSE),
    ("etcdserverpb.Maintenance/Hash", &HASH_REQUEST, &HASH_RESPONSE),
    ("etcdserverpb.Maintenance/HashKV", &HASH_KVREQUEST, &HASH_KVRESPONSE),
    ("etcdserverpb.Maintenance/Snapshot", &SNAPSHOT_REQUEST, &SNAPSHOT_RESPONSE),
    ("etcdserverpb.Maintenance/MoveLeader", &MOVE_LEADER_REQUEST, &MOVE_LEADER_RESPONSE),
    ("etcdserverpb.Maintenance/Downgrade", &DOWNGRADE_REQUEST, &DOWNGRADE_RESPONSE),
    ("etcdserverpb.Auth/AuthEnable", &AUTH_ENABLE_REQUEST, &AUTH_ENABLE_RESPONSE),
    ("etcdserverpb.Auth/AuthDisable", &AUTH_DISABLE_REQUEST, &AUTH_DISABLE_RESPONSE),
    ("etcdserverpb.Auth/AuthStatus", &AUTH_STATUS_REQUEST, &AUTH_STATUS_RESPONSE),
    ("etcdserverpb.Auth/Authenticate", &AUTHENTICATE_REQUEST, &AUTHENTICATE_RESPONSE),
    ("etcdserverpb.Auth/UserAdd", &AUTH_USER_ADD_REQUEST, &AUTH_USER_ADD_RESPONSE),
    ("etcdserverpb.Auth/UserGet", &AUTH_USER_GET_REQUEST, &AUTH_USER_GET_RESPONSE),
    ("etcdserverpb.Auth/UserList", &AUTH_USER_LIST_REQUEST, &AUTH_USER_LIST_RESPONSE),
    ("etcdserverpb.Auth/UserDelete", &AUTH_USER_DELETE_REQUEST, &AUTH_USER_DELETE_RESPONSE),
    (
        "etcdserverpb.Auth/UserChangePassword",
        &AUTH_USER_CHANGE_PASSWORD_REQUEST,
        &AUTH_USER_CHANGE_PASSWORD_RESPONSE,
    ),
    (
        "etcdserverpb.Auth/UserGrantRole",
        &AUTH_USER_GRANT_ROLE_REQUEST,
        &AUTH_USER_GRANT_ROLE_RESPONSE,
    ),
    (
        "etcdserverpb.Auth/UserRevokeRole",
        &AUTH_USER_REVOKE_ROLE_REQUEST,
        &AUTH_USER_REVOKE_ROLE_RESPONSE,
    ),
    ("etcdserverpb.Auth/RoleAdd", &AUTH_ROLE_ADD_REQUEST, &AUTH_ROLE_ADD_RESPONSE),
    ("etcdserverpb.Auth/RoleGet", &AUTH_ROLE_GET_REQUEST, &AUTH_ROLE_GET_RESPONSE),
    ("etcdserverpb.Auth/RoleList", &AUTH_ROLE_LIST_REQUEST, &AUTH_ROLE_LIST_RESPONSE),
    ("etcdserverpb.Auth/RoleDelete", &AUTH_ROLE_DELETE_REQUEST, &AUTH_ROLE_DELETE_RESPONSE),
    (
        "etcdserverpb.Auth/RoleGrantPermission",
        &AUTH_ROLE_GRANT_PERMISSION_REQUEST,
        &AUTH_ROLE_GRANT_PERMISSION_RESPONSE,
    ),
    (
        "etcdserverpb.Auth/RoleRevokePermission",
        &AUTH_ROLE_REVOKE_PERMISSION_REQUEST,
        &AUTH_ROLE_REVOKE_PERMISSION_RESPONSE,
    ),
    ("v3lockpb.Lock/Lock", &LOCK_REQUEST, &LOCK_RESPONSE),
    ("v3lockpb.Lock/Unlock", &UNLOCK_REQUEST, &UNLOCK_RESPONSE),
    ("v3electionpb.Election/Campaign", &CAMPAIGN_REQUEST, &CAMPAIGN_RESPONSE),
    ("v3electionpb.Election/Proclaim", &PROCLAIM_REQUEST, &PROCLAIM_RESPONSE),
    ("v3electionpb.Election/Leader", &LEADER_REQUEST, &LEADER_RESPONSE),
    ("v3electionpb.Election/Observe", &LEADER_REQUEST, &LEADER_RESPONSE),
    ("v3electionpb.Election/Resign", &RESIGN_REQUEST, &RESIGN_RESPONSE),
];
