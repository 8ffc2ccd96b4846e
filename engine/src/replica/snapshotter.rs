//! When to write a snapshot of the state, and its way to the medium, one part at a time.

use crate::convert::to_u64;
use crate::event::SnapshotPart;
use crate::ids::ClusterId;
use crate::raft::Index;
use crate::snapshot::{Position, SnapshotWriter};
use crate::state_machine::StateMachine;

/// Writes snapshots, one after another.
///
/// The log is kept from the second newest on: if the newest turns out to be unreadable, nothing is lost.
#[derive(Debug)]
pub(super) struct Snapshotter {
    newest: Position,
    second: Position,
    /// Size of the newest, which the next one will resemble.
    bytes: u64,
    task: Option<Task>,
    /// A part is on its way.
    in_flight: bool,
}

#[derive(Debug)]
struct Task {
    writer: SnapshotWriter,
    /// Bytes given out.
    offset: u64,
}

impl Snapshotter {
    pub(super) fn new(newest: Position, second: Position, bytes: u64) -> Self {
        Self { newest, second, bytes, task: None, in_flight: false }
    }

    /// What the newest durable snapshot covers.
    pub(super) fn newest(&self) -> Position {
        self.newest
    }

    /// What the second newest durable snapshot covers: the log is needed from here.
    pub(super) fn second(&self) -> Position {
        self.second
    }

    /// Whether to begin, when `log_bytes` of log were written since the newest.
    pub(super) fn is_due(&self, log_bytes: u64, log_bytes_min: u64) -> bool {
        self.task.is_none() && log_bytes >= log_bytes_min.max(self.bytes)
    }

    /// Begins a snapshot of `state`, in place of one that is under way: a leader's state is worth more than an old one
    /// of this member's.
    pub(super) fn begin(&mut self, cluster: ClusterId, position: Position, state: &StateMachine) {
        let writer = SnapshotWriter::new(cluster, position, state);
        self.task = Some(Task { writer, offset: 0 });
    }

    /// The next part, if none is on its way.
    pub(super) fn poll(&mut self) -> Option<SnapshotPart> {
        let task = self.task.as_mut().filter(|_| !self.in_flight)?;
        let bytes = task.writer.next_chunk().expect("a snapshot ends with its last part");
        let offset = task.offset;
        task.offset += to_u64(bytes.len());
        self.in_flight = true;
        let last = task.writer.is_done();
        let (index, keep_from) = (task.writer.position().index, self.newest.index);
        Some(SnapshotPart { index, offset, bytes, last, keep_from })
    }

    /// Takes the answer to a part; the index and size of the snapshot if it was the last.
    pub(super) fn written(&mut self) -> Option<(Index, u64)> {
        assert!(core::mem::take(&mut self.in_flight), "a part was on its way");
        let task = self.task.as_mut().expect("parts belong to snapshots");
        // Of another one, perhaps, that was given up for this.
        if !task.writer.is_done() {
            return None;
        }
        self.second = self.newest;
        self.newest = task.writer.position();
        self.bytes = task.offset;
        self.task = None;
        Some((self.newest.index, self.bytes))
    }
}
