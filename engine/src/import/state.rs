//! The replicated state out of etcd's buckets, which [`snapshot::etcd`](crate::snapshot::etcd) lists.
//!
//! Times are not in the file: a lease begins anew, as it does when etcd starts, or with the time that a checkpoint of
//! etcd's left it.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::{Buf, Bytes};
use prost::Message;

use super::history::{self, Standing};
use super::{File, Refused};
use crate::api::KeyRange;
use crate::api::authpb;
use crate::api::etcdserverpb::AlarmMember;
use crate::auth::Auth;
use crate::ids::{LeaseId, MemberId};
use crate::lease::{ClusterTime, Lease, Lessor};
use crate::mvcc::view::NEVER_COMPACTED;
use crate::mvcc::{Revision, Store};
use crate::raft::{Index, Term};
use crate::rng::Rng;
use crate::state_machine::{AlarmKind, Alarms, StateMachine};

/// What was found in a file.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The state, without members.
    pub state: StateMachine,
    /// The members as etcd keeps them: JSON, by id in hexadecimal digits.
    pub members: Vec<(Bytes, Bytes)>,
    /// The last index whose effect is in the file, and its term; zero in files that do not say.
    pub applied: (Index, Term),
    /// How many keys hung on leases that do not exist. They stay, without them, for ever: as with etcd.
    pub loose_keys: usize,
}

/// How a revision is made higher than all that clients have seen, and history up to there unreadable
/// (`--bump-revision`, `--mark-compacted`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bump(pub u64);

/// Reads the state. Costs a walk over the file, and the memory of the state.
///
/// # Errors
/// If the file is damaged, or was not written by etcd.
pub fn import(file: &mut File<'_>, bump: Option<Bump>) -> Result<Imported, Refused> {
    let (standing, applied) = numbers(file, bump)?;
    let lessor = leases(file)?;
    let (mut store, mut loose_keys) = (history::read(file, standing, &BTreeSet::new())?, 0);
    let loose = without_lease(&store, &lessor);
    if !loose.is_empty() {
        loose_keys = loose.len();
        store = history::read(file, standing, &loose)?;
    }
    let mut state = StateMachine {
        store,
        lessor,
        alarms: alarms(file)?,
        auth: Arc::new(auth(file)?),
        ..StateMachine::default()
    };
    attach(&mut state);
    state.digest = digest(&state);
    Ok(Imported { state, members: pairs(file, b"members")?, applied, loose_keys })
}

/// Where history stands, and which entries are in it.
fn numbers(file: &mut File<'_>, bump: Option<Bump>) -> Result<(Standing, (Index, Term)), Refused> {
    let (mut index, mut term) = (0, 0);
    let mut compacted = NEVER_COMPACTED;
    let mut entries = file.entries(b"meta")?;
    while let Some(element) = entries.next(file)? {
        let number = |why| number(&element.value).ok_or_else(|| entry("meta", &element.key, why));
        match &element.key[..] {
            b"consistent_index" => index = number("an index has eight bytes")?,
            b"term" => term = number("a term has eight bytes")?,
            b"finishedCompactRev" | b"scheduledCompactRev" => {
                let revision = history::revision_of(&element.value)
                    .map_err(|_| entry("meta", &element.key, "it is no revision"))?;
                // What is zero was never set.
                if revision.0.main > 0 {
                    compacted = compacted.max(revision.0.main);
                }
            }
            _ => {}
        }
    }
    let last = history::last_revision(file)?;
    let mut revision = last.max(compacted).max(1);
    if let Some(Bump(by)) = bump {
        let bumped = i64::try_from(by).ok().and_then(|by| last.checked_add(by));
        let bumped = bumped.filter(|bumped| *bumped >= revision && *bumped < i64::MAX);
        revision =
            bumped.ok_or(Refused::NoFile("its revision cannot be made higher by as much"))?;
        compacted = revision;
    }
    Ok((Standing { revision, compacted }, (Index(index), Term(term))))
}

fn leases(file: &mut File<'_>) -> Result<Lessor, Refused> {
    let mut lessor = Lessor::default();
    let mut entries = file.entries(b"lease")?;
    while let Some(element) = entries.next(file)? {
        let refused = || entry("lease", &element.key, "it is no lease");
        let found = StoredLease::decode(element.value.clone()).map_err(|_| refused())?;
        let id = LeaseId(found.id);
        if !id.is_some() || number(&element.key) != Some(found.id.cast_unsigned()) {
            return Err(refused());
        }
        let left = if found.remaining > 0 { found.remaining } else { found.ttl };
        let deadline = ClusterTime::default().after_seconds(left.max(TTL_MIN));
        lessor.grant(Lease { id, ttl: found.ttl.max(TTL_MIN), deadline }).map_err(|_| refused())?;
    }
    Ok(lessor)
}

