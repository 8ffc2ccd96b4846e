//! No branch of a transaction may write a key twice: the check that compares operations.
//!
//! All writes of a transaction share a revision, so two puts of a key, or a put and a deletion of
//! it, could not be told apart. etcd decides that beforehand, for each branch by itself and without
//! knowing which way nested transactions will go:
//!
//! - a put clashes with every other put of its key, and
//! - with every deletion whose interval holds its key,
//! - except that the two branches of one nested transaction, of which only one runs, do not clash
//!   with each other.
//!
//! A deletion counts by its interval, whether or not it is going to find the key. Deletions never
//! clash with each other.
//!
//! Two quirks of etcd's `checkIntervals` are kept, because a transaction that was accepted there
//! must be accepted here:
//!
//! 1. A deletion without upper bound (`range_end` one zero byte) holds no key: etcd takes the bound
//!    literally, as `[key, "\0")`, which is upside down and meets nothing in its interval tree.
//! 2. A put in a nested transaction does not clash with a deletion in a *later* nested transaction
//!    of the same branch: deletions join the set one nested transaction after the other. The
//!    deletions of the branch itself are there from the start, and its own puts come last.
//!
//! # Cost
//!
//! Each branch is summed up as a set of keys and a set of disjoint intervals; where sets meet or
//! merge, the smaller one is walked and the larger one searched. A key or interval that moves
//! therefore lands in a set at least twice as large, so n operations cost O(n log² n), however they
//! are nested.

use super::Error;
use super::etcdserverpb::request_op::Request;
use super::etcdserverpb::{DeleteRangeRequest, RequestOp};
use alloc::collections::{BTreeMap, BTreeSet};
use core::ops::Bound;

/// Checks one branch with everything that is nested in it.
///
/// Recurses as deep as transactions nest: the caller has bounded that.
///
/// # Errors
/// [`Error::DuplicateKey`].
pub(super) fn check_branch(branch: &[RequestOp]) -> Result<(), Error> {
    // Most transactions write one key, and that cannot clash.
    let (mut writes, mut nests) = (0_usize, false);
    for RequestOp { request } in branch {
        match request {
            Some(Request::RequestPut(_) | Request::RequestDeleteRange(_)) => {
                writes = writes.saturating_add(1);
            }
            Some(Request::RequestTxn(_)) => nests = true,
            Some(Request::RequestRange(_)) | None => {}
        }
    }
    if writes < 2 && !nests { Ok(()) } else { Writes::of(branch).map(|_| ()) }
}

/// What a branch writes.
#[derive(Default)]
struct Writes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletions: Intervals<'a>,
}

impl<'a> Writes<'a> {
    /// Sums up a branch, or finds the clash in it.
    fn of(branch: &'a [RequestOp]) -> Result<Self, Error> {
        let mut writes = Self::default();
        for RequestOp { request } in branch {
            if let Some(Request::RequestDeleteRange(delete)) = request {
                writes.deletions.insert(delete);
            }
        }
        for RequestOp { request } in branch {
            if let Some(Request::RequestTxn(nested)) = request {
                let success = Self::of(&nested.success)?;
                let failure = Self::of(&nested.failure)?;
                if writes.clash_with_puts_of(&success) || writes.clash_with_puts_of(&failure) {
                    return Err(Error::DuplicateKey);
                }
                writes.absorb(success);
                writes.absorb(failure);
            }
        }
        for RequestOp { request } in branch {
            if let Some(Request::RequestPut(put)) = request {
                let key = put.key.as_ref();
                if !writes.puts.insert(key) || writes.deletions.contain(key) {
                    return Err(Error::DuplicateKey);
                }
            }
        }
        Ok(writes)
    }

    /// Whether a put of `later` clashes with a put or deletion in here.
    fn clash_with_puts_of(&self, later: &Self) -> bool {
        let (few, many) = if self.puts.len() < later.puts.len() {
            (&self.puts, &later.puts)
        } else {
            (&later.puts, &self.puts)
        };
        few.iter().any(|key| many.contains(key)) || self.deletions.meet(&later.puts)
    }

