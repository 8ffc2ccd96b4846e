//! What a user of etcd-client does, against Cairn.
//!
//! The crate's `lock` and `election` call services that Cairn does not serve yet; the recipe below does the same with
//! keys, as etcd's own clients do.

use cairn_interop::Server;
use etcd_client::{
    AlarmAction, AlarmType, Client, Compare, CompareOp, DeleteOptions, Error, EventType,
    GetOptions, KeyValue, LeaseGrantOptions, LeaseTimeToLiveOptions, PutOptions, SortOrder,
    SortTarget, Txn, TxnOp, TxnOpResponse, WatchFilterType, WatchOptions, WatchStream,
};

async fn connect(server: &Server) -> Client {
    Client::connect([server.endpoint()], None).await.unwrap()
}

/// A key and its value, as text.
fn text(kv: &KeyValue) -> String {
    format!("{}={}", kv.key_str().unwrap(), kv.value_str().unwrap())
}

fn texts(kvs: &[KeyValue]) -> Vec<String> {
    kvs.iter().map(text).collect()
}

/// Code and text of a refusal.
fn refusal<T>(result: Result<T, Error>) -> (i32, String) {
    let Err(Error::GRpcStatus(status)) = result else { panic!("the server must refuse") };
    (status.code().into(), status.message().to_owned())
}

#[tokio::test]
async fn keys_and_values() {
    let server = Server::new();
    let mut client = connect(&server).await;
    for (key, value) in [("a", "1"), ("b", "2"), ("c", "3"), ("a", "4")] {
        client.put(key, value, None).await.unwrap();
    }
    let put = client.put("b", "5", Some(PutOptions::new().with_prev_key())).await.unwrap();
    assert_eq!(text(put.prev_key().unwrap()), "b=2");
    assert_eq!(put.header().unwrap().revision(), 6);

    let one = client.get("a", None).await.unwrap();
    let kv = &one.kvs()[0];
    assert_eq!((kv.create_revision(), kv.mod_revision(), kv.version()), (2, 5, 2));
    let all = client.get("", Some(GetOptions::new().with_all_keys())).await.unwrap();
    assert_eq!(texts(all.kvs()), ["a=4", "b=5", "c=3"]);
    let options = GetOptions::new().with_from_key().with_limit(1);
    let page = client.get("b", Some(options)).await.unwrap();
    assert_eq!((texts(page.kvs()), page.more(), page.count()), (vec!["b=5".into()], true, 2));
    let options = GetOptions::new().with_range("c").with_revision(3);
    assert_eq!(texts(client.get("a", Some(options)).await.unwrap().kvs()), ["a=1", "b=2"]);
    let options = GetOptions::new()
        .with_all_keys()
        .with_sort(SortTarget::Mod, SortOrder::Descend)
        .with_keys_only();
    assert_eq!(texts(client.get("", Some(options)).await.unwrap().kvs()), ["b=", "a=", "c="]);
    let options = GetOptions::new().with_all_keys().with_count_only();
    assert_eq!(client.get("", Some(options)).await.unwrap().count(), 3);

    let mut stream =
        client.kv_client().get_stream("", Some(GetOptions::new().with_all_keys())).await.unwrap();
    let mut streamed = Vec::new();
    while let Some(part) = stream.message().await.unwrap() {
        streamed.extend(texts(part.kvs()));
    }
    assert_eq!(streamed, ["a=4", "b=5", "c=3"]);

    let options = DeleteOptions::new().with_range("c").with_prev_key();
    let deleted = client.delete("a", Some(options)).await.unwrap();
    assert_eq!(
        (deleted.deleted(), texts(deleted.prev_kvs())),
        (2, vec!["a=4".into(), "b=5".into()])
    );
    client.compact(6, None).await.unwrap();
    let old = client.get("a", Some(GetOptions::new().with_revision(5))).await;
    let text = "etcdserver: mvcc: required revision has been compacted";
    assert_eq!(refusal(old), (11, text.to_owned()));
}

