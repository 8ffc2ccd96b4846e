//! Users at the door: who a client is, by what it shows, and passwords.
//!
//! What users may is the engine's affair (`cairn_engine::auth`). Here is what needs secrets, clocks and threads: tokens
//! are read out of metadata, verified or made; passwords are hashed. A password goes no further than here: the log
//! has its hash, and no line of any log names it.
//!
//! | file | what |
//! |---|---|
//! | mod.rs | who a client is |
//! | calls.rs | the calls that bring a password |
//! | passwords.rs | hashing, on threads of its own |
//! | jwt.rs | tokens that are signed |

pub(crate) mod calls;
mod jwt;
pub(crate) mod passwords;

use std::sync::Arc;

use cairn_engine::auth::{Credential, TokenId};
use sha2::{Digest as _, Sha256};

use crate::config::security::AuthToken;
use crate::grpc::metadata::Metadata;

use jwt::{Known, Signer};
use passwords::Passwords;

pub use jwt::JwtError;

/// How users are known at this member. Each core has its own; keys and threads are shared.
#[derive(Clone, Debug)]
pub struct Accounts {
    tokens: Tokens,
    passwords: Passwords,
    /// Whether the name in a client's certificate says who it is.
    by_certificate: bool,
}

#[derive(Clone, Debug)]
enum Tokens {
    Simple,
    Signed(Arc<Signer>, Known),
    Disabled,
}

impl Accounts {
    /// Reads the keys, if tokens are to be signed. `by_certificate`: `--client-cert-auth`.
    ///
    /// # Errors
    /// If they are not what `--auth-token` says.
    pub fn new(
        token: &AuthToken,
        bcrypt_cost: u32,
        by_certificate: bool,
    ) -> Result<Self, JwtError> {
        let tokens = match token {
            AuthToken::Simple => Tokens::Simple,
            AuthToken::Jwt(jwt) => Tokens::Signed(Arc::new(Signer::new(jwt)?), Known::default()),
            AuthToken::Disabled => Tokens::Disabled,
        };
        Ok(Self { tokens, passwords: Passwords::new(bcrypt_cost), by_certificate })
    }

    /// Whether the name in a client's certificate says who it is.
    pub(crate) fn by_certificate(&self) -> bool {
        self.by_certificate
    }

    /// What a client has shown: `token` before `authorization`, and without either, its certificate (etcd's order).
    pub fn credential(
        &self,
        metadata: &impl Metadata,
        common_name: Option<&Arc<str>>,
    ) -> Credential {
        let name = ["token", "authorization"].into_iter().find(|n| metadata.value(n).is_some());
        let Some(name) = name else {
            let name = common_name.filter(|_| self.by_certificate);
            return name.map_or(Credential::None, |name| Credential::CommonName(Arc::clone(name)));
        };
        let Some(text) = metadata.text(name) else { return Credential::Unreadable };
        let text = text.strip_prefix("Bearer ").unwrap_or(text);
        let credential = match &self.tokens {
            Tokens::Simple => simple_token(text).map(Credential::Token),
            Tokens::Signed(signer, known) => signer.verify(text, known),
            Tokens::Disabled => None,
        };
        credential.unwrap_or(Credential::Unreadable)
    }
}

impl Default for Accounts {
    fn default() -> Self {
        Self { tokens: Tokens::Simple, passwords: Passwords::new(COST), by_certificate: false }
    }
}

/// etcd's default of `--bcrypt-cost`.
const COST: u32 = 10;

/// Reads `secret.index`.
fn simple_token(text: &str) -> Option<TokenId> {
    let (secret, index) = text.split_once('.')?;
    Some(TokenId { index: index.parse().ok()?, digest: digest(secret) })
}

/// What is known of a token's secret.
fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// Letters of a token's secret, as in etcd: 91 bits.
const SECRET_LETTERS: usize = 16;
const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// A secret that nobody can guess.
fn secret() -> String {
    let mut secret = String::with_capacity(SECRET_LETTERS);
    while secret.len() < SECRET_LETTERS {
        let random = getrandom::u64().expect("the kernel has randomness once it runs");
        for byte in random.to_le_bytes() {
            // A byte that is too large would make some letters more likely than others.
            let place = usize::from(byte);
            if place < LETTERS.len() * 4 && secret.len() < SECRET_LETTERS {
                secret.push(char::from(LETTERS[place % LETTERS.len()]));
            }
        }
    }
    secret
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};

    fn shown(accounts: &Accounts, metadata: &[(&'static str, &[u8])]) -> Credential {
        let mut headers = HeaderMap::new();
        for (name, value) in metadata {
            headers.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        accounts.credential(&headers, Some(&Arc::from("cn")))
    }

    #[test]
    fn tokens_are_found_where_etcds_clients_put_them() {
        let accounts = Accounts::default();
        let token = |secret, index| Credential::Token(TokenId { index, digest: digest(secret) });
        for (metadata, expected) in [
            (&[("token", &b"abc.7"[..])][..], token("abc", 7)),
            (&[("authorization", b"abc.7")], token("abc", 7)),
            (&[("authorization", b"Bearer abc.7")], token("abc", 7)),
            (&[("authorization", b"x"), ("token", b"abc.7")], token("abc", 7)),
            (&[("token", b"abc")], Credential::Unreadable),
            (&[("token", b"abc.")], Credential::Unreadable),
            (&[("token", b"abc.7.8")], Credential::Unreadable),
            (&[("token", b"abc.99999999999999999999")], Credential::Unreadable),
            (&[("token", b"\xff.7")], Credential::Unreadable),
            (&[("token", b"")], Credential::Unreadable),
            (&[], Credential::None),
        ] {
            assert_eq!(shown(&accounts, metadata), expected, "{metadata:?}");
        }
        let accounts = Accounts { by_certificate: true, ..Accounts::default() };
        assert_eq!(shown(&accounts, &[]), Credential::CommonName(Arc::from("cn")));
        assert_eq!(shown(&accounts, &[("token", b"x")]), Credential::Unreadable);
        let accounts = Accounts { tokens: Tokens::Disabled, ..Accounts::default() };
        assert_eq!(shown(&accounts, &[("token", b"abc.7")]), Credential::Unreadable);
    }

    #[test]
    fn secrets_are_letters_and_differ() {
        let (one, other) = (secret(), secret());
        assert_eq!((one.len(), other.len()), (SECRET_LETTERS, SECRET_LETTERS));
        assert!(one.bytes().all(|byte| byte.is_ascii_alphabetic()));
        assert_ne!(one, other);
    }
}
