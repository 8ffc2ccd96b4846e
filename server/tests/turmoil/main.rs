//! The server's own code (connections, gRPC, driver, engine, recovery) over turmoil's network and clock, with crashes,
//! lost connections and a disk that keeps half of an unanswered write. The engine alone is simulated much harder in
//! the sim crate; this is for what lies above it.

mod client;
mod disk;
mod runtime;

use core::cell::RefCell;
use core::time::Duration;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use cairn_engine::Config;
use cairn_engine::api::etcdserverpb::watch_request::RequestUnion;
use cairn_engine::api::etcdserverpb::{
    PutRequest, PutResponse, RangeRequest, RangeResponse, WatchCreateRequest, WatchRequest,
    WatchResponse,
};
use cairn_engine::config::{Limits as EngineLimits, Lives, Member};
use cairn_engine::ids::{ClusterId, MemberId};
use cairn_engine::peer::Incarnation;
use cairn_io::driver::{self, Settings};
use cairn_io::pulse::Counters;
use cairn_io::runtime::Runtime;
use cairn_server::accept::{self, Face};
use cairn_server::config::KeepAlive;
use cairn_server::config::MetricsLevel;
use cairn_server::config::gates::FeatureGates;
use cairn_server::context::{Context, Limits};
use cairn_server::metrics::{Facts, Metrics};
use client::Client;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use runtime::Simulated;
use turmoil::net::TcpListener;

/// Where members listen.
pub(crate) const PORT: u16 = 2379;
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
    sim.host(MEMBER, || async {
        member().await?;
        Ok(())
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

/// A member of a cluster of one, as `serve` starts it on one core.
async fn member() -> client::Result<()> {
    let id = MemberId(1);
    let settings = Settings {
        engine: Config {
            cluster: ClusterId(1),
            id,
            members: vec![Member {
                id,
                name: MEMBER.to_owned(),
                peer_urls: Vec::new(),
                client_urls: Vec::new(),
            }],
            seed: 1,
            election_timeout: Duration::from_secs(1),
            heartbeat_interval: Duration::from_millis(100),
            limits: EngineLimits {
                segment_bytes: 64 << 10,
                first_segment_bytes: 16 << 10,
                snapshot_log_bytes: 32 << 10,
                ..EngineLimits::default()
            },
            version: "3.7.0".to_owned(),
            auto_compaction: None,
            name: MEMBER.to_owned(),
            client_urls: Vec::new(),
            lives: Lives { now: Incarnation(1), before: Vec::new() },
            force_new_cluster: false,
            strict_reconfig_check: true,
            learners_max: 1,
        },
        directory: MEMBER.into(),
        log_directory: None,
        peer_connector: None,
        peer_counters: Arc::default(),
    };
    let limits = Limits {
        txn_ops_max: 128,
        message_bytes_max: 2 << 20,
        streams_max: 1000,
        keep_alive: KeepAlive {
            min_time: Duration::from_secs(5),
            interval: Some(Duration::from_secs(2)),
            timeout: Duration::from_secs(2),
        },
        election_timeout: Duration::from_secs(1),
        slow_request: Duration::from_secs(1),
    };
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    let (_stop, stopping) = tokio::sync::watch::channel(false);
    let ready = move |handle| {
        let metrics = Arc::new(Metrics::new(&Facts {
            version: "3.7.0".to_owned(),
            member: id.to_string(),
            quota_bytes: 0,
            runtime: "turmoil".to_owned(),
            peers: Arc::default(),
            level: MetricsLevel::Basic,
            features: FeatureGates::default(),
        }));
        let counters = Arc::new(Counters::default());
        let server = Context::<Simulated>::new(handle, limits, metrics, counters, stopping);
        Simulated::spawn(async move {
            while let Ok((stream, _)) = Simulated::accept(&listener).await {
                Simulated::spawn(accept::serve(server.clone(), Box::new(stream), Face::Clients));
            }
        });
    };
    let seat = driver::seats(core::num::NonZeroUsize::MIN).pop().expect("one seat");
    let fatal = Rc::new(|fatal| panic!("{fatal}"));
    driver::run::<Simulated>(settings, seat, ready, Rc::new(|_| {}), fatal).await?;
    Ok(())
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
            let key = format!("{number}/{done:03}");
            let value = vec![b'v'; 100 + done];
            let question = PutRequest {
                key: key.clone().into(),
                value: value.clone().into(),
                ..PutRequest::default()
            };
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
