//! A whole member, seen by its clients: a client that is not ours asks a `cairn` in a process of its own, on both
//! runtimes.
//!
//! What the answers must be in every state is the business of the engine's tests and the simulator's model. These
//! tests are about the way there and back: each call, each option, each error's code and text, on the wire.
//!
//! | file | what |
//! |---|---|
//! | kv.rs, watch.rs, lease.rs, maintenance.rs | etcd's services |
//! | recipes.rs | Lock and Election |
//! | auth.rs | users, roles, and who may what; etcd's advisories of 2026 |
//! | http.rs | HTTP/1.1 on the same port |
//! | gateway.rs | the API in JSON |
//! | tls.rs, peer_tls.rs | TLS of clients; of members among each other |
//! | spans.rs | calls that are traced |
//! | process.rs | starting, stopping, being killed, and reasons not to start |
//! | `local_cluster.rs` | the subcommand that runs several |
//! | discovery.rs | members that find each other |
//! | commands.rs, bench.rs | the commands of every day; the one that makes load |
//! | hostile.rs, budgets.rs | clients that mean no good; what one client may have |
//! | harness.rs, ask.rs, authority.rs | a member in a child process; questions, made short; certificates |

#![expect(clippy::unwrap_used, reason = "the linter does not see that helpers of tests are tests")]

#[path = "../client/mod.rs"]
mod client;

mod ask;
mod auth;
mod authority;
mod bench;
mod budgets;
mod commands;
mod discovery;
mod gateway;
mod harness;
mod hostile;
mod http;
mod kv;
mod lease;
mod local_cluster;
mod maintenance;
mod peer_tls;
mod process;
mod recipes;
mod spans;
mod tls;
mod watch;
