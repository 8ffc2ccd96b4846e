//! What people say: command line, environment, configuration file.
//!
//! | chapter | what |
//! |---|---|
//! | [`table`], [`retired`] | every flag in one row |
//! | [`value`] | what its text means |
//! | [`command_line`], [`environment`], [`mod@file`] | where texts come from |
//! | [`settings`] | what was said, and what it means together |
//! | [`mod@assemble`] | the configuration, with etcd's checks |
//! | [`program`] | whom the program is taken for |
//! | [`mod@help`], `described` | what people read, and what shells do |
//!
//! A flag counts more than its variable, and both said is an error; with a file, neither counts.
//!
//! Reading has no effects, except that the file is read and, if no address is given for others to use, the kernel is
//! asked for one. There is no log yet: what there is to say comes as [`Note`]s.

mod assemble;
mod command_line;
mod described;
mod environment;
mod file;
mod help;
mod note;
mod program;
mod retired;
mod settings;
mod table;
mod value;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::PathBuf;

pub(crate) use crate::flags::described::add_to as described;
pub use crate::flags::help::{help, usage, version};
pub use crate::flags::note::Note;
pub use crate::flags::program::Program;

use crate::config::Config;
use crate::config::invalid::Invalid;
use crate::flags::assemble::{Source, assemble};
use crate::flags::command_line::{CommandLine, Stop};
use crate::flags::settings::Said;

/// What somebody wants.
#[derive(Debug)]
pub enum Invocation {
    /// To be helped.
    Help,
    /// To know the version.
    Version,
    /// Something that is no flag, or no value of one; the text says so.
    Usage(String),
    /// A member, with settings that do not go together.
    Invalid(Start, Invalid),
    /// A member.
    Serve(Start, Box<Config>),
}

/// What there is to say when the log begins.
#[derive(Debug)]
pub struct Start {
    /// The command line, without secrets.
    pub arguments: Vec<String>,
    /// Remarks.
    pub notes: Vec<Note>,
}

/// Reads a command line, the program's name included, and an environment.
pub fn read(
    arguments: impl IntoIterator<Item = OsString>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Invocation {
    let mut words = Vec::new();
    for argument in arguments {
        match argument.into_string() {
            Ok(argument) => words.push(argument),
            Err(argument) => {
                return Invocation::Usage(format!("not UTF-8: {}", argument.display()));
            }
        }
    }
    let variables: BTreeMap<String, String> = variables
        .into_iter()
        .filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        })
        .collect();
    let line = match command_line::read(words.get(1..).unwrap_or_default()) {
        Ok(line) => line,
        Err(Stop::Help) => return Invocation::Help,
        Err(Stop::Usage(error)) => return Invocation::Usage(error),
    };
    if line.positional.is_none() && line.said.is_true("version") {
        return Invocation::Version;
    }
    let mut notes = Vec::new();
    let program = Program::of(words.first().map(OsStr::new));
    let config = configure(line, program, &variables, &mut notes);
    let start = Start { arguments: command_line::without_secrets(&words), notes };
    match config {
        Ok(config) => Invocation::Serve(start, Box::new(config)),
        Err(invalid) => Invocation::Invalid(start, invalid),
    }
}

/// The command line of this process, without secrets.
pub fn arguments() -> Vec<String> {
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    command_line::without_secrets(&Vec::from_iter(words))
}

/// Finds out what counts, and makes a configuration of it.
fn configure(
    line: CommandLine,
    program: Program,
    variables: &BTreeMap<String, String>,
    notes: &mut Vec<Note>,
) -> Result<Config, Invalid> {
    if let Some(positional) = line.positional {
        return Err(Invalid::Positional(positional));
    }
    let mut said = line.said;
    let path = match said.text("config-file") {
        "" => variables.get(&environment::variable("config-file")).map_or("", String::as_str),
        path => path,
    };
    let source = if path.is_empty() {
        environment::read(variables, &mut said, notes)?;
        Source::CommandLine
    } else {
        let path = PathBuf::from(path);
        said = read_file(&path, notes)?;
        notes.push(Note::FileLoaded(path));
        Source::File
    };
    let refusal = said.refusal();
    let config = assemble(&said.settle(notes), source, program, notes)?;
    refusal?;
    Ok(config)
}

fn read_file(path: &PathBuf, notes: &mut Vec<Note>) -> Result<Said, Invalid> {
    let text = fs::read_to_string(path).map_err(|error| Invalid::File(path.clone(), error))?;
    file::read(&text, notes)
}

#[cfg(test)]
mod tests;
