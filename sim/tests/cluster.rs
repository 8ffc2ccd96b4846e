//! Stories of clusters that need more than a script: every way to cut the links of three members, a value that one
//! member remembers wrongly, and the last member of a lost cluster.

use std::collections::BTreeSet;

use bytes::Bytes;
use cairn_engine::api::Request;
use cairn_engine::api::etcdserverpb::RangeRequest;
use cairn_engine::event::Event;
use cairn_engine::raft::RoleName;
use cairn_engine::state_machine::AlarmKind;
use cairn_engine::{MemberId, RequestId, ShardId, peer};
use cairn_sim::disk::Torn;
use cairn_sim::world::{Observation, World};

mod common;

use common::{SECOND_NS, leaders, put, succeeds, world};

/// The six links between three members, each of which is cut in one of 64 ways, for ever.
fn cut(world: &mut World, mask: u64) -> BTreeSet<(u64, u64)> {
    let links = [(1, 2), (2, 1), (1, 3), (3, 1), (2, 3), (3, 2)];
    let cut: BTreeSet<(u64, u64)> =
        (0..).zip(links).filter(|(bit, _)| mask & (1 << bit) != 0).map(|(_, link)| link).collect();
    cut.iter().for_each(|(from, to)| world.network.cut(MemberId(*from), MemberId(*to)));
    cut
}

#[test]
fn whatever_links_are_cut_for_ever_a_connected_majority_has_a_leader_that_serves() {
    for seed in 1..=3 {
        for mask in 0..64 {
            let mut world = world(3, seed);
            let cut = cut(&mut world, mask);
            let both_ways = |a: u64, b: u64| !cut.contains(&(a, b)) && !cut.contains(&(b, a));
            let is_connected = both_ways(1, 2) || both_ways(1, 3) || both_ways(2, 3);
            // An election timeout is a second: three to miss the old leader, as many to agree on a new one.
            world.run_until(world.now_ns() + 8 * SECOND_NS);
            let mut serving = Vec::new();
            for id in [1, 2, 3].map(MemberId) {
                let leads = leaders(&world).contains(&id);
                if leads && succeeds(&mut world, id, id.0, put("v")) {
                    serving.push(id);
                }
            }
            assert_eq!(
                serving.len(),
                usize::from(is_connected),
                "seed {seed}, cut {cut:?}: {serving:?} serve"
            );
            // And it stays so: nobody outside disturbs it.
            let term = |world: &World| {
                serving
                    .first()
                    .and_then(|id| world.replica(*id))
                    .map(|replica| replica.status().term)
            };
            let before = term(&world);
            world.run_until(world.now_ns() + 20 * SECOND_NS);
            assert_eq!(term(&world), before, "seed {seed}, cut {cut:?}: leadership is not stable");
        }
    }
}

#[test]
fn a_value_that_one_member_remembers_wrongly_is_noticed_within_a_second() {
    for wrong in [1, 2, 3].map(MemberId) {
        let mut world = world(3, 7);
        let leader = leaders(&world)[0];
        world.forge(wrong, b"right", b"wrong");
        assert!(succeeds(&mut world, leader, 1, put("right")));
        if wrong == leader {
            continue; // It read nothing from anybody.
        }
        let end = world.now_ns() + SECOND_NS;
        let mut told = BTreeSet::new();
        while world.now_ns() < end && world.step() {
            while let Some(observation) = world.observe() {
                if let Observation::Event(_, Event::Diverged { member, .. }) = observation {
                    told.insert(member);
                }
            }
        }
        assert_eq!(told, [wrong].into(), "one member is wrong, and it is said which");
        for id in [1, 2, 3].map(MemberId) {
            let replica = world.replica(id).expect("it runs");
            let raised = |member| replica.state().alarms.is_raised_by(AlarmKind::Corrupt, member);
            let accused: Vec<_> =
                [1, 2, 3].map(MemberId).into_iter().filter(|m| raised(*m)).collect();
            assert_eq!(accused, [wrong], "member {} knows", id.0);
        }
        assert!(!succeeds(&mut world, leader, 2, put("later")), "nothing changes then");
    }
}

