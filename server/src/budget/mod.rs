//! What one client may have at once: streams, watchers, leases, bytes of requests, requests in a second.
//!
//! A *client* is a user, once authentication is enabled and somebody shows who it is; else an address, however many
//! connections come from there. Each has counters of its own, so whoever takes too much is refused, and nobody else is.
//! The refusal says which budget is used up and which flag sets it.
//!
//! | file | what |
//! |---|---|
//! | mod.rs | the budgets, and who is counted as one |
//! | client.rs | one client's counters |
//! | visitor.rs | who is behind a connection |
//!
//! # Limits
//!
//! Each member counts for itself. Leases are counted of those who got them here since the member started, and forgotten
//! when they are gone: [`Client::is_to_be_swept`] says when somebody should look. Addresses of version 6 count by
//! their first 64 bits, which is what one host has.

#![expect(
    clippy::disallowed_types,
    reason = "a client may have connections to several cores: what they share is locked at the beginning of a connection, \
              at the first request of its user, and for leases, which are rare; what each request counts is atomic"
)]

mod client;
mod visitor;

use core::fmt;
use core::net::{IpAddr, Ipv6Addr};
use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use cairn_engine::api::Code;
use prometheus::IntCounter;

use crate::grpc::status::Status;

use client::Counters;
pub(crate) use client::{Arriving, Client, Grant, Held};
pub(crate) use visitor::Visitor;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// Calls that were begun and have not ended.
    Streams,
    /// Watchers, of all watch streams together.
    Watches,
    /// Leases.
    Leases,
    /// Bytes of requests that have not arrived whole, or were not answered.
    Bytes,
    /// Messages in a second.
    Requests,
}

impl Budget {
    /// All of them, in the order of their places in lists.
    pub const ALL: [Self; 5] =
        [Self::Streams, Self::Watches, Self::Leases, Self::Bytes, Self::Requests];

    /// The name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Streams => "streams",
            Self::Watches => "watches",
            Self::Leases => "leases",
            Self::Bytes => "bytes",
            Self::Requests => "requests",
        }
    }

    /// The flag that sets it.
    pub const fn flag(self) -> &'static str {
        match self {
            Self::Streams => "cairn-client-streams",
            Self::Watches => "cairn-client-watches",
            Self::Leases => "cairn-client-leases",
            Self::Bytes => "cairn-client-bytes",
            Self::Requests => "cairn-client-requests-per-second",
        }
    }

    const fn place(self) -> usize {
        match self {
            Self::Streams => 0,
            Self::Watches => 1,
            Self::Leases => 2,
            Self::Bytes => 3,
            Self::Requests => 4,
        }
    }

    /// What whoever is refused has too much of.
    const fn has(self) -> &'static str {
        match self {
            Self::Streams => "calls under way",
            Self::Watches => "watchers",
            Self::Leases => "leases",
            Self::Bytes => "bytes of requests under way",
            Self::Requests => "requests in a second",
        }
    }
}

/// How much of each one client may have; `u64::MAX`: any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits([u64; 5]);

impl Limits {
    /// No client is ever refused.
    pub const NONE: Self = Self([u64::MAX; 5]);

    /// Asks for each budget; zero is no limit.
    pub fn new(limit: impl Fn(Budget) -> u64) -> Self {
        Self(Budget::ALL.map(|budget| match limit(budget) {
            0 => u64::MAX,
            limit => limit,
        }))
    }

    /// That of one budget.
    pub const fn of(&self, budget: Budget) -> u64 {
        self.0[budget.place()]
    }
}

/// Who is counted as one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Name {
    /// A user, whichever connections it has.
    User(Arc<str>),
    /// Whoever is at an address, or in the 64-bit network of one.
    Address(IpAddr),
    /// Whoever may open the member's unix sockets.
    Local,
}

