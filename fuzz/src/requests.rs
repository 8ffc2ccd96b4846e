//! Requests: each method's message is decoded and checked, and what passes can be decoded again from the log.

use bytes::Bytes;
use cairn_engine::api::Request;
use cairn_engine::api::etcdserverpb::WatchRequest;
use cairn_engine::command::Command;
use cairn_engine::lease::ClusterTime;
use cairn_server::grpc::method::METHODS;
use cairn_server::grpc::unary::{self, Asked, Limits};

use crate::choices::Choices;

const LIMITS: Limits = Limits { txn_ops_max: 128, message_bytes_max: 2 << 20 };

/// Reads a call: its first byte is the method, the rest the message.
pub fn request_decode(data: &[u8]) {
    let mut choices = Choices(data);
    let method = METHODS[usize::from(choices.byte()) % METHODS.len()].method;
    let message = Bytes::copy_from_slice(choices.0);
    // Served as streams, which have doors of their own.
    unary::read_range_stream(message.clone()).ok();
    unary::read_snapshot(message.clone()).ok();
    unary::decode::<WatchRequest>(message.clone()).ok();

    let Ok(Asked::Engine(request)) = unary::read(method, message, LIMITS) else {
        return;
    };
    let command = match request {
        Request::Put(request) => Command::Put(request),
        Request::DeleteRange(request) => Command::DeleteRange(request),
        Request::Txn(request) => Command::Txn(request),
        Request::Compact(request) => Command::Compact(request),
        Request::LeaseGrant(request) => Command::LeaseGrant(request),
        Request::LeaseRevoke(request) => Command::LeaseRevoke(request),
        Request::Alarm(request) => Command::Alarm(request),
        Request::Auth(change) => Command::Auth(change),
        Request::Authenticate(assignment) => Command::Authenticate(assignment),
        // Nothing of these goes into the log as it is.
        Request::Range(_)
        | Request::RangeStream(_)
        | Request::LeaseKeepAlive(_)
        | Request::LeaseTimeToLive(_)
        | Request::LeaseLeases
        | Request::MemberList(_)
        | Request::Status
        | Request::Defragment
        | Request::Hash
        | Request::HashKv(_)
        | Request::Snapshot
        | Request::Members(_)
        | Request::MoveLeader(_)
        | Request::AuthQuery(_) => return,
    };
    let time = ClusterTime(7);
    assert_eq!(Command::decode(command.encode(time)), Ok((time.into(), command)));
}
