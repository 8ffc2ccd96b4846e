//! Who waits for which entry, and for how long.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use crate::ids::RequestId;
use crate::lease::keeper::Renewals;
use crate::raft::{Index, Term};
use crate::time::Time;

/// Who wants to know what became of an entry.
#[derive(Debug)]
pub(super) enum Waiter {
    Client(RequestId),
    /// All who asked for the renewals in it.
    Renewals(Renewals),
    Nobody,
}

#[derive(Debug)]
struct Proposed {
    index: Index,
    term: Term,
    bytes: usize,
    waiter: Waiter,
}

/// What this member, leading, has proposed and not yet applied.
#[derive(Debug)]
pub(super) struct Proposals {
    timeout: Duration,
    bytes: usize,
    /// Ascending by index.
    proposed: VecDeque<Proposed>,
    /// When each of these has waited too long; all wait equally long, so the oldest is in front.
    timeouts: VecDeque<(Time, Index, Term)>,
    /// Whose entry was replaced by another leader's: it will never be applied.
    lost: VecDeque<Waiter>,
}

impl Proposals {
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            bytes: 0,
            proposed: VecDeque::new(),
            timeouts: VecDeque::new(),
            lost: VecDeque::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.proposed.len()
    }

    /// Bytes of all that is under way.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Notes who waits for an entry.
    pub(super) fn proposed(
        &mut self,
        now: Time,
        (term, index): (Term, Index),
        bytes: usize,
        waiter: Waiter,
    ) {
        // This member led before, and another leader has cut its log since.
        while let Some(back) = self.proposed.pop_back_if(|back| back.index >= index) {
            self.bytes -= back.bytes;
            self.lost.push_back(back.waiter);
        }
        if !matches!(waiter, Waiter::Nobody) {
            self.timeouts.push_back((now + self.timeout, index, term));
        }
        self.bytes += bytes;
        self.proposed.push_back(Proposed { index, term, bytes, waiter });
    }

    /// Who waited for an entry that was applied.
    pub(super) fn applied(&mut self, index: Index, term: Term) -> Waiter {
        while let Some(front) = self.proposed.pop_front_if(|front| front.index <= index) {
            self.bytes -= front.bytes;
            if (front.index, front.term) == (index, term) {
                return front.waiter;
            }
            self.lost.push_back(front.waiter);
        }
        Waiter::Nobody
    }

    /// A snapshot that covers the log up to `index` took the place of entries: those who wait for one of them will
    /// not learn what became of it.
    pub(super) fn take_unknown(&mut self, index: Index) -> Vec<Waiter> {
        let mut unknown = Vec::new();
        while let Some(front) = self.proposed.pop_front_if(|front| front.index <= index) {
            self.bytes -= front.bytes;
            unknown.push(front.waiter);
        }
        unknown
    }

    /// Somebody whose entry will never be applied.
    pub(super) fn lost(&mut self) -> Option<Waiter> {
        self.lost.pop_front()
    }

    /// When the next request may have waited too long.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.timeouts.front().map(|(deadline, _, _)| *deadline)
    }

    /// Somebody who has waited too long, and since when. What they proposed may be applied yet.
    pub(super) fn timed_out(&mut self, now: Time) -> Option<(Time, Waiter)> {
        while let Some((_, index, term)) =
            self.timeouts.pop_front_if(|(deadline, _, _)| *deadline <= now)
        {
            let begun = now - self.timeout;
            let found = self.proposed.binary_search_by_key(&index, |proposed| proposed.index);
            if let Ok(place) = found
                && self.proposed[place].term == term
            {
                let waiter = core::mem::replace(&mut self.proposed[place].waiter, Waiter::Nobody);
                return Some((begun, waiter));
            }
        }
        None
    }
}
