//! What clients ask: any valid request, drawn field by field, near to what is.

use std::sync::Arc;

use bytes::Bytes;
use cairn_engine::LeaseId;
use cairn_engine::api::Request;
use cairn_engine::api::authpb::Permission;
use cairn_engine::api::check;
use cairn_engine::api::etcdserverpb::alarm_request::AlarmAction;
use cairn_engine::api::etcdserverpb::compare::{CompareTarget, TargetUnion};
use cairn_engine::api::etcdserverpb::request_op::Request as Op;
use cairn_engine::api::etcdserverpb::{
    AlarmRequest, AlarmType, AuthRoleAddRequest, AuthRoleDeleteRequest,
    AuthRoleGrantPermissionRequest, AuthRoleRevokePermissionRequest, AuthUserAddRequest,
    AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGrantRoleRequest,
    AuthUserRevokeRoleRequest, CompactionRequest, Compare, DeleteRangeRequest, HashKvRequest,
    LeaseGrantRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest,
    RequestOp, TxnRequest, WatchCreateRequest,
};
use cairn_engine::auth::{Assignment, Change, Credential, TokenId};
use cairn_engine::command::Command;

use crate::model::Model;
use crate::random::Random;
use crate::swarm::{Kind, Work};

/// Draws requests.
#[derive(Debug)]
pub struct Generator {
    work: Work,
    random: Random,
    values: u64,
    /// The shortest TTL that is granted.
    ttl_min: i64,
    /// Draws who asks, and changes of users and roles.
    people: Random,
    /// Tokens that were assigned, and whose they are.
    tokens: Vec<(TokenId, Arc<str>)>,
    digests: u8,
}

/// Somebody who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// What they show.
    pub credential: Credential,
    /// Who they are, if anybody.
    pub user: Option<Arc<str>>,
}

/// What the log says of a request as it was asked, if it goes through the log.
pub fn command_of(request: &Request) -> Option<Command> {
    Some(match request.clone() {
        Request::Put(request) => Command::Put(request),
        Request::DeleteRange(request) => Command::DeleteRange(request),
        Request::Txn(request) if !check::is_read_only(&request) => Command::Txn(request),
        Request::Compact(request) => Command::Compact(request),
        Request::LeaseGrant(request) => Command::LeaseGrant(request),
        Request::LeaseRevoke(request) => Command::LeaseRevoke(request),
        Request::LeaseKeepAlive(id) => Command::LeaseRenew(vec![id]),
        Request::Alarm(request) => Command::Alarm(request),
        Request::Auth(change) => Command::Auth(change),
        Request::Authenticate(assignment) => Command::Authenticate(assignment),
        Request::Txn(_)
        | Request::Range(_)
        | Request::RangeStream(_)
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
        | Request::AuthQuery(_) => return None,
    })
}

/// Operations in a transaction at most, as etcd has it.
const OPS_MAX: usize = 128;

impl Generator {
    /// Draws from a seed.
    pub fn new(work: Work, seed: u64, ttl_min: i64) -> Self {
        let (random, people) = (Random::new(seed, 11), Random::new(seed, 12));
        Self { work, random, values: 0, ttl_min, people, tokens: Vec::new(), digests: 0 }
    }

    /// Whether there are users.
    fn has_users(&self) -> bool {
        self.work.auth_one_in > 0
    }

    /// Who asks next.
    pub fn client(&mut self, request: &Request, model: &Model) -> Client {
        let nobody = Client { credential: Credential::None, user: None };
        if !self.has_users() {
            return nobody;
        }
        // The operator is a member's own, so that members can be changed whoever is root.
        let is_members = matches!(
            request,
            Request::Authenticate(_) | Request::Members(_) | Request::MoveLeader(_)
        );
        if is_members {
            return Client { credential: Credential::Member, user: None };
        }
        // Who changes users is root, mostly, or nothing would ever change.
        let is_root = matches!(request, Request::Auth(_)) && self.people.chance(7, 8)
            || self.people.chance(1, 6);
        let name: Arc<str> = if is_root { "root".into() } else { self.user().into() };
        let user = Some(Arc::clone(&name));
        match self.people.below(8) {
            0 if !is_root => nobody,
            1 => {
                let behind = self.people.below(3);
                let revision = model.auth().revision().saturating_sub(behind);
                Client { credential: Credential::Signed { name, revision }, user }
            }
            2 | 3 if !self.tokens.is_empty() => {
                let (id, name) = self.people.pick(&self.tokens).clone();
                let digest = if self.people.chance(1, 8) { [0; 32] } else { id.digest };
                let credential = Credential::Token(TokenId { digest, ..id });
                Client { credential, user: Some(name) }
            }
            _ => Client { credential: Credential::CommonName(name), user },
        }
    }

