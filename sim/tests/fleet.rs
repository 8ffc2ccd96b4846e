//! A small fleet on every build; `cairn sim fleet` sends out large ones.

use std::collections::BTreeSet;

use cairn_sim::fleet::{Fleet, note, run, run_keeping, run_plan, tell_up_to};
use cairn_sim::report::page;
use cairn_sim::run::Plan;
use cairn_sim::run::marks::Mark;
use cairn_sim::run::tally::Tally;
use cairn_sim::swarm::TREES;

#[test]
fn every_rule_holds_in_the_first_seeds_and_they_get_around() {
    let (mut sum, mut seen) = (Tally::default(), BTreeSet::new());
    Fleet { first: 1, seeds: Some(150), time_max: None, cores: 2, canary: false }.run(|report| {
        assert!(report.violation.is_none(), "{report}");
        sum.add(&report.tally);
        seen.extend(report.marks.keys().copied());
    });
    // Rare states are worth nothing if no run ever gets there.
    for (what, count) in [
        ("answers", sum.answered),
        ("refusals", sum.refused),
        ("unknown outcomes", sum.unknown),
        ("crashes", sum.crashes),
        ("refused starts", sum.refusals),
        ("snapshots", sum.snapshots),
        ("watch responses", sum.watched),
        ("resumed watchers", sum.resumed),
        ("expired leases", sum.expired),
        ("disks set back", sum.rolled_back),
        ("swapped disks", sum.swapped),
    ] {
        assert!(count > 0, "no {what}: {sum}");
    }
    let all = Mark::all();
    let missing: Vec<String> =
        all.iter().filter(|mark| !seen.contains(mark)).map(Mark::to_string).collect();
    assert!(all.len() > 150 && 4 * missing.len() < all.len(), "nobody gets to {missing:?}");
}

/// The same, of members that keep their state in trees.
#[test]
fn every_rule_holds_over_trees() {
    let mut sum = Tally::default();
    Fleet { first: TREES + 1, seeds: Some(60), time_max: None, cores: 2, canary: false }.run(
        |report| {
            assert!(report.violation.is_none(), "{report}");
            sum.add(&report.tally);
        },
    );
    for (what, count) in [
        ("answers", sum.answered),
        ("crashes", sum.crashes),
        ("refused starts", sum.refusals),
        ("checkpoints", sum.snapshots),
        ("leaders' states", sum.installed),
    ] {
        assert!(count > 0, "no {what}: {sum}");
    }
}

#[test]
fn the_same_seed_tells_the_same_story() {
    for seed in 1000..1010 {
        let (first, second) = (run(seed), run_keeping(seed, 10));
        assert!(first.violation.is_none(), "{first}");
        assert_eq!((first.hash, first.tally), (second.hash, second.tally), "seed {seed}");
        assert_eq!((first.lines.len(), second.lines.len()), (0, 10));
    }
    assert_ne!(run(1000).hash, run(1001).hash);
}

#[test]
fn a_plan_is_the_run_that_it_was_noted_from() {
    // In 17 a stream is resumed in the very nanosecond in which a member starts: the limit that the README names.
    for seed in (1..40).filter(|seed| *seed != 17) {
        let (first, plan) = note(&Plan::of(seed));
        let again = run_plan(&plan, 0);
        assert_eq!(
            (first.hash, first.tally.nanos),
            (again.hash, again.tally.nanos),
            "{seed}: {first}\n{again}"
        );
    }
}

/// Where a panic ends the process, the run up to it is all that can still be told.
#[test]
fn a_run_is_told_up_to_the_step_that_panics() {
    let (story, plan) = tell_up_to(&Plan::of(3), 500, "a bug that was planted here");
    let violation = story.violation.clone().expect("it ends with what the panic said");
    assert_eq!(violation.to_string(), "assertion: a bug that was planted here");
    assert!(page(&story).contains("a bug that was planted here"));
    let deeds = plan.deeds.expect("they were noted");
    let (_, whole) = note(&Plan::of(3));
    let whole = whole.deeds.expect("they were noted");
    assert!(!deeds.is_empty() && deeds.len() < whole.len());
    assert!(deeds.iter().zip(&whole).all(|(one, other)| one == other));
}
