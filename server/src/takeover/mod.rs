//! Taking over what etcd wrote: the data directory of a member that was stopped, and files for whoever restores a
//! snapshot.
//!
//! etcd's directory is `member/snap/db`, a bbolt file, and `member/wal`, a log that may know more. Both are read and left
//! as they are; what Cairn needs is written beside them, and last of all `FORMAT`, which makes the directory Cairn's.
//! Until that is there nothing counts, so that an import which was interrupted begins anew at the next start.
//!
//! | file | what |
//! |---|---|
//! | mod.rs | etcd's directory |
//! | members.rs | its members, who are JSON |
//! | source.rs | files as the engine reads them |
//! | write.rs | a state as the first snapshot of a member |
//!
//! # Limits
//!
//! Members of Cairn and of etcd do not speak with each other, so a cluster comes as a whole. What a member of several has
//! on its disk does not tell what was committed: such a directory is refused unless its cluster has yet to begin, as it
//! has behind `etcdutl snapshot restore` (engine, `import::tail`).

mod members;
mod source;
mod write;

#[cfg(test)]
mod tests;

use core::fmt;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use cairn_engine::import::{
    self, Bump, Extent, Imported, LogReader, Refused, Replayed, Segment, Tail,
};
use cairn_engine::snapshot::Position;
use cairn_io::driver::Directory;

use crate::config::Config;
use crate::data::{self, Origin, Owner};

pub(crate) use source::{FileSource, Watch};
pub(crate) use write::{begin, finish, write_state};

/// Why something of etcd's was not taken over.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// A file cannot be used.
    Refused(PathBuf, Refused),
    /// Something is not there that etcd has in its directories.
    Missing(PathBuf),
    /// The directory is used by etcd just now.
    InUse(PathBuf),
    /// The filesystem fails.
    Io {
        /// What was done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What it says.
        error: io::Error,
    },
    /// The directory cannot be made Cairn's.
    Unusable(data::Unusable),
    /// A file is not what it was when it was written; the text says how.
    Checksum(String),
}

impl Trouble {
    pub(crate) fn io<'a>(
        action: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(io::Error) -> Self + use<'a> {
        move |error| Self::Io { action, path: path.into(), error }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(path, refused) => write!(f, "{}: {refused}", path.display()),
            Self::Missing(path) => write!(
                f,
                "{} is missing: this is no whole data directory of etcd's; restore a snapshot with 'cairn snapshot \
                 restore', or give another directory with --data-dir",
                path.display()
            ),
            Self::InUse(path) => write!(
                f,
                "{} is in use by another process: stop etcd before Cairn takes its data over",
                path.display()
            ),
            Self::Io { action, path, error } => {
                write!(f, "cannot {action} {}: {error}", path.display())
            }
            Self::Unusable(unusable) => unusable.fmt(f),
            Self::Checksum(why) => f.write_str(why),
        }
    }
}

impl core::error::Error for Trouble {}

