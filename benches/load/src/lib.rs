//! Load for any endpoint that speaks etcd's v3 API, and what it measured: the command `cairn bench`.
//!
//! | chapter | what |
//! |---|---|
//! | `options`, `command` | what can be asked for, and how a workload becomes plans |
//! | `drive`, `worker` | threads, connections, slots; the loop |
//! | `work` | what load is made of: requests, and what answers must be |
//! | `pace`, `record` | when operations are due, and what they took |
//! | `h2`, `link`, `poll`, `target` | HTTP/2 as far as load needs it, sockets, TLS |
//! | `result`, `html` | tables, JSON, and a page with plots |
//! | `probe`, `process` | what the machine can do, and what a process uses |
//!
//! The generator must not be what is measured: a call costs it a microsecond or two. Each answer is checked, so a
//! server is not praised for being wrong quickly; what is wrong is counted as an error, like whatever else fails.

#![forbid(unsafe_code)]
#![expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::float_arithmetic,
    reason = "rates, percentiles and plots are floating-point numbers, and nothing is decided by them"
)]

mod clock;
mod command;
mod drive;
mod h2;
mod html;
mod link;
mod method;
mod options;
mod pace;
mod poll;
mod probe;
mod process;
mod progress;
mod record;
mod result;
mod target;
mod wire;
mod work;
mod worker;

pub use command::{Verdict, execute};
pub use options::Options;
