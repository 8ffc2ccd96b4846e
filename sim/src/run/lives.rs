//! What members do that nobody asked for: they start, crash, publish, and tell operators.

use cairn_engine::cluster::Change;
use cairn_engine::command::Command;
use cairn_engine::event::{Event, Publication};
use cairn_engine::raft::{Index, RoleName};
use cairn_engine::{MemberId, Replica};

use super::alarm::Alarm;
use super::faults::{Rot, is_superblock};
use super::marks::{Fate, Mark, State};
use super::{MILLI, Phase, Run, SECOND};
use crate::check::{Violation, ensure};
use crate::trace::Note;

/// What a member has done to its disk since it started.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chores {
    pub(super) log_bytes: u64,
    pub(super) snapshots: u64,
}

/// After one crash of so many the tree files are looked at from end to end.
const FSCK_ONE_IN: u64 = 16;

/// One publication of so many is followed by a comparison of whole states.
const CHECK_ONE_IN: u64 = 32;

impl Run {
    pub(super) fn start(&mut self, id: MemberId) {
        if !self.world.is_up(id) && !self.roster.banished.contains(&id) {
            self.world.start(id);
        }
    }

    pub(super) fn started(&mut self, id: MemberId) -> Result<(), Violation> {
        self.chores.insert(id, Chores::default());
        self.roster.starts(id);
        let swapped = matches!(self.rot.get(&id), Some(Rot::Swapped(_)));
        ensure(!swapped, "recovery", || format!("member {} starts with another's disk", id.0))?;
        // Its process may have read what is undone now.
        let is_sound = !self.rot.contains_key(&id);
        match self.rot.get(&id) {
            // It stays, and whoever reads it has to get by.
            Some(Rot::Tree(file, offset))
                if offset % 2 == 0 && !is_superblock(*offset) && self.members().len() > 1 =>
            {
                self.lasting.insert(id, (*file, *offset));
                self.rot.remove(&id);
            }
            Some(_) | None => self.undo_rot(id),
        }
        let has_whole_trees =
            self.decayed.contains(&id) && is_sound && self.world.disk(id).tree_faults().is_empty();
        let Some(replica) = self.world.last_replica(id) else { return Ok(()) };
        let awaits_state = replica.raft().is_awaiting_state();
        if awaits_state {
            self.tally.states_lost += 1;
            self.stateless.insert(id);
        } else {
            self.stateless.remove(&id);
            if has_whole_trees {
                self.decayed.remove(&id);
            }
        }
        let alone = self.everybody() == [id].into() && self.swarm.members == 1;
        let raft = replica.raft();
        self.trace.note(self.world.now_ns(), || {
            let (log, hard_state) = (raft.log(), raft.hard_state());
            let (from, to) = (log.covered(), log.last());
            Note::Of(id, format!("{} has a log from {from:?} to {to:?}, {hard_state:?}", id.0))
        });
        self.history.started(id, raft.log(), raft.hard_state(), alone)
    }

    /// A member stops because it was removed: it knows that itself, or whoever told it does.
    pub(super) fn left(&mut self, id: MemberId) -> Result<(), Violation> {
        let knows = |replica: &Replica| replica.state().cluster.is_removed(id);
        let told = self.world.last_replica(id).is_some_and(knows);
        ensure(told || self.history.cluster().is_removed(id), "halt", || {
            format!("member {} stops as if it were removed", id.0)
        })
    }

