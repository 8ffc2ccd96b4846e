//! Which runtime this machine allows.
//!
//! glommio asks the kernel nothing before it needs the answer: where `io_uring` is blocked (most container
//! seccomp profiles) or too old, it panics in a lazy static ("Romulus killing Remus"). So the question is
//! put here first, by the two system calls themselves, and glommio is touched only after a yes.
//!
//! ```text
//! auto ──► rings? ──► operations? ──► locked memory ≥ 512 KiB? ──► glommio
//!            │no          │no                 │no
//!            └────────────┴───────────────────┴──► tokio, with the reason
//! ```
//!
//! Limits: a yes is about now. A filter installed after [`select`] still makes glommio panic.

use core::fmt;
use core::str::FromStr;
use std::io;

use crate::{limits, sys};

/// What the operator asked for: `--runtime auto|glommio|tokio`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// glommio, or tokio where `io_uring` is refused.
    #[default]
    Auto,
    /// glommio or nothing.
    Glommio,
    /// tokio, everywhere.
    Tokio,
}

/// A runtime of this binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Thread-per-core on `io_uring`.
    Glommio,
    /// Thread-per-core on epoll: one current-thread tokio per executor.
    Tokio,
}

/// The runtime to start, and why it is not glommio if that was asked for.
#[derive(Debug)]
pub struct Selected {
    /// The runtime to start.
    pub kind: Kind,
    /// Why [`Choice::Auto`] fell back to tokio: the text for one clear log line.
    pub refusal: Option<Refusal>,
}

/// Why glommio cannot run here.
#[derive(Debug)]
pub enum Refusal {
    /// The kernel gave no ring: it is too old, or a sysctl or a seccomp filter forbids `io_uring`.
    NoRing(io::Error),
    /// The kernel did not say what its rings can do (before 5.6, or a filter).
    NoProbe(io::Error),
    /// The kernel is too old: this operation is missing.
    NoOperation(&'static str),
    /// Too little memory may be locked, hard limit included.
    LockedMemory {
        /// The limit in bytes.
        limit_bytes: u64,
    },
}

/// Picks the runtime. Raise the limits first ([`limits::raise`]).
///
/// # Errors
///
/// The reason, if [`Choice::Glommio`] was asked for and cannot be had.
pub fn select(choice: Choice) -> Result<Selected, Refusal> {
    if choice == Choice::Tokio {
        return Ok(Selected { kind: Kind::Tokio, refusal: None });
    }
    match (glommio_usable(), choice) {
        (Ok(()), _) => Ok(Selected { kind: Kind::Glommio, refusal: None }),
        (Err(refusal), Choice::Glommio) => Err(refusal),
        (Err(refusal), Choice::Auto | Choice::Tokio) => {
            Ok(Selected { kind: Kind::Tokio, refusal: Some(refusal) })
        }
    }
}

/// Whether glommio can run in this process, asked of the kernel.
///
/// # Errors
///
/// The first reason why not.
pub fn glommio_usable() -> Result<(), Refusal> {
    let ring = sys::ring_create(2, sys::Ring::Plain).map_err(Refusal::NoRing)?;
    let supported = sys::ring_operations(&ring).map_err(Refusal::NoProbe)?;
    for (code, name) in NEEDED {
        if !supported[code] {
            return Err(Refusal::NoOperation(name));
        }
    }
    // glommio's third ring polls devices; some sandboxes allow rings but not this kind.
    sys::ring_create(2, sys::Ring::Polled).map_err(Refusal::NoRing)?;
    match limits::locked_memory_bytes() {
        Some(limit_bytes) if limit_bytes < LOCKED_MEMORY_BYTES_MIN => {
            Err(Refusal::LockedMemory { limit_bytes })
        }
        Some(_) | None => Ok(()),
    }
}

/// glommio's `Reactor::new` refuses to start below this soft limit, whatever it needs.
const LOCKED_MEMORY_BYTES_MIN: u64 = 512 * 1024;

/// The operations that glommio 0.9 checks for (`GLOMMIO_URING_OPS` in its sys/uring.rs), with the codes
/// of `linux/io_uring.h`.
const NEEDED: [(usize, &str); 23] = [
    (0, "NOP"),
    (1, "READV"),
    (2, "WRITEV"),
    (3, "FSYNC"),
    (4, "READ_FIXED"),
    (5, "WRITE_FIXED"),
    (6, "POLL_ADD"),
    (7, "POLL_REMOVE"),
    (9, "SENDMSG"),
    (10, "RECVMSG"),
    (11, "TIMEOUT"),
    (12, "TIMEOUT_REMOVE"),
    (13, "ACCEPT"),
    (15, "LINK_TIMEOUT"),
    (16, "CONNECT"),
    (17, "FALLOCATE"),
    (18, "OPENAT"),
    (19, "CLOSE"),
    (21, "STATX"),
    (22, "READ"),
    (23, "WRITE"),
    (26, "SEND"),
    (27, "RECV"),
];

impl FromStr for Choice {
    type Err = UnknownRuntime;

    fn from_str(text: &str) -> Result<Self, UnknownRuntime> {
        match text {
            "auto" => Ok(Self::Auto),
            "glommio" => Ok(Self::Glommio),
            "tokio" => Ok(Self::Tokio),
            _ => Err(UnknownRuntime(text.into())),
        }
    }
}

/// A text that names no runtime.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownRuntime(pub String);

impl fmt::Display for UnknownRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown runtime {:?}: it is auto, glommio or tokio", self.0)
    }
}

impl core::error::Error for UnknownRuntime {}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Glommio => "glommio",
            Self::Tokio => "tokio",
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRing(error) => write!(
                f,
                "io_uring_setup failed ({error}): the kernel is too old, or the sysctl \
                 kernel.io_uring_disabled or a seccomp filter forbids io_uring"
            ),
            Self::NoProbe(error) => {
                write!(f, "io_uring_register failed ({error}): kernel too old or forbidden")
            }
            Self::NoOperation(name) => {
                write!(f, "the kernel is too old: no io_uring operation {name} (5.8 has it)")
            }
            Self::LockedMemory { limit_bytes } => write!(
                f,
                "only {limit_bytes} bytes may be locked in memory, glommio needs \
                 {LOCKED_MEMORY_BYTES_MIN}: raise RLIMIT_MEMLOCK (ulimit -l, LimitMEMLOCK=)"
            ),
        }
    }
}

impl core::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_read_from_its_flag() {
        assert_eq!("auto".parse(), Ok(Choice::Auto));
        assert_eq!("glommio".parse(), Ok(Choice::Glommio));
        assert_eq!("tokio".parse(), Ok(Choice::Tokio));
        assert_eq!("uring".parse::<Choice>(), Err(UnknownRuntime("uring".into())));
    }

    #[test]
    fn tokio_is_taken_without_a_question() {
        let selected = select(Choice::Tokio).unwrap();
        assert_eq!(selected.kind, Kind::Tokio);
        assert!(selected.refusal.is_none());
    }
}
