//! The head of a request: its fields, and whether they make one.

use crate::hpack::{Kind, Seen};
use crate::wide;

/// The head of a request. One is used for many, one after the other.
#[derive(Debug, Default)]
pub struct Head {
    /// The text of all fields, name and value, one after the other.
    text: Vec<u8>,
    fields: Vec<Place>,
    method: Option<u32>,
    path: Option<u32>,
    scheme: Option<u32>,
    authority: Option<u32>,
    /// Bytes of body that are announced.
    pub(super) announced: Option<u64>,
    /// Bytes of all fields as the RFC counts them, whether they are kept or not.
    bytes: usize,
    bytes_max: usize,
    has_plain: bool,
    is_malformed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    from: u32,
    name_bytes: u32,
    value_bytes: u32,
}

/// What is wrong with a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is no head.
    Malformed,
    /// It is longer than we take.
    TooLarge,
}

impl Head {
    /// Its method.
    pub fn method(&self) -> &[u8] {
        self.value(self.method)
    }

    /// Its path and query; empty for `CONNECT`.
    pub fn path(&self) -> &[u8] {
        self.value(self.path)
    }

    /// Its scheme; empty for `CONNECT`.
    pub fn scheme(&self) -> &[u8] {
        self.value(self.scheme)
    }

    /// Whom it is for; empty if it does not say.
    pub fn authority(&self) -> &[u8] {
        self.value(self.authority)
    }

    /// The value of the first field with this name, in small letters. Looks at all fields.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.fields().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// All fields, those of HTTP/2 itself too.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|place| {
            let text = &self.text[wide(place.from)..];
            text[..wide(place.name_bytes + place.value_bytes)].split_at(wide(place.name_bytes))
        })
    }

    fn value(&self, place: Option<u32>) -> &[u8] {
        let place = place.map(|place| self.fields[wide(place)]);
        place.map_or(&[], |place| {
            let from = wide(place.from + place.name_bytes);
            &self.text[from..from + wide(place.value_bytes)]
        })
    }

    /// Forgets everything, and begins with a head of so many bytes at most.
    pub(super) fn clear(&mut self, bytes_max: usize) {
        let (mut text, mut fields) =
            (core::mem::take(&mut self.text), core::mem::take(&mut self.fields));
        text.clear();
        fields.clear();
        *self = Self { text, fields, bytes_max, ..Self::default() };
    }

    /// Takes a field; whether more may follow.
    pub(super) fn take(&mut self, field: Seen<'_>) -> bool {
        let Seen { name, value, kind } = field;
        self.bytes += name.len() + value.len() + FIELD_BYTES;
        if self.bytes > self.bytes_max {
            // What cannot be kept is read all the same, or the next head could not be. But not for ever.
            return self.bytes <= self.bytes_max * 4;
        }
        let number = u32::try_from(self.fields.len()).expect("heads are short");
        let pseudo = match kind {
            Kind::Method => Some(&mut self.method),
            Kind::Path => Some(&mut self.path),
            Kind::Scheme => Some(&mut self.scheme),
            Kind::Authority => Some(&mut self.authority),
            Kind::ContentLength => {
                let announced = length(value);
                self.is_malformed |= announced.is_none()
                    || self.announced.is_some_and(|other| Some(other) != announced);
                self.announced = announced;
                None
            }
            Kind::Te => {
                self.is_malformed |= !value.eq_ignore_ascii_case(b"trailers");
                None
            }
            Kind::Status | Kind::Connection | Kind::Malformed => {
                self.is_malformed = true;
                None
            }
            Kind::Plain => None,
        };
        match pseudo {
            Some(place) => {
                // Each once, and before all others (RFC 9113, section 8.3).
                self.is_malformed |= place.replace(number).is_some() || self.has_plain;
            }
            None => self.has_plain = true,
        }
        let count = |bytes: usize| u32::try_from(bytes).expect("heads are short");
        let (from, name_bytes, value_bytes) =
            (count(self.text.len()), count(name.len()), count(value.len()));
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(value);
        self.fields.push(Place { from, name_bytes, value_bytes });
        true
    }

    /// Whether it is one.
    pub(super) fn check(&self) -> Result<(), Fault> {
        if self.bytes > self.bytes_max {
            return Err(Fault::TooLarge);
        }
        let is_whole = if self.method() == b"CONNECT" {
            self.path.is_none() && self.scheme.is_none() && self.authority.is_some()
        } else {
            self.method.is_some() && self.scheme.is_some() && !self.path().is_empty()
        };
        if self.is_malformed || !is_whole { Err(Fault::Malformed) } else { Ok(()) }
    }

    /// Whether it can be what follows a body.
    pub(super) fn check_trailers(&self) -> Result<(), Fault> {
        let pseudo = [self.method, self.path, self.scheme, self.authority];
        if self.is_malformed || pseudo.iter().any(Option::is_some) {
            return Err(Fault::Malformed);
        }
        Ok(())
    }
}

/// Reads a length.
fn length(value: &[u8]) -> Option<u64> {
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    is_number.then(|| core::str::from_utf8(value).ok()?.parse().ok()).flatten()
}

/// What a field counts for beside its text (RFC 9113, section 6.5.2).
const FIELD_BYTES: usize = 32;
