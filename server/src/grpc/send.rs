//! Sending on one stream, no faster than the client reads.

use core::future::poll_fn;
use core::task::{Context, Poll};
use std::rc::Rc;

use bytes::Bytes;
use cairn_engine::api::Code;
use cairn_http2::server::{Connection as Http2, Fields};

use super::call::{Answers, Gone, Respond};
use super::line::Inbox;
use super::outflow::Sender;
use super::status::Status;

/// A call of a connection whose answer is a stream of messages, or takes its time.
pub(super) struct Responding(pub(super) Rc<Inbox>);

impl Respond for Responding {
    type Answers = Sending;

    fn begin(self) -> Result<Sending, Gone> {
        let sending = Sending::new(self.0);
        sending.tell(|http2| http2.begin(sending.inbox.stream));
        Ok(sending)
    }

    fn refuse(self, status: &Status) {
        // A client that went away is not told.
        let Inbox { stream, line, .. } = &*self.0;
        status.as_fields(|fields| line.http2.borrow_mut().refuse_with(*stream, fields));
        line.wake();
    }

    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.0.poll_gone(context)
    }
}

/// The sending half of a call whose answer is a stream of messages.
pub(super) struct Sending {
    inbox: Rc<Inbox>,
    sender: Sender,
}

impl Sending {
    fn new(inbox: Rc<Inbox>) -> Self {
        let sender = inbox.line.outflow.sender();
        Self { inbox, sender }
    }

    /// Begins the answer to a request that is no gRPC.
    pub(super) fn begin(inbox: Rc<Inbox>, status: u16, fields: Fields<'_>) -> Self {
        let sending = Self::new(inbox);
        sending.tell(|http2| http2.begin_status(sending.inbox.stream, status, fields));
        sending
    }

    /// Ends it.
    pub(super) fn end(self) {
        self.tell(|http2| http2.end_data(self.inbox.stream));
    }

    /// Says something, which the connection's task writes.
    fn tell(&self, say: impl FnOnce(&mut Http2)) {
        say(&mut self.inbox.line.http2.borrow_mut());
        self.inbox.line.wake();
    }

    fn poll_sent(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        if self.poll_gone(context).is_ready() {
            return Poll::Ready(Err(Gone));
        }
        let waits = self.inbox.line.http2.borrow_mut().is_waiting(self.inbox.stream);
        if waits { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}

impl Answers for Sending {
    /// Sends data as the client's window allows; when it returns, all of it is on its way to the socket.
    async fn send(&mut self, data: Bytes) -> Result<(), Gone> {
        self.tell(|http2| http2.send(self.inbox.stream, data));
        poll_fn(|context| self.poll_sent(context)).await
    }

    async fn room_for_part(&mut self) -> Result<(), Gone> {
        poll_fn(|context| {
            if self.poll_gone(context).is_ready() {
                return Poll::Ready(Err(Gone));
            }
            self.sender.poll_room_for_part(context).map(Ok)
        })
        .await
    }

    async fn send_part(&mut self, part: Bytes) -> Result<(), Gone> {
        let _counted = self.sender.count_part(part.len());
        self.send(part).await
    }

    fn finish(self, status: &Status) -> Result<Code, Gone> {
        let stream = self.inbox.stream;
        self.tell(|http2| {
            if *status == Status::OK {
                return http2.end(stream);
            }
            status.as_fields(|fields| http2.end_with(stream, fields));
        });
        Ok(status.code)
    }

    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.inbox.poll_gone(context)
    }
}
