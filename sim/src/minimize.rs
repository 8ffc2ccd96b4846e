//! Makes a failing run smaller: fewer faults, less work, fewer members, as long as the same rule is broken.
//!
//! What a run is made of ([`Plan`]) comes from its seed; here parts of it are taken away, one after another, and what
//! is not needed stays away. The order is by how much a reader is spared: whole kinds of faults and requests first, then
//! clients, members and time, then single faults, by halves, quarters and so on (Zeller, Hildebrandt: "Simplifying and
//! Isolating Failure-Inducing Input", 2002). What is left is noted as a [plan](crate::plan), of which single
//! [deeds](crate::run::deeds) are taken away in the same manner: there, what goes changes nothing about the others.
//!
//! # Limits
//!
//! While chance decides, whatever is taken away changes what chance does from then on, so some that is not needed stays, because without it the
//! run takes another way. A panic can be made smaller only in a build in which it does not end the process.

use std::collections::VecDeque;
use std::io::{self, Write};

use crate::check::Violation;
use crate::fleet::{Report, note, run_plan};
use crate::run::Plan;

/// Lines of the smaller run that are told.
const LINES_MAX: usize = 400;

/// Makes a plan that fails smaller, with so many runs at most, and tells of it; the smaller run's report, and its plan.
///
/// # Errors
/// If nobody takes what is told.
pub fn minimize(
    mut plan: Plan,
    runs_max: usize,
    out: &mut impl Write,
) -> io::Result<(Report, Plan)> {
    let seed = plan.seed;
    let before = run_plan(&plan, 0);
    let Some(Violation { rule, .. }) = before.violation else {
        writeln!(out, "{before}")?;
        return Ok((before, plan));
    };
    plan.faults_max = before.tally.faults;
    let breaks = |plan: &Plan| run_plan(plan, 0).violation.is_some_and(|found| found.rule == rule);
    let mut runs = 0;
    if plan.deeds.is_none() {
        // What comes behind the failure goes first.
        let mut cut = plan.clone();
        cut.swarm.span_ns = plan.swarm.span_ns.min(before.tally.nanos + 1);
        if breaks(&cut) {
            plan = cut;
        }
        runs += shrink(&mut plan, runs_max / 2, breaks);
        // What chance did then, does a plan; if it fails as well, single deeds can be taken away.
        let (_, noted) = note(&plan);
        if breaks(&noted) {
            plan = noted;
        }
    }
    runs += shrink_deeds(&mut plan, runs_max - runs, breaks);
    let after = run_plan(&plan, LINES_MAX);
    let left = plan.deeds.as_ref().map_or(0, VecDeque::len);
    writeln!(
        out,
        "seed {seed}, rule {rule}: {} steps became {}, {left} deeds are left, in {runs} runs",
        before.tally.steps, after.tally.steps
    )?;
    let what = after.violation.as_ref().map_or("", |found| found.what.as_str());
    writeln!(out, "  {what}\nwhat is left of the run:\n  {:?}\nwhat happened:", plan.swarm)?;
    let tells = |line: &&String| STORY.iter().any(|word| line.contains(word));
    after.lines.iter().filter(tells).try_for_each(|line| writeln!(out, "  {line}"))?;
    Ok((after, plan))
}

/// Takes single deeds away, by halves, quarters and so on, as long as the plan fails. `fails` is asked `runs_max` times at
/// most; how often it was.
pub fn shrink_deeds(
    plan: &mut Plan,
    runs_max: usize,
    mut fails: impl FnMut(&Plan) -> bool,
) -> usize {
    let mut runs = 0;
    let mut size = plan.deeds.as_ref().map_or(0, VecDeque::len).next_power_of_two() / 2;
    while size > 0 && plan.deeds.is_some() {
        let (mut first, mut progressed) = (0, false);
        while let Some(tape) = plan.deeds.as_ref().filter(|tape| first < tape.len()) {
            if runs == runs_max {
                return runs;
            }
            runs += 1;
            let rest = |place: usize| !(first..first + size).contains(&place);
            let kept = tape.iter().enumerate().filter(|(place, _)| rest(*place));
            let deeds = Some(kept.map(|(_, deed)| deed.clone()).collect());
            let smaller = Plan { deeds, ..plan.clone() };
            if fails(&smaller) {
                *plan = smaller;
                progressed = true;
            } else {
                first += size;
            }
        }
        // What was needed may be needed no more.
        if !progressed || size > 1 {
            size /= 2;
        }
    }
    runs
}

/// What belongs to the story of a run: what was done to it, and what members became.
const STORY: [&str; 9] = [
    "ms  fault ",
    " asks ",
    " rots at ",
    "the disk of ",
    "are left alone",
    "Crashed(",
    "Started(",
    "Refused(",
    "Role {",
];

/// Takes away what is not needed for a plan to fail. `fails` is asked `runs_max` times at most; how often it was.
pub fn shrink(plan: &mut Plan, runs_max: usize, mut fails: impl FnMut(&Plan) -> bool) -> usize {
    let mut runs = 0;
    let mut attempt = |plan: &mut Plan, smaller: Plan| {
        if runs == runs_max {
            return false;
        }
        runs += 1;
        let holds = fails(&smaller);
        if holds {
            *plan = smaller;
        }
        holds
    };
    loop {
        let mut progressed = false;
        let mut place = 0;
        while let Some(smaller) = simpler(plan, place) {
            // What was taken away has made room for the next at the same place.
            if attempt(plan, smaller) {
                progressed = true;
            } else {
                place += 1;
            }
        }
        progressed |= skip_faults(plan, &mut attempt);
        if !progressed {
            return runs;
        }
    }
}

