//! The world that a scenario happens in: processes, the network between them, and connections to them.
//!
//! | module | what |
//! |---|---|
//! | [`process`] | one child process and the signals that it can be sent |
//! | [`cluster`] | the members of a cluster, on loopback, in slots that outlive them |
//! | [`network`] | a proxy before each member's peer port, which cuts and slows links |
//! | [`connection`] | gRPC connections, and which errors a crash explains |
//! | [`admin`] | what an operator asks of a cluster: who leads, who is a member, whether all have the same |
//!
//! Nothing here knows Cairn from etcd: both take the same flags and speak the same API.

pub(crate) mod admin;
pub(crate) mod cluster;
pub(crate) mod connection;
pub(crate) mod network;
pub(crate) mod process;
