//! May this user do that? Asked with every request once users are enabled.

use cairn_benches::{apply, key, put};
use cairn_engine::api::authpb::{Permission, permission::Type};
use cairn_engine::api::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleGrantPermissionRequest, AuthUserAddRequest,
    AuthUserGrantRoleRequest, RangeRequest,
};
use cairn_engine::auth::{Act, Author, Change, Identity};
use cairn_engine::command::Command;
use cairn_engine::state_machine::StateMachine;

fn user(name: &str, role: &str) -> [Change; 2] {
    let add = AuthUserAddRequest { name: name.into(), ..AuthUserAddRequest::default() };
    let grant = AuthUserGrantRoleRequest { user: name.into(), role: role.into() };
    [Change::UserAdd(add), Change::UserGrantRole(grant)]
}

/// A user whose role permits so many ranges, one of them that of the benchmarks' keys.
fn state(ranges: u32) -> StateMachine {
    let mut changes = vec![Change::RoleAdd(AuthRoleAddRequest { name: "some".into() })];
    for number in 0..ranges {
        let (from, to) = match number {
            0 => ("/registry/".to_owned(), "/registry0".to_owned()),
            _ => (format!("other-{number:04}/"), format!("other-{number:04}0")),
        };
        let perm = Permission {
            perm_type: Type::Readwrite.into(),
            key: from.into(),
            range_end: to.into(),
        };
        let grant = AuthRoleGrantPermissionRequest { name: "some".into(), perm: Some(perm) };
        changes.push(Change::RoleGrantPermission(grant));
    }
    changes.extend(user("root", "root"));
    changes.extend(user("ann", "some"));
    changes.push(Change::Enable);
    let mut state = StateMachine::default();
    for change in changes {
        assert!(apply(&mut state, Command::Auth(change)).outcome.is_ok(), "it is allowed");
    }
    state
}

fn main() {
    let mut criterion = cairn_benches::criterion();
    for ranges in [1, 100] {
        let state = state(ranges);
        let author = Author::User(Identity { name: "ann".into(), revision: state.auth.revision() });
        let put = put(7);
        criterion.bench_function(&format!("auth permit a put, {ranges} ranges"), |bencher| {
            bencher.iter(|| state.auth.permit(&author, Act::Put(&put), None).expect("it may"));
        });
        let range = RangeRequest { key: key(0), range_end: key(9), ..RangeRequest::default() };
        criterion.bench_function(&format!("auth permit a list, {ranges} ranges"), |bencher| {
            bencher.iter(|| state.auth.permit(&author, Act::Range(&range), None).expect("it may"));
        });
    }
    criterion.final_summary();
}
