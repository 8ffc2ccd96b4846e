//! The log against a medium of bytes in memory: every row of the recovery table, every kind of torn write.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;

use super::recover::{Known, Why};
use super::scan::{SegmentFile, Unreadable};
use super::writer::Config;
use super::*;
use crate::convert::{to_u64, to_usize};
use crate::ids::{ClusterId, MemberId};
use crate::raft::{Entry, EntryKind, HardState, Index, Term};
use crate::rng::Rng;
use crate::time::Time;

const CONFIG: Config = Config {
    cluster: ClusterId(1),
    member: MemberId(2),
    segment_bytes: 32768,
    first_segment_bytes: 32768,
};

const KNOWN: Known = Known {
    cluster: ClusterId(1),
    member: MemberId(2),
    start: Lsn(0),
    promise: Lsn(0),
    index: Index(0),
    term: Term(0),
};

/// Segment files in memory; some blocks may refuse to be read.
#[derive(Clone, Default)]
struct Medium {
    files: BTreeMap<SegmentSeq, Vec<u8>>,
    unreadable: Vec<(SegmentSeq, u64)>,
}

impl Medium {
    fn write(&mut self, write: &LogWrite) {
        let file = self.files.entry(write.segment).or_default();
        file.resize(file.len().max(to_usize(write.capacity)), 0);
        let offset = to_usize(write.offset);
        file[offset..offset + write.bytes.len()].copy_from_slice(&write.bytes);
    }

    fn flip(&mut self, segment: SegmentSeq, offset: u64) {
        self.files.get_mut(&segment).unwrap()[to_usize(offset)] ^= 1;
    }

    fn recover(&mut self) -> Result<Recovered, RecoverError> {
        recover(self, KNOWN)
    }
}

impl LogSource for Medium {
    fn segments(&mut self) -> Vec<SegmentFile> {
        self.files
            .iter()
            .map(|(seq, bytes)| SegmentFile { seq: *seq, bytes: to_u64(bytes.len()) })
            .collect()
    }

    fn read(&mut self, seq: SegmentSeq, offset: u64, len: usize) -> Result<Bytes, Unreadable> {
        let bad = |(file, block): &(SegmentSeq, u64)| {
            *file == seq && (offset..offset + to_u64(len)).contains(block)
        };
        let bytes = self.files.get(&seq).ok_or(Unreadable)?;
        let range = to_usize(offset)..to_usize(offset) + len;
        if self.unreadable.iter().any(bad) {
            return Err(Unreadable);
        }
        bytes.get(range).map(Bytes::copy_from_slice).ok_or(Unreadable)
    }
}

/// A writer and its medium; every write is answered at once.
struct Log {
    medium: Medium,
    writer: Writer,
    now: Time,
}

impl Log {
    fn new() -> Self {
        Self::open(Medium::default())
    }

    fn open(mut medium: Medium) -> Self {
        let recovered = medium.recover().unwrap();
        let last = recovered.entries.last().map_or((Index(0), Term(0)), |e| (e.index, e.term));
        let writer = Writer::new(CONFIG, &recovered, last, Rng::new(7));
        Self { medium, writer, now: Time::ZERO }
    }

    /// Carries out the next write.
    fn write(&mut self) -> Option<LogWrite> {
        let write = self.writer.poll(self.now)?;
        self.medium.write(&write);
        self.writer.written(self.now, write.end);
        Some(write)
    }

    fn entries(&mut self, indexes: core::ops::RangeInclusive<u64>, term: u64) -> LogWrite {
        let entries: Vec<_> = indexes.map(|index| entry(index, term)).collect();
        self.writer.append(&entries);
        self.write().unwrap()
    }

    /// Lets the log rest until it vouches for its last batch.
    fn mark(&mut self) -> LogWrite {
        self.now = self.writer.deadline().expect("something to vouch for");
        self.write().unwrap()
    }
}

