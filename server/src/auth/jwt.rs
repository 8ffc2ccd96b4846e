//! Tokens that are signed: they say of themselves who their owner is, and any member with the key believes it.
//!
//! The claims are etcd's: `username`, `revision` (of users and roles, when it was made) and `exp`. Whoever has only the
//! public key verifies and cannot make any.
//!
//! # Limits
//!
//! No ES512, which `ring` has not. Tokens are verified on the connection's core: those that were verified once are
//! remembered, up to a bound.

use core::cell::RefCell;
use core::fmt;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use cairn_engine::api::Error;
use cairn_engine::auth::Credential;
use cairn_io::clock;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use ring::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::config::security::Jwt;

/// Why tokens cannot be signed or verified as `--auth-token` says.
#[derive(Debug)]
pub struct JwtError(String);

impl fmt::Display for JwtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--auth-token: {}", self.0)
    }
}

impl core::error::Error for JwtError {}

/// Signs and verifies.
pub(super) struct Signer {
    algorithm: Algorithm,
    sign: Option<EncodingKey>,
    verify: DecodingKey,
    ttl_s: u64,
}

/// Tokens that a core has verified, by their digests. Shared by the tasks of the core; borrowed inside one function.
#[derive(Clone, Debug, Default)]
pub(super) struct Known(RefCell<BTreeMap<[u8; 32], Claims>>);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Claims {
    username: String,
    revision: u64,
    exp: u64,
}

/// Tokens that are remembered; with more, all are forgotten.
const KNOWN_MAX: usize = 4096;

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl Signer {
    /// Reads the keys.
    pub(super) fn new(jwt: &Jwt) -> Result<Self, JwtError> {
        let method = &jwt.sign_method;
        let unusable = |error: &dyn fmt::Display| JwtError(format!("{method}: {error}"));
        let algorithm: Algorithm = method.parse().map_err(|error| unusable(&error))?;
        let private = jwt.private_key_file.as_deref().map(read).transpose()?;
        let public = jwt.public_key_file.as_deref().map(read).transpose()?;
        let (sign, verify) = match algorithm {
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => {
                let secret = private.filter(|secret| !secret.is_empty());
                let secret = secret.ok_or_else(|| unusable(&"priv-key names no secret"))?;
                (Some(EncodingKey::from_secret(&secret)), DecodingKey::from_secret(&secret))
            }
            Algorithm::ES256
            | Algorithm::ES384
            | Algorithm::RS256
            | Algorithm::RS384
            | Algorithm::RS512
            | Algorithm::PS256
            | Algorithm::PS384
            | Algorithm::PS512
            | Algorithm::EdDSA => {
                let sign = private.as_deref().map(|pem| encoding_key(algorithm, pem)).transpose();
                let sign = sign.map_err(|error| unusable(&error))?;
                let verify = match (&public, &private) {
                    (Some(pem), _) => decoding_key(algorithm, pem).map_err(|e| unusable(&e))?,
                    (None, Some(pem)) => public_half(algorithm, pem).map_err(|e| unusable(&e))?,
                    (None, None) => return Err(unusable(&"neither pub-key nor priv-key is given")),
                };
                (sign, verify)
            }
        };
        let signer = Self { algorithm, sign, verify, ttl_s: jwt.ttl.as_secs() };
        // Keys that are not a pair would make tokens that nobody takes.
        if signer.sign.is_some() {
            let made = signer.sign("root", 1).map_err(|error| unusable(&error))?;
            if signer.claims(&made).is_none() && jwt.ttl.as_secs() > 0 {
                return Err(unusable(&"pub-key and priv-key are not a pair"));
            }
        }
        Ok(signer)
    }

    /// A token for a user.
    pub(super) fn sign(&self, username: &str, revision: u64) -> Result<String, Error> {
        let key = self.sign.as_ref().ok_or(Error::VerifyOnly)?;
        let exp = now_s().saturating_add(self.ttl_s);
        let claims = Claims { username: username.to_owned(), revision, exp };
        let signed = jsonwebtoken::encode(&Header::new(self.algorithm), &claims, key);
        signed.map_err(|error| {
            tracing::error!(error = %error, "cannot sign a token");
            Error::AuthFailed
        })
    }

    /// Whose token this is, if it is one.
    pub(super) fn verify(&self, token: &str, known: &Known) -> Option<Credential> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let verified = known.0.borrow().get(&digest).cloned();
        let claims = match verified {
            Some(claims) if claims.exp > now_s() => claims,
            Some(_) => return None,
            None => {
                let claims = self.claims(token)?;
                let mut known = known.0.borrow_mut();
                if known.len() >= KNOWN_MAX {
                    known.clear();
                }
                known.insert(digest, claims.clone());
                claims
            }
        };
        let Claims { username, revision, .. } = claims;
        Some(Credential::Signed { name: Arc::from(username), revision })
    }

    fn claims(&self, token: &str) -> Option<Claims> {
        let mut validation = Validation::new(self.algorithm);
        validation.leeway = 0;
        let decoded = jsonwebtoken::decode::<Claims>(token, &self.verify, &validation).ok()?;
        Some(decoded.claims).filter(|claims| !claims.username.is_empty())
    }
}

