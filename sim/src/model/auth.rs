//! Users and roles, told plainly: who may what is looked up permission by permission, whenever it is asked.
//!
//! Written from etcd's contract. What a request needs is a list of keys to read and to write; a list of keys is covered
//! if there is no first one that is not: that could only be the first at all, or stand where a permission ends.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use cairn_engine::api::Error;
use cairn_engine::api::authpb::Permission;
use cairn_engine::api::etcdserverpb::request_op::Request as Op;
use cairn_engine::api::etcdserverpb::{PutRequest, RangeRequest, RequestOp, TxnRequest};
use cairn_engine::auth::{Assignment, Author, Change, Identity};
use cairn_engine::command::Command;

use super::Keys;

/// Users and roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    enabled: bool,
    revision: u64,
    users: BTreeMap<String, User>,
    /// What each role permits: on which interval, which kind.
    roles: BTreeMap<String, BTreeMap<(Bytes, Bytes), i32>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct User {
    hash: String,
    no_password: bool,
    roles: BTreeSet<String>,
    since: u64,
}

/// What something needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: only members do it.
    Nothing,
    /// To be a member.
    Member,
    /// To be somebody.
    Known,
    /// To be root.
    Root,
    /// The keys of leases: those to write.
    Lease(Vec<Keys>),
    /// To be known at the present revision, and these keys.
    Keys(Vec<Need>),
}

/// Keys to read, or to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// To read.
    Read(Keys),
    /// To write.
    Write(Keys),
    /// To write what hangs on a lease.
    Lease(i64),
}

const READ: i32 = 0;
const WRITE: i32 = 1;
const BOTH: i32 = 2;

impl Default for Auth {
    fn default() -> Self {
        Self { enabled: false, revision: 1, users: BTreeMap::new(), roles: BTreeMap::new() }
    }
}

impl Auth {
    /// Whether clients must say who they are.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// How often something was changed.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The names of the users, and how many roles each has, for digests.
    pub fn facts(&self) -> Vec<Vec<u8>> {
        let mut facts = vec![vec![u8::from(self.enabled)], self.revision.to_le_bytes().to_vec()];
        for (name, user) in &self.users {
            let roles: Vec<&str> = user.roles.iter().map(String::as_str).collect();
            let (roles, since) = (roles.join(","), user.since);
            let text = format!("{name} {} {} {roles} {since}", user.hash, user.no_password);
            facts.push(text.into_bytes());
        }
        for (name, permissions) in &self.roles {
            for ((key, range_end), kind) in permissions {
                facts.push(format!("{name} {key:?} {range_end:?} {kind}").into_bytes());
            }
            facts.push(name.clone().into_bytes());
        }
        facts
    }

