//! What one change left behind: an immutable block of bytes, shared by everyone who needs it.
//!
//! ```text
//!  off len          off len               off  len
//!   0   8 main      40   8 jump main      72    4 jump sub
//!   8   8 create    48   8 ordinal        76    4 key length
//!  16   8 version   56   8 jump ordinal   80    4 value offset in the message
//!  24   8 lease     64   4 sub            84    4 value length
//!  32   8 prev main 68   4 prev sub       88    … the `mvccpb.KeyValue` message
//! ```
//!
//! All numbers are little-endian. The message is in wire form, so that an answer or an event copies it and
//! computes nothing. A record without versions (`version` 0) is a tombstone; its message holds the key and
//! the revision of the deletion.
//!
//! # The chain of versions
//!
//! `prev` is the record that this one replaced. `jump` is one further back, placed by the rule of skew-binary
//! numbers (Myers, "An applicative random-access stack", 1983): jumping whenever that does not go too far finds
//! any version in O(log n) steps, and a new record's jump follows from the two before it.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use super::Revision;
use crate::api::mvccpb::KeyValue;
use crate::convert::{to_u64, to_usize};
use crate::cow;
use crate::ids::LeaseId;

/// A record. Cloning shares it.
#[derive(Clone, PartialEq, Eq)]
pub struct Record(Arc<[u8]>);

/// What a record is made of.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// When the change was made.
    pub revision: Revision,
    /// The key.
    pub key: &'a [u8],
    /// Its value; empty for a tombstone.
    pub value: &'a [u8],
    /// Revision of the put that created the key in its present life; 0 for a tombstone.
    pub create_revision: i64,
    /// Counts the puts of the present life from 1; 0 for a tombstone.
    pub version: i64,
    /// The lease that the key is attached to.
    pub lease: LeaseId,
    /// Where the record stands in the chain of its key's versions.
    pub chain: Chain,
}

/// A record's place among the versions of its key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Counts the versions, tombstones included, from 0.
    pub ordinal: u64,
    /// The version before; [`Revision::ZERO`] if there is none.
    pub prev: Revision,
    /// One further back, or the same; [`Revision::ZERO`] if there is none.
    pub jump: Revision,
    /// The ordinal of that one.
    pub jump_ordinal: u64,
}

impl Chain {
    /// The place of the version that replaces `before`. `get` finds records by revision; one that is gone
    /// counts as the chain's beginning, which only makes later descents longer. Costs one `get`.
    pub fn after(before: &Record, get: impl FnOnce(Revision) -> Option<Record>) -> Self {
        let near = before.chain();
        let (ordinal, prev) = (near.ordinal + 1, before.revision());
        if near.jump > Revision::ZERO
            && let Some(far) = get(near.jump).map(|record| record.chain())
            && near.ordinal - near.jump_ordinal == near.jump_ordinal - far.jump_ordinal
        {
            return Self { ordinal, prev, jump: far.jump, jump_ordinal: far.jump_ordinal };
        }
        Self { ordinal, prev, jump: prev, jump_ordinal: near.ordinal }
    }
}

const MAIN: usize = 0;
const CREATE: usize = 8;
const VERSION: usize = 16;
const LEASE: usize = 24;
const PREV_MAIN: usize = 32;
const JUMP_MAIN: usize = 40;
const ORDINAL: usize = 48;
const JUMP_ORDINAL: usize = 56;
const SUB: usize = 64;
const PREV_SUB: usize = 68;
const JUMP_SUB: usize = 72;
const KEY_BYTES: usize = 76;
const VALUE_AT: usize = 80;
const VALUE_BYTES: usize = 84;
const MESSAGE: usize = 88;

