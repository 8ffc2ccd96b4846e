//! From what people say to a configuration.

use core::time::Duration;
use std::collections::BTreeSet;

use cairn_engine::auto_compact::AutoCompaction;

use super::*;
use crate::config::cluster::ClusterState;
use crate::config::gates::Feature;
use crate::config::security::{AuthToken, TlsVersion};
use crate::config::{Allowed, MetricsLevel, RuntimeChoice};
use crate::flags::retired::RETIRED;
use crate::flags::table::{Flag, Treatment};
use crate::flags::value::Kind;
use crate::log;

fn read_with(arguments: &[&str], variables: &[(&str, &str)]) -> Invocation {
    let arguments = ["cairn"].iter().chain(arguments).map(OsString::from);
    read(
        arguments,
        variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))),
    )
}

fn serve_with(arguments: &[&str], variables: &[(&str, &str)]) -> (Config, Vec<Note>) {
    let invocation = read_with(arguments, variables);
    let Invocation::Serve(start, config) = invocation else {
        panic!("{arguments:?}: {invocation:?}")
    };
    (*config, start.notes)
}

fn config(words: &str) -> Config {
    serve_with(&words.split_whitespace().collect::<Vec<_>>(), &[]).0
}

fn invalid(words: &str) -> String {
    let invocation = read_with(&words.split_whitespace().collect::<Vec<_>>(), &[]);
    let Invocation::Invalid(_, invalid) = invocation else { panic!("{words}: {invocation:?}") };
    invalid.to_string()
}

#[test]
fn what_is_packaged_says_what_is_understood() {
    for text in [
        include_str!("../../../packaging/kubernetes/statefulset.yaml"),
        include_str!("../../../packaging/kubernetes/static-pod.yaml"),
    ] {
        let text = text.replace("$(POD)", "cairn-1").replace("NODE_IP", "192.0.2.1");
        let flags = text.lines().filter_map(|line| line.trim_start().strip_prefix("- --"));
        let flags: Vec<String> = flags.map(|flag| format!("--{flag}")).collect();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        assert!(flags.len() > 8, "{flags:?}");
        let (config, notes) = serve_with(&flags, &[]);
        config.verify_bootstrap().unwrap();
        // kubeadm says how many entries are between snapshots, which follow bytes here; nothing else is in vain.
        let idle = notes.iter().filter(|note| matches!(note, Note::WithoutEffect { .. }));
        assert!(idle.count() <= 1, "{notes:?}");
        assert!(!config.listen_metrics_urls.is_empty());
    }
}

