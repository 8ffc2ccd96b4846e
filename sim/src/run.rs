//! One run: a world, clients that ask, faults that happen, and chapters that object.
//!
//! ```text
//!  chaos ───────────────────► calm ─────────────────► alone ─────────────────► rest
//!  work and faults, for a     faults end; everything  all but a majority is    every lease ends; each
//!  while                      under way must end      out of reach for ever;   member serves; all states
//!                                                     the rest serves          are compared
//! ```
//!
//! Whatever chance decides comes from the seed, so a run can be repeated; only then is its record kept.

use core::cell::Cell;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cairn_engine::api::Request;
use cairn_engine::api::etcdserverpb::{PutRequest, RangeRequest};
use cairn_engine::cluster::{Cluster, Record};
use cairn_engine::event::Halt;
use cairn_engine::peer::{self, Message};
use cairn_engine::raft::Index;
use cairn_engine::raft::message::Body;
use cairn_engine::tree_file::TreeFileId;
use cairn_engine::{MemberId, RequestId, StreamId};

use crate::check::answers::Answers;
use crate::check::history::History;
use crate::check::leases::{Fastest, Leases};
use crate::check::watches::Watches;
use crate::check::{Violation, ensure};
use crate::clock::Clock;
use crate::network::Quality;
use crate::random::Random;
use crate::swarm::Swarm;
use crate::trace::{Note, Trace};
use crate::workload::Generator;
use crate::world::{Observation, Options, World};

mod alarm;
mod backups;
mod bounds;
mod canary;
mod clients;
pub mod deeds;
mod faults;
mod lives;
pub mod marks;
mod members;
mod storms;
pub mod tally;
mod versions;
mod watchers;

use alarm::Alarm;
use backups::Backup;
use clients::Question;
use deeds::{Deed, Tape};
use faults::Rot;
use lives::Chores;
use marks::Marks;
use members::Roster;
use tally::Tally;
use watchers::WatchClient;

/// What a run is made of: what its seed says, and what of that is left out.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Whatever chance decides comes from here.
    pub seed: u64,
    /// Who takes part, and what may go wrong.
    pub swarm: Swarm,
    /// Faults that are left out, by their place among all, from zero on.
    pub skipped: BTreeSet<u64>,
    /// How many faults there are, at most.
    pub faults_max: u64,
    /// Whether members are made to lie, to see that it is noticed.
    pub canary: bool,
    /// What is done, and when; if that is not said, chance decides.
    pub deeds: Option<Tape>,
}

impl Plan {
    /// All that a seed says.
    pub fn of(seed: u64) -> Self {
        let (swarm, skipped) = (Swarm::from_seed(seed), BTreeSet::new());
        Self { seed, swarm, skipped, faults_max: 0, canary: false, deeds: None }
    }
}

/// A run under way.
#[derive(Debug)]
pub struct Run {
    swarm: Swarm,
    skipped: BTreeSet<u64>,
    canary: bool,
    /// What is still to be done, in a run of a plan.
    planned: Option<Tape>,
    /// And what is to be done in the calm.
    planned_later: Tape,
    /// What was done, if somebody wants to know.
    noted: Option<Tape>,
    calm_number: Option<u64>,
    /// The version of the cluster, as the log says it.
    cluster_version: String,
    /// It is time to see whether what is waited for holds.
    glances: bool,
    world: World,
    /// What a request may take.
    request_timeout: Duration,
    random: Random,
    hunter: Random,
    /// Backups that are being read, or were.
    backups: Vec<Option<Backup>>,
    /// Decides on what came later: storms, and what operators ask about versions.
    later: Random,
    generator: Generator,
    phase: Phase,
    history: History,
    answers: Answers,
    watches: Watches,
    leases: Leases,
    fastest: Fastest,
    /// The last entry of history that the other chapters were shown.
    entries_seen: Index,
    questions: BTreeMap<RequestId, Question>,
    questions_asked: u64,
    watchers: Vec<WatchClient>,
    streams_opened: u64,
    reading: BTreeMap<StreamId, VecDeque<usize>>,
    /// Streams whose last response is not the last part of its revision.
    unfinished: BTreeSet<StreamId>,
    rot: BTreeMap<MemberId, Rot>,
    /// Members whose trees were damaged once: they may find that out whenever they read.
    decayed: BTreeSet<MemberId>,
    /// Members that started from another superblock than one that was damaged: it stays damaged.
    beheaded: BTreeSet<MemberId>,
    /// Damage to trees that nobody undoes.
    lasting: BTreeMap<MemberId, (TreeFileId, u64)>,
    /// Members that started without a state.
    stateless: BTreeSet<MemberId>,
    roster: Roster,
    budget: Budget,
    chores: BTreeMap<MemberId, Chores>,
    /// What happened, for whoever wants to know.
    pub trace: Trace,
    tally: Tally,
    marks: Marks,
    /// After so many steps the run fails with this: a panic is there that ends the process.
    ends: Option<(u64, Violation)>,
}

