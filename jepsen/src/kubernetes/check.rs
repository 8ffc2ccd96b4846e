//! Whether what was seen can be what a correct store shows.
//!
//! 1. A list at a revision shows, of each object, the last change that was acknowledged up to there, or a later attempt
//!    whose outcome nobody knows.
//! 2. A watcher sees each acknowledged change of its objects once, in the order of revisions, each on top of the one
//!    that its guard names; and beside them only attempts of unknown outcome.
//! 3. A list shows what the events up to its revision amount to. So readers agree even about the attempts whose
//!    outcome nobody knows.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};

use super::history::{Attempt, Change, Event, History, Listing, Outcome, Revision, Sight, What};
use super::objects::{Kind, ObjectId};

/// What no correct store shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A list at `listed` lacks a change that was acknowledged as `revision`.
    Lost { object: ObjectId, revision: Revision, listed: Revision },
    /// Somebody saw what nobody wrote, or not then, or what was refused.
    Phantom { sight: Sight },
    /// A list shows an object twice.
    Twice { object: ObjectId },
    /// A watcher never saw a change that was acknowledged.
    Missed { object: ObjectId, revision: Revision },
    /// A watcher saw a change again.
    Repeated { object: ObjectId, revision: Revision },
    /// A watcher saw a change after a later one.
    Disordered { object: ObjectId, revision: Revision },
    /// A change was made on top of another than its guard names, or its event tells of another.
    Unchained { sight: Sight, before: Revision, told: Revision },
    /// A watcher never saw the last change of all.
    Unfinished { kind: Kind },
    /// A list at `listed` does not show what the events amount to.
    Disagreement { object: ObjectId, listed: Revision },
}

/// Rule 1.
pub(super) fn check_listing(
    history: &History,
    scope: impl Iterator<Item = ObjectId>,
    listing: &Listing,
) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut seen = BTreeMap::new();
    for sight in &listing.sights {
        if seen.insert(sight.object, *sight).is_some() {
            faults.push(Fault::Twice { object: sight.object });
        }
    }
    for object in scope {
        let attempts = history.of(object);
        let acknowledged = attempts.iter().rposition(
            |attempt| matches!(attempt.outcome, Outcome::Acknowledged(at) if at <= listing.revision),
        );
        let last = acknowledged.map(|place| (place, revision(&attempts[place])));
        let lost = |(_, revision)| Fault::Lost { object, revision, listed: listing.revision };
        match (seen.remove(&object), last) {
            (None, None) => {}
            (None, Some(last)) => {
                let deleted = attempts[last.0].change == Change::Delete
                    || attempts[last.0..].iter().any(|attempt| {
                        attempt.change == Change::Delete && attempt.outcome == Outcome::Unknown
                    });
                if !deleted {
                    faults.push(lost(last));
                }
            }
            (Some(sight), last) => {
                let written = find(attempts, sight, None).is_some();
                if !written || sight.what == What::Deletion || sight.revision > listing.revision {
                    faults.push(Fault::Phantom { sight });
                } else if let Some(last) = last.filter(|last| sight.revision < last.1) {
                    faults.push(lost(last));
                }
            }
        }
    }
    faults.extend(seen.into_values().map(|sight| Fault::Phantom { sight }));
    faults
}

/// Rule 2. `watched` is what one watcher saw, in its order.
pub(super) fn check_watch(
    history: &History,
    scope: impl Iterator<Item = ObjectId>,
    watched: &[Event],
) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut revisions = BTreeSet::new();
    let mut alive: BTreeMap<ObjectId, Revision> = BTreeMap::new();
    for &Event { sight, previous } in watched {
        let Sight { object, revision, what } = sight;
        let newest = revisions.last().copied().unwrap_or(0);
        if !revisions.insert(revision) {
            faults.push(Fault::Repeated { object, revision });
            continue;
        }
        if revision < newest {
            faults.push(Fault::Disordered { object, revision });
            continue;
        }
        let before = alive.remove(&object).unwrap_or(0);
        if what != What::Deletion {
            alive.insert(object, revision);
        }
        match find(history.of(object), sight, Some(before)) {
            None => faults.push(Fault::Phantom { sight }),
            Some(attempt) if attempt.guard != before || previous != before => {
                faults.push(Fault::Unchained { sight, before, told: previous });
            }
            Some(_) => {}
        }
    }
    for object in scope {
        for attempt in history.of(object) {
            if let Outcome::Acknowledged(revision) = attempt.outcome
                && !revisions.contains(&revision)
            {
                faults.push(Fault::Missed { object, revision });
            }
        }
    }
    faults
}

