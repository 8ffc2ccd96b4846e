//! How a call ends: gRPC's code and text, as fields of HTTP/2.

use core::fmt::Write as _;
use std::borrow::Cow;

use cairn_engine::api::{Code, Error};
use cairn_http2::server::Fields;

use super::method::{self, Method};

/// The end of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What kind of end.
    pub code: Code,
    /// What clients are told, and compare.
    pub message: Cow<'static, str>,
}

impl Status {
    /// All is well.
    pub const OK: Self = Self { code: Code::Ok, message: Cow::Borrowed("") };

    /// An end with a text.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into() }
    }

    /// There is no such method here.
    pub fn unimplemented(path: &str) -> Self {
        let message = match path.trim_start_matches('/').rsplit_once('/') {
            Some((service, method)) if method::is_service(service) => {
                format!("unknown method {method} for service {service}")
            }
            Some((service, _)) => format!("unknown service {service}"),
            None => format!("malformed method name: {path:?}"),
        };
        Self::new(Code::Unimplemented, message)
    }

    /// The method is etcd's, but this version does not serve it.
    pub fn unserved(method: Method) -> Self {
        let row = method.row();
        Self::unimplemented(&format!("/{}/{}", row.service, row.name))
    }

    /// Shows what says so in HTTP/2: trailers, or fields of a head.
    pub(super) fn as_fields<T>(&self, show: impl FnOnce(Fields<'_>) -> T) -> T {
        let code = self.code.number().to_string();
        let message = encode_message(&self.message);
        let fields: [(&[u8], &[u8]); 2] =
            [(b"grpc-status", code.as_bytes()), (b"grpc-message", message.as_bytes())];
        show(if message.is_empty() { &fields[..1] } else { &fields })
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self::new(error.code(), error.message())
    }
}

/// Percent-encodes what HTTP headers cannot carry (gRPC over HTTP2, "Percent-Encoded").
fn encode_message(message: &str) -> Cow<'_, str> {
    let plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'%';
    if message.bytes().all(plain) {
        return Cow::Borrowed(message);
    }
    let mut encoded = String::with_capacity(message.len() + 16);
    for byte in message.bytes() {
        if plain(byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("strings grow");
        }
    }
    Cow::Owned(encoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(status: &Status) -> Vec<String> {
        status.as_fields(|fields| {
            let text = |(name, value): &(&[u8], &[u8])| {
                format!("{}={}", name.escape_ascii(), value.escape_ascii())
            };
            fields.iter().map(text).collect()
        })
    }

    #[test]
    fn a_status_is_told_in_fields() {
        let message = "grpc-message=etcdserver: mvcc: required revision has been compacted";
        assert_eq!(fields(&Status::from(Error::Compacted)), ["grpc-status=11", message]);
        assert_eq!(fields(&Status::OK), ["grpc-status=0"]);
    }

    #[test]
    fn texts_are_percent_encoded() {
        let status = Status::new(Code::Unknown, "50% ü\n");
        assert_eq!(fields(&status)[1], "grpc-message=50%25 %C3%BC%0A");
    }

    #[test]
    fn unknown_methods_and_services_are_named() {
        assert_eq!(
            Status::unimplemented("/etcdserverpb.KV/Steal").message,
            "unknown method Steal for service etcdserverpb.KV"
        );
        assert_eq!(
            Status::unimplemented("/etcdserverpb.Kv/Range").message,
            "unknown service etcdserverpb.Kv"
        );
        assert_eq!(Status::unimplemented("/").message, "malformed method name: \"/\"");
    }
}
