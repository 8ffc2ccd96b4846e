//! One client's HTTP/2 connection, as one task.
//!
//! ```text
//!  socket ──► h2 ──► accept all that has arrived ──► engine
//!    ▲                                                 │
//!    └── one flush ◄── answer all that has gathered ◄──┘
//! ```
//!
//! A unary call is an entry in a list, not a task: its body is usually there when it is accepted, and its answer comes
//! through the connection's [`Outbox`]. Streams get a task each.
//!
//! # What a client can make us hold
//!
//! - Of requests that have not arrived whole: [`UNFINISHED_BYTES_MAX`], then calls are refused. Over all of its
//!   connections, what its [budgets](crate::budget) say.
//! - Of answers that it does not read: what [`outflow`](super::outflow) bounds; further answers wait unencoded, and
//!   when they are [`ANSWERS_MAX`], no more calls are accepted until it reads.
//! - Of headers, streams and windows: what h2 is told in [`serve`].

use core::cell::{Cell, RefCell};
use core::future::{Future, pending, poll_fn};
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use cairn_engine::api::{Code, Error, Request, Response};
use cairn_engine::auth::Credential;
use cairn_io::clock::saturating_ns;
use cairn_io::driver::{Handle, Sink};
use cairn_io::runtime::{Connection as Io, Runtime};
use futures_util::stream::{FuturesUnordered, Stream as _};
use h2::server::{Connection as H2, SendResponse};
use h2::{Ping, PingPong, RecvStream};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use slab::Slab;

use super::call::{self, Admitted, Answers as _, Called, Questions, Respond as _};
use super::frame::{self, Messages};
use super::method::Method;
use super::outflow::{Gauged, Outflow, Sender};
use super::plain::{self, Received};
use super::send::{Responding, Sending};
use super::status::{Status, response_head};
use super::timeout;
use super::unary::Asked;
use crate::budget::{Arriving, Budget, Client, Grant, Held};
use crate::config::KeepAlive;
use crate::context::Context as Server;
use crate::web::Door;

/// Bytes that a client may send on one stream before it is read.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// Bytes that a client may send on all streams before they are read: what an attacker can make us hold.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// Bytes of a request's headers.
const HEADER_BYTES_MAX: u32 = 16 << 10;
/// Streams of one connection where the operator sets no limit. etcd sets none; each costs a kilobyte.
const STREAMS_MAX: u32 = 65_536;
/// What frames of data that are small and unread may cost, at 256 bytes each: one on every stream, as when a client
/// begins very many calls at once. With h2's default, half a window, 8,000 of them end the connection.
const SMALL_FRAMES_BYTES_MAX: usize = 16 << 20;
/// How long a client may take to say that it speaks HTTP/2.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(20);
/// Bytes of a connection's requests that have not arrived whole.
pub(super) const UNFINISHED_BYTES_MAX: usize = 64 << 20;
/// Answers that wait until the client reads others.
const ANSWERS_MAX: usize = 1024;

/// Answers on their way to a connection.
#[derive(Default)]
struct Outbox {
    answers: RefCell<VecDeque<(u64, Result<Response, Status>)>>,
    connection: RefCell<Option<Waker>>,
}

impl Sink for Outbox {
    fn deliver(&self, key: u64, result: Result<Response, Error>) {
        self.put(key, result.map_err(Status::from));
    }
}

impl Outbox {
    fn put(&self, key: u64, result: Result<Response, Status>) {
        self.answers.borrow_mut().push_back((key, result));
        if let Some(connection) = self.connection.borrow_mut().take() {
            connection.wake();
        }
    }
}

/// A unary call between its head and its answer.
struct Call {
    method: Method,
    credential: Credential,
    began: u64,
    respond: SendResponse<Bytes>,
    called: Called,
    /// Its message, until it is answered.
    bytes: Option<Held>,
    /// The lease that it asks for.
    grant: Option<Grant>,
}

struct Connection<R: Runtime> {
    server: Server<R>,
    door: Door,
    h2: H2<Gauged, Bytes>,
    calls: Slab<Call>,
    /// Calls whose message did not come with their head.
    unfinished: FuturesUnordered<Unfinished>,
    unfinished_bytes: Rc<Cell<usize>>,
    outbox: Rc<Outbox>,
    outflow: Rc<Outflow>,
    /// Sends the answers of unary calls.
    sender: Sender,
    /// Ready when the client is gone.
    heartbeat: Pin<Box<dyn Future<Output = ()>>>,
    /// Ready when the server stops.
    stopping: Pin<Box<dyn Future<Output = ()>>>,
    /// Whether the client was told that.
    is_leaving: bool,
}

