//! From settings to a configuration, with etcd's checks in etcd's order.

use core::net::IpAddr;
use core::num::NonZeroUsize;
use core::time::Duration;
use std::io;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::thread;

use cairn_engine::config::Storage;

use crate::budget;
use crate::config::auto_compaction;
use crate::config::cluster::{ClusterState, InitialCluster};
use crate::config::duration::GoDuration;
use crate::config::gates::{Feature, FeatureGates};
use crate::config::invalid::Invalid;
use crate::config::security::{AuthToken, Tls, TlsChoice};
use crate::config::url::Url;
use crate::config::{Allowed, Config, KeepAlive, MetricsLevel, RuntimeChoice};
use crate::discovery::{Discovery, Service};
use crate::flags::note::Note;
use crate::flags::program::Program;
use crate::flags::settings::Settings;
use crate::{log, spans};

/// Where settings come from. What the defaults are depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    CommandLine,
    File,
}

/// Makes a configuration, or says why there is none.
pub(super) fn assemble(
    settings: &Settings,
    source: Source,
    program: Program,
    notes: &mut Vec<Note>,
) -> Result<Config, Invalid> {
    if source == Source::CommandLine && settings.text("discovery-fallback") == "proxy" {
        return Err(Invalid::Fallback);
    }
    let log = log_settings(settings)?;
    check_urls(settings)?;
    check_bootstrap(settings)?;
    let (heartbeat_interval, election_timeout) = raft_times(settings)?;
    if source == Source::CommandLine
        && settings.has("listen-client-urls")
        && !settings.has("advertise-client-urls")
    {
        return Err(Invalid::AdvertiseClientUnset);
    }
    auto_compaction::check_mode(&settings.text("auto-compaction-mode"))?;
    let feature_gates = feature_gates(settings, notes)?;
    let compact_hash_check_time = settings.duration("compact-hash-check-time");
    if compact_hash_check_time.is_zero() {
        return Err(Invalid::CompactHashCheckTime(GoDuration(compact_hash_check_time)));
    }
    let tls = TlsChoice::parse(
        &settings.text("tls-min-version"),
        &settings.text("tls-max-version"),
        &settings.names("cipher-suites"),
    )?;
    let auto_compaction = auto_compaction::parse(
        &settings.text("auto-compaction-mode"),
        &settings.text("auto-compaction-retention"),
    )?;
    let name = settings.text("name");
    let places = places(settings, &name, notes)?;
    Ok(Config {
        data_dir: data_dir(settings, &name, program, notes),
        wal_dir: settings.path("wal-dir"),
        listen_peer_urls: settings.urls("listen-peer-urls"),
        listen_client_urls: settings.urls("listen-client-urls"),
        listen_client_http_urls: settings.urls("listen-client-http-urls"),
        listen_metrics_urls: settings.urls("listen-metrics-urls"),
        initial_advertise_peer_urls: places.peer,
        advertise_client_urls: places.client,
        initial_cluster: places.cluster,
        discovery: discovery(settings),
        initial_cluster_token: settings.text("initial-cluster-token"),
        initial_cluster_state: match settings.text("initial-cluster-state").as_str() {
            "existing" => ClusterState::Existing,
            _ => ClusterState::New,
        },
        force_new_cluster: settings.bool("force-new-cluster"),
        strict_reconfig_check: settings.bool("strict-reconfig-check"),
        max_learners: settings.narrow("max-learners")?,
        heartbeat_interval,
        election_timeout,
        pre_vote: settings.bool("pre-vote"),
        snapshot_count: settings.unsigned("snapshot-count"),
        unsafe_no_fsync: settings.bool("unsafe-no-fsync"),
        quota_backend_bytes: match settings.signed("quota-backend-bytes") {
            0 => Some(DEFAULT_QUOTA_BYTES),
            bytes => u64::try_from(bytes).ok(),
        },
        max_txn_ops: settings.narrow("max-txn-ops")?,
        max_request_bytes: settings.narrow("max-request-bytes")?,
        max_concurrent_streams: settings.narrow("max-concurrent-streams")?,
        connections_max: match settings.unsigned("cairn-connections") {
            0 => None,
            connections => Some(connections),
        },
        client_limits: budget::Limits::new(|budget| settings.unsigned(budget.flag())),
        grpc_keepalive: keep_alive(settings),
        auto_compaction,
        watch_progress_notify_interval: settings
            .some_duration("watch-progress-notify-interval")
            .map_or(DEFAULT_PROGRESS_INTERVAL, |interval| interval.max(PROGRESS_INTERVAL_MIN)),
        corrupt_check_time: settings.some_duration("corrupt-check-time"),
        compact_hash_check_time,
        enable_grpc_gateway: settings.bool("enable-grpc-gateway"),
        enable_v2: settings.bool("enable-v2"),
        cors: Allowed::new(&settings.urls("cors").iter().map(Url::to_string).collect::<Vec<_>>()),
        host_whitelist: Allowed::new(&settings.names("host-whitelist")),
        metrics: match settings.text("metrics").as_str() {
            "extensive" => MetricsLevel::Extensive,
            // etcd takes whatever else there is for this.
            _ => MetricsLevel::Basic,
        },
        enable_pprof: settings.bool("enable-pprof"),
        distributed_tracing: distributed_tracing(settings),
        client_tls: client_tls(settings),
        peer_tls: peer_tls(settings),
        tls,
        self_signed_cert_validity: settings.narrow::<u32>("self-signed-cert-validity")?.max(1),
        auth_token: AuthToken::parse(&settings.text("auth-token"))?,
        auth_token_ttl: match settings.unsigned("auth-token-ttl") {
            0 => DEFAULT_TOKEN_TTL,
            seconds => Duration::from_secs(seconds),
        },
        bcrypt_cost: bcrypt_cost(settings, notes),
        log,
        warning_apply_duration: settings.duration("warning-apply-duration"),
        warning_unary_request_duration: settings
            .some_duration("warning-unary-request-duration")
            .unwrap_or(DEFAULT_SLOW_REQUEST),
        feature_gates,
        cores: cores(settings, notes),
        storage: match settings.text("storage").as_str() {
            "trees" => Storage::Trees,
            _ => Storage::Snapshots,
        },
        runtime: match settings.text("runtime").as_str() {
            "glommio" => RuntimeChoice::Glommio,
            "tokio" => RuntimeChoice::Tokio,
            _ => RuntimeChoice::Auto,
        },
        name,
    })
}

