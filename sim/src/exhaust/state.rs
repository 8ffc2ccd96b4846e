//! A state of agreement alone, what may happen to it, and what must hold in it.

use core::fmt::Write as _;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use bytes::Bytes;
use cairn_engine::raft::log::Log;
use cairn_engine::raft::membership::Membership;
use cairn_engine::raft::message::{Body, LogEnd, Message};
use cairn_engine::raft::{
    Config, Durable, Entry, HardState, Index, Raft, ReadToken, RoleName, Term,
};
use cairn_engine::{MemberId, Rng, Time};

use super::{Begin, Scope};
use crate::check::{Violation, ensure};
use crate::trace::Hasher;

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The message at this place arrives.
    Deliver(usize),
    /// It arrives, and stays to arrive again.
    Double(usize),
    /// It is lost, because too many are in flight.
    Lose(usize),
    /// A member's deadline has come.
    Timeout(MemberId),
    /// A member has not heard its leader for long.
    Doze(MemberId),
    /// A leader proposes an entry.
    Propose(MemberId),
    /// A leader is asked for the index of a read.
    Read(MemberId),
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
    /// Reads that it was asked for in this life, and how much somebody knew to be committed by then.
    reads: BTreeMap<u64, Index>,
    /// Stands for all of this, once somebody asked.
    print: Option<u64>,
}

/// A message on its way, and what stands for it.
#[derive(Debug)]
pub(super) struct Letter {
    message: Message,
    print: u64,
}

#[derive(Clone, Debug)]
pub(super) struct State {
    /// Member 1 first. What a step does not touch is shared with the state before.
    nodes: Vec<Rc<Node>>,
    /// In the order of sending, none twice.
    pub(super) network: VecDeque<Rc<Letter>>,
    leaders: BTreeMap<Term, MemberId>,
    /// The entries that somebody knows to be committed, and the term of whoever knew first.
    committed: Vec<(Entry, Term)>,
    campaigned: u64,
    beaten: u64,
    proposed: u64,
    asked: u64,
    changed: u64,
    crashed: u64,
    doubled: u64,
}

/// Two heartbeats, so that who is heard late differs from who is not heard.
const TIMEOUT: Duration = Duration::from_nanos(2);

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
        let (commit, reads) = (hard_state.commit, BTreeMap::new());
        Self { raft, now, hard_state, log, commit, reads, print: None }
    }

    fn fingerprint(&mut self, text: &mut String) -> u64 {
        *self.print.get_or_insert_with(|| {
            let mut hasher = Hasher::default();
            text.clear();
            write!(text, "{:?}{:?}{:?}", self.raft, self.hard_state, self.reads)
                .expect("strings grow");
            hash_without_time(text, self.now, &mut hasher);
            for entry in &self.log {
                hasher.number(entry.term.0);
            }
            hasher.finish()
        })
    }

    /// Whether a message changes nothing here, now or later: it is an answer to a question of a term that is over.
    fn is_deaf_to(&self, message: &Message) -> bool {
        let term = self.raft.hard_state().term;
        match message.body {
            // Granted, it carries the term that would begin. Who is told that more is committed learns that, whenever.
            Body::PreVoteReply { granted, committed } => {
                let is_over = message.term < term || granted && message.term == term;
                is_over && committed.index <= self.hard_state.commit
            }
            Body::VoteReply { .. }
            | Body::AppendAccepted { .. }
            | Body::AppendRejected { .. }
            | Body::HeartbeatReply { .. } => message.term < term,
            Body::PreVote { .. }
            | Body::Vote { .. }
            | Body::Append { .. }
            | Body::Heartbeat { .. }
            | Body::TimeoutNow => false,
        }
    }
}

impl State {
    pub(super) fn new(scope: &Scope) -> Self {
        let members = scope.members;
        let node = |id| {
            let id = MemberId(id);
            Rc::new(Node::start(id, members, HardState::default(), Vec::new(), Time::ZERO))
        };
        let mut state = Self {
            nodes: (1..=members).map(node).collect(),
            network: VecDeque::new(),
            leaders: BTreeMap::new(),
            committed: Vec::new(),
            campaigned: 0,
            beaten: 0,
            proposed: 0,
            asked: 0,
            changed: 0,
            crashed: 0,
            doubled: 0,
        };
        if scope.begin == Begin::Led {
            state.elect(scope);
        }
        state
    }

