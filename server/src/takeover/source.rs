//! Files as the engine reads them, and how far that has come.

use core::borrow::Borrow;
use core::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use bytes::Bytes;
use cairn_engine::import::{ReadAt, Unreadable};
use cairn_io::clock;

/// A file.
pub(crate) struct FileSource<'a, 'w, F> {
    file: F,
    bytes_len: u64,
    /// What was read around the last small piece, and where it lies.
    near: (u64, Bytes),
    watch: Option<&'a mut Watch<'w>>,
}

/// Who is told how long work goes on.
pub(crate) struct Watch<'a> {
    total: u64,
    done: u64,
    told_ns: u64,
    tick: &'a mut dyn FnMut(u64),
}

impl fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("done", &self.done).finish_non_exhaustive()
    }
}

impl<'a> Watch<'a> {
    /// Work on so many bytes. `tick` is told again and again how many are done, and may end the process.
    pub(crate) fn new(total: u64, tick: &'a mut dyn FnMut(u64)) -> Self {
        Self { total, done: 0, told_ns: clock::monotonic_ns(), tick }
    }

    /// So many bytes more were worked on.
    pub(crate) fn add(&mut self, bytes: usize) {
        self.done += u64::try_from(bytes).unwrap_or(u64::MAX);
        (self.tick)(self.done);
        let now_ns = clock::monotonic_ns();
        if now_ns - self.told_ns >= TELL_EVERY_NS {
            self.told_ns = now_ns;
            tracing::info!(bytes = self.done, of = self.total, "still importing");
        }
    }
}

impl<'a, 'w, F: Borrow<File>> FileSource<'a, 'w, F> {
    /// The first `bytes_len` bytes of a file.
    pub(crate) fn new(file: F, bytes_len: u64, watch: Option<&'a mut Watch<'w>>) -> Self {
        Self { file, bytes_len, near: (0, Bytes::new()), watch }
    }

    fn read(&mut self, offset: u64, len: usize) -> Result<Bytes, Unreadable> {
        let mut bytes = vec![0; len];
        let file: &File = self.file.borrow();
        file.read_exact_at(&mut bytes, offset).map_err(|error| Unreadable(error.to_string()))?;
        if let Some(watch) = &mut self.watch {
            watch.add(len);
        }
        Ok(bytes.into())
    }
}

impl<F: Borrow<File>> ReadAt for FileSource<'_, '_, F> {
    fn bytes_len(&self) -> u64 {
        self.bytes_len
    }

    fn read_at(&mut self, offset: u64, len: usize) -> Result<Bytes, Unreadable> {
        if len >= SMALL_BYTES {
            return self.read(offset, len);
        }
        let place = |(start, near): &(u64, Bytes)| {
            let from = usize::try_from(offset.checked_sub(*start)?).ok()?;
            (from + len <= near.len()).then(|| near.slice(from..from + len))
        };
        if let Some(found) = place(&self.near) {
            return Ok(found);
        }
        let left = usize::try_from(self.bytes_len - offset).unwrap_or(usize::MAX);
        self.near = (offset, self.read(offset, NEAR_BYTES.min(left))?);
        Ok(self.near.1.slice(..len))
    }
}

/// Pieces below this size are read with what is around them: pages are larger, records of a log are not.
const SMALL_BYTES: usize = 1024;
const NEAR_BYTES: usize = 64 << 10;
const TELL_EVERY_NS: u64 = 5_000_000_000;
