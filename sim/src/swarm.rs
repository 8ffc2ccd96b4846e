//! What a run is made of, drawn from its seed.
//!
//! Each feature is often left out altogether: a run without compactions goes where a run with them never gets, and
//! limits that are tiny in one run and huge in the next do more than repetition (Groce et al., "Swarm Testing",
//! ISSTA 2012).

use core::time::Duration;

use cairn_engine::auto_compact::AutoCompaction;
use cairn_engine::config::{Limits, Lives, Member, Storage};
use cairn_engine::{ClusterId, Config, MemberId};

use crate::network::Quality;
use crate::random::Random;
use crate::world::Delays;

mod settings;

/// A run, before it begins.
#[derive(Clone, Debug)]
pub struct Swarm {
    /// How many members there are at first.
    pub members: u64,
    /// Where they keep their state.
    pub storage: Storage,
    /// How often the operator changes the members, on average; zero: never.
    pub operate_every_ns: u64,
    /// Whether a change of members is refused that endangers the quorum.
    pub strict_reconfig_check: bool,
    /// Cores of each member.
    pub shards: u16,
    /// How long faults and work go on.
    pub span_ns: u64,
    /// How long things take.
    pub delays: Delays,
    /// How good the network is while it is bad.
    pub network: Quality,
    /// Sizes and counts.
    pub limits: Limits,
    /// A follower campaigns after this.
    pub election_timeout: Duration,
    /// Compaction without being asked.
    pub auto_compaction: Option<AutoCompaction>,
    /// How often a fault happens, on average; zero: never.
    pub fault_every_ns: u64,
    /// How likely each fault is, against the others.
    pub faults: Vec<(Fault, u64)>,
    /// Largest drift of a clock, in millionths.
    pub drift_ppm_max: u64,
    /// How often many leases are granted at once, that end together, on average; zero: never.
    pub storm_every_ns: u64,
    /// How often somebody makes a backup, on average; zero: never.
    pub backup_every_ns: u64,
    /// Whether those who watch are several users.
    pub watch_users: bool,
    /// Whether members start with other versions, and operators ask for downgrades.
    pub versions: bool,
    /// One hand-over of leadership in so many is met by a fault; zero: none.
    pub hunt_one_in: u64,
    /// What clients do.
    pub work: Work,
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A member crashes between two steps.
    Crash,
    /// A member crashes in the middle of what it does.
    CrashAmid,
    /// All members crash.
    CrashAll,
    /// A process stands still.
    Pause,
    /// A clock jumps ahead.
    Jump,
    /// A disk takes long.
    Stall,
    /// A disk fails to write.
    WriteError,
    /// A member crashes, and a bit rots where recovery promises to notice.
    Rot,
    /// The newest snapshot rots while its member is down.
    SnapshotRot,
    /// A group of members cannot reach the others.
    Partition,
    /// One link fails, in one direction.
    Cut,
    /// The network becomes bad, or good again.
    Network,
    /// A member crashes, and its disk is replaced by an empty one.
    Wipe,
    /// Somebody copies a disk.
    Image,
    /// A member crashes, and its disk is replaced by a copy that was made earlier.
    RollBack,
    /// Two members crash, and each is given the other's disk.
    Swap,
    /// A link holds everything back for a while, in both directions; then it arrives all at once.
    Clog,
    /// A link carries little, in both directions.
    Throttle,
    /// A member crashes, and starts with other limits.
    Reconfigure,
    /// A member crashes, and another version of it starts.
    Reversion,
}

impl Fault {
    /// Each of them.
    pub const ALL: [Self; 20] = [
        Self::Crash,
        Self::CrashAmid,
        Self::CrashAll,
        Self::Pause,
        Self::Jump,
        Self::Stall,
        Self::WriteError,
        Self::Rot,
        Self::SnapshotRot,
        Self::Partition,
        Self::Cut,
        Self::Network,
        Self::Wipe,
        Self::Image,
        Self::RollBack,
        Self::Swap,
        Self::Clog,
        Self::Throttle,
        Self::Reconfigure,
        Self::Reversion,
    ];
}

