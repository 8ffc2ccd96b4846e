//! A node as it is read: one page of sorted cells, checked once and then trusted.
//!
//! ```text
//! ┌────────┬────────┬──────┬──────┬─────┬────────┬────────┬─────┬───────┐
//! │ header │ prefix │ slot │ slot │  …  │  cell  │  cell  │  …  │ zeros │
//! └────────┴────────┴──────┴──────┴─────┴────────┴────────┴─────┴───────┘
//!   slot: u16 offset of the cell, first two bytes of what its key has after the prefix
//!   cell: u16 suffix length × 4 + flags, suffix, [rest of the key], value
//! ```
//!
//! The prefix that all keys share stands once. A slot repeats the beginning of what is left, so that a search
//! looks at slots, which lie together, and at one or two cells. Cells have no gaps: where one ends, the next
//! begins, and a node is written once, so nothing ever has to be moved about.
//!
//! [`Node::open`] is the one function that looks at bytes nobody vouches for: any bytes are an error or a node
//! with which every other function is at home. Only two things are left open, because extents would have
//! to be read: the order of two keys that differ beyond what stands in the node, which [`super::check`]
//! sees to, and what those extents hold, which is checked when they are read.

use core::cmp::Ordering;

use alloc::vec::Vec;

use super::extent::{DATA_BYTES_MAX, ExtentRef, REF_BYTES};
use super::page::{CHILD_BYTES, Child, HEADER_BYTES, Header, Kind};
use super::pages::Pages;
use super::{Damage, PageId, PageSize, TreeId, Why};
use crate::convert::{to_u64, to_usize};

/// Length of a slot.
pub const SLOT_BYTES: usize = 4;
/// Length of the number that a cell begins with.
pub const CELL_HEAD_BYTES: usize = 2;
/// Flag of a cell: the value stands in an extent.
pub const VALUE_IN_EXTENT: u16 = 1;
/// Flag of a cell: the key goes on in an extent.
pub const KEY_GOES_ON: u16 = 2;
/// Bits of a cell's first number that are flags.
pub const FLAG_BITS: u32 = 2;

/// Which node somebody expects at a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The page.
    pub page: PageId,
    /// The tree it should belong to.
    pub tree: TreeId,
    /// The level it should have (T3).
    pub level: u8,
}

/// A node whose page was checked.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    bytes: &'a [u8],
}

/// One cell of a node.
#[derive(Clone, Copy, Debug)]
pub struct Cell<'a> {
    /// What the key has after the node's prefix, as far as it stands in the node.
    pub suffix: &'a [u8],
    /// Where the key goes on.
    pub rest: Option<ExtentRef>,
    /// The value, or in a branch the child.
    pub value: Value<'a>,
}

/// A value, or where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// It stands in the node.
    Inline(&'a [u8]),
    /// It stands in an extent.
    Extent(ExtentRef),
}

/// Where a key is in a node, or would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is the key of this cell.
    At(usize),
    /// It is not there; keys from this cell on are above it.
    Before(usize),
}

impl<'a> Node<'a> {
    /// Checks a page and takes it for a node.
    pub fn open(bytes: &'a [u8], crc: u32, meant: Identity, size: PageSize) -> Result<Self, Why> {
        let header = Header::open(bytes, crc)?;
        let kind = if meant.level == 0 { Kind::Leaf } else { Kind::Branch };
        let found = Identity { page: header.page, tree: header.tree, level: header.level };
        if header.kind != kind || found != meant {
            return Err(Why::Identity);
        }
        let node = Self { bytes };
        node.check_layout(&header, size)?;
        for at in 0..node.len() {
            node.check_cell(at, size)?;
        }
        for at in node.first_key() + 1..node.len() {
            node.check_order(at)?;
        }
        Ok(node)
    }

    /// Takes a page that [`Node::open`] found good before for a node.
    pub const fn trust(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Number of cells.
    pub fn len(&self) -> usize {
        usize::from(self.u16(CELLS_AT))
    }

    /// Never: a node has a cell (T5).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The page that it is.
    pub fn page(&self) -> PageId {
        let page = self.bytes[PAGE_AT..PAGE_AT + 8].try_into().expect("eight bytes");
        PageId(u64::from_le_bytes(page))
    }

    /// 0 for a leaf.
    pub fn level(&self) -> u8 {
        self.bytes[LEVEL_AT]
    }

    /// What all keys begin with.
    pub fn prefix(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..][..usize::from(self.u16(PREFIX_AT))]
    }