thread_local! {
    static STEPS: Cell<u64> = const { Cell::new(0) };
}

/// How many steps the run under way on this thread has behind it; of the last run, if there is none.
pub fn steps_behind() -> u64 {
    STEPS.get()
}

/// Whether a leader tells another member to take over.
fn is_hand_over(message: &Message) -> bool {
    matches!(&message.body, peer::Body::Raft { body: Body::TimeoutNow, .. })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Chaos,
    Calm,
}

/// Steps in each second: a storm of messages, or of wake-ups, breaks no other rule.
#[derive(Debug, Default)]
struct Budget {
    second: u64,
    steps: u64,
}

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1000 * MILLI;
/// How often the run looks around.
const LOOK_NS: u64 = 250 * MILLI;
/// Steps in a second that are too many.
const STEPS_PER_SECOND_MAX: u64 = 2_000_000;
/// Chaos ends early with these, so that no seed takes much longer than the others.
const CHAOS_STEPS_MAX: u64 = 60_000;

impl Run {
    /// The run of a plan, told to a trace.
    pub fn new(plan: Plan, trace: Trace) -> Self {
        STEPS.set(0);
        let Plan { seed, mut swarm, skipped, canary, mut deeds, .. } = plan;
        // What is done in the calm comes behind it, even if it is at the same time.
        let (mut calm_number, mut planned_later) = (None, Tape::new());
        if let Some(tape) = &mut deeds
            && let Some(place) = tape.iter().position(|(_, deed)| matches!(deed, Deed::Calm(_)))
        {
            planned_later = tape.split_off(place);
            if let Some((at_ns, Deed::Calm(number))) = planned_later.pop_front() {
                (swarm.span_ns, calm_number) = (at_ns, Some(number));
            }
        }
        let mut random = Random::new(seed, 12);
        let options = Options { seed, shards: swarm.shards, delays: swarm.delays, exact: false };
        let mut world = World::new(options);
        for id in (1..=swarm.members).map(MemberId) {
            let drift = i64::try_from(random.below(2 * swarm.drift_ppm_max + 1)).expect("small");
            let drift_ppm = drift - i64::try_from(swarm.drift_ppm_max).expect("small");
            let offset_ns = random.below(1000 * SECOND);
            world.add_member(swarm.config(id), Clock { offset_ns, drift_ppm });
        }
        let config = swarm.config(MemberId(1));
        let to_record = |member: &cairn_engine::config::Member| Record {
            id: member.id.0,
            name: member.name.clone(),
            peer_urls: member.peer_urls.clone(),
            ..Record::default()
        };
        let cluster = Cluster::new(config.members.iter().map(to_record));
        let (ttl_min, request_timeout) = (config.lease_ttl_min(), config.request_timeout());
        Self {
            request_timeout,
            generator: Generator::new(swarm.work.clone(), seed, ttl_min),
            phase: Phase::Chaos,
            history: History::new(cluster),
            answers: Answers::default(),
            watches: Watches::default(),
            leases: Leases::default(),
            fastest: Fastest::default(),
            entries_seen: Index(0),
            questions: BTreeMap::new(),
            questions_asked: 0,
            watchers: (0..swarm.work.streams).map(|_| WatchClient::default()).collect(),
            streams_opened: 0,
            reading: BTreeMap::new(),
            unfinished: BTreeSet::new(),
            rot: BTreeMap::new(),
            decayed: BTreeSet::new(),
            beheaded: BTreeSet::new(),
            lasting: BTreeMap::new(),
            stateless: BTreeSet::new(),
            roster: Roster::new(swarm.members),
            budget: Budget::default(),
            chores: BTreeMap::new(),
            trace,
            tally: Tally::default(),
            marks: Marks::new(),
            swarm,
            skipped,
            canary,
            planned: deeds,
            noted: None,
            planned_later,
            calm_number,
            glances: false,
            cluster_version: String::new(),
            world,
            random,
            hunter: Random::new(seed, 16),
            later: Random::new(seed, 20),
            backups: Vec::new(),
            ends: None,
        }
    }

