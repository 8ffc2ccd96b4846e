//! Many runs, one seed after another, on some cores.

use core::cell::Cell;
use core::fmt;
use core::panic::AssertUnwindSafe;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::panic;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use crate::check::Violation;
use crate::record::Record;
use crate::report::Story;
use crate::run::deeds::Tape;
use crate::run::marks::Marks;
use crate::run::tally::Tally;
use crate::run::{Plan, Run, steps_behind};
use crate::swarm::Swarm;
use crate::trace::Trace;

/// What became of a seed.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What was done, in numbers.
    pub tally: Tally,
    /// Stands for everything that happened: equal for equal runs.
    pub hash: u64,
    /// The rare states that were seen.
    pub marks: Marks,
    /// What must not have happened, if it did.
    pub violation: Option<Violation>,
    /// The last that happened before it.
    pub lines: Vec<String>,
}

/// Which seeds, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Fleet {
    /// The first seed.
    pub first: u64,
    /// How many; as many as there is time for, if not said.
    pub seeds: Option<u64>,
    /// No run begins after this.
    pub time_max: Option<Duration>,
    /// Runs at a time.
    pub cores: usize,
    /// Whether members are made to lie; then a run that fails does not end the fleet.
    pub canary: bool,
}

/// Lines of a failing run that are shown.
const LINES_MAX: usize = 60;

/// Runs one seed. If it fails it is run once more, to keep the last of what happens.
pub fn run(seed: u64) -> Report {
    let report = run_keeping(seed, 0);
    if report.violation.is_some() { run_keeping(seed, LINES_MAX) } else { report }
}

thread_local! {
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Makes panics name the seed; and where a panic ends the process, `keep` is given the run up to the step that panics, as
/// a story and as a plan, because nobody else can tell it any more. A panic outside of any step (while members are
/// started) only names its seed.
pub fn tell_of_panics(keep: impl Fn(u64, &Story, &Plan) + Send + Sync + 'static) {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        before(info);
        // If it panics again in here, nobody asks once more.
        let Some(seed) = SEED.take() else { return };
        // Without standard error there is nobody to tell.
        writeln!(io::stderr(), "seed {seed} panics; replay: cairn sim run --seed {seed}").ok();
        if cfg!(panic = "abort") {
            let text = info.payload_as_str().unwrap_or("a panic without words");
            let (story, plan) = tell_up_to(&Plan::of(seed), steps_behind(), text);
            keep(seed, &story, &plan);
        }
    }));
}

/// Runs a plan once more, up to a step that panics, to see what led to it, and notes what is done.
pub fn tell_up_to(plan: &Plan, steps: u64, panic: &str) -> (Story, Plan) {
    let mut run = Run::new(plan.clone(), Trace::keeping(0).recording())
        .noting()
        .ending(steps, Violation::new("assertion", panic));
    let violation = run.play().err();
    let report = report_of(plan.seed, &run, violation);
    let record = run.trace.take_record();
    let noted = Plan { deeds: run.deeds().cloned(), skipped: BTreeSet::new(), ..plan.clone() };
    (story_of(plan, &report, record), noted)
}

/// Runs one seed, and keeps the last lines of what happens.
pub fn run_keeping(seed: u64, lines_max: usize) -> Report {
    run_plan(&Plan::of(seed), lines_max)
}

/// Runs a plan, and keeps the last lines of what happens.
pub fn run_plan(plan: &Plan, lines_max: usize) -> Report {
    run_told(plan, Trace::keeping(lines_max)).0
}

/// Runs a plan once more, to see it: the same run, as a page shows it.
pub fn tell(plan: &Plan) -> (Report, Story) {
    let (report, record) = run_told(plan, Trace::keeping(0).recording());
    let story = story_of(plan, &report, record);
    (report, story)
}

fn story_of(plan: &Plan, report: &Report, record: Option<Box<Record>>) -> Story {
    let mut facts: Vec<_> = report
        .tally
        .named()
        .iter()
        .map(|(name, count)| ((*name).to_owned(), count.to_string()))
        .collect();
    facts.push(("trace".to_owned(), format!("{:016x}", report.hash)));
    facts.push(("swarm".to_owned(), format!("{:?}", plan.swarm)));
    Story {
        title: format!("seed {}", plan.seed),
        replay: format!("cairn sim run --seed {}", plan.seed),
        violation: report.violation.clone(),
        facts,
        record: record.expect("it was to be kept"),
    }
}

