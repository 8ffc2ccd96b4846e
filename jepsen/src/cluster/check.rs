//! Whether a history can be that of a correct store. Each rule takes time linear in the history, but for sorting.
//!
//! 1. Every revision has one cause: an attempt whose guards held at the revision before it, or the end of a lease. An
//!    attempt has at most one revision, an acknowledged one exactly that which it was told, a refused one none.
//! 2. Every answer shows what was there at the revision that it names: guards, values, versions, all keys of a range.
//! 3. The order of revisions agrees with time. If anybody had an answer or an event that shows a revision before a
//!    request began, a linearizable read is of that revision or a later one, and a write is a later one.
//! 4. A watcher is told of every revision, once, in order, in one answer, on top of the version before it, and told the
//!    same as every other watcher.
//! 5. A lease ends no sooner than its time after the last request that was acknowledged to have renewed it.
//!
//! Rules 1 to 3 are linearizability with a witness: revisions are the order that a search would have to look for, and
//! rule 3 is that the order respects time. An attempt of unknown outcome may be anywhere after its beginning, or nowhere.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::fault::{Fault, told};
use super::history::{
    Effect, End, Event, History, Life, Operation, Outcome, Reading, Request, Revision, Watched,
};
use super::log::Log;

/// All rules.
pub(super) fn check(history: &History) -> Vec<Fault> {
    let log = Log::new(history);
    let (mut faults, placed) = check_causes(history, &log);
    for operation in &history.operations {
        faults.extend(check_answer(operation, &log));
    }
    faults.extend(check_time(history, &placed));
    for watched in &history.watched {
        faults.extend(check_watched(watched, &log));
    }
    faults.extend(check_leases(history, &log));
    faults
}

/// Rule 1, and the revision of each attempt that has one.
fn check_causes(history: &History, log: &Log) -> (Vec<Fault>, BTreeMap<usize, Revision>) {
    let mut faults = Vec::new();
    let mut placed = BTreeMap::new();
    for (slot, revision) in log.disputed().iter().map(|(revision, slot)| (*slot, *revision)) {
        faults.push(Fault::Disputed { revision, slot });
    }
    let causes = causes(&history.operations);
    let leases: BTreeSet<i64> = history.lives.iter().map(|life| life.id).collect();
    for (&revision, events) in log.revisions() {
        let puts = events.iter().filter(|event| !event.deleted);
        let cause = puts.map(|event| causes.get(&event.entry.value).copied()).next();
        let Some(cause) = cause else {
            if !ends_a_lease(events, revision, log, &leases) {
                faults.push(Fault::Phantom { revision, what: format!("{events:?}") });
            }
            continue;
        };
        let Some(place) = cause.filter(|place| does(&history.operations[*place], events)) else {
            faults.push(Fault::Phantom { revision, what: format!("{events:?}") });
            continue;
        };
        let operation = &history.operations[place];
        if let Some(first) = placed.insert(place, revision) {
            faults.push(Fault::Twice { first, second: revision });
        }
        let refused = matches!(operation.outcome, Outcome::Refused { .. } | Outcome::Rejected);
        if refused || !guarded(operation, revision - 1, log) {
            faults.push(Fault::Unguarded { revision, operation: told(operation) });
        }
    }
    let mut newest = log.revisions().keys().next_back().copied().unwrap_or(FIRST - 1);
    for (place, operation) in history.operations.iter().enumerate() {
        newest = newest.max(revision(&operation.outcome).unwrap_or(0));
        if let Outcome::Written { revision, .. } = operation.outcome
            && placed.get(&place) != Some(&revision)
        {
            faults.push(Fault::Lost { revision, operation: told(operation) });
        }
    }
    let missing = (FIRST..=newest).filter(|revision| !log.revisions().contains_key(revision));
    faults.extend(missing.map(|revision| Fault::Gap { revision }));
    (faults, placed)
}

/// The first revision that a client makes.
const FIRST: Revision = 2;

