//! Cairn beside etcd, by the same generator, in interleaved rounds: `benches/compare`.
//!
//! Each round starts each system anew, gives it every load of [`rows`], and stops it; so what disturbs the machine for
//! a while disturbs both. Ratios are of medians, with the least and most of the rounds. Rounds are kept in a file, and
//! further ones may be added to it later, so that a machine need not be quiet for an hour.

#![expect(
    clippy::float_arithmetic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a program of figures"
)]

mod cluster;
mod rows;
mod table;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::Parser;
use serde_json::{Map, Value, json};

use self::cluster::{Cluster, System};
use self::rows::{ROWS, Row};

/// Cairn beside etcd, in interleaved rounds
#[derive(Clone, Debug, Parser)]
struct Options {
    /// Cairn, which also makes the load
    #[arg(long, value_name = "FILE")]
    cairn: PathBuf,
    /// etcd
    #[arg(long, value_name = "FILE")]
    etcd: PathBuf,
    /// What makes the load, instead of 'cairn bench': a program that takes the words behind it
    #[arg(long, value_name = "FILE")]
    generator: Option<PathBuf>,
    /// Rounds
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Members
    #[arg(long, default_value_t = 1, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=9))]
    members: usize,
    /// Seconds of each load
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Only loads whose name has this
    #[arg(long, default_value = "")]
    only: String,
    /// Also etcd with --unsafe-no-fsync, which loses what it acknowledged when the machine fails
    #[arg(long)]
    unsafe_etcd: bool,
    /// Where rounds are kept, and further ones added to
    #[arg(long, default_value = "target/compare.json", value_name = "FILE")]
    into: PathBuf,
    /// Measure nothing, show what is kept
    #[arg(long)]
    show: bool,
    /// Write the table between the marks of this page
    #[arg(long, value_name = "FILE.md")]
    page: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("compare: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let failed = |error: &dyn core::fmt::Display| format!("{}: {error}", options.into.display());
    let mut kept: Value = match fs::read_to_string(&options.into) {
        Ok(text) => serde_json::from_str(&text).map_err(|error| failed(&error))?,
        Err(_) => json!({"rounds": [], "probes": []}),
    };
    if !options.show {
        for round in 1..=options.rounds {
            eprintln!("round {round} of {}", options.rounds);
            let probes = generate(options, &["probe", "--json"])?;
            let measured = measure(options, &kept)?;
            push(&mut kept, "probes", probes);
            push(&mut kept, "rounds", json!({"members": options.members, "systems": measured}));
            fs::write(&options.into, kept.to_string()).map_err(|error| failed(&error))?;
        }
    }
    let text = table::markdown(&kept);
    println!("{text}");
    if let Some(page) = &options.page {
        let old =
            fs::read_to_string(page).map_err(|error| format!("{}: {error}", page.display()))?;
        let new = table::within(&old, &text)
            .ok_or_else(|| format!("{}: it has no marks for the table", page.display()))?;
        fs::write(page, new).map_err(|error| format!("{}: {error}", page.display()))?;
    }
    Ok(())
}

fn push(kept: &mut Value, name: &str, value: Value) {
    if let Some(list) = kept[name].as_array_mut() {
        list.push(value);
    }
}

/// One round: what each system did with each load.
fn measure(options: &Options, kept: &Value) -> Result<Value, String> {
    let mut systems = vec![System::Etcd, System::Cairn];
    if options.unsafe_etcd {
        systems.push(System::UnsafeEtcd);
    }
    let mut measured = Map::new();
    // etcd comes first: some rates are half of what it can do.
    for system in systems {
        let half = half_of_etcd(kept, &measured, options.members);
        let program = if system == System::Cairn { &options.cairn } else { &options.etcd };
        let cluster = Cluster::start(system, program, options.members)?;
        let mut results = Map::new();
        results.insert("start".to_owned(), start(options, &cluster)?);
        results.insert("idle".to_owned(), cluster.idle());
        for row in ROWS.iter().filter(|row| row.is_for(options.members, &options.only)) {
            eprintln!("  {}: {}", system.name(), row.name);
            results.insert(row.name.to_owned(), load(options, &cluster, row, half)?);
            // What is left to do after a load is not the next one's.
            std::thread::sleep(core::time::Duration::from_millis(500));
        }
        measured.insert(system.name().to_owned(), Value::Object(results));
    }
    Ok(Value::Object(measured))
}

/// Half of what etcd can put in a second, in this round or else in one before.
fn half_of_etcd(kept: &Value, measured: &Map<String, Value>, members: usize) -> Option<u64> {
    let of = |systems: &Value| systems["etcd"][rows::ALL_OUT]["per_second"].as_f64();
    let rounds = kept["rounds"].as_array().into_iter().flatten();
    let before =
        rounds.filter(|round| round["members"] == members).find_map(|round| of(&round["systems"]));
    // The first answer of all rounds is taken, so that all have the same rate.
    let rate = before.or_else(|| measured.get("etcd")?[rows::ALL_OUT]["per_second"].as_f64())?;
    format!("{:.0}", rate / 2.0).parse().ok()
}

/// Milliseconds from the start of the programs to the first put that is acknowledged.
fn start(options: &Options, cluster: &Cluster) -> Result<Value, String> {
    let endpoints = cluster.endpoints();
    let words = [
        "put",
        "--total",
        "1",
        "--warm-up",
        "0",
        "--connections",
        "1",
        "--in-flight",
        "1",
        "--json",
        "--endpoints",
        &endpoints,
    ];
    for _ in 0..600 {
        if generate(options, &words).is_ok() {
            return Ok(json!({"milliseconds": cluster.started.elapsed().as_secs_f64() * 1e3}));
        }
        std::thread::sleep(core::time::Duration::from_millis(2));
    }
    Err(format!("it does not serve: {}", cluster.last_words()))
}

fn load(
    options: &Options,
    cluster: &Cluster,
    row: &Row,
    half: Option<u64>,
) -> Result<Value, String> {
    let (endpoints, pids) = (cluster.endpoints(), cluster.pids());
    let seconds = options.seconds.to_string();
    let mut words: Vec<&str> = row.words.split_ascii_whitespace().collect();
    words.extend(["--json", "--endpoints", &endpoints, "--server-pid", &pids]);
    if !row.words.contains("--total") && !row.words.contains("--seconds") {
        words.extend(["--seconds", &seconds]);
    }
    let rate = half.map(|half| half.to_string());
    if row.is_at_half_rate {
        let Some(rate) = &rate else { return Ok(Value::Null) };
        words.extend(["--rate", rate]);
    }
    generate(options, &words)
}

/// Runs the generator; what it prints, without what only plots need. Operations that failed are not a reason to stop:
/// they are shown.
fn generate(options: &Options, words: &[&str]) -> Result<Value, String> {
    let mut command = match &options.generator {
        Some(generator) => Command::new(generator),
        None => {
            let mut cairn = Command::new(&options.cairn);
            cairn.arg("bench");
            cairn
        }
    };
    let output = command.args(words).arg("--quiet").output();
    let output = output.map_err(|error| format!("the generator does not run: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut told: Value = serde_json::from_str(&text).map_err(|_| {
        let error = String::from_utf8_lossy(&output.stderr);
        format!("{}: {}", words.join(" "), error.trim())
    })?;
    if let Some(told) = told.as_object_mut() {
        told.remove("seconds");
    }
    for kind in told["kinds"].as_array_mut().into_iter().flatten() {
        if let Some(kind) = kind.as_object_mut() {
            kind.remove("curve");
        }
    }
    Ok(told)
}
