//! The role of most members most of the time: take what the leader sends, vote, and wait.

use alloc::vec::Vec;
use core::time::Duration;

use super::candidate::Contest;
use super::membership::Membership;
use super::message::{Body, LogEnd, Message, Round};
use super::state::Core;
use super::{Entry, EntryKind, Index, Next};
use crate::ids::MemberId;
use crate::time::Time;

#[derive(Clone, Debug)]
pub(super) struct Follower {
    deadline: Time,
    /// When the leader was last heard.
    heard: Option<Time>,
}

impl Follower {
    pub(super) fn new(core: &mut Core, now: Time) -> Self {
        let heard = core.leader.is_some().then_some(now);
        Self { deadline: first_deadline(core, now), heard }
    }

    pub(super) fn deadline(&self) -> Time {
        self.deadline
    }

    pub(super) fn heard_within(&self, now: Time, duration: Duration) -> bool {
        self.heard.is_some_and(|heard| now < heard + duration)
    }

    /// The leader's process is gone.
    pub(super) fn lose_leader(&mut self, core: &mut Core, now: Time) {
        if self.heard.take().is_some() {
            self.deadline = self.deadline.min(now + core.random_patience());
        }
    }

    /// Somebody else asks for votes already.
    pub(super) fn let_pass(&mut self, core: &mut Core, now: Time) {
        self.deadline = self.deadline.max(now + core.random_patience());
    }

    /// The leader was not heard for an election timeout.
    ///
    /// Learners never stand for election, nor does who will not vote any more. They ask all the same, and do not listen
    /// to the answers: if one was removed while it was away, this is how it learns it.
    pub(super) fn wake(&mut self, core: &mut Core, now: Time) -> Next {
        if may_campaign(core) {
            return Next::Campaign(Contest::PreVote);
        }
        (core.leader, self.heard) = (MemberId::NONE, None);
        self.deadline = now + core.random_election_timeout();
        let last = core.log.last();
        for peer in core.membership.voters_but(core.config.id) {
            core.send(peer, core.term().next(), Body::PreVote { last });
        }
        Next::Stay
    }

    pub(super) fn step(&mut self, core: &mut Core, now: Time, message: Message) -> Next {
        match message.body {
            Body::Append { prev, commit, entries } => {
                if self.hears(core, now, message.from) {
                    accept(core, message.from, prev, commit, entries);
                }
            }
            Body::Heartbeat { commit, round } => {
                if self.hears(core, now, message.from) {
                    answer_heartbeat(core, message.from, commit, round);
                }
            }
            Body::TimeoutNow => {
                if self.hears(core, now, message.from) && may_campaign(core) {
                    return Next::Campaign(Contest::Takeover);
                }
            }
            Body::Vote { last, takeover: _ } => {
                if core.answer_vote(message.from, last) {
                    self.deadline = now + core.random_election_timeout();
                }
            }
            // Answers to questions of an earlier role.
            Body::VoteReply { .. }
            | Body::PreVoteReply { .. }
            | Body::AppendAccepted { .. }
            | Body::AppendRejected { .. }
            | Body::HeartbeatReply { .. } => {}
            Body::PreVote { .. } => unreachable!("answered before the role is asked"),
        }
        Next::Stay
    }

    /// Notes a sign of life of the leader; false if this term has another leader, which only a broken peer
    /// would claim (R1).
    fn hears(&mut self, core: &mut Core, now: Time, from: MemberId) -> bool {
        if core.leader.is_some() && core.leader != from {
            return false;
        }
        core.leader = from;
        self.heard = Some(now);
        self.deadline = now + core.random_election_timeout();
        true
    }
}

/// Who is about to leave may lead until then (thesis §4.3): perhaps only its log is long enough.
fn may_campaign(core: &Core) -> bool {
    core.membership.is_voter(core.config.id)
}

/// A member alone need not wait for anybody: it campaigns at once.
fn first_deadline(core: &mut Core, now: Time) -> Time {
    if core.membership.is_alone(core.config.id) {
        return now;
    }
    now + core.random_election_timeout()
}

