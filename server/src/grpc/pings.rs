//! Pings of clients, and when they are too many: the rules of grpc-go's server, as etcd sets them.
//!
//! A client that keeps its connection alive may ping no more often than `--grpc-keepalive-min-time`, and without calls
//! under way every two hours. What comes earlier is a strike; answers forgive all. With the third the connection ends
//! (`grpc-go internal/transport/http2_server.go handlePing`).

use core::time::Duration;

use cairn_io::clock::saturating_ns;

/// How often a client without calls may ping.
const IDLE: Duration = Duration::from_secs(2 * 60 * 60);
/// Strikes that are forgiven.
const STRIKES_MAX: u8 = 2;

/// The strikes of one client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strikes {
    min_time: Duration,
    count: u8,
    /// When it pinged last.
    last_ns: Option<u64>,
}

impl Strikes {
    pub(super) const fn new(min_time: Duration) -> Self {
        Self { min_time, count: 0, last_ns: None }
    }

    /// A ping came; whether it was one too many.
    pub(super) fn ping(&mut self, now_ns: u64, was_answered: bool, has_calls: bool) -> bool {
        let last_ns = self.last_ns.replace(now_ns);
        if was_answered {
            self.count = 0;
            return false;
        }
        let least = if has_calls { self.min_time } else { IDLE };
        let may_come = |last_ns: u64| last_ns.saturating_add(saturating_ns(least)) <= now_ns;
        if !last_ns.is_none_or(may_come) {
            self.count += 1;
        }
        self.count > STRIKES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    /// Which of some pings, each so many seconds after the one before, is one too many.
    fn third(pings: &[(u64, bool, bool)]) -> Option<usize> {
        let (mut strikes, mut now) = (Strikes::new(Duration::from_secs(5)), 0);
        pings.iter().position(|&(after_s, was_answered, has_calls)| {
            now += after_s * S;
            strikes.ping(now, was_answered, has_calls)
        })
    }

    #[test]
    fn the_third_strike_ends_it() {
        assert_eq!(third(&[(1, false, true); 4]), Some(3), "the first has none before it");
        assert_eq!(third(&[(5, false, true); 100]), None);
        assert_eq!(third(&[(4, false, true); 4]), Some(3));
        assert_eq!(third(&[(3600, false, false); 4]), Some(3), "nothing is under way");
        assert_eq!(third(&[(7200, false, false); 100]), None);
        assert_eq!(third(&[(0, true, true); 100]), None, "there were answers");
        let twice = [(0, true, true), (0, false, true), (0, false, true)];
        assert_eq!(third(&twice.repeat(100)), None);
    }
}
