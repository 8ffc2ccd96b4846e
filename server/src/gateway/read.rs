//! From JSON to a message in wire form as Go's `protojson` reads it when it discards what it does not know.
//!
//! Nothing is built in between: each value is appended to the message as it is read. Zeros that were written down are
//! written down again, because in a oneof they mean something.
//!
//! Limits: JSON nests at most 127 deep, where Go's takes 10,000; the deepest transaction that is allowed fits. Of
//! several fields of one oneof the last counts; Go refuses them.

use core::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use prost::encoding::{WireType, encode_key, encode_varint};
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Unexpected,
    Visitor,
};

use super::descriptor::{Field, Kind, Message};

/// Reads one message; what follows it does not matter.
///
/// # Errors
/// If it is no JSON, or what it says of a field is no value of it. The text is for people.
pub fn read(message: &'static Message, json: &[u8]) -> Result<Vec<u8>, String> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let read = Whole(message).deserialize(&mut reader);
    let read = read.map_err(|error| format!("proto: {error}"))?;
    // What is discarded was not looked at.
    if core::str::from_utf8(&json[..reader.into_iter::<IgnoredAny>().byte_offset()]).is_err() {
        return Err("proto: syntax error: invalid UTF-8 in string".to_owned());
    }
    Ok(read)
}

/// Reads a message.
struct Whole(&'static Message);

impl<'de> DeserializeSeed<'de> for Whole {
    type Value = Vec<u8>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Vec<u8>, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Whole {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<u8>, A::Error> {
        let mut out = Vec::new();
        let mut seen: u64 = 0;
        while let Some(name) = map.next_key_seed(Name)? {
            let Some((place, field)) = self.0.named(&name) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if seen & (1 << place) != 0 {
                return Err(A::Error::custom(format_args!("duplicate field {name:?}")));
            }
            seen |= 1 << place;
            map.next_value_seed(Values { field, out: &mut out })?;
        }
        Ok(out)
    }
}

/// Reads the name of a field, without copying it unless it has escapes.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = std::borrow::Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = std::borrow::Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(name.into())
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(name.to_owned().into())
    }
}

/// Appends what a field holds: a value, a list of them, or nothing.
struct Values<'a> {
    field: &'static Field,
    out: &'a mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Values<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        if self.field.is_repeated {
            json.deserialize_any(self)
        } else {
            json.deserialize_any(Value { field: self.field, out: self.out, may_be_null: true })
        }
    }
}

impl<'de> Visitor<'de> for Values<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list for field {}", self.field.name)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self { field, out } = self;
        while list.next_element_seed(Value { field, out, may_be_null: false })?.is_some() {}
        Ok(())
    }
}

/// Appends one value.
struct Value<'a> {
    field: &'static Field,
    out: &'a mut Vec<u8>,
    may_be_null: bool,
}

impl Value<'_> {
    fn varint(self, value: u64) {
        encode_key(self.field.number, WireType::Varint, self.out);
        encode_varint(value, self.out);
    }

    fn delimited(self, bytes: &[u8]) {
        encode_key(self.field.number, WireType::LengthDelimited, self.out);
        encode_varint(u64::try_from(bytes.len()).expect("64 bits"), self.out);
        self.out.extend_from_slice(bytes);
    }

    /// A number, however it was written; `None`: it is none that the field can hold.
    fn number(self, text: &str) -> Option<()> {
        let value = match self.field.kind {
            Kind::Int64 => text.parse::<i64>().ok()?.cast_unsigned(),
            Kind::Uint64 => text.parse().ok()?,
            Kind::Uint32 => text.parse::<u32>().ok()?.into(),
            // On the wire, enums are signed and have 64 bits.
            Kind::Enum(_) => i64::from(text.parse::<i32>().ok()?).cast_unsigned(),
            Kind::Bool | Kind::String | Kind::Bytes | Kind::Message(_) => return None,
        };
        self.varint(value);
        Some(())
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.field.kind {
            Kind::Bool => "bool",
            Kind::Int64 => "int64",
            Kind::Uint64 => "uint64",
            Kind::Uint32 => "uint32",
            Kind::String => "string",
            Kind::Bytes => "bytes",
            Kind::Enum(_) => "enum",
            Kind::Message(_) => "message",
        };
        write!(f, "a value for {kind} field {}", self.field.name)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        if self.may_be_null { Ok(()) } else { Err(E::invalid_type(Unexpected::Unit, &self)) }
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        let Kind::Bool = self.field.kind else {
            return Err(E::invalid_type(Unexpected::Bool(value), &self));
        };
        self.varint(u64::from(value));
        Ok(())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        let refused = E::invalid_value(Unexpected::Unsigned(value), &self);
        self.number(&value.to_string()).ok_or(refused)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        let refused = E::invalid_value(Unexpected::Signed(value), &self);
        self.number(&value.to_string()).ok_or(refused)
    }

    /// `1e2` is a whole number; its digits are written out to see that.
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        let refused = E::invalid_value(Unexpected::Float(value), &self);
        self.number(&value.to_string()).ok_or(refused)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        let refused = E::invalid_value(Unexpected::Str(text), &self);
        match self.field.kind {
            Kind::String => {
                self.delimited(text.as_bytes());
                Ok(())
            }
            Kind::Bytes => {
                let engine = if text.contains(['-', '_']) { URL } else { STANDARD };
                let bytes = engine.decode(text).map_err(|_| refused)?;
                self.delimited(&bytes);
                Ok(())
            }
            Kind::Enum(names) => {
                // A name that nobody knows is discarded like a field that nobody knows.
                if let Some(number) = names.number(text) {
                    self.varint(i64::from(number).cast_unsigned());
                }
                Ok(())
            }
            // In quotes, a number is written as without.
            Kind::Int64 | Kind::Uint64 | Kind::Uint32 => match whole_number(text) {
                Some(number) => self.number(&number).ok_or(refused),
                None => Err(refused),
            },
            Kind::Bool | Kind::Message(_) => Err(refused),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let Kind::Message(message) = self.field.kind else {
            return Err(A::Error::invalid_type(Unexpected::Map, &self));
        };
        let bytes = Whole(message).visit_map(map)?;
        self.delimited(&bytes);
        Ok(())
    }
}

