//! How long a cluster is without a leader's service when its leader goes.
//!
//! Puts are begun at a fixed rate, at members that stay. The leader is killed, and the time is measured from there to
//! the first acknowledgement of a put *begun after the kill*: one that was under way may have been committed by the old
//! leader. Then the victim comes back, catches up, and all begins anew.
//!
//! For a hand-over that was planned, puts go on during it, so what counts is the longest time without any
//! acknowledgement.

use core::time::Duration;
use std::path::PathBuf;
use std::rc::Rc;

use clap::ValueEnum;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use serde_json::json;
use tokio::time::sleep;

use crate::figures::Times;
use crate::load::{Load, longest_silence};
use crate::progress::Progress;
use crate::world::admin::Admin;
use crate::world::cluster::{Cluster, PeerTls, Plan, Wiring, require_empty};
use crate::{Trouble, Verdict};

/// How to run the scenario.
#[derive(Debug, clap::Args)]
pub(crate) struct Settings {
    /// The servers' binary, Cairn's or etcd's
    #[arg(long = "bin", default_value = "target/release/cairn")]
    program: PathBuf,
    /// How many members there are
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=7))]
    members: u8,
    /// How often the leader goes
    #[arg(long, default_value_t = 100)]
    kills: u32,
    /// Let it go in an orderly way
    #[arg(long, value_enum)]
    planned: Option<Planned>,
    /// How many puts are begun in a second: with 500, times are exact to 2 ms
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=5000))]
    rate: u32,
    /// The size of what is put
    #[arg(long, default_value_t = 256)]
    value_bytes: usize,
    /// The time between heartbeats
    #[arg(long, default_value_t = 100, value_name = "MS")]
    heartbeat_interval: u64,
    /// How long a follower waits for one
    #[arg(long, default_value_t = 1000, value_name = "MS")]
    election_timeout: u64,
    /// Decides when within a heartbeat the leader goes
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the figures go as JSON, beside the text
    #[arg(long)]
    json: Option<PathBuf>,
    /// An empty folder for data and logs; kept. Without it, a temporary one that goes if all is well
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// More flags for every member
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// What an orderly way is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Planned {
    /// Ask it to hand over, by `MoveLeader`
    Move,
    /// Ask it to end, by SIGTERM
    Terminate,
}

/// What was measured.
#[derive(Debug, Default)]
struct Measured {
    /// From the leader's going to the first acknowledgement of a put begun after it.
    first: Vec<Duration>,
    /// The longest time without an acknowledgement.
    silence: Vec<Duration>,
    /// From the victim's start until it had caught up.
    caught_up: Vec<Duration>,
}

/// Runs the scenario and tells what it showed.
pub(crate) async fn run(settings: Settings) -> Result<Verdict, Trouble> {
    let temporary = std::env::temp_dir().join(format!("cairn-failover-{}", std::process::id()));
    let folder = settings.data_dir.as_ref().unwrap_or(&temporary);
    require_empty(folder)?;
    let progress = Rc::new(Progress::new(u64::from(settings.kills), "rounds"));
    progress.say(format_args!("logs and data: {}", folder.display()));
    let members = usize::from(settings.members);
    let mut arguments = vec![
        "--heartbeat-interval".to_owned(),
        settings.heartbeat_interval.to_string(),
        "--election-timeout".to_owned(),
        settings.election_timeout.to_string(),
    ];
    arguments.extend(settings.arguments.iter().cloned());
    let mut cluster = Cluster::new(Plan {
        program: settings.program.clone(),
        folder: folder.clone(),
        members,
        spares: 0,
        wiring: Wiring::Direct,
        peer_tls: PeerTls::Off,
        arguments,
    })?;
    let admin = Admin::begin(&mut cluster, members, RECOVERY_MAX).await?;
    let everybody: Vec<usize> = (0..members).collect();
    let load = Load::start(&cluster, everybody.clone(), settings.rate, settings.value_bytes)?;
    let mut rounds = Rounds {
        cluster,
        admin,
        load,
        random: ChaCha8Rng::seed_from_u64(settings.seed),
        measured: Measured::default(),
    };
    for _ in 0..settings.kills {
        if let Err(trouble) = rounds.round(&settings).await {
            progress.say(format_args!("the cluster does not recover: {trouble}"));
            report(&progress, &settings, &rounds.measured)?;
            return Ok(Verdict::Wrong);
        }
        progress.advance();
    }
    progress.finish();
    let Rounds { admin, load, measured, cluster, .. } = rounds;
    drop(load);
    sleep(Duration::from_secs(1)).await;
    let agreement = admin.agreement(&everybody).await?;
    report(&progress, &settings, &measured)?;
    drop(cluster);
    if !agreement.holds() {
        progress.say(format_args!("the members differ: {:?}", agreement.hashes()));
        return Ok(Verdict::Wrong);
    }
    if settings.data_dir.is_none() {
        std::fs::remove_dir_all(&temporary)?;
    }
    Ok(Verdict::Right)
}

