//! Fields of a protobuf message, one after another, without building it: enough to check an answer in tens of
//! nanoseconds.

use bytes::Bytes;

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, in its own order. Ends early if the message is none.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let tag = varint(&mut self.0)?;
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut self.0)?),
            1 => Value::Bytes(self.take(8)?),
            2 => {
                let length = varint(&mut self.0)?;
                Value::Bytes(self.take(usize::try_from(length).ok()?)?)
            }
            5 => Value::Bytes(self.take(4)?),
            _ => return None,
        };
        Some((tag >> 3, value))
    }
}

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// The last number of this name; 0 if there is none, as protobuf has it.
    pub(crate) fn number(message: &'a [u8], name: u64) -> i64 {
        let found = Self(message).filter(|(field, _)| *field == name).last();
        match found {
            Some((_, Value::Number(number))) => number.cast_signed(),
            _ => 0,
        }
    }

    /// The first bytes of this name.
    pub(crate) fn bytes(message: &'a [u8], name: u64) -> Option<&'a [u8]> {
        Self::all(message, name).next()
    }

    /// All bytes of this name.
    pub(crate) fn all(message: &'a [u8], name: u64) -> impl Iterator<Item = &'a [u8]> {
        Self(message).filter_map(move |(field, value)| match value {
            Value::Bytes(bytes) if field == name => Some(bytes),
            Value::Number(_) | Value::Bytes(_) => None,
        })
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for (place, &byte) in bytes.iter().enumerate().take(10) {
        number |= u64::from(byte & 127) << (place * 7);
        if byte < 128 {
            *bytes = &bytes[place + 1..];
            return Some(number);
        }
    }
    None
}

/// The revision in the header of an answer: field 3 of field 1, in all of etcd's answers. 0 if it has none.
pub(crate) fn revision(answer: &[u8]) -> i64 {
    Fields::bytes(answer, 1).map_or(0, |header| Fields::number(header, 3))
}

/// The name of a key: a prefix, and a number with as many digits as fit in `bytes`, or as it needs.
pub(crate) fn key(prefix: &str, number: u64, bytes: usize) -> Bytes {
    let digits = bytes.saturating_sub(prefix.len());
    Bytes::from(format!("{prefix}{number:0digits$}"))
}

/// The first key behind all that begin with this.
pub(crate) fn end_of(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Bytes::from(end);
        }
    }
    Bytes::from_static(&[0])
}

#[cfg(test)]
mod tests {
    use cairn_engine::api::etcdserverpb::{PutResponse, RangeResponse, ResponseHeader};
    use cairn_engine::api::mvccpb::KeyValue;
    use prost::Message as _;

    use super::*;

    #[test]
    fn what_prost_writes_is_found() {
        let header =
            ResponseHeader { revision: 1 << 40, member_id: 7, ..ResponseHeader::default() };
        let kv = |key: &'static str| KeyValue { key: key.into(), ..KeyValue::default() };
        let range = RangeResponse {
            header: Some(header),
            kvs: vec![kv("a"), kv("bb")],
            more: true,
            count: 300,
        };
        let range = range.encode_to_vec();
        assert_eq!(revision(&range), 1 << 40);
        assert_eq!((Fields::number(&range, 3), Fields::number(&range, 4)), (1, 300));
        let keys: Vec<_> = Fields::all(&range, 2).filter_map(|kv| Fields::bytes(kv, 1)).collect();
        assert_eq!(keys, [&b"a"[..], b"bb"]);
        let put = PutResponse { header: Some(header), prev_kv: None }.encode_to_vec();
        assert_eq!(revision(&put), 1 << 40);
    }

    #[test]
    fn what_is_no_message_ends() {
        for bytes in [
            &b"\x0a\x05ab"[..],
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x0b",
            b"\x09\x01",
        ] {
            assert_eq!(Fields(bytes).count(), 0);
        }
        assert_eq!(revision(b"garbage"), 0);
    }

    #[test]
    fn keys_have_the_length_that_is_asked_for() {
        assert_eq!(&*key("k", 42, 8), b"k0000042");
        assert_eq!(&*key("prefix", 123, 4), b"prefix123");
        assert_eq!(&*end_of(b"ab"), b"ac");
        assert_eq!(&*end_of(b"a\xff"), b"b");
        assert_eq!(&*end_of(b"\xff"), b"\0");
    }
}
