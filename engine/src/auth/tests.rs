//! Users and roles by themselves: what changes them, and who may what.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use super::*;
use crate::api::Request;
use crate::api::etcdserverpb::alarm_request::AlarmAction;
use crate::api::etcdserverpb::request_op::Request as Op;
use crate::api::etcdserverpb::{
    AlarmRequest, AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGrantPermissionRequest,
    AuthRoleRevokePermissionRequest, AuthUserDeleteRequest, AuthUserGrantRoleRequest,
    AuthUserRevokeRoleRequest, CompactionRequest, Compare, DeleteRangeRequest, HashKvRequest,
    LeaseGrantRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, MemberListRequest, PutRequest,
    RangeRequest, RequestOp, TxnRequest,
};
use crate::cluster::Wish;
use crate::command::Command;
use crate::ids::{LeaseId, MemberId};
use crate::lease::{ClusterTime, Lease, Lessor};
use crate::state_machine::StateMachine;
use crate::time::Time;

fn user_add(name: &str) -> Change {
    let (name, hashed_password) = (name.into(), "hash".into());
    Change::UserAdd(AuthUserAddRequest { name, hashed_password, ..Default::default() })
}

fn grant_role(user: &str, role: &str) -> Change {
    Change::UserGrantRole(AuthUserGrantRoleRequest { user: user.into(), role: role.into() })
}

fn revoke_role(name: &str, role: &str) -> Change {
    Change::UserRevokeRole(AuthUserRevokeRoleRequest { name: name.into(), role: role.into() })
}

fn role_add(name: &str) -> Change {
    Change::RoleAdd(AuthRoleAddRequest { name: name.into() })
}

fn role_delete(role: &str) -> Change {
    Change::RoleDelete(AuthRoleDeleteRequest { role: role.into() })
}

fn user_delete(name: &str) -> Change {
    Change::UserDelete(AuthUserDeleteRequest { name: name.into() })
}

fn password(name: &str) -> Change {
    let (name, hashed_password) = (name.into(), "other".into());
    let request = AuthUserChangePasswordRequest { name, hashed_password, ..Default::default() };
    Change::UserChangePassword(request)
}

fn permit(role: &str, kind: Type, key: &str, end: &str) -> Change {
    let (key, range_end) = (key.to_string().into(), end.to_string().into());
    let perm = Some(Permission { perm_type: kind.into(), key, range_end });
    Change::RoleGrantPermission(AuthRoleGrantPermissionRequest { name: role.into(), perm })
}

fn forbid(role: &str, key: &str, end: &str) -> Change {
    let (key, range_end) = (key.to_string().into(), end.to_string().into());
    let role = role.into();
    Change::RoleRevokePermission(AuthRoleRevokePermissionRequest { role, key, range_end })
}

/// `root` may everything; `ann` may read [a, c) and write [b, d); `bob` nothing.
fn people() -> Auth {
    let mut auth = Auth::default();
    for change in [
        user_add("root"),
        grant_role("root", "root"),
        user_add("ann"),
        user_add("bob"),
        role_add("some"),
        grant_role("ann", "some"),
        permit("some", Type::Read, "a", "b"),
        permit("some", Type::Readwrite, "b", "c"),
        permit("some", Type::Write, "c", "d"),
        Change::Enable,
    ] {
        assert_eq!(auth.change(&change), Ok(()), "{change:?}");
        auth.check();
    }
    auth
}

fn author(auth: &Auth, name: &str) -> Author {
    Author::User(Identity { name: name.into(), revision: auth.revision() })
}

fn may(auth: &Auth, name: &str, request: &Request) -> Result<(), Error> {
    auth.permit(&author(auth, name), request.act(), Some(&Lessor::default()))
}

const OK: Result<(), Error> = Ok(());
const NO: Result<(), Error> = Err(Error::PermissionDenied);

