//! HPACK (RFC 7541): heads of requests, and what a server says with an answer.
//!
//! Requests name their fields by the dynamic table, as other clients do: a head is literal once for each connection,
//! and then some ten bytes. For answers we allow a table of no bytes, so that each block stands for itself.

use core::mem;

use super::huffman::Decoder;

/// A field of a head.
pub(crate) type Field = (Box<[u8]>, Box<[u8]>);

/// Writes heads for one connection, and remembers what the other side then knows.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    known: Vec<Field>,
    /// Bytes that the entries count for.
    size: usize,
    /// No table at all: the other side does not want one.
    is_literal: bool,
    /// The next head tells it that the table is gone.
    must_say_so: bool,
}

impl Encoder {
    /// Obeys the size of table that the other side allows. Ours stays below the 4096 bytes that all allow who say
    /// nothing, so entries never leave it.
    pub(crate) fn allow(&mut self, bytes: u32) {
        if (bytes as usize) < TABLE_BYTES_MAX && !self.is_literal {
            (self.is_literal, self.must_say_so) = (true, true);
            self.known.clear();
        }
    }

    /// How many fields the other side knows.
    pub(crate) fn known(&self) -> usize {
        self.known.len()
    }

    /// Writes a head.
    pub(crate) fn encode(&mut self, fields: &[Field], out: &mut Vec<u8>) {
        if mem::take(&mut self.must_say_so) {
            integer(out, 0x20, 5, 0);
        }
        for (name, value) in fields {
            self.field(name, value, out);
        }
    }

    fn field(&mut self, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        if let Some(index) = STATIC.iter().position(|&(n, v)| (n, v) == (name, value)) {
            return integer(out, 0x80, 7, index + 1);
        }
        let known = self.known.iter().rev().position(|(n, v)| (&**n, &**v) == (name, value));
        if let Some(place) = known {
            return integer(out, 0x80, 7, STATIC.len() + 1 + place);
        }
        let size = self.size + name.len() + value.len() + 32;
        let is_kept = !self.is_literal && size <= TABLE_BYTES_MAX;
        let (mark, bits) = if is_kept { (0x40, 6) } else { (0, 4) };
        let name_index = STATIC.iter().position(|&(n, _)| n == name).map_or(0, |index| index + 1);
        integer(out, mark, bits, name_index);
        if name_index == 0 {
            integer(out, 0, 7, name.len());
            out.extend_from_slice(name);
        }
        integer(out, 0, 7, value.len());
        out.extend_from_slice(value);
        if is_kept {
            self.size = size;
            self.known.push((name.into(), value.into()));
        }
    }
}

/// Writes an integer behind some bits of a mark.
fn integer(out: &mut Vec<u8>, mark: u8, bits: u32, number: usize) {
    let most = (1_usize << bits) - 1;
    if number < most {
        return out.push(mark | number.to_le_bytes()[0]);
    }
    out.push(mark | most.to_le_bytes()[0]);
    let mut rest = number - most;
    while rest >= 128 {
        out.push(rest.to_le_bytes()[0] | 128);
        rest >>= 7;
    }
    out.push(rest.to_le_bytes()[0]);
}

/// Reads heads of answers.
#[derive(Debug)]
pub(crate) struct Reader {
    huffman: Decoder,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self { huffman: Decoder::new() }
    }

    /// Reads a block, field by field; `None` if it is none, or needs a table.
    pub(crate) fn read(&self, block: &[u8], mut see: impl FnMut(&[u8], &[u8])) -> Option<()> {
        let mut rest = block;
        while let Some(&first) = rest.first() {
            if first & 0x80 != 0 {
                let index = take_integer(&mut rest, 7)?;
                let (name, value) = STATIC.get(index.checked_sub(1)?)?;
                see(name, value);
            } else if first & 0xe0 == 0x20 {
                take_integer(&mut rest, 5)?;
            } else {
                let index = take_integer(&mut rest, if first & 0x40 == 0 { 4 } else { 6 })?;
                let name = match index.checked_sub(1) {
                    Some(place) => STATIC.get(place)?.0.to_vec(),
                    None => self.text(&mut rest)?,
                };
                see(&name, &self.text(&mut rest)?);
            }
        }
        Some(())
    }

    fn text(&self, rest: &mut &[u8]) -> Option<Vec<u8>> {
        let is_coded = rest.first()? & 0x80 != 0;
        let length = take_integer(rest, 7)?;
        let (text, after) = rest.split_at_checked(length)?;
        *rest = after;
        if is_coded { self.huffman.decode(text) } else { Some(text.to_vec()) }
    }
}

