//! Who waits for which entry, and for how long.

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::api::{Error, Request};
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

#[derive(Debug)]
struct Parked {
    id: RequestId,
    request: Request,
    deadline: Time,
}

/// The requests under way: proposed and not yet applied, or waiting for a leader.
#[derive(Debug)]
pub(super) struct Proposals {
    timeout: Duration,
    bytes_max: usize,
    bytes: usize,
    /// Ascending by index.
    proposed: VecDeque<Proposed>,
    /// When each of these has waited too long; all wait equally long, so the oldest is in front.
    timeouts: VecDeque<(Time, Index, Term)>,
    parked: VecDeque<Parked>,
    /// Whose entry was replaced by another leader's: it will never be applied.
    lost: VecDeque<Waiter>,
}

impl Proposals {
    pub(super) fn new(timeout: Duration, bytes_max: usize) -> Self {
        Self {
            timeout,
            bytes_max,
            bytes: 0,
            proposed: VecDeque::new(),
            timeouts: VecDeque::new(),
            parked: VecDeque::new(),
            lost: VecDeque::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.proposed.len() + self.parked.len()
    }

    /// Whether another entry of this size may be proposed.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.bytes + bytes <= self.bytes_max
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

    /// Somebody whose entry will never be applied.
    pub(super) fn lost(&mut self) -> Option<Waiter> {
        self.lost.pop_front()
    }

    /// Keeps a request until there is somebody to propose it to.
    pub(super) fn park(&mut self, now: Time, id: RequestId, request: Request) {
        self.parked.push_back(Parked { id, request, deadline: now + self.timeout });
    }

    /// The requests that waited for a leader.
    pub(super) fn unpark(&mut self) -> impl Iterator<Item = (RequestId, Request)> + use<> {
        core::mem::take(&mut self.parked).into_iter().map(|parked| (parked.id, parked.request))
    }

    /// When the next request may have waited too long.
    pub(super) fn deadline(&self) -> Option<Time> {
        let proposed = self.timeouts.front().map(|(deadline, _, _)| *deadline);
        let parked = self.parked.front().map(|parked| parked.deadline);
        proposed.into_iter().chain(parked).min()
    }

    /// Somebody who has waited too long, and what to tell them. What they proposed may be applied yet.
    pub(super) fn timed_out(&mut self, now: Time) -> Option<(Waiter, Error)> {
        if let Some(parked) = self.parked.pop_front_if(|parked| parked.deadline <= now) {
            return Some((Waiter::Client(parked.id), Error::ContextDeadlineExceeded));
        }
        while let Some((_, index, term)) =
            self.timeouts.pop_front_if(|(deadline, _, _)| *deadline <= now)
        {
            let found = self.proposed.binary_search_by_key(&index, |proposed| proposed.index);
            if let Ok(place) = found
                && self.proposed[place].term == term
            {
                let waiter = core::mem::replace(&mut self.proposed[place].waiter, Waiter::Nobody);
                return Some((waiter, Error::Timeout));
            }
        }
        None
    }
}
