//! The pulse: an executor that sleeps although it has work is woken from outside.
//!
//! glommio 0.9 can park a thread whose run queue is not empty: when the preemption timer fires exactly
//! between arming it and looking at the queue, "preempted before running anything" is read as "nothing to
//! run" (`run_task_queues` in its executor/mod.rs). Nothing inside such an executor can help, a timer of
//! its own is stranded in the same queue. A thread outside can:
//!
//! - Every task counts ([`Meter`]): `woken` when it becomes runnable, `answered` when it is polled for
//!   that. So `woken > answered` means "has work", and a moving `answered` means "turns".
//! - One thread samples all executors. Work without a turn over 5 ms, while the kernel says that the
//!   thread sleeps, is a stall: the thread is sent a signal whose handler does nothing. The system call in
//!   which it sleeps returns `EINTR`, which both runtimes take as "look again". Again at every further
//!   sample, since the executor may park in the same way.
//! - A stall that survives wakes for longer than a limit ends the process with [`EXIT_STALLED`]: a stopped
//!   member is safe, one that looks alive and does not turn is not.
//!
//! ```text
//!             turned, or nothing to do
//!     ┌─────────────────────────────────────────┐
//!     ▼                                         │
//!  Clear ──(work, no turn)──► Suspect ──(5 ms)──► Stuck ──(limit, asleep)──► the process ends
//! ```
//!
//! Three things look alike from `woken` and `answered`, and are told apart: *polling*, one task's poll
//! takes long (an executor says so); *delayed*, the thread is runnable and gets no CPU (the kernel says so,
//! in /proc); *parked*, the thread sleeps. Only the last is the bug, only it can end the process.
//!
//! Stalls are measured in samples, not by the clock: SIGSTOP, a paused machine and an exhausted CPU quota
//! stop this thread too, and then nothing must be concluded from the time that passed.
//!
//! Why a signal and not a waker: a foreign wake, too, ends a park, but only once there is a task to
//! wake. An executor that parks before it has polled anything has none, and that happens. The signal needs
//! nothing of the runtime.
//!
//! Limits: tasks that were not spawned through [`Runtime::spawn`](crate::runtime::Runtime::spawn) are not
//! seen.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use core::time::Duration;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crate::clock::{monotonic_ns, saturating_ns};
use crate::sys;

/// What an executor shows of itself: work that waits, and turns.
///
/// Invariants:
/// - (I1) Every increment of `woken` is followed by exactly one increment of `answered`, when the task is
///   polled or dropped.
/// - (I2) `answered` and `polling` are written by the executor's thread only.
#[derive(Debug)]
pub struct Meter {
    core: usize,
    /// Tasks that became runnable, ever. Written by every thread that wakes one.
    woken: Line<AtomicU64>,
    /// What only the executor's thread writes.
    owner: Line<Owner>,
    /// The kernel's id of the executor's thread; zero before it has begun and after it has ended.
    thread: AtomicI32,
}

#[derive(Debug, Default)]
struct Owner {
    /// Tasks that were runnable and got polled (or dropped), ever.
    answered: AtomicU64,
    /// Whether a poll is under way.
    polling: AtomicBool,
}

/// Keeps what different threads write on different cache lines; 128 because of adjacent-line prefetch.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line<T>(T);

impl Meter {
    /// The meter of executor number `core`.
    pub fn new(core: usize) -> Arc<Self> {
        Arc::new(Self {
            core,
            woken: Line::default(),
            owner: Line::default(),
            thread: AtomicI32::new(0),
        })
    }

