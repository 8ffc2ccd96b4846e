//! One member: routes each input to the module that knows, and gathers what comes out.
//!
//! Nothing is decided here about agreement, durability or keys. What is here is the order in which the modules
//! are asked ([`Replica::advance`]), the rule that a promise waits for the log, and who waits for which answer.
//!
//! ```text
//!  Request ──► propose ──► raft ──► wal ──► AppendLog ─ ─► LogWritten ──► promises released
//!                 │                                                            │
//!                 └─ not the leader? forward                                   │
//!  Reply ◄── state machine ◄── apply ◄──────────── committed ◄── raft ◄────────┘
//!  Publish ◄──────┘
//! ```
//!
//! | file | what |
//! |---|---|
//! | requests, entries | the way of what clients ask, and of an entry |
//! | proposals, forward | who waits for which entry: at the leader, and at a member that passed something on |
//! | reads | who waits for a read index |
//! | clients | who asks, and what waits until that can be told |
//! | members | changes of the members, and who this one is |
//! | trust | whether this member may promise anything |
//! | vouch | what it may promise on the word of the others |
//! | sender, installer | snapshots on their way to peers, and from the leader |
//! | digests | whether states are the same |
//! | compactor, snapshotter, checkpointer | long work in slices |
//! | maintenance | answers from what the member knows |

use alloc::collections::{BTreeSet, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::api::Response;
use crate::api::etcdserverpb::CompactionResponse;
use crate::auth::{Auth, Author, Tokens};
use crate::auto_compact::AutoCompactor;
use crate::cluster::{Cluster, Record, Wish};
use crate::command::Command;
use crate::config::{self, Config, Storage};
use crate::event::{Event, Halt, Input, Output, Publication};
use crate::ids::MemberId;
use crate::lease::ClusterTime;
use crate::lease::keeper::Keeper;
use crate::mvcc::base::SharedPages;
use crate::peer::Incarnation;
use crate::raft::log::Log;
use crate::raft::membership::Membership;
use crate::raft::message::LogEnd;
use crate::raft::{self, Durable, EntryKind, Index, Raft, RoleName, Term};
use crate::recovery::Recovery;
use crate::rng::Rng;
use crate::snapshot::Position;
use crate::state_machine::{Changes, StateMachine};
use crate::storage::Damage;
use crate::time::Time;
use crate::tree_file::TreeFileId;
use crate::wal::Writer;
use crate::wal::writer::{self, Barrier};

mod checkpointer;
mod clients;
mod compactor;
mod digests;
mod entries;
mod forward;
mod installer;
mod maintenance;
mod members;
mod peers;
mod proposals;
mod reads;
mod requests;
mod sender;
mod snapshotter;
mod tally;
mod trust;
mod vouch;

use checkpointer::Checkpointer;
use clients::Parked;
use compactor::Compactor;
use digests::Digests;
use forward::{Forwards, Gate};
use installer::Installer;
use members::Members;
use proposals::{Proposals, Waiter};
use reads::Reads;
use sender::Sender;
use snapshotter::Snapshotter;
use trust::Trust;
use vouch::Vouchers;

pub use maintenance::ReplicaStatus;
pub use tally::{TTL_BOUNDS, Tally};

/// One member of a cluster. See the crate's contract for how to drive it.
#[derive(Debug)]
pub struct Replica {
    config: Config,
    now: Time,
    rng: Rng,
    raft: Raft,
    wal: Writer,
    state: StateMachine,
    /// The place in the log whose effect is in `state`.
    applied: LogEnd,
    /// Promises that wait until what they promise is durable, oldest first.
    held: VecDeque<(Barrier, raft::message::Message)>,
    proposals: Proposals,
    forwards: Forwards,
    gate: Gate,
    reads: Reads,
    keeper: Keeper,
    tokens: Tokens,
    /// The end of the log when this member started: tokens that were assigned up to there are good no more.
    started_at: Index,
    parked: VecDeque<Parked>,
    members: Members,
    trust: Trust,
    vouchers: Vouchers,
    /// The term of the leader, and the entry, as of which it last told what it knows of this member; before that, the end
    /// of what this member knows that such a leader has.
    weighed: (Term, Index),
    /// As of this entry the leader said that this member does not vote, knowing that it has forgotten.
    voteless_from: Option<Index>,
    sender: Sender,
    installer: Installer,
    digests: Digests,
    /// What was done, for those who watch.
    tally: Tally,
    /// When the digest is told next, while this member leads others.
    next_digest: Time,
    /// While this member leads and is to compact of itself.
    auto_compactor: Option<AutoCompactor>,
    compactor: Compactor,
    snapshotter: Snapshotter,
    /// In place of the snapshotter, where the state is kept in trees.
    checkpointer: Option<Checkpointer>,
    /// Tree files that say what the state covered that was lost, until there is another.
    condemned: Vec<TreeFileId>,
    /// Members that have told that their state is lost.
    stateless: BTreeSet<MemberId>,
    /// Changes applied since the last publication.
    changes: Vec<Changes>,
    published: Standing,
    /// The incarnation of this member that the cluster knows, as far as this member does.
    known: Incarnation,
    /// The version that all members have, for publications.
    cluster_version: Arc<str>,
    /// Whether this leader has looked whether all members have a later version.
    version_checked: bool,
    /// The term in which this member leads, if it does.
    leading: Option<Term>,
    /// When this member lost its leader, if it did.
    leader_lost: Option<Time>,
    /// When it was last seen that a write to the log takes too long.
    stalled: Option<Time>,
    /// This member was removed, and stops then at the latest.
    farewell: Option<Time>,
    halted: bool,
    outputs: VecDeque<Output>,
    /// Answers that leave behind the next publication.
    replies: VecDeque<Output>,
}

/// What shards are told beside the key space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    applied: Index,
    term: Term,
    role: RoleName,
    leader: MemberId,
}

