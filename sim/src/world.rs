//! Members, their disks and clocks, the network between them, and a queue of what happens next.
//!
//! Time jumps from one event to the next. Everything that could happen in another order in production (a write
//! completes, a message arrives, a core hands something to another) is an event of its own, so that chance, or a
//! script, chooses the order. The members are the engine's own [`Replica`] and [`Shard`]; nothing in them knows
//! that the world is not real.

use core::cmp::Reverse;
use core::fmt;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use cairn_engine::api::{Error, Request, Response, Route};
use cairn_engine::auth::Credential;
use cairn_engine::config::Lives;
use cairn_engine::event::{Event, Halt, Publication, ReadIndexAnswer};
use cairn_engine::mvcc::View;
use cairn_engine::peer::{self, Incarnation, Message};
use cairn_engine::raft::{self, Index};
use cairn_engine::recovery::{RecoveryError, recover};
use cairn_engine::shard::ShardConfig;
use cairn_engine::wal::{LogWrite, Lsn, SegmentSeq};
use cairn_engine::{
    Config, Input, MemberId, Output, Replica, RequestId, Shard, ShardId, ShardInput, ShardOutput,
    StreamId, Time, watch,
};

use crate::clock::Clock;
use crate::disk::{Disk, Torn};
use crate::network::{Fate, Network};
use crate::random::Random;
use crate::trace::Hasher;

/// How long things take, in nanoseconds; each is drawn between a tenth of this and this.
#[derive(Clone, Copy, Debug)]
pub struct Delays {
    /// A durable write.
    pub write_ns: u64,
    /// A hand-over between cores.
    pub hop_ns: u64,
}

impl Default for Delays {
    fn default() -> Self {
        Self { write_ns: 100_000, hop_ns: 10_000 }
    }
}

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Decides everything that chance decides.
    pub seed: u64,
    /// Cores of each member.
    pub shards: u16,
    /// How long things take.
    pub delays: Delays,
    /// Whether things take exactly that long, for scripts that people read.
    pub exact: bool,
}

/// Something that happens at its time.
#[derive(Debug)]
enum Happening {
    WakeReplica(Life),
    WakeShard(Life, ShardId),
    ToReplica(Life, Input),
    ToShard(Life, ShardId, ShardInput),
    LogWritten(Life),
    SnapshotWritten(Life),
    TreeWritten(Life),
    Deliver(Message),
    /// Somebody outside asked to be told.
    Alarm(u64),
}

/// What is to happen, by its time, and at the same time in the order in which it was planned.
///
/// The heap holds times and places only: what happens is large, and would be moved at each turn.
#[derive(Debug, Default)]
struct Queue {
    heap: BinaryHeap<Reverse<(u64, u64, usize)>>,
    planned: u64,
    places: Vec<Option<Happening>>,
    free: Vec<usize>,
}

impl Queue {
    fn push(&mut self, at_ns: u64, happening: Happening) {
        self.planned += 1;
        let place = self.free.pop().unwrap_or(self.places.len());
        if place == self.places.len() {
            self.places.push(None);
        }
        self.places[place] = Some(happening);
        self.heap.push(Reverse((at_ns, self.planned, place)));
    }

    fn pop(&mut self) -> Option<(u64, Happening)> {
        let Reverse((at_ns, _, place)) = self.heap.pop()?;
        self.free.push(place);
        Some((at_ns, self.places[place].take().expect("each place is in the heap once")))
    }

    fn next_ns(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at_ns, ..))| *at_ns)
    }
}

/// One run of a member's process, between a start and a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Life {
    member: MemberId,
    number: u64,
}

