//! Where a checkpoint that is being made takes pages from, and puts them to.

use alloc::vec::Vec;

use super::extent::{self, ExtentRef};
use super::free_space::FreeSpace;
use super::pages::{Met, Pages};
use super::{CheckpointSeq, Damage, PageId, Run, TreeId, Why};

/// One page, or the pages of an extent, to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageWrite {
    /// Where they begin.
    pub page: PageId,
    /// What to write.
    pub bytes: Vec<u8>,
}

/// The pages of the checkpoint before, and those of the one that is being made.
#[derive(Debug)]
pub struct Work<'a> {
    /// The old pages.
    pub pages: Pages<'a>,
    /// What was found good of them.
    pub met: &'a Met,
    /// Which may be written to.
    pub space: &'a mut FreeSpace,
    /// The new ones.
    pub writes: &'a mut Vec<PageWrite>,
    /// The checkpoint that is being made.
    pub seq: CheckpointSeq,
}

impl Work<'_> {
    /// Takes pages and forgets what they were.
    pub fn allocate(&mut self, pages: u32) -> PageId {
        let first = self.space.allocate(pages);
        self.met.forget(Run { first, pages });
        first
    }

    /// Gives a page or an extent back. An error means that it was not in use, so whoever referred to it is damaged.
    pub fn free(&mut self, run: Run) -> Result<(), Damage> {
        if self.space.free(run) { Ok(()) } else { Err(Damage { page: run.first, why: Why::Map }) }
    }

    /// Gives an extent back, if there is one.
    pub fn free_extent(&mut self, extent: Option<ExtentRef>) -> Result<(), Damage> {
        extent.map_or(Ok(()), |extent| self.free(extent.run(self.pages.size())))
    }

    /// Writes an extent.
    pub fn extent(&mut self, tree: TreeId, data: &[u8]) -> ExtentRef {
        let size = self.pages.size();
        let data_bytes = u32::try_from(data.len()).expect("requests are limited");
        let page = self.allocate(extent::pages_for(data_bytes, size));
        let (bytes, reference) = extent::build(data, tree, page, self.seq, size);
        self.writes.push(PageWrite { page, bytes });
        reference
    }
}
