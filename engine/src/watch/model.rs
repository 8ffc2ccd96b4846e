//! The hub against the simplest thing that could be right: a list of all changes, and for each watcher a filter
//! over it from a revision on.
//!
//! Random publications, requests, credit and time; after each step every response is held against the list.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::{Event, Hub, Response};
use crate::api::etcdserverpb::watch_request::RequestUnion;
use crate::api::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest,
};
use crate::api::{Error, KeyRange};
use crate::config::Limits;
use crate::ids::{ConnectionId, LeaseId, StreamId};
use crate::mvcc::{Record, Store};
use crate::state_machine::Changes;
use crate::time::Time;

/// One change, as everybody may see it.
#[derive(Debug)]
struct Fact {
    record: Record,
    /// What the key was before the request.
    before: Option<Record>,
    /// The same request changed the key again: a compaction at this revision may take the fact away.
    superseded: bool,
}

impl Fact {
    fn main(&self) -> i64 {
        self.record.revision().main
    }
}

/// A watcher: a filter, and how much of the list it has seen.
#[derive(Debug)]
struct Expected {
    request: WatchCreateRequest,
    range: KeyRange,
    /// The first revision that it is owed.
    from: i64,
    /// What precedes this place in the list was received, or is not for it.
    seen: usize,
    /// The revision of the last event received.
    last: i64,
    /// Everything below this revision was received for sure.
    known: i64,
}

impl Expected {
    fn wants(&self, fact: &Fact) -> bool {
        let filter = i32::from(fact.record.is_tombstone());
        fact.main() >= self.from
            && self.range.contains(fact.record.key())
            && !self.request.filters.contains(&filter)
    }

    /// The place of the first fact that it still has to receive, up to a revision.
    fn owed<'a>(&self, facts: &'a [Fact], compacted: i64, up_to: i64) -> Option<&'a Fact> {
        let excused = |fact: &Fact| fact.superseded && fact.main() <= compacted;
        facts[self.seen..]
            .iter()
            .find(|fact| self.wants(fact) && !excused(fact))
            .filter(|fact| fact.main() <= up_to)
    }
}

#[derive(Debug, Default)]
struct StreamModel {
    watchers: BTreeMap<i64, Expected>,
    next_id: i64,
    /// Answers to creates that must come, in order.
    answers: VecDeque<Response>,
    /// What becomes of those creates.
    created: VecDeque<Option<Expected>>,
    /// A watcher whose cancellation must come.
    canceling: Option<i64>,
    /// What was received and did not leave yet.
    under_way: VecDeque<usize>,
    /// The parts received of a response.
    parts: Option<Response>,
    /// A notification for all came since the last look.
    progress: bool,
}

struct World {
    limits: Limits,
    hub: Hub,
    store: Store,
    now: Time,
    facts: Vec<Fact>,
    streams: BTreeMap<u64, StreamModel>,
    next_stream: u64,
}

#[derive(Clone, Debug)]
enum Write {
    /// Puts and deletes, in one revision.
    Change(Vec<(u8, bool)>),
    /// Compacts, so many revisions below the latest.
    Compact(i64),
    Sweep(usize),
}

#[derive(Clone, Debug)]
enum Step {
    /// Several requests in one publication; whether their changes are told.
    Publish(Vec<Write>, bool),
    /// As many revisions as fill more than a slice.
    Burst(usize),
    Open,
    Close(usize),
    Create(usize, Create),
    Cancel(usize, i64),
    Progress(usize),
    /// The oldest responses of a stream leave.
    Leave(usize, usize),
    Wake,
    Pass(u64),
    Drain,
}

#[derive(Clone, Debug)]
struct Create {
    key: u8,
    end: Option<u8>,
    /// Relative to the latest revision; `None`: now.
    start: Option<i64>,
    watch_id: i64,
    flags: [bool; 5],
}

const KEYS: [&[u8]; 7] = [b"a", b"aa", b"ab", b"b", b"ba", b"c", b"d"];

