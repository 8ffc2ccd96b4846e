//! Members that keep secret what they say to each other, and know whom they say it to.

use std::fs;
use std::path::{Path, PathBuf};

use cairn_engine::api::etcdserverpb::{MemberAddRequest, MemberPromoteRequest};

use crate::authority::{Authority, Identity};
use crate::cluster::{Cluster, run_secured, until_ok};
use crate::harness::{Place, Runtime};

/// Makes of each of these functions a test on each runtime.
macro_rules! on_both_runtimes {
    ($($name:ident),+ $(,)?) => {
        mod on_glommio {
            $(#[test] fn $name() { super::on(super::Runtime::Glommio, super::$name); })+
        }
        mod on_tokio {
            $(#[test] fn $name() { super::on(super::Runtime::Tokio, super::$name); })+
        }
    };
}

on_both_runtimes! {
    a_cluster_lives_on_tls_and_grows,
    a_member_with_a_wrong_certificate_is_refused_until_it_has_a_right_one,
    members_make_certificates_for_themselves,
}

fn on(runtime: Runtime, test: fn(Runtime)) {
    if runtime.is_here() {
        test(runtime);
    }
}

/// An authority in a place of its own.
fn authority() -> (Place, Authority) {
    let place = Place::new();
    let authority = Authority::new(&place.directory, "authority");
    (place, authority)
}

/// A certificate for a member that lives there. On this machine all dial from one address.
fn issue(authority: &Authority, number: usize, place: &Place) -> Identity {
    let serial = u64::try_from(number + 1).unwrap();
    let hosts = ["127.0.0.1", &place.address.ip().to_string()];
    authority.issue(&format!("m{number}"), serial, &hosts)
}

fn flags(identity: &Identity, trusted: &Path) -> Vec<String> {
    vec![
        format!("--peer-cert-file={}", identity.cert.display()),
        format!("--peer-key-file={}", identity.key.display()),
        format!("--peer-trusted-ca-file={}", trusted.display()),
        "--peer-client-cert-auth".to_owned(),
    ]
}

fn a_cluster_lives_on_tls_and_grows(runtime: Runtime) {
    let (_place, authority) = authority();
    let more = move |number: usize, place: &Place| {
        let mut flags = flags(&issue(&authority, number, place), &authority.file);
        flags.push("--peer-cert-allowed-cn=m0,m1,m2,m3".to_owned());
        flags
    };
    run_secured(runtime, "https", more, async |cluster: &mut Cluster| {
        cluster.put(0, "a", "1").await;
        for reader in 0..3 {
            assert_eq!(cluster.get(reader, "a").await.as_deref(), Some("1"));
        }
        // Whoever shows no certificate is told nothing, and nobody speaks to the port in the clear.
        let peer = (cluster.members[0].place.address.ip().to_owned(), 2380);
        let mut stream = std::net::TcpStream::connect(peer).unwrap();
        std::io::Write::write_all(&mut stream, b"GET /members HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        std::io::Read::read_to_end(&mut stream, &mut answer).ok();
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");

        // One that joins asks over TLS who there is.
        let place = Place::new();
        let peer_urls = vec![cluster.peer_url(&place)];
        let added = until_ok(async || {
            let request = MemberAddRequest { peer_urls: peer_urls.clone(), is_learner: true };
            cluster.membership(0).member_add(request).await
        })
        .await;
        let initial_cluster = cluster.initial_cluster_with(&place);
        let joined = cluster.begin(place, &initial_cluster, "existing");
        cluster.members[joined].wait_until_ready();
        let promote = MemberPromoteRequest { id: added.member.unwrap().id };
        until_ok(async || cluster.membership(0).member_promote(promote).await).await;
        assert_eq!(cluster.get(joined, "a").await.as_deref(), Some("1"));

        let leader = cluster.leader().await;
        cluster.kill(leader).await;
        cluster.start_again(leader);
        cluster.put(leader, "a", "2").await;
        assert_eq!(cluster.get(joined, "a").await.as_deref(), Some("2"));
    });
}

fn a_member_with_a_wrong_certificate_is_refused_until_it_has_a_right_one(runtime: Runtime) {
    let (_place, authority) = authority();
    let file = authority.file.clone();
    let place = Place::new();
    let other = Authority::new(&place.directory, "other");
    let right = std::rc::Rc::new(authority);
    let issuer = right.clone();
    let more = move |number: usize, place: &Place| flags(&issue(&issuer, number, place), &file);
    run_secured(runtime, "https", more, async |cluster: &mut Cluster| {
        let wrong = cluster.follower().await;
        cluster.kill(wrong).await;
        let issued = issue(&other, wrong, &cluster.members[wrong].place);
        let path = |flag: &str| {
            let flag = cluster.flags[wrong].iter().find_map(|it| it.strip_prefix(flag));
            PathBuf::from(flag.unwrap())
        };
        fs::copy(&issued.cert, path("--peer-cert-file=")).unwrap();
        fs::copy(&issued.key, path("--peer-key-file=")).unwrap();
        let flags = cluster.flags[wrong].clone();
        cluster.members[wrong].begin_again(&crate::cluster::texts(&flags));
        // Those that refuse it say why and what to do; so does the one that is refused.
        let other = (wrong + 1) % 3;
        let refused = cluster.members[other].wait_for("rejected connection on peer endpoint");
        assert!(refused.contains("UnknownIssuer"), "{refused}");
        assert!(refused.contains("--peer-trusted-ca-file: give it one"), "{refused}");
        let told = cluster.members[wrong].wait_for("its log says why");
        assert!(told.contains("does not take this one's certificate"), "{told}");
        cluster.put(other, "a", "1").await;

        // Files are read again at each handshake: it needs no restart.
        issue(&right, wrong, &cluster.members[wrong].place);
        cluster.members[wrong].wait_until_ready();
        assert_eq!(cluster.get(wrong, "a").await.as_deref(), Some("1"));
    });
}

fn members_make_certificates_for_themselves(runtime: Runtime) {
    let more = |_, _: &Place| vec!["--peer-auto-tls".to_owned()];
    run_secured(runtime, "https", more, async |cluster: &mut Cluster| {
        cluster.put(0, "a", "1").await;
        assert_eq!(cluster.get(2, "a").await.as_deref(), Some("1"));
        let cert = |member: &crate::harness::Member| {
            fs::read(member.place.data().join("fixtures/peer/cert.pem")).unwrap()
        };
        let before = cert(&cluster.members[1]);
        assert_ne!(before, cert(&cluster.members[0]));
        cluster.kill(1).await;
        cluster.start_again(1);
        assert_eq!(before, cert(&cluster.members[1]), "it is kept");
    });
}
