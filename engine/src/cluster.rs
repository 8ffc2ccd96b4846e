//! The members, as all of them agree: who votes, who learns, where each is reached, who is gone for ever.
//!
//! There is one record of this, and it is part of the replicated state: hashed, in every snapshot, changed by entries
//! only. Raft's own [`Membership`] is the part of it that counts votes; an entry that changes it carries the new one
//! and, behind it, the [`Change`] for the rest, so the two cannot part.
//!
//! What a request asks for is judged once, by the leader ([`Cluster::plan`]), while no other change is under way;
//! what was planned is then applied without question, because Raft obeys it in any case.

mod version;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use prost::encoding::{decode_varint, encode_varint};

use crate::api::Error;
use crate::api::etcdserverpb::Member;
use crate::convert::to_u64;
use crate::ids::MemberId;
use crate::peer::Incarnation;
use crate::raft::membership::Membership;

/// The members of a cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cluster {
    membership: Membership,
    /// Exactly those who are in the membership.
    records: BTreeMap<MemberId, Record>,
    /// Who was removed. An id is never used again.
    removed: BTreeSet<MemberId>,
    /// The version that all members have at least, as `X.Y`; empty until the first leader said so.
    version: String,
    /// The version to which the cluster is being downgraded, as `X.Y`; empty if it is not.
    downgrade: String,
}

/// What is known of a member beside whether it votes.
#[derive(Clone, PartialEq, Message)]
pub struct Record {
    /// Its id.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Its name; empty until it was started.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Where its peers reach it.
    #[prost(string, repeated, tag = "3")]
    pub peer_urls: Vec<String>,
    /// Where clients reach it; none until it was started.
    #[prost(string, repeated, tag = "4")]
    pub client_urls: Vec<String>,
    /// Its latest start that the cluster knows of ([`Incarnation`]).
    #[prost(uint64, tag = "5")]
    pub incarnation: u64,
    /// Its version, as `X.Y.Z`.
    #[prost(string, tag = "6")]
    pub version: String,
    /// It voted before its disk was lost, and will again when it has caught up.
    #[prost(bool, tag = "7")]
    pub returns: bool,
}

/// A change of the members.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A member comes, unstarted; as a learner or as a voter, the membership says.
    Add(Record),
    /// A member goes, for ever.
    Remove(MemberId),
    /// A learner votes from now on.
    Promote(MemberId),
    /// A member is reached elsewhere.
    Update(MemberId, Vec<String>),
    /// A member has started: its name, client URLs, incarnation and version count.
    Publish(Record),
    /// A member's disk is not the one that made its promises: it learns, and counts for nothing until it has caught
    /// up.
    Forget(MemberId),
    /// Every member but one is gone, because the operator of that one says so (`--force-new-cluster`).
    Only(MemberId),
    /// All members have at least this version.
    Version(String),
    /// The cluster is being downgraded to this version, as `X.Y`; empty: to none.
    Downgrade(String),
}

/// What is asked of the members.
#[derive(Clone, Debug, PartialEq)]
pub enum Wish {
    /// Add one.
    Add {
        /// The id that it is to have.
        id: MemberId,
        /// Where its peers will reach it: valid URLs, sorted.
        peer_urls: Vec<String>,
        /// Whether it only learns, at first.
        learner: bool,
    },
    /// Remove one.
    Remove(MemberId),
    /// Let a learner vote.
    Promote(MemberId),
    /// Reach one elsewhere.
    Update(MemberId, Vec<String>),
    /// Hear whether the cluster could be downgraded to this version, and change nothing.
    MayDowngrade(String),
    /// Let the cluster be downgraded to this version.
    Downgrade(String),
    /// Let it not be downgraded any more.
    StayUp,
}

