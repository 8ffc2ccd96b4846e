//! The segment files: naming them, writing to them, and having the next one ready.
//!
//! A segment's file is full of bytes before it is used (zeros, or an older segment), so that a write never has to
//! ask the filesystem for blocks. Spares are made in the background; retired segments become spares.

use core::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;

use cairn_engine::wal::{LogWrite, SegmentSeq};

use super::boot::Directory;
use crate::disk::{self, Disk, DurableFile, Pace};
use crate::runtime::Runtime;

/// Spares that are kept ready.
const SPARES_MIN: usize = 1;
/// Spares beyond this are removed instead of kept.
const SPARES_MAX: usize = 2;

/// The files of the log. One write at a time; chores go on beside it.
pub(super) struct LogFiles<R: Runtime>(Rc<Inner<R>>);

struct Inner<R: Runtime> {
    disk: R::Disk,
    directory: Directory,
    /// The length of a spare.
    segment_bytes: u64,
    open: RefCell<Option<Open<R>>>,
    spares: RefCell<VecDeque<u64>>,
    last_spare: Cell<u64>,
}

/// The segment that is written to.
struct Open<R: Runtime> {
    seq: SegmentSeq,
    file: Rc<<R::Disk as Disk>::File>,
}

impl<R: Runtime> Clone for LogFiles<R> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<R: Runtime> LogFiles<R> {
    /// The log in `directory`, whose `spares` are already there.
    pub(super) fn new(
        disk: R::Disk,
        directory: Directory,
        segment_bytes: u64,
        spares: &[u64],
    ) -> Self {
        Self(Rc::new(Inner {
            disk,
            directory,
            segment_bytes,
            open: RefCell::new(None),
            last_spare: Cell::new(spares.iter().copied().max().unwrap_or(0)),
            spares: RefCell::new(spares.iter().copied().collect()),
        }))
    }

    /// Carries out a write; when it returns, the bytes are durable, in a file whose name is.
    pub(super) async fn write(&self, write: LogWrite) -> disk::Result<()> {
        if write.offset == 0 {
            self.open_segment(write.segment, write.capacity).await?;
        }
        let file = match &*self.0.open.borrow() {
            Some(open) if open.seq == write.segment => Rc::clone(&open.file),
            Some(_) | None => unreachable!("a segment begins with its first write"),
        };
        let mut buffer = self.0.disk.buffer(write.bytes.len());
        buffer.as_mut().copy_from_slice(&write.bytes);
        file.write_durable(write.offset, buffer).await
    }

    /// Gives a prepared file the segment's name, durably, and opens it.
    async fn open_segment(&self, seq: SegmentSeq, capacity: u64) -> disk::Result<()> {
        let (disk, directory) = (&self.0.disk, &self.0.directory);
        let path = directory.segment(seq);
        let fits = capacity == self.0.segment_bytes;
        let spare = if fits { self.0.spares.borrow_mut().pop_front() } else { None };
        match spare {
            Some(number) => {
                disk.rename(&directory.spare(number), &path).await?;
                disk.sync_directory(directory.log()).await?;
            }
            // None is ready, or this segment has a length of its own: somebody waits for it.
            None => disk.create_zeroed(&path, capacity, Pace::Urgent).await?,
        }
        let file = Rc::new(disk.open(&path).await?);
        *self.0.open.borrow_mut() = Some(Open { seq, file });
        Ok(())
    }

    /// Makes spares until there are enough. One caller at a time.
    pub(super) async fn make_spares(&self) -> disk::Result<()> {
        while self.0.spares.borrow().len() < SPARES_MIN {
            let number = self.next_spare();
            let path = self.0.directory.spare(number);
            self.0.disk.create_zeroed(&path, self.0.segment_bytes, Pace::Background).await?;
            self.0.spares.borrow_mut().push_back(number);
        }
        Ok(())
    }

    /// Turns segments that the log does not need into spares, or removes them.
    pub(super) async fn retire(&self, segments: Vec<SegmentSeq>) -> disk::Result<()> {
        let (disk, directory) = (&self.0.disk, &self.0.directory);
        for seq in segments {
            let path = directory.segment(seq);
            if self.is_standard(&path) && self.0.spares.borrow().len() < SPARES_MAX {
                let number = self.next_spare();
                disk.rename(&path, &directory.spare(number)).await?;
                self.0.spares.borrow_mut().push_back(number);
            } else {
                disk.unlink(&path).await?;
            }
        }
        // A segment that comes back after a crash is older than the snapshot: it is passed over.
        disk.sync_directory(directory.log()).await
    }

    fn is_standard(&self, path: &Path) -> bool {
        self.0.disk.length_blocking(path).is_ok_and(|length| length == self.0.segment_bytes)
    }

    fn next_spare(&self) -> u64 {
        self.0.last_spare.set(self.0.last_spare.get() + 1);
        self.0.last_spare.get()
    }
}
