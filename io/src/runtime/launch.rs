//! Executors on threads.
//!
//! [`run`] builds all executors before any of them starts its entry, so a machine that can hold only half
//! of them (locked memory, descriptors) is a clean error and not a half-started server. The calling
//! thread waits; the threads are called `cairn-0`, `cairn-1`, ...
//!
//! Threads are bound to cores only where there are more than two of both: on two cores one executor is
//! faster than two, and bound to one core it would only lose the choice.

use core::fmt;
use core::future::Future;
use core::num::NonZeroUsize;
use core::panic::AssertUnwindSafe;
use std::io;
use std::panic::catch_unwind;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::task::Local;
use super::{Glommio, Runtime, Tokio};
use crate::probe::Kind;
use crate::pulse::{self, Counters, Meter, Pulse};

/// A runtime that threads can be given to. (A simulated one brings its own loop and has none.)
pub trait Executor: Runtime {
    /// An executor that has not run yet; stays on the thread that built it.
    type Built;

    /// Builds an executor for this thread.
    ///
    /// # Errors
    ///
    /// The kernel refuses what it needs.
    fn build() -> io::Result<Self::Built>;

    /// Runs the executor until `entry` ends, then ends all tasks it has spawned.
    fn run<T: 'static>(
        built: Self::Built,
        local: Rc<Local>,
        entry: impl Future<Output = T> + 'static,
    ) -> T;
}

/// How to run executors.
#[derive(Debug)]
pub struct Plan {
    /// The pulse. Without one nothing heals glommio's lost wake-ups, which happen in any busy test suite;
    /// leave it out only to show that.
    pub pulse: Option<pulse::Config>,
    /// Where stalls are counted; keep a clone for the metrics.
    pub counters: Arc<Counters>,
}

impl Default for Plan {
    /// With a pulse.
    fn default() -> Self {
        Self { pulse: Some(pulse::Config::default()), counters: Arc::default() }
    }
}

/// A program that runs on an executor of either runtime; what [`launch`] starts. (A closure cannot be
/// generic over the runtime.)
pub trait Program: Clone + Send + 'static {
    /// What one executor is given for its own: its listeners, its mailbox.
    type Seat: Send + 'static;
    /// What it returns in the end.
    type Output: Send + 'static;

    /// The entry of executor number `core`, counted from 0. When it ends, all tasks of that executor end.
    fn run<R: Runtime>(
        self,
        core: usize,
        seat: Self::Seat,
    ) -> impl Future<Output = Self::Output> + 'static;
}

/// Why executors did not run to their end.
#[derive(Debug)]
pub enum LaunchError {
    /// An executor, or the pulse, could not be built; nothing has run.
    Start(io::Error),
    /// An executor panicked (in builds where a panic does not end the process).
    Panicked {
        /// Which one.
        core: usize,
    },
}

/// How many executors to run where the operator does not say: one per core, but one on two cores, where
/// splitting measured 1.4 to 2.6 times the CPU per request.
pub fn cores() -> NonZeroUsize {
    let available = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    if available.get() <= 2 { NonZeroUsize::MIN } else { available }
}

/// Runs a program on executors of this kind, one for each seat, until all have ended; returns what each
/// returned. [`cores`] says how many make sense.
///
/// # Errors
///
/// See [`LaunchError`].
pub fn launch<P: Program>(
    kind: Kind,
    plan: Plan,
    program: P,
    seats: Vec<P::Seat>,
) -> Result<Vec<P::Output>, LaunchError> {
    match kind {
        Kind::Glommio => run::<Glommio, _, _, _>(plan, seats, move |core, seat| {
            program.clone().run::<Glommio>(core, seat)
        }),
        Kind::Tokio => run::<Tokio, _, _, _>(plan, seats, move |core, seat| {
            program.clone().run::<Tokio>(core, seat)
        }),
    }
}

