//! Puts, deletes, and a call that does nothing.

use bytes::Bytes;
use cairn_engine::api::etcdserverpb::{DeleteRangeRequest, PutRequest};
use prost::Message as _;

use super::{Ask, Random, Shape, Share, Step, Work};
use crate::method::Method;
use crate::wire::{self, Fields};

/// Keys and values.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub(crate) prefix: String,
    pub(crate) bytes: usize,
    pub(crate) count: u64,
    pub(crate) value: Bytes,
}

impl Keys {
    pub(crate) fn key(&self, number: u64) -> Bytes {
        wire::key(&self.prefix, number, self.bytes)
    }

    /// A put of a key.
    pub(crate) fn put(&self, number: u64) -> PutRequest {
        PutRequest { key: self.key(number), value: self.value.clone(), ..PutRequest::default() }
    }
}

/// Which keys come, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Any of them, again and again.
    Random,
    /// One after another, again and again.
    Sequential,
    /// Each of them once.
    Once,
}

/// Numbers of keys for one thread.
#[derive(Debug)]
pub(crate) struct Numbers {
    order: Order,
    count: u64,
    next: u64,
    step: u64,
    random: Random,
}

impl Numbers {
    pub(crate) fn new(order: Order, count: u64, share: Share) -> Self {
        let (next, step) = (share.thread as u64, share.threads as u64);
        Self { order, count: count.max(1), next, step, random: Random::of(share) }
    }

    pub(crate) fn next(&mut self) -> Option<u64> {
        if self.order == Order::Random {
            return Some(self.random.below(self.count));
        }
        let number = self.next;
        if self.order == Order::Once && number >= self.count {
            return None;
        }
        self.next += self.step;
        Some(number % self.count)
    }
}

/// Puts. Each answer must have a later revision than the answer before it of its slot.
#[derive(Debug)]
pub(crate) struct Puts {
    keys: Keys,
    numbers: Numbers,
    revisions: Vec<i64>,
}

impl Puts {
    pub(crate) fn new(keys: Keys, order: Order, share: Share) -> Self {
        let numbers = Numbers::new(order, keys.count, share);
        Self { keys, numbers, revisions: vec![0; share.slots] }
    }
}

impl Work for Puts {
    fn kinds(&self) -> &'static [&'static str] {
        &["put"]
    }

    fn ask(&mut self, _slot: usize, _now: u64, message: &mut Vec<u8>) -> Option<Ask> {
        self.keys.put(self.numbers.next()?).encode(message).expect("a vector has room");
        Some(Ask { method: Method::Put, kind: 0 })
    }

    fn answer(&mut self, slot: usize, message: &[u8]) -> Step {
        later(&mut self.revisions[slot], message)
    }
}

/// Takes the revision of a change, which must be later than the one before.
pub(crate) fn later(last: &mut i64, message: &[u8]) -> Step {
    let revision = wire::revision(message);
    if revision <= *last {
        return Step::Wrong("the revision of a change is not later than that of the change before");
    }
    *last = revision;
    Step::More
}

/// Deletes of keys that are there, each once.
#[derive(Debug)]
pub(crate) struct Deletes {
    keys: Keys,
    numbers: Numbers,
}

impl Deletes {
    pub(crate) fn new(keys: Keys, share: Share) -> Self {
        let numbers = Numbers::new(Order::Once, keys.count, share);
        Self { keys, numbers }
    }
}

impl Work for Deletes {
    fn kinds(&self) -> &'static [&'static str] {
        &["delete"]
    }

    fn ask(&mut self, _slot: usize, _now: u64, message: &mut Vec<u8>) -> Option<Ask> {
        let key = self.keys.key(self.numbers.next()?);
        let request = DeleteRangeRequest { key, ..DeleteRangeRequest::default() };
        request.encode(message).expect("a vector has room");
        Some(Ask { method: Method::DeleteRange, kind: 0 })
    }

    fn answer(&mut self, _slot: usize, message: &[u8]) -> Step {
        match Fields::number(message, 2) {
            1 => Step::More,
            _ => Step::Wrong("the key that is deleted was not there"),
        }
    }
}

/// gRPC's own question after health: a call with nothing behind it, and what a new connection asks.
#[derive(Debug)]
pub(crate) struct Empty(pub(crate) Shape);

impl Work for Empty {
    fn shape(&self) -> Shape {
        self.0
    }

    fn kinds(&self) -> &'static [&'static str] {
        match self.0 {
            Shape::Connections => &["connection"],
            Shape::Calls | Shape::Stream => &["empty call"],
        }
    }

    fn ask(&mut self, _slot: usize, _now: u64, _message: &mut Vec<u8>) -> Option<Ask> {
        Some(Ask { method: Method::Health, kind: 0 })
    }

    fn answer(&mut self, _slot: usize, message: &[u8]) -> Step {
        match Fields::number(message, 1) {
            1 => Step::More,
            _ => Step::Wrong("the server does not serve"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(order: Order, thread: usize) -> Numbers {
        Numbers::new(order, 5, Share { thread, threads: 2, seed: 1, slots: 1, standing: 0 })
    }

    #[test]
    fn each_key_comes_once_over_all_threads() {
        let all: Vec<_> = (0..2)
            .flat_map(|thread| {
                let mut numbers = numbers(Order::Once, thread);
                core::iter::from_fn(move || numbers.next())
            })
            .collect();
        assert_eq!(all, [0, 2, 4, 1, 3]);
    }

    #[test]
    fn random_and_sequential_keys_never_end_and_stay_below() {
        for order in [Order::Random, Order::Sequential] {
            let mut numbers = numbers(order, 1);
            let some: Vec<_> = (0..100).map(|_| numbers.next().unwrap()).collect();
            assert!(some.iter().all(|&number| number < 5));
            assert!((0..5).all(|number| some.contains(&number)), "{order:?}: {some:?}");
        }
    }

    #[test]
    fn a_revision_that_does_not_grow_is_wrong() {
        let answer = |revision: u8| [0x0a, 0x02, 0x18, revision];
        let mut last = 0;
        assert_eq!(later(&mut last, &answer(5)), Step::More);
        assert!(matches!(later(&mut last, &answer(5)), Step::Wrong(_)));
        assert_eq!(later(&mut last, &answer(6)), Step::More);
    }
}
