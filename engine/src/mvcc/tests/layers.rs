//! A key space in memory, and the same one over checkpoints on a medium: nobody can tell them apart.

use alloc::sync::Arc;

use super::*;
use crate::convert::{to_u64, to_usize};
use crate::ids::{ClusterId, MemberId};
use crate::mvcc::base::{Base, FirstDamage};
use crate::mvcc::batch::Batch;
use crate::mvcc::layer::Layer;
use crate::rng::Rng;
use crate::storage::checkpoint::{Checkpoint, Fill, Output};
use crate::storage::db::Db;
use crate::storage::meta::{Facts, Owner, SweepMark};
use crate::storage::{PageSize, PageSource, Run, Unreadable};

const PAGE_BYTES: u32 = 512;

#[derive(Clone)]
struct File(Vec<u8>);

impl PageSource for File {
    fn read(&self, run: Run) -> Result<&[u8], Unreadable> {
        let page = to_u64(to_usize(u64::from(PAGE_BYTES)));
        let from = to_usize(run.first.0 * page);
        self.0.get(from..from + to_usize(u64::from(run.pages) * page)).ok_or(Unreadable)
    }
}

/// A store with a file under it.
struct Disk {
    store: Store,
    db: Db,
    file: File,
    under_way: Option<UnderWay>,
}

/// A checkpoint that is being made, and what the store stood at when it began.
struct UnderWay {
    batch: Batch,
    checkpoint: Checkpoint,
    facts: Facts,
    bytes: u64,
}

impl Disk {
    fn new() -> Self {
        let page_size = PageSize::new(PAGE_BYTES).unwrap();
        let uuid = *b"layers of a test";
        let owner = Owner { uuid, cluster: ClusterId(1), member: MemberId(2), page_size };
        let (db, bytes) = Db::create(owner);
        Self { store: Store::default(), db, file: File(bytes), under_way: None }
    }

    fn begin(&mut self) {
        let view = self.store.view();
        let sweep = self.store.sweeping().map_or_else(SweepMark::default, |sweep| SweepMark {
            main: sweep.cursor.main,
            sub: i64::from(sweep.cursor.sub),
            end: sweep.end,
        });
        let facts = Facts {
            revision: view.revision(),
            compacted: view.compacted(),
            sweep,
            ..Facts::default()
        };
        let layer: Arc<Layer> = self.store.freeze();
        let checkpoint = self.db.begin(Fill::Merge);
        let bytes = view.bytes();
        self.under_way = Some(UnderWay { batch: Batch::new(layer), checkpoint, facts, bytes });
    }

    /// Goes on with the checkpoint by a slice; the facts and bytes that it stands for when it has ended.
    fn go_on(&mut self, entries: usize) -> Option<(Facts, u64)> {
        let UnderWay { batch, checkpoint, .. } = self.under_way.as_mut()?;
        if let Some(changes) = batch.slice(entries) {
            for change in &changes {
                checkpoint.change(&mut self.db, &self.file, change.as_change()).unwrap();
            }
            return None;
        }
        let UnderWay { mut checkpoint, facts, bytes, .. } = self.under_way.take().unwrap();
        checkpoint.seal(&mut self.db, &self.file, facts).unwrap();
        while let Some(output) = checkpoint.poll() {
            match output {
                Output::Write { offset, bytes } => {
                    let at = to_usize(offset);
                    let end = at + bytes.len();
                    self.file.0.resize(self.file.0.len().max(end), 0);
                    self.file.0[at..end].copy_from_slice(&bytes);
                }
                Output::Sync => checkpoint.synced(),
            }
        }
        self.db.commit(checkpoint);
        self.store.rebase(self.base());
        Some((facts, bytes))
    }

    /// The newest checkpoint, on a medium of its own.
    fn base(&self) -> Arc<Base> {
        let pages = Arc::new(self.file.clone());
        Arc::new(Base::new(pages, *self.db.meta(), FirstDamage::default()))
    }
}

