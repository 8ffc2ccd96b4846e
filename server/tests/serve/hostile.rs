//! Clients that mean no good, or know no better: whatever they send, the member goes on, answers others promptly, and
//! keeps its memory.
//!
//! What is merely wrong is said in HTTP/2 by a client that is not ours; what no client library would send is written
//! byte by byte.

use core::time::Duration;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use bytes::Bytes;
use cairn_engine::api::etcdserverpb::request_op::Request;
use cairn_engine::api::etcdserverpb::{
    PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest, WatchRequest,
    watch_request,
};
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Response};
use prost::Message;
use tokio::time::timeout;

use crate::harness::{LIMIT, Member, on_both_runtimes, say};

on_both_runtimes! {
    nonsense_instead_of_messages_is_refused,
    a_bottomless_transaction_is_refused,
    paths_and_content_types_must_be_right,
    prefixes_of_messages_are_checked,
    half_a_message_is_no_message,
    what_is_not_http_is_let_go,
    http1_that_is_wrong_is_let_go,
    frames_that_are_not_allowed_end_the_connection,
    random_frames_harm_nobody,
    a_call_may_arrive_byte_by_byte,
    calls_that_are_reset_at_once_cost_little,
    floods_of_settings_and_pings_cost_little,
    floods_of_headers_cost_little,
    thousands_of_open_calls_cost_little,
    slow_heads_harm_nobody,
    answers_that_nobody_reads_are_not_hoarded,
    watches_that_nobody_reads_are_not_hoarded,
    snapshots_that_nobody_reads_are_not_hoarded,
    one_stream_may_have_many_watches,
}

/// A healthy client is answered within this, whatever others do. Generous: machines that run tests are busy.
const PROMPTLY: Duration = Duration::from_secs(10);

/// Checks that the member serves, as someone who knows nothing of what has happened.
async fn assert_well(member: &Member, after: &str) {
    let served = async {
        let mut kv = member.kv();
        let put = PutRequest {
            key: "health".into(),
            value: after.to_owned().into(),
            ..Default::default()
        };
        kv.put(put).await.unwrap();
        let range = RangeRequest { key: "health".into(), ..Default::default() };
        kv.range(range).await.unwrap().into_inner().kvs[0].value.clone()
    };
    let value = timeout(PROMPTLY, served).await;
    let value = value.unwrap_or_else(|_| panic!("nobody is served after {after}"));
    assert_eq!(value, after.as_bytes());
}

// Clients that speak HTTP/2 well, and nonsense with it.

/// A connection that goes on in the background.
async fn connect(member: &Member) -> SendRequest<Bytes> {
    connect_by(member, &h2::client::Builder::new()).await
}

async fn connect_by(member: &Member, builder: &h2::client::Builder) -> SendRequest<Bytes> {
    let socket = tokio::net::TcpStream::connect(member.place.address).await.unwrap();
    let (client, connection) = builder.handshake(socket).await.unwrap();
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            say(&format!("A connection ended: {error}"));
        }
    });
    client
}

fn head(path: &str, content_type: Option<&str>) -> http::Request<()> {
    let mut request = http::Request::post(format!("http://cairn{path}"));
    if let Some(content_type) = content_type {
        request = request.header("content-type", content_type);
    }
    request.header("te", "trailers").body(()).unwrap()
}

/// How a call ended: its HTTP status, gRPC's code and text.
type Ended = (u16, Option<u16>, String);

fn status_of(http: u16, headers: &HeaderMap) -> Ended {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let code = text("grpc-status").map(|code| code.parse().unwrap());
    (http, code, text("grpc-message").unwrap_or_default())
}

