//! A backup in etcd's format, restored, held against the model at the moment of which it is.
//!
//! What is in the file: keys with all that hangs on them, revisions, the hash of history, users and roles, alarms, the
//! names of leases. What is not: how long a lease still has, so nothing is said about that.

use std::collections::{BTreeMap, BTreeSet};

use cairn_engine::MemberId;
use cairn_engine::api::KeyRange;
use cairn_engine::api::mvccpb::event::EventType;
use cairn_engine::import::Imported;

use super::history::{History, auth_facts};
use super::{Violation, ensure};

/// What is known of users and roles, but not since when each user is: etcd's file does not say. Users come behind whether
/// they count, and their revision.
fn without_since(mut facts: Vec<Vec<u8>>, users: usize) -> Vec<Vec<u8>> {
    for user in facts.iter_mut().skip(2).take(users) {
        let end = user.iter().rposition(|byte| *byte == b' ').unwrap_or(0);
        user.truncate(end);
    }
    facts
}

impl History {
    /// Compares what was restored of a member's backup with the model.
    ///
    /// # Errors
    /// If they differ.
    pub fn check_backup(&mut self, id: MemberId, restored: &Imported) -> Result<(), Violation> {
        let (index, state) = (restored.applied.0, &restored.state);
        ensure(index <= self.last(), "backup", || {
            format!("a backup of member {} is of {index}, which nobody has applied", id.0)
        })?;
        let moment = self.moment(index);
        let seen = (state.store.revision(), state.store.compacted());
        // A compaction at zero takes nothing away, and whoever reads the file takes it for none.
        let same = seen.0 == moment.revision && seen.1.max(0) == moment.compacted.max(0);
        ensure(same, "backup", || {
            format!("a backup of member {} at {index} is at {seen:?}, not {moment:?}", id.0)
        })?;
        let mut expected = BTreeMap::new();
        for event in &self.model.events()[..moment.events] {
            match event.kind {
                EventType::Put => drop(expected.insert(event.kv.key.clone(), event.kv.clone())),
                EventType::Delete => drop(expected.remove(&event.kv.key)),
            }
        }
        let everything = KeyRange::prefix(bytes::Bytes::new());
        let kvs = state.store.current(&everything).map(|record| record.to_key_value());
        let found: BTreeMap<_, _> = kvs.map(|kv| (kv.key.clone(), kv)).collect();
        ensure(found == expected, "backup", || {
            let differs = |key| found.get(key) != expected.get(key);
            let keys: BTreeSet<_> = found.keys().chain(expected.keys()).collect();
            let key = keys.into_iter().find(|key| differs(*key));
            let both = key.map(|key| (found.get(key), expected.get(key)));
            format!("a backup of member {} at {index} has {both:?}", id.0)
        })?;
        let auth = self.auths(index, index).next().expect("there is a first").facts();
        let users = state.auth.users().count();
        let same = without_since(auth_facts(&state.auth), users) == without_since(auth, users);
        ensure(same, "backup", || {
            format!("a backup of member {} at {index} has other users: {:?}", id.0, state.auth)
        })?;
        let hash = state.store.hash(0, state.store.sweeping());
        let hash = hash.map_err(|error| Violation::new("backup", format!("{error}")))?.hash;
        self.check_hash(id, index, hash)
    }
}
