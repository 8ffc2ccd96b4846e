//! What every role needs: term, vote and commit, the log, the members, and what is on its way out.

use alloc::collections::VecDeque;
use core::time::Duration;

use super::log::Log;
use super::membership::Membership;
use super::message::{Body, LogEnd, Message};
use super::{
    Config, Durable, Entry, EntryKind, FORFEITED, HardState, Index, Outgoing, ReadReady, Term,
};
use crate::ids::MemberId;
use crate::rng::Rng;

#[derive(Clone, Debug)]
pub(super) struct Core {
    pub(super) config: Config,
    pub(super) hard_state: HardState,
    /// Term and vote as they were last handed out to be written.
    pub(super) saved: (Term, MemberId),
    pub(super) log: Log,
    /// As of the commit index.
    pub(super) membership: Membership,
    /// A change of membership has become known to be committed, and the commit index was not handed out since.
    pub(super) has_changed: bool,
    /// Who leads the current term, if known.
    pub(super) leader: MemberId,
    pub(super) outbox: VecDeque<Outgoing>,
    pub(super) reads: VecDeque<ReadReady>,
    /// Members that need a snapshot, because the entries that they lack are gone.
    pub(super) snapshots_wanted: VecDeque<MemberId>,
    /// The log is here, and the state before it is not, until a snapshot brings it.
    pub(super) awaits_state: bool,
    rng: Rng,
}

impl Core {
    pub(super) fn new(config: Config, durable: Durable, rng: Rng) -> Self {
        let Durable { hard_state, log, membership } = durable;
        Self {
            config,
            hard_state,
            saved: (hard_state.term, hard_state.vote),
            log,
            membership,
            has_changed: false,
            leader: MemberId::NONE,
            outbox: VecDeque::new(),
            reads: VecDeque::new(),
            snapshots_wanted: VecDeque::new(),
            awaits_state: false,
            rng,
        }
    }

    pub(super) fn term(&self) -> Term {
        self.hard_state.term
    }

    /// Enters a later term, with a vote for `vote` if that is a member.
    pub(super) fn begin_term(&mut self, term: Term, vote: MemberId) {
        assert!(term > self.hard_state.term, "terms only go up (R5)");
        self.hard_state.term = term;
        if vote.is_some() || self.hard_state.vote != FORFEITED {
            self.hard_state.vote = vote;
        }
        self.leader = MemberId::NONE;
    }

    /// Moves the commit index up, and obeys the changes of membership on the way.
    pub(super) fn commit_to(&mut self, commit: Index) {
        assert!(commit <= self.log.last_index(), "what is committed is in the log");
        while self.hard_state.commit < commit {
            self.hard_state.commit = self.hard_state.commit.next();
            self.has_changed |= self.obey(self.hard_state.commit);
        }
    }

    /// Obeys the entry at `index` if it changes the membership; whether it does.
    pub(super) fn obey(&mut self, index: Index) -> bool {
        let entry = self.log.get(index).expect("what is committed is in the log");
        if entry.kind == EntryKind::Membership
            && let Some((membership, _)) = Membership::from_entry(entry.data.clone())
        {
            self.membership = membership;
            return true;
        }
        false
    }

    /// Whether the log holds a change of membership that is not known to be committed.
    pub(super) fn is_changing(&self) -> bool {
        self.first_change(self.log.last_index()).is_some()
    }

    /// The first change of membership above the commit index, up to `last`.
    pub(super) fn first_change(&self, last: Index) -> Option<Index> {
        let is_change = |entry: &&Entry| entry.kind == EntryKind::Membership && entry.index <= last;
        self.log.iter_from(self.hard_state.commit.next()).find(is_change).map(|entry| entry.index)
    }

    /// One to two election timeouts, so that two members seldom campaign at once (thesis §3.4).
    pub(super) fn random_election_timeout(&mut self) -> Duration {
        let base = u64::try_from(self.config.election_timeout.as_nanos()).expect("some seconds");
        Duration::from_nanos(base + self.rng.below(base))
    }

    /// A twentieth to a seventh of an election timeout: who knows that its leader is gone need not wait, only not
    /// campaign at the same moment as others who know it, too.
    pub(super) fn random_patience(&mut self) -> Duration {
        (self.random_election_timeout() - self.config.election_timeout) / 10
            + self.config.election_timeout / 20
    }

    /// Sends what needs no durability.
    pub(super) fn send(&mut self, to: MemberId, term: Term, body: Body) {
        let message = Message { from: self.config.id, to, term, body };
        self.outbox.push_back(Outgoing { message, after_durable: false });
    }

    /// Makes a promise in the current term, perhaps to this member itself.
    pub(super) fn promise(&mut self, to: MemberId, body: Body) {
        let message = Message { from: self.config.id, to, term: self.term(), body };
        self.outbox.push_back(Outgoing { message, after_durable: true });
    }

    /// Says whether this member would vote for the sender, who has entered no new term yet; returns it, too.
    pub(super) fn answer_pre_vote(
        &mut self,
        message: &Message,
        last: LogEnd,
        hears_leader: bool,
    ) -> bool {
        let granted =
            message.term > self.term() && !hears_leader && last.is_as_new_as(self.log.last());
        let term = if granted { message.term } else { self.term() };
        let committed = self.committed();
        self.send(message.from, term, Body::PreVoteReply { granted, committed });
        granted
    }

    /// The place up to which the log is known to be committed.
    fn committed(&self) -> LogEnd {
        let index = self.hard_state.commit;
        let term = self.log.term_at(index).expect("the log is not trimmed beyond its commit");
        LogEnd { index, term }
    }

    /// Notes that everything up to `place` is committed, if the log holds it; whether it does.
    pub(super) fn learn_commit(&mut self, place: LogEnd) -> bool {
        let holds = self.log.term_at(place.index) == Some(place.term);
        if holds {
            self.commit_to(place.index);
        }
        holds
    }

    /// Votes for the sender or not (thesis §3.4, §3.6.1); the term is the current one.
    pub(super) fn answer_vote(&mut self, from: MemberId, last: LogEnd) -> bool {
        let vote = self.hard_state.vote;
        let free = !vote.is_some() || vote == from;
        let granted = free && !self.leader.is_some() && last.is_as_new_as(self.log.last());
        if granted {
            self.hard_state.vote = from;
            self.promise(from, Body::VoteReply { granted });
        } else {
            self.send(from, self.term(), Body::VoteReply { granted });
        }
        granted
    }

    /// Tells a member that lives in an older term about the current one, if it might matter to it.
    pub(super) fn answer_outdated(&mut self, message: &Message) {
        match &message.body {
            Body::Vote { .. } => {
                self.send(message.from, self.term(), Body::VoteReply { granted: false });
            }
            // A leader of an older term steps down at any word of a newer one.
            Body::Append { .. } | Body::Heartbeat { .. } | Body::TimeoutNow => {
                let hint = self.log.last();
                let body = Body::AppendRejected { prev: Index(0), hint };
                self.send(message.from, self.term(), body);
            }
            Body::PreVote { .. }
            | Body::PreVoteReply { .. }
            | Body::VoteReply { .. }
            | Body::AppendAccepted { .. }
            | Body::AppendRejected { .. }
            | Body::HeartbeatReply { .. } => {}
        }
    }
}