/// The operation that puts each value.
fn causes(operations: &[Operation]) -> BTreeMap<Bytes, usize> {
    let mut causes = BTreeMap::new();
    for (place, operation) in operations.iter().enumerate() {
        let Request::Write { effects, .. } = &operation.request else { continue };
        for effect in effects {
            if let Effect::Put { value, .. } = effect {
                let other = causes.insert(value.clone(), place);
                assert!(other.is_none_or(|other| other == place), "an attempt's value is its own");
            }
        }
    }
    causes
}

/// Whether the events are what an operation does.
fn does(operation: &Operation, events: &[Event]) -> bool {
    let Request::Write { effects, .. } = &operation.request else { return false };
    let puts = effects.iter().filter(|effect| matches!(effect, Effect::Put { .. })).count();
    let seen = events.iter().filter(|event| !event.deleted).count();
    puts == seen
        && events.iter().all(|event| {
            let Event { entry, deleted, .. } = event;
            effects.iter().any(|effect| match effect {
                Effect::Put { key, value, lease } => {
                    !deleted && (key, value, lease) == (&entry.key, &entry.value, &entry.lease)
                }
                Effect::Delete { key } => *deleted && *key == entry.key,
            })
        })
}

fn guarded(operation: &Operation, revision: Revision, log: &Log) -> bool {
    let Request::Write { guards, .. } = &operation.request else { return true };
    guards.iter().all(|guard| log.holds(guard, revision))
}

/// Whether these deletions are what the end of one lease does.
fn ends_a_lease(events: &[Event], revision: Revision, log: &Log, leases: &BTreeSet<i64>) -> bool {
    let lease =
        |event: &Event| log.at(&event.entry.key, revision - 1).map_or(0, |entry| entry.lease);
    events.first().map(lease).is_some_and(|first| {
        leases.contains(&first) && events.iter().all(|event| lease(event) == first)
    })
}

/// The revision that an outcome names.
pub(super) fn revision(outcome: &Outcome) -> Option<Revision> {
    match outcome {
        Outcome::Written { revision, .. }
        | Outcome::Refused { revision, .. }
        | Outcome::Seen { revision, .. } => Some(*revision),
        Outcome::Unknown | Outcome::Rejected => None,
    }
}

/// Rule 2.
fn check_answer(operation: &Operation, log: &Log) -> Option<Fault> {
    let differs = |revision| Fault::Differs { revision, operation: told(operation) };
    match (&operation.request, &operation.outcome) {
        (Request::Read { span, at, .. }, Outcome::Seen { revision, seen }) => {
            let shown = if *at == 0 { *revision } else { *at };
            (!log.range(span, shown).into_iter().eq(seen)).then(|| differs(shown))
        }
        (Request::Write { otherwise, .. }, Outcome::Refused { revision, seen }) => {
            if guarded(operation, *revision, log) {
                let operation = told(operation);
                return Some(Fault::Unguarded { revision: *revision, operation });
            }
            let there = otherwise.as_ref().map(|span| log.range(span, *revision));
            (!there.unwrap_or_default().into_iter().eq(seen)).then(|| differs(*revision))
        }
        (
            Request::Write { effects, .. },
            Outcome::Written { revision, previous: Some(previous) },
        ) => {
            let keys = effects.iter().map(|effect| match effect {
                Effect::Put { key, .. } | Effect::Delete { key } => key,
            });
            let before = keys.filter_map(|key| log.at(key, revision - 1));
            (!before.eq(previous)).then(|| differs(*revision))
        }
        (Request::Read { .. } | Request::Write { .. }, _) => None,
    }
}

