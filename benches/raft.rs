//! Agreement alone: entries through three members, and what a message between them costs as bytes.

use bytes::Bytes;
use cairn_engine::ids::MemberId;
use cairn_engine::peer::{Body, Known, Message, Settled, codec};
use cairn_engine::raft::log::Log;
use cairn_engine::raft::membership::Membership;
use cairn_engine::raft::message::{Body as RaftBody, LogEnd};
use cairn_engine::raft::{
    Config, Durable, Entry, EntryKind, HardState, Index, Raft, RoleName, Term,
};
use cairn_engine::{Rng, Time};
use core::time::Duration;
use criterion::{Criterion, Throughput};

/// Three members without disks or wires: what is to be durable is so at once.
struct Group {
    members: Vec<Raft>,
    now: Time,
}

impl Group {
    fn new() -> Self {
        let member = |id| {
            let config = Config {
                id: MemberId(id),
                election_timeout: Duration::from_secs(1),
                heartbeat_interval: Duration::from_millis(100),
                append_bytes_max: 1 << 20,
                appends_in_flight_max: 256,
            };
            let durable = Durable {
                hard_state: HardState::default(),
                log: Log::new(LogEnd::default(), Vec::new()),
                membership: Membership::new((1..=3).map(MemberId)),
            };
            Raft::new(config, durable, Rng::new(id), Time::ZERO)
        };
        let mut group = Self { members: (1..=3).map(member).collect(), now: Time::ZERO };
        group.now = group.members[0].deadline();
        group.members[0].wake(group.now);
        group.settle();
        assert_eq!(group.members[0].role(), RoleName::Leader, "the others vote for it");
        group
    }

    /// Carries messages until nobody has anything to say.
    fn settle(&mut self) {
        loop {
            let mut said = Vec::new();
            for member in &mut self.members {
                member.flush(self.now);
                let (_, unsaved) = member.take_unsaved();
                core::hint::black_box(unsaved.len());
                said.extend(core::iter::from_fn(|| member.poll_message()));
            }
            if said.is_empty() {
                return;
            }
            for outgoing in said {
                let place = usize::try_from(outgoing.message.to.0 - 1).expect("small");
                self.members[place].step(self.now, outgoing.message);
            }
        }
    }

    /// Agrees on a batch of entries, and forgets them.
    fn agree(&mut self, count: usize, data: &Bytes) {
        for _ in 0..count {
            self.members[0].propose(data.clone()).expect("it leads");
        }
        self.settle();
        for member in &mut self.members {
            let last = member.log().last_index();
            member.trim_log(self.now, last, 1 << 20, 1 << 20);
        }
    }
}

fn agreement(criterion: &mut Criterion) {
    let data = Bytes::from(vec![b'x'; 300]);
    for count in [1, 100] {
        let mut group = Group::new();
        let mut benchmarks = criterion.benchmark_group("raft");
        benchmarks.throughput(Throughput::Elements(u64::try_from(count).expect("small")));
        benchmarks.bench_function(format!("{count} entries through three members"), |bencher| {
            bencher.iter(|| group.agree(count, &data));
        });
        benchmarks.finish();
    }
}

fn append(count: u64) -> Message {
    let entry =
        |index| Entry::new(Index(index), Term(7), EntryKind::Command, Bytes::from(vec![b'x'; 300]));
    let body = RaftBody::Append {
        prev: LogEnd { index: Index(40), term: Term(7) },
        commit: Index(40),
        entries: (41..41 + count).map(entry).collect(),
    };
    Message {
        from: MemberId(1),
        to: MemberId(2),
        known: Known::Settled(Settled::default()),
        body: Body::Raft { term: Term(7), body },
    }
}

fn messages(criterion: &mut Criterion) {
    for count in [1, 100] {
        let message = append(count);
        let mut bytes = Vec::new();
        criterion.bench_function(&format!("peer encode an append of {count} entries"), |bencher| {
            bencher.iter(|| {
                bytes.clear();
                codec::encode(&message, &mut bytes);
            });
        });
        let mut encoded = Vec::new();
        codec::encode(&message, &mut encoded);
        let encoded = Bytes::from(encoded);
        criterion.bench_function(&format!("peer decode an append of {count} entries"), |bencher| {
            bencher.iter(|| codec::decode(encoded.clone(), MemberId(1), MemberId(2)));
        });
    }
}

fn main() {
    let mut criterion = cairn_benches::criterion();
    agreement(&mut criterion);
    messages(&mut criterion);
    criterion.final_summary();
}