/// Makes a call of any head and body, and says how it ended; a reset is no answer.
async fn call(
    client: &mut SendRequest<Bytes>,
    request: http::Request<()>,
    body: &[&[u8]],
) -> Result<Ended, h2::Error> {
    core::future::poll_fn(|context| client.poll_ready(context)).await?;
    let (response, mut stream) = client.send_request(request, body.is_empty())?;
    for (number, part) in body.iter().enumerate() {
        let last = number + 1 == body.len();
        // The call may have ended already.
        stream.send_data(Bytes::copy_from_slice(part), last).ok();
    }
    let response = response.await?;
    let http = response.status().as_u16();
    if response.headers().contains_key("grpc-status") {
        return Ok(status_of(http, response.headers()));
    }
    let mut body = Response::into_body(response);
    while let Some(data) = body.data().await {
        body.flow_control().release_capacity(data?.len()).unwrap();
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    Ok(status_of(http, &trailers))
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], &length[..], message].concat()
}

const GRPC: Option<&str> = Some("application/grpc");
const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const INTERNAL: Option<u16> = Some(13);
const INVALID_ARGUMENT: Option<u16> = Some(3);
const RESOURCE_EXHAUSTED: Option<u16> = Some(8);
const UNIMPLEMENTED: Option<u16> = Some(12);

/// A put and what to write for it.
fn good_put() -> Vec<u8> {
    let put = PutRequest { key: "a".into(), value: "1".into(), ..PutRequest::default() };
    framed(&put.encode_to_vec())
}

async fn nonsense_instead_of_messages_is_refused(member: &mut Member) {
    let mut client = connect(member).await;
    for row in &cairn_server::grpc::method::METHODS {
        let path = format!("/{}/{}", row.service, row.name);
        // A field of an unknown wire type; a length beyond the end; a number without an end.
        for nonsense in [&[0x0f][..], &[0x0a, 0x7f, 1], &[0xff; 12]] {
            let ended = call(&mut client, head(&path, GRPC), &[&framed(nonsense)]).await;
            let (http, code, text) = ended.unwrap_or_else(|error| panic!("{path}: {error}"));
            assert_eq!(http, 200, "{path}");
            let refused = code == INTERNAL && text.contains("unmarshalling");
            assert!(refused || code == UNIMPLEMENTED, "{path}: {code:?} {text}");
        }
    }
    assert_well(member, "nonsense").await;
}

async fn a_bottomless_transaction_is_refused(member: &mut Member) {
    let mut client = connect(member).await;
    for depth in [40, 49, 60, 10_000] {
        // Encoded by hand: the encoder, too, would go down there.
        let mut message = Vec::new();
        for _ in 0..depth {
            // TxnRequest.success = 2, RequestOp.request_txn = 4.
            for field in [0x22, 0x12] {
                let mut outer = vec![field];
                prost::encoding::encode_varint(u64::try_from(message.len()).unwrap(), &mut outer);
                outer.extend_from_slice(&message);
                message = outer;
            }
        }
        let path = "/etcdserverpb.KV/Txn";
        let (_, code, text) =
            call(&mut client, head(path, GRPC), &[&framed(&message)]).await.unwrap();
        let expected = match depth {
            40 => code == Some(0),
            49 => text == "etcdserver: too many operations in txn request",
            _ => code == INTERNAL && text.contains("recursion limit reached"),
        };
        assert!(expected, "{depth}: {code:?} {text}");
    }
    assert_well(member, "an abyss").await;
}

async fn paths_and_content_types_must_be_right(member: &mut Member) {
    let mut client = connect(member).await;
    for path in ["/", "/x", "//", "/etcdserverpb.KV/", "/etcdserverpb.KV/Steal", "/a/b/c"] {
        let ended = call(&mut client, head(path, GRPC), &[&good_put()]).await.unwrap();
        assert_eq!((ended.0, ended.1), (200, UNIMPLEMENTED), "{path}");
    }
    for kind in [None, Some("text/html"), Some("application/json"), Some("")] {
        let (http, code, _) = call(&mut client, head(PUT, kind), &[&good_put()]).await.unwrap();
        assert_eq!((http, code), (415, INVALID_ARGUMENT), "{kind:?}");
    }
    for kind in ["application/grpc+proto", "application/grpc;charset=utf-8"] {
        let ended = call(&mut client, head(PUT, Some(kind)), &[&good_put()]).await.unwrap();
        assert_eq!(ended, (200, Some(0), String::new()), "{kind}");
    }
    assert_well(member, "wrong paths").await;
}

