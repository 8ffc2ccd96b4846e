//! What clients ask: where it goes, who waits for it, and what they are told.

use bytes::Bytes;

use super::proposals::Waiter;
use super::reads::{self, Answered};
use super::{Ask, Replica, WISH, maintenance, members};
use crate::api::etcdserverpb::{CompactionRequest, ResponseHeader};
use crate::api::{Error, Request, Response};
use crate::auth::{Author, Credential};
use crate::command::{Command, Stamp};
use crate::event::Output;
use crate::ids::RequestId;
use crate::lease::ClusterTime;
use crate::peer::Body;
use crate::quota;
use crate::raft::{Index, ReadToken, Term};
use crate::state_machine::AlarmKind;
use crate::time::Time;

impl Replica {
    pub(super) fn request(&mut self, id: RequestId, credential: &Credential, request: Request) {
        let author = match self.resolve(credential, request.act()) {
            Ok(author) => author,
            Err(error) => return self.reply(id, Err(error)),
        };
        if maintenance::needs_read_index(&request) {
            return self.reads.push(self.now, reads::Asker::Client(id, author, request));
        }
        if maintenance::is_local(&request) {
            let result = self.answer_locally(&author, &request, ClusterTime(0));
            return self.reply(id, result);
        }
        if let Request::LeaseKeepAlive(lease) = request {
            // Renewals are gathered, so nobody can tell later whose they are.
            match self.permit(&author, request.act()) {
                Ok(()) => self.keeper.renew(lease, id),
                Err(error) => self.reply(id, Err(error)),
            }
        } else if let Request::MoveLeader(target) = request {
            match self.permit(&author, request.act()) {
                Ok(()) => self.move_leader(id, target),
                Err(error) => self.reply(id, Err(error)),
            }
        } else if let Request::Members(wish) = request {
            self.dispatch(Ask::Wish(wish), author, Waiter::Client(id));
        } else if let Err(error) = self.admit(&request) {
            self.reply(id, Err(error));
        } else {
            let command = self.to_command(request);
            self.dispatch(Ask::Command(command), author, Waiter::Client(id));
        }
    }

    /// Puts something into the log: here, if this member leads, else by way of whoever does. Upkeep has no author. Whether one may
    /// do it is asked when a command is applied, by every member alike; of a wish, when a leader takes it.
    pub(super) fn dispatch(&mut self, ask: Ask, author: Author, waiter: Waiter) {
        if self.may_propose() {
            return match (ask, waiter) {
                (Ask::Command(command), waiter) => self.propose(&command, author, waiter),
                (Ask::Wish(wish), Waiter::Client(id)) => {
                    self.wish_of(&author, wish, members::Asker::Client(id));
                }
                (Ask::Wish(_), Waiter::Renewals(_) | Waiter::Nobody) => {
                    unreachable!("only clients have wishes")
                }
            };
        }
        let bytes = match ask {
            Ask::Command(command) => command.encode(Stamp { author, ..Stamp::default() }),
            Ask::Wish(wish) => {
                let mut bytes = alloc::vec![WISH];
                author.encode(&mut bytes);
                wish.encode(&mut bytes);
                Bytes::from(bytes)
            }
        };
        if self.admit_bytes(bytes.len(), &waiter) {
            self.forwards.push(self.now, bytes, waiter);
        }
    }

    /// Whether this member puts entries into the log now: it leads, and is not handing over.
    pub(super) fn may_propose(&self) -> bool {
        self.leading.is_some() && !self.raft.is_transferring()
    }

