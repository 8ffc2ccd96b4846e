//! Everything that goes into the engine and everything that comes out.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::api::etcdserverpb::WatchRequest;
use crate::api::{self, Error, Request, Response};
use crate::auth::{Auth, Credential, Token};
use crate::command::UnknownCommand;
use crate::cow::CowTree;
use crate::ids::{ConnectionId, MemberId, RequestId, ShardId, StreamId};
use crate::mvcc::View;
use crate::mvcc::base::SharedPages;
use crate::peer::{Incarnation, Message};
use crate::raft::{Index, RoleName, Term};
use crate::state_machine::{Alarms, Changes};
use crate::storage::Damage;
use crate::tree_file::TreeFileId;
use crate::wal::{LogWrite, Lsn, SegmentSeq};
use crate::watch;

/// What happens to a [`Replica`](crate::Replica).
#[derive(Debug)]
pub enum Input {
    /// The deadline has come.
    Wake,
    /// A client asks; answered once, by [`Output::Reply`].
    Request {
        /// How the answer will name it.
        id: RequestId,
        /// Who it says it is.
        credential: Credential,
        /// What it asks.
        request: Request,
    },
    /// A client has used a simple token, at a shard: its time begins anew.
    TokenUsed {
        /// The entry that assigned it.
        index: u64,
    },
    /// A shard wants to read what is current; answered by [`Output::ReadIndex`].
    ReadIndex {
        /// The shard.
        shard: ShardId,
        /// How the answer will name it.
        token: u64,
    },
    /// A peer says something.
    Message(Message),
    /// A peer's process is gone: nobody listens where it did. Only a hint.
    PeerDown(MemberId),
    /// A write to the log is durable.
    LogWritten {
        /// [`LogWrite::end`] of that write.
        to: Lsn,
    },
    /// A part of a snapshot is on the medium; the last one, durably and under its name.
    SnapshotWritten,
    /// A write to a tree file was carried out.
    TreeWritten {
        /// The pages of that file, with all that was written to it.
        pages: SharedPages,
    },
}

/// What a [`Replica`](crate::Replica) wants done.
#[derive(Debug)]
pub enum Output {
    /// Send this to a peer; it may be lost.
    Send(Message),
    /// Write this to the log, durably, then step [`Input::LogWritten`].
    AppendLog(LogWrite),
    /// The log does not need these segments any more.
    RetireSegments(Vec<SegmentSeq>),
    /// Append this to a snapshot file, then step [`Input::SnapshotWritten`].
    WriteSnapshot(SnapshotPart),
    /// Write this to a tree file, then step [`Input::TreeWritten`].
    WriteTree(TreeWrite),
    /// A tree file is not needed any more.
    RemoveTree(TreeFileId),
    /// A tree file is damaged: see to it, durably, that no start believes it. A [`Output::Halt`] follows, which waits for that.
    CondemnTree(TreeFileId),
    /// Answer a client.
    Reply {
        /// Which request.
        id: RequestId,
        /// The answer.
        result: Result<Response, Error>,
    },
    /// Tell every shard, in this order.
    Publish(Publication),
    /// Tell a shard that it may read.
    ReadIndex(ReadIndexAnswer),
    /// Who else is a member, and where: the driver connects to these and to no others.
    Peers(Vec<Peer>),
    /// The cluster knows this incarnation: note on the medium that it does, some time.
    Known(Incarnation),
    /// Something that operators or tests may want to know.
    Event(Event),
    /// Stop: going on would be wrong. Nothing comes after this.
    Halt(Halt),
}

/// Why a member must stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// The log holds a command of a newer version.
    UnknownCommand {
        /// Where.
        index: Index,
        /// Which.
        unknown: UnknownCommand,
    },
    /// This member was removed from the cluster, for ever.
    Removed,
    /// A page of the tree file that was needed is damaged.
    Damaged(Damage),
}

/// A write to a tree file. One at a time; the first to a file makes it, and it has a name only when that write is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeWrite {
    /// Which file.
    pub file: TreeFileId,
    /// What, and at which offset, in any order.
    pub writes: Vec<(u64, Vec<u8>)>,
    /// Whether all that was written to it must be durable then.
    pub sync: bool,
}

/// Another member, and where it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Which.
    pub id: MemberId,
    /// Where, any of these.
    pub urls: Vec<String>,
}

/// A part of a snapshot file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotPart {
    /// The snapshot covers the log up to here; part of the file's name.
    pub index: Index,
    /// Where in the file the bytes go: at its end.
    pub offset: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Whether they are the last: make the file durable and give it its name.
    pub last: bool,
    /// Snapshots below this index are not needed once that is done.
    pub keep_from: Index,
}