fn entry(index: u64, term: u64) -> Entry {
    let data = Bytes::from(alloc::format!("entry {index} of term {term}"));
    Entry::new(Index(index), Term(term), EntryKind::Command, data)
}

fn indexes(recovered: &Recovered) -> Vec<u64> {
    recovered.entries.iter().map(|entry| entry.index.0).collect()
}

fn why(result: Result<Recovered, RecoverError>) -> Why {
    match result {
        Err(RecoverError::Corrupt { why, .. }) => why,
        other => panic!("expected corruption, got {other:?}"),
    }
}

/// The place of a write's batch in its file: behind the header if the write begins the segment.
fn batch_offset(write: &LogWrite) -> u64 {
    if write.offset == 0 { to_u64(segment::HEADER_BYTES) } else { write.offset }
}

#[test]
fn an_empty_directory_is_an_empty_log() {
    let recovered = Medium::default().recover().unwrap();
    assert_eq!(recovered.entries, vec![]);
    assert_eq!((recovered.end, recovered.last_seq), (Lsn(0), SegmentSeq(0)));
}

#[test]
fn rows_a_and_c_batches_are_taken_across_segments() {
    let mut log = Log::new();
    for index in 1..=20 {
        log.entries(index..=index, 1);
    }
    let hard_state = HardState { term: Term(3), vote: MemberId(2), commit: Index(20) };
    log.writer.save(hard_state);
    log.write().unwrap();
    assert!(log.medium.files.len() > 2, "several segments were filled");
    let recovered = log.medium.recover().unwrap();
    assert_eq!(indexes(&recovered), (1..=20).collect::<Vec<_>>());
    assert_eq!(recovered.entries[4], entry(5, 1));
    assert_eq!(recovered.hard_state, hard_state);
    assert_eq!(recovered.torn, None);
}

#[test]
fn row_a_a_restart_continues_in_a_new_segment() {
    let mut log = Log::new();
    log.entries(1..=3, 1);
    let mut log = Log::open(log.medium);
    log.entries(4..=5, 2);
    let recovered = log.medium.recover().unwrap();
    assert_eq!(indexes(&recovered), [1, 2, 3, 4, 5]);
    assert_eq!(recovered.last_seq, SegmentSeq(2));
}

#[test]
fn row_b_a_successor_with_another_history_is_corruption() {
    let mut log = Log::new();
    log.entries(1..=3, 1);
    let mut other = Log::new();
    other.entries(1..=2, 9);
    let mut other = Log::open(other.medium);
    other.entries(3..=3, 9);
    let alien = other.medium.files.remove(&SegmentSeq(2)).unwrap();
    log.medium.files.insert(SegmentSeq(2), alien);
    assert_eq!(why(log.medium.recover()), Why::ChainBroken);
}

#[test]
fn row_d_a_successor_that_starts_inside_a_batch_is_corruption() {
    let mut log = Log::new();
    log.entries(1..=1, 1);
    let mut other = Log::open(log.medium.clone());
    other.entries(2..=2, 1);
    // In this history the second batch spans two blocks; in the other one a segment begins there.
    let large = Bytes::from(vec![7; 5000]);
    log.writer.append(&[Entry::new(Index(2), Term(1), EntryKind::Command, large)]);
    log.write().unwrap();
    let mut alien = other.medium.files.remove(&SegmentSeq(2)).unwrap();
    let shifted =
        match segment::SegmentHeader::decode(&alien[..segment::HEADER_BYTES], SegmentSeq(2)) {
            segment::Decoded::Used(header) => {
                segment::SegmentHeader { base: header.base.advance(4096), ..header }
            }
            decoded @ (segment::Decoded::Blank | segment::Decoded::Unknown { .. }) => {
                panic!("{decoded:?}")
            }
        };
    let mut header = Vec::new();
    shifted.encode(&mut header);
    alien[..segment::HEADER_BYTES].copy_from_slice(&header);
    log.medium.files.insert(SegmentSeq(2), alien);
    assert_eq!(why(log.medium.recover()), Why::Overlap);
}

