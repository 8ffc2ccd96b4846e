//! A call over HTTP with JSON, as the serving side of gRPC sees calls: questions out of the request's body, answers
//! into the response's.
//!
//! A stream's response begins with its first message, so that a call which is refused before that has a status of its
//! own. Then each message is a line, `{"result":…}`, and a refusal the last one.
//!
//! What a client does not read waits in one piece, then whoever makes more waits.

use core::future::{Future, poll_fn};
use core::marker::PhantomData;
use core::pin::{Pin, pin};
use core::task::{Context as TaskContext, Poll};
use core::time::Duration;

use bytes::Bytes;
use cairn_engine::api::{Code, Error};
use cairn_io::runtime::Runtime;
use tokio::sync::mpsc::{self, Receiver};
use tokio::sync::oneshot;

use super::descriptor::Message;
use super::messages::Objects;
use super::{read, refusal, write};
use crate::budget::Arriving;
use crate::context::Context;
use crate::grpc::call::{Answers, Gone, Questions, Respond};
use crate::grpc::frame::Messages;
use crate::grpc::method::Kind;
use crate::grpc::status::Status;
use crate::web::Incoming;

/// How a method's messages look, and how many there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) input: &'static Message,
    pub(super) output: &'static Message,
    pub(super) kind: Kind,
}

/// A moment after which the client does not wait any more.
pub(super) type Alarm = Pin<Box<dyn Future<Output = ()>>>;

/// The alarm of a deadline on the runtime's clock; without one it never rings.
pub(super) fn alarm<R: Runtime>(deadline: Option<u64>) -> Alarm {
    match deadline {
        Some(deadline) => Box::pin(R::sleep_until(deadline)),
        None => Box::pin(core::future::pending()),
    }
}

/// The request's body.
pub(super) struct Asked {
    body: Incoming,
    objects: Objects,
    shape: Shape,
    /// Bytes that a message may have.
    bytes_max: usize,
    alarm: Alarm,
    /// What is here of a message that is not whole; `None`: nobody counts.
    arriving: Option<Arriving>,
    /// Whether there was a message: without one, the only message of a call is empty.
    any: bool,
}

impl Asked {
    /// Nothing has arrived yet.
    pub(super) fn new<R: Runtime>(
        server: &Context<R>,
        body: Incoming,
        shape: Shape,
        alarm: Alarm,
    ) -> Self {
        let bytes_max = server.limits().message_bytes_max;
        // Base64 makes four bytes of three, and names take some.
        let objects = Objects::new(bytes_max.saturating_mul(2));
        let arriving = server.client().map(|client| Arriving::new(client.clone(), R::now));
        Self { body, objects, shape, bytes_max, alarm, arriving, any: false }
    }

    fn count(&mut self) -> Result<(), Status> {
        let bytes = self.objects.held_bytes();
        self.arriving.as_mut().map_or(Ok(()), |arriving| arriving.set(bytes))
    }

    fn read(&mut self, json: &[u8]) -> Result<Bytes, Status> {
        self.any = true;
        let read = read::read(self.shape.input, json);
        let message = read.map_err(|text| Status::new(Code::InvalidArgument, text))?;
        if message.len() > self.bytes_max {
            let (len, max) = (message.len(), self.bytes_max);
            let text = format!("grpc: received message larger than max ({len} vs. {max})");
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        Ok(message.into())
    }
}

impl Questions for Asked {
    fn poll_next(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        loop {
            if let Some(object) = self.objects.cut()? {
                self.count()?;
                return Poll::Ready(self.read(&object).map(Some));
            }
            match self.body.as_mut().poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Some(data) = frame.data_ref() {
                        self.objects.push(data);
                    }
                }
                Poll::Ready(Some(Err(_))) => {
                    return Poll::Ready(Err(Error::ContextCanceled.into()));
                }
                Poll::Ready(None) => {
                    self.objects.end()?;
                    let is_empty = !self.any && self.shape.kind != Kind::BidiStream;
                    return Poll::Ready(if is_empty {
                        self.read(b"{}").map(Some)
                    } else {
                        Ok(None)
                    });
                }
                Poll::Pending => {
                    self.count()?;
                    let late = self.alarm.as_mut().poll(context);
                    return late.map(|()| Err(Error::ContextDeadlineExceeded.into()));
                }
            }
        }
    }
}

/// What a response begins with.
#[derive(Debug)]
pub(super) enum Begun {
    /// The only message.
    Message(Bytes),
    /// Lines follow.
    Lines,
    /// The call is refused.
    Refused(Status),
}

