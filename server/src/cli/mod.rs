//! Subcommands: what the binary can do beside being a member.
//!
//! Without one of these words in front, `cairn` is a member and its command line is etcd's ([`flags`](crate::flags)).
//! Here it is clap's. To add a subcommand: a module, a variant of [`Command`], an arm in [`run`], and a line in the
//! usage of [`flags`](crate::flags::usage()).

mod bench;
mod client;
mod fsck;
mod local_cluster;
mod shell;
mod snapshot;
mod wal;

use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::process::ExitCode;

use cairn_sim::command::Verdict;
use clap::{Parser, Subcommand};

/// A command line with a subcommand.
#[derive(Debug, Parser)]
#[command(name = "cairn", disable_help_subcommand = true)]
struct Tool {
    #[command(subcommand)]
    command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
enum Command {
    /// Look into a write-ahead log, without changing anything
    #[command(subcommand, disable_help_subcommand = true)]
    Wal(wal::Command),
    /// Look at a member's whole data directory, without changing anything
    Fsck(fsck::Options),
    /// Backups: save, look at and restore snapshots in etcd's format
    #[command(subcommand, disable_help_subcommand = true)]
    Snapshot(snapshot::Command),
    /// Show keys and their values
    Get(client::Get),
    /// Write a key
    Put(client::Put),
    /// Delete keys
    Del(client::Del),
    /// Show what happens to keys, until it is interrupted
    Watch(client::Watch),
    /// About members
    #[command(subcommand, disable_help_subcommand = true)]
    Member(client::Member),
    /// About endpoints
    #[command(subcommand, disable_help_subcommand = true)]
    Endpoint(client::Endpoint),
    /// Show what makes a shell complete all this
    Completion {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Show the man page
    Man,
    /// Run a cluster on this machine, and watch it
    LocalCluster(local_cluster::Options),
    /// Make load for an endpoint, ours or etcd's, and measure it
    Bench(Box<cairn_load::Options>),
    /// Run the engine in a simulated, hostile world
    #[command(subcommand, disable_help_subcommand = true)]
    Sim(cairn_sim::command::Command),
}

/// Whether the first argument names a subcommand.
pub fn is_subcommand(word: &OsStr) -> bool {
    word.to_str().is_some_and(Command::has_subcommand)
}

/// Does what a command line asks for, the program's name included.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let tool = match Tool::try_parse_from(arguments) {
        Ok(tool) => tool,
        Err(error) => {
            let is_help = !error.use_stderr();
            // Whoever does not read it does not want it.
            error.print().ok();
            return if is_help { ExitCode::SUCCESS } else { ExitCode::from(USAGE) };
        }
    };
    match tool.command {
        Command::Get(command) => client::get(&command),
        Command::Put(command) => client::put(&command),
        Command::Del(command) => client::del(&command),
        Command::Watch(command) => client::watch(&command),
        Command::Member(command) => client::member(&command),
        Command::Endpoint(command) => client::endpoint(&command),
        Command::Completion { shell } => shell::complete(shell),
        Command::Man => shell::man(),
        Command::Snapshot(command) => snapshot::run(&command),
        Command::Wal(command) => wal::run(&command),
        Command::Fsck(options) => fsck::run(&options),
        Command::LocalCluster(options) => local_cluster::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Sim(command) => simulate(&command),
    }
}

/// Runs the simulator, which serves nobody and logs nothing.
fn simulate(command: &cairn_sim::command::Command) -> ExitCode {
    match cairn_sim::command::execute(command, &mut io::stdout()) {
        Ok(Verdict::Holds) => ExitCode::SUCCESS,
        Ok(Verdict::Fails) | Err(_) => ExitCode::FAILURE,
    }
}

/// Says on standard error why something could not be done.
fn complain(what: impl core::fmt::Display) {
    writeln!(io::stderr(), "cairn: {what}").ok();
}

/// The exit code for a command line that makes no sense (`EX_USAGE` of sysexits.h): small numbers are findings.
const USAGE: u8 = 64;
