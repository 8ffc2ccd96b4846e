//! Who takes part in the agreement, and how that changes.
//!
//! ```text
//!           enter: committed by the voters            leave: committed by a majority
//!           of before                                 of both halves
//! ┌────────┐ ─────────────────────► ┌────────────────┐ ─────────────────────► ┌────────┐
//! │ voters │                        │ voters         │                        │ voters │
//! │        │                        │ outgoing ≠ ∅   │                        │        │
//! └────────┘                        └────────────────┘                        └────────┘
//! ```
//!
//! A change of the voters goes by way of joint consensus (thesis §4.3), whatever it is: while two sets of voters
//! overlap in time, a majority of each must agree, so no two leaders can be elected and nothing be committed by
//! sets that do not meet. Learners vote for nothing, so they come and go in one step.
//!
//! A change is an entry that carries the whole new membership. Like etcd, and unlike the thesis, a member obeys it
//! when it knows the entry to be *committed*, not when it appends it: then adding a second member to a cluster of
//! one is committed by that one, and whoever adds can be answered before the new member is started. What makes
//! this safe are two rules of the leader (C1, C2 in [`leader`](super::leader)).
//!
//! On the wire and in the log: `varint n, n × u64 id` for voters, outgoing and learners, little-endian.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::encoding::{decode_varint, encode_varint};

use crate::convert::{to_u64, to_usize};
use crate::ids::MemberId;

/// The voters and learners of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    voters: BTreeSet<MemberId>,
    /// While two sets of voters overlap: those of before.
    outgoing: BTreeSet<MemberId>,
    /// Those who take the log and do not vote; or will, once the overlap is over.
    learners: BTreeSet<MemberId>,
}

impl Membership {
    /// A cluster of these voters.
    pub fn new(voters: impl IntoIterator<Item = MemberId>) -> Self {
        Self { voters: voters.into_iter().collect(), ..Self::default() }
    }

    /// The same cluster with these learners beside its voters.
    ///
    /// # Panics
    /// If one of them votes.
    #[must_use]
    pub fn with_learners(mut self, learners: impl IntoIterator<Item = MemberId>) -> Self {
        self.learners = learners.into_iter().collect();
        assert!(self.learners.is_disjoint(&self.voters), "a learner does not vote");
        self
    }

    /// The membership on the way to other voters and learners: joint, if the voters change.
    #[must_use]
    pub fn to(
        &self,
        voters: impl IntoIterator<Item = MemberId>,
        learners: impl IntoIterator<Item = MemberId>,
    ) -> Self {
        let mut next = Self::new(voters).with_learners(learners);
        if next.voters != self.voters {
            next.outgoing = self.voters.clone();
        }
        next
    }

    /// The membership when the overlap is over.
    #[must_use]
    pub fn left(&self) -> Self {
        Self { outgoing: BTreeSet::new(), ..self.clone() }
    }

    /// Whether two sets of voters overlap.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether nobody takes part: so begins a member that joins, until a leader tells it more.
    pub fn is_empty(&self) -> bool {
        self.voters.is_empty()
    }

    /// Whether a member votes.
    pub fn is_voter(&self, id: MemberId) -> bool {
        self.voters.contains(&id) || self.outgoing.contains(&id)
    }

    /// Whether a member takes the log and does not vote.
    pub fn is_learner(&self, id: MemberId) -> bool {
        self.learners.contains(&id) && !self.is_voter(id)
    }

    /// Whether a member is one at all.
    pub fn contains(&self, id: MemberId) -> bool {
        self.is_voter(id) || self.learners.contains(&id)
    }

    /// Whether a member is the only voter: what it decides needs nobody else.
    pub fn is_alone(&self, id: MemberId) -> bool {
        self.voters.len() == 1 && self.voters.contains(&id) && !self.is_joint()
    }

    /// All who vote, ascending.
    pub fn voters(&self) -> impl Iterator<Item = MemberId> {
        self.voters.union(&self.outgoing).copied()
    }

    /// Those who will vote when the overlap is over, ascending; without one, all who vote.
    pub fn incoming(&self) -> impl Iterator<Item = MemberId> {
        self.voters.iter().copied()
    }

    /// Those who do not vote, or will not when the overlap is over, ascending.
    pub fn learners(&self) -> impl Iterator<Item = MemberId> {
        self.learners.iter().copied()
    }

    /// Everybody, ascending.
    pub fn members(&self) -> impl Iterator<Item = MemberId> {
        let voters: BTreeSet<_> = self.voters().collect();
        voters.union(&self.learners).copied().collect::<Vec<_>>().into_iter()
    }

