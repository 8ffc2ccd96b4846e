//! What a connection holds of answers that its client has not taken, and who waits until it is less.
//!
//! A client that asks and does not read must not make the server hold what it asked for. Its answers wait in one of
//! three places: with the engine's data, unencoded and shared (cheap); encoded, for the client's HTTP/2 windows; or
//! inside of h2, for the socket. The last two are bounded here.
//!
//! Parts of long answers have a bound of their own: a client may be slow on purpose with some of them, while it goes on
//! asking other things.

use core::cell::{Cell, RefCell};
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::rc::Rc;

use cairn_io::runtime::Connection as Io;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of answers that wait for the client's windows, and as many that wait for the socket. The last answer that
/// begins below this may end beyond it.
const BYTES_MAX: usize = 8 << 20;
/// Bytes of parts of long answers that wait for the client's windows. The first parts of ranges are the largest: ten
/// keys.
const PARTS_BYTES_MAX: usize = 16 << 20;
/// What a message costs beside its bytes: frames and headers. Rather too much: the sum is corrected whenever the
/// socket has taken everything.
const OVERHEAD_BYTES: usize = 128;

/// The outgoing side of one connection.
#[derive(Debug, Default)]
pub(super) struct Outflow {
    /// Bytes of encoded answers that wait for the client's windows.
    answers_bytes: Cell<usize>,
    /// Bytes of encoded parts of answers that do so.
    parts_bytes: Cell<usize>,
    /// Bytes that h2 was handed and the socket has not taken.
    handed_bytes: Cell<usize>,
    /// Whether the socket takes no more at the moment.
    is_stuck: Cell<bool>,
    /// Each under its own number, however often it is polled.
    waiting: RefCell<BTreeMap<u64, Waker>>,
    last_waiter: Cell<u64>,
}

/// Someone who has something to send on a connection.
#[derive(Debug)]
pub(super) struct Sender {
    outflow: Rc<Outflow>,
    number: u64,
}

impl Sender {
    /// Ready if another answer may be encoded.
    pub(super) fn poll_room(&self, context: &Context<'_>) -> Poll<()> {
        let few = self.outflow.answers_bytes.get() < BYTES_MAX;
        self.ready_if(context, few && self.outflow.takes_data())
    }

    /// Ready if another part of a long answer may be encoded.
    pub(super) fn poll_room_for_part(&self, context: &Context<'_>) -> Poll<()> {
        let few = self.outflow.parts_bytes.get() < PARTS_BYTES_MAX;
        self.ready_if(context, few && self.outflow.takes_data())
    }

    /// Ready if h2 may be handed more.
    pub(super) fn poll_takes_data(&self, context: &Context<'_>) -> Poll<()> {
        self.ready_if(context, self.outflow.takes_data())
    }

    fn ready_if(&self, context: &Context<'_>, condition: bool) -> Poll<()> {
        if condition {
            return Poll::Ready(());
        }
        self.outflow.waiting.borrow_mut().insert(self.number, context.waker().clone());
        Poll::Pending
    }

    /// Notes what h2 was handed.
    pub(super) fn handed(&self, bytes: usize) {
        self.outflow.handed(bytes);
    }

    /// Counts a part of a long answer for as long as it waits for the client's windows.
    pub(super) fn count_part(&self, bytes: usize) -> Encoded {
        Encoded::new(&self.outflow, |outflow| &outflow.parts_bytes, bytes)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.outflow.waiting.borrow_mut().remove(&self.number);
    }
}

impl Outflow {
    /// Someone else who has something to send.
    pub(super) fn sender(self: &Rc<Self>) -> Sender {
        self.last_waiter.set(self.last_waiter.get() + 1);
        Sender { outflow: self.clone(), number: self.last_waiter.get() }
    }

    fn takes_data(&self) -> bool {
        self.handed_bytes.get() < BYTES_MAX
    }

    /// Notes what h2 was handed.
    pub(super) fn handed(&self, bytes: usize) {
        let sum = self.handed_bytes.get().saturating_add(bytes).saturating_add(OVERHEAD_BYTES);
        self.handed_bytes.set(sum);
    }

    /// Counts an answer for as long as it waits for the client's windows.
    pub(super) fn count(self: &Rc<Self>, bytes: usize) -> Encoded {
        Encoded::new(self, |outflow| &outflow.answers_bytes, bytes)
    }

    /// h2 has written all that it could.
    pub(super) fn settle(&self) {
        if !self.is_stuck.get() {
            self.set_handed(0);
        }
    }

    fn set_handed(&self, bytes: usize) {
        self.handed_bytes.set(bytes);
        if self.takes_data() {
            self.wake();
        }
    }