#[test]
fn changes_are_etcds() {
    let mut auth = Auth::default();
    let not_given = Change::RoleGrantPermission(AuthRoleGrantPermissionRequest {
        name: "r".into(),
        perm: None,
    });
    for (change, outcome, revision) in [
        (Change::Enable, Err(Error::RootUserNotExist), 1),
        (Change::Disable, OK, 1),
        (user_add(""), Err(Error::UserEmpty), 1),
        (user_add("root"), OK, 2),
        (user_add("root"), Err(Error::UserAlreadyExist), 2),
        (Change::Enable, Err(Error::RootRoleNotExist), 2),
        (grant_role("root", "no"), Err(Error::RoleNotFound), 2),
        (grant_role("no", "root"), Err(Error::UserNotFound), 2),
        (grant_role("root", "root"), OK, 3),
        (grant_role("root", "root"), OK, 3),
        (Change::Enable, OK, 3),
        (Change::Enable, OK, 3),
        (user_delete("root"), Err(Error::InvalidAuthMgmt), 3),
        (revoke_role("root", "root"), Err(Error::InvalidAuthMgmt), 3),
        (role_delete("root"), Err(Error::InvalidAuthMgmt), 3),
        (role_add(""), Err(Error::RoleEmpty), 3),
        (role_add("r"), OK, 4),
        (role_add("r"), Err(Error::RoleAlreadyExist), 4),
        (not_given, Err(Error::PermissionNotGiven), 4),
        (permit("r", Type::Read, "", ""), Err(Error::InvalidAuthMgmt), 4),
        (permit("r", Type::Read, "b", "a"), Err(Error::InvalidAuthMgmt), 4),
        (permit("r", Type::Read, "b", "b"), Err(Error::InvalidAuthMgmt), 4),
        (permit("no", Type::Read, "b", ""), Err(Error::RoleNotFound), 4),
        (permit("r", Type::Read, "b", "\0"), OK, 5),
        (permit("r", Type::Write, "b", "\0"), OK, 6),
        (permit("r", Type::Read, "a", ""), OK, 7),
        (forbid("r", "b", ""), Err(Error::PermissionNotGranted), 7),
        (forbid("no", "b", ""), Err(Error::RoleNotFound), 7),
        (user_add("ann"), OK, 8),
        (grant_role("ann", "r"), OK, 9),
        (revoke_role("ann", "no"), Err(Error::RoleNotGranted), 9),
        (revoke_role("no", "r"), Err(Error::UserNotFound), 9),
        (password("no"), Err(Error::UserNotFound), 9),
        (password("ann"), OK, 10),
        (user_delete("no"), Err(Error::UserNotFound), 10),
    ] {
        let before = auth.clone();
        assert_eq!(auth.change(&change), outcome, "{change:?}");
        assert_eq!(auth.revision(), revision, "{change:?}");
        if outcome.is_err() {
            assert_eq!(auth, before, "{change:?}");
        }
        auth.check();
    }
    let Ok(Answer::Role(role)) = auth.answer(&Query::Role("r".into())) else { panic!() };
    let kinds: Vec<_> = role.perm.iter().map(|p| (&p.key[..], p.perm_type)).collect();
    assert_eq!(kinds, [(&b"a"[..], 0), (b"b", 1)], "one interval has one kind, in order of keys");
    assert_eq!(auth.change(&role_delete("r")), Ok(()));
    let Ok(Answer::User(user)) = auth.answer(&Query::User("ann".into())) else { panic!() };
    assert_eq!(user.roles, Vec::<String>::new(), "nobody has a role that is gone");
    assert_eq!(auth.answer(&Query::Role("r".into())), Err(Error::RoleNotFound));
    assert_eq!(auth.change(&Change::Disable), Ok(()));
    assert_eq!(auth.revision(), 12);
}

fn range(key: &str, end: &str) -> RangeRequest {
    let (key, range_end) = (key.to_string().into(), end.to_string().into());
    RangeRequest { key, range_end, ..RangeRequest::default() }
}

