//! Little else than deletions, compactions and sweeps that overtake each other: what nobody can ask for any more
//! goes, all of it, and nothing else does.

use bytes::Bytes;
use cairn_engine::api::etcdserverpb::request_op::Request as Op;
use cairn_engine::api::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use cairn_engine::command::Command;
use cairn_engine::mvcc::Revision;
use cairn_sim::model::{Keys, Model};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::pair::Pair;

#[derive(Clone, Debug)]
enum Step {
    Write(Command),
    Compact { back: i64 },
    Sweep { changes_max: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let key = || select(&["a", "b", "c"][..]).prop_map(Bytes::from);
    let put = || key().prop_map(|key| PutRequest { key, ..PutRequest::default() });
    // This end clashes with no put of the same transaction, whatever is deleted.
    let range_end = || select(&["", "\0"][..]).prop_map(Bytes::from);
    let delete = || {
        let request = |(key, range_end)| DeleteRangeRequest { key, range_end, prev_kv: false };
        (key(), range_end()).prop_map(request)
    };
    let op = prop_oneof![put().prop_map(Op::RequestPut), delete().prop_map(Op::RequestDeleteRange)];
    let op = op.prop_map(|request| RequestOp { request: Some(request) });
    let txn = vec(op, 1..5).prop_map(|success| TxnRequest { success, ..TxnRequest::default() });
    prop_oneof![
        3 => put().prop_map(Command::Put).prop_map(Step::Write),
        2 => delete().prop_map(Command::DeleteRange).prop_map(Step::Write),
        2 => txn.prop_map(Command::Txn).prop_map(Step::Write),
        3 => (0..3_i64).prop_map(|back| Step::Compact { back }),
        3 => (1..4_usize).prop_map(|changes_max| Step::Sweep { changes_max }),
    ]
}

/// What must be left: every change from the compact revision on, and what shows there.
fn left(model: &Model) -> Vec<Revision> {
    let all = Keys::all();
    let request = RangeRequest {
        key: all.key,
        range_end: all.range_end,
        revision: model.compacted(),
        ..RangeRequest::default()
    };
    let shown = model.range(&request).expect("the compact revision can be read").kvs;
    let is_left = |event: &&cairn_sim::model::Event| {
        event.revision >= model.compacted()
            || shown.iter().any(|kv| kv.key == event.kv.key && kv.mod_revision == event.revision)
    };
    // Of what one request did to a key, only the last shows later.
    let mut left: Vec<_> = model.events().iter().filter(is_left).collect();
    for at in (0..left.len()).rev() {
        let event = left[at];
        let is_replaced = left[at + 1..]
            .iter()
            .any(|later| later.revision == event.revision && later.kv.key == event.kv.key);
        if event.revision < model.compacted() && is_replaced {
            left.remove(at);
        }
    }
    left.iter().map(|event| Revision { main: event.revision, sub: event.sub }).collect()
}

#[test]
fn what_was_compacted_goes_and_nothing_else() {
    crate::check(400, &vec(step(), 1..60), |steps: Vec<Step>| {
        let mut pair = Pair::default();
        for step in steps {
            match step {
                Step::Write(command) => {
                    pair.apply(0, command);
                }
                Step::Compact { back } => {
                    let revision = (pair.model.revision() - back).max(0);
                    let compaction = CompactionRequest { revision, physical: true };
                    pair.apply(0, Command::Compact(compaction));
                }
                Step::Sweep { changes_max } => {
                    pair.state.store.sweep(changes_max);
                    pair.check_all();
                }
            }
            if pair.state.store.sweeping().is_none() {
                let found: Vec<_> =
                    pair.state.store.records().map(|record| record.revision()).collect();
                assert_eq!(found, left(&pair.model));
            }
        }
    });
}
