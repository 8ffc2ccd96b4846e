//! The checker on the history of a store that is right, and on those of stores that are not.

use core::time::Duration;

use bytes::Bytes;

use super::check::check;
use super::client::key;
use super::fault::Fault;
use super::history::{
    Batch, Effect, End, Entry, Event, Guard, History, Life, Operation, Outcome, Reading, Request,
    Revision, Span, Watched,
};
use super::spoil::SPOILS;

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A version that was created as `created`, and is the second if it was changed since.
fn entry(name: &str, value: &str, created: Revision, modified: Revision) -> Entry {
    let version = if created == modified { 1 } else { 2 };
    let value = Bytes::copy_from_slice(value.as_bytes());
    Entry { key: key(name), value, created, modified, version, lease: 0 }
}

fn deletion(name: &str, modified: Revision, previous: Entry) -> Event {
    let value = Bytes::new();
    let entry = Entry { key: key(name), value, created: 0, modified, version: 0, lease: 0 };
    Event { entry, deleted: true, previous: Some(previous) }
}

fn operation(begin: u64, end: u64, request: Request, outcome: Outcome) -> Operation {
    Operation { client: 0, slot: 0, begin: at(begin), end: at(end), request, outcome }
}

fn put(name: &str, value: &str, lease: i64) -> Effect {
    Effect::Put { key: key(name), value: Bytes::copy_from_slice(value.as_bytes()), lease }
}

fn write(guards: Vec<Guard>, effects: Vec<Effect>) -> Request {
    let otherwise = (!guards.is_empty()).then(|| Span::Prefix(key("r/")));
    Request::Write { guards, effects, otherwise }
}

fn read(name: &str, reading: Reading) -> Request {
    let span = if name.ends_with('/') { Span::Prefix(key(name)) } else { Span::Key(key(name)) };
    Request::Read { span, at: 0, reading }
}

fn written(revision: Revision) -> Outcome {
    Outcome::Written { revision, previous: None }
}

/// In the order of revisions: 2 puts `r/a`, 3 puts `r/b`, 4 changes `r/a` if it is as 2 left it, 5 puts `e/x` with
/// lease 7, 6 deletes `r/b` and marks it, 7 is of unknown outcome and puts `r/c`, 8 ends lease 7. One write of unknown
/// outcome never happened; one was refused. There are reads in between.
fn right() -> History {
    let (a2, b3) = (entry("r/a", "a2", 2, 2), entry("r/b", "b3", 3, 3));
    let (a4, c7) = (entry("r/a", "a4", 2, 4), entry("r/c", "c7", 7, 7));
    let x5 = Entry { lease: 7, ..entry("e/x", "x5", 5, 5) };
    let guard = |value: &'static str| Guard::Value(key("r/a"), value.into());
    let seen = |revision, seen| Outcome::Seen { revision, seen };
    let remove_b = vec![Effect::Delete { key: key("r/b") }, put("d/0", "d6", 0)];
    let operations = vec![
        operation(0, 10, write(vec![], vec![put("r/a", "a2", 0)]), written(2)),
        operation(11, 20, write(vec![], vec![put("r/b", "b3", 0)]), written(3)),
        operation(12, 22, write(vec![guard("a2")], vec![put("r/a", "a4", 0)]), written(4)),
        operation(
            23,
            25,
            write(vec![guard("a2")], vec![put("r/a", "never", 0)]),
            Outcome::Refused { revision: 4, seen: vec![a4.clone(), b3.clone()] },
        ),
        operation(23, 26, read("r/", Reading::Linearizable), seen(4, vec![a4.clone(), b3.clone()])),
        operation(24, 27, read("r/a", Reading::Serializable), seen(2, vec![a2.clone()])),
        operation(30, 31, write(vec![], vec![put("e/x", "x5", 7)]), written(5)),
        operation(32, 33, write(vec![], remove_b), written(6)),
        operation(34, 90, write(vec![], vec![put("r/c", "c7", 0)]), Outcome::Unknown),
        operation(34, 90, write(vec![], vec![put("r/d", "nowhere", 0)]), Outcome::Unknown),
        operation(91, 92, read("r/", Reading::Linearizable), seen(7, vec![a4.clone(), c7.clone()])),
    ];
    let event = |entry: &Entry, previous: Option<&Entry>| Event {
        entry: entry.clone(),
        deleted: false,
        previous: previous.cloned(),
    };
    let told = [
        (11, vec![event(&a2, None)]),
        (21, vec![event(&b3, None), event(&a4, Some(&a2))]),
        (31, vec![event(&x5, None)]),
        (34, vec![deletion("r/b", 6, b3), event(&entry("d/0", "d6", 6, 6), None)]),
        (80, vec![event(&c7, None)]),
        (2100, vec![deletion("e/x", 8, x5)]),
    ];
    let batches = |late: u64| {
        told.iter().map(move |(ms, events)| Batch { at: at(ms + late), events: events.clone() })
    };
    let watched = |slot, late| Watched {
        slot,
        batches: batches(late).collect(),
        resumed: 0,
        end: End::Complete,
    };
    History {
        operations,
        watched: vec![watched(0, 0), watched(1, 5)],
        lives: vec![Life { id: 7, ttl: at(2000), renewed: at(30), revoked: false }],
    }
}

/// Changes the right history, and tells which kinds of faults are found.
fn spoilt(change: impl Fn(&mut History)) -> Vec<String> {
    let mut history = right();
    change(&mut history);
    let mut kinds: Vec<String> = check(&history)
        .iter()
        .map(|fault| fault.to_string().split([' ', ':']).next().unwrap_or_default().to_owned())
        .collect();
    kinds.dedup();
    kinds
}

