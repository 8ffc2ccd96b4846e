//! The committed log, in the order in which all members must apply it, and the model that does.
//!
//! Every log is read whenever a member writes, so nothing that was committed can be changed unseen. When a member
//! publishes that it applied an entry for the first time in the cluster, the entry becomes history: the model
//! applies it, too. From then on each publication, of whichever member, and each state found after a start must
//! agree with the model at that index.

use core::fmt::Write as _;
use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, Bytes};
use cairn_engine::MemberId;
use cairn_engine::Replica;
use cairn_engine::api::authpb::Permission;
use cairn_engine::api::mvccpb::KeyValue;
use cairn_engine::api::mvccpb::event::EventType;
use cairn_engine::api::{Error, KeyRange};
use cairn_engine::auth::Author;
use cairn_engine::cluster::Cluster;
use cairn_engine::command::Command;
use cairn_engine::event::Publication;
use cairn_engine::peer::{self, Message};
use cairn_engine::raft::log::Log;
use cairn_engine::raft::membership::Membership;
use cairn_engine::raft::message::{Body, LogEnd};
use cairn_engine::raft::{EntryKind, HardState, Index, Term};
use cairn_engine::state_machine::StateMachine;

use super::{Violation, ensure};
use crate::model::auth::Auth;
use crate::model::{Answer, Event, Model};
use crate::trace::Hasher;

/// A member that began to lead.
#[derive(Clone, Copy, Debug)]
struct Leader {
    id: MemberId,
    /// The last entry that was committed then.
    last: Index,
}

/// The truth, and what each member knows of it.
#[derive(Debug, Default)]
pub struct History {
    /// What applied all of history.
    pub model: Model,
    /// The entry at index `i` is at place `i - 1`.
    committed: Vec<Committed>,
    /// Every entry that any log ever held.
    entries: BTreeMap<(Index, Term), Known>,
    members: BTreeMap<MemberId, Member>,
    leaders: BTreeMap<Term, Leader>,
    votes: BTreeMap<(MemberId, Term), MemberId>,
    digests: Digests,
    /// Hashes of history by index, as the first member had them that was asked.
    hashes: BTreeMap<Index, u32>,
    /// The digest of the state and the members by index, as the first member had them that got there.
    states: BTreeMap<Index, (u64, u64)>,
    /// Who takes part from each index on, as the log says.
    sets: BTreeMap<Index, Sets>,
    /// The members as the log makes them.
    cluster: Cluster,
    /// Who said of an entry that it is durable.
    holders: BTreeMap<(Index, Term), BTreeSet<MemberId>>,
    /// What was passed on to a leader, by whom and under which number.
    origins: BTreeSet<(MemberId, u64)>,
    /// Users and roles after each entry that changed them.
    auths: Vec<(Index, Auth)>,
}

/// Who votes and who learns, read from the bytes in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sets {
    /// Those who vote, or will.
    pub voters: BTreeSet<MemberId>,
    /// Those who voted before, while both must agree.
    pub outgoing: BTreeSet<MemberId>,
    /// Those who learn.
    pub learners: BTreeSet<MemberId>,
}

impl Sets {
    /// What a membership says.
    pub fn of(membership: &Membership) -> Self {
        let mut bytes = Vec::new();
        membership.encode(&mut bytes);
        let mut rest = &*bytes;
        let mut set = || {
            let count = prost::encoding::decode_varint(&mut rest).expect("just encoded");
            (0..count).map(|_| MemberId(rest.get_u64_le())).collect()
        };
        Self { voters: set(), outgoing: set(), learners: set() }
    }

    /// Whether these are a majority of each set that must agree.
    pub fn has_majority(&self, of: impl Fn(MemberId) -> bool) -> bool {
        let halves = [&self.voters, &self.outgoing].into_iter().filter(|half| !half.is_empty());
        let agrees =
            |half: &BTreeSet<MemberId>| 2 * half.iter().filter(|id| of(**id)).count() > half.len();
        halves.clone().count() > 0 && halves.into_iter().all(agrees)
    }