#[test]
fn members_are_looked_for_where_it_is_said() {
    let found = |words: &str| config(words).discovery;
    assert_eq!(found("--name x"), None);
    let srv = |domain: &str, suffix: &str| {
        let (domain, suffix) = (domain.to_owned(), suffix.to_owned());
        Some(crate::discovery::Discovery::Srv { domain, suffix })
    };
    assert_eq!(found("--discovery-srv=a.b"), srv("a.b", ""));
    assert_eq!(found("--discovery-srv=a.b --discovery-srv-name=c"), srv("a.b", "c"));
    let service = found(
        "--discovery-endpoints=a:1,http://b:2 --discovery-token=t --discovery-password=swordfish",
    );
    let shown = format!("{service:?}");
    assert!(shown.contains(r#"["a:1", "http://b:2"]"#) && !shown.contains("swordfish"), "{shown}");
    // Until then, a member is a cluster of its own, by its own name.
    let cluster = config("--name x --discovery-srv=a.b").initial_cluster.to_string();
    assert_eq!(cluster, "x=http://localhost:2380");
}

#[test]
fn data_is_named_after_the_program() {
    for (program, expected) in [("cairn", "x.cairn"), ("/bin/etcd", "x.etcd")] {
        let words = [program, "--name=x"].map(OsString::from);
        let Invocation::Serve(_, config) = read(words, []) else { panic!("{program}") };
        assert_eq!(config.data_dir, PathBuf::from(expected));
    }
}

/// A file that is there as long as this.
struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str, text: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("cairn-flags-{name}-{}.yml", std::process::id()));
        fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

/// etcd's flags of today.
const CURRENT: &str = "
    name data-dir wal-dir snapshot-count heartbeat-interval election-timeout initial-election-tick-advance
    listen-peer-urls listen-client-urls listen-client-http-urls max-wals memory-mlock quota-backend-bytes
    backend-bbolt-freelist-type backend-batch-interval backend-batch-limit max-txn-ops max-request-bytes
    max-concurrent-streams grpc-keepalive-min-time grpc-keepalive-interval grpc-keepalive-timeout socket-reuse-port
    socket-reuse-address enable-grpc-gateway raft-read-timeout raft-write-timeout feature-gates
    initial-advertise-peer-urls initial-cluster initial-cluster-state initial-cluster-token advertise-client-urls
    discovery-token discovery-endpoints discovery-dial-timeout discovery-request-timeout discovery-keepalive-time
    discovery-keepalive-timeout discovery-insecure-transport discovery-insecure-skip-tls-verify discovery-cert
    discovery-key discovery-cacert discovery-user discovery-password discovery-fallback discovery-srv
    discovery-srv-name strict-reconfig-check pre-vote auto-compaction-mode auto-compaction-retention cert-file
    key-file client-cert-auth trusted-ca-file client-cert-file client-key-file client-crl-file
    client-cert-allowed-hostname auto-tls peer-auto-tls peer-cert-file peer-key-file peer-client-cert-auth
    peer-trusted-ca-file peer-client-cert-file peer-client-key-file peer-crl-file peer-cert-allowed-cn
    peer-cert-allowed-hostname peer-skip-client-san-verification self-signed-cert-validity cipher-suites cors
    host-whitelist tls-min-version tls-max-version auth-token auth-token-ttl bcrypt-cost enable-pprof metrics
    listen-metrics-urls logger log-level log-outputs log-format enable-log-rotation log-rotation-config-json
    warning-apply-duration warning-unary-request-duration enable-distributed-tracing distributed-tracing-address
    distributed-tracing-service-name distributed-tracing-instance-id distributed-tracing-sampling-rate
    corrupt-check-time compact-hash-check-time compaction-batch-limit compaction-sleep-interval
    watch-progress-notify-interval max-learners bootstrap-defrag-threshold-megabytes downgrade-check-time
    snapshot-catchup-entries force-new-cluster unsafe-no-fsync config-file version";

/// Flags of earlier etcds that are still in manifests.
const FORMER: &str = "
    experimental-initial-corrupt-check experimental-watch-progress-notify-interval experimental-corrupt-check-time
    experimental-compact-hash-check-enabled experimental-compact-hash-check-time
    experimental-compaction-batch-limit experimental-compaction-sleep-interval experimental-enable-lease-checkpoint
    experimental-enable-lease-checkpoint-persist experimental-bootstrap-defrag-threshold-megabytes
    experimental-warning-apply-duration experimental-warning-unary-request-duration experimental-memory-mlock
    experimental-peer-skip-client-san-verification experimental-snapshot-catchup-entries
    experimental-snapshot-catch-up-entries experimental-downgrade-check-time experimental-enable-v2v3
    experimental-backend-bbolt-freelist-type experimental-stop-grpc-service-on-defrag
    experimental-txn-mode-write-with-shared-buffer experimental-enable-distributed-tracing
    experimental-distributed-tracing-address experimental-distributed-tracing-service-name
    experimental-distributed-tracing-instance-id experimental-distributed-tracing-sampling-rate enable-v2
    v2-deprecation max-snapshots discovery discovery-proxy proxy proxy-failure-wait proxy-refresh-interval
    proxy-dial-timeout proxy-write-timeout proxy-read-timeout ca-file peer-ca-file";

/// Flags that etcd takes and forgets.
const IGNORED: &str = "
    cluster-active-size cluster-remove-delay cluster-sync-interval config force max-result-buffer
    max-retry-attempts peer-heartbeat-interval peer-election-timeout retry-interval snapshot v vv
    test.coverprofile test.outputdir";

#[test]
fn every_flag_of_etcd_is_one_of_ours() {
    let current: BTreeSet<&str> = CURRENT.split_whitespace().collect();
    assert_eq!(current.len(), 111);
    for name in current.iter().copied().chain(FORMER.split_whitespace()) {
        let flag = table::find(name).unwrap_or_else(|| panic!("--{name} is missing"));
        assert_ne!(flag.treatment, Treatment::Ignored, "{name}");
    }
    for name in IGNORED.split_whitespace() {
        let flag = table::find(name).unwrap_or_else(|| panic!("--{name} is missing"));
        assert_eq!(flag.treatment, Treatment::Ignored, "{name}");
    }
    let names: Vec<&str> = table::flags().map(|flag| flag.name).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "a flag is there twice");
}

