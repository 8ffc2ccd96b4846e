//! Drives the engine on real cores, with a real disk.
//!
//! One [`run`] per executor. Each core has a [`Shard`](cairn_engine::Shard) for its own clients; core 0 also has the
//! [`Replica`](cairn_engine::Replica), the log, the snapshots and the links to other members ([`peers`]). Tasks of a core speak to its driver through a
//! [`Handle`], without a lock and without a hop; cores speak to each other in batches, one mailbox each.
//!
//! ```text
//!   core 0                                   core 1
//!  ┌───────────────────────────────┐        ┌────────────────────┐
//!  │ tasks ─ Handle ─► turn        │ ◄───── │ turn ◄─ Handle ─ tasks
//!  │           shard, replica      │ ─────► │  shard             │
//!  │             │ log, snapshots  │ batches│                    │
//!  └─────────────┼─────────────────┘        └────────────────────┘
//!                ▼ disk
//! ```
//!
//! A *turn* takes everything that has gathered, steps the engine, carries out what it wants, and sleeps until
//! something happens or a deadline comes. The engine says what must wait for what; nothing here does.
//!
//! # Limits
//!
//! A write to the log or to a snapshot that fails ends the process ([`Fatal`]): after a failed sync nobody knows
//! what the medium holds, and a restart reads it.

mod boot;
mod core_loop;
mod handle;
mod links;
mod log_files;
mod member;
mod peers;
mod snapshot_files;
mod tree_files;

use core::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use cairn_engine::Config;
use cairn_engine::event::{Event, Halt};
use cairn_engine::recovery::RecoveryError;

use crate::disk;

pub use boot::{BootDisk, Directory};
pub use core_loop::{Observer, OnFatal, run};
pub use handle::{Handle, Sink, WatchStream};
pub use links::{Seat, seats};
pub use peers::{
    Connector, PeerAcceptor, PeerCounters, PeerFigures, PeerNotice, RoundTrips, Securing,
};

/// What a core is told when it starts.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The engine's settings.
    pub engine: Config,
    /// The member's data directory, which exists and is locked.
    pub directory: PathBuf,
    /// Where the log is, if not in the data directory.
    pub log_directory: Option<PathBuf>,
    /// What makes connections to members secret whose URL wants that, if anything does.
    pub peer_connector: Option<Connector>,
    /// Where links to members are counted.
    pub peer_counters: Arc<PeerCounters>,
}

/// What the driver tells whoever started it, from core 0.
#[derive(Debug)]
pub enum Notice {
    /// The disk was read; the member goes on from there.
    Recovered(Recovered),
    /// A write to the log is durable.
    LogWritten {
        /// How many bytes it had.
        bytes: u64,
        /// How long it took.
        took: core::time::Duration,
    },
    /// Something that operators may want to know.
    Event(Event),
    /// Something about a link to another member.
    Peer(PeerNotice),
    /// A background chore failed and will be tried again.
    Trouble(disk::Error),
}

/// What was found on the disk.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The index that the snapshot covers.
    pub snapshot_index: u64,
    /// Entries of the log behind it.
    pub entries: usize,
    /// Where an unfinished write was cut off, if one was: segment and offset.
    pub torn: Option<(u64, u64)>,
    /// Snapshots that were passed over because they are damaged.
    pub damaged: Vec<String>,
    /// The state is damaged: another member has to bring it.
    pub state_missing: bool,
    /// How long reading took.
    pub took: core::time::Duration,
}

/// Why the process must end.
#[derive(Debug)]
pub enum Fatal {
    /// The disk failed where it must not.
    Disk(disk::Error),
    /// The engine refuses to go on.
    Halt(Halt),
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => write!(
                f,
                "{error}; what the medium holds is unknown now, so this process ends: check the disk, then start it again"
            ),
            Self::Halt(Halt::UnknownCommand { index, unknown }) => write!(
                f,
                "entry {index} of the log holds a command of a newer version ({unknown:?}): start that version"
            ),
            Self::Halt(Halt::Damaged(damage)) => write!(
                f,
                "the file of trees is damaged: {damage}; nothing that it says was given out: check the disk, then start this process again; \
                 if there are other members, they bring its state then"
            ),
            Self::Halt(Halt::Removed) => f.write_str(
                "this member was removed from the cluster for ever: its data is of no use any more; to have it back, \
                 add it anew (member add), empty its data directory, and start it with --initial-cluster-state existing",
            ),
        }
    }
}

/// Why a member cannot start.
#[derive(Debug)]
pub enum StartError {
    /// The disk's threads could not be started.
    Threads(std::io::Error),
    /// The disk fails.
    Disk(disk::Error),
    /// What the disk holds cannot be used.
    Recovery(RecoveryError),
    /// The engine refuses to go on from there.
    Halt(Halt),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Threads(error) => write!(f, "cannot start a thread for the disk: {error}"),
            Self::Disk(error) => error.fmt(f),
            Self::Recovery(error) => error.fmt(f),
            Self::Halt(halt) => Fatal::Halt(*halt).fmt(f),
        }
    }
}

impl core::error::Error for StartError {}

impl From<disk::Error> for StartError {
    fn from(error: disk::Error) -> Self {
        Self::Disk(error)
    }
}
