//! Durations as Go writes them: `1h30m`, `300ms`, `1.5s`.

use core::fmt;
use core::time::Duration;

/// Shows a duration as Go does: `2h0m0s`, `1.5s`, `100ms`.
#[derive(Clone, Copy, Debug)]
pub struct GoDuration(pub Duration);

/// Reads a duration in Go's syntax; `None` if it is none, is negative (nothing here can last less than nothing),
/// or does not fit Go's 292 years.
pub fn parse(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total_ns: u64 = 0;
    loop {
        let (whole, after) = split_digits(rest);
        let (part, after) = match after.strip_prefix('.') {
            Some(after) => split_digits(after),
            None => ("", after),
        };
        if whole.is_empty() && part.is_empty() {
            return None;
        }
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let unit_ns = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total_ns = total_ns
            .checked_add(whole.checked_mul(unit_ns)?)?
            .checked_add(fraction(part, unit_ns))?;
        rest = after;
        if rest.is_empty() {
            return i64::try_from(total_ns).is_ok().then(|| Duration::from_nanos(total_ns));
        }
    }
}

/// That part of a unit, rounded down. Digits beyond the eighteenth are less than a nanosecond in any unit.
fn fraction(digits: &str, unit_ns: u64) -> u64 {
    let digits = digits.get(..18).unwrap_or(digits);
    let numerator: u128 = digits.parse().unwrap_or(0);
    let scaled = numerator * u128::from(unit_ns);
    let places = u32::try_from(digits.len()).unwrap_or(u32::MAX);
    u64::try_from(scaled / 10_u128.pow(places)).unwrap_or(u64::MAX)
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanoseconds = self.0.as_nanos();
        if self.0 < Duration::from_secs(1) {
            return match nanoseconds {
                0 => f.write_str("0s"),
                1..1_000 => write!(f, "{nanoseconds}ns"),
                1_000..1_000_000 => decimal(f, nanoseconds, 3, "µs"),
                _ => decimal(f, nanoseconds, 6, "ms"),
            };
        }
        let seconds = self.0.as_secs();
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if seconds >= 60 {
            write!(f, "{minutes}m")?;
        }
        decimal(f, u128::from(seconds % 60) * 1_000_000_000 + nanoseconds % 1_000_000_000, 9, "s")
    }
}

/// A number with so many decimal places, without zeros at the end.
fn decimal(f: &mut fmt::Formatter<'_>, value: u128, places: u32, unit: &str) -> fmt::Result {
    let one = 10_u128.pow(places);
    write!(f, "{}", value / one)?;
    if !value.is_multiple_of(one) {
        let width = usize::try_from(places).unwrap_or(0);
        let digits = format!("{:0width$}", value % one);
        write!(f, ".{}", digits.trim_end_matches('0'))?;
    }
    f.write_str(unit)
}

/// Names and nanoseconds. Both letters that look like a micro sign are one.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_reads_them_the_same_way() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("0s", 0),
            ("+5s", 5_000_000_000),
            ("1h2m3s4ms", 3_723_004_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("1\u{b5}s", 1_000),
            ("1\u{3bc}s2us", 3_000),
            ("0.3333333333333333333h", 1_199_999_999_999),
            ("2562047h47m16.854775807s", 9_223_372_036_854_775_807),
        ] {
            assert_eq!(parse(text), Some(Duration::from_nanos(nanoseconds)), "{text}");
        }
        for text in [
            "",
            "5",
            "s",
            ".s",
            "-1s",
            "1x",
            "1 s",
            "5s ",
            "2562048h",
            "99999999999999999999s",
            "1s-2s",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn go_shows_them_the_same_way() {
        for text in
            ["0s", "1ns", "1.1µs", "100ms", "1.5s", "1m0s", "1m1.000000001s", "2h0m0s", "72h3m0.5s"]
        {
            assert_eq!(GoDuration(parse(text).unwrap()).to_string(), text);
        }
    }
}