fn log_settings(settings: &Settings) -> Result<log::Settings, Invalid> {
    let logger = settings.text("logger");
    if logger != "zap" {
        return Err(Invalid::Logger(logger));
    }
    let mut names = settings.names("log-outputs");
    names.sort();
    names.dedup();
    if names.len() > 1 && names.iter().any(|name| name == "default") {
        return Err(Invalid::DefaultLogOutput);
    }
    if names.len() > 1 && names.iter().any(|name| name == "systemd/journal") {
        return Err(Invalid::JournalNotAlone(names.join(",")));
    }
    let outputs = match names.as_slice() {
        [] => vec![log::Output::Stderr],
        // etcd's way to say "nowhere", whatever else is there.
        names if names.iter().any(|name| name == "/dev/null") => Vec::new(),
        names => names.iter().map(|name| log::Output::parse(name)).collect(),
    };
    let rotation = if settings.bool("enable-log-rotation") {
        let is_file = |output: &&log::Output| matches!(output, log::Output::File(_));
        if outputs.iter().filter(is_file).count() != 1 {
            return Err(Invalid::RotationOutputs);
        }
        let text = settings.text("log-rotation-config-json");
        Some(log::Rotation::parse(&text).map_err(Invalid::Rotation)?)
    } else {
        None
    };
    let format = match settings.text("log-format").as_str() {
        "" | "json" => log::Format::Json,
        "console" => log::Format::Console,
        other => return Err(Invalid::LogFormat(other.to_owned())),
    };
    Ok(log::Settings { level: settings.level("log-level"), format, outputs, rotation })
}

