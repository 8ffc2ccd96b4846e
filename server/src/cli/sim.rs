//! `cairn sim`: the door to the simulator, which reads its words itself, as it does without this binary.

use std::io;
use std::process::ExitCode;

use cairn_sim::command::{Verdict, execute};
use clap::Args;

use crate::cli::{USAGE, complain};

/// What stands behind `sim`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// Runs what is asked for; 1 if a rule was broken.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    match execute(&arguments.words, &mut io::stdout()) {
        Ok(Verdict::Holds) => ExitCode::SUCCESS,
        Ok(Verdict::Fails) => ExitCode::FAILURE,
        Ok(Verdict::Usage) => ExitCode::from(USAGE),
        Err(error) => {
            complain(error);
            ExitCode::FAILURE
        }
    }
}
