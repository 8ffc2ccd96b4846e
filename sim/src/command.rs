//! The command line: `sim run --seed S`, `sim fleet --seeds N | --minutes M [--first S] [--cores C]`,
//! `sim check …`, `sim walk …`.

use core::time::Duration;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::check::Violation;
use crate::exhaust::state::Action;
use crate::exhaust::{self, Scope};
use crate::fleet::{self, Fleet, Report};
use crate::minimize::minimize;
use crate::mutants::Mutants;
use crate::plan;
use crate::report::{self, Story};
use crate::run::Plan;
use crate::run::marks::{Mark, Marks};
use crate::run::tally::Tally;
use crate::script;

/// Where pages and plans of runs that fail go.
const FAILURES: &str = "sim-failures";

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, clap::Subcommand)]
pub enum Command {
    /// Run one seed
    Run {
        /// Which
        #[arg(long)]
        seed: u64,
        /// Show so many lines of the last that happened
        #[arg(long, default_value_t = 0)]
        lines: usize,
        /// Write down what is done, as a plan
        #[arg(long)]
        plan: Option<PathBuf>,
        /// Run it so often again, and see whether it is the same run
        #[arg(long, default_value_t = 0)]
        reruns: u64,
    },
    /// Run a plan: the same again, whatever became of the generator
    Replay {
        /// The plan
        plan: PathBuf,
        /// Show so many lines of the last that happened
        #[arg(long, default_value_t = 60)]
        lines: usize,
    },
    /// Make a page of a run, for a browser
    Report(Wanted),
    /// Run one seed after another, until one fails
    Fleet(Extent),
    /// Look at every state of agreement alone that a few steps can reach
    Check(Bounds),
    /// Make a seed, or a plan, that fails smaller
    Minimize {
        /// Which seed
        #[arg(long, required_unless_present = "plan", conflicts_with = "plan")]
        seed: Option<u64>,
        /// Which plan
        #[arg(long)]
        plan: Option<PathBuf>,
        /// Where the smaller plan goes
        #[arg(long)]
        out: Option<PathBuf>,
        /// How many runs it may take
        #[arg(long, default_value_t = 1000)]
        runs: usize,
    },
    /// Plant bugs in a copy of the source, and see what finds them
    Mutants(Mutants),
    /// Take random steps through agreement alone, from one seed after another
    Walk {
        /// Members
        #[arg(long, default_value_t = 3)]
        members: u64,
        /// How many seeds
        #[arg(long, default_value_t = 1000)]
        seeds: u64,
        /// Steps of each
        #[arg(long, default_value_t = 2000)]
        steps: usize,
    },
}

/// What to look at. Without any of these: every scope that has a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Bounds {
    /// A scope by its name; what is said besides takes the place of what it has
    #[arg(long)]
    scope: Option<String>,
    /// Members
    #[arg(long)]
    members: Option<u64>,
    /// The highest term
    #[arg(long)]
    terms: Option<u64>,
    /// Campaigns
    #[arg(long)]
    campaigns: Option<u64>,
    /// Heartbeats
    #[arg(long)]
    heartbeats: Option<u64>,
    /// Entries
    #[arg(long)]
    entries: Option<u64>,
    /// Reads
    #[arg(long)]
    reads: Option<u64>,
    /// Changes of the members
    #[arg(long)]
    changes: Option<u64>,
    /// Crashes
    #[arg(long)]
    crashes: Option<u64>,
    /// Messages that arrive twice
    #[arg(long)]
    duplicates: Option<u64>,
    /// Messages in flight
    #[arg(long)]
    in_flight: Option<usize>,
    /// States after which to stop
    #[arg(long)]
    states: Option<usize>,
}

