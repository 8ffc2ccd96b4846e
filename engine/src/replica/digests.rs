//! Whether this member's state is the others'.
//!
//! The digest of the state says what every applied entry did ([`StateMachine::digest`]). A leader tells its digest to
//! every member twice a second, and each answers with its own for the same index. Where they differ, a majority
//! is right: with three members and one that differs, it is clear whose state is wrong; with two it is only clear
//! that one is.
//!
//! [`StateMachine::digest`]: crate::state_machine::StateMachine::digest

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use crate::convert::to_usize;
use crate::ids::MemberId;
use crate::raft::Index;
use crate::raft::membership::Membership;

/// Digests that are remembered, of the latest entries: what a member may lag and still be compared.
const REMEMBERED: usize = 16 * 1024;

#[derive(Debug, Default)]
pub(super) struct Digests {
    /// The digest after each of the latest entries, the last one's last.
    recent: VecDeque<u64>,
    last: Index,
    /// What the leader said about an index that is not applied here yet.
    claim: Option<(MemberId, Index)>,
    /// At a leader: what it asked last, and what others said.
    asked: Option<(Index, u64)>,
    answers: BTreeMap<MemberId, u64>,
}

/// What a member said to a leader that asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) from: MemberId,
    pub(super) index: Index,
    pub(super) digest: u64,
}

impl Digests {
    /// Notes the digest after an entry.
    pub(super) fn push(&mut self, index: Index, digest: u64) {
        if index != self.last.next() {
            self.recent.clear();
        }
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(digest);
        self.last = index;
    }

    /// The digest after an entry, if it is remembered.
    fn at(&self, index: Index) -> Option<u64> {
        let back = to_usize(self.last.0.checked_sub(index.0)?);
        let place = self.recent.len().checked_sub(back + 1)?;
        self.recent.get(place).copied()
    }

    /// What a leader says to all others.
    pub(super) fn ask(&mut self) -> Option<(Index, u64)> {
        let digest = *self.recent.back()?;
        self.asked = Some((self.last, digest));
        self.answers.clear();
        self.asked
    }

    /// Takes a leader's digest; answered by [`Digests::answer`], perhaps later.
    pub(super) fn asked_by(&mut self, leader: MemberId, index: Index) {
        self.claim = Some((leader, index));
    }

    /// The answer to a leader that asked, when there is one: whom to tell, the index and the digest.
    pub(super) fn answer(&mut self) -> Option<(MemberId, Index, u64)> {
        let (leader, index) = self.claim?;
        if index > self.last {
            return None;
        }
        self.claim = None;
        self.at(index).map(|digest| (leader, index, digest))
    }

    /// Takes a member's answer to what this leader asked last. Who is wrong, if that is clear now: those whose digest
    /// is not that of a majority of the voters; where no majority can agree any more, everybody but this leader who
    /// differs from it.
    pub(super) fn answered(
        &mut self,
        own: MemberId,
        membership: &Membership,
        Answer { from, index, digest }: Answer,
    ) -> Vec<MemberId> {
        let Some((_, own_digest)) = self.asked.filter(|(asked, _)| *asked == index) else {
            return Vec::new();
        };
        self.answers.insert(from, digest);
        if self.answers.values().all(|answer| *answer == own_digest) {
            return Vec::new();
        }
        self.answers.insert(own, own_digest);
        let voters: Vec<_> = membership.voters().collect();
        let said = |wanted: u64| {
            voters.iter().filter(|voter| self.answers.get(voter) == Some(&wanted)).count()
        };
        let right = self.answers.values().copied().find(|answer| said(*answer) > voters.len() / 2);
        let everybody = voters.iter().all(|voter| self.answers.contains_key(voter));
        let right = right.or_else(|| everybody.then_some(own_digest));
        let wrong = right.map_or_else(Vec::new, |right| {
            let differs = |(_, answer): &(&MemberId, &u64)| **answer != right;
            self.answers.iter().filter(differs).map(|(id, _)| *id).collect()
        });
        self.answers.remove(&own);
        wrong
    }

    /// Another state took the place of this one.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digests(from: u64, values: &[u64]) -> Digests {
        let mut digests = Digests::default();
        for (index, value) in (from..).zip(values) {
            digests.push(Index(index), *value);
        }
        digests
    }

    #[test]
    fn a_leaders_question_is_answered_once_the_entry_is_applied() {
        let mut follower = digests(5, &[50, 60]);
        follower.asked_by(MemberId(1), Index(7));
        assert_eq!(follower.answer(), None);
        follower.push(Index(7), 70);
        follower.push(Index(8), 80);
        assert_eq!(follower.answer(), Some((MemberId(1), Index(7), 70)));
        assert_eq!(follower.answer(), None, "once");
        follower.asked_by(MemberId(1), Index(4));
        assert_eq!(follower.answer(), None, "too long ago");
    }

    #[test]
    fn a_majority_is_right_whoever_leads() {
        let membership = Membership::new((1..=3).map(MemberId));
        let judge = |answers: &[(u64, u64)]| {
            let mut leader = digests(1, &[10]);
            assert_eq!(leader.ask(), Some((Index(1), 10)));
            let mut wrong = Vec::new();
            for (from, digest) in answers {
                let answer = Answer { from: MemberId(*from), index: Index(1), digest: *digest };
                wrong = leader.answered(MemberId(1), &membership, answer);
            }
            wrong
        };
        assert_eq!(judge(&[(2, 10), (3, 10)]), []);
        assert_eq!(judge(&[(2, 11)]), [], "one against one: not clear yet");
        assert_eq!(judge(&[(2, 11), (3, 10)]), [MemberId(2)]);
        assert_eq!(judge(&[(2, 11), (3, 11)]), [MemberId(1)]);
        assert_eq!(judge(&[(2, 11), (3, 12)]), [MemberId(2), MemberId(3)]);
    }

    #[test]
    fn answers_to_earlier_questions_do_not_count() {
        let membership = Membership::new((1..=2).map(MemberId));
        let mut leader = digests(1, &[10, 20]);
        leader.ask();
        let mut hears = |index| {
            let answer = Answer { from: MemberId(2), index: Index(index), digest: 99 };
            leader.answered(MemberId(1), &membership, answer)
        };
        assert_eq!(hears(1), []);
        assert_eq!(hears(2), [MemberId(2)], "of two, the leader's word counts");
    }
}