/// A member, up or down.
#[derive(Debug)]
struct Member {
    config: Config,
    clock: Clock,
    disk: Disk,
    lives: u64,
    /// The starts that its disk knows of.
    known_lives: Vec<Incarnation>,
    /// The disk as it was once, with the starts that it knew of.
    image: Option<(Disk, Vec<Incarnation>)>,
    /// Bytes to look for in entries on their way to this member, and what becomes of them, once.
    forgery: Option<(Vec<u8>, Vec<u8>)>,
    process: Option<Process>,
    /// The replica of the process that crashed last.
    corpse: Option<Replica>,
    /// No write to the disk ends before this.
    stalled_until_ns: u64,
    /// The next write to the disk fails.
    fails: bool,
}

#[derive(Debug)]
struct Process {
    replica: Replica,
    /// Each core's shard, and the view of the latest publication that reached it.
    shards: Vec<(Shard, View)>,
    /// Up to which entry each core knows the state.
    shown: Vec<Index>,
    /// When each is next woken, the replica first; to wake them once.
    wakes: Vec<Option<u64>>,
    /// When the last hand-over between two cores arrives: they arrive in order.
    last_hop: BTreeMap<(u16, u16), u64>,
    /// What would have happened during a pause, if there is one.
    paused: Option<Vec<Happening>>,
    /// After so many outputs the process crashes, leaving this.
    doomed: Option<(u64, Torn)>,
}

/// What can be seen from outside.
#[derive(Debug)]
pub enum Observation {
    /// A member started.
    Started(MemberId),
    /// A member could not start.
    Refused(MemberId, RecoveryError),
    /// A member crashed.
    Crashed(MemberId),
    /// A client was answered.
    Reply {
        /// By whom.
        member: MemberId,
        /// Which request.
        id: RequestId,
        /// The answer.
        result: Result<Response, Error>,
    },
    /// A watch stream was sent something.
    Watch {
        /// By whom.
        member: MemberId,
        /// On which core.
        shard: ShardId,
        /// On which stream.
        stream: StreamId,
        /// Up to which entry that core knew the state.
        shown: Index,
        /// What.
        response: watch::Response,
    },
    /// A member has a new state.
    Published(MemberId, Publication),
    /// A member said something to operators.
    Event(MemberId, Event),
    /// A member stopped of itself.
    Halted(MemberId, Halt),
    /// A member sent a message, and when it arrives, if it does.
    Sent(Message, Fate),
    /// A member began a write to its log.
    Wrote(MemberId, Written),
    /// A member stands still.
    Paused(MemberId),
    /// A member goes on.
    Resumed(MemberId),
    /// The time that somebody outside waited for.
    Alarm(u64),
}

/// A write to a log, without its bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The segment.
    pub segment: SegmentSeq,
    /// Where in it.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u64,
    /// Stands for them.
    pub hash: u64,
    /// What is in the log when they are durable.
    pub end: Lsn,
}

impl Written {
    fn of(write: &LogWrite) -> Self {
        let bytes = u64::try_from(write.bytes.len()).expect("64 bits");
        let LogWrite { segment, offset, end, .. } = *write;
        let mut hasher = Hasher::default();
        hasher.bytes(&write.bytes);
        Self { segment, offset, bytes, hash: hasher.finish(), end }
    }
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segment, offset, bytes, end, .. } = self;
        write!(f, "LogWrite({segment}.wal {offset}+{bytes} to {end})")
    }
}

/// The world.
#[derive(Debug)]
pub struct World {
    options: Options,
    now_ns: u64,
    queue: Queue,
    members: BTreeMap<MemberId, Member>,
    /// The network between the members.
    pub network: Network,
    random: Random,
    observed: VecDeque<Observation>,
    steps: u64,
}

impl World {
    /// A world without members.
    pub fn new(options: Options) -> Self {
        Self {
            now_ns: 0,
            queue: Queue::default(),
            members: BTreeMap::new(),
            network: Network::new(options.seed),
            random: Random::new(options.seed, 1),
            observed: VecDeque::new(),
            steps: 0,
            options,
        }
    }

