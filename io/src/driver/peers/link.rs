//! One other member: which connection counts, and what waits to be sent on it.
//!
//! A link is shared by the driver (which pushes), the member's keeper (which dials) and its sessions (which send). They
//! are tasks of one core; nothing here waits, and no borrow leaves a function.

use core::cell::RefCell;
use core::task::Waker;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use cairn_engine::MemberId;
use cairn_engine::peer::codec::{encode, weight_bytes};
use cairn_engine::peer::{Body, Incarnation, Message};
use cairn_engine::raft::message::Body as RaftBody;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::counters::Counter;
use super::names::Names;
use super::url::PeerUrl;
use super::{PeerCounters, PeerNotice};

/// Bytes of messages that are short and must not wait: heartbeats, votes, answers. Thousands of them.
const URGENT_BYTES_MAX: usize = 1 << 20;
/// Bytes of appends and proposals that wait. As many as the engine has under way to one member, so that none is dropped
/// whose answer it waits for; they share their memory with the log.
const ORDERED_BYTES_MAX: usize = 64 << 20;
/// Bytes of parts of snapshots that wait: twice what the engine has under way.
const BULK_BYTES_MAX: usize = 8 << 20;
/// About so much is written in one go: enough to make calls rare, and what is urgent then waits for no more.
const WRITE_BYTES: usize = 128 << 10;
/// A connection that lasted so long was a good one: what was told before may be told again.
const STEADY_NS: u64 = 10_000_000_000;
/// Different things that are told about a link while it is not steady.
const TOLD_MAX: usize = 16;

/// A way between two members. Each has its own connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Messages, both ways.
    Messages,
    /// Parts of snapshots, from here; dialed here.
    BulkOut,
    /// Parts of snapshots, from there; dialed there.
    BulkIn,
}

/// What is known of one other member.
pub(super) struct Link {
    me: MemberId,
    peer: MemberId,
    counters: Arc<PeerCounters>,
    /// Its place among the counters.
    place: Option<usize>,
    names: Names,
    state: RefCell<State>,
    /// Rung for the keeper: a connection has come or gone, or there is nothing to keep any more.
    changed: Notify,
}

struct State {
    /// Where it is reached; `None`: it is a guest.
    urls: Option<Rc<[PeerUrl]>>,
    /// A keeper is at work.
    is_kept: bool,
    /// A task dials for parts of snapshots, or sends them.
    sends_bulk: bool,
    /// When dialing for them may be tried again.
    bulk_pause_until: u64,
    messages: Way,
    bulk_out: Way,
    bulk_in: Way,
    /// Since when there has been no connection for messages, or how long there has been one.
    since: u64,
    last_number: u64,
    told: Vec<PeerNotice>,
}

/// The state of a [`Lane`].
#[derive(Default)]
struct Way {
    held: Option<Held>,
    urgent: Queue,
    ordered: Queue,
    session: Option<Waker>,
}

/// The connection that counts.
struct Held {
    number: u64,
    dialer: MemberId,
    /// The start of the other member that it is with.
    incarnation: Incarnation,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Message>,
    bytes: usize,
}

/// What a push came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It waits, or was dropped.
    Done,
    /// It waits for a connection that nobody has dialed yet: the caller must.
    WantsBulk,
}

/// When a member is to be dialed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// Never: it is no member.
    Never,
    /// Not while there is a connection.
    Connected,
    /// From then on.
    From(u64),
}

impl Link {
    pub(super) fn new(
        me: MemberId,
        peer: MemberId,
        now: u64,
        counters: &Arc<PeerCounters>,
    ) -> Self {
        let state = State {
            urls: None,
            is_kept: false,
            sends_bulk: false,
            bulk_pause_until: 0,
            messages: Way::default(),
            bulk_out: Way::default(),
            bulk_in: Way::default(),
            since: now,
            last_number: 0,
            told: Vec::new(),
        };
        let counters = Arc::clone(counters);
        let place = counters.take(peer);
        Self {
            me,
            peer,
            counters,
            place,
            names: Names::default(),
            state: RefCell::new(state),
            changed: Notify::new(),
        }
    }

    pub(super) fn peer(&self) -> MemberId {
        self.peer
    }

    /// Whether it is a member that we know of.
    pub(super) fn is_member(&self) -> bool {
        self.state.borrow().urls.is_some()
    }

