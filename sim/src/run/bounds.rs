//! What must not grow without end: the queues of a member, its log in memory, and what is under way to a watch client.
//!
//! A queue that leaks breaks no other rule until memory is full.

use cairn_engine::{MemberId, StreamId, watch};

use super::Run;
use super::watchers::{Place, WatchClient, connection_of};
use crate::check::{Violation, ensure};

/// What a member has under way of its own: leases that end, the time, its name, a compaction, changes of members.
const OWN_MAX: usize = 16;

/// What a storm asked of a member that crashed waits at the leader for a while, though nobody asks any more.
const STORM_MAX: usize = 256;

impl Run {
    /// Looks at every member that runs.
    ///
    /// # Errors
    /// If one of them holds more than it may.
    pub(super) fn check_bounds(&self) -> Result<(), Violation> {
        self.world.members().filter(|id| self.world.is_up(*id)).try_for_each(|id| {
            self.check_pending(id)?;
            self.check_log_memory(id)
        })
    }

    /// Nobody waits but those who asked, or whose entries are in the log.
    fn check_pending(&self, id: MemberId) -> Result<(), Violation> {
        let Some(replica) = self.world.replica(id) else { return Ok(()) };
        let (status, raft) = (replica.status(), replica.raft());
        let unapplied = raft.log().iter_from(status.applied.next()).count();
        let asked = self.questions.len();
        let stormy = if self.swarm.storm_every_ns > 0 { STORM_MAX } else { 0 };
        ensure(status.pending <= asked + unapplied + OWN_MAX + stormy, "bounds", || {
            format!(
                "{} waits for {} when {asked} ask and {unapplied} are in its log",
                id.0, status.pending
            )
        })
    }

    /// What is applied is kept in memory for others up to a limit, whoever needs it.
    fn check_log_memory(&self, id: MemberId) -> Result<(), Violation> {
        let Some(replica) = self.world.replica(id) else { return Ok(()) };
        let (log, applied) = (replica.raft().log(), replica.status().applied);
        let limits = &self.swarm.limits;
        let bytes_max = limits.log_memory_bytes.max(limits.log_needed_bytes_max);
        let kept = log.iter().any(|entry| entry.index <= applied);
        ensure(!kept || log.bytes() <= bytes_max || log.last_index() > applied, "bounds", || {
            format!("{} keeps {} bytes of log, which is all applied", id.0, log.bytes())
        })
    }

    /// Events wait until a client has read: what is under way to it when more is sent is less than its credit.
    ///
    /// # Errors
    /// If more was sent.
    pub(super) fn check_credit(
        &mut self,
        stream: StreamId,
        response: &watch::Response,
    ) -> Result<(), Violation> {
        let continues = self.unfinished.remove(&stream);
        if response.fragment {
            self.unfinished.insert(stream);
        }
        let Some(reading) = self.reading.get(&stream) else { return Ok(()) };
        let (under_way, credit): (usize, _) =
            (reading.iter().sum(), self.swarm.limits.watch_credit_bytes);
        let shared = self.shared_bytes(stream);
        let has_credit = under_way == 0
            || under_way < credit && shared < self.swarm.limits.watch_connection_credit_bytes;
        let may = response.events.is_empty() || continues || has_credit;
        ensure(may, "bounds", || {
            format!(
                "stream {} is sent events while {under_way} of {shared} bytes of its connection wait to be read",
                stream.0
            )
        })
    }

    /// What waits to be read on all streams of a stream's connection.
    fn shared_bytes(&self, stream: StreamId) -> usize {
        let places = || {
            let place = |(client, watcher): (usize, &WatchClient)| Some((client, watcher.stream?));
            self.watchers.iter().enumerate().filter_map(place)
        };
        let Some((client, at)) = places().find(|(_, place)| place.stream == stream) else {
            return 0;
        };
        let of_connection = |other: &(usize, Place)| {
            let (other, place) = other;
            connection_of(*other) == connection_of(client)
                && (place.member, place.shard) == (at.member, at.shard)
        };
        let reading = |(_, place): (usize, Place)| self.reading.get(&place.stream);
        places().filter(of_connection).filter_map(reading).flatten().sum()
    }
}
