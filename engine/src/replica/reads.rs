//! Who waits to learn from where on reads are current: shards of this member, peers, and requests that the replica
//! answers itself.
//!
//! A leader asks Raft; any other member asks the leader. There one question answers all that came before it, so that
//! a turn, however many reads it brings, costs one message.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use crate::api::{Error, Request};
use crate::auth::Author;
use crate::event::ReadIndexAnswer;
use crate::ids::{MemberId, RequestId, ShardId};
use crate::lease::ClusterTime;
use crate::raft::{Index, Raft, ReadReady, ReadToken, Term};
use crate::time::Time;

/// After so long a question is asked again, as in etcd: it, or its answer, may be lost.
const RETRY: Duration = Duration::from_millis(500);

/// Who asks.
#[derive(Clone, Debug)]
pub(super) enum Asker {
    /// A shard, and its own name for its question.
    Shard(ShardId, u64),
    /// A peer, and its own name for its question.
    Peer(MemberId, u64),
    /// A client, by way of this replica.
    Client(RequestId, Author, Request),
}

/// A request that can be answered once the state includes an index.
#[derive(Debug)]
pub(super) struct Held {
    index: Index,
    /// The cluster's time is at least this.
    pub(super) time: ClusterTime,
    pub(super) id: RequestId,
    pub(super) author: Author,
    pub(super) request: Request,
}

#[derive(Debug)]
struct Waiting {
    token: ReadToken,
    asker: Asker,
    asked: Asked,
    deadline: Time,
}

/// Whom a question was put to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Nobody,
    /// This member's own Raft.
    Raft,
    /// The leader of a term, at a time.
    Leader(Term, Time),
}

/// What became of a question.
#[derive(Debug)]
pub(super) enum Answered {
    Shard(ReadIndexAnswer),
    Peer(MemberId, u64, Index),
    Client(Held),
}

/// The questions under way, oldest first.
#[derive(Debug)]
pub(super) struct Reads {
    timeout: Duration,
    waiting: VecDeque<Waiting>,
    last_token: u64,
    /// Requests that wait until the state includes an index.
    held: VecDeque<Held>,
}

impl Reads {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, waiting: VecDeque::new(), last_token: 0, held: VecDeque::new() }
    }

    pub(super) fn push(&mut self, now: Time, asker: Asker) {
        self.last_token += 1;
        let token = ReadToken(self.last_token);
        let deadline = now + self.timeout;
        self.waiting.push_back(Waiting { token, asker, asked: Asked::Nobody, deadline });
    }

    /// Asks this member's own Raft what it was not asked; it leads.
    pub(super) fn ask_raft(&mut self, raft: &mut Raft) {
        for waiting in self.waiting.iter_mut().filter(|waiting| waiting.asked != Asked::Raft) {
            if raft.read_index(waiting.token).is_err() {
                return;
            }
            waiting.asked = Asked::Raft;
        }
    }

    /// The question to put to the leader of `term` now, if there is one. Peers ask whom they take for the leader;
    /// where that is not this member, they are not answered.
    pub(super) fn ask_leader(&mut self, now: Time, term: Term) -> Option<ReadToken> {
        self.waiting.retain(|waiting| !matches!(waiting.asker, Asker::Peer(..)));
        let is_due = |waiting: &Waiting| match waiting.asked {
            Asked::Nobody | Asked::Raft => true,
            Asked::Leader(asked, at) => asked != term || at + RETRY <= now,
        };
        if !self.waiting.iter().any(is_due) {
            return None;
        }
        for waiting in &mut self.waiting {
            if is_due(waiting) {
                waiting.asked = Asked::Leader(term, now);
            }
        }
        self.waiting.back().map(|newest| newest.token)
    }

    /// Takes Raft's answer; `None` if it is to be asked again, or nobody waits any more.
    pub(super) fn answered(&mut self, ready: ReadReady, time: ClusterTime) -> Option<Answered> {
        let place = self.waiting.iter().position(|waiting| waiting.token == ready.token)?;
        let Some(index) = ready.index else {
            self.waiting[place].asked = Asked::Nobody;
            return None;
        };
        let waiting = self.waiting.remove(place)?;
        Some(answer(waiting.asker, index, time))
    }

    /// Takes the leader's answer to a question, and so to all that were asked before it.
    pub(super) fn answered_by_leader(
        &mut self,
        token: ReadToken,
        index: Index,
        time: ClusterTime,
    ) -> Vec<Answered> {
        let (answered, rest): (VecDeque<_>, _) = core::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|waiting| waiting.token <= token && waiting.asked != Asked::Nobody);
        self.waiting = rest;
        answered.into_iter().map(|waiting| answer(waiting.asker, index, time)).collect()
    }

    /// Keeps a request until the state includes what it must see.
    pub(super) fn hold(&mut self, held: Held) {
        self.held.push_back(held);
    }

    /// The requests that can be answered, now that the state includes `applied`.
    pub(super) fn release(&mut self, applied: Index) -> VecDeque<Held> {
        if self.held.is_empty() {
            return VecDeque::new();
        }
        let (ready, held) =
            core::mem::take(&mut self.held).into_iter().partition(|held| held.index <= applied);
        self.held = held;
        ready
    }

    /// When somebody may have waited too long.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.waiting.front().map(|oldest| oldest.deadline)
    }

    /// When a question is to be put again, if there is a leader to put it to.
    pub(super) fn retry_deadline(&self) -> Option<Time> {
        match self.waiting.front()?.asked {
            Asked::Nobody | Asked::Raft => None,
            Asked::Leader(_, at) => Some(at + RETRY),
        }
    }

    /// Somebody who waited too long.
    pub(super) fn timed_out(&mut self, now: Time) -> Option<Asker> {
        self.waiting.pop_front_if(|waiting| waiting.deadline <= now).map(|waiting| waiting.asker)
    }
}

fn answer(asker: Asker, index: Index, time: ClusterTime) -> Answered {
    match asker {
        Asker::Shard(shard, token) => {
            Answered::Shard(ReadIndexAnswer { shard, token, index: Ok(index) })
        }
        Asker::Peer(peer, token) => Answered::Peer(peer, token, index),
        Asker::Client(id, author, request) => {
            Answered::Client(Held { index, time, id, author, request })
        }
    }
}

/// What a shard is told that waited too long.
pub(super) fn refusal(shard: ShardId, token: u64, error: Error) -> ReadIndexAnswer {
    ReadIndexAnswer { shard, token, index: Err(error) }
}
