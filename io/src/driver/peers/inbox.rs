//! What members have said and the driver has not yet taken.
//!
//! Sessions stop reading while there is much of it, and TCP slows the senders down.

use core::cell::{Cell, RefCell};
use core::task::Waker;

use cairn_engine::peer::Message;
use cairn_engine::peer::codec::weight_bytes;

/// Beyond this many bytes nothing more is read. The driver takes all of it in each turn, so it is reached only while
/// turns are long.
const WAITING_BYTES_MAX: usize = 8 << 20;

/// Messages on their way from sessions to the driver.
#[derive(Default)]
pub(super) struct Inbox {
    messages: RefCell<Vec<Message>>,
    bytes: Cell<usize>,
    driver: Cell<Option<Waker>>,
    /// Sessions that wait for room.
    readers: RefCell<Vec<Waker>>,
}

impl Inbox {
    /// Adds a message and wakes the driver.
    pub(super) fn push(&self, message: Message) {
        self.bytes.set(self.bytes.get() + weight_bytes(&message));
        self.messages.borrow_mut().push(message);
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    /// Whether more may be read; if not, the session is woken when it may.
    pub(super) fn has_room(&self, reader: &Waker) -> bool {
        if self.bytes.get() < WAITING_BYTES_MAX {
            return true;
        }
        let mut readers = self.readers.borrow_mut();
        if !readers.iter().any(|waiting| waiting.will_wake(reader)) {
            readers.push(reader.clone());
        }
        false
    }

    /// Takes everything; if there is nothing, the driver is woken when there is.
    pub(super) fn take(&self, driver: &Waker) -> Vec<Message> {
        let messages = core::mem::take(&mut *self.messages.borrow_mut());
        if messages.is_empty() {
            self.driver.set(Some(driver.clone()));
        }
        self.bytes.set(0);
        self.readers.take().into_iter().for_each(Waker::wake);
        messages
    }
}
