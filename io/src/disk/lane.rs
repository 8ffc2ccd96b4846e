//! A thread that does blocking work in order, for executors that must not block.
//!
//! The answer comes through a oneshot channel, which wakes a parked executor of either runtime. The queue
//! has no bound of its own: every job has a caller that waits, and callers wait for few.

use std::io;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use tokio::sync::oneshot;

/// The entrance to the thread. It ends when all clones are gone and its queue is done.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    jobs: Sender<Job>,
}

type Job = Box<dyn FnOnce() + Send>;

impl Lane {
    /// Starts the thread.
    pub(super) fn start(name: &str) -> io::Result<Self> {
        let (jobs, queue) = channel::<Job>();
        let work = move || queue.into_iter().for_each(|job| job());
        thread::Builder::new().name(name.into()).spawn(work)?;
        Ok(Self { jobs })
    }

    /// Does `job` on the thread. It is done even if the future is dropped.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let (answer, answered) = oneshot::channel();
        let job = move || drop(answer.send(job()));
        self.jobs.send(Box::new(job)).expect("the thread ends after its senders");
        let answered = tokio::task::coop::unconstrained(answered).await;
        answered.expect("jobs do not panic, they return errors")
    }
}
