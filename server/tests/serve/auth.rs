//! Users and roles: logins, tokens, certificates, and who may what. The advisories of 2026 about etcd each have a test.

use bytes::Bytes;
use cairn_engine::api::authpb::permission::Type;
use cairn_engine::api::authpb::{Permission, UserAddOptions};
use cairn_engine::api::etcdserverpb::request_op::Request as Op;
use cairn_engine::api::etcdserverpb::watch_request::RequestUnion;
use cairn_engine::api::etcdserverpb::{
    AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthRoleGetRequest,
    AuthRoleGrantPermissionRequest, AuthRoleRevokePermissionRequest, AuthStatusRequest,
    AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGetRequest,
    AuthUserGrantRoleRequest, AuthUserListRequest, AuthUserRevokeRoleRequest, AuthenticateRequest,
    DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest,
    RangeRequest, RangeResponse, SnapshotRequest, WatchCreateRequest, WatchRequest, WatchResponse,
};
use cairn_server::grpc::method::METHODS;
use prost::Message as _;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tonic::codegen::tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

use crate::ask::{between, delete, put, range, refusal, txn, with};
use crate::client::etcdserverpb::auth_client::AuthClient;
use crate::client::etcdserverpb::lease_client::LeaseClient;
use crate::client::etcdserverpb::maintenance_client::MaintenanceClient;
use crate::client::etcdserverpb::watch_client::WatchClient;
use crate::gateway::{post, send};
use crate::harness::{Member, on_both_runtimes};
use crate::tls;

on_both_runtimes! {
    users_log_in_and_do_what_they_may,
    every_method_asks_who_is_there,
    a_nested_operation_needs_what_it_would_need_alone,
    one_key_of_a_watch_is_one_key,
    a_watch_ends_with_the_permission,
    leases_are_of_those_whose_keys_hang_on_them,
    tokens_end,
    users_outlive_the_process_and_tokens_do_not,
    passwords_are_nowhere_to_be_read,
    signed_tokens_are_good_until_users_change,
    a_certificate_says_who_its_owner_is,
    the_gateway_takes_tokens,
    a_flood_of_logins_leaves_others_alone,
}

fn auth(member: &Member) -> AuthClient<Channel> {
    AuthClient::new(member.channel())
}

/// A request of whoever has this token.
pub(crate) fn by<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if !token.is_empty() {
        request.metadata_mut().insert("token", token.parse().unwrap());
    }
    request
}

pub(crate) async fn log_in(member: &Member, name: &str, password: &str) -> Result<String, Status> {
    let request = AuthenticateRequest { name: name.into(), password: password.into() };
    Ok(auth(member).authenticate(request).await?.into_inner().token)
}

async fn add_user(member: &Member, token: &str, name: &str) {
    let (name, password) = (name.to_owned(), format!("pw of {name}"));
    let request = AuthUserAddRequest { name, password, ..AuthUserAddRequest::default() };
    auth(member).user_add(by(token, request)).await.unwrap();
}

async fn grant(member: &Member, token: &str, user: &str, role: &str) {
    let request = AuthUserGrantRoleRequest { user: user.into(), role: role.into() };
    auth(member).user_grant_role(by(token, request)).await.unwrap();
}

async fn permit(member: &Member, token: &str, kind: Type, key: &str, end: &'static str) {
    let range_end = Bytes::from_static(end.as_bytes());
    let key = Bytes::copy_from_slice(key.as_bytes());
    let perm = Some(Permission { perm_type: kind.into(), key, range_end });
    let request = AuthRoleGrantPermissionRequest { name: "some".into(), perm };
    auth(member).role_grant_permission(by(token, request)).await.unwrap();
}

