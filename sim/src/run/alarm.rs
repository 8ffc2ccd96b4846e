//! What a run wants to be woken for.

use cairn_engine::{MemberId, StreamId};

/// What an alarm is for; its name in the world is one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alarm {
    /// A client has thought.
    Client(u64),
    /// A watch client has thought.
    Watcher(u64),
    /// A response has left.
    Credit(StreamId),
    /// A response has left, after a while.
    LateCredit(StreamId),
    /// A watch client looks whether it has a stream.
    Return(u64),
    /// The plan says what to do.
    Deed,
    /// Time to see whether what is waited for holds.
    Glance,
    /// A fault is due, once.
    Strike,
    /// A fault is due.
    Fault,
    /// A member starts again.
    Restart(MemberId),
    /// A pause ends.
    Resume(MemberId),
    /// The network is mended.
    Heal,
    /// Time to look around.
    Look,
    /// The operator has thought.
    Operate,
    /// Many leases are granted at once.
    Storm,
    /// A backup is due.
    Backup,
    /// A backup is read and restored.
    Restore(u64),
}

impl Alarm {
    /// The alarm as a number: what it is for in the highest byte.
    pub(super) fn name(self) -> u64 {
        let (kind, detail): (u64, u64) = match self {
            Self::Client(client) => (0, client),
            Self::Watcher(number) => (1, number),
            Self::Credit(stream) => (2, stream.0),
            Self::Fault => (3, 0),
            Self::Restart(id) => (4, id.0),
            Self::Resume(id) => (5, id.0),
            Self::Heal => (6, 0),
            Self::Look => (7, 0),
            Self::Operate => (8, 0),
            Self::LateCredit(stream) => (9, stream.0),
            Self::Return(number) => (10, number),
            Self::Deed => (11, 0),
            Self::Glance => (12, 0),
            Self::Strike => (13, 0),
            Self::Storm => (14, 0),
            Self::Backup => (15, 0),
            Self::Restore(number) => (16, number),
        };
        kind << 56 | detail
    }

    pub(super) fn named(name: u64) -> Self {
        let detail = name & ((1 << 56) - 1);
        match name >> 56 {
            0 => Self::Client(detail),
            1 => Self::Watcher(detail),
            2 => Self::Credit(StreamId(detail)),
            3 => Self::Fault,
            4 => Self::Restart(MemberId(detail)),
            5 => Self::Resume(MemberId(detail)),
            6 => Self::Heal,
            7 => Self::Look,
            8 => Self::Operate,
            9 => Self::LateCredit(StreamId(detail)),
            10 => Self::Return(detail),
            11 => Self::Deed,
            12 => Self::Glance,
            13 => Self::Strike,
            14 => Self::Storm,
            15 => Self::Backup,
            16 => Self::Restore(detail),
            _ => unreachable!("the run names its alarms itself"),
        }
    }
}
