//! A bucket's tree, built from its leaves upwards while they are written.
//!
//! Leaves come in order. A branch page is written as soon as it is full, behind the pages that it points at, so
//! that one pass over the entries is enough and no more than an unfinished page per level waits in memory:
//!
//! ```text
//! leaf leaf leaf branch leaf leaf branch … branch leaf leaf branch root
//!   └────┴────┴────┘       └────┴───┘                └────┴───┘
//! ```
//!
//! bbolt puts no order on pages, but it does insist on something when it deletes: that a page which it merges
//! has a sibling. So every branch has two children or more (T1), and the last two of a level may wait.

use alloc::vec::Vec;
use core::mem;

use bytes::BytesMut;

use super::bbolt::{Child, Leaf, PAGE_BYTES, PageId, branch_bytes, encode_branch, pages_of};

/// Where pages go: into memory, or nowhere while they are only counted.
#[derive(Clone, Debug)]
pub(super) struct Pages {
    next: PageId,
    /// Pages that were not taken yet; `None` while pages are counted.
    bytes: Option<BytesMut>,
}

impl Pages {
    /// Counts pages, the first of which is `next`.
    pub(super) fn counted(next: PageId) -> Self {
        Self { next, bytes: None }
    }

    /// Writes pages, the first of which is `next`, behind these bytes.
    pub(super) fn written(next: PageId, bytes: BytesMut) -> Self {
        Self { next, bytes: Some(bytes) }
    }

    /// Writes a leaf.
    pub(super) fn put_leaf(&mut self, leaf: &Leaf<'_>) -> PageId {
        self.put(leaf.pages(), |id, out| leaf.encode(id, out))
    }

    fn put_branch(&mut self, children: &[Child]) -> PageId {
        self.put(pages_of(branch_bytes(children)), |id, out| encode_branch(id, children, out))
    }

    fn put(&mut self, pages: u64, encode: impl FnOnce(PageId, &mut BytesMut)) -> PageId {
        let id = self.next;
        self.next = PageId(id.0 + pages);
        if let Some(bytes) = &mut self.bytes {
            encode(id, bytes);
        }
        id
    }

    /// The end of the file so far, in pages.
    pub(super) fn end(&self) -> PageId {
        self.next
    }

    /// How many bytes were written and not taken.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.bytes.as_ref().map_or(0, BytesMut::len)
    }

    /// Takes what was written, oldest first, at most `bytes_max` of it.
    pub(super) fn take(&mut self, bytes_max: usize) -> Vec<u8> {
        let Some(bytes) = &mut self.bytes else { return Vec::new() };
        bytes.split_to(bytes.len().min(bytes_max)).to_vec()
    }
}

/// The unfinished branches above the leaves written so far: for each level, from below, the pages that are not
/// under a branch yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Branches(Vec<Vec<Child>>);

impl Branches {
    /// Whether no leaf was written yet.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes a leaf that was written; may write the branches that it completes.
    pub(super) fn push(&mut self, leaf: Child, pages: &mut Pages) {
        self.push_at(0, leaf, pages);
    }

    fn push_at(&mut self, mut level: usize, mut child: Child, pages: &mut Pages) {
        loop {
            if self.0.len() == level {
                self.0.push(Vec::new());
            }
            let waiting = &mut self.0[level];
            waiting.push(child);
            let full = fitting(waiting);
            if waiting.len() < full + CHILDREN_MIN {
                return;
            }
            let first: Vec<Child> = waiting.drain(..full).collect();
            child = write(first, pages);
            level += 1;
        }
    }

    /// Writes what is unfinished and returns the root: the only leaf, if there is no more than one.
    ///
    /// # Panics
    /// If there is no leaf at all.
    pub(super) fn finish(mut self, pages: &mut Pages) -> PageId {
        let mut level = 0;
        loop {
            let mut waiting = mem::take(&mut self.0[level]);
            let is_top = level + 1 == self.0.len();
            if let ([root], true) = (waiting.as_slice(), is_top) {
                return root.page;
            }
            assert!(waiting.len() >= CHILDREN_MIN, "a branch has two children (T1)");
            let full = fitting(&waiting);
            assert!(waiting.len() <= full + 1, "what is more was written before");
            // One too many for a page: the last page gets the fewest that it may have (or both pages would
            // have too few, and one page overflows).
            let last = if full < waiting.len() && waiting.len() >= 2 * CHILDREN_MIN {
                waiting.split_off(waiting.len() - CHILDREN_MIN)
            } else {
                Vec::new()
            };
            for children in [waiting, last] {
                if !children.is_empty() {
                    let branch = write(children, pages);
                    self.push_at(level + 1, branch, pages);
                }
            }
            level += 1;
        }
    }
}

/// How many children from the front share a page: as many as fit, and [`CHILDREN_MIN`] in any case (T1).
fn fitting(children: &[Child]) -> usize {
    let mut count = children.len();
    while count > CHILDREN_MIN && branch_bytes(&children[..count]) > PAGE_BYTES {
        count -= 1;
    }
    count
}

fn write(children: Vec<Child>, pages: &mut Pages) -> Child {
    let page = pages.put_branch(&children);
    let first = children.into_iter().next().expect("a branch has two children (T1)");
    Child { page, ..first }
}

/// The fewest children of a branch.
const CHILDREN_MIN: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    /// The children of each branch below `root`, from the pages that were written.
    fn children_of(bytes: &[u8], root: PageId, leaves: u64, sizes: &mut Vec<usize>) -> u64 {
        if root.0 < leaves {
            return 1;
        }
        let at = crate::convert::to_usize(root.0 - leaves) * PAGE_BYTES;
        let page = &bytes[at..];
        assert_eq!(page[..8], root.0.to_le_bytes());
        let count = usize::from(u16::from_le_bytes(page[10..12].try_into().unwrap()));
        sizes.push(count);
        (0..count)
            .map(|at| u64::from_le_bytes(page[24 + 16 * at..][..8].try_into().unwrap()))
            .map(|child| children_of(bytes, PageId(child), leaves, sizes))
            .sum()
    }

    /// Builds a tree above `leaves` leaves, which have the first page ids, with keys of this length.
    fn check(leaves: u64, key_bytes: usize) {
        // Branches get the ids behind all leaves, as if those had been written first.
        let mut pages = Pages::written(PageId(leaves), BytesMut::new());
        let mut branches = Branches::default();
        for page in 0..leaves {
            let mut first_key = alloc::vec![0; key_bytes];
            first_key[..8].copy_from_slice(&page.to_be_bytes());
            branches.push(Child { first_key, page: PageId(page) }, &mut pages);
        }
        let root = branches.finish(&mut pages);
        let mut sizes = Vec::new();
        assert_eq!(children_of(&pages.take(usize::MAX), root, leaves, &mut sizes), leaves);
        assert!(sizes.iter().all(|size| *size >= CHILDREN_MIN), "{leaves} leaves: {sizes:?}");
    }

    #[test]
    fn every_leaf_is_in_the_tree_once_and_no_branch_has_a_single_child() {
        for leaves in (1..300).chain([1_000, 14_399, 14_400, 14_401, 14_402, 15_000]) {
            check(leaves, 18);
        }
    }

    #[test]
    fn keys_that_are_too_long_for_a_page_make_it_overflow() {
        for leaves in 1..40 {
            check(leaves, 1_000);
            check(leaves, 2_000);
            check(leaves, 10_000);
        }
    }
}