impl Name {
    /// Who is at an address; `None`: on a unix socket.
    fn at(address: Option<IpAddr>) -> Self {
        match address.map(|address| address.to_canonical()) {
            None => Self::Local,
            Some(IpAddr::V6(address)) => {
                let [a, b, c, d, ..] = address.segments();
                Self::Address(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
            }
            Some(address) => Self::Address(address),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => write!(f, "user {name:?}"),
            Self::Address(IpAddr::V6(network)) => write!(f, "address {network}/64"),
            Self::Address(address) => write!(f, "address {address}"),
            Self::Local => f.write_str("the unix socket"),
        }
    }
}

/// All clients of the process. Its cores share it: one client may have connections to several. The lock is taken once
/// for each connection, and once for each user of it; what is counted with each request are atomics.
#[derive(Debug)]
pub struct Budgets {
    limits: Limits,
    clients: Mutex<Clients>,
    /// How often somebody was refused, by budget.
    refusals: [IntCounter; 5],
    /// When the log was told last, on the runtime's clock.
    told: AtomicU64,
}

#[derive(Debug)]
struct Clients {
    by_name: BTreeMap<Name, Arc<Counters>>,
    /// With so many, those that are gone are forgotten.
    tidy_at: usize,
}

/// Clients that are remembered before anybody looks which of them are gone.
const CLIENTS_MIN: usize = 1024;
/// The log is told of refusals this often at most.
const TELL_EVERY_NS: u64 = 10_000_000_000;

impl Budgets {
    /// Nobody is here yet. Refusals are counted by budget, in the order of [`Budget::ALL`].
    pub fn new(limits: Limits, refusals: [IntCounter; 5]) -> Self {
        let clients = Clients { by_name: BTreeMap::new(), tidy_at: CLIENTS_MIN };
        Self { limits, clients: Mutex::new(clients), refusals, told: AtomicU64::new(0) }
    }

    /// Nobody is ever refused.
    pub(crate) fn unlimited() -> Self {
        let counter = |budget: Budget| {
            IntCounter::new(budget.name(), budget.name()).expect("a well-formed name")
        };
        Self::new(Limits::NONE, Budget::ALL.map(counter))
    }

    /// The client of a name. O(log clients), now and then O(clients).
    fn client(self: &Arc<Self>, name: Name) -> Client {
        // Whoever panics holding it has not left it half done.
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.by_name.get(&name) {
            return Client { budgets: Arc::clone(self), counters: Arc::clone(client) };
        }
        if clients.by_name.len() >= clients.tidy_at {
            clients
                .by_name
                .retain(|_, client| Arc::strong_count(client) > 1 || client.has_leases());
            clients.tidy_at = CLIENTS_MIN.max(2 * clients.by_name.len());
        }
        let counters = Arc::new(Counters::new(name.clone(), self.limits));
        clients.by_name.insert(name, Arc::clone(&counters));
        Client { budgets: Arc::clone(self), counters }
    }

