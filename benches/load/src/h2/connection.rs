//! One connection: calls go out, messages and ends of calls come in.

use core::mem;
use std::collections::{BTreeMap, VecDeque};

use cairn_http2::frame::{self, Frame, flag, kind, setting};
use cairn_http2::hpack::{Decoder, Encoder, Field, Seen};

/// What arrives.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    /// A message of a call.
    Message { token: usize, stream: u32, message: &'a [u8] },
    /// A call has ended.
    End { token: usize, stream: u32, status: Status },
}

/// How a call ended: gRPC's code and text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) code: u32,
    pub(crate) text: String,
}

/// The server broke the protocol, or has said goodbye: the connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken(pub(crate) &'static str);

/// A call that is under way.
#[derive(Debug)]
struct Call {
    token: usize,
    /// The beginning of a message whose rest has not come.
    partial: Vec<u8>,
    /// Bytes that may be sent.
    window: i64,
    /// What waits for that, and whether it is the last of the call.
    waiting: VecDeque<u8>,
    is_last: bool,
    /// Bytes that came since the server was last told to go on.
    received: u32,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    /// What is to be sent.
    pub(crate) out: Vec<u8>,
    calls: BTreeMap<u32, Call>,
    next: u32,
    /// Bytes of a frame whose rest has not come.
    partial: Vec<u8>,
    /// A head that goes on in the next frame: its call, whether that ends with it, and its block so far.
    head: Option<(u32, bool, Vec<u8>)>,
    encoder: Encoder,
    /// Without a table, as the server was told: each block stands for itself.
    decoder: Decoder,
    /// Each kind of head as it was encoded last, and what the other side knew then.
    encoded: BTreeMap<usize, (usize, Vec<u8>)>,
    /// The blocks of a head, and of trailers, that say that all is well.
    well: [Vec<u8>; 2],
    window: i64,
    window_of_calls: i64,
    frame_bytes_max: usize,
    calls_max: usize,
    received: u32,
    /// Calls that wait for a window.
    blocked: VecDeque<u32>,
}

impl Connection {
    /// A new connection, whose first words are to be sent.
    pub(crate) fn new() -> Self {
        let mut out = frame::PREFACE.to_vec();
        let settings = [
            (setting::HEADER_TABLE_SIZE, 0),
            (setting::ENABLE_PUSH, 0),
            (setting::INITIAL_WINDOW_SIZE, WINDOW_BYTES),
        ];
        frame::head(&mut out, settings.len() * 6, kind::SETTINGS, 0, 0);
        for (name, value) in settings {
            out.extend_from_slice(&name.to_be_bytes());
            out.extend_from_slice(&value.to_be_bytes());
        }
        allow(&mut out, 0, WINDOW_BYTES - 65_535);
        Self {
            out,
            calls: BTreeMap::new(),
            next: 1,
            partial: Vec::new(),
            head: None,
            encoder: Encoder::default(),
            decoder: Decoder::new(0),
            encoded: BTreeMap::new(),
            well: [Vec::new(), Vec::new()],
            window: 65_535,
            window_of_calls: 65_535,
            frame_bytes_max: 16_384,
            calls_max: usize::MAX,
            received: 0,
            blocked: VecDeque::new(),
        }
    }