    /// What a request says in the log. Whatever a leader chooses is chosen here.
    pub(super) fn to_command(&self, request: Request) -> Command {
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
            Request::Auth(change) => Command::Auth(change),
            Request::Authenticate(assignment) => Command::Authenticate(assignment),
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
            | Request::MoveLeader(_)
            | Request::AuthQuery(_) => unreachable!("not proposed"),
        }
    }

    /// Refuses what would go beyond the quota, and then raises the alarm. The alarm itself is obeyed when a
    /// command is applied, by every member alike.
    pub(super) fn admit(&mut self, request: &Request) -> Result<(), Error> {
        let cost = quota::cost(request);
        let quota = self.config.limits.quota_bytes.filter(|_| cost > 0);
        if quota.is_none_or(|quota| self.state.store.bytes() + cost < quota) {
            return Ok(());
        }
        if !self.state.alarms.is_raised(AlarmKind::NoSpace) {
            let alarm = maintenance::activate(AlarmKind::NoSpace, self.config.id);
            self.dispatch(Ask::Command(Command::Alarm(alarm)), Author::Member, Waiter::Nobody);
        }
        Err(Error::NoSpace)
    }

    /// Puts a command into the log, or tells whoever waits why not.
    pub(super) fn propose(&mut self, command: &Command, author: Author, waiter: Waiter) {
        let time = self.keeper.stamp(self.now);
        let data = command.encode(Stamp { time, author, origin: None });
        if self.admit_bytes(data.len(), &waiter) {
            self.propose_bytes(data, waiter);
        }
    }

    pub(super) fn propose_bytes(&mut self, data: Bytes, waiter: Waiter) {
        let bytes = data.len();
        let place = self.raft.propose(data).expect("this member leads");
        self.proposed(place, bytes, waiter);
    }

    /// Notes what was put into the log, with the time of now.
    pub(super) fn proposed(&mut self, place: (Term, Index), bytes: usize, waiter: Waiter) {
        self.keeper.proposed(self.now);
        self.proposals.proposed(self.now, place, bytes, waiter);
    }

    /// Whether so many bytes may go into the log for a client; else it is told why not.
    pub(super) fn admit_bytes(&mut self, bytes: usize, waiter: &Waiter) -> bool {
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

    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let under_way = self.proposals.bytes() + self.forwards.bytes();
        under_way + bytes <= self.config.limits.proposed_bytes_max
    }

    /// Renewals that gathered, and what a leader proposes of itself: leases that end, the time, compactions.
    pub(super) fn propose_own(&mut self) {
        while let Some(renewals) = self.keeper.take_renewals() {
            let command = Command::LeaseRenew(renewals.keys().copied().collect());
            self.dispatch(Ask::Command(command), Author::Nobody, Waiter::Renewals(renewals));
        }
        if !self.may_propose() {
            return;
        }
        if self.may_end_leases()
            && let Some(command) =
                self.keeper.due(self.now, &self.state.lessor, &self.config.limits)
        {
            self.propose(&command, Author::Nobody, Waiter::Nobody);
        }
        let store = &self.state.store;
        let (revision, compacted) = (store.revision(), store.compacted());
        let compactor = self.auto_compactor.as_mut();
        if let Some(revision) = compactor.and_then(|c| c.due(self.now, revision, compacted)) {
            let request = CompactionRequest { revision, physical: false };
            self.propose(&Command::Compact(request), Author::Member, Waiter::Nobody);
        }
    }

    /// A corrupt cluster changes nothing, so its leases do not end, either.
    pub(super) fn may_end_leases(&self) -> bool {
        !self.state.alarms.is_raised(AlarmKind::Corrupt)
    }

    /// Tells those whose entry will never be applied, or who have waited too long.
    pub(super) fn refuse_lost(&mut self) {
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
                reads::Asker::Client(id, ..) => self.reply(id, Err(Error::Timeout)),
                reads::Asker::Peer(..) => {}
            }
        }
    }

    /// Why something that was begun then is not done.
    pub(super) fn timeout_since(&self, begun: Time) -> Error {
        match self.leader_lost {
            Some(lost) if lost + self.config.election_timeout >= begun => {
                Error::TimeoutDueToLeaderFail
            }
            Some(_) | None if !self.raft.leader().is_some() => Error::TimeoutDueToConnectionLost,
            Some(_) | None => Error::Timeout,
        }
    }

    pub(super) fn refuse(&mut self, waiter: Waiter, error: Error) {
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

    pub(super) fn reply(&mut self, id: RequestId, mut result: Result<Response, Error>) {
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

    pub(super) fn header(&self) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.config.cluster.0,
            member_id: self.config.id.0,
            revision: 0,
            raft_term: self.raft.hard_state().term.0,
        }
    }

    /// Asks from where on reads are current: Raft, at a leader, else the leader.
    pub(super) fn ask_reads(&mut self) {
        if self.leading.is_some() {
            return self.reads.ask_raft(&mut self.raft);
        }
        let (leader, term) = (self.raft.leader(), self.raft.hard_state().term);
        if leader.is_some()
            && leader != self.config.id
            && let Some(ReadToken(token)) = self.reads.ask_leader(self.now, term)
        {
            self.send(leader, Body::ReadIndex { token });
        }
    }

    pub(super) fn answer_reads(&mut self) {
        let time = self.keeper.time(self.now, self.state.time);
        while let Some(ready) = self.raft.poll_read() {
            if let Some(answered) = self.reads.answered(ready, time) {
                self.answer_read(answered);
            }
        }
        for held in self.reads.release(self.applied.index) {
            let result = self.answer_locally(&held.author, &held.request, held.time);
            self.reply(held.id, result);
        }
    }

    pub(super) fn answer_read(&mut self, answered: Answered) {
        match answered {
            Answered::Shard(answer) => self.replies.push_back(Output::ReadIndex(answer)),
            Answered::Client(held) => self.reads.hold(held),
            Answered::Peer(peer, token, index) => {
                let time = self.keeper.time(self.now, self.state.time);
                self.send(peer, Body::ReadIndexAnswer { token, index, time });
            }
        }
    }
}