#[test]
fn the_history_of_a_right_store_has_no_fault() {
    assert_eq!(check(&right()), []);
}

#[test]
fn an_attempt_of_unknown_outcome_may_have_happened_or_not() {
    let without = spoilt(|history| {
        history.operations.pop();
        for watched in &mut history.watched {
            watched.batches.remove(4);
            let last = watched.batches.last_mut().expect("there are others");
            last.events[0].entry.modified = 7;
        }
    });
    assert_eq!(without, [""; 0]);
}

#[test]
fn every_way_to_spoil_a_history_is_noticed() {
    for spoil in SPOILS {
        let mut history = right();
        assert!((spoil.spoil)(&mut history), "there is something to spoil: {}", spoil.name);
        assert_ne!(check(&history), [], "{}", spoil.name);
    }
}

#[test]
fn a_lost_write_is_caught() {
    let faults = spoilt(|history| {
        for watched in &mut history.watched {
            watched.batches.remove(2);
        }
    });
    assert!(faults.contains(&"LOST".to_owned()) && faults.contains(&"GAP".to_owned()));
}

#[test]
fn a_stale_linearizable_read_is_caught() {
    let faults = spoilt(|history| {
        let Request::Read { reading, .. } = &mut history.operations[5].request else {
            panic!("it is a read");
        };
        *reading = Reading::Linearizable;
    });
    assert_eq!(faults, ["STALE"]);
}

#[test]
fn a_write_that_takes_effect_before_it_began_is_caught() {
    let faults = spoilt(|history| history.operations[8].begin = at(95));
    assert_eq!(faults, ["STALE"]);
}

#[test]
fn a_write_of_unknown_outcome_must_not_be_older_than_what_was_known() {
    // Somebody was told of revision 8 before the attempt that became 7 began.
    let faults = spoilt(|history| history.operations[8].begin = at(2101));
    assert_eq!(faults, ["STALE"]);
}

#[test]
fn an_answer_that_is_not_of_its_revision_is_caught() {
    for (place, revision) in [(3, 3), (4, 3), (5, 4), (10, 5)] {
        let faults = spoilt(|history| match &mut history.operations[place].outcome {
            Outcome::Refused { revision: told, .. } | Outcome::Seen { revision: told, .. } => {
                *told = revision;
            }
            Outcome::Written { .. } | Outcome::Unknown | Outcome::Rejected => {
                panic!("it is a read")
            }
        });
        assert!(
            faults.iter().any(|fault| fault == "DIFFERS" || fault == "UNGUARDED"),
            "{place}: {faults:?}"
        );
    }
}

#[test]
fn a_guard_that_did_not_hold_is_caught() {
    let faults = spoilt(|history| {
        let Request::Write { guards, .. } = &mut history.operations[2].request else {
            panic!("it is a write");
        };
        guards[0] = Guard::Modified(key("r/a"), 0);
    });
    assert_eq!(faults, ["UNGUARDED"]);
}

#[test]
fn a_change_that_nobody_asked_for_is_caught() {
    for batch in [2, 3] {
        let faults = spoilt(|history| {
            for watched in &mut history.watched {
                let event = watched.batches[batch].events.last_mut().expect("there is one");
                event.entry.value = "whose".into();
            }
        });
        assert!(faults.contains(&"PHANTOM".to_owned()), "{faults:?}");
    }
    let other = spoilt(|history| history.lives.clear());
    assert_eq!(other, ["PHANTOM"]);
}

#[test]
fn what_is_wrong_about_a_watcher_is_caught() {
    let twice = spoilt(|history| {
        let batches = &mut history.watched[1].batches;
        batches.insert(1, batches[0].clone());
    });
    assert_eq!(twice, ["REPEATED"]);
    let disordered = spoilt(|history| history.watched[1].batches.swap(0, 1));
    assert_eq!(disordered, ["DISORDERED"]);
    let missed = spoilt(|history| drop(history.watched[1].batches.remove(0)));
    assert_eq!(missed, ["MISSED"]);
    let torn = spoilt(|history| {
        let batches = &mut history.watched[1].batches;
        let second = batches[3].events.pop();
        let rest = Batch { at: batches[3].at, events: second.into_iter().collect() };
        batches.insert(4, rest);
    });
    assert_eq!(torn, ["TORN"]);
    let unchained = spoilt(|history| history.watched[1].batches[1].events[1].previous = None);
    assert_eq!(unchained, ["UNCHAINED"]);
    let starved = spoilt(|history| history.watched[1].end = End::Starved);
    assert_eq!(starved, ["STARVED"]);
    let disputed =
        spoilt(|history| history.watched[1].batches[0].events[0].entry.value = "b".into());
    assert!(disputed.contains(&"DISPUTED".to_owned()));
}

#[test]
fn an_abandoned_watcher_need_not_have_seen_the_end() {
    let faults = spoilt(|history| {
        history.watched[1].batches.truncate(2);
        history.watched[1].end = End::Abandoned;
    });
    assert_eq!(faults, [""; 0]);
}

#[test]
fn a_lease_that_ends_early_is_caught() {
    let early = spoilt(|history| history.lives[0].renewed = at(101));
    assert_eq!(early, ["EARLY"]);
    let mut history = right();
    history.lives[0].renewed = at(150);
    assert_eq!(check(&history), [Fault::Early { lease: 7, before: at(50) }]);
    let revoked = spoilt(|history| {
        history.lives[0].renewed = at(101);
        history.lives[0].revoked = true;
    });
    assert_eq!(revoked, [""; 0]);
}
