//! What peers say, and what is said to them.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use super::digests::Answer;
use super::installer::Taken;
use super::members::Asker;
use super::proposals::Waiter;
use super::reads;
use super::sender::{Ended, Word};
use super::trust::Trust;
use super::{Replica, WISH};
use crate::api::Error;
use crate::api::etcdserverpb::AlarmRequest;
use crate::auth::Author;
use crate::cluster::Wish;
use crate::command::{Command, Origin};
use crate::event::{Event, Halt, Output};
use crate::ids::MemberId;
use crate::mvcc::base::Base;
use crate::peer::{Body, Incarnation, Known, Message, Proposal, Settled, SnapshotPart, Vouch};
use crate::raft::message::{self as raft_message, LogEnd};
use crate::raft::{Entry, FORFEITED, HardState, Index, ReadToken, RoleName, Term};
use crate::snapshot::{Position, SnapshotWriter};
use crate::state_machine::AlarmKind;
use crate::time::Time;

/// How often a leader tells the digest of its state: a difference is to be known within a second.
const DIGEST_INTERVAL: Duration = Duration::from_millis(500);

impl Replica {
    /// Takes a message. Whatever it says is safe to take.
    pub(super) fn hear(&mut self, message: Message) {
        let Message { from, to, known, body } = message;
        if self.halted || to != self.config.id || from == to {
            return;
        }
        if self.state.cluster.is_removed(from) {
            return self.send(from, Body::Removed);
        }
        // What strangers answer counts for nothing, and the state is not for them. Who leads may have been added without this member having heard of it.
        let counts = from == self.raft.leader() || self.raft.membership().contains(from);
        match body {
            Body::Refused { .. }
            | Body::ReadIndexAnswer { .. }
            | Body::Digest { .. }
            | Body::Stateless
                if !counts => {}
            Body::Raft { term, body } => self.hear_raft(from, known, term, body),
            Body::Propose { term, incarnation, proposals } => {
                self.hear_proposals(from, term, incarnation, proposals);
            }
            Body::Refused { number, error } => {
                if let Some(waiter) = self.forwards.take_waiter(number) {
                    self.refuse(waiter, error);
                }
            }
            Body::ReadIndex { token } => {
                if self.leading.is_some() {
                    self.reads.push(self.now, reads::Asker::Peer(from, token));
                }
            }
            Body::ReadIndexAnswer { token, index, time } => {
                let token = ReadToken(token);
                for answered in self.reads.answered_by_leader(token, index, time) {
                    self.answer_read(answered);
                }
            }
            Body::Digest { index, digest } => self.hear_digest(from, index, digest),
            Body::SnapshotPart(part) => self.hear_part(from, &part),
            Body::SnapshotReceived { transfer, offset, done } => {
                let word = Word { transfer, offset, done };
                let ended = self.sender.received(self.now, from, word);
                self.snapshot_ended(ended);
            }
            Body::Removed => {
                if self.raft.membership().contains(from) {
                    self.halt(Halt::Removed);
                }
            }
            Body::Forgot { incarnation } => self.hear_forgot(from, incarnation),
            Body::Stateless => {
                self.stateless.insert(from);
                if self.leading.is_some() && !self.sender.is_sending(from) {
                    self.begin_snapshot(from);
                }
            }
            Body::Ask { incarnation } => self.hear_ask(from, incarnation),
            Body::Vouch { incarnation, vouch } => self.hear_vouch(from, incarnation, vouch),
        }
    }

