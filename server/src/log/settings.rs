//! What people can choose about the log.

use core::fmt;
use core::time::Duration;
use std::path::PathBuf;

use serde_json::Value;

/// Everything about the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What is less important is left out.
    pub level: Level,
    /// How lines look.
    pub format: Format,
    /// Where lines go; to nowhere if empty.
    pub outputs: Vec<Output>,
    /// When files are replaced; `None`: never.
    pub rotation: Option<Rotation>,
}

/// How important a line is: zap's levels without `dpanic`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For whoever works on Cairn.
    Debug,
    /// What happens.
    Info,
    /// What somebody should look at some day.
    Warn,
    /// What failed.
    Error,
    /// Never used; a threshold between error and fatal.
    Panic,
    /// Why the process ends.
    Fatal,
}

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object each.
    Json,
    /// Columns for people, and the fields as JSON.
    Console,
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// systemd's journal.
    Journal,
    /// A file, at its end.
    File(PathBuf),
}

/// When a file is replaced and how many old ones are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// A file that would grow beyond this many bytes is put aside.
    pub bytes_max: u64,
    /// Old files that were put aside longer ago are deleted; `None`: never.
    pub age_max: Option<Duration>,
    /// If there are more old files, the oldest are deleted; `None`: never.
    pub backups_max: Option<usize>,
}

impl Default for Settings {
    fn default() -> Self {
        let outputs = vec![Output::Stderr];
        Self { level: Level::Info, format: Format::Json, outputs, rotation: None }
    }
}

impl Level {
    /// Reads zap's names, in any case; empty is `info`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "debug" => Some(Self::Debug),
            "" | "info" => Some(Self::Info),
            "warn" | "warning" => Some(Self::Warn),
            "error" => Some(Self::Error),
            "dpanic" | "panic" => Some(Self::Panic),
            "fatal" => Some(Self::Fatal),
            _ => None,
        }
    }

    /// zap's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Panic => "panic",
            Self::Fatal => "fatal",
        }
    }
}

impl Output {
    /// Reads one entry of `--log-outputs`.
    pub fn parse(text: &str) -> Self {
        match text {
            "default" | "stderr" => Self::Stderr,
            "stdout" => Self::Stdout,
            "systemd/journal" => Self::Journal,
            path => Self::File(PathBuf::from(path.strip_prefix("file://").unwrap_or(path))),
        }
    }
}

impl Rotation {
    /// Reads the JSON of lumberjack, which etcd uses: sizes in megabytes, ages in days, zero for "no limit". What it
    /// says about local time and compression is not followed: names are in UTC, and old files stay as they are.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let Value::Object(entries) = value else { return Err("not a JSON object".to_owned()) };
        let (mut megabytes, mut days, mut backups) = (0, 0, 0);
        for (key, value) in &entries {
            let key = key.to_ascii_lowercase();
            let number = match key.as_str() {
                "maxsize" => &mut megabytes,
                "maxage" => &mut days,
                "maxbackups" => &mut backups,
                "localtime" | "compress" if value.is_boolean() => continue,
                "localtime" | "compress" => {
                    return Err(format!("{key} is neither true nor false"));
                }
                _ => return Err(format!("unknown key {key:?}")),
            };
            *number = value.as_u64().ok_or_else(|| format!("{key} is no positive integer"))?;
        }
        Ok(Self {
            bytes_max: if megabytes == 0 { DEFAULT_MEGABYTES } else { megabytes }
                .saturating_mul(1 << 20),
            age_max: (days > 0).then(|| Duration::from_secs(days.saturating_mul(24 * 60 * 60))),
            backups_max: (backups > 0).then(|| usize::try_from(backups).unwrap_or(usize::MAX)),
        })
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stderr => f.write_str("stderr"),
            Self::Stdout => f.write_str("stdout"),
            Self::Journal => f.write_str("systemd/journal"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// lumberjack's.
const DEFAULT_MEGABYTES: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_zaps_names() {
        assert_eq!(Level::parse("WARN"), Some(Level::Warn));
        assert_eq!(Level::parse(""), Some(Level::Info));
        assert_eq!(Level::parse("dpanic"), Some(Level::Panic));
        assert_eq!(Level::parse("trace"), None);
    }

    #[test]
    fn rotation_is_read_as_lumberjack_reads_it() {
        let default = r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#;
        let expected = Rotation { bytes_max: 100 << 20, age_max: None, backups_max: None };
        assert_eq!(Rotation::parse(default), Ok(expected.clone()));
        assert_eq!(Rotation::parse("{}"), Ok(expected));
        let limited = Rotation::parse(r#"{"MaxSize":1,"maxage":2,"maxbackups":3}"#).unwrap();
        let age_max = Some(Duration::from_secs(172_800));
        assert_eq!(limited, Rotation { bytes_max: 1 << 20, age_max, backups_max: Some(3) });
        for text in [
            "{",
            "7",
            r#"{"maxsize":-1}"#,
            r#"{"maxsize":"1"}"#,
            r#"{"max":1}"#,
            r#"{"compress":1}"#,
        ] {
            assert!(Rotation::parse(text).is_err(), "{text}");
        }
    }
}
