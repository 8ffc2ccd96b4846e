//! Members that come, go, are replaced, or lost their disk.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;

use cairn_engine::api::etcdserverpb::{
    MemberAddRequest, MemberPromoteRequest, MemberRemoveRequest, MemberUpdateRequest,
};
use rustix::process::Signal;
use tonic::Code;

use crate::ask::{everything, put, refusal, with};
use crate::cluster::{Cluster, on_both_runtimes, texts, until_ok};
use crate::harness::{Member, Place, Runtime, cairn};

on_both_runtimes! {
    a_member_comes_learns_votes_and_goes,
    what_makes_no_sense_is_refused,
    a_member_is_replaced,
    a_member_whose_disk_was_wiped_comes_back,
    one_member_is_made_a_cluster_of_its_own,
}

/// Adds a member; waits until the cluster has been healthy for long enough.
async fn add(cluster: &Cluster, by: usize, place: &Place, is_learner: bool) -> u64 {
    let answer = until_ok(async || {
        let request = MemberAddRequest { peer_urls: vec![cluster.peer_url(place)], is_learner };
        cluster.membership(by).member_add(request).await
    })
    .await;
    let member = answer.member.unwrap();
    assert_eq!((&*member.name, member.is_learner), ("", is_learner));
    assert!(answer.members.contains(&member));
    member.id
}

