//! Which pages may be written to.
//!
//! A checkpoint has a map of the pages that it uses. A page is free for the next checkpoint if it is clear in
//! the map that grows now and in the maps of all checkpoints that are *held*: the newest durable one and its
//! fallback, because a crash may need them, and those that somebody reads (T7). So a reader holds exactly what
//! it can see, and nothing that was written after it; and after a restart the maps of two superblocks are all
//! that has to be known.
//!
//! The lowest free page is always taken first, so files drift towards their beginning, and the end can be
//! cut off ([`FreeSpace::file_end`]).
//!
//! # Limits
//!
//! Each held checkpoint costs a bit for each page: 1.6 MB for 100 GB in pages of 8 KiB.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::iter;

use super::{CheckpointSeq, PageId, Run};
use crate::convert::{to_u64, to_usize};

const WORD_BITS: u64 = 64;

/// A bit for each page; pages beyond the end are clear.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bits(Vec<u64>);

impl Bits {
    /// The first `pages` pages set.
    pub fn with_first(pages: u64) -> Self {
        let mut bits = Self::default();
        for page in 0..pages {
            bits.set(page);
        }
        bits
    }

    /// Whether a page is set.
    pub fn contains(&self, page: u64) -> bool {
        self.word(to_usize(page / WORD_BITS)) & (1 << (page % WORD_BITS)) != 0
    }

    /// Sixty-four pages at once.
    pub fn word(&self, at: usize) -> u64 {
        self.0.get(at).copied().unwrap_or(0)
    }

    /// Sets sixty-four pages at once to what they are.
    pub fn set_word(&mut self, at: usize, word: u64) {
        if word != 0 || at < self.0.len() {
            if self.0.len() <= at {
                self.0.resize(at + 1, 0);
            }
            self.0[at] = word;
        }
    }

    /// Sets a page.
    pub fn set(&mut self, page: u64) {
        let at = to_usize(page / WORD_BITS);
        if self.0.len() <= at {
            self.0.resize(at + 1, 0);
        }
        self.0[at] |= 1 << (page % WORD_BITS);
    }

    /// Clears a page.
    pub fn clear(&mut self, page: u64) {
        if let Some(word) = self.0.get_mut(to_usize(page / WORD_BITS)) {
            *word &= !(1 << (page % WORD_BITS));
        }
    }

    /// Sets all pages that are set in another map.
    pub fn join(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (word, more) in iter::zip(&mut self.0, &other.0) {
            *word |= more;
        }
    }

    /// How many pages are set.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Behind the last page that is set.
    pub fn end(&self) -> u64 {
        let Some(at) = self.0.iter().rposition(|word| *word != 0) else { return 0 };
        (to_u64(at) + 1) * WORD_BITS - u64::from(self.0[at].leading_zeros())
    }

    /// The first of so many clear pages in a row, at `from` or behind it.
    pub fn clear_run(&self, from: u64, pages: u64) -> u64 {
        let mut start = self.next(from, !0);
        loop {
            let end = self.next(start, 0);
            if end - start >= pages {
                return start;
            }
            start = self.next(end, !0);
        }
    }

    /// The first page at `from` or behind it that is set, or clear if `flip` is all ones. If there is no set one,
    /// a number too large for any page.
    fn next(&self, from: u64, flip: u64) -> u64 {
        let mut at = to_usize(from / WORD_BITS);
        let mut word = (self.word(at) ^ flip) & (!0 << (from % WORD_BITS));
        while word == 0 {
            at += 1;
            if at >= self.0.len() {
                return if flip == 0 { NOWHERE } else { from.max(to_u64(at) * WORD_BITS) };
            }
            word = self.word(at) ^ flip;
        }
        to_u64(at) * WORD_BITS + u64::from(word.trailing_zeros())
    }
}

/// Behind every page that a file can have.
const NOWHERE: u64 = u64::MAX / 2;

/// The pages of a file: in use, held, or free.
#[derive(Clone, Debug)]
pub struct FreeSpace {
    /// The pages in front, which belong to the superblocks.
    reserved: u64,
    /// In use by the newest checkpoint, or by the one that is being made.
    current: Bits,
    /// What must not be written to: all maps together, as they were when the checkpoint began, and what it took.
    blocked: Bits,
    /// Maps of the checkpoints that are held.
    held: BTreeMap<CheckpointSeq, Held>,
    newest: CheckpointSeq,
    fallback: Option<CheckpointSeq>,
    /// Taken by checkpoints that were given up, while writes to them may be under way.
    lost: Bits,
    /// For each length that was asked for, the first place that may be free. Places only fill up while a
    /// checkpoint is made, so nothing is searched twice.
    hints: BTreeMap<u32, u64>,
}

