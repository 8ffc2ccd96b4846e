//! One thread of load: its connections, its slots, and the loop that turns them.
//!
//! A slot has one operation under way at most. Slots without one wait in `free`; an operation begins when a slot is
//! free and, at a fixed rate, when it is due. What is due while no slot is free begins late, and its latency counts
//! from when it was due.

use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::collections::VecDeque;
use std::io;

use crate::clock::{Clock, MILLISECOND};
use crate::h2::connection::{Event, Status};
use crate::link::Link;
use crate::method::code_name;
use crate::pace::{Extent, Pace, part};
use crate::poll::Poll;
use crate::record::{Done, Record};
use crate::target::Target;
use crate::work::{Heard, Shape, Share, Step, Work};
use cairn_http2::hpack::Field;

/// An endpoint, and the heads of requests to it.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) target: Target,
    pub(crate) heads: Vec<Vec<Field>>,
}

/// What all threads do together.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) servers: Vec<Server>,
    pub(crate) threads: usize,
    pub(crate) connections: usize,
    /// Operations that a connection has under way at most.
    pub(crate) in_flight: usize,
    /// Connections for standing calls, and how many of those each has.
    pub(crate) standing: (usize, usize),
    /// Operations in a second; `None`: each slot begins the next when one is done.
    pub(crate) rate: Option<u64>,
    pub(crate) extent: Extent,
    pub(crate) warm_up: u64,
    /// How long what is under way at the end may take.
    pub(crate) patience: u64,
    pub(crate) seed: u64,
    pub(crate) clock: Clock,
}

/// What threads tell each other.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Threads that are ready to begin.
    pub(crate) ready: AtomicUsize,
    /// When it begins; 0: not yet.
    pub(crate) go: AtomicU64,
    /// Everybody stops.
    pub(crate) stop: AtomicBool,
    /// Operations that are done, and those that failed.
    pub(crate) done: AtomicU64,
    pub(crate) failed: AtomicU64,
}

#[derive(Debug)]
struct Slot {
    connection: usize,
    /// The call that is open.
    stream: Option<u32>,
    operation: Option<Operation>,
}

#[derive(Clone, Copy, Debug)]
struct Operation {
    due: u64,
    sent: u64,
    kind: usize,
}

#[derive(Debug, Default)]
struct Place {
    /// `None`: it was lost.
    link: Option<Link>,
    server: usize,
    /// When it may be dialed again.
    again: u64,
    /// Slots that wait for that.
    parked: Vec<usize>,
    /// There is something to write.
    is_dirty: bool,
    /// The poll also waits until it takes more.
    waits_to_write: bool,
}

/// What arrived, to be acted on when a connection was read.
#[derive(Debug)]
enum Turn {
    Step(Step),
    Ended(Status),
}

/// A thread.
#[derive(Debug)]
pub(crate) struct Worker<'a> {
    plan: &'a Plan,
    shared: &'a Shared,
    share: Share,
    work: Box<dyn Work>,
    places: Vec<Place>,
    slots: Vec<Slot>,
    free: VecDeque<usize>,
    record: Record,
    poll: Poll,
    scratch: Vec<u8>,
    message: Vec<u8>,
    /// By slot and call: an operation may have gone on with another call meanwhile.
    turns: Vec<(usize, u32, Turn)>,
    /// Operations that were begun and count, and how many may be.
    begun: u64,
    total: u64,
    /// Operations that were taken from the pace.
    paced: u64,
    /// There is nothing more to do.
    is_exhausted: bool,
    under_way: usize,
    /// When something last went well.
    last: u64,
    /// What went wrong last, and whether a call that should stand does not any more.
    error: String,
    has_fallen: bool,
}

/// Which part of a plan a thread has.
pub(crate) fn share_of(plan: &Plan, thread: usize) -> Share {
    let mine =
        |count: usize| usize::try_from(part(count as u64, thread, plan.threads)).unwrap_or(0);
    Share {
        thread,
        threads: plan.threads,
        seed: plan.seed,
        slots: mine(plan.connections) * plan.in_flight,
        standing: mine(plan.standing.0) * plan.standing.1,
    }
}