    /// Changes something, or says why not.
    ///
    /// # Errors
    /// etcd's.
    pub fn change(&mut self, change: &Change) -> Result<(), Error> {
        let next = self.revision + 1;
        match change {
            Change::Enable => {
                let root = self.users.get("root");
                if !self.enabled {
                    let root = root.ok_or(Error::RootUserNotExist)?;
                    if !root.roles.contains("root") {
                        return Err(Error::RootRoleNotExist);
                    }
                }
                self.enabled = true;
                return Ok(());
            }
            Change::Disable if !self.enabled => return Ok(()),
            Change::Disable => self.enabled = false,
            Change::UserAdd(request) if request.name.is_empty() => return Err(Error::UserEmpty),
            Change::UserAdd(request) if self.users.contains_key(&request.name) => {
                return Err(Error::UserAlreadyExist);
            }
            Change::UserAdd(request) => {
                let no_password = request.options.is_some_and(|options| options.no_password);
                let hash =
                    if no_password { String::new() } else { request.hashed_password.clone() };
                let user = User { hash, no_password, roles: BTreeSet::new(), since: next };
                self.users.insert(request.name.clone(), user);
            }
            Change::UserDelete(request) => {
                if self.enabled && request.name == "root" {
                    return Err(Error::InvalidAuthMgmt);
                }
                self.users.remove(&request.name).ok_or(Error::UserNotFound)?;
            }
            Change::UserChangePassword(request) => {
                let user = self.users.get_mut(&request.name).ok_or(Error::UserNotFound)?;
                user.since = next;
                if !user.no_password {
                    user.hash.clone_from(&request.hashed_password);
                }
            }
            Change::UserGrantRole(request) => {
                let user = self.users.get_mut(&request.user).ok_or(Error::UserNotFound)?;
                if request.role != "root" && !self.roles.contains_key(&request.role) {
                    return Err(Error::RoleNotFound);
                }
                if !user.roles.insert(request.role.clone()) {
                    return Ok(());
                }
            }
            Change::UserRevokeRole(request) => {
                if self.enabled && request.name == "root" && request.role == "root" {
                    return Err(Error::InvalidAuthMgmt);
                }
                let user = self.users.get_mut(&request.name).ok_or(Error::UserNotFound)?;
                if !user.roles.remove(&request.role) {
                    return Err(Error::RoleNotGranted);
                }
            }
            Change::RoleAdd(request) => {
                if request.name.is_empty() {
                    return Err(Error::RoleEmpty);
                }
                if self.roles.contains_key(&request.name) {
                    return Err(Error::RoleAlreadyExist);
                }
                self.roles.insert(request.name.clone(), BTreeMap::new());
            }
            Change::RoleDelete(request) => {
                if self.enabled && request.role == "root" {
                    return Err(Error::InvalidAuthMgmt);
                }
                self.roles.remove(&request.role).ok_or(Error::RoleNotFound)?;
                for user in self.users.values_mut() {
                    user.roles.remove(&request.role);
                }
            }
            Change::RoleGrantPermission(request) => {
                let Permission { perm_type, key, range_end } =
                    request.perm.clone().ok_or(Error::PermissionNotGiven)?;
                let is_open = range_end.is_empty() || *range_end == [0];
                if key.is_empty() || !is_open && range_end <= key {
                    return Err(Error::InvalidAuthMgmt);
                }
                let role = self.roles.get_mut(&request.name).ok_or(Error::RoleNotFound)?;
                role.insert((key, range_end), perm_type);
            }
            Change::RoleRevokePermission(request) => {
                let role = self.roles.get_mut(&request.role).ok_or(Error::RoleNotFound)?;
                let interval = (request.key.clone(), request.range_end.clone());
                role.remove(&interval).ok_or(Error::PermissionNotGranted)?;
            }
        }
        self.revision = next;
        Ok(())
    }

    /// Whether a token may be assigned.
    ///
    /// # Errors
    /// Why not.
    pub fn assign(&self, assignment: &Assignment) -> Result<(), Error> {
        if !self.enabled {
            return Err(Error::AuthNotEnabled);
        }
        match self.users.get(&*assignment.name) {
            Some(user) if !user.no_password && user.since <= assignment.checked => Ok(()),
            Some(user) if !user.no_password => Err(Error::AuthOldRevision),
            Some(_) | None => Err(Error::AuthFailed),
        }
    }

    /// Whether `author` has what is needed; `keys_of` tells what hangs on a lease.
    ///
    /// # Errors
    /// Why not.
    pub fn permit(
        &self,
        author: &Author,
        needs: &Needs,
        keys_of: impl Fn(i64) -> Vec<Bytes>,
    ) -> Result<(), Error> {
        if *needs == Needs::Nothing || *author == Author::Member {
            return Ok(());
        }
        if *needs == Needs::Member {
            return Err(Error::PermissionDenied);
        }
        if !self.enabled {
            return Ok(());
        }
        let Author::User(identity) = author else { return Err(Error::UserEmpty) };
        if matches!(needs, Needs::Keys(_)) && identity.revision < self.revision {
            return Err(Error::AuthOldRevision);
        }
        let user = self.users.get(&*identity.name).ok_or(Error::PermissionDenied)?;
        if identity.revision < user.since {
            return Err(Error::AuthOldRevision);
        }
        let keys = |keys: Vec<Bytes>| {
            keys.into_iter().map(|key| Keys::new(&key, &Bytes::new())).collect::<Vec<_>>()
        };
        let has = |need: &Need| match need {
            Need::Read(keys) => self.covers(user, READ, keys),
            Need::Write(keys) => self.covers(user, WRITE, keys),
            Need::Lease(0) => true,
            Need::Lease(lease) => {
                keys(keys_of(*lease)).iter().all(|key| self.covers(user, WRITE, key))
            }
        };
        let may = match needs {
            Needs::Nothing | Needs::Member | Needs::Known => true,
            Needs::Root => false,
            Needs::Lease(keys) => keys.iter().all(|key| self.covers(user, WRITE, key)),
            Needs::Keys(needs) => needs.iter().all(has),
        };
        if may || user.roles.contains("root") { Ok(()) } else { Err(Error::PermissionDenied) }
    }

