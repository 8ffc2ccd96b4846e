//! One core's face to its clients: reads from the latest view, and the watches of its connections.
//!
//! A shard never changes the key space. The replica publishes views of it; a linearizable read waits until the
//! view includes everything that was committed when the read arrived. The reads of one turn ask together.
//!
//! The view is lent for each step and not kept: on the replica's own core it is the replica's ([`Replica::view`]),
//! and as long as nobody keeps a second handle on the key space, writing to it copies nothing.
//!
//! [`Replica::view`]: crate::Replica::view

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::api::check::is_serializable;
use crate::api::etcdserverpb::ResponseHeader;
use crate::api::response::RangeAnswer;
use crate::api::{Error, Request, Response};
use crate::config::Limits;
use crate::event::{Publication, ReadIndexAnswer, ShardInput, ShardOutput};
use crate::ids::{ClusterId, MemberId, RequestId};
use crate::mvcc::{View, txn};
use crate::raft::{Index, Term};
use crate::range_stream::RangeStream;
use crate::time::Time;
use crate::watch::Hub;

/// What a shard is told when it starts.
#[derive(Clone, Copy, Debug)]
pub struct ShardConfig {
    /// The cluster, for headers.
    pub cluster: ClusterId,
    /// The member, for headers.
    pub member: MemberId,
    /// What bounds work and memory.
    pub limits: Limits,
    /// Seeds the jitter of progress notifications.
    pub seed: u64,
}

/// Reads that learn together from where on they are current.
#[derive(Debug)]
struct Batch {
    token: u64,
    /// What the view must include, once it is known.
    index: Option<Index>,
    reads: Vec<(RequestId, Request)>,
}

/// What the latest publication said beside the key space.
#[derive(Clone, Copy, Debug)]
struct Standing {
    applied: Index,
    term: Term,
}

/// The clients of one core. See the crate's contract for how to drive it.
#[derive(Debug)]
pub struct Shard {
    config: ShardConfig,
    standing: Standing,
    /// Reads that arrived since the last poll.
    gathering: Vec<(RequestId, Request)>,
    /// Reads that asked, oldest first.
    asked: VecDeque<Batch>,
    last_token: u64,
    hub: Hub,
    outputs: VecDeque<ShardOutput>,
}

impl Shard {
    /// A shard that begins with a first publication.
    pub fn new(config: ShardConfig, first: &Publication) -> Self {
        Self {
            config,
            standing: Standing { applied: first.applied, term: first.term },
            gathering: Vec::new(),
            asked: VecDeque::new(),
            last_token: 0,
            hub: Hub::new(config.limits, config.seed, first.view.revision()),
            outputs: VecDeque::new(),
        }
    }

    /// Takes an input. `view` is that of the latest publication; if that is the input, of this one.
    ///
    /// What follows from it comes out of [`Shard::poll`].
    pub fn step(&mut self, now: Time, view: &View, input: ShardInput) {
        match input {
            ShardInput::Wake => self.hub.wake(now, view),
            ShardInput::Request { id, request } => {
                if is_local(&request) {
                    self.answer(view, id, &request);
                } else {
                    self.gathering.push((id, request));
                }
            }
            ShardInput::Published(publication) => self.published(now, view, &publication),
            ShardInput::ReadIndex(answer) => self.read_index(view, answer),
            ShardInput::WatchOpened(stream) => self.hub.open(stream),
            ShardInput::Watch { stream, request } => self.hub.request(now, stream, request),
            ShardInput::WatchCredit { stream, bytes } => self.hub.credit(stream, bytes),
            ShardInput::WatchClosed(stream) => self.hub.close(stream),
        }
    }

    /// The next thing to do; `None`: nothing, until the next step.
    pub fn poll(&mut self) -> Option<ShardOutput> {
        if !self.gathering.is_empty() {
            self.ask();
        }
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        let (stream, response) = self.hub.poll()?;
        Some(ShardOutput::Watch { stream, response })
    }

    /// When [`ShardInput::Wake`] is due; it may lie in the past.
    pub fn deadline(&self) -> Option<Time> {
        self.hub.deadline()
    }

