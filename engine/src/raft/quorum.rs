//! Majorities: of votes, and of numbers.

use alloc::collections::BTreeMap;
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
    let said = |answer: bool| {
        membership.voters().filter(|voter| votes.get(voter) == Some(&answer)).count()
    };
    let total = membership.voters().count();
    if said(true) >= membership.majority() {
        Tally::Won
    } else if total - said(false) < membership.majority() {
        Tally::Lost
    } else {
        Tally::Open
    }
}

/// The highest number that a majority of the voters has reached.
pub(super) fn reached_by_majority<T: Copy + Ord>(
    membership: &Membership,
    reached: impl Fn(MemberId) -> T,
) -> T {
    let mut numbers: Vec<T> = membership.voters().map(reached).collect();
    assert!(!numbers.is_empty(), "a cluster has a voter");
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    numbers[membership.majority() - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(count: u64) -> Membership {
        Membership::new((1..=count).map(MemberId))
    }

    #[test]
    fn an_election_is_won_lost_or_open() {
        let check = |count, votes: &[(u64, bool)], expected| {
            let votes = votes.iter().map(|(id, granted)| (MemberId(*id), *granted)).collect();
            assert_eq!(tally(&members(count), &votes), expected, "{count} members, {votes:?}");
        };
        check(1, &[], Tally::Open);
        check(1, &[(1, true)], Tally::Won);
        check(3, &[(1, true)], Tally::Open);
        check(3, &[(1, true), (9, true)], Tally::Open);
        check(3, &[(1, true), (2, true)], Tally::Won);
        check(3, &[(1, false), (2, false)], Tally::Lost);
        check(4, &[(1, true), (2, true)], Tally::Open);
        check(4, &[(1, true), (2, false), (3, false)], Tally::Lost);
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
}
