//! Kubernetes' way of using its store, with crashes.
//!
//! Writers create many objects and change each of them, a watcher for each kind sees all of it, and a reader lists kinds
//! in pages meanwhile. The store is killed and started again at moments that follow from the seed, the last time when
//! all is written. Then everything is listed, and [`check`] holds what was seen against what was acknowledged.
//!
//! ```text
//!  writers ──attempts──► History ─┐
//!  lister  ──pages─────► Listing ─┼─► check ──► faults
//!  watchers ─streams───► Event   ─┘
//! ```
//!
//! Limits: one member, no compaction, and the times of crashes are not exactly repeatable: the seed decides after how
//! many changes they come, the scheduler what is under way then.

mod check;
mod history;
mod lister;
mod objects;
mod store;
mod watcher;
mod writer;

use core::cell::Cell;
use core::time::Duration;
use std::path::PathBuf;
use std::rc::Rc;

use cairn_engine::api::etcdserverpb::RangeRequest;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep, timeout};

use self::check::{Fault, check_agreement, check_listing, check_watch};
use self::history::{History, Listing, Outcome};
use self::objects::{Kind, Objects};
use self::store::Store;
use self::watcher::Watched;
use self::writer::Writer;
use crate::progress::Progress;
use crate::world::cluster::{Cluster, PeerTls, Plan, Wiring, require_empty};
use crate::{Trouble, Verdict};

/// How to run the scenario.
#[derive(Debug, clap::Args)]
pub(crate) struct Settings {
    /// How many objects there are
    #[arg(long, default_value_t = 100_000)]
    objects: usize,
    /// How many clients write at the same time
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    clients: u16,
    /// How often the server is killed while they write; it is killed once more at the end
    #[arg(long, default_value_t = 5)]
    kills: u32,
    /// Decides keys, values and the moments of the kills
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The server's binary, Cairn's or etcd's
    #[arg(long = "bin", alias = "cairn", default_value = "target/release/cairn")]
    program: PathBuf,
    /// An empty folder for the server's data and log; kept. Without it, a temporary one that goes if all is well
    #[arg(long)]
    data_dir: Option<PathBuf>,
}

/// What was seen of one kind of objects.
#[derive(Debug)]
struct Seen {
    kind: Kind,
    watched: Watched,
    listings: Vec<Listing>,
}

/// Runs the scenario and tells what it showed.
pub(crate) async fn run(settings: Settings) -> Result<Verdict, Trouble> {
    let temporary = std::env::temp_dir().join(format!("cairn-jepsen-{}", std::process::id()));
    let folder = settings.data_dir.as_ref().unwrap_or(&temporary);
    require_empty(folder)?;
    let progress = Rc::new(Progress::new(u64::try_from(changes(settings.objects))?, "changes"));
    let mut server = Cluster::new(Plan {
        program: settings.program.clone(),
        folder: folder.clone(),
        members: 1,
        spares: 0,
        wiring: Wiring::Direct,
        peer_tls: PeerTls::Off,
        arguments: Vec::new(),
    })?;
    server.begin()?;
    server.accepts(0).await?;
    progress.say(format_args!("log of the server: {}", server.log(0).display()));

    let (history, seen) = exercise(&settings, server, &progress).await?;
    progress.finish();
    let faults = judge(&history, &Objects::new(settings.seed, settings.objects), &seen);
    report(&progress, &history, &seen, &faults);
    if !faults.is_empty() {
        return Ok(Verdict::Wrong);
    }
    if settings.data_dir.is_none() {
        std::fs::remove_dir_all(&temporary)?;
    }
    Ok(Verdict::Right)
}

