//! A call that is served by a task of its own, whoever carries it: HTTP/2, or the JSON gateway.
//!
//! What carries a call implements three small traits; what serves it ([`serve`]) does not know which. So a watch over
//! JSON is the watch over gRPC, with the same checks, texts and bounds.

use core::cell::Cell;
use core::future::{Future, poll_fn};
use core::task::{Context, Poll};
use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;
use cairn_engine::ConnectionId;
use cairn_engine::api::{Code, Error, Request, Response};
use cairn_engine::auth::Credential;
use cairn_io::runtime::Runtime;

use super::metadata::Metadata;
use super::method::{Kind, Method};
use super::status::Status;
use super::unary::{self, Asked};
use super::{counted, frame, health, keep_alive, parts, watch};
use crate::auth::calls::Account;
use crate::budget::{Budget, Client, Grant, Held, Visitor};
use crate::context::Context as Server;
use crate::recipes::{self, Recipe};
use crate::spans::Span;
use crate::version;

/// The client does not listen any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gone;

/// The asking side of a call: its messages, one after the other.
pub(crate) trait Questions {
    /// The next message; `None`: the client sends no more. An error if the message is refused, or the call is broken
    /// off.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>>;

    /// Waits for the next message. Cancelling loses nothing.
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// Waits for the only message of the call.
    async fn only(&mut self) -> Result<Bytes, Status> {
        self.next().await?.ok_or_else(missing)
    }
}

/// A call that has no message and needs one.
pub(super) fn missing() -> Status {
    Status::new(Code::Internal, "grpc: a call without a message")
}

/// A call that was not answered yet.
pub(crate) trait Respond {
    /// What takes the answers.
    type Answers: Answers;

    /// Begins to answer.
    fn begin(self) -> Result<Self::Answers, Gone>;

    /// Ends the call without an answer.
    fn refuse(self, status: &Status);

    /// Ready when the client has ended the call.
    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()>;
}

/// The answering side of a call.
pub(crate) trait Answers {
    /// Sends messages, each with its prefix, as fast as the client takes them.
    async fn send(&mut self, framed: Bytes) -> Result<(), Gone>;

    /// Waits until a part of a long answer may be made.
    async fn room_for_part(&mut self) -> Result<(), Gone>;

    /// Sends a part of a long answer, for which there was room.
    async fn send_part(&mut self, framed: Bytes) -> Result<(), Gone>;

    /// Ends the call; with the code that it ended with.
    fn finish(self, status: &Status) -> Result<Code, Gone>;

    /// Ready when the client has ended the call.
    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()>;
}

/// Whether a call needs a task: its answer is a stream, or it may have to wait for others.
pub(crate) fn needs_task(method: Method) -> bool {
    let row = method.row();
    row.kind != Kind::Unary || Recipe::of(method).is_some() || Account::of(method).is_some()
}

/// Serves a call that needs a task, for no longer than its client waits; with the code that it ended with. The deadline
/// is on the runtime's clock.
pub(crate) async fn serve<R: Runtime>(
    server: &Server<R>,
    method: Method,
    deadline: Option<u64>,
    questions: impl Questions,
    respond: impl Respond,
) -> Result<Code, Gone> {
    let (mut questions, mut respond) = counted::both(server, method, questions, respond);
    if let Some(recipe) = Recipe::of(method) {
        let message = match questions.only().await {
            Ok(message) => message,
            Err(status) => return refuse(respond, &status),
        };
        let gone = poll_fn(|context| respond.poll_gone(context));
        let given_up = given_up(server, deadline, gone);
        let answer = recipe.answer(server.handle(), message, given_up).await;
        return match answer {
            Ok(answer) => {
                let mut answers = respond.begin()?;
                answers.send(answer).await?;
                answers.finish(&Status::OK)
            }
            Err(status) => refuse(respond, &status),
        };
    }
    if let Some(account) = Account::of(method) {
        let message = match questions.only().await {
            Ok(message) => message,
            Err(status) => return refuse(respond, &status),
        };
        return match account.answer(server, message).await {
            Ok(answer) => {
                let mut answers = respond.begin()?;
                answers.send(answer).await?;
                answers.finish(&Status::OK)
            }
            Err(status) => refuse(respond, &status),
        };
    }
    let request = if method == Method::Watch {
        return watch::serve(respond.begin()?, questions, server).await;
    } else if method == Method::LeaseKeepAlive {
        return keep_alive::serve(respond.begin()?, questions, server).await;
    } else if method == Method::HealthWatch {
        return health::watch(respond, questions, server).await;
    } else if method == Method::Observe {
        return match questions.only().await.and_then(unary::decode) {
            Ok(request) => recipes::observe(server, request, deadline, respond.begin()?).await,
            Err(status) => refuse(respond, &status),
        };
    } else if method == Method::RangeStream {
        questions.only().await.and_then(unary::read_range_stream)
    } else if method == Method::Snapshot {
        questions.only().await.and_then(unary::read_snapshot)
    } else {
        Err(Status::unserved(method))
    };
    let answer = match request {
        Ok(request) => server.handle().ask(request).await.map_err(Status::from),
        Err(status) => Err(status),
    };
    match answer {
        Ok(Response::RangeStream(answer)) => parts::range(respond.begin()?, *answer).await,
        Ok(Response::Snapshot(answer)) => {
            parts::snapshot(respond.begin()?, *answer, version::ETCD_VERSION).await
        }
        Ok(_) => unreachable!("each question has its kind of answer"),
        Err(status) => refuse(respond, &status),
    }
}

