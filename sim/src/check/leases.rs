//! Leases, held against what clients were promised.
//!
//! *Not early*: whoever was told that a lease was granted or renewed may count on its time from the moment of the
//! question on, on whichever of the members' clocks is fastest at any time. *Not late*: while a member leads and nothing disturbs it, the
//! cluster's clock runs with that member's clock, from the last entry that was committed when it began, and a lease
//! that is past its deadline goes.

use core::time::Duration;

use std::collections::BTreeMap;

use cairn_engine::command::Command;
use cairn_engine::raft::Index;
use cairn_engine::{MemberId, Time};

use super::history::{Committed, History};
use super::{Violation, ensure};

/// What is known about leases and the cluster's clock.
#[derive(Debug, Default)]
pub struct Leases {
    promises: BTreeMap<i64, Promise>,
    /// The entry with which the last lease of each name was gone.
    gone: BTreeMap<i64, Index>,
    reign: Option<Reign>,
    /// Until then leases may be late: who leads has just begun, or something disturbed the cluster, whoever led.
    excused_until_ns: u64,
}

/// What a client was told last.
#[derive(Clone, Copy, Debug)]
struct Promise {
    /// The entry that makes it true.
    index: Index,
    /// The fastest time at the question.
    asked: Duration,
    ttl: i64,
}

/// The most that can have passed on the cluster's clock, which runs with the clock of one leader after the other: with
/// the fastest of them at any time.
#[derive(Debug, Default)]
pub struct Fastest {
    passed: Duration,
    shown: BTreeMap<MemberId, Time>,
}

impl Fastest {
    /// How much has passed when the clocks show `now`; later questions must not show less.
    pub fn read(&mut self, now: impl Iterator<Item = (MemberId, Time)>) -> Duration {
        let mut most = Duration::ZERO;
        for (member, now) in now {
            let before = self.shown.insert(member, now).unwrap_or(now);
            most = most.max(now.since(before));
        }
        self.passed += most;
        self.passed
    }
}

/// A member that leads.
#[derive(Clone, Copy, Debug)]
struct Reign {
    member: MemberId,
    /// The cluster's time when it began, at least.
    base_ms: u64,
    since: Time,
}

/// Lateness that is excused: a few turns of the log, and the tick of a second.
const SLACK_MS: u64 = 1500;

/// What clocks round off.
const ROUNDING_MS: u64 = 2;

impl Leases {
    /// A client was promised the full time of a lease by the answer that came from the entry at `index`, to a
    /// question that was asked at the fastest time `asked`.
    pub fn promised(&mut self, lease: i64, ttl: i64, index: Index, asked: Duration) {
        if self.gone.get(&lease).is_none_or(|gone| *gone < index) {
            self.promises.insert(lease, Promise { index, asked, ttl });
        }
    }

    /// The entry at `index` became history at the fastest time `now`.
    ///
    /// # Errors
    /// If it ends a lease too early.
    pub fn committed(
        &mut self,
        index: Index,
        entry: &Committed,
        now: Duration,
    ) -> Result<(), Violation> {
        if let (Some(Command::LeaseRevoke(request)), Some(Ok(_))) = (&entry.command, &entry.answer)
        {
            self.promises.remove(&request.id);
            self.gone.insert(request.id, index);
        }
        // Who renews a lease in the millisecond in which it ends may be told so a millisecond early.
        let renews = matches!(entry.command, Some(Command::LeaseRenew(_)));
        let early_ms = if renews { ROUNDING_MS } else { 0 };
        for lease in &entry.ended {
            self.gone.insert(*lease, index);
            self.ended(*lease, now, early_ms)?;
        }
        Ok(())
    }

    fn ended(&mut self, lease: i64, now: Duration, early_ms: u64) -> Result<(), Violation> {
        let Some(promise) = self.promises.remove(&lease) else { return Ok(()) };
        let passed_ms = u64::try_from((now - promise.asked).as_millis()).unwrap_or(u64::MAX);
        let promised_ms = u64::try_from(promise.ttl).unwrap_or(0).saturating_mul(1000);
        ensure(passed_ms + early_ms >= promised_ms, "lease not early", || {
            let index = promise.index;
            format!(
                "lease {lease} was promised {promised_ms} ms at {index} and ended after {passed_ms} ms"
            )
        })
    }

    /// A member began to lead.
    pub fn leads(&mut self, member: MemberId, history: &History, now: Time, now_ns: u64) {
        let base_ms = history.model.time_ms();
        self.reign = Some(Reign { member, base_ms, since: now });
        self.disturbed(now_ns);
    }

    /// Something disturbs the cluster now.
    pub fn disturbed(&mut self, now_ns: u64) {
        self.excused_until_ns = self.excused_until_ns.max(now_ns + DISTURBANCE_NS);
    }

    /// A member does not lead any more.
    pub fn ceases(&mut self, member: MemberId) {
        self.reign.take_if(|reign| reign.member == member);
    }

    /// Who leads, as far as is known.
    pub fn leader(&self) -> Option<MemberId> {
        self.reign.map(|reign| reign.member)
    }

    /// Looks for leases that should be gone; `now` is the leader's clock.
    ///
    /// # Errors
    /// If there is one.
    pub fn check_gone(&self, history: &History, now: Time, now_ns: u64) -> Result<(), Violation> {
        let Some(reign) = self.reign.filter(|_| now_ns > self.excused_until_ns) else {
            return Ok(());
        };
        let passed = u64::try_from(now.since(reign.since).as_millis()).unwrap_or(u64::MAX);
        let time_ms = (reign.base_ms + passed).saturating_sub(SLACK_MS);
        let late = history.model.leases().iter().find(|(_, lease)| lease.deadline_ms < time_ms);
        ensure(late.is_none(), "lease not late", || {
            format!("{late:?} is still there at {time_ms} ms or later: {reign:?}")
        })?;
        // A restart may lengthen a lease by a second, because the time is logged once a second.
        let logged =
            history.model.leases().is_empty() || history.model.time_ms() + ROUNDING_MS >= time_ms;
        ensure(logged, "lease time", || {
            format!("at {time_ms} ms the log knows of {} ms: {reign:?}", history.model.time_ms())
        })
    }
}

/// How long leases may be late after a disturbance.
const DISTURBANCE_NS: u64 = 3_000_000_000;
