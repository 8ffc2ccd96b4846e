//! Clusters of real members: processes that find each other over TCP, on both runtimes, seen by their clients.
//!
//! That members agree whatever happens is the simulator's to show. These tests are about the way there and back: that
//! members find each other, that what operators ask of a cluster has its effect and its words, and that the parts which
//! the simulator does not run (links, files, the process) keep what the engine promises.
//!
//! | file | what |
//! |---|---|
//! | data.rs | what one member acknowledged, all have, whoever dies |
//! | leaders.rs | elections, leadership that is handed over, and being without |
//! | members.rs | members that come, go, are replaced, or lost their disk |
//! | tls.rs | members that keep secret what they say to each other |
//! | harness.rs | several members in child processes |

#![expect(clippy::unwrap_used, reason = "the linter does not see that helpers of tests are tests")]

#[path = "../serve/ask.rs"]
#[expect(dead_code, reason = "shared with the tests of one member, which ask more")]
mod ask;
#[path = "../serve/authority.rs"]
#[expect(dead_code, reason = "shared with the tests of one member, which also are clients")]
mod authority;
#[path = "../client/mod.rs"]
mod client;
#[path = "../serve/harness.rs"]
#[expect(dead_code, unused_imports, unused_macros, reason = "shared with the tests of one member")]
mod harness;

mod cluster;
mod data;
mod leaders;
mod members;
mod tls;
