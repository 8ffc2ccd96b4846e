//! What a leader knows about one member's log, and how it sends to it.
//!
//! ```text
//!            accepted
//!  ┌───────┐ ────────► ┌───────────┐
//!  │ Probe │           │ Replicate │
//!  └───────┘ ◄──────── └───────────┘
//!    │   ▲   rejected, or    │  ▲
//!    │   │   silent          │  │ accepted
//!    │   └──────────┐        ▼  │
//!    │    given up ┌──────────┐ │
//!    └───────────► │ Snapshot │─┘
//!    what it lacks └──────────┘
//!    is gone
//! ```

use alloc::collections::VecDeque;
use core::time::Duration;

use super::Index;
use super::message::Round;
use crate::time::Time;

/// P1 `matched < next`. P2 What is unanswered ends below `next`, in ascending order.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    /// The last index at which the logs are known to agree, durably.
    matched: Index,
    /// The index that goes out next.
    next: Index,
    pace: Pace,
    /// When the member was last heard.
    heard: Time,
    /// The latest round of reads that it confirmed.
    pub(super) confirmed: Round,
    /// The commit index that it was last told.
    pub(super) told_commit: Index,
}

#[derive(Clone, Debug)]
enum Pace {
    /// Where the logs agree is unknown: one append at a time, to find out.
    Probe {
        /// Up to where that append goes, while it is unanswered.
        asked: Option<Index>,
    },
    /// Where the logs agree is known: stream.
    Replicate {
        /// Last index of each unanswered append.
        unanswered: VecDeque<Index>,
        /// When something was last answered, or sent with nothing unanswered.
        moved: Time,
    },
    /// The entries that it lacks are gone: it is sent a snapshot, and nothing else until it has that.
    Snapshot,
}

impl Progress {
    /// A member about which nothing is known but that it exists.
    pub(super) fn new(next: Index, now: Time) -> Self {
        Self {
            matched: Index(0),
            next,
            pace: Pace::Probe { asked: None },
            heard: now,
            confirmed: Round(0),
            told_commit: Index(0),
        }
    }

    pub(super) fn matched(&self) -> Index {
        self.matched
    }

    pub(super) fn next(&self) -> Index {
        self.next
    }

    pub(super) fn hear(&mut self, now: Time) {
        self.heard = now;
    }

    pub(super) fn heard_within(&self, now: Time, duration: Duration) -> bool {
        now < self.heard + duration
    }

    /// Whether an append may go out now; `last` is the end of the leader's log.
    pub(super) fn may_send(&self, last: Index, in_flight_max: usize) -> bool {
        match &self.pace {
            Pace::Probe { asked } => asked.is_none(),
            Pace::Replicate { unanswered, .. } => {
                self.next <= last && unanswered.len() < in_flight_max
            }
            Pace::Snapshot => false,
        }
    }

    /// Whether the member could take an append although there is nothing new for it.
    pub(super) fn is_streaming(&self) -> bool {
        matches!(self.pace, Pace::Replicate { .. })
    }

    /// Notes an append up to `last` on its way.
    pub(super) fn sent(&mut self, now: Time, last: Index) {
        match &mut self.pace {
            Pace::Probe { asked } => *asked = Some(last),
            Pace::Replicate { unanswered, moved } => {
                if last >= self.next {
                    if unanswered.is_empty() {
                        *moved = now;
                    }
                    unanswered.push_back(last);
                    self.next = last.next();
                }
            }
            Pace::Snapshot => unreachable!("nothing is sent beside a snapshot"),
        }
    }

    /// Notes that only a snapshot helps.
    pub(super) fn wait_for_snapshot(&mut self) {
        self.pace = Pace::Snapshot;
    }

    /// Whether it is sent a snapshot.
    pub(super) fn is_waiting_for_snapshot(&self) -> bool {
        matches!(self.pace, Pace::Snapshot)
    }

    /// Notes that nothing is on its way any more: find out anew what the member has. It has what the snapshot covers,
    /// if it arrived, only not durably enough to say so: asked for less, it would be sent another one, and another.
    pub(super) fn snapshot_ended(&mut self, covers: Index) {
        if self.is_waiting_for_snapshot() {
            self.probe_from(covers.max(self.matched).next());
        }
    }

