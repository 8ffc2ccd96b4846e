//! The new nodes of a tree, level by level: cells come in at the bottom, and a root comes out at the top.
//!
//! Each level has a [`Packer`]. A page that one of them has filled is written, and becomes a cell of the level
//! above. A node that did not change comes in at the level above its own: nothing may wait below it then.
//!
//! Between two leaves a branch needs a key that is above all on the left and at most all on the right: the shortest
//! such key is the right one up to the first byte in which they differ. Branches have such keys already; when they are
//! cut, the key in between moves up.

use core::mem;

use alloc::vec::Vec;

use super::extent::ExtentRef;
use super::meta::Root;
use super::packer::{Item, Packer, shared};
use super::page::{CHILD_BYTES, Child};
use super::work::{PageWrite, Work};
use super::{Damage, HEIGHT_MAX, PageId, TreeId, Why};

/// A child, and what bounds it from below.
#[derive(Debug)]
pub struct Below {
    /// The child.
    pub child: Child,
    /// At most each key below it.
    pub low: Low,
}

/// The key of a branch, and the extent where it goes on. Whoever has it owns the extent.
#[derive(Debug, Default)]
pub struct Low {
    /// The whole key.
    pub key: Vec<u8>,
    /// Where it goes on, if that was written.
    pub rest: Option<ExtentRef>,
}

/// Whether a node was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// It belongs to the checkpoint before, too.
    Old,
    /// It was written by this checkpoint, so it cannot be read yet.
    Fresh,
}

/// A tree that is being built.
#[derive(Debug)]
pub struct Builder {
    tree: TreeId,
    fill_bytes: usize,
    /// By level, from 0.
    packers: Vec<Packer>,
    /// What bounds the first cell that waits for a leaf.
    low: Low,
    /// Where the cells come from: who is to blame if they are out of order.
    suspect: PageId,
}

impl Builder {
    /// Nothing yet. Nodes will be filled up to `fill_bytes`.
    pub const fn new(tree: TreeId, fill_bytes: usize) -> Self {
        let low = Low { key: Vec::new(), rest: None };
        Self { tree, fill_bytes, packers: Vec::new(), low, suspect: PageId::NONE }
    }

    /// What comes in from now on stood in this page.
    pub const fn blame(&mut self, page: PageId) {
        self.suspect = page;
    }

    /// Whether nothing waits at a level.
    pub fn is_empty(&self, level: usize) -> bool {
        self.packers.get(level).is_none_or(Packer::is_empty)
    }

    /// Whether what waits at a level is too little for a node.
    pub fn is_thin(&self, level: usize) -> bool {
        self.packers.get(level).is_some_and(|packer| !packer.is_empty() && packer.is_thin())
    }

    /// What comes in next at the bottom is bounded by this; among cells that wait already it is of no use.
    pub fn start_at(&mut self, work: &mut Work<'_>, low: Low) -> Result<(), Damage> {
        let unused = if self.is_empty(0) { mem::replace(&mut self.low, low) } else { low };
        work.free_extent(unused.rest)
    }

    /// Puts a new cell behind all others.
    pub fn put(&mut self, work: &mut Work<'_>, key: &[u8], value: &[u8]) -> Result<(), Damage> {
        let mut reference = Vec::new();
        let in_extent = value.len() > work.pages.size().value_inline_max();
        if in_extent {
            work.extent(self.tree, value).encode(&mut reference);
        }
        let value = if in_extent { reference.as_slice() } else { value };
        self.push(work, 0, &Item { key, rest: None, value, in_extent, is_fresh: false })
    }

    /// Puts a child behind all others of its level. What waits below belongs before it: that has to be closed.
    pub fn push_child(
        &mut self,
        work: &mut Work<'_>,
        level: usize,
        below: &Below,
        age: Age,
    ) -> Result<(), Damage> {
        let mut value = Vec::with_capacity(CHILD_BYTES);
        below.child.encode(&mut value);
        let item = Item {
            key: &below.low.key,
            rest: below.low.rest,
            value: &value,
            in_extent: false,
            is_fresh: age == Age::Fresh,
        };
        self.push(work, level, &item)
    }

