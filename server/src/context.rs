//! What every connection of a core needs: the engine's handle, the limits, the counters.

use core::cell::Cell;
use core::future::{Future, pending, poll_fn};
use core::marker::PhantomData;
use core::net::IpAddr;
use core::pin::pin;
use core::sync::atomic::Ordering;
use core::task::Poll;
use core::time::Duration;
use std::rc::Rc;
use std::sync::Arc;

use cairn_engine::ConnectionId;
use cairn_engine::api::{Code, Error, Request, Response};
use cairn_engine::auth::Credential;
use cairn_engine::raft::RoleName;
use cairn_io::clock::saturating_ns;
use cairn_io::driver::Handle;
use cairn_io::pulse::Counters;
use cairn_io::runtime::Runtime;
use prometheus::IntGauge;
use rustix::process::{Resource, getrlimit};
use tokio::sync::watch;

use crate::auth::Accounts;
use crate::budget::{Budgets, Client, Visitor};
use crate::config::KeepAlive;
use crate::config::duration::GoDuration;
use crate::grpc::call::{Admitted, Called};
use crate::grpc::connection::Scratch;
use crate::grpc::method::Method;
use crate::grpc::unary;
use crate::lobby::Lobby;
use crate::metrics::Metrics;
use crate::spans::Spans;
use crate::web;

/// The limits of the client side.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Operations in a transaction.
    pub txn_ops_max: usize,
    /// Bytes of a request message: what the log takes and half a mebibyte.
    pub message_bytes_max: usize,
    /// Streams of one connection.
    pub streams_max: u32,
    /// How it is found out that a client is gone.
    pub keep_alive: KeepAlive,
    /// How long a member waits for a leader before it seeks one.
    pub election_timeout: Duration,
    /// A unary request that takes longer is logged.
    pub slow_request: Duration,
    /// Connections of clients to all cores.
    pub connections_max: u64,
}

impl Limits {
    /// The part that decoding depends on.
    pub fn unary(&self) -> unary::Limits {
        unary::Limits { txn_ops_max: self.txn_ops_max, message_bytes_max: self.message_bytes_max }
    }
}

/// A core's server, shared by its connections.
pub struct Context<R: Runtime> {
    inner: Rc<Inner>,
    /// On behalf of whoever is served with this.
    handle: Handle,
    /// Whether what is served with this ends when there was no leader for long.
    needs_leader: bool,
    /// The call that is served; there is none, but for [`Context::for_call`].
    called: Option<Rc<Called>>,
    runtime: PhantomData<R>,
}

struct Inner {
    /// On behalf of the member itself.
    own_handle: Handle,
    accounts: Accounts,
    budgets: Arc<Budgets>,
    spans: Option<Spans>,
    limits: Limits,
    web: web::Settings,
    metrics: Arc<Metrics>,
    stalls: Arc<Counters>,
    stopping: watch::Receiver<bool>,
    connections: Cell<usize>,
    /// When it was told last that there are too many.
    crowd_told: Cell<Option<u64>>,
    lobby: Lobby,
    /// What connections read with, while none does.
    scratch: Cell<Option<Scratch>>,
    /// Whether there was no leader for long, as far as somebody looks.
    leaderless: watch::Sender<bool>,
    /// Whether somebody does.
    is_watched: Cell<bool>,
}

impl<R: Runtime> Clone for Context<R> {
    fn clone(&self) -> Self {
        let Self { inner, handle, needs_leader, called, runtime } = self;
        let (inner, handle, called) = (Rc::clone(inner), handle.clone(), called.clone());
        Self { inner, handle, needs_leader: *needs_leader, called, runtime: *runtime }
    }
}

impl<R: Runtime> Context<R> {
    /// A server that asks `handle`, until `stopping` says true.
    pub fn new(
        handle: Handle,
        limits: Limits,
        metrics: Arc<Metrics>,
        stalls: Arc<Counters>,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let inner = Inner {
            own_handle: handle.on_behalf_of(Credential::Member),
            accounts: Accounts::default(),
            budgets: Arc::new(Budgets::unlimited()),
            spans: None,
            limits,
            web: web::Settings::default(),
            metrics,
            stalls,
            lobby: Lobby::new(stopping.clone()),
            stopping,
            connections: Cell::new(0),
            crowd_told: Cell::new(None),
            scratch: Cell::default(),
            leaderless: watch::Sender::new(false),
            is_watched: Cell::new(false),
        };
        let inner = Rc::new(inner);
        Self { inner, handle, needs_leader: false, called: None, runtime: PhantomData }
    }

    /// The same, with other accounts.
    ///
    /// # Panics
    /// If it is shared already.
    #[must_use]
    pub fn with_accounts(mut self, accounts: Accounts) -> Self {
        Rc::get_mut(&mut self.inner).expect("nobody has it yet").accounts = accounts;
        self
    }

    /// The same, with budgets for clients.
    ///
    /// # Panics
    /// If it is shared already.
    #[must_use]
    pub fn with_budgets(mut self, budgets: Arc<Budgets>) -> Self {
        Rc::get_mut(&mut self.inner).expect("nobody has it yet").budgets = budgets;
        self
    }

