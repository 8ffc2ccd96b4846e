//! What etcd's log knows and its database does not: entries behind the index that the database has seen.
//!
//! # Which of them count
//!
//! What is at or below the commit index that the log notes is committed. What is above was perhaps acknowledged all the
//! same: etcd answers before it notes that. A member that is all there is of its cluster may take all of its log, for
//! nobody else has a say. Of every other member's log nobody knows here, so that its directory is refused, with two
//! exceptions:
//!
//! - No leader was ever elected (the term is the one that a cluster begins with, so that all entries are those with
//!   which it began). Nothing can have been acknowledged, and each member imports the same. That is what `etcdutl snapshot
//!   restore` leaves.
//! - The operator says that this member's word is to count (`--force-new-cluster`): what is committed is taken, and what
//!   is above is dropped, as etcd does it.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use bytes::Bytes;
use prost::Message;

use super::command::{Meaning, meaning};
use super::log::Record;
use super::state::Imported;
use super::{LogReader, Refused};
use crate::command::Stamp;
use crate::convert::{to_u64, to_usize};
use crate::ids::{ClusterId, MemberId};
use crate::raft::{Index, Term};

/// A log, read to its end.
#[derive(Clone, Debug, Default)]
pub struct Tail {
    metadata: Metadata,
    hard_state: HardState,
    /// Those behind the index that was asked for, without a gap.
    entries: Vec<Entry>,
    /// The last index up to there, and its term, if the log tells.
    before: (u64, u64),
    /// Changes of members, wherever they stand.
    changes: Vec<(u64, ConfChange)>,
    /// The members as of an index.
    base: Option<(u64, BTreeSet<MemberId>)>,
}

/// How much of a log counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All that must have been committed; refused, where that cannot be known.
    Known,
    /// What is known to be committed, by the word of the operator.
    Committed,
}

/// A member as its log leaves it.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// The member.
    pub member: MemberId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// The state, without members.
    pub imported: Imported,
    /// How many entries were applied.
    pub entries: usize,
    /// Its term, and its vote in it.
    pub vote: (Term, MemberId),
    /// The members.
    pub members: BTreeSet<MemberId>,
    /// What these entries say about members, in order, as JSON.
    pub told: Vec<(MemberId, Bytes)>,
}

impl Tail {
    /// Reads a log; keeps the entries behind `after`.
    ///
    /// # Errors
    /// If the log is damaged, or does not go on behind `after`.
    pub fn read(reader: &mut LogReader, after: Index) -> Result<Self, Refused> {
        let mut tail = Self::default();
        if reader.is_from_the_beginning() {
            tail.base = Some((0, BTreeSet::new()));
        }
        while let Some(record) = reader.next()? {
            let malformed = Refused::Log { index: tail.last(), why: "it is followed by nonsense" };
            tail.take(record, after.0).ok_or(malformed)??;
        }
        // What the database has seen was in the log before.
        let last = tail.last();
        if last < after.0 && tail.base.as_ref().is_none_or(|(index, _)| *index < after.0) {
            return Err(Refused::Log {
                index: last,
                why: "it is the last, and the database has more",
            });
        }
        Ok(tail)
    }

    /// The last index.
    fn last(&self) -> u64 {
        self.entries.last().map_or(self.before.0, |entry| entry.index)
    }

    fn take(&mut self, record: Record, after: u64) -> Option<Result<(), Refused>> {
        match record {
            Record::Metadata(data) => self.metadata = Metadata::decode(data).ok()?,
            Record::HardState(data) => self.hard_state = HardState::decode(data).ok()?,
            Record::Snapshot(data) => {
                let snapshot = Snapshot::decode(data).ok()?;
                if snapshot.index == after {
                    self.before = (after, snapshot.term);
                }
                if let Some(state) = snapshot.members.filter(|state| !state.voters.is_empty()) {
                    let members = state.voters.into_iter().chain(state.learners).map(MemberId);
                    self.base = Some((snapshot.index, members.collect()));
                }
            }
            Record::Entry(data) => {
                let entry = Entry::decode(data).ok()?;
                return Some(self.take_entry(entry, after));
            }
        }
        Some(Ok(()))
    }

