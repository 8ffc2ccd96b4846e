//! Every segment, batch and record, in the order of the log; where there is damage, what stands behind it.

use std::io::{self, Write};

use bytes::Bytes;
use cairn_engine::MemberId;
use cairn_engine::command::Command;
use cairn_engine::raft::membership::Membership;
use cairn_engine::raft::{Entry, EntryKind, Index};
use cairn_engine::wal::batch::BatchHeader;
use cairn_engine::wal::record::Record;
use cairn_engine::wal::scan::{self, SegmentFile, SegmentReader};
use cairn_engine::wal::segment::{Decoded, SegmentHeader};
use cairn_engine::wal::{LogSource, Lsn};

use super::describe::{Values, describe};
use super::line::{Form, Line};
use super::span;

/// What is shown, and how.
#[derive(Debug, Default, clap::Args)]
pub(in crate::cli) struct Options {
    /// Show values, not only how long they are
    #[arg(long)]
    pub(super) values: bool,
    /// Show entries from this index on, and nothing without entries
    #[arg(long, value_name = "INDEX")]
    pub(super) from: Option<u64>,
    /// Show entries up to this index, which is included, and nothing without entries
    #[arg(long, value_name = "INDEX")]
    pub(super) to: Option<u64>,
    /// Show a JSON object in each line
    #[arg(long)]
    pub(super) json: bool,
}

impl Options {
    fn form(&self) -> Form {
        if self.json { Form::Json } else { Form::Text }
    }

    fn values(&self) -> Values {
        if self.values { Values::Shown } else { Values::Hidden }
    }

    fn is_everything(&self) -> bool {
        self.from.is_none() && self.to.is_none()
    }

    fn shows(&self, index: Index) -> bool {
        self.from.unwrap_or(0) <= index.0 && index.0 <= self.to.unwrap_or(u64::MAX)
    }

    /// Whether any entry of a batch is shown.
    fn shows_some_of(&self, header: &BatchHeader) -> bool {
        let (first, last) = (header.first_index.0, header.last_index.0);
        self.is_everything()
            || first <= last
                && self.from.unwrap_or(0) <= last
                && first <= self.to.unwrap_or(u64::MAX)
    }
}

/// Shows a log.
pub(super) fn dump(
    source: &mut dyn LogSource,
    options: &Options,
    out: &mut impl Write,
) -> io::Result<()> {
    let segments = scan::segments(source);
    let mut walk = Walk { options, out, chain: None, end: Lsn(0) };
    for (at, segment) in segments.iter().enumerate() {
        let behind = &segments[at + 1..];
        let successor = behind.iter().find_map(|segment| match segment.header {
            Decoded::Used(header) => Some(header.base),
            Decoded::Blank | Decoded::Unknown { .. } => None,
        });
        match segment.header {
            Decoded::Used(header) => {
                walk.show_segment(segment.file, &header)?;
                walk.end = header.base;
                let reader =
                    SegmentReader::new(source, segment.file, Some(header.salt), header.base);
                walk.batches(reader, successor)?;
            }
            Decoded::Blank => {
                walk.show_unusable(segment.file, "blank: never used, or both copies damaged")?;
                let reader = SegmentReader::new(source, segment.file, None, walk.end);
                walk.batches(reader, successor)?;
            }
            Decoded::Unknown { major, features } => {
                let why = format!("unknown: format {major}, features {features:#x}");
                walk.show_unusable(segment.file, &why)?;
            }
        }
    }
    Ok(())
}

/// Goes through the log.
struct Walk<'a, W> {
    options: &'a Options,
    out: &'a mut W,
    /// Checksum of the header before; `None` where the first one is still to come.
    chain: Option<u32>,
    /// Where the next batch should stand.
    end: Lsn,
}

