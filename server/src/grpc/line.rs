//! What a connection's task and the tasks of its calls share: HTTP/2, and who is to be woken for what.
//!
//! ```text
//!  socket ◄──► connection's task ◄──► Line ◄──► tasks of calls
//!                     └── puts what arrives into an Inbox ──┘
//! ```
//!
//! A call's task sends by telling HTTP/2, and wakes the connection's task, which writes for all. Whatever arrives for
//! it, the connection's task puts into the call's [`Inbox`], and wakes that one task.

use core::cell::{Cell, RefCell};
use core::task::{Context, Poll, Waker};
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use cairn_http2::frame::Reason;
use cairn_http2::server::{Connection as Http2, Key};

use super::call::Gone;
use super::outflow::Outflow;

/// A connection, as its calls see it.
pub(super) struct Line {
    pub(super) http2: RefCell<Http2>,
    pub(super) outflow: Rc<Outflow>,
    /// Bytes of requests that have not arrived whole.
    pub(super) unfinished_bytes: Rc<Cell<usize>>,
    /// The connection's task, if it sleeps.
    task: RefCell<Option<Waker>>,
    /// Calls whose task has ended, by their place.
    ended: RefCell<Vec<usize>>,
}

impl Line {
    pub(super) fn new(http2: Http2) -> Self {
        Self {
            http2: RefCell::new(http2),
            outflow: Rc::default(),
            unfinished_bytes: Rc::default(),
            task: RefCell::default(),
            ended: RefCell::default(),
        }
    }

    /// The connection's task is to be woken when there is something for it.
    pub(super) fn listen(&self, context: &Context<'_>) {
        let mut task = self.task.borrow_mut();
        if task.is_none() {
            *task = Some(context.waker().clone());
        }
    }

    /// There is something to be written, or to be answered.
    pub(super) fn wake(&self) {
        if let Some(task) = self.task.borrow_mut().take() {
            task.wake();
        }
    }

    /// A call whose task has ended.
    pub(super) fn ended(&self) -> Option<usize> {
        self.ended.borrow_mut().pop()
    }
}

/// What arrives for a call that has a task.
#[derive(Default)]
struct Arrived {
    data: BytesMut,
    /// The client sends no more.
    is_end: bool,
    /// The client has taken the call back, or is gone.
    is_gone: bool,
    /// Who waits for data, and who for windows or the end.
    receiver: Option<Waker>,
    sender: Option<Waker>,
}

/// A call that has a task, as both of its halves and the connection's task see it.
pub(super) struct Inbox {
    pub(super) stream: Key,
    pub(super) line: Rc<Line>,
    arrived: RefCell<Arrived>,
}

impl Inbox {
    pub(super) fn new(stream: Key, line: Rc<Line>) -> Self {
        Self { stream, line, arrived: RefCell::default() }
    }

    /// Data arrives. They are bounded by the stream's window, which opens when they are taken.
    pub(super) fn put(&self, data: &[u8], is_end: bool) {
        let mut arrived = self.arrived.borrow_mut();
        arrived.data.extend_from_slice(data);
        arrived.is_end |= is_end;
        if let Some(receiver) = arrived.receiver.take() {
            receiver.wake();
        }
    }

    /// The client is gone, or does not want the call any more.
    pub(super) fn end(&self) {
        let mut arrived = self.arrived.borrow_mut();
        arrived.is_gone = true;
        [arrived.receiver.take(), arrived.sender.take()]
            .into_iter()
            .flatten()
            .for_each(Waker::wake);
    }

    /// What waited for windows is sent.
    pub(super) fn drained(&self) {
        if let Some(sender) = self.arrived.borrow_mut().sender.take() {
            sender.wake();
        }
    }

    /// Takes what has arrived; `None`: no more comes. An error if the client is gone.
    pub(super) fn poll_data(&self, context: &Context<'_>) -> Poll<Option<Result<Bytes, Gone>>> {
        let mut arrived = self.arrived.borrow_mut();
        if !arrived.data.is_empty() {
            let data = core::mem::take(&mut arrived.data).freeze();
            self.line.http2.borrow_mut().took(self.stream, data.len());
            // Windows are opened by whoever writes.
            self.line.wake();
            return Poll::Ready(Some(Ok(data)));
        }
        if arrived.is_end {
            return Poll::Ready(None);
        }
        if arrived.is_gone {
            return Poll::Ready(Some(Err(Gone)));
        }
        arrived.receiver = Some(context.waker().clone());
        Poll::Pending
    }

    /// Ready when the client is gone.
    pub(super) fn poll_gone(&self, context: &Context<'_>) -> Poll<()> {
        let mut arrived = self.arrived.borrow_mut();
        if arrived.is_gone {
            return Poll::Ready(());
        }
        arrived.sender = Some(context.waker().clone());
        Poll::Pending
    }
}

/// Lives as long as the task of a call, and tells its connection when that has ended. A call that was not answered to
/// the end by then is broken off.
pub(super) struct Tasked {
    pub(super) inbox: Rc<Inbox>,
    pub(super) place: usize,
}

impl Drop for Tasked {
    fn drop(&mut self) {
        let Inbox { stream, line, .. } = &*self.inbox;
        let mut http2 = line.http2.borrow_mut();
        if http2.is_open(*stream) {
            http2.reset(*stream, Reason::Cancel);
        }
        line.ended.borrow_mut().push(self.place);
        line.wake();
    }
}
