//! HTTP/2 and gRPC as far as a client that makes load needs them.
//!
//! Sans-I/O: bytes that arrive go into [`Connection::receive`](connection::Connection::receive), bytes to be sent
//! come out of [`Connection::out`](connection::Connection::out). It takes a third of a microsecond for a call where a
//! complete client takes several, so that what is measured is the server. What it leaves out is what a server may
//! not do to it (push) and what a client need not do (priorities, Huffman codes of its own). Whatever else a server
//! does wrong is an error that ends the connection, never a panic.

pub(crate) mod connection;
