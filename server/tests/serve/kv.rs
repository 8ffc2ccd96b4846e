//! The key space: ranges, puts, deletions, transactions, compactions, ranges in parts.

use bytes::Bytes;
use cairn_engine::api::etcdserverpb::compare::{CompareResult, TargetUnion};
use cairn_engine::api::etcdserverpb::range_request::{SortOrder, SortTarget};
use cairn_engine::api::etcdserverpb::request_op::Request;
use cairn_engine::api::etcdserverpb::response_op::Response;
use cairn_engine::api::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse, TxnRequest,
};
use cairn_engine::api::mvccpb::KeyValue;
use tonic::Code;
use tonic::transport::Channel;

use crate::ask::{between, compare, delete, everything, keys, put, range, refusal, txn, with};
use crate::client::etcdserverpb::kv_client::KvClient;
use crate::harness::{Member, on_both_runtimes};

on_both_runtimes! {
    a_put_is_read_back,
    a_put_keeps_what_it_is_told_to_keep,
    a_range_obeys_its_options,
    a_range_sorts_and_filters,
    a_range_reads_the_past,
    a_deletion_says_what_it_deleted,
    a_transaction_takes_one_branch,
    a_transaction_compares_everything,
    a_transaction_nests,
    a_compaction_forgets_the_past,
    a_range_in_parts_is_the_whole_range,
    every_error_has_etcds_code_and_text,
    large_requests_and_answers_pass,
    many_calls_share_one_connection,
}

/// Puts `a`=1 … `e`=5 at revisions 2 to 6.
async fn five(kv: &mut KvClient<Channel>) {
    for (key, value) in [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("e", "5")] {
        kv.put(put(key, value)).await.unwrap();
    }
}

async fn ask(kv: &mut KvClient<Channel>, request: RangeRequest) -> RangeResponse {
    kv.range(request).await.unwrap().into_inner()
}

async fn a_put_is_read_back(member: &mut Member) {
    let mut kv = member.kv();
    let fresh = ask(&mut kv, range("key")).await;
    let header = fresh.header.unwrap();
    assert_eq!((header.revision, header.raft_term), (1, 1));
    assert!(header.cluster_id != 0 && header.member_id != 0);
    assert_eq!((fresh.kvs, fresh.count), (vec![], 0));

    let answer = kv.put(put("key", "value")).await.unwrap().into_inner();
    assert_eq!(answer.header.unwrap().revision, 2);
    assert_eq!(answer.prev_kv, None);
    let first = KeyValue {
        key: Bytes::from_static(b"key"),
        value: Bytes::from_static(b"value"),
        create_revision: 2,
        mod_revision: 2,
        version: 1,
        lease: 0,
    };
    assert_eq!(ask(&mut kv, range("key")).await.kvs, vec![first.clone()]);

    // Keys and values are bytes, and values may be empty.
    let bytes = Bytes::from_static(&[0, 0xff, 0x80]);
    kv.put(put(bytes.clone(), bytes.clone())).await.unwrap();
    let found = ask(&mut kv, range(bytes.clone())).await.kvs;
    assert_eq!((&found[0].key, &found[0].value), (&bytes, &bytes));

    let again = PutRequest { prev_kv: true, ..put("key", "") };
    let answer = kv.put(again).await.unwrap().into_inner();
    assert_eq!(answer.prev_kv, Some(first.clone()));
    let found = ask(&mut kv, range("key")).await.kvs;
    let second = KeyValue { value: Bytes::new(), mod_revision: 4, version: 2, ..first };
    assert_eq!(found, [second]);
}

async fn a_put_keeps_what_it_is_told_to_keep(member: &mut Member) {
    let mut kv = member.kv();
    let mut lease = crate::client::etcdserverpb::lease_client::LeaseClient::new(member.channel());
    let grant = cairn_engine::api::etcdserverpb::LeaseGrantRequest { ttl: 100, id: 7 };
    lease.lease_grant(grant).await.unwrap();
    kv.put(PutRequest { lease: 7, ..put("key", "old") }).await.unwrap();

    kv.put(PutRequest { ignore_lease: true, ..put("key", "new") }).await.unwrap();
    let found = ask(&mut kv, range("key")).await.kvs.remove(0);
    assert_eq!((&*found.value, found.lease), (&b"new"[..], 7));

    kv.put(PutRequest { ignore_value: true, ..put("key", "") }).await.unwrap();
    let found = ask(&mut kv, range("key")).await.kvs.remove(0);
    assert_eq!((&*found.value, found.lease, found.version), (&b"new"[..], 0, 3));
}

