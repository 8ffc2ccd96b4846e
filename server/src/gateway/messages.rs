//! Cuts JSON objects out of a stream of bytes: each is a message.
//!
//! Every byte is looked at once, however small the pieces in which a client sends them.

use bytes::{Bytes, BytesMut};
use cairn_engine::api::Code;

use crate::grpc::status::Status;

/// What was received and not read yet.
#[derive(Debug)]
pub struct Objects {
    received: BytesMut,
    /// How many of these bytes were looked at.
    seen: usize,
    /// Brackets that are open.
    depth: usize,
    in_text: bool,
    /// Whether the last byte was a backslash in a text.
    escaped: bool,
    /// Bytes that an object may have.
    bytes_max: usize,
}

impl Objects {
    /// Nothing was received yet; of an object, this many bytes are taken.
    pub fn new(bytes_max: usize) -> Self {
        let received = BytesMut::new();
        Self { received, seen: 0, depth: 0, in_text: false, escaped: false, bytes_max }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// Bytes that were taken and are in no object yet.
    pub fn held_bytes(&self) -> usize {
        self.received.len()
    }

    /// The next whole object, if there is one.
    ///
    /// # Errors
    /// If something else comes, or it is too long.
    pub fn cut(&mut self) -> Result<Option<Bytes>, Status> {
        if self.depth == 0 {
            let blank = |byte: &u8| byte.is_ascii_whitespace();
            let start = self.received.iter().position(|byte| !blank(byte));
            drop(self.received.split_to(start.unwrap_or(self.received.len())));
            match self.received.first() {
                None => return Ok(None),
                Some(b'{') => {}
                Some(_) => {
                    let start = String::from_utf8_lossy(&self.received);
                    let token: String = start.chars().take(SHOWN_CHARACTERS).collect();
                    let text = format!("proto: syntax error: unexpected token {token}");
                    return Err(Status::new(Code::InvalidArgument, text));
                }
            }
        }
        while let Some(&byte) = self.received.get(self.seen) {
            self.seen += 1;
            if self.in_text {
                self.in_text = self.escaped || byte != b'"';
                self.escaped = !self.escaped && byte == b'\\';
                continue;
            }
            match byte {
                b'"' => self.in_text = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth -= 1,
                _ => {}
            }
            if self.depth == 0 {
                let object = self.received.split_to(self.seen).freeze();
                self.seen = 0;
                return Ok(Some(object));
            }
        }
        if self.seen > self.bytes_max {
            let text = format!("grpc: received message larger than max ({})", self.bytes_max);
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        Ok(None)
    }

    /// Nothing more comes.
    ///
    /// # Errors
    /// If an object has no end.
    pub fn end(&self) -> Result<(), Status> {
        if self.depth == 0 {
            return Ok(());
        }
        Err(Status::new(Code::InvalidArgument, "unexpected EOF"))
    }
}

/// How much of what is no object is shown.
const SHOWN_CHARACTERS: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_found_wherever_the_bytes_are_cut() {
        let stream = br#"  {"a":"}\"\\"} {"b":[{"c":"\\{"}]}{}"#;
        for cut in 0..=stream.len() {
            let (mut objects, mut found) = (Objects::new(100), Vec::new());
            for part in [&stream[..cut], &stream[cut..]] {
                objects.push(part);
                while let Some(object) = objects.cut().unwrap() {
                    found.push(object);
                }
            }
            let expected: [&[u8]; 3] = [br#"{"a":"}\"\\"}"#, br#"{"b":[{"c":"\\{"}]}"#, b"{}"];
            assert_eq!(found, expected, "cut at {cut}");
            objects.end().unwrap();
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["x", "null", "[]", "}", "\"", "1", "\u{fe}"] {
            let mut objects = Objects::new(100);
            objects.push(text.as_bytes());
            assert_eq!(objects.cut().unwrap_err().code, Code::InvalidArgument, "{text}");
        }
        let mut objects = Objects::new(100);
        objects.push(b"{\"a\":");
        assert_eq!(objects.cut(), Ok(None));
        assert_eq!(objects.end().unwrap_err().message, "unexpected EOF");
    }

    #[test]
    fn an_object_without_end_is_not_gathered_for_ever() {
        let mut objects = Objects::new(100);
        let mut refused = None;
        for _ in 0..101 {
            objects.push(b"{");
            refused = objects.cut().err();
        }
        assert_eq!(refused.unwrap().code, Code::ResourceExhausted);
    }
}
