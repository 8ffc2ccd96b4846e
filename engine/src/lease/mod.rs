//! Leases: keys that live only as long as somebody cares.
//!
//! # Whose time?
//!
//! A lease ends at a [`ClusterTime`], a clock that belongs to the replicated state: each entry of the log carries
//! the leader's reading of it, a new leader goes on from the latest reading, and between entries it runs with
//! the leader's own monotonic clock. So all members know the same deadline, and neither a restart nor a change
//! of leader gives a lease its full time again, or takes any from it; what no entry recorded can only lengthen.
//!
//! Renewals, too, are entries (many in one): what a client was promised, every later leader knows.
//!
//! # Invariants
//!
//! - E1 A lease never ends before its deadline: its end is an entry of the log, and applying it compares the
//!   entry's time with the deadline.
//! - E2 A key is attached to the lease that its newest record names, and to no other.

pub mod keeper;

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use crate::api::Error;
use crate::cow::{CowTree, Item};
use crate::ids::LeaseId;
use crate::mvcc::Change;

/// Milliseconds of the cluster's clock, which runs while the cluster has a leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterTime(pub u64);

impl ClusterTime {
    /// The time `seconds` later. Negative counts as none.
    #[must_use]
    pub fn after_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000)))
    }

    /// The time `duration` later, in whole milliseconds.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// One lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its name.
    pub id: LeaseId,
    /// What it was granted, and gets again with every renewal; in seconds.
    pub ttl: i64,
    /// When it ends unless it is renewed.
    pub deadline: ClusterTime,
}

/// "This key hangs on this lease."
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Attachment(LeaseId, Bytes);

impl Item for Lease {
    type Key = LeaseId;
    type Separator = LeaseId;

    fn key(&self) -> &LeaseId {
        &self.id
    }

    fn separator(_left: &LeaseId, right: &LeaseId) -> LeaseId {
        *right
    }
}

impl Item for Attachment {
    type Key = Self;
    type Separator = Self;

    fn key(&self) -> &Self {
        self
    }

    fn separator(_left: &Self, right: &Self) -> Self {
        right.clone()
    }
}

/// All leases and what hangs on them.
#[derive(Clone, Debug, Default)]
pub struct Lessor {
    leases: CowTree<Lease>,
    attachments: CowTree<Attachment>,
    by_deadline: BTreeSet<(ClusterTime, LeaseId)>,
}

impl Lessor {
    /// Makes a lease.
    ///
    /// # Errors
    /// If there is one of this name.
    pub fn grant(&mut self, lease: Lease) -> Result<(), Error> {
        if self.leases.get(&lease.id).is_some() {
            return Err(Error::LeaseExist);
        }
        self.set(lease);
        Ok(())
    }

    /// Gives a lease its full time again, from `now` on; its TTL in seconds, or `None` if there is no such lease.
    pub fn renew(&mut self, id: LeaseId, now: ClusterTime) -> Option<i64> {
        let lease = *self.leases.get(&id)?;
        let deadline = now.after_seconds(lease.ttl);
        self.by_deadline.remove(&(lease.deadline, id));
        // Time never goes back, but a lease may have been promised more.
        self.set(Lease { deadline: deadline.max(lease.deadline), ..lease });
        Some(lease.ttl)
    }

    fn set(&mut self, lease: Lease) {
        self.by_deadline.insert((lease.deadline, lease.id));
        self.leases.insert(lease);
    }

    /// Ends a lease. Its keys must be deleted by the caller, who asks for them first.
    pub fn remove(&mut self, id: LeaseId) {
        if let Some(lease) = self.leases.remove(&id) {
            self.by_deadline.remove(&(lease.deadline, id));
        }
    }