async fn prefixes_of_messages_are_checked(member: &mut Member) {
    let mut client = connect(member).await;
    let larger =
        |length: u32| format!("grpc: received message larger than max ({length} vs. 2097152)");
    let compressed = "grpc: compressed flag set with identity or empty encoding".to_owned();
    for (prefix, code, text) in [
        ([0, 0xff, 0xff, 0xff, 0xff], RESOURCE_EXHAUSTED, larger(u32::MAX)),
        // One byte more than is allowed.
        ([0, 0, 0x20, 0, 1], RESOURCE_EXHAUSTED, larger((2 << 20) + 1)),
        ([1, 0, 0, 0, 1], INTERNAL, compressed.clone()),
        ([0xff, 0, 0, 0, 0], INTERNAL, compressed),
    ] {
        for path in [PUT, "/etcdserverpb.KV/RangeStream", "/etcdserverpb.Watch/Watch"] {
            let ended = call(&mut client, head(path, GRPC), &[&prefix, &[1]]).await.unwrap();
            assert_eq!(ended, (200, code, text.clone()), "{path} {prefix:?}");
        }
    }
    assert_well(member, "large prefixes").await;
}

async fn half_a_message_is_no_message(member: &mut Member) {
    let mut client = connect(member).await;
    let whole = good_put();
    for path in [PUT, "/etcdserverpb.Maintenance/Snapshot", "/etcdserverpb.Lease/LeaseKeepAlive"] {
        for cut in [1, 4, 5, whole.len() - 1] {
            let ended = call(&mut client, head(path, GRPC), &[&whole[..cut]]).await.unwrap();
            assert_eq!((ended.0, ended.1), (200, INTERNAL), "{path} cut at {cut}");
        }
    }
    let nothing = call(&mut client, head(PUT, GRPC), &[]).await.unwrap();
    assert_eq!((nothing.0, nothing.1), (200, INTERNAL));
    // Half a message, and then nobody is there any more.
    for _ in 0..100 {
        let mut client = connect(member).await;
        let (_, mut stream) = client.send_request(head(PUT, GRPC), false).unwrap();
        stream.send_data(Bytes::copy_from_slice(&whole[..7]), false).unwrap();
    }
    let gone = call(&mut client, head(RANGE, GRPC), &[&framed(&[])]).await.unwrap();
    assert_eq!(gone.2, "etcdserver: key is not provided", "the connection is none the worse");
    assert_well(member, "half a message").await;
}

// Clients that write bytes.

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Headers as HPACK's plainest form has them.
fn hpack(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    let text = |block: &mut Vec<u8>, text: &str| {
        // An integer with a prefix of seven bits.
        match u8::try_from(text.len()) {
            Ok(length) if length < 127 => block.push(length),
            _ => {
                block.push(127);
                let rest = u64::try_from(text.len() - 127).unwrap();
                prost::encoding::encode_varint(rest, block);
            }
        }
        block.extend_from_slice(text.as_bytes());
    };
    for (name, value) in fields {
        block.push(0);
        text(&mut block, name);
        text(&mut block, value);
    }
    block
}

fn grpc_head(path: &str) -> Vec<u8> {
    hpack(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "cairn"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ])
}

/// A connection that has said hello.
fn hello(member: &Member) -> TcpStream {
    let mut stream = TcpStream::connect(member.place.address).unwrap();
    // Whoever is not read from any more has said enough.
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).unwrap();
    stream
}

/// Reads frames until the other side ends the connection: their kinds, and the reason of its farewell.
fn farewell(mut stream: TcpStream) -> Option<Reason> {
    // A reset may come instead of the end.
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    let mut rest = &*answer;
    while let Some((head, payload)) = rest.split_at_checked(9) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let (payload, next) = payload.split_at_checked(usize::try_from(length).unwrap())?;
        if head[3] == GO_AWAY {
            return Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()).into());
        }
        rest = next;
    }
    None
}

