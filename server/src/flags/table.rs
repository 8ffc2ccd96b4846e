//! All flags, each in one row: what it takes, what it means without being given, what Cairn does with it.
//!
//! Names, defaults and kinds are etcd's; they are what manifests, scripts and variables depend on.

use crate::flags::retired::RETIRED;
use crate::flags::value::Kind::{
    self, Bool, Choice, Duration, Gates, Level, Names, Origins, Secret, Signed, Text, Unsigned,
    Unsigned32, Urls,
};

/// A flag.
#[derive(Debug)]
pub(super) struct Flag {
    /// Without dashes before it.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) default: &'static str,
    pub(super) treatment: Treatment,
    /// For people.
    pub(super) help: &'static str,
}

/// What Cairn does with a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Treatment {
    /// It is in the [`Config`](crate::config::Config), or is used here.
    Obeyed,
    /// A value other than the default is answered with a warning that says why it changes nothing.
    WithoutEffect(&'static str),
    /// The same, but a later version will obey it.
    NotYet(&'static str),
    /// With a value other than the default the member does not start: doing something else would be worse.
    Refused(&'static str),
    /// It says these other flags: names, and values with the text for `{}`.
    Replaced(&'static [(&'static str, &'static str)]),
    /// Nobody looks, as in etcd.
    Ignored,
}

/// Flags that people look for together.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) title: &'static str,
    pub(super) flags: &'static [Flag],
}

/// A row.
pub(super) const fn flag(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    treatment: Treatment,
    help: &'static str,
) -> Flag {
    Flag { name, kind, default, treatment, help }
}

/// All flags: first those that stand for others, so that those count which were said themselves.
pub(super) fn flags() -> impl Iterator<Item = &'static Flag> {
    RETIRED.iter().chain(GROUPS.iter().flat_map(|group| group.flags))
}

/// The flag with a name.
pub(super) fn find(name: &str) -> Option<&'static Flag> {
    flags().find(|flag| flag.name == name)
}

use Treatment::{NotYet, Obeyed, WithoutEffect};

