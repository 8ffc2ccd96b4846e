//! A checkpoint on its way: from sorted changes to a superblock.
//!
//! ```text
//!             seal               all written out            synced              all written out    synced
//!  ┌─────────┐     ┌───────────┐                ┌────────┐          ┌─────────┐                     ┌─────────┐
//!  │ Merging │ ──> │   Pages   │ ─────────────> │ Pages  │ ───────> │  Meta   │ ──────────────────> │ Durable │
//!  └─────────┘     │ to write  │      Sync      │ synced?│          │ written │        Sync         └─────────┘
//!                  └───────────┘                └────────┘          └─────────┘
//! ```
//!
//! Changes come tree by tree, in the order of [`TreeId::ALL`], and by key within a tree. They can come in slices:
//! [`Checkpoint::step`] works off a budget of pages and goes on later where it stopped. What is to be written can be
//! polled at any time; the superblock comes out only after a sync that covers everything else was answered.
//! So a crash anywhere leaves the checkpoint before.
//!
//! Loading a file from sorted data is the same thing: the first checkpoint of an empty one, with [`Fill::Load`]. It is
//! written from front to back, and keeps two nodes of each level in memory.
//!
//! # Limits
//!
//! The map of space is written in one go: a page for each half gigabyte that has changed, in pages of 8 KiB.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::db::Db;
use super::merge::{Merge, Op};
use super::meta::{Facts, Meta};
use super::pages::Pages;
use super::work::{PageWrite, Work};
use super::{CheckpointSeq, Damage, PageSource, TreeId};
use crate::convert::to_u64;

/// How many changes cost as much as writing a page. Changes that write nothing, such as deletions of keys that are
/// not there, cost something, too.
const CHANGES_PER_PAGE: u64 = 32;

/// A change of one key of one tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// The tree.
    pub tree: TreeId,
    /// The key.
    pub key: &'a [u8],
    /// What happens to it.
    pub op: Op<'a>,
}

/// What the driver has to do. Writes between two syncs may be done in any order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Write these bytes at this offset of the file, which grows as needed.
    Write {
        /// Where to, in bytes.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// Make everything durable that was to be written before, then say so: [`Checkpoint::synced`].
    Sync,
}

/// How far a step came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The budget is used up.
    More,
    /// There are no more changes.
    Done,
}

/// A checkpoint that is being made; begun by [`Db::begin`], ended by [`Db::commit`] or [`Db::abandon`].
#[derive(Debug)]
pub struct Checkpoint {
    meta: Meta,
    fill: Fill,
    merge: Option<Merge>,
    /// The trees after this one have not been changed yet.
    last_tree: Option<TreeId>,
    writes: VecDeque<Output>,
    pages_written: u64,
    changes: u64,
    state: State,
}

/// How full nodes are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// To fifteen sixteenths: some keys between the others, and the node is still one.
    Merge,
    /// To the brim: for what is loaded in order and seldom changed then.
    Load,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Merging,
    Pages,
    PagesSync,
    Meta,
    MetaSync,
    Durable,
}

impl Checkpoint {
    /// Begins with the trees of the checkpoint before.
    pub(super) fn new(before: &Meta, fill: Fill) -> Self {
        let mut meta = *before;
        meta.seq = before.seq.next();
        Self {
            meta,
            fill,
            merge: None,
            last_tree: None,
            writes: VecDeque::new(),
            pages_written: 0,
            changes: 0,
            state: State::Merging,
        }
    }

    /// Which checkpoint this will be.
    pub const fn seq(&self) -> CheckpointSeq {
        self.meta.seq
    }

    /// Pages written so far.
    pub const fn pages_written(&self) -> u64 {
        self.pages_written
    }

    /// Merges changes until there are none, or until as much was done as writing so many pages takes. What a change
    /// touches is finished, so a step may overdraw by the height of a tree.
    ///
    /// An error means that a page of the checkpoint before is damaged: this one cannot be made.
    ///
    /// # Panics
    /// If the changes are not in the order of trees and keys, or after [`Checkpoint::seal`].
    pub fn step(
        &mut self,
        db: &mut Db,
        source: &dyn PageSource,
        changes: &mut dyn Iterator<Item = Change<'_>>,
        budget_pages: u64,
    ) -> Result<Progress, Damage> {
        let until = self.work_done().saturating_add(budget_pages.saturating_mul(CHANGES_PER_PAGE));
        while self.work_done() < until {
            let Some(change) = changes.next() else { return Ok(Progress::Done) };
            self.change(db, source, change)?;
        }
        Ok(Progress::More)
    }

