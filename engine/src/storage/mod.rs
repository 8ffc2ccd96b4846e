//! The trees on disk: copy-on-write B+trees in one file, advanced by checkpoints.
//!
//! # The idea
//!
//! A page that a checkpoint refers to is never written again. The next checkpoint merges a sorted batch of
//! changes into the trees, writes each node that the batch touches once, to free pages, and with it the path
//! above, and last of all a *superblock* that names the new roots. Whoever reads an older checkpoint sees it
//! unchanged; a crash at any moment leaves the old superblock, and nothing that it refers to was touched.
//!
//! ```text
//!  superblock n ──> root ──┬──> a            superblock n+1 ──> root' ─┬──> a     (shared)
//!                          └──> b                                      └──> b'    (written by n+1)
//! ```
//!
//! A parent keeps, for every child, its checksum, how many keys are below and how many bytes they and their
//! values take. The checksum notices writes that were lost or went astray, which a page's own cannot. The
//! sums make counting, and finding the *n*th key, one descent.
//!
//! # What there is
//!
//! [`page`] and [`node`] are the bytes; [`mod@meta`] is the superblock and how the newest is chosen; [`extent`]
//! holds what is too long for a node. [`pages`] finds pages and checks each when it is first met. [`tree`] and
//! [`cursor`] read. [`free_space`] knows what may be written to and [`map`] keeps it on disk. [`packer`] makes
//! nodes out of cells, [`builder`] a tree out of nodes, [`merge`] a new tree out of an old one and changes;
//! [`checkpoint`] puts that in order, and [`work`] is what they work with. [`db`] is the whole file, and [`mod@check`]
//! believes nothing and looks at everything.
//!
//! Nothing here reads or writes: pages come from a [`PageSource`], and writes are [outputs](checkpoint::Output).
//!
//! # Invariants
//!
//! - T1 order: keys ascend strictly within a node, and from leaf to leaf.
//! - T2 bounds: the key of a branch's cell is at most every key below its child and above every key below the
//!   child before. The first cell of a branch has no key: its bound stands further up.
//! - T3 depth: a child's level is one less than its parent's, so a path ends whatever the bytes are.
//! - T4 sums: a child's count and bytes are those of all keys below it.
//! - T5 fill: a leaf has a key, a branch has two children.
//! - T6 one owner: within a checkpoint each page and each extent is referred to once.
//! - T7 copy on write: no page is written that is in use by the newest checkpoint, by its fallback, or by one
//!   that is read; none is written twice by one checkpoint.
//! - T8 the map of space has exactly the pages that can be reached, the superblocks' and its own.
//!
//! # Limits
//!
//! One writer, and no view of what it has not written yet: reading changes before they are durable is for whoever holds
//! them ([`mvcc`](crate::mvcc)). What was met good ([`pages::Met`]) is remembered for one checkpoint: the next one's readers
//! check each page once more. docs/format.md is the law for every byte.

use core::fmt;

pub mod builder;
pub mod check;
pub mod checkpoint;
pub mod cursor;
pub mod db;
pub mod extent;
pub mod free_space;
pub mod map;
pub mod merge;
pub mod meta;
pub mod node;
pub mod packer;
pub mod page;
pub mod pages;
pub mod tree;
pub mod work;

#[cfg(test)]
mod tests;

use crate::convert::{to_u64, to_usize};

/// Names a page: its place in the file, in pages. Zero is a superblock's, so it also says "none".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageId(pub u64);

impl PageId {
    /// "No page": the root of an empty tree, an absent part of the map.
    pub const NONE: Self = Self(0);

    /// Whether this names a page.
    pub const fn is_some(self) -> bool {
        self.0 != 0
    }
}

impl fmt::Display for PageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Pages in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    /// The first of them.
    pub first: PageId,
    /// How many.
    pub pages: u32,
}

impl Run {
    /// One page.
    pub const fn one(first: PageId) -> Self {
        Self { first, pages: 1 }
    }

    /// Behind the last page; `None` if there is no such number.
    pub fn end(self) -> Option<PageId> {
        self.first.0.checked_add(u64::from(self.pages)).map(PageId)
    }
}

/// Counts checkpoints; 0 is the file as it was made, with nothing in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckpointSeq(pub u64);

impl CheckpointSeq {
    /// The one after this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for CheckpointSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The trees of a file; docs/format.md says what their keys and values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TreeId {
    /// `K`: each key's current version.
    Keys,
    /// `D`: tombstones of deleted keys.
    Graves,
    /// `R`: the history, by revision.
    History,
    /// `L`: keys by their lease.
    Leased,
    /// `S`: everything else, in buckets.
    Rest,
    /// `A`: the map of space, which is no B+tree.
    Space,
}

impl TreeId {
    /// All trees, in the order of their roots in a superblock.
    pub const ALL: [Self; 6] =
        [Self::Keys, Self::Graves, Self::History, Self::Leased, Self::Rest, Self::Space];

