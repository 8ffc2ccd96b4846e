//! What operators ask: status, members, alarms, hashes, snapshots.

use cairn_engine::api::etcdserverpb::alarm_request::AlarmAction;
use cairn_engine::api::etcdserverpb::downgrade_request::DowngradeAction;
use cairn_engine::api::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmType, AuthStatusRequest, AuthenticateRequest,
    CompactionRequest, DefragmentRequest, DowngradeRequest, HashKvRequest, HashRequest,
    LeaseGrantRequest, MemberListRequest, SnapshotRequest, StatusRequest,
};
use cairn_engine::api::health::HealthCheckRequest;
use cairn_engine::api::health::health_check_response::ServingStatus;
use sha2::{Digest as _, Sha256};
use tonic::transport::Channel;
use tonic::{Code, Request};

use crate::ask::{delete, everything, put, refusal, with};
use crate::client::etcdserverpb::auth_client::AuthClient;
use crate::client::etcdserverpb::cluster_client::ClusterClient;
use crate::client::etcdserverpb::lease_client::LeaseClient;
use crate::client::etcdserverpb::maintenance_client::MaintenanceClient;
use crate::client::health::health_client::HealthClient;
use crate::harness::{Member, on_both_runtimes};

on_both_runtimes! {
    a_member_knows_its_status,
    a_cluster_lists_its_members,
    alarms_are_raised_and_disarmed,
    a_full_store_refuses_to_grow,
    a_corrupt_cluster_refuses_to_change,
    hashes_agree_after_a_restart,
    a_snapshot_carries_its_checksum,
    health_is_served_over_grpc_too,
    a_cluster_is_downgraded_and_thinks_better_of_it,
    without_users_nobody_logs_in,
    calls_that_want_a_leader_have_one,
}

fn maintenance(member: &Member) -> MaintenanceClient<Channel> {
    MaintenanceClient::new(member.channel())
}

async fn a_member_knows_its_status(member: &mut Member) {
    let mut client = maintenance(member);
    member.kv().put(put("a", "1")).await.unwrap();
    let status = client.status(StatusRequest {}).await.unwrap().into_inner();
    let header = status.header.unwrap();
    assert_eq!(header.revision, 2);
    assert_eq!(status.version, "3.7.3");
    assert_eq!(status.storage_version, "3.7.0");
    assert_eq!(status.leader, header.member_id, "a member alone leads");
    assert_eq!((status.raft_term, header.raft_term), (1, 1));
    assert!(status.raft_index > 0 && status.raft_applied_index <= status.raft_index);
    assert_eq!(status.db_size_quota, 2 << 30);
    assert!(status.db_size > 0 && status.db_size_in_use <= status.db_size);
    assert!(status.errors.is_empty() && !status.is_learner);
}

async fn a_cluster_lists_its_members(member: &mut Member) {
    let mut client = ClusterClient::new(member.channel());
    for linearizable in [true, false] {
        let request = MemberListRequest { linearizable };
        let list = client.member_list(request).await.unwrap().into_inner();
        let header = list.header.unwrap();
        let [own] = &*list.members else { panic!("one member") };
        assert_eq!((own.id, &*own.name), (header.member_id, "default"));
        assert_eq!(own.client_urls, [format!("http://{}", member.place.address)]);
        assert_eq!(own.peer_urls, ["http://localhost:2380"]);
        assert!(!own.is_learner);
        assert_eq!(header.revision, 0, "as in etcd");
    }
}

fn alarm(action: AlarmAction, member_id: u64, alarm: AlarmType) -> AlarmRequest {
    AlarmRequest { action: action.into(), member_id, alarm: alarm.into() }
}

async fn alarms_are_raised_and_disarmed(member: &mut Member) {
    let mut client = maintenance(member);
    let own = client.status(StatusRequest {}).await.unwrap().into_inner().leader;
    let raised = AlarmMember { member_id: own, alarm: AlarmType::Nospace.into() };
    for (request, expected) in [
        (alarm(AlarmAction::Get, 0, AlarmType::None), vec![]),
        (alarm(AlarmAction::Deactivate, own, AlarmType::Nospace), vec![]),
        (alarm(AlarmAction::Activate, own, AlarmType::Nospace), vec![raised]),
        (alarm(AlarmAction::Get, 0, AlarmType::None), vec![raised]),
        (alarm(AlarmAction::Get, 0, AlarmType::Corrupt), vec![]),
        (alarm(AlarmAction::Deactivate, own, AlarmType::Nospace), vec![raised]),
        (alarm(AlarmAction::Get, 0, AlarmType::None), vec![]),
    ] {
        let answer = client.alarm(request).await.unwrap().into_inner();
        assert_eq!(answer.alarms, expected, "{request:?}");
    }
}

