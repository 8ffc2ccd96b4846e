//! Transactions: compare, take one branch, execute it as a whole or not at all.
//!
//! A transaction may hold transactions. All compares of the path that will run look at the state before
//! anything runs; then everything that could fail is checked; then nothing can fail any more. So there is no
//! half of a transaction, on any member.

use alloc::vec::Vec;
use core::cmp::Ordering;

use super::store::Write;
use super::{Record, View};
use crate::api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::api::etcdserverpb::request_op::Request as Op;
use crate::api::etcdserverpb::response_op::Response as OpResponse;
use crate::api::etcdserverpb::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest,
    RangeResponse, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};
use crate::api::{Error, KeyRange};
use crate::convert::to_u64;
use crate::ids::LeaseId;

/// Which branch each transaction takes, in the order in which they are met.
#[derive(Debug)]
struct Path(Vec<bool>);

/// Answers a transaction that only reads: of its operations, only ranges are executed.
///
/// # Errors
/// If one of its ranges reads in the future or what was compacted.
pub fn read(view: &View, request: &TxnRequest) -> Result<TxnResponse, Error> {
    let succeeded = holds_all(view, &request.compare);
    let ranges = branch(request, succeeded).iter().filter_map(|op| match &op.request {
        Some(Op::RequestRange(range)) => Some(range),
        _ => None,
    });
    for range in ranges.clone() {
        check_range(view, range)?;
    }
    let answer = |range| response(OpResponse::ResponseRange(run_range(view, range)));
    let responses = ranges.map(answer).collect();
    Ok(TxnResponse { header: Some(header(view.revision())), succeeded, responses })
}

/// Executes a transaction. If it fails, nothing has changed.
///
/// # Errors
/// If, on the path that would run, a lease or a key to be kept does not exist, or a range cannot be read.
pub fn execute(
    write: &mut Write<'_>,
    request: &TxnRequest,
    lease_exists: impl Fn(LeaseId) -> bool,
) -> Result<TxnResponse, Error> {
    let mut path = Path(Vec::new());
    path.choose(write.view(), request);
    let mut choices = path.0.iter().copied();
    check(write.view(), request, &mut choices, &lease_exists)?;
    let mut choices = path.0.into_iter();
    let mut response = run(write, request, &mut choices);
    response.header = Some(header(write.revision()));
    Ok(response)
}

impl Path {
    /// Decides every compare before anything runs.
    fn choose(&mut self, view: &View, request: &TxnRequest) {
        let succeeded = holds_all(view, &request.compare);
        self.0.push(succeeded);
        for op in branch(request, succeeded) {
            if let Some(Op::RequestTxn(nested)) = &op.request {
                self.choose(view, nested);
            }
        }
    }
}

fn branch(request: &TxnRequest, succeeded: bool) -> &[RequestOp] {
    if succeeded { &request.success } else { &request.failure }
}

fn holds_all(view: &View, compares: &[Compare]) -> bool {
    compares.iter().all(|compare| holds(view, compare))
}

/// Whether a compare holds for every key of its interval; an empty interval is one missing key.
fn holds(view: &View, compare: &Compare) -> bool {
    let range = KeyRange::from(compare);
    let mut records = view.current(&range).peekable();
    if records.peek().is_some() {
        return records.all(|record| holds_for(compare, &record));
    }
    // No value is unequal to a value that is not there, either.
    target(compare) != Some(CompareTarget::Value) && result_is(compare, 0.cmp(&number(compare)))
}

/// What to compare; `None` if this version does not know it, and then everything is equal, as in etcd.
fn target(compare: &Compare) -> Option<CompareTarget> {
    CompareTarget::try_from(compare.target).ok()
}

fn holds_for(compare: &Compare, record: &Record) -> bool {
    let stored = match target(compare) {
        None => 0,
        Some(CompareTarget::Version) => record.version(),
        Some(CompareTarget::Create) => record.create_revision(),
        Some(CompareTarget::Mod) => record.revision().main,
        Some(CompareTarget::Lease) => record.lease().0,
        Some(CompareTarget::Value) => {
            let given = match &compare.target_union {
                Some(TargetUnion::Value(value)) => value.as_ref(),
                _ => &[],
            };
            return result_is(compare, record.value().cmp(given));
        }
    };
    result_is(compare, stored.cmp(&number(compare)))
}

/// The number to compare with; zero where the union holds something that does not fit the target.
fn number(compare: &Compare) -> i64 {
    let (target, union) = (target(compare), &compare.target_union);
    match (target, union) {
        (Some(CompareTarget::Version), Some(TargetUnion::Version(number)))
        | (Some(CompareTarget::Create), Some(TargetUnion::CreateRevision(number)))
        | (Some(CompareTarget::Mod), Some(TargetUnion::ModRevision(number)))
        | (Some(CompareTarget::Lease), Some(TargetUnion::Lease(number))) => *number,
        _ => 0,
    }
}