    /// Everybody.
    pub fn everybody(&self) -> BTreeSet<MemberId> {
        self.voters.iter().chain(&self.outgoing).chain(&self.learners).copied().collect()
    }

    /// Whether a change may lead from here to there: one set of voters at a time, and both while they overlap.
    fn may_become(&self, next: &Self) -> bool {
        if self.outgoing.is_empty() {
            let place = |sets: &Self, id| (sets.voters.contains(&id), sets.learners.contains(&id));
            let all: BTreeSet<_> = self.everybody().union(&next.everybody()).copied().collect();
            let moved = all.into_iter().filter(|id| place(self, *id) != place(next, *id)).count();
            let same = next.voters == self.voters && next.outgoing.is_empty();
            moved <= 1 && (same || next.outgoing == self.voters)
        } else {
            let left = Self { outgoing: BTreeSet::new(), ..self.clone() };
            *next == left
        }
    }
}

/// An entry of history.
#[derive(Debug)]
pub struct Committed {
    /// The term of its leader.
    pub term: Term,
    /// What it said, if it was a command.
    pub command: Option<Command>,
    /// What the model answered.
    pub answer: Option<Result<Answer, Error>>,
    /// The leases whose time was over.
    pub ended: BTreeSet<i64>,
    /// What was, after it.
    pub moment: Moment,
    /// The member that passed it on to the leader, or else the leader: it answers whoever asked.
    pub origin: Option<MemberId>,
    /// On whose behalf.
    pub author: Author,
    /// Somebody's answer was traced to it.
    pub claimed: bool,
}

/// The state after an entry, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The revision.
    pub revision: i64,
    /// The compact revision.
    pub compacted: i64,
    /// How many events there were.
    pub(super) events: usize,
    /// Stands for everything else.
    digest: u64,
}

#[derive(Debug)]
struct Known {
    crc: u32,
    kind: EntryKind,
    data: Bytes,
    prev_term: Option<Term>,
}

#[derive(Debug, Default)]
struct Member {
    log: BTreeMap<Index, Term>,
    /// What it published last in this life.
    applied: Option<Index>,
    /// What it said to others to be durable, unless its log was cut since.
    promised: BTreeMap<Index, Term>,
    hard_state: HardState,
    /// What it knew to be committed, in this life.
    commit: Index,
    /// A leader's snapshot took the place of its state since it published last.
    installed: bool,
    faces: Faces,
}

/// How a member saw the members when it was looked at last. They change rarely, and comparing is cheaper than encoding.
#[derive(Debug, Default)]
struct Faces {
    cluster: Option<Cluster>,
    /// Stands for the bytes of the cluster.
    hash: u64,
    membership: Option<Membership>,
    /// What the membership says.
    sets: Sets,
}

impl Faces {
    fn look(&mut self, cluster: &Cluster, membership: &Membership) {
        if self.cluster.as_ref() != Some(cluster) {
            let mut bytes = Vec::new();
            cluster.encode(&mut bytes);
            let mut hasher = Hasher::default();
            hasher.bytes(&bytes);
            self.hash = hasher.finish();
            self.cluster = Some(cluster.clone());
        }
        if self.membership.as_ref() != Some(membership) {
            self.sets = Sets::of(membership);
            self.membership = Some(membership.clone());
        }
    }
}

/// Digests of the model's keys, kept up to date event by event.
#[derive(Debug, Default)]
struct Digests {
    keys: BTreeMap<Bytes, u64>,
    sum: u64,
}

impl History {
    /// Nothing has happened to a cluster of these members.
    pub fn new(cluster: Cluster) -> Self {
        let sets = BTreeMap::from([(Index(0), Sets::of(cluster.membership()))]);
        Self { cluster, sets, ..Self::default() }
    }

