//! A client: makes one request at a time, of many kinds, to one member or to whichever, and notes what came of it.

use core::cell::{Cell, RefCell};
use core::time::Duration;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use tokio::time::{Instant, sleep, timeout};

use super::history::{
    Effect, Entry, Guard, Operation, Outcome, PREFIX, Reading, Request, Revision, Span,
};
use super::requests::send;
use crate::Trouble;
use crate::world::connection::Connection;

/// What all tasks of a run have in common, on one thread.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) begin: Instant,
    pub(super) seed: u64,
    /// To each slot.
    pub(super) connections: Vec<Connection>,
    /// Which slots have a member.
    pub(super) active: RefCell<Vec<bool>>,
    /// Whether clients go on.
    pub(super) writing: Cell<bool>,
    pub(super) requests: Cell<u64>,
    pub(super) answers: Cell<u64>,
    /// The mean time between a client's requests.
    pub(super) pause: Duration,
    pub(super) honesty: Honesty,
}

/// Whether linearizable reads are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Honesty {
    /// They are.
    Honest,
    /// They are serializable ones, to prove that the checker notices.
    Lying,
}

impl Shared {
    /// The time since the beginning.
    pub(super) fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    /// The slots that have a member.
    pub(super) fn members(&self) -> Vec<usize> {
        let active = self.active.borrow();
        (0..active.len()).filter(|slot| active[*slot]).collect()
    }
}

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) shared: Rc<Shared>,
    pub(super) number: usize,
    /// The member that it stays with, as long as there is one; else it goes about.
    home: Option<usize>,
    pub(super) random: ChaCha8Rng,
    /// How many values it has written.
    values: u64,
    /// The last that it saw of each register and list.
    known: BTreeMap<Bytes, Entry>,
    newest: Revision,
    pub(super) operations: Vec<Operation>,
}