/// Something that a client asks of the log.
#[derive(Debug)]
enum Ask {
    Command(Command),
    Wish(Wish),
}

/// The first byte of a forwarded [`Wish`]; no command has this tag.
const WISH: u8 = 0x7f;

impl Replica {
    /// A member that goes on from what [`recover`](crate::recovery::recover) found.
    pub fn new(config: Config, recovery: Recovery, now: Time) -> Self {
        let Recovery { newest, second, mut state, mut log, snapshot_bytes, damaged: _, .. } =
            recovery;
        let (trees, other_trees) = (recovery.trees, recovery.other_trees);
        let awaits_state = recovery.missing.is_some();
        let missing = recovery.missing.unwrap_or_default();
        let mut rng = Rng::new(config.seed);
        let covered = LogEnd { index: newest.index, term: newest.term };
        let applied = if awaits_state { LogEnd::default() } else { covered };
        let entries = core::mem::take(&mut log.entries);
        let last = entries.last().map_or((covered.index, covered.term), |e| (e.index, e.term));
        let wal_config = writer::Config {
            cluster: config.cluster,
            member: config.id,
            segment_bytes: config.limits.segment_bytes,
            first_segment_bytes: config.limits.first_segment_bytes,
        };
        let raft_config = raft::Config {
            id: config.id,
            election_timeout: config.election_timeout,
            heartbeat_interval: config.heartbeat_interval,
            append_bytes_max: config.limits.append_bytes_max,
            appends_in_flight_max: config.limits.appends_in_flight_max,
        };
        if awaits_state {
            state.auth = Arc::new(Auth::unknown());
            // To find those who can bring it.
            state.cluster = missing.cluster;
        }
        if state.cluster.membership().is_empty() {
            state.cluster = Cluster::new(config.members.iter().map(to_record));
        }
        if newest.vote.0 > log.hard_state.term {
            // The log lost its end, and with it nothing that was promised later than the snapshot.
            (log.hard_state.term, log.hard_state.vote) = newest.vote;
        }
        // What the snapshot covers is committed, even if no batch said so.
        let commit = if config.force_new_cluster { last.0 } else { log.hard_state.commit };
        log.hard_state.commit = commit.clamp(covered.index, last.0);
        let hard_state = log.hard_state;
        let mut wal = Writer::new(wal_config, &log, last, rng.fork());
        if newest.restarts && entries.is_empty() {
            // Perhaps the log does not say so yet, and what it says may not be taken for what leads up to the snapshot.
            wal.restart(newest.index, newest.term);
        }
        let membership =
            if awaits_state { missing.membership } else { state.cluster.membership().clone() };
        // One that never promised anything may remember a term, and knows whether it may promise no better (T4).
        let is_empty = last.0 == Index(0) && !hard_state.vote.is_some();
        let blank = is_empty || hard_state.vote == raft::FORFEITED;
        // What the leader of this term wrote, it holds; what an earlier one did, may never be.
        let of_term = last.1 == hard_state.term;
        let weighed = (hard_state.term, if of_term { last.0 } else { hard_state.commit });
        let durable = Durable { hard_state, log: Log::new(covered, entries), membership };
        let mut raft = Raft::new(raft_config, durable, rng.fork(), now);
        if awaits_state {
            raft.await_state();
        }
        if config.force_new_cluster {
            raft.force_membership(Membership::new([config.id]), now);
        }
        let unused = other_trees.iter().chain(&missing.trees).copied();
        let last_id = unused.chain(trees.iter().map(|(file, _)| file.id)).max();
        let checkpointer = (config.storage == Storage::Trees).then(|| {
            let last_id = last_id.unwrap_or(TreeFileId(0));
            Checkpointer::new(&config, &mut rng, (newest, second), last_id, trees)
        });
        let alone = raft.membership().is_alone(config.id);
        let timeout = config.request_timeout();
        let standing = Standing {
            applied: applied.index,
            term: hard_state.term,
            role: raft.role(),
            leader: MemberId::NONE,
        };
        let mut replica = Self {
            now,
            raft,
            wal,
            state,
            applied,
            held: VecDeque::new(),
            proposals: Proposals::new(timeout),
            forwards: Forwards::new(rng.next_u64()),
            gate: Gate::default(),
            reads: Reads::new(timeout),
            keeper: Keeper::default(),
            tokens: Tokens::default(),
            started_at: last.0,
            parked: VecDeque::new(),
            members: Members::default(),
            trust: if blank && !alone { Trust::Blank } else { Trust::Sound },
            vouchers: Vouchers::default(),
            weighed,
            voteless_from: None,
            sender: Sender::default(),
            installer: Installer::default(),
            digests: Digests::default(),
            tally: Tally::default(),
            next_digest: now,
            auto_compactor: None,
            compactor: Compactor::default(),
            snapshotter: Snapshotter::new(newest, second, snapshot_bytes),
            checkpointer,
            condemned: missing.trees,
            stateless: BTreeSet::new(),
            changes: Vec::new(),
            published: standing,
            known: Incarnation::NONE,
            cluster_version: Arc::from(""),
            version_checked: false,
            leading: None,
            leader_lost: None,
            stalled: None,
            farewell: None,
            halted: false,
            outputs: VecDeque::new(),
            replies: VecDeque::new(),
            rng,
            config,
        };
        replica.apply_committed();
        replica.members_changed();
        // The first output is a publication; what the log had to tell on the way there comes behind it.
        let told = core::mem::take(&mut replica.outputs);
        replica.publish(replica.standing());
        replica.outputs.extend(told);
        replica.outputs.extend(other_trees.into_iter().map(Output::RemoveTree));
        replica
    }

