//! HTTP/1.1 on the client port: what people, probes and scrapers ask.

use core::time::Duration;

use cairn_engine::api::etcdserverpb::alarm_request::AlarmAction;
use cairn_engine::api::etcdserverpb::{AlarmRequest, AlarmType, WatchRequest};

use crate::ask::put;
use crate::client::etcdserverpb::maintenance_client::MaintenanceClient;
use crate::client::etcdserverpb::watch_client::WatchClient;
use crate::harness::{Member, on_both_runtimes};

on_both_runtimes! {
    a_healthy_member_says_so,
    an_alarm_is_ill_health_unless_excluded,
    checks_are_made_one_by_one,
    versions_are_told,
    metrics_have_etcds_names,
    other_paths_and_methods_are_refused,
    a_connection_is_used_again,
    addresses_of_its_own_serve_http_alone,
    what_goes_on_inside_is_told,
    time_is_profiled_while_clients_are_served,
    how_long_calls_take_is_told,
}

/// An answer, taken apart.
struct Answer {
    code: u16,
    head: String,
    body: String,
}

fn ask(member: &Member, method: &str, path: &str) -> Answer {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: cairn\r\nConnection: close\r\n\r\n");
    let text = member.talk(request.as_bytes());
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    let code = head.split(' ').nth(1).expect("a status line").parse().unwrap();
    Answer { code, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

fn get(member: &Member, path: &str) -> (u16, String) {
    let answer = ask(member, "GET", path);
    (answer.code, answer.body)
}

fn found(code: u16, body: &str) -> (u16, String) {
    (code, body.to_owned())
}

async fn a_healthy_member_says_so(member: &mut Member) {
    for path in ["/health", "/health?serializable=true", "/health?exclude=NOSPACE"] {
        assert_eq!(get(member, path), found(200, r#"{"health":"true","reason":""}"#), "{path}");
    }
    assert!(ask(member, "GET", "/health").head.contains("content-type: text/plain"));
}

async fn an_alarm_is_ill_health_unless_excluded(member: &mut Member) {
    let mut client = MaintenanceClient::new(member.channel());
    let mut raise = async |alarm: AlarmType| {
        let action = AlarmAction::Activate.into();
        let request = AlarmRequest { action, member_id: 1, alarm: alarm.into() };
        client.alarm(request).await.unwrap();
    };
    let ill =
        |reason: &str| found(503, &format!("{{\"health\":\"false\",\"reason\":\"{reason}\"}}\n"));
    raise(AlarmType::Nospace).await;
    assert_eq!(get(member, "/health"), ill("ALARM NOSPACE"));
    assert_eq!(get(member, "/health?exclude=NOSPACE").0, 200);
    assert_eq!(get(member, "/readyz").0, 200, "a full member is ready");
    raise(AlarmType::Corrupt).await;
    assert_eq!(get(member, "/health?exclude=NOSPACE"), ill("ALARM CORRUPT"));
    assert_eq!(get(member, "/health?exclude=NOSPACE&exclude=CORRUPT").0, 200);
    let (code, body) = get(member, "/readyz");
    assert_eq!(code, 503);
    assert!(body.starts_with("[-]data_corruption failed: "), "{body}");
    assert!(body.contains("[+]linearizable_read ok\n"), "{body}");
    assert_eq!(get(member, "/readyz?exclude=data_corruption"), found(200, "ok\n"));
    assert_eq!(get(member, "/livez"), found(200, "ok\n"), "a corrupt member is alive");
}

async fn checks_are_made_one_by_one(member: &mut Member) {
    for (path, body) in [
        ("/livez", "ok\n"),
        ("/livez?verbose", "[+]serializable_read ok\nok\n"),
        ("/livez/serializable_read", "ok\n"),
        ("/readyz", "ok\n"),
        (
            "/readyz?verbose",
            "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n",
        ),
        (
            "/readyz?verbose&exclude=linearizable_read&exclude=non_learner",
            "[+]data_corruption ok\n[+]serializable_read ok\nok\n",
        ),
        ("/readyz/linearizable_read?verbose", "[+]linearizable_read ok\nok\n"),
    ] {
        assert_eq!(get(member, path), found(200, body), "{path}");
    }
    assert_eq!(get(member, "/livez/linearizable_read").0, 404);
    // Only one slash leads to a check, and none to all of them.
    assert_eq!(get(member, "/livez/").0, 404);
    assert_eq!(get(member, "/readyz//linearizable_read").0, 404);
    assert_eq!(get(member, "/readyz/nonsense").0, 404);
}

async fn versions_are_told(member: &mut Member) {
    let versions = r#"{"etcdserver":"3.7.3","etcdcluster":"3.7.0","storage":"3.7.0"}"#;
    assert_eq!(get(member, "/version"), found(200, versions));
}

async fn metrics_have_etcds_names(member: &mut Member) {
    member.kv().put(put("a", "1")).await.unwrap();
    let answer = ask(member, "GET", "/metrics");
    assert_eq!(answer.code, 200);
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
    let value = |name: &str| {
        let mut lines = answer.body.lines().filter_map(|line| line.rsplit_once(' '));
        let (_, value) = lines.find(|(found, _)| *found == name)?;
        value.parse::<f64>().ok()
    };
    let put = r#"{grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"}"#;
    let handled = r#"grpc_server_handled_total{grpc_code="OK",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"}"#;
    for (name, expected) in [
        ("etcd_server_has_leader", 1.0),
        ("etcd_server_is_leader", 1.0),
        ("etcd_server_leader_changes_seen_total", 1.0),
        ("etcd_server_health_failures", 0.0),
        ("etcd_server_quota_backend_bytes", 2_147_483_648.0),
        ("etcd_debugging_mvcc_keys_total", 1.0),
        ("etcd_debugging_mvcc_current_revision", 2.0),
        (r#"etcd_server_version{server_version="3.7.3"}"#, 1.0),
        (&format!("grpc_server_started_total{put}"), 1.0),
        (handled, 1.0),
    ] {
        assert_eq!(value(name), Some(expected), "{name}");
    }
    for name in [
        "etcd_disk_wal_fsync_duration_seconds_count",
        "etcd_disk_wal_write_bytes_total",
        "etcd_mvcc_db_total_size_in_bytes",
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "etcd_server_proposals_committed_total",
        "etcd_server_proposals_applied_total",
        "process_resident_memory_bytes",
        "process_open_fds",
    ] {
        assert!(value(name).is_some_and(|value| value > 0.0), "{name} in\n{}", answer.body);
    }
}

async fn other_paths_and_methods_are_refused(member: &mut Member) {
    for path in ["/", "/nothing", "/healthy", "/metricsx", "/v3/kv/rangex", "/debug/pprof/"] {
        assert_eq!(get(member, path).0, 404, "{path}");
    }
    assert_eq!(ask(member, "PUT", "/metrics").code, 200, "as in etcd");
    for (method, path) in
        [("POST", "/health"), ("PUT", "/version"), ("DELETE", "/readyz"), ("HEAD", "/livez")]
    {
        let answer = ask(member, method, path);
        assert_eq!(answer.code, 405, "{method} {path}");
        assert!(answer.head.contains("\r\nallow: get"), "{}", answer.head);
    }
}

async fn what_goes_on_inside_is_told(member: &mut Member) {
    assert_eq!(get(member, "/debug/pprof/").0, 404);
    let words = ["--enable-pprof", "--discovery-password=swordfish"];
    member.restart(&words).await;
    member.kv().put(put("a", "1")).await.unwrap();
    let (code, body) = get(member, "/debug/vars");
    assert_eq!(code, 200);
    let told: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(told["raft.status"]["raftState"], "StateLeader");
    assert_eq!(told["store"]["keys"], 1);
    assert!(told["file_descriptor_limit"].as_u64().unwrap() > 0);
    let cmdline = told["cmdline"].to_string();
    assert!(cmdline.contains("--enable-pprof") && !cmdline.contains("swordfish"), "{cmdline}");
    assert!(get(member, "/debug/pprof/").1.contains("profile?seconds=30"));
    let cmdline = get(member, "/debug/pprof/cmdline").1;
    assert!(cmdline.contains("\0--enable-pprof") && !cmdline.contains("swordfish"), "{cmdline}");
    assert_eq!(get(member, "/debug/pprof/heap").0, 501);
    assert_eq!(get(member, "/debug/pprof/nothing"), found(404, "Unknown profile\n"));
    assert_eq!(get(member, "/debug/pprof/profile?seconds=601").0, 400);
}

async fn time_is_profiled_while_clients_are_served(member: &mut Member) {
    member.restart(&["--enable-pprof"]).await;
    let address = member.place.address;
    let profile = std::thread::spawn(move || {
        let ask =
            "GET /debug/pprof/profile?seconds=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        loop {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            std::io::Write::write_all(&mut stream, ask.as_bytes()).unwrap();
            let mut answer = Vec::new();
            std::io::Read::read_to_end(&mut stream, &mut answer).unwrap();
            // Else another was faster.
            if answer.starts_with(b"HTTP/1.1 200") {
                return answer;
            }
        }
    });
    let mut kv = member.kv();
    let mut second = None;
    while !profile.is_finished() {
        kv.put(put("a", "1")).await.unwrap();
        second = second.or_else(|| {
            let other = get(member, "/debug/pprof/profile?seconds=1");
            (other.0 == 500).then_some(other.1)
        });
    }
    assert!(second.unwrap().contains("cpu profiling already in use"));
    let answer = profile.join().unwrap();
    let body = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    let mut bytes = Vec::new();
    let mut unpacked = flate2::read::GzDecoder::new(&answer[body..]);
    std::io::Read::read_to_end(&mut unpacked, &mut bytes).unwrap();
    let names = String::from_utf8_lossy(&bytes);
    assert!(names.contains("cairn_io::driver"), "the driver's functions are named");
}

async fn how_long_calls_take_is_told(member: &mut Member) {
    let handling = r#"grpc_server_handling_seconds_count{grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1"#;
    let took = r#"etcd_server_request_duration_seconds_count{success="true",type="Put"} 1"#;
    member.kv().put(put("a", "1")).await.unwrap();
    let (_, text) = get(member, "/metrics");
    assert!(text.contains(took) && !text.contains("grpc_server_handling_seconds"), "{text}");
    let words = ["--metrics=extensive", "--warning-unary-request-duration=1ns"];
    member.restart(&words).await;
    member.kv().put(put("a", "1")).await.unwrap();
    let slow = member.wait_for(r#""msg":"request stats""#);
    assert!(slow.contains(r#""response-type":"/etcdserverpb.KV/Put","code":"OK""#), "{slow}");
    let (_, text) = get(member, "/metrics");
    assert!(text.contains(took) && text.contains(handling), "{text}");
    // A watch and what goes over it are counted, too.
    let counted = r#"grpc_server_msg_received_total{grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"}"#;
    assert!(text.contains(&format!("{counted} 0")), "{text}");
    let mut watch = WatchClient::new(member.channel());
    let requests = tonic::codegen::tokio_stream::iter([WatchRequest::default()]);
    let answers = watch.watch(requests).await.unwrap().into_inner();
    // One that asks for nothing is not answered, so something else must tell that it has arrived.
    while !get(member, "/metrics").1.contains(&format!("{counted} 1")) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    drop(answers);
}

async fn a_connection_is_used_again(member: &mut Member) {
    let more = "GET /livez HTTP/1.1\r\nHost: cairn\r\n\r\n".repeat(3);
    let last = "GET /version HTTP/1.1\r\nHost: cairn\r\nConnection: close\r\n\r\n";
    let text = member.talk((more + last).as_bytes());
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 4, "{text}");
    assert!(text.ends_with('}'));
}

async fn addresses_of_its_own_serve_http_alone(member: &mut Member) {
    let mut metrics = member.place.address;
    metrics.set_port(2381);
    member.restart(&[&format!("--listen-metrics-urls=http://{metrics}")]).await;
    member.kv().put(put("a", "1")).await.unwrap();
    member.place.address = metrics;
    assert_eq!(get(member, "/livez"), found(200, "ok\n"));
    assert_eq!(get(member, "/metrics").0, 200);
    for path in ["/version", "/debug/vars", "/v3/kv/range"] {
        assert_eq!(get(member, path).0, 404, "{path}");
    }
    assert!(!ask(member, "GET", "/health").head.contains("access-control"), "as in etcd");
    let refused = member.kv().put(put("a", "1")).await;
    refused.expect_err("there is no gRPC here");
}
