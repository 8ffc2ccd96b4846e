//! A connection, as a server sees it (RFC 9113).
//!
//! ```text
//!  bytes ──► next() ──► Event: a request, data, an end ──► who owns the connection
//!                                                              │
//!  socket ◄── out() ◄── windows ◄── begin(), send(), end() ◄───┘
//! ```
//!
//! The owner reads from a socket and calls [`Connection::next`] until it has no more to say, answers as it likes, and
//! writes what has gathered in [`Connection::out`]. Pings and settings are answered on the way. What a client does
//! wrong ends its stream or its connection here, with the reason that the RFC names; the owner hears of it by
//! [`Event::Reset`] or [`Failure`].
//!
//! | file | what |
//! |---|---|
//! | mod.rs | what arrives |
//! | send.rs | what leaves, as fast as windows allow |
//! | request.rs | the head of a request |
//! | streams.rs | the streams that are open |
//! | answers.rs | the usual heads, in two bytes |
//! | out.rs | bytes for the socket |
//! | patience.rs | what floods are stopped by |
//!
//! # What a client can make us hold
//!
//! - Of a request's head: [`Settings::head_bytes_max`], and as much again of a block that is not there yet.
//! - Of data: nothing. They are shown and forgotten; what the owner keeps of them, it counts itself, by windows.
//! - Of answers: what was given to [`Connection::send`], shared and unencoded, until windows allow it; of that,
//!   [`OUT_BYTES_MAX`] at once in `out`. The owner does not read on while more than that is there
//!   ([`Connection::may_read`]), so answers to pings do not gather either.
//! - Of streams: [`Settings::streams_max`] at two hundred bytes each, and the ids of a few that were closed.

mod answers;
mod out;
mod patience;
mod request;
mod send;
mod streams;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use answers::Answers;
use patience::Patience;
use request::Fault;
use streams::{Answer, Stream, Streams};

pub use out::Out;
pub use request::Head;
pub use send::Fields;
pub use streams::Key;

use crate::frame::{
    self, Frame, HEAD_BYTES, PAYLOAD_BYTES_MAX, PREFACE, Reason, flag, kind, setting,
};
use crate::hpack::{Decoder, TABLE_BYTES, Unreadable};
use crate::wide;

/// What a server allows its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bytes that a client may send on a stream before they are taken; at least 65,535.
    pub stream_window_bytes: u32,
    /// The same for all streams together; at least 65,535.
    pub connection_window_bytes: u32,
    /// Streams at a time.
    pub streams_max: u32,
    /// Bytes of a request's head, as RFC 9113 counts them (section 6.5.2).
    pub head_bytes_max: u32,
}

/// What has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A request, whose head was written to what was given for it.
    Request {
        /// The stream.
        stream: Key,
        /// There is no body.
        is_end: bool,
    },
    /// A part of a body. To be taken by [`Connection::took`].
    Data {
        /// The stream.
        stream: Key,
        /// What the owner knows it by.
        token: usize,
        /// The part; may be empty if it is the last.
        data: &'a [u8],
        /// The body ends with it.
        is_end: bool,
    },
    /// A stream is gone: the client took it back, or broke its rules.
    Reset {
        /// The stream.
        stream: Key,
        /// What the owner knows it by.
        token: usize,
    },
    /// The client has pinged; that was answered.
    Ping,
    /// The client has answered [`Connection::ping`].
    Pong,
}

/// The connection is over: what is left in `out` says so to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What the client is told.
    pub reason: Reason,
    /// What it did.
    pub why: &'static str,
}

/// A connection.
///
/// Invariants: a stream is in `streams` until both sides have ended it, or it is reset. `ready` names streams that have
/// something to send, and room in their own window. (I1) What a stream holds and owes is in the connection's sums.
#[derive(Debug)]
pub struct Connection {
    settings: Settings,
    out: Out,
    stage: Stage,
    streams: Streams,
    /// The newest stream of the client.
    newest: u32,
    decoder: Decoder,
    answers: Answers,
    /// A head whose block goes on in the next frame.
    block: Option<Box<Block>>,
    /// Bytes that the client may send on all streams, and those that it may have back.
    receive_window: i64,
    owed: u32,
    /// Bytes that we may send on all streams, on each at first, and in a frame.
    send_window: i64,
    stream_send_window: i64,
    frame_bytes_max: usize,
    /// Streams that may send, in their order.
    ready: VecDeque<Key>,
    /// Bytes that wait for windows.
    waiting_bytes: usize,
    /// Those whose waiting data is gone, and what their owner knows them by.
    drained: Vec<(Key, usize)>,
    /// Streams that ended a moment ago.
    recent: Recent,
    leaving: Leaving,
    patience: Patience,
    /// Whether heads or data were sent since somebody asked.
    has_sent: bool,
}

