//! Clients with a watch stream each, some of which read slowly.

use std::collections::{BTreeSet, VecDeque};

use cairn_engine::api::Error;
use cairn_engine::api::etcdserverpb::watch_request::RequestUnion;
use cairn_engine::api::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest,
};
use cairn_engine::auth::Credential;
use cairn_engine::raft::Index;
use cairn_engine::{ConnectionId, MemberId, ShardId, ShardInput, StreamId, watch};

use super::alarm::Alarm;
use super::deeds::Deed;
use super::marks::{Mark, State};
use super::{MILLI, Phase, Run};
use crate::check::Violation;
use crate::check::watches::{Heard, SubscriptionId};
use crate::trace::Note;

/// Somebody with one watch stream at a time.
#[derive(Debug, Default)]
pub(super) struct WatchClient {
    pub(super) stream: Option<Place>,
    /// Subscriptions that wait for a stream.
    pub(super) interrupted: Vec<SubscriptionId>,
}

/// Where a stream is served.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) stream: StreamId,
    pub(super) member: MemberId,
    pub(super) shard: ShardId,
}

/// Two clients have a connection in common, as two parts of a program do.
pub(super) fn connection_of(client: usize) -> ConnectionId {
    ConnectionId(u64::try_from(client / 2).expect("64 bits"))
}

/// A watcher's name that nobody has.
pub(super) const NOBODY: i64 = -77;
/// How often a client looks whether it has a stream, in the calm.
const RETURN_NS: u64 = 20 * MILLI;
/// Who watches, if several do.
const USERS: [&str; 3] = ["root", "ann", "bob"];
/// Watchers of a stream.
const WATCHERS_MAX: usize = 5;

impl Run {
    pub(super) fn watcher(&mut self, number: u64) {
        if self.phase == Phase::Calm {
            return;
        }
        let client = usize::try_from(number).expect("a few");
        let wait = self.random.below(self.swarm.work.watch_think_ns_max);
        self.alarm(wait.max(MILLI), Alarm::Watcher(number));
        let Some(place) = self.watchers[client].stream else { return self.open(client) };
        let watchers = self.watches.watchers(place.stream);
        match self.random.below(12) {
            0..=4 if self.watches.count(place.stream) < WATCHERS_MAX => {
                let request = self.generator.watch(&self.history.model);
                self.say_as(client, RequestUnion::CreateRequest(request));
            }
            5 if !watchers.is_empty() => {
                let watch_id = *self.random.pick(&watchers);
                self.say_as(client, RequestUnion::CancelRequest(WatchCancelRequest { watch_id }));
            }
            6 => {
                let cancel = WatchCancelRequest { watch_id: NOBODY };
                self.say_as(client, RequestUnion::CancelRequest(cancel));
            }
            7 | 8 => {
                self.say_as(client, RequestUnion::ProgressRequest(WatchProgressRequest {}));
            }
            9 if self.random.chance(1, 3) => self.close(client),
            _ => {}
        }
    }

    /// Opens a stream, and asks for what was interrupted.
    pub(super) fn open(&mut self, client: usize) {
        let Some(member) = self.a_member() else { return };
        let shard = self.a_shard();
        self.open_at(client, member, shard);
    }

