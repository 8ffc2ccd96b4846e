//! Watches, held against the list of all events: etcd's guarantees.
//!
//! A subscription is what a client wants: a filter over the list from a revision on. It outlives the stream that
//! serves it; when that is lost, it goes on from where it stopped, on whatever member, and the list goes on being
//! held against it. So *ordered, unique, reliable, atomic, resumable, bookmarkable* is one comparison: the next
//! event received is the next one owed.
//!
//! # Limits
//!
//! A compaction may take away what is below it: a change that the same request changed again, and what was before
//! a change. That either is missing is right as soon as any member has compacted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cairn_engine::api::etcdserverpb::WatchCreateRequest;
use cairn_engine::api::mvccpb::event::EventType;
use cairn_engine::raft::Index;
use cairn_engine::{MemberId, StreamId, watch};

use super::history::History;
use super::{Violation, ensure};
use crate::model::{Event, Keys};

/// Names a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SubscriptionId(pub u64);

/// All subscriptions and the streams that serve them.
#[derive(Debug, Default)]
pub struct Watches {
    streams: BTreeMap<StreamId, Stream>,
    subscriptions: BTreeMap<SubscriptionId, Subscription>,
    last: u64,
}

#[derive(Debug)]
struct Stream {
    member: MemberId,
    /// Who watches.
    user: &'static str,
    watchers: BTreeMap<i64, SubscriptionId>,
    /// Creations that were not answered yet, in order.
    creating: VecDeque<Creation>,
    /// Watchers whose cancellation is under way.
    canceling: BTreeSet<i64>,
    /// The parts received of a response.
    parts: Option<watch::Response>,
    /// The revision of the last header.
    revision: i64,
}

/// A question for a watcher.
#[derive(Debug)]
struct Creation {
    id: SubscriptionId,
    request: WatchCreateRequest,
    /// What the core that was asked had been shown.
    floor: Index,
}

/// What a client wants, and how much of it it has.
#[derive(Debug)]
struct Subscription {
    request: WatchCreateRequest,
    keys: Keys,
    /// The first revision that it is owed, once that is known.
    from: Option<i64>,
    /// What precedes this place in the list was received, or is not for it.
    seen: usize,
    /// The revision of the last event received.
    last: i64,
    /// Everything below was received for sure.
    known: i64,
}

/// What a client learns from a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A watcher was made.
    Created(SubscriptionId, i64),
    /// A watcher was refused.
    Refused(SubscriptionId),
    /// A watcher ended because the client wanted it.
    Canceled(SubscriptionId),
    /// A watcher ended because its user may not see the keys any more.
    Forbidden(SubscriptionId),
    /// A watcher ended because what it is owed was compacted, up to this.
    Compacted(SubscriptionId, i64),
    /// Events, or progress.
    Other,
}

impl Watches {
    /// A stream was opened.
    pub fn opened(&mut self, id: StreamId, member: MemberId, user: &'static str) {
        let stream = Stream {
            member,
            user,
            watchers: BTreeMap::new(),
            creating: VecDeque::new(),
            canceling: BTreeSet::new(),
            parts: None,
            revision: 0,
        };
        self.streams.insert(id, stream);
    }

    /// A new subscription is asked for.
    pub fn subscribe(
        &mut self,
        stream: StreamId,
        request: WatchCreateRequest,
        floor: Index,
    ) -> SubscriptionId {
        self.last += 1;
        let id = SubscriptionId(self.last);
        let subscription = Subscription {
            keys: Keys::watched(&request),
            from: None,
            seen: 0,
            last: 0,
            known: 0,
            request: request.clone(),
        };
        self.subscriptions.insert(id, subscription);
        self.stream(stream).creating.push_back(Creation { id, request, floor });
        id
    }

    /// An interrupted subscription is asked for again, from where it stopped; the request to send.
    pub fn resume(
        &mut self,
        stream: StreamId,
        id: SubscriptionId,
        floor: Index,
    ) -> WatchCreateRequest {
        let subscription = self.subscriptions.get_mut(&id).expect("a subscription");
        if let Some(from) = subscription.from {
            let next = from.max(subscription.last + 1).max(subscription.known);
            subscription.request.start_revision = next;
        }
        subscription.request.watch_id = 0;
        let request = subscription.request.clone();
        let creation = Creation { id, request: request.clone(), floor };
        self.stream(stream).creating.push_back(creation);
        request
    }

