//! Users, roles and permissions: who may do what.
//!
//! All of it is replicated state like any other: changed by commands of the log, part of snapshots and of the digest. So
//! every member decides alike whether a command may be applied, and nothing that a member has for itself (its tokens,
//! its clock) has a say in that.
//!
//! ```text
//!  what a client shows         who it is            what it asks         may it?
//!  Credential ── resolve ──► Author ─────────────────────────────► permit ──► yes, or etcd's error
//!  (token, certificate)      (name, revision:        Act ───────────┘
//!                             goes into the log)     (of Request, of Command)
//! ```
//!
//! | file | what |
//! |---|---|
//! | mod.rs | the state, and what changes it |
//! | change.rs | those changes, as they stand in the log |
//! | answer.rs | what clients are told about users and roles |
//! | interval.rs | unions of intervals of keys |
//! | permit.rs | the one function that permits |
//! | token.rs | who a client is, by what it shows |
//!
//! # Invariants
//!
//! - A1 The revision grows by one with each change but that of enabling, and never shrinks.
//! - A2 What a user may is what its roles permit: `may` of each user is made anew whenever one of them changes.
//! - A3 While authentication is enabled there is a user `root` that has the role `root`.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use bytes::Bytes;

use crate::api::authpb::permission::Type;
use crate::api::authpb::{self, Permission, UserAddOptions};
use crate::api::etcdserverpb::{AuthUserAddRequest, AuthUserChangePasswordRequest};
use crate::api::{Error, KeyRange};
use crate::rng::Rng;

mod answer;
mod change;
mod interval;
mod permit;
#[cfg(test)]
mod tests;
mod token;

pub use answer::{Answer, Query};
pub use change::Change;
pub use permit::{Act, Author, Identity};
pub use token::{Assignment, Credential, Token, TokenId, Tokens};

use interval::Union;

/// The user, and the role, that may everything.
pub const ROOT: &str = "root";

/// The replicated state of users and roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    enabled: bool,
    revision: u64,
    /// Tokens made before this revision are good for nothing: authentication was disabled since.
    tokens_since: u64,
    users: BTreeMap<String, User>,
    /// By name; the permissions are sorted by key.
    roles: BTreeMap<String, Vec<Permission>>,
    /// Stands for all changes since the beginning.
    digest: u64,
    /// Nobody knows what it is ([`Auth::unknown`]).
    unknown: bool,
}

/// A user.
#[derive(Clone, PartialEq, Eq)]
struct User {
    /// A bcrypt hash; empty if there is no password.
    password: Bytes,
    no_password: bool,
    /// Sorted.
    roles: Vec<String>,
    /// The revision that made this user, or its password: whoever was it before that is not any more.
    since: u64,
    may: May,
}

/// What a user may, by its roles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct May {
    everything: bool,
    read: Union,
    write: Union,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            enabled: false,
            // etcd begins to count at one.
            revision: 1,
            tokens_since: 0,
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
            digest: 0,
            unknown: false,
        }
    }
}

impl Auth {
    /// Users and roles that are lost with the rest of the state: nobody may do anything until it is back.
    pub fn unknown() -> Self {
        Self { unknown: true, ..Self::default() }
    }

    /// Whether these are lost.
    pub fn is_unknown(&self) -> bool {
        self.unknown
    }
}

impl core::fmt::Debug for User {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mut shown = f.debug_struct("User");
        shown.field("roles", &self.roles).field("since", &self.since).finish_non_exhaustive()
    }
}

impl Auth {
    /// Whether clients must say who they are.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// How often users or roles were changed.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Stands for all that was ever changed; zero if nothing was.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Changes users or roles, as etcd does it (`server/auth/store.go`). Whether it may be done was asked before.
    ///
    /// # Errors
    /// etcd's; then nothing has changed.
    pub(crate) fn change(&mut self, change: &Change) -> Result<(), Error> {
        match change {
            Change::Enable => self.enable()?,
            Change::Disable => {
                if core::mem::take(&mut self.enabled) {
                    self.revision += 1;
                    self.tokens_since = self.revision;
                }
            }
            Change::UserAdd(request) => self.add_user(request)?,
            Change::UserDelete(request) => {
                if self.enabled && request.name == ROOT {
                    return Err(Error::InvalidAuthMgmt);
                }
                self.users.remove(&request.name).ok_or(Error::UserNotFound)?;
                self.revision += 1;
            }
            Change::UserChangePassword(request) => self.change_password(request)?,
            Change::UserGrantRole(request) => self.grant_role(&request.user, &request.role)?,
            Change::UserRevokeRole(request) => self.revoke_role(&request.name, &request.role)?,
            Change::RoleAdd(request) => {
                if request.name.is_empty() {
                    return Err(Error::RoleEmpty);
                }
                if self.roles.contains_key(&request.name) {
                    return Err(Error::RoleAlreadyExist);
                }
                self.roles.insert(request.name.clone(), Vec::new());
                self.revision += 1;
            }
            Change::RoleDelete(request) => self.delete_role(&request.role)?,
            Change::RoleGrantPermission(request) => {
                let given = request.perm.as_ref().ok_or(Error::PermissionNotGiven)?;
                self.grant_permission(&request.name, given)?;
            }
            Change::RoleRevokePermission(request) => {
                let role = self.roles.get_mut(&request.role).ok_or(Error::RoleNotFound)?;
                let is_it = |permission: &Permission| {
                    permission.key == request.key && permission.range_end == request.range_end
                };
                let place = role.iter().position(is_it).ok_or(Error::PermissionNotGranted)?;
                role.remove(place);
                self.role_changed(&request.role);
            }
        }
        self.note(change);
        Ok(())
    }

