//! What a client may ask for, and where in the engine it is answered.

use crate::api::check::is_read_only;
use crate::api::etcdserverpb::alarm_request::AlarmAction;
use crate::api::etcdserverpb::{
    AlarmRequest, CompactionRequest, DeleteRangeRequest, HashKvRequest, LeaseGrantRequest,
    LeaseRevokeRequest, LeaseTimeToLiveRequest, MemberListRequest, PutRequest, RangeRequest,
    TxnRequest,
};
use crate::auth::{Act, Assignment, Change, Query};
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
    /// Changes users or roles.
    Auth(Change),
    /// Asks about users or roles.
    AuthQuery(Query),
    /// Gives a user a token; only the server itself may ask.
    Authenticate(Assignment),
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
            | Self::MoveLeader(_)
            | Self::Auth(_)
            | Self::AuthQuery(_)
            | Self::Authenticate(_) => Route::Replica,
        }
    }

    /// What it would do, for whoever permits: etcd's rules, and what its advisories of 2026 ask for.
    pub fn act(&self) -> Act<'_> {
        match self {
            Self::Range(range) | Self::RangeStream(range) => Act::Range(range),
            Self::Put(put) => Act::Put(put),
            Self::DeleteRange(delete) => Act::DeleteRange(delete),
            Self::Txn(txn) => Act::Txn(txn),
            Self::LeaseGrant(_) | Self::MemberList(_) | Self::Status => Act::Known,
            Self::LeaseRevoke(revoke) => Act::WriteLease(LeaseId(revoke.id)),
            Self::LeaseKeepAlive(lease) => Act::WriteLease(*lease),
            Self::LeaseTimeToLive(request) if request.keys => Act::ReadLease(LeaseId(request.id)),
            Self::LeaseTimeToLive(_) => Act::Known,
            Self::LeaseLeases => Act::ReadLeases,
            Self::Alarm(request) => act_of_alarm(request),
            Self::Compact(_)
            | Self::Defragment
            | Self::Hash
            | Self::HashKv(_)
            | Self::Snapshot
            | Self::Members(_)
            | Self::MoveLeader(_)
            | Self::Auth(_) => Act::Root,
            Self::AuthQuery(query) => query.act(),
            Self::Authenticate(_) => Act::OfMember,
        }
    }
}

/// Everybody who is known may look at the alarms.
pub(crate) fn act_of_alarm(request: &AlarmRequest) -> Act<'static> {
    if request.action == i32::from(AlarmAction::Get) { Act::Known } else { Act::Root }
}
