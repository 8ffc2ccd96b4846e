//! The environment: `ETCD_LISTEN_CLIENT_URLS` is `--listen-client-urls`.
//!
//! A variable says what no flag says. If both speak, the member does not start, since somebody believes in the one
//! that would not count. An empty variable is as good as none, except in such a conflict.

use std::collections::BTreeMap;

use crate::config::invalid::Invalid;
use crate::flags::command_line::HIDDEN;
use crate::flags::note::Note;
use crate::flags::settings::Said;
use crate::flags::table;
use crate::flags::value::Kind;

/// The variable of a flag.
pub(super) fn variable(flag: &str) -> String {
    format!("{PREFIX}{}", flag.to_ascii_uppercase().replace('-', "_"))
}

/// Says what variables say.
pub(super) fn read(
    variables: &BTreeMap<String, String>,
    said: &mut Said,
    notes: &mut Vec<Note>,
) -> Result<(), Invalid> {
    let mut wrong = None;
    let mut unknown: Vec<&String> =
        variables.keys().filter(|name| name.starts_with(PREFIX)).collect();
    for flag in table::flags().filter(|flag| flag.name != "version") {
        let name = variable(flag.name);
        let Some(value) = variables.get(&name) else { continue };
        if said.has(flag.name) {
            return Err(Invalid::Conflict(name));
        }
        unknown.retain(|other| **other != name);
        if value.is_empty() {
            continue;
        }
        let value_shown = if flag.kind == Kind::Secret { HIDDEN } else { value };
        let value_shown = value_shown.to_owned();
        match said.say(flag, value) {
            Ok(()) => notes.push(Note::VariableUsed { name, value: value_shown }),
            Err(why) => wrong = Some(Invalid::Variable { name, value: value_shown, why }),
        }
    }
    for name in unknown {
        let is_version = name == "ETCD_VERSION";
        notes.push(if is_version {
            Note::VersionVariable
        } else {
            Note::VariableUnknown(name.clone())
        });
    }
    wrong.map_or(Ok(()), Err)
}

/// What the names of our variables begin with.
const PREFIX: &str = "ETCD_";

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)], said: &mut Said) -> (Result<(), String>, Vec<Note>) {
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut notes = Vec::new();
        let result = read(&variables.collect(), said, &mut notes);
        (result.map_err(|error| error.to_string()), notes)
    }

    #[test]
    fn variables_say_what_flags_do_not_say() {
        let mut said = Said::default();
        let variables = [
            ("ETCD_NAME", "a"),
            ("ETCD_DATA_DIR", ""),
            ("ETCD_DISCOVERY_PASSWORD", "secret"),
            ("ETCD_VERSION", "3.5"),
            ("ETCD_ROOT_PASSWORD", "secret"),
            ("ETCD_FORCE", "1"),
            ("HOME", "/root"),
        ];
        let (result, notes) = environment(&variables, &mut said);
        assert_eq!(result, Ok(()));
        assert_eq!(said.text("name"), "a");
        assert!(!said.has("data-dir") && !format!("{notes:?}").contains("secret"));
        let unknown = |name: &str| notes.contains(&Note::VariableUnknown(name.to_owned()));
        assert!(unknown("ETCD_ROOT_PASSWORD") && !unknown("ETCD_DATA_DIR") && !unknown("HOME"));
        assert!(notes.contains(&Note::VersionVariable));
        let used = Note::VariableUsed { name: "ETCD_NAME".to_owned(), value: "a".to_owned() };
        assert!(notes.contains(&used));
    }

    #[test]
    fn a_variable_and_its_flag_conflict_even_if_one_is_empty() {
        for value in ["x", ""] {
            let mut said = Said::default();
            said.say(table::find("name").unwrap(), "x").unwrap();
            let (result, _) = environment(&[("ETCD_NAME", value)], &mut said);
            assert!(
                result.unwrap_err().starts_with("conflicting environment variable is shadowed")
            );
        }
    }

    #[test]
    fn a_value_that_is_none_is_named() {
        let (result, _) = environment(&[("ETCD_HEARTBEAT_INTERVAL", "x")], &mut Said::default());
        assert_eq!(
            result.unwrap_err(),
            "invalid value \"x\" for ETCD_HEARTBEAT_INTERVAL: parse error"
        );
    }
}
