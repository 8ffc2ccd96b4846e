//! A state as the first snapshot of a member.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use cairn_engine::snapshot::{Position, SnapshotWriter};
use cairn_engine::state_machine::StateMachine;
use cairn_io::driver::Directory;

use super::{Trouble, Watch};
use crate::data::{self, Owner};

/// Marks a directory that is not a member's yet, so that nobody takes what is there for an empty one.
///
/// # Errors
/// If the filesystem fails.
pub(crate) fn begin(directory: &Path) -> Result<(), Trouble> {
    let path = directory.join(data::RESTORING);
    let marked = File::create(&path).and_then(|file| file.sync_all());
    marked.and_then(|()| sync(directory)).map_err(Trouble::io("write", &path))
}

/// Makes a directory a member's.
///
/// # Errors
/// If the filesystem fails.
pub(crate) fn finish(directory: &Path, owner: &Owner) -> Result<(), Trouble> {
    data::claim(directory, owner).map_err(Trouble::Unusable)?;
    let path = directory.join(data::RESTORING);
    fs::remove_file(&path).and_then(|()| sync(directory)).map_err(Trouble::io("remove", &path))
}

/// Writes a state as the snapshot from which a member starts. It is whole, under its name and durable, or it is not
/// there.
///
/// # Errors
/// If the filesystem fails.
pub(crate) fn write_state(
    directory: &Directory,
    owner: &Owner,
    position: Position,
    state: &StateMachine,
    watch: &mut Watch<'_>,
) -> Result<(), Trouble> {
    let (unfinished, path) = (directory.unfinished(), directory.snapshot(position.index));
    directory.create().map_err(Trouble::io("make", directory.snapshots()))?;
    let mut writer = SnapshotWriter::new(owner.cluster, position, state);
    let mut write = || -> io::Result<()> {
        let mut file = BufWriter::new(File::create(&unfinished)?);
        while let Some(chunk) = writer.next_chunk() {
            file.write_all(&chunk)?;
            watch.add(0);
        }
        file.into_inner()?.sync_all()?;
        fs::rename(&unfinished, &path)?;
        sync(directory.snapshots())?;
        directory.snapshots().parent().map_or(Ok(()), sync)
    };
    write().map_err(Trouble::io("write", &path))
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
