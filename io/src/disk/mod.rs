//! Files: durable writes for the log, the rest off the executor.
//!
//! The log needs one thing fast: a write into a file that already has all its blocks, and that is on the
//! medium when it returns. `O_DIRECT|O_DSYNC` is that in one system call; [`UringDisk`] has `io_uring`
//! make it, [`ThreadDisk`] a thread. Everything else (making files, renaming, syncing directories,
//! streaming a snapshot) may take as long as it likes, on threads of its own, so that no executor ever
//! waits in the kernel:
//!
//! | lane | carries | why apart |
//! |---|---|---|
//! | `cairn-wal` | durable writes (tokio, and where `io_uring` cannot) | nothing may stand before them |
//! | `cairn-names` | rename, unlink, directory sync | a log rotation waits for it |
//! | `cairn-bulk` | zeroing new segments, snapshots, catch-up reads | slow, and paced |
//!
//! Rules:
//! - A write is answered once. A failed or short one is an error, and the caller ends the process: after a
//!   failed sync the kernel has forgotten which pages were dirty, so trying again proves nothing.
//! - Offsets and lengths of durable writes are multiples of [`ALIGNMENT`]; anything else is a bug of the
//!   caller and panics.
//! - `O_DIRECT` is optional: filesystems that refuse it (some network and memory ones) get `O_DSYNC` alone.
//! - Dropping a future of this module does not undo what was started.
//!
//! | file | what |
//! |---|---|
//! | mod.rs | the traits |
//! | error.rs | what went wrong, where |
//! | aligned.rs | memory that `O_DIRECT` takes |
//! | blocking.rs | the operations themselves, as ordinary blocking calls |
//! | lane.rs | a thread that does them |
//! | thread.rs, uring.rs | the two disks |
//! | pages.rs | a tree file |
//! | block_device.rs | what glommio must be kept from |

mod aligned;
mod block_device;
mod blocking;
mod error;
mod lane;
mod pages;
mod thread;
mod uring;

use core::future::Future;
use std::path::Path;

use cairn_engine::mvcc::base::SharedPages;
use cairn_engine::storage::PageSize;

pub use aligned::Aligned;
pub use error::{Cause, Error, Operation};
pub use pages::MappedFile;
pub use thread::{ThreadDisk, ThreadFile, ThreadStream};
pub use uring::{DmaBuffer, UringDisk, UringFile};

/// Offsets and lengths of durable writes, and addresses of their memory, are multiples of this. In bytes:
/// the largest logical block of any disk we know.
pub const ALIGNMENT: usize = 4096;

/// What happens to a file or a directory; the error says where.
pub type Result<T> = core::result::Result<T, Error>;

/// The filesystem as one executor uses it. Clones share its threads.
pub trait Disk: Clone + 'static {
    /// Memory for a durable write.
    type Buffer: AsRef<[u8]> + AsMut<[u8]> + 'static;
    /// An open segment.
    type File: DurableFile<Buffer = Self::Buffer>;
    /// A file that is written from its beginning to its end.
    type Stream: FileStream;
    /// A tree file.
    type Pages: PageFile;

    /// Starts the disk on this executor.
    ///
    /// # Errors
    ///
    /// Its threads could not be started.
    fn start() -> std::io::Result<Self>;

    /// Zeroed memory for a durable write of `length` bytes, a multiple of [`ALIGNMENT`].
    fn buffer(&self, length: usize) -> Self::Buffer;

    /// Makes a file of `length` zero bytes, all written, synced, and only then named `path`: a crash leaves
    /// the whole file or none. A file of that name is replaced.
    fn create_zeroed(
        &self,
        path: &Path,
        length: u64,
        pace: Pace,
    ) -> impl Future<Output = Result<()>>;

    /// Opens a file for durable writes and for reads.
    fn open(&self, path: &Path) -> impl Future<Output = Result<Self::File>>;

    /// Renames a file. Durable after [`sync_directory`](Self::sync_directory).
    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = Result<()>>;

    /// Removes a file. Durable after [`sync_directory`](Self::sync_directory).
    fn unlink(&self, path: &Path) -> impl Future<Output = Result<()>>;

    /// Makes the names in a directory durable.
    fn sync_directory(&self, path: &Path) -> impl Future<Output = Result<()>>;

    /// Creates a file, emptying it if it exists, to be written in sequence.
    fn create_stream(&self, path: &Path) -> impl Future<Output = Result<Self::Stream>>;

    /// Opens a tree file with pages of this size. Blocks, for as long as opening a file takes.
    ///
    /// # Errors
    ///
    /// What the filesystem says.
    fn open_pages(&self, path: &Path, size: PageSize) -> Result<Self::Pages>;

    /// Fills `buffer` from `offset` on and returns how much there was, less only at the end of the file.
    /// Reads the medium, not the page cache, where the filesystem allows. Blocks: at start only.
    ///
    /// # Errors
    ///
    /// What the medium says.
    fn read_blocking(&self, path: &Path, offset: u64, buffer: &mut Self::Buffer) -> Result<usize>;

    /// The length of a file in bytes. Blocks: at start only.
    ///
    /// # Errors
    ///
    /// What the filesystem says.
    fn length_blocking(&self, path: &Path) -> Result<u64>;

    /// The names in a directory, sorted. Blocks: at start only.
    ///
    /// # Errors
    ///
    /// What the filesystem says.
    fn list_blocking(&self, path: &Path) -> Result<Vec<std::ffi::OsString>>;
}

