//! What one client may have at once. Whoever has too much is told which flag says so, and nobody else is refused.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use bytes::Bytes;
use cairn_engine::api::etcdserverpb::watch_request::RequestUnion;
use cairn_engine::api::etcdserverpb::{
    LeaseGrantRequest, LeaseRevokeRequest, WatchCancelRequest, WatchCreateRequest, WatchRequest,
    WatchResponse,
};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tonic::codegen::tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

use crate::ask::{put, range, refusal};
use crate::auth::{by, log_in, people};
use crate::client::etcdserverpb::kv_client::KvClient;
use crate::client::etcdserverpb::lease_client::LeaseClient;
use crate::client::etcdserverpb::watch_client::WatchClient;
use crate::gateway::post;
use crate::harness::{LIMIT, Member, on_both_runtimes};

on_both_runtimes! {
    calls_under_way_are_counted_of_all_connections,
    a_watcher_too_many_is_refused_in_its_turn,
    leases_that_are_gone_make_room,
    bytes_that_never_become_a_request_are_counted,
    requests_come_no_faster_than_they_may,
    a_user_is_one_client_wherever_it_comes_from,
    connections_beyond_the_limit_are_closed_at_once,
}

/// A client that comes from another address than all others.
fn greedy(member: &Member) -> Channel {
    let uri = format!("http://{}", member.place.address);
    let endpoint = Endpoint::from_shared(uri).unwrap().connect_timeout(LIMIT);
    endpoint.local_address(Some(GREEDY)).connect_lazy()
}

const GREEDY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 77, 0, 1));

type Watching = (UnboundedSender<WatchRequest>, Streaming<WatchResponse>);

async fn watch(channel: Channel) -> Result<Watching, Status> {
    let (ask, asked) = unbounded_channel();
    let stream = UnboundedReceiverStream::new(asked);
    let told = WatchClient::new(channel).watch(stream).await?.into_inner();
    Ok((ask, told))
}

fn create(key: &'static str) -> WatchRequest {
    let create = WatchCreateRequest { key: key.into(), ..WatchCreateRequest::default() };
    WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
}

fn refused(limit: u64, has: &str, flag: &str) -> String {
    format!(
        "cairn: address {GREEDY} has {limit} {has} already, the most that one client may have (--cairn-client-{flag})"
    )
}

async fn assert_others_are_served(member: &Member) {
    let mut kv = member.kv();
    kv.put(put("other", "1")).await.unwrap();
    kv.range(range("other")).await.unwrap();
}