impl<'a> Worker<'a> {
    /// Connects, and makes the calls that stand.
    ///
    /// # Errors
    /// A sentence, if that does not work.
    pub(crate) fn prepare(
        plan: &'a Plan,
        shared: &'a Shared,
        share: Share,
        work: Box<dyn Work>,
    ) -> Result<Self, String> {
        let record = Record::new(work.kinds().len(), u64::MAX, u64::MAX);
        let mut worker = Self {
            plan,
            shared,
            share,
            work,
            places: Vec::new(),
            slots: Vec::new(),
            free: VecDeque::new(),
            record,
            poll: Poll::new().map_err(|error| format!("the system refuses to poll: {error}"))?,
            scratch: vec![0; SCRATCH_BYTES],
            message: Vec::new(),
            turns: Vec::new(),
            begun: 0,
            total: u64::MAX,
            paced: 0,
            is_exhausted: false,
            under_way: 0,
            last: 0,
            error: String::new(),
            has_fallen: false,
        };
        let connections = share.slots / plan.in_flight.max(1);
        let standing = share.standing / plan.standing.1.max(1);
        for number in 0..connections + standing {
            let server = (number * plan.threads + share.thread) % plan.servers.len();
            worker.places.push(Place { server, ..Place::default() });
            if worker.work.shape() != Shape::Connections || number >= connections {
                worker.dial(number);
            }
            if number % DIALS_AT_ONCE == DIALS_AT_ONCE - 1 {
                worker.connect()?;
            }
        }
        worker.connect()?;
        for slot in 0..share.slots {
            let connection = slot % connections;
            worker.slots.push(Slot { connection, stream: None, operation: None });
            worker.free.push_back(slot);
        }
        worker.stand(connections)?;
        Ok(worker)
    }

    /// Waits until all connections that were dialed have taken their first words.
    fn connect(&mut self) -> Result<(), String> {
        let until = self.plan.clock.now() + CONNECT_LIMIT;
        loop {
            let is_late = self.plan.clock.now() > until;
            for place in &self.places {
                let target = &self.plan.servers[place.server].target.authority;
                if place.again > 0 {
                    return Err(format!("cannot connect to {target}: {}", self.error));
                }
                if is_late && !place.is_connected() {
                    return Err(format!("cannot connect to {target}: nothing comes of it"));
                }
            }
            if self.places.iter().all(Place::is_connected) {
                return Ok(());
            }
            self.wait(self.plan.clock.now() + 10 * MILLISECOND);
        }
    }

    /// Makes the calls that stand, and waits until they do.
    fn stand(&mut self, connections: usize) -> Result<(), String> {
        for call in 0..self.share.standing {
            let number = connections + call / self.plan.standing.1;
            let (method, messages) = self.work.standing(call);
            let place = &mut self.places[number];
            let head = &self.plan.servers[place.server].heads[method.number()];
            let Some(link) = &mut place.link else { return Err(self.error.clone()) };
            let stream = link.h2.open(method.number(), head, self.slots.len() + call);
            let stream = stream.ok_or("the server allows fewer calls on a connection")?;
            for message in messages {
                link.h2.send(stream, &message, false);
            }
            self.flush(number);
        }
        let until = self.plan.clock.now() + STAND_LIMIT;
        while !self.work.stands() {
            if self.has_fallen {
                return Err(format!("a call that should stand does not: {}", self.error));
            }
            if self.plan.clock.now() > until {
                return Err("the watchers are not made in time".to_owned());
            }
            self.wait(self.plan.clock.now() + 10 * MILLISECOND);
        }
        Ok(())
    }

