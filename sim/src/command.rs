//! The command line: `sim run --seed S`, `sim fleet --seeds N | --minutes M [--first S] [--cores C]`,
//! `sim check …`, `sim walk …`.

use core::time::Duration;
use std::io::{self, Write};

use crate::check::Violation;
use crate::exhaust::{self, Action, Scope};
use crate::fleet::{self, Fleet, Report};
use crate::run::Tally;

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
    },
    /// Run one seed after another, until one fails
    Fleet(Extent),
    /// Look at every state of agreement alone that a few steps can reach
    Check {
        /// Members
        #[arg(long, default_value_t = 3)]
        members: u64,
        /// The highest term
        #[arg(long, default_value_t = 2)]
        terms: u64,
        /// Entries
        #[arg(long, default_value_t = 1)]
        entries: u64,
        /// Changes of the members
        #[arg(long, default_value_t = 0)]
        changes: u64,
        /// Crashes
        #[arg(long, default_value_t = 0)]
        crashes: u64,
        /// Messages in flight
        #[arg(long, default_value_t = 3)]
        in_flight: usize,
        /// States after which to stop
        #[arg(long, default_value_t = 1_000_000)]
        states: usize,
    },
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
    fleet::name_seed_in_panics();
    match *command {
        Command::Run { seed, lines } => {
            let mut report = fleet::run(seed);
            if lines > 0 {
                report = fleet::run_keeping(seed, lines);
            }
            if report.violation.is_none() {
                report.lines.iter().try_for_each(|line| writeln!(out, "{line}"))?;
            }
            writeln!(out, "{report}")?;
            Ok(verdict(&report))
        }
        Command::Check { members, terms, entries, changes, crashes, in_flight, states } => {
            let scope = Scope {
                members,
                terms,
                entries,
                changes,
                crashes,
                duplicates: 0,
                in_flight,
                states_max: states,
            };
            let explored = exhaust::explore(&scope);
            writeln!(
                out,
                "{} states, {} steps, {} deep, {}",
                explored.states,
                explored.steps,
                explored.depth,
                if explored.complete { "all" } else { "not all" }
            )?;
            tell_way(explored.violation, out)
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
        Command::Fleet(Extent { seeds, minutes, first, cores }) => {
            let time_max = minutes.map(|minutes| Duration::from_secs(60 * minutes));
            send_out(Fleet { first, seeds, time_max, cores }, out)
        }
    }
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

fn send_out(fleet: Fleet, out: &mut impl Write) -> io::Result<Verdict> {
    let (mut sum, mut seeds, mut verdict) = (Tally::default(), 0_u64, Verdict::Holds);
    let mut told = Ok(());
    fleet.run(|report| {
        seeds += 1;
        sum.add(&report.tally);
        if report.violation.is_some() {
            verdict = Verdict::Fails;
            told = writeln!(out, "{report}");
        }
    });
    told?;
    writeln!(out, "{seeds} seeds from {}: {sum}", fleet.first)?;
    Ok(verdict)
}
