//! Users: the engine and the model agree who may what, and no token is too strange to be refused.

use bytes::Bytes;
use cairn_engine::api::authpb::Permission;
use cairn_engine::api::etcdserverpb::request_op::Request as Op;
use cairn_engine::api::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleGrantPermissionRequest, AuthRoleRevokePermissionRequest,
    AuthUserAddRequest, AuthUserGrantRoleRequest, DeleteRangeRequest, PutRequest, RangeRequest,
    RequestOp, TxnRequest,
};
use cairn_engine::auth::{Author, Change, Credential, Identity};
use cairn_engine::command::{Command, Stamp};
use cairn_engine::lease::ClusterTime;
use cairn_engine::state_machine::StateMachine;
use cairn_server::auth::Accounts;
use cairn_sim::model::Model;
use http::header::{AUTHORIZATION, HeaderName};
use http::{HeaderMap, HeaderValue};

use crate::choices::Choices;

/// Ends inputs that would take long and tell nothing new.
const STEPS_MAX: usize = 64;

/// Permits and forbids a role something, and has its user ask for something, in turn.
pub fn permissions(data: &[u8]) {
    let mut choices = Choices(data);
    let (mut state, mut model) = (StateMachine::default(), Model::default());
    let user = |name: &str| AuthUserAddRequest { name: name.into(), ..Default::default() };
    let role =
        |user: &str, role: &str| AuthUserGrantRoleRequest { user: user.into(), role: role.into() };
    for change in [
        Change::UserAdd(user("root")),
        Change::UserGrantRole(role("root", "root")),
        Change::UserAdd(user("ann")),
        Change::RoleAdd(AuthRoleAddRequest { name: "r".into() }),
        Change::UserGrantRole(role("ann", "r")),
        Change::Enable,
    ] {
        both(&mut state, &mut model, Author::Nobody, Command::Auth(change));
    }
    let root = || Author::Member;
    for _ in 0..STEPS_MAX {
        if choices.is_empty() {
            break;
        }
        let kind = choices.byte();
        let (key, range_end) = (some_key(&mut choices), some_key(&mut choices));
        let (author, command) = match kind % 8 {
            0 | 1 => {
                let perm_type = i32::from(kind / 8 % 4);
                let perm = Some(Permission { perm_type, key, range_end });
                let request = AuthRoleGrantPermissionRequest { name: "r".into(), perm };
                (root(), Command::Auth(Change::RoleGrantPermission(request)))
            }
            2 => {
                let role = "r".into();
                let request = AuthRoleRevokePermissionRequest { role, key, range_end };
                (root(), Command::Auth(Change::RoleRevokePermission(request)))
            }
            op => {
                let mut op = match op {
                    3 => Op::RequestRange(RangeRequest { key, range_end, ..Default::default() }),
                    4 => Op::RequestPut(PutRequest {
                        key,
                        prev_kv: kind & 8 != 0,
                        ..PutRequest::default()
                    }),
                    _ => Op::RequestDeleteRange(DeleteRangeRequest {
                        key,
                        range_end,
                        prev_kv: kind & 8 != 0,
                    }),
                };
                for _ in 0..kind / 16 % 4 {
                    let ops = vec![RequestOp { request: Some(op) }];
                    op = Op::RequestTxn(TxnRequest { failure: ops, ..TxnRequest::default() });
                }
                let ops = vec![RequestOp { request: Some(op) }];
                let txn = TxnRequest { success: ops, ..TxnRequest::default() };
                let behind = u64::from(kind / 64 % 2);
                let revision = state.auth.revision() - behind;
                let identity = Identity { name: "ann".into(), revision };
                (Author::User(identity), Command::Txn(txn))
            }
        };
        both(&mut state, &mut model, author, command);
    }
    state.check();
}

fn both(state: &mut StateMachine, model: &mut Model, author: Author, command: Command) {
    let (expected, _) = model.apply_for(&author, 0, &command);
    let text = format!("{author:?} {command:?}");
    let stamp = Stamp { time: ClusterTime(0), author, origin: None };
    let outcome = state.apply(stamp, command).outcome;
    assert_eq!(outcome.err(), expected.err(), "{text}");
}

/// Few short keys, so that intervals meet.
fn some_key(choices: &mut Choices<'_>) -> Bytes {
    let len = usize::from(choices.byte() % 3);
    choices.bytes(len).iter().map(|byte| byte % 5).collect()
}

/// Reads metadata of a call: who is this?
pub fn credentials(data: &[u8]) {
    let mut choices = Choices(data);
    let mut metadata = HeaderMap::new();
    while !choices.is_empty() {
        let name = match choices.byte() % 2 {
            0 => HeaderName::from_static("token"),
            _ => AUTHORIZATION,
        };
        let len = choices.below(64);
        if let Ok(value) = HeaderValue::from_bytes(choices.bytes(len)) {
            metadata.append(name, value);
        }
    }
    let credential = Accounts::default().credential(&metadata, Some(&"name".into()));
    match credential {
        Credential::None => assert!(metadata.is_empty()),
        Credential::Unreadable | Credential::Token(_) => assert!(!metadata.is_empty()),
        Credential::Member | Credential::Signed { .. } | Credential::CommonName(_) => {
            panic!("nobody becomes this by metadata: {credential:?}")
        }
    }
}
