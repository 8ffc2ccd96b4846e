//! A copy of the state in the format of etcd's own snapshots: a bbolt file, to which the server adds its SHA-256.
//!
//! `etcdutl snapshot restore` takes it, so that nobody who comes here has to stay.
//!
//! The file is made in one go from handles that do not change, a part at a time, while the member goes on. A
//! first pass over the same entries only counts pages: whoever downloads is told how much is to come, and the
//! pages at the front name the last one. Neither pass keeps more than the page it is at and an unfinished
//! branch per level.
//!
//! What a compaction has made unreadable is left out, wherever the sweep is, so that the file of a state is
//! always the same. Finding it takes a walk over the changes that the sweep has yet to look at first, and keeps a
//! revision for each record that the sweep has yet to remove.
//!
//! ```text
//! meta meta freelist │ alarm … │ auth … │ … │ key: leaves and branches, its root last │ … │ meta … │ root bucket
//! ```
//!
//! `bbolt` is the theory of pages, `tree` of trees of them; `buckets` says what etcd keeps where.

pub(crate) mod bbolt;
mod buckets;
mod tree;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;

use bytes::BytesMut;

use crate::api::etcdserverpb::Member;
use crate::auth::Auth;
use crate::convert::to_u64;
use crate::cow::CowTree;
use crate::ids::{ClusterId, MemberId};
use crate::lease::{ClusterTime, Lease};
use crate::mvcc::View;
use crate::mvcc::compact::Sweep;
use crate::raft::{Index, Term};
use crate::state_machine::Alarms;
use crate::storage::Damage;

use bbolt::{Child, FIRST_PAGE, Leaf, PAGE_BYTES, PageId, encode_head};
use buckets::{Buckets, Place};
use tree::{Branches, Pages};

/// What such a file holds. It has no place for the cluster's id, the member asked, and the time.
#[derive(Clone, Debug)]
pub struct EtcdState {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member that is asked.
    pub member: MemberId,
    /// All members.
    pub members: Vec<Member>,
    /// The version of the cluster, such as `3.7.0`.
    pub version: String,
    /// The last index whose effect is in the state, and its term.
    pub applied: (Index, Term),
    /// The key space.
    pub view: View,
    /// Its sweep under way.
    pub sweep: Option<Sweep>,
    /// The leases.
    pub leases: CowTree<Lease>,
    /// The time, to tell how long a lease has.
    pub time: ClusterTime,
    /// The alarms.
    pub alarms: Alarms,
    /// Users and roles.
    pub auth: Arc<Auth>,
}

/// The file, a part at a time: [`EtcdSnapshot::measure`] until it says how long the file is, then
/// [`EtcdSnapshot::next_part`] until it says `None`.
#[derive(Clone, Debug)]
pub struct EtcdSnapshot {
    buckets: Buckets,
    phase: Phase,
}

#[derive(Clone, Debug)]
enum Phase {
    /// The first pass counts pages.
    Measuring(Pass),
    /// The second one writes them.
    Writing {
        pass: Pass,
        /// Where it must end.
        end: PageId,
    },
}

/// A walk over all entries, a leaf at a time.
#[derive(Clone, Debug)]
struct Pass {
    pages: Pages,
    /// The bucket whose entries are next.
    bucket: usize,
    /// Where in there; `None` at its start.
    place: Option<Place>,
    /// What is above the leaves of that bucket.
    branches: Branches,
    /// The root pages of the buckets before.
    roots: Vec<PageId>,
    /// The root bucket, which is the last page.
    root: Option<PageId>,
}

impl EtcdSnapshot {
    /// The file of this state. Costs little: the work is in the other verbs.
    pub fn new(state: EtcdState) -> Self {
        let pass = Pass::new(Pages::counted(FIRST_PAGE));
        Self { buckets: Buckets::new(state), phase: Phase::Measuring(pass) }
    }

