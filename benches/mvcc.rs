//! The key space: a hundred thousand keys, asked and changed.

use bytes::Bytes;
use cairn_benches::{KEYS, apply, filled, key, put};
use cairn_engine::api::etcdserverpb::compare::{CompareTarget, TargetUnion};
use cairn_engine::api::etcdserverpb::request_op::Request;
use cairn_engine::api::etcdserverpb::{Compare, RangeRequest, RequestOp, TxnRequest};
use cairn_engine::command::Command;
use cairn_engine::state_machine::StateMachine;
use criterion::Criterion;

fn interval(from: u32, to: u32) -> RangeRequest {
    RangeRequest { key: key(from), range_end: key(to), ..RangeRequest::default() }
}

fn reads(criterion: &mut Criterion, state: &StateMachine) {
    let everything = RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        ..RangeRequest::default()
    };
    for (name, request) in [
        ("range one key", RangeRequest { key: key(KEYS / 2), ..RangeRequest::default() }),
        ("range a missing key", RangeRequest { key: key(KEYS), ..RangeRequest::default() }),
        ("range 1000 keys", interval(5000, 6000)),
        ("range 10 of 100000 keys", RangeRequest { limit: 10, ..everything.clone() }),
        ("count 100000 keys", RangeRequest { count_only: true, ..everything }),
        ("range 100 keys of the past", {
            RangeRequest { revision: state.store.revision() - 10, ..interval(5000, 5100) }
        }),
    ] {
        criterion.bench_function(&format!("mvcc {name}"), |bencher| {
            bencher.iter(|| state.store.range(&request).expect("it can be read"));
        });
    }
}

/// Kubernetes' update: if the key is what it was, put it, else read it.
fn update(number: u32, mod_revision: i64) -> TxnRequest {
    let op = |request| vec![RequestOp { request: Some(request) }];
    TxnRequest {
        compare: vec![Compare {
            target: CompareTarget::Mod.into(),
            key: key(number),
            target_union: Some(TargetUnion::ModRevision(mod_revision)),
            ..Compare::default()
        }],
        success: op(Request::RequestPut(put(number))),
        failure: op(Request::RequestRange(RangeRequest {
            key: key(number),
            ..RangeRequest::default()
        })),
    }
}

fn writes(criterion: &mut Criterion, filled: &StateMachine) {
    // History grows meanwhile, as it does in a server between two compactions.
    let mut state = filled.clone();
    let mut number = 0;
    criterion.bench_function("mvcc put over a key", |bencher| {
        bencher.iter(|| {
            number = (number + 7919) % KEYS;
            apply(&mut state, Command::Put(put(number)))
        });
    });
    let mut state = filled.clone();
    let mut number = KEYS;
    criterion.bench_function("mvcc put a new key", |bencher| {
        bencher.iter(|| {
            number += 1;
            apply(&mut state, Command::Put(put(number)))
        });
    });
    let mut state = filled.clone();
    let mut revision = state.store.get(&key(7)).expect("it exists").revision().main;
    criterion.bench_function("mvcc txn that updates a key", |bencher| {
        bencher.iter(|| {
            let applied = apply(&mut state, Command::Txn(update(7, revision)));
            revision = state.store.revision();
            applied
        });
    });
    let mut state = filled.clone();
    criterion.bench_function("mvcc txn that loses", |bencher| {
        bencher.iter(|| apply(&mut state, Command::Txn(update(7, 1))));
    });
}

fn main() {
    let mut criterion = cairn_benches::criterion();
    let state = filled();
    reads(&mut criterion, &state);
    writes(&mut criterion, &state);
    criterion.final_summary();
}
