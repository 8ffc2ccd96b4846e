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

use core::fmt;
use std::collections::{BTreeMap, VecDeque};

use cairn_engine::api::etcdserverpb::watch_request::RequestUnion;
use cairn_engine::api::etcdserverpb::{
    PutRequest, RangeRequest, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest,
    WatchRequest,
};
use cairn_engine::api::{Error, Request, Response};
use cairn_engine::auth::{Answer as Told, Credential};
use cairn_engine::cluster::{Cluster, Record};
use cairn_engine::command::Command;
use cairn_engine::event::{Event, Halt, Publication};
use cairn_engine::raft::{Index, RoleName};
use cairn_engine::recovery::RecoveryError;
use cairn_engine::wal::{RecoverError, SegmentSeq};
use cairn_engine::{MemberId, Replica, RequestId, ShardId, ShardInput, StreamId, Time, watch};

use crate::check::answers::{Answers, Asked, Outcome};
use crate::check::history::History;
use crate::check::leases::Leases;
use crate::check::watches::{Heard, SubscriptionId, Watches};
use crate::check::{Violation, ensure};
use crate::clock::Clock;
use crate::disk::Torn;
use crate::network::Quality;
use crate::random::Random;
use crate::swarm::{Fault, Swarm};
use crate::trace::Trace;
use crate::workload::{Client, Generator, pick};
use crate::world::{Observation, Options, World};

mod members;

use members::{OPERATOR, Roster};

/// A run under way.
#[derive(Debug)]
pub struct Run {
    swarm: Swarm,
    world: World,
    random: Random,
    generator: Generator,
    phase: Phase,
    history: History,
    answers: Answers,
    watches: Watches,
    leases: Leases,
    /// The last entry of history that the other chapters were shown.
    entries_seen: Index,
    questions: BTreeMap<RequestId, Question>,
    questions_asked: u64,
    watchers: Vec<WatchClient>,
    streams_opened: u64,
    reading: BTreeMap<StreamId, VecDeque<usize>>,
    rot: BTreeMap<MemberId, Rot>,
    roster: Roster,
    budget: Budget,
    chores: BTreeMap<MemberId, Chores>,
    /// What happened, for whoever wants to know.
    pub trace: Trace,
    tally: Tally,
}

/// What was done, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// What happened in the world.
    pub steps: u64,
    /// Virtual time.
    pub nanos: u64,
    /// Requests that were answered.
    pub answered: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Requests whose fate was not told.
    pub unknown: u64,
    /// Crashes.
    pub crashes: u64,
    /// Responses on watch streams.
    pub watched: u64,
    /// Watchers that went on after an interruption.
    pub resumed: u64,
    /// Leases that came to their end.
    pub expired: u64,
    /// Starts that were refused because of damage.
    pub refusals: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Snapshots that a leader sent, and that took the place of a state.
    pub installed: u64,
    /// Entries that changed who takes part.
    pub changes: u64,
    /// Members that began to lead.
    pub reigns: u64,
    /// Disks that were wiped.
    pub wiped: u64,
    /// Disks that were set back to a copy.
    pub rolled_back: u64,
    /// Disks that the cluster noticed not to be what they were.
    pub noticed: u64,
    /// Majorities that had to do without the others.
    pub left_alone: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Chaos,
    Calm,
}

/// A question under way.
#[derive(Debug)]
struct Question {
    client: u64,
    asked: Asked,
    /// What the clocks showed.
    clocks: BTreeMap<MemberId, Time>,
}

/// Somebody with one watch stream at a time.
#[derive(Debug, Default)]
struct WatchClient {
    stream: Option<Place>,
    /// Subscriptions that wait for a stream.
    interrupted: Vec<SubscriptionId>,
}

/// What a member has done to its disk since it started.
#[derive(Clone, Copy, Debug, Default)]
struct Chores {
    log_bytes: u64,
    snapshots: u64,
}

/// Where a stream is served.
#[derive(Clone, Copy, Debug)]
struct Place {
    stream: StreamId,
    member: MemberId,
    shard: ShardId,
}

