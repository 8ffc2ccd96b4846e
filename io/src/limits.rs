//! Resource limits, raised once at start.
//!
//! Distributions keep soft limits low for the sake of `select(2)` and old kernels, and expect servers
//! to raise them to the hard ones. Raising can fail only in odd sandboxes; then the process runs with
//! what it has, and the caller logs the numbers.

use core::fmt;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::sys;

/// A limit of the process that [`raise`] raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Open files: connections, segments, listeners. In descriptors.
    OpenFiles,
    /// Memory that may be pinned; glommio demands 512 KiB. In bytes.
    LockedMemory,
}

/// What a limit was and is; `None` is "unlimited".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raised {
    /// Which limit.
    pub limit: Limit,
    /// The soft limit before.
    pub before: Option<u64>,
    /// The soft limit now: the hard one, or `before` if the kernel refused.
    pub now: Option<u64>,
}

/// Raises the soft limits to the hard ones and says what came of it.
pub fn raise() -> [Raised; 2] {
    [Limit::OpenFiles, Limit::LockedMemory].map(raise_one)
}

/// The soft limit on locked memory in bytes; `None` is "unlimited".
pub fn locked_memory_bytes() -> Option<u64> {
    getrlimit(Limit::LockedMemory.resource()).current
}

/// The soft limit on open files; `None` is "unlimited".
pub fn open_files() -> Option<u64> {
    getrlimit(Limit::OpenFiles.resource()).current
}

/// Gives memory that is allocated to nobody back to the system. For after a crowd has gone: it looks at everything that
/// is free, and whoever allocates meanwhile waits for some milliseconds.
pub fn give_back_memory() {
    sys::give_back();
}

fn raise_one(limit: Limit) -> Raised {
    let Rlimit { current: before, maximum } = getrlimit(limit.resource());
    if before != maximum {
        // A refusal shows in what is read back below.
        let wanted = Rlimit { current: maximum, maximum };
        setrlimit(limit.resource(), wanted).ok();
    }
    Raised { limit, before, now: getrlimit(limit.resource()).current }
}

impl Limit {
    const fn resource(self) -> Resource {
        match self {
            Self::OpenFiles => Resource::Nofile,
            Self::LockedMemory => Resource::Memlock,
        }
    }
}

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.limit {
            Limit::OpenFiles => "open files",
            Limit::LockedMemory => "locked memory (bytes)",
        };
        let show = |limit: Option<u64>| limit.map_or_else(|| "unlimited".into(), |n| n.to_string());
        write!(f, "{name}: {} (was {})", show(self.now), show(self.before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soft_limits_become_hard_limits() {
        for raised in raise() {
            assert_eq!(raised.now, getrlimit(raised.limit.resource()).maximum);
        }
        let raised = Raised { limit: Limit::OpenFiles, before: Some(1024), now: None };
        assert_eq!(raised.to_string(), "open files: unlimited (was 1024)");
    }
}
