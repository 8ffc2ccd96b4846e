//! HPACK (RFC 7541): heads of requests and answers as bytes.
//!
//! | file | what |
//! |---|---|
//! | decoder.rs | reading, with a dynamic table |
//! | encoder.rs | writing |
//! | table.rs | the static table |
//! | huffman.rs | the code of texts |

mod decoder;
mod encoder;
mod huffman;
mod table;

pub use decoder::{Decoder, Unreadable};
pub(crate) use encoder::indexed;
pub use encoder::{Encoder, Field, literal, remembered};

/// Bytes of the dynamic table where nothing else is said.
pub const TABLE_BYTES: usize = 4096;

/// A field of a head, as it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
    /// What kind of field it is.
    pub kind: Kind,
}

/// What a field means to HTTP/2 itself (RFC 9113, section 8). It is found out once for each entry of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `:method`
    Method,
    /// `:path`
    Path,
    /// `:scheme`
    Scheme,
    /// `:authority`
    Authority,
    /// `:status`, which no request has.
    Status,
    /// `content-length`
    ContentLength,
    /// `te`, which may only say `trailers`.
    Te,
    /// About the connection, which HTTP/2 has no fields for.
    Connection,
    /// Anything else.
    Plain,
    /// Its name or value is none, or it begins with a colon and nobody knows it.
    Malformed,
}

impl Kind {
    /// The kind of a field.
    fn of(name: &[u8], value: &[u8]) -> Self {
        if value.iter().all(|&byte| is_of_value(byte)) {
            Self::of_name(name)
        } else {
            Self::Malformed
        }
    }

    fn of_name(name: &[u8]) -> Self {
        match name {
            b":method" => Self::Method,
            b":path" => Self::Path,
            b":scheme" => Self::Scheme,
            b":authority" => Self::Authority,
            b":status" => Self::Status,
            b"content-length" => Self::ContentLength,
            b"te" => Self::Te,
            b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding"
            | b"upgrade" => Self::Connection,
            b"" => Self::Malformed,
            _ if name.iter().all(|&byte| is_of_name(byte)) => Self::Plain,
            _ => Self::Malformed,
        }
    }
}

/// Whether a byte may be part of a name: a token without capitals (RFC 9110, section 5.6.2).
const fn is_of_name(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

/// Whether a byte may be part of a value: no controls but the tabulator.
const fn is_of_value(byte: u8) -> bool {
    byte >= b' ' && byte != 0x7f || byte == b'\t'
}
