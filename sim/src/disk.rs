//! A member's disk: what survives a crash, and what is left of a write that was under way.
//!
//! The log is written in blocks that are durable once the write is answered. A crash before that leaves any
//! subset of the write's sectors. A new segment first needs a name; its file was another segment before, so it is
//! full of old batches. A snapshot is a file under a temporary name until its last part is durable. What was
//! removed may come back with a crash, until the next name was made durable.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cairn_engine::event::{SnapshotPart, TreeWrite};
use cairn_engine::mvcc::base::SharedPages;
use cairn_engine::raft::Index;
use cairn_engine::recovery::{SnapshotSource, recover};
use cairn_engine::storage::check::{Fault, Level, check};
use cairn_engine::storage::meta::{Choice, Meta, SUPERBLOCKS_BYTES};
use cairn_engine::storage::{PageSource, Run, TreeId};
use cairn_engine::tree_file::{TreeFileId, TreeSource};
use cairn_engine::wal::scan::{SegmentFile, Unreadable};
use cairn_engine::wal::{LogSource, LogWrite, SegmentSeq};
use cairn_engine::{ClusterId, MemberId};

use crate::random::Random;

/// The unit that a crash keeps or loses as a whole.
pub const SECTOR_BYTES: usize = 512;

/// One member's disk.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    segments: BTreeMap<SegmentSeq, File>,
    /// Retired segments, to be used again.
    spares: Vec<File>,
    /// Segments retired since a name was last made durable.
    retired: Vec<(SegmentSeq, File)>,
    /// Recovery has found something here, and nothing was taken away since.
    holds: bool,
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
    trees: BTreeMap<TreeFileId, TreeDisk>,
    /// Those that are damaged.
    condemned: BTreeMap<TreeFileId, TreeDisk>,
    /// The write to a tree file that is under way.
    tree_write: Option<TreeWrite>,
}

/// A file that can be read without a copy: whoever has read of it keeps what was there when it is written again.
#[derive(Clone, Debug)]
enum File {
    Written(Vec<u8>),
    Read(Bytes),
}

impl File {
    fn len(&self) -> usize {
        match self {
            Self::Written(bytes) => bytes.len(),
            Self::Read(bytes) => bytes.len(),
        }
    }

    fn bytes_mut(&mut self) -> &mut Vec<u8> {
        if let Self::Read(bytes) = self {
            *self = Self::Written(Vec::from(core::mem::take(bytes)));
        }
        match self {
            Self::Written(bytes) => bytes,
            Self::Read(_) => unreachable!("it is written from now on"),
        }
    }

    fn read(&mut self) -> &Bytes {
        if let Self::Written(bytes) = self {
            *self = Self::Read(Bytes::from(core::mem::take(bytes)));
        }
        match self {
            Self::Read(bytes) => bytes,
            Self::Written(_) => unreachable!("it is read from now on"),
        }
    }
}

/// A tree file: what of it is durable, and what was written since.
#[derive(Clone, Debug, Default)]
struct TreeDisk {
    durable: Vec<u8>,
    volatile: Vec<(u64, Vec<u8>)>,
}

/// The bytes of a tree file at one moment.
struct TreePages {
    bytes: Vec<u8>,
    page_bytes: usize,
}

impl PageSource for TreePages {
    fn read(&self, run: Run) -> Result<&[u8], cairn_engine::storage::Unreadable> {
        let from = usize_of(run.first.0) * self.page_bytes;
        let to = from + usize_of(u64::from(run.pages)) * self.page_bytes;
        self.bytes.get(from..to).ok_or(cairn_engine::storage::Unreadable)
    }
}

impl TreeDisk {
    /// What a read finds while the machine runs.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        self.volatile.iter().for_each(|(offset, written)| put_at(&mut bytes, *offset, written));
        bytes
    }

    fn sync(&mut self) {
        self.durable = self.bytes();
        self.volatile.clear();
    }

    fn pages(&self) -> SharedPages {
        let bytes = self.bytes();
        // The superblock says how large pages are; while a file is made, nobody reads any.
        let page_bytes = match bytes.get(24..28) {
            Some(size) => u32::from_le_bytes(size.try_into().expect("four bytes")),
            None => 512,
        };
        Arc::new(TreePages { bytes, page_bytes: usize_of(u64::from(page_bytes)) })
    }
}

