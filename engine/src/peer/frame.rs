//! Frames: what a connection between two members carries, whatever is in them.
//!
//! ```text
//!  0        4        8    9       12       16
//! ┌────────┬────────┬────┬───────┬────────┬──────────────┐
//! │ length │ crc of │kind│ zero  │ crc of │ body         │
//! │of body │ body   │    │       │ 0..12  │ length bytes │
//! └────────┴────────┴────┴───────┴────────┴──────────────┘
//! ```
//!
//! The header has a checksum of its own, so a damaged length is noticed at once: it makes nobody wait for bytes that
//! never come, and nobody allocate memory for them.
//!
//! # Whose memory a body is
//!
//! Entries are not copied out of the message that brought them: they are slices of its body ([`Bytes`]), and they
//! stay in the memory of the log for a while. If bodies were slices of the buffer that sockets are read into, then one
//! entry of a hundred bytes could keep alive whatever else had arrived beside it. So each frame has an allocation
//! of exactly its own length: what is already in the buffer is copied into it, once, and the rest of a long body is
//! read from the socket right into it. The buffer itself is used again and never shared. An entry thus keeps alive
//! its own message and nothing else; since a log forgets its entries in order, that is at most one message more than
//! the log itself has.
//!
//! # Limits
//!
//! A body is at most as long as the reader allows, and its memory is reserved when its header has arrived. Who has
//! passed for a member can so make the reader reserve that much, once for each connection.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;

use super::codec::Malformed;
use super::hello::{Hello, PREFACE, Refusal, Welcome};
use crate::convert::{to_u64, to_usize};

/// Length of a frame's header.
pub const HEADER_BYTES: usize = 16;

/// How long the body of a frame may be before its sender is known: a greeting.
pub const GREETING_BYTES_MAX: u32 = 256;

/// How much is read from a connection at a time, about.
const BUFFER_BYTES: usize = 64 << 10;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Opens a connection.
    Hello,
    /// Answers [`Kind::Hello`]: go on.
    Welcome,
    /// Answers [`Kind::Hello`]: no, and why.
    Refusal,
    /// Carries a [`Message`](super::Message).
    Message,
    /// "Are you there?"
    Ping,
    /// The answer to [`Kind::Ping`], with its number.
    Pong,
}

impl Kind {
    const fn to_byte(self) -> u8 {
        match self {
            Self::Hello => 1,
            Self::Welcome => 2,
            Self::Refusal => 3,
            Self::Message => 4,
            Self::Ping => 5,
            Self::Pong => 6,
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Hello),
            2 => Some(Self::Welcome),
            3 => Some(Self::Refusal),
            4 => Some(Self::Message),
            5 => Some(Self::Ping),
            6 => Some(Self::Pong),
            _ => None,
        }
    }
}

/// A frame that arrived whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// See [`Kind::Hello`].
    Hello(Hello),
    /// See [`Kind::Welcome`].
    Welcome(Welcome),
    /// See [`Kind::Refusal`].
    Refusal(Refusal),
    /// A message, for [`decode`](super::codec::decode): only whoever knows the two ends of the connection can.
    Message(Bytes),
    /// See [`Kind::Ping`].
    Ping(u64),
    /// See [`Kind::Pong`].
    Pong(u64),
}

/// Appends a frame; `body` appends its body.
pub(super) fn encode(kind: Kind, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.resize(start + HEADER_BYTES, 0);
    body(out);
    let length = to_u64(out.len() - start - HEADER_BYTES);
    let length = u32::try_from(length).expect("who sends keeps below the limit of who reads");
    let crc = crc32fast::hash(&out[start + HEADER_BYTES..]);
    let header = &mut out[start..start + HEADER_BYTES];
    header[..4].copy_from_slice(&length.to_le_bytes());
    header[4..8].copy_from_slice(&crc.to_le_bytes());
    header[8] = kind.to_byte();
    let crc = crc32fast::hash(&header[..12]);
    header[12..].copy_from_slice(&crc.to_le_bytes());
}

/// Appends a [`Frame::Ping`].
pub fn encode_ping(number: u64, out: &mut Vec<u8>) {
    encode(Kind::Ping, out, |body| body.extend_from_slice(&number.to_le_bytes()));
}

/// Appends a [`Frame::Pong`].
pub fn encode_pong(number: u64, out: &mut Vec<u8>) {
    encode(Kind::Pong, out, |body| body.extend_from_slice(&number.to_le_bytes()));
}

/// What the header of a frame says.
#[derive(Clone, Copy, Debug)]
struct Header {
    length: u32,
    crc: u32,
    kind: Kind,
}

impl Header {
    fn decode(bytes: &[u8; HEADER_BYTES], body_bytes_max: u32) -> Result<Self, Malformed> {
        let [a, b, c, d, e, f, g, h, kind, zeros @ .., i, j, k, l] = *bytes;
        if u32::from_le_bytes([i, j, k, l]) != crc32fast::hash(&bytes[..12]) {
            return Err(Malformed::Header);
        }
        let length = u32::from_le_bytes([a, b, c, d]);
        if length > body_bytes_max {
            return Err(Malformed::TooLong { bytes: length, max: body_bytes_max });
        }
        let unknown = Malformed::UnknownKind(kind);
        if zeros != [0; 3] {
            return Err(unknown);
        }
        let kind = Kind::from_byte(kind).ok_or(unknown)?;
        Ok(Self { length, crc: u32::from_le_bytes([e, f, g, h]), kind })
    }
}

