//! Merging sorted changes into a tree: a new tree that shares with the old one whatever did not change.
//!
//! # The idea
//!
//! One walk through the old tree, from left to right, and one through the changes. A leaf that a change falls
//! into is *taken apart*: its cells, and the changes between them, go to the [`Builder`], which makes new leaves.
//! A leaf that no change falls into is *passed on*: its parent's cell goes to the builder one level up. The same
//! happens to branches, so each node that a change touches is rewritten once, and a subtree that none touches
//! costs one cell.
//!
//! ```text
//!   old tree, level 2        open branch: children to the left of `next` are gone, others still to come
//!            level 1             open branch          ──passed on──>  builder, level 1  ──> new branches
//!            level 0                 open leaf        ──cells──────>  builder, level 0  ──> new leaves
//!                                         ^ changes
//! ```
//!
//! Before something is passed on, nothing may wait below: that comes first. If what waits at a level
//! is too thin for a node, the neighbour to the right is taken apart, too, instead of being passed on, and if
//! there is none, the one to the left. So nodes stay at least a quarter full, but for those whose keys share no
//! prefix with a neighbour that does not have room for that.
//!
//! Nodes that leaves of one merge lie in side by side are packed together, which fills them up again.
//!
//! # Limits
//!
//! A leaf that a change falls into is rewritten even if the change is to delete a key that is not there.

use core::mem;

use alloc::vec::Vec;

use super::builder::{Age, Below, Builder, Low};
use super::extent::REF_BYTES;
use super::meta::Root;
use super::node::{Node, Place, Value};
use super::packer::Item;
use super::page::Child;
use super::work::Work;
use super::{Damage, Run, TreeId, Why};
use crate::convert::to_u64;

/// What happens to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op<'a> {
    /// It gets this value, whether it was there or not.
    Put(&'a [u8]),
    /// It is no more, if it was there.
    Delete,
    /// Nothing, but its leaf and what extents it has are written anew, to the lowest pages that are free.
    Move,
}

/// A merge under way.
#[derive(Debug)]
pub struct Merge {
    tree: TreeId,
    root: Root,
    /// The open branches, by level from 1; none of a level that nothing was opened of.
    open: Vec<Option<Open>>,
    leaf: Option<Open>,
    /// The first key to the right of the open leaf; none: there is none.
    leaf_end: Option<Vec<u8>>,
    builder: Builder,
    /// The key of the last change.
    last: Option<Vec<u8>>,
    /// Where keys are put together; kept for its memory.
    key: Vec<u8>,
}

/// A node of the old tree that is being taken apart. Its page is free already.
#[derive(Debug)]
struct Open {
    child: Child,
    low: Low,
    /// The next cell that was not consumed.
    next: usize,
    cells: usize,
}

/// Whether the walk can go on as planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It can.
    Clear,
    /// Something was taken apart that was to be passed on: look again where we are.
    Changed,
}

impl Merge {
    /// Begins with the tree as it is. Nodes are filled up to `fill_bytes`.
    pub fn new(tree: TreeId, root: Root, fill_bytes: usize) -> Self {
        Self {
            tree,
            root,
            open: Vec::new(),
            leaf: None,
            leaf_end: None,
            builder: Builder::new(tree, fill_bytes),
            last: None,
            key: Vec::new(),
        }
    }

    /// The tree that is being merged into.
    pub const fn tree(&self) -> TreeId {
        self.tree
    }

    /// Merges the next change.
    ///
    /// # Panics
    /// If its key is not above that of the change before.
    pub fn change(&mut self, work: &mut Work<'_>, key: &[u8], op: Op<'_>) -> Result<(), Damage> {
        if self.last.is_none() {
            self.start(work)?;
        }
        self.note(key);
        if self.root.height > 0 {
            self.advance(work, key)?;
            self.copy_until(work, key, op)?;
        }
        match op {
            Op::Put(value) => self.builder.put(work, key, value),
            Op::Delete | Op::Move => Ok(()),
        }
    }

