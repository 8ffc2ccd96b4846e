//! Snapshot files: written in sequence under a temporary name, then named, then the old ones removed.

use cairn_engine::event::SnapshotPart;
use cairn_engine::raft::Index;

use super::boot::Directory;
use crate::disk::{self, Disk, FileStream};
use crate::runtime::Runtime;

/// The snapshots of a member. One part at a time.
pub(super) struct SnapshotFiles<R: Runtime> {
    disk: R::Disk,
    directory: Directory,
    /// Those that are there, ascending.
    finished: Vec<Index>,
    unfinished: Option<<R::Disk as Disk>::Stream>,
}

impl<R: Runtime> SnapshotFiles<R> {
    pub(super) fn new(disk: R::Disk, directory: Directory, finished: Vec<Index>) -> Self {
        Self { disk, directory, finished, unfinished: None }
    }

    /// Takes a part; after the last, the snapshot is durable under its name and those before `keep_from` are gone.
    pub(super) async fn write(&mut self, part: SnapshotPart) -> disk::Result<()> {
        let unfinished = self.directory.unfinished();
        if part.offset == 0 {
            self.unfinished = Some(self.disk.create_stream(&unfinished).await?);
        }
        let stream = self.unfinished.as_mut().expect("a snapshot begins at its beginning");
        stream.append(part.bytes).await?;
        if !part.last {
            return Ok(());
        }
        let stream = self.unfinished.take().expect("just written to");
        stream.finish().await?;
        self.disk.rename(&unfinished, &self.directory.snapshot(part.index)).await?;
        self.disk.sync_directory(self.directory.snapshots()).await?;
        self.finished.push(part.index);
        let (keep, remove): (Vec<_>, Vec<_>) =
            self.finished.drain(..).partition(|index| *index >= part.keep_from);
        self.finished = keep;
        for index in remove {
            self.disk.unlink(&self.directory.snapshot(index)).await?;
        }
        Ok(())
    }
}