/// Damage that was done to a disk, and will be undone.
#[derive(Clone, Copy, Debug)]
enum Rot {
    Log(SegmentSeq, u64),
    Snapshot(Index, u64),
}

/// Steps in each second: a storm of messages, or of wake-ups, breaks no other rule.
#[derive(Debug, Default)]
struct Budget {
    second: u64,
    steps: u64,
}

/// What an alarm is for; its name in the world is one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alarm {
    /// A client has thought.
    Client(u64),
    /// A watch client has thought.
    Watcher(u64),
    /// A response has left.
    Credit(StreamId),
    /// A fault is due.
    Fault,
    /// A member starts again.
    Restart(MemberId),
    /// A pause ends.
    Resume(MemberId),
    /// The network is mended.
    Heal,
    /// Time to look around.
    Look,
    /// The operator has thought.
    Operate,
}

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1000 * MILLI;
/// How often the run looks around.
const LOOK_NS: u64 = 250 * MILLI;
/// Steps in a second that are too many.
const STEPS_PER_SECOND_MAX: u64 = 2_000_000;
/// Chaos ends early with these, so that no seed takes much longer than the others.
const CHAOS_STEPS_MAX: u64 = 60_000;
/// Watchers of a stream.
const WATCHERS_MAX: usize = 5;

impl Run {
    /// The run of a seed, that keeps the last so many lines of what happens.
    pub fn new(seed: u64, lines_max: usize) -> Self {
        let swarm = Swarm::from_seed(seed);
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
        let ttl_min = swarm.config(MemberId(1)).lease_ttl_min();
        Self {
            generator: Generator::new(swarm.work.clone(), seed, ttl_min),
            phase: Phase::Chaos,
            history: History::new(cluster),
            answers: Answers::default(),
            watches: Watches::default(),
            leases: Leases::default(),
            entries_seen: Index(0),
            questions: BTreeMap::new(),
            questions_asked: 0,
            watchers: (0..swarm.work.streams).map(|_| WatchClient::default()).collect(),
            streams_opened: 0,
            reading: BTreeMap::new(),
            rot: BTreeMap::new(),
            roster: Roster::new(swarm.members),
            budget: Budget::default(),
            chores: BTreeMap::new(),
            trace: Trace::keeping(lines_max),
            tally: Tally::default(),
            swarm,
            world,
            random,
        }
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
        self.chaos()?;
        self.calm()?;
        self.leave_alone()?;
        self.rest()
    }

    /// What was done so far, in numbers.
    pub fn tally(&self) -> Tally {
        Tally { steps: self.world.steps(), nanos: self.world.now_ns(), ..self.tally }
    }

    fn chaos(&mut self) -> Result<(), Violation> {
        for id in self.members() {
            self.world.start(id);
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
        let end = self.swarm.span_ns;
        while self.world.now_ns() < end && self.world.steps() < CHAOS_STEPS_MAX {
            self.step()?;
        }
        Ok(())
    }

    /// Faults end, and everything under way must come to its end.
    fn calm(&mut self) -> Result<(), Violation> {
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
            let name = Alarm::Watcher(number).name();
            self.world.alarm(0, name);
        }
        self.until("liveness", self.patience_ns(), Self::settled)
    }

