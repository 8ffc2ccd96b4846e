//! etcd's buckets: which there are, and what is in them.
//!
//! ```text
//! bucket            key                                       value
//! alarm             etcdserverpb.AlarmMember                  nothing
//! auth              authEnabled, authRevision                 1 or 0; u64
//! authRoles         name                                      authpb.Role
//! authUsers         name                                      authpb.User
//! cluster           clusterVersion                            3.7.0
//! key               main u64, '_', sub u64; 't' if deleted    mvccpb.KeyValue; of the deleted only the key
//! lease             id u64                                    leasepb.Lease
//! members           id in hexadecimal                         JSON
//! members_removed   id in hexadecimal                         removed
//! meta              consistent_index, term                    u64
//!                   confState                                 JSON
//!                   scheduledCompactRev, finishedCompactRev   main u64, '_', 0
//!                   storageVersion                            3.7.0
//! ```
//!
//! Numbers are big-endian, so that they are in order. (etcd v3.7 `storage/schema`.)
//!
//! # Limits
//!
//! A lease begins anew where the file is used, as with etcd: its
//! message has a field for the remaining time, but where checkpoints of leases are off, as they are by default,
//! etcd never resets it, and a lease would be renewed for that time only, ever after.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write as _;

use prost::Message;

use super::EtcdState;
use super::bbolt::{Leaf, PageId};
use crate::api::etcdserverpb::AlarmMember;
use crate::api::etcdserverpb::Member;
use crate::cow::CowTree;
use crate::ids::{LeaseId, MemberId};
use crate::lease::Lease;
use crate::mvcc::hash::Superseded;
use crate::mvcc::view::NEVER_COMPACTED;
use crate::mvcc::{Record, Revision, View};
use crate::storage::Damage;

/// Everything that the file holds.
#[derive(Clone, Debug)]
pub(super) struct Buckets {
    /// In the order of their names.
    buckets: Vec<Bucket>,
    view: View,
    leases: CowTree<Lease>,
    /// What the last compaction made unreadable and no sweep has removed yet.
    superseded: Superseded,
}

#[derive(Clone, Debug)]
struct Bucket {
    name: &'static str,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    /// Few things, in order.
    Pairs(Vec<Pair>),
    /// The key space.
    History,
    /// The leases.
    Leases,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Pair {
    key: Vec<u8>,
    value: Vec<u8>,
}

/// An entry's place in a bucket.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Pair(usize),
    Change(Revision),
    /// A lease's id as its key shows it.
    Lease(u64),
}

/// How far the filling of a leaf came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filled {
    /// Where the next leaf begins; `None` if the bucket ends.
    pub(super) next: Option<Place>,
    /// How many entries were looked at; at most [`LOOKS_MAX`].
    pub(super) looked: usize,
}

impl Buckets {
    pub(super) fn new(state: EtcdState) -> Self {
        let pairs = |name, pairs: Vec<Pair>| {
            assert!(pairs.is_sorted_by(|a, b| a.key < b.key), "a bucket is in order");
            Bucket { name, content: Content::Pairs(pairs) }
        };
        let buckets = vec![
            pairs("alarm", alarms(&state)),
            pairs("auth", auth(&state)),
            pairs("authRoles", roles(&state)),
            pairs("authUsers", users(&state)),
            pairs("cluster", vec![Pair::new("clusterVersion", minor_version(&state.version))]),
            Bucket { name: "key", content: Content::History },
            Bucket { name: "lease", content: Content::Leases },
            pairs("members", members(&state.members)),
            pairs("members_removed", Vec::new()),
            pairs("meta", meta(&state)),
        ];
        assert!(buckets.is_sorted_by(|a, b| a.name < b.name), "buckets are in order");
        let compacted = state.view.compacted();
        let superseded = if compacted == NEVER_COMPACTED {
            Superseded::default()
        } else {
            Superseded::new(&state.view, state.sweep, compacted)
        };
        Self { buckets, view: state.view, leases: state.leases, superseded }
    }

