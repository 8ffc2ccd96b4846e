//! etcd's wire vocabulary: messages, the checks that requests must pass, and client errors.
//!
//! A request is decoded once at the door, checked once ([`check`]), and then travels unchanged into
//! the log and into apply: there are no twin types. Names, numbers and texts in here belong to
//! etcd, and clients compare them byte by byte.
//!
//! - [`etcdserverpb`], [`mvccpb`], [`authpb`], [`v3lockpb`], [`v3electionpb`] and [`health`] hold
//!   the messages. They are generated from `engine/proto` by `cargo xtask proto` and committed.
//! - [`check`] refuses what can be refused by looking at the request alone, in etcd's order;
//!   `overlap` is the one rule of a transaction that needs a theory of its own.
//! - [`key_range`] gives the pair (`key`, `range_end`) its one meaning.
//! - `secret` keeps passwords and tokens out of what messages show of themselves.
//! - [`error`] is the closed list of what a client may be told instead of an answer.
//!
//! # Limits
//!
//! Messages nest at most 100 deep, which is what prost decodes; etcd's decoder allows 10 000. Only
//! transactions can nest at all, and [`check::TXN_DEPTH_MAX`] ends them earlier.

pub mod check;
pub mod error;
pub mod key_range;
mod overlap;
pub mod request;
pub mod response;
mod secret;

#[expect(
    missing_docs,
    clippy::doc_markdown,
    reason = "generated: the .proto file says what its names leave open"
)]
pub mod authpb;
#[expect(
    missing_docs,
    clippy::doc_markdown,
    clippy::enum_variant_names,
    reason = "generated: the .proto file says what its names leave open"
)]
pub mod etcdserverpb;
#[expect(
    missing_docs,
    clippy::doc_markdown,
    reason = "generated: the .proto file says what its names leave open"
)]
pub mod health;
#[expect(
    missing_docs,
    clippy::doc_markdown,
    reason = "generated: the .proto file says what its names leave open"
)]
pub mod mvccpb;
#[expect(missing_docs, reason = "generated: the .proto file says what its names leave open")]
pub mod v3electionpb;
#[expect(missing_docs, reason = "generated: the .proto file says what its names leave open")]
pub mod v3lockpb;

pub use error::{Code, Error};
pub use key_range::KeyRange;
pub use request::{Request, Route};
pub use response::Response;
