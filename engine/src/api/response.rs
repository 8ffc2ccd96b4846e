//! What a client gets.

use alloc::boxed::Box;
use alloc::vec::Vec;

use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};

use crate::api::etcdserverpb::{
    AlarmResponse, CompactionResponse, DefragmentResponse, DeleteRangeResponse, DowngradeResponse,
    HashKvResponse, HashResponse, LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse,
    LeaseRevokeResponse, LeaseTimeToLiveResponse, MemberAddResponse, MemberListResponse,
    MemberPromoteResponse, MemberRemoveResponse, MemberUpdateResponse, MoveLeaderResponse,
    PutResponse, ResponseHeader, StatusResponse, TxnResponse,
};
use crate::auth::Answer;
use crate::convert::to_u64;
use crate::mvcc::RangeResult;
use crate::range_stream::RangeStream;
use crate::replica::ReplicaStatus;
use crate::snapshot::etcd::EtcdSnapshot;

/// The answer to a [`Request`](super::Request).
#[derive(Clone, Debug)]
pub enum Response {
    /// Keys.
    Range(RangeAnswer),
    /// Keys, to be fetched in parts.
    RangeStream(Box<RangeStream>),
    /// A key was written.
    Put(PutResponse),
    /// Keys were deleted.
    DeleteRange(DeleteRangeResponse),
    /// A transaction was executed.
    Txn(TxnResponse),
    /// History was forgotten.
    Compact(CompactionResponse),
    /// A lease was made.
    LeaseGrant(LeaseGrantResponse),
    /// A lease was ended.
    LeaseRevoke(LeaseRevokeResponse),
    /// A lease was renewed, or (with a TTL of 0) is no more.
    LeaseKeepAlive(LeaseKeepAliveResponse),
    /// How long a lease has.
    LeaseTimeToLive(LeaseTimeToLiveResponse),
    /// The leases.
    LeaseLeases(LeaseLeasesResponse),
    /// The members.
    MemberList(MemberListResponse),
    /// A member was added.
    MemberAdd(MemberAddResponse),
    /// A member was removed.
    MemberRemove(MemberRemoveResponse),
    /// A member is reached elsewhere.
    MemberUpdate(MemberUpdateResponse),
    /// A learner votes.
    MemberPromote(MemberPromoteResponse),
    /// Another member leads.
    MoveLeader(MoveLeaderResponse),
    /// The version of the cluster, which may or will be lower.
    Downgrade(DowngradeResponse),
    /// The alarms concerned.
    Alarm(AlarmResponse),
    /// How this member is.
    Status(Box<StatusAnswer>),
    /// Nothing was wasted.
    Defragment(DefragmentResponse),
    /// A hash of everything.
    Hash(HashResponse),
    /// A hash of history.
    HashKv(HashKvResponse),
    /// A copy of everything, to be fetched in parts.
    Snapshot(Box<EtcdSnapshot>),
    /// About users and roles.
    Auth(Answer),
}

/// How a member is.
#[derive(Clone, Debug)]
pub struct StatusAnswer {
    /// What clients see.
    pub response: StatusResponse,
    /// What metrics see.
    pub status: ReplicaStatus,
}

/// The answer to a range.
#[derive(Clone, Debug)]
pub struct RangeAnswer {
    /// Who answered, and when.
    pub header: ResponseHeader,
    /// What was found.
    pub result: RangeResult,
}

impl Response {
    /// The header, if answers of this kind have one that the engine fills in.
    pub fn header_mut(&mut self) -> Option<&mut ResponseHeader> {
        let header = match self {
            Self::Range(answer) => return Some(&mut answer.header),
            Self::RangeStream(stream) => return Some(stream.header_mut()),
            Self::Put(response) => &mut response.header,
            Self::DeleteRange(response) => &mut response.header,
            Self::Txn(response) => &mut response.header,
            Self::Compact(response) => &mut response.header,
            Self::LeaseGrant(response) => &mut response.header,
            Self::LeaseRevoke(response) => &mut response.header,
            Self::LeaseKeepAlive(response) => &mut response.header,
            Self::LeaseTimeToLive(response) => &mut response.header,
            Self::LeaseLeases(response) => &mut response.header,
            Self::MemberList(response) => &mut response.header,
            Self::MemberAdd(response) => &mut response.header,
            Self::MemberRemove(response) => &mut response.header,
            Self::MemberUpdate(response) => &mut response.header,
            Self::MemberPromote(response) => &mut response.header,
            Self::Downgrade(response) => &mut response.header,
            Self::Alarm(response) => &mut response.header,
            Self::Status(answer) => &mut answer.response.header,
            Self::Hash(response) => &mut response.header,
            Self::HashKv(response) => &mut response.header,
            Self::Auth(answer) => return answer.header_mut(),
            // These carry none, as in etcd.
            Self::Defragment(_) | Self::Snapshot(_) | Self::MoveLeader(_) => return None,
        };
        Some(header.get_or_insert_default())
    }

