//! The streams of a connection that are open.
//!
//! They stand in a slab. Where the one with an id stands, says a list: ids only grow, so it is sorted, and what is gone
//! from it leaves a gap until gaps are half of it. The newest are asked for most.

use bytes::Bytes;
use std::collections::VecDeque;

use crate::wide;

/// A stream of this connection. No two ever have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    pub(super) slot: u32,
    pub(super) id: u32,
}

impl Key {
    /// Its number on the wire.
    pub const fn id(self) -> u32 {
        self.id
    }
}

/// A stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: u32,
    /// What its owner knows it by.
    pub(super) token: usize,
    /// The client sends no more.
    pub(super) is_received: bool,
    /// How far the answer has come.
    pub(super) answer: Answer,
    /// Whether it stands in the line of those that may send.
    pub(super) is_queued: bool,
    /// Bytes that the client may send.
    pub(super) receive_window: i64,
    /// Bytes that its owner has not taken yet, and that it has taken without the client being told.
    pub(super) held: u32,
    pub(super) owed: u32,
    /// Bytes of body that were announced and have not come.
    pub(super) announced: Option<u64>,
    /// Bytes that we may send, beside what all streams may at first.
    pub(super) send_window: i64,
    /// What waits for that.
    pub(super) waiting: Option<Box<Waiting>>,
}

/// How far an answer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    No,
    Begun,
    /// It ends with what waits.
    Ended,
}

/// What cannot be sent yet.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) data: VecDeque<Bytes>,
    pub(super) bytes: usize,
    pub(super) end: Option<End>,
}

/// How what is sent ends.
#[derive(Debug)]
pub(super) enum End {
    /// With the last data.
    Data,
    /// With the usual trailers.
    Usual,
    /// With these, as literals.
    Trailers(Vec<u8>),
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Streams {
    slots: Vec<Option<Stream>>,
    free: Vec<u32>,
    /// Ids in order, and their slots.
    index: Vec<(u32, u32)>,
    gaps: usize,
}

/// The slot of a gap.
const GAP: u32 = u32::MAX;

impl Streams {
    pub(super) fn len(&self) -> usize {
        self.index.len() - self.gaps
    }

    pub(super) fn add(&mut self, stream: Stream) -> Key {
        let id = stream.id;
        assert!(self.index.last().is_none_or(|(last, _)| *last < id), "ids grow");
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[wide(slot)] = Some(stream);
                slot
            }
            None => {
                self.slots.push(Some(stream));
                u32::try_from(self.slots.len() - 1).expect("streams are few")
            }
        };
        self.index.push((id, slot));
        Key { slot, id }
    }

    pub(super) fn find(&self, id: u32) -> Option<Key> {
        let place = self.place(id)?;
        let (_, slot) = self.index[place];
        (slot != GAP).then_some(Key { slot, id })
    }

    fn place(&self, id: u32) -> Option<usize> {
        match self.index.last() {
            Some((last, _)) if *last == id => Some(self.index.len() - 1),
            Some(_) | None => self.index.binary_search_by_key(&id, |(id, _)| *id).ok(),
        }
    }

    /// The stream, if it is not gone.
    pub(super) fn get(&mut self, key: Key) -> Option<&mut Stream> {
        let stream = self.slots.get_mut(wide(key.slot))?.as_mut()?;
        (stream.id == key.id).then_some(stream)
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Stream> {
        self.get(key)?;
        let stream = self.slots[wide(key.slot)].take()?;
        self.free.push(key.slot);
        let place = self.place(key.id).expect("streams have a place");
        if place + 1 == self.index.len() {
            self.index.pop();
            while self.index.last().is_some_and(|(_, slot)| *slot == GAP) {
                self.index.pop();
                self.gaps -= 1;
            }
        } else {
            self.index[place].1 = GAP;
            self.gaps += 1;
            if self.gaps > GAPS_MAX && self.gaps * 2 > self.index.len() {
                self.index.retain(|(_, slot)| *slot != GAP);
                self.gaps = 0;
            }
        }
        if self.index.is_empty() {
            // A connection that had very many keeps nothing of it.
            if self.slots.len() > SLOTS_KEPT {
                *self = Self::default();
            }
        }
        Some(stream)
    }

    /// All of them, in no order.
    pub(super) fn each(&mut self) -> impl Iterator<Item = (Key, &mut Stream)> {
        (0..).zip(&mut self.slots).filter_map(|(slot, stream)| {
            let stream = stream.as_mut()?;
            Some((Key { slot, id: stream.id }, stream))
        })
    }
}

/// Gaps that are let be.
const GAPS_MAX: usize = 16;
/// Slots that are kept when no stream is open.
const SLOTS_KEPT: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn stream(id: u32) -> Stream {
        Stream {
            id,
            token: 0,
            is_received: false,
            answer: Answer::No,
            is_queued: false,
            receive_window: 0,
            held: 0,
            owed: 0,
            announced: None,
            send_window: 0,
            waiting: None,
        }
    }

    #[test]
    fn streams_are_found_by_their_ids() {
        // A twin, and numbers that come from nowhere in particular.
        let (mut streams, mut twin, mut random) = (Streams::default(), BTreeMap::new(), 1_u64);
        for id in (1..4000).step_by(2) {
            twin.insert(id, streams.add(stream(id)));
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            for _ in 0..(random >> 40) % 3 {
                let place = usize::try_from(random >> 33).unwrap() % twin.len().max(1);
                if let Some((&gone, &key)) = twin.iter().nth(place) {
                    twin.remove(&gone);
                    assert_eq!(streams.remove(key).unwrap().id, gone);
                    assert!(streams.remove(key).is_none() && streams.get(key).is_none());
                }
            }
            assert_eq!(streams.len(), twin.len());
            for other in (1..id + 4).step_by(2) {
                assert_eq!(streams.find(other), twin.get(&other).copied());
            }
            if id > 200 && id < 3000 {
                random ^= u64::from(id);
            }
        }
        assert_eq!(streams.each().count(), twin.len());
    }
}