#[test]
fn row_e_damage_before_the_next_segment_is_corruption_and_is_named() {
    let mut log = Log::new();
    log.entries(1..=3, 1);
    let damaged = log.entries(4..=6, 1);
    let mut log = Log::open(log.medium);
    log.entries(7..=7, 1);
    log.medium.flip(damaged.segment, damaged.offset + 200);
    let error = log.medium.recover().unwrap_err();
    let place = recover::Place { segment: SegmentSeq(1), offset: damaged.offset, lsn: Lsn(4096) };
    let why = Why::DamagedBeforeSuccessor;
    assert_eq!(error, RecoverError::Corrupt { place, why, from: Index(4), to: None });
    assert_eq!(
        alloc::format!("{error}"),
        "0000000000000001.wal is corrupt at offset 12288: a batch is damaged and the next segment continues \
         behind it; the entries from index 4 on may be lost"
    );
}

#[test]
fn row_f_a_torn_tail_is_cut_whatever_sectors_of_it_survive() {
    let mut log = Log::new();
    log.entries(1..=3, 1);
    let before = log.medium.clone();
    let large = Bytes::from(vec![7; 3000]);
    log.writer.append(&[Entry::new(Index(4), Term(1), EntryKind::Command, large)]);
    let write = log.writer.poll(log.now).unwrap();
    assert_eq!(write.bytes.len(), 4096);
    for survivors in 0..255_u32 {
        let mut medium = before.clone();
        let file = medium.files.get_mut(&write.segment).unwrap();
        for sector in (0..8).filter(|sector| survivors >> sector & 1 == 1) {
            let (from, to) = (sector * 512, (sector + 1) * 512);
            let offset = to_usize(write.offset);
            file[offset + from..offset + to].copy_from_slice(&write.bytes[from..to]);
        }
        let recovered = medium.recover().unwrap();
        // The entry ends in the seventh sector: with these, the batch is whole though never acknowledged.
        let whole = survivors & 0b0111_1111 == 0b0111_1111;
        assert_eq!(recovered.entries.len(), if whole { 4 } else { 3 }, "sectors {survivors:08b}");
        // Recovery is idempotent, also after the next life began to write.
        let mut log = Log::open(medium);
        let next = log.writer.poll(log.now).is_none();
        assert!(next, "nothing to write yet");
        log.entries(to_u64(recovered.entries.len()) + 1..=9, 2);
        assert_eq!(indexes(&log.medium.recover().unwrap()), (1..=9).collect::<Vec<_>>());
    }
}

#[test]
fn row_f_a_torn_first_write_of_a_segment_leaves_it_unused() {
    let mut log = Log::new();
    log.entries(1..=3, 1);
    let mut second = Log::open(log.medium.clone());
    second.writer.append(&[entry(4, 1)]);
    let write = second.writer.poll(second.now).unwrap();
    assert_eq!((write.offset, write.bytes.len()), (0, 3 * 4096));
    for survivors in 0..7_u32 {
        let mut medium = log.medium.clone();
        let mut torn = write.clone();
        for block in (0..3).filter(|block| survivors >> block & 1 == 0) {
            torn.bytes[block * 4096..(block + 1) * 4096].fill(0);
        }
        medium.write(&torn);
        let recovered = medium.recover().unwrap();
        let whole = survivors & 0b100 != 0 && survivors & 0b011 != 0;
        assert_eq!(recovered.entries.len(), if whole { 4 } else { 3 }, "blocks {survivors:03b}");
        assert_eq!(recovered.last_seq, SegmentSeq(2), "the name is never used again");
    }
}

