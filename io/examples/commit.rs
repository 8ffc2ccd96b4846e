//! What a durable write costs: latency and CPU of one at a time, on both runtimes.
//!
//! ```text
//! cargo run --release -p cairn-io --example commit -- /directory/on/the/disk
//! ```
//!
//! Writes of 4 KiB and 64 KiB go around in a segment of 64 MiB that is written with zeros before; the
//! median of five interleaved rounds is printed, with a blocking write loop for comparison.
#![expect(clippy::print_stdout, reason = "a program for people")]

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use cairn_io::clock::monotonic_ns;
use cairn_io::disk::{Aligned, Disk as _, DurableFile as _, Pace};
use cairn_io::runtime::{Executor, Glommio, Plan, Runtime, Tokio, run};

const SEGMENT: u64 = 64 << 20;
const WRITES: usize = 2000;
const ROUNDS: usize = 5;

fn main() {
    let directory = std::env::args().nth(1).unwrap_or_else(|| ".".into());
    let path = Path::new(&directory).join("commit-example.wal");
    make(path.clone());
    for length in [4096, 65536] {
        let mut results: [Vec<Numbers>; 3] = Default::default();
        for _ in 0..ROUNDS {
            results[0].push(blocking(&path, length));
            results[1].push(through::<Glommio>(path.clone(), length));
            results[2].push(through::<Tokio>(path.clone(), length));
        }
        for (name, mut rounds) in ["blocking", "glommio", "tokio + thread"].into_iter().zip(results)
        {
            rounds.sort_unstable();
            let Numbers { p50_us, p99_us, cpu_us } = rounds[ROUNDS / 2];
            println!("{length} bytes, {name}: p50 {p50_us} us, p99 {p99_us} us, CPU {cpu_us} us");
        }
    }
    std::fs::remove_file(path).expect("just made");
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Numbers {
    p50_us: u64,
    p99_us: u64,
    cpu_us: u64,
}

fn make(path: PathBuf) {
    run::<Tokio, _, _, _>(Plan::default(), vec![path], |_, path| async move {
        let disk = <Tokio as Runtime>::Disk::start().expect("threads");
        let began = monotonic_ns();
        disk.create_zeroed(&path, SEGMENT, Pace::Urgent).await.expect("room");
        let urgent = (monotonic_ns() - began) / 1_000_000;
        let began = monotonic_ns();
        disk.create_zeroed(&path, SEGMENT, Pace::Background).await.expect("room");
        let background = (monotonic_ns() - began) / 1_000_000;
        println!("a segment of 64 MiB: {urgent} ms in a hurry, {background} ms in the background");
    })
    .expect("it starts");
}

fn through<R: Executor>(path: PathBuf, length: usize) -> Numbers {
    let entry = |_, (path, length): (PathBuf, usize)| async move {
        let disk = R::Disk::start().expect("threads");
        let file = disk.open(&path).await.expect("just made");
        let mut latencies = Vec::new();
        let cpu = cpu_us();
        for offset in offsets(length) {
            let mut buffer = disk.buffer(length);
            buffer.as_mut().fill(7);
            let began = monotonic_ns();
            file.write_durable(offset, buffer).await.expect("the disk works");
            latencies.push(monotonic_ns() - began);
        }
        let cpu = cpu_us() - cpu;
        file.close().await.expect("it closes");
        numbers(latencies, cpu)
    };
    run::<R, _, _, _>(Plan::default(), vec![(path, length)], entry).expect("it starts")[0]
}

fn blocking(path: &Path, length: usize) -> Numbers {
    let flags = libc::O_DIRECT | libc::O_DSYNC;
    let file = OpenOptions::new().write(true).custom_flags(flags).open(path).expect("just made");
    let mut buffer = Aligned::zeroed(length);
    buffer.as_mut().fill(7);
    let mut latencies = Vec::new();
    let cpu = cpu_us();
    for offset in offsets(length) {
        let began = monotonic_ns();
        file.write_all_at(buffer.as_ref(), offset).expect("the disk works");
        latencies.push(monotonic_ns() - began);
    }
    numbers(latencies, cpu_us() - cpu)
}

fn offsets(length: usize) -> impl Iterator<Item = u64> {
    let step = u64::try_from(length).expect("64 bits");
    (0..SEGMENT).step_by(length).cycle().take(WRITES).inspect(move |offset| {
        assert!(offset + step <= SEGMENT, "writes stay within the segment");
    })
}

fn numbers(mut latencies: Vec<u64>, cpu_us: u64) -> Numbers {
    latencies.sort_unstable();
    let at = |percent: usize| latencies[latencies.len() * percent / 100] / 1000;
    let writes = u64::try_from(WRITES).expect("64 bits");
    Numbers { p50_us: at(50), p99_us: at(99), cpu_us: cpu_us / writes }
}

/// CPU time of all threads of this process.
fn cpu_us() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
    let each = tasks.map(|task| {
        let path = task.expect("readable").path().join("schedstat");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0)
    });
    each.sum::<u64>() / 1000
}
