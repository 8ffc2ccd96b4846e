//! Transactions: puts only, reads and puts, and compare-and-swap under conflict.

use bytes::Bytes;
use cairn_engine::api::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RequestOp, TxnRequest, compare, request_op,
};
use prost::Message as _;

use super::kv::Keys;
use super::{Ask, Random, Share, Step, Work};
use crate::method::Method;
use crate::wire::{self, Fields};

/// What transactions do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum What {
    /// `--operations` puts
    Put,
    /// A read of up to `--limit` keys, or a put
    Mixed,
    /// Change a key only if nobody else has, and try again until it works
    Swap,
}

/// Sizes of transactions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Puts of one.
    pub(crate) operations: u64,
    /// Reads among a hundred.
    pub(crate) reads: u64,
    /// Rows of a read.
    pub(crate) limit: u64,
}

/// Transactions.
#[derive(Debug)]
pub(crate) struct Txns {
    what: What,
    keys: Keys,
    sizes: Sizes,
    random: Random,
    swaps: Swaps,
    /// For each slot, what it does: the key that is swapped, and whether it reads.
    slots: Vec<(Option<usize>, bool)>,
}

impl Txns {
    pub(crate) fn new(what: What, keys: Keys, sizes: Sizes, share: Share) -> Self {
        let random = Random::of(share);
        let swaps = Swaps::new(if what == What::Swap { keys.count } else { 0 });
        Self { what, keys, sizes, random, swaps, slots: vec![(None, false); share.slots] }
    }

    fn puts(&mut self) -> TxnRequest {
        let first = self.random.below(self.keys.count);
        // Consecutive keys, because no key may be put twice.
        let numbers = (0..self.sizes.operations).map(|n| (first + n) % self.keys.count);
        let success = numbers.map(|number| put(self.keys.put(number))).collect();
        TxnRequest { success, ..TxnRequest::default() }
    }

    fn read(&mut self) -> TxnRequest {
        let key = self.keys.key(self.random.below(self.keys.count));
        let range_end = wire::end_of(self.keys.prefix.as_bytes());
        let limit = self.sizes.limit.cast_signed();
        let success =
            vec![range(RangeRequest { key, range_end, limit, ..RangeRequest::default() })];
        TxnRequest { success, ..TxnRequest::default() }
    }
}

impl Work for Txns {
    fn kinds(&self) -> &'static [&'static str] {
        match self.what {
            What::Put => &["transaction of puts"],
            What::Mixed => &["put in a transaction", "read in a transaction"],
            What::Swap => &["compare and swap"],
        }
    }

    fn ask(&mut self, slot: usize, _due: u64, message: &mut Vec<u8>) -> Option<Ask> {
        let is_read = self.what == What::Mixed && self.random.below(100) < self.sizes.reads;
        let request = match self.what {
            What::Swap => {
                let again = self.slots[slot].0;
                let number = match again {
                    Some(number) => number,
                    None => usize::try_from(self.random.below(self.keys.count)).unwrap_or(0),
                };
                self.slots[slot].0 = Some(number);
                self.swaps.request(number, self.keys.key(number as u64), self.keys.value.clone())
            }
            What::Mixed if is_read => self.read(),
            What::Put | What::Mixed => self.puts(),
        };
        self.slots[slot].1 = is_read;
        request.encode(message).expect("a vector has room");
        Some(Ask { method: Method::Txn, kind: usize::from(is_read) })
    }

    fn answer(&mut self, slot: usize, message: &[u8]) -> Step {
        let (number, is_read) = self.slots[slot];
        if let Some(number) = number {
            let step = self.swaps.answer(number, message);
            self.slots[slot].0 = Some(number).filter(|_| step == Step::Again);
            return step;
        }
        let expected = if is_read { 1 } else { self.sizes.operations };
        let count = Fields::all(message, 3).count() as u64;
        if Fields::number(message, 2) == 1 && count == expected {
            Step::More
        } else {
            Step::Wrong("a transaction without conditions that did not do what it says")
        }
    }

    fn failed(&mut self, slot: usize) {
        self.slots[slot].0 = None;
    }
}

