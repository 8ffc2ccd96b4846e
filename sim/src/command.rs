//! The command line: `sim run --seed S`, `sim fleet --seeds N | --minutes M [--first S] [--cores C]`.

use core::time::Duration;
use std::io::{self, Write};

use crate::fleet::{self, Fleet, Report};
use crate::run::Tally;

/// What can be asked.
pub const USAGE: &str = "usage:
  cairn sim run --seed S [--lines N]
      runs one seed; shows the last N lines of what happened
  cairn sim fleet (--seeds N | --minutes M) [--first S] [--cores C]
      runs seeds from S on until one fails";

/// What came of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every rule held.
    Holds,
    /// One was broken.
    Fails,
    /// The command makes no sense.
    Usage,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Run { seed: u64, lines: usize },
    Fleet { first: u64, seeds: Option<u64>, minutes: Option<u64>, cores: usize },
}

/// Carries out a command, `arguments` being the words after `sim`, and tells `out` about it.
///
/// # Errors
/// If nobody takes what is told.
pub fn execute(arguments: &[String], out: &mut impl Write) -> io::Result<Verdict> {
    fleet::name_seed_in_panics();
    match read(arguments) {
        Ok(Command::Run { seed, lines }) => {
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
        Ok(Command::Fleet { first, seeds, minutes, cores }) => {
            let time_max = minutes.map(|minutes| Duration::from_secs(60 * minutes));
            send_out(Fleet { first, seeds, time_max, cores }, out)
        }
        Err(why) => {
            writeln!(out, "{why}\n{USAGE}")?;
            Ok(Verdict::Usage)
        }
    }
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

fn read(arguments: &[String]) -> Result<Command, String> {
    let mut words = arguments.iter().map(String::as_str);
    let verb = words.next().unwrap_or_default();
    let (mut seed, mut lines, mut seeds, mut minutes) = (None, None, None, None);
    let (mut first, mut cores) = (None, None);
    while let Some(flag) = words.next() {
        let place = match (verb, flag) {
            ("run", "--seed") => &mut seed,
            ("run", "--lines") => &mut lines,
            ("fleet", "--seeds") => &mut seeds,
            ("fleet", "--minutes") => &mut minutes,
            ("fleet", "--first") => &mut first,
            ("fleet", "--cores") => &mut cores,
            _ => return Err(format!("{flag} means nothing here")),
        };
        let value = words.next().ok_or_else(|| format!("{flag} needs a number"))?;
        *place = Some(value.parse::<u64>().map_err(|_| format!("{flag} {value}: no number"))?);
    }
    let small = |number: Option<u64>| {
        usize::try_from(number.unwrap_or(0)).map_err(|_| "too large".to_owned())
    };
    match verb {
        "run" => {
            let seed = seed.ok_or("which --seed?")?;
            Ok(Command::Run { seed, lines: small(lines)? })
        }
        "fleet" if seeds.is_some() || minutes.is_some() => {
            let cores = small(cores)?.max(1);
            Ok(Command::Fleet { first: first.unwrap_or(1), seeds, minutes, cores })
        }
        "fleet" => Err("how many --seeds, or how many --minutes?".to_owned()),
        _ => Err("run or fleet?".to_owned()),
    }
}
