//! The entries in memory: everything above the last snapshot.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::message::LogEnd;
use super::{Entry, Index, Term};
use crate::convert::to_usize;

/// A log without gaps, from the entry after `covered` to the last.
///
/// L1 `entries[i].index == covered.index + 1 + i`.
/// L2 Terms never decrease from entry to entry.
/// L3 `unsaved` is at most one beyond the last index.
#[derive(Clone, Debug)]
pub struct Log {
    /// What a snapshot covers.
    covered: LogEnd,
    entries: VecDeque<Entry>,
    /// The first entry that was not handed out to be written.
    unsaved: Index,
    /// Memory that the entries take.
    bytes: usize,
}

impl Log {
    /// A log whose `entries`, all durable, follow a snapshot that covers `covered`.
    ///
    /// # Panics
    /// If the entries do not follow (L1).
    pub fn new(covered: LogEnd, entries: Vec<Entry>) -> Self {
        for (expected, entry) in (covered.index.0 + 1..).zip(&entries) {
            assert_eq!(entry.index, Index(expected), "entries follow each other (L1)");
        }
        let bytes = entries.iter().map(entry_bytes).sum();
        let mut log = Self { covered, entries: entries.into(), unsaved: Index(0), bytes };
        log.unsaved = log.last_index().next();
        log
    }

    /// The index of the last entry.
    pub fn last_index(&self) -> Index {
        self.last().index
    }

    /// The place of the last entry, or of the snapshot's.
    pub fn last(&self) -> LogEnd {
        self.entries
            .back()
            .map_or(self.covered, |entry| LogEnd { index: entry.index, term: entry.term })
    }

    /// What a snapshot covers; entries up to here are gone.
    pub fn covered(&self) -> LogEnd {
        self.covered
    }

    /// The term at an index; `None` before the snapshot and beyond the end.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.covered.index {
            return Some(self.covered.term);
        }
        self.get(index).map(|entry| entry.term)
    }

    /// The entry at an index, if it is in memory.
    pub fn get(&self, index: Index) -> Option<&Entry> {
        let place = index.0.checked_sub(self.covered.index.0 + 1)?;
        self.entries.get(to_usize(place))
    }

    /// Whether the log holds this very entry, or knows that a snapshot does (R3).
    pub fn holds(&self, place: LogEnd) -> bool {
        place.index < self.covered.index || self.term_at(place.index) == Some(place.term)
    }

    /// Entries from `first` on, as many as fit in `bytes_max`, one at least if there is one.
    ///
    /// # Panics
    /// If `first` is not above what the snapshot covers.
    pub fn slice(&self, first: Index, bytes_max: usize) -> Vec<Entry> {
        let start = to_usize(first.0 - self.covered.index.0 - 1);
        let mut bytes = 0;
        self.entries
            .range(start.min(self.entries.len())..)
            .take_while(|entry| {
                let fits = bytes == 0 || bytes + entry.data.len() <= bytes_max;
                bytes += entry_bytes(entry);
                fits
            })
            .cloned()
            .collect()
    }

    /// Adds an entry at the end.
    pub fn push(&mut self, entry: Entry) {
        assert_eq!(entry.index, self.last_index().next(), "the log has no gap (L1)");
        assert!(entry.term >= self.last().term, "terms never decrease (L2)");
        self.bytes += entry_bytes(&entry);
        self.entries.push_back(entry);
    }

    /// Takes a leader's entries that follow a place which this log holds; cuts what contradicts them.
    ///
    /// # Panics
    /// If that would cut something at or below `commit` (R4): two leaders contradict each other.
    pub fn accept(&mut self, entries: Vec<Entry>, commit: Index) {
        for entry in entries {
            if entry.index <= self.covered.index || self.term_at(entry.index) == Some(entry.term) {
                continue; // Known already (R3).
            }
            if entry.index <= self.last_index() {
                assert!(entry.index > commit, "what is committed never changes (R4)");
                while let Some(cut) = self.entries.pop_back_if(|last| last.index >= entry.index) {
                    self.bytes -= entry_bytes(&cut);
                }
                self.unsaved = self.unsaved.min(entry.index);
            }
            self.push(entry);
        }
    }

    /// The last place at or before `index` whose term is not above `term`: the earliest at which two logs
    /// may agree (thesis §3.5; the search for a conflict skips whole terms).
    pub fn may_agree(&self, index: Index, term: Term) -> LogEnd {
        let mut index = index.min(self.last_index()).max(self.covered.index);
        loop {
            match self.term_at(index) {
                Some(found) if found > term && index > self.covered.index => index = index.prev(),
                Some(found) => return LogEnd { index, term: found },
                None => return self.covered,
            }
        }
    }

    /// The entries that were not handed out to be written, which they are with this call.
    pub fn take_unsaved(&mut self) -> &[Entry] {
        let first = self.unsaved;
        self.unsaved = self.last_index().next();
        let start = to_usize(first.0 - self.covered.index.0 - 1);
        &self.entries.make_contiguous()[start..]
    }

    /// Whether every entry was handed out to be written.
    pub fn is_saved(&self) -> bool {
        self.unsaved > self.last_index()
    }

    /// Forgets entries up to `index`, oldest first, until what is left takes `bytes_max` or less.
    pub fn trim(&mut self, index: Index, bytes_max: usize) {
        while self.bytes > bytes_max
            && let Some(first) = self.entries.pop_front_if(|first| first.index <= index)
        {
            self.bytes -= entry_bytes(&first);
            self.covered = LogEnd { index: first.index, term: first.term };
        }
    }

    /// Memory that the entries take, roughly.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets everything: a snapshot that covers `covered` has replaced it.
    pub fn restart(&mut self, covered: LogEnd) {
        *self = Self::new(covered, Vec::new());
    }

    /// The entries in memory from `first` on, in order.
    pub fn iter_from(&self, first: Index) -> impl Iterator<Item = &Entry> {
        let start = to_usize(first.0.saturating_sub(self.covered.index.0 + 1));
        self.entries.range(start.min(self.entries.len())..)
    }

    /// The entries in memory, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter()
    }
}

