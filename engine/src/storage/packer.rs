//! Cells on their way into nodes, at one level of a tree.
//!
//! Cells come in ascending order. Two nodes' worth of them are kept back: when the last ones turn out to be
//! few, they share what they have with the node before instead of being a thin node of their own.
//!
//! ```text
//!  pages that were taken │ body: fills a page │ tail: fills one, or less │ <- push
//! ```
//!
//! How much room a cell needs depends on the prefix that all cells of its page share, and every cell may
//! shorten that; [`Measure`] keeps count.

use core::{iter, mem};

use alloc::vec;
use alloc::vec::Vec;

use super::extent::{ExtentRef, REF_BYTES};
use super::node::{CELL_HEAD_BYTES, FLAG_BITS, KEY_GOES_ON, SLOT_BYTES, VALUE_IN_EXTENT, head_of};
use super::page::{CHILD_BYTES, Child, HEADER_BYTES, Header, Kind};
use super::{CheckpointSeq, PageId, PageSize, TreeId};
use crate::convert::to_u64;

/// A cell to be packed.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// The whole key; in a branch, what bounds the child from below.
    pub key: &'a [u8],
    /// Where the key goes on, if that was written before.
    pub rest: Option<ExtentRef>,
    /// What stands in the cell: a value, a reference to an extent, or a child.
    pub value: &'a [u8],
    /// Whether the value is a reference.
    pub in_extent: bool,
    /// Whether the child was written by this checkpoint, so that it cannot be read yet.
    pub is_fresh: bool,
}

/// A cell's key is not above the one before (T1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unordered;

/// A cell that waits; its key and value lie in the packer's bytes.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    at: usize,
    key_bytes: usize,
    value_bytes: usize,
    rest: Option<ExtentRef>,
    in_extent: bool,
    is_fresh: bool,
}

/// How many bytes the cells of a node need.
#[derive(Clone, Copy, Debug, Default)]
struct Measure {
    cells: usize,
    /// Cells that have a key.
    keyed: usize,
    prefix: usize,
    /// Keys as far as they stand in the node.
    keys: usize,
    /// Everything else in the cells.
    others: usize,
}

impl Measure {
    fn bytes(&self) -> usize {
        let suffixes = self.keys - self.keyed * self.prefix;
        HEADER_BYTES
            + self.prefix
            + self.cells * (SLOT_BYTES + CELL_HEAD_BYTES)
            + suffixes
            + self.others
    }
}

/// Cells of one level that wait for their node.
#[derive(Debug)]
pub struct Packer {
    level: u8,
    size: PageSize,
    /// A page is full beyond this.
    fill_bytes: usize,
    bytes: Vec<u8>,
    cells: Vec<Waiting>,
    /// How many cells the body has: the first of them.
    body: usize,
    tail: Measure,
}

impl Packer {
    /// Nothing waits. Pages will be filled up to `fill_bytes`.
    ///
    /// # Panics
    /// If that is less than three quarters of a page, which three children always need, or more than a page.
    pub fn new(level: u8, size: PageSize, fill_bytes: usize) -> Self {
        let least = size.bytes() / 4 * 3;
        assert!(least <= fill_bytes && fill_bytes <= size.bytes(), "a page's fill");
        let (bytes, cells) = (Vec::new(), Vec::new());
        Self { level, size, fill_bytes, bytes, cells, body: 0, tail: Measure::default() }
    }

    /// How many cells wait.
    pub const fn len(&self) -> usize {
        self.cells.len()
    }

    /// Whether no cell waits.
    pub const fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// Whether what waits is too little for a node, and more should be found for it.
    pub fn is_thin(&self) -> bool {
        let least = if self.level == 0 { 1 } else { 2 };
        self.body == 0 && (self.tail.bytes() < self.size.bytes() / 4 || self.len() < least)
    }

    /// Adds a cell behind all others. Says how many cells make a page that must be taken now, if any.
    pub fn push(&mut self, item: &Item<'_>) -> Result<Option<usize>, Unordered> {
        if self.last().is_some_and(|last| last.key >= item.key) {
            return Err(Unordered);
        }
        self.cells.push(Waiting {
            at: self.bytes.len(),
            key_bytes: item.key.len(),
            value_bytes: item.value.len(),
            rest: item.rest,
            in_extent: item.in_extent,
            is_fresh: item.is_fresh,
        });
        self.bytes.extend_from_slice(item.key);
        self.bytes.extend_from_slice(item.value);
        let last = self.cells.len() - 1;
        let grown = self.measured(self.tail, self.body, last);
        if self.tail.cells < self.least() || grown.bytes() <= self.fill_bytes {
            self.tail = grown;
            return Ok(None);
        }
        // The tail is full and becomes the body; what was the body has to go.
        let page = self.body;
        self.body = last;
        self.tail = self.measured(Measure::default(), last, last);
        Ok((page > 0).then_some(page))
    }

