//! The log: whatever happens to its files, recovery says either what the log was at some moment, or what is lost.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use cairn_engine::raft::{Entry, EntryKind, HardState, Index, Term};
use cairn_engine::wal::recover::Known;
use cairn_engine::wal::scan::{SegmentFile, Unreadable};
use cairn_engine::wal::writer::{Config, Writer};
use cairn_engine::wal::{
    BLOCK_BYTES, LogSource, LogWrite, Lsn, RecoverError, Recovered, SegmentSeq, recover,
};
use cairn_engine::{ClusterId, MemberId, Rng, Time};

use crate::choices::Choices;

const CONFIG: Config = Config {
    cluster: ClusterId(1),
    member: MemberId(2),
    segment_bytes: 32 << 10,
    first_segment_bytes: 32 << 10,
};
/// Blocks in front of a segment's first batch: its header, twice.
const HEADER_BLOCKS: usize = 2;

fn known() -> Known {
    Known { cluster: CONFIG.cluster, member: CONFIG.member, ..Known::default() }
}

/// Segment files in memory; some blocks may refuse to be read.
#[derive(Clone, Debug, Default)]
struct Medium {
    files: BTreeMap<SegmentSeq, Vec<u8>>,
    unreadable: BTreeSet<(SegmentSeq, usize)>,
}

impl Medium {
    fn write(&mut self, write: &LogWrite) {
        let file = self.files.entry(write.segment).or_default();
        file.resize(file.len().max(size(write.capacity)), 0);
        file[size(write.offset)..][..write.bytes.len()].copy_from_slice(&write.bytes);
    }

    fn block(&mut self, (seq, block): (SegmentSeq, usize)) -> Option<&mut [u8]> {
        self.files.get_mut(&seq)?.chunks_exact_mut(BLOCK_BYTES).nth(block)
    }
}

impl LogSource for Medium {
    fn segments(&mut self) -> Vec<SegmentFile> {
        let file = |(seq, bytes): (&SegmentSeq, &Vec<u8>)| SegmentFile {
            seq: *seq,
            bytes: u64::try_from(bytes.len()).expect("64 bits"),
        };
        self.files.iter().map(file).collect()
    }

    fn read(&mut self, seq: SegmentSeq, offset: u64, len: usize) -> Result<Bytes, Unreadable> {
        let range = size(offset)..size(offset) + len;
        let mut blocks = range.start / BLOCK_BYTES..range.end / BLOCK_BYTES;
        if blocks.any(|block| self.unreadable.contains(&(seq, block))) {
            return Err(Unreadable);
        }
        let file = self.files.get(&seq).ok_or(Unreadable)?;
        file.get(range).map(Bytes::copy_from_slice).ok_or(Unreadable)
    }
}

fn size(number: u64) -> usize {
    usize::try_from(number).expect("64 bits")
}

/// A batch that was written and answered.
#[derive(Clone, Debug)]
struct Written {
    segment: SegmentSeq,
    /// The block of its header.
    block: usize,
    end: Lsn,
    /// The entries of the whole log when it was durable.
    entries: Vec<Entry>,
}

/// A log with its whole history.
struct Log {
    medium: Medium,
    writer: Writer,
    now: Time,
    entries: Vec<Entry>,
    term: Term,
    written: Vec<Written>,
}

impl Log {
    fn open(mut medium: Medium, written: Vec<Written>) -> Result<Self, RecoverError> {
        let recovered = recover(&mut medium, known())?;
        let last = recovered.entries.last().map_or((Index(0), Term(0)), |e| (e.index, e.term));
        let writer = Writer::new(CONFIG, &recovered, last, Rng::new(7));
        let Recovered { entries, hard_state, .. } = recovered;
        let term = last.1.max(hard_state.term);
        Ok(Self { medium, writer, now: Time::ZERO, entries, term, written })
    }

    /// Appends entries, perhaps in place of others as after a change of leader.
    fn append(&mut self, choices: &mut Choices<'_>) {
        if choices.byte().is_multiple_of(8) {
            self.term = Term(self.term.0 + 1);
            let kept = self.entries.len() - choices.below(self.entries.len().min(3) + 1);
            self.entries.truncate(kept);
        }
        self.term = self.term.max(Term(1));
        let count = 1 + choices.below(3);
        let first = self.entries.len();
        for _ in 0..count {
            let index = u64::try_from(self.entries.len() + 1).expect("64 bits");
            let data = vec![choices.byte(); choices.below(6000)];
            let entry = Entry::new(Index(index), self.term, EntryKind::Command, data.into());
            self.entries.push(entry);
        }
        self.writer.append(&self.entries[first..]);
        self.write();
    }

    /// Carries out whatever is due, and answers it.
    fn write(&mut self) {
        while let Some(write) = self.writer.poll(self.now) {
            self.medium.write(&write);
            self.writer.written(self.now, write.end);
            let before = if write.offset == 0 { HEADER_BLOCKS } else { 0 };
            self.written.push(Written {
                segment: write.segment,
                block: size(write.offset) / BLOCK_BYTES + before,
                end: write.end,
                entries: self.entries.clone(),
            });
        }
    }
}

