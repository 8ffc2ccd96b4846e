//! What the count around every task costs: wakes, polls and spawns with it and without, on both runtimes.
//!
//! ```text
//! cargo run --release -p cairn-io --example cost
//! ```
//!
//! Tasks wake themselves and each other; without the count they are spawned past `Runtime::spawn`. The
//! median of eleven interleaved rounds is printed.
#![expect(clippy::print_stdout, reason = "a program for people")]

use core::future::Future;
use core::pin::Pin;
use std::cell::Cell;
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
}

fn measure<R: Executor>(name: &'static str, bare: fn(Task)) {
    run::<R, _, _, _>(Plan::default(), vec![()], move |_, ()| async move {
        let counted: fn(Task) = |task| R::spawn(task);
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
