//! What may be chosen from: versions, and cipher suites by Go's names.
//!
//! rustls has no suite that is weak. Names of others are known and passed over; if none is left, TLS 1.2 cannot be
//! spoken. As in Go, the names do not bind TLS 1.3.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::{CipherSuite, SupportedProtocolVersion, version};

use super::files::TlsError;
use crate::config::security::{TlsChoice, TlsVersion};

const SUITES: [(&str, CipherSuite); 8] = [
    (
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
];

/// What rustls may choose from.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) versions: Vec<&'static SupportedProtocolVersion>,
}

impl Chosen {
    /// # Errors
    /// If nothing is left to choose from.
    pub(super) fn new(choice: &TlsChoice) -> Result<Self, TlsError> {
        let mut provider = ring::default_provider();
        let version_max = choice.version_max.unwrap_or(TlsVersion::Tls13);
        let allows = |version| choice.version_min <= version && version <= version_max;
        let named: Vec<CipherSuite> = choice.cipher_suites.iter().filter_map(suite).collect();
        if !choice.cipher_suites.is_empty() {
            provider.cipher_suites.retain(|suite| {
                suite.version().version == version::TLS13.version || named.contains(&suite.suite())
            });
            // In the order in which they were named.
            let place = |suite: CipherSuite| named.iter().position(|named| *named == suite);
            provider.cipher_suites.sort_by_key(|suite| place(suite.suite()));
        }
        let speaks_tls12 = choice.cipher_suites.is_empty() || !named.is_empty();
        let mut versions = Vec::new();
        if allows(TlsVersion::Tls13) {
            versions.push(&version::TLS13);
        }
        if allows(TlsVersion::Tls12) && speaks_tls12 {
            versions.push(&version::TLS12);
        }
        if versions.is_empty() {
            return Err(TlsError::Flags("none of --cipher-suites is one that is served"));
        }
        Ok(Self { provider: Arc::new(provider), versions })
    }
}

fn suite(name: &String) -> Option<CipherSuite> {
    SUITES.iter().find(|(known, _)| known == name).map(|(_, suite)| *suite)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(min: TlsVersion, max: Option<TlsVersion>, suites: &[&str]) -> Option<(usize, usize)> {
        let cipher_suites = suites.iter().map(|name| (*name).to_owned()).collect();
        let choice = TlsChoice { version_min: min, version_max: max, cipher_suites };
        let chosen = Chosen::new(&choice).ok()?;
        Some((chosen.versions.len(), chosen.provider.cipher_suites.len()))
    }

    #[test]
    fn suites_bind_tls_1_2_only() {
        let (tls12, tls13) = (TlsVersion::Tls12, TlsVersion::Tls13);
        let good = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
        let old = "TLS_RSA_WITH_AES_128_CBC_SHA";
        for (min, max, suites, expected) in [
            (tls12, None, [].as_slice(), Some((2, 9))),
            (tls13, None, &[], Some((1, 9))),
            (tls12, Some(tls12), &[], Some((1, 9))),
            (tls12, None, &[good], Some((2, 4))),
            (tls12, None, &[good, old], Some((2, 4))),
            (tls12, None, &[old], Some((1, 3))),
            (tls12, Some(tls12), &[old], None),
        ] {
            assert_eq!(choose(min, max, suites), expected, "{suites:?}");
        }
    }
}
