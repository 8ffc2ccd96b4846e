//! What an entry of etcd's log means here: `etcdserverpb.InternalRaftRequest`, and who asked for it.

use alloc::string::String;

use bytes::Bytes;
use prost::Message;

use super::state::TTL_MIN;
use crate::api::etcdserverpb::{
    AlarmRequest, AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGrantPermissionRequest,
    AuthRoleRevokePermissionRequest, AuthUserAddRequest, AuthUserChangePasswordRequest,
    AuthUserDeleteRequest, AuthUserGrantRoleRequest, AuthUserRevokeRoleRequest, CompactionRequest,
    DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, TxnRequest,
};
use crate::auth::{Author, Change, Identity};
use crate::command::Command;

/// What an entry asks for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Meaning {
    /// Something that changes the state.
    Command(Author, Command),
    /// Nothing that concerns what is kept here.
    Nothing,
}

/// Reads the data of an entry; `None` if it asks for something that this version does not know.
pub(super) fn meaning(data: Bytes) -> Option<Meaning> {
    if data.is_empty() {
        // With this a leader begins its term.
        return Some(Meaning::Nothing);
    }
    let Ok(request) = Request::decode(data.clone()) else {
        // What versions before 3.6 noted about members in the store of the v2 API.
        let old = OldRequest::decode(data).ok()?;
        let is_old = ["PUT", "POST", "DELETE", "GET", "QGET", "HEAD", "SYNC"];
        return is_old.contains(&old.method.as_str()).then_some(Meaning::Nothing);
    };
    let author = match &request.header {
        Some(header) if !header.username.is_empty() => Author::User(Identity {
            name: header.username.as_str().into(),
            revision: header.auth_revision,
        }),
        Some(_) | None => Author::Nobody,
    };
    match request.command() {
        Some(command) => Some(Meaning::Command(author, command)),
        None => request.is_without_effect().then_some(Meaning::Nothing),
    }
}

/// The fields of `InternalRaftRequest`, one of which is set.
#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, optional, tag = "100")]
    header: Option<Header>,
    #[prost(message, optional, tag = "2")]
    v2: Option<Ignored>,
    #[prost(message, optional, tag = "3")]
    range: Option<Ignored>,
    #[prost(message, optional, tag = "4")]
    put: Option<PutRequest>,
    #[prost(message, optional, tag = "5")]
    delete_range: Option<DeleteRangeRequest>,
    #[prost(message, optional, tag = "6")]
    txn: Option<TxnRequest>,
    #[prost(message, optional, tag = "7")]
    compaction: Option<CompactionRequest>,
    #[prost(message, optional, tag = "8")]
    lease_grant: Option<LeaseGrantRequest>,
    #[prost(message, optional, tag = "9")]
    lease_revoke: Option<LeaseRevokeRequest>,
    #[prost(message, optional, tag = "10")]
    alarm: Option<AlarmRequest>,
    #[prost(message, optional, tag = "11")]
    lease_checkpoint: Option<Ignored>,
    #[prost(message, optional, tag = "1000")]
    auth_enable: Option<Ignored>,
    #[prost(message, optional, tag = "1011")]
    auth_disable: Option<Ignored>,
    #[prost(message, optional, tag = "1012")]
    authenticate: Option<Ignored>,
    #[prost(message, optional, tag = "1013")]
    auth_status: Option<Ignored>,
    #[prost(message, optional, tag = "1100")]
    user_add: Option<AuthUserAddRequest>,
    #[prost(message, optional, tag = "1101")]
    user_delete: Option<AuthUserDeleteRequest>,
    #[prost(message, optional, tag = "1102")]
    user_get: Option<Ignored>,
    #[prost(message, optional, tag = "1103")]
    user_change_password: Option<AuthUserChangePasswordRequest>,
    #[prost(message, optional, tag = "1104")]
    user_grant_role: Option<AuthUserGrantRoleRequest>,
    #[prost(message, optional, tag = "1105")]
    user_revoke_role: Option<AuthUserRevokeRoleRequest>,
    #[prost(message, optional, tag = "1106")]
    user_list: Option<Ignored>,
    #[prost(message, optional, tag = "1107")]
    role_list: Option<Ignored>,
    #[prost(message, optional, tag = "1200")]
    role_add: Option<AuthRoleAddRequest>,
    #[prost(message, optional, tag = "1201")]
    role_delete: Option<AuthRoleDeleteRequest>,
    #[prost(message, optional, tag = "1202")]
    role_get: Option<Ignored>,
    #[prost(message, optional, tag = "1203")]
    role_grant_permission: Option<AuthRoleGrantPermissionRequest>,
    #[prost(message, optional, tag = "1204")]
    role_revoke_permission: Option<AuthRoleRevokePermissionRequest>,
    #[prost(message, optional, tag = "1300")]
    cluster_version_set: Option<Ignored>,
    #[prost(message, optional, tag = "1301")]
    member_attributes_set: Option<Ignored>,
    #[prost(message, optional, tag = "1302")]
    downgrade_set: Option<Ignored>,
    #[prost(message, optional, tag = "9900")]
    downgrade_test: Option<Ignored>,
}

