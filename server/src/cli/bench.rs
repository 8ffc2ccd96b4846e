//! `cairn bench`: load for an endpoint, from the crate `cairn-load`.
//!
//! Exit codes: 0 if all operations succeeded, 1 if some failed or it could not be done. What was measured goes to
//! standard output, how far it is to standard error.

use std::io;
use std::process::ExitCode;

use cairn_load::{Options, Verdict, execute};

use super::complain;

/// Makes the load.
pub(super) fn run(options: &Options) -> ExitCode {
    match execute(options, &mut io::stdout()) {
        Ok(Verdict::Well) => ExitCode::SUCCESS,
        Ok(Verdict::Errors) => ExitCode::FAILURE,
        Err(why) => {
            complain(why);
            ExitCode::FAILURE
        }
    }
}