    fn absorb(&mut self, mut other: Self) {
        if self.puts.len() < other.puts.len() {
            core::mem::swap(&mut self.puts, &mut other.puts);
        }
        self.puts.extend(other.puts);
        self.deletions.absorb(other.deletions);
    }
}

/// A place between keys: just before a key, or just after it. Ordered by place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place<'a> {
    key: &'a [u8],
    is_after: bool,
}

impl<'a> Place<'a> {
    const fn before(key: &'a [u8]) -> Self {
        Self { key, is_after: false }
    }

    const fn after(key: &'a [u8]) -> Self {
        Self { key, is_after: true }
    }
}

/// The union of what deletions hold, as intervals that neither overlap nor touch: first key to end.
#[derive(Default)]
struct Intervals<'a>(BTreeMap<&'a [u8], Place<'a>>);

impl<'a> Intervals<'a> {
    /// Adds what a deletion holds; of one without upper bound that is nothing (quirk 1).
    fn insert(&mut self, delete: &'a DeleteRangeRequest) {
        let (start, range_end) = (delete.key.as_ref(), delete.range_end.as_ref());
        let end = if range_end.is_empty() { Place::after(start) } else { Place::before(range_end) };
        if Place::before(start) < end {
            self.insert_interval(start, end);
        }
    }

    fn insert_interval(&mut self, mut start: &'a [u8], mut end: Place<'a>) {
        if let Some((below_start, below_end)) = self.last_from_or_before(start)
            && below_end >= Place::before(start)
        {
            start = below_start;
            end = end.max(below_end);
        }
        let from_start = (Bound::Included(start), Bound::Unbounded);
        while let Some((&above_start, &above_end)) = self.0.range::<[u8], _>(from_start).next()
            && Place::before(above_start) <= end
        {
            self.0.remove(above_start);
            end = end.max(above_end);
        }
        self.0.insert(start, end);
    }

    fn contain(&self, key: &[u8]) -> bool {
        self.last_from_or_before(key).is_some_and(|(_, end)| end > Place::before(key))
    }

    /// The last interval that starts at or below `key`: the only one that may hold it.
    fn last_from_or_before(&self, key: &[u8]) -> Option<(&'a [u8], Place<'a>)> {
        let up_to_key = (Bound::Unbounded, Bound::Included(key));
        self.0.range::<[u8], _>(up_to_key).next_back().map(|(start, end)| (*start, *end))
    }

    /// Whether any of the keys lies in here.
    fn meet(&self, keys: &BTreeSet<&[u8]>) -> bool {
        if keys.len() < self.0.len() {
            return keys.iter().any(|key| self.contain(key));
        }
        self.0.iter().any(|(start, end)| {
            let end =
                if end.is_after { Bound::Included(end.key) } else { Bound::Excluded(end.key) };
            keys.range::<[u8], _>((Bound::Included(*start), end)).next().is_some()
        })
    }

