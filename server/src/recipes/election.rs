//! The election: whoever is first in line leads, and its key holds what it proclaims (etcd `concurrency/election.go`).
//!
//! Unlike etcd, which lets a candidate believe that it leads although its lease ended while it waited, such a candidate
//! is told that it does not.

use core::future::Future;
use core::pin::Pin;
use std::collections::VecDeque;

use cairn_engine::api::Error;
use cairn_engine::api::etcdserverpb::{ResponseHeader, WatchCreateRequest};
use cairn_engine::api::mvccpb::KeyValue;
use cairn_engine::api::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};
use cairn_engine::watch::Event;
use cairn_io::driver::{Handle, WatchStream};

use super::lease_or_new;
use super::queue::{Lost, Place, Queue, create_watch};

/// Waits for leadership. Whoever campaigns again with the same lease keeps its place and says something else in it.
pub(super) async fn campaign(
    handle: &Handle,
    request: CampaignRequest,
    given_up: Pin<&mut impl Future<Output = Error>>,
) -> Result<CampaignResponse, Error> {
    let CampaignRequest { name, lease, value } = request;
    let lease = lease_or_new(handle, lease).await?;
    let queue = Queue::new(&name);
    let joined = queue.join(handle, lease, value.clone()).await?;
    let place = joined.place;
    if joined.found.is_some_and(|found| found.value != value) {
        match place.say(handle, lease, value).await {
            Ok(Some(_)) => {}
            Ok(None) => return Err(Error::ElectionNotLeader),
            Err(error) => {
                // If this fails too, the lease takes the key away.
                place.leave(handle).await.ok();
                return Err(error);
            }
        }
    }
    if !joined.owns {
        match queue.turn(handle, &place, given_up).await {
            Ok(_) => {}
            Err(Lost::Place) => return Err(Error::ElectionNotLeader),
            Err(Lost::Error(error)) => return Err(error),
        }
    }
    let leader = LeaderKey { name, key: place.key, rev: place.create_revision, lease };
    Ok(CampaignResponse { header: Some(joined.header), leader: Some(leader) })
}

/// Says something else as the leader.
pub(super) async fn proclaim(
    handle: &Handle,
    request: ProclaimRequest,
) -> Result<ProclaimResponse, Error> {
    let leader = request.leader.ok_or(Error::MissingLeaderKey)?;
    let lease = lease_or_new(handle, leader.lease).await?;
    let said = Place::from(leader).say(handle, lease, request.value).await?;
    let header = said.ok_or(Error::ElectionNotLeader)?;
    Ok(ProclaimResponse { header: Some(header) })
}

/// Who leads.
pub(super) async fn leader(
    handle: &Handle,
    request: LeaderRequest,
) -> Result<LeaderResponse, Error> {
    let (header, owner) = Queue::new(&request.name).owner(handle).await?;
    let owner = owner.ok_or(Error::ElectionNoLeader)?;
    Ok(LeaderResponse { header: Some(header), kv: Some(owner) })
}

/// Gives leadership up. Whoever has none gives up nothing.
pub(super) async fn resign(
    handle: &Handle,
    request: ResignRequest,
) -> Result<ResignResponse, Error> {
    let leader = request.leader.ok_or(Error::MissingLeaderKey)?;
    let header = Place::from(leader).leave(handle).await?;
    Ok(ResignResponse { header: Some(header) })
}

impl From<LeaderKey> for Place {
    fn from(leader: LeaderKey) -> Self {
        Self { key: leader.key, create_revision: leader.rev }
    }
}

/// An election as somebody sees it who looks on.
///
/// ```text
///            somebody leads
///    Unknown ──────────────► Led ──┐ says something else
///      │  ▲                   ▲  ◄─┘
///      │  └── its key is gone ┤
///      │                      │ puts the first key
///      └────────────────► Vacant
///        nobody leads
/// ```
pub(super) struct Observed {
    handle: Handle,
    queue: Queue,
    state: State,
}

/// What is known of the election.
enum State {
    /// Whoever looks must ask.
    Unknown,
    /// Nobody led; the stream tells of the first key.
    Vacant(WatchStream),
    /// The stream tells what becomes of the leader's key.
    Led(WatchStream, VecDeque<Event>),
}

impl Observed {
    pub(super) fn new(handle: &Handle, name: &[u8]) -> Self {
        Self { handle: handle.clone(), queue: Queue::new(name), state: State::Unknown }
    }

    /// Waits for a leader that was not told of yet, or for what it proclaims.
    pub(super) async fn next(&mut self) -> Result<LeaderResponse, Error> {
        loop {
            match &mut self.state {
                State::Unknown => {
                    let (header, owner) = self.queue.owner(&self.handle).await?;
                    let Some(owner) = owner else {
                        let first = self.queue.watch_for_first(header.revision + 1);
                        self.state = State::Vacant(watch(&self.handle, first));
                        continue;
                    };
                    self.follow(&owner, header.revision);
                    return Ok(LeaderResponse { header: Some(header), kv: Some(owner) });
                }
                State::Vacant(stream) => {
                    let Some(events) = receive(stream).await else {
                        self.state = State::Unknown;
                        continue;
                    };
                    let Some(event) = events.first() else { continue };
                    let leader = event.record.to_key_value();
                    self.follow(&leader, leader.mod_revision);
                    return Ok(self.tell(leader));
                }
                State::Led(stream, events) => {
                    let Some(event) = events.pop_front() else {
                        match receive(stream).await {
                            Some(more) => events.extend(more),
                            None => self.state = State::Unknown,
                        }
                        continue;
                    };
                    if event.record.is_tombstone() {
                        self.state = State::Unknown;
                        continue;
                    }
                    return Ok(self.tell(event.record.to_key_value()));
                }
            }
        }
    }

    /// Follows a leader's key, from what came after a revision.
    fn follow(&mut self, leader: &KeyValue, revision: i64) {
        let create = WatchCreateRequest {
            key: leader.key.clone(),
            start_revision: revision + 1,
            ..WatchCreateRequest::default()
        };
        self.state = State::Led(watch(&self.handle, create), VecDeque::new());
    }

    fn tell(&self, leader: KeyValue) -> LeaderResponse {
        let revision = leader.mod_revision;
        let header = ResponseHeader { revision, ..self.handle.header() };
        LeaderResponse { header: Some(header), kv: Some(leader) }
    }
}

fn watch(handle: &Handle, create: WatchCreateRequest) -> WatchStream {
    let stream = handle.watch(handle.connection());
    stream.send(create_watch(create));
    stream
}

/// Waits for events; `None`: the watch has ended, because its revision was compacted.
async fn receive(stream: &WatchStream) -> Option<Vec<Event>> {
    let response = stream.receive().await;
    stream.sent(response.encoded_len());
    if response.canceled { None } else { Some(response.events) }
}
