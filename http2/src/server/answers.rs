//! The heads and trailers that nearly all answers of gRPC have, in as few bytes as can be.
//!
//! The first head of a connection makes the client remember `content-type: application/grpc`, the first good end
//! `grpc-status: 0`. From then on a head is two bytes, and an end is one. Nothing else is ever remembered, so the two
//! entries stay where they are. A client that allows no table of the usual size gets literals.

use crate::hpack::{self, TABLE_BYTES};
use crate::wide;

/// What the client has been made to remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remembered {
    Nothing,
    Kind,
    KindAndEnd,
}

/// The encoder of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answers {
    remembered: Remembered,
    is_literal: bool,
    /// The next block must say that there is no table.
    must_say_so: bool,
}

/// The first entry of the dynamic table.
const NEWEST: usize = 62;
/// `:status: 200`
const WELL: usize = 8;

impl Answers {
    pub(super) const fn new() -> Self {
        Self { remembered: Remembered::Nothing, is_literal: false, must_say_so: false }
    }

    /// Obeys the size of table that the client allows.
    pub(super) fn allow(&mut self, bytes: u32) {
        if wide(bytes) < TABLE_BYTES && !self.is_literal {
            (self.is_literal, self.must_say_so) = (true, true);
        }
    }

    /// Begins a block.
    pub(super) fn begin(&mut self, out: &mut Vec<u8>) {
        if core::mem::take(&mut self.must_say_so) {
            // An update to no bytes at all (RFC 7541, section 6.3).
            out.push(0x20);
        }
    }

    /// `:status: 200`, `content-type: application/grpc`.
    pub(super) fn head(&mut self, out: &mut Vec<u8>) {
        self.begin(out);
        hpack::indexed(WELL, out);
        if self.is_literal {
            return hpack::literal(b"content-type", b"application/grpc", out);
        }
        match self.remembered {
            Remembered::Nothing => {
                hpack::remembered(b"content-type", b"application/grpc", out);
                self.remembered = Remembered::Kind;
            }
            Remembered::Kind => hpack::indexed(NEWEST, out),
            Remembered::KindAndEnd => hpack::indexed(NEWEST + 1, out),
        }
    }

    /// `grpc-status: 0`.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) {
        self.begin(out);
        match self.remembered {
            Remembered::KindAndEnd if !self.is_literal => hpack::indexed(NEWEST, out),
            Remembered::Kind if !self.is_literal => {
                hpack::remembered(b"grpc-status", b"0", out);
                self.remembered = Remembered::KindAndEnd;
            }
            Remembered::Nothing | Remembered::Kind | Remembered::KindAndEnd => {
                hpack::literal(b"grpc-status", b"0", out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hpack::Decoder;

    fn read(decoder: &mut Decoder, block: &[u8]) -> String {
        let mut text = String::new();
        let see = |field: hpack::Seen<'_>| {
            let (name, value) = (field.name.escape_ascii(), field.value.escape_ascii());
            text.push_str(&format!("{name}={value} "));
            true
        };
        decoder.decode(block, see).unwrap();
        text
    }

    const HEAD: &str = ":status=200 content-type=application/grpc ";
    const END: &str = "grpc-status=0 ";

    #[test]
    fn answers_get_short_and_stay_right() {
        for literal_from in 0..8 {
            let (mut answers, mut decoder) = (Answers::new(), Decoder::new(TABLE_BYTES));
            for turn in 0..8 {
                if turn == literal_from {
                    answers.allow(100);
                }
                let (mut head, mut end) = (Vec::new(), Vec::new());
                answers.head(&mut head);
                assert_eq!(read(&mut decoder, &head), HEAD);
                // Not all calls end well.
                if turn % 3 != 0 {
                    answers.end(&mut end);
                    assert_eq!(read(&mut decoder, &end), END);
                }
                if (2..literal_from).contains(&turn) {
                    assert_eq!((head.len(), end.len()), (2, usize::from(turn % 3 != 0)));
                }
            }
        }
    }
}