    /// Notes that the logs agree up to `matched`; whether that is news.
    pub(super) fn accepted(&mut self, now: Time, matched: Index) -> bool {
        let news = matched > self.matched;
        self.matched = self.matched.max(matched);
        self.next = self.next.max(self.matched.next());
        match &mut self.pace {
            // An answer to something earlier: it does not tell what became of the question.
            Pace::Probe { asked } if asked.is_none_or(|asked| matched < asked) => {}
            Pace::Probe { .. } | Pace::Snapshot => {
                self.next = self.matched.next();
                self.pace = Pace::Replicate { unanswered: VecDeque::new(), moved: now };
            }
            Pace::Replicate { unanswered, moved } => {
                while unanswered.front().is_some_and(|last| *last <= matched) {
                    unanswered.pop_front();
                    *moved = now;
                }
            }
        }
        news
    }

    /// Notes that the member, whose log may agree up to `hint`, does not hold the place `prev`; whether to look for
    /// another one, which is then not before `agree`.
    ///
    /// What was in flight behind a lost append is rejected, each part of it. Only the first of these is news: if each
    /// began the search anew, and so sent as much again, one loss would grow into a storm.
    pub(super) fn rejected(&mut self, prev: Index, hint: Index, agree: Index) -> bool {
        let outdated = match &self.pace {
            Pace::Probe { .. } => prev.next() != self.next,
            Pace::Replicate { .. } => prev <= self.matched,
            Pace::Snapshot => true,
        };
        // It has acknowledged more since it said so.
        if outdated || hint < self.matched {
            return false;
        }
        self.probe_from(agree.next());
        true
    }

    /// Goes back to asking if appends stay unanswered: they, or the answers, were lost.
    pub(super) fn give_up_if_silent(&mut self, now: Time, patience: Duration) {
        match &mut self.pace {
            Pace::Probe { asked } => *asked = None,
            Pace::Replicate { unanswered, moved } => {
                if !unanswered.is_empty() && now >= *moved + patience {
                    self.probe_from(self.matched.next());
                }
            }
            // Whoever sends it knows how it goes.
            Pace::Snapshot => {}
        }
    }

    fn probe_from(&mut self, next: Index) {
        self.next = next.max(self.matched.next());
        self.pace = Pace::Probe { asked: None };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::ZERO;

    /// A member that has everything up to 100, and was sent 101 to 110, one by one.
    fn streaming() -> Progress {
        let mut progress = Progress::new(Index(101), NOW);
        progress.sent(NOW, Index(100));
        assert!(progress.accepted(NOW, Index(100)));
        for last in 101..=110 {
            assert!(progress.may_send(Index(200), 64));
            progress.sent(NOW, Index(last));
        }
        progress
    }

    #[test]
    fn one_loss_begins_one_search() {
        let mut progress = streaming();
        let hint = Index(100);
        assert!(progress.rejected(Index(102), hint, hint), "101 was lost, so 103 is rejected");
        assert_eq!(progress.next(), Index(101));
        progress.sent(NOW, Index(101));
        assert!(!progress.rejected(Index(103), hint, hint), "and 104, and so on: that is no news");
        assert!(progress.accepted(NOW, Index(101)));
        assert!(progress.is_streaming());
        assert!(!progress.rejected(Index(109), hint, hint), "nor when it streams again");
        assert!(progress.is_streaming());
    }

    #[test]
    fn a_late_answer_does_not_end_a_search() {
        let mut progress = streaming();
        assert!(progress.rejected(Index(105), Index(104), Index(104)));
        progress.sent(NOW, Index(105));
        assert!(progress.accepted(NOW, Index(103)));
        assert!(!progress.is_streaming() && !progress.may_send(Index(200), 64));
        assert!(progress.accepted(NOW, Index(105)));
        assert!(progress.is_streaming());
    }

    #[test]
    fn nothing_is_sent_beside_a_snapshot_until_it_arrives_or_fails() {
        let mut progress = streaming();
        progress.wait_for_snapshot();
        assert!(!progress.may_send(Index(200), 64));
        assert!(!progress.rejected(Index(105), Index(104), Index(104)));
        progress.give_up_if_silent(NOW + Duration::from_secs(9), Duration::from_secs(1));
        assert!(progress.is_waiting_for_snapshot());
        progress.snapshot_ended(Index(0));
        assert_eq!((progress.next(), progress.may_send(Index(200), 64)), (Index(101), true));
        progress.wait_for_snapshot();
        assert!(progress.accepted(NOW, Index(150)));
        assert_eq!((progress.next(), progress.is_streaming()), (Index(151), true));
    }
}
