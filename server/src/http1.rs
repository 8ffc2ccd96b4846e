//! HTTP/1.1 on the client port, and what people and probes ask a member.
//!
//! `/health`, `/livez`, `/readyz`, `/version` and `/metrics` answer as etcd's do. Health checks go the way of every
//! request: a member that cannot read is not healthy, whatever it believes of itself.

use core::convert::Infallible;
use core::future::{Future, poll_fn};
use core::pin::{Pin, pin};
use core::task::{Context as TaskContext, Poll};
use core::time::Duration;

use bytes::Bytes;
use cairn_engine::api::etcdserverpb::RangeRequest;
use cairn_engine::api::{Error, Request};
use cairn_engine::state_machine::AlarmKind;
use cairn_io::runtime::{Connection as Io, Runtime};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::context::Context;
use crate::version::ETCD_VERSION;
use crate::web::{self, Answer, Broken, Door, Work};
use crate::{debug, profile};

/// How long a connection may live between answers: slow clients are let go, others connect anew.
const LIFE_LIMIT: Duration = Duration::from_secs(300);
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Serves a connection that speaks HTTP/1.1 until it ends.
pub async fn serve<R: Runtime>(server: Context<R>, io: Io, door: Door) {
    let work = Work::default();
    let io = Impatient { io, limit: Box::pin(R::sleep(LIFE_LIMIT)), work: work.clone() };
    let service = service_fn(|request: http::Request<Incoming>| {
        let (server, door, work) = (server.clone(), door.clone(), work.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = Box::pin(body.map_err(|_| Broken));
            Ok::<_, Infallible>(web::answer(&server, door, head, body, &work).await)
        }
    });
    let mut builder = http1::Builder::new();
    // What is written on the wire looks as Go writes it: some scripts compare letters.
    builder.max_buf_size(HEAD_BYTES_MAX).title_case_headers(true);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    let mut stopped = pin!(server.stopped());
    let mut is_told = false;
    poll_fn(|context| {
        if !is_told && stopped.as_mut().poll(context).is_ready() {
            is_told = true;
            connection.as_mut().graceful_shutdown();
        }
        // How a client ends its connection is its own affair.
        connection.as_mut().poll(context).map(drop)
    })
    .await;
}

/// Answers what people, probes and scrapers ask.
pub(crate) async fn answer<R: Runtime>(server: &Context<R>, door: &Door, head: &Parts) -> Answer {
    let uri = &head.uri;
    let query = Query(uri.query().unwrap_or_default());
    let path = uri.path();
    // Of these, who only serves metrics has the first three.
    let known = matches!(path, "/health" | "/metrics")
        || ["/livez", "/readyz"].iter().any(|root| path.strip_prefix(root).is_some_and(is_check))
        || door.serves_gateway && matches!(path, "/version" | "/debug/vars")
        || door.serves_gateway && server.web().pprof && path.starts_with(PPROF);
    if !known {
        return text(StatusCode::NOT_FOUND, "404 page not found\n");
    }
    // Go's handlers of these do not look at the method.
    match path {
        "/metrics" => return metrics(server).await,
        "/debug/vars" => return debug::variables(server).await,
        path => {
            if let Some(profile) = path.strip_prefix(PPROF) {
                return profile::answer(profile, query.first("seconds")).await;
            }
        }
    }
    if head.method != Method::GET {
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
        return answer;
    }
    match path {
        "/health" => health(server, &query).await,
        "/version" => version(server),
        path => match path.strip_prefix("/livez") {
            Some(check) => checks(server, ("livez", &LIVE), check, &query).await,
            None => {
                checks(
                    server,
                    ("readyz", &READY),
                    path.strip_prefix("/readyz").unwrap_or(path),
                    &query,
                )
                .await
            }
        },
    }
}

const PPROF: &str = "/debug/pprof/";

/// Whether the rest of a path names a check, or none.
fn is_check(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('/') && rest.len() > 1
}

/// `/health`: `{"health":"true","reason":""}` or what is wrong.
async fn health<R: Runtime>(server: &Context<R>, query: &Query<'_>) -> Answer {
    let serializable = query.first("serializable") == Some("true");
    let Some(reason) = unhealthy(server, query, serializable).await else {
        server.metrics().health_success.inc();
        return text(StatusCode::OK, r#"{"health":"true","reason":""}"#);
    };
    server.metrics().health_failures.inc();
    let body = serde_json::json!({"health": "false", "reason": reason});
    text(StatusCode::SERVICE_UNAVAILABLE, &format!("{body}\n"))
}

async fn unhealthy<R: Runtime>(
    server: &Context<R>,
    query: &Query<'_>,
    serializable: bool,
) -> Option<String> {
    for (kind, _) in server.handle().alarms().iter() {
        let name = kind.to_message().as_str_name();
        if !query.all("exclude").any(|excluded| excluded == name) {
            return Some(format!("ALARM {name}"));
        }
    }
    if !serializable && !server.handle().leader().is_some() {
        return Some("RAFT NO LEADER".to_owned());
    }
    read(server, serializable).await.err().map(|error| format!("RANGE ERROR:{error}"))
}

/// A check of `/livez` or `/readyz`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

const LIVE: [Check; 1] = [Check::SerializableRead];
const READY: [Check; 4] =
    [Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner];

impl Check {
    fn name(self) -> &'static str {
        match self {
            Self::DataCorruption => "data_corruption",
            Self::SerializableRead => "serializable_read",
            Self::LinearizableRead => "linearizable_read",
            Self::NonLearner => "non_learner",
        }
    }

    async fn run<R: Runtime>(self, server: &Context<R>) -> Result<(), String> {
        match self {
            Self::DataCorruption if server.handle().alarms().is_raised(AlarmKind::Corrupt) => {
                Err("alarm activated: CORRUPT".to_owned())
            }
            Self::DataCorruption => Ok(()),
            Self::SerializableRead => read(server, true).await.map_err(|error| error.to_string()),
            Self::LinearizableRead => read(server, false).await.map_err(|error| error.to_string()),
            Self::NonLearner if server.handle().is_learner() => {
                Err("learner node is not ready".to_owned())
            }
            Self::NonLearner => Ok(()),
        }
    }
}

