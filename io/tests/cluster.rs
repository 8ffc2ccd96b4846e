//! Members in one process, each with its driver, its disk and its links, over loopback; on both runtimes.
#![expect(clippy::unwrap_used, reason = "the linter does not see that helpers of tests are tests")]

use core::cell::RefCell;
use core::net::SocketAddr;
use core::num::NonZeroUsize;
use core::time::Duration;
use std::fs;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use ::tokio::io::AsyncReadExt as _;
use bytes::{Bytes, BytesMut};
use cairn_engine::api::etcdserverpb::{PutRequest, RangeRequest};
use cairn_engine::api::{Error, Request, Response};
use cairn_engine::cluster::Wish;
use cairn_engine::config::{Limits, Member, Storage};
use cairn_engine::event::Halt;
use cairn_engine::peer::hello::is_peer;
use cairn_engine::{ClusterId, Config, MemberId};
use cairn_io::driver::{
    self, Directory, Fatal, Handle, Notice, PeerAcceptor, PeerCounters, PeerNotice, Settings,
};
use cairn_io::listener::{self, accept_each};
use cairn_io::lives;
use cairn_io::runtime::{Address, Connection, Executor, Glommio, Plan, Runtime, Tokio, run};

/// Makes a test for each runtime out of a function that is generic over it.
macro_rules! on_both {
    ($($name:ident)*) => {
        mod glommio { $(#[test] fn $name() { super::$name::<super::Glommio>(); })* }
        mod tokio { $(#[test] fn $name() { super::$name::<super::Tokio>(); })* }
    };
}

on_both! {
    three_members_agree_and_one_that_was_away_catches_up
    a_member_that_was_removed_ends
}

fn block_on<R: Executor>(test: impl AsyncFnOnce() + Send + 'static) {
    run::<R, _, _, _>(Plan::default(), vec![test], |_, test| async move { test().await }).unwrap();
}

/// A folder that goes when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("cairn-cluster-{name}-{}", std::process::id()));
        fs::remove_dir_all(&path).ok();
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// A member's place in the world, whether or not it runs.
struct Place {
    id: MemberId,
    url: String,
    directory: PathBuf,
    /// Of the member that runs here.
    acceptor: Rc<RefCell<Option<PeerAcceptor>>>,
    handle: RefCell<Option<Handle>>,
    counters: Arc<PeerCounters>,
    notices: Rc<RefCell<Vec<PeerNotice>>>,
    ended: Rc<RefCell<Option<Fatal>>>,
}

/// As the server does: looks at the first bytes.
async fn sniff(mut io: Connection, acceptor: PeerAcceptor) {
    let mut first = BytesMut::new();
    loop {
        match is_peer(&first) {
            Some(true) => return acceptor.adopt(io, first.freeze()),
            Some(false) => return,
            None if io.read_buf(&mut first).await.unwrap_or(0) == 0 => return,
            None => {}
        }
    }
}

impl Place {
    fn new<R: Runtime>(folder: &Folder, id: u64) -> Self {
        let any = Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
        let prepared = listener::bind(&any, NonZeroUsize::MIN).unwrap().pop().unwrap();
        let url = format!("http://{}", prepared.address().unwrap());
        let listener = R::listen(prepared).unwrap();
        let acceptor: Rc<RefCell<Option<PeerAcceptor>>> = Rc::default();
        let running = Rc::clone(&acceptor);
        R::spawn(async move {
            let serve = move |stream: R::Stream, _| {
                if let Some(acceptor) = running.borrow().clone() {
                    R::spawn(sniff(Box::new(stream), acceptor));
                }
            };
            accept_each::<R>(listener, serve, |error| panic!("{error}")).await;
        });
        let directory = folder.0.join(id.to_string());
        fs::create_dir_all(&directory).unwrap();
        Directory::new(&directory, None).create().unwrap();
        Self {
            id: MemberId(id),
            url,
            directory,
            acceptor,
            handle: RefCell::new(None),
            counters: Arc::default(),
            notices: Rc::default(),
            ended: Rc::default(),
        }
    }

    fn as_member(&self) -> Member {
        Member {
            id: self.id,
            name: format!("m{}", self.id),
            peer_urls: vec![self.url.clone()],
            client_urls: Vec::new(),
        }
    }

    /// Starts a member here.
    async fn start<R: Runtime>(&self, members: &[&Self]) {
        let lives = lives::begin(&self.directory).unwrap();
        let settings = Settings {
            engine: Config {
                cluster: ClusterId(1),
                id: self.id,
                members: members.iter().map(|place| place.as_member()).collect(),
                name: format!("m{}", self.id),
                client_urls: Vec::new(),
                seed: lives.now.0,
                lives,
                force_new_cluster: false,
                strict_reconfig_check: true,
                learners_max: 1,
                election_timeout: Duration::from_millis(500),
                heartbeat_interval: Duration::from_millis(50),
                storage: Storage::default(),
                auto_compaction: None,
                limits: Limits {
                    segment_bytes: 1 << 20,
                    first_segment_bytes: 1 << 18,
                    snapshot_log_bytes: 1 << 20,
                    log_memory_bytes: 1 << 18,
                    log_needed_bytes_max: 1 << 18,
                    ..Limits::default()
                },
                version: "3.7.0".to_owned(),
            },
            directory: self.directory.clone(),
            log_directory: None,
            peer_connector: None,
            peer_counters: Arc::clone(&self.counters),
        };
        let (notices, ended) = (Rc::clone(&self.notices), Rc::clone(&self.ended));
        let observer = Rc::new(move |notice| match notice {
            Notice::Peer(notice) => notices.borrow_mut().push(notice),
            Notice::Trouble(error) => panic!("{error}"),
            Notice::Recovered(_) | Notice::LogWritten { .. } | Notice::Event(_) => {}
        });
        let fatal = Rc::new(move |fatal| *ended.borrow_mut() = Some(fatal));
        let seat = driver::seats(NonZeroUsize::MIN).pop().unwrap();
        let started: Rc<RefCell<Option<Handle>>> = Rc::default();
        let handle = Rc::clone(&started);
        R::spawn(async move {
            let ready = move |core| *handle.borrow_mut() = Some(core);
            driver::run::<R>(settings, seat, ready, observer, fatal).await.unwrap();
        });
        eventually::<R>("it starts", || started.borrow().is_some()).await;
        let handle = started.take().unwrap();
        *self.acceptor.borrow_mut() = handle.peer_acceptor();
        *self.handle.borrow_mut() = Some(handle);
    }

    async fn stop<R: Runtime>(&self) {
        self.acceptor.take();
        self.handle.take().unwrap().stop();
        eventually::<R>("its links end", || self.counters.figures().is_empty()).await;
    }

    async fn ask(&self, request: Request) -> Result<Response, Error> {
        let handle = self.handle.borrow().clone().unwrap();
        handle.ask(request).await
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<Response, Error> {
        let put = PutRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value,
            ..PutRequest::default()
        };
        self.ask(Request::Put(put)).await
    }

    /// How many keys there are, linearizably.
    async fn count(&self) -> Result<usize, Error> {
        let range = RangeRequest {
            key: Bytes::from_static(&[0]),
            range_end: Bytes::from_static(&[0]),
            count_only: true,
            ..RangeRequest::default()
        };
        let Response::Range(answer) = self.ask(Request::Range(range)).await? else {
            panic!("a range is answered by a range")
        };
        Ok(answer.result.count)
    }

    fn leader(&self) -> MemberId {
        self.handle.borrow().as_ref().map_or(MemberId::NONE, Handle::leader)
    }
}

async fn eventually<R: Runtime>(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = R::now() + 30_000_000_000;
    while !is_so() {
        assert!(R::now() < deadline, "in vain: {what}");
        R::sleep(Duration::from_millis(5)).await;
    }
}

async fn agree_on_a_leader<R: Runtime>(places: &[&Place]) -> MemberId {
    eventually::<R>("all know one leader", || {
        let leader = places[0].leader();
        leader.is_some() && places.iter().all(|place| place.leader() == leader)
    })
    .await;
    places[0].leader()
}

fn three_members_agree_and_one_that_was_away_catches_up<R: Executor>() {
    let folder = Folder::new(core::any::type_name::<R>());
    block_on::<R>(async move || {
        let places = [1, 2, 3].map(|id| Place::new::<R>(&folder, id));
        let all: Vec<_> = places.iter().collect();
        for place in &places {
            place.start::<R>(&all).await;
        }
        let leader = agree_on_a_leader::<R>(&all).await;
        // Writes through every member, and reads that include them.
        for (number, place) in places.iter().enumerate() {
            place.put(&format!("first/{number}"), Bytes::from_static(b"1")).await.unwrap();
        }
        for place in &places {
            assert_eq!(place.count().await, Ok(3));
        }
        // One is away, and misses more than the others keep in memory.
        let away = *all.iter().find(|place| place.id != leader).unwrap();
        let other: Vec<_> = all.iter().filter(|place| place.id != away.id).collect();
        away.stop::<R>().await;
        let value = Bytes::from(vec![7; 64 << 10]);
        for number in 0..60 {
            other[number % 2].put(&format!("second/{number}"), value.clone()).await.unwrap();
        }
        away.start::<R>(&all).await;
        eventually::<R>("it knows the leader", || away.leader().is_some()).await;
        assert_eq!(away.count().await, Ok(63));
        // With the leader alone it can do all that; the link between the other two may take longer.
        for place in &places {
            eventually::<R>("it has a connection with both others", || {
                let figures = place.counters.figures();
                figures.len() == 2 && figures.iter().all(|figures| figures.is_active)
            })
            .await;
        }
        // The cluster has heard of its second life, so the first needs no line any more.
        eventually::<R>("its list of lives is short", || {
            fs::read_to_string(away.directory.join("LIVES")).unwrap().lines().count() == 1
        })
        .await;
        for place in &places {
            place.stop::<R>().await;
        }
    });
}

fn a_member_that_was_removed_ends<R: Executor>() {
    let folder = Folder::new(&format!("removed-{}", core::any::type_name::<R>()));
    block_on::<R>(async move || {
        let places = [1, 2, 3].map(|id| Place::new::<R>(&folder, id));
        let all: Vec<_> = places.iter().collect();
        for place in &places {
            place.start::<R>(&all).await;
        }
        let leader = agree_on_a_leader::<R>(&all).await;
        let removed = places.iter().find(|place| place.id != leader).unwrap();
        let leader = places.iter().find(|place| place.id == leader).unwrap();
        // It is asked of the leader as soon as it is sure of the others.
        let mut answer = Err(Error::NoLeader);
        for _ in 0..200 {
            answer = leader.ask(Request::Members(Wish::Remove(removed.id))).await;
            if answer.is_ok() {
                break;
            }
            R::sleep(Duration::from_millis(50)).await;
        }
        answer.unwrap();
        eventually::<R>("it learns that", || removed.ended.borrow().is_some()).await;
        let ended = removed.ended.take().unwrap();
        assert!(matches!(ended, Fatal::Halt(Halt::Removed)), "{ended}");
        assert!(ended.to_string().contains("removed from the cluster for ever"));
        leader.put("after", Bytes::new()).await.unwrap();
    });
}