    /// Does a slice of the first pass, if that is not over yet. Once it is: the length of the file in bytes.
    pub fn measure(&mut self) -> Option<u64> {
        let pass = match &mut self.phase {
            Phase::Measuring(pass) => pass,
            Phase::Writing { end, .. } => return Some(file_bytes(*end)),
        };
        if !self.buckets.prepare(LOOKS_GOAL) {
            return None;
        }
        pass.slice(&self.buckets, usize::MAX);
        let (root, end) = (pass.root?, pass.pages.end());
        let mut head = BytesMut::new();
        encode_head(root, end, &mut head);
        let pass = Pass::new(Pages::written(FIRST_PAGE, head));
        self.phase = Phase::Writing { pass, end };
        Some(file_bytes(end))
    }

    /// The length of the file in bytes, without the checksum behind it. Costs a walk over all of history, unless
    /// [`EtcdSnapshot::measure`] has done it in slices.
    pub fn total_bytes(&mut self) -> u64 {
        loop {
            if let Some(bytes) = self.measure() {
                return bytes;
            }
        }
    }

    /// What could not be read, if anything: then none of the bytes is worth anything.
    pub fn damage(&self) -> Option<Damage> {
        self.buckets.damage()
    }

    /// The next bytes of the file, at most `bytes_max`; `None` after the last.
    ///
    /// A slice of work: where much must be skipped, a part has fewer bytes or none, and is not the last one.
    /// Measures all at once if nobody did it before.
    ///
    /// # Panics
    /// If `bytes_max` is zero.
    pub fn next_part(&mut self, bytes_max: usize) -> Option<Vec<u8>> {
        assert!(bytes_max > 0, "a part may hold something");
        self.total_bytes();
        let Phase::Writing { pass, end } = &mut self.phase else {
            unreachable!("the file was measured")
        };
        pass.slice(&self.buckets, bytes_max);
        let part = pass.pages.take(bytes_max);
        if pass.root.is_some() {
            let found_all = pass.pages.end() == *end || self.buckets.damage().is_some();
            assert!(found_all, "both passes find the same pages");
            if part.is_empty() {
                return None;
            }
        }
        Some(part)
    }
}

impl Pass {
    fn new(pages: Pages) -> Self {
        let branches = Branches::default();
        Self { pages, bucket: 0, place: None, branches, roots: Vec::new(), root: None }
    }

    /// Goes on until this many bytes wait, the slice is over, or everything is done.
    fn slice(&mut self, buckets: &Buckets, bytes_goal: usize) {
        let mut looked = 0;
        while self.root.is_none() && self.pages.waiting_bytes() < bytes_goal && looked < LOOKS_GOAL
        {
            looked += self.step(buckets);
        }
    }

    /// Does the next leaf; returns how many entries it looked at.
    fn step(&mut self, buckets: &Buckets) -> usize {
        if self.bucket == buckets.len() {
            self.root = Some(self.pages.put_leaf(&buckets.root(&self.roots)));
            return 0;
        }
        let mut leaf = Leaf::default();
        let place = self.place.unwrap_or_else(|| buckets.start(self.bucket));
        let filled = buckets.fill(self.bucket, place, &mut leaf);
        let is_last = filled.next.is_none();
        // A bucket without entries has a page all the same.
        if !leaf.is_empty() || (is_last && self.branches.is_empty()) {
            let page = self.pages.put_leaf(&leaf);
            let first_key = leaf.first_key().to_vec();
            self.branches.push(Child { first_key, page }, &mut self.pages);
        }
        if is_last {
            self.roots.push(mem::take(&mut self.branches).finish(&mut self.pages));
            self.bucket += 1;
        }
        self.place = filled.next;
        filled.looked
    }
}

fn file_bytes(end: PageId) -> u64 {
    end.0 * to_u64(PAGE_BYTES)
}

/// A slice ends when it has looked at so many entries, which takes a fraction of a millisecond.
const LOOKS_GOAL: usize = 500;

#[cfg(test)]
mod tests;
