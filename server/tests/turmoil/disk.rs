//! A disk in memory that outlives its member: a crash keeps what was answered, and half of what was not.

use core::cell::RefCell;
use core::time::Duration;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_engine::config::Lives;
use cairn_engine::mvcc::base::SharedPages;
use cairn_engine::peer::Incarnation;
use cairn_engine::storage::{PageSize, PageSource, Run, Unreadable};
use cairn_io::disk::{
    Disk, DurableFile, Error, FileStream, Operation, Pace, PageFile, PathTaken, Result,
};

/// How long a durable write takes.
const WRITE_TIME: Duration = Duration::from_millis(2);

thread_local! {
    /// The files of all members, each member in a directory of its own. A simulation has one thread.
    static FILES: RefCell<BTreeMap<PathBuf, Vec<u8>>> = const { RefCell::new(BTreeMap::new()) };
}

/// Removes all files.
pub(crate) fn format() {
    FILES.with_borrow_mut(BTreeMap::clear);
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct MemoryDisk;

#[derive(Debug)]
pub(crate) struct MemoryFile(PathBuf);

fn missing(operation: Operation, path: &Path) -> Error {
    Error::new(operation, path, io::ErrorKind::NotFound.into())
}

fn with_file<T>(
    operation: Operation,
    path: &Path,
    use_it: impl FnOnce(&mut Vec<u8>) -> T,
) -> Result<T> {
    FILES.with_borrow_mut(|files| {
        files.get_mut(path).map(use_it).ok_or_else(|| missing(operation, path))
    })
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).expect("64 bits")
}

impl Disk for MemoryDisk {
    type Buffer = Vec<u8>;
    type File = MemoryFile;
    type Stream = MemoryFile;
    type Pages = MemoryPages;

    fn start() -> io::Result<Self> {
        Ok(Self)
    }

    fn buffer(&self, length: usize) -> Vec<u8> {
        vec![0; length]
    }

    async fn create_zeroed(&self, path: &Path, length: u64, _: Pace) -> Result<()> {
        tokio::time::sleep(WRITE_TIME).await;
        let zeros = vec![0; place(length)];
        FILES.with_borrow_mut(|files| files.insert(path.into(), zeros));
        Ok(())
    }

    async fn open(&self, path: &Path) -> Result<MemoryFile> {
        with_file(Operation::Open, path, |_| MemoryFile(path.into()))
    }

    async fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let file = FILES.with_borrow_mut(|files| files.remove(from));
        let file = file.ok_or_else(|| missing(Operation::Rename, from))?;
        FILES.with_borrow_mut(|files| files.insert(to.into(), file));
        Ok(())
    }

    async fn unlink(&self, path: &Path) -> Result<()> {
        let file = FILES.with_borrow_mut(|files| files.remove(path));
        file.map(drop).ok_or_else(|| missing(Operation::Unlink, path))
    }

    async fn sync_directory(&self, _: &Path) -> Result<()> {
        tokio::time::sleep(WRITE_TIME).await;
        Ok(())
    }

    async fn create_stream(&self, path: &Path) -> Result<MemoryFile> {
        FILES.with_borrow_mut(|files| files.insert(path.into(), Vec::new()));
        Ok(MemoryFile(path.into()))
    }

    fn open_pages(&self, path: &Path, size: PageSize) -> Result<MemoryPages> {
        with_file(Operation::Open, path, |_| MemoryPages(path.into(), size))
    }

    fn read_blocking(&self, path: &Path, offset: u64, buffer: &mut Vec<u8>) -> Result<usize> {
        with_file(Operation::Read, path, |file| {
            let rest = file.get(place(offset)..).unwrap_or_default();
            let length = rest.len().min(buffer.len());
            buffer[..length].copy_from_slice(&rest[..length]);
            length
        })
    }

    fn length_blocking(&self, path: &Path) -> Result<u64> {
        with_file(Operation::Open, path, |file| u64::try_from(file.len()).expect("64 bits"))
    }

    fn list_blocking(&self, path: &Path) -> Result<Vec<OsString>> {
        Ok(FILES.with_borrow(|files| {
            let inside = files.keys().filter(|file| file.parent() == Some(path));
            inside.filter_map(|file| file.file_name()).map(Into::into).collect()
        }))
    }
}

/// A tree file.
#[derive(Debug)]
pub(crate) struct MemoryPages(PathBuf, PageSize);

/// The bytes of one, at one moment.
struct Seen(Vec<u8>, PageSize);

impl PageSource for Seen {
    fn read(&self, run: Run) -> core::result::Result<&[u8], Unreadable> {
        let from = place(self.1.offset(run.first));
        let to = from + place(u64::from(run.pages) * u64::from(self.1.number()));
        self.0.get(from..to).ok_or(Unreadable)
    }
}

impl PageFile for MemoryPages {
    async fn write(&self, writes: Vec<(u64, Vec<u8>)>, sync: bool) -> Result<()> {
        with_file(Operation::Write, &self.0, |file| {
            for (offset, bytes) in writes {
                let (start, end) = (place(offset), place(offset) + bytes.len());
                file.resize(file.len().max(end), 0);
                file[start..end].copy_from_slice(&bytes);
            }
        })?;
        if sync {
            tokio::time::sleep(WRITE_TIME).await;
        }
        Ok(())
    }

    fn pages(&self) -> SharedPages {
        let bytes = with_file(Operation::Read, &self.0, |file| file.clone()).unwrap_or_default();
        Arc::new(Seen(bytes, self.1))
    }
}

impl DurableFile for MemoryFile {
    type Buffer = Vec<u8>;

    async fn write_durable(&self, offset: u64, buffer: Vec<u8>) -> Result<()> {
        let write = |bytes: &[u8]| {
            with_file(Operation::Write, &self.0, |file| {
                file[place(offset)..][..bytes.len()].copy_from_slice(bytes);
            })
        };
        // Whoever crashes in between finds half of it.
        write(&buffer[..buffer.len() / 2])?;
        tokio::time::sleep(WRITE_TIME).await;
        write(&buffer)
    }

    async fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let mut buffer = vec![0; length];
        let length = MemoryDisk.read_blocking(&self.0, offset, &mut buffer)?;
        buffer.truncate(length);
        Ok(buffer)
    }

    fn path_taken(&self) -> PathTaken {
        PathTaken::ThreadBuffered
    }

    async fn close(self) -> Result<()> {
        Ok(())
    }
}

impl FileStream for MemoryFile {
    async fn append(&mut self, bytes: Vec<u8>) -> Result<()> {
        with_file(Operation::Write, &self.0, |file| file.extend_from_slice(&bytes))
    }

    async fn finish(self) -> Result<()> {
        tokio::time::sleep(WRITE_TIME).await;
        Ok(())
    }
}

/// Writes down that a member begins a life, and says which there were, as [`cairn_io::lives`] does on a real disk.
pub(crate) fn begin_life(directory: &Path, now: Incarnation) -> Lives {
    FILES.with_borrow_mut(|files| {
        let file = files.entry(directory.join("LIVES")).or_default();
        let lines = file.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let digits = |line| u64::from_str_radix(str::from_utf8(line).expect("digits"), 16);
        let before = lines.map(|line| Incarnation(digits(line).expect("digits"))).collect();
        file.extend_from_slice(format!("{:016x}\n", now.0).as_bytes());
        Lives { now, before }
    })
}