#[tokio::test]
async fn transactions() {
    let server = Server::new();
    let mut client = connect(&server).await;
    client.put("a", "1", None).await.unwrap();
    let inner = Txn::new()
        .when([Compare::version("b", CompareOp::Equal, 0)])
        .and_then([TxnOp::put("b", "2", None)])
        .or_else([TxnOp::delete("b", None)]);
    let outer = Txn::new()
        .when([
            Compare::value("a", CompareOp::Equal, "1"),
            Compare::mod_revision("a", CompareOp::Greater, 1),
            Compare::create_revision("a", CompareOp::Less, 3),
            Compare::lease("a", CompareOp::Equal, 0),
        ])
        .and_then([TxnOp::get("a", None), TxnOp::txn(inner)])
        .or_else([TxnOp::put("never", "", None)]);
    let response = client.txn(outer.clone()).await.unwrap();
    assert!(response.succeeded());
    let answers = response.op_responses();
    let [TxnOpResponse::Get(get), TxnOpResponse::Txn(nested)] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert_eq!(texts(get.kvs()), ["a=1"]);
    assert!(nested.succeeded());
    assert!(matches!(nested.op_responses()[..], [TxnOpResponse::Put(_)]));

    let again = client.txn(outer).await.unwrap();
    let answers = again.op_responses();
    let [TxnOpResponse::Get(_), TxnOpResponse::Txn(nested)] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert!(!nested.succeeded());
    let twice = Txn::new().and_then([TxnOp::put("k", "1", None), TxnOp::put("k", "2", None)]);
    let text = "etcdserver: duplicate key given in txn request";
    assert_eq!(refusal(client.txn(twice).await), (3, text.to_owned()));
}

/// The next events of a watch, as text.
async fn events(stream: &mut WatchStream, count: usize) -> Vec<String> {
    let mut found = Vec::new();
    while found.len() < count {
        let response = stream.message().await.unwrap().expect("the stream goes on");
        for event in response.events() {
            let what = match event.event_type() {
                EventType::Put => "put",
                EventType::Delete => "delete",
            };
            let before =
                event.prev_kv().map_or_else(String::new, |kv| format!(" was {}", text(kv)));
            found.push(format!("{what} {}{before}", text(event.kv().unwrap())));
        }
    }
    found
}

#[tokio::test]
async fn watches() {
    let server = Server::new();
    let mut client = connect(&server).await;
    client.put("w/a", "1", None).await.unwrap();
    client.put("w/a", "2", None).await.unwrap();
    let options = WatchOptions::new().with_prefix().with_start_revision(2).with_prev_key();
    let mut stream = client.watch("w/", Some(options)).await.unwrap();
    assert_eq!(events(&mut stream, 2).await, ["put w/a=1", "put w/a=2 was w/a=1"]);
    client.delete("w/a", None).await.unwrap();
    assert_eq!(events(&mut stream, 1).await, ["delete w/a= was w/a=2"]);

    // A second watcher on the same stream.
    let options = WatchOptions::new().with_watch_id(7).with_filters([WatchFilterType::NoDelete]);
    stream.watch("other", Some(options)).await.unwrap();
    let created = stream.message().await.unwrap().unwrap();
    assert_eq!((created.created(), created.watch_id()), (true, 7));
    client.put("other", "1", None).await.unwrap();
    client.delete("other", None).await.unwrap();
    client.put("other", "2", None).await.unwrap();
    assert_eq!(events(&mut stream, 2).await, ["put other=1", "put other=2"]);
    stream.request_progress().await.unwrap();
    let progress = stream.message().await.unwrap().unwrap();
    assert_eq!((progress.watch_id(), progress.events().len()), (-1, 0));
    assert_eq!(progress.header().unwrap().revision(), 7);
    stream.cancel(7).await.unwrap();
    let canceled = stream.message().await.unwrap().unwrap();
    assert_eq!((canceled.canceled(), canceled.watch_id()), (true, 7));

    client.compact(6, None).await.unwrap();
    let mut stream =
        client.watch("w/a", Some(WatchOptions::new().with_start_revision(3))).await.unwrap();
    let compacted = loop {
        let response = stream.message().await.unwrap().unwrap();
        if !response.created() {
            break response;
        }
    };
    assert_eq!((compacted.canceled(), compacted.compact_revision()), (true, 6));
}