    /// Whether there is any connection.
    pub(super) fn is_connected(&self) -> bool {
        [Lane::Messages, Lane::BulkOut, Lane::BulkIn].into_iter().any(|lane| self.holds(lane))
    }

    /// Whether there is a connection on this lane.
    pub(super) fn holds(&self, lane: Lane) -> bool {
        self.state.borrow_mut().lanes(lane).held.is_some()
    }

    /// It is a member, and reached there; whether it needs a keeper.
    pub(super) fn set_member(&self, urls: Rc<[PeerUrl]>) -> bool {
        let mut state = self.state.borrow_mut();
        state.urls = Some(urls);
        !core::mem::replace(&mut state.is_kept, true)
    }

    /// It is no member (any more).
    pub(super) fn set_guest(&self) {
        self.state.borrow_mut().urls = None;
        self.changed.notify_one();
    }

    /// Ends everything that there is.
    pub(super) fn end(&self) {
        self.set_guest();
        let mut state = self.state.borrow_mut();
        for lane in [Lane::Messages, Lane::BulkOut, Lane::BulkIn] {
            let way = core::mem::take(state.lanes(lane));
            if let Some(session) = way.session {
                session.wake();
            }
        }
    }

    pub(super) fn urls(&self) -> Rc<[PeerUrl]> {
        self.state.borrow().urls.clone().unwrap_or_default()
    }

    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    /// Waits until something has changed since the last call.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// When to dial for messages (D1). After [`Moment::Never`] the keeper is gone.
    pub(super) fn moment(&self, patience: u64) -> Moment {
        let mut state = self.state.borrow_mut();
        if state.urls.is_none() {
            state.is_kept = false;
            return Moment::Never;
        }
        if state.messages.held.is_some() {
            return Moment::Connected;
        }
        Moment::From(if self.me > self.peer { 0 } else { state.since.saturating_add(patience) })
    }

