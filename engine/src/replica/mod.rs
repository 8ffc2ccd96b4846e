//! One member: routes each input to the module that knows, and gathers what comes out.
//!
//! Nothing is decided here about agreement, durability or keys. What is here is the order in which the modules
//! are asked ([`Replica::advance`]), the rule that a promise waits for the log, and who waits for which answer.
//!
//! ```text
//!  Request ──► propose ──► raft ──► wal ──► AppendLog ─ ─► LogWritten ──► promises released
//!                                                                              │
//!  Reply ◄── state machine ◄── apply ◄──────────── committed ◄── raft ◄────────┘
//!  Publish ◄──────┘
//! ```

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::api::etcdserverpb::{
    CompactionRequest, CompactionResponse, LeaseKeepAliveResponse, ResponseHeader,
};
use crate::api::{Error, Request, Response};
use crate::auto_compact::AutoCompactor;
use crate::command::{Command, CommandKind};
use crate::config::Config;
use crate::event::{Event, Halt, Input, Output, Publication};
use crate::ids::{LeaseId, MemberId, RequestId};
use crate::lease::ClusterTime;
use crate::lease::keeper::{Keeper, Renewals};
use crate::quota;
use crate::raft::log::Log;
use crate::raft::membership::Membership;
use crate::raft::message::{LogEnd, Message};
use crate::raft::{self, Durable, Entry, EntryKind, Index, Raft, RoleName, Term};
use crate::recovery::Recovery;
use crate::rng::Rng;
use crate::snapshot::Position;
use crate::state_machine::{AlarmKind, Changes, Outcome, StateMachine};
use crate::time::Time;
use crate::wal::Writer;
use crate::wal::writer::{self, Barrier};

mod compactor;
mod maintenance;
mod proposals;
mod reads;
mod snapshotter;

use compactor::Compactor;
use proposals::{Proposals, Waiter};
use reads::Reads;
use snapshotter::Snapshotter;

pub use maintenance::ReplicaStatus;

/// One member of a cluster. See the crate's contract for how to drive it.
#[derive(Debug)]
pub struct Replica {
    config: Config,
    now: Time,
    raft: Raft,
    wal: Writer,
    state: StateMachine,
    /// The place in the log whose effect is in `state`.
    applied: LogEnd,
    /// Promises that wait until what they promise is durable, oldest first.
    held: VecDeque<(Barrier, Message)>,
    proposals: Proposals,
    reads: Reads,
    keeper: Keeper,
    /// While this member leads and is to compact of itself.
    auto_compactor: Option<AutoCompactor>,
    compactor: Compactor,
    snapshotter: Snapshotter,
    /// Changes applied since the last publication.
    changes: Vec<Changes>,
    published: Standing,
    /// The term in which this member leads, if it does.
    leading: Option<Term>,
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

impl Replica {
    /// A member that goes on from what [`recover`](crate::recovery::recover) found.
    pub fn new(config: Config, recovery: Recovery, now: Time) -> Self {
        let Recovery { newest, second, state, mut log, snapshot_bytes, damaged: _ } = recovery;
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
        let wal = Writer::new(wal_config, &log, last, rng.fork());
        let raft_config = raft::Config {
            id: config.id,
            election_timeout: config.election_timeout,
            heartbeat_interval: config.heartbeat_interval,
            append_bytes_max: config.limits.append_bytes_max,
            appends_in_flight_max: config.limits.appends_in_flight_max,
        };
        let mut hard_state = log.hard_state;
        // What the snapshot covers is committed, even if no batch said so.
        hard_state.commit = hard_state.commit.clamp(applied.index, last.0);
        let membership = Membership::new(config.members.iter().map(|member| member.id));
        let durable = Durable { hard_state, log: Log::new(applied, entries), membership };
        let raft = Raft::new(raft_config, durable, rng.fork(), now);
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
            proposals: Proposals::new(timeout, config.limits.proposed_bytes_max),
            reads: Reads::new(timeout),
            keeper: Keeper::default(),
            auto_compactor: None,
            compactor: Compactor::default(),
            snapshotter: Snapshotter::new(newest, second, snapshot_bytes),
            changes: Vec::new(),
            published: standing,
            leading: None,
            halted: false,
            outputs: VecDeque::new(),
            replies: VecDeque::new(),
            config,
        };
        replica.apply_committed();
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
            Input::ReadIndex { shard, token } => self.reads.push(now, shard, token),
            Input::Message(message) => self.raft.step(now, message),
            Input::LogWritten { to } => self.wal.written(now, to),
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
        let leases =
            if self.may_end_leases() { self.keeper.deadline(&self.state.lessor) } else { None };
        [
            Some(self.raft.deadline()),
            self.wal.deadline(),
            self.proposals.deadline(),
            self.reads.deadline(),
            leases,
            self.auto_compactor.as_ref().map(AutoCompactor::deadline),
            sweeping,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Asks every module in turn until none has anything more to say.
    fn advance(&mut self) {
        if self.halted {
            return;
        }
        self.raft.wake(self.now);
        loop {
            self.follow_role();
            self.propose_own();
            self.reads.ask(&mut self.raft);
            self.raft.flush(self.now);
            self.save();
            self.route_messages();
            let progressed = self.release_promises() | self.apply_committed();
            self.answer_reads();
            if !progressed {
                break;
            }
        }
        self.refuse_lost();
        self.write();
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
        if maintenance::is_local(&request) {
            let result = self.answer_locally(&request);
            self.reply(id, result);
        } else if self.leading.is_none() {
            self.proposals.park(self.now, id, request);
        } else if let Request::LeaseKeepAlive(lease) = request {
            self.keeper.renew(lease, id);
        } else if let Err(error) = self.admit(&request) {
            self.reply(id, Err(error));
        } else {
            let command = self.to_command(request);
            self.propose(&command, Waiter::Client(id));
        }
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
            | Request::Snapshot => unreachable!("not proposed"),
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
            self.propose(&Command::Alarm(alarm), Waiter::Nobody);
        }
        Err(Error::NoSpace)
    }

