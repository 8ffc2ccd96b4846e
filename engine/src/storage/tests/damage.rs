//! Damage: no byte of a page can change without being noticed, and no bytes are more than an error.

use core::ops::Bound;

use proptest::prelude::*;

use super::meta::Meta;
use super::node::{Identity, Node};
use super::page::{Kind, stored_crc};
use super::*;
use crate::rng::Rng;

/// A file with everything in it: some levels, long keys and values, two checkpoints.
fn specimen(keys: u64) -> (Db, File) {
    let mut rng = Rng::new(11);
    let (mut db, mut file) = create(SMALL);
    for part in 0..2 {
        let mut batch = Batch::new();
        for number in 0..keys {
            let shape = SHAPES[to_usize(number % 4)];
            let key = random_key(&mut rng, shape, 2000);
            let tree = [TreeId::Keys, TreeId::Rest][part];
            batch.insert((tree, key), Some(random_value(&mut rng)));
        }
        apply(&mut db, &mut file, &batch);
    }
    (db, file)
}

/// Reads all of a tree, and says what it met.
fn read_all(db: &Db, file: &File, tree: TreeId) -> Result<Model, Damage> {
    let mut model = Model::new();
    let mut range = db.tree(file, tree).range((Bound::Unbounded, Bound::Unbounded))?;
    while let Some(entry) = range.pop_front()? {
        model.insert(entry.key().to_vec(), entry.value()?.to_vec());
    }
    Ok(model)
}

#[test]
fn any_changed_byte_of_a_page_is_noticed() {
    let (db, mut file) = specimen(14);
    let trees = [TreeId::Keys, TreeId::Rest];
    let whole = trees.map(|tree| read_all(&db, &file, tree).unwrap());
    let used = db.space().current().clone();
    for at in SUPERBLOCKS_BYTES..to_usize(db.file_bytes()) {
        if !used.contains(to_u64(at / 512)) {
            continue;
        }
        file.bytes[at] ^= 1 << (at % 8);
        assert_ne!(file.check(), [], "byte {at}");
        if let Some(db) = file.open().ok().filter(|_| at % 5 == 0) {
            for (tree, whole) in trees.iter().zip(&whole) {
                let found = read_all(&db, &file, *tree);
                assert!(found.is_err() || found.as_ref() == Ok(whole), "byte {at}");
            }
        }
        file.bytes[at] ^= 1 << (at % 8);
    }
    assert_eq!(file.check(), []);
}

#[test]
fn a_page_that_was_not_written_or_went_astray_is_noticed() {
    let (db, mut file) = specimen(60);
    let size = SMALL.bytes();
    let used: Vec<u64> = (SMALL.reserved_pages()..db.meta().end.0)
        .filter(|page| db.space().current().contains(*page))
        .collect();
    for (page, other) in used.iter().zip(used.iter().rev()).filter(|(a, b)| a != b) {
        let (at, from) = (to_usize(*page) * size, to_usize(*other) * size);
        let kept = file.bytes[at..at + size].to_vec();
        file.bytes.copy_within(from..from + size, at);
        assert_ne!(file.check(), [], "page {page} is page {other}");
        file.bytes[at..at + size].fill(0);
        assert_ne!(file.check(), [], "page {page} is empty");
        file.bytes[at..at + size].copy_from_slice(&kept);
    }
}

#[test]
fn a_write_that_was_lost_is_noticed() {
    let (mut db, mut file) = create(SMALL);
    for round in 0..25 {
        // Always as many keys and bytes: nothing but the checksum tells a page from the one that it replaces.
        let value = |number| vec![round; if number == 0 { 300 } else { 9 }];
        let batch = (0..20).map(|number| ((TreeId::Keys, vec![number; 3]), Some(value(number))));
        let batch = batch.collect();
        let before = file.clone();
        let mut checkpoint = merge(&mut db, &file, &batch, Fill::Merge);
        let mut writes = Vec::new();
        while let Some(output) = checkpoint.poll() {
            match output {
                Output::Write { offset, bytes } => writes.push((offset, bytes)),
                Output::Sync => checkpoint.synced(),
            }
        }
        db.commit(checkpoint);
        writes.iter().for_each(|(offset, bytes)| file.write(*offset, bytes));
        for (offset, bytes) in writes.iter().filter(|write| write.0 >= 65536) {
            // What stood there before is whole, and soon a page of the same tree, level and number.
            let (at, mut lost) = (to_usize(*offset), file.clone());
            let mut old = before.bytes.clone();
            old.resize(file.bytes.len(), 0);
            lost.bytes[at..at + bytes.len()].copy_from_slice(&old[at..at + bytes.len()]);
            assert_ne!(lost.check(), [], "the write to {offset}");
        }
    }
}

