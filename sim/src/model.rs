//! The reference model: etcd's key space as a child would build it.
//!
//! Every version of every key that ever was stands in a list, and every question is answered by looking through
//! lists. Nothing is ever removed: a compaction only moves the number below which nobody may ask. The model was
//! written from etcd's contract and shares nothing with the engine but the messages, the commands and the list
//! of errors, so that the two are wrong in different places.
//!
//! Whoever has a log of commands applies them here, too, and then nothing may differ: answers, errors, events,
//! revisions. A watch is a filter over the list of all events.
//!
//! # Limits
//!
//! Time and memory grow with all of history. What depends on one member is not here: quotas, cluster and member
//! ids, terms, and the raising of a TTL to the shortest that is granted, for a command names the effective one.
//! Static rules (what may be asked at all) are in [`check`]; apply what passed them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use cairn_engine::api::Error;
use cairn_engine::api::etcdserverpb::alarm_request::AlarmAction;
use cairn_engine::api::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, CompactionResponse, DeleteRangeRequest,
    DeleteRangeResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeResponse, PutRequest,
    PutResponse, ResponseHeader, TxnResponse, WatchCreateRequest,
};
use cairn_engine::api::mvccpb::event::EventType;
use cairn_engine::api::mvccpb::{self, KeyValue};
use cairn_engine::auth::Author;
use cairn_engine::command::Command;

pub mod auth;
pub mod check;
mod range;
mod txn;

/// etcd's keys with all their history, its leases and its alarms.
#[derive(Clone, Debug)]
pub struct Model {
    revision: i64,
    compacted: i64,
    /// Every version of every key, the oldest first.
    keys: BTreeMap<Bytes, Vec<Version>>,
    /// Every change of every key, the oldest first.
    events: Vec<Event>,
    leases: BTreeMap<i64, Lease>,
    /// Kind and member.
    alarms: BTreeSet<(i32, u64)>,
    /// Users and roles.
    auth: auth::Auth,
    /// The cluster's clock.
    time_ms: u64,
}

/// What a key was from a revision on.
#[derive(Clone, Debug)]
struct Version {
    revision: i64,
    /// `None`: it did not exist.
    kv: Option<KeyValue>,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The revision of the request that made it.
    pub revision: i64,
    /// Its place among the changes of that request, from zero.
    pub sub: u32,
    /// Whether the key was put or deleted.
    pub kind: EventType,
    /// What the key is now; only `key` and `mod_revision` if it was deleted.
    pub kv: KeyValue,
    /// What the key was before that request. `None` if it did not exist, or if this put created it.
    pub prev_kv: Option<KeyValue>,
}

/// A lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What it was granted, in seconds.
    pub ttl: i64,
    /// When it ends unless it is renewed, on the cluster's clock.
    pub deadline_ms: u64,
}

/// The answer to a command; headers hold the revision and nothing else.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A key was written.
    Put(PutResponse),
    /// Keys were deleted.
    DeleteRange(DeleteRangeResponse),
    /// A transaction was executed.
    Txn(TxnResponse),
    /// History was forgotten.
    Compact(CompactionResponse),
    /// A lease was made.
    LeaseGrant(LeaseGrantResponse),
    /// A lease was ended.
    LeaseRevoke(LeaseRevokeResponse),
    /// Each lease that was to be renewed with its TTL; 0 if there is none of that name any more.
    Renewed(Vec<(i64, i64)>),
    /// The alarms concerned.
    Alarm(AlarmResponse),
    /// Users or roles were changed.
    Auth,
    /// A token was assigned.
    Token,
    /// Nobody waits for an answer.
    Nothing,
}

/// The keys that a pair (`key`, `range_end`) means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The first key.
    pub key: Bytes,
    /// Empty for that key alone, a zero byte for all from there on, else the first key beyond.
    pub range_end: Bytes,
}

/// A request at work: its revision, and how many changes it has made.
#[derive(Clone, Copy, Debug)]
struct Work {
    revision: i64,
    changes: u32,
}

impl Default for Model {
    /// A fresh store is at revision 1 and was never compacted, which is written as −1.
    fn default() -> Self {
        Self {
            revision: 1,
            compacted: -1,
            keys: BTreeMap::new(),
            events: Vec::new(),
            leases: BTreeMap::new(),
            alarms: BTreeSet::new(),
            auth: auth::Auth::default(),
            time_ms: 0,
        }
    }
}

impl Model {
    /// Applies a command that was proposed at `time_ms`; its answer, and every change that it made.
    pub fn apply(
        &mut self,
        time_ms: u64,
        command: &Command,
    ) -> (Result<Answer, Error>, Vec<Event>) {
        self.apply_for(&Author::Nobody, time_ms, command)
    }