/// Does everything that clients do, and kills the server meanwhile.
async fn exercise(
    settings: &Settings,
    server: Cluster,
    progress: &Rc<Progress>,
) -> Result<(History, Vec<Seen>), Trouble> {
    let objects = Objects::new(settings.seed, settings.objects);
    let store = || Store::new(&server.url(0));
    let reader = store()?;
    let enough = Rc::new(Cell::new(false));
    let mut watchers = Vec::new();
    for kind in Objects::kinds() {
        let watcher = watcher::watch(store()?, objects.clone(), kind, Rc::clone(&enough));
        watchers.push((kind, spawn_local(watcher)));
    }
    let clients = usize::from(settings.clients);
    let mut writers = Vec::new();
    for client in 0..clients {
        let mine = (client..settings.objects).step_by(clients).map(objects::ObjectId);
        writers.push(Writer::new(store()?, objects.clone(), Rc::clone(progress), mine));
    }
    let moments = Moments::new(settings);
    let crasher = Crasher { server, store: reader.clone(), progress: Rc::clone(progress) };
    let crasher = spawn_local(crasher.crash_at(moments));

    let begin = Instant::now();
    let writers = together(writers.into_iter().map(Writer::create)).await?;
    progress.say(rate("created", settings.objects, begin));
    let writing = Rc::new(Cell::new(true));
    let meanwhile = spawn_local(list_while(reader.clone(), objects.clone(), Rc::clone(&writing)));
    let begin = Instant::now();
    let writers = together(writers.into_iter().map(Writer::alter)).await?;
    progress.say(rate("changed", Writer::alterations(settings.objects), begin));
    writing.set(false);
    let mut meanwhile = meanwhile.await??;

    // All that is written must survive one more crash.
    let mut crasher = crasher.await??;
    crasher.crash(Duration::ZERO).await?;
    let mut seen = Vec::new();
    for (kind, mut watcher) in watchers {
        let begin = Instant::now();
        let last = lister::list(&reader, &objects, kind).await?;
        progress.say(rate("listed", last.sights.len(), begin));
        reader.put(&kind.marker()).await?;
        let watched = if let Ok(watched) = timeout(END_MAX, &mut watcher).await {
            watched
        } else {
            enough.set(true);
            watcher.await
        };
        let (mine, others) = meanwhile.into_iter().partition(|(of, _)| *of == kind);
        meanwhile = others;
        let mut listings: Vec<Listing> =
            Vec::from_iter(mine).into_iter().map(|(_, listing)| listing).collect();
        listings.push(last);
        seen.push(Seen { kind, watched: watched??, listings });
    }
    let mut history = History::new(settings.objects);
    for (object, attempts) in writers.into_iter().flat_map(Writer::into_attempts) {
        history.add(object, attempts);
    }
    Ok((history, seen))
}

/// How long the last event may take to come to its watcher.
const END_MAX: Duration = Duration::from_secs(30);

/// Runs tasks at the same time, to the end of all of them.
async fn together<T: 'static>(
    tasks: impl Iterator<Item = impl Future<Output = Result<T, Trouble>> + 'static>,
) -> Result<Vec<T>, Trouble> {
    let running: Vec<JoinHandle<Result<T, Trouble>>> = tasks.map(spawn_local).collect();
    let mut results = Vec::new();
    for task in running {
        results.push(task.await??);
    }
    Ok(results)
}

/// Lists one kind after the other, as long as there is writing and memory for what was seen.
async fn list_while(
    store: Store,
    objects: Objects,
    writing: Rc<Cell<bool>>,
) -> Result<Vec<(Kind, Listing)>, Trouble> {
    let mut listings = Vec::new();
    for kind in Vec::from_iter(Objects::kinds()).into_iter().cycle().take(LISTINGS_MAX) {
        if !writing.get() {
            break;
        }
        listings.push((kind, lister::list(&store, &objects, kind).await?));
        sleep(Duration::from_millis(200)).await;
    }
    Ok(listings)
}

const LISTINGS_MAX: usize = 120;

/// After how many changes the server is killed, and how long it stays away.
#[derive(Debug)]
struct Moments(Vec<(u64, Duration)>);