    /// Counts a task that became runnable. From any thread.
    #[inline]
    pub fn count_woken(&self) {
        self.woken.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a task that was runnable and is not any more. From the executor's thread.
    #[inline]
    pub fn count_answered(&self) {
        let answered = &self.owner.0.answered;
        answered.store(answered.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Says whether a poll is under way. From the executor's thread.
    #[inline]
    pub fn set_polling(&self, polling: bool) {
        self.owner.0.polling.store(polling, Ordering::Relaxed);
    }

    /// The calling thread runs this executor from now on.
    ///
    /// # Errors
    ///
    /// None that Linux documents.
    pub fn attach(&self) -> io::Result<()> {
        sys::accept_interrupts()?;
        let thread = rustix::thread::gettid().as_raw_nonzero().get();
        self.thread.store(thread, Ordering::Relaxed);
        Ok(())
    }

    /// The executor has ended: what it leaves undone is nobody's work.
    pub fn detach(&self) {
        self.thread.store(0, Ordering::Relaxed);
    }

    fn read(&self) -> Reading {
        // In this order: what is answered after the first load makes too much work visible, never too
        // little, and then `answered` moves before the next sample.
        let answered = self.owner.0.answered.load(Ordering::Relaxed);
        let polling = self.owner.0.polling.load(Ordering::Relaxed);
        Reading { answered, polling, woken: self.woken.0.load(Ordering::Relaxed) }
    }

    fn thread(&self) -> i32 {
        self.thread.load(Ordering::Relaxed)
    }
}

/// Whether a thread of this process sleeps, as the kernel sees it. If the kernel does not say, it does.
fn is_asleep(thread: i32) -> bool {
    let Ok(stat) = std::fs::read(format!("/proc/self/task/{thread}/stat")) else { return true };
    // "pid (name) state ...", and the name may contain anything.
    let Some(end) = stat.iter().rposition(|&byte| byte == b')') else { return true };
    stat.get(end + 2).is_none_or(|&state| state == b'S')
}

/// How often executors stood still, for metrics. Totals only grow; times are in nanoseconds and measured
/// from the first sample that saw the stall (5 ms apart, 50 ms in an idle process).
#[derive(Debug, Default)]
pub struct Counters {
    /// Executors found asleep with work to do, and woken: glommio's lost wake-up.
    pub stalls: AtomicU64,
    /// The longest of these.
    pub stall_longest_ns: AtomicU64,
    /// Executors with work to do that got no CPU for 5 ms: too many neighbours, or a CPU quota.
    pub delays: AtomicU64,
    /// The longest of these.
    pub delay_longest_ns: AtomicU64,
    /// Polls that took 5 ms or more: work that should be cut in slices, a blocking call, or a thread that
    /// lost its CPU in the middle.
    pub long_polls: AtomicU64,
    /// The longest of these.
    pub long_poll_longest_ns: AtomicU64,
    /// Signals sent to end stalls.
    pub nudges: AtomicU64,
}

/// What the pulse does about a stall that does not end.
pub struct Config {
    /// How long an executor may sleep although woken; an election timeout is a good choice, since after it
    /// the others elect without this member anyway. Counted in samples of 5 ms.
    pub limit: Duration,
    /// Called before the process ends: the place for a last log line.
    pub last_words: Box<dyn Fn(&Stalled) + Send>,
}

impl Default for Config {
    /// etcd's default election timeout, and no last words.
    fn default() -> Self {
        Self { limit: Duration::from_secs(1), last_words: Box::new(|_| {}) }
    }
}

/// An executor that slept for the whole limit although it had work and was woken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stalled {
    /// Which executor.
    pub core: usize,
    /// Runnable tasks that nobody polls.
    pub waiting: u64,
    /// Samples, about 5 ms apart, in which it slept.
    pub samples: u32,
}

/// The exit code after a stall that did not end (`EX_TEMPFAIL`: starting again may help).
pub const EXIT_STALLED: i32 = 75;

/// The watching thread. Dropping it stops the thread.
#[derive(Debug)]
pub struct Pulse {
    running: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pulse {
    /// Starts to watch these executors.
    ///
    /// # Errors
    ///
    /// The thread could not be started.
    pub fn start(
        meters: Vec<Arc<Meter>>,
        config: Config,
        counters: Arc<Counters>,
    ) -> io::Result<Self> {
        let running = Arc::new(AtomicBool::new(true));
        let limit = config.limit.as_nanos().div_ceil(STALL.as_nanos());
        let mut watched: Vec<_> = meters.into_iter().map(Watched::new).collect();
        let watch = {
            let running = Arc::clone(&running);
            move || {
                let mut load = Load::default();
                while running.load(Ordering::Relaxed) {
                    let now_ns = monotonic_ns();
                    let (mut is_clear, mut turns) = (true, 0);
                    for executor in &mut watched {
                        is_clear &= executor.sample(now_ns, &counters) == State::Clear;
                        turns += executor.answered;
                        if u128::from(executor.asleep) > limit {
                            (config.last_words)(&executor.stalled());
                            std::process::exit(EXIT_STALLED);
                        }
                    }
                    let is_idle = !load.is_busy(now_ns, turns) && is_clear;
                    thread::park_timeout(if is_idle { IDLE_SAMPLE } else { STALL });
                }
            }
        };
        let thread = thread::Builder::new().name("cairn-pulse".into()).spawn(watch)?;
        Ok(Self { running, thread: Some(thread) })
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.running.store(false, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            thread.join().expect("the pulse does not panic");
        }
    }
}

/// Work without a turn for this long is a stall, and the distance of samples. Long against a poll (50 us)
/// and a preemption period (1 ms), short against a heartbeat (100 ms).
const STALL: Duration = Duration::from_millis(5);
/// The distance of samples while all is well and little happens. Heartbeats do not notice 50 ms; each sample
/// costs up to 50 us where it wakes an idle virtual machine, so 0.1 % of a core.
const IDLE_SAMPLE: Duration = Duration::from_millis(50);
/// A process with fewer turns in a second is idle: heartbeats and timers, but no clients.
const BUSY_TURNS: u64 = 200;
/// Over how long turns are counted to tell.
const BUSY_WINDOW: Duration = Duration::from_secs(1);

/// How busy the executors are together.
#[derive(Default)]
struct Load {
    window_began_ns: u64,
    /// Turns, ever, when the window began.
    turns_before: u64,
    was_busy: bool,
}

impl Load {
    /// Whether there were many turns in this window or the one before it.
    fn is_busy(&mut self, now_ns: u64, turns: u64) -> bool {
        let busy = turns - self.turns_before >= BUSY_TURNS;
        let answer = busy || self.was_busy;
        if now_ns - self.window_began_ns >= saturating_ns(BUSY_WINDOW) {
            *self = Self { window_began_ns: now_ns, turns_before: turns, was_busy: busy };
        }
        answer
    }
}

/// One executor as the pulse sees it.
struct Watched {
    meter: Arc<Meter>,
    state: State,
    answered: u64,
    /// Consecutive samples in which it was stuck and asleep.
    asleep: u32,
    /// What the current episode has been counted as.
    counted_stall: bool,
    counted_delay: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reading {
    woken: u64,
    answered: u64,
    polling: bool,
}

/// See the drawing at the top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It turns, or has nothing to do.
    Clear,
    /// Work and no turn since a sample at `since_ns`.
    Suspect { kind: Kind, since_ns: u64 },
    /// The same for [`STALL`] and more.
    Stuck { kind: Kind, since_ns: u64 },
}

/// Where an executor stands that does not turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Inside a poll.
    Polling,
    /// Between two polls.
    Between,
}

impl State {
    /// The state after a sample; `turned` since the last one or not.
    fn next(self, reading: Reading, turned: bool, now_ns: u64) -> Self {
        let kind = if reading.polling { Kind::Polling } else { Kind::Between };
        // Not `woken != answered`: a wake is counted a moment after the flag that a poll may answer.
        let idle = !reading.polling && reading.woken <= reading.answered;
        match self {
            _ if idle => Self::Clear,
            Self::Suspect { kind: was, since_ns } | Self::Stuck { kind: was, since_ns }
                if !turned && was == kind =>
            {
                if now_ns - since_ns < saturating_ns(STALL) {
                    Self::Suspect { kind, since_ns }
                } else {
                    Self::Stuck { kind, since_ns }
                }
            }
            Self::Clear | Self::Suspect { .. } | Self::Stuck { .. } => {
                Self::Suspect { kind, since_ns: now_ns }
            }
        }
    }
}

impl Watched {
    fn new(meter: Arc<Meter>) -> Self {
        let state = State::Clear;
        Self { meter, state, answered: 0, asleep: 0, counted_stall: false, counted_delay: false }
    }

    /// Takes a sample and acts on it.
    fn sample(&mut self, now_ns: u64, counters: &Counters) -> State {
        let thread = self.meter.thread();
        if thread == 0 {
            self.state = State::Clear;
            return self.state;
        }
        let reading = self.meter.read();
        let turned = reading.answered != self.answered;
        self.answered = reading.answered;
        let before = self.state;
        self.state = before.next(reading, turned, now_ns);
        match self.state {
            State::Stuck { kind: Kind::Between, since_ns } if is_asleep(thread) => {
                sys::interrupt(thread);
                counters.nudges.fetch_add(1, Ordering::Relaxed);
                counters.stalls.fetch_add(u64::from(!self.counted_stall), Ordering::Relaxed);
                counters.stall_longest_ns.fetch_max(now_ns - since_ns, Ordering::Relaxed);
                self.counted_stall = true;
                self.asleep += 1;
            }
            State::Stuck { kind: Kind::Between, since_ns } => {
                counters.delays.fetch_add(u64::from(!self.counted_delay), Ordering::Relaxed);
                counters.delay_longest_ns.fetch_max(now_ns - since_ns, Ordering::Relaxed);
                self.counted_delay = true;
                self.asleep = 0;
            }
            State::Stuck { kind: Kind::Polling, since_ns } => {
                let is_new = !matches!(before, State::Stuck { .. });
                counters.long_polls.fetch_add(u64::from(is_new), Ordering::Relaxed);
                counters.long_poll_longest_ns.fetch_max(now_ns - since_ns, Ordering::Relaxed);
            }
            State::Clear | State::Suspect { .. } => {
                self.asleep = 0;
                self.counted_stall = false;
                self.counted_delay = false;
            }
        }
        self.state
    }

    fn stalled(&self) -> Stalled {
        let reading = self.meter.read();
        let waiting = reading.woken.saturating_sub(reading.answered);
        Stalled { core: self.meter.core, waiting, samples: self.asleep }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "executor {} slept through {} signals, 5 ms apart, with {} runnable tasks: \
             ending the process (exit code {EXIT_STALLED})",
            self.core, self.samples, self.waiting
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn reading(woken: u64, answered: u64, polling: bool) -> Reading {
        Reading { woken, answered, polling }
    }

    /// One row per way through the machine: (reading, turned, at ms) → state.
    #[test]
    fn every_transition() {
        let idle = reading(4, 4, false);
        let waiting = reading(5, 4, false);
        let polling = reading(5, 4, true);
        let suspect = |kind, ms| State::Suspect { kind, since_ns: ms * MS };
        let stuck = |kind, ms| State::Stuck { kind, since_ns: ms * MS };
        let (between, inside) = (Kind::Between, Kind::Polling);
        let rows = [
            (State::Clear, idle, false, 10, State::Clear),
            (State::Clear, idle, true, 10, State::Clear),
            (State::Clear, waiting, true, 10, suspect(between, 10)),
            (State::Clear, waiting, false, 10, suspect(between, 10)),
            (State::Clear, polling, false, 10, suspect(inside, 10)),
            (suspect(between, 10), waiting, false, 14, suspect(between, 10)),
            (suspect(between, 10), waiting, false, 15, stuck(between, 10)),
            (suspect(between, 10), waiting, true, 15, suspect(between, 15)),
            (suspect(between, 10), polling, false, 15, suspect(inside, 15)),
            (suspect(inside, 10), polling, false, 15, stuck(inside, 10)),
            (suspect(inside, 10), waiting, false, 15, suspect(between, 15)),
            (suspect(between, 10), idle, false, 15, State::Clear),
            (stuck(between, 10), waiting, false, 60, stuck(between, 10)),
            (stuck(between, 10), waiting, true, 60, suspect(between, 60)),
            (stuck(between, 10), idle, true, 60, State::Clear),
            (stuck(inside, 10), waiting, false, 60, suspect(between, 60)),
            // A poll that answered a wake before the waker counted it.
            (State::Clear, reading(4, 5, false), true, 10, State::Clear),
        ];
        for (row, (from, reading, turned, ms, to)) in rows.into_iter().enumerate() {
            assert_eq!(from.next(reading, turned, ms * MS), to, "row {row}");
        }
    }

    #[test]
    fn a_stall_is_counted_once_and_nudged_at_every_sample() {
        let meter = Meter::new(3);
        let (go_on, wait) = std::sync::mpsc::channel::<()>();
        let sleeper = {
            let meter = Arc::clone(&meter);
            thread::spawn(move || {
                meter.attach().unwrap();
                wait.recv().unwrap();
            })
        };
        while meter.thread() == 0 || !is_asleep(meter.thread()) {
            thread::yield_now();
        }
        meter.count_woken();
        let mut watched = Watched::new(Arc::clone(&meter));
        let counters = Counters::default();
        let mut now_ns = 0;
        let mut sample = |watched: &mut Watched| {
            now_ns += 5 * MS;
            watched.sample(now_ns, &counters)
        };
        while watched.asleep < 4 {
            assert_ne!(sample(&mut watched), State::Clear);
        }
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        assert_eq!(count(&counters.stalls), 1);
        // More than 4 if a signal happened to be handled while the sample was taken.
        assert!(count(&counters.nudges) >= 4);
        assert!(count(&counters.stall_longest_ns) >= 20 * MS);
        let stalled = watched.stalled();
        assert_eq!((stalled.core, stalled.waiting, stalled.samples), (3, 1, 4));
        meter.count_answered();
        assert_eq!(sample(&mut watched), State::Clear);
        assert_eq!(watched.asleep, 0);
        // What a finished executor has left undone is no stall.
        meter.count_woken();
        meter.detach();
        assert_eq!(sample(&mut watched), State::Clear);
        go_on.send(()).unwrap();
        sleeper.join().unwrap();
    }

    #[test]
    fn load_is_seen_at_once_and_forgotten_after_a_second() {
        let mut load = Load::default();
        assert!(!load.is_busy(0, 0));
        assert!(!load.is_busy(5 * MS, 199));
        assert!(load.is_busy(10 * MS, 200));
        assert!(load.is_busy(1000 * MS, 200));
        assert!(load.is_busy(1500 * MS, 210));
        assert!(load.is_busy(2000 * MS, 210));
        assert!(!load.is_busy(2050 * MS, 210));
    }

    #[test]
    fn a_thread_that_runs_is_not_asleep() {
        let meter = Meter::new(0);
        meter.attach().unwrap();
        assert!(!is_asleep(meter.thread()));
    }
}