    /// A lease by name.
    pub fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.leases.get(&id)
    }

    /// How many leases there are.
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether there is no lease.
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// The keys that hang on a lease, in order.
    pub fn keys_of(&self, id: LeaseId) -> impl Iterator<Item = &Bytes> {
        let from = Attachment(id, Bytes::new());
        self.attachments.range(from..).take_while(move |item| item.0 == id).map(|item| &item.1)
    }

    /// Moves the keys of a request's changes to the leases that they now hang on (E2).
    pub fn follow(&mut self, changes: &[Change]) {
        for Change { record, before } in changes {
            let old = before.as_ref().map_or(LeaseId::NONE, |before| before.lease());
            if old == record.lease() {
                continue;
            }
            let key = Bytes::copy_from_slice(record.key());
            if old.is_some() {
                self.attachments.remove(&Attachment(old, key.clone()));
            }
            if record.lease().is_some() {
                self.attachments.insert(Attachment(record.lease(), key));
            }
        }
    }

    /// Notes that a key hangs on a lease, while a snapshot is read.
    pub fn attach(&mut self, id: LeaseId, key: &[u8]) {
        self.attachments.insert(Attachment(id, Bytes::copy_from_slice(key)));
    }

    /// When the next lease ends.
    pub fn next_deadline(&self) -> Option<ClusterTime> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }

    /// The leases, by deadline.
    pub fn by_deadline(&self) -> impl Iterator<Item = &Lease> {
        self.by_deadline.iter().filter_map(|(_, id)| self.leases.get(id))
    }

    /// The leases, by name; a handle that does not change with this.
    pub fn leases(&self) -> CowTree<Lease> {
        self.leases.clone()
    }

    /// Up to `leases_max` leases that end at `now` or before, with about `keys_max` keys on them in all; one at
    /// least, if one ends.
    pub fn expired(&self, now: ClusterTime, leases_max: usize, keys_max: usize) -> Vec<LeaseId> {
        let mut keys = 0;
        self.by_deadline
            .iter()
            .take_while(|(deadline, _)| *deadline <= now)
            .take(leases_max)
            .map(|(_, id)| *id)
            .take_while(|id| {
                let fits = keys < keys_max;
                keys += self.keys_of(*id).take(keys_max).count();
                fits
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(id: i64, deadline: u64) -> Lease {
        Lease { id: LeaseId(id), ttl: 5, deadline: ClusterTime(deadline) }
    }

    #[test]
    fn a_lease_is_renewed_from_now_and_never_shortened() {
        let mut lessor = Lessor::default();
        lessor.grant(lease(1, 5_000)).unwrap();
        assert_eq!(lessor.grant(lease(1, 9_000)), Err(Error::LeaseExist));
        assert_eq!(lessor.renew(LeaseId(1), ClusterTime(3_000)), Some(5));
        assert_eq!(lessor.next_deadline(), Some(ClusterTime(8_000)));
        assert_eq!(lessor.renew(LeaseId(1), ClusterTime(1_000)), Some(5));
        assert_eq!(lessor.next_deadline(), Some(ClusterTime(8_000)));
        assert_eq!(lessor.renew(LeaseId(2), ClusterTime(1_000)), None);
    }

    #[test]
    fn leases_end_in_order_and_in_bounded_portions() {
        let mut lessor = Lessor::default();
        for id in 1..=5 {
            lessor.grant(lease(id, 100 * id.cast_unsigned())).unwrap();
            lessor.attach(LeaseId(id), b"a");
            lessor.attach(LeaseId(id), b"b");
        }
        let expired = |leases_max, keys_max| lessor.expired(ClusterTime(400), leases_max, keys_max);
        assert_eq!(expired(9, 99), [1, 2, 3, 4].map(LeaseId));
        assert_eq!(expired(2, 99), [1, 2].map(LeaseId));
        assert_eq!(expired(9, 3), [1, 2].map(LeaseId));
        assert_eq!(expired(9, 1), [LeaseId(1)]);
        assert_eq!(lessor.keys_of(LeaseId(3)).count(), 2);
    }
}
