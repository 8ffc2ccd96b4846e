//! Your own service in a simulated world: against a cluster of Cairn's members, with faults, by seed.
//!
//! A service is an `async` function that is given a [`Client`]. All of it, and the cluster, runs on one thread in virtual
//! time: an hour passes in a second, nothing depends on the machine, and the same seed is the same run. The members are the
//! engine that serves in production; what a service sees are etcd's requests and answers.
//!
//! ```
//! use cairn_sim::lab::{Faults, Lab};
//!
//! let mut lab = Lab::new(7).members(3).faults(Faults::rough());
//! lab.spawn("writer", |client| async move {
//!     for turn in 0..10 {
//!         // What is unknown may have happened: a put of the same is harmless, so it is asked again.
//!         while client.put("turn", &turn.to_string()).await.is_err() {
//!             client.sleep_ms(100).await;
//!         }
//!     }
//! });
//! let done = lab.run_for_secs(60);
//! assert!(done.all_ended, "seed 7: {done:?}");
//! ```
//!
//! What goes wrong is what [`Faults`] say, and what the test does between two [`Lab::run_for_secs`]: a member
//! [crashes](Lab::crash), a network is [split](Lab::split), or a service itself [stands still](Lab::freeze) as a process
//! does whose machine collects garbage, which is what locks without fencing do not survive.
//!
//! # What is right for a service
//!
//! *Unknown is not refused.* A request that was not answered may have been carried out, or may be carried out later:
//! [`Trouble::Unknown`]. Whoever asks again must ask for something that may happen twice. *A lease is not a lock.* Its
//! holder may be asleep when it ends; whatever it writes must be refused then, by a comparison with the revision of its
//! key, or with a number that only grows. *A watch may be cut.* It goes on from the revision after the last that was seen;
//! if that was compacted, from a new read.
//!
//! # Limits
//!
//! What is simulated is the cluster and time, not sockets: how gRPC breaks is for
//! [server/tests/turmoil](../../../server/tests/turmoil/main.rs). A service must wait for nothing but its client: a thread,
//! a real clock or a socket would leave the simulation, and `HashMap` of the standard library has another order each time.

use core::cell::RefCell;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Waker};
use core::time::Duration;
use std::collections::BTreeMap;
use std::rc::Rc;

use cairn_engine::MemberId;
use cairn_engine::raft::RoleName;

use crate::check::Violation;
use crate::clock::Clock;
use crate::disk::Torn;
use crate::network::Quality;
use crate::random::Random;
use crate::record::Record;
use crate::report::{Story, page};
use crate::script;
use crate::trace::{Note, Trace};
use crate::world::{Delays, Options, World};

mod client;
mod desk;

pub use client::{Change, Client, Key, Trouble, Watch};
use desk::Desk;

/// A cluster, services that use it, and what goes wrong.
#[derive(Debug)]
pub struct Lab {
    seed: u64,
    members: u64,
    faults: Faults,
    random: Random,
    services: Vec<Service>,
    desk: Rc<RefCell<Desk>>,
    begun: bool,
    next_fault_ns: u64,
    mends: BTreeMap<u64, Vec<Mend>>,
    trace: Trace,
}

/// What goes wrong by itself, and how often.
///
/// All of it passes: members start again, links are mended, and no disk is lost, so that a cluster owes its clients
/// everything that it ever answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    /// One in about so many milliseconds; zero: none.
    pub every_ms: u64,
    /// How long one lasts, at most, in milliseconds.
    pub last_ms_max: u64,
    /// Whether services stand still now and then, too.
    pub freeze_services: bool,
}

/// What became of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Whether every service came to its end.
    pub all_ended: bool,
    /// The services that did not.
    pub unfinished: Vec<String>,
    /// How much was broken.
    pub faults: u64,
    /// Stands for everything that the cluster did: the same for the same seed.
    pub hash: u64,
}

struct Service {
    name: String,
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    /// Until then it stands still.
    frozen_until_ns: u64,
}

impl core::fmt::Debug for Service {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let ended = self.future.is_none();
        f.debug_struct("Service").field("name", &self.name).field("ended", &ended).finish()
    }
}

#[derive(Clone, Copy, Debug)]
enum Mend {
    Start(MemberId),
    Resume(MemberId),
    Network,
}

const MILLI: u64 = 1_000_000;

impl Faults {
    /// Nothing goes wrong.
    pub fn none() -> Self {
        Self { every_ms: 0, last_ms_max: 0, freeze_services: false }
    }

    /// Every few seconds something goes wrong for some seconds: leaders crash, members stand still, links are cut or lose
    /// messages, and services stand still.
    pub fn rough() -> Self {
        Self { every_ms: 4_000, last_ms_max: 5_000, freeze_services: true }
    }
}

