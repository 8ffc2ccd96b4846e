//! Compacting history without being asked, as etcd's two modes do it.
//!
//! *Periodic*: what is older than a period goes. The revision is noted ten times in each interval (the period, or
//! an hour if that is shorter); once the notes reach back a whole period, the oldest is compacted to, and then once
//! every interval. *By revision*: every five minutes all but the last so many revisions go.
//!
//! Only a leader does this; a new one begins to take notes when it leads, so history is kept rather a little longer.

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::time::Time;

/// When history is compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// History older than this goes. Not zero.
    Periodic(Duration),
    /// All but so many revisions go.
    Revisions(i64),
}

/// The longest interval between two compactions by period.
const INTERVAL_MAX: Duration = Duration::from_secs(3600);
/// The interval between two compactions by revision.
const REVISION_INTERVAL: Duration = Duration::from_secs(300);
/// Notes in one interval.
const NOTES: u32 = 10;

/// A leader's notes about revisions.
#[derive(Debug)]
pub struct AutoCompactor {
    mode: AutoCompaction,
    /// Revisions as they were, one for each tick, the oldest in front.
    notes: VecDeque<i64>,
    next_tick: Time,
    /// Ticks until the next compaction is due.
    wait_ticks: u32,
}

impl AutoCompactor {
    /// Begins to take notes.
    pub fn new(mode: AutoCompaction, now: Time) -> Self {
        let mut compactor = Self { mode, notes: VecDeque::new(), next_tick: now, wait_ticks: 0 };
        compactor.next_tick = now + compactor.tick();
        compactor
    }

    /// The time between two notes.
    fn tick(&self) -> Duration {
        match self.mode {
            AutoCompaction::Periodic(period) => period.min(INTERVAL_MAX) / NOTES,
            AutoCompaction::Revisions(_) => REVISION_INTERVAL,
        }
    }

    /// Notes that a whole period has, rounded up.
    fn notes_needed(period: Duration, tick: Duration) -> usize {
        let needed = period.as_nanos().div_ceil(tick.as_nanos().max(1));
        usize::try_from(needed).unwrap_or(usize::MAX)
    }

    /// The revision to compact to now, if any.
    pub fn due(&mut self, now: Time, revision: i64, compacted: i64) -> Option<i64> {
        if now < self.next_tick {
            return None;
        }
        let tick = self.tick();
        self.next_tick = now + tick;
        let target = match self.mode {
            AutoCompaction::Revisions(keep) => revision.saturating_sub(keep),
            AutoCompaction::Periodic(period) => {
                self.wait_ticks = self.wait_ticks.saturating_sub(1);
                self.notes.push_back(revision);
                let needed = Self::notes_needed(period, tick);
                while self.notes.len() > needed.saturating_add(1) {
                    self.notes.pop_front();
                }
                if self.notes.len() <= needed || self.wait_ticks > 0 {
                    return None;
                }
                self.wait_ticks = NOTES;
                self.notes[0]
            }
        };
        (target > compacted && target > 0).then_some(target)
    }

    /// When to look again.
    pub fn deadline(&self) -> Time {
        self.next_tick
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// What is compacted when, in minutes, if the revision grows by one every minute.
    fn history(mode: AutoCompaction, minutes: u64) -> Vec<(u64, i64)> {
        let minute = |minute: u64| Time::ZERO + Duration::from_secs(60 * minute);
        let mut compactor = AutoCompactor::new(mode, Time::ZERO);
        let mut compacted = -1;
        let mut found = Vec::new();
        for now in 1..=minutes {
            let revision = i64::try_from(now).unwrap();
            if let Some(target) = compactor.due(minute(now), revision, compacted) {
                compacted = target;
                found.push((now, target));
            }
        }
        found
    }

    #[test]
    fn a_short_period_is_kept_and_compacted_once_each_period() {
        let mode = AutoCompaction::Periodic(Duration::from_secs(600));
        assert_eq!(history(mode, 35), [(11, 1), (21, 11), (31, 21)]);
    }

    #[test]
    fn a_long_period_is_kept_and_compacted_every_hour() {
        let mode = AutoCompaction::Periodic(Duration::from_secs(3 * 3600));
        assert_eq!(history(mode, 320), [(186, 6), (246, 66), (306, 126)]);
    }

    #[test]
    fn so_many_revisions_are_kept_every_five_minutes() {
        assert_eq!(history(AutoCompaction::Revisions(7), 20), [(10, 3), (15, 8), (20, 13)]);
    }
}