async fn what_is_not_http_is_let_go(member: &mut Member) {
    for words in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX and so on, and so on",
        b"PRI * HTTP/3.0\r\n\r\n",
        b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        &[0xff; 70_000],
        b"P",
        PREFACE,
        b"",
    ] {
        let mut stream = TcpStream::connect(member.place.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(words).ok();
        stream.shutdown(Shutdown::Write).ok();
        let mut answer = Vec::new();
        // The end, or a reset, but not silence.
        if let Err(error) = stream.read_to_end(&mut answer) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{words:?}");
        }
    }
    assert_well(member, "noise").await;
}

async fn http1_that_is_wrong_is_let_go(member: &mut Member) {
    let large = "x".repeat(1 << 20);
    for (request, expected) in [
        ("GET\r\n\r\n".to_owned(), "HTTP/1.1 400"),
        ("GET /health HTTP/9.9\r\n\r\n".to_owned(), "HTTP/1.1 400"),
        (format!("GET /{large} HTTP/1.1\r\n\r\n"), "HTTP/1.1 4"),
        (format!("GET /health HTTP/1.1\r\nX: {large}\r\n\r\n"), "HTTP/1.1 431"),
        (format!("GET /health HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(5000)), "HTTP/1.1 431"),
        ("GET /health HTTP/1.1\r\nContent-Length: x\r\n\r\n".to_owned(), "HTTP/1.1 400"),
        (
            "GET /health HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned(),
            "HTTP/1.1 400",
        ),
        // A body that nobody asked for, and that never comes.
        (
            "POST /health HTTP/1.1\r\nConnection: close\r\nContent-Length: 99999999\r\n\r\n"
                .to_owned(),
            "HTTP/1.1 405",
        ),
        (
            format!(
                "GET /livez HTTP/1.1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{large}"
            ),
            "HTTP/1.1 ",
        ),
    ] {
        let mut stream = TcpStream::connect(member.place.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        // It may be refused before all of it is written, and then the refusal may be lost with the connection.
        let written = stream.write_all(request.as_bytes());
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        let cut_off = written.is_err() || read.is_err();
        let start = &request[..40.min(request.len())];
        assert!(answer.starts_with(expected) || cut_off && answer.is_empty(), "{start}: {answer}");
    }
    // Thousands of requests, and nobody who reads the answers.
    let mut stream = TcpStream::connect(member.place.address).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    stream.write_all(&b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(5000)).ok();
    assert_well(member, "wrong HTTP/1.1").await;
    assert_memory_below(member, 150);
}

async fn frames_that_are_not_allowed_end_the_connection(member: &mut Member) {
    let head = grpc_head(PUT);
    for (what, frames) in [
        ("data on stream 0", frame(DATA, 0, 0, b"x")),
        ("data on an idle stream", frame(DATA, 0, 1, b"x")),
        ("a stream of the server's", frame(HEADERS, END_HEADERS, 2, &head)),
        ("headers on stream 0", frame(HEADERS, END_HEADERS, 0, &head)),
        ("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, &head)),
        (
            "something between headers and their continuation",
            [frame(HEADERS, 0, 1, &head), frame(PING, 0, 0, &[0; 8])].concat(),
        ),
        ("a ping of the wrong length", frame(PING, 0, 0, &[0; 7])),
        ("settings on a stream", frame(SETTINGS, 0, 1, &[])),
        ("settings of the wrong length", frame(SETTINGS, 0, 0, &[0; 5])),
        ("a window update by nothing", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        ("a window beyond its limit", frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])),
        ("an initial window beyond its limit", {
            frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff])
        }),
        ("headers that do not decode", frame(HEADERS, END_HEADERS, 1, &[0x80, 0xff, 0xff])),
        ("a frame beyond the limit", frame(DATA, 0, 1, &vec![0; 1 << 20])),
        ("a promise of the client's", frame(5, END_HEADERS, 1, &[0, 0, 0, 2])),
        ("a reset of an idle stream", frame(RESET, 0, 9, &[0, 0, 0, 8])),
    ] {
        let mut stream = hello(member);
        stream.write_all(&frames).ok();
        let reason = farewell(stream);
        assert!(reason != Some(Reason::NO_ERROR), "{what}: {reason:?}");
    }
    assert_well(member, "illegal frames").await;
}

async fn random_frames_harm_nobody(member: &mut Member) {
    const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut state = SEED;
    let mut random = move |below: u64| {
        // xorshift64*
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % below
    };
    let mut byte = move |below| u8::try_from(random(below)).unwrap();
    let heads = [grpc_head(PUT), grpc_head("/etcdserverpb.Watch/Watch"), grpc_head("/nowhere")];
    for _ in 0..200 {
        let mut words = Vec::new();
        for number in 0..40 {
            let stream = u32::from(byte(8)) + number / 8;
            let payload = match byte(4) {
                0 => heads[usize::from(byte(3))].clone(),
                1 => good_put(),
                _ => (0..byte(40)).map(|_| byte(256)).collect(),
            };
            words.extend(frame(byte(11), byte(64), stream, &payload));
        }
        let mut stream = hello(member);
        stream.write_all(&words).ok();
        stream.shutdown(Shutdown::Write).ok();
    }
    assert_well(member, "random frames").await;
}

async fn a_call_may_arrive_byte_by_byte(member: &mut Member) {
    let words = [
        PREFACE,
        &frame(SETTINGS, 0, 0, &[]),
        &frame(HEADERS, END_HEADERS, 1, &grpc_head(PUT)),
        &frame(DATA, END_STREAM, 1, &good_put()),
        // Says that it wants no more, so that the connection ends behind the answer.
        &frame(GO_AWAY, 0, 0, &[0; 8]),
    ]
    .concat();
    let mut stream = TcpStream::connect(member.place.address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    for byte in &words {
        stream.write_all(&[*byte]).unwrap();
    }
    assert_eq!(farewell(stream), Some(Reason::NO_ERROR));
    let range = RangeRequest { key: "a".into(), ..RangeRequest::default() };
    let found = member.kv().range(range).await.unwrap().into_inner().kvs;
    assert_eq!(&*found[0].value, b"1");

    let mut stream = TcpStream::connect(member.place.address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    for byte in b"GET /livez HTTP/1.1\r\nHost: cairn\r\nConnection: close\r\n\r\n" {
        stream.write_all(&[*byte]).unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\nok\n"), "{answer}");
    assert_well(member, "patience").await;
}

/// Checks the most memory that the member ever had, in mebibytes.
fn assert_memory_below(member: &Member, limit_mib: u64) {
    let most = member.memory_kib("VmHWM") >> 10;
    assert!(most < limit_mib, "it took {most} MiB");
}

async fn calls_that_are_reset_at_once_cost_little(member: &mut Member) {
    let head = grpc_head("/etcdserverpb.Watch/Watch");
    for _ in 0..4 {
        let mut stream = hello(member);
        for number in 0..20_000 {
            let id = 2 * number + 1;
            let reset = frame(RESET, 0, id, &[0, 0, 0, 8]);
            let words = [frame(HEADERS, END_HEADERS, id, &head), reset].concat();
            // Ended by the other side: it has had enough.
            if stream.write_all(&words).is_err() {
                break;
            }
        }
        assert_well(member, "rapid resets").await;
    }
    assert_memory_below(member, 150);
}

async fn floods_of_settings_and_pings_cost_little(member: &mut Member) {
    let window: [u8; 6] = [0, 4, 0, 1, 0, 0];
    for words in [
        frame(PING, 0, 0, &[7; 8]),
        frame(SETTINGS, 0, 0, &window),
        frame(SETTINGS, 0, 0, &window.repeat(100)),
        frame(0xbe, 0, 0, b"unknown"),
        frame(2, 0, 1, &[0; 5]),
        frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
    ] {
        let mut stream = hello(member);
        let many = words.repeat(1000);
        for _ in 0..100 {
            // Not read from any more, or ended: both will do.
            if stream.write_all(&many).is_err() {
                break;
            }
        }
        assert_well(member, "a flood").await;
    }
    assert_memory_below(member, 150);
}

async fn floods_of_headers_cost_little(member: &mut Member) {
    // Headers without an end.
    let mut stream = hello(member);
    stream.write_all(&frame(HEADERS, 0, 1, &grpc_head(PUT))).unwrap();
    let more = frame(CONTINUATION, 0, 1, &hpack(&[("x", &"y".repeat(1000))]));
    let mut ended = false;
    for _ in 0..100_000 {
        ended = stream.write_all(&more).is_err();
        if ended {
            break;
        }
    }
    assert!(ended, "nobody listens to a hundred megabytes of headers");
    // One header that is too large, and one block that is small and grows when it is decoded: it sets a long field
    // once and names it thousands of times.
    let mut bomb = grpc_head(PUT);
    bomb.push(0x40);
    bomb.extend(&hpack(&[("x", &"y".repeat(3000))])[1..]);
    bomb.extend([0xbe; 12_000]);
    for block in [[grpc_head(PUT), hpack(&[("x", &"y".repeat(15_000))])].concat(), bomb] {
        let mut stream = hello(member);
        for id in [1, 3, 5] {
            let words = frame(HEADERS, END_HEADERS | END_STREAM, id, &block);
            stream.write_all(&words).ok();
        }
        assert_well(member, "large headers").await;
    }
    let mut client = connect(member).await;
    let mut request = head(PUT, GRPC);
    request.headers_mut().insert("x", "y".repeat(100_000).parse().unwrap());
    let refused = call(&mut client, request, &[&good_put()]).await;
    assert!(refused.is_err() || refused.is_ok_and(|ended| ended.0 == 431));
    assert_well(member, "large headers").await;
    assert_memory_below(member, 150);
}

async fn thousands_of_open_calls_cost_little(member: &mut Member) {
    let mut client =
        connect_by(member, h2::client::Builder::new().initial_max_send_streams(20_000)).await;
    let mut held = Vec::new();
    for number in 0..10_000 {
        let path = ["/etcdserverpb.Watch/Watch", PUT, "/etcdserverpb.Lease/LeaseKeepAlive"];
        let request = head(path[number % 3], GRPC);
        core::future::poll_fn(|context| client.poll_ready(context)).await.unwrap();
        let (response, mut stream) = client.send_request(request, false).unwrap();
        // Something, but no whole message.
        stream.send_data(Bytes::from_static(&[0, 0, 0]), false).unwrap();
        held.push((response, stream));
    }
    // On that same connection, too.
    let ended = call(&mut client, head(PUT, GRPC), &[&good_put()]).await.unwrap();
    assert_eq!(ended, (200, Some(0), String::new()));
    assert_well(member, "thousands of calls").await;
    assert_memory_below(member, 250);
    drop(held);
    assert_well(member, "the end of thousands of calls").await;
}

async fn slow_heads_harm_nobody(member: &mut Member) {
    let mut held = Vec::new();
    let starts: [&[u8]; 5] = [
        b"",
        b"P",
        b"GET /health HTTP/1.1\r\nX-Slow: ",
        PREFACE,
        &[PREFACE, &frame(SETTINGS, 0, 0, &[]), &frame(HEADERS, 0, 1, &grpc_head(PUT))].concat(),
    ];
    for number in 0..400 {
        let mut stream = TcpStream::connect(member.place.address).unwrap();
        stream.write_all(starts[number % starts.len()]).unwrap();
        held.push(stream);
    }
    assert_well(member, "silence").await;
    for _ in 0..5 {
        for stream in &mut held {
            stream.write_all(b"P").ok();
        }
        assert_well(member, "drops").await;
    }
    assert_memory_below(member, 150);
}

/// Mebibytes of values that the store has after this, in one key space of 16 keys.
async fn fill(member: &Member) -> u64 {
    const MEBIBYTES: u64 = 16;
    let mut kv = member.kv();
    for number in 0..MEBIBYTES {
        let value = Bytes::from(vec![7; 1 << 20]);
        let key = format!("large/{number:02}").into();
        kv.put(PutRequest { key, value, ..PutRequest::default() }).await.unwrap();
    }
    MEBIBYTES
}

/// Opens calls on connections that are never read from. What is given back holds them open.
async fn ask_and_never_read(
    member: &Member,
    connections: usize,
    calls: usize,
    path: &str,
    message: &[u8],
) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..connections {
        let mut stream = hello(member);
        // All the windows that there can be.
        let all = 0x7fff_ffff_u32.to_be_bytes();
        let windows = frame(SETTINGS, 0, 0, &[&[0, 4], &all[..]].concat());
        stream.write_all(&windows).unwrap();
        stream.write_all(&frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xfe, 0, 0])).unwrap();
        for number in 0..u32::try_from(calls).unwrap() {
            let id = 2 * number + 1;
            let words = [
                frame(HEADERS, END_HEADERS, id, &grpc_head(path)),
                frame(DATA, END_STREAM, id, &framed(message)),
            ]
            .concat();
            if stream.write_all(&words).is_err() {
                break;
            }
        }
        held.push(stream);
        assert_well(member, path).await;
    }
    held
}

async fn answers_that_nobody_reads_are_not_hoarded(member: &mut Member) {
    let stored = fill(member).await;
    let all = RangeRequest { key: "\0".into(), range_end: "\0".into(), ..RangeRequest::default() };
    // 8 × 500 answers of 16 MiB would be 62 GiB.
    for path in [RANGE, "/etcdserverpb.KV/RangeStream"] {
        let held = ask_and_never_read(member, 8, 500, path, &all.encode_to_vec()).await;
        // An answer of each connection, and the bytes that it may have under way.
        assert_memory_below(member, stored + 8 * (2 * stored + 16) + 150);
        drop(held);
    }
    assert_well(member, "answers that nobody reads").await;
}

async fn snapshots_that_nobody_reads_are_not_hoarded(member: &mut Member) {
    let stored = fill(member).await;
    let path = "/etcdserverpb.Maintenance/Snapshot";
    let held = ask_and_never_read(member, 4, 100, path, &[]).await;
    assert_memory_below(member, stored + 4 * 16 + 200);
    drop(held);
    assert_well(member, "snapshots that nobody reads").await;
}

fn watch_all() -> WatchRequest {
    let create = WatchCreateRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        ..WatchCreateRequest::default()
    };
    WatchRequest { request_union: Some(watch_request::RequestUnion::CreateRequest(create)) }
}