/// `root`, `ann` with a role `some` that permits nothing yet, `bob` without any; authentication is enabled. The tokens
/// of root and of the other two.
pub(crate) async fn people(member: &Member) -> [String; 3] {
    for name in ["root", "ann", "bob"] {
        add_user(member, "", name).await;
    }
    grant(member, "", "root", "root").await;
    let role = AuthRoleAddRequest { name: "some".into() };
    auth(member).role_add(role).await.unwrap();
    grant(member, "", "ann", "some").await;
    auth(member).auth_enable(AuthEnableRequest {}).await.unwrap();
    let mut tokens = Vec::new();
    for name in ["root", "ann", "bob"] {
        tokens.push(log_in(member, name, &format!("pw of {name}")).await.unwrap());
    }
    tokens.try_into().unwrap()
}

fn denied() -> (Code, String) {
    with(Code::PermissionDenied, "etcdserver: permission denied")
}

fn unknown() -> (Code, String) {
    with(Code::InvalidArgument, "etcdserver: user name is empty")
}

fn invalid() -> (Code, String) {
    with(Code::Unauthenticated, "etcdserver: invalid auth token")
}

async fn users_log_in_and_do_what_they_may(member: &mut Member) {
    let mut kv = member.kv();
    let [root, ann, bob] = people(member).await;
    permit(member, &root, Type::Readwrite, "a", "b").await;
    kv.put(by(&ann, put("a", "1"))).await.unwrap();
    assert_eq!(kv.range(by(&ann, range("a"))).await.unwrap().into_inner().count, 1);
    assert_eq!(refusal(kv.put(by(&ann, put("b", "1"))).await), denied());
    assert_eq!(refusal(kv.range(by(&ann, between("a", "c"))).await), denied());
    assert_eq!(refusal(kv.range(by(&bob, range("a"))).await), denied());
    assert_eq!(refusal(kv.range(range("a")).await), unknown());
    assert_eq!(refusal(kv.put(put("a", "2")).await), unknown());
    assert_eq!(refusal(kv.range(by("nonsense", range("a"))).await), invalid());
    assert_eq!(refusal(kv.range(by(&format!("{ann}0"), range("a"))).await), invalid());
    let mut request = Request::new(range("a"));
    request.metadata_mut().insert("authorization", format!("Bearer {ann}").parse().unwrap());
    kv.range(request).await.unwrap();

    let failed = "etcdserver: authentication failed, invalid user ID or password";
    for (name, password) in [("ann", "wrong"), ("ann", ""), ("nobody", "pw of ann"), ("", "")] {
        let status = log_in(member, name, password).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, failed));
    }
    let options = Some(UserAddOptions { no_password: true });
    let name = "cid".to_owned();
    let request = AuthUserAddRequest { name, options, ..AuthUserAddRequest::default() };
    auth(member).user_add(by(&root, request)).await.unwrap();
    let status = log_in(member, "cid", "").await.unwrap_err();
    let text = "auth: authentication failed, password was given for no password user";
    assert_eq!((status.code(), status.message()), (Code::Unknown, text));

    // Everybody may know whether it is enabled, and who they are.
    let status = auth(member).auth_status(AuthStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.enabled, status.auth_revision), (true, 9));
    let get = |name: &str| AuthUserGetRequest { name: name.into() };
    let answer = auth(member).user_get(by(&ann, get("ann"))).await.unwrap().into_inner();
    assert_eq!(answer.roles, ["some"]);
    assert_eq!(refusal(auth(member).user_get(by(&ann, get("bob"))).await), denied());
    let get = AuthRoleGetRequest { role: "some".into() };
    let role = auth(member).role_get(by(&ann, get)).await.unwrap().into_inner();
    assert_eq!((role.perm.len(), &role.perm[0].key[..]), (1, &b"a"[..]));
    let users = auth(member).user_list(by(&root, AuthUserListRequest {})).await.unwrap();
    assert_eq!(users.into_inner().users, ["ann", "bob", "cid", "root"]);
    assert_eq!(refusal(auth(member).user_list(by(&ann, AuthUserListRequest {})).await), denied());

    let metrics = send(member, "GET", "/metrics", "", "").body;
    assert!(metrics.contains("\netcd_debugging_auth_revision 9\n"), "{metrics}");
    // Probes are not clients.
    assert_eq!(send(member, "GET", "/health", "", "").code, 200);
    assert_eq!(send(member, "GET", "/readyz", "", "").code, 200);
    auth(member).auth_disable(by(&root, AuthDisableRequest {})).await.unwrap();
    kv.put(by("nonsense", put("z", "1"))).await.unwrap();
}

