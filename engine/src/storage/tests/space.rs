//! Space: what is held stays, what is not is used again, and a file does not grow for nothing.

use super::*;

fn paths(rng: &mut Rng, count: u64, space: u64) -> Batch {
    let mut batch = Batch::new();
    for _ in 0..count {
        let key = random_key(rng, Shape::Paths, space);
        batch.insert((TreeId::Keys, key), Some(random_value(rng)));
    }
    batch
}

#[test]
fn who_reads_an_old_checkpoint_sees_it_as_it_was() {
    let mut rng = Rng::new(1);
    let (mut db, mut file) = create(SMALL);
    let mut model = Model::new();
    let mut pins = Vec::new();
    for _ in 0..150 {
        let batch = paths(&mut rng, 40, 900);
        update(&mut model, TreeId::Keys, &batch);
        apply(&mut db, &mut file, &batch);
        if rng.below(3) == 0 {
            pins.push((db.pin(), model.clone()));
        }
        for (pin, model) in &pins {
            let tree = pin.tree(db.pages(&file), TreeId::Keys);
            assert!(contents(&tree) == *model, "checkpoint {}", pin.seq());
        }
        while pins.len() > 4 {
            let (pin, _) = pins.swap_remove(to_usize(rng.below(5)));
            db.release(pin);
        }
    }
    let oldest = pins.iter().map(|(pin, _)| pin.seq()).min();
    assert_eq!(db.space().oldest_pin(), oldest);
}

#[test]
fn a_file_in_which_keys_come_and_go_does_not_grow() {
    let mut rng = Rng::new(2);
    let (mut db, mut file) = create(SMALL);
    let mut most = 0;
    for round in 0..300 {
        let mut batch = paths(&mut rng, 60, 1500);
        for key in paths(&mut rng, 30, 1500).into_keys() {
            batch.insert(key, None);
        }
        apply(&mut db, &mut file, &batch);
        if round >= 100 {
            let used = db.space().used_pages() - SMALL.reserved_pages();
            let end = db.space().file_end().0 - SMALL.reserved_pages();
            most = most.max(end * 100 / used);
        }
    }
    // Three checkpoints, of which each has rewritten at most what it changed.
    assert!(most < 250, "{most} per cent of what is in use");
    assert_eq!(file.check(), []);
}

#[test]
fn what_is_freed_at_the_end_can_be_cut_off() {
    let mut rng = Rng::new(3);
    let (mut db, mut file) = create(SMALL);
    apply(&mut db, &mut file, &paths(&mut rng, 3000, 6000));
    let large = db.file_bytes();
    let model = contents(&db.tree(&file, TreeId::Keys));
    let keys = model.keys().enumerate();
    let deleted: Batch = keys
        .filter(|(at, _)| at % 10 > 0)
        .map(|(_, key)| ((TreeId::Keys, key.clone()), None))
        .collect();
    apply(&mut db, &mut file, &deleted);
    apply(&mut db, &mut file, &Batch::new());
    // Moving what is left takes it to the lowest pages.
    let mut checkpoint = db.begin(Fill::Merge);
    let keys: Vec<_> = contents(&db.tree(&file, TreeId::Keys)).into_keys().collect();
    for key in &keys {
        let change = Change { tree: TreeId::Keys, key, op: Op::Move };
        checkpoint.change(&mut db, &file, change).unwrap();
    }
    checkpoint.seal(&mut db, &file, Facts::default()).unwrap();
    carry_out(&mut db, &mut file, checkpoint);
    apply(&mut db, &mut file, &Batch::new());
    apply(&mut db, &mut file, &Batch::new());
    assert!(db.file_bytes() * 3 < large, "{large} bytes, now {}", db.file_bytes());
    file.bytes.truncate(to_usize(db.file_bytes()));
    assert_eq!(file.check(), []);
    assert_eq!(file.open().unwrap().tree(&file, TreeId::Keys).sums().count, to_u64(keys.len()));
}

#[test]
fn sorted_keys_are_loaded_densely_and_in_order() {
    let (mut db, mut file) = create(PageSize(4096));
    let batch: Batch = (0..20_000_u64)
        .map(|number| ((TreeId::History, number.to_be_bytes().to_vec()), Some(vec![1; 90])))
        .collect();
    let mut checkpoint = merge(&mut db, &file, &batch, Fill::Load);
    let mut last = 0;
    while let Some(output) = checkpoint.poll() {
        match output {
            Output::Write { offset, bytes } => {
                assert!(offset < 65536 || last < offset, "the file is written from front to back");
                last = offset;
                file.write(offset, &bytes);
            }
            Output::Sync => checkpoint.synced(),
        }
    }
    db.commit(checkpoint);
    let used = (db.space().used_pages() - db.owner().page_size.reserved_pages()) * 4096;
    let raw = 20_000 * 98;
    assert!(used * 100 < raw * 107, "{used} bytes for {raw}");
    assert_eq!(file.check(), []);
}

