//! What a member tells its operators: log lines that people and tools wait for, and numbers that follow events.

use core::cell::{Cell, RefCell};
use core::time::Duration;
use std::sync::Arc;

use cairn_engine::api::etcdserverpb::Member;
use cairn_engine::event::Event;
use cairn_engine::raft::{RoleName, Term};
use cairn_engine::{ClusterId, MemberId};
use cairn_io::clock;
use cairn_io::driver::{Notice, PeerNotice, Recovered};
use cairn_io::probe::Kind;

use crate::config::Config;
use crate::config::url::Url;
use crate::identity::Identity;
use crate::log;
use crate::metrics::Metrics;

/// Says who starts, and how.
pub fn starting(config: &Config, identity: &Identity, runtime: Kind) {
    let texts = |urls: &[Url]| log::list(&urls.iter().map(|url| url.as_str()).collect::<Vec<_>>());
    let (client_urls, peer_urls) =
        (texts(&config.listen_client_urls), texts(&config.listen_peer_urls));
    tracing::info!(
        name = config.name,
        cluster_id = %identity.cluster,
        local_member_id = %identity.id,
        data_dir = %config.data_dir.display(),
        listen_client_urls = client_urls.field(),
        listen_peer_urls = peer_urls.field(),
        cores = config.cores,
        runtime = %runtime,
        etcd_version = crate::version::ETCD_VERSION,
        cairn_version = crate::version::CAIRN_VERSION,
        "starting an etcd server"
    );
}

/// Says where everything is served.
pub fn serving(config: &Config) {
    let texts = |urls: &[Url]| log::list(&urls.iter().map(|url| url.as_str()).collect::<Vec<_>>());
    let [peers, listen_peers, clients, listen_clients, metrics] = [
        texts(&config.initial_advertise_peer_urls),
        texts(&config.listen_peer_urls),
        texts(&config.advertise_client_urls),
        texts(&config.listen_client_urls),
        texts(&config.listen_metrics_urls),
    ];
    tracing::info!(
        initial_advertise_peer_urls = peers.field(),
        listen_peer_urls = listen_peers.field(),
        advertise_client_urls = clients.field(),
        listen_client_urls = listen_clients.field(),
        listen_metrics_urls = metrics.field(),
        "now serving peer/client/metrics"
    );
}

/// Tells operators what happens, and counts it.
#[derive(Debug)]
pub struct Notices {
    metrics: Arc<Metrics>,
    cluster: ClusterId,
    member: MemberId,
    /// What was told last, to say what has changed.
    role: Cell<Option<(RoleName, Term)>>,
    leader: Cell<MemberId>,
    snapshot_began: Cell<u64>,
    members: RefCell<Vec<Member>>,
    version: RefCell<String>,
}

impl Notices {
    /// For a member that has said nothing yet.
    pub fn new(metrics: Arc<Metrics>, identity: &Identity) -> Self {
        let (cluster, member) = (identity.cluster, identity.id);
        let (role, leader) = (Cell::default(), Cell::new(MemberId::NONE));
        let (members, version) = (RefCell::default(), RefCell::default());
        let snapshot_began = Cell::default();
        Self { metrics, cluster, member, role, leader, snapshot_began, members, version }
    }

    /// Tells one thing.
    pub fn tell(&self, notice: Notice) {
        match notice {
            Notice::Recovered(recovered) => tell_recovered(&recovered),
            Notice::LogWritten { bytes, took } => self.metrics.log_written(bytes, took),
            Notice::Event(event) => self.tell_event(event),
            Notice::Peer(notice) => self.tell_peer(&notice),
            Notice::Trouble(error) => {
                tracing::warn!(error = %error, "a chore of the disk failed and will be tried again");
            }
        }
    }