    /// Puts a cell behind all others of a level. Nodes are in order one by one; whether they are among each other
    /// (T1, T2) shows here.
    pub fn push(
        &mut self,
        work: &mut Work<'_>,
        level: usize,
        item: &Item<'_>,
    ) -> Result<(), Damage> {
        let unordered = Damage { page: self.suspect, why: Why::Order };
        match self.packer(work, level).push(item).map_err(|_unordered| unordered)? {
            Some(cells) => self.write_page(work, level, cells),
            None => Ok(()),
        }
    }

    /// Writes all that waits at a level.
    pub fn close(&mut self, work: &mut Work<'_>, level: usize) -> Result<(), Damage> {
        while !self.is_empty(level) {
            let cells = self.packers[level].last_cut();
            self.write_page(work, level, cells)?;
        }
        Ok(())
    }

    /// Takes the last child that waits at a level away again, if it is one that can be read.
    pub fn pop_old(&mut self, level: usize) -> Option<Below> {
        let packer = self.packers.get_mut(level)?;
        if packer.last().is_none_or(|last| last.is_fresh) {
            return None;
        }
        let (key, rest, value) = packer.pop()?;
        Some(Below { child: Child::decode(&value), low: Low { key, rest } })
    }

    /// Takes out all that waits at a level, to put something in front of it.
    pub fn take(&mut self, work: &Work<'_>, level: usize) -> Packer {
        self.packer(work, level).take()
    }

    /// Whether anything waits above a level.
    pub fn has_above(&self, level: usize) -> bool {
        self.packers.iter().skip(level + 1).any(|packer| !packer.is_empty())
    }

    /// The root, if nothing but one child waits at a level, and nothing above: there will be none.
    pub fn root(&mut self, work: &mut Work<'_>, level: usize) -> Result<Option<Root>, Damage> {
        if self.has_above(level) || level == 0 || self.packer(work, level).len() != 1 {
            return Ok(None);
        }
        let (_, rest, value) = self.packers[level].pop().expect("one cell waits");
        work.free_extent(rest)?;
        let height = u8::try_from(level).expect("a tree is not that high");
        Ok(Some(Root { child: Child::decode(&value), height }))
    }

    /// Writes the first cells that wait at a level as a node, and tells the level above.
    fn write_page(
        &mut self,
        work: &mut Work<'_>,
        level: usize,
        cells: usize,
    ) -> Result<(), Damage> {
        let inline = work.pages.size().key_inline_max();
        let packer = &mut self.packers[level];
        for at in usize::from(level > 0)..cells {
            let item = packer.at(at);
            if item.key.len() > inline && item.rest.is_none() {
                let rest = work.extent(self.tree, &item.key[inline..]);
                packer.set_rest(at, rest);
            }
        }
        let page = work.allocate(1);
        let (bytes, child) = packer.node(cells, self.tree, page, work.seq);
        work.writes.push(PageWrite { page, bytes });
        let low = if level > 0 {
            let first = packer.at(0);
            Low { key: first.key.to_vec(), rest: first.rest }
        } else if cells < packer.len() {
            let (left, right) = (packer.at(cells - 1).key, packer.at(cells).key);
            let next = Low { key: right[..=shared(left, right)].to_vec(), rest: None };
            mem::replace(&mut self.low, next)
        } else {
            mem::take(&mut self.low)
        };
        packer.drop_first(cells);
        self.push_child(work, level + 1, &Below { child, low }, Age::Fresh)
    }

    /// The packer of a level.
    fn packer(&mut self, work: &Work<'_>, level: usize) -> &mut Packer {
        while self.packers.len() <= level {
            let above = u8::try_from(self.packers.len()).expect("a tree is not that high");
            assert!(
                above <= HEIGHT_MAX,
                "each level has at most half as many nodes as the one below"
            );
            self.packers.push(Packer::new(above, work.pages.size(), self.fill_bytes));
        }
        &mut self.packers[level]
    }
}
