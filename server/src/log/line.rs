//! How a line looks: as zap writes it for etcd.
//!
//! ```text
//! {"level":"info","ts":"2006-01-02T15:04:05.000000Z","caller":"server/serve.rs:10","msg":"…","a-field":1}
//! 2006-01-02T15:04:05.000000Z<TAB>info<TAB>server/serve.rs:10<TAB>…<TAB>{"a-field": 1}
//! ```
//!
//! A line is one line whatever clients put into it: control characters are escaped in both forms. Values are cut, so
//! that a line has a greatest length and the queue a greatest size.

use core::error::Error;
use core::fmt::{self, Write};

use tracing::field::{Field, Visit};

use crate::log::Strings;
use crate::log::settings::{Format, Level};
use crate::log::time::{InLine, Moment};

/// A line, and how important it is.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) level: Level,
    /// With a line feed at the end, and none before.
    pub(super) text: String,
}

/// Where in the source a line comes from.
pub(super) struct Caller<'a> {
    pub(super) file: &'a str,
    pub(super) line: u32,
}

/// Collects what a line says.
pub(super) struct Draft {
    format: Format,
    message: String,
    /// Names and values with what separates them, without braces.
    fields: String,
}

impl Draft {
    pub(super) fn new(format: Format) -> Self {
        Self { format, message: String::new(), fields: String::new() }
    }

    /// Sets the message.
    pub(super) fn message(mut self, message: &str) -> Self {
        self.message.push_str(message);
        self
    }

    /// Adds a field.
    pub(super) fn field(mut self, name: &str, value: &str) -> Self {
        self.name(name);
        push_quoted(&mut self.fields, value);
        self
    }

    /// Adds a field that is a number.
    pub(super) fn number(mut self, name: &str, value: u64) -> Self {
        self.plain(name, value);
        self
    }

    /// The line.
    pub(super) fn finish(self, level: Level, now: Moment, caller: &Caller<'_>) -> Line {
        let mut text = String::with_capacity(128 + self.message.len() + self.fields.len());
        let written = match self.format {
            Format::Json => self.write_json(&mut text, level, now, caller),
            Format::Console => self.write_console(&mut text, level, now, caller),
        };
        written.expect("writing to a String succeeds");
        Line { level, text }
    }

