//! The line under a prefix: keys in the order of their creation, each held by a lease. The oldest is the owner.
//!
//! ```text
//!             create revision
//!  name/6a3f   7   the owner
//!  name/51b0   9   waits until 6a3f is gone
//!  name/7e21  12   waits until 51b0 is gone; if that leaves early, until 6a3f is
//! ```
//!
//! Each waits for the one before it only, so that a change wakes one and not all.
//!
//! Unlike etcd, which looks after its own key only when its turn has come, whoever waits watches it too: a client whose
//! lease has ended is told at once.

use core::future::Future;
use core::pin::Pin;

use bytes::{BufMut as _, Bytes, BytesMut};
use cairn_engine::api::Error;
use cairn_engine::api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use cairn_engine::api::etcdserverpb::range_request::{SortOrder, SortTarget};
use cairn_engine::api::etcdserverpb::request_op::Request as Op;
use cairn_engine::api::etcdserverpb::response_op::Response as Done;
use cairn_engine::api::etcdserverpb::watch_create_request::FilterType;
use cairn_engine::api::etcdserverpb::watch_request::RequestUnion;
use cairn_engine::api::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, ResponseHeader, ResponseOp,
    TxnRequest, WatchCreateRequest, WatchRequest,
};
use cairn_engine::api::mvccpb::KeyValue;
use cairn_io::driver::Handle;

use super::{run, unless};

/// A prefix under which keys line up.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    /// The name and a slash.
    prefix: Bytes,
}

/// A key in the line.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) key: Bytes,
    pub(super) create_revision: i64,
}

/// What came of joining.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) place: Place,
    /// Of the transaction that joined.
    pub(super) header: ResponseHeader,
    /// What the key held if it was there before.
    pub(super) found: Option<KeyValue>,
    /// Whether nobody is before it.
    pub(super) owns: bool,
}

/// Why a wait ended without a turn.
#[derive(Debug)]
pub(super) enum Lost {
    /// The key is gone.
    Place,
    /// Nobody waits any more, or the cluster does not answer.
    Error(Error),
}

impl From<Error> for Lost {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Queue {
    pub(super) fn new(name: &[u8]) -> Self {
        let mut prefix = BytesMut::with_capacity(name.len() + 1);
        prefix.put_slice(name);
        prefix.put_u8(b'/');
        Self { prefix: prefix.freeze() }
    }

    /// The end of the prefix's keys: the byte after the slash.
    fn end(&self) -> Bytes {
        let mut end = BytesMut::from(&self.prefix[..]);
        *end.last_mut().expect("a slash") += 1;
        end.freeze()
    }

    /// The key of a lease, as Go prints its number with `%x`.
    fn key(&self, lease: i64) -> Bytes {
        let sign = if lease < 0 { "-" } else { "" };
        let digits = format!("{sign}{:x}", lease.unsigned_abs());
        [&self.prefix, digits.as_bytes()].concat().into()
    }

    /// The oldest key.
    fn oldest(&self) -> RangeRequest {
        RangeRequest {
            key: self.prefix.clone(),
            range_end: self.end(),
            sort_order: SortOrder::Ascend.into(),
            sort_target: SortTarget::Create.into(),
            limit: 1,
            ..RangeRequest::default()
        }
    }

    /// The youngest key that is older than a place.
    fn before(&self, place: &Place) -> RangeRequest {
        RangeRequest {
            sort_order: SortOrder::Descend.into(),
            max_create_revision: place.create_revision - 1,
            ..self.oldest()
        }
    }

    /// What to watch for the first key.
    pub(super) fn watch_for_first(&self, start_revision: i64) -> WatchCreateRequest {
        WatchCreateRequest {
            key: self.prefix.clone(),
            range_end: self.end(),
            start_revision,
            filters: vec![FilterType::Nodelete.into()],
            ..WatchCreateRequest::default()
        }
    }

    /// The owner, and when that was.
    pub(super) async fn owner(
        &self,
        handle: &Handle,
    ) -> Result<(ResponseHeader, Option<KeyValue>), Error> {
        let answer = run(handle, always(vec![Op::RequestRange(self.oldest())])).await?;
        let header = answer.header.unwrap_or_default();
        Ok((header, found(answer.responses.into_iter().next())))
    }

    /// Lines up with a lease. Whoever is there already keeps the place.
    pub(super) async fn join(
        &self,
        handle: &Handle,
        lease: i64,
        value: Bytes,
    ) -> Result<Joined, Error> {
        let key = self.key(lease);
        let put = PutRequest { key: key.clone(), value, lease, ..PutRequest::default() };
        let own = RangeRequest { key: key.clone(), ..RangeRequest::default() };
        let request = TxnRequest {
            compare: vec![created_at(&key, 0)],
            success: ops(vec![Op::RequestPut(put), Op::RequestRange(self.oldest())]),
            failure: ops(vec![Op::RequestRange(own), Op::RequestRange(self.oldest())]),
        };
        let answer = run(handle, request).await?;
        let header = answer.header.unwrap_or_default();
        let [first, second] =
            <[ResponseOp; 2]>::try_from(answer.responses).expect("two questions, two answers");
        let found_own = found(Some(first));
        let create_revision = match &found_own {
            Some(found) => found.create_revision,
            None => header.revision,
        };
        let owner = found(Some(second)).expect("at least the own key is there");
        let owns = owner.create_revision == create_revision;
        let place = Place { key, create_revision };
        Ok(Joined { place, header, found: found_own, owns })
    }

