//! What services share with the world: questions under way, watch streams, and what was said on them.

use std::collections::{BTreeMap, VecDeque};

use cairn_engine::api::{Error, Request, Response};
use cairn_engine::auth::Credential;
use cairn_engine::{ConnectionId, MemberId, RequestId, ShardId, ShardInput, StreamId, watch};

use super::client::{Change, Trouble};
use crate::random::Random;
use crate::trace::{Note, leaves_it_open};
use crate::world::{Observation, World};

/// An alarm that nobody waits for but the loop, which looks around at each turn.
pub(super) const NOBODY: u64 = 0;

/// The desk between services and members.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) world: World,
    pub(super) random: Random,
    /// Something was said to a service since this was last false.
    pub(super) moved: bool,
    pub(super) notes: Vec<Note>,
    pub(super) faults: u64,
    asked: u64,
    questions: BTreeMap<RequestId, Question>,
    streams: BTreeMap<StreamId, Stream>,
    opened: u64,
}

#[derive(Debug)]
struct Question {
    member: MemberId,
    answer: Option<Result<Response, Trouble>>,
}

/// A watch stream with one watcher.
#[derive(Debug)]
struct Stream {
    member: MemberId,
    shard: ShardId,
    said: VecDeque<Result<Vec<Change>, Trouble>>,
}

impl Desk {
    pub(super) fn new(world: World, seed: u64) -> Self {
        Self {
            world,
            random: Random::new(seed, 21),
            moved: false,
            notes: Vec::new(),
            faults: 0,
            asked: 0,
            questions: BTreeMap::new(),
            streams: BTreeMap::new(),
            opened: 0,
        }
    }

    /// A member that runs: the one named, or another one.
    pub(super) fn a_member(&mut self, rather: Option<MemberId>) -> Option<MemberId> {
        if let Some(id) = rather.filter(|id| self.world.is_up(*id)) {
            return Some(id);
        }
        let up: Vec<_> = self.world.members().filter(|id| self.world.is_up(*id)).collect();
        (!up.is_empty()).then(|| *self.random.pick(&up))
    }

    fn a_shard(&mut self) -> ShardId {
        ShardId(u16::from(self.random.chance(1, 2)))
    }

    pub(super) fn ask(&mut self, client: usize, member: MemberId, request: Request) -> RequestId {
        self.asked += 1;
        let id = RequestId(self.asked);
        self.notes.push(Note::Asks {
            client: u64::try_from(client).ok(),
            member,
            id,
            request: format!("{request:?}"),
        });
        self.questions.insert(id, Question { member, answer: None });
        let shard = self.a_shard();
        self.world.request(member, shard, id, request);
        id
    }

    /// The answer, once it is there.
    pub(super) fn take_answer(&mut self, id: RequestId) -> Option<Result<Response, Trouble>> {
        self.questions.get_mut(&id)?.answer.take()
    }

    /// Nobody waits for it any more.
    pub(super) fn forget(&mut self, id: RequestId) {
        self.questions.remove(&id);
    }

    pub(super) fn open(&mut self, member: MemberId, create: watch_create::Request) -> StreamId {
        self.opened += 1;
        let (stream, shard) = (StreamId(self.opened), self.a_shard());
        // A connection each, so that none waits for what another does not read.
        let connection = ConnectionId(stream.0);
        let opened = ShardInput::WatchOpened(stream, connection, Credential::None);
        self.world.watch(member, shard, opened);
        let request = watch_create::of(create);
        self.world.watch(member, shard, ShardInput::Watch { stream, request });
        self.streams.insert(stream, Stream { member, shard, said: VecDeque::new() });
        stream
    }

    pub(super) fn take_said(&mut self, stream: StreamId) -> Option<Result<Vec<Change>, Trouble>> {
        self.streams.get_mut(&stream)?.said.pop_front()
    }

    pub(super) fn close(&mut self, stream: StreamId) {
        if let Some(Stream { member, shard, .. }) = self.streams.remove(&stream) {
            self.world.watch(member, shard, ShardInput::WatchClosed(stream));
        }
    }

    /// Tells services what they wait for.
    pub(super) fn see(&mut self, observation: Observation) {
        match observation {
            Observation::Reply { id, result, .. } => {
                if let Some(question) = self.questions.get_mut(&id) {
                    question.answer.get_or_insert_with(|| result.map_err(trouble));
                    self.moved = true;
                }
            }
            Observation::Crashed(id) => {
                for question in self.questions.values_mut().filter(|one| one.member == id) {
                    question.answer.get_or_insert(Err(Trouble::Unknown));
                }
                for stream in self.streams.values_mut().filter(|one| one.member == id) {
                    stream.said.push_back(Err(Trouble::Unavailable));
                }
                self.moved = true;
            }
            Observation::Watch { stream, response, .. } => self.hear(stream, &response),
            Observation::Started(_)
            | Observation::Refused(..)
            | Observation::Published(..)
            | Observation::Event(..)
            | Observation::Halted(..)
            | Observation::Sent(..)
            | Observation::Wrote(..)
            | Observation::Paused(_)
            | Observation::Resumed(_)
            | Observation::Alarm(_) => {}
        }
    }

    fn hear(&mut self, stream: StreamId, response: &watch::Response) {
        let bytes = response.encoded_len();
        let Some(Stream { member, shard, said }) = self.streams.get_mut(&stream) else { return };
        let (member, shard) = (*member, *shard);
        if response.compact_revision > 0 {
            said.push_back(Err(Trouble::Compacted(response.compact_revision)));
        } else if response.canceled {
            said.push_back(Err(Trouble::Unavailable));
        } else if !response.events.is_empty() {
            said.push_back(Ok(response.events.iter().map(Change::of).collect()));
        }
        self.moved = true;
        self.world.watch(member, shard, ShardInput::WatchCredit { stream, bytes });
    }
}

/// What a refusal means to whoever asked.
fn trouble(error: Error) -> Trouble {
    if leaves_it_open(error) { Trouble::Unknown } else { Trouble::Refused(error) }
}

pub(super) mod watch_create {
    //! The request that makes a watcher.

    use cairn_engine::api::etcdserverpb::watch_request::RequestUnion;
    use cairn_engine::api::etcdserverpb::{WatchCreateRequest, WatchRequest};

    pub(in super::super) type Request = WatchCreateRequest;

    pub(super) fn of(request: Request) -> WatchRequest {
        WatchRequest { request_union: Some(RequestUnion::CreateRequest(request)) }
    }
}
