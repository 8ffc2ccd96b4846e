//! The trees against maps in memory, on a medium that may crash and rot.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use super::check::{Level, check};
use super::checkpoint::{Change, Checkpoint, Fill, Output, Progress};
use super::db::Db;
use super::merge::Op;
use super::meta::{Facts, Owner, SUPERBLOCKS_BYTES};
use super::*;
use crate::ids::{ClusterId, MemberId};
use crate::raft::Index;
use crate::rng::Rng;

mod crash;
mod damage;
mod golden;
mod model;
mod space;

const SMALL: PageSize = PageSize(512);

/// A file in memory.
#[derive(Clone, PartialEq, Eq)]
struct File {
    bytes: Vec<u8>,
    size: PageSize,
}

impl PageSource for File {
    fn read(&self, run: Run) -> Result<&[u8], Unreadable> {
        let from = to_usize(self.size.offset(run.first));
        let to = from + to_usize(u64::from(run.pages)) * self.size.bytes();
        self.bytes.get(from..to).ok_or(Unreadable)
    }
}

impl File {
    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let at = to_usize(offset);
        self.bytes.resize(self.bytes.len().max(at + bytes.len()), 0);
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn superblocks(&self) -> [u8; SUPERBLOCKS_BYTES] {
        self.bytes[..SUPERBLOCKS_BYTES].try_into().unwrap()
    }

    fn open(&self) -> Result<Db, db::OpenError> {
        Db::open(&self.superblocks(), self)
    }

    fn check(&self) -> Vec<check::Fault> {
        check(&self.superblocks(), self, Level::Map)
    }
}

fn owner(page_size: PageSize) -> Owner {
    let uuid = *b"a tree of a test";
    Owner { uuid, cluster: ClusterId(1), member: MemberId(2), page_size }
}

fn create(size: PageSize) -> (Db, File) {
    let (db, bytes) = Db::create(owner(size));
    (db, File { bytes, size })
}

/// What a tree holds, or what changes of it: a key without a value is deleted.
type Model = BTreeMap<Vec<u8>, Vec<u8>>;
type Batch = BTreeMap<(TreeId, Vec<u8>), Option<Vec<u8>>>;

fn changes(batch: &Batch) -> impl Iterator<Item = Change<'_>> {
    batch.iter().map(|((tree, key), value)| Change {
        tree: *tree,
        key,
        op: value.as_ref().map_or(Op::Delete, |value| Op::Put(value)),
    })
}

/// What a checkpoint stands for in tests: only which one it is.
fn facts(seq: CheckpointSeq) -> Facts {
    Facts { applied: Index(seq.0 * 10), ..Facts::default() }
}

/// Merges a batch, in slices, and yields the checkpoint sealed.
fn merge(db: &mut Db, file: &File, batch: &Batch, fill: Fill) -> Checkpoint {
    let mut checkpoint = db.begin(fill);
    let mut changes = changes(batch);
    while checkpoint.step(db, file, &mut changes, 3).unwrap() == Progress::More {}
    let facts = facts(checkpoint.seq());
    checkpoint.seal(db, file, facts).unwrap();
    checkpoint
}

/// Carries out what a checkpoint wants, and commits it. No page is written twice (T7).
fn carry_out(db: &mut Db, file: &mut File, mut checkpoint: Checkpoint) {
    let mut written = free_space::Bits::default();
    while let Some(output) = checkpoint.poll() {
        match output {
            Output::Write { offset, bytes } => {
                let first = offset / to_u64(file.size.bytes());
                for page in first..first + to_u64(bytes.len() / file.size.bytes()) {
                    assert!(!written.contains(page), "page {page} is written twice");
                    written.set(page);
                }
                file.write(offset, &bytes);
            }
            Output::Sync => checkpoint.synced(),
        }
    }
    db.commit(checkpoint);
}

fn apply(db: &mut Db, file: &mut File, batch: &Batch) {
    let checkpoint = merge(db, file, batch, Fill::Merge);
    carry_out(db, file, checkpoint);
}

fn update(model: &mut Model, tree: TreeId, batch: &Batch) {
    for ((of, key), value) in batch {
        if *of == tree {
            match value {
                Some(value) => model.insert(key.clone(), value.clone()),
                None => model.remove(key),
            };
        }
    }
}

/// All of a tree.
fn contents(tree: &tree::Tree<'_>) -> Model {
    let mut model = Model::new();
    let mut cursor = tree.cursor();
    let mut more = cursor.first().unwrap();
    while more {
        model.insert(cursor.key().to_vec(), cursor.value().unwrap().to_vec());
        more = cursor.forward().unwrap();
    }
    model
}

/// Keys of some shape: all tests shall see all of them.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// Short, any bytes, also none.
    Short,
    /// With a long prefix in common, as paths have.
    Paths,
    /// Numbers in order.
    Numbers,
    /// Longer than what stands in a node, and alike for longer than that.
    Long,
    /// All of these.
    Mixed,
}

const SHAPES: [Shape; 5] = [Shape::Short, Shape::Paths, Shape::Numbers, Shape::Long, Shape::Mixed];

fn random_key(rng: &mut Rng, shape: Shape, space: u64) -> Vec<u8> {
    let number = rng.below(space);
    match shape {
        Shape::Short => {
            let bytes = number.to_be_bytes();
            let from = number.leading_zeros() / 8;
            bytes[usize::try_from(from).unwrap()..].to_vec()
        }
        Shape::Paths => {
            let (kind, name) = (number % 3, number / 3);
            alloc::format!("/registry/kind-{kind}/a-namespace/object-{name:05}").into_bytes()
        }
        Shape::Numbers => number.to_be_bytes().to_vec(),
        Shape::Long => {
            let mut key = vec![b'x'; to_usize(40 + number % 200)];
            key.extend_from_slice(&(number / 200).to_be_bytes());
            key.resize(key.len() + to_usize(number % 7) * 60, b'y');
            key
        }
        Shape::Mixed => {
            let shape = SHAPES[to_usize(rng.below(4))];
            random_key(rng, shape, space)
        }
    }
}

fn random_value(rng: &mut Rng) -> Vec<u8> {
    let len = match rng.below(20) {
        0 => 0,
        1 => 128,
        2 => 129,
        3 => rng.below(3000),
        _ => rng.below(40),
    };
    let byte = u8::try_from(rng.below(256)).unwrap();
    vec![byte; to_usize(len)]
}
