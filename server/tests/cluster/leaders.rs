//! Elections, leadership that is handed over, and being without a leader.

use cairn_engine::api::etcdserverpb::watch_request::RequestUnion;
use cairn_engine::api::etcdserverpb::{
    LeaseKeepAliveRequest, MoveLeaderRequest, WatchCreateRequest, WatchRequest,
};
use tokio::sync::mpsc::unbounded_channel;
use tonic::Code;
use tonic::codegen::tokio_stream::wrappers::UnboundedReceiverStream;

use crate::ask::{everything, refusal, with};
use crate::client::etcdserverpb::lease_client::LeaseClient;
use crate::client::etcdserverpb::watch_client::WatchClient;
use crate::cluster::{Cluster, on_both_runtimes, with_leader};

on_both_runtimes! {
    all_members_know_their_leader,
    leadership_is_moved,
    a_leader_that_stops_hands_over,
    without_a_leader_clients_are_told,
}

async fn all_members_know_their_leader(cluster: &mut Cluster) {
    let leader = cluster.leader().await;
    let id = cluster.id(leader).await;
    let mut clusters = Vec::new();
    for number in 0..3 {
        let status = cluster.status(number).await;
        let header = status.header.unwrap();
        clusters.push(header.cluster_id);
        assert_eq!((status.leader, status.is_learner), (id, false));
        assert_eq!(status.raft_term, header.raft_term);
        let list = cluster.list(number).await;
        let mut names: Vec<_> = list.iter().map(|member| &*member.name).collect();
        names.sort_unstable();
        assert_eq!(names, ["m0", "m1", "m2"]);
        assert!(list.windows(2).all(|pair| pair[0].id < pair[1].id));
        assert!(list.iter().all(|member| member.client_urls.len() == 1));
        let line = format!("elected leader {id:x} at term {}", status.raft_term);
        assert!(cluster.members[number].said().iter().any(|said| said.contains(&line)), "{line}");
        let get = |path: &str| {
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: cairn\r\nConnection: close\r\n\r\n");
            cluster.members[number].talk(request.as_bytes())
        };
        assert!(get("/version").contains(r#""etcdcluster":"3.7.0""#));
        assert!(get("/readyz").ends_with("ok\n"));
        let metrics = get("/metrics");
        assert!(metrics.contains("\netcd_server_has_leader 1\n"));
        let leads = format!("\netcd_server_is_leader {}\n", u8::from(number == leader));
        assert!(metrics.contains(&leads), "{leads}");
        assert_eq!(metrics.matches("\netcd_network_active_peers{").count(), 2, "{metrics}");
    }
    assert!(clusters.iter().all(|cluster| *cluster == clusters[0]));
}

async fn leadership_is_moved(cluster: &mut Cluster) {
    for _ in 0..3 {
        let (leader, follower) = (cluster.leader().await, cluster.follower().await);
        let target_id = cluster.id(follower).await;
        let to = |target_id| MoveLeaderRequest { target_id };
        assert_eq!(
            refusal(cluster.maintenance(follower).move_leader(to(target_id)).await),
            with(Code::FailedPrecondition, "etcdserver: not leader")
        );
        for nobody in [0, 7] {
            assert_eq!(
                refusal(cluster.maintenance(leader).move_leader(to(nobody)).await),
                with(Code::FailedPrecondition, "etcdserver: bad leader transferee")
            );
        }
        cluster.maintenance(leader).move_leader(to(target_id)).await.unwrap();
        assert_eq!(cluster.status(leader).await.leader, target_id);
        assert_eq!(cluster.leader().await, follower);
        cluster.put(leader, "a", "1").await;
    }
}

async fn a_leader_that_stops_hands_over(cluster: &mut Cluster) {
    let leader = cluster.leader().await;
    cluster.members[leader].terminate().await;
    let said = cluster.members[leader].said();
    assert!(said.iter().any(|line| line.contains("leadership transfer finished")), "{said:?}");
    assert_ne!(cluster.leader().await, leader);
    cluster.put((leader + 1) % 3, "a", "1").await;
}

async fn without_a_leader_clients_are_told(cluster: &mut Cluster) {
    let survivor = cluster.follower().await;
    let (_requests, outgoing) = unbounded_channel();
    let mut watch = WatchClient::new(cluster.members[survivor].channel());
    let create = WatchCreateRequest { key: b"a".to_vec().into(), ..WatchCreateRequest::default() };
    let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    _requests.send(create).unwrap();
    let request = with_leader(UnboundedReceiverStream::new(outgoing));
    let mut watched = watch.watch(request).await.unwrap().into_inner();
    assert!(watched.message().await.unwrap().unwrap().created);
    let (_asks, outgoing) = unbounded_channel::<LeaseKeepAliveRequest>();
    let mut leases = LeaseClient::new(cluster.members[survivor].channel());
    let request = with_leader(UnboundedReceiverStream::new(outgoing));
    let mut kept = leases.lease_keep_alive(request).await.unwrap().into_inner();

    for other in (0..3).filter(|number| *number != survivor) {
        cluster.kill(other).await;
    }
    let no_leader = || with(Code::Unavailable, "etcdserver: no leader");
    let gone = watched.message().await.expect_err("it is cut");
    assert_eq!((gone.code(), gone.message().to_owned()), no_leader());
    let gone = kept.message().await.expect_err("it is cut");
    assert_eq!((gone.code(), gone.message().to_owned()), no_leader());
    let mut kv = cluster.members[survivor].kv();
    assert_eq!(refusal(kv.range(with_leader(everything())).await), no_leader());
    let mut serializable = everything();
    serializable.serializable = true;
    kv.range(serializable).await.unwrap();
    let status = cluster.status(survivor).await;
    assert_eq!((status.leader, status.errors), (0, vec!["etcdserver: no leader".to_owned()]));
    let get = |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: cairn\r\nConnection: close\r\n\r\n");
        cluster.members[survivor].talk(request.as_bytes())
    };
    assert!(get("/health").contains("RAFT NO LEADER"));
    assert!(get("/health?serializable=true").contains(r#""health":"true""#));
    assert!(get("/livez").ends_with("ok\n"));
    assert!(get("/metrics").contains("\netcd_server_has_leader 0\n"));

    for other in (0..3).filter(|number| *number != survivor) {
        cluster.members[other].begin_again(&crate::cluster::texts(&cluster.flags[other]));
    }
    cluster.put(survivor, "a", "1").await;
}
