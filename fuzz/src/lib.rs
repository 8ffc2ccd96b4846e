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
//! | [`peer_frames`] | a connection between members | frames come out the same wherever it is cut, and are refused the same |
//! | [`peer_message`] | what a member says | it is refused, or written down again as it was |
//! | [`command_line`] | arguments and variables | they are understood, or refused in words |

#![forbid(unsafe_code)]

mod choices;
mod command_line;
mod etcd;
mod frames;
mod peers;
mod requests;
mod tree;
mod txn;
mod users;
mod wal;

pub use command_line::command_line;
pub use etcd::{etcd_file, etcd_log};
pub use frames::frames;
pub use peers::{peer_frames, peer_message};
pub use requests::request_decode;
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
pub const TARGETS: [Target; 13] = [
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
    Target { name: "peer_frames", run: peer_frames },
    Target { name: "peer_message", run: peer_message },
    Target { name: "command_line", run: command_line },
];