/// Whether there are places to listen at and hosts to dial.
fn check_urls(settings: &Settings) -> Result<(), Invalid> {
    for name in
        ["listen-peer-urls", "listen-client-urls", "listen-client-http-urls", "listen-metrics-urls"]
    {
        for url in settings.urls(name) {
            if url.unix_path().is_none() && url.socket_address().is_none() {
                return Err(Invalid::BindName(url.to_string()));
            }
        }
    }
    let no_host = |urls: &[Url]| {
        let url = urls.iter().find(|url| url.host() == Some(""))?;
        Some((urls.iter().map(Url::as_str).collect::<Vec<_>>().join(","), url.to_string()))
    };
    if let Some((urls, url)) = no_host(&settings.urls("initial-advertise-peer-urls")) {
        return Err(Invalid::AdvertisePeer(urls, url));
    }
    if let Some((urls, url)) = no_host(&settings.urls("advertise-client-urls")) {
        return Err(Invalid::AdvertiseClient(urls, url));
    }
    Ok(())
}

/// Whether there is one way to find the other members.
fn check_bootstrap(settings: &Settings) -> Result<(), Invalid> {
    let is_text = |name| !settings.text(name).is_empty();
    let endpoints = settings.names("discovery-endpoints");
    let asks_dns = is_text("discovery-srv");
    // Discovery replaces the default of the cluster, but not one that was said.
    let ways = [
        settings.has("initial-cluster") && is_text("initial-cluster"),
        asks_dns,
        !endpoints.is_empty(),
    ];
    if ways.iter().filter(|way| **way).count() > 1 {
        return Err(Invalid::Bootstrap);
    }
    if is_text("discovery-token") == endpoints.is_empty() {
        return Err(Invalid::Discovery);
    }
    if endpoints.iter().any(|endpoint| endpoint.trim().is_empty()) {
        return Err(Invalid::DiscoveryEndpoint);
    }
    Ok(())
}

fn raft_times(settings: &Settings) -> Result<(Duration, Duration), Invalid> {
    let heartbeat_ms = settings.unsigned("heartbeat-interval");
    let election_ms = settings.unsigned("election-timeout");
    if heartbeat_ms == 0 {
        return Err(Invalid::Heartbeat);
    }
    if election_ms == 0 {
        return Err(Invalid::Election);
    }
    if election_ms < heartbeat_ms.saturating_mul(5) {
        return Err(Invalid::ElectionShort(election_ms, heartbeat_ms));
    }
    if ELECTION_MS_MAX < election_ms {
        return Err(Invalid::ElectionLong(election_ms, ELECTION_MS_MAX));
    }
    Ok((Duration::from_millis(heartbeat_ms), Duration::from_millis(election_ms)))
}

fn feature_gates(settings: &Settings, notes: &mut Vec<Note>) -> Result<FeatureGates, Invalid> {
    let rate = settings.signed("distributed-tracing-sampling-rate");
    if settings.bool("enable-distributed-tracing") {
        if rate < 0 {
            return Err(Invalid::SamplingRate("tracing sampling rate must be positive"));
        }
        if rate > 1_000_000 {
            return Err(Invalid::SamplingRate("tracing sampling rate must be less than 1000000"));
        }
    }
    let gates = FeatureGates::new(&settings.gates("feature-gates"));
    if gates.is_on(Feature::LeaseCheckpointPersist) && !gates.is_on(Feature::LeaseCheckpoint) {
        return Err(Invalid::GateNeeds("LeaseCheckpointPersist", "LeaseCheckpoint"));
    }
    for (gate, why) in gates.without_effect() {
        notes.push(Note::GateWithoutEffect { gate, why });
    }
    Ok(gates)
}

/// Where this member and all others are.
struct Places {
    peer: Vec<Url>,
    client: Vec<Url>,
    cluster: InitialCluster,
}

