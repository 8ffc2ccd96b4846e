//! What an entry of the log says: one change of the replicated state, and when it was proposed.
//!
//! ```text
//! u8 tag │ varint cluster time in ms │ [u64 member │ u64 number] │ body
//! ```
//!
//! The top bit of the tag says that a member which does not lead asked for it, under that number: that member answers
//! its client when it applies the entry. All numbers of fixed width are little-endian.
//!
//! The body of most commands is the client's own protobuf message. A command is complete: applying it needs
//! the state and nothing else, so everything that a leader chose (an id, an effective TTL) is in it.

use alloc::vec::Vec;

use bytes::{Buf, Bytes};
use prost::Message;
use prost::encoding::{decode_varint, encode_varint};

use crate::api::etcdserverpb::{
    AlarmRequest, CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest,
    PutRequest, TxnRequest,
};
use crate::cluster::Change;
use crate::convert::to_u64;
use crate::ids::{LeaseId, MemberId};
use crate::lease::ClusterTime;

/// A change of the replicated state.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Writes a key.
    Put(PutRequest),
    /// Deletes keys.
    DeleteRange(DeleteRangeRequest),
    /// Compares, then writes.
    Txn(TxnRequest),
    /// Forgets history.
    Compact(CompactionRequest),
    /// Makes a lease; its id is not zero and its TTL is the effective one.
    LeaseGrant(LeaseGrantRequest),
    /// Ends a lease and deletes its keys.
    LeaseRevoke(LeaseRevokeRequest),
    /// Gives leases their full time again. One that is past its deadline ends instead.
    LeaseRenew(Vec<LeaseId>),
    /// Ends those of these leases that are past their deadline.
    LeaseExpire(Vec<LeaseId>),
    /// Raises or clears an alarm.
    Alarm(AlarmRequest),
    /// Changes the members. Where it changes who votes, it stands behind the membership in an entry of its own kind.
    Members(Change),
    /// Nothing but the time: leases must not stand still while nobody writes.
    Tick,
}

/// When a command was proposed, and by whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The cluster's time.
    pub time: ClusterTime,
    /// Who asked the leader for it; `None`: the leader's own client, or nobody.
    pub origin: Option<Origin>,
}

/// A member that asked, and its number for what it asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The member.
    pub member: MemberId,
    /// The number, see [`Proposal`](crate::peer::Proposal).
    pub number: u64,
}

impl From<ClusterTime> for Stamp {
    fn from(time: ClusterTime) -> Self {
        Self { time, origin: None }
    }
}

/// The commands that have consequences outside of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandKind {
    /// History is forgotten, and somebody may wait until it is gone.
    Compact {
        /// Below this revision.
        revision: i64,
        /// Whether the client waits until it is gone.
        physical: bool,
    },
    /// Leases may end.
    LeaseExpire {
        /// How many.
        leases: u64,
    },
    /// The alarms may change.
    Alarm,
    /// The members may change.
    Members,
    /// Anything else.
    Other,
}

/// Why the bytes of an entry are no command: they were written by other code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownCommand {
    /// The tag found, if there is one.
    pub tag: Option<u8>,
}

const PUT: u8 = 1;
const DELETE_RANGE: u8 = 2;
const TXN: u8 = 3;
const COMPACT: u8 = 4;
const LEASE_GRANT: u8 = 5;
const LEASE_REVOKE: u8 = 6;
const LEASE_RENEW: u8 = 7;
const LEASE_EXPIRE: u8 = 8;
const ALARM: u8 = 9;
const TICK: u8 = 10;
const MEMBERS: u8 = 11;
/// Set in the tag if the command names who asked for it.
const HAS_ORIGIN: u8 = 0x80;

