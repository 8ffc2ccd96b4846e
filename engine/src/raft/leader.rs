//! The role of one: order entries, send them on, and know what is committed.
//!
//! # Changing the membership
//!
//! - C1 There is one change at a time: none is proposed while another is in the log and not known to be committed,
//!   or while two sets of voters overlap.
//! - C2 None is proposed before an entry of the leader's own term is committed: until then it does not know whether
//!   the log holds a change already (the flaw of single-server changes, Ongaro 2015).
//! - C3 So every append that carries a change also says that the one before is committed, and a log cannot become
//!   durable with the one and without that knowledge: nobody counts by a membership that is two changes old.
//!
//! When a joint membership is committed the leader proposes to leave it, whoever entered it.

use alloc::collections::{BTreeMap, VecDeque};
use bytes::Bytes;

use super::message::{Body, LogEnd, Message, Round};
use super::progress::Progress;
use super::quorum::reached_by_majority;
use super::state::Core;
use super::{Entry, EntryKind, Index, Next, PeerProgress, ReadReady, ReadToken};
use crate::ids::MemberId;
use crate::time::Time;

#[derive(Clone, Debug)]
pub(super) struct Leader {
    /// Every member, this one included: its own log counts once it is durable.
    progress: BTreeMap<MemberId, Progress>,
    /// Index of the entry that began the term; reads wait until it is committed (thesis §6.4).
    first_of_term: Index,
    /// The end of the log as far as this member promised itself to make it durable.
    promised: Index,
    /// The latest round of reads, and the reads that wait for one, oldest first.
    round: Round,
    reads: VecDeque<WaitingRead>,
    /// Who is to take over, if somebody is.
    transfer: Option<Transfer>,
    next_heartbeat: Time,
}

#[derive(Clone, Debug)]
struct WaitingRead {
    token: ReadToken,
    /// The round that must be confirmed; `None` until the next [`Leader::flush`] starts one.
    round: Option<Round>,
}

#[derive(Clone, Copy, Debug)]
struct Transfer {
    target: MemberId,
    /// Then it has not happened, and this member goes on.
    deadline: Time,
}

impl Leader {
    /// Begins to lead: with an empty entry, without which nothing of earlier terms is known to be committed.
    pub(super) fn new(core: &mut Core, now: Time) -> Self {
        let next = core.log.last_index().next();
        let mut leader = Self {
            progress: BTreeMap::new(),
            first_of_term: next,
            promised: core.log.last_index(),
            round: Round(0),
            reads: VecDeque::new(),
            transfer: None,
            next_heartbeat: now,
        };
        leader.meet_members(core, now);
        leader.propose(core, EntryKind::Empty, Bytes::new());
        leader.flush(core, now);
        leader
    }

    /// A leader with nobody to speak to and nobody to hear never wakes by itself.
    pub(super) fn deadline(&self) -> Time {
        if self.progress.len() == 1 {
            return Time::from_nanos(u64::MAX);
        }
        let transfer = self.transfer.map(|transfer| transfer.deadline);
        transfer.into_iter().fold(self.next_heartbeat, Time::min)
    }

    pub(super) fn wake(&mut self, core: &mut Core, now: Time) -> Next {
        self.transfer = self.transfer.filter(|transfer| now < transfer.deadline);
        // Rounds for reads do not put this off: what was lost is asked for again however many reads there are.
        if now >= self.next_heartbeat {
            self.next_heartbeat = now + core.config.heartbeat_interval;
            if !self.hears_majority(core, now) {
                return Next::Follow { leader: MemberId::NONE };
            }
            for progress in self.progress.values_mut() {
                progress.give_up_if_silent(now, core.config.election_timeout / 2);
            }
            self.send_heartbeats(core);
            self.flush(core, now);
            self.hand_over(core);
        }
        Next::Stay
    }

    /// CheckQuorum (thesis §6.2): a leader that nobody answers makes room, an election timeout and a heartbeat later at
    /// most.
    fn hears_majority(&self, core: &Core, now: Time) -> bool {
        reached_by_majority(&core.membership, |id| self.hears(core, now, id))
    }

    /// Whether a member was heard lately.
    fn hears(&self, core: &Core, now: Time, id: MemberId) -> bool {
        id == core.config.id
            || self
                .progress
                .get(&id)
                .is_some_and(|progress| progress.heard_within(now, core.config.election_timeout))
    }

    pub(super) fn propose(&mut self, core: &mut Core, kind: EntryKind, data: Bytes) -> Index {
        let index = core.log.last_index().next();
        core.log.push(Entry::new(index, core.term(), kind, data));
        index
    }

    /// Whether a change of the membership may be proposed now (C1, C2).
    pub(super) fn may_change(&self, core: &Core) -> bool {
        self.is_settled(core) && !core.membership.is_joint() && !core.is_changing()
    }

