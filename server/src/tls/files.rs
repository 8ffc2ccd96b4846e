//! What files about TLS hold, as bytes and as certificates.

use core::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

/// Why there is no TLS with what was said.
#[derive(Debug)]
pub enum TlsError {
    /// A file cannot be read.
    Read(PathBuf, std::io::Error),
    /// A file does not hold what it should.
    Content(PathBuf, &'static str),
    /// What the files hold does not fit together, or is refused by rustls.
    Unusable(String),
    /// A flag is missing, or there is one too many.
    Flags(&'static str),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path, error) => write!(f, "cannot read {}: {error}", path.display()),
            Self::Content(path, what) => write!(f, "{} holds no {what}", path.display()),
            Self::Unusable(why) => f.write_str(why),
            Self::Flags(why) => f.write_str(why),
        }
    }
}

impl core::error::Error for TlsError {}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        Self::Unusable(error.to_string())
    }
}

/// Which files there are.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
    pub(super) trusted_ca: Option<PathBuf>,
    pub(super) crl: Option<PathBuf>,
}

/// What they hold.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    trusted_ca: Option<Vec<u8>>,
    crl: Option<Vec<u8>>,
}

impl Paths {
    /// Reads them all.
    pub(super) fn read(&self) -> Result<Contents, TlsError> {
        let read =
            |path: &PathBuf| fs::read(path).map_err(|error| TlsError::Read(path.clone(), error));
        Ok(Contents {
            cert: read(&self.cert)?,
            key: read(&self.key)?,
            trusted_ca: self.trusted_ca.as_ref().map(read).transpose()?,
            crl: self.crl.as_ref().map(read).transpose()?,
        })
    }

    /// The certificate, those that signed it, and its key.
    pub(super) fn identity(
        &self,
        contents: &Contents,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let chain = certificates(&self.cert, &contents.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key)
            .map_err(|_| TlsError::Content(self.key.clone(), "private key"))?;
        Ok((chain, key))
    }

    /// Who is trusted; `None`: there is no such file.
    pub(super) fn roots(
        &self,
        contents: &Contents,
    ) -> Result<Option<Arc<RootCertStore>>, TlsError> {
        let (Some(path), Some(pem)) = (&self.trusted_ca, &contents.trusted_ca) else {
            return Ok(None);
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(path, pem)? {
            roots.add(certificate)?;
        }
        Ok(Some(Arc::new(roots)))
    }

    /// What was revoked. The list may be PEM, or bare as Go wants it.
    pub(super) fn revoked(
        &self,
        contents: &Contents,
    ) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
        let (Some(path), Some(bytes)) = (&self.crl, &contents.crl) else { return Ok(Vec::new()) };
        if !bytes.starts_with(b"-----") {
            return Ok(vec![CertificateRevocationListDer::from(bytes.clone())]);
        }
        let lists: Result<Vec<_>, _> =
            CertificateRevocationListDer::pem_slice_iter(bytes).collect();
        let lists = lists.unwrap_or_default();
        if lists.is_empty() {
            return Err(TlsError::Content(path.clone(), "list of revoked certificates"));
        }
        Ok(lists)
    }
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.unwrap_or_default();
    if found.is_empty() {
        return Err(TlsError::Content(path.to_owned(), "certificate"));
    }
    Ok(found)
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One of them is secret.
        f.write_str("Contents")
    }
}
