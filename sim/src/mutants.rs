//! Does anybody notice? Plants each bug of `sim/mutants` in a copy of the source and lets the simulator look for it.
//!
//! A mutant is looked for by the fleet, seed after seed, and over trees; then, if it survives that, by walks and by the exhaustive check,
//! which know agreement alone, and by the stories of `sim/tests`, for what does not happen by chance. One that survives everything fails the command: a generator or a checker is missing. The
//! copy is built in a folder of its own, which is kept, so that the next one builds faster.

use core::time::Duration;
use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use crate::fleet;
use crate::swarm::TREES;

/// Seeds over trees that a mutant may survive.
const TREE_SEEDS: &str = "300";

/// What to plant, and how long to look.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Mutants {
    /// Only these, by name
    names: Vec<String>,
    /// The root of the source
    #[arg(long, default_value = ".")]
    root: PathBuf,
    /// Seeds that a mutant may survive
    #[arg(long, default_value_t = 1500)]
    seeds: u64,
    /// Seconds that each way of looking may take; what hangs was not found
    #[arg(long, default_value_t = 180)]
    seconds: u64,
    /// Only so many of those that are found soon, others for each commit
    #[arg(long, conflicts_with = "names")]
    sample: Option<usize>,
}

/// How a mutant came to its end.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    /// What it took.
    found: String,
    rule: String,
    step: String,
    /// How long a core was busy with it, where a fleet found it.
    core_seconds: String,
}

impl Mutants {
    /// Plants one after another and tells of each in a row of a table; how many survived.
    ///
    /// # Errors
    /// If the source cannot be copied, a patch does not apply, or the copy does not build.
    pub fn run(&self, out: &mut impl Write) -> io::Result<usize> {
        let root = self.root.canonicalize()?;
        let scratch = env::temp_dir().join("cairn-mutants");
        let copy = scratch.join("source");
        let names = match self.sample {
            Some(count) => sample(&root, count)?,
            None => self.names.clone(),
        };
        writeln!(
            out,
            "| mutant | found by | rule | step | core-seconds | seconds |\n|---|---|---|---|---|---|"
        )?;
        let mut survivors = 0;
        for patch in patches(&root)? {
            let name = name_of(&patch);
            if !names.is_empty() && !names.contains(&name) {
                continue;
            }
            copy_tracked(&root, &copy)?;
            run(Command::new("git").arg("apply").arg(&patch).current_dir(&copy))?;
            run(cargo(&copy, &scratch).args([
                "build",
                "-q",
                "-p",
                "cairn-sim",
                "--example",
                "sim",
            ]))?;
            let began = fleet::now();
            let row = match self.look_for(&scratch.join("target/debug/examples/sim"))? {
                None => play_stories(&copy, &scratch)?,
                row => row,
            };
            survivors += usize::from(row.is_none());
            let row = row.unwrap_or_else(Row::survivor);
            let seconds = began.elapsed().as_secs() + 1;
            let Row { found, rule, step, core_seconds } = row;
            writeln!(out, "| {name} | {found} | {rule} | {step} | {core_seconds} | {seconds} |")?;
            out.flush()?;
        }
        writeln!(out, "\n{survivors} survived")?;
        Ok(survivors)
    }

    /// Looks for a mutant in every way that there is, the next only if the one before found nothing.
    fn look_for(&self, simulator: &Path) -> io::Result<Option<Row>> {
        let seeds = self.seeds.to_string();
        let pages = simulator.with_extension("pages");
        let pages = pages.to_string_lossy();
        let fleet = ["fleet", "--seeds", &seeds, "--out", &pages];
        let limit = self.seconds;
        let first = (TREES + 1).to_string();
        let trees = ["fleet", "--first", &first, "--seeds", TREE_SEEDS, "--out", &pages];
        for way in [&fleet[..], &trees, &["walk"], &["check"]] {
            let said = listen(simulator, way, limit)?;
            if let Some(row) = Row::read(way[0], &said) {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }
}

impl Row {
    fn survivor() -> Self {
        Self::of("survives", "–", "–")
    }

    fn of(found: &str, rule: &str, step: &str) -> Self {
        let [found, rule, step] = [found, rule, step].map(str::to_owned);
        Self { found, rule, step, core_seconds: "–".to_owned() }
    }

    /// What the tests said, if one failed.
    fn read_story(said: &str) -> Option<Self> {
        let story =
            said.lines().find_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
        story.map(|story| Self::of("story", story, "–"))
    }

    /// What a command of the simulator said, if it found something.
    fn read(way: &str, said: &str) -> Option<Self> {
        let mut lines = said.lines();
        match way {
            "fleet" => {
                let line = lines.find(|line| line.contains(" FAILS at step "))?;
                let (seed, rest) = line.split_once(" FAILS at step ")?;
                let (step, rule) = rest.split_once(": ")?;
                let busy = lines.find_map(|line| line.strip_suffix(" s of a core"));
                let core_seconds = busy.unwrap_or("–").to_owned();
                Some(Self { core_seconds, ..Self::of(seed, rule, step) })
            }
            "walk" => {
                let line = lines.find(|line| line.ends_with(" FAILS"))?;
                let rule = lines.next()?.split_once(':')?.0;
                let found = line.trim_end_matches(" FAILS");
                Some(Self::of(found, rule, &lines.count().to_string()))
            }
            _ => {
                let rest: Vec<&str> =
                    lines.skip_while(|line| line.contains(": complete,")).collect();
                let scope = rest.first()?.split_once(':')?.0;
                let rule = rest.get(1)?.split_once(':')?.0;
                let step = (rest.len() - 2).to_string();
                Some(Self::of(&format!("check of {scope}"), rule, &step))
            }
        }
    }
}

/// The planted bugs in a source, by name.
///
/// # Errors
/// If there is no such folder.
pub fn patches(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut patches: Vec<PathBuf> = fs::read_dir(root.join("sim/mutants"))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "patch"))
        .collect();
    patches.sort();
    Ok(patches)
}

