//! TLS of clients: who is let in, what is spoken inside, and what files may do while a member runs.

use core::time::Duration;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use bytes::Bytes;
use cairn_engine::api::etcdserverpb::{PutRequest, RangeRequest, RangeResponse};
use h2::client::SendRequest;
use prost::Message as _;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::authority::{self, Authority, Identity};
use crate::harness::{LIMIT, Member, Place, Runtime, cairn, on_both_runtimes, refused};

on_both_runtimes! {
    grpc_and_http_are_spoken_inside,
    http2_without_grpc_is_served_inside,
    plain_and_secured_addresses_stand_side_by_side,
    a_unix_socket_is_secured_too,
    clients_show_certificates,
    some_names_are_let_in,
    what_is_revoked_is_not_let_in,
    new_files_count_at_the_next_handshake,
    a_certificate_is_made_and_kept,
    versions_and_suites_are_chosen,
    half_open_handshakes_harm_nobody,
    a_member_ends_in_the_middle_of_handshakes,
}

/// An authority in the member's directory, and a certificate for the member.
pub(crate) fn authority(member: &Member) -> (Authority, Identity) {
    let authority = Authority::new(&member.place.directory, "authority");
    let host = member.place.address.ip().to_string();
    let identity = authority.issue("server", 1, &[&host, "localhost"]);
    (authority, identity)
}

/// Starts the member again, with TLS and these flags.
pub(crate) async fn secure(member: &mut Member, identity: &Identity, more: &[String]) {
    let url = format!("https://{}", member.place.address);
    let mut flags = vec![
        format!("--listen-client-urls={url}"),
        format!("--advertise-client-urls={url}"),
        format!("--cert-file={}", identity.cert.display()),
        format!("--key-file={}", identity.key.display()),
    ];
    flags.extend_from_slice(more);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    member.restart(&flags).await;
}

pub(crate) type Stream = TlsStream<tokio::net::TcpStream>;

/// Shakes hands, and speaks if that is what is agreed on.
pub(crate) async fn connect(
    member: &Member,
    mut config: ClientConfig,
    protocols: &[&str],
) -> std::io::Result<Stream> {
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let socket = tokio::net::TcpStream::connect(member.place.address).await?;
    let name = ServerName::from(core::net::IpAddr::from(*member.place.address.ip()));
    TlsConnector::from(Arc::new(config)).connect(name, socket).await
}

/// Asks for `/health`; an error if the handshake fails, at once or, as in TLS 1.3, when the first answer is read.
async fn health(member: &Member, config: ClientConfig) -> Result<String, String> {
    let text = |error: std::io::Error| error.to_string();
    let mut stream = connect(member, config, &["http/1.1"]).await.map_err(text)?;
    let words = "GET /health HTTP/1.1\r\nHost: cairn\r\nConnection: close\r\n\r\n";
    stream.write_all(words.as_bytes()).await.map_err(text)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(text)?;
    if answer.starts_with("HTTP/1.1 200 OK") { Ok(answer) } else { Err(answer) }
}

pub(crate) async fn http2(stream: Stream) -> SendRequest<Bytes> {
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    client
}

/// Posts a body of some type; the status, what came, and the trailers' gRPC status.
pub(crate) async fn post(
    client: &mut SendRequest<Bytes>,
    path: &str,
    kind: &str,
    body: Vec<u8>,
) -> (u16, Vec<u8>, Option<String>) {
    core::future::poll_fn(|context| client.poll_ready(context)).await.unwrap();
    let request = http::Request::post(format!("https://cairn{path}")).header("content-type", kind);
    let (response, mut stream) = client.send_request(request.body(()).unwrap(), false).unwrap();
    stream.send_data(body.into(), true).unwrap();
    let response = response.await.unwrap();
    let code = response.status().as_u16();
    let (mut body, mut found) = (response.into_body(), Vec::new());
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        found.extend_from_slice(&data);
    }
    let trailers = body.trailers().await.unwrap().unwrap_or_default();
    let status = trailers.get("grpc-status").map(|status| status.to_str().unwrap().to_owned());
    (code, found, status)
}

pub(crate) fn framed(message: &impl prost::Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    [&[0], &u32::try_from(message.len()).unwrap().to_be_bytes()[..], &message].concat()
}