/// What an entry takes in memory, and roughly in messages: empty ones must not be taken without end.
fn entry_bytes(entry: &Entry) -> usize {
    entry.data.len() + size_of::<Entry>()
}

#[cfg(test)]
mod tests {
    use super::super::EntryKind;
    use super::*;
    use bytes::Bytes;

    fn entry(index: u64, term: u64) -> Entry {
        Entry::new(Index(index), Term(term), EntryKind::Command, Bytes::from_static(b"0123456789"))
    }

    /// A log behind index 10, term 2.
    fn log(terms: &[u64]) -> Log {
        let entries = (11..).zip(terms).map(|(index, term)| entry(index, *term)).collect();
        Log::new(LogEnd { index: Index(10), term: Term(2) }, entries)
    }

    fn place(index: u64, term: u64) -> LogEnd {
        LogEnd { index: Index(index), term: Term(term) }
    }

    #[test]
    fn a_place_is_held_if_its_term_agrees_or_a_snapshot_covers_it() {
        let log = log(&[2, 3]);
        assert!(log.holds(place(12, 3)));
        assert!(!log.holds(place(12, 2)));
        assert!(!log.holds(place(13, 3)));
        assert!(log.holds(place(10, 2)));
        assert!(!log.holds(place(10, 1)));
        assert!(log.holds(place(4, 1)), "covered, so committed, so equal everywhere");
    }

    #[test]
    fn accepting_known_entries_changes_nothing() {
        let mut log = log(&[2, 3, 3]);
        assert!(log.take_unsaved().is_empty());
        log.accept(alloc::vec![entry(11, 2), entry(12, 3)], Index(10));
        assert_eq!(log.last(), place(13, 3), "a late append cuts nothing off");
        assert!(log.is_saved());
    }

    #[test]
    fn a_contradiction_cuts_the_rest_and_is_written_again() {
        let mut log = log(&[2, 3, 3]);
        log.accept(alloc::vec![entry(12, 4)], Index(10));
        assert_eq!(log.last(), place(12, 4));
        assert_eq!(log.take_unsaved(), &[entry(12, 4)]);
    }

    #[test]
    #[should_panic(expected = "what is committed never changes (R4)")]
    fn what_is_committed_is_never_cut() {
        log(&[2, 3]).accept(alloc::vec![entry(12, 4)], Index(12));
    }

    #[test]
    fn a_slice_is_bounded_by_bytes_but_never_empty() {
        let log = log(&[2, 2, 2]);
        assert_eq!(log.slice(Index(11), 0).len(), 1);
        assert_eq!(log.slice(Index(11), 1000).len(), 3);
        assert_eq!(log.slice(Index(12), 2 * size_of::<Entry>()).len(), 2);
        assert_eq!(log.slice(Index(14), 60).len(), 0);
    }

    #[test]
    fn the_search_for_agreement_skips_terms_that_are_too_new() {
        let log = log(&[2, 3, 5, 5]);
        assert_eq!(log.may_agree(Index(14), Term(4)), place(12, 3));
        assert_eq!(log.may_agree(Index(99), Term(9)), place(14, 5));
        assert_eq!(log.may_agree(Index(14), Term(1)), place(10, 2));
        assert_eq!(log.may_agree(Index(3), Term(1)), place(10, 2));
    }

    #[test]
    fn trimming_forgets_the_oldest_and_keeps_the_rest() {
        let mut log = log(&[2, 3, 3]);
        log.trim(Index(12), 0);
        assert_eq!(log.covered(), place(12, 3));
        assert_eq!(log.term_at(Index(11)), None);
        assert_eq!(log.get(Index(13)), Some(&entry(13, 3)));
        log.push(entry(14, 3));
        assert_eq!(log.take_unsaved(), &[entry(14, 3)]);
        log.trim(Index(14), usize::MAX);
        assert_eq!(log.iter().count(), 2);
    }
}