    /// All voters but one.
    pub fn voters_but(&self, id: MemberId) -> Vec<MemberId> {
        self.voters().filter(|voter| *voter != id).collect()
    }

    /// The sets of voters of each of which a majority must agree: one, or two while they overlap.
    pub(crate) fn halves(&self) -> impl Iterator<Item = &BTreeSet<MemberId>> {
        [&self.voters, &self.outgoing].into_iter().filter(|half| !half.is_empty())
    }

    /// Appends the membership as bytes.
    pub fn encode(&self, out: &mut impl BufMut) {
        for set in [&self.voters, &self.outgoing, &self.learners] {
            encode_varint(to_u64(set.len()), out);
            set.iter().for_each(|id| out.put_u64_le(id.0));
        }
    }

    /// Reads a membership; `None` if these bytes are none.
    pub fn decode(bytes: &mut impl Buf) -> Option<Self> {
        let mut set = || {
            let count = decode_varint(bytes).ok()?;
            if count > to_u64(bytes.remaining() / size_of::<u64>()) {
                return None;
            }
            Some((0..count).map(|_| MemberId(bytes.get_u64_le())).collect::<BTreeSet<_>>())
        };
        let (voters, outgoing, learners) = (set()?, set()?, set()?);
        learners.is_disjoint(&voters).then_some(Self { voters, outgoing, learners })
    }

    /// The data of an entry that changes the membership to this: the membership with its length before it, then
    /// whatever else the change means.
    pub fn to_entry(&self, context: &[u8]) -> Bytes {
        let mut membership = Vec::new();
        self.encode(&mut membership);
        let mut data = BytesMut::with_capacity(membership.len() + context.len() + 5);
        encode_varint(to_u64(membership.len()), &mut data);
        data.extend_from_slice(&membership);
        data.extend_from_slice(context);
        data.freeze()
    }

    /// What the data of such an entry says; `None` if it is none.
    pub fn from_entry(mut data: Bytes) -> Option<(Self, Bytes)> {
        let length = decode_varint(&mut data).ok()?;
        if length > to_u64(data.len()) {
            return None;
        }
        let mut bytes = data.split_to(to_usize(length));
        let membership = Self::decode(&mut bytes)?;
        // A cluster has a voter, always.
        (bytes.is_empty() && !membership.is_empty()).then_some((membership, data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: &[u64]) -> Vec<MemberId> {
        numbers.iter().copied().map(MemberId).collect()
    }

    #[test]
    fn only_a_change_of_voters_is_joint() {
        let three = Membership::new(ids(&[1, 2, 3]));
        assert!(!three.to(ids(&[1, 2, 3]), ids(&[4])).is_joint());
        let joint = three.to(ids(&[1, 2]), ids(&[3]));
        assert!(joint.is_joint());
        assert!(joint.is_voter(MemberId(3)) && !joint.is_learner(MemberId(3)), "until it is left");
        assert_eq!(joint.members().collect::<Vec<_>>(), ids(&[1, 2, 3]));
        let left = joint.left();
        assert!(left.is_learner(MemberId(3)) && !left.is_joint());
        assert_eq!(left.voters().collect::<Vec<_>>(), ids(&[1, 2]));
    }

    #[test]
    fn who_is_alone_decides_without_others() {
        let one = Membership::new(ids(&[1]));
        assert!(one.is_alone(MemberId(1)));
        assert!(one.to(ids(&[1]), ids(&[2])).is_alone(MemberId(1)), "learners do not count");
        assert!(!one.to(ids(&[1, 2]), []).is_alone(MemberId(1)));
        let shrinking = Membership::new(ids(&[1, 2])).to(ids(&[1]), []);
        assert!(!shrinking.is_alone(MemberId(1)), "the other still counts");
        assert!(shrinking.left().is_alone(MemberId(1)));
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        let joint = Membership::new(ids(&[1, 2, 3])).to(ids(&[1, 2, u64::MAX]), ids(&[3]));
        let data = joint.to_entry(b"why");
        assert_eq!(Membership::from_entry(data), Some((joint, Bytes::from_static(b"why"))));
    }

    #[test]
    fn other_bytes_are_refused() {
        let good = Membership::new(ids(&[1, 2])).with_learners(ids(&[3])).to_entry(b"");
        for length in 0..good.len() {
            assert_eq!(Membership::from_entry(good.slice(..length)), None, "{length} bytes");
        }
        let nobody = Membership::default().to_entry(b"");
        assert_eq!(Membership::from_entry(nobody), None, "a cluster has a voter");
        let huge =
            Bytes::from_static(&[10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
        assert_eq!(Membership::from_entry(huge), None);
    }
}
