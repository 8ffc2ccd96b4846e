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

use core::cell::RefCell;
use core::future::poll_fn;
use core::task::{Context, Poll, Waker};
use std::rc::Rc;

use bytes::Bytes;
use cairn_engine::api::{Code, Error, Response};
use cairn_io::driver::Sink;
use cairn_io::runtime::{Connection as Io, Runtime};
use h2::RecvStream;
use h2::server::{Connection as H2, SendResponse};
use http::request::Parts;
use slab::Slab;

use super::frame::{self, Messages};
use super::method::{Kind, Method};
use super::send::{Gone, Sending};
use super::status::{Status, response_head};
use super::unary::{self, Asked};
use super::{keep_alive, parts, watch};
use crate::context::Context as Server;
use crate::version;

/// Bytes that a client may send on one stream before it is read.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// Bytes that a client may send on all streams before they are read: what an attacker can make us hold.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// Bytes of a request's headers.
const HEADER_BYTES_MAX: u32 = 16 << 10;
/// Streams of one connection where the operator sets no limit. etcd sets none; each costs a kilobyte.
const STREAMS_MAX: u32 = 65_536;
/// An answer beyond this waits for the client's window in a task of its own.
const INLINE_BYTES_MAX: usize = 64 << 10;
/// How long a client may take to say that it speaks HTTP/2.
const HANDSHAKE_LIMIT: core::time::Duration = core::time::Duration::from_secs(20);

/// Answers on their way to a connection.
#[derive(Default)]
struct Outbox {
    answers: RefCell<Vec<(u64, Result<Response, Error>)>>,
    connection: RefCell<Option<Waker>>,
}

impl Sink for Outbox {
    fn deliver(&self, key: u64, result: Result<Response, Error>) {
        self.answers.borrow_mut().push((key, result));
        if let Some(connection) = self.connection.borrow_mut().take() {
            connection.wake();
        }
    }
}

/// A unary call between its head and its answer.
struct Call {
    method: Method,
    respond: SendResponse<Bytes>,
    /// While its message has not arrived.
    receiving: Option<Receiving>,
}

struct Connection<R: Runtime> {
    server: Server<R>,
    h2: H2<Io, Bytes>,
    calls: Slab<Call>,
    /// Calls whose message has not arrived.
    reading: Vec<usize>,
    outbox: Rc<Outbox>,
}

/// Serves a connection that speaks HTTP/2 until it ends.
pub async fn serve<R: Runtime>(server: Server<R>, io: Io) {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(server.limits().streams_max.min(STREAMS_MAX))
        .max_header_list_size(HEADER_BYTES_MAX);
    let handshake = builder.handshake::<_, Bytes>(io);
    // A client that is slow to begin, or does not, is let go.
    let Some(Ok(h2)) = server.within(HANDSHAKE_LIMIT, handshake).await else { return };
    let outbox = Rc::new(Outbox::default());
    let mut connection = Connection { server, h2, calls: Slab::new(), reading: Vec::new(), outbox };
    poll_fn(|context| connection.poll(context)).await;
}

