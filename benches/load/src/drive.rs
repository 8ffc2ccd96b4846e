//! Running a plan: threads that make load, and one that looks at the clock, at the server, and tells how far it is.

use core::sync::atomic::Ordering;
use core::time::Duration;
use std::thread;

use crate::clock::{MILLISECOND, SECOND};
use crate::h2::connection::Event;
use crate::link::Link;
use crate::method::{Method, code_name};
use crate::pace::Extent;
use crate::poll::Poll;
use crate::process::{self, Memory};
use crate::progress::Progress;
use crate::record::Record;
use crate::work::{Share, Work};
use crate::worker::{Plan, Server, Shared, Worker, share_of};

/// What came of a plan.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) kinds: &'static [&'static str],
    pub(crate) record: Record,
    /// From when it counted to when the last operation was done, or to the end of the time.
    pub(crate) elapsed: u64,
    /// Microseconds of CPU time in that time, of the server and of this process.
    pub(crate) server_cpu_us: Option<u64>,
    pub(crate) own_cpu_us: Option<u64>,
    /// The server's memory before the first connection, when all was ready, at its most, and at the end.
    pub(crate) memory: [Memory; 4],
}

/// Runs a plan on as many threads as it says.
///
/// # Errors
/// A sentence, if a thread could not begin.
pub(crate) fn run(
    plan: &Plan,
    processes: &[u32],
    progress: &Progress,
    make: &(dyn Fn(Share) -> Box<dyn Work> + Sync),
) -> Result<Outcome, String> {
    let shared = Shared::default();
    let before = process::memory(processes);
    let kinds = make(share_of(plan, 0)).kinds();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.threads)
            .map(|number| {
                let (shared, share) = (&shared, share_of(plan, number));
                scope.spawn(move || {
                    let worker = Worker::prepare(plan, shared, share, make(share));
                    if worker.is_err() {
                        shared.stop.store(true, Ordering::SeqCst);
                    }
                    Ok::<_, String>(worker?.run())
                })
            })
            .collect();
        let is_stopped = || shared.stop.load(Ordering::SeqCst);
        while shared.ready.load(Ordering::SeqCst) < plan.threads && !is_stopped() {
            thread::sleep(Duration::from_millis(1));
        }
        let ready = process::memory(processes);
        let start = plan.clock.now() + MILLISECOND;
        shared.go.store(start, Ordering::SeqCst);
        let from = start + plan.warm_up;
        let me = [std::process::id()];
        let cpu = || (process::cpu_us(processes), process::cpu_us(&me));
        let (mut most, mut first) = (ready, None);
        while !threads.iter().all(thread::ScopedJoinHandle::is_finished) {
            let now = plan.clock.now();
            if first.is_none() && now >= from {
                first = Some(cpu());
            }
            let memory = process::memory(processes);
            most.resident = most.resident.max(memory.resident);
            most.anonymous = most.anonymous.max(memory.anonymous);
            let done = shared.done.load(Ordering::Relaxed);
            progress.show(done, shared.failed.load(Ordering::Relaxed), now.saturating_sub(start));
            let next = if first.is_none() { from.saturating_sub(now) } else { LOOK_AGAIN };
            thread::sleep(Duration::from_nanos(next.clamp(MILLISECOND, LOOK_AGAIN)));
        }
        let last = cpu();
        let first = first.unwrap_or(last);
        let used = |last: Option<u64>, first| Some(last?.saturating_sub(first?));
        let mut records = Vec::new();
        for thread in threads {
            records.push(thread.join().map_err(|_| "a thread of the load panicked")??);
        }
        let mut records = records.into_iter();
        let mut record = records.next().ok_or("a load needs a thread")?;
        records.for_each(|other| record.add(&other));
        let elapsed = match plan.extent {
            Extent::Time(time) => time.max(1),
            Extent::Total(_) => record.last.saturating_sub(record.from).max(1),
        };
        let memory = [before, ready, most, process::memory(processes)];
        let server_cpu_us = used(last.0, first.0).filter(|_| !processes.is_empty());
        let own_cpu_us = used(last.1, first.1);
        Ok(Outcome { kinds, record, elapsed, server_cpu_us, own_cpu_us, memory })
    })
}

/// Asks one thing, and waits for the answer.
///
/// # Errors
/// What the server said, or why it could not be asked.
pub(crate) fn call(
    plan: &Plan,
    server: &Server,
    method: Method,
    message: &[u8],
) -> Result<Vec<u8>, String> {
    let failed = |error: &dyn core::fmt::Display| format!("{}: {error}", server.target.authority);
    let mut link = Link::dial(&server.target).map_err(|error| failed(&error))?;
    let mut poll = Poll::new().map_err(|error| failed(&error))?;
    poll.add(&link, 0).map_err(|error| failed(&error))?;
    let head = &server.heads[method.number()];
    let stream = link.h2.open(method.number(), head, 0).ok_or("a new connection has room")?;
    link.h2.send(stream, message, true);
    let until = plan.clock.now() + CALL_LIMIT;
    let (mut answer, mut status) = (None, None);
    let mut scratch = vec![0; 64 << 10];
    while plan.clock.now() < until {
        link.flush().map_err(|error| failed(&error))?;
        poll.change(&link, 0, !link.is_drained).map_err(|error| failed(&error))?;
        let now = plan.clock.now();
        poll.wait(now, now + SECOND / 10);
        while poll.next().is_some() {}
        link.receive(&mut scratch, &mut |event| match event {
            Event::Message { message, .. } => answer = Some(message.to_vec()),
            Event::End { status: ended, .. } => status = Some(ended),
        })
        .map_err(|error| failed(&error))?;
        match &status {
            Some(status) if status.code == 0 => {
                return answer.ok_or_else(|| failed(&"an answer without a message"));
            }
            Some(status) => {
                return Err(failed(&format!("{}: {}", code_name(status.code), status.text)));
            }
            None => {}
        }
    }
    Err(failed(&"there is no answer in time"))
}

/// How often the server is looked at.
const LOOK_AGAIN: u64 = 100 * MILLISECOND;
/// How long a single call may take: a delete of a million keys takes seconds.
const CALL_LIMIT: u64 = 60 * SECOND;
