//! `cairn snapshot save|status|restore`: backups, in etcd's own format.
//!
//! Flags and answers are those of etcdctl and etcdutl, so that scripts need not learn. The file is bbolt's with a SHA-256
//! behind it, whoever wrote it, and goes both ways.
//!
//! | file | what |
//! |---|---|
//! | mod.rs | the command line |
//! | save.rs | a snapshot from a member |
//! | status.rs | what is in a file |
//! | restore.rs | a data directory out of a file |
//! | progress.rs | how far it is |

mod progress;
mod restore;
mod save;
mod status;

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use sha2::{Digest as _, Sha256};

use self::progress::Progress;
use crate::cli::client::Common;
use crate::takeover::Trouble;

/// What to do with snapshots.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Save a snapshot of a member to a file
    Save(Box<Save>),
    /// Show what is in a snapshot, which is read from its beginning to its end
    Status(Status),
    /// Make the data directory of a member of a new cluster out of a snapshot
    #[command(after_help = RESTORE_HELP)]
    Restore(Restore),
}

/// Save a snapshot of a member to a file
#[derive(Debug, clap::Args)]
pub(super) struct Save {
    /// The file
    file: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// Show what is in a snapshot
#[derive(Debug, clap::Args)]
pub(super) struct Status {
    /// The file
    file: PathBuf,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t = Format::Simple)]
    write_out: Format,
}

/// Make the data directory of a member of a new cluster out of a snapshot
#[derive(Debug, clap::Args)]
pub(super) struct Restore {
    /// The file
    file: PathBuf,
    /// Where to put the data; it is made, or is empty [default: <name>.cairn]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where to put the log, if not into the data directory; give it to the member, too
    #[arg(long, value_name = "DIR")]
    wal_dir: Option<PathBuf>,
    /// The member's name
    #[arg(long, default_value = "default")]
    name: String,
    /// All members of the new cluster, as name=url, with commas [default: `<name>=http://localhost:2380`]
    #[arg(long, value_name = "MEMBERS")]
    initial_cluster: Option<String>,
    /// What distinguishes this cluster from others with the same URLs
    #[arg(long, default_value = "etcd-cluster", value_name = "TOKEN")]
    initial_cluster_token: String,
    /// Where the other members reach this one
    #[arg(long, default_value = "http://localhost:2380", value_name = "URLS")]
    initial_advertise_peer_urls: String,
    /// Take a file without a checksum, such as member/snap/db of an etcd that was stopped, or in spite of a wrong one
    #[arg(long)]
    skip_hash_check: bool,
    /// Make the revision higher by this, so that clients never see it go back; needs --mark-compacted
    #[arg(long, default_value_t = 0, value_name = "REVISIONS")]
    bump_revision: u64,
    /// Make all revisions before unreadable, so that watchers begin anew; needs --bump-revision
    #[arg(long)]
    mark_compacted: bool,
    /// No effect: nothing is mapped
    #[arg(long, hide = true)]
    initial_memory_map_size: Option<u64>,
}

/// How to show what is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// One line with commas
    Simple,
    /// JSON
    Json,
    /// A table
    Table,
    /// A line for each field
    Fields,
}

const RESTORE_HELP: &str = "\
Every member of the new cluster gets its own directory out of the same file, with its own --name and
--initial-advertise-peer-urls and the same --initial-cluster and --initial-cluster-token. Then start the members with
--data-dir. Members, and the ids of the cluster and its members, are new; keys, revisions, leases, users and alarms
are those of the snapshot.";

/// Does it.
pub(super) fn run(command: &Command) -> ExitCode {
    let done = match command {
        Command::Save(save) => save::run(save),
        Command::Status(status) => status::run(status),
        Command::Restore(restore) => return restore::run(restore),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed(why)) => {
            writeln!(io::stderr(), "Error: {why}").ok();
            ExitCode::FAILURE
        }
    }
}

/// Why something was not done.
struct Failed(String);

impl<E: core::error::Error> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// A file, and how many of its bytes are the database.
struct Snapshot {
    file: File,
    bytes: u64,
    has_checksum: bool,
}

impl Snapshot {
    fn open(path: &Path) -> Result<Self, Trouble> {
        let file = File::open(path).map_err(Trouble::io("open", path))?;
        let length = file.metadata().map_err(Trouble::io("look at", path))?.len();
        // Pages have at least a sector (etcdutl's rule).
        let has_checksum = length % 512 == CHECKSUM_BYTES;
        let bytes = if has_checksum { length - CHECKSUM_BYTES } else { length };
        Ok(Self { file, bytes, has_checksum })
    }

    /// Whether the checksum is that of what is before it.
    fn verify(&mut self, path: &Path) -> Result<(), Trouble> {
        let progress = Progress::new("checking", self.bytes);
        let io = || Trouble::io("read", path);
        self.file.rewind().map_err(io())?;
        let (mut sha, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
        let mut left = self.bytes;
        while left > 0 {
            let len = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            self.file.read_exact(&mut buffer[..len]).map_err(io())?;
            sha.update(&buffer[..len]);
            left -= u64::try_from(len).expect("a buffer's length is a number");
            progress.set(self.bytes - left);
        }
        progress.end();
        let mut told = [0; 32];
        self.file.read_exact(&mut told).map_err(io())?;
        let found: [u8; 32] = sha.finalize().into();
        if told == found {
            return Ok(());
        }
        Err(Trouble::Checksum(format!(
            "{}: expected sha256 {}, got {}: the file is damaged, take another",
            path.display(),
            hexadecimal(&told),
            hexadecimal(&found)
        )))
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const CHECKSUM_BYTES: u64 = 32;
