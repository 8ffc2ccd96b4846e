//! The real world below Cairn.
//!
//! The engine decides and touches nothing; this crate touches and decides nothing. It carries what the
//! engine asks for to threads, sockets, files and clocks, on either of two runtimes.
//!
//! | chapter | what |
//! |---|---|
//! | [`runtime`] | the small trait that the server is written against; glommio (`io_uring`) and tokio behind it; starting executors |
//! | [`probe`] | which of the two this machine allows, and why not the other |
//! | [`pulse`] | the thread that notices an executor which sleeps although it has work, and wakes it |
//! | [`disk`] | durable writes for the log, files for snapshots, all errors typed |
//! | [`driver`] | the turn of a core: everything above, in the service of the engine |
//! | [`mailbox`] | batches from core to core |
//! | [`listener`] | sockets to accept on: exclusive, or one per executor |
//! | [`lives`] | the starts of a member, written down |
//! | [`datadir`] | the directory that belongs to one process at a time |
//! | [`signals`], [`limits`], [`clock`] | what a process asks of its kernel once |
//!
//! # Order at start
//!
//! [`signals::block`] (before any thread exists) → [`datadir::DataDir::open`] → [`lives::begin`] → [`limits::raise`] →
//! [`listener::bind`] → [`probe::select`] → [`runtime::launch`].
//!
//! `unsafe` is confined to `sys.rs`; `docs/decisions/unsafe-in-io.md` lists it.

pub mod clock;
pub mod datadir;
pub mod disk;
pub mod driver;
pub mod limits;
pub mod listener;
pub mod lives;
pub mod mailbox;
mod mmap;
pub mod probe;
pub mod pulse;
pub mod runtime;
pub mod signals;
mod sys;