    /// Calls that are under way.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = usize> {
        self.calls.values().map(|call| call.token)
    }

    /// Begins a call. `number` names its head among those of this connection. `None`: the server allows no more.
    pub(crate) fn open(&mut self, number: usize, head: &[Field], token: usize) -> Option<u32> {
        if self.calls.len() >= self.calls_max || self.next > i32::MAX.unsigned_abs() {
            return None;
        }
        let stream = self.next;
        self.next += 2;
        let known = self.encoder.known();
        let is_fresh = self.encoded.get(&number).is_some_and(|(then, _)| *then == known);
        if !is_fresh {
            let mut block = Vec::new();
            self.encoder.encode(head, &mut block);
            // What this block taught it makes the next one shorter: only that one may be used again.
            self.encoded.insert(number, (known, block));
        }
        let (_, block) = &self.encoded[&number];
        frame::head(&mut self.out, block.len(), kind::HEADERS, flag::END_HEADERS, stream);
        self.out.extend_from_slice(block);
        let call = Call {
            token,
            partial: Vec::new(),
            window: self.window_of_calls,
            waiting: VecDeque::new(),
            is_last: false,
            received: 0,
        };
        self.calls.insert(stream, call);
        Some(stream)
    }

    /// Sends a message of a call that has not ended, at once or when the server allows it.
    pub(crate) fn send(&mut self, stream: u32, message: &[u8], is_last: bool) {
        let Some(call) = self.calls.get_mut(&stream) else { return };
        let length = u32::try_from(message.len()).expect("messages are shorter than 4 GiB");
        let bytes = message.len() + MESSAGE_HEAD_BYTES;
        let is_allowed = bytes as i64 <= call.window.min(self.window);
        if is_allowed && bytes <= self.frame_bytes_max && call.waiting.is_empty() {
            call.window -= bytes as i64;
            self.window -= bytes as i64;
            let flags = if is_last { flag::END_STREAM } else { 0 };
            frame::head(&mut self.out, bytes, kind::DATA, flags, stream);
            self.out.push(0);
            self.out.extend_from_slice(&length.to_be_bytes());
            self.out.extend_from_slice(message);
            return;
        }
        if call.waiting.is_empty() {
            self.blocked.push_back(stream);
        }
        call.waiting.push_back(0);
        call.waiting.extend(length.to_be_bytes());
        call.waiting.extend(message);
        call.is_last = is_last;
        self.send_what_is_allowed();
    }

    fn send_what_is_allowed(&mut self) {
        for _ in 0..self.blocked.len() {
            let Some(stream) = self.blocked.pop_front() else { return };
            let Some(call) = self.calls.get_mut(&stream) else { continue };
            while !call.waiting.is_empty() {
                let allowed = usize::try_from(call.window.min(self.window)).unwrap_or(0);
                let bytes = allowed.min(self.frame_bytes_max).min(call.waiting.len());
                if bytes == 0 {
                    break;
                }
                call.window -= bytes as i64;
                self.window -= bytes as i64;
                let is_last = call.is_last && bytes == call.waiting.len();
                let flags = if is_last { flag::END_STREAM } else { 0 };
                frame::head(&mut self.out, bytes, kind::DATA, flags, stream);
                self.out.extend(call.waiting.drain(..bytes));
            }
            if !call.waiting.is_empty() {
                self.blocked.push_back(stream);
            }
        }
    }

    /// Ends a call before the server does.
    pub(crate) fn cancel(&mut self, stream: u32) {
        if self.calls.remove(&stream).is_some() {
            frame::head(&mut self.out, 4, kind::RST_STREAM, 0, stream);
            self.out.extend_from_slice(&CANCEL.to_be_bytes());
        }
    }

    /// Takes bytes that have arrived, and shows what they mean.
    ///
    /// # Errors
    /// If the connection is of no more use.
    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        see: &mut impl FnMut(Event<'_>),
    ) -> Result<(), Broken> {
        if self.partial.is_empty() {
            let taken = self.take_frames(bytes, see)?;
            self.partial.extend_from_slice(&bytes[taken..]);
            return Ok(());
        }
        let mut partial = mem::take(&mut self.partial);
        partial.extend_from_slice(bytes);
        let taken = self.take_frames(&partial, see)?;
        partial.drain(..taken);
        self.partial = partial;
        Ok(())
    }

    fn take_frames(
        &mut self,
        bytes: &[u8],
        see: &mut impl FnMut(Event<'_>),
    ) -> Result<usize, Broken> {
        let mut taken = 0;
        while let Some(frame) = Frame::first(&bytes[taken..]) {
            self.frame(frame, see)?;
            taken += frame::HEAD_BYTES + frame.payload.len();
        }
        if bytes.len() - taken > FRAME_BYTES_MAX + frame::HEAD_BYTES {
            return Err(Broken("a frame is longer than was allowed"));
        }
        Ok(taken)
    }

    fn frame(&mut self, frame: Frame<'_>, see: &mut impl FnMut(Event<'_>)) -> Result<(), Broken> {
        if self.head.is_some() && frame.kind != kind::CONTINUATION {
            return Err(Broken("a head is interrupted"));
        }
        match frame.kind {
            kind::DATA => self.data(frame, see),
            kind::HEADERS => {
                let block = frame.content().ok_or(Broken("a head is all padding"))?;
                let is_last = frame.has(flag::END_STREAM);
                if frame.has(flag::END_HEADERS) {
                    return self.headers(frame.stream, is_last, block, see);
                }
                self.head = Some((frame.stream, is_last, block.to_vec()));
                Ok(())
            }
            kind::CONTINUATION => {
                let head = self.head.take().filter(|(stream, ..)| *stream == frame.stream);
                let (stream, is_last, mut block) = head.ok_or(Broken("a head goes on unasked"))?;
                block.extend_from_slice(frame.payload);
                if frame.has(flag::END_HEADERS) {
                    return self.headers(stream, is_last, &block, see);
                }
                if block.len() > HEAD_BYTES_MAX {
                    return Err(Broken("a head is too long"));
                }
                self.head = Some((stream, is_last, block));
                Ok(())
            }
            kind::RST_STREAM => {
                if let Some(call) = self.calls.remove(&frame.stream) {
                    let text = "the server reset the stream".to_owned();
                    let (token, stream) = (call.token, frame.stream);
                    see(Event::End { token, stream, status: Status { code: UNKNOWN, text } });
                }
                Ok(())
            }
            kind::SETTINGS => self.settings(frame),
            kind::PING if !frame.has(flag::ACK) => {
                frame::head(&mut self.out, frame.payload.len(), kind::PING, flag::ACK, 0);
                self.out.extend_from_slice(frame.payload);
                Ok(())
            }
            kind::GOAWAY => Err(Broken("the server said goodbye")),
            kind::WINDOW_UPDATE => {
                let bytes = number(frame.payload).ok_or(Broken("a window is no number"))?;
                let bytes = i64::from(bytes & 0x7fff_ffff);
                if frame.stream == 0 {
                    self.window += bytes;
                } else if let Some(call) = self.calls.get_mut(&frame.stream) {
                    call.window += bytes;
                }
                self.send_what_is_allowed();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn data(&mut self, frame: Frame<'_>, see: &mut impl FnMut(Event<'_>)) -> Result<(), Broken> {
        let bytes = u32::try_from(frame.payload.len()).expect("a frame is short");
        self.received += bytes;
        if self.received > WINDOW_BYTES / 2 {
            allow(&mut self.out, 0, mem::take(&mut self.received));
        }
        let content = frame.content().ok_or(Broken("data are all padding"))?;
        let Some(call) = self.calls.get_mut(&frame.stream) else { return Ok(()) };
        call.received += bytes;
        if call.received > WINDOW_BYTES / 2 {
            allow(&mut self.out, frame.stream, mem::take(&mut call.received));
        }
        let (token, stream) = (call.token, frame.stream);
        if call.partial.is_empty() {
            let taken =
                messages(content, &mut |message| see(Event::Message { token, stream, message }))?;
            call.partial.extend_from_slice(&content[taken..]);
        } else {
            call.partial.extend_from_slice(content);
            let partial = mem::take(&mut call.partial);
            let taken =
                messages(&partial, &mut |message| see(Event::Message { token, stream, message }))?;
            call.partial = partial;
            call.partial.drain(..taken);
        }
        if frame.has(flag::END_STREAM) {
            self.calls.remove(&frame.stream);
            let text = "the call ended without a status".to_owned();
            see(Event::End { token, stream, status: Status { code: UNKNOWN, text } });
        }
        Ok(())
    }

    fn headers(
        &mut self,
        stream: u32,
        is_last: bool,
        block: &[u8],
        see: &mut impl FnMut(Event<'_>),
    ) -> Result<(), Broken> {
        let Some(call) = self.calls.get(&stream) else { return Ok(()) };
        let token = call.token;
        let is_well = !block.is_empty() && self.well[usize::from(is_last)] == block;
        let mut status = Status { code: 0, text: String::new() };
        if !is_well {
            status = self.status(block, is_last).ok_or(Broken("a head cannot be read"))?;
            if status.code == 0 {
                self.well[usize::from(is_last)] = block.to_vec();
            }
        }
        if is_last || status.code != 0 {
            if is_last {
                self.calls.remove(&stream);
            } else {
                self.cancel(stream);
            }
            see(Event::End { token, stream, status });
        }
        Ok(())
    }

    /// What a block says about its call.
    fn status(&mut self, block: &[u8], is_last: bool) -> Option<Status> {
        let (mut http, mut code, mut text) = (None, None, String::new());
        let see = |Seen { name, value, .. }: Seen<'_>| {
            match name {
                b":status" => http = Some(value.to_vec()),
                b"grpc-status" => {
                    code = core::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
                }
                b"grpc-message" => text = unescaped(value),
                _ => {}
            }
            true
        };
        self.decoder.decode(block, see).ok()?;
        match (http, code) {
            (Some(http), None) if http != b"200" => {
                let text = format!("HTTP status {}", String::from_utf8_lossy(&http));
                Some(Status { code: UNKNOWN, text })
            }
            (_, Some(code)) => Some(Status { code, text }),
            (_, None) if is_last => {
                Some(Status { code: UNKNOWN, text: "the call ended without a status".to_owned() })
            }
            (_, None) => Some(Status { code: 0, text }),
        }
    }

    fn settings(&mut self, frame: Frame<'_>) -> Result<(), Broken> {
        if frame.has(flag::ACK) {
            return Ok(());
        }
        frame::head(&mut self.out, 0, kind::SETTINGS, flag::ACK, 0);
        for entry in frame.payload.chunks_exact(6) {
            let name = u16::from_be_bytes([entry[0], entry[1]]);
            let value = number(&entry[2..]).ok_or(Broken("a setting is no number"))?;
            match name {
                setting::HEADER_TABLE_SIZE => {
                    self.encoder.allow(value);
                    self.encoded.clear();
                }
                setting::MAX_CONCURRENT_STREAMS => self.calls_max = value as usize,
                setting::INITIAL_WINDOW_SIZE => {
                    let more = i64::from(value) - self.window_of_calls;
                    self.window_of_calls += more;
                    self.calls.values_mut().for_each(|call| call.window += more);
                }
                setting::MAX_FRAME_SIZE => self.frame_bytes_max = value as usize,
                _ => {}
            }
        }
        self.send_what_is_allowed();
        Ok(())
    }
}

/// Shows the whole messages at the beginning of these bytes, and says how far they go.
fn messages(bytes: &[u8], see: &mut impl FnMut(&[u8])) -> Result<usize, Broken> {
    let mut taken = 0;
    while let Some(&[compressed, a, b, c, d]) = bytes[taken..].first_chunk() {
        if compressed != 0 {
            return Err(Broken("a message is compressed, unasked"));
        }
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let from = taken + MESSAGE_HEAD_BYTES;
        let Some(message) = bytes.get(from..from + length) else { break };
        see(message);
        taken = from + length;
    }
    Ok(taken)
}

fn allow(out: &mut Vec<u8>, stream: u32, bytes: u32) {
    frame::head(out, 4, kind::WINDOW_UPDATE, 0, stream);
    out.extend_from_slice(&bytes.to_be_bytes());
}

fn number(payload: &[u8]) -> Option<u32> {
    payload.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// gRPC's texts: percent signs and two digits for what is no printable ASCII.
fn unescaped(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.first_chunk::<2>().filter(|_| byte == b'%');
        let digits = digits.and_then(|digits| core::str::from_utf8(digits).ok());
        if let Some(escaped) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            bytes.push(escaped);
            rest = &after[2..];
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// gRPC's code for what has none.
pub(crate) const UNKNOWN: u32 = 2;
/// Bytes before each message: whether it is compressed, and its length.
const MESSAGE_HEAD_BYTES: usize = 5;
/// What a server may send before it is told to go on: so much that it never waits for us.
const WINDOW_BYTES: u32 = i32::MAX.unsigned_abs();
/// The longest frame of those who were not told to send longer ones.
const FRAME_BYTES_MAX: usize = 16_384;
/// The longest head.
const HEAD_BYTES_MAX: usize = 1 << 20;
/// Why a call is reset: nobody wants it any more (RFC 9113, section 7).
const CANCEL: u32 = 8;
