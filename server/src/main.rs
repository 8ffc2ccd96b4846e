//! The program `cairn`.
fn main() {}
mod context;
mod grpc;
mod http1;
mod metrics;