#[test]
fn a_changed_byte_of_a_superblock_harms_nothing() {
    let (db, mut file) = specimen(14);
    for at in 0..SUPERBLOCKS_BYTES {
        file.bytes[at] ^= 0x41;
        let opened = file.open().unwrap();
        assert_eq!(opened.meta(), db.meta(), "byte {at}");
        file.bytes[at] ^= 0x41;
    }
}

#[test]
fn faults_are_named() {
    let (db, mut file) = specimen(14);
    let root = db.meta().root(TreeId::Rest).child.page;
    let at = to_usize(SMALL.offset(root));
    file.bytes[at + 100] ^= 1;
    let faults = check(&file.superblocks(), &file, Level::Pages);
    let named = alloc::format!("{}", faults[0]);
    assert_eq!(faults.len(), 1);
    assert_eq!(named, alloc::format!("checkpoint 2, tree S: page {root} has another checksum"));
    file.bytes[..SUPERBLOCKS_BYTES].fill(0);
    assert_eq!(file.check(), [check::Fault::Empty]);
    assert_eq!(file.open().err(), Some(db::OpenError::Empty));
}

/// A file of which a page refuses to be read.
struct Faulty<'a> {
    file: &'a File,
    page: u64,
}

impl PageSource for Faulty<'_> {
    fn read(&self, run: Run) -> Result<&[u8], Unreadable> {
        let refused = run.first.0..run.first.0 + u64::from(run.pages);
        if refused.contains(&self.page) { Err(Unreadable) } else { self.file.read(run) }
    }
}

#[test]
fn a_page_that_cannot_be_read_is_an_error_for_those_who_need_it() {
    let (db, file) = specimen(40);
    let whole = read_all(&db, &file, TreeId::Keys).unwrap();
    for page in SMALL.reserved_pages()..db.meta().end.0 {
        let faulty = Faulty { file: &file, page };
        let mut refused = 0;
        for (key, value) in &whole {
            match db.tree(&faulty, TreeId::Keys).get(key) {
                Ok(found) => assert_eq!(found, Some(value.as_slice())),
                Err(damage) => {
                    assert_eq!(damage.why, Why::Unreadable);
                    refused += 1;
                }
            }
        }
        let root = db.meta().root(TreeId::Keys).child.page;
        assert!(page != root.0 || refused == whole.len());
        let faults = check(&file.superblocks(), &faulty, Level::Map);
        assert!(faults.is_empty() != db.space().is_needed(PageId(page)), "page {page}");
    }
}

#[test]
fn a_map_that_does_not_tell_the_truth_is_found_out() {
    let (db, mut file) = specimen(40);
    let map = db.meta().root(TreeId::Space);
    assert_eq!(map.height, 1);
    let used = db.meta().root(TreeId::Keys).child.page.0;
    let free = db.space().current().clear_run(0, 1);
    for page in [used, free] {
        let at = to_usize(32 + page / 8);
        let byte = file.bytes[to_usize(SMALL.offset(map.child.page)) + at];
        forge(&mut file, map.child.page.0, at, &[byte ^ 1 << (page % 8)]);
    }
    let fault = |page| check::Fault::Page {
        seq: CheckpointSeq(2),
        tree: TreeId::Space,
        damage: Damage { page: PageId(page), why: Why::Map },
    };
    assert_eq!(file.check(), [fault(used.min(free)), fault(used.max(free))]);
    assert_eq!(check(&file.superblocks(), &file, Level::Pages), [], "the trees are whole");
}

/// Changes a page and makes all checksums right again, up to the superblocks: what only a program could do.
fn forge(file: &mut File, page: u64, at: usize, bytes: &[u8]) {
    let size = file.size.bytes();
    let mut page = to_usize(page);
    let place = page * size + at.min(size - bytes.len());
    file.bytes[place..place + bytes.len()].copy_from_slice(bytes);
    for _ in 0..20 {
        let bytes = &mut file.bytes[page * size..(page + 1) * size];
        let old = stored_crc(bytes);
        let new = crc32fast::hash(&bytes[4..]);
        bytes[..4].copy_from_slice(&new.to_le_bytes());
        // Whoever refers to the page by this number and checksum, as a child or as an extent.
        let number = to_u64(page).to_le_bytes();
        let from = SUPERBLOCKS_BYTES;
        let refers = |at: &usize| {
            let here = &file.bytes[*at..];
            here.starts_with(&number[..6])
                && [18, 6].iter().any(|crc| here[*crc..].starts_with(&old.to_le_bytes()))
        };
        let Some(place) = (from..file.bytes.len() - 22).find(refers) else {
            return forge_root(file, page, new);
        };
        let by = if file.bytes[place + 6..].starts_with(&old.to_le_bytes()) { 6 } else { 18 };
        file.bytes[place + by..place + by + 4].copy_from_slice(&new.to_le_bytes());
        page = place / size;
    }
}