impl Lab {
    /// A world in which this seed decides whatever chance decides; with three members, and nothing goes wrong.
    pub fn new(seed: u64) -> Self {
        let options = Options { seed, shards: 2, delays: Delays::default(), exact: false };
        let desk = Rc::new(RefCell::new(Desk::new(World::new(options), seed)));
        Self {
            seed,
            members: 3,
            faults: Faults::none(),
            random: Random::new(seed, 20),
            services: Vec::new(),
            desk,
            begun: false,
            next_fault_ns: 0,
            mends: BTreeMap::new(),
            trace: Trace::default().recording(),
        }
    }

    /// With so many members, from one to seven.
    ///
    /// # Panics
    /// If it is another number, or the members have been started.
    #[must_use]
    pub fn members(mut self, members: u64) -> Self {
        assert!((1..=7).contains(&members) && !self.begun, "one to seven members, before they run");
        self.members = members;
        self
    }

    /// With these going wrong.
    #[must_use]
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Starts a service. Its number, for [`Lab::freeze`].
    pub fn spawn<F>(&mut self, name: &str, service: impl FnOnce(Client) -> F) -> usize
    where
        F: Future<Output = ()> + 'static,
    {
        let future = service(Client::new(Rc::clone(&self.desk), self.services.len()));
        let name = name.to_owned();
        self.services.push(Service { name, future: Some(Box::pin(future)), frozen_until_ns: 0 });
        self.services.len() - 1
    }

