//! The command line of `cairn bench`.

use std::path::PathBuf;

use crate::target::Files;
use crate::work::{lease, range, txn, watch};

/// Load for any endpoint that speaks etcd's v3 API
#[derive(Clone, Debug, clap::Args)]
#[command(disable_help_subcommand = true)]
pub struct Options {
    #[command(subcommand)]
    pub(crate) workload: Workload,
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) files: Files,
}

/// What every load has.
#[derive(Clone, Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Common {
    /// Endpoints, with commas; connections take them in turn
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "http://127.0.0.1:2379",
        value_name = "URLS",
        global = true
    )]
    pub(crate) endpoints: Vec<String>,
    /// Who asks, as name:password
    #[arg(long, value_name = "NAME:PASSWORD", global = true)]
    pub(crate) user: Option<String>,
    /// Connections
    #[arg(long, default_value_t = 10, global = true, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub(crate) connections: u32,
    /// Operations that each connection has under way at most
    #[arg(long, default_value_t = 10, global = true, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) in_flight: u32,
    /// Threads that make the load
    #[arg(long, default_value_t = 1, global = true, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) threads: u32,
    /// Operations in a second, whatever the server does; without it the next begins when one is done
    #[arg(long, global = true, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub(crate) rate: Option<u64>,
    /// For how long it is measured
    #[arg(long, default_value_t = 10, global = true, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) seconds: u64,
    /// Measure so many operations, however long they take
    #[arg(long, conflicts_with = "seconds", global = true, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) total: Option<u64>,
    /// Seconds before it is measured
    #[arg(long, default_value_t = 1, global = true, value_parser = clap::value_parser!(u64).range(0..=100_000))]
    pub(crate) warm_up: u64,
    /// Keys
    #[arg(long, default_value_t = 100_000, global = true, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) keys: u64,
    /// Bytes of a key
    #[arg(long, default_value_t = 8, global = true, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) key_bytes: u32,
    /// Bytes of a value
    #[arg(long, default_value_t = 256, global = true, value_parser = clap::value_parser!(u32).range(0..=16_777_216))]
    pub(crate) value_bytes: u32,
    /// What keys begin with
    #[arg(long, global = true)]
    pub(crate) prefix: Option<String>,
    /// One key after another, instead of any of them
    #[arg(long, global = true)]
    pub(crate) sequential: bool,
    /// Use the keys that are there, instead of deleting what begins with the prefix and writing them
    #[arg(long, global = true)]
    pub(crate) no_populate: bool,
    /// Where the choice of keys begins
    #[arg(long, default_value_t = 1, global = true)]
    pub(crate) seed: u64,
    /// Processes of the server, with commas: their CPU time and memory are told
    #[arg(long, value_delimiter = ',', value_name = "PIDS", global = true)]
    pub(crate) server_pid: Vec<u32>,
    /// What this run is called in reports
    #[arg(long, default_value = "", global = true)]
    pub(crate) label: String,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Write a page with plots
    #[arg(long, value_name = "FILE.html", global = true)]
    pub(crate) report: Option<PathBuf>,
    /// Do not tell how far it is
    #[arg(long, global = true)]
    pub(crate) quiet: bool,
}

/// What the load is made of.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum Workload {
    /// Write keys
    Put,
    /// Read keys
    Range {
        /// What is read
        #[arg(long, value_enum, default_value_t = range::What::Point)]
        what: range::What,
        /// Keys of an answer, where there is a limit
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
        limit: u64,
        /// Let each member answer with what it has
        #[arg(long)]
        serializable: bool,
    },
    /// Transactions
    Txn {
        /// What they do
        #[arg(long, value_enum, default_value_t = txn::What::Put)]
        what: txn::What,
        /// Puts of a transaction
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=128))]
        operations: u64,
        /// Reads among a hundred transactions of a mix
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(0..=100))]
        reads: u64,
        /// Rows of a read
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
        limit: u64,
    },
    /// Delete keys, each once
    Delete,
    /// Leases
    Lease {
        /// What is done with them
        #[arg(long, value_enum, default_value_t = lease::What::Grant)]
        what: lease::What,
        /// Leases that are kept alive, or end
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
        leases: u64,
        /// Seconds of a lease; of those that end, from now until they do
        #[arg(long, default_value_t = 3600, value_parser = clap::value_parser!(i64).range(2..=1_000_000_000))]
        ttl: i64,
    },
    /// Watches
    Watch {
        /// What watchers do
        #[arg(long, value_enum, default_value_t = watch::What::FanOut)]
        what: watch::What,
        /// Connections of watchers
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        watch_connections: u32,
        /// Streams of such a connection
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        streams: u32,
        /// Watchers of such a stream
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
        watchers: u64,
        /// Keys that are watched
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
        watched_keys: u64,
        /// Events of the past
        #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
        events: u64,
    },
    /// What a Kubernetes API server does
    Kubernetes {
        /// Nodes, whose leases are renewed
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
        nodes: u64,
        /// Pods, whose status changes
        #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
        pods: u64,
        /// Watchers of namespaces
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
        watchers: u64,
    },
    /// Connect, ask one thing, and go
    Storm,
    /// Calls that do nothing
    Empty,
    /// What this machine can do at best, without a server
    Probe {
        /// Where to write
        #[arg(long, default_value = ".", value_name = "DIRECTORY")]
        directory: PathBuf,
    },
    /// A page of what other runs printed with --json
    Report {
        /// Their files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}
