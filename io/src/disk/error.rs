//! What went wrong on a disk: which operation, on which file, where in it, and why.

use core::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A failed operation on a file or a directory.
#[derive(Debug)]
pub struct Error {
    /// What was done.
    pub operation: Operation,
    /// To which file or directory.
    pub path: PathBuf,
    /// At which offset in bytes, where the operation has one.
    pub offset: Option<u64>,
    /// Why it failed.
    pub cause: Cause,
}

/// An operation on a file or a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Operation {
    Create,
    Open,
    Read,
    Write,
    Sync,
    Close,
    Rename,
    Unlink,
    List,
}

/// Why an operation failed.
#[derive(Debug)]
pub enum Cause {
    /// No room: the disk or a quota is full (`ENOSPC`, `EDQUOT`), or a size limit is reached (`EFBIG`).
    NoSpace(io::Error),
    /// The medium failed (`EIO`), or is gone, or its filesystem is damaged.
    Medium(io::Error),
    /// Less was written than asked for, without a reason given.
    Short {
        /// Bytes written.
        written: usize,
        /// Bytes asked for.
        wanted: usize,
    },
    /// Anything else, such as a missing file or permission.
    Other(io::Error),
}

impl Error {
    /// An error without an offset.
    pub fn new(operation: Operation, path: &Path, error: io::Error) -> Self {
        Self { operation, path: path.into(), offset: None, cause: Cause::from(error) }
    }

    /// Whether the file or directory is not there.
    pub fn is_missing(&self) -> bool {
        matches!(&self.cause, Cause::Other(error) if error.kind() == io::ErrorKind::NotFound)
    }

    /// An error at an offset.
    pub(crate) fn at(operation: Operation, path: &Path, offset: u64, cause: Cause) -> Self {
        Self { operation, path: path.into(), offset: Some(offset), cause }
    }
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => Self::NoSpace(error),
            Some(libc::EIO | libc::ENXIO | libc::ENODEV | libc::EUCLEAN | libc::EBADMSG) => {
                Self::Medium(error)
            }
            Some(_) | None => Self::Other(error),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}", self.operation, self.path.display())?;
        if let Some(offset) = self.offset {
            write!(f, " at offset {offset}")?;
        }
        match &self.cause {
            Cause::NoSpace(error) | Cause::Medium(error) | Cause::Other(error) => {
                write!(f, ": {error}")
            }
            Cause::Short { written, wanted } => {
                write!(f, ": only {written} of {wanted} bytes were written")
            }
        }
    }
}

impl core::error::Error for Error {}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Open => "open",
            Self::Read => "read",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::Close => "close",
            Self::Rename => "rename",
            Self::Unlink => "remove",
            Self::List => "list",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_where_and_why() {
        let full = io::Error::from_raw_os_error(libc::ENOSPC);
        let error = Error::at(Operation::Write, Path::new("wal/7.wal"), 8192, full.into());
        assert!(matches!(error.cause, Cause::NoSpace(_)));
        assert_eq!(
            error.to_string(),
            "cannot write wal/7.wal at offset 8192: No space left on device (os error 28)"
        );
        let broken = io::Error::from_raw_os_error(libc::EIO);
        assert!(matches!(Cause::from(broken), Cause::Medium(_)));
    }
}
