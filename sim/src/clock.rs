//! A member's own clock: it drifts, and now and then it jumps ahead. It never goes back.

use cairn_engine::Time;

/// How a member's monotonic clock relates to the simulation's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// What it shows when the simulation begins.
    pub offset_ns: u64,
    /// How much faster than true time it runs, in millionths; negative: slower.
    pub drift_ppm: i64,
}

/// Products fit into 64 bits for two hours of a run; what is longer takes the slow way to the same result.
const MILLION: i64 = 1_000_000;

impl Clock {
    /// What the clock shows at a true time.
    pub fn read(self, true_ns: u64) -> Time {
        let rate = MILLION + self.drift_ppm;
        let elapsed = match i64::try_from(true_ns).ok().and_then(|ns| ns.checked_mul(rate)) {
            Some(product) => i128::from(product / MILLION),
            None => i128::from(true_ns) * i128::from(rate) / i128::from(MILLION),
        };
        Time::from_nanos(
            u64::try_from(i128::from(self.offset_ns) + elapsed).expect("clocks run forwards"),
        )
    }

    /// The earliest true time at which the clock shows `time` or later; `None`: not in this world.
    pub fn when(self, time: Time) -> Option<u64> {
        if time.as_nanos() > NEVER_NS {
            return None;
        }
        let elapsed = time.as_nanos().saturating_sub(self.offset_ns);
        let rate = MILLION + self.drift_ppm;
        let scaled = i64::try_from(elapsed).ok().and_then(|ns| ns.checked_mul(MILLION));
        let true_ns = match scaled.and_then(|scaled| scaled.checked_add(rate - 1)) {
            Some(scaled) => i128::from(scaled / rate),
            None => {
                let (million, rate) = (i128::from(MILLION), i128::from(rate));
                (i128::from(elapsed) * million + rate - 1) / rate
            }
        };
        Some(u64::try_from(true_ns).expect("clocks run forwards"))
    }
}

/// A deadline beyond this is no deadline: three centuries.
const NEVER_NS: u64 = u64::MAX / 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_reached_when_the_clock_shows_it() {
        for drift_ppm in [-200_000, -7, 0, 7, 200_000] {
            let clock = Clock { offset_ns: 12_345, drift_ppm };
            for deadline in [12_345, 99_999, 1_234_567_890_123, 1_234_567_890_123_456_789] {
                let deadline = Time::from_nanos(deadline);
                let when = clock.when(deadline).unwrap();
                assert!(clock.read(when) >= deadline, "{clock:?} {deadline:?}");
                assert!(when == 0 || clock.read(when - 1) < deadline, "{clock:?} {deadline:?}");
            }
        }
        assert_eq!(Clock::default().when(Time::from_nanos(u64::MAX)), None);
    }
}
