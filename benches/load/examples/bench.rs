//! The command `cairn bench` without the server, for quick builds: `cargo run --release -p cairn-load --example bench -- put`.

use std::io;
use std::process::ExitCode;

use cairn_load::{Options, Verdict, execute};
use clap::Parser;

#[derive(Debug, Parser)]
struct Tool {
    #[command(flatten)]
    options: Options,
}

#[expect(clippy::print_stderr, reason = "this is a program")]
fn main() -> ExitCode {
    match execute(&Tool::parse().options, &mut io::stdout()) {
        Ok(Verdict::Well) => ExitCode::SUCCESS,
        Ok(Verdict::Errors) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("cairn: {why}");
            ExitCode::FAILURE
        }
    }
}