fn now_s() -> u64 {
    clock::wall_ns() / 1_000_000_000
}

fn read(path: &Path) -> Result<Vec<u8>, JwtError> {
    std::fs::read(path).map_err(|error| JwtError(format!("{}: {error}", path.display())))
}

type Key<T> = Result<T, jsonwebtoken::errors::Error>;

fn is_curve(algorithm: Algorithm) -> bool {
    matches!(algorithm, Algorithm::ES256 | Algorithm::ES384)
}

fn encoding_key(algorithm: Algorithm, pem: &[u8]) -> Key<EncodingKey> {
    if is_curve(algorithm) {
        match PrivateKeyDer::from_pem_slice(pem) {
            Ok(PrivateKeyDer::Sec1(key)) => {
                Ok(EncodingKey::from_ec_der(&wrapped(algorithm, key.secret_sec1_der())))
            }
            Ok(_) | Err(_) => EncodingKey::from_ec_pem(pem),
        }
    } else if algorithm == Algorithm::EdDSA {
        EncodingKey::from_ed_pem(pem)
    } else {
        EncodingKey::from_rsa_pem(pem)
    }
}

fn decoding_key(algorithm: Algorithm, pem: &[u8]) -> Key<DecodingKey> {
    if is_curve(algorithm) {
        DecodingKey::from_ec_pem(pem)
    } else if algorithm == Algorithm::EdDSA {
        DecodingKey::from_ed_pem(pem)
    } else {
        DecodingKey::from_rsa_pem(pem)
    }
}