    /// Takes a connection with this start of the member as the one that counts, or refuses it (D2). Whoever had that
    /// place loses it.
    pub(super) fn offer(
        &self,
        lane: Lane,
        dialer: MemberId,
        incarnation: Incarnation,
        now: u64,
    ) -> Option<u64> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let way = state.lanes(lane);
        let takes = way.held.as_ref().is_none_or(|held| {
            held.incarnation != incarnation
                || held.dialer == dialer
                || dialer == self.me.max(self.peer)
        });
        if !takes {
            return None;
        }
        if let Some(session) = way.session.take() {
            session.wake();
        }
        state.last_number += 1;
        let number = state.last_number;
        state.lanes(lane).held = Some(Held { number, dialer, incarnation });
        if lane == Lane::Messages {
            state.since = now;
            self.count(Counter::Connections, 1);
            self.changed.notify_one();
        }
        Some(number)
    }

    /// Whether this connection still counts; if so, its session is woken when it does not any more, or when there is
    /// something to send.
    pub(super) fn counts(&self, lane: Lane, number: u64, session: &Waker) -> bool {
        let mut state = self.state.borrow_mut();
        let way = state.lanes(lane);
        let counts = way.held.as_ref().is_some_and(|held| held.number == number);
        if counts && !way.session.as_ref().is_some_and(|waker| waker.will_wake(session)) {
            way.session = Some(session.clone());
        }
        counts
    }

    /// A connection is gone. What waited for it would come too late on another.
    pub(super) fn ended(&self, lane: Lane, number: u64, now: u64) {
        let mut state = self.state.borrow_mut();
        if lane == Lane::Messages {
            self.count(Counter::Disconnections, 1);
        }
        let way = state.lanes(lane);
        if way.held.as_ref().is_none_or(|held| held.number != number) {
            return;
        }
        let dropped = way.clear();
        self.count(Counter::SendFailures, dropped);
        if lane == Lane::Messages {
            if now.saturating_sub(state.since) >= STEADY_NS {
                state.told.clear();
            }
            state.since = now;
            self.changed.notify_one();
        }
    }

    /// Queues a message, or drops it.
    pub(super) fn push(&self, lane: Lane, message: Message, now: u64) -> Pushed {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let begins = lane == Lane::BulkOut
            && !state.sends_bulk
            && state.urls.is_some()
            && now >= state.bulk_pause_until;
        if begins {
            state.sends_bulk = true;
        }
        let awaited = lane == Lane::BulkOut && state.sends_bulk;
        let way = state.lanes(lane);
        if way.held.is_none() && !awaited {
            self.count(Counter::SendFailures, 1);
            return Pushed::Done;
        }
        let (queue, bytes_max) = match lane {
            Lane::Messages if is_urgent(&message.body) => (&mut way.urgent, URGENT_BYTES_MAX),
            Lane::Messages => (&mut way.ordered, ORDERED_BYTES_MAX),
            Lane::BulkOut | Lane::BulkIn => (&mut way.ordered, BULK_BYTES_MAX),
        };
        // A message that is longer than the bound goes alone.
        if queue.bytes > 0 && queue.bytes + weight_bytes(&message) > bytes_max {
            self.count(Counter::SendFailures, 1);
            return Pushed::Done;
        }
        queue.push(message);
        if let Some(session) = way.session.take() {
            session.wake();
        }
        if begins { Pushed::WantsBulk } else { Pushed::Done }
    }

    /// Appends what waits to `out`, in frames: all that is urgent, and of the rest about [`WRITE_BYTES`], one at least.
    pub(super) fn fill(&self, lane: Lane, out: &mut Vec<u8>) {
        let mut state = self.state.borrow_mut();
        let way = state.lanes(lane);
        while let Some(message) = way.urgent.pop() {
            encode(&message, out);
        }
        while let Some(message) = way.ordered.pop() {
            encode(&message, out);
            if out.len() >= WRITE_BYTES {
                break;
            }
        }
    }

    /// Nobody sends parts of snapshots any more, and until then nobody is to try.
    pub(super) fn bulk_ended(&self, pause_until: u64) {
        let mut state = self.state.borrow_mut();
        state.sends_bulk = false;
        state.bulk_pause_until = pause_until;
        let dropped = state.bulk_out.clear();
        self.count(Counter::SendFailures, dropped);
    }

    /// Counts messages that were dropped elsewhere.
    pub(super) fn dropped(&self, messages: u64) {
        self.count(Counter::SendFailures, messages);
    }

    pub(super) fn count(&self, counter: Counter, count: u64) {
        if let Some(place) = self.place {
            self.counters.add(place, counter, count);
        }
    }

    pub(super) fn round_trip(&self, took_ns: u64) {
        if let Some(place) = self.place {
            self.counters.round_trip(place, took_ns);
        }
    }

    /// Whether this is worth telling: a trouble that was not told since there was last a steady connection, or a
    /// connection after a trouble that was told.
    pub(super) fn is_news(&self, notice: &PeerNotice) -> bool {
        let is_connected = |notice: &PeerNotice| matches!(notice, PeerNotice::Connected { .. });
        let told = &mut self.state.borrow_mut().told;
        let is_old = if is_connected(notice) {
            told.last().is_some_and(is_connected)
        } else {
            told.contains(notice)
        };
        if is_old || told.len() >= TOLD_MAX {
            return false;
        }
        told.push(notice.clone());
        true
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.counters.free(place);
        }
    }
}

impl State {
    fn lanes(&mut self, lane: Lane) -> &mut Way {
        match lane {
            Lane::Messages => &mut self.messages,
            Lane::BulkOut => &mut self.bulk_out,
            Lane::BulkIn => &mut self.bulk_in,
        }
    }
}

impl Way {
    /// Forgets the connection and what waited for it; how many messages those were.
    fn clear(&mut self) -> u64 {
        let dropped = self.urgent.messages.len() + self.ordered.messages.len();
        *self = Self::default();
        u64::try_from(dropped).expect("64 bits")
    }
}

impl Queue {
    fn push(&mut self, message: Message) {
        self.bytes += weight_bytes(&message);
        self.messages.push_back(message);
    }

    fn pop(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.bytes -= weight_bytes(&message);
        Some(message)
    }
}

/// Whether a message is short, and may overtake appends. Appends keep their order, also those without entries: one that
/// came before the entries it speaks of would be taken for a loss.
fn is_urgent(body: &Body) -> bool {
    match body {
        Body::Raft { body: RaftBody::Append { .. }, .. }
        | Body::Propose { .. }
        | Body::SnapshotPart(_) => false,
        Body::Raft { .. }
        | Body::Refused { .. }
        | Body::ReadIndex { .. }
        | Body::ReadIndexAnswer { .. }
        | Body::Digest { .. }
        | Body::SnapshotReceived { .. }
        | Body::Removed
        | Body::Stateless
        | Body::Forgot { .. }
        | Body::Ask { .. }
        | Body::Vouch { .. } => true,
    }
}
