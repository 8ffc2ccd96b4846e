//! `Range`: which keys, at which revision, filtered, sorted and cut as etcd does it.

use alloc::vec::Vec;
use core::cmp::Ordering;

use bytes::Bytes;

use super::record::{encode_without_value, len_without_value};
use super::{Record, View};
use crate::api::check::{default_ordering, has_revision_filters};
use crate::api::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::api::etcdserverpb::{RangeRequest, RangeResponse};
use crate::api::mvccpb::KeyValue;
use crate::api::{Error, KeyRange};
use crate::convert::to_usize;
use crate::ids::LeaseId;

/// What a range found; the records are shared, not copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeResult {
    /// The records, in the order of the answer.
    pub records: Vec<Record>,
    /// Whether more were left behind a limit.
    pub more: bool,
    /// How many keys the interval has, whatever limit and filters say.
    pub count: usize,
    /// How much of them the answer shows.
    pub shows: Shows,
}

/// How much of a record an answer shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shows {
    /// All of it.
    #[default]
    Everything,
    /// All but the value.
    NoValue,
    /// Neither value nor lease.
    OnlyKeys,
}

impl Shows {
    /// What etcd shows: it finds keys in its index, which knows no leases, unless it must sort by value
    /// (`FastKeysOnly` in etcd v3.7 txn/range.go).
    fn of(request: &RangeRequest) -> Self {
        match (request.keys_only, request.sort_target()) {
            (false, _) => Self::Everything,
            (true, SortTarget::Value) => Self::NoValue,
            (true, _) => Self::OnlyKeys,
        }
    }
}

impl View {
    /// Answers a range request that passed [`check_range`](crate::api::check::check_range).
    ///
    /// Costs O(log n + answer) at the latest revision without filters or sorting, O(interval) otherwise.
    ///
    /// # Errors
    /// If the revision lies in the future or was compacted.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResult, Error> {
        let revision = self.readable(request.revision)?;
        let keys = KeyRange::from(request);
        let current = revision == self.revision;
        let shows = Shows::of(request);
        if request.count_only {
            let count = if current { self.count(&keys) } else { self.at(revision, &keys).count() };
            return Ok(RangeResult { count, shows, ..RangeResult::default() });
        }
        // What sorts or filters must see everything before it cuts; one beyond the limit tells of more.
        let limit = limit_of(request);
        let cuts_early = default_ordering(request) && !has_revision_filters(request);
        let take = if cuts_early { limit.saturating_add(1) } else { usize::MAX };
        let (mut records, count) = if current {
            let records: Vec<_> = self.current(&keys).take(take).collect();
            (records, self.count(&keys))
        } else {
            let mut versions = self.at(revision, &keys);
            let records: Vec<_> = versions.by_ref().take(take).collect();
            let count = records.len() + versions.count();
            (records, count)
        };
        records.retain(|record| passes(request, record));
        sort(request, &mut records);
        let more = records.len() > limit;
        records.truncate(limit);
        Ok(RangeResult { records, more, count, shows })
    }
}

impl RangeResult {
    /// The result as a message without a header, for answers inside a transaction.
    pub fn to_response(&self) -> RangeResponse {
        let key_value = |record: &Record| {
            let key_value = record.to_key_value();
            match self.shows {
                Shows::Everything => key_value,
                Shows::NoValue => KeyValue { value: Bytes::new(), ..key_value },
                Shows::OnlyKeys => KeyValue { value: Bytes::new(), lease: 0, ..key_value },
            }
        };
        RangeResponse {
            header: None,
            kvs: self.records.iter().map(key_value).collect(),
            more: self.more,
            count: i64::try_from(self.count).expect("keys fit in memory"),
        }
    }

    /// Length of what [`RangeResult::encode_record`] appends.
    pub fn record_len(&self, record: &Record) -> usize {
        match self.shows {
            Shows::Everything => record.message().len(),
            Shows::NoValue => len_without_value(record, record.lease()),
            Shows::OnlyKeys => len_without_value(record, LeaseId::NONE),
        }
    }

    /// Appends the `mvccpb.KeyValue` message of a record as this answer shows it.
    pub fn encode_record(&self, record: &Record, out: &mut Vec<u8>) {
        match self.shows {
            Shows::Everything => out.extend_from_slice(record.message()),
            Shows::NoValue => encode_without_value(record, record.lease(), out),
            Shows::OnlyKeys => encode_without_value(record, LeaseId::NONE, out),
        }
    }
}

/// The limit of a request; no limit is written as zero or less.
fn limit_of(request: &RangeRequest) -> usize {
    u64::try_from(request.limit).ok().filter(|limit| *limit > 0).map_or(usize::MAX, to_usize)
}

/// The four filters; zero means none, bounds are inclusive.
fn passes(request: &RangeRequest, record: &Record) -> bool {
    let modified = record.revision().main;
    let created = record.create_revision();
    (request.max_mod_revision == 0 || modified <= request.max_mod_revision)
        && (request.min_mod_revision == 0 || modified >= request.min_mod_revision)
        && (request.max_create_revision == 0 || created <= request.max_create_revision)
        && (request.min_create_revision == 0 || created >= request.min_create_revision)
}

/// Sorts as asked; no order with a target other than the key means ascending.
fn sort(request: &RangeRequest, records: &mut [Record]) {
    let target = request.sort_target();
    let order = request.sort_order();
    if target == SortTarget::Key && order != SortOrder::Descend {
        return; // The order of the tree.
    }
    let compare = |a: &Record, b: &Record| match target {
        SortTarget::Key => a.key().cmp(b.key()),
        SortTarget::Version => a.version().cmp(&b.version()),
        SortTarget::Create => a.create_revision().cmp(&b.create_revision()),
        SortTarget::Mod => a.revision().main.cmp(&b.revision().main),
        SortTarget::Value => a.value().cmp(b.value()),
    };
    match order {
        SortOrder::None | SortOrder::Ascend => records.sort_by(compare),
        SortOrder::Descend => records.sort_by(|a, b| Ordering::reverse(compare(a, b))),
    }
}
