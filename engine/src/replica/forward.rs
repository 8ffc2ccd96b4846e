//! What clients ask of a member that does not lead: passed on to the leader, exactly once.
//!
//! ```text
//!  this member                          leader of term T
//!  number 7 ──── Propose{T, [7]} ────►  puts it into the log, once per number
//!     ▲                                        │
//!     └── applied with origin (this, 7) ◄──────┘  by way of the log
//! ```
//!
//! The client is answered when this member applies the entry, which names it and the number. Nothing tells that a
//! proposal arrived, so it is sent again after [`RETRY`], and the leader keeps numbers apart ([`Gate`]).
//!
//! # Invariants
//!
//! - F1 A leader of term T proposes only what was sent to the leader of T; so once an entry of a later term is
//!   applied here, what was sent for T and is not in the log by then never will be, and may be sent anew.
//! - F2 A leader puts a number of an incarnation into the log once in its term, or refuses it: one of the two.
//! - F3 What may have been applied where this member did not see it (a snapshot took its place) is not sent again:
//!   its client is told that the outcome is unknown.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use super::proposals::Waiter;
use crate::ids::MemberId;
use crate::peer::{Incarnation, Proposal};
use crate::raft::Term;
use crate::time::Time;

/// After so long a proposal is sent again: it, or the connection that carried it, may be lost. As long as etcd waits
/// before it asks for a read index again.
const RETRY: Duration = Duration::from_millis(500);
/// Bytes of proposals in one message, unless a single one is larger.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Proposals of this member's clients on their way to a leader, or waiting for one.
#[derive(Debug)]
pub(super) struct Forwards {
    next: u64,
    under_way: BTreeMap<u64, UnderWay>,
    /// Sent to nobody yet, ascending.
    unsent: VecDeque<u64>,
    bytes: usize,
    /// When each was begun, oldest first; all may wait equally long.
    begun: VecDeque<(Time, u64)>,
    /// When what was sent is looked through for what must be sent again.
    next_retry: Option<Time>,
}

#[derive(Debug)]
struct UnderWay {
    command: Bytes,
    waiter: Waiter,
    /// For which term, and when; `None`: not yet.
    sent: Option<(Term, Time)>,
}

