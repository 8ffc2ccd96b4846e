//! What a service is given: etcd's requests, a clock, and chance.

use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::poll_fn;
use core::task::Poll;
use core::time::Duration;
use std::rc::Rc;

use bytes::Bytes;
use cairn_engine::api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use cairn_engine::api::etcdserverpb::{
    Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest,
    RequestOp, TxnRequest, WatchCreateRequest, request_op,
};
use cairn_engine::api::mvccpb::KeyValue;
use cairn_engine::api::{Error, Request, Response};
use cairn_engine::{LeaseId, MemberId, StreamId, watch};

use super::desk::{Desk, NOBODY};

/// A client of the cluster. It asks one member as long as that answers, and then another one; it asks nothing twice by
/// itself. Clones are one client.
#[derive(Clone, Debug)]
pub struct Client {
    desk: Rc<RefCell<Desk>>,
    number: usize,
    member: Rc<Cell<Option<MemberId>>>,
}

/// Why a request was not answered as it was to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It was refused, with etcd's words: it was not done, and will not be.
    Refused(Error),
    /// Nobody was there to ask, or a watch stream has ended: nothing was done.
    Unavailable,
    /// Nobody answered: it was done, or will be, or will never be.
    Unknown,
    /// A watch begins before this revision, and what was there is forgotten.
    Compacted(i64),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => write!(f, "refused: {error:?}"),
            Self::Unavailable => f.write_str("nobody is there"),
            Self::Unknown => f.write_str("nobody knows whether it was done"),
            Self::Compacted(revision) => write!(f, "history before revision {revision} is gone"),
        }
    }
}

impl core::error::Error for Trouble {}

/// A key and what is said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
    /// The revision that made it: a number that only grows, so that it can be a fence.
    pub create_revision: i64,
    /// The revision that wrote it last.
    pub mod_revision: i64,
}

/// A change that a watcher is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key's name.
    pub key: String,
    /// Its new value; none: it was deleted.
    pub value: Option<String>,
    /// The revision that changed it.
    pub revision: i64,
}

impl Change {
    pub(super) fn of(event: &watch::Event) -> Self {
        let key = key_of(&event.record.to_key_value());
        let value = (!event.record.is_tombstone()).then_some(key.value);
        Self { key: key.key, value, revision: key.mod_revision }
    }
}

fn key_of(kv: &KeyValue) -> Key {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Key {
        key: text(&kv.key),
        value: text(&kv.value),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
    }
}

/// How long a client waits for an answer.
const DEADLINE_MS: u64 = 8_000;
const MILLI: u64 = 1_000_000;

impl Client {
    pub(super) fn new(desk: Rc<RefCell<Desk>>, number: usize) -> Self {
        Self { desk, number, member: Rc::default() }
    }