fn put(key: &str) -> PutRequest {
    PutRequest { key: key.to_string().into(), ..PutRequest::default() }
}

fn delete(key: &str, end: &str) -> DeleteRangeRequest {
    let RangeRequest { key, range_end, .. } = range(key, end);
    DeleteRangeRequest { key, range_end, prev_kv: false }
}

#[test]
fn keys_are_permitted_by_the_union_of_all_permissions() {
    let auth = people();
    for (request, expected) in [
        (Request::Range(range("a", "")), OK),
        (Request::Range(range("a", "c")), OK),
        (Request::RangeStream(range("a", "c")), OK),
        (Request::Range(range("a", "c\0")), NO),
        (Request::Range(range("c", "")), NO),
        (Request::Range(range("b", "\0")), NO),
        (Request::RangeStream(range("b", "\0")), NO),
        (Request::Range(range("c", "a")), NO),
        (Request::Put(put("b")), OK),
        (Request::Put(put("c")), OK),
        (Request::Put(put("a")), NO),
        (Request::Put(PutRequest { prev_kv: true, ..put("b") }), OK),
        (Request::Put(PutRequest { prev_kv: true, ..put("c") }), NO),
        (Request::DeleteRange(delete("b", "d")), OK),
        (Request::DeleteRange(delete("b", "\0")), NO),
        (Request::DeleteRange(delete("a", "d")), NO),
        (Request::DeleteRange(DeleteRangeRequest { prev_kv: true, ..delete("b", "c") }), OK),
        (Request::DeleteRange(DeleteRangeRequest { prev_kv: true, ..delete("b", "d") }), NO),
    ] {
        assert_eq!(may(&auth, "ann", &request), expected, "{request:?}");
        assert_eq!(may(&auth, "root", &request), OK, "{request:?}");
        assert_eq!(may(&auth, "bob", &request), NO, "{request:?}");
        assert_eq!(may(&auth, "cid", &request), NO, "{request:?}");
        let nobody = auth.permit(&Author::Nobody, request.act(), None);
        assert_eq!(nobody, Err(Error::UserEmpty), "{request:?}");
        assert_eq!(auth.permit(&Author::Member, request.act(), None), OK, "{request:?}");
    }
    // One key of a watch does not give the keys behind it (GHSA-xg4h-6gfc-h4m8).
    let watch = |key: &str, end: &str| KeyRange::from(&range(key, end));
    for (interval, expected) in
        [(watch("b", ""), OK), (watch("a", "c"), OK), (watch("b", "\0"), NO), (watch("c", ""), NO)]
    {
        let permitted = auth.permit(&author(&auth, "ann"), Act::Watch(&interval), None);
        assert_eq!(permitted, expected, "{interval:?}");
    }
}

/// An operation inside of so many transactions, in the branch that is not taken.
fn nested(op: Op, depth: usize) -> TxnRequest {
    let op = match depth {
        0 => op,
        _ => Op::RequestTxn(nested(op, depth - 1)),
    };
    TxnRequest { failure: vec![RequestOp { request: Some(op) }], ..TxnRequest::default() }
}

