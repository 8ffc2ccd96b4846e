//! What members say to each other about the log.

use alloc::vec::Vec;

use super::{Entry, Index, Term};
use crate::ids::MemberId;

/// A message from one member to another, or from a member to itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who says it.
    pub from: MemberId,
    /// To whom.
    pub to: MemberId,
    /// The sender's term; for a pre-vote and a granted pre-vote, the term that would begin.
    pub term: Term,
    /// What is said.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// "Would you vote for me?"
    PreVote {
        /// The end of the sender's log.
        last: LogEnd,
    },
    /// The answer to [`Body::PreVote`].
    PreVoteReply {
        /// Whether the sender would.
        granted: bool,
        /// A place up to which the sender knows the log to be committed, whoever asks: a fact, which does not depend on
        /// the vote.
        committed: LogEnd,
    },
    /// "Vote for me."
    Vote {
        /// The end of the sender's log.
        last: LogEnd,
        /// Whether the leader asked the sender to take over: then also who hears that leader votes.
        takeover: bool,
    },
    /// The answer to [`Body::Vote`]; if granted, a promise not to vote for another in this term.
    VoteReply {
        /// Whether the sender did.
        granted: bool,
    },
    /// The leader's log, from some place on; without entries, a question or the news of a commit.
    Append {
        /// The place before the entries.
        prev: LogEnd,
        /// The leader's commit index.
        commit: Index,
        /// What follows that place.
        entries: Vec<Entry>,
    },
    /// The log agrees up to here: a promise that it is durable.
    AppendAccepted {
        /// Last index that is known to agree.
        matched: Index,
    },
    /// The log does not hold the place that an append follows.
    AppendRejected {
        /// That place.
        prev: Index,
        /// The last place of the sender's log, at or before that one, that may agree.
        hint: LogEnd,
    },
    /// "I lead."
    Heartbeat {
        /// The commit index, as far as the receiver's log is known to reach.
        commit: Index,
        /// The latest round of reads (R7).
        round: Round,
    },
    /// The answer to [`Body::Heartbeat`].
    HeartbeatReply {
        /// The round that it had.
        round: Round,
    },
    /// "Your log is as long as mine: take over, now" (thesis §3.10).
    TimeoutNow,
}

impl Body {
    /// Whether only the leader of the message's term says this.
    pub const fn is_from_leader(&self) -> bool {
        matches!(self, Self::Append { .. } | Self::Heartbeat { .. } | Self::TimeoutNow)
    }
}

/// A place in a log: an index and the term of the entry there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogEnd {
    /// The index.
    pub index: Index,
    /// The term.
    pub term: Term,
}

impl LogEnd {
    /// Whether a log that ends here holds at least what one that ends at `other` holds (thesis §3.6.1).
    pub fn is_as_new_as(self, other: Self) -> bool {
        (self.term, self.index) >= (other.term, other.index)
    }
}

/// Counts the rounds of heartbeats that confirm leadership for reads, within one term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Round(pub u64);