    /// The same, with somebody who wants spans.
    ///
    /// # Panics
    /// If it is shared already.
    #[must_use]
    pub fn with_spans(mut self, spans: Option<Spans>) -> Self {
        Rc::get_mut(&mut self.inner).expect("nobody has it yet").spans = spans;
        self
    }

    /// Where spans go, if somebody wants them.
    pub(crate) fn spans(&self) -> Option<&Spans> {
        self.inner.spans.as_ref()
    }

    /// The same, with other settings for HTTP.
    ///
    /// # Panics
    /// If it is shared already.
    #[must_use]
    pub fn with_web(mut self, web: web::Settings) -> Self {
        Rc::get_mut(&mut self.inner).expect("nobody has it yet").web = web;
        self
    }

    /// What HTTP serves, and to whom.
    pub fn web(&self) -> &web::Settings {
        &self.inner.web
    }

    /// The way to the engine, on behalf of whoever is served: nobody, but for [`Context::for_call`].
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The way to the engine for the member itself, which is permitted everything: for questions of its own, never for a
    /// client's.
    pub fn own_handle(&self) -> &Handle {
        &self.inner.own_handle
    }

    /// Those who have connected and said nothing yet.
    pub(crate) fn lobby(&self) -> &Lobby {
        &self.inner.lobby
    }

    /// How users are known.
    pub fn accounts(&self) -> &Accounts {
        &self.inner.accounts
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// The counters.
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// What a connection reads with, for as long as it takes it.
    pub(crate) fn scratch(&self) -> &Cell<Option<Scratch>> {
        &self.inner.scratch
    }

    /// Counts a call that began then, by this core's clock.
    pub fn ended(&self, method: Method, began: u64, code: Code) {
        let took = Duration::from_nanos(R::now().saturating_sub(began));
        self.metrics().handled(method, code, took);
        if let Some(called) = &self.called {
            called.end(method, code);
        }
    }

    /// The same for one that waits for nobody: if it was slow, operators are told.
    pub fn answered(&self, method: Method, began: u64, code: Code) {
        self.ended(method, began, code);
        let took = Duration::from_nanos(R::now().saturating_sub(began));
        if took > self.limits().slow_request {
            let row = method.row();
            tracing::warn!(
                time_spent = %GoDuration(took),
                response_type = %format_args!("/{}/{}", row.service, row.name),
                code = code.name(),
                "request stats"
            );
        }
    }

    /// Sets the gauges that are read off the engine.
    pub async fn refresh_metrics(&self) {
        let metrics = self.metrics();
        let Ok(Response::Status(answer)) = self.own_handle().ask(Request::Status).await else {
            return;
        };
        let status = answer.status;
        let set =
            |gauge: &IntGauge, number: u64| gauge.set(i64::try_from(number).unwrap_or(i64::MAX));
        metrics.has_leader.set(i64::from(status.leader.is_some()));
        metrics.is_leader.set(i64::from(status.role == RoleName::Leader));
        metrics.is_learner.set(i64::from(self.handle().is_learner()));
        set(&metrics.proposals_committed, status.commit.0);
        set(&metrics.proposals_applied, status.applied.0);
        set(&metrics.proposals_pending, u64::try_from(status.pending).expect("64 bits"));
        metrics.db_bytes.iter().for_each(|gauge| set(gauge, status.bytes));
        metrics.revision.set(status.revision);
        metrics.compact_revision.set(status.compacted);
        set(&metrics.auth_revision, self.own_handle().auth().revision());
        metrics.set_tally(status.tally);
        set(&metrics.keys, u64::try_from(status.keys).expect("64 bits"));
        let (limit, used) = (getrlimit(Resource::Nofile).current, descriptors());
        set(&metrics.descriptors[0], used);
        set(&metrics.descriptors[1], limit.unwrap_or(u64::MAX));
        set(&metrics.stalls, self.inner.stalls.stalls.load(Ordering::Relaxed));
        set(
            &metrics.stall_longest_us,
            self.inner.stalls.stall_longest_ns.load(Ordering::Relaxed) / 1000,
        );
    }

    /// Waits for something, but not for ever; `None`: it took too long.
    pub async fn within<T>(&self, limit: Duration, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        let mut limit = pin!(R::sleep(limit));
        poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            limit.as_mut().poll(context).map(|()| None)
        })
        .await
    }

    /// Whether connections should end when what is under way is done.
    pub fn is_stopping(&self) -> bool {
        *self.inner.stopping.borrow()
    }

    /// Waits until they should.
    pub fn stopped(&self) -> impl Future<Output = ()> + 'static {
        let mut stopping = self.inner.stopping.clone();
        async move {
            // An error means that nobody can tell any more: the process ends.
            drop(stopping.wait_for(|stopping| *stopping).await);
        }
    }

    /// Waits for something, but not any more when connections should end; `None`: they should.
    pub async fn unless_stopped<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        let mut stopped = pin!(self.stopped());
        poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            stopped.as_mut().poll(context).map(|()| None)
        })
        .await
    }

    /// Somebody who has come from an address; `None`: over a unix socket.
    pub(crate) fn visitor(&self, from: Option<IpAddr>) -> Visitor {
        Visitor::new(Arc::clone(&self.inner.budgets), from, self.handle.connection())
    }

    /// Whose budgets count; `None`: what is asked is the member's own affair.
    pub(crate) fn client(&self) -> Option<&Client> {
        self.called.as_deref().map(Called::client)
    }

    /// The connection that a call came on, to the engine.
    pub(crate) fn connection(&self) -> ConnectionId {
        let called = self.called.as_deref().map(Called::connection);
        called.unwrap_or_else(|| self.handle.connection())
    }

    /// The server for a call that was admitted.
    pub(crate) fn for_call(&self, admitted: Admitted) -> Self {
        let Admitted { credential, needs_leader, called } = admitted;
        let handle = self.handle.on_behalf_of(credential);
        Self { handle, needs_leader, called: Some(Rc::new(called)), ..self.clone() }
    }

    /// Finds out which leases of a client are gone, if it has got so many that it is worth it.
    pub(crate) async fn sweep_leases(&self, client: &Client) {
        if client.is_to_be_swept()
            && let Ok(Response::LeaseLeases(there)) =
                self.own_handle().ask(Request::LeaseLeases).await
        {
            client.sweep(&Vec::from_iter(there.leases.iter().map(|lease| lease.id)));
        }
    }

    /// Waits until a stream should be cut, and says why: the process stops, or its client wants a leader and there
    /// was none for long.
    pub async fn cut(&self) -> Error {
        let leaderless = async {
            if !self.needs_leader {
                return pending().await;
            }
            let mut leaderless = self.watch_leader();
            // The sender is here.
            drop(leaderless.wait_for(|leaderless| *leaderless).await);
        };
        self.unless_stopped(leaderless).await.map_or(Error::Stopped, |()| Error::NoLeader)
    }

    /// Hears when there was no leader for long. There is one now, or its client would have been refused.
    fn watch_leader(&self) -> watch::Receiver<bool> {
        let inner = &self.inner;
        inner.leaderless.send_if_modified(core::mem::take);
        if !inner.is_watched.replace(true) {
            R::spawn(look_for_leader(self.clone()));
        }
        inner.leaderless.subscribe()
    }

    /// Whether one more connection of a client may be served. Operators are told if not, once in a while: whoever opens
    /// so many does not stop at that.
    pub(crate) fn has_room(&self) -> bool {
        let open = u64::try_from(self.metrics().connections.get()).unwrap_or(0);
        if open < self.limits().connections_max {
            return true;
        }
        self.metrics().connections_refused.inc();
        let now = R::now();
        let is_news = |told: u64| now.saturating_sub(told) >= saturating_ns(TOLD_EVERY);
        if self.inner.crowd_told.get().is_none_or(is_news) {
            self.inner.crowd_told.set(Some(now));
            tracing::warn!(
                connections = open,
                "refusing connections of clients: there are as many as --cairn-connections or descriptors (ulimit -n) \
                 allow; look who opens them, or raise the limit"
            );
        }
        false
    }

    /// Counts a connection while it lasts.
    pub fn count_connection(&self) -> Counted<R> {
        self.inner.connections.set(self.inner.connections.get() + 1);
        self.metrics().connections.inc();
        Counted(self.clone())
    }

    /// How many connections there are on this core.
    pub fn connections(&self) -> usize {
        self.inner.connections.get()
    }
}

