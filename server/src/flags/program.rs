//! Under which name the program was started.
//!
//! A link to it that is called `etcd` makes it stand in for etcd where a manifest, a unit or a script says so: then there
//! are no subcommands, texts call it etcd, and data is in `<name>.etcd` unless `--data-dir` says where.

use std::ffi::OsStr;
use std::path::Path;

/// Whom the program is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Itself.
    Cairn,
    /// etcd.
    Etcd,
}

impl Program {
    /// By the first word of a command line, which may have folders before the name.
    pub fn of(word: Option<&OsStr>) -> Self {
        let name = word.and_then(|word| Path::new(word).file_name());
        if name.is_some_and(|name| name == "etcd") { Self::Etcd } else { Self::Cairn }
    }

    /// Its name, which is also how directories end that nobody has named.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cairn => "cairn",
            Self::Etcd => "etcd",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_part_of_a_path_is_a_name() {
        let name = |word: &str| Program::of(Some(OsStr::new(word))).name();
        assert_eq!(name("etcd"), "etcd");
        assert_eq!(name("/usr/local/bin/etcd"), "etcd");
        for other in ["/etcd/cairn", "etcdctl", "etcd.sh", "", "cairn"] {
            assert_eq!(name(other), "cairn", "{other}");
        }
        assert_eq!(Program::of(None), Program::Cairn);
    }
}
