//! Leases: granted, renewed, counted down, revoked, expired.

use core::time::Duration;

use cairn_engine::api::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, PutRequest, WatchCreateRequest, WatchRequest, watch_request,
};
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::Instant;
use tonic::Code;
use tonic::codegen::tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;

use crate::ask::{everything, keys, put, range, refusal, with};
use crate::client::etcdserverpb::lease_client::LeaseClient;
use crate::client::etcdserverpb::watch_client::WatchClient;
use crate::harness::{Member, on_both_runtimes};

on_both_runtimes! {
    a_lease_is_granted,
    a_lease_that_cannot_be_granted_is_refused,
    a_lease_says_how_long_it_lives_and_for_whom,
    a_revoked_lease_takes_its_keys_along,
    a_lease_is_kept_alive_by_a_stream,
    a_lease_expires_with_its_keys_and_not_early,
    a_deadline_survives_a_crash,
}

fn leases(member: &Member) -> LeaseClient<Channel> {
    LeaseClient::new(member.channel())
}

async fn grant(client: &mut LeaseClient<Channel>, id: i64, ttl: i64) -> (i64, i64) {
    let granted = client.lease_grant(LeaseGrantRequest { id, ttl }).await.unwrap().into_inner();
    assert_eq!(granted.error, "");
    (granted.id, granted.ttl)
}

async fn time_to_live(client: &mut LeaseClient<Channel>, id: i64) -> (i64, i64) {
    let request = LeaseTimeToLiveRequest { id, keys: false };
    let answer = client.lease_time_to_live(request).await.unwrap().into_inner();
    assert_eq!((answer.id, answer.keys.len()), (id, 0));
    (answer.ttl, answer.granted_ttl)
}

async fn a_lease_is_granted(member: &mut Member) {
    let mut client = leases(member);
    assert_eq!(grant(&mut client, 77, 100).await, (77, 100));
    assert_eq!(grant(&mut client, -1, 100).await, (-1, 100), "any number but zero is an id");
    assert_eq!(grant(&mut client, 78, 0).await, (78, 2), "the least is what elections need");
    let (first, _) = grant(&mut client, 0, 50).await;
    let (second, _) = grant(&mut client, 0, 50).await;
    assert!(first > 0 && second > 0 && first != second);
    let answer = client.lease_leases(LeaseLeasesRequest {}).await.unwrap().into_inner();
    let ids: Vec<i64> = answer.leases.iter().map(|lease| lease.id).collect();
    assert_eq!(ids.len(), 5);
    assert_eq!(ids[0], 78, "the one that ends first stands first");
    assert_eq!(answer.header.unwrap().revision, 1, "leases are no changes of the key space");
}

async fn a_lease_that_cannot_be_granted_is_refused(member: &mut Member) {
    let mut client = leases(member);
    grant(&mut client, 7, 100).await;
    let again = client.lease_grant(LeaseGrantRequest { id: 7, ttl: 100 }).await;
    assert_eq!(refusal(again), with(Code::FailedPrecondition, "etcdserver: lease already exists"));
    let endless = client.lease_grant(LeaseGrantRequest { id: 8, ttl: 9_000_000_001 }).await;
    assert_eq!(refusal(endless), with(Code::OutOfRange, "etcdserver: too large lease TTL"));
    let longest = client.lease_grant(LeaseGrantRequest { id: 8, ttl: 9_000_000_000 }).await;
    assert_eq!(longest.unwrap().into_inner().ttl, 9_000_000_000);
}

async fn a_lease_says_how_long_it_lives_and_for_whom(member: &mut Member) {
    let (mut client, mut kv) = (leases(member), member.kv());
    grant(&mut client, 7, 100).await;
    for key in ["a", "b", "c"] {
        kv.put(PutRequest { lease: 7, ..put(key, "1") }).await.unwrap();
    }
    // A put without the lease detaches its key.
    kv.put(put("b", "2")).await.unwrap();
    let request = LeaseTimeToLiveRequest { id: 7, keys: true };
    let mut answer = client.lease_time_to_live(request).await.unwrap().into_inner();
    answer.keys.sort_unstable();
    assert_eq!(answer.keys, ["a", "c"]);
    assert!((90..=100).contains(&answer.ttl), "{}", answer.ttl);
    assert_eq!(answer.granted_ttl, 100);
    assert_eq!(time_to_live(&mut client, 8).await, (-1, 0), "unknown leases have ended");
}