    /// Ends the merge and returns the new tree.
    pub fn finish(mut self, work: &mut Work<'_>) -> Result<Root, Damage> {
        if self.last.is_none() {
            return Ok(self.root);
        }
        self.close_leaf(work)?;
        while self.pass_rest(work)? == Way::Changed {}
        if self.builder.is_empty(0) {
            // All leaves that were taken apart last are gone, and what bounded them is nobody's.
            self.builder.start_at(work, Low::default())?;
        }
        let mut level = 0;
        while !self.builder.is_empty(level) || self.builder.has_above(level) {
            if let Some(root) = self.builder.root(work, level)? {
                return Ok(root);
            }
            while self.builder.is_thin(level) && self.pull_left(work, level)? {}
            self.builder.close(work, level)?;
            level += 1;
        }
        Ok(Root::default())
    }

    fn note(&mut self, key: &[u8]) {
        if let Some(last) = &mut self.last {
            assert!(last.as_slice() < key, "T1: changes come in the order of their keys");
            last.clear();
            last.extend_from_slice(key);
        } else {
            self.last = Some(key.to_vec());
        }
    }

    /// Opens the root.
    fn start(&mut self, work: &mut Work<'_>) -> Result<(), Damage> {
        let Root { child, height } = self.root;
        let Some(top) = height.checked_sub(1) else { return Ok(()) };
        self.open.resize_with(usize::from(top) + 1, || None);
        let root = self.open_node(work, usize::from(top), Below { child, low: Low::default() })?;
        if top == 0 {
            self.leaf = Some(root);
        } else {
            self.open[usize::from(top)] = Some(root);
        }
        Ok(())
    }

    /// Opens the leaf that the key belongs to, and passes on what lies before.
    fn advance(&mut self, work: &mut Work<'_>, key: &[u8]) -> Result<(), Damage> {
        let ends = |end: &Option<Vec<u8>>| end.as_ref().is_some_and(|end| end.as_slice() <= key);
        if self.leaf.is_some() && !ends(&self.leaf_end) {
            return Ok(());
        }
        self.close_leaf(work)?;
        loop {
            let mut level = 1;
            while !self.covers(work, level, key)? {
                level += 1;
            }
            if self.pass(work, level, key)? == Way::Changed {
                continue;
            }
            let below = self.take_child(work, level)?;
            if level > 1 {
                self.open[level - 1] = Some(below);
                continue;
            }
            self.begin_leaf(work, below)?;
            return Ok(());
        }
    }

    /// Whether the key lies below the open branch of this level.
    fn covers(&self, work: &Work<'_>, level: usize, key: &[u8]) -> Result<bool, Damage> {
        if self.open.get(level).is_some_and(Option::is_none) {
            return Ok(false);
        }
        for above in level + 1..self.open.len() {
            let Some(open) = &self.open[above] else { return Ok(false) };
            if open.next < open.cells {
                // If nothing of it was consumed, it begins at or below the key, and what was open before ended there.
                return Ok(open.next > 0 && key < self.bound(work, above)?.as_slice());
            }
        }
        Ok(true)
    }

    /// The key of the next child of an open branch.
    fn bound(&self, work: &Work<'_>, level: usize) -> Result<Vec<u8>, Damage> {
        let open = self.open[level].as_ref().expect("an open branch");
        let mut key = Vec::new();
        self.node(work, level, &open.child)?.key_into(work.pages, open.next, &mut key)?;
        Ok(key)
    }

    /// Passes on all children before the one that the key lies below: in the branch of this level, and what is
    /// left in those under it.
    fn pass(&mut self, work: &mut Work<'_>, level: usize, key: &[u8]) -> Result<Way, Damage> {
        for below in 1..level {
            if self.pass_until(work, below, usize::MAX)? == Way::Changed {
                return Ok(Way::Changed);
            }
        }
        let open = self.open[level].as_ref().expect("T2: a key is below some child");
        let node = self.node(work, level, &open.child)?;
        let stop = node.child_of(work.pages, key)?.max(open.next);
        if stop >= open.cells {
            return Err(Damage { page: open.child.page, why: Why::Order });
        }
        self.pass_until(work, level, stop)
    }

    /// Passes on everything that is left.
    fn pass_rest(&mut self, work: &mut Work<'_>) -> Result<Way, Damage> {
        for level in 1..self.open.len() {
            if self.pass_until(work, level, usize::MAX)? == Way::Changed {
                return Ok(Way::Changed);
            }
        }
        Ok(Way::Clear)
    }

