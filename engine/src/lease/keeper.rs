//! What a leader does about leases: it reads the clock, gathers renewals, and ends what is due.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use super::{ClusterTime, Lessor};
use crate::command::Command;
use crate::config::Limits;
use crate::ids::{LeaseId, RequestId};
use crate::time::Time;

/// How often the time is logged while there are leases and nothing else is: a restart may lengthen a lease by
/// this much.
const TICK: Duration = Duration::from_secs(1);

/// Leases that one entry renews.
const RENEWALS_MAX: usize = 10_000;

/// Leases to renew, and who asked for each.
pub type Renewals = BTreeMap<LeaseId, Vec<RequestId>>;

/// The cluster's clock in the hands of a leader, and what it owes to the leases.
#[derive(Debug, Default)]
pub struct Keeper {
    clock: Option<Clock>,
    renewals: Renewals,
    /// An entry that ends leases is on its way.
    expiring: bool,
}

#[derive(Clone, Copy, Debug)]
struct Clock {
    /// The cluster's time when this member began to lead, and when that was.
    base: ClusterTime,
    since: Time,
    /// When an entry was last proposed.
    stamped: Time,
}

impl Keeper {
    /// Goes on with the cluster's time from the latest that the log knows.
    pub fn begin_to_lead(&mut self, now: Time, latest: ClusterTime) {
        self.clock = Some(Clock { base: latest, since: now, stamped: now });
        self.expiring = false;
    }

    /// Lets go of the clock. Renewals are for whoever leads next.
    pub fn stop_leading(&mut self) {
        self.clock = None;
    }

    /// The time for an entry that is proposed now.
    ///
    /// # Panics
    /// If this member does not lead.
    pub fn stamp(&self, now: Time) -> ClusterTime {
        self.clock.as_ref().expect("only a leader proposes").read(now)
    }

    /// Notes that an entry with the time of now was proposed.
    ///
    /// # Panics
    /// If this member does not lead.
    pub fn proposed(&mut self, now: Time) {
        self.clock.as_mut().expect("only a leader proposes").stamped = now;
    }

    /// The cluster's time; while this member does not lead, the latest that it knows.
    pub fn time(&self, now: Time, latest: ClusterTime) -> ClusterTime {
        self.clock.map_or(latest, |clock| clock.read(now).max(latest))
    }

    /// Notes that somebody wants a lease renewed.
    pub fn renew(&mut self, lease: LeaseId, id: RequestId) {
        self.renewals.entry(lease).or_default().push(id);
    }

    /// The renewals to propose now, if any: as many as fit in one entry.
    pub fn take_renewals(&mut self) -> Option<Renewals> {
        if self.renewals.is_empty() {
            return None;
        }
        let rest = match self.renewals.keys().nth(RENEWALS_MAX).copied() {
            Some(first_of_rest) => self.renewals.split_off(&first_of_rest),
            None => Renewals::new(),
        };
        Some(core::mem::replace(&mut self.renewals, rest))
    }

    /// What is due now: leases that end, or the time.
    pub fn due(&mut self, now: Time, lessor: &Lessor, limits: &Limits) -> Option<Command> {
        let clock = self.clock?;
        if lessor.is_empty() {
            return None;
        }
        let ended = clock.ended(now);
        if !self.expiring && lessor.next_deadline() <= ended {
            let (leases_max, keys_max) = (limits.expire_leases_max, limits.expire_keys_max);
            self.expiring = true;
            let ended = ended.expect("a deadline is not later");
            return Some(Command::LeaseExpire(lessor.expired(ended, leases_max, keys_max)));
        }
        (now >= clock.stamped + TICK).then_some(Command::Tick)
    }

    /// Notes that an entry that ends leases was applied.
    pub fn expired(&mut self) {
        self.expiring = false;
    }

    /// When something will be due.
    pub fn deadline(&self, lessor: &Lessor) -> Option<Time> {
        let clock = self.clock?;
        let next = lessor.next_deadline()?;
        let tick = clock.stamped + TICK;
        if self.expiring {
            return Some(tick);
        }
        let wait = Duration::from_millis((next.0 + 1).saturating_sub(clock.base.0));
        Some(tick.min(clock.since + wait))
    }
}

impl Clock {
    fn read(&self, now: Time) -> ClusterTime {
        self.base.after(now.since(self.since))
    }

    /// The last deadline that is over. Time is in whole milliseconds, and a lease counts from the beginning of the one in
    /// which it was granted; so what ends in the present one might end up to a millisecond early.
    fn ended(&self, now: Time) -> Option<ClusterTime> {
        self.read(now).0.checked_sub(1).map(ClusterTime)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Lease;
    use super::*;

    fn lessor(deadline: u64) -> Lessor {
        let mut lessor = Lessor::default();
        lessor.grant(Lease { id: LeaseId(1), ttl: 5, deadline: ClusterTime(deadline) }).unwrap();
        lessor
    }

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn time_goes_on_where_the_log_left_it_and_wakes_when_a_deadline_is_over() {
        let (mut keeper, lessor) = (Keeper::default(), lessor(10_500));
        assert_eq!(keeper.deadline(&lessor), None, "followers do nothing");
        keeper.begin_to_lead(at(700), ClusterTime(10_000));
        assert_eq!(keeper.deadline(&lessor), Some(at(1201)));
        assert_eq!(keeper.due(at(1200), &lessor, &Limits::default()), None);
        let due = keeper.due(at(1201), &lessor, &Limits::default());
        assert_eq!(due, Some(Command::LeaseExpire(alloc::vec![LeaseId(1)])));
        assert_eq!(keeper.due(at(1202), &lessor, &Limits::default()), None, "one at a time");
        keeper.expired();
        assert!(keeper.due(at(1202), &lessor, &Limits::default()).is_some());
    }

    #[test]
    fn the_time_is_logged_every_second_while_there_are_leases() {
        let (mut keeper, lessor) = (Keeper::default(), lessor(99_000));
        keeper.begin_to_lead(at(0), ClusterTime(0));
        assert_eq!(keeper.deadline(&lessor), Some(at(1000)));
        assert_eq!(keeper.due(at(1000), &lessor, &Limits::default()), Some(Command::Tick));
        assert_eq!(keeper.stamp(at(1000)), ClusterTime(1000));
        let still_due = keeper.due(at(1000), &lessor, &Limits::default());
        assert_eq!(still_due, Some(Command::Tick), "what is refused after all logs nothing");
        keeper.proposed(at(1000));
        assert_eq!(keeper.due(at(1001), &lessor, &Limits::default()), None);
        assert_eq!(keeper.due(at(2000), &Lessor::default(), &Limits::default()), None);
    }
}
