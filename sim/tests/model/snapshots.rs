//! Snapshots of random states: what was written is read, and what was damaged is refused.

use cairn_engine::command::Command;
use cairn_engine::raft::{Index, Term};
use cairn_engine::snapshot::{Position, Reader, SnapshotError, SnapshotWriter};
use cairn_engine::state_machine::StateMachine;
use cairn_engine::wal::Lsn;
use cairn_engine::{ClusterId, MemberId};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index as Place;

use crate::generate::{self, Resolve};
use crate::pair::Pair;

const CLUSTER: ClusterId = ClusterId(0xca1);

const POSITION: Position = Position {
    index: Index(77),
    term: Term(3),
    log_start: Lsn(4096),
    log_promise: Lsn(8192),
    vote: (Term(3), MemberId(1)),
    restarts: true,
};

/// A command, and how far a sweep goes after it.
type Step = (Command, Option<usize>);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let sweep = prop_oneof![Just(None), (1..4_usize).prop_map(Some)];
    vec((generate::command(), sweep), 0..40)
}

/// Applies steps, a second each.
fn apply(pair: &mut Pair, time_ms: &mut u64, steps: Vec<Step>) {
    for (command, sweep) in steps {
        *time_ms += 1000;
        pair.apply(*time_ms, command.resolve(&pair.model));
        if let Some(changes_max) = sweep {
            pair.state.store.sweep(changes_max);
        }
    }
}

/// The snapshot of a state. What happens meanwhile to that state does not show.
fn write(pair: &mut Pair, time_ms: &mut u64, meanwhile: Vec<Step>) -> Vec<u8> {
    let mut writer = SnapshotWriter::new(CLUSTER, POSITION, &pair.state);
    let mut meanwhile = meanwhile.into_iter();
    let mut bytes = Vec::new();
    while let Some(chunk) = writer.next_chunk() {
        bytes.extend(chunk);
        apply(pair, time_ms, meanwhile.by_ref().take(2).collect());
    }
    assert!(writer.is_done());
    assert_eq!(writer.position(), POSITION);
    apply(pair, time_ms, meanwhile.collect());
    bytes
}

/// Reads a snapshot that is cut at these places.
fn read(bytes: &[u8], cuts: &[Place]) -> Result<(Position, StateMachine), SnapshotError> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.sort_unstable();
    let mut reader = Reader::new(CLUSTER);
    let mut from = 0;
    for to in cuts.into_iter().chain([bytes.len()]) {
        reader.push(&bytes[from..to])?;
        from = to;
    }
    reader.finish()
}

#[test]
fn a_snapshot_gives_back_the_state_of_its_moment() {
    type Given = (Vec<Step>, Vec<Step>, Vec<Place>);
    let given = (steps(), steps(), vec(any::<Place>(), 0..6));
    crate::check(150, &given, |(before, after, cuts): Given| {
        let mut pair = Pair::default();
        let mut time_ms = 0;
        apply(&mut pair, &mut time_ms, before);
        let (began, then, model) = (time_ms, pair.state.time, pair.model.clone());
        let bytes = write(&mut pair, &mut time_ms, after.clone());

        let (position, state) = read(&bytes, &cuts).expect("what was written is read");
        assert_eq!(position, POSITION);
        let mut restored = Pair { state, model };
        assert_eq!(restored.state.time, then);
        restored.check_all();

        // It goes on like the one that it was taken of, and is equal to it for ever.
        let mut time_ms = began;
        apply(&mut restored, &mut time_ms, after);
        restored.check_all();
        let states = [&restored.state, &pair.state];
        let [ours, theirs] = states.map(|state| SnapshotWriter::new(CLUSTER, POSITION, state));
        assert_eq!(all_of(ours), all_of(theirs));
    });
}

fn all_of(mut writer: SnapshotWriter) -> Vec<u8> {
    core::iter::from_fn(|| writer.next_chunk()).flatten().collect()
}

#[test]
fn a_damaged_snapshot_is_refused() {
    type Given = (Vec<Step>, Vec<Place>, Vec<Place>, Vec<Place>);
    let places = |count| vec(any::<Place>(), 1..count);
    let given = (steps(), places(30), places(30), vec(any::<Place>(), 0..3));
    crate::check(60, &given, |(steps, ends, flips, cuts): Given| {
        let mut pair = Pair::default();
        apply(&mut pair, &mut 0, steps);
        let mut bytes = write(&mut pair, &mut 0, Vec::new());
        for end in ends {
            let end = end.index(bytes.len());
            let error = read(&bytes[..end], &cuts).expect_err("it was cut off");
            assert_eq!(error, SnapshotError::Torn, "cut off at {end} of {}", bytes.len());
        }
        for flip in flips {
            let bit = flip.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let refused = read(&bytes, &cuts).is_err();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(refused, "bit {bit} of {} bytes was flipped", bytes.len());
        }
        bytes.push(0);
        assert!(read(&bytes, &cuts).is_err(), "something follows");
    });
}