    /// Makes load, until it is over. Tells when it is ready, and waits until all are.
    pub(crate) fn run(mut self) -> Record {
        self.shared.ready.fetch_add(1, Ordering::SeqCst);
        let start = loop {
            let start = self.shared.go.load(Ordering::SeqCst);
            if start > 0 || self.shared.stop.load(Ordering::SeqCst) {
                break start;
            }
            self.wait(self.plan.clock.now() + MILLISECOND);
        };
        // What is begun earlier would not count.
        while self.plan.clock.now() < start {
            self.wait(start);
        }
        let Plan { threads, rate, extent, warm_up, .. } = *self.plan;
        let thread = self.share.thread;
        self.record.from = start + warm_up;
        self.record.last = self.record.from;
        if let Extent::Time(time) = extent {
            self.record.until = self.record.from + time;
        }
        if let Extent::Total(total) = extent {
            self.total = part(total, thread, threads);
        }
        let pace = rate.map(|rate| Pace { start, rate, thread, threads });
        self.last = start;
        let mut patience = u64::MAX;
        loop {
            let now = self.plan.clock.now();
            let is_over = self.shared.stop.load(Ordering::Relaxed)
                || self.begun >= self.total
                || now >= self.record.until
                || self.is_exhausted;
            if is_over {
                patience = patience.min(now + self.plan.patience);
                let is_idle = self.under_way == 0 && self.work.awaited() == 0;
                if is_idle || now > patience {
                    break;
                }
                self.wait(now + MILLISECOND);
                continue;
            }
            if self.under_way > 0 && now > self.last + SILENCE_MAX.max(self.plan.patience) {
                self.record.failed("nothing has been answered for too long", self.record.from, now);
                break;
            }
            self.redial(now);
            let next = self.begin_due(now, pace);
            for number in 0..self.places.len() {
                if self.places[number].is_dirty {
                    self.flush(number);
                }
            }
            self.wait(next);
        }
        self.close(pace)
    }

    /// Counts what is not done.
    fn close(mut self, pace: Option<Pace>) -> Record {
        let now = self.plan.clock.now();
        for slot in &self.slots {
            if let Some(operation) = slot.operation {
                self.record.failed("not answered before the end", operation.due, now);
            }
        }
        if self.work.awaited() > 0 {
            let what = format!("{} events never came", self.work.awaited());
            self.record.failed(&what, self.record.from, now);
        }
        if let Some(pace) = pace {
            let due = pace.due_before(self.record.until.min(now)).min(self.total);
            self.record.never_begun = due.saturating_sub(self.paced);
        }
        self.record
    }

    /// Begins what is due and has a slot; when to look again.
    fn begin_due(&mut self, now: u64, pace: Option<Pace>) -> u64 {
        let idle = (now + LOOK_AGAIN).min(self.record.until);
        while !self.free.is_empty() && self.begun < self.total && !self.is_exhausted {
            let due = match pace {
                None => now,
                Some(pace) => pace.due(self.paced),
            };
            if due > now {
                // At high rates the timer would cost more than the operations.
                let coarse = pace.is_some_and(|pace| pace.due(1) - pace.due(0) < TICK);
                return if coarse { due.max(now + TICK) } else { due }.min(idle);
            }
            self.paced += 1;
            let Some(slot) = self.free.pop_front() else { break };
            if self.record.counts(due) {
                self.begun += 1;
            }
            self.begin(slot, due, now);
        }
        idle
    }

    /// Begins an operation.
    fn begin(&mut self, slot: usize, due: u64, now: u64) {
        if self.work.shape() == Shape::Connections {
            let number = self.slots[slot].connection;
            self.dial(number);
        }
        self.under_way += 1;
        self.slots[slot].operation = Some(Operation { due, sent: now, kind: 0 });
        self.ask(slot, due);
    }

    /// Sends the next request of a slot's operation.
    fn ask(&mut self, slot: usize, due: u64) {
        self.message.clear();
        let Some(ask) = self.work.ask(slot, due, &mut self.message) else {
            self.is_exhausted = true;
            self.under_way -= 1;
            self.slots[slot].operation = None;
            return;
        };
        let Slot { connection, stream, operation } = &mut self.slots[slot];
        if let Some(operation) = operation {
            operation.kind = ask.kind;
        }
        let place = &mut self.places[*connection];
        let Some(link) = &mut place.link else { return self.fail(slot, "there is no connection") };
        let is_stream = self.work.shape() == Shape::Stream;
        if stream.is_none() || !is_stream {
            let head = &self.plan.servers[place.server].heads[ask.method.number()];
            *stream = link.h2.open(ask.method.number(), head, slot);
        }
        let Some(stream) = *stream else {
            return self.fail(slot, "the server allows fewer calls on a connection");
        };
        link.h2.send(stream, &self.message, !is_stream && ask.is_last());
        place.is_dirty = true;
    }

