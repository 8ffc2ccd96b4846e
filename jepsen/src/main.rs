//! Black-box tests of Cairn: real processes, real crashes, and a checker of what clients saw.
//!
//! `cairn-jepsen kubernetes` does what a Kubernetes API server does to its store, kills the store in the middle, and
//! proves that nothing which was acknowledged is lost, that nothing is there which nobody wrote, and that every watcher
//! saw every change in order and once. The simulator finds far more, far sooner; this shows that the real program on a
//! real kernel keeps what the simulated one promised.
//!
//! Limits: `kill -9` loses what the process holds, not what the kernel holds. A disk that lies or loses power is the
//! simulator's business.

#[path = "../../server/tests/client/mod.rs"]
mod client;
mod cluster;
mod failover;
mod figures;
mod half_open;
mod kubernetes;
mod learner;
mod load;
mod progress;
mod world;

use core::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What can be asked for.
#[derive(Debug, Parser)]
#[command(
    name = "cairn-jepsen",
    version,
    about = "Crash a real Cairn and check what its clients saw"
)]
struct Tool {
    #[command(subcommand)]
    command: Command,
}

/// The scenarios.
#[derive(Debug, Subcommand)]
enum Command {
    /// Use a cluster while its members are killed, paused, cut off and replaced
    Cluster(cluster::Settings),
    /// Measure how long a cluster is without service when its leader goes
    Failover(failover::Settings),
    /// Measure what connections cost that begin TLS and never finish
    HalfOpen(half_open::Settings),
    /// Measure how a learner joins a cluster that has a lot of data
    Learner(learner::Settings),
    /// Write, list and watch objects as Kubernetes does, through crashes
    Kubernetes(kubernetes::Settings),
}

/// What a run showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// No fault.
    Right,
    /// The store is at fault.
    Wrong,
}

/// Why a scenario came to no verdict.
#[derive(Debug)]
struct Trouble(String);

impl<E: core::error::Error> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn main() -> ExitCode {
    let Tool { command } = Tool::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let verdict = runtime.map_err(Trouble::from).and_then(|runtime| {
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            match command {
                Command::Cluster(settings) => cluster::run(settings).await,
                Command::Failover(settings) => failover::run(settings).await,
                Command::HalfOpen(settings) => half_open::run(settings).await,
                Command::Learner(settings) => learner::run(settings).await,
                Command::Kubernetes(settings) => kubernetes::run(settings).await,
            }
        })
    });
    match verdict {
        Ok(Verdict::Right) => ExitCode::SUCCESS,
        Ok(Verdict::Wrong) => ExitCode::FAILURE,
        Err(trouble) => {
            // Where even standard error fails there is nobody left to tell.
            writeln!(io::stderr(), "cairn-jepsen: {trouble}").ok();
            ExitCode::from(NO_VERDICT)
        }
    }
}

/// The exit code when the test itself could not be done; 1 says that Cairn failed it.
const NO_VERDICT: u8 = 2;