/// Which run is to be seen.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Wanted {
    /// The run of a seed
    #[arg(long, required_unless_present_any = ["plan", "script"], conflicts_with_all = ["plan", "script"])]
    seed: Option<u64>,
    /// The run of a plan, in a file
    #[arg(long, conflicts_with = "script")]
    plan: Option<PathBuf>,
    /// The story of a script, in a file
    #[arg(long)]
    script: Option<PathBuf>,
    /// The page
    #[arg(long, default_value = "report.html")]
    out: PathBuf,
    /// Make members lie, to see that it is noticed
    #[arg(long)]
    canary: bool,
}

impl Wanted {
    fn story(&self) -> io::Result<Story> {
        if let Some(file) = &self.script {
            let name = file.display().to_string();
            return Ok(script::tell(&name, &fs::read_to_string(file)?));
        }
        let Some(file) = &self.plan else {
            let seed = self.seed.unwrap_or_default();
            return Ok(fleet::tell(&Plan { canary: self.canary, ..Plan::of(seed) }).1);
        };
        let (_, story) = fleet::tell(&read_plan(file)?);
        let name = file.display().to_string();
        Ok(Story { replay: format!("cairn sim replay {name}"), title: name, ..story })
    }
}

/// How long a fleet is out.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(group = clap::ArgGroup::new("extent").required(true).multiple(true))]
pub struct Extent {
    /// How many seeds
    #[arg(long, group = "extent")]
    seeds: Option<u64>,
    /// For how long
    #[arg(long, group = "extent")]
    minutes: Option<u64>,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Runs at a time
    #[arg(long, default_value_t = 1)]
    cores: usize,
    /// Where a page of a run that fails goes
    #[arg(long, default_value = FAILURES)]
    out: PathBuf,
    /// Make the members of each run lie: every one of them must fail
    #[arg(long)]
    canary: bool,
    /// Fail if a rare state is seen by none of the runs
    #[arg(long)]
    every_mark: bool,
}

/// What came of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every rule held.
    Holds,
    /// One was broken.
    Fails,
}

/// Carries out a command and tells `out` about it.
///
/// # Errors
/// If nobody takes what is told.
pub fn execute(command: &Command, out: &mut impl Write) -> io::Result<Verdict> {
    let folder =
        if let Command::Fleet(extent) = command { &*extent.out } else { FAILURES.as_ref() };
    let folder = folder.to_owned();
    fleet::tell_of_panics(move |seed, story, plan| {
        // Without standard error there is nobody to tell.
        if let Err(error) = keep(seed, story, plan, &folder, &mut io::stderr()) {
            writeln!(io::stderr(), "no page of seed {seed}: {error}").ok();
        }
    });
    match *command {
        Command::Run { seed, lines, plan: ref file, reruns } => {
            let mut report = fleet::run(seed);
            for number in 1..=reruns {
                let again = fleet::run(seed).hash;
                if again != report.hash {
                    writeln!(out, "run {number} of seed {seed} is another: trace {again:016x}")?;
                    return Ok(Verdict::Fails);
                }
            }
            if let Some(file) = file {
                fs::write(file, plan::write(&fleet::note(&Plan::of(seed)).1))?;
            }
            if lines > 0 {
                report = fleet::run_keeping(seed, lines);
            }
            if report.violation.is_none() {
                report.lines.iter().try_for_each(|line| writeln!(out, "{line}"))?;
            }
            writeln!(out, "{report}")?;
            Ok(verdict(&report))
        }
        Command::Report(ref wanted) => {
            let story = wanted.story()?;
            fs::write(&wanted.out, report::page(&story))?;
            let (title, page) = (&story.title, wanted.out.display());
            let Some(violation) = &story.violation else {
                writeln!(out, "{title}: every rule held\npage: {page}")?;
                return Ok(Verdict::Holds);
            };
            writeln!(out, "{title}: {violation}\npage: {page}")?;
            Ok(Verdict::Fails)
        }
        Command::Check(ref bounds) => check(bounds, out),
        Command::Replay { ref plan, lines } => {
            let report = fleet::run_plan(&read_plan(plan)?, lines);
            writeln!(out, "{report}\nreplay: cairn sim replay {}", plan.display())?;
            Ok(verdict(&report))
        }
        Command::Minimize { seed, ref plan, out: ref file, runs } => {
            let plan = match plan {
                Some(plan) => read_plan(plan)?,
                None => Plan::of(seed.unwrap_or_default()),
            };
            let (report, smaller) = minimize(plan, runs, out)?;
            if let Some(file) = file {
                fs::write(file, plan::write(&smaller))?;
                writeln!(out, "replay: cairn sim replay {}", file.display())?;
            }
            Ok(verdict(&report))
        }
        Command::Mutants(ref mutants) => {
            Ok(if mutants.run(out)? == 0 { Verdict::Holds } else { Verdict::Fails })
        }
        Command::Walk { members, seeds, steps } => {
            let scope = exhaust::walking(members);
            for seed in 1..=seeds {
                if let Some(found) = exhaust::walk(&scope, seed, steps) {
                    writeln!(out, "walk {seed} FAILS")?;
                    return tell_way(Some(found), out);
                }
            }
            writeln!(out, "{seeds} walks of {steps} steps hold")?;
            Ok(Verdict::Holds)
        }
        Command::Fleet(ref extent) if extent.canary => listen_to_canaries(extent.fleet(), out),
        Command::Fleet(ref extent) => send_out(extent, out),
    }
}