/// One round after the other.
#[derive(Debug)]
struct Rounds {
    cluster: Cluster,
    admin: Admin,
    load: Load,
    random: ChaCha8Rng,
    measured: Measured,
}

impl Rounds {
    async fn round(&mut self, settings: &Settings) -> Result<(), Trouble> {
        let everybody: Vec<usize> = (0..self.cluster.slots()).collect();
        // Long enough that the last round does not matter, and not in step with heartbeats.
        let random = self.random.next_u64() % settings.heartbeat_interval.max(1);
        sleep(Duration::from_millis(settings.election_timeout + random)).await;
        let leader = self.admin.some_leader(RECOVERY_MAX).await?;
        let others: Vec<usize> = everybody.iter().copied().filter(|slot| *slot != leader).collect();
        let target = others[usize::try_from(self.random.next_u32())? % others.len()];
        let target = self.admin.member(&self.cluster.peer_url(target)).await?;
        // Everybody is asked only while the leader is sure to stay.
        self.load.ask(others);
        self.load.forget();
        sleep(Duration::from_millis(100)).await;
        let moment = self.load.now();
        match settings.planned {
            None => self.cluster.kill(leader)?,
            Some(Planned::Move) => {
                let target = target.ok_or_else(|| Trouble("a member without an id".to_owned()))?;
                self.admin
                    .hand_over(leader, target)
                    .await
                    .map_err(|status| Trouble(format!("MoveLeader: {status}")))?;
            }
            Some(Planned::Terminate) => drop(self.cluster.terminate(leader).await?),
        }
        let first = loop {
            if let Some(first) = self.load.first_since(moment) {
                break first;
            }
            if self.load.now() > moment + RECOVERY_MAX {
                return Err(Trouble(format!("nothing is acknowledged for {RECOVERY_MAX:?}")));
            }
            sleep(Duration::from_millis(1)).await;
        };
        self.admin.some_leader(RECOVERY_MAX).await?;
        sleep(AFTERWARDS).await;
        let silence = longest_silence(&self.load.acknowledged(), moment, self.load.now());
        self.measured.first.push(first - moment);
        self.measured.silence.push(silence);
        if self.cluster.process(leader).is_none() {
            let begin = self.load.now();
            self.cluster.launch(leader)?;
            self.cluster.accepts(leader).await?;
            self.admin.caught_up(leader, RECOVERY_MAX).await?;
            self.measured.caught_up.push(self.load.now() - begin);
        }
        self.load.ask(everybody);
        Ok(())
    }
}

fn report(progress: &Progress, settings: &Settings, measured: &Measured) -> Result<(), Trouble> {
    let first = Times::new(measured.first.iter().copied());
    let silence = Times::new(measured.silence.iter().copied());
    let caught_up = Times::new(measured.caught_up.iter().copied());
    let election = Duration::from_millis(settings.election_timeout);
    let how = match settings.planned {
        None => "kill -9",
        Some(Planned::Move) => "MoveLeader",
        Some(Planned::Terminate) => "SIGTERM",
    };
    progress.say(format_args!(
        "{} rounds of {how}, {} members, election timeout {} ms (multiples of it in brackets)\n\
         first acknowledgement of a put begun afterwards:\n  {}\n\
         longest time without an acknowledgement:\n  {}",
        first.count(),
        settings.members,
        settings.election_timeout,
        first.line(Some(election)),
        silence.line(Some(election)),
    ));
    if caught_up.count() > 0 {
        let line = caught_up.line(None);
        progress.say(format_args!("the victim has caught up after its start:\n  {line}"));
    }
    let shown = if settings.planned.is_some() { &silence } else { &first };
    progress.say(shown.histogram().trim_end());
    let Some(path) = &settings.json else { return Ok(()) };
    let figures = json!({
        "program": settings.program.display().to_string(),
        "members": settings.members,
        "how": how,
        "election_timeout_ms": settings.election_timeout,
        "heartbeat_interval_ms": settings.heartbeat_interval,
        "rate": settings.rate,
        "first_us": first.json(),
        "silence_us": silence.json(),
        "caught_up_us": caught_up.json(),
    });
    Ok(std::fs::write(path, format!("{figures:#}\n"))?)
}

const RECOVERY_MAX: Duration = Duration::from_secs(60);
/// How long after the new leader's first acknowledgement silence is still looked for.
const AFTERWARDS: Duration = Duration::from_millis(300);