    /// A subscription whose past was compacted begins anew at the compact revision.
    pub fn skip_to(&mut self, id: SubscriptionId, compacted: i64) {
        let subscription = self.subscriptions.get_mut(&id).expect("a subscription");
        subscription.known = compacted;
        subscription.from = Some(compacted);
    }

    /// Nobody wants a subscription any more.
    pub fn forget(&mut self, id: SubscriptionId) {
        self.subscriptions.remove(&id);
    }

    /// A cancellation is asked for; false if the client knows no such watcher.
    pub fn cancel(&mut self, stream: StreamId, watch_id: i64) -> bool {
        let stream = self.stream(stream);
        stream.watchers.contains_key(&watch_id) && stream.canceling.insert(watch_id)
    }

    /// How many watchers a stream has or will have.
    pub fn count(&self, stream: StreamId) -> usize {
        let stream = &self.streams[&stream];
        stream.watchers.len() + stream.creating.len()
    }

    /// The watchers of a stream.
    pub fn watchers(&self, stream: StreamId) -> Vec<i64> {
        self.streams[&stream].watchers.keys().copied().collect()
    }

    /// A stream is gone; the subscriptions that it served.
    pub fn lost(&mut self, stream: StreamId) -> Vec<SubscriptionId> {
        let Some(stream) = self.streams.remove(&stream) else { return Vec::new() };
        let creating = stream.creating.into_iter().map(|creation| creation.id);
        stream.watchers.into_values().chain(creating).collect()
    }

    fn stream(&mut self, id: StreamId) -> &mut Stream {
        self.streams.get_mut(&id).expect("an open stream")
    }

    /// Judges a response.
    ///
    /// # Errors
    /// If it breaks a guarantee.
    pub fn judge(
        &mut self,
        history: &History,
        id: StreamId,
        shown: Index,
        response: &watch::Response,
    ) -> Result<Heard, Violation> {
        let Self { streams, subscriptions, .. } = self;
        let Some(stream) = streams.get_mut(&id) else { return Ok(Heard::Other) };
        let published = history.moment(history.applied(stream.member)).revision;
        let overtaken = response.compact_revision != 0;
        let in_time = overtaken && response.revision == 0
            || (stream.revision..=published).contains(&response.revision);
        ensure(in_time, "watch header", || {
            format!("{response:?} after {} while {published} is published", stream.revision)
        })?;
        stream.revision = stream.revision.max(response.revision);
        ensure(stream.parts.is_none() || !response.events.is_empty(), "watch atomic", || {
            format!("{response:?} amid parts")
        })?;
        if response.created {
            return stream.created(history, subscriptions, shown, response);
        }
        if response.canceled {
            return stream.canceled(history, subscriptions, shown, response);
        }
        if response.events.is_empty() {
            return stream.progress(history, subscriptions, response);
        }
        stream.events(history, subscriptions, shown, response)
    }

    /// At which member a stream was opened.
    pub fn member_of(&self, id: StreamId) -> Option<MemberId> {
        self.streams.get(&id).map(|stream| stream.member)
    }

    /// A member that has lost its state refuses the oldest request of a stream.
    pub fn turned_away(&mut self, id: StreamId) {
        let creating = |stream: &mut Stream| stream.creating.pop_front();
        if let Some(Creation { id, .. }) = self.streams.get_mut(&id).and_then(creating) {
            self.forget(id);
        }
    }

    /// Objects unless every subscription that is served has everything up to a revision.
    ///
    /// # Errors
    /// If one has not.
    pub fn check_complete(&self, history: &History, revision: i64) -> Result<(), Violation> {
        for (id, stream) in &self.streams {
            ensure(
                stream.creating.is_empty() && stream.canceling.is_empty(),
                "watch answer",
                || format!("{id:?} has open questions: {stream:?}"),
            )?;
            for subscription in stream.watchers.values() {
                let subscription = &self.subscriptions[subscription];
                let owed = subscription.owed(history, revision);
                ensure(owed.is_none(), "watch reliable", || {
                    format!("{subscription:?} did not receive {owed:?}")
                })?;
            }
        }
        Ok(())
    }
}

type Subscriptions = BTreeMap<SubscriptionId, Subscription>;

impl Stream {
    /// Whether the user may see keys, as the core that serves the stream was shown it.
    fn may_see(&self, history: &History, keys: &Keys, shown: Index) -> bool {
        history.auths(shown, shown).all(|auth| auth.may_watch(self.user, keys))
    }

