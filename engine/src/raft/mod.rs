//! Agreement on one sequence of entries among members that crash, pause and lose messages.
//!
//! The algorithm is Raft (Ongaro, "Consensus: Bridging Theory and Practice", 2014; below: thesis), with
//! PreVote (thesis §9.6), CheckQuorum (§6.2), pipelined appends (§10.2.1), the leader writing its own log
//! while it sends (§10.2.1), `ReadIndex` (§6.4), transfer of leadership (§3.10), learners (§4.2.1) and joint
//! consensus ([`membership`]).
//!
//! ```text
//!                 times out            wins the pre-vote         wins the vote
//!   ┌──────────┐ ───────────► ┌──────────────┐ ────────► ┌───────────┐ ─────► ┌────────┐
//!   │ Follower │              │ PreCandidate │           │ Candidate │        │ Leader │
//!   └──────────┘ ◄─────────── └──────────────┘ ◄──────── └───────────┘        └────────┘
//!        ▲        leader seen                  times out       │                  │
//!        └─────────────────────────────────────────────────────┴──────────────────┘
//!                     higher term seen, or no quorum heard for an election timeout
//! ```
//!
//! [`Raft`] holds what every role needs ([`Core`]) and the role. A role handles a message and
//! says what should happen next; only [`Raft`] changes roles.
//!
//! # Durability
//!
//! A vote and an accepted append are promises. The message that makes one is marked
//! [`Outgoing::after_durable`]: whoever drives this module sends it only once everything handed out before it
//! is durable. The promises that a member makes to itself (its own vote, the leader's own log) are messages
//! to itself and take the same way, so there is one rule and no shortcut, in a cluster of one as in a cluster
//! of seven.
//!
//! # Invariants
//!
//! - R1 Election safety: at most one leader in a term.
//! - R2 A leader never removes or changes entries of its own log.
//! - R3 Log matching: logs that agree in (index, term) agree in everything up to there.
//! - R4 Leader completeness: an entry committed in a term is in the log of every later leader.
//! - R5 Term, vote and commit never go back, across restarts either.
//! - R6 Commit advances by counting only for an entry of the leader's own term (thesis §3.6.2).
//! - R7 A read waits for a round of heartbeats that was sent after the read arrived.

use bytes::Bytes;
use core::fmt;
use core::time::Duration;

use crate::ids::MemberId;
use crate::rng::Rng;
use crate::time::Time;

mod candidate;
mod follower;
mod leader;
pub mod log;
pub mod membership;
pub mod message;
mod progress;
mod quorum;
mod state;
#[cfg(test)]
mod testing;

use candidate::{Candidate, Contest};
use follower::Follower;
use leader::Leader;
use log::Log;
use membership::Membership;
use message::{Body, LogEnd, Message};
use state::Core;

/// Counts elections. Zero is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

impl Term {
    /// The one after this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Counts entries from one. Zero is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Index(pub u64);

impl Index {
    /// The one after this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The one before this; the one before the first is zero, and so is the one before that.
    #[must_use]
    pub const fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKind {
    /// Nothing: the first entry of a term, with which its leader learns what is committed (thesis §6.4).
    Empty,
    /// A command for the state machine.
    Command,
    /// A change of the [`Membership`], and whatever else it means to the state machine.
    Membership,
}

impl EntryKind {
    /// The kind on disk and on the wire.
    pub const fn to_byte(self) -> u8 {
        match self {
            Self::Empty => 0,
            Self::Command => 1,
            Self::Membership => 2,
        }
    }

    /// The kind that a byte stands for, if any.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Empty),
            1 => Some(Self::Command),
            2 => Some(Self::Membership),
            _ => None,
        }
    }
}

/// One entry of the log.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place.
    pub index: Index,
    /// The term in which a leader made it.
    pub term: Term,
    /// What it is for.
    pub kind: EntryKind,
    /// Checksum of kind and data, computed once by the leader and kept from end to end.
    pub crc: u32,
    /// What the state machine is to do, opaque to this module.
    pub data: Bytes,
}