/// Serves a connection that speaks HTTP/2 until it ends.
pub async fn serve<R: Runtime>(server: Server<R>, io: Io, door: Door) {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(server.limits().streams_max.min(STREAMS_MAX))
        .max_header_list_size(HEADER_BYTES_MAX)
        .data_frame_budget(SMALL_FRAMES_BYTES_MAX);
    let outflow = Rc::new(Outflow::default());
    let handshake = builder.handshake::<_, Bytes>(Gauged::new(io, outflow.clone()));
    // A client that is slow to begin, or does not, is let go.
    let Some(Ok(mut h2)) = server.within(HANDSHAKE_LIMIT, handshake).await else { return };
    let heartbeat = Box::pin(heartbeat(server.clone(), h2.ping_pong()));
    let mut connection = Connection {
        stopping: Box::pin(server.stopped()),
        server,
        door,
        h2,
        calls: Slab::new(),
        unfinished: FuturesUnordered::new(),
        unfinished_bytes: Rc::default(),
        outbox: Rc::default(),
        sender: outflow.sender(),
        outflow,
        heartbeat,
        is_leaving: false,
    };
    poll_fn(|context| connection.poll(context)).await;
}

impl<R: Runtime> Connection<R> {
    /// Does everything that can be done now; ready when the connection has ended.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.heartbeat.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        if !self.is_leaving && self.stopping.as_mut().poll(context).is_ready() {
            self.is_leaving = true;
            self.h2.graceful_shutdown();
        }
        loop {
            let mut progressed = self.answer(context);
            progressed |= self.finish_requests(context);
            // Writes what was sent above, then reads what has arrived.
            if self.outbox.answers.borrow().len() >= ANSWERS_MAX {
                if self.h2.poll_closed(context).is_ready() {
                    return Poll::Ready(());
                }
            } else {
                match self.h2.poll_accept(context) {
                    Poll::Ready(Some(Ok((request, respond)))) => {
                        self.accept(context, request, respond);
                        continue;
                    }
                    Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                    Poll::Pending => {}
                }
            }
            self.outflow.settle();
            if !progressed {
                return Poll::Pending;
            }
        }
    }

    /// Answers the calls whose answers have gathered, while there is room; whether there were any.
    fn answer(&mut self, context: &Context<'_>) -> bool {
        let mut progressed = false;
        while self.sender.poll_room(context).is_ready() {
            let Some((key, result)) = self.outbox.answers.borrow_mut().pop_front() else {
                *self.outbox.connection.borrow_mut() = Some(context.waker().clone());
                break;
            };
            progressed = true;
            let mut call = self.calls.remove(key_place(key));
            call.bytes = None;
            match result {
                Ok(response) => {
                    if let (Some(grant), Response::LeaseGrant(answer)) =
                        (call.grant.take(), &response)
                    {
                        grant.granted(answer.id);
                    }
                    let encode = |out: &mut Vec<u8>| response.encode(out);
                    let message = frame::message(response.encoded_len(), encode);
                    self.send_answer(call, message);
                }
                Err(status) => self.end(call, &status),
            }
        }
        progressed
    }

    fn accept(
        &mut self,
        context: &mut Context<'_>,
        request: http::Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
    ) {
        let (head, body) = request.into_parts();
        if self.door.is_secure && !is_grpc(&head) {
            let body = Received::new(body, self.unfinished_bytes.clone());
            let responding = Responding { respond, outflow: self.outflow.clone() };
            let door = self.door.clone();
            R::spawn(plain::serve(self.server.clone(), door, head, body, responding));
            return;
        }
        if let Some((code, status)) = misdirected(&head) {
            let mut response = status.response();
            *response.status_mut() = code;
            // A client that went away is not told.
            drop(respond.send_response(response, true));
            return;
        }
        let (method, admitted) = match self.admit(&head) {
            Ok(admitted) => admitted,
            Err(status) => return refuse(&mut respond, &status),
        };
        self.server.metrics().started(method);
        let message_bytes_max = self.server.limits().message_bytes_max;
        let unfinished_bytes = self.unfinished_bytes.clone();
        let of_client = Arriving::new(admitted.called.client().clone(), R::now);
        let held = Holding { bytes: 0, of_connection: unfinished_bytes, of_client };
        let messages = Messages::default();
        let mut receiving = Receiving { body, messages, message_bytes_max, held };
        if !call::needs_task(method) {
            let message = receiving.poll_only(context);
            let Admitted { credential, called, .. } = admitted;
            let (began, bytes, grant) = (R::now(), None, None);
            let call = Call { method, credential, began, respond, called, bytes, grant };
            let place = self.calls.insert(call);
            match message {
                Poll::Ready(message) => self.ask(place, message),
                Poll::Pending => self.unfinished.push(Unfinished { place, receiving }),
            }
        } else {
            let responding = Responding { respond, outflow: self.outflow.clone() };
            let server = self.server.for_call(admitted);
            R::spawn(serve_call(server, method, head.headers, receiving, responding));
        }
    }

    /// Whether a request is one that this server takes.
    fn admit(&self, head: &Parts) -> Result<(Method, Admitted), Status> {
        let path = head.uri.path();
        let method = Method::of_path(path).ok_or_else(|| Status::unimplemented(path))?;
        let Door { visitor, common_name, .. } = &self.door;
        let who = (visitor, common_name.as_ref());
        Ok((method, call::admit(&self.server, method, &head.headers, who)?))
    }

    /// Goes on with the calls whose message has arrived now; whether there were any.
    fn finish_requests(&mut self, context: &mut Context<'_>) -> bool {
        let mut progressed = false;
        while let Poll::Ready(Some((place, message))) =
            Pin::new(&mut self.unfinished).poll_next(context)
        {
            self.ask(place, message);
            progressed = true;
        }
        progressed
    }

    /// Asks the engine what a call's message says.
    fn ask(&mut self, place: usize, message: Result<Bytes, Status>) {
        let (method, client) =
            (self.calls[place].method, self.calls[place].called.client().clone());
        let held = message.and_then(|message| {
            client.ask(R::now())?;
            let bytes = u64::try_from(message.len()).expect("64 bits");
            Ok((client.take(Budget::Bytes, bytes, R::now())?, message))
        });
        let asked = held.and_then(|(held, message)| {
            self.calls[place].bytes = Some(held);
            call::read(&self.server, method, message)
        });
        match asked {
            Ok(Asked::Engine(request)) => {
                let key = u64::try_from(place).expect("64 bits");
                let credential = core::mem::take(&mut self.calls[place].credential);
                let handle = self.server.handle().on_behalf_of(credential);
                if matches!(request, Request::LeaseGrant(_)) {
                    return self.ask_for_lease(place, client, handle, request);
                }
                handle.call(request, self.outbox.clone(), key);
            }
            Ok(Asked::Answer(message)) => {
                let call = self.calls.remove(place);
                self.send_answer(call, message);
            }
            Err(status) => {
                let call = self.calls.remove(place);
                self.end(call, &status);
            }
        }
    }

    /// Asks for a lease, if its client may have one more.
    fn ask_for_lease(&mut self, place: usize, client: Client, handle: Handle, request: Request) {
        let (key, outbox) = (u64::try_from(place).expect("64 bits"), self.outbox.clone());
        if !client.is_to_be_swept()
            && let Ok(grant) = client.grant(R::now())
        {
            self.calls[place].grant = Some(grant);
            return handle.call(request, outbox, key);
        }
        let server = self.server.clone();
        R::spawn(async move {
            let answer = async {
                let grant = call::grant(&server, &client).await?;
                let response = handle.ask(request).await?;
                if let Response::LeaseGrant(answer) = &response {
                    grant.granted(answer.id);
                }
                Ok(response)
            };
            outbox.put(key, answer.await);
        });
    }

    /// Sends an answer and ends the call. One that the client has no room for waits in a task of its own.
    fn send_answer(&self, mut call: Call, message: Bytes) {
        self.server.metrics().sent(call.method, message.len());
        self.server.answered(call.method, call.began, Code::Ok);
        call.called.end(call.method, Code::Ok);
        // A client that went away is not told.
        let Ok(mut stream) = call.respond.send_response(response_head(), false) else { return };
        stream.reserve_capacity(message.len());
        if stream.capacity() >= message.len() {
            self.outflow.handed(message.len());
            if stream.send_data(message, false).is_ok() {
                drop(stream.send_trailers(Status::OK.trailers()));
            }
            return;
        }
        let counted = self.outflow.count(message.len());
        let mut sending = Sending::on(stream, &self.outflow);
        R::spawn(async move {
            if sending.send(message).await.is_ok() {
                sending.finish(&Status::OK).ok();
            }
            drop(counted);
        });
    }

    /// Ends a call without an answer.
    fn end(&self, mut call: Call, status: &Status) {
        self.server.answered(call.method, call.began, status.code);
        call.called.end(call.method, status.code);
        if call.method == Method::MemberPromote {
            self.server.metrics().promote_failed(&status.message);
        }
        refuse(&mut call.respond, status);
    }
}