    fn hear_raft(&mut self, from: MemberId, known: Known, term: Term, body: raft_message::Body) {
        if body.is_from_leader() && term >= self.raft.hard_state().term {
            self.weigh(from, term, known);
            // Said until it is whole: the leader may have given up, or be another than the one that began.
            if self.raft.is_awaiting_state() && self.installer.writing().is_none() {
                self.send(from, Body::Stateless);
            }
        }
        let mut brought = None;
        if let raft_message::Body::Append { prev, entries, .. } = &body {
            let place = |last: &Entry| LogEnd { index: last.index, term: last.term };
            brought = entries.last().map(|last| (*prev, place(last)));
        }
        let own = self.config.id;
        let is_vouched =
            self.trust == Trust::Vouched && self.vouchers.admit(own, from, term, &body);
        let is_admitted = is_vouched || self.trust.admits(&body);
        if self.trust != Trust::Sound && (!is_admitted || body.is_from_leader()) {
            self.ask(from);
        }
        let mut body = body;
        if self.trust != Trust::Sound
            && let raft_message::Body::Heartbeat { commit, .. } = &mut body
        {
            // The leader knows how far this member's log agreed, and not that this is another one, which may hold what was
            // never committed at indexes that were. An append shows where they agree, a heartbeat does not.
            *commit = Index(0);
        }
        if is_admitted {
            if is_vouched {
                self.raft.regain_vote();
            } else if !self.trust.asks_who_begins(&body) {
                self.raft.forfeit_vote();
            }
            let message = raft_message::Message { from, to: own, term, body };
            self.raft.step(self.now, message);
            if is_vouched {
                self.keep_vote(from);
            }
            // A request in the same turn must not be taken for one of a leader's that is none any more.
            self.follow_role();
        }
        let vote = self.raft.hard_state().vote;
        if self.trust == Trust::Blank && vote.is_some() && vote != FORFEITED {
            // It voted among those who begin, so it is one of them (T1).
            self.trust = Trust::Sound;
        }
        let (term, last) = (self.raft.hard_state().term, self.raft.log().last());
        if self.trust == Trust::Vouched
            && self.raft.leader().is_some()
            && self.vouchers.suffice(own, term, last)
        {
            self.trust = Trust::Sound;
            self.vouchers.sufficed = true;
            self.event(Event::MemoryRegained);
        }
        if self.trust == Trust::Sound {
            self.raft.regain_vote();
        } else if let Some((prev, hint)) = brought
            && self.raft.log().term_at(hint.index) == Some(hint.term)
        {
            // What may not be acknowledged is not counted, but the leader should go on behind it.
            let body = raft_message::Body::AppendRejected { prev: prev.index, hint };
            self.send(from, Body::Raft { term, body });
        }
    }

    /// Considers what a leader knows about this member.
    fn weigh(&mut self, leader: MemberId, term: Term, known: Known) {
        let Known::Settled(word) = known else { return };
        // Words that were under way for long say what has changed since.
        if (term, word.as_of) < self.weighed {
            return;
        }
        self.weighed = (term, word.as_of);
        let (now, last) = (self.config.lives.now, self.raft.log().last_index());
        if self.trust != Trust::Sound && word.forgot == now && !word.votes {
            self.voteless_from.get_or_insert(word.as_of);
        }
        let is_forgotten = word.incarnation == Incarnation::FORGOTTEN;
        let was_here =
            word.incarnation == now || self.config.lives.before.contains(&word.incarnation);
        // Who knows how it came to promise since it started, knows that other starts were earlier.
        let was_earlier = self.voteless_from.is_some()
            || self.vouchers.sufficed
            || is_forgotten && self.knows_that_it_was_forgotten();
        let is_ours = was_here || self.trust == Trust::Sound && was_earlier;
        let mut trust = self.trust.hear(word, is_ours, word.incarnation == now, last);
        if trust == Trust::Lost {
            let is_new = word.acknowledged > last || !is_forgotten && !is_ours;
            match self.trust {
                Trust::Sound | Trust::Blank if is_new => self.event(Event::MemoryLost),
                // What the others told holds all the same.
                Trust::Vouched => trust = Trust::Vouched,
                Trust::Sound | Trust::Blank | Trust::Lost => {}
            }
            if word.forgot != now || word.acknowledged > last {
                self.send(leader, Body::Forgot { incarnation: now });
            }
        }
        self.trust = trust;
        self.regain_trust();
    }

    /// Promises again, once the log says that this member does not vote (T3).
    pub(super) fn regain_trust(&mut self) {
        if self.trust != Trust::Sound
            && self.voteless_from.is_some_and(|from| self.applied.index >= from)
        {
            self.trust = Trust::Sound;
            self.raft.regain_vote();
        }
    }

    // What this member may have promised and does not know.

    /// Asks a member what it knows of that, unless it has told and that is of use.
    fn ask(&mut self, member: MemberId) {
        if self.trust != Trust::Vouched || !self.vouchers.have_heard(member) {
            let incarnation = self.config.lives.now;
            self.send(member, Body::Ask { incarnation });
        }
    }

