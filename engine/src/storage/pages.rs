//! Pages by reference: each is checked when it is first met, and trusted from then on.
//!
//! Checking a page costs about as much as searching it ten times, so what was found good is remembered, one
//! bit for each page ([`Met`]). Pages in use are never written to (T7), so the bit stays true until the page
//! is given out again; whoever gives it out clears the bit, and what is read back is then checked like any
//! other.
//!
//! A medium that changes a page while it is in use shows in what is read, or in an assertion that ends the process;
//! [`super::check`] remembers nothing and would find it.
//!
//! The bits are atomic because readers on several cores set them: in any order, and none of them guards
//! anything but work that would be done twice.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use alloc::vec::Vec;

use super::extent::ExtentRef;
use super::node::{Identity, Node};
use super::page::{Child, Header, Kind, is_again};
use super::{Damage, PageId, PageSize, PageSource, Run, TreeId, Why};
use crate::convert::{to_u64, to_usize};

/// Which pages were found good.
#[derive(Default)]
pub struct Met(Vec<AtomicU64>);

impl Met {
    /// Nothing was met yet, in a file of this many pages.
    pub fn new(pages: u64) -> Self {
        let mut met = Self::default();
        met.grow(pages);
        met
    }

    /// Makes room for the pages of a file that has grown. Pages beyond it are checked every time.
    pub fn grow(&mut self, pages: u64) {
        let words = to_usize(pages.div_ceil(u64::from(u64::BITS)));
        if self.0.len() < words {
            self.0.resize_with(words, AtomicU64::default);
        }
    }

    /// Whether the page was found good.
    pub fn contains(&self, page: PageId) -> bool {
        self.word(page).is_some_and(|(word, bit)| word.load(Ordering::Relaxed) & bit != 0)
    }

    /// Remembers that the page was found good.
    pub fn insert(&self, page: PageId) {
        if let Some((word, bit)) = self.word(page) {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Forgets pages that will be written to.
    pub fn forget(&self, run: Run) {
        for page in 0..u64::from(run.pages) {
            if let Some((word, bit)) = self.word(PageId(run.first.0 + page)) {
                word.fetch_and(!bit, Ordering::Relaxed);
            }
        }
    }

    fn word(&self, page: PageId) -> Option<(&AtomicU64, u64)> {
        let bits = u64::from(u64::BITS);
        Some((self.0.get(to_usize(page.0 / bits))?, 1 << (page.0 % bits)))
    }
}

impl fmt::Debug for Met {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Met").field("pages", &(self.0.len() * 64)).finish_non_exhaustive()
    }
}

/// The pages of a file, as those who have references to them see them.
#[derive(Clone, Copy)]
pub struct Pages<'a> {
    source: &'a dyn PageSource,
    met: Option<&'a Met>,
    size: PageSize,
}

impl<'a> Pages<'a> {
    /// Pages that are checked once, and then remembered.
    pub fn new(source: &'a dyn PageSource, met: &'a Met, size: PageSize) -> Self {
        Self { source, met: Some(met), size }
    }

    /// Pages that are checked each time: for whoever wants to know how they are *now*.
    pub fn unmet(source: &'a dyn PageSource, size: PageSize) -> Self {
        Self { source, met: None, size }
    }

    /// The size of the pages.
    pub const fn size(&self) -> PageSize {
        self.size
    }

    /// The node that a parent, or a superblock, refers to.
    pub fn node(&self, tree: TreeId, level: u8, child: &Child) -> Result<Node<'a>, Damage> {
        let page = child.page;
        let bytes = self.read(Run::one(page))?;
        let kind = if level == 0 { Kind::Leaf } else { Kind::Branch };
        if self.is_met(page) && is_again(bytes, child.crc, (kind, tree, level)) {
            return Ok(Node::trust(bytes));
        }
        let meant = Identity { page, tree, level };
        let node = Node::open(bytes, child.crc, meant, self.size);
        let node = node.map_err(|why| Damage { page, why })?;
        if let Some(met) = self.met {
            met.insert(page);
        }
        Ok(node)
    }

    /// The data of an extent that a cell refers to.
    pub fn extent(&self, tree: TreeId, extent: &ExtentRef) -> Result<&'a [u8], Damage> {
        let page = extent.page;
        let bytes = self.read(extent.run(self.size))?;
        if self.is_met(page) && is_again(bytes, extent.crc, (Kind::Extent, tree, 0)) {
            return Ok(extent.data(bytes));
        }
        let data = extent.open(bytes, tree).map_err(|why| Damage { page, why })?;
        if let Some(met) = self.met {
            met.insert(page);
        }
        Ok(data)
    }

    /// A page of the map of space, with this many cells if it is an index; they are asked for once.
    pub fn map(&self, kind: Kind, level: u8, child: &Child) -> Result<(Header, &'a [u8]), Damage> {
        let page = child.page;
        let bytes = self.read(Run::one(page))?;
        let header = Header::open(bytes, child.crc).map_err(|why| Damage { page, why })?;
        let meant = Header {
            kind,
            tree: TreeId::Space,
            level,
            page,
            birth: header.birth,
            cells: header.cells,
            prefix_bytes: 0,
            end: 0,
        };
        if header != meant {
            return Err(Damage { page, why: Why::Identity });
        }
        Ok((header, bytes))
    }

    fn is_met(&self, page: PageId) -> bool {
        self.met.is_some_and(|met| met.contains(page))
    }

    fn read(&self, run: Run) -> Result<&'a [u8], Damage> {
        let unreadable = Damage { page: run.first, why: Why::Unreadable };
        let bytes = self.source.read(run).map_err(|_unreadable| unreadable)?;
        let meant = u64::from(run.pages) * to_u64(self.size.bytes());
        if to_u64(bytes.len()) == meant { Ok(bytes) } else { Err(unreadable) }
    }
}

impl fmt::Debug for Pages<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages").field("size", &self.size).finish_non_exhaustive()
    }
}
