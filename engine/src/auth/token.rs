//! Who a client is, by what it shows.
//!
//! Simple tokens are a member's own: each member notes those that the log assigned while it ran, and for how long they
//! are good without being used. A token is `secret.index`: `index` names the entry that assigned it, and of the secret
//! members and log know a digest only, so that neither a disk nor a dump of memory gives away a token.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::{Buf, Bytes};
use prost::encoding::{decode_varint, encode_varint};

use super::{Auth, Author, Identity};
use crate::api::Error;
use crate::cow::{CowTree, Item};
use crate::time::Time;

/// What a client has shown of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Credential {
    /// Nothing.
    #[default]
    None,
    /// It is no client but the member itself.
    Member,
    /// A simple token.
    Token(TokenId),
    /// A token that somebody has signed, who is trusted, and which was verified.
    Signed {
        /// The user.
        name: Arc<str>,
        /// The revision of users and roles at which it was made.
        revision: u64,
    },
    /// The name in a certificate, which was verified.
    CommonName(Arc<str>),
    /// A token that is none.
    Unreadable,
}

/// A simple token, as members know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenId {
    /// The entry that assigned it.
    pub index: u64,
    /// SHA-256 of its secret.
    pub digest: [u8; 32],
}

/// A simple token that was assigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    id: TokenId,
    user: Arc<str>,
    /// The revision of users and roles when it was assigned.
    made: u64,
    deadline: Time,
}

impl Item for Token {
    type Key = u64;
    type Separator = u64;

    fn key(&self) -> &u64 {
        &self.id.index
    }

    fn separator(_left: &u64, right: &u64) -> u64 {
        *right
    }
}

/// "Give this user a token": a command of the server itself, which has checked the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The user.
    pub name: Arc<str>,
    /// SHA-256 of the token's secret.
    pub digest: [u8; 32],
    /// The revision of users and roles at which the password was this.
    pub checked: u64,
}

impl Assignment {
    /// Appends it: `32 bytes digest, varint revision, name`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.digest);
        encode_varint(self.checked, out);
        out.extend_from_slice(self.name.as_bytes());
    }

    /// Reads it.
    pub(crate) fn decode(mut data: Bytes) -> Option<Self> {
        let mut digest = [0; 32];
        data.try_copy_to_slice(&mut digest).ok()?;
        let checked = decode_varint(&mut data).ok()?;
        let name = Arc::from(core::str::from_utf8(&data).ok()?);
        Some(Self { name, digest, checked })
    }
}

/// A token, and whose it is.
type Owned = (TokenId, Arc<str>);

/// The simple tokens that a member knows.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    tokens: CowTree<Token>,
    by_deadline: BTreeSet<(Time, u64)>,
    /// Whether shards were not told of a change yet.
    changed: bool,
}

/// A token counts as unused for up to this part of its time, so that not every use has to be told.
const USE_PARTS: u32 = 8;

impl Credential {
    /// The entry that must be applied before this can be judged.
    pub fn needs(&self) -> u64 {
        match self {
            Self::Token(id) => id.index,
            Self::None
            | Self::Member
            | Self::Signed { .. }
            | Self::CommonName(_)
            | Self::Unreadable => 0,
        }
    }
}

impl Auth {
    /// Who shows this. While authentication is not enabled, nobody is asked.
    ///
    /// # Errors
    /// [`Error::InvalidAuthToken`]; [`Error::Unhealthy`] if this member has lost its state.
    pub fn resolve(
        &self,
        tokens: &CowTree<Token>,
        now: Time,
        credential: &Credential,
    ) -> Result<Author, Error> {
        if self.unknown {
            return Err(Error::Unhealthy);
        }
        if *credential == Credential::Member {
            return Ok(Author::Member);
        }
        if !self.is_enabled() {
            return Ok(Author::Nobody);
        }
        let user = |name: &Arc<str>, revision| {
            Ok(Author::User(Identity { name: Arc::clone(name), revision }))
        };
        match credential {
            Credential::Member => Ok(Author::Member),
            Credential::None => Ok(Author::Nobody),
            Credential::Unreadable => Err(Error::InvalidAuthToken),
            Credential::Signed { name, revision } => user(name, *revision),
            Credential::CommonName(name) => user(name, self.revision),
            Credential::Token(id) => {
                let token = tokens
                    .get(&id.index)
                    .filter(|token| token.id == *id && token.deadline > now && self.is_good(token));
                user(&token.ok_or(Error::InvalidAuthToken)?.user, self.revision)
            }
        }
    }

    /// Whether neither the user nor its password have changed since a token was made, and nobody has disabled
    /// authentication.
    fn is_good(&self, token: &Token) -> bool {
        let user = self.users.get(&*token.user);
        token.made >= self.tokens_since && user.is_some_and(|user| user.since <= token.made)
    }

    /// Whether a token may be assigned to a user whose password was checked at revision `checked`.
    ///
    /// # Errors
    /// [`Error::AuthNotEnabled`], [`Error::AuthFailed`], [`Error::AuthOldRevision`] if the password may be another now.
    pub(crate) fn admit_token(&self, name: &str, checked: u64) -> Result<(), Error> {
        if !self.enabled {
            return Err(Error::AuthNotEnabled);
        }
        let user = self.users.get(name).filter(|user| !user.no_password);
        let user = user.ok_or(Error::AuthFailed)?;
        if user.since > checked { Err(Error::AuthOldRevision) } else { Ok(()) }
    }
}

impl Tokens {
    /// Notes a token that was assigned at revision `made`.
    pub(crate) fn assign(&mut self, now: Time, ttl: Duration, (id, user): Owned, made: u64) {
        while let Some((deadline, index)) = self.by_deadline.first().copied()
            && deadline <= now
        {
            self.by_deadline.remove(&(deadline, index));
            self.tokens.remove(&index);
        }
        let deadline = now + ttl;
        self.tokens.insert(Token { id, user, made, deadline });
        self.by_deadline.insert((deadline, id.index));
        self.changed = true;
    }

    /// A token was used.
    pub(crate) fn used(&mut self, now: Time, ttl: Duration, index: u64) {
        let Some(token) = self.tokens.get(&index).filter(|token| token.is_to_be_told(now, ttl))
        else {
            return;
        };
        let token = Token { deadline: now + ttl, ..token.clone() };
        let before = self.tokens.get(&index).map(|token| (token.deadline, index));
        before.map(|before| self.by_deadline.remove(&before));
        self.by_deadline.insert((token.deadline, index));
        self.tokens.insert(token);
        self.changed = true;
    }

    /// The tokens, for those who judge by them.
    pub fn tokens(&self) -> &CowTree<Token> {
        &self.tokens
    }

    /// Whether shards are to be told of a change.
    pub(crate) fn take_changed(&mut self) -> bool {
        core::mem::take(&mut self.changed)
    }

    /// The same, without taking it for told.
    pub(crate) fn is_changed(&self) -> bool {
        self.changed
    }
}

impl Token {
    /// Whether a use now is worth to be told: it is good, and was last used a while ago.
    pub(crate) fn is_to_be_told(&self, now: Time, ttl: Duration) -> bool {
        self.deadline > now && now + (ttl - ttl / USE_PARTS) >= self.deadline
    }
}
