//! The file as a whole: its newest checkpoint, its space, and who reads what.
//!
//! ```text
//! let mut checkpoint = db.begin(Fill::Merge);
//! while checkpoint.step(&mut db, &source, &mut changes, 64)? == Progress::More { … }   // in slices
//! checkpoint.seal(&mut db, &source, facts)?;
//! while let Some(output) = checkpoint.poll() { …write, or sync and checkpoint.synced()… }
//! db.commit(checkpoint);
//! ```
//!
//! Reading goes on beside all that: a [`Pin`] is a checkpoint that stays as it is until it is released.

use alloc::vec::Vec;
use core::fmt;

use super::checkpoint::{Checkpoint, Fill};
use super::free_space::{Bits, FreeSpace};
use super::map::Map;
use super::meta::{Choice, Meta, Owner, Refusal, SUPERBLOCKS_BYTES, new_file};
use super::pages::{Met, Pages};
use super::tree::Tree;
use super::{CheckpointSeq, Damage, PageId, PageSource, Run, TreeId, Why};

/// A file of trees.
#[derive(Debug)]
pub struct Db {
    meta: Meta,
    map: Map,
    space: FreeSpace,
    met: Met,
    /// While a checkpoint is being made: the map that it will have.
    next_map: Option<Map>,
    is_busy: bool,
}

/// A checkpoint that somebody reads. It is given back by [`Db::release`]; one that is lost holds its pages until
/// the file is opened again.
#[derive(Debug)]
#[must_use = "its pages are held until it is released"]
pub struct Pin {
    meta: Meta,
}

/// Why a file was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// Nothing was ever written to it.
    Empty,
    /// Its superblocks do not name one state.
    Refused(Refusal),
    /// The map of its newest checkpoint is damaged.
    Damaged(Damage),
}

impl Db {
    /// The bytes of a new file with nothing in it, and what it is then. They have to be durable before anything
    /// else is written.
    pub fn create(owner: Owner) -> (Self, Vec<u8>) {
        let meta = Meta::first(owner);
        let bits = Bits::with_first(owner.page_size.reserved_pages());
        let space = FreeSpace::new(owner.page_size.reserved_pages(), (meta.seq, bits), None);
        (Self::assemble(meta, Map::default(), space), new_file(owner))
    }

    /// Opens a file: `superblocks` are its first [`SUPERBLOCKS_BYTES`], and `source` its pages. Costs reading the map:
    /// one page for each half gigabyte, in pages of 8 KiB.
    pub fn open(
        superblocks: &[u8; SUPERBLOCKS_BYTES],
        source: &dyn PageSource,
    ) -> Result<Self, OpenError> {
        let (newest, fallback) = match Meta::choose(superblocks) {
            Choice::Use { newest, fallback } => (newest, fallback),
            Choice::Empty => return Err(OpenError::Empty),
            Choice::Refuse(refusal) => return Err(OpenError::Refused(refusal)),
        };
        let (map, bits) = load_map(&newest, source).map_err(OpenError::Damaged)?;
        // A fallback that cannot be read is none: nothing is lost as long as the newest is whole.
        let older = fallback.and_then(|meta| Some((meta.seq, load_map(&meta, source).ok()?.1)));
        let reserved = newest.owner.page_size.reserved_pages();
        let space = FreeSpace::new(reserved, (newest.seq, bits), older);
        Ok(Self::assemble(newest, map, space))
    }

    fn assemble(meta: Meta, map: Map, space: FreeSpace) -> Self {
        let met = Met::new(space.file_end().0);
        Self { meta, map, space, met, next_map: None, is_busy: false }
    }

    /// Whose file it is.
    pub const fn owner(&self) -> &Owner {
        &self.meta.owner
    }

    /// The newest checkpoint.
    pub const fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The space of the file.
    pub const fn space(&self) -> &FreeSpace {
        &self.space
    }

    /// The pages of the file, to read trees in.
    pub fn pages<'a>(&'a self, source: &'a dyn PageSource) -> Pages<'a> {
        Pages::new(source, &self.met, self.meta.owner.page_size)
    }

    /// A tree of the newest checkpoint.
    pub fn tree<'a>(&'a self, source: &'a dyn PageSource, tree: TreeId) -> Tree<'a> {
        Tree::new(self.pages(source), tree, self.meta.root(tree))
    }