    /// The members as the log makes them.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Who takes part after an entry.
    pub fn sets(&self, index: Index) -> &Sets {
        self.sets.range(..=index).next_back().map(|(_, sets)| sets).expect("from the beginning on")
    }

    /// The last index that anybody has applied.
    pub fn last(&self) -> Index {
        Index(u64::try_from(self.committed.len()).expect("64 bits"))
    }

    /// An entry of history.
    pub fn get(&self, index: Index) -> Option<&Committed> {
        self.committed.get(usize::try_from(index.0.checked_sub(1)?).ok()?)
    }

    /// The entries above one index, up to another.
    pub fn between(
        &mut self,
        above: Index,
        to: Index,
    ) -> impl Iterator<Item = (Index, &mut Committed)> {
        (1_u64..)
            .map(Index)
            .zip(&mut self.committed)
            .skip(usize::try_from(above.0).expect("64 bits"))
            .take_while(move |(index, _)| *index <= to)
    }

    /// What was after an entry.
    pub fn moment(&self, index: Index) -> Moment {
        let first = Moment { revision: 1, compacted: -1, events: 0, digest: 0 };
        self.get(index).map_or(first, |entry| entry.moment)
    }

    /// Users and roles as they were from one index to another.
    pub fn auths(&self, from: Index, to: Index) -> impl Iterator<Item = &Auth> {
        static FIRST: std::sync::OnceLock<Auth> = std::sync::OnceLock::new();
        let start = self.auths.partition_point(|(index, _)| *index <= from);
        let first = match start.checked_sub(1) {
            Some(place) => &self.auths[place].1,
            None => FIRST.get_or_init(Auth::default),
        };
        let later = self.auths[start..].iter().take_while(move |(index, _)| *index <= to);
        core::iter::once(first).chain(later.map(|(_, auth)| auth))
    }

    /// What a member published last in this life.
    pub fn applied(&self, member: MemberId) -> Index {
        self.members.get(&member).and_then(|member| member.applied).unwrap_or_default()
    }

    /// A member started with this.
    ///
    /// # Errors
    /// If something durable is gone.
    pub fn started(
        &mut self,
        id: MemberId,
        log: &Log,
        hard_state: HardState,
        alone: bool,
    ) -> Result<(), Violation> {
        let (last, covered) = (self.last(), log.covered().index);
        let member = self.members.entry(id).or_default();
        (member.applied, member.commit) = (None, hard_state.commit);
        let before = core::mem::replace(&mut member.hard_state, hard_state);
        ensure(hard_state.term >= before.term, "durable term", || {
            format!("member {} was in {before:?} and restarts in {hard_state:?}", id.0)
        })?;
        member.log.retain(|index, _| *index <= covered);
        let promised = core::mem::take(&mut member.promised);
        self.read_log(id, log)?;
        if alone {
            return self.check_holds(id, covered, last, "durability");
        }
        let held = &self.members[&id].log;
        let lost = promised.iter().find(|(index, term)| {
            let is_history = self.get(**index).is_some_and(|entry| entry.term == **term);
            **index > covered && is_history && held.get(index) != Some(term)
        });
        ensure(lost.is_none(), "durability", || {
            format!("member {} promised to keep {lost:?}, and restarts without", id.0)
        })
    }

    /// A member's disk is not the one that it was: it owes nothing any more but the votes that it gave.
    pub fn forgot(&mut self, id: MemberId) {
        // What it said before may be on its way yet, and counts.
        self.members.insert(id, Member::default());
    }

    /// Objects unless a member's log holds history above what a snapshot covers, up to `to`.
    fn check_holds(
        &self,
        id: MemberId,
        covered: Index,
        to: Index,
        rule: &'static str,
    ) -> Result<(), Violation> {
        let log = &self.members[&id].log;
        for index in (covered.0 + 1..=to.0).map(Index) {
            let (held, term) = (log.get(&index), self.get(index).map(|entry| entry.term));
            ensure(held == term.as_ref(), rule, || {
                format!("member {} has {held:?} at {index}, committed was {term:?}", id.0)
            })?;
        }
        Ok(())
    }