    /// Passes on the children of an open branch before the cell `stop`.
    fn pass_until(
        &mut self,
        work: &mut Work<'_>,
        level: usize,
        stop: usize,
    ) -> Result<Way, Damage> {
        let left = |merge: &Self| {
            merge.open[level].as_ref().is_some_and(|open| open.next < stop.min(open.cells))
        };
        if left(self) && self.close_below(work, level)? == Way::Changed {
            return Ok(Way::Changed);
        }
        while left(self) {
            let below = self.consume(work, level)?;
            self.builder.push_child(work, level, &below, Age::Old)?;
        }
        Ok(Way::Clear)
    }

    /// Writes what waits below a level, so that something can be passed on there.
    fn close_below(&mut self, work: &mut Work<'_>, level: usize) -> Result<Way, Damage> {
        for below in 0..level {
            if self.builder.is_thin(below) && self.pull_right(work, below)? {
                return Ok(Way::Changed);
            }
            self.builder.close(work, below)?;
        }
        Ok(Way::Clear)
    }

    /// Takes apart the next node of a level, if there is one.
    fn pull_right(&mut self, work: &mut Work<'_>, level: usize) -> Result<bool, Damage> {
        let is_left =
            |above: &usize| self.open[*above].as_ref().is_some_and(|open| open.next < open.cells);
        let Some(from) = (level + 1..self.open.len()).find(is_left) else { return Ok(false) };
        for above in (level + 2..=from).rev() {
            let below = self.take_child(work, above)?;
            self.open[above - 1] = Some(below);
        }
        let node = self.take_child(work, level + 1)?;
        self.take_apart(work, level, node)?;
        Ok(true)
    }

    /// Takes apart the node to the left of what waits at a level, and puts its cells in front. `false` if there is
    /// none, or none that can be read.
    fn pull_left(&mut self, work: &mut Work<'_>, level: usize) -> Result<bool, Damage> {
        let above = level + 1;
        if !self.builder.has_above(level)
            || self.builder.is_empty(above) && !self.pull_left(work, above)?
        {
            return Ok(false);
        }
        let Some(left) = self.builder.pop_old(above) else { return Ok(false) };
        let waiting = self.builder.take(work, level);
        let node = self.open_node(work, level, left)?;
        self.take_apart(work, level, node)?;
        for item in waiting.iter() {
            self.builder.push(work, level, &item)?;
        }
        Ok(true)
    }

    /// Gives all cells of a node to the builder.
    fn take_apart(
        &mut self,
        work: &mut Work<'_>,
        level: usize,
        mut node: Open,
    ) -> Result<(), Damage> {
        if level == 0 {
            self.builder.start_at(work, mem::take(&mut node.low))?;
            return self.copy_cells(work, &mut node, usize::MAX);
        }
        while node.next < node.cells {
            let below = self.consume_from(work, level, &mut node)?;
            self.builder.push_child(work, level, &below, Age::Old)?;
        }
        Ok(())
    }

    /// Makes a leaf the one that changes fall into.
    fn begin_leaf(&mut self, work: &mut Work<'_>, mut leaf: Open) -> Result<(), Damage> {
        self.builder.start_at(work, mem::take(&mut leaf.low))?;
        self.leaf = Some(leaf);
        self.leaf_end = None;
        for above in 1..self.open.len() {
            let open = self.open[above].as_ref().expect("all branches above a leaf are open");
            if open.next < open.cells {
                self.leaf_end = Some(self.bound(work, above)?);
                break;
            }
        }
        Ok(())
    }

    /// Copies what is left of the open leaf.
    fn close_leaf(&mut self, work: &mut Work<'_>) -> Result<(), Damage> {
        if let Some(mut leaf) = self.leaf.take() {
            self.copy_cells(work, &mut leaf, usize::MAX)?;
        }
        Ok(())
    }