    /// The same, on somebody's behalf: refused if they may not.
    pub fn apply_for(
        &mut self,
        author: &Author,
        time_ms: u64,
        command: &Command,
    ) -> (Result<Answer, Error>, Vec<Event>) {
        self.time_ms = self.time_ms.max(time_ms);
        let events_before = self.events.len();
        let keys_of = |lease| self.keys_of(lease);
        let needs = auth::Needs::of(command, keys_of);
        let permitted = self.auth.permit(author, &needs, keys_of);
        let answer = permitted.and_then(|()| self.answer(command));
        (answer, self.events[events_before..].to_vec())
    }

    fn answer(&mut self, command: &Command) -> Result<Answer, Error> {
        self.admit(command)?;
        match command {
            Command::Put(request) => {
                self.check_put(request)?;
                let mut work = self.begin();
                Ok(Answer::Put(self.put(&mut work, request)))
            }
            Command::DeleteRange(request) => {
                let mut work = self.begin();
                Ok(Answer::DeleteRange(self.delete_range(&mut work, request)))
            }
            Command::Txn(request) => self.txn(request).map(Answer::Txn),
            Command::Compact(request) => self.compact(request.revision).map(Answer::Compact),
            Command::LeaseGrant(request) => self.grant(request).map(Answer::LeaseGrant),
            Command::LeaseRevoke(request) => {
                if !self.leases.contains_key(&request.id) {
                    return Err(Error::LeaseNotFound);
                }
                self.end_lease(request.id);
                Ok(Answer::LeaseRevoke(LeaseRevokeResponse { header: self.header() }))
            }
            Command::LeaseRenew(ids) => {
                Ok(Answer::Renewed(ids.iter().map(|id| (id.0, self.renew(id.0))).collect()))
            }
            Command::LeaseExpire(ids) => {
                for id in ids {
                    if self.is_due(id.0) {
                        self.end_lease(id.0);
                    }
                }
                Ok(Answer::Nothing)
            }
            Command::Alarm(request) => Ok(Answer::Alarm(self.alarm(request))),
            // The model knows keys, not members.
            Command::Members(_) | Command::Tick => Ok(Answer::Nothing),
            Command::Auth(change) => self.auth.change(change).map(|()| Answer::Auth),
            Command::Authenticate(assignment) => {
                self.auth.assign(assignment).map(|()| Answer::Token)
            }
        }
    }

    /// Refuses what alarms forbid.
    fn admit(&self, command: &Command) -> Result<(), Error> {
        let changes_keys = match command {
            Command::Put(_)
            | Command::DeleteRange(_)
            | Command::Txn(_)
            | Command::Compact(_)
            | Command::LeaseGrant(_)
            | Command::LeaseRevoke(_)
            | Command::LeaseExpire(_) => true,
            Command::LeaseRenew(_)
            | Command::Alarm(_)
            | Command::Members(_)
            | Command::Auth(_)
            | Command::Authenticate(_)
            | Command::Tick => false,
        };
        if changes_keys && self.is_raised(AlarmType::Corrupt) {
            return Err(Error::Corrupt);
        }
        let takes_space = match command {
            Command::Put(_) | Command::LeaseGrant(_) => true,
            Command::Txn(request) => txn::holds_put(request),
            Command::DeleteRange(_)
            | Command::Compact(_)
            | Command::LeaseRevoke(_)
            | Command::LeaseRenew(_)
            | Command::LeaseExpire(_)
            | Command::Alarm(_)
            | Command::Members(_)
            | Command::Auth(_)
            | Command::Authenticate(_)
            | Command::Tick => false,
        };
        if takes_space && self.is_raised(AlarmType::Nospace) {
            return Err(Error::NoSpace);
        }
        Ok(())
    }

    // What is, and what was.

    /// The revision of the latest change; 1 before the first.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The revision of the latest compaction; −1 before the first.
    pub fn compacted(&self) -> i64 {
        self.compacted
    }

    /// The time of the latest command.
    pub fn time_ms(&self) -> u64 {
        self.time_ms
    }

    /// Users and roles.
    pub fn auth(&self) -> &auth::Auth {
        &self.auth
    }

    /// The alarms that are raised: kind and member.
    pub fn alarms(&self) -> &BTreeSet<(i32, u64)> {
        &self.alarms
    }

    /// Asks what `question` would have learnt about keys when the latest change was `revision`, and `compacted`
    /// the latest compaction. Nothing is ever removed, so the past is the present with smaller numbers.
    pub fn at_moment<T>(
        &mut self,
        revision: i64,
        compacted: i64,
        question: impl FnOnce(&Self) -> T,
    ) -> T {
        let present = (self.revision, self.compacted);
        (self.revision, self.compacted) = (revision, compacted);
        let answer = question(self);
        (self.revision, self.compacted) = present;
        answer
    }

