//! A member's disk: what survives a crash, and what is left of a write that was under way.
//!
//! The log is written in blocks that are durable once the write is answered. A crash before that leaves any
//! subset of the write's sectors. A new segment first needs a name; its file was another segment before, so it is
//! full of old batches. A snapshot is a file under a temporary name until its last part is durable. What was
//! removed may come back with a crash, until the next name was made durable.

use std::collections::BTreeMap;

use bytes::Bytes;
use cairn_engine::event::SnapshotPart;
use cairn_engine::raft::Index;
use cairn_engine::recovery::SnapshotSource;
use cairn_engine::wal::scan::{SegmentFile, Unreadable};
use cairn_engine::wal::{LogSource, LogWrite, SegmentSeq};

use crate::random::Random;

/// The unit that a crash keeps or loses as a whole.
pub const SECTOR_BYTES: usize = 512;

/// One member's disk.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    segments: BTreeMap<SegmentSeq, Vec<u8>>,
    /// Retired segments, to be used again.
    spares: Vec<Vec<u8>>,
    /// Segments retired since a name was last made durable.
    retired: Vec<(SegmentSeq, Vec<u8>)>,
    snapshots: BTreeMap<Index, Vec<u8>>,
    /// Snapshots removed since a name was last made durable.
    removed: Vec<(Index, Vec<u8>)>,
    unfinished: Option<(Index, Vec<u8>)>,
    /// The part of a snapshot that is under way.
    part: Option<SnapshotPart>,
    /// The write to the log that is under way.
    in_flight: Option<LogWrite>,
    /// The writes that were answered: segment, offset, length.
    answered: Vec<(SegmentSeq, u64, u64)>,
    /// Blocks that cannot be read.
    unreadable: Vec<(SegmentSeq, u64)>,
}

/// What a crash does to the write that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Torn {
    /// Nothing of it is left.
    Nothing,
    /// All of it is left, though it was never answered.
    Everything,
    /// Each sector is left or not, as chance has it.
    AnySectors,
    /// The first sectors are left.
    Prefix,
}

impl Torn {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::Nothing, Self::Everything, Self::AnySectors, Self::Prefix];
}

impl Disk {
    /// Takes a write to the log; it is durable after [`Disk::complete`].
    pub fn begin(&mut self, write: LogWrite) {
        assert!(self.in_flight.is_none(), "one write to the log at a time");
        if write.offset == 0 {
            // The name is durable before the first write begins.
            self.name_segment(write.segment, usize_of(write.capacity));
        }
        self.in_flight = Some(write);
    }

    fn name_segment(&mut self, seq: SegmentSeq, capacity: usize) {
        self.spares.extend(self.retired.drain(..).map(|(_, file)| file));
        let mut file = self.spares.pop().unwrap_or_default();
        file.resize(capacity, 0);
        let before = self.segments.insert(seq, file);
        assert!(before.is_none(), "a segment's number is used once");
    }

    /// Makes the write under way durable.
    pub fn complete(&mut self) -> LogWrite {
        let write = self.in_flight.take().expect("a write is under way");
        self.put(&write, |_| true);
        self.answered.push((write.segment, write.offset, u64_of(write.bytes.len())));
        write
    }

    /// What is left after a crash.
    pub fn crash(&mut self, torn: Torn, random: &mut Random) {
        self.crash_log(torn, random);
        self.crash_snapshots(torn, random);
    }

    fn crash_log(&mut self, torn: Torn, random: &mut Random) {
        for (seq, file) in core::mem::take(&mut self.retired) {
            if random.chance(1, 2) {
                self.segments.insert(seq, file);
            } else {
                self.spares.push(file);
            }
        }
        let Some(write) = self.in_flight.take() else { return };
        let sectors = write.bytes.len() / SECTOR_BYTES;
        let prefix = random.below(u64_of(sectors) + 1);
        match torn {
            Torn::Nothing => {}
            Torn::Everything => self.put(&write, |_| true),
            Torn::AnySectors => self.put(&write, |_| random.chance(1, 2)),
            Torn::Prefix => self.put(&write, |sector| u64_of(sector) < prefix),
        }
    }

    fn crash_snapshots(&mut self, torn: Torn, random: &mut Random) {
        match (self.part.take(), torn) {
            (Some(part), Torn::Everything) => self.put_part(part),
            (Some(part), Torn::AnySectors) if random.chance(1, 2) => self.put_part(part),
            (_, Torn::Nothing | Torn::Everything | Torn::AnySectors | Torn::Prefix) => {}
        }
        self.unfinished = None;
        for (index, file) in core::mem::take(&mut self.removed) {
            if random.chance(1, 2) {
                self.snapshots.insert(index, file);
            }
        }
    }

    fn put(&mut self, write: &LogWrite, mut keeps: impl FnMut(usize) -> bool) {
        let file = self.segments.get_mut(&write.segment).expect("named before it is written");
        for (sector, bytes) in write.bytes.chunks(SECTOR_BYTES).enumerate() {
            if keeps(sector) {
                let start = usize_of(write.offset) + sector * SECTOR_BYTES;
                file[start..start + bytes.len()].copy_from_slice(bytes);
            }
        }
    }

