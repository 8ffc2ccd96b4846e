//! Connections whose clients have not said their first words yet.
//!
//! Whoever connects may say nothing, or the beginning of a handshake and no more: by accident, as behind a network that
//! fails, or on purpose. What comes after the first words costs tens of kilobytes (a session of TLS, one of HTTP/2), so it
//! is made when they are there and not before. Until then a connection is a socket, a small task, and the bytes that it
//! has sent; one timer counts for all.
//!
//! # What a client can make us hold
//!
//! On each core [`GUESTS_MAX`] connections and [`BYTES_MAX`] bytes wait, each for as long as its limit says. One more
//! connection, or byte, ends whoever is closest to its limit: those who go on are done within milliseconds, so whoever opens
//! many and says nothing pushes out its own. When the last of very many has gone, what they took is given back. Those whose time is up are ended a few at a time, so that nobody else waits.

use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::{Future as _, poll_fn};
use core::pin::{Pin, pin};
use core::task::{Poll, Waker};
use core::time::Duration;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use bytes::Bytes;
use cairn_io::clock::saturating_ns;
use cairn_io::limits;
use cairn_io::runtime::{Connection as Io, Runtime};
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::sync::watch;

/// Connections that wait on one core.
pub(crate) const GUESTS_MAX: usize = 16_384;
/// Bytes that they have sent, on one core.
pub(crate) const BYTES_MAX: usize = 8 << 20;
/// So many leave enough memory behind that it is worth giving back.
const CROWD: usize = 4096;
/// How many are ended before others get a turn.
const ENDED_AT_ONCE: usize = 32;
/// How long others get then.
const TURN: Duration = Duration::from_millis(1);
/// How late somebody may be ended.
const SWEEP: Duration = Duration::from_millis(250);
/// The most that is read at a time, on the stack.
const READ_BYTES: usize = 4096;

/// Those of one core.
#[derive(Clone)]
pub(crate) struct Lobby(Rc<Inner>);

struct Inner {
    /// By when their time is up, and by number.
    guests: RefCell<BTreeMap<Ticket, Guest>>,
    bytes: Cell<usize>,
    last: Cell<u64>,
    /// The most who were there at once since the lobby was empty.
    most: Cell<usize>,
    /// Whether somebody ends those whose time is up.
    is_swept: Cell<bool>,
    stopping: watch::Receiver<bool>,
}

/// When somebody's time is up, by the core's clock, and a number of its own.
type Ticket = (u64, u64);

struct Guest {
    bytes: usize,
    waker: Waker,
}

/// Why there were no first words.
#[derive(Debug)]
pub(crate) enum Silent {
    /// The connection ended, or failed.
    Gone(io::Error),
    /// Its time was up, others took its place, or the member stops.
    Ended,
}

impl Lobby {
    /// One that is closed when `stopping` says true.
    pub(crate) fn new(stopping: watch::Receiver<bool>) -> Self {
        let (guests, bytes, last) = (RefCell::default(), Cell::default(), Cell::default());
        let (most, is_swept) = (Cell::default(), Cell::default());
        Self(Rc::new(Inner { guests, bytes, last, most, is_swept, stopping }))
    }

    /// Reads until `is_enough` says so of what has been read.
    ///
    /// # Errors
    /// If there is no more to read, or no more time.
    pub(crate) async fn first_words<R: Runtime>(
        &self,
        io: &mut Io,
        limit: Duration,
        is_enough: impl Fn(&[u8]) -> bool,
    ) -> Result<Bytes, Silent> {
        let seat = self.enter::<R>(limit);
        let mut words = Vec::new();
        poll_fn(|context| {
            loop {
                if !seat.keep(words.len(), context.waker()) {
                    return Poll::Ready(Err(Silent::Ended));
                }
                let mut bytes = [0; READ_BYTES];
                let mut buffer = ReadBuf::new(&mut bytes);
                match core::task::ready!(Pin::new(&mut *io).poll_read(context, &mut buffer)) {
                    Err(error) => return Poll::Ready(Err(Silent::Gone(error))),
                    Ok(()) if buffer.filled().is_empty() => {
                        let error = io::ErrorKind::UnexpectedEof.into();
                        return Poll::Ready(Err(Silent::Gone(error)));
                    }
                    Ok(()) => words.extend_from_slice(buffer.filled()),
                }
                if is_enough(&words) {
                    return Poll::Ready(Ok(Bytes::from(core::mem::take(&mut words))));
                }
            }
        })
        .await
    }

