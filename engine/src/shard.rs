//! One core's face to its clients: reads from the latest view, and the watches of its connections.
//!
//! A shard never changes the key space. The replica publishes views of it; a linearizable read waits until the
//! view includes everything that was committed when the read arrived. The reads of one turn ask together.
//!
//! The view is lent for each step and not kept: on the replica's own core it is the replica's ([`Replica::view`]),
//! and as long as nobody keeps a second handle on the key space, writing to it copies nothing.
//!
//! [`Replica::view`]: crate::Replica::view

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::api::check::is_serializable;
use crate::api::etcdserverpb::{ResponseHeader, WatchRequest};
use crate::api::response::RangeAnswer;
use crate::api::{Error, Request, Response};
use crate::auth::{Act, Auth, Author, Credential, Token};
use crate::config::Limits;
use crate::cow::CowTree;
use crate::event::{Publication, ReadIndexAnswer, ShardInput, ShardOutput};
use crate::ids::{ClusterId, MemberId, RequestId, StreamId};
use crate::mvcc::{View, txn};
use crate::raft::{Index, Term};
use crate::range_stream::RangeStream;
use crate::time::Time;
use crate::watch::Hub;

/// What a shard is told when it starts.
#[derive(Clone, Copy, Debug)]
pub struct ShardConfig {
    /// The cluster, for headers.
    pub cluster: ClusterId,
    /// The member, for headers.
    pub member: MemberId,
    /// What bounds work and memory.
    pub limits: Limits,
    /// Seeds the jitter of progress notifications.
    pub seed: u64,
}

/// Reads that learn together from where on they are current.
#[derive(Debug)]
struct Batch {
    token: u64,
    /// What the view must include, once it is known.
    index: Option<Index>,
    reads: Vec<Read>,
}

/// A read, and for whom.
#[derive(Debug)]
struct Read {
    id: RequestId,
    credential: Credential,
    request: Request,
}

/// Who has opened a watch stream.
#[derive(Debug)]
struct Watcher {
    credential: Credential,
    /// Who that was found to be when it first created a watcher: a token that ends later ends none.
    author: Option<Author>,
}

/// Something whose token was assigned by an entry that is not applied here yet: the client has it from another member.
#[derive(Debug)]
struct Parked {
    needs: Index,
    deadline: Time,
    input: ShardInput,
}

/// How long an unknown token is waited for: as long as a member may lag that is well. etcd waits as long as the client.
pub(crate) const TOKEN_WAIT: Duration = Duration::from_secs(2);
/// How many may wait so at once. With more, somebody makes up tokens.
pub(crate) const PARKED_MAX: usize = 1024;

/// What the latest publication said beside the key space.
#[derive(Clone, Copy, Debug)]
struct Standing {
    applied: Index,
    term: Term,
}

/// The clients of one core. See the crate's contract for how to drive it.
#[derive(Debug)]
pub struct Shard {
    config: ShardConfig,
    standing: Standing,
    /// Reads that arrived since the last poll.
    gathering: Vec<Read>,
    /// Reads that asked, oldest first.
    asked: VecDeque<Batch>,
    last_token: u64,
    hub: Hub,
    streams: BTreeMap<StreamId, Watcher>,
    auth: Arc<Auth>,
    tokens: CowTree<Token>,
    /// Tokens of which the replica was told that they were used, since the last publication.
    used: BTreeSet<u64>,
    /// Oldest first.
    parked: VecDeque<Parked>,
    /// Something could not be read: nothing that follows from it may leave. The replica stops the member.
    damaged: bool,
    outputs: VecDeque<ShardOutput>,
}