async fn a_revoked_lease_takes_its_keys_along(member: &mut Member) {
    let (mut client, mut kv) = (leases(member), member.kv());
    grant(&mut client, 7, 100).await;
    for key in ["b", "a"] {
        kv.put(PutRequest { lease: 7, ..put(key, "1") }).await.unwrap();
    }
    kv.put(put("c", "1")).await.unwrap();
    let answer = client.lease_revoke(LeaseRevokeRequest { id: 7 }).await.unwrap().into_inner();
    assert_eq!(answer.header.unwrap().revision, 5, "all keys end in one revision");
    let left = kv.range(everything()).await.unwrap().into_inner();
    assert_eq!(keys(&left.kvs), ["c"]);
    assert_eq!(
        refusal(client.lease_revoke(LeaseRevokeRequest { id: 7 }).await),
        with(Code::NotFound, "etcdserver: requested lease not found")
    );
}

async fn a_lease_is_kept_alive_by_a_stream(member: &mut Member) {
    let mut client = leases(member);
    grant(&mut client, 7, 100).await;
    grant(&mut client, 8, 200).await;
    let (requests, outgoing) = unbounded_channel();
    let answers = client.lease_keep_alive(UnboundedReceiverStream::new(outgoing)).await;
    let mut answers = answers.unwrap().into_inner();
    // An unknown lease is no error: its time is up, and the stream goes on.
    for (id, ttl) in [(7, 100), (8, 200), (9, 0), (7, 100)] {
        requests.send(LeaseKeepAliveRequest { id }).unwrap();
        let answer = answers.message().await.unwrap().expect("an answer for each question");
        assert_eq!((answer.id, answer.ttl), (id, ttl));
        assert_eq!(answer.header.unwrap().revision, 1);
    }
    // Many questions at once are answered in their order.
    for _ in 0..100 {
        requests.send(LeaseKeepAliveRequest { id: 7 }).unwrap();
        requests.send(LeaseKeepAliveRequest { id: 8 }).unwrap();
    }
    drop(requests);
    for number in 0..200 {
        let answer = answers.message().await.unwrap().expect("an answer for each question");
        assert_eq!(answer.id, 7 + number % 2);
    }
    assert_eq!(answers.message().await.unwrap(), None, "whoever asks no more is let go");
}

async fn a_lease_expires_with_its_keys_and_not_early(member: &mut Member) {
    let (mut client, mut kv) = (leases(member), member.kv());
    let asked = Instant::now();
    grant(&mut client, 7, 2).await;
    kv.put(PutRequest { lease: 7, ..put("a", "1") }).await.unwrap();
    let (requests, outgoing) = unbounded_channel();
    let create = WatchCreateRequest { key: "a".into(), ..WatchCreateRequest::default() };
    let union = watch_request::RequestUnion::CreateRequest(create);
    requests.send(WatchRequest { request_union: Some(union) }).unwrap();
    let mut watch = WatchClient::new(member.channel());
    let responses = watch.watch(UnboundedReceiverStream::new(outgoing)).await.unwrap();
    let mut responses = responses.into_inner();
    assert!(responses.message().await.unwrap().unwrap().created);
    let deleted = responses.message().await.unwrap().expect("the key ends");
    assert_eq!(deleted.events[0].kv.as_ref().unwrap().mod_revision, 3);
    assert!(asked.elapsed() >= Duration::from_secs(2), "not early");
    assert_eq!(time_to_live(&mut client, 7).await, (-1, 0));
    assert_eq!(kv.range(range("a")).await.unwrap().into_inner().count, 0);
    let late = PutRequest { lease: 7, ..put("a", "2") };
    assert_eq!(
        refusal(kv.put(late).await),
        with(Code::NotFound, "etcdserver: requested lease not found")
    );
}

/// Unlike etcd's, which begins anew with every leader.
async fn a_deadline_survives_a_crash(member: &mut Member) {
    const TTL: i64 = 60;
    let mut client = leases(member);
    grant(&mut client, 7, TTL).await;
    member.kv().put(PutRequest { lease: 7, ..put("a", "1") }).await.unwrap();
    // The lease must have lived for a while: as long as its answer says so.
    while time_to_live(&mut client, 7).await.0 > TTL - 4 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    member.signal(rustix::process::Signal::KILL);
    member.wait().await;
    member.start_again(&[]);
    let mut client = leases(member);
    let (left, granted) = time_to_live(&mut client, 7).await;
    assert_eq!(granted, TTL);
    // A second at most is given back (docs/decisions/lease-time.md), and another by rounding.
    assert!((1..=TTL - 2).contains(&left), "{left} seconds are left");
    assert_eq!(member.kv().range(range("a")).await.unwrap().into_inner().kvs[0].lease, 7);
}
