//! The disk as threads: blocking calls on lanes. What tokio uses, and `io_uring`'s fallback.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_engine::storage::PageSize;

use super::blocking;
use super::lane::Lane;
use super::{
    ALIGNMENT, Aligned, Disk, DurableFile, Error, FileStream, MappedFile, Operation, Pace,
    PathTaken, Result, assert_aligned,
};

/// Files on threads.
#[derive(Clone, Debug)]
pub struct ThreadDisk {
    wal: Lane,
    chores: Chores,
}

/// Everything that is not a durable write, the same on both disks.
#[derive(Clone, Debug)]
pub(super) struct Chores {
    pub(super) names: Lane,
    pub(super) bulk: Lane,
}

/// A segment whose writes a thread does.
#[derive(Debug)]
pub struct ThreadFile {
    /// Shared with the jobs under way.
    file: Arc<File>,
    path: Arc<Path>,
    is_direct: bool,
    wal: Lane,
    bulk: Lane,
}

/// A file that is written in sequence on the bulk lane.
#[derive(Debug)]
pub struct ThreadStream {
    file: Option<File>,
    path: Arc<Path>,
    length: u64,
    bulk: Lane,
}

impl Disk for ThreadDisk {
    type Buffer = Aligned;
    type File = ThreadFile;
    type Stream = ThreadStream;
    type Pages = MappedFile;

    fn start() -> io::Result<Self> {
        Ok(Self { wal: Lane::start("cairn-wal")?, chores: Chores::start()? })
    }

    fn buffer(&self, length: usize) -> Aligned {
        assert_aligned(0, length);
        Aligned::zeroed(length)
    }

    async fn create_zeroed(&self, path: &Path, length: u64, pace: Pace) -> Result<()> {
        self.chores.create_zeroed(path, length, pace).await
    }

    async fn open(&self, path: &Path) -> Result<ThreadFile> {
        ThreadFile::open(path, &self.wal, &self.chores).await
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

    fn read_blocking(&self, path: &Path, offset: u64, buffer: &mut Aligned) -> Result<usize> {
        blocking::read_path(path, offset, buffer.as_mut())
    }

    fn length_blocking(&self, path: &Path) -> Result<u64> {
        blocking::length(path)
    }

    fn list_blocking(&self, path: &Path) -> Result<Vec<OsString>> {
        blocking::list(path)
    }
}

impl Chores {
    pub(super) fn start() -> io::Result<Self> {
        Ok(Self { names: Lane::start("cairn-names")?, bulk: Lane::start("cairn-bulk")? })
    }

    pub(super) async fn create_zeroed(&self, path: &Path, length: u64, pace: Pace) -> Result<()> {
        assert!(length.is_multiple_of(super::ALIGNMENT_BYTES), "segments consist of whole blocks");
        let path = PathBuf::from(path);
        self.bulk.run(move || blocking::create_zeroed(&path, length, pace)).await
    }

    pub(super) async fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let (from, to) = (PathBuf::from(from), PathBuf::from(to));
        self.names.run(move || blocking::rename(&from, &to)).await
    }

    pub(super) async fn unlink(&self, path: &Path) -> Result<()> {
        let path = PathBuf::from(path);
        self.names.run(move || blocking::unlink(&path)).await
    }

    pub(super) async fn sync_directory(&self, path: &Path) -> Result<()> {
        let path = PathBuf::from(path);
        self.names.run(move || blocking::sync_directory(&path)).await
    }

    pub(super) async fn create_stream(&self, path: &Path) -> Result<ThreadStream> {
        let path = Arc::<Path>::from(path);
        let created = Arc::clone(&path);
        let file = self.bulk.run(move || blocking::create_stream(&created)).await?;
        Ok(ThreadStream { file: Some(file), path, length: 0, bulk: self.bulk.clone() })
    }
}

impl ThreadFile {
    pub(super) async fn open(path: &Path, wal: &Lane, chores: &Chores) -> Result<Self> {
        let path = Arc::<Path>::from(path);
        let opened = Arc::clone(&path);
        let opened = chores.names.run(move || blocking::open_durable(&opened)).await?;
        let (wal, bulk) = (wal.clone(), chores.bulk.clone());
        Ok(Self { file: Arc::new(opened.file), path, is_direct: opened.is_direct, wal, bulk })
    }
}

impl DurableFile for ThreadFile {
    type Buffer = Aligned;

    async fn write_durable(&self, offset: u64, buffer: Aligned) -> Result<()> {
        assert_aligned(offset, buffer.as_ref().len());
        let (file, path) = (Arc::clone(&self.file), Arc::clone(&self.path));
        self.wal.run(move || blocking::write(&file, &path, offset, buffer.as_ref())).await
    }

    async fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        assert_aligned(offset, length);
        let (file, path) = (Arc::clone(&self.file), Arc::clone(&self.path));
        let read = move || {
            let mut buffer = Aligned::zeroed(length.next_multiple_of(ALIGNMENT));
            let count = blocking::read(&file, &path, offset, buffer.as_mut())?;
            Ok(buffer.as_ref()[..count].to_vec())
        };
        self.bulk.run(read).await
    }

    fn path_taken(&self) -> PathTaken {
        if self.is_direct { PathTaken::ThreadDirect } else { PathTaken::ThreadBuffered }
    }

    async fn close(self) -> Result<()> {
        // Behind its last write; the answer of close(2) means nothing after O_DSYNC.
        let file = self.file;
        self.wal.run(move || drop(file)).await;
        Ok(())
    }
}

impl FileStream for ThreadStream {
    async fn append(&mut self, bytes: Vec<u8>) -> Result<()> {
        let (path, offset) = (Arc::clone(&self.path), self.length);
        // The file goes to the lane and comes back; a dropped future would lose it, so a second call is
        // an error and not a hole in the file.
        let Some(mut file) = self.file.take() else { return Err(self.abandoned()) };
        let length = u64::try_from(bytes.len()).expect("a length fits in 64 bits");
        let append = move || (blocking::append(&mut file, &path, offset, &bytes), file);
        let (outcome, file) = self.bulk.run(append).await;
        outcome?;
        self.file = Some(file);
        self.length += length;
        Ok(())
    }

    async fn finish(mut self) -> Result<()> {
        let path = Arc::clone(&self.path);
        let Some(file) = self.file.take() else { return Err(self.abandoned()) };
        self.bulk.run(move || blocking::finish(&file, &path)).await
    }
}

impl ThreadStream {
    /// After an error, or an append that nobody waited for, the file's content is not known.
    fn abandoned(&self) -> Error {
        let error = io::Error::other("an earlier append failed or was abandoned");
        Error::at(Operation::Write, &self.path, self.length, error.into())
    }
}
