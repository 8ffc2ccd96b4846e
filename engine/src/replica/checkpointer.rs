//! When to make a checkpoint of the state, and its way into a tree file, a slice at a time.
//!
//! ```text
//!          merged             superblock durable
//! ┌─────────┐ ────► ┌─────────┐ ────────────► what was frozen is below now, and the log is needed less far back
//! │ Merging │       │ Writing │
//! └─────────┘       └─────────┘
//! ```
//!
//! The first checkpoint makes a file. A leader's state goes to a file of its own, too, beside the present one; which
//! of both counts is known when it is whole ([`Checkpointer::adopt`], [`Checkpointer::drop_file`]).

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::config::Config;
use crate::convert::to_u64;
use crate::event::TreeWrite;
use crate::mvcc::base::{Base, FirstDamage, SharedPages};
use crate::mvcc::batch::Batch;
use crate::rng::Rng;
use crate::snapshot::Position;
use crate::state_machine::StateMachine;
use crate::storage::checkpoint::{Checkpoint, Fill, Output};
use crate::storage::db::{Db, Pin};
use crate::storage::meta::{Facts, Owner};
use crate::storage::{Damage, PageSize, PageSource, Run, TreeId, Unreadable};
use crate::tree_file::{Rest, TreeFile, TreeFileId, facts_of};

/// Changes of a slice, about: well under a millisecond.
const SLICE_CHANGES: usize = 256;
/// Bytes of a write, about.
const WRITE_BYTES: usize = 1 << 20;

/// Makes checkpoints, one after another.
#[derive(Debug)]
pub(super) struct Checkpointer {
    owner: Owner,
    newest: Position,
    second: Position,
    file: Option<TreeFile>,
    /// Checkpoints of the file that somebody may read, oldest first.
    held: Vec<(Arc<Base>, Pin)>,
    damage: FirstDamage,
    task: Option<Task>,
    last_id: TreeFileId,
}

/// A checkpoint that is being made.
#[derive(Debug)]
struct Task {
    position: Position,
    facts: Facts,
    batch: Option<Batch>,
    rest: Rest,
    checkpoint: Checkpoint,
    /// The file that it makes; none: it advances the present one.
    new_file: Option<NewFile>,
    sealed: bool,
    in_flight: bool,
    syncing: bool,
    bytes: u64,
}

/// A file that is not the member's yet.
#[derive(Debug)]
struct NewFile {
    id: TreeFileId,
    db: Db,
    /// Its first bytes, until they are written.
    head: Option<Vec<u8>>,
}

/// A checkpoint that is durable.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) position: Position,
    pub(super) bytes: u64,
    pub(super) base: Arc<Base>,
    /// The file that it made, to be adopted or dropped, and what holds its pages.
    pub(super) new_file: Option<(TreeFile, Pin)>,
}

/// A file without pages.
struct Nothing;

impl PageSource for Nothing {
    fn read(&self, _run: Run) -> Result<&[u8], Unreadable> {
        Err(Unreadable)
    }
}

impl Checkpointer {
    /// Goes on with the file of `loaded`, if there is one.
    pub(super) fn new(
        config: &Config,
        rng: &mut Rng,
        (newest, second): (Position, Position),
        last_id: TreeFileId,
        loaded: Option<(TreeFile, (Arc<Base>, Pin))>,
    ) -> Self {
        let mut uuid = [0; 16];
        uuid[..8].copy_from_slice(&rng.next_u64().to_le_bytes());
        uuid[8..].copy_from_slice(&rng.next_u64().to_le_bytes());
        let page_size = PageSize::new(config.limits.page_bytes).unwrap_or(PageSize::DEFAULT);
        let owner = Owner { uuid, cluster: config.cluster, member: config.id, page_size };
        let (file, held) = loaded.unzip();
        let damage = held.as_ref().map(|(base, _): &(Arc<Base>, Pin)| base.first_damage());
        let (held, damage) = (held.into_iter().collect(), damage.unwrap_or_default());
        Self { owner, newest, second, file, held, damage, task: None, last_id }
    }

    pub(super) fn newest(&self) -> Position {
        self.newest
    }

    pub(super) fn second(&self) -> Position {
        self.second
    }

    /// The member's file, if there is one already.
    pub(super) fn file(&self) -> Option<TreeFileId> {
        self.file.as_ref().map(|file| file.id)
    }