    /// Looks for what to leave out, at up to `changes_max` changes; whether there are no more. Comes before all
    /// else.
    pub(super) fn prepare(&mut self, changes_max: usize) -> bool {
        self.superseded.look(&self.view, changes_max)
    }

    /// How many buckets there are.
    pub(super) fn len(&self) -> usize {
        self.buckets.len()
    }

    /// The root bucket, which holds the buckets by name.
    pub(super) fn root(&self, roots: &[PageId]) -> Leaf<'static> {
        assert_eq!(self.buckets.len(), roots.len(), "every bucket has a root");
        let mut leaf = Leaf::default();
        for (bucket, root) in self.buckets.iter().zip(roots) {
            leaf.push_bucket(bucket.name.as_bytes(), *root);
        }
        leaf
    }

    /// The first place of a bucket.
    pub(super) fn start(&self, bucket: usize) -> Place {
        match self.buckets[bucket].content {
            Content::Pairs(_) => Place::Pair(0),
            Content::History => Place::Change(Revision::ZERO),
            Content::Leases => Place::Lease(0),
        }
    }

    /// Puts the entries of a bucket from `place` on into a leaf, as many as fit; none, perhaps, if many in a row
    /// are left out.
    pub(super) fn fill<'a>(&'a self, bucket: usize, place: Place, leaf: &mut Leaf<'a>) -> Filled {
        let mut looked = 0;
        let next = match (&self.buckets[bucket].content, place) {
            (Content::Pairs(pairs), Place::Pair(from)) => {
                fill_pairs(pairs, from, leaf, &mut looked)
            }
            (Content::History, Place::Change(from)) => self.fill_changes(from, leaf, &mut looked),
            (Content::Leases, Place::Lease(from)) => self.fill_leases(from, leaf, &mut looked),
            (Content::Pairs(_) | Content::History | Content::Leases, _) => {
                unreachable!("a place stays in its bucket")
            }
        };
        assert!(looked <= LOOKS_MAX, "the work is bounded");
        Filled { next, looked }
    }

    /// What could not be read, if anything.
    pub(super) fn damage(&self) -> Option<Damage> {
        self.view.damage()
    }

    fn fill_changes(
        &self,
        from: Revision,
        leaf: &mut Leaf<'_>,
        looked: &mut usize,
    ) -> Option<Place> {
        for record in self.view.history_from(from) {
            let revision = record.revision();
            if *looked == LOOKS_MAX {
                return Some(Place::Change(revision));
            }
            if self.is_left_out(&record) {
                *looked += 1;
                continue;
            }
            let mut key = [b't'; 18];
            key[..17].copy_from_slice(&revision.to_bucket_key());
            let key = &key[..17 + usize::from(record.is_tombstone())];
            if !leaf.fits(key.len(), record.stored_message().len()) {
                return Some(Place::Change(revision));
            }
            leaf.push(key, Cow::Owned(record.stored_message().to_vec()));
            *looked += 1;
        }
        None
    }

    /// Whether etcd's compaction would have removed a record: it is not seen at the compact revision or above,
    /// nor is it the deletion at that very revision. (What a request replaced at that revision goes, too, which
    /// our own sweep keeps.)
    fn is_left_out(&self, record: &Record) -> bool {
        let stays = record.is_tombstone() && record.revision().main == self.view.compacted();
        self.superseded.contains(record.revision()) && !stays
    }

    fn fill_leases<'a>(
        &'a self,
        from: u64,
        leaf: &mut Leaf<'a>,
        looked: &mut usize,
    ) -> Option<Place> {
        // The tree has negative ids first, the bucket has them last.
        let from = LeaseId(from.cast_signed());
        let (first, last) = if from < LeaseId::NONE {
            (self.leases.range(from..LeaseId::NONE), None)
        } else {
            (self.leases.range(from..), Some(self.leases.range(..LeaseId::NONE)))
        };
        for lease in first.chain(last.into_iter().flatten()) {
            let id = lease.id.0.cast_unsigned();
            let value = StoredLease { id: lease.id.0, ttl: lease.ttl }.encode_to_vec();
            if *looked == LOOKS_MAX || !leaf.fits(8, value.len()) {
                return Some(Place::Lease(id));
            }
            leaf.push(&id.to_be_bytes(), Cow::Owned(value));
            *looked += 1;
        }
        None
    }
}