/// A call that was not answered yet.
pub(super) struct Unanswered<R: Runtime> {
    output: &'static Message,
    kind: Kind,
    begun: oneshot::Sender<Begun>,
    lines: mpsc::Sender<Bytes>,
    /// Ready when nobody reads the lines.
    gone: Pin<Box<dyn Future<Output = ()>>>,
    alarm: Alarm,
    runtime: PhantomData<R>,
}

impl<R: Runtime> Unanswered<R> {
    /// Also gives what reads the answer.
    pub(super) fn new(
        shape: Shape,
        alarm: Alarm,
    ) -> (Self, oneshot::Receiver<Begun>, Receiver<Bytes>) {
        let (begun, begins) = oneshot::channel();
        let (lines, pieces) = mpsc::channel(1);
        let reader = lines.clone();
        let gone = Box::pin(async move { reader.closed().await });
        let Shape { output, kind, .. } = shape;
        (Self { output, kind, begun, lines, gone, alarm, runtime: PhantomData }, begins, pieces)
    }
}

impl<R: Runtime> Respond for Unanswered<R> {
    type Answers = Answered<R>;

    fn begin(self) -> Result<Answered<R>, Gone> {
        let Self { output, kind, begun, lines, gone, alarm, .. } = self;
        let begun = Some(begun);
        let runtime = PhantomData;
        Ok(Answered { output, kind, begun, lines, gone, alarm, is_late: false, runtime })
    }

    fn refuse(self, status: &Status) {
        // A client that went away is not told.
        self.begun.send(Begun::Refused(status.clone())).ok();
    }

    fn poll_gone(&mut self, context: &mut TaskContext<'_>) -> Poll<()> {
        self.gone.as_mut().poll(context)
    }
}

/// The answering side.
pub(super) struct Answered<R: Runtime> {
    output: &'static Message,
    kind: Kind,
    /// Until the response has begun.
    begun: Option<oneshot::Sender<Begun>>,
    lines: mpsc::Sender<Bytes>,
    gone: Pin<Box<dyn Future<Output = ()>>>,
    alarm: Alarm,
    /// Whether it rang.
    is_late: bool,
    runtime: PhantomData<R>,
}

impl<R: Runtime> Answers for Answered<R> {
    async fn send(&mut self, framed: Bytes) -> Result<(), Gone> {
        let mut messages = Messages::default();
        messages.push(framed);
        let mut piece = Vec::new();
        while let Ok(Some(message)) = messages.next(usize::MAX) {
            if self.kind == Kind::Unary {
                write::write(self.output, &message, &mut piece);
                let begun = self.begun.take().ok_or(Gone)?;
                return begun.send(Begun::Message(piece.into())).map_err(|_| Gone);
            }
            piece.extend_from_slice(b"{\"result\":");
            write::write(self.output, &message, &mut piece);
            piece.extend_from_slice(b"}\n");
        }
        if let Some(begun) = self.begun.take() {
            begun.send(Begun::Lines).map_err(|_| Gone)?;
        }
        let lines = self.lines.clone();
        let mut sent = pin!(lines.send(piece.into()));
        poll_fn(|context| {
            if let Poll::Ready(sent) = sent.as_mut().poll(context) {
                return Poll::Ready(sent.map_err(|_| Gone));
            }
            self.poll_gone(context).map(|()| Err(Gone))
        })
        .await
    }

    async fn room_for_part(&mut self) -> Result<(), Gone> {
        // A part is made when the one before it was taken: that is room enough.
        if self.lines.is_closed() { Err(Gone) } else { Ok(()) }
    }

    async fn send_part(&mut self, framed: Bytes) -> Result<(), Gone> {
        self.send(framed).await
    }

    fn finish(self, status: &Status) -> Result<Code, Gone> {
        let status = if self.is_late {
            Status::from(Error::ContextDeadlineExceeded)
        } else {
            status.clone()
        };
        let code = status.code;
        match (self.begun, code) {
            (Some(begun), Code::Ok) => begun.send(Begun::Lines).map_err(|_| Gone)?,
            (Some(begun), _) => begun.send(Begun::Refused(status)).map_err(|_| Gone)?,
            (None, Code::Ok) => {}
            (None, _) => {
                let line = Bytes::from(refusal::line(&status));
                // Whoever reads slowly gets it later.
                R::spawn(async move { drop(self.lines.send(line).await) });
            }
        }
        Ok(code)
    }

    fn poll_gone(&mut self, context: &mut TaskContext<'_>) -> Poll<()> {
        if self.gone.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        self.is_late = self.is_late || self.alarm.as_mut().poll(context).is_ready();
        if self.is_late { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// The deadline of a client that waits so long from now on.
pub(super) fn deadline<R: Runtime>(limit: Option<Duration>) -> Option<u64> {
    limit.map(|limit| R::now().saturating_add(cairn_io::clock::saturating_ns(limit)))
}
