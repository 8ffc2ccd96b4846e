//! A member's directory: what its files are called, and reading them at start.
//!
//! ```text
//! <data>/FORMAT                      what wrote this, and whose it is, in words
//! <data>/LOCK                        held while a member runs
//! <data>/wal/<number>.wal            segments of the log
//! <data>/wal/spare-<number>          files that will be segments
//! <data>/snap/<index>.snap           snapshots of the state
//! <data>/snap/unfinished             one on its way
//! <data>/db/<number>.db              the state in trees
//! <data>/db/<number>.damaged         one that was found damaged, until there is another
//! <data>/db/unfinished               a file of trees that is made
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use cairn_engine::mvcc::base::SharedPages;
use cairn_engine::raft::Index;
use cairn_engine::recovery::SnapshotSource;
use cairn_engine::storage::PageSize;
use cairn_engine::storage::meta::{Choice, Meta, SUPERBLOCKS_BYTES};
use cairn_engine::tree_file::{TreeFileId, TreeSource};
use cairn_engine::wal::scan::{SegmentFile, Unreadable};
use cairn_engine::wal::{LogSource, SegmentSeq};

use crate::disk::{self, ALIGNMENT, Disk, PageFile};

/// Where a member's files are.
#[derive(Clone, Debug)]
pub struct Directory {
    log: PathBuf,
    snapshots: PathBuf,
    trees: PathBuf,
}

impl Directory {
    /// The files of the member whose data is in `data`, and whose log is in `log`, if that is elsewhere.
    pub fn new(data: &Path, log: Option<&Path>) -> Self {
        let log = log.map_or_else(|| data.join("wal"), Path::to_path_buf);
        Self { log, snapshots: data.join("snap"), trees: data.join("db") }
    }

    /// Makes the directories.
    ///
    /// # Errors
    /// What the filesystem says.
    pub fn create(&self) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.log)?;
        std::fs::create_dir_all(&self.snapshots)?;
        std::fs::create_dir_all(&self.trees)
    }

    /// The directory of the log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The directory of the snapshots.
    pub fn snapshots(&self) -> &Path {
        &self.snapshots
    }

    /// The file of a segment.
    pub fn segment(&self, seq: SegmentSeq) -> PathBuf {
        self.log.join(format!("{seq}{SEGMENT_SUFFIX}"))
    }

    /// A file that will be a segment.
    pub fn spare(&self, number: u64) -> PathBuf {
        self.log.join(format!("{SPARE_PREFIX}{number:016x}"))
    }

    /// The file of a snapshot.
    pub fn snapshot(&self, index: Index) -> PathBuf {
        self.snapshots.join(format!("{:016x}{SNAPSHOT_SUFFIX}", index.0))
    }

    /// The directory of the tree files.
    pub fn trees(&self) -> &Path {
        &self.trees
    }

    /// A tree file.
    pub fn tree(&self, id: TreeFileId) -> PathBuf {
        self.trees.join(format!("{:016x}{TREE_SUFFIX}", id.0))
    }

    /// A tree file that is damaged.
    pub fn condemned_tree(&self, id: TreeFileId) -> PathBuf {
        self.trees.join(format!("{:016x}{CONDEMNED_SUFFIX}", id.0))
    }

    /// A tree file that is not whole yet.
    pub fn unfinished_tree(&self) -> PathBuf {
        self.trees.join("unfinished")
    }

    /// The file of a snapshot that is not whole yet.
    pub fn unfinished(&self) -> PathBuf {
        self.snapshots.join("unfinished")
    }
}

const SEGMENT_SUFFIX: &str = ".wal";
const SPARE_PREFIX: &str = "spare-";
const SNAPSHOT_SUFFIX: &str = ".snap";
const TREE_SUFFIX: &str = ".db";
const CONDEMNED_SUFFIX: &str = ".damaged";

/// The number in a file's name.
fn number(name: &std::ffi::OsStr, prefix: &str, suffix: &str) -> Option<u64> {
    let digits = name.to_str()?.strip_prefix(prefix)?.strip_suffix(suffix)?;
    u64::from_str_radix(digits, 16).ok()
}

/// A member's disk as the engine reads it at start, and as tools do. Blocks the calling thread; writes nothing.
#[derive(Debug)]
pub struct BootDisk<'a, D: Disk> {
    disk: &'a D,
    directory: &'a Directory,
    segments: Vec<SegmentFile>,
    snapshots: Vec<Index>,
    spares: Vec<u64>,
    trees: Vec<TreeFileId>,
    condemned_trees: Vec<TreeFileId>,
    open_trees: BTreeMap<TreeFileId, D::Pages>,
}

