//! Reads: one key, a list, a part of a list, a count, a list in pages, a list as a stream.

use bytes::Bytes;
use cairn_engine::api::etcdserverpb::RangeRequest;
use prost::Message as _;

use super::kv::{Keys, Numbers, Order};
use super::{Ask, Share, Step, Work};
use crate::method::Method;
use crate::wire::{self, Fields};

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum What {
    /// One key, any of them
    Point,
    /// All keys
    List,
    /// The first `--limit` of all keys
    Limit,
    /// How many keys there are
    Count,
    /// All keys without their values
    KeysOnly,
    /// All keys, `--limit` at a time
    Paginate,
    /// All keys as a stream (`RangeStream`, etcd 3.7)
    Stream,
}

/// Reads of one sort.
#[derive(Debug)]
pub(crate) struct Ranges {
    what: What,
    keys: Keys,
    limit: u64,
    is_serializable: bool,
    numbers: Numbers,
    slots: Vec<Place>,
}

/// How far a slot's operation has come.
#[derive(Clone, Debug, Default)]
struct Place {
    /// Rows that came.
    rows: u64,
    /// Where the next page begins, and at which revision.
    next: Option<(Bytes, i64)>,
}

impl Ranges {
    pub(crate) fn new(what: What, keys: Keys, limit: u64, share: Share) -> Self {
        let numbers = Numbers::new(Order::Random, keys.count, share);
        let slots = vec![Place::default(); share.slots];
        Self { what, keys, limit: limit.max(1), is_serializable: false, numbers, slots }
    }

    /// Lets each member answer with what it has.
    pub(crate) fn serializable(self, is_serializable: bool) -> Self {
        Self { is_serializable, ..self }
    }

    /// Rows that an operation must bring.
    fn expected(&self) -> u64 {
        match self.what {
            What::Point => 1,
            What::Count => 0,
            What::Limit => self.limit.min(self.keys.count),
            What::List | What::KeysOnly | What::Paginate | What::Stream => self.keys.count,
        }
    }

    /// Counts the rows of an answer, and sees that they are as they should be.
    fn rows(&mut self, slot: usize, answer: &[u8]) -> Step {
        let mut last: &[u8] = &[];
        for row in Fields::all(answer, 2) {
            let key = Fields::bytes(row, 1).unwrap_or_default();
            if key <= last || !key.starts_with(self.keys.prefix.as_bytes()) {
                return Step::Wrong("a row that was not asked for, or out of order");
            }
            let value = Fields::bytes(row, 5).map_or(0, <[u8]>::len);
            let expected = if self.what == What::KeysOnly { 0 } else { self.keys.value.len() };
            if value != expected {
                return Step::Wrong("a value of another length than was written");
            }
            last = key;
            self.slots[slot].rows += 1;
        }
        let is_page = self.what == What::Paginate && Fields::number(answer, 3) == 1;
        if is_page {
            let revision = match self.slots[slot].next.take() {
                Some((_, revision)) => revision,
                None => wire::revision(answer),
            };
            let after = [last, &[0]].concat();
            self.slots[slot].next = Some((after.into(), revision));
        } else {
            self.slots[slot].next = None;
        }
        Step::More
    }
}

impl Work for Ranges {
    fn kinds(&self) -> &'static [&'static str] {
        match self.what {
            What::Point => &["read"],
            What::List => &["list"],
            What::Limit => &["list with a limit"],
            What::Count => &["count"],
            What::KeysOnly => &["list of keys"],
            What::Paginate => &["list in pages"],
            What::Stream => &["list as a stream"],
        }
    }

    fn ask(&mut self, slot: usize, _now: u64, message: &mut Vec<u8>) -> Option<Ask> {
        let mut request =
            RangeRequest { serializable: self.is_serializable, ..RangeRequest::default() };
        if self.what == What::Point {
            request.key = self.keys.key(self.numbers.next()?);
        } else {
            request.key = Bytes::copy_from_slice(self.keys.prefix.as_bytes());
            request.range_end = wire::end_of(self.keys.prefix.as_bytes());
        }
        request.count_only = self.what == What::Count;
        request.keys_only = self.what == What::KeysOnly;
        if matches!(self.what, What::Limit | What::Paginate) {
            request.limit = self.limit.cast_signed();
        }
        let place = &mut self.slots[slot];
        if let Some((key, revision)) = &place.next {
            (request.key, request.revision) = (key.clone(), *revision);
        } else {
            place.rows = 0;
        }
        request.encode(message).expect("a vector has room");
        let method = if self.what == What::Stream { Method::RangeStream } else { Method::Range };
        Some(Ask { method, kind: 0 })
    }

    fn answer(&mut self, slot: usize, message: &[u8]) -> Step {
        let answer = if self.what == What::Stream {
            Fields::bytes(message, 1).unwrap_or_default()
        } else {
            message
        };
        if self.what == What::Count && Fields::number(answer, 4).cast_unsigned() != self.keys.count
        {
            return Step::Wrong("another count than keys were written");
        }
        self.rows(slot, answer)
    }

    fn ended(&mut self, slot: usize) -> Step {
        if self.slots[slot].next.is_some() {
            return Step::Again;
        }
        if self.slots[slot].rows == self.expected() {
            Step::Done
        } else {
            Step::Wrong("another number of rows than was asked for")
        }
    }

    fn failed(&mut self, slot: usize) {
        self.slots[slot].next = None;
    }
}