    /// A cell.
    ///
    /// # Panics
    /// If there is no such cell.
    pub fn cell(&self, at: usize) -> Cell<'a> {
        let (start, end) = self.bounds(at);
        let head = self.u16(start);
        let bytes = &self.bytes[start + CELL_HEAD_BYTES..end];
        let (suffix, mut bytes) = bytes.split_at(usize::from(head >> FLAG_BITS));
        let mut rest = None;
        if head & KEY_GOES_ON != 0 {
            rest = Some(ExtentRef::decode(bytes));
            bytes = &bytes[REF_BYTES..];
        }
        let value = if head & VALUE_IN_EXTENT == 0 {
            Value::Inline(bytes)
        } else {
            Value::Extent(ExtentRef::decode(bytes))
        };
        Cell { suffix, rest, value }
    }

    /// A child of a branch.
    ///
    /// # Panics
    /// If there is no such cell, or the node is a leaf.
    pub fn child(&self, at: usize) -> Child {
        let (_, end) = self.bounds(at);
        Child::decode(&self.bytes[end - CHILD_BYTES..end])
    }

    /// Bytes of a cell's key and value, wherever they stand; of a branch, nothing that means anything.
    pub fn cell_bytes(&self, at: usize) -> u64 {
        let cell = self.cell(at);
        let rest = cell.rest.map_or(0, |rest| u64::from(rest.data_bytes));
        let value = match cell.value {
            Value::Inline(value) => to_u64(value.len()),
            Value::Extent(extent) => u64::from(extent.data_bytes),
        };
        to_u64(self.prefix().len() + cell.suffix.len()) + rest + value
    }

    /// Appends the whole key of a cell.
    pub fn key_into(&self, pages: Pages<'_>, at: usize, out: &mut Vec<u8>) -> Result<(), Damage> {
        let cell = self.cell(at);
        out.extend_from_slice(self.prefix());
        out.extend_from_slice(cell.suffix);
        if let Some(rest) = cell.rest {
            out.extend_from_slice(pages.extent(self.tree(), &rest)?);
        }
        Ok(())
    }

    /// Where a key is among the keys of this node.
    pub fn find(&self, pages: Pages<'_>, key: &[u8]) -> Result<Place, Damage> {
        let (mut low, mut high) = (self.first_key(), self.len());
        let prefix = self.prefix();
        let shared = prefix.len().min(key.len());
        match key[..shared].cmp(&prefix[..shared]) {
            Ordering::Less => return Ok(Place::Before(low)),
            Ordering::Greater => return Ok(Place::Before(high)),
            Ordering::Equal if key.len() < prefix.len() => return Ok(Place::Before(low)),
            Ordering::Equal => {}
        }
        let suffix = &key[prefix.len()..];
        let head = head_of(suffix);
        while low < high {
            let middle = low.midpoint(high);
            let order = match self.head(middle).cmp(&head) {
                Ordering::Equal => self.compare_suffix(pages, middle, suffix)?,
                decided @ (Ordering::Less | Ordering::Greater) => decided,
            };
            match order {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Ok(Place::At(middle)),
            }
        }
        Ok(Place::Before(low))
    }

    /// The child below which a key is, if it is anywhere (T2).
    ///
    /// # Panics
    /// May panic if the node is a leaf.
    pub fn child_of(&self, pages: Pages<'_>, key: &[u8]) -> Result<usize, Damage> {
        Ok(match self.find(pages, key)? {
            Place::At(at) => at,
            Place::Before(at) => at - 1,
        })
    }

    /// The order of a cell's suffix, wherever it stands, and this one.
    fn compare_suffix(
        &self,
        pages: Pages<'_>,
        at: usize,
        suffix: &[u8],
    ) -> Result<Ordering, Damage> {
        let cell = self.cell(at);
        let Some(rest) = cell.rest else { return Ok(cell.suffix.cmp(suffix)) };
        let shared = cell.suffix.len().min(suffix.len());
        match cell.suffix.cmp(&suffix[..shared]) {
            Ordering::Equal => Ok(pages.extent(self.tree(), &rest)?.cmp(&suffix[shared..])),
            decided @ (Ordering::Less | Ordering::Greater) => Ok(decided),
        }
    }

    /// The first cell that has a key: a branch's first has none (T2).
    fn first_key(&self) -> usize {
        usize::from(self.level() > 0)
    }

    fn tree(&self) -> TreeId {
        TreeId::from_letter(self.bytes[TREE_AT]).expect("an open node has a tree")
    }

    /// The first two bytes of what a cell's key has after the prefix, wherever they stand.
    pub(super) fn head(&self, at: usize) -> u16 {
        let slot = self.slot(at);
        u16::from_be_bytes([self.bytes[slot + 2], self.bytes[slot + 3]])
    }

    fn slot(&self, at: usize) -> usize {
        HEADER_BYTES + usize::from(self.u16(PREFIX_AT)) + at * SLOT_BYTES
    }

    /// Where a cell begins and ends.
    fn bounds(&self, at: usize) -> (usize, usize) {
        let slot = self.slot(at);
        let start = usize::from(self.u16(slot));
        let end =
            if at + 1 < self.len() { usize::from(self.u16(slot + SLOT_BYTES)) } else { self.end() };
        (start, end)
    }

    fn end(&self) -> usize {
        let end = [0, 1, 2, 3].map(|byte| self.bytes[END_AT + byte]);
        to_usize(u64::from(u32::from_le_bytes(end)))
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    /// Prefix, slots and cells lie within the page, one after another, and the rest is zero.
    fn check_layout(&self, header: &Header, size: PageSize) -> Result<(), Why> {
        let least = if header.level == 0 { 1 } else { 2 };
        let end = to_usize(u64::from(header.end));
        let slots = HEADER_BYTES + usize::from(header.prefix_bytes);
        let mut at = slots + usize::from(header.cells) * SLOT_BYTES;
        let fits = self.bytes.len() == size.bytes() && at < end && end <= self.bytes.len();
        if !fits || header.cells < least {
            return Err(Why::Layout);
        }
        for cell in 0..self.len() {
            let (start, end) = self.bounds(cell);
            if start != at || end > self.end() || end < start + CELL_HEAD_BYTES {
                return Err(Why::Layout);
            }
            at = end;
        }
        if self.bytes[end..].iter().any(|byte| *byte != 0) {
            return Err(Why::Layout);
        }
        Ok(())
    }

    /// A cell has what its flags say, each of a length that a writer would give it.
    fn check_cell(&self, at: usize, size: PageSize) -> Result<(), Why> {
        let (start, end) = self.bounds(at);
        let head = self.u16(start);
        let mut left = end - start - CELL_HEAD_BYTES;
        let mut take = |bytes: usize| match left.checked_sub(bytes) {
            Some(rest) => {
                left = rest;
                Ok(())
            }
            None => Err(Why::Cell),
        };
        take(usize::from(head >> FLAG_BITS))?;
        for flag in [KEY_GOES_ON, VALUE_IN_EXTENT] {
            if head & flag != 0 {
                take(REF_BYTES)?;
            }
        }
        let cell = self.cell(at);
        let key_bytes = self.prefix().len() + cell.suffix.len();
        if at < self.first_key() {
            if head != 0 {
                return Err(Why::Cell);
            }
        } else if match cell.rest {
            None => key_bytes > size.key_inline_max(),
            Some(rest) => key_bytes != size.key_inline_max() || !may_be(&rest, 1),
        } {
            return Err(Why::Cell);
        }
        let good = match cell.value {
            Value::Inline(value) if self.level() > 0 => {
                value.len() == CHILD_BYTES && self.child(at).page.is_some()
            }
            Value::Inline(value) => value.len() <= size.value_inline_max(),
            Value::Extent(value) => {
                self.level() == 0 && left == 0 && may_be(&value, size.value_inline_max() + 1)
            }
        };
        // Of a head that comes from an extent, nothing can be said here.
        let known = match (cell.rest, cell.suffix.len()) {
            (Some(_), 0) => 0,
            (Some(_), 1) => 0xff00,
            (Some(_), _) | (None, _) => 0xffff,
        };
        if !good || self.head(at) & known != head_of(cell.suffix) & known {
            return Err(Why::Cell);
        }
        Ok(())
    }

    /// A cell's key is above the one before, as far as the node can tell (T1).
    fn check_order(&self, at: usize) -> Result<(), Why> {
        let (before, cell) = (self.cell(at - 1), self.cell(at));
        // A key that goes on is above one that ends here. Both going on: the node cannot tell.
        let ascends = match before.suffix.cmp(cell.suffix) {
            Ordering::Less => true,
            Ordering::Equal => cell.rest.is_some(),
            Ordering::Greater => false,
        };
        if ascends { Ok(()) } else { Err(Why::Order) }
    }
}

/// The first two bytes of what follows a prefix, as a number that orders as they do.
pub fn head_of(suffix: &[u8]) -> u16 {
    match *suffix {
        [] => 0,
        [first] => u16::from_be_bytes([first, 0]),
        [first, second, ..] => u16::from_be_bytes([first, second]),
    }
}

/// Whether a reference is one that could have been written for data of at least this length.
fn may_be(extent: &ExtentRef, least: usize) -> bool {
    let data_bytes = to_usize(u64::from(extent.data_bytes));
    extent.page.is_some() && least <= data_bytes && extent.data_bytes <= DATA_BYTES_MAX
}

// Where the header has what is asked for all the time.
const TREE_AT: usize = 5;
const LEVEL_AT: usize = 6;
const PAGE_AT: usize = 8;
const CELLS_AT: usize = 24;
const PREFIX_AT: usize = 26;
const END_AT: usize = 28;
