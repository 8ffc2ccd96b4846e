//! A watcher of everything at one member, which resumes after every interruption.

use core::cell::Cell;
use core::time::Duration;
use std::rc::Rc;

use cairn_engine::api::etcdserverpb::watch_request::RequestUnion;
use cairn_engine::api::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use cairn_engine::api::mvccpb::event::EventType;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::client::{Shared, key};
use super::history::{Batch, End, Entry, Event, Revision, Span, Watched};
use super::requests::what_became;
use crate::Trouble;
use crate::world::connection::wrong;

/// How far a watcher shall see.
#[derive(Debug, Default)]
pub(super) struct Goal {
    /// The last revision of all, once it is known.
    pub(super) last: Cell<Option<Revision>>,
    /// Who has not seen it yet waits no longer.
    pub(super) over: Cell<bool>,
}

/// Watches the member in a slot from the beginning of time.
pub(super) async fn watch(
    shared: Rc<Shared>,
    slot: usize,
    goal: Rc<Goal>,
) -> Result<Watched, Trouble> {
    let mut watcher = Watcher {
        watched: Watched { slot, batches: Vec::new(), resumed: 0, end: End::Starved },
        newest: 1,
        goal,
    };
    while !watcher.finished(&shared) {
        if !shared.active.borrow()[slot] {
            sleep(QUIET).await;
            continue;
        }
        match timeout(OPENING_MAX, open(&shared, slot, watcher.newest + 1)).await {
            // The sender is held: a stream that its client has finished with may be finished by the server.
            Ok(Ok((_requests, mut answers))) => watcher.listen(&shared, &mut answers).await?,
            Ok(Err(status)) => what_became(status).map(drop)?,
            Err(_) => {}
        }
        watcher.watched.resumed += 1;
        sleep(Duration::from_millis(20)).await;
    }
    Ok(watcher.watched)
}

#[derive(Debug)]
struct Watcher {
    watched: Watched,
    /// The newest revision that was seen.
    newest: Revision,
    goal: Rc<Goal>,
}

impl Watcher {
    fn finished(&mut self, shared: &Shared) -> bool {
        if self.goal.last.get().is_some_and(|last| self.newest >= last) {
            self.watched.end = End::Complete;
            return true;
        }
        if self.goal.over.get() && !shared.active.borrow()[self.watched.slot] {
            self.watched.end = End::Abandoned;
        }
        self.goal.over.get()
    }

    /// Notes what comes until the stream breaks or it is enough.
    async fn listen(
        &mut self,
        shared: &Shared,
        answers: &mut Streaming<WatchResponse>,
    ) -> Result<(), Trouble> {
        while !self.finished(shared) {
            match timeout(QUIET, answers.message()).await {
                Ok(Ok(Some(answer))) if answer.canceled => {
                    if answer.compact_revision != 0 {
                        return Err(Trouble("a watcher fell behind a compaction".to_owned()));
                    }
                    return Ok(());
                }
                Ok(Ok(Some(answer))) => self.take(shared, answer)?,
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(status)) => return what_became(status).map(drop),
                Err(_) => {} // It is quiet.
            }
        }
        Ok(())
    }

    fn take(&mut self, shared: &Shared, answer: WatchResponse) -> Result<(), Trouble> {
        if answer.events.is_empty() {
            return Ok(());
        }
        let mut events = Vec::new();
        for event in answer.events {
            let deleted = event.r#type() == EventType::Delete;
            let entry = Entry::from(event.kv.ok_or_else(|| wrong("an event's key"))?);
            let previous = event.prev_kv.map(Entry::from);
            self.newest = self.newest.max(entry.modified);
            events.push(Event { entry, deleted, previous });
        }
        self.watched.batches.push(Batch { at: shared.now(), events });
        Ok(())
    }
}

type Stream = (mpsc::Sender<WatchRequest>, Streaming<WatchResponse>);

async fn open(shared: &Shared, slot: usize, start_revision: Revision) -> Result<Stream, Status> {
    let all = Span::Prefix(key(""));
    let create = WatchCreateRequest {
        key: all.key().clone(),
        range_end: all.range_end(),
        start_revision,
        prev_kv: true,
        progress_notify: true,
        ..WatchCreateRequest::default()
    };
    let (sender, receiver) = mpsc::channel(1);
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    sender.try_send(request).expect("the channel is new");
    let requests = ReceiverStream::new(receiver);
    let answers = shared.connections[slot].watch().watch(requests).await?.into_inner();
    Ok((sender, answers))
}

const QUIET: Duration = Duration::from_millis(100);
const OPENING_MAX: Duration = Duration::from_secs(5);
