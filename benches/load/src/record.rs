//! What was measured: latencies in histograms, by kind of operation and by second, and errors by what they say.
//!
//! A latency counts from the moment at which an operation was due, so a server that stops for a second is charged with
//! all the operations that were due in that second, not with the one that waited (no coordinated omission). In a
//! closed loop an operation is due when the one before it is done.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::clock::SECOND;

/// What one thread, or all together, measured.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// When it begins to count, in the time of the process; before it, everything is forgotten.
    pub(crate) from: u64,
    /// When no operation is begun any more.
    pub(crate) until: u64,
    /// When the last operation was done that counts.
    pub(crate) last: u64,
    /// Latencies in nanoseconds, for each kind of operation.
    pub(crate) kinds: Vec<Histogram<u64>>,
    /// From the sending of an operation to its answer, all kinds together.
    pub(crate) service: Histogram<u64>,
    /// What each second had.
    pub(crate) seconds: Vec<Second>,
    pub(crate) errors: BTreeMap<String, u64>,
    /// Operations that were due and never begun, because those before them took too long.
    pub(crate) never_begun: u64,
}

/// What happened in a second, by the end of operations.
#[derive(Clone, Debug)]
pub(crate) struct Second {
    pub(crate) latency: Histogram<u64>,
    pub(crate) errors: u64,
}

/// One operation, in the time of the process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    pub(crate) kind: usize,
    pub(crate) due: u64,
    pub(crate) sent: u64,
    pub(crate) done: u64,
}

impl Record {
    pub(crate) fn new(kinds: usize, from: u64, until: u64) -> Self {
        let kinds = (0..kinds).map(|_| histogram(3)).collect();
        let (service, seconds, errors) = (histogram(3), Vec::new(), BTreeMap::new());
        Self { from, until, last: from, kinds, service, seconds, errors, never_begun: 0 }
    }

    /// Whether what is due now counts.
    pub(crate) fn counts(&self, due: u64) -> bool {
        self.from <= due && due < self.until
    }

    /// Counts an operation that succeeded.
    pub(crate) fn done(&mut self, Done { kind, due, sent, done }: Done) {
        if !self.counts(due) {
            return;
        }
        let latency = done.saturating_sub(due);
        note(&mut self.kinds[kind], latency);
        note(&mut self.service, done.saturating_sub(sent));
        self.last = self.last.max(done);
        note(&mut self.second(done).latency, latency);
    }

    /// Counts an operation that failed.
    pub(crate) fn failed(&mut self, what: &str, due: u64, now: u64) {
        if !self.counts(due) {
            return;
        }
        match self.errors.get_mut(what) {
            Some(count) => *count += 1,
            None => drop(self.errors.insert(what.to_owned(), 1)),
        }
        self.second(now).errors += 1;
    }

    fn second(&mut self, now: u64) -> &mut Second {
        let place = usize::try_from(now.saturating_sub(self.from) / SECOND).unwrap_or(SECONDS_MAX);
        let place = place.min(SECONDS_MAX);
        while self.seconds.len() <= place {
            self.seconds.push(Second { latency: histogram(2), errors: 0 });
        }
        &mut self.seconds[place]
    }

    /// Adds what another thread measured at the same time.
    pub(crate) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.kinds.iter_mut().zip(&other.kinds) {
            add(mine, theirs);
        }
        add(&mut self.service, &other.service);
        for (place, theirs) in other.seconds.iter().enumerate() {
            if self.seconds.len() <= place {
                self.seconds.push(Second { latency: histogram(2), errors: 0 });
            }
            add(&mut self.seconds[place].latency, &theirs.latency);
            self.seconds[place].errors += theirs.errors;
        }
        for (what, count) in &other.errors {
            *self.errors.entry(what.clone()).or_default() += count;
        }
        self.never_begun += other.never_begun;
        self.last = self.last.max(other.last);
    }

    /// Operations that succeeded.
    pub(crate) fn count(&self) -> u64 {
        self.kinds.iter().map(Histogram::len).sum()
    }
}

/// A histogram of nanoseconds with so many digits, that grows as it must.
pub(crate) fn histogram(digits: u8) -> Histogram<u64> {
    Histogram::new(digits).expect("one to five digits")
}

/// Notes how long something took.
pub(crate) fn note(histogram: &mut Histogram<u64>, nanoseconds: u64) {
    // A year is more than anything takes, and bounds what the histogram grows to.
    histogram.record(nanoseconds.clamp(1, NANOSECONDS_MAX)).expect("it grows as it must");
}

fn add(to: &mut Histogram<u64>, other: &Histogram<u64>) {
    to.add(other).expect("it grows as it must");
}

/// The longest time that is told apart: a year.
const NANOSECONDS_MAX: u64 = 365 * 24 * 3600 * SECOND;
/// Seconds that are told apart; what comes later counts as the last.
const SECONDS_MAX: usize = 24 * 3600;

#[cfg(test)]
mod tests {
    use super::*;

    fn done(due: u64, done: u64) -> Done {
        Done { kind: 0, due, sent: due, done }
    }

    #[test]
    fn only_what_is_due_in_the_window_counts() {
        let mut record = Record::new(1, 1000, 2000);
        for due in [999, 1000, 1999, 2000] {
            record.done(done(due, due + 50));
            record.failed("no", due, due + 50);
        }
        assert_eq!((record.count(), record.errors["no"]), (2, 2));
        assert_eq!((record.kinds[0].max(), record.last), (50, 2049));
    }

    #[test]
    fn a_pause_is_charged_to_all_that_were_due() {
        // One operation a millisecond; the server stops for 100 ms and then answers everything.
        let mut record = Record::new(1, 0, SECOND);
        for number in 0..1000 {
            let due = number * 1_000_000;
            record.done(done(due, if due < 100_000_000 { 100_000_000 } else { due + 1000 }));
        }
        let share = record.kinds[0].value_at_quantile(0.95);
        assert!(share > 49_000_000, "half of the pause is the 95th percentile: {share}");
    }

    #[test]
    fn threads_add_up() {
        let (mut one, mut other) = (Record::new(2, 0, SECOND * 9), Record::new(2, 0, SECOND * 9));
        one.done(done(10, 20));
        other.done(Done { kind: 1, due: 10, sent: 15, done: 3 * SECOND });
        other.failed("no", 11, 12);
        other.never_begun = 7;
        one.add(&other);
        assert_eq!((one.count(), one.kinds[0].len(), one.kinds[1].len()), (2, 1, 1));
        assert_eq!(
            (one.seconds.len(), one.seconds[3].latency.len(), one.seconds[0].errors),
            (4, 1, 1)
        );
        assert_eq!((one.errors["no"], one.never_begun, one.last), (1, 7, 3 * SECOND));
    }

    #[test]
    fn latency_begins_when_it_is_due_and_service_when_it_is_sent() {
        let mut record = Record::new(1, 0, SECOND);
        record.done(Done { kind: 0, due: 100, sent: 400, done: 500 });
        assert_eq!((record.kinds[0].max(), record.service.max()), (400, 100));
    }
}
