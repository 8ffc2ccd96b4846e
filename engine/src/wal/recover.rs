//! What the log is after a start: one decision table, applied from batch to batch.
//!
//! At every place the question is the same: does the log go on here, in the next segment, or does it end?
//! And if it ends: was anything beyond ever promised? [`judge`] answers with one row of this table.
//!
//! | row | batch here | successor segment | promise | verdict |
//! |---|---|---|---|---|
//! | A | –                         | starts here, chain agrees | –            | go on in the successor |
//! | B | –                         | starts here, chain broken | –            | corrupt |
//! | C | whole, ends within reach  | none, or starts later     | –            | take it |
//! | D | whole, ends beyond        | starts inside it          | –            | corrupt |
//! | E | none                      | starts later              | –            | corrupt |
//! | F | none                      | none                      | reaches here | torn tail: the log ends |
//! | G | none                      | none                      | goes beyond  | corrupt |
//!
//! "Successor" is the next segment with a whole header. A file with a blank header was never used (its first
//! write was torn), unless batches in it promise otherwise, and that is row G.
//!
//! Corruption is never repaired by guessing. A single member refuses to start and names the place; a member
//! of a cluster may fetch what is missing from its peers.

use alloc::vec::Vec;
use core::fmt;

use super::batch::BatchHeader;
use super::record::{Malformed, Record};
use super::scan::{self, Batch, LogSource, Segment, SegmentReader};
use super::segment::{Decoded, SegmentHeader};
use super::{Lsn, SegmentSeq};
use crate::convert::to_usize;
use crate::ids::{ClusterId, MemberId};
use crate::raft::{Entry, HardState, Index, Term};

/// From where the log is needed, and what is known about it from elsewhere (the snapshot).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The cluster that the log must belong to.
    pub cluster: ClusterId,
    /// The member that the log must belong to.
    pub member: MemberId,
    /// A place at or before every entry above `index`; where a segment begins.
    pub start: Lsn,
    /// Everything below was durable.
    pub promise: Lsn,
    /// Last index that the snapshot covers; entries up to it are dropped.
    pub index: Index,
    /// Its term.
    pub term: Term,
}

/// The log as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Term, vote and commit index.
    pub hard_state: HardState,
    /// The entries above [`Known::index`], without a gap.
    pub entries: Vec<Entry>,
    /// If the log says that it restarts behind a snapshot: that snapshot's last index and term.
    pub restart: Option<(Index, Term)>,
    /// Where the log ends and the next batch goes, in a new segment.
    pub end: Lsn,
    /// Checksum of the last batch header.
    pub prev_header_crc: u32,
    /// The highest number that any segment file has.
    pub last_seq: SegmentSeq,
    /// The segments that hold the log, ascending, with the highest index in each.
    pub segments: Vec<(SegmentSeq, Lsn, Index)>,
    /// Where a torn tail was cut, if one was.
    pub torn: Option<Place>,
    /// What was read last contradicts the snapshot: it came from a leader, and the crash came before the log could
    /// say so. Such entries were never committed, and are passed over.
    pub contradicts: bool,
}

/// A place in the files of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The segment.
    pub segment: SegmentSeq,
    /// Byte offset in its file.
    pub offset: u64,
    /// The same place as an address in the log.
    pub lsn: Lsn,
}

/// Why the log cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoverError {
    /// Acknowledged bytes are damaged or gone.
    Corrupt {
        /// The first damaged byte.
        place: Place,
        /// What is wrong there.
        why: Why,
        /// First index that is missing.
        from: Index,
        /// Last index that is missing, if a later batch tells.
        to: Option<Index>,
    },
    /// The log belongs to somebody else.
    Foreign {
        /// The segment that says so.
        segment: SegmentSeq,
        /// Its cluster.
        cluster: ClusterId,
        /// Its member.
        member: MemberId,
    },
    /// A newer version wrote a segment in a format that this one does not know.
    UnknownFormat {
        /// The segment.
        segment: SegmentSeq,
        /// Its format version.
        major: u16,
        /// Its feature bits.
        features: u32,
    },
    /// A batch is whole, yet its records make no sense: it was written by other code.
    Malformed {
        /// The batch.
        place: Place,
        /// What is wrong.
        why: Malformed,
    },
}

