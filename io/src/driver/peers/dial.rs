//! Dialing: when to dial whom, and the dialer's part of the greeting.

use core::time::Duration;
use std::io;
use std::rc::Rc;

use cairn_engine::peer::frame::{Frame, Frames};
use cairn_engine::peer::hello::{Hello, Purpose, Refusal, VERSIONS, Welcome};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::link::{Lane, Link, Moment};
use super::session::Session;
use super::url::{PeerUrl, Place};
use super::{PeerNotice, Shared, until};
use crate::runtime::{Address, Connection, Runtime};

/// Keeps a connection for messages with a member, for as long as it is one.
pub(super) async fn keep<R: Runtime>(shared: Rc<Shared>, link: Rc<Link>) {
    let mut dialer = Dialer::new(&shared, &link);
    let (pause_min, pause_max) = shared.pace.pause;
    let (mut pause, mut not_before) = (pause_min, 0);
    loop {
        let now = R::now();
        match link.moment(shared.pace.patience) {
            Moment::Never => return shared.forget_if_unused(&link),
            Moment::Connected => {
                link.changed().await;
                // Who dials first finds out by dialing.
                let waits = shared.me < link.peer() && !link.is_connected();
                if waits && dialer.is_gone::<R>().await {
                    shared.inbox.push_down(link.peer());
                }
                // Whoever lets in and closes at once must not be dialed without a pause.
                if R::now().saturating_sub(now) >= pause_max {
                    pause = pause_min;
                }
                continue;
            }
            Moment::From(from) if from.max(not_before) > now => {
                until::<R, _>(from.max(not_before), link.changed()).await;
                continue;
            }
            Moment::From(_) => {}
        }
        match dialer.dial::<R>(Purpose::Messages).await {
            Ok(greeted) => {
                if let Some(session) = greeted.into_session::<R>(&shared, &link, Lane::Messages) {
                    R::spawn(session.run::<R>(true));
                }
            }
            Err(Undialed::Duplicate) => {}
            Err(undialed @ (Undialed::Gone(_) | Undialed::Failed(_))) => {
                if matches!(undialed, Undialed::Gone(_)) {
                    shared.inbox.push_down(link.peer());
                }
                undialed.tell(&shared, &link);
            }
        }
        not_before = R::now().saturating_add(shared.jitter(pause));
        pause = (pause * 2).min(pause_max);
    }
}

/// Dials for parts of snapshots, and sends them while there are any.
pub(super) async fn send_bulk<R: Runtime>(shared: Rc<Shared>, link: Rc<Link>) {
    let mut pause = 0;
    match Dialer::new(&shared, &link).dial::<R>(Purpose::Bulk).await {
        Ok(greeted) => {
            if let Some(session) = greeted.into_session::<R>(&shared, &link, Lane::BulkOut) {
                session.run::<R>(true).await;
            }
        }
        Err(Undialed::Duplicate) => {}
        Err(undialed @ (Undialed::Gone(_) | Undialed::Failed(_))) => {
            pause = shared.pace.pause.1;
            undialed.tell(&shared, &link);
        }
    }
    link.bulk_ended(R::now().saturating_add(pause));
}

struct Dialer<'a> {
    shared: &'a Shared,
    link: &'a Link,
    /// Which URL to begin with.
    next: usize,
}

/// A connection whose other end has said who it is.
struct Greeted {
    io: Connection,
    frames: Frames,
    welcome: Welcome,
}

enum Undialed {
    /// There is a connection already, and the other end keeps that.
    Duplicate,
    /// Nobody listens at any of its addresses: its process is gone.
    Gone(String),
    Failed(String),
}

impl Undialed {
    fn tell(self, shared: &Shared, link: &Link) {
        let (Self::Gone(why) | Self::Failed(why)) = self else { return };
        shared.tell_once(link, PeerNotice::Unreachable { peer: link.peer(), why });
    }
}

impl Greeted {
    /// The session, unless another connection counts.
    fn into_session<R: Runtime>(
        mut self,
        shared: &Rc<Shared>,
        link: &Rc<Link>,
        lane: Lane,
    ) -> Option<Session> {
        let number = link.offer(lane, shared.me, self.welcome.incarnation, R::now())?;
        self.frames.allow(shared.frame_bytes_max);
        let (shared, link) = (Rc::clone(shared), Rc::clone(link));
        let Self { io, frames, .. } = self;
        Some(Session { shared, link, lane, number, io, frames, out: Vec::new() })
    }
}

impl<'a> Dialer<'a> {
    fn new(shared: &'a Shared, link: &'a Link) -> Self {
        Self { shared, link, next: 0 }
    }

