//! What can be refused by looking at a request alone, in the order in which etcd looks.
//!
//! Order is part of the contract: of two faults the client learns of the first. Where a fault is
//! found also counts: these checks come before authorisation (except where a function says
//! otherwise) and long before the store is asked, but after what a member refuses as a whole
//! (learner, cluster version, quota).
//!
//! # How deep a transaction nests
//!
//! Each level of nesting uses up at least one operation of the budget, so with etcd's default of
//! 128 operations a transaction could nest 128 deep, and with a larger `--max-txn-ops` as deep as a
//! message has room: too deep for any stack. prost gives up decoding at 100 nested messages, and a
//! nested transaction costs two of them. [`TXN_DEPTH_MAX`] therefore ends nesting earlier and in an
//! orderly way, for requests from every door (JSON is not decoded by prost), and leaves room for
//! the messages that a request may be wrapped in later: what was accepted must decode again from
//! the log. All code that walks through an accepted transaction may recurse.
//!
//! Unlike here, etcd accepts 128 levels; we know of no client that uses more than two.

use super::etcdserverpb::range_request::{SortOrder, SortTarget};
use super::etcdserverpb::request_op::Request;
use super::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp,
    TxnRequest, WatchCreateRequest,
};
use super::{Error, KeyRange, overlap};

/// How many transactions may lie inside each other below the outermost one.
pub const TXN_DEPTH_MAX: usize = 40;

/// The longest time that a lease can be granted for, in seconds.
pub const LEASE_TTL_SECONDS_MAX: i64 = 9_000_000_000;

/// Nested messages that prost decodes, the outermost not counted.
const PROST_DEPTH_MAX: usize = 100;

/// Nested messages left for whatever a request is wrapped in on its way to the log.
const ENVELOPE_DEPTH_MAX: usize = 16;

const _: () = assert!(
    // Two messages for each nested transaction (`RequestOp`, `TxnRequest`), two for an operation in
    // it.
    2 * TXN_DEPTH_MAX + 2 + ENVELOPE_DEPTH_MAX <= PROST_DEPTH_MAX,
    "an accepted transaction can be decoded again when it is wrapped"
);

/// Checks a range.
///
/// # Errors
/// [`Error::EmptyKey`], [`Error::InvalidSortOption`].
pub fn check_range(request: &RangeRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if !SortOrder::is_valid(request.sort_order) || !SortTarget::is_valid(request.sort_target) {
        return Err(Error::InvalidSortOption);
    }
    Ok(())
}

/// Checks a streamed range.
///
/// # Errors
/// Those of [`check_range`], then [`Error::RangeStreamSortOrder`],
/// [`Error::RangeStreamRevisionFilter`].
pub fn check_range_stream(request: &RangeRequest) -> Result<(), Error> {
    check_range(request)?;
    if !default_ordering(request) {
        return Err(Error::RangeStreamSortOrder);
    }
    if has_revision_filters(request) {
        return Err(Error::RangeStreamRevisionFilter);
    }
    Ok(())
}

/// Checks a put.
///
/// # Errors
/// [`Error::EmptyKey`], [`Error::ValueProvided`], [`Error::LeaseProvided`].
pub fn check_put(request: &PutRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Error::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Error::LeaseProvided);
    }
    Ok(())
}

/// Checks a deletion.
///
/// # Errors
/// [`Error::EmptyKey`].
pub fn check_delete_range(request: &DeleteRangeRequest) -> Result<(), Error> {
    if request.key.is_empty() { Err(Error::EmptyKey) } else { Ok(()) }
}

/// Checks a transaction with everything that is nested in it.
///
/// At each level the longest of the three lists counts against the budget, and what remains is the
/// budget of the transactions nested there. No two writes of a branch may touch the same key; that
/// is looked at last, when the lists are known to be short, and `overlap.rs` tells the rule.
///
/// Costs O(n log² n) comparisons of keys for n operations, of which there may be more than
/// `max_txn_ops` if they are nested: the number of bytes of a request bounds them.
///
/// # Errors
/// [`Error::TooManyOps`], [`Error::EmptyKey`], those of [`check_range`], [`check_put`] and
/// [`check_delete_range`], [`Error::KeyNotFound`] for an operation that is not set,
/// [`Error::DuplicateKey`].
pub fn check_txn(request: &TxnRequest, max_txn_ops: usize) -> Result<(), Error> {
    check_operations(request, max_txn_ops, TXN_DEPTH_MAX)?;
    overlap::check_branch(&request.success)?;
    overlap::check_branch(&request.failure)
}