    fn absorb(&mut self, mut other: Self) {
        if self.0.len() < other.0.len() {
            core::mem::swap(self, &mut other);
        }
        for (start, end) in other.0 {
            self.insert_interval(start, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::etcdserverpb::{PutRequest, RangeRequest, TxnRequest};
    use alloc::vec;
    use alloc::vec::Vec;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn op(request: Request) -> RequestOp {
        RequestOp { request: Some(request) }
    }

    fn put(key: &'static str) -> RequestOp {
        let key = Bytes::from_static(key.as_bytes());
        op(Request::RequestPut(PutRequest { key, ..PutRequest::default() }))
    }

    fn delete(key: &'static str, range_end: &'static str) -> RequestOp {
        op(Request::RequestDeleteRange(DeleteRangeRequest {
            key: Bytes::from_static(key.as_bytes()),
            range_end: Bytes::from_static(range_end.as_bytes()),
            prev_kv: false,
        }))
    }

    fn range(key: &'static str) -> RequestOp {
        let key = Bytes::from_static(key.as_bytes());
        op(Request::RequestRange(RangeRequest { key, ..RangeRequest::default() }))
    }

    fn txn(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
        op(Request::RequestTxn(TxnRequest { compare: vec![], success, failure }))
    }

    #[track_caller]
    fn accepts(branch: &[RequestOp]) {
        assert_eq!(check_branch(branch), Ok(()));
    }

    #[track_caller]
    fn refuses(branch: &[RequestOp]) {
        assert_eq!(check_branch(branch), Err(Error::DuplicateKey));
    }

    #[test]
    fn puts_of_one_key_clash() {
        accepts(&[]);
        accepts(&[put("a"), put("b"), range("a"), range("a")]);
        refuses(&[put("a"), put("b"), put("a")]);
    }

    #[test]
    fn a_put_clashes_with_a_deletion_that_holds_its_key_in_either_order() {
        for (start, range_end, is_held) in [
            ("b", "", true),
            ("a", "", false),
            ("a", "c", true),
            ("b", "b\0", true),
            ("a", "b", false),
            ("c", "a", false),
            ("b", "b", false),
        ] {
            for branch in
                [[delete(start, range_end), put("b")], [put("b"), delete(start, range_end)]]
            {
                assert_eq!(check_branch(&branch).is_err(), is_held, "{branch:?}");
            }
        }
    }

    #[test]
    fn deletions_do_not_clash_with_each_other() {
        accepts(&[delete("a", "c"), delete("b", "d"), delete("a", "c"), put("d")]);
    }

    #[test]
    fn a_deletion_without_upper_bound_holds_nothing() {
        accepts(&[delete("a", "\0"), put("b")]);
        accepts(&[delete("\0", "\0"), put("b")]);
        accepts(&[delete("a", "\0"), txn(vec![put("b")], vec![])]);
        refuses(&[delete("a", "\0"), delete("a", "c"), put("b")]);
    }

    #[test]
    fn nested_puts_clash_with_those_of_the_branch_and_of_siblings() {
        refuses(&[put("a"), txn(vec![put("a")], vec![])]);
        refuses(&[txn(vec![], vec![put("a")]), put("a")]);
        refuses(&[txn(vec![put("a")], vec![]), txn(vec![], vec![put("a")])]);
        refuses(&[txn(vec![txn(vec![put("a")], vec![])], vec![]), put("a")]);
        accepts(&[txn(vec![put("a")], vec![]), txn(vec![put("b")], vec![])]);
    }

    #[test]
    fn the_two_branches_of_a_nested_transaction_do_not_clash() {
        accepts(&[txn(vec![put("a")], vec![put("a")])]);
        accepts(&[txn(vec![put("a")], vec![delete("a", "")])]);
        refuses(&[txn(vec![put("a")], vec![put("a")]), put("a")]);
        refuses(&[txn(vec![put("a"), put("a")], vec![])]);
    }

    #[test]
    fn nested_writes_clash_with_those_of_the_branch_whatever_the_order() {
        refuses(&[delete("a", "c"), txn(vec![put("b")], vec![])]);
        refuses(&[txn(vec![], vec![put("b")]), delete("a", "c")]);
        refuses(&[put("b"), txn(vec![delete("a", "c")], vec![])]);
        refuses(&[txn(vec![], vec![delete("a", "c")]), put("b")]);
    }

    #[test]
    fn nested_siblings_clash_only_when_the_deletion_comes_first() {
        refuses(&[txn(vec![delete("a", "c")], vec![]), txn(vec![put("b")], vec![])]);
        accepts(&[txn(vec![put("b")], vec![]), txn(vec![delete("a", "c")], vec![])]);
    }

    #[test]
    fn intervals_merge_where_they_overlap_or_touch() {
        let mut intervals = Intervals::default();
        for (start, end) in [("b", "d"), ("f", "h"), ("m", "p")] {
            intervals.insert_interval(start.as_bytes(), Place::before(end.as_bytes()));
        }
        intervals.insert_interval(b"d", Place::after(b"f"));
        intervals.insert_interval(b"n", Place::before(b"o"));
        let merged: Vec<_> = intervals.0.iter().map(|(start, end)| (*start, end.key)).collect();
        assert_eq!(merged, [(b"b".as_slice(), b"h".as_slice()), (b"m", b"p")]);
        for (key, expected) in [("a", false), ("b", true), ("e", true), ("h", false), ("o", true)] {
            assert_eq!(intervals.contain(key.as_bytes()), expected, "{key}");
        }
    }

    /// A write with its way down from the branch: positions, and below each but the last the arm
    /// taken.
    struct Placed<'a> {
        way: Vec<(usize, bool)>,
        request: &'a Request,
    }

    fn flatten<'a>(branch: &'a [RequestOp], above: &[(usize, bool)], all: &mut Vec<Placed<'a>>) {
        for (position, operation) in branch.iter().enumerate() {
            let step = |arm| [above, &[(position, arm)]].concat();
            match &operation.request {
                Some(Request::RequestTxn(nested)) => {
                    flatten(&nested.success, &step(true), all);
                    flatten(&nested.failure, &step(false), all);
                }
                Some(request @ (Request::RequestPut(_) | Request::RequestDeleteRange(_))) => {
                    all.push(Placed { way: step(true), request });
                }
                Some(Request::RequestRange(_)) | None => {}
            }
        }
    }

    /// The rule as the chapter tells it: every pair of writes is looked at by itself.
    fn naive(branch: &[RequestOp]) -> Result<(), Error> {
        let mut all = Vec::new();
        flatten(branch, &[], &mut all);
        for (index, left) in all.iter().enumerate() {
            for right in &all[index + 1..] {
                if clash(left, right) {
                    return Err(Error::DuplicateKey);
                }
            }
        }
        Ok(())
    }

    /// Whether two writes clash, of which `left` comes first.
    fn clash(left: &Placed<'_>, right: &Placed<'_>) -> bool {
        let mut level = 0;
        while left.way[level] == right.way[level] {
            level += 1;
        }
        if left.way[level].0 == right.way[level].0 {
            return false; // They are in the two branches of one nested transaction.
        }
        let is_direct = |placed: &Placed<'_>| placed.way.len() == level + 1;
        match (left.request, right.request) {
            (Request::RequestPut(left), Request::RequestPut(right)) => left.key == right.key,
            (Request::RequestDeleteRange(delete), Request::RequestPut(put)) => holds(delete, put),
            (Request::RequestPut(put), Request::RequestDeleteRange(delete)) => {
                (is_direct(left) || is_direct(right)) && holds(delete, put)
            }
            _ => false,
        }
    }

    fn holds(delete: &DeleteRangeRequest, put: &PutRequest) -> bool {
        if delete.range_end.is_empty() {
            delete.key == put.key
        } else {
            delete.key <= put.key && put.key < delete.range_end
        }
    }

    /// Few keys, so that clashes are neither rare nor certain, with neighbours like `a` and `a\0`.
    fn any_key() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["a", "a\0", "aa", "b", "c", "d", "e", "f", "g", "h", "\u{7f}"])
    }

    fn any_branch() -> impl Strategy<Value = Vec<RequestOp>> {
        let any_end = prop_oneof![3 => Just(""), 1 => Just("\0"), 4 => any_key()];
        let leaf = prop_oneof![
            4 => any_key().prop_map(put),
            2 => (any_key(), any_end).prop_map(|(key, end)| delete(key, end)),
            1 => any_key().prop_map(range),
        ];
        let operation = leaf.prop_recursive(4, 24, 3, |inner| {
            let branch = prop::collection::vec(inner, 0..3);
            (branch.clone(), branch).prop_map(|(success, failure)| txn(success, failure))
        });
        prop::collection::vec(operation, 0..6)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn agrees_with_its_naive_twin(branch in any_branch()) {
            prop_assert_eq!(check_branch(&branch), naive(&branch));
        }
    }

    #[test]
    fn the_random_branches_clash_about_half_of_the_time() {
        use proptest::strategy::ValueTree as _;
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let clashes = (0..1000)
            .filter(|_| naive(&any_branch().new_tree(&mut runner).unwrap().current()).is_err())
            .count();
        assert!((200..800).contains(&clashes), "{clashes} of 1000");
    }
}
