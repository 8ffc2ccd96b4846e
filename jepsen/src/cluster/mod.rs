//! Clusters of several members, under every harm that can be done from outside.
//!
//! Clients of all members write, read, take leases and watch, while a [`nemesis`] kills, pauses, cuts and replaces
//! members. In the end everything is healed, everybody is asked for everything, and [`check`] judges what was seen.
//!
//! ```text
//!  clients ──operations──► History ─┐
//!  lessees ──lives───────►          ├─► check ──► faults ─► none: spoil ──► does the checker notice?
//!  watchers ─batches─────►          │
//!  hashes, logs, exits ─────────────┘
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`client`], [`lessee`], [`watcher`] | who does what with the store |
//! | [`requests`] | how that is said in the API |
//! | [`nemesis`], [`partition`] | who harms it, and how networks are cut |
//! | [`history`] | what was done and seen |
//! | [`log`], [`check`], [`fault`] | what must follow, and what did not |
//! | [`spoil`] | the proof that the checker can see |
//! | [`ending`] | healing, the last reads, hashes and logs |

mod check;
mod client;
mod ending;
mod fault;
mod history;
mod lessee;
mod log;
mod nemesis;
mod partition;
mod requests;
mod spoil;
#[cfg(test)]
mod tests;
mod watcher;

use core::cell::{Cell, RefCell};
use core::time::Duration;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};

use self::client::{Client, Honesty, Shared};
use self::ending::Ending;
use self::fault::Fault;
use self::history::{History, Outcome};
use self::lessee::Lessee;
use self::nemesis::{Harm, Nemesis, SURVIVABLE};
use self::watcher::{Goal, watch};
use crate::progress::Progress;
use crate::world::admin::Admin;
use crate::world::cluster::{Cluster, PeerTls, Plan, Wiring, require_empty};
use crate::world::connection::Connection;
use crate::{Trouble, Verdict};

/// How to run the scenario.
#[derive(Debug, clap::Args)]
pub(crate) struct Settings {
    /// The servers' binary, Cairn's or etcd's
    #[arg(long = "bin", default_value = "target/release/cairn")]
    program: PathBuf,
    /// How many members vote
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=7))]
    members: u8,
    /// How long harm is done
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How many clients there are; half of them stay with a member, and one more in three lives on leases
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=1000))]
    clients: u16,
    /// How many requests all clients together make in a second, at most
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    rate: u32,
    /// Decides which harms come, in which order, and what clients ask
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Which harms there are; without it all that the server promises to survive
    #[arg(long, value_enum, value_delimiter = ',')]
    harms: Vec<Harm>,
    /// The time between heartbeats
    #[arg(long, default_value_t = 100, value_name = "MS")]
    heartbeat_interval: u64,
    /// How long a follower waits for one
    #[arg(long, default_value_t = 1000, value_name = "MS")]
    election_timeout: u64,
    /// Members speak TLS to each other, with certificates that they make for themselves
    #[arg(long)]
    peer_tls: bool,
    /// Send linearizable reads as serializable ones: the checker must notice
    #[arg(long)]
    lie: bool,
    /// An empty folder for data and logs; kept. Without it, a temporary one that goes if all is well
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// More flags for every member
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Runs the scenario and tells what it showed.
pub(crate) async fn run(settings: Settings) -> Result<Verdict, Trouble> {
    let temporary = std::env::temp_dir().join(format!("cairn-jepsen-{}", std::process::id()));
    let folder = settings.data_dir.as_ref().unwrap_or(&temporary);
    require_empty(folder)?;
    let harms = harms(&settings)?;
    let progress = Rc::new(Progress::new(settings.seconds, "seconds"));
    progress.say(format_args!("logs and data: {}", folder.display()));
    let mut cluster = Cluster::new(plan(&settings, folder))?;
    let admin = Admin::begin(&mut cluster, usize::from(settings.members), START_MAX).await?;
    let shared = Rc::new(shared(&settings, &cluster)?);
    let election = Duration::from_millis(settings.election_timeout);
    let nemesis = Nemesis::new(cluster, admin, Rc::clone(&shared), Rc::clone(&progress), election);
    let end = Duration::from_secs(settings.seconds);
    let goal = Rc::new(Goal::default());
    let crowd = Crowd::start(&settings, &shared, &goal);
    let nemesis = spawn_local(nemesis.run(harms, end));
    while shared.now() < end && !nemesis.is_finished() {
        sleep(Duration::from_secs(1)).await;
        if shared.now() < end {
            progress.advance();
        }
    }
    let (nemesis, trouble) = nemesis.await?;
    progress.finish();
    let harmed = nemesis.done.clone();
    let mut ending = Ending::new(nemesis, trouble);
    let history = ending.bring_about(crowd, &shared, &goal).await?;
    let mut faults = check::check(&history);
    faults.extend(ending.into_faults()?);
    report(&progress, &history, &harmed, &faults);
    if history.operations.iter().all(|operation| operation.outcome == Outcome::Unknown) {
        return Err(Trouble("nothing was answered".to_owned()));
    }
    if !faults.is_empty() {
        record(folder, &history, &faults)?;
        return Ok(Verdict::Wrong);
    }
    prove(&progress, &history)?;
    if settings.data_dir.is_none() {
        std::fs::remove_dir_all(&temporary)?;
    }
    Ok(Verdict::Right)
}