/// Checks a transaction but for overlaps. `budget` counts operations, `depth_left` levels below
/// this one.
fn check_operations(request: &TxnRequest, budget: usize, depth_left: usize) -> Result<(), Error> {
    let TxnRequest { compare, success, failure } = request;
    let operations = compare.len().max(success.len()).max(failure.len());
    let Some(budget_left) = budget.checked_sub(operations) else {
        return Err(Error::TooManyOps);
    };
    if compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Error::EmptyKey);
    }
    for RequestOp { request } in success.iter().chain(failure) {
        match request {
            Some(Request::RequestRange(range)) => check_range(range)?,
            Some(Request::RequestPut(put)) => check_put(put)?,
            Some(Request::RequestDeleteRange(delete)) => check_delete_range(delete)?,
            Some(Request::RequestTxn(nested)) => {
                let depth_left = depth_left.checked_sub(1).ok_or(Error::TooManyOps)?;
                check_operations(nested, budget_left, depth_left)?;
            }
            None => return Err(Error::KeyNotFound),
        }
    }
    Ok(())
}

/// Checks a compaction.
///
/// Only what no store could accept: the compact revision is never below −1.
///
/// # Errors
/// [`Error::Compacted`].
pub fn check_compaction(request: &CompactionRequest) -> Result<(), Error> {
    if request.revision < 0 { Err(Error::Compacted) } else { Ok(()) }
}

/// Checks a lease to be granted.
///
/// etcd looks at this after authorisation and alarms, but before it looks for a lease of the same
/// id.
///
/// # Errors
/// [`Error::LeaseTtlTooLarge`].
pub fn check_lease_grant(request: &LeaseGrantRequest) -> Result<(), Error> {
    if request.ttl > LEASE_TTL_SECONDS_MAX { Err(Error::LeaseTtlTooLarge) } else { Ok(()) }
}

/// Checks a watch to be created; the first of three looks at it.
///
/// Authorisation comes next, then [`check_watch_range`]. None of them ends the stream: the error
/// becomes the reason why that watch is canceled.
///
/// # Errors
/// [`Error::Compacted`].
pub fn check_watch_create(request: &WatchCreateRequest) -> Result<(), Error> {
    if request.start_revision < 0 { Err(Error::Compacted) } else { Ok(()) }
}

/// Checks the interval of a watch to be created; comes after authorisation.
///
/// # Errors
/// [`Error::EmptyWatcherRange`].
pub fn check_watch_range(range: &KeyRange) -> Result<(), Error> {
    if range.is_empty() { Err(Error::EmptyWatcherRange) } else { Ok(()) }
}

/// Whether the answer comes in the order of the keys without sorting, so that a limit may stop the
/// search.
///
/// True for no order whatever the target is, though etcd then still sorts by the target, after the
/// limit.
pub fn default_ordering(request: &RangeRequest) -> bool {
    request.sort_order == i32::from(SortOrder::None)
        || (request.sort_order == i32::from(SortOrder::Ascend)
            && request.sort_target == i32::from(SortTarget::Key))
}

