//! Accepting: from a connection to one that is secured.
//!
//! # What a client can make us hold
//!
//! Nothing is made for a connection before its first record is there whole ([`is_hello`]); until then it waits in the
//! [lobby](crate::lobby). Then the handshake has [`HANDSHAKE_LIMIT`]. Of handshakes under way there are at most
//! [`HANDSHAKES_MAX`] on a core; one more ends the oldest. So whoever begins many pushes out its own, while those that go
//! on are done within milliseconds.
//!
//! The first step is the dear one: files are read and a signature is made. Those steps take turns, and between two of them
//! everybody else on the core has one, so that a storm of handshakes slows down handshakes and nothing else.

use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::{Future, poll_fn};
use core::pin::{Pin, pin};
use core::task::Poll;
use core::time::Duration;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use cairn_io::runtime::{Connection as Io, Runtime};
use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ServerConfig, ServerConnection};
use tokio::sync::{Semaphore, oneshot};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::choice::Chosen;
use super::files::{Contents, Paths, TlsError};
use super::names::Names;
use crate::config::security::{Tls, TlsChoice};

/// How long a handshake may take.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Handshakes under way on one core.
pub const HANDSHAKES_MAX: usize = 1024;

/// Whether a handshake can begin with these bytes: its first record is there whole, or they are none.
pub fn is_hello(bytes: &[u8]) -> bool {
    match bytes {
        [HANDSHAKE, _, _, high, low, rest @ ..] => {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            rest.len() >= length.min(RECORD_BYTES_MAX)
        }
        [HANDSHAKE, ..] | [] => false,
        _ => true,
    }
}

/// What records of a handshake begin with, RFC 8446 5.1.
const HANDSHAKE: u8 = 22;
/// More than that is no record, which is for rustls to say.
const RECORD_BYTES_MAX: usize = 1 << 14;

/// What listeners accept by. One for all cores; each makes an [`Acceptor`] of it.
#[derive(Clone, Debug)]
pub struct Server {
    paths: Paths,
    names: Names,
    wants_certificate: bool,
    chosen: Chosen,
    first: Loaded,
}

/// What was made of the files.
#[derive(Clone, Debug)]
struct Loaded {
    contents: Contents,
    config: Arc<ServerConfig>,
}

impl Server {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// If they do not hold what they should.
    pub fn new(tls: &Tls, choice: &TlsChoice) -> Result<Self, TlsError> {
        let (Some(cert), Some(key)) = (tls.cert_file.clone(), tls.key_file.clone()) else {
            return Err(TlsError::Flags("a certificate and its key are needed for TLS"));
        };
        // As in etcd, naming whom to trust is asking for certificates.
        let wants_certificate = tls.client_cert_auth || tls.trusted_ca_file.is_some();
        if wants_certificate && tls.trusted_ca_file.is_none() {
            return Err(TlsError::Flags(
                "certificates of clients are asked for, but no file says whom to trust",
            ));
        }
        let (trusted_ca, crl) = (tls.trusted_ca_file.clone(), tls.crl_file.clone());
        let paths = Paths { cert, key, trusted_ca, crl };
        let (names, chosen) = (Names::new(tls)?, Chosen::new(choice)?);
        let contents = paths.read()?;
        let config = config(&paths, &contents, &chosen, wants_certificate)?;
        let first = Loaded { contents, config };
        Ok(Self { paths, names, wants_certificate, chosen, first })
    }

    /// What accepts on one core.
    pub fn acceptor(&self) -> Acceptor {
        let server = self.clone();
        let current = RefCell::new(server.first.clone());
        Acceptor(Rc::new(Inner {
            server,
            current,
            refused: RefCell::default(),
            pending: Pending::default(),
            turns: Semaphore::new(1),
        }))
    }
}

