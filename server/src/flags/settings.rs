//! What was said about flags, and what it means.

use core::time::Duration;
use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::config::gates::Gate;
use crate::config::invalid::Invalid;
use crate::config::url::Url;
use crate::flags::note::Note;
use crate::flags::table::{self, Flag, Treatment};
use crate::flags::value::{Kind, Value};
use crate::log::Level;

/// Texts of flags, each of them one that its flag takes. What is said later counts.
#[derive(Default)]
pub(super) struct Said {
    texts: BTreeMap<&'static str, String>,
}

/// The meaning of every flag of today, said or not.
pub(super) struct Settings {
    said: BTreeMap<&'static str, Value>,
}

impl Said {
    /// Says a flag. The error says why its text is none that it takes.
    pub(super) fn say(&mut self, flag: &'static Flag, text: &str) -> Result<(), String> {
        flag.kind.parse(text)?;
        match self.texts.get_mut(flag.name) {
            Some(before) if flag.kind == Kind::Gates => {
                before.push(',');
                before.push_str(text);
            }
            Some(before) => text.clone_into(before),
            None => drop(self.texts.insert(flag.name, text.to_owned())),
        }
        Ok(())
    }

    /// Whether a flag was said.
    pub(super) fn has(&self, name: &str) -> bool {
        self.texts.contains_key(name)
    }

    /// Whether a boolean flag was said to be true.
    pub(super) fn is_true(&self, name: &'static str) -> bool {
        matches!(row(name).kind.parse(self.text(name)), Ok(Value::Bool(true)))
    }

    /// What was said, or the default.
    pub(super) fn text(&self, name: &'static str) -> &str {
        self.texts.get(name).map_or_else(|| row(name).default, String::as_str)
    }

    /// Finds out what everything means, and what is to be remarked.
    pub(super) fn settle(mut self, notes: &mut Vec<Note>) -> Settings {
        let mut settings = Settings { said: BTreeMap::new() };
        for flag in table::flags() {
            let Some(text) = self.texts.get(flag.name).cloned() else { continue };
            match flag.treatment {
                Treatment::Obeyed => {}
                Treatment::Ignored => continue,
                Treatment::WithoutEffect(why) => {
                    if text != flag.default {
                        notes.push(Note::WithoutEffect { flag: flag.name, why });
                    }
                }
                Treatment::NotYet(why) => {
                    if text != flag.default {
                        notes.push(Note::NotYet { flag: flag.name, why });
                    }
                }
                // Later, when it is known that nothing else is wrong.
                Treatment::Refused(_) => {}
                Treatment::Replaced(successors) => {
                    self.replace(flag, &text, successors, notes);
                    continue;
                }
            }
            let value =
                flag.kind.parse(&text).expect("a text that was said is one that its flag takes");
            settings.said.insert(flag.name, value);
        }
        settings
    }

    /// Says what a retired flag stands for, unless that was said as well. Successors take what the flag takes.
    fn replace(
        &mut self,
        flag: &'static Flag,
        text: &str,
        successors: &[(&'static str, &str)],
        notes: &mut Vec<Note>,
    ) {
        if text.is_empty() {
            return;
        }
        let said: Vec<String> = successors
            .iter()
            .map(|(name, form)| format!("--{name}={}", form.replace("{}", text)))
            .collect();
        notes.push(Note::Retired { flag: flag.name, instead: said.join(" ") });
        for (name, form) in successors {
            let successor = row(name);
            let mut meant = form.replace("{}", text);
            match self.texts.get(name) {
                // What was said of the same gate comes later, and counts.
                Some(gates) if successor.kind == Kind::Gates => {
                    meant.push(',');
                    meant.push_str(gates);
                }
                Some(_) => continue,
                None => {}
            }
            self.texts.insert(name, meant);
        }
    }

    /// The first flag that says what Cairn does not do and must not seem to do.
    pub(super) fn refusal(&self) -> Result<(), Invalid> {
        for flag in table::flags() {
            if let Treatment::Refused(why) = flag.treatment
                && self.text(flag.name) != flag.default
            {
                return Err(Invalid::Refused { flag: flag.name, why });
            }
        }
        Ok(())
    }
}

impl Settings {
    /// Whether a flag was said, itself or by one that stands for it.
    pub(super) fn has(&self, name: &'static str) -> bool {
        self.said.contains_key(name)
    }

    pub(super) fn text(&self, name: &'static str) -> String {
        let Value::Text(text) = self.value(name) else { another_kind(name) };
        text
    }

    /// A path; `None` if it is empty.
    pub(super) fn path(&self, name: &'static str) -> Option<PathBuf> {
        Some(self.text(name)).filter(|text| !text.is_empty()).map(PathBuf::from)
    }

    pub(super) fn bool(&self, name: &'static str) -> bool {
        let Value::Bool(value) = self.value(name) else { another_kind(name) };
        value
    }

    pub(super) fn unsigned(&self, name: &'static str) -> u64 {
        let Value::Unsigned(value) = self.value(name) else { another_kind(name) };
        value
    }

    pub(super) fn signed(&self, name: &'static str) -> i64 {
        let Value::Signed(value) = self.value(name) else { another_kind(name) };
        value
    }

    /// An unsigned integer that fits another type.
    pub(super) fn narrow<T: TryFrom<u64>>(&self, name: &'static str) -> Result<T, Invalid> {
        let value = self.unsigned(name);
        T::try_from(value).map_err(|_| Invalid::TooLarge(name, value))
    }

    pub(super) fn duration(&self, name: &'static str) -> Duration {
        let Value::Duration(value) = self.value(name) else { another_kind(name) };
        value
    }

    /// A duration; `None` if it is zero.
    pub(super) fn some_duration(&self, name: &'static str) -> Option<Duration> {
        Some(self.duration(name)).filter(|duration| !duration.is_zero())
    }

    /// URLs, sorted; if none were given, those of the default.
    pub(super) fn urls(&self, name: &'static str) -> Vec<Url> {
        let Value::Urls(said) = self.value(name) else { another_kind(name) };
        let Value::Urls(default) = default(name) else { another_kind(name) };
        if said.is_empty() { default } else { said }
    }

    pub(super) fn names(&self, name: &'static str) -> Vec<String> {
        let Value::Names(names) = self.value(name) else { another_kind(name) };
        names
    }

    pub(super) fn gates(&self, name: &'static str) -> Vec<(Gate, bool)> {
        let Value::Gates(gates) = self.value(name) else { another_kind(name) };
        gates
    }

    pub(super) fn level(&self, name: &'static str) -> Level {
        let Value::Level(level) = self.value(name) else { another_kind(name) };
        level
    }

    fn value(&self, name: &'static str) -> Value {
        self.said.get(name).cloned().unwrap_or_else(|| default(name))
    }
}

/// A bug that reading every flag once finds.
fn another_kind(name: &str) -> ! {
    panic!("--{name} is of another kind in the table")
}

fn row(name: &str) -> &'static Flag {
    table::find(name).unwrap_or_else(|| panic!("--{name} is not in the table"))
}

fn default(name: &'static str) -> Value {
    let row = row(name);
    row.kind
        .parse(row.default)
        .unwrap_or_else(|why| panic!("the default of --{name} is wrong: {why}"))
}
