//! Where to listen, and how what is said there is kept secret.
//!
//! Clients and members have TLS of their own. All sockets are bound before any of them is accepted on, so that a port in
//! use or a certificate that is missing costs nothing.

use core::net::IpAddr;
use core::num::NonZeroUsize;
use core::time::Duration;
use std::collections::BTreeSet;
use std::path::PathBuf;

use cairn_io::clock;
use cairn_io::listener::{self, Prepared};
use cairn_io::runtime::{Address, Runtime};

use crate::accept::{self, Face, Secrecy};
use crate::config::Config;
use crate::config::security::Tls;
use crate::config::url::Url;
use crate::context::Context;
use crate::serve::Failed;
use crate::tls::peer::PeerTls;
use crate::tls::{self, self_signed};

/// A socket to accept on.
#[derive(Debug)]
pub struct Socket {
    prepared: Prepared,
    face: Face,
    lock: Lock,
}

/// The sockets of one core.
pub(crate) type Sockets = Vec<Socket>;

/// What makes connections secret that are accepted.
#[derive(Clone, Debug)]
enum Lock {
    Open,
    Clients(tls::Server),
    Peers(PeerTls),
}

/// Binds all listeners, for each core its own.
pub(crate) fn bind(config: &Config, peer_tls: Option<&PeerTls>) -> Result<Vec<Sockets>, Failed> {
    let clients = config.listen_client_urls.iter().map(|url| (url, Face::Clients));
    let http = config.listen_client_http_urls.iter().map(|url| (url, Face::Http));
    let metrics = config.listen_metrics_urls.iter().map(|url| (url, Face::Metrics));
    let peers = config.listen_peer_urls.iter().map(|url| (url, Face::Peers));
    let client_tls = client_tls(config)?;
    let mut cores: Vec<Sockets> = (0..config.cores.get()).map(|_| Vec::new()).collect();
    for (url, face) in peers.chain(clients).chain(http).chain(metrics) {
        let lock = match (face, url.is_tls()) {
            (_, false) => Lock::Open,
            (Face::Peers, true) => {
                Lock::Peers(peer_tls.cloned().expect("where peers want TLS there is some"))
            }
            (Face::Clients | Face::Http | Face::Metrics, true) => {
                Lock::Clients(client_tls.clone().expect("where clients want TLS there is some"))
            }
        };
        // What peers say is for the replica, which is on the first core.
        let executors = if face == Face::Peers { NonZeroUsize::MIN } else { config.cores };
        let bound = listener::bind(&address_of(url), executors);
        let bound = bound.map_err(Failed::to("cannot listen"))?;
        for (core, prepared) in cores.iter_mut().zip(bound) {
            core.push(Socket { prepared, face, lock: lock.clone() });
        }
    }
    Ok(cores)
}

/// TLS of clients, if any of them is to speak it.
fn client_tls(config: &Config) -> Result<Option<tls::Server>, Failed> {
    let urls = || {
        let more = config.listen_client_http_urls.iter().chain(&config.listen_metrics_urls);
        config.listen_client_urls.iter().chain(more)
    };
    let mut settings = config.client_tls.clone();
    if let Some(url) = config.listen_client_urls.iter().find(|url| !url.is_tls()) {
        let client_url = url.as_str();
        if settings.has_certificate() {
            tracing::warn!(
                client_url,
                "scheme is HTTP while key and cert files are present; ignoring key and cert files"
            );
        }
        if settings.client_cert_auth {
            tracing::warn!(
                client_url,
                "scheme is HTTP while --client-cert-auth is enabled; ignoring client cert auth for this URL"
            );
        }
    }
    let Some(url) = urls().find(|url| url.is_tls()) else { return Ok(None) };
    if settings.auto && settings.has_certificate() {
        tracing::warn!("ignoring client auto TLS since certs given");
    } else if settings.auto {
        let (cert, key) = own_certificate(config, "client", &Vec::from_iter(urls()))?;
        (settings.cert_file, settings.key_file) = (Some(cert), Some(key));
    }
    if !settings.has_certificate() {
        let why = format!(
            "TLS key/cert (--cert-file, --key-file) must be provided for client url {} with HTTPS scheme",
            url.as_str()
        );
        return Err(Failed { what: "failed to verify flags", why });
    }
    announce("starting with client TLS", &settings);
    let server = tls::Server::new(&settings, &config.tls);
    server.map(Some).map_err(Failed::to("cannot serve clients with TLS"))
}

