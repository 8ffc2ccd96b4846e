//! How answers look.

use core::fmt::Write as _;

/// How to show an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// Lines, for people and for scripts that cut
    Simple,
    /// What the JSON gateway answers
    Json,
    /// A table, where there is something to line up
    Table,
}

/// Rows under names, in a frame.
pub(super) fn table(names: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.max().unwrap_or(0).max(names[column].len())
    };
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    let mut rule = String::from("+");
    widths.iter().for_each(|width| rule.push_str(&format!("{}+", "-".repeat(width + 2))));
    let row = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (cell, width) in cells.zip(&widths) {
            write!(line, "| {cell:width$} ").expect("writing to a String succeeds");
        }
        line + "|\n"
    };
    let head = row(&mut names.iter().copied());
    let body: String =
        rows.iter().map(|cells| row(&mut cells.iter().map(String::as_str))).collect();
    format!("{rule}\n{head}{rule}\n{body}{rule}\n")
}

/// Bytes for people, in powers of ten.
pub(super) fn size(bytes: u64) -> String {
    let units = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
    match units.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => {
            let tenths = bytes.saturating_mul(10) / unit;
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![vec!["1".to_owned(), "long cell".to_owned()]];
        assert_eq!(
            table(&["ID", "B"], &rows),
            "+----+-----------+\n| ID | B         |\n+----+-----------+\n| 1  | long cell |\n+----+-----------+\n"
        );
    }

    #[test]
    fn sizes_are_rounded_down() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_099, "1.0 kB"),
            (20_480, "20.4 kB"),
            (2 << 30, "2.1 GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