fn check(bounds: &Bounds, out: &mut impl Write) -> io::Result<Verdict> {
    if *bounds == Bounds::default() {
        for (name, scope) in exhaust::SCOPES {
            let verdict = check_scope(name, &scope, out)?;
            if verdict == Verdict::Fails {
                return Ok(verdict);
            }
        }
        return Ok(Verdict::Holds);
    }
    let name = bounds.scope.as_deref().unwrap_or("election");
    let Some((_, base)) = exhaust::SCOPES.into_iter().find(|(known, _)| *known == name) else {
        let known = exhaust::SCOPES.map(|(name, _)| name).join(", ");
        writeln!(out, "there is no scope {name}; there are: {known}")?;
        return Ok(Verdict::Fails);
    };
    let scope = Scope {
        members: bounds.members.unwrap_or(base.members),
        begin: base.begin,
        terms: bounds.terms.unwrap_or(base.terms),
        campaigns: bounds.campaigns.unwrap_or(base.campaigns),
        heartbeats: bounds.heartbeats.unwrap_or(base.heartbeats),
        entries: bounds.entries.unwrap_or(base.entries),
        reads: bounds.reads.unwrap_or(base.reads),
        changes: bounds.changes.unwrap_or(base.changes),
        crashes: bounds.crashes.unwrap_or(base.crashes),
        duplicates: bounds.duplicates.unwrap_or(base.duplicates),
        in_flight: bounds.in_flight.unwrap_or(base.in_flight),
        states_max: bounds.states.unwrap_or(base.states_max),
    };
    check_scope(name, &scope, out)
}

fn check_scope(name: &str, scope: &Scope, out: &mut impl Write) -> io::Result<Verdict> {
    let began = fleet::now();
    let explored = exhaust::explore(scope);
    let took_ms = began.elapsed().as_millis().max(1);
    let per_second = u128::try_from(explored.states).expect("it fits") * 1000 / took_ms;
    writeln!(
        out,
        "{name}: {}, {} states, {} steps, {} deep, {took_ms} ms, {per_second} states per second",
        if explored.complete { "complete" } else { "not complete" },
        explored.states,
        explored.steps,
        explored.depth,
    )?;
    tell_way(explored.violation, out)
}

/// Tells of a rule that was broken, and the way there.
fn tell_way(found: Option<(Violation, Vec<Action>)>, out: &mut impl Write) -> io::Result<Verdict> {
    let Some((violation, way)) = found else { return Ok(Verdict::Holds) };
    writeln!(out, "{violation}")?;
    for action in way {
        writeln!(out, "  {action:?}")?;
    }
    Ok(Verdict::Fails)
}

