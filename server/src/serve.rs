//! A member, from its configuration to its end.
//!
//! The order matters: the directory is locked before anything is read, sockets are bound before the disk is touched (a
//! port in use must cost nothing), and nothing is accepted before the engine stands where it stood.

use core::time::Duration;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

use cairn_engine::api::Request;
use cairn_engine::config::{Limits as EngineLimits, Lives};
use cairn_engine::event::Halt;
use cairn_engine::{Config as EngineConfig, MemberId};
use cairn_io::datadir::DataDir;
use cairn_io::driver::{self, Directory, Fatal, Handle, PeerCounters, Seat, Settings, StartError};
use cairn_io::probe::{self, Choice, Selected};
use cairn_io::pulse::{self, Counters};
use cairn_io::runtime::{Plan, Program, Runtime, launch};
use cairn_io::signals::{self, Signal, Signals};
use cairn_io::{clock, limits, lives};
use tokio::sync::watch;

use crate::auth::Accounts;
use crate::budget::Budgets;
use crate::config::cluster::ClusterState;
use crate::config::url::Url;
use crate::config::{Config, RuntimeChoice};
use crate::context::{Context, Limits};
use crate::data::{self, Origin, Owner, Unusable};
use crate::identity::{Identity, texts};
use crate::listeners::{self, Sockets};
use crate::metrics::{Facts, Metrics};
use crate::notices::Notices;
use crate::spans::Spans;
use crate::tls::peer::PeerTls;
use crate::{discovery, init_daemon, join, log, notices, takeover, version, web};

/// The process ends with this after a write or sync failed (`EX_IOERR`).
pub const EXIT_DISK: i32 = 74;
/// The process ends with this if its log is of a newer version (`EX_CONFIG`).
pub const EXIT_NEWER: i32 = 78;
/// How long connections may take to finish what is under way when the process stops.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
/// How long the process waits for its log when it ends.
const LOG_FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// How long the process waits for a collector of spans when it ends.
const SPANS_FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// Why a member did not start: what was attempted, and what went wrong.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) what: &'static str,
    pub(crate) why: String,
}

impl Failed {
    pub(crate) fn to<E: core::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self { what, why: error.to_string() }
    }
}

/// Why a member ends that has served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It was told to.
    Signal(Signal),
    /// It is not a member any more.
    Removed,
}

/// Runs a member until a signal ends it, or it cannot start.
pub fn run(config: Config) -> ExitCode {
    match start(&config) {
        Ok(End::Signal(signal)) => {
            log::flush(LOG_FLUSH_LIMIT);
            die_by(signal)
        }
        Ok(End::Removed) => {
            let data_dir = config.data_dir.display();
            tracing::error!(
                target: log::FATAL,
                data_dir = %data_dir,
                "the member has been permanently removed from the cluster; its data directory is of no use any more, \
                 and starting it again will not help"
            );
            ExitCode::FAILURE
        }
        Err(failed) => {
            tracing::error!(target: log::FATAL, error = failed.why, "{}", failed.what);
            ExitCode::FAILURE
        }
    }
}

/// Ends the process by a signal, as whoever sent it expects.
fn die_by(signal: Signal) -> ExitCode {
    // The first process of a container has no default for signals.
    if std::process::id() == 1 { ExitCode::SUCCESS } else { signals::die_by(signal) }
}

