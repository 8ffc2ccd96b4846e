//! What the fuzzer feeds: one function for each target, which panics if something is wrong.
//!
//! They are plain functions, so that two harnesses share them: libFuzzer (in the folder `libfuzzer`), which
//! needs a nightly compiler, and `cargo test`, which runs each over its seeds and a few hundred random inputs.
//!
//! | function | bytes become | what must hold |
//! |---|---|---|
//! | [`wal_recovery`] | a log, and damage to it | recovery gives a moment of its history, and reports what was promised and is gone |
//! | [`wal_bytes`] | segment files | recovery ends |
//! | [`tree_pages`] | trees on disk, and harm to their file | they are maps; harm is found, or nothing is amiss |
//! | [`etcd_file`] | a database of etcd's, and harm to it | it is refused, or gives a state that holds together |
//! | [`etcd_log`] | etcd's log | the same |
//! | [`request_decode`] | a call | it is refused, or can be decoded again from the log |
//! | [`txn_check`] | transactions | engine and model agree about them, before and after |
//! | [`permissions`] | roles, and what their users ask for | engine and model agree who may what |
//! | [`credentials`] | metadata of a call | it is a token, or none; never more |
//! | [`frames`] | data of a stream | messages come out as a second parser finds them |
//! | [`http2_connection`] | what a client sends | wherever it is cut, it means the same, and little is held |
//! | [`hpack_block`] | a head of HTTP/2 | it is read, or refused |
//! | [`peer_frames`] | a connection between members | frames come out the same wherever it is cut, and are refused the same |
//! | [`peer_message`] | what a member says | it is refused, or written down again as it was |
//! | [`gateway_json`] | a body of the JSON gateway | it is refused, or printed so that it reads the same again |
//! | [`call_metadata`] | `grpc-timeout`, `traceparent` | what is read is what a second look finds |
//! | [`signed_token`] | a JSON web token | its owner is who signed it says, or nobody |
//! | [`certificate`] | a client's or peer's certificate | it has the names that it is found by |
//! | [`snapshot_stream`] | a leader's snapshot, and harm to it with good checksums | it is refused, or a state; unharmed it is the state |
//! | [`members_answer`], [`dns_answer`] | what others say when a member looks for them | it is refused, or names what it named |
//! | [`urls`] | URLs in requests and flags | they are refused, or written as they were read |
//! | [`config_file`] | YAML | it is understood, or refused in words |
//! | [`command_line`] | arguments and variables | they are understood, or refused in words |

#![forbid(unsafe_code)]

mod choices;
mod command_line;
mod etcd;
mod frames;
mod gateway;
mod http2;
mod metadata;
mod others;
mod peers;
mod requests;
mod snapshot;
mod tree;
mod txn;
mod users;
mod wal;

pub use command_line::{command_line, config_file};
pub use etcd::{etcd_file, etcd_log};
pub use frames::frames;
pub use gateway::gateway_json;
pub use http2::{hpack_block, http2_connection};
pub use metadata::{call_metadata, certificate, signed_token};
pub use others::{dns_answer, members_answer, urls};
pub use peers::{peer_frames, peer_message};
pub use requests::request_decode;
pub use snapshot::snapshot_stream;
pub use tree::tree_pages;
pub use txn::txn_check;
pub use users::{credentials, permissions};
pub use wal::{wal_bytes, wal_recovery};

/// A target: its name, which its seeds' folder has, too, and what it does.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name.
    pub name: &'static str,
    /// What it does with an input.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: [Target; 24] = [
    Target { name: "wal_recovery", run: wal_recovery },
    Target { name: "wal_bytes", run: wal_bytes },
    Target { name: "tree_pages", run: tree_pages },
    Target { name: "etcd_file", run: etcd_file },
    Target { name: "etcd_log", run: etcd_log },
    Target { name: "request_decode", run: request_decode },
    Target { name: "txn_check", run: txn_check },
    Target { name: "permissions", run: permissions },
    Target { name: "credentials", run: credentials },
    Target { name: "frames", run: frames },
    Target { name: "http2_connection", run: http2_connection },
    Target { name: "hpack_block", run: hpack_block },
    Target { name: "peer_frames", run: peer_frames },
    Target { name: "peer_message", run: peer_message },
    Target { name: "command_line", run: command_line },
    Target { name: "config_file", run: config_file },
    Target { name: "gateway_json", run: gateway_json },
    Target { name: "call_metadata", run: call_metadata },
    Target { name: "signed_token", run: signed_token },
    Target { name: "certificate", run: certificate },
    Target { name: "snapshot_stream", run: snapshot_stream },
    Target { name: "members_answer", run: members_answer },
    Target { name: "dns_answer", run: dns_answer },
    Target { name: "urls", run: urls },
];
