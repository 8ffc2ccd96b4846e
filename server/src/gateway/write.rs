//! From a message in wire form to JSON, as etcd's gateway prints it: names as in the `.proto` file, nothing for what is
//! absent, 64-bit numbers as text, bytes in base64.
//!
//! What is printed was encoded by this process. So a default on the wire is a member of a oneof and means something,
//! and bytes that are no message are a bug.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use std::io::Write as _;

use super::descriptor::{Field, Kind, Message};

/// A value on the wire.
#[derive(Clone, Copy, Debug)]
enum Raw<'a> {
    Varint(u64),
    Delimited(&'a [u8]),
}

/// Appends a message.
///
/// # Panics
/// If the bytes are no message.
pub fn write(message: &Message, bytes: &[u8], out: &mut Vec<u8>) {
    let mut values = split(message, bytes);
    // Fields come in the order of their declaration, whatever their order on the wire.
    values.sort_by_key(|(place, _)| *place);
    out.push(b'{');
    let mut rest = values.as_slice();
    while let Some(&(place, first)) = rest.first() {
        let field = &message.0[place];
        let count = rest.iter().take_while(|(other, _)| *other == place).count();
        let same = &rest[..count];
        rest = &rest[count..];
        if out.last() != Some(&b'{') {
            out.push(b',');
        }
        write!(out, "\"{}\":", field.name).expect(GROWS);
        if field.is_repeated {
            write_list(field, same, out);
        } else {
            write_value(field, same.last().map_or(first, |(_, last)| *last), out);
        }
    }
    out.push(b'}');
}

const GROWS: &str = "memory grows";
const OURS: &str = "what this process has encoded is a message";

/// The values of a message, each with the place of its field.
fn split<'a>(message: &Message, mut bytes: &'a [u8]) -> Vec<(usize, Raw<'a>)> {
    let mut values = Vec::new();
    while !bytes.is_empty() {
        let (number, wire_type) = decode_key(&mut bytes).expect(OURS);
        let value = match wire_type {
            WireType::Varint => Raw::Varint(decode_varint(&mut bytes).expect(OURS)),
            WireType::LengthDelimited => {
                let len = usize::try_from(decode_varint(&mut bytes).expect(OURS)).expect(OURS);
                let (value, rest) = bytes.split_at(len);
                bytes = rest;
                Raw::Delimited(value)
            }
            WireType::SixtyFourBit
            | WireType::StartGroup
            | WireType::EndGroup
            | WireType::ThirtyTwoBit => {
                let context = DecodeContext::default();
                skip_field(wire_type, number, &mut bytes, context).expect(OURS);
                continue;
            }
        };
        if let Some(place) = message.place(number) {
            values.push((place, value));
        }
    }
    values
}

