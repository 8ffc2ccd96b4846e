//! The operations themselves, as ordinary blocking calls: what the lanes do, and what happens at start.

use core::time::Duration;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::{Aligned, Cause, Error, Operation, Pace, Result};
use crate::clock::monotonic_ns;

/// An open file, and whether it bypasses the page cache.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) is_direct: bool,
}

/// Opens with `O_DIRECT` and `flags`, or with `flags` alone where the filesystem refuses `O_DIRECT`.
pub(super) fn open_direct(
    options: &mut OpenOptions,
    flags: i32,
    path: &Path,
) -> io::Result<Opened> {
    match options.custom_flags(flags | libc::O_DIRECT).open(path) {
        Ok(file) => Ok(Opened { file, is_direct: true }),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            let file = options.custom_flags(flags).open(path)?;
            Ok(Opened { file, is_direct: false })
        }
        Err(error) => Err(error),
    }
}

/// Opens an existing file for durable writes.
pub(super) fn open_durable(path: &Path) -> Result<Opened> {
    open_direct(OpenOptions::new().read(true).write(true), libc::O_DSYNC, path)
        .map_err(|error| Error::new(Operation::Open, path, error))
}

/// One write; whatever is not complete is an error.
pub(super) fn write(file: &File, path: &Path, offset: u64, bytes: &[u8]) -> Result<()> {
    let written = loop {
        match file.write_at(bytes, offset) {
            // Nothing was written.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => break outcome,
        }
    };
    match written {
        Ok(written) => complete(path, offset, written, bytes.len()),
        Err(error) => Err(Error::at(Operation::Write, path, offset, error.into())),
    }
}

/// Judges how much was written.
pub(super) fn complete(path: &Path, offset: u64, written: usize, wanted: usize) -> Result<()> {
    if written == wanted {
        return Ok(());
    }
    Err(Error::at(Operation::Write, path, offset, Cause::Short { written, wanted }))
}

/// Fills `bytes` from `offset` on, as far as the file goes.
pub(super) fn read(file: &File, path: &Path, offset: u64, bytes: &mut [u8]) -> Result<usize> {
    let failed = |error: io::Error| Error::at(Operation::Read, path, offset, error.into());
    let mut filled = 0;
    let mut at = offset;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], at) {
            Ok(0) => break,
            Ok(count) => {
                filled += count;
                at += u64::try_from(count).expect("a length fits in 64 bits");
                // A direct read that stops inside a block has met the end of the file.
                if !count.is_multiple_of(super::ALIGNMENT) {
                    break;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(filled)
}

/// Opens, reads once, closes.
pub(super) fn read_path(path: &Path, offset: u64, bytes: &mut [u8]) -> Result<usize> {
    let opened = open_direct(OpenOptions::new().read(true), 0, path)
        .map_err(|error| Error::new(Operation::Open, path, error))?;
    read(&opened.file, path, offset, bytes)
}

/// The length of a file.
pub(super) fn length(path: &Path) -> Result<u64> {
    let metadata = fs::metadata(path).map_err(|error| Error::new(Operation::Open, path, error))?;
    Ok(metadata.len())
}

/// The names in a directory, sorted: the order of the filesystem is not ours.
pub(super) fn list(path: &Path) -> Result<Vec<OsString>> {
    let failed = |error| Error::new(Operation::List, path, error);
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        names.push(entry.map_err(failed)?.file_name());
    }
    names.sort();
    Ok(names)
}

/// Renames.
pub(super) fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|error| Error::new(Operation::Rename, from, error))
}

/// Removes a file.
pub(super) fn unlink(path: &Path) -> Result<()> {
    fs::remove_file(path).map_err(|error| Error::new(Operation::Unlink, path, error))
}

/// Makes the names in a directory durable. A full fsync: glommio's `Directory::sync` is only fdatasync.
pub(super) fn sync_directory(path: &Path) -> Result<()> {
    let failed = |error| Error::new(Operation::Sync, path, error);
    File::open(path).map_err(failed)?.sync_all().map_err(failed)
}

/// Creates or empties a file that is written in sequence.
pub(super) fn create_stream(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    options.open(path).map_err(|error| Error::new(Operation::Create, path, error))
}

/// Appends to such a file.
pub(super) fn append(file: &mut File, path: &Path, offset: u64, bytes: &[u8]) -> Result<()> {
    file.write_all(bytes).map_err(|error| Error::at(Operation::Write, path, offset, error.into()))
}

/// Makes such a file durable.
pub(super) fn finish(file: &File, path: &Path) -> Result<()> {
    file.sync_all().map_err(|error| Error::new(Operation::Sync, path, error))
}

/// Makes a file of zeros under a temporary name, syncs it, and names it. See `Disk::create_zeroed`.
///
/// Zeros are written and not only promised by `fallocate`: the first write into a promised block costs a
/// journal commit to say so, at commit time.
pub(super) fn create_zeroed(path: &Path, length: u64, pace: Pace) -> Result<()> {
    let temporary = temporary_name(path);
    match fill(&temporary, length, pace) {
        Ok(()) => {}
        Err(error) => {
            // What is half made on a full disk only keeps it full. The first error is the one to tell.
            drop(fs::remove_file(&temporary));
            return Err(error);
        }
    }
    rename(&temporary, path)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    sync_directory(parent.unwrap_or_else(|| Path::new(".")))
}

fn fill(path: &Path, length: u64, pace: Pace) -> Result<()> {
    let failed = |error| Error::new(Operation::Create, path, error);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    let opened = open_direct(&mut options, 0, path).map_err(failed)?;
    let no_room =
        |error: Errno| Error::at(Operation::Create, path, 0, io::Error::from(error).into());
    match fallocate(&opened.file, FallocateFlags::empty(), 0, length) {
        // One extent where possible, and a full disk is noticed before time is spent.
        Ok(()) => {}
        // Not every filesystem can; writing will do it.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
        Err(error) => return Err(no_room(error)),
    }
    let zeros = Aligned::zeroed(ZEROS_BYTES);
    let mut offset = 0;
    while offset < length {
        let began = monotonic_ns();
        let left = usize::try_from(length - offset).unwrap_or(usize::MAX);
        let chunk = &zeros.as_ref()[..left.min(ZEROS_BYTES)];
        write(&opened.file, path, offset, chunk)?;
        offset += u64::try_from(chunk.len()).expect("a length fits in 64 bits");
        if pace == Pace::Background {
            if !opened.is_direct {
                // Or all of it waits in the page cache for one large flush.
                opened
                    .file
                    .sync_data()
                    .map_err(|error| Error::new(Operation::Sync, path, error))?;
            }
            let busy = Duration::from_nanos(monotonic_ns() - began);
            thread::sleep((busy * REST_FACTOR).clamp(REST_MIN, REST_MAX));
        }
    }
    finish(&opened.file, path)
}

/// Zeros written at a time. In bytes.
const ZEROS_BYTES: usize = 1 << 20;
/// In the background the disk rests three times as long as it was used: commits find it free.
const REST_FACTOR: u32 = 3;
/// A cache that takes zeros at once still has to write them.
const REST_MIN: Duration = Duration::from_millis(2);
/// A stalled disk must not stall the spare segments for ever.
const REST_MAX: Duration = Duration::from_millis(200);

/// Where a file is before it has its name. Leftovers of a crash are recognised by the suffix, and
/// overwritten by the next attempt at the same name.
fn temporary_name(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".tmp");
    name.into()
}
