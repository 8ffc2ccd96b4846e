//! The JSON gateway: the API for whoever speaks HTTP and JSON.

use core::time::Duration;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use crate::ask::{put, range};
use crate::harness::{LIMIT, Member, on_both_runtimes};

on_both_runtimes! {
    keys_are_put_read_and_deleted,
    a_transaction_says_what_it_did,
    every_form_of_input_is_understood,
    refusals_have_a_status_and_a_body_for_everyone,
    paths_and_methods_that_are_none_are_refused,
    a_watch_is_lines,
    a_watch_ends_with_its_client_or_its_time,
    leases_are_granted_and_kept_alive,
    a_snapshot_is_lines,
    locks_and_elections_are_served,
    maintenance_is_served,
    metadata_is_passed_on,
    pages_and_hosts_are_checked,
    it_can_be_switched_off,
    bodies_are_bounded,
    hostile_bodies_harm_nobody,
    clients_that_do_not_read_are_not_hoarded_for,
    a_member_that_ends_ends_its_streams,
}

/// An answer, taken apart.
pub(crate) struct Answer {
    pub(crate) code: u16,
    head: String,
    pub(crate) body: String,
}

fn request(method: &str, path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: cairn\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    )
}

pub(crate) fn send(member: &Member, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let headers = format!("{headers}Connection: close\r\n");
    let text = member.talk(request(method, path, &headers, body).as_bytes());
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    let code = head.split(' ').nth(1).expect("a status line").parse().unwrap();
    Answer { code, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

pub(crate) fn post(member: &Member, path: &str, body: &str) -> Answer {
    send(member, "POST", path, "", body)
}

/// What a good question is answered, without the header of the cluster.
fn ask(member: &Member, path: &str, body: &str) -> String {
    let answer = post(member, path, body);
    assert_eq!(answer.code, 200, "{path} {body}: {}", answer.body);
    assert!(answer.head.contains("\r\ncontent-type: application/json\r\n"), "{}", answer.head);
    assert!(
        answer.head.contains("grpc-metadata-content-type: application/grpc"),
        "{}",
        answer.head
    );
    bare(&answer.body)
}

/// JSON without the header of the cluster, which is another for each member.
fn bare(json: &str) -> String {
    let start = json.find(r#""header":{"cluster_id":""#).expect("a header");
    let end = start + json[start..].find('}').unwrap() + 1;
    let rest = json[end..].strip_prefix(',').unwrap_or_else(|| &json[end..]);
    format!("{}{rest}", &json[..start])
}

/// A stream of lines, read as they come.
struct Lines {
    reader: BufReader<TcpStream>,
    head: String,
}

impl Lines {
    fn open(member: &Member, path: &str, headers: &str, body: &str) -> Self {
        let stream = TcpStream::connect(member.place.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        (&stream).write_all(request("POST", path, headers, body).as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(reader.read_line(&mut head).unwrap(), 0, "{head}");
        }
        Self { reader, head }
    }

    /// The next line; `None`: the stream has ended. Each line comes in a chunk of its own, or with others.
    fn next(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line).unwrap();
            match line.trim_end() {
                "0" => return None,
                text if text.starts_with('{') => return Some(text.to_owned()),
                // The length of a chunk, or its end.
                _ => assert!(!line.is_empty(), "the stream breaks off"),
            }
        }
    }

    fn result(&mut self) -> String {
        let line = self.next().expect("a line");
        let line = line.strip_prefix(r#"{"result":"#).unwrap_or_else(|| panic!("{line}"));
        bare(line.strip_suffix('}').unwrap())
    }
}

async fn keys_are_put_read_and_deleted(member: &mut Member) {
    assert_eq!(ask(member, "/v3/kv/range", r#"{"key":"Zm9v"}"#), "{}");
    assert_eq!(ask(member, "/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy"}"#), "{}");
    let kv =
        r#"{"key":"Zm9v","create_revision":"2","mod_revision":"2","version":"1","value":"YmFy"}"#;
    let found = format!(r#"{{"kvs":[{kv}],"count":"1"}}"#);
    assert_eq!(ask(member, "/v3/kv/range", r#"{"key":"Zm9v"}"#), found);
    assert_eq!(ask(member, "/v3beta/kv/range", r#"{"key":"AA==","range_end":"AA=="}"#), found);
    let answer = post(member, "/v3/kv/range", r#"{"key":"Zm9v","count_only":true}"#);
    assert!(
        answer.body.contains(r#","revision":"2","raft_term":"1"},"count":"1"}"#),
        "{}",
        answer.body
    );
    let again = ask(member, "/v3/kv/put", r#"{"key":"Zm9v","value":"","prev_kv":true}"#);
    assert_eq!(again, format!(r#"{{"prev_kv":{kv}}}"#));
    assert_eq!(ask(member, "/v3/kv/deleterange", r#"{"key":"Zm9v"}"#), r#"{"deleted":"1"}"#);
    assert_eq!(ask(member, "/v3/kv/compaction", r#"{"revision":"4"}"#), "{}");
    let kvs = member.kv().range(range("foo")).await.unwrap().into_inner().kvs;
    assert_eq!(kvs.len(), 0);
}

async fn a_transaction_says_what_it_did(member: &mut Member) {
    let body = r#"{"compare":[{"key":"Zm9v","target":"CREATE","result":"EQUAL","create_revision":"0"}],
        "success":[{"request_put":{"key":"Zm9v","value":"YmFy"}},{"requestRange":{"key":"Zm9v"}}],
        "failure":[{"request_txn":{"success":[{"request_delete_range":{"key":"Zm9v"}}]}}]}"#;
    assert_eq!(
        ask(member, "/v3/kv/txn", body),
        r#"{"succeeded":true,"responses":[{"response_put":{"header":{"revision":"2"}}},{"response_range":{"header":{"revision":"2"},"kvs":[{"key":"Zm9v","create_revision":"2","mod_revision":"2","version":"1","value":"YmFy"}],"count":"1"}}]}"#
    );
    // As Patroni asks: no result means EQUAL.
    let body = body.replace(r#""result":"EQUAL","#, "");
    assert_eq!(
        ask(member, "/v3/kv/txn", &body),
        r#"{"responses":[{"response_txn":{"header":{},"succeeded":true,"responses":[{"response_delete_range":{"header":{"revision":"3"},"deleted":"1"}}]}}]}"#
    );
}

async fn every_form_of_input_is_understood(member: &mut Member) {
    // As lua-resty-etcd asks: everything is written down, enums as numbers.
    let body = r#"{"key":"AA==","range_end":"AA==","limit":0,"revision":0,"sort_order":0,"sort_target":0,
        "serializable":false,"keys_only":false,"count_only":false,"min_mod_revision":0,"max_mod_revision":0}"#;
    assert_eq!(ask(member, "/v3/kv/range", body), "{}");
    member.kv().put(put(vec![251, 255], "1")).await.unwrap();
    for key in ["+/8=", "+/8", "-_8=", "-_8"] {
        let body = format!(
            r#"{{"key":"{key}","unknown":[{{}}],"sortOrder":"DESCEND","countOnly":true}} x"#
        );
        assert_eq!(ask(member, "/v3/kv/range", &body), r#"{"count":"1"}"#, "{key}");
    }
    // In chunks, of any type, with whatever else HTTP has to offer.
    let words = "POST /v3/kv/range HTTP/1.1\r\nHost: cairn\r\nConnection: close\r\n\
                 Content-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n\r\n\
                 7\r\n{\"key\":\r\n9\r\n\"AA==\"}  \r\n0\r\n\r\n";
    assert!(member.talk(words.as_bytes()).starts_with("HTTP/1.1 200 OK\r\n"));
    // Many questions on one connection.
    let body = r#"{"key":"AA==","count_only":true}"#;
    let many = request("POST", "/v3/kv/range", "", body).repeat(20)
        + &request("POST", "/v3/kv/range", "Connection: close\r\n", body);
    assert_eq!(member.talk(many.as_bytes()).matches("HTTP/1.1 200 OK").count(), 21);
}

fn refusal(code: u32, message: &str) -> String {
    format!(r#"{{"code":{code},"error":"{message}","message":"{message}"}}"#)
}

async fn refusals_have_a_status_and_a_body_for_everyone(member: &mut Member) {
    for (path, body, status, code, message) in [
        ("/v3/kv/range", "", 400, 3, "etcdserver: key is not provided"),
        ("/v3/kv/range", "{}", 400, 3, "etcdserver: key is not provided"),
        (
            "/v3/kv/range",
            r#"{"key":"Zm9v","sort_order":9}"#,
            400,
            3,
            "etcdserver: invalid sort option",
        ),
        (
            "/v3/kv/put",
            r#"{"key":"Zm9v","lease":9}"#,
            404,
            5,
            "etcdserver: requested lease not found",
        ),
        (
            "/v3/kv/compaction",
            r#"{"revision":9}"#,
            400,
            11,
            "etcdserver: mvcc: required revision is a future revision",
        ),
        (
            "/v3/auth/authenticate",
            r#"{"name":"a"}"#,
            400,
            9,
            "etcdserver: authentication is not enabled",
        ),
        ("/v3/cluster/member/promote", "{}", 404, 5, "etcdserver: member not found"),
        ("/v3/auth/enable", "{}", 400, 9, "etcdserver: root user does not exist"),
        ("/v3/kv/range", r#"{"key":"#, 400, 3, "unexpected EOF"),
        ("/v3/kv/range", "[]", 400, 3, "proto: syntax error: unexpected token []"),
        (
            "/v3/kv/range",
            r#"{"key":7}"#,
            400,
            3,
            "proto: invalid value: integer `7`, expected a value for bytes field key at line 1 column 8",
        ),
        ("/v3/election/leader", r#"{"name":"eA=="}"#, 500, 2, "election: no leader"),
    ] {
        let answer = post(member, path, body);
        assert_eq!(
            (answer.code, &*answer.body),
            (status, &*refusal(code, message)),
            "{path} {body}"
        );
        assert!(answer.head.contains("content-type: application/json"));
    }
}

async fn paths_and_methods_that_are_none_are_refused(member: &mut Member) {
    for path in
        ["/v3/", "/v3/kv", "/v3/kv/rangex", "/v3/kv/range/", "/v3/kv/rangestream", "/v3beta/x"]
    {
        for method in ["GET", "POST"] {
            let answer = send(member, method, path, "", "");
            assert_eq!((answer.code, &*answer.body), (404, &*refusal(5, "Not Found")), "{path}");
        }
    }
    for method in ["GET", "PUT", "DELETE", "PATCH"] {
        let answer = send(member, method, "/v3/kv/range", "", "");
        assert_eq!((answer.code, &*answer.body), (501, &*refusal(12, "Method Not Allowed")));
    }
    assert_eq!(post(member, "/v3", "{}").code, 404);
    assert_eq!(post(member, "/v3alpha/kv/range", "{}").code, 404);
}

async fn a_watch_is_lines(member: &mut Member) {
    member.kv().put(put("a", "1")).await.unwrap();
    let body = r#"{"create_request":{"key":"YQ==","start_revision":"1","prev_kv":true}}
        {"create_request":{"key":"YQ==","start_revision":"-1"}} {"unknown":{}}"#;
    let mut lines = Lines::open(member, "/v3/watch", "", body);
    let head = lines.head.to_ascii_lowercase();
    assert!(head.contains("200 ok") && head.contains("transfer-encoding: chunked"), "{head}");
    assert_eq!(lines.result(), r#"{"created":true}"#);
    let refused = r#"{"watch_id":"-1","created":true,"canceled":true,"cancel_reason":"etcdserver: mvcc: required revision has been compacted"}"#;
    let first = r#"{"events":[{"kv":{"key":"YQ==","create_revision":"2","mod_revision":"2","version":"1","value":"MQ=="}}]}"#;
    let mut found = [lines.result(), lines.result()];
    found.sort();
    assert_eq!(found, [first, refused]);
    // Its requests have ended, and it goes on.
    member.kv().delete_range(crate::ask::delete("a", "")).await.unwrap();
    assert_eq!(
        lines.result(),
        r#"{"events":[{"type":"DELETE","kv":{"key":"YQ==","mod_revision":"3"},"prev_kv":{"key":"YQ==","create_revision":"2","mod_revision":"2","version":"1","value":"MQ=="}}]}"#
    );

    // A body that goes on for as long as the client likes.
    let stream = TcpStream::connect(member.place.address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let say = |text: &str| {
        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
        (&stream).write_all(chunk.as_bytes()).unwrap();
    };
    (&stream)
        .write_all(b"POST /v3/watch HTTP/1.1\r\nHost: cairn\r\nTransfer-Encoding: chunked\r\n\r\n")
        .unwrap();
    say(r#"{"create_request":{"key":"YQ==","#);
    say(r#""watch_id":"7"}}"#);
    let mut lines =
        Lines { reader: BufReader::new(stream.try_clone().unwrap()), head: String::new() };
    assert_eq!(lines.result(), r#"{"watch_id":"7","created":true}"#);
    say(r#"{"progress_request":{}}{"cancel_request":{"watch_id":7}}"#);
    assert_eq!(lines.result(), r#"{"watch_id":"-1"}"#);
    assert_eq!(lines.result(), r#"{"watch_id":"7","canceled":true}"#);
    say("nonsense");
    let line = lines.next().unwrap();
    let text = "proto: syntax error: unexpected token nonsense";
    let expected = format!(
        r#"{{"error":{{"code":3,"grpc_code":3,"http_code":400,"http_status":"Bad Request","message":"{text}"}}}}"#
    );
    assert_eq!(line, expected);
    assert_eq!(lines.next(), None);
    stream.shutdown(Shutdown::Both).ok();

    let answer = post(member, "/v3/watch", "nonsense");
    assert_eq!((answer.code, &*answer.body), (400, &*refusal(3, text)));
}

/// Waits until so many connections are left, as the member counts them.
async fn connections_are(member: &Member, count: usize) {
    loop {
        let text =
            member.talk(b"GET /metrics HTTP/1.1\r\nHost: cairn\r\nConnection: close\r\n\r\n");
        // The one that asks is one of them.
        if text.contains(&format!("\ncairn_connections {}\n", count + 1)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn a_watch_ends_with_its_client_or_its_time(member: &mut Member) {
    let body = r#"{"create_request":{"key":"YQ=="}}"#;
    let mut lines = Lines::open(member, "/v3/watch", "", body);
    lines.result();
    connections_are(member, 1).await;
    drop(lines);
    connections_are(member, 0).await;

    let late = r#"{"error":{"code":4,"grpc_code":4,"http_code":504,"http_status":"Gateway Timeout","message":"context deadline exceeded"}}"#;
    let mut lines = Lines::open(member, "/v3/watch", "Grpc-Timeout: 200m\r\n", body);
    lines.result();
    assert_eq!(lines.next().unwrap(), late);
    assert_eq!(lines.next(), None);
    let answer = send(
        member,
        "POST",
        "/v3/election/observe",
        "Grpc-Timeout: 100m\r\n",
        r#"{"name":"eA=="}"#,
    );
    assert_eq!((answer.code, &*answer.body), (504, &*refusal(4, "context deadline exceeded")));
    let answer = send(member, "POST", "/v3/kv/put", "Grpc-Timeout: 1n\r\n", r#"{"key":"YQ=="}"#);
    assert_eq!((answer.code, &*answer.body), (504, &*refusal(4, "context deadline exceeded")));
    let answer = send(member, "POST", "/v3/kv/put", "Grpc-Timeout: soon\r\n", r#"{"key":"YQ=="}"#);
    assert_eq!((answer.code, &*answer.body), (400, &*refusal(3, "invalid grpc-timeout: soon")));
}

async fn leases_are_granted_and_kept_alive(member: &mut Member) {
    let granted = r#"{"ID":"77","TTL":"100"}"#;
    assert_eq!(ask(member, "/v3/lease/grant", r#"{"TTL":"100","ID":77}"#), granted);
    let mut lines =
        Lines::open(member, "/v3/lease/keepalive", "", r#"{"ID":"77"}{"ID":78} {"ID":"77"}"#);
    for expected in [granted, r#"{"ID":"78"}"#, granted] {
        assert_eq!(lines.result(), expected);
    }
    assert_eq!(lines.next(), None, "whoever asks no more is let go");
    let nothing = post(member, "/v3/lease/keepalive", "");
    assert_eq!((nothing.code, &*nothing.body), (200, "0\r\n\r\n"));
    for path in ["/v3/lease/leases", "/v3/kv/lease/leases"] {
        assert_eq!(ask(member, path, "{}"), r#"{"leases":[{"ID":"77"}]}"#);
    }
    for path in ["/v3/lease/timetolive", "/v3/kv/lease/timetolive"] {
        assert_eq!(ask(member, path, r#"{"ID":"78"}"#), r#"{"ID":"78","TTL":"-1"}"#);
    }
    assert_eq!(ask(member, "/v3/kv/lease/revoke", r#"{"ID":"77"}"#), "{}");
    assert_eq!(post(member, "/v3/lease/revoke", r#"{"ID":"77"}"#).code, 404);
}

async fn a_snapshot_is_lines(member: &mut Member) {
    for number in 0..20 {
        member.kv().put(put(format!("{number}"), vec![7; 50_000])).await.unwrap();
    }
    let mut lines = Lines::open(member, "/v3/maintenance/snapshot", "", "");
    let (mut count, mut last) = (0, String::new());
    while let Some(line) = lines.next() {
        assert!(line.starts_with(r#"{"result":{"#) && line.len() < 50_000);
        (count, last) = (count + 1, line);
    }
    assert!(count > 30, "{count} parts");
    assert!(!last.contains("remaining_bytes"), "{last}");
}

async fn locks_and_elections_are_served(member: &mut Member) {
    for lease in [1, 2] {
        ask(member, "/v3/lease/grant", &format!(r#"{{"TTL":100,"ID":{lease}}}"#));
    }
    // l/1
    assert_eq!(ask(member, "/v3/lock/lock", r#"{"name":"bA==","lease":1}"#), r#"{"key":"bC8x"}"#);
    // One that goes away while it waits leaves the line.
    let waits = TcpStream::connect(member.place.address).unwrap();
    let body = r#"{"name":"bA==","lease":2}"#;
    (&waits).write_all(request("POST", "/v3/lock/lock", "", body).as_bytes()).unwrap();
    let count = |expected: usize| {
        let member = &member;
        async move {
            while member
                .kv()
                .range(crate::ask::between("l/", "l0"))
                .await
                .unwrap()
                .into_inner()
                .kvs
                .len()
                != expected
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    count(2).await;
    drop(waits);
    count(1).await;
    let answer = send(member, "POST", "/v3/lock/lock", "Grpc-Timeout: 100m\r\n", body);
    assert_eq!((answer.code, &*answer.body), (504, &*refusal(4, "context deadline exceeded")));
    count(1).await;
    assert_eq!(ask(member, "/v3/lock/unlock", r#"{"key":"bC8x"}"#), "{}");
    assert_eq!(ask(member, "/v3/lock/lock", body), r#"{"key":"bC8y"}"#);

    let won = ask(member, "/v3/election/campaign", r#"{"name":"ZQ==","lease":"1","value":"b25l"}"#);
    let key = r#"{"name":"ZQ==","key":"ZS8x","rev":"9","lease":"1"}"#;
    assert_eq!(won, format!(r#"{{"leader":{key}}}"#));
    let mut lines = Lines::open(member, "/v3/election/observe", "", r#"{"name":"ZQ=="}"#);
    assert!(lines.result().contains(r#""value":"b25l""#));
    let body = format!(r#"{{"leader":{key},"value":"dHdv"}}"#);
    assert_eq!(ask(member, "/v3/election/proclaim", &body), "{}");
    assert!(lines.result().contains(r#""value":"dHdv""#));
    assert!(ask(member, "/v3/election/leader", r#"{"name":"ZQ=="}"#).contains(r#""value":"dHdv""#));
    assert_eq!(ask(member, "/v3/election/resign", &format!(r#"{{"leader":{key}}}"#)), "{}");
}

async fn maintenance_is_served(member: &mut Member) {
    let status = ask(member, "/v3/maintenance/status", "");
    for part in [r#""version":"3.7.3""#, r#""dbSizeQuota":"2147483648""#, r#""raftTerm":"1""#] {
        assert!(status.contains(part), "{status}");
    }
    assert!(ask(member, "/v3/cluster/member/list", "{}").contains(r#""clientURLs":["http://"#));
    assert!(ask(member, "/v3/maintenance/hash", "{}").contains(r#""hash":"#));
    assert!(ask(member, "/v3/maintenance/hashkv", "{}").contains(r#""compact_revision":"-1""#));
    let alarm = r#"{"action":"ACTIVATE","memberID":"1","alarm":"NOSPACE"}"#;
    let raised = r#"{"alarms":[{"memberID":"1","alarm":"NOSPACE"}]}"#;
    assert_eq!(ask(member, "/v3/maintenance/alarm", alarm), raised);
    assert_eq!(ask(member, "/v3/maintenance/alarm", "{}"), raised);
    let full = post(member, "/v3/kv/put", r#"{"key":"YQ=="}"#);
    assert_eq!(full.code, 429, "{}", full.body);
    assert_eq!(post(member, "/v3/maintenance/defragment", "").body, "{}");
    assert_eq!(ask(member, "/v3/auth/status", "{}"), r#"{"authRevision":"1"}"#);
    let counted = "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Alarm\",\
                   grpc_service=\"etcdserverpb.Maintenance\",grpc_type=\"unary\"} 2\n";
    let metrics = send(member, "GET", "/metrics", "", "");
    assert!(metrics.body.contains(counted), "{}", metrics.body);
}

async fn metadata_is_passed_on(member: &mut Member) {
    // There is a leader, and without users no token means anything.
    let headers = "Grpc-Metadata-Hasleader: true\r\nAuthorization: Bearer nonsense\r\n";
    let answer = send(member, "POST", "/v3/kv/range", headers, r#"{"key":"YQ=="}"#);
    assert_eq!(answer.code, 200, "{}", answer.body);
}

async fn pages_and_hosts_are_checked(member: &mut Member) {
    let answer = send(member, "OPTIONS", "/v3/kv/range", "Origin: http://a\r\n", "");
    assert_eq!((answer.code, &*answer.body), (200, ""));
    for header in [
        "access-control-allow-origin: *",
        "access-control-allow-methods: post, get, options, put, delete",
        "access-control-allow-headers: accept, content-type, authorization",
    ] {
        assert!(answer.head.contains(header), "{}", answer.head);
    }
    member.restart(&["--cors=http://a:1,http://b:1", "--host-whitelist=cairn,other"]).await;
    let answer =
        send(member, "POST", "/v3/kv/range", "Origin: http://b:1\r\n", r#"{"key":"YQ=="}"#);
    assert_eq!(answer.code, 200);
    assert!(answer.head.contains("access-control-allow-origin: http://b:1\r\n"), "{}", answer.head);
    let answer = send(member, "POST", "/v3/kv/range", "Origin: http://c\r\n", r#"{"key":"YQ=="}"#);
    assert!(answer.code == 200 && !answer.head.contains("access-control"), "{}", answer.head);
    for (host, code) in [("cairn", 200), ("other:2379", 200), ("evil", 421), ("127.0.0.1", 421)] {
        let words = format!("GET /version HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = member.talk(words.as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{host}: {answer}");
    }
}

async fn it_can_be_switched_off(member: &mut Member) {
    let mut metrics = member.place.address;
    metrics.set_port(2381);
    let listen = format!("--listen-metrics-urls=http://{metrics}");
    member.restart(&[&listen]).await;
    let clients = member.place.address;
    assert_eq!(post(member, "/v3/kv/range", r#"{"key":"YQ=="}"#).code, 200);
    member.place.address = metrics;
    assert_eq!(post(member, "/v3/kv/range", r#"{"key":"YQ=="}"#).code, 404, "metrics only");
    member.place.address = clients;
    member.restart(&["--enable-grpc-gateway=false"]).await;
    assert_eq!(post(member, "/v3/kv/range", r#"{"key":"YQ=="}"#).code, 404);
    assert_eq!(send(member, "GET", "/health", "", "").code, 200);
}

async fn bodies_are_bounded(member: &mut Member) {
    // What the log takes passes, in base64.
    let value = "A".repeat((3 << 20) / 2 - 40);
    let encoded = format!(r#"{{"key":"YQ==","value":"{}"}}"#, "QUFB".repeat(value.len() / 3));
    assert_eq!(post(member, "/v3/kv/put", &encoded).code, 200);
    let kvs = member.kv().range(range("a")).await.unwrap().into_inner().kvs;
    assert_eq!(kvs[0].value.len(), value.len() / 3 * 3);
    // More than the log takes, than a message may have, and than anybody wants to read.
    for (bytes, code, why) in [
        (1_700_000, 400, "etcdserver: request is too large"),
        (2_100_000, 429, "grpc: received message larger than max (2100008 vs. 2097152)"),
        (4_000_000, 429, "grpc: received message larger than max (4194304)"),
    ] {
        let body = format!(r#"{{"key":"YQ==","value":"{}"}}"#, "QUFB".repeat(bytes / 3));
        let answer = post(member, "/v3/kv/put", &body);
        assert_eq!(answer.code, code, "{}", answer.body);
        assert!(answer.body.contains(why), "{}", answer.body);
    }
}

/// Checks that somebody else is served.
async fn assert_well(member: &mut Member, after: &str) {
    assert!(member.is_running(), "it survives {after}");
    member.kv().put(put("well", after.to_owned())).await.unwrap();
}

async fn hostile_bodies_harm_nobody(member: &mut Member) {
    // What nobody knows is passed over, however deep it is; a transaction is read, and must end.
    let deep = |open: &str, close: &str, depth: usize| {
        format!(r#"{{"x":{}{}}}"#, open.repeat(depth), close.repeat(depth))
    };
    let nested = (0..60)
        .fold("{}".to_owned(), |inner, _| format!(r#"{{"success":[{{"request_txn":{inner}}}]}}"#));
    for (path, body) in [
        ("/v3/kv/range", deep("[", "]", 100_000)),
        ("/v3/kv/range", deep(r#"{"a":"#, "}", 100_000)),
        ("/v3/kv/range", "{".repeat(100_000)),
        ("/v3/kv/range", format!(r#"{{"key":"YQ==","limit":{}}}"#, "9".repeat(100_000))),
        ("/v3/kv/range", r#"{"key":"YQ==","limit":1e999999999}"#.to_owned()),
        ("/v3/kv/range", r#"{"key":"YQ==","limit":-0.0000001}"#.to_owned()),
        ("/v3/kv/range", r#"{"key":"====","limit":1}"#.to_owned()),
        ("/v3/kv/range", "{\"key\":\"\u{0}\"}".to_owned()),
        ("/v3/kv/range", r#"{"key":"\ud800"}"#.to_owned()),
        ("/v3/kv/txn", nested),
        ("/v3/lease/keepalive", r#"{"ID":"99999999999999999999"}"#.to_owned()),
    ] {
        let answer = post(member, path, &body);
        let start: String = body.chars().take(40).collect();
        assert!([400, 429].contains(&answer.code), "{start}: {} {}", answer.code, answer.body);
    }
    assert_well(member, "wrong bodies").await;
    // Bodies that do not come, and bodies that come in drops.
    let mut held = Vec::new();
    for number in 0..100 {
        let mut stream = TcpStream::connect(member.place.address).unwrap();
        let path = ["/v3/kv/put", "/v3/watch", "/v3/lock/lock"][number % 3];
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: cairn\r\nContent-Length: 1000000\r\n\r\n{{");
        stream.write_all(head.as_bytes()).unwrap();
        held.push(stream);
    }
    assert_well(member, "bodies that do not come").await;
    for _ in 0..20 {
        for stream in &mut held {
            stream.write_all(b"\"").ok();
        }
    }
    assert_well(member, "bodies in drops").await;
    drop(held);
    // One byte at a time, and no byte is looked at twice: a few megabytes take no time.
    let mut stream = TcpStream::connect(member.place.address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
        .write_all(b"POST /v3/kv/range HTTP/1.1\r\nHost: cairn\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n")
        .unwrap();
    let drops = b"1\r\n{\r\n".to_vec();
    stream.write_all(&drops).unwrap();
    let drops = b"1\r\n \r\n".repeat(1_000_000);
    stream.write_all(&drops).unwrap();
    stream.write_all(b"1\r\n}\r\n0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("key is not provided"), "{answer}");
    assert_well(member, "a million chunks").await;
    let most = member.memory_kib("VmHWM") >> 10;
    assert!(most < 150, "it took {most} MiB");
}

async fn clients_that_do_not_read_are_not_hoarded_for(member: &mut Member) {
    let mut held = Vec::new();
    for _ in 0..20 {
        let stream = TcpStream::connect(member.place.address).unwrap();
        let body = r#"{"create_request":{"key":"AA==","range_end":"AA=="}}"#;
        (&stream).write_all(request("POST", "/v3/watch", "", body).as_bytes()).unwrap();
        held.push(stream);
    }
    let value = vec![7; 1 << 20];
    for number in 0..64 {
        member.kv().put(put(format!("{number:02}"), value.clone())).await.unwrap();
    }
    for _ in 0..20 {
        let stream = TcpStream::connect(member.place.address).unwrap();
        (&stream)
            .write_all(request("POST", "/v3/maintenance/snapshot", "", "").as_bytes())
            .unwrap();
        held.push(stream);
    }
    assert_well(member, "streams that nobody reads").await;
    // The store, 4 MiB of events on the way to each watcher, and as much again in base64.
    let most = member.memory_kib("VmHWM") >> 10;
    assert!(most < 64 * 2 + 20 * 12 + 150, "it took {most} MiB");
    drop(held);
    assert_well(member, "their end").await;
}

async fn a_member_that_ends_ends_its_streams(member: &mut Member) {
    let mut lines = Lines::open(member, "/v3/watch", "", r#"{"create_request":{"key":"YQ=="}}"#);
    lines.result();
    let begun = tokio::time::Instant::now();
    member.terminate().await;
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let line = lines.next().unwrap();
    assert!(line.contains(r#""message":"etcdserver: server stopped""#), "{line}");
    assert_eq!(lines.next(), None);
}
