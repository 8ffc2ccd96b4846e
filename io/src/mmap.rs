//! A tree file as memory: mapped once, read-only, over more addresses than it will ever need.
//!
//! # Why this is sound
//!
//! The bytes behind a mapping change when the file does, and nobody may hold a reference to bytes that change. Who writes
//! to a tree file is this process alone (the directory is locked), and it never writes a page that any checkpoint refers
//! to that somebody may read (invariant T7 of the engine's `storage`). References are only ever made to pages that a
//! checkpoint refers to, or to pages that one was said to refer to and whose checksum is then looked at.
//!
//! What lies beyond the end of the file cannot be touched: that would end the process with `SIGBUS`. So reads beyond what
//! was written are refused. A medium that fails ends the process the same way: recovery then reads what is there.
#![expect(unsafe_code, reason = "no safe wrapper exists; docs/decisions/unsafe-in-io.md")]

use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::fs::File;
use std::io;

use cairn_engine::storage::{PageSize, PageSource, Run, Unreadable};
use memmap2::{Mmap, MmapOptions};

/// Addresses that are reserved, in bytes; where that is refused, half as many, and so on. They cost nothing.
const RESERVED_MAX: usize = 1 << 42;
/// With fewer there is no use in trying.
const RESERVED_MIN: usize = 1 << 26;

/// The pages of a file, as far as they were written.
pub(crate) struct Mapping {
    map: Mmap,
    size: PageSize,
    /// Bytes of the file that are there.
    written: AtomicUsize,
}

impl Mapping {
    /// Maps a file of `written` bytes.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(crate) fn new(file: &File, size: PageSize, written: usize) -> io::Result<Self> {
        let mut reserved = RESERVED_MAX;
        loop {
            // SAFETY: see above: no page is written while anybody may hold a reference to it.
            match unsafe { MmapOptions::new().len(reserved).map(file) } {
                Ok(map) => return Ok(Self { map, size, written: AtomicUsize::new(written) }),
                Err(error) if reserved <= RESERVED_MIN => return Err(error),
                Err(_) => reserved /= 2,
            }
        }
    }

    /// The file has at least so many bytes now.
    pub(crate) fn grow(&self, written: usize) {
        self.written.fetch_max(written, Ordering::Release);
    }
}

impl PageSource for Mapping {
    fn read(&self, run: Run) -> Result<&[u8], Unreadable> {
        let place = |page: u64| {
            let offset = page.checked_mul(u64::from(self.size.number())).ok_or(Unreadable)?;
            usize::try_from(offset).map_err(|_| Unreadable)
        };
        let end = run.first.0.checked_add(u64::from(run.pages)).ok_or(Unreadable)?;
        let (from, to) = (place(run.first.0)?, place(end)?);
        if to > self.written.load(Ordering::Acquire) {
            return Err(Unreadable);
        }
        self.map.get(from..to).ok_or(Unreadable)
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping").field("written", &self.written).finish_non_exhaustive()
    }
}