/// TLS between members, if this one has what it takes; it is needed as soon as one of them has a URL with `https`.
pub(crate) fn peer_tls(config: &Config) -> Result<Option<PeerTls>, Failed> {
    let mut settings = config.peer_tls.clone();
    let has_certificate = settings.has_certificate();
    if let Some(url) = config.listen_peer_urls.iter().find(|url| !url.is_tls()) {
        let peer_url = url.as_str();
        if has_certificate {
            tracing::warn!(
                peer_url,
                "scheme is HTTP while key and cert files are present; ignoring key and cert files"
            );
        }
        if settings.client_cert_auth {
            tracing::warn!(
                peer_url,
                "scheme is HTTP while --peer-client-cert-auth is enabled; ignoring client cert auth for this URL"
            );
        }
    }
    if settings.auto && has_certificate {
        tracing::warn!("ignoring peer auto TLS since certs given");
        settings.auto = false;
    } else if settings.auto {
        let (cert, key) =
            own_certificate(config, "peer", &Vec::from_iter(&config.listen_peer_urls))?;
        (settings.cert_file, settings.key_file) = (Some(cert), Some(key));
    }
    if !settings.has_certificate() {
        return match config.listen_peer_urls.iter().find(|url| url.is_tls()) {
            Some(url) => Err(Failed {
                what: "failed to verify flags",
                why: format!(
                    "TLS key/cert (--peer-cert-file, --peer-key-file) must be provided for peer url {} with HTTPS scheme",
                    url.as_str()
                ),
            }),
            None => Ok(None),
        };
    }
    announce("starting with peer TLS", &settings);
    let tls = PeerTls::new(&settings, &config.tls);
    tls.map(Some).map_err(Failed::to("cannot use TLS between members"))
}

/// A certificate for those who asked for one, and its key.
fn own_certificate(
    config: &Config,
    side: &str,
    urls: &[&Url],
) -> Result<(PathBuf, PathBuf), Failed> {
    let hosts: BTreeSet<String> =
        urls.iter().filter_map(|url| url.host()).map(str::to_owned).collect();
    let hosts: Vec<String> = hosts.into_iter().collect();
    let folder = config.data_dir.join("fixtures").join(side);
    let now = Duration::from_nanos(clock::wall_ns());
    let years = config.self_signed_cert_validity;
    self_signed::in_folder(&folder, &hosts, years, now)
        .map_err(Failed::to("cannot make a certificate"))
}

fn announce(what: &'static str, tls: &Tls) {
    let file = |path: &Option<PathBuf>| {
        path.as_ref().map_or_else(String::new, |path| path.display().to_string())
    };
    tracing::info!(
        cert = file(&tls.cert_file),
        key = file(&tls.key_file),
        client_cert = file(&tls.client_cert_file),
        client_key = file(&tls.client_key_file),
        trusted_ca = file(&tls.trusted_ca_file),
        client_cert_auth = tls.client_cert_auth,
        crl_file = file(&tls.crl_file),
        "{what}"
    );
}

/// Where to listen: hosts of listen URLs are addresses or `localhost`, as [`Config`] promises.
fn address_of(url: &Url) -> Address {
    match (url.socket_address(), url.unix_path()) {
        (Some(address), _) => Address::Tcp(address),
        (None, Some(path)) => Address::Unix(path.to_path_buf()),
        (None, None) => unreachable!("listen URLs were checked"),
    }
}

/// Accepts connections until the process stops.
pub(crate) async fn listen<R: Runtime>(server: Context<R>, socket: Socket) {
    let Socket { prepared, face, lock } = socket;
    let secrecy = match lock {
        Lock::Open => None,
        Lock::Clients(tls) => Some(Secrecy::Clients(tls.acceptor())),
        Lock::Peers(tls) => Some(Secrecy::Peers(tls.acceptor())),
    };
    let listener = match R::listen(prepared) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(error = %error, "cannot listen"),
    };
    let served = server.clone();
    let serve = move |stream: R::Stream, from: Address| {
        if served.is_stopping() {
            return;
        }
        // Other members, and whoever looks how this one is, are never too many.
        if matches!(face, Face::Clients | Face::Http) && !served.has_room() {
            return;
        }
        let (server, stream) = (served.clone(), Box::new(stream));
        match secrecy.clone() {
            Some(secrecy) => {
                R::spawn(accept::serve_secured(server, stream, face, secrecy, ip(&from)));
            }
            None => R::spawn(accept::serve(server, stream, face, ip(&from))),
        }
    };
    let failed =
        |error: &std::io::Error| tracing::warn!(error = %error, "cannot accept a connection");
    listener::accept_each::<R>(listener, serve, failed).await;
}

/// Where somebody is, if that has an IP address.
fn ip(address: &Address) -> Option<IpAddr> {
    match address {
        Address::Tcp(address) => Some(address.ip().to_canonical()),
        Address::Unix(_) => None,
    }
}