fn refusals(member: &Member, budget: &str) -> u64 {
    let metrics = member.talk(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let name = format!("cairn_client_refusals_total{{budget=\"{budget}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
    line.expect("the counter is there").parse().unwrap()
}

async fn calls_under_way_are_counted_of_all_connections(member: &mut Member) {
    member.restart(&["--cairn-client-streams=6"]).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let channel = greedy(member);
        held.push(watch(channel.clone()).await.unwrap());
        held.push(watch(channel).await.unwrap());
    }
    let too_many = watch(greedy(member)).await.map(drop).unwrap_err();
    assert_eq!(too_many.code(), Code::ResourceExhausted);
    assert_eq!(too_many.message(), refused(6, "calls under way", "streams"));
    let (code, _) = refusal(KvClient::new(greedy(member)).put(put("a", "1")).await);
    assert_eq!(code, Code::ResourceExhausted);
    assert_eq!(refusals(member, "streams"), 2);
    assert_others_are_served(member).await;
    assert_eq!(post(member, "/v3/kv/put", r#"{"key":"YQ=="}"#).code, 200);
    drop(held);
    // The member hears of it when it reads what the client has sent.
    let mut kv = KvClient::new(greedy(member));
    while let Err(status) = kv.put(put("a", "1")).await {
        assert_eq!(status.code(), Code::ResourceExhausted);
    }
    assert!(member.said().iter().any(|line| line.contains("refusing requests of a client")));
}

async fn a_watcher_too_many_is_refused_in_its_turn(member: &mut Member) {
    member.restart(&["--cairn-client-watches=3"]).await;
    let (ask, mut told) = watch(greedy(member)).await.unwrap();
    for key in ["a", "", "b", "c", "d", "e"] {
        ask.send(create(key)).unwrap();
    }
    let mut ids = Vec::new();
    for place in 0..6 {
        let response = told.message().await.unwrap().unwrap();
        assert!(response.created, "{place}");
        if response.canceled {
            assert_eq!(response.cancel_reason, refused(3, "watchers", "watches"), "{place}");
            ids.push(None);
        } else {
            ids.push(Some(response.watch_id));
        }
    }
    // In the order of the requests, whatever was refused; which of the six depends on when the first answers came.
    assert!(ids[..3].iter().all(Option::is_some), "{ids:?}");
    assert!(ids[5].is_none(), "{ids:?}");
    let (other, mut others) = watch(member.channel()).await.unwrap();
    other.send(create("a")).unwrap();
    assert!(!others.message().await.unwrap().unwrap().canceled);
    // Of other streams, too.
    let (more, mut answers) = watch(greedy(member)).await.unwrap();
    more.send(create("x")).unwrap();
    assert!(answers.message().await.unwrap().unwrap().canceled);
    let cancel = WatchCancelRequest { watch_id: ids[0].unwrap() };
    ask.send(WatchRequest { request_union: Some(RequestUnion::CancelRequest(cancel)) }).unwrap();
    assert!(told.message().await.unwrap().unwrap().canceled);
    more.send(create("x")).unwrap();
    assert!(!answers.message().await.unwrap().unwrap().canceled);
    member.kv().put(put("x", "1")).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().events.len(), 1);
}

async fn leases_that_are_gone_make_room(member: &mut Member) {
    member.restart(&["--cairn-client-leases=2"]).await;
    let mut leases = LeaseClient::new(greedy(member));
    let grant = |id| LeaseGrantRequest { ttl: 600, id };
    for id in [1, 2] {
        leases.lease_grant(grant(id)).await.unwrap();
    }
    for _ in 0..2 {
        let (code, text) = refusal(leases.lease_grant(grant(3)).await);
        assert_eq!((code, text), (Code::ResourceExhausted, refused(2, "leases", "leases")));
    }
    LeaseClient::new(member.channel()).lease_grant(grant(4)).await.unwrap();
    LeaseClient::new(member.channel()).lease_revoke(LeaseRevokeRequest { id: 1 }).await.unwrap();
    leases.lease_grant(grant(3)).await.unwrap();
    assert_eq!(refusal(leases.lease_grant(grant(5)).await).0, Code::ResourceExhausted);
    assert_eq!(refusals(member, "leases"), 3);
    // A lease that is not granted takes no room.
    leases.lease_revoke(LeaseRevokeRequest { id: 2 }).await.unwrap();
    assert_eq!(refusal(leases.lease_grant(grant(3)).await).0, Code::FailedPrecondition);
    leases.lease_grant(grant(5)).await.unwrap();
}

async fn bytes_that_never_become_a_request_are_counted(member: &mut Member) {
    member.restart(&["--cairn-client-bytes=4194304"]).await;
    let mut held = Vec::new();
    let half = format!(
        "POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n{{\"key\":\"{}",
        "YWFh".repeat(250_000)
    );
    for _ in 0..8 {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        socket.bind(&SocketAddr::new(GREEDY, 0).into()).unwrap();
        socket.connect(&SocketAddr::V4(member.place.address).into()).unwrap();
        let mut stream = TcpStream::from(socket);
        // Whoever is refused may be cut off.
        std::io::Write::write_all(&mut stream, half.as_bytes()).ok();
        held.push(stream);
    }
    while refusals(member, "bytes") < 4 {
        tokio::task::yield_now().await;
    }
    assert_others_are_served(member).await;
    let value = Bytes::from(vec![0; 1 << 20]);
    let (code, text) = refusal(KvClient::new(greedy(member)).put(put("a", value)).await);
    let expected = refused(4_194_304, "bytes of requests under way", "bytes");
    assert_eq!((code, text), (Code::ResourceExhausted, expected));
    drop(held);
    let mut kv = KvClient::new(greedy(member));
    while kv.put(put("a", Bytes::from(vec![0; 1 << 20]))).await.is_err() {}
}

async fn requests_come_no_faster_than_they_may(member: &mut Member) {
    member.restart(&["--cairn-client-requests-per-second=50"]).await;
    let mut kv = KvClient::new(greedy(member));
    let mut refusals = Vec::new();
    // As long as it takes: a machine that is slower than this is refused nothing.
    for number in 0..100_000_u32 {
        if let Err(status) = kv.put(put(number.to_string(), "1")).await {
            refusals.push((status.code(), status.message().to_owned()));
            if refusals.len() > 10 {
                break;
            }
        }
    }
    let expected = refused(50, "requests in a second", "requests-per-second");
    let expected = (Code::ResourceExhausted, expected);
    assert!(refusals.iter().all(|refusal| *refusal == expected), "{refusals:?}");
    assert!(!refusals.is_empty());
    assert_others_are_served(member).await;
    // Messages on streams are requests.
    let (ask, mut told) = watch(greedy(member)).await.unwrap();
    let ended = loop {
        // Nobody reads any more when the stream has ended.
        for _ in 0..100 {
            ask.send(create("a")).ok();
        }
        match told.message().await {
            Ok(answer) => assert!(answer.unwrap().created),
            Err(status) => break status,
        }
    };
    assert_eq!((ended.code(), ended.message()), (expected.0, &*expected.1));
}

async fn a_user_is_one_client_wherever_it_comes_from(member: &mut Member) {
    let [_, _, bob] = people(member).await;
    drop(bob);
    member.restart(&["--cairn-client-streams=2"]).await;
    let bob = log_in(member, "bob", "pw of bob").await.unwrap();
    let root = log_in(member, "root", "pw of root").await.unwrap();
    let by_bob = async |channel: Channel| {
        let (ask, asked) = unbounded_channel::<WatchRequest>();
        let stream = by(&bob, UnboundedReceiverStream::new(asked));
        let told = WatchClient::new(channel).watch(stream).await?.into_inner();
        Ok::<_, Status>((ask, told))
    };
    let one = by_bob(member.channel()).await.unwrap();
    let two = by_bob(greedy(member)).await.unwrap();
    let status = by_bob(member.channel()).await.map(drop).unwrap_err();
    assert_eq!(
        status.message(),
        "cairn: user \"bob\" has 2 calls under way already, the most that one client may have \
         (--cairn-client-streams)"
    );
    member.kv().put(by(&root, put("a", "1"))).await.unwrap();
    drop((one, two));
    while by_bob(greedy(member)).await.is_err() {}
}

async fn connections_beyond_the_limit_are_closed_at_once(member: &mut Member) {
    member.restart(&["--cairn-connections=3"]).await;
    let held: Vec<_> = (0..3).map(|_| connected(member).unwrap()).collect();
    assert!(connected(member).is_none());
    member.wait_for("refusing connections of clients");
    drop(held);
    // The member hears of it when it reads what the clients have sent.
    let mut stream = loop {
        if let Some(stream) = connected(member) {
            break stream;
        }
    };
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut metrics = String::new();
    stream.read_to_string(&mut metrics).unwrap();
    let refused =
        metrics.lines().find_map(|line| line.strip_prefix("cairn_connections_refused_total "));
    assert!(refused.unwrap().parse::<u64>().unwrap() >= 1);
}

/// A connection that is served; `None`: it was closed.
fn connected(member: &Member) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(member.place.address).unwrap();
    // Whoever is refused is cut off, maybe before it has said anything.
    stream.write_all(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n").ok()?;
    let read = stream.read(&mut [0; 1024]).ok()?;
    (read > 0).then_some(stream)
}
