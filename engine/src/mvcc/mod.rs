//! The key space with its history: etcd's multi-version model.
//!
//! Every change of the key space has a [`Revision`] and leaves a [`Record`]. Records are never changed; a
//! deletion leaves one, too (a *tombstone*). Three ordered trees hold them:
//!
//! ```text
//!  K  key      → its newest record        the keys that exist now
//!  D  key      → its tombstone            the keys that existed, while history still shows them
//!  R  revision → record                   history, the newest records included
//! ```
//!
//! A record names the record that it replaced (`prev`), so that a key's versions are a chain through R, and
//! one further back (`jump`), so that the chain is descended in O(log n) steps (see [`record`]).
//!
//! The trees are persistent ([`cow`](crate::cow)): a [`View`] is a handle on all three at one moment, cheap to
//! clone, and read on any core without a lock while the [`Store`] goes on.
//!
//! Where the state is kept in trees on disk, all this is only what has changed since the last checkpoint: a
//! [`layer`] over its [`base`].
//!
//! # Invariants
//!
//! - M1 The revision grows by exactly one per committed request that changed a key, and never shrinks; it is a
//!   field of its own, never derived from what keys survive.
//! - M2 A key is in K or in D, never in both.
//! - M3 Every record of K and of D is in R.
//! - M4 What is needed to read at the compact revision or above is in R. What is not needed goes, in slices.
//! - M5 Every change at exactly the compact revision stays, tombstones and what was replaced at once included: a
//!   watch that starts there is owed its event.
//! - M6 A layer that lies over something knows, of each key that it says anything of, whether the key exists below. So
//!   counting needs no look at what is below.

pub mod base;
pub mod batch;
pub mod cell;
pub mod compact;
pub mod hash;
pub mod layer;
pub mod range;
pub mod record;
pub mod revision;
pub mod store;
pub mod txn;
pub mod view;

#[cfg(test)]
mod tests;

pub use range::RangeResult;
pub use record::Record;
pub use revision::Revision;
pub use store::{Change, Restore, Store};
pub use view::View;