/// A request that changes something, to be made of both.
#[derive(Clone, Debug)]
enum Request {
    Put {
        key: Vec<u8>,
        value: Vec<u8>,
        lease: LeaseId,
    },
    Delete {
        from: Vec<u8>,
        to: Vec<u8>,
    },
    /// Deletes a key and writes it anew, twice, in one request.
    Again {
        key: Vec<u8>,
    },
    Compact {
        revision: i64,
    },
    Sweep {
        changes: usize,
    },
}

/// A small number, from zero on.
fn small<T: TryFrom<u64, Error: core::fmt::Debug>>(rng: &mut Rng, below: u64) -> T {
    T::try_from(rng.below(below)).unwrap()
}

fn any_key(rng: &mut Rng) -> Vec<u8> {
    let mut key = vec![b'a' + small::<u8>(rng, 3), b'a' + small::<u8>(rng, 12)];
    if rng.below(8) == 0 {
        key.extend_from_slice(&[b'x'; 90]);
    }
    key
}

fn any_request(rng: &mut Rng, store: &Store) -> Request {
    match rng.below(20) {
        0..10 => {
            let long = [0, 5, 127, 128, 129, 400][to_usize(rng.below(6))];
            let lease = LeaseId(if rng.below(3) == 0 { small::<i64>(rng, 4) - 2 } else { 0 });
            Request::Put { key: any_key(rng), value: vec![small(rng, 255); long], lease }
        }
        10..13 => {
            let from = any_key(rng);
            Request::Delete { from, to: Vec::new() }
        }
        13 => Request::Delete { from: any_key(rng), to: any_key(rng) },
        14 | 15 => Request::Again { key: any_key(rng) },
        16 => {
            let back: i64 = small(rng, 30);
            Request::Compact { revision: (store.revision() - back).max(1) }
        }
        _ => Request::Sweep { changes: 1 + to_usize(rng.below(5)) },
    }
}

fn run(store: &mut Store, request: &Request) -> String {
    match request {
        Request::Put { key, value, lease } => {
            let mut write = store.begin();
            let before = write.put(key, value, *lease);
            format!("{before:?} {:?}", write.finish())
        }
        Request::Delete { from, to } => {
            let range = KeyRange::new(Bytes::from(from.clone()), Bytes::from(to.clone()));
            let mut write = store.begin();
            let gone = write.delete_range(&range);
            format!("{gone:?} {:?}", write.finish())
        }
        Request::Again { key } => {
            let range = KeyRange::single(Bytes::from(key.clone()));
            let mut write = store.begin();
            for value in [b"1", b"2"] {
                drop(write.delete_range(&range));
                drop(write.put(key, value, LeaseId::NONE));
            }
            format!("{:?}", write.finish())
        }
        Request::Compact { revision } => format!("{:?}", store.compact(*revision)),
        Request::Sweep { changes } => format!("{} {:?}", store.sweep(*changes), store.sweeping()),
    }
}

fn all(records: impl Iterator<Item = Record>) -> Vec<Record> {
    records.collect()
}

/// Whatever can be asked of a key space, both answer alike.
fn compare(plain: &Store, layered: &Store, rng: &mut Rng) {
    layered.check();
    assert_eq!(layered.damage(), None);
    assert_eq!(layered.revision(), plain.revision());
    assert_eq!(layered.bytes(), plain.bytes());
    assert_eq!(all(layered.records()), all(plain.records()));
    assert_eq!(layered.key_count(), plain.key_count());
    for _ in 0..4 {
        let (from, to) = (any_key(rng), any_key(rng));
        let range = KeyRange::new(Bytes::from(from.clone()), Bytes::from(to));
        assert_eq!(layered.count(&range), plain.count(&range));
        assert_eq!(all(layered.current(&range)), all(plain.current(&range)));
        assert_eq!(layered.get(&from), plain.get(&from));
        let least = plain.compacted().max(1);
        let readable = u64::try_from(plain.revision() - least + 1).unwrap();
        let revision = least + small::<i64>(rng, readable);
        assert_eq!(all(layered.at(revision, &range)), all(plain.at(revision, &range)));
        assert_eq!(layered.changes_of(revision), plain.changes_of(revision));
        for record in plain.changes_of(revision) {
            assert_eq!(layered.record(record.revision()), Some(record.clone()));
            assert_eq!(layered.before(&record), plain.before(&record));
        }
        assert_eq!(layered.sweeping(), plain.sweeping());
        assert_eq!(
            all(layered.at(revision, &everything())),
            all(plain.at(revision, &everything()))
        );
        let hash = |store: &Store| store.hash(revision, store.sweeping());
        assert_eq!(hash(layered), hash(plain));
    }
}