fn start(config: &Config) -> Result<End, Failed> {
    let signals = signals::block().and_then(signals::Blocked::deliver);
    let mut signals = signals.map_err(Failed::to("cannot take signals"))?;
    let directory =
        DataDir::open(&config.data_dir).map_err(Failed::to("cannot use the data directory"))?;
    // Before anything is written there: it may be somebody else's.
    let owner = match data::owner(&config.data_dir) {
        Err(Unusable::Etcd(_)) => {
            let mut interrupted = |_| die_if_told(&mut signals);
            let owner = takeover::take_over(config, &mut interrupted);
            Some(owner.map_err(Failed::to("cannot take over the data of etcd"))?)
        }
        owner => owner.map_err(Failed::to("cannot use the data directory"))?,
    };
    let peer_tls = listeners::peer_tls(config)?;
    let identity = identify(config, owner, peer_tls.as_ref(), &mut signals)?;
    for raised in limits::raise() {
        tracing::debug!(limit = ?raised.limit, before = ?raised.before, now = ?raised.now, "raised a limit");
    }
    let selected = select_runtime(config.runtime)?;
    let accounts =
        Accounts::new(&config.auth_token, config.bcrypt_cost, config.client_tls.client_cert_auth)
            .map_err(Failed::to("cannot make tokens for users"))?;
    let sockets = listeners::bind(config, peer_tls.as_ref())?;
    let files = Directory::new(directory.path(), config.wal_dir.as_deref());
    files.create().map_err(Failed::to("cannot make the data directory's folders"))?;
    notices::starting(config, &identity, selected.kind);

    let peer_counters = Arc::new(PeerCounters::default());
    let metrics = Arc::new(Metrics::new(&Facts {
        version: version::ETCD_VERSION.to_owned(),
        member: identity.id.to_string(),
        quota_bytes: config
            .quota_backend_bytes
            .map_or(0, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        runtime: selected.kind.to_string(),
        level: config.metrics,
        features: config.feature_gates.clone(),
        peers: Arc::clone(&peer_counters),
    }));
    let spans = config.distributed_tracing.as_ref();
    let spans = spans.map(|settings| Spans::start(settings, metrics.spans.clone())).transpose();
    let spans = spans.map_err(Failed::to("cannot export spans"))?;
    let counters = Arc::new(Counters::default());
    let plan = Plan { pulse: Some(pulse_config(config)), counters: Arc::clone(&counters) };
    let (stop, stopping) = watch::channel(None);
    let lives =
        lives::begin(directory.path()).map_err(Failed::to("cannot use the data directory"))?;
    let program = Member {
        settings: Settings {
            engine: engine_config(config, &identity, lives)?,
            directory: directory.path().to_path_buf(),
            log_directory: config.wal_dir.clone(),
            peer_connector: None,
            peer_counters,
        },
        limits: Limits {
            txn_ops_max: config.max_txn_ops,
            message_bytes_max: config.max_request_bytes.saturating_add(MESSAGE_OVERHEAD_BYTES),
            streams_max: config.max_concurrent_streams,
            keep_alive: config.grpc_keepalive,
            election_timeout: config.election_timeout,
            slow_request: config.warning_unary_request_duration,
            connections_max: config.connections_max.unwrap_or_else(connections_max),
        },
        config: Arc::new(config.clone()),
        identity,
        web: web::Settings {
            gateway: config.enable_grpc_gateway,
            pprof: config.enable_pprof,
            cors: config.cors.clone(),
            host_whitelist: config.host_whitelist.clone(),
        },
        spans: spans.clone(),
        budgets: Arc::new(Budgets::new(config.client_limits, metrics.refusals.clone())),
        metrics,
        counters,
        peer_tls,
        accounts,
        stopping,
    };
    let mut signals = Some((signals, Arc::new(stop)));
    let seats = driver::seats(config.cores).into_iter().zip(sockets).map(|(seat, sockets)| {
        // The first core hears the signals.
        MemberSeat { seat, sockets, signals: signals.take() }
    });
    let outcomes = launch(selected.kind, plan, program, seats.collect())
        .map_err(Failed::to("cannot start the executors"))?;
    if let Some(spans) = spans {
        spans.flush(SPANS_FLUSH_LIMIT);
    }
    tell_end(config, "closed etcd server");
    let first = outcomes.into_iter().next().expect("there is a first core");
    first.map_err(|error| Failed { what: start_failure(&error), why: error.to_string() })
}

/// What a request message may be longer than what the log takes.
const MESSAGE_OVERHEAD_BYTES: usize = 512 << 10;

/// Says that the member ends, or has.
fn tell_end(config: &Config, what: &'static str) {
    let texts = |urls: &[Url]| log::list(&urls.iter().map(Url::as_str).collect::<Vec<_>>());
    let peers = texts(&config.initial_advertise_peer_urls);
    let clients = texts(&config.advertise_client_urls);
    tracing::info!(
        name = config.name,
        data_dir = %config.data_dir.display(),
        advertise_peer_urls = peers.field(),
        advertise_client_urls = clients.field(),
        "{what}"
    );
}

/// As many connections as there are descriptors for, besides those that files and peers need.
fn connections_max() -> u64 {
    limits::open_files()
        .map_or(u64::MAX, |files| files.saturating_sub(RESERVED_FILES).max(files / 2))
}

/// etcd's number.
const RESERVED_FILES: u64 = 150;

fn start_failure(error: &StartError) -> &'static str {
    match error {
        StartError::Recovery(_) | StartError::Halt(_) => "cannot use what the data directory holds",
        StartError::Disk(_) | StartError::Threads(_) => "cannot use the disk",
    }
}

