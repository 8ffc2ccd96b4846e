//! Writing heads.
//!
//! A client names its fields by the dynamic table ([`Encoder`]): a head is literal once for each connection, and then
//! some ten bytes. A server's answers need two entries, for which it has something simpler
//! ([`Answers`](crate::server)); whatever else it says is a literal.

use core::mem;

use super::table::STATIC;

/// A field of a head.
pub type Field = (Box<[u8]>, Box<[u8]>);

/// Writes heads for one connection, and remembers what the other side then knows.
#[derive(Debug, Default)]
pub struct Encoder {
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
    pub fn allow(&mut self, bytes: u32) {
        if crate::wide(bytes) < TABLE_BYTES_MAX && !self.is_literal {
            (self.is_literal, self.must_say_so) = (true, true);
            self.known.clear();
        }
    }

    /// How many fields the other side knows.
    pub fn known(&self) -> usize {
        self.known.len()
    }

    /// Writes a head.
    pub fn encode(&mut self, fields: &[Field], out: &mut Vec<u8>) {
        if mem::take(&mut self.must_say_so) {
            integer(out, 0x20, 5, 0);
        }
        for (name, value) in fields {
            self.field(name, value, out);
        }
    }

    fn field(&mut self, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        if let Some(index) = STATIC.iter().position(|&(n, v)| (n, v) == (name, value)) {
            return indexed(index + 1, out);
        }
        let known = self.known.iter().rev().position(|(n, v)| (&**n, &**v) == (name, value));
        if let Some(place) = known {
            return indexed(STATIC.len() + 1 + place, out);
        }
        let size = self.size + name.len() + value.len() + 32;
        let is_kept = !self.is_literal && size <= TABLE_BYTES_MAX;
        if !is_kept {
            return literal(name, value, out);
        }
        remembered(name, value, out);
        self.size = size;
        self.known.push((name.into(), value.into()));
    }
}

/// Writes a field that nobody is to remember.
pub fn literal(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    write(0, 4, (name, value), out);
}

/// Writes a field that the other side is to remember.
pub fn remembered(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    write(0x40, 6, (name, value), out);
}

/// Writes the field that has this index.
pub(crate) fn indexed(index: usize, out: &mut Vec<u8>) {
    integer(out, 0x80, 7, index);
}

/// Writes a field without Huffman codes, its name by its index if it has one.
fn write(mark: u8, bits: u32, (name, value): (&[u8], &[u8]), out: &mut Vec<u8>) {
    let name_index = STATIC.iter().position(|&(n, _)| n == name).map_or(0, |place| place + 1);
    integer(out, mark, bits, name_index);
    if name_index == 0 {
        integer(out, 0, 7, name.len());
        out.extend_from_slice(name);
    }
    integer(out, 0, 7, value.len());
    out.extend_from_slice(value);
}

/// Writes an integer behind some bits of a mark.
pub(super) fn integer(out: &mut Vec<u8>, mark: u8, bits: u32, number: usize) {
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

/// Bytes of the table that all allow who say nothing.
const TABLE_BYTES_MAX: usize = super::TABLE_BYTES;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hpack::Decoder;

    fn fields() -> Vec<Field> {
        [(":method", "POST"), (":path", "/a/B"), ("te", "trailers")]
            .map(|(name, value)| (name.as_bytes().into(), value.as_bytes().into()))
            .into()
    }

    fn read(block: &[u8]) -> Vec<Field> {
        let mut read = Vec::new();
        let see = |field: super::super::Seen<'_>| {
            read.push((field.name.into(), field.value.into()));
            true
        };
        Decoder::new(4096).decode(block, see).unwrap();
        read
    }

    #[test]
    fn a_head_is_literal_once_and_then_short() {
        let (mut encoder, mut first, mut second) = (Encoder::default(), Vec::new(), Vec::new());
        encoder.encode(&fields(), &mut first);
        encoder.encode(&fields(), &mut second);
        assert_eq!(first, b"\x83\x44\x04/a/B\x40\x02te\x08trailers");
        assert_eq!(second, [0x83, 0x80 | 63, 0x80 | 62]);
        assert_eq!(read(&[first, second].concat()), [fields(), fields()].concat());
    }

    #[test]
    fn integers_come_back() {
        for bits in [4, 5, 6, 7] {
            for number in [0, 1, 14, 15, 16, 30, 31, 126, 127, 128, 254, 300, 16_384, 2_000_000] {
                let mut out = Vec::new();
                integer(&mut out, 0, bits, number);
                let read = super::super::decoder::integer(&mut out.as_slice(), bits);
                assert_eq!(read, Some(number));
            }
        }
    }

    #[test]
    fn whoever_wants_no_table_gets_literals() {
        let (mut encoder, mut out) = (Encoder::default(), Vec::new());
        encoder.encode(&fields(), &mut out);
        out.clear();
        encoder.allow(0);
        encoder.encode(&fields(), &mut out);
        assert_eq!(out, b"\x20\x83\x04\x04/a/B\x00\x02te\x08trailers");
        assert_eq!(read(&out), fields());
    }
}
