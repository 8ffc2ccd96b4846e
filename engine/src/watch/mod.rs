//! Watches: every change of some keys, in order, once, from any revision on.
//!
//! # The idea
//!
//! A watcher is a cursor: the next revision that it is owed. While it keeps up, it is handed the changes as they
//! are published; the moment its stream has no room, nothing is queued for it: it falls behind, and catches up
//! later by reading history from its cursor. So a slow watcher costs the same memory as a fast one, and none is
//! ever owed something that nobody remembers: when a compaction passes its cursor, it is told so and ends.
//!
//! # Invariants (etcd's guarantees)
//!
//! - G1 Ordered: events ascend by revision, across responses.
//! - G2 Unique: no event twice.
//! - G3 Reliable: no event left out between the first and the last.
//! - G4 Atomic: the events of one revision for one watcher are in one response, or in marked fragments of one.
//! - G5 Resumable: a watch from a revision gets everything from there on, or is told that it was compacted.
//! - G6 Bookmarkable: a progress notification at revision R follows every event up to R.
//!
//! # Reading order
//!
//! [`hub`] takes what streams say and says who is live, `publish` hands changes to the live ones, `catch_up`
//! reads history for the others, `progress` tells the revision to idle ones. `watcher` and `stream` are what they
//! work on, `index` finds the watchers of a key.
//!
//! # Limits
//!
//! The events of one revision are never split but for watchers that take fragments, so a transaction or deletion
//! of many keys is one response, whatever its size, and one piece of work. The number of watchers is not bounded
//! here. Permissions are not looked at here.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use crate::api::etcdserverpb::ResponseHeader;
use crate::convert::to_u64;
use crate::mvcc::Record;

pub mod hub;

mod arena;
mod catch_up;
mod index;
mod intervals;
mod progress;
mod publish;
mod stream;
mod watcher;

#[cfg(test)]
mod conversations;
#[cfg(test)]
mod model;

pub use hub::Hub;

/// What a watch stream sends; in wire form an `etcdserverpb.WatchResponse`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// Which watcher; −1 for all of the stream.
    pub watch_id: i64,
    /// The revision in the header.
    pub revision: i64,
    /// A watcher was made.
    pub created: bool,
    /// A watcher ended.
    pub canceled: bool,
    /// If it ended because of a compaction: the compact revision.
    pub compact_revision: i64,
    /// Why it ended, unless the client wanted it to or a compaction did it.
    pub cancel_reason: Cow<'static, str>,
    /// More of the same revision follows.
    pub fragment: bool,
    /// What changed, in order.
    pub events: Vec<Event>,
}

/// One change as a watcher sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The change.
    pub record: Record,
    /// What was before, if the watcher wants to know.
    pub prev: Option<Record>,
}

/// Protobuf field numbers of `WatchResponse`.
const HEADER: u32 = 1;
const WATCH_ID: u32 = 2;
const CREATED: u32 = 3;
const CANCELED: u32 = 4;
const COMPACT_REVISION: u32 = 5;
const CANCEL_REASON: u32 = 6;
const FRAGMENT: u32 = 7;
const EVENTS: u32 = 11;
/// And of `mvccpb.Event`.
const TYPE: u32 = 1;
const KV: u32 = 2;
const PREV_KV: u32 = 3;
/// What a response without events and reason takes at most: four numbers of eleven bytes with their tags in
/// the header and two outside of it, three flags, tag and length of header and reason.
const BARE_BYTES: usize = 4 * 11 + 2 * 11 + 3 * 2 + 2 * 3;
/// `mvccpb.Event.EventType.DELETE`.
const DELETE: u64 = 1;

impl Response {
    /// Appends the message in wire form, with `header` but for its revision.
    pub fn encode(&self, header: ResponseHeader, out: &mut Vec<u8>) {
        let header = ResponseHeader { revision: self.revision, ..header };
        encode_key(HEADER, WireType::LengthDelimited, out);
        encode_varint(to_u64(header.encoded_len()), out);
        header.encode(out).expect("memory grows");
        number(WATCH_ID, self.watch_id.cast_unsigned(), out);
        number(CREATED, u64::from(self.created), out);
        number(CANCELED, u64::from(self.canceled), out);
        number(COMPACT_REVISION, self.compact_revision.cast_unsigned(), out);
        if !self.cancel_reason.is_empty() {
            delimited(CANCEL_REASON, self.cancel_reason.as_bytes(), out);
        }
        number(FRAGMENT, u64::from(self.fragment), out);
        for event in &self.events {
            encode_key(EVENTS, WireType::LengthDelimited, out);
            encode_varint(to_u64(event.message_len()), out);
            event.encode(out);
        }
    }

