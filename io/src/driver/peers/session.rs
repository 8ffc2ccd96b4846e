//! A connection that both ends have agreed on, until it ends.
//!
//! One task reads and writes: whatever has arrived is taken first, then whatever waits is written, everything that is
//! urgent and a good piece of the rest in one go. Each side pings once a second of itself, so a living connection is
//! never silent in either direction, however much is under way in the other.
//!
//! # Limits
//!
//! What is urgent overtakes what waits here, not what the kernel has taken already: its buffer holds a few megabytes, and
//! on a slow line a heartbeat waits for them. They are appends then, which say as well who leads.

use core::fmt;
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::{Context, Poll};
use std::io;
use std::rc::Rc;

use cairn_engine::peer::codec::{self, Malformed};
use cairn_engine::peer::frame::{Frame, Frames, encode_ping, encode_pong};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use super::counters::Counter;
use super::link::{Lane, Link};
use super::{PeerNotice, Shared};
use crate::runtime::{Connection, Runtime};

/// So much is read or written before others have their turn.
const TURN_BYTES: usize = 512 << 10;
/// A buffer that a long message has made larger than this is given back. A usual append of many entries is shorter.
const OUT_BYTES_KEPT: usize = 2 << 20;

/// A connection that counts.
pub(super) struct Session {
    pub(super) shared: Rc<Shared>,
    pub(super) link: Rc<Link>,
    pub(super) lane: Lane,
    /// What the link calls it.
    pub(super) number: u64,
    pub(super) io: Connection,
    pub(super) frames: Frames,
    /// Encoded and not yet written.
    pub(super) out: Vec<u8>,
}

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// Both ends keep another one.
    Replaced,
    /// The other end has closed it.
    Closed,
    /// The system's answer.
    Failed(io::Error),
    /// What came is not what members say.
    Malformed(Malformed),
    /// A frame that belongs to the beginning of a connection.
    OutOfPlace,
    /// Nothing came.
    Silent,
    /// Nothing could be written.
    Stuck,
    /// It is not needed any more.
    Idle,
}

struct Running {
    session: Session,
    written: usize,
    /// Bytes may be held back by the layer below.
    wants_flush: bool,
    /// The ping to answer. Only the latest is: they cannot pile up.
    pong: Option<u64>,
    /// The ping that is to be sent, by its time.
    ping: Option<u64>,
    /// The ping that was sent and not answered.
    pinged: Option<u64>,
    /// When something was last read, written, or handed out to be written.
    heard_at: u64,
    moved_at: u64,
    spoke_at: u64,
}

impl Session {
    /// Runs the connection to its end, and tells the link.
    pub(super) async fn run<R: Runtime>(self, dialed: bool) {
        let (shared, link) = (Rc::clone(&self.shared), Rc::clone(&self.link));
        let (lane, number, peer) = (self.lane, self.number, self.link.peer());
        if lane == Lane::Messages {
            shared.tell_once(&link, PeerNotice::Connected { peer, dialed });
        }
        let end = self.poll_to_end::<R>().await;
        if matches!(end, End::Malformed(_) | End::OutOfPlace) {
            link.count(Counter::ReceiveFailures, 1);
        }
        let is_told = lane == Lane::Messages || matches!(end, End::Malformed(_) | End::OutOfPlace);
        link.ended(lane, number, R::now());
        if is_told && !matches!(end, End::Replaced) {
            shared.tell_once(&link, PeerNotice::Lost { peer, why: end.to_string() });
        }
        shared.forget_if_unused(&link);
    }

    async fn poll_to_end<R: Runtime>(self) -> End {
        let pace = self.shared.pace;
        let began = R::now();
        let mut running = Running {
            session: self,
            written: 0,
            wants_flush: false,
            pong: None,
            ping: None,
            pinged: None,
            heard_at: began,
            moved_at: began,
            spoke_at: began,
        };
        let mut due = began.saturating_add(pace.ping);
        let mut alarm: Pin<Box<dyn Future<Output = ()>>> = Box::pin(R::sleep_until(due));
        poll_fn(|context| {
            let now = R::now();
            if let Poll::Ready(end) = running.poll_read(context, now) {
                return Poll::Ready(end);
            }
            while alarm.as_mut().poll(context).is_ready() {
                // This executor was held up itself: that the other was silent meanwhile it cannot know.
                if now.saturating_sub(due) > pace.ping {
                    (running.heard_at, running.moved_at) = (now, now);
                }
                if let Some(end) = running.tick(now) {
                    return Poll::Ready(end);
                }
                due = now.saturating_add(pace.ping);
                alarm = Box::pin(R::sleep_until(due));
            }
            running.poll_write(context, now)
        })
        .await
    }
}

