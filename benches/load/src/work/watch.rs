//! Watches: events to many watchers, the time that an event takes, watchers of the past, and watchers that wait.
//!
//! A put carries the time at which it was due in its value, so whoever sees its event knows how long that took.

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use cairn_engine::api::etcdserverpb::{
    PutRequest, WatchCreateRequest, WatchRequest, watch_request,
};
use prost::Message as _;

use super::kv::{Keys, later};
use super::{Ask, Heard, Random, Share, Step, Work};
use crate::method::Method;
use crate::record::{Done, Record};
use crate::wire::{self, Fields};

/// What watchers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum What {
    /// See puts as fast as they come
    FanOut,
    /// See puts at a rate (100 in a second, if nothing is said)
    Latency,
    /// See `--events` that happened before, again and again
    CatchUp,
    /// See nothing, and cost memory
    Idle,
}

/// A request that makes a watcher.
pub(crate) fn create(request: WatchCreateRequest) -> Vec<u8> {
    let request_union = Some(watch_request::RequestUnion::CreateRequest(request));
    WatchRequest { request_union }.encode_to_vec()
}

/// A value that begins with a time.
pub(crate) fn stamped(time: u64, bytes: usize) -> Bytes {
    let mut value = BytesMut::with_capacity(bytes.max(STAMP_BYTES));
    value.put_u64(time);
    value.resize(bytes.max(STAMP_BYTES), b'x');
    value.freeze()
}

/// Counts the events of an answer by the time in their values; how many there were.
///
/// # Errors
/// If an event is none of a put of ours, or its watcher was ended.
pub(crate) fn count_events(
    heard: Heard<'_>,
    kind: usize,
    record: &mut Record,
) -> Result<u64, &'static str> {
    if Fields::number(heard.message, 4) == 1 {
        return Err("a watcher was ended by the server");
    }
    let mut count = 0;
    for event in Fields::all(heard.message, 11) {
        let value = Fields::bytes(event, 2).and_then(|kv| Fields::bytes(kv, 5));
        let stamp = value.and_then(|value| value.first_chunk::<STAMP_BYTES>());
        let due = u64::from_be_bytes(*stamp.ok_or("an event without our value")?);
        record.done(Done { kind, due, sent: due, done: heard.now });
        count += 1;
    }
    Ok(count)
}

/// Watchers, and puts that they see.
#[derive(Debug)]
pub(crate) struct FanOut {
    keys: Keys,
    /// Watchers of each standing call.
    watchers: u64,
    share: Share,
    random: Random,
    /// Puts of all threads that were answered, by key.
    puts: Arc<[AtomicU64]>,
    /// The key that each slot puts.
    putting: Vec<usize>,
    revisions: Vec<i64>,
    made: u64,
    seen: u64,
}

impl FanOut {
    pub(crate) fn new(keys: Keys, watchers: u64, puts: Arc<[AtomicU64]>, share: Share) -> Self {
        let (putting, revisions) = (vec![0; share.slots], vec![0; share.slots]);
        let random = Random::of(share);
        Self { keys, watchers, share, random, puts, putting, revisions, made: 0, seen: 0 }
    }

    fn watchers_here(&self) -> u64 {
        self.watchers * self.share.standing as u64
    }

    /// Watchers of this thread that look at a key: they take the keys in turn.
    fn watchers_of(&self, key: u64) -> u64 {
        let (all, keys) = (self.watchers_here(), self.keys.count);
        all / keys + u64::from(key < all % keys)
    }
}

impl Work for FanOut {
    fn kinds(&self) -> &'static [&'static str] {
        &["event", "put"]
    }

    fn ask(&mut self, slot: usize, due: u64, message: &mut Vec<u8>) -> Option<Ask> {
        let number = self.random.below(self.keys.count);
        self.putting[slot] = usize::try_from(number).unwrap_or(0);
        let value = stamped(due, self.keys.value.len());
        let request = PutRequest { key: self.keys.key(number), value, ..PutRequest::default() };
        request.encode(message).expect("a vector has room");
        Some(Ask { method: Method::Put, kind: 1 })
    }

    fn answer(&mut self, slot: usize, message: &[u8]) -> Step {
        self.puts[self.putting[slot]].fetch_add(1, Ordering::Relaxed);
        later(&mut self.revisions[slot], message)
    }

    fn standing(&mut self, number: usize) -> (Method, Vec<Vec<u8>>) {
        let first = number as u64 * self.watchers;
        let watcher = |number: u64| {
            let key = self.keys.key(number % self.keys.count);
            create(WatchCreateRequest { key, ..WatchCreateRequest::default() })
        };
        (Method::Watch, (first..first + self.watchers).map(watcher).collect())
    }

    fn told(&mut self, heard: Heard<'_>, record: &mut Record) -> Result<(), &'static str> {
        if Fields::number(heard.message, 3) == 1 {
            self.made += 1;
        }
        self.seen += count_events(heard, 0, record)?;
        Ok(())
    }

    fn stands(&self) -> bool {
        self.made == self.watchers_here()
    }

    fn awaited(&self) -> u64 {
        let puts = self.puts.iter().map(|puts| puts.load(Ordering::Relaxed));
        let expected: u64 = (0..).zip(puts).map(|(key, puts)| puts * self.watchers_of(key)).sum();
        expected.saturating_sub(self.seen)
    }
}

/// Watchers of the past: each operation makes one and waits until it has seen all events.
#[derive(Debug)]
pub(crate) struct CatchUp {
    keys: Keys,
    events: u64,
    from: i64,
    seen: Vec<u64>,
}

impl CatchUp {
    pub(crate) fn new(keys: Keys, events: u64, from: i64, share: Share) -> Self {
        Self { keys, events, from, seen: vec![0; share.slots] }
    }
}

impl Work for CatchUp {
    fn kinds(&self) -> &'static [&'static str] {
        &["catch-up"]
    }

    fn ask(&mut self, slot: usize, _due: u64, message: &mut Vec<u8>) -> Option<Ask> {
        self.seen[slot] = 0;
        let prefix = self.keys.prefix.as_bytes();
        message.extend(create(WatchCreateRequest {
            key: Bytes::copy_from_slice(prefix),
            range_end: wire::end_of(prefix),
            start_revision: self.from,
            ..WatchCreateRequest::default()
        }));
        Some(Ask { method: Method::Watch, kind: 0 })
    }

    fn answer(&mut self, slot: usize, message: &[u8]) -> Step {
        if Fields::number(message, 4) == 1 {
            return Step::Wrong("a watcher was ended by the server");
        }
        self.seen[slot] += Fields::all(message, 11).count() as u64;
        match self.seen[slot].cmp(&self.events) {
            core::cmp::Ordering::Less => Step::More,
            core::cmp::Ordering::Equal => Step::Done,
            core::cmp::Ordering::Greater => Step::Wrong("more events than there were"),
        }
    }

    fn ended(&mut self, _slot: usize) -> Step {
        Step::Wrong("a watch ended by itself")
    }
}

/// Bytes of a time in a value.
const STAMP_BYTES: usize = 8;