/// Something that a flag takes and that is not its default.
fn sample(kind: Kind, default: &str) -> String {
    let text = match kind {
        Kind::Text | Kind::Secret | Kind::Anything => "x",
        Kind::Bool if default == "true" => "false",
        Kind::Bool => "true",
        Kind::Unsigned | Kind::Unsigned32 => "7",
        Kind::Signed => "-7",
        Kind::Duration => "7s",
        Kind::Urls | Kind::Origins => "http://127.0.0.1:7",
        Kind::Names => "a,b",
        Kind::Choice(choices) => choices.iter().copied().find(|choice| *choice != default).unwrap(),
        Kind::Gates => "InitialCorruptCheck=true",
        Kind::Level => "debug",
    };
    text.to_owned()
}

#[test]
fn every_flag_can_be_said_in_every_way() {
    for flag in table::flags() {
        let text = sample(flag.kind, flag.default);
        let mut lines =
            vec![vec![format!("--{}={text}", flag.name)], vec![format!("-{}={text}", flag.name)]];
        if flag.kind.is_bool() {
            lines.push(vec![format!("--{}", flag.name)]);
        } else {
            lines.push(vec![format!("--{}", flag.name), text.clone()]);
        }
        for line in lines {
            let read = command_line::read(&line).ok().unwrap();
            let expected = if line[0].contains('=') || line.len() == 2 { &text } else { "true" };
            assert_eq!(read.said.text(flag.name), expected, "{line:?}");
            assert!(read.positional.is_none());
        }
        if flag.name != "version" {
            let mut said = Said::default();
            let variables = BTreeMap::from([(environment::variable(flag.name), text.clone())]);
            environment::read(&variables, &mut said, &mut Vec::new()).unwrap();
            assert_eq!(said.text(flag.name), text, "{variables:?}");
        }
        if flag.name != "version" && flag.name != "config-file" {
            let said = file::read(&format!("{}: '{text}'", flag.name), &mut Vec::new()).unwrap();
            assert_eq!(said.text(flag.name), text);
            let said =
                file::read(&format!("{{{:?}: {text:?}}}", flag.name), &mut Vec::new()).unwrap();
            assert_eq!(said.text(flag.name), text);
        }
    }
}

