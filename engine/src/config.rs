//! What a member is told when it starts. Everything else it finds out.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::auto_compact::AutoCompaction;
use crate::ids::{ClusterId, MemberId};
use crate::peer::Incarnation;
use crate::storage::PageSize;

/// The settings of a member; fixed while it runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster.
    pub cluster: ClusterId,
    /// This member.
    pub id: MemberId,
    /// The members that the cluster began with: the same for each of them, for ever. None: this member joins
    /// others, and learns from them who they are.
    pub members: Vec<Member>,
    /// The name that this member gives itself.
    pub name: String,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// Its starts.
    pub lives: Lives,
    /// Whether all other members are to be forgotten.
    pub force_new_cluster: bool,
    /// Whether a change of members is refused that endangers the quorum.
    pub strict_reconfig_check: bool,
    /// How many learners there may be.
    pub learners_max: usize,
    /// Seeds all randomness (election jitter, segment salts); different for each start.
    pub seed: u64,
    /// A follower that hears no leader for one to two of these campaigns.
    pub election_timeout: Duration,
    /// A leader that has nothing to say says so this often.
    pub heartbeat_interval: Duration,
    /// Where the state is kept beside the log.
    pub storage: Storage,
    /// When the leader compacts history of itself, if it does.
    pub auto_compaction: Option<AutoCompaction>,
    /// Sizes and counts that bound work and memory.
    pub limits: Limits,
    /// The version that [`Status`](crate::api::Request::Status) shows.
    pub version: String,
}

/// Where a member keeps its state. What it finds at its start it reads, whatever this says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// In memory, with snapshots of all of it on disk.
    #[default]
    Snapshots,
    /// In trees on disk, with what has changed since the last checkpoint in memory.
    Trees,
}

/// The starts of a member on its disk. The driver keeps them in a file, and a disk that is wiped or set back to an
/// older copy has others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lives {
    /// The present one.
    pub now: Incarnation,
    /// Those since the last that the cluster is known to have heard of, that one included.
    pub before: Vec<Incarnation>,
}

/// A member that the cluster began with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: MemberId,
    /// Its name.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
}

/// What bounds work and memory. The simulator draws these anew for each run.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a request in the log. etcd: 1.5 MiB.
    pub request_bytes_max: usize,
    /// Bytes of entries that may be proposed and not yet applied, before new ones are refused. Bounds what a
    /// member without a quorum gathers.
    pub proposed_bytes_max: usize,
    /// Bytes of applied entries that stay in memory for peers that lag.
    pub log_memory_bytes: usize,
    /// The same, for peers that lag and answer: beyond it they are sent a snapshot.
    pub log_needed_bytes_max: usize,
    /// Bytes of a snapshot that may be on their way to a peer.
    pub snapshot_in_flight_bytes: u64,
    /// Bytes of a snapshot that go to a peer in a second, about.
    pub snapshot_bytes_per_second: u64,
    /// Bytes of data before an alarm is raised; `None`: no quota.
    pub quota_bytes: Option<u64>,
    /// Bytes of a segment of the log.
    pub segment_bytes: u64,
    /// Bytes of the first segment after a start.
    pub first_segment_bytes: u64,
    /// A snapshot is written when so many bytes of log were written since the last one, or as many as the state
    /// has, if that is more: the cost of snapshots stays proportional to that of the log. A restart reads
    /// that much of the log, and up to a segment more.
    pub snapshot_log_bytes: u64,
    /// Bytes of a page of a tree file: see [`PageSize`]. Fixed when the file is made.
    pub page_bytes: u32,
    /// Changes that a slice of a compaction looks at.
    pub sweep_changes_max: usize,
    /// Leases that end in one entry.
    pub expire_leases_max: usize,
    /// Keys that are deleted in one entry because their leases end, about.
    pub expire_keys_max: usize,
    /// Bytes of entries in one append message to a peer.
    pub append_bytes_max: usize,
    /// Append messages to one peer that may be unanswered.
    pub appends_in_flight_max: usize,
    /// Bytes of a watch response before it is cut into fragments, for watchers that want it.
    pub watch_fragment_bytes: usize,
    /// Bytes of responses that a watch stream may have under way before its watchers fall behind.
    pub watch_credit_bytes: usize,
    /// And that all streams of a connection may have under way together; beyond it, each may have one response.
    pub watch_connection_credit_bytes: usize,
    /// How often an idle watcher that wants it is told the revision.
    pub watch_progress_interval: Duration,
    /// How long a simple token is good without being used.
    pub token_ttl: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let request_bytes_max = 1536 << 10;
        Self {
            request_bytes_max,
            proposed_bytes_max: 256 << 20,
            log_memory_bytes: 4 << 20,
            log_needed_bytes_max: 64 << 20,
            snapshot_in_flight_bytes: 4 << 20,
            snapshot_bytes_per_second: 256 << 20,
            quota_bytes: Some(2 << 30),
            segment_bytes: 64 << 20,
            first_segment_bytes: 4 << 20,
            snapshot_log_bytes: 64 << 20,
            page_bytes: PageSize::DEFAULT.number(),
            sweep_changes_max: 500,
            expire_leases_max: 1000,
            expire_keys_max: 5000,
            append_bytes_max: 1 << 20,
            appends_in_flight_max: 64,
            watch_fragment_bytes: request_bytes_max + (512 << 10),
            watch_credit_bytes: 4 << 20,
            watch_connection_credit_bytes: 32 << 20,
            watch_progress_interval: Duration::from_secs(600),
            token_ttl: Duration::from_secs(300),
        }
    }
}

impl Config {
    /// How long a request may wait for the cluster: etcd's 5 seconds and two election timeouts.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election_timeout
    }

    /// The shortest TTL of a lease, in seconds: one and a half election timeouts, rounded up.
    pub fn lease_ttl_min(&self) -> i64 {
        let millis = self.election_timeout.as_millis() * 3 / 2;
        i64::try_from(millis.div_ceil(1000)).unwrap_or(i64::MAX)
    }
}
