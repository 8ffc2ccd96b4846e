//! The members of a cluster: processes on loopback.
//!
//! A member lives in a *slot*: a name, an address for clients, one for peers, and a folder. Whoever is removed and
//! replaced leaves the slot to its successor, which has the same addresses and a fresh folder for its data, so that
//! clients and watchers need not know who lives there.
//!
//! ```text
//! <folder>/<name>/log              of all members that lived in the slot
//! <folder>/<name>/data-<n>         of the n-th of them; kept, for whoever looks for a fault
//! ```

use core::net::SocketAddr;
use core::time::Duration;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use tokio::time::{Instant, sleep};

use super::network::Network;
use super::process::{Ended, Process};
use crate::Trouble;

/// What a cluster is to be.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The servers' binary.
    pub(crate) program: PathBuf,
    /// Where data and logs go.
    pub(crate) folder: PathBuf,
    /// How many members it begins with.
    pub(crate) members: usize,
    /// How many slots there are for later members.
    pub(crate) spares: usize,
    /// Whether peers reach each other through proxies.
    pub(crate) wiring: Wiring,
    /// Whether peers keep secret what they say.
    pub(crate) peer_tls: PeerTls,
    /// More flags for every member.
    pub(crate) arguments: Vec<String>,
}

/// How peers reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wiring {
    /// Through proxies of ours, which can cut and slow.
    Proxies,
    /// Directly.
    Direct,
}

/// Whether peers keep secret what they say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerTls {
    Off,
    /// With certificates that each member makes for itself.
    Auto,
}

impl PeerTls {
    const fn scheme(self) -> &'static str {
        match self {
            Self::Off => "http",
            Self::Auto => "https",
        }
    }
}

/// Members, running and not.
#[derive(Debug)]
pub(crate) struct Cluster {
    plan: Plan,
    slots: Vec<Slot>,
    network: Option<Network>,
    /// Of those that a joining member must be told.
    initial: String,
}

#[derive(Debug)]
struct Slot {
    name: String,
    client: SocketAddr,
    /// Where the process listens.
    peer: SocketAddr,
    /// Where its peers find it: its proxy, or the same.
    advertised: SocketAddr,
    /// How many members have lived here.
    generation: u32,
    process: Option<Process>,
}

impl Cluster {
    /// Members that are yet to start, on free ports. Must run within a `LocalSet` if there are proxies.
    pub(crate) fn new(plan: Plan) -> Result<Self, Trouble> {
        let mut ports = Ports::new();
        let mut slots = Vec::new();
        for number in 0..plan.members + plan.spares {
            let (client, peer) = (ports.free()?, ports.free()?);
            let advertised = match plan.wiring {
                Wiring::Proxies => ports.free()?,
                Wiring::Direct => peer,
            };
            let name = format!("m{number}");
            std::fs::create_dir_all(plan.folder.join(&name))?;
            slots.push(Slot { name, client, peer, advertised, generation: 0, process: None });
        }
        let network = match plan.wiring {
            Wiring::Proxies => {
                let routes = slots.iter().map(|slot| (slot.advertised, slot.peer));
                Some(Network::new(routes.collect())?)
            }
            Wiring::Direct => None,
        };
        let mut cluster = Self { plan, slots, network, initial: String::new() };
        cluster.initial = cluster.described(&Vec::from_iter(0..cluster.plan.members));
        Ok(cluster)
    }

    /// How many slots there are.
    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Where clients find the member in a slot.
    pub(crate) fn url(&self, slot: usize) -> String {
        format!("http://{}", self.slots[slot].client)
    }

    /// Where its peers find the member in a slot.
    pub(crate) fn peer_url(&self, slot: usize) -> String {
        format!("{}://{}", self.plan.peer_tls.scheme(), self.slots[slot].advertised)
    }

    /// Where the log of a slot is.
    pub(crate) fn log(&self, slot: usize) -> PathBuf {
        self.folder(slot).join("log")
    }

    /// Where all logs are.
    pub(crate) fn logs(&self) -> Vec<PathBuf> {
        (0..self.slots()).map(|slot| self.log(slot)).filter(|log| log.exists()).collect()
    }

    /// The network between the members, if there are proxies.
    pub(crate) fn network(&self) -> Option<&Network> {
        self.network.as_ref()
    }

    /// The process ids of the members that run.
    pub(crate) fn process(&self, slot: usize) -> Option<u32> {
        self.slots[slot].process.as_ref().map(Process::id)
    }

    /// Starts the first members.
    pub(crate) fn begin(&mut self) -> Result<(), Trouble> {
        for slot in 0..self.plan.members {
            self.launch(slot)?;
        }
        Ok(())
    }