/// Runs `entry` on one executor for each seat until all have ended; returns what each returned.
///
/// # Errors
///
/// See [`LaunchError`]. After a panic the other executors go on, and the process is expected to end.
pub fn run<R: Executor, S, F, E>(
    plan: Plan,
    seats: Vec<S>,
    entry: E,
) -> Result<Vec<F::Output>, LaunchError>
where
    S: Send + 'static,
    F: Future<Output: Send> + 'static,
    E: Fn(usize, S) -> F + Clone + Send + 'static,
{
    let executors = seats.len();
    let pinning = pinning(executors);
    let meters: Vec<_> = (0..executors).map(Meter::new).collect();
    let (built, all_built) = channel();
    let (ended, all_ended) = channel();
    let mut gates = Vec::new();
    for (core, (meter, seat)) in meters.iter().zip(seats).enumerate() {
        let (gate, opened) = channel();
        gates.push(gate);
        let (entry, meter) = (entry.clone(), Arc::clone(meter));
        let (built, ended) = (built.clone(), ended.clone());
        let cpu = pinning.get(core).copied();
        let body = move || {
            let Some(executor) = build::<R>(&meter, cpu, &built, &opened) else { return };
            let local = Local::enter(Arc::clone(&meter));
            // The closure is not used after a panic, and nothing it touched is either.
            let run = AssertUnwindSafe(|| {
                R::run(executor, local, async move { entry(core, seat).await })
            });
            let outcome = catch_unwind(run);
            Local::leave();
            meter.detach();
            // Nobody listens any more if another executor panicked.
            drop(ended.send((core, outcome)));
        };
        let thread = thread::Builder::new().name(format!("cairn-{core}"));
        thread.spawn(body).map_err(LaunchError::Start)?;
    }
    for _ in 0..executors {
        // On an error, dropping the gates ends those that wait before them.
        all_built.recv().expect("every thread answers once").map_err(LaunchError::Start)?;
    }
    let pulse = plan.pulse.map(|config| Pulse::start(meters, config, plan.counters));
    let _pulse = pulse.transpose().map_err(LaunchError::Start)?;
    for gate in gates {
        gate.send(()).expect("the thread waits at the gate");
    }
    let mut outputs: Vec<Option<F::Output>> = (0..executors).map(|_| None).collect();
    for _ in 0..executors {
        match all_ended.recv().expect("every executor ends once") {
            (core, Ok(output)) => outputs[core] = Some(output),
            (core, Err(_panic)) => return Err(LaunchError::Panicked { core }),
        }
    }
    Ok(outputs.into_iter().flatten().collect())
}

/// Builds this thread's executor, says so, and waits until all are built. `None`: not all are.
fn build<R: Executor>(
    meter: &Meter,
    cpu: Option<usize>,
    built: &Sender<io::Result<()>>,
    opened: &Receiver<()>,
) -> Option<R::Built> {
    let ready = meter.attach().and_then(|()| cpu.map_or(Ok(()), pin));
    let executor = ready.and_then(|()| R::build());
    let (executor, outcome) = match executor {
        Ok(executor) => (Some(executor), Ok(())),
        Err(error) => (None, Err(error)),
    };
    built.send(outcome).ok()?;
    opened.recv().ok()?;
    executor
}

/// The processor for each of so many executors; empty if they are not to be bound.
fn pinning(executors: usize) -> Vec<usize> {
    let allowed = sched_getaffinity(None);
    let allowed = allowed.map_or_else(
        |_| Vec::new(),
        |set| (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect(),
    );
    choose(allowed, executors)
}

fn choose(mut allowed: Vec<usize>, executors: usize) -> Vec<usize> {
    if executors <= 2 || allowed.len() < executors {
        return Vec::new();
    }
    allowed.truncate(executors);
    allowed
}

fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => write!(f, "cannot start an executor: {error}"),
            Self::Panicked { core } => write!(f, "executor {core} panicked"),
        }
    }
}

impl core::error::Error for LaunchError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executors_are_bound_only_where_there_are_many_of_both() {
        assert_eq!(choose(vec![0, 1, 2, 3], 2), Vec::new());
        assert_eq!(choose(vec![0, 1], 3), Vec::new());
        assert_eq!(choose(vec![4, 5, 6, 7], 3), vec![4, 5, 6]);
    }
}
