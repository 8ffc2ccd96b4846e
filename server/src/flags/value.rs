//! What a flag's text means.

use core::time::Duration;

use crate::config::duration;
use crate::config::gates::{self, Gate};
use crate::config::scalar::{parse_bool, parse_integer};
use crate::config::url::Url;
use crate::log::Level;

/// What texts a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Any.
    Text,
    /// Any, and nobody else may see it.
    Secret,
    /// A boolean; without a value it is true.
    Bool,
    /// An integer from zero on.
    Unsigned,
    /// An integer of 32 bits.
    Unsigned32,
    /// An integer.
    Signed,
    /// A duration in Go's syntax.
    Duration,
    /// URLs with commas between them. Nothing means the default.
    Urls,
    /// The same, or `*`.
    Origins,
    /// Texts with commas between them.
    Names,
    /// One of these.
    Choice(&'static [&'static str]),
    /// `Name=bool` with commas between them; of repeated flags all count.
    Gates,
    /// zap's levels.
    Level,
    /// Nobody looks.
    Anything,
}

/// What a text means.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Duration(Duration),
    Urls(Vec<Url>),
    Names(Vec<String>),
    Gates(Vec<(Gate, bool)>),
    Level(Level),
}

impl Kind {
    /// Whether a flag of this kind stands alone on a command line.
    pub(super) fn is_bool(self) -> bool {
        matches!(self, Self::Bool | Self::Anything)
    }

    /// Reads a text. The error says why not, in Go's words where Go has some.
    pub(super) fn parse(self, text: &str) -> Result<Value, String> {
        let parse_error = || "parse error".to_owned();
        match self {
            Self::Text | Self::Secret | Self::Anything => Ok(Value::Text(text.to_owned())),
            Self::Bool => parse_bool(text).map(Value::Bool).ok_or_else(parse_error),
            Self::Unsigned => Ok(Value::Unsigned(narrow(text)?)),
            Self::Unsigned32 => Ok(Value::Unsigned(narrow::<u32>(text)?.into())),
            Self::Signed => Ok(Value::Signed(narrow(text)?)),
            Self::Duration => duration::parse(text).map(Value::Duration).ok_or_else(parse_error),
            Self::Urls | Self::Origins if text.is_empty() => Ok(Value::Urls(Vec::new())),
            Self::Origins if text == "*" => Ok(Value::Urls(Vec::new())),
            Self::Urls | Self::Origins => {
                let mut urls = Url::parse_list(text).map_err(|error| error.to_string())?;
                urls.dedup();
                Ok(Value::Urls(urls))
            }
            Self::Names if text.is_empty() => Ok(Value::Names(Vec::new())),
            Self::Names => Ok(Value::Names(text.split(',').map(str::to_owned).collect())),
            Self::Choice(choices) if choices.contains(&text) => Ok(Value::Text(text.to_owned())),
            Self::Choice(choices) => {
                Err(format!("invalid value, must be one of: {}", choices.join(", ")))
            }
            Self::Gates => gates::parse(text).map(Value::Gates).map_err(|error| error.to_string()),
            Self::Level => match Level::parse(text) {
                Some(level) => Ok(Value::Level(level)),
                None => Err(format!("unrecognized level: {text:?}")),
            },
        }
    }
}

/// An integer that fits. To Go, a minus before an unsigned one is no syntax.
fn narrow<T: TryFrom<i128>>(text: &str) -> Result<T, String> {
    let value = parse_integer(text).ok_or("parse error")?;
    let is_syntax = value < 0 && T::try_from(-1).is_err();
    let why = if is_syntax { "parse error" } else { "value out of range" };
    T::try_from(value).map_err(|_| why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_takes_what_go_takes() {
        for (kind, right, wrong) in [
            (Kind::Text, vec!["", "x"], vec![]),
            (Kind::Bool, vec!["true", "0"], vec!["", "yes"]),
            (
                Kind::Unsigned,
                vec!["0", "0x10", "18446744073709551615"],
                vec!["", "-1", "18446744073709551616"],
            ),
            (Kind::Unsigned32, vec!["4294967295"], vec!["4294967296", "-1"]),
            (Kind::Signed, vec!["-1"], vec!["9223372036854775808", "1.5"]),
            (Kind::Duration, vec!["0", "5s"], vec!["", "5", "-5s"]),
            (
                Kind::Urls,
                vec!["", "http://a:1", "unix://x,http://a:1"],
                vec!["*", "a", "http://a:1,"],
            ),
            (Kind::Origins, vec!["", "*", "http://a:1"], vec!["http://a", "*,http://a:1"]),
            (Kind::Names, vec!["", "a,b"], vec![]),
            (Kind::Choice(&["a", "b"]), vec!["a"], vec!["", "c"]),
            (Kind::Gates, vec!["", "AllAlpha=true"], vec!["AllAlpha"]),
            (Kind::Level, vec!["", "WARN"], vec!["bad"]),
        ] {
            right.iter().for_each(|text| assert!(kind.parse(text).is_ok(), "{kind:?} {text}"));
            wrong.iter().for_each(|text| assert!(kind.parse(text).is_err(), "{kind:?} {text}"));
        }
    }

    #[test]
    fn lists_of_urls_are_sorted_and_without_duplicates() {
        let Ok(Value::Urls(urls)) = Kind::Urls.parse("http://b:1,http://a:1,http://b:1") else {
            panic!()
        };
        assert_eq!(format!("{urls:?}"), r#"["http://a:1", "http://b:1"]"#);
    }
}
