//! Services in a simulated world: the examples, and that what is wrong with a service shows.

use core::cell::RefCell;
use std::rc::Rc;

use cairn_sim::lab::{Done, Faults, Lab, Trouble};

#[path = "../examples/cache.rs"]
mod cache;
#[path = "../examples/worker.rs"]
mod worker;

use cache::{Resume, cache_and_compare};
use worker::{Care, keep_a_ledger};

#[test]
fn a_fenced_worker_keeps_its_ledger_in_order() {
    for seed in 1..=10 {
        let ledger = keep_a_ledger(seed, Care::Fenced);
        assert_eq!(ledger.went_back, None, "seed {seed}");
        assert!(ledger.entries > 20, "seed {seed}: {} entries", ledger.entries);
    }
}

#[test]
fn an_unfenced_worker_is_seen_to_fail() {
    let failed = (1..=20).find(|seed| keep_a_ledger(*seed, Care::Unfenced).went_back.is_some());
    let seed = failed.expect("in one of twenty worlds somebody writes who was deposed");
    let page = keep_a_ledger(seed, Care::Unfenced).page;
    assert!(page.contains("\"rule\":\"test\"") && page.contains("stands still for"));
}

#[test]
fn a_cache_is_what_the_store_is_however_often_its_stream_is_cut() {
    let mut cuts = 0;
    for seed in 1..=10 {
        let outcome = cache_and_compare(seed, Resume::BehindTheLast);
        assert_eq!(outcome.differs, None, "seed {seed}");
        cuts += outcome.cuts;
    }
    assert!(cuts > 10, "{cuts} cuts");
}

#[test]
fn a_cache_that_loses_what_was_changed_in_between_is_seen_to_differ() {
    let differs = |seed: u64| cache_and_compare(seed, Resume::Now).differs.is_some();
    assert!((1..=20).any(differs));
}

fn count(seed: u64) -> (Done, Vec<String>) {
    let mut lab = Lab::new(seed).members(5).faults(Faults::rough());
    let said = Rc::new(RefCell::new(Vec::new()));
    for number in 0..3 {
        let said = Rc::clone(&said);
        lab.spawn("counter", |client| async move {
            for turn in 0..20 {
                let result = client.put(&format!("c/{number}"), &turn.to_string()).await;
                said.borrow_mut().push(format!("{:?} {number} {result:?}", client.now()));
                client.sleep_ms(client.random(2_000)).await;
            }
        });
    }
    let done = lab.run_for_secs(600);
    (done, said.take())
}

#[test]
fn the_same_seed_is_the_same_run_and_another_is_another() {
    let (first, again, other) = (count(3), count(3), count(4));
    assert_eq!(first, again);
    assert!(first.0.all_ended && first.0.faults > 0, "{first:?}");
    assert_ne!(first.0.hash, other.0.hash);
}

#[test]
fn what_the_test_breaks_is_broken_and_mends() {
    let mut lab = Lab::new(1);
    let said = Rc::new(RefCell::new(Vec::new()));
    let heard = Rc::clone(&said);
    lab.spawn("writer", |client| async move {
        loop {
            let result = client.put("k", "v").await;
            heard.borrow_mut().push((client.now(), result));
            client.sleep_ms(100).await;
        }
    });
    assert_eq!(lab.run_for_secs(10).unfinished, ["writer"]);
    let leader = lab.leader().expect("somebody leads");
    let before = said.borrow().iter().filter(|(_, result)| result.is_ok()).count();
    assert!(before > 50, "{before} writes");
    // Without a majority nothing is done, and nothing is known.
    let others: Vec<u64> = (1..=3).filter(|member| *member != leader).collect();
    others.iter().for_each(|member| lab.crash(*member, 20_000));
    let stopped = lab.now();
    lab.run_for_secs(19);
    let between = |from, to| {
        let said = said.borrow();
        let within = said.iter().filter(|(at, _)| (from..to).contains(at));
        within.map(|(_, result)| *result).collect::<Vec<_>>()
    };
    let lost = between(stopped, lab.now());
    assert!(lost.iter().all(Result::is_err) && lost.contains(&Err(Trouble::Unknown)), "{lost:?}");
    let mended = lab.now();
    lab.run_for_secs(30);
    assert!(between(mended, lab.now()).iter().any(Result::is_ok), "it mends");
}