    /// Reads what is new in a member's log.
    ///
    /// # Errors
    /// If two logs contradict each other.
    pub fn read_log(&mut self, id: MemberId, log: &Log) -> Result<(), Violation> {
        let member = self.members.entry(id).or_default();
        drop(member.log.split_off(&log.last_index().next()));
        // What it had and forgot again, between two looks, others have had.
        let mut place = log.covered();
        while member.log.get(&place.index) != Some(&place.term)
            && let Some(known) = self.entries.get(&(place.index, place.term))
        {
            member.log.insert(place.index, place.term);
            place = LogEnd { index: place.index.prev(), term: known.prev_term.unwrap_or_default() };
        }
        for entry in log.iter().rev() {
            let place = (entry.index, entry.term);
            if member.promised.get(&entry.index).is_some_and(|term| *term != entry.term) {
                drop(member.promised.split_off(&entry.index));
            }
            if member.log.insert(entry.index, entry.term) == Some(entry.term) {
                break; // And so is all before it.
            }
            let prev_term = log.term_at(entry.index.prev());
            let known = self.entries.entry(place).or_insert_with(|| Known {
                crc: entry.crc,
                kind: entry.kind,
                data: entry.data.clone(),
                prev_term,
            });
            let same = (known.crc, known.kind, &known.data, known.prev_term)
                == (entry.crc, entry.kind, &entry.data, prev_term);
            ensure(same, "log matching", || {
                format!("member {} holds {entry:?} behind {prev_term:?}, known was {known:?}", id.0)
            })?;
        }
        Ok(())
    }

    /// A member began to lead.
    ///
    /// # Errors
    /// If it must not.
    pub fn leads(&mut self, id: MemberId, term: Term, covered: Index) -> Result<(), Violation> {
        let last = self.last();
        let first = *self.leaders.entry(term).or_insert(Leader { id, last });
        ensure(first.id == id, "election safety", || {
            format!("members {} and {} both lead term {term}", first.id.0, id.0)
        })?;
        // Who was paused between its election and this may lead a term that is long over. What was committed before
        // the next one began was committed in earlier terms than its own.
        let next = self.leaders.range(term.next()..).next();
        let owed = next.map_or(last, |(_, leader)| leader.last);
        self.check_holds(id, covered, owed, "leader completeness")
    }

    /// Objects unless a majority voted for a member that leads; `membership` is what it counts by.
    ///
    /// # Errors
    /// If it did not.
    pub fn check_elected(
        &self,
        id: MemberId,
        term: Term,
        membership: &Membership,
    ) -> Result<(), Violation> {
        let sets = Sets::of(membership);
        let voted = |voter| voter == id || self.votes.get(&(voter, term)) == Some(&id);
        ensure(sets.has_majority(voted), "elected by a majority", || {
            let votes: Vec<_> = self.votes.iter().filter(|((_, at), _)| *at == term).collect();
            format!("member {} leads term {term} with {votes:?} of {sets:?}", id.0)
        })
    }

    /// Objects unless a member that has applied `applied` agrees with all others about the state and the members.
    ///
    /// # Errors
    /// If it does not.
    pub fn check_agreement(
        &mut self,
        id: MemberId,
        applied: Index,
        replica: &Replica,
    ) -> Result<(), Violation> {
        let (state, raft) = (replica.state(), replica.raft());
        let member = self.members.entry(id).or_default();
        member.faces.look(&state.cluster, raft.membership());
        let seen = (state.digest, member.faces.hash);
        let first = *self.states.entry(applied).or_insert(seen);
        ensure(applied == Index(0) || first == seen, "digest", || {
            format!("member {} is {seen:x?} at {applied}, another was {first:x?}", id.0)
        })?;
        let commit = raft.hard_state().commit;
        if commit <= self.last() && commit > Index(0) {
            let (sets, expected) = (&self.members[&id].faces.sets, self.sets(commit));
            ensure(sets == expected, "membership", || {
                format!("member {} counts {sets:?} at {commit}, not {expected:?}", id.0)
            })?;
        }
        let member = self.members.entry(id).or_default();
        let before = core::mem::replace(&mut member.commit, commit);
        ensure(before <= commit, "commit", || {
            format!("member {} takes back {before}, to {commit}", id.0)
        })?;
        let same = applied != self.last() || applied == Index(0) || state.cluster == self.cluster;
        ensure(same, "membership", || {
            format!(
                "member {} knows {:?} at {applied}, not {:?}",
                id.0, state.cluster, self.cluster
            )
        })
    }