    /// The last cell.
    pub fn last(&self) -> Option<Item<'_>> {
        self.cells.last().map(|cell| self.item(cell))
    }

    /// A waiting cell.
    ///
    /// # Panics
    /// If there is no such cell.
    pub fn at(&self, at: usize) -> Item<'_> {
        self.item(&self.cells[at])
    }

    /// Notes where a key goes on, now that it was written.
    pub fn set_rest(&mut self, at: usize, rest: ExtentRef) {
        self.cells[at].rest = Some(rest);
    }

    /// How many cells the next page has if no more will come; the rest of them, if any, fit another.
    pub fn last_cut(&self) -> usize {
        let all = self.len();
        if self.body == 0 {
            return all;
        }
        if self.tail.bytes() >= self.size.bytes() / 4 && self.tail.cells >= self.least() {
            return self.body;
        }
        let whole = self.measure(0, all);
        if whole.bytes() <= self.size.bytes() {
            return all;
        }
        // Both shall have about the same, unless the right one would lose too much prefix by that.
        let mut left = Measure::default();
        let mut cut = 0;
        while cut < self.body && left.bytes() < whole.bytes() / 2 {
            left = self.measured(left, 0, cut);
            cut += 1;
        }
        let fits = |cut: &usize| self.measure(*cut, all).bytes() <= self.size.bytes();
        let latest = if self.tail.cells < self.least() { self.body - 1 } else { self.body };
        (cut.max(self.least())..latest).find(fits).unwrap_or(latest)
    }

    /// The bytes of a node of the first cells, the checksum and what its parent will know of it. The cells stay.
    ///
    /// # Panics
    /// If a key that goes on has no extent for that yet.
    pub fn node(
        &self,
        cells: usize,
        tree: TreeId,
        page: PageId,
        birth: CheckpointSeq,
    ) -> (Vec<u8>, Child) {
        assert!(cells >= self.least(), "T5: a node has enough cells");
        let measure = self.measure(0, cells);
        let mut bytes = vec![0; self.size.bytes()];
        let mut prefix: &[u8] = &[];
        if let Some(keyed) = self.cells[..cells].get(self.unkeyed()) {
            prefix = &self.inline_key(keyed)[..measure.prefix];
        }
        let mut slot = HEADER_BYTES + prefix.len();
        let mut at = slot + cells * SLOT_BYTES;
        bytes[HEADER_BYTES..slot].copy_from_slice(prefix);
        let mut put = |at: &mut usize, field: &[u8]| {
            bytes[*at..*at + field.len()].copy_from_slice(field);
            *at += field.len();
        };
        let mut child = Child { page, ..Child::default() };
        for (number, cell) in self.cells[..cells].iter().enumerate() {
            let item = self.item(cell);
            let has_key = number >= self.unkeyed();
            let suffix = if has_key { &self.inline_key(cell)[prefix.len()..] } else { &[] };
            let whole = if has_key { &item.key[prefix.len()..] } else { &[] };
            put(&mut slot, &u16_of(at).to_le_bytes());
            put(&mut slot, &head_of(whole).to_be_bytes());
            let goes_on = has_key && item.key.len() > self.size.key_inline_max();
            let mut head = u16_of(suffix.len()) << FLAG_BITS;
            head |= if item.in_extent { VALUE_IN_EXTENT } else { 0 };
            head |= if goes_on { KEY_GOES_ON } else { 0 };
            put(&mut at, &head.to_le_bytes());
            put(&mut at, suffix);
            if goes_on {
                let mut rest = Vec::with_capacity(REF_BYTES);
                item.rest.expect("a key that goes on has an extent").encode(&mut rest);
                put(&mut at, &rest);
            }
            put(&mut at, item.value);
            let (count, bytes) = self.sums(&item);
            child.count += count;
            child.bytes += bytes;
        }
        assert_eq!(at, measure.bytes(), "a node is as long as was measured");
        let header = Header {
            kind: if self.level == 0 { Kind::Leaf } else { Kind::Branch },
            tree,
            level: self.level,
            page,
            birth,
            cells: u16_of(cells),
            prefix_bytes: u16_of(prefix.len()),
            end: u32::from(u16_of(at)),
        };
        child.crc = header.seal(&mut bytes);
        (bytes, child)
    }

    /// Drops the first cells, which are in a page now.
    pub fn drop_first(&mut self, cells: usize) {
        let bytes = self.cells.get(cells).map_or(self.bytes.len(), |next| next.at);
        self.bytes.drain(..bytes);
        self.cells.drain(..cells);
        for cell in &mut self.cells {
            cell.at -= bytes;
        }
        self.body = self.body.saturating_sub(cells);
        if self.body == 0 {
            self.tail = self.measure(0, self.len());
        }
    }

    /// Takes the last cell away again and returns its key, where that goes on, and its value.
    pub fn pop(&mut self) -> Option<(Vec<u8>, Option<ExtentRef>, Vec<u8>)> {
        let cell = self.cells.pop()?;
        let mut key = self.bytes.split_off(cell.at);
        let value = key.split_off(cell.key_bytes);
        self.body = self.body.min(self.len());
        self.tail = self.measure(self.body, self.len());
        if self.tail.cells == 0 {
            self.body = 0;
            self.tail = self.measure(0, self.len());
        }
        Some((key, cell.rest, value))
    }

    /// Takes everything out.
    pub fn take(&mut self) -> Self {
        mem::replace(self, Self::new(self.level, self.size, self.fill_bytes))
    }

    /// All waiting cells.
    pub fn iter(&self) -> impl Iterator<Item = Item<'_>> {
        self.cells.iter().map(|cell| self.item(cell))
    }

    /// Keys and bytes of a cell (T4).
    fn sums(&self, item: &Item<'_>) -> (u64, u64) {
        if self.level > 0 {
            let child = Child::decode(item.value);
            (child.count, child.bytes)
        } else if item.in_extent {
            let value = ExtentRef::decode(item.value).data_bytes;
            (1, to_u64(item.key.len()) + u64::from(value))
        } else {
            (1, to_u64(item.key.len() + item.value.len()))
        }
    }

    fn measure(&self, first: usize, end: usize) -> Measure {
        (first..end).fold(Measure::default(), |measure, at| self.measured(measure, first, at))
    }

    /// What a node that begins with the cell `first` needs once it has the cell `at` as well.
    fn measured(&self, mut measure: Measure, first: usize, at: usize) -> Measure {
        let cell = &self.cells[at];
        measure.cells += 1;
        measure.others += cell.value_bytes;
        if at < first + self.unkeyed() {
            return measure;
        }
        let key = self.inline_key(cell);
        measure.keyed += 1;
        measure.keys += key.len();
        if cell.key_bytes > key.len() {
            measure.others += REF_BYTES;
        }
        measure.prefix = if measure.keyed == 1 {
            key.len()
        } else {
            let keyed = &self.cells[first + self.unkeyed()];
            shared(&self.inline_key(keyed)[..measure.prefix], key)
        };
        measure
    }

    fn item(&self, cell: &Waiting) -> Item<'_> {
        let value = cell.at + cell.key_bytes;
        Item {
            key: &self.bytes[cell.at..value],
            rest: cell.rest,
            value: &self.bytes[value..value + cell.value_bytes],
            in_extent: cell.in_extent,
            is_fresh: cell.is_fresh,
        }
    }

    fn inline_key(&self, cell: &Waiting) -> &[u8] {
        &self.bytes[cell.at..][..cell.key_bytes.min(self.size.key_inline_max())]
    }

    /// Cells at the beginning of a node that have no key (T2).
    fn unkeyed(&self) -> usize {
        usize::from(self.level > 0)
    }

    /// Cells that a node has at least (T5).
    fn least(&self) -> usize {
        1 + self.unkeyed()
    }
}

/// How many bytes two keys have in common at their beginning.
pub fn shared(a: &[u8], b: &[u8]) -> usize {
    // Most keys of a node share a lot, so eight bytes at a time.
    let words = iter::zip(a.chunks_exact(8), b.chunks_exact(8));
    let same = 8 * words.take_while(|(a, b)| a == b).count();
    same + iter::zip(&a[same..], &b[same..]).take_while(|(a, b)| a == b).count()
}

/// A length within a page.
fn u16_of(length: usize) -> u16 {
    u16::try_from(length).expect("a page has less than 64 KiB")
}

const _: () = assert!(CHILD_BYTES < 512 / 4, "a child is an inline value");