fn forge_root(file: &mut File, page: usize, crc: u32) {
    let meta::Choice::Use { newest: mut meta, .. } = Meta::choose(&file.superblocks()) else {
        return;
    };
    for tree in TreeId::ALL {
        let mut root = meta.root(tree);
        if root.child.page.0 == to_u64(page) {
            root.child.crc = crc;
            meta.set_root(tree, root);
        }
    }
    meta.offsets().into_iter().for_each(|offset| file.write(offset, &meta.encode()));
}

/// Does everything that can be done with a file that may be anything.
fn use_everything(file: &File, rng: &mut Rng) {
    let faults = file.check();
    let Ok(mut db) = file.open() else { return };
    let mut read = Vec::new();
    for tree in [TreeId::Keys, TreeId::Rest] {
        read.push(read_all(&db, file, tree));
        let tree = db.tree(file, tree);
        let mut cursor = tree.cursor();
        for _ in 0..5 {
            let key = random_key(rng, Shape::Mixed, 2000);
            let ends = (Bound::Included(key.as_slice()), Bound::Unbounded);
            let found = cursor.seek(&key).and_then(|found| Ok(found && cursor.backward()?));
            let value = found.and_then(|found| if found { cursor.value() } else { Ok(&[]) });
            let ranked = cursor.seek_rank(rng.below(100));
            let all = tree.get(&key).is_ok() && tree.count(ends).is_ok();
            let all = all && value.is_ok() && ranked.is_ok();
            assert!(all || !faults.is_empty(), "no fault, so all can be asked");
        }
    }
    assert!(!faults.is_empty() || read.iter().all(Result::is_ok), "no fault, so all is readable");
    let mut batch = Batch::new();
    for _ in 0..20 {
        let tree = [TreeId::Keys, TreeId::Rest][to_usize(rng.below(2))];
        let key = random_key(rng, Shape::Mixed, 2000);
        batch.insert((tree, key), (rng.below(2) == 0).then(|| random_value(rng)));
    }
    let mut checkpoint = db.begin(Fill::Merge);
    let merged = checkpoint
        .step(&mut db, file, &mut changes(&batch), u64::MAX)
        .and_then(|_| checkpoint.seal(&mut db, file, Facts::default()));
    if merged.is_err() {
        assert_ne!(faults, [], "no fault, so all can be changed");
        db.abandon(checkpoint);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    #[test]
    fn any_bytes_are_an_error_or_a_node(
        body in prop::collection::vec(any::<u8>(), 512 - 32),
        cells in 0..30_u16, prefix in 0..70_u16, end in 0..600_u32, level in 0..3_u8,
    ) {
        let (page, tree) = (PageId(200), TreeId::Keys);
        let header = page::Header {
            kind: if level == 0 { Kind::Leaf } else { Kind::Branch },
            tree, level, page, birth: CheckpointSeq(1), cells, prefix_bytes: prefix, end,
        };
        let mut bytes = vec![0; 32];
        bytes.extend_from_slice(&body);
        let crc = header.seal(&mut bytes);
        let opened = Node::open(&bytes, crc, Identity { page, tree, level }, SMALL);
        prop_assert!(opened.is_err(), "nobody finds a node by chance");
    }

    #[test]
    fn forged_files_are_errors_or_trees(
        forgeries in prop::collection::vec(
            (any::<prop::sample::Index>(), 0..512_usize, prop::collection::vec(any::<u8>(), 1..4)),
            1..4,
        ),
        seed in any::<u64>(),
    ) {
        let (db, mut file) = specimen(40);
        let used: Vec<u64> = (SMALL.reserved_pages()..db.meta().end.0)
            .filter(|page| db.space().current().contains(*page))
            .collect();
        for (page, at, bytes) in &forgeries {
            forge(&mut file, *page.get(&used), *at, bytes);
        }
        use_everything(&file, &mut Rng::new(seed));
    }

    #[test]
    fn any_superblocks_are_refused_or_used(
        edits in prop::collection::vec((0..4096_usize, any::<u8>()), 0..6),
        seed in any::<u64>(),
    ) {
        let (db, mut file) = specimen(40);
        let mut block = db.meta().encode();
        edits.iter().for_each(|(at, byte)| block[*at] = *byte);
        let sums = [crc32fast::hash(&block[..4088]), crc32c::crc32c(&block[..4088])];
        block[4088..4092].copy_from_slice(&sums[0].to_le_bytes());
        block[4092..].copy_from_slice(&sums[1].to_le_bytes());
        db.meta().offsets().into_iter().for_each(|offset| file.write(offset, &block));
        use_everything(&file, &mut Rng::new(seed));
    }
}