    fn write_json(
        &self,
        text: &mut String,
        level: Level,
        now: Moment,
        caller: &Caller<'_>,
    ) -> fmt::Result {
        write!(text, r#"{{"level":"{}","ts":"{}","caller":"#, level.name(), InLine(now))?;
        push_quoted(text, &caller.to_string());
        text.push_str(r#","msg":"#);
        push_quoted(text, &self.message);
        if !self.fields.is_empty() {
            text.push(',');
            text.push_str(&self.fields);
        }
        text.push_str("}\n");
        Ok(())
    }

    fn write_console(
        &self,
        text: &mut String,
        level: Level,
        now: Moment,
        caller: &Caller<'_>,
    ) -> fmt::Result {
        write!(text, "{}\t{}\t{caller}\t", InLine(now), level.name())?;
        push_escaped(text, &self.message, "");
        if !self.fields.is_empty() {
            write!(text, "\t{{{}}}", self.fields)?;
        }
        text.push('\n');
        Ok(())
    }

    /// Begins a field. Rust's names have underscores where etcd's have dashes.
    fn name(&mut self, name: &str) {
        let (between, after) = match self.format {
            Format::Json => (",", ":"),
            Format::Console => (", ", ": "),
        };
        if !self.fields.is_empty() {
            self.fields.push_str(between);
        }
        push_quoted(&mut self.fields, &name.replace('_', "-"));
        self.fields.push_str(after);
    }

    /// Adds a field whose value needs no quotes.
    fn plain(&mut self, name: &str, value: impl fmt::Display) {
        self.name(name);
        write!(self.fields, "{value}").expect("writing to a String succeeds");
    }
}

impl Visit for Draft {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == MESSAGE {
            self.message.push_str(value);
        } else {
            self.name(field.name());
            push_quoted(&mut self.fields, value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field.name(), value);
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.plain(field.name(), value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.plain(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.plain(field.name(), value);
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let Some(Strings(list)) = value.downcast_ref() else {
            self.record_str(field, &value.to_string());
            return;
        };
        self.name(field.name());
        let mut between = "[";
        for item in list.iter().take(LIST_ITEMS_MAX) {
            self.fields.push_str(between);
            push_quoted(&mut self.fields, item);
            between = if self.format == Format::Json { "," } else { ", " };
        }
        self.fields.push_str(if list.is_empty() { "[]" } else { "]" });
    }
}

/// The folder and the file, without `src`: `server/serve.rs`, `grpc/watch.rs`.
impl fmt::Display for Caller<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = self.file.rsplit('/').filter(|part| *part != "src");
        let file = parts.next().unwrap_or_default();
        match parts.next() {
            Some(folder) => write!(f, "{folder}/{file}:{}", self.line),
            None => write!(f, "{file}:{}", self.line),
        }
    }
}

/// Appends a JSON string.
fn push_quoted(text: &mut String, value: &str) {
    text.push('"');
    push_escaped(text, value, "\"\\");
    text.push('"');
}

/// Appends a value with control characters and those of `special` escaped, and cut if it is too long.
fn push_escaped(text: &mut String, value: &str, special: &str) {
    let cut =
        value.floor_char_boundary(VALUE_BYTES_MAX.min(LINE_BYTES_MAX.saturating_sub(text.len())));
    for character in value[..cut].chars() {
        match character {
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            // Some programs that show logs take these two for line feeds.
            '\u{2028}' => text.push_str("\\u2028"),
            '\u{2029}' => text.push_str("\\u2029"),
            control if control.is_control() => {
                write!(text, "\\u{:04x}", u32::from(control))
                    .expect("writing to a String succeeds");
            }
            escaped if special.contains(escaped) => {
                text.push('\\');
                text.push(escaped);
            }
            other => text.push(other),
        }
    }
    if cut < value.len() {
        text.push('…');
    }
}

/// The name that tracing gives the text of an event.
const MESSAGE: &str = "message";
/// A longer message or value is cut.
const VALUE_BYTES_MAX: usize = 8 << 10;
/// When a line has grown so long, what follows is cut to nothing.
const LINE_BYTES_MAX: usize = 32 << 10;
/// A longer list is cut.
const LIST_ITEMS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    const CALLER: Caller<'static> = Caller { file: "server/src/grpc/watch.rs", line: 7 };

    fn line(format: Format, message: &str, value: &str) -> String {
        let draft = Draft::new(format).message(message).field("a_b", value);
        draft.finish(Level::Warn, Moment(Duration::ZERO), &CALLER).text
    }

    #[test]
    fn a_line_looks_like_one_of_zap() {
        assert_eq!(
            line(Format::Json, "a \"message\"", "1\n2"),
            "{\"level\":\"warn\",\"ts\":\"1970-01-01T00:00:00.000000Z\",\"caller\":\"grpc/watch.rs:7\",\
             \"msg\":\"a \\\"message\\\"\",\"a-b\":\"1\\n2\"}\n"
        );
        assert_eq!(
            line(Format::Console, "a \"message\"", "x"),
            "1970-01-01T00:00:00.000000Z\twarn\tgrpc/watch.rs:7\ta \"message\"\t{\"a-b\": \"x\"}\n"
        );
    }

    #[test]
    fn nothing_makes_two_lines_of_one() {
        let evil = "a\r\n\u{0}\u{1b}[2J\u{85}\u{2028}\"}\\";
        for format in [Format::Json, Format::Console] {
            let text = line(format, evil, evil);
            assert_eq!(text.find('\n'), Some(text.len() - 1), "{text:?}");
            assert!(!text.trim_end_matches('\n').contains(|c: char| c.is_control() && c != '\t'));
        }
        let parsed: serde_json::Value =
            serde_json::from_str(&line(Format::Json, evil, evil)).unwrap();
        assert_eq!(parsed["a-b"].as_str(), Some(evil));
        assert_eq!(parsed["msg"].as_str(), Some(evil));
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        let text = line(Format::Json, "", &"€".repeat(VALUE_BYTES_MAX));
        assert!(text.len() < VALUE_BYTES_MAX + 200);
        assert!(text.ends_with("€…\"}\n"));
    }

    #[test]
    fn lines_have_a_greatest_length() {
        let value = "x".repeat(VALUE_BYTES_MAX);
        let draft = (0..30).fold(Draft::new(Format::Json), |draft, _| draft.field("a", &value));
        let text = draft.finish(Level::Info, Moment(Duration::ZERO), &CALLER).text;
        assert!(text.len() < LINE_BYTES_MAX + VALUE_BYTES_MAX + 1000);
    }

    #[test]
    fn callers_are_short() {
        for (file, shown) in [
            ("server/src/serve.rs", "server/serve.rs:1"),
            ("server/src/grpc/watch.rs", "grpc/watch.rs:1"),
            ("main.rs", "main.rs:1"),
        ] {
            assert_eq!(Caller { file, line: 1 }.to_string(), shown);
        }
    }
}
