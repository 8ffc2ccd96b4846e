//! The verdict on a log: what a member would do if it started from it, in the engine's own words.

use std::io::{self, Write};

use cairn_engine::command::Command;
use cairn_engine::raft::{EntryKind, Index, Term};
use cairn_engine::recovery::{self, Disk, RecoveryError};
use cairn_engine::snapshot::SnapshotError;
use cairn_engine::wal::batch::BatchHeader;
use cairn_engine::wal::recover::{Known, Place, RecoverError, Recovered};
use cairn_engine::wal::scan::{self, Segment, SegmentReader};
use cairn_engine::wal::segment::{Decoded, SegmentHeader};
use cairn_engine::wal::{self, LogSource, Lsn};

use super::span;
use crate::data::Owner;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cli) enum Verdict {
    /// Nothing is wrong.
    Clean,
    /// The last write was not finished.
    Torn,
    /// Something that was promised is gone, or cannot be understood.
    Damaged,
}

impl Verdict {
    /// As an exit code; `--help` documents it.
    pub(in crate::cli) const fn code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Torn => 1,
            Self::Damaged => 2,
        }
    }
}

/// Judges a member's directory: its snapshots, and the log from where the newest whole one needs it.
pub(in crate::cli) fn member(
    disk: &mut dyn Disk,
    owner: &Owner,
    out: &mut impl Write,
) -> io::Result<Verdict> {
    match recovery::recover(disk, owner.cluster, owner.member, false) {
        Ok(recovery) => {
            let from = recovery.newest.index;
            match (&recovery.trees, disk.snapshots().len()) {
                (Some(_), _) => writeln!(out, "trees: whole, up to index {from}")?,
                (None, 0) => writeln!(out, "snapshot: none")?,
                (None, _) => writeln!(out, "snapshot: whole, up to index {from}")?,
            }
            let snapshots = damaged_snapshots(&recovery.damaged, out)?;
            Ok(judge(disk, &recovery.log, from, out)?.max(snapshots))
        }
        Err(RecoveryError::Log(error)) => refuse(&error, out),
        Err(error @ RecoveryError::Snapshot(..)) => {
            writeln!(out, "damaged: snapshot {error}; a member would not start")?;
            Ok(Verdict::Damaged)
        }
        Err(error @ (RecoveryError::SnapshotMissing { .. } | RecoveryError::Trees(..))) => {
            writeln!(out, "damaged: {error}; a member would not start")?;
            Ok(Verdict::Damaged)
        }
    }
}

/// Judges a directory of segments by itself, from its first segment on.
pub(super) fn log(
    source: &mut dyn LogSource,
    owner: &Owner,
    out: &mut impl Write,
) -> io::Result<Verdict> {
    let first = used(&scan::segments(source)).next();
    let start = first.map_or(Lsn(0), |(_, header)| header.base);
    let (index, term) = first
        .and_then(|(segment, header)| header_at(source, segment, &header, start))
        .map_or((Index(0), Term(0)), |batch| (batch.first_index.prev(), batch.prev_term));
    let known =
        Known { cluster: owner.cluster, member: owner.member, start, promise: Lsn(0), index, term };
    match wal::recover(source, known) {
        Ok(log) => judge(source, &log, index, out),
        Err(error) => refuse(&error, out),
    }
}

/// Judges a directory in which nothing says whose it is: there is no segment with a whole header.
pub(super) fn nobodys(source: &mut dyn LogSource, out: &mut impl Write) -> io::Result<Verdict> {
    for segment in scan::segments(source) {
        if let Decoded::Unknown { major, features } = segment.header {
            let segment = segment.file.seq;
            return refuse(&RecoverError::UnknownFormat { segment, major, features }, out);
        }
    }
    match wal::recover(source, Known::default()) {
        Ok(_) => {
            writeln!(out, "clean: the log is empty, and nothing says whose it is")?;
            Ok(Verdict::Clean)
        }
        Err(error) => refuse(&error, out),
    }
}

/// Says what a log holds that can be used, and where it ends.
fn judge(
    source: &mut dyn LogSource,
    log: &Recovered,
    covered: Index,
    out: &mut impl Write,
) -> io::Result<Verdict> {
    let held = match (log.entries.first(), log.entries.last()) {
        (Some(first), Some(last)) => {
            format!("entries {}; segments {}", span(first.index, last.index), log.segments.len())
        }
        _ => format!("no entry above index {covered}"),
    };
    let hard = log.hard_state;
    writeln!(out, "log: {held}; term {}, vote {}, commit {}", hard.term, hard.vote, hard.commit)?;
    for entry in log.entries.iter().filter(|entry| entry.kind == EntryKind::Command) {
        if let Err(unknown) = Command::decode(entry.data.clone()) {
            let index = entry.index;
            writeln!(out, "damaged: entry {index} holds no command of this version: {unknown:?}")?;
            return Ok(Verdict::Damaged);
        }
    }
    let Some(place) = log.torn else {
        writeln!(
            out,
            "clean: row F, the log ends at lsn {} and nothing beyond was promised",
            log.end
        )?;
        return Ok(Verdict::Clean);
    };
    let lost = match header_of(source, place) {
        Some(batch) if batch.first_index <= batch.last_index => {
            format!("entries {}", span(batch.first_index, batch.last_index))
        }
        Some(_) | None => "no entries".to_owned(),
    };
    writeln!(
        out,
        "torn tail: row F, {}.wal at offset {} (lsn {}): a batch of {lost} is not whole, and nothing promised it; \
         a member cuts it off",
        place.segment, place.offset, place.lsn
    )?;
    Ok(Verdict::Torn)
}

/// Says why a log cannot be used.
fn refuse(error: &RecoverError, out: &mut impl Write) -> io::Result<Verdict> {
    let row = match error {
        RecoverError::Corrupt { why, .. } => why.row(),
        RecoverError::Foreign { .. }
        | RecoverError::UnknownFormat { .. }
        | RecoverError::Malformed { .. } => None,
    };
    let row = row.map_or(String::new(), |row| format!("row {row}, "));
    writeln!(out, "damaged: {row}{error}; a member would not start")?;
    Ok(Verdict::Damaged)
}

fn damaged_snapshots(
    damaged: &[(Index, SnapshotError)],
    out: &mut impl Write,
) -> io::Result<Verdict> {
    for (index, error) in damaged {
        writeln!(out, "damaged: snapshot {:016x}.snap: {error}; a member passes it over", index.0)?;
    }
    Ok(if damaged.is_empty() { Verdict::Clean } else { Verdict::Damaged })
}

/// The segments with a whole header.
fn used(segments: &[Segment]) -> impl Iterator<Item = (Segment, SegmentHeader)> {
    segments.iter().filter_map(|segment| match segment.header {
        Decoded::Used(header) => Some((*segment, header)),
        Decoded::Blank | Decoded::Unknown { .. } => None,
    })
}

/// The header of the batch at a place, if one stands there.
fn header_of(source: &mut dyn LogSource, place: Place) -> Option<BatchHeader> {
    let segments = scan::segments(source);
    let (segment, header) = used(&segments).find(|(it, _)| it.file.seq == place.segment)?;
    header_at(source, segment, &header, place.lsn)
}

fn header_at(
    source: &mut dyn LogSource,
    segment: Segment,
    header: &SegmentHeader,
    lsn: Lsn,
) -> Option<BatchHeader> {
    let mut reader = SegmentReader::new(source, segment.file, Some(header.salt), header.base);
    reader.header(lsn).map(|(batch, _)| batch)
}
