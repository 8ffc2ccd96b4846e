//! What a member answers from what it knows, without the log.

use alloc::boxed::Box;
use alloc::string::String;

use crate::api::etcdserverpb::alarm_request::AlarmAction;
use crate::api::etcdserverpb::{
    AlarmRequest, DefragmentResponse, DowngradeInfo, HashKvResponse, HashResponse,
    LeaseLeasesResponse, LeaseStatus, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
    MemberListResponse, StatusResponse,
};
use crate::api::response::StatusAnswer;
use crate::api::{Error, Request, Response};
use crate::auth::Author;
use crate::ids::{LeaseId, MemberId};
use crate::lease::ClusterTime;
use crate::mvcc::View;
use crate::raft::{Index, RoleName, Term};
use crate::snapshot::etcd::{EtcdSnapshot, EtcdState};
use crate::state_machine::AlarmKind;

use super::{Replica, Tally};

/// What the size of the store is rounded to.
const BLOCK_BYTES: u64 = 4096;

/// A member in numbers, for those who watch it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// Its role.
    pub role: RoleName,
    /// The current term.
    pub term: Term,
    /// Who leads, if known.
    pub leader: MemberId,
    /// The end of the log.
    pub last: Index,
    /// What is committed.
    pub commit: Index,
    /// What is applied.
    pub applied: Index,
    /// Requests that wait for the log or for a leader.
    pub pending: usize,
    /// Leases that exist.
    pub leases: usize,
    /// Keys that exist.
    pub keys: usize,
    /// The revision of the store.
    pub revision: i64,
    /// The compact revision of the store.
    pub compacted: i64,
    /// Memory of the store, roughly, in bytes.
    pub bytes: u64,
    /// What was done.
    pub tally: Tally,
}

impl Replica {
    /// The member in numbers.
    pub fn status(&self) -> ReplicaStatus {
        ReplicaStatus {
            role: self.raft.role(),
            term: self.raft.hard_state().term,
            leader: self.raft.leader(),
            last: self.raft.log().last_index(),
            commit: self.raft.hard_state().commit,
            applied: self.applied.index,
            pending: self.proposals.len() + self.forwards.len(),
            leases: self.state.lessor.len(),
            keys: self.state.store.key_count(),
            revision: self.state.store.revision(),
            compacted: self.state.store.compacted(),
            bytes: self.state.store.bytes(),
            tally: self.tally,
        }
    }

    /// The key space as it is now: once [`Replica::poll`] has given out everything, that of the latest publication.
    pub fn view(&self) -> &View {
        &self.state.store
    }

    /// The replicated state, for those who check it.
    pub fn state(&self) -> &crate::state_machine::StateMachine {
        &self.state
    }

    /// The part of the member that agrees, for those who check it.
    pub fn raft(&self) -> &crate::raft::Raft {
        &self.raft
    }

    /// Answers from what the member knows, if `author` may know that; the cluster's time is `time` at least.
    pub(super) fn answer_locally(
        &self,
        author: &Author,
        request: &Request,
        time: ClusterTime,
    ) -> Result<Response, Error> {
        self.permit(author, request.act())?;
        match request {
            Request::AuthQuery(query) => self.state.auth.answer(query).map(Response::Auth),
            Request::LeaseTimeToLive(request) => Ok(self.time_to_live(request, time)),
            Request::LeaseLeases => {
                let status = |lease: &crate::lease::Lease| LeaseStatus { id: lease.id.0 };
                let leases = self.state.lessor.by_deadline().map(status).collect();
                Ok(Response::LeaseLeases(LeaseLeasesResponse { header: None, leases }))
            }
            Request::MemberList(_) => {
                let members = self.state.cluster.to_messages();
                Ok(Response::MemberList(MemberListResponse { header: None, members }))
            }
            Request::Status => {
                let (status, response) = (self.status(), self.status_response());
                Ok(Response::Status(Box::new(StatusAnswer { response, status })))
            }
            Request::Defragment => Ok(Response::Defragment(DefragmentResponse::default())),
            Request::Hash => {
                let store = &self.state.store;
                let hash = store.hash(0, store.sweeping())?;
                let leases =
                    self.state.lessor.by_deadline().flat_map(|lease| lease.id.0.to_be_bytes());
                let leases: alloc::vec::Vec<u8> = leases.collect();
                let hash = crc32c::crc32c_append(hash.hash, &leases);
                Ok(Response::Hash(HashResponse { header: None, hash }))
            }
            Request::HashKv(request) => {
                let store = &self.state.store;
                let hash = store.hash(request.revision, store.sweeping())?;
                Ok(Response::HashKv(HashKvResponse {
                    header: None,
                    hash: hash.hash,
                    compact_revision: hash.compacted,
                    hash_revision: hash.revision,
                }))
            }
            Request::Snapshot => {
                let snapshot = EtcdSnapshot::new(self.etcd_state());
                Ok(Response::Snapshot(Box::new(snapshot)))
            }
            Request::Range(_)
            | Request::RangeStream(_)
            | Request::Put(_)
            | Request::DeleteRange(_)
            | Request::Txn(_)
            | Request::Compact(_)
            | Request::LeaseGrant(_)
            | Request::LeaseRevoke(_)
            | Request::LeaseKeepAlive(_)
            | Request::Alarm(_)
            | Request::Members(_)
            | Request::MoveLeader(_)
            | Request::Auth(_)
            | Request::Authenticate(_) => unreachable!("not answered from local knowledge"),
        }
    }

