//! What members speak to each other: each is a server to the others, and their client.
//!
//! Both sides show the certificate of `--peer-cert-file` (or, when dialling, `--peer-client-cert-file`) and trust whom
//! `--peer-trusted-ca-file` names. A member that accepts also compares the address of the other with what the other's
//! certificate says (`--peer-skip-client-san-verification` switches that off). With `--peer-auto-tls`, certificates are made
//! by each member for itself and nobody is known by them: what is said is secret, who says it is not certain.

use core::cell::RefCell;
use core::future::{Future, poll_fn};
use core::net::IpAddr;
use core::pin::{Pin, pin};
use core::task::{Context as TaskContext, Poll};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::ToSocketAddrs as _;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;

use cairn_io::driver::Connector;
use cairn_io::runtime::{Connection as Io, Runtime};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::advice::{HUNG_UP, explained};
use super::choice::Chosen;
use super::files::{Paths, TlsError};
use super::names::{self, Names, Place};
use super::server::{Acceptor, HANDSHAKE_LIMIT, Refused, Server};
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
        let connected = poll_fn(|context| {
            if let Poll::Ready(connected) = connecting.as_mut().poll(context) {
                return Poll::Ready(connected.map_err(Refused::Handshake));
            }
            limit.as_mut().poll(context).map(|()| Err(Refused::Late))
        })
        .await;
        let stream = connected.map_err(explained)?;
        self.client.check(stream.get_ref().1)?;
        Ok(Box::new(Explaining(stream)))
    }

    /// The same, for whoever has nothing else to do. How long it takes is up to `io`'s timeouts.
    ///
    /// # Errors
    /// Why the other side is not trusted, or does not answer.
    pub fn connect_blocking<S: Read + Write>(
        &self,
        mut io: S,
        host: &str,
    ) -> Result<StreamOwned<ClientConnection, S>, String> {
        let config = self.client.config().map_err(|error| error.to_string())?;
        let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
        let mut connection =
            ClientConnection::new(config, name).map_err(|error| error.to_string())?;
        while connection.is_handshaking() {
            let done = connection.complete_io(&mut io);
            done.map_err(|error| explained(Refused::Handshake(error)))?;
        }
        self.client.check(&connection)?;
        Ok(StreamOwned::new(connection, io))
    }

    /// What links are dialed with.
    pub(crate) fn connector<R: Runtime>(self) -> Connector {
        Connector::new(move |io, host| {
            let (tls, host) = (self.clone(), host.to_owned());
            Box::pin(async move { tls.connect::<R>(io, &host).await.map_err(io::Error::other) })
        })
    }

    /// What accepts on one core.
    pub fn acceptor(&self) -> PeerAcceptor {
        let (acceptor, told) = (self.server.acceptor(), Rc::default());
        PeerAcceptor { acceptor, checks_addresses: self.checks_addresses, told }
    }
}

/// Accepts other members on one core.
#[derive(Clone, Debug)]
pub struct PeerAcceptor {
    acceptor: Acceptor,
    checks_addresses: bool,
    /// Why somebody was turned away last, by address. The tasks of its connections share it.
    told: Rc<RefCell<BTreeMap<Option<IpAddr>, String>>>,
}

impl PeerAcceptor {
    /// Makes a connection a secured one. `from` is the other side's address, if it has one.
    ///
    /// # Errors
    /// Why the other side is turned away, for the log.
    pub async fn accept<R: Runtime>(&self, io: Io, from: Option<IpAddr>) -> Result<Io, String> {
        let secured = self.acceptor.accept::<R>(io).await.map_err(explained)?;
        if self.checks_addresses
            && let (Some(certificate), Some(from)) = (&secured.certificate, from)
        {
            check_address(certificate, from).await?;
        }
        self.told.borrow_mut().remove(&from);
        Ok(secured.io)
    }

    /// Whether operators were not told before why whoever is there was turned away. Members dial for ever.
    pub fn is_news(&self, from: Option<IpAddr>, why: &str) -> bool {
        // Members look in this way whether somebody listens.
        if why.ends_with(HUNG_UP) {
            return false;
        }
        let mut told = self.told.borrow_mut();
        if told.get(&from).is_some_and(|told| told == why) {
            return false;
        }
        if told.len() >= TOLD_MAX {
            told.clear();
        }
        told.insert(from, why.to_owned());
        true
    }
}

/// Of so many addresses it is remembered what operators were told.
const TOLD_MAX: usize = 64;

/// Whether a certificate may be used from an address. Asking for the addresses of names takes a thread of its own.
async fn check_address(certificate: &CertificateDer<'_>, from: IpAddr) -> Result<(), String> {
    let hosts = match names::place(certificate, from) {
        Place::Right => return Ok(()),
        Place::Wrong => return Err(format!("the certificate is not for {from}: {ADDRESS_ADVICE}")),
        Place::Hosts(hosts) => hosts,
    };
    let (tell, told) = oneshot::channel();
    let text = format!("{from} is the address of none of {hosts:?}: {ADDRESS_ADVICE}");
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

/// What to do about a certificate that is used from somewhere else.
const ADDRESS_ADVICE: &str = "give the other member a certificate for the address that it dials from, or start this one \
                              with --peer-skip-client-san-verification";

impl Client {
    /// Whether the certificate that the other side has shown is one of those that may be.
    fn check(&self, connection: &ClientConnection) -> Result<(), String> {
        let shown = connection.peer_certificates().and_then(<[_]>::first);
        let is_allowed = shown.is_some_and(|certificate| self.names.allow(certificate));
        if is_allowed { Ok(()) } else { Err(explained(Refused::Name)) }
    }

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
                return Err(TlsError::Flags(
                    "no file says which members to trust: give --peer-trusted-ca-file, or --peer-auto-tls instead of \
                     certificates",
                ));
            }
        };
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        Ok(Arc::new(builder.with_client_auth_cert(chain, key)?))
    }
}

/// A connection that was dialed. In TLS 1.3 whoever dials learns only when it reads that its certificate was not taken.
struct Explaining(TlsStream<Io>);

impl AsyncRead for Explaining {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.0).poll_read(context, buffer);
        read.map_err(|error| {
            if error.kind() == io::ErrorKind::InvalidData {
                io::Error::other(explained(Refused::Handshake(error)))
            } else {
                error
            }
        })
    }
}

impl AsyncWrite for Explaining {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}

/// Takes any certificate; that the other side has its key is still proven.
#[derive(Debug)]
pub(crate) struct Anybody(pub(crate) Arc<CryptoProvider>);

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
