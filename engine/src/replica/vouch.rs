//! What a member whose disk has forgotten its promises may do on the word of the others.
//!
//! A leader is the way back ([`trust`](super::trust)), but sometimes none can be elected without the very member that
//! has forgotten: in a cluster of two, or when the voters before and behind a change have only it in common. Then the
//! others can still tell what it may have promised, as the replicas of Viewstamped Replication do for one that recovers
//! (Liskov and Cowling, "Viewstamped Replication Revisited", 2012, §4.3):
//!
//! - V1 Whatever was decided with its help was decided by a majority, and the rest of that majority has it on disk: the
//!   term, if it was an election, or the entry. So it asks every voter, under the name of its present start, and
//!   waits for so many answers that no majority is without one of them; in both halves, while two sets of voters
//!   overlap. Who voted alone gets no such answers.
//! - V2 Which voters these are, says the answer with the newest log. It obeys the membership that counts now or the one
//!   before, and those have a half in common ([`membership`](crate::raft::membership)), in which every decision had a
//!   majority, and of which one therefore answered. No election by voters of still longer ago was won in a term that
//!   it does not know: a majority of them holds the change by which they were left behind.
//! - V3 From then on it votes in later terms than any of these answers knows, and for logs as new as the newest of
//!   them: everything that it helped to decide is in there.
//! - V4 It acknowledges again once it follows a leader of such a term and its own log is as new as that: then its
//!   log keeps it from voting for others, as everybody's.
//!
//! An answer is asked for under the name of this start, so none is older than what was forgotten.

use alloc::collections::BTreeMap;

use crate::ids::MemberId;
use crate::peer::Vouch;
use crate::raft::Term;
use crate::raft::membership::Membership;
use crate::raft::message::{Body, LogEnd};

/// More than a cluster has voters: nobody fills a member's memory with words.
const VOUCHERS_MAX: usize = 64;

/// What the others said since this member started.
#[derive(Debug, Default)]
pub(super) struct Vouchers {
    words: BTreeMap<MemberId, Vouch>,
    /// The vote that was given on their word: it is not written down, because at the next start they are asked again.
    voted: Option<(Term, MemberId)>,
    /// This member has promised on their word.
    pub(super) sufficed: bool,
}

/// What the others know: nothing that this member may have promised goes beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Floor {
    term: Term,
    last: LogEnd,
}

impl Vouchers {
    /// Notes an answer; a later one of the same member takes its place.
    pub(super) fn hear(&mut self, from: MemberId, vouch: Vouch) {
        if self.words.len() < VOUCHERS_MAX || self.words.contains_key(&from) {
            self.words.insert(from, vouch);
        }
    }

    /// Whether a member has answered.
    pub(super) fn have_heard(&self, from: MemberId) -> bool {
        self.words.contains_key(&from)
    }

    /// What `own` may have promised at most, if enough have answered (V1, V2).
    pub(super) fn floor(&self, own: MemberId) -> Option<Floor> {
        let newest = self.words.values().max_by_key(|word| (word.last.term, word.last.index))?;
        if !self.are_enough(own, &newest.membership) {
            return None;
        }
        let term = self.words.values().map(|word| word.term).max()?;
        Some(Floor { term, last: newest.last })
    }

    fn are_enough(&self, own: MemberId, membership: &Membership) -> bool {
        // Who joins and knows no members yet can tell nothing of what majorities did.
        !membership.is_empty()
            && membership.halves().all(|half| {
                let is_unheard = |id: &&MemberId| **id != own && !self.have_heard(**id);
                let unheard = half.iter().filter(is_unheard).count();
                let others_in_majority = half.len() / 2 + usize::from(!half.contains(&own));
                unheard < others_in_majority
            })
    }

    /// Whether a member may be voted for (V3).
    pub(super) fn admit(&self, own: MemberId, from: MemberId, term: Term, body: &Body) -> bool {
        let (Body::PreVote { last } | Body::Vote { last, .. }) = body else { return false };
        let is_free = match self.voted {
            Some((voted, _)) if voted < term => true,
            Some(voted) => voted == (term, from),
            None => true,
        };
        let reaches = |floor: Floor| term > floor.term && last.is_as_new_as(floor.last);
        is_free && self.floor(own).is_some_and(reaches)
    }

    /// Notes a vote.
    pub(super) fn note_vote(&mut self, term: Term, vote: MemberId) {
        self.voted = Some((term, vote));
    }

