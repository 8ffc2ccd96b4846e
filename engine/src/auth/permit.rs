//! The one function that permits: [`Auth::permit`].
//!
//! Every request and every command says by an [`Act`] what it would do (`Request::act`, `Command::act`: matches without
//! a wildcard, so that a new one does not compile before somebody has decided). What is not permitted in here is denied.

use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::{Buf, Bytes};
use prost::encoding::{decode_varint, encode_varint};

use super::{Auth, User};
use crate::api::etcdserverpb::request_op::Request as Op;
use crate::api::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use crate::api::{Error, KeyRange};
use crate::convert::{to_u64, to_usize};
use crate::ids::LeaseId;
use crate::lease::Lessor;

/// On whose behalf something is done. Stands in the log beside each command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Author {
    /// A client that did not say who it is.
    #[default]
    Nobody,
    /// The member itself: alarms, compactions of its own, health checks.
    Member,
    /// A user.
    User(Identity),
}

/// A user, as it was known when it asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name.
    pub name: Arc<str>,
    /// The revision of users and roles at which the client was known to be this user.
    pub revision: u64,
}

/// What something would do.
#[derive(Clone, Copy, Debug)]
pub enum Act<'a> {
    /// What only members do, to keep the cluster going; no client can ask for it.
    Upkeep,
    /// What only a member may ask for: it has checked a password.
    OfMember,
    /// What everybody may.
    Anyone,
    /// What every user may.
    Known,
    /// What only `root` may.
    Root,
    /// Reads keys.
    Range(&'a RangeRequest),
    /// Writes a key.
    Put(&'a PutRequest),
    /// Deletes keys.
    DeleteRange(&'a DeleteRangeRequest),
    /// Does all of this.
    Txn(&'a TxnRequest),
    /// Reads what becomes of keys.
    Watch(&'a KeyRange),
    /// Ends a lease, or keeps it: writes all keys that hang on it.
    WriteLease(LeaseId),
    /// Asks which keys hang on a lease.
    ReadLease(LeaseId),
    /// Asks which leases there are.
    ReadLeases,
    /// Asks about a user.
    User(&'a str),
    /// Asks about a role.
    Role(&'a str),
}

/// A user whose rights are asked for.
struct Asker<'a> {
    user: &'a User,
    lessor: Option<&'a Lessor>,
}

impl Auth {
    /// Whether `author` may do this. Where leases are concerned, `lessor` must be given, else it is denied.
    ///
    /// As in etcd, who reads or writes keys must have been known at the present revision: what was checked against older
    /// rights is to be asked anew. For everything else it is enough that the user and its password are still those.
    ///
    /// # Errors
    /// [`Error::UserEmpty`], [`Error::AuthOldRevision`], [`Error::PermissionDenied`].
    pub fn permit(
        &self,
        author: &Author,
        act: Act<'_>,
        lessor: Option<&Lessor>,
    ) -> Result<(), Error> {
        match (act, author) {
            (Act::Upkeep | Act::Anyone, _) | (_, Author::Member) => return Ok(()),
            // Whether authentication is enabled or not.
            (Act::OfMember, _) => return Err(Error::PermissionDenied),
            _ => {}
        }
        if !self.enabled {
            return Ok(());
        }
        let Author::User(Identity { name, revision }) = author else {
            // etcd compares names, and that of nobody is empty: who asks about that user is told that there is none.
            return if matches!(act, Act::User("")) { Ok(()) } else { Err(Error::UserEmpty) };
        };
        let is_about_keys = matches!(
            act,
            Act::Range(_) | Act::Put(_) | Act::DeleteRange(_) | Act::Txn(_) | Act::Watch(_)
        );
        if is_about_keys && *revision < self.revision {
            return Err(Error::AuthOldRevision);
        }
        let user = self.users.get(&**name).ok_or(Error::PermissionDenied)?;
        if *revision < user.since {
            return Err(Error::AuthOldRevision);
        }
        if user.may.everything {
            return Ok(());
        }
        let asker = Asker { user, lessor };
        let may = match act {
            Act::Known => true,
            Act::Upkeep | Act::OfMember | Act::Anyone | Act::Root => false,
            Act::Range(range) => asker.reads(&range.into()),
            Act::Put(put) => asker.puts(put),
            Act::DeleteRange(delete) => asker.deletes(delete),
            Act::Txn(txn) => asker.does(txn),
            Act::Watch(range) => asker.reads(range),
            Act::WriteLease(lease) => asker.writes_all_of(lease),
            Act::ReadLease(lease) => asker.reads_all_of(lease),
            Act::ReadLeases => lessor.is_some_and(|lessor| {
                lessor.by_deadline().all(|lease| asker.reads_all_of(lease.id))
            }),
            Act::User(asked) => asked == &**name,
            Act::Role(asked) => user.has_role(asked),
        };
        if may { Ok(()) } else { Err(Error::PermissionDenied) }
    }
}

impl Asker<'_> {
    fn reads(&self, range: &KeyRange) -> bool {
        self.user.may.read.covers(range)
    }

    fn writes(&self, range: &KeyRange) -> bool {
        self.user.may.write.covers(range)
    }

    fn puts(&self, put: &PutRequest) -> bool {
        let key = KeyRange::single(put.key.clone());
        self.writes(&key)
            && (!put.prev_kv || self.reads(&key))
            // Who hangs a key on a lease can end it, and with it the keys of others.
            && (put.lease == 0 || self.writes_all_of(LeaseId(put.lease)))
    }

    fn deletes(&self, delete: &DeleteRangeRequest) -> bool {
        let range = delete.into();
        self.writes(&range) && (!delete.prev_kv || self.reads(&range))
    }

    /// Both branches count, whichever is taken, with everything that is nested in them.
    fn does(&self, txn: &TxnRequest) -> bool {
        let TxnRequest { compare, success, failure } = txn;
        compare.iter().all(|compare| self.reads(&compare.into()))
            && success.iter().chain(failure).all(|op| self.does_op(op))
    }

    fn does_op(&self, RequestOp { request }: &RequestOp) -> bool {
        match request {
            Some(Op::RequestRange(range)) => self.reads(&range.into()),
            Some(Op::RequestPut(put)) => self.puts(put),
            Some(Op::RequestDeleteRange(delete)) => self.deletes(delete),
            Some(Op::RequestTxn(nested)) => self.does(nested),
            None => false,
        }
    }

    fn writes_all_of(&self, lease: LeaseId) -> bool {
        let single = |key: &Bytes| KeyRange::single(key.clone());
        self.lessor.is_some_and(|lessor| lessor.keys_of(lease).all(|key| self.writes(&single(key))))
    }

    fn reads_all_of(&self, lease: LeaseId) -> bool {
        let single = |key: &Bytes| KeyRange::single(key.clone());
        self.lessor.is_some_and(|lessor| lessor.keys_of(lease).all(|key| self.reads(&single(key))))
    }
}

const MEMBER: u8 = 1;
const USER: u8 = 2;

impl Author {
    /// Whether it takes no bytes in the log.
    pub(crate) fn is_nobody(&self) -> bool {
        *self == Self::Nobody
    }

    /// Appends the author: `u8 kind`, and of a user `varint revision, varint length, name`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Nobody => out.push(0),
            Self::Member => out.push(MEMBER),
            Self::User(Identity { name, revision }) => {
                out.push(USER);
                encode_varint(*revision, out);
                encode_varint(to_u64(name.len()), out);
                out.extend_from_slice(name.as_bytes());
            }
        }
    }

    /// Takes an author off the front.
    pub(crate) fn decode(data: &mut Bytes) -> Option<Self> {
        match data.try_get_u8().ok()? {
            0 => Some(Self::Nobody),
            MEMBER => Some(Self::Member),
            USER => {
                let revision = decode_varint(data).ok()?;
                let length = decode_varint(data).ok()?;
                if length > to_u64(data.len()) {
                    return None;
                }
                let name = data.split_to(to_usize(length));
                let name = Arc::from(core::str::from_utf8(&name).ok()?);
                Some(Self::User(Identity { name, revision }))
            }
            _ => None,
        }
    }
}