impl Command {
    /// The command as the data of an entry.
    pub fn encode(&self, stamp: impl Into<Stamp>) -> Bytes {
        let stamp = stamp.into();
        let mut out = Vec::with_capacity(self.bytes_hint());
        let start = |tag: u8, out: &mut Vec<u8>| stamp.encode(tag, out);
        match self {
            Self::Put(request) => encode_message(PUT, request, start, &mut out),
            Self::DeleteRange(request) => encode_message(DELETE_RANGE, request, start, &mut out),
            Self::Txn(request) => encode_message(TXN, request, start, &mut out),
            Self::Compact(request) => encode_message(COMPACT, request, start, &mut out),
            Self::LeaseGrant(request) => encode_message(LEASE_GRANT, request, start, &mut out),
            Self::LeaseRevoke(request) => encode_message(LEASE_REVOKE, request, start, &mut out),
            Self::Alarm(request) => encode_message(ALARM, request, start, &mut out),
            Self::LeaseRenew(leases) => {
                start(LEASE_RENEW, &mut out);
                encode_leases(leases, &mut out);
            }
            Self::LeaseExpire(leases) => {
                start(LEASE_EXPIRE, &mut out);
                encode_leases(leases, &mut out);
            }
            Self::Members(change) => {
                start(MEMBERS, &mut out);
                change.encode(&mut out);
            }
            Self::Tick => start(TICK, &mut out),
        }
        Bytes::from(out)
    }

    /// The same command with another stamp; `None` if these bytes do not begin like a command.
    pub fn restamp(mut data: Bytes, stamp: Stamp) -> Option<Bytes> {
        let (tag, _) = Stamp::decode(&mut data)?;
        let mut out = Vec::with_capacity(data.len() + STAMP_BYTES_MAX);
        stamp.encode(tag, &mut out);
        out.extend_from_slice(&data);
        Some(Bytes::from(out))
    }

    /// Reads the data of an entry. Keys and values share its memory.
    ///
    /// # Errors
    /// If it was written by a version that knows more commands, or is damaged.
    pub fn decode(mut data: Bytes) -> Result<(Stamp, Self), UnknownCommand> {
        let unknown = UnknownCommand { tag: data.first().map(|tag| tag & !HAS_ORIGIN) };
        let (tag, stamp) = Stamp::decode(&mut data).ok_or(unknown)?;
        let command = match tag {
            PUT => PutRequest::decode(data).map(Self::Put),
            DELETE_RANGE => DeleteRangeRequest::decode(data).map(Self::DeleteRange),
            TXN => TxnRequest::decode(data).map(Self::Txn),
            COMPACT => CompactionRequest::decode(data).map(Self::Compact),
            LEASE_GRANT => LeaseGrantRequest::decode(data).map(Self::LeaseGrant),
            LEASE_REVOKE => LeaseRevokeRequest::decode(data).map(Self::LeaseRevoke),
            ALARM => AlarmRequest::decode(data).map(Self::Alarm),
            LEASE_RENEW => {
                return Ok((stamp, Self::LeaseRenew(decode_leases(data).ok_or(unknown)?)));
            }
            LEASE_EXPIRE => {
                return Ok((stamp, Self::LeaseExpire(decode_leases(data).ok_or(unknown)?)));
            }
            MEMBERS => {
                return Ok((stamp, Self::Members(Change::decode(data).ok_or(unknown)?)));
            }
            TICK => return Ok((stamp, Self::Tick)),
            _ => return Err(unknown),
        };
        Ok((stamp, command.map_err(|_| unknown)?))
    }

    /// What the one who applies it has to know beside its outcome.
    pub fn kind(&self) -> CommandKind {
        match self {
            Self::Compact(request) => {
                CommandKind::Compact { revision: request.revision, physical: request.physical }
            }
            Self::LeaseExpire(leases) => CommandKind::LeaseExpire { leases: to_u64(leases.len()) },
            Self::Alarm(_) => CommandKind::Alarm,
            Self::Members(_) => CommandKind::Members,
            Self::Put(_)
            | Self::DeleteRange(_)
            | Self::Txn(_)
            | Self::LeaseGrant(_)
            | Self::LeaseRevoke(_)
            | Self::LeaseRenew(_)
            | Self::Tick => CommandKind::Other,
        }
    }

    /// The time in the data of an entry, without reading the rest.
    pub fn time_of(data: &[u8]) -> Option<ClusterTime> {
        let mut rest = data.get(1..)?;
        decode_varint(&mut rest).ok().map(ClusterTime)
    }