async fn grpc_and_http_are_spoken_inside(member: &mut Member) {
    let (authority, identity) = authority(member);
    secure(member, &identity, &[]).await;
    member.wait_for("serving client traffic securely");
    let stream = connect(member, authority.client(None), &["h2", "http/1.1"]).await.unwrap();
    let mut client = http2(stream).await;
    let put = PutRequest { key: "a".into(), value: "1".into(), ..PutRequest::default() };
    let grpc = "application/grpc";
    let (code, _, status) = post(&mut client, "/etcdserverpb.KV/Put", grpc, framed(&put)).await;
    assert_eq!((code, status.as_deref()), (200, Some("0")));
    let range = RangeRequest { key: "a".into(), ..RangeRequest::default() };
    let (_, body, _) = post(&mut client, "/etcdserverpb.KV/Range", grpc, framed(&range)).await;
    assert_eq!(&*RangeResponse::decode(&body[5..]).unwrap().kvs[0].value, b"1");

    health(member, authority.client(None)).await.unwrap();
    // Whoever agrees on nothing may speak either.
    let mut stream = connect(member, authority.client(None), &[]).await.unwrap();
    let words = "POST /v3/kv/range HTTP/1.1\r\nHost: cairn\r\nConnection: close\r\nContent-Length: 14\r\n\r\n{\"key\":\"YQ==\"}";
    stream.write_all(words.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains(r#""value":"MQ==""#), "{answer}");
}

async fn http2_without_grpc_is_served_inside(member: &mut Member) {
    let (authority, identity) = authority(member);
    // Through TLS, any host may be named.
    secure(member, &identity, &["--host-whitelist=other".to_owned()]).await;
    let stream = connect(member, authority.client(None), &["h2", "http/1.1"]).await.unwrap();
    let mut client = http2(stream).await;
    let json = "application/json";
    for (path, body, code, expected) in [
        ("/v3/kv/put", r#"{"key":"YQ==","value":"MQ=="}"#, 200, r#"{"header":"#),
        ("/v3/kv/range", r#"{"key":"YQ=="}"#, 200, r#""value":"MQ==""#),
        ("/v3/kv/range", "{}", 400, "key is not provided"),
        ("/v3/lease/keepalive", r#"{"ID":7}{"ID":8}"#, 200, r#""ID":"8"}}"#),
        ("/health", "", 405, "Method Not Allowed"),
        ("/nothing", "", 404, "404 page not found"),
    ] {
        let (found, body, _) = post(&mut client, path, json, body.into()).await;
        let body = String::from_utf8(body).unwrap();
        assert!(found == code && body.contains(expected), "{path}: {found} {body}");
    }
    // A long answer, and many at once.
    let value = vec![7; 1 << 20];
    for key in ["b", "c", "d"] {
        let put =
            PutRequest { key: key.into(), value: value.clone().into(), ..PutRequest::default() };
        post(&mut client, "/etcdserverpb.KV/Put", "application/grpc", framed(&put)).await;
    }
    let all = r#"{"key":"AA==","range_end":"AA=="}"#;
    let (code, body, _) = post(&mut client, "/v3/kv/range", json, all.into()).await;
    assert!(code == 200 && body.len() > 3 << 20, "{code}: {} bytes", body.len());
}

async fn plain_and_secured_addresses_stand_side_by_side(member: &mut Member) {
    let (authority, identity) = authority(member);
    let plain = member.place.address;
    let mut secured = plain;
    secured.set_port(2381);
    let more = [
        format!("--listen-client-urls=http://{plain},https://{secured}"),
        "--client-cert-auth=false".to_owned(),
    ];
    secure(member, &identity, &more).await;
    let said = member.said().join("\n");
    assert!(said.contains("ignoring key and cert files"), "{said}");
    member.kv().put(PutRequest { key: "a".into(), ..PutRequest::default() }).await.unwrap();
    member.place.address = secured;
    health(member, authority.client(None)).await.unwrap();
    // Whoever speaks plainly there is not understood.
    let answer = member.talk(b"GET /health HTTP/1.1\r\nHost: cairn\r\nConnection: close\r\n\r\n");
    assert!(!answer.contains("200 OK"), "{answer}");
    member.place.address = plain;
}

async fn a_unix_socket_is_secured_too(member: &mut Member) {
    let (authority, identity) = authority(member);
    let path = member.place.directory.join("socket");
    let more = [format!("--listen-client-urls=unixs://{}", path.display())];
    secure(member, &identity, &more).await;
    let socket = tokio::net::UnixStream::connect(&path).await.unwrap();
    let connector = TlsConnector::from(Arc::new(authority.client(None)));
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = connector.connect(name, socket).await.unwrap();
    let words = b"GET /livez HTTP/1.1\r\nHost: cairn\r\nConnection: close\r\n\r\n";
    stream.write_all(words).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

async fn clients_show_certificates(member: &mut Member) {
    let (authority, identity) = authority(member);
    let other = Authority::new(&member.place.directory, "other");
    let (known, unknown) = (authority.issue("client", 2, &[]), other.issue("stranger", 3, &[]));
    let trusted = format!("--trusted-ca-file={}", authority.file.display());
    // To say whom to trust is to ask for certificates, as in etcd.
    for more in [vec![trusted.clone(), "--client-cert-auth".to_owned()], vec![trusted]] {
        secure(member, &identity, &more).await;
        health(member, authority.client(Some(&known))).await.unwrap();
        health(member, authority.client(None)).await.unwrap_err();
        health(member, authority.client(Some(&unknown))).await.unwrap_err();
    }
    let said = member.said().join("\n");
    assert!(said.contains("rejected connection on client endpoint"), "{said}");
}

async fn some_names_are_let_in(member: &mut Member) {
    let (authority, identity) = authority(member);
    let trusted = format!("--trusted-ca-file={}", authority.file.display());
    let (alice, bob) =
        (authority.issue("alice", 2, &["a.example"]), authority.issue("bob", 3, &["b.example"]));
    let named = "--client-cert-allowed-hostname=c.example,a.example".to_owned();
    secure(member, &identity, &[trusted.clone(), named]).await;
    health(member, authority.client(Some(&alice))).await.unwrap();
    health(member, authority.client(Some(&bob))).await.unwrap_err();
    secure(member, &identity, &[trusted, "--client-cert-allowed-cn=bob".to_owned()]).await;
    health(member, authority.client(Some(&alice))).await.unwrap_err();
    health(member, authority.client(Some(&bob))).await.unwrap();
}

async fn what_is_revoked_is_not_let_in(member: &mut Member) {
    let (authority, identity) = authority(member);
    let list = member.place.directory.join("revoked.pem");
    authority.revoke(&list, &[77]);
    let (good, bad) = (authority.issue("good", 2, &[]), authority.issue("bad", 3, &[]));
    let more = [
        format!("--trusted-ca-file={}", authority.file.display()),
        format!("--client-crl-file={}", list.display()),
    ];
    secure(member, &identity, &more).await;
    health(member, authority.client(Some(&bad))).await.unwrap();
    authority.revoke(&list, &[77, 3]);
    health(member, authority.client(Some(&bad))).await.unwrap_err();
    health(member, authority.client(Some(&good))).await.unwrap();
}

async fn new_files_count_at_the_next_handshake(member: &mut Member) {
    let (authority, identity) = authority(member);
    secure(member, &identity, &[]).await;
    let mut open = connect(member, authority.client(None), &["http/1.1"]).await.unwrap();
    let other = Authority::new(&member.place.directory, "other");
    let host = member.place.address.ip().to_string();
    let next = other.issue("next", 4, &[&host]);
    // A certificate without its key: what was there goes on.
    fs::copy(&next.cert, &identity.cert).unwrap();
    health(member, authority.client(None)).await.unwrap();
    fs::write(&identity.cert, "nonsense").unwrap();
    health(member, authority.client(None)).await.unwrap();
    fs::remove_file(&identity.cert).unwrap();
    health(member, authority.client(None)).await.unwrap();
    let said = member.said().join("\n");
    assert!(said.contains("new certificates are of no use; going on with the old"), "{said}");

    fs::copy(&next.cert, &identity.cert).unwrap();
    fs::copy(&next.key, &identity.key).unwrap();
    health(member, other.client(None)).await.unwrap();
    health(member, authority.client(None)).await.unwrap_err();
    // Who was there before stays.
    let words = b"GET /livez HTTP/1.1\r\nHost: cairn\r\nConnection: close\r\n\r\n";
    open.write_all(words).await.unwrap();
    let mut answer = String::new();
    open.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

async fn a_certificate_is_made_and_kept(member: &mut Member) {
    let url = format!("https://{}", member.place.address);
    let flags = [
        &*format!("--listen-client-urls={url}"),
        &format!("--advertise-client-urls={url}"),
        "--auto-tls",
    ];
    member.restart(&flags).await;
    let folder = member.place.data().join("fixtures/client");
    let cert = fs::read(folder.join("cert.pem")).unwrap();
    let mode = fs::metadata(folder.join("key.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let trusting = || authority::client(&folder.join("cert.pem"), None, rustls::DEFAULT_VERSIONS);
    health(member, trusting()).await.unwrap();
    member.restart(&flags).await;
    assert_eq!(fs::read(folder.join("cert.pem")).unwrap(), cert);
    health(member, trusting()).await.unwrap();
}

async fn versions_and_suites_are_chosen(member: &mut Member) {
    let (authority, identity) = authority(member);
    let (tls12, tls13) = (&rustls::version::TLS12, &rustls::version::TLS13);
    let by = |version| authority::client(&authority.file, None, &[version]);
    secure(member, &identity, &["--tls-min-version=TLS1.3".to_owned()]).await;
    health(member, by(tls13)).await.unwrap();
    health(member, by(tls12)).await.unwrap_err();
    let suite = "--cipher-suites=TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305".to_owned();
    secure(member, &identity, &["--tls-max-version=TLS1.2".to_owned(), suite]).await;
    health(member, by(tls13)).await.unwrap_err();
    let stream = connect(member, by(tls12), &[]).await.unwrap();
    let chosen = stream.get_ref().1.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(chosen, rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256);
}

async fn half_open_handshakes_harm_nobody(member: &mut Member) {
    let (authority, identity) = authority(member);
    secure(member, &identity, &[]).await;
    let mut held = Vec::new();
    // The beginning of a handshake, nothing, and nonsense.
    let starts: [&[u8]; 4] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0xff; 5000],
    ];
    for number in 0..1500 {
        let mut stream = TcpStream::connect(member.place.address).unwrap();
        stream.write_all(starts[number % starts.len()]).ok();
        held.push(stream);
        if number % 300 == 299 {
            health(member, authority.client(None)).await.unwrap();
        }
    }
    // The first ones were pushed out, or are told that they speak nonsense.
    held[1].set_read_timeout(Some(LIMIT)).unwrap();
    assert_eq!(held[1].read(&mut [0; 1]).unwrap_or(0), 0);
    // Whoever is in the middle of one is not pushed out by itself.
    health(member, authority.client(None)).await.unwrap();
    let most = member.memory_kib("VmHWM") >> 10;
    assert!(most < 150, "it took {most} MiB");
}

async fn a_member_ends_in_the_middle_of_handshakes(member: &mut Member) {
    let (_, identity) = authority(member);
    secure(member, &identity, &[]).await;
    let _held = TcpStream::connect(member.place.address).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let begun = tokio::time::Instant::now();
    member.terminate().await;
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[test]
fn what_does_not_fit_together_is_a_reason_not_to_start() {
    let place = Place::new();
    let authority = Authority::new(&place.directory, "authority");
    let host = place.address.ip().to_string();
    let (one, two) = (authority.issue("one", 1, &[&host]), authority.issue("two", 2, &[&host]));
    let (cert, key) = (one.cert.display(), two.key.display());
    let nonsense = place.directory.join("nonsense");
    fs::write(&nonsense, "nonsense").unwrap();
    let nonsense = nonsense.display();
    let url = format!("--listen-client-urls=https://{}", place.address);
    for (flags, why) in [
        (String::new(), "TLS key/cert (--cert-file, --key-file) must be provided for client url"),
        (format!("--cert-file={cert}"), "must be provided for client url"),
        (format!("--cert-file={cert} --key-file={key}"), "cannot serve clients with TLS"),
        (format!("--cert-file={cert} --key-file={nonsense}"), "nonsense holds no private key"),
        (format!("--cert-file={nonsense} --key-file={key}"), "nonsense holds no certificate"),
        (format!("--cert-file=/nowhere --key-file={key}"), "cannot read /nowhere"),
        (
            format!("--cert-file={cert} --key-file={} --client-cert-auth", one.key.display()),
            "no file says whom to trust",
        ),
        (
            format!(
                "--cert-file={cert} --key-file={} --tls-max-version=TLS1.2 --cipher-suites=TLS_RSA_WITH_AES_128_CBC_SHA",
                one.key.display()
            ),
            "none of --cipher-suites is one that is served",
        ),
    ] {
        let mut all = vec![&*url];
        all.extend(flags.split_whitespace());
        let (code, said) = refused(&place, &all);
        assert_eq!(code, Some(1), "{flags}: {said}");
        assert!(said.lines().last().unwrap().contains(why), "{flags}: {said}");
    }
    // With what fits, it starts.
    let fits =
        [&*url, &format!("--cert-file={cert}"), &format!("--key-file={}", one.key.display())];
    drop(Member::start_by(cairn(), place, Runtime::Tokio, &fits));
}
