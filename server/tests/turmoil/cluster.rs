//! Three members that crash and lose each other, and clients that ask whichever answers.
//!
//! *Chaos*: a fault every few hundred milliseconds; each client writes keys of its own, again and again until somebody
//! acknowledges, and now and then reads them back from whichever member it is connected to. *Calm*: everything is mended,
//! and every member must know all that was acknowledged, and the same history.

use core::cell::{Cell, RefCell};
use core::time::Duration;
use std::collections::BTreeMap;
use std::rc::Rc;

use cairn_engine::api::etcdserverpb::{
    HashKvRequest, HashKvResponse, PutResponse, RangeRequest, RangeResponse,
};
use cairn_engine::peer::Incarnation;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use turmoil::Sim;

use crate::client::{self, Client, nth_put};
use crate::disk;
use crate::member::{self, Place};

const HOSTS: [&str; 3] = ["m1", "m2", "m3"];
/// Writes that each client wants to see acknowledged.
const WRITES: usize = 400;
const CLIENTS: usize = 3;
const ELECTION_TIMEOUT: Duration = Duration::from_millis(300);
/// Few enough that who was away for long needs a snapshot.
const LOG_MEMORY_BYTES: usize = 8 << 10;

#[test]
fn what_a_majority_acknowledged_outlives_crashes_and_cut_links() {
    let mut sum = Faults::default();
    for seed in 0..12 {
        let (ledger, faults) = simulate(seed);
        assert_eq!(ledger.acknowledged.len(), CLIENTS * WRITES, "seed {seed}");
        sum.crashes += faults.crashes;
        sum.cuts += faults.cuts;
        sum.one_way += faults.one_way;
        sum.clients += faults.clients;
        sum.installed += faults.installed;
    }
    let Faults { crashes, cuts, one_way, clients, installed } = sum;
    assert!(crashes.min(cuts).min(one_way).min(clients) > 5 && installed > 0, "{sum:?}");
}

#[test]
fn the_same_seed_is_the_same_run_of_three_members() {
    let trace = |seed| simulate(seed).0.trace;
    let first = trace(7);
    assert_eq!(first, trace(7));
    assert_ne!(first, trace(8));
}

/// What clients learned, in order.
#[derive(Debug, Default)]
struct Ledger {
    /// Acknowledged values by key.
    acknowledged: BTreeMap<String, Vec<u8>>,
    /// Every answer: when, from whom, about what, and the header of the answer.
    trace: Vec<(Duration, &'static str, String, i64, u64)>,
    finished_clients: usize,
}

type Shared = Rc<RefCell<Ledger>>;

/// What went wrong, and how often.
#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    crashes: usize,
    cuts: usize,
    one_way: usize,
    clients: usize,
    /// What came of it: snapshots that took the place of a member's log.
    installed: usize,
}

fn simulate(seed: u64) -> (Ledger, Faults) {
    disk::format();
    let ledger = Shared::default();
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .tick_duration(Duration::from_millis(1))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(5))
        .simulation_duration(Duration::from_secs(600))
        .build();
    let (starts, installed) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    for host in HOSTS {
        let (starts, installed) = (Rc::clone(&starts), Rc::clone(&installed));
        sim.host(host, move || {
            starts.set(starts.get() + 1);
            let life = Incarnation(seed << 32 | starts.get());
            let place = Place {
                host,
                hosts: &HOSTS,
                election_timeout: ELECTION_TIMEOUT,
                log_memory_bytes: LOG_MEMORY_BYTES,
                installed: Rc::clone(&installed),
            };
            async move { member::run(place, life).await }
        });
    }
    for client in 0..CLIENTS {
        sim.client(format!("client-{client}"), write(client, seed, Rc::clone(&ledger)));
    }
    sim.client("auditor", audit(Rc::clone(&ledger)));
    let faults = Nemesis::new(seed).pursue(&mut sim, &ledger);
    (ledger.take(), Faults { installed: installed.get(), ..faults })
}

/// Whoever makes things go wrong.
struct Nemesis {
    random: ChaCha8Rng,
    faults: Faults,
    /// Who is down.
    down: Option<&'static str>,
    /// Links that carry nothing, in at least one direction.
    cut: Vec<(String, &'static str)>,
}

impl Nemesis {
    fn new(seed: u64) -> Self {
        let random = ChaCha8Rng::seed_from_u64(seed);
        Self { random, faults: Faults::default(), down: None, cut: Vec::new() }
    }

    fn below(&mut self, bound: usize) -> usize {
        let number = usize::try_from(self.random.next_u32()).expect("64 bits");
        number % bound
    }

    /// Runs the simulation to its end.
    fn pursue(mut self, sim: &mut Sim<'_>, ledger: &Shared) -> Faults {
        let mut next = 800;
        for step in 0.. {
            if sim.step().expect("nothing fails") {
                break;
            }
            if ledger.borrow().finished_clients == CLIENTS {
                self.mend(sim);
            } else if step >= next {
                next = step + 50 + self.below(400);
                self.strike(sim);
            }
        }
        self.faults
    }