/// The rows of the table that end in corruption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Row B: the successor does not follow from what was read.
    ChainBroken,
    /// Row D: the successor starts inside a whole batch.
    Overlap,
    /// Row E: the batch is damaged, and the next segment continues behind it.
    DamagedBeforeSuccessor,
    /// Row G: the batch is damaged, and something beyond it was promised to be durable.
    DamagedBeforePromise,
    /// The segment in which the needed part of the log begins is missing or its header is damaged.
    StartMissing,
    /// Entries do not follow each other although the batches do.
    IndexGap,
}

impl Why {
    /// The row of the table, where it is one.
    pub const fn row(self) -> Option<char> {
        match self {
            Self::ChainBroken => Some('B'),
            Self::Overlap => Some('D'),
            Self::DamagedBeforeSuccessor => Some('E'),
            Self::DamagedBeforePromise => Some('G'),
            Self::StartMissing | Self::IndexGap => None,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ChainBroken => "the next segment does not follow from this one",
            Self::Overlap => "the next segment starts inside a batch of this one",
            Self::DamagedBeforeSuccessor => {
                "a batch is damaged and the next segment continues behind it"
            }
            Self::DamagedBeforePromise => "a batch is damaged that a later header vouches for",
            Self::StartMissing => {
                "the segment that the snapshot continues in is missing or damaged"
            }
            Self::IndexGap => "the entries do not follow each other",
        })
    }
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt { place, why, from, to } => {
                let (segment, offset) = (place.segment, place.offset);
                write!(f, "{segment}.wal is corrupt at offset {offset}: {why}; ")?;
                match to {
                    Some(to) if to < from => write!(f, "no entry is lost, but a vote may be"),
                    Some(to) => write!(f, "the entries from index {from} to {to} are lost"),
                    None => write!(f, "the entries from index {from} on may be lost"),
                }
            }
            Self::Foreign { segment, cluster, member } => {
                write!(f, "{segment}.wal belongs to member {member} of cluster {cluster}")
            }
            Self::UnknownFormat { segment, major, features } => write!(
                f,
                "{segment}.wal has format {major} with features {features:#x}, which this version does not know"
            ),
            Self::Malformed { place, why } => write!(
                f,
                "{}.wal holds a whole batch at offset {} that this version cannot read: {why:?}",
                place.segment, place.offset
            ),
        }
    }
}

impl core::error::Error for RecoverError {}

/// What stands at a place of the log.
#[derive(Clone, Copy, Debug)]
struct Here {
    lsn: Lsn,
    /// End of the whole batch that starts here, if one does.
    batch_end: Option<Lsn>,
    successor: Option<Successor>,
    /// Everything below was promised to be durable; asked for only if there is no batch.
    promise: Lsn,
}

#[derive(Clone, Copy, Debug)]
struct Successor {
    base: Lsn,
    chain_agrees: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Take,
    GoOnInSuccessor,
    TornTail,
    Corrupt(Why),
}

/// The table of this file's header, row by row.
fn judge(here: Here) -> Verdict {
    match (here.batch_end, here.successor) {
        (_, Some(next)) if next.base == here.lsn => {
            if next.chain_agrees {
                Verdict::GoOnInSuccessor // A
            } else {
                Verdict::Corrupt(Why::ChainBroken) // B
            }
        }
        (Some(end), Some(next)) if here.lsn < next.base && next.base < end => {
            Verdict::Corrupt(Why::Overlap) // D
        }
        (Some(_), _) => Verdict::Take, // C
        (None, Some(_)) => Verdict::Corrupt(Why::DamagedBeforeSuccessor), // E
        (None, None) if here.promise <= here.lsn => Verdict::TornTail, // F
        (None, None) => Verdict::Corrupt(Why::DamagedBeforePromise), // G
    }
}

