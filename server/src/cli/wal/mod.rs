//! `cairn wal`: what a log says, and whether a member could start from it.
//!
//! Everything is read with the code that a member reads it with: the engine's [`wal`] on io's [`BootDisk`]. Nothing is
//! written, so it is safe on the only copy of a broken directory. On the directory of a member that runs, the
//! end of the log moves while it is read: `dump` shows it with a warning, `verify` has no verdict on it.
//!
//! | file | what |
//! |---|---|
//! | mod.rs | the command line, and what is looked into |
//! | dump.rs | every segment, batch and record |
//! | verify.rs | the verdict |
//! | describe.rs | a command in a line |
//! | line.rs | lines for people and for programs |

mod describe;
mod dump;
mod line;
pub(super) mod verify;

#[cfg(test)]
mod tests;

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cairn_engine::raft::Index;
use cairn_engine::wal::{self, LogSource, scan};
use cairn_io::datadir;
use cairn_io::disk::{Disk as _, ThreadDisk};
use cairn_io::driver::{BootDisk, Directory};

use crate::cli::complain;
use crate::data::{self, Owner};

/// What to do with a log.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Show every segment, batch and record
    #[command(after_help = DUMP_HELP)]
    Dump {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        options: dump::Options,
    },
    /// Check all that a member checks when it starts, and say what it would do
    #[command(after_help = VERIFY_HELP)]
    Verify {
        #[command(flatten)]
        place: Place,
    },
}

/// Where the log is.
#[derive(Debug, clap::Args)]
pub(super) struct Place {
    /// A member's data directory, or a directory of segments
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Where the log is, if not in the data directory
    #[arg(long, value_name = "DIR")]
    wal_dir: Option<PathBuf>,
}

const DUMP_HELP: &str = "\
Keys are shown, values only with --values. Damage is shown where it stands; `verify` judges it.

Exit codes:
  0   shown
  3   the log could not be read
  64  the command line makes no sense";

const VERIFY_HELP: &str = "\
Rows are those of the recovery table in docs/format.md. Of a directory of segments alone, the log is checked from
the first segment on; of a data directory, from where its newest whole snapshot needs it.

Exit codes:
  0   clean
  1   a torn tail: the last write was not finished; a member would cut it off and start
  2   damage: something that was promised is gone, or this is not a log that this version can use
  3   no verdict: the log could not be read, or a member is using it
  64  the command line makes no sense";

/// Does it.
pub(super) fn run(command: &Command) -> ExitCode {
    let mut out = BufWriter::new(io::stdout().lock());
    let done = match command {
        Command::Dump { place, options } => {
            Subject::find(place).and_then(|subject| dump_subject(&subject, options, &mut out))
        }
        Command::Verify { place } => {
            Subject::find(place).and_then(|subject| verify_subject(&subject, &mut out))
        }
    };
    let done = done.and_then(|code| out.flush().map(|()| code).map_err(Trouble::Output));
    match done {
        Ok(code) => ExitCode::from(code),
        // Whoever reads has seen enough.
        Err(Trouble::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(trouble) => {
            complain(trouble);
            ExitCode::from(NO_VERDICT)
        }
    }
}

fn dump_subject(
    subject: &Subject,
    options: &dump::Options,
    out: &mut impl Write,
) -> Result<u8, Trouble> {
    if let Err(trouble) = subject.check_unused() {
        complain(format_args!("{trouble}: the last lines may show a write under way"));
    }
    let disk = ThreadDisk::start().map_err(Trouble::Threads)?;
    let mut source = BootDisk::open(&disk, &subject.directory).map_err(Trouble::Disk)?;
    dump::dump(&mut source, options, out).map_err(Trouble::Output)?;
    Ok(0)
}

fn verify_subject(subject: &Subject, out: &mut impl Write) -> Result<u8, Trouble> {
    subject.check_unused()?;
    let disk = ThreadDisk::start().map_err(Trouble::Threads)?;
    let mut source = BootDisk::open(&disk, &subject.directory).map_err(Trouble::Disk)?;
    let verdict = match subject.owner_of(&mut source) {
        Some(owner) if subject.data.is_some() => verify::member(&mut source, &owner, out),
        Some(owner) => verify::log(&mut source, &owner, out),
        None => verify::nobodys(&mut source, out),
    };
    verdict.map(verify::Verdict::code).map_err(Trouble::Output)
}

/// A log, and the member that it is of.
struct Subject {
    directory: Directory,
    /// The data directory, if it is known.
    data: Option<PathBuf>,
    /// Whose it is, by its file `FORMAT`.
    owner: Option<Owner>,
}

impl Subject {
    /// Finds out what a directory is.
    fn find(place: &Place) -> Result<Self, Trouble> {
        let given = place.directory.as_path();
        let of_member = |path: &&Path| path.join("FORMAT").exists() || path.join("wal").is_dir();
        let above = given.parent().filter(|_| given.ends_with("wal"));
        let data = [Some(given), above].into_iter().flatten().find(of_member);
        let (directory, owner) = match data {
            Some(data) => {
                let owner = data::owner(data).unwrap_or_else(|unusable| {
                    // It may be the log that tells.
                    complain(unusable);
                    None
                });
                (Directory::new(data, place.wal_dir.as_deref()), owner)
            }
            None => (Directory::new(given, Some(place.wal_dir.as_deref().unwrap_or(given))), None),
        };
        if !directory.log().is_dir() {
            return Err(Trouble::NoLog(directory.log().into()));
        }
        Ok(Self { directory, data: data.map(Path::to_path_buf), owner })
    }

    /// Whether no member uses the log just now.
    fn check_unused(&self) -> Result<(), Trouble> {
        self.data.as_deref().map_or(Ok(()), datadir::check_free).map_err(Trouble::InUse)
    }

    /// Whose log it is: by the directory, or else by the first segment that says so.
    fn owner_of(&self, source: &mut dyn LogSource) -> Option<Owner> {
        self.owner.clone().or_else(|| {
            scan::segments(source).iter().find_map(|segment| match segment.header {
                wal::segment::Decoded::Used(header) => {
                    // How it came there does not matter to its log.
                    let origin = data::Origin::Joined;
                    Some(Owner { cluster: header.cluster, member: header.member, origin })
                }
                wal::segment::Decoded::Blank | wal::segment::Decoded::Unknown { .. } => None,
            })
        })
    }
}

/// Why there is nothing to show, or no verdict.
#[derive(Debug)]
enum Trouble {
    NoLog(PathBuf),
    InUse(datadir::Error),
    Threads(io::Error),
    Disk(cairn_io::disk::Error),
    Output(io::Error),
}

impl core::fmt::Display for Trouble {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoLog(path) => write!(f, "there is no directory {}", path.display()),
            Self::InUse(error) => error.fmt(f),
            Self::Threads(error) => write!(f, "cannot start a thread to read with: {error}"),
            Self::Disk(error) => error.fmt(f),
            Self::Output(error) => write!(f, "cannot write what was found: {error}"),
        }
    }
}

/// Indexes, both included, as people say them.
fn span(from: Index, to: Index) -> String {
    if from < to { format!("{from}-{to}") } else { from.to_string() }
}

/// The exit code where a log could not be judged.
pub(super) const NO_VERDICT: u8 = 3;
