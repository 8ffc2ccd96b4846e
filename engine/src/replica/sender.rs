//! A leader's snapshots on their way to peers whose entries are gone.
//!
//! A snapshot is read from a view that does not change, a part at a time, as the peer takes it. What was not received
//! is kept, so a connection that breaks costs what was on its way and no more: the peer says from where to go on.
//! What may be on its way, and how much goes out in a second, are limited, so that clients do not feel it.

use alloc::collections::{BTreeMap, VecDeque};
use core::time::Duration;

use bytes::Bytes;

use crate::config::Limits;
use crate::convert::to_u64;
use crate::ids::MemberId;
use crate::peer::SnapshotPart;
use crate::raft::Index;
use crate::raft::message::LogEnd;
use crate::snapshot::SnapshotWriter;
use crate::time::Time;

/// After so long without a word, what is on its way is sent again.
const RETRY: Duration = Duration::from_secs(1);
/// After so long without a word the peer is given up; the receiver speaks while it writes to its disk.
const PATIENCE: Duration = Duration::from_secs(15);

/// The snapshots under way, at most one to each peer.
#[derive(Debug, Default)]
pub(super) struct Sender {
    sendings: BTreeMap<MemberId, Sending>,
    last_transfer: u64,
}

#[derive(Debug)]
struct Sending {
    transfer: u64,
    place: LogEnd,
    writer: SnapshotWriter,
    /// What the peer has not received: where each part begins, ascending.
    kept: VecDeque<(u64, Bytes)>,
    /// Up to where the peer has it, and up to where it was made.
    received: u64,
    made: u64,
    /// The first of what is kept that was not sent, or is to be sent again.
    next: usize,
    /// From where it was sent again at the peer's word: once for each place, or each part that comes out of order
    /// would call for all that are behind.
    again: Option<u64>,
    /// The peer was silent, and asked again: what it says now is not an old word that was late.
    asked: bool,
    /// When the peer was last heard about it, and when something was last sent.
    heard: Time,
    sent: Time,
    /// Not before this may more go out.
    paced: Time,
}

/// What a peer says about a snapshot, see [`Body::SnapshotReceived`](crate::peer::Body::SnapshotReceived).
#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    pub(super) transfer: u64,
    pub(super) offset: u64,
    pub(super) done: bool,
}

/// What became of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) peer: MemberId,
    /// What it covered, if it arrived.
    pub(super) covers: Option<Index>,
    pub(super) bytes: u64,
}

impl Sender {
    /// Whether a peer is being sent one.
    pub(super) fn is_sending(&self, peer: MemberId) -> bool {
        self.sendings.contains_key(&peer)
    }

    /// Begins to send a snapshot. `seed` keeps its name apart from those of other leaders.
    pub(super) fn begin(&mut self, now: Time, peer: MemberId, seed: u64, writer: SnapshotWriter) {
        self.last_transfer += 1;
        let position = writer.position();
        let sending = Sending {
            transfer: seed.wrapping_add(self.last_transfer),
            place: LogEnd { index: position.index, term: position.term },
            writer,
            kept: VecDeque::new(),
            received: 0,
            made: 0,
            next: 0,
            again: None,
            asked: false,
            heard: now,
            sent: now,
            paced: now,
        };
        self.sendings.insert(peer, sending);
    }

    /// The next part to send, if one may go out now.
    pub(super) fn poll(&mut self, now: Time, limits: &Limits) -> Option<(MemberId, SnapshotPart)> {
        self.sendings
            .iter_mut()
            .find_map(|(peer, sending)| Some((*peer, sending.poll(now, limits)?)))
    }

    /// Takes a peer's word about a snapshot; what became of it, if it came to its end.
    pub(super) fn received(&mut self, now: Time, peer: MemberId, word: Word) -> Option<Ended> {
        let sending = self.sendings.get_mut(&peer).filter(|s| s.transfer == word.transfer)?;
        sending.heard = now;
        // It has nothing of what it had: it was started anew.
        let lost = sending.asked && word.offset == 0 && sending.received > 0;
        if word.done || lost {
            let bytes = sending.made;
            let covers = word.done.then_some(sending.place.index);
            self.sendings.remove(&peer);
            return Some(Ended { peer, covers, bytes });
        }
        sending.asked = false;
        sending.received(word.offset);
        None
    }

    /// A peer that was not heard for too long.
    pub(super) fn given_up(&mut self, now: Time) -> Option<Ended> {
        let silent = |sending: &Sending| sending.heard + PATIENCE <= now;
        let (&peer, sending) = self.sendings.iter().find(|(_, sending)| silent(sending))?;
        let bytes = sending.made;
        self.sendings.remove(&peer);
        Some(Ended { peer, covers: None, bytes })
    }

    /// This member leads no more, or the peer is none any more.
    pub(super) fn keep_only(&mut self, keep: impl Fn(MemberId) -> bool) {
        self.sendings.retain(|peer, _| keep(*peer));
    }

    /// When something is due without a word from a peer.
    pub(super) fn deadline(&self, limits: &Limits) -> Option<Time> {
        let due = |sending: &Sending| {
            let silence = (sending.heard + PATIENCE).min(sending.heard.max(sending.sent) + RETRY);
            if sending.may_make(limits) || sending.next < sending.kept.len() {
                sending.paced.min(silence)
            } else {
                silence
            }
        };
        self.sendings.values().map(due).min()
    }
}

impl Sending {
    fn poll(&mut self, now: Time, limits: &Limits) -> Option<SnapshotPart> {
        if self.sent + RETRY <= now && self.heard + RETRY <= now {
            self.next = 0;
            self.again = None;
            self.sent = now;
            self.asked = true;
            if self.kept.is_empty() && self.writer.is_done() {
                return Some(self.part(self.made, Bytes::new()));
            }
        }
        if now < self.paced {
            return None;
        }
        if self.next == self.kept.len() && self.may_make(limits) {
            let bytes = Bytes::from(self.writer.next_chunk()?);
            self.kept.push_back((self.made, bytes.clone()));
            self.made += to_u64(bytes.len());
        }
        let (offset, bytes) = self.kept.get(self.next)?.clone();
        self.next += 1;
        self.sent = now;
        let second = u64::try_from(Duration::from_secs(1).as_nanos()).expect("a second is short");
        let nanos = to_u64(bytes.len()) * second / limits.snapshot_bytes_per_second.max(1);
        self.paced = now + Duration::from_nanos(nanos);
        Some(self.part(offset, bytes))
    }

    fn part(&self, offset: u64, bytes: Bytes) -> SnapshotPart {
        let last = self.writer.is_done() && offset + to_u64(bytes.len()) == self.made;
        SnapshotPart { transfer: self.transfer, place: self.place, offset, bytes, last }
    }

    fn may_make(&self, limits: &Limits) -> bool {
        !self.writer.is_done() && self.made - self.received < limits.snapshot_in_flight_bytes
    }

    /// The peer goes on from `offset`: what is before need not be kept, and what is behind is on its way, or, if the
    /// peer says the same again, lost.
    fn received(&mut self, offset: u64) {
        let again = offset == self.received && self.again != Some(offset);
        self.received = offset.clamp(self.received, self.made);
        while let Some(_gone) = self.kept.pop_front_if(|(at, _)| *at < self.received) {
            self.next = self.next.saturating_sub(1);
        }
        if again && self.next > 0 {
            self.next = 0;
            self.again = Some(offset);
        }
    }
}