    /// Whether nobody began to lead a later term.
    pub fn is_newest_leader(&self, term: Term) -> bool {
        self.leaders.range(term.next()..).next().is_none()
    }

    /// A member sent a message.
    ///
    /// # Errors
    /// If it promises what was promised to another.
    pub fn sent(&mut self, message: &Message) -> Result<(), Violation> {
        let Message { from, to, body, .. } = message;
        let peer::Body::Raft { term, body } = body else { return Ok(()) };
        match body {
            Body::VoteReply { granted: true } => {
                let member = self.members.entry(*from).or_default();
                member.hard_state.term = member.hard_state.term.max(*term);
                let first = *self.votes.entry((*from, *term)).or_insert(*to);
                ensure(first == *to, "one vote", || {
                    format!("member {} votes for {} and {} in term {term}", from.0, first.0, to.0)
                })
            }
            Body::AppendAccepted { matched } => {
                let member = self.members.entry(*from).or_default();
                // What is before a place that was promised, was promised with it.
                for (index, term) in member.log.range(..=*matched).rev() {
                    if member.promised.insert(*index, *term) == Some(*term) {
                        break;
                    }
                    self.holders.entry((*index, *term)).or_default().insert(*from);
                }
                member.hard_state.term = member.hard_state.term.max(*term);
                Ok(())
            }
            Body::PreVote { .. }
            | Body::PreVoteReply { .. }
            | Body::Vote { .. }
            | Body::VoteReply { granted: false }
            | Body::Append { .. }
            | Body::AppendRejected { .. }
            | Body::Heartbeat { .. }
            | Body::HeartbeatReply { .. }
            | Body::TimeoutNow => Ok(()),
        }
    }

    /// A leader's snapshot took the place of a member's state and log.
    pub fn installed(&mut self, id: MemberId) {
        self.members.entry(id).or_default().installed = true;
    }

    /// A member published a state.
    ///
    /// # Errors
    /// If it is not what the log makes of it.
    pub fn published(&mut self, id: MemberId, publication: &Publication) -> Result<(), Violation> {
        let member = self.members.entry(id).or_default();
        let (applied, before) = (publication.applied, member.applied.replace(publication.applied));
        ensure(before.is_none_or(|before| before <= applied), "apply", || {
            format!("member {} goes back from {before:?} to {applied}", id.0)
        })?;
        let known = self.last();
        for index in (known.0 + 1..=applied.0).map(Index) {
            self.commit(id, index)?;
        }
        let moment = self.moment(applied);
        let seen = (publication.view.revision(), publication.view.compacted());
        ensure(seen == (moment.revision, moment.compacted), "apply", || {
            format!(
                "member {} is at (revision, compacted) {seen:?} at {applied}, not {moment:?}",
                id.0
            )
        })?;
        let member = self.members.entry(id).or_default();
        let installed = core::mem::take(&mut member.installed);
        let Some(before) = before.filter(|_| !installed) else { return Ok(()) };
        self.check_holds(id, before, applied.min(known), "state machine safety")?;
        let expected = &self.model.events()[self.moment(before).events..moment.events];
        let changes = publication.changes.iter().flat_map(|changes| changes.iter());
        let changes: Vec<_> = changes.map(|change| change.record.clone()).collect();
        let same = changes.len() == expected.len()
            && changes.iter().zip(expected).all(|(record, event)| {
                let kind = if record.is_tombstone() { EventType::Delete } else { EventType::Put };
                let revision = record.revision();
                (kind, revision.main, revision.sub) == (event.kind, event.revision, event.sub)
                    && record.to_key_value() == event.kv
            });
        ensure(same, "apply", || {
            format!("member {} changed {changes:?} up to {applied}, not {expected:?}", id.0)
        })
    }

