//! The deterministic core of Cairn.
//!
//! Everything that decides lives here and touches nothing: no clock, thread, file, socket, environment
//! or hash order. The same inputs give the same outputs on every machine, so a seeded simulator and a
//! production driver run the very same code.
//!
//! # The contract
//!
//! Two state machines, [`Replica`] (one per member) and [`Shard`] (one per core), share three rules:
//!
//! 1. `step` any number of inputs, then `poll` until it returns `None`; inputs stepped before a poll
//!    become one group commit.
//! 2. Outputs may be carried out in any order and at the same time (those of one stream keep their
//!    order): whatever must wait for durability is withheld in here, never by the driver.
//! 3. Every write to the medium is answered once, by success. A failed write or sync is not an answer:
//!    the process ends, and recovers by reading the medium.
//!
//! Time is an input: the caller passes [`Time`] to every step and promises to step
//! [`Input::Wake`] when `deadline()` has come. An idle member sleeps.
//!
//! # Reading order
//!
//! [`event`] names everything that goes in and comes out. [`replica`] routes it. Below lie the theories,
//! one folder each: [`raft`] (agreement), [`wal`] (durability), [`mvcc`] (the key space), [`watch`],
//! [`lease`] and [`auth`]. [`command`] says what a log entry means and [`state_machine`] does it. [`api`] is etcd's
//! wire vocabulary. [`import`] reads what etcd wrote. [`storage`] is the trees on disk, which nothing stands on yet.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod api;
pub mod auth;
pub mod auto_compact;
pub mod cluster;
pub mod command;
pub mod config;
pub mod cow;
pub mod event;
pub mod ids;
pub mod import;
pub mod lease;
pub mod mvcc;
pub mod peer;
pub mod raft;
pub mod range_stream;
pub mod recovery;
pub mod replica;
pub mod shard;
pub mod snapshot;
pub mod state_machine;
pub mod storage;
pub mod time;
pub mod tree_file;
pub mod wal;
pub mod watch;

mod convert;
mod quota;
mod rng;

pub use config::Config;
pub use event::{Input, Output, ShardInput, ShardOutput};
pub use ids::{ClusterId, ConnectionId, LeaseId, MemberId, RequestId, ShardId, StreamId};
pub use replica::Replica;
pub use rng::Rng;
pub use shard::Shard;
pub use time::Time;
