//! Figures of times: percentiles, and a histogram that fits a terminal.

use core::fmt::Write as _;
use core::time::Duration;

use serde_json::{Value, json};

/// Times, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times {
    sorted_us: Vec<u64>,
}

impl Times {
    /// These times.
    pub(crate) fn new(times: impl IntoIterator<Item = Duration>) -> Self {
        let mut sorted_us: Vec<u64> = times
            .into_iter()
            .map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
            .collect();
        sorted_us.sort_unstable();
        Self { sorted_us }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.sorted_us.len()
    }

    /// The time that so many of a thousand do not exceed: the nearest rank. 0 if there is none.
    pub(crate) fn permille_us(&self, permille: usize) -> u64 {
        let rank = (self.sorted_us.len() * permille).div_ceil(1000);
        self.sorted_us.get(rank.saturating_sub(1)).copied().unwrap_or(0)
    }

    /// `min`, `p50`, `p90`, `p99` and `max`.
    pub(crate) fn landmarks(&self) -> [(&'static str, u64); 5] {
        [("min", 0), ("p50", 500), ("p90", 900), ("p99", 990), ("max", 1000)]
            .map(|(name, permille)| (name, self.permille_us(permille)))
    }

    /// The landmarks in milliseconds, on one line; beside each, how many times `unit` it is, if one is given.
    pub(crate) fn line(&self, unit: Option<Duration>) -> String {
        let mut line = String::new();
        for (name, us) in self.landmarks() {
            write!(line, "{name} {} ms", thousandths(us)).expect("strings take everything");
            if let Some(unit) = unit {
                let of_unit = u128::from(us) * 1000 / unit.as_micros().max(1);
                let of_unit = u64::try_from(of_unit).unwrap_or(u64::MAX);
                write!(line, " (x{})", thousandths(of_unit)).expect("strings take everything");
            }
            line.push_str("   ");
        }
        line.truncate(line.trim_end().len());
        line
    }

    /// A bar for each of some twenty spans of equal length.
    pub(crate) fn histogram(&self) -> String {
        let (least, most) = (self.permille_us(0), self.permille_us(1000));
        let width = ((most - least) / BARS + 1).div_ceil(1000) * 1000;
        let first = least / width;
        let mut counts: Vec<usize> = Vec::new();
        for us in &self.sorted_us {
            let bar = usize::try_from(us / width - first).expect("there are few bars");
            counts.resize(counts.len().max(bar + 1), 0);
            counts[bar] += 1;
        }
        let highest = counts.iter().copied().max().unwrap_or(0).max(1);
        let mut text = String::new();
        for (from, count) in (first..).zip(&counts) {
            let length = (count * BAR_LENGTH).div_ceil(highest);
            let from_ms = from * width / 1000;
            writeln!(text, "{from_ms:>7} ms {count:>5} {}", "#".repeat(length))
                .expect("strings take everything");
        }
        text
    }

    /// All times and the landmarks, in microseconds.
    pub(crate) fn json(&self) -> Value {
        let landmarks = self.landmarks().map(|(name, us)| (name.to_owned(), json!(us)));
        let mut object = serde_json::Map::from_iter(landmarks);
        object.insert("count".to_owned(), json!(self.count()));
        object.insert("all".to_owned(), json!(self.sorted_us));
        Value::Object(object)
    }
}

/// 1234567 thousandths as `1234.6`, 1234 as `1.23`.
fn thousandths(number: u64) -> String {
    let (whole, rest) = (number / 1000, number % 1000);
    if whole < 100 {
        format!("{whole}.{:02}", rest / 10)
    } else {
        format!("{whole}.{}", rest / 100)
    }
}

const BARS: u64 = 20;
const BAR_LENGTH: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    fn times(ms: impl IntoIterator<Item = u64>) -> Times {
        Times::new(ms.into_iter().map(Duration::from_millis))
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let hundred = times((1..=100).rev());
        let expected =
            [("min", 1000), ("p50", 50_000), ("p90", 90_000), ("p99", 99_000), ("max", 100_000)];
        assert_eq!(hundred.landmarks(), expected);
        assert_eq!(times([7]).landmarks().map(|(_, us)| us), [7000; 5]);
        assert_eq!(times([]).landmarks().map(|(_, us)| us), [0; 5]);
    }

    #[test]
    fn a_line_says_milliseconds_and_multiples() {
        let line = times([150, 1500]).line(Some(Duration::from_secs(1)));
        assert!(
            line.starts_with("min 150.0 ms (x0.15)") && line.ends_with("max 1500.0 ms (x1.50)")
        );
    }

    #[test]
    fn a_histogram_has_everything_in_it() {
        let text = times([100, 101, 102, 900]).histogram();
        assert!(text.starts_with("     82 ms     3 ###"), "{text}");
        assert!(text.trim_end().ends_with('#') && text.lines().count() <= 22);
        assert_eq!(times([5]).histogram().lines().count(), 1);
        assert_eq!(times([]).histogram(), "");
    }
}
