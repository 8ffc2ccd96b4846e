//! Messages in a stream of bytes: each with five bytes in front, a flag and a length.

use bytes::{Buf, Bytes, BytesMut};
use cairn_engine::api::Code;

use super::status::Status;

/// Bytes in front of a message.
pub const PREFIX_BYTES: usize = 5;

/// Cuts messages out of the data of one stream.
#[derive(Debug, Default)]
pub struct Messages {
    /// Data that is not a whole message yet; whole chunks are not copied.
    rest: Rest,
}

#[derive(Debug, Default)]
enum Rest {
    #[default]
    Nothing,
    Chunk(Bytes),
    Gathered(BytesMut),
}

impl Messages {
    /// Takes the next data.
    pub fn push(&mut self, data: Bytes) {
        self.rest = match core::mem::take(&mut self.rest) {
            Rest::Nothing => Rest::Chunk(data),
            Rest::Chunk(chunk) if chunk.is_empty() => Rest::Chunk(data),
            Rest::Chunk(chunk) => {
                let mut gathered = BytesMut::with_capacity(chunk.len() + data.len());
                gathered.extend_from_slice(&chunk);
                gathered.extend_from_slice(&data);
                Rest::Gathered(gathered)
            }
            Rest::Gathered(mut gathered) => {
                gathered.extend_from_slice(&data);
                Rest::Gathered(gathered)
            }
        };
    }

    /// The message that this data is, if it is nothing but one whole message, and nothing was left before: what nearly
    /// every call is, and then copied once. Whatever is wrong with it, [`next`](Self::next) tells.
    pub fn only(&self, data: &[u8], bytes_max: usize) -> Option<Bytes> {
        let (&[0, a, b, c, d], body) = data.split_first_chunk::<PREFIX_BYTES>()? else {
            return None;
        };
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).expect("64 bits");
        let is_one = self.is_empty() && body.len() == length && length <= bytes_max;
        is_one.then(|| Bytes::copy_from_slice(body))
    }

    /// The next whole message, if there is one.
    ///
    /// # Errors
    /// If a message is longer than `bytes_max`, or compressed, which was never agreed on.
    pub fn next(&mut self, bytes_max: usize) -> Result<Option<Bytes>, Status> {
        let available = match &self.rest {
            Rest::Nothing => &[][..],
            Rest::Chunk(chunk) => chunk,
            Rest::Gathered(gathered) => gathered,
        };
        let Some((prefix, body)) = available.split_at_checked(PREFIX_BYTES) else {
            return Ok(None);
        };
        if prefix[0] != 0 {
            let text = "grpc: compressed flag set with identity or empty encoding";
            return Err(Status::new(Code::Internal, text));
        }
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
        let length = usize::try_from(length).expect("64 bits");
        if length > bytes_max {
            let text = format!("grpc: received message larger than max ({length} vs. {bytes_max})");
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        if body.len() < length {
            return Ok(None);
        }
        Ok(Some(match &mut self.rest {
            Rest::Nothing => Bytes::new(),
            Rest::Chunk(chunk) => {
                chunk.advance(PREFIX_BYTES);
                chunk.split_to(length)
            }
            Rest::Gathered(gathered) => {
                gathered.advance(PREFIX_BYTES);
                gathered.split_to(length).freeze()
            }
        }))
    }

    /// Bytes that are left of the data.
    pub fn len(&self) -> usize {
        match &self.rest {
            Rest::Nothing => 0,
            Rest::Chunk(chunk) => chunk.len(),
            Rest::Gathered(gathered) => gathered.len(),
        }
    }

    /// Whether nothing is left of the data.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A message with its prefix; `encode` appends about `bytes_hint` bytes.
///
/// # Panics
/// If the message has 4 GiB or more.
pub fn message(bytes_hint: usize, encode: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut out = Vec::with_capacity(PREFIX_BYTES + bytes_hint);
    append(&mut out, encode);
    Bytes::from(out)
}

/// Appends a message with its prefix.
///
/// # Panics
/// If the message has 4 GiB or more.
pub fn append(out: &mut Vec<u8>, encode: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX_BYTES]);
    encode(out);
    let length = u32::try_from(out.len() - start - PREFIX_BYTES).expect("answers are below 4 GiB");
    out[start + 1..start + PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(body: &'static [u8]) -> Bytes {
        message(body.len(), |out| out.extend_from_slice(body))
    }

    #[test]
    fn messages_are_found_wherever_the_data_is_cut() {
        let mut stream = framed(b"one").to_vec();
        stream.extend_from_slice(&framed(b""));
        stream.extend_from_slice(&framed(b"three"));
        for cut in 0..=stream.len() {
            let mut messages = Messages::default();
            let mut found = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                messages.push(Bytes::copy_from_slice(part));
                while let Some(message) = messages.next(100).unwrap() {
                    found.push(message);
                }
            }
            assert_eq!(found, [&b"one"[..], b"", b"three"], "cut at {cut}");
            assert!(messages.is_empty());
        }
    }

    #[test]
    fn a_message_in_one_chunk_is_not_copied() {
        let data = framed(b"whole");
        let mut messages = Messages::default();
        messages.push(data.clone());
        let found = messages.next(100).unwrap().unwrap();
        assert_eq!(found.as_ptr(), data[PREFIX_BYTES..].as_ptr());
    }

    #[test]
    fn large_and_compressed_messages_are_refused_by_their_prefix_alone() {
        let mut messages = Messages::default();
        messages.push(Bytes::from_static(&[0, 0, 0, 1, 0]));
        let status = messages.next(255).unwrap_err();
        assert_eq!(status.code, Code::ResourceExhausted);
        assert_eq!(status.message, "grpc: received message larger than max (256 vs. 255)");
        let mut messages = Messages::default();
        messages.push(Bytes::from_static(&[1, 0, 0, 0, 0]));
        assert_eq!(messages.next(255).unwrap_err().code, Code::Internal);
    }
}
