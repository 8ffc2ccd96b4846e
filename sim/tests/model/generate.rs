//! Random requests: every field of every message by itself, so that no combination is left out, and a few that
//! are not quite valid.
//!
//! A revision is drawn in relation to the present ([`from_now`]) or to the last compaction ([`from_compacted`]),
//! so that both sides of every boundary come up; [`Resolve`] turns it into a number when the request is used.

use bytes::Bytes;
use cairn_engine::LeaseId;
use cairn_engine::api::etcdserverpb::compare::TargetUnion;
use cairn_engine::api::etcdserverpb::request_op::Request as Op;
use cairn_engine::api::etcdserverpb::{
    AlarmRequest, CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest,
    LeaseRevokeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use cairn_engine::command::Command;
use cairn_sim::model::Model;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Few keys with common prefixes, so that requests meet, and neighbours of every boundary.
fn key() -> impl Strategy<Value = Bytes> {
    const KEYS: [&[u8]; 8] = [b"a", b"a\0", b"ab", b"b", b"ba", b"c", b"\0", b"\xff\xff"];
    prop_oneof![
        250 => select(&KEYS[..]).prop_map(Bytes::from_static),
        1 => Just(Bytes::from(vec![b'b'; 3000])),
        // An empty key is refused, wherever it is.
        1 => Just(Bytes::new()),
    ]
}

/// Single keys, prefixes, intervals (empty and upside-down ones, too), and everything from a key on.
fn keys() -> impl Strategy<Value = (Bytes, Bytes)> {
    let end_of_prefix = |key: &Bytes| match key.split_last() {
        Some((last, rest)) if *last < u8::MAX => Bytes::from([rest, &[last + 1]].concat()),
        _ => Bytes::from_static(&[0]),
    };
    prop_oneof![
        5 => key().prop_map(|key| (key, Bytes::new())),
        2 => key().prop_map(move |key| { let end = end_of_prefix(&key); (key, end) }),
        3 => (key(), key()),
        1 => key().prop_map(|key| (key, Bytes::from_static(&[0]))),
        1 => Just((Bytes::from_static(&[0]), Bytes::from_static(&[0]))),
    ]
}

fn value() -> impl Strategy<Value = Bytes> {
    const FEW: [&[u8]; 4] = [b"", b"u", b"v", b"w"];
    prop_oneof![
        30 => select(&FEW[..]).prop_map(Bytes::from_static),
        30 => (0..1000_u32).prop_map(|number| Bytes::from(number.to_string())),
        1 => any::<u8>().prop_map(|byte| Bytes::from(vec![byte; 100 << 10])),
    ]
}

/// Names of leases; also of leases that do not exist.
fn lease() -> impl Strategy<Value = i64> {
    select(&[1, 2, -7, i64::MAX][..])
}

/// Shifts that mark a revision as related to the present or to the compact revision; each is in the middle of
/// the numbers that are taken so.
const NOW: i64 = 0x000f_0000;
const COMPACTED: i64 = 0x001f_0000;

fn from_now(by: impl Strategy<Value = i64>) -> impl Strategy<Value = i64> {
    by.prop_map(|by| NOW + by)
}

fn from_compacted(by: impl Strategy<Value = i64>) -> impl Strategy<Value = i64> {
    by.prop_map(|by| COMPACTED + by)
}

/// A revision to read at: mostly one that can be read.
fn revision() -> impl Strategy<Value = i64> {
    prop_oneof![
        20 => Just(0),
        10 => from_now(-10..=0_i64),
        1 => from_now(1..=2_i64),
        5 => from_compacted(0..=2_i64),
        1 => from_compacted(-2..=-1_i64),
        1 => select(&[-1, -2, 1, i64::MIN, i64::MAX][..]),
    ]
}

/// A bound for revisions; mostly none.
fn bound() -> impl Strategy<Value = i64> {
    prop_oneof![
        6 => Just(0),
        2 => from_now(-8..=1_i64),
        1 => select(&[-1, 1, i64::MIN, i64::MAX][..]),
    ]
}

pub(crate) fn range() -> impl Strategy<Value = RangeRequest> {
    let limit =
        prop_oneof![3 => Just(0), 5 => 1..=4_i64, 1 => select(&[-1, 20, i64::MAX, i64::MIN][..])];
    let sort = prop_oneof![60 => (0..=2, 0..=4), 1 => (-1..=3, -1..=5)];
    let sort = prop_oneof![1 => Just((0, 0)), 1 => sort];
    let bounds = prop_oneof![2 => Just((0, 0, 0, 0)), 1 => (bound(), bound(), bound(), bound())];
    let switches = (any::<bool>(), prop::bool::weighted(0.3), prop::bool::weighted(0.1));
    (keys(), limit, revision(), sort, switches, bounds).prop_map(
        |((key, range_end), limit, revision, sort, switches, bounds)| RangeRequest {
            key,
            range_end,
            limit,
            revision,
            sort_order: sort.0,
            sort_target: sort.1,
            serializable: switches.0,
            keys_only: switches.1,
            count_only: switches.2,
            min_mod_revision: bounds.0,
            max_mod_revision: bounds.1,
            min_create_revision: bounds.2,
            max_create_revision: bounds.3,
        },
    )
}

fn put() -> impl Strategy<Value = PutRequest> {
    let lease = prop_oneof![2 => Just(0), 1 => lease()];
    let keeps = prop_oneof![8 => Just((false, false)), 1 => any::<(bool, bool)>()];
    (key(), value(), lease, any::<bool>(), keeps, prop::bool::weighted(0.05)).prop_map(
        |(key, value, lease, prev_kv, (ignore_value, ignore_lease), contradicts)| PutRequest {
            key,
            value: if ignore_value && !contradicts { Bytes::new() } else { value },
            lease: if ignore_lease && !contradicts { 0 } else { lease },
            prev_kv,
            ignore_value,
            ignore_lease,
        },
    )
}

fn delete_range() -> impl Strategy<Value = DeleteRangeRequest> {
    (keys(), any::<bool>()).prop_map(|((key, range_end), prev_kv)| DeleteRangeRequest {
        key,
        range_end,
        prev_kv,
    })
}

fn compare() -> impl Strategy<Value = Compare> {
    let given = prop_oneof![
        1 => Just(None),
        3 => (0..4_i64).prop_map(|number| Some(TargetUnion::Version(number))),
        3 => bound().prop_map(|number| Some(TargetUnion::CreateRevision(number))),
        3 => bound().prop_map(|number| Some(TargetUnion::ModRevision(number))),
        3 => value().prop_map(|value| Some(TargetUnion::Value(value))),
        3 => prop_oneof![Just(0), lease()].prop_map(|lease| Some(TargetUnion::Lease(lease))),
    ];
    let result = prop_oneof![30 => 0..=3, 1 => select(&[-1, 4][..])];
    let target = prop_oneof![9 => Just(None), 1 => (-1..=5).prop_map(Some)];
    let interval = prop_oneof![2 => key().prop_map(|key| (key, Bytes::new())), 1 => keys()];
    (result, target, interval, given).prop_map(|(result, target, (key, range_end), given)| {
        let fitting = match &given {
            None | Some(TargetUnion::Version(_)) => 0,
            Some(TargetUnion::CreateRevision(_)) => 1,
            Some(TargetUnion::ModRevision(_)) => 2,
            Some(TargetUnion::Value(_)) => 3,
            Some(TargetUnion::Lease(_)) => 4,
        };
        // A target that does not fit what is given is legal, too.
        let target = target.unwrap_or(fitting);
        Compare { result, target, key, range_end, target_union: given }
    })
}

fn op(depth_left: u32) -> BoxedStrategy<RequestOp> {
    let set = |request: Op| RequestOp { request: Some(request) };
    let leaf = prop_oneof![
        70 => put().prop_map(move |put| set(Op::RequestPut(put))),
        70 => range().prop_map(move |range| set(Op::RequestRange(range))),
        40 => delete_range().prop_map(move |delete| set(Op::RequestDeleteRange(delete))),
        // Unset, which is refused.
        1 => Just(RequestOp { request: None }),
    ];
    if depth_left == 0 {
        return leaf.boxed();
    }
    let nested = txn_of(depth_left - 1).prop_map(move |txn| set(Op::RequestTxn(txn)));
    prop_oneof![5 => leaf, 1 => nested].boxed()
}

/// How deep transactions nest here.
const NESTED_DEPTH_MAX: u32 = 3;

fn txn_of(depth_left: u32) -> BoxedStrategy<TxnRequest> {
    // Narrow below, so that the whole stays small.
    let ops = if depth_left == NESTED_DEPTH_MAX { 6 } else { 3 };
    (vec(compare(), 0..3), vec(op(depth_left), 0..ops), vec(op(depth_left), 0..ops))
        .prop_map(|(compare, success, failure)| TxnRequest { compare, success, failure })
        .boxed()
}

/// A transaction with transactions in it.
fn txn() -> impl Strategy<Value = TxnRequest> {
    txn_of(NESTED_DEPTH_MAX)
}

/// A transaction that only reads.
pub(crate) fn read() -> impl Strategy<Value = TxnRequest> {
    let op = || range().prop_map(|range| RequestOp { request: Some(Op::RequestRange(range)) });
    (vec(compare(), 0..3), vec(op(), 0..3), vec(op(), 0..3))
        .prop_map(|(compare, success, failure)| TxnRequest { compare, success, failure })
}

fn compaction() -> impl Strategy<Value = CompactionRequest> {
    let revision = prop_oneof![
        8 => from_now(-6..=0_i64),
        2 => from_now(1..=2_i64),
        4 => from_compacted(-1..=2_i64),
        1 => select(&[0, -1, -2, i64::MAX][..]),
    ];
    (revision, any::<bool>())
        .prop_map(|(revision, physical)| CompactionRequest { revision, physical })
}

/// The TTL is the effective one, as in every command.
fn lease_grant() -> impl Strategy<Value = LeaseGrantRequest> {
    let ttl = prop_oneof![20 => 2..=20_i64, 1 => select(&[9_000_000_000, 9_000_000_001][..])];
    (ttl, lease()).prop_map(|(ttl, id)| LeaseGrantRequest { ttl, id })
}

fn alarm() -> impl Strategy<Value = AlarmRequest> {
    let action = prop_oneof![2 => Just(0), 2 => Just(1), 3 => Just(2)];
    let alarm = prop_oneof![20 => 0..=2, 1 => Just(3)];
    (action, 1..=2_u64, alarm).prop_map(|(action, member_id, alarm)| AlarmRequest {
        action,
        member_id,
        alarm,
    })
}

/// Any command, as it would come from a client or a leader.
pub(crate) fn command() -> impl Strategy<Value = Command> {
    let leases = || vec(lease().prop_map(LeaseId), 0..4);
    prop_oneof![
        30 => put().prop_map(Command::Put),
        12 => delete_range().prop_map(Command::DeleteRange),
        30 => txn().prop_map(Command::Txn),
        8 => compaction().prop_map(Command::Compact),
        8 => lease_grant().prop_map(Command::LeaseGrant),
        3 => lease().prop_map(|id| Command::LeaseRevoke(LeaseRevokeRequest { id })),
        4 => leases().prop_map(Command::LeaseRenew),
        4 => leases().prop_map(Command::LeaseExpire),
        2 => alarm().prop_map(Command::Alarm),
        1 => Just(Command::Tick),
    ]
}

/// Turns revisions that relate to the present into numbers.
pub(crate) trait Resolve: Sized {
    fn resolve(self, model: &Model) -> Self;
}

impl Resolve for i64 {
    fn resolve(self, model: &Model) -> Self {
        match self {
            0x000e_0000..0x0010_0000 => model.revision() + (self - NOW),
            0x001e_0000..0x0020_0000 => model.compacted() + (self - COMPACTED),
            absolute => absolute,
        }
    }
}

impl Resolve for RangeRequest {
    fn resolve(self, model: &Model) -> Self {
        Self {
            revision: self.revision.resolve(model),
            min_mod_revision: self.min_mod_revision.resolve(model),
            max_mod_revision: self.max_mod_revision.resolve(model),
            min_create_revision: self.min_create_revision.resolve(model),
            max_create_revision: self.max_create_revision.resolve(model),
            ..self
        }
    }
}

impl Resolve for Compare {
    fn resolve(self, model: &Model) -> Self {
        let target_union = self.target_union.map(|given| match given {
            TargetUnion::CreateRevision(at) => TargetUnion::CreateRevision(at.resolve(model)),
            TargetUnion::ModRevision(at) => TargetUnion::ModRevision(at.resolve(model)),
            other @ (TargetUnion::Version(_) | TargetUnion::Value(_) | TargetUnion::Lease(_)) => {
                other
            }
        });
        Self { target_union, ..self }
    }
}

impl Resolve for RequestOp {
    fn resolve(self, model: &Model) -> Self {
        let request = self.request.map(|request| match request {
            Op::RequestRange(range) => Op::RequestRange(range.resolve(model)),
            Op::RequestTxn(txn) => Op::RequestTxn(txn.resolve(model)),
            other @ (Op::RequestPut(_) | Op::RequestDeleteRange(_)) => other,
        });
        Self { request }
    }
}

impl Resolve for TxnRequest {
    fn resolve(self, model: &Model) -> Self {
        let ops = |ops: Vec<RequestOp>| ops.into_iter().map(|op| op.resolve(model)).collect();
        Self {
            compare: self.compare.into_iter().map(|compare| compare.resolve(model)).collect(),
            success: ops(self.success),
            failure: ops(self.failure),
        }
    }
}

impl Resolve for Command {
    fn resolve(self, model: &Model) -> Self {
        match self {
            Self::Txn(request) => Self::Txn(request.resolve(model)),
            Self::Compact(request) => Self::Compact(CompactionRequest {
                revision: request.revision.resolve(model),
                ..request
            }),
            other @ (Self::Put(_)
            | Self::DeleteRange(_)
            | Self::LeaseGrant(_)
            | Self::LeaseRevoke(_)
            | Self::LeaseRenew(_)
            | Self::LeaseExpire(_)
            | Self::Alarm(_)
            | Self::Members(_)
            | Self::Auth(_)
            | Self::Authenticate(_)
            | Self::Tick) => other,
        }
    }
}
