//! The wrapper around every task: it counts for the pulse and ends with the executor.
//!
//! A task is polled with a waker of our own that counts and then passes the wake on. It never withholds
//! one, so an error in here can make the pulse miscount, but cannot hang a task.
//!
//! More comes with it:
//! - glommio counts the clones of its waker in 16 bits and panics beyond 32 767. Ours are counted in 64, and
//!   hold one of glommio's.
//! - glommio forgets tasks that are still waiting when their executor ends: their sockets stay open.
//!   [`Local::close`] ends all tasks first, as tokio does.
//! - A panic in a task ends its executor on both runtimes, where a panic does not end the process anyway
//!   (it does in release builds): tokio would let the task die in silence.
//!
//! Invariants:
//! - (I1) `woken` of a task is set from the moment it becomes runnable until the poll that answers it
//!   begins, and for ever after its end.
//! - (I2) The runtime's waker is the same for the whole life of a spawned task. Both runtimes make it from
//!   the task's address.

use core::any::Any;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::Future;
use core::panic::AssertUnwindSafe;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};
use std::panic::{catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::task::Wake;

use pin_project_lite::pin_project;
use slab::Slab;

use crate::pulse::Meter;

/// What the tasks of one executor share. Lives on its thread.
pub struct Local {
    meter: Arc<Meter>,
    /// The wakers of all tasks that have not ended, so that closing can reach them.
    tasks: RefCell<Slab<Arc<Count>>>,
    /// Whether tasks end at their next poll.
    closing: Cell<bool>,
    /// The waker of the executor's entry, which a panic wakes.
    entry: Cell<Option<Waker>>,
    /// What a task panicked with, until the entry goes on panicking.
    panic: Cell<Option<Box<dyn Any + Send>>>,
}

pin_project! {
    /// A task under count.
    pub(crate) struct Tracked<F> {
        #[pin]
        future: F,
        seat: Seat,
    }
}

/// A task's place in its executor. Dropped with the task.
struct Seat {
    local: Rc<Local>,
    count: Arc<Count>,
    /// `count` as a waker.
    waker: Waker,
    /// Where `Local::tasks` has it; the executor's entry is in no list, it ends by itself.
    key: Option<usize>,
}

/// The part of a task that other threads reach.
struct Count {
    woken: AtomicBool,
    meter: Arc<Meter>,
    /// The runtime's waker, known from the first poll on. Before it the task is queued anyway.
    runtime: OnceLock<Waker>,
}

thread_local! {
    /// The executor that runs on this thread.
    static LOCAL: RefCell<Option<Rc<Local>>> = const { RefCell::new(None) };
}

impl Local {
    /// Starts counting on this thread.
    pub(crate) fn enter(meter: Arc<Meter>) -> Rc<Self> {
        let tasks = RefCell::default();
        let closing = Cell::new(false);
        let (entry, panic) = (Cell::default(), Cell::default());
        let local = Rc::new(Self { meter, tasks, closing, entry, panic });
        LOCAL.set(Some(Rc::clone(&local)));
        local
    }

    /// Stops counting on this thread.
    pub(crate) fn leave() {
        LOCAL.set(None);
    }

    /// The executor of this thread, unless somebody runs our runtime's code outside of one of ours.
    pub(crate) fn current() -> Option<Rc<Self>> {
        LOCAL.with_borrow(Option::clone)
    }

    /// Wraps a task, as runnable.
    pub(crate) fn track<F>(self: Rc<Self>, future: F) -> Tracked<F> {
        let count = Count::new(&self.meter);
        let key = Some(self.tasks.borrow_mut().insert(Arc::clone(&count)));
        Tracked { future, seat: Seat::new(self, count, key) }
    }

    /// Wraps the executor's entry, which closing does not end.
    pub(crate) fn track_entry<F>(self: Rc<Self>, future: F) -> Tracked<F> {
        let count = Count::new(&self.meter);
        self.entry.set(Some(Waker::from(Arc::clone(&count))));
        Tracked { future, seat: Seat::new(self, count, None) }
    }

    /// Ends all tasks of this executor, also those that ending tasks spawn.
    pub(crate) async fn close(&self) {
        self.closing.set(true);
        for _ in 0..CLOSING_ROUNDS {
            let left: Vec<_> =
                self.tasks.borrow().iter().map(|(_, task)| Arc::clone(task)).collect();
            if left.is_empty() {
                return;
            }
            left.iter().for_each(Count::woke);
            yield_now().await;
        }
    }
}

/// One round ends all that is there; more are needed only if tasks spawn tasks while they are dropped.
const CLOSING_ROUNDS: u32 = 100;

impl<F: Future> Future for Tracked<F> {
    type Output = Option<F::Output>;

    /// `None` if the executor is closing.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let this = self.project();
        let Seat { local, count, waker, key } = this.seat;
        count.runtime.get_or_init(|| context.waker().clone());
        if count.woken.swap(false, Ordering::AcqRel) {
            local.meter.count_answered();
        }
        let is_entry = key.is_none();
        if is_entry && let Some(panic) = local.panic.take() {
            resume_unwind(panic);
        }
        if !is_entry && local.closing.get() {
            return Poll::Ready(None);
        }
        local.meter.set_polling(true);
        let future = this.future;
        // The future is not polled again after a panic.
        let poll = AssertUnwindSafe(|| future.poll(&mut Context::from_waker(waker)));
        let polled = catch_unwind(poll);
        local.meter.set_polling(false);
        match polled {
            Ok(polled) => polled.map(Some),
            Err(panic) if is_entry => resume_unwind(panic),
            Err(panic) => {
                local.panic.set(Some(panic));
                if let Some(entry) = local.entry.take() {
                    entry.wake();
                }
                Poll::Ready(None)
            }
        }
    }
}

impl Seat {
    fn new(local: Rc<Local>, count: Arc<Count>, key: Option<usize>) -> Self {
        let waker = Waker::from(Arc::clone(&count));
        Self { local, count, waker, key }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // Stays set, so that wakers which outlive the task count nothing (I1).
        if self.count.woken.swap(true, Ordering::AcqRel) {
            self.local.meter.count_answered();
        }
        if let Some(key) = self.key {
            self.local.tasks.borrow_mut().remove(key);
        }
    }
}

impl Count {
    /// A task's counter, in the state of a task that was just queued.
    fn new(meter: &Arc<Meter>) -> Arc<Self> {
        meter.count_woken();
        let meter = Arc::clone(meter);
        Arc::new(Self { woken: AtomicBool::new(true), meter, runtime: OnceLock::new() })
    }

    #[inline]
    fn woke(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.meter.count_woken();
        }
        if let Some(runtime) = self.runtime.get() {
            runtime.wake_by_ref();
        }
    }
}

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.woke();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woke();
    }
}

/// Lets every other runnable task run once.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    core::future::poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("tasks", &self.tasks.borrow().len()).finish_non_exhaustive()
    }
}
