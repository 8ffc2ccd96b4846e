//! Reading heads.
//!
//! The bytes that an entry of the table costs are counted as the RFC says, 32 beside its text, which is about what it
//! costs us. A block of bytes that each repeat a long field is as large as what it repeats: whoever is shown the fields
//! says when that is enough.

use std::collections::VecDeque;

use super::table::{self, STATIC};
use super::{Kind, Seen, huffman};

/// A block cannot be read, and neither can what follows on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It is none.
    Malformed,
    /// Whoever sees the fields has seen enough.
    TooLarge,
}

/// Reads the blocks of one connection, in their order.
///
/// Invariant: the entries count for `bytes`, and that is at most `bytes_max`, which is at most `bytes_allowed`.
#[derive(Debug)]
pub struct Decoder {
    /// The newest entry first.
    entries: VecDeque<Entry>,
    bytes: usize,
    bytes_max: usize,
    bytes_allowed: usize,
}

#[derive(Debug)]
struct Entry {
    /// The name, and behind it the value.
    text: Box<[u8]>,
    name_bytes: usize,
    kind: Kind,
}

impl Decoder {
    /// A decoder whose table may have so many bytes, as the other side was told.
    pub const fn new(bytes_allowed: usize) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, bytes_max: bytes_allowed, bytes_allowed }
    }

    /// Reads a block, and shows it field by field for as long as whoever sees them says that it may go on.
    ///
    /// # Errors
    /// If it is none, or too large. What was seen before may have changed the table.
    pub fn decode(
        &mut self,
        block: &[u8],
        mut see: impl FnMut(Seen<'_>) -> bool,
    ) -> Result<(), Unreadable> {
        let mut is_enough = false;
        let mut see = |seen: Seen<'_>| {
            is_enough = !see(seen);
            (!is_enough).then_some(())
        };
        match self.read(block, &mut see) {
            Some(()) => Ok(()),
            None if is_enough => Err(Unreadable::TooLarge),
            None => Err(Unreadable::Malformed),
        }
    }

    fn read(&mut self, block: &[u8], see: &mut impl FnMut(Seen<'_>) -> Option<()>) -> Option<()> {
        let mut rest = block;
        let mut may_resize = true;
        // The text of a field that is not in a table.
        let mut text = Vec::new();
        while let Some(&first) = rest.first() {
            if first & 0x80 != 0 {
                let index = integer(&mut rest, 7)?;
                see(self.entry(index)?)?;
            } else if first & 0xe0 == 0x20 {
                // Only before the first field (RFC 7541, section 4.2).
                let bytes_max = integer(&mut rest, 5)?;
                if !may_resize || bytes_max > self.bytes_allowed {
                    return None;
                }
                self.bytes_max = bytes_max;
                self.make_room(0);
                continue;
            } else {
                let is_kept = first & 0x40 != 0;
                let index = integer(&mut rest, if is_kept { 6 } else { 4 })?;
                text.clear();
                let named = match index {
                    0 => {
                        take_text(&mut rest, &mut text)?;
                        None
                    }
                    index => {
                        let Seen { name, kind, .. } = self.entry(index)?;
                        text.extend_from_slice(name);
                        Some(kind)
                    }
                };
                let name_bytes = text.len();
                take_text(&mut rest, &mut text)?;
                let (name, value) = text.split_at(name_bytes);
                let kind = match named {
                    Some(kind) if value.iter().all(|&byte| super::is_of_value(byte)) => kind,
                    Some(_) => Kind::Malformed,
                    None => Kind::of(name, value),
                };
                see(Seen { name, value, kind })?;
                if is_kept {
                    self.keep(&text, name_bytes, kind);
                }
            }
            may_resize = false;
        }
        Some(())
    }

    /// The entry with an index, of both tables.
    fn entry(&self, index: usize) -> Option<Seen<'_>> {
        if let Some(place) = index.checked_sub(STATIC.len() + 1) {
            let Entry { text, name_bytes, kind } = self.entries.get(place)?;
            let (name, value) = text.split_at(*name_bytes);
            return Some(Seen { name, value, kind: *kind });
        }
        let (name, value, kind) = table::entry(index)?;
        Some(Seen { name, value, kind })
    }

    fn keep(&mut self, text: &[u8], name_bytes: usize, kind: Kind) {
        let bytes = text.len() + ENTRY_BYTES;
        self.make_room(bytes);
        // What is larger than the table empties it (RFC 7541, section 4.4).
        if bytes <= self.bytes_max {
            self.bytes += bytes;
            self.entries.push_front(Entry { text: text.into(), name_bytes, kind });
        }
    }

    /// Removes the oldest entries, until there is room.
    fn make_room(&mut self, bytes: usize) {
        while self.bytes + bytes > self.bytes_max {
            let Some(oldest) = self.entries.pop_back() else { return };
            self.bytes -= oldest.text.len() + ENTRY_BYTES;
        }
    }
}