    /// The leases, by id.
    pub fn leases(&self) -> &BTreeMap<i64, Lease> {
        &self.leases
    }

    /// The keys that hang on a lease, in order.
    pub fn keys_of(&self, lease: i64) -> Vec<Bytes> {
        let kvs = self.at(self.revision, &Keys::all());
        kvs.into_iter().filter(|kv| kv.lease == lease).map(|kv| kv.key).collect()
    }

    /// Every change that a watch of `keys` from `revision` on is owed, in order.
    ///
    /// # Errors
    /// If that was compacted. The compact revision itself can be watched.
    pub fn events_from(&self, revision: i64, keys: &Keys) -> Result<Vec<Event>, Error> {
        if revision < self.compacted {
            return Err(Error::Compacted);
        }
        let owed = |event: &&Event| event.revision >= revision && keys.contain(&event.kv.key);
        let mut events: Vec<Event> = self.events.iter().filter(owed).cloned().collect();
        for event in &mut events {
            if event.revision <= self.compacted {
                event.prev_kv = None; // The revision before was compacted.
            }
        }
        Ok(events)
    }

    /// Every change that ever was.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The keys that existed at `revision`, in order, as they were.
    fn at(&self, revision: i64, keys: &Keys) -> Vec<KeyValue> {
        let wanted = self.keys.range(keys.key.clone()..).take_while(|(key, _)| keys.contain(key));
        wanted.filter_map(|(key, _)| self.key_at(revision, key)).cloned().collect()
    }

    fn key_at(&self, revision: i64, key: &[u8]) -> Option<&KeyValue> {
        let versions = self.keys.get(key)?;
        versions.iter().rev().find(|version| version.revision <= revision)?.kv.as_ref()
    }

    fn header(&self) -> Option<ResponseHeader> {
        Some(ResponseHeader { revision: self.revision, ..ResponseHeader::default() })
    }

    // Changes.

    fn begin(&self) -> Work {
        Work { revision: self.revision + 1, changes: 0 }
    }

    /// Writes down what a key is from now on. The first change makes the revision the current one.
    fn change(&mut self, work: &mut Work, key: &Bytes, kv: Option<KeyValue>) {
        self.revision = work.revision;
        let creates = kv.as_ref().is_some_and(|kv| kv.create_revision == kv.mod_revision);
        let prev_kv = self.key_at(work.revision - 1, key).filter(|_| !creates).cloned();
        let tombstone =
            KeyValue { key: key.clone(), mod_revision: work.revision, ..KeyValue::default() };
        self.events.push(Event {
            revision: work.revision,
            sub: work.changes,
            kind: if kv.is_some() { EventType::Put } else { EventType::Delete },
            kv: kv.clone().unwrap_or(tombstone),
            prev_kv,
        });
        let versions = self.keys.entry(key.clone()).or_default();
        versions.push(Version { revision: work.revision, kv });
        work.changes += 1;
    }

    /// Refuses a put that names what does not exist.
    fn check_put(&self, request: &PutRequest) -> Result<(), Error> {
        if request.lease != 0 && !self.leases.contains_key(&request.lease) {
            return Err(Error::LeaseNotFound);
        }
        let keeps = request.ignore_value || request.ignore_lease;
        if keeps && self.key_at(self.revision, &request.key).is_none() {
            return Err(Error::KeyNotFound);
        }
        Ok(())
    }

    fn put(&mut self, work: &mut Work, request: &PutRequest) -> PutResponse {
        let before = self.key_at(self.revision, &request.key).cloned();
        let mut kv = KeyValue {
            key: request.key.clone(),
            create_revision: work.revision,
            mod_revision: work.revision,
            version: 1,
            value: request.value.clone(),
            lease: request.lease,
        };
        // The transaction itself may have deleted what this wants to keep; then there is nothing to keep. (etcd's
        // server dies there.)
        if let Some(before) = &before {
            kv.create_revision = before.create_revision;
            kv.version = before.version + 1;
            if request.ignore_value {
                kv.value = before.value.clone();
            }
            if request.ignore_lease {
                kv.lease = before.lease;
            }
        }
        self.change(work, &request.key, Some(kv));
        PutResponse { header: self.header(), prev_kv: before.filter(|_| request.prev_kv) }
    }

    fn delete_range(
        &mut self,
        work: &mut Work,
        request: &DeleteRangeRequest,
    ) -> DeleteRangeResponse {
        let found = self.at(self.revision, &Keys::new(&request.key, &request.range_end));
        for kv in &found {
            self.change(work, &kv.key, None);
        }
        let deleted = number_of(&found);
        let prev_kvs = if request.prev_kv { found } else { Vec::new() };
        DeleteRangeResponse { header: self.header(), deleted, prev_kvs }
    }

