//! How a connection between two members begins.
//!
//! ```text
//!   dialer                                     acceptor
//!     │ PREFACE, hello ─────────────────────────► │  is it our cluster, am I whom it means,
//!     │                                           │  is there a version that both speak?
//!     │ ◄───────────────────────────── welcome    │  yes: messages may follow, both ways
//!     │ ◄───────────────────────────── refusal    │  no: the reason, and the connection ends
//! ```
//!
//! Who is a member and who is not any more is no question for the door: a member that joins meets others who have
//! not heard of it yet, and one that was removed is to learn that from the cluster ([`Body::Removed`](super::Body)).
//!
//! Hello, welcome and refusal are the same in every version, but longer in later ones: what a reader does not know at
//! the end it ignores.

use alloc::vec::Vec;
use core::fmt;

use bytes::Buf;

use super::Incarnation;
use super::codec::Malformed;
use super::frame::{Kind, encode};
use crate::ids::{ClusterId, MemberId};

/// What the dialer says first: these are members who talk, not clients.
pub const PREFACE: &[u8; 8] = b"CAIRNMEM";

/// The versions of the protocol that this code speaks, both ends included.
pub const VERSIONS: (u16, u16) = (1, 1);

/// Whether a connection that begins with these bytes is a member's; `None`: more bytes are needed to tell.
pub fn is_peer(first: &[u8]) -> Option<bool> {
    let compared = first.len().min(PREFACE.len());
    if first[..compared] != PREFACE[..compared] {
        return Some(false);
    }
    (compared == PREFACE.len()).then_some(true)
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Everything but what is bulk, both ways.
    Messages,
    /// What must not delay messages ([`Body::is_bulk`](super::Body::is_bulk)), from the dialer.
    Bulk,
}

/// Opens a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The versions that the dialer speaks, both ends included.
    pub versions: (u16, u16),
    /// What the connection is for.
    pub purpose: Purpose,
    /// The dialer's cluster.
    pub cluster: ClusterId,
    /// The dialer.
    pub from: MemberId,
    /// Whom it believes to have reached.
    pub to: MemberId,
    /// The dialer's present start.
    pub incarnation: Incarnation,
}

/// "Go on."
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The version that both speak from now on.
    pub version: u16,
    /// Who says it.
    pub from: MemberId,
    /// Its present start.
    pub incarnation: Incarnation,
}

/// "No."
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no version that both speak; these are the acceptor's.
    Version(u16, u16),
    /// The acceptor is in this cluster, which is another.
    Cluster(ClusterId),
    /// The acceptor is this member, and another was meant.
    Member(MemberId),
    /// There is a connection already that both will keep.
    Duplicate,
    /// The acceptor has as many connections as it wants.
    Crowded,
}

impl Hello {
    /// What `me` answers to this greeting.
    ///
    /// # Errors
    /// The refusal.
    pub fn answer(
        &self,
        cluster: ClusterId,
        me: MemberId,
        incarnation: Incarnation,
    ) -> Result<Welcome, Refusal> {
        let (min, max) = VERSIONS;
        let version = max.min(self.versions.1);
        if version < min || version < self.versions.0 {
            return Err(Refusal::Version(min, max));
        }
        if self.cluster != cluster {
            return Err(Refusal::Cluster(cluster));
        }
        if self.to != me || self.from == me || !self.from.is_some() {
            return Err(Refusal::Member(me));
        }
        Ok(Welcome { version, from: me, incarnation })
    }

    /// Appends [`PREFACE`] and the frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(PREFACE);
        encode(Kind::Hello, out, |body| {
            body.extend_from_slice(&self.versions.0.to_le_bytes());
            body.extend_from_slice(&self.versions.1.to_le_bytes());
            body.push(match self.purpose {
                Purpose::Messages => 0,
                Purpose::Bulk => 1,
            });
            body.extend_from_slice(&[0; 3]);
            body.extend_from_slice(&self.cluster.0.to_le_bytes());
            body.extend_from_slice(&self.from.0.to_le_bytes());
            body.extend_from_slice(&self.to.0.to_le_bytes());
            body.extend_from_slice(&self.incarnation.0.to_le_bytes());
        });
    }

    pub(super) fn decode(mut body: &[u8]) -> Result<Self, Malformed> {
        if body.len() < 40 {
            return Err(Malformed::Truncated);
        }
        let versions = (body.get_u16_le(), body.get_u16_le());
        let purpose = match body.get_u8() {
            0 => Purpose::Messages,
            1 => Purpose::Bulk,
            unknown => return Err(Malformed::UnknownTag(unknown)),
        };
        body.advance(3);
        Ok(Self {
            versions,
            purpose,
            cluster: ClusterId(body.get_u64_le()),
            from: MemberId(body.get_u64_le()),
            to: MemberId(body.get_u64_le()),
            incarnation: Incarnation(body.get_u64_le()),
        })
    }
}

impl Welcome {
    /// Appends the frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode(Kind::Welcome, out, |body| {
            body.extend_from_slice(&self.version.to_le_bytes());
            body.extend_from_slice(&[0; 6]);
            body.extend_from_slice(&self.from.0.to_le_bytes());
            body.extend_from_slice(&self.incarnation.0.to_le_bytes());
        });
    }

    pub(super) fn decode(mut body: &[u8]) -> Result<Self, Malformed> {
        if body.len() < 24 {
            return Err(Malformed::Truncated);
        }
        let version = body.get_u16_le();
        body.advance(6);
        let from = MemberId(body.get_u64_le());
        Ok(Self { version, from, incarnation: Incarnation(body.get_u64_le()) })
    }
}

impl Refusal {
    /// Appends the frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (reason, min, max, id) = match *self {
            Self::Version(min, max) => (1, min, max, 0),
            Self::Cluster(cluster) => (2, 0, 0, cluster.0),
            Self::Member(member) => (3, 0, 0, member.0),
            Self::Duplicate => (4, 0, 0, 0),
            Self::Crowded => (5, 0, 0, 0),
        };
        encode(Kind::Refusal, out, |body| {
            body.extend_from_slice(&[reason, 0]);
            body.extend_from_slice(&min.to_le_bytes());
            body.extend_from_slice(&max.to_le_bytes());
            body.extend_from_slice(&[0; 2]);
            body.extend_from_slice(&id.to_le_bytes());
        });
    }

    pub(super) fn decode(mut body: &[u8]) -> Result<Self, Malformed> {
        if body.len() < 16 {
            return Err(Malformed::Truncated);
        }
        let reason = body.get_u8();
        body.advance(1);
        let (min, max) = (body.get_u16_le(), body.get_u16_le());
        body.advance(2);
        let id = body.get_u64_le();
        Ok(match reason {
            1 => Self::Version(min, max),
            2 => Self::Cluster(ClusterId(id)),
            3 => Self::Member(MemberId(id)),
            4 => Self::Duplicate,
            5 => Self::Crowded,
            unknown => return Err(Malformed::UnknownTag(unknown)),
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ours_min, ours_max) = VERSIONS;
        match self {
            Self::Version(min, max) => write!(
                f,
                "no common version of the protocol between members: {min} to {max} there, {ours_min} to {ours_max} here"
            ),
            Self::Cluster(cluster) => write!(f, "it is in another cluster, {cluster}"),
            Self::Member(member) => write!(f, "it is another member, {member}"),
            Self::Duplicate => f.write_str("there is a connection already"),
            Self::Crowded => f.write_str("it has as many connections as it wants"),
        }
    }
}