impl<R: Runtime> Connection<R> {
    /// Does everything that can be done now; ready when the connection has ended.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let mut progressed = self.answer(context);
            progressed |= self.read_bodies(context);
            if self.server.is_stopping() {
                self.h2.graceful_shutdown();
            }
            // Writes what was sent above, then reads what has arrived.
            match self.h2.poll_accept(context) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.accept(context, request, respond);
                    progressed = true;
                }
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                Poll::Pending if progressed => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Answers the calls whose answers have gathered; whether there were any.
    fn answer(&mut self, context: &mut Context<'_>) -> bool {
        let answers = core::mem::take(&mut *self.outbox.answers.borrow_mut());
        if answers.is_empty() {
            *self.outbox.connection.borrow_mut() = Some(context.waker().clone());
            return false;
        }
        for (key, result) in answers {
            let call = self.calls.remove(key_place(key));
            match result {
                Ok(response) => {
                    let encode = |out: &mut Vec<u8>| response.encode(out);
                    let message = frame::message(response.encoded_len(), encode);
                    self.send_answer(call, message);
                }
                Err(error) => self.end(call, &Status::from(error)),
            }
        }
        true
    }

    fn accept(
        &mut self,
        context: &mut Context<'_>,
        request: http::Request<RecvStream>,
        respond: SendResponse<Bytes>,
    ) {
        let (head, body) = request.into_parts();
        let mut respond = respond;
        let method = match self.admit(&head) {
            Ok(method) => method,
            Err(status) => return refuse(&mut respond, &status),
        };
        self.server.metrics().started(method);
        let receiving = Receiving::new(body, self.server.limits().message_bytes_max);
        if method.row().kind == Kind::Unary {
            let call = Call { method, respond, receiving: Some(receiving) };
            let place = self.calls.insert(call);
            if !self.read_body(context, place) {
                self.reading.push(place);
            }
        } else {
            R::spawn(stream(self.server.clone(), method, receiving, respond));
        }
    }

    /// Whether a request is one that this server takes.
    fn admit(&self, head: &Parts) -> Result<Method, Status> {
        let grpc = head.headers.get(http::header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
        if !grpc.is_some_and(|kind| kind.starts_with(b"application/grpc")) {
            return Err(Status::new(Code::Unknown, "malformed header: missing HTTP content-type"));
        }
        let path = head.uri.path();
        let method = Method::of_path(path).ok_or_else(|| Status::unimplemented(path))?;
        let wants_leader = head.headers.get("hasleader").is_some_and(|value| value == "true");
        if wants_leader && !self.server.handle().leader().is_some() {
            return Err(Error::NoLeader.into());
        }
        Ok(method)
    }

    /// Goes on with the calls whose message has not arrived; whether any has now.
    fn read_bodies(&mut self, context: &mut Context<'_>) -> bool {
        let before = self.reading.len();
        let mut reading = core::mem::take(&mut self.reading);
        reading.retain(|place| !self.read_body(context, *place));
        self.reading = reading;
        self.reading.len() < before
    }

    /// Reads a call's message and asks the engine; false if it has not arrived.
    fn read_body(&mut self, context: &mut Context<'_>, place: usize) -> bool {
        let call = &mut self.calls[place];
        let receiving = call.receiving.as_mut().expect("read once");
        let outcome = match receiving.poll_only(context) {
            Poll::Pending => return false,
            Poll::Ready(outcome) => outcome,
        };
        call.receiving = None;
        let (limits, header) = (self.server.limits().unary(), self.server.handle().header());
        let method = call.method;
        let asked = outcome.and_then(|message| {
            self.server.metrics().received(method);
            unary::read(method, message, limits, header)
        });
        match asked {
            Ok(Asked::Engine(request)) => {
                let key = u64::try_from(place).expect("64 bits");
                self.server.handle().call(request, self.outbox.clone(), key);
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
        true
    }

    /// Sends an answer and ends the call. One that is large waits for the client in a task of its own.
    fn send_answer(&self, mut call: Call, message: Bytes) {
        self.server.metrics().sent(call.method);
        self.server.metrics().handled(call.method, Code::Ok);
        if message.len() > INLINE_BYTES_MAX {
            R::spawn(async move {
                // A client that went away is not told.
                if let Ok(mut sending) = Sending::begin(&mut call.respond)
                    && sending.send(message).await.is_ok()
                {
                    sending.finish(&Status::OK).ok();
                }
            });
            return;
        }
        if let Ok(mut stream) = call.respond.send_response(response_head(), false)
            && stream.send_data(message, false).is_ok()
        {
            drop(stream.send_trailers(Status::OK.trailers()));
        }
    }

    /// Ends a call without an answer.
    fn end(&self, mut call: Call, status: &Status) {
        self.server.metrics().handled(call.method, status.code);
        refuse(&mut call.respond, status);
    }
}

fn refuse(respond: &mut SendResponse<Bytes>, status: &Status) {
    // A client that went away is not told.
    drop(respond.send_response(status.response(), true));
}

fn key_place(key: u64) -> usize {
    usize::try_from(key).expect("64 bits")
}

/// Serves a call that is a stream, as a task.
async fn stream<R: Runtime>(
    server: Server<R>,
    method: Method,
    receiving: Receiving,
    mut respond: SendResponse<Bytes>,
) {
    let outcome = serve_stream(&server, method, receiving, &mut respond).await;
    let code = outcome.unwrap_or(Code::Canceled);
    server.metrics().handled(method, code);
}

async fn serve_stream<R: Runtime>(
    server: &Server<R>,
    method: Method,
    mut receiving: Receiving,
    respond: &mut SendResponse<Bytes>,
) -> Result<Code, Gone> {
    let handle = server.handle();
    let request = if method == Method::Watch {
        return watch::serve(Sending::begin(respond)?, receiving, handle).await;
    } else if method == Method::LeaseKeepAlive {
        return keep_alive::serve(Sending::begin(respond)?, receiving, handle).await;
    } else if method == Method::RangeStream {
        receiving.only().await.and_then(unary::read_range_stream)
    } else if method == Method::Snapshot {
        receiving.only().await.and_then(unary::read_snapshot)
    } else {
        Err(Status::unserved(method))
    };
    let answer = match request {
        Ok(request) => handle.ask(request).await.map_err(Status::from),
        Err(status) => Err(status),
    };
    match answer {
        Ok(Response::RangeStream(answer)) => parts::range(Sending::begin(respond)?, *answer).await,
        Ok(Response::Snapshot(answer)) => {
            parts::snapshot(Sending::begin(respond)?, *answer, version::ETCD_VERSION).await
        }
        Ok(_) => unreachable!("each question has its kind of answer"),
        Err(status) => {
            refuse(respond, &status);
            Ok(status.code)
        }
    }
}

/// The receiving half of a call: its messages, and no more of them at a time than the windows allow.
pub(super) struct Receiving {
    body: RecvStream,
    messages: Messages,
    bytes_max: usize,
}

impl Receiving {
    fn new(body: RecvStream, bytes_max: usize) -> Self {
        Self { body, messages: Messages::default(), bytes_max }
    }

    /// Waits for the next message; `None`: the client sends no more. Cancelling loses nothing.
    ///
    /// # Errors
    /// If the message is refused, or the call is broken off.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// Waits for the only message of the call.
    async fn only(&mut self) -> Result<Bytes, Status> {
        poll_fn(|context| self.poll_only(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        loop {
            if let Some(message) = self.messages.next(self.bytes_max)? {
                return Poll::Ready(Ok(Some(message)));
            }
            match self.body.poll_data(context) {
                Poll::Ready(Some(Ok(data))) => {
                    // What is held is bounded by the length of one message, so the window may open again.
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
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// The message of a call that has one.
    fn poll_only(&mut self, context: &mut Context<'_>) -> Poll<Result<Bytes, Status>> {
        let missing = || Status::new(Code::Internal, "grpc: a call without a message");
        self.poll_next(context).map(|outcome| outcome?.ok_or_else(missing))
    }
}
