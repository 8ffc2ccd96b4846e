//! A tree to read: one checkpoint's state, for as long as its pages are held.
//!
//! Any page on the way may turn out to be damaged, so everything here may fail; what is returned is right.

use alloc::vec::Vec;
use core::ops::Bound;

use super::cursor::{Cursor, Range};
use super::meta::Root;
use super::node::{Cell, Node, Place, Value};
use super::page::Child;
use super::pages::Pages;
use super::{Damage, TreeId, Why};
use crate::convert::to_u64;

/// One tree of one checkpoint. A copy is the same tree.
#[derive(Clone, Copy, Debug)]
pub struct Tree<'a> {
    pages: Pages<'a>,
    id: TreeId,
    root: Root,
}

/// Keys, and the bytes of them and their values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// How many keys.
    pub count: u64,
    /// The lengths of all keys and values together.
    pub bytes: u64,
}

/// The two ends of a range of keys, as in [`core::ops::RangeBounds`].
pub type Ends<'k> = (Bound<&'k [u8]>, Bound<&'k [u8]>);

impl<'a> Tree<'a> {
    /// The tree with this root.
    pub const fn new(pages: Pages<'a>, id: TreeId, root: Root) -> Self {
        Self { pages, id, root }
    }

    /// How many keys there are, and how many bytes. O(1).
    pub const fn sums(&self) -> Sums {
        Sums { count: self.root.child.count, bytes: self.root.child.bytes }
    }

    /// The value of a key. One descent.
    pub fn get(&self, key: &[u8]) -> Result<Option<&'a [u8]>, Damage> {
        let Some(mut node) = self.top()? else { return Ok(None) };
        while node.level() > 0 {
            let at = node.child_of(self.pages, key)?;
            node = self.below(&node, at)?;
        }
        match node.find(self.pages, key)? {
            Place::At(at) => Ok(Some(self.value(&node.cell(at))?)),
            Place::Before(_) => Ok(None),
        }
    }

    /// The keys below this one. One descent, however many they are.
    pub fn before(&self, key: &[u8]) -> Result<Sums, Damage> {
        self.split(key, Own::After)
    }

    /// The keys within bounds. Two descents.
    pub fn count(&self, ends: Ends<'_>) -> Result<Sums, Damage> {
        let (from, to) = self.split_ends(ends)?;
        Ok(Sums {
            count: to.count.saturating_sub(from.count),
            bytes: to.bytes.saturating_sub(from.bytes),
        })
    }

    /// Walks the keys within bounds, from either end. Bounds that exclude each other hold nothing.
    pub fn range(&self, ends: Ends<'_>) -> Result<Range<'a>, Damage> {
        let (from, to) = self.split_ends(ends)?;
        Ok(Range::new(*self, from.count..to.count.max(from.count)))
    }

    /// A cursor, on no key yet.
    pub const fn cursor(&self) -> Cursor<'a> {
        Cursor::new(*self)
    }

    /// The topmost node.
    pub(super) fn top(&self) -> Result<Option<Node<'a>>, Damage> {
        match self.root.height.checked_sub(1) {
            None => Ok(None),
            Some(level) => self.pages.node(self.id, level, &self.root.child).map(Some),
        }
    }

    /// A child of a branch.
    pub(super) fn below(&self, branch: &Node<'a>, at: usize) -> Result<Node<'a>, Damage> {
        self.pages.node(self.id, branch.level() - 1, &branch.child(at))
    }

    /// A leaf's value, wherever it stands.
    pub(super) fn value(&self, cell: &Cell<'a>) -> Result<&'a [u8], Damage> {
        match cell.value {
            Value::Inline(value) => Ok(value),
            Value::Extent(extent) => self.pages.extent(self.id, &extent),
        }
    }

    /// There are fewer keys than the sums say (T4).
    pub(super) const fn contradiction(&self) -> Damage {
        Damage { page: self.root.child.page, why: Why::Sums }
    }

    /// Where the tree's pages are.
    pub(super) const fn pages(&self) -> Pages<'a> {
        self.pages
    }

    /// The key of a leaf's cell, into a buffer.
    pub(super) fn key_into(
        &self,
        node: &Node<'a>,
        at: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Damage> {
        node.key_into(self.pages, at, out)
    }

    fn split_ends(&self, (from, to): Ends<'_>) -> Result<(Sums, Sums), Damage> {
        let from = match from {
            Bound::Included(key) => self.split(key, Own::After)?,
            Bound::Excluded(key) => self.split(key, Own::Before)?,
            Bound::Unbounded => Sums::default(),
        };
        let to = match to {
            Bound::Included(key) => self.split(key, Own::Before)?,
            Bound::Excluded(key) => self.split(key, Own::After)?,
            Bound::Unbounded => self.sums(),
        };
        Ok((from, to))
    }

    /// The keys to the left of a cut at this key.
    fn split(&self, key: &[u8], own: Own) -> Result<Sums, Damage> {
        let mut sums = Sums::default();
        let Some(mut node) = self.top()? else { return Ok(sums) };
        while node.level() > 0 {
            let at = node.child_of(self.pages, key)?;
            for Child { count, bytes, .. } in (0..at).map(|left| node.child(left)) {
                sums.count += count;
                sums.bytes += bytes;
            }
            node = self.below(&node, at)?;
        }
        let cut = match node.find(self.pages, key)? {
            Place::At(at) => at + usize::from(own == Own::Before),
            Place::Before(at) => at,
        };
        sums.count += to_u64(cut);
        sums.bytes += (0..cut).map(|at| node.cell_bytes(at)).sum::<u64>();
        Ok(sums)
    }
}

/// On which side of a cut the key itself is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Own {
    Before,
    After,
}