fn write() -> impl Strategy<Value = Write> {
    prop_oneof![
        12 => prop::collection::vec((0..7_u8, prop::bool::weighted(0.3)), 1..5).prop_map(Write::Change),
        1 => (0..12_i64).prop_map(Write::Compact),
        1 => (1..20_usize).prop_map(Write::Sweep),
    ]
}

fn create() -> impl Strategy<Value = Create> {
    let start = prop_oneof![
        2 => Just(None),
        4 => (-30..=0_i64).prop_map(Some),
        1 => (-3000..=0_i64).prop_map(Some),
        2 => (1..6_i64).prop_map(Some),
    ];
    let watch_id = prop_oneof![4 => Just(0_i64), 1 => 1..5_i64];
    let flags = prop::array::uniform5(prop::bool::weighted(0.3));
    (0..7_u8, prop::option::weighted(0.6, 0..9_u8), start, watch_id, flags)
        .prop_map(|(key, end, start, watch_id, flags)| Create { key, end, start, watch_id, flags })
}

fn step() -> impl Strategy<Value = Step> {
    let stream = || 0..4_usize;
    prop_oneof![
        30 => (prop::collection::vec(write(), 1..4), prop::bool::weighted(0.97))
            .prop_map(|(writes, told)| Step::Publish(writes, told)),
        1 => (900..2500_usize).prop_map(Step::Burst),
        2 => Just(Step::Open),
        1 => stream().prop_map(Step::Close),
        12 => (stream(), create()).prop_map(|(stream, create)| Step::Create(stream, create)),
        4 => (stream(), 0..6_i64).prop_map(|(stream, id)| Step::Cancel(stream, id)),
        6 => stream().prop_map(Step::Progress),
        12 => (stream(), 1..6_usize).prop_map(|(stream, count)| Step::Leave(stream, count)),
        12 => Just(Step::Wake),
        3 => (1..20_u64).prop_map(Step::Pass),
        2 => Just(Step::Drain),
    ]
}

/// Streams come two or three to a connection.
const fn connection_of(stream: u64) -> ConnectionId {
    ConnectionId(stream % 3)
}

impl World {
    fn new(limits: Limits, seed: u64) -> Self {
        let store = Store::default();
        let hub = Hub::new(limits, seed, store.revision());
        let mut world = Self {
            limits,
            hub,
            store,
            now: Time::ZERO,
            facts: Vec::new(),
            streams: BTreeMap::new(),
            next_stream: 0,
        };
        world.open();
        world
    }

    fn open(&mut self) {
        self.next_stream += 1;
        self.streams.insert(self.next_stream, StreamModel::default());
        self.hub.open(StreamId(self.next_stream), connection_of(self.next_stream));
    }