impl Record {
    /// Builds a record.
    ///
    /// # Panics
    /// If key or value have 4 GiB or more; requests are limited far below.
    pub fn new(parts: &Parts<'_>) -> Self {
        let message_bytes = message_bytes(parts);
        let mut bytes = Vec::with_capacity(MESSAGE + message_bytes);
        for number in [parts.revision.main, parts.create_revision, parts.version, parts.lease.0] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let chain = parts.chain;
        for number in [chain.prev.main, chain.jump.main] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&chain.ordinal.to_le_bytes());
        bytes.extend_from_slice(&chain.jump_ordinal.to_le_bytes());
        for number in [parts.revision.sub, chain.prev.sub, chain.jump.sub, length(parts.key), 0] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&length(parts.value).to_le_bytes());
        let value_at = encode_message(parts, &mut bytes) - MESSAGE;
        let value_at = u32::try_from(value_at).expect("requests are limited");
        bytes[VALUE_AT..VALUE_AT + 4].copy_from_slice(&value_at.to_le_bytes());
        Self(Arc::from(bytes))
    }

    /// When the change was made.
    pub fn revision(&self) -> Revision {
        Revision { main: self.i64(MAIN), sub: self.u32(SUB) }
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        let bytes = self.u32(KEY_BYTES);
        let start = MESSAGE + 1 + encoded_len_varint(u64::from(bytes));
        &self.0[start..start + to_usize(u64::from(bytes))]
    }

    /// The value; empty for a tombstone.
    pub fn value(&self) -> &[u8] {
        let start = MESSAGE + to_usize(u64::from(self.u32(VALUE_AT)));
        &self.0[start..start + to_usize(u64::from(self.u32(VALUE_BYTES)))]
    }

    /// Revision of the put that created the key in its present life; 0 for a tombstone.
    pub fn create_revision(&self) -> i64 {
        self.i64(CREATE)
    }

    /// Counts the puts of the present life; 0 for a tombstone.
    pub fn version(&self) -> i64 {
        self.i64(VERSION)
    }

    /// The lease that the key is attached to.
    pub fn lease(&self) -> LeaseId {
        LeaseId(self.i64(LEASE))
    }

    /// Whether the change was a deletion.
    pub fn is_tombstone(&self) -> bool {
        self.version() == 0
    }

    /// The record's place among the versions of its key.
    pub fn chain(&self) -> Chain {
        Chain {
            ordinal: u64::from_le_bytes(self.array(ORDINAL)),
            jump_ordinal: u64::from_le_bytes(self.array(JUMP_ORDINAL)),
            prev: Revision { main: self.i64(PREV_MAIN), sub: self.u32(PREV_SUB) },
            jump: Revision { main: self.i64(JUMP_MAIN), sub: self.u32(JUMP_SUB) },
        }
    }

    /// The `mvccpb.KeyValue` message in wire form.
    pub fn message(&self) -> &[u8] {
        &self.0[MESSAGE..]
    }

    /// The message as etcd's storage holds it: a tombstone's has only the key.
    pub fn stored_message(&self) -> &[u8] {
        if !self.is_tombstone() {
            return self.message();
        }
        let bytes = self.u32(KEY_BYTES);
        &self.0[MESSAGE..MESSAGE + field_bytes(to_usize(u64::from(bytes)))]
    }

    /// The message as a structure.
    pub fn to_key_value(&self) -> KeyValue {
        KeyValue {
            key: bytes::Bytes::copy_from_slice(self.key()),
            create_revision: self.create_revision(),
            mod_revision: self.revision().main,
            version: self.version(),
            value: bytes::Bytes::copy_from_slice(self.value()),
            lease: self.lease().0,
        }
    }

    /// Memory that the record takes.
    pub fn bytes(&self) -> u64 {
        to_u64(self.0.len()) + RECORD_OVERHEAD_BYTES
    }

    /// The record as bytes, for snapshots; [`Record::from_bytes`] reads them back.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads what [`Record::as_bytes`] gave; `None` if these bytes are no record.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < MESSAGE {
            return None;
        }
        let record = Self(Arc::from(bytes));
        let key_bytes = to_usize(u64::from(record.u32(KEY_BYTES)));
        let key_end = MESSAGE + field_bytes(key_bytes);
        let value_start = MESSAGE + to_usize(u64::from(record.u32(VALUE_AT)));
        let value_end = value_start + to_usize(u64::from(record.u32(VALUE_BYTES)));
        if key_bytes == 0 || key_end > value_start || value_end > bytes.len() {
            return None;
        }
        let chain = record.chain();
        let whole = record.version() >= 0
            && record.revision() > chain.prev
            && chain.prev >= chain.jump
            && chain.jump >= Revision::ZERO
            && chain.jump_ordinal <= chain.ordinal;
        whole.then_some(record)
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0[at..at + N].try_into().expect("a slice of length N")
    }

    fn i64(&self, at: usize) -> i64 {
        i64::from_le_bytes(self.array(at))
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.array(at))
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key().escape_ascii();
        if self.is_tombstone() {
            write!(f, "{} delete {key}", self.revision())
        } else {
            write!(
                f,
                "{} put {key} v{} ({} bytes)",
                self.revision(),
                self.version(),
                self.value().len()
            )
        }
    }
}

/// Handles in the trees, the counts of the shared block, and what an allocator adds; roughly.
const RECORD_OVERHEAD_BYTES: u64 = 64;

/// Protobuf field numbers of `mvccpb.KeyValue`.
const KEY_FIELD: u32 = 1;
const CREATE_FIELD: u32 = 2;
const MOD_FIELD: u32 = 3;
const VERSION_FIELD: u32 = 4;
const VALUE_FIELD: u32 = 5;
const LEASE_FIELD: u32 = 6;

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("requests are limited")
}

/// Bytes of a field that holds `len` bytes; its tag has one.
fn field_bytes(len: usize) -> usize {
    1 + encoded_len_varint(to_u64(len)) + len
}

fn message_bytes(parts: &Parts<'_>) -> usize {
    // Numbers take eleven bytes at most, with their tags.
    field_bytes(parts.key.len()) + field_bytes(parts.value.len()) + 4 * 11
}

/// Appends the message and returns where the value is.
fn encode_message(parts: &Parts<'_>, out: &mut Vec<u8>) -> usize {
    encode_bytes(KEY_FIELD, parts.key, out);
    encode_number(CREATE_FIELD, parts.create_revision, out);
    encode_number(MOD_FIELD, parts.revision.main, out);
    encode_number(VERSION_FIELD, parts.version, out);
    encode_bytes(VALUE_FIELD, parts.value, out);
    let value_at = out.len() - parts.value.len();
    encode_number(LEASE_FIELD, parts.lease.0, out);
    value_at
}

