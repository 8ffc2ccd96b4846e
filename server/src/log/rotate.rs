//! A file that lines are appended to, and that is put aside when it has become large.
//!
//! Old files are named as lumberjack, which etcd uses, names them: `cairn-2006-01-02T15-04-05.000.log` beside
//! `cairn.log`. The text of these names has the order of time, so that the oldest are found by sorting.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::log::settings::Rotation;
use crate::log::time::{InName, Moment};

/// An open file and how much is in it.
#[derive(Debug)]
pub(super) struct RotatedFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    rotation: Option<Rotation>,
}

impl RotatedFile {
    /// Opens a file, or makes one; its folder must exist.
    pub(super) fn open(path: &Path, rotation: Option<Rotation>) -> io::Result<Self> {
        let file = open(path)?;
        // What is no plain file, such as a pipe, has no size and is never put aside.
        let metadata = file.metadata()?;
        let rotation = rotation.filter(|_| metadata.is_file());
        Ok(Self { path: path.to_owned(), file, bytes: metadata.len(), rotation })
    }

    /// Appends, to a new file if this one would grow too large.
    pub(super) fn append(&mut self, text: &[u8], now: Moment) -> io::Result<()> {
        let added = u64::try_from(text.len()).unwrap_or(u64::MAX);
        if let Some(rotation) = &self.rotation
            && self.bytes > 0
            && self.bytes.saturating_add(added) > rotation.bytes_max
        {
            fs::rename(&self.path, self.path.with_file_name(backup_name(&self.path, now)))?;
            self.file = open(&self.path)?;
            self.bytes = 0;
            // A file that cannot be deleted takes space; the log goes on.
            prune(&self.path, rotation, now).ok();
        }
        self.file.write_all(text)?;
        self.bytes = self.bytes.saturating_add(added);
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// Deletes old files that are too old or too many.
fn prune(path: &Path, rotation: &Rotation, now: Moment) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."));
    let mut backups: Vec<String> = fs::read_dir(folder)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| is_backup(path, name))
        .collect();
    backups.sort_unstable_by(|one, other| other.cmp(one));
    let kept = backups.len().min(rotation.backups_max.unwrap_or(usize::MAX));
    let oldest = rotation.age_max.map(|age| backup_name(path, Moment(now.0.saturating_sub(age))));
    for (number, name) in backups.iter().enumerate() {
        if number >= kept || oldest.as_ref().is_some_and(|oldest| name < oldest) {
            fs::remove_file(folder.join(name))?;
        }
    }
    Ok(())
}

/// The name of what is put aside now.
fn backup_name(path: &Path, now: Moment) -> String {
    let (stem, extension) = parts(path);
    format!("{stem}-{}{extension}", InName(now))
}

/// Whether a name is one that [`backup_name`] gives.
fn is_backup(path: &Path, name: &str) -> bool {
    let (stem, extension) = parts(path);
    let Some(time) = name.strip_prefix(&stem).and_then(|rest| rest.strip_suffix(&extension)) else {
        return false;
    };
    let same_kind =
        |(one, other): (u8, u8)| one == other || (one.is_ascii_digit() && other.is_ascii_digit());
    time.len() == TIME_FORM.len() && time.bytes().zip(TIME_FORM.bytes()).all(same_kind)
}

/// The name without its extension, and that with its dot.
fn parts(path: &Path) -> (String, String) {
    let text = |part: &OsStr| part.to_string_lossy().into_owned();
    let extension = path.extension().map(|extension| format!(".{}", text(extension)));
    (path.file_stem().map(text).unwrap_or_default(), extension.unwrap_or_default())
}

/// What stands between the parts; zeros are any digits.
const TIME_FORM: &str = "-0000-00-00T00-00-00.000";

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder =
            std::env::temp_dir().join(format!("cairn-rotate-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    fn at(second: u64) -> Moment {
        Moment(Duration::from_secs(second))
    }

    #[test]
    fn a_file_that_would_grow_too_large_is_put_aside() {
        let folder = folder("size");
        fs::write(folder.join("a-something-else.log"), "").unwrap();
        let rotation = Rotation { bytes_max: 10, age_max: None, backups_max: Some(2) };
        let mut file = RotatedFile::open(&folder.join("a.log"), Some(rotation)).unwrap();
        for second in 0..8 {
            file.append(format!("line {second}\n").as_bytes(), at(second)).unwrap();
        }
        let expected = [
            "a-1970-01-01T00-00-06.000.log",
            "a-1970-01-01T00-00-07.000.log",
            "a-something-else.log",
            "a.log",
        ];
        assert_eq!(names(&folder), expected);
        assert_eq!(fs::read_to_string(folder.join(expected[1])).unwrap(), "line 6\n");
        assert_eq!(fs::read_to_string(folder.join("a.log")).unwrap(), "line 7\n");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn old_files_go_when_they_are_too_old() {
        let folder = folder("age");
        let rotation =
            Rotation { bytes_max: 1, age_max: Some(Duration::from_secs(3)), backups_max: None };
        let mut file = RotatedFile::open(&folder.join("a"), Some(rotation)).unwrap();
        for second in [10, 11, 12, 20, 21] {
            file.append(b"x", at(second)).unwrap();
        }
        assert_eq!(names(&folder), ["a", "a-1970-01-01T00-00-20.000", "a-1970-01-01T00-00-21.000"]);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_that_exists_grows() {
        let folder = folder("append");
        let path = folder.join("a.log");
        for text in ["one\n", "two\n"] {
            RotatedFile::open(&path, None).unwrap().append(text.as_bytes(), at(0)).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        fs::remove_dir_all(folder).unwrap();
    }
}
