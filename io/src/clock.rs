//! The only place that reads a clock of the operating system.
//!
//! Two clocks, two purposes. The monotonic one drives everything: it never steps back, and its zero is a
//! moment of this process. The wall clock is only ever shown or stored for people (etcd prints it); no
//! decision rests on it.
//!
//! Code that runs under a simulator takes the time from [`Runtime::now`](crate::runtime::Runtime::now)
//! instead, which is virtual there.

use core::time::Duration;
use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Nanoseconds since the first call in this process. Never steps back; stands still while the machine
/// is suspended (`CLOCK_MONOTONIC`). About 25 ns.
pub fn monotonic_ns() -> u64 {
    static ZERO: OnceLock<Instant> = OnceLock::new();
    let now = instant();
    saturating_ns(now.saturating_duration_since(*ZERO.get_or_init(|| now)))
}

/// Nanoseconds since 1970-01-01T00:00:00Z as the machine believes; zero if it believes in an earlier
/// time. Steps in both directions whenever somebody sets the clock.
#[expect(clippy::disallowed_methods, reason = "this is the wall clock that others are sent to")]
pub fn wall_ns() -> u64 {
    saturating_ns(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO))
}

/// A duration as nanoseconds; `u64::MAX` stands for 584 years and more.
pub fn saturating_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the monotonic clock that others are sent to"
)]
fn instant() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_does_not_step_back() {
        let mut last = monotonic_ns();
        for _ in 0..1000 {
            let now = monotonic_ns();
            assert!(last <= now);
            last = now;
        }
    }

    #[test]
    fn the_wall_clock_is_past_this_projects_birth() {
        assert!(wall_ns() > 1_700_000_000 * 1_000_000_000);
    }
}
