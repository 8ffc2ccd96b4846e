//! etcd's face of Cairn: what clients, operators and scripts meet.
//!
//! | chapter | what |
//! |---|---|
//! | [`flags`] | what people say: command line, environment, configuration file |
//! | [`config`] | what was meant: typed settings, verified |
//! | [`identity`], [`data`], [`join`] | the ids of members and clusters, as etcd computes them, where they are kept, and how one that joins learns its own |
//! | [`cli`] | subcommands: what the binary can do beside being a member |
//! | [`serve`] | a member, from its configuration to its end |
//! | [`accept`] | a connection: HTTP/2 or HTTP/1.1? |
//! | [`grpc`] | etcd's gRPC services |
//! | [`http1`] | health, version and metrics |
//! | `peers` | the peer port: links to other members, and whom those ask that join |
//! | [`context`] | what the connections of a core share |
//! | [`metrics`], [`notices`] | numbers and lines for operators |
//! | [`log`] | lines that never wait for whoever reads them |
//! | [`version`] | which etcd this is, for those who ask |

#![forbid(unsafe_code)]

pub mod accept;
pub mod cli;
pub mod config;
pub mod context;
pub mod data;
pub mod flags;
pub mod grpc;
pub mod http1;
pub mod identity;
pub mod join;
pub mod log;
pub mod metrics;
pub mod notices;
pub mod serve;
pub mod version;

mod peer_metrics;
mod peers;

#[cfg(test)]
mod compat;