/// The changes that made keys hang on leases which do not exist.
fn without_lease(store: &Store, lessor: &Lessor) -> BTreeSet<Revision> {
    let everything = KeyRange::prefix(Bytes::new());
    let records = store.current(&everything).filter(|record| record.lease().is_some());
    let loose = records.filter(|record| lessor.get(record.lease()).is_none());
    loose.map(|record| record.revision()).collect()
}

/// Hangs the keys on their leases.
fn attach(state: &mut StateMachine) {
    let everything = KeyRange::prefix(Bytes::new());
    for record in state.store.current(&everything).filter(|record| record.lease().is_some()) {
        state.lessor.attach(record.lease(), record.key());
    }
}

fn alarms(file: &mut File<'_>) -> Result<Alarms, Refused> {
    let mut alarms = Alarms::default();
    let mut entries = file.entries(b"alarm")?;
    while let Some(element) = entries.next(file)? {
        let alarm = AlarmMember::decode(element.key.clone())
            .map_err(|_| entry("alarm", &element.key, "it is no alarm"))?;
        // One of the future means nothing here.
        if let Some(kind) = AlarmKind::from_message(alarm.alarm()) {
            alarms.raise(kind, MemberId(alarm.member_id));
        }
    }
    Ok(alarms)
}

fn auth(file: &mut File<'_>) -> Result<Auth, Refused> {
    let mut is_enabled = false;
    let mut revision = 0;
    for (key, value) in pairs(file, b"auth")? {
        match &key[..] {
            b"authEnabled" => is_enabled = value == [1].as_slice(),
            b"authRevision" => {
                let why = "a revision has eight bytes";
                revision = number(&value).ok_or_else(|| entry("auth", &key, why))?;
            }
            _ => {}
        }
    }
    let mut auth = Box::new(Auth::restored(is_enabled, [revision.max(1), 0, 0]));
    let mut entries = file.entries(b"authRoles")?;
    while let Some(element) = entries.next(file)? {
        let refused = || entry("authRoles", &element.key, "it is no role");
        let mut role = authpb::Role::decode(element.value.clone()).map_err(|_| refused())?;
        role.key_permission.sort_by(|a, b| a.key.cmp(&b.key));
        auth.restore_role(role).ok_or_else(refused)?;
    }
    let mut entries = file.entries(b"authUsers")?;
    while let Some(element) = entries.next(file)? {
        let refused = || entry("authUsers", &element.key, "it is no user");
        let mut user = authpb::User::decode(element.value.clone()).map_err(|_| refused())?;
        user.roles.sort();
        user.roles.dedup();
        auth.restore_user(user, 0).ok_or_else(refused)?;
    }
    let why = "authentication is enabled, and no user root has the role root";
    auth.finish_restore().ok_or_else(|| entry("auth", b"authEnabled", why))?;
    Ok(*auth)
}

/// Stands for everything that was imported: members that began with different files find out (as after damage).
fn digest(state: &StateMachine) -> u64 {
    let mut hasher = crc32fast::Hasher::new();
    for record in state.store.records() {
        hasher.update(record.as_bytes());
    }
    for lease in state.lessor.leases().iter() {
        hasher.update(&lease.id.0.to_le_bytes());
        hasher.update(&lease.ttl.to_le_bytes());
    }
    for user in state.auth.users() {
        hasher.update(&user.0.encode_to_vec());
    }
    for role in state.auth.roles() {
        hasher.update(&role.encode_to_vec());
    }
    let revisions = [state.store.revision(), state.store.compacted()].map(i64::cast_unsigned);
    let words = revisions.into_iter().chain([state.auth.revision(), hasher.finalize().into()]);
    words.fold(0, |digest, word| Rng::new(digest ^ word).next_u64())
}

/// All entries of a small bucket.
fn pairs(file: &mut File<'_>, bucket: &[u8]) -> Result<Vec<(Bytes, Bytes)>, Refused> {
    let mut pairs = Vec::new();
    let mut entries = file.entries(bucket)?;
    while let Some(element) = entries.next(file)? {
        pairs.push((element.key, element.value));
    }
    Ok(pairs)
}

fn number(bytes: &[u8]) -> Option<u64> {
    let mut bytes = bytes;
    let number = bytes.try_get_u64().ok()?;
    bytes.is_empty().then_some(number)
}

fn entry(bucket: &'static str, key: &[u8], why: &'static str) -> Refused {
    let key: String = key.escape_ascii().to_string();
    Refused::Entry { bucket, key, why }
}

/// `leasepb.Lease`.
#[derive(Clone, Copy, PartialEq, Message)]
struct StoredLease {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(int64, tag = "2")]
    ttl: i64,
    #[prost(int64, tag = "3")]
    remaining: i64,
}

/// What etcd raises the TTL of leases to, with its default election timeout; in seconds.
pub(super) const TTL_MIN: i64 = 2;
