//! Messages as bytes.
//!
//! The bytes do not say who speaks to whom: the connection knows, since its two ends have introduced themselves
//! ([`hello`](super::hello)), and so nobody can speak in another's name. They do not say the index of an entry either:
//! the entries of an append follow its place without a gap, so a message with a gap cannot be written down.
//!
//! What was decoded is well-formed, no more: numbers that count something are below 2^63, so that adding one to them
//! is always possible; each entry's data has the checksum that its leader computed, which is *kept*. A member that
//! took in an entry whose checksum is wrong would find its own log unreadable after the next start.
//!
//! docs/format.md describes the bytes. A new kind of message, a new field or a new text of an error is a new
//! [version](super::hello::VERSIONS).

use alloc::vec::Vec;
use core::fmt;

use bytes::{Buf, Bytes};

use super::frame::{Kind, encode as encode_frame};
use super::{Body, Incarnation, Known, Message, Proposal, Settled, SnapshotPart, Vouch};
use crate::api::Error;
use crate::convert::{to_u64, to_usize};
use crate::ids::MemberId;
use crate::lease::ClusterTime;
use crate::raft::membership::Membership;
use crate::raft::message::{Body as RaftBody, LogEnd, Round};
use crate::raft::{Entry, EntryKind, Index, Term};

/// Why bytes that a peer sent are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The connection does not begin as a member's does.
    Preface,
    /// The header of a frame does not have its checksum.
    Header,
    /// The body of a frame does not have its checksum.
    BodyChecksum,
    /// A frame is longer than it may be.
    TooLong {
        /// How long its body is.
        bytes: u32,
        /// How long it may be.
        max: u32,
    },
    /// A kind of frame that this version does not know.
    UnknownKind(u8),
    /// A kind of message that this version does not know.
    UnknownTag(u8),
    /// A kind of entry that this version does not know.
    UnknownEntry(u8),
    /// An error that this version does not know.
    UnknownError,
    /// A field runs over the end.
    Truncated,
    /// There is more than there should be.
    Trailing(usize),
    /// Neither no (0) nor yes (1).
    Flag(u8),
    /// Nothing counts that far.
    Number(u64),
    /// No members that could be a cluster's.
    Membership,
    /// The data of the entry with this index is not what its leader made.
    EntryChecksum(Index),
}

/// Bytes that a message has in memory and on the wire, about: for whoever counts what waits.
pub fn weight_bytes(message: &Message) -> usize {
    let payload = match &message.body {
        Body::Raft { body: RaftBody::Append { entries, .. }, .. } => {
            entries.iter().map(|entry| ENTRY_BYTES + entry.data.len()).sum()
        }
        Body::Propose { proposals, .. } => {
            proposals.iter().map(|proposal| PROPOSAL_BYTES + proposal.command.len()).sum()
        }
        Body::SnapshotPart(part) => part.bytes.len(),
        Body::Refused { error, .. } => error.message().len(),
        Body::Raft { .. }
        | Body::ReadIndex { .. }
        | Body::ReadIndexAnswer { .. }
        | Body::Digest { .. }
        | Body::SnapshotReceived { .. }
        | Body::Removed
        | Body::Stateless
        | Body::Forgot { .. }
        | Body::Ask { .. } => 0,
        Body::Vouch { vouch, .. } => vouch.membership.members().count() * 3 * size_of::<u64>(),
    };
    MESSAGE_BYTES + payload
}

/// A message without what it carries: its fields, its frame, its place in a queue.
const MESSAGE_BYTES: usize = 128;
/// An entry without its data: term, kind, checksum, length.
const ENTRY_BYTES: usize = 8 + 1 + 4 + 4;
/// A proposal without its command: number, length.
const PROPOSAL_BYTES: usize = 8 + 4;

/// Appends a message as a frame.
///
/// # Panics
/// If it has 4 GiB or more: see [`weight_bytes`].
pub fn encode(message: &Message, out: &mut Vec<u8>) {
    encode_frame(Kind::Message, out, |out| {
        match message.known {
            Known::Unsure => out.push(0),
            Known::Settled(settled) => {
                out.push(1);
                put(out, settled.as_of.0);
                put(out, settled.incarnation.0);
                out.push(u8::from(settled.votes));
                put(out, settled.acknowledged.0);
                put(out, settled.forgot.0);
            }
        }
        encode_body(&message.body, out);
    });
}