    /// The same, that notes what is done.
    #[must_use]
    pub fn noting(self) -> Self {
        Self { noted: Some(Tape::new()), ..self }
    }

    /// The same, that fails with `violation` when `steps` are behind it.
    #[must_use]
    pub fn ending(self, steps: u64, violation: Violation) -> Self {
        Self { ends: Some((steps, violation)), ..self }
    }

    /// What was done so far, if it was to be noted.
    pub fn deeds(&self) -> Option<&Tape> {
        self.noted.as_ref()
    }

    /// What the run is made of.
    pub fn swarm(&self) -> &Swarm {
        &self.swarm
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// At the first violation.
    pub fn play(&mut self) -> Result<(), Violation> {
        self.begin("chaos");
        self.chaos()?;
        self.begin("calm");
        self.calm()?;
        self.begin("alone");
        self.leave_alone()?;
        self.begin("rest");
        self.rest()
    }

    fn begin(&mut self, phase: &'static str) {
        self.trace.note(self.world.now_ns(), || Note::Phase(phase));
    }

    /// The rare states that were seen so far.
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    /// What was done so far, in numbers.
    pub fn tally(&self) -> Tally {
        Tally { steps: self.world.steps(), nanos: self.world.now_ns(), ..self.tally }
    }

    fn chaos(&mut self) -> Result<(), Violation> {
        for id in self.members() {
            self.world.start(id);
        }
        if self.is_planned() {
            self.alarm(LOOK_NS, Alarm::Look);
            self.plan_deed();
            // Something happens at the end of the chaos, though nobody is woken for it.
            self.alarm(self.swarm.span_ns, Alarm::Glance);
            return self.step_until(self.swarm.span_ns);
        }
        for client in 0..self.swarm.work.clients {
            self.alarm(0, Alarm::Client(client));
        }
        for watcher in 0..self.swarm.work.streams {
            self.alarm(0, Alarm::Watcher(watcher));
        }
        self.alarm(LOOK_NS, Alarm::Look);
        self.plan_fault();
        self.plan_operation();
        self.plan_storm();
        self.plan_backup();
        let end = self.swarm.span_ns;
        while self.world.now_ns() < end && self.world.steps() < CHAOS_STEPS_MAX {
            self.step()?;
        }
        self.step_until(self.world.now_ns())
    }

    /// Lets everything happen that happens until then.
    fn step_until(&mut self, end_ns: u64) -> Result<(), Violation> {
        while self.world.next_ns().is_some_and(|next| next <= end_ns) {
            self.step()?;
        }
        Ok(())
    }

    /// Faults end, and everything under way must come to its end.
    fn calm(&mut self) -> Result<(), Violation> {
        let number = self.calm_number.unwrap_or_else(|| self.random.number());
        self.note_deed(|| Deed::Calm(number));
        if let Some(planned) = &mut self.planned {
            *planned = core::mem::take(&mut self.planned_later);
            self.plan_deed();
        }
        // From here on a plan and what it was noted from are alike.
        self.random = Random::new(number, 14);
        self.phase = Phase::Calm;
        self.world.network.heal();
        self.world.network.quality = Quality::default();
        for id in self.members() {
            self.world.mend_disk(id);
            self.world.resume_if_paused(id);
            // Who was removed and is needed until the others know is started once more.
            self.start(id);
        }
        self.move_streams(&self.everybody());
        for (number, _) in (0_u64..).zip(&self.watchers) {
            let name = Alarm::Return(number).name();
            self.world.alarm(0, name);
        }
        self.until("liveness", self.patience_ns(), Self::settled)
    }

    /// What a request may take that waits for an election, and more.
    fn patience_ns(&self) -> u64 {
        let timeout = self.request_timeout;
        let wait = timeout + 20 * self.swarm.election_timeout;
        // A peer that is brought a snapshot and does not answer is given up after half a minute.
        u64::try_from(wait.as_nanos()).expect("a while") + 45 * SECOND
    }

    /// Every member serves, every lease ends, and all states agree.
    fn rest(&mut self) -> Result<(), Violation> {
        self.serve();
        self.until("liveness", self.patience_ns(), Self::settled)?;
        let ttl_max =
            self.history.model.leases().values().map(|lease| lease.ttl).max().unwrap_or(0);
        let ttl_ns = u64::try_from(ttl_max).expect("positive") * SECOND;
        let gone = |run: &Self| {
            let leases = run.history.model.leases();
            ensure(leases.is_empty(), "liveness", || format!("leases do not end: {leases:?}"))
        };
        // Clocks may be slower by a fifth.
        self.until("lease not late", ttl_ns + ttl_ns / 3 + 5 * SECOND, gone)?;
        self.until("liveness", self.patience_ns(), Self::settled)?;
        for id in self.members() {
            self.check_member(id)?;
        }
        Ok(())
    }

    /// Asks everybody who is to serve for a write and a read.
    fn serve(&mut self) {
        for (client, id) in (0..).zip(self.servants()) {
            let key = bytes::Bytes::from_static(b"a/0");
            let put = PutRequest { key: key.clone(), ..PutRequest::default() };
            self.ask(client, id, Request::Put(put));
            let range = RangeRequest { key, ..RangeRequest::default() };
            self.ask(client, id, Request::Range(range));
        }
    }

    /// Goes on until something holds, which must be so before long.
    fn until(
        &mut self,
        rule: &'static str,
        wait_ns: u64,
        holds: impl Fn(&Self) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        let end = self.world.now_ns() + wait_ns;
        // At times of its own, so that it does not depend on what else the run is woken for.
        self.glances = true;
        loop {
            if core::mem::take(&mut self.glances) {
                self.alarm(LOOK_NS / 10, Alarm::Glance);
                match holds(self) {
                    Ok(()) => return Ok(()),
                    Err(violation) if self.world.now_ns() >= end => {
                        let what = format!("not within {wait_ns} ns: {violation}");
                        return Err(Violation::new(rule, what));
                    }
                    Err(_) => {}
                }
            }
            self.step()?;
        }
    }

    /// Whether nothing is under way.
    fn settled(&self) -> Result<(), Violation> {
        // Who takes no part any more may wait for an entry that it is never told.
        let servants = self.servants();
        let open = self.questions.values().find(|open| servants.contains(&open.asked.member));
        ensure(open.is_none(), "liveness", || format!("{open:?} is not answered"))?;
        let last = self.history.last();
        for id in servants {
            let applied = self.history.applied(id);
            ensure(self.world.is_up(id) && applied == last, "liveness", || {
                format!("member {} is at {applied} of {last}", id.0)
            })?;
            ensure(!self.roster.is_unsound(id), "liveness", || {
                format!("member {} lost its disk and is not counted on again", id.0)
            })?;
            let known = self.history.cluster().incarnation(id);
            ensure(known == self.world.incarnation(id), "liveness", || {
                format!("member {} is known as {known:?}", id.0)
            })?;
        }
        ensure(self.history.sets(last).outgoing.is_empty(), "liveness", || {
            format!("two sets of voters overlap: {:?}", self.history.sets(last))
        })?;
        ensure(self.leases.leader().is_some(), "liveness", || "nobody leads".to_owned())?;
        self.check_versions()?;
        let waiting = self.watchers.iter().find(|client| !client.interrupted.is_empty());
        ensure(waiting.is_none(), "liveness", || format!("{waiting:?} waits for a stream"))?;
        ensure(self.reading.values().all(VecDeque::is_empty), "liveness", || {
            "somebody reads".to_owned()
        })?;
        self.watches.check_complete(&self.history, self.history.model.revision())
    }

    fn members(&self) -> Vec<MemberId> {
        self.world.members().collect()
    }

    /// Lets one thing happen and judges what was seen.
    fn step(&mut self) -> Result<(), Violation> {
        let steps = self.world.steps();
        STEPS.set(steps);
        if let Some((_, violation)) = self.ends.take_if(|(end, _)| *end <= steps) {
            return Err(violation);
        }
        let stepped = self.world.step();
        ensure(stepped, "liveness", || "nothing is left to happen".to_owned())?;
        let second = self.world.now_ns() / SECOND;
        if second != self.budget.second {
            self.budget = Budget { second, steps: 0 };
        }
        self.budget.steps += 1;
        ensure(self.budget.steps < STEPS_PER_SECOND_MAX, "budget", || {
            format!("{STEPS_PER_SECOND_MAX} steps within second {second}")
        })?;
        self.trace.look(self.world.now_ns(), &self.world.network);
        while let Some(observation) = self.world.observe() {
            let observation = self.sing(observation);
            self.trace.observe(self.world.now_ns(), &observation);
            self.judge(observation)?;
        }
        Ok(())
    }

    fn judge(&mut self, observation: Observation) -> Result<(), Violation> {
        match observation {
            Observation::Started(id) => self.started(id),
            Observation::Refused(id, error) => self.refused(id, &error),
            Observation::Crashed(id) => self.crashed(id),
            Observation::Reply { member, id, result } => self.replied(member, id, result),
            Observation::Watch { stream, shown, response, .. } => {
                self.watched(stream, shown, &response)
            }
            Observation::Published(id, publication) => self.published(id, &publication),
            Observation::Event(id, event) => self.event(id, &event),
            Observation::Halted(id, Halt::Removed) => self.left(id),
            Observation::Halted(id, Halt::Damaged(_)) if self.decayed.contains(&id) => {
                self.tally.refusals += 1;
                // Who decides alone has nobody who could bring the state.
                if let Some((file, offset)) = self.lasting.remove(&id)
                    && !self.world.disk(id).has_condemned_trees()
                {
                    self.world.disk(id).flip_tree(file, offset);
                }
                self.undo_rot(id);
                self.alarm(MILLI, Alarm::Restart(id));
                Ok(())
            }
            Observation::Halted(id, halt) => {
                Err(Violation::new("halt", format!("member {} stops: {halt:?}", id.0)))
            }
            Observation::Sent(message, _) => {
                if is_hand_over(&message) {
                    self.hunt();
                }
                self.history.sent(&message)
            }
            Observation::Wrote(id, write) => {
                self.chores.entry(id).or_default().log_bytes += write.bytes;
                self.read_log(id)
            }
            Observation::Paused(_) | Observation::Resumed(_) => Ok(()),
            Observation::Alarm(name) => self.rang(Alarm::named(name)),
        }
    }

    /// The most that can have passed on the cluster's clock.
    fn fastest_time(&mut self) -> Duration {
        let now_ns = self.world.now_ns();
        let world = &self.world;
        self.fastest.read(world.members().map(|id| (id, world.clock(id).read(now_ns))))
    }

    fn alarm(&mut self, after_ns: u64, alarm: Alarm) {
        self.world.alarm(after_ns, alarm.name());
    }

    fn rang(&mut self, alarm: Alarm) -> Result<(), Violation> {
        match alarm {
            Alarm::Client(client) => self.client(client),
            Alarm::Watcher(number) => self.watcher(number),
            Alarm::Credit(stream) => self.credit(stream),
            Alarm::LateCredit(stream) => {
                self.note_deed(|| Deed::Read(stream));
                self.credit(stream);
            }
            Alarm::Return(number) => self.return_to(number),
            Alarm::Deed => self.do_next_deed(),
            Alarm::Glance => self.glances = true,
            Alarm::Strike => self.strike(),
            Alarm::Fault => self.fault(),
            Alarm::Restart(id) => {
                self.note_deed(|| Deed::Start(id));
                self.start(id);
            }
            Alarm::Resume(id) => {
                self.leases.disturbed(self.world.now_ns());
                self.world.resume_if_paused(id);
            }
            Alarm::Heal => {
                self.leases.disturbed(self.world.now_ns());
                self.world.network.heal();
                self.world.network.quality = Quality::default();
            }
            Alarm::Operate => self.operate(),
            Alarm::Storm => self.storm(),
            Alarm::Backup => self.back_up(),
            Alarm::Restore(number) => return self.restore(number),
            Alarm::Look => {
                self.alarm(LOOK_NS, Alarm::Look);
                self.check_noticed()?;
                self.check_bounds()?;
                self.use_recess();
                let now_ns = self.world.now_ns();
                if let Some(leader) = self.leases.leader() {
                    let now = self.world.clock(leader).read(now_ns);
                    return self.leases.check_gone(&self.history, now, now_ns);
                }
            }
        }
        Ok(())
    }
}
