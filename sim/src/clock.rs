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

const MILLION: i128 = 1_000_000;

impl Clock {
    /// What the clock shows at a true time.
    pub fn read(self, true_ns: u64) -> Time {
        let elapsed = i128::from(true_ns) * (MILLION + i128::from(self.drift_ppm)) / MILLION;
        Time::from_nanos(
            u64::try_from(i128::from(self.offset_ns) + elapsed).expect("clocks run forwards"),
        )
    }

    /// The earliest true time at which the clock shows `time` or later; `None`: not in this world.
    pub fn when(self, time: Time) -> Option<u64> {
        if time.as_nanos() > NEVER_NS {
            return None;
        }
        let elapsed = i128::from(time.as_nanos().saturating_sub(self.offset_ns));
        let rate = MILLION + i128::from(self.drift_ppm);
        let true_ns = (elapsed * MILLION + rate - 1) / rate;
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
            for deadline in [12_345, 99_999, 1_234_567_890_123] {
                let deadline = Time::from_nanos(deadline);
                let when = clock.when(deadline).unwrap();
                assert!(clock.read(when) >= deadline, "{clock:?} {deadline:?}");
                assert!(when == 0 || clock.read(when - 1) < deadline, "{clock:?} {deadline:?}");
            }
        }
        assert_eq!(Clock::default().when(Time::from_nanos(u64::MAX)), None);
    }
}