    fn hear_ask(&mut self, from: MemberId, incarnation: Incarnation) {
        if self.trust != Trust::Sound {
            return;
        }
        let vouch = Vouch {
            term: self.raft.hard_state().term,
            last: self.raft.log().last(),
            membership: self.raft.membership().clone(),
        };
        self.send(from, Body::Vouch { incarnation, vouch });
    }

    fn hear_vouch(&mut self, from: MemberId, incarnation: Incarnation, vouch: Vouch) {
        if self.trust == Trust::Sound || incarnation != self.config.lives.now {
            return;
        }
        self.vouchers.hear(from, vouch);
        if self.vouchers.floor(self.config.id).is_some() {
            self.trust = Trust::Vouched;
        }
    }

    /// Remembers the vote that was given on the others' word, but not on the disk.
    fn keep_vote(&mut self, candidate: MemberId) {
        let HardState { term, vote, .. } = self.raft.hard_state();
        if vote == candidate {
            self.vouchers.note_vote(term, vote);
        }
        self.raft.forfeit_vote();
    }

    fn knows_that_it_was_forgotten(&self) -> bool {
        self.state.cluster.record(self.config.id).is_some_and(|record| record.returns)
    }

    /// A member says that it has lost its memory.
    fn hear_forgot(&mut self, from: MemberId, incarnation: Incarnation) {
        if self.leading.is_none() {
            return;
        }
        self.raft.forget(self.now, from);
        self.members.note_forgot(from, incarnation);
    }

    /// Takes what a member passes on, at the leader of the term that it speaks of.
    fn hear_proposals(
        &mut self,
        from: MemberId,
        term: Term,
        life: Incarnation,
        proposals: Vec<Proposal>,
    ) {
        if self.leading != Some(term) || !self.may_propose() {
            return;
        }
        for Proposal { number, command } in proposals {
            // Before anything else: who is told that it is refused must not find that another copy was let through.
            if !self.gate.admit(from, life, number) {
                continue;
            }
            let origin = Origin { member: from, number };
            if !self.has_room(command.len()) && !Command::is_of_members(&command) {
                let error = Error::RequestTooManyRequests;
                self.send(from, Body::Refused { number, error });
            } else if command.first() == Some(&WISH) {
                if let Some((author, wish)) = decode_wish(&command) {
                    self.wish_of(&author, wish, Asker::Peer(origin));
                }
            } else if let Some(data) = self.restamp(command, origin) {
                self.propose_bytes(data, Waiter::Nobody);
            }
        }
    }

    /// A peer's command as an entry, if it is one: what this member cannot read must not get into the log.
    fn restamp(&mut self, command: Bytes, origin: Origin) -> Option<Bytes> {
        Command::decode(command.clone()).ok()?;
        let time = self.keeper.stamp(self.now);
        Command::restamp(command, time, Some(origin))
    }

    /// Passes on to the leader what waits for one; or, if this member has come to lead, proposes it.
    pub(super) fn forward(&mut self) {
        if self.may_propose() {
            for (command, waiter) in self.forwards.take_unsent() {
                self.propose_forwarded(command, waiter);
            }
            return;
        }
        let (leader, term) = (self.raft.leader(), self.raft.hard_state().term);
        if !leader.is_some() || leader == self.config.id {
            return;
        }
        while let Some(proposals) = self.forwards.take_message(self.now, term) {
            let incarnation = self.config.lives.now;
            self.send(leader, Body::Propose { term, incarnation, proposals });
        }
    }

    fn propose_forwarded(&mut self, command: Bytes, waiter: Waiter) {
        if command.first() == Some(&WISH) {
            if let (Some((author, wish)), Waiter::Client(id)) = (decode_wish(&command), waiter) {
                self.wish_of(&author, wish, Asker::Client(id));
            }
            return;
        }
        let time = self.keeper.stamp(self.now);
        let data = Command::restamp(command, time, None).expect("this member encoded it");
        self.propose_bytes(data, waiter);
    }

    // What is said.

    pub(super) fn send(&mut self, to: MemberId, body: Body) {
        let message = Message { from: self.config.id, to, known: self.known_of(to), body };
        self.outputs.push_back(Output::Send(message));
    }