    /// Lets member 1 lead, and nothing be under way.
    fn elect(&mut self, scope: &Scope) {
        let act = |state: &mut Self, action| {
            state.act(&action, scope).expect("a first election breaks no rule");
        };
        act(self, Action::Timeout(MemberId(1)));
        while !self.network.is_empty() {
            act(self, Action::Deliver(0));
        }
        // What is committed is told with the next heartbeat.
        act(self, Action::Timeout(MemberId(1)));
        while !self.network.is_empty() {
            act(self, Action::Deliver(0));
        }
        let knows = |node: &Rc<Node>| node.raft.hard_state().commit == Index(1);
        assert!(self.nodes.iter().all(knows), "the first entry is committed");
        (self.campaigned, self.beaten) = (0, 0);
    }

    fn members(&self) -> impl Iterator<Item = (MemberId, &Node)> {
        (1..).map(MemberId).zip(self.nodes.iter().map(Rc::as_ref))
    }

    /// What may happen next.
    pub(super) fn actions(&self, scope: &Scope) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.network.len() > scope.in_flight {
            return (0..self.network.len()).map(Action::Lose).collect();
        }
        for place in 0..self.network.len() {
            actions.push(Action::Deliver(place));
            if self.doubled < scope.duplicates {
                actions.push(Action::Double(place));
            }
        }
        let is_first = self.leaders.is_empty() && self.network.is_empty() && self.crashed == 0;
        for (id, node) in self.members() {
            let role = node.raft.role();
            let term = node.raft.hard_state().term;
            let may_time_out = match role {
                RoleName::Leader => self.beaten < scope.heartbeats,
                RoleName::Follower | RoleName::PreCandidate | RoleName::Candidate => {
                    let is_alike = is_first && id != MemberId(1);
                    self.campaigned < scope.campaigns && term.0 < scope.terms && !is_alike
                }
            };
            if may_time_out {
                actions.push(Action::Timeout(id));
            }
            if role == RoleName::Follower && node.raft.leader().is_some() {
                actions.push(Action::Doze(id));
            }
            if role == RoleName::Leader && self.proposed < scope.entries {
                actions.push(Action::Propose(id));
            }
            if role == RoleName::Leader && self.asked < scope.reads {
                actions.push(Action::Read(id));
            }
            if self.changed < scope.changes && node.raft.may_change() {
                let others = self.members().map(|(other, _)| other).filter(|other| *other != id);
                actions.extend(others.map(|other| Action::Change(id, other)));
            }
            if self.crashed < scope.crashes && term > Term(0) {
                actions.push(Action::Crash(id));
            }
        }
        actions
    }

    /// Which of the kinds an action is, for the weights of a walk.
    pub(super) fn kind_of(&self, action: &Action) -> usize {
        match action {
            Action::Deliver(_) | Action::Lose(_) => 0,
            Action::Double(_) => 1,
            Action::Timeout(id) if self.nodes[place(*id)].raft.role() == RoleName::Leader => 2,
            Action::Timeout(_) => 3,
            Action::Doze(_) => 4,
            Action::Propose(_) => 5,
            Action::Change(..) => 6,
            Action::Crash(_) => 7,
            Action::Read(_) => 8,
        }
    }

    /// Lets one thing happen; an error if it must not have.
    pub(super) fn act(&mut self, action: &Action, scope: &Scope) -> Result<(), Violation> {
        let id = match *action {
            Action::Lose(place) => {
                self.network.remove(place).expect("a message in flight");
                return Ok(());
            }
            Action::Deliver(place) | Action::Double(place) => {
                let letter = if let Action::Double(_) = action {
                    self.doubled += 1;
                    Rc::clone(&self.network[place])
                } else {
                    self.network.remove(place).expect("a message in flight")
                };
                let id = letter.message.to;
                let node = self.node(id);
                node.raft.step(node.now, letter.message.clone());
                id
            }
            Action::Timeout(id) => {
                if self.nodes[place(id)].raft.role() == RoleName::Leader {
                    self.beaten += 1;
                } else {
                    self.campaigned += 1;
                }
                let node = self.node(id);
                let deadline = node.raft.deadline();
                if deadline < Time::from_nanos(u64::MAX) {
                    node.now = node.now.max(deadline);
                    node.raft.wake(node.now);
                }
                id
            }
            Action::Doze(id) => {
                let node = self.node(id);
                node.now = node.now + TIMEOUT;
                id
            }
            Action::Propose(id) => {
                self.proposed += 1;
                // No two entries are equally long.
                let length = usize::try_from(self.proposed).expect("a few");
                let data = Bytes::from(vec![0; length]);
                self.node(id).raft.propose(data).expect("it leads");
                id
            }
            Action::Read(id) => {
                self.asked += 1;
                let (token, floor) = (self.asked, self.committed.last());
                let floor = floor.map_or(Index(0), |(entry, _)| entry.index);
                let node = self.node(id);
                node.reads.insert(token, floor);
                node.raft.read_index(ReadToken(token)).expect("it leads");
                id
            }
            Action::Change(id, other) => {
                self.changed += 1;
                let raft = &mut self.node(id).raft;
                let mut voters: BTreeSet<_> = raft.membership().incoming().collect();
                if !voters.remove(&other) {
                    voters.insert(other);
                }
                let next = raft.membership().to(voters, []);
                raft.propose_membership(&next, &[]).expect("it may change");
                id
            }
            Action::Crash(id) => {
                self.crashed += 1;
                let node = self.node(id);
                let (hard_state, log) = (node.hard_state, node.log.clone());
                *node = Node::start(id, scope.members, hard_state, log, node.now);
                id
            }
        };
        self.settle(id)?;
        let (node, network) = (&self.nodes[place(id)], &mut self.network);
        network.retain(|letter| letter.message.to != id || !node.is_deaf_to(&letter.message));
        self.check(id)
    }

    /// A member, about to change.
    fn node(&mut self, id: MemberId) -> &mut Node {
        let node = Rc::make_mut(&mut self.nodes[place(id)]);
        node.print = None;
        node
    }

    /// Makes durable what a member handed out, and sends what it says.
    fn settle(&mut self, id: MemberId) -> Result<(), Violation> {
        let node = Rc::make_mut(&mut self.nodes[place(id)]);
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
                let message = outgoing.message;
                if message.to == id {
                    node.raft.step(node.now, message);
                    again = true;
                } else {
                    let mut hasher = Hasher::default();
                    write!(hasher, "{message:?}").expect("a hasher takes everything");
                    let print = hasher.finish();
                    if self.network.iter().all(|letter| letter.print != print) {
                        self.network.push_back(Rc::new(Letter { message, print }));
                    }
                }
            }
            while let Some(read) = node.raft.poll_read() {
                let floor = node.reads.remove(&read.token.0).unwrap_or_default();
                ensure(read.index.is_none_or(|index| index >= floor), "read index", || {
                    format!("{} answers {read:?}, {floor} was committed when it was asked", id.0)
                })?;
            }
            while node.raft.poll_snapshot_wanted().is_some() {}
            if !again {
                return Ok(());
            }
        }
    }

    fn check(&mut self, id: MemberId) -> Result<(), Violation> {
        let node = Rc::make_mut(&mut self.nodes[place(id)]);
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
        let log = self.nodes[place(id)].raft.log();
        for (other, node) in self.members().filter(|(other, _)| *other != id) {
            let both: Vec<_> = log.iter().zip(node.raft.log().iter()).collect();
            let mut agreed = both.iter().rev().skip_while(|(a, b)| a.term != b.term);
            let agree = agreed.all(|(a, b)| a == b);
            ensure(agree, "log matching", || format!("{} and {} differ", id.0, other.0))?;
        }
        Ok(())
    }

    /// Stands for everything that matters about the state.
    pub(super) fn fingerprint(&mut self, text: &mut String) -> u64 {
        let mut hasher = Hasher::default();
        for node in &mut self.nodes {
            let print = match node.print {
                Some(print) => print,
                None => Rc::make_mut(node).fingerprint(text),
            };
            hasher.number(print);
        }
        let mut prints: Vec<u64> = self.network.iter().map(|letter| letter.print).collect();
        prints.sort_unstable();
        hasher.number(u64::try_from(prints.len()).expect("a few"));
        prints.into_iter().for_each(|print| hasher.number(print));
        for (term, leader) in &self.leaders {
            hasher.number(term.0);
            hasher.number(leader.0);
        }
        for (entry, by) in &self.committed {
            hasher.number(entry.term.0);
            hasher.number(u64::from(entry.crc));
            hasher.number(by.0);
        }
        let so_often = [self.campaigned, self.beaten, self.proposed, self.asked, self.changed];
        for number in so_often.into_iter().chain([self.crashed, self.doubled]) {
            hasher.number(number);
        }
        hasher.finish()
    }
}

/// Where a member is in the list of all.
fn place(id: MemberId) -> usize {
    usize::try_from(id.0 - 1).expect("a few")
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
