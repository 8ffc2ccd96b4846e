//! The replica of core 0 and what it needs of the disk and of other members.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::path::PathBuf;
use std::rc::Rc;

use cairn_engine::config::Lives;
use cairn_engine::event::{Halt, Publication};
use cairn_engine::mvcc::base::SharedPages;
use cairn_engine::peer::Incarnation;
use cairn_engine::recovery::{Recovery, recover};
use cairn_engine::storage::PageSize;
use cairn_engine::tree_file::TreeFileId;
use cairn_engine::wal::{LogWrite, Lsn};
use cairn_engine::{Input, Output, Replica, Time};
use tokio::sync::{Mutex, Notify};

use super::boot::{BootDisk, Directory};
use super::core_loop::{Observer, OnFatal};
use super::log_files::LogFiles;
use super::peers::{PeerAcceptor, Peers};
use super::snapshot_files::SnapshotFiles;
use super::tree_files::TreeFiles;
use super::{Fatal, Notice, Recovered, Settings, StartError};
use crate::disk::{self, Disk};
use crate::lives;
use crate::runtime::Runtime;

/// How long to wait before trying again to make a spare segment.
const SPARE_RETRY: core::time::Duration = core::time::Duration::from_secs(5);

/// A write that was carried out.
pub(super) enum Written {
    Log(Lsn),
    Snapshot,
    Tree(SharedPages),
}

type Working<T> = Pin<Box<dyn Future<Output = disk::Result<T>>>>;

pub(super) struct Member<R: Runtime> {
    pub(super) replica: Replica,
    log: LogFiles<R>,
    /// Here while no part is on its way.
    snapshots: Option<SnapshotFiles<R>>,
    /// The write to the log that is under way: the engine begins the next one when this is answered.
    log_write: Option<Working<Lsn>>,
    snapshot_write: Option<Working<SnapshotFiles<R>>>,
    /// Held while one of them is written or removed.
    trees: Rc<Mutex<TreeFiles<R>>>,
    tree_write: Option<Working<SharedPages>>,
    /// The tree file that is damaged.
    condemned: Option<TreeFileId>,
    peers: Peers,
    /// The starts that are written down, and where. Shared with the task that shortens the list.
    lives: Rc<LivesFile<R>>,
    /// Rung when a spare may be missing.
    spares: Rc<Notify>,
    observer: Observer,
    fatal: OnFatal,
}

impl<R: Runtime> Member<R> {
    /// Reads the disk and goes on from there; with the first state that shards may serve.
    pub(super) async fn start(
        settings: Settings,
        observer: Observer,
        fatal: OnFatal,
    ) -> Result<(Self, Publication), StartError> {
        let directory = Directory::new(&settings.directory, settings.log_directory.as_deref());
        let disk = R::Disk::start().map_err(StartError::Threads)?;
        let begun = R::now();
        let mut boot = BootDisk::open(&disk, &directory)?;
        let (cluster, member) = (settings.engine.cluster, settings.engine.id);
        let may_fetch = !settings.engine.force_new_cluster;
        let recovery =
            recover(&mut boot, cluster, member, may_fetch).map_err(StartError::Recovery)?;
        let took = core::time::Duration::from_nanos(R::now() - begun);
        observer(Notice::Recovered(report(&recovery, took)));
        let segment_bytes = settings.engine.limits.segment_bytes;
        let peers = Peers::new(&settings, Rc::clone(&observer));
        let lives = Rc::new(LivesFile {
            disk: disk.clone(),
            directory: settings.directory,
            lives: Mutex::new(settings.engine.lives.clone()),
        });
        let page_size = PageSize::new(settings.engine.limits.page_bytes);
        let page_size = page_size.unwrap_or(PageSize::DEFAULT);
        let log = LogFiles::new(disk.clone(), directory.clone(), segment_bytes, boot.spares());
        let (snapshots, trees) = boot.into_files();
        let mut trees = TreeFiles::new(disk.clone(), directory.clone(), page_size, trees);
        let snapshots = SnapshotFiles::new(disk.clone(), directory.clone(), snapshots);
        let mut replica = Replica::new(settings.engine, recovery, Time::from_nanos(R::now()));
        let first = loop {
            match replica.poll() {
                Some(Output::Publish(first)) => break first,
                Some(Output::CondemnTree(id)) => trees.condemn(id).await?,
                Some(Output::Halt(halt)) => return Err(StartError::Halt(halt)),
                other => unreachable!("a replica begins with a publication, not {other:?}"),
            }
        };
        let spares = Rc::new(Notify::new());
        let member = Self {
            replica,
            log: log.clone(),
            snapshots: Some(snapshots),
            log_write: None,
            snapshot_write: None,
            trees: Rc::new(Mutex::new(trees)),
            tree_write: None,
            condemned: None,
            peers,
            lives,
            spares: Rc::clone(&spares),
            observer: Rc::clone(&observer),
            fatal,
        };
        R::spawn(keep_spares(log, spares, observer));
        Ok((member, first))
    }

    /// Where connections go that other members have dialed.
    pub(super) fn peer_acceptor(&self) -> PeerAcceptor {
        self.peers.acceptor::<R>()
    }

    /// What other members have said since the last call.
    pub(super) fn take_received(&self, context: &Context<'_>) -> Vec<Input> {
        self.peers.take_received(context)
    }