/// CVE-2026-33343, CVE-2026-44283.
#[test]
fn a_transaction_needs_what_everything_in_it_needs_however_deep_it_is_nested() {
    let auth = people();
    let previous = |put: PutRequest| PutRequest { prev_kv: true, ..put };
    for depth in 0..4 {
        for (op, expected) in [
            (Op::RequestRange(range("a", "c")), OK),
            (Op::RequestRange(range("c", "")), NO),
            (Op::RequestPut(put("c")), OK),
            (Op::RequestPut(previous(put("c"))), NO),
            (Op::RequestPut(PutRequest { lease: 9, ..put("c") }), OK),
            (Op::RequestPut(put("a")), NO),
            (Op::RequestDeleteRange(delete("b", "d")), OK),
            (Op::RequestDeleteRange(delete("b", "\0")), NO),
            (Op::RequestDeleteRange(DeleteRangeRequest { prev_kv: true, ..delete("b", "d") }), NO),
        ] {
            let request = Request::Txn(nested(op, depth));
            assert_eq!(may(&auth, "ann", &request), expected, "{request:?}");
            assert_eq!(may(&auth, "bob", &request), NO, "{request:?}");
        }
        let compare = Compare { key: Bytes::from_static(b"c"), ..Compare::default() };
        let compares = TxnRequest { compare: vec![compare], ..TxnRequest::default() };
        let request = Request::Txn(nested(Op::RequestTxn(compares), depth));
        assert_eq!(may(&auth, "ann", &request), NO, "{request:?}");
    }
    let empty = Request::Txn(TxnRequest::default());
    assert_eq!(auth.permit(&Author::Nobody, empty.act(), None), Err(Error::UserEmpty));
}

#[test]
fn a_lease_needs_what_the_keys_on_it_need() {
    let auth = people();
    let mut lessor = Lessor::default();
    for (id, keys) in [(1, &["b", "c"][..]), (2, &["b", "d"]), (3, &["a", "b"]), (4, &[])] {
        let lease = Lease { id: LeaseId(id), ttl: 5, deadline: ClusterTime(0) };
        lessor.grant(lease).unwrap();
        keys.iter().for_each(|key| {
            lessor.attach(LeaseId(id), &Bytes::copy_from_slice(key.as_bytes()));
        });
    }
    let ann = author(&auth, "ann");
    let may = |request: &Request| auth.permit(&ann, request.act(), Some(&lessor));
    let ttl = |id, keys| Request::LeaseTimeToLive(LeaseTimeToLiveRequest { id, keys });
    for (request, expected) in [
        (Request::LeaseGrant(LeaseGrantRequest { id: 9, ttl: 1 }), OK),
        (Request::LeaseRevoke(LeaseRevokeRequest { id: 1 }), OK),
        (Request::LeaseRevoke(LeaseRevokeRequest { id: 2 }), NO),
        (Request::LeaseRevoke(LeaseRevokeRequest { id: 4 }), OK),
        (Request::LeaseRevoke(LeaseRevokeRequest { id: 5 }), OK),
        (Request::LeaseKeepAlive(LeaseId(1)), OK),
        (Request::LeaseKeepAlive(LeaseId(2)), NO),
        (ttl(2, false), OK),
        (ttl(3, true), OK),
        (ttl(1, true), NO),
        (Request::LeaseLeases, NO),
        (Request::Put(PutRequest { lease: 1, ..put("b") }), OK),
        (Request::Put(PutRequest { lease: 2, ..put("b") }), NO),
        (Request::Txn(nested(Op::RequestPut(PutRequest { lease: 2, ..put("b") }), 2)), NO),
    ] {
        assert_eq!(may(&request), expected, "{request:?}");
        let nobody = auth.permit(&Author::Nobody, request.act(), Some(&lessor));
        assert_eq!(nobody, Err(Error::UserEmpty), "{request:?}");
    }
    // Whoever does not say which keys hang on a lease gets nothing.
    assert_eq!(auth.permit(&ann, Act::WriteLease(LeaseId(4)), None), NO);
    assert_eq!(auth.permit(&ann, Act::ReadLeases, None), NO);
}