fn is_grpc(head: &Parts) -> bool {
    let kind = head.headers.get(http::header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    kind.and_then(|kind| kind.strip_prefix(b"application/grpc"))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// How a request is refused that is no call at all, in the words of grpc-go.
fn misdirected(head: &Parts) -> Option<(StatusCode, Status)> {
    if !is_grpc(head) {
        let kind = head.headers.get(http::header::CONTENT_TYPE);
        let kind = kind.map_or("", |kind| kind.to_str().unwrap_or_default());
        let text = format!("invalid gRPC request content-type {kind:?}");
        let status = Status::new(Code::InvalidArgument, text);
        return Some((StatusCode::UNSUPPORTED_MEDIA_TYPE, status));
    }
    (head.method != http::Method::POST).then(|| {
        let method = head.method.as_str();
        let text = format!("Received a HEADERS frame with :method {method:?} which should be POST");
        (StatusCode::METHOD_NOT_ALLOWED, Status::new(Code::Internal, text))
    })
}

/// Pings a client now and then; ends when it does not answer in time.
async fn heartbeat<R: Runtime>(server: Server<R>, pings: Option<PingPong>) {
    let KeepAlive { interval, timeout, .. } = server.limits().keep_alive;
    let (Some(interval), Some(mut pings)) = (interval, pings) else { return pending().await };
    loop {
        R::sleep(interval).await;
        let Some(Ok(_)) = server.within(timeout, pings.ping(Ping::opaque())).await else { return };
    }
}

fn refuse(respond: &mut SendResponse<Bytes>, status: &Status) {
    // A client that went away is not told.
    drop(respond.send_response(status.response(), true));
}

fn key_place(key: u64) -> usize {
    usize::try_from(key).expect("64 bits")
}

/// Serves a call that needs a task.
async fn serve_call<R: Runtime>(
    server: Server<R>,
    method: Method,
    headers: HeaderMap,
    receiving: Receiving,
    responding: Responding,
) {
    let began = R::now();
    let outcome = match timeout::read(&headers) {
        Ok(limit) => {
            let deadline = limit.map(|limit| R::now().saturating_add(saturating_ns(limit)));
            call::serve(&server, method, deadline, receiving, responding).await
        }
        Err(status) => {
            responding.refuse(&status);
            Ok(status.code)
        }
    };
    let code = outcome.unwrap_or(Code::Canceled);
    server.ended(method, began, code);
}

/// A call whose message has not arrived whole.
struct Unfinished {
    place: usize,
    receiving: Receiving,
}

impl Future for Unfinished {
    type Output = (usize, Result<Bytes, Status>);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let place = self.place;
        self.receiving.poll_only(context).map(|message| (place, message))
    }
}

/// The receiving half of a call: its messages, one after the other.
pub(super) struct Receiving {
    body: RecvStream,
    messages: Messages,
    message_bytes_max: usize,
    held: Holding,
}

/// What a call holds of a message that has not arrived whole, as far as that is counted.
struct Holding {
    bytes: usize,
    /// The sum of that over the connection.
    of_connection: Rc<Cell<usize>>,
    /// And over the client's connections.
    of_client: Arriving,
}

impl Holding {
    /// Corrects the sums.
    ///
    /// # Errors
    /// If one of them is too large.
    fn set(&mut self, bytes: usize) -> Result<(), Status> {
        self.of_connection.set(self.of_connection.get() - self.bytes + bytes);
        self.bytes = bytes;
        if bytes > 0 && self.of_connection.get() > UNFINISHED_BYTES_MAX {
            let text = "too many unfinished requests on this connection";
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        self.of_client.set(bytes)
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.of_connection.set(self.of_connection.get() - self.bytes);
    }
}

impl Receiving {
    /// The message of a call that has one.
    fn poll_only(&mut self, context: &mut Context<'_>) -> Poll<Result<Bytes, Status>> {
        let missing = || Status::new(Code::Internal, "grpc: a call without a message");
        self.poll_next(context).map(|outcome| outcome?.ok_or_else(missing))
    }
}

impl Questions for Receiving {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        loop {
            if let Some(message) = self.messages.next(self.message_bytes_max)? {
                self.held.set(0)?;
                return Poll::Ready(Ok(Some(message)));
            }
            match self.body.poll_data(context) {
                Poll::Ready(Some(Ok(data))) => {
                    // What is held is bounded otherwise, and a message may be longer than the window.
                    drop(self.body.flow_control().release_capacity(data.len()));
                    self.messages.push(data);
                }
                Poll::Ready(Some(Err(_))) => {
                    return Poll::Ready(Err(Error::ContextCanceled.into()));
                }
                Poll::Ready(None) if self.messages.is_empty() => return Poll::Ready(Ok(None)),
                Poll::Ready(None) => {
                    return Poll::Ready(Err(Status::new(Code::Internal, "unexpected EOF")));
                }
                Poll::Pending => {
                    self.held.set(self.messages.len())?;
                    return Poll::Pending;
                }
            }
        }
    }
}
