//! Walking a tree, key by key, in both directions.
//!
//! A cursor keeps the path from the root to its key, so a step costs nothing but the next cell, and the key is
//! put together in a buffer that stays. Since parents know how many keys are below each child, a cursor can also go
//! to the *n*th key, and skipping a million keys is one descent.

use alloc::vec::Vec;
use core::{fmt, ops};

use super::Damage;
use super::node::{Node, Place};
use super::tree::Tree;
use crate::convert::{to_u64, to_usize};

/// A place in a tree: on a key, or on none.
#[derive(Clone)]
pub struct Cursor<'a> {
    tree: Tree<'a>,
    /// From the root to the leaf; empty: on no key.
    path: Vec<Step<'a>>,
    key: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Step<'a> {
    node: Node<'a>,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// On no key yet.
    pub(super) const fn new(tree: Tree<'a>) -> Self {
        Self { tree, path: Vec::new(), key: Vec::new() }
    }

    /// The key that the cursor is on; empty if it is on none.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Whether the cursor is on a key.
    pub const fn is_on_key(&self) -> bool {
        !self.path.is_empty()
    }

    /// The value of the key that the cursor is on.
    ///
    /// # Panics
    /// If it is on none.
    pub fn value(&self) -> Result<&'a [u8], Damage> {
        let Step { node, at } = self.path.last().expect("a cursor on a key");
        self.tree.value(&node.cell(*at))
    }

    /// Goes to the first key. Whether there is one.
    pub fn first(&mut self) -> Result<bool, Damage> {
        self.seek_rank(0)
    }

    /// Goes to the last key. Whether there is one.
    pub fn last(&mut self) -> Result<bool, Damage> {
        match self.tree.sums().count.checked_sub(1) {
            Some(rank) => self.seek_rank(rank),
            None => self.leave(),
        }
    }

    /// Goes to the first key that is at least this one. Whether there is one.
    pub fn seek(&mut self, key: &[u8]) -> Result<bool, Damage> {
        self.path.clear();
        let Some(mut node) = self.tree.top()? else { return self.leave() };
        while node.level() > 0 {
            let at = node.child_of(self.tree.pages(), key)?;
            self.path.push(Step { node, at });
            node = self.tree.below(&node, at)?;
        }
        let (Place::At(at) | Place::Before(at)) = node.find(self.tree.pages(), key)?;
        self.path.push(Step { node, at });
        if at < node.len() { self.arrive() } else { self.up_and_right() }
    }

    /// Goes to the key with so many keys before it. Whether there is one.
    pub fn seek_rank(&mut self, rank: u64) -> Result<bool, Damage> {
        self.path.clear();
        if rank >= self.tree.sums().count {
            return self.leave();
        }
        let Some(mut node) = self.tree.top()? else { return self.leave() };
        let mut left = rank;
        while node.level() > 0 {
            let mut at = 0;
            let mut child = node.child(0);
            while left >= child.count {
                left -= child.count;
                at += 1;
                if at == node.len() {
                    return Err(self.tree.contradiction());
                }
                child = node.child(at);
            }
            self.path.push(Step { node, at });
            node = self.tree.below(&node, at)?;
        }
        if left >= to_u64(node.len()) {
            return Err(self.tree.contradiction());
        }
        self.path.push(Step { node, at: to_usize(left) });
        self.arrive()
    }

    /// Goes to the next key. Whether there is one; behind the last the cursor is on none.
    ///
    /// # Panics
    /// If it is on none.
    pub fn forward(&mut self) -> Result<bool, Damage> {
        let step = self.path.last_mut().expect("a cursor on a key");
        step.at += 1;
        if step.at < step.node.len() { self.move_on() } else { self.up_and_right() }
    }

    /// Goes to the key before. Whether there is one; before the first the cursor is on none.
    ///
    /// # Panics
    /// If it is on none.
    pub fn backward(&mut self) -> Result<bool, Damage> {
        let step = self.path.last_mut().expect("a cursor on a key");
        if let Some(at) = step.at.checked_sub(1) {
            step.at = at;
            return self.move_on();
        }
        while let Some(mut step) = self.path.pop() {
            if let Some(at) = step.at.checked_sub(1) {
                step.at = at;
                self.path.push(step);
                return self.down(|node| node.len() - 1);
            }
        }
        self.leave()
    }

    /// To the first key of the next leaf.
    fn up_and_right(&mut self) -> Result<bool, Damage> {
        while let Some(mut step) = self.path.pop() {
            step.at += 1;
            if step.at < step.node.len() {
                self.path.push(step);
                return self.down(|_| 0);
            }
        }
        self.leave()
    }

    /// From a branch to a leaf, always to the child that `choose` says.
    fn down(&mut self, choose: impl Fn(&Node<'a>) -> usize) -> Result<bool, Damage> {
        while let Some(step) = self.path.last()
            && step.node.level() > 0
        {
            let node = self.tree.below(&step.node, step.at)?;
            self.path.push(Step { node, at: choose(&node) });
        }
        self.arrive()
    }

    /// The cursor is on a key of another leaf than before.
    fn arrive(&mut self) -> Result<bool, Damage> {
        self.key.clear();
        let Step { node, at } = self.path.last().expect("a cursor on a key");
        self.tree.key_into(node, *at, &mut self.key)?;
        Ok(true)
    }

    /// The cursor is on another key of the same leaf, so the prefix in the buffer is right.
    fn move_on(&mut self) -> Result<bool, Damage> {
        let Step { node, at } = self.path.last().expect("a cursor on a key");
        let cell = node.cell(*at);
        if cell.rest.is_some() {
            return self.arrive();
        }
        self.key.truncate(node.prefix().len());
        self.key.extend_from_slice(cell.suffix);
        Ok(true)
    }

    fn leave(&mut self) -> Result<bool, Damage> {
        self.path.clear();
        self.key.clear();
        Ok(false)
    }
}

