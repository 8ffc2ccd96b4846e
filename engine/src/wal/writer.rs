//! Gathers what must become durable and turns it into writes, one in flight at a time.
//!
//! Group commit without a timer: while a write is in flight, whatever is queued gathers in batches; when the
//! write is answered, the next batch leaves. A lone entry goes out at once.
//!
//! ```text
//!  append, save          poll                    written
//! ───────────────► queue ────► in flight (one) ────────► durable
//! ```

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::batch::{self, BatchHeader};
use super::record;
use super::recover::Recovered;
use super::segment::{self, SegmentHeader};
use super::{BATCH_BYTES_MAX, BLOCK_BYTES, IDLE_MARK, Lsn, SegmentSeq, to_blocks};
use crate::convert::to_u64;
use crate::ids::{ClusterId, MemberId};
use crate::raft::{Entry, HardState, Index, Term};
use crate::rng::Rng;
use crate::time::Time;

/// How the log is laid out; fixed while a member runs.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The cluster that the log belongs to.
    pub cluster: ClusterId,
    /// The member that the log belongs to.
    pub member: MemberId,
    /// Bytes of a segment file. A batch that needs more gets a larger segment of its own.
    pub segment_bytes: u64,
    /// Bytes of the first segment after a start, which has to be made while the member waits.
    pub first_segment_bytes: u64,
}

/// A write for the driver to carry out, with everything before it already durable.
#[derive(Clone, PartialEq, Eq)]
pub struct LogWrite {
    /// The segment file.
    pub segment: SegmentSeq,
    /// Bytes that the file must have.
    pub capacity: u64,
    /// Where to write. At zero the segment begins: the driver first gives a prepared file its name, durably.
    pub offset: u64,
    /// What to write: whole blocks.
    pub bytes: Vec<u8>,
    /// What to report as written once the bytes are durable.
    pub end: Lsn,
}

impl core::fmt::Debug for LogWrite {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "LogWrite({}.wal {}+{} to {})",
            self.segment,
            self.offset,
            self.bytes.len(),
            self.end
        )
    }
}

/// A moment in the queue: reached when everything queued before it is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Barrier(u64);

/// Entries on their way into one batch.
#[derive(Debug)]
struct Pending {
    payload: Vec<u8>,
    records: u16,
    first_index: Index,
    last_index: Index,
    prev_term: Term,
    last_term: Term,
    /// Written only to vouch for what is before it.
    mark: bool,
}

/// The segment that batches go to.
#[derive(Debug)]
struct Open {
    seq: SegmentSeq,
    salt: u64,
    base: Lsn,
    capacity: u64,
    /// Highest index that any batch in it has.
    highest: Index,
}

/// A segment that takes no more batches.
#[derive(Debug)]
struct Closed {
    seq: SegmentSeq,
    base: Lsn,
    highest: Index,
}

/// The writing half of the log.
#[derive(Debug)]
pub struct Writer {
    config: Config,
    rng: Rng,
    closed: VecDeque<Closed>,
    open: Option<Open>,
    next_seq: SegmentSeq,
    /// Where the next batch goes.
    end: Lsn,
    /// Everything below is durable.
    durable: Lsn,
    prev_header_crc: u32,
    hard_state: HardState,
    last_index: Index,
    last_term: Term,
    queue: VecDeque<Pending>,
    in_flight: Option<InFlight>,
    /// Batches queued, and of these durable, since the start.
    queued: Barrier,
    reached: Barrier,
    /// Set while the last durable batch has nobody to vouch for it.
    unvouched_since: Option<Time>,
}

#[derive(Debug)]
struct InFlight {
    since: Time,
    end: Lsn,
    reaches: Barrier,
    mark: bool,
}

impl Writer {
    /// Continues the log where [`recover`](super::recover()) found its end, in a new segment.
    ///
    /// `last` is the index and term of the last entry, or of the snapshot if there is no entry.
    pub fn new(config: Config, log: &Recovered, last: (Index, Term), rng: Rng) -> Self {
        let closed = log
            .segments
            .iter()
            .map(|(seq, base, highest)| Closed { seq: *seq, base: *base, highest: *highest })
            .collect();
        Self {
            config,
            rng,
            closed,
            open: None,
            next_seq: log.last_seq.next(),
            end: log.end,
            durable: log.end,
            prev_header_crc: log.prev_header_crc,
            hard_state: log.hard_state,
            last_index: last.0,
            last_term: last.1,
            queue: VecDeque::new(),
            in_flight: None,
            queued: Barrier(0),
            reached: Barrier(0),
            unvouched_since: None,
        }
    }