    /// Checks the watches. O(n log n).
    ///
    /// # Panics
    /// If an invariant is broken; the message says which.
    pub fn check(&self) {
        self.hub.check();
    }

    fn ask(&mut self) {
        self.last_token += 1;
        let (token, reads) = (self.last_token, core::mem::take(&mut self.gathering));
        self.asked.push_back(Batch { token, index: None, reads });
        self.outputs.push_back(ShardOutput::ReadIndex { token });
    }

    fn read_index(&mut self, view: &View, answer: ReadIndexAnswer) {
        let Some(place) = self.asked.iter().position(|batch| batch.token == answer.token) else {
            return;
        };
        match answer.index {
            Ok(index) if index > self.standing.applied => self.asked[place].index = Some(index),
            outcome => {
                let batch = self.asked.remove(place).expect("just found");
                for (id, request) in batch.reads {
                    match outcome {
                        Ok(_) => self.answer(view, id, &request),
                        Err(error) => self.reply(id, Err(error)),
                    }
                }
            }
        }
    }

    fn published(&mut self, now: Time, view: &View, publication: &Publication) {
        let Publication { applied, term, .. } = *publication;
        assert!(applied >= self.standing.applied, "the state only goes on");
        self.standing = Standing { applied, term };
        self.hub.publish(now, view, &publication.changes);
        let current = |batch: &Batch| batch.index.is_some_and(|index| index <= applied);
        let (ready, waiting): (VecDeque<_>, _) =
            core::mem::take(&mut self.asked).into_iter().partition(current);
        self.asked = waiting;
        for (id, request) in ready.into_iter().flat_map(|batch| batch.reads) {
            self.answer(view, id, &request);
        }
    }

    fn answer(&mut self, view: &View, id: RequestId, request: &Request) {
        let mut result = match request {
            Request::Range(range) => view.range(range).map(|result| {
                Response::Range(RangeAnswer { header: ResponseHeader::default(), result })
            }),
            Request::RangeStream(range) => {
                RangeStream::new(view.clone(), range, self.config.limits.request_bytes_max)
                    .map(|stream| Response::RangeStream(Box::new(stream)))
            }
            Request::Txn(request) => txn::read(view, request).map(Response::Txn),
            Request::Put(_)
            | Request::DeleteRange(_)
            | Request::Compact(_)
            | Request::LeaseGrant(_)
            | Request::LeaseRevoke(_)
            | Request::LeaseKeepAlive(_)
            | Request::LeaseTimeToLive(_)
            | Request::LeaseLeases
            | Request::MemberList(_)
            | Request::Alarm(_)
            | Request::Status
            | Request::Defragment
            | Request::Hash
            | Request::HashKv(_)
            | Request::Snapshot
            | Request::Members(_)
            | Request::MoveLeader(_) => unreachable!("the replica answers these"),
        };
        if let Some(unfilled) = result.as_mut().ok().and_then(Response::header_mut) {
            *unfilled = ResponseHeader {
                cluster_id: self.config.cluster.0,
                member_id: self.config.member.0,
                revision: view.revision(),
                raft_term: self.standing.term.0,
            };
        }
        self.reply(id, result);
    }

    fn reply(&mut self, id: RequestId, result: Result<Response, Error>) {
        self.outputs.push_back(ShardOutput::Reply { id, result });
    }
}

/// Whether a read asks for no more than what this member knows.
fn is_local(request: &Request) -> bool {
    match request {
        Request::Range(range) | Request::RangeStream(range) => range.serializable,
        Request::Txn(request) => is_serializable(request),
        Request::Put(_)
        | Request::DeleteRange(_)
        | Request::Compact(_)
        | Request::LeaseGrant(_)
        | Request::LeaseRevoke(_)
        | Request::LeaseKeepAlive(_)
        | Request::LeaseTimeToLive(_)
        | Request::LeaseLeases
        | Request::MemberList(_)
        | Request::Alarm(_)
        | Request::Status
        | Request::Defragment
        | Request::Hash
        | Request::HashKv(_)
        | Request::Snapshot
        | Request::Members(_)
        | Request::MoveLeader(_) => false,
    }
}