impl<W: Write> Walk<'_, W> {
    /// Shows the batches of a segment, up to where the next segment goes on.
    fn batches(&mut self, mut reader: SegmentReader<'_>, successor: Option<Lsn>) -> io::Result<()> {
        loop {
            if successor.is_some_and(|base| base <= self.end) {
                return self.cut_off(&mut reader);
            }
            if let Some((header, crc)) = reader.header(self.end) {
                self.batch(&mut reader, &header)?;
                self.chain = Some(crc);
                self.end = header.end();
                continue;
            }
            let beyond = reader.headers_beyond(self.end);
            let next = beyond.first().map(|header| header.lsn);
            let Some(next) = next.into_iter().chain(successor).min() else { return Ok(()) };
            let line = Line::new("gap", 1)
                .with("lsn", self.end.0)
                .with("offset", reader.offset(self.end))
                .with("bytes", next.0 - self.end.0);
            self.show(line)?;
            self.end = next;
        }
    }

    /// Shows what stands where the next segment goes on: a write that was not finished before a restart.
    fn cut_off(&mut self, reader: &mut SegmentReader<'_>) -> io::Result<()> {
        let Some((header, _)) = reader.header(self.end) else { return Ok(()) };
        let line = Line::new("cut-off", 1)
            .with("lsn", header.lsn.0)
            .with("offset", reader.offset(header.lsn))
            .with("bytes", header.batch_bytes())
            .with("entries", entries(&header));
        self.show(line)
    }

    /// Shows a batch, whole or not.
    fn batch(&mut self, reader: &mut SegmentReader<'_>, header: &BatchHeader) -> io::Result<()> {
        if !self.options.shows_some_of(header) {
            return Ok(());
        }
        let chain = match self.chain {
            Some(crc) if crc == header.prev_header_crc => "ok".to_owned(),
            Some(crc) => format!("broken({:08x}-is-not-{crc:08x})", header.prev_header_crc),
            None => "begins".to_owned(),
        };
        // Its own word for the header before it, so that a broken chain hides no records.
        let batch = reader.batch(header.lsn, header.prev_header_crc);
        let state = match batch.as_ref().map(|batch| &batch.records) {
            Some(Ok(_)) => "whole".to_owned(),
            Some(Err(why)) => format!("unknown({why:?})"),
            None => "damaged-or-torn".to_owned(),
        };
        let line = Line::new("batch", 1)
            .with("lsn", header.lsn.0)
            .with("offset", reader.offset(header.lsn))
            .with("bytes", header.batch_bytes())
            .with("state", state)
            .with("chain", chain)
            .with_hex("salt", header.salt)
            .with("promise", header.promise.0)
            .with("term", header.hard_state.term.0)
            .with("vote", header.hard_state.vote.to_string())
            .with("commit", header.hard_state.commit.0)
            .with("records", header.records)
            .with("record_bytes", header.payload_bytes)
            .with("entries", entries(header));
        line.write(self.options.form(), self.out)?;
        let records = batch.and_then(|batch| batch.records.ok()).unwrap_or_default();
        records.into_iter().try_for_each(|record| self.record(record))
    }

    fn record(&mut self, record: Record) -> io::Result<()> {
        match record {
            Record::Entry(entry) if !self.options.shows(entry.index) => Ok(()),
            Record::Entry(entry) => self.entry(&entry),
            Record::Restart { index, term } => {
                self.show(Line::new("restart", 2).with("index", index.0).with("term", term.0))
            }
        }
    }

    fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        let line = Line::new("entry", 2)
            .with("index", entry.index.0)
            .with("term", entry.term.0)
            .with("bytes", entry.data.len());
        let line = match entry.kind {
            EntryKind::Empty => line.with("kind", "empty"),
            EntryKind::Command => with_command(
                line.with("kind", "command"),
                entry.data.clone(),
                self.options.values(),
            ),
            EntryKind::Membership => {
                with_membership(line, entry.data.clone(), self.options.values())
            }
        };
        line.write(self.options.form(), self.out)
    }

    fn show_segment(&mut self, file: SegmentFile, header: &SegmentHeader) -> io::Result<()> {
        let line = Line::new("segment", 0)
            .with("file", format!("{}.wal", file.seq))
            .with("bytes", file.bytes)
            .with("header", "used")
            .with("base", header.base.0)
            .with_hex("salt", header.salt)
            .with("cluster", header.cluster.to_string())
            .with("member", header.member.to_string())
            .with("capacity", header.capacity)
            .with("behind", format!("{:08x}", header.prev_header_crc));
        self.show(line)
    }

    fn show_unusable(&mut self, file: SegmentFile, header: &str) -> io::Result<()> {
        let line = Line::new("segment", 0)
            .with("file", format!("{}.wal", file.seq))
            .with("bytes", file.bytes)
            .with("header", header);
        self.show(line)
    }

    /// Shows what is not an entry, unless only entries are asked for.
    fn show(&mut self, line: Line) -> io::Result<()> {
        if self.options.is_everything() {
            return line.write(self.options.form(), self.out);
        }
        Ok(())
    }
}

/// The indexes of a batch.
fn entries(header: &BatchHeader) -> String {
    let (first, last) = (header.first_index, header.last_index);
    if first <= last { span(first, last) } else { "none".to_owned() }
}

/// Adds what an entry's data says.
fn with_command(line: Line, data: Bytes, values: Values) -> Line {
    match Command::decode(data) {
        Ok((stamp, command)) => {
            let line = line.with("time_ms", stamp.time.0);
            let line = match stamp.origin {
                Some(origin) => line.with("origin", origin.member.to_string()),
                None => line,
            };
            line.with("command", describe(&command, values))
        }
        Err(unknown) => line.with("command", format!("{unknown:?}")),
    }
}

/// Adds who takes part from an entry on, and what else it says.
fn with_membership(line: Line, data: Bytes, values: Values) -> Line {
    let line = line.with("kind", "membership");
    let Some((membership, context)) = Membership::from_entry(data) else {
        return line.with("membership", "unreadable");
    };
    let line = line.with("voters", list(membership.incoming()));
    let line =
        if membership.is_joint() { line.with("joint", list(membership.voters())) } else { line };
    let line = line.with("learners", list(membership.learners()));
    if context.is_empty() { line } else { with_command(line, context, values) }
}

fn list(ids: impl Iterator<Item = MemberId>) -> String {
    let ids: Vec<_> = ids.map(|id| id.to_string()).collect();
    if ids.is_empty() { "none".to_owned() } else { ids.join(",") }
}