/// Who this member is: what its directory says, or, the first time, what the flags and the other members say.
fn identify(
    config: &Config,
    owner: Option<Owner>,
    peer_tls: Option<&PeerTls>,
    signals: &mut Signals,
) -> Result<Identity, Failed> {
    let is_noted = owner.as_ref().is_some_and(|owner| owner.origin != Origin::Alone);
    let identity = match owner {
        Some(owner) => Identity::again(config, owner),
        None => first_identity(config, peer_tls, signals)?,
    };
    if !is_noted {
        data::claim(&config.data_dir, &identity.owner())
            .map_err(Failed::to("cannot use the data directory"))?;
    }
    Ok(identity)
}

fn first_identity(
    config: &Config,
    peer_tls: Option<&PeerTls>,
    signals: &mut Signals,
) -> Result<Identity, Failed> {
    let mut interrupted = || die_if_told(signals);
    let found;
    let config = match &config.discovery {
        Some(discovery) => {
            found = discovery::find(config, discovery, || join::pause(&mut interrupted))
                .map_err(Failed::to("discovery failed"))?;
            &found
        }
        None => config,
    };
    config.verify_bootstrap().map_err(Failed::to("failed to verify flags"))?;
    match config.initial_cluster_state {
        ClusterState::New => {
            Identity::at_bootstrap(config).map_err(Failed::to("failed to verify flags"))
        }
        ClusterState::Existing => {
            join::find(config, peer_tls, interrupted).map_err(Failed::to("cannot join the cluster"))
        }
    }
}

/// Ends the process if a signal wants that, while nothing is served yet.
fn die_if_told(signals: &mut Signals) {
    if let Some(signal @ (Signal::Terminate | Signal::Interrupt)) = signals.try_next() {
        tracing::info!(signal = %signal, "received signal; shutting down");
        log::flush(LOG_FLUSH_LIMIT);
        signals::die_by(signal);
    }
}

fn select_runtime(choice: RuntimeChoice) -> Result<Selected, Failed> {
    let choice = match choice {
        RuntimeChoice::Auto => Choice::Auto,
        RuntimeChoice::Glommio => Choice::Glommio,
        RuntimeChoice::Tokio => Choice::Tokio,
    };
    let selected =
        probe::select(choice).map_err(Failed::to("cannot use the runtime that was asked for"))?;
    if let Some(refusal) = &selected.refusal {
        let reason = refusal.to_string();
        tracing::warn!(reason, "io_uring is refused here: serving with tokio and epoll instead");
    }
    Ok(selected)
}

fn pulse_config(config: &Config) -> pulse::Config {
    pulse::Config {
        limit: config.election_timeout,
        last_words: Box::new(|stalled| {
            tracing::error!(
                target: log::FATAL,
                core = stalled.core,
                waiting = stalled.waiting,
                "an executor does not wake although it has work: ending the process, start it again"
            );
            log::flush(LOG_FLUSH_LIMIT);
        }),
    }
}

fn engine_config(
    config: &Config,
    identity: &Identity,
    lives: Lives,
) -> Result<EngineConfig, Failed> {
    let seed = getrandom::u64().map_err(Failed::to("cannot get randomness"))?;
    let defaults = EngineLimits::default();
    // Nobody lags behind a member that is alone; and if somebody comes later, a restart is not far.
    let is_alone = identity.members.len() == 1;
    let log_memory_bytes = if is_alone { defaults.log_memory_bytes } else { LOG_MEMORY_BYTES };
    Ok(EngineConfig {
        cluster: identity.cluster,
        id: identity.id,
        members: identity.members.clone(),
        name: config.name.clone(),
        client_urls: texts(&config.advertise_client_urls),
        lives,
        force_new_cluster: config.force_new_cluster,
        strict_reconfig_check: config.strict_reconfig_check,
        learners_max: config.max_learners,
        seed,
        election_timeout: config.election_timeout,
        heartbeat_interval: config.heartbeat_interval,
        limits: EngineLimits {
            request_bytes_max: config.max_request_bytes,
            quota_bytes: config.quota_backend_bytes,
            watch_fragment_bytes: config.max_request_bytes.saturating_add(MESSAGE_OVERHEAD_BYTES),
            watch_progress_interval: config.watch_progress_notify_interval,
            log_memory_bytes,
            token_ttl: config.auth_token_ttl,
            ..defaults
        },
        version: version::ETCD_VERSION.to_owned(),
        storage: config.storage,
        auto_compaction: config.auto_compaction,
    })
}