    /// Whether a log that ends at `last`, whose member follows a leader of `term`, is enough to promise on (V4).
    pub(super) fn suffice(&self, own: MemberId, term: Term, last: LogEnd) -> bool {
        self.floor(own).is_some_and(|floor| term >= floor.term && last.is_as_new_as(floor.last))
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::raft::Index;

    const OWN: MemberId = MemberId(1);

    fn ids(numbers: &[u64]) -> Vec<MemberId> {
        numbers.iter().copied().map(MemberId).collect()
    }

    fn place(term: u64, index: u64) -> LogEnd {
        LogEnd { term: Term(term), index: Index(index) }
    }

    /// Answers of these members, who all know the same.
    fn heard(numbers: &[u64], membership: &Membership) -> Vouchers {
        let mut vouchers = Vouchers::default();
        for from in ids(numbers) {
            let membership = membership.clone();
            vouchers.hear(from, Vouch { term: Term(5), last: place(4, 10), membership });
        }
        vouchers
    }

    #[test]
    fn no_majority_with_the_member_that_forgot_may_be_unheard() {
        let of = |numbers: &[u64]| Membership::new(ids(numbers));
        let cases: [(Membership, &[u64], bool); 18] = [
            (of(&[]), &[2, 3], false),
            (of(&[1]), &[], false),
            (of(&[1]), &[2], false),
            (of(&[1, 2]), &[], false),
            (of(&[1, 2]), &[2], true),
            (of(&[1, 2, 3]), &[2], false),
            (of(&[1, 2, 3]), &[2, 4, 5], false),
            (of(&[1, 2, 3]), &[2, 3], true),
            (of(&[1, 2, 3, 4]), &[2, 3], true),
            (of(&[1, 2, 3, 4, 5]), &[2, 3], false),
            (of(&[1, 2, 3, 4, 5]), &[2, 3, 5], true),
            (of(&[1]).to(ids(&[1, 2]), []), &[2], false),
            (of(&[2]).to(ids(&[1, 2]), []), &[2], true),
            (of(&[1, 2, 3]).to(ids(&[1, 4, 5]), []), &[2, 3, 4], false),
            (of(&[1, 2, 3]).to(ids(&[1, 3]), []), &[2, 3], true),
            (of(&[1, 2, 3]).to(ids(&[1, 3]), []), &[3], false),
            (of(&[2, 3, 4]), &[2], false),
            (of(&[2, 3, 4]), &[2, 4], true),
        ];
        for (membership, answers, expected) in cases {
            let floor = heard(answers, &membership).floor(OWN);
            assert_eq!(floor.is_some(), expected, "{membership:?}, {answers:?}");
        }
    }

    #[test]
    fn the_newest_log_says_who_the_voters_are() {
        let mut vouchers = heard(&[2, 3], &Membership::new(ids(&[1, 2, 3])));
        assert!(vouchers.floor(OWN).is_some());
        let joint = Membership::new(ids(&[1, 2, 3])).to(ids(&[1, 4, 5]), []);
        let word = Vouch { term: Term(5), last: place(4, 11), membership: joint };
        vouchers.hear(MemberId(3), word);
        assert_eq!(vouchers.floor(OWN), None, "4 and 5 may know more");
    }

    #[test]
    fn it_votes_once_in_a_later_term_for_a_log_as_new_as_the_newest() {
        let mut vouchers = heard(&[2, 3], &Membership::new(ids(&[1, 2, 3])));
        let admits = |vouchers: &Vouchers, from, term, last| {
            let body = Body::Vote { last, takeover: false };
            vouchers.admit(OWN, MemberId(from), Term(term), &body)
        };
        assert!(admits(&vouchers, 2, 6, place(4, 10)));
        assert!(!admits(&vouchers, 2, 5, place(4, 10)), "perhaps it voted in that term");
        assert!(!admits(&vouchers, 2, 6, place(4, 9)), "perhaps it acknowledged the rest");
        vouchers.note_vote(Term(6), MemberId(2));
        assert!(admits(&vouchers, 2, 6, place(4, 10)) && !admits(&vouchers, 3, 6, place(4, 10)));
        assert!(admits(&vouchers, 3, 7, place(5, 1)));
    }

    #[test]
    fn it_acknowledges_once_its_own_log_is_as_new() {
        let vouchers = heard(&[2], &Membership::new(ids(&[1, 2])));
        assert!(vouchers.suffice(OWN, Term(5), place(4, 10)));
        assert!(!vouchers.suffice(OWN, Term(4), place(4, 10)));
        assert!(!vouchers.suffice(OWN, Term(6), place(4, 9)));
    }
}
