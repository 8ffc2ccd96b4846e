//! Crashes: whatever subset of the sectors that were not synced reaches the medium, the file is the old one or the
//! new one.

use super::*;

/// What disks write as a whole.
const SECTOR_BYTES: usize = 512;

/// Writes between two syncs, cut into sectors.
type Epoch = Vec<(u64, Vec<u8>)>;

/// All outputs of a checkpoint, sync by sync.
fn epochs(checkpoint: &mut Checkpoint) -> Vec<Epoch> {
    let mut epochs = vec![Epoch::new()];
    while let Some(output) = checkpoint.poll() {
        match output {
            Output::Write { offset, bytes } => {
                let sectors = bytes.chunks(SECTOR_BYTES).enumerate();
                epochs.last_mut().unwrap().extend(
                    sectors
                        .map(|(at, sector)| (offset + to_u64(at * SECTOR_BYTES), sector.to_vec())),
                );
            }
            Output::Sync => {
                checkpoint.synced();
                epochs.push(Epoch::new());
            }
        }
    }
    assert_eq!(epochs.pop(), Some(Epoch::new()), "nothing is written after the last sync");
    epochs
}

/// Which sectors survive: all subsets if they are few, else each prefix, each one missing, each one alone, and
/// some at random.
fn subsets(sectors: usize, rng: &mut Rng) -> Vec<Vec<bool>> {
    if sectors <= 7 {
        let all = 0..1_usize << sectors;
        return all.map(|set| (0..sectors).map(|at| set >> at & 1 == 1).collect()).collect();
    }
    let mut subsets = Vec::new();
    for at in 0..=sectors {
        subsets.push((0..sectors).map(|sector| sector < at).collect());
        subsets.push((0..sectors).map(|sector| sector != at).collect());
        subsets.push((0..sectors).map(|sector| sector == at).collect());
    }
    for _ in 0..40 {
        subsets.push((0..sectors).map(|_| rng.below(2) == 0).collect());
    }
    subsets
}

fn after_crash(durable: &File, epoch: &Epoch, survives: &[bool]) -> File {
    let mut file = durable.clone();
    for ((offset, sector), survives) in epoch.iter().zip(survives) {
        if *survives {
            file.write(*offset, sector);
        }
    }
    file
}

fn small_batch(rng: &mut Rng) -> Batch {
    let mut batch = Batch::new();
    for _ in 0..1 + rng.below(25) {
        let tree = [TreeId::Keys, TreeId::History, TreeId::Rest][to_usize(rng.below(3))];
        let key = random_key(rng, Shape::Mixed, 60);
        batch.insert((tree, key), (rng.below(3) > 0).then(|| random_value(rng)));
    }
    batch
}

const TREES: [TreeId; 3] = [TreeId::Keys, TreeId::History, TreeId::Rest];

/// Which of the states this file is; it must be all of one of them, and everything in order.
fn state_of(file: &File, states: &[[Model; 3]]) -> usize {
    assert_eq!(file.check(), []);
    let db = file.open().unwrap();
    let seq = to_usize(db.meta().seq.0);
    assert_eq!(db.meta().facts.applied.0, db.meta().seq.0 * 10);
    for (tree, model) in TREES.iter().zip(&states[seq]) {
        assert!(contents(&db.tree(file, *tree)) == *model, "checkpoint {seq}");
    }
    seq
}

fn history(seed: u64) {
    let mut rng = Rng::new(seed);
    let (mut db, mut file) = create(SMALL);
    let mut states = vec![[Model::new(), Model::new(), Model::new()]];
    for seq in 1..10 {
        let batch = small_batch(&mut rng);
        let mut state = states[seq - 1].clone();
        TREES.iter().zip(&mut state).for_each(|(tree, model)| update(model, *tree, &batch));
        states.push(state);
        let mut checkpoint = merge(&mut db, &file, &batch, Fill::Merge);
        let epochs = epochs(&mut checkpoint);
        assert_eq!(epochs.len(), 2, "pages, then the superblock");
        for (number, epoch) in epochs.iter().enumerate() {
            for survives in subsets(epoch.len(), &mut rng) {
                let crashed = after_crash(&file, epoch, &survives);
                let found = state_of(&crashed, &states);
                let whole = survives.iter().all(|survives| *survives);
                let expected = if number == 0 { seq - 1..=seq - 1 } else { seq - 1..=seq };
                assert!(expected.contains(&found), "seed {seed}, checkpoint {seq}");
                assert!(number == 0 || !whole || found == seq, "seed {seed}: all was written");
                if rng.below(40) == 0 {
                    goes_on(crashed, &mut rng, &states[found]);
                }
            }
            file = after_crash(&file, epoch, &vec![true; epoch.len()]);
        }
        db.commit(checkpoint);
        assert_eq!(state_of(&file, &states), seq);
        if rng.below(4) == 0 {
            db = file.open().unwrap();
        }
    }
}

/// A member that starts from this goes on as if nothing had happened.
fn goes_on(mut file: File, rng: &mut Rng, state: &[Model; 3]) {
    let mut db = file.open().unwrap();
    let mut state = state.clone();
    for _ in 0..3 {
        let batch = small_batch(rng);
        TREES.iter().zip(&mut state).for_each(|(tree, model)| update(model, *tree, &batch));
        apply(&mut db, &mut file, &batch);
        assert_eq!(file.check(), []);
        for (tree, model) in TREES.iter().zip(&state) {
            assert!(contents(&db.tree(&file, *tree)) == *model);
        }
    }
}

#[test]
fn a_crash_leaves_the_old_checkpoint_or_the_new_one() {
    for seed in 0..6 {
        history(seed);
    }
}

#[test]
fn a_fallback_is_whole_until_the_next_superblock_is() {
    let (mut db, mut file) = create(SMALL);
    let mut rng = Rng::new(7);
    let mut states = vec![Model::new()];
    for seq in 1..40 {
        let mut batch = Batch::new();
        for _ in 0..30 {
            let key = random_key(&mut rng, Shape::Paths, 300);
            batch.insert((TreeId::Keys, key), Some(random_value(&mut rng)));
        }
        let mut state = states[seq - 1].clone();
        update(&mut state, TreeId::Keys, &batch);
        states.push(state);
        apply(&mut db, &mut file, &batch);
        // Both copies of the newest rot.
        let mut rotten = file.clone();
        db.meta().offsets().into_iter().for_each(|at| rotten.write(at, &[0xff; 100]));
        let older = rotten.open().unwrap();
        assert_eq!(older.meta().seq.0, to_u64(seq - 1));
        assert!(contents(&older.tree(&rotten, TreeId::Keys)) == states[seq - 1]);
        assert_eq!(rotten.check(), []);
    }
}
