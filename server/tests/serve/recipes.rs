//! Lock and Election: who gets in line, who has a turn, and who is cleared away.

use core::time::Duration;

use bytes::Bytes;
use cairn_engine::api::etcdserverpb::{
    LeaseGrantRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest,
};
use cairn_engine::api::v3electionpb::{
    CampaignRequest, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest, ResignRequest,
};
use cairn_engine::api::v3lockpb::{LockRequest, UnlockRequest};
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Request, Streaming};

use crate::ask::{between, delete, keys, put, range, refusal, with};
use crate::client::etcdserverpb::lease_client::LeaseClient;
use crate::client::v3electionpb::election_client::ElectionClient;
use crate::client::v3lockpb::lock_client::LockClient;
use crate::harness::{Member, on_both_runtimes};

on_both_runtimes! {
    a_lock_is_had_by_the_oldest_key,
    a_lock_is_had_again_with_the_same_lease,
    a_lock_without_a_lease_gets_one,
    whoever_gives_up_leaves_the_line,
    a_lease_that_ends_loses_the_place,
    a_lock_asks_for_what_there_is,
    many_wait_for_one_lock,
    a_leader_is_elected_and_resigns,
    a_candidate_that_gives_up_leaves_the_line,
    only_a_leader_proclaims,
    an_election_is_observed,
    a_member_that_ends_does_not_wait_for_locks,
}

fn locks(member: &Member) -> LockClient<Channel> {
    LockClient::new(member.channel())
}

fn elections(member: &Member) -> ElectionClient<Channel> {
    ElectionClient::new(member.channel())
}

async fn grant(member: &Member, id: i64) -> i64 {
    let mut client = LeaseClient::new(member.channel());
    client.lease_grant(LeaseGrantRequest { ttl: 100, id }).await.unwrap().into_inner().id
}

fn lock_of(name: &'static str, lease: i64) -> LockRequest {
    LockRequest { name: Bytes::from_static(name.as_bytes()), lease }
}

/// Asks for a lock and does not wait for it.
fn ask_for(member: &Member, name: &'static str, lease: i64) -> JoinHandle<Result<Bytes, String>> {
    let mut client = locks(member);
    tokio::spawn(async move {
        let answer = client.lock(lock_of(name, lease)).await;
        answer.map(|answer| answer.into_inner().key).map_err(|status| status.message().to_owned())
    })
}

