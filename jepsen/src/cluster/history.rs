//! What clients did and were told, and what watchers saw.
//!
//! Every write that puts something puts a value that nobody else writes, so that whoever sees it knows which attempt
//! it was. All keys are below [`PREFIX`], where nobody else writes.

use core::time::Duration;

use bytes::Bytes;
use cairn_engine::api::mvccpb::KeyValue;

/// A revision of the store. 0: never, or now.
pub(super) type Revision = i64;

/// What all keys begin with.
pub(super) const PREFIX: &str = "jepsen/";

/// Keys: one, or all that begin with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Span {
    Key(Bytes),
    Prefix(Bytes),
}

impl Span {
    /// The end of the range, as requests say it.
    pub(super) fn range_end(&self) -> Bytes {
        match self {
            Self::Key(_) => Bytes::new(),
            Self::Prefix(prefix) => {
                let mut end = prefix.to_vec();
                // Prefixes of ours end with a slash.
                *end.last_mut().expect("a prefix is not empty") += 1;
                end.into()
            }
        }
    }

    /// The first key.
    pub(super) fn key(&self) -> &Bytes {
        match self {
            Self::Key(key) | Self::Prefix(key) => key,
        }
    }
}

/// A version of a key, as the store tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: Bytes,
    pub(super) value: Bytes,
    pub(super) created: Revision,
    pub(super) modified: Revision,
    pub(super) version: i64,
    pub(super) lease: i64,
}

impl From<KeyValue> for Entry {
    fn from(kv: KeyValue) -> Self {
        Self {
            key: kv.key,
            value: kv.value,
            created: kv.create_revision,
            modified: kv.mod_revision,
            version: kv.version,
            lease: kv.lease,
        }
    }
}

/// What must hold for a write to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Guard {
    /// The key has this value.
    Value(Bytes, Bytes),
    /// The key's last change, 0 if it does not exist.
    Modified(Bytes, Revision),
}

/// What a write does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Put { key: Bytes, value: Bytes, lease: i64 },
    Delete { key: Bytes },
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// All effects if all guards hold; else `otherwise` is read.
    Write { guards: Vec<Guard>, effects: Vec<Effect>, otherwise: Option<Span> },
    /// What is there at a revision, 0 for the newest.
    Read { span: Span, at: Revision, reading: Reading },
}

/// How new an answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// Everything that was acknowledged before.
    Linearizable,
    /// Whatever the member has.
    Serializable,
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is done, as this revision; the key's version before, if it was asked for and there was one.
    Written { revision: Revision, previous: Option<Vec<Entry>> },
    /// A guard did not hold; at this revision, this was read instead.
    Refused { revision: Revision, seen: Vec<Entry> },
    /// This was there; the store was at this revision.
    Seen { revision: Revision, seen: Vec<Entry> },
    /// Nothing: the connection broke, or the store does not know.
    Unknown,
    /// It was not done, because of a lease that is gone or a revision that is yet to come.
    Rejected,
}

/// One request of one client, which makes one at a time.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) client: usize,
    /// The slot that was asked.
    pub(super) slot: usize,
    /// When it was sent, since the run began.
    pub(super) begin: Duration,
    /// When the answer had come.
    pub(super) end: Duration,
    pub(super) request: Request,
    pub(super) outcome: Outcome,
}

/// A change, as a watcher is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// Of a deletion: the key and its revision.
    pub(super) entry: Entry,
    pub(super) deleted: bool,
    pub(super) previous: Option<Entry>,
}

/// What one answer brought.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) at: Duration,
    pub(super) events: Vec<Event>,
}

/// What a watcher of everything saw.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    /// The slot that it watched.
    pub(super) slot: usize,
    pub(super) batches: Vec<Batch>,
    /// How often it had to ask again.
    pub(super) resumed: usize,
    pub(super) end: End,
}

/// How a watcher ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It saw the last change of all.
    Complete,
    /// There was nobody to tell it, and nobody is to blame.
    Abandoned,
    /// It waited in vain.
    Starved,
}

/// The life of a lease that was granted.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub(super) id: i64,
    pub(super) ttl: Duration,
    /// When the last request was sent, the grant or a renewal, that was acknowledged.
    pub(super) renewed: Duration,
    /// Whether somebody asked for its end.
    pub(super) revoked: bool,
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    pub(super) operations: Vec<Operation>,
    pub(super) watched: Vec<Watched>,
    pub(super) lives: Vec<Life>,
}
