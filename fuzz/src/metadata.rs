//! What comes with a call: how long its client waits, who traces it, and who it says it is.

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;

use cairn_engine::auth::Credential;
use cairn_server::auth::Accounts;
use cairn_server::config::security::{AuthToken, Jwt};
use cairn_server::grpc::timeout;
use cairn_server::spans::Parent;
use cairn_server::tls::names::{self, Names};
use http::header::HeaderValue;
use http::{HeaderMap, HeaderName};
use rustls_pki_types::CertificateDer;

/// Reads the same text as `grpc-timeout` and as `traceparent`.
pub fn call_metadata(data: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(data) else { return };
    let mut metadata = HeaderMap::new();
    metadata.insert("grpc-timeout", value);
    let read = timeout::read(&metadata);
    let text = core::str::from_utf8(data).unwrap_or_default();
    let digits = text.trim_end_matches(|last: char| last.is_ascii_alphabetic());
    match read {
        Ok(None) => unreachable!("it is there"),
        Ok(Some(limit)) => {
            assert_eq!(text.len(), digits.len() + 1, "digits and a unit");
            assert!(digits.len() <= 8 && limit <= Duration::from_secs(99_999_999 * 3600));
            assert_eq!(limit.is_zero(), digits.bytes().all(|byte| byte == b'0'));
        }
        Err(status) => assert!(!status.message.is_empty()),
    }
    if Parent::parse(text).is_some() {
        let lengths: Vec<usize> = text.split('-').map(str::len).collect();
        assert!(lengths.starts_with(&[2, 32, 16, 2]), "{text}");
        let ids = text[3..52].bytes().filter(|byte| *byte != b'-');
        assert!(ids.clone().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase()));
        assert!(ids.take(32).any(|byte| byte != b'0') && !text.starts_with("ff"), "{text}");
    }
}

const SECRET: &str = "the secret of the fuzzer";

thread_local! {
    static ACCOUNTS: Accounts = accounts();
}

/// Accounts whose tokens are signed with a secret.
fn accounts() -> Accounts {
    let thread = format!("{:?}", std::thread::current().id());
    let thread: String = thread.chars().filter(char::is_ascii_digit).collect();
    let name = format!("cairn-fuzz-secret-{}-{thread}", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, SECRET).expect("there is room for a few bytes");
    let jwt = Jwt {
        sign_method: "HS256".to_owned(),
        public_key_file: None,
        private_key_file: Some(path.clone()),
        ttl: Duration::from_secs(60),
    };
    let accounts = Accounts::new(&AuthToken::Jwt(jwt), 4, false).expect("the secret is good");
    std::fs::remove_file(path).ok();
    accounts
}

/// Reads a token that is signed, or says so. Whoever has no key makes none; the one that is among the seeds names `ann`.
pub fn signed_token(data: &[u8]) {
    let Some((kind, token)) = data.split_first() else { return };
    let text = if kind % 2 == 0 { token.to_vec() } else { [b"Bearer ", token].concat() };
    let Ok(value) = HeaderValue::from_bytes(&text) else { return };
    let mut metadata = HeaderMap::new();
    metadata.insert(HeaderName::from_static("authorization"), value);
    match ACCOUNTS.with(|accounts| accounts.credential(&metadata, None)) {
        Credential::Unreadable => {}
        Credential::Signed { name, revision } => assert_eq!((&*name, revision), ("ann", 7)),
        other @ (Credential::None
        | Credential::Member
        | Credential::Token(_)
        | Credential::CommonName(_)) => panic!("no token is this: {other:?}"),
    }
}

/// Reads a certificate as that of a client and of a peer.
pub fn certificate(data: &[u8]) {
    let shown = CertificateDer::from(data);
    let common = names::common_name(&shown);
    let is = |name: &str| Names::Common(vec![name.to_owned()]).allow(&shown);
    match &common {
        Some(name) => assert!(is(name) && !is(&format!("{name}x"))),
        None => assert!(!is("")),
    }
    assert!(Names::Any.allow(&shown));
    Names::Hosts(vec!["example.com".to_owned(), "10.0.0.1".to_owned(), "::1".to_owned()])
        .allow(&shown);
    names::place(&shown, IpAddr::V4(Ipv4Addr::LOCALHOST));
}
