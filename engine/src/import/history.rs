//! The key space out of etcd's bucket `key`.
//!
//! Only what etcd keeps at its compact revision is taken, wherever its own sweep was: two members that import the same
//! history get the same bytes. So up to the compact revision the newest version of each key counts, and a deletion only
//! at that very revision.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::ToString as _;

use bytes::Bytes;
use prost::Message as _;

use super::{File, Refused};
use crate::api::mvccpb::KeyValue;
use crate::ids::LeaseId;
use crate::mvcc::record::{Chain, Parts};
use crate::mvcc::{Record, Restore, Revision, Store};

/// Where a history stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) revision: i64,
    pub(super) compacted: i64,
}

/// The revision of the last entry; 0 if there is none.
pub(super) fn last_revision(file: &mut File<'_>) -> Result<i64, Refused> {
    let last = file.last(b"key")?;
    Ok(last.map(|element| revision_of(&element.key)).transpose()?.map_or(0, |(last, _)| last.main))
}

/// Reads all of history. A record at one of the revisions `detached` is taken without its lease.
pub(super) fn read(
    file: &mut File<'_>,
    standing: Standing,
    detached: &BTreeSet<Revision>,
) -> Result<Store, Refused> {
    let mut restore = Restore::new(standing.revision, standing.compacted);
    // The newest versions up to the compact revision.
    let mut compacted: BTreeMap<Bytes, Record> = BTreeMap::new();
    let mut entries = file.entries(b"key")?;
    let mut is_above = false;
    while let Some(element) = entries.next(file)? {
        let (revision, is_tombstone) = revision_of(&element.key)?;
        if element.value.is_empty() && !is_tombstone {
            // etcdutl's mark of a revision that was made higher.
            continue;
        }
        let refused = |why| entry(&element.key, why);
        let found = KeyValue::decode(element.value.clone());
        let mut found = found.map_err(|_| refused("it is no message"))?;
        if found.key.is_empty() {
            return Err(refused("it has no key"));
        }
        let makes_sense = is_tombstone
            || found.mod_revision == revision.main
                && (1..=revision.main).contains(&found.create_revision)
                && found.version > 0;
        if !makes_sense {
            return Err(refused("its revisions contradict each other"));
        }
        if is_tombstone {
            found = KeyValue { key: found.key, ..KeyValue::default() };
        } else if detached.contains(&revision) {
            found.lease = 0;
        }
        if revision.main <= standing.compacted {
            if is_tombstone && revision.main < standing.compacted {
                compacted.remove(&found.key);
            } else {
                let record = record(revision, &found, Chain::default());
                compacted.insert(Bytes::copy_from_slice(&found.key), record);
            }
            continue;
        }
        if !is_above {
            is_above = true;
            push_all(&mut restore, core::mem::take(&mut compacted));
        }
        let chain = restore.next_chain(&found.key);
        let taken = restore.push(record(revision, &found, chain));
        taken.ok_or_else(|| refused("it is out of order"))?;
    }
    push_all(&mut restore, compacted);
    Ok(restore.finish())
}

fn record(revision: Revision, found: &KeyValue, chain: Chain) -> Record {
    Record::new(&Parts {
        revision,
        key: &found.key,
        value: &found.value,
        create_revision: found.create_revision,
        version: found.version,
        lease: LeaseId(found.lease),
        chain,
    })
}

/// Takes records that are in order of their keys.
fn push_all(restore: &mut Restore, records: BTreeMap<Bytes, Record>) {
    let records = records.into_values().map(|record| (record.revision(), record));
    for record in records.collect::<BTreeMap<_, _>>().into_values() {
        restore.push(record).expect("revisions of one bucket ascend");
    }
}

/// The revision that the key of an entry names, and whether it is a deletion.
pub(super) fn revision_of(key: &[u8]) -> Result<(Revision, bool), Refused> {
    let refused = || entry(key, "its key is no revision");
    let (main, rest) = key.split_first_chunk::<8>().ok_or_else(refused)?;
    let (b"_", rest) = rest.split_at_checked(1).ok_or_else(refused)? else {
        return Err(refused());
    };
    let (sub, mark) = rest.split_first_chunk::<8>().ok_or_else(refused)?;
    let main = i64::try_from(u64::from_be_bytes(*main)).map_err(|_| refused())?;
    let sub = u32::try_from(u64::from_be_bytes(*sub)).map_err(|_| refused())?;
    let is_tombstone = match mark {
        b"" => false,
        b"t" => true,
        _ => return Err(refused()),
    };
    Ok((Revision { main, sub }, is_tombstone))
}

/// What is wrong with an entry of the bucket.
pub(super) fn entry(key: &[u8], why: &'static str) -> Refused {
    Refused::Entry { bucket: "key", key: key.escape_ascii().to_string(), why }
}
