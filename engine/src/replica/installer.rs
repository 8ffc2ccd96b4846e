//! A leader's snapshot on its way into this member.
//!
//! ```text
//!            all parts                 on the medium
//! ┌───────────┐ ────► ┌─────────┐ ────────► this member's state and log begin behind it
//! │ Receiving │       │ Writing │
//! └───────────┘       └─────────┘
//!    replaced by a newer one, or of no use any more: dropped
//! ```
//!
//! The state is built from parts as they come, beside the present one, which goes on serving. When it is whole it is
//! written to the medium like any snapshot of this member's own. Only when that is durable does it take the place of
//! state and log, in one step, and only when the log says so durably is the leader told.

use crate::config::Config;
use crate::convert::to_u64;
use crate::ids::MemberId;
use crate::peer::SnapshotPart;
use crate::raft::message::LogEnd;
use crate::snapshot::Reader;
use crate::state_machine::StateMachine;
use crate::time::Time;

/// How often the leader is told that a snapshot is still being written.
const WORD: core::time::Duration = core::time::Duration::from_secs(5);

/// What a member does about a leader's snapshot.
#[derive(Debug, Default)]
pub(super) enum Installer {
    #[default]
    Idle,
    Receiving(Receiving),
    Writing(Writing),
}

#[derive(Debug)]
pub(super) struct Receiving {
    from: MemberId,
    transfer: u64,
    place: LogEnd,
    reader: Reader,
    offset: u64,
}

#[derive(Debug)]
pub(super) struct Writing {
    pub(super) from: MemberId,
    pub(super) transfer: u64,
    pub(super) place: LogEnd,
    pub(super) state: StateMachine,
    offset: u64,
    /// Whether it is on its way to the medium.
    begun: bool,
    /// When the leader is told next that this goes on.
    word: Time,
}

/// What came of a part.
#[derive(Debug)]
pub(super) enum Taken {
    /// Tell the sender to go on from here.
    GoOn { offset: u64 },
    /// All parts are there, and the state is whole: write it, then install it.
    Whole,
    /// These bytes are no snapshot of this cluster.
    Refused,
}

impl Installer {
    /// Takes a part of a snapshot that brings something new.
    pub(super) fn take(
        &mut self,
        now: Time,
        config: &Config,
        from: MemberId,
        part: &SnapshotPart,
    ) -> Taken {
        if let Self::Writing(writing) = self
            && writing.place.index >= part.place.index
        {
            return Taken::GoOn { offset: writing.offset };
        }
        let goes_on =
            matches!(self, Self::Receiving(r) if (r.from, r.transfer) == (from, part.transfer));
        if !goes_on {
            // A newer snapshot takes the place of an older one, never the other way.
            if let Self::Receiving(receiving) = self
                && part.offset != 0
                && receiving.place.index > part.place.index
            {
                return Taken::GoOn { offset: 0 };
            }
            let reader = Reader::new(config.cluster);
            let (transfer, place) = (part.transfer, part.place);
            *self = Self::Receiving(Receiving { from, transfer, place, reader, offset: 0 });
        }
        let Self::Receiving(receiving) = self else { unreachable!("it has just begun") };
        if part.offset != receiving.offset {
            return Taken::GoOn { offset: receiving.offset };
        }
        if receiving.reader.push(&part.bytes).is_err() {
            *self = Self::Idle;
            return Taken::Refused;
        }
        receiving.offset += to_u64(part.bytes.len());
        if !part.last {
            return Taken::GoOn { offset: receiving.offset };
        }
        self.finish(now)
    }

    fn finish(&mut self, now: Time) -> Taken {
        let Self::Receiving(receiving) = core::mem::take(self) else {
            unreachable!("all is there")
        };
        let Receiving { from, transfer, place, reader, offset } = receiving;
        let Ok((position, state)) = reader.finish() else { return Taken::Refused };
        let covers = (position.index, position.term) == (place.index, place.term);
        if !covers || state.cluster.membership().is_empty() {
            return Taken::Refused;
        }
        let (begun, word) = (false, now + WORD);
        *self = Self::Writing(Writing { from, transfer, place, state, offset, begun, word });
        Taken::Whole
    }

    /// The state that is being written, and what it covers.
    pub(super) fn writing(&self) -> Option<&Writing> {
        match self {
            Self::Writing(writing) => Some(writing),
            Self::Idle | Self::Receiving(_) => None,
        }
    }

    /// The state that is to be written, and what it covers, once.
    pub(super) fn begin_writing(&mut self) -> Option<&mut Writing> {
        match self {
            Self::Writing(writing) if !writing.begun => {
                writing.begun = true;
                Some(writing)
            }
            Self::Idle | Self::Receiving(_) | Self::Writing(_) => None,
        }
    }

    /// Takes the state that covers `place`, which is on the medium.
    pub(super) fn take_written(&mut self, place: LogEnd) -> Option<Writing> {
        match core::mem::take(self) {
            Self::Writing(writing) if writing.place == place => Some(writing),
            other @ (Self::Idle | Self::Receiving(_) | Self::Writing(_)) => {
                *self = other;
                None
            }
        }
    }

    /// A word for the leader that the state is still being written: to whom, the transfer, and how much is there.
    pub(super) fn word(&mut self, now: Time) -> Option<(MemberId, u64, u64)> {
        match self {
            Self::Writing(writing) if writing.word <= now => {
                writing.word = now + WORD;
                Some((writing.from, writing.transfer, writing.offset))
            }
            Self::Idle | Self::Receiving(_) | Self::Writing(_) => None,
        }
    }

    /// When that word is due.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.writing().map(|writing| writing.word)
    }
}
