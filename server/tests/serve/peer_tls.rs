//! TLS of members among each other: who trusts whom, both ways, on both runtimes.

use core::future::Future;
use core::net::IpAddr;
use core::time::Duration;
use std::path::Path;

use cairn_io::runtime::{Connection, Executor, Glommio, Plan, Runtime, Tokio, run};
use cairn_server::config::security::{Tls, TlsChoice, TlsVersion};
use cairn_server::tls::peer::PeerTls;
use cairn_server::tls::self_signed;
use futures_util::future::join;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::authority::{Authority, Identity};
use crate::harness::{self, Place};

const CHOICE: TlsChoice =
    TlsChoice { version_min: TlsVersion::Tls12, version_max: None, cipher_suites: Vec::new() };

/// What a member is told that has a certificate and trusts whom a file names.
fn member(identity: &Identity, trusted: &Path) -> Tls {
    Tls {
        cert_file: Some(identity.cert.clone()),
        key_file: Some(identity.key.clone()),
        trusted_ca_file: Some(trusted.to_owned()),
        client_cert_auth: true,
        ..Tls::default()
    }
}

/// Lets one member dial another, by a host's name and from an address; what each side found.
async fn meet<R: Runtime>(
    dials: &PeerTls,
    host: &str,
    answers: &PeerTls,
    from: IpAddr,
) -> (Result<(), String>, Result<(), String>) {
    let (near, far) = tokio::io::duplex(1 << 16);
    let dialled = async {
        let mut io = dials.connect::<R>(Box::new(near), host).await?;
        let text = |error: std::io::Error| error.to_string();
        io.write_all(b"ping").await.map_err(text)?;
        io.flush().await.map_err(text)?;
        let mut answer = [0; 4];
        io.read_exact(&mut answer).await.map_err(text)?;
        assert_eq!(&answer, b"pong");
        Ok(())
    };
    let answered = async {
        let acceptor = answers.acceptor();
        let mut io: Connection = acceptor.accept::<R>(Box::new(far), Some(from)).await?;
        let mut question = [0; 4];
        io.read_exact(&mut question).await.map_err(|error| error.to_string())?;
        io.write_all(b"pong").await.map_err(|error| error.to_string())?;
        io.flush().await.map_err(|error| error.to_string())
    };
    join(dialled, answered).await
}

fn on<R: Executor, F: Future<Output = ()> + 'static>(
    test: impl Fn() -> F + Clone + Send + 'static,
) {
    run::<R, _, _, _>(Plan::default(), vec![()], move |_, ()| test()).unwrap();
}

macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod on_glommio {
            $(#[test] fn $name() {
                if super::harness::Runtime::Glommio.is_here() {
                    super::on::<super::Glommio, _>(super::$name::<super::Glommio>);
                }
            })+
        }
        mod on_tokio {
            $(#[test] fn $name() {
                super::on::<super::Tokio, _>(super::$name::<super::Tokio>);
            })+
        }
    };
}

on_both! {
    members_of_one_authority_trust_each_other,
    strangers_do_not,
    some_names_are_trusted,
    addresses_are_compared_with_certificates,
    members_that_made_their_own_certificates_take_any,
    a_silent_member_is_not_waited_for,
}

const HERE: IpAddr = IpAddr::V4(core::net::Ipv4Addr::LOCALHOST);

async fn members_of_one_authority_trust_each_other<R: Runtime>() {
    let place = Place::new();
    let authority = Authority::new(&place.directory, "authority");
    let one = authority.issue("one", 1, &["127.0.0.1", "one.example"]);
    let two = authority.issue("two", 2, &["127.0.0.1", "two.example"]);
    let [one, two] =
        [one, two].map(|it| PeerTls::new(&member(&it, &authority.file), &CHOICE).unwrap());
    for host in ["127.0.0.1", "two.example"] {
        assert_eq!(meet::<R>(&one, host, &two, HERE).await, (Ok(()), Ok(())));
    }
    let (dialled, _) = meet::<R>(&one, "three.example", &two, HERE).await;
    assert!(dialled.unwrap_err().contains("certificate"));
}

async fn strangers_do_not<R: Runtime>() {
    let place = Place::new();
    let authority = Authority::new(&place.directory, "authority");
    let other = Authority::new(&place.directory, "other");
    let one = authority.issue("one", 1, &["127.0.0.1"]);
    let two = other.issue("two", 2, &["127.0.0.1"]);
    let home = PeerTls::new(&member(&one, &authority.file), &CHOICE).unwrap();
    // One that trusts everybody here is not trusted here.
    let stranger = PeerTls::new(&member(&two, &authority.file), &CHOICE).unwrap();
    let (dialled, answered) = meet::<R>(&stranger, "127.0.0.1", &home, HERE).await;
    assert!(dialled.is_err() && answered.is_err());
    let (dialled, answered) = meet::<R>(&home, "127.0.0.1", &stranger, HERE).await;
    assert!(dialled.is_err() && answered.is_err());

    let list = place.directory.join("revoked.pem");
    authority.revoke(&list, &[3]);
    let revoked = authority.issue("revoked", 3, &["127.0.0.1"]);
    let revoked = PeerTls::new(&member(&revoked, &authority.file), &CHOICE).unwrap();
    let careful = Tls { crl_file: Some(list), ..member(&one, &authority.file) };
    let careful = PeerTls::new(&careful, &CHOICE).unwrap();
    let (_, answered) = meet::<R>(&revoked, "127.0.0.1", &careful, HERE).await;
    assert!(answered.unwrap_err().contains("Revoked"));
    let (dialled, _) = meet::<R>(&careful, "127.0.0.1", &revoked, HERE).await;
    assert!(dialled.unwrap_err().contains("Revoked"));
}