/// The flags of today, for `--help`.
#[rustfmt::skip] // A table reads as a table.
pub(super) static GROUPS: [Group; 11] = [
    Group { title: "Member", flags: &[
        flag("name", Text, "default", Obeyed, "The member's name, unique in the cluster."),
        flag("data-dir", Text, "", Obeyed, "Where everything is kept; empty: <name>.cairn."),
        flag("wal-dir", Text, "", Obeyed, "Where the log is kept, if not in the data directory."),
        flag("listen-peer-urls", Urls, "http://localhost:2380", Obeyed, "Where to listen to peers."),
        flag("listen-client-urls", Urls, "http://localhost:2379", Obeyed, "Where to listen to clients: gRPC, and HTTP unless it has places of its own."),
        flag("listen-client-http-urls", Urls, "", Obeyed, "Where to listen to clients that speak HTTP, and not at the places before."),
        flag("heartbeat-interval", Unsigned, "100", Obeyed, "Milliseconds between a leader's heartbeats."),
        flag("election-timeout", Unsigned, "1000", Obeyed, "Milliseconds without a leader before an election; at least 5 heartbeats, at most 50000."),
        flag("initial-election-tick-advance", Bool, "true", WithoutEffect(ELECTIONS), "Whether to wait less for the first election."),
        flag("snapshot-count", Unsigned, "10000", WithoutEffect("snapshots follow the bytes of the log, not the number of its entries"), "Entries between two snapshots."),
        flag("snapshot-catchup-entries", Unsigned, "5000", WithoutEffect("what is kept for slow peers is bounded in bytes, not in entries"), "Entries kept for slow peers after a snapshot."),
        flag("max-wals", Unsigned, "5", WithoutEffect("segments of the log are used again, none pile up"), "Files of the log to keep; 0: all."),
        flag("memory-mlock", Bool, "false", WithoutEffect("memory is not locked; switch swapping off instead"), "Whether to keep all memory in RAM."),
        flag("quota-backend-bytes", Signed, "0", Obeyed, "Bytes of data before an alarm and refused writes; 0: 2 GiB, negative: no quota."),
        flag("backend-bbolt-freelist-type", Text, "", WithoutEffect(STORAGE), "How bbolt remembers free pages."),
        flag("backend-batch-interval", Duration, "0s", WithoutEffect(STORAGE), "How long bbolt gathers writes."),
        flag("backend-batch-limit", Signed, "0", WithoutEffect(STORAGE), "How many writes bbolt gathers."),
        flag("max-txn-ops", Unsigned, "128", Obeyed, "Operations in a transaction."),
        flag("max-request-bytes", Unsigned, "1572864", Obeyed, "Bytes of a request."),
        flag("max-concurrent-streams", Unsigned32, "4294967295", Obeyed, "Streams of one connection."),
        flag("grpc-keepalive-min-time", Duration, "5s", Obeyed, "Who pings more often loses its connection (without calls: than every two hours)."),
        flag("grpc-keepalive-interval", Duration, "2h", Obeyed, "A client is pinged after so long without a word; 0: never."),
        flag("grpc-keepalive-timeout", Duration, "20s", Obeyed, "And loses its connection after so long without an answer."),
        flag("socket-reuse-port", Bool, "false", WithoutEffect("a port is shared by the cores of this process, never with another process"), "Whether to set SO_REUSEPORT."),
        flag("socket-reuse-address", Bool, "false", WithoutEffect("SO_REUSEADDR is always set"), "Whether to set SO_REUSEADDR."),
        flag("enable-grpc-gateway", Bool, "true", Obeyed, "Whether to serve the JSON gateway (/v3/…)."),
        flag("raft-read-timeout", Duration, "5s", WithoutEffect(PEERS), "How long to read from a peer."),
        flag("raft-write-timeout", Duration, "5s", WithoutEffect(PEERS), "How long to write to a peer."),
        flag("feature-gates", Gates, "", Obeyed, "Switches, as Name=true,Name=false; see the end."),
        flag("config-file", Text, "", Obeyed, "A YAML or JSON file with all of this; other flags and variables then count for nothing."),
        flag("version", Bool, "false", Obeyed, "Show the version."),
    ] },
    Group { title: "Cluster", flags: &[
        flag("initial-advertise-peer-urls", Urls, "http://localhost:2380", Obeyed, "Where peers find this member."),
        flag("initial-cluster", Text, "default=http://localhost:2380", Obeyed, "All members, as name=url,name=url."),
        flag("initial-cluster-state", Choice(&["new", "existing"]), "new", Obeyed, "Whether all members are new or this one joins others; ignored once it has joined."),
        flag("initial-cluster-token", Text, "etcd-cluster", Obeyed, "Keeps clusters apart that have the same addresses."),
        flag("advertise-client-urls", Urls, "http://localhost:2379", Obeyed, "Where clients find this member; needed with --listen-client-urls."),
        flag("strict-reconfig-check", Bool, "true", Obeyed, "Whether to refuse a change of members that would cost the quorum."),
        flag("max-learners", Unsigned, "1", Obeyed, "Learners in the cluster."),
        flag("pre-vote", Bool, "true", WithoutEffect("a member always asks whether it could win before it campaigns"), "Whether to ask before an election."),
        flag("auto-compaction-mode", Text, "periodic", Obeyed, "What --auto-compaction-retention counts: periodic or revision."),
        flag("auto-compaction-retention", Text, "0", Obeyed, "History to keep: a duration, hours, or revisions; 0: all."),
        flag("discovery-srv", Text, "", Obeyed, "Find members by DNS."),
        flag("discovery-srv-name", Text, "", Obeyed, "A suffix of the names in DNS."),
        flag("discovery-endpoints", Names, "", Obeyed, "Find members by asking another cluster."),
        flag("discovery-token", Text, "", Obeyed, "Which cluster to ask for there."),
        flag("discovery-fallback", Choice(&["exit", "proxy"]), "exit", Obeyed, "What to do if members cannot be found."),
        flag("discovery-dial-timeout", Duration, "2s", WithoutEffect("--discovery-request-timeout counts for that too"), "How long to dial there."),
        flag("discovery-request-timeout", Duration, "5s", Obeyed, "How long to ask there."),
        flag("discovery-keepalive-time", Duration, "2s", WithoutEffect("each question there has a connection of its own"), "How often to ping there."),
        flag("discovery-keepalive-timeout", Duration, "6s", WithoutEffect("each question there has a connection of its own"), "How long to wait for an answer from there."),
        flag("discovery-insecure-transport", Bool, "true", WithoutEffect("the URL of an endpoint says whether TLS is spoken"), "Whether to go there without TLS."),
        flag("discovery-insecure-skip-tls-verify", Bool, "false", Obeyed, "Whether to believe anybody there."),
        flag("discovery-cert", Text, "", Obeyed, "The certificate to show there."),
        flag("discovery-key", Text, "", Obeyed, "Its key."),
        flag("discovery-cacert", Text, "", Obeyed, "Who may have signed the certificate there."),
        flag("discovery-user", Secret, "", Obeyed, "The user there."),
        flag("discovery-password", Secret, "", Obeyed, "And the password."),
    ] },
    Group { title: "TLS of clients", flags: &[
        flag("cert-file", Text, "", Obeyed, "The certificate to show."),
        flag("key-file", Text, "", Obeyed, "Its key."),
        flag("client-cert-auth", Bool, "false", Obeyed, "Whether clients must show a certificate."),
        flag("trusted-ca-file", Text, "", Obeyed, "Who may have signed it."),
        flag("client-crl-file", Text, "", Obeyed, "Certificates that were revoked."),
        flag("client-cert-allowed-hostname", Names, "", Obeyed, "Host names that it may have; empty: any."),
        flag("client-cert-allowed-cn", Names, "", Obeyed, "Common names that it may have; empty: any. In etcd only in the file."),
        flag("client-skip-client-san-verification", Bool, "false", WithoutEffect(NO_ADDRESSES), "Whether the client's address need not be in it. In etcd only in the file."),
        flag("client-cert-file", Text, "", WithoutEffect(NO_DIALLING), "The certificate to dial with, if not --cert-file."),
        flag("client-key-file", Text, "", WithoutEffect(NO_DIALLING), "Its key."),
        flag("auto-tls", Bool, "false", Obeyed, "Whether to make a certificate if there is none."),
    ] },
    Group { title: "TLS of peers", flags: &[
        flag("peer-cert-file", Text, "", Obeyed, "The certificate to show."),
        flag("peer-key-file", Text, "", Obeyed, "Its key."),
        flag("peer-client-cert-auth", Bool, "false", Obeyed, "Whether peers must show a certificate."),
        flag("peer-trusted-ca-file", Text, "", Obeyed, "Who may have signed it."),
        flag("peer-crl-file", Text, "", Obeyed, "Certificates that were revoked."),
        flag("peer-cert-allowed-cn", Names, "", Obeyed, "Common names that it may have; empty: any."),
        flag("peer-cert-allowed-hostname", Names, "", Obeyed, "Host names that it may have; empty: any."),
        flag("peer-skip-client-san-verification", Bool, "false", Obeyed, "Whether the peer's address need not be in it."),
        flag("peer-client-cert-file", Text, "", Obeyed, "The certificate to dial with, if not --peer-cert-file."),
        flag("peer-client-key-file", Text, "", Obeyed, "Its key."),
        flag("peer-auto-tls", Bool, "false", Obeyed, "Whether to make a certificate if there is none."),
    ] },
    Group { title: "Security of both, and of HTTP", flags: &[
        flag("self-signed-cert-validity", Unsigned32, "1", Obeyed, "Years that a certificate is good that is made here."),
        flag("cipher-suites", Names, "", Obeyed, "Cipher suites of TLS 1.2 by Go's names; empty: all good ones."),
        flag("tls-min-version", Text, "TLS1.2", Obeyed, "The oldest TLS: TLS1.2 or TLS1.3."),
        flag("tls-max-version", Text, "", Obeyed, "The newest TLS; empty: whatever there is."),
        flag("cors", Origins, "*", Obeyed, "Origins of web pages that may ask; * or nothing: all."),
        flag("host-whitelist", Names, "*", Obeyed, "Names that HTTP requests may use for this host without TLS; * or nothing: all."),
    ] },
    Group { title: "Users", flags: &[
        flag("auth-token", Text, "simple", Obeyed, "How users are known again: simple, or jwt,sign-method=…,pub-key=…,priv-key=…,ttl=…."),
        flag("auth-token-ttl", Unsigned, "300", Obeyed, "Seconds that a simple token is good without being used."),
        flag("bcrypt-cost", Unsigned, "10", Obeyed, "Cost of hashing a password, 4 to 31."),
    ] },
    Group { title: "Monitoring", flags: &[
        flag("listen-metrics-urls", Urls, "", Obeyed, "Where to serve only /metrics, /health, /livez and /readyz."),
        flag("metrics", Text, "basic", Obeyed, "How much to measure: basic, or extensive for how long calls take."),
        flag("enable-pprof", Bool, "false", Obeyed, "Whether /debug/pprof/ answers, with profiles of CPU time for go tool pprof."),
        flag("watch-progress-notify-interval", Duration, "10m", Obeyed, "How often an idle watcher that wants it is told the revision."),
        flag("warning-apply-duration", Duration, "100ms", WithoutEffect("applying an entry waits for nothing; see --warning-unary-request-duration"), "Log what takes longer to apply."),
        flag("warning-unary-request-duration", Duration, "300ms", Obeyed, "Log unary requests that take longer."),
        flag("corrupt-check-time", Duration, "0s", WithoutEffect(DIGESTS), "How often members compare all data; 0: never."),
        flag("compact-hash-check-time", Duration, "1m", WithoutEffect(DIGESTS), "How often hashes of compactions are compared."),
        flag("compaction-batch-limit", Signed, "1000", WithoutEffect(COMPACTION), "Revisions that a compaction deletes at once."),
        flag("compaction-sleep-interval", Duration, "10ms", WithoutEffect(COMPACTION), "How long it sleeps then."),
        flag("bootstrap-defrag-threshold-megabytes", Unsigned, "0", WithoutEffect("files shrink while they are used"), "Free space that is worth defragmenting at start."),
        flag("downgrade-check-time", Duration, "5s", WithoutEffect("versions are compared whenever a member changes its own"), "How often a downgrade is looked after."),
    ] },
    Group { title: "Log", flags: &[
        flag("log-level", Level, "info", Obeyed, "debug, info, warn, error, panic or fatal."),
        flag("log-format", Text, "json", Obeyed, "json or console."),
        flag("log-outputs", Names, "default", Obeyed, "default and stderr, stdout, systemd/journal, or files."),
        flag("enable-log-rotation", Bool, "false", Obeyed, "Whether to begin a new file when one is large."),
        flag("log-rotation-config-json", Text, ROTATION, Obeyed, "Megabytes of a file; days and number of old ones, 0: no limit."),
        flag("logger", Text, "zap", Obeyed, "Only zap, which means lines as zap writes them."),
    ] },
    Group { title: "Distributed tracing", flags: &[
        flag("enable-distributed-tracing", Bool, "false", Obeyed, "Whether to export spans to a collector of OpenTelemetry."),
        flag("distributed-tracing-address", Text, "localhost:4317", Obeyed, "The collector, which speaks OTLP over gRPC, without TLS."),
        flag("distributed-tracing-service-name", Text, "etcd", Obeyed, "Under which name."),
        flag("distributed-tracing-instance-id", Text, "", Obeyed, "And id."),
        flag("distributed-tracing-sampling-rate", Signed, "0", Obeyed, "How many of a million calls, beside those whose clients trace them."),
    ] },
    Group { title: "Unsafe", flags: &[
        flag("force-new-cluster", Bool, "false", Obeyed, "Forget all other members: what only they had is lost."),
        flag("unsafe-no-fsync", Bool, "false", WithoutEffect("every write waits for the disk all the same; where that is too slow and loss does not matter, put the data directory on a tmpfs"), "Do not wait for the disk: a power failure loses what was promised."),
    ] },
    Group { title: "Only in Cairn", flags: &[
        flag("cores", Unsigned, "0", Obeyed, "Cores to use; 0: all, but one where there are only two."),
        flag("storage", Choice(&["memory", "trees"]), "trees", Obeyed, "Where the key space is: in a mapped file of trees, or in memory."),
        flag("runtime", Choice(&["auto", "glommio", "tokio"]), "auto", Obeyed, "What drives them; auto: glommio (io_uring), or tokio where the kernel refuses."),
        flag("cairn-connections", Unsigned, "0", Obeyed, "Connections of clients; more are closed at once. 0: descriptors, less 150."),
        flag("cairn-client-streams", Unsigned, "131072", Obeyed, "Calls under way of one client (a user, or else an address), at most; 0: no limit."),
        flag("cairn-client-watches", Unsigned, "1000000", Obeyed, "Watchers that one client may have; 0: no limit."),
        flag("cairn-client-leases", Unsigned, "1000000", Obeyed, "Leases of one client, of those granted by this member since its start; 0: no limit."),
        flag("cairn-client-bytes", Unsigned, "536870912", Obeyed, "Bytes of requests that one client may have under way; 0: no limit."),
        flag("cairn-client-requests-per-second", Unsigned, "0", Obeyed, "Requests, and messages on streams, that one client may send in a second; 0: no limit."),
        flag("enable-v2", Bool, "false", NotYet("the v2 API is not served"), "Whether to serve the v2 API, which etcd has no more."),
    ] },
];

/// Why some flags change nothing, for now or for ever, or are refused.
const DIGESTS: &str = "members compare digests of their states all the time";
const NO_ADDRESSES: &str = "addresses of clients are never compared with certificates, as in etcd";
const NO_DIALLING: &str = "a member does not dial itself: the JSON gateway takes no connection";
const ELECTIONS: &str = "the first election waits no longer than any other";
const STORAGE: &str = "the storage is not bbolt";
const PEERS: &str = "links to peers notice by themselves when a peer is gone";
const COMPACTION: &str = "compaction runs in slices too short to notice";
/// lumberjack's defaults.
const ROTATION: &str =
    r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#;
