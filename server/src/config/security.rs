//! What is said about TLS and tokens. Files are named here and opened where they are needed: some may change while
//! the member runs.

use core::time::Duration;
use std::path::PathBuf;

use crate::config::duration;
use crate::config::invalid::Invalid;

/// TLS of one side, clients' or peers'.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The certificate that listeners show.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
    /// The certificate to dial with, if not the listeners'.
    pub client_cert_file: Option<PathBuf>,
    /// Its key.
    pub client_key_file: Option<PathBuf>,
    /// Who may have signed the other side's certificate.
    pub trusted_ca_file: Option<PathBuf>,
    /// Certificates that were revoked.
    pub crl_file: Option<PathBuf>,
    /// Whether the other side must show a certificate.
    pub client_cert_auth: bool,
    /// Common names that a certificate may have; empty: any.
    pub allowed_cns: Vec<String>,
    /// Host names that a certificate may have; empty: any.
    pub allowed_hostnames: Vec<String>,
    /// Whether the address of the other side need not be in its certificate.
    pub skip_client_san_verification: bool,
    /// Whether to make a certificate if none is given.
    pub auto: bool,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// 1.2.
    Tls12,
    /// 1.3.
    Tls13,
}

/// What both sides' TLS may choose from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsChoice {
    /// The oldest version.
    pub version_min: TlsVersion,
    /// The newest version; `None`: whatever there is.
    pub version_max: Option<TlsVersion>,
    /// Go's names of cipher suites in order of preference, each of them known to Go; empty: any. They bind TLS 1.2
    /// only.
    pub cipher_suites: Vec<String>,
}

/// How clients that named a user and a password are known again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthToken {
    /// By a random text that members share.
    Simple,
    /// By a text that is signed.
    Jwt(Jwt),
    /// Not at all.
    Disabled,
}

/// How to sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwt {
    /// One of the methods of RFC 7518, by its name there.
    pub sign_method: String,
    /// The key to verify with.
    pub public_key_file: Option<PathBuf>,
    /// The key to sign with.
    pub private_key_file: Option<PathBuf>,
    /// How long a token is good.
    pub ttl: Duration,
}

impl Tls {
    /// Whether listeners have a certificate.
    pub fn has_certificate(&self) -> bool {
        self.cert_file.is_some() && self.key_file.is_some()
    }
}

impl TlsVersion {
    /// Reads etcd's name; empty is none in particular.
    pub(crate) fn parse(text: &str) -> Result<Option<Self>, Invalid> {
        match text {
            "" => Ok(None),
            "TLS1.2" => Ok(Some(Self::Tls12)),
            "TLS1.3" => Ok(Some(Self::Tls13)),
            other => Err(Invalid::TlsVersion(other.to_owned())),
        }
    }
}

impl TlsChoice {
    /// Reads the three flags.
    pub(crate) fn parse(min: &str, max: &str, cipher_suites: &[String]) -> Result<Self, Invalid> {
        let version_min = TlsVersion::parse(min)?.unwrap_or(TlsVersion::Tls12);
        let version_max = TlsVersion::parse(max)?;
        if version_max.is_some_and(|version_max| version_max < version_min) {
            return Err(Invalid::TlsRange(min.to_owned(), max.to_owned()));
        }
        if version_min == TlsVersion::Tls13 && !cipher_suites.is_empty() {
            return Err(Invalid::CipherSuitesTls13);
        }
        if let Some(unknown) =
            cipher_suites.iter().find(|name| !CIPHER_SUITES.contains(&name.as_str()))
        {
            return Err(Invalid::CipherSuite(unknown.clone()));
        }
        Ok(Self { version_min, version_max, cipher_suites: cipher_suites.to_vec() })
    }
}

