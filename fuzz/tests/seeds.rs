//! Every target over its seeds, and over random inputs: what CI runs without a fuzzer.

use std::fs;
use std::path::Path;

use cairn_fuzz::TARGETS;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

#[test]
fn seeds_harm_nobody() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    for target in TARGETS {
        let mut count = 0;
        for seed in fs::read_dir(seeds.join(target.name)).expect("each target has seeds") {
            (target.run)(&fs::read(seed.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 0, "{} has seeds", target.name);
    }
}

/// Random bytes, and seeds with random changes: most random bytes are refused at the first one.
fn input(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let edits = vec((any::<prop::sample::Index>(), any::<u8>()), 0..8);
    let edited = (prop::sample::select(seeds), edits).prop_map(|(mut seed, edits)| {
        for (place, byte) in edits {
            match (byte % 4, seed.len()) {
                (0, _) | (_, 0) => seed.push(byte),
                (1, len) => drop(seed.remove(place.index(len))),
                (_, len) => seed[place.index(len)] = byte,
            }
        }
        seed
    });
    prop_oneof![vec(any::<u8>(), 0..300), edited]
}

#[test]
fn random_inputs_harm_nobody() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    for target in TARGETS {
        let seeds = fs::read_dir(folder.join(target.name)).unwrap();
        let mut seeds: Vec<_> = seeds.map(|seed| fs::read(seed.unwrap().path()).unwrap()).collect();
        seeds.sort();
        let config = Config { cases: 300, failure_persistence: None, ..Config::default() };
        let outcome = TestRunner::new(config).run(&input(seeds), |data| {
            (target.run)(&data);
            Ok(())
        });
        outcome.unwrap_or_else(|failure| panic!("{}: {failure}", target.name));
    }
}
