//! Raft alone, without time: every order of a few steps, or a long random walk.
//!
//! What the timed world seldom does, this does always: any message may be delivered next, twice, or never, any member
//! may time out, forget its leader, or crash at any moment. The disk is atomic: what a step hands out is durable with
//! it. A limited number of messages is in flight: which of the others are lost is a choice of its own, and every
//! choice is looked at.
//!
//! [`explore`] looks at every reachable state within a [`Scope`], breadth first, and knows a state again by a hash of
//! everything that matters in it:
//!
//! - clocks count only by how long ago a leader was heard;
//! - the network is a set: two equal messages are one that may arrive twice, if the scope has it;
//! - a message that would change nothing, now or ever, is not in flight;
//! - members are alike at the beginning, so that the first to time out is member 1.
//!
//! [`SCOPES`] are those that come to an end in seconds. [`walk`] goes far instead of everywhere.
//!
//! Checked after every step: election safety, log matching, leader completeness, state machine safety, that commit
//! never goes back in a life, that a read sees all that anybody knew to be committed when it was asked, and that the
//! membership moves one change at a time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::check::Violation;
use crate::random::Random;
use crate::workload::pick;

pub mod state;

use state::{Action, State};

/// How much may happen on the way to a state.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    /// Members, all of which vote at first.
    pub members: u64,
    /// Where it begins.
    pub begin: Begin,
    /// The highest term for which anybody campaigns.
    pub terms: u64,
    /// Deadlines of members that do not lead: each begins a campaign, or begins it anew.
    pub campaigns: u64,
    /// Deadlines of leaders: each sends heartbeats, and may be the one at which nobody was heard for too long.
    pub heartbeats: u64,
    /// Entries that are proposed.
    pub entries: u64,
    /// Reads that are asked for.
    pub reads: u64,
    /// Changes of the membership that are proposed.
    pub changes: u64,
    /// Crashes, each followed by a restart.
    pub crashes: u64,
    /// Messages that are delivered and stay.
    pub duplicates: u64,
    /// Messages in flight.
    pub in_flight: usize,
    /// States after which the search ends.
    pub states_max: usize,
}

/// Where a search begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With members that never met.
    Blank,
    /// With member 1 as the leader of term 1, whose first entry everybody holds and knows to be committed.
    Led,
}

/// Scopes that come to an end within seconds, each about one subject. They share what is said of [`LEAST`].
pub const SCOPES: [(&str, Scope); 6] = [
    ("election", Scope { begin: Begin::Blank, campaigns: 2, ..LEAST }),
    ("replication", Scope { entries: 1, ..LEAST }),
    ("doubles", Scope { entries: 1, heartbeats: 0, duplicates: 1, ..LEAST }),
    ("reads", Scope { reads: 1, ..LEAST }),
    ("recovery", Scope { crashes: 1, campaigns: 2, ..LEAST }),
    ("reconfiguration", Scope { changes: 1, ..LEAST }),
];

/// Three members, an old leader and a new one, and two messages in flight.
const LEAST: Scope = Scope {
    members: 3,
    begin: Begin::Led,
    terms: 2,
    campaigns: 1,
    heartbeats: 1,
    entries: 0,
    reads: 0,
    changes: 0,
    crashes: 0,
    duplicates: 0,
    in_flight: 2,
    states_max: 10_000_000,
};

/// What was looked at.
#[derive(Clone, Debug, Default)]
pub struct Explored {
    /// Different states.
    pub states: usize,
    /// Steps between them.
    pub steps: usize,
    /// The longest way to a state.
    pub depth: usize,
    /// Whether there was nothing left to look at.
    pub complete: bool,
    /// The first rule that was broken, and the way there.
    pub violation: Option<(Violation, Vec<Action>)>,
}

/// Looks at every state within a scope, breadth first.
pub fn explore(scope: &Scope) -> Explored {
    let mut explored = Explored::default();
    let mut text = String::new();
    let mut first = State::new(scope);
    let mut seen = BTreeSet::from([first.fingerprint(&mut text)]);
    // The way to each state: the state before it, and the step.
    let mut ways: Vec<(usize, Action)> = vec![(0, Action::Deliver(0))];
    let mut queue = VecDeque::from([(0, 0, first)]);
    while let Some((number, depth, state)) = queue.pop_front() {
        explored.depth = depth;
        for action in state.actions(scope) {
            explored.steps += 1;
            let mut next = state.clone();
            let outcome = next.act(&action, scope);
            if outcome.is_ok() && !seen.insert(next.fingerprint(&mut text)) {
                continue;
            }
            ways.push((number, action));
            if let Err(violation) = outcome {
                explored.violation = Some((violation, way_to(&ways)));
                explored.states = seen.len();
                return explored;
            }
            queue.push_back((ways.len() - 1, depth + 1, next));
            if seen.len() >= scope.states_max {
                explored.states = seen.len();
                return explored;
            }
        }
    }
    explored.states = seen.len();
    explored.complete = true;
    explored
}

fn way_to(ways: &[(usize, Action)]) -> Vec<Action> {
    let (mut way, mut at) = (Vec::new(), ways.len() - 1);
    while at > 0 {
        way.push(ways[at].1);
        at = ways[at].0;
    }
    way.reverse();
    way
}

/// The scope of a walk: far, and full of accidents.
pub fn walking(members: u64) -> Scope {
    Scope {
        members,
        begin: Begin::Blank,
        terms: u64::MAX,
        campaigns: u64::MAX,
        heartbeats: u64::MAX,
        entries: u64::MAX,
        reads: u64::MAX,
        changes: 0,
        crashes: u64::MAX,
        duplicates: u64::MAX,
        in_flight: 24,
        states_max: 0,
    }
}

/// Kinds of actions, and one for the loss of messages.
const KINDS: usize = 10;

/// Takes so many random steps from the beginning; the rule that was broken, if one was, and the way there.
pub fn walk(scope: &Scope, seed: u64, steps: usize) -> Option<(Violation, Vec<Action>)> {
    let mut random = Random::new(seed, 20);
    let mut state = State::new(scope);
    let mut way = Vec::new();
    // What is frequent in one walk is rare in the next.
    let weights: Vec<u64> = (0..KINDS).map(|_| random.magnitude(1, 64)).collect();
    for _ in 0..steps {
        if random.below(64) < weights[KINDS - 1] / 4 && !state.network.is_empty() {
            // Most of what is on its way is lost.
            state.network.retain(|_| random.chance(1, 4));
        }
        while state.network.len() > scope.in_flight {
            state.network.pop_front();
        }
        let mut kinds: BTreeMap<usize, Vec<Action>> = BTreeMap::new();
        for action in state.actions(scope) {
            kinds.entry(state.kind_of(&action)).or_default().push(action);
        }
        let weighted: Vec<(usize, u64)> = kinds
            .keys()
            .map(|kind| (*kind, weights[*kind] * if *kind == 0 { 8 } else { 1 }))
            .collect();
        if weighted.is_empty() {
            return None;
        }
        let from = &kinds[&pick(&mut random, &weighted)];
        let action = *random.pick(from);
        let outcome = state.act(&action, scope);
        way.push(action);
        if let Err(violation) = outcome {
            return Some((violation, way));
        }
    }
    None
}
