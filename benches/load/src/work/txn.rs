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
    /// For each slot, what it does: the swap, and whether it reads.
    slots: Vec<(Option<Swap>, bool)>,
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
                let number = match self.slots[slot].0 {
                    Some(lost) => lost.number,
                    None => usize::try_from(self.random.below(self.keys.count)).unwrap_or(0),
                };
                let (key, value) = (self.keys.key(number as u64), self.keys.value.clone());
                let (swap, request) = self.swaps.request(number, key, value);
                self.slots[slot].0 = Some(swap);
                request
            }
            What::Mixed if is_read => self.read(),
            What::Put | What::Mixed => self.puts(),
        };
        self.slots[slot].1 = is_read;
        request.encode(message).expect("a vector has room");
        Some(Ask { method: Method::Txn, kind: usize::from(is_read) })
    }

    fn answer(&mut self, slot: usize, message: &[u8]) -> Step {
        let (swap, is_read) = self.slots[slot];
        if let Some(swap) = swap {
            let step = self.swaps.answer(swap, message);
            self.slots[slot].0 = Some(swap).filter(|_| step == Step::Again);
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

/// A swap that was asked for: a key, and the revision that it must still have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Swap {
    pub(crate) number: usize,
    seen: i64,
}

impl Swaps {
    pub(crate) fn new(count: u64) -> Self {
        Self { revisions: vec![0; usize::try_from(count).unwrap_or(0)] }
    }

    /// Changes a key if it is as it was seen, and looks at it if not.
    pub(crate) fn request(&self, number: usize, key: Bytes, value: Bytes) -> (Swap, TxnRequest) {
        let seen = self.revisions[number];
        let compare = Compare {
            key: key.clone(),
            target: compare::CompareTarget::Mod.into(),
            result: compare::CompareResult::Equal.into(),
            target_union: Some(compare::TargetUnion::ModRevision(seen)),
            ..Compare::default()
        };
        let request = TxnRequest {
            compare: vec![compare],
            success: vec![put(PutRequest { key: key.clone(), value, ..PutRequest::default() })],
            failure: vec![range(RangeRequest { key, ..RangeRequest::default() })],
        };
        (Swap { number, seen }, request)
    }

    /// Takes the answer: [`Step::Again`] if somebody else was faster.
    pub(crate) fn answer(&mut self, swap: Swap, message: &[u8]) -> Step {
        let last = &mut self.revisions[swap.number];
        if Fields::number(message, 2) == 1 {
            let revision = wire::revision(message);
            if revision <= swap.seen {
                return Step::Wrong("a swap whose revision is not later than what it compared");
            }
            *last = revision.max(*last);
            return Step::More;
        }
        let row = Fields::bytes(message, 3)
            .and_then(|response| Fields::bytes(response, 1))
            .and_then(|range| Fields::bytes(range, 2));
        let seen = row.map_or(0, |row| Fields::number(row, 3));
        if seen == swap.seen {
            return Step::Wrong("a swap that failed although its condition held");
        }
        *last = if seen == 0 { 0 } else { seen.max(*last) };
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
        let ask = |swaps: &Swaps| swaps.request(0, "k".into(), "v".into());
        let ((first, _), (second, _)) = (ask(&swaps), ask(&swaps));
        assert_eq!(swaps.answer(first, &answer(true, 5, 0)), Step::More);
        assert_eq!(swaps.answer(second, &answer(false, 9, 8)), Step::Again);
        let (third, request) = ask(&swaps);
        let compared = request.compare[0].target_union.clone();
        assert_eq!(compared, Some(compare::TargetUnion::ModRevision(8)), "what was seen");
        assert_eq!(swaps.answer(third, &answer(true, 10, 0)), Step::More);
    }

    #[test]
    fn two_that_lose_to_the_same_change_are_both_right() {
        let mut swaps = Swaps::new(1);
        let [one, other] = [(); 2].map(|()| swaps.request(0, "k".into(), "v".into()).0);
        assert_eq!(swaps.answer(one, &answer(false, 9, 8)), Step::Again);
        assert_eq!(swaps.answer(other, &answer(false, 9, 8)), Step::Again);
    }

    #[test]
    fn a_server_that_contradicts_itself_is_wrong() {
        let mut swaps = Swaps::new(1);
        let (first, _) = swaps.request(0, "k".into(), "v".into());
        assert_eq!(swaps.answer(first, &answer(true, 5, 0)), Step::More);
        let (second, _) = swaps.request(0, "k".into(), "v".into());
        assert!(matches!(swaps.answer(second, &answer(false, 6, 5)), Step::Wrong(_)));
        assert!(matches!(swaps.answer(second, &answer(true, 5, 0)), Step::Wrong(_)));
    }
}