fn config(
    paths: &Paths,
    contents: &Contents,
    chosen: &Chosen,
    wants_certificate: bool,
) -> Result<Arc<ServerConfig>, TlsError> {
    let (chain, key) = paths.identity(contents)?;
    let provider = chosen.provider.clone();
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&chosen.versions)?;
    let roots = paths.roots(contents)?.filter(|_| wants_certificate);
    let asks = roots.is_some();
    let builder = match roots {
        Some(roots) => {
            // What no list speaks of is not revoked; etcd sees it so.
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                .with_crls(paths.revoked(contents)?)
                .allow_unknown_revocation_status()
                .build()
                .map_err(|error| TlsError::Unusable(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if asks {
        // A session that is resumed shows no certificate again, which may have been revoked.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(Arc::new(config))
}

/// Accepts on one core.
#[derive(Clone)]
pub struct Acceptor(Rc<Inner>);

struct Inner {
    server: Server,
    /// The newest of what fitted together.
    current: RefCell<Loaded>,
    /// What did not, so that it is warned of once.
    refused: RefCell<Option<Contents>>,
    pending: Pending,
    /// For the first step of a handshake.
    turns: Semaphore,
}

impl Acceptor {
    /// Makes a connection a secured one.
    ///
    /// # Errors
    /// Why the other side is turned away, for the log.
    pub async fn accept<R: Runtime>(&self, io: Io) -> Result<Secured, Refused> {
        let pending = self.0.pending.enter();
        let mut accepting = pin!(self.handshake::<R>(io));
        let mut limit = pin!(R::sleep(HANDSHAKE_LIMIT));
        let mut pushed_out = pin!(pending.pushed_out());
        let stream = poll_fn(|context| {
            if let Poll::Ready(accepted) = accepting.as_mut().poll(context) {
                return Poll::Ready(accepted.map_err(Refused::Handshake));
            }
            if pushed_out.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(Refused::PushedOut));
            }
            limit.as_mut().poll(context).map(|()| Err(Refused::Late))
        })
        .await?;
        let certificate = shown(stream.get_ref().1).cloned();
        if certificate.as_ref().is_some_and(|shown| !self.0.server.names.allow(shown)) {
            return Err(Refused::Name);
        }
        Ok(Secured { io: Box::new(stream), certificate })
    }

    async fn handshake<R: Runtime>(&self, io: Io) -> io::Result<TlsStream<Io>> {
        let turn = self.0.turns.acquire().await.expect("turns are never over");
        let mut accepting = TlsAcceptor::from(self.config()).accept(io);
        let first_step =
            poll_fn(|context| Poll::Ready(Pin::new(&mut accepting).poll(context))).await;
        // Everybody else, before the next one's.
        R::yield_if_needed().await;
        drop(turn);
        match first_step {
            Poll::Ready(accepted) => accepted,
            Poll::Pending => accepting.await,
        }
    }

    /// What the files say now.
    fn config(&self) -> Arc<ServerConfig> {
        let Inner { server, current, refused, .. } = &*self.0;
        let Server { paths, chosen, wants_certificate, .. } = server;
        match paths.read() {
            Ok(contents) if contents == current.borrow().contents => {}
            Ok(contents) if refused.borrow().as_ref() == Some(&contents) => {}
            Ok(contents) => match config(paths, &contents, chosen, *wants_certificate) {
                Ok(config) => {
                    tracing::info!(cert = %paths.cert.display(), "took new certificates");
                    *current.borrow_mut() = Loaded { contents, config };
                }
                Err(error) => {
                    tracing::warn!(error = %error, "new certificates are of no use; going on with the old");
                    *refused.borrow_mut() = Some(contents);
                }
            },
            Err(error) => {
                tracing::warn!(error = %error, "cannot read certificates; going on with the old");
            }
        }
        current.borrow().config.clone()
    }
}

/// Why the other side of a connection is turned away.
#[derive(Debug)]
pub enum Refused {
    /// TLS failed.
    Handshake(io::Error),
    /// It failed to happen in time.
    Late,
    /// It did not happen before others that were.
    PushedOut,
    /// The certificate was signed well, and is not one of those that may be.
    Name,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handshake(error) => error.fmt(f),
            Self::Late => f.write_str("the handshake took too long"),
            Self::PushedOut => f.write_str("too many handshakes are under way"),
            Self::Name => f.write_str("the certificate has none of the allowed names"),
        }
    }
}

impl core::error::Error for Refused {}

/// A connection that is secured.
pub struct Secured {
    /// What goes through it.
    pub io: Io,
    /// The certificate that the other side has shown.
    pub certificate: Option<CertificateDer<'static>>,
}

/// The certificate that the other side has shown.
fn shown(connection: &ServerConnection) -> Option<&CertificateDer<'static>> {
    connection.peer_certificates()?.first()
}

/// Handshakes under way.
#[derive(Default)]
struct Pending {
    /// By the order in which they began. Dropping one ends its handshake.
    open: Rc<RefCell<BTreeMap<u64, oneshot::Sender<()>>>>,
    last: Cell<u64>,
}

/// One of them.
struct Place {
    open: Rc<RefCell<BTreeMap<u64, oneshot::Sender<()>>>>,
    number: u64,
    end: oneshot::Receiver<()>,
}

impl Pending {
    fn enter(&self) -> Place {
        let number = self.last.get() + 1;
        self.last.set(number);
        let (keep, end) = oneshot::channel();
        let mut open = self.open.borrow_mut();
        if open.len() >= HANDSHAKES_MAX {
            open.pop_first();
        }
        open.insert(number, keep);
        Place { open: self.open.clone(), number, end }
    }
}

impl Place {
    /// Ready when another took the place.
    async fn pushed_out(mut self) {
        // Nothing is ever sent.
        drop((&mut self.end).await);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.borrow_mut().remove(&self.number);
    }
}

impl fmt::Debug for Secured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secured").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").field("cert", &self.0.server.paths.cert).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use core::task::{Context, Waker};

    use super::*;

    #[test]
    fn a_handshake_begins_when_its_first_record_is_whole() {
        let record = [&[22, 3, 1, 1, 2][..], &[0; 258]].concat();
        for length in 0..record.len() {
            assert!(!is_hello(&record[..length]), "{length}");
        }
        assert!(is_hello(&record));
        assert!(is_hello(b"G"), "what is no TLS is for rustls to refuse");
        assert!(is_hello(&[&[22, 3, 1, 255, 255][..], &[0; 1 << 14]].concat()));
    }

    #[test]
    fn one_handshake_too_many_ends_the_oldest() {
        let pending = Pending::default();
        let context = &mut Context::from_waker(Waker::noop());
        let mut places: Vec<_> =
            (0..HANDSHAKES_MAX).map(|_| Box::pin(pending.enter().pushed_out())).collect();
        assert!(places.iter_mut().all(|place| place.as_mut().poll(context).is_pending()));
        let _one_more = pending.enter();
        assert!(places[0].as_mut().poll(context).is_ready());
        assert!(places[1].as_mut().poll(context).is_pending());
        drop(places);
        assert_eq!(pending.open.borrow().len(), 1);
    }
}
