//! bbolt's file format, as far as a file that is written once, from front to back, has use for it.
//!
//! A file is a row of pages; a page that is too small for what it holds is followed by others that belong to
//! it (*overflow*) and have no number of their own. All numbers are little-endian.
//!
//! ```text
//! page       0   8 id             8   2 kind         10   2 count of elements   12   4 overflow pages
//!           16 … elements, and behind them what they point at
//! branch     0   4 pos            4   4 key bytes     8   8 page
//! leaf       0   4 flags          4   4 pos           8   4 key bytes           12   4 value bytes
//! bucket     0   8 root page      8   8 sequence      (the value of a leaf element with flag 1)
//! meta      16   4 magic         20   4 version      24   4 page bytes          28   4 flags
//!           32  16 root bucket   48   8 freelist     56   8 pages of the file   64   8 txid
//!           72   8 FNV-1a-64 of the 56 bytes before
//! ```
//!
//! `pos` counts from the start of its own element. A branch's key is the first key of the page below it. Of the
//! two meta pages the valid one with the higher txid counts.
//!
//! # Limits
//!
//! bbolt keeps a small bucket inside its parent's leaf; here every bucket has a root page, which is as valid.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use bytes::BytesMut;

use crate::convert::to_u64;

/// Names a page by its place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PageId(pub(super) u64);

/// A page of a tree's lowest level, on its way. Values are borrowed where they lie.
#[derive(Debug, Default)]
pub(super) struct Leaf<'a> {
    entries: Vec<Entry<'a>>,
    /// The keys, one behind the other.
    keys: Vec<u8>,
    values_bytes: usize,
}

#[derive(Debug)]
struct Entry<'a> {
    flags: u32,
    key_bytes: usize,
    value: Cow<'a, [u8]>,
}

/// What a branch says about a page below it.
#[derive(Clone, Debug)]
pub(super) struct Child {
    /// The first key below; empty only for an empty bucket, whose page never has a branch above.
    pub(super) first_key: Vec<u8>,
    /// The page.
    pub(super) page: PageId,
}

impl<'a> Leaf<'a> {
    /// Whether an entry fits into a single page with the others. The first one always does, with overflow.
    pub(super) fn fits(&self, key_bytes: usize, value_bytes: usize) -> bool {
        let entry_bytes = LEAF_ELEMENT_BYTES + key_bytes + value_bytes;
        self.entries.is_empty() || self.bytes() + entry_bytes <= PAGE_BYTES
    }

    /// Appends an entry, whose key is above those before.
    pub(super) fn push(&mut self, key: &[u8], value: Cow<'a, [u8]>) {
        self.push_entry(0, key, value);
    }

    /// Appends a bucket.
    pub(super) fn push_bucket(&mut self, name: &[u8], root: PageId) {
        let mut header = Vec::with_capacity(16);
        header.extend_from_slice(&root.0.to_le_bytes());
        header.extend_from_slice(&SEQUENCE.to_le_bytes());
        self.push_entry(BUCKET_FLAG, name, Cow::Owned(header));
    }

    fn push_entry(&mut self, flags: u32, key: &[u8], value: Cow<'a, [u8]>) {
        assert!(!key.is_empty(), "bbolt refuses an empty key");
        self.keys.extend_from_slice(key);
        self.values_bytes += value.len();
        self.entries.push(Entry { flags, key_bytes: key.len(), value });
    }

    /// Whether nothing was appended.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The first key, empty if there is none.
    pub(super) fn first_key(&self) -> &[u8] {
        &self.keys[..self.entries.first().map_or(0, |entry| entry.key_bytes)]
    }

    fn bytes(&self) -> usize {
        let elements_bytes = self.entries.len() * LEAF_ELEMENT_BYTES;
        PAGE_HEADER_BYTES + elements_bytes + self.keys.len() + self.values_bytes
    }

    /// How many pages it takes.
    pub(super) fn pages(&self) -> u64 {
        pages_of(self.bytes())
    }

    /// Appends the pages, the first of which is `id`.
    pub(super) fn encode(&self, id: PageId, out: &mut BytesMut) {
        let end = begin_page(id, LEAF, self.entries.len(), self.bytes(), out);
        let mut data_at = self.entries.len() * LEAF_ELEMENT_BYTES;
        for (at, entry) in self.entries.iter().enumerate() {
            out.extend_from_slice(&entry.flags.to_le_bytes());
            put_u32(data_at - at * LEAF_ELEMENT_BYTES, out);
            put_u32(entry.key_bytes, out);
            put_u32(entry.value.len(), out);
            data_at += entry.key_bytes + entry.value.len();
        }
        let mut keys = self.keys.as_slice();
        for entry in &self.entries {
            let (key, rest) = keys.split_at(entry.key_bytes);
            out.extend_from_slice(key);
            out.extend_from_slice(&entry.value);
            keys = rest;
        }
        out.resize(end, 0);
    }
}

/// Bytes of a branch page with these children, overflow not counted.
pub(super) fn branch_bytes(children: &[Child]) -> usize {
    let child_bytes = |child: &Child| BRANCH_ELEMENT_BYTES + child.first_key.len();
    PAGE_HEADER_BYTES + children.iter().map(child_bytes).sum::<usize>()
}