impl fmt::Debug for Cursor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor").field("levels", &self.path.len()).finish_non_exhaustive()
    }
}

/// The keys of a range that were not walked yet, from either end; made by [`Tree::range`].
///
/// It is no [`Iterator`]: a key is lent until the next one is asked for.
#[derive(Clone, Debug)]
pub struct Range<'a> {
    ranks: ops::Range<u64>,
    front: Cursor<'a>,
    back: Cursor<'a>,
}

/// A key and where its value is.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'c, 'a> {
    cursor: &'c Cursor<'a>,
}

impl<'a> Range<'a> {
    pub(super) const fn new(tree: Tree<'a>, ranks: ops::Range<u64>) -> Self {
        Self { ranks, front: tree.cursor(), back: tree.cursor() }
    }

    /// How many keys are left.
    pub const fn len(&self) -> u64 {
        self.ranks.end - self.ranks.start
    }

    /// Whether no key is left.
    pub const fn is_empty(&self) -> bool {
        self.ranks.start == self.ranks.end
    }

    /// Leaves out the next keys. Costs one descent at the next step, however many they are.
    pub fn skip(&mut self, keys: u64) {
        self.ranks.start += keys.min(self.len());
        self.front.path.clear();
    }

    /// Takes the next key from the front.
    pub fn pop_front(&mut self) -> Result<Option<Entry<'_, 'a>>, Damage> {
        if self.is_empty() {
            return Ok(None);
        }
        let rank = self.ranks.start;
        step(&mut self.front, rank, Cursor::forward)?;
        self.ranks.start += 1;
        Ok(Some(Entry { cursor: &self.front }))
    }

    /// Takes the next key from the back.
    pub fn pop_back(&mut self) -> Result<Option<Entry<'_, 'a>>, Damage> {
        if self.is_empty() {
            return Ok(None);
        }
        let rank = self.ranks.end - 1;
        step(&mut self.back, rank, Cursor::backward)?;
        self.ranks.end -= 1;
        Ok(Some(Entry { cursor: &self.back }))
    }
}

/// Moves a cursor on, or puts it to its first place. There is a key, unless the sums are wrong (T4).
fn step<'a>(
    cursor: &mut Cursor<'a>,
    rank: u64,
    on: impl Fn(&mut Cursor<'a>) -> Result<bool, Damage>,
) -> Result<(), Damage> {
    let arrived = if cursor.is_on_key() { on(cursor)? } else { cursor.seek_rank(rank)? };
    if arrived { Ok(()) } else { Err(cursor.tree.contradiction()) }
}

impl<'c, 'a> Entry<'c, 'a> {
    /// The key.
    pub fn key(&self) -> &'c [u8] {
        &self.cursor.key
    }

    /// The value; one that stands in an extent is looked up now.
    pub fn value(&self) -> Result<&'a [u8], Damage> {
        self.cursor.value()
    }
}
