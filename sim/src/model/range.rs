//! `Range`: collect, filter, sort, cut.

use bytes::Bytes;
use cairn_engine::api::Error;
use cairn_engine::api::etcdserverpb::range_request::{SortOrder, SortTarget};
use cairn_engine::api::etcdserverpb::{RangeRequest, RangeResponse};
use cairn_engine::api::mvccpb::KeyValue;

use super::{Keys, Model, number_of};

impl Model {
    /// Answers a range.
    ///
    /// # Errors
    /// If its revision lies in the future or was compacted.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        if request.revision > self.revision {
            return Err(Error::FutureRev);
        }
        if request.revision > 0 && request.revision < self.compacted {
            return Err(Error::Compacted);
        }
        Ok(self.find(request))
    }

    /// Answers a range that can be read.
    pub(super) fn find(&self, request: &RangeRequest) -> RangeResponse {
        let revision = if request.revision > 0 { request.revision } else { self.revision };
        let mut kvs = self.at(revision, &Keys::new(&request.key, &request.range_end));
        let count = number_of(&kvs);
        let mut more = false;
        if request.count_only {
            kvs.clear();
        } else {
            let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0);
            if let Some(limit) = limit
                && cuts_before_it_sorts(request)
            {
                // etcd takes one more, to know whether there are more, and sorts that one, too.
                kvs.truncate(limit.saturating_add(1));
            }
            kvs.retain(|kv| passes(request, kv));
            sort(request, &mut kvs);
            if let Some(limit) = limit {
                more = kvs.len() > limit;
                kvs.truncate(limit);
            }
        }
        if request.keys_only {
            for kv in &mut kvs {
                kv.value = Bytes::new();
                // etcd's index, which is asked unless values decide the order, knows no leases.
                if request.sort_target() != SortTarget::Value {
                    kv.lease = 0;
                }
            }
        }
        RangeResponse { header: self.header(), kvs, more, count }
    }
}

/// Whether the limit is applied to the keys in their order: if nothing is filtered, and no order is asked for
/// but that one. No order at all counts, though etcd then sorts by the target.
fn cuts_before_it_sorts(request: &RangeRequest) -> bool {
    let filters = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    let in_order = match request.sort_order() {
        SortOrder::None => true,
        SortOrder::Ascend => request.sort_target() == SortTarget::Key,
        SortOrder::Descend => false,
    };
    in_order && filters == [0; 4]
}

fn passes(request: &RangeRequest, kv: &KeyValue) -> bool {
    let at_least = |number: i64, bound: i64| bound == 0 || number >= bound;
    let at_most = |number: i64, bound: i64| bound == 0 || number <= bound;
    at_most(kv.mod_revision, request.max_mod_revision)
        && at_least(kv.mod_revision, request.min_mod_revision)
        && at_most(kv.create_revision, request.max_create_revision)
        && at_least(kv.create_revision, request.min_create_revision)
}

/// Sorts by the target; what is equal there stays in the order of the keys.
fn sort(request: &RangeRequest, kvs: &mut [KeyValue]) {
    let compare = |a: &KeyValue, b: &KeyValue| match request.sort_target() {
        SortTarget::Key => a.key.cmp(&b.key),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => a.value.cmp(&b.value),
    };
    match request.sort_order() {
        SortOrder::None | SortOrder::Ascend => kvs.sort_by(compare),
        SortOrder::Descend => kvs.sort_by(|a, b| compare(b, a)),
    }
}
