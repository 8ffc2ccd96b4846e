//! Whether this member's promises can be counted on, and what it does if not.
//!
//! What a member voted for and acknowledged stands on its disk. If the disk was wiped, or set back to an older copy,
//! the member does not know what it promised; if it promised anew, two leaders could have its vote, or an entry be
//! lost that it had acknowledged.
//!
//! ```text
//!           voted with those who begin, or a settled leader never heard of this member
//! ┌───────┐ ────────────────────────────────────────────────────────────────► ┌───────┐
//! │ Blank │                                                                     │ Sound │
//! └───────┘                   its own log says that it does not vote  ┌───────► └───────┘
//!     │      ┌──────┐ ────────────────────────────────────────────────┘            │
//!     └────► │ Lost │ ◄────────────────────────────────────────────────────────────┘
//!            └──────┘   a settled leader knows a start, or an entry, that this disk does not
//! ```
//!
//! - T1 A member that began with an empty disk votes for nobody who has a log, and acknowledges nothing, until a
//!   settled leader says that the cluster never heard of it. Those who begin a cluster together have no log, so they
//!   elect a leader without asking.
//! - T2 A member that has lost its memory promises nothing, and says so. The leader takes away its vote, by a change of
//!   the membership that does not need it, and gives it back when it has caught up ([`members`](super::members)).
//! - T3 It promises again once the leader has heard of this very start that it forgot, has said that the member does not
//!   vote, and the member's own log is as long as the leader's was then: so it holds the change that took the vote
//!   away, and the member votes for nobody who lacks that.
//! - T4 Whatever is not sound is blank after a restart: the vote that is saved with its term is
//!   [`FORFEITED`](crate::raft::FORFEITED), and who finds that at its start is blank. It is replaced before the first
//!   promise is made, because a promise waits for everything that was handed to the log before it.
//! - T5 What no leader can tell, because none is elected without this member, the others together can
//!   ([`vouch`](super::vouch)).
//!
//! The log is taken all the same, only not acknowledged.
//!
//! # Limits
//!
//! A disk that is set back within one life of its member is noticed only by a leader that still knows what the member
//! acknowledged; a majority of disks that are wiped together, by nobody.

use crate::peer::{Incarnation, Settled};
use crate::raft::Index;
use crate::raft::message::Body;

/// What this member knows about its own promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// They are on its disk.
    Sound,
    /// It began with an empty disk: perhaps the cluster began, perhaps the disk was wiped.
    Blank,
    /// Its disk is not the one that made them.
    Lost,
    /// They are not on its disk, but the others told how far they may go ([`vouch`](super::vouch)).
    Vouched,
}

impl Trust {
    /// What a leader's word about this member makes of it, whose log ends at `last`. `is_ours` says whether the start
    /// that the leader knows was on this disk, and `is_now` whether it is the present one.
    #[must_use]
    pub(super) fn hear(self, word: Settled, is_ours: bool, is_now: bool, last: Index) -> Self {
        let never_heard = word.incarnation == Incarnation::NONE;
        match self {
            // This disk has not even what was acknowledged to this leader.
            _ if word.acknowledged > last => Self::Lost,
            Self::Sound if never_heard || is_ours => Self::Sound,
            Self::Blank if never_heard && word.acknowledged == Index(0) || is_ours => Self::Sound,
            // Only who is sound makes itself known.
            Self::Lost | Self::Vouched if is_now => Self::Sound,
            Self::Sound | Self::Blank | Self::Lost | Self::Vouched => Self::Lost,
        }
    }

    /// Whether to take a message, because it asks for no promise, or for one that can be made.
    pub(super) fn admits(self, body: &Body) -> bool {
        match body {
            Body::PreVote { last } | Body::Vote { last, .. } => match self {
                Self::Sound => true,
                Self::Blank => last.index == Index(0),
                Self::Lost | Self::Vouched => false,
            },
            Body::TimeoutNow => self == Self::Sound,
            Body::PreVoteReply { .. }
            | Body::VoteReply { .. }
            | Body::Append { .. }
            | Body::AppendAccepted { .. }
            | Body::AppendRejected { .. }
            | Body::Heartbeat { .. }
            | Body::HeartbeatReply { .. } => true,
        }
    }

    /// Whether a message is taken without a doubt: this member is sound, or it is one of those that begin a cluster
    /// together.
    pub(super) fn asks_who_begins(self, body: &Body) -> bool {
        match body {
            Body::PreVote { .. }
            | Body::PreVoteReply { .. }
            | Body::Vote { .. }
            | Body::VoteReply { .. } => true,
            Body::Append { .. }
            | Body::AppendAccepted { .. }
            | Body::AppendRejected { .. }
            | Body::Heartbeat { .. }
            | Body::HeartbeatReply { .. }
            | Body::TimeoutNow => self == Self::Sound,
        }
    }

    /// Whether to send a message, because it promises nothing, or what can be promised.
    pub(super) fn permits(self, body: &Body) -> bool {
        match body {
            Body::AppendAccepted { .. } => self == Self::Sound,
            Body::PreVote { last } | Body::Vote { last, .. } => match self {
                Self::Sound => true,
                Self::Blank => last.index == Index(0),
                Self::Lost | Self::Vouched => false,
            },
            Body::PreVoteReply { granted: true, .. } | Body::VoteReply { granted: true } => {
                self != Self::Lost
            }
            Body::PreVoteReply { granted: false, .. }
            | Body::VoteReply { granted: false }
            | Body::Append { .. }
            | Body::AppendRejected { .. }
            | Body::Heartbeat { .. }
            | Body::HeartbeatReply { .. }
            | Body::TimeoutNow => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaders_word_is_judged_by_a_table() {
        use Trust::{Blank, Lost, Sound, Vouched};
        // Starts: 7 is the present one, 5 and 6 were before it on this disk, 8 was on another.
        let cases = [
            (Sound, (0, 10), Sound),
            (Sound, (7, 10), Sound),
            (Sound, (5, 10), Sound),
            (Sound, (8, 10), Lost),
            (Sound, (7, 11), Lost),
            (Blank, (0, 0), Sound),
            (Blank, (0, 3), Lost),
            (Blank, (5, 0), Sound),
            (Blank, (5, 11), Lost),
            (Blank, (8, 0), Lost),
            (Lost, (0, 0), Lost),
            (Lost, (5, 0), Lost),
            (Lost, (7, 10), Sound),
            (Lost, (7, 11), Lost),
            (Vouched, (5, 0), Lost),
            (Vouched, (7, 0), Sound),
        ];
        for (trust, (start, acknowledged), expected) in cases {
            let (incarnation, acknowledged) = (Incarnation(start), Index(acknowledged));
            let word = Settled { incarnation, acknowledged, ..Settled::default() };
            let heard = trust.hear(word, (5..=7).contains(&start), start == 7, Index(10));
            assert_eq!(heard, expected, "{trust:?} hears {word:?}");
        }
    }

    #[test]
    fn who_began_with_nothing_votes_only_among_those_who_did() {
        let vote = |index| {
            let last = crate::raft::message::LogEnd { index: Index(index), ..Default::default() };
            Body::Vote { last, takeover: false }
        };
        assert!(Trust::Blank.admits(&vote(0)) && !Trust::Blank.admits(&vote(1)));
        assert!(Trust::Sound.admits(&vote(1)) && !Trust::Lost.admits(&vote(0)));
        let accepted = Body::AppendAccepted { matched: Index(1) };
        assert!(!Trust::Blank.permits(&accepted) && !Trust::Lost.permits(&accepted));
    }
}
