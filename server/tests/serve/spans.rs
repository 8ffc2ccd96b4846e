//! Spans of calls, as a collector of OpenTelemetry gets them.

use core::net::Ipv4Addr;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tonic::Request;

use crate::ask::{put, range};
use crate::gateway::post;
use crate::harness::{Member, on_both_runtimes};

on_both_runtimes! {
    whoever_is_traced_finds_its_calls_at_the_collector,
    a_collector_that_is_not_there_costs_nobody_a_call,
}

/// A collector, as small as one can be: it takes what it is told and says that all is well.
async fn collector() -> (u16, UnboundedReceiver<ResourceSpans>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(socket).await.unwrap();
            let tell = tell.clone();
            tokio::spawn(async move {
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::spawn(take(request, respond, tell.clone()));
                }
            });
        }
    });
    (port, told)
}

async fn take(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    tell: UnboundedSender<ResourceSpans>,
) {
    let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    assert_eq!(request.uri().path(), path);
    let (mut body, mut message) = (request.into_body(), BytesMut::new());
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        message.extend_from_slice(&data);
    }
    let exported = ExportTraceServiceRequest::decode(&message[5..]).unwrap();
    for spans in exported.resource_spans {
        // The test may be over.
        tell.send(spans).ok();
    }
    let head = http::Response::builder().header("content-type", "application/grpc");
    let mut stream = respond.send_response(head.body(()).unwrap(), false).unwrap();
    stream.send_data(Bytes::from_static(&[0; 5]), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    stream.send_trailers(trailers).unwrap();
}

/// The next span, and the attributes of its resource as text.
async fn next(told: &mut UnboundedReceiver<ResourceSpans>, gathered: &mut Vec<Span>) -> Span {
    while gathered.is_empty() {
        let ResourceSpans { resource, scope_spans, .. } = told.recv().await.unwrap();
        let text = format!("{:?}", resource.unwrap().attributes);
        assert!(text.contains("a service") && text.contains("an instance"), "{text}");
        gathered.extend(scope_spans.into_iter().flat_map(|scope| scope.spans));
    }
    gathered.remove(0)
}

fn code(span: &Span) -> i64 {
    let found = span.attributes.iter().find(|kv| kv.key == "rpc.grpc.status_code").unwrap();
    let Some(Value::IntValue(code)) = found.value.as_ref().unwrap().value.as_ref() else {
        panic!("a number: {found:?}");
    };
    *code
}

async fn whoever_is_traced_finds_its_calls_at_the_collector(member: &mut Member) {
    let (port, mut told) = collector().await;
    let address = format!("--distributed-tracing-address=127.0.0.1:{port}");
    let flags = [
        "--enable-distributed-tracing",
        &address,
        "--experimental-distributed-tracing-service-name=a service",
        "--distributed-tracing-instance-id=an instance",
    ];
    member.restart(&flags).await;
    let mut kv = member.kv();
    kv.put(put("untraced", "1")).await.unwrap();
    let mut request = Request::new(put("traced", "1"));
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    request.metadata_mut().insert("traceparent", parent.parse().unwrap());
    kv.put(request).await.unwrap();
    let mut gathered = Vec::new();
    let span = next(&mut told, &mut gathered).await;
    assert_eq!((span.name.as_str(), code(&span)), ("etcdserverpb.KV/Put", 0));
    assert_eq!(span.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes());
    assert_eq!(span.parent_span_id, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
    assert!(span.span_id != [0; 8] && span.end_time_unix_nano >= span.start_time_unix_nano);
    // All of them, refusals and JSON too; and what is under way when the member stops.
    member.restart(&[&flags[..], &["--distributed-tracing-sampling-rate=1000000"]].concat()).await;
    let mut kv = member.kv();
    kv.range(range("")).await.unwrap_err();
    let span = next(&mut told, &mut gathered).await;
    assert_eq!((span.name.as_str(), code(&span)), ("etcdserverpb.KV/Range", 3));
    assert!(span.parent_span_id.is_empty() || span.parent_span_id == [0; 8]);
    assert_eq!(post(member, "/v3/kv/put", r#"{"key":"YQ=="}"#).code, 200);
    member.terminate().await;
    let span = next(&mut told, &mut gathered).await;
    assert_eq!((span.name.as_str(), code(&span)), ("etcdserverpb.KV/Put", 0));
}

async fn a_collector_that_is_not_there_costs_nobody_a_call(member: &mut Member) {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = format!("--distributed-tracing-address={}", closed.local_addr().unwrap());
    drop(closed);
    let flags =
        ["--enable-distributed-tracing", &address, "--distributed-tracing-sampling-rate=1000000"];
    member.restart(&flags).await;
    let mut kv = member.kv();
    for _ in 0..100 {
        kv.put(put("a", "1")).await.unwrap();
    }
    member.wait_for("cannot export spans");
    let metrics = member.talk(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let lost = metrics.lines().find_map(|line| line.strip_prefix("cairn_spans_dropped_total "));
    assert!(lost.unwrap().parse::<u64>().unwrap() > 0);
    kv.put(put("a", "1")).await.unwrap();
}