impl Entry {
    /// An entry with its checksum.
    pub fn new(index: Index, term: Term, kind: EntryKind, data: Bytes) -> Self {
        let crc = Self::checksum(kind, &data);
        Self { index, term, kind, crc, data }
    }

    /// The checksum that [`Entry::crc`] must have.
    pub fn checksum(kind: EntryKind, data: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&[kind.to_byte()]);
        hasher.update(data);
        hasher.finalize()
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{} {:?}({} bytes)", self.index, self.term, self.kind, self.data.len())
    }
}

/// In place of a vote, in this term and all that follow: this member's vote is not to be had, because it does not know
/// to whom it was promised.
pub const FORFEITED: MemberId = MemberId(u64::MAX);

/// What a member must never forget (R5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The latest term it knows of.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: MemberId,
    /// The highest index it knows to be committed; may lag, because it can be learnt anew.
    pub commit: Index,
}

/// How a member takes part; fixed while it runs.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// This member.
    pub id: MemberId,
    /// A follower that hears no leader for one to two of these campaigns.
    pub election_timeout: Duration,
    /// A leader that has nothing to say says so this often.
    pub heartbeat_interval: Duration,
    /// Bytes of entries in one append message, unless a single entry is larger.
    pub append_bytes_max: usize,
    /// Append messages to one follower that may be unanswered.
    pub appends_in_flight_max: usize,
}

/// What a member knew when it stopped.
#[derive(Clone, Debug)]
pub struct Durable {
    /// Term, vote and commit index.
    pub hard_state: HardState,
    /// The log.
    pub log: Log,
    /// Who takes part, as of the entry before the first in the log.
    pub membership: Membership,
}

/// What a leader knows of another member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerProgress {
    /// Which.
    pub id: MemberId,
    /// The last index at which the logs are known to agree, durably.
    pub matched: Index,
    /// Whether it was heard within the last election timeout.
    pub is_active: bool,
    /// Whether it is, or should be, sent a snapshot.
    pub wants_snapshot: bool,
}

/// A message on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The message; to this member itself if it is a promise it makes to itself.
    pub message: Message,
    /// It makes a promise: everything handed out before it must be durable first.
    pub after_durable: bool,
}

/// Names a batch of linearizable reads; the caller chooses it and never reuses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadToken(pub u64);

/// A batch of reads that may go ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadReady {
    /// Which.
    pub token: ReadToken,
    /// The state must include this index; `None`: leadership was lost, ask again.
    pub index: Option<Index>,
}

/// Why a member would not take a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotLeader {
    /// Who leads, as far as this member knows.
    pub leader: MemberId,
}

/// Why a leader cannot change the membership now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotNow;

/// What the role wants to happen after it handled something.
#[derive(Clone, Debug)]
enum Next {
    /// Nothing changes.
    Stay,
    /// Follow `leader`, who may be unknown.
    Follow { leader: MemberId },
    /// Ask whether an election could be won, or stand for it.
    Campaign(Contest),
    /// Lead the current term.
    Lead,
}

#[derive(Clone, Debug)]
enum Role {
    Follower(Follower),
    PreCandidate(Candidate),
    Candidate(Candidate),
    Leader(Leader),
}

/// The role of a member, for those who only watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleName {
    /// Follows a leader or waits for one.
    Follower,
    /// Asks whether it could win.
    PreCandidate,
    /// Stands for election.
    Candidate,
    /// Leads.
    Leader,
}

/// One member's part in the agreement.
#[derive(Clone, Debug)]
pub struct Raft {
    core: Core,
    role: Role,
}

impl Raft {
    /// A follower that continues from what was durable.
    ///
    /// # Panics
    /// If the log does not reach the commit index: the caller's recovery is wrong.
    pub fn new(config: Config, durable: Durable, rng: Rng, now: Time) -> Self {
        let commit = durable.hard_state.commit;
        assert!(commit <= durable.log.last_index(), "what is committed is in the log");
        let mut core = Core::new(config, durable, rng);
        for index in core.log.covered().index.0..commit.0 {
            core.obey(Index(index + 1));
        }
        let role = Role::Follower(Follower::new(&mut core, now));
        Self { core, role }
    }

