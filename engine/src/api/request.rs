//! What a client may ask for, and where in the engine it is answered.

use crate::api::check::is_read_only;
use crate::api::etcdserverpb::{
    AlarmRequest, CompactionRequest, DeleteRangeRequest, HashKvRequest, LeaseGrantRequest,
    LeaseRevokeRequest, LeaseTimeToLiveRequest, MemberListRequest, PutRequest, RangeRequest,
    TxnRequest,
};
use crate::cluster::Wish;
use crate::ids::{LeaseId, MemberId};

/// A request that passed its static checks ([`check`](super::check)).
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Reads keys.
    Range(RangeRequest),
    /// Reads keys, answered in parts.
    RangeStream(RangeRequest),
    /// Writes a key.
    Put(PutRequest),
    /// Deletes keys.
    DeleteRange(DeleteRangeRequest),
    /// Compares, then reads or writes.
    Txn(TxnRequest),
    /// Forgets history.
    Compact(CompactionRequest),
    /// Makes a lease. Its id was chosen, by the client or the server: it is not zero.
    LeaseGrant(LeaseGrantRequest),
    /// Ends a lease.
    LeaseRevoke(LeaseRevokeRequest),
    /// Renews a lease.
    LeaseKeepAlive(LeaseId),
    /// Asks how long a lease has.
    LeaseTimeToLive(LeaseTimeToLiveRequest),
    /// Lists leases.
    LeaseLeases,
    /// Lists members.
    MemberList(MemberListRequest),
    /// Lists, raises or clears alarms.
    Alarm(AlarmRequest),
    /// Asks how this member is.
    Status,
    /// Asks for the space that fragmentation wastes, of which there is none.
    Defragment,
    /// Hashes everything.
    Hash,
    /// Hashes history.
    HashKv(HashKvRequest),
    /// Asks for a copy of everything.
    Snapshot,
    /// Changes the members.
    Members(Wish),
    /// Hands leadership to a member. If that is none: to whoever is fit for it, if this member leads and there is
    /// somebody; answered when it leads no more, for a member that is about to stop.
    MoveLeader(MemberId),
}

/// Who answers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The shard of the connection's core, from its view of the key space.
    Shard,
    /// The replica.
    Replica,
}

impl Request {
    /// Who answers.
    pub fn route(&self) -> Route {
        match self {
            Self::Range(_) | Self::RangeStream(_) => Route::Shard,
            Self::Txn(request) if is_read_only(request) => Route::Shard,
            Self::Txn(_)
            | Self::Put(_)
            | Self::DeleteRange(_)
            | Self::Compact(_)
            | Self::LeaseGrant(_)
            | Self::LeaseRevoke(_)
            | Self::LeaseKeepAlive(_)
            | Self::LeaseTimeToLive(_)
            | Self::LeaseLeases
            | Self::MemberList(_)
            | Self::Alarm(_)
            | Self::Status
            | Self::Defragment
            | Self::Hash
            | Self::HashKv(_)
            | Self::Snapshot
            | Self::Members(_)
            | Self::MoveLeader(_) => Route::Replica,
        }
    }
}
