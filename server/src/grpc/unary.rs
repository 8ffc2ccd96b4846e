//! Unary methods: from a message to a request for the engine, or to an answer that needs none.

use bytes::Bytes;
use cairn_engine::MemberId;
use cairn_engine::api::check;
use cairn_engine::api::etcdserverpb::downgrade_request::DowngradeAction;
use cairn_engine::api::etcdserverpb::{
    AlarmRequest, AuthDisableRequest, AuthEnableRequest, AuthRoleGetRequest, AuthRoleListRequest,
    AuthStatusRequest, AuthUserGetRequest, AuthUserListRequest, CompactionRequest,
    DefragmentRequest, DeleteRangeRequest, DowngradeRequest, HashKvRequest, HashRequest,
    LeaseGrantRequest, LeaseLeasesRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest,
    MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest,
    MemberUpdateRequest, MoveLeaderRequest, PutRequest, RangeRequest, SnapshotRequest,
    StatusRequest, TxnRequest,
};
use cairn_engine::api::{Code, Error, Request};
use cairn_engine::auth::{Change, Query};
use cairn_engine::cluster::Wish;
use cairn_io::clock;
use prost::Message;

use super::method::Method;
use super::status::Status;
use super::{frame, health};
use crate::config::url::Url;
use crate::identity::{added_member_id, texts};

/// What a message leads to.
#[derive(Debug)]
pub enum Asked {
    /// The engine answers.
    Engine(Request),
    /// This is the answer: a message with its prefix.
    Answer(Bytes),
}

/// What the decoding of requests depends on.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Operations in a transaction.
    pub txn_ops_max: usize,
    /// Bytes of a request message.
    pub message_bytes_max: usize,
}

/// Reads and checks a request.
///
/// # Errors
/// If the message is malformed, refused by etcd's static checks, or its method is not unary or not served yet.
pub fn read(method: Method, message: Bytes, limits: Limits) -> Result<Asked, Status> {
    let request = match method {
        Method::Range => {
            let request: RangeRequest = decode(message)?;
            check::check_range(&request)?;
            Request::Range(request)
        }
        Method::Put => {
            let request: PutRequest = decode(message)?;
            check::check_put(&request)?;
            Request::Put(request)
        }
        Method::DeleteRange => {
            let request: DeleteRangeRequest = decode(message)?;
            check::check_delete_range(&request)?;
            Request::DeleteRange(request)
        }
        Method::Txn => {
            let request: TxnRequest = decode(message)?;
            check::check_txn(&request, limits.txn_ops_max)?;
            Request::Txn(request)
        }
        Method::Compact => {
            let request: CompactionRequest = decode(message)?;
            Request::Compact(request)
        }
        Method::LeaseGrant => {
            let mut request: LeaseGrantRequest = decode(message)?;
            if request.id == 0 {
                request.id = random_lease_id();
            }
            Request::LeaseGrant(request)
        }
        Method::LeaseRevoke => Request::LeaseRevoke(decode::<LeaseRevokeRequest>(message)?),
        Method::LeaseTimeToLive => {
            Request::LeaseTimeToLive(decode::<LeaseTimeToLiveRequest>(message)?)
        }
        Method::LeaseLeases => {
            decode::<LeaseLeasesRequest>(message)?;
            Request::LeaseLeases
        }
        Method::MemberAdd => Request::Members(add_member(decode(message)?)?),
        Method::MemberRemove => {
            let MemberRemoveRequest { id } = decode(message)?;
            Request::Members(Wish::Remove(MemberId(id)))
        }
        Method::MemberUpdate => {
            let MemberUpdateRequest { id, peer_urls } = decode(message)?;
            Request::Members(Wish::Update(MemberId(id), check_peer_urls(&peer_urls)?))
        }
        Method::MemberPromote => {
            let MemberPromoteRequest { id } = decode(message)?;
            Request::Members(Wish::Promote(MemberId(id)))
        }
        Method::MemberList => Request::MemberList(decode::<MemberListRequest>(message)?),
        Method::MoveLeader => {
            let MoveLeaderRequest { target_id } = decode(message)?;
            // To the engine, zero is anybody; to clients, it is nobody, as the highest number is to both.
            let target = if target_id == MemberId::NONE.0 { u64::MAX } else { target_id };
            Request::MoveLeader(MemberId(target))
        }
        Method::Downgrade => downgrade(decode(message)?)?,
        Method::Alarm => Request::Alarm(decode::<AlarmRequest>(message)?),
        Method::Status => {
            decode::<StatusRequest>(message)?;
            Request::Status
        }
        Method::Defragment => {
            decode::<DefragmentRequest>(message)?;
            Request::Defragment
        }
        Method::Hash => {
            decode::<HashRequest>(message)?;
            Request::Hash
        }
        Method::HashKv => Request::HashKv(decode::<HashKvRequest>(message)?),
        Method::AuthStatus => {
            decode::<AuthStatusRequest>(message)?;
            Request::AuthQuery(Query::Status)
        }
        Method::AuthEnable => {
            decode::<AuthEnableRequest>(message)?;
            Request::Auth(Change::Enable)
        }
        Method::AuthDisable => {
            decode::<AuthDisableRequest>(message)?;
            Request::Auth(Change::Disable)
        }
        Method::UserGet => {
            Request::AuthQuery(Query::User(decode::<AuthUserGetRequest>(message)?.name))
        }
        Method::UserList => {
            decode::<AuthUserListRequest>(message)?;
            Request::AuthQuery(Query::Users)
        }
        Method::UserDelete => Request::Auth(Change::UserDelete(decode(message)?)),
        Method::UserGrantRole => Request::Auth(Change::UserGrantRole(decode(message)?)),
        Method::UserRevokeRole => Request::Auth(Change::UserRevokeRole(decode(message)?)),
        Method::RoleAdd => Request::Auth(Change::RoleAdd(decode(message)?)),
        Method::RoleGet => {
            Request::AuthQuery(Query::Role(decode::<AuthRoleGetRequest>(message)?.role))
        }
        Method::RoleList => {
            decode::<AuthRoleListRequest>(message)?;
            Request::AuthQuery(Query::Roles)
        }
        Method::RoleDelete => Request::Auth(Change::RoleDelete(decode(message)?)),
        Method::RoleGrantPermission => Request::Auth(Change::RoleGrantPermission(decode(message)?)),
        Method::RoleRevokePermission => {
            Request::Auth(Change::RoleRevokePermission(decode(message)?))
        }
        Method::HealthCheck => {
            return Ok(answer(&health::check(&decode(message)?)?));
        }
        // Served by tasks of their own.
        Method::RangeStream
        | Method::Watch
        | Method::LeaseKeepAlive
        | Method::Snapshot
        | Method::Lock
        | Method::Unlock
        | Method::Campaign
        | Method::Proclaim
        | Method::Leader
        | Method::Observe
        | Method::Resign
        | Method::HealthWatch
        | Method::Authenticate
        | Method::UserAdd
        | Method::UserChangePassword => return Err(Status::unserved(method)),
    };
    Ok(Asked::Engine(request))
}

