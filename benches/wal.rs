//! The log: from entries to the bytes of a write. The disk is left out.

use bytes::Bytes;
use cairn_engine::raft::{Entry, EntryKind, Index, Term};
use cairn_engine::wal::recover::Known;
use cairn_engine::wal::scan::{SegmentFile, Unreadable};
use cairn_engine::wal::writer::{Config, Writer};
use cairn_engine::wal::{LogSource, SegmentSeq, recover};
use cairn_engine::{ClusterId, MemberId, Rng, Time};
use criterion::{BatchSize, BenchmarkId, Throughput};

/// No files: the log begins.
struct Nothing;

impl LogSource for Nothing {
    fn segments(&mut self) -> Vec<SegmentFile> {
        Vec::new()
    }

    fn read(&mut self, _: SegmentSeq, _: u64, _: usize) -> Result<Bytes, Unreadable> {
        Err(Unreadable)
    }
}

fn writer() -> Writer {
    let config = Config {
        cluster: ClusterId(1),
        member: MemberId(1),
        segment_bytes: 64 << 20,
        first_segment_bytes: 64 << 20,
    };
    let known = Known { cluster: config.cluster, member: config.member, ..Known::default() };
    let recovered = recover(&mut Nothing, known).expect("nothing is an empty log");
    Writer::new(config, &recovered, (Index(0), Term(0)), Rng::new(1))
}

fn entries(count: u64) -> Vec<Entry> {
    let data = Bytes::from(vec![b'x'; 300]);
    let entry = |index| Entry::new(Index(index), Term(1), EntryKind::Command, data.clone());
    (1..=count).map(entry).collect()
}

fn main() {
    let mut criterion = cairn_benches::criterion();
    let mut group = criterion.benchmark_group("wal append and encode");
    for count in [1, 10, 100, 1000] {
        let entries = entries(count);
        group.throughput(Throughput::Elements(count));
        group.bench_with_input(BenchmarkId::from_parameter(count), &entries, |bencher, entries| {
            bencher.iter_batched_ref(
                writer,
                |writer| {
                    writer.append(entries);
                    while let Some(write) = writer.poll(Time::ZERO) {
                        writer.written(Time::ZERO, write.end);
                    }
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
    criterion.final_summary();
}
