//! A tree does what a `BTreeMap` does, whatever its keys are and however it came about.

use core::ops::Bound;

use super::*;

/// Some changes of one tree: puts, and deletions of single keys and of whole stretches.
fn random_batch(rng: &mut Rng, shape: Shape, space: u64, model: &Model, tree: TreeId) -> Batch {
    let mut batch = Batch::new();
    let most = [1, 10, 100, 700][to_usize(rng.below(4))];
    let deletes = [1, 5, 9][to_usize(rng.below(3))];
    for _ in 0..rng.below(most) {
        let key = random_key(rng, shape, space);
        let value = (rng.below(10) >= deletes).then(|| random_value(rng));
        batch.insert((tree, key), value);
    }
    if rng.below(5) == 0 {
        let from = random_key(rng, shape, space);
        let most = to_usize(rng.below(400));
        for key in model.range(from..).map(|(key, _)| key).take(most) {
            batch.insert((tree, key.clone()), None);
        }
    }
    batch
}

/// Everything that can be asked, at some places.
fn compare(tree: &tree::Tree<'_>, model: &Model, rng: &mut Rng, shape: Shape, space: u64) {
    let bytes: usize = model.iter().map(|(key, value)| key.len() + value.len()).sum();
    assert_eq!(tree.sums().count, to_u64(model.len()));
    assert_eq!(tree.sums().bytes, to_u64(bytes));
    let mut cursor = tree.cursor();
    for _ in 0..8 {
        let key = random_key(rng, shape, space);
        assert_eq!(tree.get(&key).unwrap(), model.get(&key).map(Vec::as_slice));
        let rank = model.range(..key.clone()).count();
        assert_eq!(tree.before(&key).unwrap().count, to_u64(rank));

        let mut after = model.range(key.clone()..);
        let mut there = cursor.seek(&key).unwrap();
        for _ in 0..3 {
            let expected = after.next();
            assert_eq!(there, expected.is_some());
            let Some((key, value)) = expected else { break };
            assert_eq!((cursor.key(), cursor.value().unwrap()), (&key[..], &value[..]));
            there = cursor.forward().unwrap();
        }
        let rank = rng.below(to_u64(model.len()) + 2);
        let mut expected = model.iter().skip(to_usize(rank));
        assert_eq!(cursor.seek_rank(rank).unwrap(), expected.next().is_some());
        if cursor.is_on_key() && rank > 0 {
            assert!(cursor.backward().unwrap());
            let (key, _) = model.iter().nth(to_usize(rank - 1)).unwrap();
            assert_eq!(cursor.key(), key);
        }
    }
    let ends = [random_bound(rng, shape, space), random_bound(rng, shape, space)];
    compare_range(tree, model, rng, &ends);
}

fn random_bound(rng: &mut Rng, shape: Shape, space: u64) -> Bound<Vec<u8>> {
    match rng.below(3) {
        0 => Bound::Unbounded,
        1 => Bound::Included(random_key(rng, shape, space)),
        _ => Bound::Excluded(random_key(rng, shape, space)),
    }
}

fn compare_range(tree: &tree::Tree<'_>, model: &Model, rng: &mut Rng, ends: &[Bound<Vec<u8>>; 2]) {
    let above = |key: &[u8]| match &ends[0] {
        Bound::Included(from) => from.as_slice() <= key,
        Bound::Excluded(from) => from.as_slice() < key,
        Bound::Unbounded => true,
    };
    let below = |key: &[u8]| match &ends[1] {
        Bound::Included(to) => key <= to.as_slice(),
        Bound::Excluded(to) => key < to.as_slice(),
        Bound::Unbounded => true,
    };
    let within = |(key, _): &(&Vec<u8>, &Vec<u8>)| above(key) && below(key);
    let mut expected: alloc::collections::VecDeque<_> = model.iter().filter(within).collect();
    let bytes: usize = expected.iter().map(|(key, value)| key.len() + value.len()).sum();
    let [from, to] = [0, 1].map(|end| ends[end].as_ref().map(Vec::as_slice));
    let sums = tree.count((from, to)).unwrap();
    assert_eq!((sums.count, sums.bytes), (to_u64(expected.len()), to_u64(bytes)));
    let mut range = tree.range((from, to)).unwrap();
    for _ in 0..200 {
        assert_eq!(range.len(), to_u64(expected.len()));
        if rng.below(20) == 0 {
            let skipped = rng.below(30);
            range.skip(skipped);
            expected.drain(..to_usize(skipped).min(expected.len()));
        }
        let (found, expected) = if rng.below(3) == 0 {
            (range.pop_back().unwrap(), expected.pop_back())
        } else {
            (range.pop_front().unwrap(), expected.pop_front())
        };
        let Some(found) = found else {
            assert!(expected.is_none());
            break;
        };
        let (key, value) = expected.unwrap();
        assert_eq!((found.key(), found.value().unwrap()), (&key[..], &value[..]));
    }
}

fn history(seed: u64, shape: Shape, size: PageSize, checkpoints: u64) {
    let mut rng = Rng::new(seed);
    let space = [20, 600, 20_000][to_usize(rng.below(3))];
    let (mut db, mut file) = create(size);
    let mut model = Model::new();
    for _ in 0..checkpoints {
        let batch = random_batch(&mut rng, shape, space, &model, TreeId::Keys);
        update(&mut model, TreeId::Keys, &batch);
        apply(&mut db, &mut file, &batch);
        assert_eq!(file.check(), [], "seed {seed} {shape:?}");
        compare(&db.tree(&file, TreeId::Keys), &model, &mut rng, shape, space);
        if rng.below(10) == 0 {
            db = file.open().unwrap();
        }
    }
    assert!(contents(&db.tree(&file, TreeId::Keys)) == model, "seed {seed} {shape:?}");
}

#[test]
fn a_tree_does_what_a_map_does() {
    for shape in SHAPES {
        for seed in 0..60 {
            history(seed, shape, SMALL, 25);
        }
        history(100, shape, PageSize(4096), 25);
    }
}