    /// Sends what Raft says, if it promises nothing that must not be promised.
    pub(super) fn send_raft(&mut self, message: raft_message::Message) {
        let raft_message::Message { to, term, body, .. } = message;
        if self.trust.permits(&body) {
            self.send(to, Body::Raft { term, body });
        }
    }

    /// What this member knows of another, if it has applied an entry of its own term as leader.
    fn known_of(&self, member: MemberId) -> Known {
        if self.leading.is_some_and(|term| self.applied.term == term) {
            let record = self.state.cluster.record(member);
            let incarnation = match self.state.cluster.incarnation(member) {
                Incarnation::NONE if record.is_some_and(|record| record.returns) => {
                    Incarnation::FORGOTTEN
                }
                incarnation => incarnation,
            };
            Known::Settled(Settled {
                as_of: self.applied.index,
                incarnation,
                votes: self.state.cluster.membership().is_voter(member),
                acknowledged: self.raft.acknowledged(member),
                forgot: self.members.forgot(member),
            })
        } else {
            Known::Unsure
        }
    }

    // Digests.

    /// Tells the digest of the state to all others, and answers a leader that told its own.
    pub(super) fn tell_digest(&mut self) {
        if let Some((leader, index, digest)) = self.digests.answer() {
            self.send(leader, Body::Digest { index, digest });
        }
        if !self.leads_others() || self.now < self.next_digest {
            return;
        }
        self.next_digest = self.now + DIGEST_INTERVAL;
        if let Some((index, digest)) = self.digests.ask() {
            let own = self.config.id;
            let others: Vec<_> = self.raft.membership().members().filter(|id| *id != own).collect();
            for peer in others {
                self.send(peer, Body::Digest { index, digest });
            }
        }
    }

    fn hear_digest(&mut self, from: MemberId, index: Index, digest: u64) {
        if self.leading.is_none() {
            if from == self.raft.leader() {
                self.digests.asked_by(from, index);
            }
            return;
        }
        let (own, membership) = (self.config.id, self.raft.membership());
        let wrong = self.digests.answered(own, membership, Answer { from, index, digest });
        for member in wrong {
            if self.state.alarms.is_raised_by(AlarmKind::Corrupt, member) {
                continue;
            }
            self.event(Event::Diverged { member, index });
            let alarm: AlarmRequest = super::maintenance::activate(AlarmKind::Corrupt, member);
            let ask = super::Ask::Command(Command::Alarm(alarm));
            self.dispatch(ask, Author::Member, Waiter::Nobody);
        }
    }

    // Snapshots.

    /// Begins to send snapshots to those who need one, and goes on with those under way.
    pub(super) fn move_snapshots(&mut self) {
        while let Some(peer) = self.raft.poll_snapshot_wanted() {
            if !self.sender.is_sending(peer) && self.leading.is_some() {
                self.begin_snapshot(peer);
            }
        }
        let ended = self.sender.given_up(self.now);
        self.snapshot_ended(ended);
        while let Some((peer, part)) = self.sender.poll(self.now, &self.config.limits) {
            self.send(peer, Body::SnapshotPart(part));
        }
        if let Some((to, transfer, offset)) = self.installer.word(self.now) {
            self.send(to, Body::SnapshotReceived { transfer, offset, done: false });
        }
    }

    fn begin_snapshot(&mut self, peer: MemberId) {
        let LogEnd { index, term } = self.applied;
        let position = Position { index, term, ..Position::default() };
        let writer = SnapshotWriter::new(self.config.cluster, position, &self.state);
        let seed = self.rng.next_u64();
        self.sender.begin(self.now, peer, seed, writer);
        self.event(Event::SnapshotSending { peer, index });
    }

    /// Lets somebody lead who has a state.
    pub(super) fn hand_over_stateless(&mut self) {
        let leads = self.raft.role() == RoleName::Leader && !self.raft.is_transferring();
        if !leads || !self.raft.is_awaiting_state() {
            return;
        }
        let has_state = |id| !self.stateless.contains(&id);
        if let Some(successor) = self.raft.successor(self.now, has_state) {
            self.raft.transfer(self.now, successor).expect("a successor follows a leader");
        }
    }

    fn snapshot_ended(&mut self, ended: Option<Ended>) {
        let Some(Ended { peer, covers, bytes }) = ended else { return };
        self.raft.snapshot_ended(peer, covers.unwrap_or_default());
        self.event(Event::SnapshotSent { peer, bytes, arrived: covers.is_some() });
    }