    /// Whether a user may watch keys.
    pub fn may_watch(&self, user: &str, keys: &Keys) -> bool {
        let author = Author::User(Identity { name: user.into(), revision: self.revision });
        let needs = Needs::Keys(vec![Need::Read(keys.clone())]);
        self.permit(&author, &needs, |_| Vec::new()).is_ok()
    }

    fn covers(&self, user: &User, kind: i32, asked: &Keys) -> bool {
        let roles = user.roles.iter().filter_map(|role| self.roles.get(role));
        let permissions = roles.flatten().filter(|(_, given)| [kind, BOTH].contains(given));
        let given: Vec<Keys> =
            permissions.map(|((key, range_end), _)| Keys::new(key, range_end)).collect();
        let ends = given.iter().filter_map(|keys| match keys.range_end.as_ref() {
            [] => Some(Bytes::from([&keys.key, &[0][..]].concat())),
            [0] => None,
            _ => Some(keys.range_end.clone()),
        });
        let mut points = ends.filter(|end| asked.contain(end)).chain([asked.key.clone()]);
        points.all(|point| given.iter().any(|keys| keys.contain(&point)))
    }
}

impl Needs {
    /// What a command needs.
    pub fn of(command: &Command, keys_of: impl Fn(i64) -> Vec<Bytes>) -> Self {
        match command {
            Command::Put(put) => Self::Keys(puts(put)),
            Command::DeleteRange(delete) => {
                let op = Op::RequestDeleteRange(delete.clone());
                Self::Keys(of_op(&RequestOp { request: Some(op) }))
            }
            Command::Txn(txn) => Self::Keys(of_txn(txn)),
            Command::Compact(_) | Command::Auth(_) => Self::Root,
            Command::LeaseGrant(_) => Self::Known,
            Command::LeaseRevoke(revoke) => {
                let keys = keys_of(revoke.id);
                Self::Lease(keys.iter().map(|key| Keys::new(key, &Bytes::new())).collect())
            }
            Command::Alarm(request) if request.action == 0 => Self::Known,
            Command::Alarm(_) => Self::Root,
            Command::Authenticate(_) => Self::Member,
            Command::LeaseRenew(_)
            | Command::LeaseExpire(_)
            | Command::Members(_)
            | Command::Tick => Self::Nothing,
        }
    }

    /// What a range needs.
    pub fn of_range(range: &RangeRequest) -> Self {
        Self::Keys(vec![Need::Read(Keys::new(&range.key, &range.range_end))])
    }

    /// What a transaction needs.
    pub fn of_txn(txn: &TxnRequest) -> Self {
        Self::Keys(of_txn(txn))
    }
}

fn puts(put: &PutRequest) -> Vec<Need> {
    let key = Keys::new(&put.key, &Bytes::new());
    let mut needs = vec![Need::Write(key.clone()), Need::Lease(put.lease)];
    if put.prev_kv {
        needs.push(Need::Read(key));
    }
    needs
}

fn of_op(op: &RequestOp) -> Vec<Need> {
    match &op.request {
        Some(Op::RequestRange(range)) => vec![Need::Read(Keys::new(&range.key, &range.range_end))],
        Some(Op::RequestPut(put)) => puts(put),
        Some(Op::RequestDeleteRange(delete)) => {
            let keys = Keys::new(&delete.key, &delete.range_end);
            let previous = delete.prev_kv.then(|| Need::Read(keys.clone()));
            previous.into_iter().chain([Need::Write(keys)]).collect()
        }
        Some(Op::RequestTxn(txn)) => of_txn(txn),
        None => Vec::new(),
    }
}

fn of_txn(txn: &TxnRequest) -> Vec<Need> {
    let compares = txn.compare.iter().map(|c| Need::Read(Keys::new(&c.key, &c.range_end)));
    let ops = txn.success.iter().chain(&txn.failure).flat_map(of_op);
    compares.chain(ops).collect()
}
