//! The configuration file: YAML, of which JSON is a part.
//!
//! Keys are names of flags; those about TLS, discovery and sockets are in sections. Durations are integers of
//! nanoseconds as in etcd, or texts in Go's syntax; lists are texts with commas or YAML's lists. A key without a value
//! says nothing.
//!
//! A key that is not known says nothing, as in etcd: files outlive flags. But the log tells, because what is misspelt is
//! otherwise never found.

use serde_yaml_ng::{Mapping, Value as Yaml};

use crate::config::invalid::Invalid;
use crate::flags::note::Note;
use crate::flags::settings::Said;
use crate::flags::table::{self, Flag};
use crate::flags::value::Kind;

/// Says what a file's text says; of keys that are not known there are notes.
pub(super) fn read(text: &str, notes: &mut Vec<Note>) -> Result<Said, Invalid> {
    let mut said = Said::default();
    match serde_yaml_ng::from_str(text).map_err(|error| Invalid::Syntax(error.to_string()))? {
        Yaml::Mapping(entries) => read_section("", &entries, &mut said, notes)?,
        Yaml::Null => {}
        Yaml::Bool(_) | Yaml::Number(_) | Yaml::String(_) | Yaml::Sequence(_) | Yaml::Tagged(_) => {
            return Err(Invalid::Syntax("the file is not a mapping of keys to values".to_owned()));
        }
    }
    Ok(said)
}

/// Says what a section says; `path` is its name with a dot, or nothing.
fn read_section(
    path: &str,
    entries: &Mapping,
    said: &mut Said,
    notes: &mut Vec<Note>,
) -> Result<(), Invalid> {
    for (key, value) in entries {
        let key = key.as_str().map_or_else(|| format!("{key:?}"), str::to_owned);
        let path = format!("{path}{key}");
        let section = format!("{path}.");
        if NESTED.iter().any(|(nested, _)| nested.starts_with(&section)) {
            match value {
                Yaml::Mapping(entries) => read_section(&section, entries, said, notes)?,
                Yaml::Null => {}
                Yaml::Bool(_)
                | Yaml::Number(_)
                | Yaml::String(_)
                | Yaml::Sequence(_)
                | Yaml::Tagged(_) => {
                    return Err(Invalid::Key { name: path, why: "not a section".to_owned() });
                }
            }
            continue;
        }
        let nested = NESTED.iter().find(|(nested, _)| *nested == path).map(|(_, flag)| *flag);
        let flag = nested.or_else(|| (!OUTSIDE.contains(&path.as_str())).then_some(path.as_str()));
        let Some(flag) = flag.and_then(table::find) else {
            notes.push(Note::KeyUnknown(path));
            continue;
        };
        let wrong = |why| Invalid::Key { name: path.clone(), why };
        match text(flag, value).map_err(wrong)? {
            // etcd takes these for not said; the defaults are in effect.
            Some(text) if text.is_empty() && matches!(flag.kind, Kind::Choice(_)) => {}
            Some(text) => said.say(flag, &text).map_err(wrong)?,
            None => {}
        }
    }
    Ok(())
}

/// A value as it would be said on a command line; `None` if there is none.
fn text(flag: &Flag, value: &Yaml) -> Result<Option<String>, String> {
    let text = match value {
        Yaml::Null => return Ok(None),
        Yaml::Number(number) if flag.kind == Kind::Duration => format!("{number}ns"),
        Yaml::Number(number) => number.to_string(),
        Yaml::Bool(value) => value.to_string(),
        Yaml::String(text) if flag.kind == Kind::Bool => yaml_1_1_bool(text).to_owned(),
        Yaml::String(text) => text.clone(),
        Yaml::Sequence(items) => {
            let item = |item: &Yaml| text_of_item(flag, item);
            items.iter().map(item).collect::<Result<Vec<_>, _>>()?.join(",")
        }
        Yaml::Mapping(_) | Yaml::Tagged(_) => return Err("neither a value nor a list".to_owned()),
    };
    Ok(Some(text))
}

fn text_of_item(flag: &Flag, item: &Yaml) -> Result<String, String> {
    match item {
        Yaml::String(_) | Yaml::Number(_) | Yaml::Bool(_) => {
            Ok(text(flag, item)?.unwrap_or_default())
        }
        Yaml::Null | Yaml::Sequence(_) | Yaml::Mapping(_) | Yaml::Tagged(_) => {
            Err("a list of something else than texts".to_owned())
        }
    }
}

/// What are booleans to the YAML that etcd reads, and texts in ours.
fn yaml_1_1_bool(text: &str) -> &str {
    match text.to_ascii_lowercase().as_str() {
        "y" | "yes" | "on" => "true",
        "n" | "no" | "off" => "false",
        _ => text,
    }
}