    /// Adds a member with an empty disk, not yet started.
    pub fn add_member(&mut self, config: Config, clock: Clock) {
        let id = config.id;
        let member = Member {
            config,
            clock,
            disk: Disk::default(),
            lives: 0,
            known_lives: Vec::new(),
            image: None,
            forgery: None,
            process: None,
            corpse: None,
            stalled_until_ns: 0,
            fails: false,
        };
        let before = self.members.insert(id, member);
        assert!(before.is_none(), "a member is added once");
    }

    /// True time since the world began, in nanoseconds.
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// How much has happened.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The members.
    pub fn members(&self) -> impl Iterator<Item = MemberId> {
        self.members.keys().copied()
    }

    /// Whether a member runs.
    pub fn is_up(&self, id: MemberId) -> bool {
        self.members[&id].process.is_some()
    }

    /// Up to which entry a core of a running member knows the state.
    pub fn shown(&self, id: MemberId, shard: ShardId) -> Index {
        let process = self.members[&id].process.as_ref();
        process.map_or(Index(0), |process| process.shown[usize::from(shard.0)])
    }

    /// With which version a member starts.
    pub fn version(&self, id: MemberId) -> &str {
        &self.members[&id].config.version
    }

    /// A running member's replica.
    pub fn replica(&self, id: MemberId) -> Option<&Replica> {
        self.members[&id].process.as_ref().map(|process| &process.replica)
    }

    /// A member's replica, as it is or as it was when it crashed.
    pub fn last_replica(&self, id: MemberId) -> Option<&Replica> {
        self.replica(id).or_else(|| self.members[&id].corpse.as_ref())
    }

    /// A member's disk.
    pub fn disk(&mut self, id: MemberId) -> &mut Disk {
        &mut self.member(id).disk
    }

    fn member(&mut self, id: MemberId) -> &mut Member {
        self.members.get_mut(&id).expect("a member of this world")
    }

    /// Whether there is a member of that name, running or not.
    pub fn has(&self, id: MemberId) -> bool {
        self.members.contains_key(&id)
    }

    /// Takes a member's disk away and gives it an empty one; it is down.
    pub fn wipe(&mut self, id: MemberId) {
        let member = self.member(id);
        assert!(member.process.is_none(), "the disk of a process is its own");
        member.disk = Disk::default();
        member.known_lives.clear();
    }

    /// Copies a member's disk, as a crash would leave it.
    pub fn take_image(&mut self, id: MemberId) {
        let member = self.member(id);
        let mut disk = member.disk.clone();
        disk.crash(Torn::Nothing, &mut Random::new(0, 4));
        member.image = Some((disk, member.known_lives.clone()));
    }

    /// The starts that the copy of a member's disk knows of, if there is one.
    pub fn image_lives(&self, id: MemberId) -> Option<&[Incarnation]> {
        self.members[&id].image.as_ref().map(|(_, lives)| lives.as_slice())
    }

    /// Gives a member the copy of its disk in place of its disk; it is down.
    pub fn roll_back(&mut self, id: MemberId) {
        let member = self.member(id);
        assert!(member.process.is_none(), "the disk of a process is its own");
        (member.disk, member.known_lives) = member.image.clone().expect("there is a copy");
    }

    /// Gives two members each other's disks, with the starts that these know of; both are down.
    pub fn swap_disks(&mut self, one: MemberId, other: MemberId) {
        let mut taken = self.members.remove(&one).expect("a member of this world");
        let member = self.member(other);
        assert!(taken.process.is_none() && member.process.is_none(), "both are down");
        core::mem::swap(&mut taken.disk, &mut member.disk);
        core::mem::swap(&mut taken.known_lives, &mut member.known_lives);
        self.members.insert(one, taken);
    }

    /// The present start of a member, or its last.
    pub fn incarnation(&self, id: MemberId) -> Incarnation {
        self.members[&id].known_lives.last().copied().unwrap_or_default()
    }

    /// Lets a member start with other settings next time.
    pub fn reconfigure(&mut self, id: MemberId, change: impl FnOnce(&mut Config)) {
        change(&mut self.member(id).config);
    }