/// The keys that hang on leases, by lease.
fn leased(store: &Store) -> Vec<(LeaseId, Vec<u8>)> {
    let mut leased: Vec<_> = store
        .current(&everything())
        .filter(|record| record.lease().is_some())
        .map(|record| (record.lease(), record.key().to_vec()))
        .collect();
    leased.sort_by_key(|(lease, key)| (lease.0.cast_unsigned(), key.clone()));
    leased
}

fn walk(seed: u64, steps: usize) {
    let mut rng = Rng::new(seed);
    let mut plain = Store::default();
    let mut disk = Disk::new();
    // What has happened since the checkpoint under way began, and the plain store at that moment.
    let mut since: Vec<Request> = Vec::new();
    let mut frozen = plain.clone();
    for _ in 0..steps {
        let request = any_request(&mut rng, &plain);
        assert_eq!(run(&mut disk.store, &request), run(&mut plain, &request), "{request:?}");
        since.push(request);
        compare(&plain, &disk.store, &mut rng);
        if disk.under_way.is_none() {
            if rng.below(8) == 0 {
                disk.begin();
                since.clear();
                frozen = plain.clone();
            }
        } else if let Some((facts, bytes)) = disk.go_on(1 + to_usize(rng.below(20))) {
            // A restart finds the checkpoint, and does again what came after it.
            let base = disk.base();
            assert_eq!(base.leased(), leased(&frozen));
            let SweepMark { main, sub, end } = facts.sweep;
            let cursor = Revision { main, sub: u32::try_from(sub).unwrap() };
            let sweep = (end >= 0).then_some(Sweep { cursor, end });
            let mut restarted = Store::on(base, sweep, bytes);
            compare(&frozen, &restarted, &mut rng);
            for request in &since {
                run(&mut restarted, request);
            }
            compare(&plain, &restarted, &mut rng);
            compare(&plain, &disk.store, &mut rng);
        }
    }
}

#[test]
fn over_checkpoints_a_key_space_is_as_it_is_in_memory() {
    for seed in 0..40 {
        walk(seed, 250);
    }
}

/// What cannot be read is not made up: it is missing, and the damage says so.
#[test]
fn damage_is_remembered_by_whoever_meets_it() {
    let mut disk = Disk::new();
    for number in 0..200 {
        put(&mut disk.store, &format!("key{number:03}"), &"v".repeat(200));
    }
    disk.begin();
    while disk.go_on(50).is_none() {}
    let good = disk.file.clone();
    let used: Vec<u64> = (0..to_u64(good.0.len()) / u64::from(PAGE_BYTES))
        .filter(|page| *page >= 128 && disk.db.space().current().contains(*page))
        .collect();
    let mut met = 0;
    for page in used {
        disk.file = good.clone();
        disk.file.0[to_usize(page * u64::from(PAGE_BYTES)) + 40] ^= 1;
        let store = Store::on(disk.base(), None, disk.store.bytes());
        let records = all(store.current(&everything())).len() + all(store.records()).len();
        let damage = store.damage();
        assert_eq!(damage.is_none(), records == 400, "page {page}");
        met += usize::from(damage.is_some_and(|damage| damage.page.0 == page));
    }
    assert!(met > 100, "most pages are keys and history: {met}");
}