/// A new state of the key space, for every shard.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The key space.
    pub view: View,
    /// The index up to which the log is in it.
    pub applied: Index,
    /// What changed since the publication before, a revision at a time.
    pub changes: Vec<Changes>,
    /// The current term.
    pub term: Term,
    /// Who leads it, as far as this member knows.
    pub leader: MemberId,
    /// The alarms that are raised.
    pub alarms: Alarms,
    /// Whether this member only learns.
    pub is_learner: bool,
    /// The version that all members have at least, as `X.Y`; empty until it was agreed on.
    pub cluster_version: Arc<str>,
    /// Users and roles.
    pub auth: Arc<Auth>,
    /// The simple tokens that this member knows.
    pub tokens: CowTree<Token>,
}

/// The answer to [`Input::ReadIndex`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadIndexAnswer {
    /// The shard that asked.
    pub shard: ShardId,
    /// Its name for the question.
    pub token: u64,
    /// The index that its view must include.
    pub index: Result<Index, Error>,
}

/// What happens to a [`Shard`](crate::Shard).
#[derive(Debug)]
pub enum ShardInput {
    /// The deadline has come.
    Wake,
    /// A client asks something that [`Request::route`] gives to shards.
    Request {
        /// How the answer will name it.
        id: RequestId,
        /// Who it says it is.
        credential: Credential,
        /// What it asks.
        request: Request,
    },
    /// The replica has a new state.
    Published(Publication),
    /// The replica answers [`ShardOutput::ReadIndex`].
    ReadIndex(ReadIndexAnswer),
    /// A client opened a watch stream, and says who it is.
    WatchOpened(StreamId, ConnectionId, Credential),
    /// A client says something on its watch stream.
    Watch {
        /// The stream.
        stream: StreamId,
        /// What it says.
        request: WatchRequest,
    },
    /// Bytes of a watch stream's responses have left.
    WatchCredit {
        /// The stream.
        stream: StreamId,
        /// How many.
        bytes: usize,
    },
    /// A watch stream is gone.
    WatchClosed(StreamId),
}

/// What a [`Shard`](crate::Shard) wants done.
#[derive(Debug)]
pub enum ShardOutput {
    /// Answer a client.
    Reply {
        /// Which request.
        id: RequestId,
        /// The answer.
        result: Result<Response, Error>,
    },
    /// Tell the replica, by [`Input::TokenUsed`], that a token was used.
    TokenUsed {
        /// The entry that assigned it.
        index: u64,
    },
    /// Ask the replica from where on reads are current.
    ReadIndex {
        /// How the answer must name it.
        token: u64,
    },
    /// Send this on a watch stream.
    Watch {
        /// The stream.
        stream: StreamId,
        /// What to send.
        response: watch::Response,
    },
}

/// Something that operators or tests may want to know. Nothing depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The member's role changed.
    Role {
        /// What it is now.
        role: RoleName,
        /// In which term.
        term: Term,
        /// Who leads, if known.
        leader: MemberId,
    },
    /// History below a revision was forgotten.
    Compacted {
        /// The revision.
        revision: i64,
    },
    /// What a compaction made unreadable is gone.
    CompactionFinished {
        /// The revision.
        revision: i64,
        /// How many records went.
        removed: u64,
    },
    /// A snapshot was begun.
    SnapshotStarted {
        /// The index that it covers.
        index: Index,
    },
    /// A snapshot is durable.
    SnapshotFinished {
        /// The index that it covers.
        index: Index,
        /// The size of the file.
        bytes: u64,
    },
    /// Leases came to their end.
    LeasesExpired {
        /// How many.
        leases: u64,
    },
    /// The alarms changed.
    Alarms(Alarms),
    /// The members changed.
    Members(Vec<api::etcdserverpb::Member>),
    /// The cluster knows this member by its name and addresses.
    Published,
    /// All members have at least this version, as `X.Y`.
    ClusterVersion(String),
    /// The cluster has the version, as `X.Y`, to which it is being downgraded.
    ReadyToDowngrade(String),
    /// A peer is being sent a snapshot.
    SnapshotSending {
        /// Which.
        peer: MemberId,
        /// What it covers.
        index: Index,
    },
    /// A peer has a snapshot, or cannot be brought one now.
    SnapshotSent {
        /// Which.
        peer: MemberId,
        /// Bytes sent.
        bytes: u64,
        /// Whether it has it.
        arrived: bool,
    },
    /// A leader's snapshot has replaced this member's state.
    SnapshotInstalled {
        /// What it covers.
        index: Index,
    },
    /// This member's disk is not the one that made its promises: it promises nothing until it has caught up.
    MemoryLost,
    /// The others have told what it may have promised, and it has caught up with that.
    MemoryRegained,
    /// A member's disk is not the one that made its promises: it learns, until it has caught up.
    MemberForgotten(MemberId),
    /// States differ: this member's, or that of the one named, is not what it should be.
    Diverged {
        /// Whose.
        member: MemberId,
        /// Where it showed.
        index: Index,
    },
    /// A write to the log takes so long that another member should lead.
    DiskStalled,
}