/// What clients do.
#[derive(Clone, Debug)]
pub struct Work {
    /// Clients, each of which asks one thing at a time.
    pub clients: u64,
    /// The longest that a client thinks.
    pub think_ns_max: u64,
    /// Keys.
    pub keys: u64,
    /// Bytes of a value, at most.
    pub value_bytes_max: u64,
    /// How likely each kind of request is, against the others.
    pub mixture: Vec<(Kind, u64)>,
    /// Watch streams.
    pub streams: u64,
    /// How long a watch client thinks at most.
    pub watch_think_ns_max: u64,
    /// How long a response takes to leave at most; zero: no time.
    pub reading_ns_max: u64,
    /// Leases that clients use.
    pub leases: u64,
    /// The longest TTL, in seconds.
    pub ttl_max: u64,
    /// How often somebody changes users and roles, among all requests: one in so many; zero: there are none.
    pub auth_one_in: u64,
}

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Writes a key.
    Put,
    /// Deletes keys.
    Delete,
    /// Compares, then writes.
    Txn,
    /// Reads keys.
    Range,
    /// Reads keys, in parts.
    RangeStream,
    /// Compares, then reads.
    ReadTxn,
    /// Forgets history.
    Compact,
    /// Makes a lease.
    Grant,
    /// Renews a lease.
    KeepAlive,
    /// Ends a lease.
    Revoke,
    /// Asks how long a lease has.
    TimeToLive,
    /// Lists leases.
    Leases,
    /// Hashes history.
    HashKv,
    /// Clears the alarm about space.
    Disarm,
}

impl Kind {
    /// Each of them.
    pub const ALL: [Self; 14] = [
        Self::Put,
        Self::Delete,
        Self::Txn,
        Self::Range,
        Self::RangeStream,
        Self::ReadTxn,
        Self::Compact,
        Self::Grant,
        Self::KeepAlive,
        Self::Revoke,
        Self::TimeToLive,
        Self::Leases,
        Self::HashKv,
        Self::Disarm,
    ];
}

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1000 * MILLI;

/// The cluster of every run.
pub const CLUSTER: ClusterId = ClusterId(1);

/// Seeds with this bit are those of members that keep their state in trees: apart from that, and from what follows, the
/// run is that of the seed without it.
pub const TREES: u64 = 1 << 62;

impl Swarm {
    /// The run of a seed.
    pub fn from_seed(seed: u64) -> Self {
        let storage = if seed & TREES == 0 { Storage::Snapshots } else { Storage::Trees };
        let seed = seed & !TREES;
        let random = &mut Random::new(seed, 10);
        let members = *random.pick(&[1, 1, 1, 1, 2, 3, 3, 3, 3, 3, 3, 5, 5, 5, 7, 3]);
        let election_timeout = Duration::from_millis(random.magnitude(100, 2000));
        // Drawn apart, so that seeds from before there were users mean what they meant.
        let users = &mut Random::new(seed, 13);
        let auth_one_in = if users.chance(1, 3) { users.magnitude(2, 40) } else { 0 };
        let [later, versions] = [18, 19].map(|stream| Random::new(seed, stream));
        let (mut later, mut versions) = (later, versions);
        let mut backups = Random::new(seed, 21);
        let operates = members > 1 && random.chance(1, 2) || random.chance(1, 8);
        Self {
            members,
            storage,
            operate_every_ns: if operates { random.magnitude(200 * MILLI, 8 * SECOND) } else { 0 },
            strict_reconfig_check: random.chance(2, 3),
            shards: u16::try_from(random.between(1, 3)).expect("a few"),
            span_ns: random.magnitude(2 * SECOND, 120 * SECOND),
            delays: Delays {
                write_ns: random.magnitude(20_000, 20 * MILLI),
                hop_ns: random.magnitude(200, MILLI),
            },
            network: Quality {
                delay_ns: random.magnitude(10_000, 5 * MILLI),
                jitter_ns: random.magnitude(10_000, 20 * MILLI),
                loss_one_in: one_in(random),
                double_one_in: one_in(random),
                straggle_one_in: one_in(random),
            },
            limits: limits(random, members),
            election_timeout,
            auto_compaction: auto_compaction(random),
            fault_every_ns: if random.chance(1, 6) {
                0
            } else {
                random.magnitude(50 * MILLI, 10 * SECOND)
            },
            faults: {
                let mut faults = faults(random, members);
                faults.extend(later_faults(seed, members));
                faults
            },
            storm_every_ns: match later.chance(1, 4) {
                true => later.magnitude(SECOND, 20 * SECOND),
                false => 0,
            },
            backup_every_ns: match backups.chance(1, 4) {
                true => backups.magnitude(200 * MILLI, 20 * SECOND),
                false => 0,
            },
            watch_users: later.chance(1, 2) && auth_one_in > 0,
            versions: versions.chance(1, 4),
            hunt_one_in: Random::new(seed, 17).between(0, 3),
            drift_ppm_max: if random.chance(1, 2) { 0 } else { random.magnitude(10, 200_000) },
            work: Work { auth_one_in, ..work(random) },
        }
    }

