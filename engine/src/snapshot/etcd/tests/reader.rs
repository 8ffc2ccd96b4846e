//! A reader of bbolt files that believes nothing: every page must be used once, every number must be as bbolt
//! checks it, every tree must be in order.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

/// What the buckets hold, by name.
pub(super) type Buckets = BTreeMap<String, Vec<(Vec<u8>, Vec<u8>)>>;

struct File<'a> {
    bytes: &'a [u8],
    /// Pages met so far.
    used: BTreeSet<usize>,
}

/// A page with its overflow.
struct Page<'a> {
    kind: u16,
    count: usize,
    bytes: &'a [u8],
}

/// An element of a leaf.
struct Element<'a> {
    flags: u32,
    key: &'a [u8],
    value: &'a [u8],
}

/// Reads a file, checks all of it, and returns the buckets.
pub(super) fn read(bytes: &[u8]) -> Buckets {
    assert_eq!(bytes.len() % 4096, 0, "a file has whole pages");
    let mut file = File { bytes, used: BTreeSet::new() };
    let (newer, older) = (file.meta(0), file.meta(1));
    assert_eq!(newer.txid, older.txid + 1);
    assert_eq!((newer.root, newer.freelist, newer.end), (older.root, older.freelist, older.end));
    assert_eq!(newer.end, bytes.len() / 4096, "the file ends at its high-water mark");
    let freelist = file.page(newer.freelist);
    assert_eq!((freelist.kind, freelist.count), (0x10, 0), "nothing is free");

    let mut buckets = Buckets::new();
    for root_element in file.tree(newer.root) {
        assert_eq!(root_element.flags, 1, "the root bucket holds buckets only");
        assert_eq!((root_element.value.len(), u64_at(root_element.value, 8)), (16, 0));
        let name = String::from_utf8(root_element.key.to_vec()).unwrap();
        let elements = file.tree(number(u64_at(root_element.value, 0)));
        assert!(elements.iter().all(|element| element.flags == 0), "etcd nests no buckets");
        let pairs = elements.iter().map(|e| (e.key.to_vec(), e.value.to_vec())).collect();
        assert!(buckets.insert(name, pairs).is_none());
    }
    assert!(file.used.into_iter().eq(0..newer.end), "every page is used");
    buckets
}

struct Meta {
    root: usize,
    freelist: usize,
    end: usize,
    txid: u64,
}

impl<'a> File<'a> {
    fn page(&mut self, id: usize) -> Page<'a> {
        let header = &self.bytes[id * 4096..][..16];
        assert_eq!(number(u64_at(header, 0)), id, "a page knows its number");
        let overflow = number(u32_at(header, 12).into());
        for used in id..=id + overflow {
            assert!(self.used.insert(used), "page {used} is used once");
        }
        let count = usize::from(u16::from_le_bytes([header[10], header[11]]));
        let kind = u16::from_le_bytes([header[8], header[9]]);
        Page { kind, count, bytes: &self.bytes[id * 4096..][..(1 + overflow) * 4096] }
    }

    fn meta(&mut self, id: usize) -> Meta {
        let page = self.page(id);
        let meta = &page.bytes[16..];
        assert_eq!(page.kind, 4);
        let head = [0, 4, 8, 12].map(|at| u32_at(meta, at));
        assert_eq!(head, [0xED0C_DAED, 2, 4096, 0], "magic, version, page size, flags");
        let mut checksum: u64 = 14_695_981_039_346_656_037;
        for byte in &meta[..56] {
            checksum = (checksum ^ u64::from(*byte)).wrapping_mul(1_099_511_628_211);
        }
        assert_eq!(u64_at(meta, 56), checksum);
        let [root, _, freelist, end] = [16, 24, 32, 40].map(|at| number(u64_at(meta, at)));
        Meta { root, freelist, end, txid: u64_at(meta, 48) }
    }

    /// The elements of a tree, in order.
    fn tree(&mut self, root: usize) -> Vec<Element<'a>> {
        let page = self.page(root);
        let mut elements = Vec::new();
        if (page.kind, page.count) != (2, 0) {
            self.walk(&page, &mut elements);
        }
        assert!(elements.is_sorted_by(|a, b| a.key < b.key), "keys ascend strictly");
        elements
    }

    /// Appends what is below a page and returns the page's first key.
    fn walk(&mut self, page: &Page<'a>, elements: &mut Vec<Element<'a>>) -> &'a [u8] {
        match page.kind {
            1 => {
                assert!(page.count >= 2, "a branch has two children");
                for at in 0..page.count {
                    let element = &page.bytes[16 + 16 * at..];
                    let key = slice(element, u32_at(element, 0), u32_at(element, 4));
                    let child = self.page(number(u64_at(element, 8)));
                    let first_key = self.walk(&child, elements);
                    assert_eq!(key, first_key, "a branch's key is the first one below");
                }
                let element = &page.bytes[16..];
                slice(element, u32_at(element, 0), u32_at(element, 4))
            }
            2 => {
                let first = elements.len();
                for at in 0..page.count {
                    let element = &page.bytes[16 + 16 * at..];
                    let [flags, pos, key_bytes, value_bytes] =
                        [0, 4, 8, 12].map(|at| u32_at(element, at));
                    let key = slice(element, pos, key_bytes);
                    let value = slice(element, pos + key_bytes, value_bytes);
                    elements.push(Element { flags, key, value });
                }
                elements[first].key
            }
            kind => panic!("a page of kind {kind} in a tree"),
        }
    }
}

fn slice(bytes: &[u8], at: u32, len: u32) -> &[u8] {
    &bytes[number(at.into())..][..number(len.into())]
}

fn number(number: u64) -> usize {
    usize::try_from(number).unwrap()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}