#[derive(Debug)]
struct Block {
    stream: u32,
    is_end: bool,
    bytes: Vec<u8>,
    frames: u32,
}

/// How far a connection has come. The first two are passed in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The client has to say that it speaks HTTP/2,
    Preface,
    /// and what it wants.
    Settings,
    Open,
    /// Nothing is read any more.
    Over,
}

/// How far the goodbye of a server has come: it tells the client to begin no more requests, and when that has heard of
/// it, which one was the last (RFC 9113, section 6.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    Announced,
    /// Streams after this one are not looked at.
    After(u32),
}

/// The last streams that ended, and whether that was our doing. What a client sent before it knew is let be.
#[derive(Debug, Default)]
struct Recent {
    ids: [u32; RECENT],
    next: usize,
}

impl Recent {
    fn note(&mut self, id: u32, is_ours: bool) {
        self.ids[self.next] = id << 1 | u32::from(is_ours);
        self.next = (self.next + 1) % RECENT;
    }

    /// Whether a stream is among them, and if so, whether we ended it.
    fn find(&self, id: u32) -> Option<bool> {
        let found = self.ids.iter().find(|noted| **noted >> 1 == id)?;
        Some(found & 1 != 0)
    }
}

impl Connection {
    /// A new connection. What is said first is in [`Connection::out`] already.
    ///
    /// # Panics
    /// If a window is smaller than the RFC's first.
    pub fn new(settings: Settings) -> Self {
        let Settings { stream_window_bytes, connection_window_bytes, .. } = settings;
        assert!(stream_window_bytes >= FIRST_WINDOW && connection_window_bytes >= FIRST_WINDOW);
        let mut out = Out::default();
        let said = [
            (setting::MAX_CONCURRENT_STREAMS, settings.streams_max),
            (setting::INITIAL_WINDOW_SIZE, stream_window_bytes),
            (setting::MAX_HEADER_LIST_SIZE, settings.head_bytes_max),
        ];
        frame::head(out.tail(), said.len() * SETTING_BYTES, kind::SETTINGS, 0, 0);
        for (name, value) in said {
            out.tail().extend_from_slice(&name.to_be_bytes());
            out.tail().extend_from_slice(&value.to_be_bytes());
        }
        if connection_window_bytes > FIRST_WINDOW {
            let more = connection_window_bytes - FIRST_WINDOW;
            frame::number(out.tail(), kind::WINDOW_UPDATE, 0, more);
        }
        Self {
            settings,
            out,
            stage: Stage::Preface,
            streams: Streams::default(),
            newest: 0,
            decoder: Decoder::new(TABLE_BYTES),
            answers: Answers::new(),
            block: None,
            receive_window: i64::from(connection_window_bytes),
            owed: 0,
            send_window: i64::from(FIRST_WINDOW),
            stream_send_window: i64::from(FIRST_WINDOW),
            frame_bytes_max: PAYLOAD_BYTES_MAX,
            ready: VecDeque::new(),
            waiting_bytes: 0,
            drained: Vec::new(),
            recent: Recent::default(),
            leaving: Leaving::No,
            patience: Patience::new(),
            has_sent: false,
        }
    }

    /// Streams that are open.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Whether the client has said that it speaks HTTP/2, and its settings.
    pub fn has_begun(&self) -> bool {
        matches!(self.stage, Stage::Open | Stage::Over)
    }

    /// Tells the time, in nanoseconds since any moment: patience comes back with it.
    pub fn time_is(&mut self, now_ns: u64) {
        self.patience.time_is(now_ns);
    }