async fn watches_that_nobody_reads_are_not_hoarded(member: &mut Member) {
    let path = "/etcdserverpb.Watch/Watch";
    let message = watch_all().encode_to_vec();
    let held = ask_and_never_read(member, 4, 10, path, &message).await;
    let mut stored = 0;
    for _ in 0..4 {
        stored += fill(member).await;
    }
    // The store keeps its history, the watches of 40 streams a few mebibytes each.
    assert_memory_below(member, 2 * stored + 40 * 5 + 150);
    drop(held);
    assert_well(member, "watches that nobody reads").await;
}

async fn one_stream_may_have_many_watches(member: &mut Member) {
    let mut client = connect(member).await;
    core::future::poll_fn(|context| client.poll_ready(context)).await.unwrap();
    let request = head("/etcdserverpb.Watch/Watch", GRPC);
    let (response, mut stream) = client.send_request(request, false).unwrap();
    let create = framed(&watch_all().encode_to_vec());
    const WATCHES: usize = 50_000;
    stream.send_data(Bytes::from(create.repeat(WATCHES)), false).unwrap();
    let mut body: RecvStream = response.await.unwrap().into_body();
    assert_well(member, "many watches").await;
    // Nobody has read any of the answers yet. They are all there, each with one event behind.
    let mut bytes = 0;
    while bytes < WATCHES * 20 {
        let data = body.data().await.unwrap().unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        bytes += data.len();
    }
    assert_well(member, "many watches").await;
    assert_memory_below(member, 400);
}

/// The requests that tests of this file make by hand are those of the API.
#[test]
fn bytes_made_by_hand_are_what_they_should_be() {
    let inner = TxnRequest {
        success: vec![RequestOp { request: Some(Request::RequestTxn(TxnRequest::default())) }],
        ..TxnRequest::default()
    };
    assert_eq!(inner.encode_to_vec(), [0x12, 2, 0x22, 0]);
}