fn take_integer(rest: &mut &[u8], bits: u32) -> Option<usize> {
    let (&first, mut bytes) = rest.split_first()?;
    let most = (1_usize << bits) - 1;
    let mut number = usize::from(first) & most;
    if number == most {
        for shift in [0, 7, 14, 21] {
            let (&byte, after) = bytes.split_first()?;
            bytes = after;
            number += usize::from(byte & 127) << shift;
            if byte & 128 == 0 {
                *rest = bytes;
                return Some(number);
            }
        }
        return None;
    }
    *rest = bytes;
    Some(number)
}

/// Bytes of the table that all allow who say nothing.
const TABLE_BYTES_MAX: usize = 4096;

/// The static table (RFC 7541, appendix A). Its first entry has index 1.
const STATIC: [(&[u8], &[u8]); 61] = [
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(block: &[u8]) -> Option<Vec<(String, String)>> {
        let mut fields = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Reader::new().read(block, |name, value| fields.push((text(name), text(value))))?;
        Some(fields)
    }

    fn fields() -> Vec<Field> {
        [(":method", "POST"), (":path", "/a/B"), ("te", "trailers")]
            .map(|(name, value)| (name.as_bytes().into(), value.as_bytes().into()))
            .into()
    }

    #[test]
    fn a_head_is_literal_once_and_then_short() {
        let (mut encoder, mut first, mut second) = (Encoder::default(), Vec::new(), Vec::new());
        encoder.encode(&fields(), &mut first);
        encoder.encode(&fields(), &mut second);
        assert_eq!(first, b"\x83\x44\x04/a/B\x40\x02te\x08trailers");
        assert_eq!(second, [0x83, 0x80 | 63, 0x80 | 62]);
    }

    #[test]
    fn whoever_wants_no_table_gets_literals() {
        let (mut encoder, mut out) = (Encoder::default(), Vec::new());
        encoder.encode(&fields(), &mut out);
        out.clear();
        encoder.allow(0);
        encoder.encode(&fields(), &mut out);
        assert_eq!(out, b"\x20\x83\x04\x04/a/B\x00\x02te\x08trailers");
        let said = [(":method", "POST"), (":path", "/a/B"), ("te", "trailers")];
        assert_eq!(read(&out), Some(said.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec()));
    }

    #[test]
    fn blocks_that_are_none_are_refused() {
        for block in [
            &b"\x80"[..],
            b"\xbe",
            b"\x00\x05ab",
            b"\x40",
            b"\xff\xff\xff\xff\xff\xff",
            b"\x08\x81\x00",
        ] {
            assert_eq!(read(block), None, "{block:?}");
        }
        assert_eq!(read(b"\x88"), Some(vec![(":status".to_owned(), "200".to_owned())]));
    }

    #[test]
    fn integers_come_back() {
        for bits in [4, 5, 6, 7] {
            for number in [0, 1, 14, 15, 16, 30, 31, 126, 127, 128, 254, 300, 16_384, 2_000_000] {
                let mut out = Vec::new();
                integer(&mut out, 0, bits, number);
                assert_eq!(take_integer(&mut out.as_slice(), bits), Some(number));
            }
        }
    }
}
