//! From a command line to plans, and from what came of them to what is shown.

use core::sync::atomic::AtomicU64;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use cairn_engine::api::etcdserverpb::{
    AuthenticateRequest, AuthenticateResponse, DeleteRangeRequest, PutRequest,
};
use prost::Message as _;

use crate::clock::{Clock, SECOND};
use crate::drive::{self, Outcome};
use crate::method::{self, Method};
use crate::options::{Common, Options, Workload};
use crate::pace::Extent;
use crate::progress::Progress;
use crate::result::Run;
use crate::target::{Files, Target};
use crate::work::kv::{Deletes, Empty, Keys, Order, Puts};
use crate::work::lease::{self, Doomed, Expiry, Grants, KeepAlives, Leases};
use crate::work::mix::{self, Cluster, Mix};
use crate::work::range::Ranges;
use crate::work::txn::{Sizes, Txns};
use crate::work::watch::{self, CatchUp, FanOut, stamped};
use crate::work::{Ask, Shape, Share, Step, Work};
use crate::worker::{Plan, Server};
use crate::{html, probe, wire};

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All operations succeeded.
    Well,
    /// Some did not; what is shown says which.
    Errors,
}

/// Runs what a command line asks for, and writes what came of it.
///
/// # Errors
/// A sentence, if it could not be done at all.
pub fn execute(options: &Options, out: &mut impl Write) -> Result<Verdict, String> {
    let told = |error: std::io::Error| format!("nobody reads what is told: {error}");
    let common = &options.common;
    if let Workload::Probe { directory } = &options.workload {
        let probes = probe::run(directory)?;
        let text = if common.json { probe::json(&probes) } else { probe::table(&probes) };
        out.write_all(text.as_bytes()).map_err(told)?;
        return Ok(Verdict::Well);
    }
    if let Workload::Report { files } = &options.workload {
        let runs = files.iter().map(|file| Run::read(file)).collect::<Result<Vec<_>, _>>()?;
        let page = common.report.as_deref();
        let page = page.ok_or("a report needs --report FILE.html to go to")?;
        write_page(page, &runs)?;
        return Ok(Verdict::Well);
    }
    let bench = Bench::new(common, &options.files)?;
    let outcome = bench.run(&options.workload)?;
    let run = Run::of(&bench.describe(&options.workload), common, &outcome);
    let text = if common.json { run.json() } else { run.table() };
    out.write_all(text.as_bytes()).map_err(told)?;
    let is_well = run.errors() == 0;
    if let Some(page) = &common.report {
        write_page(page, &[run])?;
    }
    Ok(if is_well { Verdict::Well } else { Verdict::Errors })
}

fn write_page(path: &Path, runs: &[Run]) -> Result<(), String> {
    fs::write(path, html::page(runs)).map_err(|error| format!("{}: {error}", path.display()))
}

/// Who is asked, and how.
struct Bench<'a> {
    common: &'a Common,
    plan: Plan,
}

type Make = Box<dyn Fn(Share) -> Box<dyn Work> + Sync>;

impl<'a> Bench<'a> {
    fn new(common: &'a Common, files: &Files) -> Result<Self, String> {
        let targets = common.endpoints.iter().map(|endpoint| Target::find(endpoint, files));
        let targets = targets.collect::<Result<Vec<_>, _>>()?;
        let servers = |token: Option<&str>| {
            let server = |target: &Target| {
                let heads = method::heads(&target.authority, target.tls.is_some(), token);
                Server { target: target.clone(), heads }
            };
            targets.iter().map(server).collect::<Vec<_>>()
        };
        let plan = Plan {
            servers: servers(None),
            threads: common.threads as usize,
            connections: common.connections as usize,
            in_flight: common.in_flight as usize,
            standing: (0, 0),
            rate: common.rate,
            extent: match common.total {
                Some(total) => Extent::Total(total),
                None => Extent::Time(common.seconds * SECOND),
            },
            warm_up: common.warm_up * SECOND,
            patience: 10 * SECOND,
            seed: common.seed,
            clock: Clock::start(),
        };
        let mut bench = Self { common, plan };
        if let Some(user) = &common.user {
            let token = bench.authenticate(user)?;
            bench.plan.servers = servers(Some(&token));
        }
        Ok(bench)
    }

    fn authenticate(&self, user: &str) -> Result<String, String> {
        let (name, password) = user.split_once(':').ok_or("--user needs a name:password")?;
        let (name, password) = (name.to_owned(), password.to_owned());
        let request = AuthenticateRequest { name, password };
        let answer = self.call(Method::Authenticate, &request.encode_to_vec())?;
        let answer = AuthenticateResponse::decode(&*answer).map_err(|error| error.to_string())?;
        Ok(answer.token)
    }

    fn call(&self, method: Method, message: &[u8]) -> Result<Vec<u8>, String> {
        drive::call(&self.plan, &self.plan.servers[0], method, message)
    }

