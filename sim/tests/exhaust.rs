//! Agreement alone: everything that a few steps can do, and far walks.

use cairn_sim::exhaust::{Scope, explore, walk, walking};

#[test]
fn no_order_of_a_few_steps_breaks_a_rule() {
    let scope = Scope {
        members: 3,
        terms: 2,
        entries: 1,
        changes: 0,
        crashes: 0,
        duplicates: 0,
        in_flight: 3,
        states_max: 60_000,
    };
    // Without and with a crash, a message twice, and a change of the members.
    for (crashes, duplicates, changes) in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)] {
        let explored = explore(&Scope { crashes, duplicates, changes, ..scope });
        assert!(explored.violation.is_none(), "{:?}", explored.violation);
        assert!(explored.complete || explored.states >= scope.states_max, "{explored:?}");
    }
}

#[test]
fn far_walks_of_three_and_of_five_members_break_no_rule() {
    for members in [3, 5] {
        for seed in 1..=150 {
            let found = walk(&walking(members), seed, 2000);
            assert!(found.is_none(), "{members} members, seed {seed}: {found:?}");
        }
    }
}
