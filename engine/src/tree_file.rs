//! A member's state in a file of trees: keys, history and leased keys in trees of their own, and all the rest in the
//! tree `S`, as the chunks of a snapshot without records.
//!
//! A member has one such file, which checkpoints advance. A state that comes from a leader goes to a file of its own
//! first; the file whose state is the newest counts, so there is no moment in which a crash could find none.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Bound;

use crate::cluster::Cluster;
use crate::ids::ClusterId;
use crate::mvcc::Store;
use crate::mvcc::base::{Base, FirstDamage, SharedPages};
use crate::mvcc::batch::Owned;
use crate::mvcc::compact::Sweep;
use crate::mvcc::revision::Revision;
use crate::raft::membership::Membership;
use crate::snapshot::{Position, Reader, SnapshotError, SnapshotWriter};
use crate::state_machine::StateMachine;
use crate::storage::db::{Db, OpenError, Pin};
use crate::storage::meta::{Choice, Facts, Members, Meta, SUPERBLOCKS_BYTES, SweepMark};
use crate::storage::{Damage, TreeId};
use crate::wal::Lsn;

/// Names a tree file of a member; a new one has a higher number than those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeFileId(pub u64);

/// A tree file that is open.
pub struct TreeFile {
    /// Which.
    pub id: TreeFileId,
    /// What stands in it.
    pub db: Db,
    /// Its pages, as far as they were written.
    pub pages: SharedPages,
}

impl fmt::Debug for TreeFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TreeFile").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What a tree file held at a start.
#[derive(Debug)]
pub struct Loaded {
    /// The file.
    pub file: TreeFile,
    /// What its newest checkpoint covers.
    pub newest: Position,
    /// What the one before covers; the same, if there is none.
    pub second: Position,
    /// The state.
    pub state: StateMachine,
    /// What holds the pages that the state reads.
    pub held: (Arc<Base>, Pin),
}

/// Why a tree file cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeFileError {
    /// Its superblocks or its map.
    Open(OpenError),
    /// A page that is needed.
    Damaged(Damage),
    /// What is neither keys nor history.
    Rest(SnapshotError),
    /// A page was found damaged while the member ran, and there is nobody who could bring what it held.
    Condemned,
}

impl TreeFileError {
    /// Whether bytes have changed that were right once, rather than being of another version, or somebody else's.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) | Self::Open(OpenError::Damaged(_)) | Self::Condemned => true,
            Self::Rest(error) => {
                matches!(error, SnapshotError::Torn | SnapshotError::Corrupt { .. })
            }
            Self::Open(OpenError::Empty | OpenError::Refused(_)) => false,
        }
    }
}

impl fmt::Display for TreeFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(error) => error.fmt(f),
            Self::Damaged(damage) => damage.fmt(f),
            Self::Rest(error) => write!(f, "the state beside the keys: {error}"),
            Self::Condemned => f.write_str(
                "it was found damaged, and no other member could bring its state: restore a snapshot of this member",
            ),
        }
    }
}

impl core::error::Error for TreeFileError {}

/// The bucket of `S` for what is no bucket of etcd's.
const META: u8 = 9;
/// Where the memory of all records stands.
const BYTES_KEY: [u8; 6] = [META, b'b', b'y', b't', b'e', b's'];
/// Where the chunks stand; their numbers follow.
const STATE_KEY: [u8; 6] = [META, b's', b't', b'a', b't', b'e'];

/// Opens a tree file; `None` if nothing was ever written to it.
///
/// # Errors
/// If it is damaged, or of a version that this one does not know, or another cluster's.
pub fn load(
    id: TreeFileId,
    superblocks: &[u8; SUPERBLOCKS_BYTES],
    pages: SharedPages,
    cluster: ClusterId,
) -> Result<Option<Loaded>, TreeFileError> {
    let mut db = match Db::open(superblocks, &*pages) {
        Err(OpenError::Empty) => return Ok(None),
        opened => opened.map_err(TreeFileError::Open)?,
    };
    if db.meta().facts.applied.0 == 0 {
        return Ok(None);
    }
    let second = match Meta::choose(superblocks) {
        Choice::Use { fallback: Some(meta), .. } if meta.facts.applied.0 > 0 => Some(meta),
        Choice::Use { .. } | Choice::Empty | Choice::Refuse(_) => None,
    };
    let (bytes, newest, mut state) = read_state(&db, &pages, cluster)?;
    let base = Arc::new(Base::new(Arc::clone(&pages), *db.meta(), FirstDamage::default()));
    let SweepMark { main, sub, end } = db.meta().facts.sweep;
    let cursor = Revision { main, sub: u32::try_from(sub).unwrap_or(0) };
    state.store = Store::on(Arc::clone(&base), (end >= 0).then_some(Sweep { cursor, end }), bytes);
    for (lease, key) in base.leased() {
        state.lessor.attach(lease, &key);
    }
    if let Some(damage) = base.damage() {
        return Err(TreeFileError::Damaged(damage));
    }
    let second = second.map_or(newest, |meta| position_of(&meta.facts));
    let held = (base, db.pin());
    Ok(Some(Loaded { file: TreeFile { id, db, pages }, newest, second, state, held }))
}

/// What a state covered that is damaged, and who took part then.
#[derive(Clone, Debug, Default)]
pub struct Lost {
    /// What it covered.
    pub position: Position,
    /// Who took part; nobody, if that is not known.
    pub membership: Membership,
    /// The members, if at least that can still be read.
    pub cluster: Cluster,
}