/// What a leader knows that decides about a wish.
#[derive(Clone, Debug)]
pub struct Circumstances {
    /// Whether to refuse what would endanger the quorum (`--strict-reconfig-check`).
    pub strict: bool,
    /// How many learners there may be.
    pub learners_max: usize,
    /// The members that answer, the leader itself included.
    pub active: BTreeSet<MemberId>,
    /// The members whose log is nearly as long as the leader's: nine tenths.
    pub ready: BTreeSet<MemberId>,
}

impl Change {
    /// Appends the change as bytes: `u8 kind │ body`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let id_only = |id: &MemberId| Record { id: id.0, ..Record::default() };
        let (kind, record) = match self {
            Self::Add(record) => (ADD, record.clone()),
            Self::Remove(id) => (REMOVE, id_only(id)),
            Self::Promote(id) => (PROMOTE, id_only(id)),
            Self::Update(id, peer_urls) => {
                (UPDATE, Record { peer_urls: peer_urls.clone(), ..id_only(id) })
            }
            Self::Publish(record) => (PUBLISH, record.clone()),
            Self::Forget(id) => (FORGET, id_only(id)),
            Self::Only(id) => (ONLY, id_only(id)),
            Self::Version(version) => {
                (VERSION, Record { version: version.clone(), ..Record::default() })
            }
            Self::Downgrade(version) => {
                (DOWNGRADE, Record { version: version.clone(), ..Record::default() })
            }
        };
        out.push(kind);
        record.encode(out).expect("memory grows");
    }

    /// Reads a change; `None` if these bytes are none.
    pub fn decode(mut bytes: Bytes) -> Option<Self> {
        let kind = bytes.try_get_u8().ok()?;
        let record = Record::decode(bytes).ok()?;
        let id = MemberId(record.id);
        Some(match kind {
            ADD => Self::Add(record),
            REMOVE => Self::Remove(id),
            PROMOTE => Self::Promote(id),
            UPDATE => Self::Update(id, record.peer_urls),
            PUBLISH => Self::Publish(record),
            FORGET => Self::Forget(id),
            ONLY => Self::Only(id),
            VERSION => Self::Version(record.version),
            DOWNGRADE => Self::Downgrade(record.version),
            _ => return None,
        })
    }
}

impl Wish {
    /// The wish as bytes, for the leader of another member.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let change = match self {
            Self::Add { id, peer_urls, learner } => Change::Add(Record {
                id: id.0,
                peer_urls: peer_urls.clone(),
                returns: *learner,
                ..Record::default()
            }),
            Self::Remove(id) => Change::Remove(*id),
            Self::Promote(id) => Change::Promote(*id),
            Self::Update(id, urls) => Change::Update(*id, urls.clone()),
            Self::Downgrade(version) => Change::Downgrade(version.clone()),
            Self::StayUp => Change::Publish(Record::default()),
            // Written like changes that nobody can wish for.
            Self::MayDowngrade(version) => Change::Version(version.clone()),
        };
        change.encode(out);
    }

    /// Reads a wish; `None` if these bytes are none.
    pub fn decode(bytes: Bytes) -> Option<Self> {
        match Change::decode(bytes)? {
            Change::Add(record) => Some(Self::Add {
                id: MemberId(record.id),
                peer_urls: record.peer_urls,
                learner: record.returns,
            }),
            Change::Remove(id) => Some(Self::Remove(id)),
            Change::Promote(id) => Some(Self::Promote(id)),
            Change::Update(id, urls) => Some(Self::Update(id, urls)),
            Change::Downgrade(version) => Some(Self::Downgrade(version)),
            Change::Version(version) => Some(Self::MayDowngrade(version)),
            Change::Publish(_) => Some(Self::StayUp),
            Change::Forget(_) | Change::Only(_) => None,
        }
    }
}

const ADD: u8 = 1;
const REMOVE: u8 = 2;
const PROMOTE: u8 = 3;
const UPDATE: u8 = 4;
const PUBLISH: u8 = 5;
const FORGET: u8 = 6;
const ONLY: u8 = 7;
const VERSION: u8 = 8;
const DOWNGRADE: u8 = 9;