/// Reads and checks the question of a `RangeStream`.
///
/// # Errors
/// As [`read`].
pub fn read_range_stream(message: Bytes) -> Result<Request, Status> {
    let request: RangeRequest = decode(message)?;
    check::check_range_stream(&request)?;
    Ok(Request::RangeStream(request))
}

/// Reads the question of a Snapshot.
///
/// # Errors
/// As [`read`].
pub fn read_snapshot(message: Bytes) -> Result<Request, Status> {
    decode::<SnapshotRequest>(message)?;
    Ok(Request::Snapshot)
}

/// A member that comes. Its id is made of where it is and when it came, as in etcd.
fn add_member(request: MemberAddRequest) -> Result<Wish, Status> {
    let peer_urls = check_peer_urls(&request.peer_urls)?;
    let now_s = i64::try_from(clock::wall_ns() / 1_000_000_000).expect("three centuries");
    let id = added_member_id(&peer_urls, now_s);
    Ok(Wish::Add { id, peer_urls, learner: request.is_learner })
}

/// Whether the cluster may be downgraded, or that it is to be, or not any more.
fn downgrade(request: DowngradeRequest) -> Result<Request, Status> {
    let wish = match DowngradeAction::try_from(request.action) {
        Ok(DowngradeAction::Validate) => Wish::MayDowngrade(request.version),
        Ok(DowngradeAction::Enable) => Wish::Downgrade(request.version),
        Ok(DowngradeAction::Cancel) => Wish::StayUp,
        Err(_) => return Err(Error::UnknownMethod.into()),
    };
    Ok(Request::Members(wish))
}

/// Where peers are to reach a member, sorted.
fn check_peer_urls(urls: &[String]) -> Result<Vec<String>, Status> {
    let urls: Result<Vec<Url>, _> = urls.iter().map(|url| Url::parse(url)).collect();
    let mut urls = urls.ok().filter(|urls| !urls.is_empty()).ok_or(Error::MemberBadUrls)?;
    urls.sort();
    Ok(texts(&urls))
}

/// Reads a message.
///
/// # Errors
/// If it is no message of its type.
pub fn decode<M: Message + Default>(message: Bytes) -> Result<M, Status> {
    M::decode(message).map_err(|error| {
        let text = format!("grpc: error unmarshalling request: {error}");
        Status::new(Code::Internal, text)
    })
}

fn answer(message: &impl Message) -> Asked {
    let append = |out: &mut Vec<u8>| message.encode(out).expect("memory grows");
    Asked::Answer(frame::message(message.encoded_len(), append))
}

/// A lease id that nobody can guess or meet by chance: positive, 63 bits.
pub(crate) fn random_lease_id() -> i64 {
    let random = getrandom::u64().expect("the kernel has randomness once it runs");
    i64::try_from(random >> 1).expect("63 bits").max(1)
}
