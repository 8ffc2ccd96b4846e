//! Does the fleet notice? Plants each bug of `sim/mutants` in a copy of the source and sends the fleet out.
//!
//! `cargo run -p cairn-sim --example mutants [-- NAME…]` prints a row for each: how many seeds it took, which rule
//! objected, and at which step. A mutant that survives its budget fails the command: a generator or a checker is
//! missing. The copies are built in a folder of their own, which is kept, so that the next one builds faster.

use core::time::Duration;
use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;

/// Seeds that a mutant may survive.
const SEEDS_MAX: u64 = 1500;
/// How long a fleet may take; one that hangs was found, too.
const SECONDS_MAX: u64 = 180;

/// How a mutant came to its end.
struct Row {
    seeds: String,
    rule: String,
    step: String,
    survived: bool,
}

fn main() -> io::Result<ExitCode> {
    let wanted: Vec<String> = env::args().skip(1).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let mut patches: Vec<PathBuf> = fs::read_dir(root.join("sim/mutants"))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "patch"))
        .collect();
    patches.sort();
    let scratch = env::temp_dir().join("cairn-mutants");
    let mut out = io::stdout();
    writeln!(out, "| mutant | seeds until found | rule | step |\n|---|---|---|---|")?;
    let mut survivors = 0;
    for patch in patches {
        let name = patch.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if !wanted.is_empty() && !wanted.contains(&name) {
            continue;
        }
        let copy = scratch.join("source");
        copy_tracked(&root, &copy)?;
        run(Command::new("git").arg("apply").arg(&patch).current_dir(&copy))?;
        run(cargo(&copy, &scratch).args(["build", "-q", "-p", "cairn-sim", "--example", "sim"]))?;
        let row = send_out(&scratch.join("target/debug/examples/sim"))?;
        survivors += u32::from(row.survived);
        writeln!(out, "| {name} | {} | {} | {} |", row.seeds, row.rule, row.step)?;
    }
    writeln!(out, "\n{survivors} survived")?;
    Ok(if survivors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Copies what git tracks; a file that has not changed keeps its time, so that little is built anew.
fn copy_tracked(root: &Path, copy: &Path) -> io::Result<()> {
    let listed = Command::new("git").arg("ls-files").current_dir(root).output()?;
    for file in String::from_utf8_lossy(&listed.stdout).lines() {
        let (from, to) = (root.join(file), copy.join(file));
        let Ok(text) = fs::read(&from) else { continue };
        if fs::read(&to).is_ok_and(|before| before == text) {
            continue;
        }
        fs::create_dir_all(to.parent().unwrap_or(copy))?;
        fs::write(to, text)?;
    }
    Ok(())
}

fn cargo(copy: &Path, scratch: &Path) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(copy).env("CARGO_TARGET_DIR", scratch.join("target"));
    cargo
}

fn run(command: &mut Command) -> io::Result<()> {
    if command.status()?.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{command:?} failed")))
}

/// Sends out the fleet of a mutant, one seed at a time, and reads what it says.
fn send_out(fleet: &Path) -> io::Result<Row> {
    let said = fleet.with_extension("txt");
    let mut child = Command::new(fleet)
        .args(["fleet", "--seeds", &SEEDS_MAX.to_string()])
        .stdout(fs::File::create(&said)?)
        .stderr(Stdio::null())
        .spawn()?;
    let dash = || "–".to_owned();
    let mut waited = 0;
    while child.try_wait()?.is_none() {
        thread::sleep(Duration::from_secs(1));
        waited += 1;
        if waited >= SECONDS_MAX {
            child.kill()?;
            child.wait()?;
            return Ok(Row {
                seeds: dash(),
                rule: "no end".to_owned(),
                step: dash(),
                survived: true,
            });
        }
    }
    let said = fs::read_to_string(said)?;
    let Some(line) = said.lines().find(|line| line.contains(" FAILS at step ")) else {
        let seeds = format!("not in {SEEDS_MAX}");
        return Ok(Row { seeds, rule: dash(), step: dash(), survived: true });
    };
    let (seed, rest) = line.split_once(" FAILS at step ").unwrap_or_default();
    let (step, rule) = rest.split_once(": ").unwrap_or_default();
    let seeds = seed.trim_start_matches("seed ").to_owned();
    Ok(Row { seeds, rule: rule.to_owned(), step: step.to_owned(), survived: false })
}
