//! Changes of users and roles, as they stand in the log.

use alloc::vec::Vec;

use bytes::{Buf, Bytes};
use prost::Message;

use crate::api::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGrantPermissionRequest,
    AuthRoleRevokePermissionRequest, AuthUserAddRequest, AuthUserChangePasswordRequest,
    AuthUserDeleteRequest, AuthUserGrantRoleRequest, AuthUserRevokeRoleRequest,
};

/// A change of users or roles: the client's own message, but that its password is not in it, only the hash of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// From now on clients must say who they are.
    Enable,
    /// From now on they need not.
    Disable,
    /// Adds a user; `hashed_password` is what bcrypt says, as it says it.
    UserAdd(AuthUserAddRequest),
    /// Removes a user.
    UserDelete(AuthUserDeleteRequest),
    /// Gives a user another password; `hashed_password` as above.
    UserChangePassword(AuthUserChangePasswordRequest),
    /// Gives a user a role.
    UserGrantRole(AuthUserGrantRoleRequest),
    /// Takes a role from a user.
    UserRevokeRole(AuthUserRevokeRoleRequest),
    /// Adds a role.
    RoleAdd(AuthRoleAddRequest),
    /// Removes a role, and takes it from all users.
    RoleDelete(AuthRoleDeleteRequest),
    /// Permits a role something.
    RoleGrantPermission(AuthRoleGrantPermissionRequest),
    /// Permits it no more.
    RoleRevokePermission(AuthRoleRevokePermissionRequest),
}

const ENABLE: u8 = 1;
const DISABLE: u8 = 2;
const USER_ADD: u8 = 3;
const USER_DELETE: u8 = 4;
const USER_CHANGE_PASSWORD: u8 = 5;
const USER_GRANT_ROLE: u8 = 6;
const USER_REVOKE_ROLE: u8 = 7;
const ROLE_ADD: u8 = 8;
const ROLE_DELETE: u8 = 9;
const ROLE_GRANT_PERMISSION: u8 = 10;
const ROLE_REVOKE_PERMISSION: u8 = 11;

impl Change {
    /// Appends the change: `u8 kind, message`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Enable => out.push(ENABLE),
            Self::Disable => out.push(DISABLE),
            Self::UserAdd(request) => append(USER_ADD, request, out),
            Self::UserDelete(request) => append(USER_DELETE, request, out),
            Self::UserChangePassword(request) => append(USER_CHANGE_PASSWORD, request, out),
            Self::UserGrantRole(request) => append(USER_GRANT_ROLE, request, out),
            Self::UserRevokeRole(request) => append(USER_REVOKE_ROLE, request, out),
            Self::RoleAdd(request) => append(ROLE_ADD, request, out),
            Self::RoleDelete(request) => append(ROLE_DELETE, request, out),
            Self::RoleGrantPermission(request) => append(ROLE_GRANT_PERMISSION, request, out),
            Self::RoleRevokePermission(request) => append(ROLE_REVOKE_PERMISSION, request, out),
        }
    }

    /// Reads one; `None` if it was written by a version that knows more, or is damaged.
    pub(crate) fn decode(mut data: Bytes) -> Option<Self> {
        let change = match data.try_get_u8().ok()? {
            ENABLE => return data.is_empty().then_some(Self::Enable),
            DISABLE => return data.is_empty().then_some(Self::Disable),
            USER_ADD => Message::decode(data).map(Self::UserAdd),
            USER_DELETE => Message::decode(data).map(Self::UserDelete),
            USER_CHANGE_PASSWORD => Message::decode(data).map(Self::UserChangePassword),
            USER_GRANT_ROLE => Message::decode(data).map(Self::UserGrantRole),
            USER_REVOKE_ROLE => Message::decode(data).map(Self::UserRevokeRole),
            ROLE_ADD => Message::decode(data).map(Self::RoleAdd),
            ROLE_DELETE => Message::decode(data).map(Self::RoleDelete),
            ROLE_GRANT_PERMISSION => Message::decode(data).map(Self::RoleGrantPermission),
            ROLE_REVOKE_PERMISSION => Message::decode(data).map(Self::RoleRevokePermission),
            _ => return None,
        };
        change.ok()
    }
}

fn append(kind: u8, message: &impl Message, out: &mut Vec<u8>) {
    out.push(kind);
    message.encode(out).expect("memory grows");
}
