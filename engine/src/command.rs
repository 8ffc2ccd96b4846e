//! What an entry of the log says: one change of the replicated state, and when it was proposed.
//!
//! ```text
//! u8 tag │ varint cluster time in ms │ [u64 member │ u64 number] │ [author] │ body
//! ```
//!
//! The top bit of the tag says that a member which does not lead asked for it, under that number: that member answers
//! its client when it applies the entry. The bit below says on whose behalf it is done; without it, on nobody's. All
//! numbers of fixed width are little-endian.
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
use crate::api::request::act_of_alarm;
use crate::auth::{self, Act, Assignment, Author};
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
    /// Changes users or roles.
    Auth(auth::Change),
    /// Gives a user a token.
    Authenticate(Assignment),
    /// Nothing but the time: leases must not stand still while nobody writes.
    Tick,
}

/// When a command was proposed, and by whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The cluster's time.
    pub time: ClusterTime,
    /// Who asked the leader for it; `None`: the leader's own client, or nobody.
    pub origin: Option<Origin>,
    /// On whose behalf.
    pub author: Author,
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
        Self { time, ..Self::default() }
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
    /// A token may be assigned.
    Authenticate,
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
const AUTH: u8 = 12;
const AUTHENTICATE: u8 = 13;
/// Set in the tag if the command names which member asked for it.
const HAS_ORIGIN: u8 = 0x80;
/// Set in the tag if it names on whose behalf.
const HAS_AUTHOR: u8 = 0x40;

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
            Self::Auth(change) => {
                start(AUTH, &mut out);
                change.encode(&mut out);
            }
            Self::Authenticate(assignment) => {
                start(AUTHENTICATE, &mut out);
                assignment.encode(&mut out);
            }
            Self::Tick => start(TICK, &mut out),
        }
        Bytes::from(out)
    }

    /// The same command, at another time and on another member's wish, but of the same author; `None` if these bytes do
    /// not begin like a command.
    pub fn restamp(mut data: Bytes, time: ClusterTime, origin: Option<Origin>) -> Option<Bytes> {
        let (tag, Stamp { author, .. }) = Stamp::decode(&mut data)?;
        let stamp = Stamp { time, origin, author };
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
        let unknown = UnknownCommand { tag: data.first().map(|tag| tag & !FLAGS) };
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
            AUTH => {
                return Ok((stamp, Self::Auth(auth::Change::decode(data).ok_or(unknown)?)));
            }
            AUTHENTICATE => {
                let assignment = Assignment::decode(data).ok_or(unknown)?;
                return Ok((stamp, Self::Authenticate(assignment)));
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
            Self::Authenticate(_) => CommandKind::Authenticate,
            Self::Put(_)
            | Self::DeleteRange(_)
            | Self::Txn(_)
            | Self::LeaseGrant(_)
            | Self::LeaseRevoke(_)
            | Self::LeaseRenew(_)
            | Self::Auth(_)
            | Self::Tick => CommandKind::Other,
        }
    }

    /// What it would do, for whoever permits.
    pub fn act(&self) -> Act<'_> {
        match self {
            Self::Put(put) => Act::Put(put),
            Self::DeleteRange(delete) => Act::DeleteRange(delete),
            Self::Txn(txn) => Act::Txn(txn),
            Self::Compact(_) | Self::Auth(_) => Act::Root,
            Self::LeaseGrant(_) => Act::Known,
            Self::LeaseRevoke(revoke) => Act::WriteLease(LeaseId(revoke.id)),
            Self::Alarm(request) => act_of_alarm(request),
            Self::Authenticate(_) => Act::OfMember,
            // Clients' renewals were permitted before they were gathered, their wishes about members by the leader.
            Self::LeaseRenew(_) | Self::LeaseExpire(_) | Self::Members(_) | Self::Tick => {
                Act::Upkeep
            }
        }
    }

    /// Whether members say this of themselves, so that no client's request gets ahead of it where there is no room:
    /// renewals of leases, and what they are called. A leader puts its own into the log whatever is under way, and it
    /// does the same for the others'.
    pub fn is_of_members(data: &[u8]) -> bool {
        data.first().is_some_and(|tag| matches!(tag & !FLAGS, LEASE_RENEW | MEMBERS))
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
            | Self::Auth(_)
            | Self::Authenticate(_)
            | Self::Tick => 0,
        };
        body + 64
    }
}