    /// What a run is called in tables.
    fn describe(&self, workload: &Workload) -> String {
        let what = match workload {
            Workload::Put => "put".to_owned(),
            Workload::Range { what, .. } => format!("range {}", named(*what)),
            Workload::Txn { what, .. } => format!("txn {}", named(*what)),
            Workload::Delete => "delete".to_owned(),
            Workload::Lease { what, .. } => format!("lease {}", named(*what)),
            Workload::Watch { what, .. } => format!("watch {}", named(*what)),
            Workload::Kubernetes { .. } => "kubernetes".to_owned(),
            Workload::Storm => "storm".to_owned(),
            Workload::Empty => "empty".to_owned(),
            Workload::Probe { .. } => "probe".to_owned(),
            Workload::Report { .. } => "report".to_owned(),
        };
        let Plan { connections, in_flight, .. } = self.plan;
        let pace = match self.plan.rate {
            Some(rate) => format!(", {rate}/s"),
            None => String::new(),
        };
        format!("{what}, {connections} x {in_flight}{pace}")
    }

    fn keys(&self, prefix: &str) -> Keys {
        let common = self.common;
        Keys {
            prefix: common.prefix.clone().unwrap_or_else(|| prefix.to_owned()),
            bytes: common.key_bytes as usize,
            count: common.keys,
            value: Bytes::from(vec![b'x'; common.value_bytes as usize]),
        }
    }

    /// Deletes what a prefix has; the revision of that.
    fn clear(&self, prefix: &str) -> Result<i64, String> {
        let (key, range_end) = (Bytes::from(prefix.to_owned()), wire::end_of(prefix.as_bytes()));
        let request = DeleteRangeRequest { key, range_end, prev_kv: false };
        let answer = self.call(Method::DeleteRange, &request.encode_to_vec())?;
        Ok(wire::revision(&answer))
    }

    /// Makes sure that all keys are there, and no others of the same prefix; the revision before the first.
    fn populate(&self, keys: &Keys) -> Result<i64, String> {
        if self.common.no_populate {
            return Ok(0);
        }
        let before = self.clear(&keys.prefix)?;
        let keys = keys.clone();
        let count = keys.count;
        self.first(
            "writing keys",
            count,
            Box::new(move |share| Box::new(Puts::new(keys.clone(), Order::Once, share))),
        )?;
        Ok(before)
    }

    /// Does what must be done first, as fast as possible, each of `count` things once.
    fn first(&self, name: &str, count: u64, make: Make) -> Result<(), String> {
        let plan = Plan {
            connections: 4.max(self.plan.threads),
            in_flight: 64,
            rate: None,
            extent: Extent::Total(count),
            warm_up: 0,
            standing: (0, 0),
            ..self.plan.clone()
        };
        let progress = Progress::new(name, plan.extent, 0, self.common.quiet);
        let outcome = drive::run(&plan, &[], &progress, &*make)?;
        match outcome.record.errors.first_key_value() {
            None => Ok(()),
            Some((error, times)) => Err(format!("{name}: {error} ({times} times)")),
        }
    }

    fn measure(&self, plan: &Plan, name: &str, make: &Make) -> Result<Outcome, String> {
        let mut plan = plan.clone();
        let most = plan.connections.max(plan.standing.0).max(1);
        plan.threads = plan.threads.min(most);
        let progress = Progress::new(name, plan.extent, plan.warm_up, self.common.quiet);
        drive::run(&plan, &self.common.server_pid, &progress, &**make)
    }

