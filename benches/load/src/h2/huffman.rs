//! Huffman codes of HPACK (RFC 7541, appendix B), to read what servers say.
//!
//! The code is canonical: codes of one length are consecutive numbers in the order of their bytes. So the lengths say
//! all, and a decoder needs for each length the first code and where its bytes begin.

/// Bits of the code for each byte. The end mark has thirty, and is the last of those.
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// The longest code.
const BITS_MAX: usize = 30;

/// Codes of one length.
#[derive(Clone, Copy, Debug, Default)]
struct Length {
    /// The first code.
    first: u32,
    /// How many there are.
    count: u32,
    /// Where their bytes begin in [`Decoder::bytes`].
    from: u32,
}

/// What decodes. Making it costs microseconds, so a connection keeps one.
#[derive(Debug)]
pub(crate) struct Decoder {
    lengths: [Length; BITS_MAX + 1],
    /// All bytes, by length of their codes and then by value.
    bytes: Vec<u8>,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        let mut bytes: Vec<u8> = (0..=255).collect();
        bytes.sort_by_key(|&byte| LENGTHS[usize::from(byte)]);
        let mut lengths = [Length::default(); BITS_MAX + 1];
        for &length in &LENGTHS {
            lengths[usize::from(length)].count += 1;
        }
        let (mut code, mut from) = (0, 0);
        for length in &mut lengths[1..] {
            code <<= 1;
            (length.first, length.from) = (code, from);
            code += length.count;
            from += length.count;
        }
        Self { lengths, bytes }
    }

    /// Decodes a string; `None` if it is none.
    pub(crate) fn decode(&self, coded: &[u8]) -> Option<Vec<u8>> {
        let mut text = Vec::with_capacity(coded.len() * 2);
        let (mut code, mut bits) = (0_u32, 0_usize);
        for byte in coded {
            for shift in (0..8).rev() {
                code = code << 1 | u32::from(byte >> shift & 1);
                bits += 1;
                let length = self.lengths.get(bits)?;
                if let Some(place) = code.checked_sub(length.first)
                    && place < length.count
                {
                    text.push(self.bytes[(length.from + place) as usize]);
                    (code, bits) = (0, 0);
                }
            }
        }
        // What is left is padding: fewer than eight bits, the beginning of the end mark.
        (bits < 8 && code == (1 << bits) - 1).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_the_rfc_are_read() {
        let decoder = Decoder::new();
        let decoded = |coded: &[u8]| decoder.decode(coded);
        // RFC 7541, C.4.1 and C.6.1.
        let www = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decoded(&www).as_deref(), Some(&b"www.example.com"[..]));
        assert_eq!(decoded(&[0x64, 0x02]).as_deref(), Some(&b"302"[..]));
        assert_eq!(decoded(&[]).as_deref(), Some(&b""[..]));
    }

    #[test]
    fn padding_that_is_none_is_refused() {
        let decoder = Decoder::new();
        assert_eq!(decoder.decode(&[0xff; 4]), None, "the end mark");
        assert_eq!(decoder.decode(&[0x64, 0x02, 0xff]), None, "a byte of padding");
        assert_eq!(decoder.decode(&[0x00]), None, "zeros");
    }
}