impl<'a, D: Disk> BootDisk<'a, D> {
    /// Lists the files. Without a directory of snapshots there are none.
    ///
    /// # Errors
    /// If a directory cannot be read.
    pub fn open(disk: &'a D, directory: &'a Directory) -> disk::Result<Self> {
        let names = disk.list_blocking(&directory.log)?;
        let mut segments = Vec::new();
        for seq in names.iter().filter_map(|name| number(name, "", SEGMENT_SUFFIX)) {
            let seq = SegmentSeq(seq);
            segments
                .push(SegmentFile { seq, bytes: disk.length_blocking(&directory.segment(seq))? });
        }
        segments.sort_by_key(|file| file.seq);
        let spares = names.iter().filter_map(|name| number(name, SPARE_PREFIX, "")).collect();
        let names = match disk.list_blocking(&directory.snapshots) {
            Err(error) if error.is_missing() => Vec::new(),
            listed => listed?,
        };
        let mut snapshots: Vec<Index> =
            names.iter().filter_map(|name| number(name, "", SNAPSHOT_SUFFIX).map(Index)).collect();
        snapshots.sort();
        let names = match disk.list_blocking(&directory.trees) {
            Err(error) if error.is_missing() => Vec::new(),
            listed => listed?,
        };
        let trees_with = |suffix| {
            names.iter().filter_map(|name| number(name, "", suffix)).map(TreeFileId).collect()
        };
        let (trees, condemned_trees) = (trees_with(TREE_SUFFIX), trees_with(CONDEMNED_SUFFIX));
        let open_trees = BTreeMap::new();
        Ok(Self {
            disk,
            directory,
            segments,
            snapshots,
            spares,
            trees,
            condemned_trees,
            open_trees,
        })
    }

    /// The files that will be segments.
    pub(super) fn spares(&self) -> &[u64] {
        &self.spares
    }

    /// The snapshots that are there, ascending, and the tree files that were opened.
    pub(super) fn into_files(self) -> (Vec<Index>, BTreeMap<TreeFileId, D::Pages>) {
        (self.snapshots, self.open_trees)
    }

    fn read_file(&self, path: &Path, offset: u64, len: usize) -> Result<Vec<u8>, Unreadable> {
        let mut buffer = self.disk.buffer(len.next_multiple_of(ALIGNMENT));
        let found = self.disk.read_blocking(path, offset, &mut buffer).map_err(|_| Unreadable)?;
        Ok(buffer.as_ref()[..found.min(len)].to_vec())
    }
}

impl<D: Disk> LogSource for BootDisk<'_, D> {
    fn segments(&mut self) -> Vec<SegmentFile> {
        self.segments.clone()
    }

    fn read(&mut self, seq: SegmentSeq, offset: u64, len: usize) -> Result<Bytes, Unreadable> {
        let bytes = self.read_file(&self.directory.segment(seq), offset, len)?;
        if bytes.len() == len { Ok(Bytes::from(bytes)) } else { Err(Unreadable) }
    }
}

impl<D: Disk> SnapshotSource for BootDisk<'_, D> {
    fn snapshots(&mut self) -> Vec<Index> {
        self.snapshots.clone()
    }

    fn read_snapshot(
        &mut self,
        index: Index,
        offset: u64,
        len: usize,
    ) -> Result<Vec<u8>, Unreadable> {
        self.read_file(&self.directory.snapshot(index), offset, len)
    }
}

impl<D: Disk> TreeSource for BootDisk<'_, D> {
    fn tree_files(&mut self) -> Vec<TreeFileId> {
        self.trees.clone()
    }

    fn condemned_tree_files(&mut self) -> Vec<TreeFileId> {
        self.condemned_trees.clone()
    }

    fn open_tree_file(
        &mut self,
        id: TreeFileId,
    ) -> Option<(Box<[u8; SUPERBLOCKS_BYTES]>, SharedPages)> {
        let path = if self.condemned_trees.contains(&id) {
            self.directory.condemned_tree(id)
        } else {
            self.directory.tree(id)
        };
        let head: Box<[u8; SUPERBLOCKS_BYTES]> =
            self.read_file(&path, 0, SUPERBLOCKS_BYTES).ok()?.into_boxed_slice().try_into().ok()?;
        let size = match Meta::choose(&head) {
            Choice::Use { newest, .. } => newest.owner.page_size,
            // Whoever asked finds out what is wrong.
            Choice::Empty | Choice::Refuse(_) => PageSize::DEFAULT,
        };
        let file = self.disk.open_pages(&path, size).ok()?;
        let pages = file.pages();
        if !self.condemned_trees.contains(&id) {
            self.open_trees.insert(id, file);
        }
        Some((head, pages))
    }
}