impl AuthToken {
    /// Reads `simple`, `jwt,option=value,…` or nothing. Options that nobody knows are left out, as in etcd.
    pub(crate) fn parse(text: &str) -> Result<Self, Invalid> {
        let mut parts = text.split(',');
        let kind = parts.next().unwrap_or_default();
        let mut options: Vec<(&str, &str)> = Vec::new();
        for part in parts {
            let option = part.split_once('=').filter(|(_, value)| !value.contains('='));
            let (name, value) = option.ok_or(Invalid::AuthToken)?;
            if options.iter().any(|(earlier, _)| *earlier == name) {
                return Err(Invalid::AuthToken);
            }
            options.push((name, value));
        }
        let option = |wanted: &str| {
            options
                .iter()
                .find(|(name, value)| *name == wanted && !value.is_empty())
                .map(|(_, value)| *value)
        };
        match kind {
            "" => Ok(Self::Disabled),
            "simple" => Ok(Self::Simple),
            "jwt" => Ok(Self::Jwt(Jwt {
                sign_method: option("sign-method")
                    .filter(|method| SIGN_METHODS.contains(method))
                    .ok_or(Invalid::SignMethod)?
                    .to_owned(),
                public_key_file: option("pub-key").map(PathBuf::from),
                private_key_file: option("priv-key").map(PathBuf::from),
                ttl: match option("ttl") {
                    Some(ttl) => {
                        duration::parse(ttl).ok_or_else(|| Invalid::TokenTtl(ttl.to_owned()))?
                    }
                    None => JWT_TTL,
                },
            })),
            _ => Err(Invalid::AuthToken),
        }
    }
}

/// How long a token is good if nothing is said; etcd's.
const JWT_TTL: Duration = Duration::from_secs(300);

/// RFC 7518 §3.1 and RFC 8037, without `none`.
const SIGN_METHODS: [&str; 13] = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
    "ES384", "ES512", "EdDSA",
];

/// The names that Go's crypto/tls knows, and two that etcd keeps from older ones.
const CIPHER_SUITES: [&str; 27] = [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_RSA_WITH_RC4_128_SHA",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_as_etcd_reads_them() {
        let kind = |text: &str| AuthToken::parse(text).map_err(|error| error.to_string());
        assert_eq!(kind(""), Ok(AuthToken::Disabled));
        assert_eq!(kind("simple"), Ok(AuthToken::Simple));
        let jwt = "jwt,pub-key=/a,priv-key=/b,sign-method=RS256,ttl=10m,what=ever";
        let expected = Jwt {
            sign_method: "RS256".to_owned(),
            public_key_file: Some(PathBuf::from("/a")),
            private_key_file: Some(PathBuf::from("/b")),
            ttl: Duration::from_secs(600),
        };
        assert_eq!(kind(jwt), Ok(AuthToken::Jwt(expected)));
        for text in ["foo", "simple,x", "jwt,a=b=c", "jwt,ttl=1s,ttl=2s,sign-method=RS256"] {
            assert_eq!(kind(text).unwrap_err(), "auth: invalid auth options", "{text}");
        }
        for text in ["jwt", "jwt,sign-method=none", "jwt,sign-method=RS255"] {
            assert_eq!(kind(text).unwrap_err(), "auth: invalid auth signature method", "{text}");
        }
    }

    #[test]
    fn tls_must_leave_something_to_choose() {
        let choose = |min: &str, max: &str, suites: &[&str]| {
            let suites: Vec<String> = suites.iter().map(|name| (*name).to_owned()).collect();
            TlsChoice::parse(min, max, &suites).map_err(|error| error.to_string())
        };
        assert!(choose("TLS1.2", "", &["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]).is_ok());
        assert_eq!(choose("", "TLS1.3", &[]).unwrap().version_max, Some(TlsVersion::Tls13));
        for (min, max, suites, why) in [
            (
                "TLS1.1",
                "",
                [].as_slice(),
                "unexpected TLS version \"TLS1.1\" (must be one of: TLS1.2, TLS1.3)",
            ),
            ("TLS1.3", "TLS1.2", &[], "min version (TLS1.3) is greater than max version (TLS1.2)"),
            (
                "TLS1.3",
                "",
                &["A"],
                "cipher suites cannot be configured when only TLS1.3 is enabled",
            ),
            ("TLS1.2", "", &["A"], "unexpected TLS cipher suite \"A\""),
        ] {
            assert_eq!(choose(min, max, suites).unwrap_err(), why);
        }
    }
}