    fn compact(&mut self, revision: i64) -> Result<CompactionResponse, Error> {
        if revision <= self.compacted {
            return Err(Error::Compacted);
        }
        if revision > self.revision {
            return Err(Error::FutureRev);
        }
        self.compacted = revision;
        Ok(CompactionResponse { header: self.header() })
    }

    // Leases and alarms.

    fn grant(&mut self, request: &LeaseGrantRequest) -> Result<LeaseGrantResponse, Error> {
        if self.leases.contains_key(&request.id) {
            return Err(Error::LeaseExist);
        }
        let deadline_ms = self.time_ms + milliseconds(request.ttl);
        self.leases.insert(request.id, Lease { ttl: request.ttl, deadline_ms });
        let header = self.header();
        Ok(LeaseGrantResponse { header, id: request.id, ttl: request.ttl, error: String::new() })
    }

    /// Gives a lease its full time again; its TTL, or 0 if it is not there or past its deadline.
    fn renew(&mut self, id: i64) -> i64 {
        if self.is_due(id) {
            // While the keys are not to be trusted, it goes later.
            if !self.is_raised(AlarmType::Corrupt) {
                self.end_lease(id);
            }
            return 0;
        }
        let Some(lease) = self.leases.get_mut(&id) else { return 0 };
        lease.deadline_ms = self.time_ms + milliseconds(lease.ttl);
        lease.ttl
    }

    fn is_due(&self, id: i64) -> bool {
        self.leases.get(&id).is_some_and(|lease| lease.deadline_ms <= self.time_ms)
    }

    /// Ends a lease with its keys, which all go in one revision.
    fn end_lease(&mut self, id: i64) {
        let mut work = self.begin();
        for key in self.keys_of(id) {
            self.change(&mut work, &key, None);
        }
        self.leases.remove(&id);
    }

    fn alarm(&mut self, request: &AlarmRequest) -> AlarmResponse {
        let alarm = (request.alarm, request.member_id);
        let known = [AlarmType::Nospace, AlarmType::Corrupt].map(i32::from);
        let concerned: Vec<(i32, u64)> = match request.action() {
            AlarmAction::Get => {
                let wanted = |kind: i32| request.alarm == 0 || request.alarm == kind;
                self.alarms.iter().copied().filter(|(kind, _)| wanted(*kind)).collect()
            }
            AlarmAction::Activate if known.contains(&request.alarm) => {
                self.alarms.insert(alarm);
                vec![alarm]
            }
            AlarmAction::Deactivate if self.alarms.remove(&alarm) => vec![alarm],
            AlarmAction::Activate | AlarmAction::Deactivate => Vec::new(),
        };
        let member = |(alarm, member_id)| AlarmMember { member_id, alarm };
        AlarmResponse { header: self.header(), alarms: concerned.into_iter().map(member).collect() }
    }

    fn is_raised(&self, kind: AlarmType) -> bool {
        self.alarms.iter().any(|(raised, _)| *raised == i32::from(kind))
    }
}

impl Keys {
    /// The keys that the pair means.
    pub fn new(key: &Bytes, range_end: &Bytes) -> Self {
        Self { key: key.clone(), range_end: range_end.clone() }
    }

    /// All keys.
    pub fn all() -> Self {
        Self { key: Bytes::from_static(&[0]), range_end: Bytes::from_static(&[0]) }
    }

    /// The keys that a watch means; no key at all is the smallest one.
    pub fn watched(request: &WatchCreateRequest) -> Self {
        let all = Self::all();
        let key = if request.key.is_empty() { &all.key } else { &request.key };
        Self::new(key, &request.range_end)
    }

    /// Whether `key` is one of them.
    pub fn contain(&self, key: &[u8]) -> bool {
        if self.range_end.is_empty() {
            key == self.key
        } else if *self.range_end == [0] {
            self.key <= key
        } else {
            self.key <= key && key < self.range_end.as_ref()
        }
    }
}

impl Event {
    /// The event as a watcher gets it, who wants to know what was before.
    pub fn to_message(&self) -> mvccpb::Event {
        mvccpb::Event {
            r#type: self.kind.into(),
            kv: Some(self.kv.clone()),
            prev_kv: self.prev_kv.clone(),
        }
    }
}

fn number_of(kvs: &[KeyValue]) -> i64 {
    i64::try_from(kvs.len()).expect("keys fit in memory")
}

fn milliseconds(seconds: i64) -> u64 {
    u64::try_from(seconds).expect("a granted TTL is positive").saturating_mul(1000)
}
