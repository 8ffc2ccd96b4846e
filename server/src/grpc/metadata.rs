//! What comes with a call, whoever carries it: fields with a name in small letters.

use cairn_http2::server::Head;
use http::HeaderMap;

/// The metadata of a call.
pub trait Metadata {
    /// The first value of a field.
    fn value(&self, name: &str) -> Option<&[u8]>;

    /// The same, if it is text; an empty one counts as text.
    fn text(&self, name: &str) -> Option<&str> {
        let value = self.value(name).filter(|value| value.is_ascii())?;
        core::str::from_utf8(value).ok()
    }
}

impl Metadata for HeaderMap {
    fn value(&self, name: &str) -> Option<&[u8]> {
        self.get(name).map(http::HeaderValue::as_bytes)
    }
}

impl Metadata for Head {
    fn value(&self, name: &str) -> Option<&[u8]> {
        self.get(name.as_bytes())
    }
}