impl Cluster {
    /// A cluster that begins with these voters.
    pub fn new(records: impl IntoIterator<Item = Record>) -> Self {
        let records: BTreeMap<_, _> =
            records.into_iter().map(|record| (MemberId(record.id), record)).collect();
        let membership = Membership::new(records.keys().copied());
        Self { membership, records, ..Self::default() }
    }

    /// Who votes and who learns.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// All members, ascending by id.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// A member.
    pub fn record(&self, id: MemberId) -> Option<&Record> {
        self.records.get(&id)
    }

    /// Whether a member was removed, and counts no more.
    pub fn is_removed(&self, id: MemberId) -> bool {
        self.removed.contains(&id) && !self.membership.contains(id)
    }

    /// The members that were removed, ascending.
    pub fn removed(&self) -> impl Iterator<Item = MemberId> {
        self.removed.iter().copied()
    }

    /// The version that all members have at least, as `X.Y`; empty until it was agreed on.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The version to which the cluster is being downgraded, as `X.Y`; empty if it is not.
    pub fn downgrade(&self) -> &str {
        &self.downgrade
    }

    /// The incarnation of a member that the cluster knows.
    pub fn incarnation(&self, id: MemberId) -> Incarnation {
        self.records.get(&id).map_or(Incarnation::NONE, |record| Incarnation(record.incarnation))
    }

    /// The members as clients see them.
    pub fn to_messages(&self) -> Vec<Member> {
        self.records.values().map(|record| self.to_message(record)).collect()
    }

    fn to_message(&self, record: &Record) -> Member {
        Member {
            id: record.id,
            name: record.name.clone(),
            peer_urls: record.peer_urls.clone(),
            client_urls: record.client_urls.clone(),
            is_learner: self.membership.is_learner(MemberId(record.id)),
        }
    }

    /// A member as clients see it.
    pub fn message_of(&self, id: MemberId) -> Option<Member> {
        self.records.get(&id).map(|record| self.to_message(record))
    }

    /// What a wish leads to, with the new membership if that changes; the checks are etcd's, in its order.
    ///
    /// # Errors
    /// If the wish makes no sense, or is dangerous and that is to be refused.
    pub fn plan(
        &self,
        wish: &Wish,
        circumstances: &Circumstances,
    ) -> Result<(Change, Option<Membership>), Error> {
        match wish {
            Wish::Add { id, peer_urls, learner } => {
                self.plan_add(*id, peer_urls, *learner, circumstances)
            }
            Wish::Remove(id) => self.plan_remove(*id, circumstances),
            Wish::Promote(id) => self.plan_promote(*id, circumstances),
            Wish::Update(id, urls) => {
                if !self.records.contains_key(id) {
                    return Err(Error::MemberNotFound);
                }
                self.check_urls(urls, Some(*id))?;
                Ok((Change::Update(*id, urls.clone()), None))
            }
            Wish::MayDowngrade(to) => {
                self.check_downgrade(to)?;
                // What stands is said again, so that the answer has its place among all changes.
                Ok((Change::Downgrade(self.downgrade.clone()), None))
            }
            Wish::Downgrade(to) => Ok((Change::Downgrade(self.check_downgrade(to)?), None)),
            Wish::StayUp => Ok((Change::Downgrade(String::new()), None)),
        }
    }

    fn plan_add(
        &self,
        id: MemberId,
        peer_urls: &[String],
        learner: bool,
        circumstances: &Circumstances,
    ) -> Result<(Change, Option<Membership>), Error> {
        if circumstances.strict {
            if !learner && !self.may_grow() {
                return Err(Error::MemberNotEnoughStarted);
            }
            if !self.is_healthy(self.membership.incoming(), circumstances) {
                return Err(Error::Unhealthy);
            }
        }
        if self.is_removed(id) {
            return Err(Error::MemberNotFound); // As in etcd (`ErrIDRemoved`).
        }
        if self.records.contains_key(&id) {
            return Err(Error::MemberExist);
        }
        self.check_urls(peer_urls, None)?;
        let (mut voters, mut learners) = self.sets();
        if learner {
            if learners.len() >= circumstances.learners_max {
                return Err(Error::TooManyLearners);
            }
            learners.insert(id);
        } else {
            voters.insert(id);
        }
        let record = Record { id: id.0, peer_urls: peer_urls.to_vec(), ..Record::default() };
        Ok((Change::Add(record), Some(self.membership.to(voters, learners))))
    }