fn verdict(report: &Report) -> Verdict {
    if report.violation.is_none() { Verdict::Holds } else { Verdict::Fails }
}

impl Extent {
    fn fleet(&self) -> Fleet {
        let Self { seeds, minutes, first, cores, canary, .. } = *self;
        let time_max = minutes.map(|minutes| Duration::from_secs(60 * minutes));
        Fleet { first, seeds, time_max, cores, canary }
    }
}

/// Every run must fail: whoever hears nothing there would hear nothing anywhere.
fn listen_to_canaries(fleet: Fleet, out: &mut impl Write) -> io::Result<Verdict> {
    let (mut heard, mut unheard) = (0_u64, Vec::new());
    fleet.run(|report| match &report.violation {
        Some(_) => heard += 1,
        None => unheard.push(report.seed),
    });
    writeln!(out, "{heard} canaries were heard, and not those of the seeds {unheard:?}")?;
    Ok(if heard > 0 && unheard.is_empty() { Verdict::Holds } else { Verdict::Fails })
}

/// Keeps a page of a run that failed, and its plan, and says where.
fn keep(
    seed: u64,
    story: &Story,
    plan: &Plan,
    folder: &Path,
    out: &mut impl Write,
) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let page = folder.join(format!("seed-{seed}.html"));
    fs::write(&page, report::page(story))?;
    let file = page.with_extension("plan");
    fs::write(&file, plan::write(plan))?;
    writeln!(out, "page: {}\nplan: {}", page.display(), file.display())
}

fn read_plan(file: &Path) -> io::Result<Plan> {
    let text = fs::read_to_string(file)?;
    let named = |error| io::Error::other(format!("{}: {error}", file.display()));
    plan::read(&text).map_err(named)
}

fn send_out(extent: &Extent, out: &mut impl Write) -> io::Result<Verdict> {
    let fleet = extent.fleet();
    let (mut sum, mut seeds, mut verdict) = (Tally::default(), 0_u64, Verdict::Holds);
    let (mut told, mut seen, began) = (Ok(()), Marks::new(), fleet::now());
    let busy = fleet.run(|report| {
        seeds += 1;
        sum.add(&report.tally);
        report.marks.iter().for_each(|(mark, count)| *seen.entry(*mark).or_default() += count);
        if report.violation.is_some() {
            verdict = Verdict::Fails;
            let plan = Plan::of(report.seed);
            let (story, noted) = (fleet::tell(&plan).1, fleet::note(&plan).1);
            told = writeln!(out, "{report}")
                .and_then(|()| keep(report.seed, &story, &noted, &extent.out, out));
        }
    });
    told?;
    let took_ms = u64::try_from(began.elapsed().as_millis()).expect("no fleet is out for ever");
    writeln!(out, "{seeds} seeds from {}: {sum}", fleet.first)?;
    let busy_ms = u64::try_from(busy.as_millis()).expect("no fleet is out for ever");
    for (what, ms) in [("", took_ms), (" of a core", busy_ms)] {
        writeln!(
            out,
            "{} steps and {} virtual seconds in a second{what}",
            sum.steps * 1000 / ms.max(1),
            sum.nanos / 1_000_000 / ms.max(1),
        )?;
    }
    writeln!(out, "{}.{} s of a core", busy_ms / 1000, busy_ms / 100 % 10)?;
    let all = Mark::all();
    let missing: Vec<String> =
        all.iter().filter(|mark| !seen.contains_key(mark)).map(Mark::to_string).collect();
    writeln!(
        out,
        "{} of {} rare states seen; not {}",
        all.len() - missing.len(),
        all.len(),
        if missing.is_empty() { "one is missing".to_owned() } else { missing.join(", ") },
    )?;
    if extent.every_mark && !missing.is_empty() {
        verdict = Verdict::Fails;
    }
    Ok(verdict)
}