    /// Length of the message in wire form.
    ///
    /// # Panics
    /// If the answer is one to be fetched in parts.
    pub fn encoded_len(&self) -> usize {
        if let Self::Range(answer) = self {
            answer.encoded_len()
        } else if let Self::Auth(answer) = self {
            answer.encoded_len()
        } else {
            self.message().wire_len()
        }
    }

    /// Appends the message in wire form.
    ///
    /// # Panics
    /// If the answer is one to be fetched in parts.
    pub fn encode(&self, out: &mut Vec<u8>) {
        if let Self::Range(answer) = self {
            answer.encode(out);
        } else if let Self::Auth(answer) = self {
            answer.encode(out);
        } else {
            self.message().append_to(out);
        }
    }

    fn message(&self) -> &dyn Encode {
        match self {
            Self::Put(response) => response,
            Self::DeleteRange(response) => response,
            Self::Txn(response) => response,
            Self::Compact(response) => response,
            Self::LeaseGrant(response) => response,
            Self::LeaseRevoke(response) => response,
            Self::LeaseKeepAlive(response) => response,
            Self::LeaseTimeToLive(response) => response,
            Self::LeaseLeases(response) => response,
            Self::MemberList(response) => response,
            Self::MemberAdd(response) => response,
            Self::MemberRemove(response) => response,
            Self::MemberUpdate(response) => response,
            Self::MemberPromote(response) => response,
            Self::MoveLeader(response) => response,
            Self::Downgrade(response) => response,
            Self::Alarm(response) => response,
            Self::Status(answer) => &answer.response,
            Self::Defragment(response) => response,
            Self::Hash(response) => response,
            Self::HashKv(response) => response,
            Self::Range(_) => unreachable!("ranges are encoded from their records"),
            Self::Auth(_) => unreachable!("answers encode themselves"),
            Self::RangeStream(_) | Self::Snapshot(_) => panic!("fetched in parts"),
        }
    }
}

/// The part of [`Message`] that can be used without knowing the type.
trait Encode {
    fn wire_len(&self) -> usize;
    fn append_to(&self, out: &mut Vec<u8>);
}

impl<M: Message> Encode for M {
    fn wire_len(&self) -> usize {
        self.encoded_len()
    }

    fn append_to(&self, out: &mut Vec<u8>) {
        self.encode(out).expect("memory grows");
    }
}

/// Tags of `RangeResponse`: field number and wire type in one byte.
const HEADER_TAG: u8 = 1 << 3 | 2;
const KVS_TAG: u8 = 2 << 3 | 2;
const MORE_TAG: u8 = 3 << 3;
const COUNT_TAG: u8 = 4 << 3;

impl RangeAnswer {
    fn encoded_len(&self) -> usize {
        let header = delimited_len(self.header.encoded_len());
        let kvs: usize = self
            .result
            .records
            .iter()
            .map(|record| delimited_len(self.result.record_len(record)))
            .sum();
        let more = if self.result.more { 2 } else { 0 };
        let count = match self.result.count {
            0 => 0,
            count => 1 + encoded_len_varint(to_u64(count)),
        };
        header + kvs + more + count
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(self.encoded_len());
        out.push(HEADER_TAG);
        encode_varint(to_u64(self.header.encoded_len()), out);
        self.header.encode(out).expect("memory grows");
        for record in &self.result.records {
            out.push(KVS_TAG);
            encode_varint(to_u64(self.result.record_len(record)), out);
            self.result.encode_record(record, out);
        }
        if self.result.more {
            out.extend_from_slice(&[MORE_TAG, 1]);
        }
        if self.result.count > 0 {
            out.push(COUNT_TAG);
            encode_varint(to_u64(self.result.count), out);
        }
    }
}

/// Length of a field with a one-byte tag that holds `len` bytes.
fn delimited_len(len: usize) -> usize {
    1 + encoded_len_varint(to_u64(len)) + len
}
