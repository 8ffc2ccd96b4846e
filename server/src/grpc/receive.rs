//! The messages of a call as they arrive, and what they cost until they are whole.

use core::cell::Cell;
use core::task::{Context, Poll};
use std::rc::Rc;

use bytes::Bytes;
use cairn_engine::api::{Code, Error};

use super::call::Questions;
use super::frame::Messages;
use super::line::Inbox;
use super::status::Status;
use crate::budget::Arriving;

/// Bytes of a connection's requests that have not arrived whole.
pub(super) const UNFINISHED_BYTES_MAX: usize = 64 << 20;

/// The receiving half of a call that has a task: its messages, one after the other.
pub(super) struct Receiving {
    pub(super) inbox: Rc<Inbox>,
    pub(super) messages: Messages,
    pub(super) message_bytes_max: usize,
    pub(super) held: Holding,
}

impl Questions for Receiving {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        loop {
            if let Some(message) = self.messages.next(self.message_bytes_max)? {
                self.held.set(0)?;
                return Poll::Ready(Ok(Some(message)));
            }
            match self.inbox.poll_data(context) {
                Poll::Ready(Some(Ok(data))) => self.messages.push(data),
                Poll::Ready(Some(Err(_))) => {
                    return Poll::Ready(Err(Error::ContextCanceled.into()));
                }
                Poll::Ready(None) if self.messages.is_empty() => return Poll::Ready(Ok(None)),
                Poll::Ready(None) => return Poll::Ready(Err(cut_short())),
                Poll::Pending => {
                    self.held.set(self.messages.len())?;
                    return Poll::Pending;
                }
            }
        }
    }
}

/// A call ends within a message.
pub(super) fn cut_short() -> Status {
    Status::new(Code::Internal, "unexpected EOF")
}

/// What a call holds of a message that has not arrived whole, as far as that is counted.
pub(super) struct Holding {
    bytes: usize,
    /// The sum of that over the connection.
    of_connection: Rc<Cell<usize>>,
    /// And over the client's connections.
    of_client: Arriving,
}

impl Holding {
    /// Nothing yet.
    pub(super) const fn new(of_connection: Rc<Cell<usize>>, of_client: Arriving) -> Self {
        Self { bytes: 0, of_connection, of_client }
    }

    /// Corrects the sums.
    ///
    /// # Errors
    /// If one of them is too large.
    pub(super) fn set(&mut self, bytes: usize) -> Result<(), Status> {
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