    /// Begins what the replica wants of the disk and of others, or tells who wants to know.
    pub(super) fn carry_out(&mut self, output: Output) {
        match output {
            Output::Send(message) => self.peers.send::<R>(message),
            Output::Peers(peers) => self.peers.set::<R>(&peers),
            Output::Known(known) => {
                let (lives, observer) = (Rc::clone(&self.lives), Rc::clone(&self.observer));
                R::spawn(async move {
                    if let Err(error) = lives.settle(known).await {
                        observer(Notice::Trouble(error));
                    }
                });
            }
            Output::AppendLog(write) => {
                assert!(self.log_write.is_none(), "one write to the log at a time");
                if write.offset == 0 {
                    self.spares.notify_one();
                }
                self.log_write = Some(Box::pin(self.write_log(write)));
            }
            Output::RetireSegments(segments) => {
                let (log, observer) = (self.log.clone(), Rc::clone(&self.observer));
                R::spawn(async move {
                    if let Err(error) = log.retire(segments).await {
                        observer(Notice::Trouble(error));
                    }
                });
            }
            Output::WriteSnapshot(part) => {
                let mut files = self.snapshots.take().expect("one part at a time");
                self.snapshot_write =
                    Some(Box::pin(async move { files.write(part).await.map(|()| files) }));
            }
            Output::WriteTree(write) => {
                let trees = Rc::clone(&self.trees);
                self.tree_write =
                    Some(Box::pin(async move { trees.lock().await.write(write).await }));
            }
            Output::RemoveTree(id) => {
                let (trees, observer) = (Rc::clone(&self.trees), Rc::clone(&self.observer));
                R::spawn(async move {
                    if let Err(error) = trees.lock().await.remove(id).await {
                        observer(Notice::Trouble(error));
                    }
                });
            }
            Output::CondemnTree(id) => self.condemned = Some(id),
            Output::Event(event) => (self.observer)(Notice::Event(event)),
            Output::Halt(halt) => self.halt(halt),
            Output::Reply { .. } | Output::Publish(_) | Output::ReadIndex(_) => {
                unreachable!("these concern cores, not the disk")
            }
        }
    }

    /// Stops, and sees to it first that the next start does not believe what is damaged.
    fn halt(&mut self, halt: Halt) {
        let (fatal, observer) = (Rc::clone(&self.fatal), Rc::clone(&self.observer));
        let Some(id) = self.condemned.take() else { return fatal(Fatal::Halt(halt)) };
        let trees = Rc::clone(&self.trees);
        R::spawn(async move {
            if let Err(error) = trees.lock().await.condemn(id).await {
                observer(Notice::Trouble(error));
            }
            fatal(Fatal::Halt(halt));
        });
    }

    fn write_log(&self, write: LogWrite) -> impl Future<Output = disk::Result<Lsn>> + 'static {
        let (log, observer) = (self.log.clone(), Rc::clone(&self.observer));
        let bytes = u64::try_from(write.bytes.len()).expect("64 bits");
        let (end, begun) = (write.end, R::now());
        async move {
            log.write(write).await?;
            let took = core::time::Duration::from_nanos(R::now().saturating_sub(begun));
            observer(Notice::LogWritten { bytes, took });
            Ok(end)
        }
    }

    /// The writes that were carried out since the last call.
    pub(super) fn poll_written(&mut self, context: &mut Context<'_>) -> Vec<Written> {
        let mut written = Vec::new();
        if let Some(Poll::Ready(outcome)) =
            self.log_write.as_mut().map(|w| w.as_mut().poll(context))
        {
            self.log_write = None;
            match outcome {
                Ok(end) => written.push(Written::Log(end)),
                Err(error) => (self.fatal)(Fatal::Disk(error)),
            }
        }
        let snapshot_write = self.snapshot_write.as_mut();
        if let Some(Poll::Ready(outcome)) = snapshot_write.map(|w| w.as_mut().poll(context)) {
            self.snapshot_write = None;
            match outcome {
                Ok(files) => {
                    self.snapshots = Some(files);
                    written.push(Written::Snapshot);
                }
                Err(error) => (self.fatal)(Fatal::Disk(error)),
            }
        }
        let tree_write = self.tree_write.as_mut();
        if let Some(Poll::Ready(outcome)) = tree_write.map(|w| w.as_mut().poll(context)) {
            self.tree_write = None;
            match outcome {
                Ok(pages) => written.push(Written::Tree(pages)),
                Err(error) => (self.fatal)(Fatal::Disk(error)),
            }
        }
        written
    }
}

/// The file of starts.
struct LivesFile<R: Runtime> {
    disk: R::Disk,
    directory: PathBuf,
    /// Held while the file is written: two at once would mix their lines.
    lives: Mutex<Lives>,
}

impl<R: Runtime> LivesFile<R> {
    async fn settle(&self, known: Incarnation) -> disk::Result<()> {
        lives::settle(&self.disk, &self.directory, &mut *self.lives.lock().await, known).await
    }
}

/// Sees to it that the next segment is ready before it is needed.
async fn keep_spares<R: Runtime>(log: LogFiles<R>, wanted: Rc<Notify>, observer: Observer) {
    loop {
        match log.make_spares().await {
            Ok(()) => wanted.notified().await,
            Err(error) => {
                observer(Notice::Trouble(error));
                R::sleep(SPARE_RETRY).await;
            }
        }
    }
}

fn report(recovery: &Recovery, took: core::time::Duration) -> Recovered {
    let damaged =
        |(index, error): &(cairn_engine::raft::Index, _)| format!("{:016x}.snap: {error}", index.0);
    Recovered {
        snapshot_index: recovery.newest.index.0,
        entries: recovery.log.entries.len(),
        torn: recovery.log.torn.map(|place| (place.segment.0, place.offset)),
        damaged: recovery.damaged.iter().map(damaged).collect(),
        state_missing: recovery.missing.is_some(),
        took,
    }
}
