//! When old revisions are compacted without being asked.

use core::time::Duration;

use crate::config::duration;
use crate::config::invalid::Invalid;

/// How much history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// What is younger than this.
    Periodic(Duration),
    /// So many revisions.
    Revisions(u64),
}

impl AutoCompaction {
    /// Checks the name of a mode.
    pub(crate) fn check_mode(mode: &str) -> Result<(), Invalid> {
        match mode {
            "periodic" | "revision" => Ok(()),
            other => Err(Invalid::CompactionMode(other.to_owned())),
        }
    }

    /// Reads both flags; `None`: never. A bare number is hours in one mode and revisions in the other.
    ///
    /// Unlike etcd, no duration is taken for a number of revisions (it would be nanoseconds), and none is negative.
    pub(crate) fn parse(mode: &str, retention: &str) -> Result<Option<Self>, Invalid> {
        Self::check_mode(mode)?;
        let wrong = || Invalid::CompactionRetention(retention.to_owned());
        let number: Option<u64> = match retention {
            "" => Some(0),
            text => text.parse().ok(),
        };
        let retained = match (mode, number) {
            ("revision", number) => Self::Revisions(number.ok_or_else(wrong)?),
            (_, Some(hours)) => {
                Self::Periodic(Duration::from_secs(hours.checked_mul(3600).ok_or_else(wrong)?))
            }
            (_, None) => Self::Periodic(duration::parse(retention).ok_or_else(wrong)?),
        };
        let is_off = matches!(retained, Self::Revisions(0) | Self::Periodic(Duration::ZERO));
        Ok((!is_off).then_some(retained))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_number_is_hours_or_revisions() {
        let parse = |mode: &str, retention: &str| AutoCompaction::parse(mode, retention).unwrap();
        assert_eq!(parse("periodic", "0"), None);
        assert_eq!(parse("periodic", ""), None);
        assert_eq!(
            parse("periodic", "2"),
            Some(AutoCompaction::Periodic(Duration::from_secs(7200)))
        );
        assert_eq!(
            parse("periodic", "5m"),
            Some(AutoCompaction::Periodic(Duration::from_secs(300)))
        );
        assert_eq!(parse("revision", "1000"), Some(AutoCompaction::Revisions(1000)));
        assert_eq!(parse("revision", "0"), None);
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for (mode, retention, why) in [
            ("periodic", "x", "error parsing CompactionRetention: time: invalid duration \"x\""),
            (
                "periodic",
                "-5m",
                "error parsing CompactionRetention: time: invalid duration \"-5m\"",
            ),
            ("revision", "5m", "error parsing CompactionRetention: time: invalid duration \"5m\""),
            ("x", "1", "unknown auto-compaction-mode \"x\""),
            ("", "1", "undefined auto-compaction-mode"),
        ] {
            assert_eq!(AutoCompaction::parse(mode, retention).unwrap_err().to_string(), why);
        }
    }
}
