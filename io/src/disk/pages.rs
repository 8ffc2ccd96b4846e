//! A tree file on a filesystem: written through the page cache by a thread, read through a mapping.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::Arc;

use cairn_engine::mvcc::base::SharedPages;
use cairn_engine::storage::PageSize;

use super::lane::Lane;
use super::{Error, Operation, PageFile, Result, blocking};
use crate::mmap::Mapping;

/// A tree file that is mapped. Clones are the same file.
#[derive(Clone, Debug)]
pub struct MappedFile {
    file: Arc<File>,
    path: Arc<Path>,
    map: Arc<Mapping>,
    bulk: Lane,
}

impl MappedFile {
    pub(super) fn open(path: &Path, size: PageSize, bulk: &Lane) -> Result<Self> {
        let failed = |error| Error::new(Operation::Open, path, error);
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
        let written = file.metadata().map_err(failed)?.len();
        let written = usize::try_from(written).expect("64 bits");
        let map = Mapping::new(&file, size, written).map_err(failed)?;
        Ok(Self { file: Arc::new(file), path: path.into(), map: Arc::new(map), bulk: bulk.clone() })
    }
}

impl PageFile for MappedFile {
    async fn write(&self, writes: Vec<(u64, Vec<u8>)>, sync: bool) -> Result<()> {
        let (file, path, map) =
            (Arc::clone(&self.file), Arc::clone(&self.path), Arc::clone(&self.map));
        let job = move || {
            for (offset, bytes) in writes {
                blocking::write(&file, &path, offset, &bytes)?;
                map.grow(usize::try_from(offset).expect("64 bits") + bytes.len());
            }
            if sync {
                file.sync_data().map_err(|error| Error::new(Operation::Sync, &path, error))?;
            }
            Ok(())
        };
        self.bulk.run(job).await
    }

    fn pages(&self) -> SharedPages {
        Arc::<Mapping>::clone(&self.map)
    }
}