fn write_list(field: &Field, values: &[(usize, Raw<'_>)], out: &mut Vec<u8>) {
    out.push(b'[');
    let mut is_first = true;
    let mut next = |value: Raw<'_>, out: &mut Vec<u8>| {
        if !is_first {
            out.push(b',');
        }
        is_first = false;
        write_value(field, value, out);
    };
    let is_packable = !matches!(field.kind, Kind::String | Kind::Bytes | Kind::Message(_));
    for (_, value) in values {
        match *value {
            Raw::Delimited(mut packed) if is_packable => {
                while !packed.is_empty() {
                    next(Raw::Varint(decode_varint(&mut packed).expect(OURS)), out);
                }
            }
            value @ (Raw::Varint(_) | Raw::Delimited(_)) => next(value, out),
        }
    }
    out.push(b']');
}

fn write_value(field: &Field, value: Raw<'_>, out: &mut Vec<u8>) {
    match (field.kind, value) {
        (Kind::Bool, Raw::Varint(value)) => write!(out, "{}", value != 0).expect(GROWS),
        (Kind::Int64, Raw::Varint(value)) => {
            write!(out, "\"{}\"", value.cast_signed()).expect(GROWS);
        }
        (Kind::Uint64, Raw::Varint(value)) => write!(out, "\"{value}\"").expect(GROWS),
        (Kind::Uint32, Raw::Varint(value)) => write!(out, "{value}").expect(GROWS),
        (Kind::Enum(names), Raw::Varint(value)) => {
            // Of 64 bits, enums use 32.
            let number = i32::try_from(value.cast_signed()).expect(OURS);
            match names.name(number) {
                Some(name) => write!(out, "\"{name}\"").expect(GROWS),
                None => write!(out, "{number}").expect(GROWS),
            }
        }
        (Kind::String, Raw::Delimited(text)) => {
            serde_json::to_writer(out, &String::from_utf8_lossy(text)).expect(GROWS);
        }
        (Kind::Bytes, Raw::Delimited(bytes)) => {
            out.push(b'"');
            let start = out.len();
            out.resize(start + bytes.len().div_ceil(3) * 4, 0);
            let len = STANDARD.encode_slice(bytes, &mut out[start..]).expect("four for each three");
            out.truncate(start + len);
            out.push(b'"');
        }
        (Kind::Message(message), Raw::Delimited(bytes)) => write(message, bytes, out),
        (_, Raw::Varint(_) | Raw::Delimited(_)) => unreachable!("{OURS}"),
    }
}

#[cfg(test)]
mod tests {
    use cairn_engine::api::etcdserverpb::response_op::Response;
    use cairn_engine::api::etcdserverpb::{
        AlarmMember, AlarmResponse, HashKvResponse, LeaseTimeToLiveResponse, PutResponse,
        RangeResponse, ResponseHeader, ResponseOp, TxnResponse, WatchResponse,
    };
    use cairn_engine::api::mvccpb::{Event, KeyValue};

    use super::super::schema::METHODS;
    use super::*;

    fn json(method: &str, message: &impl prost::Message) -> String {
        let found = METHODS.iter().find(|(name, ..)| *name == method);
        let mut out = Vec::new();
        write(found.unwrap().2, &message.encode_to_vec(), &mut out);
        String::from_utf8(out).unwrap()
    }

    fn header() -> Option<ResponseHeader> {
        Some(ResponseHeader { cluster_id: u64::MAX, member_id: 7, revision: -5, raft_term: 2 })
    }

    const HEADER: &str = r#""header":{"cluster_id":"18446744073709551615","member_id":"7","revision":"-5","raft_term":"2"}"#;

    #[test]
    fn messages_are_printed_as_etcd_prints_them() {
        let empty = RangeResponse { header: header(), ..RangeResponse::default() };
        assert_eq!(json("etcdserverpb.KV/Range", &empty), format!("{{{HEADER}}}"));
        let kv = KeyValue {
            key: "foo".into(),
            value: vec![251, 255].into(),
            create_revision: 2,
            mod_revision: 3,
            version: 2,
            lease: 0,
        };
        let range =
            RangeResponse { header: None, kvs: vec![kv.clone(), kv.clone()], more: true, count: 9 };
        let shown = r#"{"key":"Zm9v","create_revision":"2","mod_revision":"3","version":"2","value":"+/8="}"#;
        assert_eq!(
            json("etcdserverpb.KV/Range", &range),
            format!(r#"{{"kvs":[{shown},{shown}],"more":true,"count":"9"}}"#)
        );
        // A member of a oneof is there although it is empty.
        let put = ResponseOp { response: Some(Response::ResponsePut(PutResponse::default())) };
        let txn = TxnResponse { header: None, succeeded: true, responses: vec![put] };
        let expected = r#"{"succeeded":true,"responses":[{"response_put":{}}]}"#;
        assert_eq!(json("etcdserverpb.KV/Txn", &txn), expected);
        let put = Event { r#type: 0, kv: Some(kv), prev_kv: None };
        let delete = Event { r#type: 1, ..Event::default() };
        let watch = WatchResponse {
            watch_id: -1,
            cancel_reason: "\"quoted\" \n ü".to_owned(),
            events: vec![put, delete],
            ..WatchResponse::default()
        };
        assert_eq!(
            json("etcdserverpb.Watch/Watch", &watch),
            format!(
                r#"{{"watch_id":"-1","cancel_reason":"\"quoted\" \n ü","events":[{{"kv":{shown}}},{{"type":"DELETE"}}]}}"#
            )
        );
        let hash =
            HashKvResponse { header: None, hash: u32::MAX, compact_revision: -1, hash_revision: 0 };
        let expected = r#"{"hash":4294967295,"compact_revision":"-1"}"#;
        assert_eq!(json("etcdserverpb.Maintenance/HashKV", &hash), expected);
        let lease = LeaseTimeToLiveResponse {
            header: None,
            id: 7,
            ttl: -1,
            granted_ttl: 0,
            keys: vec!["".into(), "a".into()],
        };
        let expected = r#"{"ID":"7","TTL":"-1","keys":["","YQ=="]}"#;
        assert_eq!(json("etcdserverpb.Lease/LeaseTimeToLive", &lease), expected);
        let alarm = AlarmMember { member_id: 1, alarm: 1 };
        let unknown = AlarmMember { member_id: 0, alarm: 77 };
        let alarms = AlarmResponse { header: None, alarms: vec![alarm, unknown] };
        let expected = r#"{"alarms":[{"memberID":"1","alarm":"NOSPACE"},{"alarm":77}]}"#;
        assert_eq!(json("etcdserverpb.Maintenance/Alarm", &alarms), expected);
    }

    #[test]
    fn fields_are_printed_in_their_order_and_unknown_ones_not() {
        let (_, _, range) = METHODS[0];
        // count, a list packed that is none, an unknown number, more twice, a header.
        let bytes = [0x20, 5, 0xf8, 1, 9, 0xf2, 1, 1, 0, 0x18, 0, 0x18, 1, 0x0a, 0];
        let mut out = Vec::new();
        write(range, &bytes, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), r#"{"header":{},"more":true,"count":"5"}"#);
    }
}
