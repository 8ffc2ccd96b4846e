//! `RangeStream`: a range answered in parts, all of one moment.
//!
//! Concatenating the parts gives what [`View::range`] would have given. The first part is small, so that a
//! client sees something soon; later ones grow or shrink towards a size in bytes.

use alloc::vec::Vec;

use bytes::Bytes;
use prost::Message;

use crate::api::etcdserverpb::range_request::SortTarget;
use crate::api::etcdserverpb::{RangeRequest, RangeResponse, RangeStreamResponse, ResponseHeader};
use crate::api::{Error, KeyRange};
use crate::convert::{to_u64, to_usize};
use crate::mvcc::{RangeResult, View};
use crate::storage::Damage;

/// Keys in the first part.
const FIRST_KEYS_MAX: usize = 10;

/// The rest of an answer.
#[derive(Clone, Debug)]
pub struct RangeStream {
    view: View,
    revision: i64,
    /// What is left of the interval.
    rest: RangeRequest,
    header: ResponseHeader,
    /// Keys that the limit still allows.
    left: usize,
    /// Keys that all of the interval has.
    count: usize,
    part_keys_max: usize,
    part_bytes_goal: usize,
    done: bool,
}

impl RangeStream {
    /// Begins an answer to a request that passed
    /// [`check_range_stream`](crate::api::check::check_range_stream), in parts of about `part_bytes_goal`.
    ///
    /// # Errors
    /// If the revision lies in the future or was compacted.
    pub fn new(view: View, request: &RangeRequest, part_bytes_goal: usize) -> Result<Self, Error> {
        let revision = view.readable(request.revision)?;
        let range = KeyRange::from(request);
        let current = revision == view.revision();
        let count = if current { view.count(&range) } else { view.at(revision, &range).count() };
        let limit = u64::try_from(request.limit).ok().filter(|limit| *limit > 0);
        let header = ResponseHeader { revision: view.revision(), ..ResponseHeader::default() };
        Ok(Self {
            view,
            revision,
            // A target without an order is allowed, but parts come in the order of the keys: each goes on
            // behind the last key of the one before. Unlike etcd 3.7, which sorts every part by the target and
            // so sends keys twice and loses others.
            rest: RangeRequest { sort_target: SortTarget::Key.into(), ..request.clone() },
            header,
            left: if request.count_only { 0 } else { limit.map_or(usize::MAX, to_usize) },
            count,
            part_keys_max: FIRST_KEYS_MAX,
            part_bytes_goal,
            done: false,
        })
    }

    /// The header of the last part.
    pub fn header_mut(&mut self) -> &mut ResponseHeader {
        &mut self.header
    }

    /// What could not be read, if anything: then no part may be given out any more.
    pub fn damage(&self) -> Option<Damage> {
        self.view.damage()
    }

    /// The next part, a `RangeStreamResponse` in wire form; `None` after the last.
    pub fn next_part(&mut self) -> Option<Vec<u8>> {
        if self.done {
            return None;
        }
        let limit = self.left.min(self.part_keys_max);
        let found = if limit == 0 { RangeResult::default() } else { self.find(limit) };
        self.left -= found.records.len();
        let mut response = found.to_response();
        // Only the last part has a count, the header, and news of what is beyond the limit.
        response.count = 0;
        match found.records.last() {
            Some(last) if found.more && self.left > 0 => {
                response.more = false;
                let mut next = last.key().to_vec();
                next.push(0);
                self.rest.key = Bytes::from(next);
            }
            _ => {
                self.done = true;
                self.finish(&mut response);
            }
        }
        let part = RangeStreamResponse { range_response: Some(response) }.encode_to_vec();
        self.pace(part.len());
        Some(part)
    }

    fn find(&self, limit: usize) -> RangeResult {
        let limit = i64::try_from(to_u64(limit)).unwrap_or(i64::MAX);
        let request = RangeRequest { limit, revision: self.revision, ..self.rest.clone() };
        self.view.range(&request).expect("the view is pinned")
    }

    fn finish(&mut self, response: &mut RangeResponse) {
        response.header = Some(self.header);
        response.count = i64::try_from(to_u64(self.count)).expect("keys fit in memory");
        // Asked for the count only, nothing was left behind.
        response.more = response.more && !self.rest.count_only;
    }

    fn pace(&mut self, part_bytes: usize) {
        if part_bytes < self.part_bytes_goal / 2 {
            self.part_keys_max = self.part_keys_max.saturating_mul(2);
        } else if part_bytes > self.part_bytes_goal {
            self.part_keys_max = (self.part_keys_max / 2).max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::LeaseId;
    use crate::mvcc::Store;

    /// Thirty keys `k00`, `k00\0`, `k01`, `k01\0`, …, with values that fall while the keys rise.
    fn view() -> View {
        let mut store = Store::default();
        for number in 0..30 {
            let next = if number % 2 == 0 { "" } else { "\0" };
            let key = alloc::format!("k{:02}{next}", number / 2);
            let value = alloc::format!("{}", 99 - number);
            let mut write = store.begin();
            drop(write.put(key.as_bytes(), value.as_bytes(), LeaseId::NONE));
            drop(write.finish());
        }
        store.view()
    }

    fn parts(request: &RangeRequest, part_bytes_goal: usize) -> Vec<RangeResponse> {
        let mut stream = RangeStream::new(view(), request, part_bytes_goal).unwrap();
        core::iter::from_fn(|| stream.next_part())
            .map(|part| RangeStreamResponse::decode(&*part).unwrap().range_response.unwrap())
            .collect()
    }

    fn everything() -> RangeRequest {
        RangeRequest {
            key: Bytes::from_static(b"k"),
            range_end: Bytes::from_static(b"l"),
            ..RangeRequest::default()
        }
    }

    #[test]
    fn a_target_without_an_order_changes_nothing() {
        let request = RangeRequest { sort_target: SortTarget::Value.into(), ..everything() };
        for goal in [1, 200, 1 << 20] {
            let parts = parts(&request, goal);
            let keys = parts.iter().flat_map(|part| &part.kvs).map(|kv| &kv.key);
            assert!(keys.clone().is_sorted());
            assert_eq!(keys.count(), 30);
            assert_eq!(parts, self::parts(&everything(), goal));
        }
    }

    #[test]
    fn parts_begin_small_and_grow_towards_the_goal() {
        let lens = |goal| -> Vec<usize> {
            parts(&everything(), goal).iter().map(|part| part.kvs.len()).collect()
        };
        assert_eq!(lens(1 << 20), [10, 20]);
        assert_eq!(lens(1), [10, 5, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
    }

    #[test]
    fn the_last_part_alone_tells_of_the_whole() {
        let parts = parts(&RangeRequest { limit: 12, ..everything() }, 1 << 20);
        let told: Vec<_> = parts
            .iter()
            .map(|part| (part.kvs.len(), part.more, part.count, part.header.is_some()))
            .collect();
        assert_eq!(told, [(10, false, 0, false), (2, true, 30, true)]);
    }

    #[test]
    fn a_count_is_one_part() {
        let parts = parts(&RangeRequest { count_only: true, limit: 3, ..everything() }, 1 << 20);
        let [part] = parts.as_slice() else { panic!("{parts:?}") };
        assert_eq!((part.kvs.len(), part.more, part.count), (0, false, 30));
    }
}