    /// Whether no checkpoint is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.task.is_none()
    }

    /// Whether there is work for another slice at once.
    pub(super) fn is_merging(&self) -> bool {
        self.task.as_ref().is_some_and(|task| !task.sealed && !task.in_flight)
    }

    /// Begins a checkpoint of this member's state.
    pub(super) fn begin(&mut self, position: Position, state: &mut StateMachine) {
        let (entries, new_file) = match &mut self.file {
            Some(file) => {
                release(&mut file.db, &mut self.held);
                (file.db.meta().root(TreeId::Rest).child.count, None)
            }
            None => (0, Some(self.new_file())),
        };
        self.task = Some(self.task(position, state, entries, new_file));
    }

    /// Begins a file with a leader's state.
    pub(super) fn begin_file(&mut self, position: Position, state: &mut StateMachine) {
        let new_file = self.new_file();
        self.task = Some(self.task(position, state, 0, Some(new_file)));
    }

    fn task(
        &mut self,
        position: Position,
        state: &mut StateMachine,
        entries: u64,
        mut new_file: Option<NewFile>,
    ) -> Task {
        let facts = facts_of(&position, state);
        let rest = Rest::new(self.owner.cluster, position, state, entries);
        let batch = Some(Batch::new(state.store.freeze()));
        let checkpoint = match (&mut new_file, &mut self.file) {
            (Some(new), _) => new.db.begin(Fill::Load),
            (None, Some(file)) => file.db.begin(Fill::Merge),
            (None, None) => unreachable!("without a file one is made"),
        };
        Task {
            position,
            facts,
            batch,
            rest,
            checkpoint,
            new_file,
            sealed: false,
            in_flight: false,
            syncing: false,
            bytes: 0,
        }
    }

    fn new_file(&mut self) -> NewFile {
        self.last_id = TreeFileId(self.last_id.0 + 1);
        let (db, head) = Db::create(self.owner);
        NewFile { id: self.last_id, db, head: Some(head) }
    }

    /// Merges a slice, and returns what is to be written, if nothing is under way.
    pub(super) fn poll(&mut self) -> Result<Option<TreeWrite>, Damage> {
        let Some(task) = &mut self.task else { return Ok(None) };
        if task.in_flight {
            return Ok(None);
        }
        let present = self.file.as_mut();
        let (id, db, pages): (_, _, &dyn PageSource) = match (&mut task.new_file, present) {
            (Some(new), _) => {
                if let Some(head) = new.head.take() {
                    task.in_flight = true;
                    let writes = alloc::vec![(0, head)];
                    return Ok(Some(TreeWrite { file: new.id, writes, sync: true }));
                }
                (new.id, &mut new.db, &Nothing)
            }
            (None, Some(file)) => (file.id, &mut file.db, &*file.pages),
            (None, None) => unreachable!("a checkpoint has a file"),
        };
        let Task { batch, rest, checkpoint, .. } = task;
        if !task.sealed {
            task.sealed = merge(batch, rest, checkpoint, (db, pages))?;
            if task.sealed {
                checkpoint.seal(db, pages, task.facts)?;
            }
        }
        let (mut writes, mut bytes, mut sync) = (Vec::new(), 0, false);
        while bytes < WRITE_BYTES {
            match task.checkpoint.poll() {
                Some(Output::Write { offset, bytes: page }) => {
                    bytes += page.len();
                    writes.push((offset, page));
                }
                Some(Output::Sync) => {
                    sync = true;
                    break;
                }
                None => break,
            }
        }
        if writes.is_empty() && !sync {
            return Ok(None);
        }
        task.bytes += to_u64(bytes);
        (task.in_flight, task.syncing) = (true, sync);
        Ok(Some(TreeWrite { file: id, writes, sync }))
    }

    /// Takes the answer to a write; `pages` shows the file with all that was written. Returns the checkpoint, if it is
    /// whole now.
    pub(super) fn written(&mut self, pages: SharedPages) -> Option<Made> {
        let task = self.task.as_mut().expect("a write is a checkpoint's");
        assert!(core::mem::take(&mut task.in_flight), "a write was on its way");
        if core::mem::take(&mut task.syncing) {
            task.checkpoint.synced();
        }
        task.checkpoint.durable()?;
        let Task { position, checkpoint, new_file, bytes, .. } = self.task.take()?;
        if let Some(NewFile { id, mut db, .. }) = new_file {
            db.commit(checkpoint);
            let base = Base::new(Arc::clone(&pages), *db.meta(), self.damage.clone());
            let base = Arc::new(base);
            let pin = db.pin();
            let new_file = Some((TreeFile { id, db, pages }, pin));
            return Some(Made { position, bytes, base, new_file });
        }
        let file = self.file.as_mut().expect("a checkpoint has a file");
        file.db.commit(checkpoint);
        file.pages = Arc::clone(&pages);
        let base = Arc::new(Base::new(pages, *file.db.meta(), self.damage.clone()));
        self.held.push((Arc::clone(&base), file.db.pin()));
        (self.second, self.newest) = (self.newest, position);
        Some(Made { position, bytes, base, new_file: None })
    }

    /// Makes a new file the member's; returns the one that it was before.
    pub(super) fn adopt(&mut self, made: Made) -> Option<TreeFileId> {
        let (file, pin) = made.new_file.expect("a new file");
        self.held = alloc::vec![(made.base, pin)];
        (self.second, self.newest) = (made.position, made.position);
        self.file.replace(file).map(|before| before.id)
    }
}

/// Lets go of the checkpoints that nobody reads any more; the newest is the state's own.
fn release(db: &mut Db, held: &mut Vec<(Arc<Base>, Pin)>) {
    let newest = held.pop();
    for (base, pin) in core::mem::take(held) {
        if Arc::strong_count(&base) == 1 {
            db.release(pin);
        } else {
            held.push((base, pin));
        }
    }
    held.extend(newest);
}

/// Merges a slice; whether there is nothing more to merge.
fn merge(
    batch: &mut Option<Batch>,
    rest: &mut Rest,
    checkpoint: &mut Checkpoint,
    (db, pages): (&mut Db, &dyn PageSource),
) -> Result<bool, Damage> {
    let mut left = SLICE_CHANGES;
    while left > 0 {
        if let Some(changes) = batch.as_mut().and_then(|batch| batch.slice(left)) {
            left -= changes.len().clamp(1, left);
            for change in &changes {
                checkpoint.change(db, pages, change.as_change())?;
            }
            continue;
        }
        *batch = None;
        let Some(change) = rest.next_change() else { return Ok(true) };
        // Chunks are large.
        left -= left.min(SLICE_CHANGES / 4);
        checkpoint.change(db, pages, change.as_change())?;
    }
    Ok(false)
}
