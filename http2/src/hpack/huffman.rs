//! Huffman codes (RFC 7541, appendix B), to read what others say: what we say ourselves is short.
//!
//! The code is canonical: codes of one length are consecutive numbers in the order of their bytes. So the lengths say
//! all: for each length there is a first code, and where its bytes begin. Codes of up to eight bits, which are those of
//! nearly all that heads are made of, are looked up at once. All tables are made when this is compiled.

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
/// Bits that are looked up at once: the codes of all printable ASCII that texts are made of.
const SHORT_BITS: usize = 8;

/// Codes of one length.
#[derive(Clone, Copy)]
struct Length {
    /// The first code.
    first: u32,
    /// How many there are.
    count: u32,
    /// Where their bytes begin in [`Codes::bytes`].
    from: usize,
}

/// The code, as a decoder needs it.
struct Codes {
    lengths: [Length; BITS_MAX + 1],
    /// All bytes, by length of their codes and then by value.
    bytes: [u8; 256],
    /// For any eight bits: the byte whose code they begin with, and the bits of that; zero: the code is longer.
    short: [(u8, u8); 1 << SHORT_BITS],
}

static CODES: Codes = codes();

#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "there is no other way in const"
)]
const fn codes() -> Codes {
    let mut lengths = [Length { first: 0, count: 0, from: 0 }; BITS_MAX + 1];
    let (mut bytes, mut short) = ([0; 256], [(0, 0); 1 << SHORT_BITS]);
    let (mut code, mut from, mut bits) = (0_u32, 0, 1);
    while bits <= BITS_MAX {
        code <<= 1;
        lengths[bits].first = code;
        lengths[bits].from = from;
        let mut byte = 0;
        while byte < 256 {
            if LENGTHS[byte] as usize == bits {
                bytes[from] = byte as u8;
                let mut rest = 0;
                while bits <= SHORT_BITS && rest < 1 << (SHORT_BITS - bits) {
                    short[((code as usize) << (SHORT_BITS - bits)) + rest] =
                        (byte as u8, bits as u8);
                    rest += 1;
                }
                code += 1;
                from += 1;
                lengths[bits].count += 1;
            }
            byte += 1;
        }
        bits += 1;
    }
    Codes { lengths, bytes, short }
}

/// Decodes a string to the end of `text`; `None` if it is none, and then `text` may have grown.
pub(super) fn decode(coded: &[u8], text: &mut Vec<u8>) -> Option<()> {
    // The next bits stand at the top.
    let (mut window, mut bits, mut coded) = (0_u64, 0_usize, coded.iter());
    loop {
        while bits <= 56
            && let Some(&byte) = coded.next()
        {
            window |= u64::from(byte) << (56 - bits);
            bits += 8;
        }
        let (byte, length) = CODES.short[usize::from(window.to_be_bytes()[0])];
        let (byte, length) = match usize::from(length) {
            0 => match long(window) {
                Some(found) => found,
                None => break,
            },
            length => (byte, length),
        };
        if length > bits {
            break;
        }
        text.push(byte);
        window <<= length;
        bits -= length;
    }
    // What is left is padding: fewer than eight bits, the beginning of the end mark.
    let is_padding = bits < 8 && window == !(u64::MAX.checked_shr(u32::try_from(bits).ok()?)?);
    is_padding.then_some(())
}

/// The byte whose code, of more than [`SHORT_BITS`], these bits begin with.
fn long(window: u64) -> Option<(u8, usize)> {
    (SHORT_BITS + 1..=BITS_MAX).find_map(|bits| {
        let length = &CODES.lengths[bits];
        let code = u32::try_from(window >> (64 - bits)).ok()?;
        let place = code.checked_sub(length.first).filter(|place| *place < length.count)?;
        Some((CODES.bytes[length.from + crate::wide(place)], bits))
    })
}

/// Encodes for tests of the decoder.
#[cfg(test)]
pub(super) fn encode(text: &[u8]) -> Vec<u8> {
    let (mut window, mut bits, mut coded) = (0_u64, 0, Vec::new());
    for byte in text {
        let place = CODES.bytes.iter().position(|other| other == byte).unwrap();
        let length = usize::from(LENGTHS[usize::from(*byte)]);
        let code = CODES.lengths[length].first
            + u32::try_from(place - CODES.lengths[length].from).unwrap();
        window = window << length | u64::from(code);
        bits += length;
        while bits >= 8 {
            bits -= 8;
            coded.push((window >> bits).to_le_bytes()[0]);
        }
    }
    if bits > 0 {
        coded.push((window << (8 - bits) | (0xff >> bits)).to_le_bytes()[0]);
    }
    coded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        decode(coded, &mut text).map(|()| text)
    }

    #[test]
    fn examples_of_the_rfc_are_read() {
        // RFC 7541, C.4.1 and C.6.1.
        let www = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decoded(&www).as_deref(), Some(&b"www.example.com"[..]));
        assert_eq!(encode(b"www.example.com"), www);
        assert_eq!(decoded(&[0x64, 0x02]).as_deref(), Some(&b"302"[..]));
        assert_eq!(decoded(&[]).as_deref(), Some(&b""[..]));
    }

    #[test]
    fn every_byte_comes_back() {
        for first in 0..=255 {
            for second in [first, b'a', 0, 255, b'~'] {
                let text = [first, second, b'x'];
                assert_eq!(decoded(&encode(&text)).as_deref(), Some(&text[..]), "{text:?}");
            }
        }
    }

    #[test]
    fn padding_that_is_none_is_refused() {
        assert_eq!(decoded(&[0xff; 4]), None, "the end mark");
        assert_eq!(decoded(&[0xff; 20]), None, "end marks");
        assert_eq!(decoded(&[0x64, 0x02, 0xff]), None, "a byte of padding");
        assert_eq!(decoded(&[0x00]), None, "zeros");
        // 29 of 30 bits of a code.
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xf0]), None, "half a code");
    }
}