async fn a_range_obeys_its_options(member: &mut Member) {
    let mut kv = member.kv();
    five(&mut kv).await;
    for (request, expected, more, count) in [
        (range("a"), "a", false, 1),
        (range("x"), "", false, 0),
        (between("b", "d"), "bc", false, 2),
        (between("c", "\0"), "cde", false, 3),
        (everything(), "abcde", false, 5),
        (between("d", "b"), "", false, 0),
        (RangeRequest { limit: 2, ..everything() }, "ab", true, 5),
        (RangeRequest { limit: 5, ..everything() }, "abcde", false, 5),
        (RangeRequest { count_only: true, ..everything() }, "", false, 5),
        (RangeRequest { serializable: true, ..everything() }, "abcde", false, 5),
    ] {
        let answer = ask(&mut kv, request.clone()).await;
        assert_eq!(keys(&answer.kvs).concat(), expected, "{request:?}");
        assert_eq!((answer.more, answer.count), (more, count), "{request:?}");
        assert_eq!(answer.header.unwrap().revision, 6);
    }
    let bare = ask(&mut kv, RangeRequest { keys_only: true, ..everything() }).await;
    assert!(bare.kvs.iter().all(|kv| kv.value.is_empty() && kv.mod_revision > 1));
}

async fn a_range_sorts_and_filters(member: &mut Member) {
    let mut kv = member.kv();
    // Values and revisions fall while keys rise; `b` is the newest.
    for (key, value) in [("d", "1"), ("c", "2"), ("b", "3"), ("a", "4"), ("b", "0")] {
        kv.put(put(key, value)).await.unwrap();
    }
    let sorted = |order: SortOrder, target: SortTarget| RangeRequest {
        sort_order: order.into(),
        sort_target: target.into(),
        ..everything()
    };
    let filtered = |change: fn(&mut RangeRequest)| {
        let mut request = everything();
        change(&mut request);
        request
    };
    for (request, expected) in [
        (sorted(SortOrder::Descend, SortTarget::Key), "dcba"),
        (sorted(SortOrder::Ascend, SortTarget::Create), "dcba"),
        (sorted(SortOrder::Ascend, SortTarget::Mod), "dcab"),
        (sorted(SortOrder::Descend, SortTarget::Mod), "bacd"),
        (sorted(SortOrder::Ascend, SortTarget::Value), "bdca"),
        (sorted(SortOrder::None, SortTarget::Value), "bdca"),
        (RangeRequest { limit: 1, ..sorted(SortOrder::Descend, SortTarget::Version) }, "b"),
        (filtered(|request| request.min_mod_revision = 5), "ab"),
        (filtered(|request| request.max_mod_revision = 4), "cd"),
        (filtered(|request| request.min_create_revision = 4), "ab"),
        (filtered(|request| request.max_create_revision = 3), "cd"),
    ] {
        let answer = ask(&mut kv, request.clone()).await;
        assert_eq!(keys(&answer.kvs).concat(), expected, "{request:?}");
        assert_eq!(answer.count, 4, "the count knows no filters");
    }
}

async fn a_range_reads_the_past(member: &mut Member) {
    let mut kv = member.kv();
    five(&mut kv).await;
    kv.delete_range(delete("a", "d")).await.unwrap();
    for (revision, expected) in [(3, "ab"), (6, "abcde"), (7, "de"), (0, "de"), (-1, "de")] {
        let answer = ask(&mut kv, RangeRequest { revision, ..everything() }).await;
        assert_eq!(keys(&answer.kvs).concat(), expected, "at {revision}");
        assert_eq!(answer.header.unwrap().revision, 7, "the header is always current");
    }
}

async fn a_deletion_says_what_it_deleted(member: &mut Member) {
    let mut kv = member.kv();
    five(&mut kv).await;
    let request = DeleteRangeRequest { prev_kv: true, ..delete("b", "d") };
    let answer = kv.delete_range(request).await.unwrap().into_inner();
    assert_eq!((answer.deleted, answer.header.unwrap().revision), (2, 7));
    assert_eq!(keys(&answer.prev_kvs), ["b", "c"]);
    let answer = kv.delete_range(delete("b", "")).await.unwrap().into_inner();
    assert_eq!((answer.deleted, answer.header.unwrap().revision), (0, 7));
    let answer = kv.delete_range(delete("\0", "\0")).await.unwrap().into_inner();
    assert_eq!((answer.deleted, answer.prev_kvs), (3, vec![]));
    // A key that comes back begins anew.
    kv.put(put("a", "again")).await.unwrap();
    let found = ask(&mut kv, range("a")).await.kvs.remove(0);
    assert_eq!((found.create_revision, found.mod_revision, found.version), (9, 9, 1));
}

