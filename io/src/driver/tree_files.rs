//! Tree files: made under a temporary name, then named; written to a part at a time.

use std::collections::BTreeMap;

use cairn_engine::event::TreeWrite;
use cairn_engine::mvcc::base::SharedPages;
use cairn_engine::storage::PageSize;
use cairn_engine::tree_file::TreeFileId;

use super::boot::Directory;
use crate::disk::{self, Disk, FileStream, PageFile};
use crate::runtime::Runtime;

/// The tree files of a member. One write at a time.
pub(super) struct TreeFiles<R: Runtime> {
    disk: R::Disk,
    directory: Directory,
    page_size: PageSize,
    open: BTreeMap<TreeFileId, <R::Disk as Disk>::Pages>,
}

impl<R: Runtime> TreeFiles<R> {
    /// Those that are `open`; new ones will have pages of this size.
    pub(super) fn new(
        disk: R::Disk,
        directory: Directory,
        page_size: PageSize,
        open: BTreeMap<TreeFileId, <R::Disk as Disk>::Pages>,
    ) -> Self {
        Self { disk, directory, page_size, open }
    }

    /// Carries out a write; the pages of its file then. The first write to a file makes it.
    pub(super) async fn write(&mut self, write: TreeWrite) -> disk::Result<SharedPages> {
        let TreeWrite { file, writes, sync } = write;
        if let Some(open) = self.open.get(&file) {
            open.write(writes, sync).await?;
            return Ok(open.pages());
        }
        let (unfinished, path) = (self.directory.unfinished_tree(), self.directory.tree(file));
        let mut stream = self.disk.create_stream(&unfinished).await?;
        for (_, bytes) in writes {
            stream.append(bytes).await?;
        }
        stream.finish().await?;
        self.disk.rename(&unfinished, &path).await?;
        self.disk.sync_directory(self.directory.trees()).await?;
        let made = self.disk.open_pages(&path, self.page_size)?;
        let pages = made.pages();
        self.open.insert(file, made);
        Ok(pages)
    }

    /// Gives a file a name under which no start believes it.
    pub(super) async fn condemn(&mut self, id: TreeFileId) -> disk::Result<()> {
        let (path, condemned) = (self.directory.tree(id), self.directory.condemned_tree(id));
        self.disk.rename(&path, &condemned).await?;
        self.disk.sync_directory(self.directory.trees()).await
    }

    /// Removes a file, condemned or not. Who reads its pages still can.
    pub(super) async fn remove(&mut self, id: TreeFileId) -> disk::Result<()> {
        self.open.remove(&id);
        match self.disk.unlink(&self.directory.tree(id)).await {
            Err(error) if error.is_missing() => {
                self.disk.unlink(&self.directory.condemned_tree(id)).await
            }
            removed => removed,
        }
    }
}
