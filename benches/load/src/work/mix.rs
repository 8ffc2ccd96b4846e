//! What a Kubernetes API server asks of its store: heartbeats of nodes, changes of pods, lists, reads, and watches.
//!
//! Changes are transactions that compare the revision they have seen, as the API server makes them. Of a hundred
//! operations, 70 renew a node's lease, 20 change a pod's status, 5 list 500 pods and 5 read one pod. Pods are spread
//! over namespaces, and each watcher sees one of those.

use cairn_engine::api::etcdserverpb::{RangeRequest, WatchCreateRequest};
use prost::Message as _;

use bytes::Bytes;

use super::txn::{Swap, Swaps};
use super::watch::{count_events, create, stamped};
use super::{Ask, Heard, Random, Share, Step, Work};
use crate::method::Method;
use crate::record::Record;
use crate::wire::{self, Fields};

/// How large the cluster is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cluster {
    pub(crate) nodes: u64,
    pub(crate) pods: u64,
    /// Bytes of a pod; a node's lease has 300.
    pub(crate) pod_bytes: usize,
    /// Watchers of each standing call.
    pub(crate) watchers: u64,
}

/// What a slot does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Renew(usize),
    Change(usize),
    List,
    Read,
}

impl Task {
    const fn kind(self) -> usize {
        match self {
            Self::Renew(_) => 0,
            Self::Change(_) => 1,
            Self::List => 2,
            Self::Read => 3,
        }
    }
}

/// The mix.
#[derive(Debug)]
pub(crate) struct Mix {
    cluster: Cluster,
    share: Share,
    random: Random,
    nodes: Swaps,
    pods: Swaps,
    /// What each slot does; `None`: nothing yet.
    tasks: Vec<Option<Task>>,
    /// What it compares, if it changes something.
    swapping: Vec<Option<Swap>>,
    made: u64,
}

impl Mix {
    pub(crate) fn new(cluster: Cluster, share: Share) -> Self {
        Self {
            cluster,
            share,
            random: Random::of(share),
            nodes: Swaps::new(cluster.nodes),
            pods: Swaps::new(cluster.pods),
            tasks: vec![None; share.slots],
            swapping: vec![None; share.slots],
            made: 0,
        }
    }

    /// One of the things of this thread: threads have their own, so that conflicts are rare, as they are there.
    fn one_of(&mut self, count: u64) -> usize {
        let (thread, threads) = (self.share.thread as u64, self.share.threads as u64);
        let number = self.random.below(count.div_ceil(threads)) * threads + thread;
        usize::try_from(number.min(count - 1)).unwrap_or(0)
    }

    fn task(&mut self) -> Task {
        match self.random.below(100) {
            0..70 => Task::Renew(self.one_of(self.cluster.nodes)),
            70..90 => Task::Change(self.one_of(self.cluster.pods)),
            90..95 => Task::List,
            _ => Task::Read,
        }
    }
}

/// The key of a pod.
pub(crate) fn pod(number: u64) -> Bytes {
    let namespace = number % NAMESPACES;
    Bytes::from(format!("{PODS}ns-{namespace:02}/pod-{number:07}"))
}

fn node(number: usize) -> Bytes {
    Bytes::from(format!("/registry/leases/kube-node-lease/node-{number:05}"))
}

impl Work for Mix {
    fn kinds(&self) -> &'static [&'static str] {
        &["node's lease", "pod's status", "list of 500 pods", "read of a pod", "event"]
    }

    fn ask(&mut self, slot: usize, due: u64, message: &mut Vec<u8>) -> Option<Ask> {
        let task = match self.tasks[slot] {
            Some(task) => task,
            None => self.task(),
        };
        self.tasks[slot] = Some(task);
        let pods = Bytes::from_static(PODS.as_bytes());
        let (method, written) = match task {
            Task::Renew(number) => {
                let value = stamped(due, NODE_BYTES);
                let (swap, request) = self.nodes.request(number, node(number), value);
                self.swapping[slot] = Some(swap);
                (Method::Txn, request.encode(message))
            }
            Task::Change(number) => {
                let value = stamped(due, self.cluster.pod_bytes);
                let (swap, request) = self.pods.request(number, pod(number as u64), value);
                self.swapping[slot] = Some(swap);
                (Method::Txn, request.encode(message))
            }
            Task::List => {
                let (range_end, limit) = (wire::end_of(&pods), LIST_ROWS);
                let request =
                    RangeRequest { key: pods, range_end, limit, ..RangeRequest::default() };
                (Method::Range, request.encode(message))
            }
            Task::Read => {
                let key = pod(self.random.below(self.cluster.pods));
                (Method::Range, RangeRequest { key, ..RangeRequest::default() }.encode(message))
            }
        };
        written.expect("a vector has room");
        Some(Ask { method, kind: task.kind() })
    }

    fn answer(&mut self, slot: usize, message: &[u8]) -> Step {
        let step = match (self.tasks[slot], self.swapping[slot]) {
            (Some(Task::Renew(_)), Some(swap)) => self.nodes.answer(swap, message),
            (Some(Task::Change(_)), Some(swap)) => self.pods.answer(swap, message),
            _ if wire::revision(message) > 0 => Step::More,
            _ => Step::Wrong("an answer without a revision"),
        };
        if step != Step::Again {
            self.tasks[slot] = None;
        }
        step
    }

    fn failed(&mut self, slot: usize) {
        self.tasks[slot] = None;
    }

    fn standing(&mut self, number: usize) -> (Method, Vec<Vec<u8>>) {
        let first = number as u64 * self.cluster.watchers;
        let watcher = |number: u64| {
            let prefix = format!("{PODS}ns-{:02}/", number % NAMESPACES);
            let (key, range_end) = (Bytes::from(prefix.clone()), wire::end_of(prefix.as_bytes()));
            create(WatchCreateRequest { key, range_end, ..WatchCreateRequest::default() })
        };
        (Method::Watch, (first..first + self.cluster.watchers).map(watcher).collect())
    }

    fn told(&mut self, heard: Heard<'_>, record: &mut Record) -> Result<(), &'static str> {
        if Fields::number(heard.message, 3) == 1 {
            self.made += 1;
        }
        count_events(heard, 4, record)?;
        Ok(())
    }

    fn stands(&self) -> bool {
        self.made == self.cluster.watchers * self.share.standing as u64
    }
}

/// What the keys of pods begin with.
const PODS: &str = "/registry/pods/";
/// Namespaces that pods are spread over.
const NAMESPACES: u64 = 50;
/// Rows of a list: what the API server asks for at a time.
const LIST_ROWS: i64 = 500;
/// Bytes of a node's lease.
const NODE_BYTES: usize = 300;
