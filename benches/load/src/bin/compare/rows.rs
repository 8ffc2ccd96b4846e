//! The loads, and what of each is compared with which goal.

use serde_json::Value;

/// A load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// What `cairn bench` is told.
    pub(crate) words: &'static str,
    /// At half of what etcd can put.
    pub(crate) is_at_half_rate: bool,
    /// Members for which it is.
    members: &'static [usize],
    pub(crate) figures: &'static [Figure],
}

/// A figure of a load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure {
    pub(crate) what: What,
    /// How many times better than etcd, with one member.
    pub(crate) goal: Option<f64>,
}

/// Which figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// Operations in a second, of the first kind.
    Rate,
    P50,
    P99,
    P999,
    /// CPU time of all members for each operation.
    Cpu,
    /// Memory that the standing calls took.
    Memory,
    /// Milliseconds to the first put.
    Start,
    /// Percent of a core.
    IdleCpu,
    IdleMemory,
}

impl Row {
    pub(crate) fn is_for(&self, members: usize, only: &str) -> bool {
        !self.words.is_empty() && self.members.contains(&members) && self.name.contains(only)
    }
}

impl What {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Rate => "per second",
            Self::P50 => "p50, us",
            Self::P99 => "p99, us",
            Self::P999 => "p99.9, us",
            Self::Cpu => "server CPU, us each",
            Self::Memory => "memory added, MB",
            Self::Start => "ms",
            Self::IdleCpu => "% of a core",
            Self::IdleMemory => "resident, MB",
        }
    }

    pub(crate) const fn is_better_high(self) -> bool {
        matches!(self, Self::Rate)
    }

    /// The figure of one run.
    pub(crate) fn of(self, run: &Value) -> Option<f64> {
        let kind = &run["kinds"][0];
        let memory = |when: &str| run["server"]["memory_bytes"][when]["resident"].as_f64();
        match self {
            Self::Rate => kind["per_second"].as_f64(),
            Self::P50 => kind["latency_us"]["p50"].as_f64(),
            Self::P99 => kind["latency_us"]["p99"].as_f64(),
            Self::P999 => kind["latency_us"]["p99.9"].as_f64(),
            Self::Cpu => run["server"]["cpu_us_per_operation"].as_f64(),
            Self::Memory => Some((memory("most")? - memory("before")?) / 1e6),
            Self::Start => run["milliseconds"].as_f64(),
            Self::IdleCpu => run["cpu_percent"].as_f64(),
            Self::IdleMemory => Some(run["resident_bytes"].as_f64()? / 1e6),
        }
    }
}

const fn figure(what: What, goal: f64) -> Figure {
    Figure { what, goal: Some(goal) }
}

const fn plain(what: What) -> Figure {
    Figure { what, goal: None }
}

const fn row(
    name: &'static str,
    words: &'static str,
    members: &'static [usize],
    figures: &'static [Figure],
) -> Row {
    Row { name, words, is_at_half_rate: false, members, figures }
}

/// The load whose rate the half is of.
pub(crate) const ALL_OUT: &str = "put, 100 x 10";

const ALL: &[usize] = &[1, 2, 3, 4, 5, 6, 7, 8, 9];