    /// Lets the memory of a member err, once: where the entries that it receives say one thing, it reads another, and
    /// no checksum tells. Both are equally long.
    pub fn forge(&mut self, id: MemberId, from: &[u8], to: &[u8]) {
        assert_eq!(from.len(), to.len(), "an error of memory changes no lengths");
        self.member(id).forgery = Some((from.to_vec(), to.to_vec()));
    }

    /// Starts a member from what its disk holds.
    pub fn start(&mut self, id: MemberId) {
        let seed = self.random.number();
        let (shards, now_ns) = (self.options.shards, self.now_ns);
        let member = self.member(id);
        assert!(member.process.is_none(), "a member runs once");
        member.lives += 1;
        let lives = Lives { now: Incarnation(seed | 1), before: member.known_lives.clone() };
        member.known_lives.push(lives.now);
        let config = Config { seed, lives, ..member.config.clone() };
        let recovery = match recover(&mut member.disk, config.cluster, config.id, true) {
            Ok(recovery) => recovery,
            Err(error) => {
                self.observed.push_back(Observation::Refused(id, error));
                return;
            }
        };
        let now = member.clock.read(now_ns);
        let shard_config =
            ShardConfig { cluster: config.cluster, member: config.id, limits: config.limits, seed };
        let mut replica = Replica::new(config, recovery, now);
        let first = loop {
            match replica.poll() {
                Some(Output::Publish(first)) => break first,
                Some(Output::CondemnTree(tree)) => member.disk.condemn_tree(tree),
                // What it read to get there is damaged.
                Some(Output::Halt(halt)) => {
                    member.corpse = Some(replica);
                    self.observed.push_back(Observation::Halted(id, halt));
                    return;
                }
                other => panic!("a replica begins with a publication, not with {other:?}"),
            }
        };
        let shard = |_| (Shard::new(shard_config, &first), first.view.clone());
        let shards: Vec<_> = (0..shards).map(shard).collect();
        let wakes = vec![None; shards.len() + 1];
        let shown = vec![first.applied; shards.len()];
        member.process = Some(Process {
            replica,
            shards,
            shown,
            wakes,
            last_hop: BTreeMap::new(),
            paused: None,
            doomed: None,
        });
        self.observed.push_back(Observation::Started(id));
        self.observed.push_back(Observation::Published(id, first));
        let life = self.life(id);
        self.pump_replica(life);
    }

    /// Ends a member's process; `torn` says what is left of the write that was under way.
    pub fn crash(&mut self, id: MemberId, torn: Torn) {
        let mut random = Random::new(self.random.number(), 2);
        let member = self.member(id);
        let process = member.process.take().expect("only what runs can crash");
        member.corpse = Some(process.replica);
        member.disk.crash(torn, &mut random);
        self.observed.push_back(Observation::Crashed(id));
    }

    /// Ends a member's process after so many of its outputs, in the middle of whatever it does then.
    pub fn crash_after(&mut self, id: MemberId, outputs: u64, torn: Torn) {
        self.process(id).doomed = Some((outputs, torn));
    }

    /// Takes back what [`World::crash_after`] said, if it has not come to that.
    pub fn spare(&mut self, id: MemberId) {
        if let Some(process) = &mut self.member(id).process {
            process.doomed = None;
        }
    }

    /// Stops a member's process for a while: nothing happens to it until it is resumed. Its clock runs on.
    pub fn pause(&mut self, id: MemberId) {
        self.process(id).paused.get_or_insert_default();
        self.observed.push_back(Observation::Paused(id));
    }

    /// Ends a pause, if the member's process still runs; what should have happened happens now, in the same order.
    pub fn resume_if_paused(&mut self, id: MemberId) {
        let process = self.member(id).process.as_mut();
        let Some(held) = process.and_then(|process| process.paused.take()) else { return };
        self.observed.push_back(Observation::Resumed(id));
        for happening in held {
            self.schedule(self.now_ns, happening);
        }
    }

