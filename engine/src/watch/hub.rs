//! All watch streams of one shard, and what their clients say on them.
//!
//! A watcher is *live* while it was handed everything; else it is *behind* and has a cursor (watcher.rs draws it).
//! The hub moves watchers between the two, and queues what they are owed in one outbox, in which every stream's
//! responses keep their order. Answers to requests wait there, too: so a created watcher is announced before its
//! first event, and no progress notification overtakes one.
//!
//! # Flow control
//!
//! Each response takes its [`encoded_len`](Response::encoded_len) of its stream's credit, and of that which the streams of
//! a connection share, and the caller gives it back when the bytes have left. A stream without credit queues no events: its watchers fall behind instead, at
//! no cost. Answers to requests are always queued: the caller reads none of a client's requests while it cannot send
//! what it has for it, so that a client that asks and never reads is held back by its transport.
//!
//! # Invariants
//!
//! - W1 Every event of a live watcher up to `revision` was queued, once, and none above.
//! - W2 Every event of a watcher behind that is below its cursor was queued, once, and none from there on. The
//!   cursor is at most `revision`.
//! - W3 A watcher hangs in the index on the list that its position says.
//! - W4 A watcher behind is in `due` or among its stream's parked ones, as its position says.
//! - W5 What a stream has under way is what was queued for it and did not come back.
//! - W6 What a connection has under way is what its streams have. Watchers are parked only on streams that have some:
//!   when it comes back, they are looked at again.

use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use super::Response;
use super::arena::{Arena, Slot};
use super::index::{Index, Lists};
use super::stream::Stream;
use super::watcher::{Position, Wait, Watcher, Wishes};
use crate::api::check::{check_watch_create, check_watch_range};
use crate::api::etcdserverpb::watch_request::RequestUnion;
use crate::api::etcdserverpb::{WatchCreateRequest, WatchRequest};
use crate::api::{Error, KeyRange};
use crate::config::Limits;
use crate::ids::{ConnectionId, StreamId};
use crate::mvcc::View;
use crate::rng::Rng;
use crate::state_machine::Changes;
use crate::time::Time;

/// The watch streams of one shard. See the module for how it works, and W1 to W6 there.
#[derive(Debug)]
pub struct Hub {
    pub(super) limits: Limits,
    pub(super) rng: Rng,
    pub(super) now: Time,
    /// What was published last.
    pub(super) revision: i64,
    pub(super) streams: Arena<Stream>,
    by_id: BTreeMap<StreamId, Slot<Stream>>,
    connections: BTreeMap<ConnectionId, Connection>,
    pub(super) watchers: Arena<Watcher>,
    pub(super) index: Index,
    /// Watchers behind that can be served: by turn, then by cursor, so that neighbours are served together.
    pub(super) due: BTreeSet<(u32, i64, Slot<Watcher>)>,
    /// The turn that is being served. Saturates, and after that the lowest cursor is served first.
    pub(super) turn: u32,
    /// When streams tell the revision.
    pub(super) ticks: BTreeSet<(Time, Slot<Stream>)>,
    outbox: VecDeque<(StreamId, Response)>,
}

/// What the streams of a connection have in common.
#[derive(Clone, Copy, Debug, Default)]
struct Connection {
    streams: usize,
    /// What their responses that have not left yet take.
    under_way_bytes: usize,
}

/// Stands for all watchers of a stream, or for one that was not created.
pub(super) const NO_WATCHER: i64 = -1;

impl Hub {
    /// No streams, on a key space that stands at `revision`.
    ///
    /// # Panics
    /// If the limits give streams no credit.
    pub fn new(limits: Limits, seed: u64, revision: i64) -> Self {
        assert!(limits.watch_credit_bytes > 0, "without credit nothing can be sent");
        assert!(limits.watch_connection_credit_bytes > 0, "nor without that of a connection");
        let mut rng = Rng::new(seed);
        Self {
            limits,
            now: Time::ZERO,
            revision,
            streams: Arena::new(),
            by_id: BTreeMap::new(),
            connections: BTreeMap::new(),
            watchers: Arena::new(),
            index: Index::new(rng.fork()),
            rng,
            due: BTreeSet::new(),
            turn: 0,
            ticks: BTreeSet::new(),
            outbox: VecDeque::new(),
        }
    }

    /// A client opened a stream on one of its connections.
    ///
    /// # Panics
    /// If there is a stream of that name.
    pub fn open(&mut self, stream: StreamId, connection: ConnectionId) {
        self.connections.entry(connection).or_default().streams += 1;
        let slot = self.streams.insert(Stream::new(stream, connection));
        let before = self.by_id.insert(stream, slot);
        assert_eq!(before, None, "the names of streams are not used again");
    }