/// All loads, in the order in which they come. Names say connections x operations in flight.
pub(crate) const ROWS: &[Row] = &[
    row("start", "", ALL, &[figure(What::Start, 20.0)]),
    row("idle", "", ALL, &[figure(What::IdleCpu, 10.0), plain(What::IdleMemory)]),
    row(
        "10,000 idle watchers",
        "watch --what idle --watch-connections 1000 --streams 10 --watchers 1 --seconds 2",
        &[1],
        &[figure(What::Memory, 15.0)],
    ),
    row(
        "put, 1 x 1",
        "put --connections 1 --in-flight 1",
        ALL,
        &[figure(What::Rate, 1.5), plain(What::P99)],
    ),
    row("put, 10 x 10", "put --connections 10 --in-flight 10", &[1], &[figure(What::Rate, 6.0)]),
    row(
        ALL_OUT,
        "put --connections 100 --in-flight 10",
        ALL,
        &[figure(What::Rate, 8.0), plain(What::P99), figure(What::Cpu, 10.0)],
    ),
    row("put, 1000 x 1", "put --connections 1000 --in-flight 1", &[1], &[figure(What::Rate, 4.5)]),
    Row {
        name: "put, 100 x 10, at half of etcd's most",
        words: "put --connections 100 --in-flight 10",
        is_at_half_rate: true,
        members: ALL,
        figures: &[
            plain(What::P50),
            figure(What::P99, 15.0),
            figure(What::P999, 20.0),
            plain(What::Cpu),
        ],
    },
    row("read, 1 x 1", "range --connections 1 --in-flight 1", ALL, &[figure(What::Rate, 3.0)]),
    row(
        "read, 100 x 10",
        "range --connections 100 --in-flight 10",
        ALL,
        &[figure(What::Rate, 4.0), plain(What::P99), figure(What::Cpu, 6.0)],
    ),
    row(
        "serializable read, 100 x 10",
        "range --serializable --connections 100 --in-flight 10",
        ALL,
        &[figure(What::Rate, 4.5)],
    ),
    row(
        "list of 10,000 keys, 1 x 1",
        "range --what list --keys 10000 --connections 1 --in-flight 1",
        &[1],
        &[figure(What::Rate, 4.0), figure(What::Cpu, 6.0)],
    ),
    row(
        "first 100 of 100,000 keys, 1 x 1",
        "range --what limit --connections 1 --in-flight 1",
        &[1],
        &[figure(What::Rate, 100.0)],
    ),
    row(
        "count of 100,000 keys, 1 x 1",
        "range --what count --connections 1 --in-flight 1",
        &[1],
        &[figure(What::Rate, 100.0)],
    ),
    row(
        "transaction of 16 puts, 100 x 10",
        "txn --operations 16 --connections 100 --in-flight 10",
        &[1],
        &[figure(What::Rate, 9.0)],
    ),
    row(
        "compare and swap of 100 keys, 10 x 10",
        "txn --what swap --keys 100 --connections 10 --in-flight 10",
        &[1],
        &[figure(What::Rate, 5.5)],
    ),
    row(
        "events to 1000 watchers of a key",
        "watch --watch-connections 10 --streams 10 --watchers 10 --connections 1 --in-flight 8",
        &[1],
        &[figure(What::Rate, 10.0), figure(What::Cpu, 20.0)],
    ),
    row(
        "event to 100 watchers, 100 puts/s",
        "watch --what latency --watch-connections 10 --streams 1 --watchers 10 --connections 1",
        &[1],
        &[figure(What::P50, 2.0), figure(What::P99, 5.0)],
    ),
    row(
        "watcher of the past, 10,000 events, 10 x 1",
        "watch --what catch-up --connections 10 --in-flight 1",
        &[1],
        &[figure(What::Rate, 20.0)],
    ),
    row(
        "lease grant, 100 x 10",
        "lease --what grant --connections 100 --in-flight 10",
        &[1],
        &[figure(What::Rate, 8.0)],
    ),
    row(
        "keep-alive, 100 x 10",
        "lease --what keep-alive --connections 100 --in-flight 10",
        &[1],
        &[figure(What::Rate, 6.0)],
    ),
    row(
        "connection storm, 100 at once",
        "storm --connections 100",
        &[1],
        &[plain(What::Rate), plain(What::Cpu)],
    ),
    row(
        "empty call, 100 x 10",
        "empty --connections 100 --in-flight 10",
        &[1],
        &[plain(What::Rate), plain(What::Cpu)],
    ),
    row(
        "Kubernetes, 10 x 10",
        "kubernetes",
        &[1, 3],
        &[plain(What::Rate), plain(What::P99), plain(What::Cpu)],
    ),
];
