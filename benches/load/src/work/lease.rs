//! Leases: granting them, keeping them alive, and many that end at once.

use bytes::Bytes;
use cairn_engine::api::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, PutRequest, WatchCreateRequest,
};
use prost::Message as _;

use super::kv::{Numbers, Order};
use super::watch::create;
use super::{Ask, Heard, Shape, Share, Step, Work};
use crate::clock::SECOND;
use crate::method::Method;
use crate::record::{Done, Record};
use crate::wire::{self, Fields};

/// What is done with leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum What {
    /// Grant one after another
    Grant,
    /// Keep `--leases` alive, each connection's slots on streams of their own
    KeepAlive,
    /// Let `--leases` end at once, with a key each, and see when the keys are gone
    Expiry,
}

/// Leases that are known by number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leases {
    /// The id of the first; the others follow.
    pub(crate) first: i64,
    pub(crate) count: u64,
    /// Seconds.
    pub(crate) ttl: i64,
}

impl Leases {
    fn id(&self, number: u64) -> i64 {
        self.first.wrapping_add(number.cast_signed())
    }
}

/// Grants.
#[derive(Debug)]
pub(crate) struct Grants {
    leases: Leases,
    /// Which of the known ones; if nobody needs to know them, the server chooses.
    numbers: Option<Numbers>,
}

impl Grants {
    /// Leases of which nobody needs to know.
    pub(crate) fn unnamed(ttl: i64) -> Self {
        Self { leases: Leases { first: 0, count: 0, ttl }, numbers: None }
    }

    /// All of these leases, each once.
    pub(crate) fn of(leases: Leases, share: Share) -> Self {
        Self { leases, numbers: Some(Numbers::new(Order::Once, leases.count, share)) }
    }
}

impl Work for Grants {
    fn kinds(&self) -> &'static [&'static str] {
        &["lease grant"]
    }

    fn ask(&mut self, _slot: usize, _due: u64, message: &mut Vec<u8>) -> Option<Ask> {
        let id = match &mut self.numbers {
            None => 0,
            Some(numbers) => self.leases.id(numbers.next()?),
        };
        let request = LeaseGrantRequest { ttl: self.leases.ttl, id };
        request.encode(message).expect("a vector has room");
        Some(Ask { method: Method::LeaseGrant, kind: 0 })
    }

    fn answer(&mut self, _slot: usize, message: &[u8]) -> Step {
        granted(message)
    }
}

fn granted(message: &[u8]) -> Step {
    if Fields::number(message, 2) != 0 && Fields::number(message, 3) > 0 {
        Step::More
    } else {
        Step::Wrong("a lease without id, or without time")
    }
}

/// Renewals on streams.
#[derive(Debug)]
pub(crate) struct KeepAlives {
    leases: Leases,
    numbers: Numbers,
    asked: Vec<i64>,
}

impl KeepAlives {
    pub(crate) fn new(leases: Leases, share: Share) -> Self {
        let numbers = Numbers::new(Order::Sequential, leases.count, share);
        Self { leases, numbers, asked: vec![0; share.slots] }
    }
}

impl Work for KeepAlives {
    fn shape(&self) -> Shape {
        Shape::Stream
    }

    fn kinds(&self) -> &'static [&'static str] {
        &["keep-alive"]
    }

    fn ask(&mut self, slot: usize, _due: u64, message: &mut Vec<u8>) -> Option<Ask> {
        let id = self.leases.id(self.numbers.next()?);
        self.asked[slot] = id;
        LeaseKeepAliveRequest { id }.encode(message).expect("a vector has room");
        Some(Ask { method: Method::LeaseKeepAlive, kind: 0 })
    }

    fn answer(&mut self, slot: usize, message: &[u8]) -> Step {
        if Fields::number(message, 2) != self.asked[slot] {
            Step::Wrong("an answer about another lease")
        } else if Fields::number(message, 3) <= 0 {
            Step::Wrong("a lease that is gone")
        } else {
            Step::Done
        }
    }
}

