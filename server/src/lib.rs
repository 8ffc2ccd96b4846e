//! etcd's face of Cairn: what clients, operators and scripts meet.
//!
//! | chapter | what |
//! |---|---|
//! | [`flags`] | what people say: command line, environment, configuration file |
//! | [`config`] | what was meant: typed settings, verified |
//! | [`identity`], [`data`], [`join`] | the ids of members and clusters, as etcd computes them, where they are kept, and how one that joins learns its own |
//! | [`discovery`] | how the members of a new cluster find each other, if nobody names them |
//! | [`cli`] | subcommands: what the binary can do beside being a member |
//! | [`serve`], `init_daemon` | a member, from its configuration to its end; how it tells systemd |
//! | [`listeners`] | where to listen, and how what is said there is kept secret |
//! | `gateway_client` | asking other members, for subcommands and for those that look for their cluster |
//! | [`accept`] | a connection: HTTP/2 or HTTP/1.1? |
//! | [`tls`] | connections that are secured |
//! | [`grpc`] | etcd's gRPC services |
//! | `recipes` | Lock and Election: calls that are made of other calls |
//! | [`web`], [`http1`], `debug`, `gateway` | HTTP: who may ask; health, version and metrics; what goes on inside; the API in JSON |
//! | `lobby` | connections that have not said their first words |
//! | `peers` | the peer port: links to other members, and whom those ask that join |
//! | [`context`] | what the connections of a core share |
//! | [`metrics`], [`notices`] | numbers and lines for operators |
//! | [`log`] | lines that never wait for whoever reads them |
//! | [`version`] | which etcd this is, for those who ask |

#![forbid(unsafe_code)]

pub mod accept;
pub mod auth;
pub mod budget;
pub mod cli;
pub mod config;
pub mod context;
pub mod data;
mod debug;
pub mod discovery;
pub mod flags;
pub mod gateway;
mod gateway_client;
pub mod grpc;
pub mod http1;
pub mod identity;
mod init_daemon;
pub mod join;
pub mod listeners;
mod lobby;
pub mod log;
pub mod metrics;
pub mod notices;
mod peers;
mod profile;
mod recipes;
pub mod serve;
pub mod spans;
mod takeover;
pub mod tls;
pub mod version;
pub mod web;

#[cfg(test)]
mod compat;