    /// Queues entries that follow, or replace from their first index on, what the log holds.
    ///
    /// # Panics
    /// If they leave a gap.
    pub fn append(&mut self, entries: &[Entry]) {
        for entry in entries {
            assert!(entry.index <= self.last_index.next(), "the log has no gap");
            let prev_term = self.last_term;
            let follows = entry.index == self.last_index.next();
            let pending = match self.queue.back_mut() {
                Some(open) if follows && open.takes(record::entry_bytes(entry)) => open,
                _ => self.begin_batch(entry.index, prev_term),
            };
            record::encode_entry(entry, &mut pending.payload);
            pending.records += 1;
            pending.last_index = entry.index;
            pending.last_term = entry.term;
            self.last_index = entry.index;
            self.last_term = entry.term;
        }
    }

    /// Queues a new term, vote or commit index.
    pub fn save(&mut self, hard_state: HardState) {
        assert!(hard_state.term >= self.hard_state.term, "terms never decrease");
        self.hard_state = hard_state;
        if self.queue.is_empty() {
            self.begin_batch(self.last_index.next(), self.last_term);
        }
    }

    /// Notes a commit index; it rides on whatever is written next and needs no write of its own.
    pub fn note_commit(&mut self, commit: Index) {
        self.hard_state.commit = commit;
    }

    /// Queues the news that a snapshot replaced the state: the log restarts behind `index`.
    pub fn restart(&mut self, index: Index, term: Term) {
        let pending = self.begin_batch(index.next(), term);
        record::encode_restart(index, term, &mut pending.payload);
        pending.records = 1;
        pending.last_index = index;
        pending.last_term = term;
        self.last_index = index;
        self.last_term = term;
    }

    fn begin_batch(&mut self, first_index: Index, prev_term: Term) -> &mut Pending {
        self.queued.0 += 1;
        self.queue.push_back(Pending::new(first_index, prev_term));
        self.queue.back_mut().expect("just pushed")
    }

    /// The moment when all that is queued now will be durable.
    pub fn barrier(&self) -> Barrier {
        self.queued
    }

    /// The latest moment that has been reached.
    pub fn reached(&self) -> Barrier {
        self.reached
    }

    /// The next write, if none is in flight and there is something to write.
    pub fn poll(&mut self, now: Time) -> Option<LogWrite> {
        if self.in_flight.is_some() {
            return None;
        }
        if let Some(pending) = self.queue.pop_front() {
            let reaches = Barrier(self.queued.0 - to_u64(self.queue.len()));
            return Some(self.seal(now, pending, reaches));
        }
        let since = self.unvouched_since?;
        if now < since + IDLE_MARK {
            return None;
        }
        let mark = Pending { mark: true, ..Pending::new(self.last_index.next(), self.last_term) };
        Some(self.seal(now, mark, self.reached))
    }

    /// When [`Writer::poll`] may have something although nothing was queued.
    pub fn deadline(&self) -> Option<Time> {
        if self.in_flight.is_some() || !self.queue.is_empty() {
            return None;
        }
        self.unvouched_since.map(|since| since + IDLE_MARK)
    }

    /// Takes the answer to a write: everything below `to` is durable.
    ///
    /// # Panics
    /// If no such write is in flight.
    pub fn written(&mut self, now: Time, to: Lsn) {
        let write = self.in_flight.take().expect("a write is in flight");
        assert_eq!(write.end, to, "the answer belongs to the write");
        self.durable = to;
        self.reached = write.reaches;
        self.unvouched_since = (!write.mark).then_some(now);
    }

