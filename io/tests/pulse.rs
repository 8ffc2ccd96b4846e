//! The pulse under contention, briefly, and the end of a process whose executor cannot be woken. The long
//! form is the example `stress`.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "the linter does not see that helpers of tests are tests"
)]

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use core::time::Duration;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Sender as Reply, channel};
use std::thread;

use cairn_io::clock::monotonic_ns;
use cairn_io::mailbox::{Receiver, Sender, mailbox};
use cairn_io::probe::{Choice, Kind, select};
use cairn_io::pulse::{Config, Counters, EXIT_STALLED, Meter, Pulse};
use cairn_io::runtime::{Plan, Program, Runtime, launch};
use rustix::process::{Pid, Signal, kill_process};

const SECONDS: u64 = 3;
const SPINNERS: usize = 4;
const SENDERS: usize = 2;
const WINDOW: usize = 4;
const HOPS: usize = 100;
/// A stall costs 5 ms, and starved threads some tens; a hang lasts for ever.
const GAP_MAX: Duration = Duration::from_secs(2);

/// Answers every letter after some local wakes, while timers go off.
#[derive(Clone)]
struct Busy;

impl Program for Busy {
    type Seat = Receiver<Reply<()>>;
    type Output = ();

    async fn run<R: Runtime>(self, _core: usize, mut mail: Receiver<Reply<()>>) {
        R::spawn(async {
            loop {
                R::sleep(Duration::from_millis(700)).await;
            }
        });
        let mut letters = Vec::new();
        while mail.receive(&mut letters, 64).await > 0 {
            for letter in letters.drain(..) {
                R::spawn(async move {
                    for _ in 0..HOPS {
                        tokio::task::yield_now().await;
                    }
                    // The sender may have stopped.
                    letter.send(()).ok();
                });
            }
        }
    }
}

/// Sends and waits for answers, a few at a time; returns the longest wait in nanoseconds.
fn send(mail: &Sender<Reply<()>>, stop: &AtomicBool, answers: &AtomicU64) -> u64 {
    let (reply, replies) = channel();
    for _ in 0..WINDOW {
        mail.try_send(reply.clone()).unwrap();
    }
    let (mut last, mut longest) = (monotonic_ns(), 0);
    while !stop.load(Relaxed) {
        let answered = replies.recv_timeout(GAP_MAX).is_ok();
        let now = monotonic_ns();
        longest = longest.max(now - last);
        assert!(answered, "no answer for {GAP_MAX:?}");
        last = now;
        answers.fetch_add(1, Relaxed);
        mail.try_send(reply.clone()).unwrap();
    }
    longest
}

fn progress_does_not_stop(kind: Kind) {
    let stop = Arc::new(AtomicBool::new(false));
    let answers = Arc::new(AtomicU64::new(0));
    let spinners: Vec<_> = (0..SPINNERS)
        .map(|_| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let mut n = 0u64;
                while !stop.load(Relaxed) {
                    n = core::hint::black_box(n.wrapping_mul(31).wrapping_add(7));
                }
            })
        })
        .collect();
    let (mail, seat) = mailbox(64);
    let senders: Vec<_> = (0..SENDERS)
        .map(|_| {
            let (mail, stop) = (mail.clone(), Arc::clone(&stop));
            let answers = Arc::clone(&answers);
            thread::spawn(move || send(&mail, &stop, &answers))
        })
        .collect();
    drop(mail);
    let clock = {
        let stop = Arc::clone(&stop);
        thread::spawn(move || {
            thread::sleep(Duration::from_secs(SECONDS));
            stop.store(true, Relaxed);
        })
    };
    let counters = Arc::new(Counters::default());
    let plan = Plan { counters: Arc::clone(&counters), ..Plan::default() };
    launch(kind, plan, Busy, vec![seat]).unwrap();
    clock.join().unwrap();
    let gaps: Vec<u64> = senders.into_iter().map(|sender| sender.join().unwrap()).collect();
    spinners.into_iter().for_each(|spinner| spinner.join().unwrap());
    let longest = gaps.into_iter().max().unwrap();
    println!(
        "{kind}: {SECONDS} s, {SPINNERS} spinners, {SENDERS} senders of {WINDOW} letters, {HOPS} hops: \
         {} answers, longest wait {} ms; {counters:?}",
        answers.load(Relaxed),
        longest / 1_000_000,
    );
    assert!(longest < u64::try_from(GAP_MAX.as_nanos()).unwrap());
}