async fn some_names_are_trusted<R: Runtime>() {
    let place = Place::new();
    let authority = Authority::new(&place.directory, "authority");
    let one = member(&authority.issue("one", 1, &["127.0.0.1"]), &authority.file);
    let two = member(&authority.issue("two", 2, &["127.0.0.1"]), &authority.file);
    let plain = PeerTls::new(&two, &CHOICE).unwrap();
    let wants = |names: &[&str]| {
        let allowed_cns = names.iter().map(|name| (*name).to_owned()).collect();
        PeerTls::new(&Tls { allowed_cns, ..one.clone() }, &CHOICE).unwrap()
    };
    assert_eq!(meet::<R>(&plain, "127.0.0.1", &wants(&["two"]), HERE).await.1, Ok(()));
    let refused = "the certificate has none of the allowed names: compare the other member's certificate with \
                   --peer-cert-allowed-cn and --peer-cert-allowed-hostname"
        .to_owned();
    assert_eq!(meet::<R>(&plain, "127.0.0.1", &wants(&["x"]), HERE).await.1, Err(refused.clone()));
    assert_eq!(meet::<R>(&wants(&["x"]), "127.0.0.1", &plain, HERE).await.0, Err(refused));
    // One certificate to show, another to dial with.
    let dialling = authority.issue("dialling", 4, &[]);
    let two =
        Tls { client_cert_file: Some(dialling.cert), client_key_file: Some(dialling.key), ..two };
    let two = PeerTls::new(&two, &CHOICE).unwrap();
    assert_eq!(meet::<R>(&two, "127.0.0.1", &wants(&["dialling"]), HERE).await.1, Ok(()));
}

async fn addresses_are_compared_with_certificates<R: Runtime>() {
    let place = Place::new();
    let authority = Authority::new(&place.directory, "authority");
    let home = member(&authority.issue("home", 1, &["127.0.0.1"]), &authority.file);
    let careful = PeerTls::new(&home, &CHOICE).unwrap();
    let trusting = Tls { skip_client_san_verification: true, ..home };
    let trusting = PeerTls::new(&trusting, &CHOICE).unwrap();
    for (name, hosts, let_in) in [
        ("nowhere", [].as_slice(), true),
        ("here", &["127.0.0.1"], true),
        // A name whose address this is.
        ("local", &["10.9.9.9", "localhost"], true),
        ("there", &["10.9.9.9"], false),
        ("named", &["nobody.invalid"], false),
    ] {
        let peer = member(&authority.issue(name, 2, hosts), &authority.file);
        let peer = PeerTls::new(&peer, &CHOICE).unwrap();
        let (_, answered) = meet::<R>(&peer, "127.0.0.1", &careful, HERE).await;
        assert_eq!(answered.is_ok(), let_in, "{name}: {answered:?}");
        assert_eq!(meet::<R>(&peer, "127.0.0.1", &trusting, HERE).await.1, Ok(()), "{name}");
    }
}

async fn members_that_made_their_own_certificates_take_any<R: Runtime>() {
    let place = Place::new();
    let auto = |name: &str| {
        let folder = place.directory.join(name);
        let now = Duration::from_nanos(cairn_io::clock::wall_ns());
        let hosts = ["127.0.0.1".to_owned()];
        let (cert, key) = self_signed::in_folder(&folder, &hosts, 1, now).unwrap();
        let tls = Tls { cert_file: Some(cert), key_file: Some(key), auto: true, ..Tls::default() };
        PeerTls::new(&tls, &CHOICE).unwrap()
    };
    let (one, two) = (auto("one"), auto("two"));
    assert_eq!(meet::<R>(&one, "10.1.2.3", &two, HERE).await, (Ok(()), Ok(())));
    // Without being told to, nobody is trusted.
    let nobody = Tls {
        cert_file: Some(place.directory.join("one/cert.pem")),
        key_file: Some(place.directory.join("one/key.pem")),
        ..Tls::default()
    };
    assert!(PeerTls::new(&nobody, &CHOICE).is_err());
}

async fn a_silent_member_is_not_waited_for<R: Runtime>() {
    let place = Place::new();
    let authority = Authority::new(&place.directory, "authority");
    let home = member(&authority.issue("home", 1, &["127.0.0.1"]), &authority.file);
    let home = PeerTls::new(&home, &CHOICE).unwrap();
    let (near, far) = tokio::io::duplex(1 << 16);
    let (silent, _held) = tokio::io::duplex(1 << 16);
    let acceptor = home.acceptor();
    let (dialled, answered) = join(
        home.connect::<R>(Box::new(near), "127.0.0.1"),
        acceptor.accept::<R>(Box::new(silent), Some(HERE)),
    )
    .await;
    let late = "the handshake took too long";
    assert_eq!((dialled.err().as_deref(), answered.err().as_deref()), (Some(late), Some(late)));
    drop(far);
}