#[tokio::test]
async fn leases() {
    let server = Server::new();
    let mut client = connect(&server).await;
    let options = LeaseGrantOptions::new().with_id(123);
    let lease = client.lease_grant(60, Some(options.clone())).await.unwrap();
    assert_eq!((lease.id(), lease.ttl()), (123, 60));
    let again = client.lease_grant(60, Some(options)).await;
    assert_eq!(refusal(again), (9, "etcdserver: lease already exists".to_owned()));
    client.put("leased", "1", Some(PutOptions::new().with_lease(123))).await.unwrap();

    let (mut keeper, mut renewals) = client.lease_keep_alive(123).await.unwrap();
    for _ in 0..3 {
        keeper.keep_alive().await.unwrap();
        assert_eq!(renewals.message().await.unwrap().unwrap().ttl(), 60);
    }
    let options = LeaseTimeToLiveOptions::new().with_keys();
    let left = client.lease_time_to_live(123, Some(options)).await.unwrap();
    assert_eq!((left.granted_ttl(), left.keys()), (60, &[b"leased".to_vec()][..]));
    assert!((1..=60).contains(&left.ttl()));
    let all: Vec<i64> =
        client.leases().await.unwrap().leases().iter().map(|lease| lease.id()).collect();
    assert_eq!(all, [123]);
    client.lease_revoke(123).await.unwrap();
    assert_eq!(client.get("leased", None).await.unwrap().count(), 0);
    let gone = client.lease_revoke(123).await;
    assert_eq!(refusal(gone), (5, "etcdserver: requested lease not found".to_owned()));
}

/// A lock from keys: whoever created the oldest key under the name holds it.
#[tokio::test]
async fn a_lock_from_leases_and_transactions() {
    let server = Server::new();
    let mut client = connect(&server).await;
    let mut keys = Vec::new();
    for _ in 0..2 {
        let lease = client.lease_grant(60, None).await.unwrap().id();
        let key = format!("lock/{lease:x}");
        let queue = Txn::new()
            .when([Compare::create_revision(key.clone(), CompareOp::Equal, 0)])
            .and_then([TxnOp::put(key.clone(), "", Some(PutOptions::new().with_lease(lease)))]);
        assert!(client.txn(queue).await.unwrap().succeeded());
        keys.push((key, lease));
    }
    let oldest = || {
        let first = GetOptions::new()
            .with_prefix()
            .with_sort(SortTarget::Create, SortOrder::Ascend)
            .with_limit(1);
        let mut client = client.clone();
        async move {
            client.get("lock/", Some(first)).await.unwrap().kvs()[0].key_str().unwrap().to_owned()
        }
    };
    assert_eq!(oldest().await, keys[0].0);
    let mut released = client.clone().watch(keys[0].0.clone(), None).await.unwrap();
    client.clone().lease_revoke(keys[0].1).await.unwrap();
    let event = events(&mut released, 1).await;
    assert_eq!(event, [format!("delete {}=", keys[0].0)]);
    assert_eq!(oldest().await, keys[1].0);
}

#[tokio::test]
async fn maintenance() {
    let server = Server::new();
    let mut client = connect(&server).await;
    client.put("a", "1", None).await.unwrap();
    let status = client.status().await.unwrap();
    assert!(status.version().starts_with("3.7."), "{}", status.version());
    assert_eq!(status.leader(), status.header().unwrap().member_id());
    assert!(status.db_size() > 0 && status.raft_applied_index() > 0 && !status.is_learner());
    assert_eq!(status.errors(), [] as [String; 0]);
    let members = client.member_list().await.unwrap();
    assert_eq!(members.members()[0].client_urls(), [format!("http://{}", server.endpoint())]);
    let alarms = client.alarm(AlarmAction::Get, AlarmType::None, None).await.unwrap();
    assert!(alarms.alarms().is_empty());
    client.defragment().await.unwrap();
    client.hash().await.unwrap();
    let hash = client.hash_kv(0).await.unwrap();
    assert_eq!((hash.compact_version(), hash.hash_revision()), (-1, 2));

    let mut snapshot = client.snapshot().await.unwrap();
    let (mut bytes, mut remaining) = (0, u64::MAX);
    while let Some(part) = snapshot.message().await.unwrap() {
        assert!(part.remaining_bytes() <= remaining);
        remaining = part.remaining_bytes();
        bytes += part.blob().len();
    }
    assert_eq!(remaining, 0);
    // Pages, and behind them their SHA-256.
    assert_eq!(bytes % 512, 32);
}