impl Forwards {
    /// `first` is drawn anew for each start, so that old numbers mean nothing.
    pub(super) fn new(first: u64) -> Self {
        Self {
            // Numbers must not overflow in the life of a process.
            next: first >> 1,
            under_way: BTreeMap::new(),
            unsent: VecDeque::new(),
            bytes: 0,
            begun: VecDeque::new(),
            next_retry: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.under_way.len()
    }

    /// Bytes of all that is under way.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes something to propose when there is somebody to propose it.
    pub(super) fn push(&mut self, now: Time, command: Bytes, waiter: Waiter) {
        let number = self.next;
        self.next += 1;
        self.bytes += command.len();
        self.under_way.insert(number, UnderWay { command, waiter, sent: None });
        self.unsent.push_back(number);
        self.begun.push_back((now, number));
    }

    /// Takes out what was not sent, because this member leads now.
    pub(super) fn take_unsent(&mut self) -> Vec<(Bytes, Waiter)> {
        let unsent = core::mem::take(&mut self.unsent);
        unsent.into_iter().filter_map(|number| self.take(number)).collect()
    }

    /// What to send to the leader of `term` now: as much as fits in one message.
    pub(super) fn take_message(&mut self, now: Time, term: Term) -> Option<Vec<Proposal>> {
        if self.next_retry.is_some_and(|retry| retry <= now) {
            self.queue_again(now, term);
        }
        let (mut proposals, mut bytes) = (Vec::new(), 0);
        while let Some(number) = self.unsent.pop_front() {
            let Some(under_way) = self.under_way.get_mut(&number) else { continue };
            bytes += under_way.command.len();
            if bytes > MESSAGE_BYTES_MAX && !proposals.is_empty() {
                self.unsent.push_front(number);
                break;
            }
            under_way.sent = Some((term, now));
            proposals.push(Proposal { number, command: under_way.command.clone() });
        }
        if proposals.is_empty() {
            return None;
        }
        self.next_retry = self.next_retry.or(Some(now + RETRY));
        Some(proposals)
    }

    /// Queues what was sent long ago for the same term.
    fn queue_again(&mut self, now: Time, term: Term) {
        self.next_retry = None;
        let mut again = Vec::new();
        for (number, under_way) in &self.under_way {
            if let Some((sent_term, at)) = under_way.sent
                && sent_term == term
            {
                if at + RETRY <= now {
                    again.push(*number);
                } else {
                    let due = at + RETRY;
                    self.next_retry = Some(self.next_retry.map_or(due, |retry| retry.min(due)));
                }
            }
        }
        self.unsent.extend(again);
        self.unsent.make_contiguous().sort_unstable();
    }

    /// Who waited for a number, which was applied or refused.
    pub(super) fn take_waiter(&mut self, number: u64) -> Option<Waiter> {
        self.take(number).map(|(_, waiter)| waiter)
    }

    fn take(&mut self, number: u64) -> Option<(Bytes, Waiter)> {
        let under_way = self.under_way.remove(&number)?;
        self.bytes -= under_way.command.len();
        Some((under_way.command, under_way.waiter))
    }

    /// An entry of `term` was applied: what was sent for earlier terms, and did not come, never will (F1).
    pub(super) fn term_applied(&mut self, term: Term) {
        for (number, under_way) in &mut self.under_way {
            if under_way.sent.is_some_and(|(sent, _)| sent < term) {
                under_way.sent = None;
                self.unsent.push_back(*number);
            }
        }
        self.unsent.make_contiguous().sort_unstable();
    }

    /// A snapshot of a state in `term` took the place of entries: what was sent for it or before may be in it (F3).
    pub(super) fn take_unknown(&mut self, term: Term) -> Vec<Waiter> {
        let may_be_in = |_: &u64, under_way: &mut UnderWay| {
            under_way.sent.is_some_and(|(sent, _)| sent <= term)
        };
        let unknown: Vec<_> = self.under_way.extract_if(.., may_be_in).collect();
        self.bytes -= unknown.iter().map(|(_, under_way)| under_way.command.len()).sum::<usize>();
        unknown.into_iter().map(|(_, under_way)| under_way.waiter).collect()
    }

    /// When somebody may have waited for `timeout`.
    pub(super) fn deadline(&self, timeout: Duration) -> Option<Time> {
        self.begun.front().map(|(begun, _)| *begun + timeout)
    }

    /// When something is to be sent again, if there is a leader to send it to.
    pub(super) fn retry_deadline(&self) -> Option<Time> {
        self.next_retry
    }

    /// Somebody who has waited for `timeout`: when they began, whether what they asked for may yet be done, and who.
    pub(super) fn timed_out(&mut self, now: Time, timeout: Duration) -> Option<TimedOut> {
        while let Some((begun, number)) =
            self.begun.pop_front_if(|(begun, _)| *begun + timeout <= now)
        {
            if let Some(under_way) = self.under_way.remove(&number) {
                self.bytes -= under_way.command.len();
                let sent = under_way.sent.is_some();
                return Some(TimedOut { begun, sent, waiter: under_way.waiter });
            }
        }
        None
    }
}

/// Somebody who has waited too long.
#[derive(Debug)]
pub(super) struct TimedOut {
    pub(super) begun: Time,
    /// Whether it was sent to a leader.
    pub(super) sent: bool,
    pub(super) waiter: Waiter,
}

/// A leader's memory of what it was passed, within its term (F2).
#[derive(Debug, Default)]
pub(super) struct Gate(BTreeMap<(MemberId, Incarnation), Window>);

/// The numbers that were let through: all that are not in the window and below its end are taken for seen.
#[derive(Debug)]
struct Window {
    /// One above the highest.
    end: u64,
    bits: [u64; WINDOW_WORDS],
}

const WINDOW_WORDS: usize = 1024;
/// Numbers that may overtake each other: more than a member has under way before a leader that is slow refuses.
const WINDOW: u64 = 64 * 1024;

impl Gate {
    /// Lets a number through, if it was not before.
    pub(super) fn admit(&mut self, member: MemberId, life: Incarnation, number: u64) -> bool {
        let start = || Window { end: number, bits: [0; WINDOW_WORDS] };
        let window = self.0.entry((member, life)).or_insert_with(start);
        if number >= window.end {
            window.advance(number + 1);
        } else if window.end - number > WINDOW || window.is_set(number) {
            return false;
        }
        window.set(number);
        true
    }

