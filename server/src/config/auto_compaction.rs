//! When old revisions are compacted without being asked.

use core::time::Duration;

use cairn_engine::auto_compact::AutoCompaction;

use crate::config::duration;
use crate::config::invalid::Invalid;

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
pub(crate) fn parse(mode: &str, retention: &str) -> Result<Option<AutoCompaction>, Invalid> {
    check_mode(mode)?;
    let wrong = || Invalid::CompactionRetention(retention.to_owned());
    let number: Option<i64> = match retention {
        "" => Some(0),
        text => text.parse().ok().filter(|number| *number >= 0),
    };
    let retained = match (mode, number) {
        ("revision", number) => AutoCompaction::Revisions(number.ok_or_else(wrong)?),
        (_, Some(hours)) => {
            let seconds = hours.checked_mul(3600).and_then(|seconds| seconds.try_into().ok());
            AutoCompaction::Periodic(Duration::from_secs(seconds.ok_or_else(wrong)?))
        }
        (_, None) => AutoCompaction::Periodic(duration::parse(retention).ok_or_else(wrong)?),
    };
    let is_off =
        matches!(retained, AutoCompaction::Revisions(0) | AutoCompaction::Periodic(Duration::ZERO));
    Ok((!is_off).then_some(retained))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_number_is_hours_or_revisions() {
        let parsed = |mode: &str, retention: &str| parse(mode, retention).unwrap();
        assert_eq!(parsed("periodic", "0"), None);
        assert_eq!(parsed("periodic", ""), None);
        assert_eq!(
            parsed("periodic", "2"),
            Some(AutoCompaction::Periodic(Duration::from_secs(7200)))
        );
        assert_eq!(
            parsed("periodic", "5m"),
            Some(AutoCompaction::Periodic(Duration::from_secs(300)))
        );
        assert_eq!(parsed("revision", "1000"), Some(AutoCompaction::Revisions(1000)));
        assert_eq!(parsed("revision", "0"), None);
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
            assert_eq!(parse(mode, retention).unwrap_err().to_string(), why);
        }
    }
}
