//! What a message is made of; [`schema`](super::schema) is the table of all of them.

/// The fields of a message, in the order of their declaration.
#[derive(Debug)]
pub struct Message(pub(super) &'static [Field]);

/// A field.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) number: u32,
    pub(super) name: &'static str,
    /// The name in lower camel case, which is understood too.
    pub(super) json_name: &'static str,
    pub(super) kind: Kind,
    pub(super) is_repeated: bool,
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Bool,
    Int64,
    Uint64,
    Uint32,
    String,
    Bytes,
    Enum(&'static Enum),
    Message(&'static Message),
}

/// The names of an enum, with their numbers.
#[derive(Debug)]
pub(super) struct Enum(pub(super) &'static [(&'static str, i32)]);

impl Field {
    /// A field that holds one value.
    pub(super) const fn one(
        number: u32,
        name: &'static str,
        json_name: &'static str,
        kind: Kind,
    ) -> Self {
        Self { number, name, json_name, kind, is_repeated: false }
    }

    /// A field that holds a list.
    pub(super) const fn many(
        number: u32,
        name: &'static str,
        json_name: &'static str,
        kind: Kind,
    ) -> Self {
        Self { number, name, json_name, kind, is_repeated: true }
    }
}

impl Message {
    /// The field with a name, and its place.
    pub(super) fn named(&self, name: &str) -> Option<(usize, &'static Field)> {
        let is_named = |field: &Field| field.name == name || field.json_name == name;
        self.0.iter().enumerate().find(|(_, field)| is_named(field))
    }

    /// The place of the field with a number.
    pub(super) fn place(&self, number: u32) -> Option<usize> {
        self.0.iter().position(|field| field.number == number)
    }
}

impl Enum {
    /// The number of a name.
    pub(super) fn number(&self, name: &str) -> Option<i32> {
        self.0.iter().find(|(found, _)| *found == name).map(|(_, number)| *number)
    }

    /// The name of a number.
    pub(super) fn name(&self, number: i32) -> Option<&'static str> {
        self.0.iter().find(|(_, found)| *found == number).map(|(name, _)| *name)
    }
}