    /// The time of the world.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.desk.borrow().world.now_ns())
    }

    /// Who leads, as far as a member says so of itself; of two, the one of the later term.
    pub fn leader(&self) -> Option<u64> {
        let desk = self.desk.borrow();
        let statuses = desk.world.members().filter_map(|id| {
            let status = desk.world.replica(id)?.status();
            (status.role == RoleName::Leader).then_some((status.term, id.0))
        });
        statuses.max().map(|(_, id)| id)
    }

    /// A member crashes, if it runs, and starts again after a while. What it had not written is gone.
    pub fn crash(&mut self, member: u64, for_ms: u64) {
        let id = MemberId(member);
        self.note(|| Note::Of(id, format!("the test crashes {member}")));
        let is_up = self.desk.borrow().world.is_up(id);
        if is_up {
            self.desk.borrow_mut().world.crash(id, Torn::AnySectors);
        }
        self.mend(for_ms, Mend::Start(id));
    }

    /// A member's process stands still for a while; its clock does not.
    pub fn pause(&mut self, member: u64, for_ms: u64) {
        let id = MemberId(member);
        self.note(|| Note::Of(id, format!("the test stops {member} for a while")));
        let is_up = self.desk.borrow().world.is_up(id);
        if is_up {
            self.desk.borrow_mut().world.pause(id);
        }
        self.mend(for_ms, Mend::Resume(id));
    }

    /// These members do not reach the others, nor the others them, for a while. Clients reach everybody.
    pub fn split(&mut self, group: &[u64], for_ms: u64) {
        self.note(|| Note::Other(format!("the test splits {group:?} from the others")));
        let group: Vec<_> = group.iter().copied().map(MemberId).collect();
        let mut desk = self.desk.borrow_mut();
        let all: Vec<_> = desk.world.members().collect();
        desk.world.network.isolate(&group, &all);
        drop(desk);
        self.mend(for_ms, Mend::Network);
    }

    /// A service stands still for a while, as if its machine slept: time passes, answers come, leases end, and it knows of
    /// none of that until it goes on.
    pub fn freeze(&mut self, service: usize, for_ms: u64) {
        let until = self.desk.borrow().world.now_ns() + for_ms * MILLI;
        let frozen = &mut self.services[service].frozen_until_ns;
        *frozen = until.max(*frozen);
        let name = self.services[service].name.clone();
        self.note(|| Note::Other(format!("service {name} stands still for {for_ms} ms")));
        // Somebody must be there when it goes on.
        self.desk.borrow_mut().world.alarm(for_ms * MILLI, desk::NOBODY);
    }

    /// Lets all of it happen for so long, or until every service has come to its end.
    ///
    /// # Panics
    /// If a service does: the message is its own; say the seed in it.
    pub fn run_for_secs(&mut self, secs: u64) -> Done {
        self.begin();
        let end_ns = self.desk.borrow().world.now_ns() + secs * 1_000 * MILLI;
        // What is to happen at the end, if nothing else does.
        self.desk.borrow_mut().world.alarm(secs * 1_000 * MILLI, desk::NOBODY);
        loop {
            self.poll_services();
            let over = self.services.iter().all(|service| service.future.is_none());
            let next = self.desk.borrow().world.next_ns();
            if over || next.is_none_or(|next| next > end_ns) {
                break;
            }
            self.desk.borrow_mut().world.step();
            self.see();
            self.let_pass();
        }
        let unfinished = self.services.iter().filter(|service| service.future.is_some());
        let unfinished: Vec<_> = unfinished.map(|service| service.name.clone()).collect();
        let faults = self.desk.borrow().faults;
        Done { all_ended: unfinished.is_empty(), unfinished, faults, hash: self.trace.hash() }
    }

    /// Ends the world, and shows what happened as one HTML page; `wrong` is what the test objects to, if it does.
    pub fn page(mut self, wrong: Option<&str>) -> String {
        let record = self.trace.take_record().unwrap_or_else(|| Box::new(Record::new()));
        page(&Story {
            title: format!("lab, seed {}", self.seed),
            replay: format!("Lab::new({})", self.seed),
            violation: wrong.map(|what| Violation::new("test", what)),
            facts: self
                .services
                .iter()
                .map(|one| ("service".to_owned(), one.name.clone()))
                .collect(),
            record,
        })
    }

    fn begin(&mut self) {
        if self.begun {
            return;
        }
        self.begun = true;
        let mut desk = self.desk.borrow_mut();
        for id in (1..=self.members).map(MemberId) {
            let offset_ns = self.random.below(1_000_000 * MILLI);
            let all = (1..=self.members).map(script::named).collect();
            desk.world.add_member(script::config(id, all), Clock { offset_ns, drift_ppm: 0 });
        }
        for id in (1..=self.members).map(MemberId) {
            desk.world.start(id);
        }
        drop(desk);
        self.plan_fault();
    }

    fn note(&mut self, note: impl FnOnce() -> Note) {
        let now_ns = self.desk.borrow().world.now_ns();
        self.trace.note(now_ns, note);
    }

    fn mend(&mut self, after_ms: u64, mend: Mend) {
        let mut desk = self.desk.borrow_mut();
        let at_ns = desk.world.now_ns() + after_ms * MILLI;
        desk.world.alarm(after_ms * MILLI, desk::NOBODY);
        self.mends.entry(at_ns).or_default().push(mend);
    }

    /// Polls whoever may go on: nobody knows who waits for what, and there are few.
    fn poll_services(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        let now_ns = self.desk.borrow().world.now_ns();
        loop {
            self.desk.borrow_mut().moved = false;
            for service in self.services.iter_mut().filter(|one| one.frozen_until_ns <= now_ns) {
                if let Some(future) = &mut service.future
                    && future.as_mut().poll(&mut context).is_ready()
                {
                    service.future = None;
                }
            }
            // One may have told another.
            if !self.desk.borrow().moved {
                return;
            }
        }
    }

    /// Sees what happened.
    fn see(&mut self) {
        let mut desk = self.desk.borrow_mut();
        let now_ns = desk.world.now_ns();
        self.trace.look(now_ns, &desk.world.network);
        for note in core::mem::take(&mut desk.notes) {
            self.trace.note(now_ns, || note);
        }
        while let Some(observation) = desk.world.observe() {
            self.trace.observe(now_ns, &observation);
            desk.see(observation);
        }
    }

    /// Breaks and mends what is due.
    fn let_pass(&mut self) {
        let now_ns = self.desk.borrow().world.now_ns();
        while let Some(entry) = self.mends.first_entry().filter(|entry| *entry.key() <= now_ns) {
            for mend in entry.remove() {
                self.mend_now(mend);
            }
        }
        if self.faults.every_ms > 0 && now_ns >= self.next_fault_ns {
            self.plan_fault();
            self.fault();
        }
    }

    fn mend_now(&mut self, mend: Mend) {
        let mut desk = self.desk.borrow_mut();
        match mend {
            Mend::Start(id) => {
                if !desk.world.is_up(id) {
                    desk.world.start(id);
                }
            }
            Mend::Resume(id) => desk.world.resume_if_paused(id),
            Mend::Network => {
                desk.world.network.heal();
                desk.world.network.quality = Quality::default();
            }
        }
    }

    fn plan_fault(&mut self) {
        let every_ns = self.faults.every_ms * MILLI;
        if every_ns > 0 {
            let wait = self.random.between(every_ns / 4, every_ns * 2);
            let mut desk = self.desk.borrow_mut();
            self.next_fault_ns = desk.world.now_ns() + wait;
            desk.world.alarm(wait, desk::NOBODY);
        }
    }

    /// Lets something go wrong: half of it hits whoever leads.
    fn fault(&mut self) {
        let somebody = self.random.between(1, self.members);
        let leader = self.leader().filter(|_| self.random.chance(1, 2));
        let (member, for_ms) =
            (leader.unwrap_or(somebody), self.random.between(10, self.faults.last_ms_max));
        self.desk.borrow_mut().faults += 1;
        match self.random.below(if self.faults.freeze_services { 6 } else { 4 }) {
            0 => self.crash(member, for_ms),
            1 => self.pause(member, for_ms),
            2 => self.split(&[member], for_ms),
            3 => {
                let straggle_one_in = self.random.between(5, 50);
                self.note(|| Note::Other("the network loses messages".to_owned()));
                self.desk.borrow_mut().world.network.quality = Quality {
                    loss_one_in: 5,
                    double_one_in: 10,
                    straggle_one_in,
                    ..Quality::default()
                };
                self.mend(for_ms, Mend::Network);
            }
            _ if self.services.is_empty() => {}
            _ => {
                let services = u64::try_from(self.services.len()).expect("a few");
                let service = usize::try_from(self.random.below(services)).expect("a few");
                self.freeze(service, 4 * for_ms);
            }
        }
    }
}
