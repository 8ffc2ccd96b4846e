//! One core's face to its clients: reads from the latest view, and the watches of its connections.
//!
//! A shard never changes the key space. The replica publishes views of it; a linearizable read waits until the
//! view includes everything that was committed when the read arrived. The reads of one turn ask together.

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
use crate::mvcc::txn;
use crate::raft::Index;
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

/// The clients of one core. See the crate's contract for how to drive it.
#[derive(Debug)]
pub struct Shard {
    config: ShardConfig,
    now: Time,
    latest: Publication,
    /// Reads that arrived since the last poll.
    gathering: Vec<(RequestId, Request)>,
    /// Reads that asked, oldest first.
    asked: VecDeque<Batch>,
    last_token: u64,
    hub: Hub,
    outputs: VecDeque<ShardOutput>,
}

impl Shard {
    /// A shard that reads from `first` until something newer is published.
    pub fn new(config: ShardConfig, first: Publication) -> Self {
        Self {
            config,
            now: Time::ZERO,
            latest: first,
            gathering: Vec::new(),
            asked: VecDeque::new(),
            last_token: 0,
            hub: Hub::new(config.limits, config.seed),
            outputs: VecDeque::new(),
        }
    }

    /// Takes an input. What follows from it comes out of [`Shard::poll`].
    pub fn step(&mut self, now: Time, input: ShardInput) {
        self.now = now;
        match input {
            ShardInput::Wake => self.hub.wake(now, &self.latest.view),
            ShardInput::Request { id, request } => {
                if is_local(&request) {
                    self.answer(id, &request);
                } else {
                    self.gathering.push((id, request));
                }
            }
            ShardInput::Published(publication) => self.published(publication),
            ShardInput::ReadIndex(answer) => self.read_index(answer),
            ShardInput::WatchOpened(stream) => self.hub.open(stream),
            ShardInput::Watch { stream, request } => {
                self.hub.request(now, &self.latest.view, stream, request);
            }
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

    /// The header of what this shard answers now.
    pub fn header(&self) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.config.cluster.0,
            member_id: self.config.member.0,
            revision: self.latest.view.revision(),
            raft_term: self.latest.term.0,
        }
    }

    /// The latest that was published.
    pub fn latest(&self) -> &Publication {
        &self.latest
    }

    fn ask(&mut self) {
        self.last_token += 1;
        let (token, reads) = (self.last_token, core::mem::take(&mut self.gathering));
        self.asked.push_back(Batch { token, index: None, reads });
        self.outputs.push_back(ShardOutput::ReadIndex { token });
    }

    fn read_index(&mut self, answer: ReadIndexAnswer) {
        let Some(place) = self.asked.iter().position(|batch| batch.token == answer.token) else {
            return;
        };
        match answer.index {
            Ok(index) if index > self.latest.applied => self.asked[place].index = Some(index),
            outcome => {
                let batch = self.asked.remove(place).expect("just found");
                for (id, request) in batch.reads {
                    match outcome {
                        Ok(_) => self.answer(id, &request),
                        Err(error) => self.reply(id, Err(error)),
                    }
                }
            }
        }
    }

    fn published(&mut self, publication: Publication) {
        assert!(publication.applied >= self.latest.applied, "the state only goes on");
        self.latest = publication;
        let changes = core::mem::take(&mut self.latest.changes);
        self.hub.publish(self.now, &self.latest.view, &changes);
        let applied = self.latest.applied;
        let current = |batch: &Batch| batch.index.is_some_and(|index| index <= applied);
        let (ready, waiting): (VecDeque<_>, _) =
            core::mem::take(&mut self.asked).into_iter().partition(current);
        self.asked = waiting;
        for (id, request) in ready.into_iter().flat_map(|batch| batch.reads) {
            self.answer(id, &request);
        }
    }

    /// Reads from the latest view.
    fn answer(&mut self, id: RequestId, request: &Request) {
        let view = &self.latest.view;
        let result = match request {
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
            | Request::Snapshot => unreachable!("the replica answers these"),
        };
        self.reply(id, result);
    }

    fn reply(&mut self, id: RequestId, mut result: Result<Response, Error>) {
        let header = self.header();
        if let Some(unfilled) = result.as_mut().ok().and_then(Response::header_mut) {
            *unfilled = header;
        }
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
        | Request::Snapshot => false,
    }
}
