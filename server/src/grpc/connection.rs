//! One client's HTTP/2 connection, as one task.
//!
//! ```text
//!  socket ──► HTTP/2 ──► all that has arrived ──► engine
//!    ▲                                              │
//!    └── one write ◄── all answers that have gathered
//! ```
//!
//! A unary call is an entry in a list, not a task: its body is usually there with its head, and its answer comes
//! through the connection's [`Outbox`]. Streams get a task each, see [`line`](super::line).
//!
//! # What a client can make us hold
//!
//! - Of requests that have not arrived whole: [`UNFINISHED_BYTES_MAX`](super::receive::UNFINISHED_BYTES_MAX), then calls
//!   are refused. Over all of its connections, what its [budgets](crate::budget) say.
//! - Of answers that it does not read: what [`outflow`](super::outflow) bounds; further answers wait unencoded, and
//!   when they are [`ANSWERS_MAX`], no more is asked until it reads.
//! - Of heads, streams and windows: what HTTP/2 is told in [`serve`].

use core::cell::RefCell;
use core::future::{Future, pending, poll_fn};
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::rc::Rc;

use bytes::Bytes;
use cairn_engine::api::{Code, Error, Request, Response};
use cairn_engine::auth::Credential;
use cairn_http2::frame::Reason;
use cairn_http2::server::{
    Connection as Http2, Event, Head, Key, OUT_BYTES_MAX, REST_BYTES_MAX, Settings,
};
use cairn_io::clock::saturating_ns;
use cairn_io::driver::{Handle, Sink};
use cairn_io::runtime::{Connection as Io, Runtime};
use slab::Slab;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use super::call::{self, Admitted, Called, Respond as _};
use super::frame::{self, Messages};
use super::line::{Inbox, Line, Tasked};
use super::method::Method;
use super::pings::Strikes;
use super::receive::{self, Holding, Receiving};
use super::send::Responding;
use super::status::Status;
use super::unary::Asked;
use super::{plain, timeout};
use crate::budget::{Arriving, Budget, Client, Grant, Held};
use crate::config::KeepAlive;
use crate::context::Context as Server;
use crate::web::Door;

/// Bytes that a client may send on one stream before it is read.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// Bytes that a client may send on all streams before they are read: what an attacker can make us hold.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// Bytes of a request's head.
const HEAD_BYTES_MAX: u32 = 16 << 10;
/// Streams of one connection where the operator sets no limit. etcd sets none; each costs some hundred bytes.
const STREAMS_MAX: u32 = 65_536;
/// How long a client may take to say that it speaks HTTP/2.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(20);
/// How long a client that is sent away may go on talking, so that it hears why.
const PARTING_LIMIT: Duration = Duration::from_secs(1);
/// Answers that wait until the client reads others.
const ANSWERS_MAX: usize = 1024;
/// Bytes that are read before others have their turn.
const TURN_BYTES: usize = 256 << 10;
/// Bytes that are read at once.
const READ_BYTES: usize = 64 << 10;

/// What connections of a core need while they read, one after the other.
#[derive(Debug)]
pub(crate) struct Scratch {
    bytes: Box<[u8]>,
    head: Head,
}

impl Default for Scratch {
    fn default() -> Self {
        let bytes = vec![0; REST_BYTES_MAX + READ_BYTES].into_boxed_slice();
        Self { bytes, head: Head::default() }
    }
}

/// Answers on their way to a connection.
struct Outbox {
    answers: RefCell<VecDeque<(u64, Result<Response, Status>)>>,
    line: Rc<Line>,
}

impl Sink for Outbox {
    fn deliver(&self, key: u64, result: Result<Response, Error>) {
        self.put(key, result.map_err(Status::from));
    }
}

impl Outbox {
    fn put(&self, key: u64, result: Result<Response, Status>) {
        self.answers.borrow_mut().push_back((key, result));
        self.line.wake();
    }
}

