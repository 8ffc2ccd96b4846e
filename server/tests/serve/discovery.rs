//! Members that find each other by asking another cluster.

use cairn_engine::api::etcdserverpb::MemberListRequest;

use crate::ask::{put, range};
use crate::client::etcdserverpb::cluster_client::ClusterClient;
use crate::harness::{Member, Place, Runtime, block_on, cairn};

/// Begins a member that looks for its cluster.
fn seek(registry: &Member, name: &str) -> Member {
    let place = Place::new();
    let flags = [
        format!("--name={name}"),
        format!("--initial-advertise-peer-urls=http://{}:2380", place.address.ip()),
        format!("--discovery-endpoints=127.0.0.1:1,http://{}", registry.place.address),
        "--discovery-token=token".to_owned(),
        "--discovery-request-timeout=2s".to_owned(),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    Member::begin_by(cairn(), place, Runtime::Tokio, &flags)
}

#[test]
fn members_find_each_other_by_a_registry() {
    let registry = Member::start(Runtime::Tokio, &[]);
    let root = "/_etcd/registry/token";
    let mut early = seek(&registry, "early");
    early.wait_for("discovery: size key not found");
    assert_eq!(block_on(early.wait()).code(), Some(1));

    block_on(async {
        let size = put(format!("{root}/_config/size"), "2");
        registry.kv().put(size).await.unwrap();
    });
    let mut one = seek(&registry, "one");
    one.wait_for("waiting for peers from discovery service");
    let mut two = seek(&registry, "two");
    one.wait_until_ready();
    two.wait_until_ready();
    block_on(async {
        let mut client = ClusterClient::new(one.channel());
        let request = MemberListRequest { linearizable: true };
        let mut names: Vec<String> = Vec::new();
        // What a member says of itself may come a moment later.
        while names != ["one", "two"] {
            let list = client.member_list(request).await.unwrap().into_inner();
            names = list.members.into_iter().map(|member| member.name).collect();
            names.sort();
        }
        let mut own = registry.kv();
        let mut members = range(format!("{root}/members/"));
        members.range_end = format!("{root}/members0").into();
        let found = own.range(members).await.unwrap().into_inner();
        let values = found.kvs.iter().map(|kv| String::from_utf8(kv.value.to_vec()).unwrap());
        let mut values = Vec::from_iter(values);
        values.sort();
        let url = |member: &Member| format!("http://{}:2380", member.place.address.ip());
        assert_eq!(values, [format!("one={}", url(&one)), format!("two={}", url(&two))]);
    });

    let mut late = seek(&registry, "late");
    late.wait_for("discovery: cluster is full");
    assert_eq!(block_on(late.wait()).code(), Some(1));
    // Who has data asks nobody.
    drop(registry);
    block_on(two.terminate());
    two.start_again(&["--name=two"]);
}