#[test]
fn row_f_a_torn_first_write_in_a_recycled_file_leaves_it_unused() {
    let mut log = Log::new();
    log.entries(1..=3, 1);
    let mut second = Log::open(log.medium.clone());
    second.writer.append(&[entry(4, 1)]);
    let write = second.writer.poll(second.now).unwrap();
    // The file was a segment before, with two whole headers and a batch of their own.
    let recycled = log.medium.files[&SegmentSeq(1)].clone();
    for survivors in 0..8_u32 {
        let mut medium = log.medium.clone();
        let mut file = recycled.clone();
        for block in (0..3).filter(|block| survivors >> block & 1 == 1) {
            let bytes = block * 4096..(block + 1) * 4096;
            file[bytes.clone()].copy_from_slice(&write.bytes[bytes]);
        }
        medium.files.insert(SegmentSeq(2), file);
        let recovered = medium.recover().unwrap();
        let whole = survivors & 0b100 != 0 && survivors & 0b011 != 0;
        assert_eq!(recovered.entries.len(), if whole { 4 } else { 3 }, "blocks {survivors:03b}");
        assert_eq!(recovered.last_seq, SegmentSeq(2), "the name is never used again");
    }
}

#[test]
fn row_g_damage_that_a_later_header_vouches_for_is_corruption() {
    let mut log = Log::new();
    log.entries(1..=3, 1);
    let damaged = log.entries(4..=6, 1);
    log.mark();
    log.medium.flip(damaged.segment, damaged.offset + 200);
    let error = log.medium.recover().unwrap_err();
    let RecoverError::Corrupt { why, from, to, .. } = error else { panic!("{error:?}") };
    assert_eq!((why, from, to), (Why::DamagedBeforePromise, Index(4), Some(Index(6))));
}

#[test]
fn row_g_damage_to_both_headers_of_a_segment_is_corruption() {
    let mut log = Log::new();
    log.entries(1..=3, 1);
    let mut log = Log::open(log.medium);
    let first = log.entries(4..=6, 1);
    log.mark();
    log.medium.flip(first.segment, 9);
    log.medium.flip(first.segment, 4096 + 9);
    assert_eq!(why(log.medium.recover()), Why::DamagedBeforePromise);
}

#[test]
fn a_block_that_cannot_be_read_is_as_good_as_damaged() {
    let mut log = Log::new();
    log.entries(1..=3, 1);
    let bad = log.entries(4..=6, 1);
    log.mark();
    log.medium.unreadable.push((bad.segment, batch_offset(&bad)));
    assert_eq!(why(log.medium.recover()), Why::DamagedBeforePromise);
    log.medium.unreadable[0].1 = 0;
    let recovered = log.medium.recover().unwrap();
    assert_eq!(recovered.entries.len(), 6, "the second copy of the segment header is enough");
}

#[test]
fn a_snapshots_promise_is_as_good_as_a_headers() {
    let mut log = Log::new();
    log.entries(1..=3, 1);
    let damaged = log.entries(4..=6, 1);
    log.medium.flip(damaged.segment, damaged.offset + 200);
    assert_eq!(indexes(&log.medium.recover().unwrap()), [1, 2, 3], "row F without it");
    let known = Known { promise: damaged.end, ..KNOWN };
    assert_eq!(why(recover(&mut log.medium, known)), Why::DamagedBeforePromise);
    let lost = recover(&mut Medium::default(), known);
    assert_eq!(why(lost), Why::StartMissing);
}

#[test]
fn entries_are_replaced_from_where_a_new_leader_differs() {
    let mut log = Log::new();
    log.entries(1..=5, 1);
    log.entries(3..=4, 2);
    let recovered = log.medium.recover().unwrap();
    assert_eq!(recovered.entries, [entry(1, 1), entry(2, 1), entry(3, 2), entry(4, 2)]);
}

