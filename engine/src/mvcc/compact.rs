//! Compaction: history below a revision is forgotten at once, and swept later, in slices.
//!
//! What readers see changes the moment the compact revision moves. The records that nobody can read any more
//! are found by going once over the changes since the last compaction: each change at or below the compact
//! revision makes the record that it replaced unreadable, and so is a tombstone below it. The work follows
//! what is newly compacted, never the size of the store. All changes of the compact revision itself stay until
//! the next compaction (M5).

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::layer::{Name, Over};
use super::record::ByKey;
use super::{Record, Revision, Store};
use crate::api::Error;

/// A sweep under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sweep {
    /// The first change that was not looked at.
    pub cursor: Revision,
    /// The compact revision: what to sweep up to.
    pub end: i64,
}

impl Store {
    /// Forgets history below `revision`; [`Store::sweep`] then frees it.
    ///
    /// # Errors
    /// If that was compacted already, or lies in the future.
    pub fn compact(&mut self, revision: i64) -> Result<(), Error> {
        if revision <= self.view.compacted {
            return Err(Error::Compacted);
        }
        if revision > self.view.revision {
            return Err(Error::FutureRev);
        }
        // The changes of exactly the last compact revision stayed (M5): begin with them again, even if the last
        // sweep is not over but already behind them.
        let kept = Revision::first_of(self.view.compacted);
        let cursor = self.sweep.map_or(kept, |sweep| sweep.cursor.min(kept));
        self.view.compacted = revision;
        self.sweep = Some(Sweep { cursor, end: revision });
        Ok(())
    }

    /// The sweep under way, if any.
    pub fn sweeping(&self) -> Option<Sweep> {
        self.sweep
    }

    /// Goes on with a sweep that a snapshot recorded.
    pub fn resume_sweep(&mut self, sweep: Option<Sweep>) {
        self.sweep = sweep;
    }

    /// Looks at up to `changes_max` changes and removes what they made unreadable; returns how many records
    /// went. The sweep is over when [`Store::sweeping`] says so.
    ///
    /// # Panics
    /// If `changes_max` is zero: that would go on for ever.
    pub fn sweep(&mut self, changes_max: usize) -> usize {
        assert!(changes_max > 0, "a slice holds something");
        let Some(sweep) = self.sweep else { return 0 };
        let end = Revision::first_of(sweep.end + 1);
        let slice: Vec<Record> = self
            .view
            .history_from(sweep.cursor)
            .take_while(|record| record.revision() < end)
            .take(changes_max)
            .collect();
        let mut removed = 0;
        for record in &slice {
            let replaced = record.chain().prev;
            let buried = record.is_tombstone().then_some(record.revision());
            for gone in [Some(replaced), buried].into_iter().flatten() {
                if gone.main < sweep.end {
                    removed += usize::from(self.remove(gone));
                }
            }
        }
        self.sweep = match slice.last() {
            Some(last) if slice.len() == changes_max => {
                let after = Revision { sub: last.revision().sub + 1, ..last.revision() };
                Some(Sweep { cursor: after, ..sweep })
            }
            _ => None,
        };
        removed
    }

    /// Removes a record from history, and from the graves if it is there.
    fn remove(&mut self, revision: Revision) -> bool {
        let view = &mut self.view;
        let record = match view.top.history.remove(&revision) {
            Some(item) => item.record,
            None if view.over() == Over::Nothing => return false,
            None => {
                let Some(record) = view.record(revision) else { return false };
                view.top.swept.insert(revision);
                record
            }
        };
        view.bytes -= record.bytes();
        if !record.is_tombstone() {
            return true;
        }
        let key = record.key();
        if view.top.graves.get(key).is_some_and(|ByKey(grave)| *grave == record) {
            // While there is a key below, something has to hide it.
            if view.top.shadows.get(key).is_none() {
                view.top.graves.remove(key);
            }
        } else if view.over() == Over::Something
            && view.under_top(key).is_some_and(|below| below == record)
        {
            view.top.opened.insert(Name(Arc::from(key)));
        }
        true
    }
}