/// A file that has all its blocks.
pub trait DurableFile: 'static {
    /// Memory for a durable write.
    type Buffer;

    /// Writes the buffer at `offset`; when it returns, the bytes are on the medium. One write is one system
    /// call and one flush.
    ///
    /// # Panics
    ///
    /// If offset or length are not multiples of [`ALIGNMENT`].
    fn write_durable(&self, offset: u64, buffer: Self::Buffer) -> impl Future<Output = Result<()>>;

    /// Reads `length` bytes from `offset` on, less only at the end of the file; both are multiples of
    /// [`ALIGNMENT`].
    fn read(&self, offset: u64, length: usize) -> impl Future<Output = Result<Vec<u8>>>;

    /// How its writes reach the medium, for the log and for metrics.
    fn path_taken(&self) -> PathTaken;

    /// Closes the file. Dropping does it too, some time later and without an answer.
    fn close(self) -> impl Future<Output = Result<()>>;
}

/// A file that is written in sequence through the page cache, such as a snapshot.
pub trait FileStream: 'static {
    /// Appends bytes.
    fn append(&mut self, bytes: Vec<u8>) -> impl Future<Output = Result<()>>;

    /// Syncs and closes the file. Its name is durable after [`Disk::sync_directory`].
    fn finish(self) -> impl Future<Output = Result<()>>;
}

/// A file of pages: read on every core, while one writes to pages that nobody reads.
pub trait PageFile: 'static {
    /// Writes bytes at their offsets; with `sync`, all that was ever written is durable then.
    fn write(&self, writes: Vec<(u64, Vec<u8>)>, sync: bool) -> impl Future<Output = Result<()>>;

    /// Its pages, as far as they were written.
    fn pages(&self) -> SharedPages;
}

/// How urgent a new file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Somebody waits: as fast as the disk goes.
    Urgent,
    /// Others use the disk meanwhile: it is left alone most of the time.
    Background,
}

/// How durable writes reach the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathTaken {
    /// `io_uring`, past the page cache.
    UringDirect,
    /// A thread, past the page cache.
    ThreadDirect,
    /// A thread, through the page cache: the filesystem refuses `O_DIRECT`.
    ThreadBuffered,
}

/// Checks what [`DurableFile::write_durable`] demands.
fn assert_aligned(offset: u64, length: usize) {
    let aligned = |number: u64| number.is_multiple_of(ALIGNMENT_BYTES);
    assert!(aligned(offset), "the offset {offset} of a durable write is aligned");
    assert!(length.is_multiple_of(ALIGNMENT), "the length {length} of a durable write is aligned");
}

/// [`ALIGNMENT`] for offsets.
const ALIGNMENT_BYTES: u64 = 4096;
const _: () = assert!(ALIGNMENT == 4096 && ALIGNMENT_BYTES == 4096, "one number, two types");