/// `/livez` and `/readyz`: all checks, or the one that the path names.
async fn checks<R: Runtime>(
    server: &Context<R>,
    (kind, all): (&str, &[Check]),
    path: &str,
    query: &Query<'_>,
) -> Answer {
    let named = path.strip_prefix('/').unwrap_or(path);
    let chosen: Vec<Check> = match all.iter().find(|check| check.name() == named) {
        Some(check) => vec![*check],
        None if named.is_empty() => {
            let excluded = |check: &Check| query.all("exclude").any(|name| name == check.name());
            all.iter().copied().filter(|check| !excluded(check)).collect()
        }
        None => return text(StatusCode::NOT_FOUND, "404 page not found\n"),
    };
    let (mut lines, mut healthy) = (String::new(), true);
    for check in chosen {
        let outcome = check.run(server).await;
        server.metrics().checked(kind, check.name(), outcome.is_ok());
        match outcome {
            Ok(()) => lines.push_str(&format!("[+]{} ok\n", check.name())),
            Err(error) => {
                healthy = false;
                lines.push_str(&format!("[-]{} failed: {error}\n", check.name()));
            }
        }
    }
    match (healthy, query.has("verbose")) {
        (true, true) => text(StatusCode::OK, &format!("{lines}ok\n")),
        (true, false) => text(StatusCode::OK, "ok\n"),
        (false, _) => text(StatusCode::SERVICE_UNAVAILABLE, &lines),
    }
}

/// `/version`, which the peer port has as well.
pub(crate) fn version<R: Runtime>(server: &Context<R>) -> Answer {
    let agreed = server.handle().cluster_version();
    let (cluster, storage) = match &*agreed {
        "" => ("not_decided".to_owned(), "unknown".to_owned()),
        minor => (format!("{minor}.0"), format!("{minor}.0")),
    };
    let body = format!(
        r#"{{"etcdserver":"{ETCD_VERSION}","etcdcluster":"{cluster}","storage":"{storage}"}}"#
    );
    json(StatusCode::OK, body)
}

async fn metrics<R: Runtime>(server: &Context<R>) -> Answer {
    server.refresh_metrics().await;
    server.metrics().scrapes.with_label_values(&["200"]).inc();
    let mut answer = text(StatusCode::OK, &server.metrics().to_text());
    let kind =
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8; escaping=underscores");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

/// A read of one key, as a client would do it.
async fn read<R: Runtime>(server: &Context<R>, serializable: bool) -> Result<(), Error> {
    let range = RangeRequest {
        key: Bytes::from_static(b"\0"),
        limit: 1,
        serializable,
        ..RangeRequest::default()
    };
    server.own_handle().ask(Request::Range(range)).await.map(drop)
}

pub(crate) fn text(status: StatusCode, body: &str) -> Answer {
    respond(status, TEXT, body.to_owned())
}

pub(crate) fn json(status: StatusCode, body: String) -> Answer {
    respond(status, JSON, body)
}

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

fn respond(status: StatusCode, kind: HeaderValue, body: String) -> Answer {
    let mut answer = web::whole(Bytes::from(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

/// The query of a URL. Values are compared with plain words, so they are not percent-decoded.
struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    fn pairs(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }

    fn all(&self, name: &'static str) -> impl Iterator<Item = &'a str> {
        self.pairs().filter(move |(found, _)| *found == name).map(|(_, value)| value)
    }

    fn first(&self, name: &'static str) -> Option<&'a str> {
        self.all(name).next()
    }

    fn has(&self, name: &'static str) -> bool {
        self.first(name).is_some()
    }
}

/// A connection that ends after a while, but not in the middle of an answer.
struct Impatient {
    io: Io,
    limit: Pin<Box<dyn Future<Output = ()>>>,
    /// While there is some, the client is not the one that is slow.
    work: Work,
}

impl AsyncRead for Impatient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if !self.work.is_under_way() && self.limit.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(std::io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl AsyncWrite for Impatient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
