//! A cluster that is marked corrupt changes nothing until somebody has looked at it, and waits quietly for that.

use cairn_engine::api::Request;
use cairn_engine::api::etcdserverpb::alarm_request::AlarmAction;
use cairn_engine::api::etcdserverpb::{AlarmRequest, AlarmType, LeaseGrantRequest};
use cairn_engine::config::Member;
use cairn_engine::{MemberId, RequestId, ShardId};
use cairn_sim::clock::Clock;
use cairn_sim::world::{Delays, Options, World};

const SECOND_NS: u64 = 1_000_000_000;

#[test]
fn a_lease_that_may_not_end_keeps_nobody_awake() {
    let delays = Delays::default();
    let mut world = World::new(Options { seed: 1, shards: 1, delays, exact: true });
    let id = MemberId(1);
    let member =
        Member { id, name: "m1".to_owned(), peer_urls: Vec::new(), client_urls: Vec::new() };
    world.add_member(cairn_sim::script::config(id, vec![member]), Clock::default());
    world.start(id);
    world.run_until(SECOND_NS);
    let grant = LeaseGrantRequest { ttl: 2, id: 7 };
    let alarm = |action: AlarmAction| AlarmRequest {
        action: action.into(),
        member_id: 1,
        alarm: AlarmType::Corrupt.into(),
    };
    world.request(id, ShardId(0), RequestId(1), Request::LeaseGrant(grant));
    world.request(id, ShardId(0), RequestId(2), Request::Alarm(alarm(AlarmAction::Activate)));
    world.run_until(2 * SECOND_NS);
    let leases = |world: &World| world.replica(id).expect("it runs").status().leases;
    assert_eq!(leases(&world), 1);

    let steps = world.steps();
    while world.next_ns().is_some_and(|next| next <= 60 * SECOND_NS) {
        world.step();
        assert!(world.steps() < steps + 10_000, "awake without end at {} ns", world.now_ns());
    }
    assert_eq!(leases(&world), 1, "its end would delete keys");

    world.request(id, ShardId(0), RequestId(3), Request::Alarm(alarm(AlarmAction::Deactivate)));
    world.run_until(61 * SECOND_NS);
    assert_eq!(leases(&world), 0);
}
