//! Whose data directory this is: a file `FORMAT` in words, written once.
//!
//! A member keeps the ids that it was born with, whatever flags it is started with later, and the members that its
//! cluster began with: the log begins with them, and says only what changed since. A directory that etcd wrote has no
//! such file until it was taken over (`takeover`); one of a newer format is refused with its number, and unchanged.

use core::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use cairn_engine::config::Member;
use cairn_engine::ids::{ClusterId, MemberId};
use serde_json::{Value, json};

/// The member whose directory this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its own id.
    pub member: MemberId,
    /// How it came into its cluster.
    pub origin: Origin,
}

/// How a member came into its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The cluster began with these, this member among them.
    Began(Vec<Member>),
    /// It joined: the log of the others says who they are.
    Joined,
    /// A version wrote the directory that did not note it, because it knew only clusters of one.
    Alone,
}

/// Why a directory cannot be used.
#[derive(Debug)]
pub enum Unusable {
    /// etcd wrote it.
    Etcd(PathBuf),
    /// A snapshot was to be restored there, and was not, to the end.
    Unfinished(PathBuf),
    /// Somebody else wrote it.
    Foreign(PathBuf),
    /// A newer version wrote it.
    Newer {
        /// The directory.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// `FORMAT` does not say whose it is.
    Unclear(PathBuf),
    /// The filesystem fails.
    Io {
        /// What was done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What it says.
        error: io::Error,
    },
}

/// The format that this version writes. It reads the one before, too, which knew only clusters of one.
const FORMAT: u32 = 2;
const FORMAT_BEFORE: u32 = 1;
const FILE: &str = "FORMAT";
/// Is there while a snapshot is being restored.
pub(crate) const RESTORING: &str = "RESTORING";

/// Reads whose directory this is; `None`: nobody's yet.
///
/// # Errors
/// If it is not one that this version can use.
pub fn owner(directory: &Path) -> Result<Option<Owner>, Unusable> {
    let path = directory.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return unowned(directory),
        Err(error) => return Err(Unusable::Io { action: "read", path, error }),
    };
    let word = |name: &str| {
        text.lines()
            .filter_map(|line| line.split_once(' '))
            .find(|(found, _)| *found == name)
            .map(|(_, value)| value)
    };
    let id = |name: &str| word(name).and_then(|id| u64::from_str_radix(id, 16).ok());
    let (Some(format), Some(cluster), Some(member)) =
        (word("format").and_then(|format| format.parse().ok()), id("cluster"), id("member"))
    else {
        return Err(Unusable::Unclear(path));
    };
    let origin = match format {
        FORMAT => origin(&text, MemberId(member)).ok_or(Unusable::Unclear(path))?,
        FORMAT_BEFORE => Origin::Alone,
        _ if format > FORMAT => return Err(Unusable::Newer { path: directory.into(), format }),
        _ => return Err(Unusable::Unclear(path)),
    };
    Ok(Some(Owner { cluster: ClusterId(cluster), member: MemberId(member), origin }))
}

/// How the member came into its cluster; `None`: the text does not say it.
fn origin(text: &str, own: MemberId) -> Option<Origin> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("began "));
    let members = lines.map(member_of_line).collect::<Option<Vec<_>>>()?;
    if members.is_empty() {
        return Some(Origin::Joined);
    }
    let own_is_there = members.iter().any(|member| member.id == own);
    own_is_there.then_some(Origin::Began(members))
}

/// A member that the cluster began with, as JSON: names may hold anything.
fn line_of_member(member: &Member) -> String {
    let Member { id, name, peer_urls, .. } = member;
    format!("began {}\n", json!({"id": id.to_string(), "name": name, "peer_urls": peer_urls}))
}

fn member_of_line(line: &str) -> Option<Member> {
    let value: Value = serde_json::from_str(line).ok()?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Some(Member {
        id: MemberId(u64::from_str_radix(value["id"].as_str()?, 16).ok()?),
        name: text(&value["name"])?,
        peer_urls: value["peer_urls"].as_array()?.iter().map(text).collect::<Option<_>>()?,
        client_urls: Vec::new(),
    })
}

/// A directory without `FORMAT` may hold nothing but the lock: anything else is somebody's.
fn unowned(directory: &Path) -> Result<Option<Owner>, Unusable> {
    if directory.join(RESTORING).exists() {
        return Err(Unusable::Unfinished(directory.into()));
    }
    if directory.join("member").exists() {
        return Err(Unusable::Etcd(directory.into()));
    }
    let io = |error| Unusable::Io { action: "list", path: directory.into(), error };
    for entry in fs::read_dir(directory).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        // What an interrupted first start may have left behind; certificates are made before.
        let ours =
            ["LOCK", "FORMAT.new", "LIVES", "LIVES.new", "wal", "snap", "fixtures", "lost+found"]
                .iter()
                .any(|ours| name == *ours);
        if !ours {
            return Err(Unusable::Foreign(directory.into()));
        }
    }
    Ok(None)
}