/// Leases that will end at one time, with a key each: first the lease, then its key.
#[derive(Debug)]
pub(crate) struct Doomed {
    leases: Leases,
    /// When they end, in the time of the process.
    end: u64,
    numbers: Numbers,
    /// For each slot, the lease that has no key yet.
    keyless: Vec<Option<u64>>,
}

impl Doomed {
    pub(crate) fn new(leases: Leases, end: u64, share: Share) -> Self {
        let numbers = Numbers::new(Order::Once, leases.count, share);
        Self { leases, end, numbers, keyless: vec![None; share.slots] }
    }
}

impl Work for Doomed {
    fn kinds(&self) -> &'static [&'static str] {
        &["lease with a key"]
    }

    fn ask(&mut self, slot: usize, due: u64, message: &mut Vec<u8>) -> Option<Ask> {
        if let Some(number) = self.keyless[slot] {
            let (key, lease) = (wire::key(DOOMED, number, 12), self.leases.id(number));
            let value = Bytes::from_static(b"x");
            let request = PutRequest { key, value, lease, ..PutRequest::default() };
            request.encode(message).expect("a vector has room");
            return Some(Ask { method: Method::Put, kind: 0 });
        }
        let number = self.numbers.next()?;
        self.keyless[slot] = Some(number);
        let ttl = self.end.saturating_sub(due).div_ceil(SECOND).max(1);
        let request = LeaseGrantRequest { ttl: ttl.cast_signed(), id: self.leases.id(number) };
        request.encode(message).expect("a vector has room");
        Some(Ask { method: Method::LeaseGrant, kind: 0 })
    }

    fn answer(&mut self, slot: usize, message: &[u8]) -> Step {
        // An answer to a put has no second field.
        if Fields::number(message, 2) == 0 {
            self.keyless[slot] = None;
            return Step::More;
        }
        let step = granted(message);
        if step == Step::More { Step::Again } else { step }
    }

    fn failed(&mut self, slot: usize) {
        self.keyless[slot] = None;
    }
}

/// Sees the keys of leases go. Each is an operation that was due when its lease ended.
#[derive(Debug)]
pub(crate) struct Expiry {
    end: u64,
    awaited: u64,
    is_watching: bool,
}

impl Expiry {
    /// The first thread looks at `count` keys.
    pub(crate) fn new(count: u64, end: u64, share: Share) -> Self {
        Self {
            end,
            awaited: if share.standing > 0 { count } else { 0 },
            is_watching: share.standing == 0,
        }
    }
}

impl Work for Expiry {
    fn kinds(&self) -> &'static [&'static str] {
        &["lease ended"]
    }

    fn ask(&mut self, _slot: usize, _due: u64, _message: &mut Vec<u8>) -> Option<Ask> {
        None
    }

    fn answer(&mut self, _slot: usize, _message: &[u8]) -> Step {
        Step::Wrong("an answer to nothing")
    }

    fn standing(&mut self, _number: usize) -> (Method, Vec<Vec<u8>>) {
        let (key, range_end) =
            (Bytes::from_static(DOOMED.as_bytes()), wire::end_of(DOOMED.as_bytes()));
        let request = WatchCreateRequest { key, range_end, ..WatchCreateRequest::default() };
        (Method::Watch, vec![create(request)])
    }

    fn told(&mut self, heard: Heard<'_>, record: &mut Record) -> Result<(), &'static str> {
        if Fields::number(heard.message, 3) == 1 {
            self.is_watching = true;
        }
        for event in Fields::all(heard.message, 11) {
            if Fields::number(event, 1) != 1 {
                return Err("a key was put that belongs to a lease that ends");
            }
            let due = self.end.max(record.from);
            record.done(Done { kind: 0, due, sent: due, done: heard.now.max(due) });
            self.awaited = self.awaited.saturating_sub(1);
        }
        Ok(())
    }

    fn stands(&self) -> bool {
        self.is_watching
    }

    fn awaited(&self) -> u64 {
        self.awaited
    }
}

/// What the keys of leases that end begin with.
pub(crate) const DOOMED: &str = "doomed";
