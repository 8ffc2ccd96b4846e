//! Where a member stands after a start: the newest whole snapshot, and the log behind it.
//!
//! If the newest snapshot is damaged, the one before it is taken; the log reaches back that far. Nothing is
//! written and nothing is removed here: if a member cannot start, the operator finds everything as it was.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use crate::cluster::Cluster;
use crate::convert::to_u64;
use crate::ids::{ClusterId, MemberId};
use crate::mvcc::base::Base;
use crate::raft::Index;
use crate::raft::membership::Membership;
use crate::snapshot::{Position, Reader, SnapshotError};
use crate::state_machine::StateMachine;
use crate::storage::db::Pin;
use crate::tree_file::{self, Loaded, Lost, TreeFile, TreeFileError, TreeFileId, TreeSource};
use crate::wal::recover::Known;
use crate::wal::scan::Unreadable;
use crate::wal::{self, LogSource, RecoverError, Recovered};

/// Where the snapshots are read from.
pub trait SnapshotSource {
    /// The snapshots that exist, by the index that each covers, ascending.
    fn snapshots(&mut self) -> Vec<Index>;

    /// Reads up to `len` bytes of a snapshot at `offset`; fewer only at its end.
    ///
    /// # Errors
    /// If the medium fails.
    fn read_snapshot(
        &mut self,
        index: Index,
        offset: u64,
        len: usize,
    ) -> Result<Vec<u8>, Unreadable>;
}

/// A member's disk at start.
pub trait Disk: SnapshotSource + LogSource + TreeSource {}

impl<D: SnapshotSource + LogSource + TreeSource> Disk for D {}

/// What was found.
#[derive(Debug)]
pub struct Recovery {
    /// What the snapshot that was taken covers.
    pub newest: Position,
    /// What the one before it covers; the same, if there is none.
    pub second: Position,
    /// The state that it holds.
    pub state: StateMachine,
    /// The log behind it.
    pub log: Recovered,
    /// Its size.
    pub snapshot_bytes: u64,
    /// Snapshots that were passed over because they are damaged.
    pub damaged: Vec<(Index, SnapshotError)>,
    /// The tree file that holds the state, if one does.
    pub trees: Option<(TreeFile, (Arc<Base>, Pin))>,
    /// Tree files that are there and do not count.
    pub other_trees: Vec<TreeFileId>,
    /// The state is damaged, and `newest` only says what it covered: another member has to bring it.
    pub missing: Option<Missing>,
}

/// What is known of a state that is damaged.
#[derive(Debug, Default)]
pub struct Missing {
    /// Who took part.
    pub membership: Membership,
    /// The members, if at least that could be read.
    pub cluster: Cluster,
    /// The tree files that say so. They stay until there is another.
    pub trees: Vec<TreeFileId>,
}

/// Why a member cannot start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoveryError {
    /// The log is damaged where it matters, or not this member's.
    Log(RecoverError),
    /// A snapshot cannot be used, and not because it is damaged.
    Snapshot(Index, SnapshotError),
    /// A tree file cannot be used.
    Trees(TreeFileId, TreeFileError),
    /// The log goes on behind a snapshot that is not there.
    SnapshotMissing {
        /// The index that it covers.
        index: Index,
        /// The snapshots that are there and damaged.
        damaged: Vec<(Index, SnapshotError)>,
    },
}

impl fmt::Display for RecoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(error) => error.fmt(f),
            Self::Snapshot(index, error) => write!(f, "{index:?}: {error}"),
            Self::Trees(id, error) => write!(f, "tree file {}: {error}", id.0),
            Self::SnapshotMissing { index, damaged } => {
                write!(f, "the log goes on behind index {index}, and no whole snapshot covers it")?;
                damaged
                    .iter()
                    .try_for_each(|(index, error)| write!(f, "; that of index {index}: {error}"))
            }
        }
    }
}

impl core::error::Error for RecoveryError {}