impl Running {
    /// Takes what has arrived.
    fn poll_read(&mut self, context: &mut Context<'_>, now: u64) -> Poll<End> {
        let Session { link, lane, number, .. } = &self.session;
        if !link.counts(*lane, *number, context.waker()) {
            return Poll::Ready(End::Replaced);
        }
        let mut left = TURN_BYTES;
        loop {
            loop {
                match self.session.frames.next() {
                    Ok(None) => break,
                    Ok(Some(frame)) => {
                        if let Err(end) = self.take(frame, now) {
                            return Poll::Ready(end);
                        }
                    }
                    Err(malformed) => return Poll::Ready(End::Malformed(malformed)),
                }
            }
            if left == 0 {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            if !self.session.shared.inbox.has_room(context.waker()) {
                // Not its silence, our deafness.
                self.heard_at = now;
                return Poll::Pending;
            }
            let mut buffer = ReadBuf::new(self.session.frames.place());
            match Pin::new(&mut self.session.io).poll_read(context, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(End::Failed(error)),
                Poll::Ready(Ok(())) => {}
            }
            let count = buffer.filled().len();
            if count == 0 {
                return Poll::Ready(End::Closed);
            }
            self.session.frames.filled(count);
            self.heard_at = now;
            left = left.saturating_sub(count);
            let count = u64::try_from(count).expect("64 bits");
            self.session.link.count(Counter::ReceivedBytes, count);
        }
    }

    fn take(&mut self, frame: Frame, now: u64) -> Result<(), End> {
        let Session { shared, link, .. } = &self.session;
        match frame {
            Frame::Message(body) => {
                let message = codec::decode(body, link.peer(), shared.me);
                shared.inbox.push(message.map_err(End::Malformed)?);
            }
            Frame::Ping(number) => self.pong = Some(number),
            Frame::Pong(number) if self.pinged == Some(number) => {
                self.pinged = None;
                link.round_trip(now.saturating_sub(number));
            }
            // Late, or made up.
            Frame::Pong(_) => {}
            Frame::Hello(_) | Frame::Welcome(_) | Frame::Refusal(_) => return Err(End::OutOfPlace),
        }
        Ok(())
    }

    /// Once a second: is anybody there?
    fn tick(&mut self, now: u64) -> Option<End> {
        let pace = self.session.shared.pace;
        if now.saturating_sub(self.heard_at) >= pace.silence {
            return Some(End::Silent);
        }
        let waits = self.written < self.session.out.len();
        if waits && now.saturating_sub(self.moved_at) >= pace.silence {
            return Some(End::Stuck);
        }
        let is_bulk = self.session.lane == Lane::BulkOut;
        if is_bulk && !waits && now.saturating_sub(self.spoke_at) >= pace.bulk_idle {
            return Some(End::Idle);
        }
        self.ping = Some(now);
        None
    }

    /// Writes what waits.
    fn poll_write(&mut self, context: &mut Context<'_>, now: u64) -> Poll<End> {
        let mut left = TURN_BYTES;
        loop {
            if self.written == self.session.out.len() {
                self.fill(now);
            }
            let Session { io, out, link, .. } = &mut self.session;
            if out.is_empty() {
                break;
            }
            if left == 0 {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            match Pin::new(&mut *io).poll_write(context, &out[self.written..]) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(End::Failed(error)),
                Poll::Ready(Ok(0)) => return Poll::Ready(End::Closed),
                Poll::Ready(Ok(count)) => {
                    self.written += count;
                    self.moved_at = now;
                    self.wants_flush = true;
                    left = left.saturating_sub(count);
                    link.count(Counter::SentBytes, u64::try_from(count).expect("64 bits"));
                }
            }
        }
        if self.wants_flush {
            match Pin::new(&mut self.session.io).poll_flush(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(End::Failed(error)),
                Poll::Ready(Ok(())) => self.wants_flush = false,
            }
        }
        Poll::Pending
    }

    /// Encodes what is to be written next.
    fn fill(&mut self, now: u64) {
        self.written = 0;
        let Session { link, lane, out, .. } = &mut self.session;
        out.clear();
        out.shrink_to(OUT_BYTES_KEPT);
        if let Some(number) = self.pong.take() {
            encode_pong(number, out);
        }
        if let Some(number) = self.ping.take() {
            encode_ping(number, out);
            self.pinged = Some(number);
        }
        let before = out.len();
        link.fill(*lane, out);
        if out.len() > before {
            self.spoke_at = now;
        }
        if !out.is_empty() {
            self.moved_at = now;
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replaced => f.write_str("another connection takes its place"),
            Self::Closed => f.write_str("the other end has closed it"),
            Self::Failed(error) => error.fmt(f),
            Self::Malformed(malformed) => malformed.fmt(f),
            Self::OutOfPlace => f.write_str("a greeting in the middle of a connection"),
            Self::Silent => f.write_str("nothing is heard"),
            Self::Stuck => f.write_str("nothing can be sent"),
            Self::Idle => f.write_str("it is not needed any more"),
        }
    }
}