    /// Makes a batch out of what is pending, in a new segment if it does not fit in the open one.
    fn seal(&mut self, now: Time, pending: Pending, reaches: Barrier) -> LogWrite {
        assert!(self.durable == self.end, "everything before a batch is durable (W4)");
        let batch_bytes = to_blocks(batch::HEADER_BYTES + pending.payload.len());
        let mut bytes = Vec::with_capacity(batch_bytes);
        let fits = self
            .open
            .as_ref()
            .is_some_and(|open| open.offset(self.end) + to_u64(batch_bytes) <= open.capacity);
        let mut offset = 0;
        if fits {
            offset = self.open.as_ref().expect("it fits").offset(self.end);
        } else {
            bytes.reserve(segment::HEADER_BYTES);
            self.begin_segment(to_u64(batch_bytes)).encode(&mut bytes);
        }
        let open = self.open.as_mut().expect("a segment is open");
        open.highest = pending.last_index.max(open.highest);
        let header = BatchHeader {
            lsn: self.end,
            promise: self.durable,
            payload_bytes: u32::try_from(pending.payload.len()).expect("requests are limited"),
            records: pending.records,
            prev_header_crc: self.prev_header_crc,
            payload_crc: batch::payload_checksum(self.end, &pending.payload),
            first_index: pending.first_index,
            last_index: pending.last_index,
            prev_term: pending.prev_term,
            last_term: pending.last_term,
            hard_state: self.hard_state,
            segment: open.seq,
            salt: open.salt,
        };
        self.prev_header_crc = header.encode(&mut bytes);
        bytes.extend_from_slice(&pending.payload);
        bytes.resize(to_blocks(bytes.len()), 0);
        self.end = header.end();
        self.in_flight = Some(InFlight { since: now, end: self.end, reaches, mark: pending.mark });
        LogWrite { segment: open.seq, capacity: open.capacity, offset, bytes, end: self.end }
    }

    /// Closes the open segment and opens the next, large enough for a batch of `batch_bytes`.
    fn begin_segment(&mut self, batch_bytes: u64) -> SegmentHeader {
        let mut capacity = self.config.first_segment_bytes;
        if let Some(open) = self.open.take() {
            self.closed.push_back(Closed { seq: open.seq, base: open.base, highest: open.highest });
            capacity = self.config.segment_bytes;
        }
        let open = Open {
            seq: self.next_seq,
            salt: self.rng.next_u64(),
            base: self.end,
            capacity: capacity.max(to_u64(segment::HEADER_BYTES) + batch_bytes),
            highest: Index(0),
        };
        self.next_seq = open.seq.next();
        let header = SegmentHeader {
            seq: open.seq,
            salt: open.salt,
            cluster: self.config.cluster,
            member: self.config.member,
            base: open.base,
            prev_header_crc: self.prev_header_crc,
            capacity: open.capacity,
        };
        self.open = Some(open);
        header
    }

    /// Where reading must start to find every entry above `index`: where a segment begins.
    pub fn start_of(&self, index: Index) -> Lsn {
        let closed =
            self.closed.iter().find(|closed| closed.highest > index).map(|closed| closed.base);
        let open = || self.open.as_ref().map(|open| open.base);
        closed.or_else(open).unwrap_or(self.end)
    }

    /// When the write that is under way began, if one is.
    pub fn in_flight_since(&self) -> Option<Time> {
        self.in_flight.as_ref().map(|write| write.since)
    }

    /// Everything below is durable.
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// Bytes of log written since the log ended at `start`.
    pub fn bytes_since(&self, start: Lsn) -> u64 {
        self.end.0 - start.0
    }

    /// Forgets the segments before `start` and returns them, for the driver to recycle; not the last that holds
    /// something durable, because term and vote stand nowhere else.
    ///
    /// The caller promises that a durable snapshot names a start at or beyond `start`.
    pub fn retire(&mut self, start: Lsn) -> Vec<SegmentSeq> {
        let mut retired = Vec::new();
        while let Some(closed) = self.closed.front() {
            // The next segment's base is this one's end.
            let open = || self.open.as_ref().map(|open| open.base);
            let end = self.closed.get(1).map(|next| next.base).or_else(open);
            if end.is_none_or(|end| end > start || end >= self.durable) {
                break;
            }
            retired.push(closed.seq);
            self.closed.pop_front();
        }
        retired
    }
}

impl Pending {
    fn new(first_index: Index, prev_term: Term) -> Self {
        Self {
            payload: Vec::new(),
            records: 0,
            first_index,
            last_index: first_index.prev(),
            prev_term,
            last_term: prev_term,
            mark: false,
        }
    }

    /// Whether another record of `bytes` may join.
    fn takes(&self, bytes: usize) -> bool {
        self.records < u16::MAX && self.payload.len() + bytes <= BATCH_BYTES_MAX
    }
}

impl Open {
    fn offset(&self, lsn: Lsn) -> u64 {
        to_u64(segment::HEADER_BYTES) + (lsn.0 - self.base.0)
    }
}

const _: () =
    assert!(segment::HEADER_BYTES.is_multiple_of(BLOCK_BYTES), "batches start on a block");