    /// An entry was applied for the first time.
    fn commit(&mut self, id: MemberId, index: Index) -> Result<(), Violation> {
        let Some(term) = self.members[&id].log.get(&index).copied() else {
            let what = format!("member {} applied {index}, which nobody saw in its log", id.0);
            return Err(Violation::new("state machine safety", what));
        };
        self.check_quorum(index, term)?;
        let known = &self.entries[&(index, term)];
        let (mut answer, mut events, mut ended) = (None, Vec::new(), BTreeSet::new());
        let leader = self.leaders.get(&term).map(|leader| leader.id);
        let (mut origin, mut author) = (None, Author::Nobody);
        let mut membership = None;
        let data = match known.kind {
            EntryKind::Empty => None,
            EntryKind::Command => Some(known.data.clone()),
            EntryKind::Membership => match Membership::from_entry(known.data.clone()) {
                Some((next, context)) => {
                    membership = Some(next);
                    Some(context).filter(|context| !context.is_empty())
                }
                None => return Err(Violation::new("apply", format!("{index} is no membership"))),
            },
        };
        let command = match data {
            None => None,
            Some(data) => match Command::decode(data) {
                Ok((stamp, command)) => {
                    origin = stamp.origin.map_or(leader, |origin| Some(origin.member));
                    let once = stamp
                        .origin
                        .is_none_or(|origin| self.origins.insert((origin.member, origin.number)));
                    ensure(once, "exactly once", || {
                        format!("{index} is {command:?} of {:?} once more", stamp.origin)
                    })?;
                    let may_end =
                        matches!(command, Command::LeaseExpire(_) | Command::LeaseRenew(_));
                    let leases = |model: &Model| -> BTreeSet<i64> {
                        if may_end {
                            model.leases().keys().copied().collect()
                        } else {
                            BTreeSet::new()
                        }
                    };
                    let before = leases(&self.model);
                    author = stamp.author;
                    let (result, changed) = self.model.apply_for(&author, stamp.time.0, &command);
                    if matches!(command, Command::Auth(_)) {
                        self.auths.push((index, self.model.auth().clone()));
                    }
                    ended = &before - &leases(&self.model);
                    (answer, events) = (Some(result), changed);
                    Some(command)
                }
                Err(unknown) => {
                    return Err(Violation::new("apply", format!("{index} is {unknown:?}")));
                }
            },
        };
        events.iter().for_each(|event| self.digests.follow(event));
        let moment = Moment {
            revision: self.model.revision(),
            compacted: self.model.compacted(),
            events: self.model.events().len(),
            digest: self.digests.of(&self.model),
        };
        self.follow_members(index, command.as_ref(), membership)?;
        let claimed = false;
        self.committed.push(Committed {
            term,
            command,
            answer,
            ended,
            moment,
            origin,
            author,
            claimed,
        });
        Ok(())
    }

    /// Objects unless a majority said that an entry is durable, before anybody applied it.
    fn check_quorum(&self, index: Index, term: Term) -> Result<(), Violation> {
        let sets = self.sets(index.prev());
        let holders = self.holders.get(&(index, term));
        // What a leader says to itself is not seen.
        let leads = |id: MemberId| {
            self.leaders.range(term..).any(|(_, leader)| leader.id == id)
                && self.members.get(&id).is_some_and(|m| m.log.get(&index) == Some(&term))
        };
        let holds = |id| leads(id) || holders.is_some_and(|holders| holders.contains(&id));
        ensure(sets.has_majority(holds), "commit by a majority", || {
            format!("{index} of term {term} is applied, held by {holders:?} of {sets:?}")
        })
    }