    /// Merges one change.
    ///
    /// # Panics
    /// As [`Checkpoint::step`].
    pub fn change(
        &mut self,
        db: &mut Db,
        source: &dyn PageSource,
        change: Change<'_>,
    ) -> Result<(), Damage> {
        self.assert_merging();
        self.changes += 1;
        if self.last_tree != Some(change.tree) {
            self.end_tree(db, source)?;
            self.begin_tree(change.tree);
        }
        let mut merge = self.merge.take().expect("a tree was begun");
        self.work(db, source, |work| merge.change(work, change.key, change.op))?;
        self.merge = Some(merge);
        Ok(())
    }

    /// Ends the changes, and says what the trees stand for now.
    ///
    /// # Panics
    /// If it was sealed before.
    pub fn seal(
        &mut self,
        db: &mut Db,
        source: &dyn PageSource,
        facts: Facts,
    ) -> Result<(), Damage> {
        self.assert_merging();
        self.end_tree(db, source)?;
        let map = db.map().clone();
        let (map, root) = self.work(db, source, |work| map.write(work))?;
        self.meta.set_root(TreeId::Space, root);
        self.meta.facts = facts;
        self.meta.end = db.grow(map);
        self.state = State::Pages;
        Ok(())
    }

    /// What is to be done next. `None`: nothing, until there are more changes or a sync is answered.
    pub fn poll(&mut self) -> Option<Output> {
        if let Some(write) = self.writes.pop_front() {
            return Some(write);
        }
        self.state = match self.state {
            State::Pages => State::PagesSync,
            State::Meta => State::MetaSync,
            State::Merging | State::PagesSync | State::MetaSync | State::Durable => return None,
        };
        Some(Output::Sync)
    }

    /// A sync is done.
    ///
    /// # Panics
    /// If there was none to be done.
    pub fn synced(&mut self) {
        assert!(self.writes.is_empty(), "a sync is asked for after all writes");
        self.state = match self.state {
            State::PagesSync => {
                let bytes = self.meta.encode();
                for offset in self.meta.offsets() {
                    self.writes.push_back(Output::Write { offset, bytes: bytes.clone() });
                }
                State::Meta
            }
            State::MetaSync => State::Durable,
            State::Merging | State::Pages | State::Meta | State::Durable => {
                panic!("a sync was answered that nobody asked for")
            }
        };
    }

    /// The superblock, once it is durable: [`Db::commit`] can make it the newest.
    pub fn durable(&self) -> Option<&Meta> {
        (self.state == State::Durable).then_some(&self.meta)
    }

    /// Whether its superblock may be on the medium.
    pub(super) fn is_decided(&self) -> bool {
        match self.state {
            State::Merging | State::Pages | State::PagesSync => false,
            State::Meta | State::MetaSync | State::Durable => true,
        }
    }

    /// What was done so far, in changes.
    const fn work_done(&self) -> u64 {
        self.changes + self.pages_written * CHANGES_PER_PAGE
    }

    fn assert_merging(&self) {
        assert!(self.state == State::Merging, "a sealed checkpoint does not change");
    }

    fn begin_tree(&mut self, tree: TreeId) {
        assert!(tree != TreeId::Space, "the map of space is not for changes");
        assert!(self.last_tree < Some(tree), "changes come tree by tree");
        let size = self.meta.owner.page_size.bytes();
        let fill_bytes = match (self.fill, tree) {
            // History grows at its end only: room between its keys would stay empty.
            (Fill::Load, _) | (Fill::Merge, TreeId::History) => size,
            (Fill::Merge, _) => size - size / 16,
        };
        self.merge = Some(Merge::new(tree, self.meta.root(tree), fill_bytes));
        self.last_tree = Some(tree);
    }

    fn end_tree(&mut self, db: &mut Db, source: &dyn PageSource) -> Result<(), Damage> {
        if let Some(merge) = self.merge.take() {
            let tree = merge.tree();
            let root = self.work(db, source, |work| merge.finish(work))?;
            self.meta.set_root(tree, root);
        }
        Ok(())
    }

    /// Lets something work on the pages, and queues what it writes.
    fn work<T>(
        &mut self,
        db: &mut Db,
        source: &dyn PageSource,
        run: impl FnOnce(&mut Work<'_>) -> Result<T, Damage>,
    ) -> Result<T, Damage> {
        let size = db.owner().page_size;
        let (space, met) = db.space_and_met();
        let mut writes = Vec::new();
        let pages = Pages::new(source, met, size);
        let mut work = Work { pages, met, space, writes: &mut writes, seq: self.meta.seq };
        let result = run(&mut work);
        for PageWrite { page, bytes } in writes {
            self.pages_written += to_u64(bytes.len() / size.bytes());
            self.writes.push_back(Output::Write { offset: size.offset(page), bytes });
        }
        result
    }
}