    fn plan_remove(
        &self,
        id: MemberId,
        circumstances: &Circumstances,
    ) -> Result<(Change, Option<Membership>), Error> {
        let (mut voters, mut learners) = self.sets();
        if circumstances.strict && !learners.contains(&id) {
            let rest: Vec<_> = voters.iter().copied().filter(|voter| *voter != id).collect();
            let started = rest.iter().filter(|voter| self.is_started(**voter)).count();
            if started < rest.len() / 2 + 1 {
                return Err(Error::MemberNotEnoughStarted);
            }
            // One that is down is no part of the quorum, so it can go.
            let goes_down = circumstances.active.contains(&id);
            if goes_down && !self.is_healthy(rest.into_iter(), circumstances) {
                return Err(Error::Unhealthy);
            }
        }
        if !voters.remove(&id) && !learners.remove(&id) {
            return Err(Error::MemberNotFound);
        }
        if voters.is_empty() {
            return Err(Error::MemberNotEnoughStarted);
        }
        Ok((Change::Remove(id), Some(self.membership.to(voters, learners))))
    }

    fn plan_promote(
        &self,
        id: MemberId,
        circumstances: &Circumstances,
    ) -> Result<(Change, Option<Membership>), Error> {
        let (mut voters, mut learners) = self.sets();
        if !self.records.contains_key(&id) {
            return Err(Error::MemberNotFound);
        }
        if !learners.remove(&id) {
            return Err(Error::MemberNotLearner);
        }
        if !circumstances.ready.contains(&id) {
            return Err(Error::LearnerNotReady);
        }
        voters.insert(id);
        let started = voters.iter().filter(|voter| **voter == id || self.is_started(**voter));
        if circumstances.strict && started.count() < voters.len() / 2 + 1 {
            return Err(Error::MemberNotEnoughStarted);
        }
        Ok((Change::Promote(id), Some(self.membership.to(voters, learners))))
    }

    /// The membership in which a voter only learns; `None` if nobody else votes.
    pub fn plan_forget(&self, id: MemberId) -> Option<(Change, Membership)> {
        let (mut voters, mut learners) = self.sets();
        voters.remove(&id);
        learners.insert(id);
        let membership = (!voters.is_empty()).then(|| self.membership.to(voters, learners))?;
        Some((Change::Forget(id), membership))
    }

    fn sets(&self) -> (BTreeSet<MemberId>, BTreeSet<MemberId>) {
        (self.membership.incoming().collect(), self.membership.learners().collect())
    }

    fn is_started(&self, id: MemberId) -> bool {
        self.records.get(&id).is_some_and(|record| !record.name.is_empty())
    }

    /// Whether one voter more, unstarted, leaves a quorum of started ones; a cluster of one may always grow.
    fn may_grow(&self) -> bool {
        let voters: Vec<_> = self.membership.incoming().collect();
        let started = voters.iter().filter(|voter| self.is_started(**voter)).count();
        started == 1 && voters.len() == 1 || started > voters.len().div_ceil(2)
    }

    fn is_healthy(
        &self,
        voters: impl Iterator<Item = MemberId>,
        circumstances: &Circumstances,
    ) -> bool {
        let voters: Vec<_> = voters.collect();
        let active = voters.iter().filter(|voter| circumstances.active.contains(voter)).count();
        active > voters.len() / 2
    }