async fn a_member_comes_learns_votes_and_goes(cluster: &mut Cluster) {
    cluster.put(0, "before", "1").await;
    let place = Place::new();
    let by = cluster.follower().await;
    let id = add(cluster, by, &place, true).await;
    let initial_cluster = cluster.initial_cluster_with(&place);
    let learner = cluster.begin(place, &initial_cluster, "existing");
    cluster.members[learner].wait_until_ready();
    assert_eq!(cluster.id(learner).await, id);
    assert!(cluster.status(learner).await.is_learner);

    let unsupported = with(Code::FailedPrecondition, "etcdserver: rpc not supported for learner");
    let mut kv = cluster.members[learner].kv();
    assert_eq!(refusal(kv.range(everything()).await), unsupported);
    assert_eq!(refusal(kv.put(put("a", "1")).await), unsupported);
    let mut serializable = everything();
    serializable.serializable = true;
    while kv.range(serializable.clone()).await.unwrap().into_inner().count < 1 {}

    let promote = MemberPromoteRequest { id };
    until_ok(async || cluster.membership(by).member_promote(promote).await).await;
    until_ok(async || cluster.members[learner].kv().range(everything()).await).await;
    assert!(!cluster.status(learner).await.is_learner);
    assert_eq!(
        refusal(cluster.membership(by).member_promote(promote).await),
        with(Code::FailedPrecondition, "etcdserver: can only promote a learner member")
    );
    cluster.put(learner, "after", "2").await;
    assert_eq!(cluster.list(learner).await.len(), 4);

    let remove = MemberRemoveRequest { id };
    let left = until_ok(async || cluster.membership(by).member_remove(remove).await).await;
    assert_eq!(left.members.len(), 3);
    let ended = cluster.members[learner].wait().await;
    assert_eq!(ended.code(), Some(1), "{ended:?}");
    let last = cluster.members[learner].said().last().unwrap().clone();
    assert!(last.contains("permanently removed from the cluster"), "{last}");
    assert!(last.contains(r#""level":"fatal""#), "{last}");
    assert_eq!(
        refusal(cluster.membership(by).member_remove(remove).await),
        with(Code::NotFound, "etcdserver: member not found")
    );
    cluster.put(by, "still", "3").await;
    let gone = format!(r#""removed-remote-peer-id":"{id:x}""#);
    let said = cluster.members[by].said();
    assert!(said.iter().any(|line| line.contains("removed member") && line.contains(&gone)));

    // It does not forget, and says so each time.
    cluster.members[learner].begin_again(&texts(&cluster.flags[learner].clone()));
    let ended = cluster.members[learner].wait().await;
    assert_eq!(ended.code(), Some(1), "{ended:?}");
}

async fn what_makes_no_sense_is_refused(cluster: &mut Cluster) {
    let leader = cluster.leader().await;
    let mut members = cluster.membership(leader);
    let bad = with(Code::InvalidArgument, "etcdserver: given member URLs are invalid");
    for urls in [vec![], vec!["127.0.0.1:1"], vec!["http://127.0.0.1:1", "http://a"]] {
        let peer_urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
        let request = MemberAddRequest { peer_urls, is_learner: false };
        assert_eq!(refusal(members.member_add(request).await), bad);
    }
    let taken = vec![cluster.peer_url(&cluster.members[0].place)];
    let request = MemberAddRequest { peer_urls: taken.clone(), is_learner: false };
    let exists = with(Code::FailedPrecondition, "etcdserver: Peer URLs already exists");
    assert_eq!(refusal(members.member_add(request).await), exists);
    let id = cluster.id(1).await;
    let update = MemberUpdateRequest { id, peer_urls: taken };
    assert_eq!(refusal(members.member_update(update).await), exists);
    let unknown = with(Code::NotFound, "etcdserver: member not found");
    let peer_urls = vec!["http://127.0.0.1:1".to_owned()];
    let update = MemberUpdateRequest { id: 7, peer_urls };
    assert_eq!(refusal(members.member_update(update).await), unknown);
    assert_eq!(refusal(members.member_remove(MemberRemoveRequest { id: 7 }).await), unknown);
    assert_eq!(refusal(members.member_promote(MemberPromoteRequest { id: 7 }).await), unknown);
    // Its own URLs again, and one more that leads nowhere.
    let own = cluster.peer_url(&cluster.members[1].place);
    let peer_urls = vec!["http://127.0.0.1:1".to_owned(), own];
    let update = MemberUpdateRequest { id, peer_urls: peer_urls.clone() };
    members.member_update(update).await.unwrap();
    let list = cluster.list(0).await;
    let found = list.iter().find(|member| member.id == id).unwrap();
    assert_eq!(found.peer_urls, peer_urls);
    cluster.put(1, "a", "1").await;
}

async fn a_member_is_replaced(cluster: &mut Cluster) {
    let dead = cluster.follower().await;
    let id = cluster.id(dead).await;
    cluster.kill(dead).await;
    let by = cluster.leader().await;
    cluster.put(by, "a", "1").await;
    let remove = MemberRemoveRequest { id };
    until_ok(async || cluster.membership(by).member_remove(remove).await).await;
    let place = Place::new();
    let added = add(cluster, by, &place, false).await;
    assert_ne!(added, id);
    let initial_cluster = cluster.initial_cluster_with(&place);
    let new = cluster.begin(place, &initial_cluster, "existing");
    cluster.members[new].wait_until_ready();
    assert_eq!(cluster.get(new, "a").await.as_deref(), Some("1"));
    assert_eq!(cluster.list(new).await.len(), 3);
    // It counts: without one of the others there is a majority still.
    let other = (0..3).find(|number| *number != dead && *number != by).unwrap();
    cluster.kill(other).await;
    cluster.put(new, "b", "2").await;
    // What was joined once needs no flags for it, and whoever dies comes back as it was.
    cluster.start_again(other);
    cluster.kill(new).await;
    cluster.start_again(new);
    assert_eq!(cluster.get(new, "b").await.as_deref(), Some("2"));
}

async fn a_member_whose_disk_was_wiped_comes_back(cluster: &mut Cluster) {
    cluster.put(0, "a", "1").await;
    let wiped = cluster.follower().await;
    let id = cluster.id(wiped).await;
    cluster.kill(wiped).await;
    fs::remove_dir_all(cluster.members[wiped].place.data()).unwrap();
    cluster.start_again(wiped);
    assert_eq!(cluster.id(wiped).await, id);
    // It learns until it has caught up; then it makes a majority with one of the others.
    let votes_again = format!(r#""promoted-member-id":"{id:x}""#);
    while !cluster.members[wiped].said().iter().any(|line| line.contains(&votes_again)) {
        tokio::time::sleep(crate::cluster::POLL).await;
    }
    assert_eq!(cluster.get(wiped, "a").await.as_deref(), Some("1"));
    let leader = cluster.leader().await;
    let other = (0..3).find(|number| *number != wiped && *number != leader).unwrap();
    cluster.kill(if leader == wiped { other } else { leader }).await;
    cluster.put(wiped, "b", "2").await;
}

async fn one_member_is_made_a_cluster_of_its_own(cluster: &mut Cluster) {
    cluster.put(0, "a", "1").await;
    assert_eq!(cluster.get(2, "a").await.as_deref(), Some("1"));
    for number in 0..3 {
        cluster.kill(number).await;
    }
    let mut flags = cluster.flags[2].clone();
    flags.push("--force-new-cluster".to_owned());
    cluster.members[2].start_again(&texts(&flags));
    assert_eq!(cluster.get(2, "a").await.as_deref(), Some("1"));
    cluster.put(2, "b", "2").await;
    assert_eq!(cluster.list(2).await.len(), 1);
    // It stays so without the flag.
    cluster.members[2].terminate().await;
    cluster.start_again(2);
    assert_eq!(cluster.get(2, "b").await.as_deref(), Some("2"));
}

#[test]
fn who_was_not_added_does_not_join() {
    crate::cluster::run(Runtime::Tokio, async |cluster: &mut Cluster| {
        let place = Place::new();
        let initial_cluster = cluster.initial_cluster_with(&place);
        let stranger = cluster.begin(place, &initial_cluster, "existing");
        let line = cluster.members[stranger].wait_for("cannot join the cluster yet");
        assert!(line.contains("add it first"), "{line}");
        let ended = cluster.members[stranger].terminate().await;
        assert_eq!(ended.signal(), Some(Signal::TERM.as_raw()));

        // Whoever is added in the meantime does.
        cluster.members[stranger].begin_again(&texts(&cluster.flags[stranger].clone()));
        cluster.members[stranger].wait_for("cannot join the cluster yet");
        let url = cluster.peer_url(&cluster.members[stranger].place);
        until_ok(async || {
            let request = MemberAddRequest { peer_urls: vec![url.clone()], is_learner: true };
            cluster.membership(0).member_add(request).await
        })
        .await;
        cluster.members[stranger].wait_until_ready();
    });
}

#[test]
fn another_cluster_is_not_let_in() {
    crate::cluster::run(Runtime::Tokio, async |cluster: &mut Cluster| {
        let place = Place::new();
        // It has an id and a cluster of its own making, and the addresses of others.
        let named = [
            format!("m0={}", cluster.peer_url(&cluster.members[0].place)),
            format!("other={}", cluster.peer_url(&place)),
        ];
        let flags = [
            "--name=other".to_owned(),
            format!("--initial-advertise-peer-urls={}", cluster.peer_url(&place)),
            format!("--initial-cluster={}", named.join(",")),
            "--initial-cluster-token=another".to_owned(),
        ];
        let mut other = Member::begin_by(cairn(), place, Runtime::Tokio, &texts(&flags));
        let line = other.wait_for("cannot reach member");
        assert!(line.contains("cluster"), "{line}");
        cluster.members[0].wait_for("refused a connection");
        cluster.put(0, "a", "1").await;
        other.terminate().await;
    });
}

#[test]
fn who_has_nobody_to_ask_does_not_join() {
    let place = Place::new();
    let url = format!("http://{}:2380", place.address.ip());
    let flags = [
        "--initial-cluster-state=existing".to_owned(),
        format!("--initial-advertise-peer-urls={url}"),
        format!("--initial-cluster=default={url}"),
    ];
    let (code, said) = crate::harness::refused(&place, &texts(&flags));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("nobody to ask"), "{said}");
}