/// How many descriptors this process has; zero where nobody can tell.
fn descriptors() -> u64 {
    let entries = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    u64::try_from(entries).unwrap_or(u64::MAX)
}

/// Looks now and then whether there is a leader, while somebody wants to know: one timer for all streams.
async fn look_for_leader<R: Runtime>(server: Context<R>) {
    let Inner { leaderless, is_watched, limits, .. } = &*server.inner;
    let mut missed = 0;
    loop {
        R::sleep(limits.election_timeout).await;
        missed = if server.handle().leader().is_some() { 0 } else { missed + 1 };
        leaderless.send_replace(missed >= MISSED_MAX);
        if leaderless.receiver_count() == 0 {
            is_watched.set(false);
            return;
        }
    }
}

/// How often operators are told the same.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// How often a leader may be missed before streams are cut: etcd's number. Coming back costs a client more than waiting.
const MISSED_MAX: u32 = 3;

/// A connection that is counted.
pub struct Counted<R: Runtime>(Context<R>);

impl<R: Runtime> Drop for Counted<R> {
    fn drop(&mut self) {
        let connections = &self.0.inner.connections;
        connections.set(connections.get() - 1);
        self.0.metrics().connections.dec();
    }
}

impl<R: Runtime> core::fmt::Debug for Context<R> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Context").field("connections", &self.connections()).finish_non_exhaustive()
    }
}

impl<R: Runtime> core::fmt::Debug for Counted<R> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Counted")
    }
}