/// Appends the pages of a branch, the first of which is `id`.
pub(super) fn encode_branch(id: PageId, children: &[Child], out: &mut BytesMut) {
    let end = begin_page(id, BRANCH, children.len(), branch_bytes(children), out);
    let mut data_at = children.len() * BRANCH_ELEMENT_BYTES;
    for (at, child) in children.iter().enumerate() {
        put_u32(data_at - at * BRANCH_ELEMENT_BYTES, out);
        put_u32(child.first_key.len(), out);
        out.extend_from_slice(&child.page.0.to_le_bytes());
        data_at += child.first_key.len();
    }
    for child in children {
        out.extend_from_slice(&child.first_key);
    }
    out.resize(end, 0);
}

/// Appends the pages that begin a file which ends before page `end`: both metas and an empty freelist.
///
/// bbolt can do without a freelist, but then looks through the whole file to make one when it opens it.
pub(super) fn encode_head(root: PageId, end: PageId, out: &mut BytesMut) {
    assert!(root < end, "the root is in the file");
    encode_meta(PageId(0), TXID, root, end, out);
    encode_meta(PageId(1), TXID - 1, root, end, out);
    let page_end = begin_page(FREELIST_PAGE, FREELIST, 0, PAGE_HEADER_BYTES, out);
    out.resize(page_end, 0);
}

fn encode_meta(id: PageId, txid: u64, root: PageId, end: PageId, out: &mut BytesMut) {
    let page_end = begin_page(id, META, 0, PAGE_HEADER_BYTES + META_BYTES, out);
    let start = out.len();
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&VERSION.to_le_bytes());
    put_u32(PAGE_BYTES, out);
    out.extend_from_slice(&[0; 4]); // flags
    for number in [root.0, SEQUENCE, FREELIST_PAGE.0, end.0, txid] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    let checksum = fnv1a(&out[start..]);
    out.extend_from_slice(&checksum.to_le_bytes());
    assert_eq!(out.len() - start, META_BYTES, "the meta is as large as it should be");
    out.resize(page_end, 0);
}

/// Appends a page's header and returns where its last page ends.
fn begin_page(id: PageId, kind: u16, count: usize, bytes: usize, out: &mut BytesMut) -> usize {
    let pages = pages_of(bytes);
    let end = out.len() + bytes.next_multiple_of(PAGE_BYTES);
    out.reserve(end - out.len());
    out.extend_from_slice(&id.0.to_le_bytes());
    out.extend_from_slice(&kind.to_le_bytes());
    let count = u16::try_from(count).expect("a page holds few elements");
    out.extend_from_slice(&count.to_le_bytes());
    let overflow = u32::try_from(pages - 1).expect("requests are limited");
    out.extend_from_slice(&overflow.to_le_bytes());
    end
}

/// How many pages this many bytes take.
pub(super) fn pages_of(bytes: usize) -> u64 {
    to_u64(bytes.div_ceil(PAGE_BYTES))
}

fn put_u32(number: usize, out: &mut BytesMut) {
    let number = u32::try_from(number).expect("requests are limited");
    out.extend_from_slice(&number.to_le_bytes());
}

/// FNV-1a with 64 bits.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Bytes of a page. bbolt takes the page size of the machine that makes the file, and reads every other.
pub(super) const PAGE_BYTES: usize = 4096;
pub(crate) const PAGE_HEADER_BYTES: usize = 16;
pub(crate) const BRANCH_ELEMENT_BYTES: usize = 16;
pub(crate) const LEAF_ELEMENT_BYTES: usize = 16;
/// Bytes of a meta with its checksum.
pub(crate) const META_BYTES: usize = 64;

/// The kinds of pages.
pub(crate) const BRANCH: u16 = 0x01;
pub(crate) const LEAF: u16 = 0x02;
pub(crate) const META: u16 = 0x04;
pub(super) const FREELIST: u16 = 0x10;

/// Marks a leaf element that is a bucket.
pub(crate) const BUCKET_FLAG: u32 = 0x01;

pub(crate) const MAGIC: u32 = 0xed0c_daed;
pub(crate) const VERSION: u32 = 2;

/// The first page of a file that is not [`encode_head`]'s.
pub(super) const FIRST_PAGE: PageId = PageId(3);
const FREELIST_PAGE: PageId = PageId(2);

/// Of the first meta; the second has one less. The next transaction writes the meta with its own parity.
const TXID: u64 = 2;
/// A counter that buckets offer; etcd leaves it alone.
const SEQUENCE: u64 = 0;

const _: () = assert!(PAGE_HEADER_BYTES + META_BYTES <= 512, "a meta fits into a sector");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_fnv_1a() {
        // Test vectors of the algorithm's authors (draft-eastlake-fnv).
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn a_leaf_takes_what_fits_into_a_page_and_anything_alone() {
        let mut leaf = Leaf::default();
        assert!(leaf.fits(18, 5 << 20));
        let rest = PAGE_BYTES - PAGE_HEADER_BYTES - LEAF_ELEMENT_BYTES - 1;
        leaf.push(b"a", Cow::Owned(alloc::vec![7; rest - LEAF_ELEMENT_BYTES - 10]));
        assert!(leaf.fits(1, 9));
        assert!(!leaf.fits(1, 10));
        assert_eq!(leaf.pages(), 1);
        leaf.push(b"b", Cow::Borrowed(&[7; 9]));
        assert_eq!((leaf.pages(), leaf.first_key()), (1, b"a".as_slice()));
        leaf.push(b"c", Cow::Borrowed(b""));
        assert_eq!(leaf.pages(), 2);
        let mut out = BytesMut::new();
        leaf.encode(PageId(9), &mut out);
        assert_eq!(out.len(), 2 * PAGE_BYTES);
    }
}