    /// Mixes a change that was made into the digest.
    fn note(&mut self, change: &Change) {
        let mut bytes = Vec::new();
        change.encode(&mut bytes);
        let crc = u64::from(crc32fast::hash(&bytes));
        for word in [crc, self.revision, u64::from(self.enabled)] {
            self.digest = Rng::new(self.digest ^ word).next_u64();
        }
    }

    fn enable(&mut self) -> Result<(), Error> {
        if self.enabled {
            return Ok(());
        }
        let root = self.users.get(ROOT).ok_or(Error::RootUserNotExist)?;
        if !root.may.everything {
            return Err(Error::RootRoleNotExist);
        }
        self.enabled = true;
        Ok(())
    }

    fn add_user(&mut self, request: &AuthUserAddRequest) -> Result<(), Error> {
        if request.name.is_empty() {
            return Err(Error::UserEmpty);
        }
        if self.users.contains_key(&request.name) {
            return Err(Error::UserAlreadyExist);
        }
        self.revision += 1;
        let no_password = request.options.is_some_and(|options| options.no_password);
        let password = if no_password { "" } else { &request.hashed_password };
        let user = User {
            password: Bytes::copy_from_slice(password.as_bytes()),
            no_password,
            roles: Vec::new(),
            since: self.revision,
            may: May::default(),
        };
        self.users.insert(request.name.clone(), user);
        Ok(())
    }

    fn change_password(&mut self, request: &AuthUserChangePasswordRequest) -> Result<(), Error> {
        let user = self.users.get_mut(&request.name).ok_or(Error::UserNotFound)?;
        self.revision += 1;
        if !user.no_password {
            user.password = Bytes::copy_from_slice(request.hashed_password.as_bytes());
        }
        user.since = self.revision;
        Ok(())
    }

    fn grant_role(&mut self, name: &str, role: &str) -> Result<(), Error> {
        let user = self.users.get_mut(name).ok_or(Error::UserNotFound)?;
        if role != ROOT && !self.roles.contains_key(role) {
            return Err(Error::RoleNotFound);
        }
        if let Err(place) = user.roles.binary_search_by(|granted| granted.as_str().cmp(role)) {
            user.roles.insert(place, role.to_string());
            user.may = May::new(&user.roles, &self.roles);
            self.revision += 1;
        }
        Ok(())
    }

    fn revoke_role(&mut self, name: &str, role: &str) -> Result<(), Error> {
        if self.enabled && name == ROOT && role == ROOT {
            return Err(Error::InvalidAuthMgmt);
        }
        let user = self.users.get_mut(name).ok_or(Error::UserNotFound)?;
        let place = user.roles.iter().position(|granted| granted == role);
        user.roles.remove(place.ok_or(Error::RoleNotGranted)?);
        user.may = May::new(&user.roles, &self.roles);
        self.revision += 1;
        Ok(())
    }

    fn delete_role(&mut self, name: &str) -> Result<(), Error> {
        if self.enabled && name == ROOT {
            return Err(Error::InvalidAuthMgmt);
        }
        self.roles.remove(name).ok_or(Error::RoleNotFound)?;
        for user in self.users.values_mut() {
            let before = user.roles.len();
            user.roles.retain(|role| role != name);
            if user.roles.len() < before {
                user.may = May::new(&user.roles, &self.roles);
            }
        }
        self.revision += 1;
        Ok(())
    }

    fn grant_permission(&mut self, name: &str, given: &Permission) -> Result<(), Error> {
        if !is_permission_range(&given.key, &given.range_end) {
            return Err(Error::InvalidAuthMgmt);
        }
        let role = self.roles.get_mut(name).ok_or(Error::RoleNotFound)?;
        let is_it = |permission: &&mut Permission| {
            permission.key == given.key && permission.range_end == given.range_end
        };
        if let Some(known) = role.iter_mut().find(is_it) {
            known.perm_type = given.perm_type;
        } else {
            // Unlike etcd, whose sort is not stable, those of one key stay in the order in which they came.
            let place = role.partition_point(|permission| permission.key <= given.key);
            role.insert(place, given.clone());
        }
        self.role_changed(name);
        Ok(())
    }

