//! Looking at everything in a file, and believing nothing: what `fsck` is to a file system.
//!
//! | level | what is looked at |
//! |---|---|
//! | 1 | the superblocks: is there a newest checkpoint? |
//! | 2 | each page that can be reached from it: checksum, identity, layout, order and bounds across nodes (T1, T2), depth (T3), sums (T4), fill (T5), one owner (T6) |
//! | 3 | the map of space: it has exactly what was reached (T8) |
//!
//! A fallback is looked at like the newest, because it may have to take its place. Faults name checkpoint, tree and
//! page; a subtree whose top is damaged is left out, and what else it had is then missing from the map's account.
//!
//! # Limits
//!
//! What keys and values mean is not looked at. Costs reading every page once, and two bits of memory for each.

use alloc::vec::Vec;
use core::fmt;

use super::db::{check_length, load_map};
use super::extent::ExtentRef;
use super::free_space::Bits;
use super::map::Map;
use super::meta::{Choice, Meta, Refusal, SUPERBLOCKS_BYTES};
use super::node::{Node, Value, head_of};
use super::page::Child;
use super::pages::Pages;
use super::{CheckpointSeq, Damage, PageId, PageSource, Run, TreeId, Why};
use crate::convert::to_u64;

/// How much to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The superblocks.
    Superblocks,
    /// All pages of all trees.
    Pages,
    /// The map of space, too.
    Map,
}

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is no file, or nothing in it.
    Empty,
    /// The superblocks do not name one state.
    Refused(Refusal),
    /// A page of a checkpoint is damaged.
    Page {
        /// The checkpoint.
        seq: CheckpointSeq,
        /// The tree that refers to the page.
        tree: TreeId,
        /// Which page, and what is wrong.
        damage: Damage,
    },
}

/// More faults than this are not told apart: the file is lost.
pub const FAULTS_MAX: usize = 1000;

/// Looks at a file; without faults, nothing is returned.
pub fn check(
    superblocks: &[u8; SUPERBLOCKS_BYTES],
    source: &dyn PageSource,
    level: Level,
) -> Vec<Fault> {
    let (newest, fallback) = match Meta::choose(superblocks) {
        Choice::Use { newest, fallback } => (newest, fallback),
        Choice::Empty => return [Fault::Empty].into(),
        Choice::Refuse(refusal) => return [Fault::Refused(refusal)].into(),
    };
    let mut faults = Vec::new();
    if level >= Level::Pages {
        for meta in [Some(newest), fallback].into_iter().flatten() {
            let mut walk = Walk::new(&meta, source);
            if let Err(damage) = check_length(&meta, source) {
                walk.fault(damage);
                faults.append(&mut walk.faults);
                continue;
            }
            TreeId::ALL.into_iter().for_each(|tree| walk.tree(tree));
            if level >= Level::Map {
                walk.map(source);
            }
            faults.append(&mut walk.faults);
        }
    }
    faults.truncate(FAULTS_MAX);
    faults
}

/// One checkpoint, and what was reached of it.
struct Walk<'a> {
    meta: &'a Meta,
    pages: Pages<'a>,
    reached: Bits,
    faults: Vec<Fault>,
    tree: TreeId,
}

/// The keys that may stand below a node: from `low`, before `high`.
#[derive(Clone, Copy)]
struct Bounds<'k> {
    low: &'k [u8],
    high: Option<&'k [u8]>,
}

impl Bounds<'_> {
    fn contain(&self, key: &[u8]) -> bool {
        self.low <= key && self.high.is_none_or(|high| key < high)
    }
}

impl<'a> Walk<'a> {
    fn new(meta: &'a Meta, source: &'a dyn PageSource) -> Self {
        let size = meta.owner.page_size;
        Self {
            meta,
            pages: Pages::unmet(source, size),
            reached: Bits::with_first(size.reserved_pages()),
            faults: Vec::new(),
            tree: TreeId::Keys,
        }
    }

    fn tree(&mut self, tree: TreeId) {
        self.tree = tree;
        let root = self.meta.root(tree);
        let Some(top) = root.height.checked_sub(1).filter(|_| tree != TreeId::Space) else {
            return;
        };
        if let Err(damage) = self.node(top, &root.child, Bounds { low: &[], high: None }) {
            self.fault(damage);
        }
    }

