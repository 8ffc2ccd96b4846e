//! Booleans and integers as Go reads them.

/// A boolean; `None` if it is none.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// An integer in decimal, or after `0x`, `0o`, `0` and `0b` in another base; digits may be grouped with
/// underscores. `None` if it is none or does not fit any kind of flag.
pub(crate) fn parse_integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    let first = digits.trim_start_matches('_');
    if first.is_empty()
        || first.ends_with('_')
        || first.contains("__")
        || first.starts_with(['+', '-'])
    {
        return None;
    }
    if base == 10 && first.len() < digits.len() {
        return None;
    }
    let value = i128::from_str_radix(&first.replace('_', ""), base).ok()?;
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_have_gos_bases() {
        for (text, value) in [
            ("0", 0),
            ("100", 100),
            ("-1", -1),
            ("+7", 7),
            ("0x80", 128),
            ("0X_8f", 143),
            ("010", 8),
            ("0o10", 8),
            ("0b101", 5),
            ("1_572_864", 1_572_864),
        ] {
            assert_eq!(parse_integer(text), Some(value), "{text}");
        }
        for text in
            ["", "-", "x", "1.5", "1e3", "08", "0x", "--1", "+-1", "_1", "1_", "1__0", " 1", "1 "]
        {
            assert_eq!(parse_integer(text), None, "{text}");
        }
    }

    #[test]
    fn booleans_have_gos_spellings() {
        assert_eq!(["1", "T", "true"].map(parse_bool), [Some(true); 3]);
        assert_eq!(["0", "f", "False"].map(parse_bool), [Some(false); 3]);
        assert_eq!(["", "yes", "on", "tRUE"].map(parse_bool), [None; 4]);
    }
}