fn put_at(file: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let start = usize_of(offset);
    file.resize(file.len().max(start + bytes.len()), 0);
    file[start..start + bytes.len()].copy_from_slice(bytes);
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
        let mut file = self.spares.pop().unwrap_or(File::Written(Vec::new()));
        file.bytes_mut().resize(capacity, 0);
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
        self.crash_trees(torn, random);
    }

    /// Of what was written to tree files and not made durable any sectors are left.
    fn crash_trees(&mut self, torn: Torn, random: &mut Random) {
        if let Some(TreeWrite { file: id, writes, .. }) = self.tree_write.take()
            && torn != Torn::Nothing
        {
            match self.trees.get_mut(&id) {
                Some(file) => file.volatile.extend(writes),
                // The first write has a name only when it is durable.
                None if torn == Torn::Everything || random.chance(1, 2) => {
                    let mut file = TreeDisk { volatile: writes, ..TreeDisk::default() };
                    file.sync();
                    self.trees.insert(id, file);
                }
                None => {}
            }
        }
        for file in self.trees.values_mut() {
            for (offset, bytes) in core::mem::take(&mut file.volatile) {
                for (at, sector) in (offset..).step_by(SECTOR_BYTES).zip(bytes.chunks(SECTOR_BYTES))
                {
                    if torn == Torn::Everything || torn != Torn::Nothing && random.chance(1, 2) {
                        put_at(&mut file.durable, at, sector);
                    }
                }
            }
        }
    }

    /// Takes a write to a tree file; it is carried out with [`Disk::complete_tree_write`].
    pub fn begin_tree_write(&mut self, write: TreeWrite) {
        assert!(self.tree_write.is_none(), "one write to a tree file at a time");
        self.tree_write = Some(write);
    }

    /// Carries out the write under way.
    pub fn complete_tree_write(&mut self) -> SharedPages {
        let TreeWrite { file, writes, sync } =
            self.tree_write.take().expect("a write is under way");
        let file = self.trees.entry(file).or_default();
        file.volatile.extend(writes);
        if sync {
            file.sync();
        }
        file.pages()
    }

    /// Removes a tree file.
    pub fn remove_tree(&mut self, id: TreeFileId) {
        self.trees.remove(&id);
        self.condemned.remove(&id);
    }

    /// Gives a tree file a name under which no start believes it.
    pub fn condemn_tree(&mut self, id: TreeFileId) {
        let file = self.trees.remove(&id).expect("it was read");
        self.condemned.insert(id, file);
    }

    /// A byte of the newest tree file, if there is one: of a superblock, of a tree's topmost page, or of any page.
    pub fn tree_byte(&self, random: &mut Random) -> Option<(TreeFileId, u64)> {
        let (id, file) = self.trees.last_key_value()?;
        let offset = match random.below(4) {
            0 => 16384 * random.below(4) + random.below(4096),
            1 => random.below(u64_of(file.durable.len())),
            _ => {
                let head = file.durable.first_chunk::<SUPERBLOCKS_BYTES>()?;
                let Choice::Use { newest, .. } = Meta::choose(head) else { return None };
                let root = newest.root(*random.pick(&TreeId::ALL));
                let size = newest.owner.page_size;
                size.offset(root.child.page) + random.below(u64_of(size.bytes()))
            }
        };
        Some((*id, offset))
    }

    /// Whether a member found a tree file damaged, and has none to take its place yet.
    pub fn has_condemned_trees(&self) -> bool {
        !self.condemned.is_empty()
    }

    /// What is wrong with the tree files, looked at from end to end.
    pub fn tree_faults(&self) -> Vec<Fault> {
        let faults = |file: &TreeDisk| match file.durable.first_chunk::<SUPERBLOCKS_BYTES>() {
            Some(head) => check(head, &*file.pages(), Level::Map),
            // A crash while it was made.
            None => Vec::new(),
        };
        self.trees.values().flat_map(faults).collect()
    }

    /// Flips one bit of a tree file; once more, and it is as it was.
    pub fn flip_tree(&mut self, id: TreeFileId, offset: u64) {
        self.holds = false;
        let file = self.trees.get_mut(&id);
        if let Some(byte) = file.and_then(|file| file.durable.get_mut(usize_of(offset))) {
            *byte ^= 1;
        }
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
        let file = file.bytes_mut();
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
        self.holds = false;
        let file = self.segments.get_mut(&segment).map(File::bytes_mut);
        if let Some(byte) = file.and_then(|file| file.get_mut(usize_of(offset))) {
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
        self.holds = false;
        self.unreadable.push((segment, offset));
    }

    /// A byte of the newest snapshot, if there is one.
    pub fn snapshot_byte(&self, random: &mut Random) -> Option<(Index, u64)> {
        let (index, file) = self.snapshots.last_key_value()?;
        Some((*index, random.below(u64_of(file.len()))))
    }

    /// Flips one bit of a snapshot; once more, and it is as it was.
    pub fn flip_snapshot(&mut self, index: Index, offset: u64) {
        self.holds = false;
        if let Some(byte) =
            self.snapshots.get_mut(&index).and_then(|file| file.get_mut(usize_of(offset)))
        {
            *byte ^= 1;
        }
    }

    /// Whether nothing is here that a member would start from. What is on a disk stays there, so it is looked for only
    /// until it was found.
    pub fn is_blank(&mut self, cluster: ClusterId, id: MemberId) -> bool {
        if !self.holds {
            let found = recover(self, cluster, id, true);
            self.holds = !found.is_ok_and(|recovery| {
                recovery.newest.index == Index(0) && recovery.log.entries.is_empty()
            });
        }
        !self.holds
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
        let file = |(seq, file): (&SegmentSeq, &File)| SegmentFile {
            seq: *seq,
            bytes: u64_of(file.len()),
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
        let file = self.segments.get_mut(&seq).ok_or(Unreadable)?.read();
        let start = usize_of(offset);
        if start + len > file.len() {
            return Err(Unreadable);
        }
        Ok(file.slice(start..start + len))
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

impl TreeSource for Disk {
    fn tree_files(&mut self) -> Vec<TreeFileId> {
        self.trees.keys().copied().collect()
    }

    fn condemned_tree_files(&mut self) -> Vec<TreeFileId> {
        self.condemned.keys().copied().collect()
    }

    fn open_tree_file(
        &mut self,
        id: TreeFileId,
    ) -> Option<(Box<[u8; SUPERBLOCKS_BYTES]>, SharedPages)> {
        let file = self.trees.get(&id).or_else(|| self.condemned.get(&id))?;
        let head = file.bytes().get(..SUPERBLOCKS_BYTES)?.to_vec();
        Some((head.try_into().expect("as many as asked for"), file.pages()))
    }
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).expect("simulated files are small")
}

fn u64_of(length: usize) -> u64 {
    u64::try_from(length).expect("64 bits")
}