    /// Takes an entry; it takes the place of those at and behind its index, which a later leader did not have.
    fn take_entry(&mut self, entry: Entry, after: u64) -> Result<(), Refused> {
        let refused = |why| Refused::Log { index: entry.index, why };
        self.changes.retain(|(index, _)| *index < entry.index);
        if entry.kind != NORMAL {
            let change = conf_change(&entry).ok_or_else(|| refused("it changes nothing known"))?;
            self.changes.extend(change.into_iter().map(|change| (entry.index, change)));
        }
        if entry.index <= after {
            self.entries.clear();
            self.before = (entry.index, entry.term);
            return Ok(());
        }
        let place = entry.index - after - 1;
        if place > to_u64(self.entries.len()) {
            return Err(refused("the one before it is missing"));
        }
        self.entries.truncate(to_usize(place));
        self.entries.push(entry);
        Ok(())
    }
}

/// Does what the log says to what was imported.
///
/// # Errors
/// If it cannot be known what of the log counts, or an entry is not understood.
pub fn replay(mut imported: Imported, tail: Tail, extent: Extent) -> Result<Replayed, Refused> {
    let Tail { metadata, hard_state, entries, before, changes, base } = tail;
    let own = MemberId(metadata.node);
    let mut members = BTreeSet::new();
    for (key, _) in &imported.members {
        let id = core::str::from_utf8(key).ok().and_then(|id| u64::from_str_radix(id, 16).ok());
        members.insert(MemberId(id.ok_or(Refused::MembersUnclear)?));
    }
    let mut told = Vec::new();
    let mut applied = imported.applied;
    if before.0 == applied.0.0 && before.0 > 0 {
        applied.1 = Term(before.1);
    }
    let mut count = 0;
    for entry in entries {
        let is_alone = members.len() == 1 && members.contains(&own);
        if entry.index > hard_state.commit && !is_alone {
            match extent {
                Extent::Known => return Err(Refused::NotAlone { members: members.len() }),
                Extent::Committed => break,
            }
        }
        if entry.kind == NORMAL {
            let why = "it asks for something that this version does not know";
            let refused = Refused::Log { index: entry.index, why };
            if let Meaning::Command(author, command) = meaning(entry.data).ok_or(refused)? {
                imported.state.apply(Stamp { author, ..Stamp::default() }, command);
            }
        } else {
            for (_, change) in changes.iter().filter(|(index, _)| *index == entry.index) {
                change.apply(&mut members);
                told.push((MemberId(change.node), change.context.clone()));
            }
        }
        applied = (Index(entry.index), Term(entry.term));
        count += 1;
    }
    if let Some((index, mut base)) = base {
        let since = changes.iter().filter(|(at, _)| (index + 1..=applied.0.0).contains(at));
        since.for_each(|(_, change)| change.apply(&mut base));
        if base != members {
            return Err(Refused::MembersUnclear);
        }
    }
    let is_alone = members.len() == 1 && members.contains(&own);
    let has_just_begun = hard_state.term <= FIRST_TERM
        && members.contains(&own)
        && applied.0.0 == to_u64(members.len())
        && hard_state.commit == applied.0.0;
    if extent == Extent::Known && !is_alone && !has_just_begun {
        return Err(Refused::NotAlone { members: members.len() });
    }
    if applied.1 == Term(0) {
        // Old databases do not say it; no entry is of a later term.
        applied.1 = Term(hard_state.term);
    }
    imported.applied = applied;
    Ok(Replayed {
        member: own,
        cluster: ClusterId(metadata.cluster),
        imported,
        entries: count,
        vote: (Term(hard_state.term), MemberId(hard_state.vote)),
        members,
        told,
    })
}

/// The term of the entries that a cluster begins with; every leader has a later one.
const FIRST_TERM: u64 = 1;

/// The changes of an entry; `None` if it is none.
fn conf_change(entry: &Entry) -> Option<Vec<ConfChange>> {
    match entry.kind {
        CONF_CHANGE => {
            let change = ConfChange::decode(entry.data.clone()).ok()?;
            (0..=ADD_LEARNER).contains(&change.kind).then(|| Vec::from([change]))
        }
        CONF_CHANGE_V2 => {
            let ConfChangeV2 { changes, context } =
                ConfChangeV2::decode(entry.data.clone()).ok()?;
            let changes = changes.into_iter().map(|ConfChangeSingle { kind, node }| {
                let change = ConfChange { kind, node, context: context.clone() };
                (0..=ADD_LEARNER).contains(&kind).then_some(change)
            });
            changes.collect()
        }
        _ => None,
    }
}

impl ConfChange {
    fn apply(&self, members: &mut BTreeSet<MemberId>) {
        match self.kind {
            REMOVE => drop(members.remove(&MemberId(self.node))),
            UPDATE => {}
            _ => drop(members.insert(MemberId(self.node))),
        }
    }
}

