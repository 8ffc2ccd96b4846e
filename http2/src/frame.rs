//! Frames (RFC 9113, section 4.1): nine bytes of head, and what follows.
//!
//! ```text
//!  0        3      4       5            9
//!  ├────────┼──────┼───────┼────────────┼─ … ─┤
//!  │ length │ kind │ flags │ 0, stream  │ payload
//! ```

use crate::wide;

/// Bytes of a head.
pub const HEAD_BYTES: usize = 9;
/// Bytes of payload in a frame to someone who has not allowed more.
pub const PAYLOAD_BYTES_MAX: usize = 16_384;
/// What a connection begins with.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Kinds of frames.
#[expect(missing_docs, reason = "the names are those of RFC 9113, section 6")]
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
#[expect(missing_docs, reason = "the names are those of RFC 9113, section 6")]
pub mod flag {
    pub const ACK: u8 = 1;
    pub const END_STREAM: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    pub const PADDED: u8 = 8;
    pub const PRIORITY: u8 = 0x20;
}

/// Names of settings.
#[expect(missing_docs, reason = "the names are those of RFC 9113, section 6.5.2")]
pub mod setting {
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// Why a stream or a connection ends (RFC 9113, section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of RFC 9113, section 7")]
pub enum Reason {
    NoError,
    Protocol,
    Internal,
    FlowControl,
    StreamClosed,
    FrameSize,
    RefusedStream,
    Cancel,
    Compression,
    EnhanceYourCalm,
}

impl Reason {
    /// The number on the wire.
    pub const fn number(self) -> u32 {
        match self {
            Self::NoError => 0,
            Self::Protocol => 1,
            Self::Internal => 2,
            Self::FlowControl => 3,
            Self::StreamClosed => 5,
            Self::FrameSize => 6,
            Self::RefusedStream => 7,
            Self::Cancel => 8,
            Self::Compression => 9,
            Self::EnhanceYourCalm => 11,
        }
    }
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes of payload.
    pub length: usize,
    /// What it is, of [`kind`].
    pub kind: u8,
    /// What is special about it, of [`flag`].
    pub flags: u8,
    /// The stream, 31 bits; zero is the connection.
    pub stream: u32,
}

impl Head {
    /// The head at the beginning of these bytes, if all of it is there.
    pub fn first(bytes: &[u8]) -> Option<Self> {
        let &[a, b, c, kind, flags, s, t, u, v] = bytes.first_chunk::<HEAD_BYTES>()?;
        let length = wide(u32::from_be_bytes([0, a, b, c]));
        // The highest bit is reserved, and means nothing.
        let stream = u32::from_be_bytes([s & 0x7f, t, u, v]);
        Some(Self { length, kind, flags, stream })
    }
}

/// One frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is, of [`kind`].
    pub kind: u8,
    /// What is special about it, of [`flag`].
    pub flags: u8,
    /// The stream, 31 bits; zero is the connection.
    pub stream: u32,
    /// What follows the head.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The frame at the beginning of these bytes, if all of it is there.
    pub fn first(bytes: &'a [u8]) -> Option<Self> {
        let Head { length, kind, flags, stream } = Head::first(bytes)?;
        let payload = bytes.get(HEAD_BYTES..HEAD_BYTES + length)?;
        Some(Self { kind, flags, stream, payload })
    }

    /// Whether one of these flags is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The payload without padding and priority; `None` if there is more padding than payload.
    pub fn content(&self) -> Option<&'a [u8]> {
        let mut content = self.payload;
        if self.has(flag::PADDED) {
            let (&padding, rest) = content.split_first()?;
            content = rest.get(..rest.len().checked_sub(usize::from(padding))?)?;
        }
        if self.kind == kind::HEADERS && self.has(flag::PRIORITY) {
            content = content.get(5..)?;
        }
        Some(content)
    }
}

/// Writes the head of a frame.
///
/// # Panics
/// If `length` has more than 32 bits.
pub fn head(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    let [_, a, b, c] = u32::try_from(length).expect("frames are short").to_be_bytes();
    let [s, t, u, v] = stream.to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags, s, t, u, v]);
}

/// Writes a frame whose payload is a number: a reset, or a window.
pub fn number(out: &mut Vec<u8>, kind: u8, stream: u32, number: u32) {
    head(out, 4, kind, 0, stream);
    out.extend_from_slice(&number.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_when_all_of_it_is_there() {
        let mut bytes = Vec::new();
        head(&mut bytes, 3, kind::DATA, flag::END_STREAM, 5);
        bytes.extend_from_slice(b"abcd");
        for length in 0..HEAD_BYTES + 3 {
            assert_eq!(Frame::first(&bytes[..length]), None);
        }
        let frame = Frame::first(&bytes).unwrap();
        let expected = Frame { kind: 0, flags: 1, stream: 5, payload: b"abc" };
        assert_eq!(frame, expected);
        bytes[5] |= 0x80;
        assert_eq!(Frame::first(&bytes), Some(expected), "the reserved bit means nothing");
    }

    #[test]
    fn padding_and_priority_are_taken_off() {
        let content = |kind, flags, payload| Frame { kind, flags, stream: 1, payload }.content();
        assert_eq!(content(kind::DATA, flag::PADDED, b"\x02abcd"), Some(&b"ab"[..]));
        assert_eq!(content(kind::DATA, flag::PADDED, b"\x05abcd"), None);
        assert_eq!(content(kind::DATA, flag::PADDED, b""), None);
        let both = flag::PADDED | flag::PRIORITY;
        assert_eq!(content(kind::HEADERS, both, b"\x01ppppwhp"), Some(&b"h"[..]));
        assert_eq!(content(kind::HEADERS, flag::PRIORITY, b"pppp"), None);
    }
}