    /// The configuration of a member.
    pub fn config(&self, id: MemberId) -> Config {
        let member = |id| Member {
            id: MemberId(id),
            name: format!("m{id}"),
            peer_urls: vec![format!("http://m{id}:2380")],
            client_urls: Vec::new(),
        };
        // Who comes later learns from the others who they are.
        let begin = if id.0 <= self.members { self.members } else { 0 };
        Config {
            cluster: CLUSTER,
            id,
            members: (1..=begin).map(member).collect(),
            seed: 0,
            election_timeout: self.election_timeout,
            heartbeat_interval: self.election_timeout / 10,
            name: format!("m{}", id.0),
            client_urls: Vec::new(),
            lives: Lives::default(),
            force_new_cluster: false,
            strict_reconfig_check: self.strict_reconfig_check,
            learners_max: 2,
            storage: self.storage,
            auto_compaction: self.auto_compaction,
            limits: self.limits,
            version: "3.7.0".to_owned(),
        }
    }
}

fn one_in(random: &mut Random) -> u64 {
    if random.chance(1, 2) { 0 } else { random.magnitude(3, 100) }
}

fn size(random: &mut Random, low: u64, high: u64) -> usize {
    usize::try_from(random.magnitude(low, high)).expect("64 bits")
}

fn limits(random: &mut Random, members: u64) -> Limits {
    // A log that is short in memory is what makes followers need snapshots.
    let memory_max = if members > 1 && random.chance(1, 2) { 4 << 10 } else { 1 << 20 };
    let limits = Limits {
        request_bytes_max: size(random, 16 << 10, 1 << 20),
        proposed_bytes_max: size(random, 4 << 10, 4 << 20),
        log_memory_bytes: size(random, 1, memory_max),
        log_needed_bytes_max: size(random, 1 << 10, 4 * memory_max),
        snapshot_in_flight_bytes: random.magnitude(1 << 10, 1 << 20),
        snapshot_bytes_per_second: random.magnitude(64 << 10, 256 << 20),
        quota_bytes: random.chance(1, 5).then(|| random.magnitude(8 << 10, 256 << 10)),
        segment_bytes: random.magnitude(16 << 10, 512 << 10),
        first_segment_bytes: random.magnitude(16 << 10, 256 << 10),
        snapshot_log_bytes: if random.chance(1, 4) {
            u64::MAX / 2
        } else {
            random.magnitude(8 << 10, 512 << 10)
        },
        page_bytes: 512,
        sweep_changes_max: size(random, 1, 500),
        expire_leases_max: size(random, 1, 100),
        expire_keys_max: size(random, 1, 100),
        append_bytes_max: size(random, 1, 64 << 10),
        appends_in_flight_max: size(random, 1, 64),
        watch_fragment_bytes: size(random, 200, 16 << 10),
        watch_credit_bytes: size(random, 100, 64 << 10),
        watch_progress_interval: Duration::from_millis(random.magnitude(100, 10_000)),
        token_ttl: Duration::from_secs(20),
        watch_connection_credit_bytes: 0,
    };
    // Less than what its two streams might have each.
    let watch_connection_credit_bytes = limits.watch_credit_bytes * 3 / 2;
    Limits { watch_connection_credit_bytes, ..limits }
}

fn auto_compaction(random: &mut Random) -> Option<AutoCompaction> {
    match random.below(6) {
        0 => Some(AutoCompaction::Periodic(Duration::from_millis(random.magnitude(500, 30_000)))),
        1 => {
            Some(AutoCompaction::Revisions(i64::try_from(random.magnitude(1, 100)).expect("small")))
        }
        _ => None,
    }
}

/// Some of these, with a weight each.
fn some<T: Copy>(random: &mut Random, all: &[T]) -> Vec<(T, u64)> {
    let mut chosen = Vec::new();
    for one in all {
        if random.chance(3, 5) {
            chosen.push((*one, random.magnitude(1, 16)));
        }
    }
    if chosen.is_empty() { vec![(all[0], 1)] } else { chosen }
}