    fn check_urls(&self, urls: &[String], but: Option<MemberId>) -> Result<(), Error> {
        let others = self.records.values().filter(|record| Some(MemberId(record.id)) != but);
        let mut taken = others.flat_map(|record| &record.peer_urls);
        if taken.any(|url| urls.contains(url)) { Err(Error::PeerUrlExist) } else { Ok(()) }
    }

    /// Applies a change that was planned, with the membership that its entry carries, if it does.
    ///
    /// Total: what the leader planned in other circumstances than it thought changes what it can.
    pub fn apply(&mut self, change: Option<Change>, membership: Option<Membership>) {
        match change {
            None => {}
            Some(Change::Add(record)) => {
                self.records.insert(MemberId(record.id), record);
            }
            Some(Change::Remove(id)) => {
                self.removed.insert(id);
            }
            Some(Change::Promote(id)) => self.edit(id, |record| record.returns = false),
            Some(Change::Update(id, urls)) => self.edit(id, |record| record.peer_urls = urls),
            Some(Change::Publish(news)) => self.edit(MemberId(news.id), |record| {
                record.name = news.name;
                record.client_urls = news.client_urls;
                record.incarnation = news.incarnation;
                record.version = news.version;
            }),
            Some(Change::Forget(id)) => self.edit(id, |record| {
                record.incarnation = 0;
                record.returns = true;
            }),
            Some(Change::Only(id)) => {
                self.removed.extend(self.records.keys().copied().filter(|other| *other != id));
            }
            Some(Change::Version(version)) => self.version = version,
            Some(Change::Downgrade(version)) => self.downgrade = version,
        }
        if let Some(membership) = membership {
            self.membership = membership;
            let membership = &self.membership;
            self.records.retain(|id, _| membership.contains(*id));
        }
    }

    /// Appends everything as bytes; docs/format.md says which.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.membership.encode(out);
        for set in [to_u64(self.records.len()), to_u64(self.removed.len())] {
            encode_varint(set, out);
        }
        for record in self.records.values() {
            record.encode_length_delimited(out).expect("memory grows");
        }
        self.removed.iter().for_each(|id| out.put_u64_le(id.0));
        encode_varint(to_u64(self.version.len()), out);
        out.put_slice(self.version.as_bytes());
        if !self.downgrade.is_empty() {
            encode_varint(to_u64(self.downgrade.len()), out);
            out.put_slice(self.downgrade.as_bytes());
        }
    }

    /// Reads what [`Cluster::encode`] gave; `None` if these bytes are none.
    pub fn decode(mut bytes: Bytes) -> Option<Self> {
        let membership = Membership::decode(&mut bytes)?;
        let records_count = decode_varint(&mut bytes).ok()?;
        let removed_count = decode_varint(&mut bytes).ok()?;
        let mut records = BTreeMap::new();
        for _ in 0..records_count {
            let record = Record::decode_length_delimited(&mut bytes).ok()?;
            records.insert(MemberId(record.id), record);
        }
        let mut removed = BTreeSet::new();
        for _ in 0..removed_count {
            removed.insert(MemberId(bytes.try_get_u64_le().ok()?));
        }
        let version = decode_text(&mut bytes)?;
        let downgrade = if bytes.is_empty() { String::new() } else { decode_text(&mut bytes)? };
        let agree = membership.members().eq(records.keys().copied()) && bytes.is_empty();
        agree.then_some(Self { membership, records, removed, version, downgrade })
    }

    fn edit(&mut self, id: MemberId, edit: impl FnOnce(&mut Record)) {
        if let Some(record) = self.records.get_mut(&id) {
            edit(record);
        }
    }
}