impl Pair {
    fn new(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self { key: key.into(), value: value.into() }
    }
}

fn fill_pairs<'a>(
    pairs: &'a [Pair],
    from: usize,
    leaf: &mut Leaf<'a>,
    looked: &mut usize,
) -> Option<Place> {
    for (at, Pair { key, value }) in pairs.iter().enumerate().skip(from) {
        if *looked == LOOKS_MAX || !leaf.fits(key.len(), value.len()) {
            return Some(Place::Pair(at));
        }
        leaf.push(key, Cow::Borrowed(value));
        *looked += 1;
    }
    None
}

/// `leasepb.Lease`.
#[derive(Clone, Copy, PartialEq, Message)]
struct StoredLease {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(int64, tag = "2")]
    ttl: i64,
}

fn alarms(state: &EtcdState) -> Vec<Pair> {
    let mut pairs: Vec<Pair> = state
        .alarms
        .iter()
        .map(|(kind, member)| {
            let alarm = AlarmMember { member_id: member.0, alarm: kind.to_message().into() };
            Pair::new(alarm.encode_to_vec(), "")
        })
        .collect();
    pairs.sort();
    pairs
}

fn auth(state: &EtcdState) -> Vec<Pair> {
    let revision = Pair::new("authRevision", number(state.auth.revision()));
    // etcd does not say that authentication is disabled before it was ever enabled.
    let enabled = state.auth.is_enabled().then(|| Pair::new("authEnabled", [1]));
    enabled.into_iter().chain([revision]).collect()
}

fn roles(state: &EtcdState) -> Vec<Pair> {
    state.auth.roles().map(|role| Pair::new(role.name.clone(), role.encode_to_vec())).collect()
}

fn users(state: &EtcdState) -> Vec<Pair> {
    let users = state.auth.users();
    users.map(|(user, _)| Pair::new(user.name.clone(), user.encode_to_vec())).collect()
}

fn members(members: &[Member]) -> Vec<Pair> {
    let pair = |member: &Member| Pair::new(format!("{}", MemberId(member.id)), member_json(member));
    let mut pairs: Vec<Pair> = members.iter().map(pair).collect();
    pairs.sort();
    pairs
}

fn meta(state: &EtcdState) -> Vec<Pair> {
    let mut pairs = vec![Pair::new("confState", voters_json(&state.members))];
    let (index, term) = state.applied;
    // etcd takes a zero for "not loaded yet" and never stores one.
    if index.0 > 0 {
        pairs.push(Pair::new("consistent_index", number(index.0)));
    }
    if state.view.compacted() != NEVER_COMPACTED {
        // What it removes is left out, so for whoever reads the file the compaction is over.
        let revision = Revision::first_of(state.view.compacted()).to_bucket_key();
        pairs.push(Pair::new("finishedCompactRev", revision));
        pairs.push(Pair::new("scheduledCompactRev", revision));
    }
    pairs.push(Pair::new("storageVersion", minor_version(&state.version)));
    if term.0 > 0 {
        pairs.push(Pair::new("term", number(term.0)));
    }
    pairs
}