    /// A new term: numbers of earlier ones are not let through any more (F1).
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

impl Window {
    fn advance(&mut self, end: u64) {
        if end - self.end >= WINDOW {
            self.bits = [0; WINDOW_WORDS];
        } else {
            for number in self.end..end {
                let (word, bit) = place(number);
                self.bits[word] &= !bit;
            }
        }
        self.end = end;
    }

    fn is_set(&self, number: u64) -> bool {
        let (word, bit) = place(number);
        self.bits[word] & bit != 0
    }

    fn set(&mut self, number: u64) {
        let (word, bit) = place(number);
        self.bits[word] |= bit;
    }
}

fn place(number: u64) -> (usize, u64) {
    let place = number % WINDOW;
    (crate::convert::to_usize(place / 64), 1 << (place % 64))
}

const _: () = assert!(WINDOW_WORDS * 64 == 64 * 1024, "the window is what its words hold");

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Incarnation = Incarnation(5);

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    fn numbers(message: Option<Vec<Proposal>>) -> Vec<u64> {
        message.into_iter().flatten().map(|proposal| proposal.number).collect()
    }

    #[test]
    fn a_number_passes_the_gate_once_whatever_the_order() {
        let mut gate = Gate::default();
        let mut admit = |number| gate.admit(MemberId(1), LIFE, number);
        assert!(admit(100) && admit(103) && admit(101));
        assert!(!admit(100) && !admit(101) && !admit(103));
        assert!(admit(102) && !admit(102));
        assert!(admit(99) && !admit(99), "it was only overtaken by the first");
        assert!(admit(100 + WINDOW) && !admit(100), "and what is too old");
        assert!(admit(104 + WINDOW) && admit(103 + WINDOW) && admit(105));
        assert!(admit(u64::MAX / 2), "a leap empties the window");
        assert!(admit(u64::MAX / 2 - 1));
        assert!(gate.admit(MemberId(1), Incarnation(6), 3), "another life has its own numbers");
        gate.forget();
        assert!(gate.admit(MemberId(1), LIFE, 3));
    }

    #[test]
    fn what_is_not_applied_is_sent_again_within_the_term_and_anew_in_a_later_one() {
        let mut forwards = Forwards::new(20);
        forwards.push(at(0), Bytes::from_static(b"a"), Waiter::Nobody);
        forwards.push(at(0), Bytes::from_static(b"b"), Waiter::Nobody);
        assert_eq!(numbers(forwards.take_message(at(0), Term(1))), [10, 11]);
        assert_eq!(numbers(forwards.take_message(at(400), Term(1))), []);
        assert_eq!(forwards.retry_deadline(), Some(at(500)));
        assert_eq!(forwards.deadline(Duration::from_secs(7)), Some(at(7000)));
        assert!(forwards.take_waiter(10).is_some());
        assert_eq!(numbers(forwards.take_message(at(500), Term(1))), [11], "with the same number");
        assert_eq!(numbers(forwards.take_message(at(600), Term(2))), [], "1 may still commit it");
        forwards.term_applied(Term(2));
        assert_eq!(numbers(forwards.take_message(at(600), Term(2))), [11], "now it cannot");
        assert_eq!(forwards.take_unknown(Term(1)).len(), 0);
        assert_eq!(forwards.take_unknown(Term(2)).len(), 1);
        assert_eq!((forwards.len(), forwards.bytes()), (0, 0));
    }

    #[test]
    fn who_waits_too_long_is_told_so() {
        let timeout = Duration::from_secs(7);
        let mut forwards = Forwards::new(0);
        forwards.push(at(0), Bytes::from_static(b"a"), Waiter::Nobody);
        assert!(forwards.timed_out(at(6999), timeout).is_none());
        let timed_out = forwards.timed_out(at(7000), timeout).unwrap();
        assert_eq!((timed_out.begun, timed_out.sent), (at(0), false));
        assert!(forwards.timed_out(at(7000), timeout).is_none());
        assert_eq!(forwards.deadline(timeout), None);
    }
}
