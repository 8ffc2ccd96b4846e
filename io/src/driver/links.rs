//! How cores reach each other.

use core::num::NonZeroUsize;

use cairn_engine::api::{Error, Response};
use cairn_engine::event::{Publication, ReadIndexAnswer};
use cairn_engine::{Input, RequestId};

use crate::mailbox::{Receiver, Sender, Undelivered, mailbox};

/// What one core hands to another.
#[derive(Debug)]
pub(super) enum Hop {
    /// To the replica, on core 0.
    ToReplica(Input),
    /// From the replica: a new state.
    Published(Publication),
    /// From the replica: a shard may read.
    ReadIndex(ReadIndexAnswer),
    /// From the replica: an answer for a client of that core.
    Reply { id: RequestId, result: Result<Response, Error> },
}

/// What a core's driver owns: its mailbox, and the way to the others'.
#[derive(Debug)]
pub struct Seat {
    pub(super) core: u16,
    pub(super) mail: Receiver<Vec<Hop>>,
    pub(super) others: Vec<Outgoing>,
}

/// The way to another core: what gathers during a turn leaves as one batch.
#[derive(Debug)]
pub(super) struct Outgoing {
    sender: Sender<Vec<Hop>>,
    batch: Vec<Hop>,
}

/// Batches that may wait for a core. A core that lets so many turns of another pass is stalled, and what gathers
/// for it then stays with the sender.
const BATCHES_MAX: usize = 1024;

/// Seats for as many cores, connected with each other.
///
/// # Panics
/// If there are more than 65 535.
pub fn seats(cores: NonZeroUsize) -> Vec<Seat> {
    let boxes: Vec<_> = (0..cores.get()).map(|_| mailbox(BATCHES_MAX)).collect();
    let senders: Vec<_> = boxes.iter().map(|(sender, _)| sender.clone()).collect();
    boxes
        .into_iter()
        .enumerate()
        .map(|(core, (_, mail))| Seat {
            core: u16::try_from(core).expect("so many cores there are not"),
            mail,
            others: senders
                .iter()
                .map(|sender| Outgoing { sender: sender.clone(), batch: Vec::new() })
                .collect(),
        })
        .collect()
}

impl Outgoing {
    pub(super) fn push(&mut self, hop: Hop) {
        self.batch.push(hop);
    }

    /// Sends what has gathered; false if the other core has no room, and then it is kept.
    pub(super) fn flush(&mut self) -> bool {
        if self.batch.is_empty() {
            return true;
        }
        match self.sender.try_send(core::mem::take(&mut self.batch)) {
            Ok(()) | Err(Undelivered::Closed(_)) => true,
            Err(Undelivered::Full(batch)) => {
                self.batch = batch;
                false
            }
        }
    }
}
