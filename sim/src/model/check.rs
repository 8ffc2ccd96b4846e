//! What may be asked at all: etcd's static rules, told plainly.
//!
//! Of two faults a client learns of the first, so the order is part of the rules.
//!
//! # Limits
//!
//! How deep transactions may nest is the engine's own rule and not told here.

use bytes::Bytes;
use cairn_engine::api::Error;
use cairn_engine::api::etcdserverpb::request_op::Request as Op;
use cairn_engine::api::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use cairn_engine::command::Command;

use super::Keys;

/// The longest TTL, in seconds.
const TTL_SECONDS_MAX: i64 = 9_000_000_000;

/// Refuses a command that nobody may propose. `ops_max` is etcd's `--max-txn-ops`.
///
/// # Errors
/// The first fault.
pub fn command(command: &Command, ops_max: usize) -> Result<(), Error> {
    match command {
        Command::Put(request) => put(request),
        Command::DeleteRange(request) => delete_range(request),
        Command::Txn(request) => txn(request, ops_max),
        Command::Compact(request) if request.revision < 0 => Err(Error::Compacted),
        Command::LeaseGrant(request) if request.ttl > TTL_SECONDS_MAX => {
            Err(Error::LeaseTtlTooLarge)
        }
        Command::Compact(_)
        | Command::LeaseGrant(_)
        | Command::LeaseRevoke(_)
        | Command::LeaseRenew(_)
        | Command::LeaseExpire(_)
        | Command::Alarm(_)
        | Command::Members(_)
        | Command::Auth(_)
        | Command::Authenticate(_)
        | Command::Tick => Ok(()),
    }
}

/// Refuses a range.
///
/// # Errors
/// The first fault.
pub fn range(request: &RangeRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if !(0..=2).contains(&request.sort_order) || !(0..=4).contains(&request.sort_target) {
        return Err(Error::InvalidSortOption);
    }
    Ok(())
}

/// Refuses a streamed range.
///
/// # Errors
/// The first fault.
pub fn range_stream(request: &RangeRequest) -> Result<(), Error> {
    range(request)?;
    let (none, ascend, key) = (0, 1, 0);
    if request.sort_order != none && (request.sort_order, request.sort_target) != (ascend, key) {
        return Err(Error::RangeStreamSortOrder);
    }
    if (request.min_mod_revision, request.max_mod_revision) != (0, 0)
        || (request.min_create_revision, request.max_create_revision) != (0, 0)
    {
        return Err(Error::RangeStreamRevisionFilter);
    }
    Ok(())
}

fn put(request: &PutRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Error::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Error::LeaseProvided);
    }
    Ok(())
}

fn delete_range(request: &DeleteRangeRequest) -> Result<(), Error> {
    if request.key.is_empty() { Err(Error::EmptyKey) } else { Ok(()) }
}

fn txn(request: &TxnRequest, ops_max: usize) -> Result<(), Error> {
    txn_ops(request, ops_max)?;
    Writes::of(&request.success)?;
    Writes::of(&request.failure)?;
    Ok(())
}

/// Everything but the rule that no key is written twice.
fn txn_ops(request: &TxnRequest, ops_max: usize) -> Result<(), Error> {
    let ops = [request.compare.len(), request.success.len(), request.failure.len()];
    let ops = ops.into_iter().max().unwrap_or(0);
    if ops > ops_max {
        return Err(Error::TooManyOps);
    }
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Error::EmptyKey);
    }
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Op::RequestRange(request)) => range(request)?,
            Some(Op::RequestPut(request)) => put(request)?,
            Some(Op::RequestDeleteRange(request)) => delete_range(request)?,
            Some(Op::RequestTxn(request)) => txn_ops(request, ops_max - ops)?,
            None => return Err(Error::KeyNotFound),
        }
    }
    Ok(())
}

/// What a branch of a transaction writes, whichever way the transactions in it go.
struct Writes {
    puts: Vec<Bytes>,
    deletions: Vec<Keys>,
}

impl Writes {
    /// Sums up a branch, unless it writes a key twice: its own deletions first, then the transactions in it, one
    /// after the other, then its own puts, each against everything before.
    fn of(branch: &[RequestOp]) -> Result<Self, Error> {
        let mut writes = Self { puts: Vec::new(), deletions: Vec::new() };
        for op in branch {
            if let Some(Op::RequestDeleteRange(request)) = &op.request
                // etcd takes the end literally here, and nothing lies before one zero byte.
                && *request.range_end != [0]
            {
                writes.deletions.push(Keys::new(&request.key, &request.range_end));
            }
        }
        for op in branch {
            if let Some(Op::RequestTxn(request)) = &op.request {
                // Only one of the two runs, so that they may write the same.
                let branches = [Self::of(&request.success)?, Self::of(&request.failure)?];
                for key in branches.iter().flat_map(|branch| &branch.puts) {
                    writes.refuse_second(key)?;
                }
                for branch in branches {
                    writes.puts.extend(branch.puts);
                    writes.deletions.extend(branch.deletions);
                }
            }
        }
        for op in branch {
            if let Some(Op::RequestPut(request)) = &op.request {
                writes.refuse_second(&request.key)?;
                writes.puts.push(request.key.clone());
            }
        }
        Ok(writes)
    }

    fn refuse_second(&self, key: &Bytes) -> Result<(), Error> {
        let deleted = self.deletions.iter().any(|keys| keys.contain(key));
        if deleted || self.puts.contains(key) { Err(Error::DuplicateKey) } else { Ok(()) }
    }
}