/// Keys in sections, and the flags that they are.
const NESTED: [(&str, &str); 34] = [
    ("client-transport-security.cert-file", "cert-file"),
    ("client-transport-security.key-file", "key-file"),
    ("client-transport-security.client-cert-file", "client-cert-file"),
    ("client-transport-security.client-key-file", "client-key-file"),
    ("client-transport-security.client-cert-auth", "client-cert-auth"),
    ("client-transport-security.trusted-ca-file", "trusted-ca-file"),
    ("client-transport-security.auto-tls", "auto-tls"),
    ("client-transport-security.allowed-cn", "client-cert-allowed-cn"),
    ("client-transport-security.allowed-hostname", "client-cert-allowed-hostname"),
    (
        "client-transport-security.skip-client-san-verification",
        "client-skip-client-san-verification",
    ),
    ("peer-transport-security.cert-file", "peer-cert-file"),
    ("peer-transport-security.key-file", "peer-key-file"),
    ("peer-transport-security.client-cert-file", "peer-client-cert-file"),
    ("peer-transport-security.client-key-file", "peer-client-key-file"),
    ("peer-transport-security.client-cert-auth", "peer-client-cert-auth"),
    ("peer-transport-security.trusted-ca-file", "peer-trusted-ca-file"),
    ("peer-transport-security.auto-tls", "peer-auto-tls"),
    ("peer-transport-security.allowed-cn", "peer-cert-allowed-cn"),
    ("peer-transport-security.allowed-hostname", "peer-cert-allowed-hostname"),
    ("peer-transport-security.skip-client-san-verification", "peer-skip-client-san-verification"),
    ("socket-options.reuse-port", "socket-reuse-port"),
    ("socket-options.reuse-address", "socket-reuse-address"),
    ("discovery-config.token", "discovery-token"),
    ("discovery-config.client.endpoints", "discovery-endpoints"),
    ("discovery-config.client.dial-timeout", "discovery-dial-timeout"),
    ("discovery-config.client.request-timeout", "discovery-request-timeout"),
    ("discovery-config.client.keepalive-time", "discovery-keepalive-time"),
    ("discovery-config.client.keepalive-timeout", "discovery-keepalive-timeout"),
    ("discovery-config.client.secure.insecure-transport", "discovery-insecure-transport"),
    (
        "discovery-config.client.secure.insecure-skip-tls-verify",
        "discovery-insecure-skip-tls-verify",
    ),
    ("discovery-config.client.secure.cert", "discovery-cert"),
    ("discovery-config.client.secure.key", "discovery-key"),
    ("discovery-config.client.auth.username", "discovery-user"),
    ("discovery-config.client.auth.password", "discovery-password"),
];

/// Flags that mean nothing in a file.
const OUTSIDE: [&str; 2] = ["config-file", "version"];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Said, Invalid> {
        super::read(text, &mut Vec::new())
    }

    fn said(text: &str, flag: &str) -> Option<String> {
        let said = read(text).map_err(|error| error.to_string()).unwrap();
        said.has(flag).then(|| said.text(table::find(flag).unwrap().name).to_owned())
    }

    #[test]
    fn keys_are_flags() {
        for (file, flag, text) in [
            ("name: a", "name", Some("a")),
            ("{\"name\": \"a\", \"pre-vote\": false}", "pre-vote", Some("false")),
            ("name:", "name", None),
            ("", "name", None),
            ("name: ''", "name", Some("")),
            ("heartbeat-interval: 100", "heartbeat-interval", Some("100")),
            ("quota-backend-bytes: -1", "quota-backend-bytes", Some("-1")),
            ("auto-compaction-retention: 5", "auto-compaction-retention", Some("5")),
            (
                "watch-progress-notify-interval: 5000000000",
                "watch-progress-notify-interval",
                Some("5000000000ns"),
            ),
            ("watch-progress-notify-interval: 5s", "watch-progress-notify-interval", Some("5s")),
            ("log-outputs: [stderr, stdout]", "log-outputs", Some("stderr,stdout")),
            ("log-outputs: []", "log-outputs", Some("")),
            ("cipher-suites:\n- A\n- B", "cipher-suites", Some("A,B")),
            ("strict-reconfig-check: off", "strict-reconfig-check", Some("false")),
            ("initial-cluster-state: ''", "initial-cluster-state", None),
            ("client-transport-security: {cert-file: c}", "cert-file", Some("c")),
            (
                "client-transport-security:\n  client-cert-auth: yes",
                "client-cert-auth",
                Some("true"),
            ),
            ("peer-transport-security: {allowed-cn: [a, b]}", "peer-cert-allowed-cn", Some("a,b")),
            ("peer-transport-security:", "peer-cert-file", None),
            ("peer-crl-file: c", "peer-crl-file", Some("c")),
            ("socket-options: {reuse-port: true}", "socket-reuse-port", Some("true")),
            ("discovery-config: {client: {secure: {cert: c}}}", "discovery-cert", Some("c")),
            (
                "feature-gates: InitialCorruptCheck=true",
                "feature-gates",
                Some("InitialCorruptCheck=true"),
            ),
        ] {
            assert_eq!(said(file, flag).as_deref(), text, "{file}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (file, why) in [
            (
                "client-transport-security: c",
                "invalid value for \"client-transport-security\" in the configuration file: not a section",
            ),
            (
                "name: {a: b}",
                "invalid value for \"name\" in the configuration file: neither a value nor a list",
            ),
            (
                "log-outputs: [[a]]",
                "invalid value for \"log-outputs\" in the configuration file: a list of something else than texts",
            ),
            (
                "heartbeat-interval: x",
                "invalid value for \"heartbeat-interval\" in the configuration file: parse error",
            ),
        ] {
            assert_eq!(read(file).map(|_| ()).unwrap_err().to_string(), why, "{file}");
        }
        let mut notes = Vec::new();
        let said =
            super::read("nmae: a\nname: b\nclient-transport-security: {cert: c}", &mut notes);
        assert_eq!(said.unwrap().text("name"), "b");
        let unknown = ["nmae", "client-transport-security.cert"];
        assert_eq!(notes, unknown.map(|key| Note::KeyUnknown(key.to_owned())));
        for file in ["a", "- a", "name: [", "name: a\nname: b"] {
            assert!(matches!(read(file), Err(Invalid::Syntax(_))), "{file}");
        }
    }

    #[test]
    fn sections_lead_to_flags() {
        assert!(NESTED.iter().all(|(_, flag)| table::find(flag).is_some()));
    }
}