    /// A token was assigned.
    pub fn assigned(&mut self, assignment: &Assignment, index: u64) {
        let id = TokenId { index, digest: assignment.digest };
        self.tokens.push((id, Arc::clone(&assignment.name)));
        if self.tokens.len() > TOKENS_MAX {
            self.tokens.remove(0);
        }
    }

    fn user(&mut self) -> &'static str {
        self.people.pick::<&str>(&["root", "ann", "bob", "cid"])
    }

    fn role(&mut self) -> &'static str {
        self.people.pick::<&str>(&["root", "r", "s"])
    }

    /// Some change of users or roles, or a login.
    fn auth(&mut self, model: &Model) -> Request {
        let (user, role) = (self.user().to_owned(), self.role().to_owned());
        let auth = model.auth();
        let change = match self.people.below(20) {
            // What there must be before it can be enabled.
            0 | 1 if !auth.is_enabled() => Change::UserAdd(user_add("root".to_owned())),
            2 | 3 if !auth.is_enabled() => Change::UserGrantRole(AuthUserGrantRoleRequest {
                user: "root".to_owned(),
                role: "root".to_owned(),
            }),
            4..=6 => Change::Enable,
            7 if self.people.chance(1, 3) => Change::Disable,
            8 => Change::UserDelete(AuthUserDeleteRequest { name: user }),
            9 => Change::UserRevokeRole(AuthUserRevokeRoleRequest { name: user, role }),
            10 => Change::RoleDelete(AuthRoleDeleteRequest { role }),
            11 => Change::RoleAdd(AuthRoleAddRequest { name: role }),
            12 => Change::UserAdd(user_add(user)),
            13 | 14 => Change::UserGrantRole(AuthUserGrantRoleRequest { user, role }),
            15 => {
                let hashed_password = format!("hash {}", self.people.below(9));
                Change::UserChangePassword(AuthUserChangePasswordRequest {
                    name: user,
                    hashed_password,
                    ..Default::default()
                })
            }
            16 => {
                let (key, range_end) = self.permitted_keys();
                let request = AuthRoleRevokePermissionRequest { role, key, range_end };
                Change::RoleRevokePermission(request)
            }
            17 | 18 => {
                let (key, range_end) = self.permitted_keys();
                let perm_type = i32::try_from(self.people.below(3)).expect("small");
                let perm = Some(Permission { perm_type, key, range_end });
                let request = AuthRoleGrantPermissionRequest { name: role, perm };
                Change::RoleGrantPermission(request)
            }
            _ => {
                self.digests = self.digests.wrapping_add(1);
                let checked = auth.revision().saturating_sub(self.people.below(2));
                let digest = [self.digests; 32];
                return Request::Authenticate(Assignment { name: user.into(), digest, checked });
            }
        };
        Request::Auth(change)
    }

    /// Intervals that touch, overlap and have no end.
    fn permitted_keys(&mut self) -> (Bytes, Bytes) {
        let (key, end): (&[u8], &[u8]) = *self.people.pick::<(&[u8], &[u8])>(&[
            (&b"a/"[..], &b"a0"[..]),
            (b"a", b"b"),
            (b"b", b"bc"),
            (b"bc", b"\0"),
            (b"b/1", b""),
            (b"\0", b"\0"),
        ]);
        (Bytes::from_static(key), Bytes::from_static(end))
    }

    /// The next request, near to what `model` is.
    pub fn request(&mut self, model: &Model) -> Request {
        if self.has_users() && self.people.chance(1, self.work.auth_one_in) {
            return self.auth(model);
        }
        match pick(&mut self.random, &self.work.mixture) {
            Kind::Put => Request::Put(self.put()),
            Kind::Delete => Request::DeleteRange(self.delete()),
            Kind::Txn => self.txn(model),
            Kind::Range => Request::Range(self.range(model)),
            Kind::RangeStream => self.range_stream(model),
            Kind::ReadTxn => Request::Txn(self.read_txn(model)),
            Kind::Compact => Request::Compact(CompactionRequest {
                revision: self.old_revision(model).max(0),
                physical: self.random.chance(1, 3),
            }),
            Kind::Grant => Request::LeaseGrant(LeaseGrantRequest {
                id: self.lease(),
                ttl: signed(self.random.magnitude(1, self.work.ttl_max)),
            }),
            Kind::KeepAlive => Request::LeaseKeepAlive(LeaseId(self.lease())),
            Kind::Revoke => Request::LeaseRevoke(LeaseRevokeRequest { id: self.lease() }),
            Kind::TimeToLive => Request::LeaseTimeToLive(LeaseTimeToLiveRequest {
                id: self.lease(),
                keys: self.random.chance(1, 2),
            }),
            Kind::Leases => Request::LeaseLeases,
            Kind::HashKv => {
                Request::HashKv(HashKvRequest { revision: self.old_revision(model).max(0) })
            }
            Kind::Disarm => Request::Alarm(AlarmRequest {
                action: i32::from(AlarmAction::Deactivate),
                member_id: self.random.between(1, 3),
                alarm: i32::from(AlarmType::Nospace),
            }),
        }
    }

    /// What the log says if a request happens; `None`: it does not go through the log.
    pub fn command(&self, request: &Request) -> Option<Command> {
        let mut command = command_of(request)?;
        if let Command::LeaseGrant(request) = &mut command {
            request.ttl = request.ttl.max(self.ttl_min);
        }
        Some(command)
    }

    /// A watch that begins in the past, now, or in the future.
    pub fn watch(&mut self, model: &Model) -> WatchCreateRequest {
        let (key, range_end) = self.keys();
        let start_revision = match self.random.below(6) {
            0 | 1 => 0,
            2 | 3 => self.old_revision(model),
            4 => model.compacted().max(1) + signed(self.random.below(3)) - 1,
            _ => model.revision() + signed(self.random.between(1, 8)),
        };
        let random = &mut self.random;
        let mut filters: Vec<i32> = (0..2).filter(|_| random.chance(1, 6)).collect();
        filters.dedup();
        WatchCreateRequest {
            key,
            range_end,
            start_revision,
            progress_notify: random.chance(1, 3),
            filters,
            prev_kv: random.chance(1, 2),
            watch_id: if random.chance(1, 5) { signed(random.between(1, 4)) } else { 0 },
            fragment: random.chance(1, 3),
        }
    }

    fn key(&mut self) -> Bytes {
        let number = self.random.below(self.work.keys);
        // Hot keys: half of all goes to a tenth.
        let number = if self.random.chance(1, 2) { number / 10 } else { number };
        Bytes::from(format!(
            "{}/{number}",
            ["a", "b", "bc"][usize::try_from(number % 3).expect("small")]
        ))
    }

    /// A key, a prefix, an interval, everything from a key on, or nothing.
    fn keys(&mut self) -> (Bytes, Bytes) {
        let key = self.key();
        match self.random.below(8) {
            0..=3 => (key, Bytes::new()),
            4 => (Bytes::from_static(b"b"), Bytes::from_static(b"c")),
            5 => (Bytes::from_static(&[0]), Bytes::from_static(&[0])),
            6 => (key, Bytes::from_static(&[0])),
            _ => (key, self.key()),
        }
    }

    fn value(&mut self) -> Bytes {
        self.values += 1;
        let mut value = format!("{}:", self.values).into_bytes();
        let bytes = self.random.magnitude(1, self.work.value_bytes_max);
        value.resize(value.len() + usize::try_from(bytes).expect("small"), b'.');
        value.into()
    }

    fn lease(&mut self) -> i64 {
        signed(self.random.between(1, self.work.leases))
    }

    /// A revision that was, or nearly.
    fn old_revision(&mut self, model: &Model) -> i64 {
        let back = signed(self.random.magnitude(1, 200)) - 2;
        (model.revision() - back).max(-1)
    }

    fn put(&mut self) -> PutRequest {
        let ignore_value = self.random.chance(1, 20);
        let ignore_lease = self.random.chance(1, 20);
        PutRequest {
            key: self.key(),
            value: if ignore_value { Bytes::new() } else { self.value() },
            lease: if !ignore_lease && self.random.chance(1, 3) { self.lease() } else { 0 },
            prev_kv: self.random.chance(1, 3),
            ignore_value,
            ignore_lease,
        }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        let (key, range_end) = self.keys();
        DeleteRangeRequest { key, range_end, prev_kv: self.random.chance(1, 2) }
    }

    fn range(&mut self, model: &Model) -> RangeRequest {
        let (key, range_end) = self.keys();
        let rarely = |random: &mut Random, value: i64| if random.chance(1, 12) { value } else { 0 };
        let near = model.revision() - signed(self.random.below(20));
        let revision = self.old_revision(model);
        let random = &mut self.random;
        let sorted = random.chance(1, 5);
        RangeRequest {
            key,
            range_end,
            limit: if random.chance(1, 3) { signed(random.between(1, 6)) } else { 0 },
            revision: if random.chance(1, 3) { revision } else { 0 },
            sort_order: if sorted { i32::try_from(random.below(3)).expect("small") } else { 0 },
            sort_target: if sorted { i32::try_from(random.below(5)).expect("small") } else { 0 },
            serializable: random.chance(1, 3),
            keys_only: random.chance(1, 8),
            count_only: random.chance(1, 8),
            min_mod_revision: rarely(random, near),
            max_mod_revision: rarely(random, near),
            min_create_revision: rarely(random, near),
            max_create_revision: rarely(random, near),
        }
    }

    fn range_stream(&mut self, model: &Model) -> Request {
        let request = self.range(model);
        match check::check_range_stream(&request) {
            Ok(()) => Request::RangeStream(request),
            Err(_) => Request::Range(request),
        }
    }

    /// A comparison that holds more often than not.
    fn compare(&mut self, model: &Model) -> Compare {
        let (key, range_end) =
            if self.random.chance(1, 5) { self.keys() } else { (self.key(), Bytes::new()) };
        let at_key = RangeRequest { key: key.clone(), ..RangeRequest::default() };
        let now = model.range(&at_key).ok().and_then(|found| found.kvs.into_iter().next());
        let now = now.unwrap_or_default();
        let off = if self.random.chance(1, 4) { 1 } else { 0 };
        let (target, union) = match self.random.below(5) {
            0 => (CompareTarget::Version, TargetUnion::Version(now.version + off)),
            1 => (CompareTarget::Create, TargetUnion::CreateRevision(now.create_revision + off)),
            2 => (CompareTarget::Mod, TargetUnion::ModRevision(now.mod_revision + off)),
            3 => (CompareTarget::Value, TargetUnion::Value(now.value)),
            _ => (CompareTarget::Lease, TargetUnion::Lease(now.lease + off)),
        };
        let result = if self.random.chance(3, 4) {
            0
        } else {
            i32::try_from(self.random.below(4)).expect("small")
        };
        Compare { result, target: target.into(), key, range_end, target_union: Some(union) }
    }

    fn compares(&mut self, model: &Model) -> Vec<Compare> {
        (0..self.random.below(3)).map(|_| self.compare(model)).collect()
    }

    fn txn(&mut self, model: &Model) -> Request {
        for _ in 0..DRAWS_MAX {
            let request = self.any_txn(model, 2);
            if check::check_txn(&request, OPS_MAX).is_ok() {
                return Request::Txn(request);
            }
        }
        Request::Put(self.put())
    }

    fn any_txn(&mut self, model: &Model, depth_left: u64) -> TxnRequest {
        let compare = self.compares(model);
        let mut branch = || (0..self.random.below(4)).map(|_| self.op(model, depth_left)).collect();
        TxnRequest { compare, success: branch(), failure: branch() }
    }

    fn op(&mut self, model: &Model, depth_left: u64) -> RequestOp {
        let request = match self.random.below(8) {
            0 | 1 => {
                // Anything else would make most transactions fail as a whole.
                let revision = if self.random.chance(1, 10) { self.old_revision(model) } else { 0 };
                Op::RequestRange(RangeRequest { revision, ..self.range(model) })
            }
            2 => Op::RequestDeleteRange(self.delete()),
            3 if depth_left > 0 => Op::RequestTxn(self.any_txn(model, depth_left - 1)),
            _ => Op::RequestPut(self.put()),
        };
        RequestOp { request: Some(request) }
    }

    fn read_txn(&mut self, model: &Model) -> TxnRequest {
        let compare = self.compares(model);
        let serializable = self.random.chance(1, 3);
        let mut branch = || {
            (0..self.random.below(3))
                .map(|_| {
                    let range = RangeRequest { serializable, ..self.range(model) };
                    RequestOp { request: Some(Op::RequestRange(range)) }
                })
                .collect()
        };
        TxnRequest { compare, success: branch(), failure: branch() }
    }
}

fn user_add(name: String) -> AuthUserAddRequest {
    AuthUserAddRequest { name, hashed_password: "hash".to_owned(), ..Default::default() }
}

/// Tokens that clients remember.
const TOKENS_MAX: usize = 16;

/// How often a transaction is drawn before something simpler is asked.
const DRAWS_MAX: u64 = 10;

/// One of these, by weight.
pub fn pick<T: Copy>(random: &mut Random, weighted: &[(T, u64)]) -> T {
    let total: u64 = weighted.iter().map(|(_, weight)| weight).sum();
    let mut place = random.below(total);
    for (one, weight) in weighted {
        if place < *weight {
            return *one;
        }
        place -= weight;
    }
    unreachable!("the place is below the total")
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).expect("a small number")
}