impl Moments {
    /// Spread evenly over the run, each at some place in its part of it.
    fn new(settings: &Settings) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(settings.seed);
        let changes = u64::try_from(changes(settings.objects)).expect("counts fit");
        let part = changes / u64::from(settings.kills).max(1);
        let moment = |kill| {
            let after = u64::from(kill) * part + random.next_u64() % part.max(1);
            (after, Duration::from_millis(random.next_u64() % AWAY_MS_MAX))
        };
        Self((0..settings.kills).map(moment).collect())
    }
}

const AWAY_MS_MAX: u64 = 300;

/// Kills the server and starts it again.
#[derive(Debug)]
struct Crasher {
    server: Cluster,
    store: Store,
    progress: Rc<Progress>,
}

impl Crasher {
    /// Crashes it at all these moments.
    async fn crash_at(mut self, moments: Moments) -> Result<Self, Trouble> {
        for (after, away) in moments.0 {
            while self.progress.done() < after {
                sleep(Duration::from_millis(1)).await;
            }
            self.crash(away).await?;
        }
        Ok(self)
    }

    /// Crashes it now, and waits until it answers again.
    async fn crash(&mut self, away: Duration) -> Result<(), Trouble> {
        let done = self.progress.done();
        self.server.kill(0)?;
        sleep(away).await;
        let begin = Instant::now();
        self.server.launch(0)?;
        self.server.accepts(0).await?;
        let anything = RangeRequest { key: "/".into(), ..RangeRequest::default() };
        self.store.range(anything).await?;
        let took = begin.elapsed().as_millis();
        self.progress
            .say(format_args!("killed after {done} changes; answers {took} ms after its start"));
        Ok(())
    }
}

/// How many changes a run makes.
fn changes(objects: usize) -> usize {
    objects + Writer::alterations(objects)
}

fn rate(what: &str, count: usize, begin: Instant) -> String {
    let took = begin.elapsed();
    let per_second = u128::try_from(count).unwrap_or(u128::MAX) * 1000 / took.as_millis().max(1);
    format!("{what} {count} objects in {} ms, {per_second} each second", took.as_millis())
}

/// Holds everything that was seen against what was acknowledged.
fn judge(history: &History, objects: &Objects, seen: &[Seen]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for Seen { kind, watched, listings } in seen {
        let scope = || objects.of_kind(*kind);
        faults.extend(check_watch(history, scope(), &watched.events));
        if !watched.finished {
            faults.push(Fault::Unfinished { kind: *kind });
        }
        for listing in listings {
            faults.extend(check_listing(history, scope(), listing));
            faults.extend(check_agreement(&watched.events, listing));
        }
    }
    faults
}

fn report(progress: &Progress, history: &History, seen: &[Seen], faults: &[Fault]) {
    let count = |wanted: fn(&Outcome) -> bool| {
        history.all().filter(|attempt| wanted(&attempt.outcome)).count()
    };
    let acknowledged = count(|outcome| matches!(outcome, Outcome::Acknowledged(_)));
    let unknown = count(|outcome| matches!(outcome, Outcome::Unknown));
    let refused = count(|outcome| matches!(outcome, Outcome::Refused));
    let events: usize = seen.iter().map(|seen| seen.watched.events.len()).sum();
    let resumed: usize = seen.iter().map(|seen| seen.watched.resumed).sum();
    let listings: usize = seen.iter().map(|seen| seen.listings.len()).sum();
    let last = |seen: &Seen| seen.listings.last().map_or(0, |listing| listing.sights.len());
    let there: usize = seen.iter().map(last).sum();
    progress.say(format_args!(
        "{acknowledged} changes acknowledged, {unknown} of unknown outcome, {refused} refused\n\
         {events} events seen by {} watchers, which asked again {resumed} times\n\
         {listings} lists, the last of each kind with {there} objects together",
        seen.len()
    ));
    for fault in faults.iter().take(FAULTS_SHOWN) {
        progress.say(fault);
    }
    progress.say(format_args!("{} faults", faults.len()));
}

/// One fault explains itself; a thousand of them do not do it better.
const FAULTS_SHOWN: usize = 20;
