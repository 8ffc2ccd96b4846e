//! The requests of a Kubernetes API server, and what to do when the store is gone in the middle of one.

use core::time::Duration;

use bytes::Bytes;
use cairn_engine::api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use cairn_engine::api::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest,
    TxnResponse, request_op, response_op,
};
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;

use super::history::Revision;
use crate::Trouble;
use crate::client::etcdserverpb::watch_client::WatchClient;
use crate::world::connection::{Connection, excuse, wrong};

/// A connection to the store, which comes back by itself when the store does.
#[derive(Clone, Debug)]
pub(super) struct Store {
    connection: Connection,
}

/// What became of a conditional write.
#[derive(Debug)]
pub(super) enum Written {
    /// Done, as this revision.
    Done(Revision),
    /// The guard did not hold: this is the revision of what is there, 0 for nothing.
    Refused(Revision),
    /// The connection broke.
    Unknown,
}

impl Store {
    /// Connects with the first request.
    pub(super) fn new(url: &str) -> Result<Self, Trouble> {
        Ok(Self { connection: Connection::new(url)? })
    }

    /// Puts a value, or deletes if there is none, if the object's last change is `guard`. Tries once.
    pub(super) async fn write(
        &self,
        key: &str,
        guard: Revision,
        value: Option<Bytes>,
    ) -> Result<Written, Trouble> {
        let key = Bytes::copy_from_slice(key.as_bytes());
        let unchanged = Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            key: key.clone(),
            target_union: Some(TargetUnion::ModRevision(guard)),
            ..Compare::default()
        };
        let write = match value {
            Some(value) => request_op::Request::RequestPut(PutRequest {
                key: key.clone(),
                value,
                ..PutRequest::default()
            }),
            None => request_op::Request::RequestDeleteRange(DeleteRangeRequest {
                key: key.clone(),
                ..DeleteRangeRequest::default()
            }),
        };
        let read =
            request_op::Request::RequestRange(RangeRequest { key, ..RangeRequest::default() });
        let operation = |request| vec![RequestOp { request: Some(request) }];
        let request = TxnRequest {
            compare: vec![unchanged],
            success: operation(write),
            failure: operation(read),
        };
        match self.connection.kv().txn(request).await {
            Ok(response) => outcome(&response.into_inner()),
            Err(status) => excuse(status).map(|()| Written::Unknown),
        }
    }

    /// Reads, again and again until there is an answer.
    pub(super) async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Trouble> {
        let begin = Instant::now();
        loop {
            match self.connection.kv().range(request.clone()).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => excuse(status)?,
            }
            pause(begin).await?;
        }
    }

    /// Puts without a condition, again and again until there is an answer.
    pub(super) async fn put(&self, key: &str) -> Result<(), Trouble> {
        let begin = Instant::now();
        let key = Bytes::copy_from_slice(key.as_bytes());
        loop {
            let request = PutRequest { key: key.clone(), ..PutRequest::default() };
            match self.connection.kv().put(request).await {
                Ok(_) => return Ok(()),
                Err(status) => excuse(status)?,
            }
            pause(begin).await?;
        }
    }

    /// For watch streams.
    pub(super) fn watch(&self) -> WatchClient<Channel> {
        self.connection.watch()
    }
}

fn outcome(response: &TxnResponse) -> Result<Written, Trouble> {
    let header = response.header.as_ref().ok_or_else(|| wrong("a transaction's header"))?;
    if response.succeeded {
        return Ok(Written::Done(header.revision));
    }
    match response.responses.first().and_then(|answer| answer.response.as_ref()) {
        Some(response_op::Response::ResponseRange(range)) => {
            Ok(Written::Refused(range.kvs.first().map_or(0, |kv| kv.mod_revision)))
        }
        Some(_) | None => Err(wrong("the range of a transaction")),
    }
}

/// Waits a little before the next try, but not for ever.
pub(super) async fn pause(begin: Instant) -> Result<(), Trouble> {
    if begin.elapsed() > OUTAGE_MAX {
        return Err(Trouble(format!("no answer for {OUTAGE_MAX:?}")));
    }
    sleep(Duration::from_millis(10)).await;
    Ok(())
}

/// Longer than any restart.
const OUTAGE_MAX: Duration = Duration::from_secs(180);
