//! A member as `serve` starts it, on one core of a simulated host.

use core::cell::Cell;
use core::num::NonZeroUsize;
use core::time::Duration;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use cairn_engine::Config;
use cairn_engine::config::{Limits as EngineLimits, Member, Storage};
use cairn_engine::event::Event;
use cairn_engine::ids::{ClusterId, MemberId};
use cairn_engine::peer::Incarnation;
use cairn_io::driver::{self, Notice, Settings};
use cairn_io::pulse::Counters;
use cairn_io::runtime::Runtime;
use cairn_server::accept::{self, Face};
use cairn_server::config::gates::FeatureGates;
use cairn_server::config::{KeepAlive, MetricsLevel};
use cairn_server::context::{Context, Limits};
use cairn_server::metrics::{Facts, Metrics};
use turmoil::net::TcpListener;

use crate::client::Result;
use crate::runtime::Simulated;
use crate::{PEER_PORT, PORT, disk};

/// A member of a cluster whose hosts are called like this.
pub(crate) struct Place {
    /// Its host, and all hosts, in the order of their ids from one on.
    pub(crate) host: &'static str,
    pub(crate) hosts: &'static [&'static str],
    pub(crate) election_timeout: Duration,
    /// Entries that are kept in memory for others, in bytes: who lacks more gets a snapshot.
    pub(crate) log_memory_bytes: usize,
    /// Counts the snapshots that it was brought.
    pub(crate) installed: Rc<Cell<usize>>,
}

/// Runs the member, in a life of this name.
pub(crate) async fn run(place: Place, life: Incarnation) -> Result<()> {
    let (settings, id) = (settings(&place, life), id_of(&place, place.host));
    let limits = Limits {
        txn_ops_max: 128,
        message_bytes_max: 2 << 20,
        streams_max: 1000,
        keep_alive: KeepAlive {
            min_time: Duration::from_secs(5),
            interval: Some(Duration::from_secs(2)),
            timeout: Duration::from_secs(2),
        },
        election_timeout: place.election_timeout,
        slow_request: Duration::from_secs(1),
        connections_max: 1000,
    };
    let clients = TcpListener::bind(("0.0.0.0", PORT)).await?;
    let peers = TcpListener::bind(("0.0.0.0", PEER_PORT)).await?;
    let (_stop, stopping) = tokio::sync::watch::channel(false);
    let ready = move |handle| {
        let metrics = Arc::new(Metrics::new(&Facts {
            version: "3.7.0".to_owned(),
            member: id.to_string(),
            quota_bytes: 0,
            runtime: "turmoil".to_owned(),
            level: MetricsLevel::Basic,
            features: FeatureGates::default(),
            peers: Arc::default(),
        }));
        let counters = Arc::new(Counters::default());
        let server = Context::<Simulated>::new(handle, limits, metrics, counters, stopping);
        for (listener, face) in [(clients, Face::Clients), (peers, Face::Peers)] {
            let server = server.clone();
            Simulated::spawn(async move {
                while let Ok((stream, _)) = Simulated::accept(&listener).await {
                    Simulated::spawn(accept::serve(server.clone(), Box::new(stream), face, None));
                }
            });
        }
    };
    let seat = driver::seats(NonZeroUsize::MIN).pop().expect("one seat");
    let fatal = Rc::new(|fatal| panic!("{fatal}"));
    let observer = Rc::new(move |notice| {
        if let Notice::Event(Event::SnapshotInstalled { .. }) = notice {
            place.installed.set(place.installed.get() + 1);
        }
    });
    driver::run::<Simulated>(settings, seat, ready, observer, fatal).await?;
    Ok(())
}

fn settings(place: &Place, life: Incarnation) -> Settings {
    let directory = PathBuf::from(place.host);
    let member = |host: &&'static str| Member {
        id: id_of(place, host),
        name: (*host).to_owned(),
        peer_urls: vec![format!("http://{}:{PEER_PORT}", turmoil::lookup(*host))],
        client_urls: Vec::new(),
    };
    Settings {
        engine: Config {
            cluster: ClusterId(1),
            id: id_of(place, place.host),
            members: place.hosts.iter().map(member).collect(),
            seed: life.0,
            election_timeout: place.election_timeout,
            heartbeat_interval: place.election_timeout / 10,
            limits: EngineLimits {
                segment_bytes: 64 << 10,
                first_segment_bytes: 16 << 10,
                snapshot_log_bytes: 32 << 10,
                log_memory_bytes: place.log_memory_bytes,
                log_needed_bytes_max: place.log_memory_bytes,
                ..EngineLimits::default()
            },
            version: "3.7.0".to_owned(),
            storage: Storage::default(),
            auto_compaction: None,
            name: place.host.to_owned(),
            client_urls: Vec::new(),
            lives: disk::begin_life(&directory, life),
            force_new_cluster: false,
            strict_reconfig_check: true,
            learners_max: 1,
        },
        directory,
        log_directory: None,
        peer_connector: None,
        peer_counters: Arc::default(),
    }
}

fn id_of(place: &Place, host: &str) -> MemberId {
    let place = place.hosts.iter().position(|name| *name == host).expect("one of the hosts");
    MemberId(u64::try_from(place + 1).expect("a few"))
}
