//! The role between following and leading: count who would, or does, vote for this member.

use alloc::collections::BTreeMap;

use super::Next;
use super::message::{Body, Message};
use super::quorum::{Tally, tally};
use super::state::Core;
use crate::ids::MemberId;
use crate::time::Time;

/// What is being contested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contest {
    /// Whether an election could be won: nobody's term changes (thesis §9.6).
    PreVote,
    /// The election of the next term.
    Vote,
    /// The same, at the wish of the present leader (thesis §3.10).
    Takeover,
}

#[derive(Clone, Debug)]
pub(super) struct Candidate {
    contest: Contest,
    votes: BTreeMap<MemberId, bool>,
    deadline: Time,
}

impl Candidate {
    /// Asks every other voter. What follows at once, if this member is alone.
    pub(super) fn new(core: &mut Core, now: Time, contest: Contest) -> (Self, Next) {
        let id = core.config.id;
        let deadline = now + core.random_election_timeout();
        let mut candidate = Self { contest, votes: BTreeMap::new(), deadline };
        let last = core.log.last();
        let others = core.membership.voters_but(id);
        let next = match contest {
            Contest::PreVote => {
                let term = core.term().next();
                for peer in others {
                    core.send(peer, term, Body::PreVote { last });
                }
                candidate.count(core, id, true)
            }
            Contest::Vote | Contest::Takeover => {
                core.begin_term(core.term().next(), id);
                // Nobody is asked before the term is durable. Were it forgotten, nobody but a voter would know of it, and
                // one that lost its memory could, on the word of the others, vote in it once more.
                for peer in others {
                    let takeover = contest == Contest::Takeover;
                    core.promise(peer, Body::Vote { last, takeover });
                }
                // The own vote counts once it is durable, like anybody's.
                core.promise(id, Body::VoteReply { granted: true });
                Next::Stay
            }
        };
        (candidate, next)
    }

    pub(super) fn deadline(&self) -> Time {
        self.deadline
    }

    /// Nobody won in time: ask again.
    pub(super) fn wake(&self) -> Next {
        Next::Campaign(Contest::PreVote)
    }

    pub(super) fn step(&mut self, core: &mut Core, message: &Message) -> Next {
        match (&message.body, self.contest) {
            (Body::VoteReply { granted }, Contest::Vote | Contest::Takeover) => {
                self.count(core, message.from, *granted)
            }
            (Body::PreVoteReply { granted: false, .. }, Contest::PreVote) => {
                self.count(core, message.from, false)
            }
            (Body::Vote { last, takeover: _ }, _) => {
                core.answer_vote(message.from, *last);
                Next::Stay
            }
            // Answers to questions of an earlier role. Words of a leader end this role before they get here.
            (
                Body::PreVote { .. }
                | Body::PreVoteReply { .. }
                | Body::VoteReply { .. }
                | Body::Append { .. }
                | Body::AppendAccepted { .. }
                | Body::AppendRejected { .. }
                | Body::Heartbeat { .. }
                | Body::HeartbeatReply { .. }
                | Body::TimeoutNow,
                _,
            ) => Next::Stay,
        }
    }

    /// Counts an answer.
    pub(super) fn count(&mut self, core: &Core, from: MemberId, granted: bool) -> Next {
        self.votes.entry(from).or_insert(granted);
        match (tally(&core.membership, &self.votes), self.contest) {
            (Tally::Won, Contest::PreVote) => Next::Campaign(Contest::Vote),
            (Tally::Won, Contest::Vote | Contest::Takeover) => Next::Lead,
            (Tally::Lost, _) => Next::Follow { leader: MemberId::NONE },
            (Tally::Open, _) => Next::Stay,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::super::testing::one_of_three;
    use super::super::{Raft, RoleName};
    use super::*;

    /// Carries messages until none is left; those to the third are lost.
    fn talk(members: &mut [Raft; 2], now: Time) {
        loop {
            let mut said = Vec::new();
            for member in members.iter_mut() {
                said.extend(core::iter::from_fn(|| member.poll_message()).map(|out| out.message));
            }
            if said.is_empty() {
                return;
            }
            for message in said {
                match message.to {
                    MemberId(1) => members[0].step(now, message),
                    MemberId(2) => members[1].step(now, message),
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn of_two_who_campaign_at_once_one_wins() {
        let mut members = [one_of_three(1), one_of_three(2)];
        let now = members[0].deadline().max(members[1].deadline());
        members.iter_mut().for_each(|member| member.wake(now));
        assert!(members.iter().all(|member| member.role() == RoleName::PreCandidate));
        talk(&mut members, now);
        assert_eq!(members[0].role(), RoleName::Follower);
        assert_eq!(members[1].role(), RoleName::Leader);
    }

    #[test]
    fn who_would_vote_for_another_does_not_campaign_at_once() {
        let mut members = [one_of_three(1), one_of_three(2)];
        let now = members[0].deadline().max(members[1].deadline());
        members[0].wake(now);
        let asked = core::iter::from_fn(|| members[0].poll_message()).map(|out| out.message);
        let asked: Vec<_> = asked.filter(|message| message.to == MemberId(2)).collect();
        asked.into_iter().for_each(|message| members[1].step(now, message));
        members[1].wake(now);
        assert_eq!(members[1].role(), RoleName::Follower);
        talk(&mut members, now);
        assert_eq!(members[0].role(), RoleName::Leader);
    }
}