/// CVE-2026-33413.
#[test]
fn everything_else_needs_root_or_somebody_who_is_known() {
    let auth = people();
    let alarm = |action: AlarmAction| {
        Request::Alarm(AlarmRequest { action: action.into(), ..AlarmRequest::default() })
    };
    let unknown = Request::Alarm(AlarmRequest { action: 77, ..AlarmRequest::default() });
    let query = |query| Request::AuthQuery(query);
    for (request, ann) in [
        (Request::MemberList(MemberListRequest::default()), OK),
        (Request::Status, OK),
        (alarm(AlarmAction::Get), OK),
        (alarm(AlarmAction::Activate), NO),
        (alarm(AlarmAction::Deactivate), NO),
        (unknown, NO),
        (Request::Compact(CompactionRequest::default()), NO),
        (Request::Members(Wish::Remove(MemberId(1))), NO),
        (Request::MoveLeader(MemberId(1)), NO),
        (Request::Defragment, NO),
        (Request::Hash, NO),
        (Request::HashKv(HashKvRequest::default()), NO),
        (Request::Snapshot, NO),
        (Request::Auth(Change::Disable), NO),
        (Request::Auth(user_add("x")), NO),
        (query(Query::Users), NO),
        (query(Query::Roles), NO),
        (query(Query::MayManage), NO),
        (query(Query::User("ann".into())), OK),
        (query(Query::User("bob".into())), NO),
        (query(Query::Role("some".into())), OK),
        (query(Query::Role("root".into())), NO),
    ] {
        assert_eq!(may(&auth, "ann", &request), ann, "{request:?}");
        assert_eq!(may(&auth, "root", &request), OK, "{request:?}");
        let nobody = auth.permit(&Author::Nobody, request.act(), None);
        assert_eq!(nobody, Err(Error::UserEmpty), "{request:?}");
    }
    let status = query(Query::Status);
    assert_eq!(auth.permit(&Author::Nobody, status.act(), None), OK);
    // What the server asks for itself is for nobody else, be authentication enabled or not.
    let assignment = Assignment { name: "ann".into(), digest: [0; 32], checked: 99 };
    for request in [query(Query::Password("ann".into())), Request::Authenticate(assignment)] {
        for auth in [&auth, &Auth::default()] {
            for author in [Author::Nobody, author(auth, "root")] {
                assert_eq!(auth.permit(&author, request.act(), None), NO, "{request:?}");
            }
            assert_eq!(auth.permit(&Author::Member, request.act(), None), OK, "{request:?}");
        }
    }
}

#[test]
fn who_was_known_at_an_older_revision_asks_anew_for_keys() {
    let mut auth = people();
    let (ann, root) = (author(&auth, "ann"), author(&auth, "root"));
    auth.change(&role_add("other")).unwrap();
    let old = Err(Error::AuthOldRevision);
    assert_eq!(auth.permit(&ann, Act::Put(&put("b")), None), old);
    assert_eq!(auth.permit(&root, Act::Put(&put("b")), None), old);
    assert_eq!(auth.permit(&root, Act::Root, None), OK, "it is the same root");
    assert_eq!(auth.permit(&ann, Act::Known, None), OK);
    auth.change(&password("root")).unwrap();
    assert_eq!(auth.permit(&root, Act::Root, None), old, "is it?");
    auth.change(&user_delete("ann")).unwrap();
    assert_eq!(auth.permit(&ann, Act::Known, None), NO);
    auth.change(&user_add("ann")).unwrap();
    assert_eq!(auth.permit(&ann, Act::Known, None), old, "another one of that name");
}