/// Makes frames of the bytes that arrive on a connection, wherever they are cut.
///
/// ```text
/// place(): where the next bytes belong ──► (read) ──► filled(n) ──► next() until None
/// ```
pub struct Frames {
    /// What was read and belongs to no body yet: `buffer[start..end]`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The frame that has begun to arrive.
    unfinished: Option<Unfinished>,
    preface: Preface,
    body_bytes_max: u32,
}

/// A frame whose header is there and whose body is not yet whole.
struct Unfinished {
    header: Header,
    /// Zeros behind `filled`.
    body: Vec<u8>,
    filled: usize,
}

/// Whether [`PREFACE`] must come before the first frame.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Preface {
    Awaited,
    None,
}

impl Frames {
    /// For the side that dials: frames from the first byte on.
    pub fn of_dialer() -> Self {
        Self::new(Preface::None)
    }

    /// For the side that accepts: [`PREFACE`], then frames. `first` was read already.
    pub fn of_acceptor(first: &[u8]) -> Self {
        let mut frames = Self::new(Preface::Awaited);
        frames.buffer.resize(BUFFER_BYTES.max(first.len()), 0);
        frames.buffer[..first.len()].copy_from_slice(first);
        frames.end = first.len();
        frames
    }

    fn new(preface: Preface) -> Self {
        Self {
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            unfinished: None,
            preface,
            body_bytes_max: GREETING_BYTES_MAX,
        }
    }

    /// Allows longer bodies from now on: the sender is known.
    pub fn allow(&mut self, body_bytes_max: u32) {
        self.body_bytes_max = body_bytes_max;
    }

    /// Where to put the next bytes; never empty, if [`next`](Self::next) was asked until it had nothing.
    pub fn place(&mut self) -> &mut [u8] {
        if let Some(unfinished) = &mut self.unfinished {
            let whole = to_usize(u64::from(unfinished.header.length));
            // In steps, so that memory is touched when there is something to put into it.
            let step = (unfinished.filled + BUFFER_BYTES).min(whole);
            unfinished.body.resize(step, 0);
            return &mut unfinished.body[unfinished.filled..];
        }
        // Less than a header is left.
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        &mut self.buffer[self.end..]
    }

    /// Notes that so many bytes were put into [`place`](Self::place).
    ///
    /// # Panics
    /// If it has not so many.
    pub fn filled(&mut self, count: usize) {
        match &mut self.unfinished {
            Some(unfinished) => {
                unfinished.filled += count;
                assert!(unfinished.filled <= unfinished.body.len(), "as much as there was room");
            }
            None => {
                self.end += count;
                assert!(self.end <= self.buffer.len(), "as much as there was room");
            }
        }
    }

    /// The next frame, if it is there as a whole. After an error there is no next one.
    ///
    /// # Errors
    /// If these bytes are no frame.
    #[expect(clippy::should_implement_trait, reason = "an iterator would end where this waits")]
    pub fn next(&mut self) -> Result<Option<Frame>, Malformed> {
        if self.preface == Preface::Awaited {
            let arrived = &self.buffer[self.start..self.end];
            match super::hello::is_peer(arrived) {
                Some(true) => self.start += PREFACE.len(),
                Some(false) => return Err(Malformed::Preface),
                None => return Ok(None),
            }
            self.preface = Preface::None;
        }
        let mut unfinished = match self.unfinished.take() {
            Some(unfinished) => unfinished,
            None => match self.begin()? {
                Some(begun) => begun,
                None => return Ok(None),
            },
        };
        let whole = to_usize(u64::from(unfinished.header.length));
        if unfinished.filled < whole {
            self.unfinished = Some(unfinished);
            return Ok(None);
        }
        unfinished.body.truncate(whole);
        let Header { crc, kind, .. } = unfinished.header;
        if crc != crc32fast::hash(&unfinished.body) {
            return Err(Malformed::BodyChecksum);
        }
        decode(kind, Bytes::from(unfinished.body)).map(Some)
    }

    /// Takes a header and what there is of its body out of the buffer.
    fn begin(&mut self) -> Result<Option<Unfinished>, Malformed> {
        let arrived = &self.buffer[self.start..self.end];
        let Some((header, rest)) = arrived.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let header = Header::decode(header, self.body_bytes_max)?;
        let whole = to_usize(u64::from(header.length));
        let filled = rest.len().min(whole);
        let mut body = Vec::with_capacity(whole);
        body.extend_from_slice(&rest[..filled]);
        self.start += HEADER_BYTES + filled;
        Ok(Some(Unfinished { header, body, filled }))
    }
}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames").field("buffered", &(self.end - self.start)).finish_non_exhaustive()
    }
}

fn decode(kind: Kind, body: Bytes) -> Result<Frame, Malformed> {
    Ok(match kind {
        Kind::Hello => Frame::Hello(Hello::decode(&body)?),
        Kind::Welcome => Frame::Welcome(Welcome::decode(&body)?),
        Kind::Refusal => Frame::Refusal(Refusal::decode(&body)?),
        Kind::Message => Frame::Message(body),
        Kind::Ping => Frame::Ping(number(&body)?),
        Kind::Pong => Frame::Pong(number(&body)?),
    })
}

/// The number of a ping or pong.
fn number(body: &[u8]) -> Result<u64, Malformed> {
    body.try_into().map(u64::from_le_bytes).map_err(|_| Malformed::Truncated)
}
