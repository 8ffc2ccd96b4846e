//! The trees on disk: they are maps, and whatever happens to their file, it is noticed or harmless.

use core::ops::Bound;
use std::collections::BTreeMap;

use cairn_engine::storage::check::{Level, check};
use cairn_engine::storage::checkpoint::{Change, Checkpoint, Fill, Output, Progress};
use cairn_engine::storage::db::Db;
use cairn_engine::storage::merge::Op;
use cairn_engine::storage::meta::{
    Choice, Facts, Meta, Owner, SUPERBLOCK_BYTES, SUPERBLOCKS_BYTES,
};
use cairn_engine::storage::page::stored_crc;
use cairn_engine::storage::{Damage, PageSize, PageSource, Run, TreeId, Unreadable};
use cairn_engine::{ClusterId, MemberId};

use crate::choices::Choices;

const PAGE_BYTES: usize = 512;
const TREE: TreeId = TreeId::Keys;

/// What a tree holds, or what changes of it.
type Model = BTreeMap<Vec<u8>, Vec<u8>>;
type Batch = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// A file in memory.
struct File(Vec<u8>);

impl PageSource for File {
    fn read(&self, run: Run) -> Result<&[u8], Unreadable> {
        let from = size(run.first.0) * PAGE_BYTES;
        self.0.get(from..from + size(u64::from(run.pages)) * PAGE_BYTES).ok_or(Unreadable)
    }
}

impl File {
    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let at = size(offset);
        self.0.resize(self.0.len().max(at + bytes.len()), 0);
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn superblocks(&self) -> &[u8; SUPERBLOCKS_BYTES] {
        self.0.first_chunk().expect("a file begins with superblocks")
    }
}

fn size(number: u64) -> usize {
    usize::try_from(number).expect("64 bits")
}

/// Makes checkpoints as the bytes say, harms the file as they say, and uses it.
pub fn tree_pages(data: &[u8]) {
    let mut choices = Choices(data);
    let page_size = PageSize::new(512).expect("a page size");
    let owner = Owner { uuid: [1; 16], cluster: ClusterId(1), member: MemberId(2), page_size };
    let (mut db, bytes) = Db::create(owner);
    let mut file = File(bytes);
    let mut model = Model::new();
    for _ in 0..1 + choices.below(6) {
        let batch = batch(&mut choices);
        let merged = merge(&mut db, &file, &batch);
        let mut checkpoint = merged.unwrap_or_else(|damage| panic!("{damage} in a whole file"));
        while let Some(output) = checkpoint.poll() {
            match output {
                Output::Write { offset, bytes } => file.write(offset, &bytes),
                Output::Sync => checkpoint.synced(),
            }
        }
        db.commit(checkpoint);
        for (key, value) in batch {
            match value {
                Some(value) => drop(model.insert(key, value)),
                None => drop(model.remove(&key)),
            }
        }
    }
    assert_eq!(contents(&db, &file).as_ref(), Ok(&model), "a tree is a map");
    assert_eq!(check(file.superblocks(), &file, Level::Map), [], "nothing has happened yet");
    let meta = *db.meta();
    while !choices.is_empty() {
        harm(&mut file, &mut choices);
    }
    use_file(&file, &meta, &model);
}

/// Changes: keys alike or not, long or short.
fn batch(choices: &mut Choices<'_>) -> Batch {
    let mut batch = Batch::new();
    for _ in 0..choices.below(60) {
        let mut key = vec![b'k'; [0, 1, 20, 64, 65, 200][choices.below(6)]];
        key.push(choices.byte() % 32);
        if choices.byte().is_multiple_of(2) {
            key.resize(key.len() + choices.below(70), b'l');
        }
        let value = vec![choices.byte(); [0, 5, 30, 128, 129, 1500][choices.below(6)]];
        batch.insert(key, (!choices.byte().is_multiple_of(3)).then_some(value));
    }
    batch
}

fn merge(db: &mut Db, file: &File, batch: &Batch) -> Result<Checkpoint, Damage> {
    let mut checkpoint = db.begin(Fill::Merge);
    let mut changes = batch.iter().map(|(key, value)| Change {
        tree: TREE,
        key,
        op: value.as_ref().map_or(Op::Delete, |value| Op::Put(value)),
    });
    loop {
        match checkpoint.step(db, file, &mut changes, 2) {
            Ok(Progress::More) => {}
            Ok(Progress::Done) => break,
            Err(damage) => {
                db.abandon(checkpoint);
                return Err(damage);
            }
        }
    }
    match checkpoint.seal(db, file, Facts::default()) {
        Ok(()) => Ok(checkpoint),
        Err(damage) => {
            db.abandon(checkpoint);
            Err(damage)
        }
    }
}