/// Reads the log that `source` holds. A directory without any used segment is an empty log.
///
/// Cost: reads every byte from [`Known::start`] on once, and the rest of the last segment in search of
/// promises.
///
/// # Errors
/// If the log is damaged before a promise, foreign, or of an unknown format. Nothing is changed.
pub fn recover(source: &mut dyn LogSource, known: Known) -> Result<Recovered, RecoverError> {
    let segments = scan::segments(source);
    let used = check_headers(&segments, known)?;
    let mut log = Recovered {
        hard_state: HardState::default(),
        entries: Vec::new(),
        restart: None,
        end: known.start,
        prev_header_crc: 0,
        last_seq: segments.last().map_or(SegmentSeq(0), |segment| segment.file.seq),
        segments: Vec::new(),
        torn: None,
        contradicts: false,
    };
    let Some(first) = used.iter().rposition(|(_, header)| header.base <= known.start) else {
        if used.is_empty() && known.promise == Lsn(0) {
            return Ok(log);
        }
        let place = Place { segment: SegmentSeq(0), offset: 0, lsn: known.start };
        return Err(RecoverError::Corrupt {
            place,
            why: Why::StartMissing,
            from: known.index.next(),
            to: None,
        });
    };
    log.end = used[first].1.base;
    log.prev_header_crc = used[first].1.prev_header_crc;
    for at in first..used.len() {
        let end = Walk { source: &mut *source, known, segments: &segments, log: &mut log }
            .segment(used[at], used.get(at + 1).map(|(_, header)| *header))?;
        if end == End::OfLog {
            break;
        }
    }
    Ok(log)
}

/// The segments in use, after a look at whose they are.
fn check_headers(
    segments: &[Segment],
    known: Known,
) -> Result<Vec<(scan::SegmentFile, SegmentHeader)>, RecoverError> {
    let mut used = Vec::new();
    for segment in segments {
        match segment.header {
            Decoded::Blank => {}
            Decoded::Unknown { major, features } => {
                return Err(RecoverError::UnknownFormat {
                    segment: segment.file.seq,
                    major,
                    features,
                });
            }
            Decoded::Used(header) => {
                if (header.cluster, header.member) != (known.cluster, known.member) {
                    let (cluster, member) = (header.cluster, header.member);
                    return Err(RecoverError::Foreign {
                        segment: segment.file.seq,
                        cluster,
                        member,
                    });
                }
                used.push((segment.file, header));
            }
        }
    }
    Ok(used)
}

#[derive(PartialEq, Eq)]
enum End {
    OfSegment,
    OfLog,
}

struct Walk<'a> {
    source: &'a mut dyn LogSource,
    known: Known,
    segments: &'a [Segment],
    log: &'a mut Recovered,
}