    /// Whether an entry of this term is committed, and so everything before is known to be.
    pub(super) fn is_settled(&self, core: &Core) -> bool {
        core.hard_state.commit >= self.first_of_term
    }

    /// Two sets of voters should not overlap for long.
    fn leave_joint(&mut self, core: &mut Core) {
        if core.membership.is_joint() && self.is_settled(core) && !core.is_changing() {
            let left = core.membership.left().to_entry(&[]);
            self.propose(core, EntryKind::Membership, left);
        }
    }

    pub(super) fn read_index(&mut self, core: &mut Core, token: ReadToken) {
        self.reads.push_back(WaitingRead { token, round: None });
        self.release_reads(core);
    }

    /// Sends what has gathered: entries to those who can take them, and a round of heartbeats for new reads.
    pub(super) fn flush(&mut self, core: &mut Core, now: Time) {
        self.leave_joint(core);
        self.promise_to_self(core);
        let id = core.config.id;
        if self.reads.back().is_some_and(|read| read.round.is_none())
            && !core.membership.is_alone(id)
        {
            self.round.0 += 1;
            let round = self.round;
            for read in self.reads.iter_mut().rev().take_while(|read| read.round.is_none()) {
                read.round = Some(round);
            }
            self.send_heartbeats(core);
        }
        for (peer, progress) in self.progress.iter_mut().filter(|(peer, _)| **peer != id) {
            send_appends(core, now, *peer, progress);
        }
    }

    /// The own log is written while it is sent; once durable it counts as one answer (thesis §10.2.1).
    fn promise_to_self(&mut self, core: &mut Core) {
        let last = core.log.last_index();
        if last > self.promised {
            self.promised = last;
            core.promise(core.config.id, Body::AppendAccepted { matched: last });
        }
    }

    fn send_heartbeats(&mut self, core: &mut Core) {
        for (peer, progress) in &mut self.progress {
            if *peer != core.config.id {
                let commit = progress.matched().min(core.hard_state.commit);
                let body = Body::Heartbeat { commit, round: self.round };
                core.send(*peer, core.term(), body);
            }
        }
    }

    pub(super) fn step(&mut self, core: &mut Core, now: Time, message: &Message) -> Next {
        let Some(progress) = self.progress.get_mut(&message.from) else {
            return Next::Stay; // Not a member any more, or not yet.
        };
        progress.hear(now);
        match &message.body {
            Body::AppendAccepted { matched } => {
                if *matched <= core.log.last_index() && progress.accepted(now, *matched) {
                    let next = self.advance_commit(core, now);
                    if !matches!(next, Next::Stay) {
                        return next;
                    }
                    self.hand_over(core);
                }
                self.flush(core, now);
            }
            Body::AppendRejected { prev, hint } => {
                let covered = core.log.covered().index;
                let agree = core.log.may_agree(hint.index, hint.term);
                if progress.rejected(*prev, hint.index, agree.index) {
                    // Who holds the place and may not promise it says from where to go on.
                    let lacks_prev = hint.index <= *prev;
                    if hint.index < covered || *prev <= covered && lacks_prev {
                        want_snapshot(core, message.from, progress);
                    } else {
                        send_appends(core, now, message.from, progress);
                    }
                }
            }
            Body::HeartbeatReply { round } => {
                progress.confirmed = progress.confirmed.max(*round).min(self.round);
                self.release_reads(core);
            }
            Body::Vote { last, takeover: _ } => {
                core.answer_vote(message.from, *last);
            }
            // Late answers to this member's candidature.
            Body::VoteReply { .. } | Body::PreVoteReply { .. } => {}
            // Only a broken peer claims to lead the same term (R1).
            Body::Append { .. } | Body::Heartbeat { .. } | Body::TimeoutNow => {}
            Body::PreVote { .. } => unreachable!("answered before the role is asked"),
        }
        Next::Stay
    }

    /// Commits what a majority holds, if it is of this term (R6); what is before goes along (R3).
    fn advance_commit(&mut self, core: &mut Core, now: Time) -> Next {
        loop {
            let held = reached_by_majority(&core.membership, |id| self.progress[&id].matched());
            if held <= core.hard_state.commit || core.log.term_at(held) != Some(core.term()) {
                break;
            }
            // A change of membership on the way is obeyed before anything behind it is counted.
            let change = core.first_change(held);
            core.commit_to(change.unwrap_or(held));
            if change.is_some() {
                self.meet_members(core, now);
                if !core.membership.is_voter(core.config.id) {
                    return self.resign(core);
                }
            }
        }
        self.release_reads(core);
        Next::Stay
    }

