//! The links to the other members, on core 0.
//!
//! Between two members there is one connection for messages, used both ways, and while a snapshot is on its way one more
//! for its parts, so that megabytes never delay a heartbeat. The engine says who the members are, what to send to whom,
//! and is handed what they say. It takes loss, doubles and disorder for granted; so nothing is kept for a member that
//! cannot be reached, and what no room is left for is dropped, whole messages at a time.
//!
//! ```text
//!   driver's turn                    tasks of this core
//!  ┌────────────┐ send   ┌──────┐   ┌─────────┐        ┌──────────────┐
//!  │ Member     │ ─────► │ Link │ ◄─│ Session │ ◄────► │ a connection  │
//!  │            │        └──────┘   └─────────┘        └──────────────┘
//!  │            │ ◄──────── Inbox ◄─────┘    ▲ begins
//!  └────────────┘                 keeper (dials), greet (accepts)
//! ```
//!
//! | file | what |
//! |---|---|
//! | mod.rs | who there is a link to, and the way in and out for the driver |
//! | link.rs | what is known of one member: which connection counts, and what waits to be sent |
//! | session.rs | a connection that both ends have agreed on |
//! | dial.rs | when to dial whom, and how |
//! | greet.rs | connections that others have dialed |
//! | inbox.rs | what has arrived and waits for the driver |
//! | url.rs, names.rs | where a member is: its URLs, and addresses of names |
//! | counters.rs | numbers for metrics |
//!
//! # Which connection counts
//!
//! Either side can dial, since a URL may be of use from one side only. Two rules keep it at one connection:
//!
//! - D1 A member dials another only while it has no connection with it; the one with the smaller id only when that has
//!   been so for [`Pace::patience`].
//! - D2 If there are two nevertheless, because both dialed at once, both ends keep the one that the larger id dialed; of
//!   two from the same side, the later. A connection with a start of a member that is over never counts against one
//!   with its present start.
//!
//! It cannot flap. Both ends decide D2 from the same facts (who dialed, which starts), so they keep the same one; and
//! while they have it nobody dials (D1). A side that has lost it without the other noticing (a cable, not a process) is
//! refused for as long as the other believes in the old one, which silence ends ([`Pace::silence`]).
//!
//! # Who is gone
//!
//! When a connection ends, both sides look at once whether anybody still listens there ([`dial`]). If not, the process is
//! gone, and the engine is told ([`Input::PeerDown`]): followers need not wait an election timeout for such a leader.
//!
//! # Guests
//!
//! Who is of this cluster and no member that we know of is let in as well: it may have joined or been removed without
//! this member having heard of it, and if it was removed, this is how it learns that. It is never dialed. There are at
//! most [`GUESTS_MAX`].
//!
//! # Limits
//!
//! A snapshot needs a connection from the sender; where only the receiver can dial, none is sent.

mod counters;
mod dial;
mod greet;
mod inbox;
mod link;
mod names;
mod session;
#[cfg(test)]
mod tests;
mod url;

use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::{Future, poll_fn};
use core::pin::{Pin, pin};
use core::task::{Context, Poll};
use core::time::Duration;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use cairn_engine::event::Peer;
use cairn_engine::peer::codec::weight_bytes;
use cairn_engine::peer::{Incarnation, Message};
use cairn_engine::{ClusterId, Config, Input, MemberId, Rng};

pub use counters::{PeerCounters, PeerFigures, RoundTrips};

use self::inbox::Inbox;
use self::link::{Lane, Link, Pushed};
use self::url::PeerUrl;
use super::core_loop::Observer;
use super::{Notice, Settings};
use crate::clock::saturating_ns;
use crate::runtime::{Connection, Runtime};

/// Members without an address here that may have connections; see the chapter.
const GUESTS_MAX: usize = 32;
/// Connections that may be about to introduce themselves.
const GREETINGS_MAX: usize = 64;
/// Of so many strangers it is remembered what they were told.
const REFUSED_MAX: usize = 64;
/// A frame may have at least so many bytes, whatever requests are allowed here: another member may allow more.
const FRAME_BYTES_MIN: usize = 64 << 20;

/// What operators may want to know about links. Nothing repeats itself while nothing changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerNotice {
    /// There is a connection for messages.
    Connected {
        /// With whom.
        peer: MemberId,
        /// Whether it was dialed from here.
        dialed: bool,
    },
    /// It is gone.
    Lost {
        /// With whom it was.
        peer: MemberId,
        /// Why.
        why: String,
    },
    /// A member cannot be reached; it is tried for ever.
    Unreachable {
        /// Who.
        peer: MemberId,
        /// Why.
        why: String,
    },
    /// Somebody who dialed was refused.
    Refused {
        /// Who it says it is; none, if it did not come to that.
        peer: MemberId,
        /// Why.
        why: String,
    },
}