/// Writes a log as the bytes say, damages it as they say, and recovers it.
pub fn wal_recovery(data: &[u8]) {
    let mut choices = Choices(data);
    let mut log = Log::open(Medium::default(), Vec::new()).expect("nothing is an empty log");
    for _ in 0..1 + choices.below(24) {
        match choices.byte() % 8 {
            0..=4 => log.append(&mut choices),
            5 => {
                let term = Term(log.term.0 + 1);
                let commit = Index(u64::try_from(log.entries.len()).expect("64 bits"));
                log.term = term;
                log.writer.save(HardState { term, vote: MemberId(2), commit });
                log.write();
            }
            6 => {
                log.now = log.writer.deadline().unwrap_or(log.now);
                log.write();
            }
            _ => {
                let (medium, written) = (log.medium.clone(), log.written.clone());
                log = Log::open(medium, written).expect("nothing is damaged yet");
            }
        }
    }
    let Log { mut medium, written, .. } = log;
    let mut touched = BTreeSet::new();
    while !choices.is_empty() {
        damage(&mut medium, &mut touched, &mut choices);
    }
    let Ok(recovered) = recover(&mut medium.clone(), known()) else {
        assert!(!touched.is_empty(), "nothing is reported where nothing happened");
        return;
    };
    let kept = check(&medium, &touched, &written, &recovered);

    // What was found can be gone on from, and is still there afterwards.
    let mut log = Log::open(medium, written[..kept].to_vec()).expect("it was just recovered");
    log.append(&mut Choices(&[0, 1, 7, 100]));
    let again = recover(&mut log.medium, known()).expect("what was written since is whole");
    assert_eq!(again.entries, log.entries);
}

/// Does one thing to the medium that media do, or people; `touched` are the blocks that are not what they were.
fn damage(
    medium: &mut Medium,
    touched: &mut BTreeSet<(SegmentSeq, usize)>,
    choices: &mut Choices<'_>,
) {
    let kind = choices.byte();
    let Some((&seq, file)) = medium.files.iter().nth(choices.below(medium.files.len())) else {
        choices.0 = &[];
        return;
    };
    let blocks = file.len() / BLOCK_BYTES;
    let place = (seq, choices.below(blocks));
    let offset = choices.below(BLOCK_BYTES);
    match kind % 8 {
        0 | 1 => {
            let Some(block) = medium.block(place) else { return };
            block[offset] ^= 1 << (choices.byte() % 8);
        }
        2 => {
            let Some(block) = medium.block(place) else { return };
            block.fill(0);
        }
        3 => {
            let bytes = choices.bytes(64);
            let Some(block) = medium.block(place) else { return };
            let end = (offset + bytes.len()).min(BLOCK_BYTES);
            block[offset..end].copy_from_slice(&bytes[..end - offset]);
        }
        4 => {
            medium.unreadable.insert(place);
        }
        5 => {
            // A write that went astray.
            let from = (seq, choices.below(blocks));
            let Some(copied) = medium.block(from).map(|block| block.to_vec()) else { return };
            let Some(block) = medium.block(place) else { return };
            block.copy_from_slice(&copied);
        }
        6 => {
            let file = medium.files.get_mut(&seq).expect("just found");
            file.truncate(place.1 * BLOCK_BYTES + offset);
            touched.extend((place.1..blocks).map(|block| (seq, block)));
        }
        _ => {
            medium.files.remove(&seq);
            medium.unreadable.retain(|(file, _)| *file != seq);
            touched.extend((0..blocks).map(|block| (seq, block)));
        }
    }
    touched.insert(place);
}

/// Checks what was recovered against history; how many batches are left.
fn check(
    medium: &Medium,
    touched: &BTreeSet<(SegmentSeq, usize)>,
    written: &[Written],
    recovered: &Recovered,
) -> usize {
    // The log is what it was at some moment, to the byte.
    let kept = written.iter().position(|batch| batch.end == recovered.end);
    let kept = kept.map_or(0, |last| last + 1);
    assert!(kept > 0 || recovered.end == Lsn(0), "the log ends where a batch ended");
    let expected = kept.checked_sub(1).map_or(&[][..], |last| &written[last].entries);
    assert_eq!(recovered.entries, expected);
    assert!(kept == written.len() || !touched.is_empty(), "nothing is lost where nothing happened");
    // Of the lost batches, the first may be a torn write. A header of any other promises that it was not.
    for witness in written.iter().skip(kept + 1) {
        let header = (0..HEADER_BLOCKS).map(|block| (witness.segment, block));
        let mut needed = header.chain([(witness.segment, witness.block)]);
        assert!(
            !medium.files.contains_key(&witness.segment)
                || needed.any(|block| touched.contains(&block)),
            "{witness:?} stands there and promises what was lost, and nobody is told"
        );
    }
    kept
}

/// Recovers from files of any bytes: the first of each file say how long it is.
pub fn wal_bytes(data: &[u8]) {
    let mut choices = Choices(data);
    let mut medium = Medium::default();
    while !choices.is_empty() && medium.files.len() < 4 {
        let seq = SegmentSeq(u64::from(choices.byte() % 8));
        let blocks = choices.below(6);
        let mut file = choices.bytes(blocks * BLOCK_BYTES).to_vec();
        file.resize(blocks * BLOCK_BYTES, 0);
        medium.files.insert(seq, file);
    }
    if let Ok(recovered) = recover(&mut medium, known()) {
        let last = recovered.entries.last().map_or((Index(0), Term(0)), |e| (e.index, e.term));
        let mut writer = Writer::new(CONFIG, &recovered, last, Rng::new(7));
        writer.save(HardState { term: Term(u64::MAX), vote: MemberId(2), commit: last.0 });
        assert!(writer.poll(Time::ZERO).is_some(), "it can be gone on from");
    }
}