    /// Takes an input. What follows from it comes out of [`Replica::poll`].
    pub fn step(&mut self, now: Time, input: Input) {
        self.now = now;
        match input {
            Input::Wake => {}
            Input::Request { id, credential, request } => {
                self.take_request(id, credential, request);
            }
            Input::TokenUsed { index } => {
                self.tokens.used(now, self.config.limits.token_ttl, index);
            }
            Input::ReadIndex { shard, token } => {
                self.reads.push(now, reads::Asker::Shard(shard, token));
            }
            Input::Message(message) => self.hear(message),
            Input::PeerDown(peer) => self.raft.peer_down(now, peer),
            Input::LogWritten { to } => {
                self.wal.written(now, to);
                self.stalled = None;
            }
            Input::SnapshotWritten => self.snapshot_written(),
            Input::TreeWritten { pages } => self.tree_written(pages),
        }
    }

    /// The next thing to do; `None`: nothing, until the next step.
    pub fn poll(&mut self) -> Option<Output> {
        if self.outputs.is_empty() {
            self.advance();
        }
        if let Some(damage) = self.state.store.damage().filter(|_| !self.halted) {
            // Nothing that follows from what could not be read may leave.
            self.outputs.clear();
            self.replies.clear();
            self.halt_for_damage(damage);
        }
        self.outputs.pop_front()
    }

