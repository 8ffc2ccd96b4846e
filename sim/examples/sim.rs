//! The simulator without the server: `cargo run -p cairn-sim --example sim -- fleet --seeds 100`.

use std::io;
use std::process::ExitCode;

use cairn_sim::command::{Verdict, execute};

fn main() -> io::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    Ok(match execute(&arguments, &mut io::stdout().lock())? {
        Verdict::Holds => ExitCode::SUCCESS,
        Verdict::Fails => ExitCode::FAILURE,
        Verdict::Usage => ExitCode::from(2),
    })
}