async fn a_transaction_takes_one_branch(member: &mut Member) {
    let mut kv = member.kv();
    five(&mut kv).await;
    let absent = |key| compare(key, CompareResult::Equal, TargetUnion::CreateRevision(0));
    let request = |key| {
        txn(
            vec![absent(key)],
            vec![
                Request::RequestPut(PutRequest { prev_kv: true, ..put("a", "then") }),
                Request::RequestRange(range("a")),
                Request::RequestDeleteRange(delete("b", "d")),
                Request::RequestRange(everything()),
            ],
            vec![Request::RequestRange(range("a"))],
        )
    };
    let answer = kv.txn(request("x")).await.unwrap().into_inner();
    assert!(answer.succeeded);
    assert_eq!(answer.header.unwrap().revision, 7);
    let [
        Some(Response::ResponsePut(put)),
        Some(Response::ResponseRange(one)),
        Some(Response::ResponseDeleteRange(deleted)),
        Some(Response::ResponseRange(rest)),
    ] = <[_; 4]>::try_from(answer.responses).unwrap().map(|op| op.response)
    else {
        panic!("each question has its answer")
    };
    assert_eq!(&*put.prev_kv.unwrap().value, b"1");
    assert_eq!((&*one.kvs[0].value, one.kvs[0].mod_revision), (&b"then"[..], 7));
    assert_eq!((deleted.deleted, keys(&rest.kvs).concat()), (2, "ade".to_owned()));

    let answer = kv.txn(request("a")).await.unwrap().into_inner();
    assert!(!answer.succeeded);
    assert_eq!((answer.header.unwrap().revision, answer.responses.len()), (7, 1));
    // One without anything succeeds.
    assert!(kv.txn(TxnRequest::default()).await.unwrap().into_inner().succeeded);
}

async fn a_transaction_compares_everything(member: &mut Member) {
    use CompareResult::{Equal, Greater, Less, NotEqual};
    use TargetUnion::{CreateRevision, Lease, ModRevision, Value, Version};
    let mut kv = member.kv();
    five(&mut kv).await;
    kv.put(put("a", "11")).await.unwrap();
    let bytes = |text: &'static str| Value(Bytes::from_static(text.as_bytes()));
    for (comparison, holds) in [
        (compare("a", Equal, Version(2)), true),
        (compare("a", Equal, Version(1)), false),
        (compare("a", Greater, CreateRevision(1)), true),
        (compare("a", Less, ModRevision(7)), false),
        (compare("a", NotEqual, ModRevision(2)), true),
        (compare("a", Equal, bytes("11")), true),
        (compare("a", Greater, bytes("1")), true),
        (compare("a", Less, bytes("2")), true),
        (compare("a", Equal, Lease(0)), true),
        (compare("x", Equal, ModRevision(0)), true),
        (compare("x", NotEqual, bytes("anything")), false),
    ] {
        let request = txn(vec![comparison.clone()], vec![], vec![]);
        let answer = kv.txn(request).await.unwrap().into_inner();
        assert_eq!(answer.succeeded, holds, "{comparison:?}");
    }
    // An interval: all of its keys, or as one missing key.
    for (start, end, version, holds) in
        [("b", "e", 1, true), ("a", "c", 1, false), ("x", "z", 0, true)]
    {
        let mut comparison = compare(start, Equal, Version(version));
        comparison.range_end = Bytes::from_static(end.as_bytes());
        let answer = kv.txn(txn(vec![comparison], vec![], vec![])).await.unwrap();
        assert_eq!(answer.into_inner().succeeded, holds, "[{start}, {end})");
    }
}

