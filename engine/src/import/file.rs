//! A bbolt file: its metas, its pages, and the buckets in its root. The bytes are drawn in
//! [`snapshot::etcd`](crate::snapshot::etcd).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use bytes::{Buf, Bytes};

use super::cursor::Cursor;
use super::{ReadAt, Refused};
use crate::convert::{to_u64, to_usize};
use crate::snapshot::etcd::bbolt::{
    BRANCH, BRANCH_ELEMENT_BYTES, BUCKET_FLAG, LEAF, LEAF_ELEMENT_BYTES, MAGIC, META, META_BYTES,
    PAGE_HEADER_BYTES, VERSION, fnv1a,
};

/// An open file.
pub struct File<'a> {
    source: &'a mut dyn ReadAt,
    page_bytes: usize,
    /// The high-water mark: no page is at or above it.
    end: u64,
    buckets: BTreeMap<Bytes, Bucket>,
}

/// Where a bucket's entries are.
#[derive(Clone, Debug)]
pub(super) enum Bucket {
    /// In a tree of its own.
    Root(u64),
    /// In the root bucket's leaf.
    Inline(Page),
}

/// A page of a tree, with its overflow.
#[derive(Clone, Debug)]
pub(super) struct Page {
    id: u64,
    pub(super) is_branch: bool,
    pub(super) count: usize,
    bytes: Bytes,
}

/// An entry of a leaf.
#[derive(Clone, Debug)]
pub(super) struct Element {
    pub(super) key: Bytes,
    pub(super) value: Bytes,
    is_bucket: bool,
}

#[derive(Clone, Copy, Debug)]
struct Meta {
    page_bytes: usize,
    root: u64,
    end: u64,
    txid: u64,
}

impl fmt::Debug for File<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("end", &self.end).field("buckets", &self.buckets).finish()
    }
}

impl<'a> File<'a> {
    /// Finds the newer valid meta and the buckets of its root. What follows the last page, such as a checksum, is not
    /// looked at.
    ///
    /// # Errors
    /// If this is no file of bbolt's, or its root is damaged.
    pub fn open(source: &'a mut dyn ReadAt) -> Result<Self, Refused> {
        let meta = newest_meta(source)?;
        if meta.end.saturating_mul(to_u64(meta.page_bytes)) > source.bytes_len() {
            return Err(Refused::NoFile("it ends before its last page"));
        }
        let (page_bytes, end) = (meta.page_bytes, meta.end);
        let mut file = Self { source, page_bytes, end, buckets: BTreeMap::new() };
        let mut buckets = BTreeMap::new();
        let mut cursor = Cursor::new(&Bucket::Root(meta.root), &mut file)?;
        while let Some(element) = cursor.next(&mut file)? {
            if !element.is_bucket || buckets.len() == BUCKETS_MAX {
                let why = "its root holds something that etcd does not put there";
                return Err(Refused::NoFile(why));
            }
            let bucket = file.bucket_of(element.value)?;
            buckets.insert(element.key, bucket);
        }
        file.buckets = buckets;
        Ok(file)
    }

    /// Bytes of all pages.
    pub(super) fn bytes_len(&self) -> u64 {
        self.end * to_u64(self.page_bytes)
    }

    /// The names of the buckets, in order.
    pub(super) fn names(&self) -> Vec<Bytes> {
        self.buckets.keys().cloned().collect()
    }

    /// The entries of a bucket, from the first on; none, if there is no such bucket.
    pub(super) fn entries(&mut self, name: &[u8]) -> Result<Cursor, Refused> {
        match self.buckets.get(name).cloned() {
            Some(bucket) => Cursor::new(&bucket, self),
            None => Ok(Cursor::empty()),
        }
    }

    /// The last entry of a bucket.
    pub(super) fn last(&mut self, name: &[u8]) -> Result<Option<Element>, Refused> {
        match self.buckets.get(name).cloned() {
            Some(bucket) => Cursor::last(&bucket, self),
            None => Ok(None),
        }
    }

    /// A bucket, as the value of its entry says: the root page and a sequence, or a whole page instead.
    fn bucket_of(&self, mut value: Bytes) -> Result<Bucket, Refused> {
        const TOO_SHORT: Refused = Refused::NoFile("a bucket in its root is too short");
        let root = value.try_get_u64_le().map_err(|_| TOO_SHORT)?;
        value.try_get_u64_le().map_err(|_| TOO_SHORT)?;
        if root > 0 {
            return Ok(Bucket::Root(root));
        }
        let page = Page::decode(0, value)?;
        if page.is_branch {
            return Err(page.damaged("a bucket without pages of its own has a branch"));
        }
        Ok(Bucket::Inline(page))
    }

    /// Reads a page of a tree, with its overflow.
    pub(super) fn page(&mut self, id: u64) -> Result<Page, Refused> {
        let damaged = |why| Refused::Page { page: id, why };
        if id < METAS || id >= self.end {
            return Err(damaged("there is no such page"));
        }
        let page_bytes = to_u64(self.page_bytes);
        let first = self.source.read_at(id * page_bytes, self.page_bytes)?;
        let mut header = first.clone();
        let (own, _kind, _count) = (header.get_u64_le(), header.get_u16_le(), header.get_u16_le());
        let overflow = u64::from(header.get_u32_le());
        if own != id {
            return Err(damaged("it says that it is another"));
        }
        let bytes_len = (1 + overflow) * page_bytes;
        if overflow >= self.end - id || bytes_len > PAGE_BYTES_MAX {
            return Err(damaged("it is larger than it can be"));
        }
        let bytes = if overflow == 0 {
            first
        } else {
            self.source.read_at(id * page_bytes, to_usize(bytes_len))?
        };
        Page::decode(id, bytes)
    }
}

