//! A watcher: sees every change of the objects of a kind, through crashes, until the marker comes.

use core::cell::Cell;
use core::time::Duration;
use std::rc::Rc;

use cairn_engine::api::etcdserverpb::watch_request::RequestUnion;
use cairn_engine::api::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use cairn_engine::api::mvccpb::event::EventType;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tonic::Streaming;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;

use super::history::{Event, Revision, Sight, What};
use super::lister::sight;
use super::objects::{Kind, Objects};
use super::store::{Store, pause};
use crate::Trouble;
use crate::world::connection::excuse;

/// What a watcher saw.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) events: Vec<Event>,
    /// How often it had to ask again.
    pub(super) resumed: usize,
    /// Whether it saw the marker.
    pub(super) finished: bool,
}

/// Watches from the beginning of time. After a crash it asks for what comes after the last change it saw. Whoever
/// waits for the marker in vain sets `enough`.
pub(super) async fn watch(
    store: Store,
    objects: Objects,
    kind: Kind,
    enough: Rc<Cell<bool>>,
) -> Result<Watched, Trouble> {
    let mut watched = Watched { events: Vec::new(), resumed: 0, finished: false };
    let mut outage = Instant::now();
    loop {
        let last = watched.events.last().map_or(1, |event| event.sight.revision);
        match open(&store, kind, last + 1).await {
            // The sender is held: a stream that its client has finished with may be finished by the server.
            Ok((_requests, mut answers)) => {
                while let Some(answer) = next(&mut answers, &enough).await? {
                    watched.finished = take(&mut watched.events, &objects, kind, answer)?;
                    if watched.finished {
                        return Ok(watched);
                    }
                }
                if enough.get() {
                    return Ok(watched);
                }
                watched.resumed += 1;
                outage = Instant::now();
            }
            Err(status) => excuse(status)?,
        }
        pause(outage).await?;
    }
}

/// The next answer; nothing when the connection breaks, or when it is enough.
async fn next(
    answers: &mut Streaming<WatchResponse>,
    enough: &Cell<bool>,
) -> Result<Option<WatchResponse>, Trouble> {
    while !enough.get() {
        match timeout(Duration::from_millis(100), answers.message()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(status)) => return excuse(status).map(|()| None),
            Err(_) => {} // It is quiet.
        }
    }
    Ok(None)
}

type Stream = (mpsc::Sender<WatchRequest>, Streaming<WatchResponse>);

async fn open(
    store: &Store,
    kind: Kind,
    start_revision: Revision,
) -> Result<Stream, tonic::Status> {
    let create = WatchCreateRequest {
        key: kind.prefix().into(),
        range_end: kind.end().into(),
        start_revision,
        prev_kv: true,
        progress_notify: true,
        ..WatchCreateRequest::default()
    };
    let (sender, receiver) = mpsc::channel(1);
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    sender.try_send(request).expect("the channel is new");
    let answers = store.watch().watch(ReceiverStream::new(receiver)).await?.into_inner();
    Ok((sender, answers))
}

/// Notes the events of an answer; whether the marker is among them.
fn take(
    events: &mut Vec<Event>,
    objects: &Objects,
    kind: Kind,
    answer: WatchResponse,
) -> Result<bool, Trouble> {
    if answer.canceled {
        return Err(Trouble(format!("a watch was canceled: {:?}", answer.cancel_reason)));
    }
    for event in answer.events {
        let deleted = event.r#type() == EventType::Delete;
        let kv = event.kv.ok_or_else(|| Trouble("an event of no key".to_owned()))?;
        if kv.key == kind.marker() {
            return Ok(true);
        }
        let previous = event.prev_kv.map_or(0, |kv| kv.mod_revision);
        let seen = sight(objects, &kv)?;
        let what = if deleted { What::Deletion } else { seen.what };
        events.push(Event { sight: Sight { what, ..seen }, previous });
    }
    Ok(false)
}
