//! What a member tells its operators: log lines that people and tools wait for, and numbers that follow events.

use core::time::Duration;

use cairn_engine::event::Event;
use cairn_engine::raft::RoleName;
use cairn_io::driver::{Notice, Recovered};
use cairn_io::probe::Kind;

use crate::config::Config;
use crate::identity::Identity;
use crate::log;
use crate::metrics::Metrics;

/// Says who starts, and how.
pub fn starting(config: &Config, identity: &Identity, runtime: Kind) {
    let texts = |urls: &[crate::config::url::Url]| {
        log::list(&urls.iter().map(|url| url.as_str()).collect::<Vec<_>>())
    };
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

/// Tells operators, and counts.
pub fn tell(metrics: &Metrics, notice: Notice) {
    match notice {
        Notice::Recovered(recovered) => tell_recovered(&recovered),
        Notice::LogWritten { bytes, took } => metrics.log_written(bytes, took),
        Notice::Event(event) => tell_event(metrics, event),
        Notice::Trouble(error) => {
            tracing::warn!(error = %error, "a chore of the disk failed and will be tried again");
        }
    }
}

fn tell_recovered(recovered: &Recovered) {
    for damaged in &recovered.damaged {
        tracing::warn!(snapshot = damaged, "passed over a damaged snapshot");
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

fn tell_event(metrics: &Metrics, event: Event) {
    match event {
        Event::Role { role, term, leader } => {
            if role == RoleName::Leader || role == RoleName::Follower && leader.is_some() {
                metrics.leader_changes.inc();
                tracing::info!("raft.node: {leader} elected leader {leader} at term {term}");
            }
        }
        Event::Compacted { revision } => tracing::info!(revision, "compact tree index"),
        Event::CompactionFinished { revision, removed } => {
            tracing::info!(compact_revision = revision, removed, "finished scheduled compaction");
        }
        Event::SnapshotStarted { index } => {
            tracing::info!(snapshot_index = index.0, "triggering snapshot");
        }
        Event::SnapshotFinished { index, bytes } => {
            tracing::info!(snapshot_index = index.0, bytes, "saved snapshot");
        }
        Event::LeasesExpired { leases } => metrics.leases_expired.inc_by(leases),
        Event::Alarms(alarms) => {
            for (kind, member) in alarms.iter() {
                let alarm = kind.to_message().as_str_name();
                tracing::warn!(alarm, member_id = %member, "alarm raised");
            }
        }
    }
}

/// A duration as Go prints it, in milliseconds.
fn took(duration: Duration) -> String {
    let micros = duration.as_micros();
    format!("{}.{:03}ms", micros / 1000, micros % 1000)
}