    /// Lets this member alone decide, whatever its log says: for an operator who has lost all others for ever. What is
    /// in the log must be taken for committed.
    ///
    /// # Panics
    /// If something in the log is not.
    pub fn force_membership(&mut self, membership: Membership, now: Time) {
        assert_eq!(self.core.hard_state.commit, self.core.log.last_index(), "all is committed");
        self.core.membership = membership;
        self.role = Role::Follower(Follower::new(&mut self.core, now));
    }

    /// Takes a message of a peer, or one of this member's own promises after it became durable.
    ///
    /// Any message is safe to take: what makes no sense is dropped.
    pub fn step(&mut self, now: Time, message: Message) {
        if let Body::PreVoteReply { committed, .. } = message.body
            && !matches!(self.role, Role::Leader(_))
        {
            // Who is asked may be the only one to know that it was removed, and have a longer log: then it refuses, and
            // what helps is that its vote is not needed any more.
            self.core.learn_commit(committed);
        }
        match message.body {
            // These speak about a term that has not begun; nobody enters it for them (thesis §9.6).
            Body::PreVote { last } => return self.answer_pre_vote(now, &message, last),
            Body::PreVoteReply { granted: true, .. } => return self.count_pre_vote(now, &message),
            // Leader stickiness (thesis §4.2.3): who hears a leader ignores those who do not.
            Body::Vote { takeover: false, .. }
                if message.term > self.core.term() && self.hears_leader(now) =>
            {
                return;
            }
            Body::PreVoteReply { granted: false, .. }
            | Body::Vote { .. }
            | Body::VoteReply { .. }
            | Body::Append { .. }
            | Body::AppendAccepted { .. }
            | Body::AppendRejected { .. }
            | Body::Heartbeat { .. }
            | Body::HeartbeatReply { .. }
            | Body::TimeoutNow => {}
        }
        if message.term < self.core.term() {
            return self.core.answer_outdated(&message);
        }
        let leads = message.body.is_from_leader();
        if message.term > self.core.term() {
            self.core.begin_term(message.term, MemberId::NONE);
            self.enter(now, Next::Follow { leader: MemberId::NONE });
        } else if leads && matches!(self.role, Role::PreCandidate(_) | Role::Candidate(_)) {
            self.enter(now, Next::Follow { leader: message.from });
        }
        let next = match &mut self.role {
            Role::Follower(follower) => follower.step(&mut self.core, now, message),
            Role::PreCandidate(candidate) | Role::Candidate(candidate) => {
                candidate.step(&mut self.core, &message)
            }
            Role::Leader(leader) => leader.step(&mut self.core, now, &message),
        };
        self.enter(now, next);
    }

    /// Says whether this member would vote for the sender. If so, and it was about to ask for votes itself, it makes room:
    /// of two who ask at once each would vote for itself, and neither win.
    fn answer_pre_vote(&mut self, now: Time, message: &Message, last: LogEnd) {
        let hears_leader = self.hears_leader(now);
        if !self.core.answer_pre_vote(message, last, hears_leader) {
            return;
        }
        match &mut self.role {
            Role::Follower(follower) => follower.let_pass(&mut self.core, now),
            Role::PreCandidate(_) if message.from > self.core.config.id => {
                self.enter(now, Next::Follow { leader: MemberId::NONE });
            }
            Role::PreCandidate(_) | Role::Candidate(_) | Role::Leader(_) => {}
        }
    }

    /// A granted pre-vote carries the term that would begin.
    fn count_pre_vote(&mut self, now: Time, message: &Message) {
        if let Role::PreCandidate(candidate) = &mut self.role
            && message.term == self.core.term().next()
        {
            let next = candidate.count(&self.core, message.from, true);
            self.enter(now, next);
        }
    }

    /// Whether this member hears a leader: it leads a quorum, or heard from its leader lately.
    fn hears_leader(&self, now: Time) -> bool {
        match &self.role {
            Role::Follower(follower) => {
                self.core.leader.is_some()
                    && follower.heard_within(now, self.core.config.election_timeout)
            }
            Role::PreCandidate(_) | Role::Candidate(_) => false,
            Role::Leader(_) => true,
        }
    }

