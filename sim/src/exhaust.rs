//! Raft alone, without time: every order of a few steps, or a long random walk.
//!
//! What the timed world seldom does, this does always: any message may be delivered next, twice, or never, any member
//! may time out, forget its leader, or crash at any moment. The disk is atomic: what a step hands out is durable with
//! it. Messages that are too many in flight are lost, the oldest first.
//!
//! [`explore`] looks at every reachable state within a [`Scope`], breadth first, and knows a state again by a hash of
//! everything that matters in it: clocks count only by how long ago a leader was heard. Members are alike at the
//! beginning, so that the first to time out is member 1. [`walk`] goes far instead of everywhere.
//!
//! Checked after every step: election safety, log matching, leader completeness, state machine safety, that commit
//! never goes back in a life, and that the membership moves one change at a time.

use core::fmt::Write as _;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use cairn_engine::raft::log::Log;
use cairn_engine::raft::membership::Membership;
use cairn_engine::raft::message::{LogEnd, Message};
use cairn_engine::raft::{Config, Durable, Entry, HardState, Index, Raft, RoleName, Term};
use cairn_engine::{MemberId, Rng, Time};

use crate::check::{Violation, ensure};
use crate::random::Random;
use crate::trace::Hasher;
use crate::workload::pick;

/// How much may happen on the way to a state.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    /// Members, all of which vote at first.
    pub members: u64,
    /// The highest term for which anybody campaigns.
    pub terms: u64,
    /// Entries that are proposed.
    pub entries: u64,
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

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The message at this place arrives.
    Deliver(usize),
    /// It arrives, and stays to arrive again.
    Double(usize),
    /// A member's deadline has come.
    Timeout(MemberId),
    /// A member has not heard its leader for long.
    Doze(MemberId),
    /// A leader proposes an entry.
    Propose(MemberId),
    /// A leader proposes to remove or to add a member.
    Change(MemberId, MemberId),
    /// A member crashes and starts again.
    Crash(MemberId),
}

#[derive(Clone, Debug)]
struct Node {
    raft: Raft,
    now: Time,
    hard_state: HardState,
    log: Vec<Entry>,
    /// What it knew to be committed, in this life.
    commit: Index,
}

#[derive(Clone, Debug)]
struct State {
    nodes: BTreeMap<MemberId, Node>,
    network: VecDeque<Message>,
    leaders: BTreeMap<Term, MemberId>,
    /// The entries that somebody knows to be committed, and the term of whoever knew first.
    committed: Vec<(Entry, Term)>,
    proposed: u64,
    changed: u64,
    crashed: u64,
    doubled: u64,
}

const TIMEOUT: Duration = Duration::from_nanos(4);

fn config(id: MemberId) -> Config {
    Config {
        id,
        election_timeout: TIMEOUT,
        heartbeat_interval: Duration::from_nanos(1),
        append_bytes_max: 1,
        appends_in_flight_max: 2,
    }
}

impl Node {
    fn start(
        id: MemberId,
        members: u64,
        hard_state: HardState,
        log: Vec<Entry>,
        now: Time,
    ) -> Self {
        let membership = Membership::new((1..=members).map(MemberId));
        let durable =
            Durable { hard_state, log: Log::new(LogEnd::default(), log.clone()), membership };
        let raft = Raft::new(config(id), durable, Rng::new(7), now);
        Self { raft, now, hard_state, log, commit: hard_state.commit }
    }
}

impl State {
    fn new(members: u64) -> Self {
        let node = |id| {
            let id = MemberId(id);
            (id, Node::start(id, members, HardState::default(), Vec::new(), Time::ZERO))
        };
        Self {
            nodes: (1..=members).map(node).collect(),
            network: VecDeque::new(),
            leaders: BTreeMap::new(),
            committed: Vec::new(),
            proposed: 0,
            changed: 0,
            crashed: 0,
            doubled: 0,
        }
    }

    /// What may happen next.
    fn actions(&self, scope: &Scope) -> Vec<Action> {
        let mut actions = Vec::new();
        for place in 0..self.network.len() {
            actions.push(Action::Deliver(place));
            if self.doubled < scope.duplicates {
                actions.push(Action::Double(place));
            }
        }
        let is_first = self.leaders.is_empty() && self.network.is_empty() && self.crashed == 0;
        for (id, node) in &self.nodes {
            let role = node.raft.role();
            let term = node.raft.hard_state().term;
            if !(is_first && *id != MemberId(1))
                && (role == RoleName::Leader || term.0 < scope.terms)
            {
                actions.push(Action::Timeout(*id));
            }
            if role == RoleName::Follower && node.raft.leader().is_some() {
                actions.push(Action::Doze(*id));
            }
            if role == RoleName::Leader && self.proposed < scope.entries {
                actions.push(Action::Propose(*id));
            }
            if self.changed < scope.changes && node.raft.may_change() {
                let others = self.nodes.keys().filter(|other| **other != *id);
                actions.extend(others.map(|other| Action::Change(*id, *other)));
            }
            if self.crashed < scope.crashes && term > Term(0) {
                actions.push(Action::Crash(*id));
            }
        }
        actions
    }