    /// Recycles segments.
    pub fn retire(&mut self, segments: &[SegmentSeq]) {
        for seq in segments {
            self.retired.extend(self.segments.remove(seq).map(|file| (*seq, file)));
        }
        self.answered.retain(|(seq, _, _)| !segments.contains(seq));
    }

    /// Takes a part of a snapshot; it is written with [`Disk::complete_part`].
    pub fn begin_part(&mut self, part: SnapshotPart) {
        assert!(self.part.is_none(), "one part of a snapshot at a time");
        self.part = Some(part);
    }

    /// Writes the part under way; the last one makes the snapshot durable.
    pub fn complete_part(&mut self) {
        let part = self.part.take().expect("a part is under way");
        self.put_part(part);
    }

    fn put_part(&mut self, part: SnapshotPart) {
        if part.offset == 0 {
            self.unfinished = Some((part.index, Vec::new()));
        }
        let (index, file) = self.unfinished.as_mut().expect("a snapshot begins at its beginning");
        assert_eq!(
            (*index, u64_of(file.len())),
            (part.index, part.offset),
            "parts follow each other"
        );
        file.extend_from_slice(&part.bytes);
        if part.last {
            let (index, file) = self.unfinished.take().expect("just written");
            self.snapshots.insert(index, file);
            let kept = self.snapshots.split_off(&part.keep_from);
            self.removed = core::mem::replace(&mut self.snapshots, kept).into_iter().collect();
        }
    }

    /// Flips one bit of a segment; once more, and it is as it was.
    pub fn flip(&mut self, segment: SegmentSeq, offset: u64) {
        if let Some(byte) =
            self.segments.get_mut(&segment).and_then(|file| file.get_mut(usize_of(offset)))
        {
            *byte ^= 1;
        }
    }

    /// A byte of the log that a later write vouches for: damage there must be noticed, if it is read at all.
    pub fn vouched_byte(&self, random: &mut Random) -> Option<(SegmentSeq, u64)> {
        let (_, vouched) = self.answered.split_last()?;
        if vouched.is_empty() {
            return None;
        }
        let (segment, offset, len) = *random.pick(vouched);
        Some((segment, offset + random.below(len)))
    }

    /// Whether a later write vouches for a byte of the log.
    pub fn vouches(&self, segment: SegmentSeq, at: u64) -> bool {
        let vouched = self.answered.split_last().map_or(&[][..], |(_, vouched)| vouched);
        vouched
            .iter()
            .any(|(seq, offset, len)| *seq == segment && (*offset..offset + len).contains(&at))
    }

    /// A byte of the newest snapshot, if there is one: the one at this place, or at its end.
    pub fn snapshot_byte_at(&self, at: u64) -> Option<(Index, u64)> {
        let (index, file) = self.snapshots.last_key_value()?;
        Some((*index, at.min(u64_of(file.len()).checked_sub(1)?)))
    }

    /// Makes a block unreadable.
    pub fn spoil(&mut self, segment: SegmentSeq, offset: u64) {
        self.unreadable.push((segment, offset));
    }

    /// A byte of the newest snapshot, if there is one.
    pub fn snapshot_byte(&self, random: &mut Random) -> Option<(Index, u64)> {
        let (index, file) = self.snapshots.last_key_value()?;
        Some((*index, random.below(u64_of(file.len()))))
    }

    /// Flips one bit of a snapshot; once more, and it is as it was.
    pub fn flip_snapshot(&mut self, index: Index, offset: u64) {
        if let Some(byte) =
            self.snapshots.get_mut(&index).and_then(|file| file.get_mut(usize_of(offset)))
        {
            *byte ^= 1;
        }
    }

    /// The snapshots that are there.
    pub fn snapshot_count(&self) -> usize {
        self.snapshots.len()
    }

    /// The segments that are there.
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }
}

impl LogSource for Disk {
    fn segments(&mut self) -> Vec<SegmentFile> {
        let file = |(seq, bytes): (&SegmentSeq, &Vec<u8>)| SegmentFile {
            seq: *seq,
            bytes: u64_of(bytes.len()),
        };
        self.segments.iter().map(file).collect()
    }

    fn read(&mut self, seq: SegmentSeq, offset: u64, len: usize) -> Result<Bytes, Unreadable> {
        let spoilt = |(segment, block): &(SegmentSeq, u64)| {
            *segment == seq && (offset..offset + u64_of(len)).contains(block)
        };
        if self.unreadable.iter().any(spoilt) {
            return Err(Unreadable);
        }
        let file = self.segments.get(&seq).ok_or(Unreadable)?;
        let start = usize_of(offset);
        file.get(start..start + len).map(Bytes::copy_from_slice).ok_or(Unreadable)
    }
}

impl SnapshotSource for Disk {
    fn snapshots(&mut self) -> Vec<Index> {
        self.snapshots.keys().copied().collect()
    }

    fn read_snapshot(
        &mut self,
        index: Index,
        offset: u64,
        len: usize,
    ) -> Result<Vec<u8>, Unreadable> {
        let file = self.snapshots.get(&index).ok_or(Unreadable)?;
        let start = usize_of(offset).min(file.len());
        let end = (start + len).min(file.len());
        Ok(file[start..end].to_vec())
    }
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).expect("simulated files are small")
}

fn u64_of(length: usize) -> u64 {
    u64::try_from(length).expect("64 bits")
}