impl Stamp {
    fn encode(&self, tag: u8, out: &mut Vec<u8>) {
        let origin = if self.origin.is_some() { HAS_ORIGIN } else { 0 };
        let author = if self.author.is_nobody() { 0 } else { HAS_AUTHOR };
        out.push(tag | origin | author);
        encode_varint(self.time.0, out);
        if let Some(origin) = self.origin {
            out.extend_from_slice(&origin.member.0.to_le_bytes());
            out.extend_from_slice(&origin.number.to_le_bytes());
        }
        if !self.author.is_nobody() {
            self.author.encode(out);
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
        let named = tag & HAS_AUTHOR != 0;
        let author = if named { Author::decode(data)? } else { Author::Nobody };
        Some((tag & !FLAGS, Self { time, origin, author }))
    }
}

const FLAGS: u8 = HAS_ORIGIN | HAS_AUTHOR;
/// What comes before the body, at most, beside the name of an author.
const STAMP_BYTES_MAX: usize = 1 + 10 + 16 + 21;

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
    use crate::api::etcdserverpb::AuthRoleAddRequest;

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
            Command::Auth(auth::Change::Disable),
            Command::Auth(auth::Change::RoleAdd(AuthRoleAddRequest { name: "r".into() })),
            Command::Authenticate(Assignment { name: "u".into(), digest: [7; 32], checked: 300 }),
            Command::Tick,
        ];
        for command in commands {
            let data = command.encode(ClusterTime(1_000_000));
            assert_eq!(Command::time_of(&data), Some(ClusterTime(1_000_000)));
            let own = matches!(command, Command::LeaseRenew(_) | Command::Members(_));
            assert_eq!(Command::is_of_members(&data), own, "{command:?}");
            let origin = Some(Origin { member: MemberId(3), number: u64::MAX });
            let restamped = Command::restamp(data.clone(), ClusterTime(7), origin).unwrap();
            let asked = Stamp { time: ClusterTime(7), origin, author: Author::Nobody };
            assert_eq!(Command::time_of(&restamped), Some(ClusterTime(7)));
            assert_eq!(Command::decode(restamped), Ok((asked, command.clone())));
            assert_eq!(Command::decode(data), Ok((ClusterTime(1_000_000).into(), command)));
        }
    }

    #[test]
    fn whoever_passes_a_command_on_leaves_its_author_as_it_is() {
        let user =
            |name: &str, revision| Author::User(auth::Identity { name: name.into(), revision });
        // A user without name or revision is not taken for a member.
        for author in [Author::Nobody, Author::Member, user("ann", u64::MAX), user("", 0)] {
            let stamp = Stamp { author: author.clone(), ..Stamp::default() };
            let data = Command::Compact(CompactionRequest::default()).encode(stamp);
            let origin = Some(Origin { member: MemberId(3), number: 9 });
            let passed_on = Command::restamp(data, ClusterTime(5), origin).unwrap();
            let (stamp, _) = Command::decode(passed_on.clone()).unwrap();
            assert_eq!(stamp, Stamp { time: ClusterTime(5), origin, author });
            for end in 0..passed_on.len() {
                drop(Command::decode(passed_on.slice(..end)));
            }
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        for data in [&[][..], &[PUT], &[99, 0], &[PUT, 0, 0xff], &[LEASE_RENEW, 0, 2, 1]] {
            assert!(Command::decode(Bytes::copy_from_slice(data)).is_err(), "{data:?}");
        }
    }
}
