//! The way of an entry: to the medium, to peers, into the state, and to whoever waited for it.

use alloc::string::ToString as _;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Replica;
use super::proposals::Waiter;
use crate::api::etcdserverpb::LeaseKeepAliveResponse;
use crate::api::{Error, Response};
use crate::auth::{Answer, Assignment, TokenId};
use crate::command::{Command, CommandKind, Origin, Stamp, UnknownCommand};
use crate::event::{Event, Halt};
use crate::ids::LeaseId;
use crate::lease::keeper::Renewals;
use crate::raft::membership::Membership;
use crate::raft::message::LogEnd;
use crate::raft::{Entry, EntryKind, Index};
use crate::state_machine::{Applied, Outcome};

impl Replica {
    /// Hands what must become durable to the log.
    pub(super) fn save(&mut self) {
        let commit = self.raft.hard_state().commit;
        let (hard_state, entries) = self.raft.take_unsaved();
        self.wal.append(entries);
        match hard_state {
            Some(hard_state) => self.wal.save(hard_state),
            None => self.wal.note_commit(commit),
        }
    }

    /// Sends messages; those that promise something wait for what was just handed to the log.
    pub(super) fn route_messages(&mut self) {
        while let Some(outgoing) = self.raft.poll_message() {
            if outgoing.after_durable {
                self.held.push_back((self.wal.barrier(), outgoing.message));
            } else {
                self.send_raft(outgoing.message);
            }
        }
    }

    /// Lets go the promises whose content is durable; those to this member itself are taken at once.
    pub(super) fn release_promises(&mut self) -> bool {
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

    pub(super) fn apply_committed(&mut self) -> bool {
        let commit = self.raft.hard_state().commit;
        if self.applied.index >= commit || self.raft.is_awaiting_state() {
            return false;
        }
        while self.applied.index < commit && !self.halted {
            let index = self.applied.index.next();
            let entry =
                self.raft.log().get(index).expect("what is committed is in the log").clone();
            self.apply(entry);
        }
        self.regain_trust();
        let limits = &self.config.limits;
        let (kept, needed) = (limits.log_memory_bytes, limits.log_needed_bytes_max);
        self.raft.trim_log(self.now, self.applied.index, kept, needed);
        true
    }

    pub(super) fn apply(&mut self, entry: Entry) {
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
            CommandKind::Compact { .. } | CommandKind::Authenticate | CommandKind::Other => {}
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
    pub(super) fn apply_to_state(
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
                let mut assignment = None;
                if let Command::Authenticate(assigned) = &command {
                    assignment = Some(assigned.clone());
                }
                let mut applied = self.state.apply(stamp.clone(), command);
                if let Some(assignment) = assignment {
                    self.assign_token(index, &assignment, &mut applied);
                }
                self.tally.note(&applied);
                if let CommandKind::LeaseExpire { leases } = kind {
                    self.tally.note_expired(leases, &applied);
                }
                Ok(Some((stamp, kind, applied)))
            }
            EntryKind::Membership => {
                let unknown = UnknownCommand { tag: None };
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

    /// Notes a token that an entry has assigned, and puts its number into the answer. Those from before this member
    /// started are not taken up again: nobody knows any more for how long they were not used.
    fn assign_token(&mut self, index: Index, assignment: &Assignment, applied: &mut Applied) {
        let Ok(Outcome::Response(Response::Auth(Answer::Authenticate(answer)))) =
            &mut applied.outcome
        else {
            return;
        };
        answer.token = index.0.to_string();
        if index <= self.started_at {
            return;
        }
        let Assignment { name, digest, .. } = assignment;
        let id = TokenId { index: index.0, digest: *digest };
        let (ttl, made) = (self.config.limits.token_ttl, self.state.auth.revision());
        self.tokens.assign(self.now, ttl, (id, Arc::clone(name)), made);
    }

    /// Remembers what the state was after the entry that was applied last, if there is anybody to compare with.
    pub(super) fn note_digest(&mut self) {
        if !self.raft.membership().is_alone(self.config.id) {
            self.digests.push(self.applied.index, self.state.digest);
        }
    }

    /// Answers whoever waited for an entry.
    pub(super) fn settle(
        &mut self,
        waiter: Waiter,
        kind: CommandKind,
        outcome: Result<Outcome, Error>,
    ) {
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

    pub(super) fn answer_renewals(&mut self, renewals: &Renewals, renewed: Vec<(LeaseId, i64)>) {
        for (lease, ttl) in renewed {
            for id in renewals.get(&lease).into_iter().flatten() {
                let response = LeaseKeepAliveResponse { header: None, id: lease.0, ttl };
                self.reply(*id, Ok(Response::LeaseKeepAlive(response)));
            }
        }
    }
}