/// Takes a text off the beginning, to the end of `text`.
fn take_text(rest: &mut &[u8], text: &mut Vec<u8>) -> Option<()> {
    let is_coded = rest.first()? & 0x80 != 0;
    let length = integer(rest, 7)?;
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    if is_coded {
        return huffman::decode(bytes, text);
    }
    text.extend_from_slice(bytes);
    Some(())
}

/// Takes an integer off the beginning, which has `bits` bits of the first byte.
pub(super) fn integer(rest: &mut &[u8], bits: u32) -> Option<usize> {
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

/// What an entry counts for beside its text (RFC 7541, section 4.1).
const ENTRY_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    /// What a connection's blocks, in hexadecimal, say one after the other, and what is in the table in the end.
    fn read(bytes_max: usize, blocks: &[&str]) -> (Vec<String>, usize) {
        let mut decoder = Decoder::new(bytes_max);
        let read = blocks.iter().map(|block| {
            let digits: Vec<u8> = block.bytes().filter(|byte| *byte != b' ').collect();
            let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
            let block: Vec<u8> = digits.chunks(2).map(byte).collect();
            let mut text = Vec::new();
            let see = |seen: Seen<'_>| {
                text.push(format!("{}={}", seen.name.escape_ascii(), seen.value.escape_ascii()));
                true
            };
            decoder.decode(&block, see).map_or_else(|why| format!("{why:?}"), |()| text.join(" "))
        });
        (read.collect(), decoder.bytes)
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        // RFC 7541, appendix C.2.
        for (block, expected, bytes) in [
            (
                "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
                "custom-key=custom-header",
                55,
            ),
            ("040c 2f73 616d 706c 652f 7061 7468", ":path=/sample/path", 0),
            ("1008 7061 7373 776f 7264 0673 6563 7265 74", "password=secret", 0),
            ("82", ":method=GET", 0),
        ] {
            assert_eq!(read(4096, &[block]), (vec![expected.to_owned()], bytes));
        }
        // C.3 and C.4.
        let plain = [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ];
        let coded = [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ];
        let requests = [
            ":method=GET :scheme=http :path=/ :authority=www.example.com",
            ":method=GET :scheme=http :path=/ :authority=www.example.com cache-control=no-cache",
            ":method=GET :scheme=https :path=/index.html :authority=www.example.com \
             custom-key=custom-value",
        ];
        let requests = requests.map(str::to_owned).to_vec();
        assert_eq!(read(4096, &plain), (requests.clone(), 164));
        assert_eq!(read(4096, &coded), (requests, 164));
        // C.5 and C.6: entries leave a table of 256 bytes.
        let plain = [
            "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 \
             303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 \
             6f6d",
            "4803 3330 37c1 c0bf",
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 \
             5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 \
             5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
        ];
        let coded = [
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b \
             ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
            "4883 640e ffc1 c0bf",
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad \
             94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 \
             65c0 03ed 4ee5 b106 3d50 07",
        ];
        let private = "cache-control=private date=Mon, 21 Oct 2013 20:13:21 GMT \
                       location=https://www.example.com";
        let answers = vec![
            format!(":status=302 {private}"),
            format!(":status=307 {private}"),
            ":status=200 cache-control=private date=Mon, 21 Oct 2013 20:13:22 GMT \
             location=https://www.example.com content-encoding=gzip \
             set-cookie=foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"
                .to_owned(),
        ];
        assert_eq!(read(256, &plain), (answers.clone(), 215));
        assert_eq!(read(256, &coded), (answers, 215));
    }

    #[test]
    fn what_is_no_block_is_refused() {
        for (why, block) in [
            ("no entry has index 0", "80"),
            ("nor this one", "be"),
            ("a text ends early", "00 05 61 62"),
            ("so does a field", "40"),
            ("and an integer", "ff"),
            ("an integer does not end", "ff ff ff ff ff ff 00"),
            ("an end mark", "08 84 ff ff ff ff"),
            ("an update after a field", "82 20"),
            ("an update above what was allowed", "3f e2 1f"),
        ] {
            assert_eq!(read(4096, &[block]).0, ["Malformed"], "{why}");
        }
    }

    #[test]
    fn a_table_changes_its_size() {
        let entry = "40 01 61 01 62";
        assert_eq!(read(4096, &[entry, "20", "be"]).0, ["a=b", "", "Malformed"]);
        // 33 bytes are too few for it, 34 are enough; and twice is allowed.
        assert_eq!(read(4096, &["3f 02", entry, "be"]).0, ["", "a=b", "Malformed"]);
        assert_eq!(
            read(4096, &["20 3f 03", entry, "be"]),
            (["", "a=b", "a=b"].map(str::to_owned).to_vec(), 34)
        );
        // What is larger than the table empties it.
        let large = format!("40 01 78 7f 00 {}", "79".repeat(127));
        assert_eq!(read(100, &[entry, &large, "be"]).0[2], "Malformed");
    }

    #[test]
    fn whoever_has_seen_enough_says_so() {
        let mut seen = 0;
        let decoded = Decoder::new(4096).decode(&[0x82; 100], |_| {
            seen += 1;
            seen < 3
        });
        assert_eq!((decoded, seen), (Err(Unreadable::TooLarge), 3));
    }
}
