//! What a connection holds of answers that its client has not taken, and who waits until it is less.
//!
//! A client that asks and does not read must not make the server hold what it asked for. Its answers wait in one of
//! three places: with the engine's data, unencoded and shared (cheap); encoded, for the client's HTTP/2 windows; or
//! as frames, for the socket. Frames are bounded by [`OUT_BYTES_MAX`](cairn_http2::server::OUT_BYTES_MAX), the rest
//! here.
//!
//! Parts of long answers have a bound of their own: a client may be slow on purpose with some of them, while it goes on
//! asking other things.

use core::cell::{Cell, RefCell};
use core::task::{Context, Poll, Waker};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Bytes of answers that wait for the client's windows. The last answer that begins below this may end beyond it.
const BYTES_MAX: usize = 8 << 20;
/// Bytes of parts of long answers that wait for the client's windows. The first parts of ranges are the largest: ten
/// keys.
const PARTS_BYTES_MAX: usize = 16 << 20;

/// The outgoing side of one connection.
#[derive(Debug, Default)]
pub(super) struct Outflow {
    /// Bytes of encoded answers that wait.
    answers_bytes: Cell<usize>,
    /// Bytes of encoded parts of answers that do so.
    parts_bytes: Cell<usize>,
    /// Whether there are as many frames for the socket as there may be.
    is_full: Cell<bool>,
    /// Each under its own number, however often it is polled.
    waiting: RefCell<BTreeMap<u64, Waker>>,
    last_waiter: Cell<u64>,
}

/// Someone who has parts of an answer to send.
#[derive(Debug)]
pub(super) struct Sender {
    outflow: Rc<Outflow>,
    number: u64,
}

impl Sender {
    /// Ready if another part of a long answer may be encoded.
    pub(super) fn poll_room_for_part(&self, context: &Context<'_>) -> Poll<()> {
        let outflow = &self.outflow;
        if outflow.parts_bytes.get() < PARTS_BYTES_MAX && !outflow.is_full.get() {
            return Poll::Ready(());
        }
        outflow.waiting.borrow_mut().insert(self.number, context.waker().clone());
        Poll::Pending
    }

    /// Counts a part of a long answer for as long as it waits.
    pub(super) fn count_part(&self, bytes: usize) -> Part {
        let sum = &self.outflow.parts_bytes;
        sum.set(sum.get() + bytes);
        Part { outflow: self.outflow.clone(), bytes }
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

    /// Whether another answer may be encoded.
    pub(super) fn has_room(&self) -> bool {
        self.answers_bytes.get() < BYTES_MAX
    }

    /// An answer begins to wait.
    pub(super) fn waits(&self, bytes: usize) {
        self.answers_bytes.set(self.answers_bytes.get() + bytes);
    }

    /// It does not any more.
    pub(super) fn left(&self, bytes: usize) {
        self.answers_bytes.set(self.answers_bytes.get() - bytes);
    }

    /// Whether there are as many frames for the socket as there may be.
    pub(super) fn set_full(&self, is_full: bool) {
        if self.is_full.replace(is_full) && !is_full {
            self.wake();
        }
    }

    fn wake(&self) {
        // Not borrowed any more when somebody wakes, or goes.
        let waiting = core::mem::take(&mut *self.waiting.borrow_mut());
        waiting.into_values().for_each(Waker::wake);
    }
}

/// A part of an answer that is counted.
#[derive(Debug)]
pub(super) struct Part {
    outflow: Rc<Outflow>,
    bytes: usize,
}

impl Drop for Part {
    fn drop(&mut self) {
        let sum = &self.outflow.parts_bytes;
        sum.set(sum.get() - self.bytes);
        self.outflow.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_ends_at_the_bound_and_comes_back() {
        let outflow = Rc::new(Outflow::default());
        let sender = outflow.sender();
        let context = Context::from_waker(Waker::noop());
        outflow.waits(BYTES_MAX);
        assert!(!outflow.has_room());
        assert!(sender.poll_room_for_part(&context).is_ready(), "parts do not wait for answers");
        outflow.left(1);
        assert!(outflow.has_room());
        let part = sender.count_part(PARTS_BYTES_MAX);
        assert!(sender.poll_room_for_part(&context).is_pending());
        assert!(outflow.has_room(), "nor answers for parts");
        drop(part);
        assert!(sender.poll_room_for_part(&context).is_ready());
        outflow.set_full(true);
        assert!(sender.poll_room_for_part(&context).is_pending());
        outflow.set_full(false);
        assert!(sender.poll_room_for_part(&context).is_ready());
    }

    #[test]
    fn whoever_waits_is_noted_once_and_forgotten_when_gone() {
        let outflow = Rc::new(Outflow::default());
        let sender = outflow.sender();
        let context = Context::from_waker(Waker::noop());
        outflow.set_full(true);
        for _ in 0..3 {
            assert!(sender.poll_room_for_part(&context).is_pending());
        }
        assert_eq!(outflow.waiting.borrow().len(), 1);
        drop(sender);
        assert!(outflow.waiting.borrow().is_empty());
    }
}