/// Makes a connection secret and its other end certain, for URLs that want TLS. Called with the connection and the host.
#[derive(Clone)]
pub struct Connector(Arc<Secure>);

/// What a [`Connector`] does.
type Secure = dyn Fn(Connection, &str) -> Securing + Send + Sync;

/// A connection that is becoming secret.
pub type Securing = Pin<Box<dyn Future<Output = io::Result<Connection>>>>;

impl Connector {
    /// One that does this.
    pub fn new(secure: impl Fn(Connection, &str) -> Securing + Send + Sync + 'static) -> Self {
        Self(Arc::new(secure))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

/// Takes connections that other members have dialed. For tasks of core 0.
#[derive(Clone)]
pub struct PeerAcceptor(Rc<dyn Fn(Connection, Bytes)>);

impl PeerAcceptor {
    /// Takes a connection of which `first` was read already, because
    /// [`is_peer`](cairn_engine::peer::hello::is_peer) said that it is a member's.
    pub fn adopt(&self, connection: Connection, first: Bytes) {
        (self.0)(connection, first);
    }
}

impl fmt::Debug for PeerAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerAcceptor").finish_non_exhaustive()
    }
}

/// How long things take, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// How long to wait for the other side before dialing although it should. Long enough that it is not done when
    /// members merely start one after the other, short enough that an election does not wait for it often.
    patience: u64,
    /// How long connecting, TLS and greeting may take in all.
    dial: u64,
    /// The first pause between two attempts, and the longest.
    pause: (u64, u64),
    /// How often each side says something, whether or not there is anything to say.
    ping: u64,
    /// A connection without a byte for so long is dead, and so is one that takes no byte for so long.
    silence: u64,
    /// How long a connection for parts of snapshots is kept without any.
    bulk_idle: u64,
}

impl Pace {
    fn new(election_timeout: Duration) -> Self {
        let election = saturating_ns(election_timeout);
        Self {
            patience: saturating_ns(Duration::from_secs(1)),
            // etcd's: a second for the network, and as long as a member may be busy without being given up.
            dial: saturating_ns(Duration::from_secs(1)).saturating_add(election),
            pause: (
                saturating_ns(Duration::from_millis(50)),
                saturating_ns(Duration::from_secs(1)),
            ),
            ping: saturating_ns(PING),
            silence: election.saturating_mul(3).max(3 * saturating_ns(PING)),
            bulk_idle: saturating_ns(Duration::from_secs(10)),
        }
    }
}

/// One round trip is measured each second; a stream of them would only measure itself.
const PING: Duration = Duration::from_secs(1);

/// All links of this member. Dropping it ends them.
pub(super) struct Peers(Rc<Shared>);

/// What the tasks of the links share.
struct Shared {
    cluster: ClusterId,
    me: MemberId,
    incarnation: Incarnation,
    pace: Pace,
    /// Longer bodies of frames are neither sent nor read.
    frame_bytes_max: u32,
    links: RefCell<BTreeMap<MemberId, Rc<Link>>>,
    inbox: Inbox,
    /// Nobody takes what is said any more.
    is_over: Cell<bool>,
    /// Connections that are about to introduce themselves.
    greetings: Cell<usize>,
    /// What strangers were told last.
    refused: RefCell<BTreeMap<MemberId, String>>,
    rng: RefCell<Rng>,
    counters: Arc<PeerCounters>,
    connector: Option<Connector>,
    observer: Observer,
}

impl Peers {
    /// Without any link.
    pub(super) fn new(settings: &Settings, observer: Observer) -> Self {
        let Config { cluster, id, ref lives, election_timeout, ref limits, seed, .. } =
            settings.engine;
        let needed = limits.append_bytes_max.max(limits.request_bytes_max.saturating_mul(2));
        let frame_bytes_max = needed.saturating_add(1 << 20).max(FRAME_BYTES_MIN);
        Self(Rc::new(Shared {
            cluster,
            me: id,
            incarnation: lives.now,
            pace: Pace::new(election_timeout),
            frame_bytes_max: u32::try_from(frame_bytes_max).unwrap_or(u32::MAX),
            links: RefCell::default(),
            inbox: Inbox::default(),
            is_over: Cell::new(false),
            greetings: Cell::new(0),
            refused: RefCell::default(),
            rng: RefCell::new(Rng::new(seed).fork()),
            counters: Arc::clone(&settings.peer_counters),
            connector: settings.peer_connector.clone(),
            observer,
        }))
    }

    /// Where connections go that others have dialed.
    pub(super) fn acceptor<R: Runtime>(&self) -> PeerAcceptor {
        let shared = Rc::clone(&self.0);
        PeerAcceptor(Rc::new(move |connection, first| {
            R::spawn(greet::greet::<R>(Rc::clone(&shared), connection, first));
        }))
    }