/// Some of those that the table says a few seeds find, and each commit others.
fn sample(root: &Path, count: usize) -> io::Result<Vec<String>> {
    let table = fs::read_to_string(root.join("sim/mutants/README.md"))?;
    let soon = |line: &str| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let name = cells.next()?;
        let seeds: u64 = cells.next()?.trim_start_matches("seed ").parse().ok()?;
        (seeds <= SAMPLE_SEEDS_MAX).then(|| name.to_owned())
    };
    let soon: Vec<String> = table.lines().filter_map(soon).collect();
    let head = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(root).output()?;
    let digits = String::from_utf8_lossy(&head.stdout).chars().take(8).collect::<String>();
    let first = usize::from_str_radix(&digits, 16).unwrap_or(0);
    Ok(soon.iter().cycle().skip(first % soon.len().max(1)).take(count).cloned().collect())
}

/// More than these take long.
const SAMPLE_SEEDS_MAX: u64 = 16;

/// What a patch is called.
pub fn name_of(patch: &Path) -> String {
    patch.file_stem().unwrap_or_default().to_string_lossy().into_owned()
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

fn play_stories(copy: &Path, scratch: &Path) -> io::Result<Option<Row>> {
    let tests = [
        "test",
        "-p",
        "cairn-sim",
        "--test",
        "cluster",
        "--test",
        "hostile",
        "--test",
        "scripts",
        "--test",
        "plans",
        "--no-fail-fast",
    ];
    let told = cargo(copy, scratch).args(tests).stderr(Stdio::null()).output()?;
    Ok(Row::read_story(&String::from_utf8_lossy(&told.stdout)))
}

/// What a command of the simulator says, if it comes to an end.
fn listen(simulator: &Path, arguments: &[&str], seconds_max: u64) -> io::Result<String> {
    let said = simulator.with_extension("txt");
    let mut child = Command::new(simulator)
        .args(arguments)
        .stdout(fs::File::create(&said)?)
        .stderr(Stdio::null())
        .spawn()?;
    for _ in 0..seconds_max {
        if child.try_wait()?.is_some() {
            return fs::read_to_string(said);
        }
        thread::sleep(Duration::from_secs(1));
    }
    child.kill()?;
    child.wait()?;
    Ok(String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(found: &str, rule: &str, step: &str) -> Option<Row> {
        Some(Row::of(found, rule, step))
    }

    #[test]
    fn a_sample_is_of_planted_bugs_that_are_found_soon() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let known: Vec<String> = patches(&root).unwrap().iter().map(|path| name_of(path)).collect();
        let sample = sample(&root, 5).unwrap();
        assert_eq!(sample.len(), 5);
        assert!(sample.iter().all(|name| known.contains(name)), "{sample:?}");
    }

    #[test]
    fn what_the_simulator_says_becomes_a_row() {
        let fleet = "seed 4 FAILS at step 1076: recovery\n  member 1 cannot start\n";
        assert_eq!(Row::read("fleet", fleet), row("seed 4", "recovery", "1076"));
        let busy = format!("{fleet}4 seeds from 1: 7 steps\n2.5 s of a core\n");
        assert_eq!(Row::read("fleet", &busy).unwrap().core_seconds, "2.5");
        assert_eq!(Row::read("fleet", "1500 seeds from 1: 7 steps\n"), None);
        let walk = "walk 7 FAILS\nleader completeness: 2 leads\n  Timeout(MemberId(1))\n";
        assert_eq!(Row::read("walk", walk), row("walk 7", "leader completeness", "1"));
        assert_eq!(Row::read("walk", "1000 walks of 2000 steps hold\n"), None);
        let check = "election: complete, 9 states\nreads: not complete, 5 states\n\
                     read index: 1 answers\n  Read(MemberId(1))\n  Deliver(0)\n";
        assert_eq!(Row::read("check", check), row("check of reads", "read index", "2"));
        assert_eq!(Row::read("check", "election: complete, 9 states\n"), None);
        let tests = "test a_story ... ok\ntest another ... FAILED\n";
        assert_eq!(Row::read_story(tests), row("story", "another", "–"));
    }
}
