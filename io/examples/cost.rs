//! What the count around every task costs: wakes, polls and spawns with it and without, on both runtimes.
//!
//! ```text
//! cargo run --release -p cairn-io --example cost
//! ```
//!
//! Tasks wake themselves and each other; without the count they are spawned past `Runtime::spawn`. The
//! median of eleven interleaved rounds is printed. Then the CPU time of a process that idles, by thread.
#![expect(clippy::print_stdout, reason = "a program for people")]

use core::cell::Cell;
use core::future::Future;
use core::pin::Pin;
use core::time::Duration;
use std::collections::BTreeMap;
use std::rc::Rc;

use cairn_io::clock::monotonic_ns;
use cairn_io::runtime::{Executor, Glommio, Plan, Tokio, run};

const WAKES: u64 = 1_000_000;
const SPAWNS: u64 = 100_000;
const ROUNDS: usize = 11;

type Task = Pin<Box<dyn Future<Output = ()>>>;

fn main() {
    measure::<Glommio>("glommio", |task| {
        let queue = glommio::executor().current_task_queue();
        drop(glommio::spawn_local_into(task, queue).expect("a queue").detach());
    });
    measure::<Tokio>("tokio", |task| drop(tokio::task::spawn_local(task)));
    for heartbeats_ms in [None, Some(100)] {
        idle::<Glommio>("glommio", heartbeats_ms);
        idle::<Tokio>("tokio", heartbeats_ms);
    }
}

/// Prints the CPU time that each thread of an idle process takes, with heartbeats or without.
fn idle<R: Executor>(name: &'static str, heartbeats_ms: Option<u64>) {
    const SECONDS: u64 = 10;
    run::<R, _, _, _>(Plan::default(), vec![()], move |_, ()| async move {
        if let Some(period) = heartbeats_ms {
            R::spawn(async move {
                loop {
                    R::sleep(Duration::from_millis(period)).await;
                }
            });
        }
        R::sleep(Duration::from_secs(2)).await;
        let before = cpu_ns();
        R::sleep(Duration::from_secs(SECONDS)).await;
        let after = cpu_ns();
        for (thread, ns) in after {
            let spent = ns - before.get(&thread).copied().unwrap_or(ns);
            if spent > 0 {
                let millionths = spent / (SECONDS * 1000);
                println!(
                    "{name}, heartbeats every {heartbeats_ms:?} ms: {thread}: {}.{:03} % of a core",
                    millionths / 10_000,
                    millionths / 10 % 1000
                );
            }
        }
    })
    .expect("it starts");
}

/// Nanoseconds on a CPU, by thread.
fn cpu_ns() -> BTreeMap<String, u64> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
    let times = tasks.map(|task| {
        let path = task.expect("readable").path();
        let read = |file| std::fs::read_to_string(path.join(file)).unwrap_or_default();
        let name = format!("{} {}", read("comm").trim(), path.display());
        let first = read("schedstat").split(' ').next().and_then(|ns| ns.parse().ok());
        (name, first.unwrap_or(0))
    });
    times.collect()
}

fn measure<R: Executor>(name: &'static str, bare: fn(Task)) {
    run::<R, _, _, _>(Plan::default(), vec![()], move |_, ()| async move {
        let counted: fn(Task) = |task| R::spawn(task);
        // Without the count there is no pulse either: this turns a hang of glommio's into a slow round.
        R::spawn(async {
            loop {
                R::sleep(Duration::from_millis(50)).await;
            }
        });
        let mut results: [[Vec<u64>; 2]; 3] = Default::default();
        for _ in 0..ROUNDS {
            for (which, spawn) in [bare, counted].into_iter().enumerate() {
                results[0][which].push(wakes(1, spawn).await);
                results[1][which].push(wakes(64, spawn).await);
                results[2][which].push(spawns(spawn).await);
            }
        }
        for (what, [bare, counted]) in
            ["wake and poll, 1 task", "wake and poll, 64 tasks", "spawn, poll, drop"]
                .into_iter()
                .zip(results)
        {
            println!("{name}: {what}: {} ns bare, {} ns counted", median(bare), median(counted));
        }
    })
    .expect("it starts");
}

/// Nanoseconds per self-wake and poll, with so many tasks in turn.
async fn wakes(tasks: u64, spawn: fn(Task)) -> u64 {
    let left = Rc::new(Cell::new(tasks));
    let (done, finished) = tokio::sync::oneshot::channel();
    let done = Rc::new(Cell::new(Some(done)));
    let began = monotonic_ns();
    for _ in 0..tasks {
        let (left, done) = (Rc::clone(&left), Rc::clone(&done));
        spawn(Box::pin(async move {
            for _ in 0..WAKES / tasks {
                yield_once().await;
            }
            left.set(left.get() - 1);
            if left.get() == 0 {
                done.take().expect("the last").send(()).expect("waited for");
            }
        }));
    }
    finished.await.expect("sent");
    (monotonic_ns() - began) / WAKES
}

/// Nanoseconds per task that is spawned, polled once and dropped.
async fn spawns(spawn: fn(Task)) -> u64 {
    let left = Rc::new(Cell::new(SPAWNS));
    let began = monotonic_ns();
    for _ in 0..SPAWNS / 100 {
        for _ in 0..100 {
            let left = Rc::clone(&left);
            spawn(Box::pin(async move { left.set(left.get() - 1) }));
        }
        yield_once().await;
    }
    while left.get() > 0 {
        yield_once().await;
    }
    (monotonic_ns() - began) / SPAWNS
}

async fn yield_once() {
    let mut yielded = false;
    core::future::poll_fn(|context| {
        if yielded {
            return core::task::Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        core::task::Poll::Pending
    })
    .await;
}

fn median(mut numbers: Vec<u64>) -> u64 {
    numbers.sort_unstable();
    numbers[numbers.len() / 2]
}