    /// Who watches as a client.
    fn watching_user(&self, client: usize) -> &'static str {
        if self.swarm.watch_users { USERS[client % USERS.len()] } else { USERS[0] }
    }

    /// Opens a stream somewhere.
    pub(super) fn open_at(&mut self, client: usize, member: MemberId, shard: ShardId) {
        if self.phase == Phase::Chaos {
            self.note_deed(|| Deed::Open(client, member, shard));
        }
        self.streams_opened += 1;
        let stream = StreamId(self.streams_opened);
        let place = Place { stream, member, shard };
        let user = self.watching_user(client);
        self.watches.opened(stream, member, user);
        self.reading.insert(stream, VecDeque::new());
        self.world.watch(
            member,
            shard,
            ShardInput::WatchOpened(
                stream,
                connection_of(client),
                Credential::CommonName(user.into()),
            ),
        );
        self.watchers[client].stream = Some(place);
        for subscription in core::mem::take(&mut self.watchers[client].interrupted) {
            self.tally.resumed += 1;
            let floor = self.world.shown(member, shard);
            let request = self.watches.resume(stream, subscription, floor);
            self.say(place, RequestUnion::CreateRequest(request));
        }
    }

    pub(super) fn say(&mut self, place: Place, union: RequestUnion) {
        let Place { stream, member, shard } = place;
        self.trace.note(self.world.now_ns(), || Note::Says(stream, format!("{union:?}")));
        let request = WatchRequest { request_union: Some(union) };
        self.world.watch(member, shard, ShardInput::Watch { stream, request });
    }

    pub(super) fn watched(
        &mut self,
        stream: StreamId,
        shown: Index,
        response: &watch::Response,
    ) -> Result<(), Violation> {
        self.tally.watched += 1;
        self.check_credit(stream, response)?;
        let Some(reading) = self.reading.get_mut(&stream) else {
            return Ok(()); // It was closed, and the news are on their way.
        };
        reading.push_back(response.encoded_len());
        let slow = self.swarm.work.reading_ns_max;
        if slow == 0 || self.phase == Phase::Calm {
            self.alarm(0, Alarm::Credit(stream));
        } else if !self.is_planned() {
            let wait = self.random.below(slow);
            self.alarm(wait, Alarm::LateCredit(stream));
        }
        let member = self.watches.member_of(stream);
        if member.is_some_and(|id| self.stateless.contains(&id)) && is_turned_away(response) {
            self.watches.turned_away(stream);
            return Ok(());
        }
        match self.watches.judge(&self.history, stream, shown, response)? {
            Heard::Created(..) | Heard::Other => {}
            Heard::Refused(subscription) | Heard::Canceled(subscription) => {
                self.watches.forget(subscription);
            }
            Heard::Forbidden(subscription) => {
                self.mark(Mark::State(State::WatcherForbidden));
                self.watches.forget(subscription);
            }
            Heard::Compacted(subscription, compacted) => {
                self.watches.skip_to(subscription, compacted);
                if let Some(place) = self.place_of(stream) {
                    let floor = self.world.shown(place.member, place.shard);
                    let request: WatchCreateRequest =
                        self.watches.resume(stream, subscription, floor);
                    self.say(place, RequestUnion::CreateRequest(request));
                }
            }
        }
        Ok(())
    }

    /// In the calm, a client that lost its stream opens another.
    pub(super) fn return_to(&mut self, number: u64) {
        self.alarm(RETURN_NS, Alarm::Return(number));
        let client = usize::try_from(number).expect("a few");
        if self.watchers[client].stream.is_none() {
            self.open(client);
        }
    }

    pub(super) fn place_of(&self, stream: StreamId) -> Option<Place> {
        self.watchers.iter().filter_map(|client| client.stream).find(|place| place.stream == stream)
    }

    pub(super) fn credit(&mut self, stream: StreamId) {
        let Some(place) = self.place_of(stream) else { return };
        let Some(reading) = self.reading.get_mut(&stream) else { return };
        if let Some(bytes) = reading.pop_front() {
            let input = ShardInput::WatchCredit { stream, bytes };
            self.world.watch(place.member, place.shard, input);
        }
    }

    /// Watch clients of members that are out of reach go elsewhere.
    pub(super) fn move_streams(&mut self, core: &BTreeSet<MemberId>) {
        for client in 0..self.watchers.len() {
            let away = |place: &mut Place| !core.contains(&place.member);
            if let Some(place) = self.watchers[client].stream.take_if(away) {
                let interrupted = self.watches.lost(place.stream);
                self.watchers[client].interrupted.extend(interrupted);
                self.reading.remove(&place.stream);
            }
        }
    }
}

/// Whether a member refuses a watcher because it has lost its state.
fn is_turned_away(response: &watch::Response) -> bool {
    response.created
        && response.canceled
        && response.cancel_reason.ends_with(Error::Unhealthy.message())
}