/// Rule 3, for the objects of one watcher.
pub(super) fn check_agreement(watched: &[Event], listing: &Listing) -> Vec<Fault> {
    let mut expected = BTreeMap::new();
    for Event { sight, .. } in
        watched.iter().filter(|event| event.sight.revision <= listing.revision)
    {
        match sight.what {
            What::Deletion => expected.remove(&sight.object),
            What::Value(_) | What::Garbage => expected.insert(sight.object, *sight),
        };
    }
    let mut objects = BTreeSet::new();
    for sight in &listing.sights {
        if expected.remove(&sight.object) != Some(*sight) {
            objects.insert(sight.object);
        }
    }
    objects.extend(expected.into_keys());
    let listed = listing.revision;
    objects.into_iter().map(|object| Fault::Disagreement { object, listed }).collect()
}

/// The attempt that may have led to a sight. A deletion does not name its attempt: there, it is the one that was
/// acknowledged as this revision, or an unknown one with the guard `before`.
fn find(attempts: &[Attempt], sight: Sight, before: Option<Revision>) -> Option<&Attempt> {
    let possible = |attempt: &&Attempt| match attempt.outcome {
        Outcome::Acknowledged(revision) => revision == sight.revision,
        Outcome::Unknown => sight.revision > attempt.guard,
        Outcome::Refused => false,
    };
    match sight.what {
        What::Value(place) => {
            attempts.get(place).filter(|attempt| attempt.change == Change::Put).filter(possible)
        }
        What::Garbage => None,
        What::Deletion => attempts
            .iter()
            .filter(|attempt| attempt.change == Change::Delete)
            .filter(possible)
            .find(|attempt| before.is_none_or(|before| attempt.guard == before)),
    }
}