/// Completes what was left at its default: a member that listens everywhere advertises the address that this machine
/// reaches others from, and one that only has a name is a cluster by itself.
fn places(settings: &Settings, name: &str, notes: &mut Vec<Note>) -> Result<Places, Invalid> {
    let mut peer = settings.urls("initial-advertise-peer-urls");
    let mut client = settings.urls("advertise-client-urls");
    let everywhere = |listen: &[Url], advertised: &[Url], default: &str| match (listen, advertised)
    {
        ([first, ..], [only]) if only.as_str() == default && first.host() == Some("0.0.0.0") => {
            first.port()
        }
        _ => None,
    };
    let peer_port = everywhere(&settings.urls("listen-peer-urls"), &peer, DEFAULT_PEER_URL);
    let client_port = everywhere(&settings.urls("listen-client-urls"), &client, DEFAULT_CLIENT_URL);
    if peer_port.is_some() || client_port.is_some() {
        match default_host() {
            Ok(host) => {
                notes.push(Note::DefaultHost(host.to_string()));
                for (urls, port) in [(&mut peer, peer_port), (&mut client, client_port)] {
                    if let Some(port) = port {
                        *urls = urls.iter().map(|url| url.with_host(host, port)).collect();
                    }
                }
            }
            Err(error) => notes.push(Note::DefaultHostUnknown(error.to_string())),
        }
    }
    let said = settings.text("initial-cluster");
    let is_looked_for = discovery(settings).is_some() && !settings.has("initial-cluster");
    let cluster = if is_looked_for || said == DEFAULT_CLUSTER && name != DEFAULT_NAME {
        InitialCluster::of_one(name, &peer)
    } else {
        InitialCluster::parse(&said).map_err(Invalid::InitialCluster)?
    };
    if name == DEFAULT_NAME && cluster.len() > 1 {
        notes.push(Note::DefaultName);
    }
    Ok(Places { peer, client, cluster })
}

/// The address that this machine reaches others from: what the kernel would put into a packet to an address of nobody
/// (RFC 5737, RFC 3849). None is sent.
fn default_host() -> io::Result<IpAddr> {
    let from = |own: &str, other: &str| {
        let socket = UdpSocket::bind((own, 0))?;
        socket.connect((other, 9))?;
        Ok(socket.local_addr()?.ip())
    };
    from("0.0.0.0", "192.0.2.1").or_else(|_: io::Error| from("::", "2001:db8::1"))
}

fn discovery(settings: &Settings) -> Option<Discovery> {
    let domain = settings.text("discovery-srv");
    if !domain.is_empty() {
        return Some(Discovery::Srv { domain, suffix: settings.text("discovery-srv-name") });
    }
    let endpoints = settings.names("discovery-endpoints");
    if endpoints.is_empty() {
        return None;
    }
    Some(Discovery::Service(Service {
        endpoints,
        token: settings.text("discovery-token"),
        request_timeout: settings
            .some_duration("discovery-request-timeout")
            .unwrap_or(DEFAULT_DISCOVERY_LIMIT),
        skip_verify: settings.bool("discovery-insecure-skip-tls-verify"),
        cert_file: settings.path("discovery-cert"),
        key_file: settings.path("discovery-key"),
        trusted_ca_file: settings.path("discovery-cacert"),
        user: settings.text("discovery-user"),
        password: settings.text("discovery-password"),
    }))
}

fn data_dir(settings: &Settings, name: &str, program: Program, notes: &mut Vec<Note>) -> PathBuf {
    settings.path("data-dir").unwrap_or_else(|| {
        let path = PathBuf::from(format!("{name}.{}", program.name()));
        notes.push(Note::DataDir(path.clone()));
        path
    })
}

fn keep_alive(settings: &Settings) -> KeepAlive {
    let timeout = settings.some_duration("grpc-keepalive-timeout");
    KeepAlive {
        // Go's gRPC has these where nothing is said, which zero is.
        min_time: settings
            .some_duration("grpc-keepalive-min-time")
            .unwrap_or(Duration::from_secs(300)),
        interval: settings.some_duration("grpc-keepalive-interval").filter(|_| timeout.is_some()),
        timeout: timeout.unwrap_or(Duration::from_secs(20)),
    }
}

