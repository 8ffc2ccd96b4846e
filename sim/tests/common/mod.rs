//! A cluster in a simulated world, for stories that need more than a script.

use bytes::Bytes;
use cairn_engine::api::Request;
use cairn_engine::api::etcdserverpb::PutRequest;
use cairn_engine::config::Member;
use cairn_engine::{MemberId, RequestId, ShardId};
use cairn_sim::clock::Clock;
use cairn_sim::script;
use cairn_sim::world::{Delays, Observation, Options, World};

/// A second.
pub(crate) const SECOND_NS: u64 = 1_000_000_000;

/// Members 1 to `count`, started, one of which leads.
pub(crate) fn world(count: u64, seed: u64) -> World {
    let delays = Delays::default();
    let mut world = World::new(Options { seed, shards: 1, delays, exact: false });
    let members: Vec<Member> = (1..=count)
        .map(|id| Member {
            id: MemberId(id),
            name: format!("m{id}"),
            peer_urls: vec![format!("http://m{id}:2380")],
            client_urls: Vec::new(),
        })
        .collect();
    for member in &members {
        world.add_member(script::config(member.id, members.clone()), Clock::default());
        world.start(member.id);
    }
    world.run_until(4 * SECOND_NS);
    assert!(leaders(&world).len() == 1, "they elect somebody");
    world
}

/// Who leads, as far as they know, and knows all that was committed before.
pub(crate) fn leaders(world: &World) -> Vec<MemberId> {
    let leads =
        |id: &MemberId| world.replica(*id).is_some_and(|replica| replica.raft().is_settled());
    world.members().filter(leads).collect()
}

/// A put of the one key of these stories.
pub(crate) fn put(value: &str) -> Request {
    let (key, value) = (Bytes::from_static(b"k"), Bytes::copy_from_slice(value.as_bytes()));
    Request::Put(PutRequest { key, value, ..PutRequest::default() })
}

/// Whether a request is answered well within a second.
pub(crate) fn succeeds(world: &mut World, member: MemberId, id: u64, request: Request) -> bool {
    while world.observe().is_some() {}
    world.request(member, ShardId(0), RequestId(id), request);
    let end = world.now_ns() + SECOND_NS;
    while world.now_ns() < end && world.step() {
        while let Some(observation) = world.observe() {
            if let Observation::Reply { id: answered, result, .. } = observation
                && answered == RequestId(id)
            {
                return result.is_ok();
            }
        }
    }
    false
}