    fn run(&self, workload: &Workload) -> Result<Outcome, String> {
        let mut plan = self.plan.clone();
        if plan.connections == 0 && !matches!(workload, Workload::Watch { .. }) {
            return Err("--connections 0 makes no load".to_owned());
        }
        let make: Make = match workload {
            Workload::Put => {
                let keys = self.keys("k");
                let order = if self.common.sequential { Order::Sequential } else { Order::Random };
                Box::new(move |share| Box::new(Puts::new(keys.clone(), order, share)))
            }
            Workload::Range { what, limit, serializable } => {
                let (what, limit, serializable) = (*what, *limit, *serializable);
                let keys = self.keys("r");
                self.populate(&keys)?;
                Box::new(move |share| {
                    let ranges = Ranges::new(what, keys.clone(), limit, share);
                    Box::new(ranges.serializable(serializable))
                })
            }
            Workload::Txn { what, operations, reads, limit } => {
                let (what, keys) = (*what, self.keys("t"));
                let sizes = Sizes { operations: *operations, reads: *reads, limit: *limit };
                if sizes.operations > keys.count {
                    return Err("a transaction cannot put a key twice: more --keys".to_owned());
                }
                self.populate(&keys)?;
                Box::new(move |share| Box::new(Txns::new(what, keys.clone(), sizes, share)))
            }
            Workload::Delete => {
                let mut keys = self.keys("d");
                // Each once, so there must be enough for the warm-up too.
                let seconds = self.common.seconds + self.common.warm_up;
                if let Some(rate) = plan.rate {
                    keys.count = keys.count.max(rate * seconds);
                }
                self.populate(&keys)?;
                Box::new(move |share| Box::new(Deletes::new(keys.clone(), share)))
            }
            Workload::Lease { what, leases, ttl } => {
                let first = i64::try_from(getrandom::u64().map_err(|e| e.to_string())? >> 8);
                let first = first.unwrap_or(1).max(1);
                let leases = Leases { first, count: *leases, ttl: *ttl };
                match what {
                    lease::What::Expiry => return self.expiry(plan, leases),
                    lease::What::Grant => Box::new(move |_| Box::new(Grants::unnamed(leases.ttl))),
                    lease::What::KeepAlive => {
                        let grants: Make =
                            Box::new(move |share| Box::new(Grants::of(leases, share)));
                        self.first("granting leases", leases.count, grants)?;
                        Box::new(move |share| Box::new(KeepAlives::new(leases, share)))
                    }
                }
            }
            Workload::Watch {
                what,
                watch_connections,
                streams,
                watchers,
                watched_keys,
                events,
            } => {
                let (watchers, events) = (*watchers, *events);
                let mut keys = self.keys("w");
                plan.standing = (*watch_connections as usize, *streams as usize);
                keys.count = *watched_keys;
                match what {
                    watch::What::CatchUp => {
                        plan.standing = (0, 0);
                        keys.count = events;
                        let from = self.populate(&keys)? + 1;
                        Box::new(move |share| {
                            Box::new(CatchUp::new(keys.clone(), events, from, share))
                        })
                    }
                    watch::What::Idle | watch::What::FanOut | watch::What::Latency => {
                        if *what == watch::What::Idle {
                            plan.connections = 0;
                        }
                        if *what == watch::What::Latency {
                            plan.rate = plan.rate.or(Some(100));
                        }
                        let puts: Arc<[AtomicU64]> =
                            (0..keys.count).map(|_| AtomicU64::new(0)).collect();
                        Box::new(move |share| {
                            Box::new(FanOut::new(keys.clone(), watchers, Arc::clone(&puts), share))
                        })
                    }
                }
            }
            Workload::Kubernetes { nodes, pods, watchers } => {
                let connections = (*watchers).min(10);
                plan.standing = (connections as usize, usize::from(connections > 0));
                let cluster = Cluster {
                    nodes: *nodes,
                    pods: *pods,
                    pod_bytes: (self.common.value_bytes as usize).max(8),
                    watchers: watchers.div_ceil(connections.max(1)),
                };
                self.clear("/registry/")?;
                self.first(
                    "writing pods",
                    cluster.pods,
                    Box::new(move |share| {
                        Box::new(Pods { cluster, next: share.thread as u64, share })
                    }),
                )?;
                Box::new(move |share| Box::new(Mix::new(cluster, share)))
            }
            Workload::Storm => {
                plan.in_flight = 1;
                Box::new(|_| Box::new(Empty(Shape::Connections)))
            }
            Workload::Empty => Box::new(|_| Box::new(Empty(Shape::Calls))),
            Workload::Probe { .. } | Workload::Report { .. } => {
                return Err("that makes no load".to_owned());
            }
        };
        self.measure(&plan, &self.describe(workload), &make)
    }

    /// Many leases that end at one time.
    fn expiry(&self, plan: Plan, leases: Leases) -> Result<Outcome, String> {
        self.clear(lease::DOOMED)?;
        let clock = plan.clock;
        let end = clock.now() + leases.ttl.unsigned_abs() * SECOND;
        self.first(
            "leases with keys",
            leases.count,
            Box::new(move |share| Box::new(Doomed::new(leases, end, share))),
        )?;
        if clock.now() + SECOND > end {
            return Err(
                "the leases end before all are there: a longer --ttl, or fewer --leases".to_owned()
            );
        }
        let plan = Plan {
            threads: 1,
            connections: 1,
            in_flight: 1,
            standing: (1, 1),
            rate: None,
            extent: Extent::Time(end.saturating_sub(clock.now()) + self.common.seconds * SECOND),
            warm_up: 0,
            patience: end.saturating_sub(clock.now()) + self.common.seconds * SECOND,
            ..plan
        };
        let make: Make = Box::new(move |share| Box::new(Expiry::new(leases.count, end, share)));
        let mut outcome = self.measure(&plan, "leases end", &make)?;
        // What counts is the time from their end to the last.
        outcome.elapsed = outcome.record.last.saturating_sub(end).max(1);
        Ok(outcome)
    }
}

fn named(what: impl clap::ValueEnum) -> String {
    what.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// Writes the pods of a cluster, each once.
#[derive(Debug)]
struct Pods {
    cluster: Cluster,
    share: Share,
    next: u64,
}

impl Work for Pods {
    fn kinds(&self) -> &'static [&'static str] {
        &["pod"]
    }

    fn ask(&mut self, _slot: usize, due: u64, message: &mut Vec<u8>) -> Option<Ask> {
        let number = self.next;
        self.next += self.share.threads as u64;
        let value = stamped(due, self.cluster.pod_bytes);
        let request = PutRequest { key: mix::pod(number), value, ..PutRequest::default() };
        request.encode(message).expect("a vector has room");
        (number < self.cluster.pods).then_some(Ask { method: Method::Put, kind: 0 })
    }

    fn answer(&mut self, _slot: usize, _message: &[u8]) -> Step {
        Step::More
    }
}
