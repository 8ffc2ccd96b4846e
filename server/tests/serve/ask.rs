//! Questions, made short, and answers taken apart.

use bytes::Bytes;
use cairn_engine::api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use cairn_engine::api::etcdserverpb::request_op::Request;
use cairn_engine::api::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use cairn_engine::api::mvccpb::KeyValue;
use tonic::{Code, Response, Status};

pub(crate) fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> PutRequest {
    PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() }
}

pub(crate) fn range(key: impl Into<Bytes>) -> RangeRequest {
    RangeRequest { key: key.into(), ..RangeRequest::default() }
}

/// Keys from `key` up to, but without, `end`.
pub(crate) fn between(key: &'static str, end: &'static str) -> RangeRequest {
    RangeRequest { range_end: Bytes::from_static(end.as_bytes()), ..range(key) }
}

pub(crate) fn everything() -> RangeRequest {
    between("\0", "\0")
}

pub(crate) fn delete(key: &'static str, end: &'static str) -> DeleteRangeRequest {
    let (key, range_end) = (Bytes::from_static(key.as_bytes()), Bytes::from_static(end.as_bytes()));
    DeleteRangeRequest { key, range_end, ..DeleteRangeRequest::default() }
}

pub(crate) fn txn(
    compare: Vec<Compare>,
    success: Vec<Request>,
    failure: Vec<Request>,
) -> TxnRequest {
    let ops = |requests: Vec<Request>| {
        requests.into_iter().map(|request| RequestOp { request: Some(request) }).collect()
    };
    TxnRequest { compare, success: ops(success), failure: ops(failure) }
}

pub(crate) fn compare(key: &'static str, result: CompareResult, target: TargetUnion) -> Compare {
    let kind = match target {
        TargetUnion::Version(_) => CompareTarget::Version,
        TargetUnion::CreateRevision(_) => CompareTarget::Create,
        TargetUnion::ModRevision(_) => CompareTarget::Mod,
        TargetUnion::Value(_) => CompareTarget::Value,
        TargetUnion::Lease(_) => CompareTarget::Lease,
    };
    Compare {
        result: result.into(),
        target: kind.into(),
        key: Bytes::from_static(key.as_bytes()),
        target_union: Some(target),
        ..Compare::default()
    }
}

/// Keys as text.
pub(crate) fn keys(kvs: &[KeyValue]) -> Vec<&str> {
    kvs.iter().map(|kv| core::str::from_utf8(&kv.key).unwrap()).collect()
}

/// The code and text of what must be an error.
pub(crate) fn refusal<T: core::fmt::Debug>(outcome: Result<Response<T>, Status>) -> (Code, String) {
    let status = outcome.expect_err("it is refused");
    (status.code(), status.message().to_owned())
}

/// A refusal as it is expected.
pub(crate) fn with(code: Code, text: &str) -> (Code, String) {
    (code, text.to_owned())
}