    /// Lets no write of a member's disk end for a while.
    pub fn stall_disk(&mut self, id: MemberId, for_ns: u64) {
        let until = self.now_ns + for_ns;
        self.member(id).stalled_until_ns = until;
    }

    /// Lets the next write of a member's disk fail, which ends its process.
    pub fn fail_disk(&mut self, id: MemberId) {
        self.member(id).fails = true;
    }

    /// Mends a member's disk: it neither stalls nor fails.
    pub fn mend_disk(&mut self, id: MemberId) {
        let member = self.member(id);
        (member.stalled_until_ns, member.fails) = (0, false);
    }

    /// Lets a member's clock jump ahead.
    pub fn jump_clock(&mut self, id: MemberId, by_ns: u64) {
        self.member(id).clock.offset_ns += by_ns;
        if self.is_up(id) {
            // What was planned by the clock is due earlier.
            let life = self.life(id);
            self.process(id).wakes.fill(None);
            self.plan_replica(life);
            for shard in (0..self.options.shards).map(ShardId) {
                self.plan_shard(life, shard);
            }
        }
    }

    /// A member's clock.
    pub fn clock(&self, id: MemberId) -> Clock {
        self.members[&id].clock
    }

    /// How often a member was started.
    pub fn lives(&self, id: MemberId) -> u64 {
        self.members[&id].lives
    }

    /// Checks the structures of a running member. O(everything).
    ///
    /// # Panics
    /// If an invariant is broken.
    pub fn check(&self, id: MemberId) {
        let Some(process) = &self.members[&id].process else { return };
        process.replica.state().check();
        process.shards.iter().for_each(|(shard, _)| shard.check());
    }

    fn process(&mut self, id: MemberId) -> &mut Process {
        self.member(id).process.as_mut().expect("a running member")
    }

    fn life(&self, id: MemberId) -> Life {
        Life { member: id, number: self.members[&id].lives }
    }

    /// Sends a client's request to a core of a running member.
    pub fn request(&mut self, member: MemberId, shard: ShardId, id: RequestId, request: Request) {
        self.request_as(Credential::None, (member, shard), id, request);
    }

    /// The same, from a client that shows something of itself.
    pub fn request_as(
        &mut self,
        credential: Credential,
        (member, shard): (MemberId, ShardId),
        id: RequestId,
        request: Request,
    ) {
        let life = self.life(member);
        match request.route() {
            Route::Shard => {
                let input = ShardInput::Request { id, credential, request };
                self.hop_to_shard(life, shard, shard, input);
            }
            Route::Replica => {
                self.hop_to_replica(life, shard, Input::Request { id, credential, request });
            }
        }
    }

    /// Gives a core of a member something about its watch streams; if the member is down, nobody hears it.
    pub fn watch(&mut self, member: MemberId, shard: ShardId, input: ShardInput) {
        if !self.is_up(member) {
            return;
        }
        self.hop_to_shard(self.life(member), shard, shard, input);
    }

    /// Lets a message arrive that nobody sent.
    pub fn inject(&mut self, message: Message) {
        self.schedule(self.now_ns, Happening::Deliver(message));
    }

    /// Asks to observe [`Observation::Alarm`] after a while.
    pub fn alarm(&mut self, after_ns: u64, name: u64) {
        self.schedule(self.now_ns + after_ns, Happening::Alarm(name));
    }

    /// What was seen next, in order.
    pub fn observe(&mut self) -> Option<Observation> {
        self.observed.pop_front()
    }

    /// When something happens next.
    pub fn next_ns(&self) -> Option<u64> {
        self.queue.next_ns()
    }

    /// Lets the next thing happen; false if nothing is left to happen.
    pub fn step(&mut self) -> bool {
        let Some((at, happening)) = self.queue.pop() else { return false };
        self.now_ns = self.now_ns.max(at);
        self.steps += 1;
        self.happen(happening);
        true
    }

