//! Lines for people (`word name=value …`) and for programs (a JSON object each), from one description.

use std::io::{self, Write};

use serde_json::{Map, Value};

/// Something found in a log.
#[derive(Debug)]
pub(super) struct Line {
    what: &'static str,
    /// How far it is indented: a record is in a batch is in a segment.
    depth: usize,
    fields: Vec<(&'static str, Value)>,
}

/// How lines look.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Line {
    /// A line without fields.
    pub(super) const fn new(what: &'static str, depth: usize) -> Self {
        Self { what, depth, fields: Vec::new() }
    }

    /// Adds a field.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// Adds a number that is a name: in hexadecimal, as everywhere.
    pub(super) fn with_hex(self, name: &'static str, value: u64) -> Self {
        self.with(name, format!("{value:016x}"))
    }

    /// Writes it.
    pub(super) fn write(self, form: Form, out: &mut impl Write) -> io::Result<()> {
        match form {
            Form::Text => {
                write!(out, "{:1$}{2}", "", self.depth * 2, self.what)?;
                for (name, value) in &self.fields {
                    match value.as_str() {
                        Some(text) => write!(out, " {name}={text}")?,
                        None => write!(out, " {name}={value}")?,
                    }
                }
                writeln!(out)
            }
            Form::Json => {
                let what = ("what".to_owned(), Value::from(self.what));
                let fields = self.fields.into_iter().map(|(name, value)| (name.to_owned(), value));
                let object: Map<String, Value> = [what].into_iter().chain(fields).collect();
                writeln!(out, "{}", Value::Object(object))
            }
        }
    }
}