    /// When [`Input::Wake`] is due; it may lie in the past.
    pub fn deadline(&self) -> Option<Time> {
        let sweeping = self.state.store.sweeping().map(|_| self.now);
        // What is not proposed wakes nobody, or it would do so without end.
        let proposes = self.may_propose();
        let leases = self.keeper.deadline(&self.state.lessor);
        let compaction = self.auto_compactor.as_ref().map(AutoCompactor::deadline);
        [
            Some(self.raft.deadline()),
            self.wal.deadline(),
            self.proposals.deadline(),
            self.forwards.deadline(self.config.request_timeout()),
            self.reads.deadline(),
            self.retry_deadline(),
            self.members.deadline(),
            self.parked.front().map(|parked| parked.deadline),
            self.publish_deadline(),
            self.farewell,
            self.sender.deadline(&self.config.limits),
            self.installer.deadline(),
            self.leads_others().then_some(self.next_digest),
            self.stall_deadline(),
            leases.filter(|_| proposes && self.may_end_leases()),
            compaction.filter(|_| proposes),
            sweeping,
            self.checkpointer.as_ref().filter(|it| it.is_merging()).map(|_| self.now),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// When what was said to the leader is to be said again.
    fn retry_deadline(&self) -> Option<Time> {
        if self.leading.is_some() || !self.raft.leader().is_some() {
            return None;
        }
        self.forwards.retry_deadline().into_iter().chain(self.reads.retry_deadline()).min()
    }

    /// Asks every module in turn until none has anything more to say.
    fn advance(&mut self) {
        if self.halted {
            return;
        }
        if self.farewell.is_some_and(|at| at <= self.now) {
            return self.halt(Halt::Removed);
        }
        self.raft.wake(self.now);
        loop {
            self.follow_role();
            self.tend_members();
            self.hand_over_stateless();
            self.propose_own();
            self.forward();
            self.ask_reads();
            self.raft.flush(self.now);
            self.save();
            self.route_messages();
            let progressed = self.release_promises() | self.apply_committed() | self.unpark();
            self.answer_reads();
            if !progressed {
                break;
            }
        }
        if self.halted {
            return self.outputs.append(&mut self.replies);
        }
        self.refuse_lost();
        self.tell_digest();
        self.move_snapshots();
        self.write();
        self.watch_disk();
        let swept = self.sweep();
        let standing = self.standing();
        if swept || standing != self.published || self.tokens.is_changed() {
            self.publish(standing);
        }
        // Behind the publication: who reads after the answer to its write finds what it wrote, and the view that
        // a shard is lent is that of the latest publication.
        self.outputs.append(&mut self.replies);
    }

    /// Notices that this member began or ceased to lead, or lost its leader.
    fn follow_role(&mut self) {
        if self.published.leader.is_some() && !self.raft.leader().is_some() {
            self.leader_lost = Some(self.now);
        }
        // Who leads without a state only brings the log to others, and lets one of them lead.
        let leads = self.raft.role() == RoleName::Leader && !self.raft.is_awaiting_state();
        let leading = leads.then(|| self.raft.hard_state().term);
        if leading == self.leading {
            return;
        }
        self.leading = leading;
        self.version_checked = false;
        let mode = self.config.auto_compaction.filter(|_| leads);
        self.auto_compactor = mode.map(|mode| AutoCompactor::new(mode, self.now));
        self.keeper.stop_leading();
        self.gate.forget();
        self.sender.keep_only(|_| false);
        self.stateless.clear();
        for (wish, id) in self.members.stop_leading() {
            // It was permitted when it was taken.
            self.dispatch(Ask::Wish(wish), Author::Member, Waiter::Client(id));
        }
        if leads {
            self.next_digest = self.now;
            self.keeper.begin_to_lead(self.now, self.latest_time());
        }
    }

    /// Whether this member leads others.
    fn leads_others(&self) -> bool {
        self.leading.is_some() && self.state.cluster.records().count() > 1
    }

    /// The latest time that the log or the state knows.
    fn latest_time(&self) -> ClusterTime {
        let mut newest = self.raft.log().iter().rev();
        newest
            .find_map(|entry| match entry.kind {
                EntryKind::Command => Command::time_of(&entry.data),
                EntryKind::Membership => {
                    Command::time_of(&Membership::from_entry(entry.data.clone())?.1)
                }
                EntryKind::Empty => None,
            })
            .unwrap_or_default()
            .max(self.state.time)
    }

    // The medium.

    /// Begins the writes that can begin.
    fn write(&mut self) {
        self.begin_saving();
        if let Some(write) = self.wal.poll(self.now) {
            self.outputs.push_back(Output::AppendLog(write));
        }
        if let Some(part) = self.snapshotter.poll() {
            self.outputs.push_back(Output::WriteSnapshot(part));
        }
        match self.checkpointer.as_mut().map(Checkpointer::poll) {
            Some(Ok(Some(write))) => self.outputs.push_back(Output::WriteTree(write)),
            Some(Err(damage)) => self.halt_for_damage(damage),
            Some(Ok(None)) | None => {}
        }
    }

    /// Begins to save the state, this member's or a leader's, if it is time to.
    fn begin_saving(&mut self) {
        let position = self.position();
        let newest = match &self.checkpointer {
            Some(checkpointer) => checkpointer.newest(),
            None => self.snapshotter.newest(),
        };
        let log_bytes = self.wal.bytes_since(newest.log_promise);
        let is_new = position.index > newest.index && self.installer.writing().is_none();
        let log_bytes_min = self.config.limits.snapshot_log_bytes;
        let Some(checkpointer) = &mut self.checkpointer else {
            if is_new && self.snapshotter.is_due(log_bytes, log_bytes_min) {
                self.snapshotter.begin(self.config.cluster, position, &self.state);
                self.event(Event::SnapshotStarted { index: position.index });
            }
            return;
        };
        if !checkpointer.is_idle() {
            return;
        }
        if let Some(writing) = self.installer.begin_writing() {
            let LogEnd { index, term } = writing.place;
            let position = Position { index, term, restarts: true, ..position };
            checkpointer.begin_file(position, &mut writing.state);
        } else if is_new && log_bytes >= log_bytes_min {
            checkpointer.begin(position, &mut self.state);
            self.event(Event::SnapshotStarted { index: position.index });
        }
    }

    /// What a snapshot of the present state covers.
    fn position(&self) -> Position {
        Position {
            index: self.applied.index,
            term: self.applied.term,
            log_start: self.wal.start_of(self.applied.index),
            log_promise: self.wal.durable(),
            vote: (self.raft.hard_state().term, self.raft.hard_state().vote),
            restarts: false,
        }
    }

    fn snapshot_written(&mut self) {
        let Some((index, bytes)) = self.snapshotter.written() else { return };
        self.event(Event::SnapshotFinished { index, bytes });
        self.install(self.snapshotter.newest(), None);
        self.retire_log(self.snapshotter.second());
    }

    fn tree_written(&mut self, pages: SharedPages) {
        let checkpointer = self.checkpointer.as_mut().expect("who writes trees has them");
        let Some(made) = checkpointer.written(pages) else { return };
        let (index, bytes) = (made.position.index, made.bytes);
        self.event(Event::SnapshotFinished { index, bytes });
        if !made.position.restarts {
            self.state.store.rebase(Arc::clone(&made.base));
        }
        if let Some((file, _)) = &made.new_file {
            let id = file.id;
            let adopts = !made.position.restarts || self.install(made.position, Some(&made.base));
            let checkpointer = self.checkpointer.as_mut().expect("who writes trees has them");
            let unneeded = if adopts { checkpointer.adopt(made) } else { Some(id) };
            self.outputs.extend(unneeded.map(Output::RemoveTree));
        }
        let second = self.checkpointer.as_ref().map(Checkpointer::second);
        self.retire_log(second.expect("who writes trees has them"));
    }

    /// Gives back what the log has before a place that a restart begins at.
    fn retire_log(&mut self, from: Position) {
        let retired = self.wal.retire(from.log_start);
        if !retired.is_empty() {
            self.outputs.push_back(Output::RetireSegments(retired));
        }
    }

    // What others see.

    /// Sweeps a slice of a compaction; whether one came to its end.
    fn sweep(&mut self) -> bool {
        let changes_max = self.config.limits.sweep_changes_max;
        let Some(finished) = self.compactor.sweep(&mut self.state.store, changes_max) else {
            return false;
        };
        for id in finished.waiting {
            self.reply(id, Ok(Response::Compact(CompactionResponse::default())));
        }
        let (revision, removed) = (finished.revision, finished.removed);
        self.event(Event::CompactionFinished { revision, removed });
        true
    }

    fn standing(&self) -> Standing {
        Standing {
            applied: self.applied.index,
            term: self.raft.hard_state().term,
            role: self.raft.role(),
            leader: self.raft.leader(),
        }
    }

    fn publish(&mut self, standing: Standing) {
        let Standing { applied, term, role, leader } = standing;
        let before = core::mem::replace(&mut self.published, standing);
        if (before.term, before.role, before.leader) != (term, role, leader) {
            self.event(Event::Role { role, term, leader });
        }
        let cluster = &self.state.cluster;
        let has_new_version = *self.cluster_version != *cluster.version();
        if has_new_version {
            self.cluster_version = Arc::from(cluster.version());
        }
        let publication = Publication {
            view: self.state.store.view(),
            applied,
            changes: core::mem::take(&mut self.changes),
            term,
            leader,
            alarms: self.state.alarms.clone(),
            is_learner: cluster.membership().is_learner(self.config.id),
            cluster_version: Arc::clone(&self.cluster_version),
            auth: Arc::clone(&self.state.auth),
            tokens: self.tokens.tokens().clone(),
        };
        self.tokens.take_changed();
        self.outputs.push_back(Output::Publish(publication));
        if has_new_version {
            let version = String::from(&*self.cluster_version);
            let is_downgrade = version == self.state.cluster.downgrade();
            self.event(Event::ClusterVersion(version.clone()));
            if is_downgrade {
                self.event(Event::ReadyToDowngrade(version));
            }
        }
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// Stops, because a page is damaged; the next start gets the state from others, if there are any.
    fn halt_for_damage(&mut self, damage: Damage) {
        let file = self.checkpointer.as_ref().and_then(Checkpointer::file);
        let is_alone = self.raft.membership().is_alone(self.config.id);
        self.outputs.extend(file.filter(|_| !is_alone).map(Output::CondemnTree));
        self.halt(Halt::Damaged(damage));
    }

    fn halt(&mut self, halt: Halt) {
        self.halted = true;
        self.outputs.append(&mut self.replies);
        self.outputs.push_back(Output::Halt(halt));
    }
}

/// A member that the cluster began with.
fn to_record(member: &config::Member) -> Record {
    Record {
        id: member.id.0,
        name: member.name.clone(),
        peer_urls: member.peer_urls.clone(),
        client_urls: member.client_urls.clone(),
        ..Record::default()
    }
}