    /// The next thing that has arrived; `None`: there is no whole frame in `input` any more. What was read is taken off
    /// its beginning; the rest, fewer than [`REST_BYTES_MAX`], is to be given again with what follows it.
    ///
    /// # Errors
    /// If the connection is over.
    pub fn next<'a>(
        &mut self,
        input: &mut &'a [u8],
        head: &mut Head,
    ) -> Result<Option<Event<'a>>, Failure> {
        if self.stage == Stage::Over {
            *input = &[];
            return Ok(None);
        }
        self.next_of(input, head).inspect_err(|failure| {
            self.stage = Stage::Over;
            self.goodbye(self.newest, failure.reason, failure.why);
        })
    }

    fn next_of<'a>(
        &mut self,
        input: &mut &'a [u8],
        head: &mut Head,
    ) -> Result<Option<Event<'a>>, Failure> {
        if self.stage == Stage::Preface && !self.take_preface(input)? {
            return Ok(None);
        }
        while let Some(first) = frame::Head::first(input) {
            if first.length > PAYLOAD_BYTES_MAX {
                return fail(Reason::FrameSize, "a frame is too long");
            }
            let Some(frame) = Frame::first(input) else { return Ok(None) };
            *input = &input[HEAD_BYTES + frame.payload.len()..];
            if self.stage == Stage::Settings {
                if frame.kind != kind::SETTINGS || frame.has(flag::ACK) {
                    return fail(Reason::Protocol, "the first frame is no settings");
                }
                self.stage = Stage::Open;
            }
            if self.block.is_some() && frame.kind != kind::CONTINUATION {
                return fail(Reason::Protocol, "a head is interrupted");
            }
            let event = match frame.kind {
                kind::DATA => self.data(frame)?,
                kind::HEADERS => self.headers(frame, head)?,
                kind::CONTINUATION => self.continuation(frame, head)?,
                kind::RST_STREAM => self.reset_by_client(frame)?,
                kind::WINDOW_UPDATE => self.window_update(frame)?,
                kind::PING => self.pinged(frame)?,
                kind::PRIORITY => self.priority(frame)?,
                kind::SETTINGS => {
                    self.settings(frame)?;
                    None
                }
                kind::GOAWAY => {
                    match (frame.stream, frame.payload.len()) {
                        (0, 8..) => self.spend(patience::FRAME)?,
                        (0, _) => return fail(Reason::FrameSize, "a goodbye has a wrong length"),
                        _ => return fail(Reason::Protocol, "a stream says goodbye"),
                    }
                    // What it has begun goes on, and no more begins.
                    self.leave_after_newest();
                    None
                }
                kind::PUSH_PROMISE => return fail(Reason::Protocol, "a client may not push"),
                _ => {
                    self.spend(patience::FRAME)?;
                    None
                }
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    /// Whether the client has said that it speaks HTTP/2.
    fn take_preface(&mut self, input: &mut &[u8]) -> Result<bool, Failure> {
        let compared = input.len().min(PREFACE.len());
        if input[..compared] != PREFACE[..compared] {
            return fail(Reason::Protocol, "the preface is another");
        }
        let is_whole = compared == PREFACE.len();
        if is_whole {
            self.stage = Stage::Settings;
            *input = &input[compared..];
        }
        Ok(is_whole)
    }

    fn spend(&mut self, cost: u32) -> Result<(), Failure> {
        if self.patience.spend(cost) {
            return Ok(());
        }
        fail(Reason::EnhanceYourCalm, "too many frames that lead nowhere")
    }

    /// Whether a stream was never there.
    fn is_idle(&self, id: u32) -> bool {
        id > self.newest || id.is_multiple_of(2)
    }

    fn headers<'a>(
        &mut self,
        frame: Frame<'a>,
        head: &mut Head,
    ) -> Result<Option<Event<'a>>, Failure> {
        if frame.stream.is_multiple_of(2) {
            return fail(Reason::Protocol, "a request on a stream of ours");
        }
        let Some(content) = frame.content() else {
            return fail(Reason::Protocol, "a head is all padding");
        };
        if frame.has(flag::PRIORITY) && depends_on_itself(frame) {
            return fail(Reason::Protocol, "a stream depends on itself");
        }
        let is_end = frame.has(flag::END_STREAM);
        if frame.has(flag::END_HEADERS) {
            return self.whole_head((frame.stream, is_end), content, head);
        }
        let block = Block { stream: frame.stream, is_end, bytes: content.to_vec(), frames: 1 };
        self.block = Some(Box::new(block));
        Ok(None)
    }

    fn continuation<'a>(
        &mut self,
        frame: Frame<'a>,
        head: &mut Head,
    ) -> Result<Option<Event<'a>>, Failure> {
        let block = self.block.take().filter(|block| block.stream == frame.stream);
        let Some(mut block) = block else {
            return fail(Reason::Protocol, "a head goes on that has not begun");
        };
        block.bytes.extend_from_slice(frame.payload);
        block.frames += 1;
        if block.bytes.len() > wide(self.settings.head_bytes_max) * 2
            || block.frames > BLOCK_FRAMES_MAX
        {
            return fail(Reason::EnhanceYourCalm, "a head does not end");
        }
        if frame.has(flag::END_HEADERS) {
            return self.whole_head((block.stream, block.is_end), &block.bytes, head);
        }
        self.block = Some(block);
        Ok(None)
    }

    /// A head is there. Its block is read whatever becomes of it, or the next one could not be.
    fn whole_head<'a>(
        &mut self,
        (id, is_end): (u32, bool),
        block: &[u8],
        head: &mut Head,
    ) -> Result<Option<Event<'a>>, Failure> {
        head.clear(wide(self.settings.head_bytes_max));
        match self.decoder.decode(block, |field| head.take(field)) {
            Ok(()) => {}
            Err(Unreadable::Malformed) => {
                return fail(Reason::Compression, "a head cannot be read");
            }
            Err(Unreadable::TooLarge) => {
                return fail(Reason::EnhanceYourCalm, "a head is much too large");
            }
        }
        if let Some(stream) = self.streams.find(id) {
            return self.trailers(stream, is_end, head);
        }
        if id <= self.newest {
            return match self.recent.find(id) {
                Some(true) => self.spend(patience::FRAME).map(|()| None),
                Some(false) => fail(Reason::StreamClosed, "a head on a stream that has ended"),
                None => fail(Reason::Protocol, "a stream with an old number"),
            };
        }
        self.newest = id;
        if let Leaving::After(last) = self.leaving
            && id > last
        {
            return self.spend(patience::FRAME).map(|()| None);
        }
        if self.streams.len() >= wide(self.settings.streams_max) {
            self.spend(patience::TAKEN_BACK)?;
            return self.refuse(id, Reason::RefusedStream);
        }
        match head.check() {
            Ok(()) => {}
            Err(Fault::Malformed) => return self.fault(id, Reason::Protocol),
            Err(Fault::TooLarge) => {
                self.too_large(id, is_end);
                return self.spend(patience::TAKEN_BACK).map(|()| None);
            }
        }
        if is_end && head.announced.is_some_and(|bytes| bytes > 0) {
            return self.fault(id, Reason::Protocol);
        }
        let stream = self.streams.add(Stream {
            id,
            token: usize::MAX,
            is_received: is_end,
            answer: Answer::No,
            is_queued: false,
            receive_window: i64::from(self.settings.stream_window_bytes),
            held: 0,
            owed: 0,
            announced: head.announced,
            send_window: 0,
            waiting: None,
        });
        Ok(Some(Event::Request { stream, is_end }))
    }

    /// What the owner of a stream knows it by; to be said when it began.
    pub fn name(&mut self, stream: Key, token: usize) {
        if let Some(stream) = self.streams.get(stream) {
            stream.token = token;
        }
    }

    /// A second head ends the body.
    fn trailers<'a>(
        &mut self,
        stream: Key,
        is_end: bool,
        head: &Head,
    ) -> Result<Option<Event<'a>>, Failure> {
        let known = self.streams.get(stream).expect("it was found");
        let token = known.token;
        if known.is_received {
            return self.fault_of(stream, Reason::StreamClosed);
        }
        let is_short = known.announced.is_some_and(|bytes| bytes > 0);
        if !is_end || is_short || head.check_trailers().is_err() {
            return self.fault_of(stream, Reason::Protocol);
        }
        known.is_received = true;
        self.remove_if_ended(stream);
        Ok(Some(Event::Data { stream, token, data: &[], is_end: true }))
    }

    fn data<'a>(&mut self, frame: Frame<'a>) -> Result<Option<Event<'a>>, Failure> {
        let Some(data) = frame.content().filter(|_| frame.stream != 0) else {
            return fail(Reason::Protocol, "data are all padding, or on no stream");
        };
        let whole = u32::try_from(frame.payload.len()).expect("a frame is short");
        self.receive_window -= i64::from(whole);
        if self.receive_window < 0 {
            return fail(Reason::FlowControl, "more data than the connection's window allows");
        }
        let is_end = frame.has(flag::END_STREAM);
        if data.is_empty() && !is_end {
            self.spend(patience::FRAME)?;
        }
        let Some(stream) = self.streams.find(frame.stream) else {
            self.give_back(whole);
            return self.stray_data(frame.stream);
        };
        let known = self.streams.get(stream).expect("it was found");
        let (token, length) = (known.token, u32::try_from(data.len()).expect("a frame is short"));
        known.receive_window -= i64::from(whole);
        let announced = known.announced.map(|bytes| bytes.checked_sub(u64::from(length)));
        let fault = if known.is_received {
            Some(Reason::StreamClosed)
        } else if known.receive_window < 0 {
            Some(Reason::FlowControl)
        } else if announced == Some(None) || is_end && announced.is_some_and(|b| b != Some(0)) {
            Some(Reason::Protocol)
        } else {
            None
        };
        if let Some(reason) = fault {
            self.give_back(whole);
            return self.fault_of(stream, reason);
        }
        known.announced = announced.flatten();
        known.is_received = is_end;
        known.held += length;
        // Nobody sees padding, so nobody takes it.
        let padding = whole - length;
        known.owed += padding;
        if padding > 0 {
            self.give_back(padding);
        }
        if is_end {
            self.remove_if_ended(stream);
        } else if data.is_empty() {
            return Ok(None);
        }
        Ok(Some(Event::Data { stream, token, data, is_end }))
    }

    /// Data on a stream that is not open.
    fn stray_data<'a>(&mut self, id: u32) -> Result<Option<Event<'a>>, Failure> {
        if self.is_idle(id) {
            return fail(Reason::Protocol, "data on a stream that has not begun");
        }
        let is_leaving = matches!(self.leaving, Leaving::After(last) if id > last);
        if is_leaving || self.recent.find(id) == Some(true) {
            return Ok(None);
        }
        self.fault(id, Reason::StreamClosed)
    }

    /// The owner has taken data of a stream, and the client may send as much again. Not for more than it was shown.
    pub fn took(&mut self, stream: Key, bytes: usize) {
        let bytes = u32::try_from(bytes).expect("a window is short");
        let step = self.settings.stream_window_bytes / 2;
        // Of a stream that is gone, everything was taken when it went.
        let Some(known) = self.streams.get(stream) else { return };
        known.held -= bytes;
        known.owed += bytes;
        if !known.is_received && known.owed >= step {
            let owed = core::mem::take(&mut known.owed);
            known.receive_window += i64::from(owed);
            frame::number(self.out.tail(), kind::WINDOW_UPDATE, stream.id, owed);
        }
        self.give_back(bytes);
    }

    /// The client may send so many bytes again, on any stream.
    fn give_back(&mut self, bytes: u32) {
        self.owed += bytes;
        if self.owed >= self.settings.connection_window_bytes / 2 {
            let owed = core::mem::take(&mut self.owed);
            self.receive_window += i64::from(owed);
            frame::number(self.out.tail(), kind::WINDOW_UPDATE, 0, owed);
        }
    }

    fn reset_by_client<'a>(&mut self, frame: Frame<'a>) -> Result<Option<Event<'a>>, Failure> {
        if frame.payload.len() != 4 {
            return fail(Reason::FrameSize, "a reset has a wrong length");
        }
        if self.is_idle(frame.stream) {
            return fail(Reason::Protocol, "a stream is reset that has not begun");
        }
        let Some(stream) = self.streams.find(frame.stream) else {
            return self.spend(patience::FRAME).map(|()| None);
        };
        let gone = self.remove(stream, false);
        if gone.answer == Answer::No {
            self.spend(patience::TAKEN_BACK)?;
        }
        Ok(Some(Event::Reset { stream, token: gone.token }))
    }

    fn priority<'a>(&mut self, frame: Frame<'a>) -> Result<Option<Event<'a>>, Failure> {
        self.spend(patience::FRAME)?;
        if frame.stream == 0 {
            return fail(Reason::Protocol, "the connection has no priority");
        }
        let fault = if frame.payload.len() != 5 {
            Reason::FrameSize
        } else if depends_on_itself(frame) {
            Reason::Protocol
        } else {
            return Ok(None);
        };
        match self.streams.find(frame.stream) {
            Some(stream) => self.fault_of(stream, fault),
            None => fail(fault, "a priority is none"),
        }
    }

    fn pinged<'a>(&mut self, frame: Frame<'a>) -> Result<Option<Event<'a>>, Failure> {
        if frame.stream != 0 {
            return fail(Reason::Protocol, "a stream is pinged");
        }
        let Ok(payload) = <[u8; 8]>::try_from(frame.payload) else {
            return fail(Reason::FrameSize, "a ping has a wrong length");
        };
        self.spend(patience::FRAME)?;
        if !frame.has(flag::ACK) {
            frame::head(self.out.tail(), payload.len(), kind::PING, flag::ACK, 0);
            self.out.tail().extend_from_slice(&payload);
            return Ok(Some(Event::Ping));
        }
        if payload == LAST_PING && self.leaving == Leaving::Announced {
            self.leave_after_newest();
            return Ok(None);
        }
        Ok((payload == PING).then_some(Event::Pong))
    }

    fn leave_after_newest(&mut self) {
        if !matches!(self.leaving, Leaving::After(_)) {
            self.leaving = Leaving::After(self.newest);
            self.goodbye(self.newest, Reason::NoError, "");
        }
    }

    fn settings(&mut self, frame: Frame<'_>) -> Result<(), Failure> {
        if frame.stream != 0 {
            return fail(Reason::Protocol, "a stream has settings");
        }
        self.spend(patience::FRAME)?;
        if frame.has(flag::ACK) {
            if frame.payload.is_empty() {
                return Ok(());
            }
            return fail(Reason::FrameSize, "settings are said and acknowledged at once");
        }
        let (entries, rest) = frame.payload.as_chunks::<SETTING_BYTES>();
        if !rest.is_empty() {
            return fail(Reason::FrameSize, "settings have a wrong length");
        }
        for &[n, m, a, b, c, d] in entries {
            let value = u32::from_be_bytes([a, b, c, d]);
            match u16::from_be_bytes([n, m]) {
                setting::HEADER_TABLE_SIZE => self.answers.allow(value),
                setting::ENABLE_PUSH if value > 1 => {
                    return fail(Reason::Protocol, "push is neither on nor off");
                }
                setting::INITIAL_WINDOW_SIZE => self.set_stream_windows(i64::from(value))?,
                setting::MAX_FRAME_SIZE => {
                    let bytes = wide(value);
                    if !(PAYLOAD_BYTES_MAX..1 << 24).contains(&bytes) {
                        return fail(Reason::Protocol, "frames have an impossible size");
                    }
                    self.frame_bytes_max = bytes.min(FRAME_BYTES_MAX);
                }
                // Nothing that concerns us, or nothing that is known.
                _ => {}
            }
        }
        frame::head(self.out.tail(), 0, kind::SETTINGS, flag::ACK, 0);
        self.pump();
        Ok(())
    }

    fn set_stream_windows(&mut self, bytes: i64) -> Result<(), Failure> {
        // It looks at every stream, and that is what it costs.
        let cost = u32::try_from(self.streams.len() / 8).expect("streams are few");
        self.spend(cost)?;
        let most = self.streams.each().map(|(_, stream)| stream.send_window).max();
        if bytes.max(bytes.saturating_add(most.unwrap_or(0))) > WINDOW_MAX {
            return fail(Reason::FlowControl, "windows are too large");
        }
        self.stream_send_window = bytes;
        for (key, stream) in self.streams.each() {
            if stream.waiting.is_some() && !stream.is_queued && stream.send_window + bytes > 0 {
                stream.is_queued = true;
                self.ready.push_back(key);
            }
        }
        Ok(())
    }

    fn window_update<'a>(&mut self, frame: Frame<'a>) -> Result<Option<Event<'a>>, Failure> {
        let Ok(more) = <[u8; 4]>::try_from(frame.payload) else {
            return fail(Reason::FrameSize, "a window's update has a wrong length");
        };
        let more = i64::from(u32::from_be_bytes(more) & WINDOW_BITS);
        self.spend(patience::FRAME)?;
        if frame.stream == 0 {
            if more == 0 {
                return fail(Reason::Protocol, "a window grows by nothing");
            }
            self.send_window += more;
            if self.send_window > WINDOW_MAX {
                return fail(Reason::FlowControl, "the connection's window is too large");
            }
            self.pump();
            return Ok(None);
        }
        let Some(key) = self.streams.find(frame.stream) else {
            if self.is_idle(frame.stream) {
                return fail(Reason::Protocol, "a window of a stream that has not begun");
            }
            return Ok(None);
        };
        let at_first = self.stream_send_window;
        let stream = self.streams.get(key).expect("it was found");
        if more == 0 {
            return self.fault_of(key, Reason::Protocol);
        }
        if stream.send_window + at_first + more > WINDOW_MAX {
            return self.fault_of(key, Reason::FlowControl);
        }
        stream.send_window += more;
        if stream.waiting.is_some() && !stream.is_queued {
            stream.is_queued = true;
            self.ready.push_back(key);
            self.pump();
        }
        Ok(None)
    }

    /// A client did something wrong on a stream that is not open.
    fn fault<'a>(&mut self, id: u32, reason: Reason) -> Result<Option<Event<'a>>, Failure> {
        self.spend(patience::FAULT)?;
        self.refuse(id, reason)
    }

    fn refuse<'a>(&mut self, id: u32, reason: Reason) -> Result<Option<Event<'a>>, Failure> {
        frame::number(self.out.tail(), kind::RST_STREAM, id, reason.number());
        self.recent.note(id, true);
        Ok(None)
    }

    /// A client did something wrong on a stream that is open.
    fn fault_of<'a>(&mut self, key: Key, reason: Reason) -> Result<Option<Event<'a>>, Failure> {
        self.spend(patience::FAULT)?;
        let gone = self.remove(key, true);
        frame::number(self.out.tail(), kind::RST_STREAM, key.id, reason.number());
        Ok(Some(Event::Reset { stream: key, token: gone.token }))
    }

    /// Forgets a stream, and gives back what it held.
    fn remove(&mut self, key: Key, is_ours: bool) -> Stream {
        let mut gone = self.streams.remove(key).expect("it is open");
        self.recent.note(key.id, is_ours);
        if let Some(waiting) = gone.waiting.take() {
            self.waiting_bytes -= waiting.bytes;
        }
        self.give_back(gone.held);
        gone
    }
}