    /// Lets everything happen until a time, which then is the present.
    pub fn run_until(&mut self, until_ns: u64) {
        while self.next_ns().is_some_and(|next| next <= until_ns) {
            self.step();
        }
        self.now_ns = self.now_ns.max(until_ns);
    }

    fn schedule(&mut self, at_ns: u64, happening: Happening) {
        self.queue.push(at_ns.max(self.now_ns), happening);
    }

    /// Between a tenth of `about_ns` and all of it.
    fn delay(&mut self, about_ns: u64) -> u64 {
        if self.options.exact {
            return about_ns;
        }
        self.random.between(about_ns / 10, about_ns.max(1))
    }

    fn happen(&mut self, happening: Happening) {
        let life = match &happening {
            Happening::WakeReplica(life)
            | Happening::WakeShard(life, _)
            | Happening::ToReplica(life, _)
            | Happening::ToShard(life, _, _)
            | Happening::LogWritten(life)
            | Happening::SnapshotWritten(life)
            | Happening::TreeWritten(life) => Some(*life),
            // Nobody may be there yet.
            Happening::Deliver(message) if self.has(message.to) => Some(self.life(message.to)),
            Happening::Deliver(_) => None,
            Happening::Alarm(name) => {
                self.observed.push_back(Observation::Alarm(*name));
                None
            }
        };
        let Some(life) = life else { return };
        if !self.is_up(life.member) || life != self.life(life.member) {
            return; // It belonged to an earlier life.
        }
        if let Some(held) = &mut self.process(life.member).paused {
            return held.push(happening);
        }
        match happening {
            Happening::WakeReplica(_) => {
                if self.is_planned(life, 0) {
                    self.step_replica(life, Input::Wake);
                }
            }
            Happening::WakeShard(_, shard) => {
                if self.is_planned(life, usize::from(shard.0) + 1) {
                    self.step_shard(life, shard, ShardInput::Wake);
                }
            }
            Happening::ToReplica(_, input) => self.step_replica(life, input),
            Happening::ToShard(_, shard, input) => self.step_shard(life, shard, input),
            Happening::LogWritten(_)
            | Happening::SnapshotWritten(_)
            | Happening::TreeWritten(_)
                if self.is_stalled(life) =>
            {
                let until = self.members[&life.member].stalled_until_ns;
                self.schedule(until, happening);
            }
            Happening::LogWritten(_)
            | Happening::SnapshotWritten(_)
            | Happening::TreeWritten(_)
                if self.members[&life.member].fails =>
            {
                self.member(life.member).fails = false;
                self.crash(life.member, Torn::AnySectors);
            }
            Happening::LogWritten(_) => {
                let write = self.member(life.member).disk.complete();
                self.step_replica(life, Input::LogWritten { to: write.end });
            }
            Happening::SnapshotWritten(_) => {
                self.member(life.member).disk.complete_part();
                self.step_replica(life, Input::SnapshotWritten);
            }
            Happening::TreeWritten(_) => {
                let pages = self.member(life.member).disk.complete_tree_write();
                self.step_replica(life, Input::TreeWritten { pages });
            }
            Happening::Deliver(message) => {
                let message = self.misread(message);
                self.step_replica(life, Input::Message(message));
            }
            Happening::Alarm(_) => {}
        }
    }

    /// The message as its receiver reads it.
    fn misread(&mut self, mut message: Message) -> Message {
        let member = self.member(message.to);
        let Some((from, to)) = &member.forgery else { return message };
        let peer::Body::Raft { body: raft::message::Body::Append { entries, .. }, .. } =
            &mut message.body
        else {
            return message;
        };
        let mut forged = false;
        for entry in entries.iter_mut() {
            let place = entry.data.windows(from.len()).position(|window| window == from);
            if let Some(place) = place {
                let mut data = entry.data.to_vec();
                data[place..place + to.len()].copy_from_slice(to);
                *entry = raft::Entry::new(entry.index, entry.term, entry.kind, data.into());
                forged = true;
            }
        }
        if forged {
            member.forgery = None;
        }
        message
    }