    fn bytes_hint(&self) -> usize {
        let body = match self {
            Self::Put(request) => request.key.len() + request.value.len(),
            Self::Txn(request) => request.encoded_len(),
            Self::LeaseRenew(leases) | Self::LeaseExpire(leases) => leases.len() * 8,
            Self::DeleteRange(_)
            | Self::Compact(_)
            | Self::LeaseGrant(_)
            | Self::LeaseRevoke(_)
            | Self::Alarm(_)
            | Self::Members(_)
            | Self::Tick => 0,
        };
        body + 64
    }
}

impl Stamp {
    fn encode(self, tag: u8, out: &mut Vec<u8>) {
        let flag = if self.origin.is_some() { HAS_ORIGIN } else { 0 };
        out.push(tag | flag);
        encode_varint(self.time.0, out);
        if let Some(origin) = self.origin {
            out.extend_from_slice(&origin.member.0.to_le_bytes());
            out.extend_from_slice(&origin.number.to_le_bytes());
        }
    }

    /// Takes tag and stamp off the front.
    fn decode(data: &mut Bytes) -> Option<(u8, Self)> {
        let tag = data.try_get_u8().ok()?;
        let time = ClusterTime(decode_varint(data).ok()?);
        let mut origin = None;
        if tag & HAS_ORIGIN != 0 {
            let member = MemberId(data.try_get_u64_le().ok()?);
            origin = Some(Origin { member, number: data.try_get_u64_le().ok()? });
        }
        Some((tag & !HAS_ORIGIN, Self { time, origin }))
    }
}

/// What comes before the body, at most.
const STAMP_BYTES_MAX: usize = 1 + 10 + 16;

fn encode_message<M: Message>(
    tag: u8,
    message: &M,
    start: impl Fn(u8, &mut Vec<u8>),
    out: &mut Vec<u8>,
) {
    start(tag, out);
    message.encode(out).expect("memory grows");
}

fn encode_leases(leases: &[LeaseId], out: &mut Vec<u8>) {
    encode_varint(to_u64(leases.len()), out);
    for lease in leases {
        out.extend_from_slice(&lease.0.to_le_bytes());
    }
}

fn decode_leases(mut data: Bytes) -> Option<Vec<LeaseId>> {
    let count = decode_varint(&mut data).ok()?;
    if to_u64(data.len()) != count.checked_mul(8)? {
        return None;
    }
    Some(
        data.chunks_exact(8)
            .map(|id| LeaseId(i64::from_le_bytes(id.try_into().expect("eight bytes"))))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encoded_is_decoded() {
        let put = PutRequest { key: Bytes::from_static(b"k"), lease: -3, ..PutRequest::default() };
        let commands = [
            Command::Put(put),
            Command::DeleteRange(DeleteRangeRequest::default()),
            Command::Txn(TxnRequest::default()),
            Command::Compact(CompactionRequest { revision: 5, physical: true }),
            Command::LeaseGrant(LeaseGrantRequest { ttl: 5, id: 6 }),
            Command::LeaseRevoke(LeaseRevokeRequest { id: 6 }),
            Command::LeaseRenew(alloc::vec![LeaseId(1), LeaseId(-1)]),
            Command::LeaseExpire(Vec::new()),
            Command::Alarm(AlarmRequest::default()),
            Command::Members(Change::Remove(MemberId(7))),
            Command::Tick,
        ];
        for command in commands {
            let data = command.encode(ClusterTime(1_000_000));
            assert_eq!(Command::time_of(&data), Some(ClusterTime(1_000_000)));
            let origin = Some(Origin { member: MemberId(3), number: u64::MAX });
            let asked = Stamp { time: ClusterTime(7), origin };
            let restamped = Command::restamp(data.clone(), asked).unwrap();
            assert_eq!(Command::time_of(&restamped), Some(ClusterTime(7)));
            assert_eq!(Command::decode(restamped), Ok((asked, command.clone())));
            assert_eq!(Command::decode(data), Ok((ClusterTime(1_000_000).into(), command)));
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        for data in [&[][..], &[PUT], &[99, 0], &[PUT, 0, 0xff], &[LEASE_RENEW, 0, 2, 1]] {
            assert!(Command::decode(Bytes::copy_from_slice(data)).is_err(), "{data:?}");
        }
    }
}