/// What stays in memory of the log of a cluster, so that a peer that was away for a moment needs no snapshot.
const LOG_MEMORY_BYTES: usize = 16 << 20;

/// What runs on every core.
#[derive(Clone)]
struct Member {
    settings: Settings,
    limits: Limits,
    config: Arc<Config>,
    identity: Identity,
    web: web::Settings,
    accounts: Accounts,
    budgets: Arc<Budgets>,
    spans: Option<Spans>,
    metrics: Arc<Metrics>,
    counters: Arc<Counters>,
    peer_tls: Option<PeerTls>,
    stopping: watch::Receiver<Option<End>>,
}

/// What one core has for its own.
struct MemberSeat {
    seat: Seat,
    sockets: Sockets,
    /// On the first core: what ends the process, and how the cores are told.
    signals: Option<(Signals, Arc<watch::Sender<Option<End>>>)>,
}

impl Program for Member {
    type Seat = MemberSeat;
    type Output = Result<End, StartError>;

    async fn run<R: Runtime>(self, core: usize, seat: MemberSeat) -> Result<End, StartError> {
        let MemberSeat { seat, sockets, signals } = seat;
        let stop = signals.as_ref().map(|(_, stop)| Arc::clone(stop));
        let heard = signals.map(|(signals, stop)| {
            let (tell, heard) = watch::channel(None);
            R::spawn(hear(signals, tell));
            (heard, stop)
        });
        let notices = Notices::new(Arc::clone(&self.metrics), &self.identity);
        let observer = Rc::new(move |notice| notices.tell(notice));
        let (mut settings, stopping) = (self.settings.clone(), self.stopping.clone());
        settings.peer_connector = self.peer_tls.clone().map(PeerTls::connector::<R>);
        let ready = move |handle| self.ready::<R>(core, handle, sockets, heard);
        let fatal = Rc::new(move |fatal| match (fatal, &stop) {
            // In good order: who removed it may wait for the answer.
            (Fatal::Halt(Halt::Removed), Some(stop)) => drop(stop.send_replace(Some(End::Removed))),
            (fatal, _) => end(&fatal),
        });
        driver::run::<R>(settings, seat, ready, observer, fatal).await?;
        let end = *stopping.borrow();
        Ok(end.unwrap_or(End::Signal(Signal::Terminate)))
    }
}

/// A signal that was heard, and how to tell the cores.
type Heard = (watch::Receiver<Option<Signal>>, Arc<watch::Sender<Option<End>>>);

impl Member {
    /// Begins to serve on this core.
    fn ready<R: Runtime>(
        self,
        core: usize,
        handle: Handle,
        sockets: Sockets,
        heard: Option<Heard>,
    ) {
        let (stop, stopping) = watch::channel(false);
        let server = Context::<R>::new(handle, self.limits, self.metrics, self.counters, stopping);
        let server = server
            .with_web(self.web)
            .with_accounts(self.accounts)
            .with_budgets(self.budgets)
            .with_spans(self.spans);
        for socket in sockets {
            R::spawn(listeners::listen(server.clone(), socket));
        }
        R::spawn(stop_when_told(server.clone(), stop, self.stopping));
        if let Some((heard, stop)) = heard {
            R::spawn(leave(server.clone(), Arc::clone(&self.config), heard, stop));
        }
        if core == 0 {
            notices::serving(&self.config);
            R::spawn(announce(server, self.config));
        }
    }
}