    /// Follows what an entry says about the members.
    fn follow_members(
        &mut self,
        index: Index,
        command: Option<&Command>,
        membership: Option<Membership>,
    ) -> Result<(), Violation> {
        let change = match command {
            Some(Command::Members(change)) => Some(change.clone()),
            _ => None,
        };
        if let Some(membership) = &membership {
            let (sets, next) = (self.sets(index.prev()), Sets::of(membership));
            ensure(sets.may_become(&next), "one change at a time", || {
                format!("{index} leads from {sets:?} to {next:?}")
            })?;
            self.sets.insert(index, next);
        }
        if change.is_some() || membership.is_some() {
            self.cluster.apply(change, membership);
        }
        Ok(())
    }

    /// Compares the whole state of a member with the model's. O(state).
    ///
    /// # Errors
    /// If they differ.
    pub fn check_state(
        &mut self,
        id: MemberId,
        applied: Index,
        state: &StateMachine,
    ) -> Result<(), Violation> {
        let moment = self.moment(applied);
        let digest = digest_of(state);
        let hash = state.store.hash(0, state.store.sweeping());
        if state.store.damage().is_some() {
            return Ok(()); // It found that out just now, and stops before it says anything.
        }
        ensure(applied == Index(0) || digest == moment.digest, "state", || {
            let mut text = format!("member {} differs from the model at {applied}", id.0);
            if applied == self.last() {
                self.explain(state, &mut text);
            }
            text
        })?;
        let hash = hash.map_err(|error| Violation::new("history", format!("{error}")))?.hash;
        self.check_hash(id, applied, hash)
    }

    /// Objects unless all history that is hashed at an index is hashed alike.
    ///
    /// # Errors
    /// If it is not.
    pub(super) fn check_hash(
        &mut self,
        id: MemberId,
        applied: Index,
        hash: u32,
    ) -> Result<(), Violation> {
        let first = *self.hashes.entry(applied).or_insert(hash);
        ensure(first == hash, "history", || {
            format!("member {} hashes history at {applied} to {hash}, before it was {first}", id.0)
        })
    }

    /// In what a state differs from the model's present.
    fn explain(&self, state: &StateMachine, text: &mut String) {
        let leases: Vec<_> =
            state.lessor.by_deadline().map(|l| (l.id.0, l.ttl, l.deadline.0)).collect();
        let mut expected: Vec<_> =
            self.model.leases().iter().map(|(id, l)| (*id, l.ttl, l.deadline_ms)).collect();
        expected.sort_by_key(|(id, _, deadline)| (*deadline, *id));
        let attached: Vec<_> = state
            .lessor
            .by_deadline()
            .map(|lease| (lease.id.0, state.lessor.keys_of(lease.id).count()))
            .filter(|(id, count)| self.model.keys_of(*id).len() != *count)
            .collect();
        write!(
            text,
            ": time {} (model {}), leases {leases:?} (model {expected:?}), attachments {attached:?}",
            state.time.0,
            self.model.time_ms(),
        )
        .expect("strings grow");
        for record in state.store.current(&KeyRange::prefix(Bytes::new())) {
            if self.digests.keys.get(record.key()) != Some(&digest_kv(&record.to_key_value())) {
                write!(text, ", {record:?}").expect("strings grow");
            }
        }
    }
}

impl Digests {
    fn follow(&mut self, event: &Event) {
        let new = match event.kind {
            EventType::Put => Some(digest_kv(&event.kv)),
            EventType::Delete => None,
        };
        let old = match new {
            Some(digest) => self.keys.insert(event.kv.key.clone(), digest),
            None => self.keys.remove(&event.kv.key),
        };
        self.sum = self.sum.wrapping_sub(old.unwrap_or(0)).wrapping_add(new.unwrap_or(0));
    }