/// Rule 3. `placed` are the revisions of attempts, those of unknown outcome as well.
fn check_time(history: &History, placed: &BTreeMap<usize, Revision>) -> Vec<Fault> {
    // When which revision was known at the latest.
    let answers = history.operations.iter();
    let mut known: Vec<(Duration, Revision)> = answers
        .filter_map(|operation| Some((operation.end, revision(&operation.outcome)?)))
        .collect();
    for batch in history.watched.iter().flat_map(|watched| &watched.batches) {
        known.extend(batch.events.last().map(|event| (batch.at, event.entry.modified)));
    }
    known.sort_unstable();
    // Who must know it: the revision of each, and the least that it may be beyond what is known.
    let mut bound: Vec<(Duration, Revision, i64, usize)> = Vec::new();
    for (place, operation) in history.operations.iter().enumerate() {
        let (revision, beyond) = match (&operation.request, placed.get(&place)) {
            (Request::Write { .. }, Some(revision)) => (*revision, 1),
            (Request::Read { reading: Reading::Serializable, .. }, _) => continue,
            (Request::Write { .. } | Request::Read { .. }, _) => {
                match revision(&operation.outcome) {
                    Some(revision) => (revision, 0),
                    None => continue,
                }
            }
        };
        bound.push((operation.begin, revision, beyond, place));
    }
    bound.sort_unstable();
    let mut faults = Vec::new();
    let mut known = known.into_iter().peekable();
    let mut newest = 0;
    for (begin, revision, beyond, place) in bound {
        while let Some((_, shown)) = known.next_if(|(at, _)| *at < begin) {
            newest = newest.max(shown);
        }
        if revision < newest + beyond {
            let operation = told(&history.operations[place]);
            faults.push(Fault::Stale { revision, known: newest, operation });
        }
    }
    faults
}

/// Rule 4.
fn check_watched(watched: &Watched, log: &Log) -> Vec<Fault> {
    let slot = watched.slot;
    let mut faults = Vec::new();
    let mut seen: BTreeSet<(Revision, Bytes)> = BTreeSet::new();
    let mut newest = 0;
    for batch in &watched.batches {
        let before_batch = newest;
        for event in &batch.events {
            let revision = event.entry.modified;
            if !seen.insert((revision, event.entry.key.clone())) {
                faults.push(Fault::Repeated { revision, slot });
            } else if revision < newest {
                faults.push(Fault::Disordered { revision, slot });
            } else if revision == before_batch {
                faults.push(Fault::Torn { revision, slot });
            } else if !follows(event, log) {
                let key = String::from_utf8_lossy(&event.entry.key).into_owned();
                faults.push(Fault::Unchained { revision, slot, key });
            }
            newest = newest.max(revision);
        }
    }
    let upto = if watched.end == End::Abandoned { newest } else { Revision::MAX };
    let told: BTreeSet<Revision> = seen.into_iter().map(|(revision, _)| revision).collect();
    let missed = log.revisions().range(..=upto).filter(|(revision, _)| !told.contains(revision));
    faults.extend(missed.map(|(revision, _)| Fault::Missed { revision: *revision, slot }));
    if watched.end == End::Starved {
        faults.push(Fault::Starved { slot });
    }
    faults
}

/// Whether an event follows from the version before it, and tells that.
fn follows(event: &Event, log: &Log) -> bool {
    let Event { entry, deleted, previous } = event;
    let before = log.at(&entry.key, entry.modified - 1);
    if before != previous.as_ref() {
        return false;
    }
    match before {
        None => !deleted && (entry.created, entry.version) == (entry.modified, 1),
        Some(_) if *deleted => true,
        Some(before) => (entry.created, entry.version) == (before.created, before.version + 1),
    }
}

/// Rule 5.
fn check_leases(history: &History, log: &Log) -> Vec<Fault> {
    let mut seen: BTreeMap<Revision, Duration> = BTreeMap::new();
    for batch in history.watched.iter().flat_map(|watched| &watched.batches) {
        for event in &batch.events {
            let at = seen.entry(event.entry.modified).or_insert(batch.at);
            *at = batch.at.min(*at);
        }
    }
    let lives: BTreeMap<i64, &Life> = history.lives.iter().map(|life| (life.id, life)).collect();
    let mut faults = Vec::new();
    for (revision, events) in log.revisions() {
        if !events.iter().all(|event| event.deleted) {
            continue;
        }
        let lease = events.first().and_then(|event| log.at(&event.entry.key, revision - 1));
        let Some(life) = lease.and_then(|entry| lives.get(&entry.lease)) else { continue };
        let due = life.renewed + life.ttl;
        if let Some(at) = seen.get(revision).filter(|at| !life.revoked && **at < due) {
            faults.push(Fault::Early { lease: life.id, before: due - *at });
        }
    }
    faults
}
