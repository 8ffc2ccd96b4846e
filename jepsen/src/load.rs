//! A steady load: puts at a fixed rate, whatever became of those before, so that an outage is as long as it is and not
//! as long as it takes one client to notice it.

use core::cell::{Cell, RefCell};
use core::time::Duration;
use std::rc::Rc;

use bytes::Bytes;
use cairn_engine::api::etcdserverpb::PutRequest;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::Trouble;
use crate::world::cluster::Cluster;
use crate::world::connection::Connection;

/// Puts, one after the other to each member that is to be asked.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Rc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    begin: Instant,
    connections: Vec<Connection>,
    value: Bytes,
    /// Whom to ask.
    slots: RefCell<Vec<usize>>,
    under_way: Cell<usize>,
    acknowledged: RefCell<Vec<Acknowledged>>,
}

/// A put that was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    /// When it was sent, since the load began.
    pub(crate) begin: Duration,
    /// When the answer had come.
    pub(crate) end: Duration,
}

impl Load {
    /// Starts to put values of this size, so many each second.
    pub(crate) fn start(
        cluster: &Cluster,
        slots: Vec<usize>,
        rate: u32,
        value_bytes: usize,
    ) -> Result<Self, Trouble> {
        let connections = (0..cluster.slots()).map(|slot| Connection::new(&cluster.url(slot)));
        let shared = Rc::new(Shared {
            begin: Instant::now(),
            connections: connections.collect::<Result<_, _>>()?,
            value: vec![b'v'; value_bytes].into(),
            slots: RefCell::new(slots),
            under_way: Cell::new(0),
            acknowledged: RefCell::new(Vec::new()),
        });
        let period = Duration::from_secs(1) / rate.max(1);
        let task = spawn_local(run(Rc::clone(&shared), period));
        Ok(Self { shared, task })
    }

    /// The time since the beginning.
    pub(crate) fn now(&self) -> Duration {
        self.shared.begin.elapsed()
    }

    /// Changes who is asked.
    pub(crate) fn ask(&self, slots: Vec<usize>) {
        *self.shared.slots.borrow_mut() = slots;
    }

    /// Forgets what was acknowledged up to now.
    pub(crate) fn forget(&self) {
        self.shared.acknowledged.borrow_mut().clear();
    }

    /// The first acknowledgement of a put that was begun at `moment` or later.
    pub(crate) fn first_since(&self, moment: Duration) -> Option<Duration> {
        let acknowledged = self.shared.acknowledged.borrow();
        let since = acknowledged.iter().filter(|put| moment <= put.begin);
        since.map(|put| put.end).min()
    }

    /// What was acknowledged since [`Self::forget`].
    pub(crate) fn acknowledged(&self) -> Vec<Acknowledged> {
        self.shared.acknowledged.borrow().clone()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(shared: Rc<Shared>, period: Duration) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in 0_usize.. {
        ticks.tick().await;
        let slot = {
            let slots = shared.slots.borrow();
            slots.get(number % slots.len().max(1)).copied()
        };
        if let Some(slot) = slot
            && shared.under_way.get() < UNDER_WAY_MAX
        {
            shared.under_way.set(shared.under_way.get() + 1);
            spawn_local(put(Rc::clone(&shared), slot, number));
        }
    }
}

async fn put(shared: Rc<Shared>, slot: usize, number: usize) {
    let begin = shared.begin.elapsed();
    let request = PutRequest {
        key: format!("load/{}", number % KEYS).into(),
        value: shared.value.clone(),
        ..PutRequest::default()
    };
    let answer = timeout(ANSWER_MAX, shared.connections[slot].kv().put(request)).await;
    shared.under_way.set(shared.under_way.get() - 1);
    if let Ok(Ok(_)) = answer {
        let end = shared.begin.elapsed();
        shared.acknowledged.borrow_mut().push(Acknowledged { begin, end });
    }
}

/// The longest time around a moment and until `until` in which nothing was acknowledged.
pub(crate) fn longest_silence(
    acknowledged: &[Acknowledged],
    moment: Duration,
    until: Duration,
) -> Duration {
    let mut ends: Vec<Duration> = acknowledged.iter().map(|put| put.end).collect();
    ends.sort_unstable();
    let last_before = ends.iter().rev().find(|end| **end <= moment).copied();
    let within = ends.iter().copied().filter(|end| moment < *end && *end <= until);
    let mut before = last_before.unwrap_or(moment);
    let mut longest = Duration::ZERO;
    for end in within.chain([until]) {
        longest = longest.max(end - before);
        before = end;
    }
    longest
}

const KEYS: usize = 10_000;
const UNDER_WAY_MAX: usize = 8192;
const ANSWER_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_measured_around_the_moment() {
        let at = Duration::from_millis;
        let puts = [(0, 5), (4, 10), (20, 300), (280, 302), (290, 500)];
        let puts = puts.map(|(begin, end)| Acknowledged { begin: at(begin), end: at(end) });
        assert_eq!(longest_silence(&puts, at(12), at(310)), at(290));
        assert_eq!(longest_silence(&puts, at(301), at(501)), at(198));
        assert_eq!(longest_silence(&[], at(12), at(310)), at(298));
    }
}
