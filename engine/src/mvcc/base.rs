//! The newest checkpoint, under the layers: what is on disk, as records.
//!
//! # Damage
//!
//! A page may turn out to be damaged when it is needed. Whoever reads a key space cannot go on then: an answer that
//! leaves something out is wrong, and what a member would do to its state is not what the others do. So nothing
//! here returns an error that everybody has to hand on. What could not be read counts as absent, the first damage is
//! remembered ([`Base::damage`]), and **whoever gives out what was read looks there first**: the replica and the shards
//! before each output. Then the member stops, and nothing wrong has left it.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::iter::Peekable;
use core::ops::Bound;
use core::sync::atomic::{AtomicU64, Ordering};

use super::cell::{self, Version};
use super::{Record, Revision};
use crate::convert::to_usize;
use crate::ids::LeaseId;
use crate::storage::cursor::Range;
use crate::storage::meta::Meta;
use crate::storage::pages::{Met, Pages};
use crate::storage::tree::Tree;
use crate::storage::{Damage, PageId, PageSource, TreeId, Why};

/// Pages that several cores read.
pub type SharedPages = Arc<dyn PageSource + Send + Sync>;

impl fmt::Debug for dyn PageSource + Send + Sync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("pages")
    }
}

type Ends<'k> = (Bound<&'k [u8]>, Bound<&'k [u8]>);

/// A checkpoint that is read. Whoever made it holds its pages for as long as anybody has this.
pub struct Base {
    source: SharedPages,
    met: Met,
    meta: Meta,
    damage: FirstDamage,
}

/// The first damage that anybody met in the files of a member: its page, and behind it what is wrong; 0: none was met.
/// Clones share it: whoever reads an old checkpoint tells those who read a newer one.
#[derive(Clone, Debug, Default)]
pub struct FirstDamage(Arc<AtomicU64>);

impl Base {
    /// The checkpoint of this superblock, whose pages are held.
    pub fn new(source: SharedPages, meta: Meta, damage: FirstDamage) -> Self {
        Self { source, met: Met::new(meta.end.0), meta, damage }
    }

    /// Where damage is noted, for the checkpoints after this one.
    pub fn first_damage(&self) -> FirstDamage {
        self.damage.clone()
    }

    /// Its superblock.
    pub const fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The first damage that was met, if any: then nothing that was read may be given out.
    pub fn damage(&self) -> Option<Damage> {
        let noted = self.damage.0.load(Ordering::Relaxed);
        let why = WHYS.get(to_usize(noted & 0xff).checked_sub(1)?)?;
        Some(Damage { page: PageId(noted >> 8), why: *why })
    }

    /// A key that exists.
    pub(super) fn key(&self, key: &[u8]) -> Option<Record> {
        self.version(TreeId::Keys, key)
    }

    /// The tombstone of a key that does not.
    pub(super) fn grave(&self, key: &[u8]) -> Option<Record> {
        self.version(TreeId::Graves, key)
    }

    /// A change.
    pub(super) fn record(&self, revision: Revision) -> Option<Record> {
        let tree = self.tree(TreeId::History);
        let cell = self.read(tree.get(&cell::history_key(revision)))??;
        self.whole(TreeId::History, cell::decode_record(revision, cell))
    }

    /// How many keys within bounds exist. Two descents.
    pub(super) fn count(&self, ends: Ends<'_>) -> usize {
        self.read(self.tree(TreeId::Keys).count(ends)).map_or(0, |sums| to_usize(sums.count))
    }

    /// The newest records of the keys within bounds, in order: of those that exist, and of those that do not any more if
    /// they are wanted.
    pub(super) fn entries(&self, ends: Ends<'_>, with_graves: bool) -> Entries<'_> {
        let walk = |id| {
            let range = self.read(self.tree(id).range(ends));
            Versions { base: self, id, range }.peekable()
        };
        Entries { keys: walk(TreeId::Keys), graves: with_graves.then(|| walk(TreeId::Graves)) }
    }

    /// History from a revision on, in order.
    pub(super) fn history(&self, from: Revision) -> History<'_> {
        let from = cell::history_key(from);
        let ends = (Bound::Included(&from[..]), Bound::Unbounded);
        History { base: self, range: self.read(self.tree(TreeId::History).range(ends)) }
    }