    /// Copies the cells of the open leaf before a key, and drops the one with that key, or puts it anew.
    fn copy_until(&mut self, work: &mut Work<'_>, key: &[u8], op: Op<'_>) -> Result<(), Damage> {
        let mut leaf = self.leaf.take().expect("a leaf is open");
        let node = self.node(work, 0, &leaf.child)?;
        match node.find(work.pages, key)? {
            Place::Before(at) => self.copy_cells(work, &mut leaf, at)?,
            Place::At(at) => {
                self.copy_cells(work, &mut leaf, at)?;
                leaf.next = at + 1;
                let cell = node.cell(at);
                work.free_extent(cell.rest)?;
                let value = match cell.value {
                    Value::Inline(value) => value,
                    Value::Extent(extent) => {
                        work.free_extent(Some(extent))?;
                        // Freed pages are not written to by this checkpoint (T7), so they can be read still.
                        if op == Op::Move { work.pages.extent(self.tree, &extent)? } else { &[] }
                    }
                };
                if op == Op::Move {
                    self.builder.put(work, key, value)?;
                }
            }
        }
        self.leaf = Some(leaf);
        Ok(())
    }

    /// Copies the cells of a leaf before `stop`.
    fn copy_cells(
        &mut self,
        work: &mut Work<'_>,
        leaf: &mut Open,
        stop: usize,
    ) -> Result<(), Damage> {
        let node = self.node(work, 0, &leaf.child)?;
        self.builder.blame(leaf.child.page);
        let mut key = mem::take(&mut self.key);
        while leaf.next < stop.min(leaf.cells) {
            let cell = node.cell(leaf.next);
            key.clear();
            node.key_into(work.pages, leaf.next, &mut key)?;
            let mut reference = Vec::new();
            let (value, in_extent) = match cell.value {
                Value::Inline(value) => (value, false),
                Value::Extent(extent) => {
                    reference.reserve(REF_BYTES);
                    extent.encode(&mut reference);
                    (reference.as_slice(), true)
                }
            };
            let item = Item { key: &key, rest: cell.rest, value, in_extent, is_fresh: false };
            self.builder.push(work, 0, &item)?;
            leaf.next += 1;
        }
        self.key = key;
        Ok(())
    }

    /// Consumes the next child of an open branch and opens it.
    fn take_child(&mut self, work: &mut Work<'_>, level: usize) -> Result<Open, Damage> {
        let below = self.consume(work, level)?;
        self.open_node(work, level - 1, below)
    }

    /// The next child of an open branch, which will not be asked for again.
    fn consume(&mut self, work: &Work<'_>, level: usize) -> Result<Below, Damage> {
        let mut open = self.open[level].take().expect("an open branch");
        let below = self.consume_from(work, level, &mut open);
        self.open[level] = Some(open);
        below
    }

    /// The next child of a branch. What bounds the first one is what bounds the branch (T2).
    fn consume_from(
        &mut self,
        work: &Work<'_>,
        level: usize,
        open: &mut Open,
    ) -> Result<Below, Damage> {
        let node = self.node(work, level, &open.child)?;
        self.builder.blame(open.child.page);
        let at = open.next;
        open.next += 1;
        let child = node.child(at);
        if at == 0 {
            return Ok(Below { child, low: mem::take(&mut open.low) });
        }
        let mut low = Low { key: Vec::new(), rest: node.cell(at).rest };
        node.key_into(work.pages, at, &mut low.key)?;
        Ok(Below { child, low })
    }

    /// Opens a node of the old tree: it will be taken apart, so its page is free.
    fn open_node(&self, work: &mut Work<'_>, level: usize, below: Below) -> Result<Open, Damage> {
        let Below { child, low } = below;
        let node = self.node(work, level, &child)?;
        let cells = node.len();
        let sums = if level == 0 {
            (to_u64(cells), child.bytes)
        } else {
            let children = || (0..cells).map(|at| node.child(at));
            (children().map(|child| child.count).sum(), children().map(|child| child.bytes).sum())
        };
        if sums != (child.count, child.bytes) {
            return Err(Damage { page: child.page, why: Why::Sums });
        }
        work.free(Run::one(child.page))?;
        Ok(Open { child, low, next: 0, cells })
    }

    fn node<'a>(&self, work: &Work<'a>, level: usize, child: &Child) -> Result<Node<'a>, Damage> {
        let level = u8::try_from(level).expect("a tree is not that high");
        work.pages.node(self.tree, level, child)
    }
}
