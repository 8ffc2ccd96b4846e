//! Why a member does not start with what it was told. The texts are etcd's where etcd has one: people search for
//! them.

use core::fmt;
use std::path::PathBuf;

use crate::config::duration::GoDuration;
use crate::config::url::UrlError;

/// What is wrong with the settings, taken one by one or together.
#[derive(Debug)]
pub enum Invalid {
    /// An argument that belongs to no flag.
    Positional(String),
    /// A variable and a flag say something about the same thing.
    Conflict(String),
    /// A variable has a value that its flag does not take.
    Variable {
        /// Its name.
        name: String,
        /// What it holds; hidden if it is a secret.
        value: String,
        /// Why not.
        why: String,
    },
    /// The configuration file cannot be read.
    File(PathBuf, std::io::Error),
    /// The configuration file is not YAML.
    Syntax(String),
    /// A key of the configuration file has a value that its flag does not take.
    Key {
        /// Its name, with those of the sections around it.
        name: String,
        /// Why not.
        why: String,
    },
    /// `--logger`.
    Logger(String),
    /// `--log-format`.
    LogFormat(String),
    /// `--log-outputs` has `default` among others.
    DefaultLogOutput,
    /// `--log-outputs` has the journal among others.
    JournalNotAlone(String),
    /// `--log-outputs` is not one file, which rotation needs.
    RotationOutputs,
    /// `--log-rotation-config-json`.
    Rotation(String),
    /// A place to listen at has a name.
    BindName(String),
    /// `--initial-advertise-peer-urls` without a host.
    AdvertisePeer(String, String),
    /// `--advertise-client-urls` without a host.
    AdvertiseClient(String, String),
    /// `--advertise-client-urls` is missing.
    AdvertiseClientUnset,
    /// `--discovery-fallback proxy`.
    Fallback,
    /// More than one way to find the other members.
    Bootstrap,
    /// Half of what discovery needs.
    Discovery,
    /// `--discovery-endpoints` has a gap.
    DiscoveryEndpoint,
    /// `--heartbeat-interval 0`.
    Heartbeat,
    /// `--election-timeout 0`.
    Election,
    /// `--election-timeout` is less than five heartbeats, in milliseconds.
    ElectionShort(u64, u64),
    /// `--election-timeout` is too long, in milliseconds.
    ElectionLong(u64, u64),
    /// `--auto-compaction-mode`.
    CompactionMode(String),
    /// `--auto-compaction-retention`.
    CompactionRetention(String),
    /// `--distributed-tracing-sampling-rate`.
    SamplingRate(&'static str),
    /// A feature needs another.
    GateNeeds(&'static str, &'static str),
    /// `--compact-hash-check-time 0`.
    CompactHashCheckTime(GoDuration),
    /// `--tls-min-version` or `--tls-max-version`.
    TlsVersion(String),
    /// The oldest version is newer than the newest.
    TlsRange(String, String),
    /// `--cipher-suites` where there is nothing to choose.
    CipherSuitesTls13,
    /// `--cipher-suites`.
    CipherSuite(String),
    /// `--auth-token`.
    AuthToken,
    /// `--auth-token jwt` without a method, or with one that is none.
    SignMethod,
    /// `--auth-token jwt` with a life that is no duration.
    TokenTtl(String),
    /// `--initial-cluster`.
    InitialCluster(UrlError),
    /// The cluster does not have this member's name.
    NotInCluster(String),
    /// The cluster has an address twice.
    DuplicateUrl(String),
    /// The cluster has an address of this member that it does not advertise.
    NotAdvertised(String, String),
    /// This member advertises an address that the cluster does not have.
    NotInInitialCluster(String, String),
    /// Two members, or this one and nobody, would have one id.
    SameId(String),
    /// A number that this machine cannot count with.
    TooLarge(&'static str, u64),
    /// A flag that Cairn does not obey, and must not pretend to.
    Refused {
        /// Its name.
        flag: &'static str,
        /// Why, and what to do instead.
        why: &'static str,
    },
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Positional(argument) => write!(f, "{argument:?} is not a valid flag"),
            Self::Conflict(_) => f.write_str(CONFLICT),
            Self::Variable { name, value, why } => write!(f, "invalid value {value:?} for {name}: {why}"),
            Self::File(path, error) => write!(f, "open {}: {error}", path.display()),
            Self::Syntax(why) => write!(f, "error converting YAML to JSON: {why}"),
            Self::Key { name, why } => write!(f, "invalid value for {name:?} in the configuration file: {why}"),
            Self::Logger(name) if name == "capnslog" => f.write_str("--logger=capnslog is removed in v3.5"),
            Self::Logger(name) => write!(f, "unknown logger option {name:?}"),
            Self::LogFormat(name) => {
                write!(f, "unknown log format: {name}, supported values json, console")
            }
            Self::DefaultLogOutput => f.write_str("multi logoutput for \"default\" is not supported yet"),
            Self::JournalNotAlone(outputs) => write!(
                f,
                "running with systemd/journal but other '--log-outputs' values ({outputs:?}) are configured \
                 with 'default'; override 'default' value with something else"
            ),
            Self::RotationOutputs => f.write_str(
                "--log-outputs requires a single file path when --log-rotate-config-json is defined",
            ),
            Self::Rotation(why) => write!(f, "improperly formatted log rotation config: {why}"),
            Self::BindName(url) => write!(f, "expected IP in URL for binding ({url})"),
            Self::AdvertisePeer(urls, url) => write!(
                f,
                "--initial-advertise-peer-urls {urls:?} must be \"host:port\" (unexpected empty host ({url}))"
            ),
            Self::AdvertiseClient(urls, url) => write!(
                f,
                "--advertise-client-urls {urls:?} must be in the format \"host:port\", \
                 \"unix:/path/to/socket\" or \"unixs:/path/to/socket\" (unexpected empty host ({url}))"
            ),
            Self::AdvertiseClientUnset => f.write_str(
                "--advertise-client-urls is required when --listen-client-urls is set explicitly",
            ),
            Self::Fallback => f.write_str(
                "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"",
            ),
            Self::Bootstrap => f.write_str(
                "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \
                 \"discovery-endpoints\" or \"discovery-srv\"",
            ),
            Self::Discovery => {
                f.write_str("both --discovery-token and --discovery-endpoints must be set")
            }
            Self::DiscoveryEndpoint => {
                f.write_str("--discovery-endpoints must not contain empty endpoints")
            }
            Self::Heartbeat => f.write_str("--heartbeat-interval must be >0 (set to 0ms)"),
            Self::Election => f.write_str("--election-timeout must be >0 (set to 0ms)"),
            Self::ElectionShort(election, heartbeat) => write!(
                f,
                "--election-timeout[{election}ms] should be at least as 5 times as \
                 --heartbeat-interval[{heartbeat}ms]"
            ),
            Self::ElectionLong(election, longest) => write!(
                f,
                "--election-timeout[{election}ms] is too long, and should be set less than {longest}ms"
            ),
            Self::CompactionMode(mode) if mode.is_empty() => {
                f.write_str("undefined auto-compaction-mode")
            }
            Self::CompactionMode(mode) => write!(f, "unknown auto-compaction-mode {mode:?}"),
            Self::CompactionRetention(text) => {
                write!(f, "error parsing CompactionRetention: time: invalid duration {text:?}")
            }
            Self::SamplingRate(why) => {
                write!(f, "distributed tracing configurition is not valid: ({why})")
            }
            Self::GateNeeds(gate, needed) => {
                write!(f, "enabling feature gate {gate} requires enabling feature gate {needed}")
            }
            Self::CompactHashCheckTime(time) => {
                write!(f, "--compact-hash-check-time must be >0 (set to {time})")
            }
            Self::TlsVersion(version) => {
                write!(f, "unexpected TLS version {version:?} (must be one of: TLS1.2, TLS1.3)")
            }
            Self::TlsRange(min, max) => {
                write!(f, "min version ({min}) is greater than max version ({max})")
            }
            Self::CipherSuitesTls13 => {
                f.write_str("cipher suites cannot be configured when only TLS1.3 is enabled")
            }
            Self::CipherSuite(name) => write!(f, "unexpected TLS cipher suite {name:?}"),
            Self::AuthToken => f.write_str("auth: invalid auth options"),
            Self::SignMethod => f.write_str("auth: invalid auth signature method"),
            Self::TokenTtl(text) => write!(f, "time: invalid duration {text:?}"),
            Self::InitialCluster(error) => write!(f, "error setting up initial cluster: {error}"),
            Self::NotInCluster(name) => {
                write!(f, "couldn't find local name {name:?} in the initial cluster configuration")
            }
            Self::DuplicateUrl(cluster) => write!(f, "initial cluster {cluster} has duplicate url"),
            Self::NotAdvertised(missing, advertised) => write!(
                f,
                "--initial-cluster has {missing} but missing from \
                 --initial-advertise-peer-urls={advertised}"
            ),
            Self::NotInInitialCluster(missing, own) => write!(
                f,
                "--initial-advertise-peer-urls has {missing} but missing from --initial-cluster={own}"
            ),
            Self::SameId(member) => write!(f, "member exists with identical ID {member}"),
            Self::TooLarge(flag, value) => write!(f, "--{flag}={value} is too large"),
            Self::Refused { flag, why } => write!(f, "--{flag} is not supported by Cairn: {why}"),
        }
    }
}

impl core::error::Error for Invalid {}

/// etcd's words for a variable and a flag that are both set.
const CONFLICT: &str = "conflicting environment variable is shadowed by corresponding command-line flag (either \
                        unset environment variable or disable flag))";
