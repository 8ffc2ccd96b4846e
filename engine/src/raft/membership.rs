//! Who takes part in the agreement.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::ids::MemberId;

/// The voters of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    voters: BTreeSet<MemberId>,
}

impl Membership {
    /// A cluster of these voters.
    pub fn new(voters: impl IntoIterator<Item = MemberId>) -> Self {
        Self { voters: voters.into_iter().collect() }
    }

    /// Whether a member votes.
    pub fn is_voter(&self, id: MemberId) -> bool {
        self.voters.contains(&id)
    }

    /// Whether a member is the only voter.
    pub fn is_alone(&self, id: MemberId) -> bool {
        self.voters.len() == 1 && self.is_voter(id)
    }

    /// All voters, ascending.
    pub fn voters(&self) -> impl Iterator<Item = MemberId> {
        self.voters.iter().copied()
    }

    /// All voters but one.
    pub fn voters_but(&self, id: MemberId) -> Vec<MemberId> {
        self.voters().filter(|voter| *voter != id).collect()
    }

    /// How many voters make a majority.
    pub fn majority(&self) -> usize {
        self.voters.len() / 2 + 1
    }
}