    fn is_stalled(&self, life: Life) -> bool {
        self.members[&life.member].stalled_until_ns > self.now_ns
    }

    /// Counts an output of a process; false if it has crashed, now or before.
    fn outlives_output(&mut self, life: Life) -> bool {
        if !self.is_up(life.member) {
            return false; // It stopped of itself.
        }
        let doomed = &mut self.process(life.member).doomed;
        match doomed {
            Some((0, torn)) => {
                let torn = *torn;
                self.crash(life.member, torn);
                false
            }
            Some((outputs, _)) => {
                *outputs -= 1;
                true
            }
            None => true,
        }
    }

    fn now_of(&self, id: MemberId) -> Time {
        self.members[&id].clock.read(self.now_ns)
    }

    fn step_replica(&mut self, life: Life, input: Input) {
        let now = self.now_of(life.member);
        self.process(life.member).replica.step(now, input);
        self.pump_replica(life);
    }

    /// Carries out what the replica wants, until it wants nothing more.
    fn pump_replica(&mut self, life: Life) {
        while let Some(output) = self.process(life.member).replica.poll() {
            self.carry_out(life, output);
            if !self.outlives_output(life) {
                return;
            }
        }
        self.plan_replica(life);
    }

    fn plan_replica(&mut self, life: Life) {
        let deadline = self.process(life.member).replica.deadline();
        self.wake_at(life, 0, deadline, Happening::WakeReplica(life));
    }

    fn step_shard(&mut self, life: Life, shard: ShardId, input: ShardInput) {
        let now = self.now_of(life.member);
        if let ShardInput::Published(publication) = &input {
            self.process(life.member).shown[usize::from(shard.0)] = publication.applied;
        }
        let (machine, view) = self.shard(life, shard);
        if let ShardInput::Published(publication) = &input {
            *view = publication.view.clone();
        }
        machine.step(now, view, input);
        while let Some(output) = self.shard(life, shard).0.poll() {
            match output {
                ShardOutput::Reply { id, result } => {
                    self.observed.push_back(Observation::Reply { member: life.member, id, result });
                }
                ShardOutput::TokenUsed { index } => {
                    self.hop_to_replica(life, shard, Input::TokenUsed { index });
                }
                ShardOutput::ReadIndex { token } => {
                    self.hop_to_replica(life, shard, Input::ReadIndex { shard, token });
                }
                ShardOutput::Watch { stream, response } => {
                    let member = life.member;
                    let shown = self.shown(member, shard);
                    self.observed.push_back(Observation::Watch {
                        member,
                        shard,
                        stream,
                        shown,
                        response,
                    });
                }
            }
            if !self.outlives_output(life) {
                return;
            }
        }
        self.plan_shard(life, shard);
    }

    fn plan_shard(&mut self, life: Life, shard: ShardId) {
        let deadline = self.shard(life, shard).0.deadline();
        self.wake_at(life, usize::from(shard.0) + 1, deadline, Happening::WakeShard(life, shard));
    }

    fn shard(&mut self, life: Life, shard: ShardId) -> &mut (Shard, View) {
        &mut self.process(life.member).shards[usize::from(shard.0)]
    }

    /// Whether somebody is to be woken now. If not, an earlier deadline was found after this wake was planned.
    fn is_planned(&mut self, life: Life, who: usize) -> bool {
        let now_ns = self.now_ns;
        self.process(life.member).wakes[who].take_if(|planned| *planned <= now_ns).is_some()
    }