#[test]
fn a_change_writes_its_leaf_and_the_way_to_it_and_nothing_else() {
    let mut rng = Rng::new(4);
    let (mut db, mut file) = create(SMALL);
    apply(&mut db, &mut file, &paths(&mut rng, 4000, 60_000));
    let height = db.meta().root(TreeId::Keys).height;
    assert!(height >= 4, "{height}");
    let map = u64::from(db.meta().root(TreeId::Space).height);
    for _ in 0..200 {
        let key = random_key(&mut rng, Shape::Paths, 60_000);
        let batch = Batch::from([((TreeId::Keys, key), Some(vec![7; 20]))]);
        let checkpoint = merge(&mut db, &file, &batch, Fill::Merge);
        let written = checkpoint.pages_written();
        carry_out(&mut db, &mut file, checkpoint);
        // A node that is full becomes two, and a part of the map may move another.
        let most = 2 * u64::from(height) + 2 * map;
        assert!(written <= most, "{written} pages for one key at height {height}");
    }
}

#[test]
fn nodes_share_what_is_too_little_for_one() {
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let (mut db, mut file) = create(SMALL);
        let batch = (0..4000_u32).map(|number| {
            let key = alloc::format!("/registry/pods/{number:05}").into_bytes();
            ((TreeId::Keys, key), Some(vec![1; 20]))
        });
        apply(&mut db, &mut file, &batch.collect());
        for _ in 0..12 {
            let kept: Vec<_> = contents(&db.tree(&file, TreeId::Keys)).into_keys().collect();
            let mut deleted = Batch::new();
            for _ in 0..12 {
                // About a leaf's worth in one place, and nothing around it.
                let start = to_usize(rng.below(to_u64(kept.len())));
                for key in kept[start..].iter().take(to_usize(rng.below(16))) {
                    deleted.insert((TreeId::Keys, key.clone()), None);
                }
            }
            apply(&mut db, &mut file, &deleted);
            let root = db.meta().root(TreeId::Keys).child.page;
            for page in (SMALL.reserved_pages()..db.meta().end.0).map(PageId) {
                let bytes = file.read(Run::one(page)).unwrap();
                let Some(header) = page::Header::decode(bytes) else { continue };
                let is_node = header.tree == TreeId::Keys && page != root;
                if is_node && db.space().current().contains(page.0) {
                    assert!(header.end >= 128, "seed {seed}: page {page} has {} bytes", header.end);
                }
            }
        }
    }
}

#[test]
fn a_page_that_was_given_out_again_is_looked_at_again() {
    let (mut db, mut file) = create(SMALL);
    let put = |value: u8| Batch::from([((TreeId::Keys, vec![]), Some(vec![value; 9]))]);
    let mut reused = false;
    for value in 0..10 {
        let before = db.meta().root(TreeId::Keys).child.page;
        apply(&mut db, &mut file, &put(value));
        let root = db.meta().root(TreeId::Keys).child.page;
        assert!(db.tree(&file, TreeId::Keys).get(&[]).unwrap().is_some());
        reused |= root < before;
        // In the next rounds this page is read under its old number with new bytes, which are damaged.
        let checkpoint = merge(&mut db, &file, &put(77), Fill::Merge);
        carry_out(&mut db, &mut file, checkpoint);
        let page = db.meta().root(TreeId::Keys).child.page;
        let mut damaged = file.clone();
        damaged.bytes[to_usize(SMALL.offset(page)) + 50] ^= 1;
        let damage = Damage { page, why: Why::Checksum };
        assert_eq!(db.tree(&damaged, TreeId::Keys).get(&[]), Err(damage));
    }
    assert!(reused, "pages are used again");
}

#[test]
fn a_checkpoint_that_is_given_up_leaves_no_trace() {
    let mut rng = Rng::new(5);
    let (mut db, mut file) = create(SMALL);
    let mut model = Model::new();
    for round in 0..20 {
        let batch = paths(&mut rng, 50, 400);
        let checkpoint = merge(&mut db, &file, &batch, Fill::Merge);
        if round % 3 == 0 {
            db.abandon(checkpoint);
        } else {
            carry_out(&mut db, &mut file, checkpoint);
            update(&mut model, TreeId::Keys, &batch);
        }
        assert!(contents(&db.tree(&file, TreeId::Keys)) == model);
        assert_eq!(file.check(), []);
    }
}