async fn a_transaction_nests(member: &mut Member) {
    let mut kv = member.kv();
    // All comparisons look at the state before: the inner one does not see the outer put.
    let absent = || compare("a", CompareResult::Equal, TargetUnion::Version(0));
    let inner = txn(vec![absent()], vec![Request::RequestPut(put("b", "2"))], vec![]);
    let outer =
        txn(vec![], vec![Request::RequestPut(put("a", "1")), Request::RequestTxn(inner)], vec![]);
    let answer = kv.txn(outer).await.unwrap().into_inner();
    let Some(Response::ResponseTxn(nested)) = &answer.responses[1].response else {
        panic!("a transaction answers a transaction")
    };
    assert!(nested.succeeded);
    assert_eq!(nested.responses.len(), 1);
    let found = ask(&mut kv, everything()).await.kvs;
    assert_eq!(keys(&found), ["a", "b"]);
    assert!(found.iter().all(|kv| kv.mod_revision == 2), "one revision for all of it");
}

async fn a_compaction_forgets_the_past(member: &mut Member) {
    let mut kv = member.kv();
    five(&mut kv).await;
    kv.put(put("a", "6")).await.unwrap();
    let compaction = CompactionRequest { revision: 4, physical: true };
    let answer = kv.compact(compaction).await.unwrap().into_inner();
    assert_eq!(answer.header.unwrap().revision, 7);
    let at = |revision| RangeRequest { revision, ..everything() };
    let compacted =
        with(Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted");
    assert_eq!(refusal(kv.range(at(3)).await), compacted);
    assert_eq!(keys(&ask(&mut kv, at(4)).await.kvs).concat(), "abc");
    // What is compacted already cannot be compacted, nor can the future.
    assert_eq!(refusal(kv.compact(compaction).await), compacted);
    let future = CompactionRequest { revision: 8, physical: false };
    assert_eq!(
        refusal(kv.compact(future).await),
        with(Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision")
    );
}

async fn a_range_in_parts_is_the_whole_range(member: &mut Member) {
    let mut kv = member.kv();
    let value = Bytes::from(vec![7; 100_000]);
    for number in 0..60 {
        kv.put(put(format!("{number:02}"), value.clone())).await.unwrap();
    }
    for request in [
        everything(),
        RangeRequest { limit: 25, ..everything() },
        RangeRequest { count_only: true, ..everything() },
        RangeRequest { revision: 30, keys_only: true, ..everything() },
        RangeRequest { serializable: true, ..between("1", "2") },
        range("nothing"),
    ] {
        let whole = ask(&mut kv, request.clone()).await;
        let mut parts = kv.range_stream(request.clone()).await.unwrap().into_inner();
        let mut sum = RangeResponse::default();
        let mut number = 0;
        while let Some(part) = parts.message().await.unwrap() {
            assert_eq!(sum.header, None, "only the last part has a header");
            let part = part.range_response.expect("a part of the range");
            assert!(number > 0 || part.kvs.len() <= 10, "the first part is small");
            sum.kvs.extend(part.kvs);
            (sum.header, sum.more, sum.count) = (part.header, part.more, part.count);
            number += 1;
        }
        assert_eq!(sum.header.map(|header| header.revision), Some(61));
        assert!(request != everything() || number > 2, "six megabytes come in parts");
        assert_eq!(sum, whole, "{request:?}");
    }
    let sorted = RangeRequest { sort_order: SortOrder::Descend.into(), ..everything() };
    assert_eq!(
        refusal(kv.range_stream(sorted).await),
        with(Code::Unimplemented, "RangeStream does not support custom sort orders")
    );
    let filtered = RangeRequest { min_mod_revision: 2, ..everything() };
    assert_eq!(
        refusal(kv.range_stream(filtered).await),
        with(Code::Unimplemented, "RangeStream does not support revision filters")
    );
    let future = RangeRequest { revision: 100, ..everything() };
    assert_eq!(
        refusal(kv.range_stream(future).await),
        with(Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision")
    );
}

async fn every_error_has_etcds_code_and_text(member: &mut Member) {
    let mut kv = member.kv();
    five(&mut kv).await;
    let invalid = |text: &str| with(Code::InvalidArgument, text);
    let empty = invalid("etcdserver: key is not provided");
    let missing = invalid("etcdserver: key not found");
    let unsorted = invalid("etcdserver: invalid sort option");
    let no_lease = with(Code::NotFound, "etcdserver: requested lease not found");
    let future = with(Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision");

    for (request, error) in [
        (range(""), &empty),
        (RangeRequest { sort_order: 3, ..range("a") }, &unsorted),
        (RangeRequest { sort_target: -1, ..range("a") }, &unsorted),
        (RangeRequest { revision: 7, ..range("a") }, &future),
    ] {
        assert_eq!(refusal(kv.range(request.clone()).await), *error, "{request:?}");
        assert_eq!(refusal(kv.range_stream(request.clone()).await), *error, "{request:?}");
    }
    for (request, error) in [
        (put("", "1"), empty.clone()),
        (
            PutRequest { ignore_value: true, ..put("a", "1") },
            invalid("etcdserver: value is provided"),
        ),
        (
            PutRequest { ignore_lease: true, lease: 1, ..put("a", "1") },
            invalid("etcdserver: lease is provided"),
        ),
        (PutRequest { ignore_value: true, ..put("x", "") }, missing.clone()),
        (PutRequest { ignore_lease: true, ..put("x", "1") }, missing.clone()),
        (PutRequest { lease: 1, ..put("a", "1") }, no_lease.clone()),
        // As large as a message may be, but not as an entry of the log.
        (put("a", vec![0; 1_572_864]), invalid("etcdserver: request is too large")),
    ] {
        assert_eq!(refusal(kv.put(request.clone()).await), error, "{:?}", request.key);
    }
    assert_eq!(refusal(kv.delete_range(delete("", "x")).await), empty);

    let puts = |keys: &[&'static str]| -> Vec<Request> {
        keys.iter().map(|key| Request::RequestPut(put(*key, "1"))).collect()
    };
    let unset = TxnRequest { success: vec![Default::default()], ..TxnRequest::default() };
    let many = vec![Request::RequestRange(range("a")); 129];
    let mut both = puts(&["c"]);
    both.push(Request::RequestDeleteRange(delete("a", "d")));
    let leased = Request::RequestPut(PutRequest { lease: 1, ..put("a", "1") });
    let ahead = Request::RequestRange(RangeRequest { revision: 7, ..range("a") });
    let keyless = compare("", CompareResult::Equal, TargetUnion::Version(0));
    for (request, error) in [
        (txn(vec![], many, vec![]), invalid("etcdserver: too many operations in txn request")),
        (
            txn(vec![], puts(&["a", "a"]), vec![]),
            invalid("etcdserver: duplicate key given in txn request"),
        ),
        (txn(vec![], vec![], both), invalid("etcdserver: duplicate key given in txn request")),
        (txn(vec![], puts(&[""]), vec![]), empty.clone()),
        (txn(vec![keyless], vec![], vec![]), empty),
        (unset, missing),
        (txn(vec![], vec![leased], puts(&["a"])), no_lease),
        (txn(vec![], vec![ahead.clone()], vec![]), future.clone()),
        // Nothing of a transaction happens that is refused.
        (txn(vec![], [puts(&["z"]), vec![ahead]].concat(), vec![]), future),
    ] {
        assert_eq!(refusal(kv.txn(request.clone()).await), error, "{request:?}");
    }
    let left = ask(&mut kv, everything()).await;
    assert_eq!((left.header.unwrap().revision, left.count), (6, 5), "nothing has changed");
}

async fn large_requests_and_answers_pass(member: &mut Member) {
    let mut kv = member.kv();
    let value: Bytes = (0..=255).cycle().take(1_500_000).collect::<Vec<u8>>().into();
    for number in 0..8 {
        kv.put(put(format!("large/{number}"), value.clone())).await.unwrap();
    }
    let answer = ask(&mut kv, everything()).await;
    assert_eq!(answer.kvs.len(), 8);
    assert!(answer.kvs.iter().all(|kv| kv.value == value));
    // The limit of messages, not of the log, and therefore gRPC's error.
    let (code, text) = refusal(kv.put(put("larger", vec![0; 2_200_000])).await);
    assert_eq!(code, Code::ResourceExhausted);
    assert!(text.contains("received message larger than max (2200"), "{text}");
    assert!(text.ends_with("vs. 2097152)"), "{text}");
}

async fn many_calls_share_one_connection(member: &mut Member) {
    let kv = member.kv();
    let mut calls = Vec::new();
    for number in 0..1000 {
        let mut kv = kv.clone();
        calls.push(tokio::spawn(async move {
            let key = format!("{number:04}");
            kv.put(put(key.clone(), key.clone())).await.unwrap();
            let answer = kv.range(range(key.clone())).await.unwrap().into_inner();
            assert_eq!(answer.kvs[0].value, key, "what was acknowledged is read");
            answer.kvs[0].mod_revision
        }));
    }
    let mut revisions = Vec::new();
    for call in calls {
        revisions.push(call.await.unwrap());
    }
    revisions.sort_unstable();
    assert!(revisions.iter().copied().eq(2..1002), "each put has a revision of its own");
}
