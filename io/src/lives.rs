//! The starts of a member, in a file: `LIVES` in its data directory.
//!
//! A member's promises hold on the disk that they were made on. Each start therefore draws an
//! [`Incarnation`] at random and writes it down, durably, before it says anything. The
//! cluster remembers the latest that it heard of; a disk in whose file that one does not stand has forgotten something,
//! by being wiped or set back, and the engine then promises nothing until it has caught up.
//!
//! The file has a line for each start, the latest last: sixteen hexadecimal digits. What came before the latest of which
//! the cluster is known to have heard is dropped, some time. If too many starts go by without the cluster hearing of
//! them, some are forgotten as well; that costs a resynchronisation at worst.
//!
//! # Limits
//!
//! A file with a damaged line counts as one without it: then too the member resynchronises.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use cairn_engine::config::Lives;
use cairn_engine::peer::Incarnation;

use crate::disk::{self, Disk, FileStream as _};

const FILE: &str = "LIVES";
/// What a crash leaves of a file on its way to its name; overwritten by the next.
const UNFINISHED: &str = "LIVES.new";
/// Starts that are kept. A supervisor that starts a member each second fills this in minutes.
const LIVES_MAX: usize = 256;

/// Begins a new life of the member whose directory this is: draws its incarnation and writes it down. Blocks.
///
/// # Errors
/// What the filesystem says, or the system's source of randomness.
pub fn begin(directory: &Path) -> io::Result<Lives> {
    let mut before = read(directory)?;
    if before.len() >= LIVES_MAX {
        // The first may be the one that the cluster knows; the last ones are those it may have heard of since.
        before.drain(1..before.len() - LIVES_MAX + 2);
    }
    let lives = Lives { now: draw(&before)?, before };
    let unfinished = directory.join(UNFINISHED);
    let mut file = File::create(&unfinished)?;
    file.write_all(text(&lives).as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, directory.join(FILE))?;
    File::open(directory)?.sync_all()?;
    Ok(lives)
}

/// Notes that the cluster has heard of `known`: drops what came before it, if it is one of these. Whatever goes wrong, the
/// file is as good as before.
///
/// # Errors
/// What the filesystem says.
pub(crate) async fn settle<D: Disk>(
    disk: &D,
    directory: &Path,
    lives: &mut Lives,
    known: Incarnation,
) -> disk::Result<()> {
    let all = lives.before.iter().chain([&lives.now]);
    let Some(place) = all.into_iter().position(|life| *life == known) else { return Ok(()) };
    if place == 0 {
        return Ok(());
    }
    let mut kept = lives.clone();
    kept.before.drain(..place);
    let unfinished = directory.join(UNFINISHED);
    let mut stream = disk.create_stream(&unfinished).await?;
    stream.append(text(&kept).into_bytes()).await?;
    stream.finish().await?;
    disk.rename(&unfinished, &directory.join(FILE)).await?;
    disk.sync_directory(directory).await?;
    *lives = kept;
    Ok(())
}

fn read(directory: &Path) -> io::Result<Vec<Incarnation>> {
    let bytes = match fs::read(directory.join(FILE)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let lines = bytes.split(|byte| *byte == b'\n').map(str::from_utf8);
    let lives = lines.filter_map(|line| u64::from_str_radix(line.ok()?, 16).ok()).map(Incarnation);
    Ok(lives.filter(|life| life.is_some()).collect())
}

fn text(lives: &Lives) -> String {
    let lines = lives.before.iter().chain([&lives.now]);
    lines.map(|life| format!("{:016x}\n", life.0)).collect()
}

/// One that was never drawn here.
fn draw(before: &[Incarnation]) -> io::Result<Incarnation> {
    loop {
        let drawn = Incarnation(getrandom::u64().map_err(io::Error::other)?);
        if drawn.is_some() && !before.contains(&drawn) {
            return Ok(drawn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::ThreadDisk;

    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("cairn-lives-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    #[test]
    fn each_start_adds_a_line() {
        let folder = Folder::new("starts");
        let first = begin(&folder.0).unwrap();
        assert!(first.now.is_some() && first.before.is_empty());
        let second = begin(&folder.0).unwrap();
        assert_eq!(second.before, [first.now]);
        let third = begin(&folder.0).unwrap();
        assert_eq!(third.before, [first.now, second.now]);
        assert!(third.now != second.now && third.now != first.now);
        let text = fs::read_to_string(folder.0.join(FILE)).unwrap();
        assert_eq!(text.lines().count(), 3);
        assert!(text.lines().all(|line| line.len() == 16));
    }

    #[test]
    fn what_the_cluster_has_left_behind_is_dropped() {
        let folder = Folder::new("settle");
        let (first, second) = (begin(&folder.0).unwrap(), begin(&folder.0).unwrap());
        let mut third = begin(&folder.0).unwrap();
        let runtime = ::tokio::runtime::Builder::new_current_thread().build().unwrap();
        let disk = ThreadDisk::start().unwrap();
        let settle = |lives: &mut Lives, known| {
            runtime.block_on(settle(&disk, &folder.0, lives, known)).unwrap();
        };
        settle(&mut third, Incarnation(1));
        assert_eq!(third.before, [first.now, second.now]);
        settle(&mut third, second.now);
        assert_eq!(third.before, [second.now]);
        let mut fourth = begin(&folder.0).unwrap();
        assert_eq!(fourth.before, [second.now, third.now]);
        let now = fourth.now;
        settle(&mut fourth, now);
        assert_eq!(begin(&folder.0).unwrap().before, [now]);
    }

    #[test]
    fn the_file_stays_short_and_keeps_its_first_line() {
        let folder = Folder::new("bound");
        let first = begin(&folder.0).unwrap();
        let lines = (2..400u64).map(|life| format!("{life:016x}\n")).collect::<String>();
        fs::write(folder.0.join(FILE), format!("{:016x}\n{lines}", first.now.0)).unwrap();
        let lives = begin(&folder.0).unwrap();
        assert_eq!(lives.before.len(), LIVES_MAX - 1);
        assert_eq!(lives.before[0], first.now);
        assert_eq!(lives.before.last(), Some(&Incarnation(399)));
        assert_eq!(begin(&folder.0).unwrap().before.len(), LIVES_MAX - 1);
    }

    #[test]
    fn damage_costs_its_line() {
        let folder = Folder::new("damage");
        fs::write(folder.0.join(FILE), b"00000000000000ff\n\xff\xfe\n0\nzz\n000000000000000a")
            .unwrap();
        assert_eq!(begin(&folder.0).unwrap().before, [Incarnation(255), Incarnation(10)]);
    }
}