    /// Which of the kinds an action is, for the weights of a walk.
    fn kind_of(&self, action: &Action) -> usize {
        match action {
            Action::Deliver(_) => 0,
            Action::Double(_) => 1,
            Action::Timeout(id) if self.nodes[id].raft.role() == RoleName::Leader => 2,
            Action::Timeout(_) => 3,
            Action::Doze(_) => 4,
            Action::Propose(_) => 5,
            Action::Change(..) => 6,
            Action::Crash(_) => 7,
        }
    }

    /// Lets one thing happen; an error if it must not have.
    fn act(&mut self, action: &Action, scope: &Scope) -> Result<(), Violation> {
        let id = match action {
            Action::Deliver(place) | Action::Double(place) => {
                let message = if let Action::Double(_) = action {
                    self.doubled += 1;
                    self.network[*place].clone()
                } else {
                    self.network.remove(*place).expect("a message in flight")
                };
                let id = message.to;
                let node = self.node(id);
                node.raft.step(node.now, message);
                id
            }
            Action::Timeout(id) => {
                let node = self.node(*id);
                let deadline = node.raft.deadline();
                if deadline < Time::from_nanos(u64::MAX) {
                    node.now = node.now.max(deadline);
                    node.raft.wake(node.now);
                }
                *id
            }
            Action::Doze(id) => {
                let node = self.node(*id);
                node.now = node.now + TIMEOUT;
                *id
            }
            Action::Propose(id) => {
                self.proposed += 1;
                // No two entries are equally long.
                let length = usize::try_from(self.proposed).expect("a few");
                let data = Bytes::from(vec![0; length]);
                self.node(*id).raft.propose(data).expect("it leads");
                *id
            }
            Action::Change(id, other) => {
                self.changed += 1;
                let raft = &mut self.node(*id).raft;
                let mut voters: BTreeSet<_> = raft.membership().incoming().collect();
                if !voters.remove(other) {
                    voters.insert(*other);
                }
                let next = raft.membership().to(voters, []);
                raft.propose_membership(&next, &[]).expect("it may change");
                *id
            }
            Action::Crash(id) => {
                self.crashed += 1;
                let members = scope.members;
                let node = self.node(*id);
                let (hard_state, log) = (node.hard_state, node.log.clone());
                *node = Node::start(*id, members, hard_state, log, node.now);
                *id
            }
        };
        self.settle(id, scope);
        self.check(id)
    }

    fn node(&mut self, id: MemberId) -> &mut Node {
        self.nodes.get_mut(&id).expect("a member")
    }

    /// Makes durable what a member handed out, and sends what it says.
    fn settle(&mut self, id: MemberId, scope: &Scope) {
        let node = self.nodes.get_mut(&id).expect("a member");
        loop {
            node.raft.flush(node.now);
            let commit = node.raft.hard_state().commit;
            let (hard_state, entries) = node.raft.take_unsaved();
            if hard_state.is_some() || !entries.is_empty() {
                for entry in entries {
                    node.log.truncate(usize::try_from(entry.index.0 - 1).expect("a few"));
                    node.log.push(entry.clone());
                }
                let HardState { term, vote, .. } = hard_state.unwrap_or(node.hard_state);
                node.hard_state = HardState { term, vote, commit };
            }
            let mut again = false;
            while let Some(outgoing) = node.raft.poll_message() {
                if outgoing.message.to == id {
                    node.raft.step(node.now, outgoing.message);
                    again = true;
                } else if !self.network.contains(&outgoing.message) {
                    self.network.push_back(outgoing.message);
                }
            }
            while node.raft.poll_read().is_some() {}
            while node.raft.poll_snapshot_wanted().is_some() {}
            if !again {
                break;
            }
        }
        while self.network.len() > scope.in_flight {
            self.network.pop_front();
        }
    }