    /// Counts a refusal, tells the log if that was long ago, and says what the client is told.
    fn refuse(&self, client: &Counters, budget: Budget, now: u64) -> Status {
        self.refusals[budget.place()].inc();
        let (limit, flag) = (self.limits.of(budget), budget.flag());
        let told = self.told.load(Ordering::Relaxed);
        let is_due = told == 0 || now.saturating_sub(told) >= TELL_EVERY_NS;
        let (order, now) = (Ordering::Relaxed, now.max(1));
        if is_due && self.told.compare_exchange(told, now, order, order).is_ok() {
            let (client, budget) = (client.name().to_string(), budget.name());
            tracing::warn!(
                client,
                budget,
                limit,
                flag,
                "refusing requests of a client that has more under way than one may; more refusals are only counted"
            );
        }
        let text = format!(
            "cairn: {} has {limit} {} already, the most that one client may have (--{flag})",
            client.name(),
            budget.has()
        );
        Status::new(Code::ResourceExhausted, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_engine::ConnectionId;

    fn budgets(limit: u64) -> Arc<Budgets> {
        let Budgets { refusals, .. } = Budgets::unlimited();
        Arc::new(Budgets::new(Limits::new(|_| limit), refusals))
    }

    fn visitor(budgets: &Arc<Budgets>, address: &str) -> Visitor {
        Visitor::new(Arc::clone(budgets), address.parse().ok(), ConnectionId(1))
    }

    #[test]
    fn who_is_at_one_address_is_one_client() {
        let budgets = budgets(2);
        let (one, again) = (visitor(&budgets, "10.0.0.1"), visitor(&budgets, "::ffff:10.0.0.1"));
        let _first = one.at().take(Budget::Streams, 1, 1).unwrap();
        let second = again.at().take(Budget::Streams, 1, 1).unwrap();
        let refused = one.at().take(Budget::Streams, 1, 1).unwrap_err();
        assert_eq!(refused.code, Code::ResourceExhausted);
        assert_eq!(
            refused.message,
            "cairn: address 10.0.0.1 has 2 calls under way already, the most that one client may have \
             (--cairn-client-streams)"
        );
        assert_eq!(budgets.refusals[0].get(), 1);
        let _other = visitor(&budgets, "10.0.0.2").at().take(Budget::Streams, 2, 1).unwrap();
        drop(second);
        let _third = one.at().take(Budget::Streams, 1, 1).unwrap();
    }

    #[test]
    fn a_network_of_64_bits_is_one_client() {
        let budgets = budgets(1);
        let _held = visitor(&budgets, "2001:db8::1").at().take(Budget::Watches, 1, 1).unwrap();
        let refused =
            visitor(&budgets, "2001:db8::2").at().take(Budget::Watches, 1, 1).unwrap_err();
        assert!(refused.message.starts_with("cairn: address 2001:db8::/64 has 1 watchers"));
        assert!(visitor(&budgets, "2001:db8:0:1::1").at().take(Budget::Watches, 1, 1).is_ok());
        assert!(visitor(&budgets, "unix").at().take(Budget::Watches, 1, 1).is_ok());
    }

    #[test]
    fn what_is_held_grows_and_shrinks_within_the_budget() {
        let budgets = budgets(10);
        let visitor = visitor(&budgets, "10.0.0.1");
        let mut held = visitor.at().take(Budget::Bytes, 4, 1).unwrap();
        held.set(10, 1).unwrap();
        held.set(11, 1).unwrap_err();
        held.set(9, 1).unwrap();
        let more = visitor.at().take(Budget::Bytes, 1, 1).unwrap();
        held.set(10, 1).unwrap_err();
        drop(more);
        held.set(10, 1).unwrap();
        drop(held);
        assert!(visitor.at().take(Budget::Bytes, 10, 1).is_ok());
    }

    #[test]
    fn requests_come_at_a_rate_after_a_burst_of_a_second() {
        const SECOND: u64 = 1_000_000_000;
        let budgets = budgets(10);
        let visitor = visitor(&budgets, "10.0.0.1");
        let asks = |now: u64| visitor.at().ask(now).is_ok();
        let start = 7 * SECOND;
        assert_eq!((0..20).filter(|_| asks(start)).count(), 10);
        assert!(!asks(start + SECOND / 10 - 1));
        assert!(asks(start + SECOND / 10));
        let later = start + 5 * SECOND;
        assert_eq!(
            (0..20).filter(|_| asks(later)).count(),
            10,
            "what was not asked is not saved up"
        );
        let unlimited = Visitor::new(Arc::new(Budgets::unlimited()), None, ConnectionId(1));
        assert!((0..1000).all(|_| unlimited.at().ask(start).is_ok()));
    }

    #[test]
    fn leases_count_until_somebody_has_looked() {
        let budgets = budgets(3);
        let visitor = visitor(&budgets, "10.0.0.1");
        let client = visitor.at().clone();
        for lease in 1..=2 {
            client.grant(1).unwrap().granted(lease);
        }
        let pending = client.grant(1).unwrap();
        let refused = client.grant(1).unwrap_err();
        assert!(refused.message.contains("has 3 leases already"), "{}", refused.message);
        drop(pending);
        client.grant(1).unwrap().granted(3);
        assert!(client.is_to_be_swept());
        client.sweep(&[2, 7]);
        client.grant(1).unwrap().granted(4);
        client.grant(1).unwrap().granted(5);
        assert!(client.grant(1).is_err());
    }

    #[test]
    fn clients_that_are_gone_are_forgotten_but_not_those_with_leases() {
        let budgets = budgets(u64::MAX);
        let client = visitor(&budgets, "192.0.2.1").at().clone();
        client.grant(1).unwrap().granted(1);
        drop(client);
        for number in 0..10_000_u32 {
            let address = core::net::Ipv4Addr::from_bits(0x0a00_0000 + number);
            drop(Visitor::new(Arc::clone(&budgets), Some(address.into()), ConnectionId(1)));
        }
        let clients = budgets.clients.lock().unwrap();
        assert!(clients.by_name.len() <= CLIENTS_MIN);
        assert!(clients.by_name.contains_key(&Name::at("192.0.2.1".parse().ok())));
    }
}
