//! Messages that make no sense, at the worst places: from members, and from strangers, to whoever leads, follows or learns.
//!
//! Nobody may panic. More cannot be asked where members lie, or somebody claims to lead a later term: Raft believes both.
//! Answers of strangers are another matter: they count for nothing.

use bytes::Bytes;
use cairn_engine::MemberId;
use cairn_engine::api::Request;
use cairn_engine::cluster::Wish;
use cairn_engine::lease::ClusterTime;
use cairn_engine::peer::{
    Body, Incarnation, Known, Message, Proposal, Settled, SnapshotPart, Vouch,
};
use cairn_engine::raft::membership::Membership;
use cairn_engine::raft::message::{Body as RaftBody, LogEnd, Round};
use cairn_engine::raft::{Entry, EntryKind, Index, RoleName, Term};
use cairn_sim::clock::Clock;
use cairn_sim::random::Random;
use cairn_sim::script;
use cairn_sim::world::{Observation, World};

mod common;

use common::{SECOND_NS, leaders, put, succeeds, world};

const LEARNER: MemberId = MemberId(4);

/// Three voters and a learner, one of which leads, and some entries.
fn world_with_learner(seed: u64) -> World {
    let mut world = world(3, seed);
    let peer_urls = vec!["http://m4:2380".to_owned()];
    let add = Request::Members(Wish::Add { id: LEARNER, peer_urls, learner: true });
    let leader = leader(&world);
    assert!(succeeds(&mut world, leader, 1, add));
    world.add_member(script::config(LEARNER, Vec::new()), Clock::default());
    world.start(LEARNER);
    assert!(succeeds(&mut world, leader, 2, put("before")));
    world.run_until(world.now_ns() + 2 * SECOND_NS);
    world
}

fn leader(world: &World) -> MemberId {
    leaders(world)[0]
}

/// Draws what nobody would say, with numbers near to those that mean something.
struct Liar {
    random: Random,
    /// Numbers that mean something to who is spoken to.
    numbers: Vec<u64>,
}

impl Liar {
    fn number(&mut self) -> u64 {
        let number = *self.random.pick(&self.numbers);
        match self.random.below(8) {
            0 => (1 << 62) + self.random.below(2),
            1..=4 => number,
            5 => number + self.random.below(4),
            _ => number.saturating_sub(self.random.below(4)),
        }
    }

    fn index(&mut self) -> Index {
        Index(self.number())
    }

    fn term(&mut self) -> Term {
        Term(self.number())
    }

    fn place(&mut self) -> LogEnd {
        LogEnd { index: self.index(), term: self.term() }
    }

    fn flag(&mut self) -> bool {
        self.random.chance(1, 2)
    }

    fn incarnation(&mut self) -> Incarnation {
        Incarnation(self.number())
    }

    fn bytes(&mut self) -> Bytes {
        let length = usize::try_from(self.random.below(40)).expect("small");
        (0..length).map(|_| self.random.number().to_le_bytes()[0]).collect::<Vec<_>>().into()
    }

    fn membership(&mut self) -> Membership {
        let mut ids =
            || (1..=5).filter(|_| self.random.chance(1, 2)).map(MemberId).collect::<Vec<_>>();
        let (before, mut voters) = (ids(), ids());
        voters.push(MemberId(1));
        let learners: Vec<_> = ids().into_iter().filter(|id| !voters.contains(id)).collect();
        if before.is_empty() {
            Membership::new(voters)
        } else {
            Membership::new(before).to(voters, learners)
        }
    }

