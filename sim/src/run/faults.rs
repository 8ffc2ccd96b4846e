//! What goes wrong in a run, and what is damaged until its member has noticed.

use cairn_engine::MemberId;
use cairn_engine::raft::Index;
use cairn_engine::recovery::RecoveryError;
use cairn_engine::storage::meta::SUPERBLOCKS_BYTES;
use cairn_engine::tree_file::TreeFileId;
use cairn_engine::wal::{RecoverError, SegmentSeq};

use super::alarm::Alarm;
use super::deeds::{Deed, Harm};
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
    Tree(TreeFileId, u64),
    /// The disk is that of another member, which has this one's.
    Swapped(MemberId),
    /// It was, and may have been looked at when it was.
    Returned(MemberId),
}

/// Whether a byte of a tree file is of a superblock.
pub(super) fn is_superblock(offset: u64) -> bool {
    usize::try_from(offset).is_ok_and(|offset| offset < SUPERBLOCKS_BYTES)
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
        self.strike();
    }

    /// Leadership is being handed over: now and then something goes wrong right then.
    pub(super) fn hunt(&mut self) {
        let one_in = self.swarm.hunt_one_in;
        let may = self.phase == Phase::Chaos && !self.is_planned() && self.swarm.fault_every_ns > 0;
        if may && one_in > 0 && self.hunter.chance(1, one_in) {
            let wait = self.hunter.magnitude(1_000, MILLI);
            self.alarm(wait, Alarm::Strike);
        }
    }

    /// Lets something go wrong now, somewhere.
    pub(super) fn strike(&mut self) {
        if self.phase == Phase::Calm {
            return;
        }
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
        let torn = *self.random.pick(&[
            Torn::Nothing,
            Torn::Everything,
            Torn::AnySectors,
            Torn::AnySectors,
            Torn::Prefix,
        ]);
        let timeout = u64::try_from(self.swarm.election_timeout.as_nanos()).expect("a while");
        let for_ns = self.random.magnitude(MILLI, 4 * timeout);
        self.harm(Harm { fault, member: id, torn, for_ns, detail: None });
    }

    /// Lets something go wrong, and decides on its details, unless that was done before.
    pub(super) fn harm(&mut self, mut harm: Harm) {
        let Harm { fault, member: id, for_ns: while_ns, .. } = harm;
        let now_ns = self.world.now_ns();
        self.mark_fault(fault, id);
        self.trace.note(now_ns, || Note::Fault(fault, id));
        self.leases.disturbed(now_ns + while_ns);
        harm.detail = self.harm_in_detail(harm);
        self.note_deed(|| Deed::Fault(harm));
    }

    fn harm_in_detail(&mut self, harm: Harm) -> Option<[u64; 2]> {
        let Harm { fault, member: id, torn, for_ns: while_ns, detail } = harm;
        let now_ns = self.world.now_ns();
        let is_up = self.world.is_up(id);
        match fault {
            // They are done to a process.
            Fault::Crash
            | Fault::CrashAmid
            | Fault::Pause
            | Fault::Rot
            | Fault::SnapshotRot
            | Fault::Swap
            | Fault::Reconfigure
            | Fault::Reversion
            | Fault::Wipe
                if !is_up => {}
            Fault::Wipe => self.wipe(id, torn),
            Fault::Image => self.copy_disk(id),
            Fault::RollBack => self.begin_recess(),
            Fault::Swap => return self.swap(id, torn, detail),
            Fault::Crash => self.world.crash(id, torn),
            Fault::CrashAmid => {
                let outputs = detail.map_or_else(|| self.random.below(12), |it| it[0]);
                self.world.crash_after(id, outputs, torn);
                return Some([outputs, 0]);
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
                let by_ns =
                    detail.map_or_else(|| self.random.magnitude(MILLI, 30 * SECOND), |it| it[0]);
                self.world.jump_clock(id, by_ns);
                return Some([by_ns, 0]);
            }
            Fault::Stall => self.world.stall_disk(id, while_ns),
            Fault::WriteError => self.world.fail_disk(id),
            Fault::Rot => {
                self.world.crash(id, torn);
                let place = match detail {
                    Some([segment, offset]) => Some((SegmentSeq(segment), offset))
                        .filter(|(segment, _)| self.world.disk(id).vouches(*segment, offset)),
                    None => self.world.disk(id).vouched_byte(&mut self.random),
                };
                if let Some((segment, offset)) = place {
                    self.world.disk(id).flip(segment, offset);
                    self.trace
                        .note(now_ns, || Note::Of(id, format!("{segment}.wal rots at {offset}")));
                    self.rot.insert(id, Rot::Log(segment, offset));
                    return Some([segment.0, offset]);
                }
            }
            Fault::SnapshotRot => {
                self.world.crash(id, torn);
                let place = match detail {
                    Some([_, offset]) => self.world.disk(id).snapshot_byte_at(offset),
                    None => self.world.disk(id).snapshot_byte(&mut self.random),
                };
                if let Some((index, offset)) = place {
                    self.world.disk(id).flip_snapshot(index, offset);
                    self.trace.note(now_ns, || {
                        Note::Of(id, format!("snapshot {index} rots at {offset}"))
                    });
                    self.rot.insert(id, Rot::Snapshot(index, offset));
                    return Some([index.0, offset]);
                }
                let place = match detail {
                    Some([file, offset]) => Some((TreeFileId(file), offset)),
                    None => self.world.disk(id).tree_byte(&mut self.random),
                };
                let place = place.filter(|_| self.may_lose_state());
                if let Some((file, offset)) = place {
                    // A second superblock that is lost is more than was promised.
                    if is_superblock(offset) && self.beheaded.contains(&id) {
                        return Some([file.0, offset]);
                    }
                    self.world.disk(id).flip_tree(file, offset);
                    self.trace.note(now_ns, || {
                        Note::Of(id, format!("tree file {} rots at {offset}", file.0))
                    });
                    self.rot.insert(id, Rot::Tree(file, offset));
                    self.decayed.insert(id);
                    return Some([file.0, offset]);
                }
            }
            Fault::Partition => {
                let others = self.members();
                let chosen = |run: &mut Self, id: &MemberId| match detail {
                    Some([side, _]) => side >> (id.0 % 64) & 1 == 1,
                    None => run.random.chance(1, 2),
                };
                let group: Vec<_> = others.iter().copied().filter(|id| chosen(self, id)).collect();
                self.world.network.isolate(&group, &others);
                self.alarm(while_ns, Alarm::Heal);
                let bits = group.iter().fold(0, |bits, id| bits | 1 << (id.0 % 64));
                return Some([bits, 0]);
            }
            Fault::Cut => {
                let to = match detail {
                    Some([to, _]) => MemberId(to),
                    None => *self.random.pick(&self.members()),
                };
                self.world.network.cut(id, to);
                self.alarm(while_ns, Alarm::Heal);
                return Some([to.0, 0]);
            }
            Fault::Clog | Fault::Throttle => {
                let to = match detail {
                    Some([to, _]) => MemberId(to),
                    None => *self.random.pick(&self.members()),
                };
                let byte_ns = match detail {
                    Some([_, byte_ns]) => byte_ns,
                    None => self.random.magnitude(100, 100_000),
                };
                for (from, to) in [(id, to), (to, id)] {
                    if fault == Fault::Clog {
                        self.world.network.clog(from, to, now_ns + while_ns);
                    } else {
                        self.world.network.throttle(from, to, byte_ns);
                    }
                }
                // What was sent by then arrives later.
                self.leases.disturbed(now_ns + 2 * while_ns);
                self.alarm(while_ns, Alarm::Heal);
                return Some([to.0, byte_ns]);
            }
            Fault::Reconfigure => {
                let number = detail.map_or_else(|| self.random.number(), |it| it[0]);
                let limits = self.swarm.other_limits(number);
                self.world.reconfigure(id, |config| config.limits = limits);
                self.world.crash(id, torn);
                return Some([number, 0]);
            }
            Fault::Reversion => {
                let number = detail.map_or_else(|| self.random.number(), |it| it[0]);
                self.start_another_version(id, number);
                self.world.crash(id, torn);
                return Some([number, 0]);
            }
            Fault::Network => {
                self.world.network.quality = self.swarm.network;
                self.alarm(while_ns, Alarm::Heal);
            }
        }
        None
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
            (Some(Rot::Tree(file, _)), RecoveryError::Trees(damaged, _)) => file == damaged,
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
            // Were it mended, a state that was given up would come back, after its pages were used again.
            Some(Rot::Tree(_, offset)) if self.world.is_up(id) && is_superblock(offset) => {
                self.beheaded.insert(id);
            }
            Some(Rot::Tree(file, offset)) => self.world.disk(id).flip_tree(file, offset),
            Some(Rot::Swapped(other)) => {
                self.rot.insert(other, Rot::Returned(id));
                self.world.swap_disks(id, other);
            }
            Some(Rot::Returned(_)) | None => {}
        }
    }

    /// Gives a member and another one each other's disks. Both must refuse to start; then they get their own back.
    fn swap(&mut self, id: MemberId, torn: Torn, detail: Option<[u64; 2]>) -> Option<[u64; 2]> {
        let able = |run: &mut Self, id| {
            !run.rot.contains_key(&id) && !run.decayed.contains(&id) && !run.is_blank(id)
        };
        let others = self.members().into_iter().filter(|other| *other != id);
        let up: Vec<_> = others.filter(|other| self.world.is_up(*other)).collect();
        let other = match detail {
            Some([other, _]) => *up.iter().find(|id| id.0 == other)?,
            None if up.is_empty() => return None,
            None => *self.random.pick(&up),
        };
        self.world.crash(id, torn);
        self.world.crash(other, torn);
        // One that is empty would be anybody's.
        if able(self, id) && able(self, other) {
            self.tally.swapped += 1;
            self.world.swap_disks(id, other);
            self.rot.extend([(id, Rot::Swapped(other)), (other, Rot::Swapped(id))]);
        }
        Some([other.0, 0])
    }
}
