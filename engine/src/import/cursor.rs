//! The entries of a bucket, in order.
//!
//! What ends every walk: no tree is deeper than [`DEPTH_MAX`], no page below a branch is empty, and keys ascend strictly.
//! A leaf that is met twice therefore ends it the second time.

use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;

use super::Refused;
use super::file::{Bucket, Element, File, Page};

/// A place between two entries. Holds a page for each level above it.
#[derive(Debug)]
pub(super) struct Cursor {
    levels: Vec<Level>,
    /// The key that was last, and what a branch says is the least that may follow.
    last: Option<Bytes>,
    floor: Bytes,
}

#[derive(Debug)]
struct Level {
    page: Page,
    next: usize,
}

impl Cursor {
    /// Before the first entry.
    pub(super) fn new(bucket: &Bucket, file: &mut File<'_>) -> Result<Self, Refused> {
        let page = match bucket {
            Bucket::Root(id) => file.page(*id)?,
            Bucket::Inline(page) => page.clone(),
        };
        Ok(Self { levels: vec![Level { page, next: 0 }], ..Self::empty() })
    }

    /// Of a bucket that is not there.
    pub(super) fn empty() -> Self {
        Self { levels: Vec::new(), last: None, floor: Bytes::new() }
    }

    /// The last entry of a bucket.
    pub(super) fn last(bucket: &Bucket, file: &mut File<'_>) -> Result<Option<Element>, Refused> {
        let mut cursor = Self::new(bucket, file)?;
        loop {
            let level = cursor.levels.last_mut().expect("a bucket has a page");
            level.next = level.page.count.saturating_sub(1);
            if !level.page.is_branch {
                return cursor.next(file);
            }
            cursor.descend(file)?;
        }
    }

    /// The next entry; `None` after the last.
    pub(super) fn next(&mut self, file: &mut File<'_>) -> Result<Option<Element>, Refused> {
        loop {
            let Some(level) = self.levels.last_mut() else { return Ok(None) };
            if level.next == level.page.count {
                self.levels.pop();
            } else if level.page.is_branch {
                self.descend(file)?;
            } else {
                let element = level.page.element(level.next)?;
                level.next += 1;
                let ascends = self.last.as_ref().is_none_or(|last| *last < element.key);
                if !ascends || element.key < self.floor {
                    return Err(level.page.damaged("its keys are not in order"));
                }
                self.last = Some(element.key.clone());
                return Ok(Some(element));
            }
        }
    }

    /// Goes to the next page below a branch.
    fn descend(&mut self, file: &mut File<'_>) -> Result<(), Refused> {
        let level = self.levels.last_mut().expect("there is a branch");
        let (key, child) = level.page.child(level.next)?;
        level.next += 1;
        if self.levels.len() == DEPTH_MAX {
            return Err(Refused::Page { page: child, why: "no tree is as deep" });
        }
        let page = file.page(child)?;
        if page.count == 0 {
            return Err(page.damaged("it is empty, and below a branch"));
        }
        self.floor = key;
        self.levels.push(Level { page, next: 0 });
        Ok(())
    }
}

/// A branch has two children or more, so that a file of 2⁶⁴ bytes is less deep.
const DEPTH_MAX: usize = 64;