    /// Takes the news that a peer's process is gone: nobody listens where it did. If it led, this member does not wait
    /// for it until the election timeout, nor count it as heard when others ask.
    ///
    /// Only a hint: if it is wrong, those who hear the leader refuse the pre-vote.
    pub fn peer_down(&mut self, now: Time, peer: MemberId) {
        if self.core.leader == peer
            && let Role::Follower(follower) = &mut self.role
        {
            follower.lose_leader(&mut self.core, now);
        }
    }

    /// Does what is due at `now`.
    pub fn wake(&mut self, now: Time) {
        if now < self.deadline() {
            return;
        }
        let next = match &mut self.role {
            Role::Follower(follower) => follower.wake(&mut self.core, now),
            Role::PreCandidate(candidate) | Role::Candidate(candidate) => candidate.wake(),
            Role::Leader(leader) => leader.wake(&mut self.core, now),
        };
        self.enter(now, next);
    }

    /// When [`Raft::wake`] is due.
    pub fn deadline(&self) -> Time {
        match &self.role {
            Role::Follower(follower) => follower.deadline(),
            Role::PreCandidate(candidate) | Role::Candidate(candidate) => candidate.deadline(),
            Role::Leader(leader) => leader.deadline(),
        }
    }

    fn enter(&mut self, now: Time, next: Next) {
        match next {
            Next::Stay => {}
            Next::Follow { leader } => {
                self.core.leader = leader;
                if let Role::Leader(leader) = &mut self.role {
                    leader.abandon_reads(&mut self.core);
                }
                self.role = Role::Follower(Follower::new(&mut self.core, now));
            }
            Next::Campaign(contest) => {
                self.core.leader = MemberId::NONE;
                let (candidate, next) = Candidate::new(&mut self.core, now, contest);
                self.role = match contest {
                    Contest::PreVote => Role::PreCandidate(candidate),
                    Contest::Vote | Contest::Takeover => Role::Candidate(candidate),
                };
                self.enter(now, next);
            }
            Next::Lead => {
                self.core.leader = self.core.config.id;
                self.role = Role::Leader(Leader::new(&mut self.core, now));
            }
        }
    }

