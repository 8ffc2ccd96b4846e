//! Snapshots: a chunk at a time, between requests; how long one takes is how long a request may wait for it.

use cairn_benches::filled;
use cairn_engine::ClusterId;
use cairn_engine::raft::{Index, Term};
use cairn_engine::snapshot::{Position, Reader, SnapshotWriter};
use cairn_engine::wal::Lsn;
use criterion::{BatchSize, Throughput};

fn main() {
    let mut criterion = cairn_benches::criterion();
    let state = filled();
    let position = Position {
        index: Index(7),
        term: Term(1),
        log_start: Lsn(0),
        log_promise: Lsn(0),
        ..Position::default()
    };
    let writer = || SnapshotWriter::new(ClusterId(1), position, &state);
    let chunks: Vec<Vec<u8>> = {
        let mut writer = writer();
        core::iter::from_fn(|| writer.next_chunk()).collect()
    };
    let bytes: usize = chunks.iter().map(Vec::len).sum();
    let mut group = criterion.benchmark_group("snapshot");
    group.throughput(Throughput::Bytes(u64::try_from(chunks[1].len()).expect("64 bits")));
    group.bench_function("write a chunk", |bencher| {
        let begun = || {
            let mut writer = writer();
            writer.next_chunk();
            writer
        };
        bencher.iter_batched_ref(
            begun,
            |writer| writer.next_chunk().expect("there are records"),
            BatchSize::SmallInput,
        );
    });
    group.throughput(Throughput::Bytes(u64::try_from(bytes).expect("64 bits")));
    group.bench_function("read all of 100000 keys", |bencher| {
        bencher.iter(|| {
            let mut reader = Reader::new(ClusterId(1));
            for chunk in &chunks {
                reader.push(chunk).expect("it was just written");
            }
            reader.finish().expect("it is whole")
        });
    });
    group.finish();
    criterion.final_summary();
}