fn refuse(respond: impl Respond, status: &Status) -> Result<Code, Gone> {
    respond.refuse(status);
    Ok(status.code)
}

/// Reads what is asked in a call that needs no task. Whose call it is, was asked before.
pub(crate) fn read<R: Runtime>(
    server: &Server<R>,
    method: Method,
    message: Bytes,
) -> Result<Asked, Status> {
    server.metrics().received(method, message.len());
    let handle = server.handle();
    let asked = unary::read(method, message, server.limits().unary())?;
    match &asked {
        // It may lag, so it reads only for those who do not mind.
        Asked::Engine(Request::Range(range)) if handle.is_learner() && !range.serializable => {
            Err(Error::NotSupportedForLearner.into())
        }
        Asked::Engine(_) | Asked::Answer(_) => Ok(asked),
    }
}

/// Makes room for a lease among those of a client; some may be gone of which nobody has heard.
///
/// # Errors
/// What a client is told that has too many.
pub(crate) async fn grant<R: Runtime>(
    server: &Server<R>,
    client: &Client,
) -> Result<Grant, Status> {
    server.sweep_leases(client).await;
    client.grant(R::now())
}

/// Asks what needs no task; the answer is a message with its prefix.
pub(crate) async fn ask<R: Runtime>(
    server: &Server<R>,
    method: Method,
    message: Bytes,
) -> Result<Bytes, Status> {
    let mut held = None;
    if let Some(client) = server.client() {
        client.ask(R::now())?;
        let bytes = u64::try_from(message.len()).expect("64 bits");
        held = Some(client.take(Budget::Bytes, bytes, R::now())?);
    }
    let answer = match read(server, method, message)? {
        Asked::Engine(request) => {
            let grant = match server.client() {
                Some(client) if matches!(request, Request::LeaseGrant(_)) => {
                    Some(grant(server, client).await?)
                }
                Some(_) | None => None,
            };
            let response = server.handle().ask(request).await?;
            drop(held);
            if let (Some(grant), Response::LeaseGrant(answer)) = (grant, &response) {
                grant.granted(answer.id);
            }
            frame::message(response.encoded_len(), |out| response.encode(out))
        }
        Asked::Answer(answer) => answer,
    };
    server.metrics().sent(method, answer.len());
    Ok(answer)
}

/// A call that this member takes.
pub(crate) struct Admitted {
    /// What its client has shown of itself.
    pub(crate) credential: Credential,
    /// Whether it wants a leader.
    pub(crate) needs_leader: bool,
    pub(crate) called: Called,
}

/// A call, as budgets and collectors of spans see it.
pub(crate) struct Called {
    /// Its place among the calls of whoever is counted.
    stream: Held,
    connection: ConnectionId,
    /// Until it has ended, if it is traced.
    span: Cell<Option<Span>>,
}

impl Called {
    /// Whose budgets count.
    pub(crate) const fn client(&self) -> &Client {
        self.stream.client()
    }

    /// The connection that it came on.
    pub(crate) const fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// It has ended.
    pub(crate) fn end(&self, method: Method, code: Code) {
        if let Some(span) = self.span.take() {
            span.end(method, code);
        }
    }
}

/// Whether a call with this metadata is one that this member takes now.
pub(crate) fn admit<R: Runtime>(
    server: &Server<R>,
    method: Method,
    metadata: &impl Metadata,
    (visitor, common_name): (&Visitor, Option<&Arc<str>>),
) -> Result<Admitted, Status> {
    let handle = server.handle();
    let version = metadata.value("client-api-version").unwrap_or(b"unknown");
    let version = core::str::from_utf8(version).map_err(|_| Error::InvalidClientApiVersion)?;
    server.metrics().asked_by(method, version);
    if handle.is_learner() && !may_ask_learner(method) {
        return Err(Error::NotSupportedForLearner.into());
    }
    let needs_leader = metadata.value("hasleader") == Some(b"true");
    if needs_leader && !handle.leader().is_some() {
        return Err(Error::NoLeader.into());
    }
    let credential = server.accounts().credential(metadata, common_name);
    let client = visitor.client(handle, &credential, R::now());
    let stream = client.take(Budget::Streams, 1, R::now())?;
    let span = Cell::new(server.spans().and_then(|spans| spans.begin(metadata)));
    let called = Called { stream, connection: visitor.connection(), span };
    Ok(Admitted { credential, needs_leader, called })
}

/// What a learner answers, as in etcd: how it is, a range that may be old, a copy of what it has.
fn may_ask_learner(method: Method) -> bool {
    matches!(method, Method::Status | Method::Range | Method::Snapshot)
}

/// Waits until nobody waits for the answer to a call any more, and says why.
pub(crate) async fn given_up<R: Runtime>(
    server: &Server<R>,
    deadline: Option<u64>,
    gone: impl Future<Output = ()>,
) -> Error {
    let gone = async {
        let Some(deadline) = deadline else {
            gone.await;
            return Error::ContextCanceled;
        };
        let limit = Duration::from_nanos(deadline.saturating_sub(R::now()));
        let gone = server.within(limit, gone).await;
        gone.map_or(Error::ContextDeadlineExceeded, |()| Error::ContextCanceled)
    };
    server.unless_stopped(gone).await.unwrap_or(Error::Stopped)
}
