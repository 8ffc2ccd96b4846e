//! Asking a member over its JSON gateway: the smallest client that will do, for subcommands and for a new member that
//! looks for its cluster. It has no runtime: one question, one connection, one thread.
//!
//! It speaks the old version of HTTP whose answers end with the connection, so that an answer that never ends (a watch)
//! is read line by line like any other.

use core::fmt;
use core::time::Duration;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use crate::config::url::Url;
use crate::tls::peer::Anybody;

/// Whom to ask, and how.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// Members that may be asked; the first that can be reached is.
    pub(crate) endpoints: Vec<Url>,
    /// How those are spoken to whose URL wants TLS.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// Says who asks, if somebody has authenticated.
    pub(crate) token: Option<String>,
    /// How long a member may take to be reached, and then to say something; `None`: for ever, once it is reached.
    pub(crate) patience: Option<Duration>,
}

/// Files for TLS.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files {
    pub(crate) trusted: Option<PathBuf>,
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    /// Whether anybody is believed.
    pub(crate) skip_verify: bool,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// Nobody could be asked.
    Unreachable(String),
    /// Somebody refuses.
    Refused(String),
}

/// What an answer comes from.
trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

/// The body of an answer.
pub(crate) type Body = Box<dyn BufRead>;

impl Client {
    /// Asks one question of whoever can be reached.
    pub(crate) fn ask(&self, path: &str, question: &Value) -> Result<Value, Unanswered> {
        let mut last = Unanswered::Unreachable("there is nobody to ask".to_owned());
        for endpoint in &self.endpoints {
            match self.ask_one(endpoint, path, question) {
                Err(unreachable @ Unanswered::Unreachable(_)) => last = unreachable,
                answered => return answered,
            }
        }
        Err(last)
    }

    /// Asks one member.
    pub(crate) fn ask_one(
        &self,
        endpoint: &Url,
        path: &str,
        question: &Value,
    ) -> Result<Value, Unanswered> {
        let text = read(self.begin(endpoint, "POST", path, &question.to_string())?)
            .map_err(|error| unreachable(endpoint, error))?;
        serde_json::from_str(&text).map_err(|error| unreachable(endpoint, error))
    }

    /// What is at a path: the status, and the text.
    pub(crate) fn get(&self, endpoint: &Url, path: &str) -> Result<String, Unanswered> {
        read(self.begin(endpoint, "GET", path, "")?).map_err(|error| unreachable(endpoint, error))
    }

    /// Asks a question whose answer comes in lines, of whoever can be reached.
    pub(crate) fn lines(&self, path: &str, question: &Value) -> Result<Body, Unanswered> {
        let mut last = Unanswered::Unreachable("there is nobody to ask".to_owned());
        for endpoint in &self.endpoints {
            match self.begin(endpoint, "POST", path, &question.to_string()) {
                Err(unreachable @ Unanswered::Unreachable(_)) => last = unreachable,
                begun => return begun,
            }
        }
        Err(last)
    }

    /// Sends a request, and reads the head of its answer.
    fn begin(
        &self,
        endpoint: &Url,
        method: &str,
        path: &str,
        body: &str,
    ) -> Result<Body, Unanswered> {
        let failed = |error| unreachable(endpoint, error);
        let mut stream = self.connect(endpoint).map_err(failed)?;
        let host = endpoint.host().unwrap_or("localhost");
        let token = self.token.as_ref().map(|token| format!("Authorization: {token}\r\n"));
        let token = token.unwrap_or_default();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: {host}\r\n{token}Content-Type: application/json\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).and_then(|()| stream.flush()).map_err(failed)?;
        let mut answer = BufReader::new(stream);
        let mut status = String::new();
        answer.read_line(&mut status).map_err(failed)?;
        let code = status.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok());
        let code = code.ok_or_else(|| unreachable(endpoint, "that is no answer in HTTP"))?;
        let mut length = None;
        loop {
            let mut line = String::new();
            answer.read_line(&mut line).map_err(failed)?;
            let Some((name, value)) = line.split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse::<u64>().ok();
            }
        }
        let body: Body = match length {
            Some(length) => Box::new(answer.take(length)),
            None => Box::new(answer),
        };
        if code == 200 {
            return Ok(body);
        }
        let mut text = String::new();
        body.take(REFUSAL_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
        let told: Value = serde_json::from_str(&text).unwrap_or_default();
        let message = told["message"].as_str().unwrap_or_else(|| text.trim()).to_owned();
        Err(Unanswered::Refused(message))
    }

    fn connect(&self, endpoint: &Url) -> io::Result<Box<dyn Stream>> {
        if let Some(path) = endpoint.unix_path() {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(self.patience)?;
            return Ok(Box::new(stream));
        }
        let (Some(host), Some(port)) = (endpoint.host(), endpoint.port()) else {
            return Err(io::Error::other("a URL needs a host and a port"));
        };
        let mut stream = Err(io::ErrorKind::NotFound.into());
        for address in (host, port).to_socket_addrs()? {
            stream = TcpStream::connect_timeout(&address, self.patience.unwrap_or(DIAL_LIMIT));
            if stream.is_ok() {
                break;
            }
        }
        let stream = stream?;
        stream.set_read_timeout(self.patience)?;
        if !endpoint.is_tls() {
            return Ok(Box::new(stream));
        }
        let Some(tls) = &self.tls else {
            return Err(io::Error::other("https needs --cacert, or --insecure-skip-tls-verify"));
        };
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(Arc::clone(tls), name).map_err(io::Error::other)?;
        Ok(Box::new(StreamOwned::new(connection, stream)))
    }
}

fn unreachable(endpoint: &Url, why: impl fmt::Display) -> Unanswered {
    Unanswered::Unreachable(format!("{}: {why}", endpoint.as_str()))
}

fn read(mut body: Body) -> io::Result<String> {
    let mut text = String::new();
    body.read_to_string(&mut text)?;
    Ok(text)
}

/// What speaks TLS with these files; `None`: they do not say whom to trust, and clients do without.
///
/// # Errors
/// If a file does not hold what it should.
pub(crate) fn client_tls(files: &Files) -> Result<Option<Arc<ClientConfig>>, String> {
    if files.trusted.is_none() && !files.skip_verify {
        return Ok(None);
    }
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().map_err(|e| e.to_string())?;
    let builder = match &files.trusted {
        Some(path) if !files.skip_verify => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| format!("{}: {error}", path.display()))?;
            }
            builder.with_root_certificates(roots)
        }
        _ => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider))),
    };
    let config = match (&files.cert, &files.key) {
        (Some(cert), Some(key)) => {
            let secret = fs::read(key).map_err(|error| format!("{}: {error}", key.display()))?;
            let secret = PrivateKeyDer::from_pem_slice(&secret)
                .map_err(|error| format!("{}: {error}", key.display()))?;
            builder
                .with_client_auth_cert(certificates(cert)?, secret)
                .map_err(|error| error.to_string())?
        }
        (None, None) => builder.with_no_client_auth(),
        _ => return Err("a certificate and its key must be given together".to_owned()),
    };
    Ok(Some(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed = |error: &dyn fmt::Display| format!("{}: {error}", path.display());
    let pem = fs::read(path).map_err(|error| failed(&error))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    found.map_err(|error| failed(&error))
}

/// How long a member may take to be reached by whoever waits for ever.
const DIAL_LIMIT: Duration = Duration::from_secs(5);
/// What a refusal may be long.
const REFUSAL_BYTES_MAX: u64 = 64 << 10;

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(text) | Self::Refused(text) => f.write_str(text),
        }
    }
}

impl core::error::Error for Unanswered {}
