//! Random commands, reads and sweeps.

use cairn_engine::api::Error;
use cairn_engine::api::etcdserverpb::{RangeRequest, TxnRequest};
use cairn_engine::command::Command;
use cairn_engine::lease::ClusterTime;
use cairn_engine::mvcc::hash::KvHash;
use cairn_engine::mvcc::{Record, View};
use cairn_engine::state_machine::StateMachine;
use cairn_sim::model::Model;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::generate::{self, Resolve};
use crate::pair::{self, Pair};

/// A command, and what is looked at when it was applied.
#[derive(Clone, Debug)]
struct Step {
    command: Command,
    /// Time may go back when the leader changes.
    elapsed_ms: i64,
    /// Changes for the sweep to look at, if it goes on.
    sweep: Option<usize>,
    range: RangeRequest,
    read: TxnRequest,
    /// Whether the view of this moment is kept.
    keeps_view: bool,
    /// Which of the views that were kept is asked, too.
    old_view: prop::sample::Index,
}

fn step() -> impl Strategy<Value = Step> {
    let elapsed_ms = prop_oneof![8 => 0..1500_i64, 1 => -1000..0_i64, 1 => 2000..9000_i64];
    let sweep =
        prop_oneof![3 => Just(None), 4 => (1..4_usize).prop_map(Some), 1 => Just(Some(1000))];
    (
        (generate::command(), elapsed_ms, sweep),
        (generate::range(), generate::read()),
        (prop::bool::weighted(0.2), any::<prop::sample::Index>()),
    )
        .prop_map(|((command, elapsed_ms, sweep), (range, read), (keeps_view, old_view))| {
            Step { command, elapsed_ms, sweep, range, read, keeps_view, old_view }
        })
}

/// The hashes of history at every revision that can be asked for.
fn hashes(state: &StateMachine) -> Vec<Result<KvHash, Error>> {
    let store = &state.store;
    let revisions = store.compacted() - 1..=store.revision() + 1;
    revisions.map(|revision| store.hash(revision, store.sweeping())).collect()
}

/// Applies the steps; all that can be seen is compared at each.
fn run(steps: Vec<Step>) {
    let mut pair = Pair::default();
    // Another member, with the same log, that is late with its sweeps.
    let mut lazy = StateMachine::default();
    let mut time_ms = 10_000_u64;
    let mut views: Vec<(View, Model)> = Vec::new();
    for Step { command, elapsed_ms, sweep, range, read, keeps_view, old_view } in steps {
        time_ms = time_ms.saturating_add_signed(elapsed_ms);
        let command = command.resolve(&pair.model);
        if pair.apply(time_ms, command.clone()) {
            drop(lazy.apply(ClusterTime(time_ms), command));
        }
        if let Some(changes_max) = sweep {
            pair.state.store.sweep(changes_max);
        }
        assert_eq!(hashes(&lazy), hashes(&pair.state), "members need not sweep in step");
        pair.check_all();

        views.push((pair.state.store.view(), pair.model.clone()));
        let (view, model) = old_view.get(&views);
        for (view, model) in [(&*pair.state.store, &pair.model), (view, model)] {
            pair::check_range(view, model, &range.clone().resolve(model));
            pair::check_read(view, model, &read.clone().resolve(model));
        }
        if !keeps_view {
            views.pop();
        }
    }
    for (view, model) in &views {
        pair::check_view(view, model);
    }
    // What the log says is all that counts: at the end both members hold the same bytes.
    for state in [&mut pair.state, &mut lazy] {
        while state.store.sweeping().is_some() {
            state.store.sweep(2);
        }
        state.check();
    }
    pair.check_all();
    let bytes = |state: &StateMachine| -> Vec<Vec<u8>> {
        state.store.records().map(|record: Record| record.as_bytes().to_vec()).collect()
    };
    assert_eq!(bytes(&pair.state), bytes(&lazy));
}

#[test]
fn the_state_machine_does_what_the_model_does() {
    crate::check(500, &vec(step(), 1..80), run);
}