    /// Puts a command into the log, or tells whoever waits why not.
    fn propose(&mut self, command: &Command, waiter: Waiter) {
        let data = command.encode(self.keeper.stamp(self.now));
        let bytes = data.len();
        if let Waiter::Client(id) = waiter {
            if bytes > self.config.limits.request_bytes_max {
                return self.reply(id, Err(Error::RequestTooLarge));
            }
            if !self.proposals.has_room(bytes) {
                return self.reply(id, Err(Error::RequestTooManyRequests));
            }
        }
        let place = self.raft.propose(EntryKind::Command, data).expect("this member leads");
        self.proposals.proposed(self.now, place, bytes, waiter);
    }

    /// What a leader proposes of itself: renewals that gathered, leases that end, the time, compactions.
    fn propose_own(&mut self) {
        if self.leading.is_none() {
            return;
        }
        while let Some(renewals) = self.keeper.take_renewals() {
            let command = Command::LeaseRenew(renewals.keys().copied().collect());
            self.propose(&command, Waiter::Renewals(renewals));
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

    /// Notices that this member began or ceased to lead.
    fn follow_role(&mut self) {
        let leads = self.raft.role() == RoleName::Leader;
        let leading = leads.then(|| self.raft.hard_state().term);
        if leading == self.leading {
            return;
        }
        self.leading = leading;
        let mode = self.config.auto_compaction.filter(|_| leads);
        self.auto_compactor = mode.map(|mode| AutoCompactor::new(mode, self.now));
        for (lease, ids) in self.keeper.stop_leading() {
            for id in ids {
                self.proposals.park(self.now, id, Request::LeaseKeepAlive(lease));
            }
        }
        if leads {
            self.keeper.begin_to_lead(self.now, self.latest_time());
            for (id, request) in self.proposals.unpark() {
                self.request(id, request);
            }
        }
    }

    /// The latest time that the log or the state knows.
    fn latest_time(&self) -> ClusterTime {
        let newest = self.raft.log().iter().rev().find(|entry| entry.kind == EntryKind::Command);
        newest
            .and_then(|entry| Command::time_of(&entry.data))
            .unwrap_or_default()
            .max(self.state.time)
    }

    /// Tells those whose entry will never be applied, or who have waited too long.
    fn refuse_lost(&mut self) {
        while let Some(waiter) = self.proposals.lost() {
            self.refuse(waiter, Error::LeaderChanged);
        }
        while let Some((waiter, error)) = self.proposals.timed_out(self.now) {
            self.refuse(waiter, error);
        }
        while let Some(answer) = self.reads.timed_out(self.now) {
            self.replies.push_back(Output::ReadIndex(answer));
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
        let about_members = matches!(result, Ok(Response::MemberList(_)));
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
                self.outputs.push_back(Output::Send(outgoing.message));
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
                self.outputs.push_back(Output::Send(message));
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
        self.raft.trim_log(self.applied.index, self.config.limits.log_memory_bytes);
        true
    }

    fn apply(&mut self, entry: Entry) {
        self.applied = LogEnd { index: entry.index, term: entry.term };
        let waiter = self.proposals.applied(entry.index, entry.term);
        if entry.kind == EntryKind::Empty {
            return;
        }
        let (time, command) = match Command::decode(entry.data) {
            Ok(command) => command,
            Err(unknown) => return self.halt(Halt::UnknownCommand { index: entry.index, unknown }),
        };
        let kind = command.kind();
        let applied = self.state.apply(time, command);
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
            CommandKind::Compact { .. } | CommandKind::Other => {}
        }
        self.settle(waiter, kind, applied.outcome);
    }

    /// Answers whoever waited for an entry.
    fn settle(&mut self, waiter: Waiter, kind: CommandKind, outcome: Result<Outcome, Error>) {
        match (waiter, outcome) {
            (Waiter::Nobody, _) => {}
            (Waiter::Client(id), Ok(Outcome::Response(response))) => {
                if let CommandKind::Compact { physical: true, .. } = kind {
                    self.compactor.wait(id);
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

    fn answer_reads(&mut self) {
        while let Some(ready) = self.raft.poll_read() {
            if let Some(answer) = self.reads.answered(ready) {
                self.replies.push_back(Output::ReadIndex(answer));
            }
        }
    }

    // The medium.

    /// Begins the writes that can begin.
    fn write(&mut self) {
        let position = self.position();
        let log_bytes = self.wal.bytes_since(self.snapshotter.newest().log_promise);
        if self.snapshotter.is_due(log_bytes, self.config.limits.snapshot_log_bytes)
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
        }
    }

    fn snapshot_written(&mut self) {
        let Some((index, bytes)) = self.snapshotter.written() else { return };
        self.event(Event::SnapshotFinished { index, bytes });
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
        let (view, changes) = (self.state.store.view(), core::mem::take(&mut self.changes));
        let alarms = self.state.alarms.clone();
        let publication = Publication { view, applied, changes, term, leader, alarms };
        self.outputs.push_back(Output::Publish(publication));
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn halt(&mut self, halt: Halt) {
        self.halted = true;
        self.outputs.push_back(Output::Halt(halt));
    }
}