fn encode_body(body: &Body, out: &mut Vec<u8>) {
    match body {
        Body::Raft { term, body } => encode_raft(*term, body, out),
        Body::Propose { term, incarnation, proposals } => {
            out.push(32);
            put(out, term.0);
            put(out, incarnation.0);
            put_length(out, proposals.len());
            for proposal in proposals {
                put(out, proposal.number);
                put_length(out, proposal.command.len());
                out.extend_from_slice(&proposal.command);
            }
        }
        Body::Refused { number, error } => {
            out.push(33);
            put(out, *number);
            out.extend_from_slice(error.message().as_bytes());
        }
        Body::ReadIndex { token } => {
            out.push(34);
            put(out, *token);
        }
        Body::ReadIndexAnswer { token, index, time } => {
            out.push(35);
            put(out, *token);
            put(out, index.0);
            put(out, time.0);
        }
        Body::Digest { index, digest } => {
            out.push(36);
            put(out, index.0);
            put(out, *digest);
        }
        Body::SnapshotPart(part) => {
            out.push(37);
            put(out, part.transfer);
            put_place(out, part.place);
            put(out, part.offset);
            out.push(u8::from(part.last));
            out.extend_from_slice(&part.bytes);
        }
        Body::SnapshotReceived { transfer, offset, done } => {
            out.push(38);
            put(out, *transfer);
            put(out, *offset);
            out.push(u8::from(*done));
        }
        Body::Removed => out.push(39),
        Body::Forgot { incarnation } => {
            out.push(40);
            put(out, incarnation.0);
        }
        Body::Ask { incarnation } => {
            out.push(41);
            put(out, incarnation.0);
        }
        Body::Stateless => out.push(43),
        Body::Vouch { incarnation, vouch } => {
            out.push(42);
            put(out, incarnation.0);
            put(out, vouch.term.0);
            put_place(out, vouch.last);
            vouch.membership.encode(out);
        }
    }
}

fn encode_raft(term: Term, body: &RaftBody, out: &mut Vec<u8>) {
    let tag = match body {
        RaftBody::PreVote { .. } => 1,
        RaftBody::PreVoteReply { .. } => 2,
        RaftBody::Vote { .. } => 3,
        RaftBody::VoteReply { .. } => 4,
        RaftBody::Append { .. } => 5,
        RaftBody::AppendAccepted { .. } => 6,
        RaftBody::AppendRejected { .. } => 7,
        RaftBody::Heartbeat { .. } => 8,
        RaftBody::HeartbeatReply { .. } => 9,
        RaftBody::TimeoutNow => 10,
    };
    out.push(tag);
    put(out, term.0);
    match body {
        RaftBody::PreVote { last } => put_place(out, *last),
        RaftBody::PreVoteReply { granted, committed } => {
            out.push(u8::from(*granted));
            put_place(out, *committed);
        }
        RaftBody::VoteReply { granted } => out.push(u8::from(*granted)),
        RaftBody::Vote { last, takeover } => {
            put_place(out, *last);
            out.push(u8::from(*takeover));
        }
        RaftBody::Append { prev, commit, entries } => {
            put_place(out, *prev);
            put(out, commit.0);
            put_length(out, entries.len());
            let mut index = prev.index;
            for entry in entries {
                index = index.next();
                assert_eq!(entry.index, index, "the entries of an append follow its place");
                put(out, entry.term.0);
                out.push(entry.kind.to_byte());
                out.extend_from_slice(&entry.crc.to_le_bytes());
                put_length(out, entry.data.len());
                out.extend_from_slice(&entry.data);
            }
        }
        RaftBody::AppendAccepted { matched } => put(out, matched.0),
        RaftBody::AppendRejected { prev, hint } => {
            put(out, prev.0);
            put_place(out, *hint);
        }
        RaftBody::Heartbeat { commit, round } => {
            put(out, commit.0);
            put(out, round.0);
        }
        RaftBody::HeartbeatReply { round } => put(out, round.0),
        RaftBody::TimeoutNow => {}
    }
}