    /// Appends a command to the log if this member leads, and sends it on.
    ///
    /// # Errors
    /// If it does not lead.
    pub fn propose(&mut self, data: Bytes) -> Result<(Term, Index), NotLeader> {
        match &mut self.role {
            Role::Leader(leader) => {
                let index = leader.propose(&mut self.core, EntryKind::Command, data);
                Ok((self.core.term(), index))
            }
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                Err(NotLeader { leader: self.core.leader })
            }
        }
    }

    /// Appends a change of the membership, if this member leads and nothing stands against it (C1, C2). `context` is
    /// what else the change means, opaque to this module.
    ///
    /// # Errors
    /// If it does not lead, or another change is under way.
    pub fn propose_membership(
        &mut self,
        membership: &Membership,
        context: &[u8],
    ) -> Result<(Term, Index), NotNow> {
        if !self.may_change() {
            return Err(NotNow);
        }
        let Role::Leader(leader) = &mut self.role else { return Err(NotNow) };
        let data = membership.to_entry(context);
        let index = leader.propose(&mut self.core, EntryKind::Membership, data);
        Ok((self.core.term(), index))
    }

    /// Whether [`Raft::propose_membership`] would be taken now.
    pub fn may_change(&self) -> bool {
        match &self.role {
            Role::Leader(leader) => leader.may_change(&self.core) && !leader.is_transferring(),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => false,
        }
    }

    /// Whether this member leads and knows everything that was committed before it did.
    pub fn is_settled(&self) -> bool {
        match &self.role {
            Role::Leader(leader) => leader.is_settled(&self.core),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => false,
        }
    }

    /// Begins to hand leadership over to a voter; whether it does, only time tells: it gives up after an election
    /// timeout. Until then nothing should be proposed, or the other never catches up.
    ///
    /// # Errors
    /// If this member does not lead.
    pub fn transfer(&mut self, now: Time, target: MemberId) -> Result<(), NotLeader> {
        match &mut self.role {
            Role::Leader(leader) => {
                if target != self.core.config.id {
                    leader.transfer(&mut self.core, now, target);
                }
                Ok(())
            }
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                Err(NotLeader { leader: self.core.leader })
            }
        }
    }

    /// Whether this member is handing over.
    pub fn is_transferring(&self) -> bool {
        match &self.role {
            Role::Leader(leader) => leader.is_transferring(),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => false,
        }
    }

    /// The voter that should take over from this leader, of those that may and were heard lately.
    pub fn successor(&self, now: Time, may: impl Fn(MemberId) -> bool) -> Option<MemberId> {
        match &self.role {
            Role::Leader(leader) => leader.successor(&self.core, now, may),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => None,
        }
    }

    /// What this member, if it leads, knows of the others.
    pub fn peers(&self, now: Time) -> impl Iterator<Item = PeerProgress> {
        let leader = match &self.role {
            Role::Leader(leader) => Some(leader),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => None,
        };
        leader.into_iter().flat_map(move |leader| leader.peers(&self.core, now))
    }

    /// Asks for the index that a linearizable read must see; answered by [`Raft::poll_read`].
    ///
    /// # Errors
    /// If this member does not lead.
    pub fn read_index(&mut self, token: ReadToken) -> Result<(), NotLeader> {
        match &mut self.role {
            Role::Leader(leader) => {
                leader.read_index(&mut self.core, token);
                Ok(())
            }
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                Err(NotLeader { leader: self.core.leader })
            }
        }
    }

    /// Sends what proposals have gathered since the last call; once for a batch of inputs.
    pub fn flush(&mut self, now: Time) {
        if let Role::Leader(leader) = &mut self.role {
            leader.flush(&mut self.core, now);
        }
    }

    /// The next message to send.
    pub fn poll_message(&mut self) -> Option<Outgoing> {
        self.core.outbox.pop_front()
    }

    /// The next batch of reads that may go ahead.
    pub fn poll_read(&mut self) -> Option<ReadReady> {
        self.core.reads.pop_front()
    }

    /// A member that needs a snapshot, because the entries that it lacks are gone.
    pub fn poll_snapshot_wanted(&mut self) -> Option<MemberId> {
        self.core.snapshots_wanted.pop_front()
    }

    /// Up to where a member acknowledged the log, if this one leads and knows.
    pub fn acknowledged(&self, peer: MemberId) -> Index {
        match &self.role {
            Role::Leader(leader) => leader.acknowledged(peer),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => Index(0),
        }
    }

    /// Forgets what a member acknowledged: its disk has forgotten it, too.
    pub fn forget(&mut self, now: Time, peer: MemberId) {
        if let Role::Leader(leader) = &mut self.role {
            leader.forget(&self.core, now, peer);
        }
    }

    /// Notes that a member was brought a snapshot that covers the log up to `covers`, or none if that is zero.
    pub fn snapshot_ended(&mut self, peer: MemberId, covers: Index) {
        if let Role::Leader(leader) = &mut self.role {
            leader.snapshot_ended(peer, covers);
        }
    }

    /// Whether a snapshot that covers `place` brings anything that this member does not know to be committed.
    pub fn lacks(&self, place: LogEnd) -> bool {
        place.index > self.core.hard_state.commit
    }

    /// Notes that everything up to `place` is committed, if the log holds it; whether it does.
    pub fn learn_commit(&mut self, place: LogEnd) -> bool {
        self.core.learn_commit(place)
    }

    /// Tells the leader, once everything handed out before is durable, how far this log is known to agree.
    pub fn accept_up_to_commit(&mut self) {
        let (leader, matched) = (self.core.leader, self.core.hard_state.commit);
        if leader.is_some() && leader != self.core.config.id {
            self.core.promise(leader, Body::AppendAccepted { matched });
        }
    }

    /// Replaces the log by a snapshot that covers `place`, where `membership` held; whether it did. A log that holds
    /// that place goes on: what is behind it may have been acknowledged, and count towards a majority.
    ///
    /// # Panics
    /// If it brings nothing new, or this member leads: a leader's log holds all that is committed (R4).
    pub fn restore(&mut self, place: LogEnd, membership: Membership) -> bool {
        let awaited = core::mem::take(&mut self.core.awaits_state);
        assert!(awaited || self.lacks(place), "a snapshot never takes a member back (R5)");
        assert!(!matches!(self.role, Role::Leader(_)), "a leader lacks nothing (R4)");
        let goes_on = self.core.log.term_at(place.index) == Some(place.term);
        self.core.membership = membership;
        if goes_on {
            let commit = &mut self.core.hard_state.commit;
            *commit = place.index.max(*commit);
            for index in place.index.0..commit.0 {
                self.core.obey(Index(index + 1));
            }
        } else {
            self.core.log.restart(place);
            self.core.hard_state.commit = place.index;
        }
        self.accept_up_to_commit();
        !goes_on
    }

    /// Notes that the state before the log is gone, until [`Raft::restore`]. The log is whole, so nothing that this member
    /// promised is in doubt.
    pub fn await_state(&mut self) {
        self.core.awaits_state = true;
    }

    /// Whether the state before the log is gone.
    pub fn is_awaiting_state(&self) -> bool {
        self.core.awaits_state
    }

    /// Whether a snapshot that covers `place` leads up to a log whose state is gone.
    pub fn awaits(&self, place: LogEnd) -> bool {
        self.core.awaits_state && place.index >= self.core.log.covered().index
    }

    /// Votes for nobody, from now on and after a restart, until [`Raft::regain_vote`].
    pub fn forfeit_vote(&mut self) {
        self.core.hard_state.vote = FORFEITED;
    }

    /// Votes again; in this term for none but its leader, if there is one.
    pub fn regain_vote(&mut self) {
        if self.core.hard_state.vote == FORFEITED {
            self.core.hard_state.vote = self.core.leader;
        }
    }

    /// What must become durable since the last call: a new term or vote, and entries; the commit index goes with them,
    /// and alone only if it is that of a change of membership: who was removed may soon be gone, and nobody else may know
    /// that its vote is not needed.
    pub fn take_unsaved(&mut self) -> (Option<HardState>, &[Entry]) {
        let changed = core::mem::take(&mut self.core.has_changed)
            || (self.core.hard_state.term, self.core.hard_state.vote) != self.core.saved;
        self.core.saved = (self.core.hard_state.term, self.core.hard_state.vote);
        (changed.then_some(self.core.hard_state), self.core.log.take_unsaved())
    }

    /// Term, vote and commit index.
    pub fn hard_state(&self) -> HardState {
        self.core.hard_state
    }

    /// The log.
    pub fn log(&self) -> &Log {
        &self.core.log
    }

    /// Forgets entries up to `index`, which are applied, until the rest takes `bytes_max` or less; those that a
    /// member needs which answers are kept up to `needed_bytes_max`.
    pub fn trim_log(&mut self, now: Time, index: Index, bytes_max: usize, needed_bytes_max: usize) {
        assert!(index <= self.core.hard_state.commit, "only what is committed is applied");
        if self.core.log.bytes() <= bytes_max {
            return;
        }
        if let Role::Leader(leader) = &self.role {
            let needed = leader.needed(&self.core, now).prev();
            self.core.log.trim(index.min(needed), bytes_max);
            self.core.log.trim(index, needed_bytes_max);
        } else {
            self.core.log.trim(index, bytes_max);
        }
    }

    /// The leader of this term, if known.
    pub fn leader(&self) -> MemberId {
        self.core.leader
    }

    /// Who takes part, as of the commit index.
    pub fn membership(&self) -> &Membership {
        &self.core.membership
    }

    /// The role, by name.
    pub fn role(&self) -> RoleName {
        match &self.role {
            Role::Follower(_) => RoleName::Follower,
            Role::PreCandidate(_) => RoleName::PreCandidate,
            Role::Candidate(_) => RoleName::Candidate,
            Role::Leader(_) => RoleName::Leader,
        }
    }
}
