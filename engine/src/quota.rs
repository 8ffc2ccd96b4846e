//! How much a request would add to the store, for the quota: etcd's estimates.

use crate::api::Request;
use crate::api::etcdserverpb::request_op::Request as Op;
use crate::api::etcdserverpb::{PutRequest, RequestOp, TxnRequest};
use crate::convert::to_u64;

/// What a key costs beside its bytes.
const KEY_BYTES: u64 = 256;
/// What a lease costs.
const LEASE_BYTES: u64 = 64;

/// An estimate in bytes; zero if the request adds nothing, and is then allowed when space is short.
pub(crate) fn cost(request: &Request) -> u64 {
    match request {
        Request::Put(put) => put_cost(put),
        Request::Txn(txn) => txn_cost(txn),
        Request::LeaseGrant(_) => LEASE_BYTES,
        Request::Range(_)
        | Request::RangeStream(_)
        | Request::DeleteRange(_)
        | Request::Compact(_)
        | Request::LeaseRevoke(_)
        | Request::LeaseKeepAlive(_)
        | Request::LeaseTimeToLive(_)
        | Request::LeaseLeases
        | Request::MemberList(_)
        | Request::Alarm(_)
        | Request::Status
        | Request::Defragment
        | Request::Hash
        | Request::HashKv(_)
        | Request::Snapshot
        | Request::Members(_)
        | Request::MoveLeader(_)
        | Request::Auth(_)
        | Request::AuthQuery(_)
        | Request::Authenticate(_) => 0,
    }
}

fn put_cost(put: &PutRequest) -> u64 {
    KEY_BYTES + to_u64(put.key.len()) + to_u64(put.value.len())
}

/// The cost of the dearer branch, whatever is nested in it.
pub(crate) fn txn_cost(txn: &TxnRequest) -> u64 {
    let branch = |ops: &[RequestOp]| ops.iter().map(op_cost).sum::<u64>();
    branch(&txn.success).max(branch(&txn.failure))
}

fn op_cost(op: &RequestOp) -> u64 {
    match &op.request {
        Some(Op::RequestPut(put)) => put_cost(put),
        Some(Op::RequestTxn(txn)) => txn_cost(txn),
        Some(Op::RequestRange(_) | Op::RequestDeleteRange(_)) | None => 0,
    }
}