#[derive(Clone, Debug)]
struct Held {
    bits: Bits,
    pins: u64,
}

impl FreeSpace {
    /// The space of a file that was opened: how many pages its superblocks have, the map of its newest checkpoint, and
    /// that of the one before.
    pub fn new(
        reserved: u64,
        newest: (CheckpointSeq, Bits),
        fallback: Option<(CheckpointSeq, Bits)>,
    ) -> Self {
        let (seq, bits) = newest;
        let mut space = Self {
            reserved,
            current: bits.clone(),
            blocked: Bits::default(),
            held: BTreeMap::from([(seq, Held { bits, pins: 0 })]),
            newest: seq,
            fallback: None,
            lost: Bits::default(),
            hints: BTreeMap::new(),
        };
        if let Some((seq, bits)) = fallback {
            assert!(seq < space.newest, "a fallback is older");
            space.held.insert(seq, Held { bits, pins: 0 });
            space.fallback = Some(seq);
        }
        space
    }

    /// Holds the newest checkpoint for a reader.
    pub fn pin(&mut self) -> CheckpointSeq {
        let held = self.held.get_mut(&self.newest).expect("T7: the newest checkpoint is held");
        held.pins += 1;
        self.newest
    }

    /// Lets go what [`FreeSpace::pin`] held; its pages are free from the next checkpoint on.
    ///
    /// # Panics
    /// If nobody holds it.
    pub fn release(&mut self, seq: CheckpointSeq) {
        let held = self.held.get_mut(&seq).expect("T7: what is read is held");
        assert!(held.pins > 0, "T7: each pin is released once");
        held.pins -= 1;
        self.drop_unheld();
    }

    /// Begins a checkpoint: finds out what is free.
    pub fn begin(&mut self) {
        self.blocked.clone_from(&self.current);
        self.blocked.join(&self.lost);
        for held in self.held.values() {
            self.blocked.join(&held.bits);
        }
        self.hints.clear();
    }

    /// Takes the lowest free pages in a row.
    pub fn allocate(&mut self, pages: u32) -> PageId {
        assert!(pages > 0, "somebody wants pages");
        let from = self.hints.get(&pages).copied().unwrap_or(0);
        let first = self.blocked.clear_run(from, u64::from(pages));
        self.hints.insert(pages, first);
        for page in first..first + u64::from(pages) {
            assert!(!self.is_needed(PageId(page)), "T7: what is in use or held is not free");
            self.current.set(page);
            self.blocked.set(page);
        }
        PageId(first)
    }

    /// Gives pages back: the checkpoint that is being made does not use them any more. They stay blocked until
    /// the next one begins, even if they were taken by this one: no page is written twice (T7).
    ///
    /// `false` if they were not in use: whoever referred to them was wrong.
    #[must_use]
    pub fn free(&mut self, run: Run) -> bool {
        let Some(end) = run.end() else { return false };
        let pages = run.first.0..end.0;
        let is_within = self.reserved <= run.first.0 && end.0 <= self.current.end();
        if !is_within || !pages.clone().all(|page| self.current.contains(page)) {
            return false;
        }
        pages.for_each(|page| self.current.clear(page));
        true
    }

    /// The checkpoint that was being made is durable: what was the newest is its fallback now.
    pub fn commit(&mut self, seq: CheckpointSeq) {
        assert!(seq == self.newest.next(), "checkpoints follow each other");
        self.held.insert(seq, Held { bits: self.current.clone(), pins: 0 });
        self.fallback = Some(self.newest);
        self.newest = seq;
        self.drop_unheld();
    }

    /// The checkpoint that was being made is given up. What it took stays blocked for good: T7 holds for writes that
    /// nobody waits for any more, too.
    pub fn abandon(&mut self) {
        let durable = &self.held[&self.newest].bits;
        for at in 0..self.blocked.0.len() {
            let held = self.held.values().fold(0, |all, held| all | held.bits.word(at));
            // What was released meanwhile is lost with it: rare, and over with the next start.
            self.lost.set_word(at, self.blocked.word(at) & !held);
        }
        self.current.clone_from(durable);
    }

    /// Whether a page is in use by the checkpoint that is being made, or by one that is held.
    pub fn is_needed(&self, page: PageId) -> bool {
        self.current.contains(page.0) || self.held.values().any(|held| held.bits.contains(page.0))
    }

    /// The map of the checkpoint that is being made.
    pub const fn current(&self) -> &Bits {
        &self.current
    }

    /// The map of the newest durable checkpoint.
    pub fn durable(&self) -> &Bits {
        &self.held[&self.newest].bits
    }

    /// Pages in use by the newest checkpoint, or by the one that is being made.
    pub fn used_pages(&self) -> u64 {
        self.current.count()
    }

