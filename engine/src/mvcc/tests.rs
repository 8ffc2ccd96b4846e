//! The key space by itself: each test is a sentence of etcd's semantics that is easy to get wrong. Random
//! requests against the reference model are in sim/tests/model.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;
use prost::Message;

use super::compact::Sweep;
use super::view::NEVER_COMPACTED;
use super::*;
use crate::api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::api::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::api::etcdserverpb::request_op::Request as Op;
use crate::api::etcdserverpb::response_op::Response as OpResponse;
use crate::api::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse,
};
use crate::api::{Error, KeyRange};
use crate::ids::LeaseId;

mod layers;

// Requests in few words.

fn key_range(key: &str, range_end: &str) -> KeyRange {
    KeyRange::new(bytes(key), bytes(range_end))
}

fn everything() -> KeyRange {
    KeyRange::prefix(Bytes::new())
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Everything from `a` on.
fn range() -> RangeRequest {
    RangeRequest { key: bytes("a"), range_end: bytes("\0"), ..RangeRequest::default() }
}

fn put(store: &mut Store, key: &str, value: &str) -> i64 {
    let mut write = store.begin();
    drop(write.put(key.as_bytes(), value.as_bytes(), LeaseId::NONE));
    drop(write.finish());
    store.revision()
}

fn delete(store: &mut Store, key: &str, range_end: &str) -> Vec<Change> {
    let mut write = store.begin();
    drop(write.delete_range(&key_range(key, range_end)));
    write.finish()
}

fn op_put(key: &str, value: &str) -> RequestOp {
    let put = PutRequest { key: bytes(key), value: bytes(value), ..PutRequest::default() };
    op(Op::RequestPut(put))
}

fn op_delete(key: &str, range_end: &str) -> RequestOp {
    let delete = DeleteRangeRequest { key: bytes(key), range_end: bytes(range_end), prev_kv: true };
    op(Op::RequestDeleteRange(delete))
}

fn op(request: Op) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn compare(key: &str, result: CompareResult, given: TargetUnion) -> Compare {
    let target = match given {
        TargetUnion::Version(_) => CompareTarget::Version,
        TargetUnion::CreateRevision(_) => CompareTarget::Create,
        TargetUnion::ModRevision(_) => CompareTarget::Mod,
        TargetUnion::Value(_) => CompareTarget::Value,
        TargetUnion::Lease(_) => CompareTarget::Lease,
    };
    Compare {
        result: result.into(),
        target: target.into(),
        key: bytes(key),
        range_end: Bytes::new(),
        target_union: Some(given),
    }
}

fn then(success: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { success, ..TxnRequest::default() }
}

/// Executes a transaction for which no lease exists.
fn execute(store: &mut Store, request: &TxnRequest) -> Result<TxnResponse, Error> {
    let mut write = store.begin();
    let response = txn::execute(&mut write, request, |_| false);
    drop(write.finish());
    response
}

/// What is found, as `key=value` words.
fn found(result: &RangeResult) -> String {
    words(&result.records)
}

fn words(records: &[Record]) -> String {
    let word = |record: &Record| {
        format!("{}={}", record.key().escape_ascii(), record.value().escape_ascii())
    };
    records.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// All of history, as `revision_sub:key` words, with `t` behind tombstones.
fn history(view: &View) -> String {
    let word = |record: Record| {
        let tombstone = if record.is_tombstone() { "t" } else { "" };
        format!("{}:{}{tombstone}", record.revision(), record.key().escape_ascii())
    };
    view.records().map(word).collect::<Vec<_>>().join(" ")
}

fn sweep_all(store: &mut Store) {
    while store.sweeping().is_some() {
        store.sweep(1);
    }
    store.check();
}

// Revisions.

#[test]
fn a_fresh_store_is_at_revision_one_and_was_never_compacted() {
    let store = Store::default();
    assert_eq!((store.revision(), store.compacted()), (1, NEVER_COMPACTED));
    assert_eq!(store.range(&range()), Ok(RangeResult::default()));
}

#[test]
fn each_request_that_changes_something_is_one_revision() {
    let mut store = Store::default();
    assert_eq!(put(&mut store, "a", "1"), 2);
    assert_eq!(put(&mut store, "b", "1"), 3);
    let places: Vec<_> = delete(&mut store, "a", "c")
        .iter()
        .map(|change| (change.record.revision().main, change.record.revision().sub))
        .collect();
    assert_eq!(places, [(4, 0), (4, 1)], "in the order of the keys");
    assert_eq!(store.revision(), 4);
}

#[test]
fn deleting_nothing_is_no_revision() {
    let mut store = Store::default();
    put(&mut store, "b", "1");
    for (key, range_end) in [("a", ""), ("c", "\0"), ("b", "b"), ("c", "a")] {
        assert_eq!(delete(&mut store, key, range_end), [], "{key} {range_end}");
    }
    assert_eq!(store.revision(), 2);
}

#[test]
fn a_version_counts_puts_and_starts_again_after_a_deletion() {
    let mut store = Store::default();
    put(&mut store, "a", "1");
    put(&mut store, "a", "2");
    delete(&mut store, "a", "");
    put(&mut store, "a", "3");
    let lives: Vec<_> =
        store.records().map(|record| (record.create_revision(), record.version())).collect();
    assert_eq!(lives, [(2, 1), (2, 2), (0, 0), (5, 1)]);
}

#[test]
fn a_view_stays_as_it_was() {
    let mut store = Store::default();
    put(&mut store, "a", "1");
    put(&mut store, "b", "1");
    let view = store.view();
    put(&mut store, "a", "2");
    delete(&mut store, "b", "");
    store.compact(5).unwrap();
    sweep_all(&mut store);
    let current: Vec<_> = view.current(&everything()).collect();
    assert_eq!(words(&current), "a=1 b=1");
    assert_eq!((view.revision(), view.compacted()), (3, NEVER_COMPACTED));
    assert_eq!(history(&view), "2_0:a 3_0:b");
    view.check();
}

// Puts and leases.

#[test]
fn a_plain_put_detaches_its_key_from_the_lease_and_an_ignoring_one_keeps_it() {
    let mut store = Store::default();
    let mut put = |request: PutRequest| {
        let mut write = store.begin();
        txn::run_put(&mut write, &PutRequest { key: bytes("a"), ..request });
        drop(write.finish());
        let record = store.get(b"a").unwrap();
        (String::from_utf8_lossy(record.value()).into_owned(), record.lease().0)
    };
    let plain = PutRequest { value: bytes("1"), lease: 7, ..PutRequest::default() };
    assert_eq!(put(plain), ("1".into(), 7));
    let ignoring = PutRequest { value: bytes("2"), ignore_lease: true, ..PutRequest::default() };
    assert_eq!(put(ignoring), ("2".into(), 7));
    let moving = PutRequest { lease: 8, ignore_value: true, ..PutRequest::default() };
    assert_eq!(put(moving), ("2".into(), 8));
    assert_eq!(put(PutRequest { value: bytes("3"), ..PutRequest::default() }), ("3".into(), 0));
}

#[test]
fn a_put_may_only_keep_what_is_there_and_use_a_lease_that_exists() {
    let mut store = Store::default();
    put(&mut store, "a", "1");
    let check = |key: &str, lease, ignore_value, ignore_lease| {
        let key = bytes(key);
        let put = PutRequest { key, lease, ignore_value, ignore_lease, ..PutRequest::default() };
        txn::check_put(&store, &put, |id| id == LeaseId(7))
    };
    assert_eq!(check("a", 7, true, false), Ok(()));
    assert_eq!(check("b", 7, false, false), Ok(()));
    assert_eq!(check("b", 0, true, false), Err(Error::KeyNotFound));
    assert_eq!(check("b", 0, false, true), Err(Error::KeyNotFound));
    assert_eq!(check("a", 8, false, false), Err(Error::LeaseNotFound));
    assert_eq!(check("b", 8, true, false), Err(Error::LeaseNotFound), "this comes first");
}

// Ranges.

/// Keys `a` to `e`, of which each was written at its own revision, from 2 on, with values 5 to 1.
fn five_keys() -> Store {
    let mut store = Store::default();
    for (key, value) in [("a", "5"), ("b", "4"), ("c", "3"), ("d", "2"), ("e", "1")] {
        put(&mut store, key, value);
    }
    store
}

#[test]
fn count_ignores_limit_and_filters() {
    let store = five_keys();
    for revision in [0, 6] {
        let request =
            RangeRequest { limit: 1, revision, max_mod_revision: 4, sort_order: 2, ..range() };
        let result = store.range(&request).unwrap();
        assert_eq!((found(&result).as_str(), result.more, result.count), ("c=3", true, 5));
    }
}

#[test]
fn a_count_alone_shows_nothing_else() {
    let store = five_keys();
    for (revision, count) in [(0, 5), (4, 3)] {
        let request =
            RangeRequest { limit: 1, revision, min_mod_revision: 5, count_only: true, ..range() };
        let expected = RangeResult { count, ..RangeResult::default() };
        assert_eq!(store.range(&request), Ok(expected));
    }
}

#[test]
fn filters_are_inclusive_and_off_at_zero() {
    let mut store = five_keys();
    put(&mut store, "b", "6"); // created at 3, modified at 7
    let check = |bounds: [i64; 4], expected: &str| {
        let [min_mod_revision, max_mod_revision, min_create_revision, max_create_revision] = bounds;
        let request = RangeRequest {
            min_mod_revision,
            max_mod_revision,
            min_create_revision,
            max_create_revision,
            ..range()
        };
        assert_eq!(found(&store.range(&request).unwrap()), expected, "{bounds:?}");
    };
    check([0, 0, 0, 0], "a=5 b=6 c=3 d=2 e=1");
    check([5, 0, 0, 0], "b=6 d=2 e=1");
    check([0, 5, 0, 0], "a=5 c=3 d=2");
    check([0, 0, 3, 4], "b=6 c=3");
    check([4, 7, 0, 3], "b=6");
    check([0, -1, 0, 0], "");
    check([-1, 0, 0, 0], "a=5 b=6 c=3 d=2 e=1");
}

#[test]
fn an_order_sorts_everything_before_the_limit_cuts() {
    let store = five_keys();
    let check = |order: SortOrder, target: SortTarget, expected: &str| {
        let request = RangeRequest {
            limit: 2,
            sort_order: order.into(),
            sort_target: target.into(),
            ..range()
        };
        let result = store.range(&request).unwrap();
        assert_eq!(found(&result), expected, "{order:?} {target:?}");
        assert!(result.more);
    };
    check(SortOrder::None, SortTarget::Key, "a=5 b=4");
    check(SortOrder::Ascend, SortTarget::Key, "a=5 b=4");
    check(SortOrder::Descend, SortTarget::Key, "e=1 d=2");
    check(SortOrder::Ascend, SortTarget::Value, "e=1 d=2");
    check(SortOrder::Descend, SortTarget::Value, "a=5 b=4");
    check(SortOrder::Descend, SortTarget::Mod, "e=1 d=2");
    check(SortOrder::Descend, SortTarget::Create, "e=1 d=2");
}

#[test]
fn a_target_without_an_order_is_sorted_after_the_limit_cut_with_one_key_more() {
    let store = five_keys();
    let request = RangeRequest { limit: 2, sort_target: SortTarget::Value.into(), ..range() };
    // etcd takes three keys to know whether there are more than two, sorts the three, and shows two.
    let result = store.range(&request).unwrap();
    assert_eq!((found(&result).as_str(), result.more), ("c=3 b=4", true));
    let result = store.range(&RangeRequest { min_mod_revision: 1, ..request }).unwrap();
    assert_eq!(found(&result), "e=1 d=2", "a filter must see everything, so nothing is cut before");
}

#[test]
fn what_sorts_alike_stays_in_the_order_of_keys() {
    let store = five_keys();
    for order in [SortOrder::Ascend, SortOrder::Descend] {
        let request = RangeRequest {
            sort_order: order.into(),
            sort_target: SortTarget::Version.into(),
            ..range()
        };
        assert_eq!(found(&store.range(&request).unwrap()), "a=5 b=4 c=3 d=2 e=1");
    }
}

#[test]
fn more_is_told_only_where_the_limit_cut() {
    let store = five_keys();
    for revision in [0, 6] {
        for (limit, more) in [(4, true), (5, false), (6, false), (0, false), (-1, false)] {
            let request = RangeRequest { limit, revision, ..range() };
            assert_eq!(store.range(&request).unwrap().more, more, "{limit}");
        }
    }
}

#[test]
fn keys_alone_are_sorted_by_the_values_that_they_do_not_show() {
    let store = five_keys();
    let request = RangeRequest {
        keys_only: true,
        sort_order: SortOrder::Ascend.into(),
        sort_target: SortTarget::Value.into(),
        ..range()
    };
    let response = store.range(&request).unwrap().to_response();
    let shown: Vec<_> = response.kvs.iter().map(|kv| (kv.key.as_ref(), kv.value.len())).collect();
    assert_eq!(shown, [(b"e".as_slice(), 0), (b"d", 0), (b"c", 0), (b"b", 0), (b"a", 0)]);
}

#[test]
fn keys_alone_show_their_leases_only_where_values_decide_their_order() {
    let mut store = five_keys();
    let mut write = store.begin();
    drop(write.put(b"a", b"1", LeaseId(7)));
    drop(write.finish());
    let shown = |sort_target: SortTarget| {
        let sort_target = sort_target.into();
        let request = RangeRequest { keys_only: true, limit: 1, sort_target, ..range() };
        let found = store.range(&request).unwrap();
        let mut encoded = Vec::new();
        found.encode_record(&found.records[0], &mut encoded);
        assert_eq!(encoded.len(), found.record_len(&found.records[0]));
        assert_eq!(found.to_response().kvs[0].encode_to_vec(), encoded);
        found.to_response().kvs[0].lease
    };
    assert_eq!(shown(SortTarget::Key), 0);
    assert_eq!(shown(SortTarget::Mod), 0);
    assert_eq!(shown(SortTarget::Value), 7);
}

#[test]
fn an_upside_down_interval_holds_nothing() {
    let store = five_keys();
    for revision in [0, 4] {
        for (key, range_end) in [("c", "a"), ("c", "c")] {
            let (key, range_end) = (bytes(key), bytes(range_end));
            let request = RangeRequest { key, range_end, revision, ..RangeRequest::default() };
            assert_eq!(store.range(&request), Ok(RangeResult::default()));
        }
    }
}

#[test]
fn a_revision_is_read_as_it_was() {
    let mut store = five_keys(); // 2 to 6
    put(&mut store, "b", "new"); // 7
    delete(&mut store, "a", "c"); // 8
    put(&mut store, "a", "again"); // 9
    let read = |revision| {
        let request = RangeRequest { revision, range_end: bytes("c"), ..range() };
        store.range(&request).map(|result| found(&result))
    };
    assert_eq!(read(2), Ok("a=5".into()));
    assert_eq!(read(6), Ok("a=5 b=4".into()));
    assert_eq!(read(7), Ok("a=5 b=new".into()));
    assert_eq!(read(8), Ok(String::new()));
    assert_eq!(read(9), Ok("a=again".into()));
    assert_eq!((read(0), read(-5)), (read(9), read(9)), "no revision is the latest");
    assert_eq!(read(1), Ok(String::new()), "before the first");
    assert_eq!(read(10), Err(Error::FutureRev));
}

// Compaction.

#[test]
fn the_compact_revision_can_be_read_and_nothing_below() {
    let mut store = five_keys();
    put(&mut store, "a", "6"); // 7
    store.compact(4).unwrap();
    let read = |store: &Store, revision| {
        store.range(&RangeRequest { revision, ..range() }).map(|result| found(&result))
    };
    for _ in 0..2 {
        assert_eq!(read(&store, 3), Err(Error::Compacted));
        assert_eq!(read(&store, 4), Ok("a=5 b=4 c=3".into()));
        sweep_all(&mut store); // It changes nothing.
    }
    assert_eq!(read(&store, -1), read(&store, 7), "outside of transactions this is the latest");
}

#[test]
fn a_compaction_goes_forward_and_not_beyond_the_present() {
    let mut store = five_keys();
    assert_eq!(store.compact(-1), Err(Error::Compacted));
    assert_eq!(store.compact(7), Err(Error::FutureRev));
    assert_eq!(store.compact(0), Ok(()), "a store that was never compacted is so at −1");
    assert_eq!(store.compact(0), Err(Error::Compacted));
    assert_eq!(store.compact(6), Ok(()));
    assert_eq!(store.compact(6), Err(Error::Compacted));
    assert_eq!((store.revision(), store.compacted()), (6, 6), "it is no change");
}

#[test]
fn a_tombstone_at_exactly_the_compact_revision_stays_and_one_below_goes() {
    let mut store = Store::default();
    put(&mut store, "a", "1"); // 2
    put(&mut store, "b", "1"); // 3
    delete(&mut store, "a", ""); // 4
    delete(&mut store, "b", ""); // 5
    store.compact(5).unwrap();
    sweep_all(&mut store);
    assert_eq!(history(&store), "5_0:bt", "a watch from 5 on is owed it");
    put(&mut store, "c", "1"); // 6
    store.compact(6).unwrap();
    sweep_all(&mut store);
    assert_eq!(history(&store), "6_0:c");
}

#[test]
fn a_tombstone_goes_even_if_its_sweep_was_overtaken() {
    let mut store = Store::default();
    put(&mut store, "a", "1"); // 2
    delete(&mut store, "a", ""); // 3
    put(&mut store, "b", "1"); // 4
    store.compact(3).unwrap();
    assert_eq!(store.sweep(2), 1);
    assert_eq!(store.sweeping(), Some(Sweep { cursor: Revision { main: 3, sub: 1 }, end: 3 }));
    assert_eq!(history(&store), "3_0:at 4_0:b");
    store.compact(4).unwrap();
    sweep_all(&mut store);
    assert_eq!(history(&store), "4_0:b");
}

#[test]
fn what_was_replaced_within_the_compact_revision_stays_for_those_who_watch_from_there() {
    let mut store = Store::default();
    // The end makes this deletion one that clashes with no put; see api/overlap.rs.
    let both = then(vec![op_put("a", "1"), op_delete("a", "\0"), op_put("b", "1")]);
    execute(&mut store, &both).unwrap(); // 2
    put(&mut store, "c", "1"); // 3
    store.compact(2).unwrap();
    sweep_all(&mut store);
    assert_eq!(history(&store), "2_0:a 2_1:at 2_2:b 3_0:c");
    store.compact(3).unwrap();
    sweep_all(&mut store);
    assert_eq!(history(&store), "2_2:b 3_0:c");
}

#[test]
fn a_sweep_looks_at_what_is_newly_compacted_and_at_nothing_else() {
    let mut store = Store::default();
    for number in 0..200 {
        put(&mut store, &format!("k{}", number % 10), "v");
    }
    let slices = |store: &mut Store, revision| {
        store.compact(revision).unwrap();
        let mut slices = 0;
        while store.sweeping().is_some() {
            store.sweep(10);
            slices += 1;
        }
        slices
    };
    assert_eq!(slices(&mut store, 181), 19, "180 changes and one slice that finds the end");
    assert_eq!(slices(&mut store, 191), 2, "ten, and the last one again");
    store.check();
    assert_eq!(store.key_count(), 10);
    assert_eq!(store.records().count(), 20, "those that show at 191, and what came after");
}

#[test]
fn records_are_the_same_however_far_a_sweep_is() {
    let mut stores = [Store::default(), Store::default()];
    for (is_lazy, store) in [false, true].into_iter().zip(&mut stores) {
        for round in 0..40 {
            let key = if round % 3 == 0 { "a" } else { "b" };
            put(store, key, "v");
            if round % 5 == 0 {
                delete(store, "a", "c");
            }
            if round % 7 == 0 {
                store.compact(store.revision() - 2).unwrap();
            }
            if !is_lazy {
                sweep_all(store);
            }
        }
        sweep_all(store);
    }
    let [swift, lazy] = stores
        .map(|store| store.records().map(|record| record.as_bytes().to_vec()).collect::<Vec<_>>());
    assert_eq!(swift, lazy, "a member's bytes must not tell how far it has swept");
}

// Chains.

#[test]
fn any_of_ten_thousand_versions_is_few_steps_away() {
    const VERSIONS: i64 = 10_000;
    let mut store = Store::default();
    for number in 0..VERSIONS {
        put(&mut store, "a", &format!("{number}"));
        if number == VERSIONS / 2 {
            // Where a chain was compacted it begins anew.
            store.compact(VERSIONS / 4).unwrap();
            sweep_all(&mut store);
        }
    }
    let steps_to = |revision: i64| {
        let mut record = store.get(b"a").unwrap();
        let mut steps = 0;
        while record.revision().main > revision {
            let chain = record.chain();
            let next = if chain.jump.main > revision { chain.jump } else { chain.prev };
            record = store.record(next).unwrap();
            steps += 1;
        }
        assert_eq!(record.value(), format!("{}", revision - 2).as_bytes());
        steps
    };
    let mut rng = crate::Rng::new(1);
    let mut most = 0;
    for _ in 0..2000 {
        let above = rng.below((3 * VERSIONS / 4).unsigned_abs());
        let revision = VERSIONS / 4 + i64::try_from(above).unwrap();
        most = most.max(steps_to(revision));
        let read = RangeRequest { key: bytes("a"), revision, ..RangeRequest::default() };
        assert_eq!(found(&store.range(&read).unwrap()), format!("a={}", revision - 2));
    }
    assert!(
        most <= 50,
        "{most} steps; twice the logarithm of 10 000 is 27, and there are two chains"
    );
}

#[test]
fn a_watcher_sees_what_was_before_the_request_unless_that_was_compacted() {
    let mut store = Store::default();
    put(&mut store, "a", "1"); // 2
    let both = then(vec![op_put("a", "2"), op_delete("a", "\0")]);
    execute(&mut store, &both).unwrap(); // 3
    put(&mut store, "a", "3"); // 4
    put(&mut store, "a", "4"); // 5
    let before = |store: &Store, main, sub| {
        let record = store.record(Revision { main, sub }).unwrap();
        store.before(&record).map(|before| words(&[before]))
    };
    assert_eq!(before(&store, 2, 0), None);
    assert_eq!(before(&store, 3, 0), Some("a=1".into()));
    assert_eq!(before(&store, 3, 1), Some("a=1".into()), "never what the same request wrote");
    assert_eq!(before(&store, 4, 0), None);
    assert_eq!(before(&store, 5, 0), Some("a=3".into()));
    store.compact(3).unwrap();
    assert_eq!(before(&store, 3, 1), None, "however far the sweep is");
    store.compact(4).unwrap();
    assert_eq!(before(&store, 5, 0), Some("a=3".into()), "the compact revision can be read");
}

// Hashes.

#[test]
fn a_hash_does_not_tell_how_far_a_sweep_is() {
    let mut store = Store::default();
    for (key, value) in [("a", "1"), ("a", "2"), ("b", "1"), ("a", "3")] {
        put(&mut store, key, value); // 2 to 5
    }
    delete(&mut store, "b", ""); // 6
    put(&mut store, "b", "2"); // 7
    delete(&mut store, "a", "c"); // 8: nothing shows here
    put(&mut store, "c", "1"); // 9
    for compacted in 2..=8 {
        let mut store = store.clone();
        store.compact(compacted).unwrap();
        let hashes = |store: &Store| -> Vec<_> {
            (compacted..=9)
                .map(|revision| store.hash(revision, store.sweeping()).unwrap())
                .collect()
        };
        let expected = hashes(&store);
        while store.sweeping().is_some() {
            store.sweep(1);
            assert_eq!(hashes(&store), expected, "compacted at {compacted}");
        }
    }
}

#[test]
fn a_hash_where_nothing_shows_is_of_what_the_compaction_leaves() {
    let mut store = Store::default();
    put(&mut store, "a", "1"); // 2
    put(&mut store, "a", "2"); // 3
    store.compact(3).unwrap();
    delete(&mut store, "a", ""); // 4
    let mut expected = crc32c::crc32c(b"key");
    for (main, kind) in [(3, ""), (4, "t")] {
        let revision = Revision::first_of(main);
        expected = crc32c::crc32c_append(expected, &revision.to_bucket_key());
        expected = crc32c::crc32c_append(expected, kind.as_bytes());
        expected =
            crc32c::crc32c_append(expected, store.record(revision).unwrap().stored_message());
    }
    for _ in 0..2 {
        assert_eq!(store.hash(4, store.sweeping()).unwrap().hash, expected);
        sweep_all(&mut store);
    }
}

#[test]
fn a_hash_is_of_what_can_be_read() {
    let mut store = five_keys();
    store.compact(3).unwrap();
    let hash = |revision| store.hash(revision, store.sweeping());
    assert_eq!(hash(2), Err(Error::Compacted));
    assert_eq!(hash(7), Err(Error::FutureRev));
    assert_eq!(hash(0), hash(6));
    assert_ne!(hash(5).unwrap().hash, hash(6).unwrap().hash);
}

// Transactions.

#[test]
fn a_transaction_sees_its_own_writes_but_its_compares_do_not() {
    let mut store = Store::default();
    put(&mut store, "a", "old");
    let is_new = compare("a", CompareResult::Equal, TargetUnion::Value(bytes("new")));
    let nested = TxnRequest {
        compare: vec![is_new],
        success: vec![op_put("b", "the compare saw the put")],
        failure: vec![op_put("b", "the compare did not see the put")],
    };
    let read = RangeRequest { key: bytes("a"), ..RangeRequest::default() };
    let request = then(vec![
        op(Op::RequestRange(read.clone())),
        op_put("a", "new"),
        op(Op::RequestRange(read.clone())),
        op(Op::RequestTxn(nested)),
        op(Op::RequestRange(RangeRequest { revision: 2, ..read })),
    ]);
    let response = execute(&mut store, &request).unwrap();
    assert_eq!(store.get(b"b").unwrap().value(), b"the compare did not see the put");
    let ranges: Vec<_> = response
        .responses
        .iter()
        .filter_map(|op| match &op.response {
            Some(OpResponse::ResponseRange(range)) => {
                Some((range.kvs[0].value.as_ref(), range.header.unwrap().revision))
            }
            _ => None,
        })
        .collect();
    // Until something is written, the revision is the old one, as in etcd.
    assert_eq!(ranges, [(b"old".as_slice(), 2), (b"new", 3), (b"old", 3)]);
    assert_eq!(response.header.unwrap().revision, 3);
}

#[test]
fn a_put_after_a_deletion_in_one_transaction_creates_the_key_anew() {
    let mut store = Store::default();
    put(&mut store, "a", "1");
    put(&mut store, "a", "2");
    let request = then(vec![op_delete("a", "\0"), op_put("a", "3")]);
    execute(&mut store, &request).unwrap();
    let record = store.get(b"a").unwrap();
    assert_eq!((record.create_revision(), record.version()), (4, 1));
    assert_eq!(record.revision(), Revision { main: 4, sub: 1 });
    let read = |revision| words(&store.at(revision, &everything()).collect::<Vec<_>>());
    assert_eq!((read(3), read(4)), ("a=2".into(), "a=3".into()));
    store.check();
}

#[test]
fn a_deletion_after_a_put_in_one_transaction_leaves_nothing() {
    let mut store = Store::default();
    let request = then(vec![op_put("a", "1"), op_delete("a", "\0")]);
    let response = execute(&mut store, &request).unwrap();
    let Some(OpResponse::ResponseDeleteRange(deleted)) = &response.responses[1].response else {
        panic!("{response:?}");
    };
    assert_eq!((deleted.deleted, deleted.prev_kvs[0].value.as_ref()), (1, b"1".as_slice()));
    assert_eq!((store.revision(), store.key_count()), (2, 0));
    assert_eq!(history(&store), "2_0:a 2_1:at");
    store.check();
}

#[test]
fn a_put_keeps_nothing_of_what_its_own_transaction_deleted() {
    let mut store = Store::default();
    put(&mut store, "a", "1");
    let keeping = PutRequest { key: bytes("a"), ignore_value: true, ..PutRequest::default() };
    let request = then(vec![op_delete("a", "\0"), op(Op::RequestPut(keeping))]);
    // The key was there before the transaction, so it is accepted; etcd's server dies of it.
    execute(&mut store, &request).unwrap();
    let record = store.get(b"a").unwrap();
    assert_eq!((record.value(), record.version()), (b"".as_slice(), 1));
}

#[test]
fn a_value_compare_of_a_missing_key_never_holds_and_others_see_zero() {
    let mut store = Store::default();
    put(&mut store, "a", "1");
    let mut holds = |compare: Compare| {
        let request = TxnRequest { compare: vec![compare], ..TxnRequest::default() };
        execute(&mut store, &request).unwrap().succeeded
    };
    for result in
        [CompareResult::Equal, CompareResult::NotEqual, CompareResult::Less, CompareResult::Greater]
    {
        assert!(!holds(compare("b", result, TargetUnion::Value(Bytes::new()))), "{result:?}");
        assert!(!holds(compare("b", result, TargetUnion::Value(bytes("1")))), "{result:?}");
    }
    for (zero, one) in [
        (TargetUnion::Version(0), TargetUnion::Version(1)),
        (TargetUnion::CreateRevision(0), TargetUnion::CreateRevision(1)),
        (TargetUnion::ModRevision(0), TargetUnion::ModRevision(1)),
        (TargetUnion::Lease(0), TargetUnion::Lease(1)),
    ] {
        assert!(holds(compare("b", CompareResult::Equal, zero.clone())));
        assert!(!holds(compare("b", CompareResult::NotEqual, zero)));
        assert!(holds(compare("b", CompareResult::Less, one)));
    }
    // What is given for another target counts as zero, as does nothing.
    let mut odd = compare("a", CompareResult::Greater, TargetUnion::Lease(99));
    odd.target = CompareTarget::Version.into();
    assert!(holds(odd.clone()));
    assert!(holds(Compare { target_union: None, ..odd }));
}

#[test]
fn a_compare_of_an_interval_must_hold_for_each_key_and_an_empty_one_is_one_missing_key() {
    let mut store = Store::default();
    put(&mut store, "a", "1"); // 2
    put(&mut store, "b", "1"); // 3
    let mut holds = |key: &str, range_end: &str, result, given| {
        let compare = Compare { range_end: bytes(range_end), ..compare(key, result, given) };
        let request = TxnRequest { compare: vec![compare], ..TxnRequest::default() };
        execute(&mut store, &request).unwrap().succeeded
    };
    let (created, equal) = (TargetUnion::CreateRevision, CompareResult::Equal);
    assert!(holds("a", "c", CompareResult::Less, created(4)));
    assert!(!holds("a", "c", CompareResult::Less, created(3)));
    assert!(holds("a", "\0", equal, TargetUnion::Value(bytes("1"))));
    for (key, range_end) in [("c", "\0"), ("c", "d"), ("b", "a")] {
        assert!(holds(key, range_end, equal, created(0)));
        assert!(!holds(key, range_end, CompareResult::NotEqual, created(0)));
        assert!(!holds(key, range_end, CompareResult::NotEqual, TargetUnion::Value(bytes("1"))));
    }
}

#[test]
fn a_transaction_that_fails_has_changed_nothing() {
    let mut store = Store::default();
    put(&mut store, "a", "1");
    let with_lease = PutRequest { key: bytes("b"), lease: 7, ..PutRequest::default() };
    let keeping = PutRequest { key: bytes("b"), ignore_value: true, ..PutRequest::default() };
    let future = RangeRequest { key: bytes("a"), revision: 3, ..RangeRequest::default() };
    for (culprit, error) in [
        (Op::RequestPut(with_lease), Error::LeaseNotFound),
        (Op::RequestPut(keeping), Error::KeyNotFound),
        (Op::RequestRange(future), Error::FutureRev),
    ] {
        let nested = op(Op::RequestTxn(then(vec![op(culprit)])));
        let request = then(vec![op_put("a", "2"), op_put("b", "2"), nested.clone()]);
        assert_eq!(execute(&mut store, &request), Err(error));
        assert_eq!((store.revision(), history(&store).as_str()), (2, "2_0:a"));
        // On the branch that is not taken it does not matter.
        let unharmed = TxnRequest { failure: vec![nested], ..then(vec![op_delete("x", "")]) };
        assert!(execute(&mut store, &unharmed).unwrap().succeeded);
    }
}

#[test]
fn a_transaction_that_changes_nothing_is_no_revision() {
    let mut store = Store::default();
    put(&mut store, "a", "1");
    let response = execute(&mut store, &then(vec![op_delete("b", "\0")])).unwrap();
    assert_eq!((store.revision(), response.header.unwrap().revision), (2, 2));
    assert_eq!(execute(&mut store, &TxnRequest::default()).unwrap().responses, []);
}

#[test]
fn a_negative_revision_in_a_transaction_is_compacted_as_soon_as_anything_is() {
    let mut store = five_keys();
    let read = |store: &Store, revision| {
        let request = then(vec![op(Op::RequestRange(RangeRequest { revision, ..range() }))]);
        txn::read(store, &request).map(|response| response.responses.len())
    };
    assert_eq!(read(&store, -1), Ok(1));
    assert_eq!(read(&store, -2), Err(Error::Compacted), "below that of a store never compacted");
    store.compact(2).unwrap();
    assert_eq!(read(&store, -1), Err(Error::Compacted));
    assert_eq!(read(&store, 0), Ok(1));
}

// Restoring.

fn restore(
    mut records: impl Iterator<Item = impl core::borrow::Borrow<Record>>,
    revision: i64,
    compacted: i64,
) -> Option<Store> {
    let mut restore = Restore::new(revision, compacted);
    records.try_for_each(|record| restore.push(record.borrow().clone()))?;
    Some(restore.finish())
}

#[test]
fn a_store_comes_back_out_of_its_history() {
    let mut store = five_keys();
    put(&mut store, "a", "6"); // 7
    delete(&mut store, "b", "d"); // 8
    store.compact(7).unwrap();
    store.sweep(3);
    let mut restored = restore(store.records(), 8, 7).unwrap();
    restored.resume_sweep(store.sweeping());
    for store in [&mut store, &mut restored] {
        sweep_all(store);
        put(store, "c", "new");
    }
    assert_eq!(history(&store), history(&restored));
    assert!(store.records().eq(restored.records()));
    assert_eq!(store.bytes(), restored.bytes());
}

#[test]
fn records_out_of_order_are_no_history() {
    let store = five_keys();
    let records: Vec<Record> = store.records().collect();
    let restore = |records: &[&Record]| restore(records.iter().copied(), 3, -1);
    assert!(restore(&[&records[0], &records[1]]).is_some());
    assert!(restore(&[&records[1], &records[0]]).is_none(), "the wrong way round");
    assert!(restore(&[&records[0], &records[0]]).is_none(), "one twice");
    assert!(restore(&[&records[2]]).is_none(), "of the future");
}
