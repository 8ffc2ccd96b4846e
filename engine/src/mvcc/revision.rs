//! The two-part number of a change.

use core::fmt;

/// Names a change: the request that made it, and its place among the changes of that request.
///
/// Clients see only `main`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    /// Counts the requests that changed something; a fresh store is at 1, the first change at 2.
    pub main: i64,
    /// Counts the changes of one request from zero.
    pub sub: u32,
}

impl Revision {
    /// Before every change.
    pub const ZERO: Self = Self { main: 0, sub: 0 };

    /// The first place of a request.
    pub const fn first_of(main: i64) -> Self {
        Self { main, sub: 0 }
    }

    /// The revision as etcd's storage writes it, for hashes and snapshots: `main`, `_`, `sub`, big-endian.
    pub fn to_bucket_key(self) -> [u8; 17] {
        let mut key = [b'_'; 17];
        key[..8].copy_from_slice(&self.main.to_be_bytes());
        key[9..].copy_from_slice(&i64::from(self.sub).to_be_bytes());
        key
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.main, self.sub)
    }
}