/// A call, by its place in the connection's list.
#[expect(clippy::large_enum_variant, reason = "nearly all are unary")]
enum Call {
    Unary(Unary),
    /// It was answered, and the answer waits for windows.
    Answered {
        stream: Key,
        bytes: usize,
    },
    /// It has a task.
    Tasked(Rc<Inbox>),
}

/// A unary call between its head and its answer.
struct Unary {
    stream: Key,
    method: Method,
    credential: Credential,
    began: u64,
    called: Called,
    /// Its message, if that does not come in one piece; what that costs.
    messages: Messages,
    unfinished: Option<Box<Holding>>,
    /// Bytes that have come and that the client may not send again yet.
    untaken_bytes: usize,
    /// Whether all of it has come, and whether the engine was asked.
    is_end: bool,
    is_asked: bool,
    /// Its message, until it is answered.
    bytes: Option<Held>,
    /// The lease that it asks for.
    grant: Option<Grant>,
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The client is gone.
    Gone,
    /// We want no more of it.
    Parting,
}

struct Connection<R: Runtime> {
    server: Server<R>,
    door: Door,
    io: Io,
    line: Rc<Line>,
    /// The beginning of a frame.
    rest: Vec<u8>,
    /// Whether the socket may have taken what was written, and not sent it.
    is_to_be_flushed: bool,
    calls: Slab<Call>,
    /// Calls that are not asked until there are fewer answers.
    postponed: VecDeque<usize>,
    outbox: Rc<Outbox>,
    strikes: Strikes,
    /// When the client was heard last.
    heard_ns: Rc<core::cell::Cell<u64>>,
    /// Ready when the client has been silent for too long.
    silence: Pin<Box<dyn Future<Output = ()>>>,
    has_begun: bool,
    /// Ready when the server stops; nothing when that has been told.
    stopping: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

/// Serves a connection that speaks HTTP/2 until it ends.
pub async fn serve<R: Runtime>(server: Server<R>, io: Io, door: Door) {
    let line = Rc::new(Line::new(Http2::new(Settings {
        stream_window_bytes: STREAM_WINDOW_BYTES,
        connection_window_bytes: CONNECTION_WINDOW_BYTES,
        streams_max: server.limits().streams_max.min(STREAMS_MAX),
        head_bytes_max: HEAD_BYTES_MAX,
    })));
    let mut connection = Connection {
        stopping: Some(Box::pin(server.stopped())),
        strikes: Strikes::new(server.limits().keep_alive.min_time),
        server,
        door,
        io,
        outbox: Rc::new(Outbox { answers: RefCell::default(), line: line.clone() }),
        line,
        rest: Vec::new(),
        is_to_be_flushed: false,
        calls: Slab::new(),
        postponed: VecDeque::new(),
        heard_ns: Rc::default(),
        // A client that is slow to begin, or does not, is let go.
        silence: Box::pin(R::sleep(HANDSHAKE_LIMIT)),
        has_begun: false,
    };
    if poll_fn(|context| connection.poll(context)).await == End::Parting {
        connection.part().await;
    }
}

impl<R: Runtime> Connection<R> {
    /// Does everything that can be done now; ready when the connection has ended.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<End> {
        self.line.listen(context);
        if self.silence.as_mut().poll(context).is_ready() {
            return Poll::Ready(End::Gone);
        }
        if let Some(stopping) = &mut self.stopping
            && stopping.as_mut().poll(context).is_ready()
        {
            self.stopping = None;
            self.line.http2.borrow_mut().leave();
        }
        while let Some(place) = self.line.ended() {
            self.calls.remove(place);
        }
        let mut scratch = self.server.scratch().take().unwrap_or_default();
        let read = self.read(context, &mut scratch);
        self.server.scratch().set(Some(scratch));
        let end = match read {
            Ok(()) => None,
            Err(End::Gone) => return Poll::Ready(End::Gone),
            Err(End::Parting) => Some(End::Parting),
        };
        loop {
            let answered = self.answer();
            match self.write(context) {
                // What was written may have made room for more.
                Ok(has_room) if answered || has_room => {}
                Ok(_) => break,
                Err(end) => return Poll::Ready(end),
            }
        }
        if end.is_some() || self.line.http2.borrow_mut().has_left() {
            return Poll::Ready(End::Parting);
        }
        Poll::Pending
    }

