//! `cairn`: a member of a cluster that speaks etcd's API, and the tools for it.

use core::time::Duration;
use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use cairn_io::signals;
use cairn_server::config::Config;
use cairn_server::config::invalid::Invalid;
use cairn_server::flags::{self, Invocation, Program, Start};
use cairn_server::{cli, log, serve};

fn main() -> ExitCode {
    let program = Program::of(env::args_os().next().as_deref());
    // etcd has none of these.
    let is_subcommand = || env::args_os().nth(1).is_some_and(|word| cli::is_subcommand(&word));
    if program == Program::Cairn && is_subcommand() {
        return cli::run(env::args_os());
    }
    // Before the log's thread exists: one thread that does not block SIGTERM is killed by it. Whoever serves blocks
    // them once more, for the proof.
    drop(signals::block());
    match flags::read(env::args_os(), env::vars_os()) {
        Invocation::Help => show(io::stdout(), &flags::help(program), ExitCode::SUCCESS),
        Invocation::Version => show(io::stdout(), &flags::version(program), ExitCode::SUCCESS),
        Invocation::Usage(error) => {
            show(io::stderr(), &format!("{error}\n{}", flags::usage(program)), ExitCode::from(2))
        }
        Invocation::Invalid(start, invalid) => refuse(&start, &invalid),
        Invocation::Serve(start, config) => begin(&start, *config),
    }
}

/// Starts the log and a member.
fn begin(start: &Start, config: Config) -> ExitCode {
    if let Err(error) = log::start(&config.log) {
        start_default_log();
        tracing::warn!(error = %error, "failed to verify flags");
        return end(ExitCode::FAILURE);
    }
    announce(start);
    end(serve::run(config))
}

/// Says why there is no member.
fn refuse(start: &Start, invalid: &Invalid) -> ExitCode {
    start_default_log();
    if let Invalid::Conflict(variable) = invalid {
        tracing::error!(target: log::FATAL, environment_variable = variable, "{invalid}");
        return end(ExitCode::FAILURE);
    }
    announce(start);
    tracing::warn!(error = %invalid, "failed to verify flags");
    if matches!(invalid, Invalid::AdvertiseClientUnset) {
        tracing::warn!(error = %invalid, "advertise client URLs are not set");
    }
    end(ExitCode::FAILURE)
}

/// Says what was found while there was no log.
fn announce(start: &Start) {
    start.notes.iter().for_each(flags::Note::log);
    tracing::info!(args = log::list(&start.arguments).field(), "Running: ");
}

fn start_default_log() {
    // Without standard error there is nobody to tell.
    log::start(&log::Settings::default()).ok();
}

/// Ends the process when the log is written, or soon.
fn end(code: ExitCode) -> ExitCode {
    log::flush(LOG_FLUSH_MAX);
    code
}

/// Shows a text. Whoever does not read it does not want it.
fn show(mut to: impl Write, text: &str, code: ExitCode) -> ExitCode {
    to.write_all(text.as_bytes()).and_then(|()| to.flush()).ok();
    code
}

/// How long the process waits for its log when it ends.
const LOG_FLUSH_MAX: Duration = Duration::from_secs(2);