fn contents(db: &Db, file: &File) -> Result<Model, Damage> {
    let mut model = Model::new();
    let mut range = db.tree(file, TREE).range((Bound::Unbounded, Bound::Unbounded))?;
    while let Some(entry) = range.pop_front()? {
        model.insert(entry.key().to_vec(), entry.value()?.to_vec());
    }
    Ok(model)
}

/// Changes some bytes. With a superblock's or a page's checksums made right again, only a look at everything helps.
fn harm(file: &mut File, choices: &mut Choices<'_>) {
    let kind = choices.byte();
    let pages = file.0.len() / PAGE_BYTES;
    let reserved = SUPERBLOCKS_BYTES / PAGE_BYTES;
    let offset = choices.below(PAGE_BYTES);
    if kind.is_multiple_of(8) {
        let meta = match Meta::choose(file.superblocks()) {
            Choice::Use { newest, .. } => newest,
            Choice::Empty | Choice::Refuse(_) => return,
        };
        let mut block = meta.encode();
        block[choices.below(SUPERBLOCK_BYTES)] = choices.byte();
        block[offset] = choices.byte();
        let (fields, sums) = block.split_at_mut(SUPERBLOCK_BYTES - 8);
        sums[..4].copy_from_slice(&crc32fast::hash(fields).to_le_bytes());
        sums[4..].copy_from_slice(&crc32c::crc32c(fields).to_le_bytes());
        meta.offsets().into_iter().for_each(|offset| file.write(offset, &block));
        return;
    }
    if pages == reserved {
        choices.0 = &[];
        return;
    }
    let page = reserved + choices.below(pages - reserved);
    let bytes = choices.bytes(1 + usize::from(kind >> 6));
    let end = (offset + bytes.len()).min(PAGE_BYTES);
    file.0[page * PAGE_BYTES + offset..page * PAGE_BYTES + end]
        .copy_from_slice(&bytes[..end - offset]);
    if kind % 8 < 6 {
        forge(file, page);
    }
}

/// Makes the checksums right again, from a page up to the superblocks.
fn forge(file: &mut File, mut page: usize) {
    for _ in 0..20 {
        let bytes = &mut file.0[page * PAGE_BYTES..(page + 1) * PAGE_BYTES];
        let old = stored_crc(bytes).to_le_bytes();
        let new = crc32fast::hash(&bytes[4..]).to_le_bytes();
        bytes[..4].copy_from_slice(&new);
        let number = u64::try_from(page).expect("64 bits").to_le_bytes();
        // A child has its checksum after its page and its sums, an extent right after its page.
        let place = (SUPERBLOCKS_BYTES..file.0.len() - 22).find_map(|at| {
            let here = &file.0[at..at + 22];
            let crc = [18, 6].into_iter().find(|crc| here[*crc..*crc + 4] == old)?;
            here.starts_with(&number[..6]).then_some(at + crc)
        });
        let Some(place) = place else { break };
        file.0[place..place + 4].copy_from_slice(&new);
        page = place / PAGE_BYTES;
    }
    let Choice::Use { newest: mut meta, .. } = Meta::choose(file.superblocks()) else { return };
    for tree in TreeId::ALL {
        let mut root = meta.root(tree);
        if size(root.child.page.0) == page {
            root.child.crc = stored_crc(&file.0[page * PAGE_BYTES..]);
            meta.set_root(tree, root);
        }
    }
    meta.offsets().into_iter().for_each(|offset| file.write(offset, &meta.encode()));
}

/// Does what can be done with a file that may be anything.
fn use_file(file: &File, meta: &Meta, model: &Model) {
    let faults = check(file.superblocks(), file, Level::Map);
    let Ok(mut db) = Db::open(file.superblocks(), file) else {
        assert!(!faults.is_empty(), "what cannot be opened has a fault");
        return;
    };
    let found = contents(&db, file);
    if db.meta() == meta {
        let same = found.as_ref().map_or(true, |found| found == model);
        assert!(same, "what the root vouches for is there, or it is damaged");
    }
    let mut whole = found.is_ok();
    for key in model.keys() {
        let tree = db.tree(file, TREE);
        let mut cursor = tree.cursor();
        let back = cursor.seek(key).and_then(|found| Ok(found && cursor.backward()?));
        whole &= tree.get(key).is_ok() && tree.before(key).is_ok() && back.is_ok();
    }
    let batch = model.keys().step_by(3).map(|key| (key.clone(), None)).collect();
    match merge(&mut db, file, &batch) {
        Ok(checkpoint) => db.abandon(checkpoint),
        Err(_) => whole = false,
    }
    assert!(whole || !faults.is_empty(), "where nothing is found, everything works");
}