    /// The lines of etcd's links where it has some, and for whoever reads them, what they mean.
    fn tell_peer(&self, notice: &PeerNotice) {
        let own = self.member;
        match notice {
            PeerNotice::Connected { peer, dialed } => {
                tracing::info!(
                    local_member_id = %own,
                    remote_peer_id = %peer,
                    dialed,
                    "established TCP streaming connection with remote peer"
                );
                tracing::info!(peer_id = %peer, "peer became active");
            }
            PeerNotice::Lost { peer, why } => {
                tracing::warn!(
                    local_member_id = %own,
                    remote_peer_id = %peer,
                    error = why,
                    "lost TCP streaming connection with remote peer"
                );
                tracing::warn!(peer_id = %peer, error = why, "peer became inactive");
            }
            PeerNotice::Unreachable { .. } | PeerNotice::Refused { .. } => {
                tracing::warn!("{notice}");
            }
        }
    }

    fn tell_event(&self, event: Event) {
        match event {
            Event::Role { role, term, leader } => {
                self.tell_role(role, term);
                self.tell_leader(term, leader);
            }
            Event::Compacted { revision } => tracing::info!(revision, "compact tree index"),
            Event::CompactionFinished { revision, removed } => {
                tracing::info!(
                    compact_revision = revision,
                    removed,
                    "finished scheduled compaction"
                );
            }
            Event::SnapshotStarted { index } => {
                self.snapshot_began.set(clock::monotonic_ns());
                tracing::info!(snapshot_index = index.0, "triggering snapshot");
            }
            Event::SnapshotFinished { index, bytes } => {
                let took = clock::monotonic_ns().saturating_sub(self.snapshot_began.get());
                self.metrics.snapshot_saved.observe(Duration::from_nanos(took).as_secs_f64());
                tracing::info!(snapshot_index = index.0, bytes, "saved snapshot");
            }
            Event::LeasesExpired { leases } => self.metrics.leases_expired.inc_by(leases),
            Event::Alarms(alarms) => {
                for (kind, member) in alarms.iter() {
                    let alarm = kind.to_message().as_str_name();
                    tracing::warn!(alarm, member_id = %member, "alarm raised");
                }
            }
            Event::Members(members) => self.tell_members(members),
            Event::Published => tracing::info!(
                local_member_id = %self.member,
                cluster_id = %self.cluster,
                "published local member to cluster through raft"
            ),
            Event::ClusterVersion(version) => self.tell_version(version),
            Event::ReadyToDowngrade(version) => tracing::info!(
                target_version = format!("{version}.0"),
                server_version = crate::version::ETCD_VERSION,
                "The server is ready to downgrade"
            ),
            Event::SnapshotSending { peer, index } => {
                self.metrics.snapshot_sending(peer);
                tracing::info!(remote_peer_id = %peer, snapshot_index = index.0, "sending snapshot");
            }
            Event::SnapshotSent { peer, bytes, arrived } => {
                self.metrics.snapshot_sent(peer, arrived);
                if arrived {
                    tracing::info!(remote_peer_id = %peer, bytes, "sent snapshot");
                } else {
                    tracing::warn!(remote_peer_id = %peer, bytes, "failed to send snapshot; the peer cannot be reached, or does not want it");
                }
            }
            Event::SnapshotInstalled { index } => {
                self.metrics.snapshot_received(self.leader.get());
                tracing::info!(snapshot_index = index.0, "applied snapshot");
            }
            Event::MemoryLost => tracing::warn!(
                local_member_id = %self.member,
                "this disk is not the one that made this member's promises: it learns and does not vote until it has \
                 caught up"
            ),
            Event::MemoryRegained => tracing::info!(
                local_member_id = %self.member,
                "the other members have told what this one may have promised, and it has caught up with that"
            ),
            Event::MemberForgotten(member) => tracing::warn!(
                remote_peer_id = %member,
                "a member's disk is not the one that made its promises: it learns and does not vote until it has \
                 caught up"
            ),
            Event::Diverged { member, index } => tracing::error!(
                member_id = %member,
                index = index.0,
                "this member's state is not what the others have: one of them is damaged"
            ),
            Event::DiskStalled => {
                if self.leader.get() == self.member {
                    self.metrics.heartbeats_late.inc();
                }
                tracing::warn!(
                    "a write to the log takes longer than an election timeout: the disk is stalled or overloaded"
                );
            }
        }
    }

