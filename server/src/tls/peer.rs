//! What members speak to each other: each is a server to the others, and their client.
//!
//! Both sides show the certificate of `--peer-cert-file` (or, when dialling, `--peer-client-cert-file`) and trust whom
//! `--peer-trusted-ca-file` names. A member that accepts also compares the address of the other with what the other's
//! certificate says (`--peer-skip-client-san-verification` switches that off). With `--peer-auto-tls`, certificates are made
//! by each member for itself and nobody is known by them: what is said is secret, who says it is not certain.

use core::future::{Future, poll_fn};
use core::net::IpAddr;
use core::pin::pin;
use core::task::Poll;
use std::net::ToSocketAddrs as _;
use std::sync::Arc;
use std::thread;

use cairn_io::runtime::{Connection as Io, Runtime};
use rustls::ClientConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;

use super::choice::Chosen;
use super::files::{Paths, TlsError};
use super::names::{self, Names, Place};
use super::server::{Acceptor, HANDSHAKE_LIMIT, Server, WRONG_NAME};
use crate::config::security::{Tls, TlsChoice};

/// TLS between members. One for all cores.
#[derive(Clone, Debug)]
pub struct PeerTls {
    server: Server,
    client: Client,
    /// Whether addresses are compared with certificates.
    checks_addresses: bool,
}

#[derive(Clone, Debug)]
struct Client {
    paths: Paths,
    chosen: Chosen,
    names: Names,
    /// Whether certificates are their own proof, as all are that members make for themselves.
    trusts_anybody: bool,
}

impl PeerTls {
    /// Reads the files for the first time. With `--peer-auto-tls` they were made before
    /// ([`self_signed`](super::self_signed)) and are named in `tls`.
    ///
    /// # Errors
    /// If they do not hold what they should.
    pub fn new(tls: &Tls, choice: &TlsChoice) -> Result<Self, TlsError> {
        let server = Server::new(tls, choice)?;
        let cert = tls.client_cert_file.clone().or_else(|| tls.cert_file.clone());
        let key = tls.client_key_file.clone().or_else(|| tls.key_file.clone());
        let (Some(cert), Some(key)) = (cert, key) else {
            return Err(TlsError::Flags("a certificate and its key are needed for TLS"));
        };
        if tls.client_cert_file.is_some() != tls.client_key_file.is_some() {
            return Err(TlsError::Flags(
                "a certificate to dial with and its key must be given together",
            ));
        }
        let (trusted_ca, crl) = (tls.trusted_ca_file.clone(), tls.crl_file.clone());
        let client = Client {
            paths: Paths { cert, key, trusted_ca, crl },
            chosen: Chosen::new(choice)?,
            names: Names::new(tls)?,
            trusts_anybody: tls.auto && tls.trusted_ca_file.is_none(),
        };
        client.config()?;
        let checks_addresses = !tls.skip_client_san_verification;
        Ok(Self { server, client, checks_addresses })
    }

    /// Dials: makes a connection to `host`, a name or an address, a secured one. Files are read anew.
    ///
    /// # Errors
    /// Why the other side is not trusted, or does not answer.
    pub async fn connect<R: Runtime>(&self, io: Io, host: &str) -> Result<Io, String> {
        let config = self.client.config().map_err(|error| error.to_string())?;
        let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
        let mut connecting = pin!(TlsConnector::from(config).connect(name, io));
        let mut limit = pin!(R::sleep(HANDSHAKE_LIMIT));
        let stream = poll_fn(|context| {
            if let Poll::Ready(connected) = connecting.as_mut().poll(context) {
                return Poll::Ready(connected.map_err(|error| error.to_string()));
            }
            limit.as_mut().poll(context).map(|()| Err("the handshake took too long".to_owned()))
        })
        .await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        if !shown.is_some_and(|certificate| self.client.names.allow(certificate)) {
            return Err(WRONG_NAME.to_owned());
        }
        Ok(Box::new(stream))
    }

    /// What accepts on one core.
    pub fn acceptor(&self) -> PeerAcceptor {
        PeerAcceptor { acceptor: self.server.acceptor(), checks_addresses: self.checks_addresses }
    }
}

/// Accepts other members on one core.
#[derive(Clone, Debug)]
pub struct PeerAcceptor {
    acceptor: Acceptor,
    checks_addresses: bool,
}

impl PeerAcceptor {
    /// Makes a connection a secured one. `from` is the other side's address, if it has one.
    ///
    /// # Errors
    /// Why the other side is turned away, for the log.
    pub async fn accept<R: Runtime>(&self, io: Io, from: Option<IpAddr>) -> Result<Io, String> {
        let secured = self.acceptor.accept::<R>(io).await?;
        if self.checks_addresses
            && let (Some(certificate), Some(from)) = (&secured.certificate, from)
        {
            check_address(certificate, from).await?;
        }
        Ok(secured.io)
    }
}

/// Whether a certificate may be used from an address. Asking for the addresses of names takes a thread of its own.
async fn check_address(certificate: &CertificateDer<'_>, from: IpAddr) -> Result<(), String> {
    let hosts = match names::place(certificate, from) {
        Place::Right => return Ok(()),
        Place::Wrong => return Err(format!("the certificate is not for {from}")),
        Place::Hosts(hosts) => hosts,
    };
    let (tell, told) = oneshot::channel();
    let text = format!("{from} is the address of none of {hosts:?}");
    let look = move || {
        let is_one = |host: &String| {
            let found = (host.as_str(), 0).to_socket_addrs();
            found.is_ok_and(|mut found| found.any(|address| address.ip() == from))
        };
        // Whoever asked may have gone.
        tell.send(hosts.iter().any(is_one)).ok();
    };
    let begun = thread::Builder::new().name("cairn-resolve".to_owned()).spawn(look);
    if begun.is_ok() && told.await == Ok(true) { Ok(()) } else { Err(text) }
}

impl Client {
    fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let contents = self.paths.read()?;
        let (chain, key) = self.paths.identity(&contents)?;
        let provider = self.chosen.provider.clone();
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&self.chosen.versions)?;
        let verifier: Arc<dyn ServerCertVerifier> = match self.paths.roots(&contents)? {
            Some(roots) => WebPkiServerVerifier::builder_with_provider(roots, provider)
                .with_crls(self.paths.revoked(&contents)?)
                .allow_unknown_revocation_status()
                .build()
                .map_err(|error| TlsError::Unusable(error.to_string()))?,
            None if self.trusts_anybody => Arc::new(Anybody(provider)),
            None => {
                return Err(TlsError::Flags("no file says which members to trust"));
            }
        };
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        Ok(Arc::new(builder.with_client_auth_cert(chain, key)?))
    }
}

/// Takes any certificate; that the other side has its key is still proven.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
