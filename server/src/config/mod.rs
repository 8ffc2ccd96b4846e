//! What a member is to do, typed and verified.
//!
//! [`flags`](crate::flags) makes a [`Config`] from what people say. A field is named like its flag, so that each finds
//! the other. Zero, which means "off" or "default" in many flags, is an `Option` or the default here.

pub mod auto_compaction;
pub mod cluster;
pub mod duration;
pub mod gates;
pub mod invalid;
pub(crate) mod scalar;
pub mod security;
pub mod url;

use core::num::NonZeroUsize;
use core::time::Duration;
use std::collections::BTreeSet;
use std::path::PathBuf;

use cairn_engine::auto_compact::AutoCompaction;
use cairn_engine::config::Storage;

use crate::budget;
use crate::config::cluster::{ClusterState, InitialCluster};
use crate::config::gates::FeatureGates;
use crate::config::security::{AuthToken, Tls, TlsChoice};
use crate::config::url::Url;
use crate::discovery::Discovery;
use crate::{log, spans};

/// Everything that a member is told when it starts.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of etcd's and is named like it")]
pub struct Config {
    /// The member's name.
    pub name: String,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Where the log is kept, if not there.
    pub wal_dir: Option<PathBuf>,

    /// Where peers are listened to. Never empty; hosts are IPs or `localhost`, here and in the other three.
    pub listen_peer_urls: Vec<Url>,
    /// Where clients are listened to. Never empty.
    pub listen_client_urls: Vec<Url>,
    /// Where clients that speak HTTP are listened to; empty: at the same places as the others.
    pub listen_client_http_urls: Vec<Url>,
    /// Where only metrics and health are served. Plain HTTP is fine even where clients need TLS.
    pub listen_metrics_urls: Vec<Url>,
    /// What peers are told to dial. Never empty.
    pub initial_advertise_peer_urls: Vec<Url>,
    /// What clients are told to dial. Never empty.
    pub advertise_client_urls: Vec<Url>,

    /// The members that begin together. Counts only until there is a data directory: call
    /// [`verify_bootstrap`](Self::verify_bootstrap) before making one.
    pub initial_cluster: InitialCluster,
    /// Distinguishes clusters with the same addresses; goes into all ids.
    pub initial_cluster_token: String,
    /// How to find them instead, if nobody names them.
    pub discovery: Option<Discovery>,
    /// Whether the members begin together or this one joins.
    pub initial_cluster_state: ClusterState,
    /// Forgets all other members.
    pub force_new_cluster: bool,
    /// Whether a change of members is refused that would cost the quorum.
    pub strict_reconfig_check: bool,
    /// How many learners there may be.
    pub max_learners: usize,

    /// How often a leader is heard.
    pub heartbeat_interval: Duration,
    /// How long a leader may be silent; at least five heartbeats, at most 50 s.
    pub election_timeout: Duration,
    /// Only shown: the engine always asks before it campaigns.
    pub pre_vote: bool,
    /// Only shown: the engine writes snapshots when its log has grown by so many bytes.
    pub snapshot_count: u64,
    /// Trades what was promised to clients for speed.
    pub unsafe_no_fsync: bool,

    /// Bytes of data before an alarm; `None`: no quota.
    pub quota_backend_bytes: Option<u64>,
    /// Operations in a transaction.
    pub max_txn_ops: usize,
    /// Bytes of a request.
    pub max_request_bytes: usize,
    /// Streams of one connection.
    pub max_concurrent_streams: u32,
    /// Connections of clients; `None`: as many as there are descriptors for.
    pub connections_max: Option<u64>,
    /// What one client may have at once.
    pub client_limits: budget::Limits,
    /// Pings on clients' connections.
    pub grpc_keepalive: KeepAlive,
    /// When history is compacted; `None`: on request.
    pub auto_compaction: Option<AutoCompaction>,
    /// How often an idle watcher that wants it is told the revision.
    pub watch_progress_notify_interval: Duration,
    /// How often members compare all data; `None`: never.
    pub corrupt_check_time: Option<Duration>,
    /// How often a leader compares hashes of compactions, if the feature is on.
    pub compact_hash_check_time: Duration,

    /// Whether the JSON gateway is served.
    pub enable_grpc_gateway: bool,
    /// Whether the v2 API is served.
    pub enable_v2: bool,
    /// Origins of web pages that may ask.
    pub cors: Allowed,
    /// Host names that requests without TLS may name.
    pub host_whitelist: Allowed,
    /// How much is measured.
    pub metrics: MetricsLevel,
    /// Whether `/debug/pprof/` answers.
    pub enable_pprof: bool,

    /// Where spans are exported to; `None`: nowhere.
    pub distributed_tracing: Option<spans::Settings>,

    /// TLS of clients.
    pub client_tls: Tls,
    /// TLS of peers.
    pub peer_tls: Tls,
    /// What both may choose from.
    pub tls: TlsChoice,
    /// How long a certificate that is made here is good, in years.
    pub self_signed_cert_validity: u32,
    /// How users are known again.
    pub auth_token: AuthToken,
    /// How long a simple token is good without being used.
    pub auth_token_ttl: Duration,
    /// The cost of hashing a password: 4 to 31, each twice the one before.
    pub bcrypt_cost: u32,

    /// The log.
    pub log: log::Settings,
    /// An entry that takes longer to apply is logged.
    pub warning_apply_duration: Duration,
    /// A unary request that takes longer is logged.
    pub warning_unary_request_duration: Duration,

    /// Switches.
    pub feature_gates: FeatureGates,
    /// How many executors to run.
    pub cores: NonZeroUsize,
    /// What drives them.
    pub runtime: RuntimeChoice,
    /// Where the key space is kept.
    pub storage: Storage,
}

/// Pings on clients' connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// A client that pings more often loses its connection.
    pub min_time: Duration,
    /// After so long without a word a client is pinged; `None`: never.
    pub interval: Option<Duration>,
    /// After so long without an answer its connection ends.
    pub timeout: Duration,
}

/// Who may, by a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Everybody.
    All,
    /// Those with one of these texts.
    Only(BTreeSet<String>),
}

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsLevel {
    /// Counters.
    Basic,
    /// And how long calls take.
    Extensive,
}

/// What drives the executors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeChoice {
    /// glommio where the kernel allows it, else tokio.
    Auto,
    /// glommio, or not at all.
    Glommio,
    /// tokio.
    Tokio,
}

impl Allowed {
    /// A list; `*` in it, or nothing, is everybody.
    pub(crate) fn new(texts: &[String]) -> Self {
        if texts.is_empty() || texts.iter().any(|text| text == "*") {
            return Self::All;
        }
        Self::Only(texts.iter().cloned().collect())
    }

    /// Whether a text is among them.
    pub fn contains(&self, text: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(texts) => texts.contains(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_or_nothing_is_everybody() {
        let allowed = |texts: &[&str]| {
            Allowed::new(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
        };
        assert!(allowed(&[]).contains("x"));
        assert!(allowed(&["a", "*"]).contains("x"));
        assert!(allowed(&["a", "b"]).contains("b"));
        assert!(!allowed(&["a", "b"]).contains("x"));
    }
}
