//! gRPC over HTTP/2: a thin layer on [`cairn_http2`].
//!
//! What there is to it: a table of paths ([`method`]), messages with a length in front ([`frame`]), and a status in
//! trailers ([`status`]). A connection is one task ([`connection`]): it takes everything that has arrived, hands it to
//! the engine, and writes the answers that have gathered at once. Unary calls ([`unary`]) are no tasks of their
//! own; streams are, one each, and calls that wait for others ([`call`]). What both share is a `line`. What an unread
//! answer may cost is bounded in `outflow`.
//!
//! | file | calls |
//! |---|---|
//! | unary.rs | one question, one answer |
//! | watch.rs | Watch |
//! | `keep_alive.rs` | LeaseKeepAlive |
//! | health.rs | gRPC's own Health |
//! | parts.rs | `RangeStream` and Snapshot: one question, an answer in parts |
//! | counted.rs | no call: counts what passes |
//! | pings.rs | none either: counts pings |
//! | plain.rs | requests that are no gRPC |

pub(crate) mod call;
pub mod connection;
pub mod frame;
pub mod metadata;
pub mod method;
pub mod status;
pub mod timeout;
pub mod unary;

mod counted;
mod health;
mod keep_alive;
mod line;
mod outflow;
mod parts;
mod pings;
mod plain;
mod receive;
mod send;
mod watch;
