//! The disk on `io_uring`: glommio's `DmaFile`, opened with `O_DSYNC`.
//!
//! One write is one `io_uring` operation, which the kernel completes after the device's flush: the latency of
//! a blocking call, without the block, and without the two context switches of a thread. Files that
//! glommio would panic about, or whose filesystem refuses `O_DIRECT`, are written by a thread; everything
//! but durable writes always is. An operation reaches the kernel when the executor's turn ends (at most
//! 1 ms of other tasks later): whoever wants it to start returns to the executor. glommio's own
//! `fdatasync` is not used: it measured 60 us more.

use core::fmt;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use cairn_engine::storage::PageSize;
use glommio::GlommioError;
use glommio::io::{DmaFile, OpenOptions};

use super::block_device::suits_glommio;
use super::blocking;
use super::lane::Lane;
use super::thread::{Chores, ThreadStream};
use super::{
    Aligned, Disk, DurableFile, Error, MappedFile, Operation, Pace, PathTaken, Result, ThreadFile,
    assert_aligned,
};

/// Files on `io_uring`. For executors of [`Glommio`](crate::runtime::Glommio) only.
#[derive(Clone, Debug)]
pub struct UringDisk {
    /// For files that `io_uring` cannot write; idle otherwise.
    wal: Lane,
    chores: Chores,
}

/// Memory that `io_uring` writes from, registered with the kernel as far as that goes.
pub struct DmaBuffer(glommio::io::DmaBuffer);

/// A segment.
#[derive(Debug)]
pub enum UringFile {
    /// Written by `io_uring`.
    Direct {
        /// The file.
        file: DmaFile,
        /// Where it was when it was opened, for errors.
        path: PathBuf,
    },
    /// Written by a thread.
    Fallback(ThreadFile),
}

impl Disk for UringDisk {
    type Buffer = DmaBuffer;
    type File = UringFile;
    type Stream = ThreadStream;
    type Pages = MappedFile;

    fn start() -> io::Result<Self> {
        Ok(Self { wal: Lane::start("cairn-wal")?, chores: Chores::start()? })
    }

    fn buffer(&self, length: usize) -> DmaBuffer {
        assert_aligned(0, length);
        assert!(length > 0, "glommio has no empty buffers");
        let mut buffer = DmaBuffer(glommio::allocate_dma_buffer(length));
        // It is as the last user left it.
        buffer.as_mut().fill(0);
        buffer
    }

    async fn create_zeroed(&self, path: &Path, length: u64, pace: Pace) -> Result<()> {
        self.chores.create_zeroed(path, length, pace).await
    }

    async fn open(&self, path: &Path) -> Result<UringFile> {
        let asked = PathBuf::from(path);
        // Both questions block, so they are asked on the lane.
        let ask = move || Ok((blocking::open_durable(&asked)?.is_direct, suits_glommio(&asked)));
        if self.chores.names.run(ask).await? != (true, true) {
            return Ok(UringFile::Fallback(ThreadFile::open(path, &self.wal, &self.chores).await?));
        }
        // Reading too, or glommio's question whether the device can be polled is a logged error.
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_DSYNC);
        let file = options.dma_open(path).await;
        let file = file.map_err(|error| Error::new(Operation::Open, path, reason(error)))?;
        Ok(UringFile::Direct { file, path: path.into() })
    }

    async fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.chores.rename(from, to).await
    }

    async fn unlink(&self, path: &Path) -> Result<()> {
        self.chores.unlink(path).await
    }

    async fn sync_directory(&self, path: &Path) -> Result<()> {
        self.chores.sync_directory(path).await
    }

    async fn create_stream(&self, path: &Path) -> Result<ThreadStream> {
        self.chores.create_stream(path).await
    }

    fn open_pages(&self, path: &Path, size: PageSize) -> Result<MappedFile> {
        MappedFile::open(path, size, &self.chores.bulk)
    }

    fn read_blocking(&self, path: &Path, offset: u64, buffer: &mut DmaBuffer) -> Result<usize> {
        blocking::read_path(path, offset, buffer.as_mut())
    }

    fn length_blocking(&self, path: &Path) -> Result<u64> {
        blocking::length(path)
    }

    fn list_blocking(&self, path: &Path) -> Result<Vec<OsString>> {
        blocking::list(path)
    }
}

impl DurableFile for UringFile {
    type Buffer = DmaBuffer;

    async fn write_durable(&self, offset: u64, buffer: DmaBuffer) -> Result<()> {
        let wanted = buffer.as_ref().len();
        assert_aligned(offset, wanted);
        match self {
            Self::Direct { file, path } => match file.write_at(buffer.0, offset).await {
                Ok(written) => blocking::complete(path, offset, written, wanted),
                Err(error) => Err(Error::at(Operation::Write, path, offset, reason(error).into())),
            },
            Self::Fallback(file) => {
                let mut copy = Aligned::zeroed(wanted);
                copy.as_mut().copy_from_slice(buffer.as_ref());
                file.write_durable(offset, copy).await
            }
        }
    }

    async fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        assert_aligned(offset, length);
        match self {
            Self::Direct { file, path } => match file.read_at_aligned(offset, length).await {
                Ok(bytes) => Ok(bytes.to_vec()),
                Err(error) => Err(Error::at(Operation::Read, path, offset, reason(error).into())),
            },
            Self::Fallback(file) => file.read(offset, length).await,
        }
    }

    fn path_taken(&self) -> PathTaken {
        match self {
            Self::Direct { .. } => PathTaken::UringDirect,
            Self::Fallback(file) => file.path_taken(),
        }
    }

    async fn close(self) -> Result<()> {
        match self {
            Self::Direct { file, path } => {
                let closed = file.close().await;
                closed.map_err(|error| Error::new(Operation::Close, &path, reason(error)))
            }
            Self::Fallback(file) => file.close().await,
        }
    }
}

/// The system's error: glommio's own conversion drops its number.
fn reason(error: GlommioError<()>) -> io::Error {
    if let GlommioError::EnhancedIoError { source, .. } = error { source } else { error.into() }
}

impl AsRef<[u8]> for DmaBuffer {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl AsMut<[u8]> for DmaBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self.0.as_bytes_mut()
    }
}

impl fmt::Debug for DmaBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DmaBuffer").field("length", &self.as_ref().len()).finish()
    }
}
