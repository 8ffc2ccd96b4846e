//! One client's counters.

use core::fmt;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Budget, Budgets, Limits, Name};
use crate::grpc::status::Status;

/// What a client has. Shared by its connections and calls, on whichever cores.
#[derive(Debug)]
pub(crate) struct Counters {
    name: Name,
    limits: Limits,
    /// What it has of each budget, in their order.
    held: [AtomicU64; 5],
    /// When its requests so far would all be used up at the rate that it may have, in nanoseconds (the generic cell
    /// rate algorithm: a token bucket in one number).
    asked_until: AtomicU64,
    /// Leases that it was granted, of which some may be gone.
    leases: Mutex<BTreeSet<i64>>,
    /// With so many, somebody should look which are gone.
    sweep_at: AtomicUsize,
}

/// Leases of one client before anybody looks which of them are gone.
const LEASES_MIN: usize = 1024;
const SECOND_NS: u64 = 1_000_000_000;

impl Counters {
    pub(super) fn new(name: Name, limits: Limits) -> Self {
        Self {
            name,
            limits,
            held: core::array::from_fn(|_| AtomicU64::new(0)),
            asked_until: AtomicU64::new(0),
            leases: Mutex::default(),
            sweep_at: AtomicUsize::new(LEASES_MIN),
        }
    }

    pub(super) fn name(&self) -> &Name {
        &self.name
    }

    /// Takes more of a budget, or nothing.
    fn add(&self, budget: Budget, amount: u64) -> Result<(), Exhausted> {
        let held = &self.held[budget.place()];
        let before = held.fetch_add(amount, Ordering::Relaxed);
        if before.saturating_add(amount) > self.limits.of(budget) {
            held.fetch_sub(amount, Ordering::Relaxed);
            return Err(Exhausted);
        }
        Ok(())
    }

    fn give_back(&self, budget: Budget, amount: u64) {
        let before = self.held[budget.place()].fetch_sub(amount, Ordering::Relaxed);
        assert!(before >= amount, "what is given back was taken before");
    }

    /// Counts a request at `now`.
    fn ask(&self, now: u64) -> Result<(), Exhausted> {
        let limit = self.limits.of(Budget::Requests);
        if limit == u64::MAX {
            return Ok(());
        }
        let each = SECOND_NS / limit;
        let next = |until: u64| {
            let until = until.max(now).saturating_add(each);
            (until - now <= SECOND_NS).then_some(until)
        };
        let order = Ordering::Relaxed;
        self.asked_until.fetch_update(order, order, next).map(drop).map_err(|_| Exhausted)
    }

    fn leases(&self) -> MutexGuard<'_, BTreeSet<i64>> {
        // Whoever panics holding it has not left it half done.
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn has_leases(&self) -> bool {
        !self.leases().is_empty()
    }
}

/// There is no more of a budget.
#[derive(Clone, Copy, Debug)]
struct Exhausted;

/// A client and where it is counted.
#[derive(Clone)]
pub(crate) struct Client {
    pub(super) budgets: Arc<Budgets>,
    pub(super) counters: Arc<Counters>,
}

impl Client {
    /// Takes some of a budget for as long as what is given back lives.
    ///
    /// # Errors
    /// What a client is told that has too much.
    pub(crate) fn take(&self, budget: Budget, amount: u64, now: u64) -> Result<Held, Status> {
        let Self { budgets, counters } = self;
        let taken = counters.add(budget, amount);
        taken.map_err(|Exhausted| budgets.refuse(counters, budget, now))?;
        Ok(Held { client: self.clone(), budget, amount })
    }

    /// Counts a request.
    ///
    /// # Errors
    /// What a client is told that asks too often.
    pub(crate) fn ask(&self, now: u64) -> Result<(), Status> {
        let Self { budgets, counters } = self;
        counters.ask(now).map_err(|Exhausted| budgets.refuse(counters, Budget::Requests, now))
    }

    /// A lease is about to be granted.
    ///
    /// # Errors
    /// What a client is told that has too many; if [`is_to_be_swept`](Self::is_to_be_swept), some may be gone.
    pub(crate) fn grant(&self, now: u64) -> Result<Grant, Status> {
        let limit = self.counters.limits.of(Budget::Leases);
        let granted = u64::try_from(self.counters.leases().len()).expect("64 bits");
        let held = self.take(Budget::Leases, 1, now)?;
        let pending = self.counters.held[Budget::Leases.place()].load(Ordering::Relaxed);
        if granted.saturating_add(pending) > limit {
            return Err(self.budgets.refuse(&self.counters, Budget::Leases, now));
        }
        Ok(Grant { held })
    }

    /// Whether somebody should tell which leases there are, see [`sweep`](Self::sweep).
    pub(crate) fn is_to_be_swept(&self) -> bool {
        let count = self.counters.leases().len();
        let limit = usize::try_from(self.counters.limits.of(Budget::Leases)).unwrap_or(usize::MAX);
        count >= limit.min(self.counters.sweep_at.load(Ordering::Relaxed))
    }

    /// Forgets the leases that are not among those that there are. O(n log n).
    pub(crate) fn sweep(&self, there: &[i64]) {
        let there: BTreeSet<i64> = there.iter().copied().collect();
        let mut leases = self.counters.leases();
        leases.retain(|lease| there.contains(lease));
        let next = LEASES_MIN.max(2 * leases.len());
        self.counters.sweep_at.store(next, Ordering::Relaxed);
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.counters.name).finish()
    }
}

/// What a client has of a budget, until this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    client: Client,
    budget: Budget,
    amount: u64,
}

impl Held {
    /// Makes it another amount.
    ///
    /// # Errors
    /// What a client is told that has too much; it has as much as before.
    pub(crate) fn set(&mut self, amount: u64, now: u64) -> Result<(), Status> {
        let Client { budgets, counters } = &self.client;
        if amount > self.amount {
            let added = counters.add(self.budget, amount - self.amount);
            added.map_err(|Exhausted| budgets.refuse(counters, self.budget, now))?;
        } else {
            counters.give_back(self.budget, self.amount - amount);
        }
        self.amount = amount;
        Ok(())
    }

    /// How much it is.
    pub(crate) const fn amount(&self) -> u64 {
        self.amount
    }

    /// Whose it is.
    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.client.counters.give_back(self.budget, self.amount);
    }
}

/// Bytes that a client has of a message that has not arrived whole: none, mostly.
#[derive(Debug)]
pub(crate) struct Arriving {
    client: Client,
    /// The runtime's clock.
    now: fn() -> u64,
    held: Option<Held>,
}

impl Arriving {
    /// Nothing yet.
    pub(crate) const fn new(client: Client, now: fn() -> u64) -> Self {
        Self { client, now, held: None }
    }

    /// There are so many now.
    ///
    /// # Errors
    /// What a client is told that has too many.
    pub(crate) fn set(&mut self, bytes: usize) -> Result<(), Status> {
        let bytes = u64::try_from(bytes).expect("64 bits");
        match &mut self.held {
            Some(held) => held.set(bytes, (self.now)())?,
            None if bytes > 0 => {
                self.held = Some(self.client.take(Budget::Bytes, bytes, (self.now)())?);
            }
            None => {}
        }
        Ok(())
    }
}

/// A lease that is being granted.
#[derive(Debug)]
pub(crate) struct Grant {
    held: Held,
}

impl Grant {
    /// It was.
    pub(crate) fn granted(self, lease: i64) {
        self.held.client.counters.leases().insert(lease);
    }
}