impl Walk<'_> {
    /// Takes the batches of one segment into the log.
    fn segment(
        &mut self,
        (file, header): (scan::SegmentFile, SegmentHeader),
        successor: Option<SegmentHeader>,
    ) -> Result<End, RecoverError> {
        self.log.segments.push((file.seq, header.base, Index(0)));
        let mut reader = SegmentReader::new(self.source, file, Some(header.salt), header.base);
        loop {
            let lsn = self.log.end;
            let place = Place { segment: file.seq, offset: reader.offset(lsn), lsn };
            let batch = reader.batch(lsn, self.log.prev_header_crc);
            let successor = successor.map(|next| Successor {
                base: next.base,
                chain_agrees: next.prev_header_crc == self.log.prev_header_crc,
            });
            // Looking for promises costs a scan of the rest, so only where the table asks for them.
            let beyond = match (&batch, successor) {
                (None, None) => {
                    let mut beyond = reader.headers_beyond(lsn);
                    beyond.extend(headers_in_blank_file(
                        reader.source(),
                        self.segments,
                        file.seq,
                        lsn,
                    ));
                    beyond
                }
                _ => Vec::new(),
            };
            let promise =
                beyond.iter().map(|header| header.promise).fold(self.known.promise, Lsn::max);
            let batch_end = batch.as_ref().map(|batch| batch.header.end());
            match judge(Here { lsn, batch_end, successor, promise }) {
                Verdict::Take => {
                    let batch = batch.expect("row C has a batch");
                    take(self.log, self.known, batch, place)?;
                }
                Verdict::GoOnInSuccessor => return Ok(End::OfSegment),
                Verdict::TornTail => {
                    self.log.torn = reader.header(lsn).map(|_| place);
                    return Ok(End::OfLog);
                }
                Verdict::Corrupt(why) => {
                    let from = last_index(self.log, self.known).next();
                    let to = beyond.first().map(|header| header.first_index.prev());
                    return Err(RecoverError::Corrupt { place, why, from, to });
                }
            }
        }
    }
}

/// Batches in the file behind `last`, if its header is blank: they tell a damaged header from a file that was
/// never used. `base` is where the segment would begin.
fn headers_in_blank_file(
    source: &mut dyn LogSource,
    segments: &[Segment],
    last: SegmentSeq,
    base: Lsn,
) -> Vec<BatchHeader> {
    match segments.iter().find(|segment| segment.file.seq > last) {
        Some(blank) => SegmentReader::new(source, blank.file, None, base).headers_beyond(base),
        None => Vec::new(),
    }
}

/// Takes a batch into the log.
fn take(log: &mut Recovered, known: Known, batch: Batch, place: Place) -> Result<(), RecoverError> {
    let header = &batch.header;
    // The term before a batch is that of the entry that was written before it. Where entries were read that it
    // replaces, that is another one than the snapshot's last, and no contradiction.
    let replaces = !log.entries.is_empty();
    if log.restart.is_none()
        && known.index > Index(0)
        && header.first_index == known.index.next()
        && !replaces
    {
        log.contradicts = header.prev_term != known.term;
    }
    for record in batch.records.map_err(|why| RecoverError::Malformed { place, why })? {
        match record {
            Record::Entry(entry) => take_entry(log, known, entry, place)?,
            Record::Restart { index, term } => {
                log.entries.clear();
                log.contradicts = false;
                log.restart = Some((index, term));
            }
        }
    }
    log.hard_state = batch.header.hard_state;
    log.prev_header_crc = batch.header_crc;
    log.end = batch.header.end();
    let (_, _, highest) = log.segments.last_mut().expect("pushed at the segment's start");
    *highest = batch.header.last_index.max(*highest);
    Ok(())
}

fn take_entry(
    log: &mut Recovered,
    known: Known,
    entry: Entry,
    place: Place,
) -> Result<(), RecoverError> {
    let covered = covered(log, known);
    if entry.index <= covered {
        // The snapshot covers it; but what was read beyond it has been replaced.
        log.entries.clear();
        if log.restart.is_none() && entry.index == known.index {
            log.contradicts = entry.term != known.term;
        }
        return Ok(());
    }
    if log.contradicts {
        return Ok(());
    }
    let next = last_index(log, known).next();
    if entry.index > next {
        let to = Some(entry.index.prev());
        return Err(RecoverError::Corrupt { place, why: Why::IndexGap, from: next, to });
    }
    log.entries.truncate(to_usize(entry.index.0 - covered.0 - 1));
    log.entries.push(entry);
    Ok(())
}

/// The last index that needs no entry.
fn covered(log: &Recovered, known: Known) -> Index {
    log.restart.map_or(known.index, |(index, _)| index.max(known.index))
}

fn last_index(log: &Recovered, known: Known) -> Index {
    log.entries.last().map_or_else(|| covered(log, known), |entry| entry.index)
}