    fn entries(&mut self, prev: LogEnd) -> Vec<Entry> {
        let (mut index, mut term) = (prev.index, prev.term);
        (0..self.random.below(4))
            .map(|_| {
                index = if self.random.chance(1, 16) {
                    self.index()
                } else {
                    Index(index.0.saturating_add(1))
                };
                term = if self.random.chance(1, 4) { self.term() } else { term };
                let (kind, data) = match self.random.below(4) {
                    0 => (EntryKind::Empty, Bytes::new()),
                    1 => (EntryKind::Membership, self.membership().to_entry(&[])),
                    2 => (EntryKind::Membership, self.bytes()),
                    _ => (EntryKind::Command, self.bytes()),
                };
                Entry::new(index, term, kind, data)
            })
            .collect()
    }

    fn raft(&mut self) -> RaftBody {
        match self.random.below(11) {
            0 => RaftBody::PreVote { last: self.place() },
            1 => RaftBody::PreVoteReply { granted: self.flag(), committed: self.place() },
            2 => RaftBody::Vote { last: self.place(), takeover: self.flag() },
            3 => RaftBody::VoteReply { granted: self.flag() },
            4 => {
                let prev = self.place();
                RaftBody::Append { prev, commit: self.index(), entries: self.entries(prev) }
            }
            5 | 6 => RaftBody::AppendAccepted { matched: self.index() },
            7 => RaftBody::AppendRejected { prev: self.index(), hint: self.place() },
            8 => RaftBody::Heartbeat { commit: self.index(), round: Round(self.number()) },
            9 => RaftBody::HeartbeatReply { round: Round(self.number()) },
            _ => RaftBody::TimeoutNow,
        }
    }

    /// An answer to a question that was not asked, in a term that has begun.
    fn answer(&mut self, term: Term) -> Body {
        let term = Term(term.0.saturating_sub(self.random.below(2)));
        let body = match self.random.below(6) {
            0 => RaftBody::PreVoteReply { granted: self.flag(), committed: LogEnd::default() },
            1 => RaftBody::VoteReply { granted: self.flag() },
            2 => RaftBody::AppendRejected { prev: self.index(), hint: self.place() },
            3 => RaftBody::HeartbeatReply { round: Round(self.number()) },
            _ => RaftBody::AppendAccepted { matched: self.index() },
        };
        match self.random.below(9) {
            0 => Body::Refused { number: self.number(), error: cairn_engine::api::Error::NoLeader },
            1 => Body::SnapshotReceived {
                transfer: self.number(),
                offset: self.number(),
                done: self.flag(),
            },
            2 => Body::Digest { index: self.index(), digest: self.random.number() },
            3 => Body::ReadIndexAnswer {
                token: self.number(),
                index: self.index(),
                time: ClusterTime(0),
            },
            4 => Body::Stateless,
            _ => Body::Raft { term, body },
        }
    }

    fn body(&mut self) -> Body {
        match self.random.below(20) {
            0 => {
                let first = self.number();
                let proposals = (0..self.random.below(3))
                    .map(|more| Proposal { number: first + more, command: self.bytes() })
                    .collect();
                Body::Propose { term: self.term(), incarnation: self.incarnation(), proposals }
            }
            1 => Body::Refused { number: self.number(), error: cairn_engine::api::Error::NoLeader },
            2 => Body::ReadIndex { token: self.number() },
            3 => Body::ReadIndexAnswer {
                token: self.number(),
                index: self.index(),
                time: ClusterTime(self.number()),
            },
            4 => Body::Digest { index: self.index(), digest: self.random.number() },
            5 => Body::SnapshotPart(SnapshotPart {
                transfer: self.number(),
                place: self.place(),
                offset: if self.flag() { 0 } else { self.number() },
                bytes: self.bytes(),
                last: self.flag(),
            }),
            6 => Body::SnapshotReceived {
                transfer: self.number(),
                offset: self.number(),
                done: self.flag(),
            },
            7 => Body::Forgot { incarnation: self.incarnation() },
            8 => Body::Ask { incarnation: self.incarnation() },
            9 => Body::Vouch {
                incarnation: self.incarnation(),
                vouch: Vouch {
                    term: self.term(),
                    last: self.place(),
                    membership: self.membership(),
                },
            },
            10 => Body::Stateless,
            _ => Body::Raft { term: self.term(), body: self.raft() },
        }
    }