    /// Waits until nobody is before a place, and says when that was. Whoever gives up, or is told an error, leaves the
    /// line.
    pub(super) async fn turn(
        &self,
        handle: &Handle,
        place: &Place,
        mut given_up: Pin<&mut impl Future<Output = Error>>,
    ) -> Result<ResponseHeader, Lost> {
        let waited = self.wait(handle, place, given_up.as_mut()).await;
        if let Err(Lost::Error(_)) = waited {
            // If this fails too, the lease takes the key away.
            place.leave(handle).await.ok();
        }
        waited
    }

    async fn wait(
        &self,
        handle: &Handle,
        place: &Place,
        mut given_up: Pin<&mut impl Future<Output = Error>>,
    ) -> Result<ResponseHeader, Lost> {
        loop {
            let own = RangeRequest { key: place.key.clone(), ..RangeRequest::default() };
            let look = vec![Op::RequestRange(own), Op::RequestRange(self.before(place))];
            let answer = unless(given_up.as_mut(), run(handle, always(look))).await??;
            let header = answer.header.unwrap_or_default();
            let [own, before] =
                <[ResponseOp; 2]>::try_from(answer.responses).expect("two questions, two answers");
            if found(Some(own)).is_none_or(|own| own.create_revision != place.create_revision) {
                return Err(Lost::Place);
            }
            let Some(before) = found(Some(before)) else { return Ok(header) };
            let gone = deleted(handle, [place.key.clone(), before.key], header.revision + 1);
            unless(given_up.as_mut(), gone).await?;
        }
    }
}

impl Place {
    /// Leaves the line, or gives up the first place in it.
    pub(super) async fn leave(&self, handle: &Handle) -> Result<ResponseHeader, Error> {
        let delete = DeleteRangeRequest { key: self.key.clone(), ..DeleteRangeRequest::default() };
        let request = TxnRequest {
            compare: vec![created_at(&self.key, self.create_revision)],
            success: ops(vec![Op::RequestDeleteRange(delete)]),
            failure: Vec::new(),
        };
        Ok(run(handle, request).await?.header.unwrap_or_default())
    }

    /// Says something else in the same place; `None`: the place is another's, or nobody's.
    pub(super) async fn say(
        &self,
        handle: &Handle,
        lease: i64,
        value: Bytes,
    ) -> Result<Option<ResponseHeader>, Error> {
        let put = PutRequest { key: self.key.clone(), value, lease, ..PutRequest::default() };
        let request = TxnRequest {
            compare: vec![created_at(&self.key, self.create_revision)],
            success: ops(vec![Op::RequestPut(put)]),
            failure: Vec::new(),
        };
        let answer = run(handle, request).await?;
        Ok(answer.header.filter(|_| answer.succeeded))
    }
}

/// Waits until one of two keys is deleted, or until that cannot be told any more: whoever waits looks again.
async fn deleted(handle: &Handle, keys: [Bytes; 2], start_revision: i64) {
    let stream = handle.watch(handle.connection());
    for key in keys {
        let filters = vec![FilterType::Noput.into()];
        let create =
            WatchCreateRequest { key, start_revision, filters, ..WatchCreateRequest::default() };
        stream.send(create_watch(create));
    }
    loop {
        let response = stream.receive().await;
        if response.canceled || !response.events.is_empty() {
            return;
        }
        stream.sent(response.encoded_len());
    }
}

/// What is said to a watch stream.
pub(super) fn create_watch(create: WatchCreateRequest) -> WatchRequest {
    WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
}

/// A comparison with the revision at which a key was created; 0: there is no such key.
fn created_at(key: &Bytes, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
        ..Compare::default()
    }
}

fn ops(requests: Vec<Op>) -> Vec<RequestOp> {
    requests.into_iter().map(|request| RequestOp { request: Some(request) }).collect()
}

/// A transaction without a condition.
fn always(requests: Vec<Op>) -> TxnRequest {
    TxnRequest { success: ops(requests), ..TxnRequest::default() }
}

/// The only key that an operation found; `None` if it found none, or was no range.
fn found(answer: Option<ResponseOp>) -> Option<KeyValue> {
    match answer?.response? {
        Done::ResponseRange(range) => range.kvs.into_iter().next(),
        Done::ResponsePut(_) | Done::ResponseDeleteRange(_) | Done::ResponseTxn(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_that_other_clients_make() {
        let queue = Queue::new(b"name");
        assert_eq!(queue.key(0x694d_71dd_f0d9_8101), "name/694d71ddf0d98101");
        assert_eq!(queue.key(10), "name/a");
        assert_eq!(queue.key(-1), "name/-1");
        assert_eq!(queue.key(i64::MIN), "name/-8000000000000000");
        assert_eq!(queue.end(), "name0");
        assert_eq!(Queue::new(b"").key(1), "/1");
    }
}
