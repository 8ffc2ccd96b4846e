//! A cluster of one that crashes, and clients and a watcher that lose their connections to it.

use core::cell::{Cell, RefCell};
use core::time::Duration;
use std::collections::BTreeMap;
use std::rc::Rc;

use cairn_engine::api::etcdserverpb::watch_request::RequestUnion;
use cairn_engine::api::etcdserverpb::{
    PutResponse, RangeRequest, RangeResponse, WatchCreateRequest, WatchRequest, WatchResponse,
};
use cairn_engine::peer::Incarnation;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::client::{self, Client, nth_put};
use crate::disk;
use crate::member::{self, Place};

const MEMBER: &str = "member";
/// Writes that each client wants to see acknowledged.
const WRITES: usize = 300;
const CLIENTS: usize = 3;

#[test]
fn what_was_acknowledged_outlives_crashes_and_broken_connections() {
    for seed in 0..8 {
        let crashes = run(seed);
        assert!(crashes > 2, "seed {seed} crashed the member {crashes} times only");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    assert_eq!(trace(3), trace(3));
    assert_ne!(trace(3), trace(4));
}

/// What clients learned, in order.
#[derive(Debug, Default)]
struct Ledger {
    /// Acknowledged values by key.
    acknowledged: BTreeMap<String, Vec<u8>>,
    /// Every write: who, what, at which revision.
    trace: Vec<(String, i64)>,
    /// What the watcher was told: the revision and key of each event.
    watched: Vec<(i64, String)>,
    finished_clients: usize,
}

type Shared = Rc<RefCell<Ledger>>;

fn trace(seed: u64) -> Vec<(String, i64)> {
    let ledger = Shared::default();
    simulate(seed, &ledger);
    ledger.take().trace
}

fn run(seed: u64) -> usize {
    let ledger = Shared::default();
    let crashes = simulate(seed, &ledger);
    let ledger = ledger.borrow();
    assert_eq!(ledger.acknowledged.len(), CLIENTS * WRITES);
    let revisions: Vec<i64> = ledger.watched.iter().map(|(revision, _)| *revision).collect();
    assert!(revisions.is_sorted_by(|a, b| a < b), "events come in order and once: {revisions:?}");
    for (key, revision) in &ledger.trace {
        let told = ledger.watched.contains(&(*revision, key.clone()));
        assert!(told, "seed {seed}: the watcher was not told of {key} at {revision}");
    }
    crashes
}

/// Runs clients and a watcher against a member that crashes and loses connections; returns how often it crashed.
fn simulate(seed: u64, ledger: &Shared) -> usize {
    disk::format();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .tick_duration(Duration::from_millis(1))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(5))
        .simulation_duration(Duration::from_secs(600))
        .build();
    let starts = Rc::new(Cell::new(0));
    sim.host(MEMBER, move || {
        starts.set(starts.get() + 1);
        let life = Incarnation(starts.get());
        let place = Place {
            host: MEMBER,
            hosts: &[MEMBER],
            election_timeout: Duration::from_secs(1),
            log_memory_bytes: 1 << 20,
            installed: Rc::default(),
        };
        async move { member::run(place, life).await }
    });
    for client in 0..CLIENTS {
        sim.client(format!("client-{client}"), write(client, ledger.clone()));
    }
    sim.client("watcher", watch(ledger.clone()));
    let mut crashes = 0;
    let mut next_fault = 100;
    let mut cut_off: Option<String> = None;
    for step in 0.. {
        if sim.step().expect("nothing fails") {
            break;
        }
        if step < next_fault {
            continue;
        }
        next_fault += 50 + random.next_u32() % 300;
        if let Some(client) = cut_off.take() {
            sim.repair(client, MEMBER);
        } else if ledger.borrow().finished_clients == CLIENTS {
            continue;
        } else if random.next_u32().is_multiple_of(3) {
            let client = format!("client-{}", random.next_u32() % 3);
            sim.partition(client.as_str(), MEMBER);
            cut_off = Some(client);
        } else {
            sim.crash(MEMBER);
            sim.bounce(MEMBER);
            crashes += 1;
        }
    }
    crashes
}

/// Writes keys of its own, each until it is acknowledged, and reads all of them again after each new connection.
async fn write(number: usize, ledger: Shared) -> turmoil::Result {
    let mut done = 0;
    while done < WRITES {
        let Ok(mut client) = Client::connect(MEMBER).await else { continue };
        if read_back(&mut client, number, &ledger).await.is_err() {
            continue;
        }
        while done < WRITES {
            let (key, value, question) = nth_put(number, done);
            let Ok(answer) = client.ask::<PutResponse>("KV/Put", &question).await else { break };
            let revision = answer.header.expect("answers have headers").revision;
            let mut ledger = ledger.borrow_mut();
            ledger.acknowledged.insert(key.clone(), value);
            ledger.trace.push((key, revision));
            done += 1;
        }
    }
    let mut client = loop {
        if let Ok(client) = Client::connect(MEMBER).await {
            break client;
        }
    };
    while read_back(&mut client, number, &ledger).await.is_err() {
        if let Ok(again) = Client::connect(MEMBER).await {
            client = again;
        }
    }
    ledger.borrow_mut().finished_clients += 1;
    Ok(())
}

/// Reads all keys of a client: what was acknowledged is there.
async fn read_back(client: &mut Client, number: usize, ledger: &Shared) -> client::Result<()> {
    let expected = ledger.borrow().acknowledged.clone();
    let question = RangeRequest {
        key: format!("{number}/").into(),
        range_end: format!("{number}0").into(),
        ..RangeRequest::default()
    };
    let answer: RangeResponse = client.ask("KV/Range", &question).await?;
    let found: BTreeMap<String, Vec<u8>> = answer
        .kvs
        .into_iter()
        .map(|kv| (String::from_utf8_lossy(&kv.key).into_owned(), kv.value.to_vec()))
        .collect();
    for (key, value) in expected.iter().filter(|(key, _)| key.starts_with(&format!("{number}/"))) {
        assert_eq!(found.get(key), Some(value), "{key} was acknowledged");
    }
    Ok(())
}

/// Watches everything, each time from where it left off, until all writes were told.
async fn watch(ledger: Shared) -> turmoil::Result {
    let mut next = 1;
    loop {
        let Ok(mut client) = Client::connect(MEMBER).await else { continue };
        let create = WatchCreateRequest {
            key: vec![0].into(),
            range_end: vec![0].into(),
            start_revision: next,
            ..WatchCreateRequest::default()
        };
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        let Ok(mut answers) = client.stream("Watch/Watch", &request).await else { continue };
        loop {
            let told = answers.next::<WatchResponse>();
            let Ok(Ok(Some(response))) = tokio::time::timeout(IDLE, told).await else { break };
            let mut ledger = ledger.borrow_mut();
            for event in response.events {
                let kv = event.kv.expect("events have keys");
                next = kv.mod_revision + 1;
                ledger.watched.push((kv.mod_revision, String::from_utf8(kv.key.to_vec())?));
            }
        }
        let ledger = ledger.borrow();
        let last = ledger.trace.iter().map(|(_, revision)| *revision).max().unwrap_or(0);
        if ledger.finished_clients == CLIENTS && next > last {
            return Ok(());
        }
    }
}

/// A watcher that hears nothing for so long connects anew.
const IDLE: Duration = Duration::from_secs(2);