    /// Waits for something to happen, and acts on it.
    fn wait(&mut self, until: u64) {
        self.poll.wait(self.plan.clock.now(), until);
        while let Some(ready) = self.poll.next() {
            let number = ready.number;
            if ready.may_write {
                self.flush(number);
            }
            if ready.may_read {
                self.read(number);
            }
            self.act(number);
        }
        for number in 0..self.places.len() {
            if self.places[number].is_dirty {
                self.flush(number);
            }
        }
    }

    fn read(&mut self, number: usize) {
        let Self { places, work, slots, turns, record, scratch, .. } = self;
        let Some(link) = &mut places[number].link else { return };
        let now = self.plan.clock.now();
        let (mut fallen, mut heard) = (None, 0);
        let received = link.receive(scratch, &mut |event| match event {
            Event::Message { token, stream, message } if token < slots.len() => {
                let step = work.answer(token, message);
                if step != Step::More {
                    turns.push((token, stream, Turn::Step(step)));
                }
            }
            Event::End { token, stream, status } if token < slots.len() => {
                turns.push((token, stream, Turn::Ended(status)));
            }
            Event::Message { message, .. } => {
                heard += 1;
                if let Err(wrong) = work.told(Heard { message, now }, record) {
                    fallen = Some(format!("wrong: {wrong}"));
                }
            }
            Event::End { status, .. } => fallen = Some(said(&status)),
        });
        self.shared.done.fetch_add(heard, Ordering::Relaxed);
        if heard > 0 {
            self.last = now;
        }
        if let Some(fallen) = fallen {
            self.fell(fallen, now);
        }
        // What was answered before the connection was lost is answered.
        self.act(number);
        if let Err(error) = received {
            self.lose(number, &error);
        }
        if let Some(link) = &self.places[number].link {
            self.places[number].is_dirty |= link.has_more();
        }
    }

    fn fell(&mut self, why: String, now: u64) {
        self.has_fallen = true;
        let due = self.record.from.max(now);
        self.record.failed(&format!("a call that should stand does not: {why}"), due, now);
        self.error = why;
    }

    /// Acts on what arrived.
    fn act(&mut self, number: usize) {
        let now = self.plan.clock.now();
        let mut turns = core::mem::take(&mut self.turns);
        for (slot, stream, turn) in turns.drain(..) {
            if self.slots[slot].stream != Some(stream) {
                continue;
            }
            if self.slots[slot].operation.is_none() {
                // A stream that outlived its operation has ended.
                if matches!(turn, Turn::Ended(_)) {
                    self.slots[slot].stream = None;
                }
                continue;
            }
            let step = match turn {
                Turn::Step(step) => step,
                Turn::Ended(status) => {
                    self.slots[slot].stream = None;
                    if status.code != 0 {
                        self.fail(slot, &said(&status));
                        continue;
                    }
                    self.work.ended(slot)
                }
            };
            match step {
                Step::More => {}
                Step::Done => self.done(slot, now),
                Step::Again => {
                    self.hang_up(slot);
                    let due = self.slots[slot].operation.map_or(now, |operation| operation.due);
                    self.ask(slot, due);
                }
                Step::Wrong(what) => {
                    self.hang_up(slot);
                    self.fail(slot, &format!("wrong: {what}"));
                }
            }
        }
        self.turns = turns;
        self.places[number].is_dirty = true;
    }

    /// Ends the call of a slot, if it has not ended and is not kept.
    fn hang_up(&mut self, slot: usize) {
        if self.work.shape() == Shape::Stream {
            return;
        }
        let Slot { connection, stream, .. } = &mut self.slots[slot];
        if let (Some(stream), Some(link)) = (stream.take(), &mut self.places[*connection].link) {
            link.h2.cancel(stream);
        }
    }

    fn done(&mut self, slot: usize, now: u64) {
        self.hang_up(slot);
        if let Some(Operation { due, sent, kind }) = self.slots[slot].operation.take() {
            self.record.done(Done { kind, due, sent, done: now });
        }
        self.last = now;
        self.shared.done.fetch_add(1, Ordering::Relaxed);
        self.release(slot);
    }