/// What a method needs of whoever calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    Nothing,
    Known,
    /// Keys, or to be root.
    More,
    /// It is asked by its own test: its answer is no simple one.
    Elsewhere,
}

use Needs::{Elsewhere, Known, More, Nothing};

/// CVE-2026-33413: methods that forgot to ask. Every method has its row, or this does not pass.
async fn every_method_asks_who_is_there(member: &mut Member) {
    const TABLE: [(&str, &str, &str, Needs); 51] = [
        ("Range", "kv/range", r#"{"key":"YQ=="}"#, More),
        ("RangeStream", "", "", Elsewhere),
        ("Put", "kv/put", r#"{"key":"YQ=="}"#, More),
        ("DeleteRange", "kv/deleterange", r#"{"key":"YQ=="}"#, More),
        ("Txn", "kv/txn", r#"{"failure":[{"request_range":{"key":"YQ=="}}]}"#, More),
        ("Compact", "kv/compaction", r#"{"revision":"1"}"#, More),
        ("Watch", "", "", Elsewhere),
        ("LeaseGrant", "lease/grant", r#"{"TTL":"60","ID":"5"}"#, Known),
        ("LeaseRevoke", "lease/revoke", r#"{"ID":"6"}"#, More),
        ("LeaseKeepAlive", "lease/keepalive", r#"{"ID":"6"}"#, More),
        ("LeaseTimeToLive", "lease/timetolive", r#"{"ID":"6","keys":true}"#, More),
        ("LeaseLeases", "lease/leases", "{}", More),
        ("MemberAdd", "cluster/member/add", r#"{"peerURLs":["http://127.0.0.1:1"]}"#, More),
        ("MemberRemove", "cluster/member/remove", r#"{"ID":"1"}"#, More),
        (
            "MemberUpdate",
            "cluster/member/update",
            r#"{"ID":"1","peerURLs":["http://127.0.0.1:1"]}"#,
            More,
        ),
        ("MemberList", "cluster/member/list", "{}", Known),
        ("MemberPromote", "cluster/member/promote", r#"{"ID":"1"}"#, More),
        ("Alarm", "maintenance/alarm", r#"{"action":"DEACTIVATE"}"#, More),
        ("Status", "maintenance/status", "{}", Known),
        ("Defragment", "maintenance/defragment", "{}", More),
        ("Hash", "maintenance/hash", "{}", More),
        ("HashKV", "maintenance/hashkv", "{}", More),
        ("Snapshot", "maintenance/snapshot", "{}", More),
        ("MoveLeader", "maintenance/transfer-leadership", r#"{"targetID":"1"}"#, More),
        // Not served.
        ("Downgrade", "", "", Elsewhere),
        ("AuthEnable", "auth/enable", "{}", More),
        ("AuthDisable", "auth/disable", "{}", More),
        ("AuthStatus", "auth/status", "{}", Nothing),
        ("Authenticate", "auth/authenticate", r#"{"name":"bob","password":"pw of bob"}"#, Nothing),
        ("UserAdd", "auth/user/add", r#"{"name":"x","password":"y"}"#, More),
        ("UserGet", "auth/user/get", r#"{"name":"root"}"#, More),
        ("UserList", "auth/user/list", "{}", More),
        ("UserDelete", "auth/user/delete", r#"{"name":"ann"}"#, More),
        ("UserChangePassword", "auth/user/changepw", r#"{"name":"bob","password":"y"}"#, More),
        ("UserGrantRole", "auth/user/grant", r#"{"user":"bob","role":"root"}"#, More),
        ("UserRevokeRole", "auth/user/revoke", r#"{"name":"ann","role":"some"}"#, More),
        ("RoleAdd", "auth/role/add", r#"{"name":"x"}"#, More),
        ("RoleGet", "auth/role/get", r#"{"role":"some"}"#, More),
        ("RoleList", "auth/role/list", "{}", More),
        ("RoleDelete", "auth/role/delete", r#"{"role":"some"}"#, More),
        (
            "RoleGrantPermission",
            "auth/role/grant",
            r#"{"name":"some","perm":{"key":"YQ=="}}"#,
            More,
        ),
        ("RoleRevokePermission", "auth/role/revoke", r#"{"role":"some","key":"YQ=="}"#, More),
        ("Lock", "lock/lock", r#"{"name":"YQ=="}"#, More),
        ("Unlock", "lock/unlock", r#"{"key":"YQ=="}"#, More),
        ("Campaign", "election/campaign", r#"{"name":"YQ=="}"#, More),
        ("Proclaim", "election/proclaim", r#"{"leader":{"name":"YQ==","key":"YQ=="}}"#, More),
        ("Leader", "election/leader", r#"{"name":"YQ=="}"#, More),
        ("Observe", "election/observe", r#"{"name":"YQ=="}"#, More),
        ("Resign", "election/resign", r#"{"leader":{"name":"YQ==","key":"YQ=="}}"#, More),
        // gRPC's own, for probes.
        ("Check", "", "", Elsewhere),
        ("Watch", "", "", Elsewhere),
    ];
    for (row, (name, ..)) in METHODS.iter().zip(TABLE) {
        assert_eq!(row.name, name);
    }
    let [root, _, bob] = people(member).await;
    permit(member, &root, Type::Readwrite, "z", "").await;
    let lease = LeaseGrantRequest { id: 6, ttl: 600 };
    LeaseClient::new(member.channel()).lease_grant(by(&root, lease)).await.unwrap();
    member.kv().put(by(&root, PutRequest { lease: 6, ..put("k", "") })).await.unwrap();

    let revision = || post(member, "/v3/auth/status", "{}").body;
    let before = revision();
    for (name, path, body, needs) in TABLE.into_iter().filter(|row| row.3 != Elsewhere) {
        let path = format!("/v3/{path}");
        let stranger = post(member, &path, body);
        let known = send(member, "POST", &path, &format!("Authorization: {bob}\r\n"), body);
        let is_open = needs == Nothing;
        assert_eq!(stranger.code == 200, is_open, "{name}: {}", stranger.body);
        if !is_open {
            let text = "etcdserver: user name is empty";
            assert!(stranger.body.contains(text), "{name}: {}", stranger.body);
            let forged = send(member, "POST", &path, "Authorization: abc.1\r\n", body);
            let text = "etcdserver: invalid auth token";
            assert!(forged.body.contains(text), "{name}: {}", forged.body);
        }
        assert_eq!(known.code == 200, needs != More, "{name}: {}", known.body);
        if needs == More {
            let text = "etcdserver: permission denied";
            assert!(known.body.contains(text), "{name}: {}", known.body);
        }
    }
    assert_eq!(revision(), before, "nobody has changed anything");
    // What has no route.
    let mut kv = member.kv();
    assert_eq!(refusal(kv.range_stream(by(&bob, range("a"))).await), denied());
    assert_eq!(refusal(kv.range_stream(range("a")).await), unknown());
    let mut maintenance = MaintenanceClient::new(member.channel());
    assert_eq!(refusal(maintenance.snapshot(SnapshotRequest {}).await), unknown());
    assert_eq!(refusal(maintenance.snapshot(by(&bob, SnapshotRequest {})).await), denied());
}

/// CVE-2026-33343 and CVE-2026-44283.
async fn a_nested_operation_needs_what_it_would_need_alone(member: &mut Member) {
    let [root, ann, _] = people(member).await;
    permit(member, &root, Type::Write, "a", "b").await;
    let mut kv = member.kv();
    kv.put(by(&root, put("b", "secret"))).await.unwrap();
    kv.put(by(&root, put("a", "secret"))).await.unwrap();
    let mut leases = LeaseClient::new(member.channel());
    leases.lease_grant(by(&root, LeaseGrantRequest { id: 9, ttl: 600 })).await.unwrap();
    kv.put(by(&root, PutRequest { lease: 9, ..put("c", "") })).await.unwrap();
    let previous = |put: PutRequest| PutRequest { prev_kv: true, ..put };
    let delete = DeleteRangeRequest { prev_kv: true, ..delete("a", "b") };
    for op in [
        Op::RequestRange(range("b")),
        Op::RequestPut(put("b", "x")),
        Op::RequestPut(previous(put("a", "x"))),
        Op::RequestPut(PutRequest { lease: 9, ..put("a", "x") }),
        Op::RequestDeleteRange(delete),
    ] {
        let mut nested = txn(vec![], vec![], vec![op]);
        for _ in 0..3 {
            assert_eq!(refusal(kv.txn(by(&ann, nested.clone())).await), denied(), "{nested:?}");
            nested = txn(vec![], vec![Op::RequestTxn(nested)], vec![]);
        }
    }
    let mut allowed = txn(vec![], vec![Op::RequestPut(put("a", "y"))], vec![]);
    allowed = txn(vec![], vec![Op::RequestTxn(allowed)], vec![]);
    assert!(kv.txn(by(&ann, allowed)).await.unwrap().into_inner().succeeded);
}

/// A watch stream of somebody.
struct Watching {
    requests: UnboundedSender<WatchRequest>,
    responses: Streaming<WatchResponse>,
}

impl Watching {
    async fn open(member: &Member, token: &str) -> Self {
        let (requests, outgoing) = unbounded_channel();
        let request = by(token, UnboundedReceiverStream::new(outgoing));
        let responses = WatchClient::new(member.channel()).watch(request).await.unwrap();
        Self { requests, responses: responses.into_inner() }
    }

    async fn create(&mut self, key: &'static str, end: &'static str) -> WatchResponse {
        let RangeRequest { key, range_end, .. } = between(key, end);
        let create = WatchCreateRequest { key, range_end, ..WatchCreateRequest::default() };
        let request_union = Some(RequestUnion::CreateRequest(create));
        self.requests.send(WatchRequest { request_union }).unwrap();
        self.next().await
    }

    async fn next(&mut self) -> WatchResponse {
        self.responses.message().await.unwrap().expect("the stream goes on")
    }
}

/// GHSA-xg4h-6gfc-h4m8.
async fn one_key_of_a_watch_is_one_key(member: &mut Member) {
    let [root, ann, _] = people(member).await;
    permit(member, &root, Type::Read, "a", "").await;
    let mut watching = Watching::open(member, &ann).await;
    for (key, end, is_permitted) in [
        ("a", "", true),
        ("a", "\0", false),
        ("a", "b", false),
        ("b", "", false),
        ("", "\0", false),
    ] {
        let answer = watching.create(key, end).await;
        assert!(answer.created, "{answer:?}");
        assert_eq!(answer.canceled, !is_permitted, "{answer:?}");
        let text = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
        let (id, reason) = if is_permitted { (0, "") } else { (-1, text) };
        assert_eq!((answer.watch_id, &*answer.cancel_reason), (id, reason));
    }
    let answer = Watching::open(member, "").await.create("a", "").await;
    let text = "rpc error: code = InvalidArgument desc = etcdserver: user name is empty";
    assert_eq!((answer.canceled, &*answer.cancel_reason), (true, text));
    let answer = Watching::open(member, "nonsense").await.create("a", "").await;
    let text = "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token";
    assert_eq!((answer.canceled, &*answer.cancel_reason), (true, text));
}

async fn a_watch_ends_with_the_permission(member: &mut Member) {
    let mut early = Watching::open(member, "").await;
    assert!(early.create("a", "b").await.created);
    let [root, ann, _] = people(member).await;
    let ended = early.next().await;
    let text = "rpc error: code = InvalidArgument desc = etcdserver: user name is empty";
    assert_eq!((ended.canceled, &*ended.cancel_reason), (true, text));

    permit(member, &root, Type::Read, "a", "b").await;
    permit(member, &root, Type::Read, "c", "").await;
    let mut watching = Watching::open(member, &ann).await;
    for (id, (key, end)) in (0..).zip([("a", "b"), ("c", "")]) {
        assert_eq!(watching.create(key, end).await.watch_id, id);
    }
    let mut kv = member.kv();
    kv.put(by(&root, put("a", "1"))).await.unwrap();
    assert_eq!(watching.next().await.events.len(), 1);
    let (role, key, range_end) = ("some".into(), "a".into(), "b".into());
    let request = AuthRoleRevokePermissionRequest { role, key, range_end };
    auth(member).role_revoke_permission(by(&root, request)).await.unwrap();
    kv.put(by(&root, put("a", "2"))).await.unwrap();
    kv.put(by(&root, put("c", "3"))).await.unwrap();
    let ended = watching.next().await;
    let text = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
    assert_eq!((ended.watch_id, ended.canceled, &*ended.cancel_reason), (0, true, text));
    let event = watching.next().await;
    assert_eq!((event.watch_id, &event.events[0].kv.as_ref().unwrap().key[..]), (1, &b"c"[..]));
}

async fn leases_are_of_those_whose_keys_hang_on_them(member: &mut Member) {
    let [root, ann, _] = people(member).await;
    permit(member, &root, Type::Write, "a", "b").await;
    let (mut kv, mut leases) = (member.kv(), LeaseClient::new(member.channel()));
    for (id, key) in [(1, "a"), (2, "b")] {
        leases.lease_grant(by(&ann, LeaseGrantRequest { id, ttl: 600 })).await.unwrap();
        kv.put(by(&root, PutRequest { lease: id, ..put(key, "") })).await.unwrap();
    }
    let attach = |lease| PutRequest { lease, ..put("a", "") };
    assert_eq!(refusal(kv.put(by(&ann, attach(2))).await), denied());
    kv.put(by(&ann, attach(1))).await.unwrap();
    let ttl = |id, keys| LeaseTimeToLiveRequest { id, keys };
    assert_eq!(refusal(leases.lease_time_to_live(by(&ann, ttl(1, true))).await), denied());
    leases.lease_time_to_live(by(&ann, ttl(2, false))).await.unwrap();
    let revoke = |id| LeaseRevokeRequest { id };
    assert_eq!(refusal(leases.lease_revoke(by(&ann, revoke(2))).await), denied());
    leases.lease_revoke(by(&ann, revoke(1))).await.unwrap();
    assert_eq!(kv.range(by(&root, between("a", "c"))).await.unwrap().into_inner().count, 1);
}

async fn tokens_end(member: &mut Member) {
    member.restart(&["--auth-token-ttl=2", "--bcrypt-cost=4"]).await;
    let [root, ann, bob] = people(member).await;
    let mut maintenance = MaintenanceClient::new(member.channel());
    let mut status = async |token: &str| {
        let request = by(token, cairn_engine::api::etcdserverpb::StatusRequest {});
        maintenance.status(request).await.map(drop).map_err(|status| status.code())
    };
    let (name, password) = ("ann".into(), "other".into());
    let request = AuthUserChangePasswordRequest {
        name,
        password,
        ..AuthUserChangePasswordRequest::default()
    };
    auth(member).user_change_password(by(&root, request)).await.unwrap();
    assert_eq!(status(&ann).await, Err(Code::Unauthenticated), "the password is another");
    let request = AuthUserDeleteRequest { name: "bob".into() };
    auth(member).user_delete(by(&root, request)).await.unwrap();
    assert_eq!(status(&bob).await, Err(Code::Unauthenticated), "the user is gone");
    log_in(member, "ann", "pw of ann").await.unwrap_err();
    let unused = log_in(member, "ann", "other").await.unwrap();
    tokio::time::sleep(core::time::Duration::from_secs(3)).await;
    assert_eq!(status(&unused).await, Err(Code::Unauthenticated), "its time is over");
    let (ann, root) = (
        log_in(member, "ann", "other").await.unwrap(),
        log_in(member, "root", "pw of root").await.unwrap(),
    );
    auth(member).auth_disable(by(&root, AuthDisableRequest {})).await.unwrap();
    assert_eq!(status(&ann).await, Ok(()), "nobody asks");
    auth(member).auth_enable(AuthEnableRequest {}).await.unwrap();
    assert_eq!(status(&ann).await, Err(Code::Unauthenticated), "that was before");
}

async fn users_outlive_the_process_and_tokens_do_not(member: &mut Member) {
    let [root, ann, _] = people(member).await;
    permit(member, &root, Type::Readwrite, "a", "").await;
    member.signal(rustix::process::Signal::KILL);
    member.wait().await;
    member.start_again(&[]);
    let mut kv = member.kv();
    assert_eq!(refusal(kv.put(by(&ann, put("a", "1"))).await), invalid());
    let ann = log_in(member, "ann", "pw of ann").await.unwrap();
    kv.put(by(&ann, put("a", "1"))).await.unwrap();
    assert_eq!(refusal(kv.put(by(&ann, put("b", "1"))).await), denied());
    let request = AuthUserRevokeRoleRequest { name: "ann".into(), role: "some".into() };
    let root = log_in(member, "root", "pw of root").await.unwrap();
    auth(member).user_revoke_role(by(&root, request)).await.unwrap();
    assert_eq!(refusal(kv.put(by(&ann, put("a", "1"))).await), denied(), "at once");
}

/// CVE-2021-28235, and an audit's finding: passwords in the log.
async fn passwords_are_nowhere_to_be_read(member: &mut Member) {
    member.restart(&["--log-level=debug"]).await;
    let [root, ann, _] = people(member).await;
    log_in(member, "ann", "pw of nobody").await.unwrap_err();
    let (name, password) = ("ann".into(), "pw of all".into());
    let request = AuthUserChangePasswordRequest {
        name,
        password,
        ..AuthUserChangePasswordRequest::default()
    };
    auth(member).user_change_password(by(&root, request)).await.unwrap();
    member.terminate().await;
    let said = member.said().join("\n");
    let mut folders = vec![member.place.data()];
    let mut texts = vec![said.into_bytes()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                texts.push(std::fs::read(path).unwrap());
            }
        }
    }
    let secrets = ["pw of ", &root, &ann, root.split('.').next().unwrap()];
    for text in texts {
        for secret in secrets {
            let found = text.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{secret:?} is to be read");
        }
    }
}

async fn signed_tokens_are_good_until_users_change(member: &mut Member) {
    let secret = member.place.directory.join("secret");
    std::fs::write(&secret, "nobody knows this").unwrap();
    let flag = format!("--auth-token=jwt,sign-method=HS256,ttl=10m,priv-key={}", secret.display());
    member.restart(&[&flag]).await;
    let [root, ann, _] = people(member).await;
    assert_eq!(ann.split('.').count(), 3, "{ann}");
    permit(member, &root, Type::Readwrite, "a", "").await;
    let mut kv = member.kv();
    let old = with(Code::InvalidArgument, "etcdserver: revision of auth store is old");
    assert_eq!(refusal(kv.put(by(&ann, put("a", "1"))).await), old);
    assert_eq!(refusal(kv.range(by(&ann, range("a"))).await), old);
    let ann = log_in(member, "ann", "pw of ann").await.unwrap();
    kv.put(by(&ann, put("a", "1"))).await.unwrap();
    assert_eq!(refusal(kv.put(by(&ann, put("b", "1"))).await), denied());
    // It says of itself who its owner is: a restart changes nothing.
    member.restart(&[&flag]).await;
    member.kv().put(by(&ann, put("a", "2"))).await.unwrap();
    assert_eq!(refusal(member.kv().put(by(&ann[..ann.len() - 1], put("a", "3"))).await), invalid());
}

/// CVE-2018-16886, turned round: the name in a certificate counts only where it was verified, and never through the gateway.
async fn a_certificate_says_who_its_owner_is(member: &mut Member) {
    let [root, _, _] = people(member).await;
    permit(member, &root, Type::Readwrite, "a", "").await;
    let plain = member.place.address;
    let (authority, identity) = tls::authority(member);
    let trusted = format!("--trusted-ca-file={}", authority.file.display());
    let (ann, nobody) = (authority.issue("ann", 2, &[]), authority.issue("zoe", 3, &[]));
    let grpc = "application/grpc";
    let put = tls::framed(&put("a", "1"));
    for (more, expected) in [
        (vec![trusted.clone(), "--client-cert-auth".to_owned()], ["0", "7"]),
        // Certificates are asked for, and say nothing.
        (vec![trusted], ["3", "3"]),
    ] {
        tls::secure(member, &identity, &more).await;
        for (certificate, expected) in [&ann, &nobody].into_iter().zip(expected) {
            let config = authority.client(Some(certificate));
            let stream = tls::connect(member, config, &["h2"]).await.unwrap();
            let mut client = tls::http2(stream).await;
            let (_, _, status) =
                tls::post(&mut client, "/etcdserverpb.KV/Put", grpc, put.clone()).await;
            // A refusal without a message comes in the head.
            assert_eq!(status.unwrap_or_default().is_empty(), expected != "0", "{more:?}");
        }
    }
    tls::secure(
        member,
        &identity,
        &[
            format!("--trusted-ca-file={}", authority.file.display()),
            "--client-cert-auth".to_owned(),
        ],
    )
    .await;
    let stream = tls::connect(member, authority.client(Some(&ann)), &["h2"]).await.unwrap();
    let mut client = tls::http2(stream).await;
    let (code, body, _) =
        tls::post(&mut client, "/v3/kv/range", "application/json", b"{\"key\":\"YQ==\"}".to_vec())
            .await;
    let text = "CommonName of client sending a request against gateway will be ignored and not used as expected\n";
    assert_eq!((code, String::from_utf8_lossy(&body).as_ref()), (400, text));
    let range = tls::framed(&range("a"));
    let (_, body, _) = tls::post(&mut client, "/etcdserverpb.KV/Range", grpc, range).await;
    assert_eq!(RangeResponse::decode(&body[5..]).unwrap().kvs.len(), 1);
    member.place.address = plain;
}

async fn the_gateway_takes_tokens(member: &mut Member) {
    let [root, _, _] = people(member).await;
    permit(member, &root, Type::Readwrite, "a", "").await;
    let answer = post(member, "/v3/auth/authenticate", r#"{"name":"ann","password":"pw of ann"}"#);
    let token = answer.body.split("\"token\":\"").nth(1).unwrap().split('"').next().unwrap();
    let body = r#"{"key":"YQ==","value":"MQ=="}"#;
    for header in ["Authorization: ", "Authorization: Bearer ", "Grpc-Metadata-Token: "] {
        let answer = send(member, "POST", "/v3/kv/put", &format!("{header}{token}\r\n"), body);
        assert_eq!(answer.code, 200, "{}", answer.body);
    }
    let answer = send(member, "POST", "/v3/kv/put", "Authorization: no\r\n", body);
    assert_eq!(answer.code, 401, "{}", answer.body);
    assert_eq!(post(member, "/v3/kv/put", body).code, 400);
    let header = format!("Authorization: {token}\r\n");
    let answer = send(member, "POST", "/v3/kv/put", &header, r#"{"key":"Yg=="}"#);
    assert_eq!(answer.code, 403, "{}", answer.body);
}

async fn a_flood_of_logins_leaves_others_alone(member: &mut Member) {
    let [root, ..] = people(member).await;
    let mut logins = tokio::task::JoinSet::new();
    for _ in 0..300 {
        let mut client = auth(member);
        logins.spawn(async move {
            let (name, password) = ("ann".to_owned(), "guessed".to_owned());
            client.authenticate(AuthenticateRequest { name, password }).await.unwrap_err().code()
        });
    }
    // Meanwhile others are served.
    for _ in 0..20 {
        member.kv().put(by(&root, put("a", "1"))).await.unwrap();
    }
    let mut seen = Vec::new();
    while let Some(code) = logins.join_next().await {
        seen.push(code.unwrap());
        if seen.contains(&Code::ResourceExhausted) {
            break;
        }
    }
    assert!(seen.contains(&Code::ResourceExhausted), "{seen:?}");
}