/// Who asked.
#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(string, tag = "2")]
    username: String,
    #[prost(uint64, tag = "3")]
    auth_revision: u64,
}

/// What is in it does not matter.
#[derive(Clone, Copy, PartialEq, Message)]
struct Ignored {}

/// `etcdserverpb.Request`, of the v2 API.
#[derive(Clone, PartialEq, Message)]
struct OldRequest {
    #[prost(string, tag = "2")]
    method: String,
}

impl Request {
    fn command(&self) -> Option<Command> {
        let put = self.put.clone().map(Command::Put);
        let delete = || self.delete_range.clone().map(Command::DeleteRange);
        let txn = || self.txn.clone().map(Command::Txn);
        let compact = || self.compaction.map(Command::Compact);
        // etcd raises it when it applies the entry.
        let raised =
            |grant: LeaseGrantRequest| LeaseGrantRequest { ttl: grant.ttl.max(TTL_MIN), ..grant };
        let grant = || self.lease_grant.map(|grant| Command::LeaseGrant(raised(grant)));
        let revoke = || self.lease_revoke.map(Command::LeaseRevoke);
        let alarm = || self.alarm.map(Command::Alarm);
        put.or_else(delete)
            .or_else(txn)
            .or_else(compact)
            .or_else(grant)
            .or_else(revoke)
            .or_else(alarm)
            .or_else(|| self.auth_change().map(Command::Auth))
    }

    fn auth_change(&self) -> Option<Change> {
        let enable = self.auth_enable.map(|_| Change::Enable);
        enable
            .or_else(|| self.auth_disable.map(|_| Change::Disable))
            .or_else(|| self.user_add.clone().map(Change::UserAdd))
            .or_else(|| self.user_delete.clone().map(Change::UserDelete))
            .or_else(|| self.user_change_password.clone().map(Change::UserChangePassword))
            .or_else(|| self.user_grant_role.clone().map(Change::UserGrantRole))
            .or_else(|| self.user_revoke_role.clone().map(Change::UserRevokeRole))
            .or_else(|| self.role_add.clone().map(Change::RoleAdd))
            .or_else(|| self.role_delete.clone().map(Change::RoleDelete))
            .or_else(|| self.role_grant_permission.clone().map(Change::RoleGrantPermission))
            .or_else(|| self.role_revoke_permission.clone().map(Change::RoleRevokePermission))
    }

    /// Whether it only reads, or changes what members say of themselves when they start.
    fn is_without_effect(&self) -> bool {
        let ignored = [
            self.v2,
            self.range,
            self.lease_checkpoint,
            self.authenticate,
            self.auth_status,
            self.user_get,
            self.user_list,
            self.role_list,
            self.role_get,
            self.cluster_version_set,
            self.member_attributes_set,
            self.downgrade_set,
            self.downgrade_test,
        ];
        ignored.iter().any(Option::is_some)
    }
}