    /// Makes sure that somebody is woken at a deadline, or a little later.
    fn wake_at(&mut self, life: Life, who: usize, deadline: Option<Time>, wake: Happening) {
        let Some(at) = deadline.and_then(|time| self.members[&life.member].clock.when(time)) else {
            return;
        };
        let at = at.max(self.now_ns + 1);
        let planned = self.process(life.member).wakes[who];
        if planned.is_none_or(|planned| at < planned) {
            self.process(life.member).wakes[who] = Some(at);
            self.schedule(at, wake);
        }
    }

    fn carry_out(&mut self, life: Life, output: Output) {
        let id = life.member;
        match output {
            Output::Send(message) => {
                let fate = self.network.fate(self.now_ns, &message);
                for delay_ns in fate.into_iter().flatten() {
                    self.schedule(self.now_ns + delay_ns, Happening::Deliver(message.clone()));
                }
                self.observed.push_back(Observation::Sent(message, fate));
            }
            Output::AppendLog(write) => {
                self.observed.push_back(Observation::Wrote(life.member, Written::of(&write)));
                self.member(life.member).disk.begin(write);
                let delay = self.delay(self.options.delays.write_ns);
                self.schedule(self.now_ns + delay, Happening::LogWritten(life));
            }
            Output::RetireSegments(segments) => self.member(life.member).disk.retire(&segments),
            Output::WriteSnapshot(part) => {
                self.member(life.member).disk.begin_part(part);
                let delay = self.delay(self.options.delays.write_ns);
                self.schedule(self.now_ns + delay, Happening::SnapshotWritten(life));
            }
            Output::WriteTree(write) => {
                self.member(life.member).disk.begin_tree_write(write);
                let delay = self.delay(self.options.delays.write_ns);
                self.schedule(self.now_ns + delay, Happening::TreeWritten(life));
            }
            Output::RemoveTree(id) => self.member(life.member).disk.remove_tree(id),
            Output::CondemnTree(id) => self.member(life.member).disk.condemn_tree(id),
            Output::Reply { id, result } => {
                self.observed.push_back(Observation::Reply { member: life.member, id, result });
            }
            Output::Publish(publication) => {
                for shard in (0..self.options.shards).map(ShardId) {
                    let input = ShardInput::Published(publication.clone());
                    self.hop_to_shard(life, ShardId(0), shard, input);
                }
                self.observed.push_back(Observation::Published(life.member, publication));
            }
            Output::ReadIndex(answer) => self.answer_read(life, answer),
            Output::Peers(_) => {}
            Output::Known(life) => {
                // What is before it can be forgotten.
                let lives = &mut self.member(id).known_lives;
                if let Some(place) = lives.iter().position(|known| *known == life) {
                    drop(lives.drain(..place));
                }
            }
            Output::Event(event) => self.observed.push_back(Observation::Event(life.member, event)),
            Output::Halt(halt) => {
                self.observed.push_back(Observation::Halted(life.member, halt));
                self.crash(life.member, Torn::AnySectors);
            }
        }
    }

    fn answer_read(&mut self, life: Life, answer: ReadIndexAnswer) {
        self.hop_to_shard(life, ShardId(0), answer.shard, ShardInput::ReadIndex(answer));
    }

    fn hop_to_replica(&mut self, life: Life, from: ShardId, input: Input) {
        let at = self.hop(life, from.0 + 1, 0);
        self.schedule(at, Happening::ToReplica(life, input));
    }

    /// From the replica's core, or from outside, to a shard.
    fn hop_to_shard(&mut self, life: Life, from: ShardId, to: ShardId, input: ShardInput) {
        let at = self.hop(life, from.0, to.0 + 1);
        self.schedule(at, Happening::ToShard(life, to, input));
    }

    /// When a hand-over between two cores arrives: later than the one before it.
    fn hop(&mut self, life: Life, from: u16, to: u16) -> u64 {
        let delay = self.delay(self.options.delays.hop_ns);
        let earliest = self.now_ns + delay;
        let last = self.process(life.member).last_hop.entry((from, to)).or_default();
        *last = earliest.max(*last + 1);
        *last
    }
}