    /// What a request may take that waits for an election, and more.
    fn patience_ns(&self) -> u64 {
        let timeout = self.swarm.config(MemberId(1)).request_timeout();
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
        let mut next_look = 0;
        loop {
            if self.world.now_ns() >= next_look {
                next_look = self.world.now_ns() + LOOK_NS / 10;
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
        while let Some(observation) = self.world.observe() {
            self.trace.observe(self.world.now_ns(), &observation);
            self.judge(observation)?;
        }
        Ok(())
    }

    fn judge(&mut self, observation: Observation) -> Result<(), Violation> {
        match observation {
            Observation::Started(id) => self.started(id),
            Observation::Refused(id, error) => self.refused(id, &error),
            Observation::Crashed(id) => {
                self.crashed(id);
                Ok(())
            }
            Observation::Reply { member, id, result } => self.replied(member, id, &result),
            Observation::Watch { stream, response, .. } => self.watched(stream, &response),
            Observation::Published(id, publication) => self.published(id, &publication),
            Observation::Event(id, event) => self.event(id, &event),
            Observation::Halted(id, Halt::Removed) => self.left(id),
            Observation::Halted(id, halt) => {
                Err(Violation::new("halt", format!("member {} stops: {halt:?}", id.0)))
            }
            Observation::Sent(message) => self.history.sent(&message),
            Observation::Wrote(id, write) => {
                let bytes = u64::try_from(write.bytes.len()).expect("64 bits");
                self.chores.entry(id).or_default().log_bytes += bytes;
                self.read_log(id)
            }
            Observation::Alarm(name) => self.rang(Alarm::named(name)),
        }
    }

    // Members.

    fn start(&mut self, id: MemberId) {
        if !self.world.is_up(id) && !self.roster.banished.contains(&id) {
            self.world.start(id);
        }
    }

    fn started(&mut self, id: MemberId) -> Result<(), Violation> {
        self.chores.insert(id, Chores::default());
        self.undo_rot(id);
        let Some(replica) = self.world.last_replica(id) else { return Ok(()) };
        let alone = self.everybody() == [id].into() && self.swarm.members == 1;
        let raft = replica.raft();
        self.trace.note(self.world.now_ns(), || {
            let (log, hard_state) = (raft.log(), raft.hard_state());
            format!(
                "{} has a log from {:?} to {:?}, {hard_state:?}",
                id.0,
                log.covered(),
                log.last()
            )
        });
        self.history.started(id, raft.log(), raft.hard_state(), alone)
    }

    fn refused(&mut self, id: MemberId, error: &RecoveryError) -> Result<(), Violation> {
        // A snapshot that is damaged has another one before it, and the log from there on.
        // Unless a leader sent it: then there is no log before it.
        let is_promised = match (self.rot.get(&id), error) {
            (Some(Rot::Log(..)), RecoveryError::Log(RecoverError::Corrupt { .. })) => true,
            (Some(Rot::Snapshot(..)), RecoveryError::SnapshotMissing { .. }) => {
                self.members().len() > 1
            }
            _ => false,
        };
        ensure(is_promised, "recovery", || {
            format!("member {} cannot start with {:?}: {error}", id.0, self.rot.get(&id))
        })?;
        self.tally.refusals += 1;
        self.undo_rot(id);
        self.alarm(0, Alarm::Restart(id));
        Ok(())
    }

    /// A member stops because it was removed: it knows that itself, or whoever told it does.
    fn left(&mut self, id: MemberId) -> Result<(), Violation> {
        let knows = |replica: &Replica| replica.state().cluster.is_removed(id);
        let told = self.world.last_replica(id).is_some_and(knows);
        ensure(told || self.history.cluster().is_removed(id), "halt", || {
            format!("member {} stops as if it were removed", id.0)
        })
    }

    fn undo_rot(&mut self, id: MemberId) {
        match self.rot.remove(&id) {
            Some(Rot::Log(segment, offset)) => self.world.disk(id).flip(segment, offset),
            Some(Rot::Snapshot(index, offset)) => self.world.disk(id).flip_snapshot(index, offset),
            None => {}
        }
    }

    fn crashed(&mut self, id: MemberId) {
        self.tally.crashes += 1;
        self.leases.ceases(id);
        self.leases.disturbed(self.world.now_ns());
        let lost: Vec<_> = self
            .questions
            .iter()
            .filter(|(_, question)| question.asked.member == id)
            .map(|(request, _)| *request)
            .collect();
        for request in lost {
            let question = self.questions.remove(&request).expect("just found");
            self.tally.unknown += 1;
            self.think(question.client);
        }
        for client in &mut self.watchers {
            if let Some(place) = client.stream.take_if(|place| place.member == id) {
                client.interrupted.extend(self.watches.lost(place.stream));
                self.reading.remove(&place.stream);
            }
        }
        let removed = self.history.cluster().is_removed(id);
        if removed && self.phase == Phase::Chaos && self.random.chance(1, 2) {
            return;
        }
        let wait = match self.phase {
            Phase::Chaos => self.random.magnitude(MILLI, 4 * SECOND),
            Phase::Calm if removed => 5 * SECOND,
            Phase::Calm => MILLI,
        };
        self.alarm(wait, Alarm::Restart(id));
    }

    fn read_log(&mut self, id: MemberId) -> Result<(), Violation> {
        let replica = self.world.last_replica(id).expect("it has run");
        self.history.read_log(id, replica.raft().log())
    }

    fn published(&mut self, id: MemberId, publication: &Publication) -> Result<(), Violation> {
        self.read_log(id)?;
        let is_first = self.history.applied(id) == Index(0);
        self.history.published(id, publication)?;
        let clocks = self.clocks();
        let mut members = false;
        while self.entries_seen < self.history.last() {
            self.entries_seen = self.entries_seen.next();
            let entry = self.history.get(self.entries_seen).expect("history has no gap");
            self.tally.expired += u64::try_from(entry.ended.len()).expect("64 bits");
            self.answers.committed(self.entries_seen, entry)?;
            self.leases.committed(self.entries_seen, entry, &clocks)?;
            if matches!(entry.command, Some(Command::Members(_))) {
                self.tally.changes += 1;
                members = true;
            }
        }
        if members || self.roster.is_troubled() {
            self.follow_members();
        }
        if let Some(replica) = self.world.last_replica(id)
            && replica.status().applied == self.history.applied(id)
        {
            self.history.check_agreement(id, publication.applied, replica)?;
        }
        if is_first || self.random.chance(1, CHECK_ONE_IN) {
            self.check_member(id)?;
        }
        Ok(())
    }

    /// Compares the state of a member with the model's, if it was published.
    fn check_member(&mut self, id: MemberId) -> Result<(), Violation> {
        self.world.check(id);
        let Some(replica) = self.world.last_replica(id) else { return Ok(()) };
        let applied = replica.status().applied;
        if applied != self.history.applied(id) {
            return Ok(());
        }
        self.history.check_state(id, applied, replica.state())
    }

    /// Snapshots are as rare as their limit says. Bytes that were on their way when one began count for it and for
    /// the next, hence twice.
    fn begins_snapshot(&mut self, id: MemberId) -> Result<(), Violation> {
        let Chores { log_bytes, snapshots } = *self.chores.entry(id).or_default();
        let apart = self.swarm.limits.snapshot_log_bytes;
        ensure(snapshots * apart <= 2 * log_bytes, "chores", || {
            format!("member {} begins snapshot {snapshots} after {log_bytes} bytes of log", id.0)
        })?;
        self.chores.entry(id).or_default().snapshots += 1;
        Ok(())
    }

    fn event(&mut self, id: MemberId, event: &Event) -> Result<(), Violation> {
        match event {
            Event::Role { role: RoleName::Leader, term, .. } => {
                self.read_log(id)?;
                let replica = self.world.last_replica(id).expect("it has run");
                self.tally.reigns += 1;
                self.history.leads(id, *term, replica.raft().log().covered().index)?;
                if replica.raft().hard_state().term == *term {
                    self.history.check_elected(id, *term, replica.raft().membership())?;
                }
                // One of the past leads nobody.
                if self.history.is_newest_leader(*term) {
                    let now_ns = self.world.now_ns();
                    let now = self.world.clock(id).read(now_ns);
                    self.leases.leads(id, &self.history, now, now_ns);
                }
            }
            Event::Role { .. } => self.leases.ceases(id),
            Event::SnapshotStarted { .. } => self.begins_snapshot(id)?,
            Event::SnapshotFinished { .. } => self.tally.snapshots += 1,
            Event::SnapshotInstalled { .. } => {
                self.tally.installed += 1;
                self.history.installed(id);
            }
            Event::Diverged { member, index } => {
                let what = format!("member {} differs at {index}, says {}", member.0, id.0);
                return Err(Violation::new("digest", what));
            }
            Event::MemoryLost => {
                self.tally.noticed += 1;
                ensure(self.roster.is_unsound(id), "trust", || {
                    format!("member {} says that it has lost its memory, and has not", id.0)
                })?;
            }
            Event::MemberForgotten(lost) => ensure(self.roster.is_unsound(*lost), "trust", || {
                format!("member {} says that {} lost its disk, which it has not", id.0, lost.0)
            })?,
            Event::Compacted { .. }
            | Event::CompactionFinished { .. }
            | Event::LeasesExpired { .. }
            | Event::Alarms(_)
            | Event::Members(_)
            | Event::Published
            | Event::ClusterVersion(_)
            | Event::SnapshotSending { .. }
            | Event::SnapshotSent { .. }
            | Event::DiskStalled => {}
        }
        Ok(())
    }

    fn clocks(&self) -> BTreeMap<MemberId, Time> {
        let now_ns = self.world.now_ns();
        self.world.members().map(|id| (id, self.world.clock(id).read(now_ns))).collect()
    }

    // Clients.

    fn think(&mut self, client: u64) {
        if self.phase == Phase::Chaos && client != OPERATOR {
            let wait = self.random.below(self.swarm.work.think_ns_max);
            self.alarm(wait, Alarm::Client(client));
        }
    }

    /// Somebody who can be asked: mostly a member, now and then one of the past or the future.
    fn a_member(&mut self) -> Option<MemberId> {
        let (all, servants) = (self.members(), self.servants());
        let strangers = self.phase == Phase::Chaos && self.random.chance(1, 16);
        let able = |id: &MemberId| self.world.is_up(*id) && (strangers || servants.contains(id));
        let up: Vec<_> = all.into_iter().filter(able).collect();
        (!up.is_empty()).then(|| *self.random.pick(&up))
    }

    fn client(&mut self, client: u64) {
        if self.phase == Phase::Calm {
            return;
        }
        let Some(member) = self.a_member() else { return self.think(client) };
        let request = self.generator.request(&self.history.model);
        self.ask(client, member, request);
    }

    fn ask(&mut self, client: u64, member: MemberId, request: Request) {
        self.questions_asked += 1;
        let id = RequestId(self.questions_asked);
        let shard = self.a_shard();
        let who = if self.phase == Phase::Calm {
            // What must be served now is to be served whoever may.
            Client { credential: Credential::Member, user: None }
        } else {
            self.generator.client(&request, &self.history.model)
        };
        let asked = Asked {
            credential: who.credential.clone(),
            user: who.user,
            member,
            shard,
            life: self.world.lives(member),
            command: self.generator.command(&request),
            request: request.clone(),
            at_ns: self.world.now_ns(),
            floor: self.history.last(),
            local_floor: self.history.applied(member),
        };
        self.trace.note(self.world.now_ns(), || {
            format!("client {client} asks {} as {}: {request:?}", member.0, id.0)
        });
        let clocks = self.clocks();
        self.questions.insert(id, Question { client, asked, clocks });
        self.world.request_as(who.credential, member, shard, id, request);
    }

    fn a_shard(&mut self) -> ShardId {
        let shards = u64::from(self.swarm.shards);
        ShardId(u16::try_from(self.random.below(shards)).expect("a few"))
    }

    fn replied(
        &mut self,
        member: MemberId,
        id: RequestId,
        result: &Result<Response, Error>,
    ) -> Result<(), Violation> {
        let Some(question) = self.questions.remove(&id) else {
            let what = format!("member {} answers {} once more: {result:?}", member.0, id.0);
            return Err(Violation::new("answer", what));
        };
        let outcome = self.answers.judge(&mut self.history, &question.asked, result)?;
        if let (Request::Authenticate(assignment), Ok(Response::Auth(Told::Authenticate(told)))) =
            (&question.asked.request, result)
        {
            let index = told.token.parse().expect("the checker has read it");
            self.generator.assigned(assignment, index);
        }
        match outcome {
            Outcome::Answered(index) => {
                self.tally.answered += 1;
                self.note_promise(&question, index, result);
            }
            Outcome::Refused(_) => self.tally.refused += 1,
            Outcome::Unknown => self.tally.unknown += 1,
        }
        self.think(question.client);
        Ok(())
    }

    fn note_promise(
        &mut self,
        question: &Question,
        index: Option<Index>,
        result: &Result<Response, Error>,
    ) {
        let (lease, ttl) = match result {
            Ok(Response::LeaseGrant(response)) => (response.id, response.ttl),
            Ok(Response::LeaseKeepAlive(response)) => (response.id, response.ttl),
            _ => return,
        };
        if let Some(index) = index.filter(|_| ttl > 0) {
            self.leases.promised(lease, ttl, index, question.clocks.clone());
        }
    }

    // Watches.

    fn watcher(&mut self, number: u64) {
        let client = usize::try_from(number).expect("a few");
        let wait = self.random.below(self.swarm.work.watch_think_ns_max);
        self.alarm(wait.max(MILLI), Alarm::Watcher(number));
        let Some(place) = self.watchers[client].stream else { return self.open(client) };
        if self.phase == Phase::Calm {
            return;
        }
        let watchers = self.watches.watchers(place.stream);
        match self.random.below(12) {
            0..=4 if self.watches.count(place.stream) < WATCHERS_MAX => {
                let request = self.generator.watch(&self.history.model);
                self.watches.subscribe(place.stream, request.clone());
                self.say(place, RequestUnion::CreateRequest(request));
            }
            5 if !watchers.is_empty() => {
                let watch_id = *self.random.pick(&watchers);
                if self.watches.cancel(place.stream, watch_id) {
                    self.say(place, RequestUnion::CancelRequest(WatchCancelRequest { watch_id }));
                }
            }
            6 => {
                // Nobody has this name: nothing is answered.
                let watch_id = -77;
                self.say(place, RequestUnion::CancelRequest(WatchCancelRequest { watch_id }));
            }
            7 | 8 => {
                self.say(place, RequestUnion::ProgressRequest(WatchProgressRequest {}));
            }
            9 if self.random.chance(1, 3) => {
                self.world.watch(place.member, place.shard, ShardInput::WatchClosed(place.stream));
                let interrupted = self.watches.lost(place.stream);
                self.reading.remove(&place.stream);
                self.watchers[client].stream = None;
                self.watchers[client].interrupted.extend(interrupted);
            }
            _ => {}
        }
    }

    /// Opens a stream, and asks for what was interrupted.
    fn open(&mut self, client: usize) {
        let Some(member) = self.a_member() else { return };
        self.streams_opened += 1;
        let (stream, shard) = (StreamId(self.streams_opened), self.a_shard());
        let place = Place { stream, member, shard };
        self.watches.opened(stream, member);
        self.reading.insert(stream, VecDeque::new());
        self.world.watch(
            member,
            shard,
            ShardInput::WatchOpened(stream, Credential::CommonName("root".into())),
        );
        self.watchers[client].stream = Some(place);
        for subscription in core::mem::take(&mut self.watchers[client].interrupted) {
            self.tally.resumed += 1;
            let request = self.watches.resume(stream, subscription);
            self.say(place, RequestUnion::CreateRequest(request));
        }
    }

    fn say(&mut self, place: Place, union: RequestUnion) {
        let Place { stream, member, shard } = place;
        self.trace.note(self.world.now_ns(), || format!("stream {} says {union:?}", stream.0));
        let request = WatchRequest { request_union: Some(union) };
        self.world.watch(member, shard, ShardInput::Watch { stream, request });
    }

    fn watched(&mut self, stream: StreamId, response: &watch::Response) -> Result<(), Violation> {
        self.tally.watched += 1;
        let Some(reading) = self.reading.get_mut(&stream) else {
            return Ok(()); // It was closed, and the news are on their way.
        };
        reading.push_back(response.encoded_len());
        let slow = self.swarm.work.reading_ns_max;
        let wait = if slow == 0 || self.phase == Phase::Calm { 0 } else { self.random.below(slow) };
        self.alarm(wait, Alarm::Credit(stream));
        match self.watches.judge(&self.history, stream, response)? {
            Heard::Created(..) | Heard::Other => {}
            Heard::Refused(subscription) | Heard::Canceled(subscription) => {
                self.watches.forget(subscription);
            }
            Heard::Compacted(subscription, compacted) => {
                self.watches.skip_to(subscription, compacted);
                if let Some(place) = self.place_of(stream) {
                    let request: WatchCreateRequest = self.watches.resume(stream, subscription);
                    self.say(place, RequestUnion::CreateRequest(request));
                }
            }
        }
        Ok(())
    }

    fn place_of(&self, stream: StreamId) -> Option<Place> {
        self.watchers.iter().filter_map(|client| client.stream).find(|place| place.stream == stream)
    }

    fn credit(&mut self, stream: StreamId) {
        let Some(place) = self.place_of(stream) else { return };
        let Some(reading) = self.reading.get_mut(&stream) else { return };
        if let Some(bytes) = reading.pop_front() {
            let input = ShardInput::WatchCredit { stream, bytes };
            self.world.watch(place.member, place.shard, input);
        }
    }

    // Faults.

    fn plan_fault(&mut self) {
        if self.swarm.fault_every_ns > 0 {
            let wait = self.random.magnitude(MILLI, 2 * self.swarm.fault_every_ns);
            self.alarm(wait, Alarm::Fault);
        }
    }

    fn fault(&mut self) {
        if self.phase == Phase::Calm {
            return;
        }
        self.plan_fault();
        if self.roster.is_quiet() {
            return;
        }
        let fault = pick(&mut self.random, &self.swarm.faults);
        // Who leads has most to lose.
        let leader = self.leases.leader().filter(|leader| self.world.is_up(*leader));
        let hunted = leader.filter(|_| self.random.chance(1, 2));
        let Some(id) = hunted.or_else(|| self.a_member()) else { return };
        let now_ns = self.world.now_ns();
        self.trace.note(now_ns, || format!("fault {fault:?} for member {}", id.0));
        let torn = *self.random.pick(&[
            Torn::Nothing,
            Torn::Everything,
            Torn::AnySectors,
            Torn::AnySectors,
            Torn::Prefix,
        ]);
        let timeout = u64::try_from(self.swarm.election_timeout.as_nanos()).expect("a while");
        let while_ns = self.random.magnitude(MILLI, 4 * timeout);
        self.leases.disturbed(now_ns + while_ns);
        if !matches!(fault, Fault::Image | Fault::RollBack) {
            self.roster.trouble_until(now_ns + while_ns);
        }
        match fault {
            Fault::Wipe => self.wipe(id, torn),
            Fault::Image => self.world.take_image(id),
            Fault::RollBack => self.roll_back(),
            Fault::Crash => self.world.crash(id, torn),
            Fault::CrashAmid => {
                let outputs = self.random.below(12);
                self.world.crash_after(id, outputs, torn);
            }
            Fault::CrashAll => {
                for id in self.members() {
                    if self.world.is_up(id) {
                        self.world.crash(id, torn);
                    }
                }
            }
            Fault::Pause => {
                self.world.pause(id);
                self.alarm(while_ns, Alarm::Resume(id));
            }
            Fault::Jump => {
                let by_ns = self.random.magnitude(MILLI, 30 * SECOND);
                self.world.jump_clock(id, by_ns);
            }
            Fault::Stall => self.world.stall_disk(id, while_ns),
            Fault::WriteError => self.world.fail_disk(id),
            Fault::Rot => {
                self.world.crash(id, torn);
                if let Some((segment, offset)) = self.world.disk(id).vouched_byte(&mut self.random)
                {
                    self.world.disk(id).flip(segment, offset);
                    self.trace.note(now_ns, || format!("{segment}.wal rots at {offset}"));
                    self.rot.insert(id, Rot::Log(segment, offset));
                }
            }
            Fault::SnapshotRot => {
                self.world.crash(id, torn);
                if let Some((index, offset)) = self.world.disk(id).snapshot_byte(&mut self.random) {
                    self.world.disk(id).flip_snapshot(index, offset);
                    self.trace.note(now_ns, || format!("snapshot {index} rots at {offset}"));
                    self.rot.insert(id, Rot::Snapshot(index, offset));
                }
            }
            Fault::Partition => {
                let others = self.members();
                let group: Vec<_> =
                    others.iter().copied().filter(|_| self.random.chance(1, 2)).collect();
                self.world.network.isolate(&group, &others);
                self.alarm(while_ns, Alarm::Heal);
            }
            Fault::Cut => {
                let to = *self.random.pick(&self.members());
                self.world.network.cut(id, to);
                self.alarm(while_ns, Alarm::Heal);
            }
            Fault::Network => {
                self.world.network.quality = self.swarm.network;
                self.alarm(while_ns, Alarm::Heal);
            }
        }
    }

    // Alarms.

    fn alarm(&mut self, after_ns: u64, alarm: Alarm) {
        self.world.alarm(after_ns, alarm.name());
    }

    fn rang(&mut self, alarm: Alarm) -> Result<(), Violation> {
        match alarm {
            Alarm::Client(client) => self.client(client),
            Alarm::Watcher(number) => self.watcher(number),
            Alarm::Credit(stream) => self.credit(stream),
            Alarm::Fault => self.fault(),
            Alarm::Restart(id) => self.start(id),
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
            Alarm::Look => {
                self.alarm(LOOK_NS, Alarm::Look);
                self.check_noticed()?;
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

/// One publication of so many is followed by a comparison of whole states.
const CHECK_ONE_IN: u64 = 32;

impl Alarm {
    /// The alarm as a number: what it is for in the highest byte.
    fn name(self) -> u64 {
        let (kind, detail): (u64, u64) = match self {
            Self::Client(client) => (0, client),
            Self::Watcher(number) => (1, number),
            Self::Credit(stream) => (2, stream.0),
            Self::Fault => (3, 0),
            Self::Restart(id) => (4, id.0),
            Self::Resume(id) => (5, id.0),
            Self::Heal => (6, 0),
            Self::Look => (7, 0),
            Self::Operate => (8, 0),
        };
        kind << 56 | detail
    }

    fn named(name: u64) -> Self {
        let detail = name & ((1 << 56) - 1);
        match name >> 56 {
            0 => Self::Client(detail),
            1 => Self::Watcher(detail),
            2 => Self::Credit(StreamId(detail)),
            3 => Self::Fault,
            4 => Self::Restart(MemberId(detail)),
            5 => Self::Resume(MemberId(detail)),
            6 => Self::Heal,
            7 => Self::Look,
            8 => Self::Operate,
            _ => unreachable!("the run names its alarms itself"),
        }
    }
}

impl Tally {
    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.nanos += other.nanos;
        self.answered += other.answered;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.crashes += other.crashes;
        self.watched += other.watched;
        self.resumed += other.resumed;
        self.expired += other.expired;
        self.refusals += other.refusals;
        self.snapshots += other.snapshots;
        self.installed += other.installed;
        self.changes += other.changes;
        self.reigns += other.reigns;
        self.wiped += other.wiped;
        self.rolled_back += other.rolled_back;
        self.noticed += other.noticed;
        self.left_alone += other.left_alone;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} steps, {} s, {} answered, {} refused, {} unknown, {} crashes, {} refusals to start, {} snapshots, \
             {} installed, {} watch responses, {} watchers resumed, {} leases expired, {} reigns, \
             {} changes of members, {} disks wiped, {} set back, {} noticed, {} left alone",
            self.steps,
            self.nanos / SECOND,
            self.answered,
            self.refused,
            self.unknown,
            self.crashes,
            self.refusals,
            self.snapshots,
            self.installed,
            self.watched,
            self.resumed,
            self.expired,
            self.reigns,
            self.changes,
            self.wiped,
            self.rolled_back,
            self.noticed,
            self.left_alone,
        )
    }
}