    /// Behind the last page that anybody may need: what lies further on can be cut off.
    pub fn file_end(&self) -> PageId {
        let held = self.held.values().map(|held| held.bits.end()).max();
        PageId(self.current.end().max(held.unwrap_or(0)))
    }

    /// The oldest checkpoint that somebody reads.
    pub fn oldest_pin(&self) -> Option<CheckpointSeq> {
        self.held.iter().find(|(_, held)| held.pins > 0).map(|(seq, _)| *seq)
    }

    fn drop_unheld(&mut self) {
        let (newest, fallback) = (self.newest, self.fallback);
        self.held.retain(|seq, held| *seq == newest || Some(*seq) == fallback || held.pins > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn space() -> FreeSpace {
        FreeSpace::new(8, (CheckpointSeq(0), Bits::with_first(8)), None)
    }

    #[test]
    fn the_lowest_free_pages_are_taken_first() {
        let mut space = space();
        space.begin();
        assert_eq!(space.allocate(1), PageId(8));
        assert_eq!(space.allocate(3), PageId(9));
        assert_eq!(space.allocate(1), PageId(12));
        assert_eq!(space.used_pages(), 13);
        assert_eq!(space.file_end(), PageId(13));
    }

    #[test]
    fn what_is_freed_can_be_used_when_its_fallback_is_gone() {
        let mut space = space();
        space.begin();
        let page = space.allocate(1);
        space.commit(CheckpointSeq(1));
        space.begin();
        assert!(space.free(Run::one(page)));
        assert!(!space.free(Run::one(page)), "only once");
        assert!(!space.free(Run::one(PageId(7))), "superblocks are not free");
        assert_eq!(space.allocate(1), PageId(9), "checkpoint 1 may be needed");
        space.commit(CheckpointSeq(2));
        space.begin();
        assert_eq!(space.allocate(1), PageId(10), "checkpoint 1 is the fallback");
        space.commit(CheckpointSeq(3));
        space.begin();
        assert_eq!(space.allocate(1), page, "nobody needs checkpoint 1");
    }

    #[test]
    fn a_pin_holds_what_it_sees_and_nothing_younger() {
        let mut space = space();
        space.begin();
        let old = space.allocate(1);
        space.commit(CheckpointSeq(1));
        assert_eq!(space.pin(), CheckpointSeq(1));
        space.begin();
        let young = space.allocate(1);
        space.commit(CheckpointSeq(2));
        space.begin();
        assert!(space.free(Run::one(old)) && space.free(Run::one(young)));
        space.commit(CheckpointSeq(3));
        space.begin();
        space.commit(CheckpointSeq(4));
        space.begin();
        assert_eq!(space.allocate(1), young);
        assert_eq!(space.allocate(1), PageId(10));
        space.commit(CheckpointSeq(5));
        space.release(CheckpointSeq(1));
        space.begin();
        assert_eq!(space.allocate(1), old);
    }

    #[test]
    fn what_was_taken_and_freed_at_once_is_not_given_out_again() {
        let mut space = space();
        space.begin();
        let page = space.allocate(1);
        assert!(space.free(Run::one(page)));
        assert_eq!(space.allocate(1), PageId(9));
        space.commit(CheckpointSeq(1));
        space.begin();
        assert_eq!(space.allocate(1), page);
    }

    #[test]
    fn a_checkpoint_that_is_given_up_has_taken_and_freed_nothing() {
        let mut space = space();
        space.begin();
        let kept = space.allocate(1);
        space.commit(CheckpointSeq(1));
        space.begin();
        assert!(space.free(Run::one(kept)));
        assert_eq!(space.allocate(5), PageId(9));
        space.abandon();
        assert_eq!(space.current(), space.durable());
        space.begin();
        assert_eq!(space.allocate(1), PageId(14), "writes to the others may be under way");
    }

    #[test]
    fn runs_are_found_where_a_list_finds_them() {
        let mut rng = Rng::new(3);
        for _ in 0..200 {
            let mut bits = Bits::default();
            let mut list = alloc::vec![false; 1000];
            for _ in 0..rng.below(900) {
                let page = rng.below(300);
                bits.set(page);
                list[to_usize(page)] = true;
            }
            assert_eq!(bits.count(), to_u64(list.iter().filter(|used| **used).count()));
            let end = list.iter().rposition(|used| *used).map_or(0, |last| last + 1);
            assert_eq!(bits.end(), to_u64(end));
            for pages in [1, 2, 5, 64, 65, 200] {
                let from = to_usize(rng.below(400));
                let clear = |at: &usize| !list[*at..*at + pages].contains(&true);
                let found = (from..1000 - pages).find(clear).unwrap();
                assert_eq!(bits.clear_run(to_u64(from), to_u64(pages)), to_u64(found));
            }
        }
    }
}