    /// Length of the wire form, with the longest header there could be: what the response takes of its stream's
    /// credit. O(events).
    pub fn encoded_len(&self) -> usize {
        let events: usize = self.events.iter().map(Event::encoded_len).sum();
        BARE_BYTES + self.cancel_reason.len() + events
    }
}

impl Event {
    /// Length that the event adds to a response.
    pub fn encoded_len(&self) -> usize {
        delimited_len(self.message_len())
    }

    fn message_len(&self) -> usize {
        let kind = if self.record.is_tombstone() { 2 } else { 0 };
        let prev = self.prev.as_ref().map_or(0, |prev| delimited_len(prev.message().len()));
        kind + delimited_len(self.record.message().len()) + prev
    }

    fn encode(&self, out: &mut Vec<u8>) {
        if self.record.is_tombstone() {
            number(TYPE, DELETE, out);
        }
        delimited(KV, self.record.message(), out);
        if let Some(prev) = &self.prev {
            delimited(PREV_KV, prev.message(), out);
        }
    }
}

/// A number that is not the default.
fn number(field: u32, value: u64, out: &mut Vec<u8>) {
    if value != 0 {
        encode_key(field, WireType::Varint, out);
        encode_varint(value, out);
    }
}

fn delimited(field: u32, value: &[u8], out: &mut Vec<u8>) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(to_u64(value.len()), out);
    out.extend_from_slice(value);
}

/// Length of a field with a one-byte tag.
fn delimited_len(len: usize) -> usize {
    1 + encoded_len_varint(to_u64(len)) + len
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{etcdserverpb, mvccpb};
    use crate::ids::LeaseId;
    use crate::mvcc::Revision;
    use crate::mvcc::record::{Chain, Parts};

    fn record(main: i64, version: i64, value: &'static [u8]) -> Record {
        Record::new(&Parts {
            revision: Revision::first_of(main),
            key: b"key",
            value,
            create_revision: version.min(1) * 3,
            version,
            lease: LeaseId::NONE,
            chain: Chain::default(),
        })
    }

    #[test]
    fn the_message_is_what_protobuf_would_write() {
        let put = Event { record: record(9, 4, b"new"), prev: Some(record(7, 3, b"old")) };
        let delete = Event { record: record(10, 0, b""), prev: None };
        let response = Response {
            watch_id: 5,
            revision: 10,
            canceled: true,
            compact_revision: 2,
            cancel_reason: "because".into(),
            events: alloc::vec![put.clone(), delete.clone()],
            ..Response::default()
        };
        let header = ResponseHeader { cluster_id: 1, member_id: 2, revision: 0, raft_term: 3 };
        let mut encoded = Vec::new();
        response.encode(header, &mut encoded);
        let event = |event: &Event, kind: mvccpb::event::EventType| mvccpb::Event {
            r#type: kind.into(),
            kv: Some(event.record.to_key_value()),
            prev_kv: event.prev.as_ref().map(Record::to_key_value),
        };
        let expected = etcdserverpb::WatchResponse {
            header: Some(ResponseHeader { revision: 10, ..header }),
            watch_id: 5,
            canceled: true,
            compact_revision: 2,
            cancel_reason: "because".into(),
            events: alloc::vec![
                event(&put, mvccpb::event::EventType::Put),
                event(&delete, mvccpb::event::EventType::Delete)
            ],
            ..etcdserverpb::WatchResponse::default()
        };
        assert_eq!(etcdserverpb::WatchResponse::decode(&*encoded).unwrap(), expected);
        assert_eq!(encoded, expected.encode_to_vec());
        assert!(encoded.len() <= response.encoded_len());
        assert!(encoded.len() + BARE_BYTES > response.encoded_len());
    }
}
