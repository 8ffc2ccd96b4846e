//! The simulator without the server: `cargo run -p cairn-sim --example sim -- fleet --seeds 100`.

use std::io;
use std::process::ExitCode;

use cairn_sim::command::{Command, Verdict, execute};
use clap::Parser;

#[derive(Parser)]
struct Tool {
    #[command(subcommand)]
    command: Command,
}

fn main() -> io::Result<ExitCode> {
    Ok(match execute(&Tool::parse().command, &mut io::stdout().lock())? {
        Verdict::Holds => ExitCode::SUCCESS,
        Verdict::Fails => ExitCode::FAILURE,
    })
}
