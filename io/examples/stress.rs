//! Looks for executors that stop turning, by hand: many runs under contention, with and without the pulse.
//!
//! ```text
//! cargo run --release -p cairn-io --example stress -- runtime=glommio pulse=off runs=60 seconds=2 spinners=4
//! ```
//!
//! One executor serves a sender on another thread in a closed loop: `window` letters are under way, each
//! is answered after `hops` local wakes, and only an answer makes the next letter. So nothing but the
//! executor itself can end a stall. `timers` tasks sleep in turns; `spinners` threads fight for the CPU
//! (`rest` is their pause in microseconds, `cpu` binds everything to that many processors).
//!
//! Every run is a process of its own, because a hung executor cannot be stopped. The sum says how many runs
//! ended in a hang (no answer in the last half of their time) and the longest time without an answer.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use core::time::Duration;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use cairn_io::clock::monotonic_ns;
use cairn_io::mailbox::{Receiver, Sender, mailbox};
use cairn_io::probe::Kind;
use cairn_io::pulse::{Config, Counters};
use cairn_io::runtime::{Plan, Program, Runtime, launch};

type Letter = SyncSender<()>;

/// What a run is made of; from `name=value` arguments.
#[derive(Clone, Debug)]
struct Setup {
    runtime: Kind,
    pulse: bool,
    runs: u64,
    seconds: u64,
    spinners: u64,
    window: u64,
    timers: u64,
    hops: u64,
    rest: u64,
    cpu: usize,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let setup = Setup::read(&arguments);
    if std::env::var_os("STRESS_RUN").is_some() {
        run(&setup);
    }
    let mut gaps = Vec::new();
    let (mut hung, mut sums) = (0, [0u64; 5]);
    for _ in 0..setup.runs {
        let child = Command::new(std::env::current_exe().expect("we run"))
            .args(&arguments)
            .env("STRESS_RUN", "1")
            .output()
            .expect("a process can be started");
        let line = String::from_utf8(child.stdout).expect("text");
        let numbers: Vec<u64> = line.split_whitespace().map(|n| n.parse().expect("n")).collect();
        let [answers, gap_ms, silence_ms, stalls, stall_ms, delays, polls, nudges] = numbers[..]
        else {
            panic!("{line} {}", String::from_utf8_lossy(&child.stderr));
        };
        let is_hung = silence_ms > setup.seconds * 500;
        hung += u64::from(is_hung);
        gaps.push(gap_ms);
        sums[0] += stalls;
        sums[1] = sums[1].max(stall_ms);
        sums[2] += delays;
        sums[3] += polls;
        sums[4] += nudges;
        if std::env::var_os("VERBOSE").is_some() {
            println!("{answers} answers, longest gap {gap_ms} ms, stalls {stalls} {stall_ms} ms");
        }
    }
    gaps.sort_unstable();
    let [stalls, stall_ms, delays, polls, nudges] = sums;
    println!("{arguments:?}");
    println!(
        "hung {hung} of {}; longest gap: median {} ms, 90 % {} ms, max {} ms; \
         stalls {stalls} (longest {stall_ms} ms), delays {delays}, long polls {polls}, nudges {nudges}",
        gaps.len(),
        gaps[gaps.len() / 2],
        gaps[gaps.len() * 9 / 10],
        gaps[gaps.len() - 1],
    );
}

impl Setup {
    fn read(arguments: &[String]) -> Self {
        let mut setup = Self {
            runtime: Kind::Glommio,
            pulse: true,
            runs: 10,
            seconds: 2,
            spinners: 4,
            window: 4,
            timers: 0,
            hops: 300,
            rest: 0,
            cpu: 0,
        };
        for argument in arguments {
            let (name, value) = argument.split_once('=').expect("name=value");
            let number = || value.parse::<u64>().expect("a number");
            match name {
                "runtime" if value == "tokio" => setup.runtime = Kind::Tokio,
                "runtime" => setup.runtime = Kind::Glommio,
                "pulse" => setup.pulse = value == "on",
                "runs" => setup.runs = number(),
                "seconds" => setup.seconds = number(),
                "spinners" => setup.spinners = number(),
                "window" => setup.window = number(),
                "timers" => setup.timers = number(),
                "hops" => setup.hops = number(),
                "rest" => setup.rest = number(),
                "cpu" => setup.cpu = value.parse().expect("a number"),
                _ => panic!("no parameter is called {name}"),
            }
        }
        setup
    }
}

