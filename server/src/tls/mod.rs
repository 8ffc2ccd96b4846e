//! TLS, by rustls with ring, below everything that speaks: a connection comes out as a connection.
//!
//! Certificates, keys and lists are files, and files change while a member runs: they are read again at each handshake,
//! and what was made of them is made anew when they hold something else ([`server`]). What they hold must fit together at
//! the start; later, files that do not are passed over with a warning, and what fitted last goes on.
//!
//! | file | what |
//! |---|---|
//! | server.rs | accepting |
//! | peer.rs | what members speak to each other, both ways |
//! | advice.rs | what to do when members do not trust each other |
//! | files.rs | what the files hold |
//! | choice.rs | versions and cipher suites |
//! | names.rs | whose certificate it is |
//! | `self_signed.rs` | certificates for those who have none |
//!
//! Limits: files are read and signatures made on the core that accepts, about a millisecond for an RSA key and a tenth
//! for an elliptic one. Trust in the system's certificate authorities is not looked for: `--trusted-ca-file` says whom to
//! trust.

mod advice;
pub mod choice;
pub mod files;
pub mod names;
pub mod peer;
pub mod self_signed;
pub mod server;

pub use files::TlsError;
pub use server::{Acceptor, Refused, Server, is_hello};
