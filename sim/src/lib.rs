//! Cairn's engine in a hostile world.
//!
//! The same [`Replica`](cairn_engine::Replica) and [`Shard`](cairn_engine::Shard) that serve in production run
//! here, with simulated disks ([`disk`]), clocks ([`clock`]) and a network ([`network`]), in a [`world`] in which
//! chance, from a seed, decides what happens next. A [`script`] tells a story instead, and [`exhaust`] tells all short
//! ones of agreement alone. The [`model`] says what is
//! right: etcd's key space without any cleverness.
#![forbid(unsafe_code)]

pub mod check;
pub mod clock;
pub mod command;
pub mod disk;
pub mod exhaust;
pub mod fleet;
pub mod lab;
pub mod minimize;
pub mod model;
pub mod mutants;
pub mod network;
pub mod plan;
pub mod random;
pub mod record;
pub mod report;
pub mod run;
pub mod script;
pub mod swarm;
pub mod trace;
pub mod workload;
pub mod world;