/// The executor's side.
#[derive(Clone)]
struct Busy {
    setup: Setup,
}

impl Program for Busy {
    type Seat = Receiver<Letter>;
    type Output = ();

    async fn run<R: Runtime>(self, _core: usize, mut mail: Receiver<Letter>) {
        for n in 0..self.setup.timers {
            R::spawn(async move {
                loop {
                    R::sleep(Duration::from_micros(500 + 700 * n)).await;
                }
            });
        }
        let mut batch: Vec<Letter> = Vec::new();
        let hops = self.setup.hops;
        while mail.receive(&mut batch, 64).await > 0 {
            for letter in batch.drain(..) {
                R::spawn(async move {
                    for _ in 0..hops {
                        tokio::task::yield_now().await;
                    }
                    letter.try_send(()).ok();
                });
            }
        }
    }
}

#[derive(Default)]
struct Seen {
    answers: AtomicU64,
    last_ns: AtomicU64,
    gap_ns: AtomicU64,
}

/// One run; prints its numbers and ends the process.
fn run(setup: &Setup) -> ! {
    if setup.cpu > 0 {
        let mut set = rustix::thread::CpuSet::new();
        (0..setup.cpu).for_each(|cpu| set.set(cpu));
        rustix::thread::sched_setaffinity(None, &set).expect("these processors exist");
    }
    for _ in 0..setup.spinners {
        let rest = setup.rest;
        thread::spawn(move || spin(rest));
    }
    let (post, mail) = mailbox(1024);
    let seen = Arc::new(Seen::default());
    let counters = Arc::new(Counters::default());
    {
        let (seen, window) = (Arc::clone(&seen), setup.window);
        thread::spawn(move || send(&post, window, &seen));
    }
    {
        let (seen, counters, seconds) = (seen, Arc::clone(&counters), setup.seconds);
        thread::spawn(move || {
            thread::sleep(Duration::from_secs(seconds));
            let last = seen.last_ns.load(Relaxed);
            let silence = monotonic_ns().saturating_sub(last);
            let gap = seen.gap_ns.load(Relaxed).max(silence);
            println!(
                "{} {} {} {} {} {} {} {}",
                seen.answers.load(Relaxed),
                gap / 1_000_000,
                silence / 1_000_000,
                counters.stalls.load(Relaxed),
                counters.stall_longest_ns.load(Relaxed) / 1_000_000,
                counters.delays.load(Relaxed),
                counters.long_polls.load(Relaxed),
                counters.nudges.load(Relaxed),
            );
            std::process::exit(0);
        });
    }
    let config = || Config {
        limit: Duration::from_secs(3600),
        last_words: Box::new(|stalled| eprintln!("{stalled}")),
    };
    let plan = Plan { pulse: setup.pulse.then(config), counters };
    launch(setup.runtime, plan, Busy { setup: setup.clone() }, vec![mail]).expect("it starts");
    unreachable!("the sender never stops");
}

fn send(mail: &Sender<Letter>, window: u64, seen: &Seen) {
    let (answer, answers) = sync_channel(1024);
    for _ in 0..window {
        mail.try_send(answer.clone()).expect("there is room");
    }
    seen.last_ns.store(monotonic_ns(), Relaxed);
    while answers.recv().is_ok() {
        let now = monotonic_ns();
        let last = seen.last_ns.swap(now, Relaxed);
        seen.gap_ns.fetch_max(now - last, Relaxed);
        seen.answers.fetch_add(1, Relaxed);
        mail.try_send(answer.clone()).expect("there is room");
    }
}

fn spin(rest_us: u64) {
    let mut n = 0u64;
    loop {
        for _ in 0..200_000 {
            n = core::hint::black_box(n.wrapping_mul(31).wrapping_add(7));
        }
        if rest_us > 0 {
            thread::sleep(Duration::from_micros(rest_us));
        }
    }
}