/// Leaves out as many single faults as possible.
fn skip_faults(plan: &mut Plan, attempt: &mut impl FnMut(&mut Plan, Plan) -> bool) -> bool {
    let mut progressed = false;
    let mut step = plan.faults_max.next_power_of_two();
    while step > 0 {
        let mut first = 0;
        while first < plan.faults_max {
            let some: Vec<u64> = (first..plan.faults_max.min(first + step)).collect();
            if some.iter().any(|number| !plan.skipped.contains(number)) {
                let mut smaller = plan.clone();
                smaller.skipped.extend(some);
                progressed |= attempt(plan, smaller);
            }
            first += step;
        }
        step /= 2;
    }
    progressed
}

/// The plan with one thing less: the one at this place in the list of all such plans.
fn simpler(plan: &Plan, place: usize) -> Option<Plan> {
    let mut all = Vec::new();
    let mut less = |change: &dyn Fn(&mut Plan)| {
        let mut smaller = plan.clone();
        change(&mut smaller);
        all.push(smaller);
    };
    let swarm = &plan.swarm;
    for number in 0..swarm.faults.len() {
        less(&|plan| {
            plan.swarm.faults.remove(number);
        });
    }
    for number in 0..swarm.work.mixture.len() {
        if swarm.work.mixture.len() > 1 {
            less(&|plan| {
                plan.swarm.work.mixture.remove(number);
            });
        }
    }
    if swarm.operate_every_ns > 0 {
        less(&|plan| plan.swarm.operate_every_ns = 0);
    }
    if swarm.auto_compaction.is_some() {
        less(&|plan| plan.swarm.auto_compaction = None);
    }
    if swarm.drift_ppm_max > 0 {
        less(&|plan| plan.swarm.drift_ppm_max = 0);
    }
    if swarm.shards > 1 {
        less(&|plan| plan.swarm.shards = 1);
    }
    // Each of these is tried at its least, at half, and, if it is small, at one less.
    let numbers: [(u64, u64, Set); 6] = [
        (swarm.members, 1, |plan, members| plan.swarm.members = members),
        (swarm.work.streams, 0, |plan, streams| plan.swarm.work.streams = streams),
        (swarm.work.clients, 1, |plan, clients| plan.swarm.work.clients = clients),
        (swarm.work.keys, 1, |plan, keys| plan.swarm.work.keys = keys),
        (swarm.work.value_bytes_max, 1, |plan, bytes| plan.swarm.work.value_bytes_max = bytes),
        (swarm.span_ns, SPAN_NS_MIN, |plan, span| plan.swarm.span_ns = span),
    ];
    for (now, least, set) in numbers {
        let mut tried = vec![least, now.midpoint(least)];
        if now <= SMALL {
            tried.push(now.saturating_sub(1));
        }
        tried.retain(|smaller| (least..now).contains(smaller));
        tried.dedup();
        for smaller in tried {
            less(&|plan| set(plan, smaller));
        }
    }
    all.into_iter().nth(place)
}

/// Sets a number of a plan.
type Set = fn(&mut Plan, u64);

/// Of numbers up to here, one less is worth a try.
const SMALL: u64 = 16;
/// Shorter runs are not worth looking for.
const SPAN_NS_MIN: u64 = 100_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_engine::MemberId;

    use crate::run::deeds::Deed;
    use crate::swarm::{Fault, Kind};

    #[test]
    fn what_is_not_needed_goes_and_what_is_needed_stays() {
        for seed in [3, 7, 30, 51] {
            let mut plan = Plan::of(seed);
            plan.swarm.faults.push((Fault::Rot, 1));
            plan.swarm.work.mixture.push((Kind::Compact, 1));
            plan.faults_max = 37;
            let fails = |plan: &Plan| {
                plan.swarm.faults.iter().any(|(fault, _)| *fault == Fault::Rot)
                    && plan.swarm.work.mixture.iter().any(|(kind, _)| *kind == Kind::Compact)
                    && !plan.skipped.contains(&5)
                    && !plan.skipped.contains(&36)
            };
            let runs = shrink(&mut plan, 10_000, fails);
            assert!(fails(&plan) && runs < 1_000, "{runs} runs");
            assert_eq!(plan.skipped.len(), 35, "all but two: {:?}", plan.skipped);
            let swarm = &plan.swarm;
            assert!(swarm.faults.iter().all(|(fault, _)| *fault == Fault::Rot), "{swarm:?}");
            assert_eq!((swarm.members, swarm.work.clients, swarm.work.streams), (1, 1, 0));
            assert_eq!(swarm.span_ns, SPAN_NS_MIN);
        }
    }

    #[test]
    fn deeds_that_are_not_needed_go() {
        let start = |id| Deed::Start(MemberId(id));
        let tape: VecDeque<_> = (0..100).map(|place| (place, start(place))).collect();
        let mut plan = Plan { deeds: Some(tape), ..Plan::of(3) };
        let has = |plan: &Plan, id| plan.deeds.iter().flatten().any(|(_, deed)| *deed == start(id));
        let runs = shrink_deeds(&mut plan, 10_000, |plan| has(plan, 17) && has(plan, 80));
        assert_eq!(plan.deeds, Some([(17, start(17)), (80, start(80))].into()));
        assert!(runs < 200, "{runs} runs");
    }

    #[test]
    fn no_more_runs_are_made_than_there_may_be() {
        let mut plan = Plan::of(3);
        let mut made = 0;
        let runs = shrink(&mut plan, 5, |_| {
            made += 1;
            true
        });
        assert_eq!((runs, made), (5, 5));
    }
}