    /// One of the open streams.
    fn pick(&self, which: usize) -> Option<u64> {
        self.streams.keys().nth(which % self.streams.len().max(1)).copied()
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Publish(writes, told) => self.publish(writes, told),
            Step::Burst(count) => {
                let all = (0..count)
                    .map(|number| Write::Change(vec![(u8::try_from(number % 7).unwrap(), false)]));
                self.publish(all.collect(), count % 2 == 0);
            }
            Step::Open => self.open(),
            Step::Close(which) => {
                if let Some(id) = self.pick(which) {
                    self.streams.remove(&id);
                    self.hub.close(StreamId(id));
                }
            }
            Step::Create(which, create) => self.create(which, &create),
            Step::Cancel(which, watch_id) => self.cancel(which, watch_id),
            Step::Progress(which) => {
                if let Some(id) = self.pick(which) {
                    let request = RequestUnion::ProgressRequest(WatchProgressRequest {});
                    self.request(id, Some(request));
                }
            }
            Step::Leave(which, count) => {
                if let Some(id) = self.pick(which) {
                    let under_way = &mut self.streams.get_mut(&id).unwrap().under_way;
                    let count = count.min(under_way.len());
                    let bytes = under_way.drain(..count).sum();
                    self.hub.credit(StreamId(id), bytes);
                }
            }
            Step::Wake => self.wake(),
            Step::Pass(seconds) => {
                self.now = self.now + Duration::from_secs(seconds);
                self.wake();
            }
            Step::Drain => self.drain(),
        }
        self.receive();
    }

    fn wake(&mut self) {
        if self.hub.deadline().is_some_and(|time| time <= self.now) {
            self.hub.wake(self.now, &self.store);
        }
    }

    fn publish(&mut self, writes: Vec<Write>, told: bool) {
        let mut published = Vec::new();
        for write in writes {
            match write {
                Write::Change(changes) => published.extend(self.change(&changes)),
                Write::Compact(back) => {
                    // One that is too late changes nothing.
                    self.store.compact(self.store.revision() - back).unwrap_or_default();
                }
                Write::Sweep(count) => drop(self.store.sweep(count)),
            }
        }
        let told = if told { &published[..] } else { &[] };
        self.hub.publish(self.now, &self.store, told);
    }

    fn change(&mut self, changes: &[(u8, bool)]) -> Option<Changes> {
        let before = self.store.view();
        let mut write = self.store.begin();
        for (number, (key, delete)) in changes.iter().enumerate() {
            let key = KEYS[usize::from(*key)];
            if *delete {
                write.delete_range(&KeyRange::single(Bytes::from_static(key)));
            } else {
                write.put(key, &b"value of some length"[..10 + number], LeaseId::NONE);
            }
        }
        let changes = write.finish();
        for (at, change) in changes.iter().enumerate() {
            let record = change.record.clone();
            let superseded =
                changes[at + 1..].iter().any(|later| later.record.key() == record.key());
            let before = before.get(record.key());
            self.facts.push(Fact { record, before, superseded });
        }
        (!changes.is_empty()).then(|| changes.into())
    }

    fn request(&mut self, stream: u64, request_union: Option<RequestUnion>) {
        let request = WatchRequest { request_union };
        self.hub.request(self.now, StreamId(stream), request, |_| Ok(()));
    }

    fn create(&mut self, which: usize, create: &Create) {
        let Some(id) = self.pick(which) else { return };
        let [prev_kv, fragment, progress_notify, noput, nodelete] = create.flags;
        let revision = self.store.revision();
        let request = WatchCreateRequest {
            key: Bytes::from_static(KEYS[usize::from(create.key)]),
            range_end: match create.end {
                None => Bytes::new(),
                Some(8) => Bytes::from_static(&[0]),
                Some(7) => Bytes::from_static(b"zz"),
                Some(end) => Bytes::from_static(KEYS[usize::from(end)]),
            },
            start_revision: create.start.map_or(0, |start| (revision + start).max(-1)),
            progress_notify,
            filters: [(noput, 0), (nodelete, 1)]
                .into_iter()
                .filter_map(|(set, filter)| set.then_some(filter))
                .collect(),
            prev_kv,
            watch_id: create.watch_id,
            fragment,
        };
        let stream = self.streams.get_mut(&id).unwrap();
        let range = KeyRange::from(&request);
        let error = if request.start_revision < 0 {
            Some(Error::Compacted)
        } else if range.is_empty() {
            Some(Error::EmptyWatcherRange)
        } else if stream.watchers.contains_key(&request.watch_id) && request.watch_id != 0 {
            Some(Error::WatcherDuplicateId)
        } else {
            None
        };
        let mut watch_id = request.watch_id;
        if error.is_none() && watch_id == 0 {
            while stream.watchers.contains_key(&stream.next_id) {
                stream.next_id += 1;
            }
            watch_id = stream.next_id;
            stream.next_id += 1;
        }
        stream.answers.push_back(Response {
            watch_id: if error.is_some() { -1 } else { watch_id },
            revision,
            created: true,
            canceled: error.is_some(),
            cancel_reason: error.map_or("", Error::message).into(),
            ..Response::default()
        });
        let start = request.start_revision;
        let from = if start == 0 { revision + 1 } else { start };
        let expected =
            Expected { request: request.clone(), range, from, seen: 0, last: 0, known: from };
        stream.created.push_back(error.is_none().then_some(expected));
        self.request(id, Some(RequestUnion::CreateRequest(request)));
    }

    fn cancel(&mut self, which: usize, watch_id: i64) {
        let Some(id) = self.pick(which) else { return };
        let stream = self.streams.get_mut(&id).unwrap();
        stream.canceling = stream.watchers.contains_key(&watch_id).then_some(watch_id);
        self.request(id, Some(RequestUnion::CancelRequest(WatchCancelRequest { watch_id })));
    }

    /// Everybody reads until there is nothing more; then everybody has everything.
    fn drain(&mut self) {
        loop {
            self.receive();
            for (id, stream) in &mut self.streams {
                self.hub.credit(StreamId(*id), stream.under_way.drain(..).sum());
            }
            if self.hub.deadline().is_none_or(|time| time > self.now) {
                break;
            }
            self.hub.wake(self.now, &self.store);
        }
        let revision = self.store.revision();
        for stream in self.streams.values_mut() {
            for (watch_id, watcher) in &mut stream.watchers {
                let owed = watcher.owed(&self.facts, self.store.compacted(), revision);
                assert!(owed.is_none(), "watcher {watch_id} did not receive {owed:?} (G3)");
                watcher.known = watcher.known.max(revision + 1);
            }
        }
        for id in self.streams.keys().copied().collect::<Vec<_>>() {
            self.streams.get_mut(&id).unwrap().progress = false;
            self.request(id, Some(RequestUnion::ProgressRequest(WatchProgressRequest {})));
            self.receive();
            let stream = &self.streams[&id];
            let told = !stream.watchers.is_empty()
                && stream
                    .watchers
                    .values()
                    .all(|watcher| watcher.request.start_revision <= revision);
            assert_eq!(stream.progress, told, "progress is told if everybody has everything");
        }
    }

    /// Holds what was queued against the list.
    fn receive(&mut self) {
        while let Some((id, response)) = self.hub.poll() {
            self.take(id.0, response);
        }
        for stream in self.streams.values() {
            assert!(stream.answers.is_empty(), "every create was answered");
            assert!(stream.canceling.is_none(), "every cancel was answered");
            assert!(stream.parts.is_none(), "every response has its last part");
        }
        self.hub.check();
    }

    fn take(&mut self, id: u64, response: Response) {
        let revision = self.store.revision();
        let of_connection =
            |(other, _): &(&u64, &StreamModel)| connection_of(**other) == connection_of(id);
        let shared = self.streams.iter().filter(of_connection);
        let shared: usize = shared.flat_map(|(_, stream)| stream.under_way.iter()).sum();
        let stream = self.streams.get_mut(&id).expect("nothing is sent on a closed stream");
        let under_way: usize = stream.under_way.iter().sum();
        let has_credit = under_way == 0
            || under_way < self.limits.watch_credit_bytes
                && shared < self.limits.watch_connection_credit_bytes;
        stream.under_way.push_back(response.encoded_len());
        let continues = stream.parts.is_some();
        if response.created {
            assert!(!continues);
            assert_eq!(Some(&response), stream.answers.pop_front().as_ref(), "creates in order");
            if let Some(expected) = stream.created.pop_front().unwrap() {
                stream.watchers.insert(response.watch_id, expected);
            }
        } else if response.canceled {
            assert!(!continues);
            let watcher = stream.watchers.remove(&response.watch_id).expect("a known watcher ends");
            if response.compact_revision == 0 {
                assert_eq!(stream.canceling.take(), Some(response.watch_id));
                assert_eq!(response.revision, revision);
            } else {
                assert_eq!(response.revision, 0);
                assert_eq!(response.compact_revision, self.store.compacted());
                assert!(
                    watcher.known.max(watcher.last + 1) < response.compact_revision,
                    "only who is overtaken is canceled: {watcher:?}"
                );
            }
        } else if response.events.is_empty() {
            assert!(!continues);
            assert_eq!(response.revision, revision);
            let all = response.watch_id == -1;
            stream.progress |= all;
            assert!(all || has_credit);
            let mut told = stream
                .watchers
                .iter()
                .filter(|(id, _)| all || **id == response.watch_id)
                .peekable();
            assert!(told.peek().is_some(), "somebody is told");
            for (watch_id, watcher) in told {
                assert!(all || watcher.request.progress_notify);
                assert!(watcher.request.start_revision <= revision, "{watch_id} begins later");
                let owed = watcher.owed(&self.facts, self.store.compacted(), revision);
                assert!(owed.is_none(), "{watch_id} was told {revision} before {owed:?} (G6)");
            }
        } else {
            assert!(continues || has_credit, "no events without credit");
            self.take_events(id, response);
        }
    }

    /// Puts parts together, and checks the whole.
    fn take_events(&mut self, id: u64, mut response: Response) {
        let stream = self.streams.get_mut(&id).unwrap();
        let watcher = stream.watchers.get_mut(&response.watch_id).expect("events for a watcher");
        let is_part = response.fragment || stream.parts.is_some();
        assert!(!is_part || watcher.request.fragment, "only who wants it gets parts");
        let large = response.encoded_len() >= self.limits.watch_fragment_bytes;
        assert!(
            !watcher.request.fragment || !large || response.events.len() == 1,
            "parts are small"
        );
        if let Some(parts) = stream.parts.take() {
            assert_eq!((parts.watch_id, parts.revision), (response.watch_id, response.revision));
            response.events.splice(..0, parts.events);
        }
        if response.fragment {
            stream.parts = Some(response);
            return;
        }
        let (first, last) =
            (&response.events[0].record, &response.events[response.events.len() - 1].record);
        let (first, last) = (first.revision().main, last.revision().main);
        assert!(first > watcher.last, "a revision is in one response (G4)");
        let revision = self.store.revision();
        assert!(
            response.revision == revision
                || (first, last) == (response.revision, response.revision)
        );
        watcher.last = last;
        let compacted = self.store.compacted();
        for event in &response.events {
            take_event(watcher, &self.facts, compacted, event);
        }
        let owed = watcher.owed(&self.facts, compacted, last);
        assert!(owed.is_none(), "a response has all of its revisions (G4), but not {owed:?}");
    }
}

