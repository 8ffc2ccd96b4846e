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
//! | proposals, forward | who waits for which entry: at the leader, and at a member that passed something on |
//! | reads | who waits for a read index |
//! | members | changes of the members, and who this one is |
//! | trust | whether this member may promise anything |
//! | sender, installer | snapshots on their way to peers, and from the leader |
//! | digests | whether states are the same |
//! | compactor, snapshotter | long work in slices |
//! | maintenance | answers from what the member knows |

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::api::etcdserverpb::{
    CompactionRequest, CompactionResponse, LeaseKeepAliveResponse, ResponseHeader,
};
use crate::api::{Error, Request, Response};
use crate::auto_compact::AutoCompactor;
use crate::cluster::{Cluster, Record, Wish};
use crate::command::{Command, CommandKind, Origin, Stamp};
use crate::config::{self, Config};
use crate::event::{Event, Halt, Input, Output, Publication};
use crate::ids::{LeaseId, MemberId, RequestId};
use crate::lease::ClusterTime;
use crate::lease::keeper::{Keeper, Renewals};
use crate::peer::{Body, Incarnation};
use crate::quota;
use crate::raft::log::Log;
use crate::raft::membership::Membership;
use crate::raft::message::LogEnd;
use crate::raft::{self, Durable, Entry, EntryKind, Index, Raft, ReadToken, RoleName, Term};
use crate::recovery::Recovery;
use crate::rng::Rng;
use crate::snapshot::Position;
use crate::state_machine::{AlarmKind, Applied, Changes, Outcome, StateMachine};
use crate::time::Time;
use crate::wal::Writer;
use crate::wal::writer::{self, Barrier};

mod compactor;
mod digests;
mod forward;
mod installer;
mod maintenance;
mod members;
mod peers;
mod proposals;
mod reads;
mod sender;
mod snapshotter;
mod trust;

use compactor::Compactor;
use digests::Digests;
use forward::{Forwards, Gate};
use installer::Installer;
use members::Members;
use proposals::{Proposals, Waiter};
use reads::{Answered, Reads};
use sender::Sender;
use snapshotter::Snapshotter;
use trust::Trust;