    fn fail(&mut self, slot: usize, what: &str) {
        let now = self.plan.clock.now();
        if let Some(operation) = self.slots[slot].operation.take() {
            self.record.failed(what, operation.due, now);
        }
        self.shared.failed.fetch_add(1, Ordering::Relaxed);
        self.work.failed(slot);
        self.release(slot);
    }

    /// A slot has nothing to do any more.
    fn release(&mut self, slot: usize) {
        self.under_way -= 1;
        let place = &mut self.places[self.slots[slot].connection];
        if self.work.shape() == Shape::Connections {
            if let Some(link) = place.link.take() {
                link.reset();
            }
        } else if place.link.is_none() {
            place.parked.push(slot);
            return;
        }
        self.free.push_back(slot);
    }

    /// Begins to connect; what was there is gone.
    fn dial(&mut self, number: usize) {
        let place = &mut self.places[number];
        place.link = None;
        let dialed = Link::dial(&self.plan.servers[place.server].target);
        let added = dialed.and_then(|link| {
            self.poll.add(&link, number)?;
            Ok(link)
        });
        match added {
            Ok(link) => {
                (place.link, place.again, place.waits_to_write) = (Some(link), 0, false);
                self.flush(number);
            }
            Err(error) => self.lose(number, &error),
        }
    }

    /// Dials again what was lost a while ago.
    fn redial(&mut self, now: u64) {
        for number in 0..self.places.len() {
            let place = &self.places[number];
            if place.again > 0 && place.again <= now {
                self.dial(number);
                let parked = core::mem::take(&mut self.places[number].parked);
                self.free.extend(parked);
            }
        }
    }

    fn flush(&mut self, number: usize) {
        let place = &mut self.places[number];
        place.is_dirty = false;
        let Some(link) = &mut place.link else { return };
        let flushed = link.flush().and_then(|()| {
            if place.waits_to_write == link.is_drained {
                place.waits_to_write = !link.is_drained;
                self.poll.change(&*link, number, place.waits_to_write)?;
            }
            Ok(())
        });
        if let Err(error) = flushed {
            self.lose(number, &error);
        }
    }

    /// A connection is of no more use: what was under way there has failed.
    fn lose(&mut self, number: usize, error: &io::Error) {
        let now = self.plan.clock.now();
        let place = &mut self.places[number];
        place.again = now + DIAL_AGAIN;
        let lost = place.link.take();
        self.error = error.to_string();
        let what = format!("connection: {error}");
        let tokens: Vec<_> = lost.iter().flat_map(|link| link.h2.tokens()).collect();
        for token in tokens {
            if let Some(slot) = self.slots.get_mut(token) {
                slot.stream = None;
                if slot.operation.is_some() {
                    self.fail(token, &what);
                }
            } else {
                self.fell(what.clone(), now);
            }
        }
    }
}

/// What a server said, for the list of errors.
fn said(status: &Status) -> String {
    format!("{}: {}", code_name(status.code), status.text)
}

impl Place {
    fn is_connected(&self) -> bool {
        self.link.as_ref().is_none_or(|link| link.is_drained)
    }
}

/// Bytes that are read at once.
const SCRATCH_BYTES: usize = 256 << 10;
/// Connections that are begun before others are waited for, so that no queue of a listener overflows.
const DIALS_AT_ONCE: usize = 100;
/// How long a connection may take.
const CONNECT_LIMIT: u64 = 10_000 * MILLISECOND;
/// How long standing calls may take until they stand.
const STAND_LIMIT: u64 = 60_000 * MILLISECOND;
/// How long a connection that was lost is left alone.
const DIAL_AGAIN: u64 = 100 * MILLISECOND;
/// Without an answer for so long, there will be none.
const SILENCE_MAX: u64 = 30_000 * MILLISECOND;
/// How often a thread looks whether it is over.
const LOOK_AGAIN: u64 = 50 * MILLISECOND;
/// Operations that are due closer together are begun together.
const TICK: u64 = MILLISECOND / 20;