impl Client {
    /// A client that knows nothing.
    pub(super) fn new(shared: Rc<Shared>, number: usize, home: Option<usize>) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(shared.seed);
        random.set_stream(u64::try_from(number).expect("counts fit") + 1);
        Self {
            shared,
            number,
            home,
            random,
            values: 0,
            known: BTreeMap::new(),
            newest: 0,
            operations: Vec::new(),
        }
    }

    /// Makes requests until it is enough.
    pub(super) async fn run(mut self) -> Result<Self, Trouble> {
        while self.shared.writing.get() {
            match self.below(100) {
                0..22 => self.read(Reading::Linearizable).await?,
                22..34 => self.read(Reading::Serializable).await?,
                34..40 => self.read_the_past().await?,
                40..54 => self.put().await?,
                54..70 => self.compare_and_set().await?,
                70..76 => self.delete().await?,
                76..86 => self.add().await?,
                86..90 => self.read_a_set().await?,
                _ => self.append().await?,
            }
            self.rest().await;
        }
        Ok(self)
    }

    /// Waits a random while.
    pub(super) async fn rest(&mut self) {
        let pause = u64::try_from(self.shared.pause.as_micros()).expect("pauses are short");
        let pause = self.below(2 * pause.max(1));
        sleep(Duration::from_micros(pause)).await;
    }

    async fn read(&mut self, reading: Reading) -> Result<(), Trouble> {
        let span = match self.below(8) {
            0 => Span::Prefix(key("r/")),
            1 => Span::Prefix(key("l/")),
            _ => Span::Key(self.register()),
        };
        self.attempt(Request::Read { span, at: 0, reading }).await.map(drop)
    }

    async fn read_the_past(&mut self) -> Result<(), Trouble> {
        let newest = u64::try_from(self.newest).expect("revisions count upwards").max(1);
        let at = i64::try_from(newest - self.below(newest.min(500))).expect("it is less");
        let reading =
            if self.below(2) == 0 { Reading::Linearizable } else { Reading::Serializable };
        let span = Span::Prefix(key("r/"));
        self.attempt(Request::Read { span, at, reading }).await.map(drop)
    }

    async fn put(&mut self) -> Result<(), Trouble> {
        let effects = vec![put(self.register(), self.value())];
        self.write(Vec::new(), effects, None).await.map(drop)
    }

    /// Changes a register if it is what was last seen there.
    async fn compare_and_set(&mut self) -> Result<(), Trouble> {
        let register = self.register();
        let guard = match self.known.get(&register) {
            Some(entry) => Guard::Value(register.clone(), entry.value.clone()),
            None => Guard::Modified(register.clone(), 0),
        };
        let effects = vec![put(register.clone(), self.value())];
        self.write(vec![guard], effects, Some(Span::Key(register))).await.map(drop)
    }

    /// Deletes a register, and says so elsewhere in the same transaction: deletions have no value to be known by.
    async fn delete(&mut self) -> Result<(), Trouble> {
        let mark = key(&format!("d/{}", self.number));
        let effects = vec![Effect::Delete { key: self.register() }, put(mark, self.value())];
        self.write(Vec::new(), effects, None).await.map(drop)
    }

    /// Adds to the set of these seconds.
    async fn add(&mut self) -> Result<(), Trouble> {
        let value = self.value();
        let element = [&self.set()[..], &value[..]].concat();
        self.write(Vec::new(), vec![put(element.into(), value)], None).await.map(drop)
    }

    async fn read_a_set(&mut self) -> Result<(), Trouble> {
        let (span, at, reading) = (Span::Prefix(self.set()), 0, Reading::Linearizable);
        self.attempt(Request::Read { span, at, reading }).await.map(drop)
    }

    /// Appends to two lists what both have not changed since they were read.
    async fn append(&mut self) -> Result<(), Trouble> {
        let reading =
            if self.below(3) == 0 { Reading::Serializable } else { Reading::Linearizable };
        let all = Span::Prefix(key("l/"));
        self.attempt(Request::Read { span: all.clone(), at: 0, reading }).await?;
        let first = self.below(LISTS);
        let id = self.value();
        let mut guards = Vec::new();
        let mut effects = Vec::new();
        for list in [first, (first + 1) % LISTS] {
            let list = key(&format!("l/{list}"));
            let known = self.known.get(&list);
            let value = match known.filter(|entry| entry.value.len() < LIST_BYTES_MAX) {
                Some(entry) => [&entry.value[..], b",", &id[..]].concat().into(),
                None => id.clone(),
            };
            guards.push(Guard::Modified(list.clone(), known.map_or(0, |entry| entry.modified)));
            effects.push(put(list, value));
        }
        self.write(guards, effects, Some(all)).await.map(drop)
    }

    /// Asks for a write.
    pub(super) async fn write(
        &mut self,
        guards: Vec<Guard>,
        effects: Vec<Effect>,
        otherwise: Option<Span>,
    ) -> Result<&Outcome, Trouble> {
        self.attempt(Request::Write { guards, effects, otherwise }).await
    }

    /// Makes a request and notes what came of it.
    pub(super) async fn attempt(&mut self, request: Request) -> Result<&Outcome, Trouble> {
        let slot = self.slot();
        self.attempt_at(slot, request).await
    }

    /// The same, of one member.
    pub(super) async fn attempt_at(
        &mut self,
        slot: usize,
        request: Request,
    ) -> Result<&Outcome, Trouble> {
        let shared = &self.shared;
        let begin = shared.now();
        shared.requests.set(shared.requests.get() + 1);
        let connection = &shared.connections[slot];
        let answer = timeout(ANSWER_MAX, send(connection, &request, shared.honesty)).await;
        let outcome = answer.unwrap_or(Ok(Outcome::Unknown))?;
        if outcome != Outcome::Unknown {
            shared.answers.set(shared.answers.get() + 1);
        }
        let end = shared.now();
        self.learn(&request, &outcome);
        self.operations.push(Operation { client: self.number, slot, begin, end, request, outcome });
        Ok(&self.operations.last().expect("it was just noted").outcome)
    }

    fn learn(&mut self, request: &Request, outcome: &Outcome) {
        let (span, seen, revision) = match (request, outcome) {
            (Request::Read { span, at: 0, .. }, Outcome::Seen { seen, revision })
            | (Request::Write { otherwise: Some(span), .. }, Outcome::Refused { seen, revision }) => {
                (span, seen, *revision)
            }
            (Request::Write { .. }, Outcome::Written { revision, .. }) => {
                self.newest = self.newest.max(*revision);
                return;
            }
            (Request::Read { .. } | Request::Write { .. }, _) => return,
        };
        self.newest = self.newest.max(revision);
        let end = span.range_end();
        let within = |key: &Bytes| {
            if end.is_empty() { key == span.key() } else { span.key() <= key && *key < end }
        };
        self.known.retain(|key, _| !within(key));
        self.known.extend(seen.iter().map(|entry| (entry.key.clone(), entry.clone())));
    }

    /// Whom to ask.
    pub(super) fn slot(&mut self) -> usize {
        let members = self.shared.members();
        if let Some(home) = self.home.filter(|home| members.contains(home)) {
            return home;
        }
        let count = u64::try_from(members.len()).expect("counts fit");
        members[usize::try_from(self.below(count)).expect("it is less")]
    }

    /// A value that nobody else writes.
    pub(super) fn value(&mut self) -> Bytes {
        self.values += 1;
        format!("c{}-{}", self.number, self.values).into()
    }

    /// A random number less than `bound`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.random.next_u64() % bound
    }

    fn register(&mut self) -> Bytes {
        key(&format!("r/{}", self.below(REGISTERS)))
    }

    fn set(&self) -> Bytes {
        key(&format!("s/{}/", self.shared.now().as_secs() / SET_SECONDS))
    }
}

/// A key of ours.
pub(super) fn key(rest: &str) -> Bytes {
    format!("{PREFIX}{rest}").into()
}

fn put(key: Bytes, value: Bytes) -> Effect {
    Effect::Put { key, value, lease: 0 }
}

const REGISTERS: u64 = 6;
const LISTS: u64 = 4;
const LIST_BYTES_MAX: usize = 200;
/// A set is read as a whole, so it must not grow for ever.
const SET_SECONDS: u64 = 4;
/// Then nobody knows what became of it.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(4);