    fn etcd_state(&self) -> EtcdState {
        EtcdState {
            cluster: self.config.cluster,
            member: self.config.id,
            members: self.state.cluster.to_messages(),
            version: self.config.version.clone(),
            applied: (self.applied.index, self.applied.term),
            view: self.state.store.view(),
            sweep: self.state.store.sweeping(),
            leases: self.state.lessor.leases(),
            time: self.keeper.time(self.now, self.state.time),
            alarms: self.state.alarms.clone(),
            auth: alloc::sync::Arc::clone(&self.state.auth),
        }
    }

    fn time_to_live(&self, request: &LeaseTimeToLiveRequest, time: ClusterTime) -> Response {
        let id = LeaseId(request.id);
        let now = self.keeper.time(self.now, self.state.time).max(time);
        // A lease that is past its deadline has ended, though its entry is yet to come.
        let lease = self.state.lessor.get(id).filter(|lease| lease.deadline > now);
        let mut response = LeaseTimeToLiveResponse {
            id: request.id,
            ttl: -1,
            ..LeaseTimeToLiveResponse::default()
        };
        if let Some(lease) = lease {
            response.ttl = i64::try_from((lease.deadline.0 - now.0) / 1000).unwrap_or(i64::MAX);
            response.granted_ttl = lease.ttl;
            if request.keys {
                response.keys = self.state.lessor.keys_of(id).cloned().collect();
            }
        }
        Response::LeaseTimeToLive(response)
    }

    fn status_response(&self) -> StatusResponse {
        let status = self.status();
        let bytes = self.state.store.bytes();
        // In whole blocks, and never none: etcdctl divides by it.
        let size = bytes.next_multiple_of(BLOCK_BYTES).max(BLOCK_BYTES);
        let to_message = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
        let alarm = |(kind, member): (AlarmKind, MemberId)| {
            let name = kind.to_message().as_str_name();
            // As protobuf prints a message: without zeros.
            match member.0 {
                0 => alloc::format!("alarm:{name}"),
                member => alloc::format!("memberID:{member} alarm:{name}"),
            }
        };
        let no_leader = (!status.leader.is_some()).then(|| Error::NoLeader.message().into());
        StatusResponse {
            version: self.config.version.clone(),
            db_size: to_message(size),
            db_size_in_use: to_message(bytes),
            leader: status.leader.0,
            raft_index: status.commit.0,
            raft_term: status.term.0,
            raft_applied_index: status.applied.0,
            errors: no_leader.into_iter().chain(self.state.alarms.iter().map(alarm)).collect(),
            is_learner: self.state.cluster.membership().is_learner(self.config.id),
            storage_version: whole_version(self.state.cluster.version()),
            downgrade_info: Some(DowngradeInfo {
                enabled: !self.state.cluster.downgrade().is_empty(),
                target_version: whole_version(self.state.cluster.downgrade()),
            }),
            db_size_quota: self
                .config
                .limits
                .quota_bytes
                .map_or(0, |quota| i64::try_from(quota).unwrap_or(i64::MAX)),
            ..StatusResponse::default()
        }
    }
}

/// Whether a request is answered from what the member knows, once it knows everything that was committed when the
/// request came.
pub(super) fn needs_read_index(request: &Request) -> bool {
    match request {
        Request::MemberList(request) => request.linearizable,
        Request::LeaseTimeToLive(_) | Request::AuthQuery(_) => true,
        Request::LeaseLeases
        | Request::Status
        | Request::Defragment
        | Request::Hash
        | Request::HashKv(_)
        | Request::Snapshot
        | Request::Range(_)
        | Request::RangeStream(_)
        | Request::Put(_)
        | Request::DeleteRange(_)
        | Request::Txn(_)
        | Request::Compact(_)
        | Request::LeaseGrant(_)
        | Request::LeaseRevoke(_)
        | Request::LeaseKeepAlive(_)
        | Request::Alarm(_)
        | Request::Members(_)
        | Request::MoveLeader(_)
        | Request::Auth(_)
        | Request::Authenticate(_) => false,
    }
}

/// Whether a request is answered from what the member knows.
pub(super) fn is_local(request: &Request) -> bool {
    match request {
        Request::LeaseTimeToLive(_)
        | Request::LeaseLeases
        | Request::MemberList(_)
        | Request::Status
        | Request::Defragment
        | Request::Hash
        | Request::HashKv(_)
        | Request::Snapshot
        | Request::AuthQuery(_) => true,
        Request::Range(_)
        | Request::RangeStream(_)
        | Request::Put(_)
        | Request::DeleteRange(_)
        | Request::Txn(_)
        | Request::Compact(_)
        | Request::LeaseGrant(_)
        | Request::LeaseRevoke(_)
        | Request::LeaseKeepAlive(_)
        | Request::Alarm(_)
        | Request::Members(_)
        | Request::MoveLeader(_)
        | Request::Auth(_)
        | Request::Authenticate(_) => false,
    }
}

/// A request to raise an alarm.
pub(super) fn activate(kind: AlarmKind, member: MemberId) -> AlarmRequest {
    AlarmRequest {
        action: AlarmAction::Activate.into(),
        member_id: member.0,
        alarm: kind.to_message().into(),
    }
}

/// A version `X.Y` as etcd shows it where a patch level belongs: `X.Y.0`; nothing for nothing.
fn whole_version(minor: &str) -> String {
    if minor.is_empty() { String::new() } else { alloc::format!("{minor}.0") }
}