/// Notes whose directory this is, durably.
///
/// # Errors
/// If the filesystem fails.
pub fn claim(directory: &Path, owner: &Owner) -> Result<(), Unusable> {
    let (new, path) = (directory.join("FORMAT.new"), directory.join(FILE));
    let mut text = format!(
        "cairn {}\nformat {FORMAT}\ncluster {}\nmember {}\n",
        env!("CARGO_PKG_VERSION"),
        owner.cluster,
        owner.member
    );
    match &owner.origin {
        Origin::Began(members) => text.extend(members.iter().map(line_of_member)),
        Origin::Joined => {}
        Origin::Alone => unreachable!("whoever claims a directory knows"),
    }
    let write = || -> io::Result<()> {
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(|error| Unusable::Io { action: "write", path: path.clone(), error })
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Etcd(path) => write!(
                f,
                "{} is a data directory of etcd: 'cairn --data-dir' takes it over",
                path.display()
            ),
            Self::Unfinished(path) => write!(
                f,
                "{} is where the restoring of a snapshot was interrupted: remove it, and restore again",
                path.display()
            ),
            Self::Foreign(path) => write!(
                f,
                "{} is not empty and has no file FORMAT: give a directory of its own with --data-dir",
                path.display()
            ),
            Self::Newer { path, format } => write!(
                f,
                "{} has format {format}, this version knows {FORMAT}: start the version that wrote it",
                path.display()
            ),
            Self::Unclear(path) => {
                write!(f, "{} does not say whose directory this is", path.display())
            }
            Self::Io { action, path, error } => {
                write!(f, "cannot {action} {}: {error}", path.display())
            }
        }
    }
}

impl core::error::Error for Unusable {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_directory_knows_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        assert_eq!(owner(path).unwrap(), None);
        let member = |id, name: &str| Member {
            id: MemberId(id),
            name: name.to_owned(),
            peer_urls: vec!["http://a:1".to_owned(), "http://b:1".to_owned()],
            client_urls: Vec::new(),
        };
        let members = vec![member(0x8e9e_05c5_2164_694d, "a"), member(u64::MAX, "\"\n ü=,")];
        for origin in [Origin::Began(members), Origin::Joined] {
            let own = Owner {
                cluster: ClusterId(0xcdf8_1819_4e3a_8c32),
                member: MemberId(0x8e9e_05c5_2164_694d),
                origin,
            };
            claim(path, &own).unwrap();
            assert_eq!(owner(path).unwrap(), Some(own));
            let text = fs::read_to_string(path.join("FORMAT")).unwrap();
            assert!(text.contains("member 8e9e05c52164694d\n"));
        }
    }

    #[test]
    fn the_format_before_knew_only_clusters_of_one() {
        let directory = tempfile::tempdir().unwrap();
        let text = "cairn 0.1.0\nformat 1\ncluster cdf818194e3a8c32\nmember 8e9e05c52164694d\n";
        fs::write(directory.path().join("FORMAT"), text).unwrap();
        assert_eq!(owner(directory.path()).unwrap().unwrap().origin, Origin::Alone);
    }

    #[test]
    fn other_peoples_directories_are_refused() {
        let owner_with = |prepare: fn(&Path)| {
            let directory = tempfile::tempdir().unwrap();
            prepare(directory.path());
            owner(directory.path())
        };
        let etcd = owner_with(|path| fs::create_dir(path.join("member")).unwrap());
        assert!(matches!(etcd, Err(Unusable::Etcd(_))));
        let unfinished = owner_with(|path| fs::write(path.join("RESTORING"), "").unwrap());
        assert!(matches!(unfinished, Err(Unusable::Unfinished(_))));
        let foreign = owner_with(|path| fs::write(path.join("thesis.tex"), "").unwrap());
        assert!(matches!(foreign, Err(Unusable::Foreign(_))));
        let newer = owner_with(|path| {
            fs::write(path.join("FORMAT"), "format 3\ncluster 1\nmember 1\n").unwrap();
        });
        assert!(matches!(newer, Err(Unusable::Newer { format: 3, .. })));
        for text in [
            "format 1\n",
            "format 2\ncluster 1\nmember 1\nbegan who\n",
            "format 2\ncluster 1\nmember 1\nbegan {\"id\":\"2\",\"name\":\"b\",\"peer_urls\":[]}\n",
        ] {
            let directory = tempfile::tempdir().unwrap();
            fs::write(directory.path().join("FORMAT"), text).unwrap();
            assert!(matches!(owner(directory.path()), Err(Unusable::Unclear(_))), "{text}");
        }
    }
}
