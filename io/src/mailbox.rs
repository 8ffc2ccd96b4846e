//! Batches from core to core.
//!
//! A mailbox has many senders and one receiver, works between executors of either runtime, and wakes a
//! parked receiver once per batch it had not yet been woken for. `T` is meant to be a batch (a `Vec`
//! gathered during one turn), not a single item: a hop between parked cores costs about 20 us, whatever it
//! carries.
//!
//! It is bounded, because an unbounded queue is an outage that waits. The two directions fill it
//! differently:
//!
//! - A front that feeds core 0 waits in [`Sender::send`] when the box is full, so it stops reading its
//!   sockets, and TCP slows the clients down.
//! - Core 0 must never wait for a front, or the two wait for each other. It uses [`Sender::try_send`] on a
//!   box sized for everything that may be outstanding; "full" then means that the front has stopped
//!   taking its mail, which is a bug or a stall, not load.
//!
//! tokio's channel does the work: its waker is all a runtime needs, and glommio takes foreign wakes. The
//! cooperative budget of tokio is switched off in here: with it, a task that looks into more than 128
//! channels per turn finds every further one empty, whatever is in them.

use core::fmt;

use tokio::sync::mpsc;
use tokio::task::coop::unconstrained;

/// A mailbox for at most `capacity` messages that wait.
///
/// # Panics
///
/// If `capacity` is zero.
pub fn mailbox<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = mpsc::channel(capacity);
    (Sender { sender }, Receiver { receiver })
}

/// The end that is written to; clone it for every core.
pub struct Sender<T> {
    sender: mpsc::Sender<T>,
}

/// The end that is read.
pub struct Receiver<T> {
    receiver: mpsc::Receiver<T>,
}

/// A message that could not be sent, given back.
#[derive(Debug, PartialEq, Eq)]
pub enum Undelivered<T> {
    /// The box is full.
    Full(T),
    /// The receiver is gone.
    Closed(T),
}

impl<T> Sender<T> {
    /// Sends, and waits for room if need be. Cancelling sends nothing. The error gives the message back:
    /// the receiver is gone.
    ///
    /// # Errors
    ///
    /// The receiver is gone.
    pub async fn send(&self, message: T) -> Result<(), Undelivered<T>> {
        unconstrained(self.sender.send(message)).await.map_err(|error| Undelivered::Closed(error.0))
    }

    /// Sends if there is room.
    ///
    /// # Errors
    ///
    /// The box is full, or the receiver is gone.
    pub fn try_send(&self, message: T) -> Result<(), Undelivered<T>> {
        self.sender.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(message) => Undelivered::Full(message),
            mpsc::error::TrySendError::Closed(message) => Undelivered::Closed(message),
        })
    }
}

impl<T> Sender<T> {
    /// Whether the receiver is gone.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

impl<T> Receiver<T> {
    /// Waits for mail and appends up to `limit` messages to `into`; returns how many, zero when all
    /// senders are gone and the box is empty. Cancelling loses nothing.
    ///
    /// # Panics
    ///
    /// If `limit` is zero: the answer zero would have two meanings.
    pub async fn receive(&mut self, into: &mut Vec<T>, limit: usize) -> usize {
        assert!(limit > 0, "mail is asked for");
        unconstrained(self.receiver.recv_many(into, limit)).await
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone() }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("room", &self.sender.capacity()).finish()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("waiting", &self.receiver.len()).finish()
    }
}
