//! A data directory out of a file.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use cairn_engine::cluster::{Cluster, Record};
use cairn_engine::import::Bump;
use cairn_engine::raft::{Index, Term};
use cairn_engine::snapshot::Position;
use cairn_engine::{MemberId, config};
use cairn_io::datadir::DataDir;
use cairn_io::driver::Directory;

use super::{Failed, Progress, Restore, Snapshot};
use crate::cli::USAGE;
use crate::config::Config;
use crate::flags::{self, Invocation};
use crate::identity::Identity;
use crate::takeover::{self, Watch};

/// Restores, and says what a member will find.
pub(super) fn run(command: &Restore) -> ExitCode {
    let (why, code) = if (command.bump_revision > 0) == command.mark_compacted {
        match restore(command) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(Failed(why)) => (why, ExitCode::FAILURE),
        }
    } else {
        // etcdutl's words.
        ("--mark-compacted required if --revision-bump > 0".to_owned(), ExitCode::from(USAGE))
    };
    writeln!(io::stderr(), "Error: {why}").ok();
    code
}

fn restore(command: &Restore) -> Result<(), Failed> {
    let config = configuration(command)?;
    config.verify_bootstrap()?;
    let identity = Identity::at_bootstrap(&config)?;
    let data_dir = &config.data_dir;
    if fs::read_dir(data_dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failed(format!("data-dir {data_dir:?} not empty or could not be read")));
    }
    if let Some(wal_dir) = config.wal_dir.as_ref().filter(|wal_dir| wal_dir.exists()) {
        return Err(Failed(format!("wal-dir {wal_dir:?} exists")));
    }
    let mut snapshot = Snapshot::open(&command.file)?;
    match (command.skip_hash_check, snapshot.has_checksum) {
        (true, _) => {}
        (false, true) => snapshot.verify(&command.file)?,
        (false, false) => {
            let why = "snapshot missing hash but --skip-hash-check=false";
            return Err(Failed(why.to_owned()));
        }
    }
    let bump = (command.bump_revision > 0).then_some(Bump(command.bump_revision));
    let progress = Progress::new("reading", snapshot.bytes);
    let mut tick = |done| progress.set(done);
    let mut watch = Watch::new(snapshot.bytes, &mut tick);
    let mut imported =
        takeover::read_state(&command.file, &snapshot.file, snapshot.bytes, bump, &mut watch)?;
    imported.state.cluster = Cluster::new(identity.members.iter().map(record));
    // As if each member had been added by an entry, before there was a leader (etcdutl's numbers).
    let index = Index(u64::try_from(identity.members.len())?);
    let (term, owner) = (Term(1), identity.owner());
    let vote = (term, MemberId::NONE);
    let position = Position { index, term, vote, restarts: true, ..Position::default() };

    let held = DataDir::open(data_dir)?;
    takeover::begin(held.path())?;
    let directory = Directory::new(held.path(), config.wal_dir.as_deref());
    takeover::write_state(&directory, &owner, position, &imported.state, &mut watch)?;
    takeover::finish(held.path(), &owner)?;
    progress.end();
    if imported.loose_keys > 0 {
        let keys = imported.loose_keys;
        crate::cli::complain(format_args!(
            "{keys} keys hung on leases that do not exist: they stay until somebody deletes them"
        ));
    }
    let store = &imported.state.store;
    writeln!(
        io::stderr(),
        "restored {} keys at revision {} from {} to {}: start member {} of cluster {} with --data-dir {}{}",
        store.key_count(),
        store.revision(),
        command.file.display(),
        data_dir.display(),
        owner.member,
        owner.cluster,
        data_dir.display(),
        wal_dir_flag(config.wal_dir.as_deref()),
    )?;
    Ok(())
}

fn wal_dir_flag(wal_dir: Option<&Path>) -> String {
    wal_dir.map_or_else(String::new, |wal_dir| format!(" --wal-dir {}", wal_dir.display()))
}

/// The configuration of the member: what a member reads from its flags is checked as there, in the same words.
fn configuration(command: &Restore) -> Result<Config, Failed> {
    let program = env::args_os().next().unwrap_or_else(|| "cairn".into());
    let cluster = command.initial_cluster.clone();
    let cluster = cluster.unwrap_or_else(|| format!("{}=http://localhost:2380", command.name));
    let data_dir = command.data_dir.clone();
    let data_dir = data_dir.unwrap_or_else(|| PathBuf::from(format!("{}.cairn", command.name)));
    let mut words: Vec<OsString> = vec![program];
    let mut flag = |name: &str, value: OsString| words.extend([name.into(), value]);
    flag("--name", command.name.clone().into());
    flag("--data-dir", data_dir.into());
    flag("--initial-cluster", cluster.into());
    flag("--initial-cluster-token", command.initial_cluster_token.clone().into());
    flag("--initial-advertise-peer-urls", command.initial_advertise_peer_urls.clone().into());
    if let Some(wal_dir) = &command.wal_dir {
        flag("--wal-dir", wal_dir.into());
    }
    match flags::read(words, []) {
        Invocation::Serve(_, config) => Ok(*config),
        Invocation::Invalid(_, invalid) => Err(invalid.into()),
        Invocation::Usage(why) => Err(Failed(why)),
        Invocation::Help | Invocation::Version => Err(Failed("a value is a flag".to_owned())),
    }
}

fn record(member: &config::Member) -> Record {
    Record {
        id: member.id.0,
        name: member.name.clone(),
        peer_urls: member.peer_urls.clone(),
        ..Record::default()
    }
}