/// A key of an elliptic curve as openssl's `ecparam -genkey` writes it (SEC 1, RFC 5915), in PKCS #8 (RFC 5208), which is
/// what everybody else takes: a version, the algorithm with the curve's name, and the key.
fn wrapped(algorithm: Algorithm, sec1: &[u8]) -> Zeroizing<Vec<u8>> {
    const SEQUENCE: u8 = 0x30;
    const OCTETS: u8 = 4;
    const VERSION: [u8; 3] = [2, 1, 0];
    const EC_PUBLIC_KEY: [u8; 9] = [6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
    const P256: &[u8] = &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    const P384: &[u8] = &[6, 5, 0x2b, 0x81, 4, 0, 0x22];
    let curve = if algorithm == Algorithm::ES256 { P256 } else { P384 };
    let named = der(SEQUENCE, &[&EC_PUBLIC_KEY[..], curve].concat());
    let key = der(OCTETS, sec1);
    der(SEQUENCE, &Zeroizing::new([&VERSION[..], &named[..], &key[..]].concat()))
}

/// A value with its tag and length.
fn der(tag: u8, value: &[u8]) -> Zeroizing<Vec<u8>> {
    let length = value.len().to_be_bytes();
    let first = length.iter().position(|byte| *byte != 0).unwrap_or(length.len() - 1);
    let length = &length[first..];
    let mut out = Zeroizing::new(vec![tag]);
    match u8::try_from(value.len()) {
        Ok(short @ ..=0x7f) => out.push(short),
        Ok(_) | Err(_) => {
            out.push(0x80 | u8::try_from(length.len()).expect("eight at most"));
            out.extend_from_slice(length);
        }
    }
    out.extend_from_slice(value);
    out
}

/// The public key that belongs to a private one.
fn public_half(algorithm: Algorithm, pem: &[u8]) -> Result<DecodingKey, String> {
    let document = PrivateKeyDer::from_pem_slice(pem).map_err(|error| error.to_string())?;
    let wrapped = if let PrivateKeyDer::Sec1(key) = &document {
        Some(wrapped(algorithm, key.secret_sec1_der()))
    } else {
        None
    };
    let der = wrapped.as_ref().map_or_else(|| document.secret_der(), |wrapped| &wrapped[..]);
    let rejected = |error: ring::error::KeyRejected| error.to_string();
    let random = ring::rand::SystemRandom::new();
    if is_curve(algorithm) {
        let curve = if algorithm == Algorithm::ES256 {
            &ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING
        } else {
            &ring::signature::ECDSA_P384_SHA384_FIXED_SIGNING
        };
        let pair = EcdsaKeyPair::from_pkcs8(curve, der, &random).map_err(rejected)?;
        return Ok(DecodingKey::from_ec_der(pair.public_key().as_ref()));
    }
    if algorithm == Algorithm::EdDSA {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(rejected)?;
        return Ok(DecodingKey::from_ed_der(pair.public_key().as_ref()));
    }
    let pair = RsaKeyPair::from_der(der).or_else(|_| RsaKeyPair::from_pkcs8(der));
    let pair = pair.map_err(rejected)?;
    Ok(DecodingKey::from_rsa_der(pair.public().as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use std::path::PathBuf;

    fn write(folder: &Path, name: &str, text: &str) -> Option<PathBuf> {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        Some(path)
    }

    fn jwt(method: &str, public: Option<PathBuf>, private: Option<PathBuf>) -> Jwt {
        Jwt {
            sign_method: method.to_owned(),
            public_key_file: public,
            private_key_file: private,
            ttl: Duration::from_secs(60),
        }
    }

    fn signed(name: &str, revision: u64) -> Option<Credential> {
        Some(Credential::Signed { name: Arc::from(name), revision })
    }

    #[test]
    fn what_is_signed_is_verified_by_whoever_has_the_public_key() {
        let folder = tempfile::tempdir().unwrap();
        for (method, algorithm) in [
            ("ES256", &rcgen::PKCS_ECDSA_P256_SHA256),
            ("ES384", &rcgen::PKCS_ECDSA_P384_SHA384),
            ("EdDSA", &rcgen::PKCS_ED25519),
        ] {
            let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let private = write(folder.path(), "private", &pair.serialize_pem());
            let public = write(folder.path(), "public", &pair.public_key_pem());
            let both = Signer::new(&jwt(method, public.clone(), private.clone())).unwrap();
            let private_only = Signer::new(&jwt(method, None, private.clone())).unwrap();
            let public_only = Signer::new(&jwt(method, public, None)).unwrap();
            let token = both.sign("ann", 7).unwrap();
            for signer in [&both, &private_only, &public_only, &public_only] {
                assert_eq!(signer.verify(&token, &Known::default()), signed("ann", 7), "{method}");
            }
            assert_eq!(public_only.sign("ann", 7), Err(Error::VerifyOnly));
            let other = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let other = write(folder.path(), "other", &other.public_key_pem());
            assert!(Signer::new(&jwt(method, other, private)).is_err(), "they are not a pair");
        }
    }

    #[test]
    fn keys_are_read_as_openssl_writes_them() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/auth/testdata");
        let file = |name: &str| Some(folder.join(name));
        for (method, private, public) in [
            ("RS256", "rsa.pem", "rsa_public.pem"),
            ("RS512", "rsa_pkcs8.pem", "rsa_public.pem"),
            ("PS256", "rsa_pkcs8.pem", "rsa_public.pem"),
            ("ES256", "p256_sec1.pem", "p256_public.pem"),
            ("ES384", "p384_sec1.pem", "p384_public.pem"),
        ] {
            let private_only = Signer::new(&jwt(method, None, file(private))).unwrap();
            let public_only = Signer::new(&jwt(method, file(public), None)).unwrap();
            let token = private_only.sign("ann", 7).unwrap();
            for signer in [&private_only, &public_only] {
                assert_eq!(signer.verify(&token, &Known::default()), signed("ann", 7), "{method}");
            }
            let other = if method.starts_with("ES") { "rsa.pem" } else { "p256_sec1.pem" };
            assert!(Signer::new(&jwt(method, None, file(other))).is_err(), "{method}");
        }
        assert!(Signer::new(&jwt("ES384", None, file("p256_sec1.pem"))).is_err());
    }

    #[test]
    fn a_token_is_refused_that_is_forged_expired_or_says_too_little() {
        let folder = tempfile::tempdir().unwrap();
        let secret = write(folder.path(), "secret", "a secret of some length");
        let (signer, known) =
            (Signer::new(&jwt("HS256", None, secret.clone())).unwrap(), Known::default());
        let token = signer.sign("ann", 7).unwrap();
        assert_eq!(signer.verify(&token, &Known::default()), signed("ann", 7));
        for end in 0..token.len() {
            assert_eq!(signer.verify(&token[..end], &known), None, "{end}");
        }
        let made = |algorithm, claims: serde_json::Value, secret: &str| {
            let key = EncodingKey::from_secret(secret.as_bytes());
            jsonwebtoken::encode(&Header::new(algorithm), &claims, &key).unwrap()
        };
        let good = "a secret of some length";
        let later = now_s() + 60;
        let claims = serde_json::json!({"username": "ann", "revision": 7, "exp": later});
        assert!(signer.verify(&made(Algorithm::HS256, claims.clone(), good), &known).is_some());
        for token in [
            made(Algorithm::HS384, claims.clone(), good),
            made(Algorithm::HS256, claims, "another"),
            made(Algorithm::HS256, serde_json::json!({"username": "ann", "exp": later}), good),
            made(Algorithm::HS256, serde_json::json!({"revision": 7, "exp": later}), good),
            made(
                Algorithm::HS256,
                serde_json::json!({"username": "ann", "revision": 7, "exp": now_s() - 1}),
                good,
            ),
            made(
                Algorithm::HS256,
                serde_json::json!({"username": "", "revision": 0, "exp": later}),
                good,
            ),
            // What is no time counts as absent in the library (CVE-2026-25537); here it is refused.
            made(
                Algorithm::HS256,
                serde_json::json!({"username": "ann", "revision": 7, "exp": "never"}),
                good,
            ),
            // An algorithm of `none`.
            "eyJhbGciOiJub25lIn0.eyJ1c2VybmFtZSI6InJvb3QiLCJyZXZpc2lvbiI6MSwiZXhwIjo5OTk5OTk5OTk5OX0."
                .to_owned(),
            String::new(),
            "..".to_owned(),
        ] {
            assert_eq!(signer.verify(&token, &Known::default()), None, "{token}");
        }
        assert!(Signer::new(&jwt("HS256", secret, None)).is_err());
        assert!(Signer::new(&jwt("ES512", None, None)).is_err());
        assert!(Signer::new(&jwt("RS256", None, None)).is_err());
    }
}