/// Makes etcd's directory one of Cairn's, and says whose it is.
///
/// # Errors
/// If it is not whole, in use, or of a member that cannot go on alone.
pub(crate) fn take_over(config: &Config, tick: &mut dyn FnMut(u64)) -> Result<Owner, Trouble> {
    let data_dir = &config.data_dir;
    let member = data_dir.join("member");
    let path = member.join("snap").join("db");
    let log = config.wal_dir.clone().unwrap_or_else(|| member.join("wal"));
    let file = open(&path)?;
    match file.try_lock_shared() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(Trouble::InUse(path)),
        Err(TryLockError::Error(error)) => return Err(Trouble::io("lock", &path)(error)),
    }
    let bytes = file.metadata().map_err(Trouble::io("look at", &path))?.len();
    tracing::info!(
        from = %member.display(),
        bytes,
        "importing the data that etcd wrote; its files stay as they are"
    );
    let mut watch = Watch::new(bytes, tick);
    let imported = read_state(&path, &file, bytes, None, &mut watch)?;
    let loose_keys = imported.loose_keys;
    let extent = if config.force_new_cluster { Extent::Committed } else { Extent::Known };
    let refused = |refused| Trouble::Refused(log.clone(), refused);
    let mut reader = LogReader::new(segments(&log)?, imported.applied.0.0);
    let tail = Tail::read(&mut reader, imported.applied.0).map_err(refused)?;
    let replayed = import::replay(imported, tail, extent)
        .map_err(|refused| Trouble::Refused(member.clone(), refused))?;
    let unclear = || Trouble::Refused(path.clone(), Refused::MembersUnclear);
    let cluster = members::cluster(&replayed).ok_or_else(unclear)?;
    let owner = Owner {
        cluster: replayed.cluster,
        member: replayed.member,
        origin: Origin::Began(members::configured(&cluster)),
    };
    let Replayed { mut imported, entries, vote, .. } = replayed;
    imported.state.cluster = cluster;
    let (index, term) = imported.applied;
    let position = Position { index, term, vote, restarts: true, ..Position::default() };
    let store = &imported.state.store;
    let (revision, compacted, keys) = (store.revision(), store.compacted(), store.key_count());
    // What an import left behind that was interrupted is nobody's.
    let directory = Directory::new(data_dir, config.wal_dir.as_deref());
    remove_snapshots(directory.snapshots())?;
    write_state(&directory, &owner, position, &imported.state, &mut watch)?;
    data::claim(data_dir, &owner).map_err(Trouble::Unusable)?;
    if loose_keys > 0 {
        tracing::warn!(
            keys = loose_keys,
            "keys hung on leases that do not exist: as with etcd, they stay until somebody deletes them"
        );
    }
    tracing::info!(
        member = %owner.member,
        cluster = %owner.cluster,
        revision,
        compact_revision = compacted,
        keys,
        index = index.0,
        entries_from_log = entries,
        "imported the data that etcd wrote: from now on only Cairn's own files count, and {} can be removed",
        member.display()
    );
    Ok(owner)
}

/// Reads the state in a database of etcd's whose pages end before `bytes`.
pub(crate) fn read_state(
    path: &Path,
    file: &File,
    bytes: u64,
    bump: Option<Bump>,
    watch: &mut Watch<'_>,
) -> Result<Imported, Trouble> {
    let refused = |refused| Trouble::Refused(path.into(), refused);
    let mut source = FileSource::new(file, bytes, Some(watch));
    let mut file = import::File::open(&mut source).map_err(refused)?;
    import::import(&mut file, bump).map_err(refused)
}

fn open(path: &Path) -> Result<File, Trouble> {
    File::open(path).map_err(missing_or("open", path))
}

fn missing_or<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> Trouble + use<'a> {
    move |error| {
        if error.kind() == io::ErrorKind::NotFound {
            return Trouble::Missing(path.into());
        }
        Trouble::io(action, path)(error)
    }
}

/// The files of etcd's log, in order.
fn segments(log: &Path) -> Result<Vec<Segment>, Trouble> {
    let entries = fs::read_dir(log).map_err(missing_or("list", log))?;
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(Trouble::io("list", log))?.file_name();
        // What else is there is a file in the making, or one that etcd set aside.
        let numbers = name.to_str().and_then(|name| name.strip_suffix(".wal")?.split_once('-'));
        let number = |digits| u64::from_str_radix(digits, 16).ok();
        if let Some((Some(seq), Some(index))) = numbers.map(|(a, b)| (number(a), number(b))) {
            found.push((seq, index, log.join(name)));
        }
    }
    found.sort();
    if found.is_empty() {
        return Err(Trouble::Missing(log.join("0000000000000000-0000000000000000.wal")));
    }
    if let Some([(seq, ..), _]) = found.array_windows().find(|[a, b]| a.0 + 1 != b.0) {
        return Err(Trouble::Missing(log.join(format!("{:016x}-….wal", seq + 1))));
    }
    let segment = |(_, index, path): (u64, u64, PathBuf)| {
        let file = open(&path)?;
        let bytes = file.metadata().map_err(Trouble::io("look at", &path))?.len();
        let source = Box::new(FileSource::new(file, bytes, None));
        Ok(Segment { name: path.display().to_string(), index, source })
    };
    found.into_iter().map(segment).collect()
}

fn remove_snapshots(snapshots: &Path) -> Result<(), Trouble> {
    match fs::remove_dir_all(snapshots) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Trouble::io("remove", snapshots)(error))
        }
        _ => Ok(()),
    }
}