/// The revision of an attempt that was acknowledged.
fn revision(attempt: &Attempt) -> Revision {
    match attempt.outcome {
        Outcome::Acknowledged(revision) => revision,
        Outcome::Unknown | Outcome::Refused => 0,
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { object, revision, listed } => write!(
                f,
                "LOST: object {}: the change acknowledged as revision {revision} is not in the list at {listed}",
                object.0
            ),
            Self::Phantom { sight } => write!(f, "PHANTOM: nobody wrote {sight:?}"),
            Self::Twice { object } => write!(f, "TWICE in one list: object {}", object.0),
            Self::Missed { object, revision } => {
                write!(f, "MISSED by its watcher: object {}, revision {revision}", object.0)
            }
            Self::Repeated { object, revision } => {
                write!(f, "REPEATED to a watcher: object {}, revision {revision}", object.0)
            }
            Self::Disordered { object, revision } => {
                write!(f, "DISORDERED: object {}, revision {revision}, after a later one", object.0)
            }
            Self::Unchained { sight, before, told } => {
                write!(f, "UNCHAINED: {sight:?} on top of {before}, its event tells of {told}")
            }
            Self::Unfinished { kind } => {
                write!(f, "UNFINISHED: the watcher of {} never saw the end", kind.prefix())
            }
            Self::Disagreement { object, listed } => {
                write!(f, "DISAGREEMENT of list and watch about object {} at {listed}", object.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECT: ObjectId = ObjectId(0);
    const OTHER: ObjectId = ObjectId(1);

    fn attempt(guard: Revision, change: Change, outcome: Outcome) -> Attempt {
        Attempt { guard, change, outcome }
    }

    fn sight(object: ObjectId, revision: Revision, what: What) -> Sight {
        Sight { object, revision, what }
    }

    fn event(object: ObjectId, revision: Revision, what: What, previous: Revision) -> Event {
        Event { sight: sight(object, revision, what), previous }
    }

    /// One object was created as 2, updated as 4, and an update that would have been 6 got no answer. Another was
    /// created as 3, deleted as 5, and refused a creation.
    fn history() -> History {
        let mut history = History::new(2);
        history.add(
            OBJECT,
            vec![
                attempt(0, Change::Put, Outcome::Acknowledged(2)),
                attempt(2, Change::Put, Outcome::Acknowledged(4)),
                attempt(4, Change::Put, Outcome::Unknown),
            ],
        );
        history.add(
            OTHER,
            vec![
                attempt(0, Change::Put, Outcome::Acknowledged(3)),
                attempt(3, Change::Delete, Outcome::Acknowledged(5)),
                attempt(0, Change::Put, Outcome::Refused),
            ],
        );
        history
    }

    fn listed(revision: Revision, sights: &[Sight]) -> Vec<Fault> {
        let listing = Listing { revision, sights: sights.to_vec() };
        check_listing(&history(), [OBJECT, OTHER].into_iter(), &listing)
    }

    /// What a watcher should have seen.
    fn right() -> Vec<Event> {
        vec![
            event(OBJECT, 2, What::Value(0), 0),
            event(OTHER, 3, What::Value(0), 0),
            event(OBJECT, 4, What::Value(1), 2),
            event(OTHER, 5, What::Deletion, 3),
        ]
    }

    fn watched(events: &[Event]) -> Vec<Fault> {
        check_watch(&history(), [OBJECT, OTHER].into_iter(), events)
    }

    #[test]
    fn what_a_correct_store_shows_is_no_fault() {
        assert_eq!(listed(1, &[]), []);
        assert_eq!(listed(2, &[sight(OBJECT, 2, What::Value(0))]), []);
        let both = [sight(OBJECT, 2, What::Value(0)), sight(OTHER, 3, What::Value(0))];
        assert_eq!(listed(3, &both), []);
        assert_eq!(listed(5, &[sight(OBJECT, 4, What::Value(1))]), []);
        assert_eq!(watched(&right()), []);
    }

    #[test]
    fn an_attempt_of_unknown_outcome_may_be_there_or_not() {
        assert_eq!(listed(9, &[sight(OBJECT, 4, What::Value(1))]), []);
        assert_eq!(listed(9, &[sight(OBJECT, 6, What::Value(2))]), []);
        let mut events = right();
        events.push(event(OBJECT, 6, What::Value(2), 4));
        assert_eq!(watched(&events), []);
    }

    #[test]
    fn a_lost_write_is_caught() {
        let lost = Fault::Lost { object: OBJECT, revision: 4, listed: 9 };
        assert_eq!(listed(9, &[]), [lost]);
        assert_eq!(listed(9, &[sight(OBJECT, 2, What::Value(0))]), [lost]);
    }

    #[test]
    fn a_lost_deletion_is_caught() {
        let seen = [sight(OBJECT, 4, What::Value(1)), sight(OTHER, 3, What::Value(0))];
        assert_eq!(listed(9, &seen), [Fault::Lost { object: OTHER, revision: 5, listed: 9 }]);
    }

    #[test]
    fn a_phantom_is_caught() {
        for phantom in [
            sight(OBJECT, 4, What::Garbage),
            sight(OBJECT, 4, What::Value(7)),
            sight(OBJECT, 5, What::Value(1)),
            sight(OBJECT, 10, What::Value(2)),
            sight(OTHER, 7, What::Value(2)),
        ] {
            let mut seen = vec![phantom];
            if phantom.object == OTHER {
                seen.push(sight(OBJECT, 4, What::Value(1)));
            }
            assert_eq!(listed(9, &seen), [Fault::Phantom { sight: phantom }]);
        }
        for what in [What::Garbage, What::Value(1), What::Value(7), What::Deletion] {
            let mut events = right();
            events.push(event(OBJECT, 7, what, 4));
            let sight = sight(OBJECT, 7, what);
            assert_eq!(watched(&events), [Fault::Phantom { sight }]);
        }
    }

    #[test]
    fn an_object_that_is_listed_twice_is_caught() {
        let seen = [sight(OBJECT, 4, What::Value(1)); 2];
        assert_eq!(listed(9, &seen), [Fault::Twice { object: OBJECT }]);
    }

    #[test]
    fn a_missing_event_is_caught() {
        let mut events = right();
        events.pop();
        assert_eq!(watched(&events), [Fault::Missed { object: OTHER, revision: 5 }]);
        let mut events = right();
        events.remove(0);
        let chain = Fault::Unchained { sight: events[1].sight, before: 0, told: 2 };
        assert_eq!(watched(&events), [chain, Fault::Missed { object: OBJECT, revision: 2 }]);
    }

    #[test]
    fn a_repeated_event_is_caught() {
        let mut events = right();
        events.push(events[3]);
        assert_eq!(watched(&events), [Fault::Repeated { object: OTHER, revision: 5 }]);
    }

    #[test]
    fn disorder_is_caught() {
        let mut events = right();
        events.swap(0, 1);
        let chain = Fault::Unchained { sight: events[2].sight, before: 0, told: 2 };
        assert_eq!(watched(&events), [Fault::Disordered { object: OBJECT, revision: 2 }, chain]);
    }

    #[test]
    fn an_event_that_tells_of_the_wrong_past_is_caught() {
        let mut events = right();
        events[2].previous = 0;
        let sight = events[2].sight;
        assert_eq!(watched(&events), [Fault::Unchained { sight, before: 2, told: 0 }]);
    }

    #[test]
    fn a_list_that_disagrees_with_the_watch_is_caught() {
        let agreed = |sights: &[Sight]| {
            check_agreement(&right(), &Listing { revision: 9, sights: sights.to_vec() })
        };
        let (one, unknown) = (sight(OBJECT, 4, What::Value(1)), sight(OBJECT, 6, What::Value(2)));
        assert_eq!(agreed(&[one]), []);
        let fault = Fault::Disagreement { object: OBJECT, listed: 9 };
        assert_eq!(agreed(&[]), [fault]);
        assert_eq!(agreed(&[unknown]), [fault]);
    }
}
