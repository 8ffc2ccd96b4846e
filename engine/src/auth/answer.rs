//! What is told about users and roles.

use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use prost::Message;

use super::{Act, Auth, ROOT};
use crate::api::Error;
use crate::api::authpb::Permission;
use crate::api::authpb::permission::Type;
use crate::api::etcdserverpb::{
    AuthEnableResponse, AuthRoleGetResponse, AuthRoleListResponse, AuthStatusResponse,
    AuthUserGetResponse, AuthUserListResponse, AuthenticateResponse, ResponseHeader,
};

/// A question about users and roles. Answered by what was committed when it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// Whether authentication is enabled.
    Status,
    /// The roles of a user.
    User(String),
    /// All users.
    Users,
    /// What a role permits.
    Role(String),
    /// All roles.
    Roles,
    /// "May I change users?" The server asks it on a client's behalf before it hashes a password.
    MayManage,
    /// The hash of a user's password. Only the server itself may ask.
    Password(String),
}

/// The answer to a change or to a [`Query`].
#[derive(Clone, PartialEq)]
pub enum Answer {
    /// It was changed, or may be. All those messages of etcd are alike: nothing but a header.
    Done(AuthEnableResponse),
    /// Whether authentication is enabled.
    Status(AuthStatusResponse),
    /// A token was assigned: the last part of it, which is the index of the entry that did it.
    Authenticate(AuthenticateResponse),
    /// The roles of a user.
    User(AuthUserGetResponse),
    /// All users.
    Users(AuthUserListResponse),
    /// What a role permits.
    Role(AuthRoleGetResponse),
    /// All roles.
    Roles(AuthRoleListResponse),
    /// The hash, and the revision at which it was that.
    Password {
        /// A bcrypt hash.
        hash: Bytes,
        /// The revision.
        revision: u64,
    },
}

impl core::fmt::Debug for Answer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Done(answer) => answer.fmt(f),
            Self::Status(answer) => answer.fmt(f),
            Self::Authenticate(answer) => answer.fmt(f),
            Self::User(answer) => answer.fmt(f),
            Self::Users(answer) => answer.fmt(f),
            Self::Role(answer) => answer.fmt(f),
            Self::Roles(answer) => answer.fmt(f),
            Self::Password { revision, .. } => write!(f, "Password at {revision}"),
        }
    }
}

impl Query {
    /// What it would do.
    pub fn act(&self) -> Act<'_> {
        match self {
            Self::Status => Act::Anyone,
            Self::User(name) => Act::User(name),
            Self::Role(name) => Act::Role(name),
            Self::Users | Self::Roles | Self::MayManage => Act::Root,
            Self::Password(_) => Act::OfMember,
        }
    }
}

impl Auth {
    /// Answers a question. Whether it may be answered was asked before.
    ///
    /// # Errors
    /// etcd's.
    pub(crate) fn answer(&self, query: &Query) -> Result<Answer, Error> {
        let names = |names: &mut dyn Iterator<Item = &String>| names.cloned().collect::<Vec<_>>();
        Ok(match query {
            Query::Status => Answer::Status(AuthStatusResponse {
                header: None,
                enabled: self.enabled,
                auth_revision: self.revision,
            }),
            Query::User(name) => {
                let user = self.users.get(name).ok_or(Error::UserNotFound)?;
                Answer::User(AuthUserGetResponse { header: None, roles: user.roles.clone() })
            }
            Query::Users => {
                let users = names(&mut self.users.keys());
                Answer::Users(AuthUserListResponse { header: None, users })
            }
            Query::Role(name) => {
                let perm = self.roles.get(name).ok_or(Error::RoleNotFound)?.clone();
                let perm = if name == ROOT { alloc::vec![everything()] } else { perm };
                Answer::Role(AuthRoleGetResponse { header: None, perm })
            }
            Query::Roles => {
                let roles = names(&mut self.roles.keys());
                Answer::Roles(AuthRoleListResponse { header: None, roles })
            }
            Query::MayManage => Answer::Done(AuthEnableResponse::default()),
            Query::Password(name) => {
                if !self.enabled {
                    return Err(Error::AuthNotEnabled);
                }
                let user = self.users.get(name).ok_or(Error::AuthFailed)?;
                if user.no_password {
                    return Err(Error::NoPasswordUser);
                }
                Answer::Password { hash: user.password.clone(), revision: self.revision }
            }
        })
    }
}

impl Answer {
    /// The header, if clients see one.
    pub(crate) fn header_mut(&mut self) -> Option<&mut ResponseHeader> {
        let header = match self {
            Self::Done(answer) => &mut answer.header,
            Self::Status(answer) => &mut answer.header,
            Self::Authenticate(answer) => &mut answer.header,
            Self::User(answer) => &mut answer.header,
            Self::Users(answer) => &mut answer.header,
            Self::Role(answer) => &mut answer.header,
            Self::Roles(answer) => &mut answer.header,
            Self::Password { .. } => return None,
        };
        Some(header.get_or_insert_default())
    }

    /// Length of the message in wire form.
    ///
    /// # Panics
    /// If it is not for clients.
    pub(crate) fn encoded_len(&self) -> usize {
        match self {
            Self::Done(answer) => answer.encoded_len(),
            Self::Status(answer) => answer.encoded_len(),
            Self::Authenticate(answer) => answer.encoded_len(),
            Self::User(answer) => answer.encoded_len(),
            Self::Users(answer) => answer.encoded_len(),
            Self::Role(answer) => answer.encoded_len(),
            Self::Roles(answer) => answer.encoded_len(),
            Self::Password { .. } => panic!("no client is told a hash"),
        }
    }

    /// Appends the message in wire form.
    ///
    /// # Panics
    /// If it is not for clients.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let encoded = match self {
            Self::Done(answer) => answer.encode(out),
            Self::Status(answer) => answer.encode(out),
            Self::Authenticate(answer) => answer.encode(out),
            Self::User(answer) => answer.encode(out),
            Self::Users(answer) => answer.encode(out),
            Self::Role(answer) => answer.encode(out),
            Self::Roles(answer) => answer.encode(out),
            Self::Password { .. } => panic!("no client is told a hash"),
        };
        encoded.expect("memory grows");
    }
}

/// What the role `root` permits, as clients are shown it.
fn everything() -> Permission {
    Permission {
        perm_type: Type::Readwrite.into(),
        key: Bytes::new(),
        range_end: Bytes::from_static(&[0]),
    }
}