#[test]
fn tokens_end_by_time_by_a_change_of_the_password_and_by_disabling() {
    let (ttl, at) = (Duration::from_secs(8), |s| Time::ZERO + Duration::from_secs(s));
    let mut auth = people();
    let mut tokens = Tokens::default();
    let id = TokenId { index: 30, digest: [1; 32] };
    let made = auth.revision();
    tokens.assign(at(0), ttl, (id, Arc::from("ann")), made);
    assert!(tokens.take_changed());
    let resolve = |auth: &Auth, tokens: &Tokens, second, id| {
        auth.resolve(tokens.tokens(), at(second), &Credential::Token(id))
    };
    let known = Ok(author(&auth, "ann"));
    let invalid = Err(Error::InvalidAuthToken);
    assert_eq!(resolve(&auth, &tokens, 7, id), known);
    assert_eq!(resolve(&auth, &tokens, 8, id), invalid);
    assert_eq!(resolve(&auth, &tokens, 0, TokenId { digest: [2; 32], ..id }), invalid);
    assert_eq!(resolve(&auth, &tokens, 0, TokenId { index: 31, ..id }), invalid);
    tokens.used(at(0), ttl, 30);
    assert!(!tokens.is_changed(), "it was not used a while ago");
    tokens.used(at(6), ttl, 30);
    assert!(tokens.take_changed());
    assert_eq!(resolve(&auth, &tokens, 13, id), known);
    assert_eq!(resolve(&auth, &tokens, 14, id), invalid);
    tokens.used(at(14), ttl, 30);
    assert_eq!(resolve(&auth, &tokens, 14, id), invalid, "what has ended is not renewed");

    for change in [password("ann"), user_delete("ann"), Change::Disable] {
        let mut auth = auth.clone();
        auth.change(&change).unwrap();
        // Neither does it begin again.
        auth.change(&user_add("ann")).ok();
        auth.change(&Change::Enable).unwrap();
        assert_eq!(resolve(&auth, &tokens, 7, id), invalid, "{change:?}");
    }
    auth.change(&role_add("new")).unwrap();
    assert!(resolve(&auth, &tokens, 7, id).is_ok(), "other changes end no token");
    let admitted = |name: &str, checked| auth.admit_token(name, checked);
    assert_eq!(admitted("ann", made), OK);
    assert_eq!(admitted("cid", made), Err(Error::AuthFailed));
    assert_eq!(admitted("ann", 3), Err(Error::AuthOldRevision));
    assert_eq!(Auth::default().admit_token("ann", 3), Err(Error::AuthNotEnabled));
    // Later ones push out those that have ended.
    tokens.assign(at(20), ttl, (TokenId { index: 40, ..id }, Arc::from("ann")), made);
    assert_eq!(tokens.tokens().len(), 1);
}

#[test]
fn nobody_needs_to_be_known_while_it_is_disabled() {
    let mut auth = people();
    auth.change(&Change::Disable).unwrap();
    for credential in [Credential::None, Credential::Unreadable] {
        let resolved = auth.resolve(Tokens::default().tokens(), Time::ZERO, &credential);
        assert_eq!(resolved, Ok(Author::Nobody));
    }
    assert_eq!(auth.permit(&Author::Nobody, Act::Root, None), OK);
}

#[test]
fn what_is_applied_was_permitted_when_it_is_applied() {
    let mut state = StateMachine { auth: Arc::new(people()), ..StateMachine::default() };
    let apply = |state: &mut StateMachine, author: &Author, command: Command| {
        let stamp = crate::command::Stamp { author: author.clone(), ..Default::default() };
        state.apply(stamp, command).outcome.map(drop)
    };
    let ann = author(&state.auth, "ann");
    assert_eq!(apply(&mut state, &ann, Command::Put(put("b"))), OK);
    assert_eq!(apply(&mut state, &ann, Command::Put(put("a"))), NO);
    let nobody = Author::Nobody;
    assert_eq!(apply(&mut state, &nobody, Command::Put(put("b"))), Err(Error::UserEmpty));
    assert_eq!(apply(&mut state, &ann, Command::Auth(Change::Disable)), NO);
    let root = author(&state.auth, "root");
    let digest = state.digest;
    assert_eq!(apply(&mut state, &root, Command::Auth(forbid("some", "b", "c"))), OK);
    assert_ne!(state.digest, digest);
    assert_eq!(apply(&mut state, &ann, Command::Put(put("b"))), Err(Error::AuthOldRevision));
    let ann = author(&state.auth, "ann");
    assert_eq!(apply(&mut state, &ann, Command::Put(put("b"))), NO);
    assert_eq!(state.store.revision(), 2, "what was refused has changed nothing");
    state.check();
}