/// Whether keys are left out by their revisions, so that a limit must not stop the search.
pub fn has_revision_filters(request: &RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

/// Whether a transaction can be answered without the log: if every operation is a range.
///
/// A nested transaction counts as a write, whatever it holds.
pub fn is_read_only(request: &TxnRequest) -> bool {
    all_ranges(request, |_| true)
}

/// Whether a transaction may be answered from local state: if every operation is a serializable
/// range.
///
/// Holds for a transaction without operations too, and then whatever it compares.
pub fn is_serializable(request: &TxnRequest) -> bool {
    all_ranges(request, |range| range.serializable)
}

/// Whether every operation of both branches is a range, and `holds` for it.
fn all_ranges(request: &TxnRequest, holds: impl Fn(&RangeRequest) -> bool) -> bool {
    request.success.iter().chain(&request.failure).all(|operation| match &operation.request {
        Some(Request::RequestRange(range)) => holds(range),
        Some(Request::RequestPut(_) | Request::RequestDeleteRange(_) | Request::RequestTxn(_))
        | None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::etcdserverpb::Compare;
    use alloc::vec;
    use alloc::vec::Vec;
    use bytes::Bytes;
    use prost::Message as _;

    const OPS_MAX: usize = 128;

    fn range_of(key: &'static str) -> RangeRequest {
        RangeRequest { key: Bytes::from_static(key.as_bytes()), ..RangeRequest::default() }
    }

    fn put_of(key: &'static str) -> PutRequest {
        PutRequest { key: Bytes::from_static(key.as_bytes()), ..PutRequest::default() }
    }

    fn op(request: Request) -> RequestOp {
        RequestOp { request: Some(request) }
    }

    fn range(key: &'static str) -> RequestOp {
        op(Request::RequestRange(range_of(key)))
    }

    fn put(key: &'static str) -> RequestOp {
        op(Request::RequestPut(put_of(key)))
    }

    fn delete(key: &'static str) -> RequestOp {
        let key = Bytes::from_static(key.as_bytes());
        op(Request::RequestDeleteRange(DeleteRangeRequest { key, ..DeleteRangeRequest::default() }))
    }

    fn then(success: Vec<RequestOp>) -> TxnRequest {
        TxnRequest { success, ..TxnRequest::default() }
    }

    fn txn(success: Vec<RequestOp>) -> RequestOp {
        op(Request::RequestTxn(then(success)))
    }

    fn compare(key: &'static str) -> Compare {
        Compare { key: Bytes::from_static(key.as_bytes()), ..Compare::default() }
    }

    /// A transaction with `depth` others inside each other and `innermost` at the bottom.
    fn nested(depth: usize, innermost: RequestOp) -> TxnRequest {
        (0..depth)
            .fold(then(vec![innermost]), |inner, _| then(vec![op(Request::RequestTxn(inner))]))
    }

    #[test]
    fn a_range_needs_a_key_before_anything_else() {
        assert_eq!(check_range(&range_of("a")), Ok(()));
        let request = RangeRequest { sort_order: 3, ..RangeRequest::default() };
        assert_eq!(check_range(&request), Err(Error::EmptyKey));
        // Limit, revision and bounds may be anything.
        let request = RangeRequest { limit: -1, revision: -1, ..range_of("a") };
        assert_eq!(check_range(&request), Ok(()));
    }

    #[test]
    fn a_range_sorts_by_known_orders_and_targets() {
        for (sort_order, sort_target, expected) in [
            (2, 4, Ok(())),
            (3, 0, Err(Error::InvalidSortOption)),
            (-1, 0, Err(Error::InvalidSortOption)),
            (0, 5, Err(Error::InvalidSortOption)),
            (0, -1, Err(Error::InvalidSortOption)),
        ] {
            let request = RangeRequest { sort_order, sort_target, ..range_of("a") };
            assert_eq!(check_range(&request), expected, "{sort_order} {sort_target}");
        }
    }

    #[test]
    fn a_streamed_range_comes_in_the_order_of_keys_and_unfiltered() {
        assert_eq!(check_range_stream(&RangeRequest::default()), Err(Error::EmptyKey));
        for (order, target, expected) in [
            (SortOrder::None, SortTarget::Key, Ok(())),
            (SortOrder::None, SortTarget::Value, Ok(())),
            (SortOrder::Ascend, SortTarget::Key, Ok(())),
            (SortOrder::Descend, SortTarget::Key, Err(Error::RangeStreamSortOrder)),
            (SortOrder::Ascend, SortTarget::Mod, Err(Error::RangeStreamSortOrder)),
        ] {
            let request = RangeRequest {
                sort_order: order.into(),
                sort_target: target.into(),
                ..range_of("a")
            };
            assert_eq!(check_range_stream(&request), expected, "{order:?} {target:?}");
            assert_eq!(default_ordering(&request), expected.is_ok(), "{order:?} {target:?}");
        }
        for request in [
            RangeRequest { min_mod_revision: 1, ..range_of("a") },
            RangeRequest { max_mod_revision: 1, ..range_of("a") },
            RangeRequest { min_create_revision: 1, ..range_of("a") },
            RangeRequest { max_create_revision: -1, ..range_of("a") },
        ] {
            assert!(has_revision_filters(&request));
            assert_eq!(check_range_stream(&request), Err(Error::RangeStreamRevisionFilter));
            let request = RangeRequest { sort_order: 2, ..request };
            assert_eq!(check_range_stream(&request), Err(Error::RangeStreamSortOrder));
        }
        assert!(!has_revision_filters(&range_of("a")));
    }

    #[test]
    fn a_put_brings_nothing_that_it_wants_to_keep() {
        assert_eq!(check_put(&PutRequest::default()), Err(Error::EmptyKey));
        let full = PutRequest { value: Bytes::from_static(b"v"), lease: -7, ..put_of("a") };
        assert_eq!(check_put(&full), Ok(()));
        let request = PutRequest { ignore_value: true, ..full.clone() };
        assert_eq!(check_put(&request), Err(Error::ValueProvided));
        let request = PutRequest { ignore_lease: true, ..full.clone() };
        assert_eq!(check_put(&request), Err(Error::LeaseProvided));
        let request = PutRequest { ignore_value: true, ignore_lease: true, ..full };
        assert_eq!(check_put(&request), Err(Error::ValueProvided));
        let request = PutRequest { ignore_value: true, ignore_lease: true, ..put_of("a") };
        assert_eq!(check_put(&request), Ok(()));
    }

    #[test]
    fn a_deletion_needs_a_key() {
        assert_eq!(check_delete_range(&DeleteRangeRequest::default()), Err(Error::EmptyKey));
        let upside_down = DeleteRangeRequest {
            key: Bytes::from_static(b"b"),
            range_end: Bytes::from_static(b"a"),
            prev_kv: false,
        };
        assert_eq!(check_delete_range(&upside_down), Ok(()));
    }

    #[test]
    fn the_longest_list_of_a_transaction_counts_against_the_budget() {
        let full = TxnRequest {
            compare: vec![compare("a"); OPS_MAX],
            success: vec![range("a"); OPS_MAX],
            failure: vec![range("a"); OPS_MAX],
        };
        assert_eq!(check_txn(&full, OPS_MAX), Ok(()));
        let mut request = full.clone();
        request.compare.push(compare("a"));
        assert_eq!(check_txn(&request, OPS_MAX), Err(Error::TooManyOps));
        let mut request = full.clone();
        request.success.push(range("a"));
        assert_eq!(check_txn(&request, OPS_MAX), Err(Error::TooManyOps));
        let mut request = full;
        request.failure.push(range(""));
        assert_eq!(check_txn(&request, OPS_MAX), Err(Error::TooManyOps), "counted first");
    }

    #[test]
    fn a_nested_transaction_has_the_budget_that_is_left() {
        let inner = |count| txn(vec![range("a"); count]);
        assert_eq!(check_txn(&then(vec![inner(2)]), 3), Ok(()));
        assert_eq!(check_txn(&then(vec![inner(3)]), 3), Err(Error::TooManyOps));
        let siblings = then(vec![inner(1), inner(1)]);
        assert_eq!(check_txn(&siblings, 3), Ok(()), "siblings do not share it");
        // The longest list counts even where it is not the one that nests.
        let request = TxnRequest { compare: vec![compare("a"); 2], ..then(vec![inner(1)]) };
        assert_eq!(check_txn(&request, 3), Ok(()));
        assert_eq!(check_txn(&request, 2), Err(Error::TooManyOps));
        assert_eq!(check_txn(&TxnRequest::default(), 0), Ok(()));
    }

    #[test]
    fn compares_are_checked_before_operations_and_success_before_failure() {
        let request = TxnRequest {
            compare: vec![compare("")],
            success: vec![RequestOp { request: None }],
            failure: vec![],
        };
        assert_eq!(check_txn(&request, OPS_MAX), Err(Error::EmptyKey));
        let request = TxnRequest {
            compare: vec![compare("a")],
            success: vec![RequestOp { request: None }],
            failure: vec![range("")],
        };
        assert_eq!(check_txn(&request, OPS_MAX), Err(Error::KeyNotFound));
    }

    #[test]
    fn every_operation_of_both_branches_is_checked_at_every_level() {
        for bad in [range(""), put(""), delete("")] {
            for request in [
                then(vec![range("a"), bad.clone()]),
                TxnRequest { failure: vec![bad.clone()], ..TxnRequest::default() },
                nested(3, bad.clone()),
            ] {
                assert_eq!(check_txn(&request, OPS_MAX), Err(Error::EmptyKey), "{request:?}");
            }
        }
    }

    #[test]
    fn overlaps_are_looked_for_last() {
        let request = TxnRequest { failure: vec![range("")], ..then(vec![put("a"), put("a")]) };
        assert_eq!(check_txn(&request, OPS_MAX), Err(Error::EmptyKey));
        assert_eq!(check_txn(&then(vec![put("a"), put("a")]), OPS_MAX), Err(Error::DuplicateKey));
        let request = TxnRequest { failure: vec![put("a"), delete("a")], ..TxnRequest::default() };
        assert_eq!(check_txn(&request, OPS_MAX), Err(Error::DuplicateKey));
        let request = TxnRequest { failure: vec![put("a")], ..then(vec![put("a")]) };
        assert_eq!(check_txn(&request, OPS_MAX), Ok(()), "branches exclude each other");
    }

    #[test]
    fn nesting_ends_at_the_limit_whatever_the_budget() {
        assert_eq!(check_txn(&nested(TXN_DEPTH_MAX, put("a")), OPS_MAX), Ok(()));
        let deeper = nested(TXN_DEPTH_MAX + 1, put("a"));
        assert_eq!(check_txn(&deeper, usize::MAX), Err(Error::TooManyOps));
    }

    #[test]
    fn prost_decodes_what_is_accepted_with_room_for_an_envelope() {
        let deepest = (PROST_DEPTH_MAX - 2) / 2;
        assert!(deepest > TXN_DEPTH_MAX);
        let bytes = nested(deepest, put("a")).encode_to_vec();
        assert!(TxnRequest::decode(bytes.as_slice()).is_ok());
        let bytes = nested(deepest + 1, put("a")).encode_to_vec();
        assert!(TxnRequest::decode(bytes.as_slice()).is_err());
    }

    #[test]
    fn prost_refuses_a_message_of_nothing_but_nesting() {
        // Built from the inside byte by byte: to drop a value that deep would overflow the stack.
        let mut bytes: Vec<u8> = Vec::new();
        for _ in 0..1000 {
            for tag in [0x22, 0x12] {
                let mut outer = vec![tag];
                prost::encoding::encode_varint(u64::try_from(bytes.len()).unwrap(), &mut outer);
                outer.append(&mut bytes);
                bytes = outer;
            }
        }
        assert!(TxnRequest::decode(bytes.as_slice()).is_err());
    }

    #[test]
    fn a_compaction_below_zero_is_behind_every_store() {
        let compact = |revision| CompactionRequest { revision, physical: false };
        assert_eq!(check_compaction(&compact(-1)), Err(Error::Compacted));
        assert_eq!(check_compaction(&compact(0)), Ok(()), "a fresh store is compacted at -1");
        assert_eq!(check_compaction(&compact(i64::MAX)), Ok(()));
    }

    #[test]
    fn a_lease_ends_within_reason() {
        let grant = |ttl| LeaseGrantRequest { ttl, id: 0 };
        assert_eq!(check_lease_grant(&grant(9_000_000_000)), Ok(()));
        assert_eq!(check_lease_grant(&grant(9_000_000_001)), Err(Error::LeaseTtlTooLarge));
        assert_eq!(check_lease_grant(&grant(i64::MIN)), Ok(()), "raised to the minimum later");
    }

    #[test]
    fn a_watch_starts_at_a_revision_and_sees_some_key() {
        let create =
            |start_revision| WatchCreateRequest { start_revision, ..WatchCreateRequest::default() };
        assert_eq!(check_watch_create(&create(0)), Ok(()));
        assert_eq!(check_watch_create(&create(-1)), Err(Error::Compacted));

        for (key, range_end, expected) in [
            ("", "", Ok(())),
            ("", "\0", Ok(())),
            ("a", "\0", Ok(())),
            ("a", "b", Ok(())),
            ("a", "a", Err(Error::EmptyWatcherRange)),
            ("b", "a", Err(Error::EmptyWatcherRange)),
        ] {
            let request = WatchCreateRequest {
                key: Bytes::from_static(key.as_bytes()),
                range_end: Bytes::from_static(range_end.as_bytes()),
                ..WatchCreateRequest::default()
            };
            let range = KeyRange::from(&request);
            assert_eq!(check_watch_range(&range), expected, "{key:?} {range_end:?}");
        }
    }

    #[test]
    fn only_ranges_make_a_transaction_read_only() {
        let serializable =
            op(Request::RequestRange(RangeRequest { serializable: true, ..range_of("a") }));
        for (operation, read_only, is_local) in [
            (serializable, true, true),
            (range("a"), true, false),
            (put("a"), false, false),
            (delete("a"), false, false),
            (txn(vec![]), false, false),
            (RequestOp { request: None }, false, false),
        ] {
            let branch = vec![operation];
            for request in
                [then(branch.clone()), TxnRequest { failure: branch, ..TxnRequest::default() }]
            {
                assert_eq!(is_read_only(&request), read_only, "{request:?}");
                assert_eq!(is_serializable(&request), is_local, "{request:?}");
            }
        }
        let empty = TxnRequest { compare: vec![compare("a")], ..TxnRequest::default() };
        assert!(is_read_only(&empty) && is_serializable(&empty));
    }
}