    /// The lines of etcd's raft library, once for each role and term.
    fn tell_role(&self, role: RoleName, term: Term) {
        if self.role.replace(Some((role, term))) == Some((role, term)) {
            return;
        }
        let own = self.member;
        let role = match role {
            RoleName::Follower => "follower",
            RoleName::PreCandidate => "pre-candidate",
            RoleName::Candidate => "candidate",
            RoleName::Leader => "leader",
        };
        tracing::info!("{own} became {role} at term {term}");
    }

    /// And these.
    fn tell_leader(&self, term: Term, leader: MemberId) {
        let (own, before) = (self.member, self.leader.replace(leader));
        if before == leader {
            return;
        }
        if leader.is_some() {
            self.metrics.leader_changes.inc();
        }
        match (before.is_some(), leader.is_some()) {
            (false, _) => tracing::info!("raft.node: {own} elected leader {leader} at term {term}"),
            (true, true) => tracing::info!(
                "raft.node: {own} changed leader from {before} to {leader} at term {term}"
            ),
            (true, false) => tracing::info!("raft.node: {own} lost leader {before} at term {term}"),
        }
    }

    /// Says who came, went, moved, and votes now. After a start, everybody has come.
    fn tell_members(&self, members: Vec<Member>) {
        let before = self.members.replace(members);
        let members = self.members.borrow();
        let (cluster, own) = (self.cluster, self.member);
        for member in members.iter() {
            let (id, urls) = (MemberId(member.id), log::list(&member.peer_urls));
            match before.iter().find(|other| other.id == member.id) {
                None => tracing::info!(
                    cluster_id = %cluster,
                    local_member_id = %own,
                    added_peer_id = %id,
                    added_peer_peer_urls = urls.field(),
                    added_peer_is_learner = member.is_learner,
                    "added member"
                ),
                Some(before) if before.is_learner && !member.is_learner => tracing::info!(
                    cluster_id = %cluster,
                    local_member_id = %own,
                    promoted_member_id = %id,
                    "promote member"
                ),
                Some(before) if before.peer_urls != member.peer_urls => tracing::info!(
                    cluster_id = %cluster,
                    local_member_id = %own,
                    updated_remote_peer_id = %id,
                    updated_remote_peer_urls = urls.field(),
                    "updated member"
                ),
                Some(_) => {}
            }
        }
        for gone in before.iter().filter(|gone| !members.iter().any(|other| other.id == gone.id)) {
            let (id, urls) = (MemberId(gone.id), log::list(&gone.peer_urls));
            tracing::info!(
                cluster_id = %cluster,
                local_member_id = %own,
                removed_remote_peer_id = %id,
                removed_remote_peer_urls = urls.field(),
                "removed member"
            );
        }
    }

    fn tell_version(&self, version: String) {
        self.metrics.set_cluster_version(&version);
        let before = self.version.replace(version.clone());
        if before.is_empty() {
            tracing::info!(cluster_version = version, "set initial cluster version");
        } else if before != version {
            tracing::info!(from = before, to = version, "updated cluster version");
        }
    }
}

fn tell_recovered(recovered: &Recovered) {
    for damaged in &recovered.damaged {
        tracing::warn!(snapshot = damaged, "passed over a damaged snapshot");
    }
    if recovered.state_missing {
        tracing::warn!(
            "the state on this disk is damaged; another member has to bring it, and nothing is served until then"
        );
    }
    if let Some((segment, offset)) = recovered.torn {
        tracing::info!(
            segment = %format_args!("{segment:016x}.wal"),
            offset,
            "cut off a write that a crash interrupted; it was never acknowledged"
        );
    }
    tracing::info!(
        snapshot_index = recovered.snapshot_index,
        entries = recovered.entries,
        took = %took(recovered.took),
        "recovered"
    );
}

/// A duration as Go prints it, in milliseconds.
fn took(duration: Duration) -> String {
    let micros = duration.as_micros();
    format!("{}.{:03}ms", micros / 1000, micros % 1000)
}
