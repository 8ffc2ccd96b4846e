//! Links over real sockets, without an engine behind them: every test runs on both runtimes.
//!
//! They are about the world, so they wait: for a thing to come about, as long as it takes, and a fraction of a second for a
//! thing that must not.

use core::cell::Cell;
use core::net::SocketAddr;
use core::num::NonZeroUsize;
use std::collections::BTreeSet;

use ::tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use cairn_engine::config::{Lives, Storage};
use cairn_engine::peer::codec::decode;
use cairn_engine::peer::frame::{Frame, Frames, encode_ping};
use cairn_engine::peer::hello::{Purpose, Refusal, VERSIONS};
use cairn_engine::peer::{Body, Known, SnapshotPart};
use cairn_engine::raft::message::{Body as RaftBody, LogEnd, Round};
use cairn_engine::raft::{Entry, EntryKind, Index, Term};

use super::dial::first_frame;
use super::*;
use crate::listener::{self, accept_each};
use crate::runtime::{Address, Executor, Glommio, Plan, Tokio, run};

/// Makes a test for each runtime out of a function that is generic over it.
macro_rules! on_both {
    ($($name:ident)*) => {
        mod glommio { $(#[test] fn $name() { super::$name::<super::Glommio>(); })* }
        mod tokio { $(#[test] fn $name() { super::$name::<super::Tokio>(); })* }
    };
}

on_both! {
    three_members_hear_each_other
    both_may_dial_at_once_and_keep_one_connection
    who_cannot_be_dialed_dials
    a_connection_that_was_cut_comes_back
    a_connection_that_is_silent_is_dialed_anew
    a_member_that_started_again_takes_the_place_of_its_past
    another_cluster_is_refused_and_both_say_so_once
    another_member_is_refused
    garbage_harms_nobody
    a_bad_frame_ends_the_connection_and_nothing_else
    a_member_that_never_reads_costs_bounded_memory
    parts_of_snapshots_have_a_connection_of_their_own
    a_guest_is_let_in_and_answered
    who_is_gone_is_told_from_who_only_hung_up
    a_url_that_wants_tls_goes_through_the_connector
    who_is_no_member_any_more_is_not_dialed
}

const CLUSTER: ClusterId = ClusterId(7);

fn block_on<R: Executor>(test: impl AsyncFnOnce() + Send + 'static) {
    run::<R, _, _, _>(Plan::default(), vec![test], |_, test| async move { test().await }).unwrap();
}

/// A member without an engine.
struct Node {
    id: MemberId,
    address: SocketAddr,
    peers: Peers,
    received: Rc<RefCell<Vec<Message>>>,
    /// Who was noticed to be gone.
    gone: Rc<RefCell<Vec<MemberId>>>,
    notices: Rc<RefCell<Vec<PeerNotice>>>,
    /// Whether it accepts.
    is_open: Rc<Cell<bool>>,
}

/// Quick, so that tests are.
const PACE: Pace = Pace {
    patience: 200_000_000,
    dial: 1_000_000_000,
    pause: (5_000_000, 50_000_000),
    ping: 50_000_000,
    silence: 500_000_000,
    bulk_idle: 200_000_000,
};

fn settings(cluster: ClusterId, id: u64) -> Settings {
    let config = Config {
        cluster,
        id: MemberId(id),
        members: Vec::new(),
        name: String::new(),
        client_urls: Vec::new(),
        lives: Lives { now: Incarnation(id * 100), before: Vec::new() },
        force_new_cluster: false,
        strict_reconfig_check: true,
        learners_max: 1,
        seed: id,
        election_timeout: Duration::from_secs(1),
        heartbeat_interval: Duration::from_millis(100),
        storage: Storage::default(),
        auto_compaction: None,
        limits: cairn_engine::config::Limits::default(),
        version: String::new(),
    };
    Settings {
        engine: config,
        directory: "nowhere".into(),
        log_directory: None,
        peer_connector: None,
        peer_counters: Arc::default(),
    }
}

/// A free port on loopback that is given back and can be taken again.
fn port<R: Runtime>() -> (R::Listener, SocketAddr) {
    let any = Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
    let prepared = listener::bind(&any, NonZeroUsize::MIN).unwrap().pop().unwrap();
    let Address::Tcp(address) = prepared.address().unwrap() else { panic!("TCP") };
    (R::listen(prepared).unwrap(), address)
}

impl Node {
    fn new<R: Runtime>(id: u64) -> Self {
        Self::with::<R>(settings(CLUSTER, id), PACE)
    }

    fn with<R: Runtime>(settings: Settings, pace: Pace) -> Self {
        let notices: Rc<RefCell<Vec<PeerNotice>>> = Rc::default();
        let told = Rc::clone(&notices);
        let observer: Observer = Rc::new(move |notice| match notice {
            Notice::Peer(notice) => told.borrow_mut().push(notice),
            Notice::Recovered(_)
            | Notice::LogWritten { .. }
            | Notice::Event(_)
            | Notice::Trouble(_) => panic!("there are links only"),
        });
        let mut peers = Peers::new(&settings, observer);
        Rc::get_mut(&mut peers.0).unwrap().pace = pace;
        let (listener, address) = port::<R>();
        let is_open = Rc::new(Cell::new(true));
        let (acceptor, open) = (peers.acceptor::<R>(), Rc::clone(&is_open));
        R::spawn(async move {
            let serve = move |stream: R::Stream, _| {
                if open.get() {
                    acceptor.adopt(Box::new(stream), Bytes::new());
                }
            };
            accept_each::<R>(listener, serve, |error| panic!("{error}")).await;
        });
        let received: Rc<RefCell<Vec<Message>>> = Rc::default();
        let gone: Rc<RefCell<Vec<MemberId>>> = Rc::default();
        let (inbox, mail, down) = (Rc::clone(&peers.0), Rc::clone(&received), Rc::clone(&gone));
        R::spawn(poll_fn(move |context| {
            let mut inputs = inbox.inbox.take(context.waker());
            while !inputs.is_empty() {
                for input in inputs {
                    if let Input::Message(message) = input {
                        mail.borrow_mut().push(message);
                    } else if let Input::PeerDown(peer) = input {
                        down.borrow_mut().push(peer);
                    } else {
                        panic!("no link says {input:?}");
                    }
                }
                inputs = inbox.inbox.take(context.waker());
            }
            Poll::Pending
        }));
        Self { id: settings.engine.id, address, peers, received, gone, notices, is_open }
    }

    fn as_peer(&self) -> Peer {
        peer_at(self.id.0, self.address)
    }

    fn knows<R: Runtime>(&self, peers: &[Peer]) {
        self.peers.set::<R>(peers);
    }

    fn say<R: Runtime>(&self, to: MemberId, token: u64) {
        let body = Body::ReadIndex { token };
        self.peers.send::<R>(Message { from: self.id, to, known: Known::Unsure, body });
    }

    fn has_heard(&self, from: MemberId, token: u64) -> bool {
        let body = Body::ReadIndex { token };
        let message = Message { from, to: self.id, known: Known::Unsure, body };
        self.received.borrow().contains(&message)
    }

    fn is_connected(&self, to: MemberId) -> bool {
        let links = self.peers.0.links.borrow();
        links.get(&to).is_some_and(|link| link.is_connected())
    }

    fn figures(&self, of: MemberId) -> PeerFigures {
        let figures = self.peers.0.counters.figures();
        figures.into_iter().find(|figures| figures.member == of).expect("a link")
    }

    fn told(&self, part: &str) -> usize {
        let notices = self.notices.borrow();
        notices.iter().filter(|notice| notice.to_string().contains(part)).count()
    }
}

fn peer_at(id: u64, address: SocketAddr) -> Peer {
    Peer { id: MemberId(id), urls: vec![format!("http://{address}")] }
}

/// A peer that nobody listens for.
fn nowhere(id: u64) -> Peer {
    peer_at(id, SocketAddr::from(([127, 0, 0, 1], 1)))
}

async fn pause<R: Runtime>(millis: u64) {
    R::sleep(Duration::from_millis(millis)).await;
}

/// Waits until something has come about.
async fn eventually<R: Runtime>(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = R::now() + 20_000_000_000;
    while !is_so() {
        assert!(R::now() < deadline, "in vain: {what}");
        pause::<R>(2).await;
    }
}

/// Says it again until it is heard: what is said while there is no connection is lost.
async fn heard<R: Runtime>(from: &Node, to: &Node, token: u64) {
    let mut said = 0;
    eventually::<R>(&format!("{} hears {} say {token}", to.id, from.id), || {
        if said % 10 == 0 {
            from.say::<R>(to.id, token);
        }
        said += 1;
        to.has_heard(from.id, token)
    })
    .await;
}

fn three_members_hear_each_other<R: Executor>() {
    block_on::<R>(async || {
        let nodes = [1, 2, 3].map(Node::new::<R>);
        let peers = nodes.each_ref().map(Node::as_peer);
        for node in &nodes {
            node.knows::<R>(&peers);
        }
        for (token, (from, to)) in (0..).zip([(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)]) {
            heard::<R>(&nodes[from], &nodes[to], token).await;
        }
        // In order, and once, while there is a connection.
        nodes[0].received.borrow_mut().clear();
        (100..1100).for_each(|token| nodes[2].say::<R>(MemberId(1), token));
        eventually::<R>("all of it arrives", || nodes[0].received.borrow().len() >= 1000).await;
        let expected = (100..1100).map(|token| Message {
            from: MemberId(3),
            to: MemberId(1),
            known: Known::Unsure,
            body: Body::ReadIndex { token },
        });
        assert!(nodes[0].received.take().into_iter().eq(expected));
        let figures = nodes[0].figures(MemberId(3));
        assert!(figures.is_active && figures.disconnections == 0);
        assert!(figures.received_bytes > 1000 * 25);
        assert_eq!(nodes[0].told("member 3 has connected"), 1);
        assert_eq!(nodes[2].told("connected to member 1"), 1);
        eventually::<R>("a round trip is measured", || {
            let round_trips = nodes[0].figures(MemberId(3)).round_trips;
            round_trips.sum_ns > 0 && round_trips.counts.iter().sum::<u64>() > 0
        })
        .await;
    });
}

fn both_may_dial_at_once_and_keep_one_connection<R: Executor>() {
    block_on::<R>(async || {
        let eager = Pace { patience: 0, ..PACE };
        for round in 0..20 {
            let nodes = [1, 2].map(|id| Node::with::<R>(settings(CLUSTER, id), eager));
            let peers = nodes.each_ref().map(Node::as_peer);
            // Now this one is first, now that.
            let first = round % 2;
            nodes[first].knows::<R>(&peers);
            nodes[1 - first].knows::<R>(&peers);
            heard::<R>(&nodes[0], &nodes[1], 1).await;
            heard::<R>(&nodes[1], &nodes[0], 2).await;
            pause::<R>(20).await;
            let ends =
                || [(0, 2), (1, 1)].map(|(node, other)| nodes[node].figures(MemberId(other)));
            let settled = ends().map(|figures| figures.disconnections);
            pause::<R>(60).await;
            for (end, disconnections) in ends().into_iter().zip(settled) {
                assert!(end.is_active && end.disconnections == disconnections, "{round}: {end:?}");
            }
            heard::<R>(&nodes[0], &nodes[1], 3).await;
            heard::<R>(&nodes[1], &nodes[0], 4).await;
            nodes.iter().for_each(|node| node.knows::<R>(&[]));
        }
    });
}

fn who_cannot_be_dialed_dials<R: Executor>() {
    block_on::<R>(async || {
        let nodes = [1, 2].map(Node::new::<R>);
        // The larger should dial, and has no address of any use: one is taken by nobody, the others are none.
        let mut one = nowhere(1);
        one.urls.extend(["http://".to_owned(), "https://127.0.0.1:1".to_owned()]);
        nodes[1].knows::<R>(&[one]);
        nodes[0].knows::<R>(&[nodes[1].as_peer()]);
        heard::<R>(&nodes[1], &nodes[0], 1).await;
        heard::<R>(&nodes[0], &nodes[1], 2).await;
        assert_eq!(nodes[0].told("connected to member 2"), 1);
        assert!(nodes[1].told("cannot reach member 1") <= 3, "{:?}", nodes[1].notices);
    });
}

/// What a wire does to bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wire {
    Whole,
    Cut,
    /// Takes nothing, gives nothing, and says nothing.
    Frozen,
}

/// A wire to `target`; a connection over it, once frozen, never thaws.
fn wire_to<R: Runtime>(target: SocketAddr) -> (SocketAddr, Rc<Cell<Wire>>) {
    let (listener, address) = port::<R>();
    let wire = Rc::new(Cell::new(Wire::Whole));
    let state = Rc::clone(&wire);
    R::spawn(async move {
        let serve = |stream: R::Stream, _| {
            let state = Rc::clone(&state);
            R::spawn(async move {
                let mut near: Connection = Box::new(stream);
                let Ok(far) = R::connect(&Address::Tcp(target)).await else { return };
                let mut far: Connection = Box::new(far);
                let (mut up, mut down) = (vec![0; 4096], vec![0; 4096]);
                while state.get() == Wire::Whole {
                    let up = until::<R, _>(R::now() + 1_000_000, near.read(&mut up))
                        .await
                        .map(|n| up[..n.unwrap_or(0)].to_vec());
                    let down = until::<R, _>(R::now() + 1_000_000, far.read(&mut down))
                        .await
                        .map(|n| down[..n.unwrap_or(0)].to_vec());
                    for (bytes, out) in [(up, &mut far), (down, &mut near)] {
                        match bytes {
                            Some(bytes) if bytes.is_empty() => return,
                            Some(bytes) if out.write_all(&bytes).await.is_err() => return,
                            Some(_) | None => {}
                        }
                    }
                }
                if state.get() == Wire::Frozen {
                    core::future::pending::<()>().await;
                }
            });
        };
        accept_each::<R>(listener, serve, |error| panic!("{error}")).await;
    });
    (address, wire)
}

fn a_connection_that_was_cut_comes_back<R: Executor>() {
    block_on::<R>(async || {
        let nodes = [1, 2].map(Node::new::<R>);
        let (address, wire) = wire_to::<R>(nodes[0].address);
        nodes[0].knows::<R>(&[nowhere(2)]);
        nodes[1].knows::<R>(&[peer_at(1, address)]);
        heard::<R>(&nodes[0], &nodes[1], 1).await;
        for round in 2..5 {
            wire.set(Wire::Cut);
            eventually::<R>("both notice", || {
                !nodes[0].is_connected(MemberId(2)) && !nodes[1].is_connected(MemberId(1))
            })
            .await;
            // What is said meanwhile is lost, and counted.
            let failures = nodes[1].figures(MemberId(1)).send_failures;
            nodes[1].say::<R>(MemberId(1), 100 + round);
            assert_eq!(nodes[1].figures(MemberId(1)).send_failures, failures + 1);
            wire.set(Wire::Whole);
            heard::<R>(&nodes[0], &nodes[1], round).await;
            heard::<R>(&nodes[1], &nodes[0], round).await;
            assert!(!nodes[0].has_heard(MemberId(2), 100 + round));
        }
        assert!(nodes[1].figures(MemberId(1)).disconnections >= 3);
    });
}

fn a_connection_that_is_silent_is_dialed_anew<R: Executor>() {
    block_on::<R>(async || {
        let nodes = [1, 2].map(Node::new::<R>);
        let (address, wire) = wire_to::<R>(nodes[0].address);
        nodes[0].knows::<R>(&[nowhere(2)]);
        nodes[1].knows::<R>(&[peer_at(1, address)]);
        heard::<R>(&nodes[0], &nodes[1], 1).await;
        // Idle is not silent.
        pause::<R>(1200).await;
        assert_eq!(nodes[1].figures(MemberId(1)).disconnections, 0);
        wire.set(Wire::Frozen);
        pause::<R>(10).await;
        eventually::<R>("both notice", || {
            nodes.iter().all(|node| node.told("nothing is heard") == 1)
        })
        .await;
        wire.set(Wire::Whole);
        heard::<R>(&nodes[0], &nodes[1], 2).await;
        heard::<R>(&nodes[1], &nodes[0], 3).await;
    });
}

fn a_member_that_started_again_takes_the_place_of_its_past<R: Executor>() {
    block_on::<R>(async || {
        let patient = Pace { silence: 60_000_000_000, ..PACE };
        let old = Node::with::<R>(settings(CLUSTER, 1), patient);
        let other = Node::with::<R>(settings(CLUSTER, 2), patient);
        let (address, wire) = wire_to::<R>(old.address);
        other.knows::<R>(&[peer_at(1, address)]);
        heard::<R>(&other, &old, 1).await;
        wire.set(Wire::Frozen);
        old.is_open.set(false);
        // The power fails there: nothing of it comes through. It dials, though the other has the larger id and
        // believes in the connection that it had dialed.
        let mut again = settings(CLUSTER, 1);
        again.engine.lives.now = Incarnation(101);
        let new = Node::with::<R>(again, patient);
        new.knows::<R>(&[other.as_peer()]);
        heard::<R>(&new, &other, 2).await;
        heard::<R>(&other, &new, 3).await;
    });
}

fn another_cluster_is_refused_and_both_say_so_once<R: Executor>() {
    block_on::<R>(async || {
        let (one, two) = (Node::new::<R>(1), Node::with::<R>(settings(ClusterId(8), 2), PACE));
        one.knows::<R>(&[two.as_peer()]);
        two.knows::<R>(&[one.as_peer()]);
        for node in [&one, &two] {
            eventually::<R>("it is told", || node.notices.borrow().len() >= 2).await;
        }
        pause::<R>(300).await;
        assert_eq!(
            one.told("refused a connection from member 2: it is in cluster 8, this is 7"),
            1
        );
        assert_eq!(two.told("refused: it is in another cluster, 7"), 1);
        assert_eq!(one.told("refused: it is in another cluster, 8"), 1);
        assert_eq!((one.notices.borrow().len(), two.notices.borrow().len()), (2, 2));
        assert!(one.peers.0.counters.strangers() > 1);
        assert!(!one.is_connected(MemberId(2)) && !two.is_connected(MemberId(1)));
    });
}

fn another_member_is_refused<R: Executor>() {
    block_on::<R>(async || {
        let nodes = [1, 2].map(Node::new::<R>);
        nodes[1].knows::<R>(&[peer_at(3, nodes[0].address)]);
        eventually::<R>("it is told", || {
            nodes[1].told("refused: it is another member, 1") == 1
                && nodes[0].told("from member 2: it wants to reach member 3, this is 1") == 1
        })
        .await;
        // One that has the address of itself.
        nodes[0].knows::<R>(&[peer_at(2, nodes[0].address)]);
        eventually::<R>("it is told", || nodes[0].told("one of the two is a copy") == 1).await;
    });
}

async fn connect<R: Runtime>(node: &Node) -> Connection {
    Box::new(R::connect(&Address::Tcp(node.address)).await.unwrap())
}

fn garbage_harms_nobody<R: Executor>() {
    block_on::<R>(async || {
        let nodes = [1, 2].map(Node::new::<R>);
        let peers = nodes.each_ref().map(Node::as_peer);
        nodes.iter().for_each(|node| node.knows::<R>(&peers));
        heard::<R>(&nodes[0], &nodes[1], 1).await;
        let mut rng = Rng::new(1);
        let mut kept = Vec::new();
        for round in 0..100usize {
            let mut io = connect::<R>(&nodes[0]).await;
            let mut bytes = if round % 2 == 0 { b"CAIRNMEM".to_vec() } else { Vec::new() };
            bytes.extend((0..round * 10).map(|_| rng.next_u64().to_le_bytes()[0]));
            // It may be refused while it is still talking.
            io.write_all(&bytes).await.ok();
            if round % 3 == 0 {
                kept.push(io);
            }
        }
        heard::<R>(&nodes[0], &nodes[1], 2).await;
        heard::<R>(&nodes[1], &nodes[0], 3).await;
        eventually::<R>("all are refused", || nodes[0].peers.0.greetings.get() == 0).await;
        assert!(nodes[0].peers.0.counters.strangers() >= 90);
        assert_eq!(nodes[0].figures(MemberId(2)).disconnections, 0);
    });
}

/// Introduces itself as a member, by hand.
async fn introduce(io: &mut Connection, from: u64, to: u64) -> (Frames, Frame) {
    let hello = cairn_engine::peer::hello::Hello {
        versions: VERSIONS,
        purpose: Purpose::Messages,
        cluster: CLUSTER,
        from: MemberId(from),
        to: MemberId(to),
        incarnation: Incarnation(from * 100),
    };
    let mut out = Vec::new();
    hello.encode(&mut out);
    io.write_all(&out).await.unwrap();
    let mut frames = Frames::of_dialer();
    let answer = first_frame(io, &mut frames).await.unwrap();
    frames.allow(u32::MAX);
    (frames, answer)
}

fn a_bad_frame_ends_the_connection_and_nothing_else<R: Executor>() {
    block_on::<R>(async || {
        let node = Node::new::<R>(1);
        node.knows::<R>(&[nowhere(2)]);
        for round in 1..4 {
            let mut io = connect::<R>(&node).await;
            let (_, answer) = introduce(&mut io, 2, 1).await;
            assert!(matches!(answer, Frame::Welcome(_)));
            let mut out = Vec::new();
            encode_ping(1, &mut out);
            out[20] ^= 1;
            io.write_all(&out).await.unwrap();
            let mut rest = Vec::new();
            io.read_to_end(&mut rest).await.ok();
            eventually::<R>("it is counted", || {
                node.figures(MemberId(2)).receive_failures == round
            })
            .await;
        }
        // It is told once, though it happened again and again.
        assert_eq!(node.told("the body of a frame does not have its checksum"), 1);
        let mut io = connect::<R>(&node).await;
        assert!(matches!(introduce(&mut io, 2, 1).await.1, Frame::Welcome(_)));
    });
}

fn who_is_gone_is_told_from_who_only_hung_up<R: Executor>() {
    block_on::<R>(async || {
        let node = Node::new::<R>(1);
        // A plain socket, so that its end can be brought about at a moment: first it hangs up, then it is gone.
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        node.knows::<R>(&[peer_at(2, other.local_addr().unwrap())]);
        let mut io = connect::<R>(&node).await;
        assert!(matches!(introduce(&mut io, 2, 1).await.1, Frame::Welcome(_)));
        drop(io);
        eventually::<R>("it is lost", || !node.is_connected(MemberId(2))).await;
        pause::<R>(300).await;
        assert!(node.gone.borrow().is_empty(), "somebody listens there");
        let mut io = connect::<R>(&node).await;
        assert!(matches!(introduce(&mut io, 2, 1).await.1, Frame::Welcome(_)));
        drop((io, other));
        eventually::<R>("it is gone", || node.gone.borrow().contains(&MemberId(2))).await;
    });
}

fn append(from: MemberId, to: MemberId, data: &Bytes) -> Message {
    let entry = Entry::new(Index(1), Term(1), EntryKind::Command, data.clone());
    let (prev, commit) = (LogEnd::default(), Index(0));
    let body = RaftBody::Append { prev, commit, entries: vec![entry] };
    Message { from, to, known: Known::Unsure, body: Body::Raft { term: Term(1), body } }
}

fn heartbeat(from: MemberId, to: MemberId, round: u64) -> Message {
    let body = RaftBody::Heartbeat { commit: Index(0), round: Round(round) };
    Message { from, to, known: Known::Unsure, body: Body::Raft { term: Term(1), body } }
}

fn a_member_that_never_reads_costs_bounded_memory<R: Executor>() {
    block_on::<R>(async || {
        let node = Node::new::<R>(1);
        node.knows::<R>(&[nowhere(2)]);
        let mut io = connect::<R>(&node).await;
        assert!(matches!(introduce(&mut io, 2, 1).await.1, Frame::Welcome(_)));
        let data = Bytes::from(vec![1; 1 << 20]);
        for _ in 0..200 {
            node.peers.send::<R>(append(MemberId(1), MemberId(2), &data));
            for _ in 0..200 {
                node.peers.send::<R>(heartbeat(MemberId(1), MemberId(2), 1));
            }
        }
        // 64 MiB of one kind and 1 MiB of the other may wait, and a socket holds a few.
        let failures = node.figures(MemberId(2)).send_failures;
        assert!(failures > 100 + 30_000, "{failures} were dropped");
        // It goes on to talk, so it is not silent; but it takes nothing.
        let mut out = Vec::new();
        let end = "lost the connection with member 2: nothing can be sent";
        eventually::<R>("it is given up", || {
            out.clear();
            encode_ping(1, &mut out);
            let written = io.write_all(&out);
            let waker = core::task::Waker::noop();
            assert!(!matches!(pin!(written).poll(&mut Context::from_waker(waker)), Poll::Ready(Err(_)) if node.told(end) == 0));
            node.told(end) == 1
        })
        .await;
    });
}

fn part(from: MemberId, to: MemberId, offset: u64, bytes: usize) -> Message {
    let part = SnapshotPart {
        transfer: 1,
        place: LogEnd::default(),
        offset,
        bytes: Bytes::from(vec![2; bytes]),
        last: false,
    };
    Message { from, to, known: Known::Unsure, body: Body::SnapshotPart(part) }
}

fn parts_of_snapshots_have_a_connection_of_their_own<R: Executor>() {
    block_on::<R>(async || {
        let nodes = [1, 2].map(Node::new::<R>);
        let peers = nodes.each_ref().map(Node::as_peer);
        nodes.iter().for_each(|node| node.knows::<R>(&peers));
        heard::<R>(&nodes[0], &nodes[1], 1).await;
        for round in 0..2 {
            nodes[1].received.borrow_mut().clear();
            for number in 0..8 {
                nodes[0].peers.send::<R>(part(MemberId(1), MemberId(2), number << 18, 1 << 18));
            }
            eventually::<R>("all parts arrive", || nodes[1].received.borrow().len() == 8).await;
            let expected =
                (0..8).map(|number| part(MemberId(1), MemberId(2), number << 18, 1 << 18));
            assert!(nodes[1].received.take().into_iter().eq(expected), "round {round}");
            let bulk = |node: &Node, peer| {
                let links = node.peers.0.links.borrow();
                let link = Rc::clone(&links[&MemberId(peer)]);
                (link.holds(Lane::BulkOut), link.holds(Lane::BulkIn))
            };
            assert_eq!((bulk(&nodes[0], 2), bulk(&nodes[1], 1)), ((true, false), (false, true)));
            eventually::<R>("the connection ends when it is idle", || {
                bulk(&nodes[0], 2) == (false, false) && bulk(&nodes[1], 1) == (false, false)
            })
            .await;
        }
        assert_eq!(nodes[0].figures(MemberId(2)).disconnections, 0);
        // Where nobody listens they are dropped.
        nodes[0].knows::<R>(&[nowhere(2)]);
        nodes[0].peers.send::<R>(part(MemberId(1), MemberId(2), 0, 10));
        eventually::<R>("it is dropped", || nodes[0].figures(MemberId(2)).send_failures == 1).await;
    });
}

fn a_guest_is_let_in_and_answered<R: Executor>() {
    block_on::<R>(async || {
        let nodes = [1, 2].map(Node::new::<R>);
        nodes[1].knows::<R>(&[nodes[0].as_peer()]);
        heard::<R>(&nodes[1], &nodes[0], 1).await;
        heard::<R>(&nodes[0], &nodes[1], 2).await;
        // It is not remembered when it is gone.
        nodes[1].knows::<R>(&[]);
        let links = || nodes[0].peers.0.links.borrow().len();
        assert_eq!(links(), 1);
        let mut guests = Vec::new();
        for guest in 0..GUESTS_MAX + 1 {
            let mut io = connect::<R>(&nodes[0]).await;
            let id = u64::try_from(guest).unwrap() + 10;
            let (_, answer) = introduce(&mut io, id, 1).await;
            let is_one_too_many = guest >= GUESTS_MAX - 1;
            assert_eq!(answer == Frame::Refusal(Refusal::Crowded), is_one_too_many, "{guest}");
            guests.push(io);
        }
        drop(guests);
        eventually::<R>("they are forgotten", || links() == 1).await;
    });
}

fn a_url_that_wants_tls_goes_through_the_connector<R: Executor>() {
    block_on::<R>(async || {
        let (asked, hosts) = std::sync::mpsc::channel();
        let mut secure = settings(CLUSTER, 2);
        secure.peer_connector = Some(Connector::new(move |io, host| {
            asked.send(host.to_owned()).unwrap();
            Box::pin(async move { Ok(io) })
        }));
        let nodes = [Node::new::<R>(1), Node::with::<R>(secure, PACE)];
        let url = format!("https://localhost:{}", nodes[0].address.port());
        nodes[1].knows::<R>(&[Peer { id: MemberId(1), urls: vec![url] }]);
        heard::<R>(&nodes[1], &nodes[0], 1).await;
        assert_eq!(hosts.recv().unwrap(), "localhost");
    });
}

fn who_is_no_member_any_more_is_not_dialed<R: Executor>() {
    block_on::<R>(async || {
        let nodes = [1, 2].map(Node::new::<R>);
        let (address, wire) = wire_to::<R>(nodes[0].address);
        nodes[1].knows::<R>(&[peer_at(1, address)]);
        heard::<R>(&nodes[1], &nodes[0], 1).await;
        nodes[1].knows::<R>(&[]);
        // It may still be told that it is none.
        heard::<R>(&nodes[1], &nodes[0], 2).await;
        wire.set(Wire::Cut);
        eventually::<R>("it is forgotten", || nodes[1].peers.0.links.borrow().is_empty()).await;
        wire.set(Wire::Whole);
        pause::<R>(200).await;
        assert!(nodes[1].peers.0.links.borrow().is_empty());
        assert!(nodes[0].peers.0.links.borrow().is_empty());
        nodes[1].knows::<R>(&[peer_at(1, address)]);
        heard::<R>(&nodes[1], &nodes[0], 3).await;
    });
}

fn link(me: u64, peer: u64) -> Link {
    Link::new(MemberId(me), MemberId(peer), 0, &Arc::default())
}

#[test]
fn both_ends_keep_the_same_connection_whatever_comes_first() {
    // Two connections, dialed by either side; each end hears of them in its own order.
    let order = [[1, 2], [2, 1]];
    for (at_one, at_two) in order.into_iter().flat_map(|one| order.map(|two| (one, two))) {
        let kept = [(1, 2, at_one), (2, 1, at_two)].map(|(me, peer, dialers)| {
            let link = link(me, peer);
            let offers = dialers.map(|dialer| {
                (dialer, link.offer(Lane::Messages, MemberId(dialer), Incarnation(5), 0))
            });
            let waker = core::task::Waker::noop();
            let counts = |(dialer, number): (u64, Option<u64>)| {
                number
                    .is_some_and(|number| link.counts(Lane::Messages, number, waker))
                    .then_some(dialer)
            };
            offers.into_iter().filter_map(counts).collect::<BTreeSet<_>>()
        });
        assert_eq!(kept, [BTreeSet::from([2]), BTreeSet::from([2])], "{at_one:?} {at_two:?}");
    }
}

#[test]
fn a_later_connection_and_one_of_a_later_start_take_the_place() {
    let link = link(1, 2);
    let offer =
        |dialer, life| link.offer(Lane::Messages, MemberId(dialer), Incarnation(life), 0).is_some();
    assert!(offer(2, 5));
    assert!(!offer(1, 5), "the larger one dialed the other");
    assert!(offer(2, 5), "of two from one side the later stays");
    assert!(offer(1, 6), "that one was with a start that is over");
    assert!(offer(2, 6));
}

#[test]
fn what_is_urgent_overtakes_and_the_rest_keeps_its_order() {
    let link = link(1, 2);
    let (me, peer) = (MemberId(1), MemberId(2));
    link.offer(Lane::Messages, me, Incarnation(5), 0).unwrap();
    let large = Bytes::from(vec![0; 1 << 20]);
    let appends =
        [append(me, peer, &large), append(me, peer, &Bytes::new()), append(me, peer, &large)];
    for message in appends.iter().chain([&heartbeat(me, peer, 1), &heartbeat(me, peer, 2)]) {
        assert_eq!(link.push(Lane::Messages, message.clone(), 0), Pushed::Done);
    }
    let mut sent = Vec::new();
    loop {
        let mut out = Vec::new();
        link.fill(Lane::Messages, &mut out);
        if out.is_empty() {
            break;
        }
        let mut frames = Frames::of_dialer();
        frames.allow(u32::MAX);
        let mut rest = &out[..];
        let mut written = Vec::new();
        while !rest.is_empty() {
            let place = frames.place();
            let count = place.len().min(rest.len());
            place[..count].copy_from_slice(&rest[..count]);
            frames.filled(count);
            rest = &rest[count..];
            while let Some(frame) = frames.next().unwrap() {
                let Frame::Message(body) = frame else { panic!("a message") };
                written.push(decode(body, me, peer).unwrap());
            }
        }
        sent.push(written);
    }
    let [one, two, three] = appends;
    assert_eq!(sent, [vec![heartbeat(me, peer, 1), heartbeat(me, peer, 2), one], vec![two, three]]);
}