    /// A role permits something else than before.
    fn role_changed(&mut self, name: &str) {
        for user in self.users.values_mut().filter(|user| user.has_role(name)) {
            user.may = May::new(&user.roles, &self.roles);
        }
        self.revision += 1;
    }

    /// The users as etcd stores them, in order, each with the revision of its password.
    pub fn users(&self) -> impl Iterator<Item = (authpb::User, u64)> {
        self.users.iter().map(|(name, user)| {
            let message = authpb::User {
                name: Bytes::copy_from_slice(name.as_bytes()),
                password: user.password.clone(),
                roles: user.roles.clone(),
                options: Some(UserAddOptions { no_password: user.no_password }),
            };
            (message, user.since)
        })
    }

    /// The roles as etcd stores them, in order.
    pub fn roles(&self) -> impl Iterator<Item = authpb::Role> {
        self.roles.iter().map(|(name, permissions)| authpb::Role {
            name: Bytes::copy_from_slice(name.as_bytes()),
            key_permission: permissions.clone(),
        })
    }

    /// What a snapshot has beside users and roles: enabled, the revision, since when tokens are good, the digest.
    pub(crate) fn numbers(&self) -> (bool, [u64; 3]) {
        (self.enabled, [self.revision, self.tokens_since, self.digest])
    }

    /// The state out of a snapshot's numbers, without users and roles.
    pub(crate) fn restored(enabled: bool, [revision, tokens_since, digest]: [u64; 3]) -> Self {
        Self { enabled, revision, tokens_since, digest, ..Self::default() }
    }

    /// Takes a user out of a snapshot; roles come later.
    pub(crate) fn restore_user(&mut self, user: authpb::User, since: u64) -> Option<()> {
        let name = String::from_utf8(user.name.to_vec()).ok()?;
        let user = User {
            password: user.password,
            no_password: user.options.is_some_and(|options| options.no_password),
            roles: user.roles,
            since,
            may: May::default(),
        };
        let is_sorted = user.roles.is_sorted_by(|a, b| a < b);
        (is_sorted && self.users.insert(name, user).is_none()).then_some(())
    }

    /// Takes a role out of a snapshot.
    pub(crate) fn restore_role(&mut self, role: authpb::Role) -> Option<()> {
        let name = String::from_utf8(role.name.to_vec()).ok()?;
        let is_sorted = role.key_permission.is_sorted_by(|a, b| a.key <= b.key);
        let is_new = self.roles.insert(name, role.key_permission).is_none();
        (is_sorted && is_new).then_some(())
    }

    /// Everything has come out of a snapshot.
    pub(crate) fn finish_restore(&mut self) -> Option<()> {
        for user in self.users.values_mut() {
            user.may = May::new(&user.roles, &self.roles);
        }
        let root = self.users.get(ROOT);
        (!self.enabled || root.is_some_and(|root| root.may.everything)).then_some(())
    }

    /// Checks A2 and A3. O(n log n).
    ///
    /// # Panics
    /// If they do not hold.
    pub fn check(&self) {
        for user in self.users.values() {
            let may = May::new(&user.roles, &self.roles);
            assert_eq!(user.may, may, "a user may what its roles permit (A2)");
            assert!(user.since <= self.revision, "nothing comes from the future (A1)");
        }
        let root = self.users.get(ROOT);
        let has_root = root.is_some_and(|root| root.has_role(ROOT));
        assert!(!self.enabled || has_root, "somebody may everything (A3)");
    }
}

impl User {
    fn has_role(&self, name: &str) -> bool {
        self.roles.binary_search_by(|role| role.as_str().cmp(name)).is_ok()
    }
}

impl May {
    fn new(roles: &[String], all: &BTreeMap<String, Vec<Permission>>) -> Self {
        let (mut read, mut write) = (Vec::new(), Vec::new());
        for permission in roles.iter().filter_map(|role| all.get(role)).flatten() {
            let range = KeyRange::new(permission.key.clone(), permission.range_end.clone());
            // A kind of the future permits nothing.
            let Ok(kind) = Type::try_from(permission.perm_type) else { continue };
            if matches!(kind, Type::Read | Type::Readwrite) {
                read.push(range.clone());
            }
            if matches!(kind, Type::Write | Type::Readwrite) {
                write.push(range);
            }
        }
        let everything = roles.iter().any(|role| role == ROOT);
        Self { everything, read: Union::new(read), write: Union::new(write) }
    }
}

/// Whether a permission may be given on this interval: etcd's rule.
fn is_permission_range(key: &[u8], range_end: &[u8]) -> bool {
    !key.is_empty() && (range_end.is_empty() || range_end == [0] || key < range_end)
}