    fn node(&mut self, level: u8, child: &Child, bounds: Bounds<'_>) -> Result<(), Damage> {
        let damage = |why| Damage { page: child.page, why };
        if self.faults.len() >= FAULTS_MAX {
            return Ok(());
        }
        self.reach(Run::one(child.page))?;
        let node = self.pages.node(self.tree, level, child)?;
        if level > 0 {
            return self.branch(&node, child, bounds);
        }
        let mut last: Option<Vec<u8>> = None;
        let mut bytes = 0;
        for at in 0..node.len() {
            let key = self.key(&node, at)?;
            if !bounds.contain(&key) || last.is_some_and(|last| last >= key) {
                return Err(damage(Why::Order));
            }
            if let Value::Extent(extent) = node.cell(at).value {
                self.extent(&extent)?;
            }
            bytes += node.cell_bytes(at);
            last = Some(key);
        }
        let sums = (to_u64(node.len()), bytes);
        if sums == (child.count, child.bytes) { Ok(()) } else { Err(damage(Why::Sums)) }
    }

    fn branch(&mut self, node: &Node<'a>, child: &Child, bounds: Bounds<'_>) -> Result<(), Damage> {
        let damage = |why| Damage { page: child.page, why };
        let mut keys = Vec::new();
        for at in 1..node.len() {
            let key = self.key(node, at)?;
            let last = keys.last().map_or(bounds.low, Vec::as_slice);
            if !bounds.contain(&key) || key.as_slice() <= last {
                return Err(damage(Why::Order));
            }
            keys.push(key);
        }
        let mut sums = (0, 0);
        for at in 0..node.len() {
            let low = at.checked_sub(1).map_or(bounds.low, |before| &keys[before]);
            let high = keys.get(at).map(Vec::as_slice).or(bounds.high);
            let below = node.child(at);
            sums = (sums.0 + below.count, sums.1 + below.bytes);
            if let Err(damage) = self.node(node.level() - 1, &below, Bounds { low, high }) {
                self.fault(damage);
            }
        }
        if sums == (child.count, child.bytes) { Ok(()) } else { Err(damage(Why::Sums)) }
    }

    /// The whole key of a cell.
    fn key(&mut self, node: &Node<'a>, at: usize) -> Result<Vec<u8>, Damage> {
        if let Some(rest) = node.cell(at).rest {
            self.extent(&rest)?;
        }
        let mut key = Vec::new();
        node.key_into(self.pages, at, &mut key)?;
        let is_keyed = at > 0 || node.level() == 0;
        if is_keyed && node.head(at) != head_of(&key[node.prefix().len()..]) {
            return Err(Damage { page: node.page(), why: Why::Cell });
        }
        Ok(key)
    }

    fn extent(&mut self, extent: &ExtentRef) -> Result<(), Damage> {
        self.reach(extent.run(self.meta.owner.page_size))?;
        self.pages.extent(self.tree, extent).map(drop)
    }

    /// Notes that pages are in use, once (T6).
    fn reach(&mut self, run: Run) -> Result<(), Damage> {
        let damage = |page| Damage { page: PageId(page), why: Why::Reference };
        let end = run.end().filter(|end| *end <= self.meta.end);
        let end = end.ok_or_else(|| damage(run.first.0))?;
        for page in run.first.0..end.0 {
            if self.reached.contains(page) {
                return Err(damage(page));
            }
            self.reached.set(page);
        }
        Ok(())
    }

    /// Compares the map of space with what was reached (T8).
    fn map(&mut self, source: &dyn PageSource) {
        self.tree = TreeId::Space;
        let (map, bits): (Map, Bits) = match load_map(self.meta, source) {
            Ok(loaded) => loaded,
            Err(damage) => return self.fault(damage),
        };
        for page in map.pages() {
            if let Err(damage) = self.reach(Run::one(page)) {
                self.fault(damage);
            }
        }
        let end = self.meta.end.0;
        let differs = |page: &u64| bits.contains(*page) != self.reached.contains(*page);
        let wrong: Vec<u64> = (0..end).filter(differs).take(FAULTS_MAX).collect();
        for page in wrong {
            self.fault(Damage { page: PageId(page), why: Why::Map });
        }
    }

    fn fault(&mut self, damage: Damage) {
        self.faults.push(Fault::Page { seq: self.meta.seq, tree: self.tree, damage });
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("nothing was ever written to this file"),
            Self::Refused(refusal) => write!(f, "superblocks: {refusal:?}"),
            Self::Page { seq, tree, damage } => {
                let letter = char::from(tree.letter());
                write!(f, "checkpoint {seq}, tree {letter}: {damage}")
            }
        }
    }
}
