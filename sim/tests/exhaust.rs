//! Agreement alone: everything that a few steps can do, and far walks.

use cairn_sim::exhaust::{SCOPES, explore, walk, walking};

/// Every state of a scope was looked at, and is as it should be.
fn check(name: &str) {
    let (_, scope) = SCOPES.into_iter().find(|(known, _)| *known == name).expect("a scope");
    let explored = explore(&scope);
    assert!(explored.violation.is_none(), "{name}: {:?}", explored.violation);
    assert!(explored.complete, "{name} does not come to an end: {explored:?}");
    assert!(explored.states > 10_000, "{name} leaves nothing to look at: {explored:?}");
}

/// A test for each scope, so that they run side by side.
macro_rules! scopes {
    ($($name:ident)*) => {
        $(#[test] fn $name() { check(stringify!($name)); })*

        #[test]
        fn every_scope_has_a_test() {
            assert_eq!(SCOPES.map(|(name, _)| name), [$(stringify!($name)),*]);
        }
    };
}

scopes! { election replication doubles reads recovery reconfiguration }

#[test]
fn far_walks_of_three_and_of_five_members_break_no_rule() {
    for members in [3, 5] {
        for seed in 1..=150 {
            let found = walk(&walking(members), seed, 2000);
            assert!(found.is_none(), "{members} members, seed {seed}: {found:?}");
        }
    }
}
