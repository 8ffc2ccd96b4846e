//! Whose data directory this is: a file `FORMAT` in words, written once.
//!
//! A member keeps the ids that it was born with, whatever flags it is started with later. A directory that etcd wrote
//! is refused, and one of a newer format with its number; nothing is changed in either.

use core::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use cairn_engine::ids::{ClusterId, MemberId};

/// The ids of the member whose directory this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its own.
    pub member: MemberId,
}

/// Why a directory cannot be used.
#[derive(Debug)]
pub enum Unusable {
    /// etcd wrote it.
    Etcd(PathBuf),
    /// Somebody else wrote it.
    Foreign(PathBuf),
    /// A newer version wrote it.
    Newer {
        /// The directory.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// `FORMAT` does not say whose it is.
    Unclear(PathBuf),
    /// The filesystem fails.
    Io {
        /// What was done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What it says.
        error: io::Error,
    },
}

/// The format that this version writes and reads.
const FORMAT: u32 = 1;
const FILE: &str = "FORMAT";

/// Reads whose directory this is; `None`: nobody's yet.
///
/// # Errors
/// If it is not one that this version can use.
pub fn owner(directory: &Path) -> Result<Option<Owner>, Unusable> {
    let path = directory.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return unowned(directory),
        Err(error) => return Err(Unusable::Io { action: "read", path, error }),
    };
    let word = |name: &str| {
        text.lines()
            .filter_map(|line| line.split_once(' '))
            .find(|(found, _)| *found == name)
            .map(|(_, value)| value)
    };
    let id = |name: &str| word(name).and_then(|id| u64::from_str_radix(id, 16).ok());
    match (word("format").and_then(|format| format.parse().ok()), id("cluster"), id("member")) {
        (Some(FORMAT), Some(cluster), Some(member)) => {
            Ok(Some(Owner { cluster: ClusterId(cluster), member: MemberId(member) }))
        }
        (Some(format), _, _) if format > FORMAT => {
            Err(Unusable::Newer { path: directory.into(), format })
        }
        _ => Err(Unusable::Unclear(path)),
    }
}

/// A directory without `FORMAT` may hold nothing but the lock: anything else is somebody's.
fn unowned(directory: &Path) -> Result<Option<Owner>, Unusable> {
    if directory.join("member").exists() {
        return Err(Unusable::Etcd(directory.into()));
    }
    let io = |error| Unusable::Io { action: "list", path: directory.into(), error };
    for entry in fs::read_dir(directory).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        // What an interrupted first start may have left behind.
        let ours =
            ["LOCK", "FORMAT.new", "wal", "snap", "lost+found"].iter().any(|ours| name == *ours);
        if !ours {
            return Err(Unusable::Foreign(directory.into()));
        }
    }
    Ok(None)
}

/// Notes whose directory this is, durably.
///
/// # Errors
/// If the filesystem fails.
pub fn claim(directory: &Path, owner: Owner) -> Result<(), Unusable> {
    let (new, path) = (directory.join("FORMAT.new"), directory.join(FILE));
    let text = format!(
        "cairn {}\nformat {FORMAT}\ncluster {}\nmember {}\n",
        env!("CARGO_PKG_VERSION"),
        owner.cluster,
        owner.member
    );
    let write = || -> io::Result<()> {
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(|error| Unusable::Io { action: "write", path: path.clone(), error })
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Etcd(path) => write!(
                f,
                "{} is a data directory of etcd, which this version cannot take over: give another with --data-dir",
                path.display()
            ),
            Self::Foreign(path) => write!(
                f,
                "{} is not empty and has no file FORMAT: give a directory of its own with --data-dir",
                path.display()
            ),
            Self::Newer { path, format } => write!(
                f,
                "{} has format {format}, this version knows {FORMAT}: start the version that wrote it",
                path.display()
            ),
            Self::Unclear(path) => {
                write!(f, "{} does not say whose directory this is", path.display())
            }
            Self::Io { action, path, error } => {
                write!(f, "cannot {action} {}: {error}", path.display())
            }
        }
    }
}

impl core::error::Error for Unusable {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_directory_knows_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        assert_eq!(owner(path).unwrap(), None);
        let own = Owner {
            cluster: ClusterId(0xcdf8_1819_4e3a_8c32),
            member: MemberId(0x8e9e_05c5_2164_694d),
        };
        claim(path, own).unwrap();
        assert_eq!(owner(path).unwrap(), Some(own));
        let text = fs::read_to_string(path.join("FORMAT")).unwrap();
        assert!(text.contains("member 8e9e05c52164694d\n"));
    }

    #[test]
    fn other_peoples_directories_are_refused() {
        let owner_with = |prepare: fn(&Path)| {
            let directory = tempfile::tempdir().unwrap();
            prepare(directory.path());
            owner(directory.path())
        };
        let etcd = owner_with(|path| fs::create_dir(path.join("member")).unwrap());
        assert!(matches!(etcd, Err(Unusable::Etcd(_))));
        let foreign = owner_with(|path| fs::write(path.join("thesis.tex"), "").unwrap());
        assert!(matches!(foreign, Err(Unusable::Foreign(_))));
        let newer = owner_with(|path| {
            fs::write(path.join("FORMAT"), "format 2\ncluster 1\nmember 1\n").unwrap();
        });
        assert!(matches!(newer, Err(Unusable::Newer { format: 2, .. })));
        let unclear = owner_with(|path| fs::write(path.join("FORMAT"), "format 1\n").unwrap());
        assert!(matches!(unclear, Err(Unusable::Unclear(_))));
    }
}