/// A default value is not written, as proto3 wants it.
fn encode_bytes(field: u32, value: &[u8], out: &mut Vec<u8>) {
    if !value.is_empty() {
        encode_key(field, WireType::LengthDelimited, out);
        encode_varint(to_u64(value.len()), out);
        out.extend_from_slice(value);
    }
}

fn encode_number(field: u32, value: i64, out: &mut Vec<u8>) {
    if value != 0 {
        encode_key(field, WireType::Varint, out);
        encode_varint(value.cast_unsigned(), out);
    }
}

/// Length of what [`encode_number`] appends, for fields below 16.
fn number_len(value: i64) -> usize {
    if value == 0 { 0 } else { 1 + encoded_len_varint(value.cast_unsigned()) }
}

/// Length of what [`encode_without_value`] appends.
pub fn len_without_value(record: &Record, lease: LeaseId) -> usize {
    let value = match record.value().len() {
        0 => 0,
        len => field_bytes(len),
    };
    record.message().len() - value - number_len(record.lease().0) + number_len(lease.0)
}

/// Appends a record's message without the value, and with this lease, for answers that want keys only.
pub fn encode_without_value(record: &Record, lease: LeaseId, out: &mut Vec<u8>) {
    encode_bytes(KEY_FIELD, record.key(), out);
    encode_number(CREATE_FIELD, record.create_revision(), out);
    encode_number(MOD_FIELD, record.revision().main, out);
    encode_number(VERSION_FIELD, record.version(), out);
    encode_number(LEASE_FIELD, lease.0, out);
}

/// A record in the trees that are ordered by key.
#[derive(Clone, Debug)]
pub struct ByKey(pub Record);

/// A record in the tree that is ordered by revision.
#[derive(Clone, Debug)]
pub struct ByRevision {
    revision: Revision,
    /// The record.
    pub record: Record,
}

impl From<Record> for ByRevision {
    fn from(record: Record) -> Self {
        Self { revision: record.revision(), record }
    }
}

impl cow::Item for ByKey {
    type Key = [u8];
    // Shared: a copied branch must not copy its keys.
    type Separator = Arc<[u8]>;

    fn key(&self) -> &[u8] {
        self.0.key()
    }

    fn separator(left: &[u8], right: &[u8]) -> Self::Separator {
        cow::shortest_separator(left, right).into()
    }
}

impl cow::Item for ByRevision {
    type Key = Revision;
    type Separator = Revision;

    fn key(&self) -> &Revision {
        &self.revision
    }

    fn separator(_left: &Revision, right: &Revision) -> Revision {
        *right
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    fn parts() -> Parts<'static> {
        Parts {
            revision: Revision { main: 300, sub: 2 },
            key: b"registry/pods/a",
            value: b"the value",
            create_revision: 7,
            version: 150,
            lease: LeaseId(-5),
            chain: Chain {
                ordinal: 9,
                jump_ordinal: 3,
                prev: Revision { main: 299, sub: 1 },
                jump: Revision { main: 12, sub: 3 },
            },
        }
    }

    #[test]
    fn a_record_gives_back_what_it_was_made_of() {
        let record = Record::new(&parts());
        assert_eq!(record.revision(), parts().revision);
        assert_eq!(record.key(), parts().key);
        assert_eq!(record.value(), parts().value);
        assert_eq!(record.create_revision(), 7);
        assert_eq!((record.version(), record.is_tombstone()), (150, false));
        assert_eq!(record.lease(), LeaseId(-5));
        assert_eq!(record.chain(), parts().chain);
        assert_eq!(Record::from_bytes(record.as_bytes()), Some(record));
    }

    #[test]
    fn the_message_is_what_protobuf_would_write() {
        for parts in [parts(), Parts { value: b"", lease: LeaseId::NONE, ..parts() }] {
            let record = Record::new(&parts);
            assert_eq!(record.message(), record.to_key_value().encode_to_vec());
            assert_eq!(record.stored_message(), record.message());
            let mut keys_only = Vec::new();
            encode_without_value(&record, record.lease(), &mut keys_only);
            assert_eq!(len_without_value(&record, record.lease()), keys_only.len());
            let without = KeyValue { value: bytes::Bytes::new(), ..record.to_key_value() };
            assert_eq!(keys_only, without.encode_to_vec());
        }
    }

    #[test]
    fn a_tombstone_shows_its_revision_but_stores_only_its_key() {
        let parts =
            Parts { value: b"", create_revision: 0, version: 0, lease: LeaseId::NONE, ..parts() };
        let record = Record::new(&parts);
        assert!(record.is_tombstone());
        assert_eq!(record.value(), b"");
        let shown = KeyValue::decode(record.message()).unwrap();
        assert_eq!((shown.key.as_ref(), shown.mod_revision), (parts.key, 300));
        let stored = KeyValue::decode(record.stored_message()).unwrap();
        assert_eq!((stored.key.as_ref(), stored.mod_revision), (parts.key, 0));
    }
}