async fn a_full_store_refuses_to_grow(member: &mut Member) {
    member.restart(&["--quota-backend-bytes=1000000"]).await;
    let (mut client, mut kv) = (maintenance(member), member.kv());
    let no_space = with(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded");
    let mut puts = 0;
    let refused = loop {
        match kv.put(put(format!("{puts}"), vec![0; 100_000])).await {
            Ok(_) => puts += 1,
            Err(status) => break (status.code(), status.message().to_owned()),
        }
    };
    assert_eq!(refused, no_space);
    assert!((5..=10).contains(&puts), "{puts} fit");
    let grant = LeaseGrantRequest { id: 7, ttl: 100 };
    let mut leases = LeaseClient::new(member.channel());
    assert_eq!(refusal(leases.lease_grant(grant).await), no_space);
    let status = client.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.errors, [format!("memberID:{} alarm:NOSPACE", status.leader)]);
    // Reading goes on, and so does everything that makes space.
    kv.range(everything()).await.unwrap();
    kv.delete_range(delete("\0", "\0")).await.unwrap();
    let revision = i64::from(puts) + 2;
    kv.compact(CompactionRequest { revision, physical: true }).await.unwrap();
    client.defragment(DefragmentRequest {}).await.unwrap();
    assert_eq!(refusal(kv.put(put("a", "1")).await), no_space, "until somebody disarms it");
    let disarm = alarm(AlarmAction::Deactivate, status.leader, AlarmType::Nospace);
    client.alarm(disarm).await.unwrap();
    kv.put(put("a", "1")).await.unwrap();
}

async fn a_corrupt_cluster_refuses_to_change(member: &mut Member) {
    let (mut client, mut kv) = (maintenance(member), member.kv());
    kv.put(put("a", "1")).await.unwrap();
    client.alarm(alarm(AlarmAction::Activate, 1, AlarmType::Corrupt)).await.unwrap();
    let corrupt = with(Code::DataLoss, "etcdserver: corrupt cluster");
    assert_eq!(refusal(kv.put(put("a", "2")).await), corrupt);
    assert_eq!(refusal(kv.delete_range(delete("a", "")).await), corrupt);
    let compaction = CompactionRequest { revision: 2, physical: false };
    assert_eq!(refusal(kv.compact(compaction).await), corrupt);
    assert_eq!(kv.range(everything()).await.unwrap().into_inner().count, 1);
    // It is in the log, and therefore outlives the process.
    member.restart(&[]).await;
    assert_eq!(refusal(member.kv().put(put("a", "2")).await), corrupt);
}