    /// Reads and does what has arrived.
    fn read(&mut self, context: &mut Context<'_>, scratch: &mut Scratch) -> Result<(), End> {
        let Scratch { bytes, head } = scratch;
        let mut read_bytes = 0;
        while self.line.http2.borrow().may_read() {
            if read_bytes >= TURN_BYTES {
                context.waker().wake_by_ref();
                return Ok(());
            }
            let kept = self.rest.len();
            let mut buffer = ReadBuf::new(&mut bytes[kept..]);
            match Pin::new(&mut self.io).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(_) => return Err(End::Gone),
                Poll::Pending => return Ok(()),
            }
            let read = buffer.filled().len();
            read_bytes += read;
            bytes[..kept].copy_from_slice(&self.rest);
            let now = R::now();
            self.heard_ns.set(now);
            self.line.http2.borrow_mut().time_is(now);
            let mut input = &bytes[..kept + read];
            while let Some(event) = self.next(&mut input, head)? {
                self.take(event, head)?;
            }
            // Most of the time, nothing is left.
            if kept > 0 || !input.is_empty() {
                self.rest = input.to_vec();
            }
            if !self.has_begun && self.line.http2.borrow().has_begun() {
                self.has_begun = true;
                let silence =
                    silence(self.server.clone(), self.line.clone(), self.heard_ns.clone());
                self.silence = Box::pin(silence);
            }
        }
        Ok(())
    }

    fn next<'a>(&self, input: &mut &'a [u8], head: &mut Head) -> Result<Option<Event<'a>>, End> {
        self.line.http2.borrow_mut().next(input, head).map_err(|failure| {
            tracing::debug!(reason = ?failure.reason, why = failure.why, "HTTP/2 connection broken");
            End::Parting
        })
    }

    fn take(&mut self, event: Event<'_>, head: &Head) -> Result<(), End> {
        match event {
            Event::Request { stream, is_end } => self.begin(stream, head, is_end),
            Event::Data { stream, token, data, is_end } => {
                if self.is_place_of(token, stream) {
                    self.data(token, data, is_end);
                }
            }
            Event::Reset { stream, token } => {
                if self.is_place_of(token, stream) {
                    self.taken_back(token);
                }
            }
            Event::Ping => {
                let mut http2 = self.line.http2.borrow_mut();
                let (has_sent, has_streams) = (http2.has_sent(), http2.streams() > 0);
                if self.strikes.ping(R::now(), has_sent, has_streams) {
                    http2.fail(Reason::EnhanceYourCalm, "too_many_pings");
                    return Err(End::Parting);
                }
            }
            Event::Pong => {}
        }
        Ok(())
    }

    /// Whether a call of this stream is at this place.
    fn is_place_of(&self, place: usize, stream: Key) -> bool {
        self.calls.get(place).is_some_and(|call| match call {
            Call::Unary(unary) => unary.stream == stream,
            Call::Answered { stream: other, .. } => *other == stream,
            Call::Tasked(inbox) => inbox.stream == stream,
        })
    }

    /// A request begins.
    fn begin(&mut self, stream: Key, head: &Head, is_end: bool) {
        if self.door.is_secure && !is_grpc(head) {
            return self.begin_plain(stream, head, is_end);
        }
        if let Some((code, status)) = misdirected(head) {
            return status.as_fields(|fields| {
                let kind: [(&[u8], &[u8]); 1] = [(b"content-type", b"application/grpc")];
                let fields = [&kind, fields].concat();
                self.line.http2.borrow_mut().refuse_status(stream, code, &fields);
            });
        }
        let (method, admitted) = match self.admit(head) {
            Ok(admitted) => admitted,
            Err(status) => return self.refuse(stream, &status),
        };
        self.server.metrics().started(method);
        if call::needs_task(method) {
            let limit = timeout::read(head);
            let client = admitted.called.client().clone();
            let tasked = self.tasked(stream, is_end);
            let receiving = Receiving {
                inbox: tasked.inbox.clone(),
                messages: Messages::default(),
                message_bytes_max: self.server.limits().message_bytes_max,
                held: self.holding(client),
            };
            let server = self.server.for_call(admitted);
            return R::spawn(serve_call(server, method, limit, receiving, tasked));
        }
        let Admitted { credential, called, .. } = admitted;
        let place = self.calls.insert(Call::Unary(Unary {
            stream,
            method,
            credential,
            began: R::now(),
            called,
            messages: Messages::default(),
            unfinished: None,
            untaken_bytes: 0,
            is_end,
            is_asked: false,
            bytes: None,
            grant: None,
        }));
        self.line.http2.borrow_mut().name(stream, place);
        if is_end {
            self.data(place, &[], true);
        }
    }

    /// A request that is no gRPC.
    fn begin_plain(&mut self, stream: Key, head: &Head, is_end: bool) {
        let Some(head) = plain::parts(head) else {
            return self.line.http2.borrow_mut().refuse_status(stream, 400, &[]);
        };
        let tasked = self.tasked(stream, is_end);
        R::spawn(plain::serve(self.server.clone(), self.door.clone(), head, tasked));
    }

    /// What a call needs that has a task.
    fn tasked(&mut self, stream: Key, is_end: bool) -> Tasked {
        let inbox = Rc::new(Inbox::new(stream, self.line.clone()));
        inbox.put(&[], is_end);
        let place = self.calls.insert(Call::Tasked(inbox.clone()));
        self.line.http2.borrow_mut().name(stream, place);
        Tasked { inbox, place }
    }

    fn holding(&self, client: Client) -> Holding {
        Holding::new(self.line.unfinished_bytes.clone(), Arriving::new(client, R::now))
    }

    /// Whether a request is one that this server takes.
    fn admit(&self, head: &Head) -> Result<(Method, Admitted), Status> {
        let path = core::str::from_utf8(head.path()).unwrap_or_default();
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        let method = Method::of_path(path).ok_or_else(|| Status::unimplemented(path))?;
        let Door { visitor, common_name, .. } = &self.door;
        let who = (visitor, common_name.as_ref());
        Ok((method, call::admit(&self.server, method, head, who)?))
    }

    /// A part of a body has arrived.
    fn data(&mut self, place: usize, data: &[u8], is_end: bool) {
        // Whoever came first is asked first, too.
        let is_crowded =
            !self.postponed.is_empty() || self.outbox.answers.borrow().len() >= ANSWERS_MAX;
        let message_bytes_max = self.server.limits().message_bytes_max;
        let unary = match &mut self.calls[place] {
            Call::Tasked(inbox) => return inbox.put(data, is_end),
            // What follows the message is nobody's.
            Call::Unary(Unary { stream, is_asked: true, .. }) | Call::Answered { stream, .. } => {
                return self.line.http2.borrow_mut().took(*stream, data.len());
            }
            Call::Unary(unary) => unary,
        };
        unary.is_end |= is_end;
        if is_crowded {
            // Not taken, so that windows bound it.
            unary.messages.push(Bytes::copy_from_slice(data));
            unary.untaken_bytes += data.len();
            if !self.postponed.contains(&place) {
                self.postponed.push_back(place);
            }
            return;
        }
        self.line.http2.borrow_mut().took(unary.stream, data.len());
        if let Some(message) = unary.messages.only(data, message_bytes_max) {
            return self.ask(place, Ok(message));
        }
        unary.messages.push(Bytes::copy_from_slice(data));
        self.proceed(place);
    }

    /// Asks what a unary call says, if that is there.
    fn proceed(&mut self, place: usize) {
        let message_bytes_max = self.server.limits().message_bytes_max;
        let Call::Unary(unary) = &mut self.calls[place] else { return };
        let message = match unary.messages.next(message_bytes_max) {
            Ok(Some(message)) => Ok(message),
            Err(status) => Err(status),
            Ok(None) if unary.is_end && unary.messages.is_empty() => Err(call::missing()),
            Ok(None) if unary.is_end => Err(receive::cut_short()),
            Ok(None) => {
                let bytes = unary.messages.len();
                if unary.unfinished.is_none() {
                    let client = unary.called.client().clone();
                    let holding = self.holding(client);
                    self.unary(place).unfinished = Some(Box::new(holding));
                }
                let held = self.unary(place).unfinished.as_mut().map(|held| held.set(bytes));
                match held {
                    Some(Err(status)) => Err(status),
                    Some(Ok(())) | None => return,
                }
            }
        };
        self.ask(place, message);
    }

    /// Asks those that were not asked because there were too many answers.
    fn ask_postponed(&mut self) {
        while self.outbox.answers.borrow().len() < ANSWERS_MAX
            && let Some(place) = self.postponed.pop_front()
        {
            let unary = self.unary(place);
            let (stream, bytes) = (unary.stream, core::mem::take(&mut unary.untaken_bytes));
            self.line.http2.borrow_mut().took(stream, bytes);
            self.proceed(place);
        }
    }

    fn unary(&mut self, place: usize) -> &mut Unary {
        match &mut self.calls[place] {
            Call::Unary(unary) => unary,
            Call::Answered { .. } | Call::Tasked(_) => unreachable!("the call is unary"),
        }
    }

    /// Ends the list's entry of a unary call.
    fn remove(&mut self, place: usize) -> Unary {
        match self.calls.remove(place) {
            Call::Unary(unary) => unary,
            Call::Answered { .. } | Call::Tasked(_) => unreachable!("the call is unary"),
        }
    }

    /// The client has taken a call back.
    fn taken_back(&mut self, place: usize) {
        match &self.calls[place] {
            Call::Tasked(inbox) => inbox.end(),
            Call::Answered { bytes, .. } => {
                self.line.outflow.left(*bytes);
                self.calls.remove(place);
            }
            // Its answer will be let fall.
            Call::Unary(Unary { is_asked: true, .. }) => {}
            Call::Unary(_) => {
                self.postponed.retain(|other| *other != place);
                let unary = self.remove(place);
                self.end(unary, &Error::ContextCanceled.into());
            }
        }
    }

    /// Answers the calls whose answers have gathered, while there is room; whether there were any.
    fn answer(&mut self) -> bool {
        let mut progressed = false;
        while self.line.outflow.has_room() {
            let Some((key, result)) = self.outbox.answers.borrow_mut().pop_front() else { break };
            progressed = true;
            let place = key_place(key);
            self.unary(place).bytes = None;
            match result {
                Ok(response) => {
                    if let (Some(grant), Response::LeaseGrant(answer)) =
                        (self.unary(place).grant.take(), &response)
                    {
                        grant.granted(answer.id);
                    }
                    let encode = |out: &mut Vec<u8>| response.encode(out);
                    let message = frame::message(response.encoded_len(), encode);
                    self.send_answer(place, message);
                }
                Err(status) => {
                    let unary = self.remove(place);
                    self.end(unary, &status);
                }
            }
        }
        self.ask_postponed();
        progressed
    }

    /// Asks the engine what a call's message says.
    fn ask(&mut self, place: usize, message: Result<Bytes, Status>) {
        let unary = self.unary(place);
        unary.is_asked = true;
        unary.unfinished = None;
        let (method, client) = (unary.method, unary.called.client().clone());
        let held = message.and_then(|message| {
            client.ask(R::now())?;
            let bytes = u64::try_from(message.len()).expect("64 bits");
            Ok((client.take(Budget::Bytes, bytes, R::now())?, message))
        });
        let asked = held.and_then(|(held, message)| {
            self.unary(place).bytes = Some(held);
            call::read(&self.server, method, message)
        });
        match asked {
            Ok(Asked::Engine(request)) => {
                let key = u64::try_from(place).expect("64 bits");
                let credential = core::mem::take(&mut self.unary(place).credential);
                let handle = self.server.handle().on_behalf_of(credential);
                if matches!(request, Request::LeaseGrant(_)) {
                    return self.ask_for_lease(place, client, handle, request);
                }
                handle.call(request, self.outbox.clone(), key);
            }
            Ok(Asked::Answer(message)) => self.send_answer(place, message),
            Err(status) => {
                let unary = self.remove(place);
                self.end(unary, &status);
            }
        }
    }

    /// Asks for a lease, if its client may have one more.
    fn ask_for_lease(&mut self, place: usize, client: Client, handle: Handle, request: Request) {
        let (key, outbox) = (u64::try_from(place).expect("64 bits"), self.outbox.clone());
        if !client.is_to_be_swept()
            && let Ok(grant) = client.grant(R::now())
        {
            self.unary(place).grant = Some(grant);
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

    /// Sends an answer and ends the call. One that the client has no room for waits.
    fn send_answer(&mut self, place: usize, message: Bytes) {
        let bytes = message.len();
        let Unary { stream, method, began, called, .. } = self.unary(place);
        let (stream, method, began) = (*stream, *method, *began);
        called.end(method, Code::Ok);
        self.server.metrics().sent(method, bytes);
        self.server.answered(method, began, Code::Ok);
        // A client that went away is not told.
        let mut http2 = self.line.http2.borrow_mut();
        http2.begin(stream);
        http2.send(stream, message);
        http2.end(stream);
        if http2.is_waiting(stream) {
            self.line.outflow.waits(bytes);
            self.calls[place] = Call::Answered { stream, bytes };
        } else {
            self.calls.remove(place);
        }
    }

    /// Ends a call without an answer.
    fn end(&self, unary: Unary, status: &Status) {
        self.server.answered(unary.method, unary.began, status.code);
        unary.called.end(unary.method, status.code);
        if unary.method == Method::MemberPromote {
            self.server.metrics().promote_failed(&status.message);
        }
        self.refuse(unary.stream, status);
    }

    fn refuse(&self, stream: Key, status: &Status) {
        // A client that went away is not told.
        status.as_fields(|fields| self.line.http2.borrow_mut().refuse_with(stream, fields));
    }

    /// Writes as much as the socket takes; whether an answer that waited has left.
    fn write(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        let mut http2 = self.line.http2.borrow_mut();
        while !http2.out().is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = http2.out().slices(&mut slices);
            let io = Pin::new(&mut self.io);
            let written = match &slices[..count] {
                [only] => io.poll_write(context, only),
                slices => io.poll_write_vectored(context, slices),
            };
            match written {
                Poll::Ready(Ok(bytes)) if bytes > 0 => http2.wrote(bytes),
                Poll::Ready(_) => return Err(End::Gone),
                Poll::Pending => break,
            }
            self.is_to_be_flushed = true;
        }
        if self.is_to_be_flushed {
            match Pin::new(&mut self.io).poll_flush(context) {
                Poll::Ready(Ok(())) => self.is_to_be_flushed = false,
                Poll::Ready(Err(_)) => return Err(End::Gone),
                Poll::Pending => {}
            }
        }
        self.line.outflow.set_full(http2.out().len() >= OUT_BYTES_MAX);
        let mut has_left = false;
        while let Some((stream, place)) = http2.drained() {
            match self.calls.get(place) {
                Some(Call::Tasked(inbox)) if inbox.stream == stream => inbox.drained(),
                Some(Call::Answered { stream: other, bytes }) if *other == stream => {
                    self.line.outflow.left(*bytes);
                    self.calls.remove(place);
                    has_left = true;
                }
                Some(Call::Unary(_) | Call::Tasked(_) | Call::Answered { .. }) | None => {}
            }
        }
        Ok(has_left)
    }

    /// Ends a connection so that the client can hear why: whatever it still says is read and let fall, or the kernel
    /// would reset it, and throw away what was said to it.
    async fn part(&mut self) {
        let server = self.server.clone();
        let mut reads = 0;
        let parting = poll_fn(|context| {
            if self.write(context).is_err() || !self.line.http2.borrow_mut().out().is_empty() {
                return Poll::Ready(());
            }
            if Pin::new(&mut self.io).poll_shutdown(context).is_pending() {
                return Poll::Pending;
            }
            let mut bytes = [0; 4096];
            while reads < PARTING_READS {
                reads += 1;
                let mut buffer = ReadBuf::new(&mut bytes);
                match Pin::new(&mut self.io).poll_read(context, &mut buffer) {
                    Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(())
        });
        server.within(PARTING_LIMIT, parting).await;
    }
}

impl<R: Runtime> Drop for Connection<R> {
    fn drop(&mut self) {
        // Whoever works for this client need not go on.
        for (_, call) in &self.calls {
            if let Call::Tasked(inbox) = call {
                inbox.end();
            }
        }
    }
}

/// Slices that are written at once.
const SLICES: usize = 32;
/// Reads of 4 KiB from a client that is sent away.
const PARTING_READS: usize = 256;

fn is_grpc(head: &Head) -> bool {
    let kind = head.get(b"content-type");
    kind.and_then(|kind| kind.strip_prefix(b"application/grpc"))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// How a request is refused that is no call at all, in the words of grpc-go.
fn misdirected(head: &Head) -> Option<(u16, Status)> {
    if !is_grpc(head) {
        let kind = head.get(b"content-type").unwrap_or_default();
        let kind = core::str::from_utf8(kind).unwrap_or_default();
        let text = format!("invalid gRPC request content-type {kind:?}");
        return Some((415, Status::new(Code::InvalidArgument, text)));
    }
    (head.method() != b"POST").then(|| {
        let method = String::from_utf8_lossy(head.method());
        let text = format!("Received a HEADERS frame with :method {method:?} which should be POST");
        (405, Status::new(Code::Internal, text))
    })
}

/// Pings a client that is not heard; ends when it does not answer in time.
async fn silence<R: Runtime>(
    server: Server<R>,
    line: Rc<Line>,
    heard_ns: Rc<core::cell::Cell<u64>>,
) {
    let KeepAlive { interval, timeout, .. } = server.limits().keep_alive;
    let Some(interval) = interval else { return pending().await };
    loop {
        let due = heard_ns.get().saturating_add(saturating_ns(interval));
        if R::now() < due {
            R::sleep_until(due).await;
            continue;
        }
        let asked = R::now();
        line.http2.borrow_mut().ping();
        line.wake();
        R::sleep(timeout).await;
        if heard_ns.get() < asked {
            return;
        }
    }
}

fn key_place(key: u64) -> usize {
    usize::try_from(key).expect("64 bits")
}

/// Serves a call that needs a task.
async fn serve_call<R: Runtime>(
    server: Server<R>,
    method: Method,
    limit: Result<Option<Duration>, Status>,
    receiving: Receiving,
    tasked: Tasked,
) {
    let began = R::now();
    let responding = Responding(tasked.inbox.clone());
    let outcome = match limit {
        Ok(limit) => {
            let deadline = limit.map(|limit| began.saturating_add(saturating_ns(limit)));
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
