//! How the tasks of a core speak to its driver.
//!
//! Everything here stays on one thread: a `RefCell` is borrowed only inside one function and never across an
//! `await`. A [`Handle`] is shared by the tasks of the core (connections, streams) and its driver.

use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::task::{Poll, Waker};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use cairn_engine::api::etcdserverpb::{ResponseHeader, WatchRequest};
use cairn_engine::api::{Error, Request, Response};
use cairn_engine::auth::{Auth, Author, Credential, Token};
use cairn_engine::cow::CowTree;
use cairn_engine::raft::Term;
use cairn_engine::state_machine::Alarms;
use cairn_engine::{
    ClusterId, ConnectionId, MemberId, RequestId, ShardInput, StreamId, Time, watch,
};

use super::peers::PeerAcceptor;

/// Where the answer to a request goes. Called on the core's thread, from the driver's turn: it may note the answer
/// and wake a task, no more.
pub trait Sink {
    /// Takes the answer to the request that the sink itself named `key`.
    fn deliver(&self, key: u64, result: Result<Response, Error>);
}

/// What has gathered for the driver's next turn.
#[derive(Debug)]
pub(super) enum Call {
    Request { id: RequestId, credential: Credential, request: Request },
    Shard(ShardInput),
    Stop,
}

/// The way to a core's driver, for tasks of that core; on behalf of somebody, which is nobody at first.
#[derive(Clone)]
pub struct Handle(Rc<Inner>, Credential);

struct Inner {
    core: u16,
    calls: RefCell<VecDeque<Call>>,
    driver: RefCell<Option<Waker>>,
    waiting: RefCell<Waiting>,
    streams: RefCell<BTreeMap<StreamId, Rc<Mail>>>,
    last_stream: Cell<u64>,
    last_connection: Cell<u64>,
    cluster: ClusterId,
    member: MemberId,
    standing: RefCell<Standing>,
    /// On core 0.
    peers: RefCell<Option<PeerAcceptor>>,
}

/// What the latest publication says.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    pub(super) revision: i64,
    pub(super) term: Term,
    pub(super) leader: MemberId,
    pub(super) alarms: Alarms,
    pub(super) is_learner: bool,
    pub(super) cluster_version: Arc<str>,
    pub(super) auth: Arc<Auth>,
    pub(super) tokens: CowTree<Token>,
}

/// Who waits for answers: places in a list, reused.
#[derive(Default)]
struct Waiting {
    places: Vec<Option<(Rc<dyn Sink>, u64)>>,
    free: Vec<u32>,
}

/// Responses on their way to a watch stream.
#[derive(Default)]
struct Mail {
    responses: RefCell<VecDeque<watch::Response>>,
    reader: RefCell<Option<Waker>>,
}

impl Handle {
    pub(super) fn new(core: u16, cluster: ClusterId, member: MemberId) -> Self {
        Self(
            Rc::new(Inner {
                core,
                calls: RefCell::default(),
                driver: RefCell::default(),
                waiting: RefCell::default(),
                streams: RefCell::default(),
                last_stream: Cell::new(0),
                last_connection: Cell::new(0),
                cluster,
                member,
                standing: RefCell::default(),
                peers: RefCell::default(),
            }),
            Credential::None,
        )
    }

    /// The same way, on behalf of whoever shows this.
    #[must_use]
    pub fn on_behalf_of(&self, credential: Credential) -> Self {
        Self(Rc::clone(&self.0), credential)
    }

    /// Asks the cluster something; the answer goes to `sink`, once, perhaps after the asker lost interest.
    pub fn call(&self, request: Request, sink: Rc<dyn Sink>, key: u64) {
        let place = self.0.waiting.borrow_mut().add(sink, key);
        let id = RequestId(u64::from(self.0.core) << CORE_SHIFT | u64::from(place));
        self.push(Call::Request { id, credential: self.1.clone(), request });
    }

