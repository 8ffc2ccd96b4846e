//! The role of one: order entries, send them on, and know what is committed.

use alloc::collections::{BTreeMap, VecDeque};
use bytes::Bytes;

use super::message::{Body, LogEnd, Message, Round};
use super::progress::Progress;
use super::quorum::reached_by_majority;
use super::state::Core;
use super::{Entry, EntryKind, Index, Next, ReadReady, ReadToken};
use crate::ids::MemberId;
use crate::time::Time;

#[derive(Debug)]
pub(super) struct Leader {
    /// Every voter, this member included: its own log counts once it is durable.
    progress: BTreeMap<MemberId, Progress>,
    /// Index of the entry that began the term; reads wait until it is committed (thesis §6.4).
    first_of_term: Index,
    /// The end of the log as far as this member promised itself to make it durable.
    promised: Index,
    /// The latest round of reads, and the reads that wait for one, oldest first.
    round: Round,
    reads: VecDeque<WaitingRead>,
    next_heartbeat: Time,
    next_quorum_check: Time,
}

#[derive(Debug)]
struct WaitingRead {
    token: ReadToken,
    /// The round that must be confirmed; `None` until the next [`Leader::flush`] starts one.
    round: Option<Round>,
}

impl Leader {
    /// Begins to lead: with an empty entry, without which nothing of earlier terms is known to be committed.
    pub(super) fn new(core: &mut Core, now: Time) -> Self {
        let next = core.log.last_index().next();
        let progress = core.membership.voters().map(|id| (id, Progress::new(next, now))).collect();
        let mut leader = Self {
            progress,
            first_of_term: next,
            promised: core.log.last_index(),
            round: Round(0),
            reads: VecDeque::new(),
            next_heartbeat: now,
            next_quorum_check: now + core.config.election_timeout,
        };
        leader.propose(core, EntryKind::Empty, Bytes::new());
        leader.flush(core, now);
        leader
    }

    /// A leader alone has nobody to speak to and nobody to hear: it never wakes by itself.
    pub(super) fn deadline(&self) -> Time {
        if self.progress.len() == 1 {
            return Time::from_nanos(u64::MAX);
        }
        self.next_heartbeat.min(self.next_quorum_check)
    }

    pub(super) fn wake(&mut self, core: &mut Core, now: Time) -> Next {
        if now >= self.next_quorum_check {
            self.next_quorum_check = now + core.config.election_timeout;
            if !self.hears_majority(core, now) {
                return Next::Follow { leader: MemberId::NONE };
            }
        }
        if now >= self.next_heartbeat {
            for progress in self.progress.values_mut() {
                progress.give_up_if_silent(now, core.config.election_timeout / 2);
            }
            self.send_heartbeats(core, now);
            self.flush(core, now);
        }
        Next::Stay
    }

    /// CheckQuorum (thesis §6.2): a leader that nobody answers makes room.
    fn hears_majority(&self, core: &Core, now: Time) -> bool {
        reached_by_majority(&core.membership, |id| {
            id == core.config.id
                || self.progress[&id].heard_within(now, core.config.election_timeout)
        })
    }

    pub(super) fn propose(&mut self, core: &mut Core, kind: EntryKind, data: Bytes) -> Index {
        let index = core.log.last_index().next();
        core.log.push(Entry::new(index, core.term(), kind, data));
        index
    }

    pub(super) fn read_index(&mut self, core: &mut Core, token: ReadToken) {
        self.reads.push_back(WaitingRead { token, round: None });
        self.release_reads(core);
    }

    /// Sends what has gathered: entries to those who can take them, and a round of heartbeats for new reads.
    pub(super) fn flush(&mut self, core: &mut Core, now: Time) {
        self.promise_to_self(core);
        if self.reads.back().is_some_and(|read| read.round.is_none()) && !self.is_alone() {
            self.round.0 += 1;
            let round = self.round;
            for read in self.reads.iter_mut().rev().take_while(|read| read.round.is_none()) {
                read.round = Some(round);
            }
            self.send_heartbeats(core, now);
        }
        let id = core.config.id;
        for (peer, progress) in self.progress.iter_mut().filter(|(peer, _)| **peer != id) {
            send_appends(core, now, *peer, progress);
        }
    }

    fn is_alone(&self) -> bool {
        self.progress.len() == 1
    }

    /// The own log is written while it is sent; once durable it counts as one answer (thesis §10.2.1).
    fn promise_to_self(&mut self, core: &mut Core) {
        let last = core.log.last_index();
        if last > self.promised {
            self.promised = last;
            core.promise(core.config.id, Body::AppendAccepted { matched: last });
        }
    }

    fn send_heartbeats(&mut self, core: &mut Core, now: Time) {
        self.next_heartbeat = now + core.config.heartbeat_interval;
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
                    self.advance_commit(core);
                }
                self.flush(core, now);
            }
            Body::AppendRejected { prev, hint } => {
                let agree = core.log.may_agree(hint.index, hint.term);
                if progress.rejected(*prev, agree.index) {
                    send_appends(core, now, message.from, progress);
                }
            }
            Body::HeartbeatReply { round } => {
                progress.confirmed = progress.confirmed.max(*round).min(self.round);
                self.release_reads(core);
            }
            Body::Vote { last } => {
                core.answer_vote(message.from, *last);
            }
            // Late answers to this member's candidature.
            Body::VoteReply { .. } | Body::PreVoteReply { .. } => {}
            // Only a broken peer claims to lead the same term (R1).
            Body::Append { .. } | Body::Heartbeat { .. } => {}
            Body::PreVote { .. } => unreachable!("answered before the role is asked"),
        }
        Next::Stay
    }

    /// Commits what a majority holds, if it is of this term (R6); what is before goes along (R3).
    fn advance_commit(&mut self, core: &mut Core) {
        let held = reached_by_majority(&core.membership, |id| self.progress[&id].matched());
        if held > core.hard_state.commit && core.log.term_at(held) == Some(core.term()) {
            core.commit_to(held);
            self.release_reads(core);
        }
    }

    /// Lets go the reads whose round a majority confirmed (R7), at the commit index of now.
    fn release_reads(&mut self, core: &mut Core) {
        if core.hard_state.commit < self.first_of_term {
            return;
        }
        let confirmed = reached_by_majority(&core.membership, |id| {
            if id == core.config.id { self.round } else { self.progress[&id].confirmed }
        });
        let alone = self.is_alone();
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
        // The entries it needs are gone: only a snapshot helps.
        return progress.sent(now, index);
    };
    let entries = core.log.slice(progress.next(), core.config.append_bytes_max);
    let last = entries.last().map_or(index, |entry| entry.index);
    let commit = core.hard_state.commit;
    progress.told_commit = commit;
    progress.sent(now, last);
    core.send(peer, core.term(), Body::Append { prev: LogEnd { index, term }, commit, entries });
}