fn faults(random: &mut Random, members: u64) -> Vec<(Fault, u64)> {
    let alone = [
        Fault::Crash,
        Fault::CrashAmid,
        Fault::Pause,
        Fault::Stall,
        Fault::WriteError,
        Fault::Rot,
        Fault::SnapshotRot,
        Fault::Jump,
    ];
    // A jump of a leader's clock and then of the next one's would add up: nobody could tell what is too early.
    let together = [
        Fault::Crash,
        Fault::CrashAmid,
        Fault::Pause,
        Fault::Stall,
        Fault::WriteError,
        Fault::Rot,
        Fault::SnapshotRot,
        Fault::CrashAll,
        Fault::Partition,
        Fault::Cut,
        Fault::Network,
        Fault::Wipe,
        Fault::Image,
        Fault::RollBack,
    ];
    if members < 2 { some(random, &alone) } else { some(random, &together) }
}

/// Faults that came later, from numbers of their own: so the seeds of before mean what they meant, where these are left out.
fn later_faults(seed: u64, members: u64) -> Vec<(Fault, u64)> {
    let random = &mut Random::new(seed, 13);
    let mut chosen = Vec::new();
    if members > 1 && random.chance(1, 3) {
        chosen.push((Fault::Swap, random.magnitude(1, 4)));
    }
    let random = &mut Random::new(seed, 15);
    for fault in [Fault::Clog, Fault::Throttle, Fault::Reconfigure] {
        if random.chance(1, 4) && (members > 1 || fault == Fault::Reconfigure) {
            chosen.push((fault, random.magnitude(1, 8)));
        }
    }
    let random = &mut Random::new(seed, 19);
    if random.chance(1, 4) {
        chosen.push((Fault::Reversion, random.magnitude(1, 8)));
    }
    chosen
}

/// Versions of members: three minor ones, one with two patches.
pub const VERSIONS: [&str; 4] = ["3.6.5", "3.7.0", "3.7.3", "3.8.0"];

impl Swarm {
    /// The same without what came after plans were written first: a plan has it only if it says so.
    #[must_use]
    pub fn without_the_latest(self) -> Self {
        Self { storm_every_ns: 0, backup_every_ns: 0, watch_users: false, versions: false, ..self }
    }

    /// Other limits, where a member may have others than before: what it does by itself, in which sizes.
    pub fn other_limits(&self, seed: u64) -> Limits {
        let other = limits(&mut Random::new(seed, 15), self.members);
        Limits {
            segment_bytes: other.segment_bytes,
            first_segment_bytes: other.first_segment_bytes,
            sweep_changes_max: other.sweep_changes_max,
            expire_leases_max: other.expire_leases_max,
            expire_keys_max: other.expire_keys_max,
            append_bytes_max: other.append_bytes_max,
            appends_in_flight_max: other.appends_in_flight_max,
            snapshot_in_flight_bytes: other.snapshot_in_flight_bytes,
            snapshot_bytes_per_second: other.snapshot_bytes_per_second,
            watch_fragment_bytes: other.watch_fragment_bytes,
            ..self.limits
        }
    }
}

fn work(random: &mut Random) -> Work {
    let writes = [Kind::Put, Kind::Txn, Kind::Delete];
    let others = [
        Kind::Range,
        Kind::Grant,
        Kind::KeepAlive,
        Kind::Revoke,
        Kind::RangeStream,
        Kind::ReadTxn,
        Kind::TimeToLive,
        Kind::Leases,
        Kind::HashKv,
    ];
    let mut mixture = some(random, &writes);
    mixture.extend(some(random, &others));
    if random.chance(2, 3) {
        mixture.push((Kind::Compact, 1));
    }
    mixture.push((Kind::Disarm, 1));
    Work {
        clients: random.between(1, 8),
        think_ns_max: random.magnitude(MILLI, 2 * SECOND),
        keys: random.magnitude(1, 100),
        value_bytes_max: if random.chance(1, 3) { random.magnitude(16, 8 << 10) } else { 16 },
        mixture,
        streams: if random.chance(1, 4) { 0 } else { random.between(1, 4) },
        watch_think_ns_max: random.magnitude(10 * MILLI, 5 * SECOND),
        reading_ns_max: if random.chance(1, 2) { 0 } else { random.magnitude(MILLI, 5 * SECOND) },
        leases: random.magnitude(1, 12),
        ttl_max: random.magnitude(2, 60),
        auth_one_in: 0,
    }
}
