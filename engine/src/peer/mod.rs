//! What members say to each other.
//!
//! Most of it is Raft's ([`crate::raft::message`]). Beside that, members pass on what clients asked of one that does
//! not lead, ask from where on a read is current, compare their states, and bring each other snapshots. All of it
//! may be lost, doubled, late or out of order; none of it is believed further than its own checks go.
//!
//! # Who is who
//!
//! A member's id stands for a promise: what this member voted for and acknowledged is on its disk. A disk that was
//! wiped, or set back to an older copy, breaks that promise without knowing. So each start of a member has an
//! [`Incarnation`], each member's latest one is part of the replicated state, and every message says which one its
//! sender knows of its receiver ([`Known`]). What a member does about it is in [`crate::replica`], `trust.rs`.
//!
//! # As bytes
//!
//! [`codec`] makes bytes of messages and messages of bytes, [`frame`] cuts a stream of bytes into what was sent, and
//! [`hello`] is how a connection begins.
//!
//! # Limits
//!
//! A member with a valid identity that lies is not defended against, beyond that it cannot crash the others.

pub mod codec;
pub mod frame;
pub mod hello;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;

use crate::api::Error;
use crate::ids::MemberId;
use crate::lease::ClusterTime;
use crate::raft::membership::Membership;
use crate::raft::message::LogEnd;
use crate::raft::{self, Index, Term};

/// One start of a member on one disk. Drawn at random by the driver, so that no two are the same; zero is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

impl Incarnation {
    /// None: a member that was never started, or whose disk is not to be counted on.
    pub const NONE: Self = Self(0);
    /// That of a member whose disk is known to be lost: none that it has is this one.
    pub const FORGOTTEN: Self = Self(u64::MAX);

    /// Whether this is one.
    pub const fn is_some(self) -> bool {
        self.0 != 0
    }
}

/// What the sender of a message knows of its receiver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Known {
    /// The sender may not have heard the latest: it does not lead, or not for long enough.
    #[default]
    Unsure,
    /// The leader's word, which includes everything that was committed before it led.
    Settled(Settled),
}

/// What a leader knows of a member, from a state that includes everything that was committed before it led.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// The last entry in that state: what is as of an earlier one is out of date.
    pub as_of: Index,
    /// The member's latest start of which the cluster heard; none: it never did, or has forgotten on purpose.
    pub incarnation: Incarnation,
    /// Whether the member votes.
    pub votes: bool,
    /// Up to here it has acknowledged the log to this leader.
    pub acknowledged: Index,
    /// The start that has told this leader that it forgot ([`Body::Forgot`]), if one has.
    pub forgot: Incarnation,
}

/// A message from one member to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who says it.
    pub from: MemberId,
    /// To whom.
    pub to: MemberId,
    /// What the sender knows of the receiver.
    pub known: Known,
    /// What is said.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// About the log.
    Raft {
        /// The sender's term, see [`raft::message::Message::term`].
        term: Term,
        /// What it says.
        body: raft::message::Body,
    },
    /// "Propose these." To the leader of `term`, and to none other: so whoever passes something on knows that it
    /// is lost once a later term has begun.
    Propose {
        /// The term.
        term: Term,
        /// The sender's incarnation: numbers of different ones do not meet.
        incarnation: Incarnation,
        /// What to propose, ascending by number.
        proposals: Vec<Proposal>,
    },
    /// A proposal will not be made.
    Refused {
        /// Its number.
        number: u64,
        /// Why.
        error: Error,
    },
    /// "From which index on is a read current that begins now?"
    ReadIndex {
        /// How the answer must name the question.
        token: u64,
    },
    /// The answer to [`Body::ReadIndex`]; whoever cannot tell is silent.
    ReadIndexAnswer {
        /// The question.
        token: u64,
        /// The index that the state must include.
        index: Index,
        /// The cluster's time.
        time: ClusterTime,
    },
    /// "My state has this digest"; from the leader, and back from whoever it was said to.
    Digest {
        /// The last index in it.
        index: Index,
        /// The digest.
        digest: u64,
    },
    /// A part of a snapshot. These travel apart from all else ([`Body::is_bulk`]).
    SnapshotPart(SnapshotPart),
    /// Parts of a snapshot have arrived.
    SnapshotReceived {
        /// Which snapshot.
        transfer: u64,
        /// The sender may go on from here.
        offset: u64,
        /// Whether it is on the medium as a whole, or of no use: nothing more is to be sent.
        done: bool,
    },
    /// "You are not a member any more."
    Removed,
    /// "You know an incarnation of me of which I know nothing": the sender's disk is not the one that made its
    /// promises. It takes the log as before, and promises nothing until it is known by its present incarnation.
    Forgot {
        /// The present one.
        incarnation: Incarnation,
    },
    /// "What may I have promised?", of a member that does not know.
    Ask {
        /// The start that asks.
        incarnation: Incarnation,
    },
    /// "My log is whole, and the state before it is gone", to a leader: only a snapshot helps.
    Stateless,
    /// The answer to [`Body::Ask`], of a member that does know what itself promised.
    Vouch {
        /// The start that asked.
        incarnation: Incarnation,
        /// What its sender knows.
        vouch: Vouch,
    },
}

/// What a member knows that bounds what another may have promised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vouch {
    /// Its term.
    pub term: Term,
    /// The end of its log.
    pub last: LogEnd,
    /// Who takes part, as far as it knows that to be committed.
    pub membership: Membership,
}

/// Something that a member asks its leader to put into the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The member's name for it, ascending within an incarnation.
    pub number: u64,
    /// An encoded [`Command`](crate::command::Command) without its time; or what changes the membership.
    pub command: Bytes,
}

/// A part of a snapshot on its way to a member.
#[derive(Clone, PartialEq, Eq)]
pub struct SnapshotPart {
    /// Names the snapshot among all that the sender sends.
    pub transfer: u64,
    /// What it covers.
    pub place: LogEnd,
    /// Where these bytes belong.
    pub offset: u64,
    /// The bytes.
    pub bytes: Bytes,
    /// Whether they are the last.
    pub last: bool,
}

impl Body {
    /// Whether this must not delay anything else, and so has a connection of its own.
    pub const fn is_bulk(&self) -> bool {
        matches!(self, Self::SnapshotPart(_))
    }
}

impl fmt::Debug for SnapshotPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { transfer, place, offset, bytes, last } = self;
        let end = if *last { ", the last" } else { "" };
        write!(f, "SnapshotPart({transfer:x} of {place:?}: {offset}+{}{end})", bytes.len())
    }
}