/// `etcdserverpb.Metadata`.
#[derive(Clone, Copy, PartialEq, Message)]
struct Metadata {
    #[prost(uint64, tag = "1")]
    node: u64,
    #[prost(uint64, tag = "2")]
    cluster: u64,
}

/// `raftpb.HardState`.
#[derive(Clone, Copy, PartialEq, Message)]
struct HardState {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    vote: u64,
    #[prost(uint64, tag = "3")]
    commit: u64,
}

/// `raftpb.Entry`.
#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(uint64, tag = "2")]
    term: u64,
    #[prost(uint64, tag = "3")]
    index: u64,
    #[prost(bytes = "bytes", tag = "4")]
    data: Bytes,
}

const NORMAL: i32 = 0;
const CONF_CHANGE: i32 = 1;
const CONF_CHANGE_V2: i32 = 2;

/// `walpb.Snapshot`.
#[derive(Clone, PartialEq, Message)]
struct Snapshot {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(uint64, tag = "2")]
    term: u64,
    /// Since 3.5.
    #[prost(message, optional, tag = "3")]
    members: Option<ConfState>,
}

/// `raftpb.ConfState`.
#[derive(Clone, PartialEq, Message)]
struct ConfState {
    #[prost(uint64, repeated, packed = "false", tag = "1")]
    voters: Vec<u64>,
    #[prost(uint64, repeated, packed = "false", tag = "2")]
    learners: Vec<u64>,
}

/// `raftpb.ConfChange`.
#[derive(Clone, PartialEq, Message)]
struct ConfChange {
    #[prost(int32, tag = "2")]
    kind: i32,
    #[prost(uint64, tag = "3")]
    node: u64,
    /// A member, as JSON.
    #[prost(bytes = "bytes", tag = "4")]
    context: Bytes,
}

const REMOVE: i32 = 1;
const UPDATE: i32 = 2;
const ADD_LEARNER: i32 = 3;

/// `raftpb.ConfChangeV2`.
#[derive(Clone, PartialEq, Message)]
struct ConfChangeV2 {
    #[prost(message, repeated, tag = "2")]
    changes: Vec<ConfChangeSingle>,
    #[prost(bytes = "bytes", tag = "3")]
    context: Bytes,
}

/// `raftpb.ConfChangeSingle`.
#[derive(Clone, Copy, PartialEq, Message)]
struct ConfChangeSingle {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(uint64, tag = "2")]
    node: u64,
}

#[cfg(test)]
pub(super) mod testing {
    //! Logs as etcd writes them.

    use super::*;
    use crate::import::log;

    /// One file, with whose log it is in front.
    pub(in crate::import) struct Log {
        pub(in crate::import) bytes: Vec<u8>,
        crc: u32,
    }

    impl Log {
        pub(in crate::import) fn new(node: u64, cluster: u64) -> Self {
            let mut log = Self { bytes: Vec::new(), crc: 0 };
            log::encode_crc(0, &mut log.bytes);
            log.put(Record::Metadata(Metadata { node, cluster }.encode_to_vec().into()));
            log
        }

        fn put(&mut self, record: Record) {
            log::encode(record, &mut self.crc, &mut self.bytes);
        }

        pub(in crate::import) fn state(&mut self, term: u64, vote: u64, commit: u64) {
            let state = HardState { term, vote, commit };
            self.put(Record::HardState(state.encode_to_vec().into()));
        }

        pub(in crate::import) fn entry(&mut self, term: u64, index: u64, data: Vec<u8>) {
            let entry = Entry { kind: NORMAL, term, index, data: data.into() };
            self.put(Record::Entry(entry.encode_to_vec().into()));
        }

        /// Adds a member, or removes it.
        pub(in crate::import) fn change(&mut self, term: u64, index: u64, kind: i32, node: u64) {
            let data = ConfChange { kind, node, context: Bytes::new() }.encode_to_vec();
            let entry = Entry { kind: CONF_CHANGE, term, index, data: data.into() };
            self.put(Record::Entry(entry.encode_to_vec().into()));
        }

        pub(in crate::import) fn snapshot(&mut self, term: u64, index: u64, voters: &[u64]) {
            let members = Some(ConfState { voters: voters.to_vec(), learners: Vec::new() });
            let snapshot = Snapshot { index, term, members };
            self.put(Record::Snapshot(snapshot.encode_to_vec().into()));
        }
    }
}
