//! What a bad store would have shown: a history is spoilt in one place, and the checker must notice.
//!
//! Every run ends with this, on the history that has just been found right, so a verdict comes with the proof that
//! another one was possible.

use core::time::Duration;

use super::check::revision;
use super::history::{
    Event, History, Operation, Outcome, Reading, Request, Revision, Span, Watched,
};
use super::log::Log;

/// A way to be bad, and how it is called.
pub(super) struct Spoil {
    pub(super) name: &'static str,
    /// Spoils a history; whether it found something to spoil.
    pub(super) spoil: fn(&mut History) -> bool,
}

/// All ways.
pub(super) const SPOILS: [Spoil; 13] = [
    Spoil { name: "an acknowledged write that is nowhere", spoil: lose },
    Spoil { name: "the last writes lost, on all members", spoil: roll_back },
    Spoil { name: "a stale linearizable read", spoil: stale },
    Spoil { name: "a range that lacks a key", spoil: hole },
    Spoil { name: "a value that was never there", spoil: torn },
    Spoil { name: "a refused write that was done", spoil: refused },
    Spoil { name: "a write that was done twice", spoil: twice },
    Spoil { name: "a missed event", spoil: missed },
    Spoil { name: "an event told twice", spoil: repeated },
    Spoil { name: "events in another order", spoil: disordered },
    Spoil { name: "a wrong version before", spoil: unchained },
    Spoil { name: "another value on one member", spoil: forked },
    Spoil { name: "a lease that ended early", spoil: early },
];

fn acknowledged(operations: &[Operation]) -> Option<Revision> {
    let written = operations.iter().filter_map(|operation| match operation.outcome {
        Outcome::Written { revision, .. } => Some(revision),
        Outcome::Refused { .. } | Outcome::Seen { .. } | Outcome::Unknown | Outcome::Rejected => {
            None
        }
    });
    let all: Vec<Revision> = written.collect();
    all.get(all.len() / 2).copied()
}

/// Keeps only those events of all watchers.
fn keep(history: &mut History, wanted: impl Fn(&Event) -> bool) {
    for batch in history.watched.iter_mut().flat_map(|watched| &mut watched.batches) {
        batch.events.retain(&wanted);
    }
}

fn lose(history: &mut History) -> bool {
    let Some(lost) = acknowledged(&history.operations) else { return false };
    keep(history, |event| event.entry.modified != lost);
    true
}

fn roll_back(history: &mut History) -> bool {
    let Some(lost) = acknowledged(&history.operations) else { return false };
    keep(history, |event| event.entry.modified < lost);
    history.operations.retain(|operation| {
        matches!(operation.outcome, Outcome::Written { .. })
            || revision(&operation.outcome).is_none_or(|revision| revision < lost)
    });
    true
}

/// Answers a read with what was there before a write that had been acknowledged when the read began.
fn stale(history: &mut History) -> bool {
    let log = Log::new(history);
    let written: Vec<(Duration, Revision)> = history
        .operations
        .iter()
        .filter_map(|operation| match operation.outcome {
            Outcome::Written { revision, .. } => Some((operation.end, revision)),
            Outcome::Refused { .. }
            | Outcome::Seen { .. }
            | Outcome::Unknown
            | Outcome::Rejected => None,
        })
        .collect();
    for operation in history.operations.iter_mut().rev() {
        let begin = operation.begin;
        let Request::Read { span, at: 0, reading: Reading::Linearizable } = &operation.request
        else {
            continue;
        };
        let Outcome::Seen { revision, seen } = &mut operation.outcome else { continue };
        let before = written.iter().filter(|(end, _)| *end < begin).map(|(_, revision)| *revision);
        if let Some(newest) = before.max() {
            *revision = newest - 1;
            *seen = log.range(span, *revision).into_iter().cloned().collect();
            return true;
        }
    }
    false
}

fn hole(history: &mut History) -> bool {
    for operation in &mut history.operations {
        if let Request::Read { span: Span::Prefix(_), .. } = operation.request
            && let Outcome::Seen { seen, .. } = &mut operation.outcome
            && seen.len() > 1
        {
            seen.remove(0);
            return true;
        }
    }
    false
}

fn torn(history: &mut History) -> bool {
    for operation in &mut history.operations {
        if let Outcome::Seen { seen, .. } = &mut operation.outcome
            && let Some(entry) = seen.first_mut()
        {
            entry.value = "torn".into();
            return true;
        }
    }
    false
}

fn refused(history: &mut History) -> bool {
    for operation in &mut history.operations {
        if let Outcome::Written { .. } = operation.outcome {
            operation.outcome = Outcome::Rejected;
            return true;
        }
    }
    false
}

/// The last change of all is that of an earlier one again.
fn twice(history: &mut History) -> bool {
    let Some(wanted) = acknowledged(&history.operations) else { return false };
    let newest = Log::new(history).revisions().keys().next_back().copied().unwrap_or(0);
    let mut done = false;
    for watched in &mut history.watched {
        let all = watched.batches.iter().flat_map(|batch| &batch.events);
        let again: Vec<Event> =
            all.filter(|event| event.entry.modified == wanted).cloned().collect();
        let Some(last) = watched.batches.last_mut() else { continue };
        for mut event in again {
            event.entry.modified = newest + 1;
            last.events.push(event);
            done = true;
        }
    }
    done
}

/// The place of an event in the middle of what the watcher saw who saw most.
fn middle(history: &mut History) -> Option<(&mut Vec<Event>, usize)> {
    let batches = &mut busiest(history)?.batches;
    let place = batches.len() / 2;
    let events = &mut batches.get_mut(place)?.events;
    (!events.is_empty()).then_some((events, 0))
}

fn busiest(history: &mut History) -> Option<&mut Watched> {
    history.watched.iter_mut().max_by_key(|watched| watched.batches.len())
}

fn missed(history: &mut History) -> bool {
    let Some((events, place)) = middle(history) else { return false };
    let lost = events[place].entry.modified;
    events.retain(|event| event.entry.modified != lost);
    true
}

fn repeated(history: &mut History) -> bool {
    let Some((events, place)) = middle(history) else { return false };
    events.push(events[place].clone());
    true
}

fn disordered(history: &mut History) -> bool {
    let Some(watched) = busiest(history) else { return false };
    let count = watched.batches.len();
    if count < 2 {
        return false;
    }
    watched.batches.swap(count / 2 - 1, count / 2);
    true
}

fn unchained(history: &mut History) -> bool {
    for batch in history.watched.iter_mut().flat_map(|watched| &mut watched.batches) {
        for event in &mut batch.events {
            if let Some(previous) = &mut event.previous {
                previous.modified -= 1;
                return true;
            }
        }
    }
    false
}

fn forked(history: &mut History) -> bool {
    if history.watched.len() < 2 {
        return false;
    }
    let Some((events, place)) = middle(history) else { return false };
    events[place].entry.value = "forked".into();
    true
}

fn early(history: &mut History) -> bool {
    // All leases are made to have been renewed at the very end.
    let answers = history.operations.iter().map(|operation| operation.end);
    let batches = history.watched.iter().flat_map(|watched| &watched.batches);
    let last = answers.chain(batches.map(|batch| batch.at)).max();
    for life in history.lives.iter_mut().filter(|life| !life.revoked) {
        life.renewed = last.unwrap_or_default();
    }
    let log = Log::new(history);
    log.revisions().values().any(|events| {
        events.iter().all(|event| {
            let lease = event.previous.as_ref().map_or(0, |entry| entry.lease);
            event.deleted && history.lives.iter().any(|life| !life.revoked && life.id == lease)
        })
    })
}