    /// A client says something on its stream. What it says on one that was closed is ignored.
    ///
    /// `permit` says whether a watcher of an interval may be created.
    pub fn request(
        &mut self,
        now: Time,
        stream: StreamId,
        request: WatchRequest,
        permit: impl FnOnce(&KeyRange) -> Result<(), Error>,
    ) {
        self.now = now;
        let Some(&stream) = self.by_id.get(&stream) else { return };
        match request.request_union {
            Some(RequestUnion::CreateRequest(request)) => self.create(stream, &request, permit),
            Some(RequestUnion::CancelRequest(request)) => self.cancel(stream, request.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => self.tell_progress(stream),
            // Requests of later versions are ignored, as in etcd.
            None => {}
        }
    }

    /// Responses of a stream have left; their [`encoded_len`](Response::encoded_len)s add up to `bytes`.
    ///
    /// # Panics
    /// If the stream did not have as many under way.
    pub fn credit(&mut self, stream: StreamId, bytes: usize) {
        let Some(&slot) = self.by_id.get(&stream) else { return };
        let stream = &mut self.streams[slot];
        stream.give_back(bytes);
        let connection = stream.connection;
        self.connection(connection).under_way_bytes -= bytes;
        if !self.has_room_to_catch_up(slot) {
            return;
        }
        for watcher in core::mem::take(&mut self.streams[slot].parked) {
            let Position::Behind { next, turn, .. } = self.watchers[watcher].position else {
                unreachable!("only who is behind is parked (W4)");
            };
            self.wait(watcher, next, turn);
        }
    }

    /// The key space has changed: `changes` are those since the last publication, and `view` is how it stands.
    ///
    /// If changes are missing, because the key space came from elsewhere as a whole, watchers find them in
    /// history, or learn that they were compacted.
    pub fn publish(&mut self, now: Time, view: &View, changes: &[Changes]) {
        self.now = now;
        assert!(view.revision() >= self.revision, "the revision never shrinks (M1)");
        if self.watchers.is_empty() {
            self.revision = view.revision();
            return;
        }
        if changes.first().is_some_and(|first| main_of(first) == self.revision + 1) {
            self.hand_out(changes);
        }
        if self.revision < view.revision() {
            self.skip_to(view.revision());
        }
        assert_eq!(self.revision, view.revision(), "what changes is in the view");
    }

    /// The deadline has come: tells progress, and serves one slice of those behind. `view` is that of the latest
    /// publication.
    ///
    /// # Panics
    /// If it is not.
    pub fn wake(&mut self, now: Time, view: &View) {
        self.now = now;
        assert_eq!(view.revision(), self.revision, "what is published is published here, too");
        self.tick();
        self.catch_up(view);
    }

    /// When [`Hub::wake`] is due: at once while somebody is behind whose stream has room.
    pub fn deadline(&self) -> Option<Time> {
        if self.due.is_empty() { self.ticks.first().map(|(time, _)| *time) } else { Some(self.now) }
    }

    /// The next response to send.
    pub fn poll(&mut self) -> Option<(StreamId, Response)> {
        self.outbox.pop_front()
    }

    /// A stream is gone, with its watchers and all that was queued for it. O(watchers of the stream).
    pub fn close(&mut self, stream: StreamId) {
        let Some(slot) = self.by_id.remove(&stream) else { return };
        while let Some((_, &watcher)) = self.streams[slot].watchers.first_key_value() {
            self.end(watcher);
        }
        let stream_gone = self.streams.remove(slot);
        let (id, under_way_bytes) = (stream_gone.connection, stream_gone.under_way_bytes());
        let connection = self.connection(id);
        connection.streams -= 1;
        connection.under_way_bytes -= under_way_bytes;
        if connection.streams == 0 {
            self.connections.remove(&id);
        }
        let Stream { tick, parked, .. } = stream_gone;
        assert!(parked.is_empty(), "who ended does not wait any more (W4)");
        if let Some(time) = tick {
            self.ticks.remove(&(time, slot));
        }
        self.outbox.retain(|(id, _)| *id != stream);
    }

    fn create(
        &mut self,
        stream: Slot<Stream>,
        request: &WatchCreateRequest,
        permit: impl FnOnce(&KeyRange) -> Result<(), Error>,
    ) {
        let range = KeyRange::from(request);
        let started = check_watch_create(request);
        let permitted = if started.is_ok() { permit(&range) } else { Ok(()) };
        let admitted = started
            .and(permitted)
            .and_then(|()| check_watch_range(&range))
            .and_then(|()| self.streams[stream].choose_id(request.watch_id));
        let id = admitted.as_ref().map_or(NO_WATCHER, |id| *id);
        let reason = match (permitted, &admitted) {
            (Err(error), _) => denied(error),
            (Ok(()), Err(error)) => Cow::Borrowed(error.message()),
            (Ok(()), Ok(_)) => Cow::Borrowed(""),
        };
        self.send(
            stream,
            Response {
                watch_id: id,
                revision: self.revision,
                created: true,
                canceled: admitted.is_err(),
                cancel_reason: reason,
                ..Response::default()
            },
        );
        if admitted.is_err() {
            return;
        }
        let place = self.index.enter(&range);
        let (start, wishes) = (request.start_revision, Wishes::from(request));
        let position = Position::Live { from: start };
        let watcher = self.watchers.insert(Watcher::new(id, stream, position, place, wishes));
        self.streams[stream].watchers.insert(id, watcher);
        let lists = self.index.lists_mut(&self.watchers[watcher].place);
        self.watchers.link(&mut lists.live, watcher);
        // Whoever names no start is owed nothing that has happened. If the start was compacted, that is told when
        // it is the watcher's turn.
        if 0 < start && start <= self.revision {
            self.fall_behind(watcher, start);
        }
        if wishes.progress() {
            self.start_ticking(stream);
        }
    }

    /// Users or roles have changed: ends the watchers that are not permitted any more. O(watchers).
    pub fn permit_anew(
        &mut self,
        now: Time,
        permit: impl Fn(StreamId, &KeyRange) -> Result<(), Error>,
    ) {
        self.now = now;
        let mut ended = Vec::new();
        for (slot, watcher) in self.watchers.iter() {
            let stream = self.streams[watcher.stream].id;
            if let Err(error) = permit(stream, &self.index.range(&watcher.place)) {
                ended.push((watcher.stream, watcher.id, slot, error));
            }
        }
        for (stream, watch_id, slot, error) in ended {
            self.end(slot);
            let (revision, cancel_reason) = (self.revision, denied(error));
            let response = Response { watch_id, revision, canceled: true, ..Response::default() };
            self.send(stream, Response { cancel_reason, ..response });
        }
    }

    fn cancel(&mut self, stream: Slot<Stream>, id: i64) {
        let Some(&watcher) = self.streams[stream].watchers.get(&id) else { return };
        self.end(watcher);
        let (watch_id, revision) = (id, self.revision);
        self.send(stream, Response { watch_id, revision, canceled: true, ..Response::default() });
    }

    fn connection(&mut self, connection: ConnectionId) -> &mut Connection {
        self.connections.get_mut(&connection).expect("it is there while it has a stream (W6)")
    }

    /// Whether live events may be queued for a stream.
    pub(super) fn has_room(&self, stream: Slot<Stream>) -> bool {
        let Limits { watch_credit_bytes, watch_connection_credit_bytes, .. } = self.limits;
        self.is_below(stream, watch_credit_bytes, watch_connection_credit_bytes)
    }

    /// Whether its watchers may catch up.
    pub(super) fn has_room_to_catch_up(&self, stream: Slot<Stream>) -> bool {
        let Limits { watch_credit_bytes, watch_connection_credit_bytes, .. } = self.limits;
        let (own, shared) =
            (watch_credit_bytes.div_ceil(2), watch_connection_credit_bytes.div_ceil(2));
        self.is_below(stream, own, shared)
    }

    /// Whether a stream has less than its own under way and its connection less than what is shared, or the stream has
    /// nothing.
    fn is_below(&self, stream: Slot<Stream>, own_bytes: usize, shared_bytes: usize) -> bool {
        let stream = &self.streams[stream];
        let connection = self.connections.get(&stream.connection);
        let shared = connection.map_or(0, |connection| connection.under_way_bytes);
        let own = stream.under_way_bytes();
        own == 0 || own < own_bytes && shared < shared_bytes
    }

    /// Queues a response.
    pub(super) fn send(&mut self, stream: Slot<Stream>, response: Response) {
        let stream = &mut self.streams[stream];
        let bytes = response.encoded_len();
        stream.take(bytes);
        self.outbox.push_back((stream.id, response));
        let connection = stream.connection;
        self.connection(connection).under_way_bytes += bytes;
    }

    /// Takes a live watcher off the live list, and notes that it is owed everything from `next` on.
    pub(super) fn fall_behind(&mut self, slot: Slot<Watcher>, next: i64) {
        let watcher = &self.watchers[slot];
        assert!(matches!(watcher.position, Position::Live { .. }), "who falls behind was not");
        assert!(next <= self.revision, "what is owed has happened (W2)");
        let lists = self.index.lists_mut(&watcher.place);
        self.watchers.unlink(&mut lists.live, slot);
        self.watchers.link(&mut lists.behind, slot);
        self.wait(slot, next, self.turn.saturating_add(1));
    }

    /// Puts a watcher behind where it waits for its turn, or for room.
    pub(super) fn wait(&mut self, slot: Slot<Watcher>, next: i64, turn: u32) {
        let stream = self.watchers[slot].stream;
        let wait = if self.has_room_to_catch_up(stream) {
            self.due.insert((turn, next, slot));
            Wait::Due
        } else {
            self.streams[stream].parked.insert(slot);
            Wait::Parked
        };
        self.watchers[slot].position = Position::Behind { next, turn, wait };
    }

    /// Forgets a watcher. Nothing more is queued for it.
    pub(super) fn end(&mut self, slot: Slot<Watcher>) {
        let watcher = &self.watchers[slot];
        let stream = &mut self.streams[watcher.stream];
        assert_eq!(stream.watchers.remove(&watcher.id), Some(slot), "it has one name");
        let position = watcher.position;
        match position {
            Position::Live { .. } | Position::Behind { wait: Wait::Serving, .. } => {}
            Position::Behind { next, turn, wait: Wait::Due } => {
                assert!(self.due.remove(&(turn, next, slot)), "it was due (W4)");
            }
            Position::Behind { wait: Wait::Parked, .. } => {
                assert!(stream.parked.remove(&slot), "it was parked (W4)");
            }
        }
        let lists = self.index.lists_mut(&watcher.place);
        let list = lists.list_of(position);
        self.watchers.unlink(list, slot);
        self.index.leave(&self.watchers.remove(slot).place);
    }

    /// How many watchers there are, for metrics.
    pub fn watcher_count(&self) -> usize {
        self.watchers.len()
    }

    /// Checks W2 to W4, W6 and the index. O(n log n).
    ///
    /// # Panics
    /// If an invariant is broken; the message says which.
    pub fn check(&self) {
        let mut parked = 0;
        let mut connections: BTreeMap<ConnectionId, (usize, usize)> = BTreeMap::new();
        for (slot, stream) in self.streams.iter() {
            let (streams, bytes) = connections.entry(stream.connection).or_default();
            (*streams, *bytes) = (*streams + 1, *bytes + stream.under_way_bytes());
            assert!(
                stream.parked.is_empty() || stream.under_way_bytes() > 0,
                "who waits hears (W6)"
            );
            assert_eq!(self.by_id.get(&stream.id), Some(&slot), "a stream is found by its name");
            let ticks = stream.tick.is_none_or(|time| self.ticks.contains(&(time, slot)));
            assert!(ticks, "a stream that ticks is woken");
            parked += stream.parked.len();
        }
        let found = self.connections.iter().map(|(id, c)| (*id, (c.streams, c.under_way_bytes)));
        assert!(found.eq(connections), "connections have what their streams have (W6)");
        let mut listed = Vec::new();
        self.index.check(&mut |lists| {
            assert!(!lists.is_empty(), "what nobody watches is forgotten");
            let live = self.watchers.list(lists.live).map(|(slot, _)| (slot, true));
            let behind = self.watchers.list(lists.behind).map(|(slot, _)| (slot, false));
            listed.extend(live.chain(behind));
        });
        listed.sort_unstable();
        let positions = self
            .watchers
            .iter()
            .map(|(slot, watcher)| (slot, matches!(watcher.position, Position::Live { .. })));
        assert!(positions.eq(listed), "each watcher is on the list that its position says (W3)");
        let mut waiting = 0;
        for (slot, watcher) in self.watchers.iter() {
            let stream = &self.streams[watcher.stream];
            assert_eq!(stream.watchers.get(&watcher.id), Some(&slot), "its stream knows it");
            let Position::Behind { next, turn, wait } = watcher.position else { continue };
            assert!(next <= self.revision, "what is owed has happened (W2)");
            let (due, parked) =
                (self.due.contains(&(turn, next, slot)), stream.parked.contains(&slot));
            assert_eq!((due, parked), (wait == Wait::Due, wait == Wait::Parked), "W4");
            waiting += 1;
        }
        assert_eq!(self.due.len() + parked, waiting, "nobody else waits (W4)");
    }
}

/// Why a watcher was ended by whoever permits: as etcd says it, which is how Go prints an error of gRPC.
fn denied(error: Error) -> Cow<'static, str> {
    let (code, message) = (error.code(), error.message());
    Cow::Owned(alloc::format!("rpc error: code = {code} desc = {message}"))
}

/// The revision that all of these changes have in common.
pub(super) fn main_of(changes: &Changes) -> i64 {
    changes.first().expect("a revision is a change at least (M1)").record.revision().main
}

/// What a watcher is told at its end when what it is owed was compacted.
pub(super) fn overtaken(watch_id: i64, view: &View) -> Response {
    let compact_revision = view.compacted();
    Response { watch_id, canceled: true, compact_revision, ..Response::default() }
}

impl Lists {
    const fn list_of(&mut self, position: Position) -> &mut Option<Slot<Watcher>> {
        match position {
            Position::Live { .. } => &mut self.live,
            Position::Behind { .. } => &mut self.behind,
        }
    }
}