    fn wake(&self) {
        // Not borrowed any more when somebody wakes, or goes.
        let waiting = core::mem::take(&mut *self.waiting.borrow_mut());
        waiting.into_values().for_each(Waker::wake);
    }
}

/// An answer, or a part of one, that is counted.
#[derive(Debug)]
pub(super) struct Encoded {
    outflow: Rc<Outflow>,
    sum: fn(&Outflow) -> &Cell<usize>,
    bytes: usize,
}

impl Encoded {
    fn new(outflow: &Rc<Outflow>, sum: fn(&Outflow) -> &Cell<usize>, bytes: usize) -> Self {
        let counted = Self { outflow: outflow.clone(), sum, bytes };
        let sum = sum(outflow);
        sum.set(sum.get() + bytes);
        counted
    }
}

impl Drop for Encoded {
    fn drop(&mut self) {
        let sum = (self.sum)(&self.outflow);
        sum.set(sum.get() - self.bytes);
        self.outflow.wake();
    }
}

/// A socket that tells how much it takes.
pub(super) struct Gauged {
    io: Io,
    outflow: Rc<Outflow>,
}

impl Gauged {
    /// Tells `outflow`.
    pub(super) fn new(io: Io, outflow: Rc<Outflow>) -> Self {
        Self { io, outflow }
    }

    fn note(&self, written: &Poll<std::io::Result<usize>>) {
        self.outflow.is_stuck.set(written.is_pending());
        if let Poll::Ready(Ok(bytes)) = written {
            self.outflow.set_handed(self.outflow.handed_bytes.get().saturating_sub(*bytes));
        }
    }
}

impl AsyncRead for Gauged {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl AsyncWrite for Gauged {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.note(&written);
        written
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, parts);
        self.note(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::task::Waker;

    #[test]
    fn room_ends_at_the_bound_and_comes_back() {
        let outflow = Rc::new(Outflow::default());
        let sender = outflow.sender();
        let context = Context::from_waker(Waker::noop());
        let encoded = outflow.count(BYTES_MAX);
        assert!(sender.poll_room(&context).is_pending());
        assert!(sender.poll_takes_data(&context).is_ready(), "what was encoded may be handed over");
        drop(encoded);
        assert!(sender.poll_room(&context).is_ready());
        outflow.is_stuck.set(true);
        outflow.handed(BYTES_MAX);
        assert!(sender.poll_takes_data(&context).is_pending());
        outflow.settle();
        assert!(sender.poll_room(&context).is_pending(), "the socket has taken nothing");
        outflow.is_stuck.set(false);
        outflow.settle();
        assert!(sender.poll_room(&context).is_ready());
    }

    #[test]
    fn parts_and_answers_do_not_wait_for_each_other() {
        let outflow = Rc::new(Outflow::default());
        let sender = outflow.sender();
        let context = Context::from_waker(Waker::noop());
        let answer = outflow.count(BYTES_MAX);
        assert!(sender.poll_room_for_part(&context).is_ready());
        let part = sender.count_part(PARTS_BYTES_MAX);
        assert!(sender.poll_room_for_part(&context).is_pending());
        drop(answer);
        assert!(sender.poll_room(&context).is_ready());
        drop(part);
        assert!(sender.poll_room_for_part(&context).is_ready());
    }

    #[test]
    fn whoever_waits_is_noted_once_and_forgotten_when_gone() {
        let outflow = Rc::new(Outflow::default());
        let sender = outflow.sender();
        let context = Context::from_waker(Waker::noop());
        outflow.handed(BYTES_MAX);
        for _ in 0..3 {
            assert!(sender.poll_room(&context).is_pending());
        }
        assert_eq!(outflow.waiting.borrow().len(), 1);
        drop(sender);
        assert!(outflow.waiting.borrow().is_empty());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_the_socket_takes_is_not_held_any_more() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let outflow = Rc::new(Outflow::default());
        let (near, mut far) = tokio::io::duplex(100);
        let mut socket = Gauged::new(Box::new(near), outflow.clone());
        outflow.handed(1000);
        let before = outflow.handed_bytes.get();
        assert_eq!(socket.write(&[0; 1000]).await.unwrap(), 100);
        assert_eq!(outflow.handed_bytes.get(), before - 100);
        let context = &mut Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut socket).poll_write(context, &[0]).is_pending());
        assert!(outflow.is_stuck.get());
        far.read_exact(&mut [0; 100]).await.unwrap();
        assert_eq!(socket.write(&[0]).await.unwrap(), 1);
        assert!(!outflow.is_stuck.get());
    }
}
