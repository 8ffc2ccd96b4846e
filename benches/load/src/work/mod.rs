//! What load is made of.
//!
//! A [`Work`] is one thread's share of a workload. It writes requests, checks answers, and says when an operation is
//! done; connections, slots, time and counting are the [worker](crate::worker)'s. An operation is whatever its user
//! waits for: one call, the pages of a list, a transaction and its retries, or a message and its answer on a stream.

pub(crate) mod kv;
pub(crate) mod lease;
pub(crate) mod mix;
pub(crate) mod range;
pub(crate) mod txn;
pub(crate) mod watch;

use core::fmt::Debug;

use crate::method::Method;
use crate::record::Record;

/// How operations use connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Each request is a call of its own.
    Calls,
    /// Each slot keeps one call open and sends its requests there.
    Stream,
    /// Each operation begins with a new connection and ends with it.
    Connections,
}

/// A request that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    /// Which of [`Work::kinds`] the operation is.
    pub(crate) kind: usize,
}

impl Ask {
    /// Whether the client has said all with it. Watches end when they hear that.
    pub(crate) fn is_last(self) -> bool {
        self.method != Method::Watch
    }
}

/// What a message means for its operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// There is more to come; a call of one answer ends with its status.
    More,
    /// It is done, whether or not its call has ended.
    Done,
    /// It goes on with another request, for which [`Work::ask`] is called again.
    Again,
    /// The server answered, and the answer is wrong.
    Wrong(&'static str),
}

/// One thread's share of a workload.
pub(crate) trait Work: Debug {
    fn shape(&self) -> Shape {
        Shape::Calls
    }

    /// Names of the kinds of operations.
    fn kinds(&self) -> &'static [&'static str];

    /// Writes the next request of a slot; `None`: there is nothing more to do. `now` is in the time of the process.
    fn ask(&mut self, slot: usize, now: u64, message: &mut Vec<u8>) -> Option<Ask>;

    /// Takes a message of a slot's call.
    fn answer(&mut self, slot: usize, message: &[u8]) -> Step;

    /// A slot's call ended well. An operation of one message was told [`Step::More`] and is done now.
    fn ended(&mut self, slot: usize) -> Step {
        let _ = slot;
        Step::Done
    }

    /// A slot's operation failed: what it knew is void.
    fn failed(&mut self, slot: usize) {
        let _ = slot;
    }

    /// The messages of a call that stands beside the operations, by its number among those of this thread.
    fn standing(&mut self, number: usize) -> (Method, Vec<Vec<u8>>) {
        unreachable!("call {number} is not asked for")
    }

    /// Takes a message of a call that stands.
    ///
    /// # Errors
    /// If the message is wrong.
    fn told(&mut self, heard: Heard<'_>, record: &mut Record) -> Result<(), &'static str> {
        let _ = (heard, record);
        Ok(())
    }

    /// Whether the standing calls stand, so that the load may begin.
    fn stands(&self) -> bool {
        true
    }

    /// Messages of standing calls that must still come before the load is over.
    fn awaited(&self) -> u64 {
        0
    }
}

/// A message of a standing call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard<'a> {
    pub(crate) message: &'a [u8],
    /// When it was read.
    pub(crate) now: u64,
}

/// Which part of a load a thread has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) thread: usize,
    pub(crate) threads: usize,
    pub(crate) seed: u64,
    /// Slots of this thread.
    pub(crate) slots: usize,
    /// Standing calls of this thread.
    pub(crate) standing: usize,
}

/// Numbers that look random, the same ones for the same seed (`SplitMix64`).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn of(share: Share) -> Self {
        Self(share.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (share.thread as u64) << 40)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        let wide = u128::from(mixed ^ mixed >> 31) * u128::from(end);
        u64::try_from(wide >> 64).unwrap_or(0)
    }
}