    fn hear_part(&mut self, from: MemberId, part: &SnapshotPart) {
        let transfer = part.transfer;
        if self.raft.role() == RoleName::Leader {
            return;
        }
        let is_useful = if self.raft.is_awaiting_state() {
            self.raft.awaits(part.place)
        } else {
            self.raft.lacks(part.place) && !self.raft.learn_commit(part.place)
        };
        if !is_useful {
            self.raft.accept_up_to_commit();
            return self.send(from, Body::SnapshotReceived { transfer, offset: 0, done: true });
        }
        match self.installer.take(self.now, &self.config, from, part) {
            Taken::GoOn { offset } => {
                self.send(from, Body::SnapshotReceived { transfer, offset, done: false });
            }
            Taken::Refused => {}
            Taken::Whole => {
                if self.checkpointer.is_none() {
                    let position = self.position_of(part.place);
                    let writing = self.installer.begin_writing().expect("it is whole");
                    self.snapshotter.begin(self.config.cluster, position, &writing.state);
                }
                let offset = part.offset + crate::convert::to_u64(part.bytes.len());
                self.send(from, Body::SnapshotReceived { transfer, offset, done: false });
            }
        }
    }

    /// What a snapshot covers that a leader sent, in this member's log.
    pub(super) fn position_of(&self, place: LogEnd) -> Position {
        Position { index: place.index, term: place.term, restarts: true, ..self.position() }
    }

    /// Lets a leader's snapshot take the place of state and log, if what is on the medium now is that: as a snapshot, or
    /// as the checkpoint below the state. Whether it did.
    pub(super) fn install(&mut self, newest: Position, base: Option<&Arc<Base>>) -> bool {
        let place = LogEnd { index: newest.index, term: newest.term };
        let Some(mut writing) = self.installer.take_written(place) else { return false };
        let (transfer, from) = (writing.transfer, writing.from);
        let is_awaited = self.raft.awaits(place);
        // While it was written, the log may have come to hold what it covers.
        let leads = self.raft.role() == RoleName::Leader;
        let mut lacks = || self.raft.lacks(place) && !self.raft.learn_commit(place);
        let installs = !leads && (is_awaited || lacks());
        if installs {
            if let Some(base) = base {
                writing.state.store.rebase(Arc::clone(base));
            }
            if self.raft.restore(place, writing.state.cluster.membership().clone()) {
                self.wal.restart(place.index, place.term);
            }
            let condemned = core::mem::take(&mut self.condemned);
            self.outputs.extend(condemned.into_iter().map(Output::RemoveTree));
            self.state = writing.state;
            self.applied = place;
            self.digests.forget();
            // What became of these, nobody can tell any more (F3).
            let unknown = self.forwards.take_unknown(place.term);
            for waiter in self.proposals.take_unknown(place.index).into_iter().chain(unknown) {
                self.refuse(waiter, Error::Timeout);
            }
            self.compactor.forget();
            self.event(Event::SnapshotInstalled { index: place.index });
            self.members_changed();
            self.regain_trust();
        }
        self.send(from, Body::SnapshotReceived { transfer, offset: 0, done: true });
        installs
    }

    // The disk.

    /// Lets another member lead while this one's disk does not answer.
    pub(super) fn watch_disk(&mut self) {
        if self.stall_deadline().is_none_or(|due| due > self.now) {
            return;
        }
        if self.stalled.replace(self.now).is_none() {
            self.event(Event::DiskStalled);
        }
        if let Some(successor) = self.raft.successor(self.now, |_| true) {
            self.raft.transfer(self.now, successor).expect("a successor follows a leader");
        }
    }

    /// When a write to the log has taken as long as followers wait for a leader, or as long again.
    pub(super) fn stall_deadline(&self) -> Option<Time> {
        if !self.leads_others() {
            return None;
        }
        let since = self.wal.in_flight_since()?;
        Some(self.stalled.unwrap_or(since) + self.config.election_timeout)
    }
}

/// A wish that was passed on, and whose it is.
fn decode_wish(bytes: &Bytes) -> Option<(Author, Wish)> {
    let mut rest = bytes.slice(1..);
    let author = Author::decode(&mut rest)?;
    Some((author, Wish::decode(rest)?))
}
