//! The table of methods: what the path of a request means.

/// Every method of etcd's gRPC API, and of gRPC's own health service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are etcd's; contract and meaning are in docs/compat.md")]
pub enum Method {
    Range,
    RangeStream,
    Put,
    DeleteRange,
    Txn,
    Compact,
    Watch,
    LeaseGrant,
    LeaseRevoke,
    LeaseKeepAlive,
    LeaseTimeToLive,
    LeaseLeases,
    MemberAdd,
    MemberRemove,
    MemberUpdate,
    MemberList,
    MemberPromote,
    Alarm,
    Status,
    Defragment,
    Hash,
    HashKv,
    Snapshot,
    MoveLeader,
    Downgrade,
    AuthEnable,
    AuthDisable,
    AuthStatus,
    Authenticate,
    UserAdd,
    UserGet,
    UserList,
    UserDelete,
    UserChangePassword,
    UserGrantRole,
    UserRevokeRole,
    RoleAdd,
    RoleGet,
    RoleList,
    RoleDelete,
    RoleGrantPermission,
    RoleRevokePermission,
    Lock,
    Unlock,
    Campaign,
    Proclaim,
    Leader,
    Observe,
    Resign,
    HealthCheck,
    HealthWatch,
}

/// How many messages go which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One question, one answer.
    Unary,
    /// One question, any number of answers.
    ServerStream,
    /// Any number both ways.
    BidiStream,
}

impl Kind {
    /// The kind as metrics call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::ServerStream => "server_stream",
            Self::BidiStream => "bidi_stream",
        }
    }
}

/// One method: what it is, where it is, and how it speaks.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The method.
    pub method: Method,
    /// The service, as the path names it.
    pub service: &'static str,
    /// The method, as the path names it.
    pub name: &'static str,
    /// How it speaks.
    pub kind: Kind,
}

const KV: &str = "etcdserverpb.KV";
const WATCH: &str = "etcdserverpb.Watch";
const LEASE: &str = "etcdserverpb.Lease";
const CLUSTER: &str = "etcdserverpb.Cluster";
const MAINTENANCE: &str = "etcdserverpb.Maintenance";
const AUTH: &str = "etcdserverpb.Auth";
const LOCK: &str = "v3lockpb.Lock";
const ELECTION: &str = "v3electionpb.Election";
const HEALTH: &str = "grpc.health.v1.Health";

const fn unary(method: Method, service: &'static str, name: &'static str) -> Row {
    Row { method, service, name, kind: Kind::Unary }
}

const fn server_stream(method: Method, service: &'static str, name: &'static str) -> Row {
    Row { method, service, name, kind: Kind::ServerStream }
}

const fn bidi_stream(method: Method, service: &'static str, name: &'static str) -> Row {
    Row { method, service, name, kind: Kind::BidiStream }
}