#[test]
fn a_leader_that_remembers_wrongly_is_noticed_by_those_who_follow() {
    for wrong in [1, 2, 3].map(MemberId) {
        let mut world = world(3, 7);
        let before = leaders(&world)[0];
        if wrong == before {
            continue; // It read nothing from anybody.
        }
        world.forge(wrong, b"right", b"wrong");
        assert!(succeeds(&mut world, before, 1, put("right")));
        // Before anybody compares, the one that is wrong leads.
        assert!(succeeds(&mut world, before, 2, Request::MoveLeader(wrong)));
        let end = world.now_ns() + 2 * SECOND_NS;
        let mut told = BTreeSet::new();
        while world.now_ns() < end && world.step() {
            while let Some(observation) = world.observe() {
                if let Observation::Event(by, Event::Diverged { member, .. }) = observation {
                    told.insert((by, member));
                }
            }
        }
        assert_eq!(leaders(&world), [wrong], "it still leads");
        assert_eq!(
            told,
            [(wrong, wrong)].into(),
            "it is told by a majority that it is wrong itself"
        );
        assert!(!succeeds(&mut world, wrong, 3, put("later")), "nothing changes then");
    }
}

#[test]
fn the_last_member_of_a_lost_cluster_goes_on_alone_if_its_operator_says_so() {
    for survivor in [1, 2, 3].map(MemberId) {
        let mut world = world(3, 3);
        let leader = leaders(&world)[0];
        assert!(succeeds(&mut world, leader, 1, put("kept")));
        world.run_until(world.now_ns() + SECOND_NS);
        for id in [1, 2, 3].map(MemberId) {
            world.crash(id, Torn::Nothing);
        }
        world.reconfigure(survivor, |config| config.force_new_cluster = true);
        world.start(survivor);
        world.run_until(world.now_ns() + 5 * SECOND_NS);
        let members = |world: &World| -> Vec<u64> {
            let replica = world.replica(survivor).expect("it runs");
            replica.state().cluster.records().map(|record| record.id).collect()
        };
        assert_eq!(members(&world), [survivor.0]);
        assert!(succeeds(&mut world, survivor, 2, put("new")));
        // Started as usual, it is what it was made.
        world.crash(survivor, Torn::Nothing);
        world.reconfigure(survivor, |config| config.force_new_cluster = false);
        world.start(survivor);
        world.run_until(world.now_ns() + 5 * SECOND_NS);
        assert_eq!(members(&world), [survivor.0]);
        let range = RangeRequest { key: Bytes::from_static(b"k"), ..RangeRequest::default() };
        assert!(succeeds(&mut world, survivor, 3, Request::Range(range)));
        // The others are strangers: they neither disturb it nor are they let in.
        for id in [1, 2, 3].map(MemberId).into_iter().filter(|id| *id != survivor) {
            world.start(id);
        }
        world.run_until(world.now_ns() + 30 * SECOND_NS);
        let replica = world.replica(survivor).expect("it runs");
        assert_eq!(replica.status().role, RoleName::Leader);
        assert!(succeeds(&mut world, survivor, 4, put("newest")));
    }
}

#[test]
fn what_arrives_twice_is_done_once_and_not_refused_though_there_is_room_for_one() {
    let mut world = world(3, 5);
    // Room for one of these puts, not for two.
    for id in [1, 2, 3].map(MemberId) {
        world.reconfigure(id, |config| config.limits.proposed_bytes_max = 400);
        world.crash(id, Torn::Nothing);
        world.start(id);
    }
    world.run_until(world.now_ns() + 4 * SECOND_NS);
    let leader = leaders(&world)[0];
    let other = if leader == MemberId(1) { MemberId(2) } else { MemberId(1) };
    while world.observe().is_some() {}
    world.request(other, ShardId(0), RequestId(1), put(&"v".repeat(300)));
    let (mut copies, mut answers) = (0, Vec::new());
    let end = world.now_ns() + SECOND_NS;
    while world.now_ns() < end && world.step() {
        while let Some(observation) = world.observe() {
            if let Observation::Reply { id: RequestId(1), result, .. } = observation {
                answers.push(result.is_ok());
            } else if let Observation::Sent(message, _) = observation
                && let peer::Body::Propose { .. } = message.body
                && copies == 0
            {
                copies += 1;
                world.inject(message);
            }
        }
    }
    assert_eq!((copies, answers), (1, vec![true]));
}