    /// Starts the member in a slot, on the data that it has, without waiting for it.
    pub(crate) fn launch(&mut self, slot: usize) -> Result<(), Trouble> {
        let Slot { name, client, peer, advertised, generation, process } = &self.slots[slot];
        if process.is_some() {
            return Err(Trouble(format!("{name} runs already")));
        }
        let data = self.data(slot);
        let state = if *generation == 0 && slot < self.plan.members { "new" } else { "existing" };
        let scheme = self.plan.peer_tls.scheme();
        let mut arguments: Vec<String> = [
            ("--name", name.clone()),
            ("--data-dir", data.display().to_string()),
            ("--listen-client-urls", format!("http://{client}")),
            ("--advertise-client-urls", format!("http://{client}")),
            ("--listen-peer-urls", format!("{scheme}://{peer}")),
            ("--initial-advertise-peer-urls", format!("{scheme}://{advertised}")),
            ("--initial-cluster", self.initial.clone()),
            ("--initial-cluster-state", state.to_owned()),
            ("--initial-cluster-token", TOKEN.to_owned()),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect();
        if self.plan.peer_tls == PeerTls::Auto {
            arguments.push("--peer-auto-tls".to_owned());
        }
        arguments.extend(self.plan.arguments.iter().cloned());
        let process = Process::start(&self.plan.program, &arguments, &self.log(slot))?;
        if let Some(network) = &self.network {
            network.set_process(slot, Some(process.id()));
        }
        self.slots[slot].process = Some(process);
        Ok(())
    }

    /// Waits until the member in a slot accepts connections.
    pub(crate) async fn accepts(&mut self, slot: usize) -> Result<(), Trouble> {
        let begin = Instant::now();
        while TcpStream::connect(self.slots[slot].client).is_err() {
            if let Some(status) = self.ended(slot)? {
                return Err(Trouble(format!(
                    "{} ended with {status}: see its log",
                    self.slots[slot].name
                )));
            }
            if begin.elapsed() > START_MAX {
                return Err(Trouble(format!("the server does not serve after {START_MAX:?}")));
            }
            sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// How the process in a slot ended, if it has without our doing.
    pub(crate) fn ended(
        &mut self,
        slot: usize,
    ) -> Result<Option<std::process::ExitStatus>, Trouble> {
        let Some(process) = &mut self.slots[slot].process else { return Ok(None) };
        let status = process.ended()?;
        if status.is_some() {
            self.slots[slot].process = None;
        }
        Ok(status)
    }

    /// Kills the process in a slot as `kill -9` does, if there is one.
    pub(crate) fn kill(&mut self, slot: usize) -> Result<(), Trouble> {
        match self.taken(slot) {
            Some(process) => process.kill().map_err(|trouble| self.named(slot, &trouble)),
            None => Ok(()),
        }
    }

    /// Asks the process in a slot to end, and waits for it.
    pub(crate) async fn terminate(&mut self, slot: usize) -> Result<Ended, Trouble> {
        match self.taken(slot) {
            Some(process) => {
                process.terminate().await.map_err(|trouble| self.named(slot, &trouble))
            }
            None => Ok(Ended::Obeyed),
        }
    }

    /// Stops a process where it is.
    pub(crate) fn pause(&mut self, slot: usize) -> Result<(), Trouble> {
        self.slots[slot].process.as_mut().map_or(Ok(()), Process::pause)
    }

    /// Continues a process that was paused.
    pub(crate) fn proceed(&mut self, slot: usize) -> Result<(), Trouble> {
        self.slots[slot].process.as_mut().map_or(Ok(()), Process::proceed)
    }

    /// Gives the slot to a new member with a fresh folder, which joins those in `others`. It must be told to the
    /// cluster, and started.
    pub(crate) fn succeed(&mut self, slot: usize, others: &[usize]) {
        assert!(self.slots[slot].process.is_none(), "the one before is gone");
        self.slots[slot].generation += 1;
        let mut all = others.to_vec();
        all.push(slot);
        self.initial = self.described(&all);
    }

    /// Where the data of the member in a slot is.
    pub(crate) fn data(&self, slot: usize) -> PathBuf {
        self.folder(slot).join(format!("data-{}", self.slots[slot].generation))
    }

    fn folder(&self, slot: usize) -> PathBuf {
        self.plan.folder.join(&self.slots[slot].name)
    }

    fn described(&self, slots: &[usize]) -> String {
        let pairs = slots.iter().map(|slot| {
            let Slot { name, advertised, .. } = &self.slots[*slot];
            format!("{name}={}://{advertised}", self.plan.peer_tls.scheme())
        });
        Vec::from_iter(pairs).join(",")
    }

    fn taken(&mut self, slot: usize) -> Option<Process> {
        if let Some(network) = &self.network {
            network.set_process(slot, None);
        }
        self.slots[slot].process.take()
    }

    fn named(&self, slot: usize, trouble: &Trouble) -> Trouble {
        Trouble(format!("{}: {trouble}", self.slots[slot].name))
    }
}

/// How long a start may take, the reading of the log included.
const START_MAX: Duration = Duration::from_secs(120);
const TOKEN: &str = "cairn-jepsen";

/// Looks for free ports below those that the kernel gives to outgoing connections: a member that is away for a
/// while must find its port free when it comes back.
#[derive(Debug)]
struct Ports {
    next: u16,
}

impl Ports {
    fn new() -> Self {
        // Two tools at once begin at different places, most of the time.
        let place = u16::try_from(std::process::id() % 1000).expect("less than a thousand");
        Self { next: PORT_MIN + place * 20 }
    }

    fn free(&mut self) -> Result<SocketAddr, Trouble> {
        for _ in 0..TRIES_MAX {
            let address = SocketAddr::from(([127, 0, 0, 1], self.next));
            self.next = if self.next < PORT_MAX { self.next + 1 } else { PORT_MIN };
            if TcpListener::bind(address).is_ok() {
                return Ok(address);
            }
        }
        Err(Trouble("no free port".to_owned()))
    }
}

const PORT_MIN: u16 = 10_000;
const PORT_MAX: u16 = 31_000;
const TRIES_MAX: usize = 1000;

/// Fails if a folder exists that has something in it.
pub(crate) fn require_empty(folder: &Path) -> Result<(), Trouble> {
    match std::fs::read_dir(folder).map(|mut entries| entries.next().is_some()) {
        Ok(true) => Err(Trouble(format!("{} is not empty", folder.display()))),
        Ok(false) | Err(_) => Ok(()),
    }
}