    fn created(
        &mut self,
        history: &History,
        subscriptions: &mut Subscriptions,
        shown: Index,
        response: &watch::Response,
    ) -> Result<Heard, Violation> {
        let Some(Creation { id, request, floor }) = self.creating.pop_front() else {
            return Err(Violation::new("watch answer", format!("{response:?} without a question")));
        };
        let is_empty = !request.range_end.is_empty()
            && *request.range_end != [0]
            && request.range_end <= Keys::watched(&request).key;
        let is_taken = request.watch_id != 0 && self.watchers.contains_key(&request.watch_id);
        let refused = is_empty || is_taken || request.start_revision < 0;
        let keys = Keys::watched(&request);
        // What the core knew when it answered is one of these.
        let wanted = !response.canceled;
        let permits =
            history.auths(floor, shown).any(|auth| auth.may_watch(self.user, &keys) == wanted);
        let right = if refused { response.canceled } else { permits };
        ensure(right, "watch answer", || {
            format!("{response:?} for {request:?} of {}, taken: {is_taken}", self.user)
        })?;
        if response.canceled {
            return Ok(Heard::Refused(id));
        }
        let named = request.watch_id == 0 || request.watch_id == response.watch_id;
        let fresh = self.watchers.insert(response.watch_id, id).is_none();
        ensure(named && fresh, "watch answer", || format!("{response:?} for {request:?}"))?;
        let Some(subscription) = subscriptions.get_mut(&id) else { return Ok(Heard::Other) };
        let start = request.start_revision;
        let from = if start == 0 { response.revision + 1 } else { start };
        subscription.from = Some(from);
        subscription.known = subscription.known.max(from);
        Ok(Heard::Created(id, response.watch_id))
    }

    fn canceled(
        &mut self,
        history: &History,
        subscriptions: &Subscriptions,
        shown: Index,
        response: &watch::Response,
    ) -> Result<Heard, Violation> {
        let Some(id) = self.watchers.remove(&response.watch_id) else {
            return Err(Violation::new("watch answer", format!("{response:?} for nobody")));
        };
        let wanted = self.canceling.remove(&response.watch_id);
        if response.compact_revision == 0 && !response.cancel_reason.is_empty() {
            let keys = subscriptions.get(&id).map(|subscription| &subscription.keys);
            let forbidden = keys.is_none_or(|keys| !self.may_see(history, keys, shown));
            ensure(forbidden, "watch permission", || {
                format!("{response:?}, but {} may see {keys:?} at {shown}", self.user)
            })?;
            return Ok(Heard::Forbidden(id));
        }
        if response.compact_revision == 0 {
            ensure(wanted, "watch answer", || format!("{response:?} without a question"))?;
            return Ok(Heard::Canceled(id));
        }
        let compacted = response.compact_revision;
        let known = subscriptions.get(&id).map_or(0, |s| s.known.max(s.last + 1));
        let overtaken = known < compacted && compacted <= history.model.compacted();
        ensure(overtaken, "watch resumable", || {
            format!("{response:?} for a watcher that has everything below {known}")
        })?;
        Ok(Heard::Compacted(id, compacted))
    }

    fn progress(
        &self,
        history: &History,
        subscriptions: &mut Subscriptions,
        response: &watch::Response,
    ) -> Result<Heard, Violation> {
        let all = response.watch_id == -1;
        let mut told = 0;
        for (_, id) in self.watchers.iter().filter(|(id, _)| all || **id == response.watch_id) {
            told += 1;
            let Some(subscription) = subscriptions.get_mut(id) else { continue };
            let begun = subscription.request.start_revision <= response.revision;
            ensure(
                begun && (all || subscription.request.progress_notify),
                "watch progress",
                || format!("{response:?} for {subscription:?}"),
            )?;
            let owed = subscription.owed(history, response.revision);
            ensure(owed.is_none(), "watch bookmarkable", || {
                format!("{response:?} before {owed:?} for {subscription:?}")
            })?;
            subscription.known = subscription.known.max(response.revision + 1);
        }
        ensure(told > 0, "watch progress", || format!("{response:?} for nobody"))?;
        Ok(Heard::Other)
    }

