//! Majorities: of votes, and of numbers. While two sets of voters overlap, of both (thesis §4.3).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::membership::Membership;
use crate::ids::MemberId;

/// How an election stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tally {
    /// A majority said yes.
    Won,
    /// A majority cannot say yes any more.
    Lost,
    /// Neither yet.
    Open,
}

/// Counts votes; those of strangers do not count.
pub(super) fn tally(membership: &Membership, votes: &BTreeMap<MemberId, bool>) -> Tally {
    let halves: Vec<_> = membership.halves().map(|half| tally_half(half, votes)).collect();
    if halves.contains(&Tally::Lost) {
        Tally::Lost
    } else if !halves.is_empty() && halves.iter().all(|half| *half == Tally::Won) {
        Tally::Won
    } else {
        Tally::Open
    }
}

fn tally_half(voters: &BTreeSet<MemberId>, votes: &BTreeMap<MemberId, bool>) -> Tally {
    let said =
        |answer: bool| voters.iter().filter(|voter| votes.get(voter) == Some(&answer)).count();
    if said(true) >= majority(voters) {
        Tally::Won
    } else if voters.len() - said(false) < majority(voters) {
        Tally::Lost
    } else {
        Tally::Open
    }
}

/// The highest number that a majority of the voters has reached; while two sets overlap, of each.
///
/// # Panics
/// If nobody votes.
pub(super) fn reached_by_majority<T: Copy + Ord>(
    membership: &Membership,
    reached: impl Fn(MemberId) -> T,
) -> T {
    let of_half = |voters: &BTreeSet<MemberId>| {
        let mut numbers: Vec<T> = voters.iter().map(|voter| reached(*voter)).collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        numbers[majority(voters) - 1]
    };
    membership.halves().map(of_half).min().expect("a cluster has a voter")
}

/// How many voters make a majority.
fn majority(voters: &BTreeSet<MemberId>) -> usize {
    voters.len() / 2 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: &[u64]) -> Vec<MemberId> {
        numbers.iter().copied().map(MemberId).collect()
    }

    fn members(count: u64) -> Membership {
        Membership::new((1..=count).map(MemberId))
    }

    fn check_votes(membership: &Membership, votes: &[(u64, bool)], expected: Tally) {
        let votes = votes.iter().map(|(id, granted)| (MemberId(*id), *granted)).collect();
        assert_eq!(tally(membership, &votes), expected, "{membership:?}, {votes:?}");
    }

    #[test]
    fn an_election_is_won_lost_or_open() {
        let check = |count, votes: &[_], expected| check_votes(&members(count), votes, expected);
        check(1, &[], Tally::Open);
        check(1, &[(1, true)], Tally::Won);
        check(3, &[(1, true)], Tally::Open);
        check(3, &[(1, true), (9, true)], Tally::Open);
        check(3, &[(1, true), (2, true)], Tally::Won);
        check(3, &[(1, false), (2, false)], Tally::Lost);
        check(4, &[(1, true), (2, true)], Tally::Open);
        check(4, &[(1, true), (2, false), (3, false)], Tally::Lost);
        check(0, &[(1, true)], Tally::Open);
    }

    #[test]
    fn a_joint_election_is_won_in_both_halves_and_lost_in_one() {
        let joint = members(3).to(ids(&[3, 4, 5]), []);
        let check = |votes: &[_], expected| check_votes(&joint, votes, expected);
        check(&[(1, true), (2, true)], Tally::Open);
        check(&[(1, true), (2, true), (4, true)], Tally::Open);
        check(&[(1, true), (3, true), (4, true)], Tally::Won);
        check(&[(1, true), (2, true), (4, true), (5, true)], Tally::Won);
        check(&[(1, true), (2, true), (3, true), (4, false), (5, false)], Tally::Lost);
        check(&[(1, false), (2, false)], Tally::Lost);
    }

    #[test]
    fn a_majority_reached_the_median_rounded_down() {
        let cases: [(&[u64], u64); 5] =
            [(&[7], 7), (&[7, 9], 7), (&[1, 5, 9], 5), (&[1, 5, 9, 9], 5), (&[1, 1, 1, 9, 9], 1)];
        for (numbers, expected) in cases {
            let count = u64::try_from(numbers.len()).unwrap();
            let of = |id: MemberId| numbers[usize::try_from(id.0).unwrap() - 1];
            assert_eq!(reached_by_majority(&members(count), of), expected, "{numbers:?}");
        }
    }

    #[test]
    fn a_joint_majority_reached_what_both_halves_reached() {
        let joint = members(3).to(ids(&[3, 4]), []);
        let numbers = [9, 8, 7, 1];
        let of = |id: MemberId| numbers[usize::try_from(id.0).unwrap() - 1];
        assert_eq!(reached_by_majority(&joint, of), 1, "4 is needed");
        assert_eq!(reached_by_majority(&joint.left(), of), 1);
        assert_eq!(reached_by_majority(&members(3).to(ids(&[1, 2]), []), of), 8);
    }

    #[test]
    fn learners_do_not_count() {
        let membership = members(1).with_learners(ids(&[2, 3]));
        check_votes(&membership, &[(2, true), (3, true)], Tally::Open);
        assert_eq!(reached_by_majority(&membership, |id| id.0), 1);
    }
}