/// Keys that are changed only if nobody else has: what was seen of each last.
#[derive(Debug)]
pub(crate) struct Swaps {
    revisions: Vec<i64>,
}

impl Swaps {
    pub(crate) fn new(count: u64) -> Self {
        Self { revisions: vec![0; usize::try_from(count).unwrap_or(0)] }
    }

    /// Changes a key if it is as it was seen, and looks at it if not.
    pub(crate) fn request(&self, number: usize, key: Bytes, value: Bytes) -> TxnRequest {
        let seen = self.revisions[number];
        let compare = Compare {
            key: key.clone(),
            target: compare::CompareTarget::Mod.into(),
            result: compare::CompareResult::Equal.into(),
            target_union: Some(compare::TargetUnion::ModRevision(seen)),
            ..Compare::default()
        };
        TxnRequest {
            compare: vec![compare],
            success: vec![put(PutRequest { key: key.clone(), value, ..PutRequest::default() })],
            failure: vec![range(RangeRequest { key, ..RangeRequest::default() })],
        }
    }

    /// Takes the answer: [`Step::Again`] if somebody else was faster.
    pub(crate) fn answer(&mut self, number: usize, message: &[u8]) -> Step {
        if Fields::number(message, 2) == 1 {
            let revision = wire::revision(message);
            if revision <= self.revisions[number] {
                return Step::Wrong("a swap whose revision is not later than what it compared");
            }
            self.revisions[number] = revision;
            return Step::More;
        }
        let row = Fields::bytes(message, 3)
            .and_then(|response| Fields::bytes(response, 1))
            .and_then(|range| Fields::bytes(range, 2));
        let seen = row.map_or(0, |row| Fields::number(row, 3));
        if seen == self.revisions[number] {
            return Step::Wrong("a swap that failed although its condition held");
        }
        self.revisions[number] = seen;
        Step::Again
    }
}

/// A put within a transaction.
pub(crate) fn put(request: PutRequest) -> RequestOp {
    RequestOp { request: Some(request_op::Request::RequestPut(request)) }
}

/// A read within a transaction.
pub(crate) fn range(request: RangeRequest) -> RequestOp {
    RequestOp { request: Some(request_op::Request::RequestRange(request)) }
}

#[cfg(test)]
mod tests {
    use cairn_engine::api::etcdserverpb::{
        RangeResponse, ResponseHeader, ResponseOp, TxnResponse, response_op,
    };
    use cairn_engine::api::mvccpb::KeyValue;

    use super::*;

    fn answer(succeeded: bool, revision: i64, seen: i64) -> Vec<u8> {
        let kv = KeyValue { mod_revision: seen, key: "k".into(), ..KeyValue::default() };
        let range = RangeResponse { kvs: vec![kv], ..RangeResponse::default() };
        let response = ResponseOp { response: Some(response_op::Response::ResponseRange(range)) };
        let header = Some(ResponseHeader { revision, ..ResponseHeader::default() });
        let responses = if succeeded { Vec::new() } else { vec![response] };
        TxnResponse { header, succeeded, responses }.encode_to_vec()
    }

    #[test]
    fn a_swap_that_lost_is_tried_again_with_what_it_saw() {
        let mut swaps = Swaps::new(1);
        assert_eq!(swaps.answer(0, &answer(true, 5, 0)), Step::More);
        assert_eq!(swaps.answer(0, &answer(false, 9, 8)), Step::Again);
        let request = swaps.request(0, "k".into(), "v".into());
        assert_eq!(
            request.compare[0].target_union,
            Some(compare::TargetUnion::ModRevision(8)),
            "what was seen is compared"
        );
        assert_eq!(swaps.answer(0, &answer(true, 10, 0)), Step::More);
    }

    #[test]
    fn a_server_that_contradicts_itself_is_wrong() {
        let mut swaps = Swaps::new(1);
        assert_eq!(swaps.answer(0, &answer(true, 5, 0)), Step::More);
        assert!(matches!(swaps.answer(0, &answer(false, 6, 5)), Step::Wrong(_)));
        assert!(matches!(swaps.answer(0, &answer(true, 5, 0)), Step::Wrong(_)));
    }
}