    fn enter<R: Runtime>(&self, limit: Duration) -> Seat {
        let inner = &*self.0;
        inner.last.set(inner.last.get() + 1);
        let ticket = (R::now().saturating_add(saturating_ns(limit)), inner.last.get());
        if inner.guests.borrow().len() >= GUESTS_MAX {
            self.end_first();
        }
        let guest = Guest { bytes: 0, waker: Waker::noop().clone() };
        let mut guests = inner.guests.borrow_mut();
        guests.insert(ticket, guest);
        inner.most.set(inner.most.get().max(guests.len()));
        drop(guests);
        if !inner.is_swept.replace(true) {
            R::spawn(self.clone().sweep::<R>());
        }
        Seat { lobby: self.clone(), ticket }
    }

    /// Ends those whose time is up, until nobody is there.
    async fn sweep<R: Runtime>(self) {
        let (mut stopping, mut ended) = (self.0.stopping.clone(), 0);
        while let Some(first) = self.first() {
            // A sender that is gone means that the process ends.
            let is_stopping = *stopping.borrow() || stopping.has_changed().is_err();
            if is_stopping {
                while self.end_first() {}
                break;
            }
            let now = R::now();
            let is_late = first <= now;
            for _ in 0..ENDED_AT_ONCE {
                if self.first().is_none_or(|first| first > now) {
                    break;
                }
                self.end_first();
                ended += 1;
            }
            if !is_late {
                tell(&mut ended);
            }
            let mut stop = pin!(stopping.wait_for(|stopping| *stopping));
            let mut pause = pin!(R::sleep(if is_late { TURN } else { SWEEP }));
            poll_fn(|context| match stop.as_mut().poll(context) {
                Poll::Ready(_) => Poll::Ready(()),
                Poll::Pending => pause.as_mut().poll(context),
            })
            .await;
        }
        tell(&mut ended);
        self.0.is_swept.set(false);
        if self.0.most.take() >= CROWD {
            limits::give_back_memory();
        }
    }

    /// When the time of the first is up.
    fn first(&self) -> Option<u64> {
        self.0.guests.borrow().first_key_value().map(|(ticket, _)| ticket.0)
    }

    /// Ends whoever is closest to its limit; false: nobody is there.
    fn end_first(&self) -> bool {
        let first = self.0.guests.borrow_mut().pop_first();
        let is_there = first.is_some();
        if let Some((_, guest)) = first {
            self.0.bytes.set(self.0.bytes.get() - guest.bytes);
            guest.waker.wake();
        }
        is_there
    }
}

/// Once for all whose time was up together: they may be thousands.
fn tell(ended: &mut u32) {
    if *ended > 0 {
        tracing::warn!(
            connections = *ended,
            "ended connections whose clients did not say enough in time; if this goes on, look who opens them"
        );
    }
    *ended = 0;
}

/// A place among those who wait.
struct Seat {
    lobby: Lobby,
    ticket: Ticket,
}

impl Seat {
    /// Stays, having sent so many bytes in all; false: the place is gone.
    fn keep(&self, bytes: usize, waker: &Waker) -> bool {
        let inner = &*self.lobby.0;
        let mut guests = inner.guests.borrow_mut();
        let Some(guest) = guests.get_mut(&self.ticket) else { return false };
        guest.waker.clone_from(waker);
        inner.bytes.set(inner.bytes.get() - guest.bytes + bytes);
        guest.bytes = bytes;
        drop(guests);
        while inner.bytes.get() > BYTES_MAX {
            self.lobby.end_first();
        }
        inner.guests.borrow().contains_key(&self.ticket)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(guest) = self.lobby.0.guests.borrow_mut().remove(&self.ticket) {
            self.lobby.0.bytes.set(self.lobby.0.bytes.get() - guest.bytes);
        }
    }
}

impl fmt::Debug for Lobby {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lobby")
            .field("guests", &self.0.guests.borrow().len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