    /// The letter on disk.
    pub const fn letter(self) -> u8 {
        match self {
            Self::Keys => b'K',
            Self::Graves => b'D',
            Self::History => b'R',
            Self::Leased => b'L',
            Self::Rest => b'S',
            Self::Space => b'A',
        }
    }

    /// The tree with this letter.
    pub fn from_letter(letter: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|tree| tree.letter() == letter)
    }

    /// The tree's place in [`TreeId::ALL`].
    const fn place(self) -> usize {
        match self {
            Self::Keys => 0,
            Self::Graves => 1,
            Self::History => 2,
            Self::Leased => 3,
            Self::Rest => 4,
            Self::Space => 5,
        }
    }
}

/// The size of a file's pages, and what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSize(u32);

impl PageSize {
    /// What a file gets unless somebody asks for something else.
    pub const DEFAULT: Self = Self(8192);

    /// A power of two from 512 to 16384; `None` for any other number. Below 4096 a page is smaller than
    /// what disks write at once: good for tests, which want many pages, and for nothing else.
    pub const fn new(bytes: u32) -> Option<Self> {
        if bytes.is_power_of_two() && PAGE_BYTES_MIN <= bytes && bytes <= PAGE_BYTES_MAX {
            Some(Self(bytes))
        } else {
            None
        }
    }

    /// Bytes of a page.
    pub fn bytes(self) -> usize {
        to_usize(u64::from(self.0))
    }

    /// The number on disk.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Bytes of a key that stand in a node; the rest goes to an [`extent`]. An eighth: a branch then has
    /// four children at least, however long the keys are.
    pub fn key_inline_max(self) -> usize {
        self.bytes() / 8
    }

    /// The longest value that stands in a leaf. A quarter: a leaf then has room for two cells at least.
    pub fn value_inline_max(self) -> usize {
        self.bytes() / 4
    }

    /// Pages in front of the first one that is anybody's: the superblocks'.
    pub fn reserved_pages(self) -> u64 {
        to_u64(meta::SUPERBLOCKS_BYTES / self.bytes())
    }

    /// Where a page stands in the file.
    pub fn offset(self, page: PageId) -> u64 {
        page.0 * u64::from(self.0)
    }
}

const PAGE_BYTES_MIN: u32 = 512;
const PAGE_BYTES_MAX: u32 = 16384;

/// Levels of a tree: two children in each branch, and as many keys as a count can hold.
pub const HEIGHT_MAX: u8 = 48;

/// Where pages come from: a mapping, a vector, a simulated disk.
pub trait PageSource {
    /// The bytes of pages in a row, which stay as they are while the source is borrowed.
    fn read(&self, run: Run) -> Result<&[u8], Unreadable>;
}

/// A page could not be read: beyond the end of the file, or the medium refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// A page is not what whoever refers to it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The page.
    pub page: PageId,
    /// What is wrong with it.
    pub why: Why,
}

/// What is wrong with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It cannot be read.
    Unreadable,
    /// Its bytes do not have the checksum that it says, or that its parent says.
    Checksum,
    /// It says to be another page, or of another tree, level, kind or length.
    Identity,
    /// Its prefix or cells do not lie within it as they should, or bytes between them are not zero.
    Layout,
    /// A cell contradicts itself.
    Cell,
    /// Its keys are out of order (T1), or outside of their parent's bounds (T2).
    Order,
    /// Its keys and bytes are not as many as its parent says (T4).
    Sums,
    /// It is referred to more than once (T6), or lies among the superblocks or beyond the end of the file.
    Reference,
    /// The map of space says that it is free while it is in use, or the other way round (T8).
    Map,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "cannot be read",
            Self::Checksum => "has another checksum",
            Self::Identity => "is another page",
            Self::Layout => "has an impossible layout",
            Self::Cell => "has an impossible cell",
            Self::Order => "has keys out of order or out of bounds",
            Self::Sums => "has other sums than its parent says",
            Self::Reference => "is referred to where it must not be",
            Self::Map => "is not what the map of space says",
        })
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page {} {}", self.page, self.why)
    }
}

impl core::error::Error for Damage {}

/// Reads the little-endian numbers of a fixed layout, one after another.
///
/// # Panics
/// If the layout is longer than the bytes: a mistake of this module, not of its input.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let array = self.bytes[self.at..self.at + N].try_into().expect("a slice of length N");
        self.at += N;
        array
    }

    fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    fn u8(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    fn u48(&mut self) -> u64 {
        let [a, b, c, d, e, f] = self.array();
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    fn i64(&mut self) -> i64 {
        i64::from_le_bytes(self.array())
    }
}

/// The six low bytes of a number.
///
/// # Panics
/// If it needs more: pages, counts and bytes of a file never do.
fn u48(number: u64) -> [u8; 6] {
    let [a, b, c, d, e, f, 0, 0] = number.to_le_bytes() else {
        panic!("a file holds less than 2^48 of anything");
    };
    [a, b, c, d, e, f]
}
