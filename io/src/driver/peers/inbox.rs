//! What members have said, or what was noticed of them, and the driver has not yet taken.
//!
//! Sessions stop reading while there is much of it, and TCP slows the senders down.

use core::cell::{Cell, RefCell};
use core::task::Waker;

use cairn_engine::peer::Message;
use cairn_engine::peer::codec::weight_bytes;
use cairn_engine::{Input, MemberId};

/// Beyond this many bytes nothing more is read. The driver takes all of it in each turn, so it is reached only while
/// turns are long.
const WAITING_BYTES_MAX: usize = 8 << 20;

/// Messages on their way from sessions to the driver.
#[derive(Default)]
pub(super) struct Inbox {
    inputs: RefCell<Vec<Input>>,
    bytes: Cell<usize>,
    driver: Cell<Option<Waker>>,
    /// Sessions that wait for room.
    readers: RefCell<Vec<Waker>>,
}

impl Inbox {
    /// Adds a message and wakes the driver.
    pub(super) fn push(&self, message: Message) {
        self.bytes.set(self.bytes.get() + weight_bytes(&message));
        self.add(Input::Message(message));
    }

    /// Notes that nobody listens any more where a member did.
    pub(super) fn push_down(&self, peer: MemberId) {
        self.add(Input::PeerDown(peer));
    }

    fn add(&self, input: Input) {
        self.inputs.borrow_mut().push(input);
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
    pub(super) fn take(&self, driver: &Waker) -> Vec<Input> {
        let inputs = core::mem::take(&mut *self.inputs.borrow_mut());
        if inputs.is_empty() {
            self.driver.set(Some(driver.clone()));
        }
        self.bytes.set(0);
        self.readers.take().into_iter().for_each(Waker::wake);
        inputs
    }
}