pub use maintenance::ReplicaStatus;

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
    members: Members,
    trust: Trust,
    sender: Sender,
    installer: Installer,
    digests: Digests,
    /// When the digest is told next, while this member leads others.
    next_digest: Time,
    /// While this member leads and is to compact of itself.
    auto_compactor: Option<AutoCompactor>,
    compactor: Compactor,
    snapshotter: Snapshotter,
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
        let Recovery { newest, second, mut state, mut log, snapshot_bytes, damaged: _ } = recovery;
        let mut rng = Rng::new(config.seed);
        let applied = LogEnd { index: newest.index, term: newest.term };
        let entries = core::mem::take(&mut log.entries);
        let last = entries.last().map_or((applied.index, applied.term), |e| (e.index, e.term));
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
        if state.cluster.membership().is_empty() {
            state.cluster = Cluster::new(config.members.iter().map(to_record));
        }
        if newest.vote.0 > log.hard_state.term {
            // The log lost its end, and with it nothing that was promised later than the snapshot.
            (log.hard_state.term, log.hard_state.vote) = newest.vote;
        }
        // What the snapshot covers is committed, even if no batch said so.
        let commit = if config.force_new_cluster { last.0 } else { log.hard_state.commit };
        log.hard_state.commit = commit.clamp(applied.index, last.0);
        let hard_state = log.hard_state;
        let wal = Writer::new(wal_config, &log, last, rng.fork());
        let membership = state.cluster.membership().clone();
        // One that never promised anything may remember a term, and knows whether it may promise no better (T4).
        let is_empty = last.0 == Index(0) && !hard_state.vote.is_some();
        let blank = is_empty || hard_state.vote == raft::FORFEITED;
        let founders = config.members.iter().map(|member| member.id).collect();
        let log = Log::new(applied, entries);
        let durable = Durable { hard_state, log, membership, founders };
        let mut raft = Raft::new(raft_config, durable, rng.fork(), now);
        if config.force_new_cluster {
            raft.force_membership(Membership::new([config.id]), now);
        }
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
            members: Members::default(),
            trust: if blank && !alone { Trust::Blank } else { Trust::Sound },
            sender: Sender::default(),
            installer: Installer::default(),
            digests: Digests::default(),
            next_digest: now,
            auto_compactor: None,
            compactor: Compactor::default(),
            snapshotter: Snapshotter::new(newest, second, snapshot_bytes),
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
        replica
    }

    /// Takes an input. What follows from it comes out of [`Replica::poll`].
    pub fn step(&mut self, now: Time, input: Input) {
        self.now = now;
        match input {
            Input::Wake => {}
            Input::Request { id, request } => self.request(id, request),
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
        }
    }

    /// The next thing to do; `None`: nothing, until the next step.
    pub fn poll(&mut self) -> Option<Output> {
        if self.outputs.is_empty() {
            self.advance();
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
            self.publish_deadline(),
            self.farewell,
            self.sender.deadline(&self.config.limits),
            self.installer.deadline(),
            self.leads_others().then_some(self.next_digest),
            self.stall_deadline(),
            leases.filter(|_| proposes && self.may_end_leases()),
            compaction.filter(|_| proposes),
            sweeping,
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
            self.propose_own();
            self.forward();
            self.ask_reads();
            self.raft.flush(self.now);
            self.save();
            self.route_messages();
            let progressed = self.release_promises() | self.apply_committed();
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
        if swept || standing != self.published {
            self.publish(standing);
        }
        // Behind the publication: who reads after the answer to its write finds what it wrote, and the view that
        // a shard is lent is that of the latest publication.
        self.outputs.append(&mut self.replies);
    }

    // Requests and what becomes of them.

    fn request(&mut self, id: RequestId, request: Request) {
        if maintenance::needs_read_index(&request) {
            return self.reads.push(self.now, reads::Asker::Client(id, request));
        }
        if maintenance::is_local(&request) {
            let result = self.answer_locally(&request, ClusterTime(0));
            return self.reply(id, result);
        }
        if let Request::LeaseKeepAlive(lease) = request {
            self.keeper.renew(lease, id);
        } else if let Request::MoveLeader(target) = request {
            self.move_leader(id, target);
        } else if let Request::Members(wish) = request {
            self.dispatch(Ask::Wish(wish), Waiter::Client(id));
        } else if let Err(error) = self.admit(&request) {
            self.reply(id, Err(error));
        } else {
            let command = self.to_command(request);
            self.dispatch(Ask::Command(command), Waiter::Client(id));
        }
    }

    /// Puts something into the log: here, if this member leads, else by way of whoever does.
    fn dispatch(&mut self, ask: Ask, waiter: Waiter) {
        if self.may_propose() {
            return match (ask, waiter) {
                (Ask::Command(command), waiter) => self.propose(&command, waiter),
                (Ask::Wish(wish), Waiter::Client(id)) => {
                    self.wish(wish, members::Asker::Client(id));
                }
                (Ask::Wish(_), Waiter::Renewals(_) | Waiter::Nobody) => {
                    unreachable!("only clients have wishes")
                }
            };
        }
        let bytes = match ask {
            Ask::Command(command) => command.encode(Stamp::default()),
            Ask::Wish(wish) => {
                let mut bytes = alloc::vec![WISH];
                wish.encode(&mut bytes);
                Bytes::from(bytes)
            }
        };
        if self.admit_bytes(bytes.len(), &waiter) {
            self.forwards.push(self.now, bytes, waiter);
        }
    }

    /// Whether this member puts entries into the log now: it leads, and is not handing over.
    fn may_propose(&self) -> bool {
        self.leading.is_some() && !self.raft.is_transferring()
    }

    /// What a request says in the log. Whatever a leader chooses is chosen here.
    fn to_command(&self, request: Request) -> Command {
        match request {
            Request::Put(put) => Command::Put(put),
            Request::DeleteRange(delete) => Command::DeleteRange(delete),
            Request::Txn(txn) => Command::Txn(txn),
            Request::Compact(compaction) => Command::Compact(compaction),
            Request::LeaseGrant(mut grant) => {
                grant.ttl = grant.ttl.max(self.config.lease_ttl_min());
                Command::LeaseGrant(grant)
            }
            Request::LeaseRevoke(revoke) => Command::LeaseRevoke(revoke),
            Request::Alarm(alarm) => Command::Alarm(alarm),
            Request::Range(_)
            | Request::RangeStream(_)
            | Request::LeaseKeepAlive(_)
            | Request::LeaseTimeToLive(_)
            | Request::LeaseLeases
            | Request::MemberList(_)
            | Request::Status
            | Request::Defragment
            | Request::Hash
            | Request::HashKv(_)
            | Request::Snapshot
            | Request::Members(_)
            | Request::MoveLeader(_) => unreachable!("not proposed"),
        }
    }

    /// Refuses what would go beyond the quota, and then raises the alarm. The alarm itself is obeyed when a
    /// command is applied, by every member alike.
    fn admit(&mut self, request: &Request) -> Result<(), Error> {
        let cost = quota::cost(request);
        let quota = self.config.limits.quota_bytes.filter(|_| cost > 0);
        if quota.is_none_or(|quota| self.state.store.bytes() + cost < quota) {
            return Ok(());
        }
        if !self.state.alarms.is_raised(AlarmKind::NoSpace) {
            let alarm = maintenance::activate(AlarmKind::NoSpace, self.config.id);
            self.dispatch(Ask::Command(Command::Alarm(alarm)), Waiter::Nobody);
        }
        Err(Error::NoSpace)
    }

    /// Puts a command into the log, or tells whoever waits why not.
    fn propose(&mut self, command: &Command, waiter: Waiter) {
        let data = command.encode(self.keeper.stamp(self.now));
        if self.admit_bytes(data.len(), &waiter) {
            self.propose_bytes(data, waiter);
        }
    }

    fn propose_bytes(&mut self, data: Bytes, waiter: Waiter) {
        let bytes = data.len();
        let place = self.raft.propose(data).expect("this member leads");
        self.proposals.proposed(self.now, place, bytes, waiter);
    }

    /// Whether so many bytes may go into the log for a client; else it is told why not.
    fn admit_bytes(&mut self, bytes: usize, waiter: &Waiter) -> bool {
        let Waiter::Client(id) = waiter else { return true };
        if bytes > self.config.limits.request_bytes_max {
            self.reply(*id, Err(Error::RequestTooLarge));
            false
        } else if !self.has_room(bytes) {
            self.reply(*id, Err(Error::RequestTooManyRequests));
            false
        } else {
            true
        }
    }

    fn has_room(&self, bytes: usize) -> bool {
        let under_way = self.proposals.bytes() + self.forwards.bytes();
        under_way + bytes <= self.config.limits.proposed_bytes_max
    }

    /// Renewals that gathered, and what a leader proposes of itself: leases that end, the time, compactions.
    fn propose_own(&mut self) {
        while let Some(renewals) = self.keeper.take_renewals() {
            let command = Command::LeaseRenew(renewals.keys().copied().collect());
            self.dispatch(Ask::Command(command), Waiter::Renewals(renewals));
        }
        if !self.may_propose() {
            return;
        }
        if self.may_end_leases()
            && let Some(command) =
                self.keeper.due(self.now, &self.state.lessor, &self.config.limits)
        {
            self.propose(&command, Waiter::Nobody);
        }
        let store = &self.state.store;
        let (revision, compacted) = (store.revision(), store.compacted());
        let compactor = self.auto_compactor.as_mut();
        if let Some(revision) = compactor.and_then(|c| c.due(self.now, revision, compacted)) {
            let request = CompactionRequest { revision, physical: false };
            self.propose(&Command::Compact(request), Waiter::Nobody);
        }
    }

    /// A corrupt cluster changes nothing, so its leases do not end, either.
    fn may_end_leases(&self) -> bool {
        !self.state.alarms.is_raised(AlarmKind::Corrupt)
    }

    /// Notices that this member began or ceased to lead, or lost its leader.
    fn follow_role(&mut self) {
        if self.published.leader.is_some() && !self.raft.leader().is_some() {
            self.leader_lost = Some(self.now);
        }
        let leads = self.raft.role() == RoleName::Leader;
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
        for (wish, id) in self.members.stop_leading() {
            self.dispatch(Ask::Wish(wish), Waiter::Client(id));
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

    /// Tells those whose entry will never be applied, or who have waited too long.
    fn refuse_lost(&mut self) {
        while let Some(waiter) = self.proposals.lost() {
            self.refuse(waiter, Error::LeaderChanged);
        }
        while let Some((begun, waiter)) = self.proposals.timed_out(self.now) {
            let error = self.timeout_since(begun);
            self.refuse(waiter, error);
        }
        let timeout = self.config.request_timeout();
        while let Some(late) = self.forwards.timed_out(self.now, timeout) {
            // As in etcd: who never found a leader hears of its own deadline.
            let sent = late.sent || self.raft.leader().is_some();
            let error =
                if sent { self.timeout_since(late.begun) } else { Error::ContextDeadlineExceeded };
            self.refuse(late.waiter, error);
        }
        while let Some(asker) = self.reads.timed_out(self.now) {
            match asker {
                reads::Asker::Shard(shard, token) => {
                    let answer = reads::refusal(shard, token, Error::Timeout);
                    self.replies.push_back(Output::ReadIndex(answer));
                }
                reads::Asker::Client(id, _) => self.reply(id, Err(Error::Timeout)),
                reads::Asker::Peer(..) => {}
            }
        }
    }

    /// Why something that was begun then is not done.
    fn timeout_since(&self, begun: Time) -> Error {
        match self.leader_lost {
            Some(lost) if lost + self.config.election_timeout >= begun => {
                Error::TimeoutDueToLeaderFail
            }
            Some(_) | None if !self.raft.leader().is_some() => Error::TimeoutDueToConnectionLost,
            Some(_) | None => Error::Timeout,
        }
    }

    fn refuse(&mut self, waiter: Waiter, error: Error) {
        match waiter {
            Waiter::Client(id) => self.reply(id, Err(error)),
            Waiter::Renewals(renewals) => {
                for id in renewals.into_values().flatten() {
                    self.reply(id, Err(error));
                }
            }
            Waiter::Nobody => {}
        }
    }

    fn reply(&mut self, id: RequestId, mut result: Result<Response, Error>) {
        let (revision, header) = (self.state.store.revision(), self.header());
        // As in etcd, an answer about members belongs to no revision of the keys.
        let about_members = matches!(
            result,
            Ok(Response::MemberList(_)
                | Response::MemberAdd(_)
                | Response::MemberRemove(_)
                | Response::MemberUpdate(_)
                | Response::MemberPromote(_))
        );
        if let Some(unfilled) = result.as_mut().ok().and_then(Response::header_mut) {
            let known = about_members || unfilled.revision != 0;
            let revision = if known { unfilled.revision } else { revision };
            *unfilled = ResponseHeader { revision, ..header };
        }
        self.replies.push_back(Output::Reply { id, result });
    }

    fn header(&self) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.config.cluster.0,
            member_id: self.config.id.0,
            revision: 0,
            raft_term: self.raft.hard_state().term.0,
        }
    }

    // The way of an entry.

    /// Hands what must become durable to the log.
    fn save(&mut self) {
        let commit = self.raft.hard_state().commit;
        let (hard_state, entries) = self.raft.take_unsaved();
        self.wal.append(entries);
        match hard_state {
            Some(hard_state) => self.wal.save(hard_state),
            None => self.wal.note_commit(commit),
        }
    }

    /// Sends messages; those that promise something wait for what was just handed to the log.
    fn route_messages(&mut self) {
        while let Some(outgoing) = self.raft.poll_message() {
            if outgoing.after_durable {
                self.held.push_back((self.wal.barrier(), outgoing.message));
            } else {
                self.send_raft(outgoing.message);
            }
        }
    }

    /// Lets go the promises whose content is durable; those to this member itself are taken at once.
    fn release_promises(&mut self) -> bool {
        let reached = self.wal.reached();
        let mut progressed = false;
        while let Some((_, message)) = self.held.pop_front_if(|(barrier, _)| *barrier <= reached) {
            if message.to == self.config.id {
                self.raft.step(self.now, message);
                progressed = true;
            } else {
                self.send_raft(message);
            }
        }
        progressed
    }

    fn apply_committed(&mut self) -> bool {
        let commit = self.raft.hard_state().commit;
        if self.applied.index >= commit {
            return false;
        }
        while self.applied.index < commit && !self.halted {
            let index = self.applied.index.next();
            let entry =
                self.raft.log().get(index).expect("what is committed is in the log").clone();
            self.apply(entry);
        }
        let limits = &self.config.limits;
        let (kept, needed) = (limits.log_memory_bytes, limits.log_needed_bytes_max);
        self.raft.trim_log(self.now, self.applied.index, kept, needed);
        true
    }

    fn apply(&mut self, entry: Entry) {
        let place = LogEnd { index: entry.index, term: entry.term };
        if place.term > self.applied.term {
            self.forwards.term_applied(place.term);
        }
        self.applied = place;
        let waiter = self.proposals.applied(entry.index, entry.term);
        let (stamp, kind, applied) = match self.apply_to_state(entry) {
            Ok(Some(effect)) => effect,
            Ok(None) => return self.note_digest(),
            Err(halt) => return self.halt(halt),
        };
        self.note_digest();
        self.changes.extend(applied.changes);
        match kind {
            CommandKind::Compact { revision, .. } if applied.outcome.is_ok() => {
                self.event(Event::Compacted { revision });
            }
            CommandKind::LeaseExpire { leases } => {
                self.keeper.expired();
                self.event(Event::LeasesExpired { leases });
            }
            CommandKind::Alarm => self.event(Event::Alarms(self.state.alarms.clone())),
            CommandKind::Members => self.members_changed(),
            CommandKind::Compact { .. } | CommandKind::Other => {}
        }
        let waiter = match stamp.origin {
            Some(Origin { member, number }) if member == self.config.id => {
                self.forwards.take_waiter(number).unwrap_or(waiter)
            }
            Some(_) | None => waiter,
        };
        self.settle(waiter, kind, applied.outcome);
        if self.state.cluster.is_removed(self.config.id) {
            // The others may not know yet that this is committed, and then they count this member's vote: a
            // cluster of two that becomes one of one would have nobody to elect it. So it stays until one of them
            // says that it is not needed, or for as long as anybody waits for an answer.
            let timeout = self.config.request_timeout();
            self.farewell.get_or_insert(self.now + timeout);
        }
    }

    /// Applies an entry to the state; `None` if it does nothing there.
    fn apply_to_state(
        &mut self,
        entry: Entry,
    ) -> Result<Option<(Stamp, CommandKind, Applied)>, Halt> {
        let index = entry.index;
        let newer = |unknown| Halt::UnknownCommand { index, unknown };
        match entry.kind {
            EntryKind::Empty => Ok(None),
            EntryKind::Command => {
                let (stamp, command) = Command::decode(entry.data).map_err(newer)?;
                let kind = command.kind();
                Ok(Some((stamp, kind, self.state.apply(stamp.time, command))))
            }
            EntryKind::Membership => {
                let unknown = crate::command::UnknownCommand { tag: None };
                let (membership, context) =
                    Membership::from_entry(entry.data).ok_or_else(|| newer(unknown))?;
                let (mut stamp, mut change) = (Stamp::default(), None);
                if !context.is_empty() {
                    let (read, command) = Command::decode(context).map_err(newer)?;
                    let Command::Members(members) = command else { return Err(newer(unknown)) };
                    (stamp, change) = (read, Some(members));
                }
                let applied = self.state.apply_membership(stamp.time, membership, change);
                Ok(Some((stamp, CommandKind::Members, applied)))
            }
        }
    }

    /// Remembers what the state was after the entry that was applied last, if there is anybody to compare with.
    fn note_digest(&mut self) {
        if !self.raft.membership().is_alone(self.config.id) {
            self.digests.push(self.applied.index, self.state.digest);
        }
    }

    /// Answers whoever waited for an entry.
    fn settle(&mut self, waiter: Waiter, kind: CommandKind, outcome: Result<Outcome, Error>) {
        match (waiter, outcome) {
            (Waiter::Nobody, _) => {}
            (Waiter::Client(id), Ok(Outcome::Response(response))) => {
                if let CommandKind::Compact { physical: true, .. } = kind {
                    self.compactor.wait(id);
                } else if kind == CommandKind::Members {
                    self.answer_change(id, response);
                } else {
                    self.reply(id, Ok(response));
                }
            }
            (Waiter::Renewals(renewals), Ok(Outcome::Renewed(renewed))) => {
                self.answer_renewals(&renewals, renewed);
            }
            (waiter, Err(error)) => self.refuse(waiter, error),
            (Waiter::Client(_), Ok(Outcome::Renewed(_) | Outcome::Nothing))
            | (Waiter::Renewals(_), Ok(Outcome::Response(_) | Outcome::Nothing)) => {
                unreachable!("each waits for what it proposed")
            }
        }
    }

    fn answer_renewals(&mut self, renewals: &Renewals, renewed: Vec<(LeaseId, i64)>) {
        for (lease, ttl) in renewed {
            for id in renewals.get(&lease).into_iter().flatten() {
                let response = LeaseKeepAliveResponse { header: None, id: lease.0, ttl };
                self.reply(*id, Ok(Response::LeaseKeepAlive(response)));
            }
        }
    }

    /// Asks from where on reads are current: Raft, at a leader, else the leader.
    fn ask_reads(&mut self) {
        if self.leading.is_some() {
            return self.reads.ask_raft(&mut self.raft);
        }
        let (leader, term) = (self.raft.leader(), self.raft.hard_state().term);
        if leader.is_some()
            && let Some(ReadToken(token)) = self.reads.ask_leader(self.now, term)
        {
            self.send(leader, Body::ReadIndex { token });
        }
    }

    fn answer_reads(&mut self) {
        let time = self.keeper.time(self.now, self.state.time);
        while let Some(ready) = self.raft.poll_read() {
            if let Some(answered) = self.reads.answered(ready, time) {
                self.answer_read(answered);
            }
        }
        for (id, request, time) in self.reads.release(self.applied.index) {
            let result = self.answer_locally(&request, time);
            self.reply(id, result);
        }
    }

    fn answer_read(&mut self, answered: Answered) {
        match answered {
            Answered::Shard(answer) => self.replies.push_back(Output::ReadIndex(answer)),
            Answered::Client(id, request, index, time) => {
                self.reads.hold(id, request, index, time);
            }
            Answered::Peer(peer, token, index) => {
                let time = self.keeper.time(self.now, self.state.time);
                self.send(peer, Body::ReadIndexAnswer { token, index, time });
            }
        }
    }

    // The medium.

    /// Begins the writes that can begin.
    fn write(&mut self) {
        let position = self.position();
        let log_bytes = self.wal.bytes_since(self.snapshotter.newest().log_promise);
        if self.installer.writing().is_none()
            && self.snapshotter.is_due(log_bytes, self.config.limits.snapshot_log_bytes)
            && position.index > self.snapshotter.newest().index
        {
            self.snapshotter.begin(self.config.cluster, position, &self.state);
            self.event(Event::SnapshotStarted { index: position.index });
        }
        if let Some(write) = self.wal.poll(self.now) {
            self.outputs.push_back(Output::AppendLog(write));
        }
        if let Some(part) = self.snapshotter.poll() {
            self.outputs.push_back(Output::WriteSnapshot(part));
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
        }
    }

    fn snapshot_written(&mut self) {
        let Some((index, bytes)) = self.snapshotter.written() else { return };
        self.event(Event::SnapshotFinished { index, bytes });
        self.install();
        let retired = self.wal.retire(self.snapshotter.second().log_start);
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
        if *self.cluster_version != *cluster.version() {
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
        };
        self.outputs.push_back(Output::Publish(publication));
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
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