    /// Knows everybody who is a member, and forgets who is not.
    fn meet_members(&mut self, core: &mut Core, now: Time) {
        let next = core.log.last_index().next();
        for id in core.membership.members() {
            self.progress.entry(id).or_insert_with(|| Progress::new(next, now));
        }
        let gone = self.progress.extract_if(.., |id, _| !core.membership.contains(*id));
        for (id, progress) in gone.collect::<BTreeMap<_, _>>() {
            // Perhaps it has the entry that tells it so, and only does not know that it is committed.
            let commit = progress.matched().min(core.hard_state.commit);
            core.send(id, core.term(), Body::Heartbeat { commit, round: self.round });
        }
    }

    /// Makes room for somebody who may vote, and lets the others know that this member may not.
    fn resign(&mut self, core: &mut Core) -> Next {
        self.send_heartbeats(core);
        if let Some(successor) = self.best_successor(core) {
            core.send(successor, core.term(), Body::TimeoutNow);
        }
        Next::Follow { leader: MemberId::NONE }
    }

    /// The voter, other than this member, whose log is longest.
    fn best_successor(&self, core: &Core) -> Option<MemberId> {
        let others = core.membership.incoming().filter(|id| *id != core.config.id);
        others.max_by_key(|id| self.progress.get(id).map(Progress::matched))
    }

    /// The voter that should take over, of those that may and were heard lately.
    pub(super) fn successor(
        &self,
        core: &Core,
        now: Time,
        may: impl Fn(MemberId) -> bool,
    ) -> Option<MemberId> {
        let others = core.membership.incoming().filter(|id| *id != core.config.id);
        others
            .filter(|id| may(*id) && self.hears(core, now, *id))
            .max_by_key(|id| self.progress.get(id).map(Progress::matched))
    }

    /// Begins to hand over to `target`, who votes.
    pub(super) fn transfer(&mut self, core: &mut Core, now: Time, target: MemberId) {
        self.transfer = Some(Transfer { target, deadline: now + core.config.election_timeout });
        self.flush(core, now);
        self.hand_over(core);
    }

    /// Whether this member is handing over: then it proposes nothing more.
    pub(super) fn is_transferring(&self) -> bool {
        self.transfer.is_some()
    }

    /// Asks the successor to take over once its log is as long as this one.
    fn hand_over(&self, core: &mut Core) {
        if let Some(Transfer { target, .. }) = self.transfer
            && self.progress.get(&target).map(Progress::matched) == Some(core.log.last_index())
        {
            core.send(target, core.term(), Body::TimeoutNow);
        }
    }

    /// Lets go the reads whose round a majority confirmed (R7), at the commit index of now.
    fn release_reads(&mut self, core: &mut Core) {
        if !self.is_settled(core) {
            return;
        }
        let confirmed = reached_by_majority(&core.membership, |id| {
            if id == core.config.id { self.round } else { self.progress[&id].confirmed }
        });
        let alone = core.membership.is_alone(core.config.id);
        let index = Some(core.hard_state.commit);
        while let Some(read) = self.reads.front()
            && (alone || read.round.is_some_and(|round| round <= confirmed))
        {
            core.reads.push_back(ReadReady { token: read.token, index });
            self.reads.pop_front();
        }
    }

    /// Tells the waiting reads that this member leads no more.
    pub(super) fn abandon_reads(&mut self, core: &mut Core) {
        core.reads
            .extend(self.reads.drain(..).map(|read| ReadReady { token: read.token, index: None }));
    }

    /// Up to where a member acknowledged the log.
    pub(super) fn acknowledged(&self, peer: MemberId) -> Index {
        self.progress.get(&peer).map_or(Index(0), Progress::matched)
    }

    /// Forgets what a member acknowledged.
    pub(super) fn forget(&mut self, core: &Core, now: Time, peer: MemberId) {
        let next = core.log.last_index().next();
        if let Some(progress) = self.progress.get_mut(&peer).filter(|p| p.matched() > Index(0)) {
            *progress = Progress::new(next, now);
        }
    }

    /// Notes that a member was brought a snapshot, or not.
    pub(super) fn snapshot_ended(&mut self, peer: MemberId, covers: Index) {
        if let Some(progress) = self.progress.get_mut(&peer) {
            progress.snapshot_ended(covers);
        }
    }

    /// The lowest index that a member that answers needs next.
    pub(super) fn needed(&self, core: &Core, now: Time) -> Index {
        let last = core.log.last_index().next();
        let waits = |id: &MemberId, progress: &Progress| {
            self.hears(core, now, *id) && !progress.is_waiting_for_snapshot()
        };
        let needed = self.progress.iter().filter(|(id, progress)| waits(id, progress));
        needed.map(|(_, progress)| progress.matched().next()).fold(last, Index::min)
    }