fn put(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_place(out: &mut Vec<u8>, place: LogEnd) {
    put(out, place.index.0);
    put(out, place.term.0);
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(to_u64(length)).expect("a message has less than 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
}

/// Reads a message that came on the connection from `from` to `to`. Its data shares the memory of `body`.
///
/// # Errors
/// If it is none.
pub fn decode(body: Bytes, from: MemberId, to: MemberId) -> Result<Message, Malformed> {
    let mut fields = Fields(body);
    let known = if fields.flag()? {
        Known::Settled(Settled {
            as_of: Index(fields.count()?),
            incarnation: Incarnation(fields.any()?),
            votes: fields.flag()?,
            acknowledged: Index(fields.count()?),
            forgot: Incarnation(fields.any()?),
        })
    } else {
        Known::Unsure
    };
    let body = decode_body(&mut fields)?;
    match fields.0.len() {
        0 => Ok(Message { from, to, known, body }),
        trailing => Err(Malformed::Trailing(trailing)),
    }
}

fn decode_body(fields: &mut Fields) -> Result<Body, Malformed> {
    Ok(match fields.byte()? {
        tag @ 1..=10 => {
            let term = Term(fields.count()?);
            Body::Raft { term, body: decode_raft(tag, fields)? }
        }
        32 => {
            let term = Term(fields.count()?);
            let incarnation = Incarnation(fields.any()?);
            let proposals = fields.list(PROPOSAL_BYTES, |fields, _| {
                let number = fields.count()?;
                let length = fields.length()?;
                Ok(Proposal { number, command: fields.take(length)? })
            })?;
            Body::Propose { term, incarnation, proposals }
        }
        33 => {
            let number = fields.count()?;
            let text = core::mem::take(&mut fields.0);
            let text = core::str::from_utf8(&text).map_err(|_| Malformed::UnknownError)?;
            let error = Error::from_message(text).ok_or(Malformed::UnknownError)?;
            Body::Refused { number, error }
        }
        34 => Body::ReadIndex { token: fields.any()? },
        35 => Body::ReadIndexAnswer {
            token: fields.any()?,
            index: Index(fields.count()?),
            time: ClusterTime(fields.count()?),
        },
        36 => Body::Digest { index: Index(fields.count()?), digest: fields.any()? },
        37 => {
            let transfer = fields.any()?;
            let place = fields.place()?;
            let offset = fields.count()?;
            let last = fields.flag()?;
            let bytes = core::mem::take(&mut fields.0);
            Body::SnapshotPart(SnapshotPart { transfer, place, offset, bytes, last })
        }
        38 => Body::SnapshotReceived {
            transfer: fields.any()?,
            offset: fields.count()?,
            done: fields.flag()?,
        },
        39 => Body::Removed,
        40 => Body::Forgot { incarnation: Incarnation(fields.any()?) },
        41 => Body::Ask { incarnation: Incarnation(fields.any()?) },
        43 => Body::Stateless,
        42 => Body::Vouch {
            incarnation: Incarnation(fields.any()?),
            vouch: Vouch {
                term: Term(fields.count()?),
                last: fields.place()?,
                membership: fields.membership()?,
            },
        },
        unknown => return Err(Malformed::UnknownTag(unknown)),
    })
}

fn decode_raft(tag: u8, fields: &mut Fields) -> Result<RaftBody, Malformed> {
    Ok(match tag {
        1 => RaftBody::PreVote { last: fields.place()? },
        2 => RaftBody::PreVoteReply { granted: fields.flag()?, committed: fields.place()? },
        3 => RaftBody::Vote { last: fields.place()?, takeover: fields.flag()? },
        4 => RaftBody::VoteReply { granted: fields.flag()? },
        5 => {
            let prev = fields.place()?;
            let commit = Index(fields.count()?);
            let entries =
                fields.list(ENTRY_BYTES, |fields, place| fields.entry(prev.index, place))?;
            RaftBody::Append { prev, commit, entries }
        }
        6 => RaftBody::AppendAccepted { matched: Index(fields.count()?) },
        7 => RaftBody::AppendRejected { prev: Index(fields.count()?), hint: fields.place()? },
        8 => RaftBody::Heartbeat { commit: Index(fields.count()?), round: Round(fields.count()?) },
        9 => RaftBody::HeartbeatReply { round: Round(fields.count()?) },
        10 => RaftBody::TimeoutNow,
        unknown => return Err(Malformed::UnknownTag(unknown)),
    })
}

/// What is left of a message.
struct Fields(Bytes);

impl Fields {
    fn byte(&mut self) -> Result<u8, Malformed> {
        self.0.try_get_u8().map_err(|_| Malformed::Truncated)
    }

    fn flag(&mut self) -> Result<bool, Malformed> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(Malformed::Flag(other)),
        }
    }

    /// A number that only names something.
    fn any(&mut self) -> Result<u64, Malformed> {
        self.0.try_get_u64_le().map_err(|_| Malformed::Truncated)
    }

    /// A number that counts something.
    fn count(&mut self) -> Result<u64, Malformed> {
        let number = self.any()?;
        if i64::try_from(number).is_err() {
            return Err(Malformed::Number(number));
        }
        Ok(number)
    }

    fn place(&mut self) -> Result<LogEnd, Malformed> {
        Ok(LogEnd { index: Index(self.count()?), term: Term(self.count()?) })
    }

    fn membership(&mut self) -> Result<Membership, Malformed> {
        Membership::decode(&mut self.0).ok_or(Malformed::Membership)
    }

    fn length(&mut self) -> Result<usize, Malformed> {
        let length = self.0.try_get_u32_le().map_err(|_| Malformed::Truncated)?;
        Ok(to_usize(u64::from(length)))
    }

    /// The next bytes, which share the message's memory.
    fn take(&mut self, length: usize) -> Result<Bytes, Malformed> {
        if length > self.0.len() {
            return Err(Malformed::Truncated);
        }
        Ok(self.0.split_to(length))
    }

    /// A list whose items have at least `item_bytes` each: one that claims to have more of them than there can be is
    /// refused before memory is taken for it. `item` is told how many came before.
    fn list<T>(
        &mut self,
        item_bytes: usize,
        mut item: impl FnMut(&mut Self, usize) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let count = self.length()?;
        if count > self.0.len() / item_bytes {
            return Err(Malformed::Truncated);
        }
        let mut items = Vec::with_capacity(count);
        for place in 0..count {
            items.push(item(self, place)?);
        }
        Ok(items)
    }

    /// The entry that has so many others between itself and `prev`.
    fn entry(&mut self, prev: Index, place: usize) -> Result<Entry, Malformed> {
        // Both are below 2^63.
        let index = Index(prev.0 + to_u64(place)).next();
        let term = Term(self.count()?);
        let kind = self.byte()?;
        let kind = EntryKind::from_byte(kind).ok_or(Malformed::UnknownEntry(kind))?;
        let crc = self.0.try_get_u32_le().map_err(|_| Malformed::Truncated)?;
        let length = self.length()?;
        let entry = Entry { index, term, kind, crc, data: self.take(length)? };
        if entry.crc != Entry::checksum(kind, &entry.data) {
            return Err(Malformed::EntryChecksum(index));
        }
        if i64::try_from(index.0).is_err() {
            return Err(Malformed::Number(index.0));
        }
        Ok(entry)
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Preface => f.write_str("this is not how members speak to each other"),
            Self::Header => f.write_str("the header of a frame does not have its checksum"),
            Self::BodyChecksum => f.write_str("the body of a frame does not have its checksum"),
            Self::TooLong { bytes, max } => {
                write!(f, "a frame of {bytes} bytes, where {max} are allowed")
            }
            Self::UnknownKind(kind) => write!(f, "a frame of the unknown kind {kind}"),
            Self::UnknownTag(tag) => write!(f, "a message of the unknown kind {tag}"),
            Self::UnknownEntry(kind) => write!(f, "an entry of the unknown kind {kind}"),
            Self::UnknownError => f.write_str("an error that this version does not know"),
            Self::Truncated => f.write_str("a message that ends too early"),
            Self::Trailing(bytes) => write!(f, "a message with {bytes} bytes too many"),
            Self::Flag(byte) => write!(f, "{byte} where 0 or 1 should be"),
            Self::Number(number) => write!(f, "the number {number}, which nothing counts to"),
            Self::Membership => f.write_str("a list of members that no cluster has"),
            Self::EntryChecksum(index) => {
                write!(f, "entry {index} does not have the checksum that its leader computed")
            }
        }
    }
}

impl core::error::Error for Malformed {}