    fn message(&mut self, from: MemberId, to: MemberId) -> Message {
        let known = if self.random.chance(1, 4) {
            Known::Settled(Settled {
                as_of: self.index(),
                incarnation: self.incarnation(),
                votes: self.random.chance(1, 2),
                acknowledged: self.index(),
                forgot: self.incarnation(),
            })
        } else {
            Known::Unsure
        };
        Message { from, to, known, body: self.body() }
    }
}

/// What means something to a member.
fn numbers(world: &World, id: MemberId) -> Vec<u64> {
    let Some(replica) = world.replica(id) else { return vec![0] };
    let status = replica.status();
    let (last, commit, term) = (status.last.0, status.commit.0, status.term.0);
    vec![0, 1, last, last + 1, commit, commit + 1, term, term + 1, world.incarnation(id).0 >> 1]
}

#[test]
fn whatever_members_say_to_whom_nobody_panics() {
    let mut told = [0; 4];
    for seed in 1..=60 {
        let mut world = world_with_learner(seed);
        let mut liar = Liar { random: Random::new(seed, 90), numbers: Vec::new() };
        for _ in 0..400 {
            let everybody = [1, 2, 3, 4].map(MemberId);
            let (from, to) = (*liar.random.pick(&everybody), *liar.random.pick(&everybody));
            if from == to || !world.is_up(to) {
                continue; // One that was told that it is removed may have believed it.
            }
            told[match world.replica(to).map(|replica| replica.raft().role()) {
                Some(RoleName::Leader) => 0,
                Some(RoleName::PreCandidate | RoleName::Candidate) => 1,
                Some(RoleName::Follower) if to == LEARNER => 2,
                Some(RoleName::Follower) | None => 3,
            }] += 1;
            liar.numbers = numbers(&world, to);
            let message = liar.message(from, to);
            world.inject(message);
            for _ in 0..liar.random.below(30) {
                world.step();
            }
            while world.observe().is_some() {}
        }
    }
    assert!(
        told.iter().all(|count| *count > 100),
        "leaders, candidates, learners, followers: {told:?}"
    );
}

#[test]
fn what_strangers_answer_counts_for_nothing() {
    for seed in 1..=20 {
        let mut world = world_with_learner(seed);
        let before = leader(&world);
        let term = |world: &World| world.replica(before).map(|replica| replica.status().term);
        let began = term(&world);
        let mut liar = Liar { random: Random::new(seed, 91), numbers: Vec::new() };
        for round in 0..300 {
            let from = MemberId(liar.random.between(7, 9));
            let to = MemberId(liar.random.between(1, 4));
            liar.numbers = numbers(&world, to);
            let now = world.replica(to).expect("it runs").status().term;
            let body = liar.answer(now);
            world.inject(Message { from, to, known: Known::Unsure, body });
            for _ in 0..liar.random.below(30) {
                world.step();
            }
            while let Some(seen) = world.observe() {
                let is_state = matches!(&seen, Observation::Sent(Message { to, body: Body::SnapshotPart(_), .. }, _)
                    if to.0 >= 7);
                assert!(!is_state, "seed {seed}: the state is not for strangers: {seen:?}");
            }
            if round % 50 == 0 {
                assert!(succeeds(&mut world, before, 100 + round, put("amid lies")), "seed {seed}");
            }
        }
        world.run_until(world.now_ns() + 5 * SECOND_NS);
        assert_eq!((leader(&world), term(&world)), (before, began), "seed {seed}");
        let value = |id: u64| {
            let replica = world.replica(MemberId(id)).expect("it runs");
            (replica.status().applied, replica.state().digest)
        };
        assert!((2..=4).all(|id| value(id) == value(1)), "seed {seed}: they agree");
    }
}
