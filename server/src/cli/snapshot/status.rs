//! What is in a file, as etcdutl shows it.

use std::io::{self, Write as _};

use cairn_engine::import;
use serde_json::json;

use super::{Failed, Format, Progress, Snapshot, Status};
use crate::takeover::{FileSource, Trouble, Watch};

/// Shows it. Unlike etcdutl, which does not look at the checksum here, a file that could not be restored is an error.
pub(super) fn run(Status { file: path, write_out }: &Status) -> Result<(), Failed> {
    let mut snapshot = Snapshot::open(path)?;
    if snapshot.has_checksum {
        snapshot.verify(path)?;
    }
    let progress = Progress::new("reading", snapshot.bytes);
    let mut tick = |done| progress.set(done);
    let mut watch = Watch::new(snapshot.bytes, &mut tick);
    let mut source = FileSource::new(&snapshot.file, snapshot.bytes, Some(&mut watch));
    let refused = |refused| Trouble::Refused(path.clone(), refused);
    let mut file = import::File::open(&mut source).map_err(refused)?;
    let status = import::status(&mut file).map_err(refused)?;
    progress.end();
    let import::Status { hash, revision, total_keys, total_bytes, version } = &status;
    let mut out = io::stdout();
    match write_out {
        Format::Simple => writeln!(out, "{}", row(&status).join(", "))?,
        Format::Json => {
            // In etcdutl's order.
            let version = json!(version);
            writeln!(
                out,
                "{{\"hash\":{hash},\"revision\":{revision},\"totalKey\":{total_keys},\
                 \"totalSize\":{total_bytes},\"version\":{version}}}"
            )?;
        }
        Format::Fields => {
            writeln!(out, "\"Hash\" : {hash}")?;
            writeln!(out, "\"Revision\" : {revision}")?;
            writeln!(out, "\"Keys\" : {total_keys}")?;
            writeln!(out, "\"Size\" : {total_bytes}")?;
            writeln!(out, "\"Version\" : {version}")?;
        }
        Format::Table => out.write_all(table(&row(&status)).as_bytes())?,
    }
    Ok(())
}

fn row(status: &import::Status) -> [String; 5] {
    [
        format!("{:x}", status.hash),
        status.revision.to_string(),
        status.total_keys.to_string(),
        size(status.total_bytes),
        status.version.clone(),
    ]
}

/// One row under its names, in the frame that etcdutl draws: names in the middle, cells to the right.
fn table(row: &[String; 5]) -> String {
    const NAMES: [&str; 5] = ["HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE", "VERSION"];
    let width = |at: usize| row[at].chars().count().max(NAMES[at].len());
    let rule = |[left, middle, right]: [&str; 3]| {
        let columns: Vec<String> = (0..5).map(|at| "─".repeat(width(at) + 2)).collect();
        format!("{left}{}{right}\n", columns.join(middle))
    };
    let names: String = (0..5).map(|at| format!("│ {:^w$} ", NAMES[at], w = width(at))).collect();
    let cells: String = (0..5).map(|at| format!("│ {:>w$} ", row[at], w = width(at))).collect();
    let [top, between, bottom] = [["┌", "┬", "┐"], ["├", "┼", "┤"], ["└", "┴", "┘"]].map(rule);
    format!("{top}{names}│\n{between}{cells}│\n{bottom}")
}

/// Bytes as etcdutl shows them: powers of a thousand, one digit behind the point below ten.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let (mut unit, mut at) = (1, 0);
    while bytes / unit >= 1000 {
        (unit, at) = (unit * 1000, at + 1);
    }
    // Rounded half up, in tenths.
    let tenths = (u128::from(bytes) * 20 / u128::from(unit)).div_ceil(2);
    if tenths < 100 {
        return format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[at]);
    }
    // To even, as Go prints it.
    let (whole, rest) = (tenths / 10, tenths % 10);
    let up = rest > 5 || rest == 5 && whole % 2 == 1;
    format!("{} {}", whole + u128::from(up), UNITS[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_etcdutl() {
        for (bytes, text) in [
            (0, "0 B"),
            (9, "9 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (20_480, "20 kB"),
            (24_500, "24 kB"),
            (25_500, "26 kB"),
            (1_150_000, "1.2 MB"),
            (82_854_982, "83 MB"),
            (9_949_999, "9.9 MB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