/// All methods, in the order of [`Method`].
pub const METHODS: [Row; 51] = [
    unary(Method::Range, KV, "Range"),
    server_stream(Method::RangeStream, KV, "RangeStream"),
    unary(Method::Put, KV, "Put"),
    unary(Method::DeleteRange, KV, "DeleteRange"),
    unary(Method::Txn, KV, "Txn"),
    unary(Method::Compact, KV, "Compact"),
    bidi_stream(Method::Watch, WATCH, "Watch"),
    unary(Method::LeaseGrant, LEASE, "LeaseGrant"),
    unary(Method::LeaseRevoke, LEASE, "LeaseRevoke"),
    bidi_stream(Method::LeaseKeepAlive, LEASE, "LeaseKeepAlive"),
    unary(Method::LeaseTimeToLive, LEASE, "LeaseTimeToLive"),
    unary(Method::LeaseLeases, LEASE, "LeaseLeases"),
    unary(Method::MemberAdd, CLUSTER, "MemberAdd"),
    unary(Method::MemberRemove, CLUSTER, "MemberRemove"),
    unary(Method::MemberUpdate, CLUSTER, "MemberUpdate"),
    unary(Method::MemberList, CLUSTER, "MemberList"),
    unary(Method::MemberPromote, CLUSTER, "MemberPromote"),
    unary(Method::Alarm, MAINTENANCE, "Alarm"),
    unary(Method::Status, MAINTENANCE, "Status"),
    unary(Method::Defragment, MAINTENANCE, "Defragment"),
    unary(Method::Hash, MAINTENANCE, "Hash"),
    unary(Method::HashKv, MAINTENANCE, "HashKV"),
    server_stream(Method::Snapshot, MAINTENANCE, "Snapshot"),
    unary(Method::MoveLeader, MAINTENANCE, "MoveLeader"),
    unary(Method::Downgrade, MAINTENANCE, "Downgrade"),
    unary(Method::AuthEnable, AUTH, "AuthEnable"),
    unary(Method::AuthDisable, AUTH, "AuthDisable"),
    unary(Method::AuthStatus, AUTH, "AuthStatus"),
    unary(Method::Authenticate, AUTH, "Authenticate"),
    unary(Method::UserAdd, AUTH, "UserAdd"),
    unary(Method::UserGet, AUTH, "UserGet"),
    unary(Method::UserList, AUTH, "UserList"),
    unary(Method::UserDelete, AUTH, "UserDelete"),
    unary(Method::UserChangePassword, AUTH, "UserChangePassword"),
    unary(Method::UserGrantRole, AUTH, "UserGrantRole"),
    unary(Method::UserRevokeRole, AUTH, "UserRevokeRole"),
    unary(Method::RoleAdd, AUTH, "RoleAdd"),
    unary(Method::RoleGet, AUTH, "RoleGet"),
    unary(Method::RoleList, AUTH, "RoleList"),
    unary(Method::RoleDelete, AUTH, "RoleDelete"),
    unary(Method::RoleGrantPermission, AUTH, "RoleGrantPermission"),
    unary(Method::RoleRevokePermission, AUTH, "RoleRevokePermission"),
    unary(Method::Lock, LOCK, "Lock"),
    unary(Method::Unlock, LOCK, "Unlock"),
    unary(Method::Campaign, ELECTION, "Campaign"),
    unary(Method::Proclaim, ELECTION, "Proclaim"),
    unary(Method::Leader, ELECTION, "Leader"),
    server_stream(Method::Observe, ELECTION, "Observe"),
    unary(Method::Resign, ELECTION, "Resign"),
    unary(Method::HealthCheck, HEALTH, "Check"),
    server_stream(Method::HealthWatch, HEALTH, "Watch"),
];

/// Whether a service of this name is part of the API.
pub fn is_service(name: &str) -> bool {
    METHODS.iter().any(|row| row.service == name)
}

impl Method {
    /// The method that a path names.
    pub fn of_path(path: &str) -> Option<Self> {
        let (service, name) = path.strip_prefix('/')?.split_once('/')?;
        // What is asked most stands first, so the search is short.
        METHODS.iter().find(|row| row.name == name && row.service == service).map(|row| row.method)
    }

    /// The method's place in [`METHODS`], for counters.
    pub fn place(self) -> usize {
        METHODS.iter().position(|row| row.method == self).expect("every method has a row")
    }

    /// The method's row.
    pub fn row(self) -> &'static Row {
        &METHODS[self.place()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_leads_to_its_method() {
        for row in &METHODS {
            let path = format!("/{}/{}", row.service, row.name);
            assert_eq!(Method::of_path(&path), Some(row.method));
        }
        for path in ["", "/", "/etcdserverpb.KV", "/etcdserverpb.KV/", "/etcdserverpb.Watch/Range"]
        {
            assert_eq!(Method::of_path(path), None, "{path}");
        }
    }

    #[test]
    fn rows_stand_in_the_order_of_the_methods() {
        assert!(METHODS.windows(2).all(|pair| pair[0].method < pair[1].method));
    }
}