/// Takes entries, or says where the logs may agree (thesis §3.5).
fn accept(core: &mut Core, from: MemberId, prev: LogEnd, commit: Index, entries: Vec<Entry>) {
    // No entry says with whom the cluster began. Who joins does not know it, so the log is of no use to it, not even
    // from its beginning: it needs a snapshot, and rejecting the beginning asks for one.
    if !core.log.holds(prev) || core.membership.is_empty() {
        let hint = core.log.may_agree(prev.index, prev.term);
        return core.send(from, core.term(), Body::AppendRejected { prev: prev.index, hint });
    }
    if !follows(core, prev, &entries) {
        return;
    }
    let matched = entries.last().map_or(prev.index, |entry| entry.index);
    core.log.accept(entries, core.hard_state.commit);
    core.commit_to(commit.min(matched));
    core.promise(from, Body::AppendAccepted { matched });
}

/// Whether entries are what a leader may send: whole, behind `prev` without a gap, with terms that never
/// decrease, and no contradiction to what is committed (R4).
fn follows(core: &Core, prev: LogEnd, entries: &[Entry]) -> bool {
    let mut before = prev;
    entries.iter().all(|entry| {
        let place = LogEnd { index: entry.index, term: entry.term };
        let good = place.index == before.index.next()
            && before.term <= place.term
            && place.term <= core.term()
            && (place.index > core.hard_state.commit || core.log.holds(place))
            && entry.crc == Entry::checksum(entry.kind, &entry.data)
            && (entry.kind != EntryKind::Membership
                || Membership::from_entry(entry.data.clone()).is_some());
        before = place;
        good
    })
}

fn answer_heartbeat(core: &mut Core, from: MemberId, commit: Index, round: Round) {
    core.commit_to(commit.min(core.log.last_index()));
    core.send(from, core.term(), Body::HeartbeatReply { round });
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use bytes::Bytes;

    use super::super::message::LogEnd;
    use super::super::testing::one_of_three;
    use super::super::{EntryKind, Term};
    use super::*;

    fn entries(range: core::ops::RangeInclusive<u64>) -> Vec<Entry> {
        let entry = |index| Entry::new(Index(index), Term(2), EntryKind::Command, Bytes::new());
        range.map(entry).collect()
    }

    /// A follower that has acknowledged up to 5, and knows that 2 is committed.
    fn follower() -> super::super::Raft {
        let mut raft = one_of_three(1);
        let (prev, commit) = (LogEnd::default(), Index(2));
        let body = Body::Append { prev, commit, entries: entries(1..=5) };
        let (from, to) = (MemberId(2), MemberId(1));
        raft.step(Time::ZERO, Message { from, to, term: Term(2), body });
        raft
    }

    fn place(index: u64, term: u64) -> LogEnd {
        LogEnd { index: Index(index), term: Term(term) }
    }

    #[test]
    fn what_was_acknowledged_behind_a_snapshot_stays() {
        let mut raft = follower();
        let membership = raft.membership().clone();
        assert!(!raft.restore(place(3, 2), membership.clone()), "the log goes on");
        assert_eq!((raft.hard_state().commit, raft.log().last()), (Index(3), place(5, 2)));
        assert!(raft.restore(place(9, 3), membership), "it begins anew");
        assert_eq!((raft.hard_state().commit, raft.log().last()), (Index(9), place(9, 3)));
    }

    #[test]
    fn who_lost_the_state_takes_a_snapshot_of_what_is_committed() {
        let mut raft = follower();
        assert!(!raft.awaits(place(2, 2)));
        raft.await_state();
        assert!(raft.awaits(place(2, 2)) && raft.is_awaiting_state());
        let membership = raft.membership().clone();
        assert!(!raft.restore(place(2, 2), membership));
        assert!(!raft.is_awaiting_state());
        assert_eq!((raft.hard_state().commit, raft.log().last()), (Index(2), place(5, 2)));
    }
}
