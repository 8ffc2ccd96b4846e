//! Sweeping after a compaction, a slice at a time, and who waits for its end.

use alloc::vec::Vec;

use crate::ids::RequestId;
use crate::mvcc::Store;

#[derive(Debug, Default)]
pub(super) struct Compactor {
    waiting: Vec<RequestId>,
    removed: u64,
}

/// A compaction that is swept.
pub(super) struct Finished {
    pub(super) revision: i64,
    pub(super) removed: u64,
    /// Those who wanted to wait for it.
    pub(super) waiting: Vec<RequestId>,
}

impl Compactor {
    /// Answers a request when what it compacted is gone.
    pub(super) fn wait(&mut self, id: RequestId) {
        self.waiting.push(id);
    }

    /// Another state took the place of the one that was swept: who waits, waits for what that one sweeps.
    pub(super) fn forget(&mut self) {
        self.removed = 0;
    }

    /// Sweeps a slice; what came to its end.
    pub(super) fn sweep(&mut self, store: &mut Store, changes_max: usize) -> Option<Finished> {
        let revision = store.sweeping()?.end;
        self.removed += crate::convert::to_u64(store.sweep(changes_max));
        if store.sweeping().is_some() {
            return None;
        }
        let waiting = core::mem::take(&mut self.waiting);
        Some(Finished { revision, removed: core::mem::take(&mut self.removed), waiting })
    }
}