    /// The time of the world, which is nobody's clock.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.desk.borrow().world.now_ns())
    }

    /// A number below `bound`, from the seed.
    ///
    /// # Panics
    /// If `bound` is zero.
    pub fn random(&self, bound: u64) -> u64 {
        self.desk.borrow_mut().random.below(bound)
    }

    /// Waits.
    pub async fn sleep_ms(&self, millis: u64) {
        let until = self.now() + Duration::from_millis(millis);
        self.desk.borrow_mut().world.alarm(millis * MILLI, NOBODY);
        poll_fn(|_| if self.now() >= until { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// Asks for anything that etcd can be asked.
    ///
    /// # Errors
    /// If it is refused, or nobody answers within eight seconds.
    pub async fn call(&self, request: Request) -> Result<Response, Trouble> {
        let member = self.desk.borrow_mut().a_member(self.member.get());
        self.member.set(member);
        let Some(member) = member else {
            self.sleep_ms(10).await;
            return Err(Trouble::Unavailable);
        };
        let id = self.desk.borrow_mut().ask(self.number, member, request);
        let until = self.now() + Duration::from_millis(DEADLINE_MS);
        self.desk.borrow_mut().world.alarm(DEADLINE_MS * MILLI, NOBODY);
        let result = poll_fn(|_| {
            let answer = self.desk.borrow_mut().take_answer(id);
            match answer {
                Some(answer) => Poll::Ready(answer),
                None if self.now() >= until => Poll::Ready(Err(Trouble::Unknown)),
                None => Poll::Pending,
            }
        })
        .await;
        self.desk.borrow_mut().forget(id);
        if matches!(result, Err(Trouble::Unknown)) {
            self.member.set(None);
        }
        result
    }

    /// Writes a key; the revision.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn put(&self, key: &str, value: &str) -> Result<i64, Trouble> {
        self.put_with(key, value, 0).await
    }

    /// Writes a key that ends with a lease; the revision.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn put_with(&self, key: &str, value: &str, lease: i64) -> Result<i64, Trouble> {
        let Response::Put(response) = self.call(Request::Put(put(key, value, lease))).await? else {
            unreachable!("a put is answered by such an answer");
        };
        Ok(response.header.unwrap_or_default().revision)
    }

    /// Reads a key: what is there now, wherever it is asked.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn get(&self, key: &str) -> Result<Option<Key>, Trouble> {
        let key = Bytes::copy_from_slice(key.as_bytes());
        let (mut keys, _) = self.range(RangeRequest { key, ..RangeRequest::default() }).await?;
        Ok(keys.pop())
    }

    /// Reads all keys that begin so, in order, and the revision at which they were so.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn get_prefix(&self, prefix: &str) -> Result<(Vec<Key>, i64), Trouble> {
        let (key, range_end) = range_of(prefix);
        self.range(RangeRequest { key, range_end, ..RangeRequest::default() }).await
    }

    async fn range(&self, request: RangeRequest) -> Result<(Vec<Key>, i64), Trouble> {
        let Response::Range(answer) = self.call(Request::Range(request)).await? else {
            unreachable!("a range is answered by such an answer");
        };
        let keys = answer.result.to_response().kvs.iter().map(key_of).collect();
        Ok((keys, answer.header.revision))
    }

    /// Deletes a key; whether it was there.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn delete(&self, key: &str) -> Result<bool, Trouble> {
        let key = Bytes::copy_from_slice(key.as_bytes());
        let request = DeleteRangeRequest { key, ..DeleteRangeRequest::default() };
        let Response::DeleteRange(response) = self.call(Request::DeleteRange(request)).await?
        else {
            unreachable!("a deletion is answered by such an answer");
        };
        Ok(response.deleted > 0)
    }

    /// Makes a key that ends with a lease, unless it is there: its revision, which no other maker of this key ever has, and
    /// later ones have a larger one of.
    ///
    /// # Errors
    /// As [`Client::call`]. If it is unknown, a [`Client::get`] tells whose the key is.
    pub async fn create(&self, key: &str, value: &str, lease: i64) -> Result<Option<i64>, Trouble> {
        self.put_if((key, 0), key, value, lease).await
    }

    /// Writes a key as long as another one is the one that was made at a revision: the write of a fenced lock. The
    /// revision, or none if it is not.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn put_fenced(
        &self,
        (lock, create_revision): (&str, i64),
        key: &str,
        value: &str,
    ) -> Result<Option<i64>, Trouble> {
        self.put_if((lock, create_revision), key, value, 0).await
    }

    async fn put_if(
        &self,
        (guard, create_revision): (&str, i64),
        key: &str,
        value: &str,
        lease: i64,
    ) -> Result<Option<i64>, Trouble> {
        let compare = Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Create.into(),
            key: Bytes::copy_from_slice(guard.as_bytes()),
            target_union: Some(TargetUnion::CreateRevision(create_revision)),
            ..Compare::default()
        };
        let then = request_op::Request::RequestPut(put(key, value, lease));
        let request = TxnRequest {
            compare: vec![compare],
            success: vec![RequestOp { request: Some(then) }],
            failure: Vec::new(),
        };
        let Response::Txn(response) = self.call(Request::Txn(request)).await? else {
            unreachable!("a transaction is answered by such an answer");
        };
        let revision = response.header.unwrap_or_default().revision;
        Ok(response.succeeded.then_some(revision))
    }

    /// Makes a lease of at least so many seconds: its name.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn grant(&self, ttl_secs: i64) -> Result<i64, Trouble> {
        let id = i64::try_from(self.random(u64::MAX / 4) + 1).expect("a quarter of the numbers");
        let request = LeaseGrantRequest { ttl: ttl_secs, id };
        self.call(Request::LeaseGrant(request)).await.map(|_| id)
    }

    /// Renews a lease: the seconds that it has from when this was asked; zero if it is no more.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn keep_alive(&self, lease: i64) -> Result<i64, Trouble> {
        let Response::LeaseKeepAlive(response) =
            self.call(Request::LeaseKeepAlive(LeaseId(lease))).await?
        else {
            unreachable!("a renewal is answered by such an answer");
        };
        Ok(response.ttl)
    }

    /// Ends a lease, and with it its keys.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn revoke(&self, lease: i64) -> Result<(), Trouble> {
        let request = LeaseRevokeRequest { id: lease };
        self.call(Request::LeaseRevoke(request)).await.map(|_| ())
    }

    /// Watches all keys that begin so, from a revision on, at some member.
    ///
    /// # Errors
    /// If nobody is there.
    pub fn watch_prefix(&self, prefix: &str, from_revision: i64) -> Result<Watch, Trouble> {
        let (key, range_end) = range_of(prefix);
        let create = WatchCreateRequest {
            key,
            range_end,
            start_revision: from_revision,
            ..WatchCreateRequest::default()
        };
        let mut desk = self.desk.borrow_mut();
        let member = desk.a_member(None).ok_or(Trouble::Unavailable)?;
        let stream = desk.open(member, create);
        Ok(Watch { desk: Rc::clone(&self.desk), stream })
    }
}

/// A watcher. It ends when it is dropped.
#[derive(Debug)]
pub struct Watch {
    desk: Rc<RefCell<Desk>>,
    stream: StreamId,
}

impl Watch {
    /// What changed next, in the order of the revisions; all that one revision changed comes at once.
    ///
    /// # Errors
    /// [`Trouble::Unavailable`] if the stream has ended: another watch goes on, from the revision after the last that was
    /// seen. [`Trouble::Compacted`] if what it asks for is forgotten: only a new read helps.
    pub async fn next(&mut self) -> Result<Vec<Change>, Trouble> {
        poll_fn(|_| {
            let said = self.desk.borrow_mut().take_said(self.stream);
            said.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.desk.borrow_mut().close(self.stream);
    }
}

fn put(key: &str, value: &str, lease: i64) -> PutRequest {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    PutRequest { key: bytes(key), value: bytes(value), lease, ..PutRequest::default() }
}

/// First key and end of all keys that begin so. The last byte of a text can be counted up: none is 255.
fn range_of(prefix: &str) -> (Bytes, Bytes) {
    let mut end = prefix.as_bytes().to_vec();
    match end.last_mut() {
        Some(last) => *last += 1,
        None => return (Bytes::from_static(&[0]), Bytes::from_static(&[0])),
    }
    (Bytes::copy_from_slice(prefix.as_bytes()), end.into())
}