    /// Holds the newest checkpoint, for whoever reads it longer than until the next one.
    pub fn pin(&mut self) -> Pin {
        let seq = self.space.pin();
        assert!(seq == self.meta.seq, "T7: the newest checkpoint is pinned");
        Pin { meta: self.meta }
    }

    /// Lets a checkpoint go.
    pub fn release(&mut self, pin: Pin) {
        let Pin { meta } = pin;
        self.space.release(meta.seq);
    }

    /// Begins the next checkpoint.
    ///
    /// # Panics
    /// If one is being made already.
    pub fn begin(&mut self, fill: Fill) -> Checkpoint {
        assert!(!self.is_busy, "one checkpoint is made at a time");
        self.is_busy = true;
        self.space.begin();
        Checkpoint::new(&self.meta, fill)
    }

    /// The checkpoint that was being made is the newest now.
    ///
    /// # Panics
    /// If it is not durable, or not the one that was begun.
    pub fn commit(&mut self, checkpoint: Checkpoint) {
        let meta = *checkpoint.durable().expect("T7: what is not durable replaces nothing");
        drop(checkpoint);
        self.space.commit(meta.seq);
        self.map = self.next_map.take().expect("a sealed checkpoint has a map");
        self.meta = meta;
        self.is_busy = false;
    }

    /// Gives up the checkpoint that is being made, because a page that it needs is damaged. The pages that it took are
    /// not given out again until the file is opened anew: some of its writes may still be under way.
    ///
    /// # Panics
    /// If its superblock is under way or durable: it may be the newest then.
    pub fn abandon(&mut self, checkpoint: Checkpoint) {
        assert!(!checkpoint.is_decided(), "a superblock that is under way is not given up");
        drop(checkpoint);
        self.space.abandon();
        self.next_map = None;
        self.is_busy = false;
    }

    /// Bytes that the file may be cut to: nobody needs what is behind them.
    pub fn file_bytes(&self) -> u64 {
        self.meta.owner.page_size.offset(self.space.file_end())
    }

    /// The map of space of the newest checkpoint.
    pub(super) const fn map(&self) -> &Map {
        &self.map
    }

    /// What a checkpoint that is being made works with.
    pub(super) const fn space_and_met(&mut self) -> (&mut FreeSpace, &Met) {
        (&mut self.space, &self.met)
    }

    /// Takes the map of a checkpoint that is sealed, and returns where its last page ends.
    pub(super) fn grow(&mut self, map: Map) -> PageId {
        self.next_map = Some(map);
        self.met.grow(self.space.file_end().0);
        PageId(self.space.current().end())
    }
}

impl Pin {
    /// The checkpoint that is held.
    pub const fn seq(&self) -> CheckpointSeq {
        self.meta.seq
    }

    /// Its superblock.
    pub const fn meta(&self) -> &Meta {
        &self.meta
    }

    /// One of its trees.
    pub fn tree<'a>(&self, pages: Pages<'a>, tree: TreeId) -> Tree<'a> {
        Tree::new(pages, tree, self.meta.root(tree))
    }
}

/// Reads the map of a checkpoint, if the file is as long as it says.
pub(super) fn load_map(meta: &Meta, source: &dyn PageSource) -> Result<(Map, Bits), Damage> {
    check_length(meta, source)?;
    let pages = Pages::unmet(source, meta.owner.page_size);
    Map::load(pages, meta.root(TreeId::Space), meta.end)
}

/// Refuses a superblock that promises more pages than the file has: nobody shall make room for them.
pub(super) fn check_length(meta: &Meta, source: &dyn PageSource) -> Result<(), Damage> {
    let last = PageId(meta.end.0 - 1);
    if meta.end.0 > meta.owner.page_size.reserved_pages() && source.read(Run::one(last)).is_err() {
        return Err(Damage { page: last, why: Why::Unreadable });
    }
    Ok(())
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("nothing was ever written to this file"),
            Self::Refused(Refusal::Unknown { major, features }) => {
                write!(f, "written in format {major} with features {features:#x}")
            }
            Self::Refused(Refusal::Mixed) => f.write_str("superblocks of different files"),
            Self::Refused(Refusal::Damaged) => f.write_str("no superblock is whole"),
            Self::Damaged(damage) => damage.fmt(f),
        }
    }
}

impl core::error::Error for OpenError {}