/// Waits until these are the keys below `name/`.
async fn line_is(member: &Member, end: &'static str, start: &'static str, expected: &[&str]) {
    loop {
        let found = member.kv().range(between(start, end)).await.unwrap().into_inner().kvs;
        if keys(&found) == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn a_lock_is_had_by_the_oldest_key(member: &mut Member) {
    for lease in [0xa1, 0xb2, 0xc3] {
        grant(member, lease).await;
    }
    let first = locks(member).lock(lock_of("l", 0xb2)).await.unwrap().into_inner();
    assert_eq!((&first.key[..], first.header.unwrap().revision), (&b"l/b2"[..], 2));
    let second = ask_for(member, "l", 0xc3);
    line_is(member, "l0", "l/", &["l/b2", "l/c3"]).await;
    let third = ask_for(member, "l", 0xa1);
    line_is(member, "l0", "l/", &["l/a1", "l/b2", "l/c3"]).await;
    // Another lock is another matter.
    assert_eq!(ask_for(member, "l/b", 0xa1).await.unwrap().unwrap(), "l/b/a1");

    let mut client = locks(member);
    client.unlock(UnlockRequest { key: first.key }).await.unwrap();
    let key = second.await.unwrap().unwrap();
    assert_eq!(key, "l/c3");
    assert!(!third.is_finished());
    let answer = client.unlock(UnlockRequest { key }).await.unwrap().into_inner();
    assert_eq!(answer.header.unwrap().revision, 7);
    assert_eq!(third.await.unwrap().unwrap(), "l/a1");
}

async fn a_lock_is_had_again_with_the_same_lease(member: &mut Member) {
    let (lease, mut client) = (grant(member, 7).await, locks(member));
    let first = client.lock(lock_of("l", lease)).await.unwrap().into_inner();
    let again = client.lock(lock_of("l", lease)).await.unwrap().into_inner();
    assert_eq!(first.key, again.key);
    assert_eq!(again.header.unwrap().revision, 2, "nothing is written");
    // Whoever gives such a call up keeps the lock.
    let mut short = Request::new(lock_of("l", lease));
    short.set_timeout(Duration::from_nanos(1));
    client.lock(short).await.ok();
    line_is(member, "l0", "l/", &["l/7"]).await;
}

async fn a_lock_without_a_lease_gets_one(member: &mut Member) {
    let key = locks(member).lock(lock_of("l", 0)).await.unwrap().into_inner().key;
    let found = member.kv().range(range(key.clone())).await.unwrap().into_inner().kvs.remove(0);
    assert_eq!(key, format!("l/{:x}", found.lease));
    let request = LeaseTimeToLiveRequest { id: found.lease, keys: false };
    let mut client = LeaseClient::new(member.channel());
    let answer = client.lease_time_to_live(request).await.unwrap().into_inner();
    assert_eq!(answer.granted_ttl, 60);
}

async fn whoever_gives_up_leaves_the_line(member: &mut Member) {
    for lease in [1, 2, 3, 4] {
        grant(member, lease).await;
    }
    let mut client = locks(member);
    let first = client.lock(lock_of("l", 1)).await.unwrap().into_inner();

    // Told by its deadline …
    let mut short = Request::new(lock_of("l", 2));
    short.set_timeout(Duration::from_millis(200));
    client.lock(short).await.expect_err("it is not unlocked");
    line_is(member, "l0", "l/", &["l/1"]).await;
    // … by a call that is broken off, and by a connection.
    for number in [3, 4] {
        let waits = ask_for(member, "l", number);
        let key = format!("l/{number}");
        line_is(member, "l0", "l/", &["l/1", &key]).await;
        waits.abort();
        line_is(member, "l0", "l/", &["l/1"]).await;
    }
    client.unlock(UnlockRequest { key: first.key }).await.unwrap();
    assert_eq!(client.lock(lock_of("l", 2)).await.unwrap().into_inner().key, "l/2");
}

async fn a_lease_that_ends_loses_the_place(member: &mut Member) {
    for lease in [1, 2] {
        grant(member, lease).await;
    }
    locks(member).lock(lock_of("l", 1)).await.unwrap();
    let mut client = locks(member);
    let waits = tokio::spawn(async move { client.lock(lock_of("l", 2)).await });
    line_is(member, "l0", "l/", &["l/1", "l/2"]).await;
    let mut leases = LeaseClient::new(member.channel());
    leases.lease_revoke(LeaseRevokeRequest { id: 2 }).await.unwrap();
    assert_eq!(refusal(waits.await.unwrap()), with(Code::Unknown, "mutex: session is expired"));
    // Whose lease ends while it has the lock has it no more.
    grant(member, 3).await;
    let waits = ask_for(member, "l", 3);
    line_is(member, "l0", "l/", &["l/1", "l/3"]).await;
    leases.lease_revoke(LeaseRevokeRequest { id: 1 }).await.unwrap();
    assert_eq!(waits.await.unwrap().unwrap(), "l/3");
}

async fn a_lock_asks_for_what_there_is(member: &mut Member) {
    let mut client = locks(member);
    assert_eq!(
        refusal(client.lock(lock_of("l", 99)).await),
        with(Code::Unknown, "etcdserver: requested lease not found")
    );
    let nothing = client.unlock(UnlockRequest { key: Bytes::new() }).await;
    assert_eq!(refusal(nothing), with(Code::Unknown, "etcdserver: key is not provided"));
    client.unlock(UnlockRequest { key: "l/99".into() }).await.unwrap();
    let mut malformed = Request::new(lock_of("l", 99));
    malformed.metadata_mut().insert("grpc-timeout", "soon".parse().unwrap());
    let refused = refusal(client.lock(malformed).await);
    assert_eq!(refused, with(Code::Internal, "malformed grpc-timeout"));
    // Anybody may take part who keeps to the rules.
    member.kv().put(put("l/by hand", "")).await.unwrap();
    grant(member, 1).await;
    let waits = ask_for(member, "l", 1);
    line_is(member, "l0", "l/", &["l/1", "l/by hand"]).await;
    // Its history may be gone.
    for number in 0..10 {
        member.kv().put(put("other", number.to_string())).await.unwrap();
    }
    let revision = 8;
    let compaction =
        cairn_engine::api::etcdserverpb::CompactionRequest { revision, physical: true };
    member.kv().compact(compaction).await.unwrap();
    assert!(!waits.is_finished());
    member.kv().delete_range(delete("l/by hand", "")).await.unwrap();
    assert_eq!(waits.await.unwrap().unwrap(), "l/1");
}

async fn many_wait_for_one_lock(member: &mut Member) {
    let mut tasks = Vec::new();
    for lease in 1..=20 {
        grant(member, lease).await;
        let (mut client, mut kv) = (locks(member), member.kv());
        tasks.push(tokio::spawn(async move {
            let key = client.lock(lock_of("l", lease)).await.unwrap().into_inner().key;
            // Nothing but the lock makes this an increment.
            let found = kv.range(range("n")).await.unwrap().into_inner().kvs;
            let count: u32 = found
                .first()
                .map_or(0, |kv| core::str::from_utf8(&kv.value).unwrap().parse().unwrap());
            kv.put(put("n", (count + 1).to_string())).await.unwrap();
            client.unlock(UnlockRequest { key }).await.unwrap();
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let found = member.kv().range(range("n")).await.unwrap().into_inner().kvs.remove(0);
    assert_eq!(&*found.value, b"20");
}

fn campaign_of(lease: i64, value: &'static str) -> CampaignRequest {
    let (name, value) = (Bytes::from_static(b"e"), Bytes::from_static(value.as_bytes()));
    CampaignRequest { name, lease, value }
}

fn campaign(
    member: &Member,
    lease: i64,
    value: &'static str,
) -> JoinHandle<Result<LeaderKey, String>> {
    let mut client = elections(member);
    tokio::spawn(async move {
        let answer = client.campaign(campaign_of(lease, value)).await;
        answer
            .map(|answer| answer.into_inner().leader.unwrap())
            .map_err(|status| status.message().to_owned())
    })
}

fn election() -> LeaderRequest {
    LeaderRequest { name: Bytes::from_static(b"e") }
}

/// Who leads, and what it says.
fn led(answer: &LeaderResponse) -> (String, String) {
    let kv = answer.kv.as_ref().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&kv.key), text(&kv.value))
}

fn says(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

async fn a_leader_is_elected_and_resigns(member: &mut Member) {
    let mut client = elections(member);
    let vacant = refusal(client.leader(election()).await);
    assert_eq!(vacant, with(Code::Unknown, "election: no leader"));
    for lease in [0xa, 0xb] {
        grant(member, lease).await;
    }
    let first = client.campaign(campaign_of(0xa, "one")).await.unwrap().into_inner();
    assert_eq!(first.header.unwrap().revision, 2);
    let first = first.leader.unwrap();
    let expected = LeaderKey { name: "e".into(), key: "e/a".into(), rev: 2, lease: 0xa };
    assert_eq!(first, expected);
    let second = campaign(member, 0xb, "two");
    line_is(member, "e0", "e/", &["e/a", "e/b"]).await;
    let leader = client.leader(election()).await.unwrap().into_inner();
    assert_eq!((led(&leader), leader.header.unwrap().revision), (says("e/a", "one"), 3));
    // Again, with something else to say.
    let again = client.campaign(campaign_of(0xa, "uno")).await.unwrap().into_inner();
    assert_eq!(again.leader.unwrap(), first);
    assert_eq!(led(&client.leader(election()).await.unwrap().into_inner()), says("e/a", "uno"));

    let resignation = ResignRequest { leader: Some(first.clone()) };
    client.resign(resignation.clone()).await.unwrap();
    let second = second.await.unwrap().unwrap();
    assert_eq!((&second.key[..], second.rev), (&b"e/b"[..], 3));
    // Whoever has resigned may do so again, and takes nobody along.
    let answer = client.resign(resignation).await.unwrap().into_inner();
    assert!(answer.header.is_some());
    assert_eq!(led(&client.leader(election()).await.unwrap().into_inner()), says("e/b", "two"));
}

async fn a_candidate_that_gives_up_leaves_the_line(member: &mut Member) {
    for lease in [1, 2, 3] {
        grant(member, lease).await;
    }
    campaign(member, 1, "one").await.unwrap().unwrap();
    let waits = campaign(member, 2, "two");
    line_is(member, "e0", "e/", &["e/1", "e/2"]).await;
    waits.abort();
    line_is(member, "e0", "e/", &["e/1"]).await;
    // One whose lease ends leads nobody.
    let waits = campaign(member, 3, "three");
    line_is(member, "e0", "e/", &["e/1", "e/3"]).await;
    let mut leases = LeaseClient::new(member.channel());
    leases.lease_revoke(LeaseRevokeRequest { id: 3 }).await.unwrap();
    assert_eq!(waits.await.unwrap(), Err("election: not leader".to_owned()));
}

async fn only_a_leader_proclaims(member: &mut Member) {
    let mut client = elections(member);
    let proclaim = |leader: Option<LeaderKey>, value: &'static str| ProclaimRequest {
        leader,
        value: Bytes::from_static(value.as_bytes()),
    };
    let missing = with(Code::Unknown, "\"leader\" field must be provided");
    assert_eq!(refusal(client.proclaim(proclaim(None, "x")).await), missing);
    assert_eq!(refusal(client.resign(ResignRequest { leader: None }).await), missing);
    grant(member, 1).await;
    let key = campaign(member, 1, "one").await.unwrap().unwrap();
    client.proclaim(proclaim(Some(key.clone()), "more")).await.unwrap();
    let found = member.kv().range(range("e/1")).await.unwrap().into_inner().kvs.remove(0);
    assert_eq!((&*found.value, found.lease, found.create_revision), (&b"more"[..], 1, 2));
    let not_leader = with(Code::Unknown, "election: not leader");
    let older = LeaderKey { rev: 1, ..key.clone() };
    assert_eq!(refusal(client.proclaim(proclaim(Some(older), "x")).await), not_leader);
    client.resign(ResignRequest { leader: Some(key.clone()) }).await.unwrap();
    assert_eq!(refusal(client.proclaim(proclaim(Some(key), "x")).await), not_leader);
}

async fn next(observed: &mut Streaming<LeaderResponse>) -> (String, String) {
    led(&observed.message().await.unwrap().expect("it goes on"))
}

async fn an_election_is_observed(member: &mut Member) {
    let mut client = elections(member);
    let mut early = client.observe(election()).await.unwrap().into_inner();
    for lease in [1, 2] {
        grant(member, lease).await;
    }
    let first = campaign(member, 1, "one").await.unwrap().unwrap();
    assert_eq!(next(&mut early).await, says("e/1", "one"));
    let mut late = client.observe(election()).await.unwrap().into_inner();
    let answer = late.message().await.unwrap().unwrap();
    assert_eq!((led(&answer), answer.header.unwrap().revision), (says("e/1", "one"), 2));
    let second = campaign(member, 2, "two");
    line_is(member, "e0", "e/", &["e/1", "e/2"]).await;
    for value in ["uno", "un"] {
        let request = ProclaimRequest { leader: Some(first.clone()), value: value.into() };
        client.proclaim(request).await.unwrap();
    }
    client.resign(ResignRequest { leader: Some(first) }).await.unwrap();
    let second = second.await.unwrap().unwrap();
    for observed in [&mut early, &mut late] {
        for expected in [says("e/1", "uno"), says("e/1", "un"), says("e/2", "two")] {
            assert_eq!(next(observed).await, expected);
        }
    }
    // Nobody leads for a while.
    client.resign(ResignRequest { leader: Some(second) }).await.unwrap();
    grant(member, 3).await;
    campaign(member, 3, "three").await.unwrap().unwrap();
    assert_eq!(next(&mut early).await, says("e/3", "three"));

    let mut short = Request::new(election());
    short.set_timeout(Duration::from_millis(100));
    let mut short = client.observe(short).await.unwrap().into_inner();
    assert_eq!(next(&mut short).await, says("e/3", "three"));
    short.message().await.expect_err("its time is up");
}

async fn a_member_that_ends_does_not_wait_for_locks(member: &mut Member) {
    for lease in [1, 2] {
        grant(member, lease).await;
    }
    locks(member).lock(lock_of("l", 1)).await.unwrap();
    let mut client = locks(member);
    let waits = tokio::spawn(async move { client.lock(lock_of("l", 2)).await });
    line_is(member, "l0", "l/", &["l/1", "l/2"]).await;
    let kept = PutRequest { lease: 1, ..put("kept", "1") };
    member.kv().put(kept).await.unwrap();
    member.terminate().await;
    let refused = refusal(waits.await.unwrap());
    assert_eq!(refused, with(Code::Unavailable, "etcdserver: server stopped"));
    member.start_again(&[]);
    line_is(member, "l0", "l/", &["l/1"]).await;
}