/// A new leader replaced the entry behind the snapshot: its batch names the term of the one that it replaces.
#[test]
fn an_entry_that_was_replaced_behind_a_snapshot_is_no_contradiction() {
    let mut log = Log::new();
    log.entries(1..=1, 1);
    log.entries(2..=2, 3);
    log.entries(2..=3, 4);
    let known = Known { index: Index(1), term: Term(1), ..KNOWN };
    let recovered = recover(&mut log.medium, known).unwrap();
    assert!(!recovered.contradicts);
    assert_eq!(recovered.entries, [entry(2, 4), entry(3, 4)]);
}

#[test]
fn what_a_snapshot_covers_is_dropped_and_its_segments_retire() {
    let mut log = Log::new();
    for index in 1..=20 {
        log.entries(index..=index, 1);
    }
    let start = log.writer.start_of(Index(12));
    let retired = log.writer.retire(start);
    assert!(!retired.is_empty());
    for seq in retired {
        log.medium.files.remove(&seq);
    }
    let known = Known { start, index: Index(12), term: Term(1), ..KNOWN };
    let recovered = recover(&mut log.medium, known).unwrap();
    assert_eq!(indexes(&recovered), (13..=20).collect::<Vec<_>>());
    let early = Known { index: Index(2), ..KNOWN };
    assert_eq!(why(recover(&mut log.medium, early)), Why::StartMissing);
}

#[test]
fn a_restart_behind_a_snapshot_drops_what_was_before() {
    let mut log = Log::new();
    log.entries(1..=5, 1);
    log.writer.restart(Index(40), Term(3));
    log.write().unwrap();
    log.entries(41..=42, 3);
    let recovered = log.medium.recover().unwrap();
    assert_eq!(recovered.restart, Some((Index(40), Term(3))));
    assert_eq!(indexes(&recovered), [41, 42]);
}

#[test]
fn a_foreign_log_and_an_unknown_format_are_refused() {
    let mut log = Log::new();
    log.entries(1..=1, 1);
    let known = Known { member: MemberId(9), ..KNOWN };
    let (segment, cluster, member) = (SegmentSeq(1), ClusterId(1), MemberId(2));
    assert_eq!(
        recover(&mut log.medium, known),
        Err(RecoverError::Foreign { segment, cluster, member })
    );
}

#[test]
fn what_gathers_while_a_write_is_in_flight_becomes_one_batch() {
    let mut log = Log::new();
    log.writer.append(&[entry(1, 1)]);
    let first = log.writer.poll(log.now).unwrap();
    let before = log.writer.barrier();
    log.writer.append(&[entry(2, 1), entry(3, 1)]);
    log.writer.append(&[entry(4, 1)]);
    let after = log.writer.barrier();
    assert_eq!(log.writer.poll(log.now), None, "one write at a time");
    assert!(log.writer.reached() < before);
    log.writer.written(log.now, first.end);
    assert!(before <= log.writer.reached() && log.writer.reached() < after);
    let second = log.writer.poll(log.now).unwrap();
    log.writer.written(log.now, second.end);
    assert!(after <= log.writer.reached());
    assert_eq!(log.writer.poll(log.now), None);
}

#[test]
fn an_idle_log_vouches_once() {
    let mut log = Log::new();
    assert_eq!(log.writer.deadline(), None);
    log.writer.save(HardState { term: Term(1), vote: MemberId(2), commit: Index(0) });
    log.write().unwrap();
    assert_eq!(log.writer.deadline(), Some(log.now + IDLE_MARK));
    log.mark();
    assert_eq!(log.writer.deadline(), None, "a mark needs no mark");
}

#[test]
fn an_entry_larger_than_a_segment_has_one_of_its_own() {
    let mut log = Log::new();
    let large = Entry::new(Index(1), Term(1), EntryKind::Command, Bytes::from(vec![1; 100_000]));
    log.writer.append(core::slice::from_ref(&large));
    log.write().unwrap();
    log.entries(2..=2, 1);
    let recovered = log.medium.recover().unwrap();
    assert_eq!(recovered.entries, [large, entry(2, 1)]);
}
