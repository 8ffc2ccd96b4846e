//! What no correct store shows.

use core::fmt;
use core::time::Duration;

use super::history::{Operation, Revision};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A write was acknowledged as a revision that is not its own.
    Lost { revision: Revision, operation: String },
    /// A revision that nobody asked for.
    Phantom { revision: Revision, what: String },
    /// One attempt was done twice.
    Twice { first: Revision, second: Revision },
    /// Something was done whose guard did not hold, or refused whose guards held.
    Unguarded { revision: Revision, operation: String },
    /// A request that began after `known` had been shown to somebody was answered from before it.
    Stale { revision: Revision, known: Revision, operation: String },
    /// An answer does not show what was there at its revision.
    Differs { revision: Revision, operation: String },
    /// There is a revision of which no watcher was told.
    Gap { revision: Revision },
    /// Two members' watchers were told different things of a revision.
    Disputed { revision: Revision, slot: usize },
    /// A watcher was not told of a revision.
    Missed { revision: Revision, slot: usize },
    /// A watcher was told of a change again, or of two at once.
    Repeated { revision: Revision, slot: usize },
    /// A watcher was told of a revision after a later one.
    Disordered { revision: Revision, slot: usize },
    /// A watcher was told of a revision in two answers.
    Torn { revision: Revision, slot: usize },
    /// An event does not follow from the version before, or tells another one.
    Unchained { revision: Revision, slot: usize, key: String },
    /// A watcher waited in vain for the last change.
    Starved { slot: usize },
    /// A lease ended before its time.
    Early { lease: i64, before: Duration },
    /// A lease's keys stayed.
    Immortal { keys: usize },
    /// Members have different data at one revision.
    Diverged { hashes: String },
    /// A line in a log that none should have.
    Line { log: String, line: String },
    /// The cluster did not recover when everything was healed, or a member ended by itself.
    Dead { what: String },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { revision, operation } => {
                write!(f, "LOST: revision {revision} is not what was acknowledged: {operation}")
            }
            Self::Phantom { revision, what } => {
                write!(f, "PHANTOM: nobody asked for revision {revision}: {what}")
            }
            Self::Twice { first, second } => {
                write!(f, "TWICE: one attempt is revision {first} and revision {second}")
            }
            Self::Unguarded { revision, operation } => {
                write!(f, "UNGUARDED: at revision {revision} the guards say otherwise: {operation}")
            }
            Self::Stale { revision, known, operation } => write!(
                f,
                "STALE: revision {known} was known before, the answer is of {revision}: {operation}"
            ),
            Self::Differs { revision, operation } => {
                write!(f, "DIFFERS from what was there at revision {revision}: {operation}")
            }
            Self::Gap { revision } => write!(f, "GAP: no watcher was told of revision {revision}"),
            Self::Disputed { revision, slot } => {
                write!(f, "DISPUTED: the watcher of m{slot} was told otherwise of {revision}")
            }
            Self::Missed { revision, slot } => {
                write!(f, "MISSED by the watcher of m{slot}: revision {revision}")
            }
            Self::Repeated { revision, slot } => {
                write!(f, "REPEATED to the watcher of m{slot}: revision {revision}")
            }
            Self::Disordered { revision, slot } => {
                write!(f, "DISORDERED: the watcher of m{slot} saw {revision} after a later one")
            }
            Self::Torn { revision, slot } => {
                write!(f, "TORN: the watcher of m{slot} saw {revision} in two answers")
            }
            Self::Unchained { revision, slot, key } => {
                write!(f, "UNCHAINED: m{slot} told what does not follow of {key} at {revision}")
            }
            Self::Starved { slot } => {
                write!(f, "STARVED: the watcher of m{slot} never saw the last change")
            }
            Self::Early { lease, before } => {
                write!(f, "EARLY: lease {lease} ended {before:?} before its time")
            }
            Self::Immortal { keys } => write!(f, "IMMORTAL: {keys} keys outlive their leases"),
            Self::Diverged { hashes } => write!(f, "DIVERGED: the members' hashes: {hashes}"),
            Self::Line { log, line } => write!(f, "LINE in {log}: {line}"),
            Self::Dead { what } => write!(f, "DEAD: {what}"),
        }
    }
}

/// An operation in a fault.
pub(super) fn told(operation: &Operation) -> String {
    let Operation { client, slot, begin, end, request, outcome } = operation;
    let mut text = format!("client {client} at m{slot}, {begin:?} to {end:?}: {request:?}");
    text.push_str(&format!(" -> {outcome:?}"));
    if text.len() > TEXT_BYTES_MAX {
        let end = text.floor_char_boundary(TEXT_BYTES_MAX);
        text.truncate(end);
        text.push('…');
    }
    text
}

const TEXT_BYTES_MAX: usize = 700;
