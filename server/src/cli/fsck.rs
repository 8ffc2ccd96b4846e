//! `cairn fsck`: a member's whole data directory, looked at from end to end, believing nothing.
//!
//! | level | what is looked at |
//! |---|---|
//! | 1 | superblocks of the tree files |
//! | 2 | each of their pages: checksum, identity, layout, order, sums, one owner |
//! | 3 | the map of space: it has exactly the pages that are in use |
//! | 4 | what they mean: every key and every record of the history, users, leases and members |
//! | 5 | snapshots and the log: a member could start, and from what |
//!
//! Nothing is written. The first three are the engine's [`check`], the others what a member does at its start.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use bytes::Bytes;
use cairn_engine::api::KeyRange;
use cairn_engine::mvcc::Revision;
use cairn_engine::storage::check::{Fault, Level, check};
use cairn_engine::tree_file::{self, TreeFileId, TreeSource as _};
use cairn_io::datadir;
use cairn_io::disk::{Disk, ThreadDisk};
use cairn_io::driver::{BootDisk, Directory};

use super::complain;
use super::wal::verify;
use crate::data::{self, Owner};

/// What is looked at.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Options {
    /// A member's data directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Where the log is, if not in the data directory
    #[arg(long, value_name = "DIR")]
    wal_dir: Option<PathBuf>,
    /// How much to look at
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=5))]
    level: u8,
}

const HELP: &str = "\
Levels, each of which includes those before it:
  1   the superblocks of the tree files
  2   each of their pages
  3   the map of free space
  4   what the pages mean: keys, history, users, leases, members
  5   snapshots and the log, as a member reads them when it starts

Exit codes:
  0   nothing is wrong
  1   nothing but a write that a crash interrupted, which a member cuts off
  2   damage: a member of a cluster gets its state from the others when it starts, a single one needs a snapshot
  3   no verdict: the directory could not be read, or a member is using it
  64  the command line makes no sense";

/// Does it.
pub(super) fn run(options: &Options) -> ExitCode {
    let mut out = BufWriter::new(io::stdout().lock());
    let done = fsck(options, &mut out).and_then(|verdict| {
        out.flush().map_err(|error| error.to_string())?;
        Ok(verdict)
    });
    match done {
        Ok(verdict) => ExitCode::from(verdict.code()),
        Err(trouble) => {
            complain(trouble);
            ExitCode::from(super::wal::NO_VERDICT)
        }
    }
}

fn fsck(options: &Options, out: &mut impl Write) -> Result<verify::Verdict, String> {
    let place = &options.directory;
    datadir::check_free(place).map_err(|error| error.to_string())?;
    let owner = data::owner(place).map_err(|error| error.to_string())?;
    let owner = owner.ok_or_else(|| format!("{} is no member's directory", place.display()))?;
    let directory = Directory::new(place, options.wal_dir.as_deref());
    let disk = ThreadDisk::start().map_err(|error| error.to_string())?;
    let mut source = BootDisk::open(&disk, &directory).map_err(|error| error.to_string())?;
    look(&mut source, &owner, options.level, out).map_err(|error| error.to_string())
}

fn look<D: Disk>(
    source: &mut BootDisk<'_, D>,
    owner: &Owner,
    level: u8,
    out: &mut impl Write,
) -> io::Result<verify::Verdict> {
    let mut verdict = verify::Verdict::Clean;
    for id in source.condemned_tree_files() {
        let name = name_of(id);
        writeln!(out, "damaged: tree file {name}: a member found that while it ran")?;
        verdict = verify::Verdict::Damaged;
    }
    for id in source.tree_files() {
        let faults = faults_of(source, owner, id, level);
        let name = name_of(id);
        for fault in &faults {
            writeln!(out, "damaged: tree file {name}: {fault}")?;
        }
        if faults.is_empty() {
            writeln!(out, "tree file {name}: whole")?;
        } else {
            verdict = verify::Verdict::Damaged;
        }
    }
    if level < 5 {
        return Ok(verdict);
    }
    Ok(verdict.max(verify::member(source, owner, out)?))
}

/// What is wrong with a tree file, in words.
fn faults_of<D: Disk>(
    source: &mut BootDisk<'_, D>,
    owner: &Owner,
    id: TreeFileId,
    level: u8,
) -> Vec<String> {
    let Some((superblocks, pages)) = source.open_tree_file(id) else {
        return vec!["it is shorter than its superblocks, or cannot be read".to_owned()];
    };
    let of_pages = match level {
        1 => Level::Superblocks,
        2 => Level::Pages,
        _ => Level::Map,
    };
    let faults = check(&superblocks, &*pages, of_pages);
    // A file that was made, and to which no checkpoint was written before a crash.
    if faults == [Fault::Empty] {
        return Vec::new();
    }
    if !faults.is_empty() || level < 4 {
        return faults.iter().map(Fault::to_string).collect();
    }
    let state = match tree_file::load(id, &superblocks, pages, owner.cluster) {
        Ok(loaded) => loaded.map(|loaded| loaded.state),
        Err(error) => return vec![error.to_string()],
    };
    let Some(state) = state else { return Vec::new() };
    let view = state.store.view();
    let keys = view.current(&KeyRange::prefix(Bytes::new())).count();
    let records = view.history_from(Revision::ZERO).count();
    let mut faults: Vec<_> = view.damage().iter().map(ToString::to_string).collect();
    if keys != view.key_count() {
        faults.push(format!("{keys} keys can be read, and {} are counted", view.key_count()));
    }
    if records < keys {
        faults.push(format!("{records} records cannot be the history of {keys} keys"));
    }
    faults
}

fn name_of(id: TreeFileId) -> String {
    format!("{:016x}.db", id.0)
}