    fn check(&mut self, id: MemberId) -> Result<(), Violation> {
        let node = self.nodes.get_mut(&id).expect("a member");
        let (raft, term) = (&node.raft, node.raft.hard_state().term);
        let commit = raft.hard_state().commit;
        ensure(node.commit <= commit, "commit", || format!("{} goes back", id.0))?;
        node.commit = commit;
        if raft.role() == RoleName::Leader {
            let first = *self.leaders.entry(term).or_insert(id);
            ensure(first == id, "election safety", || {
                format!("{} and {} lead term {term}", first.0, id.0)
            })?;
            // What was committed in later terms is not owed by one whose term is over.
            for (entry, by) in self.committed.iter().filter(|(_, by)| *by < term) {
                ensure(raft.log().get(entry.index) == Some(entry), "leader completeness", || {
                    format!("{} leads {term} without {entry:?}, committed in {by}", id.0)
                })?;
            }
        }
        for entry in raft.log().iter().take_while(|entry| entry.index <= commit) {
            let place = usize::try_from(entry.index.0 - 1).expect("a few");
            match self.committed.get(place) {
                Some((known, _)) => ensure(known == entry, "state machine safety", || {
                    format!("{} commits {entry:?}, known was {known:?}", id.0)
                })?,
                None => self.committed.push((entry.clone(), term)),
            }
        }
        let log = self.nodes[&id].raft.log();
        for (other, node) in self.nodes.iter().filter(|(other, _)| **other != id) {
            let both: Vec<_> = log.iter().zip(node.raft.log().iter()).collect();
            let mut agreed = both.iter().rev().skip_while(|(a, b)| a.term != b.term);
            let agree = agreed.all(|(a, b)| a == b);
            ensure(agree, "log matching", || format!("{} and {} differ", id.0, other.0))?;
        }
        Ok(())
    }

    /// Stands for everything that matters about the state.
    fn fingerprint(&self, text: &mut String) -> u64 {
        let mut hasher = Hasher::default();
        for node in self.nodes.values() {
            text.clear();
            write!(text, "{:?}{:?}", node.raft, node.hard_state).expect("strings grow");
            hash_without_time(text, node.now, &mut hasher);
            for entry in &node.log {
                hasher.number(entry.term.0);
            }
        }
        text.clear();
        let mut network: Vec<_> = self.network.iter().map(|m| format!("{m:?}")).collect();
        network.sort();
        write!(text, "{network:?}{:?}{:?}", self.leaders, self.committed).expect("strings grow");
        hasher.bytes(text.as_bytes());
        for number in [self.proposed, self.changed, self.crashed, self.doubled] {
            hasher.number(number);
        }
        hasher.finish()
    }
}

/// Hashes a description: a moment counts by how long it was before `now`, a deadline and the state of a generator of
/// random numbers not at all, because timeouts are steps of their own.
fn hash_without_time(text: &str, now: Time, hasher: &mut Hasher) {
    let mut rest = text;
    while let Some(place) = rest.find("Time(").into_iter().chain(rest.find("Rng(")).min() {
        let (before, at) = rest.split_at(place);
        hasher.bytes(before.as_bytes());
        let open = at.find('(').expect("just found") + 1;
        let close = at.find(')').expect("a number in brackets");
        let is_moment = at.starts_with("Time(") && !before.ends_with("deadline: ");
        if let Some(at) = at[open..close].parse().ok().filter(|_| is_moment) {
            let ago = now.as_nanos().saturating_sub(at);
            hasher.number(ago.min(u64::try_from(TIMEOUT.as_nanos()).expect("short")));
        }
        rest = &at[close..];
    }
    hasher.bytes(rest.as_bytes());
}

/// Looks at every state within a scope, breadth first.
pub fn explore(scope: &Scope) -> Explored {
    let mut explored = Explored::default();
    let mut text = String::new();
    let first = State::new(scope.members);
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
        way.push(ways[at].1.clone());
        at = ways[at].0;
    }
    way.reverse();
    way
}

/// Kinds of actions, and one for the loss of messages.
const KINDS: usize = 9;

/// The scope of a walk: far, and full of accidents.
pub fn walking(members: u64) -> Scope {
    Scope {
        members,
        terms: u64::MAX,
        entries: u64::MAX,
        changes: 0,
        crashes: u64::MAX,
        duplicates: u64::MAX,
        in_flight: 24,
        states_max: 0,
    }
}

/// Takes so many random steps from the beginning; the rule that was broken, if one was, and the way there.
pub fn walk(scope: &Scope, seed: u64, steps: usize) -> Option<(Violation, Vec<Action>)> {
    let mut random = Random::new(seed, 20);
    let mut state = State::new(scope.members);
    let mut way = Vec::new();
    // What is frequent in one walk is rare in the next.
    let weights: Vec<u64> = (0..KINDS).map(|_| random.magnitude(1, 64)).collect();
    for _ in 0..steps {
        if random.below(64) < weights[KINDS - 1] / 4 && !state.network.is_empty() {
            // Most of what is on its way is lost.
            state.network.retain(|_| random.chance(1, 4));
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
        let action = random.pick(from).clone();
        let outcome = state.act(&action, scope);
        way.push(action);
        if let Err(violation) = outcome {
            return Some((violation, way));
        }
    }
    None
}
