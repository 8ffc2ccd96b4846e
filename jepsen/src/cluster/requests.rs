//! Requests of ours as requests of the API, and its answers as outcomes.

use bytes::Bytes;
use cairn_engine::api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use cairn_engine::api::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, ResponseHeader, TxnRequest,
    TxnResponse, request_op, response_op,
};
use cairn_engine::api::mvccpb::KeyValue;
use tonic::{Code, Status};

use super::client::Honesty;
use super::history::{Effect, Entry, Guard, Outcome, Reading, Request, Revision, Span};
use crate::Trouble;
use crate::world::connection::{Connection, excuse, wrong};

/// Sends a request once.
pub(super) async fn send(
    connection: &Connection,
    request: &Request,
    honesty: Honesty,
) -> Result<Outcome, Trouble> {
    let answer = match request {
        Request::Read { span, at, reading } => {
            let honest = honesty == Honesty::Honest;
            let serializable = *reading == Reading::Serializable || !honest;
            let request = RangeRequest { revision: *at, serializable, ..range(span) };
            connection.kv().range(request).await.map(|answer| {
                let answer = answer.into_inner();
                let seen = entries(answer.kvs);
                revision(answer.header.as_ref()).map(|revision| Outcome::Seen { revision, seen })
            })
        }
        Request::Write { guards, effects, otherwise } => {
            if let ([], [Effect::Put { key, value, lease }], None) =
                (&guards[..], &effects[..], otherwise)
            {
                let request = PutRequest { prev_kv: true, ..put(key, value, *lease) };
                connection.kv().put(request).await.map(|answer| {
                    let answer = answer.into_inner();
                    let previous = Some(entries(answer.prev_kv.into_iter().collect()));
                    let revision = revision(answer.header.as_ref())?;
                    Ok(Outcome::Written { revision, previous })
                })
            } else {
                let request = transaction(guards, effects, otherwise.as_ref());
                connection.kv().txn(request).await.map(|answer| outcome(answer.into_inner()))
            }
        }
    };
    match answer {
        Ok(outcome) => outcome,
        Err(status) => what_became(status),
    }
}

/// What an error says about what was asked.
pub(super) fn what_became(status: Status) -> Result<Outcome, Trouble> {
    match status.code() {
        // A lease that is gone; a revision that this member does not have yet.
        Code::NotFound if status.message().contains("lease not found") => Ok(Outcome::Rejected),
        Code::OutOfRange if status.message().contains("future revision") => Ok(Outcome::Rejected),
        // A learner; too many at once.
        Code::FailedPrecondition | Code::ResourceExhausted => Ok(Outcome::Unknown),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => excuse(status).map(|()| Outcome::Unknown),
    }
}

fn transaction(guards: &[Guard], effects: &[Effect], otherwise: Option<&Span>) -> TxnRequest {
    let operation = |request| RequestOp { request: Some(request) };
    let success = effects.iter().map(|effect| match effect {
        Effect::Put { key, value, lease } => {
            operation(request_op::Request::RequestPut(put(key, value, *lease)))
        }
        Effect::Delete { key } => {
            let request = DeleteRangeRequest { key: key.clone(), ..DeleteRangeRequest::default() };
            operation(request_op::Request::RequestDeleteRange(request))
        }
    });
    let failure = otherwise.map(|span| operation(request_op::Request::RequestRange(range(span))));
    TxnRequest {
        compare: guards.iter().map(compare).collect(),
        success: success.collect(),
        failure: failure.into_iter().collect(),
    }
}

fn compare(guard: &Guard) -> Compare {
    let (key, target, union) = match guard {
        Guard::Value(key, value) => (key, CompareTarget::Value, TargetUnion::Value(value.clone())),
        Guard::Modified(key, revision) => {
            (key, CompareTarget::Mod, TargetUnion::ModRevision(*revision))
        }
    };
    Compare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key: key.clone(),
        target_union: Some(union),
        ..Compare::default()
    }
}

fn range(span: &Span) -> RangeRequest {
    let (key, range_end) = (span.key().clone(), span.range_end());
    RangeRequest { key, range_end, ..RangeRequest::default() }
}

fn put(key: &Bytes, value: &Bytes, lease: i64) -> PutRequest {
    PutRequest { key: key.clone(), value: value.clone(), lease, ..PutRequest::default() }
}

fn outcome(answer: TxnResponse) -> Result<Outcome, Trouble> {
    let revision = revision(answer.header.as_ref())?;
    if answer.succeeded {
        return Ok(Outcome::Written { revision, previous: None });
    }
    let mut seen = Vec::new();
    for answer in answer.responses {
        let Some(response_op::Response::ResponseRange(answer)) = answer.response else {
            return Err(wrong("the range of a transaction"));
        };
        seen.extend(entries(answer.kvs));
    }
    Ok(Outcome::Refused { revision, seen })
}

fn entries(kvs: Vec<KeyValue>) -> Vec<Entry> {
    kvs.into_iter().map(Entry::from).collect()
}

fn revision(header: Option<&ResponseHeader>) -> Result<Revision, Trouble> {
    header.map(|header| header.revision).ok_or_else(|| wrong("a header"))
}
