//! The data directory: created for us alone, and held by one process at a time.
//!
//! Two servers on one directory would each believe to be the member it describes and destroy it. The
//! file `LOCK` is locked with `flock`, which the kernel releases when the process ends, however it ends;
//! its content, the holder's process id, is for the error message only. `SO_REUSEPORT` makes this
//! the first check at start: the second server's listeners would not collide.
//!
//! Limits: on network filesystems `flock` is as good as the server behind it.

use core::fmt;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// A data directory that this process holds. Dropping it gives it back.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
}

/// Why the directory cannot be used.
#[derive(Debug)]
pub enum Error {
    /// Another process holds it.
    Held {
        /// The directory.
        path: PathBuf,
        /// The process that wrote its id into `LOCK`, if that was readable.
        holder: Option<u32>,
    },
    /// An operation of the filesystem failed.
    Failed {
        /// What was done, as a verb: "create", "lock".
        action: &'static str,
        /// To which path.
        path: PathBuf,
        /// The system's answer.
        error: io::Error,
    },
}

impl DataDir {
    /// Creates the directory if it is missing (mode 0700, parents too) and locks it.
    ///
    /// # Errors
    ///
    /// [`Error::Held`] if another process has it, [`Error::Failed`] otherwise.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failed = |action| move |error| Error::Failed { action, path: path.into(), error };
        let is_missing =
            |directory: &&Path| !directory.as_os_str().is_empty() && !directory.is_dir();
        let missing: Vec<&Path> = path.ancestors().take_while(is_missing).collect();
        if !missing.is_empty() {
            DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("create"))?;
        }
        // Files that are synced in here are lost in a crash if a directory above them is.
        for made in missing {
            let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty());
            let parent = File::open(parent.unwrap_or_else(|| Path::new(".")));
            parent.and_then(|parent| parent.sync_all()).map_err(failed("sync"))?;
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut lock = options.open(path.join(LOCK)).map_err(failed("open LOCK in"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Held { path: path.into(), holder: holder(&mut lock) });
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock")(error)),
        }
        write_holder(&mut lock).map_err(failed("write LOCK in"))?;
        Ok(Self { path: path.into(), _lock: lock })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Says whether a process holds the directory, for tools that only read: nothing is written, and nothing is held
/// when this returns.
///
/// # Errors
///
/// [`Error::Held`] if a process has it, [`Error::Failed`] if that cannot be found out.
pub fn check_free(path: &Path) -> Result<(), Error> {
    let failed = |action, error| Error::Failed { action, path: path.into(), error };
    let mut lock = match File::open(path.join(LOCK)) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("open LOCK in", error)),
    };
    // Shared, so that two tools do not take each other for members; closing the file gives it back.
    match lock.try_lock_shared() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            Err(Error::Held { path: path.into(), holder: holder(&mut lock) })
        }
        Err(TryLockError::Error(error)) => Err(failed("look at LOCK in", error)),
    }
}

/// The file that carries the lock.
const LOCK: &str = "LOCK";

fn holder(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn write_holder(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { path, holder: Some(process) } => {
                write!(f, "data directory {} is in use by process {process}", path.display())
            }
            Self::Held { path, holder: None } => {
                write!(f, "data directory {} is in use by another process", path.display())
            }
            Self::Failed { action, path, error } => {
                write!(f, "cannot {action} data directory {}: {error}", path.display())
            }
        }
    }
}

impl core::error::Error for Error {}