    fn of(&self, model: &Model) -> u64 {
        let leases = model.leases().iter().map(|(id, lease)| {
            digest(&[id.cast_unsigned(), lease.ttl.cast_unsigned(), lease.deadline_ms])
        });
        let alarms = model
            .alarms()
            .iter()
            .map(|(kind, member)| digest(&[i64::from(*kind).cast_unsigned(), *member]));
        let rest = [model.revision(), model.compacted()].map(i64::cast_unsigned);
        let rest = digest(&[rest[0], rest[1], model.time_ms()]);
        let auth = model.auth().facts().into_iter().map(|fact| digest_fact(&fact));
        leases.chain(alarms).chain(auth).chain([rest]).fold(self.sum, u64::wrapping_add)
    }
}

/// The digest of an engine's state; as [`Digests::of`] makes it of a model's.
fn digest_of(state: &StateMachine) -> u64 {
    let everything = KeyRange::prefix(Bytes::new());
    let mut sum = 0_u64;
    for record in state.store.current(&everything) {
        // The lease counts as the lessor tells it, not as the record does.
        let kv = record.to_key_value();
        let listed = kv.lease == 0
            || state.lessor.keys_of(cairn_engine::LeaseId(kv.lease)).any(|key| *key == kv.key);
        sum = sum.wrapping_add(if listed { digest_kv(&kv) } else { 0 });
    }
    let leases = state.lessor.by_deadline().map(|lease| {
        digest(&[lease.id.0.cast_unsigned(), lease.ttl.cast_unsigned(), lease.deadline.0])
    });
    let alarms = state.alarms.iter().map(|(kind, member)| {
        let kind = i64::from(i32::from(kind.to_message()));
        digest(&[kind.cast_unsigned(), member.0])
    });
    let rest = [state.store.revision(), state.store.compacted()].map(i64::cast_unsigned);
    let rest = digest(&[rest[0], rest[1], state.time.0]);
    let auth = auth_facts(&state.auth).into_iter().map(|fact| digest_fact(&fact));
    leases.chain(alarms).chain(auth).chain([rest]).fold(sum, u64::wrapping_add)
}

/// What users and roles are, as [`Auth::facts`] tells it of a model's.
pub(super) fn auth_facts(auth: &cairn_engine::auth::Auth) -> Vec<Vec<u8>> {
    let mut facts = vec![vec![u8::from(auth.is_enabled())], auth.revision().to_le_bytes().to_vec()];
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    for (user, since) in auth.users() {
        let (name, hash, roles) = (text(&user.name), text(&user.password), user.roles.join(","));
        let no_password = user.options.is_some_and(|options| options.no_password);
        facts.push(format!("{name} {hash} {no_password} {roles} {since}").into_bytes());
    }
    for role in auth.roles() {
        let name = text(&role.name);
        for permission in &role.key_permission {
            let Permission { perm_type, key, range_end } = permission;
            facts.push(format!("{name} {key:?} {range_end:?} {perm_type}").into_bytes());
        }
        facts.push(name.into_bytes());
    }
    facts
}

fn digest_fact(fact: &[u8]) -> u64 {
    let mut hasher = Hasher::default();
    hasher.bytes(fact);
    hasher.finish()
}

fn digest_kv(kv: &KeyValue) -> u64 {
    let mut hasher = Hasher::default();
    hasher.bytes(&kv.key);
    hasher.bytes(&kv.value);
    for number in [kv.create_revision, kv.mod_revision, kv.version, kv.lease] {
        hasher.number(number.cast_unsigned());
    }
    hasher.finish()
}

fn digest(numbers: &[u64]) -> u64 {
    let mut hasher = Hasher::default();
    numbers.iter().for_each(|number| hasher.number(*number));
    hasher.finish()
}
