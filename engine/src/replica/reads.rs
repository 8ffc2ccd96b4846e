//! Shards that wait to learn from where on their reads are current.

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::api::Error;
use crate::event::ReadIndexAnswer;
use crate::ids::ShardId;
use crate::raft::{Raft, ReadReady, ReadToken};
use crate::time::Time;

#[derive(Debug)]
struct Waiting {
    token: ReadToken,
    shard: ShardId,
    /// The shard's own name for its question.
    shard_token: u64,
    /// Whether the leader has the question.
    asked: bool,
    deadline: Time,
}

/// The questions under way, oldest first.
#[derive(Debug)]
pub(super) struct Reads {
    timeout: Duration,
    waiting: VecDeque<Waiting>,
    last_token: u64,
}

impl Reads {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, waiting: VecDeque::new(), last_token: 0 }
    }

    pub(super) fn push(&mut self, now: Time, shard: ShardId, shard_token: u64) {
        self.last_token += 1;
        let token = ReadToken(self.last_token);
        let deadline = now + self.timeout;
        self.waiting.push_back(Waiting { token, shard, shard_token, asked: false, deadline });
    }

    /// Asks what nobody has been asked, if there is somebody to ask.
    pub(super) fn ask(&mut self, raft: &mut Raft) {
        for waiting in self.waiting.iter_mut().filter(|waiting| !waiting.asked) {
            if raft.read_index(waiting.token).is_err() {
                return;
            }
            waiting.asked = true;
        }
    }

    /// Takes the leader's answer; `None` if it is to be asked again, or nobody waits any more.
    pub(super) fn answered(&mut self, ready: ReadReady) -> Option<ReadIndexAnswer> {
        let place = self.waiting.iter().position(|waiting| waiting.token == ready.token)?;
        let Some(index) = ready.index else {
            self.waiting[place].asked = false;
            return None;
        };
        let waiting = self.waiting.remove(place)?;
        Some(ReadIndexAnswer { shard: waiting.shard, token: waiting.shard_token, index: Ok(index) })
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.waiting.front().map(|waiting| waiting.deadline)
    }

    /// A question that waited too long.
    pub(super) fn timed_out(&mut self, now: Time) -> Option<ReadIndexAnswer> {
        let waiting = self.waiting.pop_front_if(|waiting| waiting.deadline <= now)?;
        Some(ReadIndexAnswer {
            shard: waiting.shard,
            token: waiting.shard_token,
            index: Err(Error::Timeout),
        })
    }
}
