//! Times as lines and names of files show them, in UTC.

use core::fmt;
use core::time::Duration;

use cairn_io::clock;

/// A moment of the wall clock, since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(pub(super) Duration);

/// Shows a moment as zap is told to in etcd: `2006-01-02T15:04:05.000000Z`.
pub(super) struct InLine(pub(super) Moment);

/// Shows a moment as lumberjack does: `2006-01-02T15-04-05.000`. Texts of later moments are greater.
pub(super) struct InName(pub(super) Moment);

impl Moment {
    /// Now, as the machine believes.
    pub(super) fn now() -> Self {
        Self(Duration::from_nanos(clock::wall_ns()))
    }

    fn date(self) -> Date {
        Date::of_day(self.0.as_secs() / DAY_S)
    }

    /// Hours, minutes, seconds of the day.
    fn time(self) -> (u64, u64, u64) {
        let second = self.0.as_secs() % DAY_S;
        (second / 3600, second / 60 % 60, second % 60)
    }
}

#[derive(Clone, Copy)]
struct Date {
    year: u64,
    month: u64,
    day: u64,
}

impl Date {
    /// The day so many days after 1970-01-01. Counts from March, so that the leap day is a year's last, in eras of
    /// 400 years, which all have the same number of days (Howard Hinnant, `civil_from_days`).
    fn of_day(day: u64) -> Self {
        let day = day + 719_468;
        let (era, day) = (day / 146_097, day % 146_097);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month_from_march = (5 * day + 2) / 153;
        let day = day - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        Self { year: era * 400 + year + u64::from(month <= 2), month, day }
    }
}

impl fmt::Display for InLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Date { year, month, day } = self.0.date();
        let (hour, minute, second) = self.0.time();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        write!(f, ".{:06}Z", self.0.0.subsec_micros())
    }
}

impl fmt::Display for InName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Date { year, month, day } = self.0.date();
        let (hour, minute, second) = self.0.time();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}-{minute:02}-{second:02}")?;
        write!(f, ".{:03}", self.0.0.subsec_millis())
    }
}

const DAY_S: u64 = 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_shown_in_utc() {
        for (seconds, shown) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399, "2000-02-28T23:59:59.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (951_868_800, "2000-03-01T00:00:00.000000Z"),
            (1_709_164_800, "2024-02-29T00:00:00.000000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000000Z"),
            (1_795_237_817, "2026-11-21T05:10:17.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(InLine(Moment(Duration::from_secs(seconds))).to_string(), shown);
        }
        let moment = Moment(Duration::new(1_795_237_817, 123_456_789));
        assert_eq!(InLine(moment).to_string(), "2026-11-21T05:10:17.123456Z");
        assert_eq!(InName(moment).to_string(), "2026-11-21T05-10-17.123");
    }
}
