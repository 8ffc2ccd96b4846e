//! When operations are due, and how many there are.

use crate::clock::SECOND;

/// How long load is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// For so many nanoseconds, after the warm-up.
    Time(u64),
    /// Until so many operations were begun, after the warm-up.
    Total(u64),
}

/// One thread's part of a load at a fixed rate: operation `n` of thread `t` is number `n * threads + t` of all, and
/// number `k` of all is due at `k / rate`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) start: u64,
    /// Operations in a second, of all threads.
    pub(crate) rate: u64,
    pub(crate) thread: usize,
    pub(crate) threads: usize,
}

impl Pace {
    /// When this thread's operation is due, counting from 0.
    pub(crate) fn due(self, number: u64) -> u64 {
        let of_all = u128::from(number) * self.threads as u128 + self.thread as u128;
        let after = of_all * u128::from(SECOND) / u128::from(self.rate);
        self.start.saturating_add(u64::try_from(after).unwrap_or(u64::MAX))
    }

    /// Operations of this thread that are due before this moment.
    pub(crate) fn due_before(self, moment: u64) -> u64 {
        let elapsed = u128::from(moment.saturating_sub(self.start));
        // The number of all that are due is the least k with k * SECOND / rate >= elapsed.
        let of_all = (elapsed * u128::from(self.rate)).div_ceil(u128::from(SECOND));
        let mine = (of_all + self.threads as u128 - 1 - self.thread as u128) / self.threads as u128;
        u64::try_from(mine).unwrap_or(u64::MAX)
    }
}

/// A thread's part of a total.
pub(crate) fn part(total: u64, thread: usize, threads: usize) -> u64 {
    let (thread, threads) = (thread as u64, threads as u64);
    total / threads + u64::from(thread < total % threads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_take_turns() {
        let pace = |thread| Pace { start: 1000, rate: 4, thread, threads: 2 };
        let due: Vec<_> = (0..3).map(|number| pace(0).due(number) - 1000).collect();
        assert_eq!(due, [0, SECOND / 2, SECOND]);
        assert_eq!(pace(1).due(0) - 1000, SECOND / 4);
    }

    #[test]
    fn what_is_due_is_counted_as_it_is_scheduled() {
        for (rate, threads) in [(4, 2), (1000, 1), (7, 3), (999_983, 4)] {
            for thread in 0..threads {
                let pace = Pace { start: 5, rate, thread, threads };
                for moment in [0, 5, 6, SECOND / 3, SECOND, SECOND + 5, SECOND + 6, 2 * SECOND] {
                    let count = pace.due_before(moment);
                    assert!(count == 0 || pace.due(count - 1) < moment, "{pace:?} {moment}");
                    assert!(pace.due(count) >= moment, "{pace:?} {moment} {count}");
                }
            }
        }
    }

    #[test]
    fn parts_make_the_whole() {
        for total in [0, 1, 2, 10, 11] {
            assert_eq!((0..3).map(|thread| part(total, thread, 3)).sum::<u64>(), total);
        }
    }
}