fn fail<T>(reason: Reason, why: &'static str) -> Result<T, Failure> {
    Err(Failure { reason, why })
}

/// Whether a priority says that a stream depends on itself (RFC 7540, section 5.3.1).
fn depends_on_itself(frame: Frame<'_>) -> bool {
    let padding = usize::from(frame.kind == kind::HEADERS && frame.has(flag::PADDED));
    let on = frame.payload.get(padding..).and_then(|bytes| bytes.first_chunk());
    on.is_some_and(|on| u32::from_be_bytes(*on) & WINDOW_BITS == frame.stream)
}

/// Bytes that [`Connection::next`] may leave: less than a frame.
pub const REST_BYTES_MAX: usize = HEAD_BYTES + PAYLOAD_BYTES_MAX;
/// Bytes of data that are in `out` at a time, or little more.
pub const OUT_BYTES_MAX: usize = 512 << 10;
/// The windows that there are before anything is said (RFC 9113, section 6.9.2).
const FIRST_WINDOW: u32 = 65_535;
/// The largest window, and the bits of a number that count.
const WINDOW_MAX: i64 = 0x7fff_ffff;
const WINDOW_BITS: u32 = 0x7fff_ffff;
/// Frames of a head. Whoever cuts 32 KiB into pieces of one kibibyte is still served.
const BLOCK_FRAMES_MAX: u32 = 64;
/// Bytes of our frames, whatever a client allows: a long one holds up the others.
const FRAME_BYTES_MAX: usize = 64 << 10;
/// Bytes of one setting.
const SETTING_BYTES: usize = 6;
/// Streams that are remembered when they have ended.
const RECENT: usize = 32;
/// What is in our pings.
const PING: [u8; 8] = *b"cairn:up";
const LAST_PING: [u8; 8] = *b"cairn:go";
