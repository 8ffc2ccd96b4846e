//! Numbers that name things, each a type of its own so that two of them cannot be swapped.

use core::fmt;

/// Names a member of the cluster for ever; zero means "no member".
///
/// etcd derives it from the peer URLs and shows it in hexadecimal in logs, in decimal in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

impl MemberId {
    /// "No member": an unknown leader, an empty vote.
    pub const NONE: Self = Self(0);

    /// Whether this names a member.
    pub const fn is_some(self) -> bool {
        self.0 != 0
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// Names a cluster for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u64);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// Names a lease; any value but zero, chosen by the client or by the server (then positive).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

impl LeaseId {
    /// "No lease".
    pub const NONE: Self = Self(0);

    /// Whether this names a lease.
    pub const fn is_some(self) -> bool {
        self.0 != 0
    }
}

/// Names a request between a driver and the engine until it is answered; the driver chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Names a client's open watch stream on one shard; the driver chooses it and never reuses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// Names the connection that watch streams belong to, on one shard; the driver chooses it. Its streams share a credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Names a shard (a core) of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);