/// A text behind its length.
fn decode_text(bytes: &mut Bytes) -> Option<String> {
    let length = usize::try_from(decode_varint(bytes).ok()?).ok()?;
    let text = (length <= bytes.len()).then(|| bytes.split_to(length))?;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;

    fn url(id: u64) -> String {
        alloc::format!("http://127.0.0.1:{id}")
    }

    fn record(id: u64, name: &str) -> Record {
        Record { id, name: name.to_string(), peer_urls: vec![url(id)], ..Record::default() }
    }

    fn ids(numbers: &[u64]) -> BTreeSet<MemberId> {
        numbers.iter().copied().map(MemberId).collect()
    }

    /// Members 1 to `count`, of whom those in `unstarted` have no name yet.
    fn cluster(count: u64, unstarted: &[u64]) -> Cluster {
        let name = |id| if unstarted.contains(&id) { "" } else { "named" };
        Cluster::new((1..=count).map(|id| record(id, name(id))))
    }

    fn healthy(active: &[u64]) -> Circumstances {
        Circumstances { strict: true, learners_max: 1, active: ids(active), ready: ids(active) }
    }

    fn add(id: u64, learner: bool) -> Wish {
        Wish::Add { id: MemberId(id), peer_urls: vec![url(id)], learner }
    }

    /// Carries a wish out, all the way.
    fn grant(cluster: &mut Cluster, wish: &Wish) {
        let everybody: Vec<u64> = (1..10).collect();
        let (change, membership) = cluster.plan(wish, &healthy(&everybody)).unwrap();
        cluster.apply(Some(change), membership);
        if cluster.membership().is_joint() {
            let left = cluster.membership().left();
            cluster.apply(None, Some(left));
        }
    }

    #[test]
    fn a_wish_is_refused_for_etcds_reasons() {
        let refusal = |cluster: &Cluster, wish: &Wish, circumstances: &Circumstances| {
            cluster.plan(wish, circumstances).map(|_| ()).unwrap_err()
        };
        let all = healthy(&[1, 2, 3]);
        let three = cluster(3, &[]);
        let taken = Wish::Add { id: MemberId(9), peer_urls: vec![url(2)], learner: false };
        let moved = Wish::Update(MemberId(1), vec![url(2)]);
        let cases = [
            (add(3, false), Error::MemberExist),
            (taken, Error::PeerUrlExist),
            (moved, Error::PeerUrlExist),
            (Wish::Update(MemberId(9), vec![]), Error::MemberNotFound),
            (Wish::Remove(MemberId(9)), Error::MemberNotFound),
            (Wish::Promote(MemberId(9)), Error::MemberNotFound),
            (Wish::Promote(MemberId(1)), Error::MemberNotLearner),
        ];
        for (wish, error) in cases {
            assert_eq!(refusal(&three, &wish, &all), error, "{wish:?}");
        }
        let mut with_learner = cluster(3, &[]);
        grant(&mut with_learner, &add(4, true));
        assert_eq!(refusal(&with_learner, &add(5, true), &all), Error::TooManyLearners);
        let promote = Wish::Promote(MemberId(4));
        assert_eq!(refusal(&with_learner, &promote, &all), Error::LearnerNotReady);
    }

    #[test]
    fn the_quorum_is_protected_if_that_is_asked_for() {
        let check = |members, unstarted: &[u64], active: &[u64], wish: &Wish, expected| {
            let cluster = cluster(members, unstarted);
            let strict = healthy(active);
            let outcome = cluster.plan(wish, &strict).map(|_| ());
            assert_eq!(outcome, expected, "{members} members, {unstarted:?}, {active:?}, {wish:?}");
            let lax = Circumstances { strict: false, ..strict };
            let alone = members == 1 && matches!(wish, Wish::Remove(_));
            assert_eq!(cluster.plan(wish, &lax).is_ok(), !alone, "{wish:?} without protection");
        };
        let remove = |id| Wish::Remove(MemberId(id));
        check(1, &[], &[1], &add(9, false), Ok(()));
        check(2, &[], &[1, 2], &add(9, false), Ok(()));
        check(2, &[2], &[1], &add(9, false), Err(Error::MemberNotEnoughStarted));
        check(3, &[], &[1, 2], &add(9, false), Ok(()));
        check(3, &[], &[1], &add(9, false), Err(Error::Unhealthy));
        check(3, &[], &[1], &add(9, true), Err(Error::Unhealthy));
        check(1, &[], &[1], &remove(1), Err(Error::MemberNotEnoughStarted));
        check(3, &[], &[1, 2, 3], &remove(1), Ok(()));
        check(3, &[], &[1, 2], &remove(3), Ok(()));
        check(3, &[], &[1, 2], &remove(2), Err(Error::Unhealthy));
        check(3, &[1, 2], &[1, 2, 3], &remove(3), Err(Error::MemberNotEnoughStarted));
        check(2, &[2], &[1], &remove(2), Ok(()));
    }

    #[test]
    fn a_learner_becomes_a_voter_and_goes_for_ever() {
        let mut cluster = cluster(3, &[]);
        grant(&mut cluster, &add(4, true));
        assert!(cluster.message_of(MemberId(4)).unwrap().is_learner);
        let publish = Record { name: "four".into(), incarnation: 5, ..record(4, "") };
        cluster.apply(Some(Change::Publish(publish)), None);
        assert_eq!(cluster.incarnation(MemberId(4)), Incarnation(5));
        grant(&mut cluster, &Wish::Promote(MemberId(4)));
        assert!(cluster.membership().is_voter(MemberId(4)));
        let everybody: Vec<u64> = (1..10).collect();
        let wish = Wish::Remove(MemberId(4));
        let (change, membership) = cluster.plan(&wish, &healthy(&everybody)).unwrap();
        cluster.apply(Some(change), membership);
        assert!(!cluster.is_removed(MemberId(4)), "it votes until the joint membership is left");
        let left = cluster.membership().left();
        cluster.apply(None, Some(left));
        assert!(cluster.is_removed(MemberId(4)) && cluster.record(MemberId(4)).is_none());
        let again = cluster.plan(&add(4, false), &healthy(&everybody)).unwrap_err();
        assert_eq!(again, Error::MemberNotFound, "an id is never used again");
    }

    #[test]
    fn a_member_that_forgot_learns_until_it_is_promoted() {
        let mut cluster = cluster(3, &[]);
        cluster.apply(Some(Change::Publish(Record { incarnation: 7, ..record(2, "two") })), None);
        let (change, membership) = cluster.plan_forget(MemberId(2)).unwrap();
        cluster.apply(Some(change), Some(membership.left()));
        let record = cluster.record(MemberId(2)).unwrap();
        assert_eq!((record.incarnation, record.returns), (0, true));
        assert!(cluster.membership().is_learner(MemberId(2)));
        grant(&mut cluster, &Wish::Promote(MemberId(2)));
        assert!(!cluster.record(MemberId(2)).unwrap().returns);
        assert_eq!(self::cluster(1, &[]).plan_forget(MemberId(1)), None, "somebody has to vote");
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        let mut cluster = cluster(3, &[]);
        grant(&mut cluster, &add(4, true));
        grant(&mut cluster, &Wish::Remove(MemberId(1)));
        cluster.apply(Some(Change::Version("3.7".into())), None);
        let mut bytes = Vec::new();
        cluster.encode(&mut bytes);
        let bytes = Bytes::from(bytes);
        assert_eq!(Cluster::decode(bytes.clone()), Some(cluster.clone()));
        for length in 0..bytes.len() {
            assert_eq!(Cluster::decode(bytes.slice(..length)), None, "{length} bytes");
        }
        cluster.apply(Some(Change::Downgrade("3.6".into())), None);
        let mut bytes = Vec::new();
        cluster.encode(&mut bytes);
        assert_eq!(Cluster::decode(Bytes::from(bytes)), Some(cluster));
        for wish in [
            add(5, true),
            add(5, false),
            Wish::Remove(MemberId(1)),
            Wish::MayDowngrade("3.6".into()),
            Wish::Downgrade("3.6".into()),
            Wish::StayUp,
        ] {
            let mut bytes = Vec::new();
            wish.encode(&mut bytes);
            assert_eq!(Wish::decode(Bytes::from(bytes)), Some(wish));
        }
    }
}