/// Everything that makes a history.
#[derive(Debug)]
struct Crowd {
    clients: Vec<tokio::task::JoinHandle<Result<Client, Trouble>>>,
    lessees: Vec<tokio::task::JoinHandle<Result<Lessee, Trouble>>>,
    watchers: Vec<tokio::task::JoinHandle<Result<history::Watched, Trouble>>>,
}

impl Crowd {
    fn start(settings: &Settings, shared: &Rc<Shared>, goal: &Rc<Goal>) -> Self {
        let (clients, members) = (usize::from(settings.clients), usize::from(settings.members));
        let client = |number: usize| {
            let home = number.is_multiple_of(2).then_some(number / 2 % members);
            spawn_local(Client::new(Rc::clone(shared), number, home).run())
        };
        let lessee = |number| spawn_local(Lessee::new(Rc::clone(shared), number).run());
        let watcher = |slot| spawn_local(watch(Rc::clone(shared), slot, Rc::clone(goal)));
        Self {
            clients: (0..clients).map(client).collect(),
            lessees: (clients..clients + clients.div_ceil(3)).map(lessee).collect(),
            watchers: (0..shared.connections.len()).map(watcher).collect(),
        }
    }
}

fn plan(settings: &Settings, folder: &Path) -> Plan {
    let mut arguments = vec![
        "--heartbeat-interval".to_owned(),
        settings.heartbeat_interval.to_string(),
        "--election-timeout".to_owned(),
        settings.election_timeout.to_string(),
    ];
    arguments.extend(settings.arguments.iter().cloned());
    Plan {
        program: settings.program.clone(),
        folder: folder.to_path_buf(),
        members: usize::from(settings.members),
        spares: 1,
        wiring: Wiring::Proxies,
        peer_tls: if settings.peer_tls { PeerTls::Auto } else { PeerTls::Off },
        arguments,
    }
}

fn shared(settings: &Settings, cluster: &Cluster) -> Result<Shared, Trouble> {
    let connections = (0..cluster.slots()).map(|slot| Connection::new(&cluster.url(slot)));
    let members = usize::from(settings.members);
    Ok(Shared {
        begin: Instant::now(),
        seed: settings.seed,
        connections: connections.collect::<Result<_, _>>()?,
        active: RefCell::new((0..cluster.slots()).map(|slot| slot < members).collect()),
        writing: Cell::new(true),
        requests: Cell::new(0),
        answers: Cell::new(0),
        pause: Duration::from_secs(1) * u32::from(settings.clients) / settings.rate,
        honesty: if settings.lie { Honesty::Lying } else { Honesty::Honest },
    })
}