    /// Connects to these and to no others.
    pub(super) fn set<R: Runtime>(&self, peers: &[Peer]) {
        let shared = &self.0;
        let others = shared.links.borrow().values().map(Rc::clone).collect::<Vec<_>>();
        for link in others {
            if !peers.iter().any(|peer| peer.id == link.peer()) {
                link.set_guest();
                shared.forget_if_unused(&link);
            }
        }
        for peer in peers.iter().filter(|peer| peer.id != shared.me) {
            let link = shared.link(peer.id, R::now());
            let urls = peer.urls.iter().map(|url| PeerUrl::parse(url)).collect();
            if link.set_member(urls) {
                R::spawn(dial::keep::<R>(Rc::clone(shared), link));
            }
        }
    }

    /// Sends a message, or drops it.
    pub(super) fn send<R: Runtime>(&self, message: Message) {
        let shared = &self.0;
        let link = shared.links.borrow().get(&message.to).map(Rc::clone);
        let Some(link) = link else { return };
        if u32::try_from(weight_bytes(&message))
            .map_or(true, |bytes| bytes > shared.frame_bytes_max)
        {
            link.dropped(1);
            let peer = link.peer();
            let why = "a message is longer than members send to each other".to_owned();
            return shared.tell_once(&link, PeerNotice::Unreachable { peer, why });
        }
        let lane = if message.body.is_bulk() { Lane::BulkOut } else { Lane::Messages };
        if link.push(lane, message, R::now()) == Pushed::WantsBulk {
            R::spawn(dial::send_bulk::<R>(Rc::clone(shared), link));
        }
    }

    /// What has arrived; if nothing has, the driver is woken when something does.
    pub(super) fn take_received(&self, context: &Context<'_>) -> Vec<Input> {
        self.0.inbox.take(context.waker())
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.0.is_over.set(true);
        self.0.links.take().into_values().for_each(|link| link.end());
    }
}

impl Shared {
    /// The link to a member, new if there is none.
    fn link(&self, peer: MemberId, now: u64) -> Rc<Link> {
        let mut links = self.links.borrow_mut();
        let new = || Rc::new(Link::new(self.me, peer, now, &self.counters));
        Rc::clone(links.entry(peer).or_insert_with(new))
    }

    /// The link to whoever has dialed; `None` if there are guests enough.
    fn link_of_dialer(&self, peer: MemberId, now: u64) -> Option<Rc<Link>> {
        if self.is_over.get() {
            return None;
        }
        let known = self.links.borrow().get(&peer).map(Rc::clone);
        if known.is_some() {
            return known;
        }
        let guests = self.links.borrow().values().filter(|link| !link.is_member()).count();
        (guests < GUESTS_MAX).then(|| self.link(peer, now))
    }

    /// Forgets a guest that has no connection any more.
    fn forget_if_unused(&self, link: &Rc<Link>) {
        if !link.is_member() && !link.is_connected() {
            self.links.borrow_mut().remove(&link.peer());
        }
    }

    fn tell(&self, notice: PeerNotice) {
        (self.observer)(Notice::Peer(notice));
    }

    /// Tells what was not told since there was last a connection.
    fn tell_once(&self, link: &Link, notice: PeerNotice) {
        if link.is_news(&notice) {
            self.tell(notice);
        }
    }

    /// Tells that somebody was refused, unless it was told the same before.
    fn tell_refused(&self, peer: MemberId, why: String) {
        let mut refused = self.refused.borrow_mut();
        if refused.get(&peer) == Some(&why) {
            return;
        }
        if refused.len() >= REFUSED_MAX {
            refused.clear();
        }
        refused.insert(peer, why.clone());
        drop(refused);
        self.tell(PeerNotice::Refused { peer, why });
    }

    /// A pause of about this length: members that lost each other at once do not meet again and again.
    fn jitter(&self, pause: u64) -> u64 {
        pause / 2 + self.rng.borrow_mut().below(pause / 2 + 1)
    }
}

/// Waits for a future, but not longer than until `deadline`.
async fn until<R: Runtime, T>(deadline: u64, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut limit = pin!(R::sleep_until(deadline));
    poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        limit.as_mut().poll(context).map(|()| None)
    })
    .await
}

impl fmt::Display for PeerNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { peer, dialed: true } => write!(f, "connected to member {peer}"),
            Self::Connected { peer, dialed: false } => write!(f, "member {peer} has connected"),
            Self::Lost { peer, why } => write!(f, "lost the connection with member {peer}: {why}"),
            Self::Unreachable { peer, why } => write!(f, "cannot reach member {peer}: {why}"),
            Self::Refused { peer, why } if peer.is_some() => {
                write!(f, "refused a connection from member {peer}: {why}")
            }
            Self::Refused { why, .. } => write!(f, "refused a connection: {why}"),
        }
    }
}