#[test]
fn every_flag_gets_the_treatment_of_its_row() {
    for flag in table::flags() {
        let text = sample(flag.kind, flag.default);
        let mut said = Said::default();
        said.say(flag, &text).unwrap();
        let refusal = said.refusal();
        let mut notes = Vec::new();
        let settings = said.settle(&mut notes);
        match flag.treatment {
            Treatment::Obeyed => assert!(notes.is_empty() && settings.has(flag.name)),
            Treatment::WithoutEffect(why) => {
                assert_eq!(notes, [Note::WithoutEffect { flag: flag.name, why }]);
            }
            Treatment::NotYet(why) => {
                assert_eq!(notes, [Note::NotYet { flag: flag.name, why }]);
            }
            Treatment::Refused(_) => {
                assert!(
                    refusal
                        .unwrap_err()
                        .to_string()
                        .starts_with(&format!("--{} is not", flag.name))
                );
                continue;
            }
            Treatment::Replaced(successors) => {
                assert!(
                    matches!(&notes[0], Note::Retired { flag: retired, .. } if *retired == flag.name)
                );
                assert!(successors.iter().all(|(name, _)| settings.has(name)), "{}", flag.name);
                let takes_the_same = |name| table::find(name).unwrap().kind == flag.kind;
                let forms = successors.iter().filter(|(_, form)| *form == "{}");
                assert!(forms.clone().all(|(name, _)| takes_the_same(name)), "{}", flag.name);
                assert!(forms.count() > 0 || flag.kind == Kind::Bool, "{}", flag.name);
            }
            Treatment::Ignored => assert!(notes.is_empty() && !settings.has(flag.name)),
        }
        assert!(refusal.is_ok());
    }
}