fn number(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// A version without what distinguishes patches: `3.7.1` gives `3.7.0`.
fn minor_version(version: &str) -> String {
    let mut parts = version.split('.');
    match (parts.next(), parts.next()) {
        (Some(major), Some(minor)) => format!("{major}.{minor}.0"),
        _ => version.into(),
    }
}

/// `raftpb.ConfState`: who votes and who learns.
fn voters_json(members: &[Member]) -> String {
    let ids = |learners: bool| {
        let of_kind = members.iter().filter(|member| member.is_learner == learners);
        let mut ids: Vec<u64> = of_kind.map(|member| member.id).collect();
        ids.sort_unstable();
        ids
    };
    // Numbers in brackets look the same to Rust and in JSON.
    let mut json = format!("{{\"voters\":{:?}", ids(false));
    let learners = ids(true);
    if !learners.is_empty() {
        json.push_str(&format!(",\"learners\":{learners:?}"));
    }
    json.push_str(",\"auto_leave\":false}");
    json.replace(' ', "")
}

/// A member with what etcd calls its attributes; one that never started has neither name nor clients' URLs.
fn member_json(member: &Member) -> String {
    let mut json = format!("{{\"id\":{}", member.id);
    json.push_str(",\"peerURLs\":");
    put_json_array(&member.peer_urls, &mut json);
    if member.is_learner {
        json.push_str(",\"isLearner\":true");
    }
    if !member.name.is_empty() {
        json.push_str(",\"name\":");
        put_json_string(&member.name, &mut json);
    }
    if !member.client_urls.is_empty() {
        json.push_str(",\"clientURLs\":");
        put_json_array(&member.client_urls, &mut json);
    }
    json.push('}');
    json
}

fn put_json_array(texts: &[String], json: &mut String) {
    json.push('[');
    for (at, text) in texts.iter().enumerate() {
        if at > 0 {
            json.push(',');
        }
        put_json_string(text, json);
    }
    json.push(']');
}

/// Escapes what JSON must have escaped, and what Go escapes for the sake of HTML.
fn put_json_string(text: &str, json: &mut String) {
    json.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => json.extend(['\\', char]),
            '\0'..' ' | '<' | '>' | '&' => {
                write!(json, "\\u{:04x}", u32::from(char)).expect("memory grows");
            }
            _ => json.push(char),
        }
    }
    json.push('"');
}

/// How many entries one call looks at. A leaf of the smallest changes holds half as many, so that it matters
/// only where a sweep has left much to skip.
const LOOKS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_cut_to_their_minor_part() {
        for (version, minor) in
            [("3.7.3", "3.7.0"), ("3.7.0", "3.7.0"), ("3.8.0-rc.1", "3.8.0"), ("dev", "dev")]
        {
            assert_eq!(minor_version(version), minor);
        }
    }

    #[test]
    fn members_are_written_as_etcd_writes_them() {
        let mut member = Member {
            id: 0x2e12_59d4_15f2_a040,
            name: "m1".into(),
            peer_urls: vec!["http://127.0.0.1:23800".into()],
            client_urls: vec!["http://127.0.0.1:23790".into(), "unix://a\"b<\n".into()],
            is_learner: false,
        };
        assert_eq!(
            member_json(&member),
            "{\"id\":3319814642761637952,\"peerURLs\":[\"http://127.0.0.1:23800\"],\
             \"name\":\"m1\",\"clientURLs\":[\"http://127.0.0.1:23790\",\
             \"unix://a\\\"b\\u003c\\u000a\"]}"
        );
        member.name.clear();
        member.client_urls.clear();
        assert_eq!(
            member_json(&member),
            "{\"id\":3319814642761637952,\"peerURLs\":[\"http://127.0.0.1:23800\"]}"
        );
        let other = Member { id: 5, ..member.clone() };
        let json = "{\"voters\":[5,3319814642761637952],\"auto_leave\":false}";
        assert_eq!(voters_json(&[member.clone(), other.clone()]), json);
        member.is_learner = true;
        assert!(member_json(&member).ends_with(",\"isLearner\":true}"));
        let json = "{\"voters\":[5],\"learners\":[3319814642761637952],\"auto_leave\":false}";
        assert_eq!(voters_json(&[member, other]), json);
    }
}
