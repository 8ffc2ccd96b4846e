//! `HashKV`: a checksum of history that two members, and etcd, agree on.
//!
//! CRC-32C over the name of etcd's bucket and then, in order of revision, each change as etcd's storage holds
//! it: the revision's 17 bytes, `t` behind them for a tombstone, and the message. What a compaction would have
//! removed does not count, whether it was swept or not, so that members need not sweep in step.

use alloc::collections::BTreeSet;

use super::compact::Sweep;
use super::view::NEVER_COMPACTED;
use super::{Revision, View};
use crate::api::Error;

/// A checksum of history and what it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvHash {
    /// The checksum.
    pub hash: u32,
    /// The compact revision at the time.
    pub compacted: i64,
    /// The revision up to which history counts.
    pub revision: i64,
}

impl View {
    /// Hashes history up to `revision`; 0 means the latest. Costs a walk over all of history.
    ///
    /// # Errors
    /// If the revision was compacted or lies in the future.
    pub fn hash(&self, revision: i64, sweep: Option<Sweep>) -> Result<KvHash, Error> {
        if revision > 0 && revision < self.compacted {
            return Err(Error::Compacted);
        }
        if revision > self.revision {
            return Err(Error::FutureRev);
        }
        let revision = if revision <= 0 { self.revision } else { revision };
        let superseded = self.superseded(revision, sweep);
        let mut hash = crc32c::crc32c(b"key");
        for record in self.records().take_while(|record| record.revision().main <= revision) {
            let at = record.revision();
            if at.main <= self.compacted && superseded.contains(&at) {
                continue;
            }
            if at.main == self.compacted && record.is_tombstone() {
                continue;
            }
            hash = crc32c::crc32c_append(hash, &at.to_bucket_key());
            if record.is_tombstone() {
                hash = crc32c::crc32c_append(hash, b"t");
            }
            hash = crc32c::crc32c_append(hash, record.stored_message());
        }
        Ok(KvHash { hash, compacted: self.compacted, revision })
    }

    /// The changes at or below the compact revision that do not count: those that do not show any more at
    /// `revision`. Where no key at all shows, etcd counts whatever its compaction has left.
    fn superseded(&self, revision: i64, sweep: Option<Sweep>) -> BTreeSet<Revision> {
        let mut superseded = BTreeSet::new();
        if self.compacted == NEVER_COMPACTED {
            return superseded;
        }
        let everything = crate::api::KeyRange::prefix(bytes::Bytes::new());
        let shows = self.at(revision, &everything).next().is_some();
        let last = if shows { revision } else { self.compacted };
        // What was replaced at exactly the compact revision is still there, behind the sweep, too (M5).
        let last_kept = Revision::first_of(self.compacted);
        let from = sweep.map_or(last_kept, |sweep| sweep.cursor.min(last_kept));
        for record in self.history_from(from).take_while(|r| r.revision().main <= last) {
            superseded.insert(record.chain().prev);
            if record.is_tombstone() {
                superseded.insert(record.revision());
            }
        }
        superseded
    }
}