/// Reads a member's disk. An empty disk is a fresh member.
///
/// What is promised stands in the log. If that is whole and the state is damaged, others can bring it, if there are any and
/// `may_fetch` ([`Recovery::missing`]).
///
/// # Errors
/// If what was acknowledged cannot be brought back, or belongs to somebody else.
pub fn recover(
    disk: &mut dyn Disk,
    cluster: ClusterId,
    member: MemberId,
    may_fetch: bool,
) -> Result<Recovery, RecoveryError> {
    let mut snapshots = disk.snapshots();
    let mut damaged = Vec::new();
    let mut found = None;
    while let Some(index) = snapshots.pop() {
        match read(disk, cluster, index) {
            Ok(snapshot) => {
                found = Some(snapshot);
                break;
            }
            Err(error @ (SnapshotError::UnknownFormat { .. } | SnapshotError::Foreign { .. })) => {
                return Err(RecoveryError::Snapshot(index, error));
            }
            Err(error @ (SnapshotError::Torn | SnapshotError::Corrupt { .. })) => {
                damaged.push((index, error));
            }
        }
    }
    let second = snapshots.pop().and_then(|index| read_position(disk, cluster, index));
    let (mut newest, mut state, snapshot_bytes) = found.unwrap_or_default();
    let mut second = second.unwrap_or(newest);
    let Trees { loaded, unneeded: mut other_trees, damaged: damaged_trees } =
        load_trees(disk, (cluster, member), may_fetch)?;
    let mut trees = None;
    match loaded {
        Some(loaded) if loaded.newest.index >= newest.index => {
            (newest, second, state) = (loaded.newest, loaded.second, loaded.state);
            trees = Some((loaded.file, loaded.held));
        }
        Some(older) => other_trees.push(older.file.id),
        None => {}
    }
    let mut missing = None;
    let damaged_ids: Vec<_> = damaged_trees.iter().map(|(id, _)| *id).collect();
    let lost = damaged_trees.into_iter().map(|(_, lost)| lost).max_by_key(|it| it.position.index);
    match lost {
        Some(Lost { position, membership, cluster }) if position.index > newest.index => {
            other_trees.extend(trees.take().map(|(file, _)| file.id));
            (newest, second, state) = (position, position, StateMachine::default());
            missing = Some(Missing { membership, cluster, trees: damaged_ids });
        }
        Some(_) | None => other_trees.extend(damaged_ids),
    }
    let known = Known {
        cluster,
        member,
        start: newest.log_start,
        promise: newest.log_promise,
        index: newest.index,
        term: newest.term,
    };
    let log = wal::recover(disk, known).map_err(RecoveryError::Log)?;
    if let Some((index, _)) = log.restart.filter(|(index, _)| *index > newest.index) {
        return Err(RecoveryError::SnapshotMissing { index, damaged });
    }
    Ok(Recovery {
        newest,
        second,
        state,
        log,
        snapshot_bytes,
        damaged,
        trees,
        other_trees,
        missing,
    })
}

/// What the tree files turned out to be.
#[derive(Default)]
struct Trees {
    /// The one whose state is the newest.
    loaded: Option<Loaded>,
    /// Those that are older, or were never written to.
    unneeded: Vec<TreeFileId>,
    /// Those that are damaged, and what they cover.
    damaged: Vec<(TreeFileId, Lost)>,
}

/// Opens all tree files. Where there are others, one that is damaged is no reason to refuse a start.
fn load_trees(
    disk: &mut dyn Disk,
    (cluster, member): (ClusterId, MemberId),
    may_fetch: bool,
) -> Result<Trees, RecoveryError> {
    let mut trees = Trees::default();
    let mut damaged = Vec::new();
    for id in disk.tree_files() {
        // Without superblocks: a crash while it was made.
        let Some((superblocks, pages)) = disk.open_tree_file(id) else {
            trees.unneeded.push(id);
            continue;
        };
        let newest = trees.loaded.as_ref().map(|it| it.newest.index);
        match tree_file::load(id, &superblocks, Arc::clone(&pages), cluster) {
            Ok(Some(found)) if newest < Some(found.newest.index) => {
                trees.unneeded.extend(trees.loaded.replace(found).map(|older| older.file.id));
            }
            Ok(_older) => trees.unneeded.push(id),
            Err(error) => damaged.push((id, error, Some((superblocks, pages)))),
        }
    }
    for id in disk.condemned_tree_files() {
        damaged.push((id, TreeFileError::Condemned, disk.open_tree_file(id)));
    }
    for (id, error, opened) in damaged {
        let lost = opened.and_then(|(head, pages)| tree_file::lost_with(&head, &pages, cluster));
        let has_others =
            |lost: &Lost| !lost.membership.is_empty() && !lost.membership.is_alone(member);
        let lost = lost.filter(|lost| may_fetch && error.is_damage() && has_others(lost));
        trees.damaged.push((id, lost.ok_or(RecoveryError::Trees(id, error))?));
    }
    Ok(trees)
}

const READ_BYTES: usize = 1 << 20;

fn read(
    disk: &mut dyn Disk,
    cluster: ClusterId,
    index: Index,
) -> Result<(Position, StateMachine, u64), SnapshotError> {
    let mut reader = Reader::new(cluster);
    let mut offset = 0;
    loop {
        let bytes = disk
            .read_snapshot(index, offset, READ_BYTES)
            .map_err(|Unreadable| SnapshotError::Torn)?;
        reader.push(&bytes)?;
        offset += to_u64(bytes.len());
        if bytes.len() < READ_BYTES {
            let (position, state) = reader.finish()?;
            return Ok((position, state, offset));
        }
    }
}

/// What a snapshot says that it covers. It may turn out to be damaged, when it is needed.
fn read_position(disk: &mut dyn Disk, cluster: ClusterId, index: Index) -> Option<Position> {
    let mut reader = Reader::new(cluster);
    let bytes = disk.read_snapshot(index, 0, READ_BYTES).ok()?;
    reader.push(&bytes).ok()?;
    reader.position()
}
