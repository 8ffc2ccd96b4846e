//! The command line, in the syntax of Go's flag package.
//!
//! `-flag` is `--flag`; a value comes after `=` or as the next argument, whatever that looks like (`-1`); a boolean
//! takes one only after `=`; the first argument that is no flag, or `--`, ends them.
//!
//! This loop is here and no library that parses command lines, because such a library would not know one of these
//! rules: arguments would have to be rewritten for it with the same knowledge of every flag, and its errors back into
//! Go's words. What would be left for it to do is less than this file.

use crate::flags::settings::Said;
use crate::flags::table;
use crate::flags::value::Kind;

/// Why there is nothing to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Somebody asks for help.
    Help,
    /// Something is no flag, or no value of one.
    Usage(String),
}

/// What a command line says.
pub(super) struct CommandLine {
    pub(super) said: Said,
    /// The first argument that is no flag.
    pub(super) positional: Option<String>,
}

/// Reads arguments, without the program's name.
pub(super) fn read(arguments: &[String]) -> Result<CommandLine, Stop> {
    let mut said = Said::default();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let name = match argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) {
            Some("") if argument == "--" => {
                return Ok(CommandLine { said, positional: arguments.next().cloned() });
            }
            Some("") | None => return Ok(CommandLine { said, positional: Some(argument.clone()) }),
            Some(name) => name,
        };
        if name.starts_with(['-', '=']) {
            return Err(Stop::Usage(format!("bad flag syntax: {argument}")));
        }
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (name, None),
        };
        let Some(flag) = table::find(name) else {
            let is_help = name == "help" || name == "h";
            let unknown = || Stop::Usage(format!("flag provided but not defined: -{name}"));
            return Err(if is_help { Stop::Help } else { unknown() });
        };
        let value = match value {
            Some(value) => value,
            None if flag.kind.is_bool() => "true",
            None => match arguments.next() {
                Some(value) => value,
                None => return Err(Stop::Usage(format!("flag needs an argument: -{name}"))),
            },
        };
        if let Err(why) = said.say(flag, value) {
            let error = if flag.kind.is_bool() {
                format!("invalid boolean value {value:?} for -{name}: {why}")
            } else {
                format!("invalid value {value:?} for flag -{name}: {why}")
            };
            return Err(Stop::Usage(error));
        }
    }
    Ok(CommandLine { said, positional: None })
}

/// The arguments as the log may show them.
pub(super) fn without_secrets(arguments: &[String]) -> Vec<String> {
    let mut shown = Vec::with_capacity(arguments.len());
    let mut value_is_secret = false;
    for argument in arguments {
        if value_is_secret {
            shown.push(HIDDEN.to_owned());
            value_is_secret = false;
            continue;
        }
        let name = argument.trim_start_matches('-');
        let (name, value) =
            name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value)));
        let is_secret = argument.starts_with('-')
            && table::find(name).is_some_and(|flag| flag.kind == Kind::Secret);
        match value {
            Some(_) if is_secret => shown.push(format!("--{name}={HIDDEN}")),
            Some(_) | None => shown.push(argument.clone()),
        }
        value_is_secret = is_secret && value.is_none();
    }
    shown
}

/// What stands for a secret.
pub(super) const HIDDEN: &str = "***";

#[cfg(test)]
mod tests {
    use super::*;

    fn read_words(words: &str) -> Result<CommandLine, Stop> {
        read(&words.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn flags_are_read_as_go_reads_them() {
        for (words, name, text) in [
            ("--name x", "name", "x"),
            ("-name x", "name", "x"),
            ("-name=x", "name", "x"),
            ("--name=a=b", "name", "a=b"),
            ("--name=", "name", ""),
            ("--name a --name b", "name", "b"),
            ("--name --data-dir", "name", "--data-dir"),
            ("--quota-backend-bytes -1", "quota-backend-bytes", "-1"),
            ("--pre-vote", "pre-vote", "true"),
            ("--pre-vote=false", "pre-vote", "false"),
            ("--pre-vote=F --pre-vote", "pre-vote", "true"),
            ("--force --name x", "name", "x"),
            ("--snapshot=7 -- name", "snapshot", "7"),
            (
                "--feature-gates AllBeta=0 --feature-gates AllAlpha=1",
                "feature-gates",
                "AllBeta=0,AllAlpha=1",
            ),
        ] {
            let Ok(line) = read_words(words) else { panic!("{words}") };
            assert_eq!(line.said.text(table::find(name).unwrap().name), text, "{words}");
        }
    }

    #[test]
    fn what_is_no_flag_is_positional() {
        for (words, positional) in [
            ("", None),
            ("x", Some("x")),
            ("--name a b", Some("b")),
            ("--client-cert-auth false", Some("false")),
            ("-", Some("-")),
            ("--", None),
            ("-- --name", Some("--name")),
            ("x --bogus", Some("x")),
        ] {
            let Ok(line) = read_words(words) else { panic!("{words}") };
            assert_eq!(line.positional.as_deref(), positional, "{words}");
        }
    }

    #[test]
    fn errors_have_gos_words() {
        for (words, why) in [
            ("--bogus", "flag provided but not defined: -bogus"),
            ("-bogus=1", "flag provided but not defined: -bogus"),
            ("--data-dir", "flag needs an argument: -data-dir"),
            ("---x", "bad flag syntax: ---x"),
            ("--=x", "bad flag syntax: --=x"),
            ("-=x", "bad flag syntax: -=x"),
            (
                "--heartbeat-interval=x",
                "invalid value \"x\" for flag -heartbeat-interval: parse error",
            ),
            (
                "--client-cert-auth=maybe",
                "invalid boolean value \"maybe\" for -client-cert-auth: parse error",
            ),
            (
                "--listen-peer-urls=foo",
                "invalid value \"foo\" for flag -listen-peer-urls: URL scheme must be http, https, unix, or unixs: foo",
            ),
            (
                "--feature-gates=Foo=1",
                "invalid value \"Foo=1\" for flag -feature-gates: unrecognized feature gate: Foo",
            ),
        ] {
            assert_eq!(read_words(words).err(), Some(Stop::Usage(why.to_owned())), "{words}");
        }
        for words in ["--help", "-h", "--name x -help", "--h=3"] {
            assert_eq!(read_words(words).err(), Some(Stop::Help), "{words}");
        }
    }

    #[test]
    fn secrets_are_hidden() {
        let arguments =
            ["--name", "x", "--discovery-password", "p", "-discovery-user=u:p", "--pre-vote"];
        let shown = without_secrets(&arguments.map(str::to_owned));
        assert_eq!(
            shown,
            ["--name", "x", "--discovery-password", "***", "--discovery-user=***", "--pre-vote"]
        );
    }
}
