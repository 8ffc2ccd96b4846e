//! `Txn`: decide the whole way, check everything on it, go.

use cairn_engine::api::Error;
use cairn_engine::api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use cairn_engine::api::etcdserverpb::request_op::Request as Op;
use cairn_engine::api::etcdserverpb::response_op::Response as OpAnswer;
use cairn_engine::api::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, ResponseHeader, ResponseOp,
    TxnRequest, TxnResponse,
};
use cairn_engine::api::mvccpb::KeyValue;

use super::{Keys, Model, Work};

/// A transaction whose compares were decided: the branch that it takes.
struct Path<'a> {
    succeeded: bool,
    steps: Vec<Step<'a>>,
}

enum Step<'a> {
    Range(&'a RangeRequest),
    Put(&'a PutRequest),
    DeleteRange(&'a DeleteRangeRequest),
    Txn(Path<'a>),
}

impl Model {
    /// Answers a transaction that only reads: of its operations, only ranges are looked at.
    ///
    /// # Errors
    /// If one of the ranges that it takes cannot be read.
    pub fn read(&self, request: &TxnRequest) -> Result<TxnResponse, Error> {
        let path = self.decide(request);
        self.check_path(&path)?;
        let mut responses = Vec::new();
        for step in &path.steps {
            if let Step::Range(request) = step {
                let response = OpAnswer::ResponseRange(self.find(request));
                responses.push(ResponseOp { response: Some(response) });
            }
        }
        Ok(TxnResponse { header: self.header(), succeeded: path.succeeded, responses })
    }

    /// Executes a transaction.
    pub(super) fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse, Error> {
        let path = self.decide(request);
        self.check_path(&path)?;
        let mut work = self.begin();
        let response = self.walk(&mut work, &path);
        Ok(TxnResponse { header: self.header(), ..response })
    }

    /// Decides all compares on the way, before anything has happened.
    fn decide<'a>(&self, request: &'a TxnRequest) -> Path<'a> {
        let succeeded = request.compare.iter().all(|compare| self.holds(compare));
        let branch = if succeeded { &request.success } else { &request.failure };
        let step = |op: &'a RequestOp| match &op.request {
            Some(Op::RequestRange(request)) => Step::Range(request),
            Some(Op::RequestPut(request)) => Step::Put(request),
            Some(Op::RequestDeleteRange(request)) => Step::DeleteRange(request),
            Some(Op::RequestTxn(request)) => Step::Txn(self.decide(request)),
            None => panic!("the static rules refuse an operation that is not set"),
        };
        Path { succeeded, steps: branch.iter().map(step).collect() }
    }

    /// Refuses a path on which something would fail, before anything has happened.
    fn check_path(&self, path: &Path<'_>) -> Result<(), Error> {
        for step in &path.steps {
            match step {
                Step::Range(request) => {
                    if request.revision > self.revision {
                        return Err(Error::FutureRev);
                    }
                    // Unlike outside of transactions, a negative revision is a revision like any
                    // other here, and −1 is compacted as soon as anything is (etcd, checkRange).
                    if request.revision != 0 && request.revision < self.compacted {
                        return Err(Error::Compacted);
                    }
                }
                Step::Put(request) => self.check_put(request)?,
                Step::DeleteRange(_) => {}
                Step::Txn(path) => self.check_path(path)?,
            }
        }
        Ok(())
    }

    fn walk(&mut self, work: &mut Work, path: &Path<'_>) -> TxnResponse {
        let mut responses = Vec::new();
        for step in &path.steps {
            let response = match step {
                Step::Range(request) => OpAnswer::ResponseRange(self.find(request)),
                Step::Put(request) => OpAnswer::ResponsePut(self.put(work, request)),
                Step::DeleteRange(request) => {
                    OpAnswer::ResponseDeleteRange(self.delete_range(work, request))
                }
                Step::Txn(path) => OpAnswer::ResponseTxn(self.walk(work, path)),
            };
            responses.push(ResponseOp { response: Some(response) });
        }
        // The header of a nested transaction is there, but empty.
        let header = Some(ResponseHeader::default());
        TxnResponse { header, succeeded: path.succeeded, responses }
    }

    /// Whether a compare holds for every key that it means.
    fn holds(&self, compare: &Compare) -> bool {
        let kvs = self.at(self.revision, &Keys::new(&compare.key, &compare.range_end));
        if kvs.is_empty() {
            // A key that does not exist has version 0, and so on, but no value at all.
            let is_value = CompareTarget::try_from(compare.target) == Ok(CompareTarget::Value);
            return !is_value && holds_for(compare, &KeyValue::default());
        }
        kvs.iter().all(|kv| holds_for(compare, kv))
    }
}

/// Whether a transaction could put something, whichever way it went.
pub(super) fn holds_put(request: &TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).any(|op| match &op.request {
        Some(Op::RequestPut(_)) => true,
        Some(Op::RequestTxn(nested)) => holds_put(nested),
        Some(Op::RequestRange(_) | Op::RequestDeleteRange(_)) | None => false,
    })
}

/// Whether a compare holds for one key. A target of the future equals everything, and a relation of the future
/// always holds: etcd does it so.
fn holds_for(compare: &Compare, kv: &KeyValue) -> bool {
    let given = &compare.target_union;
    let ordering = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => match given {
            Some(TargetUnion::Version(given)) => kv.version.cmp(given),
            _ => kv.version.cmp(&0),
        },
        Ok(CompareTarget::Create) => match given {
            Some(TargetUnion::CreateRevision(given)) => kv.create_revision.cmp(given),
            _ => kv.create_revision.cmp(&0),
        },
        Ok(CompareTarget::Mod) => match given {
            Some(TargetUnion::ModRevision(given)) => kv.mod_revision.cmp(given),
            _ => kv.mod_revision.cmp(&0),
        },
        Ok(CompareTarget::Value) => match given {
            Some(TargetUnion::Value(given)) => kv.value.cmp(given),
            _ => kv.value.as_ref().cmp(b""),
        },
        Ok(CompareTarget::Lease) => match given {
            Some(TargetUnion::Lease(given)) => kv.lease.cmp(given),
            _ => kv.lease.cmp(&0),
        },
        Err(_) => core::cmp::Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        Ok(CompareResult::NotEqual) => ordering.is_ne(),
        Err(_) => true,
    }
}