#[test]
fn without_anything_said_there_is_one_member_with_etcds_defaults() {
    let (config, notes) = serve_with(&[], &[]);
    assert_eq!(notes, [Note::DataDir(PathBuf::from("default.cairn"))]);
    assert_eq!((config.name.as_str(), config.wal_dir.as_ref()), ("default", None));
    assert_eq!(format!("{:?}", config.listen_peer_urls), r#"["http://localhost:2380"]"#);
    assert_eq!(format!("{:?}", config.listen_client_urls), r#"["http://localhost:2379"]"#);
    assert!(config.listen_client_http_urls.is_empty() && config.listen_metrics_urls.is_empty());
    assert_eq!(format!("{:?}", config.initial_advertise_peer_urls), r#"["http://localhost:2380"]"#);
    assert_eq!(format!("{:?}", config.advertise_client_urls), r#"["http://localhost:2379"]"#);
    assert_eq!(config.initial_cluster.to_string(), "default=http://localhost:2380");
    assert_eq!(config.initial_cluster_token, "etcd-cluster");
    assert_eq!(config.initial_cluster_state, ClusterState::New);
    assert!(config.verify_bootstrap().is_ok());
    assert!(config.strict_reconfig_check && config.pre_vote && config.enable_grpc_gateway);
    assert!(!config.force_new_cluster && !config.unsafe_no_fsync && !config.enable_v2);
    assert_eq!((config.max_learners, config.snapshot_count), (1, 10_000));
    let millis = Duration::from_millis;
    assert_eq!((config.heartbeat_interval, config.election_timeout), (millis(100), millis(1000)));
    assert_eq!(config.quota_backend_bytes, Some(2 << 30));
    assert_eq!((config.max_txn_ops, config.max_request_bytes), (128, 1_572_864));
    assert_eq!(config.max_concurrent_streams, u32::MAX);
    assert_eq!(config.grpc_keepalive.min_time, Duration::from_secs(5));
    assert_eq!(config.grpc_keepalive.interval, Some(Duration::from_secs(7200)));
    assert_eq!(config.grpc_keepalive.timeout, Duration::from_secs(20));
    assert_eq!(config.auto_compaction, None);
    assert_eq!(config.watch_progress_notify_interval, Duration::from_secs(600));
    assert_eq!(
        (config.corrupt_check_time, config.compact_hash_check_time),
        (None, Duration::from_secs(60))
    );
    assert_eq!((config.cors, config.host_whitelist), (Allowed::All, Allowed::All));
    assert_eq!(config.metrics, MetricsLevel::Basic);
    assert!(config.client_tls == config.peer_tls && !config.client_tls.has_certificate());
    assert_eq!((config.tls.version_min, config.tls.version_max), (TlsVersion::Tls12, None));
    assert_eq!(config.self_signed_cert_validity, 1);
    assert_eq!(config.auth_token, AuthToken::Simple);
    assert_eq!((config.auth_token_ttl, config.bcrypt_cost), (Duration::from_secs(300), 10));
    assert_eq!(config.log, log::Settings::default());
    assert_eq!(
        (config.warning_apply_duration, config.warning_unary_request_duration),
        (millis(100), millis(300))
    );
    assert!(!config.feature_gates.is_on(Feature::InitialCorruptCheck));
    assert_eq!(config.runtime, RuntimeChoice::Auto);
}

#[test]
fn what_is_said_is_in_the_configuration() {
    assert_eq!(config("--name n1").data_dir, PathBuf::from("n1.cairn"));
    assert_eq!(config("--name n1").initial_cluster.to_string(), "n1=http://localhost:2380");
    let cluster = config(
        "--name b --initial-cluster a=http://a:1,b=http://b:1 --initial-cluster-state existing",
    );
    assert_eq!(
        (cluster.initial_cluster.len(), cluster.initial_cluster_state),
        (2, ClusterState::Existing)
    );
    assert_eq!(config("--quota-backend-bytes -1").quota_backend_bytes, None);
    assert_eq!(config("--quota-backend-bytes 8589934592").quota_backend_bytes, Some(8 << 30));
    let revisions =
        config("--auto-compaction-mode=revision --auto-compaction-retention=1000").auto_compaction;
    assert_eq!(revisions, Some(AutoCompaction::Revisions(1000)));
    assert_eq!(config("--grpc-keepalive-interval 0").grpc_keepalive.interval, None);
    assert_eq!(config("--grpc-keepalive-timeout 0").grpc_keepalive.interval, None);
    let millis = Duration::from_millis;
    assert_eq!(
        config("--watch-progress-notify-interval 5s").watch_progress_notify_interval,
        millis(5000)
    );
    assert_eq!(
        config("--watch-progress-notify-interval 1ms").watch_progress_notify_interval,
        millis(100)
    );
    assert_eq!(config("--corrupt-check-time 1m").corrupt_check_time, Some(Duration::from_secs(60)));
    assert!(config("--cors http://a:1,http://b:1").cors.contains("http://b:1"));
    assert!(!config("--cors http://a:1").cors.contains("http://b:1"));
    assert!(!config("--host-whitelist a").host_whitelist.contains("b"));
    assert_eq!(config("--metrics extensive").metrics, MetricsLevel::Extensive);
    let tls =
        config("--cert-file c --key-file k --trusted-ca-file a --client-cert-auth").client_tls;
    assert!(
        tls.has_certificate()
            && tls.client_cert_auth
            && tls.trusted_ca_file == Some(PathBuf::from("a"))
    );
    assert_eq!(config("--peer-cert-allowed-cn a,b").peer_tls.allowed_cns, ["a", "b"]);
    assert_eq!(config("--auth-token=").auth_token, AuthToken::Disabled);
    assert_eq!(config("--runtime tokio").runtime, RuntimeChoice::Tokio);
    assert_eq!(config("--cores 1").cores.get(), 1);
    let gates = config("--feature-gates=AllAlpha=true --feature-gates=CompactHashCheck=false")
        .feature_gates;
    assert!(gates.is_on(Feature::InitialCorruptCheck) && !gates.is_on(Feature::CompactHashCheck));
    let (_, notes) = serve_with(&["--bcrypt-cost=99", "--cores=99999"], &[]);
    assert!(notes.contains(&Note::BcryptCost(99)));
    assert!(notes.iter().any(|note| matches!(note, Note::Cores { asked: 99999, .. })));
}

#[test]
fn the_log_goes_where_it_is_told() {
    let outputs = |words: &str| config(words).log.outputs;
    assert_eq!(
        outputs("--log-outputs stdout,stderr,stdout"),
        [log::Output::Stderr, log::Output::Stdout]
    );
    assert_eq!(
        outputs("--log-outputs /tmp/a.log"),
        [log::Output::File(PathBuf::from("/tmp/a.log"))]
    );
    assert_eq!(outputs("--log-outputs systemd/journal"), [log::Output::Journal]);
    assert_eq!(outputs("--log-outputs /dev/null,stderr"), []);
    assert_eq!(config("--log-level=WARN --log-format=console").log.level, log::Level::Warn);
    let rotation = config("--log-outputs=stderr,a.log --enable-log-rotation").log.rotation.unwrap();
    assert_eq!(rotation.bytes_max, 100 << 20);
}

#[test]
fn retired_flags_mean_their_successors() {
    let config = config(
        "--experimental-watch-progress-notify-interval=5s --experimental-initial-corrupt-check=true",
    );
    assert_eq!(config.watch_progress_notify_interval, Duration::from_secs(5));
    assert!(config.feature_gates.is_on(Feature::InitialCorruptCheck));
    // What is said by its own name counts.
    let both = self::config(
        "--experimental-initial-corrupt-check --feature-gates InitialCorruptCheck=false \
         --experimental-corrupt-check-time 1s --corrupt-check-time 2s",
    );
    assert!(!both.feature_gates.is_on(Feature::InitialCorruptCheck));
    assert_eq!(both.corrupt_check_time, Some(Duration::from_secs(2)));
    let tls = self::config("--ca-file /ca --peer-ca-file=").client_tls;
    assert!(tls.client_cert_auth && tls.trusted_ca_file == Some(PathBuf::from("/ca")));
    assert!(!self::config("--peer-ca-file=").peer_tls.client_cert_auth);
    self::config("--discovery= --proxy off --enable-v2=false --max-snapshots 5 --force -v");
}

#[test]
fn a_member_that_listens_everywhere_advertises_one_address() {
    let words = "--name a --listen-peer-urls http://0.0.0.0:7";
    let (config, notes) = serve_with(&words.split_whitespace().collect::<Vec<_>>(), &[]);
    let found = notes.iter().find_map(|note| {
        let Note::DefaultHost(host) = note else { return None };
        Some(format!("http://{host}:7"))
    });
    // Where there is no network there is nothing to find.
    let advertised = found.unwrap_or_else(|| "http://localhost:2380".to_owned());
    assert_eq!(config.initial_advertise_peer_urls[0].as_str(), advertised);
    assert_eq!(config.initial_cluster.to_string(), format!("a={advertised}"));
    assert!(config.verify_bootstrap().is_ok());
}

#[test]
fn the_members_must_include_this_one_at_its_address() {
    let verify = |words: &str| config(words).verify_bootstrap().map_err(|error| error.to_string());
    assert_eq!(
        verify("--initial-cluster=").unwrap_err(),
        "couldn't find local name \"default\" in the initial cluster configuration"
    );
    assert_eq!(
        verify("--initial-cluster default=http://localhost:2380,b=http://localhost:2380")
            .unwrap_err(),
        "initial cluster b=http://localhost:2380,default=http://localhost:2380 has duplicate url"
    );
    assert_eq!(
        verify("--initial-advertise-peer-urls http://127.0.0.1:9").unwrap_err(),
        "--initial-cluster has default=http://localhost:2380 but missing from \
         --initial-advertise-peer-urls=http://127.0.0.1:9"
    );
    let joins = "--initial-cluster-state existing --initial-advertise-peer-urls http://127.0.0.1:9";
    assert_eq!(verify(joins), Ok(()));
}

/// Lines for which etcd 3.7.3 said these words, and ours.
#[test]
fn settings_that_do_not_go_together_are_refused_in_etcds_words() {
    for (words, why) in [
        ("extra", "\"extra\" is not a valid flag"),
        ("--version extra", "\"extra\" is not a valid flag"),
        ("--client-cert-auth false", "\"false\" is not a valid flag"),
        ("--heartbeat-interval=0", "--heartbeat-interval must be >0 (set to 0ms)"),
        ("--election-timeout=0", "--election-timeout must be >0 (set to 0ms)"),
        (
            "--heartbeat-interval=500",
            "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[500ms]",
        ),
        (
            "--election-timeout=50001",
            "--election-timeout[50001ms] is too long, and should be set less than 50000ms",
        ),
        (
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        ("--listen-peer-urls=http://foo:2380", "expected IP in URL for binding (http://foo:2380)"),
        (
            "--listen-metrics-urls=http://foo:2380",
            "expected IP in URL for binding (http://foo:2380)",
        ),
        (
            "--initial-advertise-peer-urls=http://:2380",
            "--initial-advertise-peer-urls \"http://:2380\" must be \"host:port\" (unexpected empty host (http://:2380))",
        ),
        (
            "--advertise-client-urls=http://:2379",
            "--advertise-client-urls \"http://:2379\" must be in the format \"host:port\", \"unix:/path/to/socket\" \
             or \"unixs:/path/to/socket\" (unexpected empty host (http://:2379))",
        ),
        (
            "--initial-cluster=a=http://1.1.1.1:2 --discovery-srv=x.com",
            "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \
             \"discovery-endpoints\" or \"discovery-srv\"",
        ),
        ("--discovery-token=x", "both --discovery-token and --discovery-endpoints must be set"),
        (
            "--discovery-endpoints=a, --discovery-token=x",
            "--discovery-endpoints must not contain empty endpoints",
        ),
        (
            "--discovery-fallback=proxy",
            "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"",
        ),
        ("--auto-compaction-mode=x", "unknown auto-compaction-mode \"x\""),
        ("--auto-compaction-mode=", "undefined auto-compaction-mode"),
        (
            "--auto-compaction-retention=x",
            "error parsing CompactionRetention: time: invalid duration \"x\"",
        ),
        ("--compact-hash-check-time=0s", "--compact-hash-check-time must be >0 (set to 0s)"),
        (
            "--tls-min-version=TLS1.1",
            "unexpected TLS version \"TLS1.1\" (must be one of: TLS1.2, TLS1.3)",
        ),
        (
            "--tls-min-version=TLS1.3 --tls-max-version=TLS1.2",
            "min version (TLS1.3) is greater than max version (TLS1.2)",
        ),
        (
            "--tls-min-version=TLS1.3 --cipher-suites=A",
            "cipher suites cannot be configured when only TLS1.3 is enabled",
        ),
        ("--cipher-suites=BAD", "unexpected TLS cipher suite \"BAD\""),
        ("--logger=capnslog", "--logger=capnslog is removed in v3.5"),
        ("--logger=x", "unknown logger option \"x\""),
        ("--log-format=x", "unknown log format: x, supported values json, console"),
        ("--log-outputs=default,stdout", "multi logoutput for \"default\" is not supported yet"),
        (
            "--enable-log-rotation",
            "--log-outputs requires a single file path when --log-rotate-config-json is defined",
        ),
        (
            "--feature-gates=LeaseCheckpointPersist=true",
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint",
        ),
        (
            "--enable-distributed-tracing --distributed-tracing-sampling-rate=-1",
            "distributed tracing configurition is not valid: (tracing sampling rate must be positive)",
        ),
        (
            "--initial-cluster=a=b",
            "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: b",
        ),
        ("--auth-token=foo", "auth: invalid auth options"),
        ("--auth-token=jwt", "auth: invalid auth signature method"),
        (
            "--discovery=http://x",
            "--discovery is not supported by Cairn: members are not looked for; name them with --initial-cluster",
        ),
        (
            "--proxy=on",
            "--proxy is not supported by Cairn: this is a member of a cluster and no proxy for one",
        ),
    ] {
        assert_eq!(invalid(words), why, "{words}");
    }
}

#[test]
fn a_flag_and_its_variable_do_not_speak_at_once() {
    let (config, _) =
        serve_with(&["--data-dir=d"], &[("ETCD_NAME", "a"), ("ETCD_LISTEN_CLIENT_URLS", "")]);
    assert_eq!((config.name.as_str(), config.data_dir), ("a", PathBuf::from("d")));
    let both = read_with(&["--name=a"], &[("ETCD_NAME", "a")]);
    assert!(matches!(both, Invocation::Invalid(_, Invalid::Conflict(name)) if name == "ETCD_NAME"));
    let wrong = read_with(&[], &[("ETCD_PRE_VOTE", "maybe")]);
    assert!(matches!(wrong, Invocation::Invalid(_, Invalid::Variable { .. })));
}

#[test]
fn with_a_file_nothing_else_counts() {
    let file = TempFile::new(
        "all",
        "name: f\ndiscovery-fallback: proxy\nlisten-client-urls: http://127.0.0.1:9\n\
         client-transport-security:\n  cert-file: c\n  key-file: k\n",
    );
    let variables = [("ETCD_NAME", "v"), ("ETCD_DATA_DIR", "v"), ("ETCD_PRE_VOTE", "maybe")];
    let by_flag = serve_with(&["--name=l", "--config-file", file.path()], &variables);
    let by_variable =
        serve_with(&["--name=l"], &[("ETCD_NAME", "v"), ("ETCD_CONFIG_FILE", file.path())]);
    for (config, notes) in [by_flag, by_variable] {
        assert_eq!((config.name.as_str(), config.data_dir), ("f", PathBuf::from("f.cairn")));
        assert!(config.client_tls.has_certificate());
        assert_eq!(config.advertise_client_urls[0].as_str(), "http://localhost:2379");
        assert!(notes.contains(&Note::FileLoaded(file.0.clone())));
    }
    let missing = read_with(&["--config-file=/nonexistent/f"], &[]);
    assert!(matches!(missing, Invocation::Invalid(_, Invalid::File(..))));
}

#[test]
fn help_and_version_come_before_everything_else() {
    assert!(matches!(read_with(&["--name=a", "-h", "--bogus"], &[]), Invocation::Help));
    assert!(matches!(read_with(&["--bogus", "-h"], &[]), Invocation::Usage(_)));
    assert!(matches!(read_with(&["--version"], &[("ETCD_NAME", "a")]), Invocation::Version));
    assert!(matches!(
        read_with(&["--version=0"], &[("ETCD_VERSION", "3.6")]),
        Invocation::Serve(..)
    ));
}

/// What docs/compat.md says about a flag.
fn says(flag: &Flag) -> String {
    match flag.treatment {
        Treatment::Obeyed => "obeyed".to_owned(),
        Treatment::NotYet(why) => format!("not yet: {why}"),
        Treatment::WithoutEffect(why) => format!("no effect: {why}"),
        Treatment::Refused(why) => format!("refused: {why}"),
        Treatment::Replaced(successors) => {
            let successor =
                |(name, form): &(&str, &str)| format!("`--{name}={}`", form.replace("{}", "…"));
            let successors: Vec<String> = successors.iter().map(successor).collect();
            format!("taken for {}", successors.join(" "))
        }
        Treatment::Ignored => "ignored, as by etcd".to_owned(),
    }
}

#[test]
fn the_document_has_every_flag() {
    let mut text = String::new();
    let mut table = |title: &str, flags: &[Flag]| {
        let head = "| flag | default | what Cairn does with it |\n|---|---|---|";
        text.push_str(&format!("\n### {title}\n\n{head}\n"));
        for flag in flags {
            let default = match flag.default {
                "" => String::new(),
                default => format!("`{default}`"),
            };
            text.push_str(&format!("| `--{}` | {default} | {} |\n", flag.name, says(flag)));
        }
    };
    for group in &table::GROUPS {
        table(group.title, group.flags);
    }
    table("Of earlier versions", &RETIRED);
    crate::compat::check_section("flags", &text);
}