impl Shard {
    /// A shard that begins with a first publication.
    pub fn new(config: ShardConfig, first: &Publication) -> Self {
        Self {
            config,
            standing: Standing { applied: first.applied, term: first.term },
            gathering: Vec::new(),
            asked: VecDeque::new(),
            last_token: 0,
            damaged: false,
            hub: Hub::new(config.limits, config.seed, first.view.revision()),
            streams: BTreeMap::new(),
            auth: Arc::clone(&first.auth),
            tokens: first.tokens.clone(),
            used: BTreeSet::new(),
            parked: VecDeque::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Takes an input. `view` is that of the latest publication; if that is the input, of this one.
    ///
    /// What follows from it comes out of [`Shard::poll`].
    pub fn step(&mut self, now: Time, view: &View, input: ShardInput) {
        // Until the state is here that this member has lost, nobody is known.
        let least = u64::from(self.auth.is_unknown());
        let needs = self.credential_of(&input).map_or(0, |it| it.needs().max(least));
        let needs = Index(needs);
        if needs > self.standing.applied && self.parked.len() < PARKED_MAX {
            return self.parked.push_back(Parked { needs, deadline: now + TOKEN_WAIT, input });
        }
        self.take(now, view, input);
        self.damaged |= view.damage().is_some();
    }

    /// The credential by which an input is to be judged.
    fn credential_of<'a>(&'a self, input: &'a ShardInput) -> Option<&'a Credential> {
        match input {
            ShardInput::Request { credential, .. } => Some(credential),
            ShardInput::Watch { stream, .. } => {
                self.streams.get(stream).map(|watcher| &watcher.credential)
            }
            ShardInput::Wake
            | ShardInput::Published(_)
            | ShardInput::ReadIndex(_)
            | ShardInput::WatchOpened(..)
            | ShardInput::WatchCredit { .. }
            | ShardInput::WatchClosed(_) => None,
        }
    }

    fn take(&mut self, now: Time, view: &View, input: ShardInput) {
        match input {
            ShardInput::Wake => {
                self.hub.wake(now, view);
                self.unpark(now, view);
            }
            ShardInput::Request { id, credential, request } => {
                let read = Read { id, credential, request };
                if is_local(&read.request) {
                    self.answer(now, view, read);
                } else {
                    self.gathering.push(read);
                }
            }
            ShardInput::Published(publication) => self.published(now, view, &publication),
            ShardInput::ReadIndex(answer) => self.read_index(now, view, answer),
            ShardInput::WatchOpened(stream, connection, credential) => {
                self.hub.open(stream, connection);
                self.streams.insert(stream, Watcher { credential, author: None });
            }
            ShardInput::Watch { stream, request } => self.watch(now, stream, request),
            ShardInput::WatchCredit { stream, bytes } => self.hub.credit(stream, bytes),
            ShardInput::WatchClosed(stream) => {
                self.hub.close(stream);
                self.streams.remove(&stream);
            }
        }
    }

    /// Goes on with what waited for its token long enough, or waits for none any more.
    fn unpark(&mut self, now: Time, view: &View) {
        let applied = self.standing.applied;
        let is_due = |parked: &Parked| parked.needs <= applied || parked.deadline <= now;
        let (due, parked): (VecDeque<_>, _) =
            core::mem::take(&mut self.parked).into_iter().partition(is_due);
        self.parked = parked;
        for Parked { input, .. } in due {
            self.take(now, view, input);
        }
    }

    /// Who shows this; notes that a token was used.
    fn resolve(&mut self, now: Time, credential: &Credential) -> Result<Author, Error> {
        let author = self.auth.resolve(&self.tokens, now, credential)?;
        if let Credential::Token(id) = credential {
            let ttl = self.config.limits.token_ttl;
            let token = self.tokens.get(&id.index);
            let told = token.is_none_or(|token| !token.is_to_be_told(now, ttl));
            if !told && self.used.insert(id.index) {
                self.outputs.push_back(ShardOutput::TokenUsed { index: id.index });
            }
        }
        Ok(author)
    }

    fn watch(&mut self, now: Time, stream: StreamId, request: WatchRequest) {
        let Some(watcher) = self.streams.get(&stream) else { return };
        let credential = watcher.credential.clone();
        let author = self.resolve(now, &credential);
        let auth = Arc::clone(&self.auth);
        let permit = |range: &crate::api::KeyRange| {
            auth.permit(author.as_ref().map_err(|error| *error)?, Act::Watch(range), None)
        };
        self.hub.request(now, stream, request, permit);
        if let (Some(watcher), Ok(author)) = (self.streams.get_mut(&stream), author)
            && auth.is_enabled()
        {
            watcher.author = Some(author);
        }
    }

    /// Ends the watchers that are not permitted any more.
    fn permit_watchers_anew(&mut self, now: Time) {
        let (auth, tokens, streams) = (&self.auth, &self.tokens, &self.streams);
        self.hub.permit_anew(now, |stream, range| {
            let watcher = streams.get(&stream).ok_or(Error::PermissionDenied)?;
            let author = match &watcher.author {
                Some(Author::User(identity)) => {
                    // What counts is what the user may now.
                    let now =
                        crate::auth::Identity { revision: auth.revision(), ..identity.clone() };
                    Author::User(now)
                }
                Some(author) => author.clone(),
                None => auth.resolve(tokens, now, &watcher.credential)?,
            };
            auth.permit(&author, Act::Watch(range), None)
        });
    }

    /// The next thing to do; `None`: nothing, until the next step.
    pub fn poll(&mut self) -> Option<ShardOutput> {
        if self.damaged {
            return None;
        }
        if !self.gathering.is_empty() {
            self.ask();
        }
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        let (stream, response) = self.hub.poll()?;
        Some(ShardOutput::Watch { stream, response })
    }

    /// When [`ShardInput::Wake`] is due; it may lie in the past.
    pub fn deadline(&self) -> Option<Time> {
        let parked = self.parked.front().map(|parked| parked.deadline);
        self.hub.deadline().into_iter().chain(parked).min()
    }

    /// Checks the watches. O(n log n).
    ///
    /// # Panics
    /// If an invariant is broken; the message says which.
    pub fn check(&self) {
        self.hub.check();
    }

    fn ask(&mut self) {
        self.last_token += 1;
        let (token, reads) = (self.last_token, core::mem::take(&mut self.gathering));
        self.asked.push_back(Batch { token, index: None, reads });
        self.outputs.push_back(ShardOutput::ReadIndex { token });
    }

    fn read_index(&mut self, now: Time, view: &View, answer: ReadIndexAnswer) {
        let Some(place) = self.asked.iter().position(|batch| batch.token == answer.token) else {
            return;
        };
        match answer.index {
            Ok(index) if index > self.standing.applied => self.asked[place].index = Some(index),
            outcome => {
                let batch = self.asked.remove(place).expect("just found");
                for read in batch.reads {
                    match outcome {
                        Ok(_) => self.answer(now, view, read),
                        Err(error) => self.reply(read.id, Err(error)),
                    }
                }
            }
        }
    }

    fn published(&mut self, now: Time, view: &View, publication: &Publication) {
        let Publication { applied, term, .. } = *publication;
        assert!(applied >= self.standing.applied, "the state only goes on");
        self.standing = Standing { applied, term };
        self.tokens = publication.tokens.clone();
        self.used.clear();
        if !Arc::ptr_eq(&self.auth, &publication.auth) {
            self.auth = Arc::clone(&publication.auth);
            // Before anything is handed out that came after the change.
            self.permit_watchers_anew(now);
        }
        self.hub.publish(now, view, &publication.changes);
        let current = |batch: &Batch| batch.index.is_some_and(|index| index <= applied);
        let (ready, waiting): (VecDeque<_>, _) =
            core::mem::take(&mut self.asked).into_iter().partition(current);
        self.asked = waiting;
        for read in ready.into_iter().flat_map(|batch| batch.reads) {
            self.answer(now, view, read);
        }
        self.unpark(now, view);
    }

    /// Answers a read, if whoever asks may read that now.
    fn answer(&mut self, now: Time, view: &View, read: Read) {
        let Read { id, credential, request } = read;
        let author = self.resolve(now, &credential);
        if let Err(error) = author.and_then(|author| self.auth.permit(&author, request.act(), None))
        {
            return self.reply(id, Err(error));
        }
        let mut result = match &request {
            Request::Range(range) => view.range(range).map(|result| {
                Response::Range(RangeAnswer { header: ResponseHeader::default(), result })
            }),
            Request::RangeStream(range) => {
                RangeStream::new(view.clone(), range, self.config.limits.request_bytes_max)
                    .map(|stream| Response::RangeStream(Box::new(stream)))
            }
            Request::Txn(request) => txn::read(view, request).map(Response::Txn),
            Request::Put(_)
            | Request::DeleteRange(_)
            | Request::Compact(_)
            | Request::LeaseGrant(_)
            | Request::LeaseRevoke(_)
            | Request::LeaseKeepAlive(_)
            | Request::LeaseTimeToLive(_)
            | Request::LeaseLeases
            | Request::MemberList(_)
            | Request::Alarm(_)
            | Request::Status
            | Request::Defragment
            | Request::Hash
            | Request::HashKv(_)
            | Request::Snapshot
            | Request::Members(_)
            | Request::MoveLeader(_)
            | Request::Auth(_)
            | Request::AuthQuery(_)
            | Request::Authenticate(_) => unreachable!("the replica answers these"),
        };
        if let Some(unfilled) = result.as_mut().ok().and_then(Response::header_mut) {
            *unfilled = ResponseHeader {
                cluster_id: self.config.cluster.0,
                member_id: self.config.member.0,
                revision: view.revision(),
                raft_term: self.standing.term.0,
            };
        }
        self.reply(id, result);
    }

    fn reply(&mut self, id: RequestId, result: Result<Response, Error>) {
        self.outputs.push_back(ShardOutput::Reply { id, result });
    }
}

/// Whether a read asks for no more than what this member knows.
fn is_local(request: &Request) -> bool {
    match request {
        Request::Range(range) | Request::RangeStream(range) => range.serializable,
        Request::Txn(request) => is_serializable(request),
        Request::Put(_)
        | Request::DeleteRange(_)
        | Request::Compact(_)
        | Request::LeaseGrant(_)
        | Request::LeaseRevoke(_)
        | Request::LeaseKeepAlive(_)
        | Request::LeaseTimeToLive(_)
        | Request::LeaseLeases
        | Request::MemberList(_)
        | Request::Alarm(_)
        | Request::Status
        | Request::Defragment
        | Request::Hash
        | Request::HashKv(_)
        | Request::Snapshot
        | Request::Members(_)
        | Request::MoveLeader(_)
        | Request::Auth(_)
        | Request::AuthQuery(_)
        | Request::Authenticate(_) => false,
    }
}
