//! The server's own code (connections, gRPC, links between members, driver, engine, recovery) over turmoil's network and
//! clock, with crashes, lost connections and a disk that keeps half of an unanswered write. The engine alone is simulated
//! much harder in the sim crate; this is for what lies above it.
//!
//! | file | what |
//! |---|---|
//! | alone.rs | a cluster of one: crashes, and clients that are cut off |
//! | cluster.rs | three members: crashes, and links between members that are cut, in one direction or both |
//! | member.rs | a member as `serve` starts it, on one core |
//! | client.rs | a client that is no more than h2 and etcd's messages |
//! | disk.rs, runtime.rs | the world below |

mod alone;
mod client;
mod cluster;
mod disk;
mod member;
mod runtime;

/// Where members listen for clients.
pub(crate) const PORT: u16 = 2379;
/// Where members listen for each other.
pub(crate) const PEER_PORT: u16 = 2380;