/// Whether the stored value stands to the given one as the compare says. An unknown relation always holds,
/// as in etcd.
fn result_is(compare: &Compare, ordering: Ordering) -> bool {
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering == Ordering::Equal,
        Ok(CompareResult::Greater) => ordering == Ordering::Greater,
        Ok(CompareResult::Less) => ordering == Ordering::Less,
        Ok(CompareResult::NotEqual) => ordering != Ordering::Equal,
        Err(_) => true,
    }
}

/// Checks everything on the path that could fail.
fn check(
    view: &View,
    request: &TxnRequest,
    choices: &mut impl Iterator<Item = bool>,
    lease_exists: &impl Fn(LeaseId) -> bool,
) -> Result<(), Error> {
    let succeeded = choices.next().expect("a choice for every transaction on the path");
    for op in branch(request, succeeded) {
        match &op.request {
            Some(Op::RequestRange(range)) => check_range(view, range)?,
            Some(Op::RequestPut(put)) => check_put(view, put, lease_exists)?,
            Some(Op::RequestTxn(nested)) => check(view, nested, choices, lease_exists)?,
            Some(Op::RequestDeleteRange(_)) | None => {}
        }
    }
    Ok(())
}

/// Whether a range can be read. Unlike outside of transactions, a revision below −1 is not the latest one but
/// lies before every compaction: etcd does it so.
fn check_range(view: &View, range: &RangeRequest) -> Result<(), Error> {
    if range.revision < 0 && range.revision < view.compacted() {
        return Err(Error::Compacted);
    }
    view.readable(range.revision).map(drop)
}

/// What only the state can tell about a put: that its lease exists, and the key whose value or lease it keeps.
///
/// # Errors
/// If one of them does not.
pub fn check_put(
    view: &View,
    put: &PutRequest,
    lease_exists: impl Fn(LeaseId) -> bool,
) -> Result<(), Error> {
    let lease = LeaseId(put.lease);
    if lease.is_some() && !lease_exists(lease) {
        return Err(Error::LeaseNotFound);
    }
    if (put.ignore_value || put.ignore_lease) && view.get(&put.key).is_none() {
        return Err(Error::KeyNotFound);
    }
    Ok(())
}

fn run(
    write: &mut Write<'_>,
    request: &TxnRequest,
    choices: &mut impl Iterator<Item = bool>,
) -> TxnResponse {
    let succeeded = choices.next().expect("a choice for every transaction on the path");
    let ops = branch(request, succeeded);
    let mut responses = Vec::with_capacity(ops.len());
    for op in ops {
        responses.push(match &op.request {
            Some(Op::RequestRange(range)) => {
                response(OpResponse::ResponseRange(run_range(write.view(), range)))
            }
            Some(Op::RequestPut(put)) => response(OpResponse::ResponsePut(run_put(write, put))),
            Some(Op::RequestDeleteRange(delete)) => {
                response(OpResponse::ResponseDeleteRange(run_delete_range(write, delete)))
            }
            Some(Op::RequestTxn(nested)) => {
                // Its own header stays empty, as etcd leaves it.
                let nested = TxnResponse {
                    header: Some(ResponseHeader::default()),
                    ..run(write, nested, choices)
                };
                response(OpResponse::ResponseTxn(nested))
            }
            None => ResponseOp::default(),
        });
    }
    TxnResponse { header: None, succeeded, responses }
}

/// Executes a range that was checked.
fn run_range(view: &View, request: &RangeRequest) -> RangeResponse {
    let found = view.range(request).expect("the revision was checked");
    RangeResponse { header: Some(header(view.revision())), ..found.to_response() }
}

/// Executes a put that was checked.
pub fn run_put(write: &mut Write<'_>, put: &PutRequest) -> PutResponse {
    let kept = (put.ignore_value || put.ignore_lease).then(|| write.view().get(&put.key)).flatten();
    let value = match &kept {
        Some(kept) if put.ignore_value => kept.value(),
        _ => &put.value,
    };
    let lease = match &kept {
        Some(kept) if put.ignore_lease => kept.lease(),
        _ => LeaseId(put.lease),
    };
    let before = write.put(&put.key, value, lease);
    let prev_kv = before.filter(|_| put.prev_kv).map(|before| before.to_key_value());
    PutResponse { header: Some(header(write.revision())), prev_kv }
}

/// Executes a deletion.
pub fn run_delete_range(write: &mut Write<'_>, delete: &DeleteRangeRequest) -> DeleteRangeResponse {
    let deleted = write.delete_range(&KeyRange::from(delete));
    let prev_kvs = if delete.prev_kv {
        deleted.iter().map(Record::to_key_value).collect()
    } else {
        Vec::new()
    };
    let count = i64::try_from(to_u64(deleted.len())).expect("keys fit in memory");
    DeleteRangeResponse { header: Some(header(write.revision())), deleted: count, prev_kvs }
}

fn header(revision: i64) -> ResponseHeader {
    ResponseHeader { revision, ..ResponseHeader::default() }
}

fn response(response: OpResponse) -> ResponseOp {
    ResponseOp { response: Some(response) }
}