    fn strike(&mut self, sim: &mut Sim<'_>) {
        let (one, two) = (self.below(3), 1 + self.below(2));
        let (one, two) = (HOSTS[one], HOSTS[(one + two) % 3]);
        match self.below(8) {
            // Half of the time things get better.
            0..=3 => self.mend(sim),
            4 if self.down.is_none() => {
                sim.crash(one);
                self.down = Some(one);
                self.faults.crashes += 1;
            }
            4 | 5 => {
                sim.partition(one, two);
                self.cut.push((one.to_owned(), two));
                self.faults.cuts += 1;
            }
            6 => {
                sim.partition_oneway(one, two);
                self.cut.push((one.to_owned(), two));
                self.faults.one_way += 1;
            }
            _ => {
                let client = format!("client-{}", self.below(CLIENTS));
                sim.partition(client.as_str(), one);
                self.cut.push((client, one));
                self.faults.clients += 1;
            }
        }
    }

    fn mend(&mut self, sim: &mut Sim<'_>) {
        if let Some(host) = self.down.take() {
            sim.bounce(host);
        }
        for (one, two) in self.cut.drain(..) {
            sim.repair(one, two);
        }
    }
}

/// Writes keys of its own, each until a member acknowledges it, and reads all of them again after each new connection.
async fn write(number: usize, seed: u64, ledger: Shared) -> turmoil::Result {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(1 + u64::try_from(number).expect("a few"));
    let mut done = 0;
    while done < WRITES {
        let host = HOSTS[usize::try_from(random.next_u32() % 3).expect("a few")];
        let Ok(mut client) = Client::connect(host).await else { continue };
        if read_back(&mut client, host, &format!("{number}/"), &ledger).await.is_err() {
            continue;
        }
        // Not for long with the same, or whoever is connected to a good one would never see another.
        for _ in 0..1 + random.next_u32() % 20 {
            if done == WRITES {
                break;
            }
            let (key, value, question) = nth_put(number, done);
            let Ok(answer) = client.ask::<PutResponse>("KV/Put", &question).await else { break };
            let header = answer.header.expect("answers have headers");
            let mut ledger = ledger.borrow_mut();
            ledger.acknowledged.insert(key.clone(), value);
            ledger.trace.push((turmoil::elapsed(), host, key, header.revision, header.raft_term));
            done += 1;
        }
    }
    ledger.borrow_mut().finished_clients += 1;
    Ok(())
}

/// Reads all keys below a prefix: what was acknowledged before is there.
async fn read_back(
    client: &mut Client,
    host: &'static str,
    prefix: &str,
    ledger: &Shared,
) -> client::Result<()> {
    let expected = ledger.borrow().acknowledged.clone();
    let mut range_end = prefix.as_bytes().to_vec();
    *range_end.last_mut().expect("a prefix is not empty") += 1;
    let question = RangeRequest {
        key: prefix.to_owned().into(),
        range_end: range_end.into(),
        ..RangeRequest::default()
    };
    let answer: RangeResponse = client.ask("KV/Range", &question).await?;
    let found: BTreeMap<&[u8], &[u8]> =
        answer.kvs.iter().map(|kv| (&kv.key[..], &kv.value[..])).collect();
    for (key, value) in expected.iter().filter(|(key, _)| key.starts_with(prefix)) {
        let known = found.get(key.as_bytes());
        assert_eq!(known, Some(&&value[..]), "{key} was acknowledged, and {host} does not know it");
    }
    let header = answer.header.expect("answers have headers");
    let entry = (turmoil::elapsed(), host, prefix.to_owned(), header.revision, header.raft_term);
    ledger.borrow_mut().trace.push(entry);
    Ok(())
}

/// When all clients are done: every member knows everything, and the same.
async fn audit(ledger: Shared) -> turmoil::Result {
    while ledger.borrow().finished_clients < CLIENTS {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // What was asked of a connection that is no more may still happen: history is compared up to here.
    let revision = ledger.borrow().trace.iter().map(|(.., revision, _)| *revision).max();
    let revision = revision.expect("there were answers");
    let mut hashes = Vec::new();
    for host in HOSTS {
        hashes.push(loop {
            if let Ok(hash) = audit_one(host, revision, &ledger).await {
                break hash;
            }
        });
    }
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "members differ: {hashes:?}");
    Ok(())
}

/// Reads everything that was acknowledged from one member; the hash of its history up to a revision.
async fn audit_one(host: &'static str, revision: i64, ledger: &Shared) -> client::Result<u32> {
    let mut client = Client::connect(host).await?;
    for number in 0..CLIENTS {
        read_back(&mut client, host, &format!("{number}/"), ledger).await?;
    }
    let question = HashKvRequest { revision };
    let answer: HashKvResponse = client.ask("Maintenance/HashKV", &question).await?;
    Ok(answer.hash)
}