#[test]
fn progress_does_not_stop_under_contention() {
    if select(Choice::Glommio).is_ok() {
        progress_does_not_stop(Kind::Glommio);
    } else {
        println!("glommio: not checked, no io_uring on this machine");
    }
    progress_does_not_stop(Kind::Tokio);
}

/// An executor that sleeps in spite of all signals ends the process, in a child. Any thread that sleeps
/// in a call of the standard library is one: that call goes on after `EINTR`.
#[test]
fn an_executor_that_cannot_be_woken_ends_the_process() {
    const CHILD: &str = "CAIRN_IO_CHILD";
    if std::env::var_os(CHILD).is_some() {
        let meter = Meter::new(7);
        let asleep = Arc::clone(&meter);
        thread::spawn(move || {
            asleep.attach().unwrap();
            asleep.count_woken();
            thread::sleep(Duration::from_secs(3600));
        });
        let limit = Duration::from_millis(50);
        let config = Config { limit, last_words: Box::new(|stalled| println!("words: {stalled}")) };
        let _pulse = Pulse::start(vec![meter], config, Arc::default()).unwrap();
        thread::sleep(Duration::from_secs(60));
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "an_executor_that_cannot_be_woken_ends_the_process", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(EXIT_STALLED), "{text}");
    let words = "words: executor 7 slept through 11 signals, 5 ms apart, with 1 runnable tasks: \
                 ending the process (exit code 75)";
    assert!(text.contains(words), "{text}");
}

/// SIGSTOP stops the executor and the pulse alike, so no time has passed for the one that measures it.
#[test]
fn a_pause_of_the_whole_process_is_no_stall() {
    const CHILD: &str = "CAIRN_IO_PAUSED";
    #[derive(Clone)]
    struct Works;
    impl Program for Works {
        type Seat = ();
        type Output = ();
        async fn run<R: Runtime>(self, _core: usize, (): ()) {
            println!("ready");
            let end = R::now() + 2_000_000_000;
            while R::now() < end {
                tokio::task::yield_now().await;
            }
        }
    }
    if std::env::var_os(CHILD).is_some() {
        let config = Config { limit: Duration::from_millis(200), ..Config::default() };
        let plan = Plan { pulse: Some(config), ..Plan::default() };
        let kind = select(Choice::Auto).unwrap().kind;
        launch(kind, plan, Works, vec![()]).unwrap();
        return;
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_pause_of_the_whole_process_is_no_stall", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("ready") {
        assert!(output.read_line(&mut text).unwrap() > 0, "{text}");
    }
    let process = Pid::from_raw(child.id().cast_signed()).unwrap();
    kill_process(process, Signal::STOP).unwrap();
    thread::sleep(Duration::from_secs(1));
    kill_process(process, Signal::CONT).unwrap();
    output.read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success(), "{text}");
}

/// A poll that takes long is counted and ends nothing, however low the limit.
#[test]
fn a_long_poll_is_counted_and_harmless() {
    #[derive(Clone)]
    struct Blocks;
    impl Program for Blocks {
        type Seat = ();
        type Output = ();
        async fn run<R: Runtime>(self, _core: usize, (): ()) {
            R::sleep(Duration::from_millis(1)).await;
            thread::sleep(Duration::from_millis(300));
        }
    }
    let counters = Arc::new(Counters::default());
    let config = Config { limit: Duration::from_millis(1), ..Config::default() };
    let plan = Plan { pulse: Some(config), counters: Arc::clone(&counters) };
    launch(Kind::Tokio, plan, Blocks, vec![()]).unwrap();
    assert_eq!(counters.long_polls.load(Relaxed), 1);
    assert!(counters.long_poll_longest_ns.load(Relaxed) > 100_000_000);
    assert_eq!(counters.stalls.load(Relaxed), 0);
}