/// Those that were chosen, or those that the server promises to survive.
fn harms(settings: &Settings) -> Result<Vec<Harm>, Trouble> {
    if !settings.harms.is_empty() {
        return Ok(settings.harms.clone());
    }
    let version = Command::new(&settings.program).arg("--version").output();
    let version = version
        .map_err(|error| Trouble(format!("{}: {error}", settings.program.display())))?
        .stdout;
    let cairn = String::from_utf8_lossy(&version).contains("Cairn");
    let alone = settings.members == 1;
    Ok(SURVIVABLE
        .into_iter()
        .filter(|harm| cairn || *harm != Harm::Wipe)
        .filter(|harm| {
            !alone || matches!(harm, Harm::Kill | Harm::KillAll | Harm::Pause | Harm::Roll)
        })
        .collect())
}

fn report(progress: &Progress, history: &History, harmed: &BTreeMap<Harm, u32>, faults: &[Fault]) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for operation in &history.operations {
        let name = match operation.outcome {
            Outcome::Written { .. } => "written",
            Outcome::Refused { .. } => "refused by guards",
            Outcome::Seen { .. } => "read",
            Outcome::Unknown => "of unknown outcome",
            Outcome::Rejected => "rejected",
        };
        *counts.entry(name).or_default() += 1;
    }
    let counts = counts.iter().map(|(name, count)| format!("{count} {name}"));
    let batches = history.watched.iter().flat_map(|watched| &watched.batches);
    let events: usize = batches.map(|batch| batch.events.len()).sum();
    let resumed: usize = history.watched.iter().map(|watched| watched.resumed).sum();
    let harmed = harmed.iter().map(|(harm, times)| format!("{harm:?} {times}"));
    progress.say(format_args!(
        "harm: {}\n{} requests: {}\n{events} events seen by {} watchers, which asked again {resumed} times\n\
         {} leases",
        Vec::from_iter(harmed).join(", "),
        history.operations.len(),
        Vec::from_iter(counts).join(", "),
        history.watched.len(),
        history.lives.len(),
    ));
    for fault in faults.iter().take(FAULTS_SHOWN) {
        progress.say(fault);
    }
    progress.say(format_args!("{} faults", faults.len()));
}

/// Keeps everything for whoever looks for the cause.
fn record(folder: &Path, history: &History, faults: &[Fault]) -> Result<(), Trouble> {
    let faults = faults.iter().map(|fault| format!("{fault}\n"));
    let operations = history.operations.iter().map(|operation| format!("{operation:?}\n"));
    let watched = history.watched.iter().flat_map(|watched| {
        let slot = watched.slot;
        watched.batches.iter().map(move |batch| format!("watcher of m{slot}: {batch:?}\n"))
    });
    let lives = history.lives.iter().map(|life| format!("{life:?}\n"));
    let text: String = faults.chain(operations).chain(watched).chain(lives).collect();
    Ok(std::fs::write(folder.join("history"), text)?)
}

/// Spoils the history in every way; the checker must notice each.
fn prove(progress: &Progress, history: &History) -> Result<(), Trouble> {
    let (mut noticed, mut absent) = (0, Vec::new());
    for spoil::Spoil { name, spoil } in spoil::SPOILS {
        let mut spoilt = history.clone();
        if !spoil(&mut spoilt) {
            absent.push(name);
        } else if check::check(&spoilt).is_empty() {
            return Err(Trouble(format!("the checker did not notice {name}")));
        } else {
            noticed += 1;
        }
    }
    progress.say(format_args!("spoilt in {noticed} ways, the history was found wrong in each"));
    if !absent.is_empty() {
        progress.say(format_args!("nothing to spoil for: {}", absent.join(", ")));
    }
    Ok(())
}

const START_MAX: Duration = Duration::from_secs(60);
/// One fault explains itself; a thousand of them do not do it better.
const FAULTS_SHOWN: usize = 20;
