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
    /// Hashes history up to `revision`; 0 means the latest, and before a negative one there is nothing. Costs a
    /// walk over all of history, and a revision of memory for each compacted record that does not count.
    ///
    /// Unlike etcd, which remembers the hash that each of its last ten compactions computed and, until it
    /// restarts, answers with that for exactly the revision compacted to. It names the compaction before as the
    /// compact revision: an answer that depends on more than the state.
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
        let revision = if revision == 0 { self.revision } else { revision };
        let superseded = self.superseded(revision, sweep);
        let mut hash = crc32c::crc32c(b"key");
        for record in self.records().take_while(|record| record.revision().main <= revision) {
            let at = record.revision();
            let deleted_there = at.main == self.compacted && record.is_tombstone();
            if deleted_there || superseded.contains(at) {
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

    /// The changes at or below the compact revision that do not show any more at `revision`.
    ///
    /// Where no key at all shows at `revision`, etcd filters nothing, and what its compaction left counts. So
    /// those that do not show any more at the compact revision, wherever our own sweep is.
    fn superseded(&self, revision: i64, sweep: Option<Sweep>) -> Superseded {
        if self.compacted == NEVER_COMPACTED {
            return Superseded::default();
        }
        let everything = crate::api::KeyRange::prefix(bytes::Bytes::new());
        let any_shows = self.at(revision, &everything).next().is_some();
        let until = if any_shows { revision } else { self.compacted };
        let mut superseded = Superseded::new(self, sweep, until);
        let all = superseded.look(self, usize::MAX);
        assert!(all, "no slice ends early");
        superseded
    }
}

/// The changes at or below the compact revision that do not show any more at a later one, as far as they are
/// still there: what the changes between replaced, and the deletions among these.
#[derive(Clone, Debug, Default)]
pub(crate) struct Superseded {
    found: BTreeSet<Revision>,
    /// The first change that was not looked at.
    cursor: Revision,
    /// The last revision to look at.
    until: i64,
}

impl Superseded {
    /// Finds what does not show at `until`, a slice at a time.
    pub(crate) fn new(view: &View, sweep: Option<Sweep>, until: i64) -> Self {
        // Behind the sweep nothing is left to find, except what was replaced at exactly the compact revision (M5).
        let kept = Revision::first_of(view.compacted);
        let cursor = sweep.map_or(kept, |sweep| sweep.cursor.min(kept));
        Self { found: BTreeSet::new(), cursor, until }
    }

    /// Looks at up to `changes_max` changes; whether there are no more.
    pub(crate) fn look(&mut self, view: &View, changes_max: usize) -> bool {
        let end = Revision::first_of(self.until + 1);
        let changes = view.history_from(self.cursor).take_while(|record| record.revision() < end);
        for (looked, record) in changes.enumerate() {
            if looked == changes_max {
                self.cursor = record.revision();
                return false;
            }
            let own = record.is_tombstone().then_some(record.revision());
            let gone = [Some(record.chain().prev), own].into_iter().flatten();
            self.found.extend(gone.filter(|revision| revision.main <= view.compacted));
        }
        self.cursor = end;
        true
    }

    /// Whether a change was found.
    pub(crate) fn contains(&self, revision: Revision) -> bool {
        self.found.contains(&revision)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use bytes::Bytes;

    use super::*;
    use crate::api::KeyRange;
    use crate::ids::LeaseId;
    use crate::mvcc::Store;

    /// A history of eight revisions; at the seventh no key exists.
    fn store() -> Store {
        let mut store = Store::default();
        let delete = |write: &mut crate::mvcc::store::Write<'_>, key: &'static [u8]| {
            write.delete_range(&KeyRange::single(Bytes::from_static(key)));
        };
        store.begin().put(b"a", b"1", LeaseId::NONE);
        store.begin().put(b"b", b"2", LeaseId::NONE);
        let mut write = store.begin();
        write.put(b"a", b"3", LeaseId::NONE);
        delete(&mut write, b"b");
        store.begin().put(b"c", b"x", LeaseId(7));
        delete(&mut store.begin(), b"a");
        delete(&mut store.begin(), b"c");
        store.begin().put(b"d", b"", LeaseId::NONE);
        store
    }

    /// Checks hashes wherever the sweep is.
    fn check(mut store: Store, hashes: &[(i64, Result<u32, Error>)]) {
        loop {
            for (revision, expected) in hashes {
                let found = store.hash(*revision, store.sweeping()).map(|hash| hash.hash);
                assert_eq!(found, *expected, "at {revision}, {:?}", store.sweeping());
            }
            if store.sweeping().is_none() {
                return;
            }
            store.sweep(1);
        }
    }

    /// The numbers are what etcd 3.7.3 answered after the same requests, restarted after each compaction.
    #[test]
    fn hashes_are_those_of_etcd_wherever_the_sweep_is() {
        let before = [
            (0, Ok(3_863_149_462)),
            (-1, Ok(1_084_519_789)),
            (2, Ok(2_587_454_935)),
            (3, Ok(1_827_592_406)),
            (4, Ok(789_492_798)),
            (5, Ok(1_348_588_259)),
            (6, Ok(1_319_047_700)),
            (7, Ok(815_747_605)),
            (8, Ok(3_863_149_462)),
            (9, Err(Error::FutureRev)),
        ];
        let after_4 = [
            (3, Err(Error::Compacted)),
            (4, Ok(3_184_071_396)),
            (5, Ok(3_551_722_804)),
            (6, Ok(3_932_140_862)),
            (7, Ok(1_163_158_502)),
            (8, Ok(2_311_822_715)),
            (9, Err(Error::FutureRev)),
        ];
        let after_7 = [(6, Err(Error::Compacted)), (7, Ok(1_084_519_789)), (8, Ok(4_129_219_531))];
        let after_8 = [(7, Err(Error::Compacted)), (8, Ok(4_129_219_531)), (0, Ok(4_129_219_531))];
        let mut store = store();
        check(store.clone(), &before);
        for (revision, hashes) in [(4, &after_4[..]), (7, &after_7), (8, &after_8)] {
            store.compact(revision).unwrap();
            check(store.clone(), hashes);
            store.sweep(usize::MAX);
        }
    }

    #[test]
    fn compactions_that_overtake_the_sweep_hash_like_one() {
        let whole: Vec<_> = {
            let mut store = store();
            store.compact(7).unwrap();
            store.sweep(usize::MAX);
            (7..=8).map(|revision| store.hash(revision, None).unwrap()).collect()
        };
        for slice in 1..8 {
            let mut store = store();
            store.compact(3).unwrap();
            store.sweep(slice);
            store.compact(7).unwrap();
            while let Some(sweep) = store.sweeping() {
                let found: Vec<_> =
                    (7..=8).map(|revision| store.hash(revision, Some(sweep)).unwrap()).collect();
                assert_eq!(found, whole);
                store.sweep(1);
            }
        }
    }
}