/// Runs a plan, and notes what is done: the same run as a plan of its own.
pub fn note(plan: &Plan) -> (Report, Plan) {
    let (report, _, tape) = run_all(plan, Trace::keeping(0), true);
    (report, Plan { deeds: tape, skipped: BTreeSet::new(), ..plan.clone() })
}

fn run_told(plan: &Plan, trace: Trace) -> (Report, Option<Box<Record>>) {
    let (report, record, _) = run_all(plan, trace, false);
    (report, record)
}

fn run_all(plan: &Plan, trace: Trace, notes: bool) -> (Report, Option<Box<Record>>, Option<Tape>) {
    let seed = plan.seed;
    SEED.set(Some(seed));
    let run = Run::new(plan.clone(), trace);
    let mut run = if notes { run.noting() } else { run };
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| run.play()));
    let outcome = outcome.unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        Err(Violation::new("assertion", text.unwrap_or("a panic without words")))
    });
    SEED.set(None);
    let record = run.trace.take_record();
    let report = report_of(seed, &run, outcome.err());
    (report, record, run.deeds().cloned())
}

fn report_of(seed: u64, run: &Run, violation: Option<Violation>) -> Report {
    Report {
        seed,
        tally: run.tally(),
        hash: run.trace.hash(),
        marks: run.marks().clone(),
        violation,
        lines: run.trace.lines().map(str::to_owned).collect(),
    }
}

impl Fleet {
    /// Runs seeds until there are no more, the time is over, or one fails; `each` sees every report as it comes. How long
    /// cores were busy with it, where the system tells.
    pub fn run(self, mut each: impl FnMut(&Report)) -> Duration {
        let busy_ns = AtomicU64::new(0);
        let (next, stop) = (AtomicU64::new(self.first), AtomicBool::new(false));
        let end = self.seeds.map(|seeds| self.first.saturating_add(seeds));
        let began = now();
        let (sender, receiver) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..self.cores.max(1) {
                let (sender, next, stop, busy_ns) = (sender.clone(), &next, &stop, &busy_ns);
                scope.spawn(move || {
                    let mut before_ns = thread_busy_ns();
                    loop {
                        let now_ns = thread_busy_ns();
                        busy_ns.fetch_add(now_ns.saturating_sub(before_ns), Ordering::Relaxed);
                        before_ns = now_ns;
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        let late = self.time_max.is_some_and(|max| began.elapsed() >= max);
                        let over = end.is_some_and(|end| seed >= end);
                        if late || over || stop.load(Ordering::Relaxed) {
                            return;
                        }
                        let report = if self.canary {
                            run_plan(&Plan { canary: true, ..Plan::of(seed) }, 0)
                        } else {
                            run(seed)
                        };
                        stop.fetch_or(
                            report.violation.is_some() && !self.canary,
                            Ordering::Relaxed,
                        );
                        if sender.send(report).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            receiver.iter().for_each(|report| each(&report));
        });
        Duration::from_nanos(busy_ns.into_inner())
    }
}

/// How long this thread has had a core; zero where the system does not tell.
fn thread_busy_ns() -> u64 {
    let told = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    told.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a fleet is no simulation: it is told how long it may take"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, tally, hash, violation, lines, marks: _ } = self;
        let Some(violation) = violation else {
            return write!(f, "seed {seed} holds, trace {hash:016x}: {tally}");
        };
        let swarm = Swarm::from_seed(*seed);
        writeln!(f, "seed {seed} FAILS at step {}: {}", tally.steps, violation.rule)?;
        writeln!(f, "  {}", violation.what)?;
        writeln!(f, "the run:\n  {swarm:?}\n  {tally}, trace {hash:016x}")?;
        writeln!(f, "the last that happened:")?;
        lines.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        write!(f, "replay: cairn sim run --seed {seed}")
    }
}