    /// What is known of every other member.
    pub(super) fn peers(&self, core: &Core, now: Time) -> impl Iterator<Item = PeerProgress> {
        self.progress.iter().filter(|(id, _)| **id != core.config.id).map(move |(id, progress)| {
            PeerProgress {
                id: *id,
                matched: progress.matched(),
                is_active: self.hears(core, now, *id),
                wants_snapshot: progress.is_waiting_for_snapshot(),
            }
        })
    }
}

/// Sends as many appends as the member's pace allows; an empty one if it only lacks news of a commit.
fn send_appends(core: &mut Core, now: Time, peer: MemberId, progress: &mut Progress) {
    let commit = core.hard_state.commit;
    while progress.may_send(core.log.last_index(), core.config.appends_in_flight_max) {
        send_append(core, now, peer, progress);
    }
    if progress.is_streaming() && progress.told_commit < commit.min(progress.matched()) {
        progress.told_commit = commit;
        let body =
            Body::Heartbeat { commit: commit.min(progress.matched()), round: progress.confirmed };
        core.send(peer, core.term(), body);
    }
}

fn send_append(core: &mut Core, now: Time, peer: MemberId, progress: &mut Progress) {
    let index = progress.next().prev();
    let Some(term) = core.log.term_at(index) else {
        return want_snapshot(core, peer, progress);
    };
    let entries = core.log.slice(progress.next(), core.config.append_bytes_max);
    let last = entries.last().map_or(index, |entry| entry.index);
    let commit = core.hard_state.commit;
    progress.told_commit = commit;
    progress.sent(now, last);
    core.send(peer, core.term(), Body::Append { prev: LogEnd { index, term }, commit, entries });
}

/// The entries that a member needs are gone: only a snapshot helps.
fn want_snapshot(core: &mut Core, peer: MemberId, progress: &mut Progress) {
    progress.wait_for_snapshot();
    core.snapshots_wanted.push_back(peer);
}

#[cfg(test)]
mod tests {
    use super::super::testing::{HEARTBEAT, TIMEOUT, one_of_three};
    use super::super::{Raft, RoleName};
    use super::*;

    const OTHER: MemberId = MemberId(2);

    /// Answers as `OTHER`, and says which of the messages to it were appends.
    fn answer(raft: &mut Raft, now: Time) -> usize {
        let mut appends = 0;
        while let Some(outgoing) = raft.poll_message() {
            let message = outgoing.message;
            let body = match message.body {
                _ if message.to == MemberId(1) => {
                    raft.step(now, message);
                    continue;
                }
                Body::PreVote { .. } => {
                    Body::PreVoteReply { granted: true, committed: LogEnd::default() }
                }
                Body::Vote { .. } => Body::VoteReply { granted: true },
                Body::Heartbeat { round, .. } => Body::HeartbeatReply { round },
                // Lost.
                Body::Append { .. } => {
                    appends += usize::from(message.to == OTHER);
                    continue;
                }
                Body::PreVoteReply { .. }
                | Body::VoteReply { .. }
                | Body::AppendAccepted { .. }
                | Body::AppendRejected { .. }
                | Body::HeartbeatReply { .. }
                | Body::TimeoutNow => unreachable!("a leader does not say this"),
            };
            if message.to == OTHER {
                let (from, to, term) = (OTHER, MemberId(1), message.term);
                raft.step(now, Message { from, to, term, body });
            }
        }
        appends
    }

    /// A leader of three whose first entry was lost on its way; when it began.
    fn elected() -> (Raft, Time) {
        let mut raft = one_of_three(1);
        let now = raft.deadline();
        raft.wake(now);
        assert_eq!(answer(&mut raft, now), 1);
        assert_eq!(raft.role(), RoleName::Leader);
        (raft, now)
    }

    #[test]
    fn a_lost_append_is_sent_again_however_many_reads_there_are() {
        let (mut raft, began) = elected();
        let mut appends = 0;
        for read in 1..=40 {
            let now = began + HEARTBEAT / 2 * read;
            raft.wake(now);
            raft.read_index(ReadToken(u64::from(read))).expect("it leads");
            raft.flush(now);
            appends += answer(&mut raft, now);
        }
        assert!(appends >= 2, "{appends} in two seconds");
    }

    #[test]
    fn a_leader_that_nobody_answers_gives_way_after_a_timeout_and_a_heartbeat() {
        let (mut raft, began) = elected();
        let last_heard = began + HEARTBEAT * 11;
        while raft.deadline() <= last_heard {
            let now = raft.deadline();
            raft.wake(now);
            answer(&mut raft, now);
        }
        while raft.role() == RoleName::Leader {
            let now = raft.deadline();
            assert!(now <= last_heard + TIMEOUT + HEARTBEAT, "it leads at {now:?}");
            raft.wake(now);
        }
    }
}
