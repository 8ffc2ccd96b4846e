//! What a run did, in numbers.

use core::fmt;

use super::SECOND;

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// What happened in the world.
    pub steps: u64,
    /// Virtual time.
    pub nanos: u64,
    /// Requests that were answered.
    pub answered: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Requests whose fate was not told.
    pub unknown: u64,
    /// Faults, those that could not happen included.
    pub faults: u64,
    /// Crashes.
    pub crashes: u64,
    /// Responses on watch streams.
    pub watched: u64,
    /// Watchers that went on after an interruption.
    pub resumed: u64,
    /// Leases that came to their end.
    pub expired: u64,
    /// Starts that were refused because of damage.
    pub refusals: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Snapshots that a leader sent, and that took the place of a state.
    pub installed: u64,
    /// Entries that changed who takes part.
    pub changes: u64,
    /// Members that began to lead.
    pub reigns: u64,
    /// Disks that were wiped.
    pub wiped: u64,
    /// Disks that were set back to a copy.
    pub rolled_back: u64,
    /// Pairs of disks that were swapped.
    pub swapped: u64,
    /// Disks that the cluster noticed not to be what they were.
    pub noticed: u64,
    /// Starts without a state, which the others had to bring.
    pub states_lost: u64,
    /// Majorities that had to do without the others.
    pub left_alone: u64,
}

impl Tally {
    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.nanos += other.nanos;
        self.answered += other.answered;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.faults += other.faults;
        self.crashes += other.crashes;
        self.watched += other.watched;
        self.resumed += other.resumed;
        self.expired += other.expired;
        self.refusals += other.refusals;
        self.snapshots += other.snapshots;
        self.installed += other.installed;
        self.changes += other.changes;
        self.reigns += other.reigns;
        self.wiped += other.wiped;
        self.rolled_back += other.rolled_back;
        self.swapped += other.swapped;
        self.noticed += other.noticed;
        self.states_lost += other.states_lost;
        self.left_alone += other.left_alone;
    }
}

impl Tally {
    /// Each number with its name.
    pub fn named(&self) -> [(&'static str, u64); 21] {
        [
            ("steps", self.steps),
            ("virtual nanoseconds", self.nanos),
            ("answered", self.answered),
            ("refused", self.refused),
            ("unknown", self.unknown),
            ("faults", self.faults),
            ("crashes", self.crashes),
            ("watch responses", self.watched),
            ("watchers resumed", self.resumed),
            ("leases expired", self.expired),
            ("refusals to start", self.refusals),
            ("snapshots", self.snapshots),
            ("snapshots installed", self.installed),
            ("changes of members", self.changes),
            ("reigns", self.reigns),
            ("disks wiped", self.wiped),
            ("disks set back", self.rolled_back),
            ("pairs of disks swapped", self.swapped),
            ("losses noticed", self.noticed),
            ("states lost", self.states_lost),
            ("majorities left alone", self.left_alone),
        ]
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} steps, {} s, {} answered, {} refused, {} unknown, {} crashes, {} refusals to start, {} snapshots, \
             {} installed, {} watch responses, {} watchers resumed, {} leases expired, {} reigns, \
             {} changes of members, {} disks wiped, {} set back, {} pairs swapped, {} noticed, {} states lost, {} left alone",
            self.steps,
            self.nanos / SECOND,
            self.answered,
            self.refused,
            self.unknown,
            self.crashes,
            self.refusals,
            self.snapshots,
            self.installed,
            self.watched,
            self.resumed,
            self.expired,
            self.reigns,
            self.changes,
            self.wiped,
            self.rolled_back,
            self.swapped,
            self.noticed,
            self.states_lost,
            self.left_alone,
        )
    }
}
