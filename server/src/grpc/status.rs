//! How a call ends: gRPC's code and text, as HTTP/2 headers.

use core::fmt::Write as _;
use std::borrow::Cow;

use cairn_engine::api::{Code, Error};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

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

    /// The trailers that say so.
    pub fn trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::with_capacity(2);
        self.append_to(&mut trailers);
        trailers
    }

    /// The response that says so at once, without a message.
    pub fn response(&self) -> Response<()> {
        let mut response = response_head();
        self.append_to(response.headers_mut());
        response
    }

    fn append_to(&self, headers: &mut HeaderMap) {
        headers.insert("grpc-status", HeaderValue::from(u16::from(self.code.number())));
        if !self.message.is_empty() {
            headers.insert("grpc-message", encode_message(&self.message));
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self::new(error.code(), error.message())
    }
}

/// The head of every response.
pub fn response_head() -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::OK;
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// Percent-encodes what HTTP headers cannot carry (gRPC over HTTP2, "Percent-Encoded").
fn encode_message(message: &str) -> HeaderValue {
    let plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'%';
    if message.bytes().all(plain) {
        return HeaderValue::from_str(message).expect("printable ASCII");
    }
    let mut encoded = String::with_capacity(message.len() + 16);
    for byte in message.bytes() {
        if plain(byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("strings grow");
        }
    }
    HeaderValue::from_str(&encoded).expect("printable ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_told_in_trailers() {
        let trailers = Status::from(Error::Compacted).trailers();
        assert_eq!(trailers["grpc-status"], "11");
        assert_eq!(
            trailers["grpc-message"],
            "etcdserver: mvcc: required revision has been compacted"
        );
        assert_eq!(Status::OK.trailers()["grpc-status"], "0");
        assert!(!Status::OK.trailers().contains_key("grpc-message"));
    }

    #[test]
    fn texts_are_percent_encoded() {
        let status = Status::new(Code::Unknown, "50% ü\n");
        assert_eq!(status.trailers()["grpc-message"], "50%25 %C3%BC%0A");
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
