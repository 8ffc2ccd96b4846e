//! The trees on disk, the disk left out: pages come from memory, and what is to be written is dropped or kept there.

use core::ops::Bound;

use cairn_benches::{KEYS, VALUE_BYTES, key};
use cairn_engine::storage::checkpoint::{Change, Fill, Output};
use cairn_engine::storage::db::Db;
use cairn_engine::storage::merge::Op;
use cairn_engine::storage::meta::{Facts, Owner};
use cairn_engine::storage::{PageSize, PageSource, Run, TreeId, Unreadable};
use cairn_engine::{ClusterId, MemberId, Rng};
use criterion::{BatchSize, BenchmarkId, Throughput};

const TREE: TreeId = TreeId::Keys;

/// A file in memory.
struct File(Vec<u8>);

impl PageSource for File {
    fn read(&self, run: Run) -> Result<&[u8], Unreadable> {
        let size = PageSize::DEFAULT;
        let from = usize::try_from(size.offset(run.first)).expect("64 bits");
        let pages = usize::try_from(run.pages).expect("64 bits");
        self.0.get(from..from + pages * size.bytes()).ok_or(Unreadable)
    }
}

impl File {
    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let at = usize::try_from(offset).expect("64 bits");
        self.0.resize(self.0.len().max(at + bytes.len()), 0);
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

/// Makes a checkpoint that changes these keys, and returns the bytes written.
fn apply(db: &mut Db, file: &mut File, keys: &[bytes::Bytes], fill: Fill) -> usize {
    let value = [b'x'; VALUE_BYTES];
    let mut checkpoint = db.begin(fill);
    let mut written = 0;
    let changes = keys.iter().map(|key| Change { tree: TREE, key, op: Op::Put(&value) });
    for change in changes {
        checkpoint.change(db, file, change).expect("whole pages");
    }
    checkpoint.seal(db, file, Facts::default()).expect("whole pages");
    while let Some(output) = checkpoint.poll() {
        match output {
            Output::Write { offset, bytes } => {
                written += bytes.len();
                file.write(offset, &bytes);
            }
            Output::Sync => checkpoint.synced(),
        }
    }
    db.commit(checkpoint);
    written
}

fn filled() -> (Db, File) {
    let page_size = PageSize::DEFAULT;
    let owner = Owner { uuid: [1; 16], cluster: ClusterId(1), member: MemberId(1), page_size };
    let (mut db, bytes) = Db::create(owner);
    let mut file = File(bytes);
    let keys: Vec<_> = (0..KEYS).map(key).collect();
    apply(&mut db, &mut file, &keys, Fill::Load);
    (db, file)
}

/// Some keys at random, sorted and each once.
fn random_keys(rng: &mut Rng, count: usize) -> Vec<bytes::Bytes> {
    let mut keys: Vec<_> = (0..count).map(|_| random_key(rng)).collect();
    keys.sort();
    keys.dedup();
    keys
}

fn random_key(rng: &mut Rng) -> bytes::Bytes {
    key(u32::try_from(rng.below(u64::from(KEYS))).expect("below a u32"))
}

fn main() {
    let mut criterion = cairn_benches::criterion();
    let mut rng = Rng::new(1);
    let (mut db, mut file) = filled();

    let mut group = criterion.benchmark_group("tree get");
    let keys: Vec<_> = (0..1024).map(|_| random_key(&mut rng)).collect();
    let tree = db.tree(&file, TREE);
    let mut at = 0;
    group.bench_function("random", |bencher| {
        bencher.iter(|| {
            at = (at + 1) % keys.len();
            tree.get(&keys[at]).expect("whole pages").expect("the key is there").len()
        });
    });
    group.bench_function("count of a range", |bencher| {
        bencher.iter(|| {
            at = (at + 1) % (keys.len() - 1);
            let ends = (Bound::Included(&keys[at][..]), Bound::Unbounded);
            tree.count(ends).expect("whole pages")
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group("tree scan");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("1000 keys in order", |bencher| {
        bencher.iter(|| {
            at = (at + 1) % keys.len();
            let ends = (Bound::Included(&keys[at][..]), Bound::Unbounded);
            let mut range = tree.range(ends).expect("whole pages");
            let mut bytes = 0;
            for _ in 0..1000 {
                let Some(entry) = range.pop_front().expect("whole pages") else { break };
                bytes += entry.key().len() + entry.value().expect("whole pages").len();
            }
            bytes
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group("tree checkpoint");
    for count in [100, 1000, 10_000] {
        group.throughput(Throughput::Elements(u64::try_from(count).expect("64 bits")));
        group.bench_function(BenchmarkId::new("random keys", count), |bencher| {
            bencher.iter_batched_ref(
                || random_keys(&mut rng, count),
                |keys| apply(&mut db, &mut file, keys, Fill::Merge),
                BatchSize::SmallInput,
            );
        });
    }
    group.throughput(Throughput::Elements(u64::from(KEYS)));
    group.bench_function("load", |bencher| bencher.iter(filled));
    group.finish();
    criterion.final_summary();
}