/// What can be told of a file that is damaged; `None` if not even its superblocks can be read.
pub fn lost_with(
    superblocks: &[u8; SUPERBLOCKS_BYTES],
    pages: &SharedPages,
    cluster: ClusterId,
) -> Option<Lost> {
    let Choice::Use { newest, .. } = Meta::choose(superblocks) else { return None };
    let position = position_of(&newest.facts);
    if newest.owner.cluster != cluster || position.index.0 == 0 {
        return None;
    }
    let membership = newest.facts.members.membership();
    let db = Db::open(superblocks, &**pages).ok();
    let rest = db.and_then(|db| read_state(&db, pages, cluster).ok());
    let cluster = rest.map_or_else(Cluster::default, |(_, _, state)| state.cluster);
    Some(Lost { position, membership, cluster })
}

/// The memory of all records, and the state without them.
fn read_state(
    db: &Db,
    pages: &SharedPages,
    cluster: ClusterId,
) -> Result<(u64, Position, StateMachine), TreeFileError> {
    let (bytes, chunks) = read_rest(db, pages).map_err(TreeFileError::Damaged)?;
    let mut reader = Reader::new(cluster);
    for chunk in &chunks {
        reader.push(chunk).map_err(TreeFileError::Rest)?;
    }
    let (newest, state) = reader.finish().map_err(TreeFileError::Rest)?;
    Ok((bytes, newest, state))
}

/// The memory of all records, and the chunks.
fn read_rest(db: &Db, pages: &SharedPages) -> Result<(u64, Vec<Vec<u8>>), Damage> {
    let tree = db.tree(&**pages, TreeId::Rest);
    let bytes = tree.get(&BYTES_KEY)?.and_then(|bytes| bytes.try_into().ok());
    let mut range = tree.range((Bound::Included(&STATE_KEY), Bound::Unbounded))?;
    let mut chunks = Vec::new();
    while let Some(entry) = range.pop_front()? {
        if entry.key().starts_with(&STATE_KEY) {
            chunks.push(entry.value()?.to_vec());
        }
    }
    Ok((bytes.map_or(0, u64::from_le_bytes), chunks))
}

/// What a checkpoint of this state says of itself.
pub fn facts_of(position: &Position, state: &StateMachine) -> Facts {
    let sweep = state.store.sweeping().map_or_else(SweepMark::default, |sweep| SweepMark {
        main: sweep.cursor.main,
        sub: i64::from(sweep.cursor.sub),
        end: sweep.end,
    });
    let (term, vote) = position.vote;
    Facts {
        applied: position.index,
        applied_term: position.term,
        revision: state.store.revision(),
        compacted: state.store.compacted(),
        sweep,
        log_start: position.log_start.0,
        log_promise: position.log_promise.0,
        hard_state: crate::raft::HardState { term, vote, commit: position.index },
        cluster_time_ms: state.time.0,
        members: Members::new(state.cluster.membership()),
    }
}

fn position_of(facts: &Facts) -> Position {
    Position {
        index: facts.applied,
        term: facts.applied_term,
        log_start: Lsn(facts.log_start),
        log_promise: Lsn(facts.log_promise),
        vote: (facts.hard_state.term, facts.hard_state.vote),
        restarts: false,
    }
}

/// All of a state that is not in the store, as changes of `S`, in order.
#[derive(Debug)]
pub struct Rest {
    bytes: Option<u64>,
    writer: SnapshotWriter,
    chunk: u32,
    /// Chunks that the checkpoint before had.
    before: u32,
}

impl Rest {
    /// The state as it is now. The checkpoint before has so many entries in `S`.
    pub fn new(cluster: ClusterId, position: Position, state: &StateMachine, before: u64) -> Self {
        Self {
            bytes: Some(state.store.bytes()),
            writer: SnapshotWriter::without_records(cluster, position, state),
            chunk: 0,
            before: u32::try_from(before.saturating_sub(1)).unwrap_or(u32::MAX),
        }
    }

    /// The next change.
    pub fn next_change(&mut self) -> Option<Owned> {
        let tree = TreeId::Rest;
        if let Some(bytes) = self.bytes.take() {
            let value = Some(bytes.to_le_bytes().to_vec());
            return Some(Owned { tree, key: BYTES_KEY.to_vec(), value });
        }
        let value = self.writer.next_chunk();
        if value.is_none() && self.chunk >= self.before {
            return None;
        }
        let mut key = STATE_KEY.to_vec();
        key.extend_from_slice(&self.chunk.to_be_bytes());
        self.chunk += 1;
        Some(Owned { tree, key, value })
    }
}

/// What a member reads its tree files from, at its start.
pub trait TreeSource {
    /// Those that are there.
    fn tree_files(&mut self) -> Vec<TreeFileId> {
        Vec::new()
    }

    /// Those of which a member found, while it ran, that they are damaged. They are not to be believed any more, but for what
    /// they covered, and who the members are.
    fn condemned_tree_files(&mut self) -> Vec<TreeFileId> {
        Vec::new()
    }

    /// The beginning of one, condemned or not, and its pages. `None`: it is shorter than that, or cannot be read.
    fn open_tree_file(
        &mut self,
        _id: TreeFileId,
    ) -> Option<(Box<[u8; SUPERBLOCKS_BYTES]>, SharedPages)> {
        None
    }
}