    /// Asks the cluster something and waits for the answer.
    ///
    /// # Errors
    /// What the cluster says.
    pub async fn ask(&self, request: Request) -> Result<Response, Error> {
        let answer = Rc::new(Answer::default());
        self.call(request, answer.clone(), 0);
        poll_fn(|context| match answer.result.borrow_mut().take() {
            Some(result) => Poll::Ready(result),
            None => {
                *answer.waker.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    /// A name for a connection, whose watch streams share a credit.
    pub fn connection(&self) -> ConnectionId {
        let number = self.0.last_connection.get() + 1;
        self.0.last_connection.set(number);
        ConnectionId(number)
    }

    /// Opens a watch stream of a connection.
    pub fn watch(&self, connection: ConnectionId) -> WatchStream {
        let number = self.0.last_stream.get() + 1;
        self.0.last_stream.set(number);
        let id = StreamId(number);
        let mail = Rc::new(Mail::default());
        self.0.streams.borrow_mut().insert(id, mail.clone());
        self.push(Call::Shard(ShardInput::WatchOpened(id, connection, self.1.clone())));
        WatchStream { id, handle: self.clone(), mail }
    }

    /// The header of what this core answers now.
    pub fn header(&self) -> ResponseHeader {
        let standing = self.0.standing.borrow();
        ResponseHeader {
            cluster_id: self.0.cluster.0,
            member_id: self.0.member.0,
            revision: standing.revision,
            raft_term: standing.term.0,
        }
    }

    /// The member that leads, as far as this one knows.
    pub fn leader(&self) -> MemberId {
        self.0.standing.borrow().leader
    }

    /// The alarms that are raised.
    pub fn alarms(&self) -> Alarms {
        self.0.standing.borrow().alarms.clone()
    }

    /// Whether this member only learns.
    pub fn is_learner(&self) -> bool {
        self.0.standing.borrow().is_learner
    }

    /// The version that all members have at least, as `X.Y`; empty until it was agreed on.
    pub fn cluster_version(&self) -> Arc<str> {
        Arc::clone(&self.0.standing.borrow().cluster_version)
    }

    /// Users and roles, as this core knows them.
    pub fn auth(&self) -> Arc<Auth> {
        Arc::clone(&self.0.standing.borrow().auth)
    }

    /// The user that is known by a credential at `now`, by this core's clock; `None`: nobody is.
    pub fn user(&self, credential: &Credential, now_ns: u64) -> Option<Arc<str>> {
        let standing = self.0.standing.borrow();
        let now = Time::from_nanos(now_ns);
        match standing.auth.resolve(&standing.tokens, now, credential) {
            Ok(Author::User(identity)) => Some(identity.name),
            Ok(Author::Nobody | Author::Member) | Err(_) => None,
        }
    }

    /// Takes connections that other members have dialed; `None` but on core 0, where members' listeners belong.
    pub fn peer_acceptor(&self) -> Option<PeerAcceptor> {
        self.0.peers.borrow().clone()
    }

    /// Which core this is.
    pub fn core(&self) -> u16 {
        self.0.core
    }

    /// Ends the core's driver after its present turn. What was not answered will not be.
    pub fn stop(&self) {
        self.push(Call::Stop);
    }

    pub(super) fn push(&self, call: Call) {
        self.0.calls.borrow_mut().push_back(call);
        if let Some(driver) = self.0.driver.borrow_mut().take() {
            driver.wake();
        }
    }

    /// What has gathered, for the driver; if nothing has, the driver is woken when something does.
    pub(super) fn take_calls(&self, driver: &Waker) -> VecDeque<Call> {
        let calls = core::mem::take(&mut *self.0.calls.borrow_mut());
        if calls.is_empty() {
            *self.0.driver.borrow_mut() = Some(driver.clone());
        }
        calls
    }

    pub(super) fn set_peer_acceptor(&self, acceptor: PeerAcceptor) {
        *self.0.peers.borrow_mut() = Some(acceptor);
    }

    pub(super) fn set_standing(&self, standing: Standing) {
        *self.0.standing.borrow_mut() = standing;
    }

    /// Hands an answer to whoever waits for it.
    pub(super) fn deliver(&self, id: RequestId, result: Result<Response, Error>) {
        let (sink, key) = self.0.waiting.borrow_mut().remove(id);
        sink.deliver(key, result);
    }

    /// Hands a response to its stream; one that is gone needs none.
    pub(super) fn deliver_watch(&self, stream: StreamId, response: watch::Response) {
        let mail = self.0.streams.borrow().get(&stream).cloned();
        if let Some(mail) = mail {
            mail.responses.borrow_mut().push_back(response);
            if let Some(reader) = mail.reader.borrow_mut().take() {
                reader.wake();
            }
        }
    }
}

impl core::fmt::Debug for Handle {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Handle").field("core", &self.0.core).finish_non_exhaustive()
    }
}

/// The upper bits of a request's id name the core that asked.
const CORE_SHIFT: u32 = 48;

/// Which core asked.
pub(super) fn core_of(id: RequestId) -> u16 {
    u16::try_from(id.0 >> CORE_SHIFT).expect("sixteen bits are left")
}

impl Waiting {
    fn add(&mut self, sink: Rc<dyn Sink>, key: u64) -> u32 {
        if let Some(place) = self.free.pop() {
            self.places[place_in_memory(place)] = Some((sink, key));
            return place;
        }
        self.places.push(Some((sink, key)));
        u32::try_from(self.places.len() - 1).expect("requests are limited by memory")
    }

    fn remove(&mut self, id: RequestId) -> (Rc<dyn Sink>, u64) {
        let place = u32::try_from(id.0 & u64::from(u32::MAX)).expect("masked");
        self.free.push(place);
        self.places[place_in_memory(place)].take().expect("a request is answered once")
    }
}

fn place_in_memory(place: u32) -> usize {
    usize::try_from(place).expect("64 bits")
}

#[derive(Default)]
struct Answer {
    result: RefCell<Option<Result<Response, Error>>>,
    waker: RefCell<Option<Waker>>,
}

impl Sink for Answer {
    fn deliver(&self, _key: u64, result: Result<Response, Error>) {
        *self.result.borrow_mut() = Some(result);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// A client's watch stream. Dropping it closes it.
pub struct WatchStream {
    id: StreamId,
    handle: Handle,
    mail: Rc<Mail>,
}

impl WatchStream {
    /// Says something on behalf of the client.
    pub fn send(&self, request: WatchRequest) {
        self.handle.push(Call::Shard(ShardInput::Watch { stream: self.id, request }));
    }

    /// Waits for what the client is to be sent next.
    pub async fn receive(&self) -> watch::Response {
        poll_fn(|context| match self.mail.responses.borrow_mut().pop_front() {
            Some(response) => Poll::Ready(response),
            None => {
                *self.mail.reader.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    /// What the client is to be sent next, if it is there already.
    pub fn try_receive(&self) -> Option<watch::Response> {
        self.mail.responses.borrow_mut().pop_front()
    }

    /// Notes that so many bytes of responses have left.
    pub fn sent(&self, bytes: usize) {
        self.handle.push(Call::Shard(ShardInput::WatchCredit { stream: self.id, bytes }));
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.handle.0.streams.borrow_mut().remove(&self.id);
        self.handle.push(Call::Shard(ShardInput::WatchClosed(self.id)));
    }
}

impl core::fmt::Debug for WatchStream {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("WatchStream").field("id", &self.id).finish_non_exhaustive()
    }
}