    pub(super) fn crashed(&mut self, id: MemberId) -> Result<(), Violation> {
        let is_checked = self.tally.crashes.is_multiple_of(FSCK_ONE_IN);
        if is_checked && !self.rot.contains_key(&id) && !self.decayed.contains(&id) {
            let faults = self.world.disk(id).tree_faults();
            ensure(faults.is_empty(), "storage", || {
                format!("after a crash of member {}: {faults:?}", id.0)
            })?;
        }
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
            self.mark_request(&question.asked.request, Fate::Unknown);
            self.think(question.client);
        }
        for client in &mut self.watchers {
            if let Some(place) = client.stream.take_if(|place| place.member == id) {
                client.interrupted.extend(self.watches.lost(place.stream));
                self.reading.remove(&place.stream);
            }
        }
        if self.phase == Phase::Chaos && self.is_planned() {
            return Ok(());
        }
        let removed = self.history.cluster().is_removed(id);
        if removed && self.phase == Phase::Chaos && self.random.chance(1, 2) {
            return Ok(());
        }
        let wait = match self.phase {
            Phase::Chaos => self.random.magnitude(MILLI, 4 * SECOND),
            Phase::Calm if removed => 5 * SECOND,
            Phase::Calm => MILLI,
        };
        self.alarm(wait, Alarm::Restart(id));
        Ok(())
    }

    pub(super) fn read_log(&mut self, id: MemberId) -> Result<(), Violation> {
        let replica = self.world.last_replica(id).expect("it has run");
        self.history.read_log(id, replica.raft().log())
    }

    pub(super) fn published(
        &mut self,
        id: MemberId,
        publication: &Publication,
    ) -> Result<(), Violation> {
        self.read_log(id)?;
        let is_first = self.history.applied(id) == Index(0);
        self.history.published(id, publication)?;
        let now = self.fastest_time();
        let mut members = false;
        while self.entries_seen < self.history.last() {
            self.entries_seen = self.entries_seen.next();
            let entry = self.history.get(self.entries_seen).expect("history has no gap");
            self.tally.expired += u64::try_from(entry.ended.len()).expect("64 bits");
            self.answers.committed(self.entries_seen, entry)?;
            self.leases.committed(self.entries_seen, entry, now)?;
            if entry.ended.len() >= 10 {
                *self.marks.entry(Mark::State(State::TenLeasesEnd)).or_default() += 1;
            }
            let state = match &entry.command {
                Some(Command::Members(Change::Version(to))) => {
                    let goes_down = *to < self.cluster_version;
                    self.cluster_version.clone_from(to);
                    Some(if goes_down { State::VersionDown } else { State::VersionUp })
                }
                Some(Command::Members(Change::Downgrade(to))) if !to.is_empty() => {
                    Some(State::DowngradeBegins)
                }
                _ => None,
            };
            if let Some(state) = state {
                *self.marks.entry(Mark::State(state)).or_default() += 1;
            }
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
        if is_first || self.random.chance(1, CHECK_ONE_IN) || self.is_planned() {
            self.check_member(id)?;
        }
        Ok(())
    }

    /// Compares the state of a member with the model's, if it was published.
    pub(super) fn check_member(&mut self, id: MemberId) -> Result<(), Violation> {
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
    pub(super) fn begins_snapshot(&mut self, id: MemberId) -> Result<(), Violation> {
        let Chores { log_bytes, snapshots } = *self.chores.entry(id).or_default();
        let apart = self.swarm.limits.snapshot_log_bytes;
        ensure(snapshots * apart <= 2 * log_bytes, "chores", || {
            format!("member {} begins snapshot {snapshots} after {log_bytes} bytes of log", id.0)
        })?;
        self.chores.entry(id).or_default().snapshots += 1;
        Ok(())
    }

    pub(super) fn event(&mut self, id: MemberId, event: &Event) -> Result<(), Violation> {
        match event {
            Event::Role { role: RoleName::Leader, term, .. } => {
                self.read_log(id)?;
                let replica = self.world.last_replica(id).expect("it has run");
                self.tally.reigns += 1;
                let time_ms = self.history.model.time_ms();
                let leases = self.history.model.leases().values();
                let overdue = leases.filter(|lease| lease.deadline_ms <= time_ms + 1000).count();
                self.history.leads(id, *term, replica.raft().log().covered().index)?;
                if replica.raft().hard_state().term == *term {
                    self.history.check_elected(id, *term, replica.raft().membership())?;
                }
                if overdue >= 10 {
                    self.mark(Mark::State(State::TenLeasesOverdue));
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
                self.decayed.remove(&id);
                self.history.installed(id);
            }
            Event::Diverged { member, index } => {
                let what = format!("member {} differs at {index}, says {}", member.0, id.0);
                return Err(Violation::new("digest", what));
            }
            Event::MemoryLost => {
                self.tally.noticed += 1;
                ensure(self.roster.may_be_called_lost(id), "trust", || {
                    format!("member {} says that it has lost its memory, and has not", id.0)
                })?;
            }
            Event::MemberForgotten(lost) => {
                ensure(self.roster.may_be_called_lost(*lost), "trust", || {
                    format!("member {} says that {} lost its disk, which it has not", id.0, lost.0)
                })?;
            }
            Event::Compacted { .. }
            | Event::CompactionFinished { .. }
            | Event::LeasesExpired { .. }
            | Event::Alarms(_)
            | Event::Members(_)
            | Event::Published
            | Event::MemoryRegained
            | Event::ClusterVersion(_)
            | Event::ReadyToDowngrade(_)
            | Event::SnapshotSending { .. }
            | Event::SnapshotSent { .. }
            | Event::DiskStalled => {}
        }
        Ok(())
    }
}
