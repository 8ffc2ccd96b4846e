//! What the benchmarks share: a store to ask, and how long to look.
//!
//! Each benchmark is one hot function, alone and in memory: a number here explains a change of an end-to-end figure,
//! it never replaces one. [README](README.md) says how to run them.

#![forbid(unsafe_code)]

use core::time::Duration;

use bytes::Bytes;
use cairn_engine::api::etcdserverpb::PutRequest;
use cairn_engine::command::Command;
use cairn_engine::lease::ClusterTime;
use cairn_engine::state_machine::{Applied, StateMachine};
use criterion::Criterion;

/// Keys of the store that is asked.
pub const KEYS: u32 = 100_000;
/// Bytes of a value, as in etcd's own benchmarks.
pub const VALUE_BYTES: usize = 256;

/// Settings for short runs: trends of some percent show, and all of them take two minutes.
pub fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args()
}

/// The name of a key.
pub fn key(number: u32) -> Bytes {
    Bytes::from(format!("/registry/pods/default/{number:08}"))
}

/// A put of a key.
pub fn put(number: u32) -> PutRequest {
    let value = Bytes::from(vec![b'x'; VALUE_BYTES]);
    PutRequest { key: key(number), value, ..PutRequest::default() }
}

/// Applies a command.
pub fn apply(state: &mut StateMachine, command: Command) -> Applied {
    state.apply(ClusterTime(0), command)
}

/// A state with [`KEYS`] keys.
pub fn filled() -> StateMachine {
    let mut state = StateMachine::default();
    for number in 0..KEYS {
        let applied = apply(&mut state, Command::Put(put(number)));
        assert!(applied.outcome.is_ok(), "a put succeeds");
    }
    state
}
