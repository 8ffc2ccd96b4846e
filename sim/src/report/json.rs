//! JSON, written. It stands within a `<script>` of the page, so no text in it may end that.

use core::fmt::Write as _;

/// An object, or what is in it, under way.
#[derive(Debug)]
pub(super) struct Json(String);

/// A row of a table: an array.
#[derive(Debug)]
pub(super) struct Row<'a>(&'a mut String);

impl Json {
    pub(super) fn object() -> Self {
        Self("{".to_owned())
    }

    fn name(&mut self, name: &str) {
        if !self.0.ends_with('{') {
            self.0.push_str(",\n");
        }
        quote(name, &mut self.0);
        self.0.push(':');
    }

    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        quote(value, &mut self.0);
    }

    pub(super) fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        write!(self.0, "{value}").expect("strings grow");
    }

    pub(super) fn field(&mut self, name: &str, fill: impl FnOnce(&mut Self)) {
        self.name(name);
        self.0.push('{');
        fill(self);
        self.0.push('}');
    }

    /// A table: an array of arrays.
    pub(super) fn rows<T>(
        &mut self,
        name: &str,
        rows: impl IntoIterator<Item = T>,
        mut fill: impl FnMut(&mut Row<'_>, T),
    ) {
        self.name(name);
        self.0.push('[');
        for row in rows {
            if self.0.ends_with(']') {
                self.0.push(',');
            }
            self.0.push('[');
            fill(&mut Row(&mut self.0), row);
            self.0.push(']');
        }
        self.0.push(']');
    }

    pub(super) fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

impl Row<'_> {
    fn comma(&mut self) {
        if !self.0.ends_with('[') {
            self.0.push(',');
        }
    }

    pub(super) fn item(&mut self, number: u64) {
        self.comma();
        write!(self.0, "{number}").expect("strings grow");
    }

    pub(super) fn item_text(&mut self, text: &str) {
        self.comma();
        quote(text, self.0);
    }
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            // `</script>` and `<!--` end or hide the script in which this stands.
            '<' | '\u{0}'..='\u{1f}' | '\u{7f}' | '\u{2028}' | '\u{2029}' => {
                write!(out, "\\u{:04x}", u32::from(character)).expect("strings grow");
            }
            _ => out.push(character),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_gets_out_of_its_quotes_or_of_the_script() {
        let mut out = String::new();
        quote("a\"\\\n</script><!--\u{2028}é", &mut out);
        assert_eq!(out, "\"a\\\"\\\\\\u000a\\u003c/script>\\u003c!--\\u2028é\"");
    }

    #[test]
    fn objects_and_tables_have_commas_between_what_they_hold() {
        let mut json = Json::object();
        json.text("a", "]");
        json.rows("none", [0_u64; 0], |row, one| row.item(one));
        json.rows("some", [1, 2], |row, one| {
            row.item(one);
            row.item_text("[");
            row.item_text("]");
        });
        json.field("in", |json| json.number("n", 7));
        let expected = "{\"a\":\"]\",\n\"none\":[],\n\"some\":[[1,\"[\",\"]\"],[2,\"[\",\"]\"]],\n\"in\":{\"n\":7}}";
        assert_eq!(json.finish(), expected);
    }
}