impl Page {
    fn decode(id: u64, bytes: Bytes) -> Result<Self, Refused> {
        let damaged = |why| Refused::Page { page: id, why };
        if bytes.len() < PAGE_HEADER_BYTES {
            return Err(damaged("it is too short"));
        }
        let mut header = bytes.slice(8..);
        let (kind, count) = (header.get_u16_le(), usize::from(header.get_u16_le()));
        let (is_branch, element_bytes) = match kind {
            BRANCH => (true, BRANCH_ELEMENT_BYTES),
            LEAF => (false, LEAF_ELEMENT_BYTES),
            _ => return Err(damaged("it belongs to no tree")),
        };
        if PAGE_HEADER_BYTES + count * element_bytes > bytes.len() {
            return Err(damaged("its elements have no room"));
        }
        if is_branch && count == 0 {
            return Err(damaged("it is a branch that leads nowhere"));
        }
        Ok(Self { id, is_branch, count, bytes })
    }

    pub(super) fn damaged(&self, why: &'static str) -> Refused {
        Refused::Page { page: self.id, why }
    }

    /// The key and the page of a branch's element, which there is.
    pub(super) fn child(&self, at: usize) -> Result<(Bytes, u64), Refused> {
        let start = PAGE_HEADER_BYTES + at * BRANCH_ELEMENT_BYTES;
        let mut element = self.bytes.slice(start..);
        let (pos, key_bytes) = (element.get_u32_le(), element.get_u32_le());
        let page = element.get_u64_le();
        Ok((self.data(start, pos.into(), key_bytes.into())?, page))
    }

    /// An element of a leaf, which there is.
    pub(super) fn element(&self, at: usize) -> Result<Element, Refused> {
        let start = PAGE_HEADER_BYTES + at * LEAF_ELEMENT_BYTES;
        let mut element = self.bytes.slice(start..);
        let (flags, pos) = (element.get_u32_le(), u64::from(element.get_u32_le()));
        let (key_bytes, value_bytes) =
            (u64::from(element.get_u32_le()), u64::from(element.get_u32_le()));
        Ok(Element {
            key: self.data(start, pos, key_bytes)?,
            value: self.data(start, pos + key_bytes, value_bytes)?,
            is_bucket: flags & BUCKET_FLAG != 0,
        })
    }

    fn data(&self, start: usize, pos: u64, len: u64) -> Result<Bytes, Refused> {
        let from = to_u64(start) + pos;
        if from + len > to_u64(self.bytes.len()) {
            return Err(self.damaged("an element points out of it"));
        }
        Ok(self.bytes.slice(to_usize(from)..to_usize(from + len)))
    }
}

/// The valid meta with the higher transaction.
fn newest_meta(source: &mut dyn ReadAt) -> Result<Meta, Refused> {
    let first = meta_at(source, 0)?;
    // Without the first meta nobody says where the second one is.
    let sizes = match first {
        Some(meta) => meta.page_bytes..=meta.page_bytes,
        None => PAGE_SIZE_MIN..=PAGE_SIZE_MAX,
    };
    let mut second = None;
    let mut size = *sizes.start();
    while second.is_none() && size <= *sizes.end() {
        second = meta_at(source, to_u64(size))?.filter(|meta| meta.page_bytes == size);
        size *= 2;
    }
    let newest = [first, second].into_iter().flatten().max_by_key(|meta| meta.txid);
    newest.ok_or(Refused::NoFile("neither of its first two pages says so"))
}

fn meta_at(source: &mut dyn ReadAt, offset: u64) -> Result<Option<Meta>, Refused> {
    let len = PAGE_HEADER_BYTES + META_BYTES;
    if offset + to_u64(len) > source.bytes_len() {
        return Ok(None);
    }
    let page = source.read_at(offset, len)?;
    let kind = page.slice(8..).get_u16_le();
    let meta = page.slice(PAGE_HEADER_BYTES..);
    let mut body = meta.clone();
    let (magic, version) = (body.get_u32_le(), body.get_u32_le());
    let (page_bytes, _flags) = (to_usize(body.get_u32_le().into()), body.get_u32_le());
    let (root, _sequence) = (body.get_u64_le(), body.get_u64_le());
    let (_freelist, end, txid) = (body.get_u64_le(), body.get_u64_le(), body.get_u64_le());
    let is_valid = kind == META
        && magic == MAGIC
        && version == VERSION
        && body.get_u64_le() == fnv1a(&meta[..META_BYTES - 8])
        && page_bytes.is_power_of_two()
        && (PAGE_SIZE_MIN..=PAGE_SIZE_MAX).contains(&page_bytes);
    Ok(is_valid.then_some(Meta { page_bytes, root, end, txid }))
}

/// The first pages, which belong to no tree.
const METAS: u64 = 2;
/// Sizes of pages that bbolt may have taken from a machine.
const PAGE_SIZE_MIN: usize = 1 << 10;
const PAGE_SIZE_MAX: usize = 64 << 10;
/// A page holds one large entry at most, and no request is as large as this.
const PAGE_BYTES_MAX: u64 = 256 << 20;
/// etcd has about ten.
const BUCKETS_MAX: usize = 1000;
