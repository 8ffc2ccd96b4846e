//! HTTP/2 (RFC 9113) without I/O: bytes go in, events come out, and bytes to be sent gather.
//!
//! | chapter | what |
//! |---|---|
//! | [`frame`] | nine bytes of head and what follows |
//! | [`hpack`] | heads of requests and answers as bytes (RFC 7541) |
//! | [`server`] | one connection, as a server sees it |
//!
//! Nothing here knows a socket, a clock, a task or gRPC. So a connection is tested by handing it bytes, and fuzzed by
//! handing it any; who owns the socket decides when to read, write and wait. The client half is with the load generator,
//! which needs much less of it.

#![forbid(unsafe_code)]

pub mod frame;
pub mod hpack;
pub mod server;

/// A number of 32 bits as a length.
fn wide(number: u32) -> usize {
    usize::try_from(number).expect("64 bits")
}