/// Says that clients are served, once the cluster has a leader and a version, which some clients ask for first.
async fn announce<R: Runtime>(server: Context<R>, config: Arc<Config>) {
    for url in &config.listen_peer_urls {
        tracing::info!(address = url.authority(), "serving peer traffic");
    }
    for url in &config.listen_metrics_urls {
        tracing::info!(address = url.as_str(), "serving metrics");
    }
    let handle = server.handle();
    let mut pause = POLL_MIN;
    while !handle.leader().is_some() || handle.cluster_version().is_empty() {
        R::sleep(pause).await;
        pause = (pause * 2).min(POLL_MAX);
    }
    tracing::info!("ready to serve client requests");
    let traffic = if config.listen_client_http_urls.is_empty() { "grpc+http" } else { "grpc" };
    for url in &config.listen_client_urls {
        let address = url.authority();
        if url.is_tls() {
            tracing::info!(traffic, address, "serving client traffic securely");
        } else {
            tracing::info!(
                traffic,
                address,
                "serving client traffic insecurely; this is strongly discouraged!"
            );
        }
    }
    init_daemon::ready();
}

/// How often to look for them at start. A member alone has both as soon as its disk has answered a few times; one that
/// waits for others may wait for long.
const POLL_MIN: Duration = Duration::from_millis(1);
const POLL_MAX: Duration = Duration::from_millis(32);

/// Takes signals, and tells of the first that ends the process.
async fn hear(mut signals: Signals, tell: watch::Sender<Option<Signal>>) {
    loop {
        let signal = signals.next().await;
        match signal {
            Signal::Terminate | Signal::Interrupt if tell.borrow().is_none() => {
                tracing::info!(signal = %signal, "received signal; shutting down");
                tell.send_replace(Some(signal));
            }
            // Whoever asks twice does not want to wait.
            Signal::Terminate | Signal::Interrupt => {
                log::flush(LOG_FLUSH_LIMIT);
                signals::die_by(signal);
            }
            Signal::HangUp => {}
        }
    }
}

/// When a signal was heard: hands leadership to another member, so that the cluster need not find out that this one
/// is gone; then tells all cores to stop.
async fn leave<R: Runtime>(
    server: Context<R>,
    config: Arc<Config>,
    mut heard: watch::Receiver<Option<Signal>>,
    stop: Arc<watch::Sender<Option<End>>>,
) {
    // An error means that nobody can tell any more: the process ends.
    let Ok(Some(signal)) = heard.wait_for(Option::is_some).await.map(|signal| *signal) else {
        return;
    };
    let handle = server.handle();
    if handle.leader().0 == handle.header().member_id {
        let moved = server.own_handle().ask(Request::MoveLeader(MemberId::NONE));
        match server.within(server.limits().election_timeout, moved).await {
            Some(Ok(_)) if handle.leader().0 == handle.header().member_id => {
                tracing::info!(
                    local_member_id = %handle.header().member_id,
                    "skipped leadership transfer for single voting member cluster"
                );
            }
            Some(Ok(_)) => {
                tracing::info!(new_leader = %handle.leader(), "leadership transfer finished");
            }
            Some(Err(error)) => tracing::info!(error = %error, "skipped leadership transfer"),
            None => tracing::warn!("leadership transfer took too long"),
        }
    }
    tell_end(&config, "closing etcd server");
    init_daemon::stopping();
    // The member may have been removed in the meantime.
    stop.send_if_modified(|end| {
        let is_first = end.is_none();
        end.get_or_insert(End::Signal(signal));
        is_first
    });
}

/// Ends this core when the process is told to stop: connections finish what is under way, for a while.
async fn stop_when_told<R: Runtime>(
    server: Context<R>,
    stop: watch::Sender<bool>,
    mut stopping: watch::Receiver<Option<End>>,
) {
    // An error means that nobody can tell any more: the process ends.
    drop(stopping.wait_for(Option::is_some).await);
    // Whoever listens has a connection.
    stop.send(true).ok();
    let deadline = R::now().saturating_add(clock::saturating_ns(DRAIN_LIMIT));
    while server.connections() > 0 && R::now() < deadline {
        R::sleep(DRAIN_POLL).await;
    }
    server.handle().stop();
}

/// How often to look whether connections have ended.
const DRAIN_POLL: Duration = Duration::from_millis(5);

/// Ends the process: going on would be wrong.
fn end(fatal: &Fatal) {
    tracing::error!(target: log::FATAL, "{fatal}");
    log::flush(LOG_FLUSH_LIMIT);
    std::process::exit(match fatal {
        Fatal::Disk(_) | Fatal::Halt(Halt::Damaged(_)) => EXIT_DISK,
        Fatal::Halt(Halt::UnknownCommand { .. }) => EXIT_NEWER,
        Fatal::Halt(Halt::Removed) => unreachable!("a removed member ends in good order"),
    })
}