async fn hashes_agree_after_a_restart(member: &mut Member) {
    let mut kv = member.kv();
    for number in 0..100 {
        kv.put(put(format!("{}", number % 10), number.to_string())).await.unwrap();
    }
    kv.compact(CompactionRequest { revision: 50, physical: true }).await.unwrap();
    let mut client = maintenance(member);
    let mut hashes = Vec::new();
    for revision in [0, 101, 70] {
        let answer = client.hash_kv(HashKvRequest { revision }).await.unwrap().into_inner();
        let expected = if revision == 0 { 101 } else { revision };
        assert_eq!((answer.compact_revision, answer.hash_revision), (50, expected));
        hashes.push(answer.hash);
    }
    assert!(hashes[0] == hashes[1] && hashes[0] != hashes[2]);
    let whole = client.hash(HashRequest {}).await.unwrap().into_inner().hash;
    assert_ne!(whole, 0);
    assert_eq!(
        refusal(client.hash_kv(HashKvRequest { revision: 49 }).await),
        with(Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted")
    );
    assert_eq!(
        refusal(client.hash_kv(HashKvRequest { revision: 102 }).await),
        with(Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision")
    );

    member.restart(&[]).await;
    let mut client = maintenance(member);
    for (revision, hash) in [0, 101, 70].into_iter().zip(hashes) {
        let answer = client.hash_kv(HashKvRequest { revision }).await.unwrap().into_inner();
        assert_eq!(answer.hash, hash, "at {revision}");
    }
}

async fn a_snapshot_carries_its_checksum(member: &mut Member) {
    let mut kv = member.kv();
    for number in 0..100 {
        kv.put(put(format!("{number}"), vec![7; 10_000])).await.unwrap();
    }
    let mut parts = maintenance(member).snapshot(SnapshotRequest {}).await.unwrap().into_inner();
    let (mut file, mut remaining) = (Vec::new(), u64::MAX);
    while let Some(part) = parts.message().await.unwrap() {
        assert_eq!((part.header, &*part.version), (None, "3.7.3"));
        assert!(part.blob.len() <= 32 << 10);
        assert!(part.remaining_bytes < remaining || part.remaining_bytes == 0);
        remaining = part.remaining_bytes;
        file.extend_from_slice(&part.blob);
    }
    assert_eq!((remaining, file.len() % 512), (0, 32), "etcd's tools look at that");
    assert!(file.len() > 1_000_000);
    let digest = file.split_off(file.len() - 32);
    assert_eq!(digest, Sha256::digest(&file)[..]);
}

async fn health_is_served_over_grpc_too(member: &mut Member) {
    let mut client = HealthClient::new(member.channel());
    let request = HealthCheckRequest { service: String::new() };
    let answer = client.check(request).await.unwrap().into_inner();
    assert_eq!(answer.status(), ServingStatus::Serving);
    let request = HealthCheckRequest { service: "nobody".to_owned() };
    assert_eq!(refusal(client.check(request).await), with(Code::NotFound, "unknown service"));
    for (service, expected) in
        [("", ServingStatus::Serving), ("nobody", ServingStatus::ServiceUnknown)]
    {
        let request = HealthCheckRequest { service: service.to_owned() };
        let mut watch = client.watch(request).await.unwrap().into_inner();
        assert_eq!(watch.message().await.unwrap().unwrap().status(), expected);
    }
}

async fn a_cluster_is_downgraded_and_thinks_better_of_it(member: &mut Member) {
    let mut client = maintenance(member);
    let request = |action: DowngradeAction, version: &str| DowngradeRequest {
        action: action.into(),
        version: version.to_owned(),
    };
    for (action, version, refused) in [
        (DowngradeAction::Validate, "3", "wrong downgrade target version format"),
        (DowngradeAction::Enable, "3.6.x", "wrong downgrade target version format"),
        (DowngradeAction::Validate, "3.7", "invalid downgrade target version"),
        (DowngradeAction::Enable, "3.5.0", "invalid downgrade target version"),
    ] {
        assert_eq!(
            refusal(client.downgrade(request(action, version)).await),
            with(Code::InvalidArgument, &format!("etcdserver: {refused}")),
            "{version}"
        );
    }
    let unknown = DowngradeRequest { action: 7, version: "3.6".to_owned() };
    assert_eq!(
        refusal(client.downgrade(unknown).await),
        with(Code::Unknown, "etcdserver: unknown method")
    );
    for action in [DowngradeAction::Cancel, DowngradeAction::Validate, DowngradeAction::Enable] {
        let answer = client.downgrade(request(action, "3.6.0-rc.1")).await.unwrap().into_inner();
        assert_eq!(answer.version, "3.7");
    }
    member.restart(&[]).await;
    let mut client = maintenance(member);
    let info = async |client: &mut MaintenanceClient<Channel>| {
        let status = client.status(StatusRequest {}).await.unwrap().into_inner();
        let info = status.downgrade_info.unwrap();
        (info.enabled, info.target_version, status.storage_version)
    };
    let under_way = (true, "3.6.0".to_owned(), "3.6.0".to_owned());
    // The version follows in an entry of its own.
    while info(&mut client).await != under_way {
        assert!(info(&mut client).await.0, "it is under way");
    }
    let again = client.downgrade(request(DowngradeAction::Enable, "3.5")).await;
    assert_eq!(
        refusal(again),
        with(Code::FailedPrecondition, "etcdserver: cluster has a downgrade job in progress")
    );
    let answer = client.downgrade(request(DowngradeAction::Cancel, "")).await.unwrap();
    assert_eq!(answer.into_inner().version, "3.6");
    let none = (false, String::new(), "3.7.0".to_owned());
    while info(&mut client).await != none {
        assert!(!info(&mut client).await.0, "it was cancelled");
    }
}

async fn without_users_nobody_logs_in(member: &mut Member) {
    let mut auth = AuthClient::new(member.channel());
    assert_eq!(
        refusal(auth.authenticate(AuthenticateRequest::default()).await),
        with(Code::FailedPrecondition, "etcdserver: authentication is not enabled")
    );
    let status = auth.auth_status(AuthStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.enabled, status.auth_revision), (false, 1));
}

async fn calls_that_want_a_leader_have_one(member: &mut Member) {
    let mut request = Request::new(everything());
    request.metadata_mut().insert("hasleader", "true".parse().unwrap());
    // With authentication off, a token means nothing.
    request.metadata_mut().insert("token", "nonsense".parse().unwrap());
    request.metadata_mut().insert("client-api-version", "3.7".parse().unwrap());
    assert_eq!(member.kv().range(request).await.unwrap().into_inner().count, 0);
}