/// The digits of a whole number in JSON, without its exponent.
fn whole_number(text: &str) -> Option<String> {
    if text.contains(|c: char| c.is_ascii_whitespace()) {
        return None;
    }
    let number: serde_json::Number = serde_json::from_str(text).ok()?;
    match (number.as_u64(), number.as_i64()) {
        (None, None) => number.as_f64().map(|number| number.to_string()),
        (Some(number), _) => Some(number.to_string()),
        (None, Some(number)) => Some(number.to_string()),
    }
}

/// Padding as the client likes, and bits that mean nothing, as Go takes them.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

#[cfg(test)]
mod tests {
    use cairn_engine::api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
    use cairn_engine::api::etcdserverpb::request_op::Request;
    use cairn_engine::api::etcdserverpb::watch_request::RequestUnion;
    use cairn_engine::api::etcdserverpb::{
        Compare, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
        WatchCreateRequest, WatchRequest,
    };
    use prost::Message as _;

    use super::super::schema::METHODS;
    use super::*;

    fn of(method: &str) -> &'static Message {
        METHODS.iter().find(|(name, ..)| *name == method).map(|(_, input, _)| *input).unwrap()
    }

    fn range(json: &str) -> Result<RangeRequest, String> {
        let bytes = read(of("etcdserverpb.KV/Range"), json.as_bytes())?;
        Ok(RangeRequest::decode(&*bytes).unwrap())
    }

    fn with(change: impl FnOnce(&mut RangeRequest)) -> Result<RangeRequest, String> {
        let mut request = RangeRequest { key: "foo".into(), ..RangeRequest::default() };
        change(&mut request);
        Ok(request)
    }

    #[test]
    fn fields_are_read_however_they_are_written() {
        for (json, expected) in [
            (r#"{"key":"Zm9v"}"#, with(|_| {})),
            (r#" { "key" : "Zm9v" } trailing"#, with(|_| {})),
            (r#"{"\u006bey":"Zm9v"}"#, with(|_| {})),
            (r#"{"key":"Zm9v","limit":"7"}"#, with(|range| range.limit = 7)),
            (r#"{"key":"Zm9v","limit":-7}"#, with(|range| range.limit = -7)),
            (r#"{"key":"Zm9v","limit":1e2}"#, with(|range| range.limit = 100)),
            (r#"{"key":"Zm9v","limit":7.0}"#, with(|range| range.limit = 7)),
            (r#"{"key":"Zm9v","limit":9223372036854775807}"#, with(|range| range.limit = i64::MAX)),
            (r#"{"key":"Zm9v","keys_only":true}"#, with(|range| range.keys_only = true)),
            (r#"{"key":"Zm9v","keysOnly":true}"#, with(|range| range.keys_only = true)),
            (r#"{"key":"Zm9v","limit":"1e2"}"#, with(|range| range.limit = 100)),
            (r#"{"key":"Zm9v","limit":"5.0"}"#, with(|range| range.limit = 5)),
            (r#"{"key":"Zm9v","sort_order":"DESCEND"}"#, with(|range| range.sort_order = 2)),
            (r#"{"key":"Zm9v","sortOrder":2}"#, with(|range| range.sort_order = 2)),
            (r#"{"key":"Zm9v","sort_order":77}"#, with(|range| range.sort_order = 77)),
            (r#"{"key":"Zm9v","sort_order":"UP"}"#, with(|_| {})),
            (r#"{"key":"Zm9v","range_end":"-_8"}"#, with(|r| r.range_end = vec![251, 255].into())),
            (r#"{"key":"Zm9v","range_end":"+/8="}"#, with(|r| r.range_end = vec![251, 255].into())),
            (r#"{"key":"Zm9v","range_end":"+/8"}"#, with(|r| r.range_end = vec![251, 255].into())),
            (r#"{"key":"Zm9v","range_end":"","limit":null}"#, with(|_| {})),
            (r#"{"key":"Zm9v","unknown":{"key":[1,{"a":null}]}}"#, with(|_| {})),
        ] {
            assert_eq!(range(json), expected, "{json}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for (json, why) in [
            ("", "EOF while parsing"),
            ("null", "invalid type: null, expected a message"),
            ("[]", "invalid type: sequence, expected a message"),
            ("nonsense", "expected ident"),
            (r#"{"key":"#, "EOF while parsing"),
            (r#"{"key":1}"#, "invalid value: integer `1`, expected a value for bytes field key"),
            (r#"{"key":"!!!"}"#, r#"invalid value: string "!!!", expected a value for bytes"#),
            (r#"{"key":"Zm9v","limit":"x"}"#, "expected a value for int64 field limit"),
            (r#"{"key":"Zm9v","limit":" 5"}"#, "expected a value for int64 field limit"),
            (r#"{"key":"Zm9v","limit":"+5"}"#, "expected a value for int64 field limit"),
            (r#"{"key":"Zm9v","limit":1.5}"#, "expected a value for int64 field limit"),
            (r#"{"key":"Zm9v","limit":1e300}"#, "expected a value for int64 field limit"),
            (r#"{"key":"Zm9v","limit":1e999}"#, "number out of range"),
            (r#"{"key":"Zm9v","limit":9223372036854775808}"#, "int64 field limit"),
            (r#"{"key":"Zm9v","limit":{}}"#, "invalid type: map"),
            (r#"{"key":["Zm9v"]}"#, "invalid type: sequence"),
            (r#"{"key":"Zm9v","keys_only":"true"}"#, "expected a value for bool field keys_only"),
            (r#"{"key":"Zm9v","key":"Zm9v"}"#, r#"duplicate field "key""#),
            (r#"{"keysOnly":true,"keys_only":true}"#, r#"duplicate field "keys_only""#),
            (r#"{"key":"\ud800"}"#, "unexpected end of hex escape"),
        ] {
            let error = range(json).unwrap_err();
            assert!(error.contains(why), "{json}: {error}");
        }
    }

    #[test]
    fn what_is_discarded_must_be_text_as_well() {
        let error = read(of("etcdserverpb.KV/Range"), b"{\"nobody\":\"\xff\"}").unwrap_err();
        assert!(error.contains("invalid UTF-8"), "{error}");
        read(of("etcdserverpb.KV/Range"), b"{} \xff").expect("what follows is not read");
    }

    #[test]
    fn zeros_in_a_oneof_are_kept_and_lists_are_read() {
        let json = r#"{"compare":[{"key":"Zm9v","target":"CREATE","create_revision":"0"}],
            "success":[{"request_put":{"key":"Zm9v","value":"YmFy"}},{"requestTxn":{}}],"failure":[]}"#;
        let bytes = read(of("etcdserverpb.KV/Txn"), json.as_bytes()).unwrap();
        let compare = Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Create.into(),
            key: "foo".into(),
            target_union: Some(TargetUnion::CreateRevision(0)),
            ..Compare::default()
        };
        let put = PutRequest { key: "foo".into(), value: "bar".into(), ..PutRequest::default() };
        let op = |request| RequestOp { request: Some(request) };
        let expected = TxnRequest {
            compare: vec![compare],
            success: vec![
                op(Request::RequestPut(put)),
                op(Request::RequestTxn(TxnRequest::default())),
            ],
            failure: Vec::new(),
        };
        assert_eq!(TxnRequest::decode(&*bytes).unwrap(), expected);
        let json =
            r#"{"create_request":{"key":"AA==","filters":["NODELETE",0,"NOPE"],"watch_id":-1}}"#;
        let bytes = read(of("etcdserverpb.Watch/Watch"), json.as_bytes()).unwrap();
        let create = WatchCreateRequest {
            key: vec![0].into(),
            filters: vec![1, 0],
            watch_id: -1,
            ..WatchCreateRequest::default()
        };
        let expected = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        assert_eq!(WatchRequest::decode(&*bytes).unwrap(), expected);
        let bytes = read(of("etcdserverpb.Lease/LeaseGrant"), br#"{"TTL":5,"ID":"-3"}"#).unwrap();
        let expected = LeaseGrantRequest { ttl: 5, id: -3 };
        assert_eq!(LeaseGrantRequest::decode(&*bytes).unwrap(), expected);
    }

    #[test]
    fn the_deepest_transaction_that_is_allowed_can_be_written() {
        let depth = cairn_engine::api::check::TXN_DEPTH_MAX;
        let put = r#"{"success":[{"request_put":{"key":"Zm9v"}}]}"#.to_owned();
        let nested = (0..depth)
            .fold(put, |inner, _| format!(r#"{{"success":[{{"request_txn":{inner}}}]}}"#));
        let bytes = read(of("etcdserverpb.KV/Txn"), nested.as_bytes()).unwrap();
        let request = TxnRequest::decode(&*bytes).unwrap();
        assert_eq!(cairn_engine::api::check::check_txn(&request, 128), Ok(()));
    }
}
