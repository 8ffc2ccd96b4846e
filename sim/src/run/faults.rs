//! What goes wrong in a run, and what is damaged until its member has noticed.

use cairn_engine::MemberId;
use cairn_engine::raft::Index;
use cairn_engine::recovery::RecoveryError;
use cairn_engine::wal::{RecoverError, SegmentSeq};

use super::alarm::Alarm;
use super::{MILLI, Phase, Run, SECOND};
use crate::check::{Violation, ensure};
use crate::disk::Torn;
use crate::swarm::Fault;
use crate::trace::Note;
use crate::workload::pick;

/// Damage that was done to a disk, and will be undone.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rot {
    Log(SegmentSeq, u64),
    Snapshot(Index, u64),
    /// The disk is that of another member, which has this one's.
    Swapped(MemberId),
    /// It was, and may have been looked at when it was.
    Returned(MemberId),
}

impl Run {
    pub(super) fn plan_fault(&mut self) {
        if self.swarm.fault_every_ns > 0 {
            let wait = self.random.magnitude(MILLI, 2 * self.swarm.fault_every_ns);
            self.alarm(wait, Alarm::Fault);
        }
    }

    pub(super) fn fault(&mut self) {
        if self.phase == Phase::Calm {
            return;
        }
        self.plan_fault();
        if self.roster.is_quiet() || self.swarm.faults.is_empty() {
            return;
        }
        let fault = pick(&mut self.random, &self.swarm.faults);
        // Who leads has most to lose.
        let leader = self.leases.leader().filter(|leader| self.world.is_up(*leader));
        let hunted = leader.filter(|_| self.random.chance(1, 2));
        let Some(id) = hunted.or_else(|| self.a_member()) else { return };
        self.tally.faults += 1;
        if self.skipped.contains(&(self.tally.faults - 1)) {
            return;
        }
        self.mark_fault(fault, id);
        let now_ns = self.world.now_ns();
        self.trace.note(now_ns, || Note::Fault(fault, id));
        let torn = *self.random.pick(&[
            Torn::Nothing,
            Torn::Everything,
            Torn::AnySectors,
            Torn::AnySectors,
            Torn::Prefix,
        ]);
        let timeout = u64::try_from(self.swarm.election_timeout.as_nanos()).expect("a while");
        let while_ns = self.random.magnitude(MILLI, 4 * timeout);
        self.leases.disturbed(now_ns + while_ns);
        match fault {
            Fault::Wipe => self.wipe(id, torn),
            Fault::Image => self.copy_disk(id),
            Fault::RollBack => self.begin_recess(),
            Fault::Swap => self.swap(id, torn),
            Fault::Crash => self.world.crash(id, torn),
            Fault::CrashAmid => {
                let outputs = self.random.below(12);
                self.world.crash_after(id, outputs, torn);
            }
            Fault::CrashAll => {
                for id in self.members() {
                    if self.world.is_up(id) {
                        self.world.crash(id, torn);
                    }
                }
            }
            Fault::Pause => {
                self.world.pause(id);
                self.alarm(while_ns, Alarm::Resume(id));
            }
            Fault::Jump => {
                let by_ns = self.random.magnitude(MILLI, 30 * SECOND);
                self.world.jump_clock(id, by_ns);
            }
            Fault::Stall => self.world.stall_disk(id, while_ns),
            Fault::WriteError => self.world.fail_disk(id),
            Fault::Rot => {
                self.world.crash(id, torn);
                if let Some((segment, offset)) = self.world.disk(id).vouched_byte(&mut self.random)
                {
                    self.world.disk(id).flip(segment, offset);
                    self.trace
                        .note(now_ns, || Note::Of(id, format!("{segment}.wal rots at {offset}")));
                    self.rot.insert(id, Rot::Log(segment, offset));
                }
            }
            Fault::SnapshotRot => {
                self.world.crash(id, torn);
                if let Some((index, offset)) = self.world.disk(id).snapshot_byte(&mut self.random) {
                    self.world.disk(id).flip_snapshot(index, offset);
                    self.trace.note(now_ns, || {
                        Note::Of(id, format!("snapshot {index} rots at {offset}"))
                    });
                    self.rot.insert(id, Rot::Snapshot(index, offset));
                }
            }
            Fault::Partition => {
                let others = self.members();
                let group: Vec<_> =
                    others.iter().copied().filter(|_| self.random.chance(1, 2)).collect();
                self.world.network.isolate(&group, &others);
                self.alarm(while_ns, Alarm::Heal);
            }
            Fault::Cut => {
                let to = *self.random.pick(&self.members());
                self.world.network.cut(id, to);
                self.alarm(while_ns, Alarm::Heal);
            }
            Fault::Network => {
                self.world.network.quality = self.swarm.network;
                self.alarm(while_ns, Alarm::Heal);
            }
        }
    }

    pub(super) fn refused(&mut self, id: MemberId, error: &RecoveryError) -> Result<(), Violation> {
        // A snapshot that is damaged has another one before it, and the log from there on.
        // Unless a leader sent it: then there is no log before it.
        let is_promised = match (self.rot.get(&id), error) {
            (Some(Rot::Log(..)), RecoveryError::Log(RecoverError::Corrupt { .. })) => true,
            (Some(Rot::Snapshot(..)), RecoveryError::SnapshotMissing { .. }) => {
                self.members().len() > 1
            }
            // The same, and there is one before it, behind which the log has a gap up to the one that a leader sent.
            (
                Some(Rot::Snapshot(index, _)),
                RecoveryError::Log(RecoverError::Corrupt { to: Some(to), .. }),
            ) => self.members().len() > 1 && to == index,
            (
                Some(Rot::Swapped(other) | Rot::Returned(other)),
                RecoveryError::Log(RecoverError::Foreign { member: owner, .. }),
            ) => owner == other,
            _ => false,
        };
        ensure(is_promised, "recovery", || {
            format!("member {} cannot start with {:?}: {error}", id.0, self.rot.get(&id))
        })?;
        self.tally.refusals += 1;
        self.undo_rot(id);
        self.alarm(0, Alarm::Restart(id));
        Ok(())
    }

    pub(super) fn undo_rot(&mut self, id: MemberId) {
        match self.rot.remove(&id) {
            Some(Rot::Log(segment, offset)) => self.world.disk(id).flip(segment, offset),
            Some(Rot::Snapshot(index, offset)) => self.world.disk(id).flip_snapshot(index, offset),
            Some(Rot::Swapped(other)) => {
                self.rot.insert(other, Rot::Returned(id));
                self.world.swap_disks(id, other);
            }
            Some(Rot::Returned(_)) | None => {}
        }
    }

    /// Gives a member and another one each other's disks. Both must refuse to start; then they get their own back.
    fn swap(&mut self, id: MemberId, torn: Torn) {
        let able = |run: &mut Self, id| !run.rot.contains_key(&id) && !run.is_blank(id);
        let others = self.members().into_iter().filter(|other| *other != id);
        let up: Vec<_> = others.filter(|other| self.world.is_up(*other)).collect();
        if up.is_empty() {
            return;
        }
        let other = *self.random.pick(&up);
        self.world.crash(id, torn);
        self.world.crash(other, torn);
        // One that is empty would be anybody's.
        if able(self, id) && able(self, other) {
            self.tally.swapped += 1;
            self.world.swap_disks(id, other);
            self.rot.extend([(id, Rot::Swapped(other)), (other, Rot::Swapped(id))]);
        }
    }
}