fn take_event(watcher: &mut Expected, facts: &[Fact], compacted: i64, event: &Event) {
    loop {
        let place = facts[watcher.seen..].iter().position(|fact| watcher.wants(fact));
        let place = watcher.seen + place.expect("an event that was not owed");
        let fact = &facts[place];
        watcher.seen = place + 1;
        if fact.record == event.record {
            let creates = fact.record.create_revision() == fact.main();
            let before = fact.before.as_ref().filter(|_| watcher.request.prev_kv && !creates);
            if before != event.prev.as_ref() {
                assert!(event.prev.is_none() && fact.main() <= compacted, "what was before");
            }
            return;
        }
        assert!(
            fact.superseded && fact.main() <= compacted,
            "received {event:?} instead of {fact:?} (G1, G2, G3)"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_watcher_gets_what_the_list_of_changes_owes_it(
        seed in any::<u64>(),
        watch_credit_bytes in prop_oneof![1..400_usize, 400..5000_usize],
        watch_connection_credit_bytes in prop_oneof![1..600_usize, 600..9000_usize],
        watch_fragment_bytes in 100..600_usize,
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let watch_progress_interval = Duration::from_secs(10);
        let limits = Limits {
            watch_credit_bytes,
            watch_connection_credit_bytes,
            watch_fragment_bytes,
            watch_progress_interval,
            ..Limits::default()
        };
        let mut world = Box::new(World::new(limits, seed));
        for step in steps {
            world.step(step);
        }
        world.step(Step::Drain);
    }
}