/// Where spans go. How many there are was checked.
fn distributed_tracing(settings: &Settings) -> Option<spans::Settings> {
    let rate = u64::try_from(settings.signed("distributed-tracing-sampling-rate"));
    settings.bool("enable-distributed-tracing").then(|| spans::Settings {
        address: settings.text("distributed-tracing-address"),
        service_name: settings.text("distributed-tracing-service-name"),
        instance_id: settings.text("distributed-tracing-instance-id"),
        samples_per_million: rate.unwrap_or_default(),
    })
}

fn client_tls(settings: &Settings) -> Tls {
    Tls {
        cert_file: settings.path("cert-file"),
        key_file: settings.path("key-file"),
        client_cert_file: settings.path("client-cert-file"),
        client_key_file: settings.path("client-key-file"),
        trusted_ca_file: settings.path("trusted-ca-file"),
        crl_file: settings.path("client-crl-file"),
        client_cert_auth: settings.bool("client-cert-auth"),
        allowed_cns: settings.names("client-cert-allowed-cn"),
        allowed_hostnames: settings.names("client-cert-allowed-hostname"),
        skip_client_san_verification: settings.bool("client-skip-client-san-verification"),
        auto: settings.bool("auto-tls"),
    }
}

fn peer_tls(settings: &Settings) -> Tls {
    Tls {
        cert_file: settings.path("peer-cert-file"),
        key_file: settings.path("peer-key-file"),
        client_cert_file: settings.path("peer-client-cert-file"),
        client_key_file: settings.path("peer-client-key-file"),
        trusted_ca_file: settings.path("peer-trusted-ca-file"),
        crl_file: settings.path("peer-crl-file"),
        client_cert_auth: settings.bool("peer-client-cert-auth"),
        allowed_cns: settings.names("peer-cert-allowed-cn"),
        allowed_hostnames: settings.names("peer-cert-allowed-hostname"),
        skip_client_san_verification: settings.bool("peer-skip-client-san-verification"),
        auto: settings.bool("peer-auto-tls"),
    }
}

fn bcrypt_cost(settings: &Settings, notes: &mut Vec<Note>) -> u32 {
    let given = settings.unsigned("bcrypt-cost");
    match u32::try_from(given) {
        Ok(cost @ 4..=31) => cost,
        Ok(_) | Err(_) => {
            notes.push(Note::BcryptCost(given));
            DEFAULT_BCRYPT_COST
        }
    }
}

/// All cores, but one where there are only two: splitting the work costs more there than it gives.
fn cores(settings: &Settings, notes: &mut Vec<Note>) -> NonZeroUsize {
    let there = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let asked = settings.unsigned("cores");
    let wanted = usize::try_from(asked).unwrap_or(usize::MAX);
    match NonZeroUsize::new(wanted) {
        None if there.get() == 2 => NonZeroUsize::MIN,
        None => there,
        Some(wanted) if wanted <= there => wanted,
        Some(_) => {
            notes.push(Note::Cores { asked, used: there.get() });
            there
        }
    }
}

const DEFAULT_NAME: &str = "default";
const DEFAULT_CLUSTER: &str = "default=http://localhost:2380";
const DEFAULT_PEER_URL: &str = "http://localhost:2380";
const DEFAULT_CLIENT_URL: &str = "http://localhost:2379";
const DEFAULT_QUOTA_BYTES: u64 = 2 << 30;
const DEFAULT_TOKEN_TTL: Duration = Duration::from_secs(300);
const DEFAULT_BCRYPT_COST: u32 = 10;
const DEFAULT_DISCOVERY_LIMIT: Duration = Duration::from_secs(5);
const DEFAULT_SLOW_REQUEST: Duration = Duration::from_millis(300);
const DEFAULT_PROGRESS_INTERVAL: Duration = Duration::from_secs(600);
/// What asks for more has this.
const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Longer than this, nobody would notice that a cluster is dead.
const ELECTION_MS_MAX: u64 = 50_000;
