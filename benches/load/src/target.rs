//! Whom the load is for: addresses, names, and how to speak TLS.

use core::net::SocketAddr;
use std::fs;
use std::net::ToSocketAddrs as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// One endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// Host and port, as the heads of requests say them.
    pub(crate) authority: String,
    /// How it is spoken to, and by what name, if its URL wants TLS.
    pub(crate) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// Files for TLS.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Files {
    /// Who may have signed the server's certificate
    #[arg(long, value_name = "FILE", global = true)]
    cacert: Option<PathBuf>,
    /// The certificate to show
    #[arg(long, value_name = "FILE", requires = "cert_key", global = true)]
    cert: Option<PathBuf>,
    /// Its key
    #[arg(long = "key", value_name = "FILE", requires = "cert", global = true)]
    cert_key: Option<PathBuf>,
    /// Believe any certificate
    #[arg(long, global = true)]
    insecure_skip_tls_verify: bool,
}

impl Target {
    /// Finds an endpoint: a URL, or a host and a port.
    ///
    /// # Errors
    /// A sentence, if it is none or cannot be resolved, or if a file for TLS is not what it should be.
    pub(crate) fn find(endpoint: &str, files: &Files) -> Result<Self, String> {
        let (scheme, authority) = endpoint.split_once("://").unwrap_or(("http", endpoint));
        let authority = authority.trim_end_matches('/');
        let no_endpoint = || format!("{endpoint:?} is no endpoint: it needs http(s)://host:port");
        let (host, _) = authority.rsplit_once(':').ok_or_else(no_endpoint)?;
        let mut addresses = authority.to_socket_addrs().map_err(|e| format!("{endpoint}: {e}"))?;
        let address =
            addresses.next().ok_or_else(|| format!("{endpoint}: nobody has this name"))?;
        let tls = match scheme {
            "http" => None,
            "https" => {
                let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                let name = ServerName::try_from(host).map_err(|e| format!("{endpoint}: {e}"))?;
                Some((Arc::new(files.config()?), name))
            }
            _ => return Err(no_endpoint()),
        };
        Ok(Self { address, authority: authority.to_owned(), tls })
    }
}

impl Files {
    fn config(&self) -> Result<ClientConfig, String> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().map_err(|e| e.to_string())?;
        let builder = match &self.cacert {
            _ if self.insecure_skip_tls_verify => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            }
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|e| format!("{}: {e}", path.display()))?;
                }
                builder.with_root_certificates(roots)
            }
            None => return Err("https needs --cacert, or --insecure-skip-tls-verify".to_owned()),
        };
        let mut config = match (&self.cert, &self.cert_key) {
            (Some(cert), Some(key)) => {
                let secret = PrivateKeyDer::from_pem_file(key);
                let secret = secret.map_err(|e| format!("{}: {e}", key.display()))?;
                let config = builder.with_client_auth_cert(certificates(cert)?, secret);
                config.map_err(|e| format!("{}: {e}", cert.display()))?
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|e| format!("{}: {e}", path.display()))?;
    if found.is_empty() {
        return Err(format!("{}: there is no certificate in it", path.display()));
    }
    Ok(found)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_told_from_what_is_none() {
        let found = |endpoint| Target::find(endpoint, &Files::default());
        let target = found("http://127.0.0.1:2379/").unwrap();
        assert_eq!(target.address, "127.0.0.1:2379".parse().unwrap());
        assert_eq!(target.authority, "127.0.0.1:2379");
        assert!(found("127.0.0.1:2379").unwrap().tls.is_none());
        assert!(found("127.0.0.1").unwrap_err().contains("is no endpoint"));
        assert!(found("ftp://127.0.0.1:1").unwrap_err().contains("is no endpoint"));
        assert!(found("https://127.0.0.1:1").unwrap_err().contains("--cacert"));
        let files = Files { insecure_skip_tls_verify: true, ..Files::default() };
        assert!(Target::find("https://127.0.0.1:1", &files).unwrap().tls.is_some());
    }
}