    fn events(
        &mut self,
        history: &History,
        subscriptions: &mut Subscriptions,
        shown: Index,
        response: &watch::Response,
    ) -> Result<Heard, Violation> {
        let Some(id) = self.watchers.get(&response.watch_id) else {
            return Err(Violation::new("watch answer", format!("{response:?} for nobody")));
        };
        let Some(subscription) = subscriptions.get_mut(id) else { return Ok(Heard::Other) };
        ensure(self.may_see(history, &subscription.keys, shown), "watch permission", || {
            format!("{response:?} is shown to {} at {shown}, who may not see it", self.user)
        })?;
        let is_part = response.fragment || self.parts.is_some();
        ensure(!is_part || subscription.request.fragment, "watch fragments", || {
            format!("{response:?} for {subscription:?}")
        })?;
        let mut whole = response.clone();
        if let Some(parts) = self.parts.take() {
            let place = (parts.watch_id, parts.revision);
            ensure(place == (response.watch_id, response.revision), "watch atomic", || {
                format!("{response:?} amid the parts of {place:?}")
            })?;
            whole.events.splice(..0, parts.events);
        }
        if response.fragment {
            self.parts = Some(whole);
            return Ok(Heard::Other);
        }
        subscription.take(history, &whole)?;
        Ok(Heard::Other)
    }
}

impl Subscription {
    fn wants(&self, event: &Event) -> bool {
        let filter = match event.kind {
            EventType::Put => 0,
            EventType::Delete => 1,
        };
        self.from.is_some_and(|from| event.revision >= from)
            && self.keys.contain(&event.kv.key)
            && !self.request.filters.contains(&filter)
    }

    /// The first event that it still has to receive, up to a revision.
    fn owed<'a>(&self, history: &'a History, up_to: i64) -> Option<&'a Event> {
        let events = history.model.events();
        let mut places = self.seen..events.len();
        places
            .find(|place| self.wants(&events[*place]) && !is_excused(history, *place))
            .map(|place| &events[place])
            .filter(|event| event.revision <= up_to)
    }

    /// Takes the events of a whole response.
    fn take(&mut self, history: &History, response: &watch::Response) -> Result<(), Violation> {
        let first = response.events[0].record.revision().main;
        ensure(first > self.last, "watch atomic", || {
            format!("{response:?} after {} for {self:?}", self.last)
        })?;
        for event in &response.events {
            self.take_event(history, event)?;
        }
        let last = self.last;
        ensure(last <= response.revision, "watch header", || format!("{response:?}"))?;
        let owed = self.owed(history, last);
        ensure(owed.is_none(), "watch atomic", || format!("{response:?} without {owed:?}"))
    }

    fn take_event(&mut self, history: &History, event: &watch::Event) -> Result<(), Violation> {
        let events = history.model.events();
        let received = event.record.to_key_value();
        let revision = event.record.revision();
        for (place, expected) in events.iter().enumerate().skip(self.seen) {
            if !self.wants(expected) {
                continue;
            }
            if (revision.main, revision.sub) != (expected.revision, expected.sub) {
                if is_excused(history, place) {
                    continue;
                }
                let what = format!("received {event:?} instead of {expected:?}: {self:?}");
                return Err(Violation::new("watch ordered, unique, reliable", what));
            }
            let is_put = expected.kind == EventType::Put;
            let same = received == expected.kv && event.record.is_tombstone() != is_put;
            ensure(same, "watch event", || format!("received {event:?}, not {expected:?}"))?;
            let prev = event.prev.as_ref().map(|prev| prev.to_key_value());
            let before = expected.prev_kv.as_ref().filter(|_| self.request.prev_kv);
            let compacted = prev.is_none() && expected.revision <= history.model.compacted();
            ensure(prev.as_ref() == before || compacted, "watch prev-kv", || {
                format!("{event:?} with {prev:?}, but before was {before:?}")
            })?;
            self.seen = place + 1;
            self.last = expected.revision;
            return Ok(());
        }
        let what = format!("{event:?} was not owed to {self:?}");
        Err(Violation::new("watch ordered, unique, reliable", what))
    }
}

/// Whether a compaction may have taken an event away: the same request changed the key again.
fn is_excused(history: &History, place: usize) -> bool {
    let events = history.model.events();
    let event = &events[place];
    event.revision <= history.model.compacted()
        && events[place + 1..]
            .iter()
            .take_while(|later| later.revision == event.revision)
            .any(|later| later.kv.key == event.kv.key)
}