    /// Which keys hang on which leases.
    pub fn leased(&self) -> Vec<(LeaseId, Vec<u8>)> {
        let everything = (Bound::Unbounded, Bound::Unbounded);
        let mut range = self.read(self.tree(TreeId::Leased).range(everything));
        let mut leased = Vec::new();
        while let Some(entry) =
            range.as_mut().and_then(|range| self.read(range.pop_front())).flatten()
        {
            let Some((lease, key)) = entry.key().split_first_chunk::<8>() else {
                self.note(self.contradiction(TreeId::Leased));
                break;
            };
            leased.push((LeaseId(i64::from_be_bytes(*lease)), key.to_vec()));
        }
        leased
    }

    fn tree(&self, id: TreeId) -> Tree<'_> {
        let pages = Pages::new(&*self.source, &self.met, self.meta.owner.page_size);
        Tree::new(pages, id, self.meta.root(id))
    }

    fn version(&self, id: TreeId, key: &[u8]) -> Option<Record> {
        let cell = self.read(self.tree(id).get(key))??;
        self.resolve(id, key, cell)
    }

    /// The record that a cell of K or D stands for.
    fn resolve(&self, id: TreeId, key: &[u8], cell: &[u8]) -> Option<Record> {
        let record = match self.whole(id, cell::decode_version(key, cell))? {
            Version::Whole(record) => Some(record),
            // It is in R (M3), and it is this key's.
            Version::Elsewhere(revision) => self.record(revision).filter(|it| it.key() == key),
        };
        self.whole(id, record)
    }

    /// What was read, unless a page on the way is damaged.
    fn read<T>(&self, result: Result<T, Damage>) -> Option<T> {
        result.map_err(|damage| self.note(damage)).ok()
    }

    /// What a cell says, unless it contradicts itself or another tree.
    fn whole<T>(&self, id: TreeId, decoded: Option<T>) -> Option<T> {
        if decoded.is_none() {
            self.note(self.contradiction(id));
        }
        decoded
    }

    fn contradiction(&self, id: TreeId) -> Damage {
        Damage { page: self.meta.root(id).child.page, why: Why::Cell }
    }

    /// Remembers a damage, if it is the first.
    fn note(&self, damage: Damage) {
        let why = WHYS.iter().position(|why| *why == damage.why).expect("all are named");
        let noted = damage.page.0 << 8 | crate::convert::to_u64(why + 1);
        // Whichever core comes first: one is enough to stop.
        self.damage.0.compare_exchange(0, noted, Ordering::Relaxed, Ordering::Relaxed).ok();
    }
}

const WHYS: [Why; 9] = [
    Why::Unreadable,
    Why::Checksum,
    Why::Identity,
    Why::Layout,
    Why::Cell,
    Why::Order,
    Why::Sums,
    Why::Reference,
    Why::Map,
];

impl fmt::Debug for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Base").field("seq", &self.meta.seq).finish_non_exhaustive()
    }
}

/// Walks the newest records of keys; made by [`Base::entries`].
pub(super) struct Entries<'a> {
    keys: Peekable<Versions<'a>>,
    graves: Option<Peekable<Versions<'a>>>,
}

impl Iterator for Entries<'_> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        let Some(graves) = &mut self.graves else { return self.keys.next() };
        match (self.keys.peek(), graves.peek()) {
            (Some(key), Some(grave)) if grave.key() < key.key() => graves.next(),
            (None, _) => graves.next(),
            (Some(_), _) => self.keys.next(),
        }
    }
}

/// Walks one tree whose keys are the users'.
struct Versions<'a> {
    base: &'a Base,
    id: TreeId,
    /// None: it could not be read.
    range: Option<Range<'a>>,
}

impl Iterator for Versions<'_> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        let Self { base, id, range } = self;
        let entry = base.read(range.as_mut()?.pop_front())??;
        base.resolve(*id, entry.key(), base.read(entry.value())?)
    }
}

/// Walks history; made by [`Base::history`].
pub(super) struct History<'a> {
    base: &'a Base,
    range: Option<Range<'a>>,
}

impl Iterator for History<'_> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        let Self { base, range } = self;
        let entry = base.read(range.as_mut()?.pop_front())??;
        let cell = base.read(entry.value())?;
        let record =
            cell::revision_of(entry.key()).and_then(|revision| cell::decode_record(revision, cell));
        base.whole(TreeId::History, record)
    }
}
