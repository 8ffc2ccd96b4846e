//! What must hold, whatever happens. Each chapter watches the world from outside and objects.
//!
//! | chapter | objects if |
//! |---|---|
//! | [`history`] | an entry is lost or changed, members differ, or a state is not what the model makes of the log |
//! | [`answers`] | a client is told something that was not so when it could have been |
//! | [`watches`] | a watcher misses an event, or gets one twice, too early, or with the wrong past |
//! | [`leases`] | a lease ends before its time, or outlives it |
//! | [`backups`] | what is restored of a backup is not what was when it was made |
//!
//! All of them cost time in proportion to what happened: the committed log is the order of everything, so nothing
//! has to be searched for.

use core::fmt;

pub mod answers;
pub mod backups;
pub mod history;
pub mod leases;
pub mod watches;

/// Something happened that must not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which rule says so.
    pub rule: &'static str,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

impl Violation {
    /// A violation of `rule`.
    pub fn new(rule: &'static str, what: impl Into<String>) -> Self {
        Self { rule, what: what.into() }
    }
}

/// Objects unless `holds`.
///
/// # Errors
/// If it does not.
pub fn ensure(
    holds: bool,
    rule: &'static str,
    what: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation::new(rule, what())) }
}
