//! The flags of a member as clap knows flags: for completions of shells and for the man page, which are made of that.

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, Command, ValueHint};

use crate::flags::table::{GROUPS, Treatment};
use crate::flags::value::Kind;

/// Adds every flag of today that does something.
pub(crate) fn add_to(command: Command) -> Command {
    let mut command = command;
    for group in &GROUPS {
        for flag in group.flags.iter().filter(|flag| flag.treatment == Treatment::Obeyed) {
            let arg = Arg::new(flag.name).long(flag.name).help(flag.help).help_heading(group.title);
            let arg = if flag.kind == Kind::Bool {
                arg.action(ArgAction::SetTrue)
            } else if let Kind::Choice(choices) = flag.kind {
                arg.value_name("CHOICE").value_parser(PossibleValuesParser::new(choices))
            } else if flag.name.ends_with("-file") {
                arg.value_name("FILE").value_hint(ValueHint::FilePath)
            } else if flag.name.ends_with("-dir") {
                arg.value_name("DIR").value_hint(ValueHint::DirPath)
            } else {
                arg.value_name("VALUE")
            };
            let is_shown = !flag.default.is_empty() && flag.kind != Kind::Bool;
            command = command.arg(if is_shown { arg.default_value(flag.default) } else { arg });
        }
    }
    command
}