    /// Tries each URL and each of its addresses once, beginning with the URL that was good last.
    async fn dial<R: Runtime>(&mut self, purpose: Purpose) -> Result<Greeted, Undialed> {
        let urls = self.link.urls();
        let mut failed = "it has no address".to_owned();
        let mut is_gone = !urls.is_empty();
        for attempt in 0..urls.len() {
            let place = (self.next + attempt) % urls.len();
            let url = &urls[place];
            let deadline = R::now().saturating_add(self.shared.pace.dial);
            let addresses = match self.addresses::<R>(url, deadline).await {
                Ok(addresses) => addresses,
                Err(error) => {
                    failed = format!("{url}: {error}");
                    is_gone = false;
                    continue;
                }
            };
            for address in addresses {
                let deadline = R::now().saturating_add(self.shared.pace.dial);
                let greeting = self.greet::<R>(url, &address, purpose);
                match until::<R, _>(deadline, greeting).await {
                    Some(Ok(greeted)) => {
                        self.next = place;
                        return Ok(greeted);
                    }
                    Some(Err(Undialed::Duplicate)) => return Err(Undialed::Duplicate),
                    Some(Err(Undialed::Gone(why))) => failed = format!("{url}: {why}"),
                    Some(Err(Undialed::Failed(why))) => {
                        failed = format!("{url}: {why}");
                        is_gone = false;
                    }
                    None => {
                        failed = format!("{url}: no answer");
                        is_gone = false;
                    }
                }
            }
        }
        Err(if is_gone { Undialed::Gone(failed) } else { Undialed::Failed(failed) })
    }

    /// Whether nobody listens where the member did, at none of its addresses: its process is gone.
    async fn is_gone<R: Runtime>(&self) -> bool {
        let deadline = R::now().saturating_add(LOOK_NS);
        let mut refused = false;
        for url in self.link.urls().iter() {
            let Ok(addresses) = self.addresses::<R>(url, deadline).await else { return false };
            for address in addresses {
                if until::<R, _>(deadline, refuses::<R>(&address)).await != Some(true) {
                    return false;
                }
                refused = true;
            }
        }
        refused
    }

    async fn addresses<R: Runtime>(
        &self,
        url: &PeerUrl,
        deadline: u64,
    ) -> io::Result<Vec<Address>> {
        match &url.place {
            Place::Tcp { host, port } => {
                let addresses = self.link.names().addresses::<R>(host, *port, deadline).await?;
                Ok(addresses.into_iter().map(Address::Tcp).collect())
            }
            Place::Unix(path) => Ok(vec![Address::Unix(path.clone())]),
            Place::Unknown(_) => Err(io::Error::other("this is no URL of a member")),
        }
    }

    /// Connects and introduces itself.
    async fn greet<R: Runtime>(
        &self,
        url: &PeerUrl,
        address: &Address,
        purpose: Purpose,
    ) -> Result<Greeted, Undialed> {
        let connected = R::connect(address).await;
        let io: Connection = Box::new(connected.map_err(|error| {
            let (refused, why) = (is_refusal(&error), error.to_string());
            if refused { Undialed::Gone(why) } else { Undialed::Failed(why) }
        })?);
        let mut io = match (&self.shared.connector, url.is_tls) {
            (_, false) => io,
            (Some(connector), true) => (connector.0)(io, url.host()).await?,
            (None, true) => return Err(Undialed::Failed("this member has no TLS".to_owned())),
        };
        let Shared { cluster, me, incarnation, .. } = *self.shared;
        let to = self.link.peer();
        let hello = Hello { versions: VERSIONS, purpose, cluster, from: me, to, incarnation };
        let mut out = Vec::new();
        hello.encode(&mut out);
        io.write_all(&out).await?;
        io.flush().await?;
        let mut frames = Frames::of_dialer();
        match first_frame(&mut io, &mut frames).await? {
            Frame::Welcome(welcome) if welcome.from == to => Ok(Greeted { io, frames, welcome }),
            Frame::Refusal(Refusal::Duplicate) => Err(Undialed::Duplicate),
            Frame::Refusal(refusal) => Err(Undialed::Failed(format!("refused: {refusal}"))),
            Frame::Welcome(_)
            | Frame::Hello(_)
            | Frame::Message(_)
            | Frame::Ping(_)
            | Frame::Pong(_) => Err(Undialed::Failed("that is no answer to a greeting".to_owned())),
        }
    }
}

/// How long to look whether a member is gone. The listener of a process that was killed is closed by the kernel a moment
/// after its connections.
const LOOK_NS: u64 = 200_000_000;

/// Ready when nobody listens at an address; true then. A connection that is made, and ended at once by the other side, is
/// made by the kernel for a process that is about to be gone. One that stays is somebody.
async fn refuses<R: Runtime>(address: &Address) -> bool {
    loop {
        match R::connect(address).await {
            Err(error) => return is_refusal(&error),
            Ok(mut stream) => {
                // A member says nothing before it is greeted.
                if stream.read_u8().await.is_ok() {
                    return false;
                }
            }
        }
        R::sleep(LOOK_AGAIN).await;
    }
}

/// Whether an error says that nobody listens.
fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
}

/// Pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Reads until there is a frame.
pub(super) async fn first_frame(io: &mut Connection, frames: &mut Frames) -> io::Result<Frame> {
    loop {
        let malformed = |malformed| io::Error::new(io::ErrorKind::InvalidData, malformed);
        if let Some(frame) = frames.next().map_err(malformed)? {
            return Ok(frame);
        }
        let count = io.read(frames.place()).await?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed without an answer"));
        }
        frames.filled(count);
    }
}

impl From<io::Error> for Undialed {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}
